//! What there is between somebody and another person: requests, reviews, bookings, calls. Of each there is one at a time,
//! so the other is always somebody new.

use std::time::Duration;

use serde_json::{Value, json};
use tests::person::text;
use tests::waiting::{from_now, until};
use tests::{Person, World};

/// Something of this name that is the owner's own: the id of the other person, or of the thing. `None` for an owner who
/// cannot have it, a guest.
pub async fn own(world: &World, name: &str, owner: &Person) -> Option<String> {
    let other = world.person("other").await;
    match name {
        "asked" => asks(owner, &other).await.then(|| other.id.clone()),
        "asking" => asks(&other, owner).await.then(|| other.id.clone()),
        "written" => writes(owner, &other).await.then(|| other.id.clone()),
        "writing" => writes(&other, owner).await.then(|| other.id.clone()),
        "reviewed" => {
            let other = acquaintance(world, owner).await?;
            let review = json!({ "rating": 3, "text": "so so" });
            owner.put(&format!("/v1/users/{other}/review"), review).await.ok();
            Some(other)
        }
        "schedule" => {
            let hours = |count: u64| from_now(Duration::from_secs(3600 * count));
            let booking = json!({
                "title": "a talk", "media": "SCHEDULE_MEDIA_AUDIO", "startTime": hours(50), "endTime": hours(51),
            });
            let booked = owner.post(&format!("/v1/users/{}/schedules", other.id), booking).await;
            (booked.status == 200).then(|| text(&booked.body["schedule"]["scheduleId"]))
        }
        "call" => rings(&other, owner).await.map(|call| text(&call["callId"])),
        "accepted_call" => {
            let call = rings(&other, owner).await?;
            owner.does_with_call(&call, "accept").await;
            Some(text(&call["callId"]))
        }
        _ => None,
    }
}

/// Somebody whom the owner may review.
pub async fn acquaintance(world: &World, owner: &Person) -> Option<String> {
    let other = world.person("other").await;
    if !asks(owner, &other).await {
        return None;
    }
    other.post(&format!("/v1/users/{}/connection/accept", owner.id), json!({})).await.ok();
    let back = format!("/v1/users/{}/review", owner.id);
    until("the two to know each other", || async {
        (other.put(&back, json!({ "rating": 4 })).await.status == 200).then_some(())
    })
    .await;
    Some(other.id)
}

async fn asks(one: &Person, other: &Person) -> bool {
    one.post(&format!("/v1/users/{}/connection", other.id), json!({})).await.status == 200
}

async fn writes(one: &Person, other: &Person) -> bool {
    let privacy = json!({ "firstContact": "FIRST_CONTACT_AFTER_REQUEST" });
    let careful =
        other.patch("/v1/me/privacy", json!({ "privacy": privacy, "updateMask": "firstContact" })).await;
    let message = json!({ "userId": other.id, "content": { "text": "may I?" } });
    careful.status == 200 && one.post("/v1/messages", message).await.status == 200
}

async fn rings(one: &Person, other: &Person) -> Option<Value> {
    let answer = one.tries_to_call(other).await;
    (answer.status == 200).then(|| answer.body["call"].clone())
}
