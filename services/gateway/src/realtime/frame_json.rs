//! Frames as proto JSON.
//!
//! The mapping is the one of [`crate::json`]. What makes up nearly all frames, a message on its way in, its
//! acknowledgement and its event, is also written and read directly, because going through descriptors costs more than
//! everything else that the gateway does with a message. The tests hold the two to the same text.

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

use super::websocket::rpc_command as call;
use crate::json;

/// A frame for a client.
pub(super) fn write(frame: &ServerFrame) -> String {
    if let Some(text) = write_directly(frame) {
        return text;
    }
    // What cannot be written has been logged; the client sees an empty frame rather than a torn connection.
    json::typed_to_json("parlor.gateway.v1.ServerFrame", frame).unwrap_or_else(|_| "{}".to_owned())
}

/// A frame from a client.
pub(super) fn read(text: &[u8]) -> Result<ClientFrame, Fault> {
    match serde_json::from_slice::<In<'_>>(text) {
        Ok(frame) => Ok(frame.into()),
        Err(_) => json::typed_from_json("parlor.gateway.v1.ClientFrame", text),
    }
}

fn write_directly(frame: &ServerFrame) -> Option<String> {
    let id = &frame.id;
    match frame.frame.as_ref()? {
        Frame::Sent(sent) => serde_json::to_string(&SentFrame { id, sent: SentOut::of(sent)? }).ok(),
        Frame::Event(event) => serde_json::to_string(&EventFrame { id, event: EventOut::of(event)? }).ok(),
        Frame::CallReply(reply) => {
            let response = reply.response.clone().map(call::object);
            serde_json::to_string(&CallReplyFrame { id, call_reply: CallReplyOut { response } }).ok()
        }
        _ => None,
    }
}

#[derive(Serialize)]
struct SentFrame<'a> {
    id: &'a str,
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
    id: &'a str,
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
    /// A message as nearly all are: nothing hangs on it. Others go the long way.
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
    id: &'a str,
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

