//! Configuration: defaults in code, a TOML file over them, the environment over the file.
//!
//! A key in the environment is the path of the setting in capitals, joined with two underscores and led by `PARLOR`:
//! `PARLOR__DATABASE__URL`. A key that no setting has is refused at the start, so that a misspelling is never silent.

mod keys;
mod load;
mod reference;
mod secret;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use load::load;
pub use reference::reference;
pub use secret::Secret;

use crate::clock::Clock;
use crate::database::DatabaseConfig;
use crate::events::{Events, NatsConfig};
use crate::identity::{AcceptedServices, ServiceCredential};
use crate::middleware::LimitsConfig;
use crate::profile::Profile;
use crate::telemetry::LogConfig;
use crate::transport::Transport;

/// Settings of one service that runs as a process of its own. `C` holds what only this service has.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(bound = "C: JsonSchema + Default + Serialize")]
pub struct Settings<C> {
    /// For whom the process runs.
    pub profile: Profile,
    /// Where it listens.
    pub listen: ListenConfig,
    /// What it writes to its log, and where traces go.
    pub log: LogConfig,
    /// How much it takes on at once.
    pub limits: LimitsConfig,
    /// How it proves who it is, and whom it believes.
    pub identity: IdentityConfig,
    /// Where the services that it calls are.
    pub peers: PeersConfig,
    /// The bus.
    pub nats: NatsConfig,
    /// Its database. The gateway has none.
    pub database: DatabaseConfig,
    /// What only this service has.
    pub service: C,
}

impl<C> Settings<C> {
    /// Refuses what the profile does not allow: addresses that others reach without protection, and a bus or a database on
    /// another machine without TLS and credentials.
    pub fn check(&self) -> anyhow::Result<()> {
        self.listen.check(self.profile)?;
        self.nats.check(self.profile)?;
        self.limits.rates.check()?;
        self.database.check(self.profile)
    }

    /// The bus, for the service of this name.
    pub async fn events(&self, service: &str) -> anyhow::Result<Events> {
        self.nats.open(&[service], self.profile, Clock::system()).await
    }
}

/// Where a process listens.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// The address for gRPC. Port 0 takes a free one; absent means 127.0.0.1 and the service's own port (50051 auth,
    /// 50052 conversation, 50053 messaging, 50054 scheduling; 50051 for all in one process).
    pub grpc: Option<SocketAddr>,
    /// The address for `/metrics`, `/livez` and `/readyz`. Port 0 takes a free one; absent means 127.0.0.1 and the
    /// port 9050 for the gateway and for all in one process, 9051 to 9054 for the services.
    pub admin: Option<SocketAddr>,
    /// A file to write the addresses to, as JSON by name, once the process is ready.
    pub report_file: Option<PathBuf>,
    /// TLS for gRPC, in both directions: callers show a certificate too.
    pub tls: Option<TlsConfig>,
    /// Whether gRPC reflection answers. Absent means in development only.
    pub reflection: Option<bool>,
    /// Whether a proxy in front of the process does the TLS. Production needs this or `tls` beyond loopback.
    pub behind_proxy: bool,
    /// The time between the signal to stop and the end of accepting connections. The process says in it that it is not
    /// ready and serves everything, so that balancers turn to others. Absent means 5 s in production and 0 s in
    /// development.
    #[serde(with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    pub lame_duck: Option<Duration>,
}

/// The lame-duck time in production.
const LAME_DUCK: Duration = Duration::from_secs(5);

impl ListenConfig {
    /// The time between the signal to stop and the end of accepting connections, under this profile.
    pub fn lame_duck(&self, profile: Profile) -> Duration {
        self.lame_duck.unwrap_or(if profile.is_development() { Duration::ZERO } else { LAME_DUCK })
    }

    /// Refuses addresses that the profile does not allow.
    pub fn check(&self, profile: Profile) -> anyhow::Result<()> {
        let addresses = [self.grpc, self.admin].into_iter().flatten();
        addresses
            .into_iter()
            .try_for_each(|address| check_address(address, profile, self.tls.is_some() || self.behind_proxy))
    }

    /// Whether reflection answers under this profile.
    pub fn reflects(&self, profile: Profile) -> bool {
        self.reflection.unwrap_or(profile.is_development())
    }
}

/// Refuses an address that the profile does not allow: development stays on loopback, and production needs protection
/// beyond it.
pub fn check_address(address: SocketAddr, profile: Profile, protected: bool) -> anyhow::Result<()> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    anyhow::ensure!(
        profile == Profile::Production,
        "{address} can be reached from other machines: the development profile listens on loopback only; \
         set profile = \"production\" for others"
    );
    anyhow::ensure!(
        protected,
        "{address} can be reached from other machines: configure TLS, or say behind_proxy = true when a proxy does it"
    );
    Ok(())
}

/// Says that a host is this machine, which no other reaches.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Files for TLS in PEM.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain that this process shows.
    pub certificate_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// The authority that signs the certificates of the others.
    pub authority_file: PathBuf,
}

/// How a service proves who it is, and whom it believes.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityConfig {
    /// The secret of this service.
    pub secret: Option<Secret>,
    /// A file with the secret, readable by its owner only.
    pub secret_file: Option<PathBuf>,
    /// The SHA-256 sums, in hexadecimal, of the secrets of the services that may call this one.
    pub accepted: HashMap<String, String>,
}

impl IdentityConfig {
    /// The credential of the service `name`.
    pub fn credential(&self, name: &str) -> anyhow::Result<ServiceCredential> {
        let secret = match (&self.secret, &self.secret_file) {
            (Some(secret), None) => secret.clone(),
            (None, Some(path)) => Secret::read(path)?,
            (None, None) => anyhow::bail!(
                "identity.secret or identity.secret_file must be set: services prove who they are"
            ),
            (Some(_), Some(_)) => anyhow::bail!("set identity.secret or identity.secret_file, not both"),
        };
        anyhow::ensure!(
            secret.expose().len() >= 16,
            "the secret of service {name} must have at least 16 characters"
        );
        ServiceCredential::new(name, &secret)
    }

    /// The services that may call.
    pub fn accepted(&self) -> anyhow::Result<AcceptedServices> {
        AcceptedServices::with_sums(&self.accepted)
    }
}

/// Where the other services are: `http://host:port`, one or several each.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PeersConfig {
    /// The auth services.
    pub auth: Vec<String>,
    /// The conversation services.
    pub conversation: Vec<String>,
    /// The messaging services.
    pub messaging: Vec<String>,
    /// The scheduling services.
    pub scheduling: Vec<String>,
    /// TLS towards them.
    pub tls: Option<TlsConfig>,
}

impl PeersConfig {
    /// A way to the peer with these addresses.
    pub fn transport(&self, name: &str, urls: &[String]) -> anyhow::Result<Transport> {
        Transport::remote(urls, self.tls.as_ref()).with_context(|| format!("peers.{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn development_stays_on_loopback_and_production_wants_protection() {
        let open = SocketAddr::from(([0, 0, 0, 0], 80));
        let own = SocketAddr::from(([127, 0, 0, 1], 80));
        assert!(check_address(own, Profile::Development, false).is_ok());
        assert!(check_address(open, Profile::Development, true).is_err());
        assert!(check_address(open, Profile::Production, false).is_err());
        assert!(check_address(open, Profile::Production, true).is_ok());
    }
}
