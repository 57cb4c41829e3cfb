//! The seal of notices over NATS. Everyone who reaches NATS can publish, so everything that this process says is
//! sealed, and what is not sealed by the service that speaks on the subject is dropped unread.
//!
//! A sealed notice is a version, the id of a key, the origin (a bus of a process), the time, the HMAC-SHA-256 of the
//! subject and of all this, and the payload. Forged, changed and moved notices fail the HMAC. The times of one origin
//! grow, and a subscription takes none twice or after a later one, so a notice that is repeated is dropped; one that is
//! repeated where it was not heard is dropped when it is older than [`WINDOW`].

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::{BufMut, Bytes, BytesMut};
use metrics::Counter;
use ring::hmac;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::keys::{Key, KeyId, NoticeKeys};
use crate::clock::Clock;
use crate::events::topics::dropped_because;

/// The longest span between the time of a notice and the time of its receiver. Clocks of machines differ by less.
const WINDOW: Duration = Duration::from_secs(30);

/// The layout below.
const VERSION: u8 = 1;

/// The ends of the parts of a sealed notice.
const KEY_ID: usize = 1 + size_of::<KeyId>();
const ORIGIN: usize = KEY_ID + size_of::<u64>();
const TIME: usize = ORIGIN + size_of::<i64>();
const MAC: usize = TIME + 32;

/// The shortest span between two lines about dropped notices.
const TOLD_EVERY: Duration = Duration::from_secs(30);

/// Seals what this process says, and opens what it hears.
pub(super) struct Seals {
    keys: NoticeKeys,
    clock: Clock,
    origin: u64,
    /// In microseconds since 1970: the time of the latest notice. No two have the same.
    latest: AtomicI64,
    unsealed: Dropped,
    forged: Dropped,
    stale: Dropped,
    repeated: Counter,
}

/// The notices that one subscription has heard: the origins of the last moments, each with the time of its latest notice.
#[derive(Default)]
pub(super) struct Heard(Vec<(u64, i64)>);

impl Heard {
    /// Says that a notice is later than all of its origin. Those that are too old to be taken at all are forgotten.
    fn admits(&mut self, origin: u64, time: i64, now: i64) -> bool {
        if let Some((_, latest)) = self.0.iter_mut().find(|(known, _)| *known == origin) {
            let is_later = time > *latest;
            *latest = time.max(*latest);
            return is_later;
        }
        self.0.retain(|(_, latest)| now.saturating_sub(*latest) <= micros(WINDOW));
        self.0.push((origin, time));
        true
    }
}

impl Seals {
    pub(super) fn new(keys: NoticeKeys, clock: Clock) -> anyhow::Result<Self> {
        let origin =
            getrandom::u64().map_err(|error| anyhow::anyhow!("{error}")).context("no random numbers")?;
        Ok(Self {
            keys,
            clock,
            origin,
            latest: AtomicI64::new(0),
            unsealed: Dropped::because("unsealed"),
            forged: Dropped::because("forged"),
            stale: Dropped::because("stale"),
            repeated: dropped_because("repeated"),
        })
    }

    /// A notice as it goes over NATS; `None`, which is counted, when this process has no key for the subject.
    pub(super) fn seal(&self, subject: &str, payload: &[u8]) -> Option<Bytes> {
        let Some(key) = self.keys.of_subject(subject).first() else {
            self.unsealed.one(|count| {
                tracing::error!(
                    subject,
                    count,
                    "this process has no key to publish on {subject} with: nothing is said"
                );
            });
            return None;
        };
        let mut sealed = BytesMut::with_capacity(MAC + payload.len());
        sealed.put_u8(VERSION);
        sealed.put_slice(&key.id);
        sealed.put_u64(self.origin);
        sealed.put_i64(self.next_time());
        let tag = tag(key, subject, &sealed, payload);
        sealed.put_slice(tag.as_ref());
        sealed.put_slice(payload);
        Some(sealed.freeze())
    }

