//! Accounts, profiles, connections and reviews.

use std::sync::Arc;

use reqwest::Method;
use reqwest::header::{self, HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tests::person::{PASSWORD, array, text};
use tests::waiting::until;
use tests::{World, http};

use super::client::{Client, data, refused};

tests::stories![
    a_user_signs_up_in_and_out,
    an_address_is_proved_by_a_code,
    a_provider_is_named_in_a_header,
    an_account_begins_with_a_gate,
    a_profile_is_filled_in_with_names,
    malformed_requests_are_refused,
    only_oneself_is_changed,
    people_are_found_and_connected,
    an_ended_connection_is_gone_for_both,
    reviews_take_an_acquaintance,
    a_page_of_another_origin_is_served,
    an_account_is_deleted,
];

async fn a_user_signs_up_in_and_out(world: Arc<World>) {
    let ann = Client::sign_up(&world, "Ann Archer", "senior").await;
    let user = data(ann.get("/auth").await)["user"].clone();
    assert_eq!(
        (&user["id"], &user["name"], &user["type"], &user["email"]),
        (&json!(ann.id), &json!("Ann Archer"), &json!("senior"), &json!(ann.email))
    );
    assert_eq!(user["totalUnreadAlerts"], json!(0));
    let again = json!({"email": ann.email, "password": PASSWORD});
    refused(Client { token: String::new(), ..ann.clone() }.post("/auth/sign-up", again.clone()).await, 409);

    // Clients that are signed out send this.
    let out = Client { token: "undefined".to_owned(), ..ann.clone() };
    refused(out.get("/auth").await, 401);
    let signed_in = data(out.post("/auth/sign-in", again).await);
    assert_eq!(signed_in["user"]["id"], json!(ann.id));
    let second = Client { token: text(&signed_in["tokens"]["access"]), ..ann.clone() };
    refused(out.post("/auth/sign-in", json!({"email": ann.email, "password": "wrong password"})).await, 401);

    let renewed = data(second.post("/auth/refresh", json!({"refresh": second.token})).await);
    let second = Client { token: text(&renewed["tokens"]["access"]), ..second };
    data(second.get("/auth").await);
    data(second.delete("/auth/sign-out").await);
    refused(second.get("/auth").await, 401);
    data(ann.get("/auth").await);
}

async fn an_address_is_proved_by_a_code(world: Arc<World>) {
    let ann = Client::sign_up(&world, "Ann Archer", "senior").await;
    let out = Client { token: String::new(), ..ann };
    let email = format!("{}@talkamie.example", proto::id::EventId::generate());
    let sent = data(out.post("/otp", json!({"email": email})).await);
    let code = text(&sent["otp"]);
    assert_eq!(code.len(), 4, "the form of the clients has four boxes: {sent}");
    let wrong: String = code.chars().map(|digit| if digit == '9' { '0' } else { '9' }).collect();
    refused(out.post("/otp/verify", json!({"email": email, "code": wrong})).await, 400);
    data(out.post("/otp/verify", json!({"email": email, "code": code})).await);
    refused(out.post("/otp/verify", json!({"email": email, "code": code})).await, 400);
}

async fn a_provider_is_named_in_a_header(world: Arc<World>) {
    // No provider is configured; that of the test of the service signs users in.
    for (header, status) in [("nowhere token", 404), ("nowhere", 400)] {
        for path in ["/talkamie/v1/auth/sign-in", "/talkamie/v1/auth/sign-up"] {
            let headers = [("x-auth-provider", header)];
            let answer =
                http::ask_foreign(world.gateway(), Method::POST, path, &headers, Some(&json!({}))).await;
            refused(answer, status);
        }
    }
}

async fn an_account_begins_with_a_gate(world: Arc<World>) {
    let ann = Client::sign_up(&world, "Ann Archer", "senior").await;
    let privacy = ann.as_person(&world).await.get("/v1/me/privacy").await.ok();
    assert_eq!(privacy["privacy"]["firstContact"], json!("FIRST_CONTACT_AFTER_REQUEST"));
}

async fn a_profile_is_filled_in_with_names(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let interests = data(ann.get("/interests?keyword=&pageSize=2&lastEvaluatedKey=").await);
    let chosen = array(&interests).to_vec();
    assert_eq!(chosen.len(), 2, "{interests}");
    let names: Vec<_> =
        chosen.iter().map(|one| json!({"name": one["name"], "emoji": one["emoji"]})).collect();
    let form = json!({
        "bio": "I like tea.", "gender": "female", "dob": "1950-04-30", "language": "Portuguese",
        "country": "Portugal", "city": "Faro", "interests": names, "maxCallDuration": 1800,
        "picture": {"org": {"url": "https://a.example/p.png", "mimeType": "image/png"}},
    });
    let updated = data(ann.put(&ann.path(""), form).await);
    for user in [updated, data(bob.get(&ann.path("")).await)] {
        assert_eq!(user["location"], json!({"city": "Faro", "country": "Portugal"}), "{user}");
        assert_eq!((&user["language"], &user["gender"]), (&json!("Portuguese"), &json!("female")));
        assert_eq!(user["picture"]["org"]["mimeType"], json!("image/png"));
        assert!(user["age"].as_i64().is_some_and(|age| age > 70), "{user}");
        assert_eq!(array(&user["interests"]).len(), 2);
    }
    let seen = data(bob.get(&ann.path("")).await);
    assert!(seen.get("email").is_none() && seen.get("preferences").is_none(), "{seen}");
    let own = data(ann.get(&ann.path("")).await);
    assert_eq!(own["preferences"]["call"]["maxDuration"], json!(1800));
    // What is not sent stays as it is.
    let user = data(ann.put(&ann.path(""), json!({"state": "Algarve"})).await);
    assert_eq!(user["location"], json!({"city": "Faro", "country": "Portugal", "state": "Algarve"}));
    data(
        ann.put(&ann.path("/password"), json!({"oldPassword": PASSWORD, "newPassword": "another password"}))
            .await,
    );
    refused(ann.put(&ann.path("/password"), json!({"oldPassword": PASSWORD, "newPassword": "x"})).await, 400);
}

async fn malformed_requests_are_refused(world: Arc<World>) {
    let ann = Client::sign_up(&world, "Ann Archer", "senior").await;
    let unknown = proto::id::UserId::generate();
    for (method, path, body, status, part) in [
        (Method::PUT, ann.path(""), json!({"country": "Atlantis"}), 400, "country"),
        (Method::PUT, ann.path(""), json!({"dob": "yesterday"}), 400, "dob"),
        (Method::PUT, ann.path(""), json!({"name": []}), 400, "name"),
        (
            Method::PUT,
            ann.path("/password"),
            json!({"oldPassword": PASSWORD, "newPassword": "x"}),
            400,
            "newPassword",
        ),
        (Method::GET, "/users?minAge=old".to_owned(), Value::Null, 400, "minAge"),
        (
            Method::GET,
            "/users?lastEvaluatedKey=%7B%22id%22%3A1%7D".to_owned(),
            Value::Null,
            400,
            "lastEvaluatedKey",
        ),
        (
            Method::GET,
            "/chats?lastEvaluatedKey=%7B%22pageToken%22%3A%22x%22%7D".to_owned(),
            Value::Null,
            400,
            "lastEvaluatedKey",
        ),
        (Method::GET, "/user/ann".to_owned(), Value::Null, 400, "id"),
        (Method::GET, format!("/user/{unknown}"), Value::Null, 404, ""),
        (Method::GET, format!("/chat/{unknown}"), Value::Null, 404, ""),
        (Method::GET, format!("/chat/{unknown}/messages"), Value::Null, 404, ""),
        (Method::GET, format!("/call/{unknown}"), Value::Null, 404, ""),
        (Method::GET, format!("/schedule/{unknown}"), Value::Null, 404, ""),
        (Method::POST, format!("/user/{unknown}/message/request"), json!({"text": "hi"}), 404, ""),
        (Method::POST, format!("/user/{unknown}/connection/accept"), json!({}), 404, ""),
        (Method::DELETE, format!("/user/{unknown}/message/request"), Value::Null, 404, ""),
        (Method::POST, ann.path("/connection"), json!({}), 400, "id"),
        (Method::POST, ann.path("/message/request"), json!({"text": "hi"}), 400, ""),
        (Method::POST, ann.path("/message/request"), json!({"text": " "}), 400, "text"),
        (Method::POST, ann.path("/message/request"), json!({"text": "\u{200b}\u{2800}"}), 400, "text"),
        (Method::PUT, ann.path(""), json!({"name": "\u{3164}"}), 400, "name"),
        (Method::POST, "/availability/weekly".to_owned(), json!({"monday": []}), 400, "monday"),
        (Method::POST, "/otp".to_owned(), json!({"email": "nowhere"}), 400, "email"),
        (Method::POST, "/auth/sign-up".to_owned(), json!({"email": "a@b.example"}), 400, "password"),
        (Method::PATCH, ann.path(""), json!({}), 405, ""),
        (Method::GET, "/faqs".to_owned(), Value::Null, 404, ""),
    ] {
        let body = (!body.is_null()).then_some(body);
        let sentence = refused(ann.ask(method, &path, body).await, status);
        assert!(sentence.contains(part), "{path}: {sentence}");
    }
    let client = reqwest::Client::new();
    let url = format!("http://{}/Talkamie/V1/Auth/Sign-In/", ann.gateway);
    let answer = client.post(url).header("content-type", "application/json").body("{").send().await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), 400);
    let body: Value = answer.json().await.expect("a JSON body");
    assert_eq!(body["success"], json!(false));
}

