//! What a message said before it was edited. It can be read as long as the message can.

use chassis::clock::Timestamp;
use chassis::page::Token;
use proto::id::{ConversationId, MessageId, UserId};

use crate::content::Content;
use crate::error::Error;
use crate::messaging::{Messaging, cut};

/// What a message said at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Edition {
    /// The version of the message: 1 for what was sent first.
    pub version: i32,
    /// What it said.
    pub content: Content,
    /// Since when it said so.
    pub create_time: Timestamp,
}

impl Messaging {
    /// What a message said before its edits, oldest first; answers where to continue, too.
    pub async fn revisions(
        &self,
        user: UserId,
        conversation: ConversationId,
        id: MessageId,
        limit: i64,
        token: &str,
    ) -> Result<(Vec<Edition>, String), Error> {
        let (user_id, conversation_id, message_id) = (user.uuid(), conversation.uuid(), id.uuid());
        let query: [&[u8]; 4] =
            [b"revisions", user_id.as_bytes(), conversation_id.as_bytes(), message_id.as_bytes()];
        let after = Token::after::<i64>(token, &query).map_err(|fault| Error::PageToken(Box::new(fault)))?;
        let message = self.message(user, conversation, id).await?;
        if message.deletion.is_some() {
            return Err(Error::MessageDeleted(id));
        }
        let after = after.unwrap_or(0);
        let mut editions = self.store.revisions(conversation, message.sequence, after, limit + 1).await?;
        let is_last = !cut(&mut editions, limit, |edition| edition.content.weight());
        let next =
            editions.last().filter(|_| !is_last).map(|last| Token::at(&query, &i64::from(last.version)));
        Ok((editions, next.unwrap_or_default()))
    }
}