    /// The payload of a notice; `None`, which is counted, when it is not to be believed.
    pub(super) fn open(&self, subject: &str, sealed: &Bytes, heard: &mut Heard) -> Option<Bytes> {
        let Some((origin, time)) = self.verify(subject, sealed) else {
            self.forged.one(|count| {
                tracing::warn!(
                    subject,
                    count,
                    "dropped notices that the service of {subject} has not sealed"
                );
            });
            return None;
        };
        let now = self.now();
        if time.abs_diff(now) > micros(WINDOW).unsigned_abs() {
            self.stale.one(|count| {
                tracing::warn!(
                    subject,
                    count,
                    "dropped notices that are older than {WINDOW:?}: they are repeated, or clocks of machines differ"
                );
            });
            return None;
        }
        if !heard.admits(origin, time, now) {
            self.repeated.increment(1);
            return None;
        }
        Some(sealed.slice(MAC..))
    }

    /// The origin and the time of a notice that is sealed for this subject.
    fn verify(&self, subject: &str, sealed: &[u8]) -> Option<(u64, i64)> {
        let (head, rest) = sealed.split_at_checked(TIME)?;
        let (claimed, payload) = rest.split_at_checked(MAC - TIME)?;
        if head[0] != VERSION {
            return None;
        }
        let mut keys = self.keys.of_subject(subject).iter().filter(|key| key.id == head[1..KEY_ID]);
        keys.any(|key| tag(key, subject, head, payload).as_ref().ct_eq(claimed).into()).then_some(())?;
        let origin = u64::from_be_bytes(head[KEY_ID..ORIGIN].try_into().ok()?);
        let time = i64::from_be_bytes(head[ORIGIN..].try_into().ok()?);
        Some((origin, time))
    }

    fn now(&self) -> i64 {
        self.clock.now().as_millis().saturating_mul(1000)
    }

    fn next_time(&self) -> i64 {
        let now = self.now();
        let later = |latest: i64| Some(now.max(latest + 1));
        let before = self.latest.fetch_update(Ordering::SeqCst, Ordering::SeqCst, later);
        now.max(before.unwrap_or_default() + 1)
    }
}

