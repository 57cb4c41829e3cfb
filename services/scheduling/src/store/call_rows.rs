//! A call as a row, and the row as a call. Compiled once per database.

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::UserId;
use uuid::Uuid;

use super::super::super::super::Failure;
use super::super::super::super::calling::StateName;
use crate::calls::machine::{Away, Call, Device, Ending, Media, Outcome, Stage, Talk};
use crate::error::Error;

/// What a [`Call`] is made of, after `$before` and before `$after`; the table is `c`.
macro_rules! call_columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " c.call_id, c.conversation_id, c.caller_id, c.caller_session, c.callee_id, c.media, c.state, c.version,
              c.create_time, c.ring_until, c.deadline, c.callee_session, c.accept_time, c.longest_until,
              c.connect_time, c.caller_connected, c.callee_connected, c.caller_lost_time, c.callee_lost_time, c.end_time, c.ended_by, c.duration,
              c.caller_away_until, c.callee_away_until, c.talk_deadline ",
            $after
        )
    };
}

#[derive(sqlx::FromRow)]
pub(super) struct Record {
    call_id: Uuid,
    conversation_id: Uuid,
    caller_id: Uuid,
    caller_session: Uuid,
    callee_id: Uuid,
    media: i64,
    state: i64,
    version: i64,
    create_time: i64,
    ring_until: i64,
    deadline: Option<i64>,
    callee_session: Option<Uuid>,
    accept_time: Option<i64>,
    longest_until: Option<i64>,
    connect_time: Option<i64>,
    caller_connected: bool,
    callee_connected: bool,
    caller_lost_time: Option<i64>,
    callee_lost_time: Option<i64>,
    end_time: Option<i64>,
    ended_by: Option<Uuid>,
    duration: Option<i64>,
    caller_away_until: Option<i64>,
    callee_away_until: Option<i64>,
    talk_deadline: Option<i64>,
}

const CORRUPT: Error = Error::Store(Failure::Corrupt("a call without what belongs to its state"));

impl Record {
    pub(super) fn read(self) -> Result<Call, Error> {
        let time = Timestamp::from_millis;
        let talk = match (self.callee_session, self.accept_time, self.longest_until) {
            (Some(session), Some(accept_time), Some(longest_until)) => Some(Talk {
                session: session.into(),
                accept_time: time(accept_time),
                deadline: time(self.talk_deadline.or(self.deadline).unwrap_or(longest_until)),
                longest_until: time(longest_until),
                connect_time: self.connect_time.map(time),
                caller_connected: self.caller_connected,
                callee_connected: self.callee_connected,
                caller_lost: self.caller_lost_time.map(time),
                callee_lost: self.callee_lost_time.map(time),
            }),
            _ => None,
        };
        let stage = match (state(self.state)?, talk, self.end_time) {
            (StateName::Ringing, None, None) => Stage::Ringing,
            (StateName::Accepted, Some(talk), None) => Stage::Accepted(talk),
            (StateName::Over(outcome), talk, Some(end_time)) => Stage::Over(Ending {
                outcome,
                time: time(end_time),
                by: self.ended_by.map(UserId::from),
                talk,
                duration: self
                    .duration
                    .map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0))),
            }),
            _ => return Err(CORRUPT),
        };
        Ok(Call {
            id: self.call_id.into(),
            conversation: self.conversation_id.into(),
            caller: Device { user: self.caller_id.into(), session: self.caller_session.into() },
            callee: self.callee_id.into(),
            media: if self.media == code_of_media(Media::Video) { Media::Video } else { Media::Audio },
            version: self.version,
            create_time: time(self.create_time),
            ring_until: time(self.ring_until),
            stage,
            away: Away { caller: self.caller_away_until.map(time), callee: self.callee_away_until.map(time) },
        })
    }
}

/// As the contract has them.
pub(super) fn code_of_media(media: Media) -> i64 {
    match media {
        Media::Audio => 1,
        Media::Video => 2,
    }
}

pub(super) fn code_of_state(state: StateName) -> i64 {
    match state {
        StateName::Ringing => 1,
        StateName::Accepted => 2,
        StateName::Over(Outcome::Ended) => 3,
        StateName::Over(Outcome::Rejected) => 4,
        StateName::Over(Outcome::Busy) => 5,
        StateName::Over(Outcome::Missed) => 6,
        StateName::Over(Outcome::Cancelled) => 7,
        StateName::Over(Outcome::Failed) => 8,
    }
}

fn state(code: i64) -> Result<StateName, Error> {
    Ok(match code {
        1 => StateName::Ringing,
        2 => StateName::Accepted,
        3 => StateName::Over(Outcome::Ended),
        4 => StateName::Over(Outcome::Rejected),
        5 => StateName::Over(Outcome::Busy),
        6 => StateName::Over(Outcome::Missed),
        7 => StateName::Over(Outcome::Cancelled),
        8 => StateName::Over(Outcome::Failed),
        _ => return Err(Error::Store(Failure::Corrupt("an unknown state of a call"))),
    })
}

pub(super) fn name_of(call: &Call) -> StateName {
    match &call.stage {
        Stage::Ringing => StateName::Ringing,
        Stage::Accepted(_) => StateName::Accepted,
        Stage::Over(ending) => StateName::Over(ending.outcome),
    }
}
