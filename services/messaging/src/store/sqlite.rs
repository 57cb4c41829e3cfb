//! The store on SQLite.

#![expect(clippy::duplicate_mod, reason = "one text of SQL, compiled once per database")]

use chassis::database::sqlite::*;

#[path = "store.rs"]
mod store;

pub use store::Store;
