//! The playground API over Socket.IO, with the library that its clients use.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tests::World;
use tests::node;
use tests::person::{number, path_of, text};
use tests::socketio::SocketIo;

use crate::playground::{call, call_at, post, room, without_slow_mode};

tests::stories![
    the_first_events_of_the_client_come_without_waiting,
    a_room_is_watched_without_signing_in,
    messages_of_other_apis_come_to_watchers,
    a_new_name_is_told_to_the_user_and_to_watchers,
    every_gateway_tells_its_own_sockets,
    slow_mode_holds_and_is_told,
    commands_are_carried_out,
    commands_ban_by_a_part_of_a_name,
    signing_out_ends_no_session_and_no_watching,
    odd_events_are_answered,
];

async fn the_first_events_of_the_client_come_without_waiting(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let ann = world.person("ann").await;
    let room = room(&world, &ann, "Salon").await;
    let body = json!({ "room": room, "message": "before" });
    post(&world, &ann.token, "/messages", body).await.ok();
    let gateway = world.gateway();
    let mut sockets = SocketIo::start(gateway);
    // The library keeps what is sent before the connection is there.
    sockets.connects("ann", json!({ "transports": ["websocket"] })).await;
    for (event, body) in [
        ("login", json!({ "token": ann.token })),
        ("join", json!({ "uid": room })),
        ("login", json!({ "token": ann.token })),
        ("join", json!({ "uid": room })),
    ] {
        sockets.emits("ann", event, body).await;
    }
    for _ in 0..2 {
        let user = sockets.hears("ann", "auth_updated").await;
        assert_eq!((&user["user"]["displayName"], &user["user"]["roles"]), (&json!("ann"), &json!([])));
        let shown = sockets.hears("ann", "room_updated").await;
        assert_eq!((&shown["room"]["uid"], &shown["room"]["name"]), (&json!(room), &json!("Salon")));
        let messages = sockets.hears("ann", "room_messages").await;
        assert_eq!(messages["messages"][0]["message"], "before");
        let users = sockets.hears("ann", "room_users").await;
        assert_eq!(users["users"][0]["displayName"], "ann");
        assert_eq!(users["users"][0]["roles"], json!(["owner", "registered"]));
    }
    sockets.emits("ann", "sendMessage", json!({ "timestamp": 1, "text": "hello" })).await;
    let message = sockets.hears("ann", "message").await;
    assert_eq!((&message["message"], &message["user"]["displayName"]), (&json!("hello"), &json!("ann")));
    assert!(text(&message["id"]).starts_with(&format!("{room}-")));
    let heard = sockets.has_heard("ann").await;
    assert!(
        !heard.iter().any(|event| event == "message"),
        "a message comes once, and history not as messages: {heard:?}"
    );

    let path = format!("/messages/{}", text(&message["id"]));
    call(&world, &ann.token, Method::DELETE, &path, json!({})).await.ok();
    assert_eq!(sockets.hears("ann", "message_deleted").await, json!({ "ids": message["id"] }));
    // Without a room, a message goes to the one that was joined last.
    let message = json!({ "message": "over HTTP" });
    let sent = call_at(gateway, &ann.token, Method::POST, "/messages", message).await.ok();
    assert_eq!(sent["success"], true, "{sent}");
    assert_eq!(sockets.hears("ann", "message").await["id"], sent["result"]);
    call(&world, &ann.token, Method::DELETE, &format!("/rooms/{room}/messages"), json!({})).await;
    assert_eq!(sockets.hears("ann", "room_purged").await, json!({ "deleted": true }));
}

