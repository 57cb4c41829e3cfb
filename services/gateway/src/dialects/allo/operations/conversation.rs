//! Creating and joining conversations.

use proto::conversation::v1::{
    Conversation, ConversationKind, CreateConversationRequest, GetConversationRequest,
    JoinConversationRequest,
};
use serde_json::json;

use super::{Done, conversation_id};
use crate::dialects::Dialects;
use crate::dialects::allo::actor::{self, Named};
use crate::dialects::allo::{NAMESPACE, show};
use crate::dialects::backend::Actor;
use crate::dialects::fields::Fields;
use crate::http::error::Problem;

/// Joins a room or an open conversation; of any other the actor has to be a member.
pub(super) async fn join(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    let id = conversation_id(fields)?.to_string();
    let get = GetConversationRequest { conversation_id: id.clone() };
    let mut conversation = dialects.backend.call(actor, get).await?.conversation.unwrap_or_default();
    let is_member = conversation.own_role != 0;
    if !is_member && is_open(&conversation) {
        let join = JoinConversationRequest { conversation_id: id };
        conversation = dialects.backend.call(actor, join).await?.conversation.unwrap_or_default();
    }
    let answer = json!({"conversationID": conversation.conversation_id, "joined": true});
    Ok(Done { answer, follow: Some(conversation) })
}

/// True for a conversation that other users may join.
fn is_open(conversation: &Conversation) -> bool {
    conversation.kind() == ConversationKind::Room || conversation.external_namespace == NAMESPACE
}

/// Creates a conversation. Its owner is the actor, who is always a member.
pub(super) async fn create(dialects: &Dialects, actor: &Actor, fields: &Fields) -> Result<Done, Problem> {
    let mut users = Vec::new();
    for text in fields.texts("participants")? {
        let user = match actor::read("participants", &text)? {
            Named::User(user) => user,
            Named::Name(name) if dialects.backend.is_development() => {
                actor::under_name(dialects, &name, actor.address).await?.user_id
            }
            Named::Name(_) => return Err(Problem::not_found("participants names a user who is unknown")),
        };
        if user != actor.user_id && !users.contains(&user) {
            users.push(user);
        }
    }
    let asked = fields.filled("type")?;
    let topic = fields.text("topic")?.unwrap_or_default();
    let kind = match asked.as_deref() {
        Some("channel") => ConversationKind::Channel,
        None | Some("private") if users.len() == 1 && topic.is_empty() => ConversationKind::Direct,
        _ => ConversationKind::Group,
    };
    let create = CreateConversationRequest {
        kind: kind.into(),
        title: topic,
        user_ids: users.iter().map(ToString::to_string).collect(),
        ..CreateConversationRequest::default()
    };
    let conversation = dialects.backend.call(actor, create).await?.conversation.unwrap_or_default();
    let answer = show::conversation(dialects, actor, &conversation, asked.as_deref()).await?;
    Ok(Done { answer, follow: Some(conversation) })
}
