//! The audit log in a database: see [`crate::audit`].

use super::Database;
use crate::audit::{Entry, Link};

macro_rules! either {
    ($self:ident, $function:ident($($argument:expr),*)) => {
        match $self {
            Database::Sqlite(pool) => super::sqlite::audit::$function(pool, $($argument),*).await,
            Database::Postgres(pool) => super::postgres::audit::$function(pool, $($argument),*).await,
        }
    };
}

impl Database {
    /// Adds an entry.
    pub(crate) async fn audit_append(&self, entry: &Entry) -> sqlx::Result<()> {
        either!(self, append(entry))
    }

    /// Puts entries at the end of the chain, at most `limit`. Returns their number and the end of the chain;
    /// `None` when there are none.
    pub(crate) async fn audit_chain(&self, limit: i64) -> sqlx::Result<Option<(usize, Link)>> {
        either!(self, chain(limit))
    }

    /// The entries of the chain after a place, with their sums as they are stored.
    pub(crate) async fn audit_chained(&self, after: i64, limit: i64) -> sqlx::Result<Vec<(Entry, Link)>> {
        either!(self, chained(after, limit))
    }

    /// The end of the chain as it is stored.
    pub(crate) async fn audit_head(&self) -> sqlx::Result<Link> {
        either!(self, head())
    }

    /// The number of entries that are not in the chain yet.
    pub(crate) async fn audit_unchained(&self) -> sqlx::Result<i64> {
        either!(self, count_unchained())
    }
}
