//! How a call stands, and what may become of it. No I/O: the time comes in, and what changed goes out.
//!
//! ```text
//!            accept (one device)            end, both lost, one lost or away for too long, session ended
//!  Ringing ----------------------> Accepted ------------------------------------> Ended
//!     | caller ends, or its device      | not both connected, longest time: Failed
//!     |   is away for too long: Cancelled
//!     | callee rejects: Rejected
//!     | time: Missed                        (Busy, and Missed when the callee is offline, are over from the start)
//! ```
//!
//! A device is away from the end of its last connection to us until it connects again. One that never had a connection is
//! not away. That it has lost the other device is another thing, which it says itself.
//!
//! Whatever is live has a deadline, and time alone leads from it to an end: nothing rings or talks for ever because a
//! device has gone. The deadline is applied before anything else, so that what comes too late finds the call over,
//! whether a timer has said so before or not.

mod away;
mod talk;
mod wish;

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::{CallId, ConversationId, SessionId, UserId};
use uuid::Uuid;

pub use away::Away;
pub use talk::Talk;
use talk::within;
pub use wish::{Wish, wish};

/// Stands for one whose account is gone.
pub fn nobody() -> UserId {
    Uuid::nil().into()
}

/// How long what may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spans {
    /// How long a call rings.
    pub ring: Duration,
    /// How long the devices may take to be connected, the first time and again.
    pub connect: Duration,
    /// How long a call may be accepted.
    pub longest: Duration,
}

/// One device of a person: a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    /// Whose it is.
    pub user: UserId,
    /// Which one.
    pub session: SessionId,
}

/// What goes over a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// Voices.
    Audio,
    /// Voices and pictures.
    Video,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which one.
    pub id: CallId,
    /// The direct conversation of the two.
    pub conversation: ConversationId,
    /// The device that calls. Its user is [`nobody`] when the account is gone.
    pub caller: Device,
    /// Who is called; [`nobody`] when the account is gone.
    pub callee: UserId,
    /// What goes over it.
    pub media: Media,
    /// Goes up by one with every change; 1 at the beginning.
    pub version: i64,
    /// When it began.
    pub create_time: Timestamp,
    /// It rings no longer than this.
    pub ring_until: Timestamp,
    /// How it stands.
    pub stage: Stage,
    /// Those of its devices that are away.
    pub away: Away,
}

/// How a call stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// At all devices of the one who is called.
    Ringing,
    /// One of them has answered.
    Accepted(Talk),
    /// Nothing becomes of it any more.
    Over(Ending),
}

/// How a call is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How.
    pub outcome: Outcome,
    /// When.
    pub time: Timestamp,
    /// Who ended it; `None` for nobody.
    pub by: Option<UserId>,
    /// What is known of the talk, when it was answered.
    pub talk: Option<Talk>,
    /// How long they were connected, when that is known.
    pub duration: Option<Duration>,
}

/// How a call is over, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was answered, and somebody has ended it.
    Ended,
    /// The one who was called did not want it.
    Rejected,
    /// The one who was called was in another call.
    Busy,
    /// Nobody answered in time, or the one who was called was offline.
    Missed,
    /// The caller gave up before anybody answered.
    Cancelled,
    /// It was answered and broke.
    Failed,
}

/// What somebody does to a call, or time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing but that time passes.
    Pass,
    /// A device answers.
    Accept(Device),
    /// A device says that its user does not want it.
    Reject(Device),
    /// A device ends it.
    End(Device),
    /// A device is connected, since then or since now.
    Connected(Device, Option<Timestamp>),
    /// A device has lost the other, then or now.
    Disconnected(Device, Option<Timestamp>),
    /// The last connection of a device is gone.
    Left(Device),
    /// A device is connected again.
    Back(Device),
    /// The session of a device has ended.
    SessionEnded(Device),
    /// All sessions of one of the two have ended.
    SessionsEnded(UserId),
    /// The account of one of the two is gone.
    Gone(UserId),
    /// One of the two blocks the other: as if that one had ended it, on whatever device.
    Blocked(UserId),
}

/// Why somebody may not do that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The call is none of theirs.
    NotTheirs,
    /// Only the one who is called answers.
    NotCallee,
    /// Another device of theirs is in it.
    Elsewhere,
    /// Nobody has accepted it yet.
    NotAccepted,
    /// It is over.
    Over(Outcome),
}

