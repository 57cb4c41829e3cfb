//! Erasing the messages whose time is over. Nobody has read them since that instant: this is about what the disk holds, and
//! about telling those who follow.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId};
use proto::messaging::v1::DeletionReason;
use sqlx::{QueryBuilder, Row as _};
use uuid::Uuid;

use super::alerts::{settle_mentions, unread_mentions};
use super::erase::{erase, push_places};
use super::log::{Advance, advance_heads, insert_events};
use super::{Db, Store, conversation_at, sequence_at, time_at, user_at};
use crate::event::{Event, Happening};
use crate::message::Sequence;
use crate::store::{Failure, MAX_ROWS, Overdue, Swept};

impl Store {
    pub async fn overdue(&self, now: Timestamp, limit: i64) -> Result<Vec<Overdue>, Failure> {
        // What was purged is erased with the rest of its conversation, and has had its event.
        let rows = sqlx::query::<Db>(
            "SELECT m.conversation_id, m.sequence, m.sender_id, m.expire_time
             FROM messages m JOIN conversation_heads h ON h.conversation_id = m.conversation_id
             WHERE m.expire_time IS NOT NULL AND m.delete_time IS NULL AND m.expire_time <= $1
                 AND m.sequence > h.purged_sequence AND h.delete_time IS NULL
             ORDER BY m.expire_time LIMIT $2",
        )
        .bind(now.as_millis())
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Overdue {
                    conversation: conversation_at(row, 0)?,
                    sequence: sequence_at(row, 1)?,
                    sender: user_at(row, 2)?,
                    expire_time: time_at(row, 3)?,
                })
            })
            .collect()
    }

    pub async fn next_expiry(&self) -> Result<Option<Timestamp>, Failure> {
        let next = sqlx::query_scalar::<Db, i64>(
            "SELECT m.expire_time
             FROM messages m JOIN conversation_heads h ON h.conversation_id = m.conversation_id
             WHERE m.expire_time IS NOT NULL AND m.delete_time IS NULL
                 AND m.sequence > h.purged_sequence AND h.delete_time IS NULL
             ORDER BY m.expire_time LIMIT 1",
        );
        Ok(next.fetch_optional(self.pool.read()).await?.map(Timestamp::from_millis))
    }

    pub async fn sweep(
        &self,
        overdue: &[Overdue],
        versions: &HashMap<ConversationId, i64>,
        now: Timestamp,
    ) -> Result<Swept, Failure> {
        let mut swept = Swept::default();
        for part in overdue.chunks(MAX_ROWS) {
            let Swept { events, alerts } = self.sweep_part(part, versions, now).await?;
            swept.events.extend(events);
            swept.alerts.extend(alerts);
        }
        Ok(swept)
    }

    async fn sweep_part(
        &self,
        overdue: &[Overdue],
        versions: &HashMap<ConversationId, i64>,
        now: Timestamp,
    ) -> Result<Swept, Failure> {
        let mut tx = self.pool.begin().await?;
        let locks = overdue.iter().map(|one| (one.conversation, Advance::LOCK));
        advance_heads(&mut tx, &locks.collect()).await?;
        // Looked at again under the locks: another replica may have been faster, or the author.
        let mut query = QueryBuilder::<Db>::new(
            "SELECT m.conversation_id, m.sequence, m.message_id, m.membership_version
             FROM messages m JOIN conversation_heads h ON h.conversation_id = m.conversation_id
             WHERE m.delete_time IS NULL AND m.sequence > h.purged_sequence AND m.expire_time <= ",
        );
        query.push_bind(now.as_millis()).push(" AND (m.conversation_id, m.sequence) IN (");
        let places: Vec<_> = overdue.iter().map(|one| (one.conversation, one.sequence)).collect();
        push_places(&mut query, &places);
        query.push(") ORDER BY m.conversation_id, m.sequence");
        let rows = query.build().fetch_all(&mut *tx).await?;
        if rows.is_empty() {
            tx.rollback().await?;
            return Ok(Swept::default());
        }
        let mut gone = Vec::with_capacity(rows.len());
        let mut messages = BTreeSet::new();
        let mut events = Vec::with_capacity(rows.len());
        let mut advances: BTreeMap<ConversationId, Advance> = BTreeMap::new();
        for row in &rows {
            let (conversation, sequence) = (conversation_at(row, 0)?, sequence_at(row, 1)?);
            let message_id = MessageId::from(row.try_get::<Uuid, _>(2)?);
            let sent_under: i64 = row.try_get(3)?;
            advances.entry(conversation).or_insert(Advance::events(0)).events += 1;
            gone.push((conversation, sequence));
            messages.insert(message_id);
            events.push(Event {
                conversation,
                sequence: Sequence::NONE,
                membership_version: versions.get(&conversation).copied().unwrap_or(sent_under),
                occur_time: now,
                actor: None,
                what: Happening::MessageDeleted { message_id, sequence, reason: DeletionReason::Expired },
            });
        }
        let mut next = advance_heads(&mut tx, &advances).await?;
        for (conversation, last) in &mut next {
            *last -= advances.get(conversation).map_or(0, |advance| advance.events);
        }
        for event in &mut events {
            let last = next.get_mut(&event.conversation);
            let last =
                last.ok_or_else(|| Failure::corrupt("a message is there whose conversation is gone"))?;
            *last += 1;
            event.sequence = Sequence::new(*last);
        }
        let mut query = QueryBuilder::<Db>::new(
            "UPDATE messages SET content = NULL, details = NULL, delete_time = expire_time, deleted_by = NULL,
                 delete_reason = ",
        );
        query.push_bind(i64::from(i32::from(DeletionReason::Expired)));
        query.push(" WHERE (conversation_id, sequence) IN (");
        push_places(&mut query, &gone);
        query.push(")").build().execute(&mut *tx).await?;
        erase(&mut tx, &gone).await?;
        insert_events(&mut tx, &Vec::from_iter(&events)).await?;
        let mut mentions = Vec::new();
        for conversation in next.keys() {
            mentions.extend(unread_mentions(&mut tx, *conversation).await?);
        }
        mentions.retain(|(_, message)| messages.contains(message));
        let alerts = settle_mentions(&mut tx, &mentions, now).await?;
        tx.commit().await?;
        Ok(Swept { events, alerts })
    }
}
