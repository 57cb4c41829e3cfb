//! What the store promises, on both databases.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use chassis::clock::{Clock, Timestamp};
use chassis::database::Database;
use chassis::database::facts;
use chassis::database::testing::{self, Scratch};
use proto::id::{ConversationId, MessageId, ScheduledMessageId, UserId};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{Applied, Begun, Scheduled, Store, Tried};
use crate::MIGRATOR;
use crate::error::Error;
use crate::scheduled_message::{Changes, Content, Draft, Listing, Retry, ScheduledMessage, State, StateName};
use crate::timer::{Claim, Kind, Return};

const KIND: Kind = Kind::ScheduledMessage;
const LEASE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);
const MOST: u32 = 100_000;

/// A store that is made for the test.
struct World {
    store: Store,
    database: Database,
    clock: Clock,
    scratch: Scratch,
}

impl World {
    fn new((database, scratch): (Database, Scratch)) -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
        Self { store: Store::new(database.clone(), clock.clone()), database, clock, scratch }
    }

    async fn now(&self) -> Timestamp {
        self.store.now().await.unwrap()
    }

    /// Something of Ann's, in a conversation of its own.
    async fn schedule(&self, author: UserId, send_time: Timestamp) -> ScheduledMessage {
        self.schedule_in(author, ConversationId::generate(), send_time).await
    }

    async fn schedule_in(
        &self,
        author: UserId,
        conversation: ConversationId,
        send_time: Timestamp,
    ) -> ScheduledMessage {
        // Made a day ago, so that what is due now has its own time and not all the same.
        let made = self.now().await.minus(Duration::from_secs(86_400));
        let message = Draft { conversation, send_time, ..draft() }.scheduled(author, made);
        assert_eq!(self.store.schedule(&message, None, MOST).await.unwrap(), Scheduled::New);
        message
    }

    async fn claim(&self, limit: usize, now: Timestamp) -> Vec<Claim> {
        self.store.claim(KIND, limit, LEASE, now).await.unwrap()
    }

    async fn get(&self, message: &ScheduledMessage) -> ScheduledMessage {
        self.store.get(message.author, message.id).await.unwrap().unwrap()
    }

    async fn give_back(&self, claim: &Claim, in_doubt: bool) -> bool {
        let back = Return { due_time: claim.due_time, wake_time: claim.due_time, in_doubt };
        self.store.give_back(claim, back).await.unwrap()
    }
}

fn draft() -> Draft {
    Draft {
        conversation: ConversationId::generate(),
        content: Content::encoded(b"secret".to_vec()),
        send_time: Timestamp::from_millis(0),
        retry: None,
    }
}

fn sent() -> State {
    State::Sent(MessageId::generate())
}

fn failed() -> State {
    State::Failed("ERROR_REASON_WRITE_DENIED".to_owned())
}

fn ids(claims: &[Claim]) -> Vec<ScheduledMessageId> {
    claims.iter().map(|claim| claim.key.id.into()).collect()
}

fn all(author: UserId) -> Listing {
    Listing { author, conversation: None, state: None, after: None, limit: 1000 }
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
    what_was_scheduled_can_be_read,
    a_retry_finds_the_first,
    the_last_free_place_is_taken_once,
    pages_leave_nothing_out,
    nothing_is_claimed_before_its_time,
    what_is_due_first_is_claimed_first,
    a_lane_has_one_at_a_time_in_order,
    three_claimers_never_share,
    a_lane_keeps_its_order_with_three_claimers,
    only_the_last_claim_counts,
    a_lease_that_is_over_leaves_a_doubt,
    what_is_given_back_can_be_claimed_again,
    what_is_in_doubt_cannot_be_taken_back_or_changed,
    cancels_race_with_claims,
    edits_race_with_claims,
    what_is_claimed_by_hand_is_due_now,
    content_is_erased_when_nobody_needs_it,
    a_deleted_user_leaves_nothing,
    a_fact_takes_effect_once,
    a_restart_in_the_middle_loses_nothing,
    the_next_time_to_wake_is_known,
    the_time_is_one_for_all,
}

