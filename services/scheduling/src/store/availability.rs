//! When people are free.

use std::collections::BTreeMap;
use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::UserId;
use sqlx::QueryBuilder;

use super::super::super::Failure;
use super::super::Db;
use super::bookings::lock_people;
use super::{Store, Tx};
use crate::calendar::availability::{Availability, CustomChanges, Ranges, Terms, Weekly};
use crate::calendar::error::Refusal;
use crate::calendar::zone::{Day, Zone};
use crate::error::Error;

/// So many dates are written with one statement: few statements hold the lock shortly, and each stays of a size that any
/// database takes.
const AT_ONCE: usize = 256;

#[derive(sqlx::FromRow)]
struct Week {
    week: String,
    time_zone: String,
    slot_length: i64,
    buffer_before: i64,
    buffer_after: i64,
    notice: i64,
    update_time: i64,
}

impl Store {
    pub async fn availability(&self, user: UserId, from: Day) -> Result<Option<Availability>, Error> {
        let week: Option<Week> = sqlx::query_as(
            "SELECT week, time_zone, slot_length, buffer_before, buffer_after, notice, update_time
             FROM availabilities WHERE user_id = $1",
        )
        .bind(user.uuid())
        .fetch_optional(self.pool.read())
        .await?;
        let Some(week) = week else { return Ok(None) };
        let custom: Vec<(String, String)> =
            sqlx::query_as("SELECT date, ranges FROM custom_days WHERE user_id = $1 AND date >= $2")
                .bind(user.uuid())
                .bind(from.to_string())
                .fetch_all(self.pool.read())
                .await?;
        let custom: BTreeMap<Day, Ranges> = custom
            .iter()
            .map(|(date, ranges)| {
                let day = Day::parse(date).ok_or(corrupt("a date that is none"))?;
                Ok((day, Ranges::from_text(ranges).map_err(|_| corrupt("ranges that are none"))?))
            })
            .collect::<Result<_, Error>>()?;
        let update_time = Some(Timestamp::from_millis(week.update_time));
        Ok(Some(Availability { weekly: week.read()?, custom, update_time }))
    }

    pub async fn set_weekly(&self, user: UserId, weekly: &Weekly, now: Timestamp) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        only_of_the_living(&mut tx, user).await?;
        let days: Vec<_> = weekly.days.iter().map(Ranges::to_text).collect();
        sqlx::query(
            "INSERT INTO availabilities (user_id, week, time_zone, slot_length, buffer_before, buffer_after, notice,
                                         update_time)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (user_id) DO UPDATE
             SET week = excluded.week, time_zone = excluded.time_zone, slot_length = excluded.slot_length,
                 buffer_before = excluded.buffer_before, buffer_after = excluded.buffer_after,
                 notice = excluded.notice, update_time = excluded.update_time",
        )
        .bind(user.uuid())
        .bind(days.join("/"))
        .bind(weekly.zone.as_ref().map(Zone::name).unwrap_or_default())
        .bind(millis(weekly.terms.slot_length))
        .bind(millis(weekly.terms.buffer_before))
        .bind(millis(weekly.terms.buffer_after))
        .bind(millis(weekly.terms.notice))
        .bind(now.as_millis())
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    pub async fn set_custom(
        &self,
        user: UserId,
        changes: &CustomChanges,
        oldest: Day,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        only_of_the_living(&mut tx, user).await?;
        // Whoever says something about a date has said when it is free: on no other date, until there are weeks.
        let terms = Terms::default();
        sqlx::query(
            "INSERT INTO availabilities (user_id, week, time_zone, slot_length, buffer_before, buffer_after, notice,
                                         update_time)
             VALUES ($1, '//////', '', $2, $3, $3, $4, $5)
             ON CONFLICT (user_id) DO UPDATE SET update_time = excluded.update_time",
        )
        .bind(user.uuid())
        .bind(millis(terms.slot_length))
        .bind(millis(terms.buffer_before))
        .bind(millis(terms.notice))
        .bind(now.as_millis())
        .execute(&mut *tx)
        .await?;
        sqlx::query("DELETE FROM custom_days WHERE user_id = $1 AND date < $2")
            .bind(user.uuid())
            .bind(oldest.to_string())
            .execute(&mut *tx)
            .await?;
        let replaced: Vec<_> = changes.removed.iter().chain(changes.set.iter().map(|(day, _)| day)).collect();
        for part in replaced.chunks(AT_ONCE) {
            let mut rows = QueryBuilder::<Db>::new("DELETE FROM custom_days WHERE user_id = ");
            rows.push_bind(user.uuid()).push(" AND date IN (");
            let mut dates = rows.separated(", ");
            for day in part {
                dates.push_bind(day.to_string());
            }
            dates.push_unseparated(")");
            rows.build().execute(&mut *tx).await?;
        }
        for part in changes.set.chunks(AT_ONCE) {
            let mut rows = QueryBuilder::<Db>::new("INSERT INTO custom_days (user_id, date, ranges) ");
            rows.push_values(part, |mut row, (day, ranges)| {
                row.push_bind(user.uuid()).push_bind(day.to_string()).push_bind(ranges.to_text());
            });
            rows.build().execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }
}

impl Week {
    fn read(self) -> Result<Weekly, Error> {
        let days: Vec<_> = self
            .week
            .split('/')
            .map(Ranges::from_text)
            .collect::<Result<_, _>>()
            .map_err(|_| corrupt("ranges that are none"))?;
        let days = days.try_into().map_err(|_| corrupt("a week without seven days"))?;
        let zone = match self.time_zone.as_str() {
            "" => None,
            // One that has gone from the database of zones since: that of the profile is the best there is.
            name => Zone::parse(name),
        };
        let terms = Terms {
            slot_length: span(self.slot_length),
            buffer_before: span(self.buffer_before),
            buffer_after: span(self.buffer_after),
            notice: span(self.notice),
        };
        Ok(Weekly { days, zone, terms })
    }
}

/// An account that is gone says nothing any more: what it said would stay for ever.
async fn only_of_the_living(tx: &mut Tx, user: UserId) -> Result<(), Error> {
    match lock_people(tx, [user, user]).await? {
        None => Ok(()),
        Some(gone) => Err(Refusal::UserNotFound(gone).into()),
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

fn span(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

fn corrupt(what: &'static str) -> Error {
    Error::Store(Failure::Corrupt(what))
}
