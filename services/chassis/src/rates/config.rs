//! The settings of the limits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::profile::Profile;

/// By how much development, where everybody comes from one address, multiplies what is counted per address.
const MORE_PER_ADDRESS_IN_DEVELOPMENT: u32 = 100;

/// How often callers may call a service, over REST, sockets, dialects and gRPC alike. Each process counts on its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RatesConfig {
    /// How many messages a user may send, forward or edit at once after a pause.
    pub sends_burst: u32,
    /// How many more messages a user may send, forward or edit with every second.
    pub sends_per_second: u32,
    /// How many messages a user may send, forward or edit in one conversation, at once and with every second.
    pub sends_per_conversation_per_second: u32,
    /// How many times a user may ask for something heavy (search in messages or among people, report, purge, a place for
    /// a file, free times, a booking) at once after a pause.
    pub heavy_burst: u32,
    /// How many more times a user may ask for something heavy with every second.
    pub heavy_per_second: u32,
    /// How many other changes (reactions, votes, pins, rooms, joins, watermarks) a user may make at once after a pause.
    pub writes_burst: u32,
    /// How many more other changes a user may make with every second.
    pub writes_per_second: u32,
    /// How many times a user may read at once after a pause.
    pub reads_burst: u32,
    /// How many more times a user may read with every second.
    pub reads_per_second: u32,
    /// How many signals that are not stored, such as typing, a user may send at once after a pause.
    pub signals_burst: u32,
    /// How many more signals a user may send with every second.
    pub signals_per_second: u32,
    /// How many accounts an address may register in an hour. Multiplied by 100 in development.
    pub registrations_per_address_per_hour: u32,
    /// How many guests may come from an address in an hour. Multiplied by 100 in development.
    pub guests_per_address_per_hour: u32,
    /// How many times an address may try to sign in within 15 minutes. Multiplied by 100 in development.
    pub logins_per_address_per_quarter: u32,
    /// How many times an address may ask for a code by e-mail, bring one, or report on a background check within 15
    /// minutes. Multiplied by 100 in development.
    pub codes_per_address_per_quarter: u32,
    /// How many calls an address may make at once over gRPC without being signed in. Multiplied by 100 in development.
    /// The gateway counts those of its own clients.
    pub strangers_burst_per_address: u32,
    /// How many more calls an address may make over gRPC with every second without being signed in. Multiplied by 100 in
    /// development.
    pub strangers_per_address_per_second: u32,
}

impl Default for RatesConfig {
    fn default() -> Self {
        Self {
            sends_burst: 60,
            sends_per_second: 5,
            sends_per_conversation_per_second: 20,
            heavy_burst: 30,
            heavy_per_second: 2,
            writes_burst: 120,
            writes_per_second: 20,
            reads_burst: 1000,
            reads_per_second: 200,
            signals_burst: 60,
            signals_per_second: 20,
            registrations_per_address_per_hour: 5,
            guests_per_address_per_hour: 60,
            logins_per_address_per_quarter: 100,
            codes_per_address_per_quarter: 60,
            strangers_burst_per_address: 100,
            strangers_per_address_per_second: 20,
        }
    }
}

impl RatesConfig {
    /// Limits that nothing reaches, for tests and measurements.
    pub fn unlimited() -> Self {
        const MANY: u32 = 1_000_000;
        Self {
            sends_burst: MANY,
            sends_per_second: MANY,
            sends_per_conversation_per_second: MANY,
            heavy_burst: MANY,
            heavy_per_second: MANY,
            writes_burst: MANY,
            writes_per_second: MANY,
            reads_burst: MANY,
            reads_per_second: MANY,
            signals_burst: MANY,
            signals_per_second: MANY,
            registrations_per_address_per_hour: MANY,
            guests_per_address_per_hour: MANY,
            logins_per_address_per_quarter: MANY,
            codes_per_address_per_quarter: MANY,
            strangers_burst_per_address: MANY,
            strangers_per_address_per_second: MANY,
        }
    }

    /// The limits under a profile.
    #[must_use]
    pub fn in_profile(mut self, profile: Profile) -> Self {
        if profile.is_development() {
            for rate in [
                &mut self.registrations_per_address_per_hour,
                &mut self.guests_per_address_per_hour,
                &mut self.logins_per_address_per_quarter,
                &mut self.codes_per_address_per_quarter,
                &mut self.strangers_burst_per_address,
                &mut self.strangers_per_address_per_second,
            ] {
                *rate = rate.saturating_mul(MORE_PER_ADDRESS_IN_DEVELOPMENT);
            }
        }
        self
    }

    /// Refuses a limit of 0.
    ///
    /// # Errors
    /// Names the limit.
    pub fn check(&self) -> anyhow::Result<()> {
        for (name, value) in [
            ("sends_burst", self.sends_burst),
            ("sends_per_second", self.sends_per_second),
            ("sends_per_conversation_per_second", self.sends_per_conversation_per_second),
            ("heavy_burst", self.heavy_burst),
            ("heavy_per_second", self.heavy_per_second),
            ("writes_burst", self.writes_burst),
            ("writes_per_second", self.writes_per_second),
            ("reads_burst", self.reads_burst),
            ("reads_per_second", self.reads_per_second),
            ("signals_burst", self.signals_burst),
            ("signals_per_second", self.signals_per_second),
            ("registrations_per_address_per_hour", self.registrations_per_address_per_hour),
            ("guests_per_address_per_hour", self.guests_per_address_per_hour),
            ("logins_per_address_per_quarter", self.logins_per_address_per_quarter),
            ("codes_per_address_per_quarter", self.codes_per_address_per_quarter),
            ("strangers_burst_per_address", self.strangers_burst_per_address),
            ("strangers_per_address_per_second", self.strangers_per_address_per_second),
        ] {
            anyhow::ensure!(value > 0, "limits.rates.{name} must be at least 1");
        }
        Ok(())
    }
}
