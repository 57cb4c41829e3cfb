//! Codes by e-mail, suggestions and interests through auth's own door.

use std::path::PathBuf;

use chassis::profile::Profile;
use proto::auth::v1::otp_service_client::OtpServiceClient;

use super::*;
use crate::{MailConfig, MailTls};

impl World {
    fn otps(&self) -> OtpServiceClient<Transport> {
        OtpServiceClient::new(self.transport.clone())
    }

    async fn send_code(
        &self,
        email: &str,
        purpose: pb::OtpPurpose,
    ) -> Result<pb::GenerateOtpResponse, Status> {
        let request = pb::GenerateOtpRequest { email: email.to_owned(), purpose: purpose.into() };
        Ok(self.otps().generate_otp(request).await?.into_inner())
    }

    async fn verify(&self, email: &str, code: &str) -> Result<(), Status> {
        let request = pb::VerifyOtpRequest { email: email.to_owned(), code: code.to_owned() };
        self.otps().verify_otp(request).await.map(|_| ())
    }

    async fn reset(&self, email: &str, code: &str, new_password: &str) -> Result<(), Status> {
        let (email, code, new_password) = (email.to_owned(), code.to_owned(), new_password.to_owned());
        let request = pb::ResetPasswordRequest { email, code, new_password };
        self.otps().reset_password(request).await.map(|_| ())
    }

    async fn me(&mut self, person: &Person) -> pb::User {
        self.users.get_me(person.asks(pb::GetMeRequest {})).await.unwrap().into_inner().user.unwrap()
    }
}

/// A code of six digits that is not this one.
fn other(code: &str) -> String {
    format!("{:06}", (code.parse::<u32>().unwrap() + 1) % 1_000_000)
}

#[tokio::test]
async fn an_address_is_verified_until_it_changes() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let ann = world.register("ann").await;
    assert!(!ann.user.email_verified);
    let sent = world.send_code("ANN@example.org", pb::OtpPurpose::Unspecified).await.unwrap();
    assert_eq!(sent.expire_time, Some(START.plus(Duration::from_secs(300)).to_proto()));
    assert!(sent.code.len() == 6 && sent.code.bytes().all(|digit| digit.is_ascii_digit()), "{}", sent.code);
    let wrong = world.verify("ann@example.org", &other(&sent.code)).await;
    assert_refused(wrong, Code::PermissionDenied, "OTP_INVALID");
    world.verify("ann@example.org", &format!(" {}", sent.code)).await.unwrap();
    assert!(world.me(&ann).await.email_verified);
    assert_refused(world.verify("ann@example.org", &sent.code).await, Code::PermissionDenied, "OTP_INVALID");

    // Others are not told.
    let bob = world.register("bob").await;
    let get = bob.asks(pb::GetUserRequest { user_id: ann.user.user_id.clone() });
    assert!(!world.users.get_user(get).await.unwrap().into_inner().user.unwrap().email_verified);

    let user = pb::UserChanges { email: "new@example.org".to_owned(), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["email".to_owned()] });
    let update = ann.asks(pb::UpdateUserRequest { user: Some(user), update_mask });
    assert!(!world.users.update_user(update).await.unwrap().into_inner().user.unwrap().email_verified);
    assert!(!world.me(&ann).await.email_verified);
}

#[tokio::test]
async fn a_forgotten_password_is_set_anew_and_every_session_ends() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let ann = world.register("ann").await;
    let (mut ended, _subscription) = world.hints(subject::SESSIONS_ENDED).await;
    let sent = world.send_code("ann@example.org", pb::OtpPurpose::ResetPassword).await.unwrap();
    let reset = async |code: &str, new: &str| world.reset("ann@example.org", code, new).await;
    assert_refused(reset(&other(&sent.code), "a new horse").await, Code::PermissionDenied, "OTP_INVALID");
    assert_refused(reset(&sent.code, "password1").await, Code::InvalidArgument, "WEAK_PASSWORD");
    assert_refused(reset(&sent.code, "I am Ann!").await, Code::InvalidArgument, "WEAK_PASSWORD");
    assert_refused(world.verify("ann@example.org", &sent.code).await, Code::PermissionDenied, "OTP_INVALID");
    reset(&sent.code, "a new horse").await.unwrap();
    assert_refused(reset(&sent.code, "a newer horse").await, Code::PermissionDenied, "OTP_INVALID");

    let hint = pb::SessionsEnded::decode(ended.recv().await.unwrap().payload).unwrap();
    assert_eq!((hint.user_id, hint.session_ids), (ann.user.user_id.clone(), vec![]));
    assert_eq!(world.introspect(&ann.token).await, None);
    world.until_refused(&ann).await;
    assert_refused(world.login("ann", PASSWORD).await, Code::Unauthenticated, "BAD_CREDENTIALS");
    let back = world.login("ann", "a new horse").await.unwrap();
    assert!(back.user.email_verified);
}

