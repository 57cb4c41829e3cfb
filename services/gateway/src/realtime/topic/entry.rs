//! One entry of a log, and its effect on read access.

use std::sync::Arc;

use chassis::clock::Timestamp;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::{Event, UserEvent, event, user_event};

use crate::realtime::frame::Frame;

/// One entry of a log.
#[derive(Clone, Debug)]
pub(in crate::realtime) struct Item {
    pub(super) sequence: i64,
    /// The version of the list of members under which it was written; 0 in a user's own log.
    pub(super) version: i64,
    pub(super) change: Change,
    /// The time in the entry; `None` when it has none.
    pub(super) occur_time: Option<Timestamp>,
    pub(super) frame: Arc<Frame>,
}

/// The effect of an entry on read access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// No member has lost access.
    NobodyOut,
    /// This user has lost access.
    Out(UserId),
    /// All members have lost access: the conversation is gone.
    AllOut,
}

impl From<Event> for Item {
    fn from(event: Event) -> Self {
        use event::Payload;
        let change = match &event.payload {
            Some(
                Payload::ConversationCreated(_) | Payload::MembersAdded(_) | Payload::MemberRoleChanged(_),
            ) => Change::NobodyOut,
            Some(Payload::MemberRemoved(removed)) => {
                UserId::parse(&removed.user_id).map_or(Change::None, Change::Out)
            }
            Some(Payload::ConversationDeleted(_)) => Change::AllOut,
            _ => Change::None,
        };
        let (sequence, version) = (event.sequence, event.membership_version);
        let occur_time = event.occur_time.as_ref().and_then(Timestamp::from_proto);
        Self { sequence, version, change, occur_time, frame: Frame::push(Body::Event(event)) }
    }
}

impl From<UserEvent> for Item {
    fn from(event: UserEvent) -> Self {
        let sequence = event.sequence;
        let occur_time = event.occur_time.as_ref().and_then(Timestamp::from_proto);
        let frame = Frame::push(Body::UserEvent(event));
        Self { sequence, version: 0, change: Change::None, occur_time, frame }
    }
}

impl Item {
    /// Returns the entry with its sequence, in the form that a follower takes.
    pub(in crate::realtime) fn numbered(self) -> (i64, Self) {
        (self.sequence, self)
    }
}

/// Returns the conversation to which the user has lost access, according to their own log.
pub(in crate::realtime) fn lost_conversation(event: &UserEvent) -> Option<ConversationId> {
    match &event.payload {
        Some(user_event::Payload::ConversationLost(lost)) => {
            ConversationId::parse(&lost.conversation_id).ok()
        }
        _ => None,
    }
}
