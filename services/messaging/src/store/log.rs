//! The logs of conversations: their heads, and the events that are no messages.

use std::collections::{BTreeMap, HashMap};

use chassis::clock::Timestamp;
use proto::id::{ConversationId, UserId};
use sqlx::Row as _;

use super::{Db, PLACEHOLDERS, Tx, conversation_at};
use crate::event::{Event, Happening};
use crate::store::Failure;
use crate::store::rows::Rows;

/// Moves heads on and locks them until the transaction ends: two writers never share a sequence. A conversation that is
/// gone is not returned. Adds nothing when the count is 0, which is how a head is only locked.
static ADVANCE_HEADS: Rows = Rows::new(
    PLACEHOLDERS,
    "INSERT INTO conversation_heads (conversation_id, last_sequence, last_message_sequence, activity_time) VALUES",
    4,
    "ON CONFLICT (conversation_id) DO UPDATE SET
         last_sequence = conversation_heads.last_sequence + excluded.last_sequence,
         last_message_sequence = CASE WHEN excluded.last_message_sequence > 0
             THEN conversation_heads.last_sequence + excluded.last_message_sequence
             ELSE conversation_heads.last_message_sequence END,
         activity_time = CASE WHEN excluded.activity_time > conversation_heads.activity_time
             THEN excluded.activity_time ELSE conversation_heads.activity_time END
     WHERE conversation_heads.delete_time IS NULL
     RETURNING conversation_id, last_sequence",
);

static INSERT_EVENTS: Rows = Rows::new(
    PLACEHOLDERS,
    "INSERT INTO events (conversation_id, sequence, kind, message_sequence, actor_id, membership_version, occur_time,
         payload) VALUES",
    8,
    "",
);

/// By how much a head moves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Advance {
    pub(super) events: i64,
    pub(super) messages: i64,
    pub(super) activity_time: i64,
}

impl Advance {
    /// Only locks it.
    pub(super) const LOCK: Self = Self { events: 0, messages: 0, activity_time: 0 };

    /// By so many messages.
    pub(super) const fn messages(count: i64, now: Timestamp) -> Self {
        Self { events: count, messages: count, activity_time: now.as_millis() }
    }

    /// By so many events that are no messages, which leaves the order of the inbox as it is.
    pub(super) const fn events(count: i64) -> Self {
        Self { events: count, messages: 0, activity_time: 0 }
    }
}

/// Moves heads on, in the order of their ids, so that two writers never wait for each other. Answers where each is then.
pub(super) async fn advance_heads(
    tx: &mut Tx,
    advances: &BTreeMap<ConversationId, Advance>,
) -> Result<HashMap<ConversationId, i64>, Failure> {
    let mut heads = HashMap::with_capacity(advances.len());
    for (text, part) in ADVANCE_HEADS.parts(&Vec::from_iter(advances)) {
        let mut query = sqlx::query::<Db>(text);
        for (conversation, advance) in part {
            query = query
                .bind(conversation.uuid())
                .bind(advance.events)
                .bind(advance.messages)
                .bind(advance.activity_time);
        }
        for row in query.fetch_all(&mut **tx).await? {
            heads.insert(conversation_at(&row, 0)?, row.try_get(1)?);
        }
    }
    Ok(heads)
}

/// Adds events that are no messages.
pub(super) async fn insert_events(tx: &mut Tx, events: &[&Event]) -> Result<(), Failure> {
    for (text, part) in INSERT_EVENTS.parts(events) {
        let mut query = sqlx::query::<Db>(text);
        for event in part {
            let (message_sequence, payload) = match &event.what {
                Happening::MessageCreated(message) | Happening::MessageEdited(message) => {
                    (Some(message.sequence.get()), None)
                }
                Happening::MessageDeleted { sequence, .. } => (Some(sequence.get()), None),
                Happening::ToMessage { sequence, payload } => (Some(sequence.get()), Some(payload.encode())),
                Happening::ToConversation { payload, .. } => (None, Some(payload.clone())),
            };
            query = query
                .bind(event.conversation.uuid())
                .bind(event.sequence.get())
                .bind(event.what.kind())
                .bind(message_sequence)
                .bind(event.actor.map(UserId::uuid))
                .bind(event.membership_version)
                .bind(event.occur_time.as_millis())
                .bind(payload);
        }
        query.execute(&mut **tx).await?;
    }
    Ok(())
}
