//! Reading messages and events.

use std::collections::HashMap;

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId};
use sqlx::QueryBuilder;

use super::hidden::not_hidden;
use super::{
    Db, Store, conversation_at, event, event_columns, message, message_columns, messages, other_events,
    padded, sent_messages, sequence_at,
};
use crate::event::Event;
use crate::message::{Message, Sequence};
use crate::store::{Failure, History, MAX_ROWS, Order, Range};

impl Store {
    pub async fn message(
        &self,
        conversation: ConversationId,
        id: MessageId,
    ) -> Result<Option<Message>, Failure> {
        message_by_id(self.pool.read(), conversation, id, self.clock.now()).await
    }

    pub async fn history(&self, history: &History) -> Result<(Vec<Message>, Sequence), Failure> {
        let conversation = history.conversation;
        let (mut after, mut before) = (history.after, history.before);
        if let Some(start) = history.start {
            after = after.max(self.place_before(conversation, start).await?);
        }
        if let Some(end) = history.end {
            before = before.min(self.place_after(conversation, end).await?);
        }
        let now = self.clock.now();
        let mut query = QueryBuilder::<Db>::new(concat!(
            // The head comes with the rows, and so from the same moment.
            "SELECT mh.last_sequence, ",
            message_columns!(),
            " FROM ",
            messages!(),
            " WHERE m.conversation_id = "
        ));
        query.push_bind(conversation.uuid()).push(" AND m.sequence < ").push_bind(before.get());
        query.push(" AND m.sequence > ");
        if history.exclude_tombstones {
            // One lower bound, so that the walk through the index ends where the purged messages begin.
            query.push("(SELECT CASE WHEN h.purged_sequence > ").push_bind(after.get());
            query.push(" THEN h.purged_sequence ELSE ").push_bind(after.get());
            query.push(" END FROM conversation_heads h WHERE h.conversation_id = ");
            query.push_bind(conversation.uuid());
            query.push(") AND m.delete_time IS NULL AND (m.expire_time IS NULL OR m.expire_time > ");
            query.push_bind(now.as_millis()).push(")");
        } else {
            query.push_bind(after.get());
        }
        if let Some(start) = history.start {
            query.push(" AND m.create_time >= ").push_bind(start.as_millis());
        }
        if let Some(end) = history.end {
            query.push(" AND m.create_time < ").push_bind(end.as_millis());
        }
        query.push(concat!(" AND ", not_hidden!())).push_bind(history.user.uuid());
        query.push(match history.order {
            Order::NewestFirst => ") ORDER BY m.sequence DESC LIMIT ",
            Order::OldestFirst => ") ORDER BY m.sequence ASC LIMIT ",
        });
        let rows = query.push_bind(history.limit).build().fetch_all(self.pool.read()).await?;
        let head = match rows.first() {
            Some(row) => sequence_at(row, 0)?,
            None => {
                let heads = self.heads(&[conversation]).await?;
                heads.get(&conversation).copied().unwrap_or(Sequence::NONE)
            }
        };
        let messages = rows.iter().map(|row| message(conversation, row, 1, now)).collect::<Result<_, _>>()?;
        Ok((messages, head))
    }

    pub async fn events(
        &self,
        conversation: ConversationId,
        after: Sequence,
        limit: i64,
    ) -> Result<Vec<Event>, Failure> {
        let rows = sqlx::query::<Db>(concat!(
            "SELECT ",
            event_columns!(),
            // Each half is cut by itself, so that a long log is never read to its end for one page.
            " FROM (SELECT * FROM (SELECT ",
            sent_messages!("messages x"),
            " WHERE x.conversation_id = $1 AND x.sequence > $2 ORDER BY x.sequence LIMIT $3) sent",
            " UNION ALL SELECT * FROM (SELECT ",
            other_events!("events x"),
            " WHERE x.conversation_id = $1 AND x.sequence > $2 ORDER BY x.sequence LIMIT $3) other) e",
            " LEFT JOIN messages m ON m.conversation_id = e.conversation_id AND m.sequence = e.message_sequence",
            " LEFT JOIN conversation_heads mh ON mh.conversation_id = e.conversation_id",
            " ORDER BY e.sequence LIMIT $3"
        ))
        .bind(conversation.uuid())
        .bind(after.get())
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        let now = self.clock.now();
        rows.iter().map(|row| event(row, now)).collect()
    }

