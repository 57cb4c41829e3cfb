//! Tests of the effects of commands and of their answers.

use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::send;
use super::world::World;

#[tokio::test]
async fn a_message_is_acknowledged_and_reaches_those_who_follow() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let conversation = world.backend.conversation(&[ann.id, bob.id]);
    let mut from = world.connect(&ann).await;
    let mut to = world.follow(&bob, conversation, 1).await;

    from.say(send("s1", conversation, "hello")).await;
    let sent = from.answer("s1").await;
    assert_eq!(sent["sent"]["message"]["sequence"], "2");
    assert_eq!(sent["sent"]["message"]["clientMessageId"], "client-s1");
    assert_eq!(sent["sent"]["repeated"], false);

    let event = to.next().await;
    assert_eq!(event["event"]["sequence"], "2");
    assert_eq!(event["event"]["messageCreated"]["content"]["text"], "hello");
    assert_eq!(event.get("id"), None);

    from.say(send("s1", conversation, "hello")).await;
    assert_eq!(from.answer("s1").await["sent"]["repeated"], true);
    to.hears_nothing().await;
}

#[tokio::test]
async fn sends_that_are_not_waited_for_keep_their_order() {
    let world = World::start().await;
    let ann = world.person();
    let conversation = world.backend.conversation(&[ann.id]);
    let mut client = world.connect(&ann).await;
    for number in 0..50 {
        client.say(send(&format!("{number}"), conversation, "x")).await;
    }
    for number in 0..50 {
        let sent = client.next().await;
        assert_eq!(
            (&sent["id"], &sent["sent"]["message"]["sequence"]),
            (&json!(format!("{number}")), &json!(format!("{}", number + 2)))
        );
    }
}

#[tokio::test]
async fn a_send_whose_outcome_is_unknown_stops_those_behind_it() {
    let world = World::start().await;
    let ann = world.person();
    let conversation = world.backend.conversation(&[ann.id]);
    let other = world.backend.conversation(&[ann.id]);
    let mut client = world.connect(&ann).await;
    {
        let mut facts = world.backend.facts();
        facts.break_streams = 1;
        facts.send_takes = Duration::from_millis(100);
    }
    for id in ["1", "2", "3"] {
        let mut command = send(id, conversation, id);
        command["sendMessage"]["clientMessageId"] = json!("");
        client.say(command).await;
    }
    for id in ["1", "2", "3"] {
        let refused = client.answer(id).await;
        assert_eq!(refused["error"]["status"], 503, "{refused}");
        assert!(refused["error"].get("retryAfter").is_some());
    }
    client.say(send("o", other, "elsewhere")).await;
    assert!(client.answer("o").await.get("sent").is_some());
}

#[tokio::test]
async fn a_send_with_an_id_goes_once_more_when_the_stream_breaks() {
    let world = World::start().await;
    let ann = world.person();
    let conversation = world.backend.conversation(&[ann.id]);
    let mut client = world.connect(&ann).await;
    {
        let mut facts = world.backend.facts();
        facts.break_streams = 1;
        facts.send_takes = Duration::from_millis(100);
    }
    for id in ["1", "2", "3"] {
        client.say(send(id, conversation, id)).await;
    }
    // In their order; the first was stored after all.
    for (id, sequence, repeated) in [("1", "2", true), ("2", "3", false), ("3", "4", false)] {
        let sent = client.answer(id).await;
        assert_eq!(
            (&sent["sent"]["message"]["sequence"], &sent["sent"]["repeated"]),
            (&json!(sequence), &json!(repeated)),
            "{sent}"
        );
    }
}

#[tokio::test]
async fn a_command_that_is_wrong_is_answered() {
    let world = World::start().await;
    let ann = world.person();
    let mut client = world.connect(&ann).await;
    client.say(json!({"id": "1", "sendMessage": {"conversationId": 5}})).await;
    assert_eq!(client.answer("1").await["error"]["status"], 400);
    client.say(json!({"id": "2", "subscribe": {"heads": [{"conversationId": "x"}]}})).await;
    assert_eq!(client.answer("2").await["error"]["fields"][0]["field"], "heads[0].conversation_id");
    client.say(json!({"id": "3"})).await;
    assert_eq!(client.answer("3").await["error"]["fields"][0]["field"], "command");
    client.say(send("4", proto::id::ConversationId::generate(), "x")).await;
    assert_eq!(client.answer("4").await["error"]["reason"], "ERROR_REASON_CONVERSATION_NOT_FOUND");
    client.say(json!({"ping": {}})).await;
    assert_eq!(client.close_code().await, 4400);

    let mut client = world.connect(&ann).await;
    client.0.send(Message::text("no json")).await.expect("sent");
    assert_eq!(client.close_code().await, 4400);

    let mut client = world.connect(&ann).await;
    let _ = client.0.send(Message::text("x".repeat(600_000))).await;
    assert_eq!(client.close_code().await, 1009);
}

#[tokio::test]
async fn too_many_commands_end_it() {
    let world = World::with(|sockets| sockets.commands_per_minute = 3).await;
    let ann = world.person();
    let mut client = world.connect(&ann).await;
    for _ in 0..4 {
        client.say(json!({"id": "1", "ping": {}})).await;
    }
    assert_eq!(client.close_code().await, 4029);
}

#[tokio::test]
async fn any_public_rpc_can_be_called() {
    let world = World::start().await;
    let ann = world.person();
    let conversation = world.backend.conversation(&[ann.id]);
    let mut client = world.connect(&ann).await;
    let call = |id: &str, method: &str, request: Value| json!({"id": id, "call": {"method": method, "request": request}});
    let get = "parlor.conversation.v1.ConversationService/GetConversation";
    client.say(call("1", get, json!({"conversationId": conversation.to_string()}))).await;
    let reply = client.answer("1").await;
    assert_eq!(reply["callReply"]["response"]["conversation"]["memberCount"], 1, "{reply}");
    client.say(call("2", get, json!({"colour": "red"}))).await;
    assert_eq!(client.answer("2").await["error"]["status"], 400);
    client.say(call("3", "parlor.auth.v1.AuthService/Introspect", json!({"sessionToken": "x"}))).await;
    assert_eq!(
        client.answer("3").await["error"]["fields"][0]["field"],
        "call.method",
        "it is for services only"
    );
    client.say(call("4", "parlor.messaging.v1.SyncService/StreamEvents", json!({}))).await;
    assert_eq!(client.answer("4").await["error"]["fields"][0]["field"], "call.method", "it is a stream");
}
