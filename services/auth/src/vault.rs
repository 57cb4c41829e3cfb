//! What is kept so that a copy of the database alone tells little: keyed sums of codes and addresses, and encryption of
//! what waits to be sent.
//!
//! Every use has a key of its own, made from one secret and the name of the use. The secret comes from the configuration,
//! or is drawn once and kept in the database; then only a copy without that row tells little.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;
use chassis::config::Secret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::random;
use crate::store::Store;

/// The name under which the secret is kept in the database.
const NAME: &str = "vault";

/// Where the secret comes from.
///
/// ```toml
/// [service.vault]
/// secret_file = "/run/secrets/parlor-vault"   # at least 32 characters; the same for all processes
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VaultConfig {
    /// The secret, of at least 32 characters. Absent, with no file either, means one that is drawn once and kept in the
    /// database, in plain text next to what it protects: in production that is refused when mail or background checks are
    /// configured. After a change, codes and mails that were under way are void.
    pub secret: Option<Secret>,
    /// A file with the secret, readable by its owner only.
    pub secret_file: Option<PathBuf>,
}

impl VaultConfig {
    /// Whether a secret is named, be it a good one or not.
    pub fn is_configured(&self) -> bool {
        self.secret.is_some() || self.secret_file.is_some()
    }

    fn configured(&self) -> anyhow::Result<Option<Secret>> {
        let secret = match (&self.secret, &self.secret_file) {
            (None, None) => return Ok(None),
            (Some(secret), None) => secret.clone(),
            (None, Some(path)) => Secret::read(path)?,
            (Some(_), Some(_)) => anyhow::bail!("set vault.secret or vault.secret_file, not both"),
        };
        anyhow::ensure!(secret.expose().len() >= 32, "vault.secret must have at least 32 characters");
        Ok(Some(secret))
    }
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Sums of e-mail addresses.
    Address,
    /// Sums of networks.
    Network,
    /// Sums of one-time codes.
    Code,
    /// Sums of the ids of flows in which codes are asked for.
    Flow,
    /// Sums of requests.
    Request,
    /// Encryption of errands.
    Errand,
}

impl Use {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Address => b"parlor.auth.v1 address",
            Self::Network => b"parlor.auth.v1 network",
            Self::Code => b"parlor.auth.v1 one-time code",
            Self::Flow => b"parlor.auth.v1 flow",
            Self::Request => b"parlor.auth.v1 request",
            Self::Errand => b"parlor.auth.v1 errand",
        }
    }
}

/// Makes keyed sums, and encrypts.
#[derive(Clone)]
pub struct Vault {
    root: hmac::Key,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(***)")
    }
}

impl Vault {
    /// Opens it with the secret that is configured, or with the one in the database, drawn if there is none yet.
    pub async fn open(config: &VaultConfig, store: &Store) -> anyhow::Result<Self> {
        if let Some(secret) = config.configured()? {
            return Ok(Self::new(secret.expose().as_bytes()));
        }
        let drawn = Zeroizing::new(random::bytes::<32>()?);
        let kept = store.service_key(NAME, drawn.as_slice()).await.context("the key of the vault")?;
        Ok(Self::new(&kept))
    }

    /// A vault with this secret.
    pub fn new(secret: &[u8]) -> Self {
        Self { root: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// The keyed sum of these parts, in which no part can run into the next.
    pub fn sum(&self, what: Use, parts: &[&[u8]]) -> Sum {
        let mut context = hmac::Context::with_key(&self.key(what));
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut sum = [0; 32];
        sum.copy_from_slice(context.sign().as_ref());
        Sum(sum)
    }

    /// Encrypts. `whose` must be given again to decrypt, so that nothing is taken for something else.
    pub fn seal(&self, what: Use, whose: &[u8], plain: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce: [u8; NONCE_LEN] = random::bytes().map_err(Error::Internal)?;
        let mut sealed = plain.to_vec();
        let key = self.aead(what).map_err(Error::Internal)?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(whose), &mut sealed)
            .map_err(|_| Error::Internal(anyhow::anyhow!("nothing can be encrypted")))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Decrypts; `None` when it was not encrypted by this vault for this use and owner.
    pub fn open_sealed(&self, what: Use, whose: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let length = self.aead(what).ok()?.open_in_place(nonce, Aad::from(whose), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }

    fn key(&self, what: Use) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&self.root, what.label()).as_ref())
    }

    fn aead(&self, what: Use) -> anyhow::Result<LessSafeKey> {
        let bytes = hmac::sign(&self.root, what.label());
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes.as_ref());
        key.map(LessSafeKey::new).map_err(|_| anyhow::anyhow!("a key of a wrong length"))
    }
}

/// A keyed sum. Compared in constant time.
#[derive(Clone, Copy, Debug)]
pub struct Sum([u8; 32]);

impl Sum {
    /// A sum that is in the database; `None` when it has not the length of one.
    pub(crate) fn stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes of the sum.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for Sum {
    fn eq(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(self.0.as_slice(), other.0.as_slice()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_for_its_owner_and_use_only() {
        let (vault, other) = (Vault::new(b"one"), Vault::new(b"two"));
        let sealed = vault.seal(Use::Errand, b"ann", b"hello").unwrap();
        assert_eq!(vault.open_sealed(Use::Errand, b"ann", &sealed).unwrap().as_slice(), b"hello");
        assert!(!sealed.windows(5).any(|window| window == b"hello"));
        assert!(vault.open_sealed(Use::Errand, b"bob", &sealed).is_none());
        assert!(vault.open_sealed(Use::Code, b"ann", &sealed).is_none());
        assert!(other.open_sealed(Use::Errand, b"ann", &sealed).is_none());
        for cut in 0..sealed.len() {
            assert!(vault.open_sealed(Use::Errand, b"ann", &sealed[..cut]).is_none());
        }
    }

    #[test]
    fn sums_depend_on_the_key_the_use_and_where_parts_end() {
        let vault = Vault::new(b"one");
        let sum = vault.sum(Use::Code, &[b"ab", b"c"]);
        assert_eq!(sum, vault.sum(Use::Code, &[b"ab", b"c"]));
        assert_ne!(sum, vault.sum(Use::Code, &[b"a", b"bc"]));
        assert_ne!(sum, vault.sum(Use::Address, &[b"ab", b"c"]));
        assert_ne!(sum, Vault::new(b"two").sum(Use::Code, &[b"ab", b"c"]));
    }

    #[test]
    fn a_short_secret_is_refused_and_so_are_two() {
        let config = |text: &str| VaultConfig { secret: Some(Secret::new(text)), secret_file: None };
        assert!(config("too short").configured().is_err());
        assert!(config(&"x".repeat(32)).configured().is_ok_and(|secret| secret.is_some()));
        assert!(VaultConfig::default().configured().unwrap().is_none());
        let both = VaultConfig { secret_file: Some("/nowhere".into()), ..config(&"x".repeat(32)) };
        assert!(both.configured().is_err());
    }
}
