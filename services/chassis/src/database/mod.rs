//! One database per service: a SQLite file, or a schema of its own in PostgreSQL.
//!
//! [`Database::open`] does what a start needs: it finds or makes the database, refuses one that does not keep what it
//! acknowledges, and brings the tables up to date. A service's store is written once and compiled for both: its
//! `postgres.rs` and `sqlite.rs` each say `use chassis::database::postgres::*;` (or `sqlite`) and include the same
//! `store.rs`.
//!
//! What an operation may rely on, with either:
//! - [`sqlite::Pool::begin`] / [`postgres::Pool::begin`] starts a change. On SQLite there is one writer: the whole
//!   transaction runs alone. On PostgreSQL lock what you read to decide, with `FOR_UPDATE`.
//! - A commit that returned is on disk. One that failed may or may not have happened: that is why requests carry ids.
//! - Nothing waits for ever: a connection 5 s, a lock 2 s, a statement 5 s; then [`is_transient`] is true.

mod audited;
pub mod facts;
pub mod postgres;
pub mod sqlite;
pub mod testing;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use sqlx::migrate::{Migration, Migrator};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgSslMode};
use sqlx::sqlite::SqliteError;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::is_loopback;
use crate::profile::Profile;
use crate::tasks::Shutdown;

/// The write that shows that a database takes writes.
const CHECK_WRITE: &str = "INSERT INTO readiness (id, checks) VALUES (1, 1)
    ON CONFLICT (id) DO UPDATE SET checks = readiness.checks + 1";

/// Names the history of facts of a database that has no name for it yet.
const DRAW_EPOCH: &str = "INSERT INTO outbox_history (id, epoch) VALUES (1, $1) ON CONFLICT (id) DO NOTHING";

/// How long an operation waits for a connection of the pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long [`Database::close`] waits for the work that still has a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval at which commits are moved from the write-ahead log of SQLite into its file.
const FOLDING: Duration = Duration::from_secs(1);
/// A connection that was idle for longer is tried before it is handed out.
const FRESH: Duration = Duration::from_secs(1);

/// Where a service keeps its data.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `sqlite://<path>` for a file, which is made when it is missing, or `postgres://user:password@host:port/database`,
    /// where the service uses the schema `parlor_<service>`. `{service}` in it stands for the service's name.
    #[serde(serialize_with = "without_password")]
    pub url: String,
    /// A file that holds the URL, readable by its owner only; used instead of `url`. For a URL with a password.
    pub url_file: Option<PathBuf>,
    /// PostgreSQL: the most connections of this process, at least 2. SQLite has one writer and four readers whatever this says.
    pub max_connections: u32,
    /// Start although acknowledged data may be lost in a crash. PostgreSQL: settings that do not flush each commit are
    /// accepted. SQLite: commits are flushed at checkpoints only. For measurements; never for data somebody wants back.
    pub accept_data_loss: bool,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            url: "sqlite://data/{service}.db".to_owned(),
            url_file: None,
            max_connections: 10,
            accept_data_loss: false,
        }
    }
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseConfig")
            .field("url", &masked(&self.url))
            .field("url_file", &self.url_file)
            .field("max_connections", &self.max_connections)
            .field("accept_data_loss", &self.accept_data_loss)
            .finish()
    }
}

impl DatabaseConfig {
    /// Refuses a server that the profile does not allow: in production one that is not on this machine takes TLS, with the
    /// server's certificate verified, and credentials.
    ///
    /// # Errors
    /// Names what is missing of the URL.
    pub fn check(&self, profile: Profile) -> anyhow::Result<()> {
        // The service's name stands in the path or in the name of the database.
        let url = self.resolve("service")?;
        if profile.is_development() || url.starts_with("sqlite:") {
            return Ok(());
        }
        let setting = if self.url_file.is_some() { "database.url_file" } else { "database.url" };
        // The error is not repeated: it may quote the password.
        let options =
            PgConnectOptions::from_str(&url).map_err(|_| anyhow!("{setting} holds no database URL"))?;
        let host = options.get_host();
        let is_local = options.get_socket().is_some() || host.starts_with('/') || is_loopback(host);
        if is_local {
            return Ok(());
        }
        ensure!(
            matches!(options.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull),
            "{setting}: {host} is not on this machine, and production speaks to others with TLS only: add \
             sslmode=verify-full to the URL, and sslrootcert=FILE unless an authority of the system vouches for it"
        );
        ensure!(
            masked(&url) != url || url.contains("sslcert="),
            "{setting}: {host} is not on this machine, and production takes credentials for it: add a password to the \
             URL, or sslcert=FILE and sslkey=FILE"
        );
        Ok(())
    }

