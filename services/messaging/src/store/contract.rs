//! What the store promises, on both databases.

use std::collections::BTreeSet;

use chassis::clock::Clock;
use chassis::database::facts::Claim;
use chassis::database::testing::{self, Scratch};
use proto::messaging::v1::DeletionReason;
use tokio::task::JoinSet;

use super::*;
use crate::MIGRATOR;
use crate::content::Content;
use crate::event::{FactKind, Happening, UserHappening};
use crate::message::{ClientMessageId, Draft, Target};
use crate::revision::Change;

async fn sqlite() -> Option<(Store, Scratch)> {
    let (database, scratch) = testing::sqlite(&MIGRATOR, "messaging").await;
    Some((Store::new(database, Clock::manual(NOW)), scratch))
}

async fn postgres() -> Option<(Store, Scratch)> {
    let (database, scratch) = testing::postgres(&MIGRATOR, "messaging").await?;
    Some((Store::new(database, Clock::manual(NOW)), scratch))
}

/// Each promise becomes a test on SQLite and a test on PostgreSQL.
macro_rules! promises {
    ($($name:ident)*) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                if let Some((store, _scratch)) = super::sqlite().await {
                    super::$name(store).await;
                }
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                if let Some((store, _scratch)) = super::postgres().await {
                    super::$name(store).await;
                }
            })*
        }
    };
}

mod columns;
mod copies;
mod departures;
mod ends;
mod expiry;
mod find;
mod history;
mod marks;
mod preview;
mod reports;
mod stream_checkpoints;
mod subjects;
mod uploads;

promises! {
    the_epoch_is_drawn_once
    sequences_are_gapless_under_many_senders
    a_batch_goes_into_many_conversations_at_once
    a_repeat_returns_the_first_message
    a_key_twice_in_a_batch_is_one_message
    one_key_in_a_race_is_one_message
    a_key_is_its_sender_s_in_its_conversation
    a_reply_needs_its_message
    slow_mode_lets_one_through_and_a_retry_is_no_second
    slow_mode_holds_for_edits
    an_edit_is_an_event_and_shows_what_is_now
    a_deleted_text_is_nowhere
    a_refused_revision_leaves_no_gap
    history_goes_both_ways
    a_watermark_never_falls
    unread_counts_what_others_sent_since
    facts_become_events_once
    a_member_s_log_says_where_to_begin
    a_deleted_conversation_keeps_one_event_and_takes_no_more
    ranges_of_many_conversations_come_at_once
    two_writers_of_the_same_conversations_never_block_each_other_for_ever
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_replicas_write_one_log() {
    let Some((first, scratch)) = postgres().await else { return };
    let database = Database::open(&scratch.config(), "messaging", &MIGRATOR).await.unwrap();
    let second = Store::new(database, Clock::manual(NOW));
    assert_eq!(first.epoch().await.unwrap(), second.epoch().await.unwrap());
    let conversations: Vec<_> = (0..3).map(|_| ConversationId::generate()).collect();
    let mut work = JoinSet::new();
    for (replica, store) in [first.clone(), second].into_iter().enumerate() {
        for lane in 0..4 {
            let (store, conversations) = (store.clone(), conversations.clone());
            work.spawn(async move {
                let sender = UserId::generate();
                for turn in 0..20 {
                    // Different orders in one batch; and each message is sent by both lanes of both replicas.
                    let place = |n: usize| conversations[(n + lane + replica) % 3];
                    let letters: Vec<_> = (0..6)
                        .map(|n| {
                            letter(place(n), sender, &format!("{turn}-{n}"), Some(&format!("{turn}-{n}")))
                        })
                        .collect();
                    let outcomes = append(&store, &letters).await;
                    let again = append(&store, &letters).await;
                    for (one, other) in outcomes.into_iter().zip(again) {
                        let (one, other) = (one.unwrap(), other.unwrap());
                        assert!(!one.repeated && other.repeated);
                        assert_eq!(one.message, other.message);
                    }
                }
            });
        }
    }
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    for conversation in conversations {
        assert_eq!(log_of(&first, conversation).await.len(), 2 * 4 * 20 * 2);
    }
}

fn text(text: &str) -> Content {
    Content::text(text)
}

/// A claim that is taken once: in a feed of its own.
fn once() -> Claim {
    Claim::forward(Box::leak(UserId::generate().to_string().into_boxed_str()), 0, 1)
}

fn letter(conversation: ConversationId, sender: UserId, says: &str, key: Option<&str>) -> Letter {
    let draft = Draft {
        target: Target::Conversation(conversation),
        content: text(says),
        client_message_id: ClientMessageId::parse(key.unwrap_or_default().to_owned()).unwrap(),
        reply_to: None,
        lifetime: None,
        scheduled_time: None,
    };
    Letter::new(draft, conversation, sender)
}

const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

fn later(millis: i64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() + millis)
}

