//! Days of birth and ages.
//!
//! A day is one number, year, month and day written one after the other: 19550430. Then an age is a difference: what is
//! left of it by ten thousands are whole years, also for who was born on 29 February. The database compares the same
//! numbers, so a filter finds exactly those whose age is shown so.

use std::fmt;

use chassis::clock::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::error::Error;

/// How old a user is at least, and at most.
const AGES: std::ops::RangeInclusive<i64> = 13..=130;

/// One year later in such a number.
const YEAR: i64 = 10_000;

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(i64);

impl Day {
    /// The day that it is in UTC.
    pub fn at(time: Timestamp) -> Self {
        let instant = jiff::Timestamp::from_millisecond(time.as_millis()).unwrap_or_default();
        Self::of(instant.to_zoned(TimeZone::UTC).date())
    }

    fn of(date: Date) -> Self {
        Self(i64::from(date.year()) * YEAR + i64::from(date.month()) * 100 + i64::from(date.day()))
    }
}

/// The day on which somebody was born.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DateOfBirth(Day);

impl DateOfBirth {
    /// Reads `YYYY-MM-DD`, or nothing from an empty text; `field` is named when it is no day of the calendar.
    pub fn parse_optional(field: &'static str, text: &str) -> Result<Option<Self>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        match day(text) {
            Some(day) => Ok(Some(Self(day))),
            None => Err(Error::invalid(field, "must be a day of the calendar such as 1955-04-30, or empty")),
        }
    }

    /// Refuses a day on which no user can have been born, seen from today.
    pub fn check(self, field: &'static str, today: Day) -> Result<(), Error> {
        if self.0 > today {
            return Err(Error::invalid(field, "must not be in the future"));
        }
        if AGES.contains(&self.age(today)) {
            Ok(())
        } else {
            Err(Error::invalid(field, "must be 13 to 130 years ago"))
        }
    }

    /// Whole years on that day.
    pub fn age(self, today: Day) -> i64 {
        (today.0 - self.0.0) / YEAR
    }

    /// A day that is in the database because it was parsed before.
    pub(crate) fn stored(number: i64) -> Self {
        Self(Day(number))
    }

    /// The number that stands for it.
    pub fn number(self) -> i64 {
        self.0.0
    }
}

impl fmt::Display for DateOfBirth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Day(number) = self.0;
        write!(f, "{:04}-{:02}-{:02}", number / YEAR, number / 100 % 100, number % 100)
    }
}

