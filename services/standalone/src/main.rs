//! Parlor in one process: all four services and the gateway, SQLite and an in-process bus, nothing else installed.
//!
//! The very same services run as processes of their own; all this does differently is to fill in what each is given:
//! a call within the process instead of a channel, a local bus instead of NATS. Database and bus are independent
//! choices: PostgreSQL and NATS can be configured here too.

mod banner;
mod config;
mod units;

use std::process::ExitCode;

use chassis::host::{self, Process};

use crate::config::Config;

fn main() -> ExitCode {
    let process = |config: &Config| Process {
        name: "parlor",
        profile: config.profile,
        listen: config.listen.clone(),
        log: config.log.clone(),
        data: config.data(),
    };
    let announce =
        |config: &Config, addresses: &_| banner::print(config.profile, &config.data_folder, addresses);
    host::run("parlor", process, units::start, announce)
}
