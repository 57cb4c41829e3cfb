//! Services that break, go and come back, over real connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proto::auth::v1::auth_service_client::AuthServiceClient;
use proto::auth::v1::{ListSessionsRequest, LoginRequest};
use proto::messaging::v1::SendMessagesRequest;
use proto::messaging::v1::messaging_service_client::MessagingServiceClient;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request};

use super::*;

/// A service with a runtime of its own, which answers everything with NOT_FOUND and counts it.
struct Served {
    url: String,
    seen: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl Served {
    fn start() -> Self {
        Self::at("127.0.0.1:0")
    }

    fn at(address: &str) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        let routes = axum::Router::new().fallback(move || {
            count.fetch_add(1, Ordering::Relaxed);
            async { [("content-type", "application/grpc"), ("grpc-status", "5")] }
        });
        runtime.spawn(async move {
            let incoming = TcpIncoming::from(TcpListener::from_std(listener).unwrap());
            Server::builder().add_routes(Routes::from(routes)).serve_with_incoming(incoming).await.unwrap();
        });
        Self { url, seen, runtime: Some(runtime) }
    }

    fn seen(&self) -> usize {
        self.seen.load(Ordering::Relaxed)
    }

    /// Ends at once, with its connections; gives its address.
    async fn kill(mut self) -> String {
        let address = self.url.trim_start_matches("http://").to_owned();
        if let Some(runtime) = self.runtime.take() {
            tokio::task::spawn_blocking(|| drop(runtime)).await.unwrap();
        }
        address
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A service that accepts every connection and does this with it.
async fn breaking<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static,
) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut work = JoinSet::new();
    work.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream));
        }
    });
    (url, work)
}

/// Takes the beginning of a request, and closes the connection.
async fn take_and_close(mut stream: tokio::net::TcpStream) {
    // The first bytes are the preface and the settings of the client; the request comes with or after them.
    for _ in 0..3 {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes);
        if !matches!(tokio::time::timeout(Duration::from_millis(200), read).await, Ok(Ok(1..))) {
            break;
        }
    }
}

async fn change(transport: &Transport) -> Code {
    AuthServiceClient::new(transport.clone()).login(LoginRequest::default()).await.unwrap_err().code()
}

async fn read(transport: &Transport) -> Code {
    let mut client = AuthServiceClient::new(transport.clone());
    client.list_sessions(ListSessionsRequest::default()).await.unwrap_err().code()
}

async fn ask_one<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static,
) -> Code {
    let (url, _work) = breaking(serve).await;
    change(&Transport::remote(&[url], None).unwrap()).await
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_service_that_is_not_available() {
    assert_eq!(ask_one(|stream| async { drop(stream) }).await, Code::Unavailable);
    assert_eq!(ask_one(take_and_close).await, Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_answer_takes_too_long() {
    let code = ask_one(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    assert_eq!(code.await, Code::DeadlineExceeded);
}

#[tokio::test]
async fn requests_go_to_all_addresses() {
    let (one, two) = (Served::start(), Served::start());
    let transport = Transport::remote(&[one.url.clone(), two.url.clone()], None).unwrap();
    for _ in 0..20 {
        assert_eq!(change(&transport).await, Code::NotFound);
    }
    assert!(one.seen() >= 5 && two.seen() >= 5, "{} and {}", one.seen(), two.seen());
}

#[tokio::test]
async fn with_one_of_two_dead_no_request_fails() {
    let (one, two) = (Served::start(), Served::start());
    let transport = Transport::remote(&[one.url.clone(), two.url.clone()], None).unwrap();
    for _ in 0..10 {
        assert_eq!(change(&transport).await, Code::NotFound);
    }
    let address = one.kill().await;
    for _ in 0..200 {
        assert_eq!(change(&transport).await, Code::NotFound);
    }
    // It comes back, and is used again.
    let one = Served::at(&address);
    let used = async {
        while one.seen() == 0 {
            change(&transport).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), used).await.expect("the address is used again");
}

#[tokio::test]
async fn a_stream_that_nothing_was_read_of_goes_to_another_address() {
    let two = Served::start();
    let nowhere = "http://127.0.0.1:1".to_owned();
    let transport = Transport::remote(&[nowhere, two.url.clone()], None).unwrap();
    for sent in 1..=5 {
        let stream = tokio_stream::iter([SendMessagesRequest::default()]);
        let refused = MessagingServiceClient::new(transport.clone()).send_messages(stream).await.unwrap_err();
        assert_eq!((refused.code(), two.seen()), (Code::NotFound, sent));
    }
}

#[tokio::test]
async fn only_what_may_be_repeated_is_repeated_after_it_was_sent() {
    let two = Served::start();
    let (breaks, _work) = breaking(take_and_close).await;
    // Each with connections of its own, of which the first goes to the one that breaks.
    let transport = || Transport::remote(&[breaks.clone(), two.url.clone()], None).unwrap();
    assert_eq!(read(&transport()).await, Code::NotFound);
    assert_eq!(change(&transport()).await, Code::Unavailable);
    let mut login = Request::new(LoginRequest::default());
    login.extensions_mut().insert(Repeatable);
    assert_eq!(AuthServiceClient::new(transport()).login(login).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_name_leads_to_its_addresses() {
    let one = Served::start();
    let url = one.url.replace("127.0.0.1", "localhost");
    let transport = Transport::remote(&[url], None).unwrap();
    for _ in 0..20 {
        assert_eq!(change(&transport).await, Code::NotFound);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
