//! What one user sees of another.

use chassis::caller::{self, CallerKind};
use proto::id::UserId;

use crate::profile::{Day, Visibility};
use crate::user::{Account, User};

/// An account as somebody sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The account.
    pub account: Account,
    /// How much of it is shown.
    pub detail: Detail,
    /// Whether a service looks, which has to respect what the user wants and therefore always sees that.
    pub is_service: bool,
    /// The day on which it is looked at; ages depend on it.
    pub today: Day,
}

/// How much of an account is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The profile.
    Profile,
    /// What every signed-in user sees.
    Card,
    /// What an anonymous viewer sees.
    Public,
}

/// Who looks, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// The user who looks, or for whom a service does; `None` for an anonymous viewer.
    pub id: Option<UserId>,
    /// Whether it is a service.
    pub is_service: bool,
    /// The day in UTC.
    pub today: Day,
}

impl Viewer {
    /// The viewer of a request.
    pub fn new(viewer: &caller::Viewer, today: Day) -> Self {
        match viewer.caller() {
            Some(caller) => {
                let is_service = caller.kind == CallerKind::Service;
                Self { id: Some(caller.user_id), is_service, today }
            }
            None => Self { id: None, is_service: false, today },
        }
    }

    /// How much is seen of a user; `None` when that depends on more than the two users' own words.
    pub fn sees(&self, user: &User) -> Option<Detail> {
        let Some(id) = self.id else { return Some(Detail::Public) };
        match user.profile.visibility {
            _ if user.id == id => Some(Detail::Profile),
            Visibility::Everyone => Some(Detail::Profile),
            Visibility::Nobody => Some(Detail::Card),
            Visibility::Connections | Visibility::Categories => None,
        }
    }
}
