//! The settings of NATS: its servers, the options of its client, and what production takes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use async_nats::{ConnectOptions, ServerAddr};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keys::NoticeKeys;
use super::{BACKLOG, Participant};
use crate::clock::Clock;
use crate::config::{Secret, is_loopback};
use crate::events::Events;
use crate::profile::Profile;

/// A silent connection is given up after two of these: three times that, at most, until it is noticed.
const PING: Duration = Duration::from_secs(5);

/// The folder of the keys of notices in development, beside the data.
const DEVELOPMENT_KEYS: &str = "data/notice-keys";

/// How to reach NATS. Says nothing secret itself: secrets are in files that only their owner can read.
///
/// The user must be allowed to publish and subscribe to what `deploy/nats.conf` lists for its service, and to
/// `_INBOX.<service>.>`, over which the server confirms.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NatsConfig {
    /// The servers, `nats://host:port` or `tls://host:port`; any of them will do.
    pub servers: Vec<String>,
    /// A `.creds` file as `nsc` makes it, with a JWT and the seed of its key.
    pub credentials_file: Option<PathBuf>,
    /// A file with the seed of an nkey, for servers that know users by their public keys.
    pub nkey_file: Option<PathBuf>,
    /// A user name, together with `password_file`.
    pub user: Option<String>,
    /// A file with the password of `user`.
    pub password_file: Option<PathBuf>,
    /// Refuse to speak without TLS, whatever the server offers.
    pub tls_required: bool,
    /// The authorities, in PEM, that may vouch for the server; those of the system when absent.
    pub authority_file: Option<PathBuf>,
    /// The certificate, in PEM, to show to the server; needs `key_file`.
    pub certificate_file: Option<PathBuf>,
    /// The private key of that certificate, in PEM.
    pub key_file: Option<PathBuf>,
    /// The folder with the keys by which notices are authenticated: a file per publishing service (`auth`,
    /// `conversation`, `messaging`, `scheduling`) with a key per line, each of at least 32 characters. The first line is
    /// used, all are accepted. A process needs the files of its service and of those that it hears. Production requires
    /// it; absent means `data/notice-keys` in development, where files that are missing are made.
    pub notice_keys: Option<PathBuf>,
    /// How long an attempt to connect may take, and how long the start of the process waits for NATS.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            credentials_file: None,
            nkey_file: None,
            user: None,
            password_file: None,
            tls_required: false,
            authority_file: None,
            certificate_file: None,
            key_file: None,
            notice_keys: None,
            connect_timeout: Duration::from_secs(2),
        }
    }
}

impl NatsConfig {
    /// Refuses servers that the profile does not allow: in production one that is not on this machine takes TLS and
    /// credentials.
    ///
    /// # Errors
    /// A setting is missing; the error names it.
    pub fn check(&self, profile: Profile) -> anyhow::Result<()> {
        if profile.is_development() {
            return Ok(());
        }
        let has_credentials = self.credentials_file.is_some()
            || self.nkey_file.is_some()
            || self.certificate_file.is_some()
            || (self.user.is_some() && self.password_file.is_some());
        for address in self.addresses()?.iter().filter(|address| !is_loopback(address.host())) {
            let host = address.host();
            anyhow::ensure!(
                self.tls_required || address.tls_required(),
                "nats.servers: {host} is not on this machine, and production speaks to others with TLS only: \
                 set nats.tls_required = true, and nats.authority_file unless an authority of the system vouches for it"
            );
            anyhow::ensure!(
                has_credentials,
                "nats.servers: {host} is not on this machine, and production takes credentials for it: \
                 set nats.user and nats.password_file (or nats.nkey_file, nats.credentials_file or nats.certificate_file)"
            );
        }
        Ok(())
    }