async fn append(store: &Store, letters: &[Letter]) -> Vec<Result<Appended, Error>> {
    append_with(store, letters, &Access::member(), NOW).await
}

async fn append_with(
    store: &Store,
    letters: &[Letter],
    access: &Access,
    now: Timestamp,
) -> Vec<Result<Appended, Error>> {
    let posts: Vec<_> = letters.iter().map(|letter| Post { letter, access }).collect();
    store.append(&posts, now).await.unwrap()
}

async fn send(store: &Store, conversation: ConversationId, sender: UserId, says: &str) -> Message {
    append(store, &[letter(conversation, sender, says, None)]).await.remove(0).unwrap().message
}

/// The whole log, which has no gap.
async fn log_of(store: &Store, conversation: ConversationId) -> Vec<Event> {
    let events = store.events(conversation, Sequence::NONE, 100_000).await.unwrap();
    let sequences: Vec<_> = events.iter().map(|event| event.sequence.get()).collect();
    assert_eq!(sequences, (1..=events.len() as i64).collect::<Vec<_>>(), "the log has no gap");
    let head = store.heads(&[conversation]).await.unwrap().get(&conversation).copied();
    assert_eq!(head.unwrap_or(Sequence::NONE).get(), events.len() as i64);
    events
}

fn fact(conversation: ConversationId, kind: FactKind, gained: &[UserId], lost: &[UserId]) -> Fact {
    Fact {
        conversation,
        membership_version: 3,
        occur_time: NOW,
        actor: None,
        kind,
        payload: b"payload".to_vec(),
        gained: gained.iter().map(|user| (*user, NOW)).collect(),
        lost: lost.iter().map(|user| (*user, 2)).collect(),
    }
}

async fn the_epoch_is_drawn_once(store: Store) {
    let epoch = store.epoch().await.unwrap();
    assert!(epoch.len() >= 32);
    assert_eq!(store.epoch().await.unwrap(), epoch);
}

async fn sequences_are_gapless_under_many_senders(store: Store) {
    let conversation = ConversationId::generate();
    let mut work = JoinSet::new();
    for sender in 0..64 {
        let store = store.clone();
        work.spawn(async move {
            let user = UserId::generate();
            let mut last = 0;
            for turn in 0..4 {
                let letters: Vec<_> = (0..=turn)
                    .map(|n| letter(conversation, user, &format!("{sender}.{turn}.{n}"), None))
                    .collect();
                for outcome in append(&store, &letters).await {
                    let sequence = outcome.unwrap().message.sequence.get();
                    assert!(sequence > last, "one sender's messages keep their order");
                    last = sequence;
                }
            }
        });
    }
    // A reader that sees a sequence can read every smaller one.
    let mut reading = JoinSet::new();
    reading.spawn({
        let store = store.clone();
        async move {
            let mut seen = 0;
            while seen < 640 {
                for event in store.events(conversation, Sequence::new(seen), 50).await.unwrap() {
                    assert_eq!(
                        event.sequence.get(),
                        seen + 1,
                        "a sequence became visible before a smaller one"
                    );
                    seen += 1;
                }
                tokio::task::yield_now().await;
            }
        }
    });
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    reading.join_next().await.unwrap().unwrap();
    assert_eq!(log_of(&store, conversation).await.len(), 640);
}

async fn a_batch_goes_into_many_conversations_at_once(store: Store) {
    let sender = UserId::generate();
    let conversations: Vec<_> = (0..29).map(|_| ConversationId::generate()).collect();
    let letters: Vec<_> =
        (0..300).map(|n| letter(conversations[n % 29], sender, &n.to_string(), None)).collect();
    let outcomes = append(&store, &letters).await;
    assert!(outcomes.iter().all(Result::is_ok));
    let mut total = 0;
    for (n, conversation) in conversations.into_iter().enumerate() {
        let texts: Vec<_> = log_of(&store, conversation)
            .await
            .into_iter()
            .map(|event| match event.what {
                Happening::MessageCreated(message) => message.content,
                other => panic!("{other:?}"),
            })
            .collect();
        let expected: Vec<_> = (n..300).step_by(29).map(|n| Some(text(&n.to_string()))).collect();
        assert_eq!(texts, expected);
        total += texts.len();
    }
    assert_eq!(total, 300);
}