/// What came of an act. That its time was over may have changed the call and refused the act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acted {
    /// Whether the call is another one than before.
    pub changed: bool,
    /// Why the act itself was not done; `None` when it is done, now or since before.
    pub refusal: Option<Refusal>,
}

/// The two of a call, and where they have it from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The device that calls.
    pub from: Device,
    /// Who is called.
    pub to: UserId,
    /// Their direct conversation.
    pub conversation: ConversationId,
    /// What goes over it.
    pub media: Media,
}

/// Where a signal goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// To whom.
    pub user: UserId,
    /// To which device; `None` for all.
    pub session: Option<SessionId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Caller,
    Callee,
}

impl Call {
    /// One that begins to ring.
    pub fn ringing(id: CallId, pair: Pair, now: Timestamp, spans: &Spans) -> Self {
        Self {
            id,
            conversation: pair.conversation,
            caller: pair.from,
            callee: pair.to,
            media: pair.media,
            version: 1,
            create_time: now,
            ring_until: now.plus(spans.ring),
            stage: Stage::Ringing,
            away: Away::default(),
        }
    }

    /// One that is over at once, because the other is in another call.
    pub fn busy(id: CallId, pair: Pair, now: Timestamp) -> Self {
        Self::over_at_once(Outcome::Busy, id, pair, now)
    }

    /// One that is over at once, because the other is offline.
    pub fn missed(id: CallId, pair: Pair, now: Timestamp) -> Self {
        Self::over_at_once(Outcome::Missed, id, pair, now)
    }

    fn over_at_once(outcome: Outcome, id: CallId, pair: Pair, now: Timestamp) -> Self {
        let ending = Ending { outcome, time: now, by: None, talk: None, duration: None };
        let never = Spans { ring: Duration::ZERO, connect: Duration::ZERO, longest: Duration::ZERO };
        Self { stage: Stage::Over(ending), ..Self::ringing(id, pair, now, &never) }
    }

    /// Whether something may still become of it.
    pub fn is_live(&self) -> bool {
        self.deadline().is_some()
    }

    /// When time alone changes it; `None` when it is over.
    pub fn deadline(&self) -> Option<Timestamp> {
        let deadline = match &self.stage {
            Stage::Ringing => self.ring_until,
            Stage::Accepted(talk) => talk.deadline,
            Stage::Over(_) => return None,
        };
        Some(self.away.until().map_or(deadline, |until| until.min(deadline)))
    }

    /// What is known of the talk, when it was answered.
    pub fn talk(&self) -> Option<&Talk> {
        match &self.stage {
            Stage::Ringing => None,
            Stage::Accepted(talk) => Some(talk),
            Stage::Over(ending) => ending.talk.as_ref(),
        }
    }

    /// How it is over, when it is.
    pub fn ending(&self) -> Option<&Ending> {
        match &self.stage {
            Stage::Ringing | Stage::Accepted(_) => None,
            Stage::Over(ending) => Some(ending),
        }
    }

    /// Whether the two were connected. The word of one is believed where the call has not failed over the other.
    pub fn was_connected(&self) -> bool {
        let is_believed = self.ending().is_some_and(|ending| ending.outcome == Outcome::Ended);
        self.talk().is_some_and(|talk| talk.connect_time.is_some() && (is_believed || talk.both_connected()))
    }

    /// Whether this is one of the two.
    pub fn has(&self, user: UserId) -> bool {
        self.side(user).is_some()
    }

    /// The other one.
    pub fn peer_of(&self, user: UserId) -> UserId {
        if self.caller.user == user { self.callee } else { self.caller.user }
    }

    /// As it stands at a time, whether that has been written down or not.
    pub fn at(mut self, now: Timestamp) -> Self {
        self.pass(now);
        self
    }

