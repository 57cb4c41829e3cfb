//! Every kind of message: who may write it, that everybody reads it alike, and how it is edited.

use proto::id::MessageId;
use proto::messaging::v1::content::Kind;
use proto::messaging::v1::media::Source;

use super::*;

const MEDIA: &str = "https://media.example.org/a";

fn media(address: &str) -> Option<pb::Media> {
    Some(pb::Media { source: Some(Source::Url(address.to_owned())) })
}

fn a(kind: Kind) -> Option<pb::Content> {
    Some(pb::Content { kind: Some(kind), ..Default::default() })
}

fn says(conversation: ConversationId, kind: Kind) -> pb::SendMessageRequest {
    pb::SendMessageRequest { content: a(kind), ..to(conversation, "") }
}

fn voice(caption: &str) -> Kind {
    Kind::Voice(pb::VoiceContent {
        media: media(MEDIA),
        duration: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
        caption: caption.to_owned(),
    })
}

fn sticker() -> Kind {
    Kind::Sticker(pb::StickerContent { media: media(MEDIA), label: "🎉".to_owned() })
}

fn poll(clock: &Clock) -> pb::PollContent {
    pb::PollContent {
        question: "Tea?".to_owned(),
        options: vec!["yes".to_owned(), "no".to_owned(), "later".to_owned()],
        multiple_choice: true,
        anonymous: false,
        close_time: Some(clock.now().plus(Duration::from_secs(60)).to_proto()),
    }
}

fn document(title: &str) -> Kind {
    let document_id = "d-1".to_owned();
    Kind::Document(pb::DocumentContent { media: media(MEDIA), document_id, title: title.to_owned() })
}

fn link(title: &str) -> Kind {
    let (url, title) = ("https://example.org/a".to_owned(), title.to_owned());
    Kind::Link(pb::LinkContent { url, title, description: String::new() })
}

fn location(latitude: f64) -> Kind {
    Kind::Location(pb::LocationContent { latitude, longitude: 13.4, name: "Bridge".to_owned() })
}

fn secure(ciphertext: &[u8]) -> Kind {
    Kind::Secure(pb::SecureContent {
        ciphertext: ciphertext.to_vec(),
        algorithm: "x25519-xchacha20".to_owned(),
        signature: b"as it comes".to_vec(),
        device_key_id: String::new(),
    })
}

fn profile(user: UserId) -> Kind {
    Kind::Profile(pb::ProfileContent { user_id: user.to_string() })
}

pub fn of_services(clock: &Clock) -> [(&'static str, Kind); 3] {
    let (now, id) = (clock.now(), MessageId::generate().to_string());
    let schedule = pb::ScheduleContent {
        schedule_id: id.clone(),
        title: "Standup".to_owned(),
        start_time: Some(now.to_proto()),
        end_time: Some(now.plus(Duration::from_secs(900)).to_proto()),
        ..Default::default()
    };
    let call = pb::CallContent { call_id: id, outcome: pb::CallOutcome::Missed.into(), ..Default::default() };
    let system = pb::SystemContent { text: "Ann came in".to_owned() };
    [
        ("content.schedule", Kind::Schedule(schedule)),
        ("content.call", Kind::Call(call)),
        ("content.system", Kind::System(system)),
    ]
}

/// The field of a refusal by the rules of the request.
#[track_caller]
fn field<T: std::fmt::Debug>(outcome: Result<T, Status>) -> String {
    let fault = Fault::of(&outcome.unwrap_err());
    assert_eq!((fault.code(), fault.reason()), (Code::InvalidArgument, "ERROR_REASON_INVALID_FIELD"));
    fault.fields()[0].0.clone()
}

impl World {
    async fn changes(&self, by: UserId, message: &pb::Message, kind: Kind) -> Result<pb::Message, Status> {
        let request = pb::EditMessageRequest {
            conversation_id: message.conversation_id.clone(),
            message_id: message.message_id.clone(),
            content: a(kind),
            expected_version: 0,
        };
        let answer = self.messaging().edit_message(by.says(request)).await?;
        Ok(answer.into_inner().message.unwrap())
    }

    async fn is_read_alike(&self, reader: UserId, group: ConversationId, message: &pb::Message) {
        let ids = (group.to_string(), message.message_id.clone());
        let request = pb::GetMessageRequest { conversation_id: ids.0, message_id: ids.1 };
        let got = self.messaging().get_message(reader.says(request)).await.unwrap().into_inner().message;
        assert_eq!(got.as_ref(), Some(message));
        let request = pb::ListMessagesRequest { conversation_id: group.to_string(), ..Default::default() };
        assert!(self.list(reader, request).await.unwrap().messages.contains(message));
        let events = self.events(reader, group, message.sequence - 1).await.events;
        let created = pb::event::Payload::MessageCreated(message.clone());
        assert_eq!(events[0].payload, Some(created));
    }
}

#[tokio::test]
async fn every_kind_is_read_by_everybody_alike() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    let kinds = [
        Kind::Text("hello".to_owned()),
        secure(b"sealed"),
        voice("listen"),
        sticker(),
        Kind::Poll(poll(&world.clock)),
        document("Plan"),
        link("Example"),
        location(52.5),
        profile(bob),
    ];
    for kind in kinds {
        let sent = world.send(ann, says(group, kind.clone())).await.unwrap().message.unwrap();
        assert_eq!(sent.content, a(kind));
        world.is_read_alike(bob, group, &sent).await;
    }
    let picture = pb::Attachment {
        kind: pb::AttachmentKind::Image.into(),
        media: media(MEDIA),
        name: "a.png".to_owned(),
        media_type: "image/png".to_owned(),
    };
    for kind in [None, Some(Kind::Text("look".to_owned()))] {
        let content = Some(pb::Content { kind, attachments: vec![picture.clone(); 10] });
        let request = pb::SendMessageRequest { content: content.clone(), ..to(group, "") };
        let sent = world.send(ann, request).await.unwrap().message.unwrap();
        assert_eq!(sent.content, content);
        world.is_read_alike(bob, group, &sent).await;
    }
}