async fn a_room_is_watched_without_signing_in(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let room = room(&world, &ann, "Salon").await;
    without_slow_mode(&world, &ann, &room).await;
    let mut sockets = SocketIo::start(world.gateway());
    // By polling, which is upgraded.
    sockets.connects("viewer", json!({})).await;
    sockets.hears("viewer", "connect").await;
    sockets.emits("viewer", "join", json!({ "uid": room })).await;
    assert_eq!(sockets.hears("viewer", "room_messages").await, json!({ "messages": [] }));
    assert_eq!(sockets.hears("viewer", "upgrade").await, "websocket");
    // By polling only.
    sockets.connects("poller", json!({ "transports": ["polling"] })).await;
    assert_eq!(sockets.hears("poller", "connect").await, "polling");
    sockets.emits("poller", "join", json!({ "uid": room })).await;
    sockets.hears("poller", "room_users").await;
    let refused = sockets.asks("viewer", "sendMessage", json!({ "text": "may I?" })).await;
    assert!(refused["error"].is_string());
    assert_eq!(sockets.hears("viewer", "system").await["type"], "error");

    // One who is banned goes on watching.
    sockets.is_connected("bob").await;
    sockets.emits("bob", "login", json!({ "token": bob.token })).await;
    sockets.emits("bob", "join", json!({ "uid": room })).await;
    sockets.hears("bob", "room_users").await;
    let ban = json!({ "user": bob.id, "room": room, "duration": "1h" });
    post(&world, &ann.token, "/bans", ban).await.ok();
    post(&world, &ann.token, "/messages", json!({ "room": room, "message": "well" })).await.ok();
    for name in ["viewer", "poller", "bob"] {
        assert_eq!(sockets.hears(name, "message").await["message"], "well", "{name}");
    }
    sockets.emits("bob", "sendMessage", json!({ "text": "let me in" })).await;
    let refused = text(&sockets.hears("bob", "system").await["text"]);
    assert!(refused.contains("banned") && refused.contains("minutes"), "{refused}");
    sockets.emits("bob", "join", json!({ "uid": room })).await;
    let shown = sockets.hears_when("bob", "room_messages", |shown| shown["messages"] != json!([])).await;
    assert_eq!(shown["messages"][0]["message"], "well");

    call(&world, &ann.token, Method::DELETE, &format!("/rooms/{room}"), json!({})).await.ok();
    for name in ["viewer", "poller", "bob"] {
        assert!(sockets.hears(name, "error").await["message"].is_string(), "{name}");
    }
    sockets.emits("viewer", "join", json!({ "uid": room })).await;
    let error = sockets.hears("viewer", "error").await;
    assert!(error["timestamp"].as_i64().is_some_and(|time| time < 100_000_000_000), "in seconds: {error}");
}

async fn messages_of_other_apis_come_to_watchers(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let uid = room(&world, &ann, "Salon").await;
    without_slow_mode(&world, &ann, &uid).await;
    let id = text(&ann.get("/v1/conversations?pageSize=1").await.ok()["conversations"][0]["conversationId"]);
    let mut sockets = SocketIo::start(world.gateway());
    sockets.is_connected("viewer").await;
    sockets.emits("viewer", "join", json!({ "uid": uid })).await;
    sockets.hears("viewer", "room_users").await;

    bob.post(&format!("/v1/conversations/{id}/join"), json!({})).await.ok();
    let sent = bob.says(&id, "from elsewhere").await;
    let message = sockets.hears("viewer", "message").await;
    assert_eq!(
        (&message["message"], &message["user"]["displayName"]),
        (&json!("from elsewhere"), &json!("bob"))
    );
    assert_eq!(text(&message["id"]), format!("{uid}-{}", number(&sent["sequence"])));
    let poll = json!({ "content": { "poll": { "question": "Tea?", "options": ["yes", "no"] } } });
    bob.post(&format!("/v1/conversations/{id}/messages"), poll).await.ok();
    assert_eq!(sockets.hears("viewer", "message").await["message"], "Tea?");
    ann.delete(&path_of(&sent)).await.ok();
    assert_eq!(sockets.hears("viewer", "message_deleted").await, json!({ "ids": message["id"] }));
    let changes = json!({ "conversation": { "topic": "tea" }, "updateMask": "topic" });
    ann.patch(&format!("/v1/conversations/{id}"), changes).await.ok();
    let changed =
        sockets.hears_when("viewer", "room_updated", |shown| shown["room"]["description"] == "tea").await;
    assert_eq!(changed["room"]["name"], "Salon");

    // A room that was made elsewhere is not public: its members watch it.
    let closed = ann.opens_room("Members only").await;
    sockets.emits("viewer", "join", json!({ "uid": closed })).await;
    assert!(sockets.hears("viewer", "error").await["message"].is_string());
    sockets.emits("viewer", "login", json!({ "token": bob.token })).await;
    sockets.hears("viewer", "auth_updated").await;
    sockets.emits("viewer", "join", json!({ "uid": closed })).await;
    sockets.hears_when("viewer", "room_updated", |shown| shown["room"]["name"] == "Members only").await;
    ann.says(&closed, "just us").await;
    assert_eq!(sockets.hears("viewer", "message").await["message"], "just us");
}

