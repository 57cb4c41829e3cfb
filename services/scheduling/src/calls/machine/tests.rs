//! The rules of a call, one by one, and then all of them under whatever people and time may do.

use std::collections::{HashMap, HashSet, VecDeque};

use proptest::prelude::*;

use super::*;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const SPANS: Spans = Spans {
    ring: Duration::from_secs(45),
    connect: Duration::from_secs(60),
    longest: Duration::from_secs(3600),
};
pub(super) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

pub(super) fn user(number: u128) -> UserId {
    Uuid::from_u128(number + 1).into()
}

pub(super) fn device(of: u128, number: u128) -> Device {
    Device { user: user(of), session: Uuid::from_u128((of + 1) * 100 + number).into() }
}

pub(super) const ANN: u128 = 0;
pub(super) const BOB: u128 = 1;

fn pair() -> Pair {
    let conversation = Uuid::from_u128(7).into();
    Pair { from: device(ANN, 0), to: user(BOB), conversation, media: Media::Audio }
}

pub(super) fn ringing() -> Call {
    Call::ringing(Uuid::from_u128(9).into(), pair(), NOW, &SPANS)
}

pub(super) fn done(call: &mut Call, act: Act, now: Timestamp) {
    assert_eq!(call.act(act, now, &SPANS), Acted { changed: true, refusal: None }, "{call:?}");
}

fn refused(call: &mut Call, act: Act, now: Timestamp) -> Refusal {
    let before = call.clone();
    let acted = call.act(act, now, &SPANS);
    assert!(!acted.changed && *call == before);
    acted.refusal.unwrap()
}

pub(super) fn unchanged(call: &mut Call, act: Act, now: Timestamp) {
    assert_eq!(call.act(act, now, &SPANS), Acted { changed: false, refusal: None }, "{call:?}");
}

/// A call that Bob's first device has answered after a second.
pub(super) fn accepted() -> (Call, Timestamp) {
    let (mut call, now) = (ringing(), NOW.plus(SECOND));
    done(&mut call, Act::Accept(device(BOB, 0)), now);
    (call, now)
}

/// One in which the two are connected.
pub(super) fn connected() -> (Call, Timestamp) {
    let (mut call, now) = accepted();
    for device in [device(BOB, 0), device(ANN, 0)] {
        done(&mut call, Act::Connected(device, None), now);
    }
    (call, now)
}

pub(super) fn outcome(call: &Call) -> Outcome {
    call.ending().unwrap().outcome
}

#[test]
fn one_device_answers_and_may_say_so_again() {
    let (mut call, now) = accepted();
    assert_eq!(call.version, 2);
    unchanged(&mut call, Act::Accept(device(BOB, 0)), now);
    assert_eq!(refused(&mut call, Act::Accept(device(BOB, 1)), now), Refusal::Elsewhere);
    assert_eq!(refused(&mut call, Act::Reject(device(BOB, 1)), now), Refusal::Elsewhere);
    assert_eq!(refused(&mut call, Act::Accept(device(ANN, 0)), now), Refusal::NotCallee);
    assert_eq!(refused(&mut call, Act::Accept(device(5, 0)), now), Refusal::NotTheirs);
}

#[test]
fn it_rings_to_the_millisecond_and_no_longer() {
    let over = NOW.plus(SPANS.ring);
    let mut call = ringing();
    unchanged(&mut call, Act::Pass, over.minus(Duration::from_millis(1)));
    let seen = call.clone().at(over);
    assert_eq!((seen.version, outcome(&seen), seen.ending().unwrap().time), (2, Outcome::Missed, over));
    // Whoever comes later finds the same, and does nothing.
    let late = call.act(Act::Accept(device(BOB, 0)), over.plus(SECOND), &SPANS);
    assert_eq!(late, Acted { changed: true, refusal: Some(Refusal::Over(Outcome::Missed)) });
    assert_eq!(call, seen);
}

