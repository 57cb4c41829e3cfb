//! The store: one text of SQL for both databases, compiled once for each. The operations are beside this file, by what
//! they are about; here is what they share.

#[path = "alerts.rs"]
mod alerts;
#[path = "append.rs"]
mod append;
#[path = "departures.rs"]
mod departures;
#[path = "erase.rs"]
mod erase;
#[path = "facts.rs"]
mod facts;
#[path = "hidden.rs"]
mod hidden;
#[path = "history.rs"]
mod history;
#[path = "log.rs"]
mod log;
#[path = "marks.rs"]
mod marks;
#[path = "own.rs"]
mod own;
#[path = "paces.rs"]
mod paces;
#[path = "period.rs"]
mod period;
#[path = "preview.rs"]
mod preview;
#[path = "purge.rs"]
mod purge;
#[path = "reports.rs"]
mod reports;
#[path = "requests.rs"]
mod requests;
#[path = "revise.rs"]
mod revise;
#[path = "revisions.rs"]
mod revisions;
#[path = "search.rs"]
mod search;
#[path = "stream_checkpoints.rs"]
mod stream_checkpoints;
#[path = "sweep.rs"]
mod sweep;
#[path = "uploads.rs"]
mod uploads;
#[path = "user_log.rs"]
mod user_log;
#[path = "watermarks.rs"]
mod watermarks;

use chassis::clock::{Clock, Timestamp};
use proto::id::{ConversationId, EventId, MessageId, UserId};
use proto::messaging::v1::DeletionReason;
use sqlx::Row as _;
use uuid::Uuid;

use super::{Db, FOR_UPDATE, LISTED, MATCHES, MATCHING, PLACEHOLDERS, Pool, Row, Tx, feeds};
use crate::content::Content;
use crate::details::Details;
use crate::event::{Event, FactKind, Happening, MessageChange};
use crate::message::{ClientMessageId, Deletion, Message, Sequence};
use crate::store::Failure;

/// The columns of a message, as [`message`] reads them.
macro_rules! message_columns {
    () => {
        "m.sequence, m.message_id, m.sender_id, m.client_message_id, m.content, m.reply_to, m.create_time, \
         m.edit_time, m.delete_time, m.deleted_by, m.version, m.expire_time, m.delete_reason, m.details, \
         mh.purged_sequence, mh.purge_time, mh.purged_by"
    };
}

/// Where the columns of a message come from.
macro_rules! messages {
    () => {
        "messages m JOIN conversation_heads mh ON mh.conversation_id = m.conversation_id"
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

use {event_columns, message_columns, messages, other_events, sent_messages};

/// The operations on this database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: Pool,
    clock: Clock,
}

impl Store {
    pub fn new(pool: Pool, clock: Clock) -> Self {
        Self { pool, clock }
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

/// Reads the columns of a message, which begin at `first`, as it is at a time: what has expired or was purged is gone, whether
/// or not it has been erased yet. Everything that reads messages comes through here.
fn message(
    conversation: ConversationId,
    row: &Row,
    first: usize,
    now: Timestamp,
) -> Result<Message, Failure> {
    let message = stored_message(conversation, row, first)?;
    let purged_up_to = sequence_at(row, first + 14)?;
    if message.deletion.is_none() && message.sequence <= purged_up_to {
        let deletion = Deletion {
            time: time_at(row, first + 15)?,
            by: row.try_get::<Option<Uuid>, _>(first + 16)?.map(UserId::from),
            reason: DeletionReason::Purged,
        };
        return Ok(message.tombstone(deletion));
    }
    Ok(message.at(now))
}

fn stored_message(conversation: ConversationId, row: &Row, first: usize) -> Result<Message, Failure> {
    let time = |column| Ok::<_, Failure>(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_millis));
    let bytes = |column| row.try_get::<Option<Vec<u8>>, _>(column);
    let reason = row.try_get::<Option<i64>, _>(first + 12)?.and_then(|number| i32::try_from(number).ok());
    let deletion = match time(first + 8)? {
        Some(time) => Some(Deletion {
            time,
            by: row.try_get::<Option<Uuid>, _>(first + 9)?.map(UserId::from),
            // Those that were deleted before there were reasons have none.
            reason: reason
                .map_or(Ok(DeletionReason::Deleted), DeletionReason::try_from)
                .map_err(|_| Failure::corrupt("a message went in no known way"))?,
        }),
        None => None,
    };
    Ok(Message {
        message_id: row.try_get::<Uuid, _>(first + 1)?.into(),
        conversation,
        sequence: sequence_at(row, first)?,
        sender: user_at(row, first + 2)?,
        client_message_id: row.try_get::<Option<String>, _>(first + 3)?.map(ClientMessageId::stored),
        content: bytes(first + 4)?.map(|bytes| Content::decode(&bytes)).transpose()?,
        reply_to: row.try_get::<Option<Uuid>, _>(first + 5)?.map(MessageId::from),
        create_time: time_at(row, first + 6)?,
        edit_time: time(first + 7)?,
        expire_time: time(first + 11)?,
        deletion,
        version: i32::try_from(row.try_get::<i64, _>(first + 10)?).unwrap_or(i32::MAX),
        details: bytes(first + 13)?.map(|bytes| Details::decode(&bytes)).transpose()?.unwrap_or_default(),
    })
}

/// Reads the columns of an event. What was done to a message that is gone reads as its deletion.
fn event(row: &Row, now: Timestamp) -> Result<Event, Failure> {
    const MESSAGE: usize = 7;
    let conversation = conversation_at(row, 0)?;
    let kind: String = row.try_get(2)?;
    let payload = || Ok::<_, Failure>(row.try_get::<Option<Vec<u8>>, _>(6)?.unwrap_or_default());
    let about = || message(conversation, row, MESSAGE, now);
    let deletion = |message: &Message| Happening::MessageDeleted {
        message_id: message.message_id,
        sequence: message.sequence,
        reason: message.deletion.map_or(DeletionReason::Deleted, |deletion| deletion.reason),
    };
    let what = match kind.as_str() {
        "message_created" => Happening::MessageCreated(about()?),
        "message_edited" => Happening::MessageEdited(about()?),
        "message_deleted" => deletion(&about()?),
        word if MessageChange::is_kind(word) => match about()? {
            gone if gone.deletion.is_some() => deletion(&gone),
            there => Happening::ToMessage {
                sequence: there.sequence,
                payload: MessageChange::decode(&payload()?)?,
            },
        },
        word => Happening::ToConversation {
            kind: FactKind::parse(word).ok_or_else(|| Failure::corrupt("an event is of no known kind"))?,
            payload: payload()?,
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