async fn a_repeat_returns_the_first_message(store: Store) {
    let (conversation, sender) = (ConversationId::generate(), UserId::generate());
    let first = append(&store, &[letter(conversation, sender, "hello", Some("k"))]).await.remove(0).unwrap();
    let letters = [
        letter(conversation, sender, "before", None),
        letter(conversation, sender, "hello", Some("k")),
        letter(conversation, sender, "other", Some("k")),
        letter(conversation, sender, "after", Some("l")),
    ];
    let outcomes = append(&store, &letters).await;
    assert_eq!(outcomes[0].as_ref().unwrap().message.sequence.get(), 2);
    let again = outcomes[1].as_ref().unwrap();
    assert!(again.repeated && again.message == first.message);
    assert!(matches!(&outcomes[2], Err(Error::ClientMessageIdReused(key)) if key == "k"));
    assert_eq!(outcomes[3].as_ref().unwrap().message.sequence.get(), 3);
    assert_eq!(log_of(&store, conversation).await.len(), 3);
}

async fn a_key_twice_in_a_batch_is_one_message(store: Store) {
    let (conversation, sender) = (ConversationId::generate(), UserId::generate());
    let mut letters: Vec<_> = (0..5).map(|_| letter(conversation, sender, "hello", Some("k"))).collect();
    letters.push(letter(conversation, sender, "other", Some("k")));
    letters.push(letter(conversation, sender, "hello", None));
    letters.push(letter(conversation, sender, "hello", None));
    let outcomes = append(&store, &letters).await;
    let first = outcomes[0].as_ref().unwrap();
    assert!(!first.repeated);
    for again in &outcomes[1..5] {
        let again = again.as_ref().unwrap();
        assert!(again.repeated && again.message == first.message);
    }
    assert!(matches!(outcomes[5], Err(Error::ClientMessageIdReused(_))));
    assert_eq!(log_of(&store, conversation).await.len(), 3);
}

async fn one_key_in_a_race_is_one_message(store: Store) {
    let (conversation, sender) = (ConversationId::generate(), UserId::generate());
    let mut work = JoinSet::new();
    for racer in 0..64 {
        let store = store.clone();
        work.spawn(async move {
            let other = UserId::generate();
            let letters = [
                letter(conversation, other, &format!("noise {racer}"), None),
                letter(conversation, sender, "hello", Some("k")),
            ];
            append(&store, &letters).await.into_iter().map(|outcome| outcome.unwrap()).collect::<Vec<_>>()
        });
    }
    let (mut ids, mut firsts) = (BTreeSet::new(), 0);
    while let Some(done) = work.join_next().await {
        let outcomes = done.unwrap();
        ids.insert(outcomes[1].message.message_id);
        firsts += usize::from(!outcomes[1].repeated);
    }
    assert_eq!((ids.len(), firsts), (1, 1));
    assert_eq!(log_of(&store, conversation).await.len(), 65);
}

async fn a_key_is_its_sender_s_in_its_conversation(store: Store) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let [one, two] = [ConversationId::generate(), ConversationId::generate()];
    let letters =
        [(one, ann), (one, bob), (two, ann)].map(|(place, user)| letter(place, user, "x", Some("k")));
    for outcome in append(&store, &letters).await {
        assert!(!outcome.unwrap().repeated);
    }
}

async fn a_reply_needs_its_message(store: Store) {
    let sender = UserId::generate();
    let [here, there] = [ConversationId::generate(), ConversationId::generate()];
    let (mine, foreign) = (send(&store, here, sender, "a").await, send(&store, there, sender, "b").await);
    let reply = |to: MessageId| Letter { reply_to: Some(to), ..letter(here, sender, "re", None) };
    let letters = [
        reply(mine.message_id),
        reply(foreign.message_id),
        reply(MessageId::generate()),
        letter(here, sender, "plain", None),
    ];
    let outcomes = append(&store, &letters).await;
    assert_eq!(outcomes[0].as_ref().unwrap().message.reply_to, Some(mine.message_id));
    assert!(matches!(outcomes[1], Err(Error::MessageNotFound(id)) if id == foreign.message_id));
    assert!(matches!(outcomes[2], Err(Error::MessageNotFound(_))));
    assert!(outcomes[3].is_ok());
    assert_eq!(log_of(&store, here).await.len(), 3);
}

