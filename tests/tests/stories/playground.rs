//! The playground API: clients written for it work unchanged, and see what others do over the canonical API.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tests::http::{self, Answer};
use tests::person::{array, text};
use tests::{Person, World, waiting};

tests::stories![
    an_account_is_made_and_signs_in,
    a_guest_of_an_address_is_found_again,
    a_room_is_made_shown_changed_and_deleted,
    messages_are_posted_listed_and_deleted_over_http,
    a_ban_ends_by_itself_and_leaves_the_watching,
    moderators_are_appointed_and_shown,
    malformed_requests_get_the_error_of_this_api,
    constant_answers_are_there,
];

pub(super) async fn call(world: &World, token: &str, method: Method, path: &str, body: Value) -> Answer {
    call_at(world.gateway(), token, method, path, body).await
}

/// A call to one gateway, as a balancer with session affinity makes it.
pub(super) async fn call_at(
    gateway: SocketAddr,
    token: &str,
    method: Method,
    path: &str,
    body: Value,
) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    let headers = if token.is_empty() { &headers[..0] } else { &headers[..] };
    http::ask_foreign(gateway, method, path, headers, Some(&body)).await
}

pub(super) async fn get(world: &World, token: &str, path: &str) -> Answer {
    call(world, token, Method::GET, path, json!({})).await
}

pub(super) async fn post(world: &World, token: &str, path: &str, body: Value) -> Answer {
    call(world, token, Method::POST, path, body).await
}

/// A room of a person, by its uid.
pub(super) async fn room(world: &World, person: &Person, name: &str) -> String {
    text(&post(world, &person.token, "/rooms", json!({ "name": name })).await.ok()["room"]["uid"])
}

pub(super) async fn without_slow_mode(world: &World, person: &Person, room: &str) {
    let path = format!("/rooms/{room}");
    call(world, &person.token, Method::PATCH, &path, json!({ "slow_mode": 0 })).await.ok();
}

async fn uid(world: &World, person: &Person) -> String {
    text(&get(world, &person.token, "/me").await.ok()["user"]["uid"])
}

async fn an_account_is_made_and_signs_in(world: Arc<World>) {
    let suggested = get(&world, "", "/random").await.ok();
    let credentials = json!({ "username": suggested["username"], "password": suggested["password"] });
    let made = post(&world, "", "/users/register", credentials.clone()).await.ok();
    assert_eq!(made["user"]["roles"], json!([]));
    assert_eq!((&made["user"]["picture"], &made["user"]["balance"]), (&Value::Null, &json!(0)));
    let again = post(&world, "", "/users/register", credentials.clone()).await;
    assert_eq!((again.status, again.body["error"].is_string()), (409, true));
    let signed_in = post(&world, "", "/Users/Login/", credentials).await.ok();
    assert_eq!(signed_in["user"]["uid"], made["user"]["uid"]);
    let token = text(&signed_in["token"]);

    let me = get(&world, &token, "/me").await.ok();
    assert_eq!(me["user"]["uid"], made["user"]["uid"]);
    let path = format!("/users/{}", text(&made["user"]["uid"]));
    let renamed = call(&world, &token, Method::PATCH, &path, json!({ "display_name": "Ann B." })).await;
    assert_eq!((renamed.status, renamed.body), (204, Value::Null));
    // What everyone sees may be an old name for a moment.
    waiting::until("the new name", async || {
        let shown = get(&world, "", &path).await.ok();
        (shown["user"]["displayName"] == "Ann B.").then_some(())
    })
    .await;

    for (username, password) in [
        ("ann", "long enough"),
        ("root", "long enough"),
        ("anne b", "long enough"),
        ("anne-b", "short"),
        ("anne-b", "password1"),
    ] {
        let refused =
            post(&world, "", "/users/register", json!({ "username": username, "password": password })).await;
        assert_eq!(
            (refused.status, refused.body["error"].is_string()),
            (200, true),
            "{username}: {refused:?}"
        );
    }
    let wrong = json!({ "username": suggested["username"], "password": "not the password" });
    let refused = post(&world, "", "/users/login", wrong).await;
    assert_eq!((refused.status, refused.body["error"].is_string()), (200, true));
    assert_eq!(post(&world, "", "/users/login", json!({})).await.ok()["token"], Value::Null);
}

