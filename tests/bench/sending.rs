//! W1: 64 closed-loop senders, 100-byte texts, 100 conversations of 2 to 10 members who are all online; a message counts
//! when it is acknowledged, which is when it is stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tests::Person;
use tokio::task::JoinSet;

use crate::people::{self, Heard, TEXT};
use crate::report::{Report, Row};
use crate::system::{Meter, System, Used, Variant};
use crate::wire::{Kind, Socket, frames};
use crate::{Options, report};

const SENDERS: usize = 64;
const CONVERSATIONS: usize = 100;
const PEOPLE: usize = 200;

/// Everybody gets going.
const WARM_UP: Duration = Duration::from_secs(2);

/// How long deliveries may take after the last acknowledgement.
const LAST: Duration = Duration::from_secs(10);

/// People, and the conversations that each of them is in.
pub(crate) struct Circle {
    pub(crate) people: Vec<Person>,
    pub(crate) conversations: Vec<Vec<String>>,
    /// How many members each conversation of each person has.
    pub(crate) sizes: Vec<Vec<usize>>,
}

impl Circle {
    /// One hundred conversations of 2 to 10 members; everybody of the first 64 is in one at least.
    pub(crate) async fn gather(system: &System) -> Self {
        let people = people::register(system, PEOPLE).await;
        let (mut conversations, mut sizes) = (vec![Vec::new(); PEOPLE], vec![Vec::new(); PEOPLE]);
        for number in 0..CONVERSATIONS {
            let size = 2 + number % 9;
            let members: Vec<usize> = (0..size).map(|n| (number + n * 37) % PEOPLE).collect();
            let others: Vec<&Person> = members[1..].iter().map(|member| &people[*member]).collect();
            let id = people[members[0]].starts_group_with(&others).await;
            for member in members {
                conversations[member].push(id.clone());
                sizes[member].push(size);
            }
        }
        Self { people, conversations, sizes }
    }
}

/// What the senders share.
struct Run {
    stopped: AtomicBool,
    counting: AtomicBool,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    /// How many events should have been received by everybody, the sender too.
    expected: AtomicU64,
    heard: Arc<Heard>,
    /// How long acknowledgements took, in microseconds.
    took: std::sync::Mutex<Histogram<u64>>,
}

/// What came of a run.
pub(crate) struct Outcome {
    /// What it took of the machine.
    pub(crate) used: Used,
    /// The number of messages that were acknowledged meanwhile.
    pub(crate) acknowledged: f64,
    /// The number of events that were received meanwhile.
    pub(crate) delivered: f64,
    /// The number of refused sends.
    pub(crate) failed: u64,
    /// How many events had not been received after a while.
    pub(crate) missing: u64,
    /// How long acknowledgements took, in microseconds.
    pub(crate) took: Histogram<u64>,
}

impl Outcome {
    /// The number of messages that were acknowledged per second.
    pub(crate) fn rate(&self) -> f64 {
        self.acknowledged / self.used.span.as_secs_f64()
    }
}

pub(crate) async fn measure(system: &System, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let circle = Circle::gather(system).await;
    let mut sockets = people::connect(system, &circle.people, options.format()).await?;
    people::follow_all(&mut sockets).await?;
    let outcome = drive(system, &circle, sockets, options.span()).await?;

    let shape = system.variant.name();
    let aim = match system.variant {
        Variant::Embedded => 20_000.0,
        Variant::Standalone => 18_500.0,
        Variant::Separate => 12_000.0,
    };
    let mut row = |name: &str, value: f64, unit: &'static str, aim: Option<f64>, limits: &[&'static str]| {
        report.row(Row { workload: "W1", shape, name, value, unit, aim, limits });
    };
    let of: &[&str] = if system.variant == Variant::Embedded {
        &["echo", "SQLite single commits", "SQLite rows in batches of 64"]
    } else {
        &["echo", "PostgreSQL single commits", "PostgreSQL rows in batches of 64"]
    };
    row("acknowledged", outcome.rate(), "messages/s", Some(aim), of);
    row(
        "delivered",
        outcome.delivered / outcome.used.span.as_secs_f64(),
        "events/s",
        None,
        &["echo and fan-out, delivered"],
    );
    row("acknowledged p50", outcome.took.value_at_quantile(0.5) as f64 / 1000.0, "ms", None, &[]);
    row("acknowledged p99", outcome.took.value_at_quantile(0.99) as f64 / 1000.0, "ms", None, &[]);
    row("failed sends", outcome.failed as f64, "messages", None, &[]);
    row("deliveries missing at the end", outcome.missing as f64, "events", None, &[]);
    report.used("W1", system, "", &outcome.used, outcome.acknowledged);
    Ok(())
}

