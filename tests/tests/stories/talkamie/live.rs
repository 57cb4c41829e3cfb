//! Messages, receipts and alerts on the socket.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::World;
use tests::node::{Script, has_clients};
use tests::person::text;
use tests::waiting::until;
use tokio_tungstenite::tungstenite::Message;

use super::client::{Client, data};
use super::socket::Socket;

tests::stories![
    the_first_frame_signs_in,
    malformed_frames_are_answered,
    a_session_that_ends_closes_its_socket,
    a_message_takes_an_accepted_request,
    a_message_is_sent_delivered_and_read,
    what_waited_is_delivered_on_arrival,
    actions_are_carried_out_in_their_order,
    messages_of_other_apis_arrive_and_go_out,
    alerts_are_pushed_and_read,
    a_profile_that_changes_is_told,
    a_client_library_speaks_with_it,
];

fn says(chat: &str, words: &str) -> Value {
    json!({"action": "send-message", "chatId": chat, "message": {"text": words}})
}

async fn the_first_frame_signs_in(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let mut socket = Socket::connect(&ann).await;
    socket.data(json!({"action": "ping"})).await;
    socket.refused(json!({"action": "update-alerts", "alertsMap": {}}), 401).await;
    for token in [json!("undefined"), json!("wrong"), json!(""), Value::Null] {
        socket.refused(json!({"action": "authenticate", "token": token}), 401).await;
    }
    socket.refused(json!({"action": "authenticate", "token": {}}), 400).await;
    let user = socket.data(json!({"action": "authenticate", "token": ann.token})).await;
    assert_eq!((&user["id"], &user["email"]), (&json!(ann.id), &json!(ann.email)));
    assert_eq!(socket.data(json!({"action": "authenticate", "token": ann.token})).await["id"], json!(ann.id));
    socket.refused(json!({"action": "authenticate", "token": bob.token}), 403).await;
    let canonical = bob.as_person(&world).await;
    let presence = canonical.post("/v1/presence", json!({"userIds": [ann.id]})).await.ok();
    assert_eq!(presence["presences"].as_array().map(Vec::len), Some(1), "{presence}");
}

async fn malformed_frames_are_answered(world: Arc<World>) {
    let ann = Client::sign_up(&world, "Ann Archer", "senior").await;
    let mut socket = Socket::open(&ann).await;
    for frame in ["", "{", "[]", "null", "{}", r#"{"action": 5}"#] {
        socket.sends_raw(Message::text(frame)).await;
        let answer = socket.receive().await.expect("an answer");
        assert_eq!((&answer["success"], &answer["statusCode"]), (&json!(false), &json!(400)), "{frame}");
        assert_eq!(answer["action"], Value::Null);
    }
    socket.sends_raw(Message::binary(b"{}".to_vec())).await;
    assert_eq!(socket.receive().await.expect("an answer")["statusCode"], json!(400));
    let unknown = proto::id::ConversationId::generate();
    for (frame, status) in [
        (json!({"action": "dance"}), 400),
        (json!({"action": "send-message"}), 400),
        (json!({"action": "send-message", "chatId": "x", "message": {"text": "hi"}}), 400),
        (json!({"action": "send-message", "chatId": unknown.to_string(), "message": {"text": "hi"}}), 404),
        (json!({"action": "send-message", "chatId": unknown.to_string(), "message": "hi"}), 400),
        (json!({"action": "send-message", "chatId": unknown.to_string(), "message": {"text": {}}}), 400),
        (json!({"action": "get-messages", "chatId": unknown.to_string()}), 404),
        (json!({"action": "get-messages", "chatId": unknown.to_string(), "lastEvaluatedKey": 5}), 400),
        (json!({"action": "update-messages", "chatId": unknown.to_string(), "messagesMap": []}), 400),
        (json!({"action": "update-alerts", "alertsMap": {unknown.to_string(): {"status": "read"}}}), 404),
        (json!({"action": "update-alerts", "alertsMap": {unknown.to_string(): {"status": "gone"}}}), 400),
        (json!({"action": "accept-call", "callId": unknown.to_string()}), 404),
        (json!({"action": "end-call"}), 400),
        (json!({"action": "call-user", "chatId": unknown.to_string(), "type": "smoke"}), 400),
        (json!({"action": "signal", "chatId": unknown.to_string(), "signal": "x"}), 400),
        (json!({"action": "signal", "chatId": unknown.to_string(), "signal": {"type": "offer"}}), 409),
    ] {
        socket.refused(frame, status).await;
    }
    // A frame over the bound of the gateway closes the socket.
    socket.sends(says("x", &"x".repeat(600_000))).await;
    assert_eq!(socket.is_closed().await, 1009);
}

async fn a_session_that_ends_closes_its_socket(world: Arc<World>) {
    let ann = Client::sign_up(&world, "Ann Archer", "senior").await;
    let mut socket = Socket::open(&ann).await;
    data(ann.delete("/auth/sign-out").await);
    assert_eq!(socket.is_closed().await, 4401);
}

