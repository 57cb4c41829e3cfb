//! What auth keeps, on SQLite or PostgreSQL. Every method is a whole change or a whole answer.

mod postgres;
mod sqlite;

#[cfg(test)]
#[macro_use]
mod contract;
#[cfg(test)]
mod contract_attempts;
#[cfg(test)]
mod contract_background_checks;
#[cfg(test)]
mod contract_codes;
#[cfg(test)]
mod contract_device_keys;
#[cfg(test)]
mod contract_external_accounts;
#[cfg(test)]
mod contract_links;
#[cfg(test)]
mod contract_people;
#[cfg(test)]
mod contract_reviews;
#[cfg(test)]
mod contract_stream_tickets;

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use chassis::clock::Timestamp;
use chassis::database::facts::History;
use chassis::database::{self, Database};
use proto::id::{DeviceKeyId, ReviewId, SessionId, UserId};
use sqlx::migrate::Migrator;

use crate::attempts;
use crate::device_key::DeviceKey;
use crate::email::Email;
use crate::errand::Errand;
use crate::error::Error;
use crate::interests::{InterestListing, InterestPage};
use crate::otp::AddressProof;
use crate::password::PasswordHash;
use crate::pepper::PepperId;
use crate::review::{Acquaintance, Place, Put, Rating, Review, ReviewPage, Whose};
use crate::session::{Grant, Identified, Lifetime, Session, Use};
use crate::token::{Salt, Token};
use crate::user::{Account, Changes, Listing, User, UserPage};
use crate::username::Username;

/// Brings the tables of auth up to date.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// The tables of auth.
#[derive(Clone, Debug)]
pub enum Store {
    /// In a file.
    Sqlite(sqlite::Store),
    /// In a server.
    Postgres(postgres::Store),
}

/// Calls the method of whichever store it is.
macro_rules! on {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Store::Sqlite($store) => $call,
            Store::Postgres($store) => $call,
        }
    };
}

mod doors;

pub use doors::{Letters, Redemption};

impl Store {
    /// The tables in this database, with the usual time after which the username of a deleted account is free.
    #[cfg(test)]
    pub fn new(database: &Database) -> Self {
        Self::with_names(database, crate::config::UsernamesConfig::default().rest())
    }

    /// The tables in this database. Nobody gets the username of a deleted account before `rest` is over.
    pub fn with_names(database: &Database, rest: Duration) -> Self {
        match database {
            Database::Sqlite(pool) => Self::Sqlite(sqlite::Store::new(pool.clone(), rest)),
            Database::Postgres(pool) => Self::Postgres(postgres::Store::new(pool.clone(), rest)),
        }
    }

    /// Keeps a new account and its first session. Refuses a name that somebody has, and, for an address that is verified from
    /// the start, one that somebody has verified.
    pub async fn create(&self, user: &User, hash: Option<&PasswordHash>, first: &Grant) -> Result<(), Error> {
        on!(self, store => store.create(user, hash, first).await)
    }

    /// Notes the id of a pepper under which passwords are hashed. Returns the ids that were ever noted.
    pub async fn note_pepper(&self, id: Option<PepperId>) -> Result<Vec<Vec<u8>>, Error> {
        on!(self, store => store.note_pepper(id).await)
    }

    /// Counts a try under a key, unless its quota is used up. The inner error is the time until the next try is allowed.
    pub async fn count_attempt(
        &self,
        key: &attempts::Key,
        quota: attempts::Quota,
        now: Timestamp,
    ) -> Result<Result<(), Duration>, Error> {
        on!(self, store => store.count_attempt(key, quota, now).await)
    }

    /// Forgets keys whose quota is whole again, at most `limit`. Returns their number.
    pub async fn sweep_attempts(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        on!(self, store => store.sweep_attempts(now, limit).await)
    }

