//! Argon2id on a bounded pool: hashing is slow on purpose, and must not be what stops everything else.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;

use crate::config::PasswordsConfig;
use crate::error::Error;
use crate::password::{Password, PasswordHash};
use crate::random;

/// When the next try makes sense to one who was turned away because too many were waiting.
const BUSY: Duration = Duration::from_secs(1);

/// Hashes and verifies passwords, a few at a time. Clones share the pool.
#[derive(Clone, Debug)]
pub struct Hasher {
    argon2: Argon2<'static>,
    /// One for each that is hashed right now.
    slots: Arc<Semaphore>,
    /// One for each that is hashed or waits for it.
    places: Arc<Semaphore>,
    /// Verified in place of a hash that does not exist, so that nobody can tell from the time it takes.
    decoy: PasswordHash,
}

impl Hasher {
    /// A hasher with these parameters.
    pub fn new(config: &PasswordsConfig) -> anyhow::Result<Self> {
        let params = Params::new(config.memory_kib, config.passes, config.lanes, None)
            .map_err(|error| anyhow::anyhow!("the parameters of Argon2id do not fit together: {error}"))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = if config.threads == 0 { cores } else { config.threads.min(cores) };
        let decoy = hash(&argon2, &Password::presented(&hex(&random::bytes::<16>()?)))?;
        Ok(Self {
            argon2,
            slots: Arc::new(Semaphore::new(threads)),
            places: Arc::new(Semaphore::new(threads + config.queue)),
            decoy,
        })
    }

    /// The hash to keep of a password.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, Error> {
        self.run(move |argon2| hash(argon2, &password)).await
    }

    /// Whether it is the password. Without a hash it is not, and finding that out takes as long.
    pub async fn verify(&self, password: Password, stored: Option<&PasswordHash>) -> Result<bool, Error> {
        let exists = stored.is_some();
        let phc = stored.unwrap_or(&self.decoy).clone();
        let matches = self.run(move |argon2| verify(argon2, &password, &phc)).await?;
        Ok(matches && exists)
    }

    /// Whether the hash was made with other parameters than those that hold now.
    pub fn is_outdated(&self, stored: &PasswordHash) -> bool {
        let parsed = phc::PasswordHash::new(stored.as_str());
        let params = parsed.as_ref().ok().and_then(|parsed| Params::try_from(parsed).ok());
        let now = self.argon2.params();
        let same = |then: &Params| {
            (then.m_cost(), then.t_cost(), then.p_cost()) == (now.m_cost(), now.t_cost(), now.p_cost())
        };
        !params.as_ref().is_some_and(same)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon2<'static>) -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            metrics::counter!("auth_hashing_refused_total").increment(1);
            return Err(Error::RateLimited { wait: BUSY });
        };
        let slot = self.slots.clone().acquire_owned().await.map_err(|error| Error::Internal(error.into()))?;
        let argon2 = self.argon2.clone();
        // The permits go with the work: it does not stop when its caller goes away, so neither does what it occupies.
        let work = move || {
            let _occupied = (place, slot);
            work(&argon2)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(anyhow::Error::from).flatten().map_err(Error::Internal)
    }
}

fn hash(argon2: &Argon2<'_>, password: &Password) -> anyhow::Result<PasswordHash> {
    let salt = random::bytes::<16>()?;
    let phc: phc::PasswordHash =
        argon2.hash_password_with_salt(password.as_bytes(), &salt).context("a password cannot be hashed")?;
    Ok(PasswordHash::new(phc.to_string()))
}

fn verify(argon2: &Argon2<'_>, password: &Password, stored: &PasswordHash) -> anyhow::Result<bool> {
    let parsed = phc::PasswordHash::new(stored.as_str()).context("a stored password hash cannot be read")?;
    match argon2.verify_password(password.as_bytes(), &parsed) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(error).context("a password cannot be verified"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    fn config(memory_kib: u32) -> PasswordsConfig {
        PasswordsConfig { memory_kib, passes: 1, lanes: 1, threads: 1, queue: 1 }
    }

    #[tokio::test]
    async fn a_password_is_known_again_and_no_other() {
        let hasher = Hasher::new(&config(64)).unwrap();
        let stored = hasher.hash(Password::presented("correct horse")).await.unwrap();
        assert!(stored.as_str().starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{}", stored.as_str());
        assert!(hasher.verify(Password::presented("correct horse"), Some(&stored)).await.unwrap());
        assert!(!hasher.verify(Password::presented("Correct horse"), Some(&stored)).await.unwrap());
        assert!(!hasher.verify(Password::presented("correct horse"), None).await.unwrap());
    }

    #[tokio::test]
    async fn a_hash_with_other_parameters_still_verifies_and_is_outdated() {
        let (old, new) = (Hasher::new(&config(64)).unwrap(), Hasher::new(&config(128)).unwrap());
        let stored = old.hash(Password::presented("correct horse")).await.unwrap();
        assert!(new.verify(Password::presented("correct horse"), Some(&stored)).await.unwrap());
        assert!(new.is_outdated(&stored) && !old.is_outdated(&stored));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_finds_the_queue_full_is_turned_away_at_once() {
        let hasher = Hasher::new(&config(64)).unwrap();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let mut work = JoinSet::new();
        work.spawn({
            let hasher = hasher.clone();
            async move { hasher.run(move |_| Ok(held.recv().is_err())).await.map(|_| ()) }
        });
        while hasher.slots.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        work.spawn({
            let hasher = hasher.clone();
            async move { hasher.run(|_| Ok(())).await }
        });
        while hasher.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(hasher.run(|_| Ok(())).await, Err(Error::RateLimited { .. })));
        drop(release);
        for done in work.join_all().await {
            done.unwrap();
        }
        hasher.run(|_| Ok(())).await.unwrap();
    }
}
