//! Publications that wait for the connection, each with its age. No I/O.
//!
//! One queue holds all subjects, so that the order of each of them holds. A publication that has waited for longer than
//! its [`Expiry`] allows is dropped. Those that never expire have a bound of their own in bytes; the oldest go first.

use std::collections::VecDeque;

use async_nats::Subject;
use bytes::Bytes;
use tokio::time::Instant;

use super::BACKLOG;
use crate::events::Expiry;

/// The bytes of publications without expiry that wait at most, 4 MiB.
const LASTING: u64 = 4 << 20;

/// A publication that waits.
pub(super) struct Publication {
    pub(super) subject: Subject,
    pub(super) payload: Bytes,
    pub(super) expiry: Expiry,
    pub(super) since: Instant,
}

impl Publication {
    fn size(&self) -> u64 {
        (self.subject.len() + self.payload.len()) as u64
    }

    fn is_expired(&self, now: Instant) -> bool {
        self.expiry.limit().is_some_and(|limit| now.duration_since(self.since) > limit)
    }
}

/// The publications that wait, the oldest first.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Publication>,
    bytes: u64,
    lasting: u64,
}

impl Queue {
    /// Adds a publication. Returns how many were dropped for lack of room: it, or older ones without expiry.
    pub(super) fn push(&mut self, publication: Publication) -> u64 {
        let size = publication.size();
        let mut dropped = 0;
        if publication.expiry == Expiry::Never {
            while self.lasting > 0 && self.lasting + size > LASTING {
                let Some(place) = self.waiting.iter().position(|one| one.expiry == Expiry::Never) else {
                    break;
                };
                if let Some(oldest) = self.waiting.remove(place) {
                    self.forget(&oldest);
                    dropped += 1;
                }
            }
        }
        if self.waiting.len() >= BACKLOG.0 || self.bytes > BACKLOG.1 {
            return dropped + 1;
        }
        self.bytes += size;
        if publication.expiry == Expiry::Never {
            self.lasting += size;
        }
        self.waiting.push_back(publication);
        dropped
    }

    /// The oldest.
    pub(super) fn front(&self) -> Option<&Publication> {
        self.waiting.front()
    }

    /// Removes the oldest.
    pub(super) fn pop(&mut self) {
        if let Some(publication) = self.waiting.pop_front() {
            self.forget(&publication);
        }
    }

    /// Drops what has expired by now. Returns how many.
    pub(super) fn drop_expired(&mut self, now: Instant) -> u64 {
        self.drop_if(|one| one.is_expired(now))
    }

    /// Drops everything that expires some day. Returns how many.
    pub(super) fn drop_expiring(&mut self) -> u64 {
        self.drop_if(|one| one.expiry != Expiry::Never)
    }

    fn drop_if(&mut self, is_dropped: impl Fn(&Publication) -> bool) -> u64 {
        let before = self.waiting.len();
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|one| {
            let stays = !is_dropped(one);
            if !stays {
                self.forget(one);
            }
            stays
        });
        self.waiting = waiting;
        (before - self.waiting.len()) as u64
    }

    fn forget(&mut self, publication: &Publication) {
        self.bytes -= publication.size();
        if publication.expiry == Expiry::Never {
            self.lasting -= publication.size();
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The bytes that wait.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn publication(subject: &'static str, len: usize, expiry: Expiry, since: Instant) -> Publication {
        Publication { subject: Subject::from(subject), payload: vec![0; len].into(), expiry, since }
    }

    fn subjects(queue: &mut Queue) -> Vec<String> {
        let next = |queue: &mut Queue| {
            let subject = queue.front()?.subject.to_string();
            queue.pop();
            Some(subject)
        };
        std::iter::from_fn(|| next(queue)).collect()
    }

    #[tokio::test]
    async fn what_has_waited_too_long_is_dropped_and_the_rest_keeps_its_order() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (subject, expiry) in [
            ("signal.1", Expiry::Never),
            ("typing.1", Expiry::Moment),
            ("event.1", Expiry::Hint),
            ("signal.2", Expiry::Never),
        ] {
            assert_eq!(queue.push(publication(subject, 10, expiry, now)), 0);
        }
        let late = now + Duration::from_secs(4);
        queue.push(publication("typing.2", 10, Expiry::Moment, late));
        assert_eq!(queue.drop_expired(now + Duration::from_secs(3)), 0, "not yet");
        assert_eq!(queue.drop_expired(late), 1);
        assert_eq!(queue.drop_expired(now + Duration::from_secs(3600)), 2);
        assert_eq!(subjects(&mut queue), ["signal.1", "signal.2"]);
        assert_eq!((queue.bytes, queue.lasting), (0, 0));
    }

    #[tokio::test]
    async fn only_what_never_expires_outlasts_the_connection() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(publication("typing", 10, Expiry::Moment, now));
        queue.push(publication("signal", 10, Expiry::Never, now));
        queue.push(publication("event", 10, Expiry::Hint, now));
        assert_eq!(queue.drop_expiring(), 2);
        assert_eq!(subjects(&mut queue), ["signal"]);
        assert_eq!((queue.bytes, queue.lasting), (0, 0));
    }

    #[tokio::test]
    async fn what_never_expires_is_bounded_and_the_oldest_goes_first() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let half = usize::try_from(LASTING / 2).expect("a length");
        queue.push(publication("event", 10, Expiry::Hint, now));
        queue.push(publication("signal.1", half - 100, Expiry::Never, now));
        queue.push(publication("signal.2", half - 100, Expiry::Never, now));
        assert_eq!(queue.push(publication("signal.3", half - 100, Expiry::Never, now)), 1);
        assert!(queue.lasting <= LASTING);
        // A single one always fits.
        assert_eq!(queue.push(publication("signal.4", 3 * half, Expiry::Never, now)), 2);
        assert_eq!(subjects(&mut queue), ["event", "signal.4"]);
    }

    #[tokio::test]
    async fn all_together_are_bounded() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for _ in 0..BACKLOG.0 {
            assert_eq!(queue.push(publication("event", 1, Expiry::Hint, now)), 0);
        }
        assert_eq!(queue.push(publication("event", 1, Expiry::Hint, now)), 1);
        assert_eq!(queue.drop_expiring(), BACKLOG.0 as u64);
        assert_eq!(queue.bytes(), 0);
    }
}
