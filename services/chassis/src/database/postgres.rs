//! PostgreSQL: a schema of its own for each service, shared by the replicas of that service and by nobody else.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgExecutor};
use tokio::time::Instant;
use tracing::warn;

use super::{
    ACQUIRE_TIMEOUT, CHECK_WRITE, Connections, DRAW_EPOCH, DatabaseConfig, Dialect, Durability, FRESH,
};

/// The database that this text of SQL is compiled for.
pub type Db = sqlx::Postgres;
/// A row of it.
pub type Row = sqlx::postgres::PgRow;
/// A change in progress; undone when it is dropped before `commit`.
pub type Tx = sqlx::Transaction<'static, Db>;

/// Appended to a SELECT that reads in order to decide: the rows stay as they are until the transaction ends.
pub const FOR_UPDATE: &str = " FOR UPDATE";
/// Appended to a SELECT that claims work: rows that another replica is claiming are passed over.
pub const SKIP_LOCKED: &str = " FOR UPDATE SKIP LOCKED";

/// The oldest major version that the SQL is tested with.
const OLDEST: i32 = 15;
/// How long a start waits for a server that does not answer yet.
const PATIENCE: Duration = Duration::from_secs(30);
/// "parlor" in bytes: who migrates holds this advisory lock of the database.
const MIGRATION_LOCK: i64 = 0x7061_726c_6f72;

/// The connections to the server. Clones share them.
#[derive(Clone, Debug)]
pub struct Pool {
    pool: sqlx::Pool<Db>,
    pub(super) durability: Durability,
}

impl Pool {
    /// For single reads. They see everything committed before. Changes go through [`Pool::begin`] only: SQLite, which
    /// the same code is compiled for, refuses them here.
    pub fn read(&self) -> &sqlx::Pool<Db> {
        &self.pool
    }

    /// Starts a change (READ COMMITTED: lock what you read to decide, with [`FOR_UPDATE`]).
    ///
    /// # Errors
    ///
    /// A transient one when no connection is free within 5 seconds.
    pub async fn begin(&self) -> sqlx::Result<Tx> {
        self.pool.begin().await
    }

    pub(super) async fn open(
        url: &str,
        config: &DatabaseConfig,
        service: &str,
        migrator: &'static Migrator,
    ) -> anyhow::Result<Self> {
        let schema = format!("parlor_{service}");
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| anyhow!("database.url of {service} is malformed: {error}"))?
            .application_name(&format!("parlor-{service}"))
            .options([("search_path", schema.as_str())]);

        // Migrations have their own connection. They may take their time, but must not make everybody wait behind them
        // for a lock that they do not get.
        let patient = options.clone().options([("statement_timeout", "0"), ("lock_timeout", "10s")]);
        let mut connection = connect(&patient, service, PATIENCE).await?;
        let place = place(&options);
        let durability = inspect(&mut connection, config)
            .await
            .with_context(|| format!("refused the database of {service} at {place}"))?;
        let waiting = format!("waiting for another process to migrate the database of {service}");
        let migrating = format!("migrating the database of {service}");
        super::with_progress(&waiting, lock_migrations(&mut connection)).await?;
        super::with_progress(&migrating, async {
            ensure_schema(&mut connection, &schema).await?;
            // `run` over a borrowed connection makes a future that is not `Send`; this is what it calls.
            super::own_migrations().run_direct(None, &mut connection, false).await?;
            sqlx::query(DRAW_EPOCH).bind(super::draw_epoch()).execute(&mut connection).await?;
            super::service_migrations(migrator, Dialect::Postgres)
                .run_direct(None, &mut connection, false)
                .await?;
            anyhow::Ok(())
        })
        .await
        .with_context(|| format!("cannot migrate the database of {service} at {place}"))?;
        connection.close().await.ok();

        let brisk = options.options([
            ("statement_timeout", "5s"),
            ("lock_timeout", "2s"),
            ("idle_in_transaction_session_timeout", "10s"),
            // Queries here take milliseconds; to compile one that looks dear to the planner takes up to a second, each time.
            ("jit", "off"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections.max(2))
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // A round trip for each operation is too much; one after a pause finds the connections that a restart cut.
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > FRESH {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_with(brisk)
            .await
            .with_context(|| format!("cannot connect to the database of {service} at {place}"))?;
        Ok(Self { pool, durability })
    }

    /// Connects to the tables as they are: nothing is migrated.
    pub(super) async fn attach(url: &str, service: &str) -> anyhow::Result<Self> {
        let schema = format!("parlor_{service}");
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| anyhow!("database.url of {service} is malformed: {error}"))?
            .options([("search_path", schema.as_str())]);
        let place = place(&options);
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options)
            .await
            .with_context(|| format!("cannot connect to the database of {service} at {place}"))?;
        Ok(Self { pool, durability: Durability::Relaxed })
    }

