//! What the machine's disk and databases can do without Parlor: commits that are on the disk when they return.

use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, PgConnection, SqliteConnection};
use tests::storage::Cluster;
use tokio::task::JoinSet;

use crate::report::Report;

/// As many bytes as a message with what belongs to it.
const ROW: [u8; 200] = [b'm'; 200];

/// How many rows a batch has.
const BATCH: usize = 64;

/// How many connections commit at a time.
const CONNECTIONS: usize = 16;

/// Measures both databases, PostgreSQL when there is one.
pub(crate) async fn measure(
    cluster: Option<&Cluster>,
    span: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    sync(span / 2, report)?;
    let folder = tempfile::tempdir()?;
    let options =
        SqliteConnectOptions::from_str(&format!("sqlite://{}", folder.path().join("limit.db").display()))?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
    let mut sqlite = SqliteConnection::connect_with(&options).await?;
    sqlx::query("CREATE TABLE rows (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        .execute(&mut sqlite)
        .await?;
    for (name, batch) in [("SQLite single commits", 1), ("SQLite rows in batches of 64", BATCH)] {
        let (began, mut rows) = (Instant::now(), 0);
        // One statement, as whoever gathers them would write it.
        let insert = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2) \
                      INSERT INTO rows (body) SELECT $1 FROM n";
        while began.elapsed() < span {
            sqlx::query(insert).bind(&ROW[..]).bind(batch as i32).execute(&mut sqlite).await?;
            rows += batch;
        }
        report.limit(name, rows as f64 / began.elapsed().as_secs_f64(), "rows/s");
    }
    let Some(cluster) = cluster else { return Ok(()) };
    let url = cluster.postgres.database().await?;
    let mut first = PgConnection::connect(&url).await?;
    sqlx::query("CREATE TABLE rows (id BIGSERIAL PRIMARY KEY, body BYTEA NOT NULL)")
        .execute(&mut first)
        .await?;
    for (name, batch) in [("PostgreSQL single commits", 1), ("PostgreSQL rows in batches of 64", BATCH)] {
        let (began, mut work) = (Instant::now(), JoinSet::new());
        for _ in 0..CONNECTIONS {
            let url = url.clone();
            work.spawn(async move {
                let mut connection = PgConnection::connect(&url).await?;
                let (until, mut rows) = (Instant::now() + span, 0);
                while Instant::now() < until {
                    let insert = "INSERT INTO rows (body) SELECT $1::bytea FROM generate_series(1, $2)";
                    sqlx::query(insert).bind(&ROW[..]).bind(batch as i32).execute(&mut connection).await?;
                    rows += batch;
                }
                anyhow::Ok(rows)
            });
        }
        let mut rows = 0;
        while let Some(ended) = work.join_next().await {
            rows += ended??;
        }
        report.limit(name, rows as f64 / began.elapsed().as_secs_f64(), "rows/s");
    }
    Ok(())
}

/// How often 8 kB can be written and synchronised.
fn sync(span: Duration, report: &mut Report) -> anyhow::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    let mut file = tempfile::tempfile()?;
    let (began, mut count) = (Instant::now(), 0_u64);
    while began.elapsed() < span {
        file.seek(SeekFrom::Start(count % 1024 * 8192))?;
        file.write_all(&[0; 8192])?;
        file.sync_data()?;
        count += 1;
    }
    report.limit("synchronised writes of 8 kB", count as f64 / began.elapsed().as_secs_f64(), "writes/s");
    Ok(())
}
