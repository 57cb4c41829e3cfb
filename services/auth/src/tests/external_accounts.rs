//! External accounts through the door of auth, and the users that the gateway sees for an anonymous viewer.

use tokio::task::JoinSet;

use super::*;

fn login(name: &str, kind: pb::UserKind) -> pb::LoginAsExternalAccountRequest {
    pb::LoginAsExternalAccountRequest {
        namespace: "allo".to_owned(),
        name: name.to_owned(),
        kind: kind.into(),
        ..Default::default()
    }
}

impl World {
    async fn external(
        &mut self,
        request: pb::LoginAsExternalAccountRequest,
    ) -> Result<(Person, bool), Status> {
        let request = as_service(request, &self.gateway, None);
        let answer = self.auth.login_as_external_account(request).await?.into_inner();
        Ok((Person::from(answer.user, answer.grant), answer.created))
    }

    async fn ann(&mut self) -> Person {
        self.external(login("ann", pb::UserKind::External)).await.unwrap().0
    }

    /// What the gateway sees of users for an anonymous viewer.
    async fn public(&mut self, people: &[&Person]) -> Vec<pb::User> {
        let user_ids = people.iter().map(|person| person.user.user_id.clone()).collect();
        let request = pb::BatchGetUsersRequest { user_ids, usernames: Vec::new() };
        let request = as_service(request, &self.gateway, None);
        self.users.batch_get_users(request).await.unwrap().into_inner().users
    }
}

