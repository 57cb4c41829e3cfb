//! Bookings that are made while services die: each is there for both with its message and its alert, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::figure::{Figures, Target};
use tests::http::Answer;
use tests::person::text;
use tests::{Person, Shape, waiting};
use tokio::time::timeout;

use crate::fragile::{Fragile, alert_changes, insists, is_definite, lists, messages, time};
use crate::schedules::{LEASE, since_1970, timestamp};
use crate::{assert_no_panics, is_long, pass};

/// What is killed, in turn.
const VICTIMS: [&str; 4] = ["messaging", "scheduling", "messaging", "conversation"];

/// How many people book the same one.
const BOOKERS: usize = 4;

/// From one booking of a person to the next.
const PACE: Duration = Duration::from_millis(120);

/// How long an answer may take. What takes longer has an unknown outcome.
const PATIENCE: Duration = Duration::from_secs(6);

const HOUR: Duration = Duration::from_secs(3600);

/// Something that somebody wanted to book, and what came of it.
struct Wish {
    request: Value,
    /// The booking; `None` when the outcome is unknown.
    booked: Option<String>,
}

/// Books one time after the other, each its own, until it is told to stop.
async fn books(booker: &Person, bob: &Person, first: Duration, stopped: &AtomicBool) -> Vec<Wish> {
    let mut wishes: Vec<Wish> = Vec::new();
    while !stopped.load(Ordering::Relaxed) {
        let number = wishes.len() as u32;
        let request = wish(first + HOUR * number);
        let answer = if number.is_multiple_of(2) {
            Some(insists("a booking", || tries(booker, bob, &request)).await)
        } else {
            tries(booker, bob, &request).await.ok().filter(is_definite)
        };
        // No other booking is in the way, and nobody minds: when it is settled, it is booked.
        let booked = answer.map(|answer| text(&answer.ok()["schedule"]["scheduleId"]));
        wishes.push(Wish { request, booked });
        pass(PACE).await;
    }
    wishes
}

fn wish(start: Duration) -> Value {
    json!({
        "title": "How are you?", "media": "SCHEDULE_MEDIA_VIDEO",
        "startTime": timestamp(start).to_string(), "endTime": timestamp(start + HOUR / 6).to_string(),
        "requestId": proto::id::EventId::generate().to_string(),
    })
}

async fn tries(booker: &Person, bob: &Person, request: &Value) -> anyhow::Result<Answer> {
    let path = format!("/v1/users/{}/schedules", bob.id);
    timeout(PATIENCE, booker.try_post(&path, request.clone())).await?
}

/// What one of the bookers and the one who is booked see of their bookings, by id: the booking, its message, the alert
/// about it, and each time that the alert was told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Traces {
    starts: BTreeMap<String, Duration>,
    told: Vec<String>,
    alerts: Vec<String>,
    changes: Vec<String>,
}

async fn traces(booker: &Person, bob: &Person, conversation: &str) -> Traces {
    let mut traces = Traces::default();
    for schedule in lists(booker, "/v1/schedules", "schedules").await {
        traces.starts.insert(text(&schedule["scheduleId"]), time(&schedule["startTime"]));
    }
    let said = messages(bob, conversation).await;
    traces.told.extend(said.iter().map(|message| text(&message["content"]["schedule"]["scheduleId"])));
    let is_of_booker = |alert: &&Value| alert["actorUserId"] == json!(booker.id);
    let alerts = lists(bob, "/v1/alerts", "alerts").await;
    traces.alerts.extend(alerts.iter().filter(is_of_booker).map(|alert| text(&alert["subjectId"])));
    let changes = alert_changes(bob).await;
    traces.changes.extend(changes.iter().filter(is_of_booker).map(|alert| text(&alert["subjectId"])));
    for list in [&mut traces.told, &mut traces.alerts, &mut traces.changes] {
        list.sort_unstable();
    }
    traces
}

impl Traces {
    /// Whether each booking has one message and one alert, which was told once, and nothing else has.
    fn agree(&self) -> bool {
        let ids: Vec<&String> = self.starts.keys().collect();
        [&self.told, &self.alerts, &self.changes].iter().all(|list| list.iter().collect::<Vec<_>>() == ids)
    }
}

