//! Tests of the events of calls on the connections of their users.

use std::time::Duration;

use prost::Message as _;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::gateway::v1::{ClientFrame, Hello, client_frame};
use proto::id::{CallId, UserId};
use proto::scheduling::v1::call_event::Event;
use proto::scheduling::v1::{Call, CallEvent, CallNotice, CallSignal, CallState};
use serde_json::json;

use super::Stream;
use super::world::{Person, World};

fn tell(world: &World, user: UserId, event: Event) {
    let event = CallEvent { event: Some(event) };
    world.backend.events.publish(&proto::subject::calls(user), event.encode_to_vec().into());
}

fn rings(world: &World, at: &Person, version: i64) -> String {
    let id = CallId::generate().to_string();
    changes(world, at, &id, CallState::Ringing, version);
    id
}

fn changes(world: &World, at: &Person, call_id: &str, state: CallState, version: i64) {
    let call = Call {
        call_id: call_id.to_owned(),
        callee_user_id: at.id.to_string(),
        state: state.into(),
        version,
        ..Call::default()
    };
    tell(world, at.id, Event::Changed(CallNotice { call: Some(call) }));
}

fn signal(world: &World, to: &Person, session: &str, payload: &str) {
    let signal = CallSignal {
        call_id: CallId::generate().to_string(),
        from_user_id: UserId::generate().to_string(),
        to_session_id: session.to_owned(),
        payload: payload.to_owned(),
    };
    tell(world, to.id, Event::Signal(signal));
}

#[tokio::test]
async fn a_call_rings_on_every_connection_of_its_user_whatever_it_follows() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let tablet = world.another_device(&ann);
    let conversation = world.backend.conversation(&[ann.id]);
    let mut idle = world.connect(&ann).await;
    let mut follower = world.follow(&tablet, conversation, 1).await;
    let mut stream = Stream::open(&world, &ann.token, "", None).await;
    stream.until("caught_up").await;
    let mut other = world.connect(&bob).await;

    let id = rings(&world, &ann, 1);
    for client in [&mut idle, &mut follower] {
        let frame = client.next().await;
        assert_eq!(frame["callChanged"]["call"]["callId"], id, "{frame}");
        assert_eq!(frame["callChanged"]["call"]["state"], "CALL_STATE_RINGING");
        assert_eq!((&frame["callChanged"]["call"]["version"], frame.get("id")), (&json!("1"), None));
    }
    let (kind, frame, _) = stream.next().await;
    assert_eq!((kind.as_str(), &frame["callChanged"]["call"]["callId"]), ("call_changed", &json!(id)));
    other.hears_nothing().await;
}

#[tokio::test]
async fn a_signal_reaches_the_device_that_it_is_for_exactly_as_it_came() {
    const OFFER: &str = "{\"type\": \"offer\",\n \"n\": 1.50, \"sdp\": \"v=0\\r\\n\u{e4}\"}";
    let world = World::start().await;
    let ann = world.person();
    let tablet = world.another_device(&ann);
    let (mut phone, mut other) = (world.connect(&ann).await, world.connect(&tablet).await);
    let mut stream = Stream::open(&world, &ann.token, "", None).await;
    stream.until("caught_up").await;

    signal(&world, &ann, &ann.session.to_string(), OFFER);
    let frame = phone.next().await;
    assert_eq!(frame["callSignal"]["payload"], OFFER, "{frame}");
    let (kind, frame, _) = stream.next().await;
    assert_eq!((kind.as_str(), &frame["callSignal"]["payload"]), ("call_signal", &json!(OFFER)));
    other.hears_nothing().await;
    // While it rings, all devices.
    signal(&world, &ann, "", "candidate");
    assert_eq!(phone.next().await["callSignal"]["payload"], "candidate");
    assert_eq!(other.next().await["callSignal"]["payload"], "candidate");
}

#[tokio::test]
async fn calls_come_in_binary_to_those_who_speak_it() {
    let world = World::start().await;
    let ann = world.person();
    let mut client = world.socket().await;
    let hello = client_frame::Command::Hello(Hello { session_token: ann.token.clone() });
    client.say_in_binary(&ClientFrame { id: "1".to_owned(), command: Some(hello) }).await;
    assert!(matches!(client.next_in_binary().await.frame, Some(Body::Ready(_))));
    let id = rings(&world, &ann, 3);
    let Some(Body::CallChanged(notice)) = client.next_in_binary().await.frame else { panic!("no call") };
    let call = notice.call.expect("a call");
    assert_eq!((call.call_id, call.version), (id, 3));
    signal(&world, &ann, "", "candidate");
    let Some(Body::CallSignal(signal)) = client.next_in_binary().await.frame else { panic!("no signal") };
    assert_eq!(signal.payload, "candidate");
}

#[tokio::test]
async fn a_version_of_a_call_that_arrives_late_is_not_shown() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let mut client = world.connect(&ann).await;
    let mut stream = Stream::open(&world, &ann.token, "", None).await;
    stream.until("caught_up").await;
    let id = rings(&world, &ann, 1);
    changes(&world, &ann, &id, CallState::Ended, 3);
    changes(&world, &ann, &id, CallState::Accepted, 2);
    let other = rings(&world, &ann, 1);
    for (call, version) in [(&id, "1"), (&id, "3"), (&other, "1")] {
        let frame = client.next().await;
        assert_eq!(frame["callChanged"]["call"]["callId"], *call, "{frame}");
        assert_eq!(frame["callChanged"]["call"]["version"], version);
        let (_, frame, _) = stream.next().await;
        assert_eq!(frame["callChanged"]["call"]["version"], version, "{frame}");
    }
    // The other of the two hears it in its own order, and one who comes back what is not older.
    let mut others = world.connect(&bob).await;
    changes(&world, &bob, &id, CallState::Accepted, 2);
    assert_eq!(others.next().await["callChanged"]["call"]["version"], "2");
    drop(client);
    let mut back = world.connect(&ann).await;
    changes(&world, &ann, &id, CallState::Accepted, 2);
    changes(&world, &ann, &id, CallState::Ended, 3);
    assert_eq!(back.next().await["callChanged"]["call"]["version"], "3");
}

#[tokio::test]
async fn who_comes_back_hears_calls_again() {
    let world = World::start().await;
    let ann = world.person();
    for version in 1..4 {
        let mut client = world.connect(&ann).await;
        let id = rings(&world, &ann, version);
        assert_eq!(client.next().await["callChanged"]["call"]["callId"], id);
    }
}

#[tokio::test]
async fn signals_keep_their_order_and_are_not_counted_as_commands() {
    const SIGNALS: u32 = 12;
    let world = World::with(|sockets| sockets.commands_per_minute = 3).await;
    let ann = world.person();
    let mut client = world.connect(&ann).await;
    // The first ones take longest.
    world.backend.facts().signals_take =
        (0..SIGNALS).map(|n| Duration::from_millis(5) * (SIGNALS - n)).collect();
    let call_id = CallId::generate().to_string();
    for number in 0..SIGNALS {
        let request = json!({"callId": call_id, "payload": number.to_string()});
        let call = json!({"method": "parlor.scheduling.v1.CallService/RelaySignal", "request": request});
        client.say(json!({"id": number.to_string(), "call": call})).await;
    }
    let mut heard = Vec::new();
    while heard.len() < SIGNALS as usize {
        let frame = client.next().await;
        assert!(frame.get("error").is_none(), "{frame}");
        heard.extend(frame["callSignal"]["payload"].as_str().map(str::to_owned));
    }
    assert_eq!(heard, (0..SIGNALS).map(|number| number.to_string()).collect::<Vec<_>>());
}
