//! Editing and deleting: everybody sees the change, and what is deleted is gone from every path.

use std::sync::Arc;

use serde_json::json;
use tests::World;
use tests::person::{array, number, text};

tests::stories![
    an_edit_reaches_everybody,
    only_the_author_edits,
    an_edit_of_an_older_version_is_refused,
    a_deleted_message_is_gone_from_every_path,
    a_moderator_deletes_and_a_member_does_not,
    a_deleted_message_can_be_neither_edited_nor_sent_again,
];

async fn an_edit_reaches_everybody(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let message = ann.says(&conversation, "helo").await;
    let path = format!("/v1/conversations/{conversation}/messages/{}", text(&message["messageId"]));
    let mut screen = bob.comes_online().await;

    let edited = ann.patch(&path, json!({ "content": { "text": "hello" } })).await.ok();
    assert_eq!(edited["message"]["version"], json!(2));
    let event = screen.next_event("messageEdited").await;
    assert_eq!(event["messageEdited"]["content"]["text"], json!("hello"));
    assert_eq!(event["messageEdited"]["sequence"], message["sequence"]);
    assert!(number(&event["sequence"]) > number(&message["sequence"]));
    assert_eq!(bob.get(&path).await.ok()["message"], edited["message"]);
}

async fn only_the_author_edits(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let message = bob.says(&conversation, "mine").await;
    let path = format!("/v1/conversations/{conversation}/messages/{}", text(&message["messageId"]));
    // Not even the owner of the group.
    let refused = ann.patch(&path, json!({ "content": { "text": "yours" } })).await;
    assert_eq!(refused.refused(403), "ERROR_REASON_NOT_AUTHOR");
    assert_eq!(ann.reads(&conversation).await, [Some("mine".to_owned())]);
}

async fn an_edit_of_an_older_version_is_refused(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let message = ann.says(&conversation, "one").await;
    let path = format!("/v1/conversations/{conversation}/messages/{}", text(&message["messageId"]));
    let edit = |words: &str| json!({ "content": { "text": words }, "expectedVersion": 1 });
    ann.patch(&path, edit("two")).await.ok();
    let refused = ann.patch(&path, edit("three")).await;
    assert_eq!(refused.body["metadata"]["version"], json!("2"));
    assert_eq!(refused.refused(409), "ERROR_REASON_VERSION_MISMATCH");
}

async fn a_deleted_message_is_gone_from_every_path(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let marker = format!("secret {}", proto::id::EventId::generate());
    let message = ann.says(&conversation, &marker).await;
    let path = format!("/v1/conversations/{conversation}/messages/{}", text(&message["messageId"]));
    ann.patch(&path, json!({ "content": { "text": format!("{marker} again") } })).await.ok();
    let mut screen = bob.comes_online().await;

    let tombstone = ann.delete(&path).await.ok()["message"].clone();
    assert!(tombstone.get("content").is_none_or(serde_json::Value::is_null), "{tombstone}");
    assert_eq!(tombstone["deletedByUserId"], json!(ann.id));
    // Again changes nothing.
    assert_eq!(ann.delete(&path).await.ok()["message"], tombstone);
    let event = screen.next_event("messageDeleted").await;
    assert_eq!(event["messageDeleted"]["messageId"], message["messageId"]);

    for path in [
        path.clone(),
        format!("/v1/conversations/{conversation}/messages"),
        format!("/v1/conversations/{conversation}/events"),
        "/v1/inbox".to_owned(),
    ] {
        let answer = bob.get(&path).await.ok().to_string();
        assert!(!answer.contains(&marker), "{path} still shows it: {answer}");
    }
    let sync = bob.post("/v1/sync", json!({ "heads": [{ "conversationId": conversation }] })).await.ok();
    assert!(!sync.to_string().contains(&marker), "{sync}");
    let mut fresh = bob.connects().await;
    fresh.follows(&[&conversation]).await;
    loop {
        let frame = fresh.next().await;
        assert!(!frame.to_string().contains(&marker), "{frame}");
        if frame.get("caughtUp").is_some() {
            break;
        }
    }
    // Its place in the log stays.
    let page = bob.get(&format!("/v1/conversations/{conversation}/messages")).await.ok();
    assert_eq!(array(&page["messages"])[0]["sequence"], message["sequence"]);
}

async fn a_moderator_deletes_and_a_member_does_not(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let conversation = ann.starts_group_with(&[&bob, &cid]).await;
    let message = cid.says(&conversation, "rude").await;
    let path = format!("/v1/conversations/{conversation}/messages/{}", text(&message["messageId"]));
    assert_eq!(bob.delete(&path).await.refused(403), "ERROR_REASON_NOT_AUTHOR");
    let role = format!("/v1/conversations/{conversation}/members/{}/role", bob.id);
    ann.put(&role, json!({ "role": "MEMBER_ROLE_MODERATOR" })).await.ok();
    let tombstone = bob.delete(&path).await.ok();
    assert_eq!(tombstone["message"]["deletedByUserId"], json!(bob.id));
    assert_eq!(cid.reads(&conversation).await, [None]);
}

async fn a_deleted_message_can_be_neither_edited_nor_sent_again(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    let body = json!({ "content": { "text": "regretted" }, "clientMessageId": "k" });
    let message = ann.post(&path, body.clone()).await.ok();
    let one = format!("{path}/{}", text(&message["message"]["messageId"]));
    ann.delete(&one).await.ok();
    let refused = ann.patch(&one, json!({ "content": { "text": "better" } })).await;
    assert_eq!(refused.refused(409), "ERROR_REASON_MESSAGE_DELETED");
    // A late retry of the send finds the tombstone, not the text.
    let retry = ann.post(&path, body).await.ok();
    assert_eq!(retry["repeated"], json!(true));
    assert!(!retry.to_string().contains("regretted"), "{retry}");
}
