//! The sending of missed events, until the connection is live.

use proto::gateway::v1::server_frame::Frame as Body;
use proto::messaging::v1::CaughtUp;
use tonic::Status;

use super::{Replay, Resume, ResumePoint, is_refusal};
use crate::realtime::frame::Frame;
use crate::realtime::topic::Key;

impl Resume {
    /// Sends the missed events, and makes the connection live.
    pub(super) async fn replay(&self, replay: Replay) -> Result<(), Status> {
        if let Some(mut known) = replay.user_known {
            for event in replay.user_events {
                if event.sequence == known + 1 {
                    known = event.sequence;
                    self.log.connection.push_when_room(Frame::push(Body::UserEvent(event))).await;
                }
            }
            self.log.reach(Key::User(self.identity.user_id()), known, replay.user_head).await?;
        }
        for ResumePoint { conversation, mut known, head, events } in replay.points {
            for event in events {
                if event.sequence == known + 1 {
                    known = event.sequence;
                    self.log.connection.push_when_room(Frame::push(Body::Event(event))).await;
                }
            }
            let key = Key::Conversation(conversation);
            match self.log.reach(key, known, head).await {
                // The viewer has lost access since the comparison. The user's own log tells the client.
                Err(status) if is_refusal(&status) => self.hub().unfollow(&self.log.connection, &[key]),
                outcome => outcome?,
            }
        }
        self.log
            .connection
            .push_when_room(Frame::push(Body::CaughtUp(CaughtUp { epoch: replay.epoch })))
            .await;
        Ok(())
    }
}
