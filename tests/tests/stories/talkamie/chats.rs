//! Chats, message requests and alerts over HTTP.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::World;
use tests::person::{array, text};
use tests::waiting::until;

use super::client::{Client, data, refused};

tests::stories![
    a_stranger_asks_before_writing,
    a_request_is_answered_with_no,
    a_request_is_taken_back,
    connected_people_need_no_request,
    a_chat_is_paged_newest_first,
    lists_of_chats_have_direct_ones_only,
    alerts_carry_what_they_are_about,
];

/// A text as it stands in a query.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

async fn chat(client: &Client, id: &Value) -> Value {
    data(client.get(&format!("/chat/{}", text(id))).await)
}

async fn a_stranger_asks_before_writing(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let sent = data(ann.post(&bob.path("/message/request"), json!({"text": "hello Bob"})).await);
    assert_eq!(
        (&sent["message"]["text"], &sent["message"]["isRequest"]),
        (&json!("hello Bob"), &json!(true))
    );
    refused(ann.post(&bob.path("/message/request"), json!({"text": "hello?"})).await, 409);

    let at_bob = chat(&bob, &sent["chat"]["id"]).await;
    assert_eq!((&at_bob["type"], &at_bob["user"]["name"]), (&json!("message"), &json!("Ann Archer")));
    assert_eq!(at_bob["totalUnreadMessages"], json!(1));
    let request = &at_bob["request"];
    assert_eq!((&request["status"], &request["text"]), (&json!("pending"), &json!("hello Bob")));
    assert_eq!((&request["id"], &request["sender"]["id"]), (&sent["message"]["id"], &json!(ann.id)));
    let alert = until("an alert", || async {
        data(bob.get("/alerts").await).get(0).filter(|alert| alert["type"] == "message-request").cloned()
    })
    .await;
    assert_eq!(
        (&alert["message"]["id"], &alert["chat"]["id"]),
        (&sent["message"]["id"], &sent["chat"]["id"])
    );
    assert_eq!(alert["chat"]["request"]["status"], json!("pending"));

    let accepted = data(bob.post(&ann.path("/message/request/accept"), json!({})).await);
    assert_eq!(accepted["chat"]["request"]["status"], json!("accepted"));
    for one in [&ann, &bob] {
        assert_eq!(chat(one, &sent["chat"]["id"]).await["request"]["status"], json!("accepted"));
    }
    // From now on it is a message like any other, whoever writes.
    data(bob.post(&ann.path("/message/request"), json!({"text": "hello Ann"})).await);
    let messages = data(ann.get(&format!("/chat/{}/messages", text(&sent["chat"]["id"]))).await);
    let texts: Vec<_> = array(&messages).iter().map(|message| text(&message["text"])).collect();
    assert_eq!(texts, ["hello Ann", "hello Bob"]);
    let is_request: Vec<_> = array(&messages).iter().map(|message| message["isRequest"].clone()).collect();
    assert_eq!(is_request, [json!(false), json!(true)]);
}

async fn a_request_is_answered_with_no(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let sent = data(ann.post(&bob.path("/message/request"), json!({"text": "hello Bob"})).await);
    let rejected = data(bob.delete(&ann.path("/message/request/reject")).await);
    assert_eq!(rejected["chat"]["id"], sent["chat"]["id"]);
    assert_eq!(chat(&ann, &sent["chat"]["id"]).await["request"]["status"], json!("rejected"));
    refused(bob.post(&ann.path("/message/request/accept"), json!({})).await, 409);
    data(ann.post(&bob.path("/message/request"), json!({"text": "please"})).await);
    assert_eq!(chat(&ann, &sent["chat"]["id"]).await["request"]["status"], json!("pending"));
}

async fn a_request_is_taken_back(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let sent = data(ann.post(&bob.path("/message/request"), json!({"text": "hello Bob"})).await);
    let cancelled = data(ann.delete(&bob.path("/message/request")).await);
    assert_eq!(cancelled["chat"]["request"]["status"], json!("canceled"));
    let path = format!("/chat/{}/messages", text(&sent["chat"]["id"]));
    until("the message to be gone", || async { (data(bob.get(&path).await) == json!([])).then_some(()) })
        .await;
    // The same again changes nothing, and a request that is gone is not answered.
    data(ann.delete(&bob.path("/message/request")).await);
    refused(bob.post(&ann.path("/message/request/accept"), json!({})).await, 409);
}

