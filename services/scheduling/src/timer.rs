//! The durable timer: what is due is done once, and not before its time, whichever process is alive then.
//!
//! A row of the table `timers` says that something is due: what kind of thing, which one, and when. It is written in the
//! same transaction as the thing itself. Every replica claims rows that are due, each for the length of a lease, and
//! does what they stand for; the row goes in the transaction that writes down the outcome. What was claimed by a process
//! that died is claimed again when the lease is over, so *doing* must be something that can be repeated: a scheduled
//! message is sent under a key that messaging shows once.
//!
//! - **Never early.** Due times are compared with the time of the database ([`Store::now`]), which is one for all
//!   replicas. It is read before it is compared, so it is the past by then: late by a moment, never early.
//! - **Never by two.** A claim is an UPDATE of rows that nobody holds, made by one statement that passes over rows which
//!   another replica is claiming. It is numbered; only the last claim of a row can write down an outcome.
//! - **In order.** What is due earlier is claimed earlier, and within a lane (for messages: a conversation) one thing is
//!   done before the next is claimed. So the overdue ones come out in due order after an outage, at a bounded rate.
//! - **Prompt.** The timer sleeps until the next row is due, is woken when this process writes an earlier one, and looks
//!   now and then for what other processes have written.
//!
//! Another kind of thing that waits for a time (a reminder, the end of ringing) is another [`Kind`], with a timer of its
//! own: it inserts its [`Entry`] with its own row, and hands [`Timer::run`] what is to be done.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chassis::clock::Timestamp;
use chassis::tasks::{Shutdown, Tasks};
use proto::id::UserId;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::Error;
use crate::store::Store;

/// The first wait after a setback; each is twice the one before.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// After so many tries (an hour or so) a row that keeps failing for reasons of its own no longer holds up its lane.
const STUBBORN: i64 = 720;

/// How long the timer waits when the database fails.
const TROUBLE: Duration = Duration::from_secs(1);

/// What kind of thing is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A scheduled message is to be sent.
    ScheduledMessage,
    /// The other person is to be told of a booking as it is now.
    Booking,
    /// The two of a booking are to be reminded.
    Reminder,
    /// The time of a call is over: of its ringing, of getting connected, or altogether.
    CallDeadline,
    /// A call is over, and others are to be told.
    CallOutcome,
}

impl Kind {
    /// Its name, for metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScheduledMessage => "scheduled_message",
            Self::Booking => "booking",
            Self::Reminder => "reminder",
            Self::CallDeadline => "call_deadline",
            Self::CallOutcome => "call_outcome",
        }
    }
}

/// Names what is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Whose it is.
    pub owner: UserId,
    /// What kind of thing it is.
    pub kind: Kind,
    /// Which one.
    pub id: Uuid,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.id)
    }
}

/// Something that will be due.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What.
    pub key: Key,
    /// What it stands in line with: within a lane things are done one after the other.
    pub lane: Uuid,
    /// When.
    pub due_time: Timestamp,
}

/// The right to do what is due, for the length of a lease.
#[derive(Clone, Debug)]
pub struct Claim {
    /// What is to be done.
    pub key: Key,
    /// When it was due.
    pub due_time: Timestamp,
    /// How often it has been claimed, this time included. Names the claim.
    pub attempt: i64,
    /// Whether an earlier claim may have done it.
    pub in_doubt: bool,
    /// When the lease began, or a little earlier, by the clock of this process.
    pub since: Instant,
}

/// Why what was claimed is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// It did not happen, and there is no sense in trying before so long. Others may go first.
    NotYet(Duration),
    /// It did not happen, because whoever it needs was not there.
    Away,
    /// It may or may not have happened.
    Unknown,
}

/// How a row is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Return {
    /// Its place in the order from now on.
    pub due_time: Timestamp,
    /// When it can be claimed again.
    pub wake_time: Timestamp,
    /// Whether it may have been done.
    pub in_doubt: bool,
}

impl Claim {
    /// Whether so much of the lease is gone that it would be over before the work is: after a long pause of this process,
    /// say. Then somebody else has it by now, or will.
    pub fn is_stale(&self, lease: Duration) -> bool {
        self.since.elapsed() > lease / 2
    }

    /// How it is given back after a setback.
    pub fn after(&self, setback: Setback, timing: &Timing, now: Timestamp) -> Return {
        let backoff = timing.backoff(self.attempt);
        let (wait, keeps_place) = match setback {
            Setback::NotYet(wait) => (backoff.max(wait), false),
            // It may come late, but it does not come after what was due later.
            Setback::Away => (backoff, true),
            Setback::Unknown => (backoff, self.attempt < STUBBORN),
        };
        let wake_time = now.plus(wait);
        Return {
            due_time: if keeps_place { self.due_time } else { wake_time },
            wake_time,
            // Doubt is not dispelled by a later try that certainly did nothing.
            in_doubt: self.in_doubt || setback == Setback::Unknown,
        }
    }
}