async fn only_oneself_is_changed(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    refused(ann.put(&bob.path(""), json!({"bio": "x"})).await, 403);
    refused(ann.put(&bob.path("/password"), json!({"oldPassword": "x", "newPassword": "y"})).await, 403);
    refused(ann.delete(&bob.path("")).await, 403);
    refused(ann.delete(&bob.path("/schedules")).await, 403);
    let check = json!({"dob": "1950-04-30", "state": "California", "links": []});
    refused(ann.post(&bob.path("/background-check"), check).await, 403);
}

async fn people_are_found_and_connected(world: Arc<World>) {
    let ann = Client::sign_up(&world, "Ann Archer", "senior").await;
    let bob = Client::sign_up_verified(&world, "Bob Baker", "volunteer").await;
    // Signed out one learns of no address whether it has an account.
    let out = Client { token: String::new(), ..ann.clone() };
    assert_eq!(data(out.get(&format!("/users?email={}", ann.email)).await), json!([]));
    refused(out.get("/users?keyword=ann").await, 401);
    let found = data(ann.get(&format!("/users?email={}&type=&keyword=", bob.email)).await);
    assert_eq!(found[0]["id"], json!(bob.id), "{found}");
    // An address that was not verified is found by its owner only.
    let search = format!("/users?email={}", ann.email);
    assert_eq!(data(bob.get(&search).await), json!([]));
    assert_eq!(data(ann.get(&search).await)[0]["id"], json!(ann.id));

    let asked = data(ann.post(&bob.path("/connection"), json!({})).await);
    assert_eq!((&asked["status"], &asked["to"]["id"]), (&json!("pending"), &json!(bob.id)));
    assert_eq!(asked["user"]["name"], json!("Bob Baker"));
    refused(ann.post(&bob.path("/connection"), json!({})).await, 409);
    let pending = bob.get("/connections/pending").await.ok();
    assert_eq!(pending["pagination"]["totalItems"], json!(1));
    assert_eq!(pending["data"][0]["user"]["name"], json!("Ann Archer"));
    assert_eq!(data(bob.get(&ann.path("")).await)["viewer"]["connectRequest"]["id"], asked["id"]);
    assert_eq!(data(bob.get("/auth").await)["user"]["totalPendingRequests"], json!(1));

    let accepted = data(bob.post(&ann.path("/connection/accept"), json!({})).await);
    assert_eq!((&accepted["id"], &accepted["status"]), (&asked["id"], &json!("accepted")));
    assert_eq!(accepted["chat"]["request"]["status"], json!("accepted"));
    for (one, other) in [(&ann, &bob), (&bob, &ann)] {
        let connected = data(one.get("/connections/users?keyword=").await);
        assert_eq!(connected[0]["id"], json!(other.id));
        let viewer = data(one.get(&other.path("")).await)["viewer"].clone();
        assert_eq!(viewer["connectRequest"]["status"], json!("accepted"), "{viewer}");
        assert_eq!(viewer["chat"]["id"], accepted["chat"]["id"]);
        assert_eq!(data(one.get("/auth").await)["user"]["totalConnections"], json!(1));
    }
    assert_eq!(array(&data(ann.get("/connect-requests/users?keyword=nobody").await)).len(), 0);
}

