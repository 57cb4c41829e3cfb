//! The store on PostgreSQL.

use chassis::database::postgres::*;

use super::rows::Placeholders;

/// How PostgreSQL writes the parameters of a statement.
const PLACEHOLDERS: Placeholders = Placeholders::Numbered;

#[path = "store.rs"]
mod store;

pub use store::Store;
