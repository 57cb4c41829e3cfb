//! Codes by e-mail with a real mail server: what arrives, and that it arrives although the server was away.

use std::path::{Path, PathBuf};

use tokio::net::TcpListener;

use super::otps::{ask, in_production, otps, reset, verify};
use super::*;
use crate::MailConfig;
use crate::errand::Kind;

/// Names the mail server for tests: `smtp://127.0.0.1:2525`.
const SMTP: &str = "PARLOR_TEST_SMTP";
/// Names the Maildir that it puts mails into.
const MAILDIR: &str = "PARLOR_TEST_MAILDIR";

/// A mail server, where there is one; otherwise a word why not.
fn server() -> Option<(String, PathBuf)> {
    match (std::env::var(SMTP), std::env::var(MAILDIR)) {
        (Ok(url), Ok(folder)) => Some((url, folder.into())),
        _ => {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            eprintln!("SKIPPED on mail: {test} ({SMTP} and {MAILDIR} name no server; tests/run starts one)");
            None
        }
    }
}

fn config(url: &str) -> Config {
    let mail = MailConfig {
        smtp_url: Some(url.to_owned()),
        from: Some("Parlor <no-reply@example.org>".to_owned()),
        ..MailConfig::default()
    };
    Config { mail, ..in_production() }
}

/// The mails for an address that lie in the folder.
fn mails(folder: &Path, address: &str) -> Vec<String> {
    let Ok(files) = std::fs::read_dir(folder.join("new")) else { return Vec::new() };
    let texts = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
    let to = format!("To: {address}");
    texts.filter(|text| text.lines().any(|line| line == to)).collect()
}

/// Waits for a mail to an address that there was not before.
async fn mail(folder: &Path, address: &str, known: usize) -> String {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let mut found = mails(folder, address);
        if found.len() > known {
            return found.pop().unwrap();
        }
        assert!(tokio::time::Instant::now() < deadline, "there is no mail for {address}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn code_in(mail: &str) -> String {
    let (_, after) = mail.split_once("Your code is ").unwrap();
    after[..6].to_owned()
}

/// A name that no other test has: they all write to one folder.
fn unique(name: &str) -> String {
    format!("{name}-{}", &UserId::generate().to_string()[24..])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_comes_by_mail_and_works() {
    let Some((url, folder)) = server() else { return };
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let mut world = World::start_in(Profile::Production, database, config(&url), START).await;
    let name = unique("ann");
    let address = format!("{name}@example.org");
    let ann = world.register(&name).await;

    // Upper case in the request: it goes to the address that the account has.
    let shouted = address.to_uppercase();
    otps(&world).generate_otp(ask(&shouted, pb::OtpPurpose::VerifyEmail)).await.unwrap();
    let first = mail(&folder, &address, 0).await;
    let (head, body) = first.split_once("\n\n").unwrap();
    for line in ["From: Parlor <no-reply@example.org>", "Subject: Verify your e-mail address"] {
        assert!(head.lines().any(|found| found == line), "{head}");
    }
    assert!(head.contains("Content-Type: text/plain") && head.contains("Message-ID: <"), "{head}");
    let code = code_in(body);
    assert!(!head.contains(&code));
    otps(&world).verify_otp(verify(&address, &code)).await.unwrap();
    let me = world.users.get_me(ann.asks(pb::GetMeRequest {})).await.unwrap().into_inner().user.unwrap();
    assert!(me.email_verified);

    otps(&world).generate_otp(ask(&address, pb::OtpPurpose::ResetPassword)).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let second = loop {
        let found = mails(&folder, &address);
        match found.into_iter().find(|mail| mail.contains("Subject: Set a new password")) {
            Some(found) => break found,
            None => assert!(tokio::time::Instant::now() < deadline, "there is no second mail"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let code = code_in(&second);
    otps(&world).reset_password(reset(&address, &code, "a new password")).await.unwrap();
    world.login(&name, "a new password").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_nobody_has_gets_no_mail() {
    let Some((url, folder)) = server() else { return };
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let store = crate::store::Store::new(&database);
    let mut world = World::start_in(Profile::Production, database, config(&url), START).await;
    let (name, nobody) = (unique("ann"), format!("{}@example.org", unique("nobody")));
    world.register(&name).await;
    otps(&world).generate_otp(ask(&nobody, pb::OtpPurpose::VerifyEmail)).await.unwrap();
    // What was written down first is done first: once the second has come, the first would have.
    otps(&world)
        .generate_otp(ask(&format!("{name}@example.org"), pb::OtpPurpose::VerifyEmail))
        .await
        .unwrap();
    mail(&folder, &format!("{name}@example.org"), 0).await;
    assert!(world.unit.tasks.stop(Duration::from_secs(20)).await);
    let later = START.plus(Duration::from_secs(250));
    assert!(store.claim_errands(Kind::Mail, later, Duration::from_secs(60), 10).await.unwrap().is_empty());
    assert_eq!(mails(&folder, &nobody), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_for_signing_up_is_mailed_to_an_address_without_an_account() {
    let Some((url, folder)) = server() else { return };
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let world = World::start_in(Profile::Production, database, config(&url), START).await;
    let nobody = format!("{}@example.org", unique("nobody"));
    let purpose = pb::OtpPurpose::SignUp;
    otps(&world).generate_otp(ask(&nobody, purpose)).await.unwrap();
    let code = code_in(&mail(&folder, &nobody, 0).await);
    let proof = pb::VerifyOtpRequest { purpose: purpose.into(), ..verify(&nobody, &code) };
    otps(&world).verify_otp(proof).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_could_not_be_sent_is_sent_later() {
    let Some((url, folder)) = server() else { return };
    let (database, scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    // Somebody who hangs up at once.
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broken = format!("smtp://{}", away.local_addr().unwrap());
    let mut world = World::start_in(Profile::Production, database, config(&broken), START).await;
    let name = unique("ann");
    world.register(&name).await;
    let address = format!("{name}@example.org");
    otps(&world).generate_otp(ask(&address, pb::OtpPurpose::VerifyEmail)).await.unwrap();
    drop(away.accept().await.unwrap());
    assert!(world.unit.tasks.stop(Duration::from_secs(20)).await);
    world.unit.database.unwrap().close().await;

    // The next process has a server, and finds what is to be sent.
    let database = Database::open(&scratch.config(), "auth", &MIGRATOR).await.unwrap();
    let later = START.plus(Duration::from_secs(130));
    let world = World::start_in(Profile::Production, database, config(&url), later).await;
    let code = code_in(&mail(&folder, &address, 0).await);
    otps(&world).verify_otp(verify(&address, &code)).await.unwrap();
}
