//! Hints that something has happened: within the process, or over NATS.
//!
//! A hint may be lost; a fact may not. So facts live in the databases, and what travels here only says where to look
//! sooner than one would have looked anyway. Whoever relies on hints watches [`Events::interruptions`] and looks at the
//! log itself whenever that moves, and now and then besides.
//!
//! What holds on both buses:
//! - a receiver gets what is published on exactly its subject after [`Events::subscribe`] has returned;
//! - what one publisher sends on one subject arrives in that order;
//! - publishing neither waits nor fails, and what is not wanted by anybody costs next to nothing;
//! - what had to wait at its publisher for longer than its [`Expiry`] allows is dropped there;
//! - a receiver that is full loses the hint, it holds nobody up, and the interruptions move;
//! - what a receiver gets was published by the service that the subject belongs to, on this subject, and no publication
//!   is received twice. Over NATS it is at most half a minute old.

mod local;
mod nats;
mod topics;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};

pub use local::Local;
pub use nats::{Nats, NatsConfig, NoticeKeys, Participant};

use crate::admin::{Health, ReadinessCheck};
use topics::Receiver;

/// A bus for hints. Cloning is cheap and gives the same bus.
#[derive(Clone)]
pub enum Events {
    /// Within this process.
    Local(Arc<Local>),
    /// Over NATS.
    Nats(Arc<Nats>),
}

/// One hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where it was published.
    pub subject: Arc<str>,
    /// What it says.
    pub payload: Bytes,
}

/// How long a hint may wait at its publisher, by the publisher's own clock. What waits longer is dropped unsent.
///
/// Within one process nothing waits. Over NATS a hint waits while the connection stalls; while NATS is known to be away
/// all but [`Expiry::Never`] is dropped at once. What a receiver gets can be older than this by what it took on the way,
/// and what several publishers say arrives in any order: a receiver drops what is older than what it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// Ten seconds, for what can be read elsewhere: a receiver has looked there by then.
    #[default]
    Hint,
    /// Three seconds, for what holds at this moment only.
    Moment,
    /// It does not expire, for what makes no sense without what was published before it. What waits is bounded in bytes;
    /// the oldest is dropped first.
    Never,
}

impl Expiry {
    fn limit(self) -> Option<Duration> {
        match self {
            Self::Hint => Some(Duration::from_secs(10)),
            Self::Moment => Some(Duration::from_secs(3)),
            Self::Never => None,
        }
    }
}

impl Events {
    /// A bus within this process.
    pub fn local() -> Self {
        Self::Local(Arc::new(Local::new()))
    }

    /// A bus over NATS. Fails when the configuration is wrong or the server too old, not when NATS cannot be reached:
    /// then it goes on trying, and until it succeeds nothing arrives, and publications are dropped unless they never expire.
    pub async fn nats(config: &NatsConfig, participant: Participant) -> anyhow::Result<Self> {
        Ok(Self::Nats(Arc::new(Nats::connect(config, participant).await?)))
    }

    /// Publishes a hint of something that can be read elsewhere. Never waits; what is dropped is counted in
    /// `events_dropped_total`.
    pub fn publish(&self, subject: &str, payload: Bytes) {
        self.publish_with(Expiry::Hint, subject, payload);
    }

    /// The same for a hint that expires otherwise.
    pub fn publish_with(&self, expiry: Expiry, subject: &str, payload: Bytes) {
        match self {
            Self::Local(bus) => bus.publish(subject, payload),
            Self::Nats(bus) => bus.publish(subject, payload, expiry),
        }
    }

    /// Passes on what is published on a subject until the subscription is dropped. Several subscriptions may feed one
    /// queue; many thousands may be held at a time.
    ///
    /// What is published after this returns arrives. With NATS that holds as soon as the server has confirmed, which
    /// this waits for; while NATS is away it returns at once, and the interruptions move when the subscription has
    /// come into effect. The subject is exact: wildcards match nothing.
    pub async fn subscribe(&self, subject: &str, into: mpsc::Sender<Delivery>) -> Subscription {
        self.attach(subject, Receiver::Queue(into)).await
    }

