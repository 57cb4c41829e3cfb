//! Messages that live for a while: from the instant of expiry on nobody reads them, on any path, and soon nothing is left.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tests::World;
use tests::person::{Person, path_of, text};
use tests::waiting::until;

tests::stories![
    an_expired_message_is_gone_from_every_path,
    a_tombstone_comes_to_those_who_listen_and_to_those_who_were_away,
    a_copy_does_not_outlive_the_original,
];

/// Sends something that lives for a second.
async fn whispers(person: &Person, conversation: &str, words: &str) -> Value {
    let request =
        json!({ "content": { "text": words }, "expireAfter": "1s", "clientMessageId": "the same key" });
    person.tries_to_send(conversation, request).await.ok()["message"].clone()
}

async fn an_expired_message_is_gone_from_every_path(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let marker = format!("whisper{}", proto::id::EventId::generate().uuid().simple());
    let message = whispers(&ann, &conversation, &marker).await;
    assert!(message["expireTime"].is_string());
    let path = path_of(&message);
    ann.put(&format!("{path}/pin"), json!({})).await.ok();
    ann.tries_to_send(
        &conversation,
        json!({ "content": { "text": "an answer" }, "replyToMessageId": message["messageId"] }),
    )
    .await
    .ok();
    assert!(bob.get(&path).await.ok().to_string().contains(&marker));

    until("the message to expire", || async {
        let answer = bob.get(&path).await.ok();
        answer["message"]["deleteTime"].is_string().then_some(())
    })
    .await;
    let tombstone = bob.get(&path).await.ok()["message"].clone();
    assert_eq!(tombstone["deleteReason"], json!("DELETION_REASON_EXPIRED"));
    for path in [
        path.clone(),
        format!("/v1/conversations/{conversation}/messages"),
        format!("/v1/conversations/{conversation}/events"),
        format!("/v1/conversations/{conversation}/pins"),
        format!("/v1/search/messages?query={marker}"),
        "/v1/inbox".to_owned(),
    ] {
        let answer = bob.get(&path).await.ok().to_string();
        assert!(!answer.contains(&marker), "{path} still shows it: {answer}");
    }
    let sync = bob.post("/v1/sync", json!({ "heads": [{ "conversationId": conversation }] })).await.ok();
    assert!(!sync.to_string().contains(&marker), "{sync}");
    let retry = whispers(&ann, &conversation, &marker).await;
    assert_eq!(retry["messageId"], message["messageId"]);
    assert!(!retry.to_string().contains(&marker), "{retry}");
    let refused = ann.patch(&path, json!({ "content": { "text": "again" } })).await;
    assert_eq!(refused.refused(409), "ERROR_REASON_MESSAGE_DELETED");
    assert_eq!(bob.get(&format!("{path}/revisions")).await.refused(409), "ERROR_REASON_MESSAGE_DELETED");
    let forward = bob.post(&format!("{path}/forward"), json!({ "targetConversationId": conversation })).await;
    assert_eq!(forward.refused(409), "ERROR_REASON_MESSAGE_DELETED");
    // What has expired is not unread either: the answer is.
    assert_eq!(bob.get("/v1/unread").await.ok()["total"], json!(1));
}

async fn a_tombstone_comes_to_those_who_listen_and_to_those_who_were_away(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut screen = bob.comes_online().await;
    let message = whispers(&ann, &conversation, "listen").await;
    // It comes at once although it does not travel on the bus.
    screen.expects_message("listen").await;
    let event = screen.next_event("messageDeleted").await;
    assert_eq!(event["messageDeleted"]["messageId"], message["messageId"]);
    assert_eq!(event["messageDeleted"]["reason"], json!("DELETION_REASON_EXPIRED"));
    assert_eq!(event["actorUserId"], json!(""));
    let time = |value: &Value| text(value).parse::<prost_types::Timestamp>().expect("a time").seconds;
    let late = time(&event["occurTime"]) - time(&message["expireTime"]);
    assert!((0..=2).contains(&late), "the deletion is told {late} s after its time");
    let mut late = bob.connects().await;
    late.follows(&[&conversation]).await;
    let created = late.next_event("messageCreated").await;
    assert!(created["messageCreated"].get("content").is_none(), "{created}");
    late.next_event("messageDeleted").await;
}

async fn a_copy_does_not_outlive_the_original(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let source = ann.starts_direct_with(&bob).await;
    let target = bob.starts_direct_with(&cid).await;
    let request = json!({ "content": { "text": "not for long" }, "expireAfter": "5s" });
    let message = ann.tries_to_send(&source, request).await.ok()["message"].clone();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let forward = json!({ "targetConversationId": target });
    let copy = bob.post(&format!("{}/forward", path_of(&message)), forward).await.ok()["message"].clone();
    assert_eq!(text(&copy["expireTime"]), text(&message["expireTime"]));
}
