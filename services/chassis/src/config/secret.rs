//! Secrets of the configuration.

use std::fmt;
use std::path::Path;

use anyhow::Context;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

/// A text that is never shown.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(from = "String")]
#[schemars(with = "String")]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("hush");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).expect("json"), "\"***\"");
    }
}
