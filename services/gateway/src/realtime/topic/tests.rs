//! Topics without a bus and without a log.

use chassis::clock::Clock;
use proptest::prelude::*;
use proto::conversation::v1::{ConversationDeleted, MemberRemoved, MembersAdded};
use proto::gateway::v1::server_frame::Frame as Body;
use proto::id::ConversationId;
use proto::messaging::v1::event::Payload;
use proto::messaging::v1::{Event, Watermark};

use super::*;
use crate::realtime::connection::Bounds;
use crate::realtime::connection::tests::{anonymous, connection, next};

const ROOMY: Bounds = Bounds { frames: 100_000, bytes: usize::MAX };

fn times() -> DeliveryTimes {
    DeliveryTimes::new(Clock::system())
}

fn topic() -> Topic {
    let mut topic = Topic::new(Key::Conversation(ConversationId::generate()), Watermarks::default(), times());
    assert_eq!(topic.begin(0), Needs::default());
    topic
}

fn event(sequence: i64, version: i64, payload: Option<Payload>) -> Item {
    Item::from(Event { sequence, membership_version: version, payload, ..Event::default() })
}

fn said(sequence: i64, version: i64) -> Item {
    event(sequence, version, None)
}

fn removed(sequence: i64, version: i64, user: UserId) -> Item {
    let removed = MemberRemoved { user_id: user.to_string(), ..MemberRemoved::default() };
    event(sequence, version, Some(Payload::MemberRemoved(removed)))
}

/// A live follower of everything after `sent`.
fn live(topic: &mut Topic, number: u64, sent: i64) -> Arc<Connection> {
    go_live(topic, connection(number, UserId::generate(), ROOMY), sent)
}

fn go_live(topic: &mut Topic, follower: Arc<Connection>, sent: i64) -> Arc<Connection> {
    topic.follow(Arc::clone(&follower), false);
    let (answer, mut answered) = oneshot::channel();
    topic.caught_up(follower.number(), sent, answer);
    assert_eq!(answered.try_recv(), Ok(CatchUp::Live));
    follower
}

fn heard(follower: &Connection) -> Vec<i64> {
    let sequence = |frame: Arc<Frame>| match frame.body() {
        Some(Body::Event(event)) => event.sequence,
        _ => 0,
    };
    std::iter::from_fn(|| next(follower)).map(|frame| sequence(frame.expect("a frame"))).collect()
}

fn nobody() -> HashSet<Viewer> {
    HashSet::new()
}

#[test]
fn what_is_newer_than_the_known_members_waits_for_a_check() {
    let mut topic = topic();
    let (ann, bob) = (live(&mut topic, 1, 0), live(&mut topic, 2, 0));
    assert!(topic.hint(said(1, 3)).check);
    assert!(!topic.hint(said(2, 3)).check, "one check at a time");
    assert!(heard(&ann).is_empty() && heard(&bob).is_empty());
    assert_eq!(topic.viewers().len(), 2);
    assert!(!topic.checked(&HashSet::from([bob.viewer()]), 3).check);
    assert_eq!((heard(&ann), heard(&bob)), (vec![1, 2], vec![]));
    assert!(bob.followed().is_empty(), "who is out does not follow");
    assert!(!topic.hint(said(3, 3)).check);
    assert_eq!(heard(&ann), [3]);
}

#[test]
fn an_answer_that_is_older_than_what_waits_is_not_enough() {
    let mut topic = topic();
    let ann = live(&mut topic, 1, 0);
    topic.hint(said(1, 3));
    topic.hint(said(2, 4));
    assert!(topic.checked(&nobody(), 3).check);
    assert_eq!(heard(&ann), [1]);
    assert!(!topic.checked(&nobody(), 5).check);
    assert_eq!(heard(&ann), [2]);
}

#[test]
fn a_change_that_makes_the_next_version_says_itself_who_is_out() {
    let mut topic = topic();
    let (ann, bob) = (live(&mut topic, 1, 0), live(&mut topic, 2, 0));
    topic.hint(said(1, 3));
    topic.checked(&nobody(), 3);
    let added = Payload::MembersAdded(MembersAdded::default());
    assert!(!topic.hint(event(2, 4, Some(added))).check);
    assert!(!topic.hint(removed(3, 5, bob.user_id())).check);
    assert!(topic.hint(removed(4, 7, ann.user_id())).check, "what made version 6 is not known");
    assert_eq!((heard(&ann), heard(&bob)), (vec![1, 2, 3], vec![1, 2]));
}

