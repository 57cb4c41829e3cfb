//! Tries of passwords, counted durably and for all replicas together.

use std::time::Duration;

use chassis::clock::Timestamp;

use super::Store;
use super::sweep::Ending;
use crate::attempts::{Key, Quota};
use crate::error::Error;

impl Store {
    pub async fn count_attempt(
        &self,
        key: &Key,
        quota: Quota,
        now: Timestamp,
    ) -> Result<Result<(), Duration>, Error> {
        let mut tx = self.pool.begin().await?;
        let counted = sqlx::query(
            "INSERT INTO attempts (key_hash, full_time) VALUES ($1, $2)
             ON CONFLICT (key_hash) DO UPDATE
             SET full_time = CASE WHEN attempts.full_time BETWEEN $3 AND $6 THEN attempts.full_time ELSE $3 END + $4
             WHERE attempts.full_time <= $5 OR attempts.full_time > $6",
        )
        .bind(key.as_slice())
        .bind(now.plus(quota.refill).as_millis())
        .bind(now.as_millis())
        .bind(quota.refill_millis())
        .bind(now.plus(quota.tolerance()).as_millis())
        .bind(now.plus(quota.longest()).as_millis())
        .execute(&mut *tx)
        .await?;
        if counted.rows_affected() > 0 {
            tx.commit().await?;
            return Ok(Ok(()));
        }
        let full: Option<i64> = sqlx::query_scalar("SELECT full_time FROM attempts WHERE key_hash = $1")
            .bind(key.as_slice())
            .fetch_optional(&mut *tx)
            .await?;
        tx.commit().await?;
        let full = full.map_or(now, Timestamp::from_millis);
        Ok(Err(full.minus(quota.tolerance()).since(now)))
    }

    pub async fn sweep_attempts(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        let rows = Ending { table: "attempts", key: "key_hash", time: "full_time" };
        self.sweep(rows, now, limit).await
    }
}
