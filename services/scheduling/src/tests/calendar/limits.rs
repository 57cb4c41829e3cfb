//! How much people want to be called, and that bookings are held to it.

use std::collections::HashMap;

use chassis::fault::Fault;
use tokio::task::JoinSet;
use tonic::Code;

use super::*;

/// Which limit a booking goes beyond, and which time of it.
fn beyond<T: std::fmt::Debug>(answer: Result<T, Status>) -> (String, String) {
    let fault = Fault::of(&answer.unwrap_err());
    assert_eq!((fault.code(), fault.reason()), (Code::FailedPrecondition, "ERROR_REASON_CALL_LIMIT"));
    let metadata: HashMap<_, _> = fault.metadata().clone().into_iter().collect();
    (metadata["limit"].clone(), metadata["start_time"].clone())
}

fn limit(name: &str, start: &str) -> (String, String) {
    (name.to_owned(), start.to_owned())
}

#[tokio::test]
async fn a_call_is_no_longer_than_is_wanted() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    world.neighbours.limit(bob, 0, Some(20 * MINUTE));
    let lasting = |length| pb::ScheduleCallRequest {
        end_time: Some(world.clock.now().plus(HOUR + length).to_proto()),
        ..world.draft(bob, HOUR)
    };
    let too_long = limit("max_duration", "2027-02-01T01:00:00Z");
    assert_eq!(beyond(world.ask(ann, lasting(20 * MINUTE + SECOND)).await), too_long);
    assert_eq!(world.neighbours.conversations(), 0);
    let booked = world.ask(ann, lasting(20 * MINUTE)).await.unwrap();
    let longer = pb::ScheduleChanges {
        end_time: Some(world.clock.now().plus(HOUR + 21 * MINUTE).to_proto()),
        ..Default::default()
    };
    assert_eq!(beyond(world.update(ann, &booked.schedule_id, longer, &["end_time"]).await), too_long);
    assert_eq!(world.get(bob, &booked.schedule_id).await.unwrap(), booked);
    // Only who is booked is asked.
    world.book(bob, ann, 2 * HOUR).await;
}

#[tokio::test]
async fn a_day_has_as_many_calls_as_are_wanted() {
    let world = World::start().await;
    let ann = world.neighbours.register("ann", "");
    // 05:45 ahead: the day ends at 18:15 in UTC.
    let bob = world.neighbours.register("bob", "Asia/Kathmandu");
    world.neighbours.limit(bob, 2, None);
    let first = world.book(ann, bob, HOUR).await;
    // Whoever has booked it.
    world.book(bob, ann, 2 * HOUR).await;
    let third = || world.ask(ann, world.draft(bob, 18 * HOUR));
    assert_eq!(beyond(third().await), limit("max_calls_per_day", "2027-02-01T18:00:00Z"));
    world.book(ann, bob, 18 * HOUR + 30 * MINUTE).await;
    // Of one that comes again no day may have too many.
    let daily = |count| pb::ScheduleCallRequest {
        rrule: format!("FREQ=DAILY;COUNT={count}"),
        ..world.draft(bob, 20 * HOUR)
    };
    world.book(ann, bob, 66 * HOUR).await;
    world.book(ann, bob, 70 * HOUR).await;
    world.book(ann, bob, 72 * HOUR).await;
    let full = limit("max_calls_per_day", "2027-02-03T20:00:00Z");
    assert_eq!(beyond(world.ask(ann, daily(4)).await), full);
    let series = world.ask(ann, daily(2)).await.unwrap();
    // A change is held to it, and the booking itself does not count.
    let at =
        |start: &str| pb::ScheduleChanges { start_time: Some(at(start).to_proto()), ..Default::default() };
    let id = &first.schedule_id;
    let onto = world.update(ann, id, at("2027-02-01T19:30:00Z"), &["start_time"]).await;
    assert_eq!(beyond(onto), limit("max_calls_per_day", "2027-02-01T19:30:00Z"));
    let again = pb::ScheduleChanges { rrule: "FREQ=DAILY;COUNT=3".to_owned(), ..Default::default() };
    assert_eq!(beyond(world.update(ann, &series.schedule_id, again, &["recurrence"]).await), full);
    world.update(ann, id, at("2027-02-01T03:00:00Z"), &["start_time"]).await.unwrap();
    // What is cancelled does not count, and less is wanted without a word about what stands.
    world.delete(bob, id).await.unwrap();
    let booked = third().await.unwrap();
    world.neighbours.limit(bob, 1, Some(5 * MINUTE));
    let named = pb::ScheduleChanges { title: "Coffee".to_owned(), ..Default::default() };
    world.update(ann, &booked.schedule_id, named, &["title"]).await.unwrap();
}

#[tokio::test]
async fn a_day_is_one_where_free_time_is_meant() {
    let world = World::start().await;
    let ann = world.neighbours.register("ann", "");
    let bob = world.neighbours.register("bob", "Asia/Kathmandu");
    world.neighbours.limit(bob, 1, None);
    world.set_weekly(bob, every_day(&[("00:00", "24:00")])).await.unwrap();
    world.book(ann, bob, 18 * HOUR).await;
    let evening = world.ask(ann, world.draft(bob, 19 * HOUR)).await;
    assert_eq!(beyond(evening), limit("max_calls_per_day", "2027-02-01T19:00:00Z"));
    world.book(ann, bob, 24 * HOUR).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_gets_as_many_as_are_wanted() {
    let world = World::start().await;
    let ann = world.neighbours.register("ann", "");
    world.neighbours.limit(ann, 2, None);
    let mut crowd = JoinSet::new();
    for n in 0..12_u32 {
        let booker = world.neighbours.register("booker", "");
        let request = world.draft(ann, HOUR + n * HOUR);
        let mut client = world.client();
        crowd.spawn(async move {
            let answer = client.schedule_call(booker.asks(request)).await;
            let refused = answer.is_err();
            if refused {
                assert_eq!(beyond(answer).0, "max_calls_per_day");
            }
            !refused
        });
    }
    assert_eq!(crowd.join_all().await.into_iter().filter(|won| *won).count(), 2);
    assert_eq!(world.neighbours.told().len(), 2);
}
