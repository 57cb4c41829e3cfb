//! The messenger API below `/api`: accounts that come with it act without a token in development, pages have exact
//! cursors in both directions, and the SWR hook of its clients works unchanged.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tests::http::{self, Answer};
use tests::node::{self, Script};
use tests::person::{array, text};
use tests::{Person, World};

tests::stories![
    the_accounts_that_come_with_it_talk_without_a_token,
    pages_of_messages_are_exact_in_both_directions,
    pages_of_conversations_are_exact_in_both_directions,
    a_registered_user_acts_with_their_token_only,
    both_spellings_of_a_path_are_the_same,
    other_apis_show_the_same_messages,
    the_swr_hook_works_unchanged,
    malformed_requests_get_the_error_of_this_api
];

async fn ask(world: &World, method: Method, path: &str, body: Value) -> Answer {
    http::ask_foreign(world.gateway(), method, path, &[], Some(&body)).await
}

async fn get(world: &World, path: &str) -> Value {
    http::ask_foreign(world.gateway(), Method::GET, path, &[], None).await.ok()
}

async fn as_person(world: &World, person: &Person, method: Method, path: &str, body: Value) -> Answer {
    let bearer = format!("Bearer {}", person.token);
    http::ask_foreign(world.gateway(), method, path, &[("authorization", bearer.as_str())], Some(&body)).await
}

/// The conversation of two accounts that come with the API; other stories write into it too.
async fn conversation(world: &World, one: &str, other: &str) -> String {
    let path = format!("/api/account/{one}/conversations?with={other}");
    text(&ask(world, Method::POST, &path, json!({})).await.ok()["id"])
}

/// A direct conversation of two new people with numbered messages; gives one of them and its id.
async fn numbered(world: &World, count: usize) -> (Person, String) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    for number in 1..=count {
        ann.says(&conversation, &number.to_string()).await;
    }
    (ann, conversation)
}

fn texts(page: &Value) -> Vec<String> {
    array(&page["rows"]).iter().map(|row| text(&row["text"])).collect()
}

async fn the_accounts_that_come_with_it_talk_without_a_token(world: Arc<World>) {
    let accounts = get(&world, "/api/accounts").await;
    let will = json!({ "id": "1", "name": "Will Smith" });
    assert!(array(&accounts["accounts"]).contains(&will), "{accounts}");
    assert_eq!(get(&world, "/api/account/1").await, will);

    let id = conversation(&world, "1", "2").await;
    assert_eq!(conversation(&world, "2", "1").await, id);
    let path = format!("/api/account/2/conversation/{id}/messages");
    let sent = ask(&world, Method::POST, &path, json!({ "text": "hi there" })).await;
    assert_eq!(sent.status, 201);
    assert_eq!(sent.body["sender"], json!({ "id": "2", "name": "Jada" }));
    assert!(sent.body["ts"].is_i64() && sent.body["id"].is_string(), "{}", sent.body);
    let page = get(&world, &format!("{path}?pageSize=1")).await;
    assert_eq!(page["rows"], json!([sent.body]), "what was sent is read at once");
    let shown = get(&world, &format!("/api/account/1/conversation/{id}")).await;
    assert_eq!(shown["participants"], json!([will, { "id": "2", "name": "Jada" }]));
    assert_eq!(shown["lastMessage"], sent.body);
    assert_eq!(ask(&world, Method::GET, "/api/account/9", json!({})).await.status, 404);
}

async fn pages_of_messages_are_exact_in_both_directions(world: Arc<World>) {
    let (ann, conversation) = numbered(&world, 6).await;
    let base = format!("/api/account/{}/conversation/{conversation}/messages?pageSize=2", ann.id);
    let page = async |cursor: &Value| {
        let path = format!("{base}&cursor={}", text(cursor));
        as_person(&world, &ann, Method::GET, &path, json!({})).await.ok()
    };
    let first = as_person(&world, &ann, Method::GET, &base, json!({})).await.ok();
    assert_eq!((texts(&first), &first["sort"]), (vec!["6".into(), "5".into()], &json!("NEWEST_FIRST")));
    let older = page(&first["cursor_prev"]).await;
    assert_eq!((texts(&older), &older["sort"]), (vec!["3".into(), "4".into()], &json!("OLDEST_FIRST")));
    let oldest = page(&older["cursor_next"]).await;
    assert_eq!(texts(&oldest), ["1", "2"]);
    let none = page(&oldest["cursor_next"]).await;
    assert_eq!((texts(&none), &none["sort"]), (vec![], &json!("OLDEST_FIRST")));
    assert_eq!(none["cursor_next"], oldest["cursor_next"], "an empty page repeats what was seen");

    // More than a page of newer messages: the page next to the cursor, so that going on leaves no hole.
    let newer = page(&oldest["cursor_prev"]).await;
    assert_eq!((texts(&newer), &newer["sort"]), (vec!["4".into(), "3".into()], &json!("NEWEST_FIRST")));
    let newest = page(&newer["cursor_next"]).await;
    assert_eq!(texts(&newest), ["6", "5"]);
    let caught_up = page(&newest["cursor_next"]).await;
    assert_eq!(texts(&caught_up), Vec::<String>::new());
    ann.says(&conversation, "7").await;
    assert_eq!(texts(&page(&caught_up["cursor_next"]).await), ["7"]);

    let samples =
        as_person(&world, &ann, Method::GET, &format!("{base}&cursor_labels=samples"), json!({})).await;
    let samples = samples.ok();
    assert_eq!(samples["cursor_next"], samples["cursor_older"]);
    assert_eq!(samples["cursor_prev"], samples["cursor_newer"]);
}

