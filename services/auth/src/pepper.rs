//! Peppers: secrets that go into the hash of every password and lie outside of the database, so that a copy of the
//! database alone lets no password be guessed.
//!
//! A hash names its pepper by an id (the parameter `keyid` of the PHC string, draft-irtf-cfrg-argon2-13 and
//! <https://github.com/P-H-C/phc-string-format>). So a pepper is replaced like other parameters: former ones still verify,
//! and a password is hashed anew when it is used.

use std::fmt;
use std::path::{Path, PathBuf};

use chassis::config::Secret;
use ring::hmac;

use crate::store::Store;

/// The fewest characters of a pepper.
const MIN_LENGTH: usize = 32;

/// The id of a pepper: the beginning of a keyed sum, which tells nothing of the secret.
pub type PepperId = [u8; 8];

/// One secret.
#[derive(Clone)]
pub struct Pepper {
    /// The name that is kept in hashes.
    pub id: PepperId,
    secret: Secret,
}

impl Pepper {
    fn new(secret: Secret) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        let sum = hmac::sign(&key, b"parlor.auth.v1 pepper id");
        let mut id = PepperId::default();
        id.iter_mut().zip(sum.as_ref()).for_each(|(to, from)| *to = *from);
        Self { id, secret }
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let secret = Secret::read(path)?;
        anyhow::ensure!(
            secret.expose().len() >= MIN_LENGTH,
            "{}: a pepper must have at least {MIN_LENGTH} characters",
            path.display()
        );
        Ok(Self::new(secret))
    }

    /// The secret.
    pub fn secret(&self) -> &[u8] {
        self.secret.expose().as_bytes()
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(***)")
    }
}

/// The pepper of new hashes, and those of older ones.
#[derive(Clone, Debug, Default)]
pub struct Peppers {
    current: Option<Pepper>,
    former: Vec<Pepper>,
}

impl Peppers {
    /// Reads the peppers from their files.
    ///
    /// # Errors
    /// Fails when a file cannot be read, can be read by others than its owner, or holds fewer than 32 characters.
    pub fn read(current: Option<&PathBuf>, former: &[PathBuf]) -> anyhow::Result<Self> {
        let current = current.map(|path| Pepper::read(path)).transpose()?;
        Ok(Self { current, former: former.iter().map(|path| Pepper::read(path)).collect::<Result<_, _>>()? })
    }

    /// Writes down in the database that hashes are made under the current pepper.
    ///
    /// # Errors
    /// Fails when hashes were made under a pepper that is not configured any more: their passwords would not be known again.
    pub async fn check(&self, store: &Store) -> anyhow::Result<()> {
        let used = store.note_pepper(self.current().map(|pepper| pepper.id)).await?;
        used.iter().try_for_each(|id| self.find(id).map(drop))
    }

    /// These secrets, as if they had been read.
    #[cfg(test)]
    pub fn of(current: &str, former: &[&str]) -> Self {
        let pepper = |secret: &str| Pepper::new(Secret::new(secret));
        Self { current: Some(pepper(current)), former: former.iter().map(|secret| pepper(secret)).collect() }
    }

    /// The pepper of new hashes; `None` when none is configured.
    pub fn current(&self) -> Option<&Pepper> {
        self.current.as_ref()
    }

    /// The pepper with this id.
    ///
    /// # Errors
    /// Fails when it is not configured.
    pub fn find(&self, id: &[u8]) -> anyhow::Result<&Pepper> {
        let mut all = self.current.iter().chain(&self.former);
        all.find(|pepper| pepper.id == id).ok_or_else(|| {
            anyhow::anyhow!(
                "a password was hashed under a pepper that is not configured: name its file in \
                 passwords.pepper_file or passwords.former_pepper_files"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_pepper_is_long_and_its_owners_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str, mode| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let (good, other) = (file("good", &"p".repeat(32), 0o600), file("other", &"q".repeat(40), 0o600));
        let peppers = Peppers::read(Some(&good), std::slice::from_ref(&other)).unwrap();
        let current = peppers.current().unwrap();
        assert_eq!(peppers.find(&current.id).unwrap().secret(), "p".repeat(32).as_bytes());
        let former = Pepper::read(&other).unwrap();
        assert_ne!(former.id, current.id);
        assert!(peppers.find(&former.id).is_ok() && peppers.find(&[0; 8]).is_err());
        assert_eq!(format!("{former:?}"), "Pepper(***)");
        for bad in [file("short", "short", 0o600), file("open", &"p".repeat(32), 0o644)] {
            assert!(Peppers::read(Some(&bad), &[]).is_err(), "{}", bad.display());
        }
    }
}
