//! What the one who asks did with the messages of an answer. Never in events: they are the same for everybody.

use std::collections::HashMap;

use proto::id::{ConversationId, UserId};
use proto::messaging::v1 as pb;

use crate::error::Error;
use crate::marks::{Marks, poll};
use crate::message::{Message, Sequence};
use crate::messaging::Messaging;

/// What a user left on some messages.
#[derive(Clone, Debug, Default)]
pub struct Viewer {
    marks: HashMap<(ConversationId, Sequence), Marks>,
}

impl Messaging {
    /// What a user left on these messages: one question for all of them, and none when there is nothing to be left.
    pub async fn viewer<'a>(
        &self,
        user: UserId,
        messages: impl IntoIterator<Item = &'a Message>,
    ) -> Result<Viewer, Error> {
        let marked = messages.into_iter().filter(|message| may_be_marked(message));
        let places: Vec<_> = marked.map(|message| (message.conversation, message.sequence)).collect();
        if places.is_empty() {
            return Ok(Viewer::default());
        }
        Ok(Viewer { marks: self.store.marks_of(user, &places).await? })
    }

    /// Messages as the wire shows them to a user.
    pub async fn with_viewer(&self, user: UserId, messages: Vec<Message>) -> Result<Vec<pb::Message>, Error> {
        let viewer = self.viewer(user, &messages).await?;
        Ok(messages.into_iter().map(|message| viewer.show(message)).collect())
    }

    /// A message as the wire shows it to a user.
    pub async fn seen_by(&self, user: UserId, message: Message) -> Result<pb::Message, Error> {
        let viewer = self.viewer(user, [&message]).await?;
        Ok(viewer.show(message))
    }
}

impl Viewer {
    /// A message as the wire shows it to this user.
    pub fn show(&self, message: Message) -> pb::Message {
        // One that went in between shows nothing of it.
        let marks = self.marks.get(&(message.conversation, message.sequence));
        let viewer = marks
            .filter(|_| message.deletion.is_none())
            .map(|marks| pb::ViewerState { reactions: marks.reactions.clone(), votes: marks.votes.clone() });
        pb::Message { viewer, ..message.into() }
    }
}

/// Whether anybody can have left something on it that only the message's readers see.
fn may_be_marked(message: &Message) -> bool {
    !message.details.reactions.is_empty() || poll(message).is_some()
}
