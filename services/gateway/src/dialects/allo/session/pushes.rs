//! Events in the conversations of a connection, and of its users, as clients of this API receive them.

use std::sync::Arc;
use std::task::{Context, Poll};

use proto::conversation::v1::GetConversationRequest;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::{
    Event, GetReportRequest, ListMessagesRequest, Message, Order, Report, Signal, SignalKind, UserEvent,
    Watermark, event, user_event,
};
use serde_json::json;

use super::Session;
use crate::dialects::allo::{events, show};
use crate::dialects::backend::Authority;
use crate::dialects::socketio;
use crate::http::error::Problem;
use crate::realtime::connection::End;
use crate::realtime::frame::Frame;

/// The number of messages of a purge that are reported one by one.
const PURGED: usize = 200;

/// The viewer of a view that has an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialects) enum Follower {
    User(UserId),
    Anonymous,
}

/// An event for a connection.
pub(in crate::dialects) enum Push {
    /// A frame of a view.
    Frame(Follower, Arc<Frame>),
    /// A view has ended.
    Ended(Follower, End),
}

impl Session {
    /// Waits for the next push. No push is lost when it is dropped before it is ready.
    pub(in crate::dialects) async fn next(&mut self) -> Push {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Waits until the own log of a user is followed, or its view has ended. Events in between are kept.
    pub(super) async fn caught_up(&mut self, user: UserId) {
        loop {
            let push = std::future::poll_fn(|cx| self.poll_views(cx)).await;
            let is_there = match &push {
                Push::Frame(follower, frame) => {
                    *follower == Follower::User(user) && matches!(frame.body(), Some(Body::CaughtUp(_)))
                }
                Push::Ended(follower, _) => *follower == Follower::User(user),
            };
            self.kept.push_back(push);
            if is_there {
                return;
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Push> {
        match self.kept.pop_front() {
            Some(push) => Poll::Ready(push),
            None => self.poll_views(cx),
        }
    }

    fn poll_views(&mut self, cx: &mut Context<'_>) -> Poll<Push> {
        let of_users =
            self.users.iter_mut().map(|user| (Follower::User(user.actor.user_id), &mut user.subscriber));
        let all = of_users.chain(self.anonymous.iter_mut().map(|view| (Follower::Anonymous, view)));
        for (follower, subscriber) in all {
            match subscriber.poll_next(cx) {
                Poll::Ready(Ok(frame)) => return Poll::Ready(Push::Frame(follower, frame)),
                Poll::Ready(Err(end)) => return Poll::Ready(Push::Ended(follower, end)),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    /// Sends the event to the client.
    pub(in crate::dialects) async fn show(&mut self, push: Push) {
        let (follower, frame) = match push {
            Push::Frame(follower, frame) => (follower, frame),
            Push::Ended(follower, end) => return self.ended(follower, end),
        };
        let told = match frame.body() {
            Some(Body::Event(event)) => self.show_event(follower, event).await,
            Some(Body::UserEvent(event)) => self.show_user_event(follower, event).await,
            Some(Body::Receipt(watermark)) => self.show_receipt(follower, watermark).await,
            Some(Body::Signal(signal)) => self.show_signal(signal).await,
            _ => Ok(()),
        };
        if let Err(problem) = told {
            tracing::warn!(reason = problem.fault().reason(), "a client is not told what has happened");
            // Omitting the event silently would lose it: the client comes back.
            self.client.end(socketio::End::Restart);
        }
    }

    fn ended(&mut self, follower: Follower, end: End) {
        match (follower, end) {
            // The session of a name has ended; its next action begins another.
            (Follower::User(id), End::SignedOut) if self.user.is_none() => {
                self.users.retain(|user| user.actor.user_id != id);
            }
            (_, End::TooSlow) => self.client.end(socketio::End::TooSlow),
            // A client whose session has ended is refused when it comes back.
            (_, End::SignedOut | End::Restart { .. } | End::Gone) => self.client.end(socketio::End::Restart),
        }
    }

    /// Returns the rights with which a view reads.
    fn reader(&self, follower: Follower) -> Authority {
        match self.actor_of(follower) {
            Some(actor) => Authority::User(actor),
            None => Authority::Anonymous(self.client.address()),
        }
    }

    async fn show_event(&mut self, follower: Follower, event: &Event) -> Result<(), Problem> {
        let address = self.client.address();
        let people = self.dialects.people.named(events::mentioned(event), address).await?;
        for (name, value) in events::of(event, &people) {
            self.client.emit(name, &value);
        }
        match &event.payload {
            Some(event::Payload::MessagesPurged(purged)) => {
                self.show_purge(follower, &event.conversation_id, purged.up_to_sequence).await?;
            }
            Some(event::Payload::ConversationDeleted(_)) => {
                self.leave(&event.conversation_id, "the conversation was deleted");
            }
            // In an open conversation the view continues: everyone may read there.
            Some(event::Payload::MemberRemoved(removed))
                if follower != Follower::Anonymous && self.is_own(&removed.user_id) =>
            {
                self.leave(&event.conversation_id, "you are no longer in this conversation");
            }
            _ => {}
        }
        Ok(())
    }

    fn is_own(&self, id: &str) -> bool {
        UserId::parse(id).is_ok_and(|id| self.users.iter().any(|user| user.actor.user_id == id))
    }

    fn leave(&mut self, conversation: &str, why: &str) {
        let Ok(id) = ConversationId::parse(conversation) else { return };
        self.unfollow(id);
        self.client.emit("error", &json!({"message": why, "conversationID": conversation}));
    }

    /// Reports the newest messages of a purge, one by one.
    async fn show_purge(
        &mut self,
        follower: Follower,
        conversation: &str,
        up_to: i64,
    ) -> Result<(), Problem> {
        let mut list = ListMessagesRequest {
            conversation_id: conversation.to_owned(),
            order: Order::NewestFirst.into(),
            before_sequence: up_to.saturating_add(1),
            page_size: 100,
            ..ListMessagesRequest::default()
        };
        let mut told = 0;
        while told < PURGED {
            let page = self.dialects.backend.call(self.reader(follower), list.clone()).await?;
            for message in page.messages.iter().take(PURGED - told) {
                self.client.emit("messageDeleted", &events::gone(conversation, &message.message_id));
            }
            told += page.messages.len();
            if page.next_page_token.is_empty() {
                break;
            }
            list.page_token = page.next_page_token;
        }
        Ok(())
    }

    /// Reports that a member has read up to a message.
    async fn show_receipt(&mut self, follower: Follower, watermark: &Watermark) -> Result<(), Problem> {
        if watermark.read_sequence <= watermark.previous_read_sequence {
            return Ok(());
        }
        let list = ListMessagesRequest {
            conversation_id: watermark.conversation_id.clone(),
            order: Order::NewestFirst.into(),
            before_sequence: watermark.read_sequence.saturating_add(1),
            page_size: 1,
            ..ListMessagesRequest::default()
        };
        let message: Option<Message> =
            self.dialects.backend.call(self.reader(follower), list).await?.messages.pop();
        if let Some(message) = message {
            let read = json!({
                "messageId": message.message_id,
                "conversationID": watermark.conversation_id,
                "status": "read",
            });
            self.client.emit("messageStatusUpdate", &read);
        }
        Ok(())
    }

    async fn show_signal(&mut self, signal: &Signal) -> Result<(), Problem> {
        let name = match signal.kind() {
            SignalKind::Typing | SignalKind::Recording => "typing",
            SignalKind::Stopped => "stopTyping",
            _ => return Ok(()),
        };
        if self.is_own(&signal.user_id) {
            return Ok(());
        }
        let people = self.dialects.people.named([signal.user_id.as_str()], self.client.address()).await?;
        let user = show::name(&people, &signal.user_id);
        self.client.emit(name, &json!({"user": user, "conversationID": signal.conversation_id}));
        Ok(())
    }

    async fn show_user_event(&mut self, follower: Follower, event: &UserEvent) -> Result<(), Problem> {
        match &event.payload {
            Some(user_event::Payload::ConversationGained(gained)) => {
                let id = ConversationId::parse(&gained.conversation_id);
                if id.is_ok_and(|id| self.made.contains(&id)) {
                    return Ok(());
                }
                self.show_conversation(follower, &gained.conversation_id).await
            }
            Some(user_event::Payload::ConversationLost(lost)) => {
                let id = ConversationId::parse(&lost.conversation_id);
                if id.is_ok_and(|id| self.is_followed_by(follower, id)) {
                    self.leave(&lost.conversation_id, "you are no longer in this conversation");
                }
                Ok(())
            }
            Some(user_event::Payload::ReportChanged(report)) => self.show_report(follower, report).await,
            _ => Ok(()),
        }
    }

    fn is_followed_by(&self, follower: Follower, id: ConversationId) -> bool {
        let key = crate::realtime::topic::Key::Conversation(id);
        self.user_of(follower)
            .is_some_and(|user| user.subscriber.handle().connection().followed().contains(&key))
    }

    /// Tells a participant of a conversation that another user has created.
    async fn show_conversation(&mut self, follower: Follower, id: &str) -> Result<(), Problem> {
        let Some(actor) = self.actor_of(follower) else { return Ok(()) };
        let get = GetConversationRequest { conversation_id: id.to_owned() };
        let conversation = match self.dialects.backend.call(&actor, get).await {
            Ok(got) => got.conversation.unwrap_or_default(),
            // It was deleted again, or the user has left again.
            Err(problem) if problem.status() == http::StatusCode::NOT_FOUND => return Ok(()),
            Err(problem) => return Err(problem),
        };
        let shown = show::conversation(&self.dialects, &actor, &conversation, None).await?;
        self.client.emit("conversationCreated", &shown);
        Ok(())
    }

    /// Tells the reporter and the moderators of a report, never the author of the message.
    async fn show_report(&mut self, follower: Follower, report: &Report) -> Result<(), Problem> {
        let Some(actor) = self.actor_of(follower) else { return Ok(()) };
        if report.sender_id == actor.user_id.to_string() {
            return Ok(());
        }
        let get = GetReportRequest { report_id: report.report_id.clone() };
        let report = self.dialects.backend.call(&actor, get).await?.report.unwrap_or_default();
        let people = self.dialects.people.named([report.reporter_user_id.as_str()], actor.address).await?;
        let told = json!({
            "messageId": report.message_id,
            "conversationID": report.conversation_id,
            "reporter": show::name(&people, &report.reporter_user_id),
            "reason": report.comment,
        });
        self.client.emit("messageReported", &told);
        Ok(())
    }
}