async fn what_was_scheduled_can_be_read(world: World) {
    let ann = UserId::generate();
    let now = world.now().await;
    let message = world.schedule(ann, now.plus(SECOND)).await;
    assert_eq!(world.get(&message).await, message);
    assert_eq!(world.store.get(UserId::generate(), message.id).await.unwrap(), None);
    assert_eq!(world.store.list(all(ann)).await.unwrap(), [message]);
    assert_eq!(world.store.list(all(UserId::generate())).await.unwrap(), []);
}

async fn a_retry_finds_the_first(world: World) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let now = world.now().await;
    let retry = Retry { request_id: Uuid::from_u128(7), fingerprint: [1; 32] };
    let make = |by| draft().scheduled(by, now);
    // Several tries at the same moment schedule once.
    let mut tries = JoinSet::new();
    for _ in 0..8 {
        let (store, message) = (world.store.clone(), make(ann));
        tries.spawn(async move { store.schedule(&message, Some(&retry), MOST).await.unwrap() });
    }
    let outcomes = tries.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Scheduled::New).count(), 1);
    let first = world.store.find(ann, Some(&retry)).await.unwrap().unwrap();
    let already = Scheduled::Already(first.clone());
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == already).count(), 7);
    assert_eq!(world.store.list(all(ann)).await.unwrap().len(), 1);

    let other = Retry { fingerprint: [2; 32], ..retry };
    assert!(matches!(world.store.find(ann, Some(&other)).await, Err(Error::RequestIdReused(_))));
    let reused = world.store.schedule(&make(ann), Some(&other), MOST).await;
    assert!(matches!(reused, Err(Error::RequestIdReused(_))), "{reused:?}");
    assert_eq!(world.store.find(bob, Some(&retry)).await.unwrap(), None);
    assert_eq!(world.store.schedule(&make(bob), Some(&retry), MOST).await.unwrap(), Scheduled::New);
    assert_eq!(world.store.find(ann, None).await.unwrap(), None);
}

async fn the_last_free_place_is_taken_once(world: World) {
    let ann = UserId::generate();
    let now = world.now().await;
    let mut work = JoinSet::new();
    for _ in 0..30 {
        let (store, message) = (world.store.clone(), draft().scheduled(ann, now));
        work.spawn(async move { store.schedule(&message, None, 5).await });
    }
    let outcomes = work.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 5);
    assert!(
        outcomes
            .iter()
            .flat_map(|o| o.as_ref().err())
            .all(|error| matches!(error, Error::TooManyPending { most: 5 }))
    );
    // A final one makes room, and somebody else has room of their own.
    let claim = world.claim(1, now).await.remove(0);
    world.store.finish(&claim, &sent()).await.unwrap().unwrap();
    for by in [ann, UserId::generate()] {
        assert_eq!(world.store.schedule(&draft().scheduled(by, now), None, 5).await.unwrap(), Scheduled::New);
    }
    assert!(world.store.schedule(&draft().scheduled(ann, now), None, 5).await.is_err());
}

async fn pages_leave_nothing_out(world: World) {
    let ann = UserId::generate();
    let conversation = ConversationId::generate();
    let now = world.now().await;
    let mut made = Vec::new();
    for n in 0..25_u32 {
        // Several have the same time.
        made.push(world.schedule_in(ann, conversation, now.plus(SECOND * (n % 4))).await);
        world.schedule(ann, now.plus(SECOND)).await;
    }
    made.sort_by_key(|message| (message.send_time, message.id));
    let mut seen = Vec::new();
    let mut listing = Listing { conversation: Some(conversation), limit: 4, ..all(ann) };
    loop {
        let rows = world.store.list(listing).await.unwrap();
        assert!(rows.len() <= 5);
        let more = rows.len() == 5;
        seen.extend(rows.into_iter().take(4));
        listing.after = seen.last().map(|message: &ScheduledMessage| (message.send_time, message.id));
        if !more {
            break;
        }
    }
    assert_eq!(seen, made);
    world.store.cancel(ann, made[0].id).await.unwrap();
    let in_state = |state| Listing { state: Some(state), ..all(ann) };
    assert_eq!(world.store.list(in_state(StateName::Cancelled)).await.unwrap().len(), 1);
    assert_eq!(world.store.list(in_state(StateName::Pending)).await.unwrap().len(), 49);
    assert_eq!(world.store.list(in_state(StateName::Sent)).await.unwrap().len(), 0);
}

