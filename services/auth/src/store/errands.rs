//! Errands, and how they are taken.

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::UserId;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::{SKIP_LOCKED, Store, Tx, unreadable};
use crate::background_check::{End, State};
use crate::errand::{Errand, Kind};
use crate::error::Error;

impl Store {
    pub async fn claim_errands(
        &self,
        kind: Kind,
        now: Timestamp,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<Errand>, Error> {
        // Most of the time there is nothing to do, and then nobody has to wait for the only writer.
        let due: Option<Uuid> =
            sqlx::query_scalar("SELECT errand_id FROM errands WHERE kind = $1 AND due_time <= $2 LIMIT 1")
                .bind(kind.number())
                .bind(now.as_millis())
                .fetch_optional(self.pool.read())
                .await?;
        if due.is_none() {
            return Ok(Vec::new());
        }
        let mut tx = self.pool.begin().await?;
        let sql = "SELECT errand_id, kind, user_id, sealed, due_time, attempts, expire_time FROM errands
                   WHERE kind = $1 AND due_time <= $2 ORDER BY due_time LIMIT $3";
        let rows: Vec<ErrandRow> = sqlx::query_as(AssertSqlSafe(format!("{sql}{SKIP_LOCKED}")))
            .bind(kind.number())
            .bind(now.as_millis())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&mut *tx)
            .await?;
        let mut claimed = Vec::with_capacity(rows.len());
        for row in rows {
            let errand = row.into_errand()?;
            let errand = Errand { due_time: now.plus(lease), attempts: errand.attempts + 1, ..errand };
            sqlx::query("UPDATE errands SET due_time = $2, attempts = $3 WHERE errand_id = $1")
                .bind(errand.id.uuid())
                .bind(errand.due_time.as_millis())
                .bind(errand.attempts)
                .execute(&mut *tx)
                .await?;
            claimed.push(errand);
        }
        tx.commit().await?;
        Ok(claimed)
    }

    pub async fn finish_errand(&self, errand: &Errand) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        remove(&mut tx, errand).await?;
        tx.commit().await?;
        Ok(())
    }

    pub async fn finish_check_errand(&self, errand: &Errand, end: End, now: Timestamp) -> Result<(), Error> {
        let state = match end {
            End::Accepted => State::Submitted,
            End::Failed => State::Failed,
            End::Expired => State::Expired,
        };
        let mut tx = self.pool.begin().await?;
        // The provider may have reported already: then the check has ended, and this changes nothing.
        sqlx::query(
            "UPDATE background_checks SET state = $2, update_time = $3
             WHERE check_id = $1 AND state = $4
               AND EXISTS (SELECT 1 FROM errands WHERE errand_id = $1 AND attempts = $5)",
        )
        .bind(errand.id.uuid())
        .bind(state.number())
        .bind(now.as_millis())
        .bind(State::Pending.number())
        .bind(errand.attempts)
        .execute(&mut *tx)
        .await?;
        remove(&mut tx, errand).await?;
        tx.commit().await?;
        Ok(())
    }

    pub async fn postpone_errand(&self, errand: &Errand, due_time: Timestamp) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("UPDATE errands SET due_time = $3 WHERE errand_id = $1 AND attempts = $2")
            .bind(errand.id.uuid())
            .bind(errand.attempts)
            .bind(due_time.as_millis())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    pub async fn sweep_errands(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        let mut tx = self.pool.begin().await?;
        let swept = sqlx::query(
            "DELETE FROM errands WHERE errand_id IN
                 (SELECT errand_id FROM errands WHERE expire_time <= $1 ORDER BY errand_id LIMIT $2)",
        )
        .bind(now.as_millis())
        .bind(limit)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(swept.rows_affected())
    }
}

/// Keeps a new errand.
pub(super) async fn insert_errand(tx: &mut Tx, errand: &Errand) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO errands (errand_id, kind, user_id, sealed, due_time, attempts, expire_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(errand.id.uuid())
    .bind(errand.kind.number())
    .bind(errand.user_id.map(UserId::uuid))
    .bind(errand.sealed.as_slice())
    .bind(errand.due_time.as_millis())
    .bind(errand.attempts)
    .bind(errand.expire_time.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn remove(tx: &mut Tx, errand: &Errand) -> Result<(), Error> {
    sqlx::query("DELETE FROM errands WHERE errand_id = $1 AND attempts = $2")
        .bind(errand.id.uuid())
        .bind(errand.attempts)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

#[derive(FromRow)]
struct ErrandRow {
    errand_id: Uuid,
    kind: i64,
    user_id: Option<Uuid>,
    sealed: Vec<u8>,
    due_time: i64,
    attempts: i64,
    expire_time: i64,
}

impl ErrandRow {
    fn into_errand(self) -> Result<Errand, Error> {
        Ok(Errand {
            id: self.errand_id.into(),
            kind: Kind::of(self.kind).ok_or_else(|| unreadable("an errand of no kind"))?,
            user_id: self.user_id.map(UserId::from),
            sealed: self.sealed,
            due_time: Timestamp::from_millis(self.due_time),
            attempts: self.attempts,
            expire_time: Timestamp::from_millis(self.expire_time),
        })
    }
}
