//! What one user sees of another.

use chassis::caller::{Caller, CallerKind};
use proto::id::UserId;

use crate::profile::{Day, Visibility};
use crate::user::{Account, User};

/// An account as somebody sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The account.
    pub account: Account,
    /// Whether its profile is shown.
    pub shows_profile: bool,
    /// Whether a service looks, which has to respect what the user wants and therefore always sees that.
    pub is_service: bool,
    /// The day on which it is looked at; ages depend on it.
    pub today: Day,
}

/// Who looks, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// The user who looks, or for whom a service does.
    pub id: UserId,
    /// Whether it is a service.
    pub is_service: bool,
    /// The day in UTC.
    pub today: Day,
}

impl Viewer {
    /// The caller as somebody who looks.
    pub fn new(caller: &Caller, today: Day) -> Self {
        Self { id: caller.user_id, is_service: caller.kind == CallerKind::Service, today }
    }

    /// Whether the profile is seen; `None` when that hangs on more than the two users' own words.
    pub fn sees(&self, user: &User) -> Option<bool> {
        match user.profile.visibility {
            _ if user.id == self.id => Some(true),
            Visibility::Everyone => Some(true),
            Visibility::Nobody => Some(false),
            Visibility::Connections | Visibility::Categories => None,
        }
    }
}
