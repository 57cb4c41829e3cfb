//! Something is away for a while: what does not need it goes on, and who asks for what needs it is told at once.

use std::time::{Duration, Instant};

use proto::messaging::v1::messaging_service_client::MessagingServiceClient;
use proto::messaging::v1::{Content, SendMessageRequest, content, send_message_request};
use serde_json::{Value, json};
use tests::Person;
use tests::figure::{Figures, Target};
use tests::history::quantile;
use tests::waiting::until;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_types::StatusExt;

use crate::load::{Load, Plan};
use crate::schedules::{since_1970, timestamp};
use crate::{Separate, assert_no_panics, is_long, pass, settled};

/// How long an answer may take that says that something is away.
const AT_ONCE: Duration = Duration::from_secs(3);

pub async fn the_bus_may_be_away() {
    let mut figures = Figures::of("the_bus_may_be_away");
    let mut separate = Separate::start().await;
    let load = Load::start(&separate.world, Plan { conversations: 6, per_second: 80 }).await;
    pass(Duration::from_secs(2)).await;
    load.breaks("nats");
    separate.kill("nats");
    // A moment of its own: what is under way when it goes may still be waiting for it.
    let before = load.acknowledged();
    let away = Duration::from_secs(if is_long() { 60 } else { 12 });
    pass(away).await;
    let meanwhile = load.acknowledged() - before;
    separate.start_again("nats").await;
    load.heals("nats");
    pass(Duration::from_secs(2)).await;
    let outcome = load.finish(&separate.world, Some(&separate.database)).await;
    settled::print(&mut figures, &outcome);
    // It is asked for 80 per second; a slow machine may make fewer, but not none.
    let rate = meanwhile as f64 / away.as_secs_f64();
    figures.print("sent_without_bus", rate, "messages/s", Target::AtLeast(20.0));
    let (acknowledged, unknown) = (outcome.verdict.acknowledged as f64, outcome.verdict.unknown as f64);
    figures.print("send_success", acknowledged / (acknowledged + unknown), "share", Target::AtLeast(0.99));
    let repair = quantile(&outcome.verdict.visible_in_faults, 0.99).as_secs_f64();
    figures.print("live_repair_p99", repair, "s", Target::AtMost(12.0));
    assert_no_panics(&separate.world);
    figures.conclude();
}

pub async fn a_service_that_is_down_is_told_at_once() {
    let mut figures = Figures::of("a_service_that_is_down_is_told_at_once");
    let mut separate = Separate::start().await;
    let (ann, bob) = (separate.world.person("ann").await, separate.world.person("bob").await);
    let conversation = ann.starts_direct_with(&bob).await;
    ann.says(&conversation, "all is well").await;
    let messages = format!("/v1/conversations/{conversation}/messages");
    let send = json!({ "content": { "text": "is anybody there?" } });
    let group = json!({ "kind": "CONVERSATION_KIND_GROUP", "title": "new", "userIds": [bob.id] });
    let login = json!({ "login": ann.username, "password": tests::person::PASSWORD });
    let later = json!({ "content": { "text": "later" }, "sendTime": timestamp(since_1970() + Duration::from_secs(3600)).to_string() });
    let schedule = format!("/v1/conversations/{conversation}/scheduled-messages");
    let cases: [(&[&str], &str, &str, &Value); 5] = [
        (&["conversation"], "send", &messages, &send),
        (&["conversation"], "create", "/v1/conversations", &group),
        (&["messaging-1", "messaging-2"], "send", &messages, &send),
        (&["auth"], "login", "/v1/auth/login", &login),
        (&["scheduling"], "schedule", &schedule, &later),
    ];
    for (victims, what, path, body) in cases {
        for victim in victims {
            separate.kill(victim);
        }
        // Bob has never written here: nobody can know that he may, but the service that is away.
        let name = format!("{what}_without_{}", victims[0]);
        is_told(&mut figures, &name, &bob, path, body).await;
        if what == "send" && victims == ["conversation"] {
            is_told_by_grpc(&mut figures, &separate, &bob, &conversation).await;
        }
        for victim in victims {
            separate.start_again(victim).await;
        }
        let back = Instant::now();
        until("the service to be back", || async {
            let answer = bob.try_post(path, body.clone()).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        figures.print(&format!("{name}_back"), back.elapsed().as_secs_f64(), "s", Target::Informs);
    }
    // Who needs only what is there notices nothing.
    separate.kill("scheduling");
    // Her gateway has not spoken to messaging since it was away, and may find that out only now.
    until("a message to be sent", || async {
        let answer = ann.tries_to_say(&conversation, "who needs a calendar?").await;
        assert!([200, 503].contains(&answer.status), "{answer:?}");
        (answer.status == 200).then_some(())
    })
    .await;
    assert_no_panics(&separate.world);
    figures.conclude();
}

async fn is_told(figures: &mut Figures, name: &str, person: &Person, path: &str, body: &Value) {
    let asked = Instant::now();
    let answer = person.try_post(path, body.clone()).await.expect("an answer of the gateway");
    let took = asked.elapsed().as_secs_f64();
    eprintln!("{name}: {} {}", answer.status, answer.body);
    figures.print(&format!("{name}_status"), f64::from(answer.status), "http", Target::Is(503.0));
    let hint = answer.retry_after.map_or(0.0, |seconds| seconds as f64);
    figures.print(&format!("{name}_retry_after"), hint, "s", Target::AtLeast(1.0));
    figures.print(&format!("{name}_took"), took, "s", Target::AtMost(AT_ONCE.as_secs_f64()));
}

async fn is_told_by_grpc(figures: &mut Figures, separate: &Separate, person: &Person, conversation: &str) {
    let address = separate.world.grpc("messaging");
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
    let channel = endpoint.connect().await.expect("a channel");
    let mut request = Request::new(SendMessageRequest {
        target: Some(send_message_request::Target::ConversationId(conversation.to_owned())),
        content: Some(Content {
            kind: Some(content::Kind::Text("is anybody there?".to_owned())),
            ..Default::default()
        }),
        ..SendMessageRequest::default()
    });
    let token = format!("Bearer {}", person.token).parse().expect("a header");
    request.metadata_mut().insert("authorization", token);
    let asked = Instant::now();
    let status = MessagingServiceClient::new(channel).send_message(request).await.expect_err("a refusal");
    let took = asked.elapsed().as_secs_f64();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let hint = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
    figures.print("grpc_send_retry_info", hint.as_secs_f64(), "s", Target::AtLeast(0.001));
    figures.print("grpc_send_took", took, "s", Target::AtMost(AT_ONCE.as_secs_f64()));
}
