//! When people are free, and the calls that they book.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::person::{array, number, text};
use tests::waiting::from_now;
use tests::{Person, World};

tests::stories![
    a_booked_call_is_told_and_reminded_of,
    nobody_is_booked_twice,
    a_booking_is_moved_and_cancelled,
    only_free_time_is_booked,
    a_day_of_its_own_overrides_the_week,
    bookings_come_again,
    a_booking_is_between_the_two,
    as_much_is_booked_as_the_other_wants,
    what_makes_no_sense_is_refused,
    a_booking_goes_into_any_calendar,
];

const HOUR: Duration = Duration::from_secs(3600);

fn day(count: u64) -> String {
    from_now(HOUR * 24 * u32::try_from(count).expect("days"))
}

/// A booking of an hour, so many hours from now.
fn in_hours(hours: u32) -> Value {
    json!({
        "title": "How are you?", "media": "SCHEDULE_MEDIA_VIDEO",
        "startTime": from_now(HOUR * hours), "endTime": from_now(HOUR * (hours + 1)),
    })
}

fn with(mut request: Value, more: Value) -> Value {
    for (name, value) in more.as_object().into_iter().flatten() {
        request[name] = value.clone();
    }
    request
}

async fn tries_to_book(person: &Person, other: &Person, request: Value) -> tests::http::Answer {
    person.post(&format!("/v1/users/{}/schedules", other.id), request).await
}

async fn books(person: &Person, other: &Person, request: Value) -> Value {
    tries_to_book(person, other, request).await.ok()["schedule"].clone()
}

fn path(schedule: &Value) -> String {
    format!("/v1/schedules/{}", text(&schedule["scheduleId"]))
}

async fn listed(person: &Person, filter: &str) -> Vec<Value> {
    let path = format!("/v1/schedules?filter=SCHEDULE_FILTER_{filter}&pageSize=100");
    array(&person.get(&path).await.ok()["schedules"]).to_vec()
}

async fn a_booked_call_is_told_and_reminded_of(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let (mut at_ann, mut at_bob) = (ann.comes_online().await, bob.comes_online().await);
    let soon = json!({
        "startTime": from_now(Duration::from_secs(4)), "endTime": from_now(HOUR), "reminders": ["0s", "2s"],
    });
    let schedule = books(&ann, &bob, with(in_hours(1), soon)).await;
    assert_eq!(schedule["state"], json!("SCHEDULE_STATE_UPCOMING"));
    let said = at_bob.next_event("messageCreated").await;
    assert_eq!(said["messageCreated"]["content"]["schedule"]["scheduleId"], schedule["scheduleId"], "{said}");
    let made = bob.is_alerted("SCHEDULE", "SCHEDULE_MADE").await;
    assert_eq!((&made["subjectId"], &made["actorUserId"]), (&schedule["scheduleId"], &json!(ann.id)));

    for (screen, who) in [(&mut at_bob, "Bob"), (&mut at_ann, "Ann")] {
        for _ in 0..2 {
            let due = screen.expects_alert("SCHEDULE_DUE").await;
            assert_eq!(due["subjectId"], schedule["scheduleId"], "{who}");
        }
    }
    // One alert, however often it changed.
    let alerts = bob.get("/v1/alerts").await.ok();
    assert_eq!(array(&alerts["alerts"]).len(), 1, "{alerts}");
    tests::waiting::until("the booked call to begin", || async {
        let now = ann.get(&path(&schedule)).await.ok()["schedule"].clone();
        (now["state"] == json!("SCHEDULE_STATE_ONGOING")).then_some(())
    })
    .await;
}

async fn nobody_is_booked_twice(world: Arc<World>) {
    let bob = world.person("bob").await;
    let others = world.people(["a", "b", "c", "d", "e", "f", "g", "h"]).await;
    let request = in_hours(30);
    let (bob, request) = (&bob, &request);
    let tries = join_all(others.iter().map(|one| tries_to_book(one, bob, request.clone()))).await;
    let won: Vec<_> = tries.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(won.len(), 1, "{tries:?}");
    for lost in tries.iter().filter(|answer| answer.status != 200) {
        assert_eq!(lost.clone().refused(409), "ERROR_REASON_SLOT_TAKEN");
    }
    let upcoming = listed(bob, "UPCOMING").await;
    assert_eq!(upcoming.len(), 1, "{upcoming:?}");
    // What touches does not overlap.
    let next = json!({ "startTime": request["endTime"], "endTime": from_now(HOUR * 32) });
    books(&others[0], bob, with(request.clone(), next)).await;
    // Nor is the one who books in two places at once.
    let busy = &others[0];
    let refused = tries_to_book(busy, &others[1], with(in_hours(31), json!({}))).await;
    assert_eq!(refused.refused(409), "ERROR_REASON_SLOT_TAKEN");
}

