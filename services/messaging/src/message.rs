//! A message and the values it is made of, which cannot be wrong once they are built.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId, UserId};
use proto::messaging::v1::DeletionReason;
use sha2::{Digest, Sha256};

use crate::content::Content;
use crate::details::Details;
use crate::search::Findable;

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
    pub fn of(content: &Content, reply_to: Option<MessageId>, lifetime: Option<Duration>) -> Self {
        let mut hash = Sha256::new();
        hash.update(content.encode());
        hash.update([u8::from(reply_to.is_some())]);
        if let Some(id) = reply_to {
            hash.update(id.uuid().as_bytes());
        }
        if let Some(lifetime) = lifetime {
            hash.update(lifetime.as_millis().to_be_bytes());
        }
        Self::finished(hash)
    }

    /// The fingerprint of a copy: whatever the original says by then, a retry asks for the same.
    pub fn of_copy(conversation: ConversationId, message_id: MessageId) -> Self {
        let mut hash = Sha256::new();
        // No content begins like this.
        hash.update(b"forward");
        hash.update(conversation.uuid().as_bytes());
        hash.update(message_id.uuid().as_bytes());
        Self::finished(hash)
    }

    fn finished(hash: Sha256) -> Self {
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
    /// How long it can be read; `None` for ever.
    pub lifetime: Option<Duration>,
    /// The time that it was scheduled for; `None` for one that is sent at once.
    pub scheduled_time: Option<Timestamp>,
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
    /// How long it can be read; `None` for ever.
    pub lifetime: Option<Duration>,
    /// When it ends, for one that takes this over from another; otherwise its lifetime says so.
    pub expire_time: Option<Timestamp>,
    /// What hangs on it from the beginning.
    pub details: Details,
    /// Of what is asked.
    pub fingerprint: Fingerprint,
    /// A registered key of the sender has signed the content. Known once the content was examined.
    pub is_signed: bool,
    /// What it is found by, once somebody has asked.
    pub findable: OnceLock<Option<Findable>>,
}

impl Letter {
    /// Addresses a draft.
    pub fn new(draft: Draft, conversation: ConversationId, sender: UserId) -> Self {
        let fingerprint = Fingerprint::of(&draft.content, draft.reply_to, draft.lifetime);
        Self {
            message_id: MessageId::generate(),
            conversation,
            sender,
            client_message_id: draft.client_message_id,
            reply_to: draft.reply_to,
            lifetime: draft.lifetime,
            expire_time: None,
            details: Details {
                poll: draft.content.new_poll(),
                scheduled_time: draft.scheduled_time,
                ..Details::default()
            },
            content: draft.content,
            fingerprint,
            is_signed: false,
            findable: OnceLock::new(),
        }
    }

    /// When it ends if it is stored at a time; `None` for never.
    pub fn expires(&self, at: Timestamp) -> Option<Timestamp> {
        self.expire_time.or_else(|| self.lifetime.map(|lifetime| at.plus(lifetime)))
    }

    /// What it is found by; `None` when it is not. To cut long texts into words takes a while: it is done once, when nothing
    /// about the content changes any more.
    pub fn findable(&self) -> Option<&Findable> {
        self.findable.get_or_init(|| Findable::of(self.conversation, &self.content)).as_ref()
    }

    /// The message that it becomes.
    pub fn posted(&self, sequence: Sequence, at: Timestamp) -> Message {
        let message = Message {
            message_id: self.message_id,
            conversation: self.conversation,
            sequence,
            sender: self.sender,
            client_message_id: self.client_message_id.clone(),
            content: Some(self.content.clone()),
            reply_to: self.reply_to,
            create_time: at,
            edit_time: None,
            expire_time: self.expires(at),
            deletion: None,
            version: 1,
            details: self.details.clone(),
        };
        // The original of a copy may have ended on the way.
        message.at(at)
    }
}

/// One contribution to a conversation, as it stands now.
#[derive(Clone, Debug, PartialEq)]
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
    /// From when on nobody reads it.
    pub expire_time: Option<Timestamp>,
    /// How it went: what is left is a tombstone.
    pub deletion: Option<Deletion>,
    /// 1 when it is new, and one more with every edit.
    pub version: i32,
    /// What hangs on it.
    pub details: Details,
}

impl Message {
    /// What is left of it when it is gone.
    #[must_use]
    pub fn tombstone(self, deletion: Deletion) -> Self {
        Self { content: None, deletion: Some(deletion), details: Details::default(), ..self }
    }

    /// As it is at a time: what has expired is gone, whether or not it has been erased yet.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        match self.expire_time {
            Some(time) if time <= now && self.deletion.is_none() => {
                self.tombstone(Deletion { time, by: None, reason: DeletionReason::Expired })
            }
            _ => self,
        }
    }

    /// Whether it may not travel on the bus: what nobody here can read, and what must leave no trace.
    pub fn is_confidential(&self) -> bool {
        self.expire_time.is_some() || self.content.as_ref().is_some_and(Content::is_secure)
    }

    /// About how many bytes it takes on the wire.
    pub fn weight(&self) -> usize {
        const REST: usize = 256;
        REST + self.content.as_ref().map_or(0, Content::weight)
    }
}

/// The end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// When.
    pub time: Timestamp,
    /// By whom; `None` when its time was over.
    pub by: Option<UserId>,
    /// How.
    pub reason: DeletionReason,
}

/// How long a sender still has to wait under slow mode; `None` when the message may go.
pub fn wait_for_pace(pace: Duration, last_send: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    let due = last_send?.plus(pace);
    (due > now).then(|| due.since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(says: &str) -> Content {
        Content::text(says)
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
        assert_eq!(Fingerprint::of(&text("a"), Some(id), None), Fingerprint::of(&text("a"), Some(id), None));
        assert_ne!(Fingerprint::of(&text("a"), Some(id), None), Fingerprint::of(&text("a"), None, None));
        assert_ne!(Fingerprint::of(&text("a"), None, None), Fingerprint::of(&text("b"), None, None));
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
