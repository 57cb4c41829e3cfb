//! How far a member has come in a conversation, and the one rule about it: it only moves forward, and never past the
//! head of the log.

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId, UserId};

use crate::message::Sequence;

/// How far a member has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// The conversation.
    pub conversation: ConversationId,
    /// The member.
    pub user: UserId,
    /// The highest sequence that reached one of the member's devices; at least what is read.
    pub delivered: Sequence,
    /// The highest sequence that the member has read.
    pub read: Sequence,
    /// When it last moved; `None` for never.
    pub update_time: Option<Timestamp>,
}

/// How far a member says to have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Delivered up to here; nothing for 0.
    pub delivered: Sequence,
    /// Read up to here; nothing for 0.
    pub read: Sequence,
}

/// How far a member says to have come, by sequences and by messages. Where both are given the higher one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// By sequences.
    pub progress: Progress,
    /// Delivered up to this message.
    pub delivered: Option<MessageId>,
    /// Read up to this message.
    pub read: Option<MessageId>,
}

/// A watermark after a move, and how far the member had come before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// After the move.
    pub watermark: Watermark,
    /// Before the move.
    pub previous: Progress,
}

impl Watermark {
    /// The watermark of one who has received nothing.
    pub const fn start(conversation: ConversationId, user: UserId) -> Self {
        Self { conversation, user, delivered: Sequence::NONE, read: Sequence::NONE, update_time: None }
    }

    /// The watermark after a member said how far it has come, in a log that reaches to `head`; `None` when nothing moves.
    pub fn advance(&self, progress: Progress, head: Sequence, now: Timestamp) -> Option<Self> {
        let read = self.read.max(progress.read.min(head));
        // What is read is delivered too.
        let delivered = self.delivered.max(progress.delivered.min(head)).max(read);
        let moves = (delivered, read) != (self.delivered, self.read);
        moves.then_some(Self { delivered, read, update_time: Some(now), ..*self })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reading_delivers() {
        let start = Watermark::start(ConversationId::generate(), UserId::generate());
        let progress = Progress { delivered: Sequence::NONE, read: Sequence::new(3) };
        let moved = start.advance(progress, Sequence::new(9), Timestamp::from_millis(1)).expect("moves");
        assert_eq!((moved.delivered.get(), moved.read.get()), (3, 3));
        assert_eq!(moved.advance(progress, Sequence::new(9), Timestamp::from_millis(2)), None);
    }

    proptest! {
        #[test]
        fn it_never_falls_and_never_passes_the_head(
            steps in proptest::collection::vec((0..40_i64, 0..40_i64, 0..3_i64), 0..60),
        ) {
            let mut head = 0;
            let mut mark = Watermark::start(ConversationId::generate(), UserId::generate());
            for (delivered, read, grown) in steps {
                head += grown;
                let progress = Progress { delivered: Sequence::new(delivered), read: Sequence::new(read) };
                let after = mark.advance(progress, Sequence::new(head), Timestamp::from_millis(1)).unwrap_or(mark);
                prop_assert!(after.read >= mark.read && after.delivered >= mark.delivered);
                prop_assert!(after.read <= after.delivered && after.delivered.get() <= head);
                prop_assert!(after.read.get() >= read.min(head));
                prop_assert!(after.delivered.get() >= delivered.min(head));
                mark = after;
            }
        }
    }
}
