//! The verified identity behind a request.

use proto::id::{SessionId, UserId};
use tonic::{Code, Request, Status};

use crate::fault::Fault;

/// The user on whose behalf a request acts. Always verified; never taken from a request's fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user_id: UserId,
    /// The session, when the user came with one; a service acting for a user has none.
    pub session_id: Option<SessionId>,
    /// What kind of caller it is.
    pub kind: CallerKind,
}

/// What kind of caller it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerKind {
    /// A user with an account.
    Registered,
    /// A guest.
    Guest,
    /// A service, acting for a user.
    Service,
}

impl Caller {
    /// The caller of a request. Refuses a request that came from nobody, or from a service on its own account.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        request.extensions().get::<Self>().cloned().ok_or_else(|| unauthenticated().into())
    }
}

/// The fault of a request that needs a caller and has none.
pub fn unauthenticated() -> Fault {
    Fault::new(Code::Unauthenticated, "ERROR_REASON_UNAUTHENTICATED")
        .message("sign in: send `authorization: Bearer <session token>`")
}
