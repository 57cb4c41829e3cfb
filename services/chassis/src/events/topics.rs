//! Who in this process wants to hear of what. Both buses deliver from here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use metrics::Counter;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, watch};

use super::Delivery;
use crate::telemetry::metrics as names;

/// Where a hint goes.
pub(super) enum Receiver {
    /// Into a queue.
    Queue(mpsc::Sender<Delivery>),
    /// To someone who only wants to be woken.
    Sleeper(Arc<Notify>),
    /// To a function, which runs while the hint is delivered.
    Listener(Listener),
}

/// A function that is told what a hint says. It must not wait, and must not subscribe.
pub(super) type Listener = Box<dyn Fn(&Bytes) + Send + Sync>;

/// The subjects that somebody in this process wants to hear of. `L` is what links a subject to the world outside: made
/// for its first receiver, dropped with its last.
pub(super) struct Topics<L> {
    topics: RwLock<HashMap<Arc<str>, Topic<L>>>,
    next_id: AtomicU64,
    interruptions: watch::Sender<u64>,
    published: Counter,
    receiver_full: Counter,
}

struct Topic<L> {
    link: L,
    receivers: Vec<(u64, Receiver)>,
}

impl<L> Topics<L> {
    pub(super) fn new() -> Self {
        Self {
            topics: RwLock::default(),
            next_id: AtomicU64::new(0),
            interruptions: watch::Sender::new(0),
            published: metrics::counter!(names::EVENTS_PUBLISHED),
            receiver_full: dropped_because("receiver_full"),
        }
    }

    /// Adds a receiver. `open` makes the link of a subject that had none, `read` takes from it what the caller needs.
    /// Neither may wait: the topics are locked meanwhile, so that a link is never made twice or closed under somebody.
    pub(super) fn add<R>(
        &self,
        subject: &str,
        receiver: Receiver,
        open: impl FnOnce(&Arc<str>) -> L,
        read: impl FnOnce(&L) -> R,
    ) -> (Arc<str>, u64, R) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut topics = self.write();
        let subject = match topics.get_key_value(subject) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::from(subject),
        };
        let topic = topics
            .entry(Arc::clone(&subject))
            .or_insert_with_key(|subject| Topic { link: open(subject), receivers: Vec::with_capacity(1) });
        topic.receivers.push((id, receiver));
        let read = read(&topic.link);
        (subject, id, read)
    }

    /// Removes a receiver, and with the last one the link.
    pub(super) fn remove(&self, subject: &str, id: u64) {
        let mut topics = self.write();
        let Some(topic) = topics.get_mut(subject) else { return };
        topic.receivers.retain(|(receiver, _)| *receiver != id);
        if topic.receivers.is_empty() {
            topics.remove(subject);
        }
    }

    /// Forgets every receiver and link.
    pub(super) fn clear(&self) {
        self.write().clear();
    }

    /// Hands a hint to all who want it.
    pub(super) fn deliver(&self, subject: &str, payload: &Bytes) {
        let mut dropped = 0;
        {
            let topics = self.read();
            let Some((subject, topic)) = topics.get_key_value(subject) else { return };
            for (_, receiver) in &topic.receivers {
                match receiver {
                    Receiver::Sleeper(sleeper) => sleeper.notify_one(),
                    Receiver::Listener(listener) => listener(payload),
                    Receiver::Queue(queue) => {
                        let delivery = Delivery { subject: Arc::clone(subject), payload: payload.clone() };
                        // A closed queue belongs to someone who is about to drop the subscription: nothing is lost.
                        if let Err(TrySendError::Full(_)) = queue.try_send(delivery) {
                            dropped += 1;
                        }
                    }
                }
            }
        }
        if dropped > 0 {
            self.receiver_full.increment(dropped);
            self.interrupted();
        }
    }

    pub(super) fn published(&self) {
        self.published.increment(1);
    }

    /// Says to everyone that hints may have been lost.
    pub(super) fn interrupted(&self) {
        self.interruptions.send_modify(|count| *count += 1);
    }

    pub(super) fn interruptions(&self) -> watch::Receiver<u64> {
        self.interruptions.subscribe()
    }

    // Nothing can panic half way through a change of the map, so a poisoned lock is as good as any other.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<Arc<str>, Topic<L>>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Arc<str>, Topic<L>>> {
        self.topics.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counter of what was dropped for this reason.
pub(super) fn dropped_because(reason: &'static str) -> Counter {
    metrics::counter!(names::EVENTS_DROPPED, "reason" => reason)
}
