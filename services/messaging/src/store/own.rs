//! What somebody has, wherever it is: where it writes most, and all that it may take along.

use std::collections::HashMap;

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId, ReportId, UploadId, UserId};
use sqlx::Row as _;
use uuid::Uuid;

use super::reports::{report, reports};
use super::uploads::upload;
use super::{Db, Row, Store, conversation_at, message, message_columns, messages, sequence_at, time_at};
use crate::departure::Spot;
use crate::export::{OwnHidden, OwnPin, OwnReaction, OwnVote};
use crate::message::Message;
use crate::receipt::Watermark;
use crate::report::Report;
use crate::store::{Failure, Window};
use crate::uploads::Upload;

/// Of reports, those that somebody made.
const MADE: &str = reports!(
    "reporter_id = $1 AND (create_time, report_id) > ($2, $3) ORDER BY create_time, report_id LIMIT $4"
);

impl Store {
    pub async fn frequent(
        &self,
        user: UserId,
        window: &Window,
        most: i64,
    ) -> Result<HashMap<ConversationId, i64>, Failure> {
        let rows = sqlx::query::<Db>(
            "SELECT own.conversation_id, COUNT(*) FROM (
                 SELECT m.conversation_id FROM messages m
                 WHERE m.sender_id = $1 AND m.create_time > $2 AND m.create_time <= $3
                 ORDER BY m.create_time DESC LIMIT $4) own
             GROUP BY own.conversation_id",
        )
        .bind(user.uuid())
        .bind(window.after.as_millis())
        .bind(window.up_to.as_millis())
        .bind(most)
        .fetch_all(self.pool.read())
        .await?;
        rows.iter().map(|row| Ok((conversation_at(row, 0)?, row.try_get(1)?))).collect()
    }

    pub async fn own_messages(
        &self,
        user: UserId,
        after: &Spot,
        limit: i64,
    ) -> Result<Vec<Message>, Failure> {
        let rows = sqlx::query::<Db>(concat!(
            "SELECT m.conversation_id, ",
            message_columns!(),
            " FROM ",
            messages!(),
            " WHERE m.sender_id = $1 AND m.create_time >= $2",
            " AND (m.create_time, m.conversation_id, m.sequence) > ($2, $3, $4)",
            " ORDER BY m.create_time, m.conversation_id, m.sequence LIMIT $5"
        ))
        .bind(user.uuid())
        .bind(after.time.as_millis())
        .bind(after.conversation.uuid())
        .bind(after.sequence.get())
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        let now = self.clock.now();
        rows.iter().map(|row| message(conversation_at(row, 0)?, row, 1, now)).collect()
    }

    pub async fn own_reactions(
        &self,
        user: UserId,
        after: &Spot,
        limit: i64,
    ) -> Result<Vec<OwnReaction>, Failure> {
        let rows = sqlx::query::<Db>(
            "SELECT x.conversation_id, x.message_sequence, m.message_id, x.emoji, x.create_time FROM reactions x
             JOIN messages m ON m.conversation_id = x.conversation_id AND m.sequence = x.message_sequence
             WHERE x.user_id = $1 AND (x.conversation_id, x.message_sequence, x.emoji) > ($2, $3, $4)
             ORDER BY x.conversation_id, x.message_sequence, x.emoji LIMIT $5",
        )
        .bind(user.uuid())
        .bind(after.conversation.uuid())
        .bind(after.sequence.get())
        .bind(after.key.clone())
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        rows.iter()
            .map(|row| {
                let (spot, message_id) = place_at(row)?;
                let emoji: String = row.try_get(3)?;
                let spot = Spot { key: emoji, ..spot };
                Ok(OwnReaction { spot, message_id, create_time: time_at(row, 4)? })
            })
            .collect()
    }

    pub async fn own_votes(&self, user: UserId, after: &Spot, limit: i64) -> Result<Vec<OwnVote>, Failure> {
        // The few polls outside: otherwise all votes of the user are read for every page.
        let rows = sqlx::query::<Db>(
            "SELECT x.conversation_id, x.message_sequence, m.message_id, v.option_index FROM (
                 SELECT DISTINCT conversation_id, message_sequence FROM votes
                 WHERE user_id = $1 AND (conversation_id, message_sequence) > ($2, $3)
                 ORDER BY conversation_id, message_sequence LIMIT $4) x
             CROSS JOIN votes v CROSS JOIN messages m
             WHERE v.conversation_id = x.conversation_id AND v.message_sequence = x.message_sequence AND v.user_id = $1
                 AND m.conversation_id = x.conversation_id AND m.sequence = x.message_sequence
             ORDER BY x.conversation_id, x.message_sequence, v.option_index",
        )
        .bind(user.uuid())
        .bind(after.conversation.uuid())
        .bind(after.sequence.get())
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        let mut votes: Vec<OwnVote> = Vec::new();
        for row in &rows {
            let (spot, message_id) = place_at(row)?;
            let option = i32::try_from(row.try_get::<i64, _>(3)?);
            let option = option.map_err(|_| Failure::corrupt("a vote is for no option"))?;
            match votes.last_mut() {
                Some(vote) if vote.spot == spot => vote.options.push(option),
                _ => votes.push(OwnVote { spot, message_id, options: vec![option] }),
            }
        }
        Ok(votes)
    }

    pub async fn own_pins(&self, user: UserId, after: &Spot, limit: i64) -> Result<Vec<OwnPin>, Failure> {
        let rows = sqlx::query::<Db>(
            "SELECT x.conversation_id, x.message_sequence, m.message_id, x.pin_time FROM pins x
             JOIN messages m ON m.conversation_id = x.conversation_id AND m.sequence = x.message_sequence
             WHERE x.user_id = $1 AND (x.conversation_id, x.message_sequence) > ($2, $3)
             ORDER BY x.conversation_id, x.message_sequence LIMIT $4",
        )
        .bind(user.uuid())
        .bind(after.conversation.uuid())
        .bind(after.sequence.get())
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        rows.iter()
            .map(|row| {
                let (spot, message_id) = place_at(row)?;
                Ok(OwnPin { spot, message_id, pin_time: time_at(row, 3)? })
            })
            .collect()
    }

    pub async fn own_hidden(
        &self,
        user: UserId,
        after: &Spot,
        limit: i64,
    ) -> Result<Vec<OwnHidden>, Failure> {
        let rows = sqlx::query::<Db>(
            "SELECT x.conversation_id, x.message_sequence, m.message_id FROM hidden_messages x
             JOIN messages m ON m.conversation_id = x.conversation_id AND m.sequence = x.message_sequence
             WHERE x.user_id = $1 AND (x.conversation_id, x.message_sequence) > ($2, $3)
             ORDER BY x.conversation_id, x.message_sequence LIMIT $4",
        )
        .bind(user.uuid())
        .bind(after.conversation.uuid())
        .bind(after.sequence.get())
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        rows.iter()
            .map(|row| place_at(row).map(|(spot, message_id)| OwnHidden { spot, message_id }))
            .collect()
    }

    pub async fn own_watermarks(
        &self,
        user: UserId,
        after: Option<ConversationId>,
        limit: i64,
    ) -> Result<Vec<Watermark>, Failure> {
        let rows = sqlx::query::<Db>(
            "SELECT conversation_id, delivered_sequence, read_sequence, update_time FROM watermarks
             WHERE user_id = $1 AND conversation_id > $2 ORDER BY conversation_id LIMIT $3",
        )
        .bind(user.uuid())
        .bind(after.map_or(Uuid::nil(), ConversationId::uuid))
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Watermark {
                    conversation: conversation_at(row, 0)?,
                    user,
                    delivered: sequence_at(row, 1)?,
                    read: sequence_at(row, 2)?,
                    update_time: Some(time_at(row, 3)?),
                })
            })
            .collect()
    }

    pub async fn own_reports(
        &self,
        user: UserId,
        after: Option<(Timestamp, ReportId)>,
        limit: i64,
    ) -> Result<Vec<Report>, Failure> {
        let rows = sqlx::query::<Db>(MADE)
            .bind(user.uuid())
            .bind(after.map_or(i64::MIN, |(time, _)| time.as_millis()))
            .bind(after.map_or(Uuid::nil(), |(_, id)| id.uuid()))
            .bind(limit)
            .fetch_all(self.pool.read())
            .await?;
        rows.iter().map(report).collect()
    }

    pub async fn own_uploads(
        &self,
        user: UserId,
        after: Option<UploadId>,
        limit: i64,
    ) -> Result<Vec<Upload>, Failure> {
        let rows = sqlx::query::<Db>(
            "SELECT upload_id, user_id, name, media_type, size, create_time, object_id, sha256 FROM uploads
             WHERE user_id = $1 AND upload_id > $2 ORDER BY upload_id LIMIT $3",
        )
        .bind(user.uuid())
        .bind(after.map_or(Uuid::nil(), UploadId::uuid))
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        rows.iter().map(upload).collect()
    }
}

/// Where a message is, and which it is.
fn place_at(row: &Row) -> Result<(Spot, MessageId), Failure> {
    let spot = Spot {
        time: Timestamp::from_millis(0),
        conversation: conversation_at(row, 0)?,
        sequence: sequence_at(row, 1)?,
        key: String::new(),
    };
    Ok((spot, row.try_get::<Uuid, _>(2)?.into()))
}
