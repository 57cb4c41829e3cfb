//! The chat playground: public rooms with an owner, moderators, bans and slow mode.
//!
//! | path | operations |
//! | --- | --- |
//! | `/users/register`, `/users/login`, `/random` | `accounts`: sign up, in, as a guest; something to sign up with |
//! | `/me`, `/users/:uid` | `accounts`: show a user, change the display name |
//! | `/users/:uid/mod`, `/users/:uid/unmod`, `/bans`, `/unban` | `moderation` |
//! | `/rooms`, `/rooms/:uid`, `/rooms/:uid/messages`, `/rooms/:uid/users` | `rooms` |
//! | `/messages`, `/messages/:id` | `messages`: post, delete |
//! | `/health`, `/websocket` and others | `constants` |
//!
//! Socket.IO is `session`, with `commands` for texts that begin with `!` and `pushes` for the events of a room. `show`
//! has the forms of users, rooms and messages, `roles` the owner and moderators of rooms.

mod accounts;
mod ban_duration;
mod commands;
mod constants;
mod current_rooms;
mod messages;
mod moderation;
mod pushes;
mod roles;
mod rooms;
mod session;
mod show;

use axum::response::Response;
use chassis::caller::unauthenticated;
use chassis::fault::Fault;
use http::Method;
use proto::conversation::v1::ErrorReason;
use proto::id::{ConversationId, UserId};
use serde_json::json;
use tonic::Code;

pub(super) use self::constants::status;
pub(super) use self::pushes::Push;
pub(super) use self::session::{EVENTS, Session};
use super::backend::{Actor, Authority, Backend};
use super::request::{HttpRequest, ok};
use super::{Dialects, ids};
use crate::http::error::Problem;

/// The first segments of the paths of this API.
pub(super) const PATHS: [&str; 13] = [
    "users",
    "random",
    "me",
    "rooms",
    "messages",
    "bans",
    "unban",
    "moderators",
    "connections",
    "health",
    "websocket",
    "geoip2",
    "favicon.ico",
];

/// The state of this dialect: short caches, and the rooms of its sockets.
#[derive(Clone)]
pub(super) struct State {
    roles: roles::Roles,
    current_rooms: current_rooms::CurrentRooms,
}

impl State {
    pub(super) fn new(backend: &Backend) -> Self {
        Self {
            roles: roles::Roles::new(backend.clone()),
            current_rooms: current_rooms::CurrentRooms::default(),
        }
    }
}

/// Executes the operation that a request names.
pub(super) async fn answer(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    match (&request.method, request.route().as_slice()) {
        (&Method::POST, ["users", "register"]) => accounts::register(dialects, request).await,
        (&Method::POST, ["users", "login"]) => accounts::login(dialects, request).await,
        (&Method::GET, ["random"]) => accounts::random(dialects, request).await,
        (&Method::GET, ["me"]) => accounts::me(dialects, request).await,
        (&Method::PATCH, ["me"]) => accounts::rename(dialects, request, None).await,
        (&Method::GET, ["users", _]) => accounts::show(dialects, request).await,
        (&Method::PATCH, ["users", _]) => accounts::rename(dialects, request, Some(&request.path[1])).await,
        (&Method::POST, ["users", _, "mod"]) => moderation::appoint(dialects, request, true).await,
        (&Method::POST, ["users", _, "unmod"]) => moderation::appoint(dialects, request, false).await,
        (&Method::POST, ["bans"]) => moderation::ban(dialects, request).await,
        (&Method::POST, ["unban"]) => moderation::unban(dialects, request).await,
        (&Method::POST, ["rooms"]) => rooms::create(dialects, request).await,
        (&Method::GET, ["rooms", _]) => rooms::show(dialects, request).await,
        (&Method::PATCH, ["rooms", _]) => rooms::change(dialects, request).await,
        (&Method::DELETE, ["rooms", _]) => rooms::delete(dialects, request).await,
        (&Method::GET, ["rooms", _, "messages"]) => rooms::messages(dialects, request).await,
        (&Method::DELETE, ["rooms", _, "messages"]) => rooms::purge(dialects, request).await,
        (&Method::GET, ["rooms", _, "users"]) => rooms::users(dialects, request).await,
        (&Method::POST, ["messages"]) => messages::post(dialects, request).await,
        (&Method::DELETE, ["messages", _]) => messages::delete(dialects, request).await,
        (&Method::DELETE, ["connections", _]) => {
            actor(dialects, request).await?;
            Err(Problem::forbidden("only administrators close the connections of others, and there are none"))
        }
        (_, route) => constants::answer(request, route),
    }
}

/// Returns the user of the token. It is in a header, or, on one developer's machine, in the query.
async fn actor(dialects: &Dialects, request: &HttpRequest) -> Result<Actor, Problem> {
    signed_in(dialects, request).await?.ok_or_else(|| unauthenticated().into())
}

async fn signed_in(dialects: &Dialects, request: &HttpRequest) -> Result<Option<Actor>, Problem> {
    let in_query = dialects.token_in_query(request)?;
    match request.bearer().or(in_query.as_deref()) {
        Some(token) => dialects.backend.sign_in(token, request.address).await.map(Some),
        None => Ok(None),
    }
}

/// Returns the rights to read: those of the user of the token, or of the anonymous viewer.
async fn reader(dialects: &Dialects, request: &HttpRequest) -> Result<Authority, Problem> {
    let actor = signed_in(dialects, request).await?;
    Ok(actor.map_or(Authority::Anonymous(request.address), Authority::User))
}

/// Returns the room of a uid. An invalid uid is an unknown room.
fn room_id(uid: &str) -> Result<ConversationId, Problem> {
    ids::parse(uid).map(ConversationId::from).ok_or_else(|| no_room(uid))
}

fn no_room(uid: &str) -> Problem {
    let uid: String = uid.chars().take(64).collect();
    Fault::new(Code::NotFound, ErrorReason::ConversationNotFound.as_str_name())
        .message(format!("there is no room {uid:?}"))
        .into()
}

/// Returns the user of a uid.
fn user_id(uid: &str) -> Result<UserId, Problem> {
    let shown: String = uid.chars().take(64).collect();
    ids::parse(uid).map(UserId::from).ok_or_else(|| {
        Fault::new(Code::NotFound, ErrorReason::UserNotFound.as_str_name())
            .message(format!("there is no user {shown:?}"))
            .into()
    })
}

/// Returns an error that clients of this API expect with status 200.
fn soft(message: impl Into<String>) -> Result<Response, Problem> {
    ok(&json!({"error": message.into()}))
}
