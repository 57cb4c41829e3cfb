//! Noticing what happens to the connection, and saying each thing once.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Event;
use metrics::Counter;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::barrier::Barrier;
use super::{Line, Link, PATIENCE};
use crate::events::topics::Topics;

/// The oldest server that is known to work.
const OLDEST: (u64, u64) = (2, 9);

/// What there is to complain of since the connection was last well, the latest last. Each thing is said once.
#[derive(Default)]
pub(super) struct Condition {
    complaints: Mutex<Vec<String>>,
}

impl Condition {
    fn complaints(&self) -> MutexGuard<'_, Vec<String>> {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn latest(&self) -> Option<String> {
        self.complaints().last().cloned()
    }

    /// Remembers a complaint. Returns whether it is a new one.
    fn complain(&self, complaint: &str) -> bool {
        let mut complaints = self.complaints();
        let is_new = complaints.len() < 16 && !complaints.iter().any(|known| known == complaint);
        if is_new {
            complaints.push(complaint.to_owned());
        }
        is_new
    }

    /// Takes a server as it is, unless it is too old.
    pub(super) fn greet(&self, version: &str) -> anyhow::Result<()> {
        if is_too_old(version) {
            let (major, minor) = OLDEST;
            let complaint = format!("NATS {version} is too old: it must be {major}.{minor} or later");
            self.complain(&complaint);
            anyhow::bail!(complaint);
        }
        self.complaints().clear();
        tracing::info!(nats.version = version, "connected to NATS {version}");
        Ok(())
    }

    pub(super) fn away(&self, why: &str) {
        if self.complain(why) {
            tracing::warn!("NATS is away: {why}; live delivery is late until it is back");
        }
    }

    fn refused(&self, why: &str) {
        if self.complain(why) {
            // Nothing mends itself when permissions are missing; anything else ends with the connection.
            if why.to_lowercase().contains("permissions violation") {
                tracing::error!("NATS refuses what this process needs: {why}");
            } else {
                tracing::warn!("NATS complains: {why}");
            }
        }
    }

    pub(super) fn without_echo(&self) {
        let complaint =
            "NATS does not echo: allow this user to publish and subscribe to _INBOX.<its service>.>";
        if self.complain(complaint) {
            tracing::warn!("{complaint}; until then every new subscription takes {PATIENCE:?}");
        }
    }
}

/// A version that cannot be read is nobody's release, and taken as it is.
fn is_too_old(version: &str) -> bool {
    let mut parts = version.split(['.', '-']).map_while(|part| part.parse::<u64>().ok());
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => (major, minor) < OLDEST,
        _ => false,
    }
}

/// Notices what happens to the connection.
pub(super) struct Watch {
    pub(super) topics: Arc<Topics<Link>>,
    pub(super) line: Line,
    pub(super) barrier: Barrier,
    pub(super) condition: Arc<Condition>,
    pub(super) known: u64,
    pub(super) slow: Counter,
}

impl Watch {
    pub(super) async fn run(mut self, mut notices: mpsc::Receiver<Event>) {
        // Notices may be lost in a flood of them; the count of connections is not.
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                notice = notices.recv() => match notice {
                    Some(notice) => self.notice(&notice),
                    None => return,
                },
                _ = ticks.tick() => {}
            }
            let connections = self.line.statistics.connects.load(Ordering::Relaxed);
            if connections != self.known && self.line.is_up() {
                self.known = connections;
                self.back().await;
            }
        }
    }

    fn notice(&self, notice: &Event) {
        match notice {
            Event::SlowConsumer(_) => {
                self.slow.increment(1);
                self.topics.interrupted();
            }
            Event::Disconnected => self.condition.away("the connection is lost"),
            Event::ServerError(error) => self.condition.refused(&error.to_string()),
            Event::ClientError(error) => self.condition.away(&error.to_string()),
            Event::Connected | Event::LameDuckMode | Event::Draining | Event::Closed => {}
        }
    }

    /// The connection is back, and the client has told the server all subscriptions again. Only when those have come
    /// into effect it makes sense to look at the log: what happens from now on, arrives.
    async fn back(&self) {
        if timeout(PATIENCE, self.barrier.pass()).await.is_err() {
            if self.line.is_up() {
                self.condition.without_echo();
            }
        } else if let Err(error) = self.condition.greet(&self.line.version()) {
            tracing::error!("{error}: nothing is certain with it");
        }
        self.topics.interrupted();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_is_known_by_its_version() {
        for version in ["2.8.4", "1.4.0", "2.8.0-beta.1"] {
            assert!(is_too_old(version), "{version}");
        }
        for version in ["2.9.10", "2.12.7-RC.1", "3.0.0", "", "dev"] {
            assert!(!is_too_old(version), "{version}");
        }
    }
}
