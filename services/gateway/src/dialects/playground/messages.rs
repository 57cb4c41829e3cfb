//! Messages over HTTP, and the shared sending of messages.

use axum::response::Response;
use chassis::fault::Fault;
use http::StatusCode;
use proto::conversation::v1::JoinConversationRequest;
use proto::id::ConversationId;
use proto::messaging::v1::content::Kind;
use proto::messaging::v1::send_message_request::Target;
use proto::messaging::v1::{
    Content, DeleteMessageRequest, ErrorReason, ListMessagesRequest, Message, Order, SendMessageRequest,
};
use serde_json::json;
use tonic::Code;

use super::{actor, room_id, show as view, soft};
use crate::dialects::Dialects;
use crate::dialects::backend::Actor;
use crate::dialects::request::{HttpRequest, ok};
use crate::dialects::text;
use crate::http::error::Problem;

/// Posts a message. Without a room it is sent to the one that a socket of the user joined last.
pub(super) async fn post(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let actor = actor(dialects, request).await?;
    let fields = request.fields();
    let Some(message) = fields.filled("message")? else { return soft("message is required") };
    let room = match fields.filled("room")? {
        Some(uid) => room_id(&uid)?,
        None => match dialects.playground.current_rooms.of(actor.user_id) {
            Some(room) => room,
            None => return soft("room is required"),
        },
    };
    let sent = send(dialects, &actor, room, &text::message("message", &message)?).await?;
    ok(&json!({"success": true, "result": view::message_id(&sent.conversation_id, sent.sequence)}))
}

/// Sends a text into a room; the user joins it thereby.
pub(super) async fn send(
    dialects: &Dialects,
    actor: &Actor,
    room: ConversationId,
    text: &str,
) -> Result<Message, Problem> {
    let send = SendMessageRequest {
        target: Some(Target::ConversationId(room.to_string())),
        content: Some(Content { kind: Some(Kind::Text(text.to_owned())), attachments: Vec::new() }),
        ..SendMessageRequest::default()
    };
    match dialects.backend.send(actor, send.clone()).await {
        Err(problem) if problem.fault().reason() == ErrorReason::WriteDenied.as_str_name() => {
            join(dialects, actor, room).await?;
            dialects.backend.send(actor, send).await
        }
        outcome => outcome,
    }
}

/// Makes the user a member of a room.
pub(super) async fn join(dialects: &Dialects, actor: &Actor, room: ConversationId) -> Result<(), Problem> {
    let join = JoinConversationRequest { conversation_id: room.to_string() };
    dialects.backend.call(actor, join).await?;
    Ok(())
}

/// Deletes a message.
pub(super) async fn delete(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let actor = actor(dialects, request).await?;
    let id = request.path[1].as_str();
    let (room, sequence) = view::parse_message_id(id).ok_or_else(|| no_message(id))?;
    let list = ListMessagesRequest {
        conversation_id: room.to_string(),
        page_size: 1,
        order: Order::OldestFirst.into(),
        after_sequence: sequence - 1,
        before_sequence: sequence.saturating_add(1),
        ..ListMessagesRequest::default()
    };
    let found = dialects.backend.call(&actor, list).await?.messages;
    let message = found.first().ok_or_else(|| no_message(id))?;
    let delete =
        DeleteMessageRequest { conversation_id: room.to_string(), message_id: message.message_id.clone() };
    dialects.backend.call(&actor, delete).await.map_err(as_forbidden)?;
    ok(&json!({"status": true}))
}

/// Turns NOT_FOUND into a refusal: to non-members the services answer that the object does not exist, but a user who
/// can read it knows that it does.
pub(super) fn as_forbidden(problem: Problem) -> Problem {
    match problem.status() {
        StatusCode::NOT_FOUND => Problem::forbidden("only members with the right to do it may do this"),
        _ => problem,
    }
}

fn no_message(id: &str) -> Problem {
    let id: String = id.chars().take(64).collect();
    Fault::new(Code::NotFound, ErrorReason::MessageNotFound.as_str_name())
        .message(format!("there is no message {id:?}"))
        .into()
}
