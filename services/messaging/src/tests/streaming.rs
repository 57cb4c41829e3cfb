//! The live feed.

use proto::messaging::v1::stream_events_response::Update;
use tonic::Streaming;

use super::*;

pub(super) struct Reader(Streaming<pb::StreamEventsResponse>);

impl Reader {
    pub(super) async fn open(world: &World, user: UserId, heads: &[(ConversationId, i64)]) -> Self {
        let head = |(id, sequence): &(ConversationId, i64)| pb::Head {
            conversation_id: id.to_string(),
            sequence: *sequence,
        };
        let request = pb::StreamEventsRequest { heads: heads.iter().map(head).collect() };
        Self(world.sync().stream_events(user.says(request)).await.unwrap().into_inner())
    }

    pub(super) async fn next(&mut self) -> Result<Update, Status> {
        let next = tokio::time::timeout(PATIENCE, self.0.message()).await.expect("something in time");
        Ok(next?.expect("the stream goes on").update.unwrap())
    }

    /// What comes up to the point where all that was missed has been sent, as words.
    pub(super) async fn missed(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        loop {
            match word(self.next().await.unwrap()).as_str() {
                "caught up" => return words,
                word => words.push(word.to_owned()),
            }
        }
    }

    /// Waits for this word, whatever comes before it about alerts.
    pub(super) async fn expects_event(&mut self, expected: &str) {
        loop {
            let update = self.next().await.unwrap();
            if !matches!(&update, Update::UserEvent(_)) {
                break assert_eq!(word(update), expected);
            }
        }
    }

    pub(super) async fn expects(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(word(self.next().await.unwrap()), *expected);
        }
    }
}

/// An update as a word: the sequence and the text of an event.
fn word(update: Update) -> String {
    use pb::event::Payload;
    use pb::user_event::Payload as Own;
    match update {
        Update::Event(event) => match event.payload.unwrap() {
            Payload::MessageCreated(message) => format!("{} {}", event.sequence, text_of(&message)),
            Payload::MessageEdited(message) => format!("{} edited {}", event.sequence, text_of(&message)),
            Payload::MessageDeleted(_) => format!("{} deleted", event.sequence),
            Payload::MessagesPurged(purged) => format!("{} purged {}", event.sequence, purged.up_to_sequence),
            Payload::ConversationCreated(_) => format!("{} made", event.sequence),
            Payload::MembersAdded(_) => format!("{} added", event.sequence),
            Payload::MemberRemoved(_) => format!("{} removed", event.sequence),
            other => panic!("{other:?}"),
        },
        Update::UserEvent(event) => match event.payload.unwrap() {
            Own::ConversationGained(_) => "gained".to_owned(),
            Own::ConversationLost(_) => "lost".to_owned(),
            Own::WatermarkAdvanced(mark) => format!("own read {}", mark.read_sequence),
            Own::MessageHidden(hidden) => format!("hidden {}", hidden.message_sequence),
            Own::ProfileChanged(_) => "own profile".to_owned(),
            other => panic!("{other:?}"),
        },
        Update::Receipt(receipt) => format!("read {}", receipt.read_sequence),
        Update::Signal(signal) => format!("signal {}", signal.kind().as_str_name()),
        Update::CaughtUp(_) => "caught up".to_owned(),
    }
}

async fn read_up_to(world: &World, user: UserId, conversation: ConversationId, read_sequence: i64) {
    let request = pb::AdvanceWatermarkRequest {
        conversation_id: conversation.to_string(),
        read_sequence,
        ..Default::default()
    };
    world.messaging().advance_watermark(user.says(request)).await.unwrap();
}

