//! What the store promises about calls, on both databases, whoever is at it at the same time.

use std::collections::HashSet;
use std::time::Duration;

use chassis::clock::{Clock, Timestamp};
use chassis::database::Database;
use chassis::database::facts;
use chassis::database::testing::{self, Scratch};
use proto::id::{CallId, ConversationId, SessionId, UserId};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::super::Store;
use super::*;
use crate::MIGRATOR;
use crate::calls::machine::{Device, Media, Refusal, Stage, nobody};
use crate::conversations::Block;
use crate::store::Parted;
use crate::timer::{Claim, Kind};

const LEASE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);
const SPANS: Spans = Spans {
    ring: Duration::from_secs(45),
    connect: Duration::from_secs(60),
    longest: Duration::from_secs(3600),
};

/// A store that is made for the test.
struct World {
    store: Store,
    clock: Clock,
    _scratch: Scratch,
}

impl World {
    fn new((database, scratch): (Database, Scratch)) -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
        Self { store: Store::new(database, clock.clone()), clock, _scratch: scratch }
    }

    async fn start(&self, from: Device, to: UserId) -> Started {
        self.store.start_call(&start(from, to), &SPANS).await.unwrap().outcome
    }

    /// A call that rings.
    async fn rings(&self, from: Device, to: UserId) -> Call {
        match self.start(from, to).await {
            Started::Call { call, met: false, changed: true } if call.stage == Stage::Ringing => *call,
            other => panic!("{other:?}"),
        }
    }

    async fn act(&self, call: &Call, act: Act) -> Changed {
        self.store.change_call(call.id, act, &SPANS).await.unwrap().unwrap()
    }

    async fn get(&self, call: &Call) -> Call {
        self.store.call(call.id).await.unwrap().unwrap()
    }

    async fn due(&self, kind: Kind, after: Duration) -> Vec<Claim> {
        let now = self.store.now().await.unwrap().plus(after);
        self.store.claim(kind, 100, LEASE, now).await.unwrap()
    }

    /// Lets the time of a call be over, on either database: its deadline is set back.
    async fn overdue(&self, from: Device, to: UserId) -> Call {
        let short = Spans { ring: Duration::from_millis(1), ..SPANS };
        let settled = self.store.start_call(&start(from, to), &short).await.unwrap();
        self.clock.advance(Duration::from_millis(5));
        tokio::time::sleep(Duration::from_millis(5)).await;
        match settled.outcome {
            Started::Call { call, .. } => *call,
            other => panic!("{other:?}"),
        }
    }
}

fn device() -> Device {
    Device { user: UserId::generate(), session: SessionId::generate() }
}

fn another(of: Device) -> Device {
    Device { session: SessionId::generate(), ..of }
}

fn start(from: Device, to: UserId) -> Start {
    let pair = Pair { from, to, conversation: ConversationId::generate(), media: Media::Audio };
    Start {
        id: CallId::generate(),
        pair,
        callee_offline: false,
        retry: None,
        per_minute: 1000,
        only_meet: false,
    }
}

fn outcome(call: &Call) -> Option<Outcome> {
    call.ending().map(|ending| ending.outcome)
}

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $name() {
                    super::$name(World::new(testing::sqlite(&MIGRATOR, "scheduling").await)).await;
                }
            )*
        }
        mod on_postgres {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $name() {
                    let Some(made) = testing::postgres(&MIGRATOR, "scheduling").await else { return };
                    super::$name(World::new(made)).await;
                }
            )*
        }
    };
}

on_both! {
    what_was_written_is_read,
    a_device_that_is_away_brings_the_deadline_forward_until_it_is_back,
    a_retry_finds_the_first,
    one_of_many_devices_answers,
    two_who_call_each_other_at_once_meet,
    a_caller_who_gives_up_races_with_who_answers,
    of_many_callers_one_gets_through,
    nobody_is_in_two_calls_whatever_happens_at_once,
    what_is_overdue_is_in_nobodys_way,
    an_answer_after_the_deadline_is_refused,
    each_live_call_has_its_timer_and_each_that_is_over_another,
    a_change_takes_the_timer_from_who_has_claimed_it,
    so_many_in_a_minute,
    a_call_to_one_who_is_offline_is_missed_at_once,
    pages_leave_nothing_out,
    what_is_asked_for_is_found,
    the_people_of_the_latest_calls_come_first,
    one_who_is_gone_is_forgotten,
    a_block_ends_the_call_of_the_two,
}

