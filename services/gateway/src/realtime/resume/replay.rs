//! Sends what was missed, and lets a connection hear what happens from there on.

use proto::gateway::v1::server_frame::Frame as Body;
use proto::messaging::v1::{CaughtUp, Event, UserEvent};
use tonic::Status;

use super::{Replay, Resume, ResumePoint, is_refusal};
use crate::realtime::frame::Frame;
use crate::realtime::topic::{CatchUp, Key};

impl Resume {
    /// Sends what was missed, and lets the connection hear what happens from there on.
    pub(super) async fn replay(&self, replay: Replay) -> Result<(), Status> {
        if let Some(mut known) = replay.user_known {
            for event in replay.user_events {
                if event.sequence == known + 1 {
                    known = event.sequence;
                    self.connection.push_when_room(Frame::push(Body::UserEvent(event))).await;
                }
            }
            self.reach(Key::User(self.connection.user_id()), known, replay.user_head).await?;
        }
        for ResumePoint { conversation, mut known, head, events } in replay.points {
            for event in events {
                if event.sequence == known + 1 {
                    known = event.sequence;
                    self.connection.push_when_room(Frame::push(Body::Event(event))).await;
                }
            }
            let key = Key::Conversation(conversation);
            match self.reach(key, known, head).await {
                // Out since the comparison. The user's own log tells the client.
                Err(status) if is_refusal(&status) => self.hub().unfollow(&self.connection, &[key]),
                outcome => outcome?,
            }
        }
        self.connection.push_when_room(Frame::push(Body::CaughtUp(CaughtUp { epoch: replay.epoch }))).await;
        Ok(())
    }

    /// Goes on after `known`, with what the log is known to have first.
    pub(super) async fn reach(&self, key: Key, mut known: i64, head: i64) -> Result<(), Status> {
        if known < head {
            known = self.read_on(key, known).await?;
        }
        self.follow_on(key, known).await
    }

    /// Goes on after `sent`: reads what is still missing from the log until the connection is live.
    pub(super) async fn follow_on(&self, key: Key, mut sent: i64) -> Result<(), Status> {
        loop {
            match self.hub().caught_up(&self.connection, key, sent).await {
                CatchUp::Live | CatchUp::Gone => return Ok(()),
                CatchUp::Behind(known) => sent = self.read_on(key, known).await?,
            }
        }
    }

    /// Sends a log from after `known` to its end. Returns how far that was.
    pub(super) async fn read_on(&self, key: Key, mut known: i64) -> Result<i64, Status> {
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
}