#[tokio::test]
async fn a_receipt_says_where_the_watermark_was() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(bob, 1).await;
    for text in ["a", "b", "c", "d"] {
        world.says(ann, group, text).await;
    }
    let mut reader = Reader::open(&world, ann, &[(group, 5)]).await;
    reader.missed().await;
    let mut advance = async |read_sequence, delivered_sequence| {
        let request = pb::AdvanceWatermarkRequest {
            conversation_id: group.to_string(),
            read_sequence,
            delivered_sequence,
            ..Default::default()
        };
        let answer = world.messaging().advance_watermark(bob.says(request)).await.unwrap();
        let answer = answer.into_inner().watermark.unwrap();
        assert_eq!((answer.previous_delivered_sequence, answer.previous_read_sequence), (0, 0));
        let Update::Receipt(receipt) = reader.next().await.unwrap() else { panic!("a receipt") };
        let delivered = (receipt.previous_delivered_sequence, receipt.delivered_sequence);
        (delivered, (receipt.previous_read_sequence, receipt.read_sequence))
    };
    assert_eq!(advance(2, 0).await, ((0, 2), (0, 2)));
    assert_eq!(advance(0, 4).await, ((2, 4), (2, 2)));
    assert_eq!(advance(5, 0).await, ((4, 5), (2, 5)));
}

#[tokio::test]
async fn first_what_was_missed_and_then_what_happens() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(bob, 1).await;
    for text in ["a", "b", "c"] {
        world.says(ann, group, text).await;
    }
    let mut reader = Reader::open(&world, bob, &[(group, 2)]).await;
    assert_eq!(reader.missed().await, ["3 b", "4 c"]);
    world.says(ann, group, "d").await;
    reader.expects(&["5 d"]).await;
    read_up_to(&world, ann, group, 5).await;
    reader.expects(&["read 5"]).await;
    let typing =
        pb::SendSignalRequest { conversation_id: group.to_string(), kind: pb::SignalKind::Typing.into() };
    world.sync().send_signal(bob.says(typing.clone())).await.unwrap();
    world.sync().send_signal(ann.says(typing)).await.unwrap();
    reader.expects(&["signal SIGNAL_KIND_TYPING"]).await;
    read_up_to(&world, bob, group, 4).await;
    let mut words = [word(reader.next().await.unwrap()), word(reader.next().await.unwrap())];
    words.sort();
    assert_eq!(words, ["own read 4", "read 4"]);
}

#[tokio::test]
async fn a_receipt_that_arrives_late_is_not_shown() {
    let world = World::start().await;
    let [ann, bob, cem] = world.people();
    let group = world.group(&[ann, bob, cem]);
    world.has_heard(bob, 1).await;
    let receipt = |user: UserId, place: i64| {
        let watermark = pb::Watermark {
            conversation_id: group.to_string(),
            user_id: user.to_string(),
            delivered_sequence: place,
            read_sequence: place,
            ..pb::Watermark::default()
        };
        let notice = pb::Notice { notice: Some(pb::notice::Notice::Receipt(watermark)) };
        let payload = prost::Message::encode_to_vec(&notice);
        world.events.publish(&proto::subject::conversation(group), payload.into());
    };
    let mut reader = Reader::open(&world, bob, &[(group, 1)]).await;
    reader.expects(&["caught up"]).await;
    for (user, place) in [(ann, 96), (ann, 22), (cem, 22), (ann, 97)] {
        receipt(user, place);
    }
    reader.expects(&["read 96", "read 22", "read 97"]).await;
    drop(reader);
    let mut reader = Reader::open(&world, bob, &[(group, 1)]).await;
    reader.expects(&["caught up"]).await;
    receipt(ann, 95);
    receipt(ann, 98);
    reader.expects(&["read 98"]).await;
}

