//! The server: the checks of a request to `/socket.io/` before the library sees it, and the end of all connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chassis::tasks::{Shutdown, Tasks};
use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use socketioxide::handler::ConnectHandler;
use socketioxide::service::SocketIoService;
use socketioxide::{ParserConfig, SocketIo};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt};

use super::client::Link;
use super::scripts::script;
use super::transport::Transport;
use super::worker::{Connecting, Worker};
use crate::dialects::Dialects;
use crate::http::error::Problem;
use crate::http::middleware::client_ip::ClientAddress;
use crate::realtime::Realtime;
use crate::realtime::handshake::admit_address;

/// The path of the protocol.
const PATH: &str = "/socket.io";

/// The longest time for a client to connect to the namespace.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The size of a read buffer, which lasts as long as its connection: most frames of clients are small.
const READ_BUFFER: usize = 2 * 1024;

/// The maximum number of attachments of an event: no dialect uses them.
const MAX_ATTACHMENTS: usize = 16;

/// The longest time for events in progress when the gateway stops, and for the last packets.
const FINISH_TIMEOUT: Duration = Duration::from_secs(4);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(4);

/// The server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Server(Arc<Inner>);

struct Inner {
    service: SocketIoService<Router>,
    io: SocketIo,
    realtime: Realtime,
    dialects: Dialects,
    tasks: Tasks,
    workers: TaskTracker,
    cuts: Cuts,
}

impl Server {
    /// Builds the server, and starts the task that ends its connections when the gateway stops.
    pub(crate) fn start(realtime: Realtime, dialects: Dialects, tasks: &Tasks) -> Self {
        let config = &realtime.config().sockets;
        let (cuts, workers) = (Cuts::default(), TaskTracker::new());
        let parser = ParserConfig::common()
            .max_incoming_binaries(MAX_ATTACHMENTS)
            .max_incoming_binary_buf_size(config.frame_bytes())
            .packet_completion_timeout(config.idle_timeout);
        let (service, io) = SocketIo::builder()
            .req_path(PATH)
            .ping_interval(config.ping_interval)
            .ping_timeout(
                config.idle_timeout.saturating_sub(config.ping_interval).max(Duration::from_secs(1)),
            )
            .connect_timeout(CONNECT_TIMEOUT)
            .max_payload(config.frame_bytes() as u64)
            // The transport refuses larger messages with the right code; this is for messages that it would let pass.
            .ws_max_message_size(config.frame_bytes())
            .ws_max_frame_size(config.frame_bytes())
            .ws_read_buffer_size(READ_BUFFER)
            .with_parser(parser)
            .build_with_inner_svc(Router::new());

        let worker =
            Worker::new(dialects.clone(), realtime.clone(), cuts.clone(), workers.clone(), tasks.shutdown());
        let greeter = worker.clone();
        let connected = move |connecting: Connecting| worker.clone().run(connecting);
        let connecting = move |connecting: Connecting| greeter.clone().greet(connecting);
        io.ns("/", connected.with(connecting));

        let server =
            Self(Arc::new(Inner { service, io, realtime, dialects, tasks: tasks.clone(), workers, cuts }));
        let draining = server.clone();
        tasks.spawn("socketio", |shutdown| draining.drain(shutdown));
        server
    }

    /// Ends the connections when the gateway stops: events in progress are finished, and every client is told that its
    /// transport closes. It reconnects by itself.
    async fn drain(self, shutdown: Shutdown) {
        shutdown.wait().await;
        self.0.workers.close();
        if tokio::time::timeout(FINISH_TIMEOUT, self.0.workers.wait()).await.is_err() {
            tracing::warn!(
                workers = self.0.workers.len(),
                "events of clients have not been finished in time"
            );
        }
        let sockets = self.0.io.sockets();
        if tokio::time::timeout(CLOSE_TIMEOUT, self.0.io.close()).await.is_err() {
            tracing::warn!("connections of Socket.IO have not gone in time");
        }
        for socket in sockets {
            if let Some(link) = socket.req_parts().extensions.get::<Link>() {
                link.cut().cancel();
            }
            self.0.cuts.cut(&socket.id.to_string());
            // The library drops its namespaces before their sockets, which would keep each other alive.
            if let Err(error) = socket.disconnect() {
                tracing::debug!(%error, "a client could not be told that the gateway goes");
            }
        }
    }

    async fn answer(&self, mut request: Request) -> Result<Response, Problem> {
        let query = Query::read(request.uri().query());
        let cut = match &query.sid {
            None => self.admit(&mut request)?,
            Some(sid) => self.0.cuts.of(sid),
        };
        if query.is_websocket && is_upgrade(&request) {
            return Ok(self.upgrade(request, cut));
        }
        let is_post = request.method() == Method::POST;
        let opens_poll = query.sid.is_none() && !query.is_websocket;
        let request = if opens_poll { detached(request) } else { request };
        let answer = self.0.service.clone().oneshot(request);
        // A body must arrive in time; an answer waits until there is an event.
        let answer = match is_post {
            false => answer.await,
            true => {
                let patience = self.0.realtime.config().request_timeout;
                tokio::time::timeout(patience, answer).await.map_err(|_| Problem::deadline_exceeded())?
            }
        };
        match answer {
            Ok(response) => Ok(response.map(Body::new)),
            Err(never) => match never {},
        }
    }

