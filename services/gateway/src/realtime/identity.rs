//! The one for whom a connection reads: a user in one of their sessions, or the anonymous viewer.

use std::fmt;
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
    /// The secret that shows it, and its end.
    pub(crate) proof: SessionProof,
}

/// The secret that a session may be read with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// The session's token.
    Token(Arc<str>),
    /// A ticket for an event stream, which allows nothing but this stream.
    StreamTicket {
        /// The ticket.
        ticket: Arc<str>,
        /// The key of the stream.
        key: StreamKey,
    },
}

impl Credential {
    /// The key of the event stream that was opened with a ticket.
    pub(crate) fn stream_key(&self) -> Option<&StreamKey> {
        match self {
            Self::Token(_) => None,
            Self::StreamTicket { key, .. } => Some(key),
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(***)",
            Self::StreamTicket { .. } => "StreamTicket(***)",
        })
    }
}

/// The secret in the ids of an event stream that was opened with a ticket.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StreamKey([u8; 16]);

impl StreamKey {
    /// The bytes that an id carries.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<[u8; 16]> for StreamKey {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamKey(***)")
    }
}

/// The secret that shows that a session is there, and its end.
#[derive(Clone, Debug)]
pub(crate) struct SessionProof {
    /// The secret.
    pub(crate) credential: Credential,
    /// When the session ends, as far as is known: it may have been prolonged since.
    pub(crate) expires: Timestamp,
}

/// The user and the session of a connection. The token of the session may be renewed.
#[derive(Debug)]
pub(crate) struct Identity {
    user_id: UserId,
    session_id: SessionId,
    proof: Mutex<SessionProof>,
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

    /// The present secret of the session.
    pub(crate) fn credential(&self) -> Credential {
        self.proof().credential.clone()
    }

    /// The present token of the session; empty, which no session has, for an event stream that was opened with a ticket.
    pub(crate) fn token(&self) -> Arc<str> {
        match &self.proof().credential {
            Credential::Token(token) => Arc::clone(token),
            Credential::StreamTicket { .. } => Arc::from(""),
        }
    }

    /// When the session ends, as far as is known.
    pub(crate) fn expires(&self) -> Timestamp {
        self.proof().expires
    }

    /// Replaces the secret and the end of the session.
    pub(crate) fn renew(&self, proof: SessionProof) {
        *self.proof() = proof;
    }

    fn proof(&self) -> MutexGuard<'_, SessionProof> {
        self.proof.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<SignedIn> for Identity {
    fn from(SignedIn { user_id, session_id, proof }: SignedIn) -> Self {
        Self { user_id, session_id, proof: Mutex::new(proof) }
    }
}
