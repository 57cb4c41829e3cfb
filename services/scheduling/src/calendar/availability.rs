//! When somebody is free, as the person says it: ranges of local time for each day of the week, and other ones for
//! single dates.

use std::collections::BTreeMap;
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

impl TimeRange {
    /// Reads `HH:MM` twice.
    ///
    /// # Errors
    /// With the rule that is broken.
    pub fn parse(start: &str, end: &str) -> Result<Self, &'static str> {
        let (start, end) = (minutes(start)?, minutes(end)?);
        if end < start {
            return Err(
                "must end on the day on which they start: what goes past midnight is two ranges, one on each day",
            );
        }
        if end == start {
            return Err("must end after they start");
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
    const RULE: &str = "must have times from 00:00 to 24:00, written HH:MM";
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
    /// These ranges.
    ///
    /// # Errors
    /// With the rule that is broken.
    pub fn new(ranges: Vec<TimeRange>) -> Result<Self, &'static str> {
        if ranges.len() > MOST_RANGES {
            return Err("must be at most 48 on a day");
        }
        if ranges.windows(2).any(|pair| pair[1].start < pair[0].end) {
            return Err("must be in order of time, none over another");
        }
        Ok(Self(ranges))
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
    /// With the rule that is broken.
    pub fn from_text(text: &str) -> Result<Self, &'static str> {
        let ranges = text.split_ascii_whitespace().map(|range| {
            let (start, end) = range.split_once('-').ok_or("must have a start and an end")?;
            TimeRange::parse(start, end)
        });
        Self::new(ranges.collect::<Result<_, _>>()?)
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
    /// What holds on these dates from now on.
    pub set: BTreeMap<Day, Ranges>,
    /// These dates follow the week again.
    pub removed: Vec<Day>,
}

impl CustomChanges {
    /// Refuses dates that nobody can be booked on, or only in a long time. `today` is the date where the times are meant.
    ///
    /// # Errors
    /// With the rule that is broken.
    pub fn check(&self, today: Day) -> Result<(), &'static str> {
        let fits = |day: &Day| (-1..=DAYS_AHEAD).contains(&day.since(today));
        if !self.set.keys().all(fits) {
            return Err("must have dates from yesterday to 366 days ahead");
        }
        if self.removed.iter().any(|day| self.set.contains_key(day)) {
            return Err("must not have a date that is to be removed");
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

    #[test]
    fn a_range_is_within_a_day() {
        assert_eq!((range("00:00", "24:00").start(), range("00:00", "24:00").end()), (0, 1440));
        assert!(TimeRange::parse("22:00", "06:00").unwrap_err().contains("midnight"));
        assert!(TimeRange::parse("09:00", "09:00").unwrap_err().contains("after"));
        for odd in ["24:01", "9:00", "09:60", "0900", "ab:cd", "", "-1:00", "09:00:00", "+9:00", "09: 0"] {
            assert!(TimeRange::parse(odd, "24:00").unwrap_err().contains("HH:MM"), "{odd}");
        }
    }

    #[test]
    fn ranges_are_in_order_and_apart() {
        assert!(Ranges::new(vec![range("09:00", "10:00"), range("10:00", "11:00")]).is_ok());
        assert!(Ranges::new(vec![range("09:00", "10:01"), range("10:00", "11:00")]).is_err());
        assert!(Ranges::new(vec![range("10:00", "11:00"), range("09:00", "10:00")]).is_err());
        let many = |count: u16| {
            let at = |n: u16| clock(n * 10);
            Ranges::new((0..count).map(|n| range(&at(n), &at(n + 1))).collect())
        };
        assert!(many(48).is_ok());
        assert!(many(49).is_err());
    }

    #[test]
    fn what_is_stored_is_what_was_said() {
        for ranges in [vec![], vec![range("09:00", "12:30"), range("13:00", "24:00")]] {
            let ranges = Ranges::new(ranges).unwrap();
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
        let set = |days| CustomChanges {
            set: BTreeMap::from([(today.plus(days), Ranges::default())]),
            removed: vec![],
        };
        assert!(set(-1).check(today).is_ok() && set(366).check(today).is_ok());
        assert!(set(-2).check(today).is_err() && set(367).check(today).is_err());
        let both = CustomChanges { removed: vec![today], ..set(0) };
        assert!(both.check(today).is_err());
    }
}
