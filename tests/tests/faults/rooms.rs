//! Rooms of the playground and those who watch them, while processes are killed.

use reqwest::Method;
use serde_json::{Value, json};
use tests::http::{self, Answer};
use tests::person::text;
use tests::socketio::SocketIo;
use tests::waiting::until;
use tests::{Person, Shape, node};

use crate::assert_no_panics;
use crate::fragile::{Fragile, is_definite};

async fn post(fragile: &Fragile, person: &Person, path: &str, body: Value) -> Answer {
    let authorization = format!("Bearer {}", person.token);
    let headers = [("authorization", authorization.as_str())];
    http::ask_foreign(fragile.world.gateway(), Method::POST, path, &headers, Some(&body)).await
}

async fn room(fragile: &Fragile, person: &Person) -> String {
    text(&post(fragile, person, "/rooms", json!({ "name": "Salon" })).await.ok()["room"]["uid"])
}

/// The status of the answer to a message, once there is a definite one.
async fn says(fragile: &Fragile, person: &Person, room: &str, message: &str) -> u16 {
    let body = json!({ "room": room, "message": message });
    until("a definite answer", || async {
        let answer = post(fragile, person, "/messages", body.clone()).await;
        is_definite(&answer).then_some(answer.status)
    })
    .await
}

pub async fn a_ban_outlives_its_service(shape: Shape) {
    let mut fragile = Fragile::start(shape, &[]).await;
    let (ann, bob) = (fragile.world.person("ann").await, fragile.world.person("bob").await);
    let (long, short) = (room(&fragile, &ann).await, room(&fragile, &ann).await);
    for (room, duration) in [(&long, "1h"), (&short, "5s")] {
        let ban = json!({ "user": bob.id, "room": room, "duration": duration });
        post(&fragile, &ann, "/bans", ban).await.ok();
    }
    fragile.restart("conversation").await;
    assert_eq!(says(&fragile, &bob, &long, "let me in").await, 403);
    until("the end of the short ban", || async {
        (says(&fragile, &bob, &short, "at last").await == 200).then_some(())
    })
    .await;
    assert_eq!(says(&fragile, &bob, &long, "here too?").await, 403);
    assert_no_panics(&fragile.world);
}

pub async fn a_watcher_comes_back_after_a_crash(shape: Shape) {
    if !node::has_clients() {
        return;
    }
    let mut fragile = Fragile::start(shape, &[]).await;
    let ann = fragile.world.person("ann").await;
    let room = room(&fragile, &ann).await;
    let mut sockets = SocketIo::start(fragile.world.gateway());
    sockets.is_connected("viewer").await;
    sockets.emits("viewer", "join", json!({ "uid": room })).await;
    sockets.hears("viewer", "room_users").await;

    fragile.kill("gateway");
    sockets.hears("viewer", "disconnect").await;
    fragile.start_again("gateway").await;
    assert_eq!(says(&fragile, &ann, &room, "meanwhile").await, 200);
    // The library connects by itself, and the client joins again.
    sockets.hears("viewer", "connect").await;
    sockets.emits("viewer", "join", json!({ "uid": room })).await;
    let missed = sockets.hears_when("viewer", "room_messages", |shown| shown["messages"] != json!([])).await;
    assert_eq!(missed["messages"][0]["message"], "meanwhile");
    assert_eq!(says(&fragile, &ann, &room, "live again").await, 200);
    sockets.hears_when("viewer", "message", |message| message["message"] == "live again").await;
    assert_no_panics(&fragile.world);
}