async fn an_ended_connection_is_gone_for_both(world: Arc<World>) {
    for ends_by in ["/connection", "/connection/reject"] {
        let (ann, bob) = Client::pair(&world).await;
        ann.befriends(&bob).await;
        let ended = data(bob.delete(&ann.path(ends_by)).await);
        let status = if ends_by == "/connection" { "canceled" } else { "rejected" };
        assert_eq!(ended["status"], json!(status));
        for one in [&ann, &bob] {
            assert_eq!(data(one.get("/connections/users").await), json!([]));
        }
    }
    let (ann, bob) = Client::pair(&world).await;
    data(ann.post(&bob.path("/connection"), json!({})).await);
    assert_eq!(data(ann.delete(&bob.path("/connection")).await)["status"], json!("canceled"));
    data(ann.post(&bob.path("/connection"), json!({})).await);
    assert_eq!(data(bob.delete(&ann.path("/connection/reject")).await)["status"], json!("rejected"));
}

async fn reviews_take_an_acquaintance(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    let review = json!({"text": "Listens well.", "rate": 5});
    refused(ann.post(&bob.path("/review"), review.clone()).await, 403);
    ann.befriends(&bob).await;
    // What auth knows of a connection follows soon.
    let written = until("a review", || async {
        let answer = ann.post(&bob.path("/review"), review.clone()).await;
        (answer.status == 200).then(|| data(answer))
    })
    .await;
    assert_eq!(written["user"], json!({"id": bob.id, "rating": 5.0, "totalReviews": 1}));
    assert_eq!(written["review"]["rater"], json!({"id": ann.id, "name": "Ann Archer"}));
    refused(ann.post(&bob.path("/review"), review).await, 409);
    refused(bob.put(&ann.path("/review"), json!({"rate": 3})).await, 404);
    let updated = data(ann.put(&bob.path("/review"), json!({"rate": "3"})).await);
    assert_eq!(
        (&updated["review"]["rate"], &updated["review"]["text"]),
        (&json!(3), &json!("Listens well."))
    );
    assert_eq!(data(bob.get("/reviews").await), data(ann.get(&bob.path("/reviews")).await));
    assert_eq!(data(ann.get(&bob.path("")).await)["viewer"]["review"]["id"], written["review"]["id"]);
    let deleted = data(ann.delete(&bob.path("/review")).await);
    assert_eq!(deleted["user"]["totalReviews"], json!(0));
    refused(ann.delete(&bob.path("/review")).await, 404);
    assert_eq!(data(bob.get("/reviews").await), json!([]));
}