/// The authentication of a notice. The subject is led by its length, so that none of its end passes for a beginning.
fn tag(key: &Key, subject: &str, head: &[u8], payload: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&key.hmac);
    context.update(&(subject.len() as u64).to_be_bytes());
    context.update(subject.as_bytes());
    context.update(head);
    context.update(payload);
    context.sign()
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// Notices that are dropped for one reason. All are counted, and they are told of now and then: everyone who reaches NATS can
/// make any number of them.
struct Dropped {
    counter: Counter,
    untold: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl Dropped {
    fn because(reason: &'static str) -> Self {
        Self { counter: dropped_because(reason), untold: AtomicU64::new(0), told: Mutex::default() }
    }

    /// Counts one, and tells of those that were not told of yet when it is time to.
    fn one(&self, tell: impl FnOnce(u64)) {
        self.counter.increment(1);
        self.untold.fetch_add(1, Ordering::Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            *told = Some(Instant::now());
            tell(self.untold.swap(0, Ordering::Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    const SUBJECT: &str = "parlor.messaging.v1.user.ann";
    const OLD: &str = "an old key of thirty-two letters";
    const NEW: &str = "a newer key of thirty-two letter";

    fn seals(secrets: &[&str], clock: &Clock) -> Seals {
        Seals::new(NoticeKeys::with(&[("messaging", secrets), ("auth", secrets)]), clock.clone())
            .expect("seals")
    }

    fn clock() -> Clock {
        Clock::manual(Timestamp::from_millis(1_000_000))
    }

    #[tokio::test]
    async fn what_was_sealed_is_opened_once() {
        let (clock, mut heard) = (clock(), Heard::default());
        let (speaker, listener) = (seals(&[OLD], &clock), seals(&[OLD], &clock));
        for payload in ["", "one", "two"] {
            let sealed = speaker.seal(SUBJECT, payload.as_bytes()).expect("a key");
            assert_eq!(listener.open(SUBJECT, &sealed, &mut heard).expect("opened"), payload);
            assert_eq!(listener.open(SUBJECT, &sealed, &mut heard), None, "again");
        }
    }

    #[tokio::test]
    async fn no_bit_can_be_changed_and_none_be_left_out() {
        let (clock, mut heard) = (clock(), Heard::default());
        let (speaker, listener) = (seals(&[OLD], &clock), seals(&[OLD], &clock));
        let sealed = speaker.seal(SUBJECT, b"words").expect("a key");
        for place in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.to_vec();
                changed[place] ^= 1 << bit;
                assert_eq!(listener.open(SUBJECT, &changed.into(), &mut heard), None, "{place} {bit}");
            }
            assert_eq!(listener.open(SUBJECT, &sealed.slice(..place), &mut heard), None, "{place}");
        }
        assert_eq!(listener.open(SUBJECT, &Bytes::from_static(b"words"), &mut heard), None);
        // Nothing of all this hides the real one.
        assert_eq!(listener.open(SUBJECT, &sealed, &mut heard).expect("opened"), "words");
    }

    #[tokio::test]
    async fn a_notice_is_for_one_subject() {
        let clock = clock();
        let (speaker, listener) = (seals(&[OLD], &clock), seals(&[OLD], &clock));
        let sealed = speaker.seal(SUBJECT, b"words").expect("a key");
        for other in ["parlor.messaging.v1.user.bob", "parlor.auth.v1.facts", "room", ""] {
            assert_eq!(listener.open(other, &sealed, &mut Heard::default()), None, "{other}");
        }
        assert_eq!(speaker.seal("parlor.conversation.v1.facts", b""), None, "it has no key for it");
    }

    #[tokio::test]
    async fn an_old_notice_is_not_taken_where_it_was_not_heard_either() {
        let clock = clock();
        let (speaker, listener) = (seals(&[OLD], &clock), seals(&[OLD], &clock));
        let mut heard = Heard::default();
        let sealed =
            ["one", "two", "three"].map(|words| speaker.seal(SUBJECT, words.as_bytes()).expect("a key"));
        let [one, two, three] = &sealed;
        assert!(listener.open(SUBJECT, two, &mut heard).is_some());
        assert_eq!(listener.open(SUBJECT, one, &mut heard), None, "after a later one");
        assert!(listener.open(SUBJECT, three, &mut Heard::default()).is_some(), "another subscription");
        clock.advance(WINDOW + Duration::from_millis(1));
        assert_eq!(listener.open(SUBJECT, three, &mut Heard::default()), None);
        // Nor one from a clock that is far ahead.
        let ahead = Clock::manual(clock.now().plus(WINDOW + Duration::from_secs(1)));
        let sealed = seals(&[OLD], &ahead).seal(SUBJECT, b"words").expect("a key");
        assert_eq!(listener.open(SUBJECT, &sealed, &mut Heard::default()), None);
    }

    #[tokio::test]
    async fn keys_are_replaced_step_by_step() {
        let clock = clock();
        let opens = |speaker: &[&str], listener: &[&str]| {
            let sealed = seals(speaker, &clock).seal(SUBJECT, b"words").expect("a key");
            seals(listener, &clock).open(SUBJECT, &sealed, &mut Heard::default()).is_some()
        };
        let steps: [&[&str]; 4] = [&[OLD], &[OLD, NEW], &[NEW, OLD], &[NEW]];
        for (before, after) in steps.iter().zip(&steps[1..]) {
            assert!(opens(before, after) && opens(after, before), "{before:?} {after:?}");
        }
        assert!(!opens(&[OLD], &[NEW]));
    }

    #[tokio::test]
    async fn those_who_spoke_long_ago_take_no_memory() {
        let (clock, mut heard) = (clock(), Heard::default());
        let listener = seals(&[OLD], &clock);
        for _ in 0..100 {
            let sealed = seals(&[OLD], &clock).seal(SUBJECT, b"words").expect("a key");
            assert!(listener.open(SUBJECT, &sealed, &mut heard).is_some());
            clock.advance(WINDOW);
        }
        assert!(heard.0.len() <= 3, "{}", heard.0.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_counted_and_told_of_now_and_then() {
        let dropped = Dropped::because("forged");
        let told = std::cell::RefCell::new(Vec::new());
        for _ in 0..3 {
            for _ in 0..1000 {
                dropped.one(|count| told.borrow_mut().push(count));
            }
            tokio::time::advance(TOLD_EVERY).await;
        }
        assert_eq!(*told.borrow(), [1, 1000, 1000]);
    }
}
