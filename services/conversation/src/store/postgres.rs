//! For PostgreSQL.

use chassis::database::postgres::*;

#[path = "store.rs"]
#[expect(clippy::duplicate_mod, reason = "one text of SQL is compiled once per database")]
mod store;

pub use store::Store;
