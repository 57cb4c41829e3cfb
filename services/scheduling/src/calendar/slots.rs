//! From what somebody says about its days to the instants at which it can be booked: pure functions.
//!
//! An instant is free when the local date and time that it has in the person's zone lie in a range of that date. Nothing
//! else is needed to be right about clocks that are put forward or back: what they leave out is no instant's local time,
//! and what they show twice is that of two. So a range around a change is shorter or longer in real time, one within a
//! gap is not there at all, and one that begins or ends within a fold is there in two stretches.

#[cfg(test)]
mod oracle;

use std::time::Duration;

use chassis::clock::Timestamp;

use crate::calendar::availability::Availability;
use crate::calendar::zone::{DAY, Local, MINUTE, Zone};

/// A stretch of time: from the first instant up to, and without, the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first instant.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
}

impl Span {
    /// From one instant to another.
    pub const fn new(start: Timestamp, end: Timestamp) -> Self {
        Self { start, end }
    }

    /// How long it is.
    pub fn length(self) -> Duration {
        self.end.since(self.start)
    }

    /// Whether they have an instant in common.
    pub fn meets(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The same with so much before and after it.
    #[must_use]
    pub fn widened(self, before: Duration, after: Duration) -> Self {
        Self { start: self.start.minus(before), end: self.end.plus(after) }
    }
}

/// No range is longer in real time, whatever the clocks do on its day.
const LONGEST: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// The unbroken stretches of the ranges that have a part in a window, whole, in order of time.
pub fn free(availability: &Availability, zone: &Zone, window: Span) -> Vec<Span> {
    let mut found: Vec<(Stretch, Span)> = Vec::new();
    let wide = window.widened(LONGEST, LONGEST);
    for steady in zone.steady(wide.start.as_millis()..wide.end.as_millis()) {
        // While nobody touches the clocks local time is an instant plus the offset.
        let (first, last) = (steady.span.start + steady.offset, steady.span.end + steady.offset);
        let mut day = Local::of(first).day;
        while day <= Local::of(last - 1).day {
            let midnight = Local { day, millis: 0 }.as_millis();
            for (place, range) in availability.ranges(day).iter().enumerate() {
                let start = (midnight + i64::from(range.start()) * MINUTE).max(first);
                let end = (midnight + i64::from(range.end()) * MINUTE).min(last);
                if start >= end {
                    continue;
                }
                let span = Span::new(
                    Timestamp::from_millis(start - steady.offset),
                    Timestamp::from_millis(end - steady.offset),
                );
                let stretch = Stretch { midnight, place };
                match found.last_mut() {
                    // The clocks were changed within a range, and it goes on.
                    Some((same, before)) if *same == stretch && before.end == span.start => {
                        before.end = span.end;
                    }
                    _ => found.push((stretch, span)),
                }
            }
            day = day.plus(1);
        }
    }
    found.into_iter().map(|(_, span)| span).filter(|span| span.meets(window)).collect()
}

/// Which range of which date.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stretch {
    midnight: i64,
    place: usize,
}

/// Cuts free stretches into slots: each stretch from its own beginning, slot after slot. Only those that lie in the
/// window, begin at `earliest` or later, and meet nothing that is busy. `busy` is in order of time, and so is the answer.
pub fn cut(free: &[Span], busy: &[Span], length: Duration, earliest: Timestamp, window: Span) -> Vec<Span> {
    let mut slots = Vec::new();
    for stretch in free {
        let mut start = stretch.start;
        while start.plus(length) <= stretch.end {
            let slot = Span::new(start, start.plus(length));
            let fits = slot.start >= window.start && slot.end <= window.end && slot.start >= earliest;
            if fits && !is_busy(busy, slot) {
                slots.push(slot);
            }
            start = slot.end;
        }
    }
    slots
}

/// Whether something busy meets it. `busy` is in order of time, by start and by end.
pub fn is_busy(busy: &[Span], span: Span) -> bool {
    let next = busy.partition_point(|other| other.end <= span.start);
    busy.get(next).is_some_and(|other| other.meets(span))
}

/// Bookings with the gap around them in which no other may be, whichever of the two was booked first.
pub fn widened(bookings: &[Span], gap: Duration) -> Vec<Span> {
    bookings.iter().map(|span| span.widened(gap, gap)).collect()
}

/// Whether every instant of a span is free. `free` is in order of time; stretches that touch are one.
pub fn covers(free: &[Span], span: Span) -> bool {
    let mut reached = span.start;
    for stretch in &free[free.partition_point(|stretch| stretch.end <= span.start)..] {
        if stretch.start > reached {
            return false;
        }
        reached = reached.max(stretch.end);
        if reached >= span.end {
            return true;
        }
    }
    reached >= span.end
}