    /// The account that signs in with this name or address, and what is kept of its password.
    pub async fn find_login(&self, login: &Login) -> Result<Option<Credentials>, Error> {
        on!(self, store => store.find_login(login).await)
    }

    /// The living registered accounts with an address: the one that has verified it, the one that is named, and two of the
    /// others.
    pub async fn find_claims(
        &self,
        email_key: &str,
        username: Option<&Username>,
    ) -> Result<Vec<User>, Error> {
        on!(self, store => store.find_claims(email_key, username).await)
    }

    /// A living user, and what is kept of its password.
    pub async fn find_credentials(&self, id: UserId) -> Result<Option<Credentials>, Error> {
        on!(self, store => store.find_credentials(id).await)
    }

    /// Opens a session, unless the account is gone or its password has changed since it was verified. Ends the sessions
    /// unused for longest that are too many, and returns them.
    pub async fn sign_in(&self, sign_in: SignIn<'_>) -> Result<Vec<SessionId>, Error> {
        on!(self, store => store.sign_in(sign_in).await)
    }

    /// The session that a token opens, alive or not.
    pub async fn find_session(&self, token: &Token) -> Result<Option<Identified>, Error> {
        on!(self, store => store.find_session(token).await)
    }

    /// Writes down when sessions were used. What is older than what is known changes nothing.
    pub async fn record_uses(&self, uses: &[Use]) -> Result<(), Error> {
        on!(self, store => store.record_uses(uses).await)
    }

    /// Trades a token for its successor. `salt` makes the successor if there is to be a new one.
    pub async fn refresh(
        &self,
        token: &Token,
        salt: &Salt,
        lifetime: Lifetime,
        now: Timestamp,
    ) -> Result<Refreshed, Error> {
        on!(self, store => store.refresh(token, salt, lifetime, now).await)
    }

    /// A user's sessions, newest first, dead ones included.
    pub async fn sessions_of(&self, user_id: UserId) -> Result<Vec<Session>, Error> {
        on!(self, store => store.sessions_of(user_id).await)
    }

    /// Ends one of a user's sessions. `false` when there is no such session.
    pub async fn end_session(&self, user_id: UserId, id: SessionId) -> Result<bool, Error> {
        on!(self, store => store.end_session(user_id, id).await)
    }

    /// Sets a new password, unless the one verified is not the one in use any more. Ends the user's sessions but
    /// `keep`, and returns them.
    pub async fn change_password(&self, change: PasswordChange<'_>) -> Result<Vec<SessionId>, Error> {
        on!(self, store => store.change_password(change).await)
    }

    /// What these ids stand for, in no particular order. Ids that stand for nobody are left out.
    pub async fn find_accounts(&self, ids: &[UserId]) -> Result<Vec<Account>, Error> {
        on!(self, store => store.find_accounts(ids).await)
    }

    /// Who has these names, in no particular order. Names that nobody has are left out.
    pub async fn find_named(&self, names: &[Username]) -> Result<Vec<User>, Error> {
        on!(self, store => store.find_named(names).await)
    }

    /// Living users, in the order in which they came. Whoever asks for anything of a profile finds only those that it sees.
    pub async fn list_users(&self, listing: &Listing) -> Result<UserPage, Error> {
        on!(self, store => store.list_users(listing).await)
    }

    /// Which of these users' profiles a user sees.
    pub async fn seen_by(&self, viewer: UserId, ids: &[UserId]) -> Result<HashSet<UserId>, Error> {
        on!(self, store => store.seen_by(viewer, ids).await)
    }

    /// What people can be interested in, in the order of the list.
    pub async fn list_interests(&self, listing: &InterestListing) -> Result<InterestPage, Error> {
        on!(self, store => store.list_interests(listing).await)
    }

    /// Keeps that two users know each other or that one blocks the other, or that it is so no longer. What is not newer than what is known changes nothing, and
    /// neither does what is said about somebody who is gone.
    pub async fn record_acquaintance(&self, acquaintance: &Acquaintance) -> Result<(), Error> {
        on!(self, store => store.record_acquaintance(acquaintance).await)
    }