async fn a_new_name_is_told_to_the_user_and_to_watchers(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let room = room(&world, &ann, "Salon").await;
    let mut sockets = SocketIo::start(world.gateway());
    sockets.is_connected("viewer").await;
    sockets.emits("viewer", "join", json!({ "uid": room })).await;
    sockets.hears("viewer", "room_users").await;
    sockets.is_connected("bob").await;
    sockets.emits("bob", "login", json!({ "token": bob.token })).await;
    sockets.emits("bob", "join", json!({ "uid": room })).await;
    sockets.hears("bob", "room_users").await;
    let name = json!({ "display_name": "Robert" });
    call(&world, &bob.token, Method::PATCH, "/me", name).await;
    let renamed = |shown: &Value| shown["user"]["displayName"] == "Robert";
    sockets.hears_when("bob", "auth_updated", renamed).await;
    let shown = sockets.hears_when("viewer", "user_updated", renamed).await;
    assert_eq!(shown["user"]["roles"], json!(["registered"]));
    post(&world, &bob.token, "/messages", json!({ "room": room, "message": "hi" })).await.ok();
    assert_eq!(sockets.hears("viewer", "message").await["user"]["displayName"], "Robert");
}

async fn every_gateway_tells_its_own_sockets(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let ann = world.person("ann").await;
    let room = room(&world, &ann, "Salon").await;
    without_slow_mode(&world, &ann, &room).await;
    let gateways = world.gateways();
    let (first, last) = (gateways[0], gateways[gateways.len() - 1]);
    let mut here = SocketIo::start(first);
    let mut there = SocketIo::start(last);
    for sockets in [&mut here, &mut there] {
        sockets.is_connected("viewer").await;
        sockets.emits("viewer", "join", json!({ "uid": room })).await;
        sockets.hears("viewer", "room_users").await;
    }
    post(&world, &ann.token, "/messages", json!({ "room": room, "message": "all" })).await.ok();
    for sockets in [&mut here, &mut there] {
        assert_eq!(sockets.hears("viewer", "message").await["message"], "all");
    }
    if first == last {
        return;
    }
    // A connection that polls belongs to one gateway: the balancer has to keep it there.
    let open = format!("http://{first}/socket.io/?EIO=4&transport=polling");
    let opened = reqwest::get(open).await.expect("an answer").text().await.expect("a text");
    let opened: Value = serde_json::from_str(&opened[1..]).expect("json");
    let poll = format!("http://{last}/socket.io/?EIO=4&transport=polling&sid={}", text(&opened["sid"]));
    let refused = reqwest::get(poll).await.expect("an answer");
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.expect("a text").contains("Session ID unknown"));
}

async fn slow_mode_holds_and_is_told(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let room = room(&world, &ann, "Salon").await;
    let mut sockets = SocketIo::start(world.gateway());
    for person in [&ann, &bob] {
        sockets.is_connected(&person.name).await;
        sockets.emits(&person.name, "login", json!({ "token": person.token })).await;
        sockets.emits(&person.name, "join", json!({ "uid": room })).await;
        sockets.hears(&person.name, "room_users").await;
    }
    let (ann, bob) = (ann.name.as_str(), bob.name.as_str());
    for text in ["one", "two"] {
        assert!(
            sockets.asks(ann, "sendMessage", json!({ "text": text })).await["success"] == true,
            "the owner never waits"
        );
    }
    assert_eq!(sockets.asks(bob, "sendMessage", json!({ "text": "one" })).await["success"], true);
    let refused = sockets.asks(bob, "sendMessage", json!({ "text": "two" })).await;
    assert!(text(&refused["error"]).contains("slow mode"), "{refused}");
    let told = sockets.hears(bob, "system").await;
    assert!(text(&told["text"]).contains("second"), "{told}");
}

