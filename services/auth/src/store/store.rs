//! The SQL of auth: one text for both databases.
//!
//! Locks are taken in one order, the user's row before those of its sessions, so that two changes never wait for each
//! other.

#[path = "acquaintances.rs"]
mod acquaintances;
#[path = "attempts.rs"]
mod attempts;
#[path = "background_checks.rs"]
mod background_checks;
#[path = "device_keys.rs"]
mod device_keys;
#[path = "errands.rs"]
mod errands;
#[path = "external_accounts.rs"]
mod external_accounts;
#[path = "interests.rs"]
mod interests;
#[path = "links.rs"]
mod links;
#[path = "listing.rs"]
mod listing;
#[path = "names.rs"]
mod names;
#[path = "otps.rs"]
mod otps;
#[path = "profiles.rs"]
mod profiles;
#[path = "reviews.rs"]
mod reviews;
#[path = "standing.rs"]
mod standing;
#[path = "stream_tickets.rs"]
mod stream_tickets;
#[path = "sweep.rs"]
mod sweep;

use std::time::Duration;

use chassis::clock::Timestamp;
use chassis::database::facts::History;
use chassis::database::violates;
use proto::id::{SessionId, UserId};
use sqlx::{AssertSqlSafe, FromRow, QueryBuilder};
use uuid::Uuid;

use profiles::ProfileRow;

use self::errands::insert_errand;
use self::links::{insert_link, use_token};
use self::otps::use_proof;
use self::standing::{StandingRow, erase_doors, keep_standing};
use self::sweep::Ending;
use super::super::{Credentials, Login, NewAccount, PasswordChange, Refreshed, SignIn, Update, unreadable};
use super::{Db, FOR_UPDATE, Pool, SKIP_LOCKED, Tx, outbox};
use crate::email::Email;
use crate::error::Error;
use crate::external_account::ExternalAccount;
use crate::fact::Fact;
use crate::once::Once;
use crate::password::PasswordHash;
use crate::providers::Link;
use crate::publish;
use crate::refusal::Refusal;
use crate::session::{DeviceName, Grant, Identified, Lifetime, Refresh, Rotation, Session, TWO_TABS, Use};
use crate::standing::Standing;
use crate::token::{Hash, Salt, Token};
use crate::user::{Account, Bio, DisplayName, PictureUrl, User, UserKind};
use crate::username::Username;

/// The tables of auth in one database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: Pool,
    /// For how long nobody gets the username of a deleted account.
    names_rest: Duration,
}

/// What is read of a user.
macro_rules! user_columns {
    () => {
        "user_id, kind, username, display_name, email, bio, picture_url, password_hash, create_time, update_time, \
         delete_time, email_verify_time, background_check_time, has_replaced_verified, gender, date_of_birth, language, city, region, country, video_url, category, visibility, \
         max_calls_per_day, max_call_millis, time_zone, found_by_email, \
         COALESCE((SELECT string_agg(i.interest_id, ' ') FROM user_interests i WHERE i.user_id = users.user_id), '') \
             AS interests, \
         COALESCE((SELECT string_agg(c.category, ' ') FROM visible_categories c WHERE c.user_id = users.user_id), '') \
             AS visible_to, \
         COALESCE((SELECT r.review_count FROM ratings r WHERE r.user_id = users.user_id), 0) AS review_count, \
         COALESCE((SELECT r.star_sum FROM ratings r WHERE r.user_id = users.user_id), 0) AS star_sum, \
         COALESCE((SELECT e.namespace || ' ' || e.name FROM external_accounts e WHERE e.user_id = users.user_id), '') \
             AS external_account"
    };
}
use user_columns;

/// What is read of a session.
macro_rules! session_columns {
    () => {
        "s.user_id, s.session_id, s.secret_hash, s.device_name, s.create_time, s.last_use_time, s.expire_time"
    };
}
use session_columns;

const USER: &str = concat!("SELECT ", user_columns!(), " FROM users WHERE user_id = $1");

impl Store {
    pub fn new(pool: Pool, names_rest: Duration) -> Self {
        Self { pool, names_rest }
    }

    pub async fn create(&self, user: &User, hash: Option<&PasswordHash>, first: &Grant) -> Result<(), Error> {
        self.create_with(user, hash, first, None).await
    }