    /// The file of a service's database; `None` when it is in a server.
    pub(crate) fn sqlite_file(&self, service: &str) -> anyhow::Result<Option<PathBuf>> {
        let url = self.resolve(service)?;
        let path = url.strip_prefix("sqlite:");
        Ok(path.map(|path| PathBuf::from(path.strip_prefix("//").unwrap_or(path))))
    }

    fn resolve(&self, service: &str) -> anyhow::Result<String> {
        let url = match &self.url_file {
            None => self.url.clone(),
            Some(path) => {
                read_secret(path).with_context(|| format!("database.url_file {}", path.display()))?
            }
        };
        Ok(url.replace("{service}", service))
    }
}

fn without_password<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&masked(url))
}

/// The URL with `***` for the password. A password may hold an `@` that nobody escaped: the last one ends it.
fn masked(url: &str) -> String {
    let secret = url.split_once("://").and_then(|(scheme, rest)| {
        let (login, place) = rest.rsplit_once('@')?;
        let (user, _password) = login.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{place}"))
    });
    let url = secret.unwrap_or_else(|| url.to_owned());
    match url.split_once("password=") {
        Some((before, after)) => {
            let rest = after.find('&').map_or("", |end| &after[end..]);
            format!("{before}password=***{rest}")
        }
        None => url,
    }
}

fn read_secret(path: &Path) -> anyhow::Result<String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path)?.permissions().mode() & 0o777;
        ensure!(
            mode & 0o077 == 0,
            "has mode {mode:04o}: others may read the password in it; make it 0600 or 0400"
        );
    }
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}

/// The open connections of a process to a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Those at work.
    pub used: u32,
    /// Those at rest.
    pub idle: u32,
}

impl Connections {
    fn of<D: sqlx::Database>(pool: &sqlx::Pool<D>) -> Self {
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        Self { used: pool.size().saturating_sub(idle), idle }
    }
}

/// The database of one service. Clones share its connections.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file beside the program.
    Sqlite(sqlite::Pool),
    /// A schema in a server.
    Postgres(postgres::Pool),
}

/// Which of the two it is, where that makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Sqlite,
    Postgres,
}

/// Whether a commit that returned survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    Full,
    Relaxed,
}

