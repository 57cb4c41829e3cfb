//! Rooms: creating, showing, changing and deleting them, their messages and the users who are online.

use std::net::IpAddr;

use axum::response::{IntoResponse, Response};
use chassis::fault::Fault;
use http::StatusCode;
use proto::conversation::v1::{
    Conversation, ConversationChanges, ConversationKind, CreateConversationRequest,
    DeleteConversationRequest, GetConversationRequest, ListOnlineMembersRequest, UpdateConversationRequest,
};
use proto::id::ConversationId;
use proto::messaging::v1::{ListMessagesRequest, Message, Order, PurgeMessagesRequest};
use serde_json::{Value, json};

use super::messages::as_forbidden;
use super::roles::RoomRoles;
use super::{actor, reader, room_id, show as view};
use crate::dialects::Dialects;
use crate::dialects::backend::{Actor, Authority};
use crate::dialects::request::{HttpRequest, ok};
use crate::dialects::text;
use crate::http::error::Problem;

/// The slow mode of a new room, in seconds, and the longest one.
const SLOW_MODE: i64 = 3;
const MAX_SLOW_MODE: i64 = 21_600;

/// The number of messages that a room is shown with.
const SHOWN_MESSAGES: i32 = 20;

/// The number of users that a room is shown with.
const SHOWN_USERS: i32 = 100;

/// The changes to a room.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changes {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    /// In seconds.
    pub(super) slow_mode: Option<i64>,
}

/// Creates a room that every user may read.
pub(super) async fn create(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let actor = actor(dialects, request).await?;
    let fields = request.fields();
    let create = CreateConversationRequest {
        kind: ConversationKind::Room.into(),
        title: text::visible("name", fields.required("name")?)?,
        topic: fields.text("description")?.unwrap_or_default(),
        public_read: true,
        ..CreateConversationRequest::default()
    };
    let made = dialects.backend.call(&actor, create).await.map_err(in_our_words)?;
    let made = made.conversation.unwrap_or_default();
    let room = room_id(&made.conversation_id)?;
    let changes = Changes { slow_mode: Some(SLOW_MODE), ..Changes::default() };
    let room = update(dialects, &actor, room, changes).await?;
    ok(&json!({"room": view::room(&room)}))
}

/// Shows a room.
pub(super) async fn show(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let room = room_id(&request.path[1])?;
    let room = get(dialects, room, &reader(dialects, request).await?).await?;
    ok(&json!({"room": view::room(&room)}))
}

/// Changes a room.
pub(super) async fn change(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let actor = actor(dialects, request).await?;
    let room = room_id(&request.path[1])?;
    let fields = request.fields();
    let changes = Changes {
        name: fields.text("name")?,
        description: fields.text("description")?,
        slow_mode: match fields.integer("slow_mode")? {
            Some(seconds) => Some(seconds),
            None => fields.integer("slowMode")?,
        },
    };
    if changes == Changes::default() {
        return Err(Fault::invalid("name", "is required, or one of description and slow_mode").into());
    }
    update(dialects, &actor, room, changes).await?;
    ok(&json!({"status": 200}))
}

/// Applies changes to a room.
pub(super) async fn update(
    dialects: &Dialects,
    actor: &Actor,
    room: ConversationId,
    changes: Changes,
) -> Result<Conversation, Problem> {
    let mut paths = Vec::new();
    let mut set = |is_set: bool, path: &str| {
        if is_set {
            paths.push(path.to_owned());
        }
    };
    set(changes.name.is_some(), "title");
    set(changes.description.is_some(), "topic");
    set(changes.slow_mode.is_some(), "slow_mode");
    let title = changes.name.map(|name| text::visible("name", name)).transpose()?;
    let seconds = changes.slow_mode.unwrap_or_default();
    if !(0..=MAX_SLOW_MODE).contains(&seconds) {
        let rule = format!("must be a number of seconds between 0 and {MAX_SLOW_MODE}");
        return Err(Fault::invalid("slow_mode", rule).into());
    }
    let update = UpdateConversationRequest {
        conversation_id: room.to_string(),
        conversation: Some(ConversationChanges {
            title: title.unwrap_or_default(),
            topic: changes.description.unwrap_or_default(),
            slow_mode: (seconds > 0).then_some(prost_types::Duration { seconds, nanos: 0 }),
            ..ConversationChanges::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths }),
    };
    let updated = dialects.backend.call(actor, update).await.map_err(in_our_words)?;
    Ok(updated.conversation.unwrap_or_default())
}

