//! The store on SQLite.

#![expect(clippy::duplicate_mod, reason = "one text of SQL, compiled once per database")]

use chassis::database::sqlite::*;

use super::matches::Matches;
use super::rows::Placeholders;

/// SQLite looks up the name of every parameter of a statement, one after the other; these have none.
const PLACEHOLDERS: Placeholders = Placeholders::Positional;

/// The rows `s` of `searchable` that match, around the parameter that says what: an expression of FTS5.
const MATCHING: [&str; 2] =
    ["s.row_id IN (SELECT rowid FROM searchable_words WHERE searchable_words MATCH ", ")"];

/// How such an expression is written.
const MATCHES: Matches = Matches { quote: '"', and: " AND ", or: " OR ", prefix: "*" };

/// The UUIDs of a list, around the one parameter that holds all of them.
const LISTED: [&str; 2] = ["SELECT unhex(value) FROM json_each(", ")"];

#[path = "store.rs"]
mod store;

pub use store::Store;