#[tokio::test]
async fn a_poll_begins_without_votes_and_says_when_it_closes() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let poll = poll(&world.clock);
    let sent = world.send(ann, says(group, Kind::Poll(poll.clone()))).await.unwrap().message.unwrap();
    let result = pb::PollResult { counts: vec![0, 0, 0], voter_count: 0, close_time: poll.close_time };
    assert_eq!(sent.poll_result, Some(result));
    world.is_read_alike(ann, group, &sent).await;
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_by_its_field_and_leaves_nothing() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    world.has_heard(ann, 1).await;
    let head = world.events(ann, group, 0).await.head_sequence;
    let poll = poll(&world.clock);
    let past = Some(world.clock.now().to_proto());
    let twice = vec!["é".to_owned(), "e\u{301}".to_owned()];
    let cases = [
        ("content.voice.media", Kind::Voice(pb::VoiceContent::default())),
        (
            "content.voice.media.url",
            Kind::Voice(pb::VoiceContent { media: media("http://media.example.org"), ..Default::default() }),
        ),
        (
            "content.sticker.media.url",
            Kind::Sticker(pb::StickerContent {
                media: media("https://a:b@example.org"),
                ..Default::default()
            }),
        ),
        (
            "content.poll.options",
            Kind::Poll(pb::PollContent { options: vec!["one".to_owned()], ..poll.clone() }),
        ),
        ("content.poll.options", Kind::Poll(pb::PollContent { options: twice, ..poll.clone() })),
        ("content.poll.close_time", Kind::Poll(pb::PollContent { close_time: past, ..poll })),
        ("content.document.media", Kind::Document(pb::DocumentContent::default())),
        (
            "content.link.url",
            Kind::Link(pb::LinkContent { url: "https://".to_owned(), ..Default::default() }),
        ),
        ("content.location.latitude", location(f64::NAN)),
        ("content.location.latitude", location(1e18)),
        ("content.profile.user_id", Kind::Profile(pb::ProfileContent { user_id: "ann".to_owned() })),
        ("content.secure.ciphertext", secure(b"")),
    ];
    for (path, kind) in cases {
        let shown = format!("{kind:?}");
        assert_eq!(field(world.send(ann, says(group, kind.clone())).await), path, "{shown}");
        assert_eq!(field(world.send(ann, checked(says(group, kind))).await), path, "{shown}");
    }
    assert_eq!(world.events(ann, group, 0).await.head_sequence, head);
}

#[tokio::test]
async fn people_do_not_write_in_the_words_of_services() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    let text = world.says(ann, group, "hello").await;
    for (path, kind) in of_services(&world.clock) {
        assert_eq!(field(world.send(ann, says(group, kind.clone())).await), path);
        assert_eq!(field(world.send(ann, checked(says(group, kind.clone()))).await), path);
        assert_eq!(field(world.changes(ann, &text, kind.clone()).await), path);
        let for_ann = Service("scheduling", Some(ann)).says(says(group, kind.clone()));
        let sent = world.messaging().send_message(for_ann).await.unwrap().into_inner().message.unwrap();
        assert_eq!(sent.content, a(kind.clone()));
        world.is_read_alike(bob, group, &sent).await;
        let edit = world.changes(ann, &sent, Kind::Text("mine".to_owned())).await;
        assert_eq!(refusal(edit), refused(Code::FailedPrecondition, "NOT_EDITABLE"));
    }
}

