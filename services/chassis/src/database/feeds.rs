//! How far this service has applied the facts of others, and which of them wait. Compiled once per database.
//!
//! The effect of a fact calls [`claim`] as the first thing in its transaction: the fact then takes effect exactly once,
//! however many replicas try.

use sqlx::FromRow;

use super::{Pool, Tx};
use crate::database::facts::{Aside, Claim, Cursor, Place};

/// The most bytes of an error that are kept.
const ERROR_BYTES: usize = 1000;

/// Takes the right to apply what a claim stands for. `false` when another replica has applied it: roll back.
///
/// Call it before the effect. Another transaction that wants the same waits here until this one ends, and then is told
/// `false`; so two can never apply the same fact.
pub async fn claim(tx: &mut Tx, claim: &Claim) -> sqlx::Result<bool> {
    match claim {
        Claim::Forward { feed, from, to, epoch } => move_cursor(tx, feed, *from, to, epoch).await,
        Claim::Aside { feed, position, mark } => {
            let gone = sqlx::query("DELETE FROM facts_aside WHERE feed = $1 AND position = $2 AND mark = $3")
                .bind(*feed)
                .bind(*position)
                .bind(mark.as_str())
                .execute(&mut **tx)
                .await?;
            Ok(gone.rows_affected() == 1)
        }
    }
}

async fn move_cursor(
    tx: &mut Tx,
    feed: &'static str,
    from: i64,
    to: &Place,
    epoch: &str,
) -> sqlx::Result<bool> {
    debug_assert!(from <= to.position, "a claim only moves a cursor forward");
    if from == 0 {
        sqlx::query("INSERT INTO feed_cursors (name, position) VALUES ($1, 0) ON CONFLICT (name) DO NOTHING")
            .bind(feed)
            .execute(&mut **tx)
            .await?;
    }
    let moved = sqlx::query(
        "UPDATE feed_cursors SET position = $3, mark = $4, mark_position = $3,
             epoch = CASE WHEN $5 = '' THEN epoch ELSE $5 END,
             read_time = CASE WHEN read_time < $6 THEN $6 ELSE read_time END
         WHERE name = $1 AND position = $2",
    )
    .bind(feed)
    .bind(from)
    .bind(to.position)
    .bind(to.mark.as_str())
    .bind(epoch)
    .bind(to.time_millis)
    .execute(&mut **tx)
    .await?;
    Ok(moved.rows_affected() == 1)
}

/// A cursor as it is stored.
#[derive(FromRow)]
struct CursorRow {
    position: i64,
    epoch: String,
    mark: String,
    mark_position: i64,
    read_time: i64,
    repeat_time: i64,
}

#[derive(FromRow)]
struct NamedCursorRow {
    name: String,
    #[sqlx(flatten)]
    cursor: CursorRow,
}

impl From<CursorRow> for Cursor {
    fn from(row: CursorRow) -> Self {
        let CursorRow { position, epoch, mark, mark_position, read_time, repeat_time } = row;
        // An older replica of the service moves the position alone.
        let mark = if mark_position == position { mark } else { String::new() };
        Self { position, epoch, mark, read_millis: read_time, repeat_millis: repeat_time }
    }
}

/// Where this service stands in the feed with this name; at position 0 when it has read nothing.
pub(in crate::database) async fn cursor(pool: &Pool, feed: &str) -> sqlx::Result<Cursor> {
    let row: Option<CursorRow> = sqlx::query_as(
        "SELECT position, epoch, mark, mark_position, read_time, repeat_time FROM feed_cursors WHERE name = $1",
    )
    .bind(feed)
    .fetch_optional(pool.read())
    .await?;
    Ok(row.map(Cursor::from).unwrap_or_default())
}

/// All cursors, by the names of their feeds.
pub(in crate::database) async fn cursors(pool: &Pool) -> sqlx::Result<Vec<(String, Cursor)>> {
    let rows: Vec<NamedCursorRow> = sqlx::query_as(
        "SELECT name, position, epoch, mark, mark_position, read_time, repeat_time FROM feed_cursors ORDER BY name",
    )
    .fetch_all(pool.read())
    .await?;
    Ok(rows.into_iter().map(|NamedCursorRow { name, cursor }| (name, cursor.into())).collect())
}

