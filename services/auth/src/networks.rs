//! How often somebody who is not signed in may knock from one network: asking for codes, trying them, coming with tokens
//! of a provider. Each kind is counted on its own.

use std::num::NonZeroU32;
use std::time::Duration;

use chassis::caller::ClientNetwork;
use chassis::clock::Clock;
use chassis::profile::Profile;
use governor::clock::Clock as Time;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// By how much development, where everybody comes from one address, multiplies the limits.
const IN_DEVELOPMENT: u32 = 100;

/// How often one network may knock. Multiplied by 100 in development.
///
/// ```toml
/// [service.networks]
/// burst = 30
/// refill = "30s"
/// ```
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NetworksConfig {
    /// Knocks in a row, of each kind.
    pub burst: NonZeroU32,
    /// Time after which one more is allowed, such as `30s`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub refill: Duration,
}

impl Default for NetworksConfig {
    fn default() -> Self {
        const THIRTY: NonZeroU32 = NonZeroU32::new(30).unwrap();
        Self { burst: THIRTY, refill: Duration::from_secs(30) }
    }
}

/// What somebody knocks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Knock {
    /// To get a code.
    Code,
    /// To try one.
    Try,
    /// To sign in with a provider.
    Provider,
}

/// The knocks of late.
#[derive(Debug)]
pub struct Networks {
    limiter: RateLimiter<Key, DefaultKeyedStateStore<Key>, ClockTime, NoOpMiddleware<Nanos>>,
    clock: ClockTime,
}

/// Those who come without a network, past the gateway, are counted together.
type Key = (Knock, Option<ClientNetwork>);

impl Networks {
    /// Nobody has knocked yet.
    pub fn new(config: &NetworksConfig, profile: Profile, clock: Clock) -> anyhow::Result<Self> {
        let factor = if profile.is_development() { IN_DEVELOPMENT } else { 1 };
        let quota = Quota::with_period(config.refill / factor)
            .ok_or_else(|| anyhow::anyhow!("networks.refill must not be zero"))?
            .allow_burst(config.burst.saturating_mul(NonZeroU32::MIN.saturating_add(factor - 1)));
        let clock = ClockTime(clock);
        Ok(Self { limiter: RateLimiter::new(quota, DefaultKeyedStateStore::default(), clock.clone()), clock })
    }

    /// Counts a knock.
    pub fn count(&self, knock: Knock, from: Option<ClientNetwork>) -> Result<(), Error> {
        self.limiter.check_key(&(knock, from)).map_err(|refused| {
            metrics::counter!("auth_knocks_refused_total").increment(1);
            // Rounded up: who comes when told to must not be early.
            let wait = refused.wait_time_from(self.clock.now()) + Duration::from_millis(999);
            Error::RateLimited { wait: Duration::from_secs(wait.as_secs()) }
        })
    }

    /// Forgets those who have not knocked lately.
    pub fn forget_idle(&self) {
        self.limiter.retain_recent();
    }
}

/// The clock of the service, for the limiter.
#[derive(Clone, Debug)]
struct ClockTime(Clock);

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

    fn from(address: &str) -> Option<ClientNetwork> {
        Some(ClientNetwork::of_address(address.parse().unwrap()))
    }

    #[test]
    fn a_network_slows_down_itself_and_nobody_else() {
        let clock = Clock::manual(Timestamp::from_millis(1_795_000_000_000));
        let networks = Networks::new(&NetworksConfig::default(), Profile::Production, clock.clone()).unwrap();
        for _ in 0..30 {
            networks.count(Knock::Try, from("203.0.113.7")).unwrap();
        }
        match networks.count(Knock::Try, from("203.0.113.99")) {
            Err(Error::RateLimited { wait }) => assert_eq!(wait, Duration::from_secs(30)),
            other => panic!("{other:?}"),
        }
        networks.count(Knock::Code, from("203.0.113.7")).unwrap();
        networks.count(Knock::Try, from("198.51.100.7")).unwrap();
        networks.count(Knock::Try, None).unwrap();
        clock.advance(Duration::from_secs(30));
        networks.count(Knock::Try, from("203.0.113.7")).unwrap();
        assert!(networks.count(Knock::Try, from("203.0.113.7")).is_err());
        clock.advance(Duration::from_secs(3600));
        networks.forget_idle();
        assert_eq!(networks.limiter.len(), 0);
    }

    #[test]
    fn development_is_not_slowed_down_by_having_one_address() {
        let clock = Clock::manual(Timestamp::from_millis(1_795_000_000_000));
        let networks = Networks::new(&NetworksConfig::default(), Profile::Development, clock).unwrap();
        for _ in 0..3000 {
            networks.count(Knock::Code, from("127.0.0.1")).unwrap();
        }
        assert!(networks.count(Knock::Code, from("127.0.0.1")).is_err());
    }
}