async fn nothing_is_claimed_before_its_time(world: World) {
    let ann = UserId::generate();
    let due = world.now().await.plus(SECOND);
    let message = world.schedule(ann, due).await;
    let moment = Duration::from_millis(1);
    assert!(world.claim(10, due.minus(moment)).await.is_empty());
    let claims = world.claim(10, due).await;
    assert_eq!(ids(&claims), [message.id]);
    assert_eq!(
        (claims[0].due_time, claims[0].attempt, claims[0].in_doubt, claims[0].key.owner),
        (due, 1, false, ann)
    );
    assert!(world.claim(10, due.plus(moment)).await.is_empty());
}

async fn what_is_due_first_is_claimed_first(world: World) {
    let ann = UserId::generate();
    let now = world.now().await;
    let mut made = Vec::new();
    for n in 0..40_u32 {
        made.push(world.schedule(ann, now.minus(SECOND * (n * 17 % 40))).await);
    }
    made.sort_by_key(|message| message.send_time);
    let mut claimed = Vec::new();
    for _ in 0..5 {
        claimed.extend(ids(&world.claim(8, now).await));
    }
    assert_eq!(claimed, made.iter().map(|message| message.id).collect::<Vec<_>>());
}

async fn a_lane_has_one_at_a_time_in_order(world: World) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let now = world.now().await;
    let (lane, other) = (ConversationId::generate(), ConversationId::generate());
    let third = world.schedule_in(ann, lane, now.minus(SECOND)).await;
    let first = world.schedule_in(bob, lane, now.minus(SECOND * 3)).await;
    let second = world.schedule_in(ann, lane, now.minus(SECOND * 2)).await;
    let beside = world.schedule_in(ann, other, now).await;

    let claims = world.claim(10, now).await;
    assert_eq!(ids(&claims), [first.id, beside.id]);
    // It keeps its place while it is waited for.
    let wake_time = now.plus(SECOND);
    let back = Return { due_time: claims[0].due_time, wake_time, in_doubt: true };
    assert!(world.store.give_back(&claims[0], back).await.unwrap());
    assert!(world.claim(10, now).await.is_empty());
    let again = world.claim(10, wake_time).await;
    assert_eq!(ids(&again), [first.id]);
    // It lets others go first.
    let later = now.plus(SECOND * 60);
    let back = Return { due_time: later, wake_time: later, in_doubt: true };
    assert!(world.store.give_back(&again[0], back).await.unwrap());
    for expected in [&second, &third] {
        let claims = world.claim(10, wake_time).await;
        assert_eq!(ids(&claims), [expected.id]);
        world.store.finish(&claims[0], &sent()).await.unwrap().unwrap();
    }
    assert!(world.claim(10, wake_time).await.is_empty());
    world.store.finish(&claims[1], &sent()).await.unwrap().unwrap();
    assert_eq!(ids(&world.claim(10, later).await), [first.id]);
}

async fn three_claimers_never_share(world: World) {
    const MESSAGES: usize = 300;
    let now = world.now().await;
    for n in 0..MESSAGES {
        let author = UserId::from(Uuid::from_u128(n as u128 % 7 + 1));
        world.schedule(author, now.minus(Duration::from_millis(n as u64))).await;
    }
    let mut claimers = JoinSet::new();
    for _ in 0..3 {
        let store = world.store.clone();
        claimers.spawn(async move {
            let mut mine = Vec::new();
            let mut empty = 0;
            while empty < 5 {
                let claims = store.claim(KIND, 7, LEASE, now).await.unwrap();
                empty = if claims.is_empty() { empty + 1 } else { 0 };
                mine.extend(ids(&claims));
            }
            mine
        });
    }
    let claimed = claimers.join_all().await.concat();
    let different: HashSet<_> = claimed.iter().collect();
    assert_eq!((claimed.len(), different.len()), (MESSAGES, MESSAGES));
}

