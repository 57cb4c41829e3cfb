//! The words of the wire to ours and back. The rules that the contract declares have been checked by the codec; what is
//! left to check here are the rules of [`Content`] and its like.

mod facts;

use std::time::Duration;

use chassis::caller::CallerKind;
use chassis::clock::Timestamp;
use prost::Message as _;
use proto::id::{ConversationId, InvalidId, MessageId, StreamCheckpointId, UserId};
use proto::messaging::v1 as pb;
use uuid::Uuid;

use crate::alert::{Alert, Effect, News, fits};
use crate::content::Content;
use crate::details::Details;
use crate::error::Error;
use crate::event::{Event, Happening, UserEvent, UserHappening};
use crate::forward::Forwarding;
use crate::message::{Asked, ClientMessageId, Draft, Message, Sequence, Target};
use crate::receipt::{Moved, Progress, Reached, Watermark};
use crate::revisions::Edition;
use crate::store::{Appended, Failure};

/// An id in a field, by the field's name.
pub fn conversation_id(text: &str) -> Result<ConversationId, Error> {
    ConversationId::parse(text)
        .map_err(|InvalidId| Error::Invalid { field: "conversation_id", rule: "must be a UUID" })
}

/// An id in a field, by the field's name.
pub fn message_id(text: &str) -> Result<MessageId, Error> {
    MessageId::parse(text).map_err(|InvalidId| Error::Invalid { field: "message_id", rule: "must be a UUID" })
}

/// An id in a field, by the field's name.
pub fn checkpoint_id(text: &str) -> Result<StreamCheckpointId, Error> {
    StreamCheckpointId::parse(text)
        .map_err(|InvalidId| Error::Invalid { field: "checkpoint_id", rule: "must be a UUID" })
}

/// An id that a sender chose.
pub fn client_message_id(text: String) -> Result<Option<ClientMessageId>, Error> {
    ClientMessageId::parse(text).map_err(|rule| Error::Invalid { field: "client_message_id", rule })
}

fn user_id(field: &'static str, text: &str) -> Result<UserId, Error> {
    UserId::parse(text).map_err(|InvalidId| Error::Invalid { field, rule: "must be a UUID" })
}

impl Asked {
    /// What a caller asks for now.
    pub fn parse(request: pb::SendMessageRequest, by: CallerKind, now: Timestamp) -> Result<Self, Error> {
        let validate_only = request.validate_only;
        let draft = Draft::parse(request, by, now)?;
        match draft.target {
            _ if !validate_only => Ok(Self::Send(draft)),
            Target::Conversation(conversation) => Ok(Self::Check(draft, conversation)),
            Target::Person(_) | Target::People(_) => Err(Error::Invalid {
                field: "target",
                rule: "must be a conversation when validate_only is set",
            }),
        }
    }
}

/// What a caller writes now. People do not write in the words of services.
pub fn content(content: Option<pb::Content>, by: CallerKind, now: Timestamp) -> Result<Content, Error> {
    let content = Content::parse(content, now)?;
    match content.of_services() {
        Some(field) if by != CallerKind::Service => {
            Err(Error::Invalid { field, rule: "is written by services only" })
        }
        _ => Ok(content),
    }
}

impl Draft {
    fn parse(request: pb::SendMessageRequest, by: CallerKind, now: Timestamp) -> Result<Self, Error> {
        let target = match request.target {
            Some(pb::send_message_request::Target::ConversationId(id)) => {
                Target::Conversation(conversation_id(&id)?)
            }
            Some(pb::send_message_request::Target::UserId(id)) => Target::Person(user_id("user_id", &id)?),
            Some(pb::send_message_request::Target::UserIds(ids)) => {
                let ids = ids.user_ids.iter().map(|id| user_id("user_ids.user_ids", id));
                Target::People(ids.collect::<Result<_, _>>()?)
            }
            None => return Err(Error::Invalid { field: "target", rule: "must be set" }),
        };
        let client_message_id = client_message_id(request.client_message_id)?;
        let reply_to = match request.reply_to_message_id.as_str() {
            "" => None,
            id => Some(MessageId::parse(id).map_err(|InvalidId| Error::Invalid {
                field: "reply_to_message_id",
                rule: "must be a UUID",
            })?),
        };
        let lifetime = request.expire_after.as_ref().map(lifetime).transpose()?;
        let scheduled_time = match &request.scheduled_time {
            Some(_) if by != CallerKind::Service => {
                return Err(Error::Invalid { field: "scheduled_time", rule: "is set by services only" });
            }
            Some(time) => Some(Timestamp::from_proto(time).ok_or(Error::Invalid {
                field: "scheduled_time",
                rule: "must be a time in years 1 to 9999",
            })?),
            None => None,
        };
        let content = content(request.content, by, now)?;
        Ok(Self { target, content, client_message_id, reply_to, lifetime, scheduled_time })
    }
}