    /// Notifies `whom` of whatever is published on a subject until the subscription is dropped. For those who want to
    /// be woken and not told: hints that come while one is still awake become one, and none is ever dropped.
    pub async fn wake(&self, subject: &str, whom: Arc<Notify>) -> Subscription {
        self.attach(subject, Receiver::Sleeper(whom)).await
    }

    /// Calls `listener` with what is published on a subject until the subscription is dropped: within one process before
    /// [`Events::publish`] returns, over NATS before the next hint on the subject is taken. For what must hold before the
    /// next thing happens. The listener must neither wait nor subscribe.
    pub async fn listen(
        &self,
        subject: &str,
        listener: impl Fn(&Bytes) + Send + Sync + 'static,
    ) -> Subscription {
        self.attach(subject, Receiver::Listener(Box::new(listener))).await
    }

    async fn attach(&self, subject: &str, receiver: Receiver) -> Subscription {
        let (subject, id) = match self {
            _ if !is_exact(subject) => {
                tracing::error!(subject, "{subject:?} is no subject: nothing will be heard of it");
                (Arc::from(subject), NOBODY)
            }
            Self::Local(bus) => bus.subscribe(subject, receiver),
            Self::Nats(bus) => bus.subscribe(subject, receiver).await,
        };
        Subscription { bus: self.clone(), subject, id }
    }

    /// Moves whenever hints may have been lost: after NATS was away, or when a receiver was full. It moves for everyone
    /// in the process, whoever the loss may have hit: several moves in a row are one reason to look, not several.
    pub fn interruptions(&self) -> watch::Receiver<u64> {
        match self {
            Self::Local(bus) => bus.interruptions(),
            Self::Nats(bus) => bus.interruptions(),
        }
    }

    /// How the bus is. Never [`Health::Failed`]: everything works without hints, only later.
    pub fn health(&self) -> Health {
        match self {
            Self::Local(_) => Health::Ok("in process".to_owned()),
            Self::Nats(bus) => bus.health(),
        }
    }

    /// The bus as one of the things to look at in `/readyz`.
    pub fn readiness(&self) -> ReadinessCheck {
        let bus = self.clone();
        ReadinessCheck::new("events", move || std::future::ready(bus.health()))
    }

    /// Gets out what has been published so far, as far as that is possible soon. The last thing before the process ends.
    pub async fn flush(&self) {
        match self {
            Self::Local(_) => {}
            Self::Nats(bus) => bus.flush().await,
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local(_) => "Events::Local",
            Self::Nats(_) => "Events::Nats",
        })
    }
}

/// The id of a receiver that is none.
const NOBODY: u64 = u64::MAX;

/// Whether a subject means the same to both buses: words between dots, none of them a wildcard.
fn is_exact(subject: &str) -> bool {
    let is_word = |word: &str| {
        !matches!(word, "" | "*" | ">")
            && !word.contains(|letter: char| letter.is_whitespace() || letter.is_control())
    };
    subject.split('.').all(is_word)
}

/// Keeps a subscription alive. Nothing more arrives once it is dropped, except what waits in the queue already.
#[must_use = "dropping it ends the subscription"]
pub struct Subscription {
    bus: Events,
    subject: Arc<str>,
    id: u64,
}

impl Subscription {
    /// What is subscribed to.
    pub fn subject(&self) -> &Arc<str> {
        &self.subject
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        match &self.bus {
            Events::Local(bus) => bus.unsubscribe(&self.subject, self.id),
            Events::Nats(bus) => bus.unsubscribe(&self.subject, self.id),
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription({})", self.subject)
    }
}

#[cfg(test)]
mod contract;
#[cfg(test)]
mod expiry_tests;
#[cfg(test)]
mod forgery_tests;
