//! Tests of the socket as a client sees it, through a real gateway.

mod calls;
mod commands;
mod follow;
mod presence;
mod sse;
mod subscriber;
mod world;

use std::time::{Duration, Instant};

use proto::gateway::v1::server_frame::Frame as Body;
use proto::gateway::v1::{ClientFrame, Hello, Subscribe, client_frame};
use proto::messaging::v1::Head;
use serde_json::{Value, json};

use self::sse::Stream;
use self::world::{Client, World};

fn send(id: &str, conversation: impl ToString, text: &str) -> Value {
    json!({"id": id, "sendMessage": {
        "conversationId": conversation.to_string(),
        "content": {"text": text},
        "clientMessageId": format!("client-{id}"),
    }})
}

#[tokio::test]
async fn one_who_signs_in_is_told_who_it_is() {
    let world = World::start().await;
    let ann = world.person();
    let mut client = world.socket().await;
    client.say(json!({"hello": {"sessionToken": ann.token}})).await;
    let ready = client.next().await;
    assert_eq!(ready["ready"]["userId"], ann.id.to_string());
    assert_eq!(ready["ready"]["sessionId"], ann.session.to_string());
    assert_eq!(ready["ready"]["epoch"], "epoch-1");
    assert_eq!(ready["ready"]["pingInterval"], "25s");
    client.say(json!({"id": "1", "ping": {}})).await;
    assert_eq!(client.next().await, json!({"id": "1", "pong": {}}));
}

#[tokio::test]
async fn a_token_may_come_with_the_upgrade_and_not_in_the_address() {
    let world = World::start().await;
    let ann = world.person();
    let url = format!("ws://{}/v1/socket", world.address);
    let mut client = Client::open(&url, Some(&format!("Bearer {}", ann.token))).await.expect("a socket");
    client.say(json!({"id": "1", "hello": {}})).await;
    assert_eq!(client.next().await["ready"]["userId"], ann.id.to_string());

    let error = Client::open(&url, Some("Bearer wrong")).await.err().expect("refused");
    assert!(error.to_string().contains("401"), "{error}");
    let error = Client::open(&format!("{url}?token={}", ann.token), None).await.err().expect("refused");
    assert!(error.to_string().contains("400"), "{error}");
}

#[tokio::test]
async fn one_who_is_nobody_is_closed_out() {
    let world = World::with(|sockets| sockets.hello_timeout = Duration::from_millis(100)).await;
    let mut silent = world.socket().await;
    assert_eq!(silent.close_code().await, 4001);

    let mut stranger = world.socket().await;
    stranger.say(json!({"id": "1", "hello": {"sessionToken": "wrong"}})).await;
    assert_eq!(stranger.next().await["error"]["reason"], "ERROR_REASON_UNAUTHENTICATED");
    assert_eq!(stranger.close_code().await, 4401);

    let mut hasty = world.socket().await;
    hasty.say(json!({"id": "1", "ping": {}})).await;
    assert_eq!(hasty.next().await["error"]["fields"][0]["field"], "command");
    assert_eq!(hasty.close_code().await, 4400);

    let mut large = world.socket().await;
    large.say(json!({"hello": {"sessionToken": "x".repeat(5_000)}})).await;
    assert_eq!(large.close_code().await, 1009);
}

#[tokio::test]
async fn a_user_has_so_many_connections() {
    let world = World::with(|sockets| sockets.per_user = 1).await;
    let ann = world.person();
    let first = world.connect(&ann).await;
    let mut second = world.socket().await;
    second.say(json!({"id": "1", "hello": {"sessionToken": ann.token}})).await;
    let refusal = second.next().await;
    assert_eq!(refusal["error"]["reason"], "ERROR_REASON_TOO_MANY_CONNECTIONS");
    assert_eq!(refusal["error"]["retryAfter"], "5s");
    assert_eq!(second.close_code().await, 4029);
    drop(first);
    for _ in 0..100 {
        let mut third = world.socket().await;
        third.say(json!({"id": "1", "hello": {"sessionToken": ann.token}})).await;
        if third.next().await.get("ready").is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the slot is not given back");
}

#[tokio::test]
async fn one_who_is_signed_out_is_closed_at_once() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let mut client = world.connect(&ann).await;
    let mut other = world.connect(&bob).await;
    let begun = Instant::now();
    world.backend.signs_out(&ann);
    assert_eq!(client.close_code().await, 4401);
    assert!(begun.elapsed() < Duration::from_secs(1));
    other.say(json!({"id": "1", "ping": {}})).await;
    other.answer("1").await;
}

