//! Carries the sends of all connections to messaging, many in one message of a stream.
//!
//! A stream per call would cost more than the send itself. So one task holds a `SendMessages` stream open, puts all
//! waiting sends into the next message, and returns the outcomes by ticket. It works the same in one process and
//! between processes.
//!
//! If the stream breaks, the sends in progress may or may not have been stored. A send with a `client_message_id` is
//! repeated once, first on the next stream and in its order: messaging detects the repetition. A send without one fails
//! UNAVAILABLE, for its client to decide, and so do the sends of the same session behind it, which must not overtake
//! it. Sends that still wait go with the next stream; if that breaks before it brought an outcome, they fail at once,
//! so that clients learn the failure without further delay.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chassis::fault::Fault;
use chassis::tasks::{Shutdown, Tasks};
use chassis::trace::{self, TraceContext};
use chassis::transport::as_service;
use prost::Message as _;
use proto::gateway::v1::ErrorReason;
use proto::messaging::v1::{
    CarriedSend, SendMessageRequest, SendMessageResponse, SendMessagesRequest, SendMessagesResponse,
    SendOutcome, send_outcome::Outcome,
};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::upstream::clients::Clients;

/// The number of streams. A connection always uses the same one.
const STREAMS: usize = 2;

/// The maximum number of sends that wait for a stream.
const WAITING: usize = 4096;

/// The maximum number of sends in one message.
const BATCH: usize = 256;
/// The size of a message in bytes to which no more sends are added. With one more send of the largest size it stays
/// below the limit of messaging.
const BATCH_BYTES: usize = 768 << 10;

/// The maximum number of messages sent ahead before messaging has taken them.
const AHEAD: usize = 4;

/// How long to wait before another stream is tried, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The longest time for which sends in progress may take when the gateway stops.
const DRAIN: Duration = Duration::from_secs(5);

type Answer = oneshot::Sender<Result<SendMessageResponse, Status>>;

/// Carries sends to messaging.
pub(crate) struct SendStream {
    streams: Vec<mpsc::Sender<Waiting>>,
    /// The receivers of the queues before the tasks are started.
    pending_tasks: Mutex<Vec<mpsc::Receiver<Waiting>>>,
}

struct Waiting {
    token: Arc<str>,
    request: SendMessageRequest,
    answer: Answer,
    /// The trace of the command that the send belongs to.
    trace: TraceContext,
    /// True for a send that was in progress when a stream broke.
    is_second: bool,
}

impl SendStream {
    pub(crate) fn new() -> Self {
        let (streams, pending_tasks) = (0..STREAMS).map(|_| mpsc::channel(WAITING)).unzip();
        Self { streams, pending_tasks: Mutex::new(pending_tasks) }
    }

