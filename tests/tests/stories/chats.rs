//! The `/chats` API: clients written for it work unchanged, and see what others do over the canonical API.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tests::http::{self, Answer};
use tests::person::{array, text};
use tests::{Person, World};

tests::stories![
    a_private_chat_is_found_or_made_by_the_first_message,
    a_discussion_group_is_the_set_of_its_members,
    a_group_is_made_shown_and_written_to,
    every_type_of_message_comes_back_as_it_was_sent,
    history_is_cut_by_limit_skip_and_time,
    unread_counts_end_with_reading,
    chats_and_the_canonical_api_show_the_same,
    malformed_requests_get_the_error_of_this_api
];

/// Calls an operation as a client of this API: the token in the header `token`.
async fn call(world: &World, person: &Person, method: Method, path: &str, body: Value) -> Answer {
    let headers = [("token", person.token.as_str())];
    http::ask_foreign(world.gateway(), method, path, &headers, Some(&body)).await
}

async fn post(world: &World, person: &Person, body: Value) -> Value {
    call(world, person, Method::POST, "/chats/messages", body).await.ok()
}

async fn history(world: &World, person: &Person, query: Value) -> Value {
    call(world, person, Method::GET, "/chats/messages", query).await.ok()
}

fn contents(list: &Value) -> Vec<Value> {
    array(&list["messages"]).iter().map(|message| message["content"].clone()).collect()
}

fn says(words: &str) -> Value {
    json!({ "type": "text", "content": words })
}

async fn a_private_chat_is_found_or_made_by_the_first_message(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let first = post(&world, &ann, json!({ "userUUID": bob.id, "message": says("hello") })).await;
    assert_eq!(first["code"], 200);
    let again = post(&world, &bob, json!({ "userId": ann.id, "message": says("hi") })).await;
    assert_eq!(first["chatId"], again["chatId"]);
    let third = post(&world, &ann, json!({ "chatId": first["chatId"], "message": says("well?") })).await;
    assert_ne!(third["id"], first["id"]);
    let list = history(&world, &bob, json!({ "chatId": first["chatId"] })).await;
    assert_eq!(contents(&list), ["well?", "hi", "hello"]);
    assert_eq!(list["messages"][2]["userId"], json!(ann.id));
    assert_eq!(list["meta"], json!({ "limit": 20, "skip": 0, "hasMore": false }));
}

async fn a_discussion_group_is_the_set_of_its_members(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let one = post(&world, &ann, json!({ "userUUIDs": [bob.id, cid.id], "message": says("all?") })).await;
    let commas = format!("{},{},{}", cid.id, ann.id, bob.id);
    let two = post(&world, &bob, json!({ "userUUIDs": commas, "message": says("here") })).await;
    assert_eq!(one["chatId"], two["chatId"]);
    let other = post(&world, &ann, json!({ "userIds": [bob.id], "message": says("just us") })).await;
    assert_ne!(one["chatId"], other["chatId"]);
    let chats = call(&world, &cid, Method::GET, "/chats", json!({})).await.ok();
    assert_eq!((&chats["chats"][0]["type"], &chats["chats"][0]["id"]), (&json!(3), &one["chatId"]));
}

async fn a_group_is_made_shown_and_written_to(world: Arc<World>) {
    let [ann, bob, eve] = world.people(["ann", "bob", "eve"]).await;
    let body = json!({ "users": [bob.id, ann.id], "name": "Gardeners", "desc": "all about roses" });
    let made = call(&world, &ann, Method::POST, "/chats/groups", body).await.ok();
    let path = format!("/chats/groups/{}", text(&made["groupId"]));
    let group = call(&world, &bob, Method::GET, &path, json!({})).await.ok();
    assert_eq!((&group["name"], &group["desc"]), (&json!("Gardeners"), &json!("all about roses")));
    let users: Vec<_> = array(&group["users"]).iter().map(|user| text(&user["id"])).collect();
    assert_eq!(users, [ann.id.as_str(), bob.id.as_str()]);
    assert_eq!(group["users"][0]["name"], "ann");
    let sent = post(&world, &bob, json!({ "groupUUID": made["groupId"], "message": says("hi") })).await;
    assert_eq!(sent["chatId"], made["chatId"]);

    assert_eq!(call(&world, &eve, Method::GET, &path, json!({})).await.status, 403);
    let refused = http::ask_foreign(world.gateway(), Method::GET, &path, &[], None).await;
    assert_eq!((refused.status, &refused.body["code"]), (401, &json!(401)));
}

