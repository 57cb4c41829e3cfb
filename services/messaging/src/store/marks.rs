//! Reactions, pins and votes: their rows, which change together with the counts on the message.

use std::collections::HashMap;

use chassis::clock::Timestamp;
use proto::id::{ConversationId, UserId};
use sqlx::{QueryBuilder, Row as _};
use uuid::Uuid;

use super::hidden::not_hidden;
use super::{
    Db, PLACEHOLDERS, Row, Store, Tx, conversation_at, message, message_columns, messages, padded,
    sequence_at, time_at, user_at,
};
use crate::marks::{Beside, Choice, Mark, Marks, Reaction, Vote, poll};
use crate::message::{Message, Sequence};
use crate::revision::{Change, Revision};
use crate::store::rows::Rows;
use crate::store::{Failure, MAX_ROWS};

static INSERT_VOTES: Rows = Rows::new(
    PLACEHOLDERS,
    "INSERT INTO votes (conversation_id, message_sequence, user_id, slot, option_index) VALUES",
    5,
    "",
);

impl Store {
    pub async fn reactions(
        &self,
        conversation: ConversationId,
        message: Sequence,
        after: Option<&Reaction>,
        limit: i64,
    ) -> Result<Vec<Reaction>, Failure> {
        let rows = sqlx::query::<Db>(
            "SELECT create_time, user_id, emoji FROM reactions WHERE conversation_id = $1 AND message_sequence = $2
             AND (create_time, user_id, emoji) > ($3, $4, $5) ORDER BY create_time, user_id, emoji LIMIT $6",
        )
        .bind(conversation.uuid())
        .bind(message.get())
        .bind(after.map_or(i64::MIN, |after| after.create_time.as_millis()))
        .bind(after.map_or(Uuid::nil(), |after| after.user.uuid()))
        .bind(after.map_or("", |after| after.emoji.as_str()).to_owned())
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        let reaction = |row: &Row| {
            Ok(Reaction { create_time: time_at(row, 0)?, user: user_at(row, 1)?, emoji: row.try_get(2)? })
        };
        rows.iter().map(reaction).collect()
    }

    pub async fn votes(
        &self,
        conversation: ConversationId,
        message: Sequence,
        after: Option<UserId>,
        limit: i64,
    ) -> Result<Vec<Vote>, Failure> {
        let rows = sqlx::query::<Db>(
            "SELECT user_id, option_index FROM votes WHERE conversation_id = $1 AND message_sequence = $2
             AND user_id IN (SELECT DISTINCT user_id FROM votes WHERE conversation_id = $1 AND message_sequence = $2
                 AND user_id > $3 ORDER BY user_id LIMIT $4)
             ORDER BY user_id, option_index",
        )
        .bind(conversation.uuid())
        .bind(message.get())
        .bind(after.map_or(Uuid::nil(), UserId::uuid))
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        let mut votes: Vec<Vote> = Vec::new();
        for row in &rows {
            let (user, place) = (user_at(row, 0)?, place_at(row, 1)?);
            match votes.last_mut() {
                Some(vote) if vote.user == user => vote.places.push(place),
                _ => votes.push(Vote { user, places: vec![place] }),
            }
        }
        Ok(votes)
    }

    pub async fn pinned(&self, user: UserId, conversation: ConversationId) -> Result<Vec<Message>, Failure> {
        let rows = sqlx::query::<Db>(concat!(
            "SELECT ",
            message_columns!(),
            // The few pins outside, the messages inside.
            " FROM pins p CROSS JOIN ",
            messages!(),
            " WHERE p.conversation_id = $1",
            " AND m.conversation_id = p.conversation_id AND m.sequence = p.message_sequence AND ",
            not_hidden!("$2"),
            " ORDER BY p.pin_time DESC, p.message_sequence DESC"
        ))
        .bind(conversation.uuid())
        .bind(user.uuid())
        .fetch_all(self.pool.read())
        .await?;
        let now = self.clock.now();
        let messages = rows.iter().map(|row| message(conversation, row, 0, now));
        messages.filter(|message| !message.as_ref().is_ok_and(|message| message.deletion.is_some())).collect()
    }

    pub async fn marks_of(
        &self,
        user: UserId,
        places: &[(ConversationId, Sequence)],
    ) -> Result<HashMap<(ConversationId, Sequence), Marks>, Failure> {
        let mut found: HashMap<_, Marks> = HashMap::new();
        for part in places.chunks(MAX_ROWS) {
            let mut query = QueryBuilder::<Db>::new("WITH wanted(conversation_id, sequence) AS (");
            // What fills the list up asks for nothing, so that nothing comes twice.
            let place = |(index, (conversation, sequence)): (usize, (ConversationId, Sequence))| {
                (conversation, if index < part.len() { sequence } else { Sequence::NONE })
            };
            query.push_values(padded(part).enumerate().map(place), |mut row, (conversation, sequence)| {
                row.push_bind(conversation.uuid()).push_bind(sequence.get());
            });
            query.push(
                ") SELECT x.conversation_id, x.message_sequence, x.emoji, CAST(NULL AS BIGINT) AS place, x.create_time
                   FROM wanted w CROSS JOIN reactions x WHERE x.conversation_id = w.conversation_id
                   AND x.message_sequence = w.sequence AND x.user_id = ",
            );
            query.push_bind(user.uuid()).push(
                " UNION ALL SELECT x.conversation_id, x.message_sequence, NULL, x.option_index, 0
                   FROM wanted w CROSS JOIN votes x WHERE x.conversation_id = w.conversation_id
                   AND x.message_sequence = w.sequence AND x.user_id = ",
            );
            query.push_bind(user.uuid()).push(" ORDER BY 5, 3, 4");
            for row in query.build().fetch_all(self.pool.read()).await? {
                let marks = found.entry((conversation_at(&row, 0)?, sequence_at(&row, 1)?)).or_default();
                match row.try_get(2)? {
                    Some(emoji) => marks.reactions.push(emoji),
                    None => marks.votes.push(place_at(&row, 3)?),
                }
            }
        }
        Ok(found)
    }
}