    /// Takes a slot for a new connection.
    fn admit(&self, request: &mut Request) -> Result<Cut, Problem> {
        let address = request.extensions().get::<ClientAddress>();
        let address = address.map_or(IpAddr::from([0, 0, 0, 0]), |ClientAddress(address)| *address);
        let link = Link::new(admit_address(&self.0.realtime, address, request.headers())?);
        let cut = Cut::new(link.cut().clone());
        request.extensions_mut().insert(link);
        Ok(cut)
    }

    /// Answers a request for a WebSocket, and passes the stream to the library once it is open.
    fn upgrade(&self, mut request: Request, cut: Cut) -> Response {
        let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        let Ok(accept) = HeaderValue::try_from(derive_accept_key(key.as_bytes())) else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        let upgraded = hyper::upgrade::on(&mut request);
        let head = detached(request.map(|_| ()));
        let (mut service, tasks) = (self.0.service.clone(), self.0.tasks.clone());
        let max_message = self.0.realtime.config().sockets.frame_bytes();
        self.0.tasks.spawn("socketio-upgrade", |_| async move {
            let stream = match upgraded.await {
                Ok(stream) => TokioIo::new(stream),
                Err(error) => return tracing::debug!(%error, "a client has gone before its upgrade"),
            };
            let transport = Transport::new(stream, max_message, cut, tasks);
            if let Err(error) = service.call((transport, head)).await {
                tracing::debug!(%error, "a request for a WebSocket is none of the protocol");
            }
        });
        let headers = [
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::CONNECTION, HeaderValue::from_static("upgrade")),
            (header::SEC_WEBSOCKET_ACCEPT, accept),
        ];
        (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
    }
}

/// The middleware: answers the requests of the protocol. The limits on the time and the number of requests do not apply
/// to them, because the answer to a poll waits until there is an event.
pub(crate) async fn serve(State(server): State<Server>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_ours = path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest == "/");
    if !server.0.dialects.has_sockets() {
        return next.run(request).await;
    }
    if is_ours {
        return server.answer(request).await.unwrap_or_else(IntoResponse::into_response);
    }
    match script(path, request.headers()) {
        Some(response) if matches!(*request.method(), Method::GET | Method::HEAD) => response,
        Some(_) => Problem::method_not_allowed(&[Method::GET, Method::HEAD]).into_response(),
        None => next.run(request).await,
    }
}

/// Returns a request without its headers, and with a copy of its address. The library keeps the head of an opening
/// request as long as the connection lasts and reads none of its headers; each header, and the original address, would
/// keep the buffer of 16 KiB into which the request was read.
fn detached<B>(request: Request<B>) -> Request<B> {
    let (parts, body) = request.into_parts();
    let mut detached = Request::new(body);
    *detached.method_mut() = parts.method;
    *detached.uri_mut() = parts.uri.to_string().parse().unwrap_or_default();
    if let Some(link) = parts.extensions.get::<Link>() {
        detached.extensions_mut().insert(link.clone());
    }
    detached
}

/// The parts of a query that matter before the library reads it.
struct Query {
    sid: Option<String>,
    /// True for a request that the library would treat as a WebSocket.
    is_websocket: bool,
}

impl Query {
    fn read(query: Option<&str>) -> Self {
        let query = query.unwrap_or_default();
        let value = |name: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
        };
        let is_websocket =
            value("EIO").as_deref() == Some("4") && value("transport").as_deref() == Some("websocket");
        Self { sid: value("sid"), is_websocket }
    }
}

fn is_upgrade(request: &Request) -> bool {
    let upgrade = request.headers().get(header::UPGRADE);
    request.method() == Method::GET
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The WebSockets that began as polls, by the id of their connection, so that they can be aborted.
#[derive(Clone, Default)]
pub(super) struct Cuts(Arc<Mutex<HashMap<String, CancellationToken>>>);

/// The handle that aborts one WebSocket.
pub(super) struct Cut {
    pub(super) token: CancellationToken,
    registered: Option<(Cuts, String)>,
}

impl Cut {
    pub(super) fn new(token: CancellationToken) -> Self {
        Self { token, registered: None }
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        if let Some((cuts, sid)) = self.registered.take() {
            cuts.lock().remove(&sid);
        }
    }
}

impl Cuts {
    /// Returns the handle for the WebSocket of a connection that has begun to poll.
    fn of(&self, sid: &str) -> Cut {
        let token = self.lock().entry(sid.to_owned()).or_default().clone();
        Cut { token, registered: Some((self.clone(), sid.to_owned())) }
    }

    /// Aborts the WebSocket of a connection, if it has one.
    pub(super) fn cut(&self, sid: &str) {
        if let Some(token) = self.lock().remove(sid) {
            token.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Uri;

    use super::*;

    #[test]
    fn a_detached_request_keeps_nothing_of_the_buffer_it_came_in() {
        let buffer = Bytes::from("/socket.io/?EIO=4&transport=polling".to_owned());
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_maybe_shared(buffer.clone()).expect("an address");
        let value = HeaderValue::from_maybe_shared(buffer.clone()).expect("a value");
        request.headers_mut().insert(header::USER_AGENT, value);
        assert!(!buffer.is_unique());

        let request = detached(request);
        assert!(buffer.is_unique());
        assert_eq!(
            (request.method(), request.uri().to_string()),
            (&Method::POST, "/socket.io/?EIO=4&transport=polling".to_owned())
        );
        assert!(request.headers().is_empty());
    }
}