async fn slow_mode_lets_one_through_and_a_retry_is_no_second(store: Store) {
    let (conversation, [ann, bob]) = (ConversationId::generate(), [UserId::generate(), UserId::generate()]);
    let slow = Access { pace: Some(std::time::Duration::from_secs(10)), ..Access::member() };
    let letters = [
        letter(conversation, ann, "one", Some("1")),
        letter(conversation, ann, "two", Some("2")),
        letter(conversation, bob, "three", Some("1")),
    ];
    let outcomes = append_with(&store, &letters, &slow, NOW).await;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    assert!(matches!(outcomes[1], Err(Error::SlowMode { .. })));
    let outcomes = append_with(&store, &letters, &slow, later(4_000)).await;
    assert!(outcomes[0].as_ref().unwrap().repeated && outcomes[2].as_ref().unwrap().repeated);
    assert!(matches!(outcomes[1], Err(Error::SlowMode { wait }) if wait.as_secs() == 6));
    let outcomes = append_with(&store, &letters, &slow, later(10_000)).await;
    assert!(!outcomes[1].as_ref().unwrap().repeated);
    assert_eq!(log_of(&store, conversation).await.len(), 3);
}

async fn slow_mode_holds_for_edits(store: Store) {
    let (conversation, [ann, bob]) = (ConversationId::generate(), [UserId::generate(), UserId::generate()]);
    let slow = Access { pace: Some(std::time::Duration::from_secs(10)), ..Access::member() };
    let sent = append_with(&store, &[letter(conversation, ann, "one", None)], &slow, NOW).await;
    let message = sent[0].as_ref().unwrap().message.clone();
    let revise = async |by: UserId, change: Change, access: &Access, now| {
        store.revise(&revision(&message, by, change), access, now).await
    };
    let early = revise(ann, edit("two"), &slow, later(4_000)).await;
    assert!(matches!(early, Err(Error::SlowMode { wait }) if wait.as_secs() == 6));
    let same = revise(ann, edit("one"), &slow, later(4_000)).await.unwrap();
    assert!(same.event.is_none(), "an edit that changes nothing is none");
    let foreign = revise(bob, edit("two"), &slow, later(4_000)).await;
    assert!(matches!(foreign, Err(Error::NotAuthor(_))), "another refusal comes first");
    assert!(revise(ann, edit("two"), &slow, later(10_000)).await.unwrap().event.is_some());
    // The edit counts: for the next edit and for the next send.
    let next = revise(ann, edit("three"), &slow, later(15_000)).await;
    assert!(matches!(next, Err(Error::SlowMode { wait }) if wait.as_secs() == 5));
    let outcomes =
        append_with(&store, &[letter(conversation, ann, "four", None)], &slow, later(15_000)).await;
    assert!(matches!(outcomes[0], Err(Error::SlowMode { .. })));
    assert!(revise(ann, edit("three"), &Access::member(), later(15_000)).await.unwrap().event.is_some());
    let deleted = revise(ann, Change::Delete(DeletionReason::Deleted), &slow, later(15_001)).await;
    assert!(deleted.is_ok(), "a deletion waits for nothing");
}

fn revision(message: &Message, by: UserId, change: Change) -> Revision {
    Revision {
        conversation: message.conversation,
        message_id: message.message_id,
        by,
        change,
        mentions: Vec::new(),
        is_signed: false,
    }
}

fn edit(says: &str) -> Change {
    Change::Edit { content: text(says), expected_version: None }
}

async fn an_edit_is_an_event_and_shows_what_is_now(store: Store) {
    let (conversation, sender) = (ConversationId::generate(), UserId::generate());
    let message = send(&store, conversation, sender, "first").await;
    let revised =
        store.revise(&revision(&message, sender, edit("second")), &Access::member(), later(1)).await.unwrap();
    assert_eq!((revised.message.version, revised.message.edit_time), (2, Some(later(1))));
    assert_eq!(revised.event.as_ref().unwrap().sequence.get(), 2);
    let again =
        store.revise(&revision(&message, sender, edit("second")), &Access::member(), later(2)).await.unwrap();
    assert!(again.event.is_none());
    let log = log_of(&store, conversation).await;
    assert_eq!(log.len(), 2);
    // The replay of the creation shows the message as it stands now.
    assert_eq!(log[0].what, Happening::MessageCreated(revised.message.clone()));
    assert_eq!(log[1], revised.event.unwrap());
    assert_eq!(store.message(conversation, message.message_id).await.unwrap(), Some(revised.message));
    let elsewhere = ConversationId::generate();
    assert_eq!(store.message(elsewhere, message.message_id).await.unwrap(), None);
}

