//! What happened to conversations and between people, for those who act on it.

use chassis::clock::Timestamp;
use proto::id::{ConversationId, EventId, UserId};

use crate::conversation::{Conversation, Kind, SlowMode, Title, Topic};
use crate::member::{Member, Removal};
use crate::request::Request;
use crate::role::Role;

/// Something that happened. It is written in the transaction in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Its id.
    pub id: EventId,
    /// When it happened.
    pub occur_time: Timestamp,
    /// The conversation it happened to; `None` when it happened to none.
    pub conversation_id: Option<ConversationId>,
    /// The conversation's membership version after it; 0 when it happened to none.
    pub membership_version: i64,
    /// Who did it; `None` when nobody did (a user was deleted).
    pub actor: Option<UserId>,
    /// What happened.
    pub event: Event,
}

impl Fact {
    /// A fact about this conversation, as it is after the event.
    pub fn about(conversation: &Conversation, actor: Option<UserId>, at: Timestamp, event: Event) -> Self {
        Self {
            id: EventId::generate(),
            occur_time: at,
            conversation_id: Some(conversation.id),
            membership_version: conversation.membership_version,
            actor,
            event,
        }
    }

    /// That a request of one person to another is new or different, for one of the two alone or for both. Of a message
    /// request the membership version of its conversation is told.
    pub fn of_request(
        request: Request,
        only: Option<UserId>,
        membership_version: i64,
        actor: Option<UserId>,
        at: Timestamp,
    ) -> Self {
        let conversation_id = request.message.map(|place| place.conversation_id);
        Self {
            id: EventId::generate(),
            occur_time: at,
            conversation_id,
            membership_version: conversation_id.map_or(0, |_| membership_version),
            actor,
            event: Event::RequestChanged { request, only },
        }
    }

    /// That one person blocks another.
    pub fn of_block(blocker: UserId, blocked: UserId, at: Timestamp) -> Self {
        Self {
            id: EventId::generate(),
            occur_time: at,
            conversation_id: None,
            membership_version: 0,
            actor: Some(blocker),
            event: Event::ContactBlocked { blocker, blocked },
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The conversation was made.
    Created {
        /// Its kind.
        kind: Kind,
        /// Its title.
        title: Title,
        /// Whether it takes secure messages only.
        secure: bool,
        /// Whether everyone may read it.
        public_read: bool,
        /// Its first members.
        members: Vec<Member>,
    },
    /// Its title, topic or settings changed. Carries the values after the change.
    Updated {
        /// The title.
        title: Title,
        /// The topic.
        topic: Topic,
        /// The slow mode.
        slow_mode: SlowMode,
        /// Whether it takes secure messages only.
        secure: bool,
        /// Whether everyone may read it.
        public_read: bool,
    },
    /// It is gone.
    Deleted {
        /// Who was in it.
        user_ids: Vec<UserId>,
    },
    /// Users came in.
    MembersAdded {
        /// The new members.
        members: Vec<Member>,
    },
    /// A user is out.
    MemberRemoved {
        /// The user.
        user_id: UserId,
        /// How.
        removal: Removal,
    },
    /// A member's role changed.
    MemberRoleChanged {
        /// The member.
        user_id: UserId,
        /// The role from now on.
        role: Role,
    },
    /// A request of one person to another is new or different.
    RequestChanged {
        /// The request.
        request: Request,
        /// Whom to tell; `None` for both.
        only: Option<UserId>,
    },
    /// A person blocks another. Services end what they have under way between the two; no user is told.
    ContactBlocked {
        /// Who blocks.
        blocker: UserId,
        /// Who is blocked.
        blocked: UserId,
    },
}
