//! Serving HTTP: the connections, and what surrounds every request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use chassis::tasks::{Shutdown, Tasks};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::config::Config;
use crate::http::middleware;
use crate::http::middleware::client_ip::Peer;

/// How long a connection may stay open between two requests: longer than proxies and browsers keep theirs, so that it is
/// they who close it.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How long to wait before accepting again when the system refuses: it is out of file handles, most likely.
const BREATHER: Duration = Duration::from_millis(50);

/// Listens where the configuration says.
pub(crate) async fn bind(config: &Config) -> anyhow::Result<Vec<TcpListener>> {
    let listener = TcpListener::bind(config.listen).await;
    let mut listeners = vec![listener.with_context(|| format!("cannot listen at {}", config.listen))?];
    if let Some(also) = config.listen_also {
        match TcpListener::bind(also).await {
            Ok(listener) => listeners.push(listener),
            Err(error) => tracing::info!(%error, "{also} is taken: listening at {} only", config.listen),
        }
    }
    Ok(listeners)
}

/// Serves until the tasks are stopped.
pub(crate) fn start(config: &Config, router: Router, listeners: Vec<TcpListener>, tasks: &Tasks) {
    middleware::metrics::describe();
    let slots = Arc::new(Semaphore::new(config.max_connections));
    for listener in listeners {
        let server = Server { router: router.clone(), slots: slots.clone(), config: config.clone() };
        tasks.spawn("http", |shutdown| server.run(listener, shutdown));
    }
}

struct Server {
    router: Router,
    slots: Arc<Semaphore>,
    config: Config,
}

impl Server {
    async fn run(self, listener: TcpListener, shutdown: Shutdown) {
        let protocol = protocol();
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.wait() => break,
                accepted = self.accept(&listener) => accepted,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, peer, slot)) => {
                    let connection = Connection { stream, peer, slot, watcher: graceful.watcher() };
                    connections.spawn(connection.serve(
                        protocol.clone(),
                        self.router.clone(),
                        self.config.header_timeout,
                    ));
                }
                Err(error) if has_gone(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }

        // From here on nobody new is let in; who is inside may finish.
        drop(listener);
        if tokio::time::timeout(self.config.drain_timeout, graceful.shutdown()).await.is_err() {
            tracing::warn!(connections = connections.len(), "requests have not finished in time");
        }
    }

    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        // Whoever finds no slot waits in the system's queue.
        let slot = self.slots.clone().acquire_owned().await.map_err(std::io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        // It fails for one that has gone again; then the first read says so.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer, slot))
    }
}

/// Whether the client went away before it was let in: nothing that is about us.
fn has_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn protocol() -> auto::Builder<TokioExecutor> {
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    protocol.http1().timer(TokioTimer::new()).header_read_timeout(KEEP_ALIVE).max_buf_size(64 * 1024);
    protocol
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(25)))
        .keep_alive_timeout(Duration::from_secs(20))
        // Without a number of ours there would be no bound at all.
        .max_concurrent_streams(128)
        .max_header_list_size(16 * 1024);
    protocol
}

/// One connection.
struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    slot: OwnedSemaphorePermit,
    watcher: Watcher,
}

impl Connection {
    async fn serve(self, protocol: auto::Builder<TokioExecutor>, router: Router, header_timeout: Duration) {
        let _slot = self.slot;
        let (peer, has_asked) = (Peer(self.peer), Arc::new(AtomicBool::new(false)));
        let asked = has_asked.clone();
        let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            router.clone().oneshot(request)
        });

        let connection = protocol.serve_connection_with_upgrades(TokioIo::new(self.stream), service);
        let connection = self.watcher.watch(connection.into_owned());
        tokio::select! {
            ended = connection => {
                if let Err(error) = ended {
                    tracing::debug!(error, "a connection ended");
                }
            }
            () = silence(header_timeout, &has_asked) => tracing::debug!("a connection asked nothing in time"),
        }
    }
}

