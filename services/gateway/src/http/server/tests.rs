//! The server from the outside, over sockets.

use axum::routing::get;
use bytes::{BufMut, Bytes, BytesMut};
use chassis::clock::Clock;
use chassis::config::Secret;
use chassis::events::Events;
use chassis::identity::{ServiceCredential, Verifier};
use chassis::profile::Profile;
use chassis::transport::Transport;
use futures_util::stream;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use http_body_util::{BodyExt, Full};
use prost::Message;
use proto::auth::v1::{CallerInfo, IntrospectRequest, IntrospectResponse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::*;
use crate::state::Gateway;
use crate::upstream::clients::Clients;

const ID: &str = "01937b6e-7c4a-7d3b-9f00-0242ac120002";

/// The longest time for which a test waits for an event that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Auth, which knows the token `ann`.
async fn introspect(request: axum::extract::Request) -> axum::response::Response {
    let frame = request.into_body().collect().await.expect("a body").to_bytes();
    let asked = IntrospectRequest::decode(frame.slice(5..)).expect("a request");
    let ann = CallerInfo { user_id: ID.to_owned(), session_id: ID.to_owned(), kind: 1, expire_millis: 0 };
    let message =
        IntrospectResponse { caller: (asked.session_token == "ann").then_some(ann) }.encode_to_vec();

    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a length"));
    frame.put_slice(&message);
    let status = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    let trailers = std::future::ready(Some(Ok(HeaderMap::from_iter([status]))));
    let mut response = Response::new(Body::new(Full::new(frame.freeze()).with_trailers(trailers)));
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The size of `/large`.
const LARGE: usize = 100_000;

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
        Self::under(Profile::Development, config).await
    }

    /// In production an address may not do more than it says.
    async fn under(profile: Profile, config: Config) -> Self {
        let config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..config };
        let config = config.under(profile).expect("a config");
        let auth = Transport::local(Router::new().fallback(introspect));
        let credential = ServiceCredential::new("gateway", &Secret::new("secret")).expect("a credential");
        let clients =
            Clients::new(auth.clone(), auth.clone(), auth.clone(), auth.clone(), credential.clone());
        let verifier = Verifier::new(auth, Some(credential));
        let gateway = Gateway::new(config, clients, verifier, Events::local(), Clock::system());
        let config = gateway.config();

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
            .route("/large", get(|| async { vec![7; LARGE] }))
            .route(
                "/later",
                get({
                    let go_on = go_on.clone();
                    move || async move {
                        let later = async move {
                            go_on.notified().await;
                            Ok::<_, Infallible>("done")
                        };
                        Body::from_stream(stream::once(later))
                    }
                }),
            )
            .route("/panics", get(async || -> &'static str { panic!("a bug") }));
        let tasks = Tasks::default();
        let ports = reserve(config).expect("ports");
        let listeners =
            ports.into_iter().map(Port::listen).collect::<Result<Vec<_>, _>>().expect("listeners");
        let address = listeners[0].local_addr().expect("an address");
        start(config, middleware::stack(config, gateway.upstream(), routes), listeners, &tasks);
        Self { address, tasks, asked, go_on }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    /// A connection from `127.0.0.<host>`.
    async fn connect_from(&self, host: u8) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).expect("an address");
        socket.connect(self.address).await.expect("a connection")
    }

    /// Asks from `127.0.0.<host>`, with a token when there is one.
    async fn get_from(&self, host: u8, token: Option<&str>) -> String {
        let mut stream = self.connect_from(host).await;
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!("GET / HTTP/1.1\r\nhost: parlor\r\n{token}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        rest(stream).await
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
    // The connection may end with a word or without one.
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
        Config { request_timeout: Duration::from_millis(50), max_stranger_requests: 1, ..Config::default() };
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
    let world = World::new(Config { drain_timeout: Duration::from_millis(50), ..Config::default() }).await;
    let mut stream = world.connect().await;
    ask(&mut stream, "/slow").await;
    world.asked.notified().await;
    assert!(world.tasks.stop(Duration::from_secs(10)).await);
    assert_eq!(rest(stream).await, "");
}

/// A client of HTTP/2 that gives each answer room for so many bytes.
async fn http2(world: &World, window: u32) -> h2::client::SendRequest<Bytes> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(1 << 20);
    let (client, connection) = builder.handshake(world.connect().await).await.expect("a connection");
    world.tasks.spawn("client", |_| async {
        let _ = connection.await;
    });
    client.ready().await.expect("ready")
}

async fn get_over(client: &mut h2::client::SendRequest<Bytes>, path: &str) -> h2::RecvStream {
    let request = Request::get(format!("http://parlor{path}")).body(()).expect("a request");
    let (response, _) = client.send_request(request, true).expect("sent");
    response.await.expect("an answer").into_body()
}

/// The number of bytes of an answer, and its end: regular, or a reset.
async fn taken(mut body: h2::RecvStream) -> (usize, Option<h2::Reason>) {
    let taken = async {
        let mut length = 0;
        while let Some(data) = body.data().await {
            match data {
                Ok(data) => length += data.len(),
                Err(error) => return (length, error.reason()),
            }
        }
        (length, None)
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("an end")
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_reset_and_no_other_of_its_connection() {
    for window in [0, 8] {
        let config = Config { send_timeout: Duration::from_millis(100), ..Config::default() };
        let world = World::new(config).await;
        let mut client = http2(&world, window).await;
        let later = get_over(&mut client, "/later").await;
        let (stuck, small) = (get_over(&mut client, "/large").await, get_over(&mut client, "/").await);
        assert_eq!(taken(stuck).await, (window as usize, Some(h2::Reason::CANCEL)));
        assert_eq!(taken(small).await.1.is_none(), window > 0, "what fits is taken");
        world.go_on.notify_one();
        let (length, end) = taken(later).await;
        let reset = (window == 0).then_some(h2::Reason::CANCEL);
        assert_eq!((length, end), (if window > 0 { 4 } else { 0 }, reset), "nothing waited until now");
    }
}

#[tokio::test]
async fn an_answer_that_fits_exactly_is_taken() {
    let config = Config { send_timeout: Duration::from_millis(100), ..Config::default() };
    let world = World::new(config).await;
    let mut client = http2(&world, LARGE as u32).await;
    assert_eq!(taken(get_over(&mut client, "/large").await).await, (LARGE, None));
}

#[tokio::test]
async fn a_connection_has_so_many_streams() {
    let world = World::new(Config { max_streams_per_connection: 3, ..Config::default() }).await;
    let mut client = http2(&world, 0).await;
    let _answer = get_over(&mut client, "/").await;
    assert_eq!(client.current_max_send_streams(), 3);
}

#[tokio::test]
async fn one_address_does_not_take_all_requests() {
    let config = Config { max_stranger_requests_per_address: 1, ..Config::default() };
    let world = World::under(Profile::Production, config).await;
    let mut first = world.connect_from(1).await;
    ask(&mut first, "/slow").await;
    world.asked.notified().await;
    let refused = world.get_from(1, None).await;
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("retry-after: 1"), "{refused}");
    assert!(refused.contains("stranger_requests_per_address"), "{refused}");
    assert!(world.get_from(1, Some("guessed")).await.starts_with("HTTP/1.1 429 "));
    assert!(world.get_from(1, Some("ann")).await.ends_with("hello"), "a user is no stranger");
    assert!(world.get_from(2, None).await.ends_with("hello"));
    world.go_on.notify_one();
    assert!(rest(first).await.ends_with("done"));
    assert!(world.get_from(1, None).await.ends_with("hello"));
}

#[tokio::test]
async fn users_of_one_address_do_not_take_all_requests() {
    let config = Config { max_requests_per_address: 1, ..Config::default() };
    let world = World::under(Profile::Production, config).await;
    let mut first = world.connect_from(1).await;
    ask(&mut first, "/slow").await;
    world.asked.notified().await;
    let refused = world.get_from(1, Some("ann")).await;
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("requests_per_address"), "{refused}");
    assert!(world.get_from(2, Some("ann")).await.ends_with("hello"));
    world.go_on.notify_one();
}

#[tokio::test]
async fn strangers_do_not_take_the_slots_of_users() {
    let world = World::new(Config { max_stranger_requests: 1, ..Config::default() }).await;
    let mut first = world.connect().await;
    ask(&mut first, "/slow").await;
    world.asked.notified().await;
    let refused = world.get("/").await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: 1"), "{refused}");
    assert!(world.get_from(1, Some("ann")).await.ends_with("hello"));
    world.go_on.notify_one();
}

#[tokio::test]
async fn a_proxy_carries_the_requests_of_many_addresses() {
    let config = Config {
        max_stranger_requests_per_address: 1,
        max_connections_per_address: 1,
        trusted_proxies: vec!["127.0.0.1/32".parse().expect("a network")],
        ..Config::default()
    };
    let world = World::under(Profile::Production, config).await;
    let of = async |client: &str, path: &str| {
        let mut stream = world.connect_from(1).await;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: parlor\r\nx-forwarded-for: {client}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("written");
        stream
    };
    let first = of("2001:db8::1", "/slow").await;
    world.asked.notified().await;
    assert!(rest(of("2001:db8::2", "/").await).await.starts_with("HTTP/1.1 429 "), "one /64");
    assert!(rest(of("2001:db8:0:1::1", "/").await).await.ends_with("hello"));
    world.go_on.notify_one();
    assert!(rest(first).await.ends_with("done"));
}

#[tokio::test]
async fn a_full_server_closes_the_idlest_connection_of_the_fullest_address() {
    let config = Config { max_connections: 4, header_timeout: 2 * PATIENCE, ..Config::default() };
    let world = World::new(config).await;
    let mut other = world.connect_from(2).await;
    get_and_stay(&mut other, None).await;
    let mut users = world.connect_from(1).await;
    get_and_stay(&mut users, Some("ann")).await;
    // They are accepted in this order, and the later one asks later.
    let mut silent = world.connect_from(1).await;
    get_and_stay(&mut silent, None).await;
    let mut busy = world.connect_from(1).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    get_and_stay(&mut busy, None).await;

    assert!(world.get_from(3, None).await.ends_with("hello"));
    assert_eq!(rest(silent).await, "", "it has given way");
    for mut stream in [other, users, busy] {
        ask(&mut stream, "/").await;
        assert!(rest(stream).await.ends_with("hello"));
    }
}

#[tokio::test]
async fn silent_connections_of_one_address_keep_nothing_from_others() {
    let config = Config {
        max_connections: 20,
        max_connections_per_address: 10,
        header_timeout: 2 * PATIENCE,
        ..Config::default()
    };
    let world = World::under(Profile::Production, config).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(world.connect_from(1).await);
    }
    assert!(world.get_from(2, None).await.ends_with("hello"));
    assert!(world.get_from(1, None).await.ends_with("hello"), "nor from others of the address");
}

