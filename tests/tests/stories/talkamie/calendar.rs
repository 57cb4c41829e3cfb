//! Availability and booked calls.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tests::World;
use tests::person::{array, text};
use tests::waiting::{from_now, until};

use super::client::{Client, data, refused};

tests::stories![a_week_is_set_and_kept, a_call_is_booked_moved_and_cancelled, bookings_are_cleared];

/// A time so many hours after one that is two days ahead.
fn at(hour: u64) -> String {
    from_now(Duration::from_secs((48 + hour) * 3_600))
}

async fn a_week_is_set_and_kept(world: Arc<World>) {
    let ann = Client::sign_up(&world, "Ann Archer", "senior").await;
    assert_eq!(data(ann.get("/availability/weekly?year=2026&monthIndex=4&monthDay=1").await), json!({}));
    let week =
        json!({"mon": [{"start": "09:00:00", "end": "12:00"}], "thur": [{"start": "13:00", "end": "24:00"}]});
    let set = data(ann.post("/availability/weekly", week).await);
    assert_eq!(set["mon"], json!([{"start": "09:00", "end": "12:00"}]));
    assert_eq!((&set["thur"][0]["end"], &set["sun"]), (&json!("24:00"), &json!([])));
    assert_eq!(data(ann.get("/availability/weekly").await), set);
    let date = at(0)[..10].to_owned();
    let custom = json!({ date.clone(): [{"start": "10:00", "end": "11:00"}] });
    assert_eq!(data(ann.post("/availability/custom", custom.clone()).await), custom);
    assert_eq!(data(ann.get("/availability/custom").await), custom);
    let own = data(ann.get("/auth").await)["user"].clone();
    assert_eq!((&own["availability"]["custom"], &own["availability"]["weekly"]), (&custom, &set));
    assert_eq!(data(ann.post("/availability/custom", json!({ date: null })).await), json!({}));
    // An overlap breaks a rule of the calendar.
    let overlap = json!({"mon": [{"start": "09:00", "end": "12:00"}, {"start": "11:00", "end": "13:00"}]});
    refused(ann.post("/availability/weekly", overlap).await, 400);
}

async fn a_call_is_booked_moved_and_cancelled(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let chat = ann.befriends(&bob).await;
    let form = json!({
        "title": "Tea", "type": "video", "recurrence": "weekly", "startDateTime": at(10), "endDateTime": at(11),
    });
    let booked = data(ann.post(&bob.path("/schedule"), form.clone()).await);
    let id = text(&booked["schedule"]["id"]);
    assert_eq!(
        (&booked["schedule"]["status"], &booked["schedule"]["recurrence"]),
        (&json!("upcoming"), &json!("weekly"))
    );
    assert_eq!(booked["schedule"]["attendee"]["name"], json!("Bob Baker"));
    let message = until("the message of the booking", || async {
        let messages = data(bob.get(&format!("/chat/{chat}/messages")).await);
        array(&messages).iter().find(|message| message["type"] == "schedule").cloned()
    })
    .await;
    assert_eq!((&message["schedule"]["id"], &message["schedule"]["title"]), (&json!(id), &json!("Tea")));
    let alert = until("an alert", || async {
        let alerts = data(bob.get("/alerts").await);
        array(&alerts).iter().find(|alert| alert["type"] == "schedule").cloned()
    })
    .await;
    assert_eq!((&alert["schedule"]["id"], &alert["message"]["id"]), (&json!(id), &message["id"]));

    refused(ann.post(&bob.path("/schedule"), form).await, 409);
    refused(bob.put(&format!("/schedule/{id}"), json!({"title": "x"})).await, 403);
    let moved = json!({"title": "Coffee", "startDateTime": at(14), "endDateTime": at(15)});
    let moved = data(ann.put(&format!("/schedule/{id}"), moved).await);
    assert_eq!(moved["schedule"]["title"], json!("Coffee"));
    for (path, count) in [("/schedules", 1), ("/schedules/upcoming?keyword=coff", 1), ("/schedules/past", 0)]
    {
        assert_eq!(array(&data(bob.get(path).await)).len(), count, "{path}");
    }
    let seen = data(bob.get(&format!("/schedule/{id}")).await);
    assert_eq!((&seen["attendee"]["name"], &seen["type"]), (&json!("Ann Archer"), &json!("video")));

    data(bob.delete(&format!("/schedule/{id}")).await);
    for one in [&ann, &bob] {
        refused(one.get(&format!("/schedule/{id}")).await, 404);
        assert_eq!(data(one.get("/schedules").await), json!([]));
    }
    refused(ann.delete(&format!("/schedule/{id}")).await, 404);
    for (form, part) in [
        (json!({"type": "audio", "startDateTime": at(10), "endDateTime": at(11)}), "title"),
        (json!({"title": "x", "startDateTime": at(10), "endDateTime": at(11)}), "type"),
        (
            json!({"title": "x", "type": "audio", "startDateTime": "soon", "endDateTime": at(11)}),
            "startDateTime",
        ),
        (
            json!({"title": "x", "type": "audio", "startDateTime": at(11), "endDateTime": at(10)}),
            "endDateTime",
        ),
    ] {
        let sentence = refused(ann.post(&bob.path("/schedule"), form).await, 400);
        assert!(sentence.contains(part), "{sentence}");
    }
}

async fn bookings_are_cleared(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    ann.befriends(&bob).await;
    let form = |hour: u64| -> Value {
        json!({"title": "Tea", "type": "audio", "startDateTime": at(hour), "endDateTime": at(hour + 1)})
    };
    data(ann.post(&bob.path("/schedule"), form(8)).await);
    data(bob.post(&ann.path("/schedule"), form(12)).await);
    data(ann.delete(&ann.path("/schedules")).await);
    let left = data(ann.get("/schedules").await);
    assert_eq!(array(&left).len(), 1, "{left}");
    assert_eq!(left[0]["attendee"]["id"], json!(bob.id));
}
