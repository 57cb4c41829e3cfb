//! How a booking comes again: a part of the rules of RFC 5545, and the times that follow from one.
//!
//! What comes again keeps its local time, in the zone of whoever booked it. A local time that a clock leaves out is as
//! much later as the gap is long, and one that it shows twice is the first. The length is real time, and always the same.

use std::fmt;

use chassis::clock::Timestamp;

use crate::calendar::slots::Span;
use crate::calendar::zone::{Day, Local, Zone};

/// A booking takes place at most so often.
pub const MOST: usize = 366;

/// The names of the days in rules, from Monday.
const DAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];

/// How a booking comes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recurrence {
    /// It does not.
    Once,
    /// By a rule.
    Rule(Rule),
}

/// A rule of RFC 5545.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    frequency: Frequency,
    interval: i64,
    /// On which days of the week, when that is said.
    days: Option<[bool; 7]>,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frequency {
    Daily,
    Weekly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// After a year.
    Unsaid,
    /// After so many times.
    Count(usize),
    /// Not after this date, as local time has it.
    Date(Day),
    /// Not after this instant, in seconds.
    Instant(i64),
}

impl Rule {
    /// Every day, for a year.
    pub const DAILY: Self = Self::each(Frequency::Daily);

    /// Every week, for a year.
    pub const WEEKLY: Self = Self::each(Frequency::Weekly);

    const fn each(frequency: Frequency) -> Self {
        Self { frequency, interval: 1, days: None, end: End::Unsaid }
    }

    /// Reads a rule such as `FREQ=WEEKLY;BYDAY=MO,WE;COUNT=10`.
    ///
    /// # Errors
    /// With the rule of ours that it breaks.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let upper = text.trim().to_ascii_uppercase();
        let text = upper.strip_prefix("RRULE:").unwrap_or(&upper);
        let mut frequency = None;
        let mut rule = Self::DAILY;
        let mut named = Vec::new();
        for part in text.split(';') {
            let (name, value) =
                part.split_once('=').ok_or("must be parts like FREQ=DAILY, with ; between them")?;
            if named.contains(&name) {
                return Err("must have each part once");
            }
            named.push(name);
            match name {
                "FREQ" => {
                    frequency = Some(match value {
                        "DAILY" => Frequency::Daily,
                        "WEEKLY" => Frequency::Weekly,
                        _ => return Err("must have FREQ=DAILY or FREQ=WEEKLY"),
                    });
                }
                "INTERVAL" => {
                    rule.interval = number(value, 52).ok_or("must have an INTERVAL from 1 to 52")?;
                }
                "COUNT" => {
                    let count = number(value, 366).and_then(|count| usize::try_from(count).ok());
                    rule.end = End::Count(count.ok_or("must have a COUNT from 1 to 366")?);
                }
                "UNTIL" => {
                    const RULE: &str = "must have UNTIL as 20270131 or 20270131T120000Z";
                    rule.end = until(value).ok_or(RULE)?;
                }
                "BYDAY" => {
                    rule.days = Some(days(value).ok_or("must have BYDAY as days like MO,WE, each once")?);
                }
                _ => return Err("must have only FREQ, INTERVAL, COUNT, UNTIL and BYDAY"),
            }
        }
        rule.frequency = frequency.ok_or("must have FREQ=DAILY or FREQ=WEEKLY")?;
        if named.contains(&"COUNT") && named.contains(&"UNTIL") {
            return Err("must not have both COUNT and UNTIL");
        }
        if rule.frequency == Frequency::Daily && rule.days.is_some() {
            return Err("must have BYDAY only with FREQ=WEEKLY");
        }
        Ok(rule)
    }

    /// The days on which it can be, the first included, in order and without end.
    fn days_from(&self, first: Day) -> Box<dyn Iterator<Item = Day> + '_> {
        match (self.frequency, self.days) {
            (Frequency::Daily, _) => Box::new((0..).map(move |n| first.plus(n * self.interval))),
            (Frequency::Weekly, None) => Box::new((0..).map(move |n| first.plus(n * 7 * self.interval))),
            (Frequency::Weekly, Some(days)) => {
                // Weeks begin on Monday, as RFC 5545 has it when nobody says otherwise.
                let monday = first.plus(-i64::try_from(first.weekday()).unwrap_or(0));
                let week = move |n: i64| (0..7).map(move |day| monday.plus(n * 7 * self.interval + day));
                let fits = move |day: &Day| *day >= first && days[day.weekday()];
                Box::new((0..).flat_map(week).filter(fits))
            }
        }
    }

    fn has_ended(&self, so_far: usize, day: Day, start: Timestamp) -> bool {
        match self.end {
            End::Unsaid => false,
            End::Count(count) => so_far >= count,
            End::Date(last) => day > last,
            End::Instant(last) => start.as_millis().div_euclid(1000) > last,
        }
    }

    /// The rule with the number of times in place of any other end, for a calendar that does not know our bounds.
    pub fn with_count(&self, count: usize) -> String {
        Self { end: End::Count(count), ..self.clone() }.to_string()
    }
}

