//! The stream that carries the sends of many users.

use std::collections::HashMap;

use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::*;

/// A gateway's end of the stream.
struct Gateway {
    sends: mpsc::Sender<pb::SendMessagesRequest>,
    outcomes: Streaming<pb::SendMessagesResponse>,
}

impl Gateway {
    async fn connect(world: &World) -> Self {
        let (sends, stream) = mpsc::channel(16);
        let request = Service("gateway", None).says(ReceiverStream::new(stream));
        let outcomes = world.messaging().send_messages(request).await.unwrap().into_inner();
        Self { sends, outcomes }
    }

    async fn carry(&self, sends: Vec<pb::CarriedSend>) {
        self.sends.send(pb::SendMessagesRequest { sends }).await.unwrap();
    }

    /// Waits for so many outcomes.
    async fn outcomes(
        &mut self,
        count: usize,
    ) -> HashMap<i64, Result<pb::SendMessageResponse, (Code, String)>> {
        let mut outcomes = HashMap::new();
        while outcomes.len() < count {
            let next =
                tokio::time::timeout(PATIENCE, self.outcomes.message()).await.expect("outcomes in time");
            for outcome in next.unwrap().expect("the stream goes on").outcomes {
                let result = match outcome.outcome.unwrap() {
                    pb::send_outcome::Outcome::Response(response) => Ok(response),
                    pb::send_outcome::Outcome::Status(bytes) => {
                        let status = tonic_types::Status::decode(bytes.as_slice()).unwrap();
                        let code = Code::from_i32(status.code);
                        let full = Status::with_details(code, status.message, bytes.into());
                        Err(refusal::<()>(Err(full)))
                    }
                };
                assert!(outcomes.insert(outcome.ticket, result).is_none(), "one outcome for each ticket");
            }
        }
        outcomes
    }
}

fn carried(ticket: i64, user: UserId, request: pb::SendMessageRequest) -> pb::CarriedSend {
    pb::CarriedSend {
        ticket,
        session_token: user.to_string(),
        request: Some(request),
        traceparent: String::new(),
    }
}

#[tokio::test]
async fn each_send_gets_its_own_outcome() {
    let world = World::start().await;
    let [ann, bob, eve] = world.people();
    let group = world.group(&[ann, bob]);
    let mut gateway = Gateway::connect(&world).await;
    let direct = pb::SendMessageRequest {
        target: Some(Target::UserId(bob.to_string())),
        content: content("you"),
        ..Default::default()
    };
    gateway
        .carry(vec![
            carried(1, ann, keyed(group, "one", "k")),
            carried(2, eve, to(group, "not mine")),
            carried(3, UserId::generate(), to(group, "nobody")),
            carried(4, bob, to(group, "")),
            carried(5, bob, to(group, " ")),
            carried(6, ann, direct),
            carried(7, ann, keyed(group, "one", "k")),
            carried(8, ann, keyed(group, "two", "k")),
            pb::CarriedSend { ticket: 9, session_token: bob.to_string(), ..Default::default() },
        ])
        .await;
    let outcomes = gateway.outcomes(9).await;
    assert!(!outcomes[&1].as_ref().unwrap().repeated && outcomes[&6].is_ok());
    assert!(outcomes[&7].as_ref().unwrap().repeated);
    let reasons = [2, 3, 4, 5, 8, 9].map(|ticket| outcomes[&ticket].as_ref().unwrap_err().1.as_str());
    let expected = [
        "CONVERSATION_NOT_FOUND",
        "UNAUTHENTICATED",
        "INVALID_FIELD",
        "INVALID_FIELD",
        "CLIENT_MESSAGE_ID_REUSED",
        "INVALID_FIELD",
    ];
    assert_eq!(reasons, expected);
}

