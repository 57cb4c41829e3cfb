//! The store on PostgreSQL.

use chassis::database::postgres::*;

use super::matches::Matches;
use super::rows::Placeholders;

/// How PostgreSQL writes the parameters of a statement.
const PLACEHOLDERS: Placeholders = Placeholders::Numbered;

/// The rows `s` of `searchable` that match, around the parameter that says what: a tsquery.
const MATCHING: [&str; 2] = ["array_to_tsvector(string_to_array(s.words, ' ')) @@ CAST(", " AS tsquery)"];

/// How such a query is written.
const MATCHES: Matches = Matches { quote: '\'', and: " & ", or: " | ", prefix: ":*" };

/// The UUIDs of a list, around the one parameter that holds all of them.
const LISTED: [&str; 2] =
    ["SELECT CAST(value AS UUID) FROM json_array_elements_text(CAST(", " AS JSON)) AS listed(value)"];

#[path = "store.rs"]
mod store;

pub use store::Store;