/// What a timer goes by.
#[derive(Clone, Debug)]
pub struct Timing {
    /// How long a claim lasts.
    pub lease: Duration,
    /// How many are claimed per second at most.
    pub rate: u32,
    /// How many are being done at a time.
    pub in_flight: u32,
    /// How often to look for what other processes have written.
    pub poll: Duration,
    /// The longest wait after a setback.
    pub longest_retry: Duration,
}

impl Timing {
    fn backoff(&self, attempt: i64) -> Duration {
        let doublings = u32::try_from(attempt.saturating_sub(1).clamp(0, 16)).unwrap_or(0);
        FIRST_RETRY.saturating_mul(1 << doublings).min(self.longest_retry)
    }
}

/// The timer of one kind of thing. Clones are the same timer.
#[derive(Clone)]
pub struct Timer(Arc<Inner>);

struct Inner {
    kind: Kind,
    timing: Timing,
    store: Store,
    tasks: Tasks,
    /// Rung when there may be something to claim earlier than it looked.
    bell: Notify,
    slots: Arc<Semaphore>,
}

impl Timer {
    /// A timer for one kind of thing; what it does runs among these tasks, so that it is finished before they end.
    pub fn new(kind: Kind, timing: Timing, store: Store, tasks: Tasks) -> Self {
        let slots = Arc::new(Semaphore::new(usize::try_from(timing.in_flight).unwrap_or(1)));
        Self(Arc::new(Inner { kind, timing, store, tasks, bell: Notify::new(), slots }))
    }

    /// What it goes by.
    pub fn timing(&self) -> &Timing {
        &self.0.timing
    }

    /// Says that something will be due then, once that is committed. What comes later than the timer looks anyway does
    /// not wake it.
    pub fn expect(&self, due_time: Timestamp, now: Timestamp) {
        if due_time.since(now) < self.0.timing.poll {
            self.0.bell.notify_one();
        }
    }

    /// Claims what is due and does it, until it is time to stop. Then it claims nothing more; what it has claimed is
    /// finished by the tasks that do it.
    ///
    /// `fire` does what a claim stands for and writes down the outcome. When it fails to, the lease ends by itself and
    /// somebody tries again.
    pub async fn run<F, Fut>(&self, shutdown: Shutdown, fire: F)
    where
        F: Fn(Claim) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let mut pace = Pace::new(self.0.timing.rate);
        let mut in_trouble = false;
        while !shutdown.is_set() {
            match self.round(&mut pace, &fire).await {
                Ok(wait) => {
                    if std::mem::take(&mut in_trouble) {
                        tracing::info!(timer = self.0.kind.name(), "the timer can read its table again");
                    }
                    tokio::select! {
                        () = shutdown.wait() => {}
                        () = self.0.bell.notified() => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut in_trouble, true) {
                        let cause =
                            std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                        tracing::warn!(
                            timer = self.0.kind.name(),
                            cause,
                            "the timer will try again: {error}"
                        );
                    }
                    // The bell does not shorten it.
                    tokio::select! {
                        () = shutdown.wait() => {}
                        () = tokio::time::sleep(TROUBLE) => {}
                    }
                }
            }
        }
    }

    /// Claims what is due, as far as there is room, and says how long to sleep.
    async fn round<F, Fut>(&self, pace: &mut Pace, fire: &F) -> Result<Duration, Error>
    where
        F: Fn(Claim) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let Inner { kind, timing, store, slots, .. } = &*self.0;
        let mut permits = Vec::with_capacity(slots.available_permits());
        while permits.len() < pace.allowance(Instant::now()) {
            match Arc::clone(slots).try_acquire_owned() {
                Ok(permit) => permits.push(permit),
                Err(_) => break,
            }
        }
        if permits.is_empty() {
            // Whoever is done rings.
            return Ok(pace.wait().unwrap_or(timing.poll));
        }
        let now = store.now().await?;
        let claims = store.claim(*kind, permits.len(), timing.lease, now).await?;
        pace.take(claims.len());
        let is_full = claims.len() == permits.len();
        for (claim, permit) in claims.into_iter().zip(permits) {
            self.late(&claim, now);
            self.begin(fire(claim), permit);
        }
        if is_full {
            return Ok(Duration::ZERO);
        }
        let next = store.next_wake_time(*kind, now).await?;
        Ok(next.map_or(timing.poll, |next| next.since(now)).min(timing.poll))
    }

    fn begin(&self, work: impl Future<Output = ()> + Send + 'static, permit: OwnedSemaphorePermit) {
        let timer = self.clone();
        self.0.tasks.spawn("fire", |_| async move {
            work.await;
            drop(permit);
            // There is room, and what comes next in the lane can be claimed.
            timer.0.bell.notify_one();
        });
    }

    /// Does something outside of the timer's own turn: at once, and to the end, even when whoever waits for it goes away.
    /// `None` when it panicked.
    pub async fn do_now<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let timer = self.clone();
        self.0.tasks.spawn("fire-now", |_| async move {
            let _ = answer.send(work.await);
            timer.0.bell.notify_one();
        });
        answered.await.ok()
    }

    fn late(&self, claim: &Claim, now: Timestamp) {
        if claim.attempt == 1 {
            let late = now.since(claim.due_time);
            metrics::histogram!(crate::TIMER_LATE, "kind" => self.0.kind.name()).record(late);
        }
    }
}