async fn a_booking_is_moved_and_cancelled(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let schedule = books(&ann, &bob, in_hours(50)).await;
    bob.is_alerted("SCHEDULE", "SCHEDULE_MADE").await;
    let times = json!({ "startTime": from_now(HOUR * 60), "endTime": from_now(HOUR * 61) });
    let change = json!({ "schedule": times, "updateMask": "startTime,endTime" });
    let refused = bob.patch(&path(&schedule), change.clone()).await;
    assert_eq!(refused.refused(403), "ERROR_REASON_NOT_BOOKER");
    let moved = ann.patch(&path(&schedule), change).await.ok()["schedule"].clone();
    assert!(number(&moved["version"]) > number(&schedule["version"]));
    let alert = bob.is_alerted("SCHEDULE", "SCHEDULE_MOVED").await;
    assert_eq!(alert["subjectId"], schedule["scheduleId"]);
    // The old time is free again, the new one is taken.
    books(&cid, &bob, in_hours(50)).await;
    assert_eq!(tries_to_book(&cid, &bob, in_hours(60)).await.refused(409), "ERROR_REASON_SLOT_TAKEN");

    bob.delete(&path(&schedule)).await.ok();
    ann.is_alerted("SCHEDULE", "SCHEDULE_CANCELLED").await;
    assert_eq!(ann.get(&path(&schedule)).await.ok()["schedule"]["cancelledByUserId"], json!(bob.id));
    books(&cid, &bob, in_hours(60)).await;
    let change = json!({ "schedule": { "title": "again?" }, "updateMask": "title" });
    assert_eq!(ann.patch(&path(&schedule), change).await.refused(409), "ERROR_REASON_SCHEDULE_OVER");

    assert_eq!(cid.delete("/v1/schedules").await.ok()["cancelledCount"], json!(2));
    assert!(listed(&bob, "UPCOMING").await.is_empty());
}

/// From midnight to midnight, every day.
fn always() -> Value {
    let days = ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"];
    let whole = json!([{ "start": "00:00", "end": "24:00" }]);
    days.iter().map(|day| json!({ "weekday": format!("WEEKDAY_{day}"), "ranges": whole })).collect()
}

async fn slots(person: &Person, of: &Person, from: &str, to: &str) -> Vec<Value> {
    let path = format!("/v1/users/{}/free-slots?startTime={from}&endTime={to}", of.id);
    array(&person.get(&path).await.ok()["slots"]).to_vec()
}

async fn only_free_time_is_booked(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let weekly = json!({ "days": always(), "timeZone": "Asia/Kathmandu", "slotLength": "3600s" });
    bob.put("/v1/availability/weekly", json!({ "availability": weekly })).await.ok();
    let (from, to) = (day(3), day(5));
    let free = slots(&ann, &bob, &from, &to).await;
    assert!(free.len() >= 46, "{}", free.len());
    let slot = &free[5];
    let request = with(in_hours(1), json!({ "startTime": slot["startTime"], "endTime": slot["endTime"] }));
    let schedule = books(&ann, &bob, request.clone()).await;
    let left = slots(&ann, &bob, &from, &to).await;
    assert!(!left.contains(slot) && left.len() == free.len() - 1, "{} of {}", left.len(), free.len());
    bob.delete(&path(&schedule)).await.ok();
    assert_eq!(slots(&ann, &bob, &from, &to).await, free);

    // Who has said that it is never free is not booked.
    bob.put("/v1/availability/weekly", json!({ "availability": { "days": [], "timeZone": "UTC" } }))
        .await
        .ok();
    assert!(slots(&ann, &bob, &from, &to).await.is_empty());
    assert_eq!(tries_to_book(&ann, &bob, request).await.refused(409), "ERROR_REASON_SLOT_NOT_FREE");
}

