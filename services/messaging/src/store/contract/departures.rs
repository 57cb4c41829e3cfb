//! What the store promises about accounts that are gone, and about all that one has.

use std::collections::HashSet;

use chassis::database::facts::Claim;
use proto::messaging::v1 as pb;

use super::*;
use crate::departure::{MARKS, MESSAGES, Spot, Stage};
use crate::emoji::Emoji;
use crate::marks::{Choice, Mark};
use crate::people::PersonFact;
use crate::report::{Complaint, Remark, Resolution, Verdict};

promises! {
    every_message_of_one_goes_and_none_of_others
    a_step_happens_once
    a_fact_that_comes_after_its_user_leaves_nothing
    what_fails_is_put_off_and_the_others_come_first
    marks_are_taken_back_step_by_step
    what_only_one_has_seen_goes_and_reports_stay
    what_one_did_is_listed_page_by_page
    what_one_pinned_hid_and_read_is_listed_page_by_page
    only_one_s_own_messages_count_and_only_in_their_time
    own_messages_come_oldest_first_and_once
}

pub(super) async fn gone(store: &Store, user: UserId) {
    store.apply_to_people(&once(), &[PersonFact::Gone(user)], NOW).await.unwrap().unwrap();
}

async fn what_fails_is_put_off_and_the_others_come_first(store: Store) {
    let users: Vec<_> = (0..3).map(|_| UserId::generate()).collect();
    for user in &users {
        gone(&store, *user).await;
    }
    let first = store.departures(NOW, 2).await.unwrap();
    assert_eq!((first.len(), store.departure_ready(later(9)).await.unwrap()), (2, Some(NOW)));
    for departure in &first {
        // Two replicas at once: it counts once.
        store.put_off_departure(departure, later(100)).await.unwrap();
        store.put_off_departure(departure, later(200)).await.unwrap();
    }
    let [last] = store.departures(later(99), 2).await.unwrap().try_into().unwrap();
    assert!(first.iter().all(|one| one.user != last.user) && last.failures == 0);
    store.erase_written(&last, &[], &HashMap::new(), later(99)).await.unwrap();
    let again = store.departures(later(100), 9).await.unwrap();
    let failures: Vec<_> = again.iter().map(|one| (one.user == last.user, one.failures)).collect();
    assert_eq!(failures, [(true, 0), (false, 1), (false, 1)]);
    // That it was tried is no progress; what is done is.
    assert_eq!(store.departure_ready(later(100)).await.unwrap(), Some(NOW));
    for departure in &again[1..] {
        store.erase_written(departure, &[], &HashMap::new(), later(100)).await.unwrap();
    }
    assert_eq!(store.departure_ready(later(100)).await.unwrap(), Some(later(99)));
    let again = store.departures(later(100), 9).await.unwrap();
    assert!(again.iter().all(|one| one.failures == 0 && one.stage == Stage::Reactions));
}