/// Spreads what is done over time: at most so many per second, and a tenth of that at once.
#[derive(Debug)]
struct Pace {
    per_second: f64,
    saved: f64,
    looked: Option<Instant>,
}

impl Pace {
    fn new(rate: u32) -> Self {
        let per_second = f64::from(rate);
        Self { per_second, saved: Self::most(per_second), looked: None }
    }

    fn most(per_second: f64) -> f64 {
        (per_second / 10.0).max(1.0)
    }

    /// How many may be done now.
    fn allowance(&mut self, now: Instant) -> usize {
        if let Some(looked) = self.looked.replace(now) {
            let gained = now.saturating_duration_since(looked).as_secs_f64() * self.per_second;
            self.saved = (self.saved + gained).min(Self::most(self.per_second));
        }
        // Between 0 and a tenth of a u32.
        self.saved.max(0.0) as usize
    }

    fn take(&mut self, count: usize) {
        self.saved -= f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// How long until one may be done; `None` when one may be now.
    fn wait(&self) -> Option<Duration> {
        (self.saved < 1.0).then(|| Duration::from_secs_f64((1.0 - self.saved).max(0.0) / self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn timing() -> Timing {
        crate::Config::default().timing()
    }

    fn claim(attempt: i64) -> Claim {
        let key =
            Key { owner: UserId::generate(), kind: Kind::ScheduledMessage, id: UserId::generate().uuid() };
        let due_time = NOW.minus(Duration::from_secs(1));
        Claim { key, due_time, attempt, in_doubt: false, since: Instant::now() }
    }

    #[test]
    fn what_may_have_happened_stays_in_doubt() {
        let first = claim(1).after(Setback::Unknown, &timing(), NOW);
        assert!(first.in_doubt);
        let again = Claim { in_doubt: true, ..claim(2) };
        for setback in [Setback::Away, Setback::NotYet(Duration::ZERO), Setback::Unknown] {
            assert!(again.after(setback, &timing(), NOW).in_doubt);
            assert_eq!(claim(2).after(setback, &timing(), NOW).in_doubt, setback == Setback::Unknown);
        }
    }

    #[test]
    fn an_outage_costs_nobody_the_place() {
        for attempt in [1, 10, 1_000_000] {
            let claim = claim(attempt);
            let back = claim.after(Setback::Away, &timing(), NOW);
            assert_eq!(back.due_time, claim.due_time);
            assert!(back.wake_time > NOW && back.wake_time <= NOW.plus(timing().longest_retry));
        }
    }

    #[test]
    fn who_has_to_wait_lets_others_go_first() {
        let wait = Duration::from_secs(600);
        let back = claim(1).after(Setback::NotYet(wait), &timing(), NOW);
        assert_eq!((back.due_time, back.wake_time), (NOW.plus(wait), NOW.plus(wait)));
    }

    #[test]
    fn one_that_never_works_does_not_hold_up_its_lane_for_ever() {
        let keeps = |attempt| {
            let claim = claim(attempt);
            claim.after(Setback::Unknown, &timing(), NOW).due_time == claim.due_time
        };
        assert!(keeps(1) && keeps(STUBBORN - 1) && !keeps(STUBBORN));
    }

    #[test]
    fn tries_come_less_and_less_often() {
        let waits: Vec<_> = (1..=8).map(|attempt| timing().backoff(attempt).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
        assert_eq!(timing().backoff(i64::MAX), timing().longest_retry);
    }

    #[test]
    fn a_claim_is_stale_long_before_the_lease_is_over() {
        let lease = Duration::from_secs(30);
        let held_for = |span| Claim { since: Instant::now().checked_sub(span).unwrap(), ..claim(1) };
        assert!(!held_for(Duration::from_secs(14)).is_stale(lease));
        assert!(held_for(Duration::from_secs(16)).is_stale(lease));
    }

    #[test]
    fn the_pace_is_kept() {
        let start = Instant::now();
        let mut pace = Pace::new(100);
        let mut done = 0;
        for millis in 0..=10_000 {
            let count = pace.allowance(start + Duration::from_millis(millis));
            pace.take(count);
            done += count;
            assert!(count <= 10);
        }
        // What was saved at the start, and a hundred for each second.
        assert!((1009..=1010).contains(&done), "{done}");
        assert!(pace.wait().is_some_and(|wait| wait <= Duration::from_millis(10)));
    }

    #[test]
    fn a_slow_pace_still_moves() {
        let start = Instant::now();
        let mut pace = Pace::new(1);
        assert_eq!(pace.allowance(start), 1);
        pace.take(1);
        assert_eq!(pace.allowance(start), 0);
        assert_eq!(pace.wait(), Some(Duration::from_secs(1)));
        assert_eq!(pace.allowance(start + Duration::from_secs(60)), 1);
    }
}