    pub(super) async fn ping(&self) -> anyhow::Result<()> {
        let settings = Settings::read(&self.pool).await.context("the database does not answer")?;
        sqlx::query(CHECK_WRITE).execute(&self.pool).await.context("the database takes no writes")?;
        if self.durability == Durability::Full {
            let faults = settings.durability_faults();
            ensure!(
                faults.is_empty(),
                "the database would lose acknowledged data in a crash: {}",
                faults.join("; ")
            );
        }
        Ok(())
    }

    pub(super) fn connections(&self) -> Connections {
        Connections::of(&self.pool)
    }

    /// The size of the tables of the service's schema, with their indexes.
    pub(super) async fn bytes(&self) -> anyhow::Result<i64> {
        let query = "SELECT COALESCE(SUM(pg_total_relation_size(class.oid)), 0)::BIGINT
                     FROM pg_class class JOIN pg_namespace namespace ON namespace.oid = class.relnamespace
                     WHERE namespace.nspname = current_schema() AND class.relkind = 'r'";
        sqlx::query_scalar(query).fetch_one(&self.pool).await.context("the size of the schema")
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Connects, and tries again while the server is away or starting. What will not get better by waiting fails at once.
async fn connect(
    options: &PgConnectOptions,
    service: &str,
    patience: Duration,
) -> anyhow::Result<PgConnection> {
    let place = place(options);
    let started = Instant::now();
    let mut attempt = 0_u32;
    loop {
        attempt += 1;
        let (error, hopeless) = match tokio::time::timeout(ACQUIRE_TIMEOUT, options.connect()).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => {
                let hopeless = !super::is_transient(&error);
                (anyhow::Error::from(error), hopeless)
            }
            Err(_) => (anyhow!("no answer within {ACQUIRE_TIMEOUT:?}"), false),
        };
        let waited = started.elapsed();
        if hopeless || waited >= patience {
            return Err(error.context(format!(
                "cannot connect to the database of {service} at {place} (try {attempt}, {} s)",
                waited.as_secs()
            )));
        }
        warn!(
            service,
            attempt, "the database of {service} at {place} does not answer yet, trying again: {error:#}"
        );
        tokio::time::sleep(Duration::from_millis(250 << attempt.min(3))).await;
    }
}

/// Where it is, without the password.
fn place(options: &PgConnectOptions) -> String {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => options.get_host().to_owned(),
    };
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    format!("{host}:{}/{database}", options.get_port())
}

/// What the server says about itself, as it holds for one connection.
#[derive(sqlx::FromRow)]
struct Settings {
    version: i32,
    encoding: String,
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
}

impl Settings {
    async fn read(executor: impl PgExecutor<'_>) -> sqlx::Result<Self> {
        sqlx::query_as(
            "SELECT CAST(current_setting('server_version_num') AS INT) / 10000 AS version,
                    current_setting('server_encoding') AS encoding,
                    current_setting('fsync') AS fsync,
                    current_setting('full_page_writes') AS full_page_writes,
                    current_setting('synchronous_commit') AS synchronous_commit",
        )
        .fetch_one(executor)
        .await
    }

    fn durability_faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, value) in [("fsync", &self.fsync), ("full_page_writes", &self.full_page_writes)] {
            if value != "on" {
                faults.push(format!("{name} is {value}, not on"));
            }
        }
        // remote_apply waits for the replicas as well.
        if !["on", "remote_apply"].contains(&self.synchronous_commit.as_str()) {
            faults.push(format!("synchronous_commit is {}, not on", self.synchronous_commit));
        }
        faults
    }
}

async fn inspect(connection: &mut PgConnection, config: &DatabaseConfig) -> anyhow::Result<Durability> {
    let settings = Settings::read(connection).await?;
    ensure!(
        settings.version >= OLDEST,
        "the server is PostgreSQL {}; {OLDEST} or newer is needed",
        settings.version
    );
    ensure!(
        settings.encoding == "UTF8",
        "the database's encoding is {}, which cannot hold every text; make one with ENCODING 'UTF8'",
        settings.encoding
    );
    super::judge(&settings.durability_faults(), config)
}

