//! When somebody is free, as the person says it: ranges of local time for each day of the week, and other ones for
//! single dates.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chassis::clock::Timestamp;

use crate::calendar::zone::{Day, Zone};

/// The most ranges of a day.
pub const MOST_RANGES: usize = 48;

/// So many days ahead a date of its own can be set.
pub const DAYS_AHEAD: i64 = 366;

/// Minutes in a day as a clock shows it.
const MIDNIGHT: u16 = 24 * 60;

/// A range of one day in local time, in minutes since midnight: from the first up to, and without, the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    start: u16,
    end: u16,
}

/// What is wrong with the ranges of a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Where, as a path from the ranges: `[1].end` is the end of the second one, and nothing is all of them.
    pub path: String,
    /// The rule that is broken.
    pub rule: &'static str,
}

impl TimeRange {
    /// Reads `HH:MM` twice.
    ///
    /// # Errors
    /// With the rule that is broken, and of which of the two: `start` or `end`.
    fn parse(start: &str, end: &str) -> Result<Self, (&'static str, &'static str)> {
        let start = minutes(start).map_err(|rule| ("start", rule))?;
        let end = minutes(end).map_err(|rule| ("end", rule))?;
        if end < start {
            let rule = "must be on the same day as the start: what goes past midnight is two ranges, one on each day";
            return Err(("end", rule));
        }
        if end == start {
            return Err(("end", "must be after the start"));
        }
        Ok(Self { start, end })
    }

    /// The first minute.
    pub fn start(self) -> u16 {
        self.start
    }

    /// The first minute after it.
    pub fn end(self) -> u16 {
        self.end
    }
}

/// `HH:MM` as minutes since midnight; `24:00` is the end of the day.
fn minutes(text: &str) -> Result<u16, &'static str> {
    const RULE: &str = "must be a time from 00:00 to 24:00, written HH:MM";
    let (hours, minutes) = text.split_once(':').ok_or(RULE)?;
    let number = |part: &str| {
        let is_number = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u16>().ok().filter(|_| is_number).ok_or(RULE)
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let total = hours * 60 + minutes;
    if minutes < 60 && total <= MIDNIGHT { Ok(total) } else { Err(RULE) }
}

/// Minutes since midnight as `HH:MM`.
pub fn clock(minutes: u16) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// The ranges of a day: in order, none over another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<TimeRange>);

impl Ranges {
    /// Reads `HH:MM` twice for each range.
    ///
    /// # Errors
    /// With the rule that is broken, and where.
    pub fn parse<'a>(ranges: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Broken> {
        let mut found: Vec<TimeRange> = Vec::new();
        for (place, (start, end)) in ranges.into_iter().enumerate() {
            if place == MOST_RANGES {
                return Err(Broken { path: String::new(), rule: "must be at most 48 on a day" });
            }
            let range = TimeRange::parse(start, end)
                .map_err(|(part, rule)| Broken { path: format!("[{place}].{part}"), rule })?;
            if found.last().is_some_and(|before| range.start < before.end) {
                let rule = "must be later than the range before it, and not over it";
                return Err(Broken { path: format!("[{place}]"), rule });
            }
            found.push(range);
        }
        Ok(Self(found))
    }

    /// All of a day.
    fn whole() -> Self {
        Self(vec![TimeRange { start: 0, end: MIDNIGHT }])
    }

    /// In order of time.
    pub fn as_slice(&self) -> &[TimeRange] {
        &self.0
    }

    /// As it is stored: `09:00-12:00 13:00-17:00`.
    pub fn to_text(&self) -> String {
        let texts: Vec<_> =
            self.0.iter().map(|range| format!("{}-{}", clock(range.start), clock(range.end))).collect();
        texts.join(" ")
    }

    /// What was stored.
    ///
    /// # Errors
    /// With the rule that is broken, and where.
    pub fn from_text(text: &str) -> Result<Self, Broken> {
        Self::parse(text.split_ascii_whitespace().map(|range| range.split_once('-').unwrap_or((range, ""))))
    }
}

/// How others may book somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long an offered slot is.
    pub slot_length: Duration,
    /// What has to be free before each booking.
    pub buffer_before: Duration,
    /// What has to be free after each booking.
    pub buffer_after: Duration,
    /// How long ahead one must book.
    pub notice: Duration,
}

impl Terms {
    /// What lies at least between two bookings: what the earlier one wants after itself and the later one before itself may
    /// be the same time.
    pub fn gap(&self) -> Duration {
        self.buffer_before.max(self.buffer_after)
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            slot_length: Duration::from_secs(30 * 60),
            buffer_before: Duration::ZERO,
            buffer_after: Duration::ZERO,
            notice: Duration::ZERO,
        }
    }
}

/// When somebody is free week by week.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weekly {
    /// From Monday to Sunday.
    pub days: [Ranges; 7],
    /// Where the times are meant; `None` for where the person's profile says.
    pub zone: Option<Zone>,
    /// How others may book.
    pub terms: Terms,
}

/// Everything that somebody has said about when it is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    /// Week by week.
    pub weekly: Weekly,
    /// What holds on single dates instead.
    pub custom: BTreeMap<Day, Ranges>,
    /// When that was last said; `None` for somebody who never did.
    pub update_time: Option<Timestamp>,
}

