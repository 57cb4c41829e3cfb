//! Tidies up once a minute: sessions that have ended by themselves, guests whose session has ended, counts of tries that are refilled.

use std::sync::Arc;
use std::time::Duration;

use chassis::tasks::{Shutdown, Tasks};

use crate::accounts::Accounts;
use crate::error::Error;

/// How often.
const EVERY: Duration = Duration::from_secs(60);

/// How many sessions, and how many guests, in one transaction.
const BATCH: i64 = 200;

/// Starts the task that tidies up.
pub fn start(accounts: Arc<Accounts>, tasks: &Tasks) {
    tasks.spawn("sweep", |shutdown| async move {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = sweep(&accounts, &shutdown).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "could not tidy up, will try again");
            }
        }
    });
}

async fn sweep(accounts: &Accounts, shutdown: &Shutdown) -> Result<(), Error> {
    let (store, now) = (&accounts.store, accounts.clock.now());
    let is_full = |count: usize| i64::try_from(count).is_ok_and(|count| count >= BATCH) && !shutdown.is_set();
    let mut sessions = 0;
    loop {
        let swept = store.sweep_sessions(now, BATCH).await?;
        sessions += swept;
        if !is_full(usize::try_from(swept).unwrap_or(0)) {
            break;
        }
    }
    while is_full(usize::try_from(store.sweep_attempts(now, BATCH).await?).unwrap_or(0)) {}
    let mut guests = 0;
    loop {
        let swept = store.sweep_guests(now, BATCH).await?;
        if !swept.is_empty() {
            accounts.publisher.facts();
        }
        guests += swept.len();
        if !is_full(swept.len()) {
            break;
        }
    }
    if sessions > 0 || guests > 0 {
        tracing::info!(
            sessions,
            guests,
            "removed {sessions} sessions that had ended and {guests} guests who had gone"
        );
    }
    Ok(())
}
