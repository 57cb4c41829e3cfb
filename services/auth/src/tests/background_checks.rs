//! Background checks, with a provider that really listens, verifies what it is sent, and reports back.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use chassis::tasks::Tasks;
use proto::auth::v1::background_check_service_client::BackgroundCheckServiceClient;
use proto::id::EventId;
use ring::hmac;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::export::lines;
use super::*;
use crate::ChecksConfig;

const SECRET: &str = "the secret of the provider of checks";

fn checks(world: &World) -> BackgroundCheckServiceClient<Transport> {
    BackgroundCheckServiceClient::new(Transport::local(world.unit.grpc.clone().unwrap()))
}

/// What the provider has got, and what it answers.
#[derive(Default)]
struct Got {
    answers: Vec<StatusCode>,
    requests: Vec<(String, Value)>,
}

/// A provider.
struct Provider {
    url: String,
    got: Arc<Mutex<Got>>,
    _tasks: Tasks,
}

impl Provider {
    /// One that answers so, in this order, and then that it has it.
    async fn start(answers: &[StatusCode]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/checks", listener.local_addr().unwrap());
        let answers = answers.iter().rev().copied().collect();
        let got = Arc::new(Mutex::new(Got { answers, ..Got::default() }));
        let router = Router::new().route("/checks", post(take)).with_state(got.clone());
        let tasks = Tasks::default();
        tasks.spawn("provider", |_| async move { axum::serve(listener, router).await.unwrap() });
        Self { url, got, _tasks: tasks }
    }

    fn config(&self) -> Config {
        let background_checks = ChecksConfig {
            url: Some(self.url.clone()),
            secret: Some(Secret::new(SECRET)),
            ..ChecksConfig::default()
        };
        Config { background_checks, ..config() }
    }

    fn requests(&self) -> Vec<(String, Value)> {
        self.got.lock().unwrap().requests.clone()
    }