async fn a_day_of_its_own_overrides_the_week(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let weekly = json!({ "days": always(), "timeZone": "UTC", "slotLength": "1800s" });
    bob.put("/v1/availability/weekly", json!({ "availability": weekly })).await.ok();
    let date = day(10)[..10].to_owned();
    let days = json!([{ "date": date, "ranges": [{ "start": "10:00", "end": "11:00" }] }]);
    bob.patch("/v1/availability/custom", json!({ "days": days })).await.ok();
    let of_that_day = async || {
        let all = slots(&ann, &bob, &format!("{date}T00:00:00Z"), &format!("{date}T23:59:59Z")).await;
        all.iter().map(|slot| text(&slot["startTime"])).collect::<Vec<_>>()
    };
    assert_eq!(of_that_day().await, [format!("{date}T10:00:00Z"), format!("{date}T10:30:00Z")]);
    bob.patch("/v1/availability/custom", json!({ "removeDates": [date] })).await.ok();
    assert!(of_that_day().await.len() >= 47);
}

async fn bookings_come_again(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let weekly = json!({ "recurrence": "RECURRENCE_RULE", "rrule": "FREQ=WEEKLY;COUNT=4", "timeZone": "Europe/Lisbon" });
    let schedule = books(&ann, &bob, with(in_hours(100), weekly)).await;
    assert_eq!(schedule["occurrenceCount"], json!(4));
    let second = in_hours(100 + 7 * 24);
    // Summer time may begin or end in between: an hour sooner or later is still within the hours around.
    let around =
        json!({ "startTime": from_now(HOUR * (99 + 7 * 24)), "endTime": from_now(HOUR * (102 + 7 * 24)) });
    assert_eq!(tries_to_book(&cid, &bob, with(second, around)).await.refused(409), "ERROR_REASON_SLOT_TAKEN");
    books(&cid, &bob, in_hours(100 + 5 * 7 * 24)).await;
    ann.delete(&path(&schedule)).await.ok();
    books(&cid, &bob, in_hours(100 + 7 * 24)).await;
}

async fn a_booking_is_between_the_two(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let id = proto::id::EventId::generate().to_string();
    let request = with(in_hours(70), json!({ "requestId": id }));
    let schedule = books(&ann, &bob, request.clone()).await;
    assert_eq!(books(&ann, &bob, request).await["scheduleId"], schedule["scheduleId"], "a retry books once");
    for person in [&ann, &bob] {
        assert_eq!(person.get(&path(&schedule)).await.ok()["schedule"]["title"], json!("How are you?"));
    }
    assert_eq!(cid.get(&path(&schedule)).await.refused(404), "ERROR_REASON_SCHEDULE_NOT_FOUND");
    assert_eq!(cid.delete(&path(&schedule)).await.refused(404), "ERROR_REASON_SCHEDULE_NOT_FOUND");
    // Nor is a stranger booked by whom it does not want to hear from.
    cid.takes_strangers_after_a_request().await;
    assert_eq!(
        tries_to_book(&ann, &cid, in_hours(80)).await.refused(409),
        "ERROR_REASON_CONTACT_NOT_ACCEPTED"
    );
    assert!(listed(&cid, "UPCOMING").await.is_empty());
}

async fn as_much_is_booked_as_the_other_wants(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let limits = json!({ "callPreferences": { "maxCallsPerDay": 1, "maxDuration": "3600s" } });
    bob.patch("/v1/me", json!({ "user": limits, "updateMask": "callPreferences" })).await.ok();
    let date = day(20)[..10].to_owned();
    let at = |from: &str, to: &str| {
        let times =
            json!({ "startTime": format!("{date}T{from}:00Z"), "endTime": format!("{date}T{to}:00Z") });
        with(in_hours(1), times)
    };
    let limit = async |request: Value| {
        let refused = tries_to_book(&ann, &bob, request).await;
        let limit = text(&refused.body["metadata"]["limit"]);
        assert_eq!(refused.refused(409), "ERROR_REASON_CALL_LIMIT");
        limit
    };
    assert_eq!(limit(at("09:00", "10:30")).await, "max_duration");
    books(&ann, &bob, at("09:00", "10:00")).await;
    assert_eq!(limit(at("15:00", "15:30")).await, "max_calls_per_day");
    assert!(!ann.get("/v1/me").await.ok()["user"]["callPreferences"].is_object());
}

