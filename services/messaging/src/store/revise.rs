//! Editing and deleting.

use std::collections::BTreeMap;

use chassis::clock::Timestamp;
use proto::id::UserId;

use super::log::{Advance, advance_heads, insert_events};
use super::{Db, Store, message, message_columns, messages, uploads};
use crate::content::Content;
use crate::conversations::Access;
use crate::error::Error;
use crate::event::{Event, Happening};
use crate::message::{Deletion, Sequence};
use crate::revision::Revision;
use crate::store::Revised;

impl Store {
    pub async fn revise(
        &self,
        revision: &Revision,
        access: &Access,
        now: Timestamp,
    ) -> Result<Revised, Error> {
        let Revision { conversation, message_id, by, .. } = *revision;
        let mut tx = self.pool.begin().await?;
        // Under the lock of the head nobody else changes this message. What turns out to be nothing is rolled back.
        let heads = advance_heads(&mut tx, &BTreeMap::from([(conversation, Advance::events(1))])).await?;
        let Some(&last) = heads.get(&conversation) else {
            return Err(Error::ConversationNotFound(conversation));
        };
        let row = sqlx::query::<Db>(concat!(
            "SELECT ",
            message_columns!(),
            " FROM ",
            messages!(),
            " WHERE m.conversation_id = $1 AND m.message_id = $2"
        ))
        .bind(conversation.uuid())
        .bind(message_id.uuid())
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Err(Error::MessageNotFound(message_id)) };
        let before = message(conversation, &row, 0, now)?;
        let Some(after) = revision.apply(&before, access, now)? else {
            tx.rollback().await?;
            return Ok(Revised { message: before, event: None });
        };
        sqlx::query::<Db>(
            "UPDATE messages SET content = $3, edit_time = $4, delete_time = $5, deleted_by = $6, version = $7,
                 delete_reason = $8, details = $9
             WHERE conversation_id = $1 AND sequence = $2",
        )
        .bind(conversation.uuid())
        .bind(after.sequence.get())
        .bind(after.content.as_ref().map(Content::encode))
        .bind(after.edit_time.map(Timestamp::as_millis))
        .bind(after.deletion.map(|deletion| deletion.time.as_millis()))
        .bind(after.deletion.and_then(|deletion| deletion.by).map(UserId::uuid))
        .bind(i64::from(after.version))
        .bind(after.deletion.map(|deletion| i64::from(i32::from(deletion.reason))))
        .bind(after.details.encode())
        .execute(&mut *tx)
        .await?;
        uploads::settle(&mut tx, &before, &after).await?;
        let event = Event {
            conversation,
            sequence: Sequence::new(last),
            membership_version: access.membership_version,
            occur_time: now,
            actor: Some(by),
            what: match after.deletion {
                Some(Deletion { reason, .. }) => {
                    Happening::MessageDeleted { message_id, sequence: after.sequence, reason }
                }
                None => Happening::MessageEdited(after.clone()),
            },
        };
        insert_events(&mut tx, &[&event]).await?;
        tx.commit().await?;
        Ok(Revised { message: after, event: Some(event) })
    }
}