async fn a_lane_keeps_its_order_with_three_claimers(world: World) {
    const MESSAGES: u32 = 120;
    let now = world.now().await;
    let lanes: Vec<ConversationId> = (0..3).map(|_| ConversationId::generate()).collect();
    for n in 0..MESSAGES {
        let lane = lanes[n as usize % 3];
        world.schedule_in(UserId::generate(), lane, now.minus(SECOND * (n * 7 % MESSAGES))).await;
    }
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut claimers = JoinSet::new();
    for _ in 0..3 {
        let (store, order) = (world.store.clone(), order.clone());
        claimers.spawn(async move {
            let mut empty = 0;
            while empty < 50 {
                let claims = store.claim(KIND, 4, LEASE, now).await.unwrap();
                empty = if claims.is_empty() { empty + 1 } else { 0 };
                for claim in claims {
                    let message = store.get(claim.key.owner, claim.key.id.into()).await.unwrap().unwrap();
                    order.lock().unwrap().push((message.conversation, message.send_time));
                    store.finish(&claim, &sent()).await.unwrap().unwrap();
                }
            }
        });
    }
    claimers.join_all().await;
    let order = order.lock().unwrap();
    assert_eq!(order.len(), MESSAGES as usize);
    for lane in lanes {
        let times: Vec<_> = order.iter().filter(|(at, _)| *at == lane).map(|(_, time)| *time).collect();
        assert!(times.is_sorted(), "{times:?}");
    }
}

async fn only_the_last_claim_counts(world: World) {
    let ann = UserId::generate();
    let now = world.now().await;
    let message = world.schedule(ann, now).await;
    let first = world.claim(1, now).await.remove(0);
    let over = now.plus(LEASE);
    assert!(world.claim(1, over.minus(Duration::from_millis(1))).await.is_empty());
    let second = world.claim(1, over).await.remove(0);
    assert_eq!((second.key, second.attempt), (first.key, 2));
    assert!(world.store.finish(&first, &failed()).await.unwrap().is_none());
    assert!(!world.give_back(&first, false).await);
    assert_eq!(world.get(&message).await.state, State::Pending);
    let end = sent();
    assert_eq!(world.store.finish(&second, &end).await.unwrap().unwrap().state, end);
    for late in [&first, &second] {
        assert!(world.store.finish(late, &failed()).await.unwrap().is_none());
        assert!(!world.give_back(late, false).await);
    }
    assert_eq!(world.get(&message).await.state, end);
    assert!(world.claim(1, over.plus(LEASE)).await.is_empty());
}

async fn a_lease_that_is_over_leaves_a_doubt(world: World) {
    let ann = UserId::generate();
    let now = world.now().await;
    let message = world.schedule(ann, now).await;
    assert!(!world.claim(1, now).await[0].in_doubt);
    // Whoever had it may have sent it.
    assert_eq!(world.store.cancel(ann, message.id).await.unwrap(), Tried::BeingSent);
    let again = world.claim(1, now.plus(LEASE)).await.remove(0);
    assert!(again.in_doubt);
    assert!(world.give_back(&again, again.in_doubt).await);
    assert_eq!(world.store.cancel(ann, message.id).await.unwrap(), Tried::BeingSent);
}

async fn what_is_given_back_can_be_claimed_again(world: World) {
    let ann = UserId::generate();
    let now = world.now().await;
    let message = world.schedule(ann, now).await;
    let claim = world.claim(1, now).await.remove(0);
    let wake_time = now.plus(SECOND);
    let back = Return { due_time: wake_time, wake_time, in_doubt: false };
    assert!(world.store.give_back(&claim, back).await.unwrap());
    assert!(!world.store.give_back(&claim, back).await.unwrap());
    assert!(world.claim(1, now).await.is_empty());
    let again = world.claim(1, wake_time).await.remove(0);
    assert_eq!((again.attempt, again.in_doubt, again.due_time), (2, false, wake_time));
    assert!(world.give_back(&again, false).await);
    // Certainly not sent: it can be taken back.
    let Tried::Done(cancelled) = world.store.cancel(ann, message.id).await.unwrap() else { panic!() };
    assert_eq!((cancelled.state, cancelled.content), (State::Cancelled, None));
    assert!(world.claim(1, now.plus(LEASE)).await.is_empty());
}