    /// Waits until it was asked so often.
    async fn asked(&self, times: usize) -> Vec<(String, Value)> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let requests = self.requests();
            if requests.len() >= times {
                return requests;
            }
            assert!(tokio::time::Instant::now() < deadline, "asked {} times, not {times}", requests.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// As a provider would do it who has read the contract.
async fn take(State(got): State<Arc<Mutex<Got>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let signed = format!("parlor.background-check.request.v1\n{}\n{text}", header("parlor-timestamp"));
    assert_eq!(header("parlor-signature"), signature(&signed));
    assert_eq!(header("content-type"), "application/json");
    let mut got = got.lock().unwrap();
    got.requests.push((header("idempotency-key"), serde_json::from_str(&text).unwrap()));
    got.answers.pop().unwrap_or(StatusCode::ACCEPTED)
}

fn signature(text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    hmac::sign(&key, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn report(
    check_id: &str,
    outcome: pb::BackgroundCheckOutcome,
    now: Timestamp,
) -> pb::ReportBackgroundCheckRequest {
    let (timestamp, reference) = (now.as_millis() / 1000, "case 4711");
    let lines = [
        "parlor.background-check.report.v1",
        check_id,
        outcome.as_str_name(),
        reference,
        &timestamp.to_string(),
    ];
    pb::ReportBackgroundCheckRequest {
        check_id: check_id.to_owned(),
        outcome: outcome.into(),
        reference: reference.to_owned(),
        timestamp,
        signature: signature(&lines.join("\n")),
    }
}

fn wish() -> pb::RequestBackgroundCheckRequest {
    pb::RequestBackgroundCheckRequest {
        request_id: EventId::generate().to_string(),
        first_name: "Ann".to_owned(),
        last_name: "Archer".to_owned(),
        date_of_birth: "1990-05-17".to_owned(),
        region: "California".to_owned(),
        links: vec!["https://example.org/ann".to_owned()],
    }
}

async fn latest(world: &World, person: &Person) -> pb::BackgroundCheck {
    let answer = checks(world).get_background_check(person.asks(pb::GetBackgroundCheckRequest {})).await;
    answer.unwrap().into_inner().check.unwrap()
}

async fn until(world: &World, person: &Person, state: pb::BackgroundCheckState) -> pb::BackgroundCheck {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let check = latest(world, person).await;
        if check.state() == state {
            return check;
        }
        assert!(tokio::time::Instant::now() < deadline, "it is {:?}, not {state:?}", check.state());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn mark(world: &mut World, viewer: &Person, user_id: &str) -> Option<prost_types::Timestamp> {
    let get = viewer.asks(pb::GetUserRequest { user_id: user_id.to_owned() });
    world.users.get_user(get).await.unwrap().into_inner().user.unwrap().background_check_time
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_on_sqlite() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    a_check(database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_on_postgres() {
    let Some((database, _scratch)) = testing::postgres(&MIGRATOR, "auth").await else { return };
    a_check(database).await;
}

async fn a_check(database: Database) {
    use pb::BackgroundCheckOutcome::{Clear, Consider};
    use pb::BackgroundCheckState as State;
    // Away at first, so that it has to be tried again.
    let provider = Provider::start(&[StatusCode::SERVICE_UNAVAILABLE]).await;
    let mut world = World::start(database, provider.config()).await;
    let (ann, bob) = (world.register("ann").await, world.register("bob").await);
    let mut service = checks(&world);
    let none = service.get_background_check(ann.asks(pb::GetBackgroundCheckRequest {})).await.unwrap();
    assert_eq!(none.into_inner().check, None);

    let wish = wish();
    let check = service.request_background_check(ann.asks(wish.clone())).await.unwrap().into_inner().check;
    let check = check.unwrap();
    assert_eq!((check.state(), check.create_time), (State::Pending, Some(START.to_proto())));
    let again = service.request_background_check(ann.asks(wish.clone())).await.unwrap().into_inner();
    assert_eq!(again.check.unwrap().check_id, check.check_id);
    let other = pb::RequestBackgroundCheckRequest { region: "Nevada".to_owned(), ..wish.clone() };
    let refused = service.request_background_check(ann.asks(other)).await;
    assert_refused(refused, Code::AlreadyExists, "REQUEST_ID_REUSED");
    let second = pb::RequestBackgroundCheckRequest { request_id: EventId::generate().to_string(), ..wish };
    let refused = service.request_background_check(ann.asks(second)).await;
    let fault = assert_refused(refused, Code::FailedPrecondition, "BACKGROUND_CHECK_UNDER_WAY");
    assert_eq!(fault.metadata()["check_id"], check.check_id);

    // The provider gets it, signed, until it says that it has it.
    provider.asked(1).await;
    assert_eq!(latest(&world, &ann).await.state(), State::Pending);
    // More than the first wait, and the lease of a try that had not been written down yet.
    world.clock.advance(Duration::from_secs(121));
    let requests = provider.asked(2).await;
    let told = json!({
        "checkId": check.check_id, "firstName": "Ann", "lastName": "Archer", "dateOfBirth": "1990-05-17",
        "region": "California", "links": ["https://example.org/ann"],
    });
    for (key, body) in &requests {
        assert_eq!((key, body), (&check.check_id, &told));
    }
    until(&world, &ann, State::Submitted).await;
    assert_eq!(mark(&mut world, &bob, &ann.user.user_id).await, None);

    // It reports. What is not signed as it should be reads like what is not there.
    let now = world.clock.now();
    let good = report(&check.check_id, Clear, now);
    let unknown = EventId::generate().to_string();
    let old = now.minus(Duration::from_secs(301));
    for forged in [
        pb::ReportBackgroundCheckRequest { outcome: Consider.into(), ..good.clone() },
        pb::ReportBackgroundCheckRequest { reference: "another".to_owned(), ..good.clone() },
        pb::ReportBackgroundCheckRequest { signature: "0".repeat(64), ..good.clone() },
        pb::ReportBackgroundCheckRequest { signature: "nonsense".to_owned(), ..good.clone() },
        report(&check.check_id, Clear, old),
        report(&check.check_id, Clear, now.plus(Duration::from_secs(301))),
        pb::ReportBackgroundCheckRequest { check_id: unknown.clone(), ..good.clone() },
        report(&unknown, Clear, now),
    ] {
        let refused = service.report_background_check(forged).await;
        let fault = assert_refused(refused, Code::NotFound, "BACKGROUND_CHECK_NOT_FOUND");
        assert!(fault.metadata().is_empty(), "{:?}", fault.metadata());
    }
    assert_eq!(latest(&world, &ann).await.state(), State::Submitted);
    for _ in 0..2 {
        service.report_background_check(good.clone()).await.unwrap();
    }
    let ended = latest(&world, &ann).await;
    assert_eq!((ended.state(), ended.reference.as_str()), (State::Clear, "case 4711"));
    assert_eq!(mark(&mut world, &bob, &ann.user.user_id).await, Some(now.to_proto()));
    let refused = service.report_background_check(report(&check.check_id, Consider, now)).await;
    assert_refused(refused, Code::FailedPrecondition, "BACKGROUND_CHECK_ENDED");

    // Nobody but Ann sees it, and with the account it goes.
    let bobs = service.get_background_check(bob.asks(pb::GetBackgroundCheckRequest {})).await.unwrap();
    assert_eq!(bobs.into_inner().check, None);
    let delete = ann.asks(pb::DeleteUserRequest { password: PASSWORD.to_owned() });
    world.users.delete_user(delete).await.unwrap();
    assert_eq!(mark(&mut world, &bob, &ann.user.user_id).await, None);
    let refused = service.report_background_check(good).await;
    assert_refused(refused, Code::NotFound, "BACKGROUND_CHECK_NOT_FOUND");
    assert_eq!(provider.requests().len(), 2);
    assert!(world.unit.tasks.stop(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_provider_cannot_do_has_failed() {
    use pb::BackgroundCheckState::{Failed, Submitted};
    let answers = [StatusCode::UNPROCESSABLE_ENTITY, StatusCode::CONFLICT];
    let provider = Provider::start(&answers).await;
    let (mut world, _scratch) = on_sqlite(provider.config()).await;
    for (name, state) in [("ann", Failed), ("bob", Submitted)] {
        let person = world.register(name).await;
        checks(&world).request_background_check(person.asks(wish())).await.unwrap();
        until(&world, &person, state).await;
    }
    assert_eq!(provider.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_check_of_a_person_is_in_the_export() {
    use pb::BackgroundCheckState::{Failed, Submitted};
    let provider = Provider::start(&[StatusCode::UNPROCESSABLE_ENTITY]).await;
    let (mut world, _scratch) = on_sqlite(provider.config()).await;
    let (ann, bob) = (world.register("ann").await, world.register("bob").await);
    for (person, state) in [(&ann, Failed), (&bob, Submitted), (&ann, Submitted)] {
        checks(&world).request_background_check(person.asks(wish())).await.unwrap();
        until(&world, person, state).await;
        world.clock.advance(Duration::from_secs(1));
    }
    let exported = lines(&world.export(&ann).await["auth/background_checks.ndjson"]);
    let [newest, oldest] = exported.as_slice() else { panic!("{exported:?}") };
    assert_eq!(newest["checkId"], latest(&world, &ann).await.check_id);
    assert_eq!(newest["state"], "BACKGROUND_CHECK_STATE_SUBMITTED");
    assert_eq!(oldest["state"], "BACKGROUND_CHECK_STATE_FAILED");
    assert_eq!((&oldest["reference"], &oldest["createTime"]), (&json!(""), &json!("2026-11-18T11:06:40Z")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_is_handed_in_by_the_next_process() {
    let provider = Provider::start(&[StatusCode::BAD_GATEWAY]).await;
    let (mut world, scratch) = on_sqlite(provider.config()).await;
    let ann = world.register("ann").await;
    checks(&world).request_background_check(ann.asks(wish())).await.unwrap();
    provider.asked(1).await;
    assert!(world.unit.tasks.stop(Duration::from_secs(5)).await);
    world.unit.database.unwrap().close().await;

    let database = Database::open(&scratch.config(), "auth", &MIGRATOR).await.unwrap();
    let world = World::start_at(database, provider.config(), START.plus(Duration::from_secs(130))).await;
    until(&world, &ann, pb::BackgroundCheckState::Submitted).await;
}

#[tokio::test]
async fn without_a_provider_a_check_stays_pending_in_development() {
    let (mut world, scratch) = on_sqlite(config()).await;
    let ann = world.register("ann").await;
    let first = checks(&world).request_background_check(ann.asks(wish())).await.unwrap().into_inner().check;
    assert_eq!(first.as_ref().unwrap().state(), pb::BackgroundCheckState::Pending);
    let again = pb::RequestBackgroundCheckRequest { request_id: EventId::generate().to_string(), ..wish() };
    let refused = checks(&world).request_background_check(ann.asks(again)).await;
    assert_refused(refused, Code::FailedPrecondition, "BACKGROUND_CHECK_UNDER_WAY");
    let latest = checks(&world).get_background_check(ann.asks(pb::GetBackgroundCheckRequest {})).await;
    assert_eq!(latest.unwrap().into_inner().check, first);
    // There is no provider to report, and what was said about the user is not kept.
    let id = first.unwrap().check_id;
    let reported = report(&id, pb::BackgroundCheckOutcome::Clear, START);
    let refused = checks(&world).report_background_check(reported).await;
    assert_refused(refused, Code::NotFound, "BACKGROUND_CHECK_NOT_FOUND");
    assert!(world.unit.tasks.stop(Duration::from_secs(5)).await);
    world.unit.database.unwrap().close().await;
    let database = Database::open(&scratch.config(), "auth", &MIGRATOR).await.unwrap();
    let store = crate::store::Store::new(&database);
    let kind = crate::errand::Kind::BackgroundCheck;
    let left =
        store.claim_errands(kind, START.plus(Duration::from_secs(60)), Duration::from_secs(1), 10).await;
    assert!(left.unwrap().is_empty());
}

#[tokio::test]
async fn without_a_provider_nothing_is_pretended_in_production() {
    let (database, _scratch) = testing::sqlite(&MIGRATOR, "auth").await;
    let config = otps::in_production();
    let mut world = World::start_in(Profile::Production, database, config, START).await;
    let ann = world.register("ann").await;
    let refused = checks(&world).request_background_check(ann.asks(wish())).await;
    assert_refused(refused, Code::FailedPrecondition, "BACKGROUND_CHECKS_UNAVAILABLE");
    let refused = checks(&world)
        .report_background_check(report(
            &EventId::generate().to_string(),
            pb::BackgroundCheckOutcome::Clear,
            START,
        ))
        .await;
    assert_refused(refused, Code::NotFound, "BACKGROUND_CHECK_NOT_FOUND");
    let guest = world.guest().await;
    let refused = checks(&world).request_background_check(guest.asks(wish())).await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn what_cannot_be_true_is_named() {
    let provider = Provider::start(&[]).await;
    let (mut world, _scratch) = on_sqlite(provider.config()).await;
    let ann = world.register("ann").await;
    let wrong = [
        ("first_name", pb::RequestBackgroundCheckRequest { first_name: String::new(), ..wish() }),
        ("last_name", pb::RequestBackgroundCheckRequest { last_name: " ".to_owned(), ..wish() }),
        ("region", pb::RequestBackgroundCheckRequest { region: "x".repeat(65), ..wish() }),
        (
            "date_of_birth",
            pb::RequestBackgroundCheckRequest { date_of_birth: "2023-02-29".to_owned(), ..wish() },
        ),
        (
            "date_of_birth",
            pb::RequestBackgroundCheckRequest { date_of_birth: "2300-01-01".to_owned(), ..wish() },
        ),
        ("links[0]", pb::RequestBackgroundCheckRequest { links: vec!["http://x.org".to_owned()], ..wish() }),
        (
            "links",
            pb::RequestBackgroundCheckRequest { links: vec!["https://x.org".to_owned(); 11], ..wish() },
        ),
        ("request_id", pb::RequestBackgroundCheckRequest { request_id: "1".to_owned(), ..wish() }),
    ];
    for (field, request) in wrong {
        let refused = checks(&world).request_background_check(ann.asks(request)).await;
        let fault = assert_refused(refused, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(fault.fields()[0].0, field);
    }
    let none = checks(&world).get_background_check(ann.asks(pb::GetBackgroundCheckRequest {})).await.unwrap();
    assert_eq!(none.into_inner().check, None);
    assert!(provider.requests().is_empty());
}
