//! What people thought of each other, and who they are.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::person::{array, number, text};
use tests::{Person, World};

tests::stories![
    who_knows_somebody_may_review,
    the_rating_is_what_the_reviews_say,
    a_profile_is_shown_to_whom_its_owner_lets,
    people_are_found_by_what_they_show,
    interests_are_chosen_from_the_list,
];

fn review(of: &Person) -> String {
    format!("/v1/users/{}/review", of.id)
}

async fn rating(of: &Person) -> (i64, i64) {
    let rating = of.get("/v1/me").await.ok()["user"]["rating"].clone();
    (number(&rating["count"]), number(&rating["sum"]))
}

async fn who_knows_somebody_may_review(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let words = json!({ "rating": 4, "text": "on time" });
    assert_eq!(ann.put(&review(&bob), words.clone()).await.refused(409), "ERROR_REASON_NOT_ACQUAINTED");
    ann.befriends(&bob).await;
    let mut at_bob = bob.comes_online().await;
    let written = tests::waiting::until("the acquaintance to be known", || async {
        let answer = ann.put(&review(&bob), words.clone()).await;
        (answer.status == 200).then_some(answer.body)
    })
    .await;
    assert_eq!((&written["created"], &written["review"]["rating"]), (&json!(true), &json!(4)));
    let alert = at_bob.expects_alert("REVIEW_WRITTEN").await;
    assert_eq!(
        (&alert["actorUserId"], &alert["subjectId"]),
        (&json!(ann.id), &written["review"]["reviewId"])
    );

    // Another word of the same reviewer is the same review, and the same alert.
    let changed = ann.put(&review(&bob), json!({ "rating": 5, "text": "and kind" })).await.ok();
    assert_eq!(
        (&changed["created"], &changed["review"]["reviewId"]),
        (&json!(false), &written["review"]["reviewId"])
    );
    assert_eq!(at_bob.expects_alert("REVIEW_UPDATED").await["alertId"], alert["alertId"]);
    assert_eq!(rating(&bob).await, (1, 5));
    let listed = bob.get(&format!("/v1/users/{}/reviews", bob.id)).await.ok();
    assert_eq!((array(&listed["reviews"]).len(), &listed["reviews"][0]["text"]), (1, &json!("and kind")));
    assert_eq!(array(&ann.get("/v1/me/reviews").await.ok()["reviews"]).len(), 1);
    // The alert names the review, and those it concerns get it by its id.
    let stranger = world.person("stranger").await;
    let named = json!({ "reviewIds": [alert["subjectId"]] });
    for person in [&ann, &bob] {
        let got = person.post("/v1/reviews/batch", named.clone()).await.ok();
        assert_eq!(got["reviews"][0]["text"], json!("and kind"));
    }
    let got = stranger.post("/v1/reviews/batch", named).await.ok();
    assert_eq!(array(&got["reviews"]).len(), 0);

    // What was said while they knew each other may be changed afterwards.
    ann.delete(&format!("/v1/users/{}/connection", bob.id)).await.ok();
    ann.put(&review(&bob), json!({ "rating": 3, "text": "" })).await.ok();
    ann.delete(&review(&bob)).await.ok();
    at_bob.expects_alert("REVIEW_DELETED").await;
    assert_eq!(rating(&bob).await, (0, 0));
    assert_eq!(ann.delete(&review(&bob)).await.refused(404), "ERROR_REASON_REVIEW_NOT_FOUND");

    for (body, field) in [(json!({ "rating": 6 }), "rating"), (json!({ "text": "x" }), "rating")] {
        let refused = ann.put(&review(&bob), body).await;
        assert_eq!(refused.body["fields"][0]["field"], json!(field), "{}", refused.body);
        assert_eq!(refused.refused(400), "ERROR_REASON_INVALID_FIELD");
    }
    assert_eq!(ann.put(&review(&ann), json!({ "rating": 5 })).await.status, 400);
}

async fn the_rating_is_what_the_reviews_say(world: Arc<World>) {
    let bob = world.person("bob").await;
    let people = world.people(["a", "b", "c", "d", "e", "f"]).await;
    let (path, bob) = (&review(&bob), &bob);
    join_all(people.iter().zip([1, 2, 3, 4, 5, 5]).map(|(person, rating)| async move {
        person.befriends(bob).await;
        tests::waiting::until("the acquaintance to be known", || async {
            (person.put(path, json!({ "rating": rating })).await.status == 200).then_some(())
        })
        .await;
        person.put(path, json!({ "rating": rating, "text": "again" })).await.ok();
    }))
    .await;
    assert_eq!(rating(bob).await, (6, 20));
    people[0].delete(path).await.ok();
    people[5].put(path, json!({ "rating": 1 })).await.ok();
    assert_eq!(rating(bob).await, (5, 15));
    let shown = people[1].get(&format!("/v1/users/{}", bob.id)).await.ok()["user"]["rating"].clone();
    assert_eq!((&shown["count"], &shown["mean"]), (&json!(5), &json!(3.0)));
}

