//! A provider to sign in with (OpenID Connect): finding its keys, keeping them, and verifying its tokens.
//!
//! The keys are fetched when they are first needed, and again when they are an hour old or a token names one that is not
//! there; for such a token at most once a minute, because anybody can make one. While the provider cannot be reached,
//! the keys that are known go on counting.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use chassis::clock::{Clock, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::error::Error;
use crate::identity::{Demand, Identity};
use crate::jwt::{Key, Keys, Token};
use crate::refusal::Refusal;
use crate::web::{Place, Web};

/// How long an answer of a provider may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How old keys are when they are fetched again.
const OLD: Duration = Duration::from_secs(60 * 60);

/// After a try to fetch keys the next comes no sooner.
const PAUSE: Duration = Duration::from_secs(60);

/// The same while no keys are known at all.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The most bytes of a discovery document, and of a key set.
const MOST: usize = 256 * 1024;

/// A provider to sign in with. There may be several, each with a name and an issuer of its own.
///
/// ```toml
/// [[service.oidc]]
/// name = "example"
/// issuer = "https://id.example.org"
/// client_ids = ["parlor-web", "parlor-ios"]
/// ```
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// What it is called here: 1 to 32 of `a-z`, `0-9`, `-`. Shown to clients; links keep working when it changes.
    pub name: String,
    /// Its issuer, exactly as its tokens have it: https, or http with a loopback address.
    pub issuer: String,
    /// The client ids that its tokens may be meant for; at least one.
    pub client_ids: Vec<String>,
}

impl ProviderConfig {
    /// Refuses what cannot work.
    pub fn check(all: &[Self]) -> anyhow::Result<()> {
        for (index, config) in all.iter().enumerate() {
            let Self { name, issuer, client_ids } = config;
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            anyhow::ensure!(
                (1..=32).contains(&name.len()) && name.bytes().all(is_plain),
                "the name of a provider has 1 to 32 of a-z, 0-9 and `-`, and {name:?} does not"
            );
            config.discovery().with_context(|| format!("the issuer of provider {name}"))?;
            let has_ids = !client_ids.is_empty() && client_ids.iter().all(|id| !id.is_empty());
            anyhow::ensure!(has_ids, "provider {name} needs client_ids: whom its tokens are meant for");
            let is_new = all.iter().take(index).all(|other| other.name != *name && other.issuer != *issuer);
            anyhow::ensure!(is_new, "two providers have the name {name} or the issuer {issuer}");
        }
        Ok(())
    }

    fn discovery(&self) -> anyhow::Result<Place> {
        anyhow::ensure!(!self.issuer.contains('?'), "an issuer has no query");
        let base = self.issuer.strip_suffix('/').unwrap_or(&self.issuer);
        Place::parse(&format!("{base}/.well-known/openid-configuration"))
    }
}

/// A provider.
#[derive(Debug)]
pub struct Provider {
    /// What is configured about it.
    pub config: ProviderConfig,
    discovery: Place,
    web: Web,
    clock: Clock,
    known: RwLock<Option<Known>>,
    /// When it was last tried to fetch keys. Held while that goes on, so that it goes on once.
    tried: Mutex<Option<Timestamp>>,
}

