//! Auth through its own door: the rpcs, with identity, checks and limits around them.

mod export;
mod people;
mod reviews;

use std::time::Duration;

use chassis::clock::{Clock, Timestamp};
use chassis::config::Secret;
use chassis::database::{Database, testing};
use chassis::events::{Delivery, Events, Subscription};
use chassis::fault::Fault;
use chassis::identity::{AcceptedServices, ServiceCredential};
use chassis::middleware::LimitsConfig;
use chassis::profile::Profile;
use chassis::rates::RatesConfig;
use chassis::transport::{Transport, as_service};
use chassis::unit::Unit;
use prost::Message;
use proto::auth::v1 as pb;
use proto::auth::v1::auth_service_client::AuthServiceClient;
use proto::auth::v1::user_service_client::UserServiceClient;
use proto::id::UserId;
use proto::subject;
use tokio::sync::mpsc;
use tonic::{Code, Request, Status};

use crate::{AttemptsConfig, Config, Deps, MIGRATOR, PasswordsConfig};

mod background_checks;
mod claims;
mod external_accounts;
mod issuer;
mod mailing;
mod otps;
mod providers;
mod signing_up;

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);
const PASSWORD: &str = "correct horse battery";

/// Auth on a database, and a clock that stands still.
struct World {
    auth: AuthServiceClient<Transport>,
    users: UserServiceClient<Transport>,
    clock: Clock,
    events: Events,
    gateway: ServiceCredential,
    messaging: ServiceCredential,
    unit: Unit,
}

fn config() -> Config {
    let passwords = PasswordsConfig { memory_kib: 64, passes: 1, threads: 1, ..PasswordsConfig::default() };
    Config { passwords, ..Config::default() }
}

impl World {
    async fn start(database: Database, config: Config) -> Self {
        Self::start_at(database, config, START).await
    }

    async fn start_at(database: Database, config: Config, now: Timestamp) -> Self {
        Self::start_in(Profile::Development, database, config, now).await
    }

    async fn start_in(profile: Profile, database: Database, config: Config, now: Timestamp) -> Self {
        let (clock, events) = (Clock::manual(now), Events::local());
        let secret = Secret::new("the secret of the gateway");
        let deps = Deps {
            database,
            events: events.clone(),
            clock: clock.clone(),
            accepted: AcceptedServices::with_secrets(
                ["gateway", "conversation", "messaging"].map(|name| (name, &secret)),
            ),
            limits: LimitsConfig { rates: RatesConfig::unlimited(), ..LimitsConfig::default() },
            profile,
        };
        let unit = crate::start(config, deps).await.unwrap();
        let transport = Transport::local(unit.grpc.clone().unwrap());
        let [gateway, messaging] =
            ["gateway", "messaging"].map(|name| ServiceCredential::new(name, &secret).unwrap());
        let (auth, users) = (AuthServiceClient::new(transport.clone()), UserServiceClient::new(transport));
        Self { auth, users, clock, events, gateway, messaging, unit }
    }

    /// Makes an account and signs it in.
    async fn register(&mut self, username: &str) -> Person {
        let request = pb::RegisterRequest {
            username: username.to_owned(),
            password: PASSWORD.to_owned(),
            email: format!("{username}@example.org"),
            device_name: "phone".to_owned(),
            ..Default::default()
        };
        let answer = self.auth.register(request).await.unwrap().into_inner();
        Person::from(answer.user, answer.grant)
    }

    async fn login(&mut self, login: &str, password: &str) -> Result<Person, Status> {
        let request = pb::LoginRequest {
            login: login.to_owned(),
            password: password.to_owned(),
            device_name: "laptop".to_owned(),
        };
        let answer = self.auth.login(request).await?.into_inner();
        Ok(Person::from(answer.user, answer.grant))
    }

    async fn guest(&mut self) -> Person {
        let answer = self.auth.login_as_guest(pb::LoginAsGuestRequest::default()).await.unwrap().into_inner();
        Person::from(answer.user, answer.grant)
    }

    async fn introspect(&mut self, token: &str) -> Option<pb::CallerInfo> {
        let message = pb::IntrospectRequest { session_token: token.to_owned() };
        let request = as_service(message, &self.gateway, None);
        self.auth.introspect(request).await.unwrap().into_inner().caller
    }

