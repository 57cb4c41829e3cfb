//! Forwarding: a copy of a message for another conversation, or the same.

use std::sync::OnceLock;

use proto::id::{ConversationId, MessageId, UserId};
use proto::messaging::v1::Origin;

use crate::details::Details;
use crate::error::Error;
use crate::message::{ClientMessageId, Fingerprint, Letter, Message};
use crate::messaging::Messaging;
use crate::store::Appended;

/// What somebody wants to send on, and where.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// Where the message is.
    pub conversation: ConversationId,
    /// Which one.
    pub message_id: MessageId,
    /// Where the copy goes.
    pub to: ConversationId,
    /// The sender's own id for the copy, which makes a retry safe.
    pub client_message_id: Option<ClientMessageId>,
}

impl Messaging {
    /// Sends a copy of a message that the user can read.
    pub async fn forward(&self, user: UserId, forwarding: Forwarding) -> Result<Appended, Error> {
        // What was forwarded stays forwarded, whatever has become of the original since.
        if let Some(first) = self.forwarded(user, &forwarding).await? {
            return Ok(first);
        }
        let source = self.message(user, forwarding.conversation, forwarding.message_id).await?;
        let mut letter = forwarding.copy(user, source)?;
        self.ask_policy(&mut letter).await?;
        self.send_letter(letter).await
    }

    /// The copy that was made before under the same client message id.
    async fn forwarded(&self, user: UserId, forwarding: &Forwarding) -> Result<Option<Appended>, Error> {
        let Some(id) = &forwarding.client_message_id else { return Ok(None) };
        let first = self.store.first(forwarding.to, user, id).await?;
        let same = first.filter(|(_, fingerprint)| *fingerprint == forwarding.fingerprint());
        Ok(same.map(|(message, _)| Appended { message, repeated: true, alerts: Vec::new() }))
    }
}

impl Forwarding {
    /// The copy. It says where it comes from and expires when the original does. What people did to the original stays
    /// with the original.
    fn copy(self, sender: UserId, source: Message) -> Result<Letter, Error> {
        let fingerprint = self.fingerprint();
        let Some(content) = source.content else { return Err(Error::MessageDeleted(self.message_id)) };
        if !content.is_forwardable() {
            return Err(Error::NotForwardable(self.message_id));
        }
        let origin = source.details.origin.unwrap_or_else(|| Origin {
            conversation_id: source.conversation.to_string(),
            message_id: source.message_id.to_string(),
            sender_id: source.sender.to_string(),
        });
        Ok(Letter {
            message_id: MessageId::generate(),
            conversation: self.to,
            sender,
            client_message_id: self.client_message_id,
            reply_to: None,
            lifetime: None,
            expire_time: source.expire_time,
            details: Details { origin: Some(origin), poll: content.new_poll(), ..Details::default() },
            content,
            fingerprint,
            is_signed: false,
            findable: OnceLock::new(),
        })
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_copy(self.conversation, self.message_id)
    }
}

#[cfg(test)]
mod tests {
    use chassis::clock::Timestamp;
    use proto::messaging::v1::{Pin, ReactionCount};

    use super::*;
    use crate::content::Content;
    use crate::message::{Draft, Sequence, Target};

    fn message(details: Details) -> Message {
        let draft = Draft {
            target: Target::Person(UserId::generate()),
            content: Content::text("hello"),
            client_message_id: None,
            reply_to: Some(MessageId::generate()),
            lifetime: Some(std::time::Duration::from_secs(60)),
            scheduled_time: Some(Timestamp::from_millis(1)),
        };
        let letter = Letter::new(draft, ConversationId::generate(), UserId::generate());
        Letter { details, ..letter }.posted(Sequence::new(1), Timestamp::from_millis(1))
    }

    fn forwarding(message: &Message) -> Forwarding {
        let to = ConversationId::generate();
        let (conversation, message_id) = (message.conversation, message.message_id);
        Forwarding { conversation, message_id, to, client_message_id: None }
    }

    #[test]
    fn a_copy_leaves_behind_what_people_did_and_keeps_when_it_ends() {
        let source = message(Details {
            mentions: vec![UserId::generate()],
            reactions: vec![ReactionCount { emoji: "👍".to_owned(), count: 2 }],
            pin: Some(Pin::default()),
            ..Details::default()
        });
        let copy = forwarding(&source).copy(UserId::generate(), source.clone()).unwrap();
        let origin = copy.details.origin.clone().unwrap();
        assert_eq!(origin.message_id, source.message_id.to_string());
        assert_eq!(copy.details, Details { origin: Some(origin), ..Details::default() });
        assert_eq!((Some(copy.content.clone()), copy.reply_to), (source.content.clone(), None));
        // However late it is sent, it ends when the original does.
        let posted = copy.posted(Sequence::new(9), Timestamp::from_millis(50_000));
        assert_eq!(posted.expire_time, source.expire_time);
    }

    #[test]
    fn a_copy_of_a_copy_names_the_first_origin() {
        let origin = Origin { message_id: "the first".to_owned(), ..Origin::default() };
        let source = message(Details { origin: Some(origin.clone()), ..Details::default() });
        let copy = forwarding(&source).copy(UserId::generate(), source).unwrap();
        assert_eq!(copy.details.origin, Some(origin));
    }
}
