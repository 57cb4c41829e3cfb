//! Argon2id on a bounded pool: hashing is slow on purpose, and must not be what stops everything else.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, KeyId, Params, ParamsBuilder, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;

use crate::config::PasswordsConfig;
use crate::error::Error;
use crate::password::{Password, PasswordHash};
use crate::pepper::{Pepper, Peppers};
use crate::random;

/// When the next try makes sense to one who was turned away because too many were waiting.
const BUSY: Duration = Duration::from_secs(1);

/// Hashes and verifies passwords, a few at a time. Clones share the pool.
#[derive(Clone, Debug)]
pub struct Hasher {
    /// The parameters of new hashes.
    params: Params,
    peppers: Arc<Peppers>,
    /// One for each that is hashed right now.
    slots: Arc<Semaphore>,
    /// One for each that is hashed or waits for it.
    places: Arc<Semaphore>,
    /// Verified in place of a hash that does not exist, so that nobody can tell from the time it takes.
    decoy: PasswordHash,
}

impl Hasher {
    /// A hasher with these parameters and peppers.
    ///
    /// # Errors
    /// Fails when the parameters do not fit together.
    pub fn new(config: &PasswordsConfig, peppers: Peppers) -> anyhow::Result<Self> {
        let params = params(config, peppers.current())
            .map_err(|error| anyhow::anyhow!("the parameters of Argon2id do not fit together: {error}"))?;
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = if config.threads == 0 { cores } else { config.threads.min(cores) };
        let decoy = hash(&params, &peppers, &Password::presented(&hex(&random::bytes::<16>()?)))?;
        Ok(Self {
            params,
            peppers: Arc::new(peppers),
            slots: Arc::new(Semaphore::new(threads)),
            places: Arc::new(Semaphore::new(threads + config.queue)),
            decoy,
        })
    }

    /// The hash to keep of a password.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, Error> {
        let params = self.params.clone();
        self.run(move |peppers| hash(&params, peppers, &password)).await
    }

    /// Whether it is the password. Without a hash it is not, and finding that out takes as long.
    pub async fn verify(&self, password: Password, stored: Option<&PasswordHash>) -> Result<bool, Error> {
        let exists = stored.is_some();
        let phc = stored.unwrap_or(&self.decoy).clone();
        let matches = self.run(move |peppers| verify(peppers, &password, &phc)).await?;
        Ok(matches && exists)
    }

    /// True when the hash was made with other parameters, or under another pepper, than those that hold now.
    pub fn is_outdated(&self, stored: &PasswordHash) -> bool {
        let parsed = phc::PasswordHash::new(stored.as_str());
        let params = parsed.as_ref().ok().and_then(|parsed| Params::try_from(parsed).ok());
        !params.is_some_and(|then| is_same(&then, &self.params))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Peppers) -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            metrics::counter!("auth_hashing_refused_total").increment(1);
            return Err(Error::RateLimited { wait: BUSY });
        };
        let slot = self.slots.clone().acquire_owned().await.map_err(|error| Error::Internal(error.into()))?;
        let peppers = Arc::clone(&self.peppers);
        // The permits go with the work: it does not stop when its caller goes away, so neither does what it occupies.
        let work = move || {
            let _occupied = (place, slot);
            work(&peppers)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(anyhow::Error::from).flatten().map_err(Error::Internal)
    }
}

fn params(config: &PasswordsConfig, pepper: Option<&Pepper>) -> argon2::Result<Params> {
    let mut params = ParamsBuilder::new();
    params.m_cost(config.memory_kib).t_cost(config.passes).p_cost(config.lanes);
    if let Some(pepper) = pepper {
        params.keyid(KeyId::new(&pepper.id)?);
    }
    params.build()
}

fn is_same(one: &Params, other: &Params) -> bool {
    let all = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
    all(one) == all(other) && one.keyid() == other.keyid()
}

