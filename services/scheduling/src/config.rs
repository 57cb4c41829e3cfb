//! What can be set about this service.

use std::time::Duration;

use anyhow::ensure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::calls::CallsConfig;
use crate::messaging;
use crate::timer;

/// As many days make a year: nothing is scheduled further ahead, whatever is configured.
const YEAR: u32 = 365;

/// What can be set about this service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How far ahead a message may be scheduled, or a call booked for the first time; from 1 day to 365 days.
    pub horizon_days: u32,
    /// How many messages of one user may be pending at a time. A user who has more already keeps them.
    pub max_pending: u32,
    /// How many booked calls of one user may be to come at a time, counted for the one who books. A user who has more
    /// already keeps them.
    pub max_upcoming: u32,
    /// How long whoever fires a message has it for itself. When a process is killed while it sends, another one takes
    /// over after this long. At least 10 s, which is twice what a send may take.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub lease: Duration,
    /// How many messages this process fires per second at most. It is what keeps the others standing when everything
    /// that became due during an outage is fired after it.
    pub rate: u32,
    /// How many messages this process sends at a time.
    pub in_flight: u32,
    /// How often this process looks for what other processes have scheduled, have given back, or have died with. What it
    /// has scheduled itself it knows at once. From 1 ms to 1 min.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub poll_interval: Duration,
    /// The longest wait between two tries while messaging is away. The first is 250 ms, and each is twice the one before.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub longest_retry: Duration,
    /// Calls.
    pub calls: CallsConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            horizon_days: YEAR,
            max_pending: 100,
            max_upcoming: 200,
            lease: Duration::from_secs(30),
            rate: 200,
            in_flight: 16,
            poll_interval: Duration::from_secs(1),
            longest_retry: Duration::from_secs(5),
            calls: CallsConfig::default(),
        }
    }
}

impl Config {
    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            (1..=YEAR).contains(&self.horizon_days),
            "horizon_days of scheduling must be from 1 to {YEAR}, and {} is not",
            self.horizon_days
        );
        ensure!(self.max_pending > 0, "max_pending of scheduling must be at least 1");
        ensure!(self.max_upcoming > 0, "max_upcoming of scheduling must be at least 1");
        ensure!(
            self.lease >= messaging::SEND_TIMEOUT * 2,
            "lease of scheduling must be at least {:?}: a send may take {:?}",
            messaging::SEND_TIMEOUT * 2,
            messaging::SEND_TIMEOUT
        );
        ensure!(self.rate > 0, "rate of scheduling must be at least 1 per second");
        ensure!(
            (1..=1024).contains(&self.in_flight),
            "in_flight of scheduling must be from 1 to 1024, and {} is not",
            self.in_flight
        );
        ensure!(
            (Duration::from_millis(1)..=Duration::from_secs(60)).contains(&self.poll_interval),
            "poll_interval of scheduling must be from 1 ms to 1 min, and {:?} is not",
            self.poll_interval
        );
        self.calls.check()?;
        Ok(())
    }

    /// What the timer goes by.
    pub(crate) fn timing(&self) -> timer::Timing {
        timer::Timing {
            lease: self.lease,
            rate: self.rate,
            in_flight: self.in_flight,
            poll: self.poll_interval,
            longest_retry: self.longest_retry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        Config::default().check().unwrap();
        let odd = [
            Config { horizon_days: 366, ..Config::default() },
            Config { horizon_days: 0, ..Config::default() },
            Config { max_pending: 0, ..Config::default() },
            Config { max_upcoming: 0, ..Config::default() },
            Config { lease: Duration::from_secs(9), ..Config::default() },
            Config { rate: 0, ..Config::default() },
            Config { in_flight: 0, ..Config::default() },
            Config { poll_interval: Duration::ZERO, ..Config::default() },
        ];
        for config in odd {
            assert!(config.check().is_err(), "{config:?}");
        }
    }
}
