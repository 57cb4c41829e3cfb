//! Background checks.

use chassis::clock::Timestamp;
use proto::id::{BackgroundCheckId, UserId};
use sqlx::FromRow;
use uuid::Uuid;

use super::{Store, insert_errand, lock_user, unreadable};
use crate::background_check::{BackgroundCheck, LIFETIME, MOST, NewCheck, State};
use crate::errand::Errand;
use crate::error::Error;
use crate::refusal::Refusal;
use crate::vault::Sum;

impl Store {
    pub async fn request_check(
        &self,
        new: &NewCheck,
        errand: Option<&Errand>,
    ) -> Result<BackgroundCheck, Error> {
        let NewCheck { check, request_id, request_sum } = new;
        let mut tx = self.pool.begin().await?;
        // The lock keeps two requests of one user from each passing the same count.
        if lock_user(&mut tx, check.user_id).await?.is_none() {
            return Err(Error::Unauthenticated);
        }
        let rows: Vec<CheckRow> = sqlx::query_as(
            "SELECT check_id, user_id, request_id, request_hash, state, reference, create_time, update_time
             FROM background_checks WHERE user_id = $1 ORDER BY create_time DESC, check_id DESC",
        )
        .bind(check.user_id.uuid())
        .fetch_all(&mut *tx)
        .await?;
        if let Some(row) = rows.iter().find(|row| row.request_id == *request_id) {
            let is_same = Sum::stored(&row.request_hash).is_some_and(|sum| sum == *request_sum);
            return if is_same { row.check() } else { Err(Refusal::RequestIdReused.into()) };
        }
        let checks = rows.iter().map(CheckRow::check).collect::<Result<Vec<_>, _>>()?;
        if let Some(open) = checks.iter().find(|check| check.state.is_open()) {
            return Err(Refusal::CheckUnderWay(open.id).into());
        }
        let nth = usize::try_from(MOST - 1).unwrap_or(0);
        // Newest first: when the third is not old enough, this would be one too many.
        if let Some(third) = checks.get(nth) {
            let wait = third.create_time.plus(LIFETIME).since(check.create_time);
            if !wait.is_zero() {
                return Err(Error::RateLimited { wait: wait + std::time::Duration::from_secs(1) });
            }
        }
        sqlx::query(
            "INSERT INTO background_checks (check_id, user_id, request_id, request_hash, state, reference, create_time,
                                            update_time)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(check.id.uuid())
        .bind(check.user_id.uuid())
        .bind(request_id)
        .bind(request_sum.as_bytes())
        .bind(check.state.number())
        .bind(&check.reference)
        .bind(check.create_time.as_millis())
        .bind(check.update_time.as_millis())
        .execute(&mut *tx)
        .await?;
        if let Some(errand) = errand {
            insert_errand(&mut tx, errand).await?;
        }
        tx.commit().await?;
        Ok(check.clone())
    }

    pub async fn latest_check(&self, user_id: UserId) -> Result<Option<BackgroundCheck>, Error> {
        let row: Option<CheckRow> = sqlx::query_as(
            "SELECT check_id, user_id, request_id, request_hash, state, reference, create_time, update_time
             FROM background_checks WHERE user_id = $1 ORDER BY create_time DESC, check_id DESC LIMIT 1",
        )
        .bind(user_id.uuid())
        .fetch_optional(self.pool.read())
        .await?;
        row.as_ref().map(CheckRow::check).transpose()
    }

    pub async fn checks_of(&self, user_id: UserId) -> Result<Vec<BackgroundCheck>, Error> {
        let rows: Vec<CheckRow> = sqlx::query_as(
            "SELECT check_id, user_id, request_id, request_hash, state, reference, create_time, update_time
             FROM background_checks WHERE user_id = $1 ORDER BY create_time DESC, check_id DESC",
        )
        .bind(user_id.uuid())
        .fetch_all(self.pool.read())
        .await?;
        rows.iter().map(CheckRow::check).collect()
    }

    pub async fn report_check(
        &self,
        id: BackgroundCheckId,
        end: State,
        reference: &str,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let mut tx = self.pool.begin().await?;
        let whose: Option<Uuid> =
            sqlx::query_scalar("SELECT user_id FROM background_checks WHERE check_id = $1")
                .bind(id.uuid())
                .fetch_optional(&mut *tx)
                .await?;
        let Some(user_id) = whose else { return Err(Refusal::CheckNotFound.into()) };
        // The user first, as everywhere: a report waits for the end of an account that goes, and the other way round.
        if lock_user(&mut tx, user_id.into()).await?.is_none() {
            return Err(Refusal::CheckNotFound.into());
        }
        let ended = sqlx::query(
            "UPDATE background_checks SET state = $2, reference = $3, update_time = $4
             WHERE check_id = $1 AND state IN (1, 2)",
        )
        .bind(id.uuid())
        .bind(end.number())
        .bind(reference)
        .bind(now.as_millis())
        .execute(&mut *tx)
        .await?;
        if ended.rows_affected() == 0 {
            let state: Option<i64> =
                sqlx::query_scalar("SELECT state FROM background_checks WHERE check_id = $1")
                    .bind(id.uuid())
                    .fetch_optional(&mut *tx)
                    .await?;
            return match state {
                Some(state) if state == end.number() => Ok(false),
                Some(_) => Err(Refusal::CheckEnded.into()),
                None => Err(Refusal::CheckNotFound.into()),
            };
        }
        sqlx::query("DELETE FROM errands WHERE errand_id = $1").bind(id.uuid()).execute(&mut *tx).await?;
        // A check that could not be done says nothing about the user.
        let shown = match end {
            State::Clear => Some(Some(now.as_millis())),
            State::Consider => Some(None),
            _ => None,
        };
        if let Some(time) = shown {
            sqlx::query("UPDATE users SET background_check_time = $2, update_time = $3 WHERE user_id = $1")
                .bind(user_id)
                .bind(time)
                .bind(now.as_millis())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    pub async fn expire_checks(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        let mut tx = self.pool.begin().await?;
        let expired = sqlx::query(
            "UPDATE background_checks SET state = 6, update_time = $2
             WHERE state IN (1, 2) AND check_id IN
                 (SELECT check_id FROM background_checks WHERE state IN (1, 2) AND create_time <= $1
                  ORDER BY create_time LIMIT $3)",
        )
        .bind(now.minus(LIFETIME).as_millis())
        .bind(now.as_millis())
        .bind(limit)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(expired.rows_affected())
    }
}

#[derive(FromRow)]
struct CheckRow {
    check_id: Uuid,
    user_id: Uuid,
    request_id: Uuid,
    request_hash: Vec<u8>,
    state: i64,
    reference: String,
    create_time: i64,
    update_time: i64,
}

impl CheckRow {
    fn check(&self) -> Result<BackgroundCheck, Error> {
        Ok(BackgroundCheck {
            id: self.check_id.into(),
            user_id: self.user_id.into(),
            state: State::of(self.state).ok_or_else(|| unreadable("a check in no state"))?,
            reference: self.reference.clone(),
            create_time: Timestamp::from_millis(self.create_time),
            update_time: Timestamp::from_millis(self.update_time),
        })
    }
}
