//! Every kind of message: what is sent is what the others see, and what breaks a rule is refused by the field's name.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::World;
use tests::person::{path_of, text};

tests::stories![
    every_kind_arrives_as_it_was_sent,
    what_breaks_a_rule_is_refused_by_name,
    what_services_write_no_user_writes,
    a_copy_says_where_it_comes_from,
    a_copy_needs_two_permissions,
    only_what_has_words_is_edited,
    former_words_are_listed_until_the_message_goes,
];

fn tomorrow() -> String {
    let time = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs() + 86_400;
    prost_types::Timestamp { seconds: time.cast_signed(), nanos: 0 }.to_string()
}

async fn every_kind_arrives_as_it_was_sent(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut screen = bob.comes_online().await;
    let url = |path: &str| json!({ "url": format!("https://media.example/{path}") });
    let picture = json!({ "kind": "ATTACHMENT_KIND_IMAGE", "media": url("a.png"), "name": "a.png", "mediaType": "image/png" });
    let contents = [
        json!({ "text": "text" }),
        json!({ "text": "with a picture", "attachments": [picture] }),
        json!({ "attachments": [picture] }),
        json!({ "secure": { "ciphertext": "c2VjcmV0", "algorithm": "mls-1", "signature": "", "deviceKeyId": "" } }),
        json!({ "voice": { "media": url("a.ogg"), "duration": "3.500s", "caption": "listen" } }),
        json!({ "sticker": { "media": url("a.webp"), "label": "👍" } }),
        json!({ "poll": { "question": "when?", "options": ["now", "later"], "multipleChoice": true, "anonymous": true, "closeTime": tomorrow() } }),
        json!({ "document": { "media": url("a.pdf"), "documentId": "7", "title": "a paper" } }),
        json!({ "link": { "url": "https://example.org/", "title": "an example", "description": "" } }),
        json!({ "location": { "latitude": 48.2082, "longitude": 16.3738, "name": "Vienna" } }),
        json!({ "profile": { "userId": bob.id } }),
    ];
    for content in contents {
        let sent = ann.sends(&conversation, content.clone()).await;
        let mut expected = content.clone();
        if expected.get("attachments").is_none() {
            expected["attachments"] = json!([]);
        }
        assert_eq!(sent["content"], expected);
        let event = screen.next_event("messageCreated").await;
        assert_eq!(event["messageCreated"]["content"], expected);
        assert_eq!(bob.get(&path_of(&sent)).await.ok()["message"]["content"], expected);
    }
}