/// Ends when a connection has not asked for anything in time; does not end for one that has.
async fn silence(patience: Duration, has_asked: &AtomicBool) {
    tokio::time::sleep(patience).await;
    if has_asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use chassis::profile::Profile;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    use super::*;

    /// A server of a few routes of the test's own.
    struct World {
        address: SocketAddr,
        tasks: Tasks,
        /// `/slow` has been asked.
        asked: Arc<Notify>,
        /// `/slow` may answer.
        go_on: Arc<Notify>,
    }

    impl World {
        async fn new(config: Config) -> Self {
            let config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..config };
            let config = Arc::new(config.under(Profile::Development).expect("a config"));

            let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let slow = {
                let (asked, go_on) = (asked.clone(), go_on.clone());
                move || async move {
                    asked.notify_one();
                    go_on.notified().await;
                    "done"
                }
            };
            let routes = Router::new()
                .route("/", get(|| async { "hello" }))
                .route("/slow", get(slow.clone()))
                .route("/socket.io/", get(slow))
                .route("/panics", get(async || -> &'static str { panic!("a bug") }));
            let tasks = Tasks::default();
            let listeners = bind(&config).await.expect("listeners");
            let address = listeners[0].local_addr().expect("an address");
            start(&config, middleware::stack(&config, routes), listeners, &tasks);
            Self { address, tasks, asked, go_on }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.expect("a connection")
        }

        async fn get(&self, path: &str) -> String {
            let mut stream = self.connect().await;
            ask(&mut stream, path).await;
            rest(stream).await
        }
    }

    async fn ask(stream: &mut TcpStream, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: parlor\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
    }

    /// Everything until the connection is closed.
    async fn rest(mut stream: TcpStream) -> String {
        let mut text = String::new();
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut text)).await;
        // Whether the connection ends with a word or without one makes no difference.
        let _ = read.expect("the connection is closed");
        text
    }

    #[tokio::test]
    async fn a_request_is_answered() {
        let world = World::new(Config::default()).await;
        let answer = world.get("/").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
        assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
        assert!(world.get("/nowhere").await.contains("ERROR_REASON_ROUTE_NOT_FOUND"));
    }

    #[tokio::test]
    async fn a_panic_is_the_failure_of_one_request() {
        let world = World::new(Config::default()).await;
        let answer = world.get("/panics").await;
        assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("ERROR_REASON_INTERNAL"), "{answer}");
        assert!(!answer.contains("a bug"), "{answer}");
        assert!(world.get("/").await.ends_with("hello"));
    }

    #[tokio::test]
    async fn what_takes_too_long_is_given_up() {
        let config = Config { request_timeout: Duration::from_millis(50), ..Config::default() };
        let answer = World::new(config).await.get("/slow").await;
        assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("DEADLINE_EXCEEDED"), "{answer}");
    }

    #[tokio::test]
    async fn a_poll_of_socket_io_waits_past_the_request_timeout_and_takes_no_slot() {
        let config =
            Config { request_timeout: Duration::from_millis(50), max_requests: 1, ..Config::default() };
        let world = World::new(config).await;
        let mut poll = world.connect().await;
        ask(&mut poll, "/socket.io/?EIO=4&transport=polling").await;
        world.asked.notified().await;
        assert!(world.get("/").await.ends_with("hello"), "the slot is free");
        let waits = tokio::time::timeout(Duration::from_millis(200), poll.readable()).await;
        assert!(waits.is_err(), "answered by the timeout");
        world.go_on.notify_one();
        assert!(rest(poll).await.ends_with("done"));
    }

    #[tokio::test]
    async fn who_says_nothing_is_sent_away() {
        let config = Config { header_timeout: Duration::from_millis(50), ..Config::default() };
        let world = World::new(config).await;
        assert_eq!(rest(world.connect().await).await, "");
        let mut stream = world.connect().await;
        stream.write_all(b"POST / HTTP/1.1\r\nhost: par").await.expect("written");
        assert!(!rest(stream).await.contains("200"));
    }

    #[tokio::test]
    async fn a_connection_that_has_asked_may_rest() {
        let config = Config { header_timeout: Duration::from_millis(50), ..Config::default() };
        let world = World::new(config).await;
        let mut stream = world.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: parlor\r\n\r\n").await.expect("written");
        tokio::time::sleep(Duration::from_millis(200)).await;
        ask(&mut stream, "/").await;
        assert_eq!(rest(stream).await.matches("hello").count(), 2);
    }

    #[tokio::test]
    async fn who_finds_no_slot_waits() {
        let world = World::new(Config { max_connections: 1, ..Config::default() }).await;
        let mut first = world.connect().await;
        ask(&mut first, "/slow").await;
        world.asked.notified().await;
        let mut second = world.connect().await;
        ask(&mut second, "/").await;
        let waits = tokio::time::timeout(Duration::from_millis(100), second.readable()).await;
        assert!(waits.is_err(), "answered while the first was under way");
        world.go_on.notify_one();
        assert!(rest(first).await.ends_with("done"));
        assert!(rest(second).await.ends_with("hello"));
    }

    #[tokio::test]
    async fn what_is_under_way_is_finished_when_the_gateway_goes() {
        let world = World::new(Config::default()).await;
        let mut stream = world.connect().await;
        ask(&mut stream, "/slow").await;
        world.asked.notified().await;
        let going = world.tasks.stop(Duration::from_secs(10));
        let answered = async {
            while TcpStream::connect(world.address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            world.go_on.notify_one();
            rest(stream).await
        };
        let (has_gone, answer) = tokio::join!(going, answered);
        assert!(has_gone);
        assert!(answer.ends_with("done"), "{answer}");
    }

    #[tokio::test]
    async fn what_does_not_finish_is_cut_off() {
        let world =
            World::new(Config { drain_timeout: Duration::from_millis(50), ..Config::default() }).await;
        let mut stream = world.connect().await;
        ask(&mut stream, "/slow").await;
        world.asked.notified().await;
        assert!(world.tasks.stop(Duration::from_secs(10)).await);
        assert_eq!(rest(stream).await, "");
    }
}
