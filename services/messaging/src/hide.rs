//! Deleting a message for oneself only. The log stays the same for everybody; the user's own log says what its devices
//! leave out.

use proto::id::{ConversationId, MessageId, UserId};

use crate::error::Error;
use crate::messaging::Messaging;

impl Messaging {
    /// Hides a message from a user. Again changes nothing.
    pub async fn hide(&self, user: UserId, conversation: ConversationId, id: MessageId) -> Result<(), Error> {
        self.conversations.admit_member(conversation, user).await?;
        if let Some(event) = self.store.hide(user, conversation, id, self.clock.now()).await? {
            self.publisher.user_event(event);
        }
        Ok(())
    }
}
