//! What is between two people, and what either may do about it: rules without a database.
//!
//! ```text
//!            send                    accept
//! nothing ─────────► pending ───────────────► accepted (connected, or open for messages)
//!    ▲                │ │  ╲ the other blocks
//!    │   cancel,      │ │   ╲
//!    └── reject ◄─────┘ │    ► withheld ── cancel ──► cancelled
//!        (ask again)    │         │
//!                       └─────────┴── both ask ──► accepted
//! ```
//!
//! A block beats everything: while one of the two blocks the other, neither writes, and nothing comes to be between them.
//! The one who is blocked is not told. What it has asked goes on waiting, for its own eyes only, until it takes it back;
//! what it asks from then on waits in the same way. Lifting the block brings nothing back. When the one who had blocked
//! asks for the same afterwards, the two meet, as the other has every reason to expect.
//!
//! The one who is blocked reads as one who has to ask, and once it has asked, as one who waits. The same answers, each
//! decided in one place ([`Between::writing`] for all but the last two rows):
//!
//! | it                        | has not asked                        | has asked                            |
//! |---------------------------|--------------------------------------|--------------------------------------|
//! | looks at the contact      | `request_needed`                     | its message request is pending       |
//! | writes, reacts, edits     | asks; reaches nobody: REQUEST_PENDING | REQUEST_PENDING                      |
//! | types                     | CONTACT_NOT_ACCEPTED                 | REQUEST_PENDING                      |
//! | calls, books, looks for free slots | CONTACT_NOT_ACCEPTED        | CONTACT_NOT_ACCEPTED                 |
//! | looks at read marks       | sees its own                         | sees its own                         |
//! | asks to be connected      | its request is pending               | its request is pending               |
//! | brings it into a group, makes a conversation | CONTACT_NOT_ACCEPTED | CONTACT_NOT_ACCEPTED              |
//! | looks whether it is there | as one who was never there           | as one who was never there           |

mod turn;

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::{ConversationId, RequestId, UserId};
use uuid::Uuid;

pub use self::turn::MOST_CONNECTIONS;
use self::turn::Turn;
use crate::conversation::Pair;
use crate::error::Error;
use crate::request::{Kind, Request, State};

/// So often may one person ask another for the same in a [`DAY`].
pub const REQUESTS_A_DAY: usize = 3;
/// In which time requests are counted.
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What is between two people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The two.
    pub pair: Pair,
    /// Goes up by one with every change; 0 when there was none.
    pub version: i64,
    /// Since when they are connected.
    pub connected: Option<Timestamp>,
    /// Whether they may write to each other whatever they have set.
    pub open: bool,
    /// Since when the one with the smaller id blocks the other.
    pub low_blocks: Option<Timestamp>,
    /// Since when the one with the larger id blocks the other.
    pub high_blocks: Option<Timestamp>,
    /// The request by which they are connected, or the last one since they were.
    pub connection: Option<Request>,
    /// The last message request.
    pub message: Option<Request>,
}

/// What one of the two does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Asks to be connected. The same id again is the same call again.
    Connect(Option<Uuid>),
    /// Wants to write into the direct conversation.
    Write,
    /// Takes its own request back.
    Cancel(Kind),
    /// Says yes to the other's request.
    Accept(Kind),
    /// Says no to the other's request.
    Reject(Kind),
    /// Ends the connection.
    Disconnect,
    /// Blocks the other.
    Block,
    /// Blocks the other no longer.
    Unblock,
    /// Is gone. Nobody asks for this: it has happened.
    EndAccount,
}

/// What else an act depends on. Only true while both people's rows are locked.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// The one who acts.
    pub own: Load,
    /// The other one.
    pub other: Load,
    /// When the one who acts last asked the other for the same within a [`DAY`], latest first, at most
    /// [`REQUESTS_A_DAY`].
    pub asked: Vec<Timestamp>,
    /// The direct conversation of the two.
    pub conversation: Option<Direct>,
    /// The id of a request that comes to be.
    pub new_id: RequestId,
    /// What time it is.
    pub now: Timestamp,
}

impl Circumstances {
    /// Of two who have nothing to do with each other.
    pub fn none(now: Timestamp) -> Self {
        let (own, other) = (Load::default(), Load::default());
        Self { own, other, asked: vec![], conversation: None, new_id: RequestId::generate(), now }
    }
}

/// How much a person has of what has bounds, and whether strangers have to ask it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Whether strangers have to ask before they write.
    pub gated: bool,
    /// How many of its requests wait.
    pub waiting: i64,
    /// With how many it is connected.
    pub connections: i64,
    /// How many it blocks.
    pub blocks: i64,
}

/// The direct conversation of two people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direct {
    /// The conversation.
    pub id: ConversationId,
    /// Its membership version.
    pub membership_version: i64,
    /// Whether it depends on what the two have set who may write.
    pub gated: bool,
}

/// What comes of an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What is between the two from now on.
    pub standing: Standing,
    /// The request that the act is about, as the one who acts may know it.
    pub answer: Option<Request>,
    /// The requests that are new or different.
    pub changes: Vec<Change>,
    /// Whether the conversation gets another membership version: a message request begins a new round.
    pub begins_round: bool,
    /// Whether the conversation depends on what the two have set, from now on.
    pub closes: bool,
    /// Whether the one who acts blocks the other, and did not before.
    pub blocks: bool,
}

/// A request that is new or different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// As it is now.
    pub request: Request,
    /// Whether others are told.
    pub told: bool,
    /// For whom alone it is over, and who alone is told so. It goes on waiting for its author, who is told nothing.
    pub over_for: Option<UserId>,
}

