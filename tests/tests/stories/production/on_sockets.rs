//! The dialects on their sockets.

use std::sync::Arc;

use proto::id::EventId;
use reqwest::Method;
use serde_json::{Value, json};
use tests::node;
use tests::person::text;
use tests::socketio::SocketIo;
use tests::{Person, World, http};
use tokio_tungstenite::{connect_async, tungstenite};

use super::over_http::ALLO;
use super::{starts, stops};
use crate::talkamie::client::Client;
use crate::talkamie::socket::Socket;

tests::stories![every_dialect_takes_a_token_on_its_sockets];

async fn every_dialect_takes_a_token_on_its_sockets(world: Arc<World>) {
    let world = starts(world.shape, &[]).await;
    talkamie(&world).await;
    if node::has_clients() {
        let people = world.people(["ann", "bob"]).await;
        allo_without_a_token(&world, &people).await;
        allo_with_a_token(&world, &people).await;
        playground(&world, &people).await;
    }
    stops(world).await;
}

async fn talkamie(world: &World) {
    let (ann, bob) = (Client::registered(world, "ann").await, Client::registered(world, "bob").await);
    let chat = ann.befriends(&bob).await;
    let says = json!({ "action": "send-message", "chatId": chat, "message": { "text": "from talkamie" } });
    let mut socket = Socket::connect(&ann).await;
    for action in [
        says.clone(),
        json!({ "action": "get-messages", "chatId": chat, "pageSize": 10 }),
        json!({ "action": "update-messages", "chatId": chat, "messagesMap": {} }),
        json!({ "action": "update-alerts", "alertsMap": {} }),
        json!({ "action": "call-user", "chatId": chat, "type": "audio" }),
        json!({ "action": "accept-call", "callId": chat }),
        json!({ "action": "end-call", "callId": chat }),
        json!({ "action": "signal", "chatId": chat, "signal": {} }),
    ] {
        socket.refused(action, 401).await;
    }
    for token in ["", "undefined", "valid-token", "wrong"] {
        socket.refused(json!({ "action": "authenticate", "token": token }), 401).await;
    }
    // A token in the address is not even overlooked.
    let url = format!("ws://{}/talkamie/ws?token={}", ann.gateway, ann.token);
    match connect_async(url).await {
        Err(tungstenite::Error::Http(answer)) => assert_eq!(answer.status().as_u16(), 400),
        other => panic!("the handshake is not refused: {other:?}"),
    }
    let (mut at_ann, mut at_bob) = (Socket::open(&ann).await, Socket::open(&bob).await);
    let sent = at_ann.data(says).await;
    assert_eq!(at_bob.hears("new-message").await["message"]["id"], sent["message"]["id"]);
}

fn by_websocket(auth: Value) -> Value {
    json!({ "transports": ["websocket"], "auth": auth })
}

async fn allo_without_a_token(world: &World, [ann, bob]: &[Person; 2]) {
    let conversation = ann.starts_direct_with(bob).await;
    let mut sockets = SocketIo::start(world.gateway());
    for token in ["", "undefined", "valid-token", "wrong"] {
        // By WebSocket and by polling.
        for (name, transport) in [("by websocket", "websocket"), ("by polling", "polling")] {
            let name = format!("{token:?} {name}");
            let auth = json!({ "token": token });
            sockets.connects(&name, json!({ "transports": [transport], "auth": auth })).await;
            assert_eq!(sockets.hears(&name, "connect_error").await, "Authentication error", "{name}");
            sockets.closes(&name).await;
        }
    }

    // Without a token the handshake may be that of another API, and the first event is refused. A query does not count.
    let good = json!({ "transports": ["websocket"], "query": { "token": ann.token } });
    for (name, options) in [("none", by_websocket(json!({}))), ("query", good)] {
        sockets.connects(name, options).await;
        sockets.hears(name, "connect").await;
        for operation in ALLO.into_iter().chain(["typing", "stopTyping"]) {
            for user in [json!("somebody"), json!(ann.id), json!([])] {
                let body = json!({ "userID": user, "conversationID": conversation, "message": "x" });
                let answer = sockets.asks(name, operation, body).await;
                assert_eq!(answer["error"], "UNAUTHENTICATED", "{name} {operation} {user}: {answer}");
                assert!(sockets.hears(name, "error").await["message"].is_string(), "{name} {operation}");
            }
        }
        let answer = sockets.asks(name, "joinConversation", json!(conversation)).await;
        assert_eq!(answer["error"], "UNAUTHENTICATED", "{answer}");
    }
    // Nothing of the conversation has come there.
    ann.says(&conversation, "between the two").await;
    for name in ["none", "query"] {
        let heard = sockets.has_heard(name).await;
        assert!(!heard.iter().any(|event| event == "message"), "{heard:?}");
    }
}

