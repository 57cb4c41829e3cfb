//! What a user should look at.

use chassis::clock::Timestamp;
use proto::id::{AlertId, ConversationId, MessageId, UserId};
use proto::messaging::v1::AlertKind;
use uuid::Uuid;

use crate::message::Message;

/// What a user should look at. There is one per kind and subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Its id.
    pub alert_id: AlertId,
    /// Whose it is.
    pub user: UserId,
    /// What it is about.
    pub kind: AlertKind,
    /// What exactly it is about, by its id: raised again for the same, it changes nothing.
    pub subject: Uuid,
    /// Who caused it.
    pub actor: Option<UserId>,
    /// The conversation it is about; it goes with it.
    pub conversation: Option<ConversationId>,
    /// The message it is about.
    pub message: Option<MessageId>,
    /// When it came.
    pub create_time: Timestamp,
    /// When its subject last changed.
    pub update_time: Timestamp,
    /// When it was read.
    pub read_time: Option<Timestamp>,
}

impl Alert {
    /// That a message, as it is now, mentions a user.
    pub fn mention(user: UserId, message: &Message) -> Self {
        let time = message.edit_time.unwrap_or(message.create_time);
        Self {
            alert_id: AlertId::generate(),
            user,
            kind: AlertKind::Mention,
            subject: message.message_id.uuid(),
            actor: Some(message.sender),
            conversation: Some(message.conversation),
            message: Some(message.message_id),
            create_time: time,
            update_time: time,
            read_time: None,
        }
    }
}
