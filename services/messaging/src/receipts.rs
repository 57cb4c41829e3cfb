//! Moving watermarks: what a lane does with a batch of it. A busy room reads in bursts, and one commit serves them all.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::id::{ConversationId, MessageId};

use crate::error::Error;
use crate::lane::{Answer, Job};
use crate::message::Sequence;
use crate::messaging::Messaging;
use crate::publish::Publisher;
use crate::receipt::{Progress, Reached, Watermark};
use crate::store::{Move, Store};

impl Messaging {
    /// How far a member has come, when it has named messages of the conversation.
    pub async fn progress(&self, conversation: ConversationId, reached: Reached) -> Result<Progress, Error> {
        let Reached { mut progress, delivered, read } = reached;
        if let Some(id) = delivered {
            progress.delivered = progress.delivered.max(self.place_of(conversation, id).await?);
        }
        if let Some(id) = read {
            progress.read = progress.read.max(self.place_of(conversation, id).await?);
        }
        Ok(progress)
    }

    /// Where a message was sent. One that is gone has its place still.
    async fn place_of(&self, conversation: ConversationId, id: MessageId) -> Result<Sequence, Error> {
        let message = self.store.message(conversation, id).await?;
        Ok(message.ok_or(Error::MessageNotFound(id))?.sequence)
    }
}

/// A watermark to be moved.
#[derive(Debug)]
pub struct Advancing {
    /// Where to.
    pub to: Watermark,
    /// Whether the user reads on.
    pub reads: bool,
    /// Whether the others do not hear of it: one who asks to write learns from the answer, and not from being read, and
    /// of two of whom one blocks the other nobody learns anything.
    pub is_quiet: bool,
    /// Who waits.
    pub answer: Answer<Watermark>,
}

impl Job for Advancing {
    fn conversation(&self) -> ConversationId {
        self.to.conversation
    }

    fn refuse(self, error: Error) {
        self.answer.give(Err(error));
    }
}

/// Writes batches of watermarks.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// Where the watermarks are.
    pub store: Store,
    /// Tells the others.
    pub publisher: Publisher,
}

impl Recorder {
    /// Does a batch.
    pub async fn record(self: Arc<Self>, batch: Vec<Advancing>) {
        let moves: Vec<_> = batch.iter().map(|one| Move { to: one.to, reads: one.reads }).collect();
        match self.store.advance(&moves).await {
            Ok((moved, user_events)) => {
                // Moves of one watermark in a batch are one move, and one receipt.
                let mut loud = BTreeMap::new();
                for (one, moved) in batch.into_iter().zip(moved) {
                    let watermark = moved.watermark;
                    if !one.is_quiet {
                        loud.insert((watermark.conversation, watermark.user), moved);
                    }
                    one.answer.give(Ok(watermark));
                }
                loud.into_values().for_each(|moved| self.publisher.receipt(moved));
                user_events.into_iter().for_each(|event| self.publisher.user_event(event));
            }
            Err(failure) => {
                failure.log();
                let error = Error::from(failure);
                batch.into_iter().for_each(|one| one.refuse(error.clone()));
            }
        }
    }
}
