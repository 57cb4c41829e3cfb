//! A booking as a file for other calendars: iCalendar, RFC 5545.
//!
//! What comes again keeps its local time, so a rule needs a time zone, and a reader needs its definition: the changes of
//! the clock from before the first time to after the last are written out, one by one. A booking whose first time is the
//! second of two that the clock shows cannot be said in local time, and of a time that the clock leaves out readers make
//! different things; the times of such a booking are listed in UTC instead.
//!
//! The file is no message of a scheduling method (RFC 5546): it has no METHOD, because a published event names nobody who
//! attends it.
//!
//! The two are named by their ids and by what people see of them. No address of theirs is in the file.

mod lines;

use std::time::Duration;

use self::lines::Lines;
use crate::calendar::people::Person;
use crate::calendar::recurrence::{Recurrence, basic, utc};
use crate::calendar::schedule::{Media, Schedule, Standing};
use crate::calendar::slots::Span;
use crate::calendar::zone::{Change, Local, Zone};

/// The file. `times` is when the booking takes place; nothing for one that does not stand.
pub fn render(schedule: &Schedule, times: &[Span], booker: &Person, attendee: &Person) -> String {
    let mut file = Lines::default();
    file.put("BEGIN", "VCALENDAR");
    file.put("VERSION", "2.0");
    file.put("PRODID", "-//Parlor//Calls//EN");
    file.put("CALSCALE", "GREGORIAN");
    let plan = &schedule.plan;
    let zone = Some(&plan.zone).filter(|zone| is_sayable(schedule, times, zone));
    if let Some(zone) = zone {
        write_zone(&mut file, zone, Span::new(plan.first.start, schedule.last_end));
    }

    file.put("BEGIN", "VEVENT");
    file.put("UID", &schedule.id.to_string());
    file.put("DTSTAMP", &utc(schedule.update_time));
    file.put("CREATED", &utc(schedule.create_time));
    file.put("SEQUENCE", &schedule.version.to_string());
    file.text("SUMMARY", plan.title.as_str());
    match zone {
        None => file.put("DTSTART", &utc(plan.first.start)),
        Some(zone) => {
            file.put_with("DTSTART", "TZID", zone.name(), &basic(zone.local(plan.first.start)));
        }
    }
    // In real time, as it is: the clock may be changed between start and end.
    file.put("DURATION", &format!("PT{}S", plan.first.length().as_secs()));
    match (&plan.recurrence, zone) {
        (Recurrence::Rule(rule), Some(_)) => file.put("RRULE", &rule.with_count(schedule.count)),
        (Recurrence::Rule(_), None) => {
            for time in times.iter().filter(|time| time.start != plan.first.start) {
                file.put("RDATE", &utc(time.start));
            }
        }
        (Recurrence::Once, _) => {}
    }
    let standing = match schedule.standing {
        Standing::Booked => "CONFIRMED",
        Standing::Cancelled | Standing::Refused(_) => "CANCELLED",
    };
    file.put("STATUS", standing);
    let kind = match plan.media {
        Media::Audio => "AUDIO CALL",
        Media::Video => "VIDEO CALL",
    };
    file.text("CATEGORIES", kind);
    write_person(&mut file, "ORGANIZER", booker);
    write_person(&mut file, "ATTENDEE", attendee);
    for before in plan.reminders.as_slice() {
        file.put("BEGIN", "VALARM");
        file.put("ACTION", "DISPLAY");
        file.text("DESCRIPTION", plan.title.as_str());
        file.put("TRIGGER", &format!("-PT{}S", before.as_secs()));
        file.put("END", "VALARM");
    }
    file.put("END", "VEVENT");
    file.put("END", "VCALENDAR");
    file.into_text()
}

/// Whether local time says when it takes place: it comes again, what the clock shows the first time means that time, and
/// the clock shows the same each time.
fn is_sayable(schedule: &Schedule, times: &[Span], zone: &Zone) -> bool {
    let start = schedule.plan.first.start;
    let shown = zone.local(start);
    schedule.plan.recurrence != Recurrence::Once
        && zone.instant(shown) == Some(start)
        && times.iter().all(|time| zone.local(time.start).millis == shown.millis)
}

/// The clock of a zone over a stretch of time, change by change.
fn write_zone(file: &mut Lines, zone: &Zone, span: Span) {
    // The last time may reach over a change of its own.
    let end = span.end.plus(Duration::from_secs(24 * 60 * 60));
    let mut changes = zone.changes(span.start.as_millis()..end.as_millis());
    if changes.first().is_none_or(|change| change.at > span.start.as_millis()) {
        // Nothing has changed before: it is as if it did a day ahead.
        changes.insert(0, zone.change(span.start.minus(Duration::from_secs(24 * 60 * 60)).as_millis()));
    }
    file.put("BEGIN", "VTIMEZONE");
    file.put("TZID", zone.name());
    for Change { at, from, to, name, is_summer } in changes {
        let kind = if is_summer { "DAYLIGHT" } else { "STANDARD" };
        file.put("BEGIN", kind);
        // As the clock before the change shows it.
        file.put("DTSTART", &basic(Local::of(at + i64::from(from) * 1000)));
        file.put("TZOFFSETFROM", &offset(from));
        file.put("TZOFFSETTO", &offset(to));
        file.text("TZNAME", &name);
        file.put("END", kind);
    }
    file.put("END", "VTIMEZONE");
}

/// `+0530`, with seconds where there are some.
fn offset(seconds: i32) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes, rest) = (seconds.abs() / 3600, seconds.abs() / 60 % 60, seconds.abs() % 60);
    let rest = if rest == 0 { String::new() } else { format!("{rest:02}") };
    format!("{sign}{hours:02}{minutes:02}{rest}")
}

fn write_person(file: &mut Lines, name: &str, person: &Person) {
    let (shown, address) = (person.name.trim(), format!("urn:uuid:{}", person.id));
    if shown.is_empty() {
        file.put(name, &address);
    } else {
        file.put_with(name, "CN", shown, &address);
    }
}

#[cfg(test)]
mod tests;