async fn a_guest_of_an_address_is_found_again(world: Arc<World>) {
    let one = post(&world, "", "/users/login", json!({ "guest": 1 })).await.ok();
    let form = reqwest::Client::new().post(format!("http://{}/users/login", world.gateway()));
    let form = form.header("content-type", "application/x-www-form-urlencoded").body("guest=1");
    let two: Value = form.send().await.expect("an answer").json().await.expect("json");
    assert_eq!(one["user"]["uid"], two["user"]["uid"]);
    let me = get(&world, &text(&two["token"]), "/me").await.ok();
    assert_eq!(me["user"]["uid"], one["user"]["uid"]);
    assert!(!text(&me["user"]["displayName"]).contains("127.0.0.1"), "{me}");
    // A guest makes rooms and writes.
    let token = text(&one["token"]);
    let made = post(&world, &token, "/rooms", json!({ "name": "a guest's" })).await.ok();
    let body = json!({ "room": made["room"]["uid"], "message": "hi" });
    post(&world, &token, "/messages", body).await.ok();
    let path = format!("/rooms/{}/messages", text(&made["room"]["uid"]));
    let list = get(&world, "", &path).await.ok();
    assert_eq!(list["messages"][0]["user"]["roles"], json!(["owner", "guest"]));
}

async fn a_room_is_made_shown_changed_and_deleted(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let body = json!({ "name": "Salon", "description": "all about it" });
    let made = post(&world, &ann.token, "/rooms", body).await.ok();
    let uid = text(&made["room"]["uid"]);
    let expected = json!({ "uid": uid, "name": "Salon", "description": "all about it", "slowMode": 3 });
    assert_eq!(made["room"], expected);
    let path = format!("/rooms/{uid}");
    assert_eq!(get(&world, "", &path).await.ok()["room"], expected);
    // The same room by its UUID, as the canonical API names it.
    let id = text(&ann.get("/v1/conversations?pageSize=1").await.ok()["conversations"][0]["conversationId"]);
    assert_eq!(get(&world, "", &format!("/rooms/{id}")).await.ok()["room"], expected);

    let change = json!({ "name": "Parlour", "slow_mode": 10 });
    assert_eq!(call(&world, &bob.token, Method::PATCH, &path, change.clone()).await.status, 403);
    assert_eq!(call(&world, "", Method::PATCH, &path, change.clone()).await.status, 401);
    assert_eq!(call(&world, &ann.token, Method::PATCH, &path, change).await.ok(), json!({ "status": 200 }));
    let changed = get(&world, &bob.token, &path).await.ok();
    assert_eq!((&changed["room"]["name"], &changed["room"]["slowMode"]), (&json!("Parlour"), &json!(10)));

    assert_eq!(call(&world, &bob.token, Method::DELETE, &path, json!({})).await.status, 403);
    let deleted = call(&world, &ann.token, Method::DELETE, &path, json!({})).await.ok();
    assert_eq!(deleted, json!({ "success": true }));
    assert_eq!(get(&world, "", &path).await.status, 404);
}

async fn messages_are_posted_listed_and_deleted_over_http(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let room = room(&world, &ann, "Salon").await;
    without_slow_mode(&world, &ann, &room).await;
    let mut ids = Vec::new();
    for number in 1..=22 {
        let body = json!({ "room": room, "message": number.to_string() });
        let sent = post(&world, &ann.token, "/messages", body).await.ok();
        assert_eq!(sent["success"], true);
        ids.push(text(&sent["result"]));
    }
    assert!(ids[0].starts_with(&format!("{room}-")), "{}", ids[0]);
    // Who writes comes in by it.
    let of_bob =
        post(&world, &bob.token, "/messages", json!({ "room": room, "message": "bob's" })).await.ok();
    let list = get(&world, "", &format!("/rooms/{room}/messages")).await.ok();
    let said: Vec<_> = array(&list["messages"]).iter().map(|message| text(&message["message"])).collect();
    let expected: Vec<_> =
        (4..=22).map(|number: i32| number.to_string()).chain(["bob's".to_owned()]).collect();
    assert_eq!((said, &list["error"], &list["room"]["name"]), (expected, &Value::Null, &json!("Salon")));
    let last = &list["messages"][19];
    assert_eq!(last["id"], of_bob["result"]);
    assert_eq!(
        (&last["user"]["displayName"], &last["user"]["roles"]),
        (&json!("bob"), &json!(["registered"]))
    );
    assert!(last["timestamp"].as_i64().is_some_and(|time| time > 1_600_000_000_000), "{last}");

    let path = format!("/messages/{}", text(&of_bob["result"]));
    assert_eq!(call(&world, &cid.token, Method::DELETE, &path, json!({})).await.status, 403);
    assert_eq!(call(&world, "", Method::DELETE, &path, json!({})).await.status, 401);
    for person in [&ann, &bob] {
        let deleted = call(&world, &person.token, Method::DELETE, &path, json!({})).await.ok();
        assert_eq!(deleted, json!({ "status": true }), "the owner, and again its author");
    }
    let list = get(&world, &bob.token, &format!("/rooms/{room}/messages")).await.ok();
    assert_eq!(list["messages"][19]["message"], "22", "a tombstone is not listed");

    let purge = format!("/rooms/{room}/messages");
    for person in [&bob, &cid] {
        assert_eq!(call(&world, &person.token, Method::DELETE, &purge, json!({})).await.status, 403);
    }
    assert_eq!(call(&world, &ann.token, Method::DELETE, &purge, json!({})).await.status, 204);
    assert_eq!(get(&world, "", &purge).await.ok()["messages"], json!([]));

    for body in [json!({}), json!({ "message": "" }), json!({ "message": "in no room" })] {
        let refused = post(&world, &ann.token, "/messages", body).await;
        assert_eq!((refused.status, refused.body["error"].is_string()), (200, true), "{refused:?}");
    }
}