/// Two replicas that start at once must not both create and migrate: the second waits, and finds the work done.
/// The lock goes when the connection does.
async fn lock_migrations(connection: &mut PgConnection) -> sqlx::Result<()> {
    // Asked for again and again, since a statement that waits would count as an old transaction to everybody else.
    while !sqlx::query_scalar::<_, bool>("SELECT pg_try_advisory_lock($1)")
        .bind(MIGRATION_LOCK)
        .fetch_one(&mut *connection)
        .await?
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Looks before it creates: a role that may not create schemas can use the one that was made for it.
async fn ensure_schema(connection: &mut PgConnection, schema: &str) -> anyhow::Result<()> {
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)")
        .bind(schema)
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        // The name has letters and _ only: it comes from `Database::open`, which checks that.
        let create = format!("CREATE SCHEMA IF NOT EXISTS {schema}");
        sqlx::query(AssertSqlSafe(create)).execute(connection).await.with_context(|| {
            format!("the schema {schema} is missing and this role may not create it: CREATE SCHEMA {schema} AUTHORIZATION <role>")
        })?;
    }
    Ok(())
}

#[expect(clippy::duplicate_mod, reason = "one text of SQL, compiled once per database")]
#[path = "audit.rs"]
pub(super) mod audit;

#[expect(clippy::duplicate_mod, reason = "one text of SQL, compiled once per database")]
#[path = "outbox.rs"]
pub mod outbox;

#[expect(clippy::duplicate_mod, reason = "one text of SQL, compiled once per database")]
#[path = "feeds.rs"]
pub mod feeds;

#[cfg(test)]
pub(super) mod tests {
    use tokio::task::JoinSet;

    use super::super::testing::{self, Scratch};
    use super::super::{Database, is_transient, is_unique_violation, unique_constraint, violates};
    use super::*;

    /// A database for the tests that are compiled for both.
    pub async fn scratch() -> Option<(Pool, Scratch)> {
        match testing::postgres(testing::no_migrations(), "scratch").await? {
            (Database::Postgres(pool), scratch) => Some((pool, scratch)),
            (Database::Sqlite(_), _) => None,
        }
    }

    async fn open(config: &DatabaseConfig) -> anyhow::Result<Database> {
        Database::open(config, "scratch", testing::no_migrations()).await
    }

    async fn setting(pool: &Pool, name: &str) -> String {
        sqlx::query_scalar("SELECT current_setting($1)").bind(name).fetch_one(pool.read()).await.unwrap()
    }