#[test]
fn the_anonymous_viewer_is_checked_like_everyone_else() {
    let mut topic = topic();
    let viewer = go_live(&mut topic, anonymous(1, ROOMY), 0);
    assert_eq!(topic.reader(7), Some(Viewer::Anonymous));
    let ann = live(&mut topic, 2, 0);
    assert_eq!(topic.reader(0), Some(ann.viewer()), "a user reads rather than the anonymous viewer");
    assert!(topic.hint(said(1, 3)).check);
    assert_eq!(topic.viewers().len(), 2);
    topic.checked(&nobody(), 3);
    assert_eq!((heard(&viewer), heard(&ann)), (vec![1], vec![1]));
    assert!(topic.hint(said(2, 4)).check);
    topic.checked(&HashSet::from([Viewer::Anonymous]), 4);
    assert_eq!((heard(&viewer), heard(&ann)), (vec![], vec![2]));
}

#[test]
fn when_a_conversation_is_gone_everybody_hears_it_and_nothing_more() {
    let mut topic = topic();
    let ann = live(&mut topic, 1, 0);
    topic.hint(said(1, 1));
    topic.checked(&nobody(), 1);
    topic.hint(event(2, 2, Some(Payload::ConversationDeleted(ConversationDeleted::default()))));
    assert_eq!(heard(&ann), [1, 2]);
    assert!(topic.is_idle());
}

#[test]
fn while_somebody_is_suspected_nobody_hears_anything() {
    let mut topic = topic();
    let ann = live(&mut topic, 1, 0);
    topic.hint(said(1, 1));
    topic.checked(&nobody(), 1);
    assert!(topic.suspect().check);
    assert!(!topic.suspect().check);
    topic.hint(said(2, 1));
    topic.pass(&Frame::push(Body::Pong(proto::gateway::v1::Pong {})), None);
    assert_eq!(heard(&ann), [1]);
    topic.checked(&nobody(), 1);
    // The held back entries, then the frames that passed meanwhile (0: it has no sequence).
    assert_eq!(heard(&ann), [2, 0]);
}

#[test]
fn of_what_passes_during_a_check_only_so_much_is_kept_and_only_for_members() {
    let mut topic = topic();
    let (ann, bob) = (live(&mut topic, 1, 0), live(&mut topic, 2, 0));
    assert!(topic.suspect().check);
    for _ in 0..2 * PASSING {
        topic.pass(&Frame::push(Body::Pong(proto::gateway::v1::Pong {})), None);
    }
    topic.checked(&HashSet::from([bob.viewer()]), 1);
    assert_eq!(heard(&ann), [0; PASSING]);
    assert_eq!(heard(&bob), [0_i64; 0]);
}

/// In one and the same conversation.
fn watermark_of(user: UserId, delivered_sequence: i64, read_sequence: i64) -> Watermark {
    let conversation_id = "01939f2c-0000-7000-8000-000000000001".to_owned();
    let user_id = user.to_string();
    Watermark { conversation_id, user_id, delivered_sequence, read_sequence, ..Watermark::default() }
}

fn receipt(user: UserId, delivered: i64, read: i64) -> Arc<Frame> {
    Frame::push(Body::Receipt(watermark_of(user, delivered, read)))
}

fn read(follower: &Connection) -> Vec<i64> {
    let sequence = |frame: Arc<Frame>| match frame.body() {
        Some(Body::Receipt(watermark)) => watermark.read_sequence,
        _ => 0,
    };
    std::iter::from_fn(|| next(follower)).map(|frame| sequence(frame.expect("a frame"))).collect()
}

#[test]
fn a_receipt_that_arrives_late_is_not_shown() {
    let mut topic = topic();
    let ann = live(&mut topic, 1, 0);
    let (bob, cem) = (UserId::generate(), UserId::generate());
    for (user, delivered, place) in
        [(bob, 96, 96), (bob, 22, 22), (cem, 22, 22), (bob, 97, 96), (bob, 97, 96), (bob, 97, 95)]
    {
        topic.pass(&receipt(user, delivered, place), None);
    }
    assert_eq!(read(&ann), [96, 22, 96, 96], "of bob, cem, bob and again bob");
}

#[test]
fn one_who_comes_back_is_shown_no_older_receipt_either() {
    let shown = Watermarks::default();
    let key = Key::Conversation(ConversationId::generate());
    let bob = UserId::generate();
    for (place, seen) in [(96, vec![96]), (22, vec![]), (97, vec![97])] {
        // The topic goes with its last follower, and is another one for the next.
        let mut topic = Topic::new(key, shown.clone(), times());
        topic.begin(0);
        let ann = live(&mut topic, 1, 0);
        topic.pass(&receipt(bob, place, place), None);
        assert_eq!(read(&ann), seen);
    }
}

