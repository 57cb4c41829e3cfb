//! The bus over NATS, with nothing of NATS but subjects: no streams, no queues, nothing that is kept.
//!
//! There are two connections per process, one that receives and one that publishes ([`outgoing`]), and one subscription
//! at the server per subject, however many receivers the subject has here: some 7 kB each, almost all of it the client's
//! queue. Four kinds of tasks work on them, and end with the bus: one per subject, which delivers; the barrier, which
//! finds out when the server has taken in what it was told; the watch, which notices that the connection came back or
//! that something was lost; the publisher, which hands over what was published.
//!
//! The connections are shared by all, so nothing that a caller does may wait for them: publications are dropped when
//! NATS is away or too far behind, subscriptions are told to the server from their own task.
//!
//! Everyone who reaches NATS can publish, so nothing that comes is believed unless the service that speaks there has sealed it
//! ([`seal`]).

mod barrier;
mod config;
mod keys;
mod outgoing;
mod queue;
mod seal;
mod watch;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use async_nats::client::Statistics;
use async_nats::connection::State;
use async_nats::{Client, Event, Subject};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{SetOnce, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

pub use config::NatsConfig;
pub use keys::NoticeKeys;

use super::Expiry;
use super::topics::{Receiver, Topics, dropped_because};
use crate::admin::Health;
use crate::clock::Clock;
use barrier::Barrier;
use outgoing::{Outgoing, Publisher};
use seal::{Heard, Seals};
use watch::{Condition, Watch};

/// How much may wait to be written before publications are dropped, in messages and in bytes.
pub(super) const BACKLOG: (usize, u64) = (8192, 16 << 20);

/// How long a subscriber waits for the server's confirmation before it goes on without.
const PATIENCE: Duration = Duration::from_secs(2);

/// As whom a process is on the bus.
#[derive(Debug)]
pub struct Participant {
    /// The name of its service.
    pub name: String,
    /// The keys of what it publishes and hears.
    pub keys: NoticeKeys,
    /// Tells the time of what it publishes, and how old is what it hears.
    pub clock: Clock,
}

/// The bus over NATS.
pub struct Nats {
    topics: Arc<Topics<Link>>,
    seals: Arc<Seals>,
    line: Line,
    barrier: Barrier,
    condition: Arc<Condition>,
    outgoing: Arc<Outgoing>,
    tasks: Vec<AbortHandle>,
}

/// The connection that receives.
#[derive(Clone)]
struct Line {
    client: Client,
    statistics: Arc<Statistics>,
}

impl Line {
    fn new(client: Client) -> Self {
        Self { statistics: client.statistics(), client }
    }

    fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    fn version(&self) -> String {
        self.client.server_info().version
    }
}

impl Nats {
    /// Connects, or begins to: see [`super::Events::nats`].
    pub(super) async fn connect(config: &NatsConfig, participant: Participant) -> anyhow::Result<Self> {
        // For TLS there must be exactly one provider of cryptography in the process; whoever was first has decided.
        let _ = async_nats::rustls::crypto::ring::default_provider().install_default();
        let (noticed, notices) = mpsc::channel(256);
        let Participant { name, keys, clock } = participant;
        let seals = Arc::new(Seals::new(keys, clock)?);
        let (options, addresses) = (config.options(&name).await?, config.addresses()?);
        let complaints = noticed.clone();
        let publishing = options.clone().event_callback(move |event| {
            // Whether the connection stands the publisher sees itself.
            if matches!(event, Event::ServerError(_)) {
                let _ = complaints.try_send(event);
            }
            std::future::ready(())
        });
        let client = options
            .retry_on_initial_connect()
            .event_callback(move |event| {
                // When the watch is behind, one notice more or less makes no difference to it.
                let _ = noticed.try_send(event);
                std::future::ready(())
            })
            .connect(&addresses[..])
            .await
            .context("NATS cannot be used with this configuration")?;
        let line = Line::new(client);
        let topics = Arc::new(Topics::new());
        let condition = Arc::new(Condition::default());
        let (barrier, echoes) = Barrier::new(line.clone());
        let outgoing = Arc::new(Outgoing::new(Arc::clone(&topics), Arc::clone(&seals)));
        let publisher =
            Publisher { outgoing: Arc::clone(&outgoing), line: line.clone(), addresses, options: publishing };
        let mut bus = Self {
            topics: Arc::clone(&topics),
            seals,
            line: line.clone(),
            barrier: barrier.clone(),
            condition: Arc::clone(&condition),
            outgoing: Arc::clone(&outgoing),
            tasks: vec![spawn(echoes), spawn(publisher.run())],
        };

        let echoed = timeout(config.connect_timeout, barrier.pass()).await.is_ok();
        if line.is_up() {
            // Else it would be said to be away.
            let _ = timeout(config.connect_timeout, outgoing.opened()).await;
        }
        let known = if line.is_up() { line.statistics.connects.load(Ordering::Relaxed) } else { 0 };
        match (line.is_up(), echoed) {
            (true, true) => condition.greet(&line.version())?,
            (true, false) => condition.without_echo(),
            (false, _) => condition.away("it cannot be reached"),
        }
        let slow = dropped_because("slow_consumer");
        let watch = Watch { topics, line, barrier, condition, known, slow };
        bus.tasks.push(spawn(watch.run(notices)));
        Ok(bus)
    }

    pub(super) fn publish(&self, subject: &str, payload: Bytes, expiry: Expiry) {
        self.outgoing.push(&self.line, subject, payload, expiry);
    }

    pub(super) async fn subscribe(&self, subject: &str, receiver: Receiver) -> (Arc<str>, u64) {
        let open = |subject: &Arc<str>| {
            let effect = Arc::new(Effect::default());
            let feed = feed(
                Arc::clone(subject),
                self.line.client.clone(),
                self.barrier.clone(),
                Arc::clone(&self.topics),
                Arc::clone(&self.seals),
                Arc::clone(&effect),
            );
            Link { effect, task: spawn(feed) }
        };
        let (subject, id, effect) = self.topics.add(subject, receiver, open, |link| Arc::clone(&link.effect));
        let patience = if self.line.is_up() { PATIENCE } else { Duration::ZERO };
        effect.wait(patience).await;
        (subject, id)
    }

    pub(super) fn unsubscribe(&self, subject: &str, id: u64) {
        self.topics.remove(subject, id);
    }

    pub(super) fn interruptions(&self) -> tokio::sync::watch::Receiver<u64> {
        self.topics.interruptions()
    }

    pub(super) fn health(&self) -> Health {
        match (self.line.is_up() && self.outgoing.is_up(), self.condition.latest()) {
            (true, None) => Health::Ok(format!("NATS {}", self.line.version())),
            (true, Some(complaint)) => Health::Degraded(complaint),
            (false, None) => Health::Degraded("NATS is away".to_owned()),
            (false, Some(complaint)) => Health::Degraded(format!("NATS is away: {complaint}")),
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> u64 {
        self.outgoing.waiting()
    }

    /// True once both connections have noticed the loss of the server. One notices it before the other.
    #[cfg(test)]
    pub(super) fn is_away(&self) -> bool {
        !self.line.is_up() && !self.outgoing.is_up()
    }

    pub(super) async fn flush(&self) {
        if self.line.is_up() {
            let _ = timeout(PATIENCE, self.outgoing.flush()).await;
        }
    }
}

/// Starts a task whose end is that of its handle's owner.
#[expect(
    clippy::disallowed_methods,
    reason = "these tasks belong to the bus, which outlives those of any unit"
)]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    tokio::spawn(task).abort_handle()
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.topics.clear();
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// The subscription of one subject at the server. Ends with the topic that holds it.
struct Link {
    effect: Arc<Effect>,
    task: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether a subscription has come into effect at the server.
#[derive(Default)]
struct Effect {
    has_come: SetOnce<()>,
    is_relied_on: AtomicBool,
}

impl Effect {
    /// Waits for it at most so long. Whoever gives up goes on as if it had come, and must hear when it has.
    async fn wait(&self, patience: Duration) {
        if timeout(patience, self.has_come.wait()).await.is_err() {
            self.is_relied_on.store(true, Ordering::SeqCst);
        }
    }

    /// Says that it has come. Returns whether somebody went on before.
    fn come(&self) -> bool {
        let _ = self.has_come.set(());
        self.is_relied_on.load(Ordering::SeqCst)
    }
}

/// The task of one subject: tells the server, then delivers for as long as the topic exists.
async fn feed(
    subject: Arc<str>,
    client: Client,
    barrier: Barrier,
    topics: Arc<Topics<Link>>,
    seals: Arc<Seals>,
    effect: Arc<Effect>,
) {
    let mut heard = Heard::default();
    let mut deliver = |sealed: &Bytes| {
        if let Some(payload) = seals.open(&subject, sealed, &mut heard) {
            topics.deliver(&subject, &payload);
        }
    };
    let mut subscriber = match client.subscribe(Subject::from(&*subject)).await {
        Ok(subscriber) => subscriber,
        Err(error) => return tracing::error!(%error, subject = &*subject, "cannot subscribe to {subject}"),
    };
    {
        let mut confirmed = std::pin::pin!(barrier.pass());
        loop {
            tokio::select! {
                () = &mut confirmed => break,
                message = subscriber.next() => match message {
                    Some(message) => deliver(&message.payload),
                    None => return,
                },
            }
        }
    }
    drop(barrier);
    if effect.come() {
        topics.interrupted();
    }
    while let Some(message) = subscriber.next().await {
        deliver(&message.payload);
    }
}
