//! The rules, without a store.

use proto::id::ConversationId;
use proto::messaging::v1::DeletionReason;

use super::*;
use crate::content::Content;
use crate::message::{Deletion, Draft, Letter, Sequence, Target};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn message(content: pb::Content) -> Message {
    let sender = UserId::generate();
    let draft = Draft {
        target: Target::Person(sender),
        content: Content::decode(&prost::Message::encode_to_vec(&content)).unwrap(),
        client_message_id: None,
        reply_to: None,
        lifetime: None,
        scheduled_time: None,
    };
    Letter::new(draft, ConversationId::generate(), sender).posted(Sequence::new(1), Timestamp::from_millis(1))
}

fn text() -> Message {
    message(pb::Content { kind: Some(Kind::Text("hello".to_owned())), ..Default::default() })
}

fn asked(multiple_choice: bool, anonymous: bool, closes: Option<i64>) -> Message {
    let poll = pb::PollContent {
        question: "which?".to_owned(),
        options: ["a", "b", "c"].map(str::to_owned).to_vec(),
        multiple_choice,
        anonymous,
        close_time: closes.map(|millis| Timestamp::from_millis(millis).to_proto()),
    };
    message(pb::Content { kind: Some(Kind::Poll(poll)), ..Default::default() })
}

/// People who mark one message, as the store lets them.
struct Scene {
    message: Message,
    marks: std::collections::HashMap<UserId, Marks>,
    pins: i64,
}

impl Scene {
    fn of(message: Message) -> Self {
        Self { message, marks: Default::default(), pins: 0 }
    }

    /// The event, unless nothing changed.
    fn does(&mut self, by: UserId, mark: &Mark) -> Result<Option<MessageChange>, Error> {
        self.does_with(by, mark, &Access::member(), NOW)
    }

    fn does_with(
        &mut self,
        by: UserId,
        mark: &Mark,
        access: &Access,
        now: Timestamp,
    ) -> Result<Option<MessageChange>, Error> {
        let own = self.marks.entry(by).or_default();
        let beside = Beside { own: own.clone(), pins: self.pins, is_request: false };
        let Some(after) = mark.apply(by, &self.message, &beside, access, now)? else { return Ok(None) };
        match mark {
            Mark::React(emoji) => own.reactions.push(emoji.to_string()),
            Mark::Unreact(emoji) => own.reactions.retain(|had| had != emoji.as_str()),
            Mark::Vote(choice) => own.votes = choice.places().to_vec(),
            Mark::Withdraw => own.votes.clear(),
            Mark::Pin | Mark::Unpin | Mark::ClosePoll | Mark::Disown => {}
        }
        self.message = after;
        match mark.happening(by, &self.message) {
            Happening::ToMessage { payload, .. } => Ok(Some(payload)),
            other => panic!("{other:?}"),
        }
    }
}

fn react(emoji: &str) -> Mark {
    Mark::React(Emoji::parse(emoji).unwrap())
}

fn unreact(emoji: &str) -> Mark {
    Mark::Unreact(Emoji::parse(emoji).unwrap())
}

fn vote(places: &[i32]) -> Mark {
    Mark::Vote(Choice::parse(places.to_vec()).unwrap())
}

#[test]
fn each_person_has_each_emoji_once_and_the_first_emoji_comes_first() {
    let (mut scene, [ann, bob]) = (Scene::of(text()), [UserId::generate(), UserId::generate()]);
    for (by, emoji) in [(ann, "👍"), (ann, "🎉"), (bob, "🎉")] {
        assert!(scene.does(by, &react(emoji)).unwrap().is_some());
        assert!(scene.does(by, &react(emoji)).unwrap().is_none());
    }
    let counts = |scene: &Scene| {
        let reactions = &scene.message.details.reactions;
        reactions.iter().map(|reaction| (reaction.emoji.clone(), reaction.count)).collect::<Vec<_>>()
    };
    assert_eq!(counts(&scene), [("👍".to_owned(), 1), ("🎉".to_owned(), 2)]);
    assert!(scene.does(bob, &unreact("👍")).unwrap().is_none());
    let Some(MessageChange::Reaction(change)) = scene.does(ann, &unreact("👍")).unwrap() else { panic!() };
    assert_eq!((change.added, change.count, change.user_id), (false, 0, ann.to_string()));
    assert_eq!(counts(&scene), [("🎉".to_owned(), 2)]);
}

#[test]
fn the_twenty_first_emoji_is_one_too_many() {
    let (mut scene, ann) = (Scene::of(text()), UserId::generate());
    let emojis: Vec<_> = ('🍇'..='🍳').take(21).map(String::from).collect();
    for emoji in &emojis[..20] {
        scene.does(ann, &react(emoji)).unwrap();
    }
    assert!(matches!(scene.does(ann, &react(&emojis[20])), Err(Error::TooManyReactions(_))));
    // One that is there takes no more place.
    assert!(scene.does(UserId::generate(), &react(&emojis[0])).unwrap().is_some());
}