/// Keys, and how fresh they are.
#[derive(Clone, Debug)]
struct Known {
    keys: Arc<Keys>,
    time: Timestamp,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Provider {
    /// A provider about which nothing is known yet but where to ask.
    pub fn new(config: ProviderConfig, web: Web, clock: Clock) -> anyhow::Result<Self> {
        let discovery = config.discovery()?;
        Ok(Self { config, discovery, web, clock, known: RwLock::new(None), tried: Mutex::new(None) })
    }

    /// Who somebody is who comes with a token.
    pub async fn verify(&self, token: &str, nonce: Option<&str>) -> Result<Identity, Error> {
        let token = Token::parse(token).map_err(Refusal::IdTokenInvalid)?;
        let key = self.key(&token).await?;
        let payload = token.verified_by(&key).map_err(Refusal::IdTokenInvalid)?;
        let demand = Demand { issuer: &self.config.issuer, client_ids: &self.config.client_ids, nonce };
        Ok(Identity::read(payload, &demand, self.clock.now()).map_err(Refusal::IdTokenInvalid)?)
    }

    async fn key(&self, token: &Token<'_>) -> Result<Key, Error> {
        let known = self.known();
        let found = known.as_ref().and_then(|known| known.keys.of(token).cloned());
        match (known, found) {
            (Some(known), Some(key)) if self.clock.now().since(known.time) < OLD => Ok(key),
            // What is old still counts: nobody waits for somebody else who is asking already.
            (Some(_), Some(key)) => match self.tried.try_lock() {
                Ok(mut tried) => {
                    match self.refresh(&mut tried).await {
                        // A key that the provider has taken back counts no more.
                        Some(fresh) => fresh.of(token).cloned().ok_or_else(unknown_key),
                        None => Ok(key),
                    }
                }
                Err(_) => Ok(key),
            },
            _ => {
                let mut tried = self.tried.lock().await;
                let now_known = |this: &Self| this.known().and_then(|known| known.keys.of(token).cloned());
                // Somebody may have fetched it while we waited.
                if let Some(key) = now_known(self) {
                    return Ok(key);
                }
                self.refresh(&mut tried).await;
                match (now_known(self), self.known()) {
                    (Some(key), _) => Ok(key),
                    (None, Some(_)) => Err(unknown_key()),
                    (None, None) => Err(Refusal::ProviderUnavailable { wait: FIRST_PAUSE }.into()),
                }
            }
        }
    }

    fn known(&self) -> Option<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fetches the keys and returns them, unless that was tried a moment ago. What is known stays when it does not work.
    async fn refresh(&self, tried: &mut Option<Timestamp>) -> Option<Arc<Keys>> {
        let now = self.clock.now();
        let pause = if self.known().is_some() { PAUSE } else { FIRST_PAUSE };
        if tried.is_some_and(|tried| now.since(tried) < pause) {
            return None;
        }
        *tried = Some(now);
        let name = &self.config.name;
        match self.fetch().await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                let known = Known { keys: keys.clone(), time: now };
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
                tracing::info!(provider = name, "fetched the keys of provider {name}");
                Some(keys)
            }
            Err(error) => {
                metrics::counter!("auth_provider_failures_total", "provider" => name.clone()).increment(1);
                tracing::warn!(provider = name, "the keys of provider {name} cannot be fetched: {error:#}");
                None
            }
        }
    }

    async fn fetch(&self) -> anyhow::Result<Keys> {
        let document = self.web.get(&self.discovery, MOST).await.context("its discovery document")?;
        let Discovery { issuer, jwks_uri } =
            serde_json::from_slice(&document).context("its discovery document")?;
        // A document that somebody else has written must not decide about keys.
        anyhow::ensure!(
            issuer == self.config.issuer,
            "its discovery document is of {issuer:?}, which is not the issuer that is configured"
        );
        let place = Place::parse(&jwks_uri).context("the address of its keys")?;
        let keys = self.web.get(&place, MOST).await.context("its keys")?;
        Keys::parse(&keys).context("its key set")
    }
}

fn unknown_key() -> Error {
    Refusal::IdTokenInvalid("is signed with a key that the provider does not have").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, issuer: &str) -> ProviderConfig {
        ProviderConfig { name: name.to_owned(), issuer: issuer.to_owned(), client_ids: vec!["id".to_owned()] }
    }

    #[test]
    fn the_document_is_where_the_standard_has_it() {
        for issuer in ["https://id.example.org/tenant", "https://id.example.org/tenant/"] {
            let expected = "https://id.example.org/tenant/.well-known/openid-configuration";
            assert_eq!(config("a", issuer).discovery().unwrap(), Place::parse(expected).unwrap());
        }
    }

    #[test]
    fn what_cannot_work_is_refused_at_the_start() {
        let good = [config("a", "https://a.example.org"), config("b", "http://127.0.0.1:9")];
        assert!(ProviderConfig::check(&good).is_ok() && ProviderConfig::check(&[]).is_ok());
        for bad in [
            config("", "https://c.example.org"),
            config("Google", "https://c.example.org"),
            config("c", "http://c.example.org"),
            config("c", "https://c.example.org?x=1"),
            config("c", "nonsense"),
            config("a", "https://c.example.org"),
            config("c", "https://a.example.org"),
            ProviderConfig { client_ids: Vec::new(), ..config("c", "https://c.example.org") },
            ProviderConfig { client_ids: vec![String::new()], ..config("c", "https://c.example.org") },
        ] {
            let all = [good.as_slice(), std::slice::from_ref(&bad)].concat();
            assert!(ProviderConfig::check(&all).is_err(), "{bad:?}");
        }
    }
}
