//! The atomic operations on scheduled messages and timers. Compiled once per database.
//!
//! Locks are taken in one order everywhere: the author's row, the timer's row, the message's row. Claiming takes timers
//! only, and waits for none of them.

#[path = "availability.rs"]
mod availability;
#[path = "blocks.rs"]
mod blocks;
#[path = "bookings.rs"]
mod bookings;
#[path = "calls.rs"]
mod calls;
#[path = "deliveries.rs"]
mod deliveries;
#[path = "schedules.rs"]
mod schedules;

use std::time::Duration;

use chassis::clock::{Clock, Timestamp};
use chassis::database::facts;
use proto::id::{ScheduledMessageId, UserId};
use sqlx::AssertSqlSafe;
use tokio::time::Instant;
use uuid::Uuid;

use super::super::{Applied, Begun, Failure, Scheduled, Tried, code};
use super::{FOR_UPDATE, Pool, SKIP_LOCKED, Tx, feeds};
use crate::error::Error;
use crate::scheduled_message::{self, Changes, Content, Listing, Retry, ScheduledMessage, State, StateName};
use crate::timer::{Claim, Entry, Key, Kind, Return};
use deliveries::{arm, disarm, silence};

/// What a [`ScheduledMessage`] is made of, after `$before` and before `$after`.
macro_rules! with_columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " author_id, scheduled_message_id, conversation_id, content, send_time, state, message_id, failure_reason,
              create_time, update_time ",
            $after
        )
    };
}

#[derive(sqlx::FromRow)]
struct Record {
    author_id: Uuid,
    scheduled_message_id: Uuid,
    conversation_id: Uuid,
    content: Option<Vec<u8>>,
    send_time: i64,
    state: i64,
    message_id: Option<Uuid>,
    failure_reason: Option<String>,
    create_time: i64,
    update_time: i64,
}

impl Record {
    fn read(self) -> Result<ScheduledMessage, Error> {
        let state =
            match (code::state(self.state).map_err(Error::Store)?, self.message_id, self.failure_reason) {
                (StateName::Pending, None, None) => State::Pending,
                (StateName::Sent, Some(message_id), None) => State::Sent(message_id.into()),
                (StateName::Cancelled, None, None) => State::Cancelled,
                (StateName::Failed, None, Some(reason)) => State::Failed(reason),
                _ => return Err(Error::Store(Failure::Corrupt("a state without what belongs to it"))),
            };
        Ok(ScheduledMessage {
            id: self.scheduled_message_id.into(),
            author: self.author_id.into(),
            conversation: self.conversation_id.into(),
            content: self.content.map(Content::encoded),
            send_time: Timestamp::from_millis(self.send_time),
            state,
            create_time: Timestamp::from_millis(self.create_time),
            update_time: Timestamp::from_millis(self.update_time),
        })
    }
}

/// Scheduled messages and timers in a database.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    clock: Clock,
}

impl Store {
    pub fn new(pool: Pool, clock: Clock) -> Self {
        Self { pool, clock }
    }

    pub async fn now(&self) -> Result<Timestamp, Error> {
        Ok(super::now(&self.pool, &self.clock).await?)
    }
}

/// Scheduled messages.
impl Store {
    pub async fn find(
        &self,
        author: UserId,
        retry: Option<&Retry>,
    ) -> Result<Option<ScheduledMessage>, Error> {
        let Some(retry) = retry else { return Ok(None) };
        let first: Option<(Uuid, Vec<u8>)> = sqlx::query_as(FIND)
            .bind(author.uuid())
            .bind(retry.request_id)
            .fetch_optional(self.pool.read())
            .await?;
        match first {
            None => Ok(None),
            Some((id, fingerprint)) if fingerprint == retry.fingerprint => self.get(author, id.into()).await,
            Some(_) => Err(Error::RequestIdReused(retry.request_id)),
        }
    }

    pub async fn get(
        &self,
        author: UserId,
        id: ScheduledMessageId,
    ) -> Result<Option<ScheduledMessage>, Error> {
        let record: Option<Record> = sqlx::query_as(with_columns!(
            "SELECT",
            "FROM scheduled_messages WHERE author_id = $1 AND scheduled_message_id = $2"
        ))
        .bind(author.uuid())
        .bind(id.uuid())
        .fetch_optional(self.pool.read())
        .await?;
        record.map(Record::read).transpose()
    }