async fn every_type_of_message_comes_back_as_it_was_sent(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let chat = ann.starts_direct_with(&bob).await;
    let all = [
        says("two\nlines \u{1f331}"),
        json!({ "type": "docId", "content": "document-17" }),
        json!({ "type": "link", "content": "https://example.com/a" }),
        json!({ "type": "link", "content": { "url": "https://example.com/", "title": "T", "description": "D" } }),
        json!({ "type": "location", "content": { "lat": 52.5, "lng": 13.25, "name": "Pier" } }),
        json!({ "type": "profileId", "content": bob.id }),
    ];
    for message in &all {
        post(&world, &ann, json!({ "chatId": chat, "message": message })).await;
    }
    let list = history(&world, &bob, json!({ "chatId": chat })).await;
    let shown = array(&list["messages"]).iter().rev();
    let shown: Vec<_> = shown.map(|one| json!({ "type": one["type"], "content": one["content"] })).collect();
    assert_eq!(shown, all);
}

async fn history_is_cut_by_limit_skip_and_time(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let chat = ann.starts_direct_with(&bob).await;
    for number in 1..=5 {
        ann.says(&chat, &number.to_string()).await;
    }
    let gone = ann.says(&chat, "gone").await;
    let path = format!("/v1/conversations/{chat}/messages/{}", text(&gone["messageId"]));
    ann.delete(&path).await.ok();

    let page = history(&world, &bob, json!({ "chatId": chat, "limit": 2, "skip": 1 })).await;
    assert_eq!(contents(&page), ["4", "3"]);
    assert_eq!(page["meta"], json!({ "limit": 2, "skip": 1, "hasMore": true }));
    let rest = history(&world, &bob, json!({ "chatId": chat, "limit": "2", "skip": "4" })).await;
    assert_eq!((contents(&rest), &rest["meta"]["hasMore"]), (vec![json!("1")], &json!(false)));
    // A browser cannot send a body with GET: the query does the same.
    let headers = [("token", bob.token.as_str())];
    let path = format!("/Chats/Messages/?chatId={chat}&limit=1");
    let query = http::ask_foreign(world.gateway(), Method::GET, &path, &headers, None).await.ok();
    assert_eq!(contents(&query), ["5"]);

    let third = text(
        &history(&world, &bob, json!({ "chatId": chat, "limit": 1, "skip": 2 })).await["messages"][0]["createdAt"],
    );
    let since = history(&world, &bob, json!({ "chatId": chat, "startAt": third })).await;
    assert!(contents(&since).starts_with(&[json!("5"), json!("4"), json!("3")]), "{since}");
    let until = history(&world, &bob, json!({ "chatId": chat, "endAt": third })).await;
    assert!(!contents(&until).contains(&json!("3")), "{until}");
    assert!(contents(&until).ends_with(&[json!("1")]) || contents(&until).is_empty(), "{until}");
}

async fn unread_counts_end_with_reading(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let sent = post(&world, &ann, json!({ "userUUID": bob.id, "message": says("one") })).await;
    post(&world, &ann, json!({ "chatId": sent["chatId"], "message": says("two") })).await;
    let chats = call(&world, &bob, Method::GET, "/chats", json!({})).await.ok();
    let row = &chats["chats"][0];
    assert_eq!((&row["unRead"], &row["type"], &row["name"]), (&json!(2), &json!(1), &json!("ann")));
    assert_eq!(row["lastMessage"]["content"], "two");
    assert_eq!((&row["id"], &row["icon"]), (&row["chatId"], &json!("")));

    // An older part of the list is no reading of the newest.
    history(&world, &bob, json!({ "chatId": sent["chatId"], "skip": 1 })).await;
    let chats = call(&world, &bob, Method::GET, "/chats", json!({})).await.ok();
    assert_eq!(chats["chats"][0]["unRead"], 2);
    history(&world, &bob, json!({ "chatId": sent["chatId"] })).await;
    let chats = call(&world, &bob, Method::GET, "/chats", json!({})).await.ok();
    assert_eq!(chats["chats"][0]["unRead"], 0);
}