#[tokio::test]
async fn nobody_learns_from_codes_which_addresses_there_are() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    world.register("ann").await;
    for purpose in [pb::OtpPurpose::VerifyEmail, pb::OtpPurpose::ResetPassword] {
        let known = world.send_code("ann@example.org", purpose).await.unwrap();
        let unknown = world.send_code("nobody@example.org", purpose).await.unwrap();
        assert_eq!((unknown.expire_time, unknown.code.len()), (known.expire_time, known.code.len()));
        let outcome = async |email: &str, code: &str| match purpose {
            pb::OtpPurpose::ResetPassword => world.reset(email, code, "a new horse").await,
            _ => world.verify(email, code).await,
        };
        let wrong = outcome("ann@example.org", &other(&known.code)).await.unwrap_err();
        // Not even the code that was shown opens anything.
        let nobody = outcome("nobody@example.org", &unknown.code).await.unwrap_err();
        let never_sent = outcome("cid@example.org", "123456").await.unwrap_err();
        assert_eq!(reason(&wrong), "ERROR_REASON_OTP_INVALID");
        assert_eq!((Fault::of(&nobody), Fault::of(&never_sent)), (Fault::of(&wrong), Fault::of(&wrong)));
    }
}

#[tokio::test]
async fn three_codes_in_fifteen_minutes_and_five_tries_for_each() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    world.register("ann").await;
    for address in ["ann@example.org", "nobody@example.org"] {
        for _ in 0..3 {
            world.send_code(address, pb::OtpPurpose::VerifyEmail).await.unwrap();
        }
        // What it is for makes no difference.
        let refused = world.send_code(address, pb::OtpPurpose::ResetPassword).await;
        let fault = assert_refused(refused, Code::ResourceExhausted, "RATE_LIMITED");
        assert_eq!(fault.wait(), Some(Duration::from_secs(900)));
    }
    world.clock.advance(Duration::from_secs(900));
    let sent = world.send_code("ann@example.org", pb::OtpPurpose::VerifyEmail).await.unwrap();
    for _ in 0..5 {
        let wrong = world.verify("ann@example.org", &other(&sent.code)).await;
        assert_refused(wrong, Code::PermissionDenied, "OTP_INVALID");
    }
    assert_refused(world.verify("ann@example.org", &sent.code).await, Code::PermissionDenied, "OTP_INVALID");
    for _ in 6..10 {
        world.verify("ann@example.org", "123456").await.unwrap_err();
    }
    // Trying is slowed down as it is for passwords.
    assert_refused(world.verify("ann@example.org", "123456").await, Code::ResourceExhausted, "RATE_LIMITED");
}

#[tokio::test]
async fn what_is_no_address_or_no_code_is_refused_by_the_field_s_name() {
    let (world, _scratch) = on_sqlite(config()).await;
    let field = |refused: Result<(), Status>| {
        assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD").fields()[0].0.clone()
    };
    let sent = world.send_code("nobody", pb::OtpPurpose::VerifyEmail).await.map(|_| ());
    assert_eq!(field(sent), "email");
    assert_eq!(field(world.verify("nobody", "123456").await), "email");
    assert_eq!(field(world.verify("ann@example.org", "123").await), "code");
    assert_eq!(field(world.verify("ann@example.org", "123456789").await), "code");
    assert_eq!(field(world.reset("ann@example.org", "123456", "short").await), "new_password");
}

#[tokio::test]
async fn production_shows_no_code_and_says_when_it_cannot_send_one() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let mut production = Config { registration_open: Some(true), ..Config::default() };
    production.passwords.threads = 1;
    let world = World::start_for(database, production.clone(), START, Profile::Production).await;
    let refused = world.send_code("ann@example.org", pb::OtpPurpose::VerifyEmail).await;
    assert_refused(refused, Code::Unavailable, "MAIL_UNAVAILABLE");

    // With a mail server, even one that is not there, the answer is the same for everybody.
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    production.mail = MailConfig {
        host: "127.0.0.1".to_owned(),
        port: 1,
        tls: MailTls::None,
        from: "Parlor <parlor@example.org>".to_owned(),
        ..MailConfig::default()
    };
    let mut world = World::start_for(database, production, START, Profile::Production).await;
    world.register("ann").await;
    let sent = world.send_code("ann@example.org", pb::OtpPurpose::VerifyEmail).await.unwrap();
    assert_eq!(sent, world.send_code("nobody@example.org", pb::OtpPurpose::VerifyEmail).await.unwrap());
    assert_eq!(sent.code, "");
    world.send_code("cid@example.org", pb::OtpPurpose::VerifyEmail).await.unwrap();
    // And one network gets three.
    let refused = world.send_code("dan@example.org", pb::OtpPurpose::VerifyEmail).await;
    assert_refused(refused, Code::ResourceExhausted, "RATE_LIMITED");
}

