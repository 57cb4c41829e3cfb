//! The store on PostgreSQL.

use chassis::database::postgres::{Db, FOR_UPDATE, Pool, SKIP_LOCKED, Tx, outbox};

#[expect(clippy::duplicate_mod, reason = "one text of SQL, compiled once per database")]
#[path = "store.rs"]
mod store;

pub use store::Store;
