//! Addresses that accounts claim: what is told about them, and to whom.

use serde_json::Value;

use super::otps::{VAULT, ask, code, in_production, no_server, other_than, otps, prove, reset, verify};
use super::*;
use crate::errand::{Errand, Kind, Task};
use crate::store::Store;
use crate::vault::Vault;

/// A world with a mail server to send to and no task that sends: what is to be sent stays where it is.
async fn with_mails(database: Database) -> (World, Store) {
    let store = Store::new(&database);
    let config = Config { mail: no_server(), vault: in_production().vault, ..config() };
    let world = World::start(database, config).await;
    assert!(world.unit.tasks.stop(Duration::from_secs(5)).await);
    (world, store)
}

/// Takes the mails that are to be sent, and what they say.
async fn mails(store: &Store) -> Vec<(Errand, Value)> {
    let later = START.plus(Duration::from_secs(1));
    let errands = store.claim_errands(Kind::Mail, later, Duration::from_secs(60), 100).await.unwrap();
    let mut mails = Vec::new();
    for errand in errands {
        store.finish_errand(&errand).await.unwrap();
        let Some(Task::Mail(letter)) = errand.open(&Vault::new(VAULT.as_bytes())) else {
            panic!("no letter")
        };
        mails.push((errand, serde_json::to_value(letter).unwrap()));
    }
    mails
}

