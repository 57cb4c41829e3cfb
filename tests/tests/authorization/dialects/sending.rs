//! Sending the request of an operation, as clients of the dialect do.
//!
//! A request over HTTP is `{"POST": [<segment>...], "query": {}, "body": {}}`, where `"numbered": [<conversation>,
//! <message>]` adds the id that the playground has for a message. `{"operation": <name>, "body": {}}` is one of allo, over
//! HTTP and as an event; `{"event": <name>, "body": {}, "joined": <room>}` one of the playground's socket, and
//! `{"action": <name>, "body": {}}` one of talkamie's.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt, StreamExt};
use reqwest::{Method, Url};
use serde_json::{Value, json};
use tests::node;
use tests::socketio::SocketIo;
use tokio::sync::Mutex;
use tokio_tungstenite::tungstenite::Message;

use crate::case::Case;
use crate::door::Outcome;
use crate::role::Expected;

/// The time that an answer on a socket may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A way in which an operation is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A request over HTTP.
    Http,
    /// An event on Socket.IO, of allo or of the playground.
    Event,
    /// An action on the socket of talkamie.
    Action,
}

/// The ways in which a request can be sent.
pub fn ways(case: &Case) -> &'static [Way] {
    let begins = |key: &str| case.request.contains(&format!("\"{key}\":"));
    match (begins("operation"), begins("event"), begins("action")) {
        (true, ..) if node::has_clients() => &[Way::Http, Way::Event],
        (_, true, _) if node::has_clients() => &[Way::Event],
        (_, true, _) => &[],
        (.., true) => &[Way::Action],
        _ => &[Way::Http],
    }
}

/// The clients of the dialects.
#[derive(Debug, Default)]
pub struct Clients {
    http: reqwest::Client,
    sockets: Mutex<Option<SocketIo>>,
    connections: AtomicUsize,
}

