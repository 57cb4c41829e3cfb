//! Reading messages and events.

use std::collections::HashMap;

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId};
use sqlx::{QueryBuilder, Row as _};

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
        // The head comes with the rows, and so from the same moment.
        let text = match history.order {
            Order::NewestFirst => concat!(
                "SELECT (SELECT last_sequence FROM conversation_heads WHERE conversation_id = $1), ",
                message_columns!(),
                " FROM ",
                messages!(),
                " WHERE m.conversation_id = $1 AND m.sequence > $2 AND m.sequence < $3 AND ",
                not_hidden!("$5"),
                " ORDER BY m.sequence DESC LIMIT $4"
            ),
            Order::OldestFirst => concat!(
                "SELECT (SELECT last_sequence FROM conversation_heads WHERE conversation_id = $1), ",
                message_columns!(),
                " FROM ",
                messages!(),
                " WHERE m.conversation_id = $1 AND m.sequence > $2 AND m.sequence < $3 AND ",
                not_hidden!("$5"),
                " ORDER BY m.sequence ASC LIMIT $4"
            ),
        };
        let rows = sqlx::query::<Db>(text)
            .bind(history.conversation.uuid())
            .bind(history.after.get())
            .bind(history.before.get())
            .bind(history.limit)
            .bind(history.user.uuid())
            .fetch_all(self.pool.read())
            .await?;
        let now = self.clock.now();
        let head = match rows.first() {
            Some(row) => Sequence::new(row.try_get::<Option<i64>, _>(0)?.unwrap_or(0)),
            None => {
                let heads = self.heads(&[history.conversation]).await?;
                heads.get(&history.conversation).copied().unwrap_or(Sequence::NONE)
            }
        };
        let messages =
            rows.iter().map(|row| message(history.conversation, row, 1, now)).collect::<Result<_, _>>()?;
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
