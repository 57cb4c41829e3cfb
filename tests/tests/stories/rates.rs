//! How often callers may call: one limit for each kind of call, over REST, the socket, a dialect and gRPC.

use std::sync::Arc;
use std::time::Instant;

use proto::auth::v1::GetMeRequest;
use proto::auth::v1::user_service_client::UserServiceClient;
use proto::conversation::v1::conversation_service_client::ConversationServiceClient;
use proto::conversation::v1::{ConversationKind, CreateConversationRequest};
use reqwest::Method;
use serde_json::{Value, json};
use tests::http::Answer;
use tests::person::path_of;
use tests::{Person, Shape, World, storage};
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::playground;

tests::stories![callers_meet_the_same_limit_at_every_door];

/// Production, which multiplies nothing, with limits that a story reaches.
const FEW: &[(&str, &str)] = &[
    ("profile", "production"),
    ("auth.registration_open", "true"),
    ("gateway.rates.anonymous_burst_per_address", "1000000"),
    ("limits.rates.sends_burst", BURST),
    ("limits.rates.sends_per_second", "1"),
    ("limits.rates.heavy_burst", BURST),
    ("limits.rates.heavy_per_second", "1"),
    ("limits.rates.writes_burst", BURST),
    ("limits.rates.writes_per_second", "1"),
    ("limits.rates.reads_burst", BURST),
    ("limits.rates.reads_per_second", "1"),
    ("limits.rates.signals_burst", BURST),
    ("limits.rates.signals_per_second", "1"),
    ("limits.rates.strangers_burst_per_address", BURST),
    ("limits.rates.strangers_per_address_per_second", "1"),
];

const BURST: &str = "20";

/// More than the burst of two replicas, and more than the seconds that so many calls take.
const TRIES: usize = 400;

async fn callers_meet_the_same_limit_at_every_door(world: Arc<World>) {
    let mut world = starts(world.shape).await;
    all_doors_count_together(&world).await;
    every_kind_of_call_has_a_limit(&world).await;
    a_password_is_guessed_no_more_often_over_the_socket(&world).await;
    a_token_is_guessed_no_more_often_over_grpc(&world).await;
    world.stop().await.expect("a world that stops");
    assert_eq!(world.errors(), Vec::<String>::new());
}

async fn starts(shape: Shape) -> World {
    let started = match shape {
        Shape::Embedded => World::embedded_with(FEW).await,
        Shape::Separate => {
            let database = storage::fresh_database().await.expect("a database");
            World::separate_with(&database, &storage::nats_url().expect("a bus"), FEW).await
        }
    };
    started.expect("a world of its own")
}

async fn channel(world: &World, service: &str) -> Channel {
    let address = format!("http://{}", world.grpc(service));
    Channel::from_shared(address).expect("an address").connect().await.expect("a channel")
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
    request
}

/// Whether a call was let in; a refusal is that of the limit and tells when to come back.
fn is_let_in(answer: Answer) -> bool {
    match answer.status {
        429 => {
            assert!(answer.retry_after.is_some(), "{answer:?}");
            assert_eq!(answer.refused(429), "ERROR_REASON_RATE_LIMITED");
            false
        }
        status => {
            assert!(status < 500, "{answer:?}");
            true
        }
    }
}

/// Calls of one user at the doors of one service take from one quota.
async fn all_doors_count_together(world: &World) {
    const EACH: usize = 15;
    let ann = world.person("ann").await;
    let begun = Instant::now();
    let mut let_in = 0;
    for _ in 0..EACH {
        let room = json!({ "kind": "CONVERSATION_KIND_ROOM", "title": "over REST" });
        let_in += usize::from(is_let_in(ann.post("/v1/conversations", room).await));
    }
    let mut socket = ann.connects().await;
    for _ in 0..EACH {
        let request = json!({ "kind": "CONVERSATION_KIND_ROOM", "title": "over the socket" });
        let method = "parlor.conversation.v1.ConversationService/CreateConversation";
        let answer = socket.command(json!({ "call": { "method": method, "request": request } })).await;
        match answer["error"]["status"].as_i64() {
            None => let_in += 1,
            Some(status) => {
                let reason = &answer["error"]["reason"];
                assert_eq!((status, reason), (429, &json!("ERROR_REASON_RATE_LIMITED")), "{answer}");
            }
        }
    }
    let mut client = ConversationServiceClient::new(channel(world, "conversation").await);
    for _ in 0..EACH {
        let request = CreateConversationRequest {
            kind: ConversationKind::Room.into(),
            title: "over gRPC".to_owned(),
            ..CreateConversationRequest::default()
        };
        match client.create_conversation(with_token(request, &ann.token)).await {
            Ok(_) => let_in += 1,
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}"),
        }
    }
    let mut refused_dialect = false;
    for _ in 0..EACH {
        let room = json!({ "name": "over a dialect" });
        let answer = playground::call(world, &ann.token, Method::POST, "/rooms", room).await;
        if answer.status == 429 {
            refused_dialect = true;
        } else {
            let_in += 1;
        }
    }
    let burst: usize = BURST.parse().expect("a number");
    let at_most = burst + usize::try_from(begun.elapsed().as_secs()).expect("seconds") + 1;
    assert!((burst..=at_most).contains(&let_in), "{let_in} rooms, at most {at_most}");
    assert!(refused_dialect || begun.elapsed().as_secs() > 40, "{let_in} rooms");
}

