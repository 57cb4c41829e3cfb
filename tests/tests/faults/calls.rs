//! Calls whose service dies while they ring, while they last, and when they are over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tests::person::{array, number, text};
use tests::waiting::until;
use tests::{Person, Shape};

use crate::fragile::{Fragile, insists, lists, messages, sees, time};
use crate::schedules::{LEASE, since_1970};
use crate::{assert_no_panics, pass};

fn path(call: &Value) -> String {
    format!("/v1/calls/{}", text(&call["callId"]))
}

async fn seen(person: &Person, call: &Value) -> Value {
    sees(person, &path(call)).await["call"].clone()
}

/// Does something with a call, as often as it takes.
async fn does(person: &Person, call: &Value, what: &str) -> Value {
    let path = format!("{}/{what}", path(call));
    insists(what, || person.try_post(&path, json!({}))).await.ok()["call"].clone()
}

/// How long a call was, in seconds.
fn seconds(duration: &Value) -> f64 {
    text(duration).trim_end_matches('s').parse().expect("a duration")
}

/// What the conversation says of a call, in the words of one of the two.
async fn said_about(person: &Person, conversation: &str, call: &Value) -> Vec<Value> {
    let mut said = messages(person, conversation).await;
    said.retain(|message| message["content"]["call"]["callId"] == call["callId"]);
    said.into_iter().map(|message| json!([message["messageId"], message["content"]["call"]])).collect()
}

/// What stands in the conversation once a call is over, for both, and once.
async fn is_told_once(people: [&Person; 2], conversation: &str, call: &Value) -> Value {
    until("the call to stand in the conversation", || async {
        (!said_about(people[0], conversation, call).await.is_empty()).then_some(())
    })
    .await;
    // A second message of the same would be seen soon after the first.
    pass(Duration::from_secs(1)).await;
    let said = said_about(people[0], conversation, call).await;
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said_about(people[1], conversation, call).await, said);
    said[0][1].clone()
}

/// Who has talked may say what it thinks of the other.
async fn know_each_other(people: [&Person; 2]) {
    for (one, other) in [(people[0], people[1]), (people[1], people[0])] {
        until("the two to know each other", || async {
            let words = json!({ "rating": 5, "text": "a good talk" });
            let answer = one.put(&format!("/v1/users/{}/review", other.id), words).await;
            (answer.status == 200).then_some(())
        })
        .await;
    }
}

pub async fn a_call_outlives_its_service(shape: Shape) {
    let mut fragile = Fragile::start(shape, &[LEASE]).await;
    let [ann, bob] = fragile.world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let call = ann.calls(&bob).await;

    fragile.restart("scheduling").await;
    for person in [&ann, &bob] {
        let now = seen(person, &call).await;
        for field in ["state", "version", "ringExpireTime"] {
            assert_eq!(now[field], call[field], "{}: {field}", person.name);
        }
        let active = sees(person, "/v1/calls?active=true").await;
        assert_eq!(array(&active["calls"])[0]["callId"], call["callId"], "{active}");
    }
    assert_eq!(does(&bob, &call, "accept").await["state"], json!("CALL_STATE_ACCEPTED"));
    for person in [&ann, &bob] {
        does(person, &call, "connected").await;
    }

    fragile.restart("scheduling").await;
    let ended = does(&ann, &call, "end").await;
    // What follows from the end may be done, begun, or not begun.
    fragile.restart("scheduling").await;
    assert_eq!(ended["state"], json!("CALL_STATE_ENDED"));
    assert!(seconds(&ended["duration"]) >= 0.0, "{ended}");
    assert!(time(&ended["endTime"]) >= time(&ended["connectTime"]), "{ended}");
    for person in [&ann, &bob] {
        let now = seen(person, &call).await;
        for field in ["state", "version", "duration", "endTime", "endedByUserId"] {
            assert_eq!(now[field], ended[field], "{}: {field}", person.name);
        }
        assert!(array(&sees(person, "/v1/calls?active=true").await["calls"]).is_empty());
    }
    let said = is_told_once([&ann, &bob], &conversation, &call).await;
    assert_eq!((&said["outcome"], &said["duration"]), (&json!("CALL_OUTCOME_ENDED"), &ended["duration"]));
    know_each_other([&ann, &bob]).await;
    assert_eq!(bob.calls(&ann).await["state"], json!("CALL_STATE_RINGING"), "neither is busy any more");
    assert_no_panics(&fragile.world);
}

/// Looks at a call again and again until it is told to stop; gives what it saw, and when it asked.
async fn watches(person: &Person, call: &Value, stopped: &AtomicBool) -> Vec<(Duration, Value)> {
    let (one, active) = (path(call), "/v1/calls?active=true");
    let mut views = Vec::new();
    while !stopped.load(Ordering::Relaxed) {
        for path in [one.as_str(), active] {
            let asked = since_1970();
            let Ok(answer) = person.try_get(path).await else { continue };
            if answer.status == 200 {
                let found = if path == active { &answer.body["calls"][0] } else { &answer.body["call"] };
                views.push((asked, found.clone()));
            }
        }
        pass(Duration::from_millis(10)).await;
    }
    views
}

