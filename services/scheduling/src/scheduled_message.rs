//! A scheduled message and what may become of it, as code without a database.
//!
//! ```text
//!              claimed, lease runs             messaging has stored it ---> sent
//!   pending <------------------------> [being sent]
//!      |    given back, certainly not sent     messaging refuses ---------> failed
//!      |
//!      +-- its author takes it back ---> cancelled
//! ```
//!
//! Sent, cancelled and failed are final. Every step compares what is there with what it expects and changes it in one
//! transaction, so that only one of two who try at the same moment succeeds. One that is being sent, or may have been
//! sent by somebody who died before saying so, can neither be changed nor taken back: only sending it again under the
//! same key, which shows it once, tells what became of it.

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId, ScheduledMessageId, UserId};
use uuid::Uuid;

/// A message that is to be sent later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledMessage {
    /// Its id.
    pub id: ScheduledMessageId,
    /// Who wants it to be sent, and in whose name it is sent.
    pub author: UserId,
    /// Where it goes.
    pub conversation: ConversationId,
    /// What it says; `None` once that is erased.
    pub content: Option<Content>,
    /// When it is to be sent; never sent before.
    pub send_time: Timestamp,
    /// What has become of it.
    pub state: State,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
}

/// What a message says, as messaging will get it. What that may be is messaging's business, and nothing here looks
/// inside: a new kind of content needs no change in this service.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(Vec<u8>);

impl Content {
    /// The content with this encoding.
    pub fn encoded(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Its encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Says how much, never what: content does not belong in logs.
impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({} bytes)", self.0.len())
    }
}

/// What has become of a scheduled message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for its time, or is being sent.
    Pending,
    /// It is this message now.
    Sent(MessageId),
    /// Its author took it back in time, or is no more.
    Cancelled,
    /// When its time came messaging refused it, for this reason.
    Failed(String),
}

/// A state without what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateName {
    /// See [`State::Pending`].
    Pending,
    /// See [`State::Sent`].
    Sent,
    /// See [`State::Cancelled`].
    Cancelled,
    /// See [`State::Failed`].
    Failed,
}

impl State {
    /// The state without what belongs to it.
    pub fn name(&self) -> StateName {
        match self {
            Self::Pending => StateName::Pending,
            Self::Sent(_) => StateName::Sent,
            Self::Cancelled => StateName::Cancelled,
            Self::Failed(_) => StateName::Failed,
        }
    }

    /// Whether it stays as it is for ever.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Pending => false,
            Self::Sent(_) | Self::Cancelled | Self::Failed(_) => true,
        }
    }

    /// Whether the content is kept. A message that was sent has it; one that was taken back is nobody's business any
    /// more. After a failure its author may want to see what was not sent, unless the author is deleted.
    pub fn keeps_content(&self, author_is_deleted: bool) -> bool {
        match self {
            Self::Pending => true,
            Self::Sent(_) | Self::Cancelled => false,
            Self::Failed(_) => !author_is_deleted,
        }
    }
}

/// What an author asks to be sent.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Where it goes.
    pub conversation: ConversationId,
    /// What it says.
    pub content: Content,
    /// When.
    pub send_time: Timestamp,
    /// What makes a retry safe, when the author wants that.
    pub retry: Option<Retry>,
}

/// What makes a retry safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The author's name for the call.
    pub request_id: Uuid,
    /// What the call said: another body under the same name is an error.
    pub fingerprint: [u8; 32],
}

impl Draft {
    /// The scheduled message that it becomes.
    pub fn scheduled(&self, author: UserId, now: Timestamp) -> ScheduledMessage {
        ScheduledMessage {
            id: ScheduledMessageId::generate(),
            author,
            conversation: self.conversation,
            content: Some(self.content.clone()),
            send_time: self.send_time,
            state: State::Pending,
            create_time: now,
            update_time: now,
        }
    }
}

/// What is to be changed about one that is pending. `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// What it says.
    pub content: Option<Content>,
    /// When it is to be sent.
    pub send_time: Option<Timestamp>,
}

