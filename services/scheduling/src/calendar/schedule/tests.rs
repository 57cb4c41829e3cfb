use super::*;
use crate::calendar::recurrence::Rule;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn span(start: Duration, length: Duration) -> Span {
    Span::new(NOW.plus(start), NOW.plus(start + length))
}

fn plan(first: Span) -> Plan {
    Plan {
        title: Title::parse("tea").unwrap(),
        media: Media::Audio,
        first,
        zone: Zone::utc(),
        recurrence: Recurrence::Once,
        reminders: Reminders::default(),
    }
}

fn booked(times: &[Span]) -> Schedule {
    Schedule::new(UserId::generate(), UserId::generate(), plan(times[0]), times, NOW)
}

#[test]
fn a_title_is_one_line() {
    assert_eq!(Title::parse(" tea \n").unwrap().as_str(), "tea");
    assert!(Title::parse(&"x".repeat(255)).is_ok());
    for text in ["", " \n", "a\r\nATTACH:x", "a\u{2028}b", "a\u{202e}b", "\u{7}a", &"x".repeat(256)] {
        assert!(Title::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_time_is_to_come_and_of_a_bearable_length() {
    let check = |start, length| check_time(span(start, length), NOW, 365 * DAY);
    assert_eq!(check(Duration::ZERO, 5 * MINUTE), Ok(()));
    assert_eq!(check(365 * DAY, DAY), Ok(()));
    assert_eq!(check(365 * DAY + MINUTE, MINUTE * 5), Err(BadTime::TooFar));
    assert!(matches!(check(MINUTE, Duration::from_secs(299)), Err(BadTime::End(_))));
    assert!(matches!(check(MINUTE, DAY + Duration::from_secs(1)), Err(BadTime::End(_))));
    let past = Span::new(NOW.minus(Duration::from_secs(1)), NOW.plus(DAY / 2));
    assert!(matches!(check_time(past, NOW, DAY), Err(BadTime::Start(_))));
    let odd = Span::new(NOW.plus(DAY), NOW.plus(MINUTE));
    assert_eq!(check_time(odd, NOW, DAY), Err(BadTime::End("must be after the start")));
}

#[test]
fn reminders_come_once_each_and_not_for_what_is_over() {
    let reminders = Reminders::new(vec![Duration::ZERO, 10 * MINUTE, 10 * MINUTE]).unwrap();
    assert_eq!(reminders.as_slice(), [10 * MINUTE, Duration::ZERO]);
    let times = [span(20 * MINUTE, 30 * MINUTE), span(30 * MINUTE + DAY, 30 * MINUTE)];
    let mut at = NOW;
    let mut all = Vec::new();
    while let Some(next) = reminders.next(&times, at, NOW) {
        all.push(next.since(NOW));
        at = next;
    }
    assert_eq!(all, [10 * MINUTE, 20 * MINUTE, 20 * MINUTE + DAY, 30 * MINUTE + DAY]);
    // After a long sleep only what is not over is reminded of.
    let late = NOW.plus(2 * 60 * MINUTE);
    assert_eq!(reminders.next(&times, NOW.plus(10 * MINUTE), late), Some(NOW.plus(20 * MINUTE + DAY)));
    assert!(Reminders::new(vec![Duration::from_millis(1)]).is_err());
    assert!(Reminders::new((0..6).map(Duration::from_secs).collect()).is_err());
    assert_eq!(Reminders::new(vec![]).unwrap().next(&times, NOW, NOW), None);
}

#[test]
fn a_reminder_that_would_be_past_is_left_out() {
    let soon = booked(&[span(5 * MINUTE, 30 * MINUTE)]);
    assert_eq!(soon.reminding.at, Some(NOW.plus(5 * MINUTE)));
    // One that is at this very moment is not past.
    assert_eq!(booked(&[span(10 * MINUTE, 30 * MINUTE)]).reminding.at, Some(NOW));
}

#[test]
fn the_state_goes_with_the_time() {
    let times = [span(MINUTE, 5 * MINUTE), span(DAY, 5 * MINUTE)];
    let mut schedule = booked(&times);
    assert_eq!(schedule.state(NOW), State::Upcoming);
    assert_eq!(schedule.state(times[0].start), State::Ongoing);
    schedule.next = Some(times[1]);
    assert_eq!(schedule.state(times[0].end), State::Upcoming);
    assert_eq!(schedule.state(times[1].start), State::Ongoing);
    schedule.next = None;
    assert_eq!(schedule.state(times[1].end), State::Past);
    schedule.standing = Standing::Cancelled;
    assert_eq!(schedule.state(NOW), State::Cancelled);
}

#[test]
fn a_new_start_alone_keeps_the_length() {
    let plan = plan(span(DAY, 30 * MINUTE));
    let start = NOW.plus(2 * DAY);
    let moved = Changes { start: Some(start), ..Changes::default() };
    assert!(moved.moves());
    assert_eq!(moved.applied(&plan, Zone::utc).first, Span::new(start, start.plus(30 * MINUTE)));
    let end = NOW.plus(DAY + 60 * MINUTE);
    let longer = Changes { end: Some(end), ..Changes::default() };
    assert_eq!(longer.applied(&plan, Zone::utc).first, Span::new(plan.first.start, end));
    let again = Changes { recurrence: Some(Recurrence::Rule(Rule::WEEKLY)), ..Changes::default() };
    assert_eq!(again.applied(&plan, Zone::utc).first, plan.first);
    assert_eq!(Changes::default().applied(&plan, Zone::utc), plan);
}

#[test]
fn alerts_rise_over_reminders_and_changes() {
    let times = [span(DAY, 30 * MINUTE)];
    let mut schedule = booked(&times);
    let mut last = schedule.alert_version();
    for _ in 0..366 * 5 {
        assert!(schedule.reminder_version() > last);
        last = schedule.reminder_version();
        schedule.reminding.count += 1;
    }
    let next = schedule.changed(schedule.plan.clone(), schedule.booker, &times, NOW);
    assert!(next.alert_version() > last);
    assert_eq!((next.version, next.reminding.count), (2, 0));
    assert_ne!(next.message_key(), schedule.message_key());
    assert!(next.message_key().len() <= 128);
}

#[test]
fn what_has_begun_grows_at_its_end_and_what_is_over_stays() {
    let hour = 60 * MINUTE;
    let old = [
        Span::new(NOW.minus(DAY), NOW.minus(DAY - hour)),
        Span::new(NOW.minus(MINUTE), NOW.plus(hour)),
        span(DAY, hour),
    ];
    let grown = old.map(|time| Span::new(time.start, time.start.plus(2 * hour)));
    let times = Times::lengthened(&old, &grown, NOW).unwrap();
    assert_eq!(times.all, [old[0], grown[1], grown[2]]);
    assert_eq!(
        (times.added, times.to_come.as_slice()),
        (Some(Span::new(old[1].end, grown[1].end)), &grown[2..])
    );
    assert_eq!(times.wanted(), [Span::new(old[1].end, grown[1].end), grown[2]]);

    let cut = old.map(|time| Span::new(time.start, time.start.plus(5 * MINUTE)));
    let times = Times::lengthened(&old, &cut, NOW).unwrap();
    assert_eq!((times.added, times.all[1]), (None, cut[1]));
    let over = old.map(|time| Span::new(time.start, time.start.plus(MINUTE)));
    assert_eq!(Times::lengthened(&old, &over, NOW), Err(BadTime::End("must not be in the past")));
}
