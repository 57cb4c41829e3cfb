//! The viewer for whom a connection reads: a user in one of their sessions, or the anonymous viewer.

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
    /// Returns the id by which access checks name the viewer. The nil UUID, which no user has, is the anonymous
    /// viewer's.
    pub(crate) fn access_id(self) -> UserId {
        self.user_id().unwrap_or(UserId::from(Uuid::nil()))
    }

    /// Returns the user; `None` for the anonymous viewer.
    pub(crate) fn user_id(self) -> Option<UserId> {
        match self {
            Self::User(user_id) => Some(user_id),
            Self::Anonymous => None,
        }
    }
}

/// The session of a verified token.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    /// The user.
    pub(crate) user_id: UserId,
    /// The user's session.
    pub(crate) session_id: SessionId,
    /// The secret that proves it, and its end.
    pub(crate) proof: SessionProof,
}

/// The secret with which a session may be read.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// The session's token.
    Token(Arc<str>),
    /// A ticket for an event stream, which is valid for this stream only.
    StreamTicket {
        /// The ticket.
        ticket: Arc<str>,
        /// The key of the stream.
        key: StreamKey,
    },
}

impl Credential {
    /// Returns the key of the event stream that was opened with a ticket.
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
    /// Returns the bytes that an id contains.
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

/// The secret that proves a session, and the session's end.
#[derive(Clone, Debug)]
pub(crate) struct SessionProof {
    /// The secret.
    pub(crate) credential: Credential,
    /// The end of the session, as far as is known: it may have been prolonged since.
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
    /// Returns the user.
    pub(crate) fn user_id(&self) -> UserId {
        self.user_id
    }

    /// Returns the user's session.
    pub(crate) fn session_id(&self) -> SessionId {
        self.session_id
    }

    /// Returns the current secret of the session.
    pub(crate) fn credential(&self) -> Credential {
        self.proof().credential.clone()
    }

    /// Returns the current token of the session; empty, which no session's is, for an event stream that was opened with
    /// a ticket.
    pub(crate) fn token(&self) -> Arc<str> {
        match &self.proof().credential {
            Credential::Token(token) => Arc::clone(token),
            Credential::StreamTicket { .. } => Arc::from(""),
        }
    }

    /// Returns the end of the session, as far as is known.
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
