//! Settings of Parlor in one process: what the processes have in common once, and what each service has by its name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chassis::config::{ListenConfig, Secret};
use chassis::database::DatabaseConfig;
use chassis::events::NatsConfig;
use chassis::middleware::LimitsConfig;
use chassis::profile::Profile;
use chassis::telemetry::LogConfig;
use serde::{Deserialize, Serialize};

/// Settings of Parlor in one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// The database of one service.
    pub fn database_of(&self, service: &str) -> DatabaseConfig {
        let in_folder = || DatabaseConfig {
            url: format!("sqlite://{}", self.data_folder.join(format!("{service}.db")).display()),
            ..DatabaseConfig::default()
        };
        self.database.clone().unwrap_or_else(in_folder)
    }

    /// What only messaging has, with the bytes of files beside the databases unless it says otherwise.
    pub fn messaging(&self) -> messaging::Config {
        let mut messaging = self.messaging.clone();
        let in_folder = || format!("file://{}", self.data_folder.join("uploads").display());
        messaging.uploads.url.get_or_insert_with(in_folder);
        messaging
    }
}