pub async fn a_booking_is_whole_or_not_at_all(shape: Shape) {
    let mut figures = Figures::of(&format!("a_booking_is_whole_or_not_at_all_{}", shape.name()));
    let mut fragile = Fragile::start(shape, &[LEASE]).await;
    let bob = fragile.world.person("bob").await;
    let mut bookers = Vec::new();
    for number in 0..BOOKERS {
        bookers.push(fragile.world.person(&format!("booker-{number}")).await);
    }
    let stopped = AtomicBool::new(false);
    // Every hour has a sixth for each of them.
    let first = Duration::from_secs(since_1970().as_secs()) + HOUR * 24;
    let all = bookers.iter().enumerate().map(|(number, booker)| {
        books(booker, &bob, first + Duration::from_secs(600) * number as u32, &stopped)
    });
    let killing = async {
        for _ in 0..if is_long() { 5 } else { 1 } {
            for victim in VICTIMS {
                pass(Duration::from_millis(700)).await;
                fragile.kill(victim);
                pass(Duration::from_millis(200)).await;
                fragile.start_again(victim).await;
            }
        }
        pass(Duration::from_millis(300)).await;
        stopped.store(true, Ordering::Relaxed);
    };
    let (wishes, ()) = tokio::join!(join_all(all), killing);

    let (mut acknowledged, mut unknown, mut unknown_done) = (0, 0, 0);
    for (booker, wishes) in bookers.iter().zip(&wishes) {
        let conversation = booker.starts_direct_with(&bob).await;
        agreed(booker, &bob, &conversation).await;
        // A second message or alert of the same would be seen soon after the first.
        pass(Duration::from_millis(300)).await;
        let traces = traces(booker, &bob, &conversation).await;
        assert!(traces.agree(), "{} {traces:#?}", booker.name);
        let starts: BTreeSet<Duration> = traces.starts.values().copied().collect();
        for wish in wishes {
            let start = time(&wish.request["startTime"]);
            match &wish.booked {
                Some(id) => assert_eq!(traces.starts.get(id), Some(&start), "{} lost {id}", booker.name),
                None => unknown_done += usize::from(starts.contains(&start)),
            }
            acknowledged += usize::from(wish.booked.is_some());
            unknown += usize::from(wish.booked.is_none());
        }
        let wished: BTreeSet<Duration> = wishes.iter().map(|wish| time(&wish.request["startTime"])).collect();
        assert!(starts.is_subset(&wished) && starts.len() == traces.starts.len(), "{traces:#?}");
    }
    // When what is listed is gone, every time is free again.
    let again = bookers.iter().zip(&wishes).map(|(booker, wishes)| book_again(booker, &bob, wishes));
    let blocked: usize = join_all(again).await.into_iter().sum();
    figures.print("acked", acknowledged as f64, "bookings", Target::AtLeast(1.0));
    figures.print("unknown", unknown as f64, "bookings", Target::Informs);
    figures.print("unknown_done", unknown_done as f64, "bookings", Target::Informs);
    figures.print("blocked_without_booking", blocked as f64, "times", Target::Is(0.0));
    assert_no_panics(&fragile.world);
    figures.conclude();
}

/// Waits until all that has been booked has been told, as long as that may take.
async fn agreed(booker: &Person, bob: &Person, conversation: &str) {
    let began = Instant::now();
    while !traces(booker, bob, conversation).await.agree() && began.elapsed() < waiting::PATIENCE {
        pass(Duration::from_millis(50)).await;
    }
}

/// Cancels everything, and books all of it again; says how often that was refused.
async fn book_again(booker: &Person, bob: &Person, wishes: &[Wish]) -> usize {
    insists("all to be cancelled", || booker.try_delete("/v1/schedules")).await.ok();
    let mut refused = 0;
    for wish in wishes {
        let mut request = wish.request.clone();
        request["requestId"] = json!(proto::id::EventId::generate().to_string());
        let answer = tries(booker, bob, &request).await.expect("an answer");
        if answer.status != 200 {
            eprintln!("{} is refused: {}", request["startTime"], answer.body);
            refused += 1;
        }
    }
    refused
}
