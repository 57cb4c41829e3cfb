//! Codes by e-mail, through the door, without a mail server: what the answers say and what they do not.

use chassis::identity::CLIENT_ADDRESS;
use proto::auth::v1::otp_service_client::OtpServiceClient;
use tokio::task::JoinSet;

use super::*;
use crate::errand::{Kind, Task};
use crate::vault::Vault;
use crate::{MailConfig, NetworksConfig, VaultConfig};

/// The otp service of a world.
pub(super) fn otps(world: &World) -> OtpServiceClient<Transport> {
    OtpServiceClient::new(Transport::local(world.unit.grpc.clone().unwrap()))
}

pub(super) fn ask(email: &str, purpose: pb::OtpPurpose) -> pb::GenerateOtpRequest {
    pb::GenerateOtpRequest { email: email.to_owned(), purpose: purpose.into(), ..Default::default() }
}

pub(super) fn verify(email: &str, code: &str) -> pb::VerifyOtpRequest {
    let purpose = pb::OtpPurpose::VerifyEmail.into();
    pb::VerifyOtpRequest { email: email.to_owned(), code: code.to_owned(), purpose, ..Default::default() }
}

pub(super) fn reset(email: &str, code: &str, new_password: &str) -> pb::ResetPasswordRequest {
    let [email, code, new_password] = [email, code, new_password].map(str::to_owned);
    pb::ResetPasswordRequest { email, code, new_password, ..Default::default() }
}

pub(super) async fn code(world: &World, email: &str, purpose: pb::OtpPurpose) -> String {
    otps(world).generate_otp(ask(email, purpose)).await.unwrap().into_inner().code
}

/// Proves an address of an account with a code.
pub(super) async fn prove(world: &World, email: &str) {
    let code = code(world, email, pb::OtpPurpose::VerifyEmail).await;
    otps(world).verify_otp(verify(email, &code)).await.unwrap();
}

/// Six digits that are not these.
pub(super) fn other_than(code: &str) -> String {
    format!("{:06}", (code.parse::<u32>().unwrap() + 1) % 1_000_000)
}

/// A request that comes from an address.
pub(super) fn from<T>(world: &World, address: &str, message: T) -> Request<T> {
    let mut request = as_service(message, &world.gateway, None);
    request.metadata_mut().insert(CLIENT_ADDRESS, address.parse().unwrap());
    request
}

async fn me(world: &mut World, person: &Person) -> pb::User {
    world.users.get_me(person.asks(pb::GetMeRequest {})).await.unwrap().into_inner().user.unwrap()
}

/// The secret of the vault.
pub(super) const VAULT: &str = "the secret of a vault for tests only";

/// A mail server that is away: a port where nobody listens.
pub(super) fn no_server() -> MailConfig {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    MailConfig {
        smtp_url: Some(format!("smtp://{}", listener.local_addr().unwrap())),
        from: Some("no-reply@example.org".to_owned()),
        ..MailConfig::default()
    }
}

