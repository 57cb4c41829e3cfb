//! What people say about when they are free, and what others see of it.

use tonic::Code;

use super::*;
use crate::tests::{field, is, reason};

fn day(date: &str, ranges: &[(&str, &str)]) -> pb::CustomDay {
    pb::CustomDay { date: date.to_owned(), ranges: ranges_of(ranges) }
}

#[tokio::test]
async fn a_week_is_kept_as_it_was_said() {
    let world = World::start().await;
    let ann = world.neighbours.register("ann", "Asia/Kathmandu");
    let get = || async {
        let request = pb::GetWeeklyAvailabilityRequest {};
        let answer = world.client().get_weekly_availability(ann.asks(request)).await;
        answer.unwrap().into_inner().availability.unwrap()
    };
    let unsaid = get().await;
    assert_eq!((unsaid.days.len(), unsaid.update_time), (0, None));
    assert_eq!((unsaid.time_zone.as_str(), unsaid.effective_time_zone.as_str()), ("", "Asia/Kathmandu"));
    assert_eq!(unsaid.slot_length, span(30 * MINUTE));

    let said = pb::WeeklyAvailability {
        time_zone: "europe/lisbon".to_owned(),
        slot_length: span(45 * MINUTE),
        buffer_before: span(5 * MINUTE),
        buffer_after: span(10 * MINUTE),
        minimum_notice: span(HOUR),
        ..every_day(&[("09:00", "12:00"), ("13:00", "24:00")])
    };
    let set = world.set_weekly(ann, said.clone()).await.unwrap();
    assert_eq!(get().await, set);
    let expected = pb::WeeklyAvailability {
        time_zone: "Europe/Lisbon".to_owned(),
        effective_time_zone: "Europe/Lisbon".to_owned(),
        update_time: Some(world.clock.now().to_proto()),
        ..said
    };
    assert_eq!(set, expected);
    // Said again it is replaced, not added to.
    let monday = pb::WeekdayRanges { weekday: 1, ranges: ranges_of(&[("10:00", "11:00")]) };
    let again = pb::WeeklyAvailability { days: vec![monday.clone()], ..Default::default() };
    let set = world.set_weekly(ann, again).await.unwrap();
    assert_eq!((set.days, set.effective_time_zone.as_str()), (vec![monday], "Asia/Kathmandu"));
}

