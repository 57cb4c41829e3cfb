//! What the two may do with a booking, and what becomes of it when one of them goes.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use proto::messaging::v1::{AlertState, ErrorReason};
use proto::scheduling::v1::ScheduleState as State;
use proto::scheduling::v1::export_service_client::ExportServiceClient;
use tonic::Code;

use super::*;
use crate::store::Store;
use crate::tests::{eventually, field, is, reason};
use crate::timer::Kind;

fn moved(start: Timestamp) -> pb::ScheduleChanges {
    pb::ScheduleChanges { start_time: Some(start.to_proto()), ..Default::default() }
}

#[tokio::test]
async fn a_move_frees_the_old_time_and_is_told() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let booked = world.book(ann, bob, HOUR).await;
    let id = &booked.schedule_id;
    let later = world.clock.now().plus(5 * HOUR);
    let changed = world.update(ann, id, moved(later), &["start_time"]).await.unwrap();
    assert_eq!((changed.version, changed.start_time), (2, Some(later.to_proto())));
    assert_eq!(changed.end_time, Some(later.plus(30 * MINUTE).to_proto()));
    assert_ne!(changed.message_id, booked.message_id);
    let told = world.neighbours.told();
    assert_eq!((told.len(), told[1].by, told[1].key.clone()), (2, ann, format!("schedule:{id}:2")));
    assert_eq!(told[1].content.start_time, changed.start_time);
    world.hears(bob, id, &[AlertState::ScheduleMade, AlertState::ScheduleMoved]).await;
    assert_eq!(world.neighbours.alerts(ann, id), []);
    // The old time is free, the new one is not, and half of one's own time is no obstacle.
    world.book(bob, ann, HOUR).await;
    let taken = world.ask(bob, world.draft(ann, 5 * HOUR)).await;
    assert_eq!(reason(taken), is(Code::AlreadyExists, "SLOT_TAKEN"));
    let a_bit = world.update(ann, id, moved(later.plus(10 * MINUTE)), &["start_time"]).await.unwrap();
    assert_eq!(a_bit.version, 3);
}

#[tokio::test]
async fn a_change_is_judged_like_a_new_booking() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let booked = world.book(ann, bob, HOUR).await;
    let other = world.book(ann, bob, 3 * HOUR).await;
    let id = &booked.schedule_id;
    let now = world.clock.now();
    let onto = world.update(ann, id, moved(now.plus(3 * HOUR)), &["start_time"]).await;
    assert_eq!(reason(onto), is(Code::AlreadyExists, "SLOT_TAKEN"));
    world.set_weekly(bob, every_day(&[("00:00", "06:00")])).await.unwrap();
    let off = world.update(ann, id, moved(now.plus(8 * HOUR)), &["start_time"]).await;
    assert_eq!(reason(off), is(Code::FailedPrecondition, "SLOT_NOT_FREE"));
    let past = world.update(ann, id, moved(now.minus(HOUR)), &["start_time"]).await;
    assert_eq!(field(past), "schedule.start_time");
    let end = pb::ScheduleChanges { end_time: Some(now.plus(HOUR).to_proto()), ..Default::default() };
    assert_eq!(field(world.update(ann, id, end.clone(), &["end_time"]).await), "schedule.end_time");
    assert_eq!(field(world.update(ann, id, end.clone(), &[]).await), "update_mask");
    assert_eq!(field(world.update(ann, id, end.clone(), &["state"]).await), "update_mask");
    assert_eq!(field(world.update(ann, id, end.clone(), &["title"]).await), "schedule.title");
    assert_eq!(field(world.update(ann, id, end, &["media"]).await), "schedule.media");
    let rule = pb::ScheduleChanges { rrule: "FREQ=HOURLY".to_owned(), ..Default::default() };
    assert_eq!(field(world.update(ann, id, rule, &["recurrence"]).await), "schedule.rrule");
    let as_attendee = world.update(bob, id, moved(now.plus(4 * HOUR)), &["start_time"]).await;
    assert_eq!(reason(as_attendee), is(Code::PermissionDenied, "NOT_BOOKER"));
    // Nothing of all that has had an effect.
    assert_eq!(world.get(bob, id).await.unwrap(), booked);
    assert_eq!(world.neighbours.told().len(), 2);
    // A title says nothing about time: that one can be changed, also where he is not free any more.
    world.set_weekly(bob, every_day(&[])).await.unwrap();
    let named = pb::ScheduleChanges { title: "Coffee".to_owned(), ..Default::default() };
    let changed = world.update(ann, id, named.clone(), &["title"]).await.unwrap();
    assert_eq!((changed.title.as_str(), changed.start_time), ("Coffee", booked.start_time));
    // And what is as it was is no change.
    let again = world.update(ann, id, named, &["title"]).await.unwrap();
    assert_eq!((again.version, world.neighbours.told().len()), (2, 3));
    let same = moved(Timestamp::from_proto(other.start_time.as_ref().unwrap()).unwrap());
    let same = world.update(ann, &other.schedule_id, same, &["start_time"]).await.unwrap();
    assert_eq!(same, other);
}

