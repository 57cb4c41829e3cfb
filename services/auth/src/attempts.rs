//! The limit on tries of passwords. Every try counts, right or wrong, for the name that is tried: the same for a name
//! that no account has. The counts are kept in the database: they outlast a restart and hold for all replicas together.

use std::time::Duration;

use chassis::caller::ClientNetwork;
use chassis::clock::Clock;
use proto::id::UserId;
use sha2::{Digest, Sha256};

use crate::config::AttemptsConfig;
use crate::error::Error;
use crate::store::Store;

/// Counts tries per name and per account.
#[derive(Debug)]
pub struct Attempts {
    store: Store,
    clock: Clock,
    quota: Quota,
}

/// A sum, so that long names take no more room than short ones and none of them is kept.
pub type Key = [u8; 32];

/// The tries that a key has: some in a row, and one more after each refill time (GCRA, the generic cell rate algorithm).
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// The tries in a row, at least 1.
    pub burst: u32,
    /// The time after which one more is allowed.
    pub refill: Duration,
}

impl Quota {
    /// The time of one try in milliseconds.
    pub fn refill_millis(self) -> i64 {
        i64::try_from(self.refill.as_millis()).unwrap_or(i64::MAX)
    }

    /// A try is allowed while the quota is whole again within this time.
    pub fn tolerance(self) -> Duration {
        self.refill.saturating_mul(self.burst.saturating_sub(1))
    }

    /// No quota is whole again later than this after a try. A row that says so was written under a clock that was ahead.
    pub fn longest(self) -> Duration {
        self.refill.saturating_mul(self.burst)
    }
}

impl Attempts {
    /// Counts in this store.
    ///
    /// # Errors
    /// Fails when the refill time is shorter than a millisecond.
    pub fn new(config: &AttemptsConfig, store: Store, clock: Clock) -> anyhow::Result<Self> {
        let quota = Quota { burst: config.burst.get(), refill: config.refill };
        anyhow::ensure!(quota.refill_millis() > 0, "attempts.refill must be at least 1ms");
        Ok(Self { store, clock, quota })
    }

    /// Counts a try to sign in with this name, folded, from this network: guesses slow down their own network and no one
    /// else who has the name.
    pub async fn by_login(&self, login: &str, from: Option<ClientNetwork>) -> Result<(), Error> {
        let network = from.map(|network| network.to_string()).unwrap_or_default();
        self.count(b"login", format!("{network} {login}").as_bytes()).await
    }

    /// Counts a try to prove that the caller is this user.
    pub async fn by_user(&self, user_id: UserId) -> Result<(), Error> {
        self.count(b"user ", user_id.uuid().as_bytes()).await
    }

    async fn count(&self, what: &[u8; 5], whose: &[u8]) -> Result<(), Error> {
        let key = Sha256::new().chain_update(what).chain_update(whose).finalize().into();
        let counted = self.store.count_attempt(&key, self.quota, self.clock.now()).await?;
        counted.map_err(|wait| {
            metrics::counter!("auth_attempts_refused_total").increment(1);
            // Rounded up: a client that comes when told to must not be early.
            let wait = wait + Duration::from_millis(999);
            Error::RateLimited { wait: Duration::from_secs(wait.as_secs()) }
        })
    }
}
