//! The keys by which notices over NATS are authenticated: a file per publishing service, in one folder.
//!
//! A file has one key per line, of at least 32 characters. The service seals with the key of the first line; all of them
//! are accepted. So a key is replaced in three steps, with a restart of the services after each: the new key is added to
//! the end, moved to the first line, and the old one is removed.

use std::collections::HashMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Context;
use ring::hmac;
use sha2::{Digest, Sha256};

use crate::config::Secret;

/// The fewest characters of a key.
const LENGTH: usize = 32;

/// The name of a key in a notice.
pub(super) type KeyId = [u8; 4];

/// A key of a publishing service.
pub(super) struct Key {
    pub(super) id: KeyId,
    pub(super) hmac: hmac::Key,
}

impl Key {
    fn new(secret: &str) -> Self {
        let sum = Sha256::new().chain_update("parlor notice key").chain_update(secret).finalize();
        let [a, b, c, d, ..] = <[u8; 32]>::from(sum);
        Self { id: [a, b, c, d], hmac: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()) }
    }
}

/// The keys of the publishing services that a process publishes for or hears, by their names.
pub struct NoticeKeys(HashMap<String, Vec<Key>>);

impl NoticeKeys {
    /// Reads the keys of these services from a folder.
    ///
    /// # Errors
    /// A file is missing, can be read by others, or has a line that is no key.
    pub fn read(folder: &Path, services: &[&str]) -> anyhow::Result<Self> {
        let read = |service: &&str| {
            let path = folder.join(service);
            let keys = parse(&Secret::read(&path)?).with_context(|| path.display().to_string())?;
            Ok(((*service).to_owned(), keys))
        };
        Ok(Self(services.iter().map(read).collect::<anyhow::Result<_>>()?))
    }

    /// The same in development: a file that is missing is made, with a key that is made up.
    ///
    /// # Errors
    /// The folder cannot be written, and those of [`read`](Self::read).
    pub fn read_or_make(folder: &Path, services: &[&str]) -> anyhow::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        for service in services {
            make(&folder.join(service))
                .with_context(|| format!("cannot make a key in {}", folder.display()))?;
        }
        Self::read(folder, services)
    }

    /// The key to seal with what is published on a subject, and all that are accepted on it; none when it is not a
    /// subject of these services.
    pub(super) fn of_subject(&self, subject: &str) -> &[Key] {
        self.0.get(publisher(subject)).map(Vec::as_slice).unwrap_or_default()
    }

    #[cfg(test)]
    pub(in crate::events) fn with(secrets: &[(&str, &[&str])]) -> Self {
        let keys = |secrets: &[&str]| secrets.iter().map(|secret| Key::new(secret)).collect();
        Self(secrets.iter().map(|(service, secrets)| ((*service).to_owned(), keys(secrets))).collect())
    }
}

impl fmt::Debug for NoticeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NoticeKeys").field(&self.0.keys()).finish()
    }
}

/// The service that publishes on a subject of the contract, such as `auth` on `parlor.auth.v1.facts`; empty for others.
fn publisher(subject: &str) -> &str {
    let rest = subject.strip_prefix("parlor.").unwrap_or_default();
    rest.split('.').next().unwrap_or_default()
}

fn parse(text: &Secret) -> anyhow::Result<Vec<Key>> {
    let lines = text.expose().lines().map(str::trim).filter(|line| !line.is_empty());
    let key = |line: &str| {
        anyhow::ensure!(line.len() >= LENGTH, "each line must be a key of at least {LENGTH} characters");
        Ok(Key::new(line))
    };
    lines.map(key).collect()
}

/// Makes a file with a key, unless it is there. Several processes may do so at the same time: the first one's stays.
fn make(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let draft = path.with_extension(format!("{}.draft", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(file, "{}", Secret::random()?.expose())?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&draft, path);
    std::fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_subject_belongs_to_the_service_of_its_package() {
        assert_eq!(publisher(proto::subject::AUTH_FACTS), "auth");
        assert_eq!(publisher("parlor.messaging.v1.user.x"), "messaging");
        for other in ["room", "parlor", "other.auth.v1.facts", ""] {
            assert_eq!(publisher(other), "");
        }
    }

    #[test]
    fn every_service_has_the_keys_of_what_it_hears_and_says() {
        for service in ["auth", "conversation", "messaging", "scheduling", "gateway"] {
            let needed = proto::subject::publishers(service);
            assert!(needed.contains(&"auth"), "{service} hears of sessions that end");
            assert!(service == "gateway" || needed.contains(&service), "{service} publishes");
        }
    }

    #[test]
    fn in_development_keys_are_made_once_and_production_refuses_to_go_without() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = folder.path().join("keys");
        let error = NoticeKeys::read(&keys, &["auth"]).expect_err("there is none");
        assert!(format!("{error:#}").contains("keys/auth"), "{error:#}");
        let id = |keys: &NoticeKeys| keys.of_subject(proto::subject::AUTH_FACTS)[0].id;
        let made = NoticeKeys::read_or_make(&keys, &["auth", "messaging"]).expect("keys");
        assert_eq!(id(&NoticeKeys::read_or_make(&keys, &["auth"]).expect("keys")), id(&made));
        assert_eq!(id(&NoticeKeys::read(&keys, &["auth"]).expect("keys")), id(&made));
        assert!(made.of_subject(proto::subject::CONVERSATION_FACTS).is_empty());
        let names =
            std::fs::read_dir(&keys).expect("a folder").map(|entry| entry.expect("a file").file_name());
        assert_eq!(names.count(), 2, "no draft stays");
    }

    #[test]
    fn a_key_that_is_short_or_shown_to_others_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("auth");
        let refused = |text: &str, mode: u32| {
            std::fs::write(&path, text).expect("a file");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("a mode");
            NoticeKeys::read(folder.path(), &["auth"])
                .err()
                .map(|error| format!("{error:#}"))
                .unwrap_or_default()
        };
        let key = "k".repeat(LENGTH);
        assert_eq!(refused(&format!("{key}\n\n {key}x \n"), 0o600), "");
        assert!(refused(&format!("{key}\nshort"), 0o600).contains("at least 32 characters"));
        assert!(refused("", 0o600).contains("is empty"));
        assert!(refused(&key, 0o640).contains("chmod 600"));
    }
}