#[tokio::test]
async fn a_long_absence_is_replayed_whole_while_more_happens() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(bob, 1).await;
    for n in 2..=700 {
        world.says(ann, group, &n.to_string()).await;
    }
    let mut reader = Reader::open(&world, bob, &[(group, 1)]).await;
    let writing = async {
        for n in 701..=900 {
            world.says(ann, group, &n.to_string()).await;
        }
    };
    let reading = async {
        let mut next = 2;
        while next <= 900 {
            match reader.next().await.unwrap() {
                Update::Event(event) => {
                    assert_eq!(event.sequence, next);
                    next += 1;
                }
                Update::CaughtUp(_) => assert!(next > 700),
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::join!(writing, reading);
}

#[tokio::test]
async fn what_another_replica_wrote_is_read_from_the_log() {
    let world = World::start().await;
    let replica = world.replica().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(bob, 1).await;
    let mut reader = Reader::open(&world, bob, &[(group, 1)]).await;
    assert!(reader.missed().await.is_empty());
    // These two are hinted at on a bus that the reader's replica does not hear.
    replica.says(ann, group, "unheard").await;
    replica.says(ann, group, "unheard too").await;
    world.says(ann, group, "heard").await;
    reader.expects(&["2 unheard", "3 unheard too", "4 heard"]).await;
}

#[tokio::test]
async fn when_hints_may_have_been_lost_the_heads_are_looked_at() {
    let world = World::start().await;
    let replica = world.replica().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(bob, 1).await;
    let mut reader = Reader::open(&world, bob, &[(group, 1)]).await;
    assert!(reader.missed().await.is_empty());
    replica.says(ann, group, "unheard").await;
    // Somebody else on the same bus loses a hint, and nobody knows who did.
    let (full, _kept) = tokio::sync::mpsc::channel(1);
    let _subscription = world.events.subscribe("elsewhere", full).await;
    for _ in 0..2 {
        world.events.publish("elsewhere", bytes::Bytes::new());
    }
    reader.expects(&["2 unheard"]).await;
}

#[tokio::test]
async fn all_conversations_are_followed_also_the_later_ones() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let old = world.group(&[ann, bob]);
    world.has_heard(bob, 1).await;
    world.says(ann, old, "before").await;
    let mut reader = Reader::open(&world, bob, &[]).await;
    assert!(reader.missed().await.is_empty());
    world.says(ann, old, "now").await;
    reader.expects(&["3 now"]).await;
    // The message may be in the log before it is known there that the conversation was made.
    let direct = pb::SendMessageRequest {
        target: Some(Target::UserId(bob.to_string())),
        content: content("hello"),
        ..Default::default()
    };
    world.send(ann, direct).await.unwrap();
    let mut words = Vec::new();
    for _ in 0..3 {
        words.push(word(reader.next().await.unwrap()));
    }
    assert!(words.contains(&"gained".to_owned()), "{words:?}");
    assert!(words.iter().any(|word| word.ends_with("hello")), "{words:?}");
    assert!(words.iter().any(|word| word.ends_with("made")), "{words:?}");
}

#[tokio::test]
async fn who_was_removed_sees_nothing_that_came_after() {
    let world = World::start().await;
    let [ann, bob, cy] = world.people();
    let group = world.group(&[ann, bob, cy]);
    world.has_heard(bob, 1).await;
    let mut bobs = Reader::open(&world, bob, &[(group, 1)]).await;
    let mut cys = Reader::open(&world, cy, &[(group, 1)]).await;
    assert!(bobs.missed().await.is_empty() && cys.missed().await.is_empty());
    world.others.remove(group, bob);
    // The messages are written before messaging hears of the removal; they carry the newer version.
    for text in ["after", "and after"] {
        world.says(ann, group, text).await;
    }
    bobs.expects(&["lost"]).await;
    let mut words = Vec::new();
    for _ in 0..3 {
        words.push(word(cys.next().await.unwrap()));
    }
    assert!(
        words.iter().any(|word| word.ends_with(" after"))
            && words.iter().any(|word| word.ends_with("removed"))
    );
    world.others.add(group, bob);
    world.says(ann, group, "once more").await;
    bobs.expects(&["gained"]).await;
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_so() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(bob, 1).await;
    let mut reader = Reader::open(&world, bob, &[(group, 1)]).await;
    assert!(reader.missed().await.is_empty());
    let mut gateway = tokio::task::JoinSet::new();
    for n in 0..3_000 {
        let mut client = world.messaging();
        gateway.spawn(async move { client.send_message(ann.says(to(group, &n.to_string()))).await });
        if n % 250 == 249 {
            while gateway.join_next().await.is_some() {}
        }
    }
    let mut seen = 1;
    let end = loop {
        match reader.next().await {
            Ok(Update::Event(event)) => {
                assert_eq!(event.sequence, seen + 1, "without gaps up to the end");
                seen += 1;
            }
            Ok(other) => panic!("{other:?}"),
            Err(status) => break status,
        }
    };
    assert_eq!(refusal::<()>(Err(end)), refused(Code::Unavailable, "OVERLOADED"));
    // Nothing is lost: the reader goes on from where it was.
    let mut reader = Reader::open(&world, bob, &[(group, seen)]).await;
    let rest = reader.missed().await;
    assert_eq!(rest.len() as i64, 3_001 - seen);
}

#[tokio::test]
async fn streams_end_when_the_service_stops() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let mut reader = Reader::open(&world, ann, &[(group, 0)]).await;
    reader.missed().await;
    world.unit.stop(PATIENCE).await;
    let end = loop {
        if let Err(status) = reader.next().await {
            break status;
        }
    };
    assert_eq!(end.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_changed_profile_is_told_to_oneself_and_to_those_one_is_with() {
    let world = World::start().await;
    let [ann, bob, cid] = world.people();
    let (group, other) = (world.group(&[ann, bob]), world.group(&[bob, cid]));
    let blocked = world.others.create(ConversationKind::Direct, &[ann, bob]);
    let guarded = world.others.create_guarded(ann, bob);
    world.has_heard(bob, 4).await;
    world.has_heard(ann, 3).await;
    world.others.set_blocked(blocked, true);
    let heads = [(group, 1), (other, 1), (blocked, 1), (guarded, 1)];
    let mut reader = Reader::open(&world, bob, &heads).await;
    reader.missed().await;
    let mut own = Reader::open(&world, ann, &[(group, 1)]).await;
    own.missed().await;
    let other_events = world.user_events(cid).await.len();

    world.others.rename(ann);
    let Update::Signal(signal) = reader.next().await.unwrap() else { panic!("a signal") };
    assert_eq!(signal.kind(), pb::SignalKind::ProfileChanged);
    assert_eq!((signal.conversation_id, signal.user_id), (group.to_string(), ann.to_string()));
    own.expects(&["own profile"]).await;
    // Nothing came where one is blocked or has to ask first: what comes next is what is said next.
    world.says(bob, other, "done").await;
    reader.expects(&["2 done"]).await;
    assert_eq!(world.user_events(cid).await.len(), other_events);
    let profile =
        |event: &pb::UserEvent| matches!(event.payload, Some(pb::user_event::Payload::ProfileChanged(_)));
    assert_eq!(world.user_events(ann).await.iter().filter(|event| profile(event)).count(), 1);
    assert!(!world.user_events(bob).await.iter().any(profile));
    // People do not say it themselves.
    let kind = pb::SignalKind::ProfileChanged.into();
    let request = pb::SendSignalRequest { conversation_id: group.to_string(), kind };
    let refusal = refusal(world.sync().send_signal(ann.says(request)).await);
    assert_eq!(refusal, refused(Code::InvalidArgument, "INVALID_FIELD"));
}

#[tokio::test]
async fn a_changed_profile_holds_up_nothing_while_memberships_are_not_known() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(ann, 1).await;
    let mut own = Reader::open(&world, ann, &[(group, 1)]).await;
    own.missed().await;
    world.others.set_memberships_down(true);
    for _ in 0..2 {
        world.others.rename(ann);
        own.expects(&["own profile"]).await;
    }
}
