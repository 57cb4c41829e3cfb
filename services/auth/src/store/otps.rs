//! One-time codes, and the secrets of the service.

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::UserId;
use uuid::Uuid;

use super::{Store, Tx, insert_errand, lock_user, set_password, unreadable};
use crate::email::Email;
use crate::errand::Errand;
use crate::error::Error;
use crate::otp::{
    AddressProof, AddressVerification, CODES, CODES_IN_ALL, Issue, LONG_WINDOW, PROOF_LIFETIME, Purpose,
    Slot, TRIES, TRIES_IN_ALL, Tried, WINDOW,
};
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
        let Issue { slot, sum, user_id, issue_time, expire_time, .. } = issue;
        let mut tx = self.pool.begin().await?;
        // Writes first, which locks the row: of requests at once each finds what those before have counted. What turns out
        // to be one too many is taken back with all the rest.
        sqlx::query(
            "INSERT INTO one_time_codes (address_hash, purpose, user_id, code_hash, tries, used, expire_time, issue_time)
             VALUES ($1, $2, $3, $4, 0, FALSE, $5, $6)
             ON CONFLICT (address_hash, purpose) DO UPDATE
             SET user_id = excluded.user_id, code_hash = excluded.code_hash, tries = 0, used = FALSE,
                 expire_time = excluded.expire_time, issue_time = excluded.issue_time",
        )
        .bind(slot.address.as_bytes())
        .bind(slot.purpose.number())
        .bind(user_id.map(UserId::uuid))
        .bind(sum.as_bytes())
        .bind(expire_time.as_millis())
        .bind(issue_time.as_millis())
        .execute(&mut *tx)
        .await?;
        count_request(&mut tx, issue).await?;
        sqlx::query("DELETE FROM code_tries WHERE address_hash = $1 AND purpose = $2")
            .bind(slot.address.as_bytes())
            .bind(slot.purpose.number())
            .execute(&mut *tx)
            .await?;
        if let Some(errand) = errand {
            insert_errand(&mut tx, errand).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    pub async fn try_code(&self, slot: Slot, network: Sum, now: Timestamp) -> Result<Option<Tried>, Error> {
        let mut tx = self.pool.begin().await?;
        // Counted before it is compared, by the statement that reads it: tries at once cannot be more than there may be.
        let row: Option<(Vec<u8>, Option<Uuid>)> = sqlx::query_as(
            "UPDATE one_time_codes SET tries = tries + 1
             WHERE address_hash = $1 AND purpose = $2 AND tries < $3 AND NOT used AND expire_time > $4
             RETURNING code_hash, user_id",
        )
        .bind(slot.address.as_bytes())
        .bind(slot.purpose.number())
        .bind(TRIES_IN_ALL)
        .bind(now.as_millis())
        .fetch_optional(&mut *tx)
        .await?;
        if row.is_none() {
            return Ok(None);
        }
        let counted = sqlx::query(
            "INSERT INTO code_tries (address_hash, purpose, network_hash, tries) VALUES ($1, $2, $3, 1)
             ON CONFLICT (address_hash, purpose, network_hash) DO UPDATE SET tries = code_tries.tries + 1
             WHERE code_tries.tries < $4",
        )
        .bind(slot.address.as_bytes())
        .bind(slot.purpose.number())
        .bind(network.as_bytes())
        .bind(TRIES)
        .execute(&mut *tx)
        .await?;
        if counted.rows_affected() == 0 {
            // A network that has had its tries uses up none of the others'.
            return Ok(None);
        }
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

    pub async fn verify_address(&self, verification: &AddressVerification) -> Result<bool, Error> {
        let AddressVerification { slot, sum, proof, now } = verification;
        let mut tx = self.pool.begin().await?;
        let used = sqlx::query(
            "UPDATE one_time_codes SET used = TRUE
             WHERE address_hash = $1 AND purpose = $2 AND code_hash = $3 AND NOT used AND expire_time > $4",
        )
        .bind(slot.address.as_bytes())
        .bind(slot.purpose.number())
        .bind(sum.as_bytes())
        .bind(now.as_millis())
        .execute(&mut *tx)
        .await?;
        if used.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO address_proofs (address_hash, network_hash, expire_time) VALUES ($1, $2, $3)
             ON CONFLICT (address_hash) DO UPDATE
             SET network_hash = excluded.network_hash, expire_time = excluded.expire_time",
        )
        .bind(proof.address.as_bytes())
        .bind(proof.network.as_bytes())
        .bind(now.plus(PROOF_LIFETIME).as_millis())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    pub async fn sweep_address_proofs(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        let mut tx = self.pool.begin().await?;
        // The condition stands twice: a proof that is renewed between the two must not be taken.
        let swept = sqlx::query(
            "DELETE FROM address_proofs WHERE expire_time <= $1 AND address_hash IN
                 (SELECT address_hash FROM address_proofs WHERE expire_time <= $1 ORDER BY expire_time LIMIT $2)",
        )
        .bind(now.as_millis())
        .bind(limit)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(swept.rows_affected())
    }

    pub async fn sweep_codes(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        let mut tx = self.pool.begin().await?;
        // The condition stands twice: a code that is issued between the two must not be taken.
        let swept = sqlx::query(
            "DELETE FROM one_time_codes WHERE issue_time <= $1 AND (address_hash, purpose) IN
                 (SELECT address_hash, purpose FROM one_time_codes WHERE issue_time <= $1
                  ORDER BY issue_time LIMIT $2)",
        )
        .bind(now.minus(LONG_WINDOW).as_millis())
        .bind(limit)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(swept.rows_affected())
    }
}

/// Uses up the proof of an address; `false` when there is none that counts.
pub(super) async fn use_proof(tx: &mut Tx, proof: &AddressProof, now: Timestamp) -> Result<bool, Error> {
    let used = sqlx::query(
        "DELETE FROM address_proofs WHERE address_hash = $1 AND network_hash = $2 AND expire_time > $3",
    )
    .bind(proof.address.as_bytes())
    .bind(proof.network.as_bytes())
    .bind(now.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(used.rows_affected() == 1)
}

/// Writes down that a code is asked for, or refuses one too many. The code's row is locked.
async fn count_request(tx: &mut Tx, issue: &Issue) -> Result<(), Error> {
    let Issue { id, slot, network, issue_time: now, .. } = issue;
    sqlx::query("DELETE FROM code_requests WHERE address_hash = $1 AND purpose = $2 AND request_time <= $3")
        .bind(slot.address.as_bytes())
        .bind(slot.purpose.number())
        .bind(now.minus(LONG_WINDOW).as_millis())
        .execute(&mut **tx)
        .await?;
    let requests: Vec<(Vec<u8>, i64)> = sqlx::query_as(
        "SELECT network_hash, request_time FROM code_requests WHERE address_hash = $1 AND purpose = $2
         ORDER BY request_time DESC",
    )
    .bind(slot.address.as_bytes())
    .bind(slot.purpose.number())
    .fetch_all(&mut **tx)
    .await?;
    let mut all = requests.iter().map(|(_, time)| Timestamp::from_millis(*time));
    let own = requests.iter().filter(|(of, _)| of == network.as_bytes());
    let mut own = own.map(|(_, time)| Timestamp::from_millis(*time));
    // The one that must be over before there is room again.
    let ends = [
        all.nth(CODES_IN_ALL - 1).map(|time| time.plus(LONG_WINDOW)),
        own.nth(CODES - 1).map(|time| time.plus(WINDOW)),
    ];
    if let Some(end) = ends.into_iter().flatten().max().filter(|end| end > now) {
        // Rounded up: who comes when told to must not be early.
        let wait = end.since(*now) + Duration::from_millis(999);
        return Err(Error::RateLimited { wait: Duration::from_secs(wait.as_secs()) });
    }
    sqlx::query(
        "INSERT INTO code_requests (address_hash, purpose, request_id, network_hash, request_time)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(slot.address.as_bytes())
    .bind(slot.purpose.number())
    .bind(id.uuid())
    .bind(network.as_bytes())
    .bind(now.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(())
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
