//! Erasing the messages whose time is over. They are unreadable from that instant on, because every read looks at the
//! time; this is about what is still stored, and about telling those who follow.
//!
//! The sweeper wakes at the time of the next message to expire. It learns that time from the database, and from its own
//! process as soon as one is stored that expires sooner. What another replica stores it finds when it looks again, which
//! is more often than the shortest life of a message, so that it needs no word of that replica, and neither does it
//! matter whether that replica is still there. What there is to do stands in the rows, so a restart forgets nothing; and
//! each batch is looked at again under the locks of the heads, so replicas that sweep at once do each thing once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chassis::clock::{Clock, Timestamp};
use chassis::tasks::{Shutdown, Tasks};
use proto::id::{ConversationId, UserId};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::conversations::Conversations;
use crate::publish::Publisher;
use crate::store::{Failure, Overdue, Store, Swept};
use crate::sweep::SWEPT;

/// How many messages one transaction erases.
const BATCH: i64 = 256;

/// The time between two sweeps, so that many messages that expire one after the other are erased in batches.
const PACE: Duration = Duration::from_millis(100);

/// How long conversation is waited for. Without an answer an event says under which version its message was sent.
const PATIENCE: Duration = Duration::from_millis(250);

/// Erasing a message later than this after its time is worth a warning.
const LATE: Duration = Duration::from_secs(60);

/// When the next message expires, as far as this process knows.
#[derive(Clone, Debug)]
pub struct ExpiryAlarm {
    next: Arc<AtomicI64>,
    sooner: Arc<Notify>,
}

impl Default for ExpiryAlarm {
    fn default() -> Self {
        Self { next: Arc::new(AtomicI64::new(i64::MAX)), sooner: Arc::default() }
    }
}

impl ExpiryAlarm {
    /// A message was stored that expires at this time.
    pub fn expect(&self, time: Timestamp) {
        if self.lower(time) {
            self.sooner.notify_one();
        }
    }

    /// Forgets what it knows. What is stored from now on counts again, and what was stored before is in the database.
    fn reset(&self) {
        self.next.store(i64::MAX, Ordering::SeqCst);
    }

    /// Says whether the time is sooner than what was known.
    fn lower(&self, time: Timestamp) -> bool {
        self.next.fetch_min(time.as_millis(), Ordering::SeqCst) > time.as_millis()
    }

    fn next(&self) -> Timestamp {
        Timestamp::from_millis(self.next.load(Ordering::SeqCst))
    }
}

/// Erases the messages whose time is over.
#[derive(Clone)]
pub struct ExpirySweeper {
    /// Where they are.
    pub store: Store,
    /// Say under which version of the members an event is written.
    pub conversations: Conversations,
    /// Tells the time.
    pub clock: Clock,
    /// Tells the others.
    pub publisher: Publisher,
    /// Knows of what this process stores.
    pub alarm: ExpiryAlarm,
    /// How often it looks without knowing of anything.
    pub every: Duration,
}

impl ExpirySweeper {
    /// Sweeps until the service stops.
    pub fn start(self, tasks: &Tasks) {
        tasks.spawn("expiry", |shutdown| async move {
            while !shutdown.is_set() {
                self.alarm.reset();
                if let Err(failure) = self.round(&shutdown).await {
                    failure.log();
                    // The next look is not before its time, however much is due.
                    self.alarm.reset();
                }
                tokio::select! {
                    () = shutdown.wait() => return,
                    () = self.wait() => {}
                }
            }
        });
    }

    /// Erases what is due and sets the alarm for what is next.
    async fn round(&self, shutdown: &Shutdown) -> Result<(), Failure> {
        self.sweep(shutdown).await?;
        if let Some(next) = self.store.next_expiry().await? {
            self.alarm.lower(next);
        }
        Ok(())
    }

    /// Waits for the next message to expire, and at most until it is time to look again.
    async fn wait(&self) {
        sleep(PACE.min(self.every)).await;
        let look = sleep(self.every.saturating_sub(PACE));
        tokio::pin!(look);
        loop {
            let left = self.alarm.next().since(self.clock.now());
            tokio::select! {
                () = &mut look => return,
                () = sleep(left) => return,
                () = self.alarm.sooner.notified() => {}
            }
        }
    }

    async fn sweep(&self, shutdown: &Shutdown) -> Result<(), Failure> {
        let mut oldest: Option<Timestamp> = None;
        while !shutdown.is_set() {
            let now = self.clock.now();
            let overdue = self.store.overdue(now, BATCH).await?;
            let is_last = i64::try_from(overdue.len()).is_ok_and(|count| count < BATCH);
            if overdue.is_empty() {
                break;
            }
            let versions = self.versions(&overdue).await;
            let Swept { events, alerts } = self.store.sweep(&overdue, &versions, now).await?;
            if !events.is_empty() {
                oldest = oldest.or(overdue.first().map(|first| first.expire_time));
                metrics::counter!(SWEPT, "reason" => "expired").increment(events.len() as u64);
            }
            events.into_iter().for_each(|event| self.publisher.event(event));
            alerts.into_iter().for_each(|event| self.publisher.user_event(event));
            if is_last {
                break;
            }
        }
        let late = oldest.map_or(Duration::ZERO, |time| self.clock.now().since(time));
        if late > LATE {
            tracing::warn!(
                late_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX),
                "the sweeper is behind: it has erased messages {} s after their time was over",
                late.as_secs()
            );
        }
        Ok(())
    }

    async fn versions(&self, overdue: &[Overdue]) -> HashMap<ConversationId, i64> {
        let senders: BTreeMap<ConversationId, UserId> =
            overdue.iter().map(|one| (one.conversation, one.sender)).collect();
        let questions = Vec::from_iter(senders);
        timeout(PATIENCE, self.conversations.versions(&questions)).await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_alarm_wakes_for_what_is_sooner_only() {
        let alarm = ExpiryAlarm::default();
        let time = Timestamp::from_millis;
        let wakes = async || timeout(Duration::ZERO, alarm.sooner.notified()).await.is_ok();
        assert!(!wakes().await);
        alarm.expect(time(50));
        assert!(wakes().await);
        alarm.expect(time(60));
        alarm.expect(time(50));
        assert!(!wakes().await, "what is later changes nothing");
        alarm.expect(time(40));
        assert!(wakes().await);
        assert_eq!(alarm.next(), time(40));
        alarm.reset();
        // What the sweeper reads wakes nobody, and does not hide what is sooner.
        alarm.expect(time(20));
        assert!(wakes().await);
        assert!(!alarm.lower(time(30)));
        assert!(alarm.lower(time(10)) && !wakes().await);
        assert_eq!(alarm.next(), time(10));
    }
}