impl Database {
    /// Opens the database of a service, made when it is missing, and brings its tables up to date.
    ///
    /// A PostgreSQL server that does not answer is tried again for 30 seconds, because databases start slowly. Several
    /// processes may open the same one at once: one of them migrates, the others wait.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached, is in use by another process (SQLite), does not keep what it acknowledges
    /// and `accept_data_loss` is not set, or when a migration fails.
    pub async fn open(
        config: &DatabaseConfig,
        service: &str,
        migrator: &'static Migrator,
    ) -> anyhow::Result<Self> {
        let plain = !service.is_empty() && service.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        ensure!(plain, "a service name has small letters and _ only, and {service:?} does not");
        let started = Instant::now();
        let url = config.resolve(service)?;
        if config.accept_data_loss {
            warn!(
                service,
                "database.accept_data_loss is set: what {service} acknowledges may be lost when the machine stops"
            );
        }
        let database = if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            Self::Sqlite(sqlite::Pool::open(path, config, service, migrator).await?)
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Self::Postgres(postgres::Pool::open(&url, config, service, migrator).await?)
        } else {
            bail!(
                "database.url of {service} must start with sqlite:// or postgres://, and {:?} does not",
                masked(&url)
            );
        };
        info!(
            service,
            database = database.kind(),
            durability = database.durability(),
            elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "opened the database of {service}: {}",
            masked(&url),
        );
        Ok(database)
    }

    /// Opens the database of a service as it is, to look at it or to repair it: nothing is made or migrated, and a file is not
    /// locked against other processes.
    ///
    /// # Errors
    /// Fails when there is none, or it cannot be reached.
    pub(crate) async fn attach(config: &DatabaseConfig, service: &str) -> anyhow::Result<Self> {
        match config.sqlite_file(service)? {
            Some(path) => Self::attach_file(&path),
            None => Ok(Self::Postgres(postgres::Pool::attach(&config.resolve(service)?, service).await?)),
        }
    }

    /// Keeps other processes from opening the database of a service until the result is dropped. `None` when it is in a
    /// server, which many processes use at once.
    ///
    /// # Errors
    /// Fails when a process has it open.
    pub(crate) fn reserve(config: &DatabaseConfig, service: &str) -> anyhow::Result<Option<std::fs::File>> {
        let path = config.sqlite_file(service)?;
        path.map(|path| sqlite::Pool::reserve(&path)).transpose()
    }

    /// Opens a file of SQLite as it is.
    pub(crate) fn attach_file(path: &Path) -> anyhow::Result<Self> {
        Ok(Self::Sqlite(sqlite::Pool::attach(path)?))
    }

    /// `sqlite` or `postgres`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    /// `full` when a commit that returned survives a power cut, `relaxed` when the operator accepted that it may not.
    pub fn durability(&self) -> &'static str {
        let durability = match self {
            Self::Sqlite(pool) => pool.durability,
            Self::Postgres(pool) => pool.durability,
        };
        match durability {
            Durability::Full => "full",
            Durability::Relaxed => "relaxed",
        }
    }

    /// Whether the database answers and is still as durable as it was at the start, in a few seconds at most.
    ///
    /// # Errors
    ///
    /// Says what is wrong, for `/readyz` and the log.
    pub async fn ping(&self) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(pool) => pool.ping().await,
            Self::Postgres(pool) => pool.ping().await,
        }
    }

    /// Keeps the write-ahead log of SQLite short while the service runs. PostgreSQL sees to its own.
    pub(crate) async fn fold_log(self, shutdown: Shutdown) {
        let Self::Sqlite(pool) = self else { return };
        let mut ticks = tokio::time::interval(FOLDING);
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                _ = ticks.tick() => {}
            }
            match pool.fold_log().await {
                Ok(()) => {}
                Err(sqlx::Error::PoolClosed) => return,
                Err(error) => warn!(%error, "the write-ahead log was not folded, it will be tried again"),
            }
        }
    }

    /// The connections of this process that are open at this moment.
    pub fn connections(&self) -> Connections {
        match self {
            Self::Sqlite(pool) => pool.connections(),
            Self::Postgres(pool) => pool.connections(),
        }
    }

    /// The bytes that the data takes on disk, indexes included.
    pub async fn bytes(&self) -> anyhow::Result<i64> {
        match self {
            Self::Sqlite(pool) => pool.bytes().await,
            Self::Postgres(pool) => pool.bytes().await,
        }
    }

    /// Waits for the work in progress, at most 5 seconds, and lets go of the database. Later operations fail.
    pub async fn close(&self) {
        let closing = async {
            match self {
                Self::Sqlite(pool) => pool.close().await,
                Self::Postgres(pool) => pool.close().await,
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            warn!(
                "the database was still in use {CLOSE_TIMEOUT:?} after it was to be closed: the rest is cut off"
            );
        }
    }
}

/// The chassis's own tables ([`sqlite::outbox`]) have their own record of migrations, beside the service's.
fn own_migrations() -> Migrator {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.dangerous_set_table_name("_chassis_migrations");
    migrator.set_ignore_missing(true).set_locking(false);
    migrator
}

/// The service's migrations. Newer ones than this program knows are left alone: every migration works with the code
/// before it, and a replica of the last release must still start after the first of the next one has migrated.
/// Without the lock of sqlx, which belongs to the connection and outlives a failure: we bring our own.
///
/// One folder and one series of numbers serve both databases. Where SQL cannot be written once, there are two files with
/// the same number, `0008_search.sqlite.sql` and `0008_search.postgres.sql`, and each database gets its own. Each says
/// why they differ.
fn service_migrations(migrator: &Migrator, database: Dialect) -> Migrator {
    let ours = |migration: &&Migration| match migration.description.rsplit_once('.') {
        Some((_, "sqlite")) => database == Dialect::Sqlite,
        Some((_, "postgres")) => database == Dialect::Postgres,
        _ => true,
    };
    let mut migrator = Migrator::with_migrations(migrator.iter().filter(ours).cloned().collect());
    migrator.set_ignore_missing(true).set_locking(false);
    migrator
}

/// A random name for a history of facts.
#[expect(clippy::disallowed_methods, reason = "the name is no id of anything and has no time in it")]
fn draw_epoch() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Says every five seconds that `work` is still going on.
async fn with_progress<T>(what: &str, work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(Duration::from_secs(5), &mut work).await {
            Ok(done) => return done,
            Err(_) => info!("{what}: {} s by now", started.elapsed().as_secs()),
        }
    }
}

