//! The sweeper: erases what was purged, and checkpoints of event streams that are not used. What was purged is unreadable
//! from that instant on, because every read looks at the head; this is about what is still stored.
//!
//! What there is to do stands in the rows, so a restart forgets nothing; and each batch is looked at again under the locks
//! of the heads, so replicas that sweep at once do each thing once.

use std::time::Duration;

use chassis::clock::Clock;
use chassis::tasks::{Shutdown, Tasks};
use tokio::time::{MissedTickBehavior, interval};

use crate::store::{Failure, Store};
use crate::stream_checkpoints::UNUSED;

/// How many messages one transaction erases.
const BATCH: i64 = 256;

/// The number of checkpoints that one transaction removes.
const CHECKPOINTS: i64 = 256;

/// How many emptied conversations are looked up at once.
const CONVERSATIONS: i64 = 64;

/// The counter of what was swept.
pub const SWEPT: &str = "messaging_swept_total";

/// Erases what was purged.
#[derive(Clone)]
pub struct Sweeper {
    /// Where it is.
    pub store: Store,
    /// Tells the time.
    pub clock: Clock,
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
                // What fails is done at the next tick.
                for outcome in [self.sweep_purged(&shutdown).await, self.sweep_checkpoints(&shutdown).await] {
                    if let Err(failure) = outcome {
                        failure.log();
                    }
                }
            }
        });
    }

    /// Removes checkpoints of event streams that have not been used for long.
    async fn sweep_checkpoints(&self, shutdown: &Shutdown) -> Result<(), Failure> {
        let unused_since = self.clock.now().minus(UNUSED);
        let is_full = |swept: u64| i64::try_from(swept).is_ok_and(|swept| swept >= CHECKPOINTS);
        while !shutdown.is_set()
            && is_full(self.store.sweep_stream_checkpoints(unused_since, CHECKPOINTS).await?)
        {}
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
