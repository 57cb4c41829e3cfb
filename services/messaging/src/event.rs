//! What the two logs are made of: what happens in a conversation, and what happens to one user.

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId, UserId};

use crate::message::{Message, Sequence};
use crate::receipt::Watermark;

/// Something durable that happened in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The conversation.
    pub conversation: ConversationId,
    /// Its place in the log.
    pub sequence: Sequence,
    /// The conversation's membership version when it was written.
    pub membership_version: i64,
    /// When it happened.
    pub occur_time: Timestamp,
    /// Who did it, if somebody did.
    pub actor: Option<UserId>,
    /// What happened.
    pub what: Happening,
}

/// What happened in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A message was sent. In a replay it is shown as it stands now.
    MessageCreated(Message),
    /// A message has new content. In a replay it is shown as it stands now.
    MessageEdited(Message),
    /// A message's content is gone.
    MessageDeleted {
        /// The message.
        message_id: MessageId,
        /// Where it was sent.
        sequence: Sequence,
    },
    /// Something happened to the conversation itself. We pass it on in the words of the service that owns it.
    ToConversation {
        /// What kind of thing.
        kind: FactKind,
        /// An encoded `parlor.messaging.v1.Event` with nothing but its payload.
        payload: Vec<u8>,
    },
}

impl Happening {
    /// The word for it in the database.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::MessageCreated(_) => "message_created",
            Self::MessageEdited(_) => "message_edited",
            Self::MessageDeleted { .. } => "message_deleted",
            Self::ToConversation { kind, .. } => kind.as_str(),
        }
    }

    /// About how many bytes it takes on the wire.
    pub fn weight(&self) -> usize {
        match self {
            Self::MessageCreated(message) | Self::MessageEdited(message) => message.weight(),
            Self::MessageDeleted { .. } => 64,
            Self::ToConversation { payload, .. } => payload.len() + 64,
        }
    }
}

/// What can happen to a conversation itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactKind {
    /// It was made.
    Created,
    /// Its title, topic or settings changed.
    Updated,
    /// It is gone: the last event of its log.
    Deleted,
    /// Users came in.
    MembersAdded,
    /// A user is out.
    MemberRemoved,
    /// A member's role changed.
    RoleChanged,
}

impl FactKind {
    const ALL: [Self; 6] = [
        Self::Created,
        Self::Updated,
        Self::Deleted,
        Self::MembersAdded,
        Self::MemberRemoved,
        Self::RoleChanged,
    ];

    /// The word for it in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "conversation_created",
            Self::Updated => "conversation_updated",
            Self::Deleted => "conversation_deleted",
            Self::MembersAdded => "members_added",
            Self::MemberRemoved => "member_removed",
            Self::RoleChanged => "member_role_changed",
        }
    }

    /// What the word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Something that happened to a conversation, as conversation tells it.
#[derive(Clone, Debug)]
pub struct Fact {
    /// The conversation.
    pub conversation: ConversationId,
    /// Its membership version after it.
    pub membership_version: i64,
    /// When it happened.
    pub occur_time: Timestamp,
    /// Who did it, if somebody did.
    pub actor: Option<UserId>,
    /// What kind of thing.
    pub kind: FactKind,
    /// An encoded `parlor.messaging.v1.Event` with nothing but its payload.
    pub payload: Vec<u8>,
    /// Who is in because of it, and since when.
    pub gained: Vec<(UserId, Timestamp)>,
    /// Who is out because of it, and how: a number of `parlor.conversation.v1.RemovalReason`.
    pub lost: Vec<(UserId, i32)>,
}

/// Something durable that concerns one user only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserEvent {
    /// The user.
    pub user: UserId,
    /// Its place in the user's own log.
    pub sequence: Sequence,
    /// When it happened.
    pub occur_time: Timestamp,
    /// What happened.
    pub what: UserHappening,
}

/// What happened to a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserHappening {
    /// The user is in one more conversation.
    ConversationGained {
        /// Which.
        conversation: ConversationId,
        /// What happened since the user is in comes after this.
        after: Sequence,
    },
    /// The user is out of a conversation.
    ConversationLost {
        /// Which.
        conversation: ConversationId,
        /// How: a number of `parlor.conversation.v1.RemovalReason`.
        reason: i32,
    },
    /// The user read on, or received more, on one of its devices.
    WatermarkAdvanced(Watermark),
}