/// Lets 64 people send for so long, each with one message under way, while everybody listens. The sockets are those of
/// the people, in the same order, and follow all their conversations.
pub(crate) async fn drive(
    system: &System,
    circle: &Circle,
    sockets: Vec<Socket>,
    span: Duration,
) -> anyhow::Result<Outcome> {
    let run = Arc::new(Run {
        stopped: AtomicBool::new(false),
        counting: AtomicBool::new(false),
        acknowledged: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        expected: AtomicU64::new(0),
        heard: Arc::default(),
        took: std::sync::Mutex::new(Histogram::new_with_bounds(1, 60_000_000, 3)?),
    });
    let mut work = JoinSet::new();
    for (number, socket) in sockets.into_iter().enumerate() {
        let conversations = circle.conversations[number].clone();
        if number < SENDERS && !conversations.is_empty() {
            let targets = conversations.into_iter().zip(circle.sizes[number].clone()).collect();
            work.spawn(send(run.clone(), socket, targets));
        } else {
            work.spawn(people::listen(socket, run.heard.clone(), |_| {}));
        }
    }

    tokio::time::sleep(WARM_UP).await;
    run.counting.store(true, Ordering::Relaxed);
    let (meter, heard_before) = (Meter::start(system), run.heard.events.load(Ordering::Relaxed));
    tokio::time::sleep(span).await;
    run.counting.store(false, Ordering::Relaxed);
    let used = meter.stop(system);
    let delivered = run.heard.events.load(Ordering::Relaxed) - heard_before;
    run.stopped.store(true, Ordering::Relaxed);
    let missing = last_deliveries(&run).await;
    let took = run.took.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    Ok(Outcome {
        used,
        acknowledged: run.acknowledged.load(Ordering::Relaxed) as f64,
        delivered: delivered as f64,
        failed: run.failed.load(Ordering::Relaxed),
        missing,
        took,
    })
}

/// Waits until everybody has everything; gives what is missing after a while.
async fn last_deliveries(run: &Run) -> u64 {
    let since = Instant::now();
    loop {
        let missing =
            run.expected.load(Ordering::Relaxed).saturating_sub(run.heard.events.load(Ordering::Relaxed));
        if missing == 0 || since.elapsed() > LAST {
            return missing;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends the next message when the one before is acknowledged; counts events meanwhile, and after the last one too.
async fn send(run: Arc<Run>, mut socket: Socket, targets: Vec<(String, usize)>) {
    let mut number = 0_u64;
    let ended: anyhow::Result<()> = async {
        loop {
            let (conversation, size) = &targets[number as usize % targets.len()];
            let is_last = run.stopped.load(Ordering::Relaxed);
            if !is_last {
                number += 1;
                socket.outgoing.put(&socket.protocol.send(number, conversation, &TEXT[..100]));
                socket.outgoing.flush().await?;
            }
            let asked = Instant::now();
            let mut answered = false;
            while !answered {
                socket.incoming.fill().await?;
                let mut events = 0;
                let pinged = frames(&mut socket.incoming, socket.protocol, |kind, payload| {
                    match kind {
                        Kind::Event => events += 1,
                        Kind::Answer => {
                            answered = true;
                            run.expected.fetch_add(*size as u64, Ordering::Relaxed);
                            if run.counting.load(Ordering::Relaxed) {
                                run.acknowledged.fetch_add(1, Ordering::Relaxed);
                                let mut took =
                                    run.took.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                                took.saturating_record(asked.elapsed().as_micros() as u64);
                            }
                        }
                        Kind::Failure => {
                            answered = true;
                            if run.failed.fetch_add(1, Ordering::Relaxed) == 0 {
                                report::say(&format!("a send failed: {}", String::from_utf8_lossy(payload)));
                            }
                        }
                        Kind::Other => {}
                    }
                    Ok(())
                })?;
                run.heard.events.fetch_add(events, Ordering::Relaxed);
                if pinged {
                    socket.outgoing.pong();
                    socket.outgoing.flush().await?;
                }
            }
        }
    }
    .await;
    if let Err(error) = ended
        && run.heard.lost.fetch_add(1, Ordering::Relaxed) == 0
    {
        report::say(&format!("a sender lost its connection: {error}"));
    }
}
