//! Time zones: between instants and the local time that people mean.

use std::fmt;
use std::ops::Range;

use chassis::clock::Timestamp;
use chassis::time_zone;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

/// Milliseconds in a minute.
pub const MINUTE: i64 = 60_000;

/// Milliseconds in a day as a clock shows it.
pub const DAY: i64 = 24 * 60 * MINUTE;

/// A time zone of the IANA database that comes with the program.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// A date as the number of days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i64);

/// What a clock on the wall shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Local {
    /// The date.
    pub day: Day,
    /// Milliseconds since midnight, as the clock counts them.
    pub millis: i64,
}

/// A stretch of time in which clocks are not put forward or back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steady {
    /// From the first instant up to, and without, the last.
    pub span: Range<i64>,
    /// What is added to an instant to get what the clock shows, in milliseconds.
    pub offset: i64,
}

impl Zone {
    /// The zone of this IANA name, in either case; `None` when there is none.
    pub fn parse(name: &str) -> Option<Self> {
        let zone = TimeZone::get(name).ok().filter(|zone| !zone.is_unknown())?;
        zone.iana_name().is_some_and(time_zone::is_of_people).then_some(Self(zone))
    }

    /// Coordinated universal time.
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// Its IANA name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// What the clock shows.
    pub fn local(&self, time: Timestamp) -> Local {
        Local::of(time.as_millis() + self.offset(time))
    }

    /// What is added to an instant to get what the clock shows, in milliseconds.
    pub fn offset(&self, time: Timestamp) -> i64 {
        i64::from(self.0.to_offset(instant(time.as_millis())).seconds()) * 1000
    }

    /// When the clock shows this. What it leaves out is as much later as the gap is long; of what it shows twice it is
    /// the first, as RFC 5545 has it. `None` outside of the calendar.
    pub fn instant(&self, local: Local) -> Option<Timestamp> {
        let time = Time::midnight().checked_add(jiff::SignedDuration::from_millis(local.millis)).ok()?;
        let at = DateTime::from_parts(local.day.date()?, time);
        let found = self.0.to_ambiguous_timestamp(at).compatible().ok()?;
        Some(Timestamp::from_millis(found.as_millisecond()))
    }

    /// A range of time cut where clocks are put forward or back, in order.
    pub fn steady(&self, span: Range<i64>) -> Vec<Steady> {
        let mut found = Vec::new();
        let mut start = span.start;
        // Changes at an instant count from that instant on.
        for change in self.0.following(instant(start)) {
            let at = change.timestamp().as_millisecond();
            if at >= span.end {
                break;
            }
            found.push(Steady { span: start..at, offset: self.offset(Timestamp::from_millis(start)) });
            start = at;
        }
        if start < span.end {
            found.push(Steady { span: start..span.end, offset: self.offset(Timestamp::from_millis(start)) });
        }
        found
    }

    /// The changes of the clock in a range of time, the last one before it included: when, from which offset in seconds,
    /// to which, what the zone is called then, and whether that is summer time.
    pub fn changes(&self, span: Range<i64>) -> Vec<Change> {
        let mut times: Vec<i64> = Vec::new();
        if let Some(before) = self.0.preceding(instant(span.start + 1)).next() {
            times.push(before.timestamp().as_millisecond());
        }
        let after = self.0.following(instant(span.start)).map(|change| change.timestamp().as_millisecond());
        times.extend(after.take_while(|at| *at < span.end));
        times.into_iter().map(|at| self.change(at)).collect()
    }

    /// The zone as it is at an instant, as if it changed then.
    pub fn change(&self, at: i64) -> Change {
        let before = self.0.to_offset(instant(at - 1)).seconds();
        let info = self.0.to_offset_info(instant(at));
        Change {
            at,
            from: before,
            to: info.offset().seconds(),
            name: info.abbreviation().to_owned(),
            is_summer: info.dst().is_dst(),
        }
    }
}

/// That clocks are put forward or back, or that their time gets another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// Seconds east of Greenwich before.
    pub from: i32,
    /// Seconds east of Greenwich from then on.
    pub to: i32,
    /// What the time is called from then on.
    pub name: String,
    /// Whether that is summer time.
    pub is_summer: bool,
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// To the nearest instant that the calendar has: what people ask for is checked to be within it long before.
fn instant(millis: i64) -> jiff::Timestamp {
    let (first, last) = (jiff::Timestamp::MIN, jiff::Timestamp::MAX);
    let within = millis.clamp(first.as_millisecond(), last.as_millisecond());
    jiff::Timestamp::from_millisecond(within).unwrap_or(last)
}

impl Local {
    /// What a clock shows so many milliseconds after the midnight with which 1970 began, when nobody touches it.
    pub fn of(millis: i64) -> Self {
        Self { day: Day(millis.div_euclid(DAY)), millis: millis.rem_euclid(DAY) }
    }