#[tokio::test]
async fn only_scheduling_says_what_a_message_was_scheduled_for() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    let scheduled_time = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 });
    let request = |says: &str| pb::SendMessageRequest { scheduled_time, ..keyed(group, says, "sched:1") };
    assert_eq!(field(world.send(ann, request("hello")).await), "scheduled_time");
    assert_eq!(field(world.send(ann, checked(request("hello"))).await), "scheduled_time");

    let scheduling = Service("scheduling", Some(ann));
    let send = async |request| {
        let answer = world.messaging().send_message(scheduling.says(request)).await;
        answer.map(|answer| answer.into_inner().message.unwrap())
    };
    let sent = send(request("hello")).await.unwrap();
    assert_eq!(sent.scheduled_time, scheduled_time);
    world.is_read_alike(bob, group, &sent).await;
    // A retry may say another time: the first message is the answer.
    let later = Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 });
    let again = pb::SendMessageRequest { scheduled_time: later, ..request("hello") };
    assert_eq!(send(again).await.unwrap(), sent);
    let edited = world.edit(ann, &sent, "hello again").await.unwrap();
    assert_eq!((edited.version, edited.scheduled_time), (2, scheduled_time));
    assert_eq!(world.unsend(ann, &sent).await.unwrap().scheduled_time, None);
    let malformed = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    let request = pb::SendMessageRequest { scheduled_time: malformed, ..keyed(group, "x", "sched:2") };
    assert_eq!(field(send(request).await), "scheduled_time");
    assert_eq!(world.says(ann, group, "at once").await.scheduled_time, None);
}

#[tokio::test]
async fn a_card_is_of_somebody_who_exists() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let nobody = || says(group, profile(UserId::generate()));
    let not_found = refused(Code::NotFound, "USER_NOT_FOUND");
    assert_eq!(refusal(world.send(ann, nobody()).await), not_found);
    assert_eq!(refusal(world.send(ann, checked(nobody())).await), not_found);
    world.others.set_down(true);
    assert_eq!(world.send(ann, says(group, profile(ann))).await.unwrap_err().code(), Code::Unavailable);
    world.others.set_down(false);
    assert!(world.send(ann, says(group, profile(ann))).await.is_ok());
}

#[tokio::test]
async fn a_voice_or_a_sticker_comes_from_a_host_for_media_when_some_are_named() {
    let config = Config { media_hosts: vec!["Media.example.org".to_owned()], ..Config::default() };
    let world = World::with(config).await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let there = world.send(ann, says(group, voice("a"))).await.unwrap().message.unwrap();
    assert!(world.send(ann, says(group, sticker())).await.is_ok());
    for address in ["https://example.org/a", "https://media.example.org.evil.example/a"] {
        let from = |address| media(address);
        let voice = Kind::Voice(pb::VoiceContent { media: from(address), ..Default::default() });
        assert_eq!(field(world.send(ann, says(group, voice.clone())).await), "content.voice.media.url");
        assert_eq!(field(world.changes(ann, &there, voice).await), "content.voice.media.url");
        let sticker = Kind::Sticker(pb::StickerContent { media: from(address), ..Default::default() });
        assert_eq!(field(world.send(ann, says(group, sticker)).await), "content.sticker.media.url");
    }
    assert!(world.send(ann, says(group, link("elsewhere"))).await.is_ok());
}

#[tokio::test]
async fn an_edit_keeps_the_kind_and_the_end_of_a_message() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let text = |says: &str| Kind::Text(says.to_owned());
    let not_editable = refused(Code::FailedPrecondition, "NOT_EDITABLE");
    let worded = [
        (text("one"), text("two")),
        (voice("one"), voice("two")),
        (document("one"), document("two")),
        (link("one"), link("two")),
        (location(1.0), location(2.0)),
        (secure(b"one"), secure(b"two")),
    ];
    for (before, after) in worded {
        let lifetime = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        let request = pb::SendMessageRequest { expire_after: lifetime, ..says(group, before.clone()) };
        let sent = world.send(ann, request).await.unwrap().message.unwrap();
        let edited = world.changes(ann, &sent, after.clone()).await.unwrap();
        assert_eq!((edited.version, edited.content.clone()), (2, a(after.clone())));
        assert_eq!((edited.expire_time, edited.expire_time.is_some()), (sent.expire_time, true));
        assert_eq!(refusal(world.changes(ann, &sent, sticker()).await), not_editable);
        let other = if matches!(after, Kind::Text(_)) { link("x") } else { text("x") };
        assert_eq!(refusal(world.changes(ann, &sent, other).await), not_editable);
        world.clock.advance(Duration::from_secs(60));
        let late = world.changes(ann, &sent, before).await;
        assert_eq!(refusal(late), refused(Code::FailedPrecondition, "MESSAGE_DELETED"));
    }
    let given = [sticker(), Kind::Poll(poll(&world.clock)), profile(ann)];
    for kind in given {
        let sent = world.send(ann, says(group, kind.clone())).await.unwrap().message.unwrap();
        assert_eq!(refusal(world.changes(ann, &sent, kind).await), not_editable);
        assert_eq!(refusal(world.changes(ann, &sent, text("x")).await), not_editable);
    }
}