    /// Starts the tasks that hold the streams.
    pub(crate) fn start(&self, clients: &Clients, tasks: &Tasks) {
        let pending_tasks =
            std::mem::take(&mut *self.pending_tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for queue in pending_tasks {
            let clients = clients.clone();
            tasks.spawn("send-stream", |shutdown| run_stream(queue, clients, shutdown));
        }
    }

    /// Sends a message with its user's token. Sends of one `lane` go over the same stream. The outcome must be awaited;
    /// without it the result is unknown.
    pub(crate) fn send(
        &self,
        lane: u64,
        token: Arc<str>,
        request: SendMessageRequest,
    ) -> impl Future<Output = Result<SendMessageResponse, Status>> + Send + use<> {
        let (answer, answered) = oneshot::channel();
        let place = usize::try_from(lane % STREAMS as u64).unwrap_or(0);
        let trace = trace::current().unwrap_or_else(TraceContext::generate);
        let taken = self.streams[place].try_send(Waiting { token, request, answer, trace, is_second: false });
        async move {
            match taken {
                // Dropped unanswered when the stream broke.
                Ok(()) => answered.await.unwrap_or_else(|_| Err(broken())),
                Err(TrySendError::Full(_)) => {
                    Err(Fault::new(Code::ResourceExhausted, ErrorReason::Overloaded.as_str_name())
                        .message("too much is waiting already")
                        .retry_after(Duration::from_secs(1))
                        .into())
                }
                // The gateway stops, and sends nothing more.
                Err(TrySendError::Closed(_)) => Err(broken()),
            }
        }
    }
}

fn broken() -> Status {
    Fault::unavailable("messaging").into()
}

/// Holds one stream open, and opens the next one when it breaks.
async fn run_stream(mut queue: mpsc::Receiver<Waiting>, clients: Clients, shutdown: Shutdown) {
    let mut pause = FIRST_PAUSE;
    let mut first: Vec<Waiting> = Vec::new();
    loop {
        // A stream is opened when there is something to send.
        if first.is_empty() {
            tokio::select! {
                waiting = queue.recv() => first.extend(waiting),
                () = shutdown.wait() => {}
            }
        }
        if first.is_empty() {
            return;
        }
        let (broke, again) =
            SendStreamTask::new(&clients).run(std::mem::take(&mut first), &mut queue, &shutdown).await;
        first = again;
        match broke {
            Broke::Used => pause = FIRST_PAUSE,
            Broke::AtOnce => {
                // Dropped unanswered.
                while queue.try_recv().is_ok() {}
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Broke::Drained => return,
        }
    }
}

/// The way in which a stream has ended.
enum Broke {
    /// After it had brought outcomes.
    Used,
    /// Before it had.
    AtOnce,
    /// The gateway stops, and nothing is in progress any more.
    Drained,
}

struct SendStreamTask<'a> {
    clients: &'a Clients,
    /// By ticket, which gives their order.
    under_way: BTreeMap<i64, UnderWay>,
    tickets: i64,
    used: bool,
}

/// A send that messaging has or may have.
struct UnderWay {
    token: Arc<str>,
    answer: Answer,
    trace: TraceContext,
    /// The request that is repeated when the stream breaks.
    again: Option<SendMessageRequest>,
}

impl<'a> SendStreamTask<'a> {
    fn new(clients: &'a Clients) -> Self {
        Self { clients, under_way: BTreeMap::new(), tickets: 0, used: false }
    }

    async fn run(
        mut self,
        mut waiting: Vec<Waiting>,
        queue: &mut mpsc::Receiver<Waiting>,
        shutdown: &Shutdown,
    ) -> (Broke, Vec<Waiting>) {
        let (outgoing, messages) = mpsc::channel(AHEAD);
        let request = as_service(ReceiverStream::new(messages), self.clients.credential(), None);
        let mut messaging = self.clients.messages();
        // The service may answer before or after the first message.
        let mut opening = pin!(messaging.send_messages(request));
        let mut incoming: Option<Streaming<SendMessagesResponse>> = None;
        let mut drained = pin!(async {
            shutdown.wait().await;
            tokio::time::sleep(DRAIN).await;
        });

        loop {
            if shutdown.is_set() && self.under_way.is_empty() && waiting.is_empty() && queue.is_empty() {
                return (Broke::Drained, Vec::new());
            }
            tokio::select! {
                opened = &mut opening, if incoming.is_none() => match opened {
                    Ok(response) => incoming = Some(response.into_inner()),
                    Err(status) => return self.break_off(&status, waiting),
                },
                outcomes = next(&mut incoming) => match outcomes {
                    Ok(Some(outcomes)) => self.settle(outcomes),
                    Ok(None) => return self.break_off(&Status::unavailable("the stream has ended"), waiting),
                    Err(status) => return self.break_off(&status, waiting),
                },
                place = outgoing.reserve(), if !waiting.is_empty() => match place {
                    Ok(place) => place.send(self.pack(&mut waiting)),
                    // The service has stopped reading; the other branches give the reason.
                    Err(_) => return self.break_off(&Status::unavailable("the stream is not read"), waiting),
                },
                // Only sends that leave at once are taken: the rest waits in the queue, where it is counted.
                taken = queue.recv_many(&mut waiting, BATCH), if waiting.is_empty() => {
                    if taken == 0 {
                        return (Broke::Drained, Vec::new());
                    }
                }
                () = shutdown.wait(), if !shutdown.is_set() => {}
                () = &mut drained => return self.break_off(&Status::unavailable("the gateway goes"), waiting),
            }
        }
    }

