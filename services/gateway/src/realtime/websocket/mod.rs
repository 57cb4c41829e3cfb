//! The WebSocket at `/v1/socket`.

pub(crate) mod close;
pub(in crate::realtime) mod command_order;
mod commands;
mod hello;
pub(in crate::realtime) mod rpc_command;
mod session;
pub(crate) mod transport;

use std::panic::AssertUnwindSafe;

use axum::Extension;
use axum::extract::ws::WebSocket;
use axum::extract::{FromRef, RawQuery, State, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::HeaderMap;

use crate::config::SocketsConfig;
use crate::http::middleware::client_ip::ClientAddress;
use crate::realtime::Realtime;
use crate::realtime::handshake::admit;

/// The size of a read buffer, which lasts as long as its connection: most frames of clients are small.
const READ_BUFFER: usize = 2 * 1024;

/// The number of bytes that are gathered before they are written, if more than one frame waits. Idle connections do not
/// keep this buffer.
const WRITE_BUFFER: usize = 8 * 1024;

/// Returns the route of the socket.
pub(crate) fn router<S>() -> axum::Router<S>
where
    S: Clone + Send + Sync + 'static,
    Realtime: FromRef<S>,
{
    axum::Router::new().route("/v1/socket", any(open))
}

/// Opens a connection, or refuses it.
async fn open(
    State(realtime): State<Realtime>,
    address: Option<Extension<ClientAddress>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let (slot, who) = match admit(&realtime, address, query.as_deref(), &headers).await {
        Ok(admitted) => admitted,
        Err(problem) => return problem.into_response(),
    };
    let config = realtime.shared_config();
    serve(upgrade, &config.sockets, move |socket| session::run(realtime, socket, slot, who))
}

/// Answers an upgrade with the limits of all sockets, and serves the socket in a task of its own.
pub(crate) fn serve<F>(
    upgrade: WebSocketUpgrade,
    config: &SocketsConfig,
    session: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_frame_size(config.frame_bytes())
        .max_message_size(config.frame_bytes())
        .on_upgrade(move |socket| contained(session(socket)))
}

/// Contains a panic, so that it ends only its own connection, and counts it. The future is boxed at its own size: the
/// surrounding futures would otherwise reserve room for it more than once.
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
