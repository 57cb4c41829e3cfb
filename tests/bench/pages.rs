//! W5: pages of 50 out of a long conversation: the latest, and some in its middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use tests::Person;
use tokio::task::JoinSet;

use crate::Options;
use crate::people::{self, TEXT};
use crate::report::{Report, Row, say};
use crate::system::{Meter, System};
use crate::wire::{Http, Kind, Socket, frames};

/// Who fills the conversation: each on a connection of its own, with this many messages under way.
const WRITERS: usize = 16;
const UNDER_WAY: u64 = 32;

/// How many ask for pages at a time.
const READERS: usize = 16;

/// How long the filling may stand still.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn measure(system: &System, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let people = people::register(system, WRITERS).await;
    let others: Vec<&Person> = people[1..].iter().collect();
    let conversation = people[0].starts_group_with(&others).await;
    let filled = fill(system, options, &people, &conversation).await?;
    let shape = system.variant.name();
    let name = "filled through the API";
    let value = options.messages as f64 / filled.as_secs_f64();
    report.row(Row { workload: "W5", shape, name, value, unit: "messages/s", aim: None, limits: &[] });

    let path = format!("/v1/conversations/{conversation}/messages?pageSize=50");
    let middle = format!("{path}&beforeSequence={}", options.messages / 2);
    for (name, path, aim) in [("latest", path, 7_500.0), ("middle", middle, 6_000.0)] {
        let meter = Meter::start(system);
        let (pages, span) = read(system, &people, &path, options.span()).await?;
        let used = meter.stop(system);
        let (what, value) = (format!("{name} page"), pages as f64 / span.as_secs_f64());
        let aim = Some(aim);
        report.row(Row { workload: "W5", shape, name: &what, value, unit: "pages/s", aim, limits: &[] });
        report.used("W5", system, &format!(", {name} page"), &used, pages as f64);
    }
    Ok(())
}

/// Fills the conversation; gives how long it took.
async fn fill(
    system: &System,
    options: &Options,
    people: &[Person],
    conversation: &str,
) -> anyhow::Result<Duration> {
    let sockets = people::connect(system, people, options.format()).await?;
    let (began, done) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut work = JoinSet::new();
    for (number, socket) in sockets.into_iter().enumerate() {
        let share = options.messages / WRITERS as u64
            + u64::from((number as u64) < options.messages % WRITERS as u64);
        work.spawn(write(socket, conversation.to_owned(), share, done.clone()));
    }
    let mut last = (0, Instant::now());
    let mut shown = Instant::now();
    while !work.is_empty() {
        if let Ok(Some(ended)) = tokio::time::timeout(Duration::from_millis(500), work.join_next()).await {
            ended??;
        }
        let now = done.load(Ordering::Relaxed);
        if now > last.0 {
            last = (now, Instant::now());
        }
        if shown.elapsed() > Duration::from_secs(2) {
            shown = Instant::now();
            say(&format!("{now} of {} messages", options.messages));
        }
        ensure!(last.1.elapsed() < PATIENCE, "the filling stands still at {now} messages");
    }
    Ok(began.elapsed())
}

async fn write(
    mut socket: Socket,
    conversation: String,
    share: u64,
    done: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let (mut sent, mut acknowledged) = (0, 0);
    while acknowledged < share {
        while sent < share && sent - acknowledged < UNDER_WAY {
            sent += 1;
            let command = socket.protocol.send(sent, &conversation, &TEXT[..100]);
            socket.outgoing.put(&command);
        }
        socket.outgoing.flush().await?;
        socket.incoming.fill().await?;
        let mut answers = 0;
        frames(&mut socket.incoming, socket.protocol, |kind, payload| {
            ensure!(kind != Kind::Failure, "a send failed: {}", String::from_utf8_lossy(payload));
            answers += u64::from(kind == Kind::Answer);
            Ok(())
        })?;
        acknowledged += answers;
        done.fetch_add(answers, Ordering::Relaxed);
    }
    Ok(())
}

/// Reads the same page again and again; gives how many times, and in what time.
async fn read(
    system: &System,
    people: &[Person],
    path: &str,
    span: Duration,
) -> anyhow::Result<(u64, Duration)> {
    let (stopped, pages) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let gateways = system.world.gateways();
    let mut work = JoinSet::new();
    for number in 0..READERS {
        let mut http =
            Http::connect(gateways[number % gateways.len()], &people[number % people.len()].token).await?;
        let (path, stopped, pages) = (path.to_owned(), stopped.clone(), pages.clone());
        work.spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let length = http.get(&path).await?;
                ensure!(length > 50 * 100, "a page of {length} bytes cannot hold 50 messages");
                pages.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    // The first pages warm what is warm in a service that has been running for a while.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (before, began) = (pages.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(span).await;
    let (count, span) = (pages.load(Ordering::Relaxed) - before, began.elapsed());
    stopped.store(true, Ordering::Relaxed);
    while let Some(ended) = work.join_next().await {
        ended??;
    }
    Ok((count, span))
}
