//! What we say on the bus: hints that a log has grown, and signals. The logs are the truth; nothing here waits or fails.

use std::sync::Arc;

use bytes::Bytes;
use chassis::events::{Events, Expiry};
use prost::Message as _;
use proto::id::ConversationId;
use proto::messaging::v1::{self as pb, notice};
use proto::subject;

use crate::convert;
use crate::event::{Event, UserEvent};
use crate::receipt::Moved;
use crate::store::Applied;

/// Says on the bus what has happened.
#[derive(Clone, Debug)]
pub struct Publisher {
    events: Events,
    epoch: Arc<str>,
}

impl Publisher {
    /// Speaks on this bus, of logs of this epoch.
    pub fn new(events: Events, epoch: Arc<str>) -> Self {
        Self { events, epoch }
    }

    /// The log of a conversation has grown. What is confidential does not travel on the bus: who follows reads the log.
    pub fn event(&self, event: Event) {
        let conversation = event.conversation;
        if event.what.is_confidential() {
            let (conversation_id, sequence) = (conversation.to_string(), event.sequence.get());
            let head = pb::LogHead { conversation_id, sequence };
            return self.say(Expiry::Hint, &subject::conversation(conversation), notice::Notice::Head(head));
        }
        match convert::event(event, &self.epoch) {
            Ok(event) => {
                self.say(Expiry::Hint, &subject::conversation(conversation), notice::Notice::Event(event))
            }
            Err(error) => {
                tracing::error!(conversation.id = %conversation, "an event cannot be published: {error}")
            }
        }
    }

    /// The log of a user has grown.
    pub fn user_event(&self, event: UserEvent) {
        let subject = subject::user(event.user);
        let notice = notice::Notice::UserEvent(convert::user_event(event, &self.epoch));
        self.say(Expiry::Hint, &subject, notice);
    }

    /// Facts have become events.
    pub fn applied(&self, applied: Applied) {
        // Who is gained hears of it first, and can follow before the next thing happens.
        applied.user_events.into_iter().for_each(|event| self.user_event(event));
        applied.events.into_iter().for_each(|event| self.event(event));
    }

    /// A watermark has moved.
    pub fn receipt(&self, moved: Moved) {
        let conversation = moved.watermark.conversation;
        self.say(Expiry::Moment, &subject::conversation(conversation), notice::Notice::Receipt(moved.into()));
    }

    /// A member does something at this moment.
    pub fn signal(&self, conversation: ConversationId, signal: pb::Signal) {
        self.say(Expiry::Moment, &subject::conversation(conversation), notice::Notice::Signal(signal));
    }

    fn say(&self, expiry: Expiry, subject: &str, notice: notice::Notice) {
        let notice = pb::Notice { notice: Some(notice) };
        self.events.publish_with(expiry, subject, Bytes::from(notice.encode_to_vec()));
    }
}
