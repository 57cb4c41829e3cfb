//! The one for whom a connection reads: a user in one of their sessions, or the anonymous viewer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chassis::clock::Timestamp;
use proto::id::{SessionId, UserId};
use uuid::Uuid;

/// A user, or the anonymous viewer, who is not signed in and reads what is publicly readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Viewer {
    User(UserId),
    Anonymous,
}

impl Viewer {
    /// The id by which questions of access name the viewer. The nil UUID, which no user has, is the anonymous viewer's.
    pub(crate) fn access_id(self) -> UserId {
        self.user_id().unwrap_or(UserId::from(Uuid::nil()))
    }

    /// The user; `None` for the anonymous viewer.
    pub(crate) fn user_id(self) -> Option<UserId> {
        match self {
            Self::User(user_id) => Some(user_id),
            Self::Anonymous => None,
        }
    }
}

/// A session that a token was found to stand for.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    /// The user.
    pub(crate) user_id: UserId,
    /// The user's session.
    pub(crate) session_id: SessionId,
    /// The session's token, and its end.
    pub(crate) ticket: Ticket,
}

/// The token of a session, and its end.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    /// The session's token.
    pub(crate) token: Arc<str>,
    /// When the session ends, as far as is known: it may have been prolonged since.
    pub(crate) expires: Timestamp,
}

/// The user and the session of a connection. The token of the session may be renewed.
#[derive(Debug)]
pub(crate) struct Identity {
    user_id: UserId,
    session_id: SessionId,
    ticket: Mutex<Ticket>,
}

impl Identity {
    /// The user.
    pub(crate) fn user_id(&self) -> UserId {
        self.user_id
    }

    /// The user's session.
    pub(crate) fn session_id(&self) -> SessionId {
        self.session_id
    }

    /// The present token of the session.
    pub(crate) fn token(&self) -> Arc<str> {
        Arc::clone(&self.ticket().token)
    }

    /// When the session ends, as far as is known.
    pub(crate) fn expires(&self) -> Timestamp {
        self.ticket().expires
    }

    /// Replaces the token and the end of the session.
    pub(crate) fn renew(&self, ticket: Ticket) {
        *self.ticket() = ticket;
    }

    fn ticket(&self) -> MutexGuard<'_, Ticket> {
        self.ticket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<SignedIn> for Identity {
    fn from(SignedIn { user_id, session_id, ticket }: SignedIn) -> Self {
        Self { user_id, session_id, ticket: Mutex::new(ticket) }
    }
}
