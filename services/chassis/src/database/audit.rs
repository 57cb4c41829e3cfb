//! The audit log of a service and its chain. Compiled once per database. See [`crate::audit`].

use sqlx::FromRow;

use super::{Pool, Tx};
use crate::audit::{Entry, Link};

/// Adds an entry.
pub(in crate::database) async fn append(pool: &Pool, entry: &Entry) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    sqlx::query(
        "INSERT INTO audit_log (audit_id, occur_time, action, actor, origin, target, outcome, request_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(entry.audit_id)
    .bind(entry.occur_millis)
    .bind(entry.action.as_str())
    .bind(entry.actor.as_str())
    .bind(entry.origin.as_str())
    .bind(entry.target.as_str())
    .bind(entry.outcome.as_str())
    .bind(entry.request_id.as_str())
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// Puts entries that are not in the chain yet at its end, oldest first and at most `limit`. Returns their number and the end
/// of the chain; `None` when there are none.
pub(in crate::database) async fn chain(pool: &Pool, limit: i64) -> sqlx::Result<Option<(usize, Link)>> {
    let is_whole: bool =
        sqlx::query_scalar("SELECT NOT EXISTS (SELECT 1 FROM audit_log WHERE sequence IS NULL)")
            .fetch_one(pool.read())
            .await?;
    if is_whole {
        return Ok(None);
    }
    let mut tx = pool.begin().await?;
    // The row is locked: one replica at a time.
    let mut last: Link =
        sqlx::query_as("UPDATE audit_head SET sequence = sequence WHERE id = 1 RETURNING sequence, hash")
            .fetch_one(&mut *tx)
            .await?;
    let entries = unchained(&mut tx, limit).await?;
    for entry in &entries {
        last = last.next(entry);
        sqlx::query("UPDATE audit_log SET sequence = $2, hash = $3 WHERE audit_id = $1")
            .bind(entry.audit_id)
            .bind(last.sequence)
            .bind(last.hash.as_slice())
            .execute(&mut *tx)
            .await?;
    }
    sqlx::query("UPDATE audit_head SET sequence = $1, hash = $2 WHERE id = 1")
        .bind(last.sequence)
        .bind(last.hash.as_slice())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok((!entries.is_empty()).then_some((entries.len(), last)))
}

async fn unchained(tx: &mut Tx, limit: i64) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as(
        "SELECT audit_id, occur_time AS occur_millis, action, actor, origin, target, outcome, request_id
         FROM audit_log WHERE sequence IS NULL ORDER BY audit_id LIMIT $1",
    )
    .bind(limit)
    .fetch_all(&mut **tx)
    .await
}

/// The end of the chain as it is stored.
pub(in crate::database) async fn head(pool: &Pool) -> sqlx::Result<Link> {
    sqlx::query_as("SELECT sequence, hash FROM audit_head WHERE id = 1").fetch_one(pool.read()).await
}

/// An entry with its place in the chain.
#[derive(FromRow)]
struct ChainedRow {
    #[sqlx(flatten)]
    entry: Entry,
    #[sqlx(flatten)]
    link: Link,
}

/// The entries of the chain after a place, with their sums as they are stored; at most `limit`.
pub(in crate::database) async fn chained(
    pool: &Pool,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<(Entry, Link)>> {
    let rows: Vec<ChainedRow> = sqlx::query_as(
        "SELECT audit_id, occur_time AS occur_millis, action, actor, origin, target, outcome, request_id, sequence, hash
         FROM audit_log WHERE sequence > $1 ORDER BY sequence LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(pool.read())
    .await?;
    Ok(rows.into_iter().map(|ChainedRow { entry, link }| (entry, link)).collect())
}

/// The number of entries that are not in the chain yet.
pub(in crate::database) async fn count_unchained(pool: &Pool) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT COUNT(*) FROM audit_log WHERE sequence IS NULL").fetch_one(pool.read()).await
}
