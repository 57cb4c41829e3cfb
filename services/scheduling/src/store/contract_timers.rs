//! Many things due, many of them at once, with timers that stop and start in the middle: each is done once, none is
//! missed, and none is early. `PARLOR_TEST_PROFILE=long` does it with a hundred thousand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chassis::clock::{Clock, Timestamp};
use chassis::database::testing;
use chassis::database::{Database, postgres, sqlite};
use chassis::tasks::Tasks;
use proto::id::UserId;
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::Store;
use crate::MIGRATOR;
use crate::timer::{Claim, Kind, Timer, Timing};

const KIND: Kind = Kind::Reminder;
const PATIENCE: Duration = Duration::from_secs(20);

/// What was done, and how late.
#[derive(Clone, Default)]
struct Done(Arc<Mutex<HashMap<Uuid, Vec<Duration>>>>);

impl Done {
    async fn fire(self, store: Store, clock: Clock, claim: Claim) {
        let now = clock.now();
        assert!(now >= claim.due_time, "early");
        self.0.lock().unwrap().entry(claim.key.id).or_default().push(now.since(claim.due_time));
        store.drop_claim(&claim).await.unwrap();
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// As a replica has it.
fn start(store: &Store, clock: &Clock, done: &Done) -> Tasks {
    let tasks = Tasks::default();
    let timing = Timing {
        lease: Duration::from_secs(30),
        rate: 100_000,
        in_flight: 64,
        poll: Duration::from_millis(200),
        longest_retry: Duration::from_secs(1),
    };
    let timer = Timer::new(KIND, timing, store.clone(), tasks.clone());
    let (store, clock, done) = (store.clone(), clock.clone(), done.clone());
    tasks.spawn("timer", |shutdown| async move {
        timer.run(shutdown, |claim| done.clone().fire(store.clone(), clock.clone(), claim)).await;
    });
    tasks
}

macro_rules! insert {
    ($module:ident, $pool:expr, $rows:expr) => {{
        let mut tx = $pool.begin().await.unwrap();
        for lot in $rows.chunks(1000) {
            let mut insert = QueryBuilder::<$module::Db>::new(
                "INSERT INTO timers (owner_id, kind, id, lane, due_time, wake_time) ",
            );
            insert.push_values(lot, |mut row, (id, due): &(Uuid, Timestamp)| {
                row.push_bind(*id).push_bind(3_i64).push_bind(*id).push_bind(*id);
                row.push_bind(due.as_millis()).push_bind(due.as_millis());
            });
            insert.build().execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
    }};
}

async fn nothing_is_missed_or_done_twice(database: Database) {
    let is_long = std::env::var("PARLOR_TEST_PROFILE").is_ok_and(|profile| profile == "long");
    let (count, spread) = if is_long { (100_000, 60_000) } else { (2_000, 2_000) };
    let clock = Clock::system();
    let store = Store::new(database.clone(), clock.clone());
    let begin = store.now().await.unwrap().plus(Duration::from_millis(300));
    let same = begin.plus(Duration::from_millis(spread / 2));
    let rows: Vec<(Uuid, Timestamp)> = (0..count)
        .map(|n| {
            let due = match n % 5 {
                0 => same.plus(Duration::from_millis(fastrand::u64(..1000))),
                _ => begin.plus(Duration::from_millis(fastrand::u64(..spread))),
            };
            (UserId::generate().uuid(), due)
        })
        .collect();
    match &database {
        Database::Sqlite(pool) => insert!(sqlite, pool, rows),
        Database::Postgres(pool) => insert!(postgres, pool, rows),
    }
    let done = Done::default();
    let first = start(&store, &clock, &done);
    let second = start(&store, &clock, &done);
    // One stops while much is due, then the other; for a while nobody is there.
    tokio::time::sleep(Duration::from_millis(300 + spread / 2)).await;
    assert!(first.stop(PATIENCE).await);
    let third = start(&store, &clock, &done);
    tokio::time::sleep(Duration::from_millis(spread / 10)).await;
    assert!(second.stop(PATIENCE).await && third.stop(PATIENCE).await);
    assert!(done.count() > 0 && done.count() < rows.len(), "{} done in the middle", done.count());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let last = [start(&store, &clock, &done), start(&store, &clock, &done)];
    let end = tokio::time::Instant::now() + PATIENCE * if is_long { 30 } else { 2 };
    while done.count() < rows.len() {
        assert!(tokio::time::Instant::now() < end, "{} of {} are done", done.count(), rows.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for tasks in last {
        assert!(tasks.stop(PATIENCE).await);
    }
    let done = std::mem::take(&mut *done.0.lock().unwrap());
    let missed = rows.iter().filter(|(id, _)| !done.contains_key(id)).count();
    let twice = done.values().filter(|fired| fired.len() > 1).count();
    let mut late: Vec<Duration> = done.values().flatten().copied().collect();
    late.sort_unstable();
    let at = |share: usize| late[(late.len() - 1) * share / 100];
    println!(
        "{}: {} due, {missed} missed, {twice} twice; late by {:?} in the middle, {:?} for one in a hundred, {:?} at most",
        database.kind(),
        rows.len(),
        at(50),
        at(99),
        at(100)
    );
    assert_eq!((missed, twice), (0, 0));
    assert_eq!(store.next_wake_time(KIND, Timestamp::from_millis(0)).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_missed_or_done_twice_on_sqlite() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "scheduling").await;
    nothing_is_missed_or_done_twice(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_missed_or_done_twice_on_postgres() {
    let Some((database, _scratch)) = testing::postgres(&MIGRATOR, "scheduling").await else { return };
    nothing_is_missed_or_done_twice(database).await;
}