/// Where the mail server of the tests is, and the folder in which it keeps what it gets.
fn mail_server() -> Option<(MailConfig, PathBuf)> {
    let (Ok(server), Ok(folder)) = (std::env::var("PARLOR_TEST_SMTP"), std::env::var("PARLOR_TEST_MAILDIR"))
    else {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        eprintln!("SKIPPED by mail: {test} (PARLOR_TEST_SMTP names no server; tests/run starts one)");
        return None;
    };
    let (host, port) = server.rsplit_once(':').expect("host:port");
    let config = MailConfig {
        host: host.to_owned(),
        port: port.parse().expect("a port"),
        tls: MailTls::None,
        from: "Parlor <parlor@example.org>".to_owned(),
        ..MailConfig::default()
    };
    Some((config, folder.into()))
}

/// Waits for letters to this address, and returns those that have come.
async fn letters_to(folder: &std::path::Path, address: &str, count: usize) -> Vec<String> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let files = std::fs::read_dir(folder.join("new")).into_iter().flatten();
        let letters = files.filter_map(|file| std::fs::read_to_string(file.unwrap().path()).ok());
        let found: Vec<String> = letters.filter(|text| text.contains(&format!("To: {address}"))).collect();
        if found.len() >= count {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{} letters to {address}, not {count}", found.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_code_comes_by_mail_and_opens_what_it_is_for() {
    let Some((mail, folder)) = mail_server() else { return };
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let production = Config { registration_open: Some(true), mail, ..Config::default() };
    let mut world = World::start_for(database, production, START, Profile::Production).await;
    // A name that no other run has: the folder may hold letters of others.
    let name = format!("ann-{}", &UserId::generate().to_string()[24..]);
    let (address, nobody) = (format!("{name}@example.org"), format!("nobody-{name}@example.org"));
    let ann = world.register(&name).await;
    // Nobody is written to who has no account; the letter that is sent after it has come when that is looked at.
    world.send_code(&nobody, pb::OtpPurpose::ResetPassword).await.unwrap();
    assert_eq!(world.send_code(&address, pb::OtpPurpose::VerifyEmail).await.unwrap().code, "");
    let letters = letters_to(&folder, &address, 1).await;
    assert_eq!(letters_to(&folder, &nobody, 0).await, [""; 0]);
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert!(letter.contains("From: Parlor <parlor@example.org>"), "{letter}");
    assert!(letter.contains("Subject: Your code to verify this address"), "{letter}");
    let code = |letter: &str| letter.split(" is your code").next().unwrap().rsplit('\n').next().unwrap().to_owned();
    world.verify(&address, &code(letter)).await.unwrap();
    assert!(world.me(&ann).await.email_verified);

    world.send_code(&address, pb::OtpPurpose::ResetPassword).await.unwrap();
    let letters = letters_to(&folder, &address, 2).await;
    let letter = letters.iter().find(|letter| letter.contains("Your code for a new password")).unwrap();
    world.reset(&address, &code(letter), "a new horse").await.unwrap();
    world.login(&name, "a new horse").await.unwrap();
    assert!(world.unit.tasks.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_suggestion_is_good_to_register_with() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let suggestion = world.users.suggest_credentials(pb::SuggestCredentialsRequest {}).await.unwrap();
    let pb::SuggestCredentialsResponse { username, password } = suggestion.into_inner();
    let request = pb::RegisterRequest { username: username.clone(), password, ..Default::default() };
    let answer = world.auth.register(request).await.unwrap().into_inner();
    assert_eq!(answer.user.unwrap().username, username);
}

#[tokio::test]
async fn interests_are_found_by_name() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let mut find = async |keyword: &str| {
        let request = pb::ListInterestsRequest { keyword: keyword.to_owned() };
        world.users.list_interests(request).await.unwrap().into_inner().interests
    };
    let music = pb::Interest {
        interest_id: "music".to_owned(),
        name: "Music".to_owned(),
        emoji: "🎵".to_owned(),
    };
    assert_eq!(find("MUSI").await, [music.clone()]);
    assert_eq!(find("no such thing").await, []);
    let all = find(" ").await;
    assert!(all.len() >= 60 && all.contains(&music));
    assert!(all.is_sorted_by_key(|interest| interest.name.to_lowercase()));
    assert!(all.iter().all(|interest| !interest.emoji.is_empty()));
}
