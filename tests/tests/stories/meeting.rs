//! Two strangers meet: from the first word to what they think of each other, each step seen live, and after an absence.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tests::person::{array, number, text};
use tests::socket::{Connection, Place};
use tests::waiting::{from_now, until};
use tests::{Person, World};

tests::stories![two_strangers_meet_live, two_strangers_meet_who_are_hardly_ever_there];

/// How the two look: at a screen that is always there, or now and then.
enum Eyes {
    Open(Vec<Connection>),
    Closed(Vec<Place>),
}

impl Eyes {
    /// Waits until one of the two (0 for Ann, 1 for Bob) sees an alert of this kind that has come to this state. Who is
    /// hardly ever there comes back for this one thing, takes up where it was, and goes away again.
    async fn see(&mut self, who: usize, person: &Person, kind: &str, state: &str) {
        match self {
            Self::Open(screens) => find(&mut screens[who], kind, state).await,
            Self::Closed(places) => {
                let mut screen = person.connects().await;
                screen.resumes(places[who].clone()).await;
                find(&mut screen, kind, state).await;
                places[who] = screen.disconnects().await;
            }
        }
    }
}

/// Passes over alerts of other kinds: one that gets its message changes a second time.
async fn find(screen: &mut Connection, kind: &str, state: &str) {
    let kind = json!(format!("ALERT_KIND_{kind}"));
    while screen.expects_alert(state).await["kind"] != kind {}
}

/// What happens at each step of the story: Ann and Bob take turns.
async fn meets(ann: &Person, bob: &Person, mut eyes: Eyes) {
    bob.takes_strangers_after_a_request().await;
    let hello = json!({ "userId": bob.id, "content": { "text": "may I ask you something?" } });
    let asked = ann.post("/v1/messages", hello).await.ok()["message"].clone();
    let conversation = text(&asked["conversationId"]);
    eyes.see(1, bob, "MESSAGE_REQUEST", "REQUEST_PENDING").await;
    bob.post(&format!("/v1/users/{}/message-request/accept", ann.id), json!({})).await.ok();
    eyes.see(0, ann, "MESSAGE_REQUEST", "REQUEST_ACCEPTED").await;
    bob.says(&conversation, "of course").await;

    ann.post(&format!("/v1/users/{}/connection", bob.id), json!({})).await.ok();
    eyes.see(1, bob, "CONNECTION_REQUEST", "REQUEST_PENDING").await;
    bob.post(&format!("/v1/users/{}/connection/accept", ann.id), json!({})).await.ok();
    eyes.see(0, ann, "CONNECTION_REQUEST", "REQUEST_ACCEPTED").await;

    let booking = json!({
        "title": "a first talk", "media": "SCHEDULE_MEDIA_AUDIO", "reminders": ["0s"],
        "startTime": from_now(Duration::from_secs(4)), "endTime": from_now(Duration::from_secs(1800)),
    });
    bob.post(&format!("/v1/users/{}/schedules", ann.id), booking).await.ok();
    eyes.see(0, ann, "SCHEDULE", "SCHEDULE_MADE").await;
    eyes.see(0, ann, "SCHEDULE", "SCHEDULE_DUE").await;
    eyes.see(1, bob, "SCHEDULE", "SCHEDULE_DUE").await;

    let call = ann.calls(bob).await;
    bob.does_with_call(&call, "accept").await;
    for person in [ann, bob] {
        person.does_with_call(&call, "connected").await;
    }
    bob.does_with_call(&call, "end").await;
    let review = async |one: &Person, other: &Person, rating: i32| {
        let words = json!({ "rating": rating, "text": "a good talk" });
        one.put(&format!("/v1/users/{}/review", other.id), words).await
    };
    until("the two to know each other", || async { (review(ann, bob, 5).await.status == 200).then_some(()) })
        .await;
    eyes.see(1, bob, "REVIEW", "REVIEW_WRITTEN").await;
    review(bob, ann, 4).await.ok();
    eyes.see(0, ann, "REVIEW", "REVIEW_WRITTEN").await;

    // Both have the same story of it.
    let said = async |who: &Person| {
        let page = who.get(&format!("/v1/conversations/{conversation}/messages?pageSize=100")).await.ok();
        let kinds = |message: &Value| {
            let content = message["content"].as_object().expect("a content");
            content.keys().find(|key| ["text", "schedule", "call"].contains(&key.as_str())).cloned()
        };
        array(&page["messages"]).iter().rev().filter_map(kinds).collect::<Vec<_>>()
    };
    until("the call to stand in the conversation", || async { (said(ann).await.len() == 4).then_some(()) })
        .await;
    assert_eq!(said(ann).await, ["text", "text", "schedule", "call"]);
    assert_eq!(said(ann).await, said(bob).await);
    let rating = async |who: &Person| number(&who.get("/v1/me").await.ok()["user"]["rating"]["sum"]);
    assert_eq!((rating(ann).await, rating(bob).await), (4, 5));
}

async fn two_strangers_meet_live(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let screens = vec![ann.comes_online().await, bob.comes_online().await];
    meets(&ann, &bob, Eyes::Open(screens)).await;
}

async fn two_strangers_meet_who_are_hardly_ever_there(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    // They have been here before: an empty log has no place to come back to.
    cid.starts_group_with(&[&ann, &bob]).await;
    for person in [&ann, &bob] {
        until("the group to be theirs", || async {
            let events = person.get("/v1/me/events?afterSequence=0").await.ok();
            (!array(&events["events"]).is_empty()).then_some(())
        })
        .await;
    }
    let places =
        vec![ann.comes_online().await.disconnects().await, bob.comes_online().await.disconnects().await];
    meets(&ann, &bob, Eyes::Closed(places)).await;
}