#[test]
fn who_ends_it_while_it_rings_says_how_it_is_over() {
    for (act, how) in [
        (Act::End(device(ANN, 2)), Outcome::Cancelled),
        (Act::End(device(BOB, 2)), Outcome::Rejected),
        (Act::Reject(device(BOB, 1)), Outcome::Rejected),
    ] {
        let mut call = ringing();
        done(&mut call, act, NOW);
        assert_eq!((outcome(&call), call.ending().unwrap().duration), (how, None));
        for again in [Act::End(device(ANN, 0)), Act::End(device(BOB, 0)), Act::Reject(device(BOB, 0))] {
            unchanged(&mut call, again, NOW);
        }
        assert_eq!(refused(&mut call, Act::Accept(device(BOB, 0)), NOW), Refusal::Over(how));
        assert_eq!(refused(&mut call, Act::Connected(device(BOB, 0), None), NOW), Refusal::Over(how));
    }
}

#[test]
fn the_time_that_counts_is_between_connected_and_the_end() {
    let (mut call, now) = connected();
    unchanged(&mut call, Act::Connected(device(ANN, 0), None), now.plus(SECOND));
    done(&mut call, Act::End(device(ANN, 1)), now.plus(90 * SECOND));
    let ending = call.ending().unwrap();
    assert_eq!(
        (ending.outcome, ending.duration, ending.by),
        (Outcome::Ended, Some(90 * SECOND), Some(user(ANN)))
    );
    // Answered, and hung up before the devices had found each other.
    let (mut call, now) = accepted();
    done(&mut call, Act::End(device(BOB, 0)), now.plus(SECOND));
    assert_eq!(call.ending().unwrap().duration, Some(Duration::ZERO));
}

#[test]
fn what_a_device_says_about_times_is_kept_within_what_can_be() {
    let (mut call, now) = accepted();
    let later = now.plus(10 * SECOND);
    done(&mut call, Act::Connected(device(ANN, 0), Some(NOW.minus(900 * SECOND))), later);
    assert_eq!(call.talk().unwrap().connect_time, Some(now));
    done(&mut call, Act::Disconnected(device(ANN, 0), Some(later.plus(900 * SECOND))), later);
    assert_eq!(call.talk().unwrap().caller_lost, Some(later));
    done(&mut call, Act::Disconnected(device(BOB, 0), Some(NOW)), later.plus(SECOND));
    assert_eq!((outcome(&call), call.ending().unwrap().duration), (Outcome::Ended, Some(Duration::ZERO)));
}

#[test]
fn one_that_is_lost_may_come_back_and_otherwise_it_is_over_when_it_was_lost() {
    let (mut call, now) = connected();
    let lost = now.plus(30 * SECOND);
    done(&mut call, Act::Disconnected(device(ANN, 0), None), lost);
    unchanged(&mut call, Act::Disconnected(device(ANN, 0), None), lost.plus(SECOND));
    done(&mut call, Act::Connected(device(ANN, 0), None), lost.plus(SECOND));
    assert_eq!(call.deadline(), Some(now.plus(SPANS.longest)));
    done(&mut call, Act::Disconnected(device(BOB, 0), None), lost.plus(2 * SECOND));
    let end = lost.plus(2 * SECOND).plus(SPANS.connect);
    done(&mut call, Act::Pass, end);
    let ending = call.ending().unwrap();
    assert_eq!((ending.outcome, ending.time, ending.duration), (Outcome::Ended, end, Some(32 * SECOND)));
    unchanged(&mut call, Act::Disconnected(device(ANN, 0), None), end);
}

#[test]
fn time_ends_what_nobody_ends() {
    let (mut call, now) = accepted();
    done(&mut call, Act::Pass, now.plus(SPANS.connect));
    assert_eq!((outcome(&call), call.ending().unwrap().duration), (Outcome::Failed, Some(Duration::ZERO)));
    // Both have gone without a word: nobody knows how long it was.
    let (mut call, now) = connected();
    done(&mut call, Act::Pass, now.plus(SPANS.longest));
    assert_eq!((outcome(&call), call.ending().unwrap().duration), (Outcome::Failed, None));
}

