//! What happened in auth that other services act on.

use chassis::clock::Timestamp;
use proto::id::{EventId, ReviewId, UserId};

use crate::review::{Change, Review};

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
    /// The display name or the picture changed.
    Updated,
    /// A review of the user is new, has changed or is gone.
    ReviewChanged {
        /// The review.
        review_id: ReviewId,
        /// Who wrote it.
        reviewer_id: UserId,
        /// What became of it.
        change: Change,
        /// Goes up by one with every change of this review.
        version: i64,
    },
}

impl Fact {
    /// A user was deleted.
    pub fn deleted(user_id: UserId, time: Timestamp) -> Self {
        Self { id: EventId::generate(), time, user_id, what: What::Deleted }
    }

    /// The display name or the picture of a user changed.
    pub fn updated(user_id: UserId, time: Timestamp) -> Self {
        Self { id: EventId::generate(), time, user_id, what: What::Updated }
    }

    /// A review changed: as it is now, or as it was when it went.
    pub fn review_changed(review: &Review, change: Change, time: Timestamp) -> Self {
        let version = review.version + i64::from(change == Change::Deleted);
        let (review_id, reviewer_id) = (review.id, review.reviewer_id);
        let what = What::ReviewChanged { review_id, reviewer_id, change, version };
        Self { id: EventId::generate(), time, user_id: review.user_id, what }
    }
}
