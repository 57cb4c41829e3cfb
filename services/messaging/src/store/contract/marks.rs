//! What the store promises about reactions, pins and votes.

use proto::messaging::v1 as pb;
use proto::messaging::v1::content::Kind;

use super::*;
use crate::emoji::Emoji;
use crate::event::MessageChange;
use crate::marks::{Choice, MAX_PINS, Mark, Marks, Reaction};

promises! {
    a_reaction_is_a_row_a_count_and_an_event
    reactors_in_a_race_are_counted_one_by_one
    reactions_are_listed_oldest_first
    voters_in_a_race_have_one_vote_each
    several_options_take_a_row_each
    an_anonymous_vote_leaves_no_name_in_the_log
    pins_in_a_race_stop_at_the_limit
    what_is_gone_is_not_pinned
    a_refused_mark_leaves_no_gap
    own_marks_of_a_page_come_at_once
}

const EMOJIS: [&str; 3] = ["👍", "🎉", "1️⃣"];

fn react(emoji: &str) -> Mark {
    Mark::React(Emoji::parse(emoji).unwrap())
}

fn unreact(emoji: &str) -> Mark {
    Mark::Unreact(Emoji::parse(emoji).unwrap())
}

fn vote(places: &[i32]) -> Mark {
    Mark::Vote(Choice::parse(places.to_vec()).unwrap())
}

async fn mark_at(
    store: &Store,
    message: &Message,
    by: UserId,
    mark: Mark,
    now: Timestamp,
) -> Result<Revised, Error> {
    store.revise(&revision(message, by, Change::Mark(mark)), &Access::member(), now).await
}

async fn mark(store: &Store, message: &Message, by: UserId, mark: Mark) -> Result<Revised, Error> {
    mark_at(store, message, by, mark, NOW).await
}

async fn asks(store: &Store, multiple_choice: bool, anonymous: bool) -> Message {
    let content = pb::Content {
        kind: Some(Kind::Poll(pb::PollContent {
            question: "which?".to_owned(),
            options: ["a", "b", "c"].map(str::to_owned).to_vec(),
            multiple_choice,
            anonymous,
            close_time: None,
        })),
        ..pb::Content::default()
    };
    let (conversation, sender) = (ConversationId::generate(), UserId::generate());
    let content = Content::parse(Some(content), NOW).unwrap();
    let letter = Letter { content, ..letter(conversation, sender, "poll", None) };
    append(store, &[letter]).await.remove(0).unwrap().message
}

async fn now_of(store: &Store, message: &Message) -> Message {
    store.message(message.conversation, message.message_id).await.unwrap().unwrap()
}

async fn all_reactions(store: &Store, message: &Message) -> Vec<Reaction> {
    store.reactions(message.conversation, message.sequence, None, 100_000).await.unwrap()
}

/// The counts of a message, which equal the rows.
async fn counted_reactions(store: &Store, message: &Message) -> Vec<(String, i32)> {
    let rows = all_reactions(store, message).await;
    let reactions = now_of(store, message).await.details.reactions;
    let total: i32 = reactions.iter().map(|reaction| reaction.count).sum();
    assert_eq!(usize::try_from(total).unwrap(), rows.len());
    for reaction in &reactions {
        let of_it = rows.iter().filter(|row| row.emoji == reaction.emoji).count();
        assert_eq!(usize::try_from(reaction.count).unwrap(), of_it, "{}", reaction.emoji);
    }
    reactions.into_iter().map(|reaction| (reaction.emoji, reaction.count)).collect()
}

/// The result of a poll, which equals the rows.
async fn counted_votes(store: &Store, message: &Message) -> (Vec<i32>, i32) {
    let rows = store.votes(message.conversation, message.sequence, None, 100_000).await.unwrap();
    let mut counts = vec![0; 3];
    for place in rows.iter().flat_map(|vote| &vote.places) {
        counts[usize::try_from(*place).unwrap()] += 1;
    }
    let result = now_of(store, message).await.details.poll.unwrap();
    assert_eq!((&result.counts, usize::try_from(result.voter_count).unwrap()), (&counts, rows.len()));
    (counts, result.voter_count)
}

