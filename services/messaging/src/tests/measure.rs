
use super::*;
use std::time::Instant;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

async fn measure(name: &str, world: World) {
    let people: [UserId; 64] = world.people();
    let groups: Vec<_> = (0..100).map(|n| { let a = people[n % 64]; let b = people[(n * 7 + 1) % 64]; world.group(&[a, b]) }).collect();
    for seconds in [1, 4] {
        let done = Arc::new(AtomicUsize::new(0));
        let (before, started) = (world.others.checks(), Instant::now());
        let mut work = tokio::task::JoinSet::new();
        for (place, _) in people.iter().enumerate() {
            let mut client = world.messaging();
            let done = done.clone();
            let mut mine: Vec<_> = (0..100).filter(|n| n % 64 == place).map(|n| groups[n]).collect();
            if mine.is_empty() { mine.push(groups[place]); }
            let user = people[place];
            work.spawn(async move {
                let mut n = 0;
                while started.elapsed().as_secs() < seconds {
                    let request = keyed(mine[n % mine.len()], &"x".repeat(100), &proto::id::MessageId::generate().to_string());
                    client.send_message(user.says(request)).await.unwrap();
                    n += 1;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while let Some(one) = work.join_next().await { one.unwrap(); }
        let total = done.load(Ordering::Relaxed);
        let elapsed = started.elapsed().as_secs_f64();
        println!("{name}: {:.0}/s, mean batch {:.1}", total as f64 / elapsed, total as f64 / (world.others.checks() - before) as f64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measure_sqlite() {
    measure("sqlite", World::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measure_postgres() {
    let Some((database, scratch)) = testing::postgres(&MIGRATOR, "messaging").await else { return };
    let clock = Clock::system();
    measure("postgres", World::on(database, Some(scratch), Others::new(clock.clone()), clock).await).await;
}
