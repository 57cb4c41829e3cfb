//! The playground: REST, and the four events on Socket.IO. Rooms with `public_read` are read by everyone.

use crate::case::Case;
use crate::role::{DENIED, Expected, Role, UNAUTHENTICATED};

use super::{Dialect, Operation, operation};

pub const DIALECT: Dialect = Dialect {
    name: "playground",
    operations: OPERATIONS,
    acts_without_token: None,
    serves_anonymous_viewers: true,
    exception,
};

const OPERATIONS: &[Operation] = &[
    operation(
        "register",
        "auth.v1.AuthService/Register",
        r#"{"POST":["users","register"],"body":{"username":"$unused_name","password":"$password"}}"#,
    ),
    operation(
        "log in",
        "auth.v1.AuthService/Login",
        r#"{"POST":["users","login"],"body":{"username":"$login","password":"$password"}}"#,
    ),
    operation(
        "log in as a guest",
        "auth.v1.AuthService/LoginAsGuest",
        r#"{"POST":["users","login"],"body":{"guest":1}}"#,
    ),
    operation("suggest", "auth.v1.AuthService/SuggestCredentials", r#"{"GET":["random"]}"#),
    operation("show oneself", "auth.v1.UserService/GetMe", r#"{"GET":["me"]}"#),
    operation("show a user", "auth.v1.UserService/GetUser", r#"{"GET":["users","$member"]}"#),
    operation(
        "rename oneself",
        "auth.v1.UserService/UpdateUser",
        r#"{"PATCH":["me"],"body":{"display_name":"A new name"}}"#,
    ),
    operation(
        "rename another user",
        "auth.v1.UserService/UpdateUser",
        r#"{"PATCH":["users","$member"],"body":{"display_name":"A new name"}}"#,
    ),
    operation(
        "appoint a moderator",
        "conversation.v1.ConversationService/SetMemberRole",
        r#"{"POST":["users","$member","mod"],"body":{"room":"$conversation"}}"#,
    ),
    operation(
        "dismiss a moderator",
        "conversation.v1.ConversationService/SetMemberRole",
        r#"{"POST":["users","$member","unmod"],"body":{"room":"$conversation"}}"#,
    ),
    operation(
        "ban",
        "conversation.v1.ConversationService/BanMember",
        r#"{"POST":["bans"],"body":{"user":"$member","room":"$conversation","duration":"1h"}}"#,
    ),
    operation(
        "unban",
        "conversation.v1.ConversationService/UnbanMember",
        r#"{"POST":["unban"],"body":{"user":"$banned","room":"$conversation"}}"#,
    ),
    operation(
        "create a room",
        "conversation.v1.ConversationService/CreateConversation",
        r#"{"POST":["rooms"],"body":{"name":"Salon"}}"#,
    ),
    operation(
        "show a room",
        "conversation.v1.ConversationService/GetConversation",
        r#"{"GET":["rooms","$conversation"]}"#,
    ),
    operation(
        "show a public room",
        "conversation.v1.ConversationService/GetConversation",
        r#"{"GET":["rooms","$public_room"]}"#,
    ),
    operation(
        "change a room",
        "conversation.v1.ConversationService/UpdateConversation",
        r#"{"PATCH":["rooms","$conversation"],"body":{"name":"Another salon"}}"#,
    ),
    operation(
        "delete a room",
        "conversation.v1.ConversationService/DeleteConversation",
        r#"{"DELETE":["rooms","$conversation"]}"#,
    ),
    operation(
        "list messages",
        "messaging.v1.MessagingService/ListMessages",
        r#"{"GET":["rooms","$conversation","messages"]}"#,
    ),
    operation(
        "list messages of a public room",
        "messaging.v1.MessagingService/ListMessages",
        r#"{"GET":["rooms","$public_room","messages"]}"#,
    ),
    operation(
        "purge a room",
        "messaging.v1.MessagingService/PurgeMessages",
        r#"{"DELETE":["rooms","$conversation","messages"]}"#,
    ),
    operation(
        "list users",
        "conversation.v1.PresenceService/ListOnlineMembers",
        r#"{"GET":["rooms","$conversation","users"]}"#,
    ),
    operation(
        "list users of a public room",
        "conversation.v1.PresenceService/ListOnlineMembers",
        r#"{"GET":["rooms","$public_room","users"]}"#,
    ),
    operation(
        "post",
        "messaging.v1.MessagingService/SendMessage",
        r#"{"POST":["messages"],"body":{"room":"$conversation","message":"hello"}}"#,
    ),
    operation(
        "post to a public room",
        "messaging.v1.MessagingService/SendMessage",
        r#"{"POST":["messages"],"body":{"room":"$public_room","message":"hello"}}"#,
    ),
    operation(
        "delete a message",
        "messaging.v1.MessagingService/DeleteMessage",
        r#"{"DELETE":["messages"],"numbered":["$conversation","$message"]}"#,
    ),
    operation(
        "watch a room",
        "conversation.v1.ConversationService/GetConversation",
        r#"{"event":"join","body":{"uid":"$conversation"}}"#,
    ),
    operation(
        "watch a public room",
        "conversation.v1.ConversationService/GetConversation",
        r#"{"event":"join","body":{"uid":"$public_room"}}"#,
    ),
    operation(
        "send",
        "messaging.v1.MessagingService/SendMessage",
        r#"{"joined":"$conversation","event":"sendMessage","body":{"text":"hello","timestamp":1}}"#,
    ),
    operation(
        "send to a public room",
        "messaging.v1.MessagingService/SendMessage",
        r#"{"joined":"$public_room","event":"sendMessage","body":{"text":"hello","timestamp":1}}"#,
    ),
    operation(
        "purge by a command",
        "messaging.v1.MessagingService/PurgeMessages",
        r#"{"joined":"$conversation","event":"sendMessage","body":{"text":"!purge","timestamp":1}}"#,
    ),
    operation(
        "change a room by a command",
        "conversation.v1.ConversationService/UpdateConversation",
        r#"{"joined":"$conversation","event":"sendMessage","body":{"text":"!room name Another salon","timestamp":1}}"#,
    ),
    operation(
        "ban by a command",
        "conversation.v1.ConversationService/BanMember",
        r#"{"joined":"$conversation","event":"sendMessage","body":{"text":"!ban vic 1h","timestamp":1}}"#,
    ),
];

fn exception(case: &Case, role: Role) -> Option<Expected> {
    match (case.title.as_str(), role) {
        ("rename another user", Role::Anonymous) => Some(UNAUTHENTICATED),
        ("rename another user", _) => Some(DENIED),
        // The rpc that sends does not admit one who is not in: such a user is brought in first, when the room lets them.
        ("post to a public room" | "send to a public room", Role::Banned | Role::External) => Some(DENIED),
        // The rpc lets moderators mute and unmute; moderators are made by owners.
        ("appoint a moderator", Role::Moderator) => Some(DENIED),
        _ => None,
    }
}