    /// Opens the bus for a process of these services; see [`Events::nats`].
    ///
    /// # Errors
    /// The configuration is wrong, or there are no keys for notices.
    pub async fn open(&self, services: &[&str], profile: Profile, clock: Clock) -> anyhow::Result<Events> {
        self.check(profile)?;
        let name = if let [service] = services { service } else { "parlor" };
        let mut publishers: Vec<_> =
            services.iter().flat_map(|it| proto::subject::publishers(it)).copied().collect();
        publishers.sort_unstable();
        publishers.dedup();
        let keys = self.keys(profile, &publishers)?;
        Events::nats(self, Participant { name: name.to_string(), keys, clock }).await
    }

    fn keys(&self, profile: Profile, publishers: &[&str]) -> anyhow::Result<NoticeKeys> {
        let context = "nats.notice_keys";
        match (&self.notice_keys, profile) {
            (Some(folder), Profile::Production) => NoticeKeys::read(folder, publishers).context(context),
            (None, Profile::Production) => anyhow::bail!(
                "nats.notice_keys must be set: production takes no notices over NATS that are not authenticated \
                 (deploy/secrets.sh makes the keys)"
            ),
            (folder, Profile::Development) => {
                let folder = folder.as_deref().unwrap_or(Path::new(DEVELOPMENT_KEYS));
                NoticeKeys::read_or_make(folder, publishers).context(context)
            }
        }
    }

    pub(super) fn addresses(&self) -> anyhow::Result<Vec<ServerAddr>> {
        anyhow::ensure!(!self.servers.is_empty(), "nats.servers must name at least one server");
        let parse = |server: &String| {
            // The text is not repeated: it may hold the very password that has no place in it.
            let address: ServerAddr =
                server.parse().map_err(|_| anyhow::anyhow!("nats.servers has what is no address"))?;
            anyhow::ensure!(
                !address.has_user_pass(),
                "nats.servers: user and password have their own settings"
            );
            anyhow::ensure!(
                !address.is_websocket(),
                "nats.servers: {} speaks WebSocket, not NATS",
                address.host()
            );
            Ok(address)
        };
        self.servers.iter().map(parse).collect()
    }

    pub(super) async fn options(&self, name: &str) -> anyhow::Result<ConnectOptions> {
        let mut options = ConnectOptions::new()
            .name(name)
            // Of its own, so that the server can keep others from listening to it and from speaking on it.
            .custom_inbox_prefix(format!("_INBOX.{name}"))
            .connection_timeout(self.connect_timeout)
            .client_capacity(BACKLOG.0)
            .ping_interval(PING)
            .reconnect_delay_callback(delay)
            .require_tls(self.tls_required);
        if let Some(path) = &self.credentials_file {
            let secret = Secret::read(path)?;
            options = options
                .credentials(secret.expose())
                .with_context(|| format!("{} holds no NATS credentials", path.display()))?;
        }
        if let Some(path) = &self.nkey_file {
            options = options.nkey(Secret::read(path)?.expose().to_owned());
        }
        match (&self.user, &self.password_file) {
            (Some(user), Some(path)) => {
                options = options.user_and_password(user.clone(), Secret::read(path)?.expose().to_owned());
            }
            (None, None) => {}
            _ => anyhow::bail!("nats.user and nats.password_file go together"),
        }
        for path in [&self.authority_file, &self.certificate_file, &self.key_file].into_iter().flatten() {
            // Found out now, and not in an endless row of failed attempts.
            tokio::fs::metadata(path).await.with_context(|| format!("cannot read {}", path.display()))?;
        }
        if let Some(path) = &self.authority_file {
            options = options.add_root_certificates(path.clone());
        }
        match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => {
                options = options.add_client_certificate(certificate.clone(), key.clone())
            }
            (None, None) => {}
            _ => anyhow::bail!("nats.certificate_file and nats.key_file go together"),
        }
        Ok(options)
    }
}

