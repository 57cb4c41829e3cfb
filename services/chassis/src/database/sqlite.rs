//! SQLite: one file, one process, one writer. Reads go on beside it and see the last commit.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use sqlx::Connection;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use tracing::warn;

use super::{ACQUIRE_TIMEOUT, CHECK_WRITE, Connections, DRAW_EPOCH, DatabaseConfig, Dialect, Durability};

/// The database that this text of SQL is compiled for.
pub type Db = sqlx::Sqlite;
/// A row of it.
pub type Row = sqlx::sqlite::SqliteRow;
/// A change in progress; undone when it is dropped before `commit`.
pub type Tx = sqlx::Transaction<'static, Db>;

/// Appended to a SELECT that reads in order to decide. Nothing here: a change on SQLite runs alone.
pub const FOR_UPDATE: &str = "";
/// Appended to a SELECT that claims work. Nothing here: a change on SQLite runs alone.
pub const SKIP_LOCKED: &str = "";

const READERS: u32 = 4;

/// The connections to the file. Clones share them.
#[derive(Clone, Debug)]
pub struct Pool {
    readers: sqlx::Pool<Db>,
    writer: sqlx::Pool<Db>,
    lock: Arc<File>,
    changes: Arc<Changes>,
    pub(super) durability: Durability,
}

/// The number of changes that were begun, and of those that are known to be in the file itself.
#[derive(Debug, Default)]
struct Changes {
    begun: AtomicU64,
    folded: AtomicU64,
}

impl Pool {
    /// For single reads. They see everything committed before, and refuse to write.
    pub fn read(&self) -> &sqlx::Pool<Db> {
        &self.readers
    }

    /// Starts a change: waits for its turn, then nobody else changes anything until it ends. Keep it short.
    ///
    /// # Errors
    ///
    /// A transient one when the turn does not come within 5 seconds.
    pub async fn begin(&self) -> sqlx::Result<Tx> {
        // IMMEDIATE: a transaction that reads first and writes later could otherwise not become a writer any more.
        self.changes.begun.fetch_add(1, Ordering::Relaxed);
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }

