//! Booking calls, and what the two may do with a booking.

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::{ScheduleId, UserId};
use tokio::time::{Instant, sleep};

use crate::calendar::error::Refusal;
use crate::calendar::limits::Limit;
use crate::calendar::schedule::{
    BadTime, Changes, Draft, Filter, Listed, Listing, Plan, Schedule, Standing, State, Times, check_length,
    check_time,
};
use crate::calendar::slots::{self, Span};
use crate::calendar::zone::Zone;
use crate::calendar::{Calendar, Hours, announce, ical};
use crate::error::Error;
use crate::store::{Booked, Booking};

/// How long a caller waits until the other person is told.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked for meanwhile: whoever tells may be another process.
const LOOK: Duration = Duration::from_millis(25);

/// How often a change is tried again that somebody else got ahead of.
const TRIES: usize = 5;

/// Which fields times stand in, so that what is wrong with one is said of the field that the caller knows.
#[derive(Clone, Copy, Debug)]
pub struct Fields {
    /// The start of the first time.
    pub start: &'static str,
    /// The end of the first time.
    pub end: &'static str,
    /// The rule by which it comes again.
    pub rule: &'static str,
}

/// In a request for a new booking.
const NEW: Fields = Fields { start: "start_time", end: "end_time", rule: "rrule" };

/// In a request for a change.
const UPDATED: Fields =
    Fields { start: "schedule.start_time", end: "schedule.end_time", rule: "schedule.rrule" };

impl Calendar {
    /// Books a call, and waits a little until the other person is told.
    pub async fn book(&self, booker: UserId, draft: Draft) -> Result<Schedule, Error> {
        let now = self.store.now().await?;
        // Before anything else: what was booked stays booked, whatever has changed since.
        if let Some(first) = self.store.find_booking(booker, draft.retry.as_ref(), now).await? {
            return outcome(first);
        }
        if booker == draft.attendee {
            return Err(Error::Field { field: "user_id", rule: "must be somebody else" });
        }
        let attendee = self.people.get(draft.attendee).await?;
        let zone = match draft.zone {
            Some(zone) => zone,
            None => self.hours(booker).await?.zone,
        };
        let plan = Plan {
            title: draft.title,
            media: draft.media,
            first: draft.first,
            zone,
            recurrence: draft.recurrence,
            reminders: draft.reminders,
        };
        let times = Times::new(self.times(&plan, now, NEW)?);
        let schedule = Schedule::new(booker, draft.attendee, plan, &times.all, now);
        let hours = self.hours_of(attendee).await?;
        if let Err(refused) = self.may_be_booked(&schedule, &times, &hours, now).await {
            // What stands in the way may be what an earlier try of the same call has booked meanwhile.
            let first = self.store.find_booking(booker, draft.retry.as_ref(), now).await?;
            return first.map_or(Err(refused), outcome);
        }
        let (gap, daily) = (hours.availability.weekly.terms.gap(), hours.daily());
        let booking = Booking {
            schedule: &schedule,
            times: &times.all,
            wanted: &times.all,
            gap,
            daily: daily.as_ref(),
        };
        match self.store.book(booking, draft.retry.as_ref(), self.max_upcoming).await? {
            Booked::Already(first) => outcome(*first),
            Booked::New => {
                tracing::info!(
                    schedule.id = %schedule.id, user.id = %booker, times = times.all.len(),
                    "booked schedule {} from {}", schedule.id, schedule.plan.first.start
                );
                outcome(self.told(schedule, booker, now).await?)
            }
        }
    }

    /// One of somebody's bookings, and as of when.
    pub async fn schedule(&self, user: UserId, id: ScheduleId) -> Result<(Schedule, Timestamp), Error> {
        let now = self.store.now().await?;
        let schedule = self.store.schedule_of(user, id, now).await?;
        Ok((schedule.ok_or(Refusal::NotFound(id))?, now))
    }

    /// Some of somebody's bookings.
    pub async fn schedules(&self, listing: Listing) -> Result<Listed, Error> {
        let rows = self.store.list_schedules(&listing).await?;
        Ok(Listed::cut(rows, listing.limit))
    }