/// The command that sends a text, spelt as most clients spell it. Whatever differs goes the long way.
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
        };
        Self { id: frame.id.into_owned(), command: Some(Command::SendMessage(request)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;
    use proto::gateway::v1::CallReply;
    use proto::messaging::v1::{
        Attachment, LinkPreview, Origin, Pin, PollResult, ReactionCount, SecureContent, ViewerState,
    };

    use super::*;

    fn time() -> impl Strategy<Value = prost_types::Timestamp> {
        let nanos = prop_oneof![Just(0), (0..1000).prop_map(|millis| millis * 1_000_000), 0..1_000_000_000];
        (-62_135_596_800_i64..253_402_300_800, nanos)
            .prop_map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos })
    }

    fn message() -> impl Strategy<Value = Message> {
        let content = option::of(option::of(any::<String>())).prop_map(|content| {
            content.map(|text| Content { kind: text.map(content::Kind::Text), ..Content::default() })
        });
        let ids = (any::<String>(), any::<String>(), any::<String>(), any::<String>());
        let times = (option::of(time()), option::of(time()), option::of(time()));
        (ids, any::<i64>(), content, times, any::<i32>()).prop_map(
            |((one, two, three, four), sequence, content, (create_time, edit_time, delete_time), version)| {
                Message {
                    message_id: one.clone(),
                    conversation_id: two.clone(),
                    sequence,
                    sender_id: three.clone(),
                    client_message_id: four,
                    content,
                    reply_to_message_id: one,
                    create_time,
                    edit_time,
                    delete_time,
                    deleted_by_user_id: two,
                    version,
                    delete_reason: version.rem_euclid(5),
                    ..Message::default()
                }
            },
        )
    }

    fn slowly(frame: &ServerFrame) -> serde_json::Value {
        let text = json::typed_to_json("parlor.gateway.v1.ServerFrame", frame).expect("json");
        serde_json::from_str(&text).expect("json")
    }

    fn directly(frame: &ServerFrame) -> serde_json::Value {
        let text = write_directly(frame).expect("written directly");
        serde_json::from_str(&text).expect("json")
    }

    proptest! {
        #[test]
        fn what_is_written_directly_is_the_same(id in any::<String>(), message in message(), occur_time in option::of(time()), repeated in any::<bool>()) {
            let sent = SendMessageResponse { message: Some(message.clone()), repeated };
            let sent = ServerFrame { id: id.clone(), frame: Some(Frame::Sent(sent)) };
            prop_assert_eq!(directly(&sent), slowly(&sent));
            let event = Event {
                conversation_id: message.conversation_id.clone(),
                sequence: message.sequence,
                epoch: id.clone(),
                membership_version: message.sequence / 2,
                occur_time,
                actor_user_id: message.sender_id.clone(),
                payload: Some(event::Payload::MessageCreated(message)),
            };
            let event = ServerFrame { id, frame: Some(Frame::Event(event)) };
            prop_assert_eq!(directly(&event), slowly(&event));
        }

        #[test]
        fn what_is_read_directly_is_the_same(
            id in "\\PC{0,20}",
            text in any::<String>(),
            conversation in any::<String>(),
            client_id in option::of(any::<String>()),
            reply_to in option::of(any::<String>()),
        ) {
            let mut send = serde_json::json!({"conversationId": conversation, "content": {"text": text}});
            if let Some(id) = client_id {
                send["clientMessageId"] = id.into();
            }
            if let Some(id) = reply_to {
                send["replyToMessageId"] = id.into();
            }
            let json = serde_json::json!({"id": id, "sendMessage": send}).to_string();
            let direct = ClientFrame::from(serde_json::from_str::<In<'_>>(&json).expect("read directly"));
            let slow: ClientFrame = json::typed_from_json("parlor.gateway.v1.ClientFrame", json.as_bytes()).expect("read");
            prop_assert_eq!(direct, slow);
        }
    }

    #[test]
    fn a_message_on_which_something_hangs_goes_the_long_way() {
        let time = prost_types::Timestamp { seconds: 1_795_168_800, nanos: 0 };
        let content = |kind| Some(Content { kind: Some(kind), attachments: Vec::new() });
        let secure = SecureContent { ciphertext: vec![1, 2, 3], ..SecureContent::default() };
        let reaction = ReactionCount { emoji: "\u{1f44d}".to_owned(), count: 2 };
        let plain = Message {
            content: content(content::Kind::Text("hi".to_owned())),
            version: 1,
            ..Message::default()
        };
        let cases = [
            (
                Message { content: content(content::Kind::Secure(secure)), ..plain.clone() },
                "/content/secure/ciphertext",
            ),
            (
                Message {
                    content: Some(Content { kind: None, attachments: vec![Attachment::default()] }),
                    ..plain.clone()
                },
                "/content/attachments/0/kind",
            ),
            (Message { expire_time: Some(time), ..plain.clone() }, "/expireTime"),
            (
                Message { forwarded_from: Some(Origin::default()), ..plain.clone() },
                "/forwardedFrom/messageId",
            ),
            (Message { mentioned_user_ids: vec!["ann".to_owned()], ..plain.clone() }, "/mentionedUserIds/0"),
            (Message { reactions: vec![reaction], ..plain.clone() }, "/reactions/0/emoji"),
            (
                Message { pin: Some(Pin { pin_time: Some(time), ..Pin::default() }), ..plain.clone() },
                "/pin/pinTime",
            ),
            (Message { poll_result: Some(PollResult::default()), ..plain.clone() }, "/pollResult/voterCount"),
            (Message { link_preview: Some(LinkPreview::default()), ..plain.clone() }, "/linkPreview/title"),
            (Message { viewer: Some(ViewerState::default()), ..plain.clone() }, "/viewer/reactions"),
        ];
        let frames = |message: &Message| {
            let sent = SendMessageResponse { message: Some(message.clone()), repeated: false };
            let created = event::Payload::MessageCreated(message.clone());
            let event = Event { payload: Some(created), ..Event::default() };
            [(Frame::Sent(sent), "/sent/message"), (Frame::Event(event), "/event/messageCreated")]
                .map(|(frame, place)| (ServerFrame { id: "1".to_owned(), frame: Some(frame) }, place))
        };
        for (message, part) in cases {
            for (frame, place) in frames(&message) {
                assert_eq!(write_directly(&frame), None, "{part}");
                let written: serde_json::Value = serde_json::from_str(&write(&frame)).expect("json");
                assert_eq!(written, slowly(&frame));
                let part = written.pointer(&format!("{place}{part}"));
                assert!(part.is_some_and(|part| !part.is_null()), "{written}");
            }
        }
        for (frame, _) in frames(&plain) {
            assert!(write_directly(&frame).is_some());
        }
    }

    #[test]
    fn what_differs_from_the_usual_goes_the_long_way() {
        for json in [
            r#"{"id": "1", "send_message": {"conversation_id": "a", "content": {"text": "x"}}}"#,
            r#"{"id": "1", "sendMessage": {"userId": "a", "content": {"text": "x"}}}"#,
            r#"{"id": "1", "sendMessage": {"conversationId": "a", "content": {"text": "x"}, "clientMessageId": null}}"#,
            r#"{"id": "1", "sendMessage": {"conversationId": "a", "content": {"text": "x"}, "expireAfter": "5s"}}"#,
            r#"{"id": "1", "sendMessage": {"conversationId": "a", "content": {"text": "x", "attachments": []}}}"#,
            r#"{"id": "1", "sendMessage": {"conversationId": "a", "content": {"sticker": {"label": "x"}}}}"#,
            r#"{"id": "1", "ping": {}}"#,
        ] {
            assert!(serde_json::from_str::<In<'_>>(json).is_err(), "{json}");
            assert!(read(json.as_bytes()).is_ok(), "{json}");
        }
        assert!(read(br#"{"id": "1", "ping": {}, "hello": {}}"#).is_err());
    }

    #[test]
    fn whole_numbers_of_an_answer_have_no_fraction() {
        let number = |value| prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(value)) };
        let fields = [("a".to_owned(), number(1.0)), ("b".to_owned(), number(1.5))].into();
        let reply = CallReply { response: Some(prost_types::Struct { fields }) };
        let frame = ServerFrame { id: "1".to_owned(), frame: Some(Frame::CallReply(reply)) };
        assert_eq!(write(&frame), r#"{"id":"1","callReply":{"response":{"a":1,"b":1.5}}}"#);
    }
}
