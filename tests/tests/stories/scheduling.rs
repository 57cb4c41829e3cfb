//! Messages to be sent later: exactly once, never early, or taken back.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tests::World;
use tests::person::{array, text};
use tests::waiting::from_now;

tests::stories![
    a_scheduled_message_is_sent_at_its_time,
    a_time_that_has_passed_sends_at_once,
    a_cancelled_message_is_never_sent,
    a_scheduled_message_can_be_changed_and_sent_early,
    what_could_not_be_sent_cannot_be_scheduled,
    the_right_to_send_is_asked_again_when_it_is_due,
    scheduled_messages_are_their_authors_own,
    a_repeated_request_schedules_once,
    one_whose_request_waits_schedules_nothing_more,
];

async fn schedules(ann: &tests::Person, conversation: &str, words: &str, at: String) -> Value {
    let body = json!({ "content": { "text": words }, "sendTime": at });
    let path = format!("/v1/conversations/{conversation}/scheduled-messages");
    ann.post(&path, body).await.ok()["scheduledMessage"].clone()
}

async fn a_scheduled_message_is_sent_at_its_time(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut screen = bob.comes_online().await;
    let send_time = from_now(Duration::from_millis(1500));
    let scheduled = schedules(&ann, &conversation, "later", send_time).await;
    assert_eq!(scheduled["state"], json!("SCHEDULED_MESSAGE_STATE_PENDING"));
    assert!(bob.reads(&conversation).await.is_empty());

    let event = screen.expects_message("later").await;
    let sent_at: prost_types::Timestamp =
        text(&event["messageCreated"]["createTime"]).parse().expect("a time");
    let due: prost_types::Timestamp = text(&scheduled["sendTime"]).parse().expect("a time");
    assert!((sent_at.seconds, sent_at.nanos) >= (due.seconds, due.nanos), "early: {sent_at} before {due}");
    assert_eq!(event["actorUserId"], json!(ann.id));
    assert_eq!(event["messageCreated"]["scheduledTime"], scheduled["sendTime"]);
    let path = format!("/v1/scheduled-messages/{}", text(&scheduled["scheduledMessageId"]));
    let sent = tests::waiting::until("the scheduled message to be sent", || async {
        let now = ann.get(&path).await.ok()["scheduledMessage"].clone();
        (now["state"] == json!("SCHEDULED_MESSAGE_STATE_SENT")).then_some(now)
    })
    .await;
    assert_eq!(sent["messageId"], event["messageCreated"]["messageId"]);
    assert_eq!(bob.reads(&conversation).await, [Some("later".to_owned())]);
}

async fn a_time_that_has_passed_sends_at_once(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut screen = bob.comes_online().await;
    schedules(&ann, &conversation, "overdue", "2020-01-01T00:00:00Z".to_owned()).await;
    screen.expects_message("overdue").await;
}

async fn a_cancelled_message_is_never_sent(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let at = from_now(Duration::from_secs(2));
    let scheduled = schedules(&ann, &conversation, "never", at).await;
    let marker = schedules(&ann, &conversation, "marker", from_now(Duration::from_millis(2500))).await;
    let path = format!("/v1/scheduled-messages/{}", text(&scheduled["scheduledMessageId"]));
    let cancelled = ann.delete(&path).await.ok();
    assert_eq!(cancelled["scheduledMessage"]["state"], json!("SCHEDULED_MESSAGE_STATE_CANCELLED"));
    ann.delete(&path).await.ok();
    assert_eq!(ann.post(&format!("{path}/send"), json!({})).await.refused(409), "ERROR_REASON_ALREADY_FINAL");

    let path = format!("/v1/scheduled-messages/{}", text(&marker["scheduledMessageId"]));
    tests::waiting::until("the marker that is due later to be sent", || async {
        let now = ann.get(&path).await.ok();
        (now["scheduledMessage"]["state"] == json!("SCHEDULED_MESSAGE_STATE_SENT")).then_some(())
    })
    .await;
    assert_eq!(bob.reads(&conversation).await, [Some("marker".to_owned())]);
}

async fn a_scheduled_message_can_be_changed_and_sent_early(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let scheduled = schedules(&ann, &conversation, "draft", from_now(Duration::from_secs(3600))).await;
    let path = format!("/v1/scheduled-messages/{}", text(&scheduled["scheduledMessageId"]));
    let changes = json!({ "scheduledMessage": { "content": { "text": "final" } }, "updateMask": "content" });
    ann.patch(&path, changes).await.ok();
    let sent = ann.post(&format!("{path}/send"), json!({})).await.ok();
    assert_eq!(sent["scheduledMessage"]["state"], json!("SCHEDULED_MESSAGE_STATE_SENT"));
    // Sending it again, or taking it back, finds it sent.
    let again = ann.post(&format!("{path}/send"), json!({})).await.ok();
    assert_eq!(again["scheduledMessage"]["messageId"], sent["scheduledMessage"]["messageId"]);
    let refused = ann.delete(&path).await;
    assert_eq!(refused.body["metadata"]["message_id"], sent["scheduledMessage"]["messageId"]);
    assert_eq!(refused.refused(409), "ERROR_REASON_ALREADY_FINAL");
    assert_eq!(bob.reads(&conversation).await, [Some("final".to_owned())]);
    // A message sent early was scheduled for that moment in the end; people cannot say it themselves.
    let page = bob.get(&format!("/v1/conversations/{conversation}/messages")).await.ok();
    assert_eq!(page["messages"][0]["scheduledTime"], sent["scheduledMessage"]["sendTime"]);
    let body = json!({ "content": { "text": "not scheduled" }, "scheduledTime": scheduled["sendTime"] });
    let refused = ann.post(&format!("/v1/conversations/{conversation}/messages"), body).await;
    assert_eq!(refused.body["fields"][0]["field"], json!("scheduled_time"));
    assert_eq!(refused.refused(400), "ERROR_REASON_INVALID_FIELD");
}

