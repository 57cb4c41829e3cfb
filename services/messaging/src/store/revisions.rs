//! What messages said before they were edited.

use proto::id::ConversationId;
use sqlx::Row as _;

use super::{Db, Store, Tx, sequence_at, time_at};
use crate::content::Content;
use crate::message::{Message, Sequence};
use crate::revisions::Edition;
use crate::store::Failure;

impl Store {
    pub async fn revisions(
        &self,
        conversation: ConversationId,
        message: Sequence,
        after_version: i64,
        limit: i64,
    ) -> Result<Vec<Edition>, Failure> {
        let rows = sqlx::query::<Db>(
            "SELECT version, content, create_time FROM revisions
             WHERE conversation_id = $1 AND message_sequence = $2 AND version > $3 ORDER BY version LIMIT $4",
        )
        .bind(conversation.uuid())
        .bind(message.get())
        .bind(after_version)
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Edition {
                    version: i32::try_from(sequence_at(row, 0)?.get()).unwrap_or(i32::MAX),
                    content: Content::decode(&row.try_get::<Vec<u8>, _>(1)?)?,
                    create_time: time_at(row, 2)?,
                })
            })
            .collect()
    }
}

/// Keeps what a message says before it says something else.
pub(super) async fn keep(tx: &mut Tx, message: &Message) -> Result<(), Failure> {
    let Some(content) = &message.content else { return Ok(()) };
    sqlx::query::<Db>(
        "INSERT INTO revisions (conversation_id, message_sequence, version, content, create_time)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(message.conversation.uuid())
    .bind(message.sequence.get())
    .bind(i64::from(message.version))
    .bind(content.encode())
    .bind(message.edit_time.unwrap_or(message.create_time).as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
