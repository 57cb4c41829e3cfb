//! The live feed: first what was missed, then whatever happens, each log in its order and without gaps.
//!
//! Subscribe, then read the heads, then replay from the logs, then live: what happens in between is heard and not missed.
//! From then on hints say what is new, and the log is read where they leave something out. An event says under which
//! membership version it was written; when that is newer than what is known here, conversation is asked again before the
//! event is shown, so that one who was removed sees nothing that came after.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use chassis::events::{Delivery, Events, Subscription};
use chassis::follow::{Follower, PATIENCE, Run, Verdict};
use chassis::tasks::{Shutdown, Tasks};
use futures_util::{StreamExt as _, future, stream};
use prost::Message as _;
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::{self as pb, notice::Notice, stream_events_response::Update};
use proto::subject;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::convert;
use crate::error::Error;
use crate::message::Sequence;
use crate::messaging::Messaging;
use crate::shown::Shown;
use crate::sync::EVENTS;

/// How many hints may wait to be heard.
const HINTS: usize = 1024;

/// How many updates may wait for the reader, of those that are on their way and of those that wait behind them.
const ON_THE_WAY: usize = 64;
const WAITING: usize = 1024;

/// Nothing is read from the logs while more than this waits for the reader.
const ENOUGH: usize = 256;

/// How long a reader may take nothing while something waits.
const STALL: Duration = Duration::from_secs(10);

/// The span between two looks at the heads.
const LOOK: Duration = Duration::from_secs(10);

/// How many subscriptions are asked for at once.
const AT_ONCE: usize = 64;

/// Feeds those who follow.
#[derive(Clone)]
pub struct Feed {
    /// Where the logs are.
    pub messaging: Messaging,
    /// Brings the hints.
    pub events: Events,
    /// The watermarks that were shown.
    pub shown: Shown,
}

impl Feed {
    /// Follows conversations, each from after a sequence; all of the user's from now on when none is named.
    pub async fn open(
        &self,
        user: UserId,
        heads: Vec<(ConversationId, Sequence)>,
        tasks: &Tasks,
    ) -> Result<impl stream::Stream<Item = Result<pb::StreamEventsResponse, Status>> + Send + use<>, Error>
    {
        let (hints, heard) = mpsc::channel(HINTS);
        let own = self.events.subscribe(&subject::user(user), hints.clone()).await;
        let mut session = Session {
            feed: self.clone(),
            user,
            follows_all: heads.is_empty(),
            hints,
            followed: HashMap::new(),
            _own: own,
            own: Follower::waiting(),
            waiting: VecDeque::new(),
            behind: VecDeque::new(),
            gaps: HashMap::new(),
            is_caught_up: false,
        };
        session.begin(heads).await?;
        let (updates, taken) = mpsc::channel(ON_THE_WAY);
        let (end, ended) = oneshot::channel();
        tasks.spawn("stream-events", move |shutdown| async move {
            let error = session.run(heard, updates, shutdown).await;
            // The reader may be gone.
            let _ = end.send(error);
        });
        // What is on its way comes first, and why it ends last.
        let last = stream::once(ended)
            .filter_map(|error| future::ready(error.ok().map(|error| Err(Status::from(error)))));
        Ok(ReceiverStream::new(taken).map(Ok).chain(last))
    }
}

/// A conversation that is followed.
struct Followed {
    follower: Follower<pb::Event>,
    /// The newest membership version under which the user was seen to be let in.
    membership_version: i64,
    /// Whether the user was a member then, who is shown how far the others have come.
    is_member: bool,
    _subscription: Subscription,
}

/// A log that has to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Log {
    Own,
    Conversation(ConversationId),
}

struct Session {
    feed: Feed,
    user: UserId,
    /// Whether conversations that the user comes into later are followed too.
    follows_all: bool,
    hints: mpsc::Sender<Delivery>,
    followed: HashMap<ConversationId, Followed>,
    _own: Subscription,
    own: Follower<pb::UserEvent>,
    /// What the reader has not taken yet.
    waiting: VecDeque<Update>,
    /// What has to be read now.
    behind: VecDeque<Log>,
    /// What has to be read soon, unless the hint that is missing arrives.
    gaps: HashMap<Log, Instant>,
    is_caught_up: bool,
}