#[test]
fn the_word_of_one_device_holds_nobody_longer_than_it_may_take_to_be_connected() {
    for (here, gone) in [(device(ANN, 0), device(BOB, 0)), (device(BOB, 0), device(ANN, 0))] {
        let (mut call, now) = accepted();
        let until = now.plus(SPANS.connect);
        done(&mut call, Act::Connected(here, None), now.plus(SECOND));
        assert_eq!((call.deadline(), call.was_connected()), (Some(until), false));
        // To be lost and to come back wins no time either.
        done(&mut call, Act::Disconnected(here, None), now.plus(2 * SECOND));
        done(&mut call, Act::Connected(here, None), now.plus(3 * SECOND));
        assert_eq!(call.deadline(), Some(until));
        let mut late = call.clone();
        done(&mut late, Act::Pass, until);
        assert_eq!(
            (outcome(&late), late.ending().unwrap().duration),
            (Outcome::Failed, Some(Duration::ZERO))
        );
        // The other was only slow.
        done(&mut call, Act::Connected(gone, None), until.minus(SECOND));
        assert_eq!((call.deadline(), call.was_connected()), (Some(now.plus(SPANS.longest)), true));
        assert_eq!(call.talk().unwrap().connect_time, Some(now.plus(SECOND)));
    }
}

#[test]
fn one_that_was_heard_of_and_is_lost_has_had_a_call() {
    let (mut call, now) = accepted();
    done(&mut call, Act::Connected(device(ANN, 0), None), now);
    done(&mut call, Act::Disconnected(device(ANN, 0), None), now.plus(20 * SECOND));
    done(&mut call, Act::Pass, now.plus(SPANS.connect));
    assert_eq!((outcome(&call), call.ending().unwrap().duration), (Outcome::Ended, Some(20 * SECOND)));
    assert!(call.was_connected());
}

#[test]
fn marks_are_for_the_devices_that_are_in_it() {
    let mut call = ringing();
    assert_eq!(refused(&mut call, Act::Connected(device(ANN, 0), None), NOW), Refusal::NotAccepted);
    let (mut call, now) = accepted();
    for other in [device(ANN, 1), device(BOB, 1)] {
        assert_eq!(refused(&mut call, Act::Connected(other, None), now), Refusal::Elsewhere);
        assert_eq!(refused(&mut call, Act::Disconnected(other, None), now), Refusal::Elsewhere);
    }
    unchanged(&mut call, Act::Disconnected(device(ANN, 0), None), now);
}

#[test]
fn signals_go_to_the_device_in_the_call_and_while_it_rings_to_all() {
    let call = ringing();
    assert_eq!(call.route(device(ANN, 0)), Ok(Route { user: user(BOB), session: None }));
    let to_ann = Route { user: user(ANN), session: Some(device(ANN, 0).session) };
    assert_eq!(call.route(device(BOB, 2)), Ok(to_ann));
    assert_eq!(call.route(device(ANN, 1)), Err(Refusal::Elsewhere));
    assert_eq!(call.route(device(4, 0)), Err(Refusal::NotTheirs));
    let (mut call, now) = accepted();
    assert_eq!(
        call.route(device(ANN, 0)),
        Ok(Route { user: user(BOB), session: Some(device(BOB, 0).session) })
    );
    assert_eq!(call.route(device(BOB, 0)), Ok(to_ann));
    assert_eq!(call.route(device(BOB, 1)), Err(Refusal::Elsewhere));
    done(&mut call, Act::End(device(BOB, 0)), now);
    assert_eq!(call.route(device(ANN, 0)), Err(Refusal::Over(Outcome::Ended)));
}

#[test]
fn a_call_to_one_who_is_offline_is_missed_at_once_and_stays_so() {
    let mut call = Call::missed(Uuid::from_u128(9).into(), pair(), NOW);
    let ending = Ending { outcome: Outcome::Missed, time: NOW, by: None, talk: None, duration: None };
    assert_eq!((call.ending(), call.version), (Some(&ending), 1));
    assert_eq!((call.is_live(), call.ring_until, call.create_time), (false, NOW, NOW));
    let over = Refusal::Over(Outcome::Missed);
    assert_eq!(refused(&mut call, Act::Accept(device(BOB, 0)), NOW), over);
    assert_eq!(call.route(device(ANN, 0)), Err(over));
    for act in [Act::End(device(ANN, 0)), Act::Reject(device(BOB, 0)), Act::Gone(user(ANN)), Act::Pass] {
        unchanged(&mut call, act, NOW.plus(SPANS.ring));
    }
}