async fn a_fact_that_comes_after_its_user_leaves_nothing(store: Store) {
    let ann = UserId::generate();
    gone(&store, ann).await;
    take_marks_back(&store).await;
    while let Some(departure) = the_departure(&store, NOW).await {
        store.erase_rest(&departure, NOW).await.unwrap();
    }
    let facts = [fact(ConversationId::generate(), FactKind::Created, &[ann], &[])];
    let applied = store.apply(&Claim::forward("conversation", 0, 1), &facts, &[]).await.unwrap().unwrap();
    assert!(applied.user_events.is_empty() && applied.events.len() == 1);
    assert!(store.user_events(ann, Sequence::NONE, 9).await.unwrap().is_empty());
    assert!(store.user_heads(&[ann]).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fact_beside_a_departure_waits_for_it() {
    let (Some((store, scratch)), ann) = (postgres().await, UserId::generate()) else { return };
    let database = Database::open(&scratch.config(), "messaging", &MIGRATOR).await.unwrap();
    let Database::Postgres(pool) = &database else { panic!("on PostgreSQL") };
    // Another replica is about to take note of the departure.
    let mut departing = pool.begin().await.unwrap();
    sqlx::query("INSERT INTO user_heads (user_id, last_sequence) VALUES ($1, 0)")
        .bind(ann.uuid())
        .execute(&mut *departing)
        .await
        .unwrap();
    let backend: i32 =
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *departing).await.unwrap();
    let facts = [fact(ConversationId::generate(), FactKind::Created, &[ann], &[])];
    let mut applying = JoinSet::new();
    applying.spawn({
        let store = store.clone();
        async move { store.apply(&Claim::forward("conversation", 0, 1), &facts, &[]).await.unwrap().unwrap() }
    });
    let is_waited_for = async || {
        sqlx::query_scalar::<_, bool>(
            "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid)))",
        )
        .bind(backend)
        .fetch_one(pool.read())
        .await
        .unwrap()
    };
    while !is_waited_for().await {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    sqlx::query(
        "INSERT INTO departures (user_id, stage, after_time, after_conversation, after_sequence, after_key, steps, round,
             due_time) VALUES ($1, 0, 0, $1, 0, '', 0, 1, $2)",
    )
    .bind(ann.uuid())
    .bind(NOW.as_millis())
    .execute(&mut *departing)
    .await
    .unwrap();
    departing.commit().await.unwrap();
    assert!(applying.join_next().await.unwrap().unwrap().user_events.is_empty());
    assert!(store.user_events(ann, Sequence::NONE, 9).await.unwrap().is_empty());
}

pub(super) async fn the_departure(store: &Store, now: Timestamp) -> Option<Departure> {
    store.departures(now, 9).await.unwrap().into_iter().next()
}

/// Goes through the stage of messages; answers how many steps that took, and the events.
async fn erase_messages(store: &Store) -> (usize, Vec<Event>) {
    let (mut steps, mut events) = (0, Vec::new());
    loop {
        let departure = the_departure(store, NOW).await.unwrap();
        if departure.stage != Stage::Messages {
            return (steps, events);
        }
        let written = store.written(departure.user, &departure.after, MESSAGES).await.unwrap();
        let versions = HashMap::new();
        events.extend(store.erase_written(&departure, &written, &versions, NOW).await.unwrap());
        steps += 1;
    }
}

async fn every_message_of_one_goes_and_none_of_others(store: Store) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let conversations: Vec<_> = (0..5).map(|_| ConversationId::generate()).collect();
    for conversation in &conversations {
        for by in [ann, bob] {
            let letters: Vec<_> = (0..70).map(|n| letter(*conversation, by, &n.to_string(), None)).collect();
            append(&store, &letters).await;
        }
    }
    let deleted = revision(&send(&store, conversations[0], ann, "deleted").await, ann);
    store.revise(&deleted, &Access::member(), NOW).await.unwrap();
    let purged = ConversationId::generate();
    send(&store, purged, ann, "purged").await;
    store.purge(purged, bob, &Access::member(), NOW).await.unwrap();
    gone(&store, ann).await;
    let (steps, events) = erase_messages(&store).await;
    // 352 messages, some of which were gone before.
    assert_eq!((steps, events.len()), (2, 350));
    for conversation in &conversations {
        let mut told = 0;
        for event in log_of(&store, *conversation).await {
            match event.what {
                Happening::MessageCreated(message) => {
                    assert_eq!(message.deletion.is_some(), message.sender == ann);
                }
                Happening::MessageDeleted { .. } => told += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(told, 70 + usize::from(*conversation == conversations[0]));
    }
    assert_eq!(log_of(&store, purged).await.len(), 2, "what was purged has been told");
}

fn revision(message: &Message, by: UserId) -> Revision {
    Revision {
        conversation: message.conversation,
        message_id: message.message_id,
        by,
        change: Change::Delete(DeletionReason::Deleted),
        mentions: Vec::new(),
        is_signed: false,
    }
}

async fn a_step_happens_once(store: Store) {
    let (ann, conversation) = (UserId::generate(), ConversationId::generate());
    let letters: Vec<_> = (0..300).map(|n| letter(conversation, ann, &n.to_string(), None)).collect();
    append(&store, &letters).await;
    gone(&store, ann).await;
    // Several replicas read the same row, and do the same step.
    let departure = the_departure(&store, NOW).await.unwrap();
    let written = store.written(ann, &departure.after, MESSAGES).await.unwrap();
    let mut work = JoinSet::new();
    for _ in 0..4 {
        let (store, departure, written) = (store.clone(), departure.clone(), written.clone());
        work.spawn(async move {
            store.erase_written(&departure, &written, &HashMap::new(), NOW).await.unwrap().len()
        });
    }
    let mut counts = work.join_all().await;
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 0, 256]);
    let next = the_departure(&store, NOW).await.unwrap();
    assert_eq!((next.stage, next.steps), (Stage::Messages, 1));
    assert_eq!(Some(&next.after), written.last().map(|last| &last.spot));
    let (_, events) = erase_messages(&store).await;
    assert_eq!(events.len(), 300 - 256);
    // The rest ends, comes once more later, and then never again.
    for (round, now) in [(1, NOW), (2, NOW.plus(crate::departure::AGAIN))] {
        while let Some(departure) = the_departure(&store, now).await {
            assert_eq!(departure.round, round);
            match departure.stage {
                Stage::Messages => {
                    let written = store.written(ann, &departure.after, MESSAGES).await.unwrap();
                    let events = store.erase_written(&departure, &written, &HashMap::new(), now).await;
                    assert!(events.unwrap().is_empty());
                }
                Stage::Rest => store.erase_rest(&departure, now).await.unwrap(),
                _ => {
                    assert!(store.take_back(&departure, &[], &HashMap::new(), now).await.unwrap().is_empty())
                }
            }
        }
    }
    assert_eq!(the_departure(&store, later(i64::from(u32::MAX))).await, None);
}

