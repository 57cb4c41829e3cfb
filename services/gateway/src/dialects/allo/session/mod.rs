//! One connection of Socket.IO: its operations in order, and the logs that it follows.
//!
//! Open conversations are followed as the anonymous viewer, others as the user who is a member. A conversation is
//! followed by only one of them.

mod pushes;

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use chassis::caller::unauthenticated;
use chassis::fault::Fault;
use proto::conversation::v1::Conversation;
use proto::gateway::v1::ErrorReason;
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::{SendSignalRequest, SignalKind};
use serde_json::{Value, json};
use tonic::Code;

use self::pushes::Follower;
use super::actor;
use super::operations::{self, Operation};
use crate::dialects::Dialects;
use crate::dialects::backend::Actor;
use crate::dialects::fields::Fields;
use crate::dialects::ids;
use crate::dialects::socketio::{Client, Event};
use crate::http::error::Problem;
use crate::realtime::Realtime;
use crate::realtime::frame::Format;
use crate::realtime::session_watch::sign_in;
use crate::realtime::subscriber::Subscriber;

pub(in crate::dialects) use self::pushes::Push;

/// The maximum number of users that one connection may act as.
const MAX_USERS: usize = 8;

/// The longest time until the own log of a user is followed.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum number of conversations that a connection may follow.
const MAX_FOLLOWED: usize = 1000;

/// One connection.
pub(in crate::dialects) struct Session {
    dialects: Dialects,
    realtime: Realtime,
    client: Client,
    /// The user of the token in the handshake, who acts in every operation.
    user: Option<Actor>,
    /// The users that the connection has acted as, the last one at the end.
    users: Vec<User>,
    /// The view of the anonymous viewer, once an open conversation is followed.
    anonymous: Option<Subscriber>,
    followed: HashSet<ConversationId>,
    /// The pushes that arrived while the connection waited for something else.
    kept: VecDeque<Push>,
    /// The conversations that were created on this connection: their creator has been told.
    made: HashSet<ConversationId>,
}

/// A user that the connection acts as, and the view of their logs.
struct User {
    actor: Actor,
    subscriber: Subscriber,
}

impl Session {
    /// Creates a connection; with the user of a token, who acts in every operation.
    pub(in crate::dialects) fn new(
        dialects: Dialects,
        realtime: Realtime,
        client: Client,
        user: Option<Actor>,
    ) -> Self {
        Self {
            dialects,
            realtime,
            client,
            user,
            users: Vec::new(),
            anonymous: None,
            followed: HashSet::new(),
            kept: VecDeque::new(),
            made: HashSet::new(),
        }
    }

    /// Follows the logs of the user of the token, before they do anything.
    pub(in crate::dialects) async fn begin(&mut self) {
        let Some(actor) = self.user.clone() else { return };
        if let Err(problem) = self.act_as(actor).await {
            self.client.emit("error", &json!({"message": problem.fault().text()}));
        }
    }

    /// Executes an event.
    pub(in crate::dialects) async fn hear(&mut self, event: Event) {
        match self.carry_out(&event).await {
            Ok(answer) => self.client.answer(&event, &answer),
            Err(problem) => self.refuse_with(&event, &problem),
        }
    }

    /// Answers an event that is not executed.
    pub(in crate::dialects) fn refuse(&self, event: &Event, fault: &Fault) {
        self.refuse_with(event, &Problem::from(fault.clone()));
    }

    fn refuse_with(&self, event: &Event, problem: &Problem) {
        let body = super::error_body(problem);
        self.client.emit("error", &json!({"message": body["message"]}));
        self.client.answer(event, &body);
    }

    /// True when the connection has no user and follows nothing.
    pub(in crate::dialects) fn is_idle(&self) -> bool {
        self.user.is_none() && self.users.is_empty() && self.anonymous.is_none()
    }

    async fn carry_out(&mut self, event: &Event) -> Result<Value, Problem> {
        let fields = fields(event)?;
        let Some(operation) = Operation::named(&event.name) else { return self.signal(event, &fields).await };
        let actor = self.actor(operation, &fields).await?;
        let done = operations::perform(&self.dialects, operation, &actor, &fields).await?;
        if let Some(conversation) = done.follow {
            self.follow(&conversation, actor.user_id).await?;
            if operation == Operation::CreateConversation {
                self.made.extend(ConversationId::parse(&conversation.conversation_id));
                self.client.emit("conversationCreated", &done.answer);
            }
        }
        Ok(done.answer)
    }

    /// Tells the others that a user types, or no longer types.
    async fn signal(&mut self, event: &Event, fields: &Fields) -> Result<Value, Problem> {
        let kind = match event.name.as_str() {
            "typing" => SignalKind::Typing,
            "stopTyping" => SignalKind::Stopped,
            name => {
                let name: String = name.chars().take(64).collect();
                return Err(Fault::invalid("event", format!("there is no event `{name}`")).into());
            }
        };
        let id = ids::conversation("conversationID", &fields.required("conversationID")?)?;
        let actor = self.actor(Operation::JoinConversation, fields).await?;
        let signal = SendSignalRequest { conversation_id: id.to_string(), kind: kind.into() };
        self.dialects.backend.call(&actor, signal).await?;
        Ok(json!({"conversationID": id.to_string()}))
    }