/// Argon2id with these parameters, under the pepper that they name.
fn argon2<'a>(params: &Params, peppers: &'a Peppers) -> anyhow::Result<Argon2<'a>> {
    let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
    if params.keyid().is_empty() {
        return Ok(Argon2::new(algorithm, version, params.clone()));
    }
    let secret = peppers.find(params.keyid())?.secret();
    let argon2 = Argon2::new_with_secret(secret, algorithm, version, params.clone());
    argon2.map_err(|error| anyhow::anyhow!("the pepper cannot be used: {error}"))
}

fn hash(params: &Params, peppers: &Peppers, password: &Password) -> anyhow::Result<PasswordHash> {
    let argon2 = argon2(params, peppers)?;
    let salt = random::bytes::<16>()?;
    let phc: phc::PasswordHash =
        argon2.hash_password_with_salt(password.as_bytes(), &salt).context("a password cannot be hashed")?;
    Ok(PasswordHash::new(phc.to_string()))
}

fn verify(peppers: &Peppers, password: &Password, stored: &PasswordHash) -> anyhow::Result<bool> {
    const UNREADABLE: &str = "a stored password hash cannot be read";
    let parsed = phc::PasswordHash::new(stored.as_str()).context(UNREADABLE)?;
    let params = Params::try_from(&parsed).context(UNREADABLE)?;
    match argon2(&params, peppers)?.verify_password(password.as_bytes(), &parsed) {
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

    fn hasher(memory_kib: u32, peppers: Peppers) -> Hasher {
        let config =
            PasswordsConfig { memory_kib, passes: 1, threads: 1, queue: 1, ..PasswordsConfig::default() };
        Hasher::new(&config, peppers).unwrap()
    }

    fn plain(memory_kib: u32) -> Hasher {
        hasher(memory_kib, Peppers::default())
    }

    fn peppered(current: &str, former: &[&str]) -> Hasher {
        hasher(64, Peppers::of(current, former))
    }

    #[tokio::test]
    async fn a_password_is_known_again_and_no_other() {
        let hasher = plain(64);
        let stored = hasher.hash(Password::presented("correct horse")).await.unwrap();
        assert!(stored.as_str().starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{}", stored.as_str());
        assert!(hasher.verify(Password::presented("correct horse"), Some(&stored)).await.unwrap());
        assert!(!hasher.verify(Password::presented("Correct horse"), Some(&stored)).await.unwrap());
        assert!(!hasher.verify(Password::presented("correct horse"), None).await.unwrap());
    }

    #[tokio::test]
    async fn a_hash_with_other_parameters_still_verifies_and_is_outdated() {
        let (old, new) = (plain(64), plain(128));
        let stored = old.hash(Password::presented("correct horse")).await.unwrap();
        assert!(new.verify(Password::presented("correct horse"), Some(&stored)).await.unwrap());
        assert!(new.is_outdated(&stored) && !old.is_outdated(&stored));
    }

    #[tokio::test]
    async fn a_hash_is_worth_nothing_without_its_pepper() {
        let password = || Password::presented("correct horse");
        let one = peppered("one", &[]);
        let stored = one.hash(password()).await.unwrap();
        assert!(stored.as_str().contains(",keyid="), "{}", stored.as_str());
        assert!(one.verify(password(), Some(&stored)).await.unwrap());
        assert!(!one.verify(Password::presented("Correct horse"), Some(&stored)).await.unwrap());
        for other in [plain(64), peppered("two", &[])] {
            let error = other.verify(password(), Some(&stored)).await.unwrap_err();
            assert!(
                matches!(&error, Error::Internal(why) if why.to_string().contains("pepper")),
                "{error:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_pepper_is_introduced_and_replaced_as_passwords_are_used() {
        let password = || Password::presented("correct horse");
        let (before, one, two) = (plain(64), peppered("one", &[]), peppered("two", &["one"]));
        let stored = before.hash(password()).await.unwrap();
        assert!(one.verify(password(), Some(&stored)).await.unwrap() && one.is_outdated(&stored));
        let stored = one.hash(password()).await.unwrap();
        assert!(two.verify(password(), Some(&stored)).await.unwrap() && two.is_outdated(&stored));
        assert!(!one.is_outdated(&stored) && !two.is_outdated(&two.hash(password()).await.unwrap()));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_finds_the_queue_full_is_turned_away_at_once() {
        let hasher = plain(64);
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
