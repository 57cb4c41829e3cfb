//! What the store promises about bookings, on both databases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chassis::clock::{Clock, Timestamp};
use chassis::database::Database;
use chassis::database::facts;
use chassis::database::testing::{self, Scratch};
use proto::id::{ConversationId, MessageId, UserId};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{Booked, Booking, Failure, Store};
use crate::MIGRATOR;
use crate::calendar::availability::{CustomChanges, Ranges};
use crate::calendar::error::Refusal;
use crate::calendar::limits::{Daily, Limit};
use crate::calendar::recurrence::Recurrence;
use crate::calendar::schedule::{Filter, Listing, Media, Plan, Reminders, Schedule, Standing, Title};
use crate::calendar::slots::Span;
use crate::calendar::zone::{Day, Zone};
use crate::calls::CallsConfig;
use crate::conversations::Block;
use crate::error::Error;
use crate::scheduled_message::Retry;
use crate::store::Parted;
use crate::timer::{Claim, Kind};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const LEASE: Duration = Duration::from_secs(30);
const MOST: u32 = 100_000;

/// A store that is made for the test.
struct World {
    store: Store,
    /// When the test began: what is planned is counted from here, however long the test takes.
    begin: Timestamp,
    database: Database,
    _scratch: Scratch,
}

/// What is booked, and when it takes place.
#[derive(Clone, Debug)]
struct Made {
    schedule: Schedule,
    times: Vec<Span>,
}

impl Made {
    fn new(people: [UserId; 2], first: Span, rule: &str, now: Timestamp) -> Self {
        let plan = Plan {
            title: Title::parse("Tea").unwrap(),
            media: Media::Audio,
            first,
            zone: Zone::parse("Europe/Berlin").unwrap(),
            recurrence: Recurrence::from_text(rule).unwrap(),
            reminders: Reminders::default(),
        };
        let times = plan.recurrence.times(first, &plan.zone).unwrap();
        Self { schedule: Schedule::new(people[0], people[1], plan, &times, now), times }
    }

    /// The same at another time.
    fn moved(&self, first: Span, now: Timestamp) -> Self {
        let plan = Plan { first, ..self.schedule.plan.clone() };
        let times = plan.recurrence.times(first, &plan.zone).unwrap();
        let schedule = self.schedule.changed(plan, self.schedule.booker, &times, now);
        Self { schedule, times }
    }

    fn booking(&self) -> Booking<'_> {
        let (times, wanted) = (&self.times, &self.times);
        Booking { schedule: &self.schedule, times, wanted, gap: Duration::ZERO, daily: None }
    }
}

impl World {
    async fn new((database, scratch): (Database, Scratch)) -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
        let store = Store::new(database.clone(), clock);
        let begin = store.now().await.unwrap();
        Self { store, begin, database, _scratch: scratch }
    }

    async fn made(&self, people: [UserId; 2], after: Duration, rule: &str) -> Made {
        let now = self.begin;
        let start = now.plus(after);
        Made::new(people, Span::new(start, start.plus(HOUR)), rule, now)
    }

    async fn book(&self, people: [UserId; 2], after: Duration, rule: &str) -> Result<Made, Error> {
        let made = self.made(people, after, rule).await;
        self.store.book(made.booking(), None, MOST).await.map(|_| made)
    }

    async fn get(&self, made: &Made) -> Schedule {
        let schedule = &made.schedule;
        let now = self.begin;
        self.store.schedule_of(schedule.attendee, schedule.id, now).await.unwrap().unwrap()
    }

    async fn claims(&self, kind: Kind, now: Timestamp) -> Vec<Claim> {
        self.store.claim(kind, 1000, LEASE, now).await.unwrap()
    }

    async fn busy(&self, user: UserId) -> Vec<Span> {
        let now = self.begin;
        self.store.busy(user, Span::new(now.minus(DAY), now.plus(DAY * 800)), None).await.unwrap()
    }
}

fn people() -> [UserId; 2] {
    [UserId::generate(), UserId::generate()]
}

