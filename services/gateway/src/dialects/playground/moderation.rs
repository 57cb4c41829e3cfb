//! Bans and moderators.

use std::time::Duration;

use axum::response::Response;
use proto::conversation::v1::{
    AddMembersRequest, Ban, BanMemberRequest, MemberRole, SetMemberRoleRequest, UnbanMemberRequest,
};
use proto::id::{ConversationId, UserId};
use serde_json::json;

use super::{actor, ban_duration, room_id, soft, user_id};
use crate::dialects::Dialects;
use crate::dialects::backend::Actor;
use crate::dialects::request::{HttpRequest, ok};
use crate::http::error::Problem;

/// Bans a user from a room for a while.
pub(super) async fn ban(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let actor = actor(dialects, request).await?;
    let fields = request.fields();
    let (user, room) = (user_id(&fields.required("user")?)?, room_id(&fields.required("room")?)?);
    let reason = fields.text("reason")?.unwrap_or_default();
    let Some(duration) = ban_duration::parse(&fields.text("duration")?.unwrap_or_default()) else {
        return soft("duration must be numbers with s, m, h or d, such as 1d12h, and at least one second");
    };
    keep_out(dialects, &actor, room, user, duration, reason).await?;
    ok(&json!({"message": format!("banned for {}", ban_duration::words(duration))}))
}

/// Bans a user from a room.
pub(super) async fn keep_out(
    dialects: &Dialects,
    actor: &Actor,
    room: ConversationId,
    user: UserId,
    duration: Duration,
    reason: String,
) -> Result<Ban, Problem> {
    let ban = BanMemberRequest {
        conversation_id: room.to_string(),
        user_id: user.to_string(),
        reason,
        duration: prost_types::Duration::try_from(duration).ok(),
    };
    Ok(dialects.backend.call(actor, ban).await?.ban.unwrap_or_default())
}

/// Lifts a ban.
pub(super) async fn unban(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let actor = actor(dialects, request).await?;
    let fields = request.fields();
    let (user, room) = (user_id(&fields.required("user")?)?, room_id(&fields.required("room")?)?);
    lift(dialects, &actor, room, user).await?;
    ok(&json!({"message": "the ban is lifted"}))
}

/// Lifts a user's ban from a room.
pub(super) async fn lift(
    dialects: &Dialects,
    actor: &Actor,
    room: ConversationId,
    user: UserId,
) -> Result<(), Problem> {
    let unban = UnbanMemberRequest { conversation_id: room.to_string(), user_id: user.to_string() };
    dialects.backend.call(actor, unban).await?;
    Ok(())
}

/// Makes a user a moderator of a room, or no longer one.
pub(super) async fn appoint(
    dialects: &Dialects,
    request: &HttpRequest,
    is_moderator: bool,
) -> Result<Response, Problem> {
    let actor = actor(dialects, request).await?;
    let user = user_id(&request.path[1])?;
    let room = room_id(&request.fields().required("room")?)?;
    if is_moderator {
        let add = AddMembersRequest { conversation_id: room.to_string(), user_ids: vec![user.to_string()] };
        dialects.backend.call(&actor, add).await?;
    }
    let role = if is_moderator { MemberRole::Moderator } else { MemberRole::Member };
    let set = SetMemberRoleRequest {
        conversation_id: room.to_string(),
        user_id: user.to_string(),
        role: role.into(),
    };
    dialects.backend.call(&actor, set).await?;
    dialects.playground.roles.forget(room);
    ok(&json!({"status": true}))
}
