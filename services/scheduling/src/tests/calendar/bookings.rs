//! Booking calls: what may be booked, and what comes with it.

use proto::messaging::v1::{AlertState, ErrorReason};
use proto::scheduling::v1::ScheduleState as State;
use tokio::task::JoinSet;
use tonic::Code;

use super::*;
use crate::tests::{eventually, field, is, reason};

#[tokio::test]
async fn a_booking_comes_with_a_message_and_an_alert() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let booked = world.book(ann, bob, HOUR).await;
    assert_eq!((booked.state(), booked.version, booked.occurrence_count), (State::Upcoming, 1, 1));
    assert_eq!((booked.recurrence(), booked.time_zone.as_str()), (pb::Recurrence::None, "UTC"));
    assert_eq!(booked.reminders, [600, 0].map(|seconds| prost_types::Duration { seconds, nanos: 0 }));
    assert_eq!((booked.next_start_time, booked.next_end_time), (booked.start_time, booked.end_time));
    let told = world.neighbours.told();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].by, told[0].to), (ann, bob));
    assert_eq!(told[0].key, format!("schedule:{}:1", booked.schedule_id));
    assert_eq!(booked.message_id, told[0].message.to_string());
    assert_eq!(booked.conversation_id, told[0].conversation.to_string());
    let content = &told[0].content;
    assert_eq!((content.title.as_str(), content.video, content.cancelled), ("Tea", true, false));
    assert_eq!((content.start_time, content.end_time), (booked.start_time, booked.end_time));
    let raised = world.neighbours.raised();
    assert_eq!(raised.len(), 1);
    assert_eq!((raised[0].user, raised[0].state), (bob, AlertState::ScheduleMade));
    assert_eq!((&raised[0].actor, &raised[0].message), (&ann.to_string(), &booked.message_id));

    // Both see it, and nobody else.
    for user in [ann, bob] {
        assert_eq!(world.get(user, &booked.schedule_id).await.unwrap(), booked);
        assert_eq!(world.titles(user, pb::ScheduleFilter::Upcoming).await, ["Tea"]);
    }
    let cem = world.neighbours.register("cem", "");
    let hidden = || is(Code::NotFound, "SCHEDULE_NOT_FOUND");
    assert_eq!(reason(world.get(cem, &booked.schedule_id).await), hidden());
    assert_eq!(reason(world.delete(cem, &booked.schedule_id).await), hidden());
    let changes = pb::ScheduleChanges { title: "Mine".to_owned(), ..Default::default() };
    assert_eq!(reason(world.update(cem, &booked.schedule_id, changes, &["title"]).await), hidden());
    assert_eq!(world.titles(cem, pb::ScheduleFilter::Unspecified).await, [""; 0]);
}

