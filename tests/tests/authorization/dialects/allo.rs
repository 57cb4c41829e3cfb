//! Allo: each operation as a request and as an event on Socket.IO.

use super::{Dialect, Operation, operation};

pub const DIALECT: Dialect = Dialect {
    name: "allo",
    operations: OPERATIONS,
    acts_without_token: Some("a stranger"),
    serves_anonymous_viewers: false,
    exception: |_, _| None,
};

const SEND: &str = "messaging.v1.MessagingService/SendMessage";

const OPERATIONS: &[Operation] = &[
    operation(
        "join a group",
        "conversation.v1.ConversationService/GetConversation",
        r#"{"operation":"joinConversation","body":{"userID":"$self","conversationID":"$conversation"}}"#,
    ),
    operation(
        "join a room",
        "conversation.v1.ConversationService/JoinConversation",
        r#"{"operation":"joinConversation","body":{"userID":"$self","conversationID":"$room"}}"#,
    ),
    operation(
        "create a conversation",
        "conversation.v1.ConversationService/CreateConversation",
        r#"{"operation":"createConversation","body":{"userID":"$self","participants":["$member"],"type":"group","topic":"Tea"}}"#,
    ),
    operation(
        "send",
        SEND,
        r#"{"operation":"sendMessage","body":{"userID":"$self","conversationID":"$conversation","message":"hello"}}"#,
    ),
    operation(
        "send a secure message",
        SEND,
        r#"{"operation":"sendSecureMessage","body":{"userID":"$self","conversationID":"$conversation","message":"c2VjcmV0","encrypted":true,"encryptionAlgorithm":"AES-256","signature":"signed"}}"#,
    ),
    operation(
        "send an ephemeral message",
        SEND,
        r#"{"operation":"sendEphemeralMessage","body":{"userID":"$self","conversationID":"$conversation","message":"hello","expiresIn":60000}}"#,
    ),
    operation(
        "send a voice message",
        SEND,
        r#"{"operation":"sendVoiceMessage","body":{"userID":"$self","conversationID":"$conversation","message":"","voiceUrl":"https://example.com/a.ogg"}}"#,
    ),
    operation(
        "send a sticker",
        SEND,
        r#"{"operation":"sendSticker","body":{"userID":"$self","conversationID":"$conversation","stickerUrl":"https://example.com/a.png"}}"#,
    ),
    operation(
        "create a poll",
        SEND,
        r#"{"operation":"createPoll","body":{"userID":"$self","conversationID":"$conversation","question":"Tea?","options":["yes","no"]}}"#,
    ),
    operation(
        "schedule",
        "scheduling.v1.ScheduledMessageService/ScheduleMessage",
        r#"{"operation":"scheduleMessage","body":{"userID":"$self","conversationID":"$conversation","message":"later","scheduledTime":"$soon"}}"#,
    ),
    operation(
        "edit",
        "messaging.v1.MessagingService/EditMessage",
        r#"{"operation":"editMessage","body":{"userID":"$self","conversationID":"$conversation","messageId":"$message","newMessage":"better"}}"#,
    ),
    operation(
        "delete",
        "messaging.v1.MessagingService/DeleteMessage",
        r#"{"operation":"deleteMessage","body":{"userID":"$self","conversationID":"$conversation","messageId":"$message"}}"#,
    ),
    operation(
        "unsend",
        "messaging.v1.MessagingService/UnsendMessage",
        r#"{"operation":"unsendMessage","body":{"userID":"$self","conversationID":"$conversation","messageId":"$message"}}"#,
    ),
    operation(
        "forward",
        "messaging.v1.MessagingService/ForwardMessage",
        r#"{"operation":"forwardMessage","body":{"userID":"$self","fromConversationID":"$conversation","toConversationID":"$target","messageId":"$message"}}"#,
    ),
    operation(
        "read",
        "messaging.v1.MessagingService/AdvanceWatermark",
        r#"{"operation":"messageRead","body":{"userID":"$self","conversationID":"$conversation","messageId":"$message"}}"#,
    ),
    operation(
        "pin",
        "messaging.v1.AnnotationService/PinMessage",
        r#"{"operation":"pinMessage","body":{"userID":"$self","conversationID":"$conversation","messageId":"$message","pin":true}}"#,
    ),
    operation(
        "unpin",
        "messaging.v1.AnnotationService/UnpinMessage",
        r#"{"operation":"pinMessage","body":{"userID":"$self","conversationID":"$conversation","messageId":"$message","pin":false}}"#,
    ),
    operation(
        "react",
        "messaging.v1.AnnotationService/AddReaction",
        r#"{"operation":"reactionMessage","body":{"userID":"$self","conversationID":"$conversation","messageId":"$message","emoji":"👍"}}"#,
    ),
    operation(
        "vote",
        "messaging.v1.AnnotationService/VotePoll",
        r#"{"operation":"votePoll","body":{"userID":"$self","conversationID":"$conversation","messageId":"$poll","optionIndex":0}}"#,
    ),
    operation(
        "report",
        "messaging.v1.ReportService/ReportMessage",
        r#"{"operation":"reportMessage","body":{"userID":"$self","conversationID":"$conversation","messageId":"$message","reason":"spam"}}"#,
    ),
];
