//! One connection of Socket.IO: it acts as its user, and watches its rooms as the anonymous viewer, so that neither a
//! ban nor signing out ends the watching. A room that is not public is watched as the user.

use chassis::caller::unauthenticated;
use chassis::fault::Fault;
use proto::auth::v1::GetMeRequest;
use proto::conversation::v1::{Conversation, ErrorReason, LeaveConversationRequest};
use proto::id::ConversationId;
use serde_json::{Value, json};

use super::{accounts, commands, messages, room_id, rooms, show as view};
use crate::dialects::Dialects;
use crate::dialects::backend::{Actor, Authority};
use crate::dialects::fields::Fields;
use crate::dialects::request::token;
use crate::dialects::socketio::{Client, Event};
use crate::dialects::text;
use crate::http::error::Problem;
use crate::realtime::Realtime;
use crate::realtime::frame::Format;
use crate::realtime::session_watch::sign_in;
use crate::realtime::subscriber::Subscriber;

/// The events that clients send.
pub(crate) const EVENTS: [&str; 4] = ["login", "logout", "join", "sendMessage"];

/// The maximum number of rooms that a connection may watch.
const MAX_ROOMS: usize = 50;

/// One connection.
pub(crate) struct Session {
    pub(super) dialects: Dialects,
    pub(super) realtime: Realtime,
    pub(super) client: Client,
    pub(super) user: Option<SignedInUser>,
    /// The view of the anonymous viewer, once a room is watched.
    pub(super) anonymous: Option<Subscriber>,
    /// The rooms that are watched. The last one is the room that messages go to.
    pub(super) rooms: Vec<Watched>,
}

/// The user that a connection acts as.
pub(super) struct SignedInUser {
    pub(super) actor: Actor,
    /// The view of the user: their own log, and rooms that are not public.
    pub(super) subscriber: Subscriber,
}

/// A room that is watched.
pub(super) struct Watched {
    pub(super) room: ConversationId,
    pub(super) is_by_user: bool,
    /// The client has been shown all events up to this sequence.
    pub(super) seen: i64,
}

impl Session {
    pub(crate) fn new(dialects: Dialects, realtime: Realtime, client: Client) -> Self {
        Self { dialects, realtime, client, user: None, anonymous: None, rooms: Vec::new() }
    }

    /// Executes an event.
    pub(crate) async fn hear(&mut self, event: Event) {
        match self.carry_out(&event).await {
            Ok(answer) => self.client.answer(&event, &answer),
            Err(problem) => self.refuse(&event, problem.fault()),
        }
    }

    async fn carry_out(&mut self, event: &Event) -> Result<Value, Problem> {
        let fields = event.fields()?;
        match event.name.as_str() {
            "login" => self.log_in(login_token(&fields)?.as_deref()).await,
            "logout" => Ok(self.log_out()),
            "join" => self.join(&fields.required("uid")?).await,
            "sendMessage" => self.say(&fields).await,
            name => {
                let name: String = name.chars().take(64).collect();
                Err(Fault::invalid("event", format!("there is no event `{name}`")).into())
            }
        }
    }

    /// Answers an event that is not executed.
    pub(crate) fn refuse(&self, event: &Event, fault: &Fault) {
        let text = self.words(fault);
        match event.name.as_str() {
            "join" => self.client.emit("error", &self.error(&text)),
            _ => self.client.emit("system", &json!({"type": "error", "text": text})),
        }
        self.client.answer(event, &json!({"error": text}));
    }