#[tokio::test]
async fn a_retry_books_once() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let request_id = UserId::generate().to_string();
    let request = pb::ScheduleCallRequest { request_id, ..world.draft(bob, HOUR) };
    let mut tries = JoinSet::new();
    for _ in 0..8 {
        let (mut client, request) = (world.client(), request.clone());
        tries.spawn(async move {
            let answer = client.schedule_call(ann.asks(request)).await;
            answer.map(|answer| answer.into_inner().schedule.unwrap().schedule_id)
        });
    }
    let mut ids: Vec<_> = tries.join_all().await.into_iter().map(Result::unwrap).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let other = pb::ScheduleCallRequest { title: "Coffee".to_owned(), ..request.clone() };
    assert_eq!(reason(world.ask(ann, other).await), is(Code::AlreadyExists, "REQUEST_ID_REUSED"));
    // What was booked stays so, whatever has become of it.
    world.delete(bob, &ids[0]).await.unwrap();
    world.clock.advance(2 * HOUR);
    assert_eq!(world.ask(ann, request).await.unwrap().state(), State::Cancelled);
    eventually(|| world.neighbours.told().len() == 2).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name_and_changes_nothing() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let draft = || world.draft(bob, HOUR);
    let later = |after| Some(world.clock.now().plus(after).to_proto());
    type Draft = pb::ScheduleCallRequest;
    for (expected, request) in [
        ("end_time", Draft { end_time: later(30 * MINUTE), ..draft() }),
        ("end_time", Draft { end_time: later(HOUR), ..draft() }),
        ("end_time", Draft { end_time: later(HOUR + 299 * SECOND), ..draft() }),
        ("end_time", Draft { end_time: later(25 * HOUR + SECOND), ..draft() }),
        ("end_time", Draft { end_time: None, ..draft() }),
        (
            "start_time",
            Draft { start_time: later(366 * 24 * HOUR), end_time: later(367 * 24 * HOUR), ..draft() },
        ),
        (
            "start_time",
            Draft {
                start_time: Some(world.clock.now().minus(SECOND).to_proto()),
                end_time: later(HOUR),
                ..draft()
            },
        ),
        ("title", Draft { title: " \n".to_owned(), ..draft() }),
        ("title", Draft { title: "a\r\nATTENDEE:x".to_owned(), ..draft() }),
        ("media", Draft { media: 0, ..draft() }),
        ("media", Draft { media: 9, ..draft() }),
        ("user_id", Draft { user_id: ann.to_string(), ..draft() }),
        ("time_zone", Draft { time_zone: "Nowhere".to_owned(), ..draft() }),
        ("rrule", Draft { rrule: "FREQ=MONTHLY".to_owned(), ..draft() }),
        ("rrule", Draft { rrule: "FREQ=DAILY;COUNT=500".to_owned(), ..draft() }),
        ("rrule", Draft { rrule: "FREQ=WEEKLY;BYDAY=TU".to_owned(), ..draft() }),
        ("rrule", Draft { rrule: "FREQ=DAILY;UNTIL=20300101".to_owned(), ..draft() }),
        ("rrule", Draft { recurrence: pb::Recurrence::Rule.into(), ..draft() }),
        (
            "rrule",
            Draft { recurrence: pb::Recurrence::Daily.into(), rrule: "FREQ=DAILY".to_owned(), ..draft() },
        ),
        ("reminders", Draft { reminders: vec![span(MINUTE).unwrap()], no_reminders: true, ..draft() }),
        ("request_id", Draft { request_id: "again".to_owned(), ..draft() }),
    ] {
        assert_eq!(field(world.ask(ann, request.clone()).await), expected, "{request:?}");
    }
    for nobody in [UserId::generate(), world.neighbours.guest()] {
        let refused = world.ask(ann, world.draft(nobody, HOUR)).await;
        assert_eq!(reason(refused), is(Code::NotFound, "USER_NOT_FOUND"));
    }
    let guest = world.ask(world.neighbours.guest(), draft()).await;
    assert_eq!(guest.unwrap_err().code(), Code::FailedPrecondition);
    assert!(world.neighbours.told().is_empty() && world.neighbours.raised().is_empty());
    assert_eq!(world.titles(bob, pb::ScheduleFilter::Unspecified).await, [""; 0]);
}

#[tokio::test]
async fn nobody_is_booked_twice_at_a_time() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let cem = world.neighbours.register("cem", "");
    world.book(ann, bob, HOUR).await;
    // Whoever booked and whoever was booked are busy alike; `user_id` says who.
    for (by, with, whose) in [(cem, bob, bob), (cem, ann, ann), (bob, cem, bob), (ann, cem, ann)] {
        for after in [HOUR, HOUR - 29 * MINUTE, HOUR + 29 * MINUTE] {
            let status = world.ask(by, world.draft(with, after)).await.unwrap_err();
            let fault = chassis::fault::Fault::of(&status);
            assert_eq!((fault.code(), fault.reason()), (Code::AlreadyExists, "ERROR_REASON_SLOT_TAKEN"));
            assert_eq!(fault.metadata()["user_id"], whose.to_string());
        }
    }
    // What touches does not meet.
    world.book(cem, bob, HOUR + 30 * MINUTE).await;
    world.book(cem, ann, 30 * MINUTE).await;
}

#[tokio::test]
async fn only_free_time_can_be_booked_where_it_was_said() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let week = pb::WeeklyAvailability {
        buffer_after: span(10 * MINUTE),
        minimum_notice: span(HOUR),
        ..every_day(&[("00:00", "12:00"), ("12:00", "18:00")])
    };
    world.set_weekly(bob, week).await.unwrap();
    let not_free = || is(Code::FailedPrecondition, "SLOT_NOT_FREE");
    let ask = |after| world.ask(ann, world.draft(bob, after));
    for after in [30 * MINUTE, 17 * HOUR + 31 * MINUTE, 18 * HOUR, 23 * HOUR + 45 * MINUTE] {
        assert_eq!(reason(ask(after).await), not_free(), "{after:?}");
    }
    // Across two ranges that touch, and not at the beginning of a slot.
    ask(11 * HOUR + 47 * MINUTE).await.unwrap();
    assert_eq!(reason(ask(12 * HOUR + 20 * MINUTE).await), not_free());
    ask(12 * HOUR + 27 * MINUTE).await.unwrap();
    // Every time of one that comes again has to be free.
    world
        .set_custom(bob, vec![pb::CustomDay { date: "2027-02-03".to_owned(), ranges: vec![] }], &[])
        .await
        .unwrap();
    let daily =
        pb::ScheduleCallRequest { rrule: "FREQ=DAILY;COUNT=5".to_owned(), ..world.draft(bob, 8 * HOUR) };
    let status = world.ask(ann, daily.clone()).await.unwrap_err();
    assert_eq!(chassis::fault::Fault::of(&status).metadata()["start_time"], "2027-02-03T08:00:00Z");
    let twice = pb::ScheduleCallRequest { rrule: "FREQ=DAILY;COUNT=2".to_owned(), ..daily };
    assert_eq!(world.ask(ann, twice).await.unwrap().occurrence_count, 2);
}