async fn what_was_written_is_read(world: World) {
    let (ann, bob) = (device(), device());
    let call = world.rings(ann, bob.user).await;
    assert_eq!(world.get(&call).await, call);
    for act in [
        Act::Accept(bob),
        Act::Connected(ann, None),
        Act::Disconnected(bob, None),
        Act::Connected(bob, None),
        Act::Disconnected(ann, None),
        Act::End(bob),
    ] {
        let changed = world.act(&call, act).await;
        assert!(changed.acted.changed, "{act:?}");
        assert_eq!(world.get(&call).await, changed.call, "{act:?}");
        let live = changed.call.is_live().then_some(changed.call);
        for user in [ann.user, bob.user] {
            assert_eq!(world.store.live_call(user).await.unwrap(), live);
        }
    }
    let again = world.act(&call, Act::End(ann)).await;
    assert!(!again.acted.changed && again.acted.refusal.is_none());
    let busy = {
        world.rings(ann, bob.user).await;
        let Started::Call { call, .. } = world.start(device(), bob.user).await else { panic!() };
        *call
    };
    assert_eq!((world.get(&busy).await, outcome(&busy)), (busy.clone(), Some(Outcome::Busy)));
    let nothing = world.store.change_call(CallId::generate(), Act::Pass, &SPANS).await.unwrap();
    assert_eq!(nothing, None);
}

async fn a_retry_finds_the_first(world: World) {
    let (ann, bob) = (device(), device());
    let retry = Retry { request_id: Uuid::from_u128(7), fingerprint: [1; 32] };
    let mut tries = JoinSet::new();
    for _ in 0..8 {
        let (store, start) = (world.store.clone(), Start { retry: Some(retry), ..start(ann, bob.user) });
        tries.spawn(async move { store.start_call(&start, &SPANS).await.unwrap().outcome });
    }
    let mut begun = HashSet::new();
    let mut changes = 0;
    for outcome in tries.join_all().await {
        let Started::Call { call, met: false, changed } = outcome else { panic!("{outcome:?}") };
        begun.insert(call.id);
        changes += i32::from(changed);
    }
    assert_eq!((begun.len(), changes), (1, 1));
    let (found, met) = world.store.find_call(ann.user, Some(&retry)).await.unwrap().unwrap();
    assert!(begun.contains(&found.id) && !met);
    let other = Retry { fingerprint: [2; 32], ..retry };
    let reused = world.store.find_call(ann.user, Some(&other)).await;
    assert!(matches!(reused, Err(Error::RequestIdReused(_))));
    let reused = Start { retry: Some(other), ..start(ann, bob.user) };
    assert!(matches!(world.store.start_call(&reused, &SPANS).await, Err(Error::RequestIdReused(_))));
    // One that has met is found again as such.
    let met = Start { retry: Some(retry), only_meet: true, ..start(bob, ann.user) };
    let settled = world.store.start_call(&met, &SPANS).await.unwrap();
    assert!(matches!(settled.outcome, Started::Call { met: true, changed: true, .. }));
    let (again, met) = world.store.find_call(bob.user, Some(&retry)).await.unwrap().unwrap();
    assert_eq!((again.id, met), (found.id, true));
}

async fn one_of_many_devices_answers(world: World) {
    for _ in 0..10 {
        let (ann, bob) = (device(), device());
        let call = world.rings(ann, bob.user).await;
        let mut devices = JoinSet::new();
        for _ in 0..6 {
            let (store, device, id) = (world.store.clone(), another(bob), call.id);
            devices.spawn(async move {
                let changed = store.change_call(id, Act::Accept(device), &SPANS).await.unwrap().unwrap();
                (device.session, changed.acted)
            });
        }
        let answered = devices.join_all().await;
        let got: Vec<_> = answered.iter().filter(|(_, acted)| acted.changed).collect();
        assert_eq!(got.len(), 1);
        let elsewhere =
            answered.iter().filter(|(_, acted)| acted.refusal == Some(Refusal::Elsewhere)).count();
        assert_eq!(elsewhere, 5);
        let stored = world.get(&call).await;
        assert_eq!((stored.version, stored.talk().unwrap().session), (2, got[0].0));
    }
}