    async fn refresh(&mut self, token: &str) -> Result<String, Status> {
        let request = pb::RefreshSessionRequest { session_token: token.to_owned() };
        Ok(self.auth.refresh_session(request).await?.into_inner().grant.unwrap().session_token)
    }

    async fn sessions(&mut self, person: &Person) -> Vec<pb::Session> {
        let request = person.asks(pb::ListSessionsRequest {});
        self.auth.list_sessions(request).await.unwrap().into_inner().sessions
    }

    /// Waits until the token of a session that has ended is not taken any more: hints take a moment.
    async fn until_refused(&mut self, person: &Person) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(4);
        loop {
            match self.users.get_me(person.asks(pb::GetMeRequest {})).await {
                Err(status) => return assert_eq!(reason(&status), "ERROR_REASON_UNAUTHENTICATED"),
                Ok(_) => assert!(tokio::time::Instant::now() < deadline, "the token is still taken"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What is published on a subject from now on.
    async fn hints(&self, subject: &str) -> (mpsc::Receiver<Delivery>, Subscription) {
        let (sender, receiver) = mpsc::channel(16);
        let subscription = self.events.subscribe(subject, sender).await;
        (receiver, subscription)
    }
}

/// Somebody who is signed in.
#[derive(Clone, Debug)]
struct Person {
    user: pb::User,
    session: pb::Session,
    token: String,
}

impl Person {
    fn from(user: Option<pb::User>, grant: Option<pb::SessionGrant>) -> Self {
        let pb::SessionGrant { session_token, session } = grant.unwrap();
        Self { user: user.unwrap(), session: session.unwrap(), token: session_token }
    }

    fn asks<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        request
    }
}

fn reason(status: &Status) -> String {
    Fault::of(status).reason().to_owned()
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, expected: &str) -> Fault {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (code, format!("ERROR_REASON_{expected}")));
    Fault::of(&status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_on_sqlite() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    a_life(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_on_postgres() {
    let Some((database, _scratch)) = testing::postgres(&MIGRATOR, "auth").await else { return };
    a_life(database).await;
}

async fn a_life(database: Database) {
    let mut world = World::start(database, config()).await;
    let phone = world.register("Ann").await;
    assert_eq!((phone.user.username.as_str(), phone.user.display_name.as_str()), ("ann", "ann"));
    assert_eq!((phone.user.email.as_str(), phone.user.kind()), ("Ann@example.org", pb::UserKind::Registered));
    assert!(phone.session.current && phone.session.device_name == "phone");

    // A second device, by name and by address.
    let laptop = world.login("ANN", PASSWORD).await.unwrap();
    let tablet = world.login("ann@EXAMPLE.org", PASSWORD).await.unwrap();
    assert_eq!(laptop.user, phone.user);
    let known = world.introspect(&laptop.token).await.unwrap();
    assert_eq!(
        (known.user_id, known.session_id.clone()),
        (phone.user.user_id.clone(), laptop.session.session_id.clone())
    );
    assert_eq!(known.expire_millis, START.as_millis() + 30 * 86_400_000);
    assert_eq!(world.introspect("no token of ours").await, None);

    // The laptop trades its token; a second tab that comes at once gets the same one.
    let renewed = world.refresh(&laptop.token).await.unwrap();
    world.clock.advance(Duration::from_secs(9));
    assert_eq!(world.refresh(&laptop.token).await.unwrap(), renewed);
    assert_eq!(world.introspect(&laptop.token).await, None);
    assert_eq!(world.introspect(&renewed).await.unwrap().session_id, known.session_id);

    // Somebody comes late with the old one: nobody can tell who the thief is, so the session ends.
    let (mut ended, _subscription) = world.hints(subject::SESSIONS_ENDED).await;
    world.clock.advance(Duration::from_secs(1));
    assert_refused(world.refresh(&laptop.token).await, Code::Unauthenticated, "UNAUTHENTICATED");
    assert_eq!(world.introspect(&renewed).await, None);
    let hint = pb::SessionsEnded::decode(ended.recv().await.unwrap().payload).unwrap();
    assert_eq!((hint.user_id, hint.session_ids), (phone.user.user_id.clone(), vec![known.session_id]));

    // Two are left. The phone ends the tablet's.
    let listed: Vec<_> =
        world.sessions(&phone).await.into_iter().map(|s| (s.session_id, s.current)).collect();
    let [phones, tablets] = [&phone, &tablet].map(|person| person.session.session_id.clone());
    assert_eq!(listed, [(tablets.clone(), false), (phones.clone(), true)]);
    let revoke =
        |session_id: &String| phone.asks(pb::RevokeSessionRequest { session_id: session_id.clone() });
    world.auth.revoke_session(revoke(&tablets)).await.unwrap();
    assert_refused(world.auth.revoke_session(revoke(&tablets)).await, Code::NotFound, "SESSION_NOT_FOUND");
    assert_eq!(world.introspect(&tablet.token).await, None);
    world.until_refused(&tablet).await;

    // A new password ends all sessions but the one that sets it.
    let laptop = world.login("ann", PASSWORD).await.unwrap();
    let change = |old: &str, new: &str| {
        phone.asks(pb::ChangePasswordRequest { old_password: old.to_owned(), new_password: new.to_owned() })
    };
    assert_refused(
        world.auth.change_password(change("wrong", "a new password")).await,
        Code::Unauthenticated,
        "BAD_CREDENTIALS",
    );
    assert_refused(
        world.auth.change_password(change(PASSWORD, "password123")).await,
        Code::InvalidArgument,
        "WEAK_PASSWORD",
    );
    assert_refused(
        world.auth.change_password(change(PASSWORD, "i am Ann!")).await,
        Code::InvalidArgument,
        "WEAK_PASSWORD",
    );
    world.auth.change_password(change(PASSWORD, "a new password")).await.unwrap();
    assert_eq!(world.introspect(&laptop.token).await, None);
    assert!(world.introspect(&phone.token).await.is_some());
    assert_refused(world.login("ann", PASSWORD).await, Code::Unauthenticated, "BAD_CREDENTIALS");
    let laptop = world.login("ann", "a new password").await.unwrap();

    // Signing out ends one session; deleting the account ends all.
    world.auth.logout(laptop.asks(pb::LogoutRequest {})).await.unwrap();
    world.until_refused(&laptop).await;
    let (mut facts, _subscription) = world.hints(subject::AUTH_FACTS).await;
    let delete = |password: &str| phone.asks(pb::DeleteUserRequest { password: password.to_owned() });
    assert_refused(world.users.delete_user(delete(PASSWORD)).await, Code::Unauthenticated, "BAD_CREDENTIALS");
    world.users.delete_user(delete("a new password")).await.unwrap();
    facts.recv().await.unwrap();
    assert_eq!(world.introspect(&phone.token).await, None);
    world.until_refused(&phone).await;
    assert_refused(world.login("ann", "a new password").await, Code::Unauthenticated, "BAD_CREDENTIALS");

    // Others see that a person was there, and the name rests.
    let again = pb::RegisterRequest {
        username: "ann".to_owned(),
        password: PASSWORD.to_owned(),
        ..Default::default()
    };
    assert_refused(world.auth.register(again).await, Code::AlreadyExists, "USERNAME_TAKEN");
    let next = world.register("eve").await;
    let get = next.asks(pb::GetUserRequest { user_id: phone.user.user_id.clone() });
    let gone = world.users.get_user(get).await.unwrap().into_inner().user.unwrap();
    let tombstone = pb::User {
        user_id: phone.user.user_id.clone(),
        delete_time: Some(world.clock.now().to_proto()),
        ..Default::default()
    };
    assert_eq!(gone, tombstone);

    let secret = Secret::new("the secret of the gateway");
    let conversation = ServiceCredential::new("conversation", &secret).unwrap();
    let request = as_service(pb::ListUserFactsRequest::default(), &conversation, None);
    let facts = world.auth.list_user_facts(request).await.unwrap().into_inner().facts;
    let [fact] = facts.as_slice() else { panic!("{facts:?}") };
    assert_eq!((fact.position, &fact.user_id), (1, &phone.user.user_id));
    assert_eq!(fact.payload, Some(pb::user_fact::Payload::UserDeleted(pb::UserDeleted {})));
    assert!(world.unit.tasks.stop(Duration::from_secs(5)).await);
}

async fn on_sqlite(config: Config) -> (World, testing::Scratch) {
    let (database, scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    (World::start(database, config).await, scratch)
}

#[tokio::test]
async fn nobody_learns_which_names_there_are_from_signing_in() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    world.register("ann").await;
    let wrong = world.login("ann", "not the password").await.unwrap_err();
    for nobody in ["bob", "bob@example.org", "no name at all", "guest-7f3k", "@"] {
        let unknown = world.login(nobody, PASSWORD).await.unwrap_err();
        assert_eq!((unknown.code(), unknown.message()), (wrong.code(), wrong.message()));
        assert_eq!(Fault::of(&unknown), Fault::of(&wrong), "{nobody}");
    }
}

#[tokio::test]
async fn tries_of_passwords_are_counted_over_restarts_and_replicas() {
    let attempts = AttemptsConfig { burst: 3.try_into().unwrap(), refill: Duration::from_secs(90) };
    let config = Config { attempts, ..config() };
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let mut one = World::start(database.clone(), config.clone()).await;
    one.register("ann").await;
    for _ in 0..3 {
        assert_refused(one.login("ann", "not the password").await, Code::Unauthenticated, "BAD_CREDENTIALS");
    }
    let mut other = World::start(database, config).await;
    for world in [&mut other, &mut one] {
        assert_refused(world.login("ann", PASSWORD).await, Code::ResourceExhausted, "RATE_LIMITED");
    }
}

#[tokio::test]
async fn tries_are_counted_for_names_that_exist_and_for_others() {
    let attempts = AttemptsConfig { burst: 3.try_into().unwrap(), refill: Duration::from_secs(90) };
    let (mut world, _scratch) = on_sqlite(Config { attempts, ..config() }).await;
    let ann = world.register("ann").await;
    for name in ["ann", "nobody", "ann@example.org", "Somebody Else"] {
        for _ in 0..3 {
            assert_refused(
                world.login(name, "not the password").await,
                Code::Unauthenticated,
                "BAD_CREDENTIALS",
            );
        }
        let fault =
            assert_refused(world.login(name, PASSWORD).await, Code::ResourceExhausted, "RATE_LIMITED");
        assert_eq!(fault.wait(), Some(Duration::from_secs(90)));
    }
    // Whoever has the session may not try passwords either.
    let try_delete = || ann.asks(pb::DeleteUserRequest { password: "not the password".to_owned() });
    for _ in 0..3 {
        assert_refused(world.users.delete_user(try_delete()).await, Code::Unauthenticated, "BAD_CREDENTIALS");
    }
    assert_refused(world.users.delete_user(try_delete()).await, Code::ResourceExhausted, "RATE_LIMITED");
    world.clock.advance(Duration::from_secs(90));
    world.login("ANN", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn what_is_taken_or_weak_is_refused() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    world.register("ann").await;
    let request = |username: &str, email: &str, password: &str| pb::RegisterRequest {
        username: username.to_owned(),
        email: email.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    };
    let taken = world.auth.register(request("ANN", "", PASSWORD)).await;
    assert_refused(taken, Code::AlreadyExists, "USERNAME_TAKEN");
    let weak = world.auth.register(request("bob", "", "iloveyou")).await;
    assert_refused(weak, Code::InvalidArgument, "WEAK_PASSWORD");
    let invalid = world.auth.register(request("bob smith", "", PASSWORD)).await;
    let fault = assert_refused(invalid, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fault.fields()[0].0, "username");
    let invalid = world.auth.register(request("bob", "", "short")).await;
    let fault = assert_refused(invalid, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fault.fields()[0].0, "password");
}

#[tokio::test]
async fn registration_can_be_closed_while_guests_still_come_in() {
    let (mut world, _scratch) = on_sqlite(Config { registration_open: Some(false), ..config() }).await;
    let request = pb::RegisterRequest {
        username: "ann".to_owned(),
        password: PASSWORD.to_owned(),
        ..Default::default()
    };
    assert_refused(world.auth.register(request).await, Code::FailedPrecondition, "REGISTRATION_CLOSED");
    world.guest().await;
}

#[tokio::test]
async fn a_guest_is_somebody_without_a_password() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (guest, other) = (world.guest().await, world.guest().await);
    assert_ne!(guest.user.user_id, other.user.user_id);
    assert_eq!((guest.user.kind(), guest.user.username.as_str()), (pb::UserKind::Guest, ""));
    assert!(guest.user.display_name.starts_with("guest-"), "{}", guest.user.display_name);
    assert_eq!(world.introspect(&guest.token).await.unwrap().kind(), pb::UserKind::Guest);
    let change =
        pb::ChangePasswordRequest { old_password: "x".to_owned(), new_password: PASSWORD.to_owned() };
    let refused = world.auth.change_password(guest.asks(change)).await;
    assert_refused(refused, Code::FailedPrecondition, "GUEST_ACCOUNT");
    world.users.delete_user(guest.asks(pb::DeleteUserRequest::default())).await.unwrap();
    assert_eq!(world.introspect(&guest.token).await, None);

    // One who only leaves is gone soon after: nobody can ever come back as it.
    world.auth.logout(other.asks(pb::LogoutRequest {})).await.unwrap();
    assert_eq!(world.introspect(&other.token).await, None);
}

#[tokio::test]
async fn guests_go_when_their_session_has_ended() {
    let (mut world, scratch) = on_sqlite(config()).await;
    let (guest, ann) = (world.guest().await, world.register("ann").await);
    assert!(world.unit.tasks.stop(Duration::from_secs(5)).await);
    world.unit.database.unwrap().close().await;

    let database = Database::open(&scratch.config(), "auth", &MIGRATOR).await.unwrap();
    let mut world = World::start_at(database, config(), START.plus(Duration::from_secs(31 * 86_400))).await;
    let viewer = world.register("bob").await;
    let ask = || viewer.asks(pb::GetUserRequest { user_id: guest.user.user_id.clone() });
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while world.users.get_user(ask()).await.unwrap().into_inner().user.unwrap().delete_time.is_none() {
        assert!(tokio::time::Instant::now() < deadline, "the guest is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.introspect(&ann.token).await, None);
    world.login("ann", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn use_keeps_a_session_alive_and_is_written_once_a_minute() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let ann = world.register("ann").await;
    let last_use = async |world: &mut World| world.sessions(&ann).await[0].last_use_time.unwrap();
    world.clock.advance(Duration::from_secs(59));
    world.introspect(&ann.token).await.unwrap();
    world.clock.advance(Duration::from_secs(61));
    world.introspect(&ann.token).await.unwrap();
    let used = START.plus(Duration::from_secs(120));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let seen = last_use(&mut world).await;
        if seen == used.to_proto() {
            break;
        }
        assert_eq!(seen, START.to_proto(), "59 s after signing in is not worth a write");
        assert!(tokio::time::Instant::now() < deadline, "the use is not written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Used for the last time two minutes after it began, it ends thirty days after that.
    world.clock.advance(Duration::from_secs(30 * 86_400 - 1));
    let known = world.introspect(&ann.token).await.unwrap();
    assert_eq!(known.expire_millis, used.plus(Duration::from_secs(30 * 86_400)).as_millis());
}

#[tokio::test]
async fn an_idle_session_ends_by_itself() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let ann = world.register("ann").await;
    world.clock.advance(Duration::from_secs(30 * 86_400));
    assert_eq!(world.introspect(&ann.token).await, None);
    assert_refused(world.refresh(&ann.token).await, Code::Unauthenticated, "UNAUTHENTICATED");
}

#[tokio::test]
async fn a_password_is_hashed_anew_when_the_parameters_have_changed() {
    let (mut world, scratch) = on_sqlite(config()).await;
    let ann = world.register("ann").await;
    assert!(world.unit.tasks.stop(Duration::from_secs(5)).await);
    world.unit.database.unwrap().close().await;

    let database = Database::open(&scratch.config(), "auth", &MIGRATOR).await.unwrap();
    let store = crate::store::Store::new(&database);
    let kept = async || {
        let id = UserId::parse(&ann.user.user_id).unwrap();
        store.find_credentials(id).await.unwrap().unwrap().hash.unwrap().as_str().to_owned()
    };
    assert!(kept().await.contains("m=64,"));
    let mut stronger = config();
    stronger.passwords.memory_kib = 128;
    let mut world = World::start(database, stronger).await;
    assert!(world.login("ann", "not the password").await.is_err());
    assert!(kept().await.contains("m=64,"));
    world.login("ann", PASSWORD).await.unwrap();
    assert!(kept().await.contains("m=128,"));
    world.login("ann", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn others_see_a_user_without_its_address() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (ann, bob, guest) = (world.register("ann").await, world.register("bob").await, world.guest().await);
    let me = world.users.get_me(ann.asks(pb::GetMeRequest {})).await.unwrap().into_inner().user.unwrap();
    assert_eq!(me.email, "ann@example.org");
    let get = ann.asks(pb::GetUserRequest { user_id: bob.user.user_id.clone() });
    let seen = world.users.get_user(get).await.unwrap().into_inner().user.unwrap();
    assert_eq!(seen, pb::User { email: String::new(), visibility: 0, ..bob.user.clone() });

    let nobody = UserId::generate().to_string();
    let get = ann.asks(pb::GetUserRequest { user_id: nobody.clone() });
    assert_refused(world.users.get_user(get).await, Code::NotFound, "USER_NOT_FOUND");
    let ids = [&guest.user.user_id, &nobody, &ann.user.user_id, &guest.user.user_id].map(String::clone);
    let batch = async |user_ids: &[String], usernames: &[&str]| {
        let usernames = usernames.iter().map(|name| (*name).to_owned()).collect();
        let request = bob.asks(pb::BatchGetUsersRequest { user_ids: user_ids.to_vec(), usernames });
        let users = world.users.clone().batch_get_users(request).await?.into_inner().users;
        assert!(users.iter().all(|user| user.email.is_empty()));
        Ok::<_, Status>(users.into_iter().map(|user| user.user_id).collect::<Vec<_>>())
    };
    let [guests, anns, bobs] = [&guest, &ann, &bob].map(|person| person.user.user_id.clone());
    assert_eq!(batch(&ids, &[]).await.unwrap(), [guests.clone(), anns.clone()]);
    // By name in whatever case; whoever is asked for twice comes once, and what is no name is nobody's.
    let names = ["BOB", "nobody", "no name at all", "", "@", "Ann", "bob"];
    assert_eq!(batch(&ids, &names).await.unwrap(), [guests, anns.clone(), bobs.clone()]);
    assert_eq!(batch(&[], &names).await.unwrap(), [bobs, anns]);
    assert_eq!(batch(&[], &["no name at all"]).await.unwrap(), [""; 0]);
    let fault = assert_refused(batch(&[], &[]).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fault.fields()[0].0, "user_ids");
}

/// A key that some device has made.
fn public_key(seed: u8) -> Vec<u8> {
    ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes().to_vec()
}

fn key(public_key: Vec<u8>, name: &str) -> pb::RegisterDeviceKeyRequest {
    pb::RegisterDeviceKeyRequest { public_key, name: name.to_owned(), password: String::new() }
}

impl World {
    async fn register_key(&mut self, person: &Person, seed: u8) -> Result<pb::DeviceKey, Status> {
        let request = person.asks(key(public_key(seed), " phone "));
        Ok(self.users.register_device_key(request).await?.into_inner().device_key.unwrap())
    }

    async fn keys(&mut self, asks: &Person, of: &str) -> Result<Vec<pb::DeviceKey>, Status> {
        let request = asks.asks(pb::ListDeviceKeysRequest { user_id: of.to_owned() });
        Ok(self.users.list_device_keys(request).await?.into_inner().device_keys)
    }

    async fn revoke_key(&mut self, person: &Person, id: &str) -> Result<pb::DeviceKey, Status> {
        let request = person.asks(pb::RevokeDeviceKeyRequest { device_key_id: id.to_owned() });
        Ok(self.users.revoke_device_key(request).await?.into_inner().device_key.unwrap())
    }
}

#[tokio::test]
async fn a_device_key_is_registered_seen_by_all_and_revoked_once() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (ann, bob, guest) = (world.register("ann").await, world.register("bob").await, world.guest().await);
    let anns = ann.user.user_id.as_str();
    let first = world.register_key(&ann, 1).await.unwrap();
    assert_eq!((first.user_id.as_str(), first.name.as_str()), (anns, "phone"));
    assert_eq!((first.public_key.to_vec(), first.create_time), (public_key(1), Some(START.to_proto())));
    assert_eq!(first.revoke_time, None);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.register_key(&ann, 1).await.unwrap(), first);
    let second = world.register_key(&ann, 2).await.unwrap();

    // Everybody who writes with Ann may look, and messaging for them.
    for reader in [&ann, &bob, &guest] {
        assert_eq!(world.keys(reader, anns).await.unwrap(), [first.clone(), second.clone()]);
    }
    let message = || pb::ListDeviceKeysRequest { user_id: anns.to_owned() };
    let bobs_id = UserId::parse(&bob.user.user_id).unwrap();
    let request = as_service(message(), &world.messaging, Some(bobs_id));
    let listed = world.users.list_device_keys(request).await.unwrap().into_inner().device_keys;
    assert_eq!(listed, [first.clone(), second.clone()]);
    let request = as_service(message(), &world.gateway, Some(bobs_id));
    assert_eq!(world.users.list_device_keys(request).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(world.users.list_device_keys(message()).await.is_err());
    assert_eq!(world.keys(&ann, &bob.user.user_id).await.unwrap(), []);
    let nobody = UserId::generate().to_string();
    assert_refused(world.keys(&ann, &nobody).await, Code::NotFound, "USER_NOT_FOUND");

    // Only its owner revokes a key, once and for all.
    let id = first.device_key_id.as_str();
    assert_refused(world.revoke_key(&bob, id).await, Code::NotFound, "DEVICE_KEY_NOT_FOUND");
    let fault = assert_refused(world.revoke_key(&ann, &nobody).await, Code::NotFound, "DEVICE_KEY_NOT_FOUND");
    assert_eq!(fault.metadata()["device_key_id"], nobody);
    let revoked = world.revoke_key(&ann, id).await.unwrap();
    assert_eq!(revoked.revoke_time, Some(world.clock.now().to_proto()));
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.revoke_key(&ann, id).await.unwrap(), revoked);
    assert_eq!(world.keys(&bob, anns).await.unwrap(), [revoked, second]);
    let fault =
        assert_refused(world.register_key(&ann, 1).await, Code::InvalidArgument, "DEVICE_KEY_INVALID");
    assert_eq!(fault.fields(), [("public_key".to_owned(), "must not be one that was revoked".to_owned())]);
    world.register_key(&bob, 1).await.unwrap();

    // Of one who is gone nothing is left to check signatures with.
    world.users.delete_user(ann.asks(pb::DeleteUserRequest { password: PASSWORD.to_owned() })).await.unwrap();
    assert_eq!(world.keys(&bob, anns).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_no_device_key_is_refused_by_the_field_s_name() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (ann, guest) = (world.register("ann").await, world.guest().await);
    let mut neutral = vec![0; 32];
    neutral[0] = 1;
    for bad in [vec![2; 32], vec![0; 32], neutral] {
        let refused = world.users.register_device_key(ann.asks(key(bad, "phone"))).await;
        let fault = assert_refused(refused, Code::InvalidArgument, "DEVICE_KEY_INVALID");
        assert_eq!(fault.fields()[0].0, "public_key");
    }
    for bad in [0, 31, 33] {
        let refused = world.users.register_device_key(ann.asks(key(vec![2; bad], "phone"))).await;
        let fault = assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(fault.fields()[0].0, "public_key");
    }
    for bad in ["", "  ", "a\u{7}b", &"x".repeat(65)] {
        let refused = world.users.register_device_key(ann.asks(key(public_key(1), bad))).await;
        let fault = assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(fault.fields()[0].0, "name", "{bad:?}");
    }
    assert_refused(world.register_key(&guest, 1).await, Code::FailedPrecondition, "GUEST_ACCOUNT");
    assert_refused(
        world.revoke_key(&guest, &ann.user.user_id).await,
        Code::FailedPrecondition,
        "GUEST_ACCOUNT",
    );
    let anonymous = world.users.register_device_key(key(public_key(1), "phone")).await;
    assert_refused(anonymous, Code::Unauthenticated, "UNAUTHENTICATED");
    assert_eq!(world.keys(&ann, &ann.user.user_id.clone()).await.unwrap(), []);

    for seed in 1..=20 {
        world.register_key(&ann, seed).await.unwrap();
    }
    let refused = world.register_key(&ann, 21).await;
    let fault = assert_refused(refused, Code::ResourceExhausted, "TOO_MANY_DEVICE_KEYS");
    assert_eq!(fault.metadata()["most"], "20");
}

#[tokio::test]
async fn a_list_is_paged_and_its_token_fits_no_other_list() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let mut ids = Vec::new();
    for name in ["ann", "joanna", "bob", "hannah"] {
        ids.push(world.register(name).await.user.user_id);
    }
    let ann = world.login("ann", PASSWORD).await.unwrap();
    let request = |keyword: &str, page_token: &str| {
        ann.asks(pb::ListUsersRequest {
            keyword: keyword.to_owned(),
            page_size: 2,
            page_token: page_token.to_owned(),
            ..Default::default()
        })
    };
    let first = world.users.list_users(request("ANN", "")).await.unwrap().into_inner();
    let second = world.users.list_users(request("ann", &first.next_page_token)).await.unwrap().into_inner();
    let listed: Vec<_> = first.users.iter().chain(&second.users).map(|user| user.user_id.clone()).collect();
    assert_eq!(listed, [&ids[0], &ids[1], &ids[3]].map(String::clone));
    assert_eq!(second.next_page_token, "");
    assert!(first.users.iter().all(|user| user.email.is_empty()));
    let other = world.users.list_users(request("bob", &first.next_page_token)).await;
    let fault = assert_refused(other, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fault.fields()[0].0, "page_token");
    let by_email = pb::ListUsersRequest { email: "ANN@example.org".to_owned(), ..Default::default() };
    let found = world.users.list_users(ann.asks(by_email)).await.unwrap().into_inner();
    assert_eq!(found.users.into_iter().map(|user| user.user_id).collect::<Vec<_>>(), [ids[0].clone()]);
}

#[tokio::test]
async fn a_user_sets_what_the_mask_names() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let (ann, _bob) = (world.register("ann").await, world.register("bob").await);
    world.clock.advance(Duration::from_secs(1));
    let update = |paths: &[&str], user| {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let update_mask = Some(prost_types::FieldMask { paths });
        ann.asks(pb::UpdateUserRequest { user: Some(user), update_mask, password: PASSWORD.to_owned() })
    };
    let new = pb::UserChanges {
        display_name: "Ann Ä".to_owned(),
        bio: "hello\nworld".to_owned(),
        picture_url: "https://example.org/ann.png".to_owned(),
        ..Default::default()
    };
    let request = update(&["display_name", "picture_url"], new.clone());
    let changed = world.users.update_user(request).await.unwrap().into_inner().user.unwrap();
    let expected = pb::User {
        display_name: new.display_name.clone(),
        picture_url: new.picture_url.clone(),
        update_time: Some(world.clock.now().to_proto()),
        ..ann.user.clone()
    };
    assert_eq!(changed, expected);
    let refused = world.users.update_user(update(&["username"], new.clone())).await;
    assert_eq!(assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD").fields()[0].0, "update_mask");
}

#[tokio::test]
async fn only_services_may_ask_whose_a_token_is() {
    let (mut world, _scratch) = on_sqlite(config()).await;
    let ann = world.register("ann").await;
    let message = || pb::IntrospectRequest { session_token: ann.token.clone() };
    assert_refused(world.auth.introspect(message()).await, Code::Unauthenticated, "UNAUTHENTICATED");
    assert_eq!(world.auth.introspect(ann.asks(message())).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(world.users.get_me(pb::GetMeRequest {}).await.is_err());
}

#[tokio::test]
async fn the_twenty_first_session_ends_the_one_unused_for_longest() {
    let attempts = AttemptsConfig { burst: 100.try_into().unwrap(), ..AttemptsConfig::default() };
    let (mut world, _scratch) = on_sqlite(Config { attempts, ..config() }).await;
    let first = world.register("ann").await;
    let mut last = first.clone();
    for _ in 0..20 {
        world.clock.advance(Duration::from_secs(1));
        last = world.login("ann", PASSWORD).await.unwrap();
    }
    assert_eq!(world.introspect(&first.token).await, None);
    assert_eq!(world.sessions(&last).await.len(), 20);
    world.until_refused(&first).await;
}