async fn a_message_takes_an_accepted_request(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let (mut at_ann, mut at_bob) = (Socket::open(&ann).await, Socket::open(&bob).await);
    let asked = data(ann.post(&bob.path("/message/request"), json!({"text": "hello Bob"})).await);
    let chat = text(&asked["chat"]["id"]);
    let alert = at_bob.hears("alert").await["alert"].clone();
    assert_eq!((&alert["type"], &alert["message"]["text"]), (&json!("message-request"), &json!("hello Bob")));
    assert_eq!(alert["chat"]["request"]["status"], json!("pending"));
    assert_eq!(alert["chat"]["user"]["name"], json!("Ann Archer"));
    for socket in [&mut at_ann, &mut at_bob] {
        let refused = socket.refused(says(&chat, "hello?"), 403).await;
        assert!(refused.contains("request"), "{refused}");
    }
    data(bob.post(&ann.path("/message/request/accept"), json!({})).await);
    let told = at_ann.hears("alert").await["alert"].clone();
    assert_eq!(told["chat"]["request"]["status"], json!("accepted"));
    let sent = at_bob.data(says(&chat, "hello Ann")).await;
    let arrived = at_ann.hears("new-message").await;
    assert_eq!((&arrived["chat"]["id"], &arrived["message"]["id"]), (&json!(chat), &sent["message"]["id"]));
    assert_eq!(arrived["viewer"], json!({"id": ann.id, "totalUnreadChats": 1}));
    // A block closes it again, and says nothing of itself.
    bob.as_person(&world).await.put(&format!("/v1/users/{}/block", ann.id), json!({})).await.ok();
    at_ann.refused(says(&chat, "still there?"), 403).await;
}

async fn a_message_is_sent_delivered_and_read(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let chat = ann.befriends(&bob).await;
    let (mut at_ann, mut at_bob) = (Socket::open(&ann).await, Socket::open(&bob).await);
    let sent = at_ann.data(says(&chat, "line one\r\nline two")).await;
    assert_eq!(sent["message"]["text"], json!("line one\nline two"));
    assert_eq!(sent["message"]["delivery"]["status"], json!("sent"));
    let id = text(&sent["message"]["id"]);
    let arrived = at_bob.hears("new-message").await;
    assert_eq!(
        (&arrived["message"]["id"], &arrived["message"]["sender"]["name"]),
        (&json!(id), &json!("Ann Archer"))
    );

    let delivered = at_ann.hears("update-chats").await["chatsMap"][&chat].clone();
    assert_eq!(delivered["messagesMap"][&id]["delivery"]["status"], json!("delivered"), "{delivered}");
    let read = json!({"action": "update-messages", "chatId": chat, "messagesMap": {&id: {"status": "read"}}});
    let read = at_bob.data(read).await;
    assert_eq!(read["messagesMap"][&id]["delivery"]["status"], json!("read"));
    assert_eq!(read["viewer"], json!({"id": bob.id, "totalUnreadChats": 0}));
    let told = at_ann.hears("update-messages").await;
    assert_eq!(
        (&told["chat"]["id"], &told["messagesMap"][&id]["text"]),
        (&json!(chat), &sent["message"]["text"])
    );
    assert_eq!(told["messagesMap"][&id]["delivery"]["status"], json!("read"));
    // One's own messages are not marked.
    let own = json!({"action": "update-messages", "chatId": chat, "messagesMap": {&id: {"status": "read"}}});
    assert_eq!(at_ann.data(own).await["messagesMap"], json!({}));

    let page = at_bob.asks(json!({"action": "get-messages", "chatId": chat, "pageSize": 1})).await;
    assert_eq!(page["data"]["messages"][0]["id"], json!(id));
    assert!(page["pagination"].get("lastEvaluatedKey").is_none(), "{page}");
}

async fn what_waited_is_delivered_on_arrival(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let chat = ann.befriends(&bob).await;
    let mut at_ann = Socket::open(&ann).await;
    let first = text(&at_ann.data(says(&chat, "one")).await["message"]["id"]);
    let second = text(&at_ann.data(says(&chat, "two")).await["message"]["id"]);
    let _at_bob = Socket::open(&bob).await;
    let map = at_ann.hears("update-chats").await["chatsMap"][&chat]["messagesMap"].clone();
    for id in [first, second] {
        assert_eq!(map[&id]["delivery"]["status"], json!("delivered"), "{map}");
    }
}

async fn actions_are_carried_out_in_their_order(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let chat = ann.befriends(&bob).await;
    let (mut at_ann, mut at_bob) = (Socket::connect(&ann).await, Socket::open(&bob).await);
    at_ann.sends(json!({"action": "authenticate", "token": ann.token})).await;
    for number in 0..20 {
        at_ann.sends(says(&chat, &format!("number {number}"))).await;
    }
    at_ann.hears("authenticate").await;
    for number in 0..20 {
        let expected = json!(format!("number {number}"));
        assert_eq!(at_ann.hears("send-message").await["message"]["text"], expected);
        assert_eq!(at_bob.hears("new-message").await["message"]["text"], expected);
    }
}

