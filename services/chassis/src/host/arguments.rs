//! The command line.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::audit::Anchor;

/// The command line of a process. Everything else is configuration.
#[derive(Debug, Parser)]
#[command(about = "A part of Parlor, the chat backend.")]
pub(super) struct Arguments {
    /// The TOML file to read the configuration from.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Print every setting with its documentation and its value, as a file that --config takes, and stop.
    #[arg(long)]
    pub print_config: bool,
    /// Something to do instead of running.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Something to do instead of running.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Ask the running process with this configuration whether it is ready; fail when it is not.
    Healthcheck,
    /// Something to do with what the services keep.
    #[command(flatten)]
    Data(DataCommand),
}

/// Something to do with what the services keep. All but the check of the audit log take the settings of `parlor`, which name
/// the databases of all services.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum DataCommand {
    /// Copy all SQLite databases and uploaded files into a new folder, while Parlor runs or not.
    Backup {
        /// The folder, which must be empty or missing.
        folder: PathBuf,
    },
    /// Put a backup in place. Stop Parlor and move its data away first.
    Restore {
        /// The folder of the backup.
        folder: PathBuf,
    },
    /// Check that the databases of all services belong together, as after a restore of PostgreSQL.
    CheckData {
        /// Then let clients and consumers of facts begin anew: the last step of a restore. Parlor must not run.
        #[arg(long)]
        new_epoch: bool,
    },
    /// Check that no entry of the audit log was changed or removed, and print where it ends.
    VerifyAudit {
        /// The end of the log of a service as it was printed before, such as `auth=120:5f3c...`.
        #[arg(long = "anchor", value_name = "SERVICE=SEQUENCE:SUM", value_parser = anchor)]
        anchors: Vec<(String, Anchor)>,
        /// Print the entries first, each as a line of JSON.
        #[arg(long)]
        entries: bool,
    },
}

fn anchor(text: &str) -> anyhow::Result<(String, Anchor)> {
    let (service, anchor) = text.split_once('=').context("it is written SERVICE=SEQUENCE:SUM")?;
    Ok((service.to_owned(), anchor.parse()?))
}

impl Arguments {
    /// The arguments of this process, whose name is that of its service. Ends the process with a message when they are
    /// wrong, or with a text when they ask for one.
    pub(super) fn of(name: &'static str) -> Self {
        let matches = Self::named(name).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    fn named(name: &str) -> clap::Command {
        let binary = if name == "parlor" { name.to_owned() } else { format!("parlor-{name}") };
        Self::command().name(binary.clone()).bin_name(binary).version(version())
    }
}

/// The version, with the build where one was named.
fn version() -> String {
    match option_env!("PARLOR_BUILD") {
        Some(build) => format!("{} ({build})", env!("CARGO_PKG_VERSION")),
        None => env!("CARGO_PKG_VERSION").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_binary() {
        for (name, binary) in [("parlor", "parlor"), ("messaging", "parlor-messaging")] {
            let said = Arguments::named(name).render_version();
            assert_eq!(said, format!("{binary} {}\n", version()));
        }
    }

    #[test]
    fn the_configuration_can_be_named_before_and_after_a_command() {
        for line in
            [["parlor", "--config", "x.toml", "healthcheck"], ["parlor", "healthcheck", "--config", "x.toml"]]
        {
            let matches = Arguments::named("parlor").try_get_matches_from(line).expect("arguments");
            let arguments = Arguments::from_arg_matches(&matches).expect("arguments");
            assert!(matches!(arguments.command, Some(Command::Healthcheck)) && arguments.config.is_some());
        }
    }
}
