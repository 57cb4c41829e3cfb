//! Messages that live for a while only, and the sweeper.

use bytes::Bytes;
use prost::Message as _;
use proto::messaging::v1::DeletionReason;
use proto::messaging::v1::notice::Notice;
use proto::messaging::v1::stream_events_response::Update;
use proto::subject;
use tokio::sync::mpsc;

use super::ending::{ALWAYS, NEVER, sweeps};
use super::streaming::Reader;
use super::*;

fn brief(conversation: ConversationId, says: &str, key: &str, seconds: i64) -> pb::SendMessageRequest {
    pb::SendMessageRequest {
        expire_after: Some(prost_types::Duration { seconds, nanos: 0 }),
        ..keyed(conversation, says, key)
    }
}

fn deletions(log: &pb::ListEventsResponse) -> Vec<pb::MessageDeleted> {
    let deleted = |event: &pb::Event| match &event.payload {
        Some(pb::event::Payload::MessageDeleted(deleted)) => Some(deleted.clone()),
        _ => None,
    };
    log.events.iter().filter_map(deleted).collect()
}

/// Everything that a reader can be shown of a conversation, as text.
async fn everything(world: &World, reader: UserId, message: &pb::Message) -> String {
    let conversation = ConversationId::parse(&message.conversation_id).unwrap();
    let request = pb::SyncRequest::default();
    let synced = world.sync().sync(reader.says(request)).await.unwrap().into_inner();
    let mut stream = Reader::open(world, reader, &[(conversation, 0)]).await;
    format!(
        "{:?} {:?} {:?} {synced:?} {:?} {:?}",
        world.get(reader, message).await,
        world.sees(reader, conversation).await,
        world.events(reader, conversation, 0).await,
        world.inbox(reader).await,
        stream.missed().await,
    )
}

#[tokio::test]
async fn nobody_reads_a_message_whose_time_is_over() {
    let world = World::sweeping(NEVER).await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(bob, 1).await;
    // The sweeper sleeps by the clock of the wall: longer than the test takes, once it has looked at the start.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let request = brief(group, "burning", "k", 5_000);
    let message = world.send(ann, request.clone()).await.unwrap().message.unwrap();
    assert_eq!(message.expire_time.unwrap().seconds, message.create_time.unwrap().seconds + 5_000);
    let edited = world.edit(ann, &message, "burning still").await.unwrap();
    assert_eq!(edited.expire_time, message.expire_time);
    world.clock.advance(Duration::from_millis(4_999_999));
    assert_eq!(everything(&world, bob, &message).await.matches("burning still").count(), 9);
    assert_eq!(world.unread(bob).await, 1);

    world.clock.advance(Duration::from_millis(1));
    assert!(!everything(&world, bob, &message).await.contains("burning"));
    assert!(!everything(&world, ann, &message).await.contains("burning"));
    let tombstone = world.get(bob, &message).await.unwrap();
    assert_eq!(tombstone.delete_reason(), DeletionReason::Expired);
    assert_eq!((tombstone.delete_time, tombstone.deleted_by_user_id.as_str()), (message.expire_time, ""));
    assert_eq!((world.unread(bob).await, world.inbox(bob).await[0].unread_count), (0, 0));
    assert_eq!(world.inbox(bob).await[0].last_message, Some(tombstone.clone()));
    // The retry gets what is left of it, also from one who may not write any more.
    let again = world.send(ann, request.clone()).await.unwrap();
    assert_eq!((again.repeated, again.message.as_ref()), (true, Some(&tombstone)));
    world.others.set_role(group, ann, proto::conversation::v1::MemberRole::Muted);
    assert_eq!(world.send(ann, request).await.unwrap(), again);
    world.others.set_role(group, ann, proto::conversation::v1::MemberRole::Owner);
    let late = world.edit(ann, &message, "x").await;
    assert_eq!(refusal(late), refused(Code::FailedPrecondition, "MESSAGE_DELETED"));
    assert_eq!(world.unsend(ann, &message).await.unwrap(), tombstone);
    // An answer to it says what it answers, and nothing of it.
    let reply =
        pb::SendMessageRequest { reply_to_message_id: message.message_id.clone(), ..to(group, "what?") };
    let reply = world.send(bob, reply).await.unwrap().message.unwrap();
    assert_eq!(reply.reply_to_message_id, message.message_id);
    assert!(deletions(&world.events(bob, group, 3).await).is_empty());
}