async fn a_reaction_is_a_row_a_count_and_an_event(store: Store) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let message = send(&store, ConversationId::generate(), ann, "hello").await;
    let steps = [(ann, react("👍"), 1, 1), (bob, react("👍"), 2, 2), (ann, unreact("👍"), 1, 1)];
    for (by, change, count, rows) in steps {
        let revised = mark(&store, &message, by, change.clone()).await.unwrap();
        let what = revised.event.unwrap().what;
        let Happening::ToMessage { payload: MessageChange::Reaction(changed), .. } = what else { panic!() };
        assert_eq!((changed.count, changed.user_id), (count, by.to_string()));
        assert_eq!(counted_reactions(&store, &message).await, [("👍".to_owned(), count)]);
        assert_eq!(all_reactions(&store, &message).await.len(), rows);
        // Again it changes nothing.
        let again = mark(&store, &message, by, change).await.unwrap();
        assert!(again.event.is_none() && again.message == revised.message);
    }
    mark(&store, &message, bob, unreact("👍")).await.unwrap();
    assert_eq!(counted_reactions(&store, &message).await, []);
    // What it says and what hangs on it do not get into each other's way.
    mark(&store, &message, bob, react("🎉")).await.unwrap();
    let edited = store.revise(&revision(&message, ann, edit("new")), &Access::member(), NOW).await.unwrap();
    assert_eq!(edited.message.details.reactions.len(), 1);
    let log = log_of(&store, message.conversation).await;
    let kinds: Vec<_> = log.iter().map(|event| event.what.kind()).collect();
    let reaction = "reaction_changed";
    assert_eq!(
        kinds,
        ["message_created", reaction, reaction, reaction, reaction, reaction, "message_edited"]
    );
    // Once the message is gone, so is what was done to it.
    let delete = Change::Delete(DeletionReason::Deleted);
    store.revise(&revision(&message, ann, delete), &Access::member(), NOW).await.unwrap();
    let log = log_of(&store, message.conversation).await;
    assert!(log[1..6].iter().all(|event| matches!(event.what, Happening::MessageDeleted { .. })));
    let late = mark(&store, &message, bob, react("👍")).await;
    assert!(matches!(late, Err(Error::MessageDeleted(_))));
}

async fn reactors_in_a_race_are_counted_one_by_one(store: Store) {
    let message = send(&store, ConversationId::generate(), UserId::generate(), "hello").await;
    let mut work = JoinSet::new();
    for reactor in 0..64_usize {
        let (store, message) = (store.clone(), message.clone());
        work.spawn(async move {
            let user = UserId::generate();
            for turn in 0..3 {
                mark(&store, &message, user, react(EMOJIS[(reactor + turn) % 3])).await.unwrap();
            }
            if reactor % 2 == 0 {
                mark(&store, &message, user, unreact(EMOJIS[reactor % 3])).await.unwrap();
                mark(&store, &message, user, unreact(EMOJIS[reactor % 3])).await.unwrap();
            }
        });
    }
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    let total: i32 = counted_reactions(&store, &message).await.iter().map(|(_, count)| count).sum();
    assert_eq!(total, 64 * 3 - 32);
    assert_eq!(log_of(&store, message.conversation).await.len(), 1 + 64 * 3 + 32);
}

async fn reactions_are_listed_oldest_first(store: Store) {
    let message = send(&store, ConversationId::generate(), UserId::generate(), "hello").await;
    let mut people: Vec<_> = (0..5).map(|_| UserId::generate()).collect();
    people.reverse();
    for (turn, user) in people.iter().enumerate() {
        let now = later(i64::try_from(turn).unwrap());
        mark_at(&store, &message, *user, react("👍"), now).await.unwrap();
        mark_at(&store, &message, *user, react("🎉"), now).await.unwrap();
    }
    let all = all_reactions(&store, &message).await;
    assert!(all.is_sorted_by_key(|reaction| reaction.create_time));
    assert_eq!(all.iter().step_by(2).map(|reaction| reaction.user).collect::<Vec<_>>(), people);
    for limit in [1, 3, 4] {
        let mut pages: Vec<Reaction> = Vec::new();
        loop {
            let page =
                store.reactions(message.conversation, message.sequence, pages.last(), limit).await.unwrap();
            if page.is_empty() {
                break;
            }
            pages.extend(page);
        }
        assert_eq!(pages, all);
    }
}

