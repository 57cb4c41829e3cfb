//! Events over Socket.IO with the library of its clients, and frames on the raw socket of talkamie.

use std::time::Duration;

use fastrand::Rng;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Map, Value, json};
use tests::node;
use tests::socketio::SocketIo;
use tokio_tungstenite::tungstenite::Message;

use crate::scene::Scene;
use crate::values;

/// An event, and the fields of its argument.
type Events = &'static [(&'static str, &'static [&'static str])];

/// The longest packet that is sent: longer ones end the connection.
const MAX_BYTES: usize = 100_000;

/// The events of allo.
pub const ALLO: Events = &[
    ("joinConversation", &["conversationID"]),
    ("createConversation", &["participants", "type", "topic", "owner"]),
    ("sendMessage", &["userID", "conversationID", "message"]),
    (
        "sendSecureMessage",
        &["userID", "conversationID", "message", "encrypted", "encryptionAlgorithm", "signature"],
    ),
    ("reportMessage", &["conversationID", "messageId", "reason"]),
    ("editMessage", &["conversationID", "messageId", "newMessage"]),
    ("deleteMessage", &["conversationID", "messageId"]),
    ("forwardMessage", &["fromConversationID", "toConversationID", "messageId"]),
    ("messageRead", &["conversationID", "messageId"]),
    ("pinMessage", &["conversationID", "messageId", "pin"]),
    ("reactionMessage", &["conversationID", "messageId", "emoji"]),
    ("scheduleMessage", &["userID", "conversationID", "message", "scheduledTime"]),
    ("sendEphemeralMessage", &["userID", "conversationID", "message", "expiresIn"]),
    ("createPoll", &["userID", "conversationID", "question", "options"]),
    ("votePoll", &["conversationID", "messageId", "optionIndex"]),
    ("typing", &["conversationID"]),
    ("nothing of the kind", &["x"]),
];

/// The events of the playground.
pub const PLAYGROUND: Events = &[
    ("login", &["token"]),
    ("logout", &["reason"]),
    ("join", &["uid"]),
    ("sendMessage", &["timestamp", "text"]),
    ("nothing of the kind", &["x"]),
];

/// Emits so many events on one connection, which must live on. Says what was wrong.
pub async fn socket_io(scene: &Scene, events: Events, mut rng: Rng, times: usize) -> Vec<String> {
    if !node::has_clients() {
        return Vec::new();
    }
    let mut sockets = SocketIo::start(scene.world.gateway());
    sockets.is_connected("ann").await;
    let (first, fields) = events[0];
    sockets.emits("ann", first, json!({ fields[0]: "first" })).await;
    for number in 0..times {
        let (event, fields) = events[rng.usize(..events.len())];
        let args: Vec<Value> = match rng.u8(..20) {
            0 => Vec::new(),
            1 => (0..10).map(|_| values::any(&mut rng, 2)).collect(),
            2 => vec![values::any(&mut rng, 3)],
            _ => vec![argument(scene, fields, &mut rng)],
        };
        // A packet has a bound, beyond which the connection is closed.
        let args = if json!(args).to_string().len() > MAX_BYTES { Vec::new() } else { args };
        sockets.emits_all("ann", event, &args).await;
        // So that no more wait than a client may have under way.
        if number % 20 == 0 {
            sockets.asks("ann", "nothing of the kind", json!({})).await;
        }
    }
    let heard = sockets.has_heard("ann").await;
    let dropped = heard.iter().filter(|event| *event == "disconnect").count();
    if dropped == 0 { Vec::new() } else { vec![format!("the connection was dropped {dropped} times")] }
}

fn argument(scene: &Scene, fields: &[&str], rng: &mut Rng) -> Value {
    let mut argument = Map::new();
    for name in fields {
        if rng.u8(..10) > 0 {
            argument.insert((*name).to_owned(), values::field(scene, rng));
        }
    }
    Value::Object(argument)
}

/// The actions of talkamie's socket, and their fields.
const TALKAMIE: Events = &[
    ("ping", &[]),
    ("send-message", &["chatId", "message"]),
    ("get-messages", &["chatId", "pageSize", "lastEvaluatedKey"]),
    ("update-messages", &["chatId", "messagesMap"]),
    ("update-alerts", &["alertsMap"]),
    ("call-user", &["chatId", "type"]),
    ("accept-call", &["callId"]),
    ("reject-call", &["callId"]),
    ("call-connected", &["callId", "timestamp"]),
    ("call-disconnected", &["callId", "timestamp"]),
    ("end-call", &["callId"]),
    ("signal", &["chatId", "signal"]),
    ("nothing of the kind", &["x"]),
];

/// Sends so many frames on one connection, which must live on. Says what was wrong.
pub async fn talkamie(scene: &Scene, mut rng: Rng, times: usize) -> Vec<String> {
    let address = format!("ws://{}/talkamie/ws", scene.world.gateway());
    let (mut socket, _) = tokio_tungstenite::connect_async(address).await.expect("a connection");
    let first = json!({ "action": "authenticate", "token": scene.ann.token }).to_string();
    socket.send(Message::text(first)).await.expect("sent");
    for number in 0..times {
        let (action, fields) = TALKAMIE[rng.usize(..TALKAMIE.len())];
        let mut frame = argument(scene, fields, &mut rng);
        frame["action"] = if rng.u8(..30) == 0 { values::any(&mut rng, 1) } else { json!(action) };
        let text = match rng.u8(..30) {
            0 => values::any(&mut rng, 1).to_string(),
            1 => frame.to_string().chars().take(10).collect(),
            _ => frame.to_string(),
        };
        let text = if text.len() > MAX_BYTES { "{}".to_owned() } else { text };
        if let Err(error) = socket.send(Message::text(text)).await {
            return vec![format!("the connection was dropped: {error}")];
        }
        if number % 20 == 0
            && let Err(error) = pinged(&mut socket).await
        {
            return vec![error];
        }
    }
    pinged(&mut socket).await.err().into_iter().collect()
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// Waits until everything that was sent has been answered.
async fn pinged(socket: &mut Socket) -> Result<(), String> {
    socket
        .send(Message::text(json!({ "action": "ping" }).to_string()))
        .await
        .map_err(|error| error.to_string())?;
    let answered = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).unwrap_or_default();
                    if frame["statusCode"].as_i64().is_some_and(|status| status >= 500) {
                        return Err(format!("answered with {text}"));
                    }
                    if frame["action"] == "ping" && frame["success"] == true {
                        return Ok(());
                    }
                }
                Some(Ok(Message::Close(frame))) => return Err(format!("closed: {frame:?}")),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(format!("dropped: {error}")),
                None => return Err("the connection has ended".to_owned()),
            }
        }
    };
    match tokio::time::timeout(Duration::from_secs(60), answered).await {
        Ok(outcome) => outcome,
        Err(_) => Err("a ping is not answered".to_owned()),
    }
}