    pub async fn create_with(
        &self,
        user: &User,
        hash: Option<&PasswordHash>,
        first: &Grant,
        link: Option<(&Link, &Once)>,
    ) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        self.insert_user(&mut tx, user, hash).await?;
        if let Some((link, once)) = link {
            insert_link(&mut tx, link).await?;
            use_token(&mut tx, once, user.create_time).await?;
        }
        insert_session(&mut tx, first).await?;
        tx.commit().await?;
        Ok(())
    }

    pub async fn register(&self, new: NewAccount<'_>) -> Result<User, Error> {
        let NewAccount { mut user, hash, first, proof, requires_proof, requires_unclaimed, notice } = new;
        let mut tx = self.pool.begin().await?;
        if let Some(proof) = proof
            && use_proof(&mut tx, proof, user.create_time).await?
        {
            user.standing.email_verify_time = Some(user.create_time);
        }
        // Before the row is inserted: with a proof that tells whether the address is taken.
        if requires_proof && user.standing.email_verify_time.is_none() {
            return Err(Refusal::EmailNotVerified.into());
        }
        if requires_unclaimed
            && let Some(email) = &user.email
            && is_claimed(&mut tx, email).await?
        {
            return Err(Error::EmailTaken);
        }
        self.insert_user(&mut tx, &user, Some(hash)).await?;
        if let Some(errand) = notice {
            insert_errand(&mut tx, errand).await?;
        }
        insert_session(&mut tx, first).await?;
        tx.commit().await?;
        Ok(user)
    }

    pub async fn find_login(&self, login: &Login) -> Result<Option<Credentials>, Error> {
        let (sql, key) = match login {
            Login::Username(name) => {
                (concat!("SELECT ", user_columns!(), " FROM users WHERE username = $1"), name.as_str())
            }
            Login::Email(key) => {
                // A claim gives way to a proof. Of several claims the oldest counts: a later one of somebody else must
                // not shut out who has signed in with the address until now. What is no account claims nothing.
                let sql = concat!(
                    "SELECT ",
                    user_columns!(),
                    " FROM users WHERE email_key = $1 AND kind = 1
                     ORDER BY (email_verify_time IS NULL), user_id LIMIT 1"
                );
                (sql, key.as_str())
            }
        };
        let row: Option<UserRow> = sqlx::query_as(sql).bind(key).fetch_optional(self.pool.read()).await?;
        row.map(UserRow::into_credentials).transpose().map(Option::flatten)
    }

    pub async fn find_claims(
        &self,
        email_key: &str,
        username: Option<&Username>,
    ) -> Result<Vec<User>, Error> {
        let rows: Vec<UserRow> = sqlx::query_as(concat!(
            "SELECT ",
            user_columns!(),
            " FROM users WHERE email_key = $1 AND kind = 1
             ORDER BY (email_verify_time IS NULL), (username <> $2), user_id LIMIT 4"
        ))
        .bind(email_key)
        .bind(username.map_or("", Username::as_str))
        .fetch_all(self.pool.read())
        .await?;
        rows.into_iter().map(UserRow::into_user).collect()
    }

    pub async fn find_credentials(&self, id: UserId) -> Result<Option<Credentials>, Error> {
        let row: Option<UserRow> =
            sqlx::query_as(USER).bind(id.uuid()).fetch_optional(self.pool.read()).await?;
        row.map(UserRow::into_credentials).transpose().map(Option::flatten)
    }

    pub async fn sign_in(&self, sign_in: SignIn<'_>) -> Result<Vec<SessionId>, Error> {
        let SignIn { grant, verified, rehashed, most } = sign_in;
        let user_id = grant.session.user_id;
        let mut tx = self.pool.begin().await?;
        // The lock keeps two sign-ins of one user from each leaving a session too many.
        let Some(credentials) = lock_user(&mut tx, user_id).await? else { return Err(Error::BadCredentials) };
        if credentials.hash.as_ref() != Some(verified) {
            return Err(Error::BadCredentials);
        }
        if let Some(hash) = rehashed {
            set_password(&mut tx, user_id, hash, credentials.user.update_time).await?;
        }
        let ended = make_room(&mut tx, user_id, most).await?;
        insert_session(&mut tx, grant).await?;
        tx.commit().await?;
        Ok(ended)
    }

    pub async fn find_session(&self, token: &Token) -> Result<Option<Identified>, Error> {
        let row: Option<IdentifiedRow> = sqlx::query_as(concat!(
            "SELECT ",
            session_columns!(),
            ", u.kind FROM sessions s JOIN users u ON u.user_id = s.user_id WHERE s.family_hash = $1"
        ))
        .bind(token.family_hash().as_bytes())
        .fetch_optional(self.pool.read())
        .await?;
        let Some(IdentifiedRow { session, kind }) = row else { return Ok(None) };
        let opens = session.secret_hash()? == token.secret_hash();
        let kind = kind_of(kind).ok_or_else(|| unreadable("a session of nobody"))?;
        Ok(opens.then(|| Identified { session: session.into(), kind }))
    }

    pub async fn record_uses(&self, uses: &[Use]) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        for one in uses {
            sqlx::query(
                "UPDATE sessions SET last_use_time = $3, expire_time = $4
                 WHERE user_id = $1 AND session_id = $2 AND last_use_time < $3",
            )
            .bind(one.user_id.uuid())
            .bind(one.session_id.uuid())
            .bind(one.time.as_millis())
            .bind(one.expire_time.as_millis())
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    pub async fn refresh(
        &self,
        token: &Token,
        salt: &Salt,
        lifetime: Lifetime,
        now: Timestamp,
    ) -> Result<Refreshed, Error> {
        // Anybody may come with anything: what is no token of ours must not wait for, or keep, the only writer.
        let known: Option<i64> =
            sqlx::query_scalar("SELECT create_time FROM sessions WHERE family_hash = $1")
                .bind(token.family_hash().as_bytes())
                .fetch_optional(self.pool.read())
                .await?;
        if known.is_none() {
            return Ok(Refreshed::Unknown);
        }
        let mut tx = self.pool.begin().await?;
        // Locked: of two tabs that come with one token, the second must see what the first has made of it.
        let sql = concat!("SELECT ", session_columns!(), " FROM sessions s WHERE s.family_hash = $1");
        let row: Option<SessionRow> = sqlx::query_as(AssertSqlSafe(format!("{sql}{FOR_UPDATE}")))
            .bind(token.family_hash().as_bytes())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = row else { return Ok(Refreshed::Unknown) };
        let current = row.secret_hash()?;
        let session = Session::from(row);
        if !session.is_alive(now) {
            return Ok(Refreshed::Unknown);
        }
        let recent = rotations(&mut tx, &session).await?;
        let refreshed = match Refresh::judge(token, current, &recent, now) {
            Refresh::Rotate => {
                Refreshed::Granted(rotate(&mut tx, token, salt, session, lifetime, now).await?)
            }
            Refresh::Repeat(token) => Refreshed::Granted(Grant { token, session }),
            Refresh::Reused => {
                delete_session(&mut tx, session.user_id.uuid(), session.id.uuid()).await?;
                Refreshed::Reused(session)
            }
        };
        tx.commit().await?;
        Ok(refreshed)
    }

    pub async fn sessions_of(&self, user_id: UserId) -> Result<Vec<Session>, Error> {
        let rows: Vec<SessionRow> = sqlx::query_as(concat!(
            "SELECT ",
            session_columns!(),
            " FROM sessions s WHERE s.user_id = $1 ORDER BY s.session_id DESC LIMIT 1000"
        ))
        .bind(user_id.uuid())
        .fetch_all(self.pool.read())
        .await?;
        Ok(rows.into_iter().map(Session::from).collect())
    }

    pub async fn end_session(&self, user_id: UserId, id: SessionId) -> Result<bool, Error> {
        let mut tx = self.pool.begin().await?;
        let ended = delete_session(&mut tx, user_id.uuid(), id.uuid()).await?;
        tx.commit().await?;
        Ok(ended)
    }

    pub async fn change_password(&self, change: PasswordChange<'_>) -> Result<Vec<SessionId>, Error> {
        let PasswordChange { user_id, verified, new, keep, now } = change;
        let mut tx = self.pool.begin().await?;
        let Some(credentials) = lock_user(&mut tx, user_id).await? else {
            return Err(Error::Unauthenticated);
        };
        if credentials.hash.as_ref() != Some(verified) {
            return Err(Error::BadCredentials);
        }
        set_password(&mut tx, user_id, new, now).await?;
        // An id that no session has, when none is to be kept.
        let keep = keep.map_or(Uuid::nil(), SessionId::uuid);
        let ended: Vec<Uuid> = sqlx::query_scalar(
            "DELETE FROM sessions WHERE user_id = $1 AND session_id <> $2 RETURNING session_id",
        )
        .bind(user_id.uuid())
        .bind(keep)
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(ended.into_iter().map(SessionId::from).collect())
    }

    pub async fn find_accounts(&self, ids: &[UserId]) -> Result<Vec<Account>, Error> {
        let Some(last) = ids.last() else { return Ok(Vec::new()) };
        let mut query =
            QueryBuilder::<Db>::new(concat!("SELECT ", user_columns!(), " FROM users WHERE user_id IN ("));
        let mut list = query.separated(", ");
        // Filled up to a power of two, so that few texts of statements exist.
        let padding = std::iter::repeat_n(last, ids.len().next_power_of_two() - ids.len());
        for id in ids.iter().chain(padding) {
            list.push_bind(id.uuid());
        }
        query.push(")");
        let rows: Vec<UserRow> = query.build_query_as().fetch_all(self.pool.read()).await?;
        rows.into_iter().map(UserRow::into_account).collect()
    }

    pub async fn find_named(&self, names: &[Username]) -> Result<Vec<User>, Error> {
        let Some(last) = names.last() else { return Ok(Vec::new()) };
        let mut query =
            QueryBuilder::<Db>::new(concat!("SELECT ", user_columns!(), " FROM users WHERE username IN ("));
        let mut list = query.separated(", ");
        let padding = std::iter::repeat_n(last, names.len().next_power_of_two() - names.len());
        for name in names.iter().chain(padding) {
            list.push_bind(name.as_str());
        }
        query.push(")");
        let rows: Vec<UserRow> = query.build_query_as().fetch_all(self.pool.read()).await?;
        rows.into_iter().map(UserRow::into_user).collect()
    }

    pub async fn update_user(&self, update: &Update<'_>) -> Result<Option<User>, Error> {
        let Update { user_id: id, changes, proof, now } = *update;
        let mut tx = self.pool.begin().await?;
        let Some(Credentials { mut user, hash }) = lock_user(&mut tx, id).await? else { return Ok(None) };
        let before = user.clone();
        if changes.move_email(&user) {
            let proof = proof.filter(|one| one.email == user.email.as_ref() && one.verified == hash.as_ref());
            let Some(proof) = proof else { return Err(Error::BadCredentials) };
            for errand in [proof.farewell, proof.notice].into_iter().flatten() {
                insert_errand(&mut tx, errand).await?;
            }
        }
        changes.apply_to(&mut user, now)?;
        // Before the address: the new one is a claim, and is not held against those who have verified it.
        keep_standing(&mut tx, &user, before.standing).await?;
        sqlx::query(
            "UPDATE users SET display_name = $2, email = $3, email_key = $4, bio = $5, picture_url = $6, search = $7,
                              update_time = $8
             WHERE user_id = $1",
        )
        .bind(id.uuid())
        .bind(user.display_name.as_str())
        .bind(user.email.as_ref().map(Email::as_str))
        .bind(user.email.as_ref().map(Email::key))
        .bind(user.bio.as_str())
        .bind(user.picture.as_ref().map_or("", PictureUrl::as_str))
        .bind(user.search_text())
        .bind(now.as_millis())
        .execute(&mut *tx)
        .await?;
        profiles::save(&mut tx, id, &user.profile, &changes.profile).await?;
        if (&before.display_name, &before.picture) != (&user.display_name, &user.picture) {
            outbox::append(&mut tx, &publish::payload(&Fact::updated(id, now)), now.as_millis()).await?;
        }
        tx.commit().await?;
        Ok(Some(user))
    }

    pub async fn delete_user(
        &self,
        id: UserId,
        verified: Option<&PasswordHash>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        let Some(credentials) = lock_user(&mut tx, id).await? else { return Err(Error::Unauthenticated) };
        if credentials.hash.as_ref() != verified {
            return Err(Error::BadCredentials);
        }
        let facts = erase(&mut tx, &[id.uuid()], now).await?;
        outbox::append_all(&mut tx, &facts, now.as_millis()).await?;
        tx.commit().await?;
        Ok(())
    }

    pub async fn facts_after(&self, position: i64, limit: i64) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        Ok(outbox::list(&self.pool, position, limit).await?)
    }

    pub async fn history(&self, position: i64) -> Result<History, Error> {
        Ok(outbox::history(&self.pool, position).await?)
    }

    pub async fn sweep_sessions(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        let rows = Ending { table: "sessions", key: "(user_id, session_id)", time: "expire_time" };
        self.sweep(rows, now, limit).await
    }

    pub async fn sweep_guests(&self, now: Timestamp, limit: i64) -> Result<Vec<UserId>, Error> {
        let mut tx = self.pool.begin().await?;
        // A guest comes into being together with its session. Only one that is found again by a name gets another.
        let sql = "SELECT user_id FROM users u WHERE kind = 2
                   AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.user_id = u.user_id) ORDER BY user_id LIMIT $1";
        let ids: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(format!("{sql}{SKIP_LOCKED}")))
            .bind(limit)
            .fetch_all(&mut *tx)
            .await?;
        // It may have got one after the statement above began and before it locked the row.
        let mut gone = Vec::with_capacity(ids.len());
        for id in ids {
            let sessions: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sessions WHERE user_id = $1")
                .bind(id)
                .fetch_one(&mut *tx)
                .await?;
            gone.extend((sessions == 0).then_some(id));
        }
        let facts = erase(&mut tx, &gone, now).await?;
        outbox::append_all(&mut tx, &facts, now.as_millis()).await?;
        tx.commit().await?;
        Ok(gone.into_iter().map(UserId::from).collect())
    }
}