    pub async fn events_of(&self, ranges: &[Range]) -> Result<HashMap<ConversationId, Vec<Event>>, Failure> {
        let mut found: HashMap<ConversationId, Vec<Event>> = HashMap::with_capacity(ranges.len());
        if ranges.is_empty() {
            return Ok(found);
        }
        let mut query =
            QueryBuilder::<Db>::new("WITH wanted(conversation_id, after_sequence, up_to_sequence) AS (");
        // What fills the list up asks for nothing, so that nothing comes twice.
        let wanted = ranges.len();
        let nothing = |(index, range): (usize, Range)| match index < wanted {
            true => range,
            false => Range { up_to: Sequence::NONE, ..range },
        };
        query.push_values(padded(ranges).enumerate().map(nothing), |mut row, range| {
            row.push_bind(range.conversation.uuid())
                .push_bind(range.after.get())
                .push_bind(range.up_to.get());
        });
        query.push(concat!(
            ") SELECT ",
            event_columns!(),
            " FROM (SELECT ",
            // The few ranges outside, the log inside.
            sent_messages!("wanted w CROSS JOIN messages x"),
            " WHERE x.conversation_id = w.conversation_id",
            " AND x.sequence > w.after_sequence AND x.sequence <= w.up_to_sequence",
            " UNION ALL SELECT ",
            other_events!("wanted w CROSS JOIN events x"),
            " WHERE x.conversation_id = w.conversation_id",
            " AND x.sequence > w.after_sequence AND x.sequence <= w.up_to_sequence) e",
            " LEFT JOIN messages m ON m.conversation_id = e.conversation_id AND m.sequence = e.message_sequence",
            " LEFT JOIN conversation_heads mh ON mh.conversation_id = e.conversation_id",
            " ORDER BY e.conversation_id, e.sequence"
        ));
        let rows = query.build().fetch_all(self.pool.read()).await?;
        let now = self.clock.now();
        for row in rows {
            let event = event(&row, now)?;
            found.entry(event.conversation).or_default().push(event);
        }
        Ok(found)
    }

    pub async fn heads(
        &self,
        conversations: &[ConversationId],
    ) -> Result<HashMap<ConversationId, Sequence>, Failure> {
        let mut found = HashMap::with_capacity(conversations.len());
        for part in conversations.chunks(MAX_ROWS) {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT conversation_id, last_sequence FROM conversation_heads WHERE last_sequence > 0
                 AND conversation_id IN (",
            );
            let mut list = query.separated(", ");
            for conversation in padded(part) {
                list.push_bind(conversation.uuid());
            }
            for row in query.push(")").build().fetch_all(self.pool.read()).await? {
                found.insert(conversation_at(&row, 0)?, sequence_at(&row, 1)?);
            }
        }
        Ok(found)
    }
}

/// A message by its id and its conversation, as it is at a time.
pub(super) async fn message_by_id<'c>(
    executor: impl sqlx::Executor<'c, Database = Db>,
    conversation: ConversationId,
    id: MessageId,
    now: Timestamp,
) -> Result<Option<Message>, Failure> {
    let row = sqlx::query::<Db>(concat!(
        "SELECT ",
        message_columns!(),
        " FROM ",
        messages!(),
        " WHERE m.conversation_id = $1 AND m.message_id = $2"
    ))
    .bind(conversation.uuid())
    .bind(id.uuid())
    .fetch_optional(executor)
    .await?;
    row.map(|row| message(conversation, &row, 0, now)).transpose()
}
