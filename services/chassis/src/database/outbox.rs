//! Facts for other services. Compiled once per database.
//!
//! The producer calls [`append`] as the last thing in the transaction of the change, and answers a rpc with [`list`] and
//! [`history`].

use std::ops::Range;

use sqlx::QueryBuilder;

use super::{Db, Pool, Tx};
use crate::database::facts::History;

/// The most rows of one INSERT. Batches are cut into powers of two up to this, so that few statement texts exist.
const BATCH: usize = 64;

/// Adds a fact and returns its position: 1 for the first, and no number is ever left out or given twice.
///
/// Everybody else who appends waits from here until the transaction ends, so let this be its last statement. Readers see
/// positions appear in their order, because a position is taken only when all smaller ones are committed.
pub async fn append(tx: &mut Tx, payload: &[u8], now_millis: i64) -> sqlx::Result<i64> {
    let position = take(tx, 1).await?;
    sqlx::query("INSERT INTO outbox (position, payload, create_time) VALUES ($1, $2, $3)")
        .bind(position)
        .bind(payload)
        .bind(now_millis)
        .execute(&mut **tx)
        .await?;
    Ok(position)
}

/// Adds several facts in their order and returns their positions. As [`append`] otherwise.
pub async fn append_all<P: AsRef<[u8]>>(
    tx: &mut Tx,
    payloads: &[P],
    now_millis: i64,
) -> sqlx::Result<Range<i64>> {
    if payloads.is_empty() {
        return Ok(0..0);
    }
    let count = i64::try_from(payloads.len()).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let last = take(tx, count).await?;
    let first = last - count + 1;
    let mut position = first;
    let mut rest = payloads;
    while !rest.is_empty() {
        let size = BATCH.min(1 << rest.len().ilog2());
        let (batch, after) = rest.split_at(size);
        rest = after;
        let mut insert = QueryBuilder::<Db>::new("INSERT INTO outbox (position, payload, create_time) ");
        insert.push_values(batch, |mut row, payload| {
            row.push_bind(position).push_bind(payload.as_ref().to_vec()).push_bind(now_millis);
            position += 1;
        });
        insert.build().execute(&mut **tx).await?;
    }
    Ok(first..last + 1)
}

/// Moves the head on and returns it. The row stays locked until the transaction ends: nobody can take the next position
/// before it is known whether these are used.
async fn take(tx: &mut Tx, count: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar("UPDATE outbox_head SET position = position + $1 WHERE id = 1 RETURNING position")
        .bind(count)
        .fetch_one(&mut **tx)
        .await
}

/// The facts after a position (0 for all), oldest first, at most `limit`.
pub async fn list(pool: &Pool, after: i64, limit: i64) -> sqlx::Result<Vec<(i64, Vec<u8>)>> {
    sqlx::query_as("SELECT position, payload FROM outbox WHERE position > $1 ORDER BY position LIMIT $2")
        .bind(after)
        .bind(limit)
        .fetch_all(pool.read())
        .await
}

/// What there is to say of the facts as a whole, and the fact at a position.
///
/// Ask after [`list`]: the head is then at least the last position of that list.
pub async fn history(pool: &Pool, position: i64) -> sqlx::Result<History> {
    let (epoch, head, fact) = sqlx::query_as(
        "SELECT h.epoch, o.position, (SELECT payload FROM outbox WHERE position = $1)
         FROM outbox_history h CROSS JOIN outbox_head o",
    )
    .bind(position)
    .fetch_one(pool.read())
    .await?;
    Ok(History { epoch, head, fact })
}

/// Gives the history of facts another name.
pub(in crate::database) async fn rename(pool: &Pool, epoch: &str) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    sqlx::query("UPDATE outbox_history SET epoch = $1").bind(epoch).execute(&mut *tx).await?;
    tx.commit().await
}

