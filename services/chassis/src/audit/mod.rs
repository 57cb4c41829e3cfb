//! The audit log: who did what to what, when, from where, and with which outcome.
//!
//! The policy of an rpc says whether its calls are audited. The entry of a call is written before the call is answered: a
//! call that was acknowledged has one. It holds ids and names of the contract; no message, name, password or code.
//!
//! A task chains the entries: each gets a sequence and a SHA-256 sum over itself and the sum before it. A change or the
//! removal of an entry breaks the chain, which [`verify`] finds. A chain that was written anew is found by a place
//! in it that was kept elsewhere: the task writes the end of the chain into the process's log once an hour.

mod call;
mod entry;
mod layer;
#[cfg(test)]
mod tests;
mod verify;

use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::entry::{Entry, Link};
pub use self::layer::record;
pub(crate) use self::verify::export;
pub use self::verify::{Anchor, Verified, verify};
use crate::clock::Clock;
use crate::database::Database;
use crate::tasks::{Shutdown, Tasks};

/// The interval at which entries are put into the chain.
const CHAINED: Duration = Duration::from_secs(1);

/// At most so many entries are put into the chain in one transaction.
const BATCH: i64 = 500;

/// The interval at which the end of the chain is written into the process's log.
const ANCHORED: Duration = Duration::from_secs(3600);

/// The audit log of one service. Clones share it.
#[derive(Clone, Debug)]
pub struct AuditLog {
    database: Database,
    clock: Clock,
}

impl AuditLog {
    /// The log in the database of a service, with the task that chains its entries.
    pub fn start(service: &'static str, database: &Database, clock: &Clock, tasks: &Tasks) -> Self {
        let chained = database.clone();
        tasks.spawn("audit", move |shutdown| chain(service, chained, shutdown));
        Self { database: database.clone(), clock: clock.clone() }
    }

    pub(crate) async fn append(&self, entry: &Entry) -> sqlx::Result<()> {
        self.database.audit_append(entry).await
    }
}

/// Chains entries until the service stops.
async fn chain(service: &'static str, database: Database, shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(CHAINED);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut anchored: Option<Instant> = None;
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            _ = ticks.tick() => {}
        }
        match database.audit_chain(BATCH).await {
            Ok(None) => {}
            Ok(Some((_, head))) if anchored.is_none_or(|at| at.elapsed() >= ANCHORED) => {
                anchored = Some(Instant::now());
                tracing::info!(service, "the audit log of {service} ends at {}", Anchor::from(head));
            }
            Ok(Some(_)) => {}
            Err(error) => tracing::warn!(service, %error, "entries of the audit log are not chained yet"),
        }
    }
}
