//! What the two logs are made of: what happens in a conversation, and what happens to one user.

use chassis::clock::Timestamp;
use prost::Message as _;
use proto::id::{ConversationId, MessageId, UserId};
use proto::messaging::v1::{self as pb, DeletionReason};

use crate::message::{Message, Sequence};
use crate::receipt::Watermark;
use crate::store::Failure;

/// Something durable that happened in a conversation.
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// A message was sent. In a replay it is shown as it stands now.
    MessageCreated(Message),
    /// A message has new content. In a replay it is shown as it stands now.
    MessageEdited(Message),
    /// A message is gone.
    MessageDeleted {
        /// The message.
        message_id: MessageId,
        /// Where it was sent.
        sequence: Sequence,
        /// How it went.
        reason: DeletionReason,
    },
    /// Something else happened to a message. In a replay it reads as the deletion once the message is gone.
    ToMessage {
        /// Where the message was sent.
        sequence: Sequence,
        /// What.
        payload: MessageChange,
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
            Self::ToMessage { payload, .. } => payload.kind(),
            Self::ToConversation { kind, .. } => kind.as_str(),
        }
    }

    /// Whether it may not travel on the bus.
    pub fn is_confidential(&self) -> bool {
        match self {
            Self::MessageCreated(message) | Self::MessageEdited(message) => message.is_confidential(),
            _ => false,
        }
    }

    /// About how many bytes it takes on the wire.
    pub fn weight(&self) -> usize {
        match self {
            Self::MessageCreated(message) | Self::MessageEdited(message) => message.weight(),
            Self::MessageDeleted { .. } => 64,
            Self::ToMessage { payload, .. } => payload.weight(),
            Self::ToConversation { payload, .. } => payload.len() + 64,
        }
    }
}

/// What can happen to a message besides being edited and deleted, in the words of the wire: they carry the state after it,
/// so that whoever applies them in order arrives at the message as it stands.
#[derive(Clone, Debug, PartialEq)]
pub enum MessageChange {
    /// A reaction came or went.
    Reaction(pb::ReactionChanged),
    /// It was pinned.
    Pinned(pb::MessagePinned),
    /// It was unpinned.
    Unpinned(pb::MessageUnpinned),
    /// Somebody voted.
    Voted(pb::PollVoted),
    /// The poll was closed.
    Closed(pb::PollClosed),
    /// Its link's preview came.
    Previewed(pb::LinkPreviewed),
}

impl MessageChange {
    const KINDS: [&str; 6] = [
        "reaction_changed",
        "message_pinned",
        "message_unpinned",
        "poll_voted",
        "poll_closed",
        "link_previewed",
    ];

    /// The word for it in the database.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Reaction(_) => Self::KINDS[0],
            Self::Pinned(_) => Self::KINDS[1],
            Self::Unpinned(_) => Self::KINDS[2],
            Self::Voted(_) => Self::KINDS[3],
            Self::Closed(_) => Self::KINDS[4],
            Self::Previewed(_) => Self::KINDS[5],
        }
    }

    /// Whether a word in the database stands for one of these.
    pub fn is_kind(word: &str) -> bool {
        Self::KINDS.contains(&word)
    }

    /// As it is stored: an encoded `parlor.messaging.v1.Event` with nothing but its payload.
    pub fn encode(&self) -> Vec<u8> {
        pb::Event { payload: Some(self.clone().into()), ..pb::Event::default() }.encode_to_vec()
    }

    /// From how it is stored.
    pub fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        use pb::event::Payload;
        match pb::Event::decode(bytes).ok().and_then(|event| event.payload) {
            Some(Payload::ReactionChanged(change)) => Ok(Self::Reaction(change)),
            Some(Payload::MessagePinned(change)) => Ok(Self::Pinned(change)),
            Some(Payload::MessageUnpinned(change)) => Ok(Self::Unpinned(change)),
            Some(Payload::PollVoted(change)) => Ok(Self::Voted(change)),
            Some(Payload::PollClosed(change)) => Ok(Self::Closed(change)),
            Some(Payload::LinkPreviewed(change)) => Ok(Self::Previewed(change)),
            _ => Err(Failure::corrupt("what happened to a message cannot be read")),
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Previewed(change) => change.encoded_len(),
            _ => 256,
        }
    }
}

impl From<MessageChange> for pb::event::Payload {
    fn from(change: MessageChange) -> Self {
        match change {
            MessageChange::Reaction(change) => Self::ReactionChanged(change),
            MessageChange::Pinned(change) => Self::MessagePinned(change),
            MessageChange::Unpinned(change) => Self::MessageUnpinned(change),
            MessageChange::Voted(change) => Self::PollVoted(change),
            MessageChange::Closed(change) => Self::PollClosed(change),
            MessageChange::Previewed(change) => Self::LinkPreviewed(change),
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
    /// All messages up to some place are gone.
    Purged,
}

impl FactKind {
    const ALL: [Self; 7] = [
        Self::Created,
        Self::Updated,
        Self::Deleted,
        Self::MembersAdded,
        Self::MemberRemoved,
        Self::RoleChanged,
        Self::Purged,
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
            Self::Purged => "messages_purged",
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
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Debug, PartialEq)]
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
    /// The user deleted a message for itself.
    MessageHidden {
        /// Where it is.
        conversation: ConversationId,
        /// Which.
        message_id: MessageId,
        /// Where it was sent.
        sequence: Sequence,
    },
    /// An alert is new, has changed or was read.
    AlertChanged(Box<pb::Alert>),
    /// A message was reported, or a report was resolved.
    ReportChanged(Box<pb::Report>),
    /// The display name or the picture of the user changed.
    ProfileChanged,
}
