//! Signing up with an address that was verified before, and the names that cannot be had.

use super::otps::{ask, code, from, in_production, no_server, other_than, otps, prove, verify};
use super::*;
use crate::NetworksConfig;

fn sign_up(email: &str, code: &str) -> pb::VerifyOtpRequest {
    pb::VerifyOtpRequest { purpose: pb::OtpPurpose::SignUp.into(), ..verify(email, code) }
}

fn registration(username: &str, email: &str) -> pb::RegisterRequest {
    pb::RegisterRequest {
        username: username.to_owned(),
        password: PASSWORD.to_owned(),
        email: email.to_owned(),
        ..Default::default()
    }
}

/// A code for signing up that is asked for from an address.
async fn code_for(world: &World, address: &str, email: &str) -> String {
    let asked = from(world, address, ask(email, pb::OtpPurpose::SignUp));
    otps(world).generate_otp(asked).await.unwrap().into_inner().code
}

impl World {
    async fn registers_from(&mut self, address: &str, username: &str, email: &str) -> Result<bool, Status> {
        let request = from(self, address, registration(username, email));
        Ok(self.auth.register(request).await?.into_inner().user.unwrap().email_verified)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_verified_before_there_is_an_account_on_sqlite() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    an_address_is_verified_before_there_is_an_account(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_verified_before_there_is_an_account_on_postgres() {
    let Some((database, _scratch)) = testing::postgres(&MIGRATOR, "auth").await else { return };
    an_address_is_verified_before_there_is_an_account(database).await;
}

async fn an_address_is_verified_before_there_is_an_account(database: Database) {
    const HOME: &str = "203.0.113.7";
    let mut world = World::start(database, config()).await;
    let mut service = otps(&world);
    let email = "ann@example.org";
    let digits = code_for(&world, HOME, email).await;
    let wrong = service.verify_otp(from(&world, HOME, sign_up(email, &other_than(&digits)))).await;
    assert_refused(wrong, Code::InvalidArgument, "OTP_INVALID");
    let misled = service.verify_otp(from(&world, HOME, verify(email, &digits))).await;
    assert_refused(misled, Code::InvalidArgument, "OTP_INVALID");
    service.verify_otp(from(&world, HOME, sign_up(&email.to_uppercase(), &digits))).await.unwrap();
    let again = service.verify_otp(from(&world, HOME, sign_up(email, &digits))).await;
    assert_refused(again, Code::InvalidArgument, "OTP_INVALID");

    // It counts for this address, this network and half an hour; it is used up by the account.
    assert!(!world.registers_from(HOME, "bob", "bob@example.org").await.unwrap());
    world.clock.advance(Duration::from_secs(30 * 60 - 1));
    assert!(world.registers_from(HOME, "ann", email).await.unwrap());

    let late = "late@example.org";
    let digits = code_for(&world, HOME, late).await;
    service.verify_otp(from(&world, HOME, sign_up(late, &digits))).await.unwrap();
    world.clock.advance(Duration::from_secs(30 * 60));
    assert!(!world.registers_from(HOME, "late", late).await.unwrap());

    let elsewhere = "eve@example.org";
    let digits = code_for(&world, HOME, elsewhere).await;
    service.verify_otp(from(&world, HOME, sign_up(elsewhere, &digits))).await.unwrap();
    assert!(!world.registers_from("198.51.100.7", "eve", elsewhere).await.unwrap());
}

#[tokio::test]
async fn a_code_for_signing_up_says_nothing_that_registering_does_not() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    world.register("ann").await;
    prove(&world, "ann@example.org").await;
    let mut service = otps(&world);
    for email in ["ann@example.org", "nobody@example.org"] {
        let answer = service.generate_otp(ask(email, pb::OtpPurpose::SignUp)).await.unwrap().into_inner();
        assert_eq!(answer.expire_time, Some(START.plus(Duration::from_secs(300)).to_proto()));
        service.verify_otp(sign_up(email, &answer.code)).await.unwrap();
    }
    let taken = world.auth.register(registration("ann2", "ann@example.org")).await;
    assert_refused(taken, Code::AlreadyExists, "EMAIL_TAKEN");
    // A code for the account of an address without one is still never right.
    let digits = code(&world, "cid@example.org", pb::OtpPurpose::VerifyEmail).await;
    let refused = service.verify_otp(verify("cid@example.org", &digits)).await;
    assert_refused(refused, Code::InvalidArgument, "OTP_INVALID");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_proof_comes_before_what_is_said_of_an_address_on_sqlite() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    a_required_proof_comes_before_what_is_said_of_an_address(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_proof_comes_before_what_is_said_of_an_address_on_postgres() {
    let Some((database, _scratch)) = testing::postgres(&MIGRATOR, "auth").await else { return };
    a_required_proof_comes_before_what_is_said_of_an_address(database).await;
}

async fn a_required_proof_comes_before_what_is_said_of_an_address(database: Database) {
    const HOME: &str = "203.0.113.7";
    let mut world = World::start(database, config()).await;
    world.register("ann").await;
    prove(&world, "ann@example.org").await;
    let (taken, free) = ("ann@example.org", "bob@example.org");
    let registers = async |world: &mut World, address: &str, email: &str| {
        let verified = pb::RegisterRequest { require_verified_email: true, ..registration("bob", email) };
        let request = from(world, address, verified);
        world.auth.register(request).await.map(|answer| answer.into_inner().user.unwrap().email_verified)
    };
    let mut refusals = Vec::new();
    for email in [taken, free] {
        let refused = registers(&mut world, HOME, email).await;
        refusals.push(assert_refused(refused, Code::FailedPrecondition, "EMAIL_NOT_VERIFIED"));
    }
    assert_eq!(refusals[0], refusals[1]);
    let missing = registers(&mut world, HOME, "").await;
    let fault = assert_refused(missing, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fault.fields()[0].0, "email");

    for email in [taken, free] {
        let digits = code_for(&world, HOME, email).await;
        otps(&world).verify_otp(from(&world, HOME, sign_up(email, &digits))).await.unwrap();
        let elsewhere = registers(&mut world, "198.51.100.7", email).await;
        assert_refused(elsewhere, Code::FailedPrecondition, "EMAIL_NOT_VERIFIED");
    }
    assert_refused(registers(&mut world, HOME, taken).await, Code::AlreadyExists, "EMAIL_TAKEN");
    assert!(registers(&mut world, HOME, free).await.unwrap());
}

#[tokio::test]
async fn no_code_for_signing_up_is_sent_while_registration_is_closed() {
    let (world, _scratch) = on_sqlite(Config { registration_open: Some(false), ..config() }).await;
    let refused = otps(&world).generate_otp(ask("ann@example.org", pb::OtpPurpose::SignUp)).await;
    assert_refused(refused, Code::FailedPrecondition, "REGISTRATION_CLOSED");
}

#[tokio::test]
async fn a_code_has_four_digits_in_development_only() {
    let (world, _scratch) = on_sqlite(config()).await;
    let with = |code_length| pb::GenerateOtpRequest {
        code_length,
        ..ask("ann@example.org", pb::OtpPurpose::SignUp)
    };
    let mut service = otps(&world);
    let answer = service.generate_otp(with(4)).await.unwrap().into_inner();
    assert_eq!(answer.code.len(), 4);
    service.verify_otp(sign_up("ann@example.org", &answer.code)).await.unwrap();
    assert_eq!(service.generate_otp(with(6)).await.unwrap().into_inner().code.len(), 6);
    for length in [-1, 1, 5, 7] {
        let refused = service.generate_otp(with(length)).await;
        let fault = assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(fault.fields()[0].0, "code_length");
    }

    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let config = Config { mail: no_server(), networks: NetworksConfig::default(), ..in_production() };
    let world = World::start_in(Profile::Production, database, config, START).await;
    let refused = otps(&world).generate_otp(with(4)).await;
    let fault = assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fault.fields()[0].0, "code_length");
    for length in [0, 6] {
        let answer = otps(&world).generate_otp(with(length)).await.unwrap().into_inner();
        assert_eq!(answer.code, "");
    }
}

#[tokio::test]
async fn a_reserved_name_counts_as_taken() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    for name in
        ["root", "Admin", "administrator", "superuser", "OWNER", "moderator", "system", "support", "adm1n"]
    {
        let fault = assert_refused(
            world.auth.register(registration(name, "")).await,
            Code::AlreadyExists,
            "USERNAME_TAKEN",
        );
        assert_eq!(fault.metadata()["username"], name.to_lowercase());
    }
    world.auth.register(registration("admins", "")).await.unwrap();
}