fn registration(username: &str, email: &str) -> pb::RegisterRequest {
    pb::RegisterRequest {
        username: username.to_owned(),
        password: PASSWORD.to_owned(),
        email: email.to_owned(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_a_reset_does_the_same_with_and_without_an_account_on_sqlite() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    a_request_for_a_reset_does_the_same_with_and_without_an_account(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_a_reset_does_the_same_with_and_without_an_account_on_postgres() {
    let Some((database, _scratch)) = testing::postgres(&MIGRATOR, "auth").await else { return };
    a_request_for_a_reset_does_the_same_with_and_without_an_account(database).await;
}

async fn a_request_for_a_reset_does_the_same_with_and_without_an_account(database: Database) {
    let (mut world, store) = with_mails(database).await;
    world.register("ann").await;
    mails(&store).await;
    let mut seen = Vec::new();
    for (email, is_read) in [("ann@example.org", true), ("nobody@example.org", false)] {
        let purpose = pb::OtpPurpose::ResetPassword;
        let issued = otps(&world).generate_otp(ask(email, purpose)).await.unwrap().into_inner();
        // One mail is written down in either case; nothing is sent while the request waits.
        let queued = mails(&store).await;
        let [(errand, letter)] = queued.as_slice() else { panic!("{queued:?}") };
        assert_eq!((&letter["to"], &letter["has_reader"]), (&email.into(), &is_read.into()));
        // A code is kept in either case, and takes as many tries.
        let mut refusals = Vec::new();
        for _ in 0..6 {
            let wrong = reset(email, &other_than(&issued.code), "a new password");
            let fault = Fault::of(&otps(&world).reset_password(wrong).await.unwrap_err());
            refusals.push((fault.reason().to_owned(), fault.text()));
        }
        let (kind, attempts, expire_time) = (errand.kind, errand.attempts, errand.expire_time);
        seen.push((issued.expire_time, issued.code_length, kind, attempts, expire_time, refusals));
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registering_says_the_same_of_a_taken_address_and_its_owner_is_told_on_sqlite() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    registering_says_the_same_of_a_taken_address_and_its_owner_is_told(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registering_says_the_same_of_a_taken_address_and_its_owner_is_told_on_postgres() {
    let Some((database, _scratch)) = testing::postgres(&MIGRATOR, "auth").await else { return };
    registering_says_the_same_of_a_taken_address_and_its_owner_is_told(database).await;
}

async fn registering_says_the_same_of_a_taken_address_and_its_owner_is_told(database: Database) {
    let (mut world, store) = with_mails(database).await;
    world.register("ann").await;
    prove(&world, "ann@example.org").await;
    mails(&store).await;
    let mut people = Vec::new();
    for (name, email, is_read) in [("eve", "ANN@example.org", true), ("bob", "bob@example.org", false)] {
        let answer = world.auth.register(registration(name, email)).await.unwrap().into_inner();
        let person = Person::from(answer.user, answer.grant);
        assert_eq!((person.user.email.as_str(), person.user.email_verified), (email, false));
        let queued = mails(&store).await;
        let [(_, letter)] = queued.as_slice() else { panic!("{queued:?}") };
        let to = if is_read { "ann@example.org" } else { email };
        assert_eq!((&letter["to"], &letter["has_reader"]), (&to.into(), &is_read.into()));
        let text = letter["text"].as_str().unwrap();
        assert!(text.starts_with(&format!("The account {name} gives this e-mail address")), "{text}");
        people.push(person);
    }
    // The same holds for one that changes its address.
    for (email, is_read) in [("ann@example.org", true), ("free@example.org", false)] {
        let user = pb::UserChanges { email: email.to_owned(), ..Default::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["email".to_owned()] });
        let request = pb::UpdateUserRequest { user: Some(user), update_mask, password: PASSWORD.to_owned() };
        let moved =
            world.users.update_user(people[1].asks(request)).await.unwrap().into_inner().user.unwrap();
        assert_eq!((moved.email.as_str(), moved.email_verified), (email, false));
        let notices: Vec<_> = mails(&store).await.into_iter().map(|(_, letter)| letter).collect();
        let notice = notices.iter().find(|letter| letter["to"] == email).expect("a notice");
        assert_eq!((notices.len(), &notice["has_reader"]), (2, &is_read.into()), "{notices:?}");
    }
    // The address stays where it is: one signs in with it, and gets codes for it.
    assert_eq!(world.login("ann@example.org", PASSWORD).await.unwrap().user.username, "ann");
    let to_reset = code(&world, "ann@example.org", pb::OtpPurpose::ResetPassword).await;
    otps(&world).reset_password(reset("ann@example.org", &to_reset, "a new password")).await.unwrap();
    world.login("ann", "a new password").await.unwrap();
    world.login("eve", PASSWORD).await.unwrap();
    // Only the reader of the mails learns that the address is taken.
    let named = pb::GenerateOtpRequest {
        username: "eve".to_owned(),
        ..ask("ann@example.org", pb::OtpPurpose::VerifyEmail)
    };
    let to_verify = otps(&world).generate_otp(named).await.unwrap().into_inner().code;
    let wrong = otps(&world).verify_otp(verify("ann@example.org", &other_than(&to_verify))).await;
    assert_refused(wrong, Code::InvalidArgument, "OTP_INVALID");
    let refused = otps(&world).verify_otp(verify("ann@example.org", &to_verify)).await;
    assert_refused(refused, Code::AlreadyExists, "EMAIL_TAKEN");
}

#[tokio::test]
async fn of_several_who_claim_an_address_the_named_one_verifies_it() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let (mut world, store) = with_mails(database).await;
    let email = "ann@example.org";
    world.auth.register(registration("eve", email)).await.unwrap();
    let ann = world.register("ann").await;
    mails(&store).await;
    for purpose in [pb::OtpPurpose::VerifyEmail, pb::OtpPurpose::ResetPassword] {
        let digits = code(&world, email, purpose).await;
        let queued = mails(&store).await;
        let [(_, letter)] = queued.as_slice() else { panic!("{queued:?}") };
        assert_eq!((&letter["to"], &letter["has_reader"]), (&email.into(), &true.into()));
        let text = letter["text"].as_str().unwrap();
        assert!(text.contains("give the username") && !text.contains(&digits), "{text}");
        let refused = match purpose {
            pb::OtpPurpose::VerifyEmail => otps(&world).verify_otp(verify(email, &digits)).await.map(drop),
            _ => otps(&world).reset_password(reset(email, &digits, "a new password")).await.map(drop),
        };
        assert_refused(refused, Code::InvalidArgument, "OTP_INVALID");
    }
    let named =
        pb::GenerateOtpRequest { username: "Ann".to_owned(), ..ask(email, pb::OtpPurpose::VerifyEmail) };
    let digits = otps(&world).generate_otp(named).await.unwrap().into_inner().code;
    let queued = mails(&store).await;
    assert!(queued[0].1["text"].as_str().unwrap().contains("for the account ann"), "{queued:?}");
    otps(&world).verify_otp(verify(email, &digits)).await.unwrap();
    let me = world.users.get_me(ann.asks(pb::GetMeRequest {})).await.unwrap().into_inner().user.unwrap();
    assert!(me.email_verified);
    assert_eq!(world.login(email, PASSWORD).await.unwrap().user.username, "ann");
}

#[tokio::test]
async fn development_refuses_a_claimed_address_on_request_and_production_never_does() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    world.register("ann").await;
    let request = |name: &str, email: &str| pb::RegisterRequest {
        require_unclaimed_email: true,
        ..registration(name, email)
    };
    let refused = world.auth.register(request("eve", "ANN@example.org")).await;
    assert_refused(refused, Code::AlreadyExists, "EMAIL_TAKEN");
    world.auth.register(request("bob", "bob@example.org")).await.unwrap();

    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let mut world = World::start_in(Profile::Production, database, in_production(), START).await;
    let refused = world.auth.register(request("bob", "bob@example.org")).await;
    let fault = assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fault.fields()[0].0, "require_unclaimed_email");
}

#[tokio::test]
async fn an_address_is_found_by_nobody_who_has_no_account() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (ann, bob, guest) = (world.register("ann").await, world.register("bob").await, world.guest().await);
    prove(&world, "ann@example.org").await;
    let search = || pb::ListUsersRequest { email: "ANN@example.org".to_owned(), ..Default::default() };
    assert_eq!(world.found(&bob, search()).await.unwrap(), [""; 0]);
    let changes = pb::UserChanges { found_by_email: true, ..Default::default() };
    let own = world.update(&ann, &["found_by_email"], changes).await.unwrap();
    assert!(own.found_by_email && !world.seen(&bob, &ann).await.found_by_email);
    assert_eq!(world.found(&bob, search()).await.unwrap(), ["ann"]);
    assert_refused(world.found(&guest, search()).await, Code::FailedPrecondition, "GUEST_ACCOUNT");
}
