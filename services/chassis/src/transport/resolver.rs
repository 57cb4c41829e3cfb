//! The addresses behind the names of a service.

use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::Uri;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::replica::Replica;
use super::replicas::Replicas;
use crate::config::TlsConfig;

/// The pause between two looks at the addresses of names.
const INTERVAL: Duration = Duration::from_secs(10);

/// A URL at which a service is reached.
#[derive(Clone)]
pub(super) struct Target {
    url: Uri,
    host: String,
    port: u16,
    tls: Option<ClientTlsConfig>,
}

impl Target {
    /// Reads `http://host:port`, or `https://host:port` with the settings for TLS.
    pub(super) fn read(url: &str, tls: Option<&TlsConfig>) -> anyhow::Result<Self> {
        let context = || format!("{url} is not the address of a service");
        let parsed: Uri = url.parse().with_context(context)?;
        let host = parsed.host().with_context(context)?.to_owned();
        let port = parsed.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let is_https = parsed.scheme_str() == Some("https");
        ensure!(is_https || tls.is_none(), "{url} must begin with https://: peers.tls is set");
        ensure!(
            !is_https || tls.is_some(),
            "{url} needs peers.tls: certificate_file, key_file and authority_file"
        );
        let tls = tls.map(client_tls).transpose()?;
        let target = Self { url: parsed, host, port, tls };
        // Faults of the settings are said at the start.
        target.endpoint(&format!("{}:{}", target.host, target.port))?;
        Ok(target)
    }

    /// True when the host is a name, whose addresses may change.
    fn is_name(&self) -> bool {
        self.host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_err()
    }

    /// The replica at its own host and port.
    pub(super) fn replica(&self) -> anyhow::Result<Arc<Replica>> {
        self.replica_at(format!("{}:{}", self.host, self.port))
    }

    fn replica_at(&self, authority: String) -> anyhow::Result<Arc<Replica>> {
        let endpoint = self.endpoint(&authority)?;
        Ok(Arc::new(Replica::new(authority, endpoint)))
    }

    fn endpoint(&self, authority: &str) -> anyhow::Result<Endpoint> {
        let scheme = self.url.scheme_str().unwrap_or("http");
        let endpoint = Endpoint::from_shared(format!("{scheme}://{authority}"))
            .with_context(|| format!("{authority} is not the address of a service"))?
            .origin(self.url.clone())
            .connect_timeout(Duration::from_secs(2))
            // A caller that waits longer has been given up on by its own caller.
            .timeout(Duration::from_secs(5))
            // Without it a partition leaves a channel that never recovers.
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20);
        let Some(tls) = &self.tls else { return Ok(endpoint) };
        let tls = tls.clone().domain_name(self.host.trim_matches(['[', ']']));
        endpoint.tls_config(tls).context("the TLS settings do not fit together")
    }

    /// The addresses of its name now, as `address:port`.
    async fn resolve(&self) -> std::io::Result<Vec<String>> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        let mut found: Vec<String> = found.map(|address| address.to_string()).collect();
        found.sort();
        found.dedup();
        Ok(found)
    }
}

fn client_tls(tls: &TlsConfig) -> anyhow::Result<ClientTlsConfig> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    Ok(ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&tls.authority_file)?))
        .identity(Identity::from_pem(read(&tls.certificate_file)?, read(&tls.key_file)?)))
}

/// Follows the addresses of names for as long as the service is called. Until a name was resolved, and while it cannot be,
/// the last known addresses are used.
pub(super) fn follow(targets: Vec<Target>, replicas: &Arc<Replicas>) {
    if targets.iter().any(Target::is_name) {
        let names = Arc::downgrade(replicas);
        replicas.tasks().spawn("resolver", |shutdown| async move {
            tokio::select! {
                () = follow_names(targets, names) => {}
                () = shutdown.wait() => {}
            }
        });
    }
}

async fn follow_names(targets: Vec<Target>, replicas: Weak<Replicas>) {
    loop {
        let mut found = Vec::new();
        let mut is_complete = true;
        for target in &targets {
            let authorities = match target.is_name() {
                true => target.resolve().await,
                false => Ok(vec![format!("{}:{}", target.host, target.port)]),
            };
            match authorities {
                Ok(authorities) => found.extend(authorities.into_iter().map(|name| (target, name))),
                Err(error) => {
                    tracing::debug!(host = target.host, %error, "the name of a service cannot be resolved");
                    is_complete = false;
                }
            }
        }
        let Some(replicas) = replicas.upgrade() else { return };
        if is_complete && !found.is_empty() {
            renew(&replicas, &found);
        }
        drop(replicas);
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Keeps the replicas whose addresses are still there, with their connections.
fn renew(replicas: &Replicas, found: &[(&Target, String)]) {
    let known = replicas.all();
    let is_same = known.len() == found.len()
        && found.iter().all(|(_, name)| known.iter().any(|replica| replica.name() == name));
    if is_same {
        return;
    }
    let renewed = found.iter().filter_map(|(target, name)| {
        let old = known.iter().find(|replica| replica.name() == name).cloned();
        match old.map_or_else(|| target.replica_at(name.clone()), Ok) {
            Ok(replica) => Some(replica),
            Err(error) => {
                tracing::error!(address = name, "{error:#}");
                None
            }
        }
    });
    let renewed: Vec<_> = renewed.collect();
    let names: Vec<_> = renewed.iter().map(|replica| replica.name()).collect();
    tracing::info!(addresses = ?names, "the addresses of a service have changed");
    replicas.replace(renewed);
}
