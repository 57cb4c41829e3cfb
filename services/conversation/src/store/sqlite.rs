//! For SQLite.

use chassis::database::sqlite::*;

#[path = "store.rs"]
mod store;

pub use store::Store;
