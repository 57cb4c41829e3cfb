//! What can be set about messaging.

use std::time::Duration;

use anyhow::Context as _;
use chassis::database::Database;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::content;
use crate::lane::Lanes;
use crate::policy::PolicyConfig;
use crate::preview::PreviewConfig;
use crate::uploads::UploadsConfig;

/// What only messaging has.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How many writers there are. Each takes the messages of some of the conversations and commits whatever waits in one
    /// transaction. 0 means 1 on SQLite, which has one writer anyway, and 4 on PostgreSQL.
    pub lanes: usize,
    /// The most messages of one transaction.
    pub max_batch: usize,
    /// How many messages may wait for a writer. Whoever comes then is told at once to come again.
    pub max_waiting: usize,
    /// How long a message may wait for its writer before its sender is told to come again, such as `500ms`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub max_wait: Duration,
    /// Files.
    pub uploads: UploadsConfig,
    /// How often it looks for what is to be erased of purged conversations and deleted accounts, such as `10s`. Nobody
    /// reads it meanwhile.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub sweep_every: Duration,
    /// How often it looks which messages expire next, such as `500ms`. It knows of those that it stored itself; this is for
    /// those that another replica stored. Nobody reads a message after its time in any case.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub expiry_every: Duration,
    /// The hosts that voices and stickers may be linked from, such as `media.example.org`. Empty for every host. What
    /// was uploaded here is not asked about.
    pub media_hosts: Vec<String>,
    /// A service of the operator that is asked about every message before it is sent; absent means that nobody is.
    pub policy: Option<PolicyConfig>,
    /// Previews of links.
    pub previews: PreviewConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lanes: 0,
            max_batch: 256,
            max_waiting: 4096,
            max_wait: Duration::from_millis(500),
            uploads: UploadsConfig::default(),
            sweep_every: Duration::from_secs(10),
            expiry_every: Duration::from_millis(500),
            media_hosts: Vec::new(),
            policy: None,
            previews: PreviewConfig::default(),
        }
    }
}

impl Config {
    /// Refuses what cannot work.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!((1..=1000).contains(&self.max_batch), "service.max_batch must be between 1 and 1000");
        anyhow::ensure!(self.max_waiting >= 1, "service.max_waiting must be at least 1");
        anyhow::ensure!(self.lanes <= 64, "service.lanes must be at most 64");
        anyhow::ensure!(!self.max_wait.is_zero(), "service.max_wait must be more than nothing");
        self.uploads.check()?;
        anyhow::ensure!(!self.sweep_every.is_zero(), "service.sweep_every must be more than nothing");
        anyhow::ensure!(!self.expiry_every.is_zero(), "service.expiry_every must be more than nothing");
        self.media_hosts()?;
        if let Some(policy) = &self.policy {
            policy.check()?;
        }
        self.previews.check()
    }

    /// The hosts for media, as they stand in an address.
    pub fn media_hosts(&self) -> anyhow::Result<Vec<String>> {
        let hosts = self.media_hosts.iter().map(|host| {
            let found = content::host(&format!("https://{host}/"));
            // A port or a path would never match.
            let only_host = found.filter(|_| !host.contains(['/', '?', '#']) && !has_port(host));
            only_host.with_context(|| format!("service.media_hosts: {host:?} is not the name of a host"))
        });
        hosts.collect()
    }

    /// The writers of the logs in this database.
    pub fn lanes(&self, database: &Database) -> Lanes {
        let count = match (self.lanes, database) {
            (0, Database::Sqlite(_)) => 1,
            (0, Database::Postgres(_)) => 4,
            (lanes, _) => lanes,
        };
        Lanes { count, batch: self.max_batch, queue: self.max_waiting, patience: self.max_wait }
    }
}

/// Whether something follows the name of a host, or its address in brackets.
fn has_port(host: &str) -> bool {
    host.rsplit_once(']').map_or(host, |(_, rest)| rest).contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_work_and_nonsense_does_not() {
        assert!(Config::default().check().is_ok());
        assert!(Config { max_batch: 0, ..Config::default() }.check().is_err());
        assert!(Config { max_batch: 1001, ..Config::default() }.check().is_err());
        for host in ["", "https://example.org", "example.org/a", "example.org:443", "a b", "ann@example.org"]
        {
            assert!(Config { media_hosts: vec![host.to_owned()], ..Config::default() }.check().is_err());
        }
        let config = Config { media_hosts: vec!["Media.Example.org".to_owned()], ..Config::default() };
        assert_eq!(config.media_hosts().unwrap(), ["media.example.org"]);
        assert!(Config { max_wait: Duration::ZERO, ..Config::default() }.check().is_err());
        assert!(Config { sweep_every: Duration::ZERO, ..Config::default() }.check().is_err());
        assert!(Config { expiry_every: Duration::ZERO, ..Config::default() }.check().is_err());
    }
}