impl Session {
    async fn begin(&mut self, heads: Vec<(ConversationId, Sequence)>) -> Result<(), Error> {
        let messaging = self.feed.messaging.clone();
        let own = messaging.store.user_heads(&[self.user]).await?;
        self.own.begin(own.get(&self.user).map_or(0, |head| head.get()));
        let wanted: HashMap<ConversationId, Option<Sequence>> = if self.follows_all {
            messaging.conversations.memberships(self.user).await?.ids().map(|id| (id, None)).collect()
        } else {
            heads.into_iter().map(|(id, after)| (id, Some(after))).collect()
        };
        let wanted: Vec<_> = wanted.into_iter().collect();
        let refused = self.follow(&wanted).await?;
        match refused.first().filter(|_| !self.follows_all) {
            Some(&id) => Err(Error::ConversationNotFound(id)),
            None => Ok(()),
        }
    }

    /// Begins to follow conversations, each from after a sequence or from now on. Answers those that the user may not
    /// read.
    async fn follow(
        &mut self,
        wanted: &[(ConversationId, Option<Sequence>)],
    ) -> Result<Vec<ConversationId>, Error> {
        let messaging = self.feed.messaging.clone();
        let (events, hints) = (&self.feed.events, &self.hints);
        let subscribe = |(id, _): &(ConversationId, Option<Sequence>)| {
            let (subject, hints) = (subject::conversation(*id), hints.clone());
            async move { events.subscribe(&subject, hints).await }
        };
        let subscriptions: Vec<_> =
            stream::iter(wanted.iter().map(subscribe)).buffered(AT_ONCE).collect().await;
        let questions: Vec<_> = wanted.iter().map(|(id, _)| (*id, self.user)).collect();
        let answers = messaging.conversations.check(&questions).await?;
        let ids: Vec<_> = wanted.iter().map(|(id, _)| *id).collect();
        let heads = messaging.store.heads(&ids).await?;
        let mut refused = Vec::new();
        for ((&(id, after), subscription), access) in wanted.iter().zip(subscriptions).zip(answers) {
            if !access.may_read {
                refused.push(id);
                continue;
            }
            let head = heads.get(&id).copied().unwrap_or(Sequence::NONE);
            let after = after.unwrap_or(head);
            if after > head {
                // A follower of this would wait for sequences that were given long ago.
                return Err(Error::HeadBeyondLog { conversation: id, head });
            }
            let mut follower = Follower::new(after.get());
            follower.head(head.get());
            if follower.missing().is_some() {
                self.behind.push_back(Log::Conversation(id));
            }
            let (membership_version, is_member) = (access.membership_version, access.is_member);
            let followed = Followed { follower, membership_version, is_member, _subscription: subscription };
            self.followed.insert(id, followed);
        }
        Ok(refused)
    }

    /// Feeds until something ends it; says what.
    async fn run(
        mut self,
        mut heard: mpsc::Receiver<Delivery>,
        updates: mpsc::Sender<pb::StreamEventsResponse>,
        shutdown: Shutdown,
    ) -> Error {
        let mut interruptions = self.feed.events.interruptions();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.reset();
        let mut last_taken = Instant::now();
        loop {
            if !self.is_caught_up && self.behind.is_empty() {
                self.is_caught_up = true;
                let epoch = self.feed.messaging.epoch.to_string();
                self.waiting.push_back(Update::CaughtUp(pb::CaughtUp { epoch }));
            }
            if self.waiting.is_empty() {
                last_taken = Instant::now();
            }
            if self.waiting.len() > WAITING || last_taken.elapsed() > STALL {
                return Error::TooSlow;
            }
            let reads = !self.behind.is_empty() && self.waiting.len() < ENOUGH;
            let next_gap = self.gaps.values().min().copied();
            let done = tokio::select! {
                permit = updates.reserve(), if !self.waiting.is_empty() => match permit {
                    Ok(permit) => {
                        let now = self.feed.messaging.clock.now();
                        let update = self.waiting.pop_front().map(|update| match update {
                            Update::Event(event) => Update::Event(convert::event_at(event, now)),
                            other => other,
                        });
                        permit.send(pb::StreamEventsResponse { update });
                        last_taken = Instant::now();
                        Ok(())
                    }
                    Err(_) => return Error::Unavailable("the reader"),
                },
                Some(delivery) = heard.recv() => self.hear(delivery).await,
                // Not raced against the others: what it has taken out of a follower must not be dropped half way.
                () = future::ready(()), if reads => self.read().await,
                () = when(next_gap) => {
                    self.close_gaps();
                    Ok(())
                }
                _ = look.tick() => self.look_at_heads().await,
                Ok(()) = interruptions.changed() => self.look_at_heads().await,
                () = sleep_until(last_taken + STALL), if !self.waiting.is_empty() => Ok(()),
                () = updates.closed() => return Error::Unavailable("the reader"),
                () = shutdown.wait() => return Error::Unavailable("messaging"),
            };
            if let Err(error) = done {
                return error;
            }
        }
    }

