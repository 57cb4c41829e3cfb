//! How far members have come, and what they have not read.

use std::collections::{BTreeMap, HashMap};

use chassis::clock::Timestamp;
use proto::id::{ConversationId, UserId};
use sqlx::{QueryBuilder, Row as _};
use uuid::Uuid;

use super::hidden::not_hidden;
use super::user_log::append_user_events;
use super::{Db, PLACEHOLDERS, Store, conversation_at, padded, sequence_at, time_at, user_at};
use crate::event::{UserEvent, UserHappening};
use crate::message::Sequence;
use crate::receipt::{Moved, Progress, Watermark};
use crate::store::rows::Rows;
use crate::store::{Failure, MAX_ROWS, Move, Place, Unread};

static ADVANCE_WATERMARKS: Rows = Rows::new(
    PLACEHOLDERS,
    "INSERT INTO watermarks (conversation_id, user_id, delivered_sequence, read_sequence, update_time) VALUES",
    5,
    "ON CONFLICT (conversation_id, user_id) DO UPDATE SET
         delivered_sequence = CASE WHEN excluded.delivered_sequence > watermarks.delivered_sequence
             THEN excluded.delivered_sequence ELSE watermarks.delivered_sequence END,
         read_sequence = CASE WHEN excluded.read_sequence > watermarks.read_sequence
             THEN excluded.read_sequence ELSE watermarks.read_sequence END,
         previous_delivered_sequence = watermarks.delivered_sequence,
         previous_read_sequence = watermarks.read_sequence,
         update_time = CASE WHEN excluded.delivered_sequence > watermarks.delivered_sequence
                 OR excluded.read_sequence > watermarks.read_sequence
             THEN excluded.update_time ELSE watermarks.update_time END
     RETURNING conversation_id, user_id, delivered_sequence, read_sequence, update_time,
         previous_delivered_sequence, previous_read_sequence",
);

impl Store {
    pub async fn advance(&self, moves: &[Move]) -> Result<(Vec<Moved>, Vec<UserEvent>), Failure> {
        // Ordered, so that two replicas lock the rows in one order; and each row once, because a statement may not move
        // a row twice.
        let mut merged: BTreeMap<(ConversationId, UserId), Move> = BTreeMap::new();
        for one in moves {
            let entry = merged.entry((one.to.conversation, one.to.user)).or_insert(*one);
            entry.reads |= one.reads;
            entry.to.delivered = entry.to.delivered.max(one.to.delivered);
            entry.to.read = entry.to.read.max(one.to.read);
            entry.to.update_time = entry.to.update_time.max(one.to.update_time);
        }
        let mut tx = self.pool.begin().await?;
        let mut moved: HashMap<(ConversationId, UserId), Moved> = HashMap::with_capacity(merged.len());
        for (text, part) in ADVANCE_WATERMARKS.parts(&Vec::from_iter(merged.values())) {
            let mut query = sqlx::query::<Db>(text);
            for one in part {
                query = query
                    .bind(one.to.conversation.uuid())
                    .bind(one.to.user.uuid())
                    .bind(one.to.delivered.get())
                    .bind(one.to.read.get())
                    .bind(one.to.update_time.map_or(0, Timestamp::as_millis));
            }
            for row in query.fetch_all(&mut *tx).await? {
                let watermark = Watermark {
                    conversation: conversation_at(&row, 0)?,
                    user: user_at(&row, 1)?,
                    delivered: sequence_at(&row, 2)?,
                    read: sequence_at(&row, 3)?,
                    update_time: Some(time_at(&row, 4)?),
                };
                let previous = Progress { delivered: sequence_at(&row, 5)?, read: sequence_at(&row, 6)? };
                moved.insert((watermark.conversation, watermark.user), Moved { watermark, previous });
            }
        }
        let mut happened = Vec::new();
        for one in merged.values().filter(|one| one.reads) {
            // Who is further by now has been told by whoever moved it there.
            let now_at = moved.get(&(one.to.conversation, one.to.user)).map(|moved| moved.watermark);
            if let Some(watermark) = now_at.filter(|now_at| now_at.read == one.to.read) {
                let at = watermark.update_time.unwrap_or(Timestamp::from_millis(0));
                happened.push((watermark.user, at, UserHappening::WatermarkAdvanced(watermark)));
            }
        }
        let user_events = append_user_events(&mut tx, happened).await?;
        tx.commit().await?;
        let place = |one: &Move| moved.get(&(one.to.conversation, one.to.user)).copied();
        let places = moves.iter().map(place).collect::<Option<_>>();
        let places = places.ok_or_else(|| Failure::corrupt("a watermark that was moved is not there"))?;
        Ok((places, user_events))
    }

