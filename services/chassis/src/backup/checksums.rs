//! The SHA-256 sums of all files of a backup, in the format of `sha256sum`: `sha256sum --check SHA256SUMS` checks them too.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Component, Path};

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};

use super::files::sync_folder;

/// The name of the file with the sums. It is written last.
const NAME: &str = "SHA256SUMS";

/// The sum of a file, in hexadecimal digits, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checksum {
    pub sum: String,
    pub bytes: u64,
}

/// The sums by the names of the files, relative to the folder of the backup.
#[derive(Debug, Default)]
pub(super) struct Checksums(BTreeMap<String, Checksum>);

impl Checksums {
    /// Adds a file of the backup.
    pub fn add(&mut self, name: &str, file: &Path) -> anyhow::Result<()> {
        self.0.insert(name.to_owned(), checksum(file)?);
        Ok(())
    }

    /// Adds the files of a folder of the backup.
    pub fn extend(&mut self, folder: &str, files: impl IntoIterator<Item = (String, Checksum)>) {
        self.0.extend(files.into_iter().map(|(name, sum)| (format!("{folder}/{name}"), sum)));
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Writes the file of sums durably, which makes the backup a complete one.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let (draft, path) = (folder.join("SHA256SUMS.draft"), folder.join(NAME));
        let mut text = String::new();
        for (name, Checksum { sum, .. }) in &self.0 {
            text.push_str(&format!("{sum}  {name}\n"));
        }
        let write = || {
            let mut file = File::create(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&draft, &path)?;
            sync_folder(folder)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads the sums of a backup and compares every file with its sum.
    ///
    /// # Errors
    /// Fails when the backup is not complete, or a file is missing or another one.
    pub fn verify(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(NAME);
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!("{} is not a complete backup: cannot read {}", folder.display(), path.display())
        })?;
        let mut sums = BTreeMap::new();
        for line in text.lines() {
            let Some((sum, name)) = line.split_once("  ") else {
                bail!("{}: malformed line", path.display())
            };
            let is_inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
            ensure!(is_inside, "{}: {name} is outside of the backup", path.display());
            let found = checksum(&folder.join(name))?;
            ensure!(found.sum == sum, "{} is not the file that was backed up", folder.join(name).display());
            sums.insert(name.to_owned(), found);
        }
        Ok(Self(sums))
    }
}

impl fmt::Display for Checksums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: u64 = self.0.values().map(|sum| sum.bytes).sum();
        write!(f, "{} files, {} MiB", self.0.len(), bytes.div_ceil(1 << 20))
    }
}

/// The sum of a file.
pub(super) fn checksum(path: &Path) -> anyhow::Result<Checksum> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    copy_and_sum(&mut file, &mut std::io::sink()).with_context(|| format!("cannot read {}", path.display()))
}

/// Copies bytes and sums them up.
pub(super) fn copy_and_sum(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<Checksum> {
    let (mut sum, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut buffer)?;
        let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else { break };
        sum.update(chunk);
        to.write_all(chunk)?;
        bytes += read as u64;
    }
    let sum = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Checksum { sum, bytes })
}
