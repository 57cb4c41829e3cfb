//! Conversations in a database: one text of SQL, compiled for SQLite and for PostgreSQL.

#[cfg(test)]
mod contract;
mod postgres;
mod sqlite;

use std::collections::HashMap;

use chassis::clock::Timestamp;
use chassis::database::facts::{Claim, History};
use chassis::database::{self, Database};
use proto::id::{ConversationId, UserId};

use crate::acquaintance::Acquaintance;
use crate::change::{Change, Situation};
use crate::contacts::RequestPlace;
use crate::conversation::{Pair as People, View};
use crate::conversations::Place;
use crate::create::{Created, Plan};
use crate::error::Error;
use crate::member::{Access, Ban, Member, Memberships};
use crate::paging::Page;
use crate::presence::{Presence, Report, Reported};
use crate::privacy::{Privacy, PrivacyChanges};
use crate::request::{Filter, Request};
use crate::role::Role;
use crate::standing::{Act, Standing};

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
    /// not shown them.
    pub async fn members(
        &self,
        id: ConversationId,
        viewer: UserId,
        at_least: Role,
        page: Page<(Timestamp, UserId)>,
    ) -> Result<Vec<Member>, Error> {
        either!(self, store => store.members(id, viewer, at_least, page))
    }

    /// The bans of a conversation that are in force now, oldest first; none when the viewer does not moderate it.
    pub async fn bans(
        &self,
        id: ConversationId,
        viewer: UserId,
        now: Timestamp,
        page: Page<(Timestamp, UserId)>,
    ) -> Result<Vec<Ban>, Error> {
        either!(self, store => store.bans(id, viewer, now, page))
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
    /// no more, takes the claim with the last of them.
    pub async fn end_account(&self, user_id: UserId, claim: &Claim, at: Timestamp) -> Result<Ending, Error> {
        either!(self, store => store.end_account(user_id, claim, at))
    }

    /// Does what one of two people does about the other if it is allowed, under the lock of both.
    pub async fn act(&self, pair: People, by: UserId, act: Act, at: Timestamp) -> Result<Acted, Error> {
        either!(self, store => store.act(pair, by, act, at))
    }

    /// What is between two people.
    pub async fn standing(&self, pair: People) -> Result<Standing, Error> {
        either!(self, store => store.standing(pair))
    }

    /// The direct conversation of two people, when there is one.
    pub async fn direct(&self, pair: People) -> Result<Option<DirectConversation>, Error> {
        either!(self, store => store.direct(pair))
    }

    /// Those among these users who do not let somebody bring them in, in no order.
    pub async fn unwilling(&self, by: UserId, users: &[UserId]) -> Result<Vec<UserId>, Error> {
        either!(self, store => store.unwilling(by, users))
    }

    /// What a person lets others do.
    pub async fn privacy(&self, user: UserId) -> Result<Privacy, Error> {
        either!(self, store => store.privacy(user))
    }

    /// Sets what a person lets others do. What holds then.
    pub async fn set_privacy(&self, user: UserId, changes: PrivacyChanges) -> Result<Privacy, Error> {
        either!(self, store => store.set_privacy(user, changes))
    }

    /// The requests of a person, newest first. One that is withheld is among those of its author that are pending, and
    /// nowhere else.
    pub async fn requests(
        &self,
        user: UserId,
        filter: Filter,
        page: Page<RequestPlace>,
    ) -> Result<Vec<Request>, Error> {
        either!(self, store => store.requests(user, filter, page))
    }

    /// How many requests of a person there are, of those that [`requests`](Self::requests) lists.
    pub async fn count_requests(&self, user: UserId, filter: Filter) -> Result<i64, Error> {
        either!(self, store => store.count_requests(user, filter))
    }

    /// How many people a person is connected with.
    pub async fn count_connections(&self, user: UserId) -> Result<i64, Error> {
        either!(self, store => store.count_connections(user))
    }

    /// With whom a person is connected, and since when, newest first.
    pub async fn connections(&self, user: UserId, page: Page<Place>) -> Result<Vec<Place>, Error> {
        either!(self, store => store.connections(user, page))
    }

    /// Whom a person blocks, and since when, newest first.
    pub async fn blocks(&self, user: UserId, page: Page<Place>) -> Result<Vec<Place>, Error> {
        either!(self, store => store.blocks(user, page))
    }

    /// Lets nothing come to be between a person and anybody any more, and forgets what it has set.
    pub async fn close_person(&self, user: UserId, at: Timestamp) -> Result<(), Error> {
        either!(self, store => store.close_person(user, at))
    }

    /// Ends what is between a closed person and some others. `false` when there is nothing any more.
    pub async fn end_contacts(&self, user: UserId, at: Timestamp) -> Result<bool, Error> {
        either!(self, store => store.end_contacts(user, at))
    }

    /// What auth has to be told by now, what waits longest first.
    pub async fn due_acquaintances(&self, now: Timestamp, limit: i64) -> Result<Vec<Acquaintance>, Error> {
        either!(self, store => store.due_acquaintances(now, limit))
    }

    /// Auth has taken note of this. What has come since is still to be told.
    pub async fn acquaintance_told(&self, told: &Acquaintance) -> Result<(), Error> {
        either!(self, store => store.acquaintance_told(told))
    }

    /// Auth has not taken note of this: it is told again then.
    pub async fn put_off_acquaintance(&self, told: &Acquaintance, due: Timestamp) -> Result<(), Error> {
        either!(self, store => store.put_off_acquaintance(told, due))
    }

    /// Takes in what a gateway saw, whose users are in the order of their ids, each once.
    pub async fn report_presence(&self, report: &Report, now: Timestamp) -> Result<Reported, Error> {
        either!(self, store => store.report_presence(report, now))
    }

    /// Whether users are there, as a viewer may see it. Those who hide it, or never were there, are left out.
    pub async fn presences(
        &self,
        viewer: UserId,
        users: &[UserId],
        now: Timestamp,
    ) -> Result<HashMap<UserId, Presence>, Error> {
        either!(self, store => store.presences(viewer, users, now))
    }

    /// The members of a conversation who are there now, in the order of their ids, without those who hide it from the
    /// viewer.
    pub async fn online_members(
        &self,
        id: ConversationId,
        viewer: UserId,
        now: Timestamp,
        page: Page<UserId>,
    ) -> Result<Vec<Member>, Error> {
        either!(self, store => store.online_members(id, viewer, now, page))
    }

    /// Clears up after some of those who were with a gateway whose lease has ended. Says whether there are more.
    pub async fn sweep_presence(&self, now: Timestamp, limit: i64) -> Result<bool, Error> {
        either!(self, store => store.sweep_presence(now, limit))
    }

    /// Our own facts after a position, oldest first.
    pub async fn facts(&self, after: i64, limit: i64) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        either!(self, store => store.facts(after, limit))
    }

    /// What there is to say of our facts as a whole, and the fact at a position. Ask after the facts.
    pub async fn history(&self, position: i64) -> Result<History, Error> {
        either!(self, store => store.history(position))
    }
}