#[tokio::test]
async fn a_booking_can_come_again_from_now_on_or_not_any_more() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let booked = world.book(ann, bob, HOUR).await;
    let id = &booked.schedule_id;
    let daily = pb::ScheduleChanges { rrule: "FREQ=DAILY;COUNT=3".to_owned(), ..Default::default() };
    let changed = world.update(ann, id, daily, &["recurrence"]).await.unwrap();
    assert_eq!((changed.recurrence(), changed.occurrence_count), (pb::Recurrence::Rule, 3));
    let tomorrow = || world.ask(bob, world.draft(ann, 25 * HOUR));
    assert_eq!(reason(tomorrow().await), is(Code::AlreadyExists, "SLOT_TAKEN"));
    let once = pb::ScheduleChanges { recurrence: pb::Recurrence::None.into(), ..Default::default() };
    let changed = world.update(ann, id, once, &["recurrence"]).await.unwrap();
    assert_eq!((changed.rrule.as_str(), changed.occurrence_count, changed.version), ("", 1, 3));
    assert!(tomorrow().await.is_ok());
}

#[tokio::test]
async fn either_of_the_two_can_cancel_and_both_know() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    for (by, other) in [(ann, bob), (bob, ann)] {
        let booked = world.book(ann, bob, HOUR).await;
        let id = &booked.schedule_id;
        let cancelled = world.delete(by, id).await.unwrap();
        assert_eq!((cancelled.state(), cancelled.version), (State::Cancelled, 2));
        assert_eq!(
            (cancelled.next_start_time, cancelled.cancelled_by_user_id.as_str()),
            (None, &*by.to_string())
        );
        // At once, whatever else has to be done.
        let again = world.book(bob, ann, HOUR).await;
        world.delete(bob, &again.schedule_id).await.unwrap();
        eventually(|| world.neighbours.alerts(other, id).last() == Some(&AlertState::ScheduleCancelled))
            .await;
        assert_ne!(world.neighbours.alerts(by, id).last(), Some(&AlertState::ScheduleCancelled));
        eventually(|| {
            let told = world.neighbours.told();
            told.iter()
                .any(|told| told.key == format!("schedule:{id}:2") && told.by == by && told.content.cancelled)
        })
        .await;
        let same = world.delete(other, id).await.unwrap();
        assert_eq!((same.version, same.cancelled_by_user_id), (2, by.to_string()));
        let late = world.update(ann, id, moved(world.clock.now().plus(HOUR)), &["start_time"]).await;
        assert_eq!(reason(late), is(Code::FailedPrecondition, "SCHEDULE_OVER"));
    }
    let past = world.book(ann, bob, HOUR).await;
    world.clock.advance(2 * HOUR);
    assert_eq!(world.get(ann, &past.schedule_id).await.unwrap().state(), State::Past);
    assert_eq!(
        reason(world.delete(ann, &past.schedule_id).await),
        is(Code::FailedPrecondition, "SCHEDULE_OVER")
    );
}

#[tokio::test]
async fn a_cancellation_reaches_also_who_has_not_accepted_the_other() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let booked = world.book(ann, bob, HOUR).await;
    world.neighbours.refuse(ann, bob, ErrorReason::ContactNotAccepted);
    world.delete(ann, &booked.schedule_id).await.unwrap();
    world.hears(bob, &booked.schedule_id, &[AlertState::ScheduleMade, AlertState::ScheduleCancelled]).await;
    assert_eq!(world.neighbours.told().len(), 1);
}

