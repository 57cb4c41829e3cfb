//! The `/chats` API: messages by chat, user, users or group; groups; and the list of chats with unread counts.
//!
//! | method, path | operation |
//! | --- | --- |
//! | `POST /chats/messages` | sends a message, and makes the chat when it is addressed by users |
//! | `GET /chats/messages` | lists messages, newest first |
//! | `POST /chats/groups`, `GET /chats/groups/:id` | makes a group, shows one |
//! | `GET /chats` | lists the chats |
//!
//! Every call needs the session token in the header `token`.

mod content;
mod groups;
mod history;
mod list;
mod send;

use axum::response::Response;
use chassis::caller::unauthenticated;
use http::Method;
use proto::conversation::v1::{Conversation, ConversationKind};

use super::Dialects;
use super::backend::Actor;
use super::request::{HttpRequest, token};
use crate::http::error::Problem;

/// Executes the operation that a request names.
pub(super) async fn answer(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    match request.route().as_slice() {
        ["chats", "messages"] => match request.method {
            Method::POST => send::message(dialects, request).await,
            Method::GET => history::messages(dialects, request).await,
            _ => Err(Problem::method_not_allowed(&[Method::GET, Method::POST])),
        },
        ["chats", "groups"] => match request.method {
            Method::POST => groups::create(dialects, request).await,
            _ => Err(Problem::method_not_allowed(&[Method::POST])),
        },
        ["chats", "groups", _] => match request.method {
            Method::GET => groups::show(dialects, request).await,
            _ => Err(Problem::method_not_allowed(&[Method::GET])),
        },
        ["chats"] => match request.method {
            Method::GET => list::chats(dialects, request).await,
            _ => Err(Problem::method_not_allowed(&[Method::GET])),
        },
        _ => Err(Problem::route_not_found()),
    }
}

/// Returns the user of the token.
async fn actor(dialects: &Dialects, request: &HttpRequest) -> Result<Actor, Problem> {
    let in_query = dialects.token_in_query(request)?;
    let token = request.header("token").and_then(token).or_else(|| request.bearer()).or(in_query.as_deref());
    let token = token.ok_or_else(unauthenticated)?;
    dialects.backend.sign_in(token, request.address).await
}

/// Returns the number of a kind of chat: 1 private, 2 group, 3 discussion group, 4 chat room or channel.
fn kind_number(conversation: &Conversation) -> u8 {
    match conversation.kind() {
        ConversationKind::Direct => 1,
        ConversationKind::Group | ConversationKind::Unspecified => 2,
        ConversationKind::Discussion => 3,
        ConversationKind::Channel | ConversationKind::Room => 4,
    }
}
