//! What happened in auth that other services act on.

use chassis::clock::Timestamp;
use proto::id::{EventId, UserId};

/// Something that happened to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Its id.
    pub id: EventId,
    /// When it happened.
    pub time: Timestamp,
    /// Whom it happened to.
    pub user_id: UserId,
    /// What happened.
    pub what: What,
}

/// What happened to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The account is gone.
    Deleted,
}

impl Fact {
    /// A user was deleted.
    pub fn deleted(user_id: UserId, time: Timestamp) -> Self {
        Self { id: EventId::generate(), time, user_id, what: What::Deleted }
    }
}