    /// Returns the acting user: that of the token; without one, the user that the operation names, the user that the
    /// connection acted as last, or one named by the connection itself.
    async fn actor(&mut self, operation: Operation, fields: &Fields) -> Result<Actor, Problem> {
        if let Some(actor) = self.user.clone() {
            actor::require_same(&actor, fields)?;
            return self.act_as(actor).await;
        }
        if !self.dialects.backend.is_development() {
            return Err(unauthenticated().into());
        }
        let address = self.client.address();
        if let Some((field, name)) = operation.names_actor(fields)? {
            let actor = actor::without_token(&self.dialects, field, &name, address).await?;
            return self.act_as(actor).await;
        }
        let last = self.users.last().map(|user| user.actor.clone());
        let actor = match last {
            Some(actor) => actor,
            None => actor::under_name(&self.dialects, &self.client.id(), address).await?,
        };
        self.act_as(actor).await
    }

    /// Follows the logs of a user from now on.
    async fn act_as(&mut self, actor: Actor) -> Result<Actor, Problem> {
        if let Some(at) = self.users.iter().position(|user| user.actor.user_id == actor.user_id) {
            let user = self.users.remove(at);
            self.users.push(User { actor: actor.clone(), ..user });
            return Ok(actor);
        }
        if self.users.len() >= MAX_USERS {
            let fault = Fault::new(Code::ResourceExhausted, ErrorReason::TooManyConnections.as_str_name());
            return Err(fault.message(format!("a connection acts as {MAX_USERS} users at most")).into());
        }
        let who = sign_in(self.realtime.upstream().clients(), &actor.token).await?;
        let subscriber = Subscriber::of_user(&self.realtime, self.client.slot(), who, Format::Typed).await?;
        subscriber.handle().follow_own_log()?;
        self.users.push(User { actor: actor.clone(), subscriber });
        // The client is told of the effects of the operation, so the log is followed before the operation.
        match tokio::time::timeout(FOLLOW_TIMEOUT, self.caught_up(actor.user_id)).await {
            Ok(()) => Ok(actor),
            Err(_) => {
                self.users.pop();
                Err(Problem::deadline_exceeded())
            }
        }
    }

    /// Follows a conversation from its head on.
    async fn follow(&mut self, conversation: &Conversation, user: UserId) -> Result<(), Problem> {
        let id = ids::conversation("conversationID", &conversation.conversation_id)?;
        if self.followed.contains(&id) {
            return Ok(());
        }
        if self.followed.len() >= MAX_FOLLOWED {
            let fault = Fault::new(Code::ResourceExhausted, ErrorReason::TooManyConnections.as_str_name());
            let text = format!("a connection follows {MAX_FOLLOWED} conversations at most");
            return Err(fault.message(text).into());
        }
        let handle = match conversation.public_read {
            true => {
                let anonymous = match &mut self.anonymous {
                    Some(anonymous) => anonymous,
                    None => {
                        let slot = self.client.slot();
                        let view = Subscriber::anonymous(&self.realtime, slot, Format::Typed)?;
                        self.anonymous.insert(view)
                    }
                };
                anonymous.handle().clone()
            }
            false => {
                let user = self.users.iter().find(|other| other.actor.user_id == user);
                user.ok_or_else(unauthenticated)?.subscriber.handle().clone()
            }
        };
        handle.follow(id).await?;
        self.followed.insert(id);
        Ok(())
    }

    /// Stops following a conversation.
    fn unfollow(&mut self, conversation: ConversationId) {
        if self.followed.remove(&conversation) {
            for follower in self.followers() {
                follower.handle().unfollow(conversation);
            }
        }
    }

    fn followers(&self) -> impl Iterator<Item = &Subscriber> {
        self.users.iter().map(|user| &user.subscriber).chain(&self.anonymous)
    }

    fn actor_of(&self, follower: Follower) -> Option<Actor> {
        self.user_of(follower).map(|user| user.actor.clone())
    }

    fn user_of(&self, follower: Follower) -> Option<&User> {
        match follower {
            Follower::User(id) => self.users.iter().find(|user| user.actor.user_id == id),
            Follower::Anonymous => None,
        }
    }
}

/// Returns the fields of an event. A conversation may be named by its bare id.
fn fields(event: &Event) -> Result<Fields, Fault> {
    match event.args.first() {
        Some(Value::String(id))
            if matches!(event.name.as_str(), "joinConversation" | "typing" | "stopTyping") =>
        {
            let mut fields = serde_json::Map::new();
            fields.insert("conversationID".to_owned(), Value::String(id.clone()));
            Ok(Fields::from(fields))
        }
        _ => event.fields(),
    }
}