#[tokio::test]
async fn a_life_has_bounds() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    for (seconds, nanos) in [(0, 0), (-1, 0), (0, 999_999_999), (2_419_200, 1), (i64::MAX, 0), (1, -1)] {
        let expire_after = Some(prost_types::Duration { seconds, nanos });
        let outcome = world.send(ann, pb::SendMessageRequest { expire_after, ..to(group, "x") }).await;
        let fault = Fault::of(&outcome.unwrap_err());
        assert_eq!((fault.code(), fault.fields()[0].0.as_str()), (Code::InvalidArgument, "expire_after"));
    }
    for seconds in [1, 2_419_200] {
        assert!(world.send(ann, brief(group, "x", "", seconds)).await.is_ok());
    }
}

#[tokio::test]
async fn the_sweeper_tells_those_who_follow() {
    let world = World::sweeping(ALWAYS).await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(bob, 1).await;
    let message = world.send(ann, brief(group, "burning", "k", 1)).await.unwrap().message.unwrap();
    let mut reader = Reader::open(&world, bob, &[(group, 1)]).await;
    assert_eq!(reader.missed().await, ["2 burning"]);
    let before = world.get(bob, &message).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    let Update::Event(event) = reader.next().await.unwrap() else { panic!("an event") };
    let expected = pb::MessageDeleted {
        message_id: message.message_id.clone(),
        message_sequence: 2,
        reason: DeletionReason::Expired.into(),
    };
    assert_eq!(event.payload, Some(pb::event::Payload::MessageDeleted(expected.clone())));
    assert_eq!((event.sequence, event.actor_user_id.as_str(), event.membership_version), (3, "", 1));
    assert_eq!(deletions(&world.events(bob, group, 0).await), [expected]);
    let after = world.get(bob, &message).await.unwrap();
    assert_eq!((before.content.is_some(), after.content.is_some()), (true, false));
}

#[tokio::test]
async fn the_sweeper_does_not_wait_for_conversation() {
    let world = World::sweeping(ALWAYS).await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    world.has_heard(ann, 1).await;
    world.send(ann, brief(group, "burning", "k", 1)).await.unwrap();
    world.others.set_down(true);
    world.clock.advance(Duration::from_secs(1));
    let store = crate::store::Store::new(world.database.clone(), world.clock.clone());
    eventually(async || store.overdue(world.clock.now(), 1).await.unwrap().is_empty()).await;
    world.others.set_down(false);
    assert_eq!(deletions(&world.events(ann, group, 0).await).len(), 1);
}

#[tokio::test]
async fn what_expired_while_nobody_swept_is_swept_after_the_restart() {
    let world = World::sweeping(NEVER).await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let message = world.send(ann, brief(group, "burning", "k", 60)).await.unwrap().message.unwrap();
    let emptied = world.group(&[ann]);
    world.says(ann, emptied, "purged").await;
    world.purge(ann, emptied).await.unwrap();
    world.unit.stop(PATIENCE).await;
    world.clock.advance(Duration::from_secs(3600));

    let again = World::set_up(
        sweeps(ALWAYS),
        world.database.clone(),
        None,
        world.others.clone(),
        world.clock.clone(),
    )
    .await;
    assert_eq!(again.get(ann, &message).await.unwrap().content, None);
    eventually(async || !deletions(&again.events(ann, group, 0).await).is_empty()).await;
    let store = crate::store::Store::new(world.database.clone(), world.clock.clone());
    eventually(async || store.purged_conversations(None, 1).await.unwrap().is_empty()).await;
    let tombstone = again.get(ann, &message).await.unwrap();
    assert_eq!(tombstone.delete_time, message.expire_time);
}