async fn what_is_in_doubt_cannot_be_taken_back_or_changed(world: World) {
    let ann = UserId::generate();
    let now = world.now().await;
    let message = world.schedule(ann, now).await;
    let claim = world.claim(1, now).await.remove(0);
    let changes =
        Changes { content: Some(Content::encoded(b"other".to_vec())), send_time: Some(now.plus(SECOND)) };
    for _ in 0..2 {
        // Claimed at first, then given back in doubt.
        assert_eq!(world.store.cancel(ann, message.id).await.unwrap(), Tried::BeingSent);
        assert_eq!(world.store.change(ann, message.id, &changes).await.unwrap(), Tried::BeingSent);
        world.give_back(&claim, true).await;
    }
    assert_eq!(world.get(&message).await, message);
    // It can be sent again, at once, to find out.
    let Begun::Claimed(claim) = world.store.begin(ann, message.id, LEASE).await.unwrap() else { panic!() };
    assert!(claim.in_doubt);
    let end = sent();
    world.store.finish(&claim, &end).await.unwrap().unwrap();
    for tried in [
        world.store.cancel(ann, message.id).await.unwrap(),
        world.store.change(ann, message.id, &changes).await.unwrap(),
    ] {
        let Tried::Final(message) = tried else { panic!("{tried:?}") };
        assert_eq!(message.state, end);
    }
    assert!(matches!(world.store.cancel(UserId::generate(), message.id).await, Err(Error::NotFound(_))));
}

async fn cancels_race_with_claims(world: World) {
    const MESSAGES: usize = 500;
    let now = world.now().await;
    let mut made = Vec::new();
    for n in 0..MESSAGES {
        made.push(world.schedule(UserId::from(Uuid::from_u128(n as u128 % 20 + 1)), now).await);
    }
    let mut claimers = JoinSet::new();
    for _ in 0..3 {
        let store = world.store.clone();
        claimers.spawn(async move {
            let mut sent_by_me = Vec::new();
            let mut empty = 0;
            while empty < 20 {
                let claims = store.claim(KIND, 3, LEASE, now).await.unwrap();
                empty = if claims.is_empty() { empty + 1 } else { 0 };
                for claim in claims {
                    // From here on it may be seen by others.
                    sent_by_me.push(ScheduledMessageId::from(claim.key.id));
                    store.finish(&claim, &sent()).await.unwrap().unwrap();
                }
            }
            sent_by_me
        });
    }
    let mut cancels = JoinSet::new();
    for worker in 0..3 {
        let store = world.store.clone();
        // From the same end as the claimers, so that they meet.
        let share: Vec<_> = made.iter().skip(worker).step_by(3).cloned().collect();
        cancels.spawn(async move {
            let mut cancelled = Vec::new();
            for message in share {
                if let Tried::Done(message) = store.cancel(message.author, message.id).await.unwrap() {
                    cancelled.push(message.id);
                }
            }
            cancelled
        });
    }
    let cancelled: BTreeSet<_> = cancels.join_all().await.concat().into_iter().collect();
    let sent: BTreeSet<_> = claimers.join_all().await.concat().into_iter().collect();
    assert!(!cancelled.is_empty() && !sent.is_empty(), "they have not met");
    assert!(cancelled.is_disjoint(&sent), "both cancelled and sent");
    assert_eq!(cancelled.len() + sent.len(), MESSAGES, "{} cancelled, {} sent", cancelled.len(), sent.len());
    for message in &made {
        let expected = if cancelled.contains(&message.id) { StateName::Cancelled } else { StateName::Sent };
        assert_eq!(world.get(message).await.state.name(), expected);
    }
}