/// Makes a call until its limit refuses it.
async fn has_limit(person: &Person, method: Method, path: &str, body: Value) {
    for _ in 0..TRIES {
        let answer = match method {
            Method::GET => person.get(path).await,
            Method::PUT => person.put(path, body.clone()).await,
            Method::PATCH => person.patch(path, body.clone()).await,
            _ => person.post(path, body.clone()).await,
        };
        if !is_let_in(answer) {
            return;
        }
    }
    panic!("{method} {path}: {TRIES} calls were let in");
}

/// A new member of a room, and where their message is. Limits are per user, so each kind of call has its own.
async fn member(world: &World, room: &str) -> (Person, String) {
    let person = world.person("ann").await;
    person.post(&format!("/v1/conversations/{room}/join"), json!({})).await.ok();
    let message = person.says(room, "hello").await;
    (person, path_of(&message))
}

async fn every_kind_of_call_has_a_limit(world: &World) {
    let room = world.person("owner").await.opens_room("Salon").await;
    let at = |rest: &str| format!("/v1/conversations/{room}{rest}");
    let nothing = || json!({});

    let (ann, message) = member(world, &room).await;
    has_limit(&ann, Method::PATCH, &message, json!({ "content": { "text": "hello again" } })).await;
    let (ann, message) = member(world, &room).await;
    has_limit(&ann, Method::PUT, &format!("{message}/reactions/👍"), nothing()).await;
    let (ann, message) = member(world, &room).await;
    has_limit(&ann, Method::PUT, &format!("{message}/vote"), json!({ "optionIndexes": [0] })).await;
    let (ann, message) = member(world, &room).await;
    has_limit(&ann, Method::PUT, &format!("{message}/pin"), nothing()).await;
    let (ann, _) = member(world, &room).await;
    has_limit(&ann, Method::POST, &at("/signals"), json!({ "kind": "SIGNAL_KIND_TYPING" })).await;
    let (ann, _) = member(world, &room).await;
    has_limit(&ann, Method::POST, &at("/join"), nothing()).await;
    let (ann, _) = member(world, &room).await;
    has_limit(&ann, Method::POST, &at("/watermark"), json!({ "readSequence": 1 })).await;
    let (ann, message) = member(world, &room).await;
    has_limit(&ann, Method::GET, &message, nothing()).await;
    let (ann, _) = member(world, &room).await;
    has_limit(&ann, Method::GET, "/v1/search/messages?query=hello", nothing()).await;
    let (ann, _) = member(world, &room).await;
    exports_have_a_limit(&ann).await;
}

async fn exports_have_a_limit(person: &Person) {
    for _ in 0..TRIES {
        let archive = person.fetches_signed_in("/v1/me/export").await;
        match archive.status {
            200 => {}
            429 => return,
            _ => panic!("{archive:?}"),
        }
    }
    panic!("{TRIES} exports were let in");
}

/// A wrong password counts for its name and network at each door.
async fn a_password_is_guessed_no_more_often_over_the_socket(world: &World) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let guess = json!({ "login": bob.username, "password": "is it this one" });
    has_limit(&ann, Method::POST, "/v1/auth/login", guess.clone()).await;
    let mut socket = ann.connects().await;
    let method = "parlor.auth.v1.AuthService/Login";
    let answer = socket.command(json!({ "call": { "method": method, "request": guess } })).await;
    assert_eq!(answer["error"]["status"], 429, "{answer}");
}

/// A token that stands for no session counts for the address that it comes from.
async fn a_token_is_guessed_no_more_often_over_grpc(world: &World) {
    let mut client = UserServiceClient::new(channel(world, "auth").await);
    for _ in 0..TRIES {
        let refused = client.get_me(with_token(GetMeRequest {}, "guessed")).await.expect_err("refused");
        match refused.code() {
            Code::Unauthenticated => {}
            Code::ResourceExhausted => return,
            _ => panic!("{refused:?}"),
        }
    }
    panic!("{TRIES} tokens were tried");
}