async fn replicas_sweep_once(database: Database, scratch: Scratch) {
    let clock = Clock::manual(Timestamp::from_millis(1_795_000_000_000));
    let config = || sweeps(ALWAYS);
    let others = Others::new(clock.clone());
    let one = World::set_up(config(), database.clone(), Some(scratch), others.clone(), clock.clone()).await;
    let two = World::set_up(config(), database, None, others, clock).await;
    let [ann] = one.people();
    let groups = [(); 3].map(|()| one.group(&[ann]));
    for n in 0..90 {
        one.send(ann, brief(groups[n % 3], "burning", &n.to_string(), 1)).await.unwrap();
    }
    one.clock.advance(Duration::from_secs(1));
    for (n, group) in groups.into_iter().enumerate() {
        eventually(async || deletions(&two.events(ann, group, 0).await).len() >= 30).await;
        one.says(ann, group, &n.to_string()).await;
        let log = one.events(ann, group, 0).await;
        let sequences: Vec<_> = log.events.iter().map(|event| event.sequence).collect();
        assert_eq!(sequences, (1..=log.head_sequence).collect::<Vec<_>>());
        let mut gone: Vec<_> = deletions(&log).into_iter().map(|deleted| deleted.message_id).collect();
        assert_eq!(gone.len(), 30);
        gone.sort();
        gone.dedup();
        assert_eq!(gone.len(), 30, "each is told of once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_replicas_sweep_each_message_once() {
    if let Some((database, scratch)) = testing::postgres(&MIGRATOR, "messaging").await {
        replicas_sweep_once(database, scratch).await;
    }
    let (database, scratch) = testing::sqlite(&MIGRATOR, "messaging").await;
    replicas_sweep_once(database, scratch).await;
}

/// What is said on a conversation's subject.
async fn overhear(
    world: &World,
    conversation: ConversationId,
) -> (mpsc::Receiver<chassis::events::Delivery>, impl Drop) {
    let (hints, heard) = mpsc::channel(64);
    let subscription = world.events.subscribe(&subject::conversation(conversation), hints).await;
    (heard, subscription)
}

#[tokio::test]
async fn what_is_confidential_never_travels_on_the_bus() {
    let world = World::sweeping(ALWAYS).await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(bob, 1).await;
    let (mut heard, _subscription) = overhear(&world, group).await;
    let mut reader = Reader::open(&world, bob, &[(group, 1)]).await;
    assert!(reader.missed().await.is_empty());

    let message = world.send(ann, brief(group, "xyzzy", "k", 60)).await.unwrap().message.unwrap();
    reader.expects(&["2 xyzzy"]).await;
    world.edit(ann, &message, "xyzzy again").await.unwrap();
    reader.expects(&["3 edited xyzzy again"]).await;
    let secure = pb::content::Kind::Secure(pb::SecureContent {
        ciphertext: b"xyzzy in cipher".to_vec(),
        algorithm: "none".to_owned(),
        ..Default::default()
    });
    let secure = pb::Content { kind: Some(secure), ..Default::default() };
    world.send(ann, pb::SendMessageRequest { content: Some(secure), ..to(group, "") }).await.unwrap();
    let Update::Event(event) = reader.next().await.unwrap() else { panic!("an event") };
    assert!(format!("{event:?}").contains("Secure"));
    world.says(ann, group, "plain").await;
    reader.expects(&["5 plain"]).await;
    world.clock.advance(Duration::from_secs(60));
    reader.expects(&["6 deleted"]).await;

    let mut notices = Vec::new();
    while notices.len() < 5 {
        let payload: Bytes = heard.recv().await.unwrap().payload;
        assert!(!payload.windows(5).any(|bytes| bytes == b"xyzzy"));
        let notice = pb::Notice::decode(payload).unwrap().notice.unwrap();
        // That the group was made may be said only after somebody has read it.
        if !matches!(&notice, Notice::Event(event) if event.sequence == 1) {
            notices.push(notice);
        }
    }
    let heads: Vec<_> = notices
        .iter()
        .map(|notice| match notice {
            Notice::Head(head) => (true, head.sequence),
            Notice::Event(event) => (false, event.sequence),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(heads, [(true, 2), (true, 3), (true, 4), (false, 5), (false, 6)]);
}

/// Waits for the event of a message's deletion; says how long after its time it was written.
async fn lateness(world: &World, by: UserId, message: &pb::Message) -> Duration {
    let conversation = ConversationId::parse(&message.conversation_id).unwrap();
    let is_of = |event: &pb::Event| match &event.payload {
        Some(pb::event::Payload::MessageDeleted(deleted)) => deleted.message_id == message.message_id,
        _ => false,
    };
    let deletion =
        async || world.events(by, conversation, message.sequence).await.events.into_iter().find(is_of);
    eventually(async || deletion().await.is_some()).await;
    let time = |time: Option<prost_types::Timestamp>| Timestamp::from_proto(&time.unwrap()).unwrap();
    let (deleted, due) = (time(deletion().await.unwrap().occur_time), time(message.expire_time));
    assert!(deleted >= due);
    deleted.since(due)
}

/// A world whose clock is that of the wall.
async fn awake(config: Config) -> World {
    let (database, scratch) = testing::sqlite(&MIGRATOR, "messaging").await;
    let clock = Clock::system();
    World::set_up(config, database, Some(scratch), Others::new(clock.clone()), clock).await
}

/// The bound for a deletion, with some to spare for a busy machine. A sweeper that does not wake makes it an hour.
const AT_MOST: Duration = Duration::from_secs(3);

#[tokio::test]
async fn the_sweeper_wakes_for_what_this_process_stores() {
    // It looks at the start and then not for an hour.
    let world = awake(sweeps(NEVER)).await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let lasting = world.send(ann, brief(group, "lasting", "l", 3_600)).await.unwrap().message.unwrap();
    let later = world.send(ann, brief(group, "burning", "k", 2)).await.unwrap().message.unwrap();
    let sooner = world.send(ann, brief(group, "burning", "j", 1)).await.unwrap().message.unwrap();
    for message in [&sooner, &later] {
        let late = lateness(&world, ann, message).await;
        assert!(late < AT_MOST, "{late:?}");
    }
    assert!(world.get(ann, &lasting).await.unwrap().content.is_some());
}

#[tokio::test]
async fn a_restarted_sweeper_wakes_for_what_was_stored_before() {
    let world = awake(sweeps(NEVER)).await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let message = world.send(ann, brief(group, "burning", "k", 1)).await.unwrap().message.unwrap();
    world.unit.tasks.stop(PATIENCE).await;
    let again =
        World::set_up(sweeps(NEVER), world.database.clone(), None, world.others.clone(), world.clock.clone())
            .await;
    let late = lateness(&again, ann, &message).await;
    assert!(late < AT_MOST, "{late:?}");
}

async fn another_replica_erases_in_time(database: Database, scratch: Scratch) {
    let clock = Clock::system();
    let others = Others::new(clock.clone());
    let sender =
        World::set_up(sweeps(NEVER), database.clone(), Some(scratch), others.clone(), clock.clone()).await;
    let other = World::set_up(Config::default(), database, None, others, clock).await;
    let [ann] = sender.people();
    let group = sender.group(&[ann]);
    let message = sender.send(ann, brief(group, "burning", "k", 1)).await.unwrap().message.unwrap();
    // The one that knows of it is gone before its time.
    sender.unit.tasks.stop(PATIENCE).await;
    let late = lateness(&other, ann, &message).await;
    assert!(late < AT_MOST, "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_erases_in_time_what_another_has_stored() {
    if let Some((database, scratch)) = testing::postgres(&MIGRATOR, "messaging").await {
        another_replica_erases_in_time(database, scratch).await;
    }
    let (database, scratch) = testing::sqlite(&MIGRATOR, "messaging").await;
    another_replica_erases_in_time(database, scratch).await;
}
