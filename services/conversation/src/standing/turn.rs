//! What an act does to what is between two people, step by step.

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::UserId;
use uuid::Uuid;

use super::{Change, Circumstances, DAY, Outcome, REQUESTS_A_DAY, Standing, Writing};
use crate::error::Error;
use crate::request::{Kind, Place, Request, State};

/// As many requests of one person may wait.
pub(super) const MOST_WAITING: i64 = 100;
/// When it makes sense to look whether fewer wait.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(60 * 60);
/// With as many people may one be connected.
pub const MOST_CONNECTIONS: i64 = 5_000;
/// As many may one person block.
pub(super) const MOST_BLOCKED: i64 = 10_000;

/// An act under way.
pub struct Turn<'a> {
    pub by: UserId,
    pub other: UserId,
    pub at: &'a Circumstances,
    pub outcome: Outcome,
}

impl Turn<'_> {
    fn now(&self) -> &Standing {
        &self.outcome.standing
    }

    pub fn connect(&mut self, retry: Option<Uuid>) -> Result<(), Error> {
        if self.now().blocked_by(self.by).is_some() {
            return Err(Error::UserBlocked(self.other));
        }
        if self.now().connected.is_some() {
            return Ok(());
        }
        match self.now().waiting(Kind::Connection).cloned() {
            Some(own) if own.from == self.by => {
                if retry.is_some() && own.retry_id == retry {
                    Ok(())
                } else {
                    Err(Error::RequestPending(own.id))
                }
            }
            Some(theirs) => {
                self.be_connected()?;
                self.end(Request { met_retry_id: retry, ..theirs }, State::Accepted, true);
                Ok(())
            }
            None => {
                let seen = self.now().blocked_by(self.other).is_none();
                self.ask(Kind::Connection, None, retry, if seen { State::Pending } else { State::Withheld })
            }
        }
    }

    pub fn write(&mut self) -> Result<(), Error> {
        let Some(direct) = self.at.conversation else { return Ok(()) };
        let between = self.now().between(self.by, self.at.own.gated, self.at.other.gated);
        if between.writing(direct.gated) != Writing::Needed {
            return Ok(());
        }
        if let Some(theirs) = self.now().waiting(Kind::Message).cloned() {
            self.outcome.standing.open = true;
            self.end(theirs, State::Accepted, true);
        } else if self.at.other.gated || between.blocked {
            let place = Place { conversation_id: direct.id, request_version: direct.membership_version + 1 };
            let state = if between.blocked { State::Withheld } else { State::Pending };
            self.ask(Kind::Message, Some(place), None, state)?;
            self.outcome.begins_round = true;
        } else {
            // Who takes nobody unasked and writes first wants to be answered.
            self.outcome.standing.open = true;
        }
        Ok(())
    }

    fn ask(
        &mut self,
        kind: Kind,
        message: Option<Place>,
        retry_id: Option<Uuid>,
        state: State,
    ) -> Result<(), Error> {
        if let Some(first) = self.at.asked.get(REQUESTS_A_DAY - 1) {
            return Err(Error::RateLimited { wait: first.plus(DAY).since(self.at.now) });
        }
        if self.at.own.waiting >= MOST_WAITING {
            return Err(Error::RateLimited { wait: LOOK_AGAIN });
        }
        let request = Request {
            id: self.at.new_id,
            kind,
            from: self.by,
            to: self.other,
            state,
            version: 1,
            message,
            retry_id,
            met_retry_id: None,
            create_time: self.at.now,
            answer_time: None,
        };
        self.put(request, state == State::Pending);
        Ok(())
    }

    pub fn cancel(&mut self, kind: Kind) -> Result<(), Error> {
        let own = self.now().last(kind).filter(|request| request.from == self.by).cloned();
        let own = own.ok_or(Error::RequestNotFound(self.other))?;
        match own.state {
            State::Pending => self.end(own, State::Cancelled, true),
            State::Withheld => self.end_withheld(own),
            State::Cancelled => {}
            answered @ (State::Accepted | State::Rejected) => return Err(Error::RequestAnswered(answered)),
        }
        Ok(())
    }

    pub fn accept(&mut self, kind: Kind) -> Result<(), Error> {
        let theirs = self.theirs(kind)?;
        match (theirs.state, kind) {
            (State::Pending, Kind::Connection) => self.be_connected()?,
            (State::Pending, Kind::Message) => self.outcome.standing.open = true,
            (State::Accepted, _) => return Ok(()),
            (State::Withheld, _) => return Err(Error::RequestNotFound(self.other)),
            (answered @ (State::Rejected | State::Cancelled), _) => {
                return Err(Error::RequestAnswered(answered));
            }
        }
        self.end(theirs, State::Accepted, true);
        Ok(())
    }

    pub fn reject(&mut self, kind: Kind) -> Result<(), Error> {
        let theirs = self.theirs(kind)?;
        match theirs.state {
            State::Pending => self.end(theirs, State::Rejected, true),
            State::Rejected => {}
            State::Withheld => return Err(Error::RequestNotFound(self.other)),
            answered @ (State::Accepted | State::Cancelled) => return Err(Error::RequestAnswered(answered)),
        }
        Ok(())
    }

    fn theirs(&self, kind: Kind) -> Result<Request, Error> {
        let theirs = self.now().last(kind).filter(|request| request.to == self.by).cloned();
        theirs.ok_or(Error::RequestNotFound(self.other))
    }

    /// The two are connected. A message request that waits between them has its answer by it.
    fn be_connected(&mut self) -> Result<(), Error> {
        if self.at.own.connections.max(self.at.other.connections) >= MOST_CONNECTIONS {
            return Err(Error::TooManyConnections { most: MOST_CONNECTIONS });
        }
        self.outcome.standing.connected = Some(self.at.now);
        if let Some(waiting) = self.now().waiting(Kind::Message).cloned() {
            self.outcome.standing.open = true;
            self.end(waiting, State::Accepted, true);
        }
        Ok(())
    }

    /// The two are not connected. The request by which they were says nothing any more.
    pub fn disconnect(&mut self) {
        if self.now().connected.is_some() {
            self.outcome.standing.connected = None;
            self.outcome.standing.connection = None;
        }
    }

    pub fn block(&mut self) -> Result<(), Error> {
        if self.now().blocked_by(self.by).is_some() {
            return Ok(());
        }
        if self.at.own.blocks >= MOST_BLOCKED {
            return Err(Error::TooManyBlocked { most: MOST_BLOCKED });
        }
        self.set_block(Some(self.at.now));
        self.outcome.blocks = true;
        self.disconnect();
        self.outcome.standing.open = false;
        self.outcome.closes = self.at.conversation.is_some_and(|direct| !direct.gated);
        for kind in [Kind::Connection, Kind::Message] {
            match self.now().waiting(kind).cloned() {
                Some(own) if own.from == self.by && own.state == State::Withheld => self.end_withheld(own),
                // To the other it reads as if it was taken back, which it is.
                Some(own) if own.from == self.by => self.end(own, State::Cancelled, true),
                Some(theirs) if theirs.state == State::Pending => {
                    let version = theirs.version + 1;
                    self.withhold(Request { state: State::Withheld, version, ..theirs });
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    pub fn set_block(&mut self, since: Option<Timestamp>) {
        let is_low = self.by == self.now().pair.low();
        let standing = &mut self.outcome.standing;
        if is_low { standing.low_blocks = since } else { standing.high_blocks = since }
    }

    pub fn end_account(&mut self) {
        self.disconnect();
        self.outcome.standing.open = false;
        self.outcome.standing.low_blocks = None;
        self.outcome.standing.high_blocks = None;
        for kind in [Kind::Connection, Kind::Message] {
            match self.now().waiting(kind).cloned() {
                Some(own) if own.from == self.by && own.state == State::Withheld => self.end_withheld(own),
                Some(waiting) => self.end(waiting, State::Cancelled, true),
                None => {}
            }
        }
    }

    /// Takes back what the other never saw, or sees no longer. It is told of only where there is a message to go with it:
    /// with what was withheld from the beginning none was taken.
    fn end_withheld(&mut self, request: Request) {
        let told = request.kind == Kind::Message && request.version > 1;
        self.end(request, State::Cancelled, told);
    }

    fn end(&mut self, request: Request, state: State, told: bool) {
        let answer_time = Some(self.at.now);
        self.put(Request { state, version: request.version + 1, answer_time, ..request }, told);
    }

    /// To the one who is asked and now blocks it reads as if it was taken back; its author goes on waiting.
    fn withhold(&mut self, request: Request) {
        self.record(Change { request, told: false, over_for: Some(self.by) });
    }

    fn put(&mut self, request: Request, told: bool) {
        self.record(Change { request, told, over_for: None });
    }

    fn record(&mut self, change: Change) {
        let request = &change.request;
        let standing = &mut self.outcome.standing;
        let place = match request.kind {
            Kind::Connection => &mut standing.connection,
            Kind::Message => &mut standing.message,
        };
        *place = Some(request.clone());
        self.outcome.changes.push(change);
    }
}
