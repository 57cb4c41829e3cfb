//! Events in the rooms of a connection, and of its user, as clients of this API receive them.

use std::sync::Arc;

use proto::auth::v1::GetMeRequest;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::{Event, Message, SignalKind, event, user_event};
use serde_json::json;

use super::roles::RoomRoles;
use super::session::Session;
use super::{rooms, show as view};
use crate::dialects::backend::Authority;
use crate::dialects::people::Named;
use crate::dialects::socketio;
use crate::realtime::connection::End;
use crate::realtime::frame::Frame;
use crate::realtime::subscriber::Subscriber;

/// An event for a connection.
pub(crate) enum Push {
    /// A frame of a view.
    Frame(Arc<Frame>),
    /// A view has ended.
    Ended { of_user: bool, end: End },
}

async fn next_of(subscriber: Option<&mut Subscriber>, of_user: bool) -> Push {
    match subscriber {
        None => std::future::pending().await,
        Some(subscriber) => match subscriber.next().await {
            Ok(frame) => Push::Frame(frame),
            Err(end) => Push::Ended { of_user, end },
        },
    }
}

impl Session {
    /// Waits for the next push. No push is lost when it is dropped before it is ready.
    pub(crate) async fn next(&mut self) -> Push {
        let of_user = next_of(self.user.as_mut().map(|user| &mut user.subscriber), true);
        let of_anonymous = next_of(self.anonymous.as_mut(), false);
        tokio::select! {
            push = of_user => push,
            push = of_anonymous => push,
        }
    }

    /// Sends the event to the client.
    pub(crate) async fn show(&mut self, push: Push) {
        match push {
            Push::Frame(frame) => match frame.body() {
                Some(Body::Event(event)) => self.show_event(event).await,
                Some(Body::UserEvent(event)) => {
                    if matches!(event.payload, Some(user_event::Payload::ProfileChanged(_))) {
                        self.show_own_profile().await;
                    }
                }
                Some(Body::Signal(signal)) if signal.kind() == SignalKind::ProfileChanged => {
                    self.show_profile(&signal.conversation_id, &signal.user_id).await;
                }
                _ => {}
            },
            Push::Ended { of_user: true, end: End::SignedOut } => drop(self.log_out()),
            Push::Ended { end: End::TooSlow, .. } => self.client.end(socketio::End::TooSlow),
            Push::Ended { end: End::SignedOut | End::Restart { .. } | End::Gone, .. } => {
                self.client.end(socketio::End::Restart);
            }
        }
    }

    async fn show_event(&mut self, event: &Event) {
        let Ok(room) = ConversationId::parse(&event.conversation_id) else { return };
        let Some(watched) = self.rooms.iter_mut().find(|watched| watched.room == room) else { return };
        // Events that were read when the room was joined are not sent again.
        if event.sequence <= watched.seen {
            return;
        }
        watched.seen = event.sequence;
        let is_by_user = watched.is_by_user;
        match &event.payload {
            Some(event::Payload::MessageCreated(message)) if message.delete_time.is_none() => {
                self.show_message(room, message, is_by_user).await;
            }
            Some(event::Payload::MessageDeleted(deleted)) => {
                let id = view::message_id(&event.conversation_id, deleted.message_sequence);
                self.client.emit("message_deleted", &json!({"ids": id}));
            }
            Some(event::Payload::MessagesPurged(_)) => {
                self.client.emit("room_purged", &json!({"deleted": true}));
            }
            Some(event::Payload::ConversationUpdated(changed)) => {
                let shown = view::changed_room(room, changed);
                self.client.emit("room_updated", &json!({"room": shown}));
            }
            Some(event::Payload::ConversationDeleted(_)) => {
                self.unwatch(room);
                self.client.emit("error", &self.error("the room was deleted"));
            }
            Some(
                event::Payload::MemberRoleChanged(_)
                | event::Payload::MemberRemoved(_)
                | event::Payload::MembersAdded(_),
            ) => self.dialects.playground.roles.forget(room),
            _ => {}
        }
    }

    /// Sends the changed name or picture of the user.
    async fn show_own_profile(&mut self) {
        let Ok(actor) = self.actor() else { return };
        self.dialects.people.forget(actor.user_id);
        match self.dialects.backend.call(&actor, GetMeRequest {}).await {
            Ok(me) => {
                let user = view::user(&me.user.unwrap_or_default());
                self.client.emit("auth_updated", &json!({"user": user}));
            }
            Err(problem) => {
                tracing::warn!(reason = problem.fault().reason(), "a user is not shown their new name");
            }
        }
    }

    /// Sends the changed name or picture of a member of a room.
    async fn show_profile(&mut self, room: &str, user: &str) {
        let (Ok(room), Ok(user_id)) = (ConversationId::parse(room), UserId::parse(user)) else { return };
        let Some(watched) = self.rooms.iter().find(|watched| watched.room == room) else { return };
        let is_by_user = watched.is_by_user;
        self.dialects.people.forget(user_id);
        let (people, roles) = self.known(room, std::iter::once(user), is_by_user).await;
        self.client.emit("user_updated", &json!({"user": view::member(user, &people, &roles)}));
    }

    async fn show_message(&mut self, room: ConversationId, message: &Message, is_by_user: bool) {
        let mentioned = rooms::mentioned(std::slice::from_ref(message));
        let (people, roles) = self.known(room, mentioned, is_by_user).await;
        self.client.emit("message", &view::message(message, &people, &roles));
    }

    /// Returns names and roles of users. Unreadable ones are left out: the event is sent in any case.
    async fn known(
        &mut self,
        room: ConversationId,
        users: impl Iterator<Item = &str>,
        is_by_user: bool,
    ) -> (Named, RoomRoles) {
        let address = self.client.address();
        let reader = if is_by_user { self.reader() } else { Authority::Anonymous(address) };
        let people = self.dialects.people.named(users, address).await;
        let roles = self.dialects.playground.roles.known(room, &reader).await;
        for problem in [people.as_ref().err(), roles.as_ref().err()].into_iter().flatten() {
            tracing::warn!(reason = problem.fault().reason(), "a user is shown without a name or role");
        }
        (people.unwrap_or_default(), roles.unwrap_or_default())
    }
}
