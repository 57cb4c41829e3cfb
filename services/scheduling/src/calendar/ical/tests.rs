//! The file, read by a reader of its own that knows nothing of how it was written.

use std::collections::BTreeMap;

use chassis::clock::Timestamp;
use proto::id::UserId;

use super::*;
use crate::calendar::limits::Limits;
use crate::calendar::recurrence::Rule;
use crate::calendar::schedule::{Plan, Reminders, Title};

fn at(text: &str) -> Timestamp {
    Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn person(name: &str) -> Person {
    Person { id: UserId::generate(), name: name.to_owned(), zone: Zone::utc(), limits: Limits::default() }
}

fn booked(title: &str, start: &str, rule: &str, zone: &str) -> (Schedule, Vec<Span>) {
    let start = at(start);
    let plan = Plan {
        title: Title::parse(title).unwrap(),
        media: Media::Video,
        first: Span::new(start, start.plus(Duration::from_secs(1800))),
        zone: Zone::parse(zone).unwrap(),
        recurrence: Recurrence::from_text(rule).unwrap(),
        reminders: Reminders::default(),
    };
    let times = plan.recurrence.times(plan.first, &plan.zone).unwrap();
    let made = at("2026-01-01T00:00:00Z");
    (Schedule::new(UserId::generate(), UserId::generate(), plan, &times, made), times)
}

fn file(schedule: &Schedule, times: &[Span]) -> String {
    render(schedule, times, &person("Ann"), &person("Bob"))
}

/// A content line: name, parameters, value.
type Line = (String, BTreeMap<String, String>, String);

/// Unfolds and splits, as RFC 5545 says in 3.1.
fn read(text: &str) -> Vec<Line> {
    assert!(text.ends_with("\r\n"));
    assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "a bare end of line");
    assert!(text.split("\r\n").all(|line| line.len() <= 75), "a line that is not folded");
    let lines = text.replace("\r\n ", "").replace("\r\n\t", "");
    lines.split_terminator("\r\n").map(read_line).collect()
}

fn read_line(line: &str) -> Line {
    let mut quoted = false;
    let colon = line.find(|c| {
        quoted ^= c == '"';
        c == ':' && !quoted
    });
    let (head, value) = line.split_at(colon.unwrap());
    let mut parts = Vec::new();
    let mut part = String::new();
    for c in head.chars() {
        quoted ^= c == '"';
        if c == ';' && !quoted {
            parts.push(std::mem::take(&mut part));
        } else if c != '"' {
            part.push(c);
        }
    }
    parts.push(part);
    let parameters = parts[1..].iter().map(|part| part.split_once('=').unwrap());
    let parameters = parameters.map(|(name, value)| (name.to_owned(), decoded(value))).collect();
    (parts[0].clone(), parameters, value[1..].to_owned())
}

/// What RFC 6868 makes of the value of a parameter.
fn decoded(text: &str) -> String {
    let mut decoded = String::new();
    let mut letters = text.chars();
    while let Some(c) = letters.next() {
        match (c, letters.as_str().chars().next()) {
            ('^', Some(next @ ('^' | 'n' | '\''))) => {
                letters.next();
                decoded.push(match next {
                    'n' => '\n',
                    '\'' => '"',
                    other => other,
                });
            }
            _ => decoded.push(c),
        }
    }
    decoded
}

fn value(lines: &[Line], name: &str) -> String {
    let found: Vec<_> = lines.iter().filter(|(found, ..)| found == name).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found[0].2.clone()
}

/// Lines between BEGIN and END of one kind, one list per component.
fn components(lines: &[Line], kind: &str) -> Vec<Vec<Line>> {
    let mut found = Vec::new();
    let mut inside = None;
    for line in lines {
        match (line.0.as_str(), line.2.as_str()) {
            ("BEGIN", begun) if begun == kind => inside = Some(Vec::new()),
            ("END", ended) if ended == kind => found.extend(inside.take()),
            _ => inside.iter_mut().for_each(|lines| lines.push(line.clone())),
        }
    }
    found
}

/// Milliseconds of what a clock shows.
fn clock(text: &str) -> i64 {
    let text = text.trim_end_matches('Z');
    let dashed = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &text[..4],
        &text[4..6],
        &text[6..8],
        &text[9..11],
        &text[11..13],
        &text[13..15]
    );
    at(&dashed).as_millis()
}