    /// Takes the first of the waiting sends, in their order, as many as one message carries.
    fn pack(&mut self, waiting: &mut Vec<Waiting>) -> SendMessagesRequest {
        let mut room = BATCH_BYTES;
        let fits = |waiting: &&Waiting| {
            let fits = room > 0;
            room = room.saturating_sub(waiting.request.encoded_len());
            fits
        };
        let count = waiting.iter().take_while(fits).count();
        let sends = waiting.drain(..count).map(|Waiting { token, request, answer, trace, is_second }| {
            self.tickets += 1;
            let goes_again = !is_second && !request.client_message_id.is_empty();
            let again = goes_again.then(|| request.clone());
            let session_token = token.to_string();
            self.under_way.insert(self.tickets, UnderWay { token, answer, trace, again });
            CarriedSend {
                ticket: self.tickets,
                session_token,
                request: Some(request),
                traceparent: trace.to_string(),
            }
        });
        SendMessagesRequest { sends: sends.collect() }
    }

    fn settle(&mut self, outcomes: SendMessagesResponse) {
        self.used = true;
        for SendOutcome { ticket, outcome } in outcomes.outcomes {
            let Some(UnderWay { answer, .. }) = self.under_way.remove(&ticket) else { continue };
            let outcome = match outcome {
                Some(Outcome::Response(response)) => Ok(response),
                Some(Outcome::Status(status)) => Err(status_of(&status)),
                None => Err(Fault::internal().into()),
            };
            // The connection may be gone.
            let _ = answer.send(outcome);
        }
    }

    /// Returns the sends that go with the next stream, in order. The rest is dropped unanswered.
    fn break_off(self, status: &Status, waiting: Vec<Waiting>) -> (Broke, Vec<Waiting>) {
        tracing::warn!(
            code = ?status.code(),
            under_way = self.under_way.len(),
            "the stream of sends to messaging has broken: {}",
            status.message()
        );
        let mut stopped = HashSet::new();
        let mut again = Vec::new();
        for UnderWay { token, answer, trace, again: request } in self.under_way.into_values() {
            match request {
                Some(request) if !stopped.contains(&token) => {
                    again.push(Waiting { token, request, answer, trace, is_second: true });
                }
                _ => {
                    stopped.insert(token);
                }
            }
        }
        // A send that has waited for a second stream without success is not tried on a third.
        again.extend(
            waiting
                .into_iter()
                .filter(|waiting| {
                    let goes = !waiting.is_second && !stopped.contains(&waiting.token);
                    if !goes {
                        stopped.insert(waiting.token.clone());
                    }
                    goes
                })
                .map(|waiting| Waiting { is_second: true, ..waiting }),
        );
        (if self.used { Broke::Used } else { Broke::AtOnce }, again)
    }
}

async fn next(
    incoming: &mut Option<Streaming<SendMessagesResponse>>,
) -> Result<Option<SendMessagesResponse>, Status> {
    match incoming {
        Some(incoming) => incoming.message().await,
        None => std::future::pending().await,
    }
}

/// Decodes an outcome's `google.rpc.Status`, as a call would have returned it.
fn status_of(encoded: &[u8]) -> Status {
    match tonic_types::pb::Status::decode(encoded) {
        Ok(status) => {
            Status::with_details(Code::from_i32(status.code), status.message, encoded.to_vec().into())
        }
        Err(_) => Fault::internal().into(),
    }
}