impl Availability {
    /// Of somebody who has not said anything: others may book any time.
    pub fn unsaid() -> Self {
        let days = std::array::from_fn(|_| Ranges::whole());
        Self { weekly: Weekly { days, ..Weekly::default() }, custom: BTreeMap::new(), update_time: None }
    }

    /// The ranges of a date.
    pub fn ranges(&self, day: Day) -> &[TimeRange] {
        self.custom.get(&day).unwrap_or(&self.weekly.days[day.weekday()]).as_slice()
    }
}

/// What is to change about single dates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomChanges {
    /// What holds on these dates from now on, in the order in which they were said. Each is there once.
    pub set: Vec<(Day, Ranges)>,
    /// These dates follow the week again.
    pub removed: Vec<Day>,
}

impl CustomChanges {
    /// Refuses dates that nobody can be booked on, or only in a long time. `today` is the date where the times are meant.
    ///
    /// # Errors
    /// With the place of the date that is set, and the rule that it breaks.
    pub fn check(&self, today: Day) -> Result<(), (usize, &'static str)> {
        let removed: BTreeSet<Day> = self.removed.iter().copied().collect();
        for (place, (day, _)) in self.set.iter().enumerate() {
            if !(-1..=DAYS_AHEAD).contains(&day.since(today)) {
                return Err((place, "must be a date from yesterday to 366 days ahead"));
            }
            if removed.contains(day) {
                return Err((place, "must not be a date that is to be removed"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &str, end: &str) -> TimeRange {
        TimeRange::parse(start, end).unwrap()
    }

    fn broken(ranges: &[(&str, &str)]) -> (String, &'static str) {
        let broken = Ranges::parse(ranges.iter().copied()).unwrap_err();
        (broken.path, broken.rule)
    }

    #[test]
    fn a_range_is_within_a_day() {
        assert_eq!((range("00:00", "24:00").start(), range("00:00", "24:00").end()), (0, 1440));
        let (part, rule) = TimeRange::parse("22:00", "06:00").unwrap_err();
        assert!(part == "end" && rule.contains("midnight"));
        let (part, rule) = TimeRange::parse("09:00", "09:00").unwrap_err();
        assert!(part == "end" && rule.contains("after"));
        for odd in ["24:01", "9:00", "09:60", "0900", "ab:cd", "", "-1:00", "09:00:00", "+9:00", "09: 0"] {
            for (part, range) in [("start", (odd, "24:00")), ("end", ("00:00", odd))] {
                let (wrong, rule) = TimeRange::parse(range.0, range.1).unwrap_err();
                assert!(wrong == part && rule.contains("HH:MM"), "{odd}: {wrong} {rule}");
            }
        }
    }

    #[test]
    fn ranges_are_in_order_and_apart() {
        assert!(Ranges::parse([("09:00", "10:00"), ("10:00", "11:00")]).is_ok());
        let many = |count: u16| {
            let times: Vec<_> = (0..=count).map(|n| clock(n * 10)).collect();
            let pairs: Vec<_> = times.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
            Ranges::parse(pairs)
        };
        assert!(many(48).is_ok());
        assert_eq!(many(49).unwrap_err().path, "");
    }

    #[test]
    fn the_range_that_is_wrong_is_named() {
        assert_eq!(broken(&[("09:00", "10:01"), ("10:00", "11:00")]).0, "[1]");
        assert_eq!(broken(&[("10:00", "11:00"), ("12:00", "13:00"), ("09:00", "10:00")]).0, "[2]");
        assert_eq!(broken(&[("09:00", "10:00"), ("11:00", "11:00")]).0, "[1].end");
        assert_eq!(broken(&[("noon", "13:00")]).0, "[0].start");
    }

    #[test]
    fn what_is_stored_is_what_was_said() {
        for ranges in [vec![], vec![("09:00", "12:30"), ("13:00", "24:00")]] {
            let ranges = Ranges::parse(ranges).unwrap();
            assert_eq!(Ranges::from_text(&ranges.to_text()), Ok(ranges));
        }
        assert!(Ranges::from_text("09:00").is_err());
    }

    #[test]
    fn a_date_goes_before_the_week() {
        let mut availability = Availability::unsaid();
        let day = Day::parse("2027-06-01").unwrap();
        assert_eq!(availability.ranges(day), [range("00:00", "24:00")]);
        availability.custom.insert(day, Ranges::default());
        assert_eq!(availability.ranges(day), []);
        assert_eq!(availability.ranges(day.plus(7)), [range("00:00", "24:00")]);
    }

    #[test]
    fn dates_are_from_yesterday_to_a_year_ahead() {
        let today = Day::parse("2027-06-01").unwrap();
        let set = |days| CustomChanges { set: vec![(today.plus(days), Ranges::default())], removed: vec![] };
        assert!(set(-1).check(today).is_ok() && set(366).check(today).is_ok());
        assert!(set(-2).check(today).is_err() && set(367).check(today).is_err());
        let both = CustomChanges { removed: vec![today], ..set(0) };
        assert!(both.check(today).is_err());
        // The one that is wrong is named.
        let second = CustomChanges { set: [set(3).set, set(367).set].concat(), removed: vec![] };
        assert_eq!(second.check(today).unwrap_err().0, 1);
    }
}
