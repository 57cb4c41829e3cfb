//! `/user/{id}/message/request`: the first message to a user who requires a request from strangers.

use proto::conversation::v1::{
    AcceptMessageRequestRequest, CancelMessageRequestRequest, RejectMessageRequestRequest, Request,
};
use proto::messaging::v1::send_message_request::Target;
use proto::messaging::v1::{Content, SendMessageRequest, content};
use serde_json::json;

use super::{chats, messages};
use crate::dialects::fields::Fields;
use crate::dialects::talkamie::envelope::{Reply, conflict, in_our_words};
use crate::dialects::talkamie::session::Session;
use crate::dialects::{ids, text};
use crate::http::error::Problem;

/// Writes to a user. If the user requires a request from strangers, this message is the request.
pub(in crate::dialects::talkamie) async fn send(
    session: &Session,
    id: &str,
    fields: &Fields,
) -> Result<Reply, Problem> {
    let user = ids::user("id", id)?;
    let words = text::message("text", &fields.required("text")?)?;
    let send = SendMessageRequest {
        target: Some(Target::UserId(user.to_string())),
        content: Some(Content { kind: Some(content::Kind::Text(words)), attachments: Vec::new() }),
        ..SendMessageRequest::default()
    };
    let sent = session.dialects.backend.send(&session.actor, send).await;
    let message = sent.map_err(|problem| match problem.fault().reason() {
        "ERROR_REASON_REQUEST_PENDING" => conflict("a message request to this user waits for an answer"),
        _ => in_our_words(problem),
    })?;
    let conversation = session.direct(ids::conversation("chatId", &message.conversation_id)?).await?;
    let shown = messages::shown(session, &conversation, std::slice::from_ref(&message)).await?;
    let chat = chats::with_request(session, &conversation).await?;
    Ok(Reply::new(json!({"chat": chat, "message": shown[0]})))
}

/// Withdraws the request, and its message.
pub(in crate::dialects::talkamie) async fn cancel(session: &Session, id: &str) -> Result<Reply, Problem> {
    let user_id = ids::user("id", id)?.to_string();
    answered(session, session.call(CancelMessageRequestRequest { user_id }).await?.request).await
}

/// Accepts a request: its author may write from now on.
pub(in crate::dialects::talkamie) async fn accept(session: &Session, id: &str) -> Result<Reply, Problem> {
    let user_id = ids::user("id", id)?.to_string();
    answered(session, session.call(AcceptMessageRequestRequest { user_id }).await?.request).await
}

/// Rejects a request.
pub(in crate::dialects::talkamie) async fn reject(session: &Session, id: &str) -> Result<Reply, Problem> {
    let user_id = ids::user("id", id)?.to_string();
    answered(session, session.call(RejectMessageRequestRequest { user_id }).await?.request).await
}

/// Returns the chat whose request was answered.
async fn answered(session: &Session, request: Option<Request>) -> Result<Reply, Problem> {
    let conversation_id = request.unwrap_or_default().conversation_id;
    let conversation = session.direct(ids::conversation("chatId", &conversation_id)?).await?;
    Ok(Reply::new(json!({"chat": chats::with_request(session, &conversation).await?})))
}