/// Follows another name of a history of which nothing else has changed.
pub(in crate::database) async fn rename(pool: &Pool, feed: &str, epoch: &str) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    sqlx::query("UPDATE feed_cursors SET epoch = $2 WHERE name = $1 AND epoch <> ''")
        .bind(feed)
        .bind(epoch)
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

/// Keeps what the producer says of the fact at the cursor, when the cursor is still there.
pub(in crate::database) async fn learn(pool: &Pool, feed: &str, at: &Place, epoch: &str) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    sqlx::query(
        "UPDATE feed_cursors SET mark = $3, mark_position = $2, epoch = $4,
             read_time = CASE WHEN read_time < $5 THEN $5 ELSE read_time END
         WHERE name = $1 AND position = $2",
    )
    .bind(feed)
    .bind(at.position)
    .bind(at.mark.as_str())
    .bind(epoch)
    .bind(at.time_millis)
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// Sends the cursor back to the beginning of another history. `false` when another replica has moved the cursor.
pub(in crate::database) async fn restart(
    pool: &Pool,
    feed: &str,
    from: i64,
    epoch: &str,
    repeat_millis: i64,
) -> sqlx::Result<bool> {
    let mut tx = pool.begin().await?;
    let moved = sqlx::query(
        "UPDATE feed_cursors SET position = 0, mark = '', mark_position = 0, epoch = $3,
             repeat_time = CASE WHEN repeat_time < $4 THEN $4 ELSE repeat_time END
         WHERE name = $1 AND position = $2",
    )
    .bind(feed)
    .bind(from)
    .bind(epoch)
    .bind(repeat_millis)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(moved.rows_affected() == 1)
}

/// Applies a claim that has no effect. `false` when another replica was faster.
pub(in crate::database) async fn pass_over(pool: &Pool, what: &Claim) -> sqlx::Result<bool> {
    let mut tx = pool.begin().await?;
    if !claim(&mut tx, what).await? {
        tx.rollback().await?;
        return Ok(false);
    }
    tx.commit().await?;
    Ok(true)
}

/// Keeps the last fact of a claim for later instead of applying it. `false` when another replica was faster.
pub(in crate::database) async fn put_aside(
    pool: &Pool,
    what: &Claim,
    fact: &Aside,
    now_millis: i64,
) -> sqlx::Result<bool> {
    let mut tx = pool.begin().await?;
    if !claim(&mut tx, what).await? {
        tx.rollback().await?;
        return Ok(false);
    }
    // The same fact may be there: its history was read once more.
    sqlx::query(
        "INSERT INTO facts_aside (feed, position, mark, payload, error, create_time, attempt_time, attempts)
         VALUES ($1, $2, $3, $4, $5, $6, $6, 1) ON CONFLICT (feed, position, mark) DO NOTHING",
    )
    .bind(what.feed())
    .bind(fact.position)
    .bind(fact.mark.as_str())
    .bind(fact.payload.as_slice())
    .bind(cut(&fact.error))
    .bind(now_millis)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(true)
}

/// Notes that a fact that waits could not be applied this time either.
pub(in crate::database) async fn note_attempt(
    pool: &Pool,
    feed: &str,
    fact: &Aside,
    now_millis: i64,
) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    sqlx::query(
        "UPDATE facts_aside SET attempts = attempts + 1, attempt_time = $4, error = $5
         WHERE feed = $1 AND position = $2 AND mark = $3",
    )
    .bind(feed)
    .bind(fact.position)
    .bind(fact.mark.as_str())
    .bind(now_millis)
    .bind(cut(&fact.error))
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// The facts of a feed that wait, after a position and id, in the order of their positions; at most `limit`.
pub(in crate::database) async fn aside(
    pool: &Pool,
    feed: &str,
    (position, mark): (i64, &str),
    limit: i64,
) -> sqlx::Result<Vec<Aside>> {
    let rows: Vec<(i64, String, Vec<u8>, String)> = sqlx::query_as(
        "SELECT position, mark, payload, error FROM facts_aside
         WHERE feed = $1 AND (position > $2 OR position = $2 AND mark > $3) ORDER BY position, mark LIMIT $4",
    )
    .bind(feed)
    .bind(position)
    .bind(mark)
    .bind(limit)
    .fetch_all(pool.read())
    .await?;
    Ok(rows
        .into_iter()
        .map(|(position, mark, payload, error)| Aside { position, mark, payload, error })
        .collect())
}