#[tokio::test]
async fn a_cancellation_does_not_get_past_a_block() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let cem = world.neighbours.register("cem", "");
    let booked = world.book(ann, bob, HOUR).await;
    let other = world.book(ann, cem, 3 * HOUR).await;
    world.neighbours.refuse(ann, bob, ErrorReason::WriteDenied);
    let later = moved(world.clock.now().plus(2 * HOUR));
    let denied = world.update(ann, &booked.schedule_id, later, &["start_time"]).await;
    assert_eq!(reason(denied), is(Code::PermissionDenied, "WRITE_DENIED"));
    world.delete(ann, &booked.schedule_id).await.unwrap();
    // What comes after it is told.
    world.delete(ann, &other.schedule_id).await.unwrap();
    world.hears(cem, &other.schedule_id, &[AlertState::ScheduleMade, AlertState::ScheduleCancelled]).await;
    let store = Store::new(world.database.clone(), world.clock.clone());
    let begin = Timestamp::from_millis(0);
    let is_over = async || store.next_wake_time(Kind::Booking, begin).await.unwrap().is_none();
    let end = tokio::time::Instant::now() + PATIENCE;
    while !is_over().await {
        assert!(tokio::time::Instant::now() < end, "it is tried again and again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.neighbours.alerts(bob, &booked.schedule_id), [AlertState::ScheduleMade]);
}

#[tokio::test]
async fn a_block_cancels_what_the_two_have_booked_and_tells_nobody() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let cem = world.neighbours.register("cem", "");
    let past = world.book(ann, bob, HOUR).await;
    world.clock.advance(2 * HOUR);
    let by_her = world.book(ann, bob, HOUR).await;
    let by_him = world.book(bob, ann, 2 * HOUR).await;
    let others = [world.book(cem, bob, 3 * HOUR).await, world.book(ann, cem, 4 * HOUR).await];
    let seen = || (world.neighbours.told().len(), world.neighbours.raised().len());
    let before = seen();
    world.neighbours.block(bob, ann);
    for booked in [&by_her, &by_him] {
        let end = tokio::time::Instant::now() + PATIENCE;
        while world.get(ann, &booked.schedule_id).await.unwrap().state() != State::Cancelled {
            assert!(tokio::time::Instant::now() < end, "it still stands");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let found = world.get(bob, &booked.schedule_id).await.unwrap();
        assert_eq!((found.version, found.cancelled_by_user_id), (2, bob.to_string()));
    }
    assert_eq!(world.get(ann, &past.schedule_id).await.unwrap().state(), State::Past);
    for other in &others {
        assert_eq!(world.get(cem, &other.schedule_id).await.unwrap().state(), State::Upcoming);
    }
    // The time is free again, and there is nothing left to tell or to remind of.
    let again = [world.book(cem, bob, HOUR).await, world.book(cem, bob, 2 * HOUR).await];
    for booked in &again {
        world.hears(bob, &booked.schedule_id, &[AlertState::ScheduleMade]).await;
    }
    assert_eq!(seen(), (before.0 + 2, before.1 + 2));
    for (pause, booked) in [50 * MINUTE, HOUR].into_iter().zip(&again) {
        world.clock.advance(pause);
        let is_due =
            |user| world.neighbours.alerts(user, &booked.schedule_id).contains(&AlertState::ScheduleDue);
        eventually(|| is_due(cem) && is_due(bob)).await;
    }
    for user in [ann, bob] {
        for booked in [&by_her, &by_him] {
            assert!(!world.neighbours.alerts(user, &booked.schedule_id).contains(&AlertState::ScheduleDue));
        }
    }
}

#[tokio::test]
async fn clearing_cancels_what_one_has_booked_and_nothing_else() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let past = world.book(ann, bob, HOUR).await;
    world.clock.advance(2 * HOUR);
    for after in 1..=3 {
        world.book(ann, bob, after * HOUR).await;
    }
    let theirs = world.book(bob, ann, 5 * HOUR).await;
    let clear = || async {
        let answer = world.client().clear_schedules(ann.asks(pb::ClearSchedulesRequest {})).await;
        answer.unwrap().into_inner().cancelled_count
    };
    assert_eq!(clear().await, 3);
    assert_eq!(clear().await, 0);
    assert_eq!(world.get(ann, &past.schedule_id).await.unwrap().state(), State::Past);
    assert_eq!(world.get(ann, &theirs.schedule_id).await.unwrap().state(), State::Upcoming);
    assert_eq!(world.titles(bob, pb::ScheduleFilter::Cancelled).await.len(), 3);
}

