//! The stream that carries the sends of many users from a gateway.
//!
//! A call of its own for every send would cost more than the send. So sends come in batches and outcomes leave in
//! batches, and in between nobody waits for anybody else: a send goes to its lane as soon as it is known whose it is and
//! where it goes. That is nearly always known at once; where auth or conversation have to be asked, only the later sends
//! of the same session wait, so that what one session sends keeps its order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Poll;

use chassis::caller;
use chassis::identity::Verifier;
use chassis::rates::Rates;
use chassis::tasks::{Shutdown, Tasks};
use chassis::trace::TraceContext;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use prost::Message as _;
use proto::Incoming as _;
use proto::messaging::v1 as pb;
use proto::rate::RatedRequest as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::convert;
use crate::error::Error;
use crate::lane::Answer;
use crate::message::{Asked, Letter};
use crate::messaging::{ANSWER_BYTES, Messaging};
use crate::store::Appended;

/// How many sends of one stream may be under way; no more is read until some are done.
const UNDER_WAY: usize = 8192;

/// The most outcomes of one answer.
const OUTCOMES: usize = 256;

/// How many answers may wait for the gateway.
const ANSWERS: usize = 4;

/// Carries sends.
#[derive(Clone)]
pub struct Carrier {
    /// Does them.
    pub messaging: Messaging,
    /// Says whose they are.
    pub verifier: Verifier,
    /// Counts them for their users.
    pub rates: Rates,
}

/// What became of a send; no message when it was only to be checked. It counts as under way until it is told.
struct Outcome {
    ticket: i64,
    outcome: Result<Option<Appended>, Status>,
    _under_way: OwnedSemaphorePermit,
}

/// A send, and how to say what became of it.
struct Carried {
    send: pb::CarriedSend,
    under_way: OwnedSemaphorePermit,
}

/// A send that is ready for its lane, or will never be. Without a letter it was only to be checked, and is done.
struct Prepared {
    ticket: i64,
    letter: Result<Option<Letter>, Status>,
    trace: Option<TraceContext>,
    under_way: OwnedSemaphorePermit,
}

impl Carrier {
    /// Carries what comes on a stream, until its end.
    pub fn start(
        self,
        incoming: Streaming<pb::SendMessagesRequest>,
        tasks: &Tasks,
    ) -> ReceiverStream<Result<pb::SendMessagesResponse, Status>> {
        let (outcomes, done) = mpsc::unbounded_channel();
        let (answers, answered) = mpsc::channel(ANSWERS);
        tasks.spawn("carry", move |shutdown| Ride::new(self, outcomes).run(incoming, shutdown));
        tasks.spawn("carry-back", move |_| carry_back(done, answers));
        ReceiverStream::new(answered)
    }

    async fn prepare(self, carried: Carried) -> Prepared {
        let Carried { send, under_way } = carried;
        let trace = send.traceparent.parse().ok();
        let letter = self.letter(send.session_token, send.request.unwrap_or_default()).await;
        Prepared { ticket: send.ticket, letter, trace, under_way }
    }

    async fn letter(self, token: String, request: pb::SendMessageRequest) -> Result<Option<Letter>, Status> {
        let violations = request.check();
        if !violations.is_empty() {
            return Err(proto::invalid(violations));
        }
        let caller = self.verifier.verify(&token).await?.ok_or_else(caller::unauthenticated)?;
        self.rates.user(request.request_rate(), caller.user_id)?;
        let asked = Asked::parse(request, caller.kind, self.messaging.clock.now())?;
        Ok(self.messaging.prepare(caller.user_id, asked).await?)
    }
}

/// The sends of one stream.
struct Ride {
    carrier: Carrier,
    outcomes: mpsc::UnboundedSender<Outcome>,
    under_way: Arc<Semaphore>,
    /// Sends that have to ask somebody first, at most one of each session.
    asking: FuturesUnordered<BoxFuture<'static, (String, Prepared)>>,
    /// By session, the sends that wait for such a one.
    behind: HashMap<String, VecDeque<Carried>>,
}

impl Ride {
    fn new(carrier: Carrier, outcomes: mpsc::UnboundedSender<Outcome>) -> Self {
        let under_way = Arc::new(Semaphore::new(UNDER_WAY));
        Self { carrier, outcomes, under_way, asking: FuturesUnordered::new(), behind: HashMap::new() }
    }

    async fn run(mut self, mut incoming: Streaming<pb::SendMessagesRequest>, shutdown: Shutdown) {
        let mut is_open = true;
        while is_open || !self.asking.is_empty() {
            tokio::select! {
                Some((session, prepared)) = self.asking.next(), if !self.asking.is_empty() => {
                    self.post(prepared);
                    self.catch_up(session);
                }
                request = incoming.message(), if is_open => match request {
                    Ok(Some(request)) => self.take(request).await,
                    Ok(None) => is_open = false,
                    Err(status) => {
                        tracing::debug!(code = ?status.code(), "a stream of sends broke: {}", status.message());
                        is_open = false;
                    }
                },
                () = shutdown.wait(), if is_open => is_open = false,
            }
        }
    }

