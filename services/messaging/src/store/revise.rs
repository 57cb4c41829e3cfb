//! Changing messages.

use std::collections::BTreeMap;

use chassis::clock::Timestamp;
use proto::id::UserId;

use super::alerts::raise;
use super::erase::erase;
use super::history::message_by_id;
use super::log::{Advance, advance_heads, insert_events};
use super::revisions::keep;
use super::search::index_again;
use super::{Db, Store, marks, uploads};
use crate::alert::Alert;
use crate::content::Content;
use crate::conversations::Access;
use crate::error::Error;
use crate::event::Event;
use crate::message::Sequence;
use crate::revision::Revision;
use crate::store::Revised;

impl Store {
    pub async fn revise(
        &self,
        revision: &Revision,
        access: &Access,
        now: Timestamp,
    ) -> Result<Revised, Error> {
        let Revision { conversation, message_id, .. } = *revision;
        let mut tx = self.pool.begin().await?;
        // Under the lock of the head nobody else changes this message. What turns out to be nothing is rolled back.
        let heads = advance_heads(&mut tx, &BTreeMap::from([(conversation, Advance::events(1))])).await?;
        let Some(&last) = heads.get(&conversation) else {
            return Err(Error::ConversationNotFound(conversation));
        };
        let before = message_by_id(&mut *tx, conversation, message_id, now).await?;
        let before = before.ok_or(Error::MessageNotFound(message_id))?;
        let beside = marks::beside(&mut tx, revision, before.sequence, now).await?;
        let Some(after) = revision.apply(&before, &beside, access, now)? else {
            tx.rollback().await?;
            return Ok(Revised { message: before, event: None, alerts: Vec::new() });
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
        if after.deletion.is_some() {
            erase(&mut tx, &[(conversation, after.sequence)]).await?;
        } else if after.content != before.content {
            keep(&mut tx, &before).await?;
            uploads::settle(&mut tx, &before, &after).await?;
        }
        marks::write(&mut tx, revision, &after, now).await?;
        let event = Event {
            conversation,
            sequence: Sequence::new(last),
            membership_version: access.membership_version,
            occur_time: now,
            actor: revision.actor(&after),
            what: revision.happening(&after),
        };
        insert_events(&mut tx, &[&event]).await?;
        if after.content != before.content {
            index_again(&mut tx, &after).await?;
        }
        let called = after.details.mentions.iter().filter(|user| !before.details.mentions.contains(user));
        let alerts: Vec<_> = called.map(|user| Alert::mention(*user, &after)).collect();
        let alerts = raise(&mut tx, &alerts).await?;
        tx.commit().await?;
        Ok(Revised { message: after, event: Some(event), alerts })
    }
}
