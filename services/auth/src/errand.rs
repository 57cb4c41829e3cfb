//! An errand: something to be done outside of this program, written down with the change that wants it and repeated
//! until it is done.

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::{BackgroundCheckId, ErrandId, UserId};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::mail::Letter;
use crate::vault::{Use, Vault};

/// What kind of errand it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A mail is to be sent.
    Mail,
    /// A background check is to be handed in.
    BackgroundCheck,
}

impl Kind {
    /// Its number in the database.
    pub const fn number(self) -> i64 {
        match self {
            Self::Mail => 1,
            Self::BackgroundCheck => 2,
        }
    }

    /// The kind with this number.
    pub const fn of(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::Mail),
            2 => Some(Self::BackgroundCheck),
            _ => None,
        }
    }

    /// Its name, for metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::BackgroundCheck => "background_check",
        }
    }

    /// How long to wait after so many tries: twice as long each time, up to an end.
    pub fn backoff(self, attempts: i64) -> Duration {
        let (first, longest) = match self {
            // A code does not live long.
            Self::Mail => (Duration::from_secs(2), Duration::from_secs(60)),
            Self::BackgroundCheck => (Duration::from_secs(5), Duration::from_secs(3600)),
        };
        let doublings = u32::try_from(attempts.saturating_sub(1).clamp(0, 16)).unwrap_or(0);
        first.saturating_mul(1 << doublings).min(longest)
    }
}

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Task {
    /// A mail is to be sent.
    Mail(Letter),
    /// The body of a request is to be handed to the provider of background checks.
    BackgroundCheck {
        /// What the provider is told, in JSON.
        body: String,
    },
}

impl Task {
    fn kind(&self) -> Kind {
        match self {
            Self::Mail(_) => Kind::Mail,
            Self::BackgroundCheck { .. } => Kind::BackgroundCheck,
        }
    }
}

/// An errand as it is kept.
#[derive(Clone, Debug)]
pub struct Errand {
    /// Its id.
    pub id: ErrandId,
    /// Its kind.
    pub kind: Kind,
    /// Whose it is; `None` for a mail that nobody gets.
    pub user_id: Option<UserId>,
    /// The task, encrypted.
    pub sealed: Vec<u8>,
    /// When it may be tried.
    pub due_time: Timestamp,
    /// How often it has been tried, the try in progress included. Names that try.
    pub attempts: i64,
    /// From when on it makes no sense any more.
    pub expire_time: Timestamp,
}

impl Errand {
    /// An errand that may be tried at once.
    pub fn new(
        vault: &Vault,
        task: &Task,
        user_id: Option<UserId>,
        now: Timestamp,
        expire_time: Timestamp,
    ) -> Result<Self, Error> {
        Self::with_id(ErrandId::generate(), vault, task, user_id, now, expire_time)
    }

    /// The errand of a background check, which has its id.
    pub fn of_check(
        vault: &Vault,
        (id, user_id): (BackgroundCheckId, UserId),
        body: String,
        now: Timestamp,
        expire_time: Timestamp,
    ) -> Result<Self, Error> {
        let task = Task::BackgroundCheck { body };
        Self::with_id(id.uuid().into(), vault, &task, Some(user_id), now, expire_time)
    }

    fn with_id(
        id: ErrandId,
        vault: &Vault,
        task: &Task,
        user_id: Option<UserId>,
        now: Timestamp,
        expire_time: Timestamp,
    ) -> Result<Self, Error> {
        let plain = serde_json::to_vec(task).map_err(|error| Error::Internal(error.into()))?;
        let plain = zeroize::Zeroizing::new(plain);
        let sealed = vault.seal(Use::Errand, id.uuid().as_bytes(), &plain)?;
        Ok(Self { id, kind: task.kind(), user_id, sealed, due_time: now, attempts: 0, expire_time })
    }

    /// The task; `None` when it was encrypted under another secret.
    pub fn open(&self, vault: &Vault) -> Option<Task> {
        let plain = vault.open_sealed(Use::Errand, self.id.uuid().as_bytes(), &self.sealed)?;
        serde_json::from_slice(&plain).ok()
    }

    /// The background check that it hands in.
    pub fn check_id(&self) -> BackgroundCheckId {
        self.id.uuid().into()
    }
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It will never be; says why.
    Refused(String),
    /// It may work later; says what was wrong.
    Again(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_come_less_and_less_often() {
        let waits = |kind: Kind| [1, 2, 3, 6, 40].map(|attempts| kind.backoff(attempts).as_secs());
        assert_eq!(waits(Kind::Mail), [2, 4, 8, 60, 60]);
        assert_eq!(waits(Kind::BackgroundCheck), [5, 10, 20, 160, 3600]);
        assert_eq!(Kind::BackgroundCheck.backoff(i64::MAX).as_secs(), 3600);
    }

    #[test]
    fn an_errand_is_kept_encrypted_and_opens_as_itself_only() {
        let (vault, now) = (Vault::new(b"key"), Timestamp::from_millis(1));
        let task = Task::BackgroundCheck { body: "Ann Archer".to_owned() };
        let errand = Errand::new(&vault, &task, None, now, now).unwrap();
        assert!(!errand.sealed.windows(3).any(|window| window == b"Ann"));
        assert!(matches!(errand.open(&vault), Some(Task::BackgroundCheck { body }) if body == "Ann Archer"));
        let other = Errand { id: ErrandId::generate(), ..errand };
        assert!(other.open(&vault).is_none());
    }
}