/// What came of what one of two people did about the other.
#[derive(Clone, Debug)]
pub struct Acted {
    /// What is between them now.
    pub standing: Standing,
    /// The request it was about, as the one who did it may know it.
    pub answer: Option<Request>,
    /// Whether the request was made by this.
    pub is_new: bool,
    /// Whether others have something to learn of it.
    pub has_effects: bool,
}

/// The direct conversation of two people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectConversation {
    /// Its id.
    pub id: ConversationId,
    /// Whether it depends on what the two have set who may write there.
    pub depends_on_settings: bool,
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

/// How far the memberships of a deleted user have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All of them, and the fact is claimed.
    Complete,
    /// There are more: call again.
    Partial,
    /// Another replica has claimed the fact.
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
    use crate::acquaintance;
    use crate::conversation::Kind;
    use crate::privacy::{FirstContact, Visibility};
    use crate::request::{self, State};
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

    pub fn of_acquaintance(kind: acquaintance::Kind) -> i64 {
        match kind {
            acquaintance::Kind::Connection => 1,
            acquaintance::Kind::Block => 3,
        }
    }

    pub fn acquaintance(code: i64) -> Result<acquaintance::Kind, super::Failure> {
        match code {
            1 => Ok(acquaintance::Kind::Connection),
            3 => Ok(acquaintance::Kind::Block),
            _ => Err(super::Failure::Corrupt("an unknown kind of acquaintance")),
        }
    }

    pub fn of_request_kind(kind: request::Kind) -> i64 {
        match kind {
            request::Kind::Connection => 1,
            request::Kind::Message => 2,
        }
    }

    pub fn request_kind(code: i64) -> Result<request::Kind, super::Failure> {
        match code {
            1 => Ok(request::Kind::Connection),
            2 => Ok(request::Kind::Message),
            _ => Err(super::Failure::Corrupt("an unknown kind of request")),
        }
    }

    pub fn of_request_state(state: State) -> i64 {
        match state {
            State::Pending => 1,
            State::Accepted => 2,
            State::Rejected => 3,
            State::Cancelled => 4,
            State::Withheld => 5,
        }
    }

    pub fn request_state(code: i64) -> Result<State, super::Failure> {
        match code {
            1 => Ok(State::Pending),
            2 => Ok(State::Accepted),
            3 => Ok(State::Rejected),
            4 => Ok(State::Cancelled),
            5 => Ok(State::Withheld),
            _ => Err(super::Failure::Corrupt("an unknown state of a request")),
        }
    }

    pub fn of_first_contact(first_contact: FirstContact) -> i64 {
        match first_contact {
            FirstContact::Everyone => 1,
            FirstContact::AfterRequest => 2,
        }
    }

    pub fn first_contact(code: i64) -> Result<FirstContact, super::Failure> {
        match code {
            1 => Ok(FirstContact::Everyone),
            2 => Ok(FirstContact::AfterRequest),
            _ => Err(super::Failure::Corrupt("an unknown first contact")),
        }
    }

    pub fn of_visibility(visibility: Visibility) -> i64 {
        match visibility {
            Visibility::Everyone => 1,
            Visibility::Connections => 2,
            Visibility::Nobody => 3,
        }
    }

    pub fn visibility(code: i64) -> Result<Visibility, super::Failure> {
        match code {
            1 => Ok(Visibility::Everyone),
            2 => Ok(Visibility::Connections),
            3 => Ok(Visibility::Nobody),
            _ => Err(super::Failure::Corrupt("an unknown visibility")),
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
