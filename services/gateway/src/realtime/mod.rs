//! The WebSocket at `/v1/socket`: who may open one, and what all of them share.
//!
//! ```text
//! session     one connection: reads, writes, pings, closes       frame, json   what it reads and writes
//! connection  the same connection as everyone else sees it       resume        from "I was away" to live
//! hub         who follows what here, and how it gets to them     topic, reader one log and those who follow it
//! door        who may come in, and who is in                     signed_in     whether they still may
//! presence    tells conversation who is here
//! calls       whose phone rings
//! ```

pub(crate) mod call_events;
pub(crate) mod connection;
pub(crate) mod frame;
mod frame_json;
pub(crate) mod hub;
mod log_reader;
mod presence;
pub(crate) mod registry;
pub(crate) mod resume;
pub(crate) mod session_watch;
pub(crate) mod sse;
pub(crate) mod topic;
mod watermarks;
mod websocket;

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::extract::{RawQuery, State, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use chassis::events::Events;
use chassis::fault::Fault;
use chassis::tasks::{Shutdown, Tasks};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use proto::gateway::v1::ErrorReason;
use tonic::Code;

use self::call_events::Calls;
use self::connection::{Bounds, Connection, End, SignedIn, Waiting};
use self::frame::Format;
use self::hub::Hub;
use self::registry::{Door, Place};
use crate::config::SocketsConfig;
use crate::http::error::Problem;
use crate::http::middleware::client_ip::ClientAddress;
use crate::http::middleware::cors;
use crate::http::rest::transcode::bearer;
use crate::state::Gateway;
use crate::upstream::clients::Clients;
use crate::upstream::send_stream::Carrier;
use websocket::session;

/// A read buffer is held for as long as its connection: most frames of clients are small.
const READ_BUFFER: usize = 2 * 1024;

/// So much is gathered before it is written, when more than one frame waits. It is not kept by those who are idle.
const WRITE_BUFFER: usize = 8 * 1024;

/// How long commands that are under way may take when the gateway goes, and how long the last frames.
const FINISH: Duration = Duration::from_secs(4);
const FAREWELL: Duration = Duration::from_secs(4);

/// What all connections of clients share.
pub(crate) struct Sockets {
    hub: Hub,
    carrier: Carrier,
    door: Door,
    calls: Arc<Calls>,
    waiting: Waiting,
    numbers: AtomicU64,
    spread: RandomState,
}

impl Sockets {
    pub(crate) fn new(clients: &Clients, events: &Events) -> Self {
        let (leaves, left) = tokio::sync::mpsc::unbounded_channel();
        let door = Door::new(leaves);
        Self {
            hub: Hub::new(clients.clone(), events.clone()),
            carrier: Carrier::new(),
            calls: Arc::new(Calls::new(door.clone(), left, events.clone())),
            door,
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
    pub(crate) fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    /// Who is in.
    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// What brings calls.
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// A connection of one who has signed in. It is in as long as the place is held.
    pub(crate) fn connect(
        &self,
        place: &mut Place,
        who: SignedIn,
        format: Format,
        config: &SocketsConfig,
    ) -> Result<Arc<Connection>, Fault> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let bounds = Bounds { frames: config.queue_frames, bytes: config.queue_bytes };
        let connection = Connection::new(number, who, format, bounds, self.waiting.clone());
        place.sign_in(&connection, config)?;
        Ok(connection)
    }

    /// When this connection comes back after a restart: another time for each.
    pub(crate) fn come_back(&self, number: u64, spread: Duration) -> Duration {
        let millis = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(self.spread.hash_one(number) % millis)
    }
}

/// Starts the tasks behind the sockets.
pub(crate) fn start(gateway: &Gateway, tasks: &Tasks) {
    describe();
    gateway.sockets().hub.start(tasks);
    gateway.sockets().calls.start(tasks);
    gateway.sockets().carrier.start(gateway.clients(), tasks);
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
    sockets.door.close();
    for connection in sockets.door.everyone() {
        connection.drain();
    }
    if tokio::time::timeout(FINISH, sockets.door.emptied()).await.is_ok() {
        return;
    }
    for connection in sockets.door.everyone() {
        connection.end(End::Restart { retry_after: sockets.come_back(connection.number(), spread) });
    }
    if tokio::time::timeout(FAREWELL, sockets.door.emptied()).await.is_err() {
        tracing::warn!("connections have not gone in time");
    }
}

/// The route of the socket.
pub(crate) fn router(gateway: Gateway) -> axum::Router {
    axum::Router::new().route("/v1/socket", any(open)).with_state(gateway)
}

/// Lets a client in, or says why not.
async fn open(
    State(gateway): State<Gateway>,
    address: Option<Extension<ClientAddress>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let (place, who) = match admit(&gateway, address, query.as_deref(), &headers).await {
        Ok(admitted) => admitted,
        Err(problem) => return problem.into_response(),
    };
    let max = gateway.config().sockets.max_frame_bytes;
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_frame_size(max)
        .max_message_size(max)
        .on_upgrade(move |socket| contained(session::run(gateway, socket, place, who)))
}

/// A panic ends one connection and no other, and is counted. In a box of its own size: what surrounds it would otherwise
/// hold room for it more than once.
fn contained(session: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, ()> {
    let outcome = AssertUnwindSafe(session).catch_unwind();
    let counted = outcome.map(|outcome| {
        if outcome.is_err() {
            metrics::counter!("panics_total", "method" => "socket").increment(1);
            tracing::error!("a connection has ended in a panic");
        }
    });
    counted.boxed()
}

/// Whether somebody may have a connection. Who has shown a token is known after it.
pub(crate) async fn admit(
    gateway: &Gateway,
    address: Option<Extension<ClientAddress>>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<(Place, Option<SignedIn>), Problem> {
    let config = gateway.config();
    if !cors::allowed(headers, config) {
        return Err(Problem::origin_not_allowed());
    }
    refuse_token_in(query)?;
    let address = address.map_or(IpAddr::from([0, 0, 0, 0]), |Extension(ClientAddress(address))| address);
    gateway.limits().handshake(address)?;
    let place = gateway.sockets().door.enter(address, &config.sockets)?;
    let who = match bearer(headers) {
        Some(token) => Some(session_watch::sign_in(gateway.clients(), token).await?),
        None => None,
    };
    Ok((place, who))
}

/// A token in an address ends up in logs and histories.
fn refuse_token_in(query: Option<&str>) -> Result<(), Fault> {
    let names =
        form_urlencoded::parse(query.unwrap_or_default().as_bytes()).map(|(name, _)| name.to_lowercase());
    let mut tokens = names.filter(|name| name.contains("token") || name.contains("auth"));
    match tokens.next() {
        None => Ok(()),
        Some(name) => Err(Fault::new(Code::InvalidArgument, ErrorReason::InvalidField.as_str_name())
            .message("a token does not belong into an address: send it in `authorization` or in the hello")
            .field(name.chars().take(64).collect::<String>(), "is not allowed in the query")),
    }
}
