//! What follows from bookings: the timers that tell the other person, and that remind both.
//!
//! There is one timer of each kind for a booking. That of the delivery is there as long as there is a version that nobody
//! was told of; that of the reminder as long as there is one to come.

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId, ScheduleId, UserId};
use sqlx::AssertSqlSafe;
use tokio::time::Instant;

use super::super::super::code;
use super::super::FOR_UPDATE;
use super::bookings::{key, vacate};
use super::{Store, Tx, claim_one, remove_claimed};
use crate::calendar::schedule::Schedule;
use crate::error::Error;
use crate::timer::{Claim, Key, Kind};

/// Sets the timers of a version that is new.
pub(super) async fn arm(tx: &mut Tx, schedule: &Schedule, now: Timestamp) -> sqlx::Result<()> {
    deliver(tx, schedule.booker, schedule.id, now).await?;
    let reminder = key(schedule.booker, Kind::Reminder, schedule.id);
    match schedule.reminding.at {
        Some(at) => remind(tx, reminder, at).await,
        None => remove(tx, reminder).await,
    }
}

/// Sets the timers of a booking that does not stand any more.
pub(super) async fn disarm(tx: &mut Tx, booker: UserId, id: ScheduleId, now: Timestamp) -> sqlx::Result<()> {
    deliver(tx, booker, id, now).await?;
    remove(tx, key(booker, Kind::Reminder, id)).await
}

/// Takes the timers of a booking away of which nobody is told any more. Whoever is telling of it has lost the claim.
pub(super) async fn silence(tx: &mut Tx, booker: UserId, id: ScheduleId) -> sqlx::Result<()> {
    for kind in [Kind::Booking, Kind::Reminder] {
        remove(tx, key(booker, kind, id)).await?;
    }
    Ok(())
}

