//! A backup is copied beside its place, checked, given new epochs, and only then put in place.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::agreement::{check_agreement, draw_epochs};
use super::checksums::Checksums;
use super::{Data, FILES, ServiceData, files, say};
use crate::database::Database;

pub(super) async fn restore(
    data: &Data,
    targets: &[(&ServiceData, PathBuf)],
    folder: &Path,
) -> anyhow::Result<()> {
    for (_, target) in targets {
        for path in [target.clone(), with_suffix(target, "-wal")] {
            ensure!(
                !path.exists(),
                "{} is there already: stop Parlor and move it away first",
                path.display()
            );
        }
    }
    say(format_args!("checking the backup in {}", folder.display()))?;
    let checksums = Checksums::verify(folder)?;
    let prefix = format!("{FILES}/");
    let has_files = checksums.names().any(|name| name.starts_with(&prefix));
    let places = places(data, has_files)?;

    let drafts: Vec<_> = targets.iter().map(|(_, target)| with_suffix(target, ".restoring")).collect();
    for ((service, _), draft) in targets.iter().zip(&drafts) {
        let source = folder.join(format!("{}.db", service.name));
        ensure!(source.exists(), "{} holds no database of {}", folder.display(), service.name);
        if let Some(parent) = draft.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        // One that an earlier try has left.
        std::fs::remove_file(draft).ok();
        files::copy_file(&source, draft).with_context(|| format!("cannot copy {}", source.display()))?;
        say(format_args!("copied the database of {}", service.name))?;
    }
    renew(data, &drafts).await?;
    if let Some((_, draft)) = &places {
        let (from, to) = (folder.join(FILES), draft.clone());
        tokio::task::spawn_blocking(move || {
            if to.exists() {
                std::fs::remove_dir_all(&to)?;
            }
            files::copy_folder(&from, &to)
        })
        .await??;
    }
    let databases = targets.iter().map(|(_, target)| target).zip(&drafts);
    for (target, draft) in places.iter().map(|(target, draft)| (target, draft)).chain(databases) {
        put_in_place(draft, target)?;
    }
    say(format_args!("restored {checksums}, with new epochs: clients begin anew"))
}

/// The place of files and the folder beside it that they are copied to; `None` when there are none.
fn places(data: &Data, has_files: bool) -> anyhow::Result<Option<(PathBuf, PathBuf)>> {
    match (&data.files, has_files) {
        (_, false) => Ok(None),
        (None, true) => {
            bail!("the backup holds files, and these settings keep files elsewhere: copy {FILES} there first")
        }
        (Some(target), true) => {
            let is_empty = target.read_dir().map_or(true, |mut entries| entries.next().is_none());
            ensure!(is_empty, "{} holds files already: move it away first", target.display());
            Ok(Some((target.clone(), with_suffix(target, ".restoring"))))
        }
    }
}

async fn renew(data: &Data, drafts: &[PathBuf]) -> anyhow::Result<()> {
    let mut databases = Vec::new();
    for (service, draft) in data.databases.iter().zip(drafts) {
        databases.push((service.name, Database::attach_file(draft)?));
    }
    let renewed = async {
        check_agreement(&databases).await?;
        draw_epochs(&data.databases, &databases).await
    };
    let renewed = renewed.await;
    for (_, database) in databases {
        database.close().await;
    }
    renewed
}

fn put_in_place(draft: &Path, target: &Path) -> anyhow::Result<()> {
    let put = || {
        if target.is_dir() {
            std::fs::remove_dir(target)?;
        }
        std::fs::rename(draft, target)?;
        files::sync_folder(
            target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        )
    };
    put().with_context(|| format!("cannot put {} in place", target.display()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
