//! The bus within one process: a publication is a look-up and one `try_send` per receiver.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::topics::{Receiver, Topics};

/// The bus within one process.
pub struct Local {
    topics: Topics<()>,
}

impl Local {
    pub(super) fn new() -> Self {
        Self { topics: Topics::new() }
    }

    pub(super) fn publish(&self, subject: &str, payload: Bytes) {
        self.topics.published();
        self.topics.deliver(subject, &payload);
    }

    pub(super) fn subscribe(&self, subject: &str, receiver: Receiver) -> (Arc<str>, u64) {
        let (subject, id, ()) = self.topics.add(subject, receiver, |_| (), |()| ());
        (subject, id)
    }

    pub(super) fn unsubscribe(&self, subject: &str, id: u64) {
        self.topics.remove(subject, id);
    }

    pub(super) fn interruptions(&self) -> watch::Receiver<u64> {
        self.topics.interruptions()
    }
}