impl Change {
    /// The request as others are told of it, and whom alone to tell; `None` when nobody is told.
    pub fn news(&self) -> Option<(Request, Option<UserId>)> {
        if self.over_for.is_some() {
            return Some((Request { state: State::Cancelled, ..self.request.clone() }, self.over_for));
        }
        self.told.then(|| (self.request.clone(), None))
    }
}

/// Whether one of the two may write into their direct conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// As it likes.
    Free,
    /// Not now.
    Refused,
    /// After [`Act::Write`].
    Needed,
    /// Its request waits, and no message goes with it: the other one blocks it.
    Unheard {
        /// The membership version with which the request was made.
        request_version: i64,
    },
    /// The one message that is the request, if it has written nothing since the conversation had this membership
    /// version.
    Waiting {
        /// That version.
        request_version: i64,
    },
}

/// What [`Writing`] depends on, seen by the one who wants to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Between {
    /// True when the one who wants to write blocks the other.
    pub blocks: bool,
    /// True when the other one blocks the one who wants to write.
    pub blocked: bool,
    /// Whether they are connected, or may write to each other whatever they have set.
    pub open: bool,
    /// The message request that waits: its author is the one who wants to write, its state, its version.
    pub waits: Option<(bool, State, i64)>,
    /// Whether strangers have to ask the one who wants to write.
    pub own_gated: bool,
    /// Whether strangers have to ask the other one.
    pub other_gated: bool,
}

impl Between {
    /// Whether the one who wants to write may, in a conversation that depends on what the two have set or does not.
    pub fn writing(&self, gated: bool) -> Writing {
        if self.blocks {
            return Writing::Refused;
        }
        if self.blocked {
            return match self.waits {
                Some((true, _, request_version)) => Writing::Unheard { request_version },
                Some((false, ..)) | None => Writing::Needed,
            };
        }
        if self.open || !gated {
            return Writing::Free;
        }
        match self.waits {
            Some((true, _, request_version)) => Writing::Waiting { request_version },
            Some((false, State::Pending, _)) => Writing::Refused,
            // The other waits where the one who writes sees nothing: to write is to answer.
            Some((false, ..)) => Writing::Needed,
            None if self.other_gated || self.own_gated => Writing::Needed,
            None => Writing::Free,
        }
    }
}

impl Standing {
    /// Two who have nothing to do with each other.
    pub fn none(pair: Pair) -> Self {
        Self {
            pair,
            version: 0,
            connected: None,
            open: false,
            low_blocks: None,
            high_blocks: None,
            connection: None,
            message: None,
        }
    }

    /// Since when one of the two blocks the other.
    pub fn blocked_by(&self, user: UserId) -> Option<Timestamp> {
        if user == self.pair.low() { self.low_blocks } else { self.high_blocks }
    }

    /// Whether one of them blocks the other.
    pub fn is_blocked(&self) -> bool {
        self.low_blocks.is_some() || self.high_blocks.is_some()
    }

    /// The last request of a kind.
    pub fn last(&self, kind: Kind) -> Option<&Request> {
        match kind {
            Kind::Connection => self.connection.as_ref(),
            Kind::Message => self.message.as_ref(),
        }
    }

    /// The request of a kind that waits.
    pub fn waiting(&self, kind: Kind) -> Option<&Request> {
        self.last(kind).filter(|request| request.state.waits())
    }

    /// How many requests of one of the two wait for the other.
    pub fn waiting_of(&self, user: UserId) -> i64 {
        let of = |kind| self.waiting(kind).is_some_and(|request| request.from == user);
        i64::from(of(Kind::Connection)) + i64::from(of(Kind::Message))
    }

    /// What decides whether one of the two may write.
    pub fn between(&self, user: UserId, own_gated: bool, other_gated: bool) -> Between {
        let version = |request: &Request| request.message.map_or(0, |place| place.request_version);
        let waits = self.waiting(Kind::Message);
        Between {
            blocks: self.blocked_by(user).is_some(),
            blocked: self.blocked_by(self.pair.other_than(user)).is_some(),
            open: self.open || self.connected.is_some(),
            waits: waits.map(|request| (request.from == user, request.state, version(request))),
            own_gated,
            other_gated,
        }
    }

    /// Whether it is allowed, and what comes of it. Nothing to do is no error: a repeated call finds its work done.
    pub fn act(&self, by: UserId, act: Act, at: &Circumstances) -> Result<Outcome, Error> {
        let outcome = Outcome {
            standing: self.clone(),
            answer: None,
            changes: vec![],
            begins_round: false,
            closes: false,
            blocks: false,
        };
        let mut turn = Turn { by, other: self.pair.other_than(by), at, outcome };
        let about = match act {
            Act::Connect(retry) => {
                turn.connect(retry)?;
                Some(Kind::Connection)
            }
            Act::Write => {
                turn.write()?;
                Some(Kind::Message)
            }
            Act::Cancel(kind) => {
                turn.cancel(kind)?;
                Some(kind)
            }
            Act::Accept(kind) => {
                turn.accept(kind)?;
                Some(kind)
            }
            Act::Reject(kind) => {
                turn.reject(kind)?;
                Some(kind)
            }
            Act::Disconnect => {
                turn.disconnect();
                None
            }
            Act::Block => {
                turn.block()?;
                None
            }
            Act::Unblock => {
                turn.set_block(None);
                None
            }
            Act::EndAccount => {
                turn.end_account();
                None
            }
        };
        let mut outcome = turn.outcome;
        outcome.answer = about.and_then(|kind| outcome.standing.last(kind)).cloned();
        outcome.answer = outcome.answer.and_then(|request| request.seen_by(by));
        if outcome.standing != *self {
            outcome.standing.version += 1;
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests;