fn external(name: &str) -> Option<pb::ExternalAccount> {
    Some(pb::ExternalAccount { namespace: "allo".to_owned(), name: name.to_owned() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_gets_an_account_on_sqlite() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    a_name_gets_an_account(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_gets_an_account_on_postgres() {
    let Some((database, _scratch)) = testing::postgres(&MIGRATOR, "auth").await else { return };
    a_name_gets_an_account(database).await;
}

async fn a_name_gets_an_account(database: Database) {
    let mut world = World::start(database, config()).await;
    let (ann, created) = world.external(login("Ann \u{202E}B", pb::UserKind::External)).await.unwrap();
    assert!(created);
    assert_eq!(ann.user.kind(), pb::UserKind::External);
    assert_eq!((ann.user.display_name.as_str(), ann.user.username.as_str()), ("Ann B", ""));
    assert_eq!(ann.user.external_account, external("Ann \u{202E}B"));
    let known = world.introspect(&ann.token).await.unwrap();
    assert_eq!((known.user_id.as_str(), known.kind()), (ann.user.user_id.as_str(), pb::UserKind::External));

    // The same name is the same account, whatever name people are to see; another one is another.
    let again = pb::LoginAsExternalAccountRequest {
        display_name: "Other".to_owned(),
        ..login("Ann \u{202E}B", pb::UserKind::External)
    };
    let (again, created) = world.external(again).await.unwrap();
    assert_eq!((again.user, created), (ann.user.clone(), false));
    assert_ne!(again.token, ann.token);
    let named = pb::LoginAsExternalAccountRequest {
        display_name: " Bob ".to_owned(),
        ..login("ann", pb::UserKind::External)
    };
    let (other, created) = world.external(named).await.unwrap();
    assert!(created && other.user.user_id != ann.user.user_id);
    assert_eq!(other.user.display_name, "Bob");
    // A name of which nothing can be shown gets one that is made up.
    let (blank, _) = world.external(login(" ", pb::UserKind::External)).await.unwrap();
    assert!(blank.user.display_name.starts_with("guest-"), "{}", blank.user.display_name);
    assert_eq!(blank.user.external_account, external(" "));

    // Calls at the same time make one account.
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let (mut auth, credential) = (world.auth.clone(), world.gateway.clone());
        calls.spawn(async move {
            let request = as_service(login("crowd", pb::UserKind::External), &credential, None);
            let answer = auth.login_as_external_account(request).await.unwrap().into_inner();
            (answer.user.unwrap().user_id, answer.created)
        });
    }
    let crowd = calls.join_all().await;
    assert!(crowd.iter().all(|(id, _)| *id == crowd[0].0), "{crowd:?}");
    assert_eq!(crowd.iter().filter(|(_, created)| *created).count(), 1);

    // Everybody who sees the user sees the name; a service learns the kind and the namespace.
    let reg = world.register("reg").await;
    let request = pb::GetUserRequest { user_id: ann.user.user_id.clone() };
    let seen = world.users.get_user(reg.asks(request.clone())).await.unwrap().into_inner().user.unwrap();
    assert_eq!((seen.kind(), seen.external_account), (pb::UserKind::External, external("Ann \u{202E}B")));
    let by = UserId::parse(&reg.user.user_id).unwrap();
    let batch = pb::BatchGetUsersRequest { user_ids: vec![request.user_id.clone()], usernames: Vec::new() };
    let batch = world.users.batch_get_users(as_service(batch, &world.messaging, Some(by))).await.unwrap();
    let batch = batch.into_inner().users.remove(0);
    assert_eq!(
        (batch.kind(), batch.external_account.unwrap().namespace.as_str()),
        (pb::UserKind::External, "allo")
    );

    // It goes like any other, and the name is free for a new account.
    world.auth.logout(other.asks(pb::LogoutRequest {})).await.unwrap();
    world.users.delete_user(ann.asks(pb::DeleteUserRequest::default())).await.unwrap();
    let (next, created) = world.external(login("Ann \u{202E}B", pb::UserKind::External)).await.unwrap();
    assert!(created && next.user.user_id != ann.user.user_id);
    assert!(!world.external(login("ann", pb::UserKind::External)).await.unwrap().1);
}

#[tokio::test]
async fn an_external_account_has_no_way_in_of_its_own() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let ann = world.ann().await;
    let change =
        pb::ChangePasswordRequest { old_password: "x".to_owned(), new_password: "a new password".to_owned() };
    assert_refused(
        world.auth.change_password(ann.asks(change)).await,
        Code::FailedPrecondition,
        "GUEST_ACCOUNT",
    );
    let links = ann.asks(pb::ListLinkedProvidersRequest {});
    assert_refused(world.auth.list_linked_providers(links).await, Code::FailedPrecondition, "GUEST_ACCOUNT");
    let email = pb::UserChanges { email: "ann@example.org".to_owned(), ..Default::default() };
    assert_refused(world.update(&ann, &["email"], email).await, Code::FailedPrecondition, "GUEST_ACCOUNT");
    let changes = pb::UserChanges { display_name: "Ann".to_owned(), ..Default::default() };
    let changed = world.update(&ann, &["display_name", "email"], changes).await.unwrap();
    assert_eq!((changed.display_name.as_str(), changed.email.as_str()), ("Ann", ""));

    let listed = world.users.list_users(ann.asks(pb::ListUsersRequest::default())).await.unwrap();
    assert!(listed.into_inner().users.is_empty());
    let kind = pb::ListUsersRequest { kind: pb::UserKind::External.into(), ..Default::default() };
    let refused = world.users.list_users(ann.asks(kind)).await;
    let fault = assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fault.fields()[0].0, "kind");
}

#[tokio::test]
async fn a_guest_with_a_name_is_an_ordinary_guest_and_shows_no_name() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (guest, created) = world.external(login("203.0.113.7", pb::UserKind::Guest)).await.unwrap();
    assert!(created && guest.user.kind() == pb::UserKind::Guest);
    let (again, created) = world.external(login("203.0.113.7", pb::UserKind::Guest)).await.unwrap();
    assert!(!created && again.user.user_id == guest.user.user_id);
    let refused = world.external(login("203.0.113.7", pb::UserKind::External)).await;
    let fault = assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fault.fields()[0].0, "kind");

    // The name may be an address of the network, and is never shown.
    let ann = world.register("ann").await;
    let request = pb::GetUserRequest { user_id: guest.user.user_id.clone() };
    let seen = world.users.get_user(ann.asks(request)).await.unwrap().into_inner().user.unwrap();
    let public = world.public(&[&guest]).await.remove(0);
    for user in [&guest.user, &seen, &public] {
        assert_eq!(user.external_account, None);
    }
    let listed = pb::ListExternalAccountsRequest { namespace: "allo".to_owned(), ..Default::default() };
    let listed = world.auth.list_external_accounts(as_service(listed, &world.gateway, None)).await.unwrap();
    assert!(listed.into_inner().users.is_empty());
}

