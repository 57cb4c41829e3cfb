//! What the store does with calls, whichever it is, and what comes of it.

#[cfg(test)]
mod contract;

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::{CallId, UserId};

use super::Store;
use crate::calls::machine::{Act, Acted, Call, Outcome, Pair, Spans};
use crate::error::Error;
use crate::scheduled_message::Retry;
use crate::timer::Claim;

/// A wish to call.
#[derive(Clone, Debug)]
pub struct Start {
    /// What a new call will be known by.
    pub id: CallId,
    /// Who calls whom.
    pub pair: Pair,
    /// A new call is over at once as missed, unless the other is in another call.
    pub callee_offline: bool,
    /// What a retry is known by.
    pub retry: Option<Retry>,
    /// How many calls the caller may begin in a minute.
    pub per_minute: u32,
    /// Whether this is only to accept a call of the other, and not to begin one.
    pub only_meet: bool,
}

/// What came of a wish to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// There is this call.
    Call {
        /// As it is now.
        call: Box<Call>,
        /// Whether the other had called.
        met: bool,
        /// Whether this has begun or changed it.
        changed: bool,
    },
    /// The other does not call any more, and nothing was begun.
    NotMet,
    /// The caller is in this call.
    InCall(CallId),
    /// The caller has begun too many, and waits so long.
    TooMany(Duration),
    /// The account of one of the two is gone.
    Gone(UserId),
}

/// What came of something that may have changed calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled<T> {
    /// What was asked for.
    pub outcome: T,
    /// Calls whose time was over, and which have been written down as such on the way.
    pub overdue: Vec<Call>,
    /// When.
    pub now: Timestamp,
}

/// What came of doing something to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// As it is now.
    pub call: Call,
    /// Whether it is another one than before, and whether the act was done.
    pub acted: Acted,
    /// When.
    pub now: Timestamp,
}

/// A place in a list of calls.
pub type Place = (Timestamp, CallId);

/// Which of somebody's calls.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Whose.
    pub user: UserId,
    /// Only those with one of these people; `None` for all.
    pub peers: Option<Vec<UserId>>,
    /// Only those in this state.
    pub state: Option<StateName>,
    /// Only the live one.
    pub active: bool,
    /// Only those to the user that nobody has answered.
    pub missed: bool,
    /// Only those before this place.
    pub before: Option<Place>,
    /// At most so many.
    pub limit: i64,
}

impl Listing {
    /// All calls of somebody.
    pub const fn all(user: UserId, limit: i64) -> Self {
        Self { user, peers: None, state: None, active: false, missed: false, before: None, limit }
    }
}

/// The state of a call in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateName {
    /// It rings.
    Ringing,
    /// It was answered.
    Accepted,
    /// It is over.
    Over(Outcome),
}

impl Store {
    /// What an earlier try of the same wish has begun, and whether the other had called.
    pub async fn find_call(
        &self,
        user: UserId,
        retry: Option<&Retry>,
    ) -> Result<Option<(Call, bool)>, Error> {
        either!(self, store => store.find_call(user, retry))
    }

    /// Begins a call, or finds out why not. However many do so at once, nobody gets into two calls, and two who call
    /// each other get into one.
    pub async fn start_call(&self, start: &Start, spans: &Spans) -> Result<Settled<Started>, Error> {
        either!(self, store => store.start_call(start, spans))
    }

    /// Does something to a call, by the time of the database. `None` when there is no such call.
    pub async fn change_call(&self, id: CallId, act: Act, spans: &Spans) -> Result<Option<Changed>, Error> {
        either!(self, store => store.change_call(id, act, spans))
    }

    /// A call as it was written down last.
    pub async fn call(&self, id: CallId) -> Result<Option<Call>, Error> {
        either!(self, store => store.call(id))
    }

    /// The call of a user that was live when it was written down last.
    pub async fn live_call(&self, user: UserId) -> Result<Option<Call>, Error> {
        either!(self, store => store.live_call(user))
    }

    /// The calls of these users that were live when they were written down last, each once.
    pub async fn live_calls(&self, users: &[UserId]) -> Result<Vec<Call>, Error> {
        either!(self, store => store.live_calls(users))
    }

    /// Some of somebody's calls, newest first, and one more when there is one.
    pub async fn calls(&self, listing: &Listing) -> Result<Vec<Call>, Error> {
        either!(self, store => store.calls(listing))
    }

    /// The people with whom a user has had calls, those of the latest calls first, at most so many. Deleted accounts are
    /// left out.
    pub async fn call_peers(&self, user: UserId, limit: i64) -> Result<Vec<UserId>, Error> {
        either!(self, store => store.call_peers(user, limit))
    }

    /// Ends the live call of one whose account is gone, and forgets the user: others keep their calls, without the name.
    /// Returns what has ended. The same again changes nothing.
    pub async fn forget_caller(&self, user: UserId, spans: &Spans) -> Result<Vec<Call>, Error> {
        either!(self, store => store.forget_caller(user, spans))
    }

    /// What was to be told about a call is told. `false` when the claim is no longer the last.
    pub async fn call_is_told(&self, claim: &Claim) -> Result<bool, Error> {
        either!(self, store => store.call_is_told(claim))
    }
}
