//! A notice of any kind that is forged, changed, repeated or moved on the bus shows nothing and hides nothing.

use std::sync::Arc;

use prost::Message as _;
use proto::auth::v1::SessionsEnded;
use proto::messaging::v1::notice::Notice as Kind;
use proto::messaging::v1::sync_service_client::SyncServiceClient;
use proto::messaging::v1::{
    LogHead, Notice, Signal, StreamEventsRequest, StreamEventsResponse, Watermark, content, event,
    stream_events_response::Update, user_event,
};
use proto::scheduling::v1::{CallEvent, CallState, call_event};
use serde_json::{Value, json};
use tests::person::{number, text};
use tests::waiting::within;
use tests::{Connection, Person, Shape, World, storage};
use tonic::{Request, Streaming};

use super::nats::{Eve, Overheard, Sealed};

tests::stories![what_others_publish_neither_shows_nor_hides_anything];

/// The notices of each kind that eve has heard.
struct Loot {
    event: Sealed,
    user_event: Sealed,
    receipt: Sealed,
    signal: Sealed,
    ringing: Sealed,
    ended: Sealed,
}

impl Loot {
    fn all(&self) -> [&Sealed; 6] {
        [&self.event, &self.user_event, &self.receipt, &self.signal, &self.ringing, &self.ended]
    }
}

/// The two ears of Bob: a socket of the gateway, and a stream of messaging.
struct Bob {
    socket: Connection,
    stream: Streaming<StreamEventsResponse>,
}

impl Bob {
    async fn listens(world: &World, bob: &Person) -> Self {
        let address = format!("http://{}", world.grpc("messaging"));
        let mut sync = SyncServiceClient::connect(address).await.expect("messaging");
        let mut asked = Request::new(StreamEventsRequest::default());
        asked
            .metadata_mut()
            .insert("authorization", format!("Bearer {}", bob.token).parse().expect("a header"));
        let mut stream = sync.stream_events(asked).await.expect("a stream").into_inner();
        loop {
            let update = within("an update", stream.message()).await.expect("an update").expect("an update");
            if matches!(update.update, Some(Update::CaughtUp(_))) {
                break;
            }
        }
        Self { socket: bob.comes_online().await, stream }
    }

    /// Gives what each of the two shows until this is said, in words.
    async fn shows_until(&mut self, last: &str) -> [Vec<String>; 2] {
        let last = format!("message {last}");
        let (mut on_socket, mut on_stream) = (Vec::new(), Vec::new());
        while on_socket.last() != Some(&last) {
            on_socket.extend(of_frame(&self.socket.next().await));
        }
        while on_stream.last() != Some(&last) {
            let update = within("an update", self.stream.message()).await.expect("an update");
            on_stream.extend(of_update(update.expect("an update")));
        }
        [on_socket, on_stream]
    }
}

fn of_frame(frame: &Value) -> Option<String> {
    if let Some(message) = frame["event"].get("messageCreated") {
        return message["content"]["text"].as_str().map(|text| format!("message {text}"));
    }
    if frame["userEvent"].get("alertChanged").is_some() {
        return Some(format!("alert {}", number(&frame["userEvent"]["sequence"])));
    }
    if let Some(receipt) = frame.get("receipt") {
        return Some(format!("{} has read {}", text(&receipt["userId"]), number(&receipt["readSequence"])));
    }
    if frame.get("signal").is_some() {
        return Some("typing".to_owned());
    }
    frame
        .get("callChanged")
        .map(|notice| format!("call {} {}", text(&notice["call"]["callId"]), text(&notice["call"]["state"])))
}

fn of_update(update: StreamEventsResponse) -> Option<String> {
    match update.update? {
        Update::Event(event) => words_of(&event).map(|words| format!("message {words}")),
        Update::UserEvent(event) => match event.payload? {
            user_event::Payload::AlertChanged(_) => Some(format!("alert {}", event.sequence)),
            _ => None,
        },
        Update::Receipt(receipt) => Some(format!("{} has read {}", receipt.user_id, receipt.read_sequence)),
        Update::Signal(_) => Some("typing".to_owned()),
        Update::CaughtUp(_) => None,
    }
}