async fn only_one_s_own_messages_count_and_only_in_their_time(store: Store) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let [one, two] = [ConversationId::generate(), ConversationId::generate()];
    for (conversation, by, at) in
        [(one, ann, 0), (one, ann, 10), (one, ann, 20), (one, bob, 15), (two, ann, 20), (two, ann, 21)]
    {
        append_with(&store, &[letter(conversation, by, "x", None)], &Access::member(), later(at)).await;
    }
    let count = async |after, up_to, most| {
        let window = Window { after: later(after), up_to: later(up_to) };
        store.frequent(ann, &window, most).await.unwrap()
    };
    assert_eq!(count(-1, 21, 100).await, HashMap::from([(one, 3), (two, 2)]));
    assert_eq!(count(0, 20, 100).await, HashMap::from([(one, 2), (two, 1)]));
    assert_eq!(count(0, 21, 1).await, HashMap::from([(two, 1)]));
    assert!(count(21, 99, 100).await.is_empty());
}

async fn own_messages_come_oldest_first_and_once(store: Store) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let conversations: Vec<_> = (0..3).map(|_| ConversationId::generate()).collect();
    for n in 0..40 {
        // Several at the same time, in the same place and elsewhere.
        let at = later(n / 7);
        for by in [ann, bob] {
            let letter = letter(conversations[n as usize % 3], by, &n.to_string(), None);
            append_with(&store, &[letter], &Access::member(), at).await;
        }
    }
    let (mut after, mut seen) = (Spot::start(), Vec::new());
    loop {
        let page = store.own_messages(ann, &after, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        let (time, conversation, sequence) = (last.create_time, last.conversation, last.sequence);
        after = Spot { time, conversation, sequence, ..Spot::start() };
        seen.extend(page);
    }
    assert!(seen.iter().all(|message| message.sender == ann));
    assert!(seen.is_sorted_by_key(|message| message.create_time));
    let ids: BTreeSet<_> = seen.iter().map(|message| message.message_id).collect();
    assert_eq!((ids.len(), seen.len()), (40, 40));
}

fn reacts(emoji: &str) -> Mark {
    Mark::React(Emoji::parse(emoji).unwrap())
}

async fn marks(store: &Store, message: &Message, by: UserId, mark: Mark) {
    let change = Change::Mark(mark);
    store.revise(&Revision { change, ..revision(message, by) }, &Access::member(), NOW).await.unwrap();
}

async fn poll(store: &Store, conversation: ConversationId, by: UserId) -> Message {
    let poll = pb::PollContent {
        question: "which?".to_owned(),
        options: ["a", "b", "c"].map(str::to_owned).to_vec(),
        multiple_choice: true,
        ..Default::default()
    };
    let content = pb::Content { kind: Some(pb::content::Kind::Poll(poll)), ..Default::default() };
    let content = Content::parse(Some(content), NOW).unwrap();
    let letter = Letter { content, ..letter(conversation, by, "poll", None) };
    append(store, &[letter]).await.remove(0).unwrap().message
}

