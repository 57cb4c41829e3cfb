//! `POST /chats/groups` and `GET /chats/groups/:id`.

use axum::response::Response;
use http::StatusCode;
use proto::conversation::v1::{ConversationKind, CreateConversationRequest, GetConversationRequest, Member};
use serde_json::json;

use super::{actor, kind_number};
use crate::dialects::Dialects;
use crate::dialects::request::{HttpRequest, ok};
use crate::dialects::{ids, members};
use crate::http::error::Problem;

/// The maximum number of members that are shown.
const MAX_SHOWN: usize = 1000;

/// Creates a group of the caller and the named users.
pub(super) async fn create(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let actor = actor(dialects, request).await?;
    let fields = request.fields();
    let mut users = Vec::new();
    for text in fields.texts("users")? {
        let user = ids::user("users", &text)?;
        if user != actor.user_id && !users.contains(&user) {
            users.push(user);
        }
    }
    let group = CreateConversationRequest {
        kind: ConversationKind::Group.into(),
        title: fields.text("name")?.unwrap_or_default(),
        topic: fields.text("desc")?.unwrap_or_default(),
        user_ids: users.iter().map(ToString::to_string).collect(),
        ..CreateConversationRequest::default()
    };
    let conversation = dialects.backend.call(&actor, group).await?.conversation.unwrap_or_default();
    let id = conversation.conversation_id;
    ok(&json!({"code": 200, "id": id, "chatId": id, "groupId": id}))
}

/// Shows a group and its members to a member.
pub(super) async fn show(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let actor = actor(dialects, request).await?;
    let id = ids::conversation("id", request.path.get(2).map(String::as_str).unwrap_or_default())?;
    let get = GetConversationRequest { conversation_id: id.to_string() };
    let conversation = dialects.backend.call(&actor, get).await.map_err(as_forbidden)?;
    let conversation = conversation.conversation.unwrap_or_default();
    let members = members::first(&dialects.backend, &actor, &conversation.conversation_id, MAX_SHOWN).await;
    let members = members.map_err(as_forbidden)?;
    let ids = members.iter().map(|member| member.user_id.as_str());
    let people = dialects.people.named(ids, actor.address).await?;
    let user = |member: &Member| {
        let id = &member.user_id;
        json!({
            "id": id, "userUUID": id, "name": people.name(id), "icon": people.picture(id),
            "role": member.role().as_str_name().trim_start_matches("MEMBER_ROLE_").to_lowercase(),
        })
    };
    let name = match conversation.kind() {
        ConversationKind::Direct => people.name(&conversation.peer_user_id),
        _ => conversation.title.as_str(),
    };
    ok(&json!({
        "code": 200,
        "id": conversation.conversation_id,
        "chatId": conversation.conversation_id,
        "groupId": conversation.conversation_id,
        "type": kind_number(&conversation),
        "name": name,
        "icon": "",
        "desc": conversation.topic,
        "users": members.iter().map(user).collect::<Vec<_>>(),
    }))
}

/// Returns the same error for an unknown group as for one of which the caller is not a member.
fn as_forbidden(problem: Problem) -> Problem {
    match problem.status() {
        StatusCode::NOT_FOUND => Problem::forbidden("only members see a group"),
        _ => problem,
    }
}
