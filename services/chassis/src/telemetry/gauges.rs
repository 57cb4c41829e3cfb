//! Figures that are read when `/metrics` is asked for, and not counted as things happen.

use std::time::Duration;

use metrics::{Unit, describe_gauge, gauge};
use metrics_process::Collector;

use crate::admin::Readiness;
use crate::database::Database;

/// The version of the process, as labels; always 1.
const BUILD_INFO: &str = "build_info";
/// 1 while a check of `/readyz` is well, by check.
const HEALTHY: &str = "check_healthy";
/// Connections to a database, by service and state: `used` or `idle`.
const CONNECTIONS: &str = "database_connections";
/// The size of a database in bytes, by service.
const BYTES: &str = "database_bytes";

/// The time that a database may take to say how large it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// Figures of the process, its databases and the services that it needs.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    databases: Vec<(&'static str, Database)>,
}

impl Gauges {
    /// The figures of a process with these databases, by the name of their service.
    pub fn new(databases: Vec<(&'static str, Database)>) -> Self {
        describe_gauge!(BUILD_INFO, "The version of the process; always 1.");
        describe_gauge!(HEALTHY, "1 while a check of /readyz is well, else 0, by check.");
        describe_gauge!(CONNECTIONS, "Connections to a database, by service and state.");
        describe_gauge!(BYTES, Unit::Bytes, "The size of a database, by service.");
        Collector::default().describe();
        Self { databases }
    }

    /// Reads the figures.
    pub async fn read(&self, readiness: &Readiness) {
        let build = option_env!("PARLOR_BUILD").unwrap_or("unknown");
        gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"), "build" => build).set(1.0);
        Collector::default().collect();
        for (check, is_well) in readiness.checks().await {
            gauge!(HEALTHY, "check" => check).set(if is_well { 1.0 } else { 0.0 });
        }
        for (service, database) in &self.databases {
            let connections = database.connections();
            gauge!(CONNECTIONS, "service" => *service, "state" => "used").set(f64::from(connections.used));
            gauge!(CONNECTIONS, "service" => *service, "state" => "idle").set(f64::from(connections.idle));
            match tokio::time::timeout(PATIENCE, database.bytes()).await {
                // Sizes beyond 2^53 bytes lose their last digits.
                Ok(Ok(bytes)) => gauge!(BYTES, "service" => *service).set(bytes as f64),
                Ok(Err(error)) => tracing::warn!(service, "the size of the database is not known: {error:#}"),
                Err(_) => {
                    tracing::warn!(service, "the size of the database is not known within {PATIENCE:?}")
                }
            }
        }
    }
}
