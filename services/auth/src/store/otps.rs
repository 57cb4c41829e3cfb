//! One-time codes, and the secrets of the service.

use chassis::clock::Timestamp;
use proto::id::UserId;
use uuid::Uuid;

use super::{Store, Tx, insert_errand, lock_user, set_password, unreadable};
use crate::email::Email;
use crate::errand::Errand;
use crate::error::Error;
use crate::otp::{Issue, Purpose, Slot, TRIES, Tried, WINDOW};
use crate::password::PasswordHash;
use crate::standing::Standing;
use crate::store::Redemption;
use crate::vault::Sum;

impl Store {
    pub async fn service_key(&self, name: &str, drawn: &[u8]) -> Result<Vec<u8>, Error> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("INSERT INTO service_keys (name, secret) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(drawn)
            .execute(&mut *tx)
            .await?;
        let kept = sqlx::query_scalar("SELECT secret FROM service_keys WHERE name = $1")
            .bind(name)
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(kept)
    }

    pub async fn issue_code(&self, issue: &Issue, errand: Option<&Errand>) -> Result<(), Error> {
        let Issue { slot, sum, user_id, issue_time, expire_time } = issue;
        let mut tx = self.pool.begin().await?;
        // One statement counts and writes: of requests at once the fourth finds what the third has written.
        let written = sqlx::query(
            "INSERT INTO one_time_codes (address_hash, purpose, user_id, code_hash, tries, used, expire_time, issue_time)
             VALUES ($1, $2, $3, $4, 0, FALSE, $5, $6)
             ON CONFLICT (address_hash, purpose) DO UPDATE
             SET user_id = excluded.user_id, code_hash = excluded.code_hash, tries = 0, used = FALSE,
                 expire_time = excluded.expire_time, issue_time_3 = one_time_codes.issue_time_2,
                 issue_time_2 = one_time_codes.issue_time, issue_time = excluded.issue_time
             WHERE one_time_codes.issue_time_3 IS NULL OR one_time_codes.issue_time_3 <= $7",
        )
        .bind(slot.address.as_bytes())
        .bind(slot.purpose.number())
        .bind(user_id.map(UserId::uuid))
        .bind(sum.as_bytes())
        .bind(expire_time.as_millis())
        .bind(issue_time.as_millis())
        .bind(issue_time.minus(WINDOW).as_millis())
        .execute(&mut *tx)
        .await?;
        if written.rows_affected() == 0 {
            let third: Option<i64> = sqlx::query_scalar(
                "SELECT issue_time_3 FROM one_time_codes WHERE address_hash = $1 AND purpose = $2",
            )
            .bind(slot.address.as_bytes())
            .bind(slot.purpose.number())
            .fetch_one(&mut *tx)
            .await?;
            let free = third.map_or(*issue_time, Timestamp::from_millis).plus(WINDOW);
            // Rounded up: who comes when told to must not be early.
            let wait = free.since(*issue_time) + std::time::Duration::from_millis(999);
            return Err(Error::RateLimited { wait: std::time::Duration::from_secs(wait.as_secs()) });
        }
        if let Some(errand) = errand {
            insert_errand(&mut tx, errand).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    pub async fn try_code(&self, slot: Slot, now: Timestamp) -> Result<Option<Tried>, Error> {
        let mut tx = self.pool.begin().await?;
        // Counted before it is compared, by the statement that reads it: tries at once cannot be more than there may be.
        let row: Option<(Vec<u8>, Option<Uuid>)> = sqlx::query_as(
            "UPDATE one_time_codes SET tries = tries + 1
             WHERE address_hash = $1 AND purpose = $2 AND tries < $3 AND NOT used AND expire_time > $4
             RETURNING code_hash, user_id",
        )
        .bind(slot.address.as_bytes())
        .bind(slot.purpose.number())
        .bind(TRIES)
        .bind(now.as_millis())
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        let Some((sum, user_id)) = row else { return Ok(None) };
        let sum = Sum::stored(&sum).ok_or_else(|| unreadable("a sum of a wrong length"))?;
        Ok(Some(Tried { sum, user_id: user_id.map(UserId::from) }))
    }

    pub async fn verify_email(&self, redemption: &Redemption<'_>) -> Result<bool, Error> {
        let mut tx = self.pool.begin().await?;
        if redeem(&mut tx, redemption).await?.is_none() {
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    pub async fn reset_password(
        &self,
        redemption: &Redemption<'_>,
        hash: &PasswordHash,
    ) -> Result<bool, Error> {
        let mut tx = self.pool.begin().await?;
        let Some(before) = redeem(&mut tx, redemption).await? else { return Ok(false) };
        // Whoever made the account may have given somebody else's address, and may have kept a way in for later.
        if before.email_verify_time.is_none() {
            sqlx::query("DELETE FROM provider_links WHERE user_id = $1")
                .bind(redemption.user_id.uuid())
                .execute(&mut *tx)
                .await?;
        }
        set_password(&mut tx, redemption.user_id, hash, redemption.now).await?;
        sqlx::query("DELETE FROM sessions WHERE user_id = $1")
            .bind(redemption.user_id.uuid())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    pub async fn sweep_codes(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        let mut tx = self.pool.begin().await?;
        // The condition stands twice: a code that is issued between the two must not be taken.
        let swept = sqlx::query(
            "DELETE FROM one_time_codes WHERE issue_time <= $1 AND (address_hash, purpose) IN
                 (SELECT address_hash, purpose FROM one_time_codes WHERE issue_time <= $1
                  ORDER BY issue_time LIMIT $2)",
        )
        .bind(now.minus(WINDOW).as_millis())
        .bind(limit)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(swept.rows_affected())
    }
}

/// Uses up a code and marks the address as verified, as far as both are still what they were. Returns what was known of
/// the user before.
async fn redeem(tx: &mut Tx, redemption: &Redemption<'_>) -> Result<Option<Standing>, Error> {
    let Redemption { user_id, email_key, slot, sum, now } = redemption;
    let Some(credentials) = lock_user(tx, *user_id).await? else { return Ok(None) };
    if credentials.user.email.as_ref().map(Email::key) != Some(*email_key) {
        return Ok(None);
    }
    if slot.purpose == Purpose::ResetPassword && !credentials.user.standing.may_reset_password() {
        return Ok(None);
    }
    let used = sqlx::query(
        "UPDATE one_time_codes SET used = TRUE
         WHERE address_hash = $1 AND purpose = $2 AND code_hash = $3 AND user_id = $4 AND NOT used AND expire_time > $5",
    )
    .bind(slot.address.as_bytes())
    .bind(slot.purpose.number())
    .bind(sum.as_bytes())
    .bind(user_id.uuid())
    .bind(now.as_millis())
    .execute(&mut **tx)
    .await?;
    if used.rows_affected() == 0 {
        return Ok(None);
    }
    sqlx::query("UPDATE users SET email_verify_time = $2, update_time = $2 WHERE user_id = $1")
        .bind(user_id.uuid())
        .bind(now.as_millis())
        .execute(&mut **tx)
        .await?;
    Ok(Some(credentials.user.standing))
}
