//! Takes away what is not needed any more: files that no message refers to, and bytes that belong to no file.
//!
//! First the rows that lead to an object go, or are marked; then the object; then its own row. Whatever happens between
//! is done again by the next sweep, by this replica or by another: nothing is lost by doing it twice.

use std::time::Duration;

use chassis::clock::Clock;
use chassis::tasks::Tasks;

use super::depot::Depot;
use crate::store::{Failure, Store};

/// How often it sweeps.
const INTERVAL: Duration = Duration::from_secs(60);

/// How much it takes at a time.
const BATCH: i64 = 100;

/// Takes away what is not needed any more.
#[derive(Clone)]
pub struct Sweeper {
    /// Where the rows are.
    pub store: Store,
    /// Where the bytes are.
    pub depot: Depot,
    /// Tells the time.
    pub clock: Clock,
}

impl Sweeper {
    /// Sweeps every minute.
    pub fn start(self, tasks: &Tasks) {
        tasks.spawn("upload-sweeper", |shutdown| async move {
            loop {
                tokio::select! {
                    () = shutdown.wait() => return,
                    () = tokio::time::sleep(INTERVAL) => {}
                }
                if let Err(failure) = self.sweep().await {
                    failure.log();
                }
            }
        });
    }

    /// Sweeps once, all there is.
    pub async fn sweep(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        loop {
            let uploads = self.store.uploads_to_sweep(now, BATCH).await?;
            for id in &uploads {
                self.store.sweep_upload(*id, now).await?;
            }
            if uploads.len() < BATCH as usize {
                break;
            }
        }
        loop {
            let objects = self.store.objects_to_sweep(now, BATCH).await?;
            for id in &objects {
                if self.depot.remove(*id).await.is_err() {
                    // It has been logged. What is left is tried again with the next sweep.
                    return Ok(());
                }
                self.store.forget_object(*id).await?;
            }
            if objects.len() < BATCH as usize {
                return Ok(());
            }
        }
    }
}
