//! What auth has to be told about who knows whom.

use chassis::clock::Timestamp;
use proto::id::UserId;
use uuid::Uuid;

use super::{Store, Tx};
use crate::acquaintance::Acquaintance;
use crate::conversation::Pair;
use crate::error::Error;
use crate::store::{Failure, code};

impl Store {
    pub async fn due_acquaintances(&self, now: Timestamp, limit: i64) -> Result<Vec<Acquaintance>, Error> {
        let rows: Vec<(Uuid, Uuid, i64, i64, bool)> = sqlx::query_as(
            "SELECT low_user_id, high_user_id, kind, version, has_ended FROM acquaintances
             WHERE due_time <= $1
             ORDER BY due_time, low_user_id, high_user_id, kind
             LIMIT $2",
        )
        .bind(now.as_millis())
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        let acquaintance = |(low, high, kind, version, has_ended): (Uuid, Uuid, i64, i64, bool)| {
            let pair = Pair::of(low.into(), high.into());
            let pair = pair.ok_or(Failure::Corrupt("an acquaintance with oneself"))?;
            Ok(Acquaintance { pair, kind: code::acquaintance(kind)?, version, has_ended })
        };
        rows.into_iter().map(acquaintance).collect()
    }

    pub async fn acquaintance_told(&self, told: &Acquaintance) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "DELETE FROM acquaintances
             WHERE low_user_id = $1 AND high_user_id = $2 AND version = $3 AND kind = $4",
        )
        .bind(told.pair.low().uuid())
        .bind(told.pair.high().uuid())
        .bind(told.version)
        .bind(code::of_acquaintance(told.kind))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    pub async fn put_off_acquaintance(&self, told: &Acquaintance, due: Timestamp) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "UPDATE acquaintances SET due_time = $4
             WHERE low_user_id = $1 AND high_user_id = $2 AND version = $3 AND kind = $5",
        )
        .bind(told.pair.low().uuid())
        .bind(told.pair.high().uuid())
        .bind(told.version)
        .bind(due.as_millis())
        .bind(code::of_acquaintance(told.kind))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Auth is to be told. What was to be told of the same kind before and was not is told no more.
pub async fn note(tx: &mut Tx, news: &Acquaintance, at: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO acquaintances (low_user_id, high_user_id, version, has_ended, due_time, kind)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (low_user_id, high_user_id, kind) DO UPDATE
         SET version = excluded.version, has_ended = excluded.has_ended, due_time = excluded.due_time",
    )
    .bind(news.pair.low().uuid())
    .bind(news.pair.high().uuid())
    .bind(news.version)
    .bind(news.has_ended)
    .bind(at.as_millis())
    .bind(code::of_acquaintance(news.kind))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Of one who is gone auth knows itself.
pub async fn forget(tx: &mut Tx, user: UserId, other: UserId) -> Result<(), Error> {
    sqlx::query("DELETE FROM acquaintances WHERE low_user_id = $1 AND high_user_id = $2")
        .bind(user.min(other).uuid())
        .bind(user.max(other).uuid())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