    /// Changes a booking of somebody's own, and waits a little until the other person is told.
    pub async fn rebook(&self, user: UserId, id: ScheduleId, changes: Changes) -> Result<Schedule, Error> {
        for _ in 0..TRIES {
            let (before, now) = self.schedule(user, id).await?;
            if before.booker != user {
                return Err(Refusal::NotBooker(id).into());
            }
            is_open(&before, now)?;
            let own = if changes.zone == Some(None) { self.hours(user).await?.zone } else { Zone::utc() };
            let plan = changes.clone().applied(&before.plan, || own);
            if plan == before.plan {
                return Ok(before);
            }
            let moves = changes.moves() && is_elsewhen(&plan, &before.plan);
            let times = match moves {
                true => self.moved_times(&before, &plan, now).await?,
                false => Times::new(self.store.times(&before).await?),
            };
            let schedule = before.changed(plan, user, &times.all, now);
            let (mut gap, mut daily) = (Duration::ZERO, None);
            if moves {
                let attendee = self.people.get(schedule.attendee).await?;
                let hours = self.hours_of(attendee).await?;
                self.accepts(&schedule, &times, &hours, now).await?;
                gap = hours.availability.weekly.terms.gap();
                // A call that is under way is counted already.
                daily = hours.daily().filter(|_| !times.to_come.is_empty());
            }
            self.can_be_told(&schedule, user).await?;
            let wanted = times.wanted();
            let booking = Booking {
                schedule: &schedule,
                times: &times.all,
                wanted: &wanted,
                gap,
                daily: daily.as_ref(),
            };
            if self.store.rebook(booking, moves).await? {
                return outcome(self.told(schedule, user, now).await?);
            }
        }
        Err(Refusal::Changed(id).into())
    }

    /// Cancels a booking for both. One that is cancelled stays as it is.
    pub async fn cancel(&self, user: UserId, id: ScheduleId) -> Result<Schedule, Error> {
        for _ in 0..TRIES {
            let (before, now) = self.schedule(user, id).await?;
            if before.standing != Standing::Booked {
                return Ok(before);
            }
            is_open(&before, now)?;
            if self.store.cancel_booking(&before, user, now).await? {
                tracing::info!(schedule.id = %id, user.id = %user, "cancelled schedule {id}");
                self.deliveries.expect(now, now);
                return Ok(self.schedule(user, id).await?.0);
            }
        }
        Err(Refusal::Changed(id).into())
    }

