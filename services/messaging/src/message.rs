//! A message and the values it is made of, which cannot be wrong once they are built.

use std::fmt;
use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId, UserId};
use sha2::{Digest, Sha256};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::conversations::Access;
use crate::error::Error;

/// A place in a log: 1 is the first, and 0 stands before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(i64);

impl Sequence {
    /// Before the first.
    pub const NONE: Self = Self(0);
    /// After every one.
    pub const END: Self = Self(i64::MAX);

    /// The place with this number; a negative one is before the first.
    pub const fn new(number: i64) -> Self {
        Self(if number < 0 { 0 } else { number })
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Plain text that somebody may send: normalised (NFC), 1 to 16,384 bytes, not only white space, and without control
/// characters but tab and line feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// The most bytes of a text, after normalisation.
    pub const MAX_BYTES: usize = 16_384;

    /// Normalises a text and checks it; says which rule it breaks otherwise.
    pub fn parse(text: String) -> Result<Self, &'static str> {
        let text = match is_nfc_quick(text.chars()) {
            IsNormalized::Yes => text,
            IsNormalized::No | IsNormalized::Maybe => text.nfc().collect(),
        };
        if text.len() > Self::MAX_BYTES {
            return Err("must have at most 16384 bytes");
        }
        if text.chars().all(char::is_whitespace) {
            return Err("must have something besides white space");
        }
        if text.chars().any(|c| c.is_control() && c != '\t' && c != '\n') {
            return Err("must have no control characters but tab and line feed");
        }
        Ok(Self(text))
    }

    /// A text that was checked when it was stored. The rules of that day hold for it.
    pub(crate) const fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// What a message says. New kinds become new arms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Plain text.
    Text(Text),
}

/// The sender's own id for a message: 1 to 128 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientMessageId(String);

impl ClientMessageId {
    /// Takes an id; an empty one is none. Says which rule it breaks otherwise.
    pub fn parse(text: String) -> Result<Option<Self>, &'static str> {
        match text.chars().count() {
            0 => Ok(None),
            // PostgreSQL has no text with a NUL in it.
            1..=128 if !text.contains('\0') => Ok(Some(Self(text))),
            1..=128 => Err("must have no NUL character"),
            _ => Err("must have at most 128 characters"),
        }
    }

    /// An id that was checked when it was stored.
    pub(crate) const fn stored(text: String) -> Self {
        Self(text)
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Tells a retry from another message under the same client message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The fingerprint of what is asked for.
    pub fn of(content: &Content, reply_to: Option<MessageId>) -> Self {
        let mut hash = Sha256::new();
        hash.update(content.encode());
        hash.update([u8::from(reply_to.is_some())]);
        if let Some(id) = reply_to {
            hash.update(id.uuid().as_bytes());
        }
        let mut print = [0; 16];
        print.copy_from_slice(&hash.finalize()[..16]);
        Self(print)
    }

    /// A fingerprint that was stored.
    pub(crate) fn stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Where a message is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To a conversation.
    Conversation(ConversationId),
    /// To one person.
    Person(UserId),
    /// To several people.
    People(Vec<UserId>),
}

/// What somebody wants to send.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Where it goes.
    pub target: Target,
    /// What it says.
    pub content: Content,
    /// The sender's own id for it, which makes a retry safe.
    pub client_message_id: Option<ClientMessageId>,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
}

/// What somebody asks for with a draft.
#[derive(Clone, Debug)]
pub enum Asked {
    /// To send it.
    Send(Draft),
    /// Only to check whether it could be sent to this conversation. People are not asked about: to find their
    /// conversation may be to make it.
    Check(Draft, ConversationId),
}

/// A draft that knows its conversation and its sender: what waits in a lane.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The id that it gets when it is new.
    pub message_id: MessageId,
    /// Where it goes.
    pub conversation: ConversationId,
    /// Who sends it.
    pub sender: UserId,
    /// What it says.
    pub content: Content,
    /// The sender's own id for it.
    pub client_message_id: Option<ClientMessageId>,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
    /// Of what is asked.
    pub fingerprint: Fingerprint,
}

impl Letter {
    /// Addresses a draft.
    pub fn new(draft: Draft, conversation: ConversationId, sender: UserId) -> Self {
        let fingerprint = Fingerprint::of(&draft.content, draft.reply_to);
        Self {
            message_id: MessageId::generate(),
            conversation,
            sender,
            content: draft.content,
            client_message_id: draft.client_message_id,
            reply_to: draft.reply_to,
            fingerprint,
        }
    }