#[test]
fn two_who_call_each_other_meet() {
    let call = ringing();
    let wish = |from, to, media, own, others| wish(from, user(to), media, own, others);
    assert_eq!(wish(device(BOB, 1), ANN, Media::Video, Some(&call), Some(&call)), Wish::Meet);
    assert_eq!(wish(device(ANN, 0), BOB, Media::Audio, Some(&call), Some(&call)), Wish::Again { met: false });
    assert_eq!(wish(device(ANN, 0), BOB, Media::Video, Some(&call), Some(&call)), Wish::Refused);
    assert_eq!(wish(device(ANN, 1), BOB, Media::Audio, Some(&call), Some(&call)), Wish::Refused);
    assert_eq!(wish(device(ANN, 0), 2, Media::Audio, Some(&call), None), Wish::Refused);
    assert_eq!(wish(device(2, 0), BOB, Media::Audio, None, Some(&call)), Wish::Busy);
    assert_eq!(wish(device(2, 0), 3, Media::Audio, None, None), Wish::Ring);
    let (call, _) = accepted();
    assert_eq!(wish(device(BOB, 0), ANN, Media::Audio, Some(&call), Some(&call)), Wish::Again { met: true });
    assert_eq!(wish(device(BOB, 1), ANN, Media::Audio, Some(&call), Some(&call)), Wish::Refused);
}

#[test]
fn who_is_gone_leaves_no_call_behind() {
    for (gone, how) in [(ANN, Outcome::Cancelled), (BOB, Outcome::Missed)] {
        let mut call = ringing();
        done(&mut call, Act::Gone(user(gone)), NOW);
        assert_eq!((outcome(&call), call.ending().unwrap().by), (how, None));
    }
    let (mut call, now) = connected();
    done(&mut call, Act::Gone(user(ANN)), now);
    assert_eq!(outcome(&call), Outcome::Ended);
    assert_eq!(refused(&mut call, Act::Gone(nobody()), now), Refusal::NotTheirs);
}

#[test]
fn a_block_ends_it_as_the_one_who_blocks_would() {
    for (blocker, how) in [(ANN, Outcome::Cancelled), (BOB, Outcome::Rejected)] {
        let mut call = ringing();
        done(&mut call, Act::Blocked(user(blocker)), NOW);
        assert_eq!((outcome(&call), call.ending().unwrap().by), (how, Some(user(blocker))));
        unchanged(&mut call, Act::Blocked(user(blocker)), NOW);
        let (mut call, now) = connected();
        done(&mut call, Act::Blocked(user(blocker)), now);
        assert_eq!((outcome(&call), call.ending().unwrap().by), (Outcome::Ended, Some(user(blocker))));
    }
    assert_eq!(refused(&mut ringing(), Act::Blocked(user(5)), NOW), Refusal::NotTheirs);
}

/// A state without times and versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Shape {
    Ringing,
    Accepted { connected: bool, both: bool, caller_lost: bool, callee_lost: bool },
    Over(Outcome),
}

fn shape(call: &Call) -> Shape {
    match &call.stage {
        Stage::Ringing => Shape::Ringing,
        Stage::Accepted(talk) => Shape::Accepted {
            connected: talk.connect_time.is_some(),
            both: talk.both_connected(),
            caller_lost: talk.caller_lost.is_some(),
            callee_lost: talk.callee_lost.is_some(),
        },
        Stage::Over(ending) => Shape::Over(ending.outcome),
    }
}