async fn a_ban_ends_by_itself_and_leaves_the_watching(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let room = room(&world, &ann, "Salon").await;
    without_slow_mode(&world, &ann, &room).await;
    post(&world, &bob.token, "/messages", json!({ "room": room, "message": "one" })).await.ok();
    let bob_uid = uid(&world, &bob).await;
    let ban =
        |duration: &str| json!({ "user": bob_uid, "room": room, "duration": duration, "reason": "loud" });
    assert_eq!(post(&world, &bob.token, "/bans", ban("1h")).await.status, 403);
    assert_eq!(post(&world, "", "/bans", ban("1h")).await.status, 401);
    for duration in ["", "0s", "1w", "soon", "-5m"] {
        let refused = post(&world, &ann.token, "/bans", ban(duration)).await;
        assert_eq!(
            (refused.status, refused.body["error"].is_string()),
            (200, true),
            "{duration}: {refused:?}"
        );
    }
    assert!(post(&world, &ann.token, "/bans", ban("1d12h")).await.ok()["message"].is_string());
    let said = json!({ "room": room, "message": "two" });
    let refused = post(&world, &bob.token, "/messages", said.clone()).await;
    assert_eq!((refused.status, refused.body["error"].is_string()), (403, true), "{refused:?}");
    let list = get(&world, &bob.token, &format!("/rooms/{room}/messages")).await.ok();
    assert_eq!(list["messages"][0]["message"], "one", "who is banned still reads");

    // A second ban replaces the first.
    post(&world, &ann.token, "/bans", ban("2s")).await.ok();
    assert_eq!(post(&world, &bob.token, "/messages", said.clone()).await.status, 403);
    waiting::until("the end of the ban", async || {
        (post(&world, &bob.token, "/messages", said.clone()).await.status == 200).then_some(())
    })
    .await;

    post(&world, &ann.token, "/bans", ban("1d")).await.ok();
    let lift = json!({ "user": bob.id, "room": room });
    assert!(post(&world, &ann.token, "/unban", lift.clone()).await.ok()["message"].is_string());
    assert_eq!(post(&world, &ann.token, "/unban", lift).await.status, 404);
    post(&world, &bob.token, "/messages", json!({ "room": room, "message": "three" })).await.ok();
}

async fn moderators_are_appointed_and_shown(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let room = room(&world, &ann, "Salon").await;
    without_slow_mode(&world, &ann, &room).await;
    let body = json!({ "room": room });
    let path = |what: &str| format!("/users/{}/{what}", bob.id);
    assert_eq!(post(&world, &cid.token, &path("mod"), body.clone()).await.status, 403);
    assert_eq!(post(&world, &ann.token, &path("mod"), body.clone()).await.ok()["status"], true);
    let of_cid = post(&world, &cid.token, "/messages", json!({ "room": room, "message": "hm" })).await.ok();
    let delete = format!("/messages/{}", text(&of_cid["result"]));
    call(&world, &bob.token, Method::DELETE, &delete, json!({})).await.ok();
    post(&world, &bob.token, "/messages", json!({ "room": room, "message": "behave" })).await.ok();
    let list = get(&world, "", &format!("/rooms/{room}/messages")).await.ok();
    assert_eq!(list["messages"][0]["user"]["roles"], json!(["mod", "registered"]));

    let connection = bob.comes_online().await;
    let users_path = format!("/rooms/{room}/users");
    waiting::until("bob to be there", async || {
        let users = get(&world, "", &users_path).await.ok();
        let bob = array(&users["users"]).iter().find(|user| user["displayName"] == "bob")?;
        (bob["roles"] == json!(["mod", "registered"])).then_some(())
    })
    .await;
    drop(connection);
    assert_eq!(post(&world, &ann.token, &path("unmod"), body).await.ok()["status"], true);
    let list = get(&world, "", &format!("/rooms/{room}/messages")).await.ok();
    assert_eq!(list["messages"][0]["user"]["roles"], json!(["registered"]));
}

