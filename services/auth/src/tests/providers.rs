//! Signing in with a provider, through the door, against a real one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::issuer::{Issuer, Signer, encoded};
use super::otps::{ask, in_production, otps, reset};
use super::*;
use crate::NetworksConfig;

fn with(id_token: impl Into<String>) -> pb::LoginWithProviderRequest {
    pb::LoginWithProviderRequest {
        provider: "example".to_owned(),
        id_token: id_token.into(),
        device_name: "phone".to_owned(),
        ..Default::default()
    }
}

fn link(password: &str, token: &str) -> pb::LinkProviderRequest {
    pb::LinkProviderRequest {
        provider: "example".to_owned(),
        id_token: token.to_owned(),
        nonce: String::new(),
        password: password.to_owned(),
    }
}

fn unlink(password: &str) -> pb::UnlinkProviderRequest {
    pb::UnlinkProviderRequest { provider: "example".to_owned(), password: password.to_owned() }
}

async fn enter(world: &mut World, request: pb::LoginWithProviderRequest) -> Result<(Person, bool), Status> {
    let answer = world.auth.login_with_provider(request).await?.into_inner();
    Ok((Person::from(answer.user, answer.grant), answer.created))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_with_a_provider_on_sqlite() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    a_life_with_a_provider(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_with_a_provider_on_postgres() {
    let Some((database, _scratch)) = testing::postgres(&MIGRATOR, "auth").await else { return };
    a_life_with_a_provider(database).await;
}

async fn a_life_with_a_provider(database: Database) {
    let signer = Signer::p256();
    let issuer = Issuer::start(&[("1", &signer)]).await;
    let mut world = World::start(database, issuer.config()).await;
    let listed = world.auth.list_providers(pb::ListProvidersRequest {}).await.unwrap().into_inner();
    assert_eq!((listed.providers.len(), listed.providers[0].name.as_str()), (1, "example"));

    // Who comes for the first time gets an account, with the address that the provider has verified.
    let mut claims = issuer.claims("42");
    claims["email"] = json!("Ann@example.org");
    claims["email_verified"] = json!(true);
    claims["name"] = json!("Ann Archer");
    // Each of them is used once.
    let token = || {
        let mut claims = claims.clone();
        claims["jti"] = json!(UserId::generate().to_string());
        signer.token(&json!({"alg": "ES256", "kid": "1"}), &claims)
    };
    let named = pb::LoginWithProviderRequest { username: "ann".to_owned(), ..with(token()) };
    let (ann, created) = enter(&mut world, named).await.unwrap();
    assert!(created && ann.user.email_verified && ann.session.device_name == "phone");
    assert_eq!((ann.user.username.as_str(), ann.user.display_name.as_str()), ("ann", "Ann Archer"));
    assert_eq!((ann.user.email.as_str(), ann.user.kind()), ("Ann@example.org", pb::UserKind::Registered));
    assert!(world.introspect(&ann.token).await.is_some());

    // Who comes again is the same.
    let (again, created) = enter(&mut world, with(token())).await.unwrap();
    assert!(!created && again.user == ann.user && again.token != ann.token);
    assert_eq!(world.sessions(&ann).await.len(), 2);
    let linked = world.auth.list_linked_providers(ann.asks(pb::ListLinkedProvidersRequest {})).await.unwrap();
    let linked = linked.into_inner().linked;
    let [first] = linked.as_slice() else { panic!("{linked:?}") };
    assert_eq!((first.provider.as_str(), first.subject.as_str()), ("example", "42"));
    assert_eq!(first.create_time, Some(START.to_proto()));
    let expected = json!({"linked": [{
        "provider": "example", "subject": "42", "createTime": "2026-11-18T11:06:40Z",
    }]});
    let exported = &world.export(&ann).await["auth/linked_providers.json"];
    assert_eq!(serde_json::from_str::<Value>(exported).unwrap(), expected);

    // There is no password: not to try, not to change, and no way to lose the only way in.
    assert_refused(world.login("ann", PASSWORD).await, Code::Unauthenticated, "BAD_CREDENTIALS");
    let [old_password, new_password] = ["x", "a new password"].map(str::to_owned);
    let change = ann.asks(pb::ChangePasswordRequest { old_password, new_password });
    let refused = world.auth.change_password(change).await;
    assert_refused(refused, Code::FailedPrecondition, "PASSWORD_NOT_SET");
    let refused = world.auth.unlink_provider(ann.asks(unlink(""))).await;
    assert_refused(refused, Code::FailedPrecondition, "LAST_SIGN_IN");

    // A code by e-mail gives it one; then the link can go.
    let issued = otps(&world).generate_otp(ask("ann@example.org", pb::OtpPurpose::ResetPassword)).await;
    let code = issued.unwrap().into_inner().code;
    otps(&world).reset_password(reset("ann@example.org", &code, "a new password")).await.unwrap();
    let ann = world.login("ann", "a new password").await.unwrap();
    let refused = world.auth.unlink_provider(ann.asks(unlink(""))).await;
    assert_refused(refused, Code::Unauthenticated, "BAD_CREDENTIALS");
    world.auth.unlink_provider(ann.asks(unlink("a new password"))).await.unwrap();
    let refused = world.auth.unlink_provider(ann.asks(unlink("a new password"))).await;
    assert_refused(refused, Code::NotFound, "LINK_NOT_FOUND");

    // The identity is nobody's now, and the address is still Ann's.
    let fault = assert_refused(enter(&mut world, with(token())).await, Code::AlreadyExists, "EMAIL_TAKEN");
    assert!(fault.text().contains("link the provider"), "{}", fault.text());

    // Linking takes the password too.
    let refused = world.auth.link_provider(ann.asks(link("", &token()))).await;
    assert_refused(refused, Code::Unauthenticated, "BAD_CREDENTIALS");
    for _ in 0..2 {
        let answer = world.auth.link_provider(ann.asks(link("a new password", &token()))).await.unwrap();
        assert_eq!(answer.into_inner().linked.unwrap().subject, "42");
    }
    let other = issuer.token(&signer, "1", "43");
    let refused = world.auth.link_provider(ann.asks(link("a new password", &other))).await;
    assert_refused(refused, Code::AlreadyExists, "PROVIDER_LINKED");
    let bob = world.register("bob").await;
    let refused = world.auth.link_provider(bob.asks(link(PASSWORD, &token()))).await;
    assert_refused(refused, Code::AlreadyExists, "IDENTITY_TAKEN");
    let (again, created) = enter(&mut world, with(token())).await.unwrap();
    assert!(!created && again.user.user_id == ann.user.user_id);

    // With the account the link goes.
    let delete = ann.asks(pb::DeleteUserRequest { password: "a new password".to_owned() });
    world.users.delete_user(delete).await.unwrap();
    let (next, created) = enter(&mut world, with(token())).await.unwrap();
    assert!(created && next.user.user_id != ann.user.user_id && next.user.username != "ann");
    assert!(world.unit.tasks.stop(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_algorithm_of_the_list_works_and_only_with_its_own_key() {
    let signers = [("r", Signer::rsa()), ("p", Signer::p256()), ("e", Signer::ed25519())];
    let issuer = Issuer::start(&signers.each_ref().map(|(kid, signer)| (*kid, signer))).await;
    let (mut world, _scratch) = on_sqlite(issuer.config()).await;
    for (kid, signer) in &signers {
        let (_, created) = enter(&mut world, with(issuer.token(signer, kid, kid))).await.unwrap();
        assert!(created, "{kid}");
        // The only key of its kind need not be named.
        let unnamed = signer.token(&json!({"alg": signer.algorithm()}), &issuer.claims(kid));
        assert!(!enter(&mut world, with(unnamed)).await.unwrap().1, "{kid}");
        for (other, wrong) in &signers {
            if kid == other {
                continue;
            }
            // Signed well, and with another key than it names; or as its key is not to be used.
            for algorithm in [signer.algorithm(), wrong.algorithm()] {
                let forged = signer.token(&json!({"alg": algorithm, "kid": other}), &issuer.claims(kid));
                let refused = enter(&mut world, with(forged)).await;
                assert_refused(refused, Code::Unauthenticated, "ID_TOKEN_INVALID");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_token_of_the_provider_for_us_opens_nothing() {
    let (signer, stranger) = (Signer::rsa(), Signer::p256());
    let issuer = Issuer::start(&[("1", &signer)]).await;
    let (mut world, _scratch) = on_sqlite(issuer.config()).await;
    let (now, good) = (START.as_millis() / 1000, issuer.claims("42"));
    let header = json!({"alg": "RS256", "kid": "1"});
    enter(&mut world, with(issuer.token(&signer, "1", "42"))).await.unwrap();

    let mut forged = Vec::new();
    for (name, value) in [
        ("iss", json!("https://evil.example.org")),
        ("iss", json!(format!("{}/", issuer.url))),
        ("aud", json!("another-app")),
        ("aud", json!(["parlor-web", "another-app"])),
        ("azp", json!("another-app")),
        ("exp", json!(now - 60)),
        ("exp", Value::Null),
        ("iat", json!(now + 61)),
        ("iat", Value::Null),
        ("nbf", json!(now + 61)),
        ("sub", json!("")),
        ("sub", Value::Null),
    ] {
        let mut claims = good.clone();
        claims[name] = value;
        forged.push((format!("{name} {}", claims[name]), signer.token(&header, &claims)));
    }
    let payload = encoded(good.to_string().as_bytes());
    // Unsigned, by its own word.
    for algorithm in ["none", "None", "NONE", ""] {
        let head = encoded(json!({"alg": algorithm, "kid": "1"}).to_string().as_bytes());
        forged.push((format!("alg {algorithm}"), format!("{head}.{payload}.")));
    }
    // The public key taken for a secret.
    let head = encoded(json!({"alg": "HS256", "kid": "1"}).to_string().as_bytes());
    let signed = format!("{head}.{payload}");
    let public = signer.jwk("1")["n"].as_str().unwrap().to_owned();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &URL_SAFE_NO_PAD.decode(public).unwrap());
    let signature = encoded(ring::hmac::sign(&key, signed.as_bytes()).as_ref());
    forged.push(("HS256".to_owned(), format!("{signed}.{signature}")));
    // Signed by somebody else, who brings the key along or names one that there is.
    let own = json!({"alg": "ES256", "kid": "1", "jwk": stranger.jwk("1")});
    forged.push(("own key".to_owned(), stranger.token(&own, &good)));
    forged.push(("stranger".to_owned(), stranger.token(&json!({"alg": "ES256"}), &good)));
    forged.push(("wrong algorithm".to_owned(), signer.token(&json!({"alg": "ES256", "kid": "1"}), &good)));
    forged.push((
        "critical".to_owned(),
        signer.token(&json!({"alg": "RS256", "kid": "1", "crit": ["x"]}), &good),
    ));
    forged.push(("access token".to_owned(), signer.token(&json!({"alg": "RS256", "typ": "at+jwt"}), &good)));
    // Changed after it was signed.
    let token = signer.token(&header, &good);
    let [head, _, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    let other = encoded(issuer.claims("43").to_string().as_bytes());
    forged.push(("payload".to_owned(), format!("{head}.{other}.{signature}")));
    forged.push(("no signature".to_owned(), format!("{head}.{payload}.")));
    forged.push(("half".to_owned(), format!("{head}.{payload}.{}", &signature[..100])));
    forged.push(("nonsense".to_owned(), "nonsense".to_owned()));

    for (what, token) in forged {
        match world.auth.login_with_provider(with(token)).await {
            Err(status) => {
                assert_eq!(
                    (status.code(), reason(&status).as_str()),
                    (Code::Unauthenticated, "ERROR_REASON_ID_TOKEN_INVALID"),
                    "{what}: {}",
                    status.message()
                );
            }
            Ok(_) => panic!("{what} opens an account"),
        }
    }
    let long = with(format!("{token}{}", "A".repeat(16 * 1024)));
    assert_refused(enter(&mut world, long).await, Code::InvalidArgument, "INVALID_FIELD");
    let unknown = pb::LoginWithProviderRequest { provider: "other".to_owned(), ..with(token.clone()) };
    assert_refused(enter(&mut world, unknown).await, Code::NotFound, "PROVIDER_NOT_FOUND");

    // A nonce that the client remembers must be in the token.
    let mut claims = issuer.claims("42");
    claims["nonce"] = json!("n-1");
    let carrying = signer.token(&header, &claims);
    let nonce = |token: &str, nonce: &str| pb::LoginWithProviderRequest {
        nonce: nonce.to_owned(),
        ..with(token.to_owned())
    };
    for request in [nonce(&carrying, "n-2"), nonce(&token, "n-1")] {
        assert_refused(enter(&mut world, request).await, Code::Unauthenticated, "ID_TOKEN_INVALID");
    }
    enter(&mut world, nonce(&carrying, "n-1")).await.unwrap();
    // Neither the token nor its nonce comes twice.
    claims["jti"] = json!("another");
    let again = signer.token(&header, &claims);
    for used in [&carrying, &again] {
        let refused = enter(&mut world, nonce(used, "n-1")).await;
        let fault = assert_refused(refused, Code::Unauthenticated, "ID_TOKEN_INVALID");
        assert!(fault.text().contains("was used before"), "{}", fault.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_token_is_used_once_and_a_claim_keeps_no_owner_out() {
    let signer = Signer::ed25519();
    let issuer = Issuer::start(&[("1", &signer)]).await;
    let (database, scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let mut world = World::start(database, issuer.config()).await;
    // An account that claims the address, which is the provider's user's.
    let eve = world.register("ann").await;
    let mut claims = issuer.claims("42");
    claims["email"] = json!("ANN@example.org");
    claims["email_verified"] = json!(true);
    let token = signer.token(&json!({"alg": "EdDSA", "kid": "1"}), &claims);
    let (ann, created) = enter(&mut world, with(token.clone())).await.unwrap();
    assert!(created && ann.user.email_verified && ann.user.user_id != eve.user.user_id);
    assert_eq!(ann.user.email, "ANN@example.org");
    let used = enter(&mut world, with(token.clone())).await;
    let fault = assert_refused(used, Code::Unauthenticated, "ID_TOKEN_INVALID");
    assert!(fault.text().contains("was used before"), "{}", fault.text());
    let used = world.auth.link_provider(eve.asks(link(PASSWORD, &token))).await;
    assert_refused(used, Code::Unauthenticated, "ID_TOKEN_INVALID");
    assert!(!enter(&mut world, with(issuer.token(&signer, "1", "42"))).await.unwrap().1);

    // The next process knows it too.
    assert!(world.unit.tasks.stop(Duration::from_secs(5)).await);
    world.unit.database.unwrap().close().await;
    let database = Database::open(&scratch.config(), "auth", &MIGRATOR).await.unwrap();
    let mut world = World::start(database, issuer.config()).await;
    assert_refused(enter(&mut world, with(token)).await, Code::Unauthenticated, "ID_TOKEN_INVALID");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_asked_for_seldom_and_outlive_an_outage() {
    let (old, new) = (Signer::ed25519(), Signer::ed25519());
    let issuer = Issuer::start(&[("old", &old)]).await;
    let (mut world, _scratch) = on_sqlite(issuer.config()).await;
    let seconds = Duration::from_secs;
    for _ in 0..5 {
        enter(&mut world, with(issuer.token(&old, "old", "42"))).await.unwrap();
    }
    assert_eq!(issuer.asked(), 1);

    // Tokens with keys that there are not do not make us ask more than once a minute.
    world.clock.advance(seconds(60));
    for number in 0..20 {
        let made_up = with(issuer.token(&new, &format!("k{number}"), "42"));
        assert_refused(enter(&mut world, made_up).await, Code::Unauthenticated, "ID_TOKEN_INVALID");
    }
    assert_eq!(issuer.asked(), 2);

    // A new key is found at the latest then.
    issuer.has(&[("old", &old), ("new", &new)]);
    let fresh = || with(issuer.token(&new, "new", "42"));
    assert_refused(enter(&mut world, fresh()).await, Code::Unauthenticated, "ID_TOKEN_INVALID");
    world.clock.advance(seconds(60));
    enter(&mut world, fresh()).await.unwrap();
    assert_eq!(issuer.asked(), 3);

    // While the provider is away, what is known counts, however old it is; and nobody keeps knocking there.
    issuer.change(|served| served.is_down = true);
    world.clock.advance(seconds(3600 * 5));
    for _ in 0..5 {
        enter(&mut world, fresh()).await.unwrap();
    }
    world.clock.advance(seconds(61));
    enter(&mut world, fresh()).await.unwrap();
    assert_eq!(issuer.asked(), 3, "a server that has no document is not asked for keys");

    // A key that the provider has taken back stops counting when the keys are old.
    issuer.change(|served| served.is_down = false);
    issuer.has(&[("new", &new)]);
    world.clock.advance(seconds(61));
    let old_one = with(issuer.token(&old, "old", "42"));
    assert_refused(enter(&mut world, old_one).await, Code::Unauthenticated, "ID_TOKEN_INVALID");
    enter(&mut world, fresh()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_taken_back_ends_with_the_fetch_that_shows_it() {
    let [old, new] = [Signer::p256(), Signer::p256()];
    let issuer = Issuer::start(&[("old", &old)]).await;
    let (mut world, _scratch) = on_sqlite(issuer.config()).await;
    enter(&mut world, with(issuer.token(&old, "old", "42"))).await.unwrap();
    // Time goes on while the provider answers, as it does.
    let clock = world.clock.clone();
    issuer.change(|served| served.clock = Some(clock));
    issuer.has(&[("new", &new)]);
    world.clock.advance(Duration::from_secs(3600));
    let refused = enter(&mut world, with(issuer.token(&old, "old", "42"))).await;
    assert_refused(refused, Code::Unauthenticated, "ID_TOKEN_INVALID");
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_says_something_else_is_not_believed() {
    let signer = Signer::p256();
    let issuer = Issuer::start(&[("1", &signer)]).await;
    let (mut world, _scratch) = on_sqlite(issuer.config()).await;
    let url = issuer.url.clone();
    let keys = format!("{url}/keys");
    let wrong = [
        json!({"issuer": format!("{url}/"), "jwks_uri": keys}),
        json!({"issuer": "https://evil.example.org", "jwks_uri": keys}),
        json!({"issuer": url, "jwks_uri": "http://keys.example.org/"}),
        json!({"issuer": url, "jwks_uri": "file:///etc/passwd"}),
        json!({"issuer": url, "jwks_uri": format!("{url}/nowhere")}),
        json!({"issuer": url}),
        json!("nonsense"),
        json!({"issuer": url, "jwks_uri": keys, "padding": "x".repeat(300_000)}),
    ];
    for discovery in wrong {
        issuer.change(|served| served.discovery = discovery.clone());
        let refused = enter(&mut world, with(issuer.token(&signer, "1", "42"))).await;
        let fault = assert_refused(refused, Code::Unavailable, "PROVIDER_UNAVAILABLE");
        assert!(fault.wait().is_some());
        world.clock.advance(Duration::from_secs(5));
    }
    issuer.change(|served| served.discovery = json!({"issuer": url, "jwks_uri": keys}));
    issuer.change(|served| served.keys.clear());
    let refused = enter(&mut world, with(issuer.token(&signer, "1", "42"))).await;
    assert_refused(refused, Code::Unavailable, "PROVIDER_UNAVAILABLE");
    // Right again, and soon believed again.
    issuer.has(&[("1", &signer)]);
    world.clock.advance(Duration::from_secs(5));
    enter(&mut world, with(issuer.token(&signer, "1", "42"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_sign_in_makes_no_account_that_could_not_be_registered() {
    let signer = Signer::ed25519();
    let issuer = Issuer::start(&[("1", &signer)]).await;
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let mut world = World::start(database, issuer.config()).await;
    world.register("ann").await;
    let named = |subject: &str, username: &str| pb::LoginWithProviderRequest {
        username: username.to_owned(),
        ..with(issuer.token(&signer, "1", subject))
    };
    assert_refused(enter(&mut world, named("1", "Ann")).await, Code::AlreadyExists, "USERNAME_TAKEN");
    assert_refused(enter(&mut world, named("1", "Admin")).await, Code::AlreadyExists, "USERNAME_TAKEN");
    assert_refused(enter(&mut world, named("1", "a b")).await, Code::InvalidArgument, "INVALID_FIELD");

    // An address that the provider has not verified proves nothing, takes nothing and is in nobody's way.
    for verified in [json!(false), Value::Null] {
        let mut claims = issuer.claims("2");
        claims["email"] = json!("ann@example.org");
        claims["email_verified"] = verified;
        let token = signer.token(&json!({"alg": "EdDSA", "kid": "1"}), &claims);
        let (person, _) = enter(&mut world, with(token)).await.unwrap();
        assert_eq!((person.user.email.as_str(), person.user.email_verified), ("", false));
    }

    // The name that was made up is one to sign in with some day.
    let (made_up, created) = enter(&mut world, named("3", "")).await.unwrap();
    assert!(created && made_up.user.username.split('-').count() == 3, "{}", made_up.user.username);

    // Who comes twice at once has one account.
    let tries = (0..4).map(|_| {
        let (mut auth, request) = (world.auth.clone(), named("4", ""));
        async move { auth.login_with_provider(request).await.unwrap().into_inner() }
    });
    let mut tries: tokio::task::JoinSet<_> = tries.collect();
    let mut people = Vec::new();
    while let Some(answer) = tries.join_next().await {
        let answer = answer.unwrap();
        people.push((answer.user.unwrap().user_id, answer.created));
    }
    assert!(people.iter().all(|(id, _)| *id == people[0].0));
    assert_eq!(people.iter().filter(|(_, created)| *created).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_registration_is_closed_at_this_door_too() {
    let signer = Signer::ed25519();
    let issuer = Issuer::start(&[("1", &signer)]).await;
    let config = Config { registration_open: Some(false), ..issuer.config() };
    let (mut world, _scratch) = on_sqlite(config).await;
    let refused = enter(&mut world, with(issuer.token(&signer, "1", "42"))).await;
    assert_refused(refused, Code::FailedPrecondition, "REGISTRATION_CLOSED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_without_a_password_is_changed_and_deleted_by_who_has_just_signed_in() {
    let signer = Signer::ed25519();
    let issuer = Issuer::start(&[("1", &signer)]).await;
    let (mut world, _scratch) = on_sqlite(issuer.config()).await;
    let sign_in = || with(issuer.token(&signer, "1", "42"));
    let (old, _) = enter(&mut world, sign_in()).await.unwrap();
    world.clock.advance(Duration::from_secs(600));
    let delete = |person: &Person| person.asks(pb::DeleteUserRequest::default());
    let identity = issuer.token(&signer, "1", "42");
    let refused = world.auth.link_provider(old.asks(link("", &identity))).await;
    assert_refused(refused, Code::FailedPrecondition, "SIGN_IN_AGAIN");
    let refused = world.auth.unlink_provider(old.asks(unlink(""))).await;
    assert_refused(refused, Code::FailedPrecondition, "SIGN_IN_AGAIN");
    let move_to = |email: &str| {
        let user = pb::UserChanges { email: email.to_owned(), ..Default::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["email".to_owned()] });
        pb::UpdateUserRequest { user: Some(user), update_mask, ..Default::default() }
    };
    let refused = world.users.update_user(old.asks(move_to("eve@example.org"))).await;
    assert_refused(refused, Code::FailedPrecondition, "SIGN_IN_AGAIN");
    let refused = world.users.delete_user(delete(&old)).await;
    assert_refused(refused, Code::FailedPrecondition, "SIGN_IN_AGAIN");
    // Using the session, or trading its token, does not make it new.
    let token = world.refresh(&old.token).await.unwrap();
    let refused = world.users.delete_user(delete(&Person { token, ..old.clone() })).await;
    assert_refused(refused, Code::FailedPrecondition, "SIGN_IN_AGAIN");
    let (fresh, _) = enter(&mut world, sign_in()).await.unwrap();
    world.clock.advance(Duration::from_secs(599));
    world.auth.link_provider(fresh.asks(link("", &identity))).await.unwrap();
    world.users.update_user(fresh.asks(move_to("new@example.org"))).await.unwrap();
    let refused = world.auth.unlink_provider(fresh.asks(unlink(""))).await;
    assert_refused(refused, Code::FailedPrecondition, "LAST_SIGN_IN");
    world.users.delete_user(delete(&fresh)).await.unwrap();
    assert_eq!(world.introspect(&old.token).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_may_come_with_so_many_tokens() {
    let signer = Signer::ed25519();
    let issuer = Issuer::start(&[("1", &signer)]).await;
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let networks = NetworksConfig { burst: 2.try_into().unwrap(), refill: Duration::from_secs(30) };
    let config = Config { networks, oidc: issuer.config().oidc, ..in_production() };
    let mut world = World::start_in(Profile::Production, database, config, START).await;
    for _ in 0..2 {
        enter(&mut world, with(issuer.token(&signer, "1", "42"))).await.unwrap();
    }
    let refused = enter(&mut world, with(issuer.token(&signer, "1", "42"))).await;
    assert_refused(refused, Code::ResourceExhausted, "RATE_LIMITED");
}
