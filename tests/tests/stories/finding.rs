//! Finding: search in one's own conversations, mentions and the alerts that they raise.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::World;
use tests::person::{Person, array, path_of, text};

tests::stories![
    words_are_found_where_one_is_a_member,
    what_is_found_follows_edits_and_deletions,
    a_search_is_narrowed_down,
    found_messages_come_in_pages,
    odd_queries_are_only_words,
    a_mention_raises_an_alert,
    alerts_are_marked,
    an_alert_shows_no_more_than_one_may_read,
];

/// A word that occurs nowhere else.
fn word() -> String {
    let id = proto::id::EventId::generate().uuid().simple().to_string();
    format!("w{}", &id[16..])
}

async fn finds(person: &Person, query: &str) -> Vec<String> {
    let answer = person.get(&format!("/v1/search/messages?{query}")).await.ok();
    array(&answer["messages"]).iter().map(|message| text(&message["messageId"])).collect()
}

async fn words_are_found_where_one_is_a_member(world: Arc<World>) {
    let [ann, bob, eve] = world.people(["ann", "bob", "eve"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let word = word();
    let message = ann.says(&conversation, &format!("Zürich, {word}! Déjà vu")).await;
    let id = vec![text(&message["messageId"])];
    for query in [word.clone(), word.to_uppercase(), format!("{word}+zurich"), format!("deja+{}", &word[..9])]
    {
        assert_eq!(finds(&bob, &format!("query={query}")).await, id, "{query}");
    }
    assert!(finds(&bob, &format!("query={word}+elsewhere")).await.is_empty());
    assert!(finds(&eve, &format!("query={word}")).await.is_empty());
    let foreign = eve.get(&format!("/v1/search/messages?query={word}&conversationId={conversation}")).await;
    assert_eq!(foreign.refused(404), "ERROR_REASON_CONVERSATION_NOT_FOUND");
    // Who leaves finds nothing any more.
    bob.post(&format!("/v1/conversations/{conversation}/leave"), json!({})).await.ok();
    assert!(finds(&bob, &format!("query={word}")).await.is_empty());
}

async fn what_is_found_follows_edits_and_deletions(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let (before, after, hidden) = (word(), word(), word());
    let message = ann.says(&conversation, &before).await;
    ann.patch(&path_of(&message), json!({ "content": { "text": after } })).await.ok();
    assert!(finds(&bob, &format!("query={before}")).await.is_empty());
    assert_eq!(finds(&bob, &format!("query={after}")).await.len(), 1);
    ann.delete(&path_of(&message)).await.ok();
    assert!(finds(&bob, &format!("query={after}")).await.is_empty());
    let secure = json!({ "secure": { "ciphertext": "c2VjcmV0", "algorithm": hidden } });
    ann.sends(&conversation, secure).await;
    assert!(finds(&bob, &format!("query={hidden}")).await.is_empty());
}

async fn a_search_is_narrowed_down(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let word = word();
    let said = ann.says(&conversation, &word).await;
    let poll = json!({ "poll": { "question": format!("{word}?"), "options": ["yes", "no"] } });
    let poll = bob.sends(&conversation, poll).await;
    let place = bob.sends(&conversation, json!({ "location": { "latitude": 1.5, "longitude": 2.5 } })).await;
    let id = |message: &Value| text(&message["messageId"]);
    assert_eq!(finds(&ann, &format!("query={word}")).await, [id(&poll), id(&said)]);
    assert_eq!(finds(&ann, &format!("query={word}&senderId={}", ann.id)).await, [id(&said)]);
    assert_eq!(finds(&ann, &format!("query={word}&kinds=MESSAGE_KIND_POLL")).await, [id(&poll)]);
    let by_kind = format!("kinds=MESSAGE_KIND_LOCATION&conversationId={conversation}");
    assert_eq!(finds(&ann, &by_kind).await, [id(&place)]);
    let at = |message: &Value| text(&message["createTime"]);
    assert_eq!(finds(&ann, &format!("query={word}&afterTime={}", at(&poll))).await, [id(&poll)]);
    assert_eq!(finds(&ann, &format!("query={word}&beforeTime={}", at(&poll))).await, [id(&said)]);
    let nothing = ann.get("/v1/search/messages").await;
    assert_eq!(nothing.body["fields"][0]["field"], json!("query"));
    assert_eq!(nothing.refused(400), "ERROR_REASON_INVALID_FIELD");
}

async fn found_messages_come_in_pages(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let word = word();
    let mut said = Vec::new();
    for other in [&bob, &world.person("cid").await] {
        let conversation = ann.starts_direct_with(other).await;
        for n in 0..3 {
            said.insert(0, text(&ann.says(&conversation, &format!("{word} {n}")).await["messageId"]));
        }
    }
    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let path = format!("/v1/search/messages?query={word}&pageSize=4&pageToken={token}");
        let page = ann.get(&path).await.ok();
        found.extend(array(&page["messages"]).iter().map(|message| text(&message["messageId"])));
        token = page["nextPageToken"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(found, said);
}

async fn odd_queries_are_only_words(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let word = word();
    let message = ann.says(&conversation, &format!("{word} AND quotes")).await;
    for query in
        ["%22", "*", "AND+OR+NOT", "%27+OR+1%3D1--", "NEAR%28", "%F0%9F%98%80", "%5C", "a%3A%2A%26%21"]
    {
        let answer = ann.get(&format!("/v1/search/messages?query={query}")).await;
        assert!(answer.status < 500, "{query}: {}", answer.body);
    }
    assert_eq!(finds(&ann, &format!("query=%22{word}%22+and")).await, [text(&message["messageId"])]);
    let long = "a".repeat(257);
    assert_eq!(ann.get(&format!("/v1/search/messages?query={long}")).await.status, 400);
}

async fn alerts(person: &Person, query: &str) -> Value {
    person.get(&format!("/v1/alerts{query}")).await.ok()
}

async fn a_mention_raises_an_alert(world: Arc<World>) {
    let [ann, bob, eve] = world.people(["ann", "bob", "eve"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let mut screen = bob.comes_online().await;
    let words =
        format!("@{} and @{} and @{}: look!", bob.username.to_uppercase(), eve.username, ann.username);
    let message = ann.says(&conversation, &words).await;
    // Only members are mentioned, and nobody by oneself.
    assert_eq!(message["mentionedUserIds"], json!([bob.id]));
    let alert = screen.next_user_event("alertChanged").await;
    assert_eq!((&alert["kind"], &alert["actorUserId"]), (&json!("ALERT_KIND_MENTION"), &json!(ann.id)));
    let listed = alerts(&bob, "").await;
    assert_eq!((array(&listed["alerts"]).len(), &listed["unreadCount"]), (1, &json!(1)));
    assert_eq!(listed["alerts"][0]["message"]["content"]["text"], json!(words));
    // The same words again, a little different, raise no second one.
    ann.patch(&path_of(&message), json!({ "content": { "text": format!("{words} now") } })).await.ok();
    assert_eq!(array(&alerts(&bob, "").await["alerts"]).len(), 1);
    for other in [&ann, &eve] {
        assert!(array(&alerts(other, "").await["alerts"]).is_empty());
    }
    // Who is mentioned by an edit is alerted, too.
    let plain = ann.says(&conversation, "nobody").await;
    ann.patch(&path_of(&plain), json!({ "content": { "text": format!("@{}", bob.username) } })).await.ok();
    assert_eq!(alerts(&bob, "").await["unreadCount"], json!(2));
}

async fn alerts_are_marked(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    for n in 0..3 {
        ann.says(&conversation, &format!("@{} {n}", bob.username)).await;
    }
    let listed = alerts(&bob, "").await;
    let id = listed["alerts"][0]["alertId"].clone();
    let mark = async |body: Value| bob.post("/v1/alerts/mark", body).await.ok()["unreadCount"].clone();
    assert_eq!(mark(json!({ "alertIds": [id] })).await, json!(2));
    assert_eq!(mark(json!({ "alertIds": [id], "unread": true })).await, json!(3));
    assert_eq!(mark(json!({ "alertIds": [id] })).await, json!(2));
    assert_eq!(array(&alerts(&bob, "?onlyUnread=true").await["alerts"]).len(), 2);
    let unknown = proto::id::EventId::generate().to_string();
    let refused = bob.post("/v1/alerts/mark", json!({ "alertIds": [unknown] })).await;
    assert_eq!(refused.refused(404), "ERROR_REASON_ALERT_NOT_FOUND");
    assert_eq!(
        ann.post("/v1/alerts/mark", json!({ "alertIds": [id] })).await.refused(404),
        "ERROR_REASON_ALERT_NOT_FOUND"
    );
    assert_eq!(mark(json!({ "all": true })).await, json!(0));
}

async fn an_alert_shows_no_more_than_one_may_read(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let message = ann.says(&conversation, &format!("@{} a secret", bob.username)).await;
    ann.delete(&path_of(&message)).await.ok();
    let shown = alerts(&bob, "").await.to_string();
    assert!(!shown.contains("a secret"), "{shown}");
    ann.says(&conversation, &format!("@{} another secret", bob.username)).await;
    ann.delete(&format!("/v1/conversations/{conversation}/members/{}", bob.id)).await.ok();
    let listed = alerts(&bob, "").await;
    assert_eq!(array(&listed["alerts"]).len(), 2);
    assert!(!listed.to_string().contains("another secret"), "{listed}");
}