#[tokio::test]
async fn what_makes_no_sense_about_a_week_is_refused_by_name() {
    let world = World::start().await;
    let ann = world.neighbours.register("ann", "");
    let refused = |availability| async { field(world.set_weekly(ann, availability).await) };
    for (ranges, expected) in [
        (&[("22:00", "06:00")][..], "ranges[0].end"),
        (&[("09:00", "09:00")], "ranges[0].end"),
        (&[("09:00", "10:30"), ("10:00", "11:00")], "ranges[1]"),
        (&[("10:00", "11:00"), ("08:00", "09:00")], "ranges[1]"),
        (&[("24:00", "24:30")], "ranges[0].end"),
        (&[("9:00", "10:00")], "ranges[0].start"),
        (&[("08:00", "09:00"), ("xx:yy", "10:00")], "ranges[1].start"),
    ] {
        let mut week = every_day(&[("09:00", "10:00")]);
        week.days[2].ranges = ranges_of(ranges);
        assert_eq!(refused(week).await, format!("availability.days[2].{expected}"), "{ranges:?}");
    }
    let midnight = world.set_weekly(ann, every_day(&[("22:00", "06:00")])).await.unwrap_err();
    assert!(midnight.message().contains("midnight"), "{}", midnight.message());
    let open = every_day(&[("09:00", "17:00")]);
    let twice = pb::WeeklyAvailability { days: [&open.days[..6], &open.days[..1]].concat(), ..open.clone() };
    assert_eq!(refused(twice).await, "availability.days[6].weekday");
    let zone = pb::WeeklyAvailability { time_zone: "Mars/Olympus".to_owned(), ..open.clone() };
    assert_eq!(refused(zone).await, "availability.time_zone");
    let odd = pb::WeeklyAvailability { slot_length: span(301 * SECOND), ..open.clone() };
    assert_eq!(refused(odd).await, "availability.slot_length");
    let short = pb::WeeklyAvailability { slot_length: span(4 * MINUTE), ..open.clone() };
    assert_eq!(refused(short).await, "availability.slot_length");
    let wide = pb::WeeklyAvailability { buffer_after: span(241 * MINUTE), ..open };
    assert_eq!(refused(wide).await, "availability.buffer_after");
    // Nothing of it was kept.
    let slots = world.slots(ann, window(ann, "2027-02-02T00:00:00Z", "2027-02-02T02:00:00Z")).await;
    assert_eq!(slots.unwrap().len(), 4);
    let guest = world.neighbours.guest();
    let denied = world.set_weekly(guest, every_day(&[("09:00", "17:00")])).await.unwrap_err();
    assert_eq!(denied.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_date_goes_before_the_week_until_it_is_removed() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    world.set_weekly(ann, every_day(&[("09:00", "10:00")])).await.unwrap();
    let days = vec![day("2027-02-02", &[("15:00", "16:00")]), day("2027-02-03", &[])];
    assert_eq!(world.set_custom(ann, days.clone(), &[]).await.unwrap(), days);
    let seen = || async {
        let slots = world.slots(bob, window(ann, "2027-02-02T00:00:00Z", "2027-02-05T00:00:00Z")).await;
        starts(&slots.unwrap(), "UTC")
    };
    let tuesday = ["2027-02-02 15:00", "2027-02-02 15:30"];
    assert_eq!(seen().await, [&tuesday[..], &["2027-02-04 09:00", "2027-02-04 09:30"]].concat());
    // Other dates stay as they are, and removing is no word about a date.
    let more = world.set_custom(ann, vec![day("2027-02-04", &[])], &["2027-02-03"]).await.unwrap();
    assert_eq!(more, [days[0].clone(), day("2027-02-04", &[])]);
    assert_eq!(seen().await, [&tuesday[..], &["2027-02-03 09:00", "2027-02-03 09:30"]].concat());
    // Once it is past it is nobody's business.
    world.clock.advance(HOUR * 24 * 3);
    let request = pb::GetCustomAvailabilityRequest {};
    let left = world.client().get_custom_availability(ann.asks(request)).await.unwrap().into_inner().days;
    assert_eq!(left, [day("2027-02-04", &[])]);
}

#[tokio::test]
async fn what_makes_no_sense_about_a_date_is_refused_by_name() {
    let world = World::start().await;
    // Where it is still Sunday, the 31st of January.
    let ann = world.neighbours.register("ann", "Pacific/Honolulu");
    let set = |days| world.set_custom(ann, days, &[]);
    for (days, expected) in [
        (vec![day("2027-02-30", &[])], "days[0].date"),
        (vec![day("2027-02-05", &[]), day("2027-2-3", &[])], "days[1].date"),
        (vec![day("2027-02-03", &[("23:00", "01:00")])], "days[0].ranges[0].end"),
        (vec![day("2027-02-03", &[]), day("2027-02-03", &[])], "days[1].date"),
        (vec![day("2027-01-29", &[])], "days[0].date"),
        (vec![day("2027-02-05", &[]), day("2028-02-02", &[])], "days[1].date"),
    ] {
        assert_eq!(field(set(days.clone()).await), expected, "{days:?}");
    }
    assert!(set(vec![day("2027-01-30", &[]), day("2028-02-01", &[])]).await.is_ok());
    assert_eq!(field(world.set_custom(ann, vec![], &["2027-02-05", "soon"]).await), "remove_dates[1]");
    let both = world.set_custom(ann, vec![day("2027-02-03", &[])], &["2027-02-03"]).await;
    assert_eq!(field(both), "days[0].date");
}

#[tokio::test]
async fn slots_are_free_time_without_bookings_and_what_is_kept_around_them() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let cem = world.neighbours.register("cem", "");
    let week = pb::WeeklyAvailability {
        buffer_before: span(30 * MINUTE),
        buffer_after: span(10 * MINUTE),
        minimum_notice: span(2 * HOUR),
        ..every_day(&[("09:00", "12:00")])
    };
    world.set_weekly(ann, week).await.unwrap();
    let today = window(ann, "2027-02-01T00:00:00Z", "2027-02-02T00:00:00Z");
    let seen = |request: pb::ListFreeSlotsRequest| async {
        let slots = world.slots(bob, request).await.unwrap();
        starts(&slots, "UTC").iter().map(|start| start[11..].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(seen(today.clone()).await, ["09:00", "09:30", "10:00", "10:30", "11:00", "11:30"]);
    world.book(bob, ann, 10 * HOUR).await;
    assert_eq!(seen(today.clone()).await, ["09:00", "11:00", "11:30"]);
    let long = pb::ListFreeSlotsRequest { duration: span(HOUR), ..today.clone() };
    assert_eq!(seen(long).await, ["11:00"]);
    // What she has booked herself counts as well.
    world.book(ann, cem, 11 * HOUR + 45 * MINUTE).await;
    assert_eq!(seen(today.clone()).await, ["09:00"]);
    world.clock.advance(7 * HOUR + SECOND);
    assert_eq!(seen(today).await, [""; 0]);
}

#[tokio::test]
async fn slots_keep_to_the_clock_of_the_one_who_is_free() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let week = pb::WeeklyAvailability {
        time_zone: "Europe/Berlin".to_owned(),
        slot_length: span(HOUR),
        ..every_day(&[("01:00", "04:00")])
    };
    world.set_weekly(ann, week).await.unwrap();
    let seen = world.slots(bob, window(ann, "2027-03-27T00:00:00Z", "2027-03-29T00:00:00Z")).await.unwrap();
    assert_eq!(
        starts(&seen, "Europe/Berlin"),
        [
            "2027-03-27 01:00",
            "2027-03-27 02:00",
            "2027-03-27 03:00",
            // The clock goes from two to three.
            "2027-03-28 01:00",
            "2027-03-28 03:00",
            "2027-03-29 01:00",
        ]
    );
    let seen = world.slots(bob, window(ann, "2027-10-30T22:00:00Z", "2027-10-31T22:00:00Z")).await.unwrap();
    assert_eq!(
        starts(&seen, "Europe/Berlin"),
        ["2027-10-31 01:00", "2027-10-31 02:00", "2027-10-31 02:00", "2027-10-31 03:00",]
    );
}

#[tokio::test]
async fn a_window_has_bounds_and_a_user() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let seen = |of, start, end| world.slots(bob, window(of, start, end));
    assert_eq!(field(seen(ann, "2027-02-02T00:00:00Z", "2027-02-02T00:00:00Z").await), "end_time");
    assert_eq!(field(seen(ann, "2027-02-02T00:00:00Z", "2027-03-05T00:00:01Z").await), "end_time");
    assert_eq!(field(seen(ann, "1969-02-02T00:00:00Z", "1969-02-05T00:00:01Z").await), "start_time");
    assert!(seen(ann, "2027-02-02T00:00:00Z", "2027-03-05T00:00:00Z").await.is_ok());
    assert!(seen(ann, "8999-11-02T00:00:00Z", "8999-12-01T00:00:00Z").await.is_ok());
    let unknown = seen(UserId::generate(), "2027-02-02T00:00:00Z", "2027-02-03T00:00:00Z").await;
    assert_eq!(reason(unknown), is(Code::NotFound, "USER_NOT_FOUND"));
    let guest = seen(world.neighbours.guest(), "2027-02-02T00:00:00Z", "2027-02-03T00:00:00Z").await;
    assert_eq!(reason(guest), is(Code::NotFound, "USER_NOT_FOUND"));
    let odd = pb::ListFreeSlotsRequest {
        duration: Some(prost_types::Duration { seconds: 330, nanos: 0 }),
        ..window(ann, "2027-02-02T00:00:00Z", "2027-02-03T00:00:00Z")
    };
    assert_eq!(field(world.slots(bob, odd).await), "duration");
}