async fn edits_race_with_claims(world: World) {
    const MESSAGES: usize = 100;
    let now = world.now().await;
    let mut made = BTreeMap::new();
    for _ in 0..MESSAGES {
        let message = world.schedule(UserId::generate(), now).await;
        made.insert(message.id, message);
    }
    let mut edits = JoinSet::new();
    for message in made.values().cloned() {
        let store = world.store.clone();
        edits.spawn(async move {
            let changes = Changes { content: Some(Content::encoded(b"edited".to_vec())), send_time: None };
            let done =
                matches!(store.change(message.author, message.id, &changes).await.unwrap(), Tried::Done(_));
            (message.id, done)
        });
    }
    let mut claimed = BTreeMap::new();
    while claimed.len() < MESSAGES {
        for claim in world.claim(5, now).await {
            // What is read after the claim is what is sent: nothing changes it any more.
            let read = world.store.get(claim.key.owner, claim.key.id.into()).await.unwrap().unwrap();
            claimed.insert(read.id, read.content.unwrap().as_bytes() == b"edited");
        }
    }
    let edited: BTreeMap<_, _> = edits.join_all().await.into_iter().collect();
    assert_eq!(edited, claimed);
}

async fn what_is_claimed_by_hand_is_due_now(world: World) {
    let ann = UserId::generate();
    let now = world.now().await;
    let message = world.schedule(ann, now.plus(SECOND * 3600)).await;
    let Begun::Claimed(claim) = world.store.begin(ann, message.id, LEASE).await.unwrap() else { panic!() };
    // Nobody else gets it, whether by hand or by the timer.
    assert!(matches!(world.store.begin(ann, message.id, LEASE).await.unwrap(), Begun::BeingSent));
    let read = world.get(&message).await;
    assert!(read.send_time >= now && read.send_time < now.plus(SECOND * 60), "{read:?}");
    assert_eq!(claim.due_time, read.send_time);
    assert!(world.claim(1, read.send_time).await.is_empty());
    // Given back, it is due.
    assert!(world.give_back(&claim, false).await);
    let again = world.claim(1, read.send_time).await.remove(0);
    world.store.finish(&again, &sent()).await.unwrap().unwrap();
    assert!(matches!(world.store.begin(ann, message.id, LEASE).await.unwrap(), Begun::Final(_)));
    // What was due keeps its time.
    let overdue = world.schedule(ann, now.minus(SECOND)).await;
    let Begun::Claimed(claim) = world.store.begin(ann, overdue.id, LEASE).await.unwrap() else { panic!() };
    assert_eq!(claim.due_time, now.minus(SECOND));
    assert!(matches!(
        world.store.begin(UserId::generate(), overdue.id, LEASE).await,
        Err(Error::NotFound(_))
    ));
}

async fn content_is_erased_when_nobody_needs_it(world: World) {
    let ann = UserId::generate();
    let now = world.now().await;
    for (end, kept) in [(sent(), false), (failed(), true)] {
        let message = world.schedule(ann, now).await;
        let claim = world.claim(1, now).await.remove(0);
        let finished = world.store.finish(&claim, &end).await.unwrap().unwrap();
        assert_eq!((finished.content.is_some(), &finished.state), (kept, &end));
        assert_eq!(world.get(&message).await, finished);
    }
    let message = world.schedule(ann, now).await;
    world.store.cancel(ann, message.id).await.unwrap();
    assert_eq!(world.get(&message).await.content, None);
}

async fn a_deleted_user_leaves_nothing(world: World) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let now = world.now().await;
    let failed_before = world.schedule(ann, now).await;
    let claim = world.claim(1, now).await.remove(0);
    world.store.finish(&claim, &failed()).await.unwrap().unwrap();
    let [sends, fails] = [world.schedule(ann, now).await, world.schedule(ann, now).await];
    let claims = world.claim(2, now).await;
    let pending = world.schedule(ann, now.plus(SECOND)).await;
    let of_bob = world.schedule(bob, now.plus(SECOND)).await;

    let applied = world.store.apply(&facts::Claim::forward("auth", 0, 1), ann, now).await.unwrap();
    assert_eq!(applied, Applied::Ended { cancelled: 1 });
    let read = world.get(&pending).await;
    assert_eq!((read.state, read.content), (State::Cancelled, None));
    assert_eq!(world.get(&failed_before).await.content, None);
    // Those that were being sent find their end, and leave nothing either.
    for claim in &claims {
        let end = if claim.key.id == sends.id.uuid() { sent() } else { failed() };
        let finished = world.store.finish(claim, &end).await.unwrap().unwrap();
        assert_eq!((finished.state, finished.content), (end, None));
    }
    assert_eq!(world.get(&fails).await.content, None);
    assert_eq!(ids(&world.claim(10, now.plus(SECOND * 3600)).await), [of_bob.id]);
    let refused = world.store.schedule(&draft().scheduled(ann, now), None, MOST).await;
    assert!(matches!(refused, Err(Error::ConversationNotFound(_))), "{refused:?}");
}

