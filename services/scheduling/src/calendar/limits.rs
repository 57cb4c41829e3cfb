//! How much somebody wants to be called, and what is too much: pure functions.
//!
//! A booking counts on the day on which it begins, whoever of the two has booked it.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::calendar::slots::Span;
use crate::calendar::zone::{DAY, Day, Zone};

/// No day is longer, whatever the clocks do on it.
const LONGEST_DAY: Duration = Duration::from_millis(2 * DAY.unsigned_abs());

/// How much somebody wants to be called. Without a word of it there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// At most so long.
    pub longest: Option<Duration>,
    /// At most so many a day; one or more.
    pub per_day: Option<u32>,
}

impl Limits {
    /// Whether a call of this length is too long.
    pub fn is_too_long(&self, length: Duration) -> bool {
        self.longest.is_some_and(|longest| length > longest)
    }
}

/// One of the limits, by the name that it has in the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// How long.
    MaxDuration,
    /// How many a day.
    MaxCallsPerDay,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MaxDuration => "max_duration",
            Self::MaxCallsPerDay => "max_calls_per_day",
        })
    }
}

/// How many calls somebody takes a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daily {
    /// At most so many.
    pub most: u32,
    /// Where the days are.
    pub zone: Zone,
}

impl Daily {
    /// A stretch of time with all that is on one of its days.
    pub fn reach(&self, within: Span) -> Span {
        within.widened(LONGEST_DAY, LONGEST_DAY)
    }

    /// The first of some times, which are in order, that is one too many on its day. `others` is what there is already, at
    /// least within [`reach`](Self::reach) of the times.
    pub fn first_too_many(&self, times: &[Span], others: &[Span]) -> Option<Span> {
        let day = |span: &Span| self.zone.local(span.start).day;
        let mut counts: HashMap<Day, u32> = HashMap::new();
        for other in others {
            *counts.entry(day(other)).or_default() += 1;
        }
        times.iter().copied().find(|time| {
            let count = counts.entry(day(time)).or_default();
            *count += 1;
            *count > self.most
        })
    }
}

#[cfg(test)]
mod tests {
    use chassis::clock::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::calendar::zone::Local;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn at(text: &str) -> Span {
        let start = Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        Span::new(start, start.plus(HOUR))
    }

    fn daily(most: u32, zone: &str) -> Daily {
        Daily { most, zone: Zone::parse(zone).unwrap() }
    }

    #[test]
    fn a_call_is_as_long_as_is_wanted_or_shorter() {
        let limits = Limits { longest: Some(HOUR), per_day: None };
        assert!(!limits.is_too_long(HOUR) && limits.is_too_long(HOUR + Duration::from_secs(1)));
        assert!(!Limits::default().is_too_long(24 * HOUR));
    }

    #[test]
    fn a_day_is_one_where_the_person_is() {
        // In Kathmandu it is 05:45 later: what is one day in UTC is two there.
        let others = [at("2027-02-01T10:00:00Z"), at("2027-02-01T18:14:00Z")];
        let [evening, night] = ["2027-02-01T18:10:00Z", "2027-02-01T18:15:00Z"].map(at);
        let kathmandu = daily(2, "Asia/Kathmandu");
        assert_eq!(kathmandu.first_too_many(&[evening], &others), Some(evening));
        assert_eq!(kathmandu.first_too_many(&[night], &others), None);
        assert_eq!(daily(2, "UTC").first_too_many(&[night], &others), Some(night));
    }

    #[test]
    fn a_booking_that_begins_the_day_before_is_of_that_day() {
        let across = Span::new(at("2027-02-01T23:30:00Z").start, at("2027-02-02T01:00:00Z").end);
        let morning = at("2027-02-02T08:00:00Z");
        assert_eq!(daily(1, "UTC").first_too_many(&[morning], &[across]), None);
        let evening = at("2027-02-01T12:00:00Z");
        assert_eq!(daily(1, "UTC").first_too_many(&[evening], &[across]), Some(evening));
    }

    #[test]
    fn what_comes_again_counts_each_time() {
        let times = ["2027-02-01T10:00:00Z", "2027-02-02T10:00:00Z", "2027-02-03T10:00:00Z"].map(at);
        let busy = [at("2027-02-03T12:00:00Z")];
        assert_eq!(daily(1, "UTC").first_too_many(&times, &busy), Some(times[2]));
        assert_eq!(daily(1, "UTC").first_too_many(&times, &[]), None);
        // Two of one booking can be on one day where the clocks differ.
        let twice = ["2027-02-01T01:00:00Z", "2027-02-01T23:00:00Z"].map(at);
        assert_eq!(daily(1, "UTC").first_too_many(&twice, &[]), Some(twice[1]));
    }

    proptest! {
        #[test]
        fn all_of_a_day_is_within_reach(
            minute in 29_000_000_i64..31_000_000,
            zone in prop::sample::select(vec!["Pacific/Apia", "America/New_York", "Asia/Beirut", "Australia/Lord_Howe"]),
        ) {
            let daily = daily(1, zone);
            let start = Timestamp::from_millis(minute * 60_000);
            let time = Span::new(start, start.plus(HOUR));
            let today = daily.zone.local(start).day;
            let bound = |day| daily.zone.instant(Local { day, millis: 0 }).unwrap();
            let reach = daily.reach(time);
            prop_assert!(reach.start <= bound(today) && bound(today.plus(1)) <= reach.end);
            // One more on the same day, wherever on it, is one too many.
            for other in [bound(today), bound(today.plus(1)).minus(Duration::from_millis(1))] {
                let other = Span::new(other, other.plus(HOUR));
                prop_assert_eq!(daily.first_too_many(&[time], &[other]), Some(time));
            }
        }
    }
}