async fn voters_in_a_race_have_one_vote_each(store: Store) {
    let poll = asks(&store, false, false).await;
    let mut work = JoinSet::new();
    for voter in 0..64_i32 {
        let user = UserId::generate();
        // The same person on two devices.
        for device in 0..2 {
            let (store, poll) = (store.clone(), poll.clone());
            work.spawn(async move {
                for turn in 0..3 {
                    mark(&store, &poll, user, vote(&[(voter + turn + device) % 3])).await.unwrap();
                }
            });
        }
    }
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    let (counts, voter_count) = counted_votes(&store, &poll).await;
    assert_eq!((counts.iter().sum::<i32>(), voter_count), (64, 64));
    let votes = store.votes(poll.conversation, poll.sequence, None, 100).await.unwrap();
    assert!(votes.iter().all(|vote| vote.places.len() == 1));
    assert!(votes.is_sorted_by_key(|vote| vote.user));
    let after = votes[60].user;
    let rest = store.votes(poll.conversation, poll.sequence, Some(after), 2).await.unwrap();
    assert_eq!(rest, votes[61..63]);
    // The last event says how it stands.
    let last = log_of(&store, poll.conversation).await.pop().unwrap();
    let Happening::ToMessage { payload: MessageChange::Voted(voted), .. } = last.what else { panic!() };
    assert_eq!(voted.result.unwrap().counts, counts);
}

async fn several_options_take_a_row_each(store: Store) {
    let poll = asks(&store, true, false).await;
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    mark(&store, &poll, ann, vote(&[2, 0])).await.unwrap();
    mark(&store, &poll, bob, vote(&[2])).await.unwrap();
    assert_eq!(counted_votes(&store, &poll).await, (vec![1, 0, 2], 2));
    mark(&store, &poll, ann, vote(&[1, 2])).await.unwrap();
    assert_eq!(counted_votes(&store, &poll).await, (vec![0, 1, 2], 2));
    mark(&store, &poll, ann, vote(&[])).await.unwrap();
    assert_eq!(counted_votes(&store, &poll).await, (vec![0, 0, 1], 1));
    let author = poll.sender;
    mark(&store, &poll, author, Mark::ClosePoll).await.unwrap();
    assert!(matches!(mark(&store, &poll, ann, vote(&[0])).await, Err(Error::PollClosed(_))));
    assert_eq!(counted_votes(&store, &poll).await, (vec![0, 0, 1], 1));
}

async fn an_anonymous_vote_leaves_no_name_in_the_log(store: Store) {
    let (poll, ann) = (asks(&store, false, true).await, UserId::generate());
    mark(&store, &poll, ann, vote(&[1])).await.unwrap();
    let last = log_of(&store, poll.conversation).await.pop().unwrap();
    assert_eq!(last.actor, None);
    let Happening::ToMessage { payload: MessageChange::Voted(voted), .. } = last.what else { panic!() };
    assert_eq!((voted.user_id.as_str(), voted.option_indexes.len()), ("", 0));
    assert_eq!(counted_votes(&store, &poll).await, (vec![0, 1, 0], 1));
}

