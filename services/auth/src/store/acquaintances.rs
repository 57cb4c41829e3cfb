//! Who knows whom, and who wants to have nothing to do with whom.

use proto::id::UserId;
use uuid::Uuid;

use super::{FOR_UPDATE, Store, Tx, lock_user};
use crate::error::Error;
use crate::review::{Acquaintance, Tie};

/// The numbers of what can be between two people.
const CONNECTION: i64 = 1;
const CALL: i64 = 2;
const BLOCK: i64 = 3;

impl Store {
    pub async fn record_acquaintance(&self, acquaintance: &Acquaintance) -> Result<(), Error> {
        let Acquaintance { pair, tie, version } = *acquaintance;
        let (kind, ended) = match tie {
            Tie::Connection { is_there } => (CONNECTION, !is_there),
            Tie::Call => (CALL, false),
            Tie::Block { is_there } => (BLOCK, !is_there),
        };
        let mut tx = self.pool.begin().await?;
        if lock_both(&mut tx, [pair.low(), pair.high()]).await?.len() < 2 {
            // Whoever is gone knows nobody; who tells it shall not have to repeat it for ever.
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO acquaintances (low_user_id, high_user_id, kind, version, ended) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (low_user_id, high_user_id, kind)
             DO UPDATE SET version = excluded.version, ended = excluded.ended
             WHERE acquaintances.version < excluded.version",
        )
        .bind(pair.low().uuid())
        .bind(pair.high().uuid())
        .bind(kind)
        .bind(version)
        .bind(ended)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Keeps the rows of both users until the transaction ends, and returns who of them lives. Always the smaller id first: two
/// who act on each other at once wait, and never for each other.
pub(super) async fn lock_both(tx: &mut Tx, mut both: [UserId; 2]) -> Result<Vec<UserId>, Error> {
    both.sort();
    let mut living = Vec::with_capacity(2);
    for id in both {
        if lock_user(tx, id).await?.is_some() {
            living.push(id);
        }
    }
    Ok(living)
}

/// What is between two people, as far as reviews depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ties {
    /// They are connected or have had a call.
    pub(super) is_acquainted: bool,
    /// One of them blocks the other.
    pub(super) is_blocked: bool,
}

/// What is between the two. Their rows are locked, so that no block comes in between.
pub(super) async fn ties(tx: &mut Tx, mut both: [UserId; 2]) -> Result<Ties, Error> {
    both.sort();
    let [low, high] = both;
    let kinds: Vec<i64> = sqlx::query_scalar(
        "SELECT kind FROM acquaintances WHERE low_user_id = $1 AND high_user_id = $2 AND NOT ended",
    )
    .bind(low.uuid())
    .bind(high.uuid())
    .fetch_all(&mut **tx)
    .await?;
    Ok(Ties {
        is_acquainted: kinds.contains(&CONNECTION) || kinds.contains(&CALL),
        is_blocked: kinds.contains(&BLOCK),
    })
}

/// Forgets whom a user knew. The rows are locked in one order first: two acquaintances may be deleted at once.
pub(super) async fn erase(tx: &mut Tx, id: Uuid) -> Result<(), Error> {
    let lock = "SELECT kind FROM acquaintances WHERE low_user_id = $1 OR high_user_id = $1
                ORDER BY low_user_id, high_user_id, kind";
    sqlx::query(sqlx::AssertSqlSafe(format!("{lock}{FOR_UPDATE}"))).bind(id).execute(&mut **tx).await?;
    sqlx::query("DELETE FROM acquaintances WHERE low_user_id = $1 OR high_user_id = $1")
        .bind(id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