fn seconds(offset: &str) -> i64 {
    let number = |at: usize| offset[at..at + 2].parse::<i64>().unwrap();
    let size = number(1) * 3600 + number(3) * 60;
    if offset.starts_with('-') { -size } else { size }
}

/// What a reader takes a local time for, from nothing but the VTIMEZONE in the file: the onset that comes last before it
/// says the offset; in a gap that of before the gap does, and of what is there twice it is the first.
fn instant(onsets: &[(i64, i64, i64)], local: i64) -> i64 {
    let before: Vec<_> =
        onsets.iter().filter(|(onset, from, to)| local >= onset + (to - from).max(0)).collect();
    match before.last() {
        Some((_, _, to)) => local - to,
        None => local - onsets[0].1,
    }
}

#[test]
fn a_single_call_is_in_utc() {
    let (schedule, times) = booked("Tea", "2027-06-01T08:00:00Z", "", "Europe/Berlin");
    let lines = read(&file(&schedule, &times));
    assert_eq!(value(&lines, "DTSTART"), "20270601T080000Z");
    assert_eq!(value(&lines, "DURATION"), "PT1800S");
    assert_eq!(value(&lines, "UID"), schedule.id.to_string());
    assert_eq!(value(&lines, "DTSTAMP"), "20260101T000000Z");
    assert_eq!(value(&lines, "SEQUENCE"), "1");
    assert_eq!(value(&lines, "STATUS"), "CONFIRMED");
    assert_eq!(value(&lines, "SUMMARY"), "Tea");
    // A published event names nobody who attends it.
    assert!(
        lines.iter().any(|(name, ..)| name == "ATTENDEE") && lines.iter().all(|(name, ..)| name != "METHOD")
    );
    assert!(components(&lines, "VTIMEZONE").is_empty());
    let alarms = components(&lines, "VALARM");
    let triggers: Vec<_> = alarms.iter().map(|alarm| value(alarm, "TRIGGER")).collect();
    assert_eq!(triggers, ["-PT600S", "-PT0S"]);
    // The library would put the time of the wall and a made-up id where there is none.
    assert!(alarms.iter().all(|alarm| alarm.iter().all(|(name, ..)| name != "DTSTAMP" && name != "UID")));
}

#[test]
fn what_is_cancelled_says_so() {
    let (mut schedule, _) = booked("Tea", "2027-06-01T08:00:00Z", "", "UTC");
    (schedule.standing, schedule.version) = (Standing::Cancelled, 4);
    let lines = read(&file(&schedule, &[]));
    assert_eq!((value(&lines, "STATUS"), value(&lines, "SEQUENCE")), ("CANCELLED".into(), "4".into()));
}

#[test]
fn nobody_breaks_out_of_a_line() {
    let (mut schedule, times) = booked("Tea", "2027-06-01T08:00:00Z", "", "UTC");
    // Titles are checked when they come in; names come from elsewhere.
    schedule.plan.title = Title::parse(&format!("a,b;c\\d \\n {}: “ä” 👩‍👩‍👧 x", "z".repeat(200))).unwrap();
    let odd = person("Eve\"\r\nATTACH:https://evil.example/\r\nX-A=1;B:c,d");
    let text = render(&schedule, &times, &odd, &person("a^nb"));
    let lines = read(&text);
    let names: Vec<_> = lines.iter().map(|(name, ..)| name.as_str()).collect();
    assert!(!names.contains(&"ATTACH") && !names.contains(&"X-A=1"), "{text}");
    let unescaped = value(&lines, "SUMMARY").replace("\\,", ",").replace("\\;", ";").replace("\\\\", "\\");
    assert_eq!(unescaped, schedule.plan.title.as_str());
    let (_, parameters, address) = lines.iter().find(|(name, ..)| name == "ORGANIZER").unwrap();
    assert_eq!(parameters["CN"], "Eve\"\nATTACH:https://evil.example/\nX-A=1;B:c,d");
    let (_, of_attendee, _) = lines.iter().find(|(name, ..)| name == "ATTENDEE").unwrap();
    assert_eq!(of_attendee["CN"], "a^nb");
    assert_eq!(address, &format!("urn:uuid:{}", odd.id));
    assert!(!text.to_lowercase().contains("mailto"));
}

