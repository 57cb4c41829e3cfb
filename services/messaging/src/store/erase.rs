//! What goes with a message when it goes, in whichever way that is.

use proto::id::ConversationId;
use sqlx::QueryBuilder;

use super::{Db, Tx, padded, uploads};
use crate::message::Sequence;
use crate::store::{Failure, MAX_ROWS};

/// What hangs on messages. Each text ends where the list of their places begins.
const ERASE: [&str; 6] = [
    "DELETE FROM searchable WHERE (conversation_id, message_sequence) IN (",
    "DELETE FROM revisions WHERE (conversation_id, message_sequence) IN (",
    "DELETE FROM reactions WHERE (conversation_id, message_sequence) IN (",
    "DELETE FROM pins WHERE (conversation_id, message_sequence) IN (",
    "DELETE FROM votes WHERE (conversation_id, message_sequence) IN (",
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

/// What a list of places is in a statement. SQLite uses no index for more than one row when it is a bare `VALUES`.
pub(super) fn push_places(query: &mut QueryBuilder<Db>, places: &[(ConversationId, Sequence)]) {
    query.push("SELECT * FROM (");
    query.push_values(padded(places), |mut row, (conversation, sequence)| {
        row.push_bind(conversation.uuid()).push_bind(sequence.get());
    });
    query.push(") AS places");
}
