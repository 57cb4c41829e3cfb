//! Accounts that are gone: their rows, and what goes with them. A step takes the row first, so that it happens once; then the
//! heads of conversations, then those of users' logs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chassis::clock::Timestamp;
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::DeletionReason;
use sqlx::{QueryBuilder, Row as _};
use uuid::Uuid;

use super::erase::{Going, push_places, tombstone};
use super::log::{Advance, advance_heads};
use super::revise::{Revising, rewrite};
use super::user_log::lock_users;
use super::{Db, Row, Store, Tx, conversation_at, padded, requests, sequence_at, time_at, user_at};
use crate::conversations::Access;
use crate::departure::{AGAIN, Departure, Left, Next, Spot, Stage, Written};
use crate::emoji::Emoji;
use crate::error::Error;
use crate::event::Event;
use crate::marks::Mark;
use crate::message::{Deletion, Sequence};
use crate::revision::{Change, Revision};
use crate::store::{Failure, MAX_ROWS};

/// How many rows of each table one step takes away of what only the user has seen.
const ROWS: i64 = 256;

/// What only the user has seen, some rows at a time.
const REST: [&str; 9] = [
    "DELETE FROM watermarks WHERE user_id = $1 AND conversation_id IN
         (SELECT conversation_id FROM watermarks WHERE user_id = $1 LIMIT $2)",
    "DELETE FROM alerts WHERE user_id = $1 AND alert_id IN
         (SELECT alert_id FROM alerts WHERE user_id = $1 LIMIT $2)",
    "DELETE FROM hidden_messages WHERE user_id = $1 AND (conversation_id, message_sequence) IN
         (SELECT conversation_id, message_sequence FROM hidden_messages WHERE user_id = $1 LIMIT $2)",
    "DELETE FROM paces WHERE user_id = $1 AND conversation_id IN
         (SELECT conversation_id FROM paces WHERE user_id = $1 LIMIT $2)",
    "DELETE FROM user_events WHERE user_id = $1 AND sequence IN
         (SELECT sequence FROM user_events WHERE user_id = $1 ORDER BY sequence LIMIT $2)",
    "DELETE FROM stream_checkpoints WHERE user_id = $1 AND checkpoint_id IN
         (SELECT checkpoint_id FROM stream_checkpoints WHERE user_id = $1 LIMIT $2)",
    // A report that names itself as who made it was made by nobody: so each is still the only one of its maker.
    "UPDATE reports SET reporter_id = report_id WHERE reporter_id = $1 AND report_id IN
         (SELECT report_id FROM reports WHERE reporter_id = $1 LIMIT $2)",
    "DELETE FROM upload_usage WHERE user_id = $1 AND $2 > 0",
    // What others' messages refer to stays for as long as they do.
    "UPDATE uploads SET sweep_time = 0 WHERE user_id = $1 AND upload_id IN
         (SELECT u.upload_id FROM uploads u WHERE u.user_id = $1 AND (u.sweep_time IS NULL OR u.sweep_time <> 0)
          AND NOT EXISTS (SELECT 1 FROM upload_references r WHERE r.upload_id = u.upload_id) LIMIT $2)",
];

/// Locks the heads of users' logs, then answers which of them are gone, for ever: nothing is made for those. Asked the other
/// way round, an account that goes in between would be left with what it never sees.
pub(super) async fn lock_present(tx: &mut Tx, users: &BTreeSet<UserId>) -> Result<BTreeSet<UserId>, Failure> {
    lock_users(tx, users).await?;
    let gone = departed(tx, users).await?;
    // To lock a head that is not there is to make it.
    for part in Vec::from_iter(gone.iter().copied()).chunks(MAX_ROWS) {
        let mut query =
            QueryBuilder::<Db>::new("DELETE FROM user_heads WHERE last_sequence = 0 AND user_id IN (");
        let mut list = query.separated(", ");
        for user in padded(part) {
            list.push_bind(user.uuid());
        }
        query.push(")").build().execute(&mut **tx).await?;
    }
    Ok(gone)
}

async fn departed(tx: &mut Tx, users: &BTreeSet<UserId>) -> Result<BTreeSet<UserId>, Failure> {
    let mut gone = BTreeSet::new();
    for part in Vec::from_iter(users.iter().copied()).chunks(MAX_ROWS) {
        let mut query = QueryBuilder::<Db>::new("SELECT user_id FROM departures WHERE user_id IN (");
        let mut list = query.separated(", ");
        for user in padded(part) {
            list.push_bind(user.uuid());
        }
        for row in query.push(")").build().fetch_all(&mut **tx).await? {
            gone.insert(user_at(&row, 0)?);
        }
    }
    Ok(gone)
}

