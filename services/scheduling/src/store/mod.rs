//! Scheduled messages and timers in a database: one text of SQL, compiled for SQLite and for PostgreSQL.

#[cfg(test)]
mod contract;
#[cfg(test)]
mod contract_bookings;
#[cfg(test)]
mod contract_timers;
mod postgres;
mod sqlite;

use std::time::Duration;

use chassis::clock::{Clock, Timestamp};
use chassis::database::{self, Database, facts};
use proto::id::{ScheduledMessageId, UserId};

use crate::calls::machine::Spans;
use crate::conversations::Block;
use crate::error::Error;
use crate::scheduled_message::{Changes, Listing, Retry, ScheduledMessage, State};
use crate::store::calling::Changed;
use crate::timer::{Claim, Kind, Return};

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

mod calendar;
pub mod calling;

pub use calendar::{Booked, Booking};

impl Store {
    /// The store in an open database. The clock is for databases without one.
    pub fn new(database: Database, clock: Clock) -> Self {
        match database {
            Database::Sqlite(pool) => Self::Sqlite(sqlite::Store::new(pool, clock)),
            Database::Postgres(pool) => Self::Postgres(postgres::Store::new(pool, clock)),
        }
    }

    /// What time it is for everything here, and for all replicas alike: the server's on PostgreSQL, and on SQLite, which
    /// one process has for itself, that of the process. It is the past as soon as it is known, so what is compared with
    /// it may be late and is never early.
    pub async fn now(&self) -> Result<Timestamp, Error> {
        either!(self, store => store.now())
    }
}

/// Scheduled messages.
impl Store {
    /// What an earlier try of the same call has scheduled.
    pub async fn find(
        &self,
        author: UserId,
        retry: Option<&Retry>,
    ) -> Result<Option<ScheduledMessage>, Error> {
        either!(self, store => store.find(author, retry))
    }

    /// Schedules a message, unless an earlier try has. Refuses when as many are pending as are allowed.
    pub async fn schedule(
        &self,
        message: &ScheduledMessage,
        retry: Option<&Retry>,
        max_pending: u32,
    ) -> Result<Scheduled, Error> {
        either!(self, store => store.schedule(message, retry, max_pending))
    }

    /// One of somebody's scheduled messages.
    pub async fn get(
        &self,
        author: UserId,
        id: ScheduledMessageId,
    ) -> Result<Option<ScheduledMessage>, Error> {
        either!(self, store => store.get(author, id))
    }

    /// Some of somebody's scheduled messages, and one more when there is one.
    pub async fn list(&self, listing: Listing) -> Result<Vec<ScheduledMessage>, Error> {
        either!(self, store => store.list(listing))
    }

    /// Changes one that is pending and that nobody is sending or may have sent.
    pub async fn change(
        &self,
        author: UserId,
        id: ScheduledMessageId,
        changes: &Changes,
    ) -> Result<Tried, Error> {
        either!(self, store => store.change(author, id, changes))
    }

    /// Cancels one that is pending and that nobody is sending or may have sent, and erases its content.
    pub async fn cancel(&self, author: UserId, id: ScheduledMessageId) -> Result<Tried, Error> {
        either!(self, store => store.cancel(author, id))
    }

    /// Claims one that is pending, whatever its time is: its time is now.
    pub async fn begin(
        &self,
        author: UserId,
        id: ScheduledMessageId,
        lease: Duration,
    ) -> Result<Begun, Error> {
        either!(self, store => store.begin(author, id, lease))
    }

    /// Writes down what became of a claimed one, and that it waits for nothing any more. `None` when the claim is no
    /// longer the last: then nothing is changed.
    pub async fn finish(&self, claim: &Claim, end: &State) -> Result<Option<ScheduledMessage>, Error> {
        either!(self, store => store.finish(claim, end))
    }
}

