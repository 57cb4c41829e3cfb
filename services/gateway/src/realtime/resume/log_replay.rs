//! The reading of logs for one connection, with the rights of its viewer, until the connection is live.

use std::sync::Arc;
use std::time::Duration;

use chassis::transport::as_service;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::{Event, ListEventsRequest, ListUserEventsRequest, UserEvent};
use tonic::{Code, Request, Status};

use super::PAUSE;
use crate::realtime::Realtime;
use crate::realtime::connection::Connection;
use crate::realtime::frame::Frame;
use crate::realtime::hub::Hub;
use crate::realtime::identity::Credential;
use crate::realtime::topic::{CatchUp, Key};
use crate::upstream::clients::OnBehalf;

/// The maximum number of entries that one call reads.
const PAGE: i32 = 200;

/// The maximum number of attempts to read.
const TRIES: u32 = 5;

/// Reads logs for one connection.
#[derive(Clone)]
pub(crate) struct LogReplay {
    pub(crate) realtime: Realtime,
    pub(crate) connection: Arc<Connection>,
}

impl LogReplay {
    pub(crate) fn new(realtime: Realtime, connection: Arc<Connection>) -> Self {
        Self { realtime, connection }
    }

    /// Returns a request with the rights of the viewer: the token of the user; or the gateway's own credential, for a
    /// user whose stream was opened with a ticket, and for the anonymous viewer.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let patience = self.realtime.config().request_timeout;
        match self.connection.identity() {
            Some(identity) => match identity.credential() {
                Credential::Token(token) => OnBehalf::of_token(&token, patience).request(message),
                Credential::StreamTicket { .. } => {
                    self.request_as_gateway(message, Some(identity.user_id()), patience)
                }
            },
            None => self.request_as_gateway(message, None, patience),
        }
    }

    fn request_as_gateway<T>(&self, message: T, user: Option<UserId>, patience: Duration) -> Request<T> {
        let mut request = as_service(message, self.realtime.upstream().clients().credential(), user);
        request.set_timeout(patience);
        request
    }

    /// Returns the logs that are followed here.
    pub(crate) fn hub(&self) -> &Hub {
        self.realtime.hub()
    }

    /// Continues after `known`, beginning with the known entries of the log.
    pub(super) async fn reach(&self, key: Key, mut known: i64, head: i64) -> Result<(), Status> {
        if known < head {
            known = self.read_on(key, known).await?;
        }
        self.follow_on(key, known).await
    }

    /// Continues after `sent`: reads the missing entries from the log until the connection is live.
    pub(crate) async fn follow_on(&self, key: Key, mut sent: i64) -> Result<(), Status> {
        loop {
            match self.hub().caught_up(&self.connection, key, sent).await {
                CatchUp::Live | CatchUp::Gone => return Ok(()),
                CatchUp::Behind(known) => sent = self.read_on(key, known).await?,
            }
        }
    }

    /// Sends a log from after `known` to its end. Returns the sequence that it reached.
    pub(crate) async fn read_on(&self, key: Key, mut known: i64) -> Result<i64, Status> {
        loop {
            let (frames, head) = match key {
                Key::Conversation(conversation) => {
                    let (events, head) = self.events(conversation, known).await?;
                    let numbered = |event: Event| (event.sequence, Frame::push(Body::Event(event)));
                    (events.into_iter().map(numbered).collect::<Vec<_>>(), head)
                }
                Key::User(_) => {
                    let (events, head) = self.user_events(known).await?;
                    let numbered = |event: UserEvent| (event.sequence, Frame::push(Body::UserEvent(event)));
                    (events.into_iter().map(numbered).collect(), head)
                }
            };
            let before = known;
            for (sequence, frame) in frames {
                known = sequence;
                if !self.connection.push_when_room(frame).await {
                    return Ok(known);
                }
            }
            if known >= head || known == before {
                return Ok(known);
            }
        }
    }

    async fn events(
        &self,
        conversation: ConversationId,
        after_sequence: i64,
    ) -> Result<(Vec<Event>, i64), Status> {
        let conversation_id = conversation.to_string();
        let request = ListEventsRequest { conversation_id, after_sequence, limit: PAGE };
        let mut tries = 0;
        loop {
            match self.realtime.upstream().clients().sync().list_events(self.request(request.clone())).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    return Ok((answer.events, answer.head_sequence));
                }
                Err(status) => self.pause(&mut tries, status).await?,
            }
        }
    }

    async fn user_events(&self, after_sequence: i64) -> Result<(Vec<UserEvent>, i64), Status> {
        let request = ListUserEventsRequest { after_sequence, limit: PAGE };
        let mut tries = 0;
        loop {
            match self.realtime.upstream().clients().sync().list_user_events(self.request(request)).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    return Ok((answer.events, answer.head_sequence));
                }
                Err(status) => self.pause(&mut tries, status).await?,
            }
        }
    }

    /// Waits before the next attempt, or gives up.
    async fn pause(&self, tries: &mut u32, status: Status) -> Result<(), Status> {
        *tries += 1;
        let may_pass =
            matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted);
        if !may_pass || *tries == TRIES {
            return Err(status);
        }
        tokio::time::sleep(PAUSE * *tries).await;
        Ok(())
    }
}
