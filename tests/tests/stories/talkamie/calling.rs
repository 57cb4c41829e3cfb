//! Calls on the socket.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::person::{array, text};
use tests::waiting::until;
use tests::{Shape, World, storage};

use super::client::{Client, data};
use super::socket::Socket;

tests::stories![
    a_call_rings_is_answered_and_ends,
    a_call_is_rejected_or_given_up,
    other_devices_stop_ringing,
    one_who_is_away_is_missed,
    a_call_that_rings_survives_a_restart,
];

fn calls(chat: &str) -> Value {
    json!({"action": "call-user", "chatId": chat, "type": "video"})
}

fn does(action: &str, call: &Value) -> Value {
    json!({"action": action, "callId": call["id"]})
}

async fn a_call_rings_is_answered_and_ends(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let chat = ann.befriends(&bob).await;
    let (mut at_ann, mut at_bob) = (Socket::open(&ann).await, Socket::open(&bob).await);
    let started = at_ann.data(calls(&chat)).await;
    let call = started["call"].clone();
    assert_eq!((&started["chatId"], &call["status"]), (&json!(chat), &json!("ringing")));
    assert_eq!((&call["type"], &call["direction"]), (&json!("video"), &json!("outgoing")));
    let ringing = at_bob.hears("user-calling").await;
    assert_eq!((&ringing["chat"]["id"], &ringing["call"]["id"]), (&json!(chat), &call["id"]));
    assert_eq!(
        (&ringing["call"]["direction"], &ringing["call"]["user"]["name"]),
        (&json!("incoming"), &json!("Ann Archer"))
    );

    let accepted = at_bob.data(does("accept-call", &call)).await;
    assert_eq!(accepted["call"]["status"], json!("accepted"));
    let told = at_ann.hears("call-accepted").await;
    assert_eq!((&told["chat"]["id"], &told["call"]["id"]), (&json!(chat), &call["id"]));
    // Signals come out as they went in, in their order.
    let offer = json!({"type": "offer", "sdp": "v=0\r\n", "extra": {"b": null, "a": [1, 2.5]}});
    let candidates = [json!({"candidate": {"candidate": "one"}}), json!({"candidate": {"candidate": "two"}})];
    at_ann.sends(json!({"action": "signal", "chatId": chat, "signal": offer})).await;
    for candidate in &candidates {
        at_ann.sends(json!({"action": "signal", "chatId": chat, "signal": candidate})).await;
    }
    let heard = at_bob.hears("signal").await;
    assert_eq!((&heard["chat"]["id"], &heard["signal"]), (&json!(chat), &offer));
    for candidate in &candidates {
        assert_eq!(at_bob.hears("signal").await["signal"], *candidate);
    }
    let answer = json!({"type": "answer", "sdp": "v=0"});
    at_bob.sends(json!({"action": "signal", "chatId": chat, "signal": answer})).await;
    assert_eq!(at_ann.hears("signal").await["signal"], answer);

    for socket in [&mut at_ann, &mut at_bob] {
        let mut connected = does("call-connected", &call);
        connected["timestamp"] = json!(1_700_000_000_000_i64);
        socket.sends(connected).await;
    }
    // A call goes on over a device that has lost its way for a moment.
    at_bob.sends(does("call-disconnected", &call)).await;
    at_bob.sends(does("call-connected", &call)).await;
    assert!(at_ann.heard().await.is_empty());
    let ended = at_bob.data(does("end-call", &call)).await;
    assert_eq!(ended["call"]["status"], json!("ended"));
    assert_eq!(at_ann.hears("call-ended").await["call"]["id"], call["id"]);
    // The clients end a call again that is over.
    assert_eq!(at_ann.data(does("end-call", &call)).await["call"]["status"], json!("ended"));
    assert!(at_bob.heard().await.iter().all(|frame| frame["action"] != json!("call-ended")));
    at_ann.refused(json!({"action": "signal", "chatId": chat, "signal": answer}), 409).await;

    let histories = data(bob.get("/calls/histories?keyword=").await);
    assert_eq!((&histories[0]["id"], &histories[0]["direction"]), (&call["id"], &json!("incoming")));
    assert_eq!(data(ann.get(&format!("/call/{}", text(&call["id"]))).await)["status"], json!("ended"));
}