#[tokio::test]
async fn an_anonymous_viewer_sees_who_wrote_and_nothing_of_the_profile() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (bob, ann) = (world.register("bob").await, world.ann().await);
    let user = pb::UserChanges {
        display_name: "Bob".to_owned(),
        bio: "likes tea".to_owned(),
        picture_url: "https://example.org/bob.png".to_owned(),
        ..Default::default()
    };
    world.update(&bob, &["display_name", "bio", "picture_url"], user).await.unwrap();
    let expected = pb::User {
        user_id: bob.user.user_id.clone(),
        kind: pb::UserKind::Registered.into(),
        display_name: "Bob".to_owned(),
        picture_url: "https://example.org/bob.png".to_owned(),
        ..Default::default()
    };
    let anns = pb::User {
        user_id: ann.user.user_id.clone(),
        kind: pb::UserKind::External.into(),
        display_name: "ann".to_owned(),
        external_account: external("ann"),
        ..Default::default()
    };
    assert_eq!(world.public(&[&ann, &bob]).await, [anns.clone(), expected.clone()]);
    let request = pb::GetUserRequest { user_id: bob.user.user_id.clone() };
    let alone = world.users.get_user(as_service(request.clone(), &world.gateway, None)).await.unwrap();
    assert_eq!(alone.into_inner().user, Some(expected));

    // A username, which is not shown, finds no user; and the gateway never acts for a user.
    let named = pb::BatchGetUsersRequest { user_ids: Vec::new(), usernames: vec!["bob".to_owned()] };
    let refused = world.users.batch_get_users(as_service(named, &world.gateway, None)).await;
    let fault = assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fault.fields()[0].0, "usernames");
    let by = UserId::parse(&ann.user.user_id).unwrap();
    let refused = world.users.get_user(as_service(request.clone(), &world.gateway, Some(by))).await;
    assert_refused(refused, Code::PermissionDenied, "NOT_ADMITTED");
    let refused = world.users.get_user(as_service(request.clone(), &world.messaging, None)).await;
    assert_refused(refused, Code::PermissionDenied, "NOT_ADMITTED");
    let me = as_service(pb::GetMeRequest {}, &world.gateway, None);
    assert_refused(world.users.get_me(me).await, Code::PermissionDenied, "NOT_ADMITTED");
    assert_refused(world.users.get_user(request).await, Code::Unauthenticated, "UNAUTHENTICATED");

    // Of a deleted user the id and the time are left.
    world.users.delete_user(ann.asks(pb::DeleteUserRequest::default())).await.unwrap();
    let gone = pb::User { user_id: anns.user_id, delete_time: Some(START.to_proto()), ..Default::default() };
    assert_eq!(world.public(&[&ann]).await, [gone]);
}

#[tokio::test]
async fn external_accounts_are_listed_by_namespace_in_pages() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    for name in ["c", "a", "b"] {
        world.external(login(name, pb::UserKind::External)).await.unwrap();
    }
    let other = pb::LoginAsExternalAccountRequest {
        namespace: "chats".to_owned(),
        ..login("a", pb::UserKind::External)
    };
    world.external(other).await.unwrap();
    let mut request =
        pb::ListExternalAccountsRequest { namespace: "allo".to_owned(), page_size: 2, ..Default::default() };
    let mut names = Vec::new();
    loop {
        let answer = as_service(request.clone(), &world.gateway, None);
        let answer = world.auth.list_external_accounts(answer).await.unwrap().into_inner();
        assert!(answer.users.len() <= 2);
        names.extend(answer.users.into_iter().map(|user| user.external_account.unwrap().name));
        if answer.next_page_token.is_empty() {
            break;
        }
        request.page_token = answer.next_page_token;
    }
    assert_eq!(names, ["c", "a", "b"]);
    assert!(!request.page_token.is_empty());
    request.namespace = "chats".to_owned();
    let foreign = world.auth.list_external_accounts(as_service(request, &world.gateway, None)).await;
    assert_eq!(foreign.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn only_the_gateway_signs_in_external_accounts_and_only_where_they_are_enabled() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let request = login("ann", pb::UserKind::External);
    let refused = world.auth.login_as_external_account(request.clone()).await;
    assert_refused(refused, Code::Unauthenticated, "UNAUTHENTICATED");
    let bob = world.register("bob").await;
    let refused = world.auth.login_as_external_account(bob.asks(request.clone())).await;
    assert_refused(refused, Code::PermissionDenied, "NOT_ADMITTED");
    let other = as_service(request.clone(), &world.messaging, None);
    assert_refused(world.auth.login_as_external_account(other).await, Code::PermissionDenied, "NOT_ADMITTED");

    for (bad, field) in [
        (pb::LoginAsExternalAccountRequest { namespace: "Allo".to_owned(), ..request.clone() }, "namespace"),
        (login("a\nb", pb::UserKind::External), "name"),
        (login(&"x".repeat(129), pb::UserKind::External), "name"),
        (login("", pb::UserKind::External), "name"),
        (login("ann", pb::UserKind::Registered), "kind"),
        (login("ann", pb::UserKind::Unspecified), "kind"),
        (
            pb::LoginAsExternalAccountRequest { display_name: "a\u{202E}".to_owned(), ..request.clone() },
            "display_name",
        ),
    ] {
        let fault = assert_refused(world.external(bad).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(fault.fields()[0].0, field);
    }

    let off = Config { external_accounts: Some(false), ..config() };
    let (mut world, _scratch) = on_sqlite(off).await;
    let refused = world.external(request).await;
    assert_refused(refused, Code::FailedPrecondition, "EXTERNAL_ACCOUNTS_DISABLED");
}
