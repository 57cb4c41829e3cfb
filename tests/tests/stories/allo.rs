//! The allo API, over Socket.IO with the library that its clients use, and over HTTP.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::id::EventId;
use reqwest::Method;
use serde_json::{Value, json};
use tests::http::{self, Answer};
use tests::node;
use tests::person::{array, text};
use tests::socketio::SocketIo;
use tests::waiting::from_now;
use tests::{Person, World};

tests::stories![
    people_talk_under_names_without_a_token,
    every_kind_of_message_is_told_with_its_fields,
    what_is_done_with_a_message_is_told,
    an_ephemeral_message_goes_within_a_second_of_its_time,
    a_scheduled_message_comes_at_its_time,
    a_registered_user_acts_with_their_token,
    both_transports_work,
    a_report_is_told_to_the_reporter_and_the_owner_only,
    other_apis_and_this_one_show_the_same,
    the_operations_work_over_http,
    malformed_operations_get_the_error_of_this_api
];

/// A name that no other story uses.
fn name(name: &str) -> String {
    format!("{name}-{}", &EventId::generate().uuid().simple().to_string()[20..])
}

async fn over_http(world: &World, token: Option<&str>, operation: &str, body: Value) -> Answer {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
    let path = format!("/api/chat/{operation}");
    http::ask_foreign(world.gateway(), Method::POST, &path, &headers, Some(&body)).await
}

/// Two connections under names, and a conversation of the two that both follow.
async fn talking(world: &World) -> (SocketIo, [String; 2], String) {
    let names = [name("ann"), name("bob")];
    let mut sockets = SocketIo::start(world.gateway());
    sockets.is_connected("ann").await;
    sockets.is_connected("bob").await;
    let body = json!({ "participants": names, "type": "group", "topic": "Roses", "owner": names[0] });
    sockets.emits("ann", "createConversation", body).await;
    let made = sockets.hears("ann", "conversationCreated").await;
    let id = text(&made["_id"]);
    assert_eq!((&made["participants"], &made["owner"]), (&json!(names), &json!(names[0])));
    assert_eq!((&made["topic"], &made["type"]), (&json!("Roses"), &json!("group")));
    // The original client sends the bare id.
    let joined = sockets.asks("bob", "joinConversation", json!(id)).await;
    assert_eq!(joined["conversationID"], json!(id), "{joined}");
    (sockets, names, id)
}

async fn people_talk_under_names_without_a_token(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let (mut sockets, [ann, bob], id) = talking(&world).await;
    let body = json!({ "userID": ann, "conversationID": id, "message": "hello" });
    let answer = sockets.asks("ann", "sendMessage", body).await;
    for who in ["ann", "bob"] {
        let message = sockets.hears(who, "message").await;
        assert_eq!((&message["userID"], &message["message"]), (&json!(ann), &json!("hello")));
        assert_eq!((&message["conversationID"], &message["status"]), (&json!(id), &json!("sent")));
        for field in ["_id", "id", "messageId"] {
            assert_eq!(message[field], answer["_id"], "{message}");
        }
    }
    let body = json!({ "userID": bob, "conversationID": id, "message": "hi" });
    sockets.emits("bob", "sendMessage", body).await;
    let message = sockets.hears("ann", "message").await;
    assert_eq!((&message["userID"], &message["message"]), (&json!(bob), &json!("hi")));

    // One who was not asked looks on, and comes in by writing.
    let eve = name("eve");
    sockets.is_connected("eve").await;
    sockets.emits("eve", "joinConversation", json!(id)).await;
    let body = json!({ "userID": eve, "conversationID": id, "message": "may I?" });
    sockets.emits("eve", "sendMessage", body).await;
    assert_eq!(sockets.hears("eve", "message").await["userID"], json!(eve));
    // Typing is told to the others.
    sockets.emits("bob", "typing", json!(id)).await;
    let typing = sockets.hears("ann", "typing").await;
    assert_eq!(typing["user"], json!(bob));
    sockets.emits("bob", "stopTyping", json!(id)).await;
    assert_eq!(sockets.hears("ann", "stopTyping").await["user"], json!(bob));
    let heard = sockets.has_heard("bob").await;
    assert!(!heard.iter().any(|event| event == "typing"), "{heard:?}");
}