async fn malformed_requests_get_the_error_of_this_api(world: Arc<World>) {
    let ann = world.person("ann").await;
    let room = room(&world, &ann, "Salon").await;
    let token = ann.token.as_str();
    let uuid = proto::id::ConversationId::generate();
    for (method, path, body, status) in [
        (Method::POST, "/rooms".to_owned(), json!({}), 400),
        (Method::POST, "/rooms".to_owned(), json!({ "name": {} }), 400),
        (Method::POST, "/rooms".to_owned(), json!({ "name": "x".repeat(200) }), 400),
        (Method::POST, "/users/register".to_owned(), json!({ "username": [], "password": "x" }), 400),
        (Method::GET, "/rooms/nowhere".to_owned(), json!({}), 404),
        (Method::GET, format!("/rooms/{uuid}"), json!({}), 404),
        (Method::GET, format!("/rooms/{uuid}/messages"), json!({}), 404),
        (Method::GET, "/users/nobody".to_owned(), json!({}), 404),
        (Method::PATCH, format!("/rooms/{room}"), json!({}), 400),
        (Method::PATCH, format!("/rooms/{room}"), json!({ "slow_mode": "fast" }), 400),
        (Method::PATCH, format!("/rooms/{room}"), json!({ "slow_mode": -1 }), 400),
        (Method::PATCH, "/me".to_owned(), json!({}), 400),
        (Method::POST, "/messages".to_owned(), json!({ "room": room, "message": "a\u{0}b" }), 400),
        (Method::POST, "/messages".to_owned(), json!({ "room": uuid.to_string(), "message": "x" }), 404),
        (Method::DELETE, "/messages/1".to_owned(), json!({}), 404),
        (Method::DELETE, format!("/messages/{uuid}"), json!({}), 404),
        (Method::DELETE, format!("/messages/{room}-99999"), json!({}), 404),
        (Method::POST, "/bans".to_owned(), json!({ "room": room, "duration": "1d" }), 400),
        (Method::POST, "/unban".to_owned(), json!({ "room": room, "user": ann.id }), 404),
        (Method::DELETE, "/connections/abc".to_owned(), json!({}), 403),
        (Method::GET, "/rooms".to_owned(), json!({}), 405),
        (Method::DELETE, format!("/users/{}", ann.id), json!({}), 405),
        (Method::GET, "/rooms/x/y/z".to_owned(), json!({}), 404),
    ] {
        let refused = call(&world, token, method.clone(), &path, body).await;
        let has_error = refused.body["error"].is_string();
        assert_eq!((refused.status, has_error), (status, true), "{method} {path}: {refused:?}");
    }
    for path in ["/me", "/rooms", "/messages", "/connections/x", "/users/x/mod"] {
        let method = match path {
            "/me" => Method::GET,
            "/connections/x" => Method::DELETE,
            _ => Method::POST,
        };
        for token in ["", "undefined", "nonsense"] {
            let refused = call(&world, token, method.clone(), path, json!({ "name": "x" })).await;
            assert_eq!(
                (refused.status, refused.body["error"].is_string()),
                (401, true),
                "{path}: {refused:?}"
            );
        }
    }
    let refused =
        http::ask_foreign(world.gateway(), Method::POST, "/users/login", &[], Some(&json!("x"))).await;
    assert_eq!((refused.status, refused.body["error"].is_string()), (400, true));
    // On one developer's machine the token may stand in the query.
    assert!(get(&world, "", &format!("/me?token={token}")).await.ok()["user"]["uid"].is_string());
}

async fn constant_answers_are_there(world: Arc<World>) {
    assert_eq!(get(&world, "", "/health").await.ok(), json!({ "ping": "pong" }));
    assert_eq!(get(&world, "", "/favicon.ico").await.status, 204);
    for path in ["/bans", "/moderators"] {
        assert!(get(&world, "", path).await.ok()["message"].is_string());
    }
    let socket = get(&world, "", "/websocket").await.ok();
    assert_eq!((socket["websocketUrl"].is_string(), &socket["error"]), (true, &Value::Null));
    let place = get(&world, "", "/geoip2?ip=192.0.2.7").await.ok();
    assert_eq!((&place["ip"], &place["headers"]), (&json!("192.0.2.7"), &json!({})));
    let status = get(&world, "", "/").await.ok();
    assert_eq!((&status["status"], &status["links"]["api"]), (&json!(200), &json!("/v1")));
    assert!(status["uptime"].is_number() && status["load"].is_array(), "{status}");
}
