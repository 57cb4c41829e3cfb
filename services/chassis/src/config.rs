//! Configuration: defaults in code, a TOML file over them, the environment over the file.
//!
//! A key in the environment is the path of the setting in capitals, joined with two underscores and led by `PARLOR`:
//! `PARLOR__DATABASE__URL`. A key that no setting has is refused at the start, so that a misspelling is never silent.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use config::{Environment, File, FileFormat};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::database::DatabaseConfig;
use crate::events::NatsConfig;
use crate::identity::{AcceptedServices, ServiceCredential};
use crate::middleware::LimitsConfig;
use crate::profile::Profile;
use crate::telemetry::LogConfig;
use crate::transport::Transport;

/// Settings of one service that runs as a process of its own. `C` holds what only this service has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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

/// Where a process listens.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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

/// Files for TLS in PEM.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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

/// A text that is never shown.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A secret with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// A secret of 256 bits from the operating system.
    pub fn random() -> anyhow::Result<Self> {
        use base64::Engine;
        let mut bytes = Zeroizing::new([0_u8; 32]);
        getrandom::fill(bytes.as_mut_slice())
            .map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
        Ok(Self::new(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes.as_slice())))
    }

    /// Reads a secret from a file that only its owner can read. White space around it does not count.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("cannot read the secret in {}", path.display());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(path).with_context(context)?.permissions().mode();
            anyhow::ensure!(mode & 0o077 == 0, "{} can be read by others: chmod 600 it", path.display());
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).with_context(context)?);
        anyhow::ensure!(!text.trim().is_empty(), "{} is empty", path.display());
        Ok(Self::new(text.trim()))
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// Reads the settings from a file, when one is named, and from these variables of the environment.
pub fn load<C: DeserializeOwned>(
    file: Option<&Path>,
    environment: HashMap<String, String>,
) -> anyhow::Result<C> {
    let mut sources = config::Config::builder();
    if let Some(path) = file {
        let path = path.to_str().context("the path of the configuration must be UTF-8")?;
        sources = sources.add_source(File::new(path, FileFormat::Toml));
    }
    let mut variables = Environment::with_prefix("PARLOR")
        .prefix_separator("__")
        .separator("__")
        .try_parsing(true)
        .list_separator(",")
        .source(Some(environment));
    for list in LISTS {
        variables = variables.with_list_parse_key(list);
    }
    let merged = sources.add_source(variables).build().context("the configuration cannot be read")?;
    merged.try_deserialize().context("the configuration does not fit")
}

/// The settings that are lists: in the environment their items are separated by commas.
const LISTS: [&str; 17] = [
    "peers.auth",
    "peers.conversation",
    "peers.messaging",
    "peers.scheduling",
    "nats.servers",
    "service.allowed_origins",
    "service.trusted_proxies",
    "service.media_hosts",
    "service.uploads.media_types",
    "gateway.allowed_origins",
    "gateway.trusted_proxies",
    "messaging.media_hosts",
    "messaging.uploads.media_types",
    "service.previews.fetch.allow_networks",
    "service.previews.fetch.ports",
    "messaging.previews.fetch.allow_networks",
    "messaging.previews.fetch.ports",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Own {
        lanes: usize,
    }

    fn from(variables: &[(&str, &str)]) -> anyhow::Result<Settings<Own>> {
        load(None, variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn the_environment_is_over_the_defaults() {
        let settings = from(&[
            ("PARLOR__PROFILE", "production"),
            ("PARLOR__SERVICE__LANES", "7"),
            ("PARLOR__PEERS__AUTH", "http://a:1,http://b:2"),
            ("UNRELATED", "x"),
        ])
        .expect("settings");
        assert_eq!(settings.profile, Profile::Production);
        assert_eq!(settings.service.lanes, 7);
        assert_eq!(settings.peers.auth, ["http://a:1", "http://b:2"]);
    }

    #[test]
    fn a_key_that_no_setting_has_is_refused() {
        let error = from(&[("PARLOR__LISTEN__GRCP", "127.0.0.1:1")]).expect_err("unknown");
        assert!(format!("{error:#}").contains("grcp"), "{error:#}");
    }

    #[test]
    fn the_file_is_under_the_environment() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("parlor.toml");
        std::fs::write(&path, "profile = \"production\"\n[service]\nlanes = 3\n").expect("a file");
        let variables = HashMap::from([("PARLOR__SERVICE__LANES".to_owned(), "4".to_owned())]);
        let settings: Settings<Own> = load(Some(&path), variables).expect("settings");
        assert_eq!((settings.profile, settings.service.lanes), (Profile::Production, 4));
    }

    #[test]
    fn development_stays_on_loopback_and_production_wants_protection() {
        let open = SocketAddr::from(([0, 0, 0, 0], 80));
        let own = SocketAddr::from(([127, 0, 0, 1], 80));
        assert!(check_address(own, Profile::Development, false).is_ok());
        assert!(check_address(open, Profile::Development, true).is_err());
        assert!(check_address(open, Profile::Production, false).is_err());
        assert!(check_address(open, Profile::Production, true).is_ok());
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("hush");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).expect("json"), "\"***\"");
    }
}
