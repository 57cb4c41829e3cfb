//! The server as a client sees it on the wire. The dialect is the playground, as far as it needs no service.

use std::net::SocketAddr;
use std::time::Duration;

use chassis::clock::Clock;
use chassis::config::Secret;
use chassis::events::Events;
use chassis::identity::{ServiceCredential, Verifier};
use chassis::profile::Profile;
use chassis::transport::Transport;
use chassis::unit::Unit;
use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::config::{Config, SocketsConfig};
use crate::{Deps, reserve, start};

const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway without services behind it.
struct World {
    unit: Unit,
    address: SocketAddr,
}

impl World {
    async fn new(profile: Profile, config: Config) -> Self {
        let nowhere = Transport::local(axum::Router::new());
        let deps = Deps {
            auth: nowhere.clone(),
            conversation: nowhere.clone(),
            messaging: nowhere.clone(),
            scheduling: nowhere.clone(),
            credential: ServiceCredential::new("gateway", &Secret::new("secret")).expect("a credential"),
            verifier: Verifier::new(nowhere, None),
            events: Events::local(),
            clock: Clock::system(),
        };
        let config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..config };
        let reserved = reserve(config, profile).expect("ports");
        let unit = start(reserved, deps).await.expect("a unit");
        Self { address: unit.listening[0].1, unit }
    }

    async fn development() -> Self {
        Self::new(Profile::Development, Config::default()).await
    }

    /// A world in which an address may have one connection that is not signed in.
    async fn narrow() -> Self {
        let sockets = SocketsConfig { unauthenticated_per_address: 1, ..SocketsConfig::default() };
        Self::new(Profile::Production, Config { sockets, ..Config::default() }).await
    }

    fn url(&self, scheme: &str, query: &str) -> String {
        format!("{scheme}://{}/socket.io/?EIO=4&transport={query}", self.address)
    }

    async fn socket(&self) -> Socket {
        self.try_socket().await.expect("a socket")
    }

    async fn try_socket(&self) -> Option<Socket> {
        let (stream, _) = connect_async(self.url("ws", "websocket")).await.ok()?;
        let mut socket = Socket { stream };
        assert!(socket.text().await.starts_with("0{"), "the connection is opened first");
        socket.send("40").await;
        assert!(socket.text().await.starts_with("40{\"sid\":"), "the namespace is connected");
        Some(socket)
    }

    /// Waits until a slot is free, and takes it.
    async fn freed(&self) -> Socket {
        let freed = async {
            loop {
                match self.try_socket().await {
                    Some(socket) => return socket,
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, freed).await.expect("the slot is given back")
    }

    async fn poll(&self, sid: &str) -> (StatusCode, String) {
        let url = self.url("http", &format!("polling{}", if sid.is_empty() { "" } else { "&sid=" }));
        let answer = reqwest::get(format!("{url}{sid}")).await.expect("an answer");
        (answer.status(), answer.text().await.expect("a text"))
    }

    async fn post(&self, sid: &str, body: String) -> StatusCode {
        let url = self.url("http", &format!("polling&sid={sid}"));
        reqwest::Client::new().post(url).body(body).send().await.expect("an answer").status()
    }

    /// The packets received by polling, without pings, which are answered.
    async fn polled(&self, sid: &str) -> Vec<String> {
        loop {
            let (status, text) = self.poll(sid).await;
            assert_eq!(status, StatusCode::OK, "{text}");
            let packets = text.split('\u{1e}').map(str::to_owned);
            let (pings, packets): (Vec<_>, Vec<_>) = packets.partition(|packet| packet == "2");
            if !pings.is_empty() {
                assert_eq!(self.post(sid, "3".to_owned()).await, StatusCode::OK);
            }
            if !packets.is_empty() {
                return packets;
            }
        }
    }

    /// Opens a connection by polling, and gives its id.
    async fn polling(&self) -> String {
        let (status, opened) = self.poll("").await;
        assert_eq!(status, StatusCode::OK, "{opened}");
        let opened: Value = serde_json::from_str(&opened[1..]).expect("json");
        let sid = opened["sid"].as_str().expect("an id").to_owned();
        assert_eq!(self.post(&sid, "40".to_owned()).await, StatusCode::OK);
        assert!(self.polled(&sid).await[0].starts_with("40{"));
        sid
    }
}

struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    async fn send(&mut self, text: impl Into<String>) {
        self.stream.send(Message::text(text.into())).await.expect("sent");
    }

    async fn event(&mut self, event: &Value) {
        self.send(format!("42{event}")).await;
    }

    async fn next(&mut self) -> Option<Message> {
        tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("in time")?.ok()
    }

    /// The next packet that is no ping.
    async fn text(&mut self) -> String {
        loop {
            let text = self.next().await.expect("a message").into_text().expect("a text").to_string();
            match text.as_str() {
                "2" => self.send("3").await,
                _ => return text,
            }
        }
    }

    /// The next event.
    async fn heard(&mut self) -> Value {
        let text = self.text().await;
        serde_json::from_str(text.strip_prefix("42").expect(&text)).expect("json")
    }

    async fn is_alive(&mut self) {
        self.event(&echo("alive")).await;
        loop {
            if self.heard().await == echoed("alive") {
                return;
            }
        }
    }
}