async fn what_makes_no_sense_is_refused(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let wrong = [
        (json!({ "endTime": from_now(HOUR) }), "end_time"),
        (json!({ "startTime": "2020-01-01T00:00:00Z", "endTime": "2020-01-01T01:00:00Z" }), "start_time"),
        (json!({ "timeZone": "Mars/Olympus" }), "time_zone"),
        (json!({ "recurrence": "RECURRENCE_RULE", "rrule": "FREQ=SECONDLY" }), "rrule"),
        (json!({ "title": " " }), "title"),
        (json!({ "media": "SCHEDULE_MEDIA_UNSPECIFIED" }), "media"),
    ];
    for (change, field) in wrong {
        let refused = tries_to_book(&ann, &bob, with(in_hours(40), change.clone())).await;
        assert_eq!(refused.body["fields"][0]["field"], json!(field), "{change}: {}", refused.body);
        assert_eq!(refused.refused(400), "ERROR_REASON_INVALID_FIELD");
    }
    assert_eq!(tries_to_book(&ann, &ann, in_hours(40)).await.status, 400, "with oneself");
    assert!(listed(&bob, "UPCOMING").await.is_empty());

    let ranges = |start: &str, end: &str| {
        let days = json!([{ "weekday": "WEEKDAY_MONDAY", "ranges": [{ "start": start, "end": end }] }]);
        json!({ "availability": { "days": days, "timeZone": "UTC" } })
    };
    for (start, end) in [("22:00", "06:00"), ("09:00", "09:00"), ("25:00", "26:00"), ("9", "10")] {
        let refused = bob.put("/v1/availability/weekly", ranges(start, end)).await;
        assert_eq!(refused.clone().refused(400), "ERROR_REASON_INVALID_FIELD", "{start}-{end}");
        assert!(
            text(&refused.body["fields"][0]["field"]).starts_with("availability.days[0].ranges[0]"),
            "{}",
            refused.body
        );
    }
    let unknown = json!({ "availability": { "days": [], "timeZone": "Mars/Olympus" } });
    let refused = bob.put("/v1/availability/weekly", unknown).await;
    assert_eq!(refused.body["fields"][0]["field"], json!("availability.time_zone"), "{}", refused.body);
    let path = format!("/v1/users/{}/free-slots?startTime={}&endTime={}", bob.id, day(1), day(40));
    assert_eq!(ann.get(&path).await.refused(400), "ERROR_REASON_INVALID_FIELD", "more than 31 days");
}

async fn a_booking_goes_into_any_calendar(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let title = "Tea, cake;\nand\\more: BEGIN:VEVENT";
    let refused = tries_to_book(&ann, &bob, with(in_hours(90), json!({ "title": title }))).await;
    let title = if refused.status == 400 { "Tea, cake; and\\more: BEGIN:VEVENT" } else { title };
    let schedule = books(&ann, &bob, with(in_hours(95), json!({ "title": title }))).await;
    let file = bob.get(&format!("{}/calendar-file", path(&schedule))).await.ok();
    let content = text(&file["content"]);
    assert!(text(&file["mediaType"]).starts_with("text/calendar"), "{file}");
    // The same, not in JSON.
    let raw = bob.fetches_signed_in(&format!("{}/calendar.ics", path(&schedule))).await;
    assert_eq!(
        (raw.status, raw.header("content-type")),
        (200, file["mediaType"].as_str().unwrap_or_default())
    );
    assert_eq!(String::from_utf8(raw.bytes).expect("text"), content);
    let stranger = world.person("cid").await;
    assert_eq!(stranger.fetches_signed_in(&format!("{}/calendar.ics", path(&schedule))).await.status, 404);
    assert_eq!(content.matches("\r\nBEGIN:VEVENT\r\n").count(), 1, "{content}");
    assert!(
        content.starts_with("BEGIN:VCALENDAR\r\n") && content.contains("SUMMARY:Tea\\, cake\\;"),
        "{content}"
    );
    assert!(content.lines().all(|line| line.len() <= 75), "{content}");
}