/// Timers.
impl Store {
    /// Claims what is due, earliest first: at most so many, and only the first of each lane.
    pub async fn claim(
        &self,
        kind: Kind,
        limit: usize,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Claim>, Error> {
        either!(self, store => store.claim(kind, limit, lease, now))
    }

    /// Gives back what was claimed and is not done. `false` when the claim is no longer the last.
    pub async fn give_back(&self, claim: &Claim, back: Return) -> Result<bool, Error> {
        either!(self, store => store.give_back(claim, back))
    }

    /// When something can be claimed that cannot be yet.
    pub async fn next_wake_time(&self, kind: Kind, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        either!(self, store => store.next_wake_time(kind, now))
    }
}

/// Facts of others.
impl Store {
    /// Claims and applies the fact that a user is deleted. The pending messages of the user are cancelled, all content is
    /// erased, and nothing can be scheduled for the user any more. What is being sent at that moment finds its end by
    /// itself; messaging knows that its author is gone.
    pub async fn apply(&self, claim: &facts::Claim, user: UserId, now: Timestamp) -> Result<Applied, Error> {
        either!(self, store => store.apply(claim, user, now))
    }
}

/// What one person no longer wants to have with another.
impl Store {
    /// Claims and applies the fact that one person blocks another. A block ends the live call of the two as the one who blocks
    /// would, and cancels their bookings with each other in that one's name, of which nobody is told.
    pub async fn part(&self, claim: &facts::Claim, block: Block, spans: &Spans) -> Result<Parted, Error> {
        either!(self, store => store.part(claim, block, spans))
    }
}

/// What came of scheduling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheduled {
    /// It is scheduled now.
    New,
    /// An earlier try has scheduled this.
    Already(ScheduledMessage),
}

/// What came of something that can be done only while a message is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It is done.
    Done(ScheduledMessage),
    /// It is too late.
    Final(ScheduledMessage),
    /// It is being sent, or may have been.
    BeingSent,
}

/// What came of claiming one message.
#[derive(Clone, Debug)]
pub enum Begun {
    /// It may be sent now.
    Claimed(Claim),
    /// It is too late.
    Final(ScheduledMessage),
    /// Somebody else is sending it.
    BeingSent,
}

/// What came of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// A user is no more.
    Ended {
        /// How many messages were cancelled.
        cancelled: u64,
    },
    /// Another replica has claimed the fact; nothing was done.
    Overtaken,
}

/// What came of a fact about two people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parted {
    /// It is applied.
    Done {
        /// The call that has ended, when there was one.
        call: Option<Box<Changed>>,
        /// How many bookings were cancelled.
        cancelled: usize,
    },
    /// Another replica has claimed the fact; nothing was done.
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

/// Numbers in columns.
mod code {
    use super::Failure;
    use crate::scheduled_message::StateName;
    use crate::timer::Kind;

    /// As the contract has them.
    pub fn of_state(state: StateName) -> i64 {
        match state {
            StateName::Pending => 1,
            StateName::Sent => 2,
            StateName::Cancelled => 3,
            StateName::Failed => 4,
        }
    }

    pub fn state(code: i64) -> Result<StateName, Failure> {
        match code {
            1 => Ok(StateName::Pending),
            2 => Ok(StateName::Sent),
            3 => Ok(StateName::Cancelled),
            4 => Ok(StateName::Failed),
            _ => Err(Failure::Corrupt("an unknown state")),
        }
    }

    /// What a booking is: it stands, somebody has cancelled it, or messaging does not take its message.
    pub const BOOKED: i64 = 1;
    pub const CANCELLED: i64 = 2;
    pub const REFUSED: i64 = 3;

    pub fn of_kind(kind: Kind) -> i64 {
        match kind {
            Kind::ScheduledMessage => 1,
            Kind::Booking => 2,
            Kind::Reminder => 3,
            Kind::CallDeadline => 4,
            Kind::CallOutcome => 5,
        }
    }
}
