//! Streams of users: each ends with its session, and a user has a bounded number of them.
//!
//! A stream outlives the request that opened it, and must not outlive the session. When auth says on the bus that a
//! session has ended, its streams are held back before the hint is passed on to anything else, so that no update that is
//! made from then on leaves; auth is asked, and what has ended is told so with UNAUTHENTICATED. Should the hint be lost,
//! every session is looked at within a minute and when its time has come. While auth is away a stream ends some seconds
//! after the time of its session.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use futures_util::{StreamExt, stream};
use prost::Message;
use proto::auth::v1::SessionsEnded;
use proto::id::{SessionId, UserId};
use tokio::sync::Notify;
use tonic::{Code, Status};
use zeroize::Zeroizing;

use super::Verifier;
use super::guarded::Guarded;
use crate::caller::{Caller, unauthenticated};
use crate::clock::{Clock, Timestamp};
use crate::events::{Events, Subscription};
use crate::fault::Fault;
use crate::middleware::LimitsConfig;
use crate::tasks::{Shutdown, Tasks};

/// The span between two looks through the streams.
const ROUND: Duration = Duration::from_secs(1);

/// In so many rounds every session is looked at once.
const ROUNDS: u64 = 60;

/// The number of sessions that are looked at at a time.
const AT_A_TIME: usize = 32;

/// The span for which a stream goes on after the time of its session while auth cannot be asked.
const GRACE: Duration = Duration::from_secs(3);

/// The longest wait for auth.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same after auth has said itself that the session has ended.
const PATIENCE_IN_DOUBT: Duration = Duration::from_millis(700);

/// The streams of users that a service has open.
#[derive(Clone)]
pub struct Streams(Arc<Shared>);

struct Shared {
    verifier: Verifier,
    clock: Clock,
    per_user: usize,
    /// The rpcs that answer with a stream, by their paths.
    paths: HashSet<String>,
    open: Mutex<HashMap<UserId, Vec<Arc<Open>>>>,
    next_number: AtomicU64,
    doubted: Notify,
}

/// A stream that is open, or about to be.
pub(super) struct Open {
    number: u64,
    user: UserId,
    session: Option<SessionId>,
    token: Zeroizing<String>,
    /// In milliseconds since 1970, the time of the session.
    expires: AtomicI64,
    /// The number of hints that the session has ended, and the number of those that are known to be wrong.
    doubts: AtomicU64,
    settled: AtomicU64,
    has_ended: AtomicBool,
    reader: AtomicWaker,
}

/// The state of a stream: it says if updates may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// They may.
    Live,
    /// The session is said to have ended, and auth is being asked.
    Doubted,
    /// The session has ended.
    Ended,
}

impl Open {
    pub(super) fn state(&self) -> State {
        if self.has_ended.load(Ordering::SeqCst) {
            State::Ended
        } else if self.is_doubted() {
            State::Doubted
        } else {
            State::Live
        }
    }

    /// Wakes this reader after every change of the state.
    pub(super) fn wakes(&self, reader: &std::task::Waker) {
        self.reader.register(reader);
    }

    fn is_doubted(&self) -> bool {
        self.doubts.load(Ordering::SeqCst) != self.settled.load(Ordering::SeqCst)
    }

    fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::SeqCst);
    }

    /// The session goes on. A doubt that came up after these stays.
    fn goes_on(&self, doubts: u64, expires: Timestamp) {
        self.expires.store(expires.as_millis(), Ordering::SeqCst);
        self.settled.fetch_max(doubts, Ordering::SeqCst);
        self.reader.wake();
    }

    fn end(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
        self.reader.wake();
    }

    fn expires(&self) -> Timestamp {
        Timestamp::from_millis(self.expires.load(Ordering::SeqCst))
    }
}

impl Streams {
    /// Watches the streams of a service, for as long as its tasks run.
    pub async fn start(
        verifier: &Verifier,
        events: &Events,
        clock: &Clock,
        limits: &LimitsConfig,
        tasks: &Tasks,
    ) -> Self {
        let streams = Self(Arc::new(Shared {
            verifier: verifier.clone(),
            clock: clock.clone(),
            per_user: limits.max_streams_per_user,
            paths: streaming_paths(),
            open: Mutex::default(),
            next_number: AtomicU64::new(0),
            doubted: Notify::new(),
        }));
        let hearing = streams.clone();
        let subscription =
            events.listen(proto::subject::SESSIONS_ENDED, move |payload| hearing.hear(payload)).await;
        let listening = streams.clone();
        tasks.spawn("ended-streams", |shutdown| listening.settle_doubts(subscription, shutdown));
        let (looking, events) = (streams.clone(), events.clone());
        tasks.spawn("signed-in-streams", |shutdown| looking.look_round(events, shutdown));
        streams
    }

    /// A place for the stream that a request of a user asks for; `None` when it asks for something else. Refuses a user
    /// who has as many as a user may have, and a session that has ended.
    pub(super) async fn place(
        &self,
        path: &str,
        caller: &Caller,
        token: &str,
    ) -> Result<Option<Place>, Status> {
        if !self.0.paths.contains(path) {
            return Ok(None);
        }
        let place = self.admit(caller, token)?;
        // Asked anew after the stream is counted: from here on a hint that the session has ended finds the stream.
        match self.0.verifier.look_up(token, PATIENCE).await? {
            Some(known) if known.caller.user_id == caller.user_id => {
                place.stream.expires.store(known.expires.as_millis(), Ordering::SeqCst);
                Ok(Some(place))
            }
            _ => Err(unauthenticated().into()),
        }
    }