/// Nobody is shown a call as ringing whose time is over, and nobody is taken back to what was before.
fn assert_honest(person: &Person, views: &[(Duration, Value)], deadline: Duration) {
    let mut version = 0;
    for (asked, view) in views.iter().filter(|(_, view)| view.is_object()) {
        let rings = view["state"] == json!("CALL_STATE_RINGING");
        assert!(!rings || *asked < deadline, "{} asked at {asked:?} and saw {view}", person.name);
        assert!(number(&view["version"]) >= version, "{} went back to {view}", person.name);
        version = number(&view["version"]);
    }
    assert!(views.iter().any(|(asked, _)| *asked >= deadline), "{} did not look in time", person.name);
}

pub async fn a_call_that_is_over_by_its_time_is_missed(shape: Shape) {
    let mut fragile = Fragile::start(shape, &[LEASE, ("scheduling.calls.ring_timeout", "3s")]).await;
    for is_away in [false, true] {
        let [ann, bob] = fragile.world.people(["ann", "bob"]).await;
        let conversation = ann.starts_direct_with(&bob).await;
        let call = ann.calls(&bob).await;
        let deadline = time(&call["ringExpireTime"]);
        let stopped = AtomicBool::new(false);
        let story = async {
            fragile.kill("scheduling");
            if is_away {
                // Its time passes while nobody is there.
                pass(deadline.saturating_sub(since_1970()) + Duration::from_millis(500)).await;
            }
            fragile.start_again("scheduling").await;
            for person in [&ann, &bob] {
                until("the call to be missed", || async {
                    (seen(person, &call).await["state"] == json!("CALL_STATE_MISSED")).then_some(())
                })
                .await;
            }
            let said = is_told_once([&ann, &bob], &conversation, &call).await;
            stopped.store(true, Ordering::Relaxed);
            said
        };
        let (at_ann, at_bob, said) =
            tokio::join!(watches(&ann, &call, &stopped), watches(&bob, &call, &stopped), story);
        assert_eq!(said["outcome"], json!("CALL_OUTCOME_MISSED"));
        for (person, views) in [(&ann, at_ann), (&bob, at_bob)] {
            assert_honest(person, &views, deadline);
            let now = seen(person, &call).await;
            assert_eq!(now["state"], json!("CALL_STATE_MISSED"));
            assert_eq!(time(&now["endTime"]), deadline, "it was over when its time was");
        }
        let missed = lists(&bob, "/v1/calls?missed=true", "calls").await;
        assert_eq!(missed.len(), 1, "{missed:?}");
        assert_eq!(bob.tries_with_call(&call, "accept").await.refused(409), "ERROR_REASON_CALL_OVER");
        assert_eq!(bob.calls(&ann).await["state"], json!("CALL_STATE_RINGING"), "neither is busy any more");
    }
    assert_no_panics(&fragile.world);
}

pub async fn who_has_talked_is_known_once_auth_is_back() {
    let settings = [LEASE, ("scheduling.calls.connect_timeout", "4s")];
    let mut fragile = Fragile::start(Shape::Separate, &settings).await;
    let [ann, bob] = fragile.world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let call = ann.calls(&bob).await;
    bob.does_with_call(&call, "accept").await;
    for person in [&ann, &bob] {
        person.does_with_call(&call, "connected").await;
    }
    // Bob is lost and does not come back: with auth away, time alone ends the call.
    bob.does_with_call(&call, "disconnected").await;
    fragile.kill("auth");
    let database = fragile.database.clone().expect("a database");
    until("auth to be asked in vain", || async {
        let mut connection = PgConnection::connect(&database).await.expect("a database");
        let tries = "SELECT COALESCE(MAX(attempt), 0) FROM parlor_scheduling.timers WHERE kind = 5";
        let tries: i64 = sqlx::query_scalar(tries).fetch_one(&mut connection).await.expect("tries");
        (tries >= 2).then_some(())
    })
    .await;
    fragile.start_again("auth").await;
    know_each_other([&ann, &bob]).await;
    let ended = seen(&ann, &call).await;
    assert_eq!(ended["state"], json!("CALL_STATE_ENDED"));
    assert!(seconds(&ended["duration"]) >= 0.0, "{ended}");
    let said = is_told_once([&ann, &bob], &conversation, &call).await;
    assert_eq!((&said["outcome"], &said["duration"]), (&json!("CALL_OUTCOME_ENDED"), &ended["duration"]));
    assert_no_panics(&fragile.world);
}
