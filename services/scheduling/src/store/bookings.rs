//! Booked calls, and the times at which they take place.
//!
//! Locks are taken in one order: the people by id, the booking, its timers. That no two bookings of a person meet is for
//! the database to refuse; the lock on the two people only keeps those who write at the same moment from finding out the
//! hard way, and what is counted here from changing.

use chassis::clock::Timestamp;
use chassis::text::fold;
use proto::id::{ScheduleId, UserId};
use sqlx::{AssertSqlSafe, QueryBuilder};
use uuid::Uuid;

use super::super::super::{Booked, Booking};
use super::super::{Db, FOR_UPDATE, is_overlap};
use super::schedules::{BUSY, FIND, LONGEST, span};
use super::{Store, Tx};
use crate::calendar::error::Refusal;
use crate::calendar::limits::Limit;
use crate::calendar::schedule::{Media, Reminders, Schedule};
use crate::calendar::slots::{self, Span};
use crate::conversations::Block;
use crate::error::Error;
use crate::scheduled_message::Retry;
use crate::timer::{Key, Kind};

impl Store {
    pub async fn book(
        &self,
        booking: Booking<'_>,
        retry: Option<&Retry>,
        most: u32,
    ) -> Result<Booked, Error> {
        let schedule = booking.schedule;
        let now = schedule.create_time;
        let mut tx = self.pool.begin().await?;
        if let Some(gone) = lock_people(&mut tx, [schedule.booker, schedule.attendee]).await? {
            return Err(Refusal::UserNotFound(gone).into());
        }
        if let Some(retry) = retry {
            let first: Option<(Uuid, Vec<u8>)> = sqlx::query_as(FIND)
                .bind(schedule.booker.uuid())
                .bind(retry.request_id)
                .fetch_optional(&mut *tx)
                .await?;
            if first.is_some() {
                drop(tx);
                let first = self.find_booking(schedule.booker, Some(retry), now).await?;
                return first.map(|first| Booked::Already(Box::new(first))).ok_or(Error::Lost);
            }
        }
        let to_come: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM schedules WHERE booker_id = $1 AND state = 1 AND last_end_time > $2",
        )
        .bind(schedule.booker.uuid())
        .bind(now.as_millis())
        .fetch_one(&mut *tx)
        .await?;
        if to_come >= i64::from(most) {
            return Err(Refusal::TooMany { most }.into());
        }
        keep_apart(&mut tx, booking).await?;
        insert(&mut tx, schedule, retry).await?;
        if let Err(error) = occupy(&mut tx, booking).await {
            drop(tx);
            return Err(self.taken(booking, error).await?);
        }
        super::arm(&mut tx, schedule, now).await?;
        tx.commit().await?;
        Ok(Booked::New)
    }

    pub async fn rebook(&self, booking: Booking<'_>, moved: bool) -> Result<bool, Error> {
        let schedule = booking.schedule;
        let now = schedule.update_time;
        let mut tx = self.pool.begin().await?;
        if let Some(gone) = lock_people(&mut tx, [schedule.booker, schedule.attendee]).await? {
            return Err(Refusal::UserNotFound(gone).into());
        }
        let plan = &schedule.plan;
        let updated = sqlx::query(
            "UPDATE schedules
             SET title = $3, folded_title = $4, video = $5, start_time = $6, end_time = $7, rrule = $8, time_zone = $9,
                 reminders = $10, occurrence_count = $11, last_end_time = $12, version = $2 + 1, actor_id = $13,
                 reminder_count = 0, remind_time = $14, update_time = $15
             WHERE schedule_id = $1 AND version = $2 AND state = 1",
        )
        .bind(schedule.id.uuid())
        .bind(schedule.version - 1)
        .bind(plan.title.as_str())
        .bind(fold(plan.title.as_str()))
        .bind(plan.media == Media::Video)
        .bind(plan.first.start.as_millis())
        .bind(plan.first.end.as_millis())
        .bind(plan.recurrence.to_text())
        .bind(plan.zone.name())
        .bind(text_of(&plan.reminders))
        .bind(count(schedule))
        .bind(schedule.last_end.as_millis())
        .bind(schedule.actor.map(UserId::uuid))
        .bind(schedule.reminding.at.map(Timestamp::as_millis))
        .bind(now.as_millis())
        .execute(&mut *tx)
        .await?;
        if updated.rows_affected() == 0 {
            return Ok(false);
        }
        if moved {
            vacate(&mut tx, schedule.id).await?;
            keep_apart(&mut tx, booking).await?;
            if let Err(error) = occupy(&mut tx, booking).await {
                drop(tx);
                return Err(self.taken(booking, error).await?);
            }
        }
        super::arm(&mut tx, schedule, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    pub async fn cancel_booking(
        &self,
        schedule: &Schedule,
        by: UserId,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let mut tx = self.pool.begin().await?;
        let cancelled = sqlx::query(
            "UPDATE schedules
             SET state = 2, version = version + 1, actor_id = $3, remind_time = NULL, update_time = $4
             WHERE schedule_id = $1 AND version = $2 AND state = 1",
        )
        .bind(schedule.id.uuid())
        .bind(schedule.version)
        .bind(by.uuid())
        .bind(now.as_millis())
        .execute(&mut *tx)
        .await?;
        if cancelled.rows_affected() == 0 {
            return Ok(false);
        }
        vacate(&mut tx, schedule.id).await?;
        super::disarm(&mut tx, schedule.booker, schedule.id, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Whose other booking it is that stands in the way.
    async fn taken(&self, booking: Booking<'_>, error: sqlx::Error) -> Result<Error, Error> {
        if !is_overlap(&error) {
            return Ok(error.into());
        }
        let schedule = booking.schedule;
        for user in [schedule.attendee, schedule.booker] {
            let busy = self.busy(user, whole(booking.times), Some(schedule.id)).await?;
            if let Some(time) = first_meeting(booking.times, &busy) {
                return Ok(Refusal::SlotTaken { user, start: time.start }.into());
            }
        }
        // It is gone again by now.
        let start = schedule.plan.first.start;
        Ok(Refusal::SlotTaken { user: schedule.attendee, start }.into())
    }
}

/// Locks two people until the end, and says who of them is gone.
pub(super) async fn lock_people(tx: &mut Tx, mut people: [UserId; 2]) -> sqlx::Result<Option<UserId>> {
    people.sort_unstable();
    let mut gone = None;
    for user in people {
        let delete_time: Option<i64> = sqlx::query_scalar(
            "INSERT INTO authors (author_id) VALUES ($1)
             ON CONFLICT (author_id) DO UPDATE SET author_id = excluded.author_id RETURNING delete_time",
        )
        .bind(user.uuid())
        .fetch_one(&mut **tx)
        .await?;
        if delete_time.is_some() {
            gone = Some(user);
        }
    }
    Ok(gone)
}

/// Refuses what comes too near to another booking of the attendee, and what is too much beside the others of its day. What
/// meets one is for the constraint to refuse.
async fn keep_apart(tx: &mut Tx, booking: Booking<'_>) -> Result<(), Error> {
    let gap = booking.gap;
    if gap.is_zero() && booking.daily.is_none() {
        return Ok(());
    }
    let attendee = booking.schedule.attendee;
    // Others reach as far before and after themselves.
    if booking.wanted.is_empty() {
        return Ok(());
    }
    let within = whole(booking.wanted).widened(gap, gap);
    let within = booking.daily.map_or(within, |daily| daily.reach(within));
    let rows: Vec<(i64, i64)> = sqlx::query_as(BUSY)
        .bind(attendee.uuid())
        .bind(within.start.as_millis())
        .bind(within.end.as_millis())
        .bind(booking.schedule.id.uuid())
        .bind(within.start.minus(LONGEST).as_millis())
        .fetch_all(&mut **tx)
        .await?;
    let busy: Vec<Span> = rows.into_iter().map(|(start, end)| span(start, end)).collect();
    let kept = slots::widened(&busy, gap);
    if first_meeting(booking.wanted, &busy).is_some() {
        return Ok(());
    }
    if let Some(time) = first_meeting(booking.wanted, &kept) {
        return Err(Refusal::SlotNotFree { user: attendee, start: time.start }.into());
    }
    match booking.daily.and_then(|daily| daily.first_too_many(booking.wanted, &busy)) {
        Some(time) => {
            let limit = Limit::MaxCallsPerDay;
            Err(Refusal::CallLimit { user: attendee, limit, start: time.start }.into())
        }
        None => Ok(()),
    }
}

/// The first of some times that meets one of others, which are in order of time.
fn first_meeting(times: &[Span], others: &[Span]) -> Option<Span> {
    times.iter().copied().find(|time| slots::is_busy(others, *time))
}

async fn insert(tx: &mut Tx, schedule: &Schedule, retry: Option<&Retry>) -> sqlx::Result<()> {
    let plan = &schedule.plan;
    sqlx::query(
        "INSERT INTO schedules (schedule_id, booker_id, attendee_id, title, folded_title, video, start_time, end_time,
                                rrule, time_zone, reminders, occurrence_count, last_end_time, version, actor_id, state,
                                remind_time, request_id, request_fingerprint, create_time, update_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 1, $16, $17, $18, $19, $19)",
    )
    .bind(schedule.id.uuid())
    .bind(schedule.booker.uuid())
    .bind(schedule.attendee.uuid())
    .bind(plan.title.as_str())
    .bind(fold(plan.title.as_str()))
    .bind(plan.media == Media::Video)
    .bind(plan.first.start.as_millis())
    .bind(plan.first.end.as_millis())
    .bind(plan.recurrence.to_text())
    .bind(plan.zone.name())
    .bind(text_of(&plan.reminders))
    .bind(count(schedule))
    .bind(schedule.last_end.as_millis())
    .bind(schedule.version)
    .bind(schedule.actor.map(UserId::uuid))
    .bind(schedule.reminding.at.map(Timestamp::as_millis))
    .bind(retry.map(|retry| retry.request_id))
    .bind(retry.map(|retry| retry.fingerprint.to_vec()))
    .bind(schedule.create_time.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes down when both are busy. The database refuses what meets something else of one of them.
async fn occupy(tx: &mut Tx, booking: Booking<'_>) -> sqlx::Result<()> {
    let schedule = booking.schedule;
    let mut people = [schedule.booker, schedule.attendee];
    people.sort_unstable();
    for user in people {
        let mut rows =
            QueryBuilder::<Db>::new("INSERT INTO occurrences (user_id, schedule_id, start_time, end_time) ");
        rows.push_values(booking.times, |mut row, time| {
            row.push_bind(user.uuid())
                .push_bind(schedule.id.uuid())
                .push_bind(time.start.as_millis())
                .push_bind(time.end.as_millis());
        });
        rows.build().execute(&mut **tx).await?;
    }
    Ok(())
}

pub(super) async fn vacate(tx: &mut Tx, id: ScheduleId) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM occurrences WHERE schedule_id = $1").bind(id.uuid()).execute(&mut **tx).await?;
    Ok(())
}

/// Ends the calendar of a user: what was said about free time goes, what is booked is cancelled in the user's name, and
/// what nobody is left to see is erased.
pub(super) async fn end(tx: &mut Tx, user: UserId, now: Timestamp) -> sqlx::Result<()> {
    for table in ["availabilities", "custom_days"] {
        sqlx::query(AssertSqlSafe(format!("DELETE FROM {table} WHERE user_id = $1")))
            .bind(user.uuid())
            .execute(&mut **tx)
            .await?;
    }
    let mine = "(booker_id = $1 OR attendee_id = $1)";
    let sql = format!(
        "SELECT schedule_id, booker_id FROM schedules
         WHERE {mine} AND state = 1 AND last_end_time > $2 ORDER BY schedule_id{FOR_UPDATE}"
    );
    let standing: Vec<(Uuid, Uuid)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(user.uuid())
        .bind(now.as_millis())
        .fetch_all(&mut **tx)
        .await?;
    for (id, booker) in standing {
        sqlx::query(
            "UPDATE schedules
             SET state = 2, version = version + 1, actor_id = $2, remind_time = NULL, update_time = $3
             WHERE schedule_id = $1",
        )
        .bind(id)
        .bind(user.uuid())
        .bind(now.as_millis())
        .execute(&mut **tx)
        .await?;
        vacate(tx, id.into()).await?;
        super::disarm(tx, booker.into(), id.into(), now).await?;
    }
    let unseen = format!(
        "SELECT schedule_id FROM schedules WHERE {mine} AND EXISTS (
             SELECT 1 FROM authors WHERE delete_time IS NOT NULL
               AND author_id = CASE WHEN booker_id = $1 THEN attendee_id ELSE booker_id END)"
    );
    for sql in [
        format!("DELETE FROM occurrences WHERE schedule_id IN ({unseen})"),
        format!("DELETE FROM schedules WHERE schedule_id IN ({unseen})"),
    ] {
        sqlx::query(AssertSqlSafe(sql)).bind(user.uuid()).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Cancels what two have booked with each other, of whom one blocks the other: in that one's name, and in silence. Says how
/// much that was.
pub(super) async fn part(
    tx: &mut Tx,
    Block { blocker, blocked }: Block,
    now: Timestamp,
) -> sqlx::Result<usize> {
    lock_people(tx, [blocker, blocked]).await?;
    let sql = format!(
        "SELECT schedule_id, booker_id FROM schedules
         WHERE ((booker_id = $1 AND attendee_id = $2) OR (booker_id = $2 AND attendee_id = $1))
           AND state = 1 AND last_end_time > $3 ORDER BY schedule_id{FOR_UPDATE}"
    );
    let standing: Vec<(Uuid, Uuid)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(blocker.uuid())
        .bind(blocked.uuid())
        .bind(now.as_millis())
        .fetch_all(&mut **tx)
        .await?;
    for (id, booker) in &standing {
        sqlx::query(
            "UPDATE schedules
             SET state = 2, version = version + 1, told_version = version + 1, actor_id = $2, remind_time = NULL,
                 update_time = $3
             WHERE schedule_id = $1",
        )
        .bind(id)
        .bind(blocker.uuid())
        .bind(now.as_millis())
        .execute(&mut **tx)
        .await?;
        vacate(tx, (*id).into()).await?;
        super::silence(tx, (*booker).into(), (*id).into()).await?;
    }
    Ok(standing.len())
}

/// Names the timer of a booking.
pub(super) fn key(booker: UserId, kind: Kind, id: ScheduleId) -> Key {
    Key { owner: booker, kind, id: id.uuid() }
}

/// From the beginning of the first to the end of the last.
fn whole(times: &[Span]) -> Span {
    let start = times.iter().map(|time| time.start).min().unwrap_or(Timestamp::from_millis(0));
    let end = times.iter().map(|time| time.end).max().unwrap_or(start);
    Span::new(start, end)
}

fn count(schedule: &Schedule) -> i64 {
    i64::try_from(schedule.count).unwrap_or(i64::MAX)
}

fn text_of(reminders: &Reminders) -> String {
    let seconds: Vec<_> = reminders.as_slice().iter().map(|before| before.as_secs().to_string()).collect();
    seconds.join(" ")
}