async fn every_kind_of_message_is_told_with_its_fields(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let (mut sockets, [ann, _], id) = talking(&world).await;
    let with = |fields: Value| {
        let mut body = json!({ "userID": ann, "conversationID": id });
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        body
    };
    let secure = json!({
        "message": "b3BhcXVl", "encrypted": true, "encryptionAlgorithm": "RSA-OAEP", "signature": "c2lnbmF0dXJl",
    });
    sockets.emits("ann", "sendSecureMessage", with(secure)).await;
    let message = sockets.hears("bob", "message").await;
    assert_eq!((&message["message"], &message["encrypted"]), (&json!("b3BhcXVl"), &json!(true)));
    assert_eq!(message["encryptionAlgorithm"], "RSA-OAEP");
    assert_eq!(message["signature"], "c2lnbmF0dXJl");

    let voice = json!({ "message": "listen", "voiceUrl": "https://example.com/voice.ogg" });
    sockets.emits("ann", "sendVoiceMessage", with(voice)).await;
    let message = sockets.hears("bob", "message").await;
    let attachment = json!([{ "type": "voice", "url": "https://example.com/voice.ogg" }]);
    assert_eq!((&message["message"], &message["attachments"]), (&json!("listen"), &attachment));

    let sticker = json!({ "stickerUrl": "https://example.com/sticker.png" });
    sockets.emits("ann", "sendSticker", with(sticker)).await;
    let message = sockets.hears("bob", "message").await;
    assert_eq!((&message["message"], &message["attachments"][0]["type"]), (&json!(""), &json!("sticker")));

    let poll = json!({ "question": "Tea?", "options": ["yes, please", "no"] });
    sockets.emits("ann", "createPoll", with(poll)).await;
    let message = sockets.hears("bob", "message").await;
    let poll = json!({ "question": "Tea?", "options": ["yes, please", "no"], "votes": [0, 0] });
    assert_eq!(message["poll"], poll);
    let vote = json!({ "conversationID": id, "messageId": message["_id"], "optionIndex": 0 });
    sockets.emits("bob", "votePoll", vote).await;
    let voted = sockets.hears("ann", "pollVoted").await;
    assert_eq!((&voted["optionIndex"], &voted["votes"]), (&json!(0), &json!([1, 0])));
    // A second vote of the same user moves the first.
    let vote = json!({ "conversationID": id, "messageId": message["_id"], "optionIndex": 1 });
    sockets.emits("bob", "votePoll", vote).await;
    assert_eq!(sockets.hears("ann", "pollVoted").await["votes"], json!([0, 1]));
}