impl TryFrom<pb::ForwardMessageRequest> for Forwarding {
    type Error = Error;

    fn try_from(request: pb::ForwardMessageRequest) -> Result<Self, Error> {
        let to = ConversationId::parse(&request.target_conversation_id).map_err(|InvalidId| {
            Error::Invalid { field: "target_conversation_id", rule: "must be a UUID" }
        })?;
        Ok(Self {
            conversation: conversation_id(&request.conversation_id)?,
            message_id: message_id(&request.message_id)?,
            to,
            client_message_id: client_message_id(request.client_message_id)?,
        })
    }
}

impl TryFrom<pb::AdvanceWatermarkRequest> for Reached {
    type Error = Error;

    fn try_from(request: pb::AdvanceWatermarkRequest) -> Result<Self, Error> {
        let message = |field, text: &str| match text {
            "" => Ok(None),
            id => MessageId::parse(id)
                .map(Some)
                .map_err(|InvalidId| Error::Invalid { field, rule: "must be a UUID" }),
        };
        Ok(Self {
            progress: Progress {
                delivered: Sequence::new(request.delivered_sequence),
                read: Sequence::new(request.read_sequence),
            },
            delivered: message("delivered_message_id", &request.delivered_message_id)?,
            read: message("read_message_id", &request.read_message_id)?,
        })
    }
}

/// The shortest and the longest time that a message may live: 1 second and 28 days.
const LIFETIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(28 * 24 * 3600);

/// How long a message is to live, cut to milliseconds.
fn lifetime(span: &prost_types::Duration) -> Result<Duration, Error> {
    Duration::try_from(*span)
        .ok()
        .filter(|span| LIFETIMES.contains(span))
        .ok_or(Error::Invalid { field: "expire_after", rule: "must be between 1 second and 28 days" })
}

/// What became of a request to send; `None` when it was only to be checked.
pub fn sent(sent: Option<Appended>) -> pb::SendMessageResponse {
    let (message, repeated) = match sent {
        Some(Appended { message, repeated, .. }) => (Some(message.into()), repeated),
        None => (None, false),
    };
    pb::SendMessageResponse { message, repeated }
}

impl From<Message> for pb::Message {
    fn from(message: Message) -> Self {
        let mut shown = Self {
            message_id: message.message_id.to_string(),
            conversation_id: message.conversation.to_string(),
            sequence: message.sequence.get(),
            sender_id: message.sender.to_string(),
            client_message_id: message
                .client_message_id
                .map(ClientMessageId::into_string)
                .unwrap_or_default(),
            content: message.content.map(Content::into_wire),
            reply_to_message_id: text_of(message.reply_to),
            create_time: Some(message.create_time.to_proto()),
            edit_time: message.edit_time.map(Timestamp::to_proto),
            delete_time: message.deletion.map(|deletion| deletion.time.to_proto()),
            deleted_by_user_id: text_of(message.deletion.and_then(|deletion| deletion.by)),
            version: message.version,
            delete_reason: message
                .deletion
                .map_or(pb::DeletionReason::Unspecified, |deletion| deletion.reason)
                .into(),
            expire_time: message.expire_time.map(Timestamp::to_proto),
            ..Self::default()
        };
        message.details.show(&mut shown);
        // All readers see the same: elsewhere the name of the conversation would reach those who are not in it.
        if let Some(origin) = &mut shown.forwarded_from
            && origin.conversation_id != shown.conversation_id
        {
            origin.conversation_id.clear();
        }
        shown
    }
}

impl From<Edition> for pb::Revision {
    fn from(edition: Edition) -> Self {
        Self {
            version: edition.version,
            content: Some(edition.content.into_wire()),
            create_time: Some(edition.create_time.to_proto()),
        }
    }
}

impl From<&Alert> for pb::Alert {
    fn from(alert: &Alert) -> Self {
        Self {
            alert_id: alert.alert_id.to_string(),
            kind: alert.kind.into(),
            actor_user_id: text_of(alert.actor),
            conversation_id: text_of(alert.conversation),
            message_id: text_of(alert.message),
            create_time: Some(alert.create_time.to_proto()),
            update_time: Some(alert.update_time.to_proto()),
            read_time: alert.read_time.map(Timestamp::to_proto),
            message: None,
            subject_id: alert.subject.to_string(),
            state: alert.state.into(),
            requester_user_id: text_of(alert.requester),
        }
    }
}

