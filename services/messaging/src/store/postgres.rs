//! The store on PostgreSQL.

use chassis::database::postgres::*;

#[path = "store.rs"]
mod store;

pub use store::Store;