    /// Moves what was committed from the write-ahead log into the file, beside readers and the writer, who wait for nothing.
    /// The log then begins at its start again and stays short. Does nothing when nothing was changed since.
    pub(super) async fn fold_log(&self) -> sqlx::Result<()> {
        let begun = self.changes.begun.load(Ordering::Relaxed);
        if self.changes.folded.load(Ordering::Relaxed) == begun {
            return Ok(());
        }
        // A connection that may not write may do this: https://www.sqlite.org/pragma.html#pragma_query_only
        let (_, in_log, moved): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&self.readers).await?;
        if in_log == moved {
            self.changes.folded.store(begun, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(super) async fn open(
        path: &str,
        config: &DatabaseConfig,
        service: &str,
        migrator: &'static Migrator,
    ) -> anyhow::Result<Self> {
        ensure!(
            !path.is_empty() && !path.contains('?') && !path.starts_with(':'),
            "database.url of {service} must be sqlite://<path of a file>, without parameters; \"sqlite://{path}\" is not"
        );
        let path = Path::new(path);
        let lock = prepare(path).with_context(|| format!("cannot use the data file {}", path.display()))?;

        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            // A page of a list comes over from SQLite's thread in one go.
            .row_buffer_size(256)
            .pragma("trusted_schema", "OFF")
            // What was deleted is overwritten, also on pages that become free: nobody finds it in the file.
            .pragma("secure_delete", "ON")
            // Temporary data of a commit stays in memory: the temporary folder of the system is not ours.
            .pragma("temp_store", "MEMORY")
            // The log is folded by a task of its own; a writer does it only when the log grows faster than that, to 32 MiB.
            .pragma("wal_autocheckpoint", "8000")
            .pragma("journal_size_limit", "67108864");
        let writing =
            options.clone().journal_mode(SqliteJournalMode::Wal).synchronous(if config.accept_data_loss {
                SqliteSynchronous::Normal
            } else {
                SqliteSynchronous::Full
            });
        let pool = SqlitePoolOptions::new()
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false);
        let writer = pool
            .clone()
            .max_connections(1)
            .before_acquire(|connection, _| Box::pin(async move { Ok(is_clean(connection)) }))
            .connect_with(writing)
            .await
            .with_context(|| format!("cannot open the data file {}", path.display()))?;

        let faults = durability_faults(&mut *writer.acquire().await?).await?;
        let durability = super::judge(&faults, config)
            .with_context(|| format!("refused the data file {} of {service}", path.display()))?;

        super::with_progress(&format!("migrating the database of {service}"), async {
            super::own_migrations().run(&writer).await?;
            sqlx::query(DRAW_EPOCH).bind(super::draw_epoch()).execute(&writer).await?;
            super::service_migrations(migrator, Dialect::Sqlite).run(&writer).await
        })
        .await
        .with_context(|| format!("cannot migrate the data file {} of {service}", path.display()))?;

        let readers = pool
            .max_connections(READERS)
            .connect_with(options.pragma("query_only", "ON"))
            .await
            .with_context(|| format!("cannot read the data file {}", path.display()))?;
        Ok(Self { readers, writer, lock: Arc::new(lock), changes: Arc::default(), durability })
    }

    /// Opens a file as it is: nothing is migrated, and it is not locked against other processes.
    pub(super) fn attach(path: &Path) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .pragma("temp_store", "MEMORY");
        let pool = SqlitePoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT).max_connections(1);
        let lock =
            File::open(path).with_context(|| format!("cannot open the data file {}", path.display()))?;
        Ok(Self {
            readers: pool.clone().connect_lazy_with(options.clone().pragma("query_only", "ON")),
            writer: pool.connect_lazy_with(options),
            lock: Arc::new(lock),
            changes: Arc::default(),
            durability: Durability::Relaxed,
        })
    }

    /// Keeps other processes from opening the file until the result is dropped.
    ///
    /// # Errors
    /// Fails when a process has it open.
    pub(super) fn reserve(path: &Path) -> anyhow::Result<File> {
        lock(path).with_context(|| format!("cannot use the data file {}", path.display()))
    }

    pub(super) async fn ping(&self) -> anyhow::Result<()> {
        sqlx::query("SELECT 1").execute(&self.readers).await.context("the data file cannot be read")?;
        sqlx::query(CHECK_WRITE).execute(&self.writer).await.context("the data file takes no writes")?;
        Ok(())
    }

    pub(super) fn connections(&self) -> Connections {
        let (readers, writer) = (Connections::of(&self.readers), Connections::of(&self.writer));
        Connections { used: readers.used + writer.used, idle: readers.idle + writer.idle }
    }

    /// The size of the file; that of the write-ahead log is not in it.
    pub(super) async fn bytes(&self) -> anyhow::Result<i64> {
        let query = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
        sqlx::query_scalar(query).fetch_one(&self.readers).await.context("the size of the data file")
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        // The last connection to close moves the write-ahead log into the file.
        self.writer.close().await;
        if let Err(error) = self.lock.unlock() {
            warn!(%error, "cannot unlock the data file; it is unlocked when this process ends");
        }
    }
}

/// SQLite ends a transaction by itself when the disk is full or fails. The driver still counts it as open then, and the
/// connection could never begin another: it is replaced, so that writing goes on as soon as there is room again.
fn is_clean(connection: &SqliteConnection) -> bool {
    let clean = !connection.is_in_transaction();
    if !clean {
        warn!("a failed transaction left the connection unusable: opening another");
    }
    clean
}

/// What the promise rests on, asked of the connection that writes.
async fn durability_faults(connection: &mut SqliteConnection) -> sqlx::Result<Vec<String>> {
    let mut faults = Vec::new();
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection).await?;
    if journal != "wal" {
        faults.push(format!("journal_mode is {journal}, not wal (is the file on a network file system?)"));
    }
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *connection).await?;
    if synchronous != 2 {
        faults.push(format!("synchronous is {synchronous}, not 2 (FULL)"));
    }
    Ok(faults)
}

/// Makes the folder and the file when they are missing, readable by us only, and locks the file against other processes.
fn prepare(path: &Path) -> anyhow::Result<File> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        make_folder(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let lock = lock(path)?;
    let is_new = !path.exists();
    // SQLite gives the files beside it (-wal, -shm) the mode of this one.
    let file = private().open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.metadata()?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            warn!("the data file {} was open to others (mode {mode:04o}): it is 0600 now", path.display());
            file.set_permissions(PermissionsExt::from_mode(0o600))?;
        }
    }
    if is_new {
        file.sync_all()?;
        sync_folder(path)?;
    }
    Ok(lock)
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    if folder.exists() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_folder(parent)?;
    }
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        // The other services of this process start at the same time and make the same folder.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(folder),
    }
}