#[tokio::test]
async fn what_is_only_checked_is_not_sent() {
    let world = World::start().await;
    let [ann, bob, eve] = world.people();
    let group = world.group(&[ann, bob]);
    let mut gateway = Gateway::connect(&world).await;
    let person = pb::SendMessageRequest {
        target: Some(Target::UserId(bob.to_string())),
        content: content("you"),
        ..Default::default()
    };
    gateway
        .carry(vec![
            carried(1, ann, checked(to(group, "one"))),
            carried(2, ann, to(group, "two")),
            carried(3, ann, checked(to(group, " "))),
            carried(4, ann, checked(person)),
            carried(5, eve, checked(to(group, "not mine"))),
        ])
        .await;
    let outcomes = gateway.outcomes(5).await;
    assert_eq!(outcomes[&1], Ok(pb::SendMessageResponse::default()));
    assert_eq!(outcomes[&2].as_ref().unwrap().message.as_ref().map(text_of), Some("two"));
    let reasons = [3, 4, 5].map(|ticket| outcomes[&ticket].as_ref().unwrap_err().1.as_str());
    assert_eq!(reasons, ["INVALID_FIELD", "INVALID_FIELD", "CONVERSATION_NOT_FOUND"]);
    let request = pb::ListMessagesRequest { conversation_id: group.to_string(), ..Default::default() };
    assert_eq!(world.list(ann, request).await.unwrap().messages.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_one_session_sends_keeps_its_order() {
    let world = World::start().await;
    let people: [UserId; 8] = world.people();
    let group = world.group(&people);
    // Whose the tokens are is found out while the sends already come.
    world.others.slow_tokens();
    let mut gateway = Gateway::connect(&world).await;
    let mut ticket = 0;
    for round in 0..10 {
        let mut sends = Vec::new();
        for (place, user) in people.iter().enumerate() {
            for n in 0..3 {
                ticket += 1;
                sends.push(carried(ticket, *user, to(group, &format!("{place}:{}", round * 3 + n))));
            }
        }
        gateway.carry(sends).await;
    }
    let outcomes = gateway.outcomes(240).await;
    let mut sent: Vec<_> = outcomes.into_values().map(|outcome| outcome.unwrap().message.unwrap()).collect();
    sent.sort_by_key(|message| message.sequence);
    for place in 0..people.len() {
        let prefix = format!("{place}:");
        let numbers: Vec<usize> =
            sent.iter().filter_map(|message| text_of(message).strip_prefix(&prefix)?.parse().ok()).collect();
        assert_eq!(numbers, (0..30).collect::<Vec<_>>());
    }
    assert!(
        world.others.checks() < 120,
        "the questions of a batch are asked at once: {}",
        world.others.checks()
    );
}

#[tokio::test]
async fn the_stream_ends_when_both_sides_are_done() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let mut gateway = Gateway::connect(&world).await;
    gateway.carry((0..100).map(|n| carried(n, ann, to(group, &n.to_string()))).collect()).await;
    let Gateway { sends, outcomes } = gateway;
    drop(sends);
    gateway = Gateway { sends: mpsc::channel(1).0, outcomes };
    assert!(gateway.outcomes(100).await.values().all(Result::is_ok));
    assert!(gateway.outcomes.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_stream_under_way_is_finished_when_the_service_stops() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let mut gateway = Gateway::connect(&world).await;
    gateway.carry((0..50).map(|n| carried(n, ann, to(group, &n.to_string()))).collect()).await;
    let first = gateway.outcomes(1).await;
    let stop = world.unit.stop(PATIENCE);
    let rest = async {
        let rest = 50 - first.len();
        if rest > 0 { gateway.outcomes(rest).await } else { HashMap::new() }
    };
    let ((), rest) = tokio::join!(stop, rest);
    assert!(rest.values().all(Result::is_ok));
    assert!(gateway.outcomes.message().await.unwrap().is_none());
}

#[tokio::test]
async fn long_texts_come_back_in_several_answers() {
    // How long a busy machine takes is not what this is about.
    let world = World::with(Config { max_wait: PATIENCE, ..Config::default() }).await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let mut gateway = Gateway::connect(&world).await;
    for round in 0..6 {
        let send = |n: i64| carried(round * 40 + n, ann, to(group, &"x".repeat(16_384)));
        gateway.carry((0..40).map(send).collect()).await;
    }
    let outcomes = gateway.outcomes(240).await;
    let refused: Vec<_> = outcomes.values().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(refused.is_empty(), "{} refused: {:?}", refused.len(), refused.first());
}

#[tokio::test]
async fn only_a_gateway_carries() {
    let world = World::start().await;
    let [ann] = world.people();
    let empty = || tokio_stream::empty::<pb::SendMessagesRequest>();
    let user = world.messaging().send_messages(ann.says(empty())).await;
    assert_eq!(user.unwrap_err().code(), Code::PermissionDenied);
    let other = world.messaging().send_messages(Service("scheduling", None).says(empty())).await;
    assert_eq!(other.unwrap_err().code(), Code::PermissionDenied);
}