impl Store {
    /// Keeps a new account.
    async fn insert_user(&self, tx: &mut Tx, user: &User, hash: Option<&PasswordHash>) -> Result<(), Error> {
        insert_user(tx, user, hash).await?;
        // Afterwards: who waited for a deletion at the same moment sees it now.
        match &user.username {
            Some(name) => names::check_free(tx, name, user.create_time.minus(self.names_rest)).await,
            None => Ok(()),
        }
    }
}

async fn insert_user(tx: &mut Tx, user: &User, hash: Option<&PasswordHash>) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO users (user_id, kind, username, display_name, email, email_key, bio, picture_url,
                            password_hash, search, create_time, update_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(user.id.uuid())
    .bind(kind_number(user.kind))
    .bind(user.username.as_ref().map(Username::as_str))
    .bind(user.display_name.as_str())
    .bind(user.email.as_ref().map(Email::as_str))
    .bind(user.email.as_ref().map(Email::key))
    .bind(user.bio.as_str())
    .bind(user.picture.as_ref().map_or("", PictureUrl::as_str))
    .bind(hash.map(PasswordHash::as_str))
    .bind(user.search_text())
    .bind(user.create_time.as_millis())
    .bind(user.update_time.as_millis())
    .execute(&mut **tx)
    .await
    .map_err(|error| refused(error, user.username.as_ref()))?;
    keep_standing(tx, user, Standing::default()).await
}

