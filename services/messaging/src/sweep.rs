//! The sweeper: erases what nobody can read any more. Messages whose time is over and conversations that were emptied are
//! unreadable from the instant on, because every read looks at the time; this is about what is still stored.
//!
//! What there is to do stands in the rows, so a restart forgets nothing; and each batch is looked at again under the locks
//! of the heads, so replicas that sweep at once do each thing once.

use std::collections::BTreeMap;
use std::time::Duration;

use chassis::clock::{Clock, Timestamp};
use chassis::tasks::{Shutdown, Tasks};
use proto::id::{ConversationId, UserId};
use tokio::time::{MissedTickBehavior, interval};

use crate::conversations::Conversations;
use crate::publish::Publisher;
use crate::store::{Failure, Store};

/// How many messages one transaction erases.
const BATCH: i64 = 256;

/// How many emptied conversations are looked up at once.
const CONVERSATIONS: i64 = 64;

/// What is erased later than this after its time is worth a word.
const LATE: Duration = Duration::from_secs(60);

/// The counter of what was swept.
pub const SWEPT: &str = "messaging_swept_total";

/// Erases what nobody can read any more.
#[derive(Clone)]
pub struct Sweeper {
    /// Where it is.
    pub store: Store,
    /// Say under which version of the members an event is written.
    pub conversations: Conversations,
    /// Tells the time.
    pub clock: Clock,
    /// Tells the others.
    pub publisher: Publisher,
    /// How often it looks.
    pub every: Duration,
}

impl Sweeper {
    /// Sweeps until the service stops.
    pub fn start(self, tasks: &Tasks) {
        tasks.spawn("sweep", |shutdown| async move {
            let mut ticks = interval(self.every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = shutdown.wait() => return,
                    _ = ticks.tick() => {}
                }
                // Neither has to wait for the other, and what fails is done at the next tick.
                if let Err(failure) = self.sweep_expired(&shutdown).await {
                    failure.log();
                }
                if let Err(failure) = self.sweep_purged(&shutdown).await {
                    failure.log();
                }
            }
        });
    }

    /// Erases the messages whose time is over.
    async fn sweep_expired(&self, shutdown: &Shutdown) -> Result<(), Failure> {
        let mut oldest: Option<Timestamp> = None;
        while !shutdown.is_set() {
            let now = self.clock.now();
            let overdue = self.store.overdue(now, BATCH).await?;
            let is_last = i64::try_from(overdue.len()).is_ok_and(|count| count < BATCH);
            if overdue.is_empty() {
                break;
            }
            let senders: BTreeMap<ConversationId, UserId> =
                overdue.iter().map(|one| (one.conversation, one.sender)).collect();
            // Without an answer the event says under which version the message was sent.
            let versions = self.conversations.versions(&Vec::from_iter(senders)).await;
            let events = self.store.sweep(&overdue, &versions, now).await?;
            if !events.is_empty() {
                oldest = oldest.or(overdue.first().map(|first| first.expire_time));
                metrics::counter!(SWEPT, "reason" => "expired").increment(events.len() as u64);
            }
            events.into_iter().for_each(|event| self.publisher.event(event));
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

    /// Erases what was purged. The conversations have had their events.
    async fn sweep_purged(&self, shutdown: &Shutdown) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let conversations = self.store.purged_conversations(after, CONVERSATIONS).await?;
            let Some(&last) = conversations.last() else { return Ok(()) };
            for conversation in conversations {
                let mut goes_on = true;
                while goes_on {
                    if shutdown.is_set() {
                        return Ok(());
                    }
                    let (erased, more) = self.store.sweep_purged(conversation, BATCH).await?;
                    metrics::counter!(SWEPT, "reason" => "purged").increment(erased);
                    goes_on = more;
                }
            }
            after = Some(last);
        }
    }
}