async fn a_page_of_another_origin_is_served(world: Arc<World>) {
    let ann = Client::sign_up(&world, "Ann Archer", "senior").await;
    let client = reqwest::Client::new();
    for (path, status) in [("/talkamie/v1/auth", 200), ("/talkamie/v1/call/x", 400), (&ann.path("")[..], 200)]
    {
        let request = client.get(format!("http://{}{path}", ann.gateway));
        let request = request.header("origin", "https://app.talkamie.example").bearer_auth(&ann.token);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{path}");
        let header = |name: &str| answer.headers().get(name).cloned();
        assert_eq!(
            header("access-control-allow-origin"),
            Some(HeaderValue::from_static("https://app.talkamie.example"))
        );
        assert_eq!(header("access-control-allow-credentials"), Some(HeaderValue::from_static("true")));
    }
    let asked = HeaderMap::from_iter([
        (header::ORIGIN, HeaderValue::from_static("https://app.talkamie.example")),
        (header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT")),
        (
            header::ACCESS_CONTROL_REQUEST_HEADERS,
            HeaderValue::from_static("authorization,content-type,x-user-timezone-offset"),
        ),
    ]);
    let url = format!("http://{}/talkamie/v1{}", ann.gateway, ann.path(""));
    let preflight = client.request(Method::OPTIONS, url).headers(asked).send().await.expect("an answer");
    assert!(preflight.status().is_success());
    let allowed = preflight.headers().get("access-control-allow-headers").expect("allowed headers");
    assert!(allowed.to_str().expect("text").contains("x-user-timezone-offset"));
}

async fn an_account_is_deleted(world: Arc<World>) {
    let (ann, bob) = Client::pair(&world).await;
    refused(ann.delete(&ann.path("")).await, 403);
    let wrong = json!({"password": "not the password"});
    refused(ann.ask(Method::DELETE, &ann.path(""), Some(wrong)).await, 403);
    data(ann.ask(Method::DELETE, &ann.path(""), Some(json!({"password": PASSWORD}))).await);
    refused(ann.get("/auth").await, 401);
    refused(bob.post(&ann.path("/connection"), json!({})).await, 404);
}