/// Whether an account has the address or claims it.
async fn is_claimed(tx: &mut Tx, email: &Email) -> Result<bool, Error> {
    let accounts: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM users WHERE email_key = $1 AND kind = 1")
        .bind(email.key())
        .fetch_one(&mut **tx)
        .await?;
    Ok(accounts > 0)
}

/// A living user, whose row nobody else changes until the transaction ends.
async fn lock_user(tx: &mut Tx, id: UserId) -> Result<Option<Credentials>, Error> {
    let row: Option<UserRow> = sqlx::query_as(AssertSqlSafe(format!("{USER}{FOR_UPDATE}")))
        .bind(id.uuid())
        .fetch_optional(&mut **tx)
        .await?;
    row.map(UserRow::into_credentials).transpose().map(Option::flatten)
}

async fn set_password(
    tx: &mut Tx,
    id: UserId,
    hash: &PasswordHash,
    update_time: Timestamp,
) -> Result<(), Error> {
    sqlx::query("UPDATE users SET password_hash = $2, update_time = $3 WHERE user_id = $1")
        .bind(id.uuid())
        .bind(hash.as_str())
        .bind(update_time.as_millis())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Ends the sessions unused for longest that would be too many with one more, and returns them.
async fn make_room(tx: &mut Tx, user_id: UserId, most: u32) -> Result<Vec<SessionId>, Error> {
    let too_many: Vec<Uuid> = sqlx::query_scalar(
        "SELECT session_id FROM sessions WHERE user_id = $1
         ORDER BY last_use_time DESC, session_id DESC LIMIT 1000 OFFSET $2",
    )
    .bind(user_id.uuid())
    .bind(i64::from(most) - 1)
    .fetch_all(&mut **tx)
    .await?;
    for session_id in &too_many {
        delete_session(tx, user_id.uuid(), *session_id).await?;
    }
    Ok(too_many.into_iter().map(SessionId::from).collect())
}

async fn insert_session(tx: &mut Tx, grant: &Grant) -> Result<(), Error> {
    let Grant { token, session } = grant;
    sqlx::query(
        "INSERT INTO sessions (user_id, session_id, family_hash, secret_hash, device_name, create_time,
                               last_use_time, expire_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(session.user_id.uuid())
    .bind(session.id.uuid())
    .bind(token.family_hash().as_bytes())
    .bind(token.secret_hash().as_bytes())
    .bind(session.device_name.as_str())
    .bind(session.create_time.as_millis())
    .bind(session.last_use_time.as_millis())
    .bind(session.expire_time.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn delete_session(tx: &mut Tx, user_id: Uuid, session_id: Uuid) -> Result<bool, Error> {
    let deleted = sqlx::query("DELETE FROM sessions WHERE user_id = $1 AND session_id = $2")
        .bind(user_id)
        .bind(session_id)
        .execute(&mut **tx)
        .await?;
    Ok(deleted.rows_affected() == 1)
}

/// The secrets of a session that were replaced lately.
async fn rotations(tx: &mut Tx, session: &Session) -> Result<Vec<Rotation>, Error> {
    let rows: Vec<(Vec<u8>, Vec<u8>, i64)> = sqlx::query_as(
        "SELECT secret_hash, successor_salt, rotate_time FROM session_rotations
         WHERE user_id = $1 AND session_id = $2",
    )
    .bind(session.user_id.uuid())
    .bind(session.id.uuid())
    .fetch_all(&mut **tx)
    .await?;
    let read = |(hash, salt, time): (Vec<u8>, Vec<u8>, i64)| {
        let (secret_hash, salt) = (Hash::stored(&hash)?, Salt::stored(&salt)?);
        Some(Rotation { secret_hash, salt, time: Timestamp::from_millis(time) })
    };
    let rotations: Option<Vec<Rotation>> = rows.into_iter().map(read).collect();
    rotations.ok_or_else(|| unreadable("a rotation of a wrong length"))
}

/// Makes the successor of the token the one that opens the session.
async fn rotate(
    tx: &mut Tx,
    token: &Token,
    salt: &Salt,
    session: Session,
    lifetime: Lifetime,
    now: Timestamp,
) -> Result<Grant, Error> {
    let next = token.successor(salt);
    let expire_time = lifetime.end(session.create_time, now);
    sqlx::query("DELETE FROM session_rotations WHERE user_id = $1 AND session_id = $2 AND rotate_time <= $3")
        .bind(session.user_id.uuid())
        .bind(session.id.uuid())
        .bind(now.minus(TWO_TABS).as_millis())
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "INSERT INTO session_rotations (user_id, session_id, secret_hash, successor_salt, rotate_time)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(session.user_id.uuid())
    .bind(session.id.uuid())
    .bind(token.secret_hash().as_bytes())
    .bind(salt.as_bytes())
    .bind(now.as_millis())
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "UPDATE sessions SET secret_hash = $3, last_use_time = $4, expire_time = $5
         WHERE user_id = $1 AND session_id = $2",
    )
    .bind(session.user_id.uuid())
    .bind(session.id.uuid())
    .bind(next.secret_hash().as_bytes())
    .bind(now.as_millis())
    .bind(expire_time.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(Grant { token: next, session: Session { last_use_time: now, expire_time, ..session } })
}

/// Leaves of users nothing but their ids and when they went, and returns the facts about it. Their rows are locked, and
/// the ids in order: what they share with others is locked in one order over all of them.
async fn erase(tx: &mut Tx, ids: &[Uuid], now: Timestamp) -> Result<Vec<Vec<u8>>, Error> {
    let mut facts = Vec::with_capacity(ids.len());
    for id in ids {
        facts.extend(reviews::erase(tx, *id, now).await?);
    }
    for id in ids {
        acquaintances::erase(tx, *id).await?;
        profiles::erase(tx, *id).await?;
        erase_account(tx, *id, now).await?;
        facts.push(publish::payload(&Fact::deleted(UserId::from(*id), now)));
    }
    Ok(facts)
}

async fn erase_account(tx: &mut Tx, id: Uuid, now: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM sessions WHERE user_id = $1").bind(id).execute(&mut **tx).await?;
    sqlx::query("DELETE FROM device_keys WHERE user_id = $1").bind(id).execute(&mut **tx).await?;
    erase_doors(tx, id).await?;
    names::release(tx, id, now).await?;
    sqlx::query(
        "UPDATE users SET kind = 0, username = NULL, display_name = '', email = NULL, email_key = NULL, bio = '',
                          picture_url = '', password_hash = NULL, search = '', create_time = 0, update_time = 0,
                          delete_time = $2
         WHERE user_id = $1",
    )
    .bind(id)
    .bind(now.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What a unique index has refused, in our words.
fn refused(error: sqlx::Error, username: Option<&Username>) -> Error {
    if violates(&error, "users_verified_email", "users.email_key") {
        return Error::EmailTaken;
    }
    match username {
        Some(name) if violates(&error, "users_username", "users.username") => {
            Error::UsernameTaken(name.clone())
        }
        _ => error.into(),
    }
}

/// The pattern of texts that contain this one.
fn contains(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

fn kind_number(kind: UserKind) -> i64 {
    match kind {
        UserKind::Registered => 1,
        UserKind::Guest => 2,
        UserKind::External => 3,
    }
}

fn kind_of(number: i64) -> Option<UserKind> {
    match number {
        1 => Some(UserKind::Registered),
        2 => Some(UserKind::Guest),
        3 => Some(UserKind::External),
        _ => None,
    }
}

#[derive(FromRow)]
struct UserRow {
    user_id: Uuid,
    kind: i64,
    username: Option<String>,
    display_name: String,
    email: Option<String>,
    bio: String,
    picture_url: String,
    password_hash: Option<String>,
    create_time: i64,
    update_time: i64,
    delete_time: Option<i64>,
    /// Namespace and name with a space between them, which no namespace has; empty when there are none.
    external_account: String,
    #[sqlx(flatten)]
    profile: ProfileRow,
    #[sqlx(flatten)]
    standing: StandingRow,
}

impl UserRow {
    fn into_user(self) -> Result<User, Error> {
        Ok(User {
            id: self.user_id.into(),
            kind: kind_of(self.kind).ok_or_else(|| unreadable("a user of no kind"))?,
            username: self.username.map(Username::stored),
            display_name: DisplayName::stored(self.display_name),
            email: self.email.map(|text| Email::parse("email", &text)).transpose()?,
            bio: Bio::stored(self.bio),
            picture: Some(self.picture_url).filter(|url| !url.is_empty()).map(PictureUrl::stored),
            create_time: Timestamp::from_millis(self.create_time),
            update_time: Timestamp::from_millis(self.update_time),
            rating: self.profile.rating(),
            profile: self.profile.into_profile()?,
            standing: self.standing.into(),
            external: self
                .external_account
                .split_once(' ')
                .map(|(namespace, name)| ExternalAccount::stored(namespace, name)),
        })
    }

    fn into_account(self) -> Result<Account, Error> {
        match self.delete_time {
            None => self.into_user().map(Account::Living),
            Some(time) => {
                Ok(Account::Deleted { id: self.user_id.into(), delete_time: Timestamp::from_millis(time) })
            }
        }
    }

    /// `None` for a tombstone.
    fn into_credentials(mut self) -> Result<Option<Credentials>, Error> {
        let hash = self.password_hash.take().map(PasswordHash::new);
        match self.into_account()? {
            Account::Living(user) => Ok(Some(Credentials { user, hash })),
            Account::Deleted { .. } => Ok(None),
        }
    }
}

#[derive(FromRow)]
struct SessionRow {
    user_id: Uuid,
    session_id: Uuid,
    secret_hash: Vec<u8>,
    device_name: String,
    create_time: i64,
    last_use_time: i64,
    expire_time: i64,
}

impl SessionRow {
    fn secret_hash(&self) -> Result<Hash, Error> {
        Hash::stored(&self.secret_hash).ok_or_else(|| unreadable("a sum of a wrong length"))
    }
}

impl From<SessionRow> for Session {
    fn from(row: SessionRow) -> Self {
        Self {
            id: row.session_id.into(),
            user_id: row.user_id.into(),
            device_name: DeviceName::stored(row.device_name),
            create_time: Timestamp::from_millis(row.create_time),
            last_use_time: Timestamp::from_millis(row.last_use_time),
            expire_time: Timestamp::from_millis(row.expire_time),
        }
    }
}

#[derive(FromRow)]
struct IdentifiedRow {
    #[sqlx(flatten)]
    session: SessionRow,
    kind: i64,
}
