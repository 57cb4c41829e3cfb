//! The names of logs.

use proto::id::{ConversationId, UserId};

/// A log that can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// A conversation's.
    Conversation(ConversationId),
    /// A user's own.
    User(UserId),
}

const CONVERSATION_SUBJECT: &str = "parlor.messaging.v1.conversation.";
const USER_SUBJECT: &str = "parlor.messaging.v1.user.";

impl Key {
    /// Where hints about it are published.
    pub(crate) fn subject(self) -> String {
        match self {
            Self::Conversation(id) => proto::subject::conversation(id),
            Self::User(id) => proto::subject::user(id),
        }
    }

    /// The log that the hints of a subject are about.
    pub(crate) fn of_subject(subject: &str) -> Option<Self> {
        if let Some(id) = subject.strip_prefix(CONVERSATION_SUBJECT) {
            return ConversationId::parse(id).ok().map(Self::Conversation);
        }
        subject.strip_prefix(USER_SUBJECT).and_then(|id| UserId::parse(id).ok()).map(Self::User)
    }

    /// A number that spreads logs evenly: the last bytes of an id are random.
    pub(crate) fn spread(self) -> usize {
        let id = match self {
            Self::Conversation(id) => id.uuid(),
            Self::User(id) => id.uuid(),
        };
        let [.., a, b] = id.into_bytes();
        usize::from(u16::from_be_bytes([a, b]))
    }
}
