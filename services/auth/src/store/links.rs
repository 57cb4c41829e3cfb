//! Links between accounts and identities at providers.

use chassis::clock::Timestamp;
use chassis::database::violates;
use proto::id::{SessionId, UserId};
use sqlx::FromRow;
use uuid::Uuid;

use super::sweep::Ending;
use super::{Store, Tx, insert_session, lock_user, make_room};
use crate::error::Error;
use crate::once::Once;
use crate::providers::Link;
use crate::refusal::Refusal;
use crate::session::Grant;
use crate::user::User;

impl Store {
    pub async fn find_linked(&self, issuer: &str, subject: &str) -> Result<Option<UserId>, Error> {
        let found: Option<Uuid> =
            sqlx::query_scalar("SELECT user_id FROM provider_links WHERE issuer = $1 AND subject = $2")
                .bind(issuer)
                .bind(subject)
                .fetch_optional(self.pool.read())
                .await?;
        Ok(found.map(UserId::from))
    }

    pub async fn sign_in_linked(
        &self,
        (issuer, subject): (&str, &str),
        grant: &Grant,
        most: u32,
        once: &Once,
    ) -> Result<(User, Vec<SessionId>), Error> {
        let user_id = grant.session.user_id;
        let mut tx = self.pool.begin().await?;
        let Some(credentials) = lock_user(&mut tx, user_id).await? else { return Err(Error::BadCredentials) };
        let opens: Option<i64> = sqlx::query_scalar(
            "SELECT create_time FROM provider_links WHERE issuer = $1 AND subject = $2 AND user_id = $3",
        )
        .bind(issuer)
        .bind(subject)
        .bind(user_id.uuid())
        .fetch_optional(&mut *tx)
        .await?;
        if opens.is_none() {
            return Err(Error::BadCredentials);
        }
        use_token(&mut tx, once, grant.session.create_time).await?;
        let ended = make_room(&mut tx, user_id, most).await?;
        insert_session(&mut tx, grant).await?;
        tx.commit().await?;
        Ok((credentials.user, ended))
    }

    pub async fn link(&self, link: &Link, once: &Once) -> Result<Link, Error> {
        let mut tx = self.pool.begin().await?;
        if lock_user(&mut tx, link.user_id).await?.is_none() {
            return Err(Error::Unauthenticated);
        }
        use_token(&mut tx, once, link.create_time).await?;
        let first: Option<LinkRow> = sqlx::query_as(
            "SELECT user_id, issuer, subject, provider, create_time FROM provider_links
             WHERE user_id = $1 AND issuer = $2",
        )
        .bind(link.user_id.uuid())
        .bind(&link.issuer)
        .fetch_optional(&mut *tx)
        .await?;
        match first.map(Link::from) {
            Some(first) if first.subject == link.subject => {
                tx.commit().await?;
                return Ok(first);
            }
            Some(_) => return Err(Refusal::ProviderLinked.into()),
            None => {}
        }
        insert_link(&mut tx, link).await?;
        tx.commit().await?;
        Ok(link.clone())
    }

    pub async fn sweep_used_tokens(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        let rows = Ending { table: "used_id_tokens", key: "mark_hash", time: "expire_time" };
        self.sweep(rows, now, limit).await
    }

    pub async fn links_of(&self, user_id: UserId) -> Result<Vec<Link>, Error> {
        let rows: Vec<LinkRow> = sqlx::query_as(
            "SELECT user_id, issuer, subject, provider, create_time FROM provider_links
             WHERE user_id = $1 ORDER BY create_time, issuer",
        )
        .bind(user_id.uuid())
        .fetch_all(self.pool.read())
        .await?;
        Ok(rows.into_iter().map(Link::from).collect())
    }

    pub async fn unlink(&self, user_id: UserId, provider: &str) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        // The lock keeps two who take back one of two links each from leaving none.
        let Some(credentials) = lock_user(&mut tx, user_id).await? else {
            return Err(Error::Unauthenticated);
        };
        let removed = sqlx::query("DELETE FROM provider_links WHERE user_id = $1 AND provider = $2")
            .bind(user_id.uuid())
            .bind(provider)
            .execute(&mut *tx)
            .await?;
        if removed.rows_affected() == 0 {
            return Err(Refusal::LinkNotFound.into());
        }
        let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM provider_links WHERE user_id = $1")
            .bind(user_id.uuid())
            .fetch_one(&mut *tx)
            .await?;
        if left == 0 && credentials.hash.is_none() {
            return Err(Refusal::LastSignIn.into());
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Uses up an ID token, unless it was used before.
pub(super) async fn use_token(tx: &mut Tx, once: &Once, now: Timestamp) -> Result<(), Error> {
    for mark in once.marks() {
        // Inserted, not looked for: of two uses at once the second waits for the first.
        let marked = sqlx::query(
            "INSERT INTO used_id_tokens (mark_hash, expire_time) VALUES ($1, $2)
             ON CONFLICT (mark_hash) DO UPDATE SET expire_time = excluded.expire_time
             WHERE used_id_tokens.expire_time <= $3",
        )
        .bind(mark)
        .bind(once.expire_time().as_millis())
        .bind(now.as_millis())
        .execute(&mut **tx)
        .await?;
        if marked.rows_affected() == 0 {
            return Err(Refusal::IdTokenInvalid("was used before, or its nonce was").into());
        }
    }
    Ok(())
}

/// Keeps a new link.
pub(super) async fn insert_link(tx: &mut Tx, link: &Link) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO provider_links (issuer, subject, user_id, provider, create_time) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(&link.issuer)
    .bind(&link.subject)
    .bind(link.user_id.uuid())
    .bind(&link.provider)
    .bind(link.create_time.as_millis())
    .execute(&mut **tx)
    .await
    .map_err(|error| {
        if violates(&error, "provider_links_pkey", "provider_links.issuer, provider_links.subject") {
            return Refusal::IdentityTaken.into();
        }
        Error::from(error)
    })?;
    Ok(())
}

#[derive(FromRow)]
struct LinkRow {
    user_id: Uuid,
    issuer: String,
    subject: String,
    provider: String,
    create_time: i64,
}

impl From<LinkRow> for Link {
    fn from(row: LinkRow) -> Self {
        Self {
            user_id: row.user_id.into(),
            issuer: row.issuer,
            subject: row.subject,
            provider: row.provider,
            create_time: Timestamp::from_millis(row.create_time),
        }
    }
}