async fn two_who_call_each_other_at_once_meet(world: World) {
    for _ in 0..20 {
        let (ann, bob) = (device(), device());
        let mut both = JoinSet::new();
        for (from, to) in [(ann, bob.user), (bob, ann.user)] {
            let store = world.store.clone();
            both.spawn(async move {
                let outcome = store.start_call(&start(from, to), &SPANS).await.unwrap().outcome;
                match outcome {
                    Started::Call { call, met, .. } => (from, *call, met),
                    other => panic!("{other:?}"),
                }
            });
        }
        let mut both = both.join_all().await;
        both.sort_by_key(|(from, ..)| from.user != ann.user);
        let [(_, first, one), (_, second, other)] = both.try_into().unwrap();
        assert_eq!(first.id, second.id, "one call remains");
        assert!(one != other, "the second one accepts the first");
        let stored = world.get(&first).await;
        let answers = if one { ann } else { bob };
        assert_eq!(stored.talk().unwrap().session, answers.session);
        assert!(stored.is_live() && stored.callee == answers.user);
    }
}

async fn a_caller_who_gives_up_races_with_who_answers(world: World) {
    let mut ends = HashSet::new();
    for round in 0..30 {
        let (ann, bob) = (device(), device());
        let call = world.rings(ann, bob.user).await;
        let act = |act| {
            let (store, id) = (world.store.clone(), call.id);
            async move { store.change_call(id, act, &SPANS).await.unwrap().unwrap() }
        };
        let (end, accept) = (act(Act::End(ann)), act(Act::Accept(bob)));
        let (ended, accepted) = if round % 2 == 0 {
            tokio::join!(end, accept)
        } else {
            let (accepted, ended) = tokio::join!(accept, end);
            (ended, accepted)
        };
        assert!(ended.acted.refusal.is_none());
        let stored = world.get(&call).await;
        match accepted.acted.refusal {
            None => assert_eq!((outcome(&stored), stored.version), (Some(Outcome::Ended), 3)),
            Some(refusal) => {
                assert_eq!(refusal, Refusal::Over(Outcome::Cancelled));
                assert_eq!((outcome(&stored), stored.version), (Some(Outcome::Cancelled), 2));
            }
        }
        ends.insert(outcome(&stored));
        assert_eq!(world.store.live_call(ann.user).await.unwrap(), None);
    }
    assert!(!ends.is_empty());
}

