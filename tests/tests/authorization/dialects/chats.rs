//! Chats: REST with the token in the header `token`.

use super::{Dialect, Operation, operation};

pub const DIALECT: Dialect = Dialect {
    name: "chats",
    operations: OPERATIONS,
    acts_without_token: None,
    serves_anonymous_viewers: false,
    exception: |_, _| None,
};

const OPERATIONS: &[Operation] = &[
    operation(
        "send to a chat",
        "messaging.v1.MessagingService/SendMessage",
        r#"{"POST":["chats","messages"],"body":{"chatId":"$conversation","message":{"type":"text","content":"hello"}}}"#,
    ),
    operation(
        "send to a group",
        "messaging.v1.MessagingService/SendMessage",
        r#"{"POST":["chats","messages"],"body":{"groupUUID":"$conversation","message":{"type":"link","content":"https://example.com/"}}}"#,
    ),
    operation(
        "send to a user",
        "messaging.v1.MessagingService/SendMessage",
        r#"{"POST":["chats","messages"],"body":{"userUUID":"$user","message":{"type":"text","content":"hello"}}}"#,
    ),
    operation(
        "send to users",
        "conversation.v1.ConversationService/CreateConversation",
        r#"{"POST":["chats","messages"],"body":{"userUUIDs":["$user","$member"],"message":{"type":"text","content":"hello"}}}"#,
    ),
    operation(
        "list messages",
        "messaging.v1.MessagingService/ListMessages",
        r#"{"GET":["chats","messages"],"body":{"chatId":"$conversation"}}"#,
    ),
    operation(
        "create a group",
        "conversation.v1.ConversationService/CreateConversation",
        r#"{"POST":["chats","groups"],"body":{"users":["$member"],"name":"Gardeners"}}"#,
    ),
    operation(
        "show a group",
        "conversation.v1.ConversationService/GetConversation",
        r#"{"GET":["chats","groups","$conversation"]}"#,
    ),
    operation("list chats", "messaging.v1.SyncService/ListInbox", r#"{"GET":["chats"]}"#),
];