/// Runs some statements, all or none.
pub(in crate::database) async fn run_all(
    pool: &Pool,
    statements: &'static [&'static str],
) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    for statement in statements {
        sqlx::query(*statement).execute(&mut *tx).await?;
    }
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::super::tests::scratch;
    use super::*;
    use crate::database::{Database, testing};

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn positions_have_no_gap_and_appear_in_order() {
        let Some((pool, _scratch)) = scratch().await else { return };
        let mut work = JoinSet::new();
        for writer in 0..8_u8 {
            let pool = pool.clone();
            work.spawn(async move {
                for turn in 0..25_u8 {
                    let mut tx = pool.begin().await.unwrap();
                    if turn % 5 == 4 {
                        append_all(&mut tx, &[[writer, turn], [writer, turn]], 7).await.unwrap();
                    } else {
                        append(&mut tx, &[writer, turn], 7).await.unwrap();
                    }
                    match turn % 3 {
                        // Every third takes a position and gives it back, one way or the other.
                        0 if turn % 2 == 0 => tx.rollback().await.unwrap(),
                        0 => drop(tx),
                        _ => tx.commit().await.unwrap(),
                    }
                }
            });
        }
        // A reader that follows must never see a position before a smaller one.
        let mut follower = JoinSet::new();
        follower.spawn({
            let pool = pool.clone();
            async move {
                let mut seen = 0;
                let mut quiet = 0;
                while quiet < 20 {
                    let page = list(&pool, seen, 10).await.unwrap();
                    quiet = if page.is_empty() { quiet + 1 } else { 0 };
                    for (position, _) in page {
                        assert_eq!(position, seen + 1, "a position was passed over");
                        seen = position;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                seen
            }
        });
        while let Some(done) = work.join_next().await {
            done.unwrap();
        }
        let facts = list(&pool, 0, 1000).await.unwrap();
        let positions: Vec<i64> = facts.iter().map(|(position, _)| *position).collect();
        let kept: i64 =
            (0..25).filter(|turn| turn % 3 != 0).map(|turn| if turn % 5 == 4 { 2 } else { 1 }).sum();
        assert_eq!(positions, (1..=8 * kept).collect::<Vec<_>>());
        assert_eq!(follower.join_next().await.unwrap().unwrap(), 8 * kept);
        for writer in 0..8 {
            let turns: Vec<u8> = facts.iter().filter(|(_, f)| f[0] == writer).map(|(_, f)| f[1]).collect();
            assert!(turns.is_sorted(), "one writer's facts keep their order");
        }
    }

    #[tokio::test]
    async fn many_facts_are_added_at_once() {
        let Some((pool, _scratch)) = scratch().await else { return };
        let payloads: Vec<Vec<u8>> = (0..203_u32).map(|n| n.to_be_bytes().to_vec()).collect();
        let mut tx = pool.begin().await.unwrap();
        assert_eq!(append_all::<Vec<u8>>(&mut tx, &[], 1).await.unwrap(), 0..0);
        assert_eq!(append(&mut tx, b"first", 1).await.unwrap(), 1);
        assert_eq!(append_all(&mut tx, &payloads, 1).await.unwrap(), 2..205);
        tx.commit().await.unwrap();
        let facts = list(&pool, 1, 1000).await.unwrap();
        assert_eq!(facts.iter().map(|(_, payload)| payload.clone()).collect::<Vec<_>>(), payloads);
        assert_eq!(list(&pool, 203, 1000).await.unwrap().len(), 1);
        assert!(list(&pool, 204, 1000).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_history_has_one_name_and_a_head() {
        let Some((pool, scratch)) = scratch().await else { return };
        let History { epoch, head, fact } = history(&pool, 0).await.unwrap();
        assert_eq!((epoch.len(), head, fact), (36, 0, None));
        let mut tx = pool.begin().await.unwrap();
        append_all(&mut tx, &[b"one", b"two"], 7).await.unwrap();
        tx.commit().await.unwrap();
        let of =
            |head, fact: Option<&[u8]>| History { epoch: epoch.clone(), head, fact: fact.map(Vec::from) };
        assert_eq!(history(&pool, 0).await.unwrap(), of(2, None));
        assert_eq!(history(&pool, 2).await.unwrap(), of(2, Some(b"two")));
        assert_eq!(history(&pool, 3).await.unwrap(), of(2, None));
        // Another start of the service draws no other name.
        pool.close().await;
        let database = Database::open(&scratch.config(), "scratch", testing::no_migrations()).await.unwrap();
        assert_eq!(database.history(1).await.unwrap(), of(2, Some(b"one")));
    }
}