async fn a_call_is_rejected_or_given_up(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let chat = ann.befriends(&bob).await;
    let (mut at_ann, mut at_bob) = (Socket::open(&ann).await, Socket::open(&bob).await);
    let call = at_ann.data(calls(&chat)).await["call"].clone();
    at_bob.hears("user-calling").await;
    assert_eq!(at_bob.data(does("reject-call", &call)).await["call"]["status"], json!("rejected"));
    assert_eq!(at_ann.hears("call-rejected").await["call"]["status"], json!("rejected"));
    assert_eq!(at_ann.data(does("end-call", &call)).await["call"]["status"], json!("rejected"));

    let call = at_ann.data(calls(&chat)).await["call"].clone();
    at_bob.hears("user-calling").await;
    at_ann.data(does("end-call", &call)).await;
    assert_eq!(at_bob.hears("call-ended").await["call"]["status"], json!("missed"));
    // Without a connection and an accepted request nobody is called.
    let stranger = Client::sign_up(&world, "Cem", "senior").await;
    let asked = data(stranger.post(&bob.path("/message/request"), json!({"text": "hi"})).await);
    let mut at_stranger = Socket::open(&stranger).await;
    at_stranger.refused(calls(&text(&asked["chat"]["id"])), 409).await;
}

async fn other_devices_stop_ringing(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let chat = ann.befriends(&bob).await;
    let second = bob.as_person(&world).await;
    let signed_in = json!({"email": bob.email, "password": tests::person::PASSWORD});
    let signed_in = data(bob.post("/auth/sign-in", signed_in).await);
    let on_second = Client { token: text(&signed_in["tokens"]["access"]), ..bob.clone() };
    let mut at_ann = Socket::open(&ann).await;
    let (mut at_first, mut at_second) = (Socket::open(&bob).await, Socket::open(&on_second).await);
    let call = at_ann.data(calls(&chat)).await["call"].clone();
    at_first.hears("user-calling").await;
    at_second.hears("user-calling").await;
    at_first.data(does("accept-call", &call)).await;
    assert_eq!(at_second.hears("call-ended").await["call"]["id"], call["id"]);
    assert!(at_first.heard().await.iter().all(|frame| frame["action"] != json!("call-ended")));
    at_second.refused(does("accept-call", &call), 409).await;
    second.does_with_call(&json!({"callId": call["id"]}), "end").await;
    at_ann.hears("call-ended").await;
}

async fn one_who_is_away_is_missed(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let chat = ann.befriends(&bob).await;
    let mut at_ann = Socket::open(&ann).await;
    let canonical = ann.as_person(&world).await;
    let is_seen = || async {
        canonical.post("/v1/presence", json!({"userIds": [bob.id]})).await.ok()["presences"][0].clone()
    };
    let at_bob = Socket::open(&bob).await;
    until("Bob to be seen", || async { (is_seen().await["online"] == json!(true)).then_some(()) }).await;
    drop(at_bob);
    // Who has just left may be back at once, and is rung for.
    let call = at_ann.data(calls(&chat)).await["call"].clone();
    assert_eq!(call["status"], json!("ringing"));
    at_ann.data(does("end-call", &call)).await;
    until("Bob to be away", || async { is_seen().await.get("lastSeenTime").map(|_| ()) }).await;
    let call = at_ann.data(calls(&chat)).await["call"].clone();
    assert_eq!(call["status"], json!("missed"));
    let histories = data(bob.get("/calls/histories").await);
    assert!(array(&histories).iter().all(|call| call["status"] == json!("missed")), "{histories}");
}

async fn a_call_that_rings_survives_a_restart(world: Arc<World>) {
    // In a world of its own, of which everything restarts, or the gateways.
    let (started, restarts) = match world.shape {
        Shape::Embedded => (World::embedded().await, &["parlor"][..]),
        Shape::Separate => {
            let database = storage::fresh_database().await.expect("a database");
            let bus = storage::nats_url().expect("a bus");
            (World::separate(&database, &bus).await, &["gateway-1", "gateway-2"][..])
        }
    };
    let mut world = started.expect("a world of its own");
    let (ann, bob) = Client::pair(&world).await;
    let chat = ann.befriends(&bob).await;
    let mut at_ann = Socket::open(&ann).await;
    let call = at_ann.data(calls(&chat)).await["call"].clone();
    assert_eq!(call["status"], json!("ringing"));
    for name in restarts {
        world.process(name).stop().await.expect("a stop");
    }
    assert_eq!(at_ann.is_closed().await, 1012);
    for name in restarts {
        world.process(name).start_again().await.expect("a start");
    }

    let mut at_bob = Socket::open(&bob).await;
    assert_eq!(at_bob.hears("user-calling").await["call"]["id"], call["id"]);
    let mut at_ann = Socket::open(&ann).await;
    at_bob.data(does("accept-call", &call)).await;
    at_ann.hears("call-accepted").await;
    let offer = json!({"type": "offer", "sdp": "v=0"});
    at_ann.sends(json!({"action": "signal", "chatId": chat, "signal": offer})).await;
    assert_eq!(at_bob.hears("signal").await["signal"], offer);
    at_ann.data(does("end-call", &call)).await;
    at_bob.hears("call-ended").await;
    until("the call to be over", || async {
        (data(bob.get("/calls/histories").await)[0]["status"] == json!("ended")).then_some(())
    })
    .await;
    world.stop().await.expect("a stop");
    assert_eq!(world.errors(), Vec::<String>::new());
}