/// Everything that can be reached is looked at, from everywhere.
#[test]
fn every_state_is_reached_and_from_every_state_time_alone_leads_to_an_end() {
    let busy = Call::busy(Uuid::from_u128(9).into(), pair(), NOW);
    let mut found = HashMap::from([(shape(&busy), busy)]);
    let mut open = VecDeque::from([(ringing(), NOW)]);
    while let Some((call, now)) = open.pop_front() {
        if found.insert(shape(&call), call.clone()).is_some() {
            continue;
        }
        let devices = [device(ANN, 0), device(ANN, 1), device(BOB, 0), device(BOB, 1), device(2, 0)];
        let acts = devices.into_iter().flat_map(|device| {
            [
                Act::Accept(device),
                Act::Reject(device),
                Act::End(device),
                Act::Connected(device, None),
                Act::Disconnected(device, None),
                Act::Left(device),
                Act::Back(device),
                Act::SessionEnded(device),
                Act::Gone(device.user),
                Act::Blocked(device.user),
            ]
        });
        for act in acts.chain([Act::Pass]) {
            for wait in [SECOND, SPANS.ring, SPANS.connect, SPANS.longest] {
                let (mut next, then) = (call.clone(), now.plus(wait));
                next.act(act, then, &SPANS);
                assert!(!call.is_live() || next.version > call.version || next == call);
                assert!(call.is_live() || next == call, "what is over stays as it is");
                open.push_back((next, then));
            }
        }
    }
    let talk = |connected, both, caller_lost, callee_lost| Shape::Accepted {
        connected,
        both,
        caller_lost,
        callee_lost,
    };
    let outcomes = [
        Outcome::Ended,
        Outcome::Rejected,
        Outcome::Busy,
        Outcome::Missed,
        Outcome::Cancelled,
        Outcome::Failed,
    ];
    let expected = [
        Shape::Ringing,
        talk(false, false, false, false),
        talk(true, false, false, false),
        talk(true, false, true, false),
        talk(true, false, false, true),
        talk(true, true, false, false),
        talk(true, true, true, false),
        talk(true, true, false, true),
    ];
    let expected = expected.into_iter().chain(outcomes.map(Shape::Over)).collect::<HashSet<_>>();
    assert_eq!(found.keys().copied().collect::<HashSet<_>>(), expected);
    for call in found.into_values() {
        assert!(!call.clone().at(NOW.plus(3 * SPANS.longest)).is_live(), "{call:?}");
    }
}

/// What somebody may do; devices and calls by number.
#[derive(Clone, Debug)]
enum Step {
    Start { from: (u128, u128), to: u128, media: Media, callee_offline: bool },
    Act { kind: u8, who: (u128, u128), call: usize, said: Option<i64> },
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Two people with three devices each, and a third one who calls in between.
    let who = || prop_oneof![6 => (0..2_u128, 0..3_u128), 1 => Just((2_u128, 0_u128))];
    let media = prop_oneof![Just(Media::Audio), Just(Media::Video)];
    let said = proptest::option::of(-200_000..200_000_i64);
    let offline = prop_oneof![4 => Just(false), 1 => Just(true)];
    let start = (who(), 0..3_u128, media, offline)
        .prop_map(|(from, to, media, callee_offline)| Step::Start { from, to, media, callee_offline });
    let act = (0..6_u8, who(), 0..3_usize, said).prop_map(|(kind, who, call, said)| Step::Act {
        kind,
        who,
        call,
        said,
    });
    let wait = prop_oneof![4 => 0..5_000_u64, 2 => 20_000..70_000_u64, 1 => 3_000_000..4_000_000_u64];
    proptest::collection::vec(prop_oneof![3 => start, 8 => act, 2 => wait.prop_map(Step::Wait)], 1..120)
}

/// Calls as the store keeps them: who is in which one.
#[derive(Default)]
struct World {
    calls: Vec<Call>,
}

impl World {
    fn live(&self, of: UserId) -> Vec<usize> {
        let is_live = |call: &Call| call.is_live() && call.has(of);
        self.calls.iter().enumerate().filter(|(_, call)| is_live(call)).map(|(place, _)| place).collect()
    }

    fn live_one(&mut self, of: UserId, now: Timestamp) -> Option<usize> {
        let place = self.live(of).first().copied()?;
        self.calls[place].act(Act::Pass, now, &SPANS);
        self.calls[place].is_live().then_some(place)
    }