    pub async fn places(
        &self,
        user: UserId,
        conversations: &[ConversationId],
    ) -> Result<HashMap<ConversationId, Place>, Failure> {
        let mut found = HashMap::with_capacity(conversations.len());
        for part in conversations.chunks(MAX_ROWS) {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT h.conversation_id, h.last_sequence, h.last_message_sequence, h.activity_time,
                     w.delivered_sequence, w.read_sequence, w.update_time
                 FROM conversation_heads h LEFT JOIN watermarks w
                     ON w.conversation_id = h.conversation_id AND w.user_id = ",
            );
            query.push_bind(user.uuid());
            query.push(" WHERE h.last_sequence > 0 AND h.conversation_id IN (");
            let mut list = query.separated(", ");
            for conversation in padded(part) {
                list.push_bind(conversation.uuid());
            }
            for row in query.push(")").build().fetch_all(self.pool.read()).await? {
                let conversation = conversation_at(&row, 0)?;
                let watermark = match row.try_get::<Option<i64>, _>(4)? {
                    None => Watermark::start(conversation, user),
                    Some(delivered) => Watermark {
                        conversation,
                        user,
                        delivered: Sequence::new(delivered),
                        read: sequence_at(&row, 5)?,
                        update_time: Some(time_at(&row, 6)?),
                    },
                };
                let place = Place {
                    conversation,
                    head: sequence_at(&row, 1)?,
                    last_message: sequence_at(&row, 2)?,
                    activity_time: time_at(&row, 3)?,
                    watermark,
                };
                found.insert(conversation, place);
            }
        }
        Ok(found)
    }

    pub async fn unread(
        &self,
        user: UserId,
        wanted: &[Unread],
        most: i64,
    ) -> Result<HashMap<ConversationId, i64>, Failure> {
        let mut found = HashMap::with_capacity(wanted.len());
        for part in wanted.chunks(MAX_ROWS) {
            let mut query =
                QueryBuilder::<Db>::new("WITH wanted(conversation_id, after_sequence, since) AS (");
            query.push_values(padded(part), |mut row, unread| {
                row.push_bind(unread.conversation.uuid())
                    .push_bind(unread.after.get())
                    .push_bind(unread.since.as_millis());
            });
            // The inner LIMIT is what keeps a long absence from being counted through. What nobody can read any more is
            // not unread, whether or not it has been erased yet.
            query.push(
                ") SELECT w.conversation_id, (SELECT COUNT(*) FROM (
                     SELECT 1 FROM messages m WHERE m.conversation_id = w.conversation_id
                         AND m.sequence > w.after_sequence AND m.create_time >= w.since
                         AND m.delete_time IS NULL AND m.sequence > h.purged_sequence
                         AND (m.expire_time IS NULL OR m.expire_time > ",
            );
            query.push_bind(self.clock.now().as_millis()).push(") AND m.sender_id <> ");
            query.push_bind(user.uuid()).push(concat!(" AND ", not_hidden!())).push_bind(user.uuid());
            query.push(") LIMIT ").push_bind(most).push(
                ") AS counted) FROM wanted w CROSS JOIN conversation_heads h
                 WHERE h.conversation_id = w.conversation_id",
            );
            for row in query.build().fetch_all(self.pool.read()).await? {
                found.insert(conversation_at(&row, 0)?, row.try_get(1)?);
            }
        }
        Ok(found)
    }

    pub async fn receipts(
        &self,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: i64,
    ) -> Result<Vec<Watermark>, Failure> {
        let rows = sqlx::query::<Db>(
            "SELECT user_id, delivered_sequence, read_sequence, update_time FROM watermarks
             WHERE conversation_id = $1 AND user_id > $2 AND is_member ORDER BY user_id LIMIT $3",
        )
        .bind(conversation.uuid())
        .bind(after.map_or(Uuid::nil(), UserId::uuid))
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Watermark {
                    conversation,
                    user: user_at(row, 0)?,
                    delivered: sequence_at(row, 1)?,
                    read: sequence_at(row, 2)?,
                    update_time: Some(time_at(row, 3)?),
                })
            })
            .collect()
    }
}
