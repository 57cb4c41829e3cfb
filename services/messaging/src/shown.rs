//! The watermarks that streams of this process have shown. A receipt that arrives late is not shown after a newer one,
//! on the same stream or on one that was opened later.

use std::sync::{Arc, Mutex, PoisonError};

use chassis::newest::Newest;
use proto::id::{ConversationId, UserId};
use proto::messaging::v1 as pb;

/// The members of whom a watermark is remembered at least; some 4 MB at most. A receipt is late by seconds only, because
/// its publisher drops it when it had to wait longer.
const REMEMBERED: usize = 32 * 1024;

/// The watermarks that were shown.
#[derive(Clone, Debug)]
pub struct Shown(Arc<Mutex<Newest<(ConversationId, UserId), 2>>>);

impl Default for Shown {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Newest::new(REMEMBERED))))
    }
}

impl Shown {
    /// Whether a watermark may be shown: no higher one was.
    pub fn admits(&self, watermark: &pb::Watermark) -> bool {
        let conversation = ConversationId::parse(&watermark.conversation_id);
        let (Ok(conversation), Ok(user)) = (conversation, UserId::parse(&watermark.user_id)) else {
            return true;
        };
        let numbers = [watermark.delivered_sequence, watermark.read_sequence];
        // Nothing in here panics half way through a change, so a poisoned lock is as good as any other.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).admits((conversation, user), numbers)
    }
}
