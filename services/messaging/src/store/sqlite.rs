//! The store on SQLite.

#![expect(clippy::duplicate_mod, reason = "one text of SQL, compiled once per database")]

use chassis::database::sqlite::*;

use super::rows::Placeholders;

/// SQLite looks up the name of every parameter of a statement, one after the other; these have none.
const PLACEHOLDERS: Placeholders = Placeholders::Positional;

#[path = "store.rs"]
mod store;

pub use store::Store;
