//! Frames as proto JSON.
//!
//! The mapping is that of [`crate::json`]. Nearly all frames (an incoming message, its acknowledgement and its event)
//! are also written and read directly, because descriptors cost more than everything else that the gateway does with a
//! message. The tests check that both ways produce the same text.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use chassis::fault::Fault;
use proto::gateway::v1::client_frame::Command;
use proto::gateway::v1::server_frame::Frame;
use proto::gateway::v1::{ClientFrame, ServerFrame};
use proto::messaging::v1::send_message_request::Target;
use proto::messaging::v1::{
    Content, Event, Message, SendMessageRequest, SendMessageResponse, content, event,
};
use serde::{Deserialize, Serialize, Serializer};

use crate::{json, json_value};

/// Writes a frame for a client.
pub(super) fn write(frame: &ServerFrame) -> String {
    if let Some(text) = write_directly(frame) {
        return text;
    }
    // The failure to write has been logged; the client sees an empty frame rather than a broken connection.
    json::typed_to_json("parlor.gateway.v1.ServerFrame", frame).unwrap_or_else(|_| "{}".to_owned())
}

/// Reads a frame from a client.
pub(super) fn read(text: &[u8]) -> Result<ClientFrame, Fault> {
    match serde_json::from_slice::<In<'_>>(text) {
        Ok(frame) => Ok(frame.into()),
        Err(_) => json::typed_from_json("parlor.gateway.v1.ClientFrame", text),
    }
}

fn write_directly(frame: &ServerFrame) -> Option<String> {
    let id = frame.id.as_deref();
    match frame.frame.as_ref()? {
        Frame::Sent(sent) => serde_json::to_string(&SentFrame { id, sent: SentOut::of(sent)? }).ok(),
        Frame::Event(event) => serde_json::to_string(&EventFrame { id, event: EventOut::of(event)? }).ok(),
        Frame::CallReply(reply) => {
            let response = reply.response.clone().map(json_value::from_struct);
            serde_json::to_string(&CallReplyFrame { id, call_reply: CallReplyOut { response } }).ok()
        }
        _ => None,
    }
}

#[derive(Serialize)]
struct SentFrame<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    sent: SentOut<'a>,
}

#[derive(Serialize)]
struct SentOut<'a> {
    message: MessageOut<'a>,
    repeated: bool,
}

impl<'a> SentOut<'a> {
    fn of(sent: &'a SendMessageResponse) -> Option<Self> {
        Some(Self { message: MessageOut::of(sent.message.as_ref()?)?, repeated: sent.repeated })
    }
}

#[derive(Serialize)]
struct EventFrame<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    event: EventOut<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventOut<'a> {
    conversation_id: &'a str,
    #[serde(serialize_with = "as_text")]
    sequence: i64,
    epoch: &'a str,
    #[serde(serialize_with = "as_text")]
    membership_version: i64,
    #[serde(serialize_with = "as_time", skip_serializing_if = "Option::is_none")]
    occur_time: &'a Option<prost_types::Timestamp>,
    actor_user_id: &'a str,
    message_created: MessageOut<'a>,
}

impl<'a> EventOut<'a> {
    fn of(event: &'a Event) -> Option<Self> {
        let Some(event::Payload::MessageCreated(message)) = &event.payload else { return None };
        Some(Self {
            conversation_id: &event.conversation_id,
            sequence: event.sequence,
            epoch: &event.epoch,
            membership_version: event.membership_version,
            occur_time: &event.occur_time,
            actor_user_id: &event.actor_user_id,
            message_created: MessageOut::of(message)?,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageOut<'a> {
    message_id: &'a str,
    conversation_id: &'a str,
    #[serde(serialize_with = "as_text")]
    sequence: i64,
    sender_id: &'a str,
    client_message_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<ContentOut<'a>>,
    reply_to_message_id: &'a str,
    #[serde(serialize_with = "as_time", skip_serializing_if = "Option::is_none")]
    create_time: &'a Option<prost_types::Timestamp>,
    #[serde(serialize_with = "as_time", skip_serializing_if = "Option::is_none")]
    edit_time: &'a Option<prost_types::Timestamp>,
    #[serde(serialize_with = "as_time", skip_serializing_if = "Option::is_none")]
    delete_time: &'a Option<prost_types::Timestamp>,
    deleted_by_user_id: &'a str,
    version: i32,
    delete_reason: &'static str,
    mentioned_user_ids: [&'a str; 0],
    reactions: [&'a str; 0],
}

impl<'a> MessageOut<'a> {
    /// Returns the common form of a message, without attachments or other extras. Other messages use the descriptors.
    fn of(message: &'a Message) -> Option<Self> {
        // Every field by name: a new one does not compile until it is written here too.
        let Message {
            message_id,
            conversation_id,
            sequence,
            sender_id,
            client_message_id,
            content,
            reply_to_message_id,
            create_time,
            edit_time,
            delete_time,
            deleted_by_user_id,
            version,
            delete_reason: _,
            expire_time: None,
            forwarded_from: None,
            mentioned_user_ids,
            reactions,
            pin: None,
            poll_result: None,
            link_preview: None,
            viewer: None,
            scheduled_time: None,
        } = message
        else {
            return None;
        };
        if !mentioned_user_ids.is_empty() || !reactions.is_empty() {
            return None;
        }
        let content = match content {
            Some(content) => Some(ContentOut::of(content)?),
            None => None,
        };
        Some(Self {
            message_id,
            conversation_id,
            sequence: *sequence,
            sender_id,
            client_message_id,
            content,
            reply_to_message_id,
            create_time,
            edit_time,
            delete_time,
            deleted_by_user_id,
            version: *version,
            delete_reason: message.delete_reason().as_str_name(),
            mentioned_user_ids: [],
            reactions: [],
        })
    }
}

#[derive(Serialize)]
struct ContentOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    attachments: [&'a str; 0],
}

impl<'a> ContentOut<'a> {
    fn of(content: &'a Content) -> Option<Self> {
        let Content { kind, attachments } = content;
        let text = match kind {
            Some(content::Kind::Text(text)) => Some(text.as_str()),
            Some(_) => return None,
            None => None,
        };
        attachments.is_empty().then_some(Self { text, attachments: [] })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallReplyFrame<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    call_reply: CallReplyOut,
}

#[derive(Serialize)]
struct CallReplyOut {
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<serde_json::Value>,
}

fn as_text<S: Serializer>(number: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn as_time<S: Serializer>(time: &Option<prost_types::Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

/// The command that sends a text, in the spelling of most clients. Any other form uses the descriptors.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct In<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    send_message: SendIn<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SendIn<'a> {
    #[serde(borrow)]
    conversation_id: Cow<'a, str>,
    #[serde(borrow)]
    content: TextIn<'a>,
    #[serde(borrow, default)]
    client_message_id: Cow<'a, str>,
    #[serde(borrow, default)]
    reply_to_message_id: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextIn<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

impl From<In<'_>> for ClientFrame {
    fn from(frame: In<'_>) -> Self {
        let send = frame.send_message;
        let request = SendMessageRequest {
            target: Some(Target::ConversationId(send.conversation_id.into_owned())),
            content: Some(Content {
                kind: Some(content::Kind::Text(send.content.text.into_owned())),
                attachments: Vec::new(),
            }),
            client_message_id: send.client_message_id.into_owned(),
            reply_to_message_id: send.reply_to_message_id.into_owned(),
            validate_only: false,
            expire_after: None,
            scheduled_time: None,
        };
        Self { id: frame.id.into_owned(), command: Some(Command::SendMessage(request)) }
    }
}