    #[tokio::test]
    async fn every_connection_is_as_promised() {
        let Some((pool, _scratch)) = scratch().await else { return };
        assert_eq!(setting(&pool, "search_path").await, "parlor_scratch");
        assert_eq!(setting(&pool, "statement_timeout").await, "5s");
        assert_eq!(setting(&pool, "jit").await, "off");
        assert_eq!(setting(&pool, "lock_timeout").await, "2s");
        assert_eq!(setting(&pool, "idle_in_transaction_session_timeout").await, "10s");
        assert_eq!(setting(&pool, "application_name").await, "parlor-scratch");
        assert_eq!(pool.durability, Durability::Full);
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = 'parlor_scratch' ORDER BY 1",
        )
        .fetch_all(pool.read())
        .await
        .unwrap();
        assert_eq!(
            tables,
            [
                "_chassis_migrations",
                "_sqlx_migrations",
                "audit_head",
                "audit_log",
                "facts_aside",
                "feed_cursors",
                "outbox",
                "outbox_head",
                "outbox_history",
                "readiness"
            ]
        );
    }

    #[tokio::test]
    async fn what_would_lose_data_is_refused() {
        let Some((pool, scratch)) = scratch().await else { return };
        let database = Database::Postgres(pool.clone());
        database.ping().await.unwrap();
        let turn_off = format!("ALTER DATABASE {} SET synchronous_commit = off", scratch.name().unwrap());
        sqlx::query(AssertSqlSafe(turn_off)).execute(pool.read()).await.unwrap();

        let error = format!("{:#}", open(&scratch.config()).await.unwrap_err());
        assert!(
            error.contains("synchronous_commit is off, not on") && error.contains("accept_data_loss"),
            "{error}"
        );
        let lax = open(&DatabaseConfig { accept_data_loss: true, ..scratch.config() }).await.unwrap();
        assert_eq!(lax.durability(), "relaxed");
        lax.ping().await.unwrap();

        // Somebody turns it off while we run: not ready any more.
        for _ in 0..10 {
            sqlx::query("SET synchronous_commit = off").execute(pool.read()).await.unwrap();
        }
        let error = database.ping().await.unwrap_err().to_string();
        assert!(error.contains("synchronous_commit is off"), "{error}");
    }

    #[test]
    fn each_setting_counts() {
        let settings = |fsync: &str, pages: &str, commit: &str| Settings {
            version: 15,
            encoding: "UTF8".to_owned(),
            fsync: fsync.to_owned(),
            full_page_writes: pages.to_owned(),
            synchronous_commit: commit.to_owned(),
        };
        assert!(settings("on", "on", "on").durability_faults().is_empty());
        assert!(settings("on", "on", "remote_apply").durability_faults().is_empty());
        assert_eq!(settings("off", "off", "local").durability_faults().len(), 3);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn replicas_and_services_may_start_at_once() {
        let Some(scratch) = testing::empty_postgres().await else { return };
        let mut starts = JoinSet::new();
        for n in 0..8 {
            let config = scratch.config();
            let service = ["first", "second"][n % 2];
            starts.spawn(async move { Database::open(&config, service, testing::no_migrations()).await });
        }
        while let Some(start) = starts.join_next().await {
            let database = start.unwrap().unwrap();
            assert_eq!(database.durability(), "full");
            database.close().await;
        }
    }

    #[tokio::test]
    async fn waiting_does_not_help_against_a_missing_database() {
        let Some(scratch) = testing::empty_postgres().await else { return };
        let started = Instant::now();
        let config = DatabaseConfig { url: scratch.config().url + "_not", ..scratch.config() };
        let error = format!("{:#}", open(&config).await.unwrap_err());
        assert!(error.contains("does not exist") && error.contains(scratch.name().unwrap()), "{error}");
        assert!(started.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_tried_again() {
        // A port that was just free: nothing answers there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options =
            PgConnectOptions::from_str(&format!("postgres://ann:secret@127.0.0.1:{port}/chat")).unwrap();
        let error = connect(&options, "scratch", Duration::from_millis(600)).await.unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains(&format!("127.0.0.1:{port}/chat (try 3")) || text.contains("(try 2"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }

    #[tokio::test]
    async fn cut_connections_are_replaced() {
        let Some((pool, _scratch)) = scratch().await else { return };
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let mut tx = pool.begin().await.unwrap();
        sqlx::query(cut).execute(pool.read()).await.unwrap();
        let error = sqlx::query("SELECT 1").execute(&mut *tx).await.unwrap_err();
        assert!(is_transient(&error), "{error}");
        drop(tx);
        tokio::time::sleep(FRESH + Duration::from_millis(100)).await;
        for _ in 0..20 {
            sqlx::query("SELECT 1").execute(pool.read()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_database_that_takes_no_writes_is_not_ready() {
        let Some((pool, _scratch)) = scratch().await else { return };
        pool.ping().await.unwrap();
        // As after a failover, on every connection that the pool may use.
        let set = async |setting: &'static str| {
            let mut connections = Vec::new();
            for _ in 0..pool.read().options().get_max_connections() {
                connections.push(pool.read().acquire().await.unwrap());
            }
            for connection in &mut connections {
                sqlx::query(setting).execute(&mut **connection).await.unwrap();
            }
        };
        set("SET default_transaction_read_only = on").await;
        let refused = format!("{:#}", pool.ping().await.unwrap_err());
        assert!(refused.starts_with("the database takes no writes"), "{refused}");
        set("SET default_transaction_read_only = off").await;
        pool.ping().await.unwrap();
    }

    #[tokio::test]
    async fn refusals_say_what_they_are() {
        let Some((pool, _scratch)) = scratch().await else { return };
        let mut tx = pool.begin().await.unwrap();
        sqlx::query("CREATE TABLE things (a BIGINT PRIMARY KEY, b BIGINT, c TEXT, UNIQUE (b, c))")
            .execute(&mut *tx)
            .await
            .unwrap();
        sqlx::query("INSERT INTO things VALUES (1, 2, 'x')").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();

        let run = async |sql: &'static str| sqlx::query(sql).execute(pool.read()).await.unwrap_err();
        let error = run("INSERT INTO things VALUES (1, 3, 'y')").await;
        assert!(is_unique_violation(&error) && !is_transient(&error));
        assert_eq!(unique_constraint(&error).unwrap(), "things_pkey");
        let error = run("INSERT INTO things VALUES (2, 2, 'x')").await;
        assert!(violates(&error, "things_b_c_key", "things.b, things.c"), "{error}");
        let error = run("SELECT nothing").await;
        assert!(!is_unique_violation(&error) && !is_transient(&error) && unique_constraint(&error).is_none());

        let mut holder = pool.begin().await.unwrap();
        sqlx::query("UPDATE things SET b = 3").execute(&mut *holder).await.unwrap();
        let started = Instant::now();
        let error = run("UPDATE things SET b = 4").await;
        assert!(is_transient(&error) && started.elapsed() < Duration::from_secs(4), "{error}");
        holder.rollback().await.unwrap();
        let error = run("SELECT pg_sleep(10)").await;
        assert!(is_transient(&error) && started.elapsed() < Duration::from_secs(9), "{error}");
        Database::Postgres(pool.clone()).close().await;
        assert!(is_transient(&pool.begin().await.unwrap_err()));
    }
}