async fn changes(person: &Person, user: Value) -> tests::http::Answer {
    let mask: Vec<_> = user.as_object().expect("fields").keys().cloned().collect();
    person.patch("/v1/me", json!({ "user": user, "updateMask": mask.join(",") })).await
}

async fn a_profile_is_shown_to_whom_its_owner_lets(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let profile = json!({
        "gender": "GENDER_FEMALE", "dateOfBirth": "1980-02-29", "language": "pt-BR", "bio": "climbs",
        "location": { "city": "Porto", "country": "PT" }, "timeZone": "Europe/Lisbon",
        "interestIds": [], "visibility": "VISIBILITY_CONNECTIONS",
    });
    changes(&ann, profile).await.ok();
    ann.befriends(&bob).await;
    let seen = async |who: &Person| who.get(&format!("/v1/users/{}", ann.id)).await.ok()["user"].clone();
    let friend = tests::waiting::until("the friend to see the profile", || async {
        let user = seen(&bob).await;
        (user["bio"] == json!("climbs")).then_some(user)
    })
    .await;
    assert_eq!(friend["location"]["city"], json!("Porto"));
    assert!(
        number(&friend["age"]) >= 46 && friend["dateOfBirth"].as_str().unwrap_or_default().is_empty(),
        "{friend}"
    );
    let stranger = seen(&cid).await;
    assert_eq!((&stranger["displayName"], stranger["bio"].as_str().unwrap_or_default()), (&json!("ann"), ""));
    assert!(stranger["location"].is_null(), "{stranger}");

    for (wrong, field) in [
        (json!({ "timeZone": "Mars/Olympus" }), "user.time_zone"),
        (json!({ "dateOfBirth": "2999-01-01" }), "user.date_of_birth"),
        (json!({ "dateOfBirth": "1980-02-30" }), "user.date_of_birth"),
        (json!({ "language": "not a language" }), "user.language"),
        (json!({ "interestIds": ["no-such-thing"] }), "user.interest_ids"),
    ] {
        let refused = changes(&ann, wrong.clone()).await;
        assert!(text(&refused.body["fields"][0]["field"]).starts_with(field), "{wrong}: {}", refused.body);
        assert_eq!(refused.refused(400), "ERROR_REASON_INVALID_FIELD", "{wrong}");
    }
    assert_eq!(ann.get("/v1/me").await.ok()["user"]["timeZone"], json!("Europe/Lisbon"), "nothing half-done");
}

async fn people_are_found_by_what_they_show(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let city = format!("Town {}", &ann.id[24..]);
    let profile = |birth: &str, gender: &str| json!({ "dateOfBirth": birth, "gender": gender, "location": { "city": city, "country": "PT" } });
    changes(&ann, profile("1950-01-01", "GENDER_FEMALE")).await.ok();
    changes(&bob, profile("2000-06-15", "GENDER_MALE")).await.ok();
    let found = async |query: &str| {
        let listed = cid.get(&format!("/v1/users?location={}&{query}", city.replace(' ', "%20"))).await.ok();
        array(&listed["users"]).iter().map(|user| text(&user["userId"])).collect::<Vec<_>>()
    };
    assert_eq!(found("").await, [ann.id.clone(), bob.id.clone()]);
    assert_eq!(found("minAge=60").await, [ann.id.as_str()]);
    assert_eq!(found("maxAge=40").await, [bob.id.as_str()]);
    assert_eq!(found("gender=GENDER_MALE").await, [bob.id.as_str()]);
    assert!(found("gender=GENDER_MALE&minAge=60").await.is_empty());
    // Who shows nothing is not found by it.
    changes(&ann, json!({ "visibility": "VISIBILITY_NOBODY" })).await.ok();
    assert_eq!(found("").await, [bob.id.as_str()]);
}

async fn interests_are_chosen_from_the_list(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let all = ann.get("/v1/interests?pageSize=100").await.ok();
    let ids: Vec<_> = array(&all["interests"]).iter().map(|one| text(&one["interestId"])).collect();
    assert!(ids.len() > 20, "{all}");
    let found = ann.get(&format!("/v1/interests?keyword={}", &ids[3])).await.ok();
    assert!(array(&found["interests"]).iter().any(|one| text(&one["interestId"]) == ids[3]), "{found}");
    changes(&ann, json!({ "interestIds": [ids[3], ids[0]] })).await.ok();
    let shown = bob.get(&format!("/v1/users/{}", ann.id)).await.ok();
    assert_eq!(array(&shown["user"]["interestIds"]).len(), 2);
    let listed = bob.get(&format!("/v1/users?interestIds={}&pageSize=100", ids[3])).await.ok();
    assert!(array(&listed["users"]).iter().any(|user| user["userId"] == json!(ann.id)), "{listed}");
}