async fn a_deleted_text_is_nowhere(store: Store) {
    let (conversation, [ann, bob]) = (ConversationId::generate(), [UserId::generate(), UserId::generate()]);
    let sent = letter(conversation, ann, "secret", Some("k"));
    let message = append(&store, std::slice::from_ref(&sent)).await.remove(0).unwrap().message;
    store.revise(&revision(&message, ann, edit("secret too")), &Access::member(), later(1)).await.unwrap();
    let gone = store
        .revise(
            &revision(&message, bob, Change::Delete(DeletionReason::Deleted)),
            &Access::moderator(),
            later(2),
        )
        .await
        .unwrap();
    assert_eq!(gone.event.unwrap().sequence.get(), 3);
    let tombstone = gone.message;
    assert_eq!(tombstone.content, None);
    assert_eq!(tombstone.deletion.map(|deletion| (deletion.time, deletion.by)), Some((later(2), Some(bob))));
    let again = store
        .revise(
            &revision(&message, bob, Change::Delete(DeletionReason::Deleted)),
            &Access::moderator(),
            later(3),
        )
        .await
        .unwrap();
    assert!(again.event.is_none() && again.message == tombstone);

    let log = log_of(&store, conversation).await;
    assert_eq!(log[0].what, Happening::MessageCreated(tombstone.clone()));
    assert_eq!(log[1].what, Happening::MessageEdited(tombstone.clone()));
    let deleted = Happening::MessageDeleted {
        message_id: message.message_id,
        sequence: message.sequence,
        reason: DeletionReason::Deleted,
    };
    assert_eq!(log[2].what, deleted);
    // The tombstone keeps the key: a retry gets the tombstone, and another text is refused as ever.
    let repeated = append(&store, &[sent]).await.remove(0).unwrap();
    assert!(repeated.repeated && repeated.message == tombstone);
    let other = append(&store, &[letter(conversation, ann, "other", Some("k"))]).await.remove(0);
    assert!(matches!(other, Err(Error::ClientMessageIdReused(_))));
    let edit = store.revise(&revision(&message, ann, edit("back")), &Access::member(), later(4)).await;
    assert!(matches!(edit, Err(Error::MessageDeleted(_))));
}

async fn a_refused_revision_leaves_no_gap(store: Store) {
    let (conversation, [ann, bob]) = (ConversationId::generate(), [UserId::generate(), UserId::generate()]);
    let message = send(&store, conversation, ann, "mine").await;
    let refused = store.revise(&revision(&message, bob, edit("his")), &Access::member(), NOW).await;
    assert!(matches!(refused, Err(Error::NotAuthor(_))));
    let unknown = Message { message_id: MessageId::generate(), ..message.clone() };
    let refused = store.revise(&revision(&unknown, ann, edit("x")), &Access::member(), NOW).await;
    assert!(matches!(refused, Err(Error::MessageNotFound(_))));
    let foreign = Message { conversation: ConversationId::generate(), ..message };
    let refused = store.revise(&revision(&foreign, ann, edit("x")), &Access::member(), NOW).await;
    assert!(matches!(refused, Err(Error::MessageNotFound(_))));
    send(&store, conversation, ann, "next").await;
    assert_eq!(log_of(&store, conversation).await.len(), 2);
    assert!(store.heads(&[foreign.conversation]).await.unwrap().is_empty());
}

async fn history_goes_both_ways(store: Store) {
    let (conversation, sender) = (ConversationId::generate(), UserId::generate());
    for n in 0..10 {
        send(&store, conversation, sender, &n.to_string()).await;
    }
    let read = async |order, after, before, limit| {
        let history = History {
            user: sender,
            conversation,
            order,
            after: Sequence::new(after),
            before: if before == 0 { Sequence::END } else { Sequence::new(before) },
            exclude_tombstones: false,
            start: None,
            end: None,
            limit,
        };
        let (messages, head) = store.history(&history).await.unwrap();
        assert_eq!(head.get(), 10);
        messages.into_iter().map(|message| message.sequence.get()).collect::<Vec<_>>()
    };
    assert_eq!(read(Order::NewestFirst, 0, 0, 3).await, [10, 9, 8]);
    assert_eq!(read(Order::OldestFirst, 0, 0, 3).await, [1, 2, 3]);
    assert_eq!(read(Order::NewestFirst, 4, 7, 9).await, [6, 5]);
    assert_eq!(read(Order::OldestFirst, 4, 7, 9).await, [5, 6]);
    assert_eq!(read(Order::OldestFirst, 10, 0, 9).await, [0_i64; 0]);
    let places = [(conversation, Sequence::new(3)), (ConversationId::generate(), Sequence::new(1))];
    let found = store.last_messages(sender, &places).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[&conversation].sequence.get(), 3);
}