    /// Keeps a review, or gives the one that is there its verdict and its time, and says so in the outbox. The same
    /// verdict again changes nothing. Refuses one about nobody, a new one between two who are not acquainted, and any
    /// between two of whom one blocks the other.
    pub async fn put_review(&self, review: &Review) -> Result<Put, Error> {
        on!(self, store => store.put_review(review).await)
    }

    /// Deletes a review, says so in the outbox, and returns the user's rating without it; `None` when there is none.
    pub async fn delete_review(
        &self,
        reviewer_id: UserId,
        user_id: UserId,
        now: Timestamp,
    ) -> Result<Option<Rating>, Error> {
        on!(self, store => store.delete_review(reviewer_id, user_id, now).await)
    }

    /// Reviews, the one that changed last first, from behind a place on.
    pub async fn list_reviews(
        &self,
        whose: Whose,
        before: Option<Place>,
        limit: i64,
    ) -> Result<ReviewPage, Error> {
        on!(self, store => store.list_reviews(whose, before, limit).await)
    }

    /// One person's review of another.
    pub async fn find_review(&self, reviewer_id: UserId, user_id: UserId) -> Result<Option<Review>, Error> {
        on!(self, store => store.find_review(reviewer_id, user_id).await)
    }

    /// The reviews with these ids that a user wrote or is the subject of, in no particular order.
    pub async fn find_reviews(&self, viewer: UserId, ids: &[ReviewId]) -> Result<Vec<Review>, Error> {
        on!(self, store => store.find_reviews(viewer, ids).await)
    }

    /// What the reviews of a user come to.
    pub async fn rating_of(&self, user_id: UserId) -> Result<Rating, Error> {
        on!(self, store => store.rating_of(user_id).await)
    }

    /// Changes a living user and returns it; `None` when there is no such user. Refuses interests that there are not, what
    /// does not fit together, and to replace an address other than the one, or under
    /// another password than the one, of which that was proven.
    pub async fn update_user(&self, update: &Update<'_>) -> Result<Option<User>, Error> {
        on!(self, store => store.update_user(update).await)
    }

    /// Deletes a user unless the password verified is not the one in use any more: leaves a tombstone, ends all
    /// sessions, takes away the reviews by and about the user, and says so in the outbox. The username rests.
    pub async fn delete_user(
        &self,
        id: UserId,
        verified: Option<&PasswordHash>,
        now: Timestamp,
    ) -> Result<(), Error> {
        on!(self, store => store.delete_user(id, verified, now).await)
    }

    /// Keeps a new key of a living user's device, and returns it; or the one that was kept first when the user has the
    /// same key already. Refuses one that was revoked, and one too many.
    pub async fn register_device_key(&self, key: &DeviceKey) -> Result<DeviceKey, Error> {
        on!(self, store => store.register_device_key(key).await)
    }

    /// A user's device keys, oldest first, revoked ones included.
    pub async fn device_keys_of(&self, user_id: UserId) -> Result<Vec<DeviceKey>, Error> {
        on!(self, store => store.device_keys_of(user_id).await)
    }

    /// Revokes one of a user's device keys and returns it; `None` when there is no such key. One that was revoked before
    /// stays as it is.
    pub async fn revoke_device_key(
        &self,
        user_id: UserId,
        id: DeviceKeyId,
        now: Timestamp,
    ) -> Result<Option<DeviceKey>, Error> {
        on!(self, store => store.revoke_device_key(user_id, id, now).await)
    }

