//! The store: one text of SQL for both databases, compiled once for each. The operations are beside this file, by what
//! they are about; here is what they share.

#[path = "append.rs"]
mod append;
#[path = "facts.rs"]
mod facts;
#[path = "history.rs"]
mod history;
#[path = "log.rs"]
mod log;
#[path = "revise.rs"]
mod revise;
#[path = "user_log.rs"]
mod user_log;
#[path = "watermarks.rs"]
mod watermarks;

use chassis::clock::Timestamp;
use proto::id::{ConversationId, EventId, MessageId, UserId};
use sqlx::Row as _;
use uuid::Uuid;

use super::{Db, PLACEHOLDERS, Pool, Row, Tx, outbox};
use crate::event::{Event, FactKind, Happening};
use crate::message::{ClientMessageId, Content, Deletion, Message, Sequence};
use crate::store::Failure;

/// The columns of a message, as [`message`] reads them.
macro_rules! message_columns {
    () => {
        "m.sequence, m.message_id, m.sender_id, m.client_message_id, m.content, m.reply_to, m.create_time, \
         m.edit_time, m.delete_time, m.deleted_by, m.version"
    };
}

/// The columns of an event, as [`event`] reads them.
macro_rules! event_columns {
    () => {
        concat!(
            "e.conversation_id, e.sequence, e.kind, e.actor_id, e.membership_version, e.occur_time, e.payload, ",
            message_columns!()
        )
    };
}

/// The half of the log that is messages being sent, and where it comes from.
macro_rules! sent_messages {
    ($from:expr) => {
        concat!(
            "x.conversation_id, x.sequence, 'message_created' AS kind, x.sequence AS message_sequence, \
             x.sender_id AS actor_id, x.membership_version, x.create_time AS occur_time, \
             CAST(NULL AS BYTEA) AS payload FROM ",
            $from
        )
    };
}

/// The half of the log that is everything else, and where it comes from.
macro_rules! other_events {
    ($from:expr) => {
        concat!(
            "x.conversation_id, x.sequence, x.kind, x.message_sequence, x.actor_id, x.membership_version, \
             x.occur_time, x.payload FROM ",
            $from
        )
    };
}

use {event_columns, message_columns, other_events, sent_messages};

/// The operations on this database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: Pool,
}

impl Store {
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    pub async fn epoch(&self) -> Result<String, Failure> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("INSERT INTO meta (name, value) VALUES ('epoch', $1) ON CONFLICT (name) DO NOTHING")
            .bind(EventId::generate().to_string())
            .execute(&mut *tx)
            .await?;
        let epoch =
            sqlx::query_scalar("SELECT value FROM meta WHERE name = 'epoch'").fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(epoch)
    }
}

/// A list with its last item repeated up to a power of two: few texts of a statement exist, and each can be kept prepared.
fn padded<T: Copy>(list: &[T]) -> impl Iterator<Item = T> + '_ {
    let wanted = list.len().next_power_of_two();
    list.iter().copied().chain(list.last().copied().into_iter().cycle().take(wanted - list.len()))
}

fn conversation_at(row: &Row, column: usize) -> Result<ConversationId, Failure> {
    Ok(row.try_get::<Uuid, _>(column)?.into())
}

fn user_at(row: &Row, column: usize) -> Result<UserId, Failure> {
    Ok(row.try_get::<Uuid, _>(column)?.into())
}

fn sequence_at(row: &Row, column: usize) -> Result<Sequence, Failure> {
    Ok(Sequence::new(row.try_get(column)?))
}

fn time_at(row: &Row, column: usize) -> Result<Timestamp, Failure> {
    Ok(Timestamp::from_millis(row.try_get(column)?))
}

/// Reads the columns of a message, which begin at `first`.
fn message(conversation: ConversationId, row: &Row, first: usize) -> Result<Message, Failure> {
    let delete_time: Option<i64> = row.try_get(first + 8)?;
    let deleted_by: Option<Uuid> = row.try_get(first + 9)?;
    let content: Option<Vec<u8>> = row.try_get(first + 4)?;
    Ok(Message {
        message_id: row.try_get::<Uuid, _>(first + 1)?.into(),
        conversation,
        sequence: sequence_at(row, first)?,
        sender: user_at(row, first + 2)?,
        client_message_id: row.try_get::<Option<String>, _>(first + 3)?.map(ClientMessageId::stored),
        content: content.map(|bytes| Content::decode(&bytes)).transpose()?,
        reply_to: row.try_get::<Option<Uuid>, _>(first + 5)?.map(MessageId::from),
        create_time: time_at(row, first + 6)?,
        edit_time: row.try_get::<Option<i64>, _>(first + 7)?.map(Timestamp::from_millis),
        deletion: delete_time
            .zip(deleted_by)
            .map(|(time, by)| Deletion { time: Timestamp::from_millis(time), by: by.into() }),
        version: i32::try_from(row.try_get::<i64, _>(first + 10)?).unwrap_or(i32::MAX),
    })
}

/// Reads the columns of an event.
fn event(row: &Row) -> Result<Event, Failure> {
    const MESSAGE: usize = 7;
    let conversation = conversation_at(row, 0)?;
    let kind: String = row.try_get(2)?;
    let about = || message(conversation, row, MESSAGE);
    let what = match kind.as_str() {
        "message_created" => Happening::MessageCreated(about()?),
        "message_edited" => Happening::MessageEdited(about()?),
        "message_deleted" => {
            let message = about()?;
            Happening::MessageDeleted { message_id: message.message_id, sequence: message.sequence }
        }
        word => Happening::ToConversation {
            kind: FactKind::parse(word).ok_or_else(|| Failure::corrupt("an event is of no known kind"))?,
            payload: row.try_get::<Option<Vec<u8>>, _>(6)?.unwrap_or_default(),
        },
    };
    Ok(Event {
        conversation,
        sequence: sequence_at(row, 1)?,
        membership_version: row.try_get(4)?,
        occur_time: time_at(row, 5)?,
        actor: row.try_get::<Option<Uuid>, _>(3)?.map(UserId::from),
        what,
    })
}
