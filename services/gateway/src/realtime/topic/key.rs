//! The identifiers of logs.

use proto::id::{ConversationId, UserId};

/// A log that can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// The log of a conversation.
    Conversation(ConversationId),
    /// The log of a user.
    User(UserId),
}

const CONVERSATION_SUBJECT: &str = "parlor.messaging.v1.conversation.";
const USER_SUBJECT: &str = "parlor.messaging.v1.user.";

impl Key {
    /// Returns the subject on which hints about it are published.
    pub(crate) fn subject(self) -> String {
        match self {
            Self::Conversation(id) => proto::subject::conversation(id),
            Self::User(id) => proto::subject::user(id),
        }
    }

    /// Returns the log of a subject of hints.
    pub(crate) fn of_subject(subject: &str) -> Option<Self> {
        if let Some(id) = subject.strip_prefix(CONVERSATION_SUBJECT) {
            return ConversationId::parse(id).ok().map(Self::Conversation);
        }
        subject.strip_prefix(USER_SUBJECT).and_then(|id| UserId::parse(id).ok()).map(Self::User)
    }

    /// Returns a number that spreads logs evenly: the last bytes of an id are random.
    pub(crate) fn spread(self) -> usize {
        let id = match self {
            Self::Conversation(id) => id.uuid(),
            Self::User(id) => id.uuid(),
        };
        let [.., a, b] = id.into_bytes();
        usize::from(u16::from_be_bytes([a, b]))
    }
}