    /// True when the connection has no user and follows nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.user.is_none() && self.rooms.is_empty()
    }

    /// Returns the error event of this API: a time in seconds, and a text.
    pub(super) fn error(&self, text: &str) -> Value {
        json!({"timestamp": self.realtime.clock().now().as_millis() / 1000, "message": text})
    }

    /// Returns the text of an error in the wording of this API.
    fn words(&self, fault: &Fault) -> String {
        if fault.reason() == ErrorReason::Banned.as_str_name() {
            let end = fault.metadata().get("expire_time").and_then(|time| crate::dialects::time::parse(time));
            let rest = end.map(|end| end.saturating_sub(self.realtime.clock().now().as_millis()).max(0));
            let rest = rest.and_then(|rest| u64::try_from(rest).ok()).map(std::time::Duration::from_millis);
            return match rest {
                Some(rest) => {
                    format!("you are banned from this room for another {}", super::ban_duration::words(rest))
                }
                None => "you are banned from this room".to_owned(),
            };
        }
        match fault.wait() {
            Some(wait) => {
                let wait = super::ban_duration::words(std::time::Duration::from_secs(
                    wait.as_secs_f64().ceil() as u64,
                ));
                format!("{}: wait {wait}", fault.text())
            }
            None => fault.text(),
        }
    }

    /// Returns the user, who must be signed in.
    pub(super) fn actor(&self) -> Result<Actor, Problem> {
        self.user.as_ref().map(|user| user.actor.clone()).ok_or_else(|| unauthenticated().into())
    }

    /// Returns the room to which messages go.
    pub(super) fn current_room(&self) -> Result<ConversationId, Problem> {
        let room = self.rooms.last().map(|watched| watched.room);
        room.ok_or_else(|| Fault::invalid("room", "is required: join a room first").into())
    }

    /// Returns the rights with which the connection reads.
    pub(super) fn reader(&self) -> Authority {
        match &self.user {
            Some(user) => Authority::from(&user.actor),
            None => Authority::Anonymous(self.client.address()),
        }
    }

    /// Acts as the user of a token from now on; without a token, as a guest.
    pub(super) async fn log_in(&mut self, token: Option<&str>) -> Result<Value, Problem> {
        let address = self.client.address();
        let actor = match token {
            Some(token) => self.dialects.backend.sign_in(token, address).await?,
            None => accounts::guest(&self.dialects, address).await?.1,
        };
        if self.user.as_ref().is_none_or(|user| user.actor.token != actor.token) {
            self.bind(actor.clone()).await?;
        }
        let me = self.dialects.backend.call(&actor, GetMeRequest {}).await?.user.unwrap_or_default();
        let shown = json!({"user": view::user(&me)});
        self.client.emit("auth_updated", &shown);
        self.client.emit("user_updated", &shown);
        Ok(shown)
    }

    async fn bind(&mut self, actor: Actor) -> Result<(), Problem> {
        let who = sign_in(self.realtime.upstream().clients(), &actor.token).await?;
        // The old view is closed first: the number of views of a user is limited.
        self.unbind();
        let subscriber = Subscriber::of_user(&self.realtime, self.client.slot(), who, Format::Typed).await?;
        subscriber.handle().follow_own_log()?;
        if let Some(room) = self.rooms.last() {
            let rooms = &self.dialects.playground.current_rooms;
            rooms.set(actor.user_id, &self.client.id(), room.room);
        }
        self.user = Some(SignedInUser { actor, subscriber });
        Ok(())
    }

    /// Acts as no user from now on. The session stays valid, and public rooms stay watched.
    pub(super) fn log_out(&mut self) -> Value {
        self.unbind();
        self.client.emit("auth_updated", &json!({"user": null}));
        json!({"success": true})
    }

    fn unbind(&mut self) {
        if let Some(user) = self.user.take() {
            self.dialects.playground.current_rooms.clear(user.actor.user_id, &self.client.id());
        }
        self.rooms.retain(|watched| !watched.is_by_user);
    }

    /// Watches a room, which a signed-in user also joins, if they are admitted.
    pub(super) async fn join(&mut self, uid: &str) -> Result<Value, Problem> {
        let room = room_id(uid)?;
        let is_new = self.rooms.iter().all(|watched| watched.room != room);
        if is_new && self.rooms.len() >= MAX_ROOMS {
            return Err(
                Fault::invalid("uid", format!("is one room too many: {MAX_ROOMS} can be watched")).into()
            );
        }
        if let Ok(actor) = self.actor()
            && let Err(problem) = messages::join(&self.dialects, &actor, room).await
        {
            // A user who is not admitted still watches the room if it is public.
            tracing::debug!(reason = problem.fault().reason(), "a user has not entered a room");
        }
        let conversation = rooms::get(&self.dialects, room, &self.reader()).await?;
        let is_by_user = self.watch(room).await?;
        self.rooms.retain(|watched| watched.room != room);
        self.rooms.push(Watched { room, is_by_user, seen: 0 });
        if let Some(user) = &self.user {
            let rooms = &self.dialects.playground.current_rooms;
            rooms.set(user.actor.user_id, &self.client.id(), room);
        }
        match self.show_room(room, &conversation).await {
            Ok(()) => Ok(json!({"success": true})),
            Err(problem) => {
                self.unwatch(room);
                Err(problem)
            }
        }
    }

    /// Follows a room. Returns true when it is followed as the user.
    async fn watch(&mut self, room: ConversationId) -> Result<bool, Problem> {
        let slot = self.client.slot();
        let anonymous = match &mut self.anonymous {
            Some(anonymous) => anonymous,
            None => {
                let view = Subscriber::anonymous(&self.realtime, slot, Format::Typed)?;
                self.anonymous.insert(view)
            }
        };
        let of_anonymous = anonymous.handle().clone();
        let of_user = self.user.as_ref().map(|user| user.subscriber.handle().clone());
        match (of_anonymous.follow(room).await, of_user) {
            (Ok(()), _) => Ok(false),
            (Err(_), Some(of_user)) => {
                of_user.follow(room).await?;
                Ok(true)
            }
            (Err(status), None) => Err(status.into()),
        }
    }

    pub(super) fn unwatch(&mut self, room: ConversationId) {
        self.rooms.retain(|watched| watched.room != room);
        if let Some(anonymous) = &self.anonymous {
            anonymous.handle().unfollow(room);
        }
        if let Some(user) = &self.user {
            user.subscriber.handle().unfollow(room);
            let (rooms, id) = (&self.dialects.playground.current_rooms, self.client.id());
            match self.rooms.last() {
                Some(watched) => rooms.set(user.actor.user_id, &id, watched.room),
                None => rooms.clear(user.actor.user_id, &id),
            }
        }
    }

    async fn show_room(&mut self, room: ConversationId, conversation: &Conversation) -> Result<(), Problem> {
        let (reader, address) = (self.reader(), self.client.address());
        let roles = self.dialects.playground.roles.read(room, &reader).await?;
        let (messages, seen) = rooms::history(&self.dialects, room, &reader, address, &roles).await?;
        let mut users = rooms::online(&self.dialects, room, &reader, address, &roles).await?;
        // The presence of this connection may not be known yet.
        if let Ok(actor) = self.actor() {
            let id = actor.user_id.to_string();
            let people = self.dialects.people.named([id.as_str()], address).await?;
            let own = view::member(&id, &people, &roles);
            if users.iter().all(|user| user["uid"] != own["uid"]) {
                users.push(own);
            }
        }
        if let Some(watched) = self.rooms.iter_mut().find(|watched| watched.room == room) {
            watched.seen = seen;
        }
        self.client.emit("room_updated", &json!({"room": view::room(conversation)}));
        self.client.emit("room_messages", &json!({"messages": messages}));
        self.client.emit("room_users", &json!({"users": users}));
        Ok(())
    }

    /// Leaves a room, and stops watching it. The last owner stays its owner.
    pub(super) async fn leave(&mut self, room: ConversationId) -> Result<(), Problem> {
        if let Ok(actor) = self.actor() {
            let leave = LeaveConversationRequest { conversation_id: room.to_string() };
            match self.dialects.backend.call(&actor, leave).await {
                Err(problem) if !stays_quietly(&problem) => return Err(problem),
                _ => {}
            }
        }
        self.unwatch(room);
        Ok(())
    }

    async fn say(&mut self, fields: &Fields) -> Result<Value, Problem> {
        let text = fields.required("text")?;
        if let Some(command) = text.trim_start().strip_prefix('!') {
            commands::run(self, command).await?;
            return Ok(json!({"success": true}));
        }
        let text = text::message("text", &text)?;
        let (actor, room) = (self.actor()?, self.current_room()?);
        let sent = messages::send(&self.dialects, &actor, room, &text).await?;
        Ok(json!({"success": true, "result": view::message_id(&sent.conversation_id, sent.sequence)}))
    }
}

/// Returns the token of a login event, which is required.
fn login_token(fields: &Fields) -> Result<Option<String>, Problem> {
    let text = fields.text("token")?.unwrap_or_default();
    match token(&text) {
        Some(token) => Ok(Some(token.to_owned())),
        None => Err(unauthenticated().into()),
    }
}

/// True for reasons for which a user who stops watching may stay a member, or is not one.
fn stays_quietly(problem: &Problem) -> bool {
    [ErrorReason::LastOwner, ErrorReason::ConversationNotFound]
        .iter()
        .any(|reason| problem.fault().reason() == reason.as_str_name())
}

impl Drop for Session {
    fn drop(&mut self) {
        self.unbind();
    }
}