    /// The message that it becomes.
    pub fn posted(&self, sequence: Sequence, at: Timestamp) -> Message {
        Message {
            message_id: self.message_id,
            conversation: self.conversation,
            sequence,
            sender: self.sender,
            client_message_id: self.client_message_id.clone(),
            content: Some(self.content.clone()),
            reply_to: self.reply_to,
            create_time: at,
            edit_time: None,
            deletion: None,
            version: 1,
        }
    }
}

/// One contribution to a conversation, as it stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub message_id: MessageId,
    /// Where it was sent.
    pub conversation: ConversationId,
    /// Its place in the log of the conversation.
    pub sequence: Sequence,
    /// Who sent it.
    pub sender: UserId,
    /// The sender's own id for it.
    pub client_message_id: Option<ClientMessageId>,
    /// What it says; `None` once it is deleted.
    pub content: Option<Content>,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
    /// When it was stored.
    pub create_time: Timestamp,
    /// When it was last edited.
    pub edit_time: Option<Timestamp>,
    /// When and by whom it was deleted: what is left is a tombstone.
    pub deletion: Option<Deletion>,
    /// 1 when it is new, and one more with every edit.
    pub version: i32,
}

impl Message {
    /// About how many bytes it takes on the wire.
    pub fn weight(&self) -> usize {
        const REST: usize = 256;
        match &self.content {
            Some(Content::Text(text)) => text.as_str().len() + REST,
            None => REST,
        }
    }
}

/// The end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// When.
    pub time: Timestamp,
    /// By whom.
    pub by: UserId,
}

/// What somebody wants to change about a message that is there.
#[derive(Clone, Debug)]
pub struct Revision {
    /// Where it is.
    pub conversation: ConversationId,
    /// Which one.
    pub message_id: MessageId,
    /// Who wants it.
    pub by: UserId,
    /// What.
    pub change: Change,
}

/// What is to become of a message.
#[derive(Clone, Debug)]
pub enum Change {
    /// It gets new content.
    Edit {
        /// What it says from now on.
        content: Content,
        /// The version that the editor saw; `None` for any.
        expected_version: Option<i32>,
    },
    /// Its content goes.
    Delete,
}

impl Revision {
    /// The message after the change; `None` when the change has been made before, so that a retry is safe.
    pub fn apply(
        &self,
        message: &Message,
        access: &Access,
        now: Timestamp,
    ) -> Result<Option<Message>, Error> {
        match &self.change {
            Change::Edit { content, expected_version } => {
                if message.sender != self.by {
                    return Err(Error::NotAuthor(self.message_id));
                }
                if !access.may_write {
                    return Err(Error::WriteDenied(self.conversation));
                }
                if message.deletion.is_some() {
                    return Err(Error::MessageDeleted(self.message_id));
                }
                if message.content.as_ref() == Some(content) {
                    return Ok(None);
                }
                if expected_version.is_some_and(|expected| expected != message.version) {
                    return Err(Error::VersionMismatch {
                        message_id: self.message_id,
                        version: message.version,
                    });
                }
                let version = message.version.saturating_add(1);
                let content = Some(content.clone());
                Ok(Some(Message { content, version, edit_time: Some(now), ..message.clone() }))
            }
            Change::Delete => {
                if message.sender != self.by && !access.moderates {
                    return Err(Error::NotAuthor(self.message_id));
                }
                if message.deletion.is_some() {
                    return Ok(None);
                }
                let deletion = Some(Deletion { time: now, by: self.by });
                Ok(Some(Message { content: None, deletion, ..message.clone() }))
            }
        }
    }
}

