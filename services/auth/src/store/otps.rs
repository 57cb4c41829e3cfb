//! One-time codes, and the secrets of the service.

use chassis::clock::Timestamp;
use proto::id::UserId;
use uuid::Uuid;

use super::sweep::Ending;
use super::{Store, Tx, insert_errand, lock_user, refused, set_password, unreadable};
use crate::email::Email;
use crate::error::Error;
use crate::otp::{
    AddressProof, AddressVerification, Asked, Form, Issue, LONG_WINDOW, PROOF_LIFETIME, Purpose, Slot, TRIES,
    Tried, next_form,
};
use crate::password::PasswordHash;
use crate::pepper::PepperId;
use crate::standing::Standing;
use crate::store::{Letters, Redemption};
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

    pub async fn note_pepper(&self, id: Option<PepperId>) -> Result<Vec<Vec<u8>>, Error> {
        let mut tx = self.pool.begin().await?;
        if let Some(id) = id {
            sqlx::query(
                "INSERT INTO service_keys (name, secret) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            )
            .bind(format!("pepper {:016x}", u64::from_be_bytes(id)))
            .bind(id.as_slice())
            .execute(&mut *tx)
            .await?;
        }
        let used = sqlx::query_scalar("SELECT secret FROM service_keys WHERE name LIKE 'pepper %'")
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(used)
    }

    pub async fn issue_code(&self, issue: &Issue, letters: Option<Letters<'_>>) -> Result<Form, Error> {
        let Issue { slot, flow, user_id, expire_time, .. } = issue;
        let mut tx = self.pool.begin().await?;
        let form = count_request(&mut tx, issue).await?;
        let sum = match form {
            Form::Digits => &issue.digits,
            Form::Token => &issue.token,
        };
        sqlx::query(
            "INSERT INTO code_flows (address_hash, purpose, flow_hash, user_id, code_hash, is_token, tries, used, expire_time)
             VALUES ($1, $2, $3, $4, $5, $6, 0, FALSE, $7)
             ON CONFLICT (address_hash, purpose, flow_hash) DO UPDATE
             SET user_id = excluded.user_id, code_hash = excluded.code_hash, is_token = excluded.is_token, tries = 0,
                 used = FALSE, expire_time = excluded.expire_time",
        )
        .bind(slot.address.as_bytes())
        .bind(slot.purpose.number())
        .bind(flow.as_bytes())
        .bind(user_id.map(UserId::uuid))
        .bind(sum.as_bytes())
        .bind(form == Form::Token)
        .bind(expire_time.as_millis())
        .execute(&mut *tx)
        .await?;
        if let Some(letters) = letters {
            insert_errand(&mut tx, letters.of(form)).await?;
        }
        tx.commit().await?;
        Ok(form)
    }

    pub async fn try_code(&self, slot: Slot, flow: Sum, now: Timestamp) -> Result<Option<Tried>, Error> {
        let mut tx = self.pool.begin().await?;
        // Counted before it is compared, by the statement that reads it: tries at once cannot be more than there may be.
        let row: Option<(Vec<u8>, Option<Uuid>)> = sqlx::query_as(
            "UPDATE code_flows SET tries = tries + 1
             WHERE address_hash = $1 AND purpose = $2 AND flow_hash = $3 AND tries < $4 AND NOT used AND expire_time > $5
             RETURNING code_hash, user_id",
        )
        .bind(slot.address.as_bytes())
        .bind(slot.purpose.number())
        .bind(flow.as_bytes())
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

    pub async fn verify_address(&self, verification: &AddressVerification) -> Result<bool, Error> {
        let AddressVerification { slot, flow, sum, proof, now } = verification;
        let mut tx = self.pool.begin().await?;
        if !use_code(&mut tx, slot, *flow, *sum, None, *now).await? {
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
        let rows = Ending { table: "address_proofs", key: "address_hash", time: "expire_time" };
        self.sweep(rows, now, limit).await
    }

    pub async fn sweep_codes(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        let rows = Ending { table: "code_slots", key: "(address_hash, purpose)", time: "ask_time" };
        self.sweep(rows, now.minus(LONG_WINDOW), limit).await
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

/// Writes down that a code is asked for and says which form it gets, or refuses one too many. The slot stays locked: of
/// requests at once each finds what those before have counted. A refusal takes back all of it.
async fn count_request(tx: &mut Tx, issue: &Issue) -> Result<Form, Error> {
    let Issue { id, slot, flow, network, issue_time: now, .. } = issue;
    let (address, purpose) = (slot.address.as_bytes(), slot.purpose.number());
    sqlx::query(
        "INSERT INTO code_slots (address_hash, purpose, ask_time) VALUES ($1, $2, $3)
         ON CONFLICT (address_hash, purpose) DO UPDATE SET ask_time = excluded.ask_time",
    )
    .bind(address)
    .bind(purpose)
    .bind(now.as_millis())
    .execute(&mut **tx)
    .await?;
    sqlx::query("DELETE FROM code_asks WHERE address_hash = $1 AND purpose = $2 AND ask_time <= $3")
        .bind(address)
        .bind(purpose)
        .bind(now.minus(LONG_WINDOW).as_millis())
        .execute(&mut **tx)
        .await?;
    // Flows that are over, so that there are no more of them than requests within the hour.
    sqlx::query("DELETE FROM code_flows WHERE address_hash = $1 AND purpose = $2 AND expire_time <= $3")
        .bind(address)
        .bind(purpose)
        .bind(now.as_millis())
        .execute(&mut **tx)
        .await?;
    let asked: Vec<(Vec<u8>, i64, bool)> = sqlx::query_as(
        "SELECT network_hash, ask_time, is_token FROM code_asks WHERE address_hash = $1 AND purpose = $2
         ORDER BY ask_time DESC",
    )
    .bind(address)
    .bind(purpose)
    .fetch_all(&mut **tx)
    .await?;
    let read = |(network, time, is_token): (Vec<u8>, i64, bool)| {
        let network = Sum::stored(&network).ok_or_else(|| unreadable("a sum of a wrong length"))?;
        let form = if is_token { Form::Token } else { Form::Digits };
        Ok::<_, Error>(Asked { network, time: Timestamp::from_millis(time), form })
    };
    let asked: Vec<Asked> = asked.into_iter().map(read).collect::<Result<_, _>>()?;
    let live: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM code_flows
         WHERE address_hash = $1 AND purpose = $2 AND flow_hash <> $3 AND NOT is_token AND NOT used",
    )
    .bind(address)
    .bind(purpose)
    .bind(flow.as_bytes())
    .fetch_one(&mut **tx)
    .await?;
    let form = next_form(&asked, usize::try_from(live).unwrap_or(usize::MAX), *network, *now)?;
    sqlx::query(
        "INSERT INTO code_asks (address_hash, purpose, ask_id, network_hash, ask_time, is_token)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(address)
    .bind(purpose)
    .bind(id.uuid())
    .bind(network.as_bytes())
    .bind(now.as_millis())
    .bind(form == Form::Token)
    .execute(&mut **tx)
    .await?;
    Ok(form)
}

/// Uses up a code of a flow, and with it the codes of the other flows of its slot: the reader of the mails has what the
/// codes are good for. `false` when there is no such code, or it is another user's.
async fn use_code(
    tx: &mut Tx,
    slot: &Slot,
    flow: Sum,
    sum: Sum,
    user_id: Option<UserId>,
    now: Timestamp,
) -> Result<bool, Error> {
    // Locked first, as by a request for a code: two that change several flows never wait for each other.
    sqlx::query("UPDATE code_slots SET ask_time = ask_time WHERE address_hash = $1 AND purpose = $2")
        .bind(slot.address.as_bytes())
        .bind(slot.purpose.number())
        .execute(&mut **tx)
        .await?;
    let used = sqlx::query(
        "UPDATE code_flows SET used = TRUE
         WHERE address_hash = $1 AND purpose = $2 AND flow_hash = $3 AND code_hash = $4 AND NOT used AND expire_time > $5
           AND user_id IS NOT DISTINCT FROM $6",
    )
    .bind(slot.address.as_bytes())
    .bind(slot.purpose.number())
    .bind(flow.as_bytes())
    .bind(sum.as_bytes())
    .bind(now.as_millis())
    .bind(user_id.map(UserId::uuid))
    .execute(&mut **tx)
    .await?;
    if used.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("UPDATE code_flows SET used = TRUE WHERE address_hash = $1 AND purpose = $2")
        .bind(slot.address.as_bytes())
        .bind(slot.purpose.number())
        .execute(&mut **tx)
        .await?;
    Ok(true)
}

/// Uses up a code and marks the address as verified, as far as both are still what they were. Returns what was known of
/// the user before.
async fn redeem(tx: &mut Tx, redemption: &Redemption<'_>) -> Result<Option<Standing>, Error> {
    let Redemption { user_id, email_key, slot, flow, sum, now } = redemption;
    let Some(credentials) = lock_user(tx, *user_id).await? else { return Ok(None) };
    if credentials.user.email.as_ref().map(Email::key) != Some(*email_key) {
        return Ok(None);
    }
    if slot.purpose == Purpose::ResetPassword && !credentials.user.standing.may_reset_password() {
        return Ok(None);
    }
    if !use_code(tx, slot, *flow, *sum, Some(*user_id), *now).await? {
        return Ok(None);
    }
    sqlx::query("UPDATE users SET email_verify_time = $2, update_time = $2 WHERE user_id = $1")
        .bind(user_id.uuid())
        .bind(now.as_millis())
        .execute(&mut **tx)
        .await
        .map_err(|error| refused(error, None))?;
    Ok(Some(credentials.user.standing))
}