fn taken_by<T: std::fmt::Debug>(answer: Result<T, Error>) -> UserId {
    match answer.unwrap_err() {
        Error::Calendar(Refusal::SlotTaken { user, .. }) => user,
        error => panic!("{error:?}"),
    }
}

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $name() {
                    super::$name(World::new(testing::sqlite(&MIGRATOR, "scheduling").await).await).await;
                }
            )*
        }
        mod on_postgres {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $name() {
                    let Some(made) = testing::postgres(&MIGRATOR, "scheduling").await else { return };
                    super::$name(World::new(made).await).await;
                }
            )*
        }
    };
}

on_both! {
    what_was_booked_can_be_read,
    thedatabase_refuses_what_meets,
    what_is_refused_leaves_nothing,
    a_thousand_bookers_get_two_hundred_slots_once,
    whatever_is_done_nobody_is_in_two_calls,
    only_the_version_that_was_seen_is_changed,
    what_is_kept_free_around_is_kept_in_the_transaction,
    many_dates_are_kept_at_once,
    a_crowd_gets_two_a_day,
    a_day_is_counted_without_what_is_moved,
    a_retry_finds_the_first,
    a_newer_version_is_told_after_the_older,
    a_refusal_cancels_and_frees_the_time,
    an_old_reminder_writes_nothing_down,
    lists_have_places,
    who_is_gone_is_in_no_call,
    a_block_takes_effect_once_and_in_silence,
}

async fn what_was_booked_can_be_read(world: World) {
    let [ann, bob] = people();
    let made = world.book([ann, bob], HOUR, "FREQ=WEEKLY;COUNT=4").await.unwrap();
    assert_eq!(world.get(&made).await, made.schedule);
    assert_eq!(world.store.times(&made.schedule).await.unwrap(), made.times);
    for user in [ann, bob] {
        assert_eq!(world.busy(user).await, made.times);
        let within = Span::new(made.times[1].start.plus(MINUTE), made.times[2].start);
        assert_eq!(world.store.busy(user, within, None).await.unwrap(), made.times[1..2]);
    }
    let now = world.begin;
    let stranger = UserId::generate();
    assert_eq!(world.store.schedule_of(stranger, made.schedule.id, now).await.unwrap(), None);
    // What is next depends on when one asks.
    let later = world.store.schedule_of(ann, made.schedule.id, made.times[0].end).await.unwrap().unwrap();
    assert_eq!(later.next, Some(made.times[1]));
    let over = world.store.schedule_of(ann, made.schedule.id, made.times[3].end).await.unwrap().unwrap();
    assert_eq!(over.next, None);
}

async fn thedatabase_refuses_what_meets(world: World) {
    let [ann, bob] = people();
    let cem = UserId::generate();
    world.book([ann, bob], 10 * HOUR, "FREQ=DAILY;COUNT=3").await.unwrap();
    for after in [10 * HOUR, 9 * HOUR + MINUTE, 10 * HOUR + 59 * MINUTE, 34 * HOUR, 58 * HOUR] {
        assert_eq!(taken_by(world.book([cem, bob], after, "").await), bob);
        assert_eq!(taken_by(world.book([ann, cem], after, "").await), ann);
        assert_eq!(taken_by(world.book([bob, cem], after, "").await), bob);
    }
    // Far around it, and in the middle of one that comes again.
    let now = world.begin;
    let long = Made::new([cem, ann], Span::new(now.plus(HOUR), now.plus(HOUR + DAY)), "", now);
    assert_eq!(taken_by(world.store.book(long.booking(), None, MOST).await), ann);
    assert_eq!(
        taken_by(
            world
                .book([cem, bob], HOUR, "FREQ=DAILY;COUNT=2")
                .await
                .and(world.book([cem, bob], 34 * HOUR + 30 * MINUTE, "").await,)
        ),
        bob
    );
    // What touches does not meet, and others are not concerned.
    world.book([cem, bob], 9 * HOUR, "").await.unwrap();
    world.book([cem, ann], 11 * HOUR, "").await.unwrap();
    world.book(people(), 10 * HOUR, "").await.unwrap();
}