    fn start(&mut self, from: Device, to: UserId, media: Media, callee_offline: bool, now: Timestamp) {
        let (own, others) = (self.live_one(from.user, now), self.live_one(to, now));
        let found = |place: Option<usize>| place.map(|place| &self.calls[place]);
        let id = Uuid::from_u128(1000 + self.calls.len() as u128).into();
        let pair = Pair { from, to, conversation: Uuid::from_u128(7).into(), media };
        match wish(from, to, media, found(own), found(others)) {
            Wish::Ring if callee_offline => self.calls.push(Call::missed(id, pair, now)),
            Wish::Ring => self.calls.push(Call::ringing(id, pair, now, &SPANS)),
            Wish::Busy => self.calls.push(Call::busy(id, pair, now)),
            Wish::Meet => {
                let acted = self.calls[own.unwrap()].act(Act::Accept(from), now, &SPANS);
                assert_eq!(acted, Acted { changed: true, refusal: None });
            }
            Wish::Again { .. } | Wish::Refused => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// However two people with three devices each, a third caller, retries and time interleave.
    #[test]
    fn a_call_never_lies(steps in steps()) {
        let (mut world, mut now) = (World::default(), NOW);
        for step in steps {
            let before = world.calls.clone();
            match step {
                Step::Wait(millis) => now = now.plus(Duration::from_millis(millis)),
                Step::Start { from, to, .. } if from.0 == to => {}
                Step::Start { from: (of, number), to, media, callee_offline } => {
                    world.start(device(of, number), user(to), media, callee_offline, now);
                }
                Step::Act { kind, who: (of, number), call, said } => {
                    // One of the last few.
                    let Some(place) = world.calls.len().checked_sub(1 + call) else { continue };
                    let by = device(of, number);
                    let said = said.map(|offset| Timestamp::from_millis(now.as_millis() + offset));
                    let act = match kind {
                        0 => Act::Accept(by),
                        1 => Act::Reject(by),
                        2 => Act::End(by),
                        3 => Act::Connected(by, said),
                        4 => Act::Disconnected(by, said),
                        _ => Act::Pass,
                    };
                    let call = &mut world.calls[place];
                    let first = call.act(act, now, &SPANS);
                    prop_assert_eq!(first.changed, *call != before[place]);
                    // The same again by the same device changes nothing more, and is answered alike.
                    let once = call.clone();
                    let again = call.act(act, now, &SPANS);
                    prop_assert_eq!(&once, &*call);
                    prop_assert_eq!(again, Acted { changed: false, refusal: first.refusal });
                }
            }
            for of in [0, 1, 2] {
                prop_assert!(world.live(user(of)).len() <= 1, "in two calls at once");
            }
            for (was, is) in before.iter().zip(&world.calls) {
                prop_assert!(is.version >= was.version);
                prop_assert_eq!(is.version == was.version, is == was);
                if let Some(talk) = was.talk() {
                    prop_assert_eq!(Some(talk.session), is.talk().map(|talk| talk.session), "one device answers");
                }
                if !was.is_live() {
                    prop_assert_eq!(was, is);
                }
            }
            for call in &world.calls {
                // What a reader sees is what will be written down.
                let seen = call.clone().at(now);
                prop_assert!(seen.deadline().is_none_or(|deadline| deadline > now));
                if let Stage::Accepted(talk) = &call.stage {
                    let waits = talk.deadline <= talk.accept_time.plus(SPANS.connect);
                    prop_assert!(waits || talk.both_connected(), "one device holds two people");
                }
                let later = now.plus(SPANS.ring);
                prop_assert_eq!(call.clone().at(later), seen.at(later));
                if let Some(ending) = call.ending() {
                    let answered = matches!(ending.outcome, Outcome::Ended | Outcome::Failed);
                    prop_assert_eq!(answered, ending.talk.is_some());
                    prop_assert!(ending.time >= call.create_time && ending.time <= now);
                    if let (Some(duration), Some(talk)) = (ending.duration, &ending.talk) {
                        prop_assert!(duration <= ending.time.since(talk.accept_time));
                    }
                }
            }
        }
        // Nobody does anything any more.
        now = now.plus(3 * SPANS.longest);
        for call in &world.calls {
            prop_assert!(!call.clone().at(now).is_live());
        }
    }
}
