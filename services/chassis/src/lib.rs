//! What every service runs on: configuration, logs and metrics, identity, transport, events, storage, start and stop.
//!
//! The chassis knows the runtime and nothing about chat. A service builds on it like this:
//!
//! ```text
//! main.rs      fn main() -> ExitCode { chassis::host::main("messaging", messaging::launch) }
//! lib.rs       start(config, deps) -> Unit        what it serves, and the tasks it runs
//! ```
//!
//! [`host`] starts one [`unit::Unit`] (a service on its own) or several (`standalone`), and stops them again.

pub mod admin;
pub mod audit;
pub mod backup;
pub mod caller;
pub mod clock;
pub mod config;
pub mod database;
pub mod events;
pub mod export;
pub mod facts;
pub mod fault;
pub mod feed;
pub mod follow;
mod frame;
pub mod host;
pub mod identity;
pub mod middleware;
pub mod newest;
pub mod page;
pub mod profile;
pub mod rates;
pub mod tasks;
pub mod telemetry;
pub mod text;
pub mod time_zone;
pub mod trace;
pub mod transport;
pub mod unit;
