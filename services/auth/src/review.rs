//! What people thought of each other, and what makes two of them acquainted: values that cannot be wrong once built.

use chassis::clock::Timestamp;
use proto::id::{ReviewId, UserId};
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use crate::error::Error;
use crate::user::{MISLEADING, is_misleading, visible_or_empty};

/// What one person thought of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// Its id.
    pub id: ReviewId,
    /// Who wrote it.
    pub reviewer_id: UserId,
    /// Whom it is about.
    pub user_id: UserId,
    /// What it says.
    pub verdict: Verdict,
    /// Goes up by one with every change, from 1.
    pub version: i64,
    /// When it was written.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
}

/// What a review says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    stars: i64,
    text: String,
}

impl Verdict {
    /// Reads a rating from 1 to 5 and a text of at most 2,000 characters, which may have lines.
    pub fn parse(rating: i32, text: &str) -> Result<Self, Error> {
        if !(1..=5).contains(&rating) {
            return Err(Error::invalid("rating", "must be between 1 and 5"));
        }
        if text.contains(|c| is_misleading(c) && c != '\n') {
            return Err(Error::invalid("text", MISLEADING));
        }
        // In the one spelling (NFC) that every way of typing it comes to: the same text again must be the same.
        let text: String = text.nfc().collect();
        if text.chars().count() > 2000 {
            return Err(Error::invalid("text", "must have at most 2000 characters"));
        }
        let text = visible_or_empty("text", text.trim())?;
        Ok(Self { stars: rating.into(), text })
    }

    /// What is in the database because it was parsed before.
    pub(crate) fn stored(stars: i64, text: String) -> Self {
        Self { stars, text }
    }

    /// 1 to 5.
    pub fn stars(&self) -> i64 {
        self.stars
    }

    /// Why; may be empty.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// What the reviews of a user come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rating {
    /// How many there are.
    pub count: i64,
    /// The sum of their stars.
    pub sum: i64,
}

/// What came of a review that was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The review as it is now.
    pub review: Review,
    /// What it did.
    pub change: Option<Change>,
    /// What the reviews of the user come to now.
    pub rating: Rating,
}

/// What became of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was written.
    Written,
    /// Its rating or its text changed.
    Updated,
    /// It was deleted.
    Deleted,
}

/// Whose reviews to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those about this user.
    About(UserId),
    /// Those by this user.
    By(UserId),
}

/// The place of a review in a list: when it changed, and its id.
pub type Place = (i64, Uuid);

/// A page of reviews, the one that changed last first, and whether there are more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewPage {
    /// The reviews.
    pub reviews: Vec<Review>,
    /// Whether there are more.
    pub has_more: bool,
}

impl Review {
    /// Its place in a list.
    pub fn place(&self) -> Place {
        (self.update_time.as_millis(), self.id.uuid())
    }
}

/// Two people, in the order in which they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    low: UserId,
    high: UserId,
}

impl Pair {
    /// The two, in any order; `None` for one and the same.
    pub fn new(one: UserId, other: UserId) -> Option<Self> {
        (one != other).then(|| Self { low: one.min(other), high: one.max(other) })
    }

    /// The one with the smaller id.
    pub fn low(self) -> UserId {
        self.low
    }

    /// The other.
    pub fn high(self) -> UserId {
        self.high
    }
}

/// How two people know each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// They are connected, or are so no longer.
    Connection {
        /// Whether they are.
        is_there: bool,
    },
    /// They had a call. That stays so.
    Call,
    /// One of the two blocks the other, or does so no longer.
    Block {
        /// Whether one does.
        is_there: bool,
    },
}

/// What a service says about two people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquaintance {
    /// The two.
    pub pair: Pair,
    /// How they know each other.
    pub tie: Tie,
    /// Goes up with every change between these two in this way.
    pub version: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_in_one_spelling_without_what_is_around_it() {
        let verdict = Verdict::parse(5, "\n A\u{308}nn\nlistens  ").unwrap();
        assert_eq!((verdict.stars(), verdict.text()), (5, "Änn\nlistens"));
        assert_eq!(Verdict::parse(1, "").unwrap().text(), "");
        assert!(Verdict::parse(1, &"ä".repeat(2000)).is_ok());
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for rating in [0, 6, -1, i32::MAX] {
            assert!(matches!(Verdict::parse(rating, ""), Err(Error::Invalid { field: "rating", .. })));
        }
        // One character that NFC takes apart, and each of the kinds that are not shown.
        let grows = "\u{1D15E}".repeat(2000);
        for text in ["a\0", "a\tb", "a\r\nb", "a\u{7f}", "a\u{202e}b", "\u{2028}", &"a".repeat(2001), &grows]
        {
            let refused = Verdict::parse(3, text);
            assert!(matches!(refused, Err(Error::Invalid { field: "text", .. })), "{text:.10}");
        }
    }

    #[test]
    fn a_pair_is_the_same_from_both_sides() {
        let (one, other) = (UserId::generate(), UserId::generate());
        let pair = Pair::new(other, one).unwrap();
        assert_eq!(Pair::new(one, other), Some(pair));
        assert_eq!((pair.low(), pair.high()), (one, other));
        assert_eq!(Pair::new(one, one), None);
    }
}