async fn what_is_refused_leaves_nothing(world: World) {
    let [ann, bob] = people();
    let cem = UserId::generate();
    // The last of many is the one that meets.
    world.book([ann, bob], 20 * DAY, "").await.unwrap();
    let now = world.begin;
    let before = world.claims(Kind::Booking, now).await.len();
    assert_eq!(taken_by(world.book([cem, bob], MINUTE, "FREQ=DAILY").await), bob);
    assert_eq!(world.busy(cem).await, []);
    assert_eq!(world.busy(bob).await.len(), 1);
    assert_eq!(world.claims(Kind::Booking, now.plus(DAY)).await.len(), before, "a timer without a booking");
    assert_eq!(world.claims(Kind::Reminder, now.plus(DAY)).await.len(), 0);
    let made = world.book([cem, ann], HOUR, "").await.unwrap();
    let onto = made.moved(Span::new(now.plus(20 * DAY), now.plus(20 * DAY + HOUR)), now);
    assert_eq!(taken_by(world.store.rebook(onto.booking(), true).await), ann);
    assert_eq!((world.get(&made).await, world.busy(cem).await), (made.schedule.clone(), made.times));
}

async fn a_thousand_bookers_get_two_hundred_slots_once(world: World) {
    const BOOKERS: usize = 1000;
    const SLOTS: usize = 200;
    let ann = UserId::generate();
    let now = world.begin;
    // As many at a time as a service takes on.
    let room = Arc::new(Semaphore::new(64));
    let mut crowd = JoinSet::new();
    for n in 0..BOOKERS {
        let (store, room) = (world.store.clone(), room.clone());
        // Bookers of a slot come one after the other, so that they meet.
        let slot = n / (BOOKERS / SLOTS);
        crowd.spawn(async move {
            let _turn = room.acquire().await.unwrap();
            let start = now.plus(HOUR * u32::try_from(slot).unwrap() + HOUR);
            let made = Made::new([UserId::generate(), ann], Span::new(start, start.plus(HOUR)), "", now);
            loop {
                match store.book(made.booking(), None, MOST).await {
                    Ok(_) => return Some(slot),
                    Err(Error::Calendar(Refusal::SlotTaken { user, .. })) => {
                        assert_eq!(user, ann);
                        return None;
                    }
                    // As any caller would.
                    Err(Error::Store(Failure::Transient(_))) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
    }
    let mut won: Vec<_> = crowd.join_all().await.into_iter().flatten().collect();
    won.sort_unstable();
    assert_eq!(won, (0..SLOTS).collect::<Vec<_>>());
    let busy = world.busy(ann).await;
    assert_eq!(busy.len(), SLOTS);
    assert!(busy.is_sorted_by(|one, next| one.end <= next.start));
}

async fn whatever_is_done_nobody_is_in_two_calls(world: World) {
    const RULES: [&str; 4] = ["", "", "FREQ=DAILY;COUNT=4", "FREQ=WEEKLY;COUNT=3"];
    let crowd: Vec<UserId> = (0..5).map(|_| UserId::generate()).collect();
    let now = world.begin;
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let (store, crowd) = (world.store.clone(), crowd.clone());
        tasks.spawn(async move {
            let mut standing: Vec<Made> = Vec::new();
            let mut refused = 0;
            for _ in 0..40 {
                let start = now.plus(MINUTE * fastrand::u32(30..4000));
                let first = Span::new(start, start.plus(MINUTE * fastrand::u32(5..300)));
                let done = match (fastrand::u8(..3), standing.is_empty()) {
                    (0, false) => {
                        let made = standing.swap_remove(fastrand::usize(..standing.len()));
                        store.cancel_booking(&made.schedule, made.schedule.booker, now).await.map(|_| ())
                    }
                    (1, false) => {
                        let place = fastrand::usize(..standing.len());
                        let moved = standing[place].moved(first, now);
                        let done = store.rebook(moved.booking(), true).await.map(|_| ());
                        if done.is_ok() {
                            standing[place] = moved;
                        }
                        done
                    }
                    _ => {
                        let (one, other) = (fastrand::usize(..5), fastrand::usize(1..5));
                        let people = [crowd[one], crowd[(one + other) % 5]];
                        let rule = RULES[fastrand::usize(..RULES.len())];
                        let made = Made::new(people, first, rule, now);
                        let done = store.book(made.booking(), None, MOST).await.map(|_| ());
                        if done.is_ok() {
                            standing.push(made);
                        }
                        done
                    }
                };
                match done {
                    Ok(()) => {}
                    Err(Error::Calendar(Refusal::SlotTaken { .. })) => refused += 1,
                    Err(error) => panic!("{error:?}"),
                }
            }
            (standing, refused)
        });
    }
    let (mut expected, mut refused) = (BTreeMap::<UserId, Vec<Span>>::new(), 0);
    for (standing, count) in tasks.join_all().await {
        refused += count;
        for made in standing {
            for user in [made.schedule.booker, made.schedule.attendee] {
                expected.entry(user).or_default().extend(&made.times);
            }
        }
    }
    assert!(refused > 0, "they have not met");
    for user in crowd {
        let busy = world.busy(user).await;
        assert!(busy.is_sorted_by(|one, next| one.end <= next.start), "{busy:?}");
        let mut expected = expected.remove(&user).unwrap_or_default();
        expected.sort_unstable();
        assert_eq!(busy, expected);
    }
}

async fn only_the_version_that_was_seen_is_changed(world: World) {
    let made = world.book(people(), HOUR, "").await.unwrap();
    let now = world.begin;
    let mut tries = JoinSet::new();
    for n in 0..6_u32 {
        let (store, made) = (world.store.clone(), made.clone());
        tries.spawn(async move {
            let start = now.plus(HOUR * (n + 2));
            if n % 2 == 0 {
                store.cancel_booking(&made.schedule, made.schedule.attendee, now).await.unwrap()
            } else {
                let moved = made.moved(Span::new(start, start.plus(HOUR)), now);
                store.rebook(moved.booking(), true).await.unwrap()
            }
        });
    }
    let won = tries.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
    let found = world.get(&made).await;
    assert_eq!(found.version, 2);
    let times = usize::from(found.standing == Standing::Booked);
    assert_eq!(world.busy(made.schedule.booker).await.len(), times);
}

async fn what_is_kept_free_around_is_kept_in_the_transaction(world: World) {
    let gap = 20 * MINUTE;
    let book = async |bob, after| {
        let start = world.begin.plus(after);
        let time = Span::new(start, start.plus(HOUR));
        let made = Made::new([UserId::generate(), bob], time, "", world.begin);
        world.store.book(Booking { gap, ..made.booking() }, None, MOST).await
    };
    let near = MINUTE * 19;
    for (after, is_apart) in
        [(9 * HOUR - near, false), (9 * HOUR - gap, true), (11 * HOUR + near, false), (11 * HOUR + gap, true)]
    {
        // Which of the two is there first makes no difference.
        for [first, second] in [[10 * HOUR, after], [after, 10 * HOUR]] {
            let bob = UserId::generate();
            book(bob, first).await.unwrap();
            match book(bob, second).await {
                Ok(booked) => assert!(is_apart, "{booked:?}"),
                Err(Error::Calendar(Refusal::SlotNotFree { user, .. })) => {
                    assert!(user == bob && !is_apart, "{first:?} {second:?}");
                }
                Err(error) => panic!("{error:?}"),
            }
            assert_eq!(taken_by(book(bob, first).await), bob);
        }
    }
}

async fn many_dates_are_kept_at_once(world: World) {
    let ann = UserId::generate();
    let first = Day::parse("2027-02-01").unwrap();
    let evening = Ranges::from_text("18:00-20:00").unwrap();
    let set = |days: std::ops::Range<i64>, ranges: &Ranges| {
        days.map(|days| (first.plus(days), ranges.clone())).collect::<BTreeMap<_, _>>()
    };
    let change = async |changes: CustomChanges| {
        world.store.set_custom(ann, &changes, first, world.begin).await.unwrap();
        world.store.availability(ann, first).await.unwrap().unwrap().custom
    };
    let all = set(0..600, &evening);
    assert_eq!(change(CustomChanges { set: all.clone().into_iter().collect(), removed: vec![] }).await, all);
    // Some are said anew, some are taken back, and all others stay.
    let closed = set(100..450, &Ranges::default());
    let removed = (450..590).chain([700]).map(|days| first.plus(days));
    let changes = CustomChanges { set: closed.clone().into_iter().collect(), removed: removed.collect() };
    let mut expected = all;
    expected.extend(closed);
    expected.retain(|day, _| !(450..590).contains(&day.since(first)));
    assert_eq!(change(changes).await, expected);
    assert_eq!(world.store.availability(UserId::generate(), first).await.unwrap(), None);
}

/// The start of the time that is one too many on its day.
fn one_too_many<T: std::fmt::Debug>(answer: Result<T, Error>) -> Timestamp {
    match answer.unwrap_err() {
        Error::Calendar(Refusal::CallLimit { limit: Limit::MaxCallsPerDay, start, .. }) => start,
        error => panic!("{error:?}"),
    }
}

async fn a_crowd_gets_two_a_day(world: World) {
    const DAYS: u32 = 3;
    let ann = UserId::generate();
    let daily = Daily { most: 2, zone: Zone::parse("Asia/Kathmandu").unwrap() };
    // The next midnight there, and half an hour.
    let now = world.begin;
    let begin = now.plus(DAY).minus(Duration::from_millis(daily.zone.local(now).millis.unsigned_abs()));
    let mut crowd = JoinSet::new();
    for n in 0..12 * DAYS {
        let (store, daily) = (world.store.clone(), daily.clone());
        crowd.spawn(async move {
            let start = begin.plus(DAY * (n % DAYS) + HOUR * (n / DAYS) + 30 * MINUTE);
            let made = Made::new([UserId::generate(), ann], Span::new(start, start.plus(HOUR)), "", now);
            loop {
                let booking = Booking { daily: Some(&daily), ..made.booking() };
                match store.book(booking, None, MOST).await {
                    Ok(_) => return Some(n % DAYS),
                    Err(Error::Calendar(Refusal::CallLimit { user, limit, start: at })) => {
                        assert_eq!((user, limit, at), (ann, Limit::MaxCallsPerDay, start));
                        return None;
                    }
                    // As any caller would.
                    Err(Error::Store(Failure::Transient(_))) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
    }
    let mut won: Vec<_> = crowd.join_all().await.into_iter().flatten().collect();
    won.sort_unstable();
    assert_eq!(won, [0, 0, 1, 1, 2, 2]);
    assert_eq!(world.busy(ann).await.len(), 6);
}

async fn a_day_is_counted_without_what_is_moved(world: World) {
    let [ann, bob] = people();
    let daily = Daily { most: 1, zone: Zone::utc() };
    let now = world.begin;
    let midnight = now.plus(DAY).minus(Duration::from_millis(daily.zone.local(now).millis.unsigned_abs()));
    let at = |hours: u32| Span::new(midnight.plus(HOUR * hours), midnight.plus(HOUR * (hours + 1)));
    let book = async |made: &Made| {
        let booking = Booking { daily: Some(&daily), ..made.booking() };
        world.store.book(booking, None, MOST).await
    };
    let made = Made::new([ann, bob], at(10), "FREQ=DAILY;COUNT=2", now);
    book(&made).await.unwrap();
    // Each time of one that comes again is counted, and nothing of what is refused is there.
    let cem = UserId::generate();
    let second = Made::new([cem, bob], at(37), "", now);
    assert_eq!(one_too_many(book(&second).await), at(37).start);
    let series = Made::new([cem, bob], at(60), "FREQ=DAILY;COUNT=3", now);
    let last = Made::new([ann, bob], at(110), "", now);
    book(&last).await.unwrap();
    assert_eq!(one_too_many(book(&series).await), series.times[2].start);
    assert_eq!(world.busy(cem).await, []);
    // What is moved does not stand in its own way, and others do.
    let rebook = async |moved: &Made| {
        world.store.rebook(Booking { daily: Some(&daily), ..moved.booking() }, true).await
    };
    let moved = made.moved(at(12), now);
    assert!(rebook(&moved).await.unwrap());
    let onto = moved.moved(at(84), now);
    assert_eq!(one_too_many(rebook(&onto).await), onto.times[1].start);
    assert_eq!(world.get(&made).await, moved.schedule);
    assert_eq!(world.busy(ann).await.len(), 3);
}

async fn a_retry_finds_the_first(world: World) {
    let people = people();
    let retry = Retry { request_id: Uuid::from_u128(7), fingerprint: [1; 32] };
    let now = world.begin;
    let mut tries = JoinSet::new();
    for _ in 0..6 {
        let (store, made) = (world.store.clone(), world.made(people, HOUR, "").await);
        tries.spawn(async move { store.book(made.booking(), Some(&retry), MOST).await.unwrap() });
    }
    let outcomes = tries.join_all().await;
    let first = world.store.find_booking(people[0], Some(&retry), now).await.unwrap().unwrap();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Booked::New).count(), 1);
    let already = Booked::Already(Box::new(first));
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == already).count(), 5);
    let other = Retry { fingerprint: [2; 32], ..retry };
    let reused = world.store.find_booking(people[0], Some(&other), now).await;
    assert!(matches!(reused, Err(Error::RequestIdReused(_))), "{reused:?}");
    assert!(world.store.find_booking(people[1], Some(&retry), now).await.unwrap().is_none());
    let third = world.made(people, 5 * HOUR, "").await;
    let full = world.store.book(third.booking(), None, 1).await;
    assert!(matches!(full, Err(Error::Calendar(Refusal::TooMany { most: 1 }))), "{full:?}");
}

async fn a_newer_version_is_told_after_the_older(world: World) {
    let made = world.book(people(), HOUR, "").await.unwrap();
    let now = world.begin;
    let claim = world.claims(Kind::Booking, now).await.remove(0);
    // While somebody is telling of the first version nobody else begins with the second.
    let start = now.plus(3 * HOUR);
    let moved = made.moved(Span::new(start, start.plus(HOUR)), now);
    assert!(world.store.rebook(moved.booking(), true).await.unwrap());
    assert_eq!(world.claims(Kind::Booking, now).await.len(), 0);
    let message = (ConversationId::generate(), MessageId::generate());
    assert!(world.store.finish_delivery(&claim, 1, Some(message)).await.unwrap());
    let found = world.get(&made).await;
    assert_eq!((found.version, found.told, found.message), (2, 1, Some(message)));
    let later = world.store.now().await.unwrap();
    let claim = world.claims(Kind::Booking, later).await.remove(0);
    let newer = (message.0, MessageId::generate());
    assert!(world.store.finish_delivery(&claim, 2, Some(newer)).await.unwrap());
    assert!(!world.store.finish_delivery(&claim, 2, Some(message)).await.unwrap());
    assert_eq!(world.get(&made).await.message, Some(newer));
    assert_eq!(world.claims(Kind::Booking, later.plus(DAY)).await.len(), 0);
    // What had no message keeps the one before.
    assert!(
        world.store.cancel_booking(&world.get(&made).await, made.schedule.attendee, later).await.unwrap()
    );
    let claim = world.store.claim_delivery(&made.schedule, LEASE).await.unwrap().unwrap();
    assert!(world.store.claim_delivery(&made.schedule, LEASE).await.unwrap().is_none());
    assert!(world.store.finish_delivery(&claim, 3, None).await.unwrap());
    assert_eq!((world.get(&made).await.told, world.get(&made).await.message), (3, Some(newer)));
}

async fn a_refusal_cancels_and_frees_the_time(world: World) {
    for is_known in [true, false] {
        let people = people();
        let made = world.book(people, HOUR, "FREQ=DAILY;COUNT=3").await.unwrap();
        let now = world.begin;
        let claim = world.store.claim_delivery(&made.schedule, LEASE).await.unwrap().unwrap();
        assert!(world.store.refuse_delivery(&claim, 1, "ERROR_REASON_X", is_known).await.unwrap());
        let found = world.get(&made).await;
        assert_eq!((found.version, found.actor), (2, None));
        assert_eq!(found.standing, Standing::Refused("ERROR_REASON_X".to_owned()));
        assert_eq!(world.busy(people[1]).await, []);
        let left = world.store.claim_delivery(&made.schedule, LEASE).await.unwrap();
        assert_eq!(left.is_some(), !is_known);
        assert_eq!(world.claims(Kind::Reminder, now.plus(5 * DAY)).await.len(), 0);
    }
    // What was changed meanwhile is not what was refused.
    let made = world.book(people(), HOUR, "").await.unwrap();
    let claim = world.store.claim_delivery(&made.schedule, LEASE).await.unwrap().unwrap();
    let now = world.begin;
    let start = now.plus(9 * HOUR);
    let moved = made.moved(Span::new(start, start.plus(HOUR)), now);
    assert!(world.store.rebook(moved.booking(), true).await.unwrap());
    assert!(!world.store.refuse_delivery(&claim, 1, "ERROR_REASON_X", false).await.unwrap());
    assert_eq!(world.get(&made).await.standing, Standing::Booked);
    assert!(world.store.claim_delivery(&made.schedule, LEASE).await.unwrap().is_some());
}

async fn an_old_reminder_writes_nothing_down(world: World) {
    let made = world.book(people(), HOUR, "FREQ=DAILY;COUNT=2").await.unwrap();
    let due = made.schedule.reminding.at.unwrap();
    assert_eq!(due, made.times[0].start.minus(10 * MINUTE));
    assert_eq!(world.claims(Kind::Reminder, due.minus(Duration::from_millis(1))).await.len(), 0);
    let first = world.claims(Kind::Reminder, due).await.remove(0);
    let next = made.times[0].start;
    assert!(world.store.finish_reminder(&first, &made.schedule, true, Some(next)).await.unwrap());
    let found = world.get(&made).await;
    assert_eq!((found.reminding.count, found.reminding.at), (1, Some(next)));
    // Whoever slept over that comes back with a claim of the same number.
    let second = world.claims(Kind::Reminder, next).await.remove(0);
    assert_eq!(first.attempt, second.attempt);
    assert!(!world.store.finish_reminder(&first, &made.schedule, true, Some(next)).await.unwrap());
    // And whoever reminds of what was moved meanwhile.
    let now = world.begin;
    let start = now.plus(3 * HOUR);
    let moved =
        Made { schedule: found.clone(), ..made.clone() }.moved(Span::new(start, start.plus(HOUR)), now);
    assert!(world.store.rebook(moved.booking(), true).await.unwrap());
    assert!(!world.store.finish_reminder(&second, &found, true, None).await.unwrap());
    let found = world.get(&made).await;
    assert_eq!((found.reminding.count, found.reminding.at), (0, Some(start.minus(10 * MINUTE))));
    let third = world.claims(Kind::Reminder, start).await.remove(0);
    assert!(world.store.finish_reminder(&third, &found, false, None).await.unwrap());
    assert_eq!(world.get(&made).await.reminding.count, 0);
    assert_eq!(world.claims(Kind::Reminder, start.plus(DAY * 9)).await.len(), 0);
}

async fn lists_have_places(world: World) {
    let [ann, bob] = people();
    let mut made = Vec::new();
    for hours in [5, 1, 3, 7] {
        made.push(world.book([ann, bob], HOUR * hours, "").await.unwrap());
    }
    made.sort_by_key(|made| made.schedule.plan.first.start);
    let now = world.begin;
    let listing =
        Listing { user: bob, filter: Filter::Upcoming, keyword: String::new(), after: None, limit: 2, now };
    let first = world.store.list_schedules(&listing).await.unwrap();
    let ids: Vec<_> = first.iter().map(|(_, schedule)| schedule.id).collect();
    assert_eq!(ids, made[..3].iter().map(|made| made.schedule.id).collect::<Vec<_>>());
    let rest = Listing { after: Some(first[1].0), ..listing.clone() };
    let rest = world.store.list_schedules(&rest).await.unwrap();
    assert_eq!(
        rest.iter().map(|(_, schedule)| schedule.id).collect::<Vec<_>>(),
        [made[2].schedule.id, made[3].schedule.id,]
    );
    let stranger = Listing { user: UserId::generate(), ..listing.clone() };
    assert_eq!(world.store.list_schedules(&stranger).await.unwrap(), []);
    let past = Listing { filter: Filter::Past, now: made[1].times[0].end, ..listing.clone() };
    let past = world.store.list_schedules(&past).await.unwrap();
    assert_eq!(
        past.iter().map(|(_, schedule)| schedule.id).collect::<Vec<_>>(),
        [made[1].schedule.id, made[0].schedule.id,]
    );
}

async fn who_is_gone_is_in_no_call(world: World) {
    let [ann, bob] = people();
    let cem = UserId::generate();
    let booked = world.book([ann, bob], HOUR, "FREQ=DAILY;COUNT=3").await.unwrap();
    let with_her = world.book([cem, ann], 3 * HOUR, "").await.unwrap();
    let other = world.book([cem, bob], 5 * HOUR, "").await.unwrap();
    let now = world.begin;
    world.store.apply(&facts::Claim::forward("auth", 0, 1), ann, now).await.unwrap();
    assert!(world.store.is_gone(ann).await.unwrap() && !world.store.is_gone(bob).await.unwrap());
    for made in [&booked, &with_her] {
        let id = made.schedule.id;
        let seen = world.store.schedule_of(made.schedule.other(ann), id, now).await.unwrap().unwrap();
        assert_eq!((seen.standing, seen.actor, seen.version), (Standing::Cancelled, Some(ann), 2));
        assert!(world.store.claim_delivery(&made.schedule, LEASE).await.unwrap().is_some());
    }
    assert_eq!(world.get(&other).await, other.schedule);
    assert_eq!((world.busy(ann).await, world.busy(bob).await), (vec![], other.times));
    let refused = world.book([bob, ann], 9 * HOUR, "").await;
    assert!(matches!(refused, Err(Error::Calendar(Refusal::UserNotFound(user))) if user == ann));
    world.store.apply(&facts::Claim::forward("auth", 1, 2), bob, now).await.unwrap();
    assert_eq!(world.store.schedule_of(bob, booked.schedule.id, now).await.unwrap(), None);
    assert!(world.store.schedule_of(bob, other.schedule.id, now).await.unwrap().is_some());
}

async fn a_block_takes_effect_once_and_in_silence(world: World) {
    let [ann, bob] = people();
    let cem = UserId::generate();
    let spans = CallsConfig::default().spans();
    let by_her = world.book([ann, bob], HOUR, "FREQ=DAILY;COUNT=3").await.unwrap();
    let by_him = world.book([bob, ann], 3 * HOUR, "").await.unwrap();
    let other = world.book([cem, bob], 5 * HOUR, "").await.unwrap();
    // Somebody is telling of it at this moment, and has not written that down.
    let telling = world.store.claim_delivery(&by_her.schedule, LEASE).await.unwrap().unwrap();
    let block = Block { blocker: bob, blocked: ann };
    let mut replicas = JoinSet::new();
    for _ in 0..4 {
        let store = world.store.clone();
        replicas.spawn(async move {
            loop {
                match store.part(&facts::Claim::forward("conversation", 0, 4), block, &spans).await {
                    // As any feed would.
                    Err(Error::Store(Failure::Transient(_))) => {}
                    parted => return parted.unwrap(),
                }
            }
        });
    }
    let outcomes = replicas.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Parted::Overtaken).count(), 3);
    assert!(outcomes.contains(&Parted::Done { call: None, cancelled: 2 }));
    assert_eq!(world.database.feed_cursor("conversation").await.unwrap().position, 4);
    assert!(!world.store.finish_delivery(&telling, 1, None).await.unwrap());
    for made in [&by_her, &by_him] {
        let found = world.get(made).await;
        assert_eq!(
            (found.standing, found.actor, found.version, found.told),
            (Standing::Cancelled, Some(bob), 2, 2)
        );
        assert!(world.store.claim_delivery(&made.schedule, LEASE).await.unwrap().is_none());
    }
    assert_eq!(world.get(&other).await, other.schedule);
    assert_eq!((world.busy(ann).await, world.busy(bob).await), (vec![], other.times.clone()));
    let reminders = world.claims(Kind::Reminder, world.begin.plus(9 * DAY)).await;
    assert_eq!(reminders.iter().map(|claim| claim.key.id).collect::<Vec<_>>(), [other.schedule.id.uuid()]);
}