async fn a_watermark_never_falls(store: Store) {
    let (conversation, [ann, bob]) = (ConversationId::generate(), [UserId::generate(), UserId::generate()]);
    for n in 0..9 {
        send(&store, conversation, bob, &n.to_string()).await;
    }
    let to = move |user, delivered, read| Move {
        to: Watermark {
            conversation,
            user,
            delivered: Sequence::new(delivered),
            read: Sequence::new(read),
            update_time: Some(NOW),
        },
        reads: read > 0,
    };
    let (moved, events) = store.advance(&[to(ann, 5, 3), to(bob, 2, 0), to(ann, 4, 4)]).await.unwrap();
    let both = |watermark: &Watermark| (watermark.delivered.get(), watermark.read.get());
    let places = |moved: &[Moved]| moved.iter().map(|one| both(&one.watermark)).collect::<Vec<_>>();
    let previous = |moved: &[Moved]| {
        moved.iter().map(|one| (one.previous.delivered.get(), one.previous.read.get())).collect::<Vec<_>>()
    };
    assert_eq!(places(&moved), [(5, 4), (2, 0), (5, 4)]);
    assert_eq!(previous(&moved), [(0, 0); 3], "moves of one watermark are one move");
    assert_eq!(events.len(), 1);
    assert!(matches!(&events[0].what, UserHappening::WatermarkAdvanced(mark) if mark.read.get() == 4));
    let (moved, events) = store.advance(&[to(ann, 1, 2)]).await.unwrap();
    assert_eq!((places(&moved), previous(&moved), events.len()), (vec![(5, 4)], vec![(5, 4)], 0));
    let (moved, _) = store.advance(&[to(ann, 6, 5), to(bob, 3, 1)]).await.unwrap();
    assert_eq!((places(&moved), previous(&moved)), (vec![(6, 5), (3, 1)], vec![(5, 4), (2, 0)]));

    let mut work = JoinSet::new();
    for n in 0..40_i64 {
        let store = store.clone();
        work.spawn(
            async move { store.advance(&[to(ann, n % 10, (n * 7) % 10), to(bob, n % 8, n % 7)]).await },
        );
    }
    let mut steps = Vec::new();
    while let Some(done) = work.join_next().await {
        let moved = done.unwrap().unwrap().0[0];
        steps.push((moved.previous.read.get(), moved.watermark.read.get()));
    }
    // Whoever moves it at the same time: each move begins where the one before has ended.
    steps.retain(|(before, after)| before != after);
    steps.sort_unstable();
    assert!(steps.windows(2).all(|pair| pair[0].1 == pair[1].0), "{steps:?}");
    assert_eq!((steps.first().map(|step| step.0), steps.last().map(|step| step.1)), (Some(5), Some(9)));
    let places = store.places(ann, &[conversation]).await.unwrap();
    assert_eq!(both(&places[&conversation].watermark), (9, 9));
    assert_eq!((places[&conversation].head.get(), places[&conversation].last_message.get()), (9, 9));
    let receipts = store.receipts(conversation, None, 10).await.unwrap();
    assert_eq!(receipts.iter().map(both).collect::<Vec<_>>(), [(9, 9), (7, 6)]);
    assert_eq!(store.receipts(conversation, Some(ann), 10).await.unwrap().len(), 1);
    let own = store.user_events(ann, Sequence::NONE, 100).await.unwrap();
    let head = store.user_heads(&[ann]).await.unwrap()[&ann].get();
    assert_eq!(
        own.iter().map(|event| event.sequence.get()).collect::<Vec<_>>(),
        (1..=head).collect::<Vec<_>>()
    );
}

