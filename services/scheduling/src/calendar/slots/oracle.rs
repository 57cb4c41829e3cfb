//! Free time held against an oracle that knows nothing of offsets and changes: it asks the library for the date and the
//! time of every single minute.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::*;
use crate::calendar::availability::{Ranges, TimeRange};
use crate::calendar::zone::Day;

/// Zones that have done something odd since 1996, and some that have not.
const ODD: [&str; 24] = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/El_Aaiun",
    "America/Caracas",
    "America/Havana",
    "America/Godthab",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Europe/Istanbul",
    "Europe/London",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "Asia/Amman",
];

fn minute(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond() / MINUTE
}

/// Ranges that a change can hit in every way: across it, with either end in it, within it, at midnight.
fn week() -> Availability {
    let of = |text| Ranges::from_text(text).unwrap();
    let mut availability = Availability::unsaid();
    availability.weekly.days = [
        of("00:00-24:00"),
        of("00:10-00:40 01:15-01:45 02:15-03:30 23:20-24:00"),
        of("00:00-00:30 00:30-01:30 02:00-03:00 23:00-23:45"),
        of(""),
        of("01:59-02:01 02:30-02:31 03:00-12:00 22:30-24:00"),
        of("00:00-01:00 01:20-02:20 02:40-23:59"),
        of("00:20-02:30 03:10-03:50 12:00-24:00"),
    ];
    availability
}

fn truth(availability: &Availability, zone: &TimeZone, minutes: std::ops::Range<i64>) -> Vec<bool> {
    let is_free = |minute: i64| {
        let instant = jiff::Timestamp::from_second(minute * 60).unwrap();
        let local = zone.to_datetime(instant);
        let clock = u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).unwrap();
        let within = |range: &TimeRange| range.start() <= clock && clock < range.end();
        availability.ranges(Day::of(local.date())).iter().any(within)
    };
    minutes.map(is_free).collect()
}

fn found(availability: &Availability, zone: &Zone, minutes: std::ops::Range<i64>) -> Vec<bool> {
    let time = |minute: i64| Timestamp::from_millis(minute * MINUTE);
    let window = Span::new(time(minutes.start), time(minutes.end));
    let stretches = free(availability, zone, window);
    assert!(stretches.is_sorted_by(|one, next| one.end <= next.start), "{stretches:?}");
    let mut free = vec![false; minutes.clone().count()];
    for stretch in stretches {
        let (start, end) = (stretch.start.max(window.start), stretch.end.min(window.end));
        for minute in start.as_millis() / MINUTE..end.as_millis() / MINUTE {
            free[usize::try_from(minute - minutes.start).unwrap()] = true;
        }
    }
    free
}

/// Windows around every change from 1996 to 2037, and a random week of each decade.
fn windows(zone: &TimeZone, around: i64) -> Vec<std::ops::Range<i64>> {
    let (first, last) = (minute("1996-01-01T00:00:00Z"), minute("2038-01-01T00:00:00Z"));
    let start = jiff::Timestamp::from_second(first * 60).unwrap();
    let changes = zone.following(start).map(|change| change.timestamp().as_second() / 60);
    let around = |at: i64| at - around..at + around;
    let mut windows: Vec<_> = changes.take_while(|at| *at < last).map(around).collect();
    for decade in 0..4 {
        let begin = first + decade * 10 * 365 * 24 * 60 + fastrand::i64(0..2 * 365 * 24 * 60);
        windows.push(begin..begin + 7 * 24 * 60);
    }
    windows
}

/// Whether the tests may take their time.
fn is_long() -> bool {
    std::env::var("PARLOR_TEST_PROFILE").is_ok_and(|profile| profile == "long")
}

#[test]
fn every_minute_is_as_the_clock_on_the_wall_says() {
    let all: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    assert!(all.len() > 400, "{} zones", all.len());
    let step = if is_long() { 1 } else { 12 };
    let some = all.iter().map(String::as_str).skip(fastrand::usize(..step)).step_by(step);
    let names: BTreeSet<&str> = some.chain(ODD).filter(|name| Zone::parse(name).is_some()).collect();
    let around = if is_long() { 36 * 60 } else { 150 };
    let availability = week();
    let (names, threads): (Vec<_>, _) = (names.into_iter().collect(), 4);
    let checked = std::thread::scope(|scope| {
        let share = |thread: usize| {
            let (names, availability) = (&names, &availability);
            scope.spawn(move || {
                let mut checked = 0_usize;
                for name in names.iter().skip(thread).step_by(threads) {
                    let (ours, theirs) = (Zone::parse(name).unwrap(), TimeZone::get(name).unwrap());
                    for window in windows(&theirs, around) {
                        let truth = truth(availability, &theirs, window.clone());
                        let found = found(availability, &ours, window.clone());
                        let differs = truth.iter().zip(&found).position(|(truth, found)| truth != found);
                        assert_eq!(differs, None, "{name}, minutes after {}", window.start);
                        checked += truth.len();
                    }
                }
                checked
            })
        };
        let shares: Vec<_> = (0..threads).map(share).collect();
        shares.into_iter().map(|share| share.join().unwrap()).sum::<usize>()
    });
    println!("{} zones, {checked} minutes, 0 differences", names.len());
    assert!(names.len() >= 60 && checked > 1_000_000, "{} zones, {checked} minutes", names.len());
}

#[test]
fn a_window_shows_the_same_wherever_it_is_cut() {
    // Stretches are whole, also where the window begins or ends within them: slots depend on it.
    let availability = week();
    for name in ODD {
        let zone = Zone::parse(name).unwrap();
        let begin = minute("2026-03-01T00:00:00Z") * MINUTE;
        let whole = Span::new(Timestamp::from_millis(begin), Timestamp::from_millis(begin + 60 * DAY));
        let all = free(&availability, &zone, whole);
        for day in 0..60 {
            let start = Timestamp::from_millis(begin + day * DAY + fastrand::i64(0..DAY));
            let window = Span::new(start, start.plus(Duration::from_millis(fastrand::u64(1..7_200_000))));
            let expected: Vec<_> = all.iter().copied().filter(|span| span.meets(window)).collect();
            if window.end <= whole.end {
                assert_eq!(free(&availability, &zone, window), expected, "{name}");
            }
        }
    }
}