/// Refuses, unless the operator accepts the loss, with everything that is wrong at once.
fn judge(faults: &[String], config: &DatabaseConfig) -> anyhow::Result<Durability> {
    if config.accept_data_loss {
        return Ok(Durability::Relaxed);
    }
    ensure!(
        faults.is_empty(),
        "the database would lose acknowledged data in a crash: {}. Change that, or set database.accept_data_loss = true \
         where losing data is fine",
        faults.join("; ")
    );
    Ok(Durability::Full)
}

/// Whether a unique constraint or a primary key refused the row.
pub fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.is_unique_violation())
}

/// Which unique constraint refused the row. PostgreSQL: its name (`users_username_key`). SQLite, which does not know
/// names: the columns (`users.username` or `members.conversation_id, members.user_id`), or the name of an index over
/// an expression. [`violates`] asks for both.
pub fn unique_constraint(error: &sqlx::Error) -> Option<String> {
    let error = error.as_database_error().filter(|error| error.is_unique_violation())?;
    if let Some(name) = error.constraint() {
        return Some(name.to_owned());
    }
    let (_, what) = error.message().split_once("constraint failed: ")?;
    let index = what.strip_prefix("index '").and_then(|name| name.strip_suffix('\''));
    Some(index.unwrap_or(what).to_owned())
}

/// Whether it was this unique constraint that refused the row: its name in PostgreSQL, its columns in SQLite as
/// [`unique_constraint`] writes them.
pub fn violates(error: &sqlx::Error, name: &str, columns: &str) -> bool {
    unique_constraint(error).is_some_and(|found| found == name || found == columns)
}

/// Whether the same operation may work when it is tried again soon: the database is away, starting, full or too busy,
/// or two changes were in each other's way. Services answer UNAVAILABLE. It does not say that nothing was changed.
pub fn is_transient(error: &sqlx::Error) -> bool {
    use sqlx::Error;
    let error = match error {
        Error::PoolTimedOut | Error::PoolClosed | Error::WorkerCrashed | Error::Io(_) => return true,
        Error::Database(error) => error,
        _ => return false,
    };
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        return matches!(error.code().get(..2), Some("08" | "53"))
            || matches!(
                error.code(),
                "40001" | "40P01" | "55P03"     // serialization failure, deadlock, lock timeout
                | "57014" | "25P03"             // statement timeout, idle in transaction for too long
                | "57P01" | "57P02" | "57P03" | "57P05" // stopping, crashed, starting, idle for too long
                | "25006" | "58030" // read-only after a failover, disk trouble
            );
    }
    if let Some(error) = error.try_downcast_ref::<SqliteError>() {
        // https://www.sqlite.org/rescode.html: BUSY, LOCKED, IOERR, FULL, CANTOPEN; the low byte of the extended code.
        let code = sqlx::error::DatabaseError::code(error).and_then(|code| code.parse::<i32>().ok());
        return matches!(code.map(|code| code & 0xff), Some(5 | 6 | 10 | 13 | 14));
    }
    false
}

/// Whether the database refuses the data itself: a value that does not fit, or one that breaks a constraint. The same will
/// be refused however often it is tried, and other data will not.
pub fn is_refusal_of_data(error: &sqlx::Error) -> bool {
    use sqlx::Error;
    let error = match error {
        Error::Encode(_) | Error::Decode(_) | Error::ColumnDecode { .. } => return true,
        Error::Database(error) => error,
        _ => return false,
    };
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        // Data exceptions and violated constraints.
        return matches!(error.code().get(..2), Some("22" | "23"));
    }
    if let Some(error) = error.try_downcast_ref::<SqliteError>() {
        // TOOBIG, CONSTRAINT, MISMATCH, RANGE.
        let code = sqlx::error::DatabaseError::code(error).and_then(|code| code.parse::<i32>().ok());
        return matches!(code.map(|code| code & 0xff), Some(18 | 19 | 20 | 25));
    }
    false
}