async fn what_is_done_with_a_message_is_told(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let (mut sockets, [ann, bob], id) = talking(&world).await;
    let says = |words: &str| json!({ "userID": ann, "conversationID": id, "message": words });
    sockets.emits("ann", "sendMessage", says("first")).await;
    let message = text(&sockets.hears("bob", "message").await["_id"]);
    let of = |fields: Value| {
        let mut body = json!({ "conversationID": id, "messageId": message });
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        body
    };
    sockets.emits("ann", "editMessage", of(json!({ "newMessage": "second" }))).await;
    let edited = sockets.hears("bob", "messageEdited").await;
    assert_eq!((&edited["messageId"], &edited["newMessage"]), (&json!(message), &json!("second")));
    assert!(edited["editedAt"].is_string());
    // Bob acts under his name from his first act on.
    let read = of(json!({ "userID": bob }));
    sockets.emits("bob", "messageRead", read.clone()).await;
    let status = sockets.hears("ann", "messageStatusUpdate").await;
    assert_eq!((&status["messageId"], &status["status"]), (&json!(message), &json!("read")));
    sockets.emits("bob", "messageRead", read).await;
    sockets.emits("bob", "reactionMessage", of(json!({ "emoji": "\u{1f44d}" }))).await;
    let reaction = sockets.hears("ann", "messageReaction").await;
    assert_eq!((&reaction["emoji"], &reaction["userID"]), (&json!("\u{1f44d}"), &json!(bob)));
    sockets.emits("bob", "reactionMessage", of(json!({ "emoji": "\u{1f44d}" }))).await;
    sockets.emits("ann", "pinMessage", of(json!({ "pin": true }))).await;
    let pinned = sockets.hears("bob", "messagePinned").await;
    assert_eq!((&pinned["pinned"], &pinned["pinnedBy"]), (&json!(true), &json!(ann)));
    sockets.emits("ann", "pinMessage", of(json!({ "pin": false }))).await;
    assert_eq!(sockets.hears("bob", "messagePinned").await["pinned"], json!(false));
    let heard = sockets.has_heard("ann").await;
    let repeated = ["messageStatusUpdate", "messageReaction"];
    assert!(
        !heard.iter().any(|event| repeated.contains(&event.as_str())),
        "a repetition tells nothing: {heard:?}"
    );

    let target = json!({ "participants": [ann, bob], "type": "channel", "topic": "copies", "owner": ann });
    sockets.emits("ann", "createConversation", target).await;
    let channel = sockets.hears("ann", "conversationCreated").await;
    assert_eq!((&channel["type"], &channel["admins"]), (&json!("channel"), &json!([ann])));
    sockets.hears_when("bob", "conversationCreated", |told| told["_id"] == channel["_id"]).await;
    let forward =
        json!({ "fromConversationID": id, "toConversationID": channel["_id"], "messageId": message });
    sockets.emits("ann", "forwardMessage", forward).await;
    let copy = sockets.hears_when("ann", "message", |copy| copy["forwardedFrom"].is_string()).await;
    assert_eq!((&copy["message"], &copy["forwardedFrom"]), (&json!("second"), &json!(message)));
    assert_eq!(sockets.hears("ann", "messageForwarded").await["messageId"], copy["_id"]);

    // Only the author edits and unsends.
    let foreign = json!({ "userID": bob, "conversationID": id, "messageId": message, "newMessage": "x" });
    assert!(sockets.asks("bob", "editMessage", foreign).await["error"].is_string());
    sockets.emits("ann", "unsendMessage", of(json!({}))).await;
    assert_eq!(sockets.hears("bob", "messageUnsent").await["messageId"], json!(message));
    sockets.emits("ann", "sendMessage", says("third")).await;
    let third = text(&sockets.hears_when("bob", "message", |it| it["message"] == "third").await["_id"]);
    sockets.emits("ann", "deleteMessage", json!({ "conversationID": id, "messageId": third })).await;
    assert_eq!(sockets.hears("bob", "messageDeleted").await["messageId"], json!(third));
}

async fn an_ephemeral_message_goes_within_a_second_of_its_time(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let (mut sockets, [ann, _], id) = talking(&world).await;
    let body = json!({ "userID": ann, "conversationID": id, "message": "read me", "expiresIn": 1500 });
    let sent = Instant::now();
    sockets.emits("ann", "sendEphemeralMessage", body).await;
    let message = sockets.hears("bob", "message").await;
    assert!(message["ephemeralExpiresAt"].is_string(), "{message}");
    let gone = sockets.hears("bob", "messageDeleted").await;
    assert_eq!(gone["messageId"], message["_id"]);
    assert!(sent.elapsed() >= Duration::from_millis(1500), "it went too early");
}