fn words_of(event: &proto::messaging::v1::Event) -> Option<String> {
    let Some(event::Payload::MessageCreated(message)) = &event.payload else { return None };
    match message.content.as_ref()?.kind.as_ref()? {
        content::Kind::Text(words) => Some(words.clone()),
        _ => None,
    }
}

fn notice(payload: &[u8]) -> Option<Kind> {
    Notice::decode(payload).ok()?.notice
}

fn encoded(kind: Kind) -> Vec<u8> {
    Notice { notice: Some(kind) }.encode_to_vec()
}

/// Finds a notice about a call in this state.
fn call_in(state: CallState) -> impl Fn(&[u8]) -> Option<CallEvent> {
    move |payload| {
        let event = CallEvent::decode(payload).ok()?;
        let call_event::Event::Changed(notice) = event.event.as_ref()? else { return None };
        (notice.call.as_ref()?.state() == state).then_some(event)
    }
}

/// Ann mentions Bob, types, reads, calls Bob and hangs up.
async fn lives(ann: &Person, bob: &Person, conversation: &str, words: &str) {
    let said = ann.says(conversation, &format!("@{} {words}", bob.username)).await;
    let signal = json!({ "kind": "SIGNAL_KIND_TYPING" });
    ann.post(&format!("/v1/conversations/{conversation}/signals"), signal).await.ok();
    let read = json!({ "readSequence": said["sequence"] });
    ann.post(&format!("/v1/conversations/{conversation}/watermark"), read).await.ok();
    let call = ann.calls(bob).await;
    ann.does_with_call(&call, "end").await;
}

async fn takes_loot(subjects: [&mut Overheard; 3]) -> Loot {
    let [conversation, user, calls] = subjects;
    let (event, _) = conversation
        .next(|it| matches!(notice(it)?, Kind::Event(event) if words_of(&event).is_some()).then_some(()))
        .await;
    let (signal, ()) = conversation.next(|it| matches!(notice(it)?, Kind::Signal(_)).then_some(())).await;
    let (receipt, ()) = conversation.next(|it| matches!(notice(it)?, Kind::Receipt(_)).then_some(())).await;
    let is_alert = |it: &[u8]| {
        let Kind::UserEvent(event) = notice(it)? else { return None };
        matches!(event.payload?, user_event::Payload::AlertChanged(_)).then_some(())
    };
    let (user_event, ()) = user.next(is_alert).await;
    let (ringing, _) = calls.next(call_in(CallState::Ringing)).await;
    // A call that is given up before it is answered ends as a missed one.
    let is_over = |it: &[u8]| call_in(CallState::Ringing)(it).is_none().then_some(());
    let (ended, ()) = calls.next(is_over).await;
    Loot { event, user_event, receipt, signal, ringing, ended }
}

/// The notices that eve makes up, after those that she has heard.
fn forgeries(loot: &Loot) -> Vec<(String, Vec<u8>)> {
    let subject = |sealed: &Sealed| sealed.subject.clone();
    let Some(Kind::Event(mut event)) = notice(loot.event.payload()) else { panic!("an event") };
    event.sequence += 1;
    if let Some(event::Payload::MessageCreated(message)) = &mut event.payload {
        message.sequence += 1;
        message.message_id = proto::id::MessageId::generate().to_string();
        message.content.get_or_insert_default().kind = Some(content::Kind::Text("forged".to_owned()));
    }
    let Some(Kind::UserEvent(mut own)) = notice(loot.user_event.payload()) else {
        panic!("an event of a user")
    };
    own.sequence += 1;
    let Some(Kind::Receipt(receipt)) = notice(loot.receipt.payload()) else { panic!("a receipt") };
    let Some(Kind::Signal(signal)) = notice(loot.signal.payload()) else { panic!("a signal") };
    let conversation_id = event.conversation_id.clone();
    let far = Watermark { delivered_sequence: 999, read_sequence: 999, ..receipt };
    let head = LogHead { conversation_id, sequence: 999 };
    let mut ringing = CallEvent::decode(loot.ringing.payload()).expect("a call");
    if let Some(call_event::Event::Changed(notice)) = &mut ringing.event {
        notice.call.get_or_insert_default().call_id = proto::id::CallId::generate().to_string();
    }
    vec![
        (subject(&loot.event), encoded(Kind::Event(event))),
        (subject(&loot.event), encoded(Kind::Head(head))),
        (subject(&loot.user_event), encoded(Kind::UserEvent(own))),
        (subject(&loot.receipt), encoded(Kind::Receipt(far))),
        (subject(&loot.signal), encoded(Kind::Signal(Signal { ..signal }))),
        (subject(&loot.ringing), ringing.encode_to_vec()),
    ]
}