async fn pages_of_conversations_are_exact_in_both_directions(world: Arc<World>) {
    let [ann, bob, cid, dan] = world.people(["ann", "bob", "cid", "dan"]).await;
    let base = format!("/api/{}/conversation?pageSize=2", ann.id);
    let nothing = as_person(&world, &ann, Method::GET, &base, json!({})).await.ok();
    assert_eq!(nothing, json!({ "rows": [], "sort": "NEWEST_FIRST" }));
    let mut ids = Vec::new();
    for other in [&bob, &cid, &dan] {
        ids.push(ann.starts_direct_with(other).await);
    }
    ann.starts_group_with(&[&bob]).await;
    let rows = |page: &Value| array(&page["rows"]).iter().map(|row| text(&row["id"])).collect::<Vec<_>>();
    let first = as_person(&world, &ann, Method::GET, &base, json!({})).await.ok();
    assert_eq!(rows(&first), [ids[2].as_str(), ids[1].as_str()]);
    assert!(first["rows"][0].get("lastMessage").is_none());
    let path = format!("{base}&cursor={}", text(&first["cursor_prev"]));
    let older = as_person(&world, &ann, Method::GET, &path, json!({})).await.ok();
    assert_eq!((rows(&older), &older["sort"]), (vec![ids[0].clone()], &json!("OLDEST_FIRST")));
    let path = format!("{base}&cursor={}", text(&older["cursor_newer"]));
    let newer = as_person(&world, &ann, Method::GET, &path, json!({})).await.ok();
    assert_eq!(rows(&newer), [ids[2].as_str(), ids[1].as_str()]);
}

async fn a_registered_user_acts_with_their_token_only(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let path = format!("/api/account/{}/conversation/{conversation}/messages", ann.id);
    assert_eq!(ask(&world, Method::GET, &path, json!({})).await.status, 401);
    assert_eq!(as_person(&world, &bob, Method::GET, &path, json!({})).await.status, 403);
    assert_eq!(as_person(&world, &ann, Method::GET, &path, json!({})).await.status, 200);
    let wrong = ann.with_token("wrong");
    assert_eq!(as_person(&world, &wrong, Method::GET, &path, json!({})).await.status, 401);
    for nothing in ["Bearer undefined", "Bearer null", "Bearer "] {
        let headers = [("authorization", nothing)];
        let answer = http::ask_foreign(world.gateway(), Method::GET, "/api/account/3", &headers, None).await;
        assert_eq!(answer.ok()["name"], "Jaden");
    }
    // The accounts that come with the API keep to themselves.
    let path = format!("/api/account/1/conversations?with={}", ann.id);
    assert_eq!(ask(&world, Method::POST, &path, json!({})).await.status, 404);
    let found = as_person(&world, &ann, Method::GET, "/api/accounts", json!({})).await.ok();
    assert!(array(&found["accounts"]).len() > 4, "{found}");
}

async fn both_spellings_of_a_path_are_the_same(world: Arc<World>) {
    let id = conversation(&world, "3", "4").await;
    let long = get(&world, &format!("/api/account/3/conversation/{id}")).await;
    for path in [
        format!("/api/3/conversation/{id}"),
        format!("/api/3/conversations/{id}"),
        format!("/API/Account/3/Conversations/{id}/"),
    ] {
        assert_eq!(get(&world, &path).await, long, "{path}");
    }
    let body = ask(&world, Method::POST, "/api/4/conversation", json!({ "with": "3" })).await.ok();
    assert_eq!(body["id"], json!(id));
}

