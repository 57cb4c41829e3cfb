//! Live connections: what they follow, how they resume, and what ends them. The WebSocket and the event stream stand on
//! top; a dialect's socket is one more.
//!
//! ```text
//! connection     one connection as all others see it        frame, frame_json  what it reads and writes
//! hub, topic     the logs that are followed here             log_reader         one connection in one log
//! resume         from a known sequence to live
//! handshake      admits new connections                      registry           the open connections, and their limits
//! session_watch  ends the connections of ended sessions
//! presence       reports connected users to conversation     call_events        hands out calls
//! websocket, sse the two wires of the canonical API
//! ```

pub(crate) mod call_events;
pub(crate) mod connection;
pub(crate) mod frame;
mod frame_json;
pub(crate) mod handshake;
pub(crate) mod hub;
mod log_reader;
mod presence;
pub(crate) mod registry;
pub(crate) mod resume;
pub(crate) mod session_watch;
pub(crate) mod sse;
pub(crate) mod topic;
pub(crate) mod websocket;

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chassis::events::Events;
use chassis::fault::Fault;
use chassis::tasks::{Shutdown, Tasks};

use self::call_events::CallEvents;
use self::connection::{Bounds, Connection, End, SignedIn, Waiting};
use self::frame::Format;
use self::hub::Hub;
use self::registry::{ConnectionRegistry, ConnectionSlot};
use crate::config::SocketsConfig;
use crate::state::Gateway;
use crate::upstream::clients::Clients;
use crate::upstream::send_stream::SendStream;

/// How long commands that are under way may take when the gateway goes, and how long the last frames.
const FINISH_TIMEOUT: Duration = Duration::from_secs(4);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(4);

/// What all connections of clients share.
pub(crate) struct Sockets {
    hub: Hub,
    send_stream: SendStream,
    registry: ConnectionRegistry,
    call_events: Arc<CallEvents>,
    waiting: Waiting,
    numbers: AtomicU64,
    spread: RandomState,
}

impl Sockets {
    pub(crate) fn new(clients: &Clients, events: &Events) -> Self {
        let (disconnects, disconnected) = tokio::sync::mpsc::unbounded_channel();
        let registry = ConnectionRegistry::new(disconnects);
        Self {
            hub: Hub::new(clients.clone(), events.clone()),
            send_stream: SendStream::new(),
            call_events: Arc::new(CallEvents::new(registry.clone(), disconnected, events.clone())),
            registry,
            waiting: Waiting::default(),
            numbers: AtomicU64::new(1),
            spread: RandomState::new(),
        }
    }

    /// Who follows what.
    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// What carries sends to messaging.
    pub(crate) fn send_stream(&self) -> &SendStream {
        &self.send_stream
    }

    /// Who is in.
    pub(crate) fn registry(&self) -> &ConnectionRegistry {
        &self.registry
    }

    /// What brings calls.
    pub(crate) fn call_events(&self) -> &CallEvents {
        &self.call_events
    }

    /// A connection of one who has signed in. It is in as long as the slot is held.
    pub(crate) fn connect(
        &self,
        slot: &mut ConnectionSlot,
        who: SignedIn,
        format: Format,
        config: &SocketsConfig,
    ) -> Result<Arc<Connection>, Fault> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let bounds = Bounds { frames: config.queue_frames, bytes: config.queue_bytes };
        let connection = Connection::new(number, who, format, bounds, self.waiting.clone());
        slot.sign_in(&connection, config)?;
        Ok(connection)
    }

    /// When this connection comes back after a restart: another time for each.
    pub(crate) fn reconnect_delay(&self, number: u64, spread: Duration) -> Duration {
        let millis = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(self.spread.hash_one(number) % millis)
    }
}

/// Starts the tasks behind the sockets.
pub(crate) fn start(gateway: &Gateway, tasks: &Tasks) {
    describe();
    gateway.sockets().hub.start(tasks);
    gateway.sockets().call_events.start(tasks);
    gateway.sockets().send_stream.start(gateway.clients(), tasks);
    session_watch::start(gateway, tasks);
    presence::start(gateway, tasks);
    let gateway = gateway.clone();
    tasks.spawn("sockets", |shutdown| drain(gateway, shutdown));
}

fn describe() {
    metrics::describe_gauge!("sockets_open", "Connections of clients, WebSocket and SSE.");
    metrics::describe_counter!("socket_frames_total", "Frames, by direction.");
    metrics::describe_counter!("sockets_closed_total", "Connections that the gateway has closed, by reason.");
    metrics::describe_counter!("log_repairs_total", "Reads of a log because hints were missing.");
    metrics::describe_counter!(
        "log_head_checks_total",
        "Comparisons of all followed logs with what is known of them."
    );
    metrics::describe_counter!(
        "log_member_checks_total",
        "Checks of followers against a new list of members."
    );
}

/// When the gateway goes: nobody comes in, what is under way is finished, and everyone is told when to come back.
async fn drain(gateway: Gateway, shutdown: Shutdown) {
    shutdown.wait().await;
    let (sockets, spread) = (gateway.sockets(), gateway.config().sockets.drain_spread);
    sockets.registry.close();
    for connection in sockets.registry.everyone() {
        connection.drain();
    }
    if tokio::time::timeout(FINISH_TIMEOUT, sockets.registry.emptied()).await.is_ok() {
        return;
    }
    for connection in sockets.registry.everyone() {
        connection.end(End::Restart { retry_after: sockets.reconnect_delay(connection.number(), spread) });
    }
    if tokio::time::timeout(CLOSE_TIMEOUT, sockets.registry.emptied()).await.is_err() {
        tracing::warn!("connections have not gone in time");
    }
}