async fn what_others_publish_neither_shows_nor_hides_anything(world: Arc<World>) {
    // The bus of one process is reached by no other.
    if world.shape == Shape::Embedded {
        return;
    }
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let other = ann.starts_direct_with(&bob).await;
    let id = |id: &str| proto::id::ConversationId::parse(id).expect("an id");
    let user = proto::id::UserId::parse(&bob.id).expect("an id");
    let (log, elsewhere) =
        (proto::subject::conversation(id(&conversation)), proto::subject::conversation(id(&other)));
    let (own, calls) = (proto::subject::user(user), proto::subject::calls(user));
    let eve = Eve::connects(&storage::nats_url().expect("a bus")).await;
    let mut subjects = [eve.overhears(&log).await, eve.overhears(&own).await, eve.overhears(&calls).await];
    let mut bobs = Bob::listens(&world, &bob).await;

    lives(&ann, &bob, &conversation, "one").await;
    ann.says(&conversation, "done once").await;
    let loot = takes_loot(subjects.each_mut()).await;
    bobs.shows_until("done once").await;

    for sealed in loot.all() {
        eve.repeats(sealed).await;
        for subject in [&log, &elsewhere, &own, &calls] {
            eve.repeats(&sealed.moved(subject)).await;
        }
    }
    for (subject, payload) in forgeries(&loot) {
        let sealed = loot.all().into_iter().find(|sealed| sealed.subject == subject).expect("a seal");
        eve.repeats(&sealed.changed(&payload)).await;
        eve.says(&subject, payload).await;
    }
    let ended = SessionsEnded { user_id: bob.id.clone(), session_ids: Vec::new() };
    eve.says(proto::subject::SESSIONS_ENDED, ended.encode_to_vec()).await;
    eve.says(proto::subject::AUTH_FACTS, Vec::new()).await;
    eve.has_spoken().await;

    lives(&ann, &bob, &conversation, "two").await;
    let last = ann.says(&conversation, "done twice").await;
    let own_head = bob.get("/v1/me/events?limit=1").await.ok()["headSequence"].clone();
    for (ear, shown) in ["socket", "stream"].into_iter().zip(bobs.shows_until("done twice").await) {
        let of = |kind: &str| shown.iter().filter(|word| word.starts_with(kind)).cloned().collect::<Vec<_>>();
        assert_eq!(
            of("message"),
            [format!("message @{} two", bob.username), "message done twice".to_owned()],
            "{ear}"
        );
        assert_eq!(of("typing").len(), 1, "{ear}: {shown:?}");
        assert_eq!(of("alert"), [format!("alert {}", number(&own_head))], "{ear}: {shown:?}");
        // Ann has read what she said before the last, and then the last: she said it.
        let last = number(&last["sequence"]);
        let may_be = [last - 1, last].map(|place| format!("{} has read {place}", ann.id));
        let receipts = of(&ann.id);
        assert!(receipts.contains(&may_be[0]), "{ear}: {shown:?}");
        assert!(receipts.iter().all(|word| may_be.contains(word)), "{ear}: {shown:?}");
        let mut calls: Vec<_> =
            of("call").iter().filter_map(|word| word.split(' ').nth(1).map(str::to_owned)).collect();
        calls.dedup();
        assert!(calls.len() <= 1, "{ear}: {shown:?}");
    }
}