fn day(text: &str) -> Option<Day> {
    let bytes = text.as_bytes();
    let is_shaped = bytes.len() == 10
        && bytes.iter().enumerate().all(|(place, byte)| match place {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if !is_shaped {
        return None;
    }
    let (year, month, day) = (text[..4].parse().ok()?, text[5..7].parse().ok()?, text[8..].parse().ok()?);
    Date::new(year, month, day).ok().filter(|date| date.year() > 0).map(Day::of)
}

/// The days of birth of people of certain ages on a certain day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    /// Born on this day or before it; `None` for any.
    latest: Option<i64>,
    /// Born after this day; `None` for any.
    after: Option<i64>,
}

impl Ages {
    /// The days for `min`, `max` and `exactly` so many years, where 0 means any.
    pub fn parse(min: i32, max: i32, exactly: i32, today: Day) -> Result<Self, Error> {
        if exactly != 0 && (min != 0 || max != 0) {
            return Err(Error::invalid("age", "must not be given together with min_age or max_age"));
        }
        if max != 0 && min > max {
            return Err(Error::invalid("max_age", "must not be less than min_age"));
        }
        let [min, max] = [min.max(exactly), max.max(exactly)].map(|years| (years > 0).then_some(years));
        Ok(Self {
            latest: min.map(|years| today.0 - i64::from(years) * YEAR),
            after: max.map(|years| today.0 - (i64::from(years) + 1) * YEAR),
        })
    }

    /// The last day of birth, as a number.
    pub fn latest(self) -> Option<i64> {
        self.latest
    }

    /// The last day of birth that is too long ago, as a number.
    pub fn after(self) -> Option<i64> {
        self.after
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use proptest::prelude::*;

    use super::*;

    fn born(text: &str) -> DateOfBirth {
        DateOfBirth::parse_optional("day", text).unwrap().unwrap()
    }

    fn today(text: &str) -> Day {
        day(text).unwrap()
    }

    #[test]
    fn a_day_is_one_of_the_calendar_in_one_spelling() {
        assert_eq!(born("1955-04-30").to_string(), "1955-04-30");
        assert_eq!(born("2000-02-29").to_string(), "2000-02-29");
        assert_eq!(DateOfBirth::parse_optional("day", "").unwrap(), None);
        for text in [
            "1955-4-30",
            "1955-04-31",
            "1900-02-29",
            "0000-01-01",
            "1955-13-01",
            "1955-00-01",
            "19550430",
            "55-04-30",
            "1955/04/30",
            "1955-04-30T",
            "+195-04-30",
            "1955-04-3०",
            "yesterday",
        ] {
            let refused = DateOfBirth::parse_optional("day", text);
            assert!(matches!(refused, Err(Error::Invalid { field: "day", .. })), "{text}");
        }
    }

    #[test]
    fn users_are_thirteen_to_a_hundred_and_thirty() {
        let rule = |text: &str| match born(text).check("day", today("2026-11-20")) {
            Ok(()) => String::new(),
            Err(Error::Invalid { rule, .. }) => rule.into_owned(),
            Err(other) => panic!("{other}"),
        };
        for good in ["2013-11-20", "1896-11-20", "1895-11-21"] {
            assert_eq!(rule(good), "", "{good}");
        }
        assert!(rule("2013-11-21").contains("13 to 130"));
        assert!(rule("1895-11-20").contains("13 to 130"));
        assert!(rule("2026-11-21").contains("future"));
    }

    #[test]
    fn a_day_begins_in_utc() {
        assert_eq!(Day::at(Timestamp::from_millis(951_782_399_999)), today("2000-02-28"));
        assert_eq!(Day::at(Timestamp::from_millis(951_782_400_000)), today("2000-02-29"));
        assert_eq!(Day::at(Timestamp::from_millis(0)), today("1970-01-01"));
    }

    #[test]
    fn ages_that_contradict_each_other_are_refused() {
        let now = today("2026-11-20");
        let field = |min, max, exactly| match Ages::parse(min, max, exactly, now) {
            Ok(_) => "",
            Err(Error::Invalid { field, .. }) => field,
            Err(other) => panic!("{other}"),
        };
        assert_eq!([field(60, 0, 0), field(0, 60, 0), field(60, 60, 0), field(0, 0, 60)], [""; 4]);
        assert_eq!([field(61, 60, 0), field(60, 0, 60), field(0, 60, 60)], ["max_age", "age", "age"]);
        assert_eq!(Ages::parse(0, 0, 0, now).unwrap(), Ages::default());
    }

    proptest! {
        /// Against the calendar: birthdays are counted one by one.
        #[test]
        fn an_age_is_the_number_of_birthdays(days in 0_i32..47_000, from in 0_i32..20_000) {
            let birth = Date::constant(1895, 1, 1).checked_add(from.days()).unwrap();
            let now = birth.checked_add(days.days()).unwrap();
            let has_come = (now.month(), now.day()) >= (birth.month(), birth.day());
            let birthdays = i64::from(now.year()) - i64::from(birth.year()) - i64::from(!has_come);
            prop_assert_eq!(DateOfBirth(Day::of(birth)).age(Day::of(now)), birthdays);
        }

        /// A filter finds a day of birth exactly when the age that is shown for it fits.
        #[test]
        fn a_filter_finds_the_ages_that_are_shown(days in 0_i32..47_000, min in 0_i32..140, span in 0_i32..30) {
            let now = Date::constant(2026, 2, 28);
            let birth = DateOfBirth(Day::of(now.checked_sub(days.days()).unwrap()));
            let age = birth.age(Day::of(now));
            let found = |ages: Ages| {
                ages.latest().is_none_or(|latest| birth.number() <= latest)
                    && ages.after().is_none_or(|after| birth.number() > after)
            };
            let max = min + span;
            let fits = (min == 0 || age >= i64::from(min)) && (max == 0 || age <= i64::from(max));
            prop_assert_eq!(found(Ages::parse(min, max, 0, Day::of(now)).unwrap()), fits);
            let exact = min == 0 || age == i64::from(min);
            prop_assert_eq!(found(Ages::parse(0, 0, min, Day::of(now)).unwrap()), exact);
        }
    }
}