#[tokio::test]
async fn what_comes_again_keeps_the_clock_of_the_booker() {
    let world = World::start().await;
    let ann = world.neighbours.register("ann", "Europe/Berlin");
    let bob = world.neighbours.register("bob", "Asia/Kathmandu");
    let start = at("2027-03-22T09:00:00Z");
    let request = pb::ScheduleCallRequest {
        start_time: Some(start.to_proto()),
        end_time: Some(start.plus(HOUR).to_proto()),
        recurrence: pb::Recurrence::Weekly.into(),
        ..world.draft(bob, HOUR)
    };
    let booked = world.ask(ann, request).await.unwrap();
    assert_eq!((booked.recurrence(), booked.rrule.as_str()), (pb::Recurrence::Weekly, "FREQ=WEEKLY"));
    assert_eq!((booked.time_zone.as_str(), booked.occurrence_count), ("Europe/Berlin", 53));
    // After the change of the clock it is an hour earlier in UTC: eight is taken, and nine is not any more.
    let in_april = |hour: &str| {
        let start = at(&format!("2027-04-05T{hour}:00:00Z"));
        pb::ScheduleCallRequest {
            start_time: Some(start.to_proto()),
            end_time: Some(start.plus(HOUR).to_proto()),
            ..world.draft(bob, HOUR)
        }
    };
    let cem = world.neighbours.register("cem", "");
    assert_eq!(reason(world.ask(cem, in_april("08")).await), is(Code::AlreadyExists, "SLOT_TAKEN"));
    assert!(world.ask(cem, in_april("09")).await.is_ok());
    world.clock.advance(start.plus(HOUR).since(world.clock.now()));
    let next = world.get(bob, &booked.schedule_id).await.unwrap();
    assert_eq!(
        (next.state(), next.next_start_time),
        (State::Upcoming, Some(at("2027-03-29T08:00:00Z").to_proto()))
    );
}

#[tokio::test]
async fn whom_messaging_does_not_let_write_does_not_book() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let ask = || world.ask(ann, world.draft(bob, HOUR));
    let refused = [
        (ErrorReason::ContactNotAccepted, is(Code::FailedPrecondition, "CONTACT_NOT_ACCEPTED")),
        (ErrorReason::WriteDenied, is(Code::PermissionDenied, "WRITE_DENIED")),
        (ErrorReason::MessageRefused, is(Code::PermissionDenied, "BOOKING_REFUSED")),
    ];
    for (said, heard) in &refused {
        world.neighbours.refuse(ann, bob, *said);
        assert_eq!(reason(ask().await), *heard);
    }
    // There is nothing of it: no booking, not even one that is cancelled, no message, no alert, and the time is free.
    assert_eq!(world.neighbours.checks(), refused.len());
    assert!(world.neighbours.told().is_empty() && world.neighbours.raised().is_empty());
    for user in [ann, bob] {
        for filter in [pb::ScheduleFilter::Unspecified, pb::ScheduleFilter::Cancelled] {
            assert_eq!(world.titles(user, filter).await, [""; 0]);
        }
    }
    world.book(bob, ann, HOUR).await;
}

#[tokio::test]
async fn what_cannot_be_booked_makes_no_conversation() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    world.set_weekly(bob, every_day(&[("00:00", "01:00")])).await.unwrap();
    let off = world.ask(ann, world.draft(bob, HOUR)).await;
    assert_eq!(reason(off), is(Code::FailedPrecondition, "SLOT_NOT_FREE"));
    assert_eq!((world.neighbours.conversations(), world.neighbours.checks()), (0, 0));
    let booked = world.book(ann, bob, 30 * MINUTE).await;
    assert_eq!((world.neighbours.conversations(), world.neighbours.checks()), (1, 1));
    assert_eq!(booked.conversation_id, world.neighbours.told()[0].conversation.to_string());
}

