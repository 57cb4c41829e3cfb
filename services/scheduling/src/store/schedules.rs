//! Reading bookings, and the times at which they take place.

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::{ScheduleId, UserId};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::super::super::{Failure, code};
use super::Store;
use crate::calendar::recurrence::Recurrence;
use crate::calendar::schedule::{
    Filter, Listing, Media, Place, Plan, Reminders, Reminding, Schedule, Standing, Title,
};
use crate::calendar::slots::Span;
use crate::calendar::zone::Zone;
use crate::error::Error;
use crate::scheduled_message::Retry;

/// No booking is longer: what meets a time began at most so long before.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What a request has made.
pub(super) const FIND: &str =
    "SELECT schedule_id, request_fingerprint FROM schedules WHERE booker_id = $1 AND request_id = $2";

/// When somebody has bookings from `$2` to `$3`, but for the booking `$4`. `$5` is [`LONGEST`] before `$2`.
pub(super) const BUSY: &str = "SELECT start_time, end_time FROM occurrences
    WHERE user_id = $1 AND end_time > $2 AND start_time < $3 AND schedule_id <> $4 AND start_time > $5
    ORDER BY start_time";

/// What a [`Schedule`] is made of, with the time that is under way or comes next as of `$1`; what follows names the table
/// `s`. As no two times of a person meet, the first to end is the first to begin.
const SELECT: &str = "SELECT s.schedule_id, s.booker_id, s.attendee_id, s.title, s.folded_title, s.video, s.start_time, s.end_time,
        s.rrule, s.time_zone, s.reminders, s.occurrence_count, s.last_end_time, s.version, s.actor_id, s.state,
        s.failure_reason, s.told_version, s.conversation_id, s.message_id, s.reminder_count, s.remind_time,
        s.create_time, s.update_time,
        (SELECT o.start_time FROM occurrences o
         WHERE o.schedule_id = s.schedule_id AND o.user_id = s.booker_id AND o.end_time > $1
         ORDER BY o.end_time LIMIT 1) AS next_start
    FROM";

#[derive(sqlx::FromRow)]
struct Record {
    schedule_id: Uuid,
    booker_id: Uuid,
    attendee_id: Uuid,
    title: String,
    video: bool,
    start_time: i64,
    end_time: i64,
    rrule: String,
    time_zone: String,
    reminders: String,
    occurrence_count: i64,
    last_end_time: i64,
    version: i64,
    actor_id: Option<Uuid>,
    state: i64,
    failure_reason: Option<String>,
    told_version: i64,
    conversation_id: Option<Uuid>,
    message_id: Option<Uuid>,
    reminder_count: i64,
    remind_time: Option<i64>,
    create_time: i64,
    update_time: i64,
    next_start: Option<i64>,
}

impl Record {
    fn read(self) -> Result<Schedule, Error> {
        let first = span(self.start_time, self.end_time);
        let standing = match (self.state, self.failure_reason) {
            (code::BOOKED, None) => Standing::Booked,
            (code::CANCELLED, None) => Standing::Cancelled,
            (code::REFUSED, Some(reason)) => Standing::Refused(reason),
            _ => return Err(corrupt("a booking in no state")),
        };
        let plan = Plan {
            title: Title::parse(&self.title).map_err(|_| corrupt("a title that is none"))?,
            media: if self.video { Media::Video } else { Media::Audio },
            first,
            // What takes place when is written down beside it: the zone only says what was meant.
            zone: Zone::parse(&self.time_zone).unwrap_or_else(Zone::utc),
            recurrence: Recurrence::from_text(&self.rrule).map_err(|_| corrupt("a rule that is none"))?,
            reminders: reminders(&self.reminders)?,
        };
        let next = self.next_start.map(|start| {
            let start = Timestamp::from_millis(start);
            Span::new(start, start.plus(first.length()))
        });
        Ok(Schedule {
            id: self.schedule_id.into(),
            booker: self.booker_id.into(),
            attendee: self.attendee_id.into(),
            plan,
            count: usize::try_from(self.occurrence_count).unwrap_or(0),
            last_end: Timestamp::from_millis(self.last_end_time),
            version: self.version,
            actor: self.actor_id.map(Into::into),
            standing,
            told: self.told_version,
            message: self.conversation_id.map(Into::into).zip(self.message_id.map(Into::into)),
            reminding: Reminding {
                count: self.reminder_count,
                at: self.remind_time.map(Timestamp::from_millis),
            },
            next,
            create_time: Timestamp::from_millis(self.create_time),
            update_time: Timestamp::from_millis(self.update_time),
        })
    }
}

impl Store {
    pub async fn busy(
        &self,
        user: UserId,
        within: Span,
        except: Option<ScheduleId>,
    ) -> Result<Vec<Span>, Error> {
        let rows: Vec<(i64, i64)> = sqlx::query_as(BUSY)
            .bind(user.uuid())
            .bind(within.start.as_millis())
            .bind(within.end.as_millis())
            .bind(except.map_or(Uuid::nil(), ScheduleId::uuid))
            .bind(within.start.minus(LONGEST).as_millis())
            .fetch_all(self.pool.read())
            .await?;
        Ok(rows.into_iter().map(|(start, end)| span(start, end)).collect())
    }

    pub async fn find_booking(
        &self,
        booker: UserId,
        retry: Option<&Retry>,
        now: Timestamp,
    ) -> Result<Option<Schedule>, Error> {
        let Some(retry) = retry else { return Ok(None) };
        let first: Option<(Uuid, Vec<u8>)> = sqlx::query_as(FIND)
            .bind(booker.uuid())
            .bind(retry.request_id)
            .fetch_optional(self.pool.read())
            .await?;
        match first {
            None => Ok(None),
            Some((id, fingerprint)) if fingerprint == retry.fingerprint => {
                self.schedule_of(booker, id.into(), now).await
            }
            Some(_) => Err(Error::RequestIdReused(retry.request_id)),
        }
    }

