//! Folders and files of a backup. Everything is readable by its owner only and on disk when a function returns.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, ensure};

use super::checksums::{Checksum, copy_and_sum};
use super::say;

/// Every so many files the operator is told how far the copy has come.
const REPORTED: usize = 1000;

/// Makes a folder, unless it is there and empty.
pub(super) fn make_empty_folder(folder: &Path) -> anyhow::Result<()> {
    let context = || format!("cannot make the folder {}", folder.display());
    DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(context)?;
    let is_empty = folder.read_dir().with_context(context)?.next().is_none();
    ensure!(is_empty, "{} is not empty: a backup takes a folder of its own", folder.display());
    Ok(())
}

/// A new file.
pub(super) fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Copies one file.
pub(super) fn copy_file(from: &Path, to: &Path) -> std::io::Result<Checksum> {
    let mut source = File::open(from)?;
    let mut target = create(to)?;
    let sum = copy_and_sum(&mut source, &mut target)?;
    target.sync_all()?;
    Ok(sum)
}

/// Copies a folder with all that is in it. Files that are removed meanwhile are left out. Returns the names below the
/// folder, with their sums.
pub(super) fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<Vec<(String, Checksum)>> {
    let mut copied = Vec::new();
    copy_below(from, to, "", &mut copied)?;
    Ok(copied)
}

fn copy_below(
    from: &Path,
    to: &Path,
    prefix: &str,
    copied: &mut Vec<(String, Checksum)>,
) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    for entry in from.read_dir().with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let name = format!("{prefix}{}", entry.file_name().display());
        if entry.file_type()?.is_dir() {
            copy_below(&from, &to, &format!("{name}/"), copied)?;
            continue;
        }
        match copy_file(&from, &to) {
            Ok(sum) => copied.push((name, sum)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot copy {}", from.display())),
        }
        if copied.len().is_multiple_of(REPORTED) {
            say(format_args!("copied {} files", copied.len()))?;
        }
    }
    Ok(sync_folder(to)?)
}

/// New names in a folder survive a power cut once it is flushed.
pub(super) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}
