//! How to reach NATS, and what is told to its client.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use async_nats::{ConnectOptions, ServerAddr};
use serde::{Deserialize, Serialize};

use super::BACKLOG;
use crate::config::Secret;

/// A silent connection is given up after two of these: three times that, at most, until it is noticed.
const PING: Duration = Duration::from_secs(5);

/// How to reach NATS. Says nothing secret itself: secrets are in files that only their owner can read.
///
/// The user must be allowed to publish and subscribe to the subjects of the contract and to `_INBOX.>`, over which the
/// server confirms.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// How long an attempt to connect may take, and how long the start of the process waits for NATS.
    #[serde(with = "humantime_serde")]
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
            connect_timeout: Duration::from_secs(2),
        }
    }
}

impl NatsConfig {
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

    pub(super) async fn options(&self) -> anyhow::Result<ConnectOptions> {
        let mut options = ConnectOptions::new()
            .name("parlor")
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
    use crate::events::Events;

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
            let error = Events::nats(&config).await.expect_err("refused");
            let text = format!("{error:#}");
            assert!(text.contains(why) && !text.contains("hush"), "{text}");
        }
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        assert!(serde_json::from_str::<NatsConfig>(r#"{"password": "hush"}"#).is_err());
        let config: NatsConfig = serde_json::from_str(r#"{"connect_timeout": "3s"}"#).expect("settings");
        assert_eq!(config.connect_timeout, Duration::from_secs(3));
    }
}