/// Reads what a mark has to know. Under the lock of the head it stays true until the commit.
pub(super) async fn beside(
    tx: &mut Tx,
    revision: &Revision,
    message: Sequence,
    now: Timestamp,
) -> Result<Beside, Failure> {
    let mut beside = Beside::default();
    let Change::Mark(mark) = &revision.change else { return Ok(beside) };
    let own = match mark {
        Mark::React(_) | Mark::Unreact(_) => {
            "SELECT emoji FROM reactions WHERE conversation_id = $1 AND message_sequence = $2 AND user_id = $3"
        }
        Mark::Vote(_) | Mark::Withdraw => {
            "SELECT option_index FROM votes WHERE conversation_id = $1 AND message_sequence = $2 AND user_id = $3
             ORDER BY option_index"
        }
        Mark::Pin => {
            beside.pins = pins(tx, revision.conversation, now).await?;
            return Ok(beside);
        }
        Mark::Unpin | Mark::Disown | Mark::ClosePoll => return Ok(beside),
    };
    let rows = sqlx::query::<Db>(own)
        .bind(revision.conversation.uuid())
        .bind(message.get())
        .bind(revision.by.uuid())
        .fetch_all(&mut **tx)
        .await?;
    for row in &rows {
        match mark {
            Mark::Vote(_) | Mark::Withdraw => beside.own.votes.push(place_at(row, 0)?),
            _ => beside.own.reactions.push(row.try_get(0)?),
        }
    }
    Ok(beside)
}

/// How many messages are pinned. Those that are gone do not count, whether or not they have been erased yet.
async fn pins(tx: &mut Tx, conversation: ConversationId, now: Timestamp) -> Result<i64, Failure> {
    Ok(sqlx::query_scalar(concat!(
        "SELECT COUNT(*) FROM pins p CROSS JOIN ",
        messages!(),
        " WHERE p.conversation_id = $1",
        " AND m.conversation_id = p.conversation_id AND m.sequence = p.message_sequence",
        " AND m.delete_time IS NULL AND m.sequence > mh.purged_sequence",
        " AND (m.expire_time IS NULL OR m.expire_time > $2)"
    ))
    .bind(conversation.uuid())
    .bind(now.as_millis())
    .fetch_one(&mut **tx)
    .await?)
}

/// Writes the rows of a mark that changes something.
pub(super) async fn write(
    tx: &mut Tx,
    revision: &Revision,
    after: &Message,
    now: Timestamp,
) -> Result<(), Failure> {
    let Change::Mark(mark) = &revision.change else { return Ok(()) };
    let text = match mark {
        Mark::React(_) => {
            "INSERT INTO reactions (conversation_id, message_sequence, user_id, emoji, create_time)
             VALUES ($1, $2, $3, $4, $5)"
        }
        Mark::Unreact(_) => {
            "DELETE FROM reactions WHERE conversation_id = $1 AND message_sequence = $2 AND user_id = $3
             AND emoji = $4"
        }
        Mark::Pin => {
            "INSERT INTO pins (conversation_id, message_sequence, pin_time, user_id) VALUES ($1, $2, $3, $4)"
        }
        Mark::Unpin => "DELETE FROM pins WHERE conversation_id = $1 AND message_sequence = $2",
        Mark::Disown => "UPDATE pins SET user_id = NULL WHERE conversation_id = $1 AND message_sequence = $2",
        Mark::Vote(_) | Mark::Withdraw => {
            "DELETE FROM votes WHERE conversation_id = $1 AND message_sequence = $2 AND user_id = $3"
        }
        Mark::ClosePoll => return Ok(()),
    };
    let query = sqlx::query::<Db>(text).bind(after.conversation.uuid()).bind(after.sequence.get());
    let query = match mark {
        Mark::React(emoji) => {
            query.bind(revision.by.uuid()).bind(emoji.as_str().to_owned()).bind(now.as_millis())
        }
        Mark::Unreact(emoji) => query.bind(revision.by.uuid()).bind(emoji.as_str().to_owned()),
        Mark::Pin => query.bind(now.as_millis()).bind(revision.by.uuid()),
        Mark::Vote(_) | Mark::Withdraw => query.bind(revision.by.uuid()),
        Mark::Unpin | Mark::Disown | Mark::ClosePoll => query,
    };
    query.execute(&mut **tx).await?;
    match mark {
        Mark::Vote(choice) => insert_votes(tx, revision.by, after, choice).await,
        _ => Ok(()),
    }
}

async fn insert_votes(tx: &mut Tx, by: UserId, after: &Message, choice: &Choice) -> Result<(), Failure> {
    let is_multiple = poll(after).is_some_and(|poll| poll.multiple_choice);
    for (text, part) in INSERT_VOTES.parts(choice.places()) {
        let mut query = sqlx::query::<Db>(text);
        for &place in part {
            // One slot for all where a person may choose one option only: the key allows no second vote.
            let slot = if is_multiple { i64::from(place) } else { 0 };
            query = query
                .bind(after.conversation.uuid())
                .bind(after.sequence.get())
                .bind(by.uuid())
                .bind(slot)
                .bind(i64::from(place));
        }
        query.execute(&mut **tx).await?;
    }
    Ok(())
}

fn place_at(row: &Row, column: usize) -> Result<i32, Failure> {
    i32::try_from(row.try_get::<i64, _>(column)?).map_err(|_| Failure::corrupt("a vote is for no option"))
}
