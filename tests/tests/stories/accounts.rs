//! Accounts: registering, signing in, changing and deleting oneself.

use std::sync::Arc;

use serde_json::json;
use tests::World;
use tests::person::{PASSWORD, array, number};

tests::stories![
    a_username_is_taken_once,
    a_reserved_username_is_taken,
    the_username_of_a_deleted_account_rests,
    a_wrong_password_and_an_unknown_name_answer_alike,
    one_sees_oneself_and_others_less,
    people_are_found_by_name,
    a_guest_talks_like_everybody,
    a_deleted_user_leaves_everywhere,
    a_changed_name_is_seen_by_others,
];

async fn a_username_is_taken_once(world: Arc<World>) {
    let ann = world.person("ann").await;
    let body = json!({ "username": ann.username.to_uppercase(), "password": PASSWORD });
    assert_eq!(ann.post("/v1/auth/register", body).await.refused(409), "ERROR_REASON_USERNAME_TAKEN");
}

async fn a_reserved_username_is_taken(world: Arc<World>) {
    let ann = world.person("ann").await;
    for name in
        ["root", "Admin", "administrator", "superuser", "owner", "moderator", "system", "support", "adm1n"]
    {
        let body = json!({ "username": name, "password": PASSWORD });
        assert_eq!(ann.post("/v1/auth/register", body).await.refused(409), "ERROR_REASON_USERNAME_TAKEN");
    }
}

async fn the_username_of_a_deleted_account_rests(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    bob.post("/v1/me/delete", json!({ "password": PASSWORD })).await.ok();
    let body = json!({ "username": bob.username, "password": PASSWORD });
    assert_eq!(ann.post("/v1/auth/register", body).await.refused(409), "ERROR_REASON_USERNAME_TAKEN");
}

async fn a_wrong_password_and_an_unknown_name_answer_alike(world: Arc<World>) {
    let ann = world.person("ann").await;
    let login = |name: &str| json!({ "login": name, "password": "not the password" });
    let wrong = ann.post("/v1/auth/login", login(&ann.username)).await;
    let unknown = ann.post("/v1/auth/login", login("nobody-of-this-name")).await;
    assert_eq!(wrong, unknown);
    assert_eq!(wrong.refused(401), "ERROR_REASON_BAD_CREDENTIALS");
    let right = json!({ "login": ann.username, "password": PASSWORD });
    assert_eq!(ann.post("/v1/auth/login", right).await.ok()["user"]["userId"], json!(ann.id));
}

async fn one_sees_oneself_and_others_less(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let email = format!("{}@example.org", ann.username);
    let changes = json!({
        "user": { "email": email, "bio": "likes tea" }, "updateMask": "email,bio", "password": PASSWORD,
    });
    ann.patch("/v1/me", changes).await.ok();
    assert_eq!(ann.get("/v1/me").await.ok()["user"]["email"], json!(email));
    let seen = bob.get(&format!("/v1/users/{}", ann.id)).await.ok();
    assert_eq!(seen["user"]["bio"], json!("likes tea"));
    assert!(!seen.to_string().contains(&email), "{seen}");
    let nobody = proto::id::UserId::generate();
    assert_eq!(bob.get(&format!("/v1/users/{nobody}")).await.refused(404), "ERROR_REASON_USER_NOT_FOUND");
}

async fn people_are_found_by_name(world: Arc<World>) {
    let ann = world.person("Annegret").await;
    let keyword = &ann.username[..ann.username.len() - 1].to_uppercase();
    let found = ann.get(&format!("/v1/users?keyword={keyword}")).await.ok();
    assert!(array(&found["users"]).iter().any(|user| user["userId"] == json!(ann.id)), "{found}");
    let batch = ann.post("/v1/users/batch", json!({ "userIds": [ann.id] })).await.ok();
    assert_eq!(batch["users"][0]["displayName"], json!("Annegret"));
}

async fn a_guest_talks_like_everybody(world: Arc<World>) {
    let ann = world.person("ann").await;
    let room = ann.opens_room("for guests").await;
    let answer = ann.post("/v1/auth/guest", json!({ "displayName": "Visitor" })).await.ok();
    assert_eq!(answer["user"]["kind"], json!("USER_KIND_GUEST"));
    let guest = ann.with_token(answer["grant"]["sessionToken"].as_str().expect("a token"));
    guest.post(&format!("/v1/conversations/{room}/join"), json!({})).await.ok();
    guest.says(&room, "hello from a guest").await;
    assert_eq!(ann.reads(&room).await, [Some("hello from a guest".to_owned())]);
    let change = json!({ "oldPassword": "x", "newPassword": "something longer" });
    assert_eq!(guest.post("/v1/me/password", change).await.refused(409), "ERROR_REASON_GUEST_ACCOUNT");
}

async fn a_deleted_user_leaves_everywhere(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    bob.says(&conversation, "farewell").await;
    let mut screen = ann.comes_online().await;
    assert_eq!(
        bob.post("/v1/me/delete", json!({ "password": "wrong password" })).await.refused(401),
        "ERROR_REASON_BAD_CREDENTIALS"
    );
    bob.post("/v1/me/delete", json!({ "password": PASSWORD })).await.ok();

    assert_eq!(bob.get("/v1/me").await.status, 401);
    let removed = screen.next_event("memberRemoved").await;
    assert_eq!(removed["memberRemoved"]["reason"], json!("REMOVAL_REASON_USER_DELETED"));
    let members = ann.get(&format!("/v1/conversations/{conversation}")).await.ok();
    assert_eq!(number(&members["conversation"]["memberCount"]), 1);
    let gone = ann.get(&format!("/v1/users/{}", bob.id)).await;
    assert!(!gone.body.to_string().contains(&bob.username), "{}", gone.body);
    let login = json!({ "login": bob.username, "password": PASSWORD });
    assert_eq!(ann.post("/v1/auth/login", login).await.refused(401), "ERROR_REASON_BAD_CREDENTIALS");
}

async fn a_changed_name_is_seen_by_others(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    ann.says(&conversation, "hello").await;
    let (mut at_ann, mut at_bob) = (ann.comes_online().await, bob.comes_online().await);
    let changes = json!({ "user": { "displayName": "Ann B." }, "updateMask": "displayName" });
    ann.patch("/v1/me", changes).await.ok();
    // The other devices of Ann hear of it, and so do those she is in conversations with.
    at_ann.next_user_event("profileChanged").await;
    let signal = at_bob.next_of("signal").await;
    assert_eq!((&signal["userId"], &signal["conversationId"]), (&json!(ann.id), &json!(conversation)));
    assert_eq!(signal["kind"], json!("SIGNAL_KIND_PROFILE_CHANGED"));
    assert_eq!(bob.get(&format!("/v1/users/{}", ann.id)).await.ok()["user"]["displayName"], json!("Ann B."));
    let unknown = json!({ "user": { "displayName": "x" }, "updateMask": "userId" });
    let refused = ann.patch("/v1/me", unknown).await;
    assert_eq!(refused.body["fields"][0]["field"], json!("update_mask"));
}
