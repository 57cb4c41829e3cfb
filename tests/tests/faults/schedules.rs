//! Messages that are due while those who send them are killed: each is seen once, and none too early.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;
use serde_json::json;
use tests::figure::{Figures, Target};
use tests::history::quantile;
use tests::person::{array, number, text};

use crate::{Separate, assert_no_panics, is_long, pass};

/// Everything is due within this time, after [`LEAD`].
const WINDOW: Duration = Duration::from_secs(10);

/// From the first request to the first message that is due.
const LEAD: Duration = Duration::from_secs(3);

/// What a process that is killed was sending is sent by another after this long; until then its conversation waits, so
/// that nothing overtakes. The shortest that can be set.
pub const LEASE: (&str, &str) = ("scheduling.lease", "10s");

/// How long it may take from the last due time until all have been sent.
const PATIENCE: Duration = Duration::from_secs(25);

/// How many conversations they go to.
const CONVERSATIONS: u32 = 5;

pub async fn scheduled_messages_are_sent_once() {
    let mut figures = Figures::of("scheduled_messages_are_sent_once");
    let mut separate = Separate::start_with(&[LEASE]).await;
    let (ann, bob) = (separate.world.person("ann").await, separate.world.person("bob").await);
    let mut conversations = Vec::new();
    for _ in 0..CONVERSATIONS {
        conversations.push(ann.starts_group_with(&[&bob]).await);
    }
    let count: u32 = if is_long() { 500 } else { 50 };
    let (began, first) = (Instant::now(), whole_milliseconds(since_1970() + LEAD));
    let mut due = BTreeMap::new();
    for n in 0..count {
        let at = first + WINDOW * n / count;
        let (words, time) = (format!("number {n}"), timestamp(at).to_string());
        let conversation = &conversations[(n % CONVERSATIONS) as usize];
        let path = format!("/v1/conversations/{conversation}/scheduled-messages");
        ann.post(&path, json!({ "content": { "text": words }, "sendTime": time })).await.ok();
        due.insert(words, at);
    }

    // Each goes once while there is work for it.
    for (victim, at) in
        [("scheduling", 4), ("messaging-1", 6), ("scheduling", 8), ("messaging-2", 10), ("nats", 11)]
    {
        pass(Duration::from_secs(at).saturating_sub(began.elapsed())).await;
        separate.kill(victim);
        pass(Duration::from_millis(500)).await;
        separate.start_again(victim).await;
    }

    let pending = "/v1/scheduled-messages?state=SCHEDULED_MESSAGE_STATE_PENDING";
    loop {
        let page = ann.try_get(pending).await;
        let is_done =
            page.is_ok_and(|page| page.status == 200 && array(&page.body["scheduledMessages"]).is_empty());
        if is_done || began.elapsed() > LEAD + WINDOW + PATIENCE {
            break;
        }
        pass(Duration::from_millis(100)).await;
    }
    // A second message of the same would be seen soon after the first.
    pass(Duration::from_secs(2)).await;

    let mut seen: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for conversation in &conversations {
        let mut after = 0;
        loop {
            let path = format!("/v1/conversations/{conversation}/events?afterSequence={after}&limit=100");
            let page = bob.get(&path).await.ok();
            let events = array(&page["events"]);
            let Some(last) = events.last() else { break };
            after = number(&last["sequence"]);
            for message in events.iter().filter_map(|event| event.get("messageCreated")) {
                let time: Timestamp = text(&message["createTime"]).parse().expect("a time");
                let at = Duration::new(time.seconds as u64, time.nanos as u32);
                seen.entry(text(&message["content"]["text"])).or_default().push(at);
            }
        }
    }
    let of = |words: &String| seen.get(words).map_or(&[][..], Vec::as_slice);
    let zero = due.keys().filter(|words| of(words).is_empty()).count();
    let twice = due.keys().filter(|words| of(words).len() > 1).count();
    let early = due.iter().filter(|(words, at)| of(words).iter().any(|sent| sent < at)).count();
    figures.print("fired_zero", zero as f64, "messages", Target::Is(0.0));
    figures.print("fired_twice", twice as f64, "messages", Target::Is(0.0));
    figures.print("fired_early", early as f64, "messages", Target::Is(0.0));
    figures.print(
        "foreign",
        seen.keys().filter(|words| !due.contains_key(*words)).count() as f64,
        "messages",
        Target::Is(0.0),
    );
    if zero > 0 {
        let page = ann.get("/v1/scheduled-messages?pageSize=100").await.ok();
        for one in array(&page["scheduledMessages"]) {
            let (state, reason) = (&one["state"], &one["failureReason"]);
            eprintln!("{} is {state} {reason}: {}", one["content"]["text"], one["updateTime"]);
        }
    }
    let mut late: Vec<Duration> =
        due.iter().filter_map(|(words, at)| Some(of(words).first()?.saturating_sub(*at))).collect();
    late.sort_unstable();
    for (name, share) in [("late_p50", 0.5), ("late_p99", 0.99), ("late_max", 1.0)] {
        figures.print(name, quantile(&late, share).as_secs_f64(), "s", Target::Informs);
    }
    assert_no_panics(&separate.world);
    figures.conclude();
}

/// The wall's time.
#[expect(clippy::disallowed_methods, reason = "what is due is due by the wall's time")]
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// To the millisecond, as databases keep it.
fn whole_milliseconds(span: Duration) -> Duration {
    Duration::from_millis(span.as_millis() as u64)
}

/// The same as proto has it.
pub fn timestamp(at: Duration) -> Timestamp {
    Timestamp { seconds: at.as_secs() as i64, nanos: at.subsec_nanos() as i32 }
}