async fn commands_are_carried_out(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let ann = world.person("ann").await;
    let uid = room(&world, &ann, "Salon").await;
    let other = room(&world, &ann, "Annex").await;
    let mut sockets = SocketIo::start(world.gateway());
    sockets.is_connected("ann").await;
    let says = |text: &str| json!({ "text": text });
    sockets.emits("ann", "sendMessage", says("!echo hello there")).await;
    assert_eq!(sockets.hears("ann", "system").await, json!({ "type": "info", "text": "hello there" }));
    for command in ["!unknown", "!mod ann", "!room name x", "!name x", "!purge", "!ban ann", "!", "!leave"] {
        let refused = sockets.asks("ann", "sendMessage", says(command)).await;
        assert!(refused["error"].is_string(), "{command}: {refused}");
        assert_eq!(sockets.hears("ann", "system").await["type"], "error", "{command}");
    }
    sockets.emits("ann", "sendMessage", says(&format!("!login {}", ann.token))).await;
    assert_eq!(sockets.hears("ann", "auth_updated").await["user"]["displayName"], "ann");
    sockets.emits("ann", "sendMessage", says(&format!("!join {uid}"))).await;
    sockets.hears("ann", "room_users").await;
    sockets.emits("ann", "sendMessage", says("!room name The salon")).await;
    let renamed = |shown: &Value| shown["room"]["name"] == "The salon";
    sockets.hears_when("ann", "room_updated", renamed).await;
    assert_eq!(sockets.hears("ann", "system").await["type"], "success");
    sockets.emits("ann", "sendMessage", says("!room slow 2")).await;
    assert_eq!(sockets.hears("ann", "system").await["type"], "error");
    sockets.emits("ann", "sendMessage", says("!room slow 7")).await;
    sockets.hears_when("ann", "room_updated", |shown| shown["room"]["slowMode"] == 7).await;
    sockets.hears("ann", "system").await;
    sockets.emits("ann", "sendMessage", says("!name Ann of the salon")).await;
    assert_eq!(sockets.hears("ann", "auth_updated").await["user"]["displayName"], "Ann of the salon");
    sockets.emits("ann", "sendMessage", says("to be purged")).await;
    sockets.hears("ann", "message").await;
    sockets.emits("ann", "sendMessage", says("!purge")).await;
    sockets.hears("ann", "room_purged").await;

    // The room that was joined last is the one that is written to; leaving it goes back.
    sockets.emits("ann", "sendMessage", says(&format!("!join {other}"))).await;
    sockets.hears_when("ann", "room_updated", |shown| shown["room"]["name"] == "Annex").await;
    sockets.emits("ann", "sendMessage", says("in the annex")).await;
    assert_eq!(sockets.hears("ann", "message").await["room"], json!(other));
    sockets.emits("ann", "sendMessage", says("!leave")).await;
    sockets.hears_when("ann", "system", |said| text(&said["text"]).contains("left")).await;
    sockets.emits("ann", "sendMessage", says("in the salon")).await;
    assert_eq!(sockets.hears("ann", "message").await["room"], json!(uid));
    sockets.emits("ann", "sendMessage", says("!quit")).await;
    sockets.hears_when("ann", "system", |said| text(&said["text"]).contains("left")).await;
    let nowhere = sockets.asks("ann", "sendMessage", says("nowhere")).await;
    assert!(nowhere["error"].is_string(), "{nowhere}");
    sockets.emits("ann", "sendMessage", says("!logout")).await;
    assert_eq!(sockets.hears("ann", "auth_updated").await, json!({ "user": null }));
    sockets.emits("ann", "sendMessage", says("!login")).await;
    let guest = sockets.hears("ann", "auth_updated").await;
    assert!(text(&guest["user"]["displayName"]).starts_with("guest"), "{guest}");
}