async fn chats_and_the_canonical_api_show_the_same(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let chat = ann.starts_direct_with(&bob).await;
    let mut socket = bob.comes_online().await;
    post(&world, &ann, json!({ "chatId": chat, "message": says("from a chat") })).await;
    socket.expects_message("from a chat").await;
    let sent = bob.says(&chat, "from the canonical API").await;
    let list = history(&world, &ann, json!({ "chatId": chat })).await;
    assert_eq!(contents(&list), ["from the canonical API", "from a chat"]);

    let path = format!("/v1/conversations/{chat}/messages/{}", text(&sent["messageId"]));
    bob.patch(&path, json!({ "content": { "text": "edited" } })).await.ok();
    let list = history(&world, &ann, json!({ "chatId": chat })).await;
    assert_eq!(contents(&list), ["edited", "from a chat"]);
    assert!(list["messages"][0]["updatedAt"].is_string());
    bob.delete(&path).await.ok();
    assert_eq!(contents(&history(&world, &ann, json!({ "chatId": chat })).await), ["from a chat"]);
    let poll = json!({ "poll": { "question": "Tea?", "options": ["yes", "no"] } });
    ann.sends(&chat, poll).await;
    let list = history(&world, &bob, json!({ "chatId": chat })).await;
    assert_eq!(
        (&list["messages"][0]["type"], &list["messages"][0]["content"]),
        (&json!("poll"), &json!("Tea?"))
    );
}

async fn malformed_requests_get_the_error_of_this_api(world: Arc<World>) {
    let [ann, eve] = world.people(["ann", "eve"]).await;
    let [bob] = world.people(["bob"]).await;
    let chat = ann.starts_direct_with(&bob).await;
    for (body, status, part) in [
        (json!({}), 400, "chatId"),
        (json!({ "chatId": "junk", "message": says("x") }), 400, "chatId"),
        (json!({ "chatId": {}, "message": says("x") }), 400, "chatId"),
        (json!({ "chatId": chat }), 400, "message"),
        (json!({ "chatId": chat, "message": [] }), 400, "message"),
        (json!({ "chatId": chat, "message": says(" ") }), 400, "message.content"),
        (json!({ "userUUIDs": [eve.id], "message": says("x") }), 400, "userUUIDs"),
        (json!({ "chatId": chat, "message": says("x") }), 404, ""),
        (json!({ "userUUID": "0190a5c4-7b1f-7d3e-9a6b-1c2d3e4f5a6b", "message": says("x") }), 404, ""),
    ] {
        let answer = call(&world, &eve, Method::POST, "/chats/messages", body.clone()).await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (status, &json!(status)),
            "{body}: {}",
            answer.body
        );
        assert!(text(&answer.body["message"]).contains(part), "{body}: {}", answer.body);
    }
    let wrong = http::ask_foreign(world.gateway(), Method::GET, "/chats", &[("token", "wrong")], None).await;
    assert_eq!((wrong.status, &wrong.body["code"]), (401, &json!(401)));
    let large = json!({ "chatId": chat, "message": says(&"x".repeat(1_000_000)) });
    let large = call(&world, &ann, Method::POST, "/chats/messages", large).await;
    assert_eq!((large.status, &large.body["code"]), (413, &json!(413)));
    let other = call(&world, &ann, Method::DELETE, "/chats", json!({})).await;
    assert_eq!((other.status, &other.body["code"]), (405, &json!(405)));
    assert_eq!(call(&world, &ann, Method::GET, "/chats/nothing", json!({})).await.body["code"], 404);
}