    pub async fn schedule_of(
        &self,
        user: UserId,
        id: ScheduleId,
        now: Timestamp,
    ) -> Result<Option<Schedule>, Error> {
        let sql = format!(
            "{SELECT} schedules s WHERE s.schedule_id = $2 AND (s.booker_id = $3 OR s.attendee_id = $3)"
        );
        let record: Option<Record> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(now.as_millis())
            .bind(id.uuid())
            .bind(user.uuid())
            .fetch_optional(self.pool.read())
            .await?;
        record.map(Record::read).transpose()
    }

    pub(super) async fn schedule_by_id(&self, id: Uuid, now: Timestamp) -> Result<Option<Schedule>, Error> {
        let record: Option<Record> =
            sqlx::query_as(AssertSqlSafe(format!("{SELECT} schedules s WHERE s.schedule_id = $2")))
                .bind(now.as_millis())
                .bind(id)
                .fetch_optional(self.pool.read())
                .await?;
        record.map(Record::read).transpose()
    }

    pub async fn list_schedules(&self, listing: &Listing) -> Result<Vec<(Place, Schedule)>, Error> {
        let sql = match listing.filter {
            Filter::All => downwards("state = 1", "start_time"),
            Filter::Past => downwards("state = 1 AND last_end_time <= $1", "last_end_time"),
            Filter::Upcoming => format!("{SELECT} {UPCOMING}"),
            Filter::Cancelled => downwards("state <> 1", "start_time"),
        };
        let before_all = match listing.filter {
            Filter::Upcoming => (i64::MIN, Uuid::nil()),
            Filter::All | Filter::Past | Filter::Cancelled => (i64::MAX, Uuid::max()),
        };
        let (time, id) = listing.after.map_or(before_all, |(time, id)| (time.as_millis(), id.uuid()));
        let records: Vec<Record> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(listing.now.as_millis())
            .bind(listing.user.uuid())
            .bind(contains(&listing.keyword))
            .bind(time)
            .bind(id)
            .bind(listing.limit.saturating_add(1))
            .fetch_all(self.pool.read())
            .await?;
        let place = |schedule: &Schedule| match listing.filter {
            Filter::All | Filter::Cancelled => schedule.plan.first.start,
            Filter::Past => schedule.last_end,
            Filter::Upcoming => schedule.next.map_or(schedule.last_end, |next| next.start),
        };
        let placed = |record: Record| {
            let schedule = record.read()?;
            Ok(((place(&schedule), schedule.id), schedule))
        };
        records.into_iter().map(placed).collect()
    }

    pub async fn times(&self, schedule: &Schedule) -> Result<Vec<Span>, Error> {
        let rows: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT start_time, end_time FROM occurrences WHERE schedule_id = $1 AND user_id = $2
             ORDER BY start_time",
        )
        .bind(schedule.id.uuid())
        .bind(schedule.booker.uuid())
        .fetch_all(self.pool.read())
        .await?;
        Ok(rows.into_iter().map(|(start, end)| span(start, end)).collect())
    }
}

/// Some of somebody's bookings, latest first. Those of each role are read in order, as far as the page goes, whatever else
/// there is of the person's.
fn downwards(which: &str, by: &str) -> String {
    let of = |role: &str| {
        format!(
            "SELECT * FROM (
                 SELECT * FROM schedules
                 WHERE {role}_id = $2 AND {which} AND folded_title LIKE $3 ESCAPE '!' AND ({by}, schedule_id) < ($4, $5)
                 ORDER BY {by} DESC, schedule_id DESC LIMIT $6) AS as_{role}"
        )
    };
    let (booker, attendee) = (of("booker"), of("attendee"));
    format!("{SELECT} ({booker} UNION ALL {attendee}) AS s ORDER BY s.{by} DESC, s.schedule_id DESC LIMIT $6")
}

/// Somebody's bookings to come, next first: the times of the person in order, of each booking the first only.
const UPCOMING: &str = "occurrences n JOIN schedules s ON s.schedule_id = n.schedule_id
    WHERE n.user_id = $2 AND n.end_time > $1 AND n.start_time > $1 - 86400000
      AND (n.start_time, n.schedule_id) > ($4, $5)
      AND n.start_time = (
          SELECT o.start_time FROM occurrences o
          WHERE o.schedule_id = n.schedule_id AND o.user_id = n.user_id AND o.end_time > $1
          ORDER BY o.end_time LIMIT 1)
      AND s.state = 1 AND s.folded_title LIKE $3 ESCAPE '!'
    ORDER BY n.start_time, n.schedule_id LIMIT $6";

/// From one column to another.
pub(super) fn span(start: i64, end: i64) -> Span {
    Span::new(Timestamp::from_millis(start), Timestamp::from_millis(end))
}

fn reminders(text: &str) -> Result<Reminders, Error> {
    let seconds = text.split_ascii_whitespace().map(|part| part.parse().map(Duration::from_secs));
    let seconds = seconds.collect::<Result<_, _>>().map_err(|_| corrupt("a reminder that is none"))?;
    Reminders::new(seconds).map_err(|_| corrupt("reminders that are none"))
}

/// A pattern for what has this in it.
fn contains(keyword: &str) -> String {
    let escaped = keyword.replace('!', "!!").replace('%', "!%").replace('_', "!_");
    format!("%{escaped}%")
}

fn corrupt(what: &'static str) -> Error {
    Error::Store(Failure::Corrupt(what))
}