#[test]
fn a_vote_moves_and_goes_and_the_counts_follow() {
    let (mut scene, [ann, bob]) =
        (Scene::of(asked(false, false, None)), [UserId::generate(), UserId::generate()]);
    let steps: [(UserId, &[i32], [i32; 3], i32); 5] = [
        (ann, &[0], [1, 0, 0], 1),
        (bob, &[0], [2, 0, 0], 2),
        (ann, &[2], [1, 0, 1], 2),
        (bob, &[], [0, 0, 1], 1),
        (bob, &[1], [0, 1, 1], 2),
    ];
    for (by, places, counts, voter_count) in steps {
        let Some(MessageChange::Voted(voted)) = scene.does(by, &vote(places)).unwrap() else { panic!() };
        let result = pb::PollResult { counts: counts.to_vec(), voter_count, close_time: None };
        assert_eq!((voted.result, voted.user_id), (Some(result), by.to_string()));
        assert_eq!(voted.option_indexes, places);
        assert!(scene.does(by, &vote(places)).unwrap().is_none());
    }
    for (places, rule) in [
        (&[3][..], "must be places in the options of the poll"),
        (&[0, 1], "must have at most one place in this poll"),
    ] {
        let refused = scene.does(ann, &vote(places));
        assert!(
            matches!(refused, Err(Error::Invalid { field: "option_indexes", rule: said }) if said == rule)
        );
    }
    assert!(Choice::parse(vec![1, 1]).is_err() && Choice::parse(vec![-1]).is_err());
}

#[test]
fn several_options_are_one_voter() {
    let (mut scene, ann) = (Scene::of(asked(true, false, None)), UserId::generate());
    scene.does(ann, &vote(&[2, 0])).unwrap().unwrap();
    assert!(scene.does(ann, &vote(&[0, 2])).unwrap().is_none());
    let result = scene.message.details.poll.clone().unwrap();
    assert_eq!((result.counts, result.voter_count), (vec![1, 0, 1], 1));
    scene.does(ann, &vote(&[1, 2])).unwrap().unwrap();
    let result = scene.message.details.poll.clone().unwrap();
    assert_eq!((result.counts, result.voter_count), (vec![0, 1, 1], 1));
}

#[test]
fn an_anonymous_vote_names_nobody() {
    let (mut scene, ann) = (Scene::of(asked(false, true, None)), UserId::generate());
    let Some(MessageChange::Voted(voted)) = scene.does(ann, &vote(&[1])).unwrap() else { panic!() };
    assert_eq!((voted.user_id.as_str(), voted.option_indexes.as_slice()), ("", &[][..]));
    assert_eq!(voted.result.unwrap().counts, [0, 1, 0]);
    assert_eq!(vote(&[1]).actor(ann, &scene.message), None);
    assert_eq!(Mark::Pin.actor(ann, &scene.message), Some(ann));
}

#[test]
fn what_one_who_is_gone_left_is_taken_back_and_its_pin_stays() {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let mut scene = Scene::of(asked(true, false, None));
    for user in [ann, bob] {
        scene.does(user, &vote(&[0, 2])).unwrap().unwrap();
    }
    scene.does_with(ann, &Mark::ClosePoll, &Access::moderator(), NOW).unwrap().unwrap();
    // Also out of a poll that takes no votes any more.
    let Some(MessageChange::Voted(voted)) = scene.does(ann, &Mark::Withdraw).unwrap() else { panic!() };
    let result = voted.result.unwrap();
    assert_eq!((result.counts, result.voter_count), (vec![1, 0, 1], 1));
    assert!(result.close_time.is_some() && voted.option_indexes.is_empty());
    assert!(scene.does(ann, &Mark::Withdraw).unwrap().is_none());

    let mut scene = Scene::of(text());
    scene.does(ann, &Mark::Pin).unwrap().unwrap();
    assert!(scene.does(bob, &Mark::Disown).unwrap().is_none(), "it is not by this one");
    let Some(MessageChange::Pinned(pinned)) = scene.does(ann, &Mark::Disown).unwrap() else { panic!() };
    assert!(pinned.pin.as_ref().is_some_and(|pin| pin.user_id.is_empty() && pin.pin_time.is_some()));
    assert_eq!(
        (scene.message.details.pin.clone(), Mark::Disown.actor(ann, &scene.message)),
        (pinned.pin, None)
    );
}