async fn a_fact_takes_effect_once(world: World) {
    let ann = UserId::generate();
    let now = world.now().await;
    world.schedule(ann, now.plus(SECOND)).await;
    let mut replicas = JoinSet::new();
    for _ in 0..4 {
        let store = world.store.clone();
        replicas
            .spawn(async move { store.apply(&facts::Claim::forward("auth", 0, 2), ann, now).await.unwrap() });
    }
    let outcomes = replicas.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Applied::Overtaken).count(), 3);
    assert!(outcomes.contains(&Applied::Ended { cancelled: 1 }));
    assert_eq!(world.database.feed_cursor("auth").await.unwrap().position, 2);
}

async fn a_restart_in_the_middle_loses_nothing(world: World) {
    let ann = UserId::generate();
    let now = world.now().await;
    let [claimed, due, later] = [
        world.schedule(ann, now.minus(SECOND)).await,
        world.schedule(ann, now).await,
        world.schedule(ann, now.plus(SECOND)).await,
    ];
    assert_eq!(ids(&world.claim(1, now).await), [claimed.id]);
    let World { store, database, clock, scratch } = world;
    drop(store);
    database.close().await;
    let database = Database::open(&scratch.config(), "scheduling", &MIGRATOR).await.unwrap();
    let world = World { store: Store::new(database.clone(), clock.clone()), database, clock, scratch };
    assert_eq!(ids(&world.claim(10, now.plus(SECOND)).await), [due.id, later.id]);
    // The lease is a promise to a process that is gone; it ends all the same.
    let again = world.claim(10, now.plus(LEASE)).await;
    assert_eq!(ids(&again), [claimed.id]);
    assert!(again[0].in_doubt);
}

async fn the_next_time_to_wake_is_known(world: World) {
    let ann = UserId::generate();
    let now = world.now().await;
    let next = async |now| world.store.next_wake_time(KIND, now).await.unwrap();
    assert_eq!(next(now).await, None);
    world.schedule(ann, now.plus(SECOND * 5)).await;
    let sooner = world.schedule(ann, now.plus(SECOND)).await;
    assert_eq!(next(now).await, Some(now.plus(SECOND)));
    assert_eq!(next(now.plus(SECOND)).await, Some(now.plus(SECOND * 5)));
    let changes = Changes { send_time: Some(now.plus(SECOND * 600)), content: None };
    world.store.change(ann, sooner.id, &changes).await.unwrap();
    assert_eq!(next(now).await, Some(now.plus(SECOND * 5)));
    world.claim(1, now.plus(SECOND * 5)).await;
    // The lease ends by itself.
    assert_eq!(next(now.plus(SECOND * 5)).await, Some(now.plus(SECOND * 5).plus(LEASE)));
}

async fn the_time_is_one_for_all(world: World) {
    let before = world.now().await;
    match &world.database {
        // What the process says.
        Database::Sqlite(_) => {
            assert_eq!(before, world.clock.now());
            world.clock.advance(SECOND);
            assert_eq!(world.now().await, before.plus(SECOND));
        }
        // What the server says, whatever the process thinks.
        Database::Postgres(_) => {
            let wall = Clock::system().now();
            assert!(wall.since(before) < SECOND * 60 && before.since(wall) < SECOND * 60);
            world.clock.advance(SECOND * 86_400);
            assert!(world.now().await.since(before) < SECOND * 60);
        }
    }
}
