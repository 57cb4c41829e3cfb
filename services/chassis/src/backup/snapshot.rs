//! A copy of one SQLite database, as it is at one moment, beside a process that writes into it.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use super::{files, say};

/// The interval at which the operator is told how far the copy has come.
const PROGRESS: Duration = Duration::from_secs(2);

/// Copies the database in `from` to the new file `to`, and checks the copy.
pub(super) async fn copy(what: &str, from: &Path, to: &Path) -> anyhow::Result<()> {
    ensure!(from.is_file(), "there is no database {}", from.display());
    files::create(to).with_context(|| format!("cannot make {}", to.display()))?;
    let mut source = open(from).await?;
    let bytes: i64 =
        sqlx::query_scalar("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
            .fetch_one(&mut source)
            .await
            .with_context(|| format!("cannot read {}", from.display()))?;
    let target = to.to_str().with_context(|| format!("{} is not written in UTF-8", to.display()))?;
    let copied =
        with_progress(what, bytes, to, sqlx::query("VACUUM INTO $1").bind(target).execute(&mut source)).await;
    source.close().await.ok();
    copied.with_context(|| format!("cannot copy {}", from.display()))?;
    let flush = || File::open(to)?.sync_all();
    flush().with_context(|| format!("cannot flush {}", to.display()))?;

    let mut copy = open(to).await?;
    let said: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut copy).await?;
    copy.close().await.ok();
    ensure!(said == "ok", "{} is damaged: {said}", from.display());
    say(format_args!("copied {what}: {} MiB", mebibytes(u64::try_from(bytes).unwrap_or(0))))
}

async fn open(path: &Path) -> anyhow::Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(Duration::from_secs(5))
        .pragma("temp_store", "MEMORY");
    options.connect().await.with_context(|| format!("cannot open {}", path.display()))
}

/// Says every two seconds how far the copy has come.
async fn with_progress<T>(what: &str, bytes: i64, to: &Path, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(PROGRESS, &mut work).await {
            Ok(done) => return done,
            Err(_) => {
                let copied = std::fs::metadata(to).map_or(0, |file| file.len());
                let all = mebibytes(u64::try_from(bytes).unwrap_or(0));
                // The copy goes on where nothing can be said.
                say(format_args!("copying {what}: {} of {all} MiB", mebibytes(copied))).ok();
            }
        }
    }
}

fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