#[test]
fn nobody_is_reached_before_it_has_said_yes() {
    let (mut scene, ann) = (Scene::of(asked(false, false, None)), UserId::generate());
    let needed = Access { request_needed: true, ..Access::member() };
    for mark in [react("👍"), vote(&[1]), Mark::Pin, Mark::Unpin] {
        let refused = scene.does_with(ann, &mark, &needed, NOW);
        assert!(matches!(refused, Err(Error::ContactNotAccepted(_))));
        let refused = scene.does_with(ann, &mark, &Access::asking(3), NOW);
        assert!(matches!(refused, Err(Error::RequestPending(_))));
    }
    assert!(scene.does_with(ann, &unreact("👍"), &needed, NOW).unwrap().is_none());
}

#[test]
fn a_poll_is_closed_by_hand_or_by_its_time_and_for_good() {
    let [ann, moderator] = [UserId::generate(), UserId::generate()];
    for closes in [None, Some(NOW.as_millis() + 10)] {
        let mut scene = Scene::of(asked(false, false, closes));
        scene.does(ann, &vote(&[1])).unwrap();
        assert!(matches!(scene.does(ann, &Mark::ClosePoll), Err(Error::NotAuthor(_))));
        let closed = scene.does_with(moderator, &Mark::ClosePoll, &Access::moderator(), NOW).unwrap();
        let Some(MessageChange::Closed(closed)) = closed else { panic!() };
        assert_eq!(closed.result.unwrap().close_time, Some(NOW.to_proto()));
        let author = scene.message.sender;
        assert!(scene.does(author, &Mark::ClosePoll).unwrap().is_none());
        // Also where the clock is behind, and a retry of what was done before is still answered.
        for now in [NOW, Timestamp::from_millis(NOW.as_millis() - 5)] {
            let late = scene.does_with(ann, &vote(&[0]), &Access::member(), now);
            assert!(matches!(late, Err(Error::PollClosed(_))));
            assert!(scene.does_with(ann, &vote(&[1]), &Access::member(), now).unwrap().is_none());
        }
    }
    let mut scene = Scene::of(asked(false, false, Some(NOW.as_millis())));
    let before = Timestamp::from_millis(NOW.as_millis() - 1);
    scene.does_with(ann, &vote(&[0]), &Access::member(), before).unwrap().unwrap();
    assert_eq!(scene.message.details.poll.as_ref().unwrap().close_time, Some(NOW.to_proto()));
    assert!(matches!(scene.does(ann, &vote(&[1])), Err(Error::PollClosed(_))));
    let author = scene.message.sender;
    assert!(scene.does(author, &Mark::ClosePoll).unwrap().is_none());
    assert!(matches!(Scene::of(text()).does(ann, &vote(&[0])), Err(Error::NotAPoll(_))));
    let mut plain = Scene::of(text());
    let author = plain.message.sender;
    assert!(matches!(plain.does(author, &Mark::ClosePoll), Err(Error::NotAPoll(_))));
}

#[test]
fn a_message_is_pinned_once_and_not_beside_fifty_others() {
    let (mut scene, [ann, bob]) = (Scene::of(text()), [UserId::generate(), UserId::generate()]);
    scene.pins = MAX_PINS;
    assert!(matches!(scene.does(ann, &Mark::Pin), Err(Error::TooManyPins(_))));
    scene.pins = MAX_PINS - 1;
    assert!(scene.does(ann, &Mark::Pin).unwrap().is_some());
    scene.pins = MAX_PINS;
    assert!(scene.does(bob, &Mark::Pin).unwrap().is_none());
    assert_eq!(scene.message.details.pin.as_ref().unwrap().user_id, ann.to_string());
    assert!(scene.does(bob, &Mark::Unpin).unwrap().is_some());
    assert!(scene.does(bob, &Mark::Unpin).unwrap().is_none());
}

#[test]
fn who_only_reads_leaves_no_mark_and_nobody_marks_what_is_gone() {
    let mut scene = Scene::of(asked(false, false, None));
    let ann = scene.message.sender;
    let marks = [react("👍"), unreact("👍"), Mark::Pin, Mark::Unpin, vote(&[0])];
    for mark in &marks {
        let muted = scene.does_with(ann, mark, &Access::muted(), NOW);
        assert!(matches!(muted, Err(Error::WriteDenied(_))), "{mark:?}");
    }
    // Its author closes it all the same.
    assert!(scene.does_with(ann, &Mark::ClosePoll, &Access::muted(), NOW).unwrap().is_some());
    let deletion = Deletion { time: NOW, by: None, reason: DeletionReason::Expired };
    scene.message = scene.message.clone().tombstone(deletion);
    for mark in marks.into_iter().chain([Mark::ClosePoll]) {
        match (&mark, scene.does(ann, &mark)) {
            (Mark::Unpin, Ok(None)) | (_, Err(Error::MessageDeleted(_))) => {}
            (_, other) => panic!("{mark:?}: {other:?}"),
        }
    }
}