    /// Does something to it, after what time has done.
    pub fn act(&mut self, act: Act, now: Timestamp, spans: &Spans) -> Acted {
        let passed = self.pass(now);
        let done = match act {
            Act::Pass => Ok(false),
            Act::Accept(device) => self.accept(device, now, spans),
            Act::Reject(device) => self.reject(device, now),
            Act::End(device) => self.end(device.user, now),
            Act::Connected(device, time) => self.connected(device, time, now),
            Act::Disconnected(device, time) => self.disconnected(device, time, now, spans),
            Act::Left(device) => Ok(self.left(device, now, spans)),
            Act::Back(device) => Ok(self.back(device)),
            Act::SessionEnded(device) => Ok(self.session_ended(device, now)),
            Act::SessionsEnded(user) | Act::Gone(user) => self.gone(user, now),
            Act::Blocked(user) => self.end(user, now),
        };
        Acted { changed: passed || done == Ok(true), refusal: done.err() }
    }

    /// Where a signal of a device goes.
    pub fn route(&self, from: Device) -> Result<Route, Refusal> {
        let side = self.side(from.user).ok_or(Refusal::NotTheirs)?;
        let talk = match &self.stage {
            Stage::Ringing => None,
            Stage::Accepted(talk) => Some(talk),
            Stage::Over(ending) => return Err(Refusal::Over(ending.outcome)),
        };
        match side {
            Side::Caller if from != self.caller => Err(Refusal::Elsewhere),
            Side::Caller => Ok(Route { user: self.callee, session: talk.map(|talk| talk.session) }),
            Side::Callee if talk.is_some_and(|talk| talk.session != from.session) => Err(Refusal::Elsewhere),
            Side::Callee => Ok(Route { user: self.caller.user, session: Some(self.caller.session) }),
        }
    }

    fn side(&self, user: UserId) -> Option<Side> {
        if user == nobody() {
            None
        } else if user == self.caller.user {
            Some(Side::Caller)
        } else {
            (user == self.callee).then_some(Side::Callee)
        }
    }

    /// What time has done. Says whether it has done something.
    fn pass(&mut self, now: Timestamp) -> bool {
        let Some(deadline) = self.deadline().filter(|deadline| now >= *deadline) else { return false };
        let is_away = self.away.until() == Some(deadline);
        let outcome = match &self.stage {
            Stage::Ringing if is_away => Outcome::Cancelled,
            Stage::Accepted(talk) if is_away && talk.both_connected() => Outcome::Ended,
            // One has lost the other, and has not come back.
            Stage::Accepted(talk) if talk.is_lost() && deadline < talk.longest_until => Outcome::Ended,
            Stage::Accepted(_) => Outcome::Failed,
            Stage::Ringing | Stage::Over(_) => Outcome::Missed,
        };
        self.over(outcome, deadline, None);
        true
    }

    fn accept(&mut self, device: Device, now: Timestamp, spans: &Spans) -> Result<bool, Refusal> {
        if self.side_of(device)? == Side::Caller {
            return Err(Refusal::NotCallee);
        }
        match &self.stage {
            Stage::Ringing => {
                let longest_until = now.plus(spans.longest);
                self.change(Stage::Accepted(Talk {
                    session: device.session,
                    accept_time: now,
                    deadline: now.plus(spans.connect).min(longest_until),
                    longest_until,
                    connect_time: None,
                    caller_connected: false,
                    callee_connected: false,
                    caller_lost: None,
                    callee_lost: None,
                }));
                Ok(true)
            }
            Stage::Accepted(talk) if talk.session == device.session => Ok(false),
            Stage::Accepted(_) => Err(Refusal::Elsewhere),
            Stage::Over(ending) => Err(Refusal::Over(ending.outcome)),
        }
    }

    fn reject(&mut self, device: Device, now: Timestamp) -> Result<bool, Refusal> {
        if self.side_of(device)? == Side::Caller {
            return Err(Refusal::NotCallee);
        }
        match &self.stage {
            Stage::Ringing => Ok(self.over(Outcome::Rejected, now, Some(device.user))),
            // The device that has answered hangs up.
            Stage::Accepted(talk) if talk.session == device.session => {
                Ok(self.over(Outcome::Ended, now, Some(device.user)))
            }
            Stage::Accepted(_) => Err(Refusal::Elsewhere),
            Stage::Over(_) => Ok(false),
        }
    }