#[tokio::test]
async fn lists_have_an_order_words_and_pages() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let cem = world.neighbours.register("cem", "");
    for (title, hours, rrule) in
        [("100% Tea", 1, ""), ("Coffee", 3, "FREQ=DAILY;COUNT=3"), ("TEA again", 5, ""), ("Übung_1", 7, "")]
    {
        let request = pb::ScheduleCallRequest {
            title: title.to_owned(),
            rrule: rrule.to_owned(),
            ..world.draft(bob, hours * HOUR)
        };
        world.ask(ann, request).await.unwrap();
    }
    world.book(cem, ann, 9 * HOUR).await;
    use pb::ScheduleFilter::{Past, Unspecified, Upcoming};
    assert_eq!(world.titles(bob, Unspecified).await, ["Übung_1", "TEA again", "Coffee", "100% Tea"]);
    world.clock.advance(4 * HOUR);
    assert_eq!(world.titles(bob, Past).await, ["100% Tea"]);
    // Coffee is tomorrow by now.
    assert_eq!(world.titles(bob, Upcoming).await, ["TEA again", "Übung_1", "Coffee"]);
    assert_eq!(world.titles(ann, Upcoming).await, ["TEA again", "Übung_1", "Tea", "Coffee"]);
    let find = |keyword: &str| {
        let request = pb::ListSchedulesRequest { keyword: keyword.to_owned(), ..Default::default() };
        async {
            world.list(bob, request).await.schedules.into_iter().map(|one| one.title).collect::<Vec<_>>()
        }
    };
    assert_eq!(find("tea").await, ["TEA again", "100% Tea"]);
    assert_eq!(find("ÜBUNG").await, ["Übung_1"]);
    assert_eq!(find("%").await, ["100% Tea"]);
    assert_eq!(find("_").await, ["Übung_1"]);
    assert_eq!(find("!").await, [""; 0]);
    for filter in [Unspecified, Upcoming] {
        let mut request =
            pb::ListSchedulesRequest { filter: filter.into(), page_size: 1, ..Default::default() };
        let mut titles = Vec::new();
        loop {
            let page = world.list(bob, request.clone()).await;
            titles.extend(page.schedules.into_iter().map(|one| one.title));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(titles, world.titles(bob, filter).await);
        request.keyword = "tea".to_owned();
        let mixed = world.client().list_schedules(bob.asks(request)).await;
        assert_eq!(field(mixed), "page_token");
    }
}

