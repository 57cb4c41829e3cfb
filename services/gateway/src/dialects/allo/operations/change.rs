//! Editing, deleting and unsending messages.

use proto::messaging::v1::content::Kind;
use proto::messaging::v1::{
    Content, DeleteMessageRequest, EditMessageRequest, Message, UnsendMessageRequest,
};
use serde_json::json;

use super::{Done, conversation_id, message_id};
use crate::dialects::backend::Actor;
use crate::dialects::fields::Fields;
use crate::dialects::{Dialects, text, time};
use crate::http::error::Problem;

pub(super) async fn edit(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    let new = text::message("newMessage", &fields.required("newMessage")?)?;
    let edit = EditMessageRequest {
        conversation_id: conversation_id(fields)?.to_string(),
        message_id: message_id(fields)?.to_string(),
        content: Some(Content { kind: Some(Kind::Text(new.clone())), attachments: Vec::new() }),
        expected_version: 0,
    };
    let message = dialects.backend.call(actor, edit).await?.message.unwrap_or_default();
    let edited = time::iso(message.edit_time);
    Ok(json!({"messageId": message.message_id, "newMessage": new, "editedAt": edited}).into())
}

pub(super) async fn delete(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    let delete = DeleteMessageRequest {
        conversation_id: conversation_id(fields)?.to_string(),
        message_id: message_id(fields)?.to_string(),
    };
    Ok(gone(dialects.backend.call(actor, delete).await?.message))
}

pub(super) async fn unsend(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    let unsend = UnsendMessageRequest {
        conversation_id: conversation_id(fields)?.to_string(),
        message_id: message_id(fields)?.to_string(),
    };
    Ok(gone(dialects.backend.call(actor, unsend).await?.message))
}

fn gone(message: Option<Message>) -> Done {
    json!({"messageId": message.unwrap_or_default().message_id}).into()
}
