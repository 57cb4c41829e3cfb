//! For SQLite.

use chassis::clock::{Clock, Timestamp};
use chassis::database::sqlite::*;

#[path = "store.rs"]
mod store;

pub use store::Store;

/// The same within a change.
async fn now_within(_: &mut Tx, clock: &Clock) -> sqlx::Result<Timestamp> {
    Ok(clock.now())
}

/// A file has no clock of its own, and only this process uses it: what the process says is the time for all.
async fn now(_: &Pool, clock: &Clock) -> sqlx::Result<Timestamp> {
    Ok(clock.now())
}

/// Whether it was refused because two bookings of a person would meet.
fn is_overlap(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.message() == "occurrences_overlap")
}