#[tokio::test]
async fn a_deleted_account_leaves_no_calendar_and_the_others_know() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let cem = world.neighbours.register("cem", "");
    let past = world.book(ann, bob, HOUR).await;
    world.clock.advance(2 * HOUR);
    world.set_weekly(ann, every_day(&[("00:00", "12:00")])).await.unwrap();
    let by_her = world.book(ann, bob, HOUR).await;
    let with_her = world.book(cem, ann, 2 * HOUR).await;
    let without = world.book(cem, bob, 3 * HOUR).await;
    let told = world.neighbours.told().len();
    world.neighbours.delete(ann);
    for (user, booked) in [(bob, &by_her), (cem, &with_her)] {
        eventually(|| {
            world.neighbours.alerts(user, &booked.schedule_id).last() == Some(&AlertState::ScheduleCancelled)
        })
        .await;
        let found = world.get(user, &booked.schedule_id).await.unwrap();
        assert_eq!((found.state(), found.cancelled_by_user_id), (State::Cancelled, ann.to_string()));
    }
    assert_eq!(world.get(bob, &past.schedule_id).await.unwrap().state(), State::Past);
    assert_eq!(world.get(bob, &without.schedule_id).await.unwrap().state(), State::Upcoming);
    // Nobody writes in her name any more, and nobody books her.
    assert_eq!(world.neighbours.told().len(), told);
    let gone = world.ask(bob, world.draft(ann, HOUR)).await;
    assert_eq!(reason(gone), is(Code::NotFound, "USER_NOT_FOUND"));
    let file = pb::ExportScheduleRequest { schedule_id: past.schedule_id.clone() };
    assert!(world.client().export_schedule(bob.asks(file)).await.is_ok());
    // Once the other one goes as well, nothing is left of it.
    world.neighbours.delete(bob);
    eventually(|| world.neighbours.alerts(cem, &without.schedule_id).len() == 1).await;
    let left = Store::new(world.database.clone(), world.clock.clone());
    let id = proto::id::ScheduleId::parse(&past.schedule_id).unwrap();
    assert!(left.schedule_of(bob, id, world.clock.now()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_booking_is_a_file_for_other_calendars() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let booked = world.book(ann, bob, HOUR).await;
    let request = pb::ExportScheduleRequest { schedule_id: booked.schedule_id.clone() };
    let file = world.client().export_schedule(bob.asks(request.clone())).await.unwrap().into_inner();
    assert_eq!(file.file_name, format!("{}.ics", booked.schedule_id));
    assert_eq!(file.media_type, "text/calendar; charset=utf-8");
    for line in
        ["BEGIN:VCALENDAR\r\n", "DTSTART:20270201T010000Z\r\n", "SUMMARY:Tea\r\n", "STATUS:CONFIRMED\r\n"]
    {
        assert!(file.content.contains(line), "{line} in {}", file.content);
    }
    let unfolded = file.content.replace("\r\n ", "");
    assert!(unfolded.contains(&format!("ORGANIZER;CN=ann:urn:uuid:{ann}\r\n")), "{unfolded}");
    assert!(!file.content.contains("secret.example"), "an address in {}", file.content);
    let cem = world.neighbours.register("cem", "");
    let hidden = world.client().export_schedule(cem.asks(request)).await;
    assert_eq!(reason(hidden), is(Code::NotFound, "SCHEDULE_NOT_FOUND"));
}

#[tokio::test]
async fn everything_about_a_person_can_be_taken_along() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    world.set_weekly(ann, every_day(&[("00:00", "12:00")])).await.unwrap();
    let date = pb::CustomDay { date: "2027-02-05".to_owned(), ranges: vec![] };
    world.set_custom(ann, vec![date], &[]).await.unwrap();
    let kept = world.book(ann, bob, HOUR).await;
    let gone = world.book(bob, ann, 2 * HOUR).await;
    world.delete(ann, &gone.schedule_id).await.unwrap();
    let cem = world.neighbours.register("cem", "");
    world.book(cem, bob, 3 * HOUR).await;
    let mut client = ExportServiceClient::new(world.transport.clone());
    let pieces = client.export_user_data(ann.asks(pb::ExportUserDataRequest {})).await.unwrap().into_inner();
    let pieces: Vec<_> = pieces.try_collect().await.unwrap();
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for piece in pieces {
        files.entry(piece.path).or_default().push_str(std::str::from_utf8(&piece.data).unwrap());
    }
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "scheduling/availability.json",
            "scheduling/calls.ndjson",
            "scheduling/custom_days.ndjson",
            "scheduling/scheduled_messages.ndjson",
            "scheduling/schedules.ndjson",
        ]
    );
    assert!(files["scheduling/availability.json"].contains(r#""start":"00:00""#));
    assert!(files["scheduling/custom_days.ndjson"].contains("2027-02-05"));
    let schedules: Vec<_> = files["scheduling/schedules.ndjson"].lines().collect();
    assert_eq!(schedules.len(), 2);
    assert!(schedules[0].contains(&kept.schedule_id) && schedules[1].contains(&gone.schedule_id));
}

#[tokio::test]
async fn a_call_under_way_is_extended_and_ends_in_the_future() {
    let world = World::start().await;
    let [ann, bob] = world.two();
    let cem = world.neighbours.register("cem", "");
    let id = world.book(ann, bob, HOUR).await.schedule_id;
    world.book(cem, bob, 3 * HOUR).await;
    world.clock.advance(HOUR + 10 * MINUTE);
    assert_eq!(world.get(ann, &id).await.unwrap().state(), State::Ongoing);
    let now = world.clock.now();
    let until = |end: Timestamp| pb::ScheduleChanges { end_time: Some(end.to_proto()), ..Default::default() };
    let longer = world.update(ann, &id, until(now.plus(HOUR)), &["end_time"]).await.unwrap();
    assert_eq!((longer.version, longer.end_time), (2, Some(now.plus(HOUR).to_proto())));
    assert_eq!(longer.state(), State::Ongoing);
    // What is in the way is, and what is in the past is past.
    let taken = world.update(ann, &id, until(now.plus(2 * HOUR)), &["end_time"]).await;
    assert_eq!(reason(taken), is(Code::AlreadyExists, "SLOT_TAKEN"));
    let past = world.update(ann, &id, until(now.minus(MINUTE)), &["end_time"]).await;
    assert_eq!(field(past), "schedule.end_time");
    assert_eq!(
        field(world.update(ann, &id, moved(now.minus(MINUTE)), &["start_time"]).await),
        "schedule.start_time"
    );
    let shorter = world.update(ann, &id, until(now.plus(MINUTE)), &["end_time"]).await.unwrap();
    assert_eq!(shorter.end_time, Some(now.plus(MINUTE).to_proto()));
}