impl From<Watermark> for pb::Watermark {
    fn from(watermark: Watermark) -> Self {
        Self {
            conversation_id: watermark.conversation.to_string(),
            user_id: watermark.user.to_string(),
            delivered_sequence: watermark.delivered.get(),
            read_sequence: watermark.read.get(),
            update_time: watermark.update_time.map(Timestamp::to_proto),
            ..Self::default()
        }
    }
}

impl From<Moved> for pb::Watermark {
    fn from(moved: Moved) -> Self {
        Self {
            previous_delivered_sequence: moved.previous.delivered.get(),
            previous_read_sequence: moved.previous.read.get(),
            ..moved.watermark.into()
        }
    }
}

/// An event as the wire has it.
pub fn event(event: Event, epoch: &str) -> Result<pb::Event, Error> {
    use pb::event::Payload;
    let payload = match event.what {
        Happening::MessageCreated(message) => Payload::MessageCreated(message.into()),
        Happening::MessageEdited(message) => Payload::MessageEdited(message.into()),
        Happening::MessageDeleted { message_id, sequence, reason } => {
            Payload::MessageDeleted(pb::MessageDeleted {
                message_id: message_id.to_string(),
                message_sequence: sequence.get(),
                reason: reason.into(),
            })
        }
        Happening::ToMessage { payload, .. } => payload.into(),
        Happening::ToConversation { payload, .. } => {
            let stored = pb::Event::decode(payload.as_slice()).ok().and_then(|event| event.payload);
            stored.ok_or_else(|| Failure::corrupt("the payload of an event cannot be read"))?
        }
    };
    Ok(pb::Event {
        conversation_id: event.conversation.to_string(),
        sequence: event.sequence.get(),
        epoch: epoch.to_owned(),
        membership_version: event.membership_version,
        occur_time: Some(event.occur_time.to_proto()),
        actor_user_id: text_of(event.actor),
        payload: Some(payload),
    })
}

/// An event that was read a while ago, as it is at a time: what has expired on the way arrives as what is left of it.
pub fn event_at(mut event: pb::Event, now: Timestamp) -> pb::Event {
    use pb::event::Payload;
    if let Some(Payload::MessageCreated(message) | Payload::MessageEdited(message)) = &mut event.payload
        && let Some(expire_time) = message.expire_time
        && message.delete_time.is_none()
        && Timestamp::from_proto(&expire_time).is_none_or(|time| time <= now)
    {
        message.content = None;
        message.delete_time = Some(expire_time);
        message.set_delete_reason(pb::DeletionReason::Expired);
        Details::default().show(message);
    }
    event
}

/// Events as the wire has them.
pub fn events(list: Vec<Event>, epoch: &str) -> Result<Vec<pb::Event>, Error> {
    list.into_iter().map(|one| event(one, epoch)).collect()
}

/// An event of a user's log as the wire has it.
pub fn user_event(event: UserEvent, epoch: &str) -> pb::UserEvent {
    pb::UserEvent {
        sequence: event.sequence.get(),
        epoch: epoch.to_owned(),
        occur_time: Some(event.occur_time.to_proto()),
        payload: Some(event.what.into()),
    }
}

impl From<UserHappening> for pb::user_event::Payload {
    fn from(what: UserHappening) -> Self {
        match what {
            UserHappening::ConversationGained { conversation, after } => {
                Self::ConversationGained(pb::ConversationGained {
                    conversation_id: conversation.to_string(),
                    after_sequence: after.get(),
                })
            }
            UserHappening::ConversationLost { conversation, reason } => {
                Self::ConversationLost(pb::ConversationLost {
                    conversation_id: conversation.to_string(),
                    reason,
                })
            }
            UserHappening::WatermarkAdvanced(watermark) => Self::WatermarkAdvanced(watermark.into()),
            UserHappening::MessageHidden { conversation, message_id, sequence } => {
                Self::MessageHidden(pb::MessageHidden {
                    conversation_id: conversation.to_string(),
                    message_id: message_id.to_string(),
                    message_sequence: sequence.get(),
                })
            }
            UserHappening::AlertChanged(alert) => Self::AlertChanged(*alert),
            UserHappening::ReportChanged(report) => Self::ReportChanged(*report),
            UserHappening::ProfileChanged => Self::ProfileChanged(pb::ProfileChanged {}),
        }
    }
}

impl UserHappening {
    /// As it is stored.
    pub fn encode(&self) -> Vec<u8> {
        pb::UserEvent { payload: Some(self.clone().into()), ..pb::UserEvent::default() }.encode_to_vec()
    }