    /// Cancels everything to come that somebody has booked. Says how much that was.
    pub async fn clear(&self, user: UserId) -> Result<usize, Error> {
        let mut cancelled = 0;
        let mut after = None;
        loop {
            let now = self.store.now().await?;
            let filter = Filter::Upcoming;
            let listing = Listing { user, filter, keyword: String::new(), after, limit: 100, now };
            let page = self.schedules(listing).await?;
            for schedule in page.schedules.iter().filter(|schedule| schedule.booker == user) {
                match self.cancel(user, schedule.id).await {
                    Ok(_) => cancelled += 1,
                    // It has ended meanwhile.
                    Err(Error::Calendar(Refusal::Over { .. })) => {}
                    Err(error) => return Err(error),
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(cancelled);
            }
        }
    }

    /// A booking as a file for other calendars.
    pub async fn calendar_file(&self, user: UserId, id: ScheduleId) -> Result<(ScheduleId, String), Error> {
        let (schedule, _) = self.schedule(user, id).await?;
        let booker = self.people.anybody(schedule.booker).await?;
        let attendee = self.people.anybody(schedule.attendee).await?;
        let times = self.store.times(&schedule).await?;
        Ok((id, ical::render(&schedule, &times, &booker, &attendee)))
    }

    /// When a booking takes place after a change, if it may. One that has begun keeps its start.
    async fn moved_times(&self, before: &Schedule, plan: &Plan, now: Timestamp) -> Result<Times, Error> {
        let is_longer_only = plan.first.start == before.plan.first.start
            && plan.recurrence == before.plan.recurrence
            && plan.zone == before.plan.zone;
        if !is_longer_only || plan.first.start > now {
            return Ok(Times::new(self.times(plan, now, UPDATED)?));
        }
        check_length(plan.first).map_err(|bad| self.bad_time(bad, UPDATED))?;
        let after = plan.recurrence.times(plan.first, &plan.zone);
        let after = after.map_err(|rule| Error::Field { field: UPDATED.rule, rule })?;
        let times = Times::lengthened(&self.store.times(before).await?, &after, now);
        times.map_err(|bad| self.bad_time(bad, UPDATED))
    }

    /// When a plan takes place, if it may.
    fn times(&self, plan: &Plan, now: Timestamp, fields: Fields) -> Result<Vec<Span>, Error> {
        let horizon = Duration::from_secs(u64::from(self.horizon_days) * 24 * 60 * 60);
        check_time(plan.first, now, horizon).map_err(|bad| self.bad_time(bad, fields))?;
        let times = plan.recurrence.times(plan.first, &plan.zone);
        times.map_err(|rule| Error::Field { field: fields.rule, rule })
    }

    fn bad_time(&self, bad: BadTime, fields: Fields) -> Error {
        match bad {
            BadTime::Start(rule) => Error::Field { field: fields.start, rule },
            BadTime::End(rule) => Error::Field { field: fields.end, rule },
            BadTime::TooFar => Error::TooFarAhead { field: fields.start, days: self.horizon_days },
        }
    }

    /// Whether something new can be booked, as far as one can say before it is written.
    async fn may_be_booked(
        &self,
        schedule: &Schedule,
        times: &Times,
        hours: &Hours,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.accepts(schedule, times, hours, now).await?;
        self.can_be_told(schedule, schedule.booker).await
    }

    /// Whether the two are free at these times and it is not more than the attendee wants to be called, as far as one can
    /// say before the booking is written. What others can change meanwhile the store judges again; the rest of what the
    /// attendee accepts is judged here and nowhere else.
    async fn accepts(
        &self,
        schedule: &Schedule,
        times: &Times,
        hours: &Hours,
        now: Timestamp,
    ) -> Result<(), Error> {
        let wanted = times.wanted();
        let Some((first, last)) = wanted.first().zip(wanted.last()) else { return Ok(()) };
        let attendee = schedule.attendee;
        if hours.limits.is_too_long(schedule.plan.first.length()) {
            let limit = Limit::MaxDuration;
            return Err(Refusal::CallLimit { user: attendee, limit, start: first.start }.into());
        }
        let (terms, daily) = (&hours.availability.weekly.terms, hours.daily());
        let whole = Span::new(first.start, last.end);
        let near = whole.widened(terms.gap(), terms.gap());
        let near = daily.as_ref().map_or(near, |daily| daily.reach(near));
        let theirs = self.store.busy(attendee, near, Some(schedule.id)).await?;
        let own = self.store.busy(schedule.booker, whole, Some(schedule.id)).await?;
        for (user, busy) in [(attendee, &theirs), (schedule.booker, &own)] {
            if let Some(time) = wanted.iter().find(|time| slots::is_busy(busy, **time)) {
                return Err(Refusal::SlotTaken { user, start: time.start }.into());
            }
        }
        let free = slots::free(&hours.availability, &hours.zone, whole);
        let kept = slots::widened(&theirs, terms.gap());
        let earliest = now.plus(terms.notice);
        let is_free = |time: &Span| {
            slots::covers(&free, *time)
                && !slots::is_busy(&kept, *time)
                && (terms.notice.is_zero() || time.start >= earliest || times.added == Some(*time))
        };
        if let Some(time) = wanted.iter().find(|time| !is_free(time)) {
            return Err(Refusal::SlotNotFree { user: attendee, start: time.start }.into());
        }
        match daily.and_then(|daily| daily.first_too_many(&times.to_come, &theirs)) {
            Some(time) => {
                let limit = Limit::MaxCallsPerDay;
                Err(Refusal::CallLimit { user: attendee, limit, start: time.start }.into())
            }
            None => Ok(()),
        }
    }

    /// Refuses what messaging would not let `author` tell the other person, before anything of it is written. Asked last:
    /// two who never wrote to each other have a conversation from then on.
    async fn can_be_told(&self, schedule: &Schedule, author: UserId) -> Result<(), Error> {
        let other = schedule.other(author);
        let conversation = self.conversations.direct(author, other).await;
        let conversation = conversation.map_err(|denial| announce::denied(denial, other))?;
        self.announcer.check(schedule, author, conversation).await
    }

    /// Tells the other person of a version at once, and waits for that a little: the booking as it is then.
    async fn told(&self, schedule: Schedule, user: UserId, now: Timestamp) -> Result<Schedule, Error> {
        let end = Instant::now() + PATIENCE;
        let lease = self.deliveries.timing().lease;
        if let Some(claim) = self.store.claim_delivery(&schedule, lease).await? {
            let calendar = self.clone();
            // To the end, also when the caller goes away: the claim would be held in vain.
            let telling = self.deliveries.do_now(async move { calendar.deliver_and_log(claim).await });
            // What is not done by then follows.
            let _ = tokio::time::timeout_at(end, telling).await;
        } else {
            self.deliveries.expect(now, now);
        }
        if let Some(at) = schedule.reminding.at {
            self.reminders.expect(at, now);
        }
        loop {
            let (found, _) = self.schedule(user, schedule.id).await?;
            if found.told >= schedule.version || found.version > schedule.version || Instant::now() >= end {
                return Ok(found);
            }
            sleep(LOOK).await;
        }
    }
}

/// Whether a plan takes place at other times than another one.
fn is_elsewhen(plan: &Plan, other: &Plan) -> bool {
    plan.first != other.first || plan.recurrence != other.recurrence || plan.zone != other.zone
}

/// Only what is not over can be changed.
fn is_open(schedule: &Schedule, now: Timestamp) -> Result<(), Error> {
    let state = match schedule.state(now) {
        State::Upcoming | State::Ongoing => return Ok(()),
        State::Past => "past",
        State::Cancelled => "cancelled",
    };
    Err(Refusal::Over { id: schedule.id, state }.into())
}

/// A booking whose message was refused is none.
fn outcome(schedule: Schedule) -> Result<Schedule, Error> {
    match &schedule.standing {
        Standing::Refused(reason) => Err(announce::refusal(reason, schedule.attendee).into()),
        Standing::Booked | Standing::Cancelled => Ok(schedule),
    }
}