impl Recurrence {
    /// Every time that a booking takes place, in order, when the first time is this one.
    ///
    /// # Errors
    /// With the rule that is broken.
    pub fn times(&self, first: Span, zone: &Zone) -> Result<Vec<Span>, &'static str> {
        const YEAR: &str = "must end within a year";
        let Self::Rule(rule) = self else { return Ok(vec![first]) };
        let (length, begin) = (first.length(), zone.local(first.start));
        if rule.days.is_some_and(|days| !days[begin.day.weekday()]) {
            return Err("must have the day of the first time among those of BYDAY");
        }
        let year = begin.day.a_year_later();
        let mut times: Vec<Span> = Vec::new();
        for day in rule.days_from(begin.day) {
            let start = if day == begin.day {
                first.start
            } else {
                zone.instant(Local { day, ..begin }).ok_or("must be within the calendar")?
            };
            if rule.has_ended(times.len(), day, start) {
                break;
            }
            if rule.end == End::Unsaid && (day >= year || times.len() == MOST) {
                break;
            }
            if day > year || times.len() == MOST {
                return Err(YEAR);
            }
            if times.last().is_some_and(|before| before.end > start) {
                return Err("must not come again before it has ended");
            }
            times.push(Span::new(start, start.plus(length)));
        }
        if times.is_empty() { Err("must not end before the first time") } else { Ok(times) }
    }

    /// As it is stored: the rule, or nothing.
    pub fn to_text(&self) -> String {
        match self {
            Self::Once => String::new(),
            Self::Rule(rule) => rule.to_string(),
        }
    }

    /// What was stored.
    ///
    /// # Errors
    /// With the rule that is broken.
    pub fn from_text(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() { Ok(Self::Once) } else { Rule::parse(text).map(Self::Rule) }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.frequency {
            Frequency::Daily => "FREQ=DAILY",
            Frequency::Weekly => "FREQ=WEEKLY",
        })?;
        if self.interval != 1 {
            write!(f, ";INTERVAL={}", self.interval)?;
        }
        if let Some(days) = self.days {
            let names: Vec<_> =
                DAYS.iter().zip(days).filter(|(_, is_in)| *is_in).map(|(name, _)| *name).collect();
            write!(f, ";BYDAY={}", names.join(","))?;
        }
        match self.end {
            End::Unsaid => Ok(()),
            End::Count(count) => write!(f, ";COUNT={count}"),
            End::Date(day) => write!(f, ";UNTIL={}", day.to_string().replace('-', "")),
            End::Instant(seconds) => write!(f, ";UNTIL={}", utc(Timestamp::from_millis(seconds * 1000))),
        }
    }
}

/// An instant as iCalendar writes it in UTC: `20270131T120000Z`.
pub fn utc(time: Timestamp) -> String {
    format!("{}Z", basic(Local::of(time.as_millis())))
}