async fn a_scheduled_message_comes_at_its_time(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let (mut sockets, [ann, _], id) = talking(&world).await;
    let at = from_now(Duration::from_secs(2));
    let body = json!({ "userID": ann, "conversationID": id, "message": "later", "scheduledTime": at });
    let scheduled = sockets.asks("ann", "scheduleMessage", body).await;
    assert!(scheduled["id"].is_string() && scheduled["scheduledAt"].is_string(), "{scheduled}");
    let message = sockets.hears("bob", "message").await;
    assert_eq!((&message["message"], &message["scheduledAt"]), (&json!("later"), &scheduled["scheduledAt"]));
    let past = json!({ "userID": ann, "conversationID": id, "message": "now", "scheduledTime": 1_000 });
    sockets.emits("ann", "scheduleMessage", past).await;
    assert_eq!(sockets.hears("bob", "message").await["message"], "now");
    for time in [json!("soon"), json!(null), json!("2999-01-01T00:00:00Z")] {
        let body = json!({ "userID": ann, "conversationID": id, "message": "x", "scheduledTime": time });
        let refused = sockets.asks("ann", "scheduleMessage", body).await;
        assert!(refused["error"].is_string(), "{time}: {refused}");
    }
}

async fn connected_as(sockets: &mut SocketIo, person: &Person) {
    let options = json!({ "transports": ["websocket"], "auth": { "token": person.token } });
    sockets.connects(&person.name, options).await;
    sockets.hears(&person.name, "connect").await;
}

async fn a_registered_user_acts_with_their_token(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let mut sockets = SocketIo::start(world.gateway());
    connected_as(&mut sockets, &ann).await;
    connected_as(&mut sockets, &bob).await;
    // Bob has done nothing yet, and hears of the conversation that ann makes. The answer shows that the connection hears.
    sockets.asks("bob", "nothing of the kind", json!({})).await;
    let made =
        sockets.asks("ann", "createConversation", json!({ "participants": [bob.id], "type": "private" }));
    let made = made.await;
    assert_eq!((&made["type"], &made["participants"]), (&json!("private"), &json!([ann.id, bob.id])));
    let told = sockets.hears("bob", "conversationCreated").await;
    assert_eq!(told["_id"], made["_id"]);
    sockets.asks("bob", "joinConversation", json!({ "conversationID": made["_id"] })).await;
    sockets.emits("ann", "sendMessage", json!({ "conversationID": made["_id"], "message": "hi" })).await;
    assert_eq!(sockets.hears("bob", "message").await["userID"], json!(ann.id));
    let forged = json!({ "userID": bob.id, "conversationID": made["_id"], "message": "hi" });
    assert_eq!(sockets.asks("ann", "sendMessage", forged).await["error"], "PERMISSION_DENIED");

    // A name cannot act for an account with a password, nor come into its conversations.
    sockets.is_connected("eve").await;
    let forged = json!({ "userID": ann.id, "conversationID": made["_id"], "message": "hi" });
    assert_eq!(sockets.asks("eve", "sendMessage", forged).await["error"], "UNAUTHENTICATED");
    assert!(sockets.asks("eve", "joinConversation", made["_id"].clone()).await["error"].is_string());
    let options = json!({ "transports": ["websocket"], "auth": { "token": "wrong" } });
    sockets.connects("mal", options).await;
    assert_eq!(sockets.hears("mal", "connect_error").await, "Authentication error");
    let options = json!({ "transports": ["websocket"], "auth": { "token": "valid-token" } });
    sockets.connects("old", options).await;
    sockets.hears("old", "connect").await;
}

