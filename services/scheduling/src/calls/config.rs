//! What can be set about calls.

use std::time::Duration;

use anyhow::ensure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::machine::Spans;

/// What can be set about calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CallsConfig {
    /// How long a call rings before it is missed, from 1 s to 5 min.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub ring_timeout: Duration,
    /// How long the devices may take to be connected once a call is accepted, and to come back when one has lost the
    /// other, or its last connection to us. From 1 s to 10 min.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,
    /// How long a call may last, whatever its devices say: longer than `connect_timeout`, at most 7 days.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub longest: Duration,
    /// How many calls a user may begin per minute.
    pub per_minute: u32,
    /// How many signals a user may send per second in the long run, through this process.
    pub signals_per_second: u32,
    /// How many signals a user may send at once: the candidates of a device come together.
    pub signals_burst: u32,
}

impl Default for CallsConfig {
    fn default() -> Self {
        Self {
            ring_timeout: Duration::from_secs(45),
            connect_timeout: Duration::from_secs(60),
            longest: Duration::from_secs(12 * 60 * 60),
            per_minute: 10,
            signals_per_second: 20,
            signals_burst: 100,
        }
    }
}

impl CallsConfig {
    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let second = Duration::from_secs(1);
        ensure!(
            (second..=300 * second).contains(&self.ring_timeout),
            "calls.ring_timeout of scheduling must be from 1 s to 5 min, and {:?} is not",
            self.ring_timeout
        );
        ensure!(
            (second..=600 * second).contains(&self.connect_timeout),
            "calls.connect_timeout of scheduling must be from 1 s to 10 min, and {:?} is not",
            self.connect_timeout
        );
        ensure!(
            self.longest > self.connect_timeout && self.longest <= 7 * 24 * 3600 * second,
            "calls.longest of scheduling must be longer than calls.connect_timeout and at most 7 days, and {:?} is not",
            self.longest
        );
        ensure!(self.per_minute > 0, "calls.per_minute of scheduling must be at least 1");
        ensure!(
            self.signals_per_second > 0 && self.signals_burst > 0,
            "calls.signals_per_second and calls.signals_burst of scheduling must be at least 1"
        );
        Ok(())
    }

    /// How long what may take.
    pub(crate) const fn spans(&self) -> Spans {
        Spans { ring: self.ring_timeout, connect: self.connect_timeout, longest: self.longest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        let fine = CallsConfig::default();
        fine.check().unwrap();
        let odd = [
            CallsConfig { ring_timeout: Duration::ZERO, ..fine.clone() },
            CallsConfig { ring_timeout: Duration::from_secs(301), ..fine.clone() },
            CallsConfig { connect_timeout: Duration::from_millis(999), ..fine.clone() },
            CallsConfig { longest: fine.connect_timeout, ..fine.clone() },
            CallsConfig { longest: Duration::from_secs(8 * 24 * 3600), ..fine.clone() },
            CallsConfig { per_minute: 0, ..fine.clone() },
            CallsConfig { signals_per_second: 0, ..fine.clone() },
            CallsConfig { signals_burst: 0, ..fine },
        ];
        for config in odd {
            assert!(config.check().is_err(), "{config:?}");
        }
    }
}
