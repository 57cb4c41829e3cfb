//! Conversations in a database: one text of SQL, compiled for SQLite and for PostgreSQL.

#[cfg(test)]
mod contract;
mod postgres;
mod sqlite;

use std::collections::HashMap;

use chassis::clock::Timestamp;
use chassis::database::{self, Database};
use proto::id::{ConversationId, UserId};

use crate::change::{Change, Situation};
use crate::conversation::View;
use crate::create::{Created, Plan};
use crate::error::Error;
use crate::member::{Access, Ban, Member, Memberships};
use crate::paging::Page;
use crate::role::Role;

/// The store of this service.
#[derive(Clone)]
pub enum Store {
    /// In a file.
    Sqlite(sqlite::Store),
    /// In a server.
    Postgres(postgres::Store),
}

/// The same call, whichever it is.
macro_rules! either {
    ($self:expr, $store:ident => $call:expr) => {
        match $self {
            Store::Sqlite($store) => $call.await,
            Store::Postgres($store) => $call.await,
        }
    };
}

impl Store {
    /// The store in an open database.
    pub fn new(database: Database) -> Self {
        match database {
            Database::Sqlite(pool) => Self::Sqlite(sqlite::Store::new(pool)),
            Database::Postgres(pool) => Self::Postgres(postgres::Store::new(pool)),
        }
    }

    /// What there is already of a plan: what an earlier try has made, or the one that there may be only one of.
    pub async fn find(&self, plan: &Plan) -> Result<Option<Created>, Error> {
        either!(self, store => store.find(plan))
    }

    /// Makes a conversation. `None` when somebody else was faster: [`find`](Self::find) tells what there is now.
    pub async fn create(&self, plan: &Plan, at: Timestamp) -> Result<Option<View>, Error> {
        either!(self, store => store.create(plan, at))
    }

    /// A conversation as a user sees it, whether or not the user may.
    pub async fn view(&self, id: ConversationId, viewer: UserId) -> Result<Option<View>, Error> {
        either!(self, store => store.view(id, viewer))
    }

    /// Those among these conversations that the user is a member of, in no order.
    pub async fn views(&self, ids: &[ConversationId], viewer: UserId) -> Result<Vec<View>, Error> {
        either!(self, store => store.views(ids, viewer))
    }

    /// The conversations that a user is a member of, newest first.
    pub async fn list(&self, viewer: UserId, page: Page<ConversationId>) -> Result<Vec<View>, Error> {
        either!(self, store => store.list(viewer, page))
    }

    /// The members of a conversation with this role or a higher one, in the order of coming in; none when the viewer is
    /// not one of its members.
    pub async fn members(
        &self,
        id: ConversationId,
        viewer: UserId,
        at_least: Role,
        page: Page<(Timestamp, UserId)>,
    ) -> Result<Vec<Member>, Error> {
        either!(self, store => store.members(id, viewer, at_least, page))
    }

    /// The bans of a conversation, oldest first; none when the viewer does not moderate it.
    pub async fn bans(
        &self,
        id: ConversationId,
        viewer: UserId,
        page: Page<(Timestamp, UserId)>,
    ) -> Result<Vec<Ban>, Error> {
        either!(self, store => store.bans(id, viewer, page))
    }

    /// What users may do where, for the pairs whose conversation exists. Pairs must differ from each other.
    pub async fn access(&self, pairs: &[Pair]) -> Result<HashMap<Pair, Access>, Error> {
        either!(self, store => store.access(pairs))
    }

    /// All memberships of a user, unless the asker knows them.
    pub async fn memberships(&self, user: UserId, known_version: i64) -> Result<Memberships, Error> {
        either!(self, store => store.memberships(user, known_version))
    }

    /// Makes a change if it is allowed, under the conversation's lock.
    pub async fn change(
        &self,
        id: ConversationId,
        actor: UserId,
        change: &Change,
        bounds: Bounds,
    ) -> Result<Changed, Error> {
        either!(self, store => store.change(id, actor, change, bounds))
    }

    /// Ends some memberships of a user whose account is deleted, and lets nobody bring the user in again. When there are
    /// no more, moves the cursor of auth's facts with the last of them.
    pub async fn end_account(&self, ended: EndedAccount, at: Timestamp) -> Result<Ending, Error> {
        either!(self, store => store.end_account(ended, at))
    }

    /// Moves the cursor over a fact that has no effect here. `false` when it was not where it was thought to be.
    pub async fn pass_over(&self, from: i64, to: i64) -> Result<bool, Error> {
        either!(self, store => store.pass_over(from, to))
    }

