//! What a database knows of the facts of other services: see [`crate::facts`], which reads them.

use super::Database;

/// Where a fact stands in its history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The position: 1 for the first fact.
    pub position: i64,
    /// The id of the fact; empty when it is not known.
    pub mark: String,
    /// When it happened, in milliseconds since 1970; 0 when that is not known.
    pub time_millis: i64,
}

impl Place {
    /// A position of which no more is known.
    pub fn at(position: i64) -> Self {
        Self { position, ..Self::default() }
    }
}

/// How far a service has read a feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The position of the last fact that was read; 0 when none was.
    pub position: i64,
    /// The history that was read; empty when the producer has not said it.
    pub epoch: String,
    /// The id of the fact at the position; empty when it is not known.
    pub mark: String,
    /// The time of the latest fact that was read, in milliseconds since 1970.
    pub read_millis: i64,
    /// Facts up to this time, in milliseconds since 1970, have been read before; 0 when no history was replaced.
    pub repeat_millis: i64,
}

/// The right to apply some facts, once. The database's own `feeds::claim` takes it, as the first thing in the transaction of
/// the effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The facts after one position, up to another.
    Forward {
        /// The name of the feed.
        feed: &'static str,
        /// The cursor must be here.
        from: i64,
        /// The last fact; the cursor is there afterwards.
        to: Place,
        /// The history; empty when the producer does not say it.
        epoch: String,
    },
    /// One fact that was put aside.
    Aside {
        /// The name of the feed.
        feed: &'static str,
        /// Its position.
        position: i64,
        /// Its id; empty when it has none.
        mark: String,
    },
}

impl Claim {
    /// The facts of a feed after one position, up to another, of which no more is known than that.
    pub fn forward(feed: &'static str, from: i64, to: i64) -> Self {
        Self::Forward { feed, from, to: Place::at(to), epoch: String::new() }
    }

    /// The name of the feed.
    pub const fn feed(&self) -> &'static str {
        match self {
            Self::Forward { feed, .. } | Self::Aside { feed, .. } => feed,
        }
    }
}

/// A fact that could not be read or applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// Its position.
    pub position: i64,
    /// Its id; empty when it has none.
    pub mark: String,
    /// The fact as the producer sent it.
    pub payload: Vec<u8>,
    /// Why.
    pub error: String,
}

/// What a producer says of its facts as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Its random name, drawn once for each database.
    pub epoch: String,
    /// The position of the last fact; 0 when there is none.
    pub head: i64,
    /// The fact at the position that was asked about; `None` when there is none.
    pub fact: Option<Vec<u8>>,
}

macro_rules! either {
    ($self:ident, $module:ident.$function:ident($($argument:expr),*)) => {
        match $self {
            Database::Sqlite(pool) => super::sqlite::$module::$function(pool, $($argument),*).await,
            Database::Postgres(pool) => super::postgres::$module::$function(pool, $($argument),*).await,
        }
    };
}

impl Database {
    /// Where the service stands in the feed with this name; at position 0 when it has read nothing.
    pub async fn feed_cursor(&self, feed: &str) -> sqlx::Result<Cursor> {
        either!(self, feeds.cursor(feed))
    }

    /// All cursors of the service, by the names of their feeds.
    pub(crate) async fn feed_cursors(&self) -> sqlx::Result<Vec<(String, Cursor)>> {
        either!(self, feeds.cursors())
    }

    /// Follows another name of the history that a feed has read: the facts are the same.
    pub(crate) async fn follow_history(&self, feed: &str, epoch: &str) -> sqlx::Result<()> {
        either!(self, feeds.rename(feed, epoch))
    }

    /// Gives the service's own facts a new epoch, and returns it.
    pub(crate) async fn renew_history(&self) -> sqlx::Result<String> {
        let epoch = super::draw_epoch();
        either!(self, outbox.rename(&epoch))?;
        Ok(epoch)
    }

    /// Runs some statements, all or none.
    pub(crate) async fn run_all(&self, statements: &'static [&'static str]) -> sqlx::Result<()> {
        either!(self, outbox.run_all(statements))
    }

    /// Keeps what the producer says of the fact at the cursor, when the cursor is still there.
    pub(crate) async fn learn_place(&self, feed: &str, at: &Place, epoch: &str) -> sqlx::Result<()> {
        either!(self, feeds.learn(feed, at, epoch))
    }

    /// Sends the cursor back to the beginning of another history. `false` when another replica has moved the cursor.
    pub(crate) async fn restart_feed(
        &self,
        feed: &str,
        from: i64,
        epoch: &str,
        repeat_millis: i64,
    ) -> sqlx::Result<bool> {
        either!(self, feeds.restart(feed, from, epoch, repeat_millis))
    }

    /// Applies a claim that has no effect. `false` when another replica was faster.
    pub(crate) async fn pass_over(&self, claim: &Claim) -> sqlx::Result<bool> {
        either!(self, feeds.pass_over(claim))
    }

    /// Keeps the last fact of a claim for later instead of applying it. `false` when another replica was faster.
    pub(crate) async fn put_aside(&self, claim: &Claim, fact: &Aside, now_millis: i64) -> sqlx::Result<bool> {
        either!(self, feeds.put_aside(claim, fact, now_millis))
    }

    /// Notes that a fact that waits could not be applied this time either.
    pub(crate) async fn note_attempt(&self, feed: &str, fact: &Aside, now_millis: i64) -> sqlx::Result<()> {
        either!(self, feeds.note_attempt(feed, fact, now_millis))
    }

    /// The facts of a feed that wait, after a position and id, in the order of their positions; at most `limit`.
    pub(crate) async fn facts_aside(
        &self,
        feed: &str,
        after: (i64, &str),
        limit: i64,
    ) -> sqlx::Result<Vec<Aside>> {
        either!(self, feeds.aside(feed, after, limit))
    }

    /// What there is to say of the service's own facts as a whole, and the fact at a position. Ask after the facts are
    /// listed: the head is then at least the last position of the list.
    pub async fn history(&self, position: i64) -> sqlx::Result<History> {
        either!(self, outbox.history(position))
    }

    /// The number of facts of a feed that wait.
    pub async fn count_aside(&self, feed: &str) -> sqlx::Result<i64> {
        either!(self, feeds.count_aside(feed))
    }
}
