//! The direct mapping and the one through descriptors say the same.

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
    fn what_is_written_directly_is_the_same(id in option::of(any::<String>()), message in message(), occur_time in option::of(time()), repeated in any::<bool>()) {
        let sent = SendMessageResponse { message: Some(message.clone()), repeated };
        let sent = ServerFrame { id: id.clone(), frame: Some(Frame::Sent(sent)) };
        prop_assert_eq!(directly(&sent), slowly(&sent));
        let event = Event {
            conversation_id: message.conversation_id.clone(),
            sequence: message.sequence,
            epoch: id.clone().unwrap_or_default(),
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
    let plain =
        Message { content: content(content::Kind::Text("hi".to_owned())), version: 1, ..Message::default() };
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
        (Message { forwarded_from: Some(Origin::default()), ..plain.clone() }, "/forwardedFrom/messageId"),
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
            .map(|(frame, place)| (ServerFrame { id: Some("1".to_owned()), frame: Some(frame) }, place))
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
    let frame = ServerFrame { id: Some("1".to_owned()), frame: Some(Frame::CallReply(reply)) };
    assert_eq!(write(&frame), r#"{"id":"1","callReply":{"response":{"a":1,"b":1.5}}}"#);
}