/// How long a sender still has to wait under slow mode; `None` when the message may go.
pub fn wait_for_pace(pace: Duration, last_send: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    let due = last_send?.plus(pace);
    (due > now).then(|| due.since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Content {
        Content::Text(Text::parse(text.to_owned()).expect("a text"))
    }

    fn message(sender: UserId) -> Message {
        let draft = Draft {
            target: Target::Person(sender),
            content: text("hello"),
            client_message_id: None,
            reply_to: None,
        };
        Letter::new(draft, ConversationId::generate(), sender)
            .posted(Sequence::new(1), Timestamp::from_millis(1))
    }

    fn revise(
        message: &Message,
        by: UserId,
        change: Change,
        access: Access,
    ) -> Result<Option<Message>, Error> {
        let revision =
            Revision { conversation: message.conversation, message_id: message.message_id, by, change };
        revision.apply(message, &access, Timestamp::from_millis(2))
    }

    fn edit(text_: &str, expected_version: Option<i32>) -> Change {
        Change::Edit { content: text(text_), expected_version }
    }

    #[test]
    fn a_text_is_normalised_and_bounded() {
        assert_eq!(Text::parse("e\u{301}".to_owned()).expect("a text").as_str(), "é");
        assert!(Text::parse("a".repeat(Text::MAX_BYTES)).is_ok());
        assert!(Text::parse("a".repeat(Text::MAX_BYTES + 1)).is_err());
        // The bound holds for what is stored: this is one byte too long until it is normalised.
        assert!(Text::parse("a".repeat(Text::MAX_BYTES - 2) + "e\u{301}").is_ok());
        for bad in ["", " \t\n", "\u{a0}\u{3000}", "a\0b", "a\rb", "a\u{1b}[0m", "\u{85}x"] {
            assert!(Text::parse(bad.to_owned()).is_err(), "{bad:?}");
        }
        for good in ["a", "a\tb\n", "👩‍👩‍👧", "שלום"] {
            assert_eq!(Text::parse(good.to_owned()).expect("a text").as_str(), good);
        }
    }

    #[test]
    fn an_empty_client_message_id_is_none() {
        assert_eq!(ClientMessageId::parse(String::new()), Ok(None));
        assert!(ClientMessageId::parse("ä".repeat(128)).is_ok_and(|id| id.is_some()));
        assert!(ClientMessageId::parse("a".repeat(129)).is_err());
        assert!(ClientMessageId::parse("a\0".to_owned()).is_err());
    }

    #[test]
    fn a_fingerprint_tells_content_and_reply_apart() {
        let id = MessageId::generate();
        assert_eq!(Fingerprint::of(&text("a"), Some(id)), Fingerprint::of(&text("a"), Some(id)));
        assert_ne!(Fingerprint::of(&text("a"), Some(id)), Fingerprint::of(&text("a"), None));
        assert_ne!(Fingerprint::of(&text("a"), None), Fingerprint::of(&text("b"), None));
    }

    #[test]
    fn only_the_author_edits_and_only_while_writing_is_allowed() {
        let author = UserId::generate();
        let message = message(author);
        let edited =
            revise(&message, author, edit("new", None), Access::member()).expect("edited").expect("changed");
        assert_eq!((edited.version, edited.content.clone()), (2, Some(text("new"))));
        let other = revise(&message, UserId::generate(), edit("new", None), Access::moderator());
        assert!(matches!(other, Err(Error::NotAuthor(_))));
        let muted = revise(&message, author, edit("new", None), Access::muted());
        assert!(matches!(muted, Err(Error::WriteDenied(_))));
    }

    #[test]
    fn an_edit_of_another_version_is_refused_unless_it_is_the_same_edit_again() {
        let author = UserId::generate();
        let message = message(author);
        let edited = revise(&message, author, edit("new", Some(1)), Access::member())
            .expect("edited")
            .expect("changed");
        assert!(matches!(revise(&edited, author, edit("new", Some(1)), Access::member()), Ok(None)));
        let late = revise(&edited, author, edit("other", Some(1)), Access::member());
        assert!(matches!(late, Err(Error::VersionMismatch { version: 2, .. })));
    }

    #[test]
    fn a_moderator_deletes_what_others_wrote_and_nobody_edits_what_is_deleted() {
        let author = UserId::generate();
        let message = message(author);
        let stranger = revise(&message, UserId::generate(), Change::Delete, Access::member());
        assert!(matches!(stranger, Err(Error::NotAuthor(_))));
        let moderator = UserId::generate();
        let gone = revise(&message, moderator, Change::Delete, Access::moderator())
            .expect("deleted")
            .expect("changed");
        assert_eq!((gone.content.clone(), gone.deletion.map(|d| d.by)), (None, Some(moderator)));
        assert!(matches!(revise(&gone, author, Change::Delete, Access::muted()), Ok(None)));
        let edit = revise(&gone, author, edit("new", None), Access::member());
        assert!(matches!(edit, Err(Error::MessageDeleted(_))));
    }

    #[test]
    fn slow_mode_says_how_long_to_wait() {
        let [pace, now] = [Duration::from_secs(10), Duration::from_secs(100)];
        let at = |span: Duration| Timestamp::from_millis(0).plus(span);
        assert_eq!(wait_for_pace(pace, None, at(now)), None);
        assert_eq!(wait_for_pace(pace, Some(at(now - pace)), at(now)), None);
        let late = at(now - Duration::from_secs(4));
        assert_eq!(wait_for_pace(pace, Some(late), at(now)), Some(Duration::from_secs(6)));
    }
}
