//! The inbox by what is unread, by what one uses most, and by a word.

use std::sync::Arc;

use serde_json::json;
use tests::person::{array, text};
use tests::{Person, World};

tests::stories![
    what_is_unread_is_listed_alone,
    what_one_uses_most_comes_first,
    a_word_finds_people_and_titles,
    the_inbox_is_listed_by_kind_and_got_by_conversation
];

/// The conversations of somebody's inbox, in order.
async fn inbox(person: &Person, query: &str) -> Vec<String> {
    let listed = person.get(&format!("/v1/inbox?pageSize=100&{query}")).await.ok();
    let id = |entry: &serde_json::Value| text(&entry["conversation"]["conversationId"]);
    array(&listed["entries"]).iter().map(id).collect()
}

async fn what_is_unread_is_listed_alone(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let (one, two) = (ann.starts_direct_with(&bob).await, ann.starts_direct_with(&cid).await);
    let read = bob.says(&one, "hello").await;
    cid.says(&two, "hello").await;
    assert_eq!(inbox(&ann, "filter=INBOX_FILTER_UNREAD").await, [two.as_str(), one.as_str()]);
    let watermark = json!({ "readSequence": read["sequence"] });
    ann.post(&format!("/v1/conversations/{one}/watermark"), watermark).await.ok();
    assert_eq!(inbox(&ann, "filter=INBOX_FILTER_UNREAD").await, [two.as_str()]);
    assert_eq!(inbox(&ann, "").await.len(), 2);
    // What one wrote oneself is not unread.
    assert!(inbox(&cid, "filter=INBOX_FILTER_UNREAD").await.is_empty());
}

async fn what_one_uses_most_comes_first(world: Arc<World>) {
    let [ann, bob, cid, dan] = world.people(["ann", "bob", "cid", "dan"]).await;
    let (often, once) = (ann.starts_direct_with(&bob).await, ann.starts_direct_with(&cid).await);
    let never = ann.starts_direct_with(&dan).await;
    for words in ["one", "two", "three"] {
        ann.says(&often, words).await;
    }
    ann.says(&once, "hello").await;
    dan.says(&never, "hello?").await;
    assert_eq!(inbox(&ann, "filter=INBOX_FILTER_FREQUENT").await, [often.as_str(), once.as_str()]);
    assert_eq!(inbox(&dan, "filter=INBOX_FILTER_FREQUENT").await, [never.as_str()]);
}

async fn a_word_finds_people_and_titles(world: Arc<World>) {
    let [ann, zoe] = world.people(["ann", "Zoe"]).await;
    let direct = ann.starts_direct_with(&zoe).await;
    let body =
        json!({ "kind": "CONVERSATION_KIND_GROUP", "title": "Gardening", "topic": "all about zoetropes" });
    let group = text(&ann.post("/v1/conversations", body).await.ok()["conversation"]["conversationId"]);
    for conversation in [&direct, &group] {
        ann.says(conversation, "hello").await;
    }
    assert_eq!(inbox(&ann, "keyword=gardening").await, [group.as_str()]);
    assert_eq!(inbox(&ann, "keyword=ZOE").await, [group.as_str(), direct.as_str()]);
    assert!(inbox(&ann, "keyword=nothing").await.is_empty());
}

async fn the_inbox_is_listed_by_kind_and_got_by_conversation(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let direct = ann.starts_direct_with(&bob).await;
    let make = async |person: &Person, title: &str| {
        let body = json!({ "kind": "CONVERSATION_KIND_GROUP", "title": title });
        text(&person.post("/v1/conversations", body).await.ok()["conversation"]["conversationId"])
    };
    let (own, foreign) = (make(&ann, "mine").await, make(&bob, "not mine").await);
    bob.says(&direct, "hello").await;
    ann.says(&own, "hello").await;
    assert_eq!(inbox(&ann, "kinds=CONVERSATION_KIND_DIRECT").await, [direct.as_str()]);
    assert_eq!(inbox(&ann, "kinds=CONVERSATION_KIND_GROUP").await, [own.as_str()]);
    let both = "kinds=CONVERSATION_KIND_DIRECT&kinds=CONVERSATION_KIND_GROUP";
    assert_eq!(inbox(&ann, both).await, [own.as_str(), direct.as_str()]);
    let body = json!({ "conversationIds": [direct, foreign, own] });
    let entries = array(&ann.post("/v1/inbox/batch", body).await.ok()["entries"]).to_vec();
    let ids: Vec<_> = entries.iter().map(|entry| text(&entry["conversation"]["conversationId"])).collect();
    assert_eq!(ids, [direct.as_str(), own.as_str()]);
    assert_eq!(
        (&entries[0]["unreadCount"], &entries[0]["lastMessage"]["content"]["text"]),
        (&json!(1), &json!("hello"))
    );
}