/// A new name survives a power cut only when the folder that holds it is flushed too.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Two processes on one file would each believe to be the only one. The system drops the lock when the process dies.
fn lock(path: &Path) -> anyhow::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let mut file =
        private().open(&name).with_context(|| format!("cannot open the lock file {}", name.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            file.read_to_string(&mut owner).ok();
            let owner = owner.trim();
            bail!(
                "it is in use by another process ({}). Stop that one first, or give this one its own file in database.url",
                if owner.is_empty() { "unknown".to_owned() } else { format!("number {owner}") }
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", name.display()));
        }
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
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
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::super::testing::{self, Scratch};
    use super::super::{Database, is_transient, is_unique_violation, unique_constraint, violates};
    use super::*;

    /// A database for the tests that are compiled for both.
    pub async fn scratch() -> Option<(Pool, Scratch)> {
        match testing::sqlite(testing::no_migrations(), "scratch").await {
            (Database::Sqlite(pool), scratch) => Some((pool, scratch)),
            (Database::Postgres(_), _) => None,
        }
    }

    async fn with_table() -> (Pool, Scratch) {
        let (pool, scratch) = scratch().await.unwrap();
        let mut tx = pool.begin().await.unwrap();
        sqlx::raw_sql(
            "CREATE TABLE things (a BIGINT PRIMARY KEY, b BIGINT, c TEXT, UNIQUE (b, c));
             CREATE UNIQUE INDEX things_lower ON things (LOWER(c));",
        )
        .execute(&mut *tx)
        .await
        .unwrap();
        tx.commit().await.unwrap();
        (pool, scratch)
    }

    async fn insert(pool: &Pool, a: i64, b: i64, c: &str) -> sqlx::Result<()> {
        let mut tx = pool.begin().await?;
        sqlx::query("INSERT INTO things (a, b, c) VALUES ($1, $2, $3)")
            .bind(a)
            .bind(b)
            .bind(c)
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    }

    #[tokio::test]
    async fn a_log_that_is_folded_stays_short() {
        let (pool, scratch) = with_table().await;
        let path = scratch.config().sqlite_file("scratch").unwrap().unwrap().with_extension("db-wal");
        let log = || std::fs::metadata(&path).unwrap().len();
        let text = "x".repeat(1000);
        let mut sizes = Vec::new();
        for round in 0..2_i64 {
            for n in 0..300 {
                let id = 1000 * round + n;
                insert(&pool, id, id, &format!("{id} {text}")).await.unwrap();
                if round == 0 && n % 10 == 9 {
                    pool.fold_log().await.unwrap();
                }
            }
            sizes.push(log());
        }
        assert!(sizes[0] < 512 * 1024 && sizes[1] > 3 * sizes[0], "{sizes:?}");
        pool.fold_log().await.unwrap();
        assert_eq!(pool.changes.folded.load(Ordering::Relaxed), pool.changes.begun.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn every_connection_is_as_promised() {
        let (pool, _scratch) = with_table().await;
        async fn ask(connection: impl sqlx::SqliteExecutor<'_>, pragma: &'static str) -> i64 {
            sqlx::query_scalar(pragma).fetch_one(connection).await.unwrap()
        }
        for connections in [&pool.readers, &pool.writer] {
            assert_eq!(ask(connections, "PRAGMA foreign_keys").await, 1);
            assert_eq!(ask(connections, "PRAGMA trusted_schema").await, 0);
            assert_eq!(ask(connections, "PRAGMA secure_delete").await, 1);
            assert_eq!(ask(connections, "PRAGMA busy_timeout").await, 5000);
        }
        assert_eq!(ask(&pool.writer, "PRAGMA synchronous").await, 2);
        assert_eq!(pool.durability, Durability::Full);

        insert(&pool, 1, 1, "x").await.unwrap();
        assert_eq!(ask(pool.read(), "SELECT COUNT(*) FROM things").await, 1);
        let error = sqlx::query("DELETE FROM things").execute(pool.read()).await.unwrap_err();
        assert!(error.to_string().contains("readonly"), "{error}");
    }

    #[tokio::test]
    async fn what_would_lose_data_is_refused() {
        let (pool, scratch) = scratch().await.unwrap();
        let mut writer = pool.writer.acquire().await.unwrap();
        assert!(durability_faults(&mut writer).await.unwrap().is_empty());
        sqlx::query("PRAGMA synchronous = NORMAL").execute(&mut *writer).await.unwrap();
        let faults = durability_faults(&mut writer).await.unwrap();
        assert_eq!(faults, ["synchronous is 1, not 2 (FULL)"]);
        let strict = DatabaseConfig::default();
        let error = super::super::judge(&faults, &strict).unwrap_err().to_string();
        assert!(error.contains("synchronous is 1") && error.contains("accept_data_loss"), "{error}");
        drop(writer);
        Database::Sqlite(pool).close().await;

        let lax = DatabaseConfig { accept_data_loss: true, ..scratch.config() };
        let database = Database::open(&lax, "scratch", testing::no_migrations()).await.unwrap();
        assert_eq!(database.durability(), "relaxed");
        database.ping().await.unwrap();
    }

    #[tokio::test]
    async fn a_file_that_takes_no_writes_is_not_ready() {
        let (pool, _scratch) = with_table().await;
        pool.ping().await.unwrap();
        sqlx::query("PRAGMA query_only = ON").execute(&pool.writer).await.unwrap();
        let refused = format!("{:#}", pool.ping().await.unwrap_err());
        assert!(refused.starts_with("the data file takes no writes"), "{refused}");
        sqlx::query("PRAGMA query_only = OFF").execute(&pool.writer).await.unwrap();
        pool.ping().await.unwrap();
    }

    #[tokio::test]
    async fn what_a_commit_sets_aside_stays_in_memory() {
        let (pool, _scratch) = with_table().await;
        for connections in [&pool.readers, &pool.writer] {
            let place: i64 = sqlx::query_scalar("PRAGMA temp_store").fetch_one(connections).await.unwrap();
            assert_eq!(place, 2, "2 is MEMORY");
        }
    }

    #[tokio::test]
    async fn a_journal_that_is_not_wal_is_refused() {
        let options = SqliteConnectOptions::new().in_memory(true).journal_mode(SqliteJournalMode::Wal);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let faults = durability_faults(&mut connection).await.unwrap();
        assert!(faults[0].starts_with("journal_mode is memory, not wal"), "{faults:?}");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nobody_else_can_read_the_files() {
        use std::os::unix::fs::PermissionsExt;
        let (pool, scratch) = with_table().await;
        insert(&pool, 1, 1, "x").await.unwrap();
        let folder = scratch.folder().unwrap();
        let modes = || {
            let mut modes: Vec<_> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap())
                .map(|e| {
                    (e.file_name().into_string().unwrap(), e.metadata().unwrap().permissions().mode() & 0o777)
                })
                .collect();
            modes.sort();
            modes
        };
        let private = ["", "-shm", "-wal", ".lock"].map(|end| (format!("scratch.db{end}"), 0o600));
        assert_eq!(modes(), private);
        let mode = std::fs::metadata(folder).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700);

        // A file that was copied into place by a careless hand is put right.
        Database::Sqlite(pool).close().await;
        let file = folder.join("scratch.db");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let database = Database::open(&scratch.config(), "scratch", testing::no_migrations()).await.unwrap();
        assert_eq!(modes()[0], ("scratch.db".to_owned(), 0o600));
        database.close().await;
    }

    #[tokio::test]
    async fn a_file_is_opened_once_at_a_time() {
        let (pool, scratch) = scratch().await.unwrap();
        let again = || async { Database::open(&scratch.config(), "scratch", testing::no_migrations()).await };
        let error = format!("{:#}", again().await.unwrap_err());
        let owner = format!("in use by another process (number {})", std::process::id());
        assert!(error.contains("scratch.db") && error.contains(&owner), "{error}");
        Database::Sqlite(pool).close().await;
        again().await.unwrap();
    }

    #[tokio::test]
    async fn a_second_process_is_refused_until_the_first_is_dead() {
        let (database, scratch) = testing::sqlite(testing::no_migrations(), "scratch").await;
        database.close().await;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "database::sqlite::tests::holds_the_file", "--ignored", "--nocapture"])
            .env("PARLOR_TEST_HOLD", scratch.config().url)
            .stdout(Stdio::piped())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let holds = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .any(|line| line.unwrap().contains("holding the file"));
        assert!(holds);
        let again = || async { Database::open(&scratch.config(), "scratch", testing::no_migrations()).await };
        let error = format!("{:#}", again().await.unwrap_err());
        assert!(error.contains(&format!("(number {})", child.id())), "{error}");
        child.kill().unwrap();
        child.wait().unwrap();
        again().await.unwrap();
    }

    #[tokio::test]
    #[ignore = "the other process of the test above"]
    async fn holds_the_file() {
        let Ok(url) = std::env::var("PARLOR_TEST_HOLD") else { return };
        let config = DatabaseConfig { url, ..DatabaseConfig::default() };
        let database = Database::open(&config, "scratch", testing::no_migrations()).await.unwrap();
        println!("holding the file");
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        database.close().await;
    }

    #[tokio::test]
    async fn urls_that_are_no_file_are_refused() {
        for url in
            ["sqlite://", "sqlite::memory:", "sqlite://data/x.db?mode=ro", "mysql://here/x", "data/x.db"]
        {
            let config = DatabaseConfig { url: url.to_owned(), ..DatabaseConfig::default() };
            let error = Database::open(&config, "scratch", testing::no_migrations()).await.unwrap_err();
            assert!(error.to_string().contains("database.url of scratch"), "{error:#}");
        }
    }

    #[tokio::test]
    async fn a_full_disk_stops_writing_only_while_it_is_full() {
        let (pool, _scratch) = with_table().await;
        let mut tx = pool.begin().await.unwrap();
        sqlx::query("PRAGMA max_page_count = 1").execute(&mut *tx).await.unwrap();
        let mut full = None;
        for a in 0..10_000 {
            let text = format!("{a} {}", "x".repeat(1000));
            let insert = sqlx::query("INSERT INTO things (a, c) VALUES ($1, $2)").bind(a).bind(text);
            if let Err(error) = insert.execute(&mut *tx).await {
                full = Some(error);
                break;
            }
        }
        let full = full.unwrap();
        assert!(full.to_string().contains("full") && is_transient(&full), "{full}");
        drop(tx);
        insert(&pool, 1, 1, "there is room again").await.unwrap();
        let rows: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM things").fetch_one(pool.read()).await.unwrap();
        assert_eq!(rows, 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_caller_who_goes_away_does_not_keep_the_writer() {
        let (pool, _scratch) = with_table().await;
        for n in 0..300_u64 {
            let work = insert(&pool, i64::try_from(n).unwrap(), 0, "gone");
            tokio::time::timeout(Duration::from_micros(n * 3), work).await.ok();
        }
        insert(&pool, 1000, 1000, "stays").await.unwrap();
    }

    #[tokio::test]
    async fn refusals_say_what_they_are() {
        let (pool, scratch) = with_table().await;
        insert(&pool, 1, 2, "x").await.unwrap();
        let error = insert(&pool, 1, 3, "y").await.unwrap_err();
        assert!(is_unique_violation(&error) && !is_transient(&error));
        assert_eq!(unique_constraint(&error).unwrap(), "things.a");
        let error = insert(&pool, 2, 2, "x").await.unwrap_err();
        assert!(
            violates(&error, "things_b_c_key", "things.b, things.c") || violates(&error, "", "things_lower"),
            "{error}"
        );
        let error = insert(&pool, 2, 3, "X").await.unwrap_err();
        assert_eq!(unique_constraint(&error).unwrap(), "things_lower");
        let error = sqlx::query("SELECT nothing").execute(pool.read()).await.unwrap_err();
        assert!(!is_unique_violation(&error) && !is_transient(&error) && unique_constraint(&error).is_none());

        let mut stuck = pool.writer.acquire().await.unwrap();
        let mut other = SqliteConnection::connect_with(
            &SqliteConnectOptions::new()
                .filename(scratch.folder().unwrap().join("scratch.db"))
                .busy_timeout(Duration::ZERO),
        )
        .await
        .unwrap();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *stuck).await.unwrap();
        let busy = sqlx::query("DELETE FROM things").execute(&mut other).await.unwrap_err();
        assert!(is_transient(&busy), "{busy}");
        sqlx::query("ROLLBACK").execute(&mut *stuck).await.unwrap();
        drop(stuck);
        Database::Sqlite(pool.clone()).close().await;
        assert!(is_transient(&pool.begin().await.unwrap_err()));
    }
}