/// The longest window that is asked for.
pub const WIDEST: Duration = Duration::from_millis(31 * DAY.unsigned_abs());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::availability::{Ranges, Terms};

    pub fn at(text: &str) -> Timestamp {
        Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn span(start: &str, end: &str) -> Span {
        Span::new(at(start), at(end))
    }

    fn daily(ranges: &[(&str, &str)]) -> Availability {
        let ranges = Ranges::parse(ranges.iter().copied()).unwrap();
        let mut availability = Availability::unsaid();
        availability.weekly.days = std::array::from_fn(|_| ranges.clone());
        availability
    }

    fn berlin(ranges: &[(&str, &str)], window: Span) -> Vec<Span> {
        free(&daily(ranges), &Zone::parse("Europe/Berlin").unwrap(), window)
    }

    const SPRING: &str = "2027-03-28T01:00:00Z";

    #[test]
    fn what_the_clocks_leave_out_is_not_there() {
        let night = span("2027-03-27T23:00:00Z", "2027-03-28T22:00:00Z");
        assert_eq!(berlin(&[("02:00", "03:00")], night), []);
        assert_eq!(
            berlin(&[("01:30", "03:30")], night),
            [span("2027-03-28T00:30:00Z", "2027-03-28T01:30:00Z")]
        );
        assert_eq!(berlin(&[("02:30", "04:00")], night), [span(SPRING, "2027-03-28T02:00:00Z")]);
    }

    #[test]
    fn what_the_clocks_show_twice_is_free_both_times() {
        let night = span("2027-10-30T22:00:00Z", "2027-10-31T23:00:00Z");
        // Around the change it is one stretch, an hour longer than it looks.
        assert_eq!(
            berlin(&[("01:00", "04:00")], night),
            [span("2027-10-30T23:00:00Z", "2027-10-31T03:00:00Z")]
        );
        assert_eq!(
            berlin(&[("02:00", "02:30")], night),
            [
                span("2027-10-31T00:00:00Z", "2027-10-31T00:30:00Z"),
                span("2027-10-31T01:00:00Z", "2027-10-31T01:30:00Z"),
            ]
        );
        // One that begins within the hour begins again when the hour does.
        assert_eq!(
            berlin(&[("02:30", "04:00")], night),
            [
                span("2027-10-31T00:30:00Z", "2027-10-31T01:00:00Z"),
                span("2027-10-31T01:30:00Z", "2027-10-31T03:00:00Z"),
            ]
        );
    }

    #[test]
    fn slots_begin_with_the_stretch_and_not_with_the_window() {
        let window = span("2027-06-01T07:40:00Z", "2027-06-01T09:00:00Z");
        let free = berlin(&[("09:00", "12:00")], window);
        let (half, slots_start) = (Duration::from_secs(1800), "2027-06-01T08:00:00Z");
        let slots = cut(&free, &[], half, at("2027-01-01T00:00:00Z"), window);
        assert_eq!(
            slots,
            [
                span("2027-06-01T08:00:00Z", "2027-06-01T08:30:00Z"),
                span("2027-06-01T08:30:00Z", "2027-06-01T09:00:00Z"),
            ]
        );
        let busy = widened(
            &[span("2027-06-01T08:30:00Z", "2027-06-01T08:45:00Z")],
            Terms { buffer_before: Duration::from_secs(60), ..Terms::default() }.gap(),
        );
        assert_eq!(cut(&free, &busy, half, at("2027-01-01T00:00:00Z"), window), []);
        // What has to be free before the later one lies after the earlier one.
        for terms in [
            Terms { buffer_before: Duration::from_secs(60), ..Terms::default() },
            Terms { buffer_after: Duration::from_secs(60), ..Terms::default() },
        ] {
            for touches in [
                span("2027-06-01T07:30:00Z", slots_start),
                span("2027-06-01T08:30:00Z", "2027-06-01T08:45:00Z"),
            ] {
                let busy = widened(&[touches], terms.gap());
                assert!(is_busy(&busy, slots[0]), "{terms:?} {touches:?}");
            }
        }
        assert_eq!(cut(&free, &[], half, at("2027-06-01T08:00:01Z"), window), slots[1..]);
        // What does not fit in whole is not offered.
        assert_eq!(cut(&free, &[], half * 4, at("2027-01-01T00:00:00Z"), window), []);
    }

    #[test]
    fn what_touches_is_covered_as_one() {
        let free = [
            span("2027-06-01T08:00:00Z", "2027-06-01T09:00:00Z"),
            span("2027-06-01T09:00:00Z", "2027-06-01T10:00:00Z"),
            span("2027-06-01T11:00:00Z", "2027-06-01T12:00:00Z"),
        ];
        assert!(covers(&free, span("2027-06-01T08:30:00Z", "2027-06-01T10:00:00Z")));
        assert!(!covers(&free, span("2027-06-01T08:30:00Z", "2027-06-01T10:01:00Z")));
        assert!(!covers(&free, span("2027-06-01T09:30:00Z", "2027-06-01T11:30:00Z")));
        assert!(!covers(&free, span("2027-06-01T07:59:00Z", "2027-06-01T08:30:00Z")));
        assert!(!covers(&free, span("2027-06-01T12:00:00Z", "2027-06-01T12:30:00Z")));
        assert!(!covers(&[], span("2027-06-01T12:00:00Z", "2027-06-01T12:30:00Z")));
    }
}