    fn end(&mut self, user: UserId, now: Timestamp) -> Result<bool, Refusal> {
        let side = self.side(user).ok_or(Refusal::NotTheirs)?;
        let outcome = match (&self.stage, side) {
            (Stage::Ringing, Side::Caller) => Outcome::Cancelled,
            (Stage::Ringing, Side::Callee) => Outcome::Rejected,
            (Stage::Accepted(_), _) => Outcome::Ended,
            (Stage::Over(_), _) => return Ok(false),
        };
        Ok(self.over(outcome, now, Some(user)))
    }

    fn connected(
        &mut self,
        device: Device,
        time: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<bool, Refusal> {
        let (side, mut talk) = self.talking(device)?;
        if let Stage::Over(ending) = &self.stage {
            return Err(Refusal::Over(ending.outcome));
        }
        let lost = talk.lost_of(side).take().is_some();
        let first = !std::mem::replace(talk.connected_of(side), true);
        if !lost && !first {
            return Ok(false);
        }
        if talk.connect_time.is_none() {
            talk.connect_time = Some(within(time, talk.accept_time, now));
        }
        // Until both are there it stays at the time they have for that: a device that is gone holds nobody for long.
        if talk.both_connected() && !talk.is_lost() {
            talk.deadline = talk.longest_until;
        }
        self.change(Stage::Accepted(talk));
        Ok(true)
    }

    fn disconnected(
        &mut self,
        device: Device,
        time: Option<Timestamp>,
        now: Timestamp,
        spans: &Spans,
    ) -> Result<bool, Refusal> {
        let (side, mut talk) = self.talking(device)?;
        let is_over = matches!(self.stage, Stage::Over(_));
        let Some(connect_time) = talk.connect_time.filter(|_| !is_over) else { return Ok(false) };
        let lost = talk.lost_of(side);
        if lost.is_some() {
            return Ok(false);
        }
        *lost = Some(within(time, connect_time, now));
        let both = talk.caller_lost.is_some() && talk.callee_lost.is_some();
        if talk.both_connected() {
            talk.deadline = now.plus(spans.connect).min(talk.longest_until);
        }
        if both {
            self.stage = Stage::Accepted(talk);
            return Ok(self.over(Outcome::Ended, now, None));
        }
        self.change(Stage::Accepted(talk));
        Ok(true)
    }

    fn gone(&mut self, user: UserId, now: Timestamp) -> Result<bool, Refusal> {
        let side = self.side(user).ok_or(Refusal::NotTheirs)?;
        let outcome = match (&self.stage, side) {
            (Stage::Ringing, Side::Caller) => Outcome::Cancelled,
            (Stage::Ringing, Side::Callee) => Outcome::Missed,
            (Stage::Accepted(_), _) => Outcome::Ended,
            (Stage::Over(_), _) => return Ok(false),
        };
        Ok(self.over(outcome, now, None))
    }

    fn side_of(&self, device: Device) -> Result<Side, Refusal> {
        self.side(device.user).ok_or(Refusal::NotTheirs)
    }

    /// The talk in which a device is.
    fn talking(&self, device: Device) -> Result<(Side, Talk), Refusal> {
        let side = self.side(device.user).ok_or(Refusal::NotTheirs)?;
        let Some(talk) = self.talk() else {
            return Err(match &self.stage {
                Stage::Over(ending) => Refusal::Over(ending.outcome),
                Stage::Ringing | Stage::Accepted(_) => Refusal::NotAccepted,
            });
        };
        let session = match side {
            Side::Caller => self.caller.session,
            Side::Callee => talk.session,
        };
        if session == device.session { Ok((side, talk.clone())) } else { Err(Refusal::Elsewhere) }
    }

    fn over(&mut self, outcome: Outcome, time: Timestamp, by: Option<UserId>) -> bool {
        // Nothing waits for a deadline any more.
        let talk = self.talk().map(|talk| Talk { deadline: talk.longest_until, ..talk.clone() });
        let duration = talk.as_ref().and_then(|talk| talk.duration(outcome, time));
        self.away = Away::default();
        self.change(Stage::Over(Ending { outcome, time, by, talk, duration }));
        true
    }

    fn change(&mut self, stage: Stage) {
        self.stage = stage;
        self.version += 1;
    }
}

impl Outcome {
    /// As a word in a sentence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Rejected => "rejected",
            Self::Busy => "busy",
            Self::Missed => "missed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests;