    /// The same clock, counted on from 1970.
    pub fn as_millis(self) -> i64 {
        self.day.0 * DAY + self.millis
    }
}

impl Day {
    /// Reads `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |at: usize, byte: u8| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        };
        if text.len() != 10 || !text.bytes().enumerate().all(|(at, byte)| is_digit(at, byte)) {
            return None;
        }
        text.parse().ok().map(Self::of)
    }

    /// The day of a date.
    pub fn of(date: Date) -> Self {
        let since = date.to_zoned(TimeZone::UTC).map_or(0, |midnight| midnight.timestamp().as_millisecond());
        Self(since.div_euclid(DAY))
    }

    /// The date; `None` outside of the calendar.
    pub fn date(self) -> Option<Date> {
        let midnight = jiff::Timestamp::from_millisecond(self.0.checked_mul(DAY)?).ok()?;
        Some(TimeZone::UTC.to_datetime(midnight).date())
    }

    /// The day so many days later.
    #[must_use]
    pub fn plus(self, days: i64) -> Self {
        Self(self.0 + days)
    }

    /// How many days this is after another one.
    pub fn since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// The same date a year later; the 29th of February becomes the 28th.
    #[must_use]
    pub fn a_year_later(self) -> Self {
        let later = self.date().and_then(|date| date.checked_add(jiff::Span::new().years(1)).ok());
        later.map_or(self.plus(365), Self::of)
    }

    /// The day of the week, from 0 for Monday.
    pub fn weekday(self) -> usize {
        // 1970 began on a Thursday.
        usize::try_from((self.0 + 3).rem_euclid(7)).unwrap_or(0)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.date().map_or(Err(fmt::Error), |date| date.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn local(day: &str, hour: i64, minute: i64) -> Local {
        Local { day: Day::parse(day).unwrap(), millis: (hour * 60 + minute) * MINUTE }
    }

    #[test]
    fn only_names_of_the_database_are_zones() {
        for name in ["Europe/Lisbon", "UTC", "Asia/Kathmandu", "America/Argentina/Buenos_Aires"] {
            assert_eq!(Zone::parse(name).unwrap().name(), name);
        }
        assert_eq!(Zone::parse("europe/lisbon").unwrap().name(), "Europe/Lisbon");
        for name in [
            "",
            " ",
            "Mars/Olympus",
            "+02:00",
            "CET-1CEST,M3.5.0,M10.5.0/3",
            "Etc/Unknown",
            "Factory",
            "localtime",
            "../etc",
        ] {
            assert!(Zone::parse(name).is_none(), "{name}");
        }
    }

    #[test]
    fn a_gap_is_jumped_and_of_a_fold_the_first_is_taken() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        assert_eq!(berlin.instant(local("2027-03-28", 2, 30)), Some(at("2027-03-28T01:30:00Z")));
        assert_eq!(berlin.instant(local("2027-10-31", 2, 30)), Some(at("2027-10-31T00:30:00Z")));
        assert_eq!(berlin.local(at("2027-10-31T01:30:00Z")), local("2027-10-31", 2, 30));
    }

    #[test]
    fn days_are_dates() {
        for text in ["1970-01-01", "2026-02-28", "2028-02-29", "2026-12-31"] {
            assert_eq!(Day::parse(text).unwrap().to_string(), text);
        }
        for text in
            ["2026-02-29", "2026-13-01", "2026-1-1", "20260101", "2026-01-01T00:00:00Z", "", "+026-01-01"]
        {
            assert_eq!(Day::parse(text), None, "{text}");
        }
        assert_eq!(Day::parse("2026-06-01").unwrap().weekday(), 0);
        assert_eq!(Day::parse("1969-12-28").unwrap().weekday(), 6);
        assert_eq!(Day::parse("2028-02-29").unwrap().a_year_later(), Day::parse("2029-02-28").unwrap());
    }

    #[test]
    fn steady_stretches_cover_the_whole_and_end_where_clocks_change() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        let (start, end) = (at("2027-01-01T00:00:00Z").as_millis(), at("2028-01-01T00:00:00Z").as_millis());
        let steady = berlin.steady(start..end);
        assert_eq!(steady.len(), 3);
        assert_eq!((steady[0].span.start, steady[2].span.end), (start, end));
        assert!(steady.windows(2).all(|pair| pair[0].span.end == pair[1].span.start));
        assert_eq!(steady[1].span.start, at("2027-03-28T01:00:00Z").as_millis());
        // From the very instant of a change there is nothing of the time before.
        let spring = steady[1].span.start;
        assert_eq!(
            berlin.steady(spring..spring + 1),
            [Steady { span: spring..spring + 1, offset: 7_200_000 }]
        );
    }
}
