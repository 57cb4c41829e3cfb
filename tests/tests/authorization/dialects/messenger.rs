//! Messenger: REST with the acting account in the path. It has direct conversations only.

use crate::case::Case;
use crate::role::{DENIED, Expected, NOT_FOUND, Role, UNAUTHENTICATED};

use super::{Dialect, Operation, operation};

pub const DIALECT: Dialect = Dialect {
    name: "messenger",
    operations: OPERATIONS,
    // The first of the fixture accounts.
    acts_without_token: Some("1"),
    serves_anonymous_viewers: false,
    exception,
};

const OPERATIONS: &[Operation] = &[
    operation("list accounts", "auth.v1.UserService/ListUsers", r#"{"GET":["api","accounts"]}"#),
    operation("show an account", "auth.v1.UserService/GetUser", r#"{"GET":["api","account","$self"]}"#),
    operation(
        "list conversations",
        "conversation.v1.ConversationService/ListConversations",
        r#"{"GET":["api","account","$self","conversations"]}"#,
    ),
    operation(
        "find or create a conversation",
        "conversation.v1.ConversationService/CreateConversation",
        r#"{"POST":["api","account","$self","conversations"],"query":{"with":"$user"}}"#,
    ),
    operation(
        "show a conversation",
        "conversation.v1.ConversationService/GetConversation",
        r#"{"GET":["api","$self","conversation","$direct"]}"#,
    ),
    operation(
        "list messages",
        "messaging.v1.MessagingService/ListMessages",
        r#"{"GET":["api","account","$self","conversation","$direct","messages"]}"#,
    ),
    operation(
        "send",
        "messaging.v1.MessagingService/SendMessage",
        r#"{"POST":["api","account","$self","conversation","$direct","messages"],"body":{"text":"hello"}}"#,
    ),
    operation(
        "show a group",
        "conversation.v1.ConversationService/GetConversation",
        r#"{"GET":["api","$self","conversation","$conversation"]}"#,
    ),
    operation(
        "send to a group",
        "messaging.v1.MessagingService/SendMessage",
        r#"{"POST":["api","$self","conversation","$conversation","messages"],"body":{"text":"hello"}}"#,
    ),
    operation(
        "list as another account",
        "messaging.v1.MessagingService/ListMessages",
        r#"{"GET":["api","account","$member","conversation","$direct","messages"]}"#,
    ),
    operation(
        "send as another account",
        "messaging.v1.MessagingService/SendMessage",
        r#"{"POST":["api","account","$member","conversation","$direct","messages"],"body":{"text":"hello"}}"#,
    ),
];

fn exception(case: &Case, role: Role) -> Option<Expected> {
    match (case.title.as_str(), role) {
        ("show a group" | "send to a group", _) => Some(NOT_FOUND),
        // A registered user is never acted for without their token.
        ("list as another account" | "send as another account", Role::Anonymous) => Some(UNAUTHENTICATED),
        ("list as another account" | "send as another account", _) => Some(DENIED),
        _ => None,
    }
}
