//! Settings of Parlor in one process: what the processes have in common once, and what each service has by its name.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::Context as _;
use chassis::backup::{Data, ServiceData};
use chassis::config::{ListenConfig, Secret};
use chassis::database::DatabaseConfig;
use chassis::events::NatsConfig;
use chassis::middleware::LimitsConfig;
use chassis::profile::Profile;
use chassis::telemetry::LogConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of Parlor in one process.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// For whom it runs.
    pub profile: Profile,
    /// Where it listens for gRPC and for operation. The gateway's own address is under `gateway`.
    pub listen: ListenConfig,
    /// What it writes to its log, and where traces go.
    pub log: LogConfig,
    /// How much each service takes on at once.
    pub limits: LimitsConfig,
    /// Where the SQLite files are, one per service, and the bytes of uploaded files. The former does not matter when
    /// `database.url` names a PostgreSQL, the latter when `messaging.uploads.url` names another place.
    pub data_folder: PathBuf,
    /// The database of all services; absent means SQLite in the data folder.
    pub database: Option<DatabaseConfig>,
    /// The bus; absent means in the process.
    pub nats: Option<NatsConfig>,
    /// The secrets that services prove with who they are, by the name of the service: `conversation`, `messaging`,
    /// `scheduling` or `gateway`, at least 16 characters each. One that is absent is made up at each start; it is set
    /// where a process outside this one calls as that service.
    pub secrets: BTreeMap<String, Secret>,
    /// What only auth has.
    pub auth: auth::Config,
    /// What only conversation has.
    pub conversation: conversation::Config,
    /// What only messaging has.
    pub messaging: messaging::Config,
    /// What only scheduling has.
    pub scheduling: scheduling::Config,
    /// What only the gateway has.
    pub gateway: gateway::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            listen: ListenConfig::default(),
            log: LogConfig::default(),
            limits: LimitsConfig::default(),
            data_folder: PathBuf::from("data"),
            database: None,
            nats: None,
            secrets: BTreeMap::new(),
            auth: auth::Config::default(),
            conversation: conversation::Config::default(),
            messaging: messaging::Config::default(),
            scheduling: scheduling::Config::default(),
            gateway: gateway::Config::default(),
        }
    }
}

impl Config {
    /// Refuses what the profile does not allow, as the processes of their own do.
    pub fn check(&self) -> anyhow::Result<()> {
        self.listen.check(self.profile)?;
        self.limits.rates.check()?;
        self.nats.iter().try_for_each(|nats| nats.check(self.profile))?;
        self.database.iter().try_for_each(|database| database.check(self.profile))
    }

    /// The database of one service.
    pub fn database_of(&self, service: &str) -> DatabaseConfig {
        let in_folder = || DatabaseConfig {
            url: format!("sqlite://{}", self.data_folder.join(format!("{service}.db")).display()),
            ..DatabaseConfig::default()
        };
        self.database.clone().unwrap_or_else(in_folder)
    }

    /// All that the services keep, each service after those whose facts it reads.
    pub fn data(&self) -> Data {
        let database = |name, new_epoch| ServiceData { name, config: self.database_of(name), new_epoch };
        let url = self.messaging().uploads.url.unwrap_or_default();
        Data {
            databases: vec![
                database("auth", &[]),
                database("conversation", &[]),
                database("messaging", messaging::NEW_EPOCH),
                database("scheduling", &[]),
            ],
            files: url.strip_prefix("file://").map(PathBuf::from),
        }
    }

    /// Refuses a data folder in which some databases are missing or empty beside others that are there: a process that began
    /// them anew would forget what the others still refer to. A first start leaves a mark until [`Self::has_started`], so that
    /// one that was cut off can be repeated.
    ///
    /// # Errors
    /// When databases are missing, or the folder cannot be written.
    pub fn check_data_folder(&self) -> anyhow::Result<()> {
        const SERVICES: [&str; 4] = ["auth", "conversation", "messaging", "scheduling"];
        if self.database.is_some() {
            return Ok(());
        }
        let holds = |service: &&str| {
            let file = self.data_folder.join(format!("{service}.db"));
            std::fs::metadata(file).is_ok_and(|file| file.len() > 0)
        };
        let (there, missing): (Vec<&str>, Vec<&str>) = SERVICES.into_iter().partition(holds);
        let first_start = self.first_start();
        if there.is_empty() {
            std::fs::create_dir_all(&self.data_folder)
                .and_then(|()| std::fs::write(&first_start, ""))
                .with_context(|| format!("data_folder: cannot write {}", first_start.display()))?;
        }
        let files = |services: &[&str]| {
            services.iter().map(|service| format!("{service}.db")).collect::<Vec<_>>().join(", ")
        };
        anyhow::ensure!(
            missing.is_empty() || first_start.exists(),
            "{folder}: {missing} is missing or empty beside {there}. Put it back from a backup of all four, or move the \
             others out of the folder to begin anew",
            folder = self.data_folder.display(),
            missing = files(&missing),
            there = files(&there),
        );
        Ok(())
    }

    /// Takes away the mark of a first start: all databases are there.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn has_started(&self) -> anyhow::Result<()> {
        let first_start = self.first_start();
        match std::fs::remove_file(&first_start) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("data_folder: cannot remove {}", first_start.display()))
            }
            _ => Ok(()),
        }
    }

    fn first_start(&self) -> PathBuf {
        self.data_folder.join("first-start")
    }

    /// What only messaging has, with the bytes of files beside the databases unless it says otherwise.
    pub fn messaging(&self) -> messaging::Config {
        let mut messaging = self.messaging.clone();
        let in_folder = || format!("file://{}", self.data_folder.join("uploads").display());
        messaging.uploads.url.get_or_insert_with(in_folder);
        messaging
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_missing_beside_others_is_not_begun_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Config { data_folder: folder.path().to_owned(), ..Config::default() };
        config.check_data_folder().expect("a first start");
        std::fs::write(folder.path().join("auth.db"), "x").expect("a file");
        config.check_data_folder().expect("a first start again, after one that was cut off");
        for service in ["auth", "conversation", "messaging", "scheduling"] {
            std::fs::write(folder.path().join(format!("{service}.db")), "x").expect("a file");
        }
        config.has_started().expect("a mark that goes");
        config.check_data_folder().expect("a later start");
        std::fs::write(folder.path().join("messaging.db"), "").expect("an empty file");
        std::fs::remove_file(folder.path().join("auth.db")).expect("removed");
        let refused = config.check_data_folder().expect_err("refused").to_string();
        let said = "auth.db, messaging.db is missing or empty beside conversation.db, scheduling.db.";
        assert!(refused.contains(said), "{refused}");
        let elsewhere = Config { database: Some(DatabaseConfig::default()), ..config };
        elsewhere.check_data_folder().expect("another database");
    }
}