    pub async fn list(&self, listing: Listing) -> Result<Vec<ScheduledMessage>, Error> {
        // Before the first place: no time is as early, and no id as small.
        let (time, id) =
            listing.after.map_or((i64::MIN, Uuid::nil()), |(time, id)| (time.as_millis(), id.uuid()));
        let records: Vec<Record> = sqlx::query_as(with_columns!(
            "SELECT",
            "FROM scheduled_messages
             WHERE author_id = $1 AND (send_time, scheduled_message_id) > ($2, $3)
               AND ($4 IS NULL OR conversation_id = $4) AND ($5 IS NULL OR state = $5)
             ORDER BY send_time, scheduled_message_id LIMIT $6"
        ))
        .bind(listing.author.uuid())
        .bind(time)
        .bind(id)
        .bind(listing.conversation.map(|id| id.uuid()))
        .bind(listing.state.map(code::of_state))
        .bind(listing.limit.saturating_add(1))
        .fetch_all(self.pool.read())
        .await?;
        records.into_iter().map(Record::read).collect()
    }

    pub async fn schedule(
        &self,
        message: &ScheduledMessage,
        retry: Option<&Retry>,
        max_pending: u32,
    ) -> Result<Scheduled, Error> {
        let author = message.author.uuid();
        let mut tx = self.pool.begin().await?;
        // Locks the author until the end: what is counted here stays true.
        let delete_time: Option<i64> = sqlx::query_scalar(
            "INSERT INTO authors (author_id) VALUES ($1)
             ON CONFLICT (author_id) DO UPDATE SET author_id = excluded.author_id RETURNING delete_time",
        )
        .bind(author)
        .fetch_one(&mut *tx)
        .await?;
        if delete_time.is_some() {
            // Who is no more is nowhere a member.
            return Err(Error::ConversationNotFound(message.conversation));
        }
        if let Some(retry) = retry {
            let first: Option<(Uuid, Vec<u8>)> =
                sqlx::query_as(FIND).bind(author).bind(retry.request_id).fetch_optional(&mut *tx).await?;
            if first.is_some() {
                drop(tx);
                let first = self.find(message.author, Some(retry)).await?;
                return first.map(Scheduled::Already).ok_or(Error::Lost);
            }
        }
        let pending: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM scheduled_messages WHERE author_id = $1 AND state = 1")
                .bind(author)
                .fetch_one(&mut *tx)
                .await?;
        if pending >= i64::from(max_pending) {
            return Err(Error::TooManyPending { most: max_pending });
        }
        sqlx::query(
            "INSERT INTO scheduled_messages (author_id, scheduled_message_id, conversation_id, content, send_time, state,
                                             request_id, request_fingerprint, create_time, update_time)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
        )
        .bind(author)
        .bind(message.id.uuid())
        .bind(message.conversation.uuid())
        .bind(message.content.as_ref().map(|content| content.as_bytes().to_vec()))
        .bind(message.send_time.as_millis())
        .bind(code::of_state(message.state.name()))
        .bind(retry.map(|retry| retry.request_id))
        .bind(retry.map(|retry| retry.fingerprint.to_vec()))
        .bind(message.create_time.as_millis())
        .execute(&mut *tx)
        .await?;
        let due_time = scheduled_message::due(message.send_time, message.create_time);
        let entry =
            Entry { key: key(message.author, message.id), lane: message.conversation.uuid(), due_time };
        insert(&mut tx, entry).await?;
        tx.commit().await?;
        Ok(Scheduled::New)
    }

    pub async fn change(
        &self,
        author: UserId,
        id: ScheduledMessageId,
        changes: &Changes,
    ) -> Result<Tried, Error> {
        let now = self.now().await?;
        let mut tx = self.pool.begin().await?;
        let due_time = changes.send_time.map(|send_time| scheduled_message::due(send_time, now));
        if !reset(&mut tx, key(author, id), due_time).await? {
            drop(tx);
            return self.standing(author, id).await;
        }
        let record: Option<Record> = sqlx::query_as(with_columns!(
            "UPDATE scheduled_messages
             SET content = COALESCE($3, content), send_time = COALESCE($4, send_time), update_time = $5
             WHERE author_id = $1 AND scheduled_message_id = $2 AND state = 1 RETURNING",
            ""
        ))
        .bind(author.uuid())
        .bind(id.uuid())
        .bind(changes.content.as_ref().map(|content| content.as_bytes().to_vec()))
        .bind(changes.send_time.map(Timestamp::as_millis))
        .bind(now.as_millis())
        .fetch_optional(&mut *tx)
        .await?;
        done(tx, record).await
    }

    pub async fn cancel(&self, author: UserId, id: ScheduledMessageId) -> Result<Tried, Error> {
        let now = self.now().await?;
        let mut tx = self.pool.begin().await?;
        if !remove_untouched(&mut tx, key(author, id)).await? {
            drop(tx);
            return self.standing(author, id).await;
        }
        let record: Option<Record> = sqlx::query_as(with_columns!(
            "UPDATE scheduled_messages SET state = $3, content = NULL, update_time = $4
             WHERE author_id = $1 AND scheduled_message_id = $2 AND state = 1 RETURNING",
            ""
        ))
        .bind(author.uuid())
        .bind(id.uuid())
        .bind(code::of_state(StateName::Cancelled))
        .bind(now.as_millis())
        .fetch_optional(&mut *tx)
        .await?;
        done(tx, record).await
    }

    /// What is there instead of one that is pending and untouched.
    async fn standing(&self, author: UserId, id: ScheduledMessageId) -> Result<Tried, Error> {
        let message = self.get(author, id).await?.ok_or(Error::NotFound(id))?;
        Ok(if message.state.is_final() { Tried::Final(message) } else { Tried::BeingSent })
    }

    pub async fn begin(
        &self,
        author: UserId,
        id: ScheduledMessageId,
        lease: Duration,
    ) -> Result<Begun, Error> {
        let since = Instant::now();
        let now = self.now().await?;
        let mut tx = self.pool.begin().await?;
        let Some(claim) = claim_one(&mut tx, key(author, id), lease, (now, since)).await? else {
            drop(tx);
            return Ok(match self.standing(author, id).await? {
                Tried::Final(message) => Begun::Final(message),
                Tried::Done(_) | Tried::BeingSent => Begun::BeingSent,
            });
        };
        // It is never sent before its time: its time is now.
        sqlx::query(
            "UPDATE scheduled_messages SET send_time = $3, update_time = $3
             WHERE author_id = $1 AND scheduled_message_id = $2 AND send_time > $3",
        )
        .bind(author.uuid())
        .bind(id.uuid())
        .bind(now.as_millis())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Begun::Claimed(claim))
    }

    pub async fn finish(&self, claim: &Claim, end: &State) -> Result<Option<ScheduledMessage>, Error> {
        let now = self.now().await?;
        let mut tx = self.pool.begin().await?;
        // Locked: a deletion of the author either sees what is written here, or is seen here.
        let delete_time: Option<Option<i64>> = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT delete_time FROM authors WHERE author_id = $1{FOR_UPDATE}"
        )))
        .bind(claim.key.owner.uuid())
        .fetch_optional(&mut *tx)
        .await?;
        if !remove_claimed(&mut tx, claim).await? {
            return Ok(None);
        }
        let (message_id, failure_reason) = match end {
            State::Sent(message_id) => (Some(message_id.uuid()), None),
            State::Failed(reason) => (None, Some(reason.as_str())),
            State::Pending | State::Cancelled => (None, None),
        };
        let record: Option<Record> = sqlx::query_as(with_columns!(
            "UPDATE scheduled_messages
             SET state = $3, message_id = $4, failure_reason = $5, update_time = $6,
                 content = CASE WHEN $7 THEN content END
             WHERE author_id = $1 AND scheduled_message_id = $2 AND state = 1 RETURNING",
            ""
        ))
        .bind(claim.key.owner.uuid())
        .bind(claim.key.id)
        .bind(code::of_state(end.name()))
        .bind(message_id)
        .bind(failure_reason)
        .bind(now.as_millis())
        .bind(end.keeps_content(delete_time.flatten().is_some()))
        .fetch_optional(&mut *tx)
        .await?;
        match done(tx, record).await? {
            Tried::Done(message) => Ok(Some(message)),
            Tried::Final(_) | Tried::BeingSent => Ok(None),
        }
    }
}