async fn connected_people_need_no_request(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let id = ann.befriends(&bob).await;
    let sent = data(ann.post(&bob.path("/message/request"), json!({"text": "hello Bob"})).await);
    assert_eq!(sent["chat"]["id"], json!(id));
    assert_eq!(
        (&sent["chat"]["request"]["status"], &sent["message"]["isRequest"]),
        (&json!("accepted"), &json!(false))
    );
    let chats = data(bob.get("/chats").await);
    assert_eq!((&chats[0]["id"], &chats[0]["type"]), (&json!(id), &json!("connect")));
    assert_eq!(chats[0]["lastMessage"]["text"], json!("hello Bob"));
    assert_eq!(chats[0]["lastMessage"]["delivery"]["status"], json!("sent"));
    assert_eq!(data(bob.get("/auth").await)["user"]["totalUnreadChats"], json!(1));
}

async fn a_chat_is_paged_newest_first(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let id = ann.befriends(&bob).await;
    let canonical = ann.as_person(&world).await;
    for number in 1..=5 {
        canonical.says(&id, &format!("number {number}")).await;
    }
    let (mut texts, mut key) = (Vec::new(), String::new());
    loop {
        let page = bob.get(&format!("/chat/{id}/messages?pageSize=2&lastEvaluatedKey={key}")).await.ok();
        texts.extend(array(&page["data"]).iter().map(|message| text(&message["text"])));
        let Some(next) = page["pagination"].get("lastEvaluatedKey") else { break };
        key = encoded(&next.to_string());
    }
    assert_eq!(texts, ["number 5", "number 4", "number 3", "number 2", "number 1"]);
    // What is gone is left out.
    let last = canonical.says(&id, "gone").await;
    canonical.delete(&tests::person::path_of(&last)).await.ok();
    let messages = data(bob.get(&format!("/chat/{id}/messages")).await);
    assert_eq!(array(&messages).len(), 5, "{messages}");
    // Read on another device of another client, and shown at once.
    let watermark = json!({"readSequence": "1000"});
    bob.as_person(&world).await.post(&format!("/v1/conversations/{id}/watermark"), watermark).await.ok();
    let messages = data(ann.get(&format!("/chat/{id}/messages?pageSize=1")).await);
    assert_eq!(messages[0]["delivery"]["status"], json!("read"));
}

async fn lists_of_chats_have_direct_ones_only(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let id = ann.befriends(&bob).await;
    let (canonical, other) = (ann.as_person(&world).await, bob.as_person(&world).await);
    let group = canonical.starts_group_with(&[&other]).await;
    canonical.says(&group, "in the group").await;
    assert_eq!(data(bob.get("/auth").await)["user"]["totalUnreadChats"], json!(0));
    canonical.says(&id, "between us").await;
    assert_eq!(data(bob.get("/auth").await)["user"]["totalUnreadChats"], json!(1));
    let ids = |chats: &Value| array(chats).iter().map(|chat| text(&chat["id"])).collect::<Vec<_>>();
    for path in ["/chats", "/chats?keyword=ann", "/chats/unread"] {
        assert_eq!(ids(&data(bob.get(path).await)), [id.as_str()], "{path}");
    }
    assert_eq!(ids(&data(ann.get("/chats/frequent").await)), [id.as_str()]);
    assert_eq!(ids(&data(bob.get("/chats?keyword=nothing").await)), [""; 0]);
    refused(bob.get(&format!("/chat/{group}")).await, 404);
    refused(bob.get(&format!("/chat/{group}/messages")).await, 404);
    let stranger = Client::sign_up(&world, "Cem", "senior").await;
    refused(stranger.get(&format!("/chat/{id}")).await, 404);
}

async fn alerts_carry_what_they_are_about(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let asked = data(ann.post(&bob.path("/connection"), json!({})).await);
    let alert = until("an alert", || async { data(bob.get("/alerts").await).get(0).cloned() }).await;
    assert_eq!((&alert["type"], &alert["connectRequest"]["id"]), (&json!("connect-request"), &asked["id"]));
    let request = &alert["connectRequest"];
    assert_eq!((&request["from"]["id"], &request["to"]["id"]), (&json!(ann.id), &json!(bob.id)));
    assert_eq!((&request["status"], &request["user"]["name"]), (&json!("pending"), &json!("Ann Archer")));
    assert!(alert.get("status").is_none(), "{alert}");

    data(bob.post(&ann.path("/connection/accept"), json!({})).await);
    let told = until("an alert", || async { data(ann.get("/alerts").await).get(0).cloned() }).await;
    assert_eq!(told["connectRequest"]["status"], json!("accepted"));
    assert_eq!(told["connectRequest"]["user"]["name"], json!("Bob Baker"));
    assert_eq!(told["connectRequest"]["from"]["id"], json!(ann.id));
    until("the same alert to change", || async {
        let alerts = data(bob.get("/alerts").await);
        let changed = alerts[0]["connectRequest"]["status"] == json!("accepted");
        (changed && alerts[0]["id"] == alert["id"]).then_some(())
    })
    .await;
}
