//! Emptying a conversation. One row says up to where it is empty, and from then on nobody reads what is there; the rows
//! themselves are erased bit by bit.

use std::collections::BTreeMap;

use chassis::clock::Timestamp;
use prost::Message as _;
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::{self as pb, DeletionReason};
use sqlx::{QueryBuilder, Row as _};
use uuid::Uuid;

use super::alerts::{settle_mentions, unread_mentions};
use super::erase::erase;
use super::log::{Advance, advance_heads, insert_events};
use super::{Db, Store, conversation_at, sequence_at};
use crate::conversations::Access;
use crate::error::Error;
use crate::event::{Event, FactKind, Happening};
use crate::message::Sequence;
use crate::store::{Failure, Purged};

impl Store {
    pub async fn purge(
        &self,
        conversation: ConversationId,
        by: UserId,
        access: &Access,
        now: Timestamp,
    ) -> Result<Purged, Error> {
        let mut tx = self.pool.begin().await?;
        // Under the lock of the head nothing comes in below. When there is nothing to do it is rolled back.
        let heads = advance_heads(&mut tx, &BTreeMap::from([(conversation, Advance::events(1))])).await?;
        let Some(&last) = heads.get(&conversation) else {
            return Err(Error::ConversationNotFound(conversation));
        };
        let row = sqlx::query::<Db>(
            "SELECT h.purged_sequence, (SELECT m.sequence FROM messages m
                 WHERE m.conversation_id = h.conversation_id AND m.sequence > h.purged_sequence
                     AND m.delete_time IS NULL ORDER BY m.sequence DESC LIMIT 1)
             FROM conversation_heads h WHERE h.conversation_id = $1",
        )
        .bind(conversation.uuid())
        .fetch_one(&mut *tx)
        .await?;
        if row.try_get::<Option<i64>, _>(1)?.is_none() {
            let up_to = sequence_at(&row, 0)?;
            tx.rollback().await?;
            return Ok(Purged { up_to, event: None, alerts: Vec::new() });
        }
        let up_to = Sequence::new(last - 1);
        sqlx::query::<Db>(
            "UPDATE conversation_heads SET purged_sequence = $2, purge_time = $3, purged_by = $4
             WHERE conversation_id = $1",
        )
        .bind(conversation.uuid())
        .bind(up_to.get())
        .bind(now.as_millis())
        .bind(by.uuid())
        .execute(&mut *tx)
        .await?;
        let purged = pb::MessagesPurged { up_to_sequence: up_to.get() };
        let payload =
            pb::Event { payload: Some(pb::event::Payload::MessagesPurged(purged)), ..Default::default() };
        let event = Event {
            conversation,
            sequence: Sequence::new(last),
            membership_version: access.membership_version,
            occur_time: now,
            actor: Some(by),
            what: Happening::ToConversation { kind: FactKind::Purged, payload: payload.encode_to_vec() },
        };
        insert_events(&mut tx, &[&event]).await?;
        let mentions = unread_mentions(&mut tx, conversation).await?;
        let alerts = settle_mentions(&mut tx, &mentions, now).await?;
        tx.commit().await?;
        Ok(Purged { up_to, event: Some(event), alerts })
    }

    pub async fn purged_conversations(
        &self,
        after: Option<ConversationId>,
        limit: i64,
    ) -> Result<Vec<ConversationId>, Failure> {
        let rows = sqlx::query::<Db>(
            "SELECT conversation_id FROM conversation_heads
             WHERE purged_sequence > swept_sequence AND delete_time IS NULL AND conversation_id > $1
             ORDER BY conversation_id LIMIT $2",
        )
        .bind(after.map_or(Uuid::nil(), ConversationId::uuid))
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        rows.iter().map(|row| conversation_at(row, 0)).collect()
    }

    pub async fn sweep_purged(
        &self,
        conversation: ConversationId,
        limit: i64,
    ) -> Result<(u64, bool), Failure> {
        let mut tx = self.pool.begin().await?;
        if advance_heads(&mut tx, &BTreeMap::from([(conversation, Advance::LOCK)])).await?.is_empty() {
            // It is gone, and with it all there was to erase.
            tx.rollback().await?;
            return Ok((0, false));
        }
        let head = sqlx::query::<Db>(
            "SELECT swept_sequence, purged_sequence, purge_time, purged_by FROM conversation_heads
             WHERE conversation_id = $1",
        )
        .bind(conversation.uuid())
        .fetch_one(&mut *tx)
        .await?;
        let (swept, purged) = (sequence_at(&head, 0)?, sequence_at(&head, 1)?);
        let rows = sqlx::query::<Db>(
            "SELECT sequence FROM messages WHERE conversation_id = $1 AND sequence > $2 AND sequence <= $3
             ORDER BY sequence LIMIT $4",
        )
        .bind(conversation.uuid())
        .bind(swept.get())
        .bind(purged.get())
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
        let gone: Vec<_> = rows
            .iter()
            .map(|row| Ok((conversation, sequence_at(row, 0)?)))
            .collect::<Result<_, Failure>>()?;
        let is_last = i64::try_from(gone.len()).is_ok_and(|count| count < limit);
        let up_to = gone.last().filter(|_| !is_last).map_or(purged, |(_, sequence)| *sequence);

        let mut query =
            QueryBuilder::<Db>::new("UPDATE messages SET content = NULL, details = NULL, delete_time = ");
        query.push_bind(head.try_get::<Option<i64>, _>(2)?);
        query.push(", deleted_by = ").push_bind(head.try_get::<Option<Uuid>, _>(3)?);
        query.push(", delete_reason = ").push_bind(i64::from(i32::from(DeletionReason::Purged)));
        query.push(" WHERE delete_time IS NULL AND conversation_id = ").push_bind(conversation.uuid());
        query.push(" AND sequence > ").push_bind(swept.get());
        query.push(" AND sequence <= ").push_bind(up_to.get());
        let erased = query.build().execute(&mut *tx).await?.rows_affected();
        erase(&mut tx, &gone).await?;
        sqlx::query::<Db>("UPDATE conversation_heads SET swept_sequence = $2 WHERE conversation_id = $1")
            .bind(conversation.uuid())
            .bind(up_to.get())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok((erased, !is_last))
    }
}
