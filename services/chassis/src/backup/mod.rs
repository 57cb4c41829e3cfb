//! Backup and restore of all that the services keep, and a check that it belongs together.
//!
//! A service reads the facts of the services before it and keeps a cursor. So a set of copies belongs together when no
//! cursor is beyond the facts of its producer: a backup copies each consumer before its producers, and takes the bytes of
//! files last, after the messages that name them. Work that was under way in between two services is repeated by its
//! caller under the same id after a restore, as after a crash.
//!
//! A restore gives the logs and the histories of facts new epochs: clients and consumers that have seen more than was
//! restored begin anew, and do not take new entries for those that they know.
//!
//! The copies are made while the services run, with `VACUUM INTO` of SQLite, which reads one state of a database beside its
//! writer (<https://www.sqlite.org/lang_vacuum.html>). Of PostgreSQL `pg_dump` makes such a copy of all services at once.

mod agreement;
mod checksums;
mod files;
mod restore;
mod snapshot;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use self::agreement::{check_agreement, draw_epochs};
use self::checksums::Checksums;
use crate::audit::{self, Anchor};
use crate::database::{Database, DatabaseConfig};

/// The folder of a backup that holds the bytes of files.
const FILES: &str = "uploads";

/// All that the services of a process keep.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// The databases: each service after those whose facts it reads.
    pub databases: Vec<ServiceData>,
    /// The folder with the bytes of uploaded files; `None` when they are kept elsewhere, as in a bucket.
    pub files: Option<PathBuf>,
}

/// The database of one service.
#[derive(Clone, Debug)]
pub struct ServiceData {
    /// The name of the service.
    pub name: &'static str,
    /// The place of its database.
    pub config: DatabaseConfig,
    /// The SQL that makes the logs of the service begin a new epoch; empty when it has none.
    pub new_epoch: &'static [&'static str],
}

impl Data {
    /// The data of one service that is a process of its own. The gateway keeps none.
    pub(crate) fn of_service(name: &'static str, config: &DatabaseConfig) -> Self {
        let service = ServiceData { name, config: config.clone(), new_epoch: &[] };
        Self { databases: if name == "gateway" { Vec::new() } else { vec![service] }, files: None }
    }

    /// Checks the audit logs of the services, and that the places that were kept of them are in them. Prints the end of each,
    /// after its entries when they are wanted.
    ///
    /// # Errors
    /// Names the first entry of a log that was changed or removed.
    pub async fn verify_audit(&self, anchors: &[(String, Anchor)], entries: bool) -> anyhow::Result<()> {
        for (name, _) in anchors {
            ensure!(
                self.databases.iter().any(|service| service.name == name),
                "--anchor: there is no {name}"
            );
        }
        for service in &self.databases {
            let database = Database::attach(&service.config, service.name).await?;
            if entries {
                audit::export(&database, &mut std::io::stdout().lock()).await?;
            }
            let kept = anchors.iter().filter(|(name, _)| name == service.name);
            let mut kept: Vec<_> = kept.map(|(_, anchor)| Some(anchor)).collect();
            if kept.is_empty() {
                kept.push(None);
            }
            for anchor in kept {
                let verified = audit::verify(&database, anchor).await;
                let verified = verified.with_context(|| format!("the audit log of {}", service.name))?;
                print(format_args!("{}={}", service.name, verified.head))?;
            }
            database.close().await;
        }
        Ok(())
    }

    /// Copies everything into a folder, which is made, while the services run or not.
    ///
    /// # Errors
    /// Fails when a database is no file of SQLite, when the folder is not empty, or when something cannot be copied. A backup
    /// without its file `SHA256SUMS` is not complete.
    pub async fn back_up(&self, folder: &Path) -> anyhow::Result<()> {
        let sources = self.sqlite_files()?;
        files::make_empty_folder(folder)?;
        let mut checksums = Checksums::default();
        let mut copies = Vec::new();
        for (service, source) in sources.iter().rev() {
            let name = format!("{}.db", service.name);
            let copy = folder.join(&name);
            snapshot::copy(&source.display().to_string(), source, &copy).await?;
            checksums.add(&name, &copy)?;
            copies.push((service.name, Database::attach_file(&copy)?));
        }
        copies.reverse();
        let agreement = check_agreement(&copies).await;
        for (_, copy) in copies {
            copy.close().await;
        }
        agreement?;
        if let Some(from) = self.files.as_ref().filter(|from| from.exists()) {
            let (from, to) = (from.clone(), folder.join(FILES));
            let copied = tokio::task::spawn_blocking(move || files::copy_folder(&from, &to)).await??;
            checksums.extend(FILES, copied);
        }
        checksums.write(folder)?;
        say(format_args!("{} holds a complete backup: {checksums}", folder.display()))
    }

    /// Puts a backup in place, with new epochs. The services must not run, and what is there must be moved away first.
    ///
    /// # Errors
    /// Fails when the backup is not complete or was changed, when its databases do not belong together, or when something is
    /// in its place already. Nothing is in place then.
    pub async fn restore(&self, folder: &Path) -> anyhow::Result<()> {
        restore::restore(self, &self.sqlite_files()?, folder).await
    }

    /// Checks that the databases belong together. With `new_epoch`, then gives them new epochs, which is the last step of a
    /// restore by other means, such as `psql` with a dump; the services must not run.
    ///
    /// # Errors
    /// Fails when they do not belong together, or, with `new_epoch`, a process has a file of SQLite open.
    pub async fn check(&self, new_epoch: bool) -> anyhow::Result<()> {
        self.ensure_whole()?;
        let mut reserved = Vec::new();
        let mut databases = Vec::new();
        for service in &self.databases {
            if new_epoch {
                reserved.push(Database::reserve(&service.config, service.name)?);
            }
            databases.push((service.name, Database::attach(&service.config, service.name).await?));
        }
        check_agreement(&databases).await?;
        say(format_args!("the databases of all services belong together"))?;
        if new_epoch {
            draw_epochs(&self.databases, &databases).await?;
            say(format_args!("drew new epochs: clients and consumers begin anew"))?;
        }
        for (_, database) in databases {
            database.close().await;
        }
        Ok(())
    }

    /// The files of all databases.
    fn sqlite_files(&self) -> anyhow::Result<Vec<(&ServiceData, PathBuf)>> {
        self.ensure_whole()?;
        let mut files = Vec::new();
        for service in &self.databases {
            let path = service.config.sqlite_file(service.name)?.with_context(|| {
                format!(
                    "the database of {} is in a PostgreSQL server: copy it with pg_dump, put it back with psql, and then run \
                     check-data --new-epoch",
                    service.name
                )
            })?;
            files.push((service, path));
        }
        Ok(files)
    }

    fn ensure_whole(&self) -> anyhow::Result<()> {
        ensure!(
            self.databases.len() > 1,
            "this is a command of `parlor`, whose settings name the databases of all services"
        );
        Ok(())
    }
}

/// Prints a result.
fn print(what: fmt::Arguments<'_>) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{what}").context("standard output is closed")
}

/// Tells the operator how far the work has come.
fn say(what: fmt::Arguments<'_>) -> anyhow::Result<()> {
    writeln!(std::io::stderr(), "{what}").context("standard error is closed")
}