    /// Up to which position auth's facts have been applied.
    pub async fn cursor(&self) -> Result<i64, Error> {
        either!(self, store => store.cursor())
    }

    /// Our own facts after a position, oldest first.
    pub async fn facts(&self, after: i64, limit: i64) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        either!(self, store => store.facts(after, limit))
    }
}

/// A user somewhere.
pub type Pair = (ConversationId, UserId);

/// What a change is bound by.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most members that a conversation may have.
    pub max_members: i64,
    /// What time it is.
    pub now: Timestamp,
}

/// A change that was made.
#[derive(Clone, Debug)]
pub struct Changed {
    /// Everything as it is after it.
    pub situation: Situation,
    /// Whether there are new facts.
    pub has_facts: bool,
}

/// A fact of auth: an account is deleted.
#[derive(Clone, Copy, Debug)]
pub struct EndedAccount {
    /// Whose.
    pub user_id: UserId,
    /// The position up to which auth's facts are applied.
    pub from: i64,
    /// The position of this fact.
    pub to: i64,
}

/// How far the memberships of a deleted user have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All of them, and the cursor has moved.
    Complete,
    /// There are more: call again.
    Partial,
    /// Another replica has moved the cursor; nothing was done.
    Overtaken,
}

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The same may work soon.
    #[error("the database is busy or away")]
    Transient(#[source] sqlx::Error),
    /// It will not work however often it is tried.
    #[error("the database refuses")]
    Permanent(#[source] sqlx::Error),
    /// What is stored cannot be what was written.
    #[error("the database holds {0}")]
    Corrupt(&'static str),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if database::is_transient(&error) {
            Self::Store(Failure::Transient(error))
        } else {
            Self::Store(Failure::Permanent(error))
        }
    }
}

/// Numbers in columns, as the contract has them.
mod code {
    use crate::conversation::Kind;
    use crate::role::Role;

    pub fn of_kind(kind: Kind) -> i64 {
        match kind {
            Kind::Direct => 1,
            Kind::Group => 2,
            Kind::Discussion => 3,
            Kind::Channel => 4,
            Kind::Room => 5,
        }
    }

    pub fn kind(code: i64) -> Result<Kind, super::Failure> {
        match code {
            1 => Ok(Kind::Direct),
            2 => Ok(Kind::Group),
            3 => Ok(Kind::Discussion),
            4 => Ok(Kind::Channel),
            5 => Ok(Kind::Room),
            _ => Err(super::Failure::Corrupt("an unknown kind of conversation")),
        }
    }

    pub fn of_role(role: Role) -> i64 {
        match role {
            Role::Muted => 1,
            Role::Member => 2,
            Role::Moderator => 3,
            Role::Owner => 4,
        }
    }

    pub fn role(code: i64) -> Result<Role, super::Failure> {
        match code {
            1 => Ok(Role::Muted),
            2 => Ok(Role::Member),
            3 => Ok(Role::Moderator),
            4 => Ok(Role::Owner),
            _ => Err(super::Failure::Corrupt("an unknown role")),
        }
    }
}

/// The slices to write in one statement each: powers of two, so that few statement texts exist.
fn batches<T>(mut items: &[T], most: usize) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = most.min(1 << items.len().checked_ilog2()?);
        let (batch, rest) = items.split_at(size);
        items = rest;
        Some(batch)
    })
}

/// The same items with the last one repeated, until there are a power of two of them: for questions in which an item
/// may stand twice, so that few statement texts exist.
fn padded<T: Copy>(items: &[T]) -> impl Iterator<Item = T> {
    let missing = if items.is_empty() { 0 } else { items.len().next_power_of_two() - items.len() };
    items.iter().copied().chain(items.last().copied().into_iter().cycle().take(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_powers_of_two_and_leave_nothing_out() {
        for n in 0..200_usize {
            let items: Vec<usize> = (0..n).collect();
            let batches: Vec<_> = batches(&items, 64).collect();
            assert!(batches.iter().all(|batch| batch.len().is_power_of_two() && batch.len() <= 64));
            assert_eq!(batches.concat(), items);
        }
    }

    #[test]
    fn padding_repeats_the_last() {
        let padded = |n: usize| padded(&(0..n).collect::<Vec<_>>()).collect::<Vec<_>>();
        assert_eq!(padded(0), [] as [usize; 0]);
        assert_eq!(padded(1), [0]);
        assert_eq!(padded(4), [0, 1, 2, 3]);
        assert_eq!(padded(5), [0, 1, 2, 3, 4, 4, 4, 4]);
    }
}