/// What a clock shows as iCalendar writes it: `20270131T120000`.
pub fn basic(local: Local) -> String {
    let seconds = local.millis / 1000;
    let date = local.day.to_string().replace('-', "");
    format!("{date}T{:02}{:02}{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A number from 1 to `most`, in plain digits.
fn number(text: &str, most: i64) -> Option<i64> {
    let is_plain = !text.is_empty() && text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_plain && (1..=most).contains(number))
}

fn days(text: &str) -> Option<[bool; 7]> {
    let mut days = [false; 7];
    for name in text.split(',') {
        let place = DAYS.iter().position(|day| *day == name)?;
        if std::mem::replace(&mut days[place], true) {
            return None;
        }
    }
    Some(days)
}

fn until(text: &str) -> Option<End> {
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let day = |text: &str| Day::parse(&format!("{}-{}-{}", &text[..4], &text[4..6], &text[6..]));
    if digits(text, 8) {
        return day(text).map(End::Date);
    }
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    if !digits(date, 8) || !digits(time, 6) {
        return None;
    }
    let part = |at: usize, most| time[at..at + 2].parse::<i64>().ok().filter(|number| *number <= most);
    let seconds = part(0, 23)? * 3600 + part(2, 59)? * 60 + part(4, 59)?;
    let local = Local { day: day(date)?, millis: seconds * 1000 };
    Some(End::Instant(local.as_millis() / 1000))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::calendar::zone::MINUTE;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn times_in(zone: &str, start: &str, rule: &str) -> Result<Vec<Span>, &'static str> {
        let start = at(start);
        let first = Span::new(start, start.plus(Duration::from_secs(1800)));
        Recurrence::from_text(rule).unwrap().times(first, &Zone::parse(zone).unwrap())
    }

    fn starts(zone: &str, start: &str, rule: &str) -> Vec<String> {
        times_in(zone, start, rule).unwrap().iter().map(|span| utc(span.start)).collect()
    }

    #[test]
    fn only_the_subset_is_a_rule() {
        for (text, written) in [
            ("FREQ=DAILY", "FREQ=DAILY"),
            ("rrule:freq=weekly;interval=1", "FREQ=WEEKLY"),
            ("COUNT=3;FREQ=WEEKLY;BYDAY=WE,MO;INTERVAL=2", "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE;COUNT=3"),
            ("FREQ=DAILY;UNTIL=20270131", "FREQ=DAILY;UNTIL=20270131"),
            ("FREQ=DAILY;UNTIL=20270131T235959Z", "FREQ=DAILY;UNTIL=20270131T235959Z"),
        ] {
            let rule = Rule::parse(text).unwrap();
            assert_eq!(rule.to_string(), written);
            assert_eq!(Rule::parse(written), Ok(rule));
        }
        for text in [
            "",
            "DAILY",
            "FREQ=MONTHLY",
            "INTERVAL=2",
            "FREQ=DAILY;FREQ=DAILY",
            "FREQ=DAILY;COUNT=0",
            "FREQ=DAILY;COUNT=367",
            "FREQ=DAILY;INTERVAL=53",
            "FREQ=DAILY;COUNT=+1",
            "FREQ=DAILY;BYDAY=MO",
            "FREQ=WEEKLY;BYDAY=1MO",
            "FREQ=WEEKLY;BYDAY=MO,MO",
            "FREQ=WEEKLY;BYDAY=",
            "FREQ=DAILY;UNTIL=2027",
            "FREQ=DAILY;UNTIL=20270230",
            "FREQ=DAILY;UNTIL=20270101T250000Z",
            "FREQ=DAILY;UNTIL=20270101T000000",
            "FREQ=DAILY;COUNT=2;UNTIL=20270101",
            "FREQ=DAILY;BYHOUR=3",
            "FREQ=DAILY;",
            "FREQ=DAILY;UNTIL=é0270101",
        ] {
            assert!(Rule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn local_time_is_kept_over_a_change() {
        assert_eq!(
            starts("Europe/Berlin", "2027-03-26T09:00:00Z", "FREQ=DAILY;COUNT=4"),
            ["20270326T090000Z", "20270327T090000Z", "20270328T080000Z", "20270329T080000Z"]
        );
        // Half past two is not there on the 28th: it is an hour later, once.
        assert_eq!(
            starts("Europe/Berlin", "2027-03-27T01:30:00Z", "FREQ=DAILY;COUNT=3"),
            ["20270327T013000Z", "20270328T013000Z", "20270329T003000Z"]
        );
        // And on the 31st of October it is there twice: the first one counts.
        assert_eq!(
            starts("Europe/Berlin", "2027-10-30T00:30:00Z", "FREQ=DAILY;COUNT=3"),
            ["20271030T003000Z", "20271031T003000Z", "20271101T013000Z"]
        );
        // Unless that is what was booked.
        assert_eq!(
            starts("Europe/Berlin", "2027-10-31T01:30:00Z", "FREQ=DAILY;COUNT=2"),
            ["20271031T013000Z", "20271101T013000Z"]
        );
    }

    #[test]
    fn weeks_begin_on_monday() {
        // A Wednesday.
        assert_eq!(
            starts("UTC", "2027-06-02T09:00:00Z", "FREQ=WEEKLY;BYDAY=MO,WE,FR;COUNT=5"),
            [
                "20270602T090000Z",
                "20270604T090000Z",
                "20270607T090000Z",
                "20270609T090000Z",
                "20270611T090000Z"
            ]
        );
        assert_eq!(
            starts("UTC", "2027-06-02T09:00:00Z", "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE;UNTIL=20270630"),
            [
                "20270602T090000Z",
                "20270614T090000Z",
                "20270616T090000Z",
                "20270628T090000Z",
                "20270630T090000Z"
            ]
        );
        assert!(times_in("UTC", "2027-06-02T09:00:00Z", "FREQ=WEEKLY;BYDAY=MO").is_err());
    }

    #[test]
    fn nothing_goes_on_for_ever() {
        let count = |rule| times_in("Europe/Lisbon", "2027-06-02T09:00:00Z", rule).map(|times| times.len());
        assert_eq!(count(""), Ok(1));
        assert_eq!(count("FREQ=DAILY"), Ok(366));
        assert_eq!(count("FREQ=WEEKLY"), Ok(53));
        assert_eq!(count("FREQ=DAILY;COUNT=366"), Ok(366));
        assert_eq!(count("FREQ=WEEKLY;INTERVAL=52"), Ok(2));
        assert_eq!(count("FREQ=WEEKLY;INTERVAL=52;COUNT=2"), Ok(2));
        for rule in ["FREQ=WEEKLY;COUNT=54", "FREQ=DAILY;UNTIL=20290101", "FREQ=DAILY;UNTIL=20270601"] {
            assert!(count(rule).is_err(), "{rule}");
        }
        assert_eq!(count("FREQ=DAILY;UNTIL=20270602T090000Z"), Ok(1));
        let longest = times_in("Europe/Lisbon", "2027-06-02T09:00:00Z", "FREQ=DAILY;COUNT=366").unwrap();
        assert!(longest[365].end.since(longest[0].start) < Duration::from_secs(367 * 24 * 60 * 60));
    }

    #[test]
    fn it_has_ended_before_it_comes_again() {
        let start = at("2027-03-20T12:00:00Z");
        let first = Span::new(start, start.plus(Duration::from_secs(24 * 60 * 60)));
        let daily = Recurrence::Rule(Rule::DAILY);
        // A day with 23 hours is too short.
        assert!(daily.times(first, &Zone::parse("Europe/Berlin").unwrap()).is_err());
        assert!(daily.times(first, &Zone::utc()).is_ok());
    }

    #[test]
    fn times_are_in_order_and_as_long_in_every_zone() {
        for name in
            ["Pacific/Apia", "Australia/Lord_Howe", "Africa/Casablanca", "America/St_Johns", "Africa/Cairo"]
        {
            let zone = Zone::parse(name).unwrap();
            for hour in 0..24 {
                let start = at("2026-01-05T00:07:00Z").plus(Duration::from_secs(hour * 3600));
                let first = Span::new(start, start.plus(Duration::from_secs(900)));
                let times = Recurrence::Rule(Rule::DAILY).times(first, &zone).unwrap();
                assert_eq!(times.len(), 365);
                assert!(times.iter().all(|time| time.length() == first.length()));
                assert!(times.windows(2).all(|pair| pair[0].end <= pair[1].start));
                let clock = zone.local(start).millis;
                let same = times.iter().filter(|time| zone.local(time.start).millis == clock).count();
                assert!(same >= 364 - 2, "{name}: {same} at {}", clock / MINUTE);
            }
        }
    }
}
