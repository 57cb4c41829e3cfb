//! The store on SQLite.

use chassis::database::sqlite::*;

#[expect(clippy::duplicate_mod, reason = "one text of SQL, compiled once per database")]
#[path = "store.rs"]
mod store;

pub use store::Store;