async fn what_could_not_be_sent_cannot_be_scheduled(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let at = from_now(Duration::from_secs(3600));
    let path = format!("/v1/conversations/{conversation}/scheduled-messages");
    let refused = ann.post(&path, json!({ "content": { "text": " " }, "sendTime": at })).await;
    assert_eq!(refused.body["fields"][0]["field"], json!("content.text"));
    assert_eq!(refused.refused(400), "ERROR_REASON_INVALID_FIELD");

    let scheduled = schedules(&ann, &conversation, "something", at).await;
    let path = format!("/v1/scheduled-messages/{}", text(&scheduled["scheduledMessageId"]));
    let changes = json!({ "scheduledMessage": { "content": { "text": " \n " } }, "updateMask": "content" });
    let refused = ann.patch(&path, changes).await;
    assert_eq!(refused.body["fields"][0]["field"], json!("scheduled_message.content.text"));
    assert_eq!(refused.refused(400), "ERROR_REASON_INVALID_FIELD");
    let kept = ann.get(&path).await.ok();
    assert_eq!(kept["scheduledMessage"]["content"], json!({ "text": "something", "attachments": [] }));
}

async fn the_right_to_send_is_asked_again_when_it_is_due(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let scheduled = schedules(&bob, &conversation, "too late", from_now(Duration::from_millis(1500))).await;
    ann.delete(&format!("/v1/conversations/{conversation}/members/{}", bob.id)).await.ok();
    let path = format!("/v1/scheduled-messages/{}", text(&scheduled["scheduledMessageId"]));
    let failed = tests::waiting::until("the scheduled message to fail", || async {
        let now = bob.get(&path).await.ok()["scheduledMessage"].clone();
        (now["state"] == json!("SCHEDULED_MESSAGE_STATE_FAILED")).then_some(now)
    })
    .await;
    assert_eq!(failed["failureReason"], json!("ERROR_REASON_CONVERSATION_NOT_FOUND"));
    assert!(ann.reads(&conversation).await.is_empty());
    let elsewhere = format!("/v1/conversations/{conversation}/scheduled-messages");
    let body = json!({ "content": { "text": "x" }, "sendTime": from_now(Duration::from_secs(60)) });
    assert_eq!(bob.post(&elsewhere, body).await.refused(404), "ERROR_REASON_CONVERSATION_NOT_FOUND");
}

async fn scheduled_messages_are_their_authors_own(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let late = schedules(&ann, &conversation, "second", from_now(Duration::from_secs(7200))).await;
    let early = schedules(&ann, &conversation, "first", from_now(Duration::from_secs(3600))).await;
    let path = format!("/v1/scheduled-messages/{}", text(&late["scheduledMessageId"]));
    for answer in
        [bob.get(&path).await, bob.delete(&path).await, bob.post(&format!("{path}/send"), json!({})).await]
    {
        assert_eq!(answer.refused(404), "ERROR_REASON_SCHEDULED_MESSAGE_NOT_FOUND");
    }
    let list = ann.get("/v1/scheduled-messages?state=SCHEDULED_MESSAGE_STATE_PENDING").await.ok();
    let ids: Vec<&Value> =
        array(&list["scheduledMessages"]).iter().map(|one| &one["scheduledMessageId"]).collect();
    assert_eq!(ids, [&early["scheduledMessageId"], &late["scheduledMessageId"]]);
    assert!(array(&bob.get("/v1/scheduled-messages").await.ok()["scheduledMessages"]).is_empty());
}

async fn a_repeated_request_schedules_once(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let path = format!("/v1/conversations/{conversation}/scheduled-messages");
    let request_id = proto::id::EventId::generate().to_string();
    let at = from_now(Duration::from_secs(3600));
    let body = |words: &str| json!({ "content": { "text": words }, "sendTime": at, "requestId": request_id });
    let one = ann.post(&path, body("once")).await.ok();
    let two = ann.post(&path, body("once")).await.ok();
    assert_eq!(one["scheduledMessage"]["scheduledMessageId"], two["scheduledMessage"]["scheduledMessageId"]);
    assert_eq!(ann.post(&path, body("other")).await.refused(409), "ERROR_REASON_REQUEST_ID_REUSED");
}

async fn one_whose_request_waits_schedules_nothing_more(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    bob.takes_strangers_after_a_request().await;
    let first = json!({ "content": { "text": "may I?" }, "userId": bob.id, "clientMessageId": "first" });
    let first = ann.post("/v1/messages", first).await.ok();
    let path = format!("/v1/conversations/{}/scheduled-messages", text(&first["message"]["conversationId"]));
    let later =
        json!({ "content": { "text": "and this" }, "sendTime": from_now(Duration::from_secs(3_600)) });
    let refused = ann.post(&path, later).await;
    assert_eq!(refused.retry_after, None, "{}", refused.body);
    assert_eq!(refused.refused(409), "ERROR_REASON_REQUEST_PENDING");
}
