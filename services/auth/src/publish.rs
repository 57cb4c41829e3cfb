//! Facts as other services read them, and hints that there is something to read.

use bytes::Bytes;
use chassis::events::Events;
use prost::Message;
use proto::auth::v1 as pb;
use proto::auth::v1::user_fact::Payload;
use proto::id::{SessionId, UserId};
use proto::subject;

use crate::fact::{Fact, What};
use crate::review::Change;

/// A fact as it is kept in the outbox. Its position is put in when it is read.
pub fn payload(fact: &Fact) -> Vec<u8> {
    let payload = match fact.what {
        What::Deleted => Payload::UserDeleted(pb::UserDeleted {}),
        What::Updated => Payload::UserUpdated(pb::UserUpdated {}),
        What::ReviewChanged { review_id, reviewer_id, change, version } => {
            Payload::ReviewChanged(pb::ReviewChanged {
                review_id: review_id.to_string(),
                reviewer_user_id: reviewer_id.to_string(),
                change: review_change(change).into(),
                version,
            })
        }
    };
    let fact = pb::UserFact {
        position: 0,
        event_id: fact.id.to_string(),
        occur_time: Some(fact.time.to_proto()),
        user_id: fact.user_id.to_string(),
        payload: Some(payload),
    };
    fact.encode_to_vec()
}

fn review_change(change: Change) -> pb::ReviewChange {
    match change {
        Change::Written => pb::ReviewChange::Written,
        Change::Updated => pb::ReviewChange::Updated,
        Change::Deleted => pb::ReviewChange::Deleted,
    }
}

/// Gives hints after a change is committed. They may be lost: facts are also asked for now and then, and what is known
/// of a session is forgotten within seconds.
#[derive(Clone, Debug)]
pub struct Publisher {
    events: Events,
}

impl Publisher {
    /// Publishes on this bus.
    pub fn new(events: Events) -> Self {
        Self { events }
    }

    /// There are new facts.
    pub fn facts(&self) {
        self.events.publish(subject::AUTH_FACTS, Bytes::new());
    }

    /// These sessions of a user have ended.
    pub fn sessions_ended(&self, user_id: UserId, sessions: &[SessionId]) {
        // On the wire no session at all means every session.
        if !sessions.is_empty() {
            self.ended(user_id, sessions);
        }
    }

    /// All sessions of a user have ended.
    pub fn all_sessions_ended(&self, user_id: UserId) {
        self.ended(user_id, &[]);
    }

    fn ended(&self, user_id: UserId, sessions: &[SessionId]) {
        let session_ids = sessions.iter().map(SessionId::to_string).collect();
        let hint = pb::SessionsEnded { user_id: user_id.to_string(), session_ids };
        self.events.publish(subject::SESSIONS_ENDED, hint.encode_to_vec().into());
    }
}