async fn other_apis_show_the_same_messages(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let body = json!({ "userUUID": bob.id, "message": { "type": "text", "content": "from a chat" } });
    let headers = [("token", ann.token.as_str())];
    let sent =
        http::ask_foreign(world.gateway(), Method::POST, "/chats/messages", &headers, Some(&body)).await;
    let conversation = text(&sent.ok()["chatId"]);
    let mut socket = ann.comes_online().await;
    let path = format!("/api/account/{}/conversation/{conversation}/messages", bob.id);
    as_person(&world, &bob, Method::POST, &path, json!({ "text": "from the messenger" })).await.ok();
    socket.expects_message("from the messenger").await;
    ann.sends(&conversation, json!({ "poll": { "question": "Tea?", "options": ["yes", "no"] } })).await;
    let gone = ann.says(&conversation, "gone").await;
    let message = format!("/v1/conversations/{conversation}/messages/{}", text(&gone["messageId"]));
    ann.patch(&message, json!({ "content": { "text": "edited" } })).await.ok();
    let page = as_person(&world, &bob, Method::GET, &path, json!({})).await.ok();
    assert_eq!(texts(&page), ["edited", "Tea?", "from the messenger", "from a chat"]);
    ann.delete(&message).await.ok();
    let page = as_person(&world, &bob, Method::GET, &path, json!({})).await.ok();
    assert_eq!(texts(&page), ["Tea?", "from the messenger", "from a chat"]);
    let shown = format!("/api/account/{}/conversation/{conversation}", bob.id);
    let shown = as_person(&world, &bob, Method::GET, &shown, json!({})).await.ok();
    assert_eq!(shown["lastMessage"]["text"], "Tea?", "a tombstone is no last message");
}

async fn the_swr_hook_works_unchanged(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let id = conversation(&world, "2", "4").await;
    let path = format!("/api/2/conversation/{id}/messages");
    for number in 1..=7 {
        ask(&world, Method::POST, &path, json!({ "text": number.to_string() })).await.ok();
    }
    let variables = [("ACCOUNT", "4"), ("CONVERSATION", id.as_str())];
    let mut script = Script::start("swr", world.gateway(), &variables);
    let first = script.says().await;
    assert_eq!(first["rows"], json!(["7", "6", "5"]), "{first}");
    assert_eq!(script.says().await["rows"], json!(["7", "6", "5", "4", "3", "2"]));
    let sent = script.says().await;
    assert_eq!(array(&sent["rows"])[..2], [json!("sent by the hook"), json!("7")]);
    assert_eq!(script.says().await["rows"], json!(["sent by the hook"]));
    let again = script.says().await;
    assert_eq!(again["rows"], json!(["sent by the hook", "7", "6"]), "what was sent is read at once");
    script.ends_well().await;
}

async fn malformed_requests_get_the_error_of_this_api(world: Arc<World>) {
    let id = conversation(&world, "1", "3").await;
    let messages = format!("/api/account/1/conversation/{id}/messages");
    let unknown = "0190a5c4-7b1f-7d3e-9a6b-1c2d3e4f5a6b";
    for (method, path, body, status) in [
        (Method::GET, format!("{messages}?pageSize=many"), json!({}), 400),
        (Method::GET, format!("{messages}?cursor=junk"), json!({}), 400),
        (Method::GET, format!("{messages}?cursor_labels=c"), json!({}), 400),
        (Method::POST, messages.clone(), json!({}), 400),
        (Method::POST, messages.clone(), json!({ "text": {} }), 400),
        (Method::POST, messages.clone(), json!({ "text": " " }), 400),
        (Method::POST, messages.clone(), json!({ "text": "x".repeat(20_000) }), 400),
        (Method::POST, messages.clone(), json!({ "text": "x".repeat(100_000) }), 413),
        (Method::PUT, messages.clone(), json!({}), 405),
        (Method::GET, format!("/api/account/1/conversation/{unknown}"), json!({}), 404),
        (Method::GET, format!("/api/account/1/conversation/{unknown}/messages"), json!({}), 404),
        (Method::GET, "/api/account/1/conversation/5".to_owned(), json!({}), 404),
        (Method::GET, format!("/api/account/4/conversation/{id}/messages"), json!({}), 404),
        (Method::POST, "/api/account/1/conversations?with=1".to_owned(), json!({}), 400),
        (Method::POST, "/api/account/1/conversations?with=nine".to_owned(), json!({}), 404),
        (Method::POST, "/api/account/1/conversations".to_owned(), json!({}), 400),
        (Method::GET, format!("/api/account/{unknown}"), json!({}), 404),
        (Method::GET, "/api/account".to_owned(), json!({}), 404),
        (Method::GET, "/api/account/1/nothing".to_owned(), json!({}), 404),
    ] {
        let answer = ask(&world, method.clone(), &path, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert!(answer.body["error"].is_string(), "{method} {path}: {}", answer.body);
    }
}