impl Clients {
    /// Sends a request with this token. One for which a slow machine had no time is sent again: that says nothing about
    /// rights.
    pub async fn send(
        &self,
        gateway: SocketAddr,
        way: Way,
        token: Option<&str>,
        request: &Value,
    ) -> anyhow::Result<Outcome> {
        const TIMES: u32 = 20;
        for _ in 0..TIMES {
            let outcome = self.send_once(gateway, way, token, request).await?;
            let is_late = outcome.code == "0" && is_late(&outcome.said);
            if !is_late && !matches!(outcome.code.as_str(), "503" | "504") {
                return Ok(outcome);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        bail!("no time for {request}")
    }

    async fn send_once(
        &self,
        gateway: SocketAddr,
        way: Way,
        token: Option<&str>,
        request: &Value,
    ) -> anyhow::Result<Outcome> {
        match way {
            Way::Http => self.by_http(gateway, token, request).await,
            Way::Event => self.by_event(gateway, token, request).await,
            Way::Action => by_action(gateway, token, request).await,
        }
    }

    async fn by_http(
        &self,
        gateway: SocketAddr,
        token: Option<&str>,
        request: &Value,
    ) -> anyhow::Result<Outcome> {
        let (method, path) = method_and_path(request)?;
        let mut url = Url::parse(&format!("http://{gateway}"))?;
        url.path_segments_mut().map_err(|()| anyhow::anyhow!("no path"))?.extend(path);
        for (name, value) in request["query"].as_object().into_iter().flatten() {
            url.query_pairs_mut().append_pair(name, value.as_str().unwrap_or_default());
        }
        let mut sent = self.http.request(method, url);
        if let Some(token) = token {
            // Each dialect looks at one of the two.
            sent = sent.bearer_auth(token).header("token", token);
        }
        if let Some(body) = request.get("body") {
            sent = sent.json(body);
        }
        let response = sent.send().await?;
        Ok(outcome(response.status().as_u16().into(), response.text().await?))
    }

    async fn by_event(
        &self,
        gateway: SocketAddr,
        token: Option<&str>,
        request: &Value,
    ) -> anyhow::Result<Outcome> {
        let mut sockets = self.sockets.lock().await;
        let sockets = sockets.get_or_insert_with(|| SocketIo::start(gateway));
        let name = format!("connection {}", self.connections.fetch_add(1, Ordering::Relaxed));
        // A token in the handshake makes it a connection of allo; one of the playground logs in by an event.
        let is_allo = request.get("operation").is_some();
        let auth = token.filter(|_| is_allo).map_or(json!({}), |token| json!({ "token": token }));
        sockets.connects(&name, json!({ "transports": ["websocket"], "auth": auth })).await;
        sockets.hears(&name, "connect").await;
        if let Some(token) = token.filter(|_| !is_allo) {
            sockets.asks(&name, "login", json!({ "token": token })).await;
        }
        if let Some(room) = request.get("joined") {
            let joined = sockets.asks(&name, "join", json!({ "uid": room })).await.to_string();
            if is_late(&joined) {
                sockets.closes(&name).await;
                return Ok(outcome(0, joined));
            }
        }
        let event = if is_allo { &request["operation"] } else { &request["event"] };
        let event = event.as_str().context("the name of an event")?;
        let answer = sockets.asks(&name, event, request["body"].clone()).await;
        sockets.closes(&name).await;
        sockets.forgets(&name);
        // An event that is refused is answered without a status.
        Ok(outcome(if answer.get("error").is_none_or(Value::is_null) { 200 } else { 0 }, answer.to_string()))
    }
}

/// True for the answer to an event for which there was no time.
fn is_late(answer: &str) -> bool {
    answer.contains("took too long")
}

fn outcome(status: i64, said: String) -> Outcome {
    Outcome { code: status.to_string(), reason: String::new(), said }
}

fn method_and_path(request: &Value) -> anyhow::Result<(Method, Vec<&str>)> {
    if let Some(operation) = request["operation"].as_str() {
        return Ok((Method::POST, vec!["api", "chat", operation]));
    }
    for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        if let Some(path) = request[method.as_str()].as_array() {
            return Ok((method, path.iter().filter_map(Value::as_str).collect()));
        }
    }
    bail!("a request without a method: {request}")
}

async fn by_action(gateway: SocketAddr, token: Option<&str>, request: &Value) -> anyhow::Result<Outcome> {
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{gateway}/talkamie/ws")).await?;
    let token = token.unwrap_or_default();
    let signed_in = asked(&mut socket, "authenticate", json!({ "token": token })).await?;
    if signed_in.code != "200" {
        return Ok(signed_in);
    }
    let action = request["action"].as_str().context("the name of an action")?;
    let outcome = asked(&mut socket, action, request["body"].clone()).await?;
    socket.close(None).await?;
    Ok(outcome)
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// Asks for an action. Some are not answered when they are well: the ping after them is.
async fn asked(socket: &mut Socket, action: &str, mut frame: Value) -> anyhow::Result<Outcome> {
    frame["action"] = json!(action);
    for frame in [frame, json!({ "action": "ping" })] {
        socket.send(Message::text(frame.to_string())).await?;
    }
    let mut answer = None;
    let answered = async {
        while let Some(message) = socket.next().await {
            let Message::Text(text) = message? else { continue };
            let frame: Value = serde_json::from_str(&text)?;
            match frame["action"].as_str() {
                Some(name) if name == action => {
                    answer =
                        Some(outcome(frame["statusCode"].as_i64().unwrap_or_default(), text.to_string()));
                }
                Some("ping") => return Ok(answer.unwrap_or_else(|| outcome(200, String::new()))),
                _ => {}
            }
        }
        bail!("the socket has closed before an answer to {action}")
    };
    tokio::time::timeout(PATIENCE, answered).await?
}

/// True when a refusal or an answer of a dialect is as expected. Dialects have fewer statuses than gRPC has codes, and
/// may hide what another transport only refuses.
pub fn fits(outcome: &Outcome, expected: Expected) -> bool {
    let Ok(status) = outcome.code.parse::<u16>() else { return false };
    let statuses: &[u16] = match expected {
        Expected::Allowed => return (200..300).contains(&status),
        Expected::Refused("UNAUTHENTICATED") => &[0, 401],
        Expected::Refused("NOT_FOUND" | "PERMISSION_DENIED") => &[0, 403, 404],
        Expected::Refused(_) => &[0, 400, 403, 404, 409],
    };
    statuses.contains(&status)
}