async fn of_many_callers_one_gets_through(world: World) {
    let bob = device();
    let mut callers = JoinSet::new();
    for _ in 0..12 {
        let store = world.store.clone();
        callers.spawn(async move {
            let start = start(device(), bob.user);
            store.start_call(&start, &SPANS).await.unwrap().outcome
        });
    }
    let (mut rings, mut busy) = (0, 0);
    for outcome in callers.join_all().await {
        let Started::Call { call, met: false, changed: true } = outcome else { panic!("{outcome:?}") };
        match call.ending().map(|ending| ending.outcome) {
            None => rings += 1,
            Some(Outcome::Busy) => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((rings, busy), (1, 11));
}

async fn nobody_is_in_two_calls_whatever_happens_at_once(world: World) {
    const PEOPLE: usize = 5;
    let people: Vec<[Device; 2]> = (0..PEOPLE)
        .map(|_| {
            let device = device();
            [device, another(device)]
        })
        .collect();
    let mut workers = JoinSet::new();
    for worker in 0..8_usize {
        let (store, people) = (world.store.clone(), people.clone());
        workers.spawn(async move {
            let mut known = Vec::new();
            for turn in 0..40_usize {
                let draw = (worker * 7919 + turn * 104_729) ^ (turn << 3);
                let from = people[draw % PEOPLE][draw / 5 % 2];
                let to = people[(draw % PEOPLE + 1 + draw / 11 % (PEOPLE - 1)) % PEOPLE][0].user;
                if draw % 3 != 0 {
                    let started = store.start_call(&start(from, to), &SPANS).await.unwrap().outcome;
                    if let Started::Call { call, .. } = started {
                        known.push(call.id);
                    }
                } else if let Some(id) = known.last() {
                    let act = match draw / 3 % 4 {
                        0 => Act::Accept(from),
                        1 => Act::Reject(from),
                        2 => Act::End(from),
                        _ => Act::Pass,
                    };
                    store.change_call(*id, act, &SPANS).await.unwrap().unwrap();
                }
                if let Some(live) = store.live_call(from.user).await.unwrap() {
                    assert!(live.has(from.user));
                }
            }
            known
        });
    }
    let known: HashSet<CallId> = workers.join_all().await.concat().into_iter().collect();
    let mut live = Vec::new();
    for id in known {
        let call = world.store.call(id).await.unwrap().unwrap();
        if call.is_live() {
            live.extend([call.caller.user, call.callee]);
            for user in [call.caller.user, call.callee] {
                assert_eq!(world.store.live_call(user).await.unwrap().as_ref(), Some(&call));
            }
        }
    }
    let people: HashSet<_> = live.iter().collect();
    assert_eq!(people.len(), live.len(), "somebody is in two calls");
}

async fn what_is_overdue_is_in_nobodys_way(world: World) {
    let (ann, bob, cem) = (device(), device(), device());
    let overdue = world.overdue(ann, bob.user).await;
    assert!(world.get(&overdue).await.is_live(), "no timer has written it down");
    let settled = world.store.start_call(&start(cem, bob.user), &SPANS).await.unwrap();
    let Started::Call { call, .. } = settled.outcome else { panic!() };
    assert_eq!(call.stage, Stage::Ringing);
    let missed = world.get(&overdue).await;
    assert_eq!((outcome(&missed), missed.version), (Some(Outcome::Missed), 2));
    assert_eq!(settled.overdue, [missed]);
    // The caller is free too.
    world.rings(ann, UserId::generate()).await;
}

async fn an_answer_after_the_deadline_is_refused(world: World) {
    let (ann, bob) = (device(), device());
    let call = world.overdue(ann, bob.user).await;
    let late = world.act(&call, Act::Accept(bob)).await;
    assert_eq!(late.acted, Acted { changed: true, refusal: Some(Refusal::Over(Outcome::Missed)) });
    let ending = world.get(&call).await.ending().cloned().unwrap();
    assert_eq!((ending.outcome, ending.time), (Outcome::Missed, call.ring_until));
    assert!(late.now >= call.ring_until);
}

async fn each_live_call_has_its_timer_and_each_that_is_over_another(world: World) {
    let (ann, bob) = (device(), device());
    let call = world.rings(ann, bob.user).await;
    assert!(world.due(Kind::CallDeadline, SPANS.ring - SECOND).await.is_empty());
    let accepted = world.act(&call, Act::Accept(bob)).await;
    // It is another deadline now.
    assert!(world.due(Kind::CallDeadline, SPANS.ring + SECOND).await.is_empty());
    let due = world.due(Kind::CallDeadline, SPANS.connect + SECOND).await;
    assert_eq!(due.len(), 1);
    assert_eq!(Some(due[0].due_time), accepted.call.deadline());
    assert!(world.due(Kind::CallOutcome, SPANS.longest).await.is_empty());

    world.act(&call, Act::End(ann)).await;
    assert!(world.due(Kind::CallDeadline, 2 * SPANS.longest).await.is_empty());
    let due = world.due(Kind::CallOutcome, SECOND).await;
    assert_eq!(due.iter().map(|claim| CallId::from(claim.key.id)).collect::<Vec<_>>(), [call.id]);
    assert!(world.store.call_is_told(&due[0]).await.unwrap());
    assert!(!world.store.call_is_told(&due[0]).await.unwrap());
    assert!(world.due(Kind::CallOutcome, 2 * LEASE).await.is_empty());
    // The end again tells nobody again.
    world.act(&call, Act::End(bob)).await;
    assert!(world.due(Kind::CallOutcome, 2 * LEASE).await.is_empty());
}

async fn a_device_that_is_away_brings_the_deadline_forward_until_it_is_back(world: World) {
    let (ann, bob) = (device(), device());
    let call = world.rings(ann, bob.user).await;
    world.act(&call, Act::Accept(bob)).await;
    world.act(&call, Act::Connected(ann, None)).await;
    let before = world.act(&call, Act::Connected(bob, None)).await.call;
    let left = world.act(&call, Act::Left(bob)).await;
    assert_eq!(left.call.deadline(), Some(left.now.plus(SPANS.connect)));
    assert_eq!(world.get(&call).await, left.call);
    let users = [bob.user, ann.user, UserId::generate()];
    assert_eq!(world.store.live_calls(&users).await.unwrap(), std::slice::from_ref(&left.call));
    let due = world.due(Kind::CallDeadline, SPANS.connect + SECOND).await;
    assert_eq!(due.iter().map(|claim| Some(claim.due_time)).collect::<Vec<_>>(), [left.call.deadline()]);

    let back = world.act(&call, Act::Back(bob)).await.call;
    assert_eq!((back.deadline(), &back.stage), (before.deadline(), &before.stage));
    assert_eq!(world.get(&call).await, back);
    world.act(&call, Act::Left(ann)).await;
    let ended = world.act(&call, Act::SessionEnded(bob)).await.call;
    assert_eq!((outcome(&ended), ended.away.until()), (Some(Outcome::Ended), None));
    assert_eq!(world.get(&call).await, ended);
    assert!(world.store.live_calls(&users).await.unwrap().is_empty());
}

async fn a_change_takes_the_timer_from_who_has_claimed_it(world: World) {
    let (ann, bob) = (device(), device());
    let call = world.rings(ann, bob.user).await;
    let claim = world.due(Kind::CallDeadline, SPANS.ring).await.remove(0);
    let accepted = world.act(&call, Act::Accept(bob)).await;
    // Whoever has the old claim finds nothing to do, and the call keeps its timer.
    let passed = world.act(&call, Act::Pass).await;
    assert_eq!((passed.acted.changed, passed.call), (false, accepted.call));
    assert!(!world.store.call_is_told(&claim).await.unwrap());
    assert_eq!(world.due(Kind::CallDeadline, SPANS.connect + SECOND).await.len(), 1);
}

async fn so_many_in_a_minute(world: World) {
    let ann = device();
    let limited = |to| Start { per_minute: 3, ..start(ann, to) };
    for _ in 0..3 {
        let call = world.rings(ann, UserId::generate()).await;
        world.act(&call, Act::End(ann)).await;
    }
    let settled = world.store.start_call(&limited(UserId::generate()), &SPANS).await.unwrap();
    let Started::TooMany(wait) = settled.outcome else { panic!("{settled:?}") };
    assert!(wait <= 60 * SECOND && wait > 30 * SECOND, "{wait:?}");
    // Calls of others to her do not count, and neither does answering.
    let bob = device();
    let call = world.rings(bob, ann.user).await;
    let settled = world.store.start_call(&limited(bob.user), &SPANS).await.unwrap();
    assert!(matches!(settled.outcome, Started::Call { met: true, .. }), "{settled:?}");
    assert!(world.get(&call).await.talk().is_some());
}

async fn a_call_to_one_who_is_offline_is_missed_at_once(world: World) {
    let (ann, bob, cem) = (device(), device(), device());
    let offline = |from, to| Start { callee_offline: true, ..start(from, to) };
    let retry = Some(Retry { request_id: Uuid::from_u128(7), fingerprint: [1; 32] });
    let first = Start { retry, ..offline(ann, bob.user) };
    let settled = world.store.start_call(&first, &SPANS).await.unwrap();
    let Started::Call { call, met: false, changed: true } = settled.outcome else { panic!("{settled:?}") };
    assert_eq!((outcome(&call), call.ending().unwrap().time), (Some(Outcome::Missed), settled.now));
    assert_eq!(world.get(&call).await, *call);
    for user in [ann.user, bob.user] {
        assert_eq!(world.store.live_call(user).await.unwrap(), None);
        let listed = world.store.calls(&Listing::all(user, 10)).await.unwrap();
        assert_eq!(listed, [(*call).clone()]);
    }
    let missed = Listing { missed: true, ..Listing::all(bob.user, 10) };
    assert_eq!(world.store.calls(&missed).await.unwrap().len(), 1);
    // It has no deadline, and what follows waits at once.
    assert!(world.due(Kind::CallDeadline, 2 * SPANS.longest).await.is_empty());
    let due = world.due(Kind::CallOutcome, SECOND).await;
    assert_eq!(due.iter().map(|claim| CallId::from(claim.key.id)).collect::<Vec<_>>(), [call.id]);
    // The same again finds it.
    let again = Start { retry, ..offline(ann, bob.user) };
    let settled = world.store.start_call(&again, &SPANS).await.unwrap();
    let Started::Call { call: found, changed: false, .. } = settled.outcome else { panic!("{settled:?}") };
    assert_eq!(found, call);

    // Those who are in a call are so here too.
    let live = world.rings(bob, ann.user).await;
    let busy = world.store.start_call(&offline(cem, bob.user), &SPANS).await.unwrap();
    assert!(matches!(busy.outcome, Started::Call { call, .. } if outcome(&call) == Some(Outcome::Busy)));
    let refused = world.store.start_call(&offline(bob, cem.user), &SPANS).await.unwrap();
    assert_eq!(refused.outcome, Started::InCall(live.id));
    let met = world.store.start_call(&offline(ann, bob.user), &SPANS).await.unwrap();
    assert!(matches!(met.outcome, Started::Call { call, met: true, .. } if call.id == live.id));
    // It counts as a call that was begun; it begins none where only a call of the other is to be met.
    let limited = Start { per_minute: 1, ..offline(ann, UserId::generate()) };
    world.act(&live, Act::End(ann)).await;
    let settled = world.store.start_call(&limited, &SPANS).await.unwrap();
    assert!(matches!(settled.outcome, Started::TooMany(_)), "{settled:?}");
    let only_meet = Start { only_meet: true, ..offline(ann, bob.user) };
    assert_eq!(world.store.start_call(&only_meet, &SPANS).await.unwrap().outcome, Started::NotMet);
}

async fn pages_leave_nothing_out(world: World) {
    let ann = device();
    let mut made = Vec::new();
    for number in 0..7 {
        let bob = device();
        let call =
            if number % 2 == 0 { world.rings(ann, bob.user).await } else { world.rings(bob, ann.user).await };
        world.act(&call, Act::End(ann)).await;
        made.insert(0, call.id);
        if number % 3 == 0 {
            world.clock.advance(SECOND);
        }
    }
    let mut found: Vec<CallId> = Vec::new();
    let mut before = None;
    loop {
        let mut page = world.store.calls(&Listing { before, ..Listing::all(ann.user, 2) }).await.unwrap();
        let has_more = page.len() > 2;
        page.truncate(2);
        before = page.last().map(|call| (call.create_time, call.id));
        found.extend(page.iter().map(|call| call.id));
        if !has_more {
            break;
        }
    }
    assert_eq!(found, made);
}

async fn what_is_asked_for_is_found(world: World) {
    let (ann, bob, cem) = (device(), device(), device());
    let all = || Listing::all(ann.user, 100);
    let ids = async |listing: Listing| {
        let calls = world.store.calls(&listing).await.unwrap();
        calls.into_iter().map(|call| call.id).collect::<Vec<_>>()
    };
    let ended = world.rings(ann, bob.user).await;
    world.act(&ended, Act::Accept(bob)).await;
    world.act(&ended, Act::End(bob)).await;
    world.clock.advance(SECOND);
    let cancelled = world.rings(cem, ann.user).await;
    world.act(&cancelled, Act::End(cem)).await;
    world.clock.advance(SECOND);
    let given_up = world.rings(ann, cem.user).await;
    world.act(&given_up, Act::End(ann)).await;
    world.clock.advance(SECOND);
    let live = world.rings(ann, bob.user).await;
    world.clock.advance(SECOND);
    let Started::Call { call: busy, .. } = world.start(cem, ann.user).await else { panic!() };

    assert_eq!(ids(all()).await, [busy.id, live.id, given_up.id, cancelled.id, ended.id]);
    assert_eq!(ids(Listing { active: true, ..all() }).await, [live.id]);
    assert_eq!(ids(Listing { missed: true, ..all() }).await, [busy.id, cancelled.id]);
    let with = |peers: &[UserId]| Listing { peers: Some(peers.to_vec()), ..all() };
    assert_eq!(ids(with(&[bob.user])).await, [live.id, ended.id]);
    let both = [busy.id, live.id, given_up.id, cancelled.id, ended.id];
    assert_eq!(ids(with(&[UserId::generate(), cem.user, bob.user])).await, both);
    assert_eq!(ids(Listing { missed: true, ..with(&[bob.user, cem.user]) }).await, [busy.id, cancelled.id]);
    assert!(ids(with(&[])).await.is_empty());
    let over = StateName::Over(Outcome::Cancelled);
    assert_eq!(ids(Listing { state: Some(over), ..all() }).await, [given_up.id, cancelled.id]);
    assert_eq!(ids(Listing { state: Some(StateName::Ringing), ..all() }).await, [live.id]);
    assert!(ids(Listing::all(UserId::generate(), 10)).await.is_empty());
}

async fn the_people_of_the_latest_calls_come_first(world: World) {
    let (ann, bob, cem, dee) = (device(), device(), device(), device());
    for (from, to) in [(ann, bob), (cem, ann), (ann, dee), (ann, bob)] {
        let call = world.rings(from, to.user).await;
        world.act(&call, Act::End(from)).await;
        world.clock.advance(SECOND);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let peers = async |limit| world.store.call_peers(ann.user, limit).await.unwrap();
    assert_eq!(peers(10).await, [bob.user, dee.user, cem.user]);
    assert_eq!(peers(2).await, [bob.user, dee.user]);
    world.store.forget_caller(dee.user, &SPANS).await.unwrap();
    assert_eq!(peers(10).await, [bob.user, cem.user]);
    assert!(world.store.call_peers(UserId::generate(), 10).await.unwrap().is_empty());
}

async fn one_who_is_gone_is_forgotten(world: World) {
    let (ann, bob, cem) = (device(), device(), device());
    let before = world.rings(bob, ann.user).await;
    world.act(&before, Act::Reject(ann)).await;
    let call = world.rings(ann, bob.user).await;
    world.act(&call, Act::Accept(bob)).await;
    let ended = world.store.forget_caller(ann.user, &SPANS).await.unwrap();
    assert_eq!((ended.len(), outcome(&ended[0])), (1, Some(Outcome::Ended)));
    assert!(world.store.forget_caller(ann.user, &SPANS).await.unwrap().is_empty());
    // The other keeps both, without the name.
    let kept = world.store.calls(&Listing::all(bob.user, 10)).await.unwrap();
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|call| !call.has(ann.user) && call.peer_of(bob.user) == nobody()));
    assert!(kept.iter().all(|call| call.ending().unwrap().by != Some(ann.user)));
    assert!(world.store.calls(&Listing::all(ann.user, 10)).await.unwrap().is_empty());
    assert_eq!(world.start(ann, bob.user).await, Started::Gone(ann.user));
    assert_eq!(world.start(cem, ann.user).await, Started::Gone(ann.user));
    // What is over stays over.
    let late = world.act(&call, Act::End(bob)).await;
    assert!(!late.acted.changed && late.acted.refusal.is_none());
    // When both are gone nobody has it.
    world.store.forget_caller(bob.user, &SPANS).await.unwrap();
    assert_eq!(world.store.call(call.id).await.unwrap(), None);
}

async fn a_block_ends_the_call_of_the_two(world: World) {
    let (ann, bob, cem, dan) = (device(), device(), device(), device());
    let call = world.rings(ann, bob.user).await;
    let other = world.rings(cem, dan.user).await;
    let mut from = 0;
    let mut blocks = async |blocker: Device, blocked: Device| {
        let block = Block { blocker: blocker.user, blocked: blocked.user };
        let claim = facts::Claim::forward("conversation", from, from + 1);
        let parted = world.store.part(&claim, block, &SPANS).await.unwrap();
        from += 1;
        match parted {
            Parted::Done { call, cancelled: 0 } => call.map(|changed| changed.call),
            parted => panic!("{parted:?}"),
        }
    };
    assert_eq!(blocks(bob, cem).await, None);
    let over = blocks(bob, ann).await.unwrap();
    assert_eq!((outcome(&over), over.ending().unwrap().by), (Some(Outcome::Rejected), Some(bob.user)));
    assert_eq!(world.get(&call).await, over);
    assert_eq!(blocks(bob, ann).await, None);
    assert_eq!(world.store.live_call(ann.user).await.unwrap(), None);
    assert_eq!(world.get(&other).await, other);
    assert_eq!(world.due(Kind::CallOutcome, SECOND).await.len(), 1);
}