    /// From how it is stored, or from how it came over the bus.
    pub fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        let payload = pb::UserEvent::decode(bytes).ok().and_then(|event| event.payload);
        payload
            .and_then(Self::from_payload)
            .ok_or_else(|| Failure::corrupt("an event of a user cannot be read"))
    }

    fn from_payload(payload: pb::user_event::Payload) -> Option<Self> {
        use pb::user_event::Payload;
        let conversation = |id: &str| ConversationId::parse(id).ok();
        Some(match payload {
            Payload::ConversationGained(gained) => Self::ConversationGained {
                conversation: conversation(&gained.conversation_id)?,
                after: Sequence::new(gained.after_sequence),
            },
            Payload::ConversationLost(lost) => Self::ConversationLost {
                conversation: conversation(&lost.conversation_id)?,
                reason: lost.reason,
            },
            Payload::WatermarkAdvanced(watermark) => Self::WatermarkAdvanced(Watermark {
                conversation: conversation(&watermark.conversation_id)?,
                user: UserId::parse(&watermark.user_id).ok()?,
                delivered: Sequence::new(watermark.delivered_sequence),
                read: Sequence::new(watermark.read_sequence),
                update_time: watermark.update_time.as_ref().and_then(Timestamp::from_proto),
            }),
            Payload::MessageHidden(hidden) => Self::MessageHidden {
                conversation: conversation(&hidden.conversation_id)?,
                message_id: MessageId::parse(&hidden.message_id).ok()?,
                sequence: Sequence::new(hidden.message_sequence),
            },
            Payload::AlertChanged(alert) => Self::AlertChanged(Box::new(alert)),
            Payload::ReportChanged(report) => Self::ReportChanged(Box::new(report)),
            Payload::ProfileChanged(pb::ProfileChanged {}) => Self::ProfileChanged,
        })
    }
}

impl News {
    /// What a service asks us to tell a user now.
    pub fn parse(request: &pb::RaiseAlertRequest, now: Timestamp) -> Result<Self, Error> {
        let (kind, state) = (request.kind(), request.state());
        if !fits(kind, state) {
            return Err(Error::Invalid { field: "state", rule: "must be one of this kind of alert" });
        }
        let user = user_id("user_id", &request.user_id)?;
        let actor = match request.actor_user_id.as_str() {
            "" => None,
            id => Some(user_id("actor_user_id", id)?),
        };
        let conversation = match request.conversation_id.as_str() {
            "" => None,
            id => Some(conversation_id(id)?),
        };
        let message = match request.message_id.as_str() {
            "" => None,
            _ if conversation.is_none() => {
                return Err(Error::Invalid {
                    field: "message_id",
                    rule: "must come with its conversation_id",
                });
            }
            id => Some(message_id(id)?),
        };
        let subject = Uuid::try_parse(&request.subject_id)
            .map_err(|_| Error::Invalid { field: "subject_id", rule: "must be a UUID" })?;
        let effect = if actor == Some(user) { Effect::Own } else { Effect::of(state) };
        let version = request.version;
        Ok(Self {
            user,
            kind,
            subject,
            state,
            version,
            actor,
            requester: None,
            conversation,
            message,
            time: now,
            effect,
        })
    }
}

fn text_of(id: Option<impl ToString>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_expires_on_the_way_arrives_as_a_tombstone() {
        let time = |millis| Timestamp::from_millis(millis).to_proto();
        let message = pb::Message {
            content: Some(Content::text("secret").into_wire()),
            expire_time: Some(time(2000)),
            reactions: vec![pb::ReactionCount { emoji: "x".to_owned(), count: 1 }],
            ..pb::Message::default()
        };
        for wrap in [pb::event::Payload::MessageCreated, pb::event::Payload::MessageEdited] {
            let event = pb::Event { payload: Some(wrap(message.clone())), ..pb::Event::default() };
            assert_eq!(event_at(event.clone(), Timestamp::from_millis(1999)), event);
            let gone = pb::Message {
                delete_time: Some(time(2000)),
                delete_reason: pb::DeletionReason::Expired.into(),
                expire_time: Some(time(2000)),
                ..pb::Message::default()
            };
            let late = event_at(event, Timestamp::from_millis(2000));
            assert_eq!(late.payload, Some(wrap(gone)));
        }
        let lasting = pb::Message { expire_time: None, ..message };
        let payload = Some(pb::event::Payload::MessageCreated(lasting));
        let event = pb::Event { payload, ..pb::Event::default() };
        assert_eq!(event_at(event.clone(), Timestamp::from_millis(i64::MAX)), event);
    }
}