async fn commands_ban_by_a_part_of_a_name(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let ann = world.person("ann").await;
    let (loud, quiet) = (world.person("loudmouth").await, world.person("quietly").await);
    let room = room(&world, &ann, "Salon").await;
    without_slow_mode(&world, &ann, &room).await;
    let mut sockets = SocketIo::start(world.gateway());
    for person in [&ann, &loud, &quiet] {
        sockets.is_connected(&person.name).await;
        sockets.emits(&person.name, "login", json!({ "token": person.token })).await;
        sockets.emits(&person.name, "join", json!({ "uid": room })).await;
        sockets.hears(&person.name, "room_users").await;
    }
    let says = |text: &str| json!({ "text": text });
    for command in ["!ban lo", "!ban nobody-here", "!unban loudm", "!ban loudm 0s", "!ban"] {
        let refused = sockets.asks(&ann.name, "sendMessage", says(command)).await;
        assert!(refused["error"].is_string(), "{command}: {refused}");
    }
    let refused = sockets.asks(&quiet.name, "sendMessage", says("!ban loudm")).await;
    assert!(refused["error"].is_string(), "{refused}");
    let banned = sockets.asks(&ann.name, "sendMessage", says(r#"!ban "LOUDM" 1h far too loud"#)).await;
    assert_eq!(banned["success"], true, "{banned}");
    let refused = sockets.asks(&loud.name, "sendMessage", says("what?")).await;
    assert!(text(&refused["error"]).contains("banned"), "{refused}");
    // Who is banned may still give commands, and hears what is said.
    assert_eq!(sockets.asks(&loud.name, "sendMessage", says("!echo me")).await["success"], true);
    assert_eq!(sockets.asks(&quiet.name, "sendMessage", says("peace")).await["success"], true);
    assert_eq!(sockets.hears(&loud.name, "message").await["message"], "peace");
    assert_eq!(sockets.asks(&ann.name, "sendMessage", says("!unban loudmouth")).await["success"], true);
    assert_eq!(sockets.asks(&loud.name, "sendMessage", says("sorry")).await["success"], true);
}

async fn signing_out_ends_no_session_and_no_watching(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let ann = world.person("ann").await;
    let room = room(&world, &ann, "Salon").await;
    let mut sockets = SocketIo::start(world.gateway());
    sockets.is_connected("ann").await;
    for token in [json!("nonsense"), json!(null), json!("undefined"), json!({})] {
        sockets.emits("ann", "login", json!({ "token": token })).await;
        assert_eq!(sockets.hears("ann", "system").await["type"], "error", "{token}");
    }
    sockets.emits("ann", "login", json!({ "token": ann.token })).await;
    sockets.emits("ann", "join", json!({ "uid": room })).await;
    sockets.hears("ann", "room_users").await;
    sockets.hears("ann", "auth_updated").await;
    sockets.emits("ann", "logout", json!({ "reason": "tea" })).await;
    assert_eq!(sockets.hears("ann", "auth_updated").await, json!({ "user": null }));
    post(&world, &ann.token, "/messages", json!({ "room": room, "message": "still here" })).await.ok();
    assert_eq!(sockets.hears("ann", "message").await["message"], "still here");
    let refused = sockets.asks("ann", "sendMessage", json!({ "text": "hm" })).await;
    assert!(refused["error"].is_string());
    sockets.emits("ann", "login", json!({ "token": ann.token })).await;
    sockets.hears("ann", "auth_updated").await;

    // When the session ends elsewhere, the socket acts as no user.
    ann.post("/v1/auth/logout", json!({})).await.ok();
    assert_eq!(sockets.hears("ann", "auth_updated").await, json!({ "user": null }));
}

async fn odd_events_are_answered(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let mut sockets = SocketIo::start(world.gateway());
    sockets.is_connected("odd").await;
    let ten: Vec<Value> = (0..10).map(Value::from).collect();
    sockets.emits_all("odd", "nonsense", &[]).await;
    assert!(sockets.hears("odd", "error").await["message"].is_string());
    for event in ["login", "sendMessage"] {
        for args in [&[][..], &ten[..], &[json!("text")], &[json!([1])]] {
            sockets.emits_all("odd", event, args).await;
            assert_eq!(sockets.hears("odd", "system").await["type"], "error", "{event} {args:?}");
        }
    }
    for args in [&[][..], &ten[..], &[json!("text")], &[json!({ "uid": {} })]] {
        sockets.emits_all("odd", "join", args).await;
        assert!(sockets.hears("odd", "error").await["message"].is_string(), "{args:?}");
    }
    assert_eq!(sockets.asks("odd", "sendMessage", json!({ "text": "!echo alive" })).await["success"], true);
    assert!(sockets.asks("odd", "nonsense", json!({})).await["error"].is_string());
    assert!(!sockets.has_heard("odd").await.contains(&"disconnect".to_owned()));
}
