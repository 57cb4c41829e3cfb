//! Test support: a fresh database for each test, gone at its end. Nothing here is for a running service.
//!
//! A contract suite runs on both:
//!
//! ```text
//! #[tokio::test] async fn on_sqlite()   { let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await; suite(database).await }
//! #[tokio::test] async fn on_postgres() {
//!     let Some((database, _scratch)) = testing::postgres(&MIGRATOR, "auth").await else { return };
//!     suite(database).await
//! }
//! ```
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot have its database fails where it stands"
)]

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use super::{Database, DatabaseConfig};

/// Names the server to make databases in, as a superuser: `postgres://postgres@127.0.0.1:5432/postgres`.
pub const POSTGRES: &str = "PARLOR_TEST_POSTGRES";
/// When it is `1`, a test that needs PostgreSQL fails without [`POSTGRES`]; otherwise it is skipped with a word.
pub const REQUIRE_POSTGRES: &str = "PARLOR_TEST_REQUIRE_POSTGRES";

/// Keeps the database of a test. Dropping it removes the database.
#[derive(Debug)]
#[must_use = "the database is removed when this is dropped"]
pub struct Scratch {
    url: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Folder(PathBuf),
    Database { server: Box<PgConnectOptions>, name: String },
}

impl Scratch {
    /// What opens the same database again.
    pub fn config(&self) -> DatabaseConfig {
        DatabaseConfig { url: self.url.clone(), ..DatabaseConfig::default() }
    }

    /// The folder of a SQLite file.
    pub fn folder(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Folder(folder) => Some(folder),
            Kind::Database { .. } => None,
        }
    }

    /// The name of a PostgreSQL database.
    pub fn name(&self) -> Option<&str> {
        match &self.kind {
            Kind::Folder(_) => None,
            Kind::Database { name, .. } => Some(name),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        match &self.kind {
            Kind::Folder(folder) => {
                std::fs::remove_dir_all(folder).ok();
            }
            Kind::Database { server, name } => {
                // Not on the test's runtime, which may be ending. What fails here only leaves a database behind.
                let (server, name) = (server.clone(), name.clone());
                std::thread::spawn(move || drop_database(&server, &name)).join().ok();
            }
        }
    }
}

fn drop_database(server: &PgConnectOptions, name: &str) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let work = async {
        let mut connection = server.connect().await?;
        let sql = AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        sqlx::query(sql).execute(&mut connection).await?;
        connection.close().await
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), work).await.ok() });
}

/// No tables but the chassis's own.
pub fn no_migrations() -> &'static Migrator {
    static NONE: Migrator = Migrator::DEFAULT;
    &NONE
}

/// A SQLite file in a folder of its own.
///
/// # Panics
///
/// When it cannot be made.
pub async fn sqlite(migrator: &'static Migrator, service: &str) -> (Database, Scratch) {
    let folder = std::env::temp_dir().join(unique_name());
    let url = format!("sqlite://{}", folder.join("{service}.db").display());
    let scratch = Scratch { url, kind: Kind::Folder(folder) };
    let database =
        Database::open(&scratch.config(), service, migrator).await.expect("a SQLite file for the test");
    (database, scratch)
}

/// A database in the server that [`POSTGRES`] names; `None`, with a word why, when it names none.
///
/// # Panics
///
/// When it cannot be made, or when [`REQUIRE_POSTGRES`] is set and there is no server.
pub async fn postgres(migrator: &'static Migrator, service: &str) -> Option<(Database, Scratch)> {
    let scratch = empty_postgres().await?;
    let database =
        Database::open(&scratch.config(), service, migrator).await.expect("a PostgreSQL schema for the test");
    Some((database, scratch))
}

/// As [`postgres`], but without a schema yet.
///
/// # Panics
///
/// As [`postgres`].
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub async fn empty_postgres() -> Option<Scratch> {
    let Ok(server) = std::env::var(POSTGRES) else {
        if std::env::var(REQUIRE_POSTGRES).is_ok_and(|value| value == "1") {
            panic!("{REQUIRE_POSTGRES} is set, but {POSTGRES} names no server");
        }
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        eprintln!("SKIPPED on PostgreSQL: {test} ({POSTGRES} names no server; tests/run starts one)");
        return None;
    };
    let options = PgConnectOptions::from_str(&server).unwrap_or_else(|error| panic!("{POSTGRES}: {error}"));
    let name = unique_name();
    let mut connection: PgConnection =
        options.connect().await.unwrap_or_else(|error| panic!("{POSTGRES} {server}: {error}"));
    let create = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'");
    sqlx::query(AssertSqlSafe(create)).execute(&mut connection).await.expect("a database for the test");
    connection.close().await.ok();

    let (before, parameters) = server.split_once('?').map_or((server.as_str(), ""), |(url, p)| (url, p));
    let (place, _database) = before.rsplit_once('/').expect("a URL with a database");
    let separator = if parameters.is_empty() { "" } else { "?" };
    let url = format!("{place}/{name}{separator}{parameters}");
    Some(Scratch { url, kind: Kind::Database { server: Box::new(options), name } })
}

fn unique_name() -> String {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).expect("random bytes");
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("parlor_test_{digits}")
}
