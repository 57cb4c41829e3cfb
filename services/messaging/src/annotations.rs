//! What people left on messages, in lists.

use chassis::clock::Timestamp;
use chassis::page::{Position as _, Token};
use proto::id::{ConversationId, MessageId, UserId};
use uuid::Uuid;

use crate::error::Error;
use crate::marks::{Reaction, Vote, poll};
use crate::message::Message;
use crate::messaging::{Messaging, cut};

/// Whose marks, and which page of them.
#[derive(Clone, Debug)]
pub struct MarksPage {
    /// The conversation.
    pub conversation: ConversationId,
    /// The message.
    pub message_id: MessageId,
    /// At most so many.
    pub limit: i64,
    /// Where to continue.
    pub token: String,
}

impl Messaging {
    /// Who reacted to a message and how, oldest first; and where to continue.
    pub async fn reactions(&self, user: UserId, page: MarksPage) -> Result<(Vec<Reaction>, String), Error> {
        let (user_id, id) = (user.uuid(), page.message_id.uuid());
        let conversation_id = page.conversation.uuid();
        let query: [&[u8]; 4] = [b"reactions", user_id.as_bytes(), conversation_id.as_bytes(), id.as_bytes()];
        let after = Token::decode(&page.token, &query).map_err(|fault| Error::PageToken(Box::new(fault)))?;
        let after = after.map(|bytes| position(&bytes)).transpose()?;
        let message = self.message(user, page.conversation, page.message_id).await?;
        if message.deletion.is_some() {
            return Ok((Vec::new(), String::new()));
        }
        let mut reactions = self
            .store
            .reactions(message.conversation, message.sequence, after.as_ref(), page.limit + 1)
            .await?;
        let is_last = !cut(&mut reactions, page.limit, |_| 0);
        let next = reactions.last().filter(|_| !is_last).map(|last| Token::encode(&query, &bytes_of(last)));
        Ok((reactions, next.unwrap_or_default()))
    }

    /// Who voted in a poll and for what, in the order of their ids; and where to continue.
    pub async fn votes(&self, user: UserId, page: MarksPage) -> Result<(Vec<Vote>, String), Error> {
        let (user_id, id) = (user.uuid(), page.message_id.uuid());
        let conversation_id = page.conversation.uuid();
        let query: [&[u8]; 4] = [b"votes", user_id.as_bytes(), conversation_id.as_bytes(), id.as_bytes()];
        let after =
            Token::after::<Uuid>(&page.token, &query).map_err(|fault| Error::PageToken(Box::new(fault)))?;
        let message = self.message(user, page.conversation, page.message_id).await?;
        if message.deletion.is_some() {
            return Err(Error::MessageDeleted(message.message_id));
        }
        if poll(&message).ok_or(Error::NotAPoll(message.message_id))?.anonymous {
            return Err(Error::PollAnonymous(message.message_id));
        }
        let mut votes = self
            .store
            .votes(message.conversation, message.sequence, after.map(UserId::from), page.limit + 1)
            .await?;
        let is_last = !cut(&mut votes, page.limit, |_| 0);
        let next = votes.last().filter(|_| !is_last).map(|last| Token::at(&query, &last.user.uuid()));
        Ok((votes, next.unwrap_or_default()))
    }

    /// The pinned messages of a conversation as a user sees them, the one pinned last first.
    pub async fn pinned(&self, user: UserId, conversation: ConversationId) -> Result<Vec<Message>, Error> {
        self.conversations.admit(conversation, user).await?;
        Ok(self.store.pinned(user, conversation).await?)
    }
}

/// The place of a reaction in its list: time and person, then the emoji.
fn bytes_of(reaction: &Reaction) -> Vec<u8> {
    let mut bytes = (reaction.create_time.as_millis(), reaction.user.uuid()).to_bytes();
    bytes.extend(reaction.emoji.as_bytes());
    bytes
}

fn position(bytes: &[u8]) -> Result<Reaction, Error> {
    const FIXED: usize = size_of::<i64>() + size_of::<Uuid>();
    let malformed = || Error::Invalid { field: "page_token", rule: "must be a token of an earlier page" };
    let (fixed, emoji) = bytes.split_at_checked(FIXED).ok_or_else(malformed)?;
    let (millis, user) = <(i64, Uuid)>::from_bytes(fixed).ok_or_else(malformed)?;
    // PostgreSQL has no text with a NUL in it.
    let emoji =
        std::str::from_utf8(emoji).ok().filter(|emoji| !emoji.contains('\0')).ok_or_else(malformed)?;
    Ok(Reaction { create_time: Timestamp::from_millis(millis), user: user.into(), emoji: emoji.to_owned() })
}
