//! For PostgreSQL.

use chassis::clock::{Clock, Timestamp};
use chassis::database::postgres::*;

#[path = "store.rs"]
#[expect(clippy::duplicate_mod, reason = "one text of SQL is compiled once per database")]
mod store;

pub use store::Store;

/// The same within a change, whose locks may have been waited for.
async fn now_within(tx: &mut Tx, _: &Clock) -> sqlx::Result<Timestamp> {
    let millis: i64 = sqlx::query_scalar(CLOCK).fetch_one(&mut **tx).await?;
    Ok(Timestamp::from_millis(millis))
}

/// Cut down, not rounded: half a millisecond ahead would be early.
const CLOCK: &str = "SELECT CAST(FLOOR(EXTRACT(EPOCH FROM clock_timestamp()) * 1000) AS BIGINT)";

/// The server's time: the clocks of the replicas may differ, and then something would be due for one and not for another.
async fn now(pool: &Pool, _: &Clock) -> sqlx::Result<Timestamp> {
    let millis: i64 = sqlx::query_scalar(CLOCK).fetch_one(pool.read()).await?;
    Ok(Timestamp::from_millis(millis))
}

/// Whether it was refused because two bookings of a person would meet.
fn is_overlap(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.constraint() == Some("occurrences_overlap"))
}