/// The first attempt follows at once, so that a restarted server is missed for as short as possible.
pub(super) fn delay(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(6);
    Duration::from_millis(25 * 2_u64.pow(doublings)).min(Duration::from_secs(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::contract::participant;

    #[test]
    fn attempts_begin_at_once_and_never_cease() {
        assert_eq!(delay(1), Duration::from_millis(25));
        assert_eq!(delay(usize::MAX), Duration::from_millis(1600));
    }

    #[tokio::test]
    async fn a_configuration_that_cannot_work_is_refused_at_once() {
        let with = |change: fn(&mut NatsConfig)| {
            let mut config = NatsConfig::default();
            change(&mut config);
            config
        };
        for (config, why) in [
            (with(|c| c.servers.clear()), "at least one"),
            (with(|c| c.servers = vec!["http://x".into()]), "no address"),
            (with(|c| c.servers = vec!["nats://me:hush@x".into()]), "own settings"),
            (with(|c| c.user = Some("me".into())), "go together"),
            (with(|c| c.key_file = Some("/nowhere".into())), "/nowhere"),
            (with(|c| c.credentials_file = Some("/nowhere".into())), "/nowhere"),
        ] {
            let error = Events::nats(&config, participant()).await.expect_err("refused");
            let text = format!("{error:#}");
            assert!(text.contains(why) && !text.contains("hush"), "{text}");
        }
    }

    #[test]
    fn production_takes_tls_and_credentials_beyond_this_machine() {
        let config = |servers: &[&str], change: fn(&mut NatsConfig)| {
            let servers = servers.iter().map(|server| (*server).to_owned()).collect();
            let mut config = NatsConfig { servers, ..NatsConfig::default() };
            change(&mut config);
            config
        };
        let user = |config: &mut NatsConfig| {
            config.user = Some("messaging".into());
            config.password_file = Some("/password".into());
        };
        let refused = |config: &NatsConfig, profile| {
            config.check(profile).err().map(|error| error.to_string()).unwrap_or_default()
        };
        for servers in [&["nats://nats:4222"][..], &["nats://127.0.0.1:4222", "nats://10.0.0.1:4222"]] {
            let bare = config(servers, |_| {});
            assert_eq!(refused(&bare, Profile::Development), "");
            assert!(refused(&bare, Profile::Production).contains("nats.tls_required"));
            let with_tls = config(servers, |config| config.tls_required = true);
            assert!(refused(&with_tls, Profile::Production).contains("nats.user and nats.password_file"));
            let mut with_user = config(servers, user);
            assert!(refused(&with_user, Profile::Production).contains("nats.tls_required"));
            with_user.tls_required = true;
            assert_eq!(refused(&with_user, Profile::Production), "");
        }
        assert_eq!(refused(&config(&["tls://nats:4222"], user), Profile::Production), "");
        for own in ["nats://127.0.0.1:4222", "nats://localhost:4222", "nats://[::1]:4222"] {
            assert_eq!(refused(&config(&[own], |_| {}), Profile::Production), "", "{own}");
        }
    }

    #[tokio::test]
    async fn production_does_not_start_without_keys_for_notices() {
        let folder = tempfile::tempdir().expect("a folder");
        let of = |keys: Option<PathBuf>| NatsConfig { notice_keys: keys, ..NatsConfig::default() };
        let missing = folder.path().join("keys");
        for config in [of(None), of(Some(missing.clone()))] {
            let error = config.keys(Profile::Production, &["auth"]).expect_err("refused");
            assert!(format!("{error:#}").contains("nats.notice_keys"), "{error:#}");
        }
        of(Some(missing.clone())).keys(Profile::Development, &["auth"]).expect("made");
        of(Some(missing)).keys(Profile::Production, &["auth"]).expect("there are some");
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        assert!(serde_json::from_str::<NatsConfig>(r#"{"password": "hush"}"#).is_err());
        let config: NatsConfig = serde_json::from_str(r#"{"connect_timeout": "3s"}"#).expect("settings");
        assert_eq!(config.connect_timeout, Duration::from_secs(3));
    }
}