/// Somebody who is telling of an older version right now goes on, and finds at the end that there is more to tell: so
/// messages come in the order of the versions.
async fn deliver(tx: &mut Tx, booker: UserId, id: ScheduleId, now: Timestamp) -> sqlx::Result<()> {
    let key = key(booker, Kind::Booking, id);
    sqlx::query(
        "INSERT INTO timers (owner_id, kind, id, lane, due_time, wake_time) VALUES ($1, $2, $3, $3, $4, $4)
         ON CONFLICT (owner_id, kind, id) DO UPDATE
         SET wake_time = CASE WHEN timers.claimed THEN timers.wake_time ELSE excluded.wake_time END",
    )
    .bind(key.owner.uuid())
    .bind(code::of_kind(key.kind))
    .bind(key.id)
    .bind(now.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Somebody who is reminding of the booking as it was has lost the claim: what it tells messaging has an older version.
async fn remind(tx: &mut Tx, key: Key, at: Timestamp) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO timers (owner_id, kind, id, lane, due_time, wake_time) VALUES ($1, $2, $3, $3, $4, $4)
         ON CONFLICT (owner_id, kind, id) DO UPDATE
         SET due_time = excluded.due_time, wake_time = excluded.wake_time, claimed = FALSE, in_doubt = FALSE,
             attempt = timers.attempt + 1",
    )
    .bind(key.owner.uuid())
    .bind(code::of_kind(key.kind))
    .bind(key.id)
    .bind(at.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn remove(tx: &mut Tx, key: Key) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM timers WHERE owner_id = $1 AND kind = $2 AND id = $3")
        .bind(key.owner.uuid())
        .bind(code::of_kind(key.kind))
        .bind(key.id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Gives back what was claimed because there is more of it to do. `false` when the claim is no longer the last.
async fn again(tx: &mut Tx, claim: &Claim, now: Timestamp) -> sqlx::Result<bool> {
    let updated = sqlx::query(
        "UPDATE timers SET claimed = FALSE, in_doubt = FALSE, due_time = $5, wake_time = $5
         WHERE owner_id = $1 AND kind = $2 AND id = $3 AND claimed AND attempt = $4",
    )
    .bind(claim.key.owner.uuid())
    .bind(code::of_kind(claim.key.kind))
    .bind(claim.key.id)
    .bind(claim.attempt)
    .bind(now.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// The version that a booking has, and will have until the end of the transaction.
async fn lock_version(tx: &mut Tx, claim: &Claim) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT version FROM schedules WHERE schedule_id = $1{FOR_UPDATE}"
    )))
    .bind(claim.key.id)
    .fetch_optional(&mut **tx)
    .await
}

impl Store {
    pub async fn claimed_schedule(&self, claim: &Claim, now: Timestamp) -> Result<Option<Schedule>, Error> {
        self.schedule_by_id(claim.key.id, now).await
    }

    pub async fn is_gone(&self, user: UserId) -> Result<bool, Error> {
        let gone: Option<i64> = sqlx::query_scalar(
            "SELECT delete_time FROM authors WHERE author_id = $1 AND delete_time IS NOT NULL",
        )
        .bind(user.uuid())
        .fetch_optional(self.pool.read())
        .await?;
        Ok(gone.is_some())
    }

    pub async fn claim_delivery(&self, schedule: &Schedule, lease: Duration) -> Result<Option<Claim>, Error> {
        let since = Instant::now();
        let now = self.now().await?;
        let mut tx = self.pool.begin().await?;
        let claim =
            claim_one(&mut tx, key(schedule.booker, Kind::Booking, schedule.id), lease, (now, since)).await?;
        tx.commit().await?;
        Ok(claim)
    }

    pub async fn finish_delivery(
        &self,
        claim: &Claim,
        version: i64,
        message: Option<(ConversationId, MessageId)>,
    ) -> Result<bool, Error> {
        let now = self.now().await?;
        let mut tx = self.pool.begin().await?;
        let is_last = match lock_version(&mut tx, claim).await? {
            Some(newer) if newer > version => again(&mut tx, claim, now).await?,
            Some(_) | None => remove_claimed(&mut tx, claim).await?,
        };
        if !is_last {
            return Ok(false);
        }
        let (conversation, message) = message.unzip();
        sqlx::query(
            "UPDATE schedules SET told_version = $2, conversation_id = COALESCE($3, conversation_id),
                                  message_id = COALESCE($4, message_id)
             WHERE schedule_id = $1 AND told_version < $2",
        )
        .bind(claim.key.id)
        .bind(version)
        .bind(conversation.map(ConversationId::uuid))
        .bind(message.map(MessageId::uuid))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    pub async fn refuse_delivery(
        &self,
        claim: &Claim,
        version: i64,
        reason: &str,
        is_known: bool,
    ) -> Result<bool, Error> {
        let now = self.now().await?;
        let mut tx = self.pool.begin().await?;
        let refused = sqlx::query(
            "UPDATE schedules
             SET state = 3, failure_reason = $3, version = version + 1, actor_id = NULL, remind_time = NULL,
                 update_time = $4
             WHERE schedule_id = $1 AND version = $2 AND state = 1",
        )
        .bind(claim.key.id)
        .bind(version)
        .bind(reason)
        .bind(now.as_millis())
        .execute(&mut *tx)
        .await?;
        if refused.rows_affected() == 0 {
            // What was refused is not what it says any more: that is to be told now.
            again(&mut tx, claim, now).await?;
            tx.commit().await?;
            return Ok(false);
        }
        let id = ScheduleId::from(claim.key.id);
        vacate(&mut tx, id).await?;
        remove(&mut tx, key(claim.key.owner, Kind::Reminder, id)).await?;
        let is_last =
            if is_known { remove_claimed(&mut tx, claim).await? } else { again(&mut tx, claim, now).await? };
        if !is_last {
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    pub async fn finish_reminder(
        &self,
        claim: &Claim,
        schedule: &Schedule,
        told: bool,
        next: Option<Timestamp>,
    ) -> Result<bool, Error> {
        let mut tx = self.pool.begin().await?;
        let updated = sqlx::query(
            "UPDATE schedules SET reminder_count = reminder_count + $3, remind_time = $4
             WHERE schedule_id = $1 AND version = $2 AND state = 1 AND remind_time = $5",
        )
        .bind(schedule.id.uuid())
        .bind(schedule.version)
        .bind(i64::from(told))
        .bind(next.map(Timestamp::as_millis))
        // Of an older reminder nothing is to be written down any more.
        .bind(schedule.reminding.at.map(Timestamp::as_millis))
        .execute(&mut *tx)
        .await?;
        // A newer version has set the timer anew, and this claim is not the last.
        if updated.rows_affected() == 0 || !remove_claimed(&mut tx, claim).await? {
            return Ok(false);
        }
        if let Some(next) = next {
            remind(&mut tx, claim.key, next).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    pub async fn drop_claim(&self, claim: &Claim) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        remove_claimed(&mut tx, claim).await?;
        Ok(tx.commit().await?)
    }
}