    async fn take(&mut self, request: pb::SendMessagesRequest) {
        for send in request.sends {
            let Some(under_way) = self.room().await else { return };
            let carried = Carried { send, under_way };
            match self.behind.get_mut(&carried.send.session_token) {
                Some(queue) => queue.push_back(carried),
                None => {
                    self.begin(carried);
                }
            }
        }
    }

    /// Waits until one more send may be under way. Meanwhile those that ask somebody go on: they may be what it waits for.
    async fn room(&mut self) -> Option<OwnedSemaphorePermit> {
        loop {
            tokio::select! {
                biased;
                // Never closed.
                room = Arc::clone(&self.under_way).acquire_owned() => return room.ok(),
                Some((session, prepared)) = self.asking.next(), if !self.asking.is_empty() => {
                    self.post(prepared);
                    self.catch_up(session);
                }
            }
        }
    }

    /// Hands a send to its lane, if nobody has to be asked about it; says whether that was so.
    fn begin(&mut self, carried: Carried) -> bool {
        let session = carried.send.session_token.clone();
        let mut preparing = self.carrier.clone().prepare(carried).boxed();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match preparing.as_mut().poll(&mut context) {
            Poll::Ready(prepared) => {
                self.post(prepared);
                true
            }
            Poll::Pending => {
                self.behind.entry(session.clone()).or_default();
                self.asking.push(async move { (session, preparing.await) }.boxed());
                false
            }
        }
    }

    /// One send of a session is on its way: now those behind it.
    fn catch_up(&mut self, session: String) {
        while let Some(next) = self.behind.get_mut(&session).and_then(VecDeque::pop_front) {
            if !self.begin(next) {
                return;
            }
        }
        self.behind.remove(&session);
    }

    fn post(&self, prepared: Prepared) {
        let Prepared { ticket, letter, trace, under_way } = prepared;
        let outcomes = self.outcomes.clone();
        let tell = move |outcome: Result<Option<Appended>, Status>| {
            // Nobody is there any more when the stream has broken.
            let _ = outcomes.send(Outcome { ticket, outcome, _under_way: under_way });
        };
        match letter {
            Ok(Some(letter)) => {
                let answer = Answer::new(move |outcome: Result<Appended, Error>| {
                    tell(outcome.map(Some).map_err(Status::from));
                });
                self.carrier.messaging.post(letter, trace, answer);
            }
            Ok(None) => tell(Ok(None)),
            Err(status) => tell(Err(status)),
        }
    }
}

/// Sends the outcomes back, as many at a time as there are.
async fn carry_back(
    mut done: mpsc::UnboundedReceiver<Outcome>,
    answers: mpsc::Sender<Result<pb::SendMessagesResponse, Status>>,
) {
    let mut outcomes = Vec::with_capacity(OUTCOMES);
    while done.recv_many(&mut outcomes, OUTCOMES).await > 0 {
        while !outcomes.is_empty() {
            let rest = outcomes.split_off(fitting(&outcomes));
            let response = pb::SendMessagesResponse { outcomes: outcomes.drain(..).map(render).collect() };
            if answers.send(Ok(response)).await.is_err() {
                return;
            }
            outcomes = rest;
        }
    }
}

/// How many of these outcomes fit into one answer, at least one.
fn fitting(outcomes: &[Outcome]) -> usize {
    let mut room = ANSWER_BYTES;
    let fits = |outcome: &&Outcome| {
        let fits = room > 0;
        let sent = outcome.outcome.as_ref().ok().and_then(Option::as_ref);
        room = room.saturating_sub(sent.map_or(256, |sent| sent.message.weight()));
        fits
    };
    outcomes.iter().take_while(fits).count()
}

fn render(outcome: Outcome) -> pb::SendOutcome {
    use pb::send_outcome::Outcome as Arm;
    let arm = match outcome.outcome {
        Ok(sent) => Arm::Response(convert::sent(sent)),
        Err(status) => Arm::Status(encode(&status)),
    };
    pb::SendOutcome { ticket: outcome.ticket, outcome: Some(arm) }
}

/// A status as an encoded `google.rpc.Status`: that is what its details are, when it has any.
fn encode(status: &Status) -> Vec<u8> {
    if !status.details().is_empty() {
        return status.details().to_vec();
    }
    let (code, message) = (status.code().into(), status.message().to_owned());
    tonic_types::Status { code, message, details: Vec::new() }.encode_to_vec()
}