#[tokio::test]
async fn an_address_with_too_many_connections_of_users_is_refused_one_more() {
    let config = Config { max_connections_per_address: 1, ..Config::default() };
    let world = World::under(Profile::Production, config).await;
    let mut users = world.connect_from(1).await;
    get_and_stay(&mut users, Some("ann")).await;
    let refused = rest(world.connect_from(1).await).await;
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("retry-after: 5"), "{refused}");
    assert!(refused.contains("connections_per_address"), "{refused}");
    assert!(world.get_from(2, None).await.ends_with("hello"));
}

/// Asks for `/` and keeps the connection.
async fn get_and_stay(stream: &mut TcpStream, token: Option<&str>) {
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    stream
        .write_all(format!("GET / HTTP/1.1\r\nhost: parlor\r\n{token}\r\n").as_bytes())
        .await
        .expect("written");
    let mut text = String::new();
    while !text.ends_with("hello") {
        let mut bytes = [0; 1024];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut bytes)).await.expect("an answer");
        let read = read.expect("read");
        assert_ne!(read, 0, "{text}");
        text.push_str(std::str::from_utf8(&bytes[..read]).expect("UTF-8"));
    }
}

#[tokio::test]
async fn a_slow_header_on_a_used_connection_ends_in_time() {
    let config = Config { header_timeout: Duration::from_millis(50), ..Config::default() };
    let world = World::new(config).await;
    let mut stream = world.connect().await;
    get_and_stay(&mut stream, None).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: par").await.expect("written");
    assert!(!rest(stream).await.contains("200"));
}
