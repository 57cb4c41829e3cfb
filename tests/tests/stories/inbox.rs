//! The inbox by what is unread, by what one uses most, and by a word.

use std::sync::Arc;

use serde_json::json;
use tests::person::{array, text};
use tests::{Person, World};

tests::stories![
    what_is_unread_is_listed_alone,
    what_one_uses_most_comes_first,
    a_word_finds_people_and_titles
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
