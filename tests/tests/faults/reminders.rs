//! Reminders that are due while those who send them are killed: both people get each of them once, and none too early.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::figure::{Figures, Target};
use tests::history::quantile;
use tests::person::text;
use tests::{Person, Shape};

use crate::fragile::{Fragile, alert_changes, time};
use crate::schedules::{LEASE, since_1970, timestamp};
use crate::{assert_no_panics, is_long, pass};

/// All are due within so many seconds: calls begin with a second, and so do their reminders.
const WINDOW: u32 = 2;

/// When those who send them are killed, since the first was due: at the beginning of each second there is most to do.
const KILLS: [Duration; WINDOW as usize] = [Duration::from_millis(120), Duration::from_millis(1120)];

/// How long it may take from the last start until all have been seen: what a dead process had claimed waits for its lease.
const PATIENCE: Duration = Duration::from_secs(20);

/// After this nobody does again what a dead process was doing: the lease, and a moment.
const QUIET: Duration = Duration::from_secs(12);

/// When each booking is to be reminded of, by its id.
type Due = BTreeMap<String, Duration>;

/// Books calls one after the other in time, so that all their reminders are due together, the first at `first`.
async fn books(ann: &Person, bob: &Person, first: Duration, count: u32) -> Due {
    let path = &format!("/v1/users/{}/schedules", bob.id);
    let book = |n: u32| async move {
        let at = first + Duration::from_secs(u64::from(WINDOW * n / count));
        let before = Duration::from_secs(u64::from(3600 + n * 600));
        let (start, end) = (at + before, at + before + Duration::from_secs(300));
        let request = json!({
            "title": "How are you?", "media": "SCHEDULE_MEDIA_AUDIO",
            "startTime": timestamp(start).to_string(), "endTime": timestamp(end).to_string(),
            "reminders": [format!("{}s", before.as_secs())],
        });
        let schedule = ann.post(path, request).await.ok()["schedule"].clone();
        assert_eq!(time(&schedule["startTime"]), start);
        (text(&schedule["scheduleId"]), at)
    };
    let mut due = Due::new();
    let numbers: Vec<u32> = (0..count).collect();
    for some in numbers.chunks(4) {
        due.extend(join_all(some.iter().map(|n| book(*n))).await);
    }
    due
}

/// Books with the first reminder so far ahead that all is booked by then.
async fn books_in_time(ann: &Person, bob: &Person, count: u32) -> (Duration, Due) {
    let mut lead = Duration::from_secs(6);
    loop {
        let first = Duration::from_secs((since_1970() + lead).as_secs());
        let due = books(ann, bob, first, count).await;
        if since_1970() < first {
            return (first, due);
        }
        // This machine is slow at the moment.
        ann.delete("/v1/schedules").await.ok();
        lead *= 2;
    }
}

/// When somebody was reminded of each booking.
async fn reminded(person: &Person) -> BTreeMap<String, Vec<Duration>> {
    let mut seen: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    let is_due = |change: &&Value| change["state"] == json!("ALERT_STATE_SCHEDULE_DUE");
    for change in alert_changes(person).await.iter().filter(is_due) {
        seen.entry(text(&change["subjectId"])).or_default().push(time(&change["updateTime"]));
    }
    seen
}

pub async fn both_are_reminded_once(shape: Shape) {
    let mut figures = Figures::of(&format!("both_are_reminded_once_{}", shape.name()));
    let mut fragile = Fragile::start(shape, &[LEASE]).await;
    let [ann, bob] = fragile.world.people(["ann", "bob"]).await;
    let count = if is_long() { 190 } else { 40 };
    let (first, due) = books_in_time(&ann, &bob, count).await;

    let mut last_kill = Duration::ZERO;
    for at in KILLS {
        pass((first + at).saturating_sub(since_1970())).await;
        fragile.kill("scheduling");
        last_kill = since_1970();
        pass(Duration::from_millis(200)).await;
        fragile.start_again("scheduling").await;
    }
    let back = since_1970();
    let people = [&ann, &bob];
    loop {
        let seen = [reminded(people[0]).await, reminded(people[1]).await];
        let is_done = seen.iter().all(|seen| due.keys().all(|id| seen.contains_key(id)));
        if is_done || since_1970() > back + PATIENCE {
            break;
        }
        pass(Duration::from_millis(100)).await;
    }
    pass((last_kill + QUIET).saturating_sub(since_1970())).await;

    let (mut zero, mut twice, mut early, mut late) = (0, 0, 0, Vec::new());
    for person in people {
        let seen = reminded(person).await;
        for (id, at) in &due {
            let times = seen.get(id).map_or(&[][..], Vec::as_slice);
            zero += usize::from(times.is_empty());
            twice += usize::from(times.len() > 1);
            early += usize::from(times.iter().any(|time| time < at));
            late.extend(times.first().map(|time| time.saturating_sub(*at)));
        }
    }
    late.sort_unstable();
    figures.print("reminded_zero", zero as f64, "people", Target::Is(0.0));
    figures.print("reminded_twice", twice as f64, "people", Target::Is(0.0));
    figures.print("reminded_early", early as f64, "people", Target::Is(0.0));
    for (name, share) in [("late_p50", 0.5), ("late_max", 1.0)] {
        figures.print(name, quantile(&late, share).as_secs_f64(), "s", Target::Informs);
    }
    assert_no_panics(&fragile.world);
    figures.conclude();
}