#[test]
fn a_receipt_that_waits_for_a_check_can_become_old() {
    let mut topic = topic();
    let (ann, bob) = (live(&mut topic, 1, 0), UserId::generate());
    assert!(topic.suspect().check);
    topic.pass(&receipt(bob, 22, 22), None);
    topic.shown.raise(&mut watermark_of(bob, 96, 96));
    topic.checked(&nobody(), 1);
    assert_eq!(read(&ann), [0_i64; 0]);
}

#[test]
fn who_follows_is_found_by_subject() {
    for key in [Key::Conversation(ConversationId::generate()), Key::User(UserId::generate())] {
        assert_eq!(Key::of_subject(&key.subject()), Some(key));
    }
    assert_eq!(Key::of_subject("parlor.messaging.v1.conversation.x"), None);
    assert_eq!(Key::of_subject(proto::subject::SESSIONS_ENDED), None);
}

#[test]
fn one_that_begins_again_does_not_jump() {
    let mut topic = topic();
    let ann = live(&mut topic, 1, 0);
    assert!(topic.begin(3).repair);
    topic.filled(vec![said(1, 0), said(2, 0), said(3, 0)]);
    assert_eq!(heard(&ann), [1, 2, 3]);
}

/// A follower, how far it has read the log, what it has seen, and whether it is live or waits to be told so.
struct Joined {
    follower: Arc<Connection>,
    read: i64,
    seen: Vec<i64>,
    is_live: bool,
    asked: Option<oneshot::Receiver<CatchUp>>,
}

#[derive(Clone, Debug)]
enum Step {
    Hint(i64),
    Head,
    Repair,
    Check,
    Join,
    Read(i64),
}

fn steps(len: i64) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => (1..=len).prop_map(Step::Hint),
        1 => Just(Step::Head),
        3 => Just(Step::Repair),
        3 => Just(Step::Check),
        1 => Just(Step::Join),
        3 => (1..20_i64).prop_map(Step::Read),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    /// However hints, repairs, checks, joins and reading of the history interleave, each follower hears everything
    /// after what it knew, once and in order.
    #[test]
    fn every_follower_hears_everything_once((len, steps) in (1..80_i64).prop_flat_map(|len| (Just(len), steps(len))), begin in 0..10_i64) {
        let begin = begin.min(len);
        let mut topic = Topic::new(Key::Conversation(ConversationId::generate()), Watermarks::default(), times());
        let version = |sequence: i64| sequence / 7;
        let item = |sequence: i64| said(sequence, version(sequence));
        let mut followers: Vec<Joined> = Vec::new();
        let mut checking = false;
        let rest = [Step::Join, Step::Head].into_iter().chain((0..400).map(|turn| match turn % 3 {
            0 => Step::Repair,
            1 => Step::Check,
            _ => Step::Read(len),
        }));
        for (turn, step) in steps.into_iter().chain(rest).enumerate() {
            if turn == 5 {
                checking |= topic.begin(begin).check;
            }
            let needs = match step {
                Step::Hint(sequence) => topic.hint(item(sequence)),
                Step::Head => topic.head(len),
                Step::Repair => match topic.missing() {
                    Some(missing) => topic.filled((missing.after + 1..=missing.up_to).take(5).map(item).collect()),
                    None => Needs::default(),
                },
                Step::Check if checking => {
                    checking = false;
                    topic.checked(&nobody(), version(len))
                }
                Step::Check => Needs::default(),
                Step::Join => {
                    let follower = connection(followers.len() as u64, UserId::generate(), ROOMY);
                    topic.follow(Arc::clone(&follower), false);
                    followers.push(Joined { follower, read: 0, seen: Vec::new(), is_live: false, asked: None });
                    Needs::default()
                }
                Step::Read(count) => {
                    for one in followers.iter_mut().filter(|one| !one.is_live) {
                        let mut answered = one.asked.take().unwrap_or_else(|| {
                            let page = (one.read + count).min(len);
                            one.seen.extend(one.read + 1..=page);
                            one.read = page;
                            let (answer, answered) = oneshot::channel();
                            topic.caught_up(one.follower.number(), page, answer);
                            answered
                        });
                        match answered.try_recv() {
                            Ok(CatchUp::Live) => one.is_live = true,
                            Ok(CatchUp::Behind(known)) => {
                                one.seen.extend(heard(&one.follower));
                                one.read = known;
                            }
                            Ok(CatchUp::Gone) => prop_assert!(false, "gone"),
                            // The answer comes when the topic has begun.
                            Err(_) => one.asked = Some(answered),
                        }
                    }
                    Needs::default()
                }
            };
            checking |= needs.check;
            for one in &mut followers {
                one.seen.extend(heard(&one.follower));
            }
        }
        for one in followers {
            prop_assert!(one.is_live);
            prop_assert_eq!(one.seen, (1..=len).collect::<Vec<_>>());
        }
    }
}
