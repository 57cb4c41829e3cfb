//! Writes down when sessions were used, beside the requests and many at a time: a request never waits for it, and
//! losing one only makes a session look idle for a minute longer.

use std::collections::BTreeMap;

use chassis::tasks::{Shutdown, Tasks};
use proto::id::{SessionId, UserId};
use tokio::sync::mpsc;

use crate::session::Use;
use crate::store::Store;

/// How many uses may wait; what comes then is lost.
const WAITING: usize = 1024;

/// How many uses are written in one transaction.
const BATCH: usize = 256;

/// Takes note of uses.
#[derive(Clone, Debug)]
pub struct Uses(mpsc::Sender<Use>);

impl Uses {
    /// Starts the task that writes them down.
    pub fn start(store: Store, tasks: &Tasks) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        tasks.spawn("record-uses", |shutdown| record(store, receiver, shutdown));
        Self(sender)
    }

    /// Takes note of a use. Never waits.
    pub fn note(&self, used: Use) {
        if self.0.try_send(used).is_err() {
            metrics::counter!("auth_uses_lost_total").increment(1);
        }
    }
}

async fn record(store: Store, mut uses: mpsc::Receiver<Use>, shutdown: Shutdown) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            // What waits is written before the task ends.
            biased;
            count = uses.recv_many(&mut batch, BATCH) => if count == 0 { return },
            () = shutdown.wait() => return,
        }
        // Two requests of one session may both have found its use worth noting. In the order of ids, so that two
        // processes that write the same sessions do not lock each other out.
        let latest: BTreeMap<(UserId, SessionId), Use> =
            batch.drain(..).map(|one| ((one.user_id, one.session_id), one)).collect();
        let latest: Vec<Use> = latest.into_values().collect();
        if let Err(error) = store.record_uses(&latest).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "uses of sessions were not written down"
            );
        }
    }
}