/// Goes through the stages of marks; answers the events.
pub(super) async fn take_marks_back(store: &Store) -> Vec<Event> {
    erase_messages(store).await;
    let mut events = Vec::new();
    loop {
        let departure = the_departure(store, NOW).await.unwrap();
        if departure.stage == Stage::Rest {
            return events;
        }
        let left = store.left(departure.user, departure.stage, &departure.after, MARKS).await.unwrap();
        events.extend(store.take_back(&departure, &left, &HashMap::new(), NOW).await.unwrap());
    }
}

async fn marks_are_taken_back_step_by_step(store: Store) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let conversations: Vec<_> = (0..3).map(|_| ConversationId::generate()).collect();
    let mut messages = Vec::new();
    for n in 0..20 {
        let message = send(&store, conversations[n % 3], bob, "hello").await;
        for emoji in ["👍", "🎉"] {
            marks(&store, &message, ann, reacts(emoji)).await;
        }
        marks(&store, &message, bob, reacts("🎉")).await;
        marks(&store, &message, if n % 2 == 0 { ann } else { bob }, Mark::Pin).await;
        messages.push(message);
    }
    let poll = poll(&store, conversations[0], bob).await;
    marks(&store, &poll, ann, Mark::Vote(Choice::parse(vec![0, 2]).unwrap())).await;
    marks(&store, &poll, bob, Mark::Vote(Choice::parse(vec![2]).unwrap())).await;
    // One that is gone takes its marks along, and stops nothing.
    store.revise(&revision(&messages[3], bob), &Access::member(), NOW).await.unwrap();
    gone(&store, ann).await;
    let events = take_marks_back(&store).await;
    assert_eq!(events.len(), 19 * 2 + 10 + 1);
    for (n, message) in messages.iter().enumerate().filter(|(n, _)| *n != 3) {
        let now = store.message(message.conversation, message.message_id).await.unwrap().unwrap();
        let rows = store.reactions(message.conversation, message.sequence, None, 9).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.user).collect::<Vec<_>>(), [bob]);
        assert_eq!(now.details.reactions, [pb::ReactionCount { emoji: "🎉".to_owned(), count: 1 }]);
        let by = if n % 2 == 0 { String::new() } else { bob.to_string() };
        assert_eq!(now.details.pin.unwrap().user_id, by);
    }
    let result =
        store.message(poll.conversation, poll.message_id).await.unwrap().unwrap().details.poll.unwrap();
    assert_eq!((result.counts, result.voter_count), (vec![0, 0, 1], 1));
    assert_eq!(store.votes(poll.conversation, poll.sequence, None, 9).await.unwrap().len(), 1);
    for conversation in conversations {
        log_of(&store, conversation).await;
    }
}

async fn what_only_one_has_seen_goes_and_reports_stay(store: Store) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let mut bad = Vec::new();
    for n in 0..300 {
        let conversation = ConversationId::generate();
        let message = send(&store, conversation, bob, "rude").await;
        for user in [ann, bob] {
            let read = Watermark {
                read: message.sequence,
                update_time: Some(NOW),
                ..Watermark::start(conversation, user)
            };
            store.advance(&[Move { to: read, reads: true }]).await.unwrap();
        }
        store.hide(ann, conversation, message.message_id, NOW).await.unwrap();
        if n < 2 {
            bad.push(message);
        }
    }
    for message in &bad {
        let complaint = Complaint {
            conversation: message.conversation,
            message_id: message.message_id,
            reporter: ann,
            reason: pb::ReportReason::Spam,
            comment: Remark::parse("comment", "bad").unwrap(),
        };
        store.file_report(&complaint, &[], NOW).await.unwrap();
    }
    gone(&store, ann).await;
    take_marks_back(&store).await;
    let mut steps = 0;
    while let Some(departure) = the_departure(&store, NOW).await {
        store.erase_rest(&departure, NOW).await.unwrap();
        steps += 1;
    }
    // 600 events of its log, 256 at a time.
    assert_eq!(steps, 3);
    assert!(store.user_events(ann, Sequence::NONE, 9).await.unwrap().is_empty());
    assert!(store.user_heads(&[ann]).await.unwrap().is_empty());
    for message in &bad {
        let receipts = store.receipts(message.conversation, None, 9).await.unwrap();
        assert_eq!(receipts.iter().map(|mark| mark.user).collect::<Vec<_>>(), [bob]);
        let wanted = Reports {
            conversation: message.conversation,
            viewer: ann,
            only_open: true,
            after: None,
            limit: 9,
        };
        let [report] = store.reports(&wanted).await.unwrap().try_into().unwrap();
        assert_eq!((report.reporter, report.comment.as_str()), (None, "bad"));
        // It is shown again, and resolved, like any other.
        let resolution = Resolution { verdict: Verdict::Acted, by: ann, time: NOW, note: Remark::default() };
        let resolved = store.resolve_report(message.conversation, report.id, &resolution, &[]).await.unwrap();
        assert!(resolved.user_events.is_empty() && resolved.report.reporter.is_none());
    }
    assert_eq!(store.user_events(bob, Sequence::NONE, 1000).await.unwrap().len(), 300);
}

