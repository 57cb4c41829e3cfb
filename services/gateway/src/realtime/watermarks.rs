//! The watermarks that clients of this gateway were shown. A receipt that arrives late is not shown after a newer one.
//!
//! They outlast the connections and the topics, so that a client that comes back to this gateway is shown nothing older
//! either. The memory is bounded by keeping the most recently used ones: a receipt is late by seconds at most, because
//! its publisher drops it when it had to wait longer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chassis::newest::Newest;
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::Watermark;

/// The minimum number of members of whom each shard remembers a watermark; some 20 MB in all shards at most.
const REMEMBERED: usize = 32 * 1024;

/// The watermarks of a member in a conversation, delivered and read.
type Known = Newest<(ConversationId, UserId), 2>;

/// The watermarks that were shown in the topics of one shard. Only the shard uses it: it never waits for the lock.
#[derive(Clone)]
pub(super) struct Watermarks(Arc<Mutex<Known>>);

impl Default for Watermarks {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Newest::new(REMEMBERED))))
    }
}

impl Watermarks {
    /// True when a watermark may be shown: no higher one was.
    pub(super) fn admits(&self, watermark: &Watermark) -> bool {
        key(watermark).is_none_or(|key| self.lock().admits(key, numbers(watermark)))
    }

    /// Raises a watermark that answers a command to the one that was shown already.
    pub(super) fn raise(&self, watermark: &mut Watermark) {
        if let Some(key) = key(watermark) {
            [watermark.delivered_sequence, watermark.read_sequence] =
                self.lock().note(key, numbers(watermark));
        }
    }

    /// Forgets everything: the sequences are of another epoch.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // No code panics between two parts of a change, so a poisoned lock is still consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(watermark: &Watermark) -> Option<(ConversationId, UserId)> {
    let conversation = ConversationId::parse(&watermark.conversation_id).ok()?;
    Some((conversation, UserId::parse(&watermark.user_id).ok()?))
}

fn numbers(watermark: &Watermark) -> [i64; 2] {
    [watermark.delivered_sequence, watermark.read_sequence]
}
