//! What people can be interested in: a list that the operator keeps.

use crate::error::Error;
use crate::profile::InterestId;
use crate::user::Keyword;
use crate::users::Users;

/// Something to be interested in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    /// Where it stands in the list.
    pub position: i64,
    /// Its id.
    pub id: InterestId,
    /// Its name in English.
    pub name: String,
    /// An emoji that stands for it.
    pub emoji: String,
}

/// Which interests to list, and from where on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterestListing {
    /// Part of the name.
    pub keyword: Option<Keyword>,
    /// Only those behind this position; 0 for all.
    pub after: i64,
    /// At most so many.
    pub limit: i64,
}

/// A page of interests, and whether there are more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterestPage {
    /// In the order of the list.
    pub interests: Vec<Interest>,
    /// Whether there are more.
    pub has_more: bool,
}

impl Users {
    /// The interests that there are.
    pub async fn interests(&self, listing: &InterestListing) -> Result<InterestPage, Error> {
        self.store.list_interests(listing).await
    }
}
