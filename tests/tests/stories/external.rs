//! Accounts that stand for names in other systems.

use std::sync::Arc;

use proto::auth::v1::user_service_client::UserServiceClient;
use proto::auth::v1::{GetUserRequest, UserKind};
use serde_json::json;
use tests::person::{Person, number, text};
use tests::{World, waiting};
use tonic::transport::Channel;

tests::stories![
    a_name_in_another_system_is_one_account,
    an_external_account_talks_and_takes_no_account,
    an_external_account_that_goes_gives_its_name_back,
    a_guest_is_found_again_by_a_name,
    an_anonymous_viewer_sees_a_user_without_the_profile,
];

fn of(world: &World, answer: proto::auth::v1::LoginAsExternalAccountResponse) -> Person {
    Person::signed_in(world.gateway(), answer.user, answer.grant)
}

async fn a_name_in_another_system_is_one_account(world: Arc<World>) {
    let name = format!("Ann {}", proto::id::EventId::generate());
    let answers = futures_util::future::join_all(
        (0..6).map(|_| world.logs_in_external("stories", &name, UserKind::External)),
    )
    .await;
    assert_eq!(answers.iter().filter(|answer| answer.created).count(), 1);
    let people: Vec<Person> = answers.into_iter().map(|answer| of(&world, answer)).collect();
    assert!(people.iter().all(|person| person.id == people[0].id), "{people:?}");
    for person in &people {
        let me = person.get("/v1/me").await.ok()["user"].clone();
        assert_eq!((&me["userId"], &me["kind"]), (&json!(people[0].id), &json!("USER_KIND_EXTERNAL")));
        assert_eq!(me["externalAccount"], json!({ "namespace": "stories", "name": name }));
    }
    let elsewhere = of(&world, world.logs_in_external("elsewhere", &name, UserKind::External).await);
    assert_ne!(elsewhere.id, people[0].id);
}

async fn an_external_account_talks_and_takes_no_account(world: Arc<World>) {
    let (ann, bob) = (world.external("stories", "ann").await, world.external("stories", "bob").await);
    let room = ann.opens_room("a room of two").await;
    bob.post(&format!("/v1/conversations/{room}/join"), json!({})).await.ok();
    bob.says(&room, "hello").await;
    assert_eq!(ann.reads(&room).await, [Some("hello".to_owned())]);
    let seen = ann.get(&format!("/v1/users/{}", bob.id)).await.ok()["user"].clone();
    assert_eq!(seen["externalAccount"]["name"], json!(bob.name));

    let change = json!({ "oldPassword": "x", "newPassword": "something longer" });
    assert_eq!(ann.post("/v1/me/password", change).await.refused(409), "ERROR_REASON_GUEST_ACCOUNT");
    let email = json!({ "user": { "email": "ann@example.org" }, "updateMask": "email" });
    assert_eq!(ann.patch("/v1/me", email).await.refused(409), "ERROR_REASON_GUEST_ACCOUNT");
    let request = ann.post(&format!("/v1/users/{}/connection", bob.id), json!({})).await;
    assert_eq!(request.refused(409), "ERROR_REASON_GUEST_ACCOUNT");
    let carl = world.person("carl").await;
    let request = carl.post(&format!("/v1/users/{}/connection", bob.id), json!({})).await;
    assert_eq!(request.refused(404), "ERROR_REASON_USER_NOT_FOUND");
    let listed = carl.get(&format!("/v1/users?keyword={}", bob.name)).await.ok();
    assert!(!listed.to_string().contains(&bob.id), "{listed}");
}

async fn an_external_account_that_goes_gives_its_name_back(world: Arc<World>) {
    let (ann, bob) = (world.external("stories", "ann").await, world.external("stories", "bob").await);
    let room = ann.opens_room("a room of two").await;
    bob.post(&format!("/v1/conversations/{room}/join"), json!({})).await.ok();
    bob.post("/v1/me/delete", json!({})).await.ok();
    assert_eq!(bob.get("/v1/me").await.status, 401);
    waiting::until("the member to be gone", || async {
        let read = ann.get(&format!("/v1/conversations/{room}")).await.ok();
        (number(&read["conversation"]["memberCount"]) == 1).then_some(())
    })
    .await;
    let answer = world.logs_in_external("stories", &bob.name, UserKind::External).await;
    assert!(answer.created);
    assert_ne!(of(&world, answer).id, bob.id);
}

async fn a_guest_is_found_again_by_a_name(world: Arc<World>) {
    let address = proto::id::EventId::generate().to_string();
    let first = world.logs_in_external("stories", &address, UserKind::Guest).await;
    let second = world.logs_in_external("stories", &address, UserKind::Guest).await;
    assert_eq!((first.created, second.created), (true, false));
    let (first, second) = (of(&world, first), of(&world, second));
    assert_eq!(first.id, second.id);
    let ann = world.person("ann").await;
    for person in [&ann, &first, &second] {
        let seen = person.get(&format!("/v1/users/{}", first.id)).await.ok();
        assert_eq!(seen["user"]["kind"], json!("USER_KIND_GUEST"));
        assert!(!seen.to_string().contains(&address), "{seen}");
    }
    // A guest goes with its last session.
    second.post("/v1/auth/logout", json!({})).await.ok();
    assert_eq!(text(&first.get("/v1/me").await.ok()["user"]["userId"]), first.id);
}

async fn an_anonymous_viewer_sees_a_user_without_the_profile(world: Arc<World>) {
    let ann = world.person("Ann").await;
    let changes = json!({ "user": { "bio": "likes tea" }, "updateMask": "bio" });
    ann.patch("/v1/me", changes).await.ok();
    let channel = Channel::from_shared(format!("http://{}", world.grpc("auth"))).expect("an address");
    let mut users = UserServiceClient::new(channel.connect().await.expect("a channel"));
    let request = world.as_gateway(GetUserRequest { user_id: ann.id.clone() });
    let seen = users.get_user(request).await.expect("an answer").into_inner().user.expect("a user");
    let expected = proto::auth::v1::User {
        user_id: ann.id.clone(),
        kind: UserKind::Registered.into(),
        display_name: "Ann".to_owned(),
        ..Default::default()
    };
    assert_eq!(seen, expected);
}