async fn allo_with_a_token(world: &World, [ann, bob]: &[Person; 2]) {
    let mut sockets = SocketIo::start(world.gateway());
    for (name, person) in [("ann", ann), ("bob", bob)] {
        sockets.connects(name, by_websocket(json!({ "token": person.token }))).await;
        sockets.hears(name, "connect").await;
    }
    // Bob's first act shows his own log from then on.
    sockets.asks("bob", "joinConversation", json!(EventId::generate().to_string())).await;
    let body = json!({ "participants": [bob.id], "type": "group", "topic": "Roses" });
    let made = sockets.asks("ann", "createConversation", body).await;
    let joined = sockets.asks("bob", "joinConversation", made["_id"].clone()).await;
    assert_eq!(joined["conversationID"], made["_id"], "{joined}");
    let body = json!({ "conversationID": made["_id"], "message": "from allo" });
    sockets.emits("ann", "sendMessage", body.clone()).await;
    let message = sockets.hears("bob", "message").await;
    assert_eq!((&message["userID"], &message["message"]), (&json!(ann.id), &json!("from allo")));
    // The token says who acts.
    for other in [json!(bob.id), json!("somebody")] {
        let forged = json!({ "userID": other, "conversationID": made["_id"], "message": "forged" });
        assert_eq!(sockets.asks("ann", "sendMessage", forged).await["error"], "PERMISSION_DENIED");
    }
}

async fn playground(world: &World, [ann, bob]: &[Person; 2]) {
    let as_ann = async |method: Method, path: &str, body: Value| {
        let bearer = format!("Bearer {}", ann.token);
        let headers = [("authorization", bearer.as_str())];
        http::ask_foreign(world.gateway(), method, path, &headers, Some(&body)).await.ok()
    };
    let made = as_ann(Method::POST, "/rooms", json!({ "name": "Salon" })).await;
    let room = text(&made["room"]["uid"]);
    as_ann(Method::PATCH, &format!("/rooms/{room}"), json!({ "slow_mode": 0 })).await;
    let closed = ann.starts_group_with(&[bob]).await;

    let mut sockets = SocketIo::start(world.gateway());
    sockets.is_connected("viewer").await;
    sockets.emits("viewer", "join", json!({ "uid": closed })).await;
    assert!(sockets.hears("viewer", "error").await["message"].is_string());
    for token in ["", "undefined", "valid-token", "wrong"] {
        sockets.emits("viewer", "login", json!({ "token": token })).await;
        assert_eq!(sockets.hears("viewer", "system").await["type"], "error", "{token}");
    }
    sockets.emits("viewer", "join", json!({ "uid": room })).await;
    assert_eq!(sockets.hears("viewer", "room_messages").await, json!({ "messages": [] }));
    as_ann(Method::POST, "/messages", json!({ "room": room, "message": "welcome" })).await;
    assert_eq!(sockets.hears("viewer", "message").await["message"], "welcome");
    for words in ["may I?", "!room name mine", "!name me", "!purge", "!ban ann"] {
        let refused = sockets.asks("viewer", "sendMessage", json!({ "text": words })).await;
        assert!(refused["error"].is_string(), "{words}: {refused}");
        assert_eq!(sockets.hears("viewer", "system").await["type"], "error", "{words}");
    }

    // A guest enters without a token and writes from then on, and so does one who signs in.
    sockets.emits("viewer", "sendMessage", json!({ "text": "!login" })).await;
    assert!(sockets.hears("viewer", "auth_updated").await["user"]["uid"].is_string());
    sockets.is_connected("bob").await;
    sockets.emits("bob", "login", json!({ "token": bob.token })).await;
    sockets.emits("bob", "join", json!({ "uid": room })).await;
    sockets.hears("bob", "room_users").await;
    for (name, words) in [("viewer", "from a guest"), ("bob", "from the playground")] {
        sockets.emits(name, "sendMessage", json!({ "text": words })).await;
        for listener in ["viewer", "bob"] {
            let message =
                sockets.hears_when(listener, "message", |message| message["message"] == words).await;
            assert!(message["user"]["uid"].is_string(), "{message}");
        }
    }
}