    fn admit(&self, caller: &Caller, token: &str) -> Result<Place, Status> {
        let mut open = self.open();
        let per_user = self.0.per_user;
        if open.get(&caller.user_id).map_or(0, Vec::len) >= per_user {
            let fault = Fault::new(Code::ResourceExhausted, "ERROR_REASON_TOO_MANY_STREAMS")
                .message(format!("you have {per_user} streams open already: end one of them first"))
                .with("limit", per_user);
            return Err(fault.into());
        }
        let stream = Arc::new(Open {
            number: self.0.next_number.fetch_add(1, Ordering::Relaxed),
            user: caller.user_id,
            session: caller.session_id,
            token: Zeroizing::new(token.to_owned()),
            expires: AtomicI64::new(self.0.clock.now().as_millis()),
            doubts: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
            reader: AtomicWaker::new(),
        });
        open.entry(caller.user_id).or_default().push(Arc::clone(&stream));
        Ok(Place { streams: self.clone(), stream })
    }

    /// Auth says that sessions have ended. Runs before the hint is passed on, and must not wait.
    fn hear(&self, payload: &Bytes) {
        let ended = match SessionsEnded::decode(payload.clone()) {
            Ok(ended) => ended,
            Err(error) => return tracing::warn!(%error, "a hint about ended sessions cannot be read"),
        };
        let Ok(user) = UserId::parse(&ended.user_id) else { return };
        // On the wire no session at all means every session.
        let is_meant = |stream: &&Arc<Open>| {
            let session = stream.session.map(|id| id.to_string()).unwrap_or_default();
            ended.session_ids.is_empty() || ended.session_ids.contains(&session)
        };
        let open = self.open();
        let streams = open.get(&user).map(Vec::as_slice).unwrap_or_default();
        streams.iter().filter(is_meant).for_each(|stream| stream.doubt());
        self.0.doubted.notify_one();
    }

    /// Asks auth about what is in doubt. A task of its own: it never waits for the others to be looked at.
    async fn settle_doubts(self, subscription: Subscription, shutdown: Shutdown) {
        let _subscription = subscription;
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                () = self.0.doubted.notified() => {}
            }
            self.look_at(self.all(Open::is_doubted)).await;
        }
    }

    async fn look_round(self, events: Events, shutdown: Shutdown) {
        let mut interruptions = events.interruptions();
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut round = 0;
        loop {
            let streams = tokio::select! {
                () = shutdown.wait() => return,
                // Hints may have been lost.
                Ok(()) = interruptions.changed() => self.all(|_| true),
                _ = rounds.tick() => {
                    round = (round + 1) % ROUNDS;
                    let now = self.0.clock.now();
                    self.all(|stream| stream.number % ROUNDS == round || stream.expires() <= now)
                }
            };
            self.look_at(streams).await;
        }
    }

    async fn look_at(&self, streams: Vec<Arc<Open>>) {
        let look = |open: Arc<Open>| async move { self.look(&open).await };
        stream::iter(streams).for_each_concurrent(AT_A_TIME, look).await;
    }

    async fn look(&self, open: &Open) {
        let (doubts, is_doubted) = (open.doubts.load(Ordering::SeqCst), open.is_doubted());
        let patience = if is_doubted { PATIENCE_IN_DOUBT } else { PATIENCE };
        match self.0.verifier.look_up(&open.token, patience).await {
            Ok(Some(known)) if known.caller.user_id == open.user => open.goes_on(doubts, known.expires),
            Ok(_) => open.end(),
            // Auth has said that it has ended, and does not take it back.
            Err(_) if is_doubted => open.end(),
            Err(_) if open.expires().plus(GRACE) <= self.0.clock.now() => open.end(),
            Err(_) => {}
        }
    }

    fn all(&self, which: impl Fn(&Open) -> bool) -> Vec<Arc<Open>> {
        let open = self.open();
        open.values().flatten().filter(|stream| which(stream)).cloned().collect()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<UserId, Vec<Arc<Open>>>> {
        // Nothing in here panics half way through a change, so a poisoned lock is as good as any other.
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rpcs of the contract that answer with a stream.
fn streaming_paths() -> HashSet<String> {
    let methods = proto::pool().services().flat_map(|service| {
        let name = service.full_name().to_owned();
        let streaming = service.methods().filter(|method| method.is_server_streaming()).collect::<Vec<_>>();
        streaming.into_iter().map(move |method| format!("/{name}/{}", method.name()))
    });
    methods.collect()
}

/// The place of a stream among those of its user, until it is dropped.
pub(super) struct Place {
    streams: Streams,
    pub(super) stream: Arc<Open>,
}

impl Place {
    /// Binds the answer to the session.
    pub(super) fn bind(self, answer: axum::response::Response) -> axum::response::Response {
        if answer.headers().contains_key(Status::GRPC_STATUS) {
            // A refusal has no body.
            return answer;
        }
        answer.map(|body| axum::body::Body::new(Guarded::new(self, body)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.open();
        let Some(streams) = open.get_mut(&self.stream.user) else { return };
        streams.retain(|stream| stream.number != self.stream.number);
        if streams.is_empty() {
            open.remove(&self.stream.user);
        }
    }
}