#[tokio::test]
async fn a_session_whose_time_has_come_is_closed_without_a_hint() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    world.backend.facts().sessions_last = Some(Duration::from_millis(500));
    let mut ends = world.connect(&ann).await;
    let mut is_prolonged = world.connect(&bob).await;
    world.backend.forgets(&ann);
    world.backend.facts().sessions_last = None;
    let begun = Instant::now();
    assert_eq!(ends.close_code().await, 4401);
    assert!(begun.elapsed() < Duration::from_secs(5));
    is_prolonged.say(json!({"id": "1", "ping": {}})).await;
    is_prolonged.answer("1").await;
}

#[tokio::test]
async fn a_token_can_be_renewed() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let mut client = world.connect(&ann).await;
    client.say(json!({"id": "1", "hello": {"sessionToken": bob.token}})).await;
    assert_eq!(client.answer("1").await["error"]["status"], 409);
    client.say(json!({"id": "2", "hello": {"sessionToken": ann.token}})).await;
    assert_eq!(client.answer("2").await["ready"]["userId"], ann.id.to_string());
}

#[tokio::test]
async fn when_the_gateway_goes_everyone_is_told_when_to_reconnect_delay() {
    let world = World::start().await;
    let ann = world.person();
    let conversation = world.backend.conversation(&[ann.id]);
    let mut client = world.follow(&ann, conversation, 1).await;
    let mut idle = world.connect(&ann).await;
    let mut stream = Stream::open(&world, &ann.token, "", None).await;
    stream.until("caught_up").await;
    world.backend.facts().send_takes = Duration::from_millis(300);
    client.say(send("1", conversation, "last")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stopped = world.unit.tasks.stop(Duration::from_secs(10));
    let seen = async {
        assert_eq!(idle.close_code().await, 1012);
        assert!(client.answer("1").await.get("sent").is_some(), "what is under way is finished");
        loop {
            let frame = client.next().await;
            if frame.get("closing").is_some() {
                assert!(frame["closing"]["retryAfter"].as_str().is_some());
                break;
            }
        }
        assert_eq!(client.close_code().await, 1012);
        stream.until("closing").await;
    };
    let (stopped, ()) = tokio::join!(stopped, seen);
    assert!(stopped, "in time");
}

#[tokio::test]
async fn a_hello_in_binary_is_answered_in_binary() {
    let world = World::start().await;
    let ann = world.person();
    let conversation = world.backend.conversation(&[ann.id]);
    let mut client = world.socket().await;
    let frame = |id: &str, command| ClientFrame { id: id.to_owned(), command: Some(command) };
    let hello = Hello { session_token: ann.token.clone() };
    client.say_in_binary(&frame("1", client_frame::Command::Hello(hello))).await;
    assert!(matches!(client.next_in_binary().await.frame, Some(Body::Ready(_))));
    let heads = vec![Head { conversation_id: conversation.to_string(), sequence: 0 }];
    let subscribe = Subscribe { heads, ..Subscribe::default() };
    client.say_in_binary(&frame("2", client_frame::Command::Subscribe(subscribe))).await;
    assert!(matches!(client.next_in_binary().await.frame, Some(Body::Subscribed(_))));
    assert!(matches!(client.next_in_binary().await.frame, Some(Body::Event(event)) if event.sequence == 1));
    assert!(matches!(client.next_in_binary().await.frame, Some(Body::CaughtUp(_))));
    world.backend.says(conversation, ann.id, "x");
    assert!(matches!(client.next_in_binary().await.frame, Some(Body::Event(event)) if event.sequence == 2));
}