/// What production wants of every configuration.
pub(super) fn in_production() -> Config {
    let vault = VaultConfig { secret: Some(Secret::new(VAULT)), secret_file: None };
    Config { registration_open: Some(true), vault, ..Config::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_on_sqlite() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    codes(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_on_postgres() {
    let Some((database, _scratch)) = testing::postgres(&MIGRATOR, "auth").await else { return };
    codes(database).await;
}

async fn codes(database: Database) {
    use pb::OtpPurpose::{ResetPassword, VerifyEmail};
    let mut world = World::start(database, config()).await;
    let (phone, bob) = (world.register("ann").await, world.register("bob").await);
    let laptop = world.login("ann", PASSWORD).await.unwrap();
    let mut service = otps(&world);
    assert!(!me(&mut world, &phone).await.email_verified);

    // The address is verified, whoever has the code; only the owner sees it.
    let answer = service.generate_otp(ask("ANN@example.org", VerifyEmail)).await.unwrap().into_inner();
    assert_eq!(answer.expire_time, Some(START.plus(Duration::from_secs(300)).to_proto()));
    let wrong = other_than(&answer.code);
    assert_refused(
        service.verify_otp(verify("ann@example.org", &wrong)).await,
        Code::InvalidArgument,
        "OTP_INVALID",
    );
    service.verify_otp(verify("ann@example.org", &answer.code)).await.unwrap();
    assert!(me(&mut world, &phone).await.email_verified);
    let get = bob.asks(pb::GetUserRequest { user_id: phone.user.user_id.clone() });
    assert!(!world.users.get_user(get).await.unwrap().into_inner().user.unwrap().email_verified);
    assert_refused(
        service.verify_otp(verify("ann@example.org", &answer.code)).await,
        Code::InvalidArgument,
        "OTP_INVALID",
    );

    // Another address is another matter.
    let user = pb::UserChanges { email: "ann@example.net".to_owned(), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["email".to_owned()] });
    let moved =
        phone.asks(pb::UpdateUserRequest { user: Some(user), update_mask, password: PASSWORD.to_owned() });
    let moved = world.users.update_user(moved).await.unwrap().into_inner().user.unwrap();
    assert!(!moved.email_verified && !me(&mut world, &phone).await.email_verified);

    // It takes the place of one that was verified: until it is verified too it sets no password.
    let refused = code(&world, "ann@example.net", ResetPassword).await;
    let refused = service.reset_password(reset("ann@example.net", &refused, "a new password")).await;
    assert_refused(refused, Code::InvalidArgument, "OTP_INVALID");
    let proof = code(&world, "ann@example.net", VerifyEmail).await;
    service.verify_otp(verify("ann@example.net", &proof)).await.unwrap();

    // A code for one thing is none for another.
    let to_reset = code(&world, "ann@example.net", ResetPassword).await;
    assert_refused(
        service.verify_otp(verify("ann@example.net", &to_reset)).await,
        Code::InvalidArgument,
        "OTP_INVALID",
    );
    let misled =
        pb::VerifyOtpRequest { purpose: ResetPassword.into(), ..verify("ann@example.net", &to_reset) };
    let fault = assert_refused(service.verify_otp(misled).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fault.fields()[0].0, "purpose");

    // A password that is refused does not use up the code.
    for (password, expected) in
        [("password123", "WEAK_PASSWORD"), ("i am Ann!", "WEAK_PASSWORD"), ("short", "INVALID_FIELD")]
    {
        let refused = service.reset_password(reset("ann@example.net", &to_reset, password)).await;
        assert_refused(refused, Code::InvalidArgument, expected);
    }
    let (mut ended, _subscription) = world.hints(subject::SESSIONS_ENDED).await;
    service.reset_password(reset("ann@example.net", &to_reset, "a new password")).await.unwrap();
    let hint = pb::SessionsEnded::decode(ended.recv().await.unwrap().payload).unwrap();
    assert_eq!((hint.user_id, hint.session_ids), (phone.user.user_id.clone(), vec![]));
    for person in [&phone, &laptop] {
        assert_eq!(world.introspect(&person.token).await, None);
    }
    assert!(world.introspect(&bob.token).await.is_some());
    assert_refused(world.login("ann", PASSWORD).await, Code::Unauthenticated, "BAD_CREDENTIALS");
    let phone = world.login("ann", "a new password").await.unwrap();
    assert!(me(&mut world, &phone).await.email_verified);
    let again = service.reset_password(reset("ann@example.net", &to_reset, "another password")).await;
    assert_refused(again, Code::InvalidArgument, "OTP_INVALID");

    // A code ends by itself.
    let late = code(&world, "bob@example.org", VerifyEmail).await;
    world.clock.advance(Duration::from_secs(300));
    assert_refused(
        service.verify_otp(verify("bob@example.org", &late)).await,
        Code::InvalidArgument,
        "OTP_INVALID",
    );
    assert!(world.unit.tasks.stop(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_guesses_has_five_tries_however_many_come_at_once() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    world.register("ann").await;
    let right = code(&world, "ann@example.org", pb::OtpPurpose::VerifyEmail).await;
    let mut guesses = JoinSet::new();
    for _ in 0..20 {
        let (mut service, wrong) = (otps(&world), other_than(&right));
        guesses.spawn(async move { service.verify_otp(verify("ann@example.org", &wrong)).await });
    }
    for refused in guesses.join_all().await {
        assert_refused(refused, Code::InvalidArgument, "OTP_INVALID");
    }
    let late = otps(&world).verify_otp(verify("ann@example.org", &right)).await;
    assert_refused(late, Code::InvalidArgument, "OTP_INVALID");
}

#[tokio::test]
async fn nobody_learns_who_has_an_account_from_asking_for_codes() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    world.register("ann").await;
    let mut service = otps(&world);
    for purpose in [pb::OtpPurpose::VerifyEmail, pb::OtpPurpose::ResetPassword] {
        let mut said = Vec::new();
        for email in ["ann@example.org", "nobody@example.org"] {
            let issued = service.generate_otp(ask(email, purpose)).await.unwrap().into_inner();
            assert_eq!(issued.code.len(), 6);
            let wrong = other_than(&issued.code);
            let refused = match purpose {
                pb::OtpPurpose::VerifyEmail => service.verify_otp(verify(email, &wrong)).await.map(drop),
                _ => service.reset_password(reset(email, &wrong, "a new password")).await.map(drop),
            };
            for _ in 0..2 {
                service.generate_otp(ask(email, purpose)).await.unwrap();
            }
            let limited = service.generate_otp(ask(email, purpose)).await.unwrap_err();
            let fault = Fault::of(&limited);
            assert_eq!(fault.reason(), "ERROR_REASON_RATE_LIMITED");
            let wrong = Fault::of(&refused.unwrap_err());
            said.push((wrong.reason().to_owned(), wrong.text(), issued.expire_time, fault.wait()));
        }
        assert_eq!(said[0], said[1]);
        assert_eq!(said[0].3, Some(Duration::from_secs(900)));
    }
    // The code for an address that nobody has is never right.
    world.clock.advance(Duration::from_secs(900));
    let code = code(&world, "nobody@example.org", pb::OtpPurpose::VerifyEmail).await;
    let refused = service.verify_otp(verify("nobody@example.org", &code)).await;
    assert_refused(refused, Code::InvalidArgument, "OTP_INVALID");
}

#[tokio::test]
async fn what_is_no_address_code_or_purpose_is_named() {
    let (world, _scratch) = on_sqlite(config()).await;
    let mut service = otps(&world);
    let field = |fault: Fault| fault.fields()[0].0.clone();
    for (email, purpose, wrong) in [
        ("nobody", pb::OtpPurpose::VerifyEmail, "email"),
        ("", pb::OtpPurpose::VerifyEmail, "email"),
        ("ann@example.org\r\nBcc: eve@example.org", pb::OtpPurpose::VerifyEmail, "email"),
        ("ann@example.org", pb::OtpPurpose::Unspecified, "purpose"),
    ] {
        let refused = service.generate_otp(ask(email, purpose)).await;
        assert_eq!(field(assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD")), wrong);
    }
    for code in ["", "12345", "1234567", "12345x"] {
        let refused = service.verify_otp(verify("ann@example.org", code)).await;
        assert_eq!(field(assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD")), "code");
    }
}

#[tokio::test]
async fn production_without_a_mail_server_says_so_and_keeps_nothing() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let store = crate::store::Store::new(&database);
    let world = World::start_in(Profile::Production, database, in_production(), START).await;
    // More often than there are codes: nothing is counted either.
    for _ in 0..5 {
        let refused = otps(&world).generate_otp(ask("ann@example.org", pb::OtpPurpose::VerifyEmail)).await;
        assert_refused(refused, Code::FailedPrecondition, "MAIL_NOT_CONFIGURED");
    }
    let later = START.plus(Duration::from_secs(86_400));
    assert_eq!(store.sweep_codes(later, 10).await.unwrap(), 0);
    assert_eq!(store.sweep_errands(later, 10).await.unwrap(), 0);
}

#[tokio::test]
async fn production_tells_codes_to_nobody_but_the_mail_server() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let config = Config { mail: no_server(), ..in_production() };
    let mut world = World::start_in(Profile::Production, database, config, START).await;
    world.register("ann").await;
    let mut said = Vec::new();
    for email in ["ann@example.org", "nobody@example.org"] {
        let answer = otps(&world).generate_otp(ask(email, pb::OtpPurpose::VerifyEmail)).await.unwrap();
        said.push(answer.into_inner());
    }
    assert_eq!((said[0].clone(), said[0].code.as_str()), (said[1].clone(), ""));
}

#[tokio::test]
async fn a_network_that_knocks_too_often_waits() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let networks = NetworksConfig { burst: 3.try_into().unwrap(), refill: Duration::from_secs(30) };
    let world =
        World::start_in(Profile::Production, database, Config { networks, ..in_production() }, START).await;
    let guess = async |address: &str, name: usize| {
        let message = verify(&format!("somebody{name}@example.org"), "123456");
        otps(&world).verify_otp(from(&world, address, message)).await
    };
    for name in 0..3 {
        assert_refused(guess("203.0.113.7", name).await, Code::InvalidArgument, "OTP_INVALID");
    }
    // The whole network, whatever the address that is tried; and no other network.
    let fault = assert_refused(guess("203.0.113.8", 9).await, Code::ResourceExhausted, "RATE_LIMITED");
    assert_eq!(fault.wait(), Some(Duration::from_secs(30)));
    assert_refused(guess("198.51.100.7", 9).await, Code::InvalidArgument, "OTP_INVALID");
    world.clock.advance(Duration::from_secs(30));
    assert_refused(guess("203.0.113.7", 9).await, Code::InvalidArgument, "OTP_INVALID");
}

/// Strangers from many networks ask for codes for an address and try each flow that they can name, as often as they may.
async fn pester(world: &World, email: &str) {
    let mut service = otps(world);
    for network in 1..=20 {
        let address = format!("192.0.{network}.7");
        for _ in 0..3 {
            let asked = from(world, &address, ask(email, pb::OtpPurpose::ResetPassword));
            service.generate_otp(asked).await.unwrap();
        }
        let asked = from(world, &address, ask(email, pb::OtpPurpose::ResetPassword));
        assert_refused(service.generate_otp(asked).await, Code::ResourceExhausted, "RATE_LIMITED");
        for _ in 0..6 {
            let guess = from(world, &address, reset(email, "000000", "a new password"));
            assert_refused(service.reset_password(guess).await, Code::InvalidArgument, "OTP_INVALID");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_keep_no_owner_from_a_password_reset_on_sqlite() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    strangers_keep_no_owner_from_a_password_reset(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_keep_no_owner_from_a_password_reset_on_postgres() {
    let Some((database, _scratch)) = testing::postgres(&MIGRATOR, "auth").await else { return };
    strangers_keep_no_owner_from_a_password_reset(database).await;
}

async fn strangers_keep_no_owner_from_a_password_reset(database: Database) {
    const HOME: &str = "198.51.100.7";
    let mut world = World::start(database, config()).await;
    world.register("ann").await;
    let (email, purpose) = ("ann@example.org", pb::OtpPurpose::ResetPassword);
    let mut service = otps(&world);
    // A code that the owner has keeps its worth, ...
    let before = service.generate_otp(from(&world, HOME, ask(email, purpose))).await.unwrap().into_inner();
    assert_eq!((before.code.len(), before.code_length, before.flow_id.as_str()), (6, 6, ""));
    pester(&world, email).await;
    service.reset_password(from(&world, HOME, reset(email, &before.code, "a new password"))).await.unwrap();
    world.login("ann", "a new password").await.unwrap();

    // ... and after the strangers the owner gets another one, which is a token.
    world.clock.advance(Duration::from_secs(900));
    pester(&world, email).await;
    let asked = pb::GenerateOtpRequest { with_flow_id: true, ..ask(email, purpose) };
    let after = service.generate_otp(from(&world, HOME, asked)).await.unwrap().into_inner();
    assert_eq!((after.code.len(), after.code_length, after.flow_id.len()), (26, 26, 26));
    let with = |flow_id: &str| pb::ResetPasswordRequest {
        flow_id: flow_id.to_owned(),
        ..reset(email, &after.code, "another password")
    };
    // It is right with the id of its flow only, from whatever network.
    let other =
        service.generate_otp(pb::GenerateOtpRequest { with_flow_id: true, ..ask(email, purpose) }).await;
    for flow_id in ["", &other.unwrap().into_inner().flow_id] {
        let wrong = service.reset_password(from(&world, HOME, with(flow_id))).await;
        assert_refused(wrong, Code::InvalidArgument, "OTP_INVALID");
    }
    service.reset_password(from(&world, "203.0.113.7", with(&after.flow_id))).await.unwrap();
    world.login("ann", "another password").await.unwrap();
}

#[tokio::test]
async fn neighbours_in_a_network_do_not_end_a_flow_with_an_id() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    world.register("ann").await;
    let (email, purpose) = ("ann@example.org", pb::OtpPurpose::VerifyEmail);
    let mut service = otps(&world);
    let asked = pb::GenerateOtpRequest { with_flow_id: true, ..ask(email, purpose) };
    let own = service.generate_otp(asked).await.unwrap().into_inner();
    service.generate_otp(ask(email, purpose)).await.unwrap();
    for _ in 0..6 {
        let wrong = service.verify_otp(verify(email, &other_than(&own.code))).await;
        assert_refused(wrong, Code::InvalidArgument, "OTP_INVALID");
    }
    let with =
        |flow_id: &str| pb::VerifyOtpRequest { flow_id: flow_id.to_owned(), ..verify(email, &own.code) };
    let refused = service.verify_otp(with("nonsense")).await;
    assert_eq!(assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD").fields()[0].0, "flow_id");
    service.verify_otp(with(&own.flow_id)).await.unwrap();
}

#[tokio::test]
async fn a_guest_cannot_be_taken_over_by_a_code() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let guest = world.guest().await;
    let user = pb::UserChanges { email: "guest@example.org".to_owned(), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["email".to_owned()] });
    let moved = guest.asks(pb::UpdateUserRequest { user: Some(user), update_mask, ..Default::default() });
    world.users.update_user(moved).await.unwrap();
    let code = code(&world, "guest@example.org", pb::OtpPurpose::ResetPassword).await;
    let refused = otps(&world).reset_password(reset("guest@example.org", &code, "a new password")).await;
    assert_refused(refused, Code::InvalidArgument, "OTP_INVALID");
}

#[tokio::test]
async fn a_session_alone_sets_no_address() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let store = crate::store::Store::new(&database);
    let config = Config { mail: no_server(), ..in_production() };
    let mut world = World::start_in(Profile::Production, database, config, START).await;
    let ann = world.register("ann").await;
    let set = async |email: &str, password: &str| {
        let user = pb::UserChanges { email: email.to_owned(), ..Default::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["email".to_owned()] });
        let request = pb::UpdateUserRequest { user: Some(user), update_mask, password: password.to_owned() };
        let answer = world.users.clone().update_user(ann.asks(request)).await?;
        Ok::<_, Status>(answer.into_inner().user.unwrap().email)
    };
    for email in ["eve@example.org", ""] {
        for password in ["", "not the password"] {
            assert_refused(set(email, password).await, Code::Unauthenticated, "BAD_CREDENTIALS");
        }
    }
    assert_eq!(set("ANN@example.org", "").await.unwrap(), "ANN@example.org", "the same address");
    assert_eq!(set("", PASSWORD).await.unwrap(), "");
    for password in ["", "not the password"] {
        assert_refused(set("eve@example.org", password).await, Code::Unauthenticated, "BAD_CREDENTIALS");
    }
    assert_eq!(set("new@example.org", PASSWORD).await.unwrap(), "new@example.org", "the first one");

    // One was taken away, and its owner is told.
    let later = START.plus(Duration::from_secs(3600));
    let told = store.claim_errands(Kind::Mail, later, Duration::from_secs(60), 10).await.unwrap();
    let letters = told.iter().map(|errand| {
        let Some(Task::Mail(letter)) = errand.open(&Vault::new(VAULT.as_bytes())) else {
            panic!("no letter")
        };
        serde_json::to_value(letter).unwrap()
    });
    let letters: Vec<_> = letters.filter(|letter| letter["has_reader"] == true).collect();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(letter["to"], "ANN@example.org");
    assert!(letter["text"].as_str().unwrap().contains("The account ann does not use"), "{letter}");
}

#[tokio::test]
async fn what_is_suggested_can_be_registered() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..10 {
        let suggested = world.auth.suggest_credentials(pb::SuggestCredentialsRequest {}).await.unwrap();
        let pb::SuggestCredentialsResponse { username, password } = suggested.into_inner();
        assert!(seen.insert(password.clone()));
        let request = pb::RegisterRequest { username, password, ..Default::default() };
        world.auth.register(request).await.unwrap();
    }
}