const FIND: &str = "SELECT scheduled_message_id, request_fingerprint FROM scheduled_messages
                    WHERE author_id = $1 AND request_id = $2";

fn key(author: UserId, id: ScheduledMessageId) -> Key {
    Key { owner: author, kind: Kind::ScheduledMessage, id: id.uuid() }
}

/// Commits the change of a message whose timer was there, so that it must have been pending.
async fn done(tx: Tx, record: Option<Record>) -> Result<Tried, Error> {
    let record = record.ok_or(Error::Store(Failure::Corrupt("a timer without a pending message")))?;
    let message = record.read()?;
    tx.commit().await?;
    Ok(Tried::Done(message))
}

/// Timers. These take part in the transaction of the thing that they stand for.
async fn insert(tx: &mut Tx, entry: Entry) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO timers (owner_id, kind, id, lane, due_time, wake_time) VALUES ($1, $2, $3, $4, $5, $5)",
    )
    .bind(entry.key.owner.uuid())
    .bind(code::of_kind(entry.key.kind))
    .bind(entry.key.id)
    .bind(entry.lane)
    .bind(entry.due_time.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Sets when it is due, or leaves that as it is, if nobody has claimed it or may have done it. Holds the row until the
/// end of the transaction, so that nobody claims it meanwhile.
async fn reset(tx: &mut Tx, key: Key, due_time: Option<Timestamp>) -> sqlx::Result<bool> {
    let updated = sqlx::query(
        "UPDATE timers SET due_time = COALESCE($4, due_time), wake_time = COALESCE($4, wake_time)
         WHERE owner_id = $1 AND kind = $2 AND id = $3 AND NOT claimed AND NOT in_doubt",
    )
    .bind(key.owner.uuid())
    .bind(code::of_kind(key.kind))
    .bind(key.id)
    .bind(due_time.map(Timestamp::as_millis))
    .execute(&mut **tx)
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// Removes it, if nobody has claimed it or may have done it.
async fn remove_untouched(tx: &mut Tx, key: Key) -> sqlx::Result<bool> {
    let removed = sqlx::query(
        "DELETE FROM timers WHERE owner_id = $1 AND kind = $2 AND id = $3 AND NOT claimed AND NOT in_doubt",
    )
    .bind(key.owner.uuid())
    .bind(code::of_kind(key.kind))
    .bind(key.id)
    .execute(&mut **tx)
    .await?;
    Ok(removed.rows_affected() == 1)
}

/// Removes what was claimed, if this claim is the last.
async fn remove_claimed(tx: &mut Tx, claim: &Claim) -> sqlx::Result<bool> {
    let removed = sqlx::query(
        "DELETE FROM timers WHERE owner_id = $1 AND kind = $2 AND id = $3 AND claimed AND attempt = $4",
    )
    .bind(claim.key.owner.uuid())
    .bind(code::of_kind(claim.key.kind))
    .bind(claim.key.id)
    .bind(claim.attempt)
    .execute(&mut **tx)
    .await?;
    Ok(removed.rows_affected() == 1)
}

/// Claims one, whether it is due or not and whatever is before it, unless somebody has it. It is due now.
async fn claim_one(
    tx: &mut Tx,
    key: Key,
    lease: Duration,
    (now, since): (Timestamp, Instant),
) -> sqlx::Result<Option<Claim>> {
    let claimed: Option<(i64, i64, bool)> = sqlx::query_as(
        "UPDATE timers
         SET in_doubt = in_doubt OR claimed, claimed = TRUE, attempt = attempt + 1, wake_time = $5,
             due_time = CASE WHEN due_time > $4 THEN $4 ELSE due_time END
         WHERE owner_id = $1 AND kind = $2 AND id = $3 AND (NOT claimed OR wake_time <= $4)
         RETURNING due_time, attempt, in_doubt",
    )
    .bind(key.owner.uuid())
    .bind(code::of_kind(key.kind))
    .bind(key.id)
    .bind(now.as_millis())
    .bind(now.plus(lease).as_millis())
    .fetch_optional(&mut **tx)
    .await?;
    Ok(claimed.map(|(due_time, attempt, in_doubt)| Claim {
        key,
        due_time: Timestamp::from_millis(due_time),
        attempt,
        in_doubt,
        since,
    }))
}

impl Store {
    pub async fn claim(
        &self,
        kind: Kind,
        limit: usize,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Claim>, Error> {
        let since = Instant::now();
        let mut tx = self.pool.begin().await?;
        // Only the first of each lane: what is before it is gone, or is waited for. Somebody who is claiming the first of
        // a lane at this moment makes us pass over it, and what comes after it is not the first.
        //
        // Nothing wakes before it is due, so the first condition on times changes nothing; it and the `+ 0`, which keeps the
        // index of the other time out of it, let the rows be read in their order and only as far as they are claimed.
        let sql = format!(
            "WITH due AS MATERIALIZED (
                 SELECT t.owner_id, t.kind, t.id FROM timers t
                 WHERE t.kind = $1 AND t.due_time <= $2 AND t.wake_time + 0 <= $2
                   AND NOT EXISTS (
                       SELECT 1 FROM timers e
                       WHERE e.kind = t.kind AND e.lane = t.lane AND (e.due_time, e.id) < (t.due_time, t.id)
                   )
                 ORDER BY t.due_time, t.id LIMIT $3{SKIP_LOCKED}
             )
             UPDATE timers
             SET in_doubt = timers.in_doubt OR timers.claimed, claimed = TRUE, attempt = timers.attempt + 1,
                 wake_time = $4
             FROM due
             WHERE timers.owner_id = due.owner_id AND timers.kind = due.kind AND timers.id = due.id
             RETURNING timers.owner_id, timers.id, timers.due_time, timers.attempt, timers.in_doubt"
        );
        let rows: Vec<(Uuid, Uuid, i64, i64, bool)> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(code::of_kind(kind))
            .bind(now.as_millis())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(now.plus(lease).as_millis())
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        let claim = |(owner, id, due_time, attempt, in_doubt): (Uuid, Uuid, i64, i64, bool)| Claim {
            key: Key { owner: owner.into(), kind, id },
            due_time: Timestamp::from_millis(due_time),
            attempt,
            in_doubt,
            since,
        };
        let mut claims: Vec<Claim> = rows.into_iter().map(claim).collect();
        // An UPDATE returns its rows in no order.
        claims.sort_by_key(|claim| (claim.due_time, claim.key.id));
        Ok(claims)
    }

    pub async fn give_back(&self, claim: &Claim, back: Return) -> Result<bool, Error> {
        let mut tx = self.pool.begin().await?;
        let updated = sqlx::query(
            "UPDATE timers SET claimed = FALSE, in_doubt = $5, due_time = $6, wake_time = $7
             WHERE owner_id = $1 AND kind = $2 AND id = $3 AND claimed AND attempt = $4",
        )
        .bind(claim.key.owner.uuid())
        .bind(code::of_kind(claim.key.kind))
        .bind(claim.key.id)
        .bind(claim.attempt)
        .bind(back.in_doubt)
        .bind(back.due_time.as_millis())
        .bind(back.wake_time.as_millis())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(updated.rows_affected() == 1)
    }

    pub async fn next_wake_time(&self, kind: Kind, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        let next: Option<i64> =
            sqlx::query_scalar("SELECT MIN(wake_time) FROM timers WHERE kind = $1 AND wake_time > $2")
                .bind(code::of_kind(kind))
                .bind(now.as_millis())
                .fetch_one(self.pool.read())
                .await?;
        Ok(next.map(Timestamp::from_millis))
    }
}

/// Facts of others.
impl Store {
    pub async fn apply(&self, claim: &facts::Claim, user: UserId, now: Timestamp) -> Result<Applied, Error> {
        let mut tx = self.pool.begin().await?;
        if !feeds::claim(&mut tx, claim).await? {
            return Ok(Applied::Overtaken);
        }
        let cancelled = end(&mut tx, user, now).await?;
        tx.commit().await?;
        Ok(Applied::Ended { cancelled })
    }
}

/// Ends everything that a user has scheduled. Returns how much was cancelled.
async fn end(tx: &mut Tx, user_id: UserId, now: Timestamp) -> sqlx::Result<u64> {
    sqlx::query(
        "INSERT INTO authors (author_id, delete_time) VALUES ($1, $2)
         ON CONFLICT (author_id) DO UPDATE SET delete_time = COALESCE(authors.delete_time, excluded.delete_time)",
    )
    .bind(user_id.uuid())
    .bind(now.as_millis())
    .execute(&mut **tx)
    .await?;
    sqlx::query("DELETE FROM timers WHERE owner_id = $1 AND kind = $2 AND NOT claimed AND NOT in_doubt")
        .bind(user_id.uuid())
        .bind(code::of_kind(Kind::ScheduledMessage))
        .execute(&mut **tx)
        .await?;
    // Those that still have a timer are being sent.
    let cancelled = sqlx::query(
        "UPDATE scheduled_messages SET state = $2, content = NULL, update_time = $3
         WHERE author_id = $1 AND state = 1 AND NOT EXISTS (
             SELECT 1 FROM timers
             WHERE owner_id = $1 AND kind = $4 AND timers.id = scheduled_messages.scheduled_message_id
         )",
    )
    .bind(user_id.uuid())
    .bind(code::of_state(StateName::Cancelled))
    .bind(now.as_millis())
    .bind(code::of_kind(Kind::ScheduledMessage))
    .execute(&mut **tx)
    .await?;
    sqlx::query("UPDATE scheduled_messages SET content = NULL WHERE author_id = $1 AND state = $2")
        .bind(user_id.uuid())
        .bind(code::of_state(StateName::Failed))
        .execute(&mut **tx)
        .await?;
    bookings::end(tx, user_id, now).await?;
    Ok(cancelled.rows_affected())
}