/// Renames the fields of an error to those of this API.
fn in_our_words(problem: Problem) -> Problem {
    let name = |field: &str| match field.rsplit('.').next() {
        Some("title") => "name".to_owned(),
        Some("topic") => "description".to_owned(),
        _ => field.to_owned(),
    };
    match problem.fault().fields() {
        [(field, rule), ..] => Fault::invalid(name(field), rule.clone()).into(),
        [] => problem,
    }
}

/// Deletes a room with its content.
pub(super) async fn delete(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let actor = actor(dialects, request).await?;
    let delete = DeleteConversationRequest { conversation_id: room_id(&request.path[1])?.to_string() };
    dialects.backend.call(&actor, delete).await?;
    ok(&json!({"success": true}))
}

/// Lists the latest messages of a room, oldest first.
pub(super) async fn messages(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let reader = reader(dialects, request).await?;
    let room = room_id(&request.path[1])?;
    let conversation = get(dialects, room, &reader).await?;
    let roles = dialects.playground.roles.read(room, &reader).await?;
    let (messages, _) = history(dialects, room, &reader, request.address, &roles).await?;
    ok(&json!({"error": null, "room": view::room(&conversation), "messages": messages}))
}

/// Erases all messages of a room.
pub(super) async fn purge(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let actor = actor(dialects, request).await?;
    let room = room_id(&request.path[1])?;
    get(dialects, room, &Authority::from(&actor)).await?;
    let purge = PurgeMessagesRequest { conversation_id: room.to_string() };
    dialects.backend.call(&actor, purge).await.map_err(as_forbidden)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Lists the members of a room who are online, as far as their settings let it be seen.
pub(super) async fn users(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let reader = reader(dialects, request).await?;
    let room = room_id(&request.path[1])?;
    let conversation = get(dialects, room, &reader).await?;
    let roles = dialects.playground.roles.read(room, &reader).await?;
    let users = online(dialects, room, &reader, request.address, &roles).await?;
    ok(&json!({"room": view::room(&conversation), "users": users, "error": null}))
}

/// Returns a room, as far as the reader may read it.
pub(super) async fn get(
    dialects: &Dialects,
    room: ConversationId,
    reader: &Authority,
) -> Result<Conversation, Problem> {
    let get = GetConversationRequest { conversation_id: room.to_string() };
    Ok(dialects.backend.call(reader.clone(), get).await?.conversation.unwrap_or_default())
}

/// Returns the latest messages of a room, oldest first, and the sequence up to which they are known.
pub(super) async fn history(
    dialects: &Dialects,
    room: ConversationId,
    reader: &Authority,
    address: IpAddr,
    roles: &RoomRoles,
) -> Result<(Vec<Value>, i64), Problem> {
    let list = ListMessagesRequest {
        conversation_id: room.to_string(),
        page_size: SHOWN_MESSAGES,
        order: Order::NewestFirst.into(),
        exclude_tombstones: true,
        ..ListMessagesRequest::default()
    };
    let page = dialects.backend.call(reader.clone(), list).await?;
    let people = dialects.people.named(mentioned(&page.messages), address).await?;
    let messages = page.messages.iter().rev().map(|message| view::message(message, &people, roles)).collect();
    Ok((messages, page.head_sequence))
}

/// Returns the users whose names messages show.
pub(super) fn mentioned(messages: &[Message]) -> impl Iterator<Item = &str> {
    use proto::messaging::v1::content::Kind;
    let cards = messages.iter().filter_map(|message| match message.content.as_ref()?.kind.as_ref()? {
        Kind::Profile(profile) => Some(profile.user_id.as_str()),
        _ => None,
    });
    messages.iter().map(|message| message.sender_id.as_str()).chain(cards)
}

/// Returns the members of a room who are online.
pub(super) async fn online(
    dialects: &Dialects,
    room: ConversationId,
    reader: &Authority,
    address: IpAddr,
    roles: &RoomRoles,
) -> Result<Vec<Value>, Problem> {
    let list = ListOnlineMembersRequest {
        conversation_id: room.to_string(),
        page_size: SHOWN_USERS,
        ..ListOnlineMembersRequest::default()
    };
    let members = dialects.backend.call(reader.clone(), list).await?.members;
    let ids: Vec<&str> = members.iter().map(|member| member.user_id.as_str()).collect();
    let people = dialects.people.named(ids.iter().copied(), address).await?;
    Ok(ids.into_iter().map(|id| view::member(id, &people, roles)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_fields_of_this_api() {
        let problem = in_our_words(Fault::invalid("conversation.title", "is too long").into());
        assert_eq!(problem.fault().fields(), [("name".to_owned(), "is too long".to_owned())]);
        let problem = in_our_words(Problem::forbidden("no"));
        assert!(problem.fault().fields().is_empty());
    }
}
