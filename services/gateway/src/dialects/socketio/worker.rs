//! The one worker of a connection: executes its events, one after the other, and sends it the pushes.

use std::convert::Infallible;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chassis::fault::Fault;
use chassis::tasks::Shutdown;
use chassis::trace;
use futures_util::FutureExt;
use proto::gateway::v1::ErrorReason;
use serde_json::Value;
use socketioxide::adapter::LocalAdapter;
use socketioxide::handler::{FromConnectParts, Value as Packet};
use socketioxide::socket::Socket;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tonic::Code;

use super::client::{Client, Link};
use super::inbox::{End, Event, Inbox, Queued};
use super::server::Cuts;
use super::session::Session;
use crate::dialects::Dialects;
use crate::realtime::Realtime;

/// The longest inactivity of a client that is not signed in and follows nothing.
const IDLE: Duration = Duration::from_secs(600);

/// The longest time for a client to close its connection after it was told that it is over.
const GRACE: Duration = Duration::from_secs(5);

/// The period in which events are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// A client that connects to the namespace, and the data of its request.
pub(super) struct Connecting {
    socket: Arc<Socket>,
    auth: Value,
}

impl FromConnectParts<LocalAdapter> for Connecting {
    type Error = Infallible;

    fn from_connect_parts(socket: &Arc<Socket>, auth: &Option<Packet>) -> Result<Self, Infallible> {
        let auth = match auth {
            Some(Packet::Str(text, _)) => serde_json::from_str(text).unwrap_or(Value::Null),
            _ => Value::Null,
        };
        Ok(Self { socket: socket.clone(), auth })
    }
}

/// The reason for which a client is refused. The client reads the text.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The dependencies of all workers.
#[derive(Clone)]
pub(super) struct Worker {
    dialects: Dialects,
    realtime: Realtime,
    cuts: Cuts,
    workers: TaskTracker,
    shutdown: Shutdown,
}

impl Worker {
    pub(super) fn new(
        dialects: Dialects,
        realtime: Realtime,
        cuts: Cuts,
        workers: TaskTracker,
        shutdown: Shutdown,
    ) -> Self {
        Self { dialects, realtime, cuts, workers, shutdown }
    }

    /// Admits a client or refuses it. Events may arrive as soon as it is admitted, so the inbox is created before.
    pub(super) async fn greet(self, connecting: Connecting) -> Result<(), Refusal> {
        let Connecting { socket, auth } = connecting;
        let link = socket.req_parts().extensions.get::<Link>();
        let Some(link) = link else { return Err(Refusal("the gateway is not ready".to_owned())) };
        if self.shutdown.is_set() {
            return Err(Refusal("the gateway is going".to_owned()));
        }
        let address = link.slot().address();
        let greeting = Session::greet(&self.dialects, &auth, address).await?;
        let inbox = Inbox::new(&self.realtime.config().sockets);
        socket.extensions.insert(Arc::clone(&inbox));
        socket.extensions.insert(greeting);
        socket.on_fallback(|_: Queued| std::future::ready(()));
        socket.on_disconnect(move || {
            inbox.end(End::Gone);
            std::future::ready(())
        });
        Ok(())
    }

    /// Serves an admitted client, until its connection is over.
    pub(super) async fn run(self, connecting: Connecting) {
        let Connecting { socket, .. } = connecting;
        let working = self.workers.token();
        let (Some(inbox), Some(link)) =
            (socket.extensions.get::<Arc<Inbox>>(), socket.req_parts().extensions.get::<Link>().cloned())
        else {
            return;
        };
        let (Some(events), greeting) = (inbox.receiver(), socket.extensions.remove().unwrap_or_default())
        else {
            return;
        };
        let client = Client::new(socket, inbox, link);
        let session = Session::new(&self.dialects, &self.realtime, client.clone(), greeting);
        let work = AssertUnwindSafe(self.work(&client, session, events));
        // A panic ends only its own connection, and is counted.
        let outcome = work.catch_unwind().await;
        drop(working);
        match outcome {
            // The transports of all clients close together, when the gateway stops.
            Ok(None) => {}
            Ok(Some(end)) => {
                metrics::counter!("sockets_closed_total", "reason" => end.reason()).increment(1);
                self.close(&client, end).await;
            }
            Err(_) => {
                metrics::counter!("panics_total", "method" => "socketio").increment(1);
                tracing::error!("a connection has ended in a panic");
                self.close(&client, End::Gone).await;
            }
        }
    }

    /// Executes events, until the connection ends or the gateway stops.
    async fn work(
        &self,
        client: &Client,
        mut session: Session,
        mut events: mpsc::Receiver<Event>,
    ) -> Option<End> {
        let mut budget = Budget::new(self.realtime.config().sockets.commands_per_minute);
        tokio::select! {
            end = client.inbox().ended() => return Some(end),
            () = self.shutdown.wait() => return None,
            () = Box::pin(session.begin()) => {}
        }
        let mut heard_at = Instant::now();
        loop {
            tokio::select! {
                end = client.inbox().ended() => return Some(end),
                () = self.shutdown.wait() => return None,
                // Boxed while it runs: an idle connection reserves no room for its possible actions.
                push = session.next() => Box::pin(session.show(push)).await,
                Some(event) = events.recv() => {
                    client.inbox().taken(&event);
                    metrics::counter!("socket_frames_total", "direction" => "in").increment(1);
                    heard_at = Instant::now();
                    match session.is_send(&event) || budget.take(heard_at) {
                        true => trace::begin("socketio", Box::pin(session.hear(event))).await,
                        false => session.refuse(&event, &too_many_events()),
                    }
                }
                () = tokio::time::sleep_until(heard_at + IDLE), if session.is_idle() => return Some(End::Idle),
            }
        }
    }

    /// Closes a connection from this side. A client whose queue has room is told first; a connection that the client
    /// does not close is aborted. A client whose connection was aborted reconnects by itself, one that was told does
    /// not.
    async fn close(&self, client: &Client, end: End) {
        if end == End::Gone || self.shutdown.is_set() {
            return;
        }
        let connects_again = matches!(end, End::TooSlow | End::Restart) && client.has_websocket();
        if !connects_again {
            client.disconnect();
            tokio::time::sleep(GRACE).await;
        }
        client.link().cut().cancel();
        self.cuts.cut(&client.id());
    }
}

/// The number of events of one connection, besides sends, within a minute.
struct Budget {
    per_minute: u32,
    taken: u32,
    since: Instant,
}

impl Budget {
    fn new(per_minute: u32) -> Self {
        Self { per_minute, taken: 0, since: Instant::now() }
    }

    /// Counts an event. Returns true when it may be executed.
    fn take(&mut self, now: Instant) -> bool {
        if now >= self.since + MINUTE {
            (self.taken, self.since) = (0, now);
        }
        self.taken = self.taken.saturating_add(1);
        self.taken <= self.per_minute
    }
}

fn too_many_events() -> Fault {
    Fault::new(Code::ResourceExhausted, ErrorReason::RateLimited.as_str_name())
        .message("too many events: slow down")
        .retry_after(MINUTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn events_are_counted_by_the_minute() {
        let mut budget = Budget::new(2);
        let now = Instant::now();
        assert!(budget.take(now) && budget.take(now) && !budget.take(now));
        assert!(budget.take(now + MINUTE));
    }
}