/// Takes note that accounts are gone. Again changes nothing.
pub(super) async fn depart(tx: &mut Tx, users: &BTreeSet<UserId>, now: Timestamp) -> Result<(), Failure> {
    // Whoever makes something for one of them sees this row, or is done before and erased with the rest.
    lock_users(tx, users).await?;
    let start = Spot::start();
    for user in users {
        sqlx::query::<Db>(
            "INSERT INTO departures (user_id, stage, after_time, after_conversation, after_sequence, after_key, steps,
                 round, due_time, ready_time)
             VALUES ($1, 0, $2, $3, $4, $5, 0, 1, $6, $6) ON CONFLICT (user_id) DO NOTHING",
        )
        .bind(user.uuid())
        .bind(start.time.as_millis())
        .bind(start.conversation.uuid())
        .bind(start.sequence.get())
        .bind(start.key.clone())
        .bind(now.as_millis())
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Moves the row on; `false` when another replica has done this step.
async fn go_on(tx: &mut Tx, departure: &Departure, next: &Next, now: Timestamp) -> Result<bool, Failure> {
    let start = Spot::start();
    let (stage, after, round, due) = match next {
        Next::After(spot) => (departure.stage, spot, departure.round, Some(now)),
        Next::Stage(stage) => (*stage, &start, departure.round, Some(now)),
        Next::Again => (Stage::Messages, &start, departure.round + 1, Some(now.plus(AGAIN))),
        Next::Done => (departure.stage, &start, departure.round, None),
    };
    let moved = sqlx::query::<Db>(
        "UPDATE departures SET stage = $3, after_time = $4, after_conversation = $5, after_sequence = $6, after_key = $7,
             steps = $8, round = $9, due_time = $10, ready_time = $10, failures = 0
         WHERE user_id = $1 AND steps = $2",
    )
    .bind(departure.user.uuid())
    .bind(departure.steps)
    .bind(stage.number())
    .bind(after.time.as_millis())
    .bind(after.conversation.uuid())
    .bind(after.sequence.get())
    .bind(after.key.clone())
    .bind(departure.steps + 1)
    .bind(round)
    .bind(due.map(Timestamp::as_millis))
    .execute(&mut **tx)
    .await?;
    Ok(moved.rows_affected() == 1)
}

impl Store {
    pub async fn departures(&self, now: Timestamp, limit: i64) -> Result<Vec<Departure>, Failure> {
        let rows = sqlx::query::<Db>(
            "SELECT user_id, stage, after_time, after_conversation, after_sequence, after_key, steps, round,
                 failures
             FROM departures WHERE due_time <= $1 ORDER BY due_time LIMIT $2",
        )
        .bind(now.as_millis())
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        rows.iter()
            .map(|row| {
                let stage = Stage::parse(row.try_get(1)?);
                let after = Spot {
                    time: time_at(row, 2)?,
                    conversation: conversation_at(row, 3)?,
                    sequence: sequence_at(row, 4)?,
                    key: row.try_get(5)?,
                };
                Ok(Departure {
                    user: user_at(row, 0)?,
                    stage: stage.ok_or_else(|| Failure::corrupt("what is to be erased is not known"))?,
                    after,
                    steps: row.try_get(6)?,
                    round: row.try_get(7)?,
                    failures: row.try_get(8)?,
                })
            })
            .collect()
    }

    pub async fn put_off_departure(&self, departure: &Departure, until: Timestamp) -> Result<(), Failure> {
        let mut tx = self.pool.begin().await?;
        // Of replicas that failed at the same step at once one counts it.
        sqlx::query::<Db>(
            "UPDATE departures SET due_time = $4, failures = failures + 1
             WHERE user_id = $1 AND steps = $2 AND failures = $3 AND due_time IS NOT NULL",
        )
        .bind(departure.user.uuid())
        .bind(departure.steps)
        .bind(departure.failures)
        .bind(until.as_millis())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    pub async fn departure_ready(&self, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
        let since: Option<i64> =
            sqlx::query_scalar("SELECT MIN(ready_time) FROM departures WHERE ready_time <= $1")
                .bind(now.as_millis())
                .fetch_one(self.pool.read())
                .await?;
        Ok(since.map(Timestamp::from_millis))
    }

    pub async fn written(&self, user: UserId, after: &Spot, limit: i64) -> Result<Vec<Written>, Failure> {
        let rows = sqlx::query::<Db>(
            "SELECT m.create_time, m.conversation_id, m.sequence, m.message_id, m.membership_version FROM messages m
             WHERE m.sender_id = $1 AND m.create_time >= $2 AND (m.create_time, m.conversation_id, m.sequence) > ($2, $3, $4)
             ORDER BY m.create_time, m.conversation_id, m.sequence LIMIT $5",
        )
        .bind(user.uuid())
        .bind(after.time.as_millis())
        .bind(after.conversation.uuid())
        .bind(after.sequence.get())
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        rows.iter()
            .map(|row| {
                let spot = Spot {
                    time: time_at(row, 0)?,
                    conversation: conversation_at(row, 1)?,
                    sequence: sequence_at(row, 2)?,
                    key: String::new(),
                };
                let message_id = row.try_get::<Uuid, _>(3)?.into();
                Ok(Written { spot, message_id, membership_version: row.try_get(4)? })
            })
            .collect()
    }

    pub async fn erase_written(
        &self,
        departure: &Departure,
        written: &[Written],
        versions: &HashMap<ConversationId, i64>,
        now: Timestamp,
    ) -> Result<Vec<Event>, Failure> {
        let mut tx = self.pool.begin().await?;
        let last = written.last().map(|one| &one.spot);
        let next = departure.next(written.len(), crate::departure::MESSAGES, last);
        if !go_on(&mut tx, departure, &next, now).await? {
            tx.rollback().await?;
            return Ok(Vec::new());
        }
        let locks = written.iter().map(|one| (one.spot.conversation, Advance::LOCK));
        let heads = advance_heads(&mut tx, &locks.collect()).await?;
        let written: Vec<_> =
            written.iter().filter(|one| heads.contains_key(&one.spot.conversation)).collect();
        // Looked at again under the locks. What was purged has had its event, and is erased with the rest of its place.
        let mut going = Vec::with_capacity(written.len());
        for part in written.chunks(MAX_ROWS) {
            let mut query = QueryBuilder::<Db>::new(
                "SELECT m.conversation_id, m.sequence, m.message_id, m.membership_version
                 FROM messages m JOIN conversation_heads h ON h.conversation_id = m.conversation_id
                 WHERE m.delete_time IS NULL AND m.sequence > h.purged_sequence
                 AND (m.conversation_id, m.sequence) IN (",
            );
            let places: Vec<_> = part.iter().map(|one| (one.spot.conversation, one.spot.sequence)).collect();
            push_places(&mut query, &places);
            query.push(") ORDER BY m.conversation_id, m.sequence");
            for row in query.build().fetch_all(&mut *tx).await? {
                let conversation = conversation_at(&row, 0)?;
                let sent_under = row.try_get(3)?;
                going.push(Going {
                    conversation,
                    sequence: sequence_at(&row, 1)?,
                    message_id: row.try_get::<Uuid, _>(2)?.into(),
                    membership_version: versions.get(&conversation).copied().unwrap_or(sent_under),
                });
            }
        }
        let deletion = Deletion { time: now, by: None, reason: DeletionReason::Deleted };
        let events = tombstone(&mut tx, &going, deletion).await?;
        tx.commit().await?;
        Ok(events)
    }

    pub async fn left(
        &self,
        user: UserId,
        stage: Stage,
        after: &Spot,
        limit: i64,
    ) -> Result<Vec<Left>, Failure> {
        let text = match stage {
            Stage::Reactions => {
                "SELECT x.conversation_id, x.message_sequence, m.message_id, m.membership_version, x.emoji FROM reactions x
                 JOIN messages m ON m.conversation_id = x.conversation_id AND m.sequence = x.message_sequence
                 WHERE x.user_id = $1 AND (x.conversation_id, x.message_sequence, x.emoji) > ($2, $3, $4)
                 ORDER BY x.conversation_id, x.message_sequence, x.emoji LIMIT $5"
            }
            // One for each message, however many options were chosen.
            Stage::Votes => {
                "SELECT x.conversation_id, x.message_sequence, m.message_id, m.membership_version, CAST($4 AS TEXT) FROM (
                     SELECT DISTINCT conversation_id, message_sequence FROM votes
                     WHERE user_id = $1 AND (conversation_id, message_sequence) > ($2, $3)
                     ORDER BY conversation_id, message_sequence LIMIT $5) x
                 JOIN messages m ON m.conversation_id = x.conversation_id AND m.sequence = x.message_sequence
                 ORDER BY x.conversation_id, x.message_sequence"
            }
            Stage::Pins => {
                "SELECT x.conversation_id, x.message_sequence, m.message_id, m.membership_version, CAST($4 AS TEXT) FROM pins x
                 JOIN messages m ON m.conversation_id = x.conversation_id AND m.sequence = x.message_sequence
                 WHERE x.user_id = $1 AND (x.conversation_id, x.message_sequence) > ($2, $3)
                 ORDER BY x.conversation_id, x.message_sequence LIMIT $5"
            }
            Stage::Messages | Stage::Rest => return Ok(Vec::new()),
        };
        let rows = sqlx::query::<Db>(text)
            .bind(user.uuid())
            .bind(after.conversation.uuid())
            .bind(after.sequence.get())
            .bind(after.key.clone())
            .bind(limit)
            .fetch_all(self.pool.read())
            .await?;
        rows.iter().map(|row| left_at(row, stage)).collect()
    }

    pub async fn take_back(
        &self,
        departure: &Departure,
        left: &[Left],
        versions: &HashMap<ConversationId, i64>,
        now: Timestamp,
    ) -> Result<Vec<Event>, Error> {
        let mut tx = self.pool.begin().await?;
        let last = left.last().map(|one| &one.spot);
        let next = departure.next(left.len(), crate::departure::MARKS, last);
        if !go_on(&mut tx, departure, &next, now).await? {
            tx.rollback().await?;
            return Ok(Vec::new());
        }
        let locks: BTreeMap<_, _> = left.iter().map(|one| (one.spot.conversation, Advance::LOCK)).collect();
        let mut heads = advance_heads(&mut tx, &locks).await?;
        let (mut events, mut grown) = (Vec::with_capacity(left.len()), BTreeMap::new());
        for one in left {
            let conversation = one.spot.conversation;
            let Some(last) = heads.get_mut(&conversation) else { continue };
            let revision = Revision {
                conversation,
                message_id: one.message_id,
                by: departure.user,
                change: Change::Mark(one.undo.clone()),
                mentions: Vec::new(),
                is_signed: false,
            };
            let version = versions.get(&conversation).copied().unwrap_or(one.membership_version);
            let access = Access::of_the_service(version);
            let sequence = Sequence::new(*last + 1);
            let rewritten = rewrite(&mut tx, &revision, &access, sequence, now).await;
            match rewritten {
                Ok(Revising::Changed { event, .. }) => {
                    *last += 1;
                    grown.entry(conversation).or_insert(Advance::events(0)).events += 1;
                    events.push(event);
                }
                // It goes, or is gone, with the message.
                Ok(Revising::Same(_)) | Err(Error::MessageDeleted(_) | Error::MessageNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        advance_heads(&mut tx, &grown).await?;
        tx.commit().await?;
        Ok(events)
    }

    pub async fn erase_rest(&self, departure: &Departure, now: Timestamp) -> Result<(), Failure> {
        let mut tx = self.pool.begin().await?;
        // What is known of requests changes under the heads of their conversations.
        let asked = requests::requested(&mut tx, departure.user, ROWS).await?;
        let locks = asked.iter().map(|conversation| (*conversation, Advance::LOCK));
        advance_heads(&mut tx, &locks.collect()).await?;
        lock_users(&mut tx, &BTreeSet::from([departure.user])).await?;
        requests::forget(&mut tx, departure.user, &asked).await?;
        let mut most = u64::try_from(asked.len()).unwrap_or(u64::MAX);
        for text in REST {
            let query = sqlx::query::<Db>(text).bind(departure.user.uuid()).bind(ROWS);
            most = most.max(query.execute(&mut *tx).await?.rows_affected());
        }
        let found = usize::try_from(most).unwrap_or(usize::MAX);
        let next = departure.next(found, ROWS, Some(&departure.after));
        if !go_on(&mut tx, departure, &next, now).await? {
            return Ok(tx.rollback().await?);
        }
        if matches!(next, Next::Again | Next::Done) {
            for text in
                ["DELETE FROM user_heads WHERE user_id = $1", "DELETE FROM reporters WHERE user_id = $1"]
            {
                sqlx::query::<Db>(text).bind(departure.user.uuid()).execute(&mut *tx).await?;
            }
        }
        Ok(tx.commit().await?)
    }
}

fn left_at(row: &Row, stage: Stage) -> Result<Left, Failure> {
    let key: String = row.try_get(4)?;
    let undo = match stage {
        Stage::Reactions => Mark::Unreact(Emoji::stored(key.clone())),
        Stage::Votes => Mark::Withdraw,
        _ => Mark::Disown,
    };
    let spot = Spot {
        time: Timestamp::from_millis(0),
        conversation: conversation_at(row, 0)?,
        sequence: sequence_at(row, 1)?,
        key: if stage == Stage::Reactions { key } else { String::new() },
    };
    Ok(Left {
        spot,
        message_id: row.try_get::<Uuid, _>(2)?.into(),
        membership_version: row.try_get(3)?,
        undo,
    })
}