/// The number of facts of a feed that wait.
pub(in crate::database) async fn count_aside(pool: &Pool, feed: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT COUNT(*) FROM facts_aside WHERE feed = $1")
        .bind(feed)
        .fetch_one(pool.read())
        .await
}

/// The beginning of a text, at most [`ERROR_BYTES`].
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(ERROR_BYTES)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::super::outbox::{append, list};
    use super::super::tests::scratch;
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn two_consumers_apply_each_fact_once() {
        const FACTS: i64 = 60;
        let Some((pool, _scratch)) = scratch().await else { return };
        assert_eq!(cursor(&pool, "auth").await.unwrap().position, 0);
        // The effect is a fact of our own, so that it can be counted. Every fifth attempt fails and must leave nothing.
        let mut work = JoinSet::new();
        for replica in 0..2 {
            let pool = pool.clone();
            work.spawn(async move {
                let mut attempts = replica;
                let mut applied = 0;
                loop {
                    let from = cursor(&pool, "auth").await.unwrap().position;
                    if from == FACTS {
                        return applied;
                    }
                    let mut tx = pool.begin().await.unwrap();
                    if !claim(&mut tx, &Claim::forward("auth", from, from + 1)).await.unwrap() {
                        tx.rollback().await.unwrap();
                        continue;
                    }
                    append(&mut tx, &from.to_be_bytes(), 1).await.unwrap();
                    attempts += 1;
                    if attempts % 5 == 0 {
                        drop(tx);
                    } else {
                        tx.commit().await.unwrap();
                        applied += 1;
                    }
                }
            });
        }
        let mut applied = 0;
        while let Some(done) = work.join_next().await {
            applied += done.unwrap();
        }
        assert_eq!(applied, FACTS);
        let effects = list(&pool, 0, 1000).await.unwrap();
        let expected: Vec<_> = (0..FACTS).map(|n| (n + 1, n.to_be_bytes().to_vec())).collect();
        assert_eq!(effects, expected);
    }

    #[tokio::test]
    async fn a_cursor_moves_only_from_where_it_is() {
        let Some((pool, _scratch)) = scratch().await else { return };
        let mut tx = pool.begin().await.unwrap();
        assert!(!claim(&mut tx, &Claim::forward("auth", 3, 4)).await.unwrap());
        assert!(claim(&mut tx, &Claim::forward("auth", 0, 4)).await.unwrap());
        assert!(!claim(&mut tx, &Claim::forward("auth", 0, 4)).await.unwrap());
        assert!(claim(&mut tx, &Claim::forward("auth", 4, 9)).await.unwrap());
        assert!(claim(&mut tx, &Claim::forward("conversation", 0, 1)).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(cursor(&pool, "auth").await.unwrap().position, 9);
        assert_eq!(cursor(&pool, "conversation").await.unwrap().position, 1);
    }

    fn place(position: i64, mark: &str, time_millis: i64) -> Place {
        Place { position, mark: mark.to_owned(), time_millis }
    }

    async fn forward(pool: &Pool, from: i64, to: Place, epoch: &str) -> bool {
        pass_over(pool, &Claim::Forward { feed: "auth", from, to, epoch: epoch.to_owned() }).await.unwrap()
    }

    #[tokio::test]
    async fn a_cursor_knows_its_history_and_the_latest_time() {
        let Some((pool, _scratch)) = scratch().await else { return };
        assert!(forward(&pool, 0, place(1, "one", 70), "first").await);
        assert!(forward(&pool, 1, place(2, "two", 60), "").await);
        let known = cursor(&pool, "auth").await.unwrap();
        let expected = |position, mark: &str| Cursor {
            position,
            epoch: "first".to_owned(),
            mark: mark.to_owned(),
            read_millis: 70,
            repeat_millis: 0,
        };
        assert_eq!(known, expected(2, "two"));
        // A replica of the release before moves the position alone.
        let mut tx = pool.begin().await.unwrap();
        sqlx::query("UPDATE feed_cursors SET position = 3").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(cursor(&pool, "auth").await.unwrap(), expected(3, ""));
        learn(&pool, "auth", &place(2, "late", 0), "first").await.unwrap();
        assert_eq!(cursor(&pool, "auth").await.unwrap(), expected(3, ""));
        learn(&pool, "auth", &place(3, "three", 0), "first").await.unwrap();
        assert_eq!(cursor(&pool, "auth").await.unwrap(), expected(3, "three"));

        assert!(!restart(&pool, "auth", 2, "second", 70).await.unwrap());
        assert!(restart(&pool, "auth", 3, "second", 70).await.unwrap());
        let again = cursor(&pool, "auth").await.unwrap();
        assert_eq!((again.position, again.epoch.as_str(), again.mark.as_str()), (0, "second", ""));
        assert_eq!((again.read_millis, again.repeat_millis), (70, 70));
        assert!(forward(&pool, 0, place(1, "new", 90), "second").await);
    }

    #[tokio::test]
    async fn data_that_is_refused_is_told_from_a_database_that_is_not_well() {
        use crate::database::is_refusal_of_data;
        let Some((pool, _scratch)) = scratch().await else { return };
        let mut tx = pool.begin().await.unwrap();
        let twice =
            sqlx::query("INSERT INTO outbox_head (id, position) VALUES (1, 0)").execute(&mut *tx).await;
        assert!(is_refusal_of_data(&twice.unwrap_err()));
        tx.rollback().await.unwrap();
        let missing = sqlx::query("SELECT 1 FROM no_such_table").execute(pool.read()).await;
        assert!(!is_refusal_of_data(&missing.unwrap_err()));
        assert!(!is_refusal_of_data(&sqlx::Error::PoolTimedOut));
    }

    #[tokio::test]
    async fn a_fact_that_is_put_aside_waits_until_it_is_claimed() {
        let Some((pool, _scratch)) = scratch().await else { return };
        let fact = |position, mark: &str| Aside {
            position,
            mark: mark.to_owned(),
            payload: b"fact".to_vec(),
            error: "é".repeat(ERROR_BYTES),
        };
        let aside = |from, fact: Aside| {
            let pool = &pool;
            async move {
                let claim = Claim::forward("auth", from, fact.position);
                put_aside(pool, &claim, &fact, 5).await.unwrap()
            }
        };
        assert!(aside(0, fact(1, "one")).await);
        // Another replica has done it already.
        assert!(!aside(0, fact(1, "one")).await);
        assert!(aside(1, fact(2, "")).await);
        assert!(restart(&pool, "auth", 2, "second", 0).await.unwrap());
        // The same fact once more, and another in its position.
        assert!(aside(0, fact(1, "one")).await);
        assert!(aside(1, fact(2, "other")).await);
        assert_eq!(count_aside(&pool, "auth").await.unwrap(), 3);
        assert_eq!(count_aside(&pool, "conversation").await.unwrap(), 0);

        let read = |after| {
            let pool = &pool;
            async move {
                let facts = super::aside(pool, "auth", after, 2).await.unwrap();
                facts.into_iter().map(|fact| (fact.position, fact.mark)).collect::<Vec<_>>()
            }
        };
        assert_eq!(read((0, "")).await, [(1, "one".to_owned()), (2, String::new())]);
        assert_eq!(read((2, "")).await, [(2, "other".to_owned())]);
        note_attempt(&pool, "auth", &Aside { error: "still".to_owned(), ..fact(2, "other") }, 9)
            .await
            .unwrap();
        let noted = super::aside(&pool, "auth", (2, ""), 2).await.unwrap();
        assert_eq!((noted[0].error.as_str(), noted[0].payload.as_slice()), ("still", b"fact".as_slice()));

        let taken = Claim::Aside { feed: "auth", position: 2, mark: "other".to_owned() };
        assert!(pass_over(&pool, &taken).await.unwrap());
        assert!(!pass_over(&pool, &taken).await.unwrap());
        assert_eq!(count_aside(&pool, "auth").await.unwrap(), 2);
        assert_eq!(cursor(&pool, "auth").await.unwrap().position, 2);
    }
}