/// Which of somebody's scheduled messages, earliest first.
#[derive(Clone, Copy, Debug)]
pub struct Listing {
    /// Whose.
    pub author: UserId,
    /// Only those for this conversation.
    pub conversation: Option<ConversationId>,
    /// Only those in this state.
    pub state: Option<StateName>,
    /// Only those after this place.
    pub after: Option<Place>,
    /// At most so many.
    pub limit: i64,
}

/// A place in the list.
pub type Place = (Timestamp, ScheduledMessageId);

/// Some of somebody's scheduled messages.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Earliest first.
    pub messages: Vec<ScheduledMessage>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<Place>,
}

impl Listed {
    /// The page in the rows that were read for it, which are one more when another page follows.
    pub fn cut(mut rows: Vec<ScheduledMessage>, limit: i64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(0);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|message| (message.send_time, message.id));
        Self { messages: rows, next }
    }
}

/// Whether a message may be scheduled for then. What has passed may be: it is sent at once.
pub fn is_within(horizon: Duration, send_time: Timestamp, now: Timestamp) -> bool {
    send_time <= now.plus(horizon)
}

/// When it is due. One whose time has passed lines up behind those that were due before, not in front of them: nobody
/// gets ahead by asking for the past.
pub fn due(send_time: Timestamp, now: Timestamp) -> Timestamp {
    send_time.max(now)
}

/// What messaging knows the message by: the same key again is the same message, however often it is sent. The number
/// counts the occurrences of a message that is sent more than once; there is only the first one yet.
pub fn key(id: ScheduledMessageId) -> String {
    format!("sched:{id}:1")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn failed() -> State {
        State::Failed("ERROR_REASON_WRITE_DENIED".to_owned())
    }

    #[test]
    fn all_but_pending_is_final() {
        let sent = State::Sent(MessageId::generate());
        assert!(!State::Pending.is_final());
        assert!([sent, State::Cancelled, failed()].iter().all(State::is_final));
    }

    #[test]
    fn content_is_kept_only_where_somebody_needs_it() {
        for deleted in [false, true] {
            assert!(State::Pending.keeps_content(deleted));
            assert!(!State::Cancelled.keeps_content(deleted));
            assert!(!State::Sent(MessageId::generate()).keeps_content(deleted));
            assert_eq!(failed().keeps_content(deleted), !deleted);
        }
    }

    #[test]
    fn the_horizon_is_the_last_moment_that_is_allowed() {
        let last = NOW.plus(365 * DAY);
        assert!(is_within(365 * DAY, last, NOW));
        assert!(!is_within(365 * DAY, last.plus(Duration::from_millis(1)), NOW));
        assert!(is_within(365 * DAY, Timestamp::from_millis(0), NOW));
    }

    #[test]
    fn the_past_is_now_and_nothing_is_early() {
        assert_eq!(due(NOW.minus(DAY), NOW), NOW);
        assert_eq!(due(NOW.plus(DAY), NOW), NOW.plus(DAY));
    }

    #[test]
    fn the_key_names_the_occurrence() {
        let id = ScheduledMessageId::generate();
        assert_eq!(key(id), format!("sched:{id}:1"));
        assert!(key(id).len() <= 128);
    }

    #[test]
    fn a_full_page_says_where_the_next_starts() {
        let rows = || {
            let draft = Draft {
                conversation: ConversationId::generate(),
                content: Content::encoded(vec![1]),
                send_time: NOW,
                retry: None,
            };
            (0..3).map(|_| draft.scheduled(UserId::generate(), NOW)).collect::<Vec<_>>()
        };
        assert_eq!(Listed::cut(rows(), 3).next, None);
        let cut = Listed::cut(rows(), 2);
        assert_eq!(cut.messages.len(), 2);
        assert_eq!(cut.next, cut.messages.last().map(|message| (NOW, message.id)));
    }

    #[test]
    fn content_is_not_shown() {
        assert_eq!(format!("{:?}", Content::encoded(b"secret".to_vec())), "Content(6 bytes)");
    }
}
