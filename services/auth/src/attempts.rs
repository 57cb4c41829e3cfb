//! How often somebody may try a password. Counts every try, right or wrong, for the name that is tried: the same for a
//! name that nobody has.

use std::time::Duration;

use chassis::caller::ClientNetwork;
use chassis::clock::Clock;
use governor::clock::Clock as Time;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use proto::id::UserId;
use sha2::{Digest, Sha256};

use crate::config::AttemptsConfig;
use crate::error::Error;

/// The tries of late, per name and per account.
#[derive(Debug)]
pub struct Attempts {
    limiter: RateLimiter<Key, DefaultKeyedStateStore<Key>, ClockTime, NoOpMiddleware<Nanos>>,
    clock: ClockTime,
}

/// A sum, so that long names cost no more memory than short ones and none of them is kept.
type Key = [u8; 32];

impl Attempts {
    /// Nobody has tried anything yet.
    pub fn new(config: &AttemptsConfig, clock: Clock) -> anyhow::Result<Self> {
        let quota = Quota::with_period(config.refill)
            .ok_or_else(|| anyhow::anyhow!("attempts.refill must not be zero"))?
            .allow_burst(config.burst);
        let clock = ClockTime(clock);
        Ok(Self { limiter: RateLimiter::new(quota, DefaultKeyedStateStore::default(), clock.clone()), clock })
    }

    /// Counts a try to sign in with this name, folded, from this network: whoever guesses slows down the own network and
    /// nobody else who has the name.
    pub fn by_login(&self, login: &str, from: Option<ClientNetwork>) -> Result<(), Error> {
        let network = from.map(|network| network.to_string()).unwrap_or_default();
        self.count(b"login", format!("{network} {login}").as_bytes())
    }

    /// Counts a try to prove that one is this user.
    pub fn by_user(&self, user_id: UserId) -> Result<(), Error> {
        self.count(b"user ", user_id.uuid().as_bytes())
    }

    /// Forgets those who have not tried anything lately.
    pub fn forget_idle(&self) {
        self.limiter.retain_recent();
    }

    fn count(&self, what: &[u8; 5], whose: &[u8]) -> Result<(), Error> {
        let key = Sha256::new().chain_update(what).chain_update(whose).finalize().into();
        self.limiter.check_key(&key).map_err(|refused| {
            metrics::counter!("auth_attempts_refused_total").increment(1);
            // Rounded up: who comes when told to must not be early.
            let wait = refused.wait_time_from(self.clock.now()) + Duration::from_millis(999);
            Error::RateLimited { wait: Duration::from_secs(wait.as_secs()) }
        })
    }
}

/// Our clock, for the limiter.
#[derive(Clone, Debug)]
pub(crate) struct ClockTime(Clock);

impl ClockTime {
    /// Goes by this clock.
    pub(crate) fn new(clock: Clock) -> Self {
        Self(clock)
    }
}

impl Time for ClockTime {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(u64::try_from(self.0.now().as_millis()).unwrap_or(0).saturating_mul(1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use chassis::clock::Timestamp;

    use super::*;

    #[test]
    fn ten_in_a_row_and_then_one_in_ninety_seconds() {
        let clock = Clock::manual(Timestamp::from_millis(1_795_000_000_000));
        let attempts = Attempts::new(&AttemptsConfig::default(), clock.clone()).unwrap();
        for _ in 0..10 {
            attempts.by_login("ann", None).unwrap();
        }
        match attempts.by_login("ann", None) {
            Err(Error::RateLimited { wait }) => assert_eq!(wait, Duration::from_secs(90)),
            other => panic!("{other:?}"),
        }
        attempts.by_login("bob", None).unwrap();
        clock.advance(Duration::from_secs(90));
        attempts.by_login("ann", None).unwrap();
        assert!(attempts.by_login("ann", None).is_err());
    }

    #[test]
    fn who_has_rested_is_forgotten() {
        let clock = Clock::manual(Timestamp::from_millis(1_795_000_000_000));
        let attempts = Attempts::new(&AttemptsConfig::default(), clock.clone()).unwrap();
        attempts.by_user(UserId::generate()).unwrap();
        attempts.forget_idle();
        assert_eq!(attempts.limiter.len(), 1);
        clock.advance(Duration::from_secs(180));
        attempts.forget_idle();
        assert_eq!(attempts.limiter.len(), 0);
    }
}