async fn unread_counts_what_others_sent_since(store: Store) {
    let [one, two, three] = [(); 3].map(|()| ConversationId::generate());
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    for (n, conversation) in [one, one, one, two].into_iter().enumerate() {
        let now = later(n as i64 * 100);
        append_with(&store, &[letter(conversation, bob, "x", None)], &Access::member(), now)
            .await
            .remove(0)
            .unwrap();
    }
    send(&store, one, ann, "mine").await;
    let gone = send(&store, one, bob, "gone").await;
    store
        .revise(&revision(&gone, bob, Change::Delete(DeletionReason::Deleted)), &Access::member(), NOW)
        .await
        .unwrap();
    let unread = |conversation, after, since| Unread { conversation, after: Sequence::new(after), since };
    let wanted = [unread(one, 0, NOW), unread(two, 0, NOW), unread(three, 0, NOW)];
    let counts = store.unread(ann, &wanted, 1000).await.unwrap();
    assert_eq!([one, two, three].map(|id| counts.get(&id).copied().unwrap_or(0)), [3, 1, 0]);
    assert_eq!(store.unread(ann, &[unread(one, 1, NOW)], 1000).await.unwrap()[&one], 2);
    assert_eq!(store.unread(ann, &[unread(one, 0, later(100))], 1000).await.unwrap()[&one], 2);
    assert_eq!(store.unread(ann, &wanted, 2).await.unwrap()[&one], 2);
}

async fn facts_become_events_once(store: Store) {
    let (conversation, [ann, bob]) = (ConversationId::generate(), [UserId::generate(), UserId::generate()]);
    send(&store, conversation, ann, "faster than the fact").await;
    let facts = [
        fact(conversation, FactKind::Created, &[ann, bob], &[]),
        fact(conversation, FactKind::Updated, &[], &[]),
        fact(conversation, FactKind::MemberRemoved, &[], &[bob]),
    ];
    let mut work = JoinSet::new();
    for _ in 0..4 {
        let (store, facts) = (store.clone(), facts.clone());
        work.spawn(
            async move { store.apply(&Claim::forward("conversation", 0, 3), &facts, &[]).await.unwrap() },
        );
    }
    let mut applied = Vec::new();
    while let Some(done) = work.join_next().await {
        applied.extend(done.unwrap());
    }
    assert_eq!(applied.len(), 1);
    assert_eq!(applied[0].events.len(), 3);
    assert_eq!(applied[0].user_events.len(), 3);
    let log = log_of(&store, conversation).await;
    assert_eq!(log[1..], applied[0].events);
    assert_eq!(
        log[3].what,
        Happening::ToConversation { kind: FactKind::MemberRemoved, payload: b"payload".to_vec() }
    );
    assert_eq!(log[3].membership_version, 3);
    let own = store.user_events(bob, Sequence::NONE, 10).await.unwrap();
    assert_eq!(own[0].what, UserHappening::ConversationGained { conversation, after: Sequence::NONE });
    assert_eq!(own[1].what, UserHappening::ConversationLost { conversation, reason: 2 });
    // The inbox is about messages: other events leave its order as it is.
    let place = store.places(ann, &[conversation]).await.unwrap()[&conversation];
    assert_eq!((place.head.get(), place.last_message.get(), place.activity_time), (4, 1, NOW));
}