    /// The facts after a position, oldest first, as they were written.
    pub async fn facts_after(&self, position: i64, limit: i64) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        on!(self, store => store.facts_after(position, limit).await)
    }

    /// What there is to say of the facts as a whole, and the fact at a position. Ask after the facts.
    pub async fn history(&self, position: i64) -> Result<History, Error> {
        on!(self, store => store.history(position).await)
    }

    /// Removes sessions that have ended by themselves, at most so many, and says how many.
    pub async fn sweep_sessions(&self, now: Timestamp, limit: i64) -> Result<u64, Error> {
        on!(self, store => store.sweep_sessions(now, limit).await)
    }

    /// Deletes guests whose session has ended, as [`Store::delete_user`] does, at most so many, and returns them.
    pub async fn sweep_guests(&self, now: Timestamp, limit: i64) -> Result<Vec<UserId>, Error> {
        on!(self, store => store.sweep_guests(now, limit).await)
    }
}

/// What somebody signs in with, folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// A username.
    Username(Username),
    /// The key of an e-mail address.
    Email(String),
}

/// A living user and what is kept of its password.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user.
    pub user: User,
    /// What is kept of the password. Guests have none.
    pub hash: Option<PasswordHash>,
}

/// A session to open for a user whose password was verified.
#[derive(Debug)]
pub struct SignIn<'a> {
    /// The session and its token.
    pub grant: &'a Grant,
    /// What the password was verified against.
    pub verified: &'a PasswordHash,
    /// What to keep of the password instead, when the parameters have changed.
    pub rehashed: Option<&'a PasswordHash>,
    /// How many sessions the user has at most, with this one.
    pub most: u32,
}

/// A password to set for a user who has proven the old one.
#[derive(Debug)]
pub struct PasswordChange<'a> {
    /// The user.
    pub user_id: UserId,
    /// What the old password was verified against.
    pub verified: &'a PasswordHash,
    /// What to keep of the new one.
    pub new: &'a PasswordHash,
    /// The session that goes on.
    pub keep: Option<SessionId>,
    /// When.
    pub now: Timestamp,
}

/// What a user changes about itself.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// The user.
    pub user_id: UserId,
    /// What is to change.
    pub changes: &'a Changes,
    /// The proof that the owner sets or moves the address; `None` when it stays.
    pub proof: Option<OwnerProof<'a>>,
    /// When.
    pub now: Timestamp,
}

/// Proof that the owner of an account acts.
#[derive(Clone, Copy, Debug)]
pub struct OwnerProof<'a> {
    /// The address that was in use then.
    pub email: Option<&'a Email>,
    /// What the password was verified against; `None` when there was none.
    pub verified: Option<&'a PasswordHash>,
    /// The mail that tells the old address.
    pub farewell: Option<&'a Errand>,
    /// The mail that tells the account that has the new address, or nobody.
    pub notice: Option<&'a Errand>,
}

/// An account to register.
#[derive(Debug)]
pub struct NewAccount<'a> {
    /// The account.
    pub user: User,
    /// What to keep of its password.
    pub hash: &'a PasswordHash,
    /// Its first session.
    pub first: &'a Grant,
    /// A proof of its address that may have been given.
    pub proof: Option<&'a AddressProof>,
    /// True when there must be a proof.
    pub requires_proof: bool,
    /// True when no account may have or claim the address.
    pub requires_unclaimed: bool,
    /// The mail that tells the account that has the address, or nobody.
    pub notice: Option<&'a Errand>,
}

/// What came of a refresh.
#[derive(Debug)]
pub enum Refreshed {
    /// The token that opens the session now.
    Granted(Grant),
    /// The token was replaced long ago. The session has ended.
    Reused(Session),
    /// The token stands for nothing.
    Unknown,
}

/// What the database said.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Failure(sqlx::Error);

impl Failure {
    /// Whether the same may work soon.
    pub fn is_transient(&self) -> bool {
        database::is_transient(&self.0)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(Failure(error))
    }
}

/// A row holds what no program of ours writes.
fn unreadable(what: impl fmt::Display) -> Error {
    Error::Internal(anyhow::anyhow!("the database holds {what}"))
}
