//! What goes with a message when it goes, in whichever way that is.

use std::collections::BTreeMap;

use proto::id::{ConversationId, MessageId, UserId};
use sqlx::QueryBuilder;

use super::log::{Advance, advance_heads, insert_events};
use super::{Db, Tx, padded, uploads};
use crate::event::{Event, Happening};
use crate::message::{Deletion, Sequence};
use crate::store::{Failure, MAX_ROWS};

/// What hangs on messages. Each text ends where the list of their places begins.
const ERASE: [&str; 6] = [
    "DELETE FROM revisions WHERE (conversation_id, message_sequence) IN (",
    "DELETE FROM reactions WHERE (conversation_id, message_sequence) IN (",
    "DELETE FROM pins WHERE (conversation_id, message_sequence) IN (",
    "DELETE FROM votes WHERE (conversation_id, message_sequence) IN (",
    "DELETE FROM searchable WHERE (conversation_id, message_sequence) IN (",
    "UPDATE events SET payload = NULL WHERE message_sequence IS NOT NULL AND payload IS NOT NULL
         AND (conversation_id, message_sequence) IN (",
];

/// Erases everything that hangs on messages, but for the rows of the messages themselves. The heads of their conversations
/// are locked.
pub(super) async fn erase(tx: &mut Tx, messages: &[(ConversationId, Sequence)]) -> Result<(), Failure> {
    for part in messages.chunks(MAX_ROWS) {
        for text in ERASE {
            let mut query = QueryBuilder::<Db>::new(text);
            push_places(&mut query, part);
            query.push(")").build().execute(&mut **tx).await?;
        }
    }
    uploads::release(tx, messages).await
}

/// A message that is to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Going {
    pub(super) conversation: ConversationId,
    pub(super) sequence: Sequence,
    pub(super) message_id: MessageId,
    /// Under which membership version its conversation is told.
    pub(super) membership_version: i64,
}

/// Makes tombstones of messages that are there, and tells their conversations, whose heads are locked.
pub(super) async fn tombstone(
    tx: &mut Tx,
    going: &[Going],
    deletion: Deletion,
) -> Result<Vec<Event>, Failure> {
    if going.is_empty() {
        return Ok(Vec::new());
    }
    let mut counts: BTreeMap<ConversationId, Advance> = BTreeMap::new();
    for one in going {
        counts.entry(one.conversation).or_insert(Advance::events(0)).events += 1;
    }
    let mut next = advance_heads(tx, &counts).await?;
    for (conversation, last) in &mut next {
        *last -= counts.get(conversation).map_or(0, |advance| advance.events);
    }
    let mut events = Vec::with_capacity(going.len());
    for one in going {
        let last = next.get_mut(&one.conversation);
        let last = last.ok_or_else(|| Failure::corrupt("a message is there whose conversation is gone"))?;
        *last += 1;
        events.push(Event {
            conversation: one.conversation,
            sequence: Sequence::new(*last),
            membership_version: one.membership_version,
            occur_time: deletion.time,
            actor: deletion.by,
            what: Happening::MessageDeleted {
                message_id: one.message_id,
                sequence: one.sequence,
                reason: deletion.reason,
            },
        });
    }
    let places: Vec<_> = going.iter().map(|one| (one.conversation, one.sequence)).collect();
    for part in places.chunks(MAX_ROWS) {
        let mut query =
            QueryBuilder::<Db>::new("UPDATE messages SET content = NULL, details = NULL, delete_time = ");
        query.push_bind(deletion.time.as_millis());
        query.push(", deleted_by = ").push_bind(deletion.by.map(UserId::uuid));
        query.push(", delete_reason = ").push_bind(i64::from(i32::from(deletion.reason)));
        query.push(" WHERE (conversation_id, sequence) IN (");
        push_places(&mut query, part);
        query.push(")").build().execute(&mut **tx).await?;
    }
    erase(tx, &places).await?;
    insert_events(tx, &Vec::from_iter(&events)).await?;
    Ok(events)
}

/// What a list of places is in a statement. SQLite uses no index for more than one row when it is a bare `VALUES`.
pub(super) fn push_places(query: &mut QueryBuilder<Db>, places: &[(ConversationId, Sequence)]) {
    query.push("SELECT * FROM (");
    query.push_values(padded(places), |mut row, (conversation, sequence)| {
        row.push_bind(conversation.uuid()).push_bind(sequence.get());
    });
    query.push(") AS places");
}