async fn a_member_s_log_says_where_to_begin(store: Store) {
    let (conversation, [ann, bob]) = (ConversationId::generate(), [UserId::generate(), UserId::generate()]);
    for (n, at) in [-60_000, -50_000, 5, 7].into_iter().enumerate() {
        let letters = [letter(conversation, ann, &n.to_string(), None)];
        append_with(&store, &letters, &Access::member(), later(at)).await.remove(0).unwrap();
    }
    let (watermarks, _) = store
        .advance(&[Move {
            to: Watermark {
                delivered: Sequence::new(1),
                update_time: Some(NOW),
                ..Watermark::start(conversation, bob)
            },
            reads: false,
        }])
        .await
        .unwrap();
    assert_eq!(watermarks[0].watermark.delivered.get(), 1);
    store
        .apply(
            &Claim::forward("conversation", 0, 1),
            &[fact(conversation, FactKind::MemberRemoved, &[], &[bob])],
            &[],
        )
        .await
        .unwrap()
        .unwrap();
    assert!(store.receipts(conversation, None, 10).await.unwrap().is_empty());
    store
        .apply(
            &Claim::forward("conversation", 1, 2),
            &[fact(conversation, FactKind::MembersAdded, &[bob], &[])],
            &[],
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!(store.receipts(conversation, None, 10).await.unwrap().len(), 1);
    let own = store.user_events(bob, Sequence::new(1), 10).await.unwrap();
    assert_eq!(own[0].what, UserHappening::ConversationGained { conversation, after: Sequence::new(2) });
}

async fn a_deleted_conversation_keeps_one_event_and_takes_no_more(store: Store) {
    let ann = UserId::generate();
    let [gone, other] = [ConversationId::generate(), ConversationId::generate()];
    for conversation in [gone, other] {
        send(&store, conversation, ann, "x").await;
    }
    let message = send(&store, gone, ann, "y").await;
    let facts = [fact(gone, FactKind::Updated, &[], &[]), fact(gone, FactKind::Deleted, &[], &[ann])];
    store.apply(&Claim::forward("conversation", 0, 2), &facts, &[]).await.unwrap().unwrap();
    let log = store.events(gone, Sequence::NONE, 10).await.unwrap();
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].sequence.get(), log[0].what.kind()), (4, "conversation_deleted"));
    assert_eq!(store.message(gone, message.message_id).await.unwrap(), None);

    let letters = [letter(gone, ann, "late", None), letter(other, ann, "fine", None)];
    let outcomes = append(&store, &letters).await;
    assert!(matches!(outcomes[0], Err(Error::ConversationNotFound(id)) if id == gone));
    assert_eq!(outcomes[1].as_ref().unwrap().message.sequence.get(), 2);
    let keyed = [letter(gone, ann, "late", Some("k")), letter(gone, ann, "late", Some("k"))];
    assert!(
        append(&store, &keyed)
            .await
            .iter()
            .all(|outcome| matches!(outcome, Err(Error::ConversationNotFound(_))))
    );
    let late = store
        .revise(&revision(&message, ann, Change::Delete(DeletionReason::Deleted)), &Access::member(), NOW)
        .await;
    assert!(matches!(late, Err(Error::ConversationNotFound(_))));
    // What is told of it later is passed over.
    let applied = store
        .apply(&Claim::forward("conversation", 2, 3), &[fact(gone, FactKind::Updated, &[], &[])], &[])
        .await
        .unwrap()
        .unwrap();
    assert!(applied.events.is_empty());
}

async fn ranges_of_many_conversations_come_at_once(store: Store) {
    let ann = UserId::generate();
    let conversations = [(); 3].map(|()| ConversationId::generate());
    for conversation in conversations {
        for n in 0..5 {
            send(&store, conversation, ann, &n.to_string()).await;
        }
    }
    let range = |n: usize, after, up_to| Range {
        conversation: conversations[n],
        after: Sequence::new(after),
        up_to: Sequence::new(up_to),
    };
    let found = store.events_of(&[range(0, 0, 5), range(1, 3, 4), range(2, 4, 5)]).await.unwrap();
    let sequences =
        |n: usize| found[&conversations[n]].iter().map(|event| event.sequence.get()).collect::<Vec<_>>();
    assert_eq!([sequences(0), sequences(1), sequences(2)], [vec![1, 2, 3, 4, 5], vec![4], vec![5]]);
    assert!(store.events_of(&[]).await.unwrap().is_empty());
    assert!(store.heads(&[]).await.unwrap().is_empty());
    assert_eq!(store.heads(&conversations).await.unwrap().len(), 3);
}

async fn two_writers_of_the_same_conversations_never_block_each_other_for_ever(store: Store) {
    let conversations: Vec<_> = (0..70).map(|_| ConversationId::generate()).collect();
    let users: Vec<_> = (0..70).map(|_| UserId::generate()).collect();
    let mut work = JoinSet::new();
    for writer in 0..6_usize {
        let (store, mut places, mut members) = (store.clone(), conversations.clone(), users.clone());
        if writer % 2 == 0 {
            places.reverse();
            members.reverse();
        }
        work.spawn(async move {
            for turn in 0..5 {
                let user = members[turn];
                let letters: Vec<_> =
                    places.iter().map(|place| letter(*place, user, "x", Some("k"))).collect();
                for outcome in append(&store, &letters).await {
                    outcome.unwrap();
                }
                let moves = members.iter().map(|user| Move {
                    to: Watermark {
                        conversation: places[turn],
                        user: *user,
                        delivered: Sequence::new(1),
                        read: Sequence::new(1),
                        update_time: Some(NOW),
                    },
                    reads: true,
                });
                store.advance(&moves.collect::<Vec<_>>()).await.unwrap();
            }
        });
    }
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    for conversation in conversations {
        assert!(log_of(&store, conversation).await.len() >= 5);
    }
}