#[tokio::test]
async fn who_is_blocked_between_the_check_and_the_message_has_no_booking() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    world.neighbours.refuse_after_check(ann, bob, ErrorReason::WriteDenied);
    // A retry hears the same.
    let request_id = UserId::generate().to_string();
    let request = pb::ScheduleCallRequest { request_id, ..world.draft(bob, HOUR) };
    for _ in 0..2 {
        let refused = world.ask(ann, request.clone()).await;
        assert_eq!(reason(refused), is(Code::PermissionDenied, "WRITE_DENIED"));
    }
    // It was written before anybody could know, and says why it is cancelled.
    assert_eq!(world.titles(ann, pb::ScheduleFilter::Unspecified).await, [""; 0]);
    let filter = pb::ScheduleFilter::Cancelled.into();
    let cancelled =
        world.list(ann, pb::ListSchedulesRequest { filter, ..Default::default() }).await.schedules;
    assert_eq!((cancelled.len(), cancelled[0].failure_reason.as_str()), (1, "ERROR_REASON_WRITE_DENIED"));
    assert!(world.neighbours.raised().is_empty());
    world.book(bob, ann, HOUR).await;
}

#[tokio::test]
async fn a_booking_waits_for_messaging_and_is_told_once() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    // What was asked before is not asked again.
    let first = world.book(ann, bob, HOUR).await;
    world.neighbours.set_down(true);
    let away = world.ask(ann, world.draft(bob, 2 * HOUR)).await;
    assert_eq!(reason(away), is(Code::Unavailable, "UNAVAILABLE"));
    world.neighbours.set_down(false);
    // It is stored, and nobody hears of it: told again, under the same key.
    world.neighbours.mishaps([Status::deadline_exceeded("late"), Status::unavailable("cut")]);
    let booked = world.book(ann, bob, 2 * HOUR).await;
    assert_ne!(booked.schedule_id, first.schedule_id);
    // As it may have been told, the clock has to go on until it is tried again.
    eventually(|| {
        world.clock.advance(SECOND);
        world.neighbours.alerts(bob, &booked.schedule_id) == [AlertState::ScheduleMade]
    })
    .await;
    let told = world.neighbours.told();
    assert_eq!(told.len(), 2, "{told:?}");
    world.knows_message(ann, &booked.schedule_id, &told[1].message.to_string()).await;
}

#[tokio::test]
async fn what_is_refused_after_the_answer_is_cancelled_and_said() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    world.neighbours.set_stuck(true);
    let booked = world.book(ann, bob, 2 * HOUR).await;
    assert_eq!((booked.state(), booked.message_id.as_str()), (State::Upcoming, ""));
    world.neighbours.set_stuck(false);
    world.neighbours.refuse(ann, bob, ErrorReason::WriteDenied);
    eventually(|| {
        world.clock.advance(SECOND);
        world.neighbours.alerts(ann, &booked.schedule_id) == [AlertState::ScheduleCancelled]
    })
    .await;
    let found = world.get(ann, &booked.schedule_id).await.unwrap();
    assert_eq!(
        (found.state(), found.failure_reason.as_str()),
        (State::Cancelled, "ERROR_REASON_WRITE_DENIED")
    );
    assert_eq!(found.cancelled_by_user_id, "");
    // Who never heard of it does not hear of it now.
    assert_eq!(world.neighbours.alerts(bob, &booked.schedule_id), []);
    world.book(bob, ann, 2 * HOUR).await;
}

#[tokio::test]
async fn as_many_as_are_allowed_can_be_to_come() {
    let world = World::with(Config { max_upcoming: 2, ..config() }).await;
    let [ann, bob] = world.two();
    let first = world.book(ann, bob, HOUR).await;
    world.book(ann, bob, 2 * HOUR).await;
    let third = || world.ask(ann, world.draft(bob, 3 * HOUR));
    assert_eq!(reason(third().await), is(Code::FailedPrecondition, "TOO_MANY_SCHEDULES"));
    // What others book with her does not count.
    world.book(bob, ann, 4 * HOUR).await;
    world.delete(ann, &first.schedule_id).await.unwrap();
    assert!(third().await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_gets_each_slot_once() {
    const SLOTS: u32 = 20;
    let world = World::start().await;
    let ann = world.neighbours.register("ann", "");
    let mut crowd = JoinSet::new();
    for n in 0..100_u32 {
        let booker = world.neighbours.register("booker", "");
        let request = world.draft(ann, HOUR + n % SLOTS * 30 * MINUTE);
        let mut client = world.client();
        crowd.spawn(async move {
            match client.schedule_call(booker.asks(request)).await {
                Ok(_) => Some(n % SLOTS),
                Err(status) => {
                    assert_eq!(reason(Err::<(), _>(status)), is(Code::AlreadyExists, "SLOT_TAKEN"));
                    None
                }
            }
        });
    }
    let mut won: Vec<_> = crowd.join_all().await.into_iter().flatten().collect();
    won.sort_unstable();
    assert_eq!(won, (0..SLOTS).collect::<Vec<_>>());
    assert_eq!(world.neighbours.told().len(), usize::try_from(SLOTS).unwrap());
}