#[test]
fn a_reader_finds_the_times_that_were_booked() {
    let starts = [
        ("Europe/Berlin", "2027-03-20T02:30:00Z"),
        ("Europe/Berlin", "2027-10-25T01:30:00Z"),
        ("America/New_York", "2027-03-10T09:15:00Z"),
        ("Australia/Lord_Howe", "2027-04-01T14:50:00Z"),
        ("Africa/Casablanca", "2027-01-30T02:30:00Z"),
        ("Asia/Kathmandu", "2027-01-30T02:30:00Z"),
        ("UTC", "2027-01-30T02:30:00Z"),
    ];
    for (zone, start) in starts {
        let (schedule, times) = booked("Tea", start, "FREQ=DAILY", zone);
        let lines = read(&file(&schedule, &times));
        assert_eq!(value(&components(&lines, "VTIMEZONE")[0], "TZID").as_str(), zone);
        let onset = |lines: &Vec<Line>| {
            let offset = |name| seconds(&value(lines, name)) * 1000;
            (clock(&value(lines, "DTSTART")), offset("TZOFFSETFROM"), offset("TZOFFSETTO"))
        };
        let mut onsets: Vec<_> = components(&lines, "STANDARD").iter().map(onset).collect();
        onsets.extend(components(&lines, "DAYLIGHT").iter().map(onset));
        onsets.sort_by_key(|(at, from, _)| at - from);
        let event = &components(&lines, "VEVENT")[0];
        let (_, parameters, first) = event.iter().find(|(name, ..)| name == "DTSTART").unwrap();
        assert_eq!(parameters["TZID"], zone);
        assert_eq!(value(event, "RRULE"), format!("FREQ=DAILY;COUNT={}", times.len()));
        for (day, time) in times.iter().enumerate() {
            let local = clock(first) + i64::try_from(day).unwrap() * 24 * 60 * 60 * 1000;
            assert_eq!(instant(&onsets, local), time.start.as_millis(), "{zone}, day {day}");
        }
    }
}

#[test]
fn the_second_of_two_is_listed_in_utc() {
    let (schedule, times) = booked("Tea", "2027-10-31T01:30:00Z", "FREQ=WEEKLY;COUNT=3", "Europe/Berlin");
    assert_eq!(schedule.plan.recurrence, Recurrence::Rule(Rule::parse("FREQ=WEEKLY;COUNT=3").unwrap()));
    let lines = read(&file(&schedule, &times));
    assert_eq!(value(&lines, "DTSTART"), "20271031T013000Z");
    let dates: Vec<_> =
        lines.iter().filter(|(name, ..)| name == "RDATE").map(|line| line.2.as_str()).collect();
    assert_eq!(dates, ["20271107T013000Z", "20271114T013000Z"]);
    assert!(components(&lines, "VTIMEZONE").is_empty());
}

#[test]
fn what_the_clock_leaves_out_is_listed_in_utc() {
    for (zone, start) in [
        ("Europe/Berlin", "2027-03-26T01:30:00Z"),
        ("America/New_York", "2027-03-12T07:15:00Z"),
        ("Australia/Lord_Howe", "2027-10-01T15:45:00Z"),
    ] {
        let (schedule, times) = booked("Tea", start, "FREQ=DAILY;COUNT=5", zone);
        let shown: Vec<_> = times.iter().map(|time| schedule.plan.zone.local(time.start).millis).collect();
        assert!(shown.iter().any(|millis| *millis != shown[0]), "{zone}: no time is in a gap");
        let lines = read(&file(&schedule, &times));
        assert!(lines.iter().all(|(name, ..)| name != "RRULE") && components(&lines, "VTIMEZONE").is_empty());
        let first = vec![value(&lines, "DTSTART")];
        let rest = lines.iter().filter(|(name, ..)| name == "RDATE").map(|line| line.2.clone());
        let listed: Vec<_> = first.into_iter().chain(rest).collect();
        let expected: Vec<_> = times.iter().map(|time| utc(time.start)).collect();
        assert_eq!(listed, expected, "{zone}");
    }
}
