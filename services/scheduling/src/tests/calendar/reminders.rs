//! Reminders: each once, none early, whatever happens in between.

use chassis::tasks::Tasks;
use proto::id::ScheduleId;
use proto::messaging::v1::AlertState;
use tonic::Code;

use super::*;
use crate::calendar::Calendar;
use crate::calendar::announce::Announcer;
use crate::calendar::people::People;
use crate::conversations::Conversations;
use crate::store::Store;
use crate::tests::{A_WHILE, eventually, is, reason};
use crate::timer::{Kind, Timer};

const DUE: AlertState = AlertState::ScheduleDue;
const MADE: AlertState = AlertState::ScheduleMade;

/// When a user was reminded of a booking, after the time at which the test began.
fn reminded(world: &World, user: UserId, id: &str) -> Vec<Duration> {
    let raised = world.neighbours.raised().into_iter();
    let due = raised.filter(|raised| raised.user == user && raised.schedule == id && raised.state == DUE);
    due.map(|raised| raised.at.since(at(MONDAY))).collect()
}

#[tokio::test]
async fn both_are_reminded_at_the_time_and_not_before() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let booked = world.book(ann, bob, HOUR).await;
    let id = &booked.schedule_id;
    for due in [50 * MINUTE, HOUR] {
        let before = world.neighbours.raised().len();
        world.clock.advance(due - world.clock.now().since(at(MONDAY)) - Duration::from_millis(1));
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(world.neighbours.raised().len(), before, "reminded early");
        world.clock.advance(Duration::from_millis(1));
        eventually(|| world.neighbours.raised().len() == before + 2).await;
    }
    assert_eq!(world.neighbours.alerts(ann, id), [DUE, DUE]);
    assert_eq!(world.neighbours.alerts(bob, id), [MADE, DUE, DUE]);
    for user in [ann, bob] {
        assert_eq!(reminded(&world, user, id), [50 * MINUTE, HOUR]);
    }
    // Nobody causes a reminder, and it is about the message.
    let last = world.neighbours.raised().pop().unwrap();
    assert_eq!((last.actor.as_str(), last.message), ("", booked.message_id));
    world.clock.advance(24 * HOUR);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.neighbours.raised().len(), 5);
}

#[tokio::test]
async fn every_time_has_its_reminders() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let request = pb::ScheduleCallRequest {
        rrule: "FREQ=DAILY;COUNT=3".to_owned(),
        reminders: vec![span(90 * MINUTE).unwrap(), span(Duration::ZERO).unwrap()],
        ..world.draft(bob, HOUR)
    };
    let id = world.ask(ann, request).await.unwrap().schedule_id;
    let mut expected = Vec::new();
    // The one that would have been half an hour ago is left out.
    for due in [HOUR, 23 * HOUR + 30 * MINUTE, 25 * HOUR, 47 * HOUR + 30 * MINUTE, 49 * HOUR] {
        expected.push(due);
        world.clock.advance(due - world.clock.now().since(at(MONDAY)));
        eventually(|| reminded(&world, bob, &id).len() == expected.len()).await;
    }
    eventually(|| reminded(&world, ann, &id) == expected).await;
    assert_eq!(reminded(&world, bob, &id), expected);
}

#[tokio::test]
async fn a_reminder_goes_with_the_booking() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let moved = world.book(ann, bob, HOUR).await.schedule_id;
    let silent = world.book(ann, bob, 2 * HOUR).await.schedule_id;
    let gone = world.book(ann, bob, 3 * HOUR).await.schedule_id;
    let later = pb::ScheduleChanges {
        start_time: Some(world.clock.now().plus(5 * HOUR).to_proto()),
        reminders: vec![span(20 * MINUTE).unwrap()],
        ..Default::default()
    };
    world.update(ann, &moved, later, &["start_time", "reminders"]).await.unwrap();
    world.update(ann, &silent, pb::ScheduleChanges::default(), &["reminders"]).await.unwrap();
    world.delete(bob, &gone).await.unwrap();
    world.clock.advance(4 * HOUR + 39 * MINUTE);
    tokio::time::sleep(A_WHILE).await;
    assert!(world.neighbours.raised().iter().all(|raised| raised.state != DUE));
    world.clock.advance(MINUTE);
    eventually(|| reminded(&world, ann, &moved).len() == 1).await;
    assert_eq!(reminded(&world, ann, &moved), [4 * HOUR + 40 * MINUTE]);
    world.hears(bob, &moved, &[MADE, AlertState::ScheduleMoved, DUE]).await;
}

#[tokio::test]
async fn a_reminder_outlasts_a_restart_and_an_outage() {
    let mut world = World::start().await;
    let [ann, bob] = world.two();
    let late = world.book(ann, bob, HOUR).await.schedule_id;
    let over = world.book(bob, ann, 5 * MINUTE).await.schedule_id;
    // Both are due while nobody is there; one of the calls is over by then.
    world.restart_after(HOUR + 5 * MINUTE).await;
    eventually(|| reminded(&world, bob, &late).len() == 2).await;
    assert_eq!(reminded(&world, ann, &late).len(), 2);
    assert_eq!(reminded(&world, ann, &over), []);
    // What messaging does not take is told later, and once.
    let held = world.book(ann, bob, HOUR).await.schedule_id;
    world.neighbours.set_down(true);
    world.clock.advance(50 * MINUTE);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(reminded(&world, bob, &held), []);
    world.neighbours.set_down(false);
    eventually(|| {
        world.clock.advance(SECOND);
        reminded(&world, ann, &held).len() == 1 && reminded(&world, bob, &held).len() == 1
    })
    .await;
    let hidden = world.get(world.neighbours.register("cem", ""), &held).await;
    assert_eq!(reason(hidden), is(Code::NotFound, "SCHEDULE_NOT_FOUND"));
}

#[tokio::test]
async fn an_alert_that_is_not_taken_is_counted_and_holds_nothing_up() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    // The answer to the message is lost, so that there is something left to tell.
    world.neighbours.mishaps([Status::unavailable("lost")]);
    let booked =
        ScheduleId::parse(&world.ask(ann, world.draft(bob, HOUR)).await.unwrap().schedule_id).unwrap();
    world.unit.stop(PATIENCE).await;
    world.neighbours.take_no_alerts();
    let store = Store::new(world.database.clone(), world.clock.clone());
    let tasks = Tasks::default();
    let timer = |kind| Timer::new(kind, config().timing(), store.clone(), tasks.clone());
    let calendar = Calendar {
        store: store.clone(),
        deliveries: timer(Kind::Booking),
        reminders: timer(Kind::Reminder),
        announcer: Announcer::new(world.neighbours.messaging(), Others::credential()),
        conversations: Conversations::new(world.neighbours.conversation(), Others::credential()),
        people: People::new(world.neighbours.auth(), Others::credential()),
        horizon_days: 1,
        max_upcoming: 1,
    };
    world.clock.advance(50 * MINUTE);
    let claimed =
        async |kind| store.claim(kind, 10, HOUR, world.clock.now().plus(HOUR)).await.unwrap().remove(0);
    let told = calendar.deliver(&claimed(Kind::Booking).await).await.unwrap();
    assert_eq!((told.name(), world.neighbours.told().len()), ("no_alert", 1));
    let reminded = calendar.remind(&claimed(Kind::Reminder).await).await.unwrap();
    assert_eq!((reminded.name(), world.neighbours.raised().len()), ("no_alert", 0));
    let found = store.schedule_of(ann, booked, world.clock.now()).await.unwrap().unwrap();
    assert_eq!((found.told, found.reminding.count), (1, 1));
}
