//! Calendars in a database: what people say about when they are free, and what is booked.

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId, ScheduleId, UserId};

use super::Store;
use crate::calendar::availability::{Availability, CustomChanges, Weekly};
use crate::calendar::limits::Daily;
use crate::calendar::schedule::{Listing, Place, Schedule};
use crate::calendar::slots::Span;
use crate::calendar::zone::Day;
use crate::error::Error;
use crate::scheduled_message::Retry;
use crate::timer::Claim;

/// When people are free.
impl Store {
    /// What somebody has said about when it is free, with its own dates from this day on; `None` when it never did.
    pub async fn availability(&self, user: UserId, from: Day) -> Result<Option<Availability>, Error> {
        either!(self, store => store.availability(user, from))
    }

    /// Keeps what somebody says about its weeks.
    pub async fn set_weekly(&self, user: UserId, weekly: &Weekly, now: Timestamp) -> Result<(), Error> {
        either!(self, store => store.set_weekly(user, weekly, now))
    }

    /// Keeps what somebody says about single dates, and forgets those before `oldest`.
    pub async fn set_custom(
        &self,
        user: UserId,
        changes: &CustomChanges,
        oldest: Day,
        now: Timestamp,
    ) -> Result<(), Error> {
        either!(self, store => store.set_custom(user, changes, oldest, now))
    }
}

/// A booking to be written.
#[derive(Clone, Copy, Debug)]
pub struct Booking<'a> {
    /// What is booked.
    pub schedule: &'a Schedule,
    /// When it takes place; in order of time.
    pub times: &'a [Span],
    /// What of that is new to the attendee; in order of time.
    pub wanted: &'a [Span],
    /// What lies at least between this and every other booking of the attendee.
    pub gap: Duration,
    /// How many calls the attendee takes a day, when that is limited.
    pub daily: Option<&'a Daily>,
}

/// What came of booking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Booked {
    /// It is booked now.
    New,
    /// An earlier try has booked this.
    Already(Box<Schedule>),
}

/// Bookings. Those who have no part in one do not find it.
impl Store {
    /// When somebody has bookings in a stretch of time, in order, but for one of them.
    pub async fn busy(
        &self,
        user: UserId,
        within: Span,
        except: Option<ScheduleId>,
    ) -> Result<Vec<Span>, Error> {
        either!(self, store => store.busy(user, within, except))
    }

    /// Books, unless one of the two has something else at one of the times, it is too much for the attendee on one of the
    /// days, or the booker has `most` to come. The booking, its times, the timer that tells the other person and the timer of the first reminder are there together.
    pub async fn book(
        &self,
        booking: Booking<'_>,
        retry: Option<&Retry>,
        most: u32,
    ) -> Result<Booked, Error> {
        either!(self, store => store.book(booking, retry, most))
    }

    /// What an earlier try has booked.
    pub async fn find_booking(
        &self,
        booker: UserId,
        retry: Option<&Retry>,
        now: Timestamp,
    ) -> Result<Option<Schedule>, Error> {
        either!(self, store => store.find_booking(booker, retry, now))
    }

    /// One of somebody's bookings.
    pub async fn schedule_of(
        &self,
        user: UserId,
        id: ScheduleId,
        now: Timestamp,
    ) -> Result<Option<Schedule>, Error> {
        either!(self, store => store.schedule_of(user, id, now))
    }

    /// Some of somebody's bookings, and one more when others follow.
    pub async fn list_schedules(&self, listing: &Listing) -> Result<Vec<(Place, Schedule)>, Error> {
        either!(self, store => store.list_schedules(listing))
    }

    /// Writes the next version of a booking. Its times stay as they are unless `moved` is set. `false` when there is
    /// another version by now, and nothing is changed.
    pub async fn rebook(&self, booking: Booking<'_>, moved: bool) -> Result<bool, Error> {
        either!(self, store => store.rebook(booking, moved))
    }

    /// Cancels a booking of this version for both, in the name of one of them. `false` when there is another version.
    pub async fn cancel_booking(
        &self,
        schedule: &Schedule,
        by: UserId,
        now: Timestamp,
    ) -> Result<bool, Error> {
        either!(self, store => store.cancel_booking(schedule, by, now))
    }

    /// All times of a booking that stands, in order.
    pub async fn times(&self, schedule: &Schedule) -> Result<Vec<Span>, Error> {
        either!(self, store => store.times(schedule))
    }
}

/// What follows from bookings.
impl Store {
    /// The booking that a claim is about; `None` when it is gone.
    pub async fn claimed_schedule(&self, claim: &Claim, now: Timestamp) -> Result<Option<Schedule>, Error> {
        either!(self, store => store.claimed_schedule(claim, now))
    }

    /// Whether somebody's account is known to be gone.
    pub async fn is_gone(&self, user: UserId) -> Result<bool, Error> {
        either!(self, store => store.is_gone(user))
    }

    /// Claims the delivery of a booking out of turn; `None` when somebody else has it, or it is done.
    pub async fn claim_delivery(&self, schedule: &Schedule, lease: Duration) -> Result<Option<Claim>, Error> {
        either!(self, store => store.claim_delivery(schedule, lease))
    }

    /// Writes down that a version of a booking was told of, by this message when there was one. When there is a newer
    /// version by now, it is next. `false` when the claim is no longer the last.
    pub async fn finish_delivery(
        &self,
        claim: &Claim,
        version: i64,
        message: Option<(ConversationId, MessageId)>,
    ) -> Result<bool, Error> {
        either!(self, store => store.finish_delivery(claim, version, message))
    }

    /// Cancels a booking whose message messaging does not take. That is told of next, unless `is_known` says that those
    /// whom it concerns know. `false` when the claim is no longer the last, or there is a newer version to be told of.
    pub async fn refuse_delivery(
        &self,
        claim: &Claim,
        version: i64,
        reason: &str,
        is_known: bool,
    ) -> Result<bool, Error> {
        either!(self, store => store.refuse_delivery(claim, version, reason, is_known))
    }

    /// Writes down that both were reminded, or, with `told` unset, that it was too late for that, and when they are next.
    /// `false` when the claim is no longer the last.
    pub async fn finish_reminder(
        &self,
        claim: &Claim,
        schedule: &Schedule,
        told: bool,
        next: Option<Timestamp>,
    ) -> Result<bool, Error> {
        either!(self, store => store.finish_reminder(claim, schedule, told, next))
    }

    /// Lets go of what has nothing to stand for any more.
    pub async fn drop_claim(&self, claim: &Claim) -> Result<(), Error> {
        either!(self, store => store.drop_claim(claim))
    }
}