fn echo(text: &str) -> Value {
    json!(["sendMessage", {"text": format!("!echo {text}")}])
}

fn echoed(text: &str) -> Value {
    json!(["system", {"type": "info", "text": text}])
}

#[tokio::test]
async fn events_are_carried_out_in_their_order() {
    let world = World::development().await;
    let mut socket = world.socket().await;
    for number in 0..300 {
        socket.event(&echo(&number.to_string())).await;
        // No more than the client may have waiting for it.
        if number % 100 == 99 {
            for expected in number - 99..=number {
                assert_eq!(socket.heard().await, echoed(&expected.to_string()));
            }
        }
    }
}

#[tokio::test]
async fn an_event_is_answered_when_the_client_waits_for_it() {
    let world = World::development().await;
    let mut socket = world.socket().await;
    socket.send(format!("427{}", echo("x"))).await;
    assert_eq!(socket.heard().await, echoed("x"));
    assert_eq!(socket.text().await, r#"437[{"success":true}]"#);
    socket.send(r#"428["nothing"]"#).await;
    assert_eq!(socket.heard().await[0], "system");
    assert!(socket.text().await.starts_with(r#"438[{"error":"#));
}

#[tokio::test]
async fn odd_events_are_answered_and_drop_nothing() {
    let world = World::development().await;
    let mut socket = world.socket().await;
    for odd in [
        r#"42["nothing"]"#,
        r#"42["nothing",1,2,3,4,5,6,7,8,9,10]"#,
        r#"42["sendMessage"]"#,
        r#"42["sendMessage",null]"#,
        r#"42["sendMessage","a text"]"#,
        r#"42["sendMessage",{"text":{}}]"#,
        r#"42["sendMessage",1,2,3,4,5,6,7,8,9,10]"#,
        r#"42["",{}]"#,
    ] {
        socket.send(odd).await;
        let heard = socket.heard().await;
        assert!(heard[0] == "error" || heard[1]["type"] == "error", "{odd}: {heard}");
    }
    socket.send(r#"451-["sendMessage",{"text":{"_placeholder":true,"num":0}}]"#).await;
    socket.stream.send(Message::binary(vec![1, 2, 3])).await.expect("sent");
    assert_eq!(socket.heard().await[1]["type"], "error");
    socket.is_alive().await;
}

#[tokio::test]
async fn polling_carries_the_same() {
    let world = World::development().await;
    let sid = world.polling().await;
    let body = format!("42{}\u{1e}42{}", echo("1"), echo("2"));
    assert_eq!(world.post(&sid, body).await, StatusCode::OK);
    let mut heard = world.polled(&sid).await;
    if heard.len() == 1 {
        heard.extend(world.polled(&sid).await);
    }
    assert_eq!(heard, [format!("42{}", echoed("1")), format!("42{}", echoed("2"))]);
    assert_eq!(world.poll("AAAAAAAAAAAAAAHs").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_connection_that_polls_is_upgraded() {
    let world = World::development().await;
    let sid = world.polling().await;
    let url = world.url("ws", &format!("websocket&sid={sid}"));
    let (stream, _) = connect_async(url).await.expect("a socket");
    let mut socket = Socket { stream };
    socket.send("2probe").await;
    assert_eq!(socket.text().await, "3probe");
    socket.send("5").await;
    socket.is_alive().await;
}

#[tokio::test]
async fn a_message_beyond_the_bound_closes_its_connection_only() {
    let world = World::development().await;
    let (mut socket, mut other) = (world.socket().await, world.socket().await);
    let large = "x".repeat(100 * 1024);
    socket.event(&echo(&large)).await;
    assert_eq!(socket.heard().await, echoed(&large), "within the bound");

    let sent = socket.stream.send(Message::text("x".repeat(1024 * 1024))).await;
    assert!(sent.is_ok(), "{sent:?}");
    match socket.next().await {
        Some(Message::Close(Some(frame))) => assert_eq!(frame.code, CloseCode::Size),
        other => panic!("{other:?}"),
    }
    other.is_alive().await;

    let sid = world.polling().await;
    assert_eq!(world.post(&sid, "x".repeat(600 * 1024)).await, StatusCode::PAYLOAD_TOO_LARGE);
    other.is_alive().await;
}

#[tokio::test]
async fn a_page_of_a_foreign_origin_opens_no_connection() {
    let world = World::narrow().await;
    let mut request = world.url("ws", "websocket").into_client_request().expect("a request");
    request.headers_mut().insert("origin", "https://evil.example".parse().expect("a header"));
    let refused = connect_async(request).await.expect_err("refused");
    assert!(refused.to_string().contains("403"), "{refused}");
    let answer = reqwest::Client::new().get(world.url("http", "polling"));
    let answer = answer.header("origin", "https://evil.example").send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    world.socket().await.is_alive().await;
}

#[tokio::test]
async fn a_slot_is_taken_as_long_as_the_connection_lives() {
    let world = World::narrow().await;
    let socket = world.socket().await;
    assert_eq!(world.poll("").await.0, StatusCode::TOO_MANY_REQUESTS);
    assert!(connect_async(world.url("ws", "websocket")).await.is_err());
    drop(socket);
    world.freed().await.is_alive().await;
}

#[tokio::test]
async fn a_client_that_leaves_the_namespace_keeps_its_slot() {
    let world = World::narrow().await;
    let mut socket = world.socket().await;
    socket.send("41").await;
    socket.send("40").await;
    assert!(socket.text().await.starts_with("40{"), "the namespace is connected again");
    socket.is_alive().await;
    assert_eq!(world.poll("").await.0, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_dropped() {
    let world = World::narrow().await;
    let mut socket = world.socket().await;
    let large = "x".repeat(100 * 1024);
    let event = format!("42{}", echo(&large));
    // Goes on until the connection fails: the buffers of the system hold much.
    let flood = async {
        while socket.stream.send(Message::text(event.clone())).await.is_ok() {}
        std::future::pending::<()>().await
    };
    tokio::select! {
        () = flood => unreachable!("it does not end"),
        mut freed = world.freed() => freed.is_alive().await,
    }
}

#[tokio::test]
async fn what_is_no_event_ends_the_connection() {
    let world = World::narrow().await;
    for packet in ["42{}", "42[1]", "42[]", "4x", "nonsense"] {
        let mut socket = world.freed().await;
        socket.send(packet).await;
        while socket.next().await.is_some() {}
    }
}

#[tokio::test]
async fn all_connections_close_when_the_gateway_goes() {
    let world = World::development().await;
    let mut socket = world.socket().await;
    let sid = world.polling().await;
    // The first ping may have come already.
    world.post(&sid, format!("42{}", echo("x"))).await;
    world.polled(&sid).await;
    let poll = reqwest::get(world.url("http", &format!("polling&sid={sid}")));
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        world.unit.tasks.stop(Duration::from_secs(3)).await
    };
    let (answer, stopped) = tokio::join!(poll, stop);
    assert!(stopped);
    assert_eq!(answer.expect("a poll that waits is answered").status(), StatusCode::OK);
    while socket.next().await.is_some() {}
}

#[tokio::test]
async fn the_client_library_is_served() {
    let world = World::development().await;
    let of = |name: &str| reqwest::get(format!("http://{}/socket.io/{name}", world.address));
    let answer = of("socket.io.min.js").await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.text().await.expect("a text").contains("Released under the MIT License"));
    assert_eq!(of("other.js").await.expect("an answer").status(), StatusCode::NOT_FOUND);
}
