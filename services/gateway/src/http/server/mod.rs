//! The HTTP server: the connections, and the middleware around every request.

pub(super) mod activity;
mod slots;
mod stall;
mod stream;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse as _;
use chassis::host::Port;
use chassis::tasks::{Shutdown, Tasks};
use http::{Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceExt;

use self::activity::Activity;
use self::slots::{ConnectionSlot, ConnectionSlots};
use self::stall::{Pieces, StreamExecutor};
use self::stream::{ClientStream, Timeouts};
use crate::config::Config;
use crate::http::error::Problem;
use crate::http::middleware;
use crate::http::middleware::client_ip::Peer;

/// The longest time for which a connection may stay open between two requests: longer than that of proxies and
/// browsers, so that they are the ones to close it.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// The number of HTTP/2 streams that a client may reset before they are processed, and that the gateway may reset for
/// the client's errors, before the connection ends.
const MAX_RESET_STREAMS: usize = 20;

/// The time that a client is told to wait when its address has too many connections.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The pause before accepting again when the system refuses, most likely because it is out of file handles.
const BREATHER: Duration = Duration::from_millis(50);

/// Reserves the addresses that the configuration names.
pub(crate) fn reserve(config: &Config) -> anyhow::Result<Vec<Port>> {
    let mut ports = vec![Port::reserve(config.listen, "listen of the gateway")?];
    if let Some(also) = config.listen_also {
        match Port::reserve(also, "listen_also of the gateway") {
            Ok(port) => ports.push(port),
            Err(error) => tracing::info!("listening at {} only: {error:#}", config.listen),
        }
    }
    Ok(ports)
}

/// Serves until the tasks are stopped.
pub(crate) fn start(config: &Config, router: Router, listeners: Vec<TcpListener>, tasks: &Tasks) {
    middleware::metrics::describe();
    let slots = ConnectionSlots::new(config);
    for listener in listeners {
        let server = Server { router: router.clone(), slots: slots.clone(), config: config.clone() };
        tasks.spawn("http", |shutdown| server.run(listener, shutdown));
    }
}

struct Server {
    router: Router,
    slots: Arc<ConnectionSlots>,
    config: Config,
}

impl Server {
    async fn run(self, listener: TcpListener, shutdown: Shutdown) {
        let protocol = protocol(&self.config);
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.wait() => break,
                accepted = self.accept(&listener) => accepted,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, peer, Some(slot))) => {
                    let connection = Connection { stream, peer, slot, watcher: graceful.watcher() };
                    connections.spawn(connection.serve(protocol.clone(), self.router.clone(), &self.config));
                }
                Ok((stream, _, None)) => refuse(&stream).await,
                Err(error) if has_gone(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }

        // From here on no new connection is accepted; open ones may finish.
        drop(listener);
        if tokio::time::timeout(self.config.drain_timeout, graceful.shutdown()).await.is_err() {
            tracing::warn!(connections = connections.len(), "requests have not finished in time");
        }
    }

    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> std::io::Result<(TcpStream, SocketAddr, Option<ConnectionSlot>)> {
        let (stream, peer) = listener.accept().await?;
        // It fails for a closed connection; the first read then reports it.
        let _ = stream.set_nodelay(true);
        // Those behind it wait in the system's queue.
        let slot = self.slots.take_when_free(peer.ip()).await;
        Ok((stream, peer, slot))
    }
}

/// Tells a client that its address has too many connections. The answer fits into the system's buffer for a new
/// connection, so a client that does not read costs nothing.
async fn refuse(stream: &TcpStream) {
    let (head, body) = Problem::too_many("connections_per_address", RETRY_AFTER).into_response().into_parts();
    let Ok(body) = body.collect().await else { return };
    let body = body.to_bytes();
    let mut text =
        format!("HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {}\r\n", head.status, body.len());
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    let _ = stream.try_write(&[text.as_bytes(), b"\r\n", &body].concat());
}

/// True when the client closed the connection before it was accepted, which is no fault of the gateway.
fn has_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn protocol(config: &Config) -> auto::Builder<StreamExecutor> {
    let mut protocol = auto::Builder::new(StreamExecutor::new(config.send_timeout));
    protocol.http1().timer(TokioTimer::new()).header_read_timeout(KEEP_ALIVE).max_buf_size(64 * 1024);
    protocol
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(25)))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(config.max_streams_per_connection)
        .max_send_buf_size(config.max_send_buffer_bytes)
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(MAX_RESET_STREAMS)
        .max_header_list_size(16 * 1024);
    protocol
}

/// One connection.
struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    slot: ConnectionSlot,
    watcher: Watcher,
}

impl Connection {
    fn serve(
        self,
        protocol: auto::Builder<StreamExecutor>,
        router: Router,
        config: &Config,
    ) -> impl Future<Output = ()> + Send + 'static {
        let timeouts = Timeouts { header: config.header_timeout, send: config.send_timeout };
        async move {
            let activity = self.slot.activity().clone();
            let service = {
                let (peer, activity) = (Peer(self.peer), activity.clone());
                hyper::service::service_fn(move |request| {
                    answer(router.clone(), peer, activity.clone(), request)
                })
            };
            let stream = ClientStream::new(self.stream, activity, timeouts);
            let connection = protocol.serve_connection_with_upgrades(TokioIo::new(stream), service);
            let connection = self.watcher.watch(connection.into_owned());
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(error, "a connection ended");
                    }
                }
                () = self.slot.gives_way() => tracing::debug!("a connection gives way to another"),
            }
        }
    }
}

/// Answers one request of a connection.
async fn answer(
    router: Router,
    peer: Peer,
    activity: Arc<Activity>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let has_streams = request.version() == Version::HTTP_2;
    let (under_way, exchange) = activity.request_begins(has_streams);
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(activity.clone());
    let response = router.oneshot(request).await?;
    drop(under_way);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        activity.is_upgrading();
    }
    let response = response.map(|body| Body::new(exchange.over(body)));
    Ok(if has_streams { response.map(|body| Body::new(Pieces::new(body))) } else { response })
}
