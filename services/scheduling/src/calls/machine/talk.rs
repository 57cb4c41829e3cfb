//! What is known of a call from its answer on: who has lost whom, and how long it was.

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::SessionId;

use super::{Outcome, Side};

/// What is known of a call that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Talk {
    /// The device that answered.
    pub session: SessionId,
    /// When.
    pub accept_time: Timestamp,
    /// Without a word it is over then.
    pub deadline: Timestamp,
    /// It lasts no longer than this, whatever is said.
    pub longest_until: Timestamp,
    /// Since when they are connected, as the first of them has said.
    pub connect_time: Option<Timestamp>,
    /// Whether the caller has said so.
    pub caller_connected: bool,
    /// Whether the one who was called has said so.
    pub callee_connected: bool,
    /// Since when the caller has lost the other.
    pub caller_lost: Option<Timestamp>,
    /// Since when the one who was called has lost the other.
    pub callee_lost: Option<Timestamp>,
}

impl Talk {
    pub(super) fn lost_of(&mut self, side: Side) -> &mut Option<Timestamp> {
        match side {
            Side::Caller => &mut self.caller_lost,
            Side::Callee => &mut self.callee_lost,
        }
    }

    pub(super) fn connected_of(&mut self, side: Side) -> &mut bool {
        match side {
            Side::Caller => &mut self.caller_connected,
            Side::Callee => &mut self.callee_connected,
        }
    }

    /// Whether both have said that they are connected. The word of one is no sign of the other.
    pub fn both_connected(&self) -> bool {
        self.caller_connected && self.callee_connected
    }

    /// Whether one of them has lost the other.
    pub(super) fn is_lost(&self) -> bool {
        self.caller_lost.is_some() || self.callee_lost.is_some()
    }

    /// How long they were connected when it is over at a time: until the first of the two was lost for good.
    pub(super) fn duration(&self, outcome: Outcome, end: Timestamp) -> Option<Duration> {
        let lost = [self.caller_lost, self.callee_lost].into_iter().flatten().min();
        let Some(connect_time) = self.connect_time else { return Some(Duration::ZERO) };
        match lost {
            Some(lost) => Some(lost.min(end).since(connect_time)),
            // One of them has never been heard of.
            None if outcome == Outcome::Failed && !self.both_connected() => Some(Duration::ZERO),
            // Both went without a word, and nobody knows when.
            None if outcome == Outcome::Failed => None,
            None => Some(end.since(connect_time)),
        }
    }
}

/// A time that a device says, but never before what must have been and never after now.
pub(super) fn within(said: Option<Timestamp>, earliest: Timestamp, now: Timestamp) -> Timestamp {
    said.unwrap_or(now).min(now).max(earliest)
}