async fn what_one_pinned_hid_and_read_is_listed_page_by_page(store: Store) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let mut messages = HashSet::new();
    for n in 0..7 {
        let conversation = ConversationId::generate();
        let message = send(&store, conversation, bob, "hello").await;
        for user in [ann, bob] {
            let read = Watermark {
                read: message.sequence,
                update_time: Some(NOW),
                ..Watermark::start(conversation, user)
            };
            store.advance(&[Move { to: read, reads: false }]).await.unwrap();
            store.hide(user, conversation, message.message_id, NOW).await.unwrap();
        }
        marks(&store, &message, ann, Mark::Pin).await;
        let other = send(&store, conversation, bob, &n.to_string()).await;
        marks(&store, &other, bob, Mark::Pin).await;
        messages.insert((conversation, message.message_id));
    }
    let (mut after, mut pins) = (Spot::start(), Vec::new());
    loop {
        let page = store.own_pins(ann, &after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.spot.clone();
        pins.extend(page.into_iter().map(|pin| (pin.spot.conversation, pin.message_id)));
    }
    assert_eq!((pins.len(), HashSet::from_iter(pins)), (7, messages.clone()));
    let (mut after, mut hidden) = (Spot::start(), Vec::new());
    loop {
        let page = store.own_hidden(ann, &after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.spot.clone();
        hidden.extend(page.into_iter().map(|one| (one.spot.conversation, one.message_id)));
    }
    assert_eq!((hidden.len(), HashSet::from_iter(hidden)), (7, messages.clone()));
    let (mut after, mut places) = (None, Vec::new());
    loop {
        let page = store.own_watermarks(ann, after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.conversation);
        assert!(page.iter().all(|one| one.user == ann && one.read == Sequence::new(1)));
        places.extend(page.into_iter().map(|one| one.conversation));
    }
    let conversations: HashSet<_> = messages.iter().map(|(conversation, _)| *conversation).collect();
    assert_eq!((places.len(), HashSet::from_iter(places)), (7, conversations));
}

async fn what_one_did_is_listed_page_by_page(store: Store) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let conversations: Vec<_> = (0..3).map(|_| ConversationId::generate()).collect();
    for n in 0..7 {
        let message = poll(&store, conversations[n % 3], bob).await;
        for user in [ann, bob] {
            marks(&store, &message, user, reacts("👍")).await;
            marks(&store, &message, user, reacts("🎉")).await;
            marks(&store, &message, user, Mark::Vote(Choice::parse(vec![0, 2]).unwrap())).await;
        }
    }
    let (mut after, mut reactions) = (Spot::start(), Vec::new());
    loop {
        let page = store.own_reactions(ann, &after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.spot.clone();
        reactions.extend(page);
    }
    let different: HashSet<_> = reactions.iter().map(|one| (one.message_id, one.spot.key.clone())).collect();
    assert_eq!((reactions.len(), different.len()), (14, 14));
    let (mut after, mut votes) = (Spot::start(), Vec::new());
    loop {
        let page = store.own_votes(ann, &after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.spot.clone();
        votes.extend(page);
    }
    assert!(votes.len() == 7 && votes.iter().all(|vote| vote.options == [0, 2]));
    assert!(store.own_reports(ann, None, 9).await.unwrap().is_empty());
    assert!(store.own_uploads(ann, None, 9).await.unwrap().is_empty());
}