async fn what_breaks_a_rule_is_refused_by_name(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let media = json!({ "url": "https://media.example/a" });
    let poll = |options: Value| json!({ "content": { "poll": { "question": "?", "options": options } } });
    let place =
        |latitude: Value| json!({ "content": { "location": { "latitude": latitude, "longitude": 0 } } });
    let many: Vec<String> = (0..21).map(|n| n.to_string()).collect();
    let refused = [
        ("content", json!({ "content": {} })),
        ("content", json!({})),
        ("content.text", json!({ "content": { "text": " " } })),
        ("content.poll.options", poll(json!(["one"]))),
        ("content.poll.options", poll(json!(["same", "same"]))),
        ("content.poll.options", poll(json!(many))),
        ("content.location.latitude", place(json!(90.1))),
        ("content.location.latitude", place(json!("NaN"))),
        ("content.location.latitude", place(json!("Infinity"))),
        ("content.link.url", json!({ "content": { "link": { "url": "http://example.org" } } })),
        (
            "content.link.url",
            json!({ "content": { "link": { "url": format!("https://example.org/{}", "a".repeat(2048)) } } }),
        ),
        (
            "content.sticker.media.url",
            json!({ "content": { "sticker": { "media": { "url": "javascript:alert(1)" } } } }),
        ),
        ("content.voice.media", json!({ "content": { "voice": {} } })),
        ("content.profile.user_id", json!({ "content": { "profile": { "userId": "ann" } } })),
        (
            "content.attachments",
            json!({ "content": { "attachments": vec![json!({ "kind": 1, "media": media }); 11] } }),
        ),
        ("expire_after", json!({ "content": { "text": "x" }, "expireAfter": "0s" })),
        ("expire_after", json!({ "content": { "text": "x" }, "expireAfter": "-1s" })),
        ("expire_after", json!({ "content": { "text": "x" }, "expireAfter": "2419201s" })),
    ];
    for (field, body) in refused {
        let answer = ann.tries_to_send(&conversation, body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        let named = text(&answer.body["fields"][0]["field"]);
        assert!(named.starts_with(field), "{body} is refused for {named}");
    }
    for body in [
        json!({ "content": { "colour": "red" } }),
        json!({ "content": { "text": "x" }, "expireAfter": "NaN" }),
        json!({ "content": { "text": "x" }, "expireAfter": 1e18 }),
        json!({ "content": { "text": "x" }, "expireAfter": "1000000000000000000s" }),
    ] {
        assert_eq!(ann.tries_to_send(&conversation, body.clone()).await.status, 400, "{body}");
    }
    assert!(ann.reads(&conversation).await.is_empty(), "nothing half-done");
}

async fn what_services_write_no_user_writes(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let id = proto::id::EventId::generate().to_string();
    for content in [
        json!({ "system": { "text": "the server says so" } }),
        json!({ "call": { "callId": id, "outcome": "CALL_OUTCOME_MISSED" } }),
        json!({ "schedule": { "scheduleId": id, "startTime": "2030-01-01T00:00:00Z", "endTime": "2030-01-01T01:00:00Z" } }),
    ] {
        let answer = ann.tries_to_send(&conversation, json!({ "content": content })).await;
        assert_eq!(answer.refused(400), "ERROR_REASON_INVALID_FIELD");
    }
    assert!(ann.reads(&conversation).await.is_empty());
}

async fn a_copy_says_where_it_comes_from(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let source = ann.starts_direct_with(&bob).await;
    let target = bob.starts_direct_with(&cid).await;
    let message = ann.says(&source, "worth telling").await;
    let request = json!({ "targetConversationId": target, "clientMessageId": "copy" });
    let forward = format!("{}/forward", path_of(&message));
    let copy = bob.post(&forward, request.clone()).await.ok()["message"].clone();
    assert_eq!(copy["content"], message["content"]);
    assert_eq!(copy["senderId"], json!(bob.id));
    assert_eq!(
        copy["forwardedFrom"],
        json!({
            "conversationId": "", "messageId": message["messageId"], "senderId": ann.id,
        })
    );
    // Again is the same copy.
    let again = bob.post(&forward, request).await.ok();
    assert_eq!((&again["message"]["messageId"], &again["repeated"]), (&copy["messageId"], &json!(true)));
    // Its words are another's: who sent it on cannot change them.
    let edit = bob.patch(&path_of(&copy), json!({ "content": { "text": "worth nothing" } })).await;
    assert_eq!(edit.refused(409), "ERROR_REASON_NOT_EDITABLE");
    // The origin is a reference only, which does not even name the conversation to those who are not in it.
    let seen = cid.get(&path_of(&copy)).await.ok();
    assert!(!seen.to_string().contains(&source), "{seen}");
    assert_eq!(cid.get(&path_of(&message)).await.refused(404), "ERROR_REASON_CONVERSATION_NOT_FOUND");
    assert_eq!(cid.reads(&target).await, [Some("worth telling".to_owned())]);
    // What is deleted is not sent on, and the copy stays.
    ann.delete(&path_of(&message)).await.ok();
    let late = bob.post(&forward, json!({ "targetConversationId": target })).await;
    assert_eq!(late.refused(409), "ERROR_REASON_MESSAGE_DELETED");
    assert_eq!(cid.reads(&target).await, [Some("worth telling".to_owned())]);
}

async fn a_copy_needs_two_permissions(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let source = ann.starts_direct_with(&bob).await;
    let target = ann.starts_group_with(&[&cid]).await;
    let message = bob.says(&source, "between us").await;
    let forward = format!("{}/forward", path_of(&message));
    let request = json!({ "targetConversationId": target });
    // Cid may not read there, Bob may not write here.
    assert_eq!(cid.post(&forward, request.clone()).await.refused(404), "ERROR_REASON_CONVERSATION_NOT_FOUND");
    assert_eq!(bob.post(&forward, request.clone()).await.refused(404), "ERROR_REASON_CONVERSATION_NOT_FOUND");
    ann.put(
        &format!("/v1/conversations/{target}/members/{}/role", cid.id),
        json!({ "role": "MEMBER_ROLE_MUTED" }),
    )
    .await
    .ok();
    let own = cid.starts_direct_with(&bob).await;
    let said = cid.says(&own, "mine").await;
    let muted = cid.post(&format!("{}/forward", path_of(&said)), request).await;
    assert_eq!(muted.refused(403), "ERROR_REASON_WRITE_DENIED");
    assert!(ann.reads(&target).await.is_empty());
}

async fn only_what_has_words_is_edited(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let poll = ann.sends(&conversation, json!({ "poll": { "question": "?", "options": ["a", "b"] } })).await;
    let edit = json!({ "content": { "poll": { "question": "!", "options": ["a", "b"] } } });
    assert_eq!(ann.patch(&path_of(&poll), edit).await.refused(409), "ERROR_REASON_NOT_EDITABLE");
    let said = ann.says(&conversation, "words").await;
    let other = json!({ "content": { "location": { "latitude": 1, "longitude": 1 } } });
    assert_eq!(ann.patch(&path_of(&said), other).await.refused(409), "ERROR_REASON_NOT_EDITABLE");
    let link = ann.sends(&conversation, json!({ "link": { "url": "https://example.org/a" } })).await;
    let edit = json!({ "content": { "link": { "url": "https://example.org/b", "title": "better" } } });
    let edited = ann.patch(&path_of(&link), edit).await.ok();
    assert_eq!(edited["message"]["content"]["link"]["title"], json!("better"));
}

async fn former_words_are_listed_until_the_message_goes(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let message = ann.says(&conversation, "first").await;
    for words in ["second", "third"] {
        ann.patch(&path_of(&message), json!({ "content": { "text": words } })).await.ok();
    }
    let revisions = format!("{}/revisions", path_of(&message));
    let listed = bob.get(&revisions).await.ok();
    let words: Vec<_> = tests::person::array(&listed["revisions"])
        .iter()
        .map(|revision| (revision["version"].clone(), text(&revision["content"]["text"])))
        .collect();
    assert_eq!(words, [(json!(1), "first".to_owned()), (json!(2), "second".to_owned())]);
    let page = bob.get(&format!("{revisions}?pageSize=1")).await.ok();
    let next =
        bob.get(&format!("{revisions}?pageSize=1&pageToken={}", text(&page["nextPageToken"]))).await.ok();
    assert_eq!(next["revisions"][0]["version"], json!(2));
    ann.delete(&path_of(&message)).await.ok();
    assert_eq!(bob.get(&revisions).await.refused(409), "ERROR_REASON_MESSAGE_DELETED");
}
