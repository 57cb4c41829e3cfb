//! The rows that end at a time of their own.

use chassis::clock::Timestamp;
use sqlx::AssertSqlSafe;

use super::Store;
use crate::error::Error;

/// A table whose rows end.
pub(super) struct Ending {
    pub table: &'static str,
    /// The primary key: a column, or several in parentheses.
    pub key: &'static str,
    /// The column with the time of the end.
    pub time: &'static str,
}

impl Store {
    /// Removes rows that have ended until a time, oldest first and at most `limit`. Returns their number.
    pub(super) async fn sweep(&self, rows: Ending, until: Timestamp, limit: i64) -> Result<u64, Error> {
        let Ending { table, key, time } = rows;
        let columns = key.trim_matches(['(', ')']);
        // The condition stands twice: a row that is renewed between the two must stay.
        let sql = format!(
            "DELETE FROM {table} WHERE {time} <= $1 AND {key} IN
                 (SELECT {columns} FROM {table} WHERE {time} <= $1 ORDER BY {time} LIMIT $2)"
        );
        let mut tx = self.pool.begin().await?;
        let swept =
            sqlx::query(AssertSqlSafe(sql)).bind(until.as_millis()).bind(limit).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(swept.rows_affected())
    }
}