#[cfg(test)]
mod tests {
    use sqlx::SqlStr;
    use sqlx::migrate::MigrationType;

    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let shown = [
            (
                "postgres://ann:secret@db:5432/chat?sslmode=require",
                "postgres://ann:***@db:5432/chat?sslmode=require",
            ),
            ("postgres://ann:sec@ret@db/chat", "postgres://ann:***@db/chat"),
            ("postgres://ann@db/chat?password=secret&host=x", "postgres://ann@db/chat?password=***&host=x"),
            ("postgres://ann@db/chat", "postgres://ann@db/chat"),
            ("sqlite://data/{service}.db", "sqlite://data/{service}.db"),
        ];
        for (url, expected) in shown {
            let config = DatabaseConfig { url: url.to_owned(), ..DatabaseConfig::default() };
            assert_eq!(serde_json::to_value(&config).unwrap()["url"], expected);
            assert!(format!("{config:?}").contains(expected) && !format!("{config:?}").contains("ret"));
        }
    }

    #[test]
    fn production_takes_tls_and_credentials_for_a_database_elsewhere() {
        let refused = |url: &str, profile| {
            let config = DatabaseConfig { url: url.to_owned(), ..DatabaseConfig::default() };
            config.check(profile).err().map(|error| error.to_string()).unwrap_or_default()
        };
        let far = "postgres://parlor:secret@db.example/parlor";
        for (url, missing) in [
            (far.to_owned(), "sslmode=verify-full"),
            (format!("{far}?sslmode=prefer"), "sslmode=verify-full"),
            (format!("{far}?sslmode=require"), "sslmode=verify-full"),
            ("postgres://parlor:secret@localhost/parlor?host=db.example".to_owned(), "sslmode=verify-full"),
            ("postgres://parlor@db.example/parlor?sslmode=verify-full".to_owned(), "credentials"),
            ("postgres://parlor:secret@db.example:port/parlor".to_owned(), "no database URL"),
        ] {
            let said = refused(&url, Profile::Production);
            assert!(said.starts_with("database.url") && said.contains(missing), "{url}: {said}");
            assert!(!said.contains("secret"), "{said}");
            assert_eq!(refused(&url, Profile::Development), "", "{url}");
        }
        for url in [
            format!("{far}?sslmode=verify-full"),
            format!("{far}?sslmode=verify-ca&sslrootcert=/authority.pem"),
            "postgres://parlor@db.example/parlor?sslmode=verify-full&sslcert=/a.pem&sslkey=/a.key".to_owned(),
            "postgres://parlor@localhost/parlor".to_owned(),
            "postgres://parlor@127.0.0.1:5432/parlor".to_owned(),
            "postgres://parlor@[::1]/parlor".to_owned(),
            "postgres:///parlor?host=/var/run/postgresql".to_owned(),
            "sqlite://data/auth.db".to_owned(),
        ] {
            assert_eq!(refused(&url, Profile::Production), "", "{url}");
        }
    }

    #[test]
    fn a_migration_for_one_database_is_not_run_on_the_other() {
        let migration = |version, name: &'static str| {
            let (kind, text) = (MigrationType::Simple, SqlStr::from_static("SELECT 1"));
            Migration::new(version, name.into(), kind, text, false)
        };
        let migrator = Migrator::with_migrations(vec![
            migration(1, "things"),
            migration(2, "search.sqlite"),
            migration(2, "search.postgres"),
            migration(3, "more.things"),
        ]);
        let names = |database| {
            let chosen = service_migrations(&migrator, database);
            chosen.iter().map(|one| one.description.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(Dialect::Sqlite), ["things", "search.sqlite", "more.things"]);
        assert_eq!(names(Dialect::Postgres), ["things", "search.postgres", "more.things"]);
    }

    #[test]
    fn config_has_defaults_and_refuses_what_it_does_not_know() {
        let read = |text: &str| serde_json::from_str::<DatabaseConfig>(text);
        let config = read("{}").unwrap();
        assert_eq!(config.resolve("auth").unwrap(), "sqlite://data/auth.db");
        assert!(!config.accept_data_loss);
        assert!(read(r#"{"acept_data_loss": true}"#).is_err());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_url_from_a_file_must_be_ours_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (database, scratch) = testing::sqlite(testing::no_migrations(), "auth").await;
        database.close().await;
        let file = scratch.folder().unwrap().join("url");
        std::fs::write(&file, "postgres://{service}:secret@db/chat\n").unwrap();
        let config = DatabaseConfig { url_file: Some(file.clone()), ..DatabaseConfig::default() };
        for (mode, accepted) in [(0o644, false), (0o640, false), (0o600, true), (0o400, true)] {
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(config.resolve("auth").is_ok(), accepted, "{mode:o}");
        }
        assert_eq!(config.resolve("auth").unwrap(), "postgres://auth:secret@db/chat");
        let missing = DatabaseConfig { url_file: Some("/nowhere".into()), ..DatabaseConfig::default() };
        assert!(format!("{:#}", missing.resolve("auth").unwrap_err()).contains("database.url_file /nowhere"));
    }
}