async fn messages_of_other_apis_arrive_and_go_out(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let chat = ann.befriends(&bob).await;
    let (canonical, other) = (ann.as_person(&world).await, bob.as_person(&world).await);
    let mut at_bob = Socket::open(&bob).await;
    let group = canonical.starts_group_with(&[&other]).await;
    canonical.says(&group, "not for this API").await;
    let message = canonical.says(&chat, "from the canonical API").await;
    let id = text(&message["messageId"]);
    let arrived = at_bob.hears("new-message").await;
    assert_eq!(
        (&arrived["message"]["id"], &arrived["message"]["text"]),
        (&json!(id), &json!("from the canonical API"))
    );
    let path = tests::person::path_of(&message);
    canonical.patch(&path, json!({"content": {"text": "edited"}})).await.ok();
    let changed = at_bob.hears("update-messages").await;
    assert_eq!(changed["messagesMap"][&id]["text"], json!("edited"));
    canonical.delete(&path).await.ok();
    let gone = at_bob.hears("update-messages").await;
    assert_eq!(gone["messagesMap"][&id]["text"], json!(""));
    let poll = json!({"poll": {"question": "Tea or coffee?", "options": ["tea", "coffee"]}});
    canonical.sends(&chat, poll).await;
    assert_eq!(at_bob.hears("new-message").await["message"]["text"], json!("Tea or coffee?"));

    let mut at_ann = canonical.comes_online().await;
    let sent = at_bob.data(says(&chat, "back")).await;
    let event = at_ann.expects_message("back").await;
    assert_eq!(event["messageCreated"]["messageId"], sent["message"]["id"]);
    assert!(at_bob.heard().await.iter().all(|frame| frame["data"]["message"]["text"] != json!("back")));
}

async fn alerts_are_pushed_and_read(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let (mut at_ann, mut at_bob) = (Socket::open(&ann).await, Socket::open(&bob).await);
    let asked = data(ann.post(&bob.path("/connection"), json!({})).await);
    let alert = at_bob.hears("alert").await["alert"].clone();
    assert_eq!((&alert["type"], &alert["connectRequest"]["id"]), (&json!("connect-request"), &asked["id"]));
    assert_eq!(alert["connectRequest"]["user"]["id"], json!(ann.id));
    let id = text(&alert["id"]);
    let read = json!({"action": "update-alerts", "alertsMap": {&id: {"status": "read"}}});
    let read = at_bob.data(read).await;
    assert_eq!(read["alertsMap"], json!({&id: {"status": "read"}}));
    assert_eq!(read["viewer"], json!({"id": bob.id, "totalUnreadAlerts": 0}));
    until("a read alert", || async {
        (data(bob.get("/alerts").await)[0]["status"] == json!("read")).then_some(())
    })
    .await;
    // Taken back, the same alert changes.
    data(ann.delete(&bob.path("/connection")).await);
    let changed = at_bob.hears("alert").await["alert"].clone();
    assert_eq!((&changed["id"], &changed["connectRequest"]["status"]), (&json!(id), &json!("canceled")));
    data(bob.post(&ann.path("/connection"), json!({})).await);
    data(ann.post(&bob.path("/connection/accept"), json!({})).await);
    let told = at_bob
        .hears_when("alert", |data| data["alert"]["connectRequest"]["status"] == json!("accepted"))
        .await;
    assert_eq!(told["alert"]["connectRequest"]["user"]["id"], json!(ann.id));
    let pending = at_ann.hears("alert").await["alert"].clone();
    assert_eq!(pending["connectRequest"]["from"]["id"], json!(bob.id));
}

async fn a_profile_that_changes_is_told(world: Arc<World>) {
    let ann = Client::sign_up(&world, "Ann Archer", "senior").await;
    let mut at_ann = Socket::open(&ann).await;
    data(ann.put(&ann.path(""), json!({"name": "Ann Miller"})).await);
    let told = at_ann.hears("update-user").await;
    assert_eq!((&told["user"]["id"], &told["user"]["name"]), (&json!(ann.id), &json!("Ann Miller")));
}

async fn a_client_library_speaks_with_it(world: Arc<World>) {
    if !has_clients() {
        return;
    }
    let (ann, bob) = Client::pair(&world).await;
    let chat = ann.befriends(&bob).await;
    let mut script = Script::start("talkamie", ann.gateway, &[("PARLOR_TOKEN", &ann.token)]);
    let user = script.says_when(|line| line["action"] == "authenticate").await;
    assert_eq!((&user["success"], &user["data"]["id"]), (&json!(true), &json!(ann.id)));
    script.hears(&json!({"action": "ping"})).await;
    script.says_when(|line| line["action"] == "ping").await;
    let mut at_bob = Socket::open(&bob).await;
    script.hears(&says(&chat, "from a library")).await;
    assert_eq!(at_bob.hears("new-message").await["message"]["text"], json!("from a library"));
    at_bob.data(says(&chat, "hello library")).await;
    let arrived = script.says_when(|line| line["action"] == "new-message").await;
    assert_eq!(arrived["data"]["message"]["text"], json!("hello library"));
    script.hears(&json!({"close": true})).await;
    script.says_when(|line| line.get("closed").is_some()).await;
    script.ends_well().await;
}
