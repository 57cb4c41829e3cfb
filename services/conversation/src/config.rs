//! What can be set about this service.

use anyhow::ensure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most members that can be allowed: the fact that a conversation is gone names them all, and must fit into one
/// answer.
const MOST: u32 = 50_000;

/// What can be set about this service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The most members that a conversation may have, from 2 to 50,000. A conversation that has more already keeps them.
    pub max_members: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_members: 10_000 }
    }
}

impl Config {
    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            (2..=MOST).contains(&self.max_members),
            "max_members of conversation must be from 2 to {MOST}, and {} is not",
            self.max_members
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        Config::default().check().unwrap();
        assert!(Config { max_members: 1 }.check().is_err());
        assert!(Config { max_members: MOST + 1 }.check().is_err());
    }
}
