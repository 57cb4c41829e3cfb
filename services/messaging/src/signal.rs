//! Signals: what a member does at this moment. Passed on to whoever listens, and never stored.

use proto::id::{ConversationId, UserId};
use proto::messaging::v1::{Signal, SignalKind};

use crate::error::Error;
use crate::messaging::Messaging;

impl Messaging {
    /// Tells the other members what a member does.
    pub async fn signal(
        &self,
        user: UserId,
        conversation: ConversationId,
        kind: SignalKind,
    ) -> Result<(), Error> {
        match self.conversations.check(&[(conversation, user)]).await?.as_slice() {
            [access] => {
                access.check_writing(conversation)?;
                // It would reach the one who has not been asked yet, or has not answered.
                access.check_contact(conversation)?;
            }
            _ => return Err(Error::ConversationNotFound(conversation)),
        }
        let signal = Signal {
            conversation_id: conversation.to_string(),
            user_id: user.to_string(),
            kind: kind.into(),
        };
        self.publisher.signal(conversation, signal);
        Ok(())
    }
}
