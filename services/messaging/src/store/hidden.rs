//! The messages that users deleted for themselves. Only their own lists leave them out: the log is the same for everybody.

use std::collections::{BTreeMap, HashMap};

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId, UserId};
use sqlx::QueryBuilder;

use super::log::{Advance, advance_heads};
use super::user_log::append_user_events;
use super::{Db, Store, conversation_at, message, message_columns, messages, padded, sequence_at};
use crate::error::Error;
use crate::event::{UserEvent, UserHappening};
use crate::message::{Message, Sequence};
use crate::store::{Failure, MAX_ROWS};

/// That a user has not hidden the message `m`: `not_hidden!("$5")`, or up to where the user is bound when the parameter is
/// pushed.
macro_rules! not_hidden {
    () => {
        "NOT EXISTS (SELECT 1 FROM hidden_messages v WHERE v.conversation_id = m.conversation_id
             AND v.message_sequence = m.sequence AND v.user_id = "
    };
    ($user:expr) => {
        concat!(not_hidden!(), $user, ")")
    };
}

pub(super) use not_hidden;

impl Store {
    pub async fn hide(
        &self,
        user: UserId,
        conversation: ConversationId,
        id: MessageId,
        now: Timestamp,
    ) -> Result<Option<UserEvent>, Error> {
        let mut tx = self.pool.begin().await?;
        // Locked so that the conversation does not go in between and leaves a row that nobody removes.
        if advance_heads(&mut tx, &BTreeMap::from([(conversation, Advance::LOCK)])).await?.is_empty() {
            return Err(Error::ConversationNotFound(conversation));
        }
        let row =
            sqlx::query::<Db>("SELECT sequence FROM messages WHERE conversation_id = $1 AND message_id = $2")
                .bind(conversation.uuid())
                .bind(id.uuid())
                .fetch_optional(&mut *tx)
                .await?;
        let Some(row) = row else { return Err(Error::MessageNotFound(id)) };
        let sequence = sequence_at(&row, 0)?;
        let added = sqlx::query::<Db>(
            "INSERT INTO hidden_messages (user_id, conversation_id, message_sequence) VALUES ($1, $2, $3)
             ON CONFLICT DO NOTHING",
        )
        .bind(user.uuid())
        .bind(conversation.uuid())
        .bind(sequence.get())
        .execute(&mut *tx)
        .await?;
        if added.rows_affected() == 0 {
            tx.rollback().await?;
            return Ok(None);
        }
        let hidden = UserHappening::MessageHidden { conversation, message_id: id, sequence };
        let event = append_user_events(&mut tx, vec![(user, now, hidden)]).await?.pop();
        tx.commit().await?;
        Ok(event)
    }

    pub async fn message_for(
        &self,
        user: UserId,
        conversation: ConversationId,
        id: MessageId,
    ) -> Result<Option<Message>, Failure> {
        let row = sqlx::query::<Db>(concat!(
            "SELECT ",
            message_columns!(),
            " FROM ",
            messages!(),
            " WHERE m.conversation_id = $1 AND m.message_id = $2 AND ",
            not_hidden!("$3")
        ))
        .bind(conversation.uuid())
        .bind(id.uuid())
        .bind(user.uuid())
        .fetch_optional(self.pool.read())
        .await?;
        let now = self.clock.now();
        row.map(|row| message(conversation, &row, 0, now)).transpose()
    }

    pub async fn last_messages(
        &self,
        user: UserId,
        places: &[(ConversationId, Sequence)],
    ) -> Result<HashMap<ConversationId, Message>, Failure> {
        let mut found = HashMap::with_capacity(places.len());
        for part in places.chunks(MAX_ROWS) {
            let mut query = QueryBuilder::<Db>::new("WITH wanted(conversation_id, sequence) AS (");
            query.push_values(padded(part), |mut row, (conversation, sequence)| {
                row.push_bind(conversation.uuid()).push_bind(sequence.get());
            });
            // Each walk along the key ends at the first message that is not hidden, nearly always the first of all; and
            // it is done once per conversation, whatever the planner thinks of the rest.
            query.push(concat!(
                "), last(conversation_id, sequence) AS MATERIALIZED (
                     SELECT w.conversation_id, (
                         SELECT m.sequence FROM messages m
                         WHERE m.conversation_id = w.conversation_id AND m.sequence <= w.sequence AND ",
                not_hidden!()
            ));
            query.push_bind(user.uuid());
            query.push(concat!(
                ") ORDER BY m.sequence DESC LIMIT 1) FROM wanted w)
                 SELECT m.conversation_id, ",
                message_columns!(),
                " FROM last l CROSS JOIN ",
                messages!(),
                " WHERE m.conversation_id = l.conversation_id AND m.sequence = l.sequence"
            ));
            let rows = query.build().fetch_all(self.pool.read()).await?;
            let now = self.clock.now();
            for row in rows {
                let conversation = conversation_at(&row, 0)?;
                found.insert(conversation, message(conversation, &row, 1, now)?);
            }
        }
        Ok(found)
    }
}