async fn both_transports_work(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let (mut sockets, [ann, bob], id) = talking(&world).await;
    sockets.connects("default", json!({})).await;
    assert_eq!(sockets.hears("default", "upgrade").await, "websocket");
    sockets.hears("default", "connect").await;
    sockets.connects("polls", json!({ "transports": ["polling"] })).await;
    sockets.hears("polls", "connect").await;
    for who in ["default", "polls"] {
        sockets.asks(who, "joinConversation", json!(id)).await;
    }
    for (number, (who, as_name)) in [("default", &ann), ("polls", &bob)].into_iter().enumerate() {
        let words = format!("message {number}");
        sockets
            .emits(who, "sendMessage", json!({ "userID": as_name, "conversationID": id, "message": words }))
            .await;
        for other in ["default", "polls", "ann", "bob"] {
            assert_eq!(sockets.hears(other, "message").await["message"], json!(words), "{other}");
        }
    }
}

async fn a_report_is_told_to_the_reporter_and_the_owner_only(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let (mut sockets, [ann, bob], id) = talking(&world).await;
    let eve = name("eve");
    sockets.is_connected("eve").await;
    sockets.asks("eve", "joinConversation", json!(id)).await;
    let body = json!({ "userID": eve, "conversationID": id, "message": "spam" });
    sockets.emits("eve", "sendMessage", body).await;
    let message = sockets.hears("bob", "message").await;
    let report =
        json!({ "userID": bob, "conversationID": id, "messageId": message["_id"], "reason": "it is spam" });
    sockets.emits("bob", "reportMessage", report).await;
    for who in ["bob", "ann"] {
        let told = sockets.hears(who, "messageReported").await;
        assert_eq!((&told["messageId"], &told["reporter"]), (&message["_id"], &json!(bob)));
        assert_eq!(told["reason"], "it is spam");
    }
    let heard = sockets.has_heard("eve").await;
    assert!(!heard.iter().any(|event| event == "messageReported"), "{heard:?}");
    let own = json!({ "userID": ann, "conversationID": id, "message": "mine" });
    let own = sockets.asks("ann", "sendMessage", own).await;
    let report = json!({ "userID": ann, "conversationID": id, "messageId": own["_id"], "reason": "x" });
    assert!(sockets.asks("ann", "reportMessage", report).await["error"].is_string());
}

async fn other_apis_and_this_one_show_the_same(world: Arc<World>) {
    if !node::has_clients() {
        return;
    }
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut sockets = SocketIo::start(world.gateway());
    connected_as(&mut sockets, &ann).await;
    sockets.asks("ann", "joinConversation", json!(conversation)).await;
    let sent = bob.says(&conversation, "from the canonical API").await;
    let message = sockets.hears("ann", "message").await;
    assert_eq!((&message["message"], &message["userID"]), (&json!("from the canonical API"), &json!(bob.id)));
    let path = format!("/v1/conversations/{conversation}/messages/{}", text(&sent["messageId"]));
    bob.patch(&path, json!({ "content": { "text": "edited" } })).await.ok();
    assert_eq!(sockets.hears("ann", "messageEdited").await["newMessage"], "edited");
    bob.delete(&path).await.ok();
    assert_eq!(sockets.hears("ann", "messageDeleted").await["messageId"], sent["messageId"]);
    bob.sends(&conversation, json!({ "location": { "latitude": 1.5, "longitude": 2.5 } })).await;
    assert_eq!(sockets.hears("ann", "message").await["message"], "1.5, 2.5");

    let mut socket = bob.comes_online().await;
    sockets
        .emits("ann", "sendMessage", json!({ "conversationID": conversation, "message": "from allo" }))
        .await;
    socket.expects_message("from allo").await;
    let headers = [("token", bob.token.as_str())];
    let path = format!("/chats/messages?chatId={conversation}&limit=1");
    let chats = http::ask_foreign(world.gateway(), Method::GET, &path, &headers, None).await.ok();
    assert_eq!(chats["messages"][0]["content"], "from allo");
}

