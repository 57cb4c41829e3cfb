//! The store on SQLite.

use chassis::database::sqlite::{Db, FOR_UPDATE, Pool, SKIP_LOCKED, Tx, outbox};

#[expect(clippy::duplicate_mod, reason = "one text of SQL, compiled once per database")]
#[path = "store.rs"]
mod store;

pub use store::Store;