    /// A hint has come.
    async fn hear(&mut self, delivery: Delivery) -> Result<(), Error> {
        let notice = match pb::Notice::decode(delivery.payload) {
            Ok(pb::Notice { notice: Some(notice) }) => notice,
            Ok(pb::Notice { notice: None }) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "a hint cannot be read");
                return Ok(());
            }
        };
        match notice {
            Notice::Event(event) => {
                let Ok(id) = ConversationId::parse(&event.conversation_id) else { return Ok(()) };
                let Some(followed) = self.followed.get_mut(&id) else { return Ok(()) };
                if self.behind.contains(&Log::Conversation(id)) {
                    // The log is being read: it shows what the hint is about as it stands now.
                    followed.follower.head(event.sequence);
                    return Ok(());
                }
                match followed.follower.offer(event.sequence, event) {
                    Verdict::Deliver(run) => self.show(id, run).await,
                    Verdict::Duplicate => Ok(()),
                    Verdict::Held => self.wait_for(Log::Conversation(id)),
                }
            }
            Notice::UserEvent(event) if self.behind.contains(&Log::Own) => {
                self.own.head(event.sequence);
                Ok(())
            }
            Notice::UserEvent(event) => match self.own.offer(event.sequence, event) {
                Verdict::Deliver(run) => self.show_own(run).await,
                Verdict::Duplicate => Ok(()),
                Verdict::Held => self.wait_for(Log::Own),
            },
            Notice::Receipt(receipt) if !self.feed.shown.admits(&receipt) => Ok(()),
            Notice::Receipt(receipt) => {
                self.show_ephemeral(&receipt.conversation_id.clone(), Update::Receipt(receipt));
                Ok(())
            }
            Notice::Signal(signal) if signal.user_id != self.user.to_string() => {
                self.show_ephemeral(&signal.conversation_id.clone(), Update::Signal(signal));
                Ok(())
            }
            Notice::Signal(_) => Ok(()),
            Notice::Head(head) => {
                let Ok(id) = ConversationId::parse(&head.conversation_id) else { return Ok(()) };
                if let Some(followed) = self.followed.get_mut(&id) {
                    followed.follower.head(head.sequence);
                    self.catch_up(Log::Conversation(id));
                }
                Ok(())
            }
        }
    }

    fn wait_for(&mut self, log: Log) -> Result<(), Error> {
        self.gaps.entry(log).or_insert_with(|| Instant::now() + PATIENCE);
        Ok(())
    }

    /// What can be missed is left out when there is much to say already, and where the user is no longer.
    fn show_ephemeral(&mut self, conversation: &str, update: Update) {
        let followed = ConversationId::parse(conversation).ok().and_then(|id| self.followed.get(&id));
        let is_shown =
            followed.is_some_and(|followed| followed.is_member || !matches!(update, Update::Receipt(_)));
        if is_shown && self.is_caught_up && self.waiting.len() < ENOUGH {
            self.waiting.push_back(update);
        }
    }

    async fn show(&mut self, id: ConversationId, run: Run<pb::Event>) -> Result<(), Error> {
        for event in run {
            let Some(followed) = self.followed.get_mut(&id) else { return Ok(()) };
            if event.membership_version > followed.membership_version {
                match self.feed.messaging.conversations.check(&[(id, self.user)]).await?.as_slice() {
                    [access] if access.may_read => {
                        followed.membership_version = access.membership_version.max(event.membership_version);
                        followed.is_member = access.is_member;
                    }
                    _ => {
                        self.forget(id);
                        return Ok(());
                    }
                }
            }
            self.waiting.push_back(Update::Event(event));
        }
        Ok(())
    }

    async fn show_own(&mut self, run: Run<pb::UserEvent>) -> Result<(), Error> {
        use pb::user_event::Payload;
        for event in run {
            match &event.payload {
                Some(Payload::ConversationGained(gained)) if self.follows_all => {
                    if let Ok(id) = ConversationId::parse(&gained.conversation_id)
                        && !self.followed.contains_key(&id)
                    {
                        self.follow(&[(id, Some(Sequence::new(gained.after_sequence)))]).await?;
                    }
                }
                Some(Payload::ConversationLost(lost)) => {
                    if let Ok(id) = ConversationId::parse(&lost.conversation_id) {
                        self.lose(id).await?;
                    }
                }
                _ => {}
            }
            self.waiting.push_back(Update::UserEvent(event));
        }
        Ok(())
    }

    /// The user was out of a conversation, and may have come back by now.
    async fn lose(&mut self, id: ConversationId) -> Result<(), Error> {
        if self.followed.contains_key(&id) {
            let access = self.feed.messaging.conversations.check(&[(id, self.user)]).await?;
            if !access.first().is_some_and(|access| access.may_read) {
                self.forget(id);
            }
        }
        Ok(())
    }

    fn forget(&mut self, id: ConversationId) {
        self.followed.remove(&id);
        self.gaps.remove(&Log::Conversation(id));
        self.behind.retain(|log| *log != Log::Conversation(id));
    }

    /// Reads a page of the log that has waited for it for longest.
    async fn read(&mut self) -> Result<(), Error> {
        let Some(&log) = self.behind.front() else { return Ok(()) };
        let messaging = self.feed.messaging.clone();
        let epoch = messaging.epoch.as_ref();
        let is_behind = match log {
            Log::Own => {
                let after = Sequence::new(self.own.applied().unwrap_or(0));
                let events = messaging.store.user_events(self.user, after, EVENTS).await?;
                let read_something = !events.is_empty();
                let events = events.into_iter().map(|event| {
                    let event = convert::user_event(event, epoch);
                    (event.sequence, event)
                });
                let run = self.own.filled(events);
                self.show_own(run).await?;
                read_something && self.own.missing().is_some()
            }
            Log::Conversation(id) => {
                let Some(followed) = self.followed.get_mut(&id) else {
                    self.behind.pop_front();
                    return Ok(());
                };
                let after = Sequence::new(followed.follower.applied().unwrap_or(0));
                let events = messaging.store.events(id, after, EVENTS).await?;
                let read_something = !events.is_empty();
                let events = convert::events(events, epoch)?.into_iter().map(|event| (event.sequence, event));
                let run = followed.follower.filled(events);
                self.show(id, run).await?;
                let follower = self.followed.get(&id).map(|followed| &followed.follower);
                read_something && follower.is_some_and(|follower| follower.missing().is_some())
            }
        };
        if !is_behind {
            self.behind.retain(|one| *one != log);
        }
        Ok(())
    }

    /// The time for hints is over: what is still missing is read.
    fn close_gaps(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self.gaps.iter().filter(|(_, due)| **due <= now).map(|(log, _)| *log).collect();
        for log in due {
            self.gaps.remove(&log);
            self.catch_up(log);
        }
    }

    fn catch_up(&mut self, log: Log) {
        let missing = match log {
            Log::Own => self.own.missing(),
            Log::Conversation(id) => self.followed.get(&id).and_then(|followed| followed.follower.missing()),
        };
        if missing.is_some() && !self.behind.contains(&log) {
            self.behind.push_back(log);
        }
    }

    /// Looks whether something was missed.
    async fn look_at_heads(&mut self) -> Result<(), Error> {
        let ids: Vec<_> = self.followed.keys().copied().collect();
        let heads = self.feed.messaging.heads(&ids, &[self.user]).await?;
        for (id, head) in heads.conversations {
            if let Some(followed) = self.followed.get_mut(&id) {
                followed.follower.head(head.get());
                self.catch_up(Log::Conversation(id));
            }
        }
        if let Some(head) = heads.users.get(&self.user) {
            self.own.head(head.get());
            self.catch_up(Log::Own);
        }
        Ok(())
    }
}

/// Waits for a moment, for ever when there is none.
async fn when(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => future::pending().await,
    }
}