async fn pins_in_a_race_stop_at_the_limit(store: Store) {
    let (conversation, sender) = (ConversationId::generate(), UserId::generate());
    let mut messages = Vec::new();
    for n in 0..64 {
        messages.push(send(&store, conversation, sender, &n.to_string()).await);
    }
    let mut work = JoinSet::new();
    for message in messages.clone() {
        let store = store.clone();
        work.spawn(async move { mark(&store, &message, UserId::generate(), Mark::Pin).await });
    }
    let (mut pinned, mut refused) = (0, 0);
    while let Some(done) = work.join_next().await {
        match done.unwrap() {
            Ok(_) => pinned += 1,
            Err(Error::TooManyPins(_)) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((pinned, refused), (MAX_PINS, 64 - MAX_PINS));
    let list = store.pinned(UserId::generate(), conversation).await.unwrap();
    assert_eq!(list.len() as i64, MAX_PINS);
    assert!(list.iter().all(|message| message.details.pin.is_some()));
    // One that goes makes room for another; and again it changes nothing.
    let waiting = messages.iter().find(|one| list.iter().all(|other| other.message_id != one.message_id));
    assert!(mark(&store, &list[7], sender, Mark::Unpin).await.unwrap().event.is_some());
    assert!(mark(&store, &list[7], sender, Mark::Unpin).await.unwrap().event.is_none());
    mark_at(&store, waiting.unwrap(), sender, Mark::Pin, later(1)).await.unwrap();
    let list = store.pinned(UserId::generate(), conversation).await.unwrap();
    assert_eq!((list.len() as i64, list[0].message_id), (MAX_PINS, waiting.unwrap().message_id));
}

async fn what_is_gone_is_not_pinned(store: Store) {
    let (conversation, sender) = (ConversationId::generate(), UserId::generate());
    let mut messages = Vec::new();
    for n in 0..MAX_PINS {
        let message = send(&store, conversation, sender, &n.to_string()).await;
        mark(&store, &message, sender, Mark::Pin).await.unwrap();
        messages.push(message);
    }
    let next = send(&store, conversation, sender, "next").await;
    assert!(matches!(mark(&store, &next, sender, Mark::Pin).await, Err(Error::TooManyPins(_))));
    let delete = Change::Delete(DeletionReason::Deleted);
    store.revise(&revision(&messages[3], sender, delete), &Access::member(), NOW).await.unwrap();
    let list = store.pinned(UserId::generate(), conversation).await.unwrap();
    assert!(list.len() as i64 == MAX_PINS - 1 && !list.contains(&messages[3]));
    mark(&store, &next, sender, Mark::Pin).await.unwrap();
    assert_eq!(store.pinned(UserId::generate(), conversation).await.unwrap().len() as i64, MAX_PINS);

    let ephemeral = Letter {
        lifetime: Some(std::time::Duration::from_secs(1)),
        ..letter(ConversationId::generate(), sender, "soon gone", None)
    };
    let sent_before = later(-1_000);
    let access = Access::member();
    let message = append_with(&store, &[ephemeral], &access, sent_before).await.remove(0).unwrap().message;
    mark_at(&store, &message, sender, Mark::Pin, later(-1)).await.unwrap();
    // The store's clock stands at the instant at which it is over.
    assert!(store.pinned(UserId::generate(), message.conversation).await.unwrap().is_empty());
    assert!(matches!(mark(&store, &message, sender, Mark::Pin).await, Err(Error::MessageDeleted(_))));
}

async fn a_refused_mark_leaves_no_gap(store: Store) {
    let ann = UserId::generate();
    let message = send(&store, ConversationId::generate(), ann, "hello").await;
    let muted = Access::muted();
    for change in [react("👍"), vote(&[0]), Mark::Pin] {
        let revision = revision(&message, ann, Change::Mark(change));
        assert!(matches!(store.revise(&revision, &muted, NOW).await, Err(Error::WriteDenied(_))));
    }
    assert!(matches!(mark(&store, &message, ann, vote(&[0])).await, Err(Error::NotAPoll(_))));
    let unknown = Message { message_id: MessageId::generate(), ..message.clone() };
    assert!(matches!(mark(&store, &unknown, ann, react("👍")).await, Err(Error::MessageNotFound(_))));
    let foreign = Message { conversation: ConversationId::generate(), ..message.clone() };
    assert!(matches!(mark(&store, &foreign, ann, react("👍")).await, Err(Error::MessageNotFound(_))));
    assert_eq!(log_of(&store, message.conversation).await.len(), 1);
    assert_eq!(now_of(&store, &message).await, message);
}

async fn own_marks_of_a_page_come_at_once(store: Store) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let poll = asks(&store, true, false).await;
    let message = send(&store, poll.conversation, ann, "hello").await;
    let other = send(&store, ConversationId::generate(), ann, "elsewhere").await;
    mark_at(&store, &message, ann, react("🎉"), NOW).await.unwrap();
    mark_at(&store, &message, ann, react("👍"), later(1)).await.unwrap();
    mark(&store, &message, bob, react("1️⃣")).await.unwrap();
    mark(&store, &poll, ann, vote(&[2, 0])).await.unwrap();
    let place = |message: &Message| (message.conversation, message.sequence);
    let places = [place(&poll), place(&message), place(&other)];
    let found = store.marks_of(ann, &places).await.unwrap();
    assert_eq!(found.len(), 2);
    let reactions = vec!["🎉".to_owned(), "👍".to_owned()];
    assert_eq!(found[&place(&message)], Marks { reactions, votes: vec![] });
    assert_eq!(found[&place(&poll)], Marks { reactions: vec![], votes: vec![0, 2] });
    // A long list is filled up, and still nothing comes twice.
    let long: Vec<_> = std::iter::repeat_n(place(&other), 300).chain([place(&message)]).collect();
    let found = store.marks_of(bob, &long).await.unwrap();
    assert_eq!((found.len(), found[&place(&message)].reactions.len()), (1, 1));
    assert!(store.marks_of(ann, &[]).await.unwrap().is_empty());
}
