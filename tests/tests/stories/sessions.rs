//! Sessions: tokens that end when they should, and the sockets with them.

use std::sync::Arc;

use serde_json::json;
use tests::World;
use tests::person::{PASSWORD, array, text};

tests::stories![
    logging_out_ends_the_session,
    a_revoked_session_closes_its_socket,
    a_refreshed_token_replaces_the_old_one,
    a_changed_password_ends_the_other_sessions,
    a_socket_without_a_good_token_is_closed,
];

async fn logging_out_ends_the_session(world: Arc<World>) {
    let ann = world.person("ann").await;
    let mut screen = ann.connects().await;
    ann.post("/v1/auth/logout", json!({})).await.ok();
    assert_eq!(ann.get("/v1/me").await.refused(401), "ERROR_REASON_UNAUTHENTICATED");
    assert_eq!(screen.expects_close().await.code, 4401);
}

async fn a_revoked_session_closes_its_socket(world: Arc<World>) {
    let ann = world.person("ann").await;
    let login = json!({ "login": ann.username, "password": PASSWORD, "deviceName": "phone" });
    let phone_grant = ann.post("/v1/auth/login", login).await.ok()["grant"].clone();
    let phone = ann.with_token(&text(&phone_grant["sessionToken"]));
    let mut phones_screen = phone.connects().await;

    let sessions = ann.get("/v1/sessions").await.ok();
    assert_eq!(array(&sessions["sessions"]).len(), 2);
    let of_phone =
        array(&sessions["sessions"]).iter().find(|s| s["deviceName"] == json!("phone")).expect("the phone");
    ann.delete(&format!("/v1/sessions/{}", text(&of_phone["sessionId"]))).await.ok();

    assert_eq!(phones_screen.expects_close().await.code, 4401);
    assert_eq!(phone.get("/v1/me").await.status, 401);
    ann.get("/v1/me").await.ok();
    let unknown = proto::id::SessionId::generate();
    assert_eq!(
        ann.delete(&format!("/v1/sessions/{unknown}")).await.refused(404),
        "ERROR_REASON_SESSION_NOT_FOUND"
    );
}

async fn a_refreshed_token_replaces_the_old_one(world: Arc<World>) {
    let ann = world.person("ann").await;
    let refresh = json!({ "sessionToken": ann.token });
    let first = ann.post("/v1/auth/refresh", refresh.clone()).await.ok();
    // Two tabs that refresh at the same moment get the same token.
    let second = ann.post("/v1/auth/refresh", refresh).await.ok();
    assert_eq!(first["grant"]["sessionToken"], second["grant"]["sessionToken"]);
    let fresh = ann.with_token(&text(&first["grant"]["sessionToken"]));
    assert_eq!(fresh.get("/v1/me").await.ok()["user"]["userId"], json!(ann.id));
    // The old one is remembered for seconds at most.
    tests::waiting::until("the old token to be refused", || async {
        (ann.get("/v1/me").await.status == 401).then_some(())
    })
    .await;
    assert_eq!(ann.post("/v1/auth/refresh", json!({ "sessionToken": "rubbish" })).await.status, 401);
}

async fn a_changed_password_ends_the_other_sessions(world: Arc<World>) {
    let ann = world.person("ann").await;
    let login = json!({ "login": ann.username, "password": PASSWORD });
    let other = ann.with_token(&text(&ann.post("/v1/auth/login", login).await.ok()["grant"]["sessionToken"]));
    let mut others_screen = other.connects().await;
    let change = json!({ "oldPassword": PASSWORD, "newPassword": "an entirely new one" });
    ann.post("/v1/me/password", change).await.ok();
    assert_eq!(others_screen.expects_close().await.code, 4401);
    assert_eq!(other.get("/v1/me").await.status, 401);
    ann.get("/v1/me").await.ok();
    let weak = json!({ "oldPassword": "an entirely new one", "newPassword": "password" });
    assert_eq!(ann.post("/v1/me/password", weak).await.refused(400), "ERROR_REASON_WEAK_PASSWORD");
}

async fn a_socket_without_a_good_token_is_closed(world: Arc<World>) {
    let refused = tests::Connection::try_open(world.gateway(), "not-a-token").await;
    assert!(refused.is_err());
}
