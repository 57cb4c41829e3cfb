//! W3: one sender in one room whose members are all online; a message is in flight until every member has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use tests::Person;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::Options;
use crate::people::{self, Heard, TEXT};
use crate::report::{Report, Row};
use crate::system::{Meter, System};

/// How long one message may take to all members.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn measure(system: &System, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let people = people::register(system, options.members).await;
    let others: Vec<&Person> = people[1..].iter().collect();
    let room = people[0].starts_group_with(&others).await;
    let mut sockets = people::connect(system, &people, options.format()).await?;
    people::follow_all(&mut sockets).await?;
    // One more connection for the sender, which only sends.
    let mut sender = people::connect(system, &people[..1], options.format()).await?.remove(0);

    let (heard, landed, wanted) =
        (Arc::new(Heard::default()), Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
    let mut work = JoinSet::new();
    for socket in sockets {
        let (landed, wanted) = (landed.clone(), wanted.clone());
        let notify = move |events| {
            if events >= wanted.load(Ordering::Relaxed) {
                landed.notify_one();
            }
        };
        work.spawn(people::listen(socket, heard.clone(), notify));
    }

    let members = people.len() as u64;
    let mut sent = 0_u64;
    for in_flight in [1_u64, 8] {
        let (meter, began) = (Meter::start(system), Instant::now());
        let first = sent;
        while began.elapsed() < options.span() {
            sent += 1;
            sender.outgoing.put(&options.format().send(sent, &room, &TEXT[..100]));
            sender.outgoing.flush().await?;
            // What the sender is told is read later; it only has to leave the buffers.
            let enough = (sent + 1).saturating_sub(in_flight).max(first) * members;
            wanted.store(enough, Ordering::Relaxed);
            land(&heard, &landed, enough).await?;
        }
        wanted.store(sent * members, Ordering::Relaxed);
        land(&heard, &landed, sent * members).await?;
        let used = meter.stop(system);
        let shape = system.variant.name();
        let deliveries = ((sent - first) * members) as f64;
        let (aim, limit) = if in_flight == 1 {
            (173_000.0, "fan-out, 1 in flight")
        } else {
            (480_000.0, "fan-out, 8 in flight")
        };
        let (name, value) =
            (format!("delivered, {in_flight} in flight"), deliveries / used.span.as_secs_f64());
        let aim = Some(aim);
        report.row(Row {
            workload: "W3",
            shape,
            name: &name,
            value,
            unit: "events/s",
            aim,
            limits: &[limit],
        });
        report.used("W3", system, &format!(", {in_flight} in flight"), &used, deliveries);
    }
    Ok(())
}

async fn land(heard: &Heard, landed: &Notify, enough: u64) -> anyhow::Result<()> {
    let wait = async {
        while heard.events.load(Ordering::Relaxed) < enough {
            landed.notified().await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, wait).await.is_ok();
    ensure!(heard.lost.load(Ordering::Relaxed) == 0, "a member lost its connection");
    ensure!(in_time, "a message did not reach all members within {PATIENCE:?}");
    Ok(())
}
