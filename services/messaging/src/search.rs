//! Finding messages in one's own conversations.

use std::collections::BTreeSet;

use chassis::clock::Timestamp;
use chassis::page::Token;
use proto::id::{ConversationId, MessageId, UserId};
use proto::messaging::v1::MessageKind;
use proto::messaging::v1::content::Kind;
use uuid::Uuid;

use crate::content::Content;
use crate::error::Error;
use crate::message::Message;
use crate::messaging::{Messaging, cut};
use crate::store::Search;
use crate::words::words;

/// What somebody looks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Words that all occur; the last may be the beginning of one. None for any.
    words: Vec<String>,
    /// Only in this conversation; `None` for all of the caller's.
    conversation: Option<ConversationId>,
    /// Only by this sender.
    sender: Option<UserId>,
    /// Only of these kinds; none for any.
    kinds: BTreeSet<MessageKind>,
    /// Only from then on.
    after: Option<Timestamp>,
    /// Only before then.
    before: Option<Timestamp>,
}

impl Wanted {
    /// What somebody looks for, by what was typed: whatever it is, it is only words.
    pub fn parse(query: &str, sender: Option<UserId>, kinds: BTreeSet<MessageKind>) -> Result<Self, Error> {
        let invalid = |rule| Error::Invalid { field: "query", rule };
        let words = words(query);
        if words.is_empty() && !query.chars().all(char::is_whitespace) {
            return Err(invalid("must have a letter, a digit or an emoji"));
        }
        if words.is_empty() && sender.is_none() && kinds.is_empty() {
            return Err(invalid("must be given, unless sender_id or kinds is"));
        }
        Ok(Self { words, conversation: None, sender, kinds, after: None, before: None })
    }

    /// Only in this conversation.
    pub fn within(self, conversation: Option<ConversationId>) -> Self {
        Self { conversation, ..self }
    }

    /// Only from a time on and before another.
    pub fn between(self, after: Option<Timestamp>, before: Option<Timestamp>) -> Self {
        Self { after, before, ..self }
    }

    /// All of it, to tell it from another search.
    fn print(&self, user: UserId) -> Vec<Vec<u8>> {
        let id = |uuid: Option<Uuid>| uuid.map(|uuid| uuid.as_bytes().to_vec()).unwrap_or_default();
        let time = |time: Option<Timestamp>| {
            time.map(|time| time.as_millis().to_be_bytes().to_vec()).unwrap_or_default()
        };
        vec![
            b"search".to_vec(),
            user.uuid().as_bytes().to_vec(),
            self.words.join(" ").into_bytes(),
            id(self.conversation.map(ConversationId::uuid)),
            id(self.sender.map(UserId::uuid)),
            self.kinds.iter().flat_map(|kind| i32::from(*kind).to_be_bytes()).collect(),
            time(self.after),
            time(self.before),
        ]
    }
}

/// What a message is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findable {
    /// Its kind.
    pub kind: MessageKind,
    /// The mark of its conversation and its words, with a space between them.
    pub words: String,
}

impl Findable {
    /// What a content is found by; `None` when it is not.
    pub fn of(conversation: ConversationId, content: &Content) -> Option<Self> {
        let kind = content.found_as()?;
        let mut found = vec![mark(conversation)];
        found.extend(words(&content.searchable().unwrap_or_default()));
        Some(Self { kind, words: found.join(" ") })
    }
}

/// Stands for a conversation among the words. It begins with a character that no word has.
pub fn mark(conversation: ConversationId) -> String {
    format!("\u{e000}{}", conversation.uuid().simple())
}

impl Messaging {
    /// A page of what is found, newest first, and where to continue. A room that one may look into without being in it is
    /// not one's own.
    pub async fn search(
        &self,
        user: UserId,
        wanted: &Wanted,
        limit: i64,
        token: &str,
    ) -> Result<(Vec<Message>, String), Error> {
        let print = wanted.print(user);
        let query: Vec<&[u8]> = print.iter().map(Vec::as_slice).collect();
        let after = Token::after::<Uuid>(token, &query).map_err(|fault| Error::PageToken(Box::new(fault)))?;
        let memberships = self.conversations.memberships(user).await?;
        let conversations = match wanted.conversation {
            Some(id) if memberships.get(id).is_none() => return Err(Error::ConversationNotFound(id)),
            Some(id) => vec![id],
            None => memberships.ids().collect(),
        };
        let search = Search {
            user,
            conversations,
            words: wanted.words.clone(),
            sender: wanted.sender,
            kinds: wanted.kinds.clone(),
            after: wanted.after,
            before: wanted.before,
            older_than: after.map(MessageId::from),
            limit: limit + 1,
        };
        let mut messages = self.store.search(&search).await?;
        let is_last = !cut(&mut messages, limit, Message::weight);
        let next =
            messages.last().filter(|_| !is_last).map(|last| Token::at(&query, &last.message_id.uuid()));
        // One may have gone while it was read.
        messages.retain(|message| message.deletion.is_none());
        Ok((messages, next.unwrap_or_default()))
    }
}

impl Content {
    /// The kind that it is found by; `None` when it is not found at all.
    pub const fn found_as(&self) -> Option<MessageKind> {
        Some(match self.kind() {
            Some(Kind::Secure(_)) => return None,
            Some(Kind::Text(_)) => MessageKind::Text,
            Some(Kind::Voice(_)) => MessageKind::Voice,
            Some(Kind::Sticker(_)) => MessageKind::Sticker,
            Some(Kind::Poll(_)) => MessageKind::Poll,
            Some(Kind::Document(_)) => MessageKind::Document,
            Some(Kind::Link(_)) => MessageKind::Link,
            Some(Kind::Location(_)) => MessageKind::Location,
            Some(Kind::Profile(_)) => MessageKind::Profile,
            Some(Kind::Schedule(_)) => MessageKind::Schedule,
            Some(Kind::Call(_)) => MessageKind::Call,
            Some(Kind::System(_)) => MessageKind::System,
            None => MessageKind::Attachments,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_must_be_looked_for() {
        let parse = |query: &str| Wanted::parse(query, None, BTreeSet::new());
        assert_eq!(parse("Hello WORLD").unwrap().words, ["hello", "world"]);
        for nothing in ["", "  ", "\"*\"", "-"] {
            assert!(matches!(parse(nothing), Err(Error::Invalid { field: "query", .. })), "{nothing:?}");
        }
        let somebody = Some(UserId::generate());
        assert!(Wanted::parse(" ", somebody, BTreeSet::new()).is_ok());
        assert!(Wanted::parse("", None, BTreeSet::from([MessageKind::Poll])).is_ok());
        assert!(Wanted::parse("?!", somebody, BTreeSet::new()).is_err());
    }

    #[test]
    fn each_part_makes_another_search() {
        let user = UserId::generate();
        let base = Wanted::parse("a", None, BTreeSet::new()).unwrap();
        let time = |millis| Some(Timestamp::from_millis(millis));
        let all = [
            base.clone(),
            Wanted::parse("b", None, BTreeSet::new()).unwrap(),
            Wanted::parse("a", Some(user), BTreeSet::new()).unwrap(),
            Wanted::parse("a", None, BTreeSet::from([MessageKind::Text])).unwrap(),
            base.clone().within(Some(user.uuid().into())),
            base.clone().between(time(1), None),
            base.clone().between(None, time(1)),
        ];
        let prints: BTreeSet<_> = all.iter().map(|wanted| wanted.print(user)).collect();
        assert_eq!(prints.len(), all.len());
        assert!(!prints.contains(&base.print(UserId::generate())));
    }
}