async fn the_operations_work_over_http(world: Arc<World>) {
    let [ann, bob] = [name("ann"), name("bob")];
    let body = json!({ "participants": [ann, bob], "type": "group", "topic": "Roses", "owner": ann });
    let made = over_http(&world, None, "createConversation", body).await;
    assert_eq!((made.status, &made.body["participants"]), (201, &json!([ann, bob])));
    let id = made.body["_id"].clone();
    let body = json!({ "userID": bob, "conversationID": id, "message": "hello" });
    let sent = over_http(&world, None, "sendMessage", body).await;
    assert_eq!((sent.status, &sent.body["userID"]), (201, &json!(bob)));
    // Without a name, edit and delete act as the author.
    let body = json!({ "conversationID": id, "messageId": sent.body["_id"], "newMessage": "hi" });
    let edited = over_http(&world, None, "EditMessage", body).await;
    assert_eq!((edited.status, &edited.body["newMessage"]), (200, &json!("hi")));
    let body = json!({ "conversationID": id, "messageId": sent.body["_id"] });
    assert_eq!(over_http(&world, None, "deleteMessage", body).await.status, 200);
    let joined = over_http(&world, None, "joinConversation", json!({ "conversationID": id })).await;
    assert_eq!(joined.status, 200, "{}", joined.body);
    let welcome = http::ask_foreign(world.gateway(), Method::GET, "/api", &[], None).await;
    assert!(welcome.ok()["message"].is_string());

    let [cid, dan] = world.people(["cid", "dan"]).await;
    let body = json!({ "participants": [dan.id], "type": "private" });
    let made = over_http(&world, Some(&cid.token), "createConversation", body).await.ok();
    assert_eq!(array(&made["participants"]).len(), 2);
    let body = json!({ "conversationID": made["_id"], "message": "by token" });
    assert_eq!(over_http(&world, Some(&cid.token), "sendMessage", body.clone()).await.status, 201);
    assert_eq!(over_http(&world, None, "sendMessage", body.clone()).await.status, 404);
    assert_eq!(over_http(&world, Some("wrong"), "sendMessage", body).await.status, 401);
}

async fn malformed_operations_get_the_error_of_this_api(world: Arc<World>) {
    let unknown = EventId::generate().to_string();
    for (operation, body, status) in [
        ("sendMessage", json!({}), 400),
        ("sendMessage", json!({ "conversationID": "junk", "message": "x" }), 400),
        ("sendMessage", json!({ "conversationID": unknown, "message": "x" }), 404),
        ("sendMessage", json!({ "conversationID": unknown, "message": {} }), 400),
        ("sendMessage", json!({ "userID": [], "conversationID": unknown, "message": "x" }), 400),
        ("sendMessage", json!({ "userID": "x".repeat(200), "conversationID": unknown, "message": "x" }), 400),
        ("sendSecureMessage", json!({ "conversationID": unknown, "message": "x", "encrypted": false }), 400),
        ("sendVoiceMessage", json!({ "conversationID": unknown, "voiceUrl": "http://example.com/" }), 400),
        ("sendSticker", json!({ "conversationID": unknown }), 400),
        ("createPoll", json!({ "conversationID": unknown, "question": "x", "options": "a,b" }), 400),
        ("votePoll", json!({ "conversationID": unknown, "messageId": unknown, "optionIndex": -1 }), 400),
        (
            "sendEphemeralMessage",
            json!({ "conversationID": unknown, "message": "x", "expiresIn": "long" }),
            400,
        ),
        ("editMessage", json!({ "conversationID": unknown, "messageId": unknown, "newMessage": "x" }), 404),
        ("createConversation", json!({ "participants": {} }), 400),
        ("nothing", json!({}), 404),
    ] {
        let answer = over_http(&world, None, operation, body.clone()).await;
        assert_eq!(answer.status, status, "{operation} {body}: {}", answer.body);
        assert!(answer.body["error"].is_string() && answer.body["message"].is_string(), "{}", answer.body);
    }
    let other = http::ask_foreign(world.gateway(), Method::GET, "/api/chat/sendMessage", &[], None).await;
    assert_eq!((other.status, other.body["error"].is_string()), (405, true));
}
