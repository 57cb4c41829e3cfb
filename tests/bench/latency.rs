//! W2: from the send to the receipt by each of the others, at 200 messages per second that come whatever happens.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::people;
use crate::report::{Report, Row};
use crate::sending::Circle;
use crate::system::{Meter, System};
use crate::wire::{Incoming, Kind, Protocol, find, frames};
use crate::{Options, report};

const PER_SECOND: u64 = 200;

/// Marks the time in a text, in microseconds since the run began.
const MARK: &[u8] = b"#sent-at-";
const DIGITS: usize = 12;

/// What is known about one run.
struct Run {
    began: Instant,
    others: Mutex<Histogram<u64>>,
    acknowledgements: Mutex<u64>,
}

pub(crate) async fn measure(system: &System, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let circle = Circle::gather(system).await;
    let mut sockets = people::connect(system, &circle.people, options.format()).await?;
    people::follow_all(&mut sockets).await?;
    let run = Arc::new(Run {
        began: Instant::now(),
        others: Mutex::new(Histogram::new_with_bounds(1, 60_000_000, 3)?),
        acknowledgements: Mutex::new(0),
    });
    let (mut work, mut writers) = (JoinSet::new(), Vec::new());
    for (number, socket) in sockets.into_iter().enumerate() {
        writers.push(socket.outgoing);
        let own = circle.people[number].id.clone().into_bytes();
        work.spawn(receive(run.clone(), socket.incoming, socket.protocol, own));
    }
    let senders: Vec<usize> =
        (0..writers.len()).filter(|one| !circle.conversations[*one].is_empty()).collect();

    let meter = Meter::start(system);
    let mut pace = interval(Duration::from_micros(1_000_000 / PER_SECOND));
    // Open loop: what is late is made up for.
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let total = PER_SECOND * options.seconds;
    for number in 0..total {
        pace.tick().await;
        let sender = senders[number as usize % senders.len()];
        let conversations = &circle.conversations[sender];
        let conversation = &conversations[number as usize / senders.len() % conversations.len()];
        let text = format!("#sent-at-{:012} {}", run.began.elapsed().as_micros(), &people::TEXT[..78]);
        let command = options.format().send(number + 1, conversation, &text);
        writers[sender].put(&command);
        writers[sender].flush().await?;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = meter.stop(system);

    let shape = system.variant.name();
    let mut row = |name: &str, value: f64, unit: &'static str, aim: Option<f64>| {
        report.row(Row { workload: "W2", shape, name, value, unit, aim, limits: &[] });
    };
    let others = run.others.lock().unwrap_or_else(PoisonError::into_inner);
    row("send to receipt p50", others.value_at_quantile(0.5) as f64 / 1000.0, "ms", Some(0.86));
    row("send to receipt p99", others.value_at_quantile(0.99) as f64 / 1000.0, "ms", Some(2.0));
    row("send to receipt max", others.max() as f64 / 1000.0, "ms", None);
    row("receipts", others.len() as f64, "events", None);
    let acknowledged = *run.acknowledgements.lock().unwrap_or_else(PoisonError::into_inner);
    row("not acknowledged", total.saturating_sub(acknowledged) as f64, "messages", None);
    report.used("W2", system, "", &used, total as f64);
    Ok(())
}

async fn receive(run: Arc<Run>, mut incoming: Incoming, protocol: Protocol, own: Vec<u8>) {
    let ended: anyhow::Result<()> = async {
        loop {
            incoming.fill().await?;
            frames(&mut incoming, protocol, |kind, payload| {
                match kind {
                    // Its own message comes back to the sender too, and does not count.
                    Kind::Event if find(payload, &own).is_none() => {
                        if let Some(sent) = sent_at(payload) {
                            let took = run.began.elapsed().saturating_sub(sent);
                            let mut others = run.others.lock().unwrap_or_else(PoisonError::into_inner);
                            others.saturating_record(took.as_micros() as u64);
                        }
                    }
                    Kind::Answer => *run.acknowledgements.lock().unwrap_or_else(PoisonError::into_inner) += 1,
                    Kind::Failure => {
                        report::say(&format!("a send failed: {}", String::from_utf8_lossy(payload)));
                    }
                    Kind::Event | Kind::Other => {}
                }
                Ok(())
            })?;
        }
    }
    .await;
    if let Err(error) = ended {
        report::say(&format!("a member lost its connection: {error}"));
    }
}

fn sent_at(payload: &[u8]) -> Option<Duration> {
    let from = find(payload, MARK)? + MARK.len();
    let digits = payload.get(from..from + DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok().map(Duration::from_micros)
}
