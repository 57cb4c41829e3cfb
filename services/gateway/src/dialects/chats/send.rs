//! `POST /chats/messages`.

use axum::response::Response;
use chassis::fault::Fault;
use proto::messaging::v1::send_message_request::Target;
use proto::messaging::v1::{SendMessageRequest, UserIds};
use serde_json::json;

use super::{actor, content};
use crate::dialects::Dialects;
use crate::dialects::backend::Actor;
use crate::dialects::fields::Fields;
use crate::dialects::ids;
use crate::dialects::request::{HttpRequest, ok};
use crate::http::error::Problem;

/// The maximum number of other members of a discussion group.
const MAX_OTHERS: usize = 99;

/// Sends a message.
pub(super) async fn message(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let actor = actor(dialects, request).await?;
    let fields = request.fields();
    let send = SendMessageRequest {
        target: Some(target(&fields, &actor)?),
        content: Some(content::read(&fields)?),
        ..SendMessageRequest::default()
    };
    let message = dialects.backend.send(&actor, send).await?;
    ok(&json!({"code": 200, "id": message.message_id, "chatId": message.conversation_id}))
}

/// Returns the addressee: the first given of chat, group, user and users.
fn target(fields: &Fields, actor: &Actor) -> Result<Target, Fault> {
    for name in ["chatId", "groupUUID", "groupId"] {
        if let Some(text) = fields.filled(name)? {
            return Ok(Target::ConversationId(ids::conversation(name, &text)?.to_string()));
        }
    }
    for name in ["userUUID", "userId"] {
        if let Some(text) = fields.filled(name)? {
            return Ok(Target::UserId(ids::user(name, &text)?.to_string()));
        }
    }
    for name in ["userUUIDs", "userIds"] {
        let texts = fields.texts(name)?;
        if texts.is_empty() {
            continue;
        }
        let mut users = texts.iter().map(|text| ids::user(name, text)).collect::<Result<Vec<_>, _>>()?;
        users.sort_unstable();
        users.dedup();
        users.retain(|user| *user != actor.user_id);
        if users.is_empty() || users.len() > MAX_OTHERS {
            return Err(Fault::invalid(name, format!("must name 1 to {MAX_OTHERS} other users")));
        }
        let user_ids = users.iter().map(ToString::to_string).collect();
        return Ok(Target::UserIds(UserIds { user_ids }));
    }
    Err(Fault::invalid("chatId", "is required, or one of groupUUID, userUUID and userUUIDs"))
}
