//! Live connections: the logs that they follow, their resumption, and their end. The WebSocket and the event stream are
//! built on top, as are the sockets of dialects.
//!
//! ```text
//! connection     one connection as all others see it         frame, frame_json  its frames
//! identity       the user, or the anonymous viewer           registry           the open connections, and their limits
//! handshake      admits new connections                      session_watch      ends those of ended sessions
//! hub, topic     the logs that are followed here             log_reader         one connection in one log
//! resume         from a known sequence to live               subscriber         one view on the logs, typed
//! watermarks     which receipts are late
//! presence       reports connected users to conversation     call_events        delivers call events
//! devices        reports connected devices to scheduling
//! websocket      the canonical socket, and its transport     sse                the event stream
//! ```

pub(crate) mod call_events;
pub(crate) mod connection;
mod delivery_times;
mod devices;
pub(crate) mod frame;
mod frame_json;
pub(crate) mod handshake;
pub(crate) mod hub;
pub(crate) mod identity;
mod log_reader;
mod presence;
pub(crate) mod registry;
pub(crate) mod resume;
pub(crate) mod session_watch;
pub(crate) mod sse;
#[cfg_attr(not(test), expect(dead_code, reason = "the sockets of dialects use it"))]
pub(crate) mod subscriber;
pub(crate) mod topic;
mod watermarks;
pub(crate) mod websocket;

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chassis::clock::Clock;
use chassis::events::Events;
use chassis::fault::Fault;
use chassis::tasks::{Shutdown, Tasks};

use self::call_events::CallEvents;
use self::connection::{Bounds, Connection, End, Waiting};
use self::frame::Format;
use self::hub::Hub;
use self::identity::{Identity, SignedIn};
use self::registry::{ConnectionRegistry, ConnectionSlot};
use crate::config::Config;
use crate::upstream::Upstream;

/// The longest time for commands in progress and the last frames when the gateway stops.
const FINISH_TIMEOUT: Duration = Duration::from_secs(4);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(4);

/// The live connections of this gateway, and their dependencies. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Realtime(Arc<Inner>);

struct Inner {
    config: Arc<Config>,
    upstream: Upstream,
    events: Events,
    clock: Clock,
    hub: Hub,
    registry: ConnectionRegistry,
    call_events: Arc<CallEvents>,
    waiting: Waiting,
    numbers: AtomicU64,
    spread: RandomState,
}

impl Realtime {
    pub(crate) fn new(config: Arc<Config>, upstream: Upstream, events: Events, clock: Clock) -> Self {
        let (disconnects, disconnected) = tokio::sync::mpsc::unbounded_channel();
        let registry = ConnectionRegistry::new(disconnects);
        Self(Arc::new(Inner {
            hub: Hub::new(upstream.clients().clone(), events.clone(), clock.clone()),
            call_events: Arc::new(CallEvents::new(registry.clone(), disconnected, events.clone())),
            registry,
            waiting: Waiting::default(),
            numbers: AtomicU64::new(1),
            spread: RandomState::new(),
            config,
            upstream,
            events,
            clock,
        }))
    }

    /// Starts the tasks behind the connections.
    pub(crate) fn start(&self, tasks: &Tasks) {
        describe();
        self.0.hub.start(tasks);
        self.0.call_events.start(tasks);
        session_watch::start(self, tasks);
        presence::start(self, tasks);
        devices::start(self, tasks);
        let realtime = self.clone();
        tasks.spawn("sockets", |shutdown| drain(realtime, shutdown));
    }

    /// Returns the configuration under the profile.
    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// Returns the configuration, for a task to keep.
    pub(crate) fn shared_config(&self) -> Arc<Config> {
        Arc::clone(&self.0.config)
    }

    /// The services behind the gateway.
    pub(crate) fn upstream(&self) -> &Upstream {
        &self.0.upstream
    }

    /// The bus.
    pub(crate) fn events(&self) -> &Events {
        &self.0.events
    }

    /// The clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The logs that connections follow.
    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// The open connections.
    pub(crate) fn registry(&self) -> &ConnectionRegistry {
        &self.0.registry
    }

    /// Returns the delivery of events of the calls of connected users.
    pub(crate) fn call_events(&self) -> &CallEvents {
        &self.0.call_events
    }

    /// Opens a connection of a user who has signed in. It is registered until it is detached from the slot, or the slot
    /// is released.
    pub(crate) fn connect(
        &self,
        slot: &ConnectionSlot,
        who: SignedIn,
        format: Format,
    ) -> Result<(Arc<Connection>, Arc<Identity>), Fault> {
        let identity = Arc::new(Identity::from(who));
        Ok((self.open(slot, Some(Arc::clone(&identity)), format)?, identity))
    }

    /// Opens a connection of the anonymous viewer.
    pub(crate) fn connect_anonymous(
        &self,
        slot: &ConnectionSlot,
        format: Format,
    ) -> Result<Arc<Connection>, Fault> {
        self.open(slot, None, format)
    }

    fn open(
        &self,
        slot: &ConnectionSlot,
        identity: Option<Arc<Identity>>,
        format: Format,
    ) -> Result<Arc<Connection>, Fault> {
        let config = &self.0.config.sockets;
        let number = self.0.numbers.fetch_add(1, Ordering::Relaxed);
        let bounds = Bounds { frames: config.queue_frames, bytes: config.queue_bytes };
        let connection = Connection::new(number, identity, format, bounds, self.0.waiting.clone());
        slot.attach(&connection, config)?;
        Ok(connection)
    }

    /// Returns the time that a client waits before it connects again after a restart; the times of connections are
    /// spread.
    pub(crate) fn reconnect_delay(&self, number: u64) -> Duration {
        let spread = self.0.config.sockets.drain_spread;
        let millis = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(self.0.spread.hash_one(number) % millis)
    }
}

fn describe() {
    metrics::describe_gauge!("sockets_open", "Connections of clients, WebSocket and SSE.");
    metrics::describe_counter!("socket_frames_total", "Frames, by direction.");
    metrics::describe_counter!("sockets_closed_total", "Connections that the gateway has closed, by reason.");
    metrics::describe_histogram!(
        "delivery_seconds",
        metrics::Unit::Seconds,
        "Time from an event until it is handed to connections."
    );
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

/// Closes the connections when the gateway stops: none is admitted any more, work in progress is finished, and each
/// client is told the time at which to connect again.
async fn drain(realtime: Realtime, shutdown: Shutdown) {
    shutdown.wait().await;
    let registry = realtime.registry();
    registry.close();
    for connection in registry.everyone() {
        connection.drain();
    }
    if tokio::time::timeout(FINISH_TIMEOUT, registry.emptied()).await.is_ok() {
        return;
    }
    for connection in registry.everyone() {
        connection.end(End::Restart { retry_after: realtime.reconnect_delay(connection.number()) });
    }
    if tokio::time::timeout(CLOSE_TIMEOUT, registry.emptied()).await.is_err() {
        tracing::warn!("connections have not gone in time");
    }
}
