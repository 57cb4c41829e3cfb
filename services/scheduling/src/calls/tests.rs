//! Calls through the door of the service: its own routes with all their middleware, over other services that are made
//! for the purpose.

mod devices;
mod peers;

use std::collections::HashSet;
use std::time::Duration;

use chassis::clock::{Clock, Timestamp};
use chassis::config::Secret;
use chassis::database::Database;
use chassis::database::testing::{self, Scratch};
use chassis::events::{Delivery, Events, Subscription};
use chassis::fault::Fault;
use chassis::identity::AcceptedServices;
use chassis::middleware::LimitsConfig;
use chassis::rates::RatesConfig;
use chassis::tasks::Tasks;
use chassis::transport::Transport;
use chassis::unit::Unit;
use prost::Message as _;
use proto::id::{CallId, SessionId, UserId};
use proto::messaging::v1::CallOutcome;
use proto::scheduling::v1 as pb;
use proto::scheduling::v1::CallState as State;
use proto::scheduling::v1::call_event::Event;
use proto::scheduling::v1::call_service_client::CallServiceClient;
use proto::scheduling::v1::start_call_request::Target;
use proto::scheduling::v1::stream_calls_response::Update;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

use self::peers::{Peers, Shown};
use super::{CallDeps, Calls, CallsConfig, render};
use crate::conversations::Conversations;
use crate::messaging::Messaging;
use crate::store::Store;
use crate::tests::others::Others;
use crate::{Config, Deps, MIGRATOR, NAME};

/// Gives it up when a condition has not come true after this.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the gateway shows of itself.
const GATEWAY: &str = "the secret of the gateway";

const SECOND: Duration = Duration::from_secs(1);

/// A device, by its token.
#[derive(Clone, Copy, Debug)]
struct Phone {
    user: UserId,
    session: SessionId,
}

impl Phone {
    fn of(user: UserId) -> Self {
        Self { user, session: SessionId::generate() }
    }

    fn asks<T>(self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let token = format!("Bearer {}/{}", self.user, self.session);
        request.metadata_mut().insert("authorization", token.parse().unwrap());
        request
    }
}

/// What somebody hears.
struct Ear {
    heard: mpsc::Receiver<Delivery>,
    _subscription: Subscription,
}

impl Ear {
    /// The next that is meant for the user, and not for gateways.
    async fn next(&mut self) -> Event {
        loop {
            let hint = tokio::time::timeout(PATIENCE, self.heard.recv()).await.expect("something").unwrap();
            match pb::CallEvent::decode(hint.payload).unwrap().event.unwrap() {
                Event::DeviceMissed(_) => {}
                event => return event,
            }
        }
    }

    /// The session of the device that gateways are asked for next.
    async fn missed(&mut self) -> String {
        loop {
            let hint = tokio::time::timeout(PATIENCE, self.heard.recv()).await.expect("something").unwrap();
            if let Event::DeviceMissed(missed) = pb::CallEvent::decode(hint.payload).unwrap().event.unwrap() {
                return missed.session_id;
            }
        }
    }

    /// The next change of a call.
    async fn call(&mut self) -> pb::Call {
        match self.next().await {
            Event::Changed(notice) => notice.call.unwrap(),
            event => panic!("{event:?}"),
        }
    }

    async fn becomes(&mut self, state: State) -> pb::Call {
        loop {
            let call = self.call().await;
            if call.state() == state {
                return call;
            }
        }
    }
}

/// The service, started.
struct World {
    peers: Peers,
    clock: Clock,
    client: CallServiceClient<Transport>,
    unit: Unit,
    events: Events,
    database: Database,
    _scratch: Scratch,
}

fn config() -> Config {
    Config { poll_interval: Duration::from_millis(10), rate: 10_000, ..Config::default() }
}

/// No timer looks before anybody does.
fn asleep() -> Config {
    Config { poll_interval: 60 * SECOND, ..config() }
}

async fn start(
    config: Config,
    database: Database,
    peers: &Peers,
    clock: Clock,
    events: Events,
) -> (Unit, CallServiceClient<Transport>) {
    let deps = Deps {
        database,
        events,
        clock,
        messaging: peers.messaging(),
        conversation: peers.conversation(),
        auth: peers.auth(),
        credential: Others::credential(),
        accepted: AcceptedServices::with_secrets([("gateway", &Secret::new(GATEWAY))]),
        limits: LimitsConfig { rates: RatesConfig::unlimited(), ..LimitsConfig::default() },
    };
    let mut unit = crate::start(config, deps).await.unwrap();
    let client = CallServiceClient::new(Transport::local(unit.grpc.take().unwrap()));
    (unit, client)
}

impl World {
    /// On SQLite, with a clock that stands still.
    async fn start() -> Self {
        Self::with(config()).await
    }

    async fn with(config: Config) -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_800_000_000_000));
        let (database, scratch) = testing::sqlite(&MIGRATOR, NAME).await;
        let (peers, events) = (Peers::default(), Events::local());
        let (unit, client) = start(config, database.clone(), &peers, clock.clone(), events.clone()).await;
        Self { peers, clock, client, unit, events, database, _scratch: scratch }
    }

    fn client(&self) -> CallServiceClient<Transport> {
        self.client.clone()
    }

    fn phone(&self) -> Phone {
        Phone::of(self.peers.register())
    }

    async fn listen(&self, user: UserId) -> Ear {
        let (sender, heard) = mpsc::channel(256);
        let subscription = self.events.subscribe(&proto::subject::calls(user), sender).await;
        Ear { heard, _subscription: subscription }
    }

    async fn ask(&self, by: Phone, request: pb::StartCallRequest) -> Result<pb::StartCallResponse, Status> {
        Ok(self.client().start_call(by.asks(request)).await?.into_inner())
    }

    async fn call(&self, by: Phone, to: UserId) -> Result<pb::Call, Status> {
        Ok(self.ask(by, to_person(to)).await?.call.unwrap())
    }

    async fn accept(&self, by: Phone, id: &str) -> Result<pb::Call, Status> {
        let request = pb::AcceptCallRequest { call_id: id.to_owned() };
        Ok(self.client().accept_call(by.asks(request)).await?.into_inner().call.unwrap())
    }

    async fn reject(&self, by: Phone, id: &str) -> Result<pb::Call, Status> {
        let request = pb::RejectCallRequest { call_id: id.to_owned() };
        Ok(self.client().reject_call(by.asks(request)).await?.into_inner().call.unwrap())
    }

    async fn end(&self, by: Phone, id: &str) -> Result<pb::Call, Status> {
        let request = pb::EndCallRequest { call_id: id.to_owned() };
        Ok(self.client().end_call(by.asks(request)).await?.into_inner().call.unwrap())
    }

    async fn connected(&self, by: Phone, id: &str) -> Result<pb::Call, Status> {
        let request = pb::MarkCallConnectedRequest { call_id: id.to_owned(), time: None };
        Ok(self.client().mark_call_connected(by.asks(request)).await?.into_inner().call.unwrap())
    }

    async fn disconnected(&self, by: Phone, id: &str) -> Result<pb::Call, Status> {
        let request = pb::MarkCallDisconnectedRequest { call_id: id.to_owned(), time: None };
        Ok(self.client().mark_call_disconnected(by.asks(request)).await?.into_inner().call.unwrap())
    }

    async fn signal(&self, by: Phone, id: &str, payload: &str) -> Result<(), Status> {
        let request = pb::RelaySignalRequest { call_id: id.to_owned(), payload: payload.to_owned() };
        self.client().relay_signal(by.asks(request)).await.map(drop)
    }

    async fn get(&self, by: Phone, id: &str) -> Result<pb::Call, Status> {
        let request = pb::GetCallRequest { call_id: id.to_owned() };
        Ok(self.client().get_call(by.asks(request)).await?.into_inner().call.unwrap())
    }

    async fn list(&self, by: Phone, request: pb::ListCallsRequest) -> Result<Vec<String>, Status> {
        let calls = self.client().list_calls(by.asks(request)).await?.into_inner().calls;
        Ok(calls.into_iter().map(|call| call.call_id).collect())
    }

    async fn shown(&self, id: &str) -> Shown {
        eventually(|| self.peers.shown(id).is_some()).await;
        self.peers.shown(id).unwrap()
    }
}

fn to_person(user: UserId) -> pb::StartCallRequest {
    pb::StartCallRequest {
        target: Some(Target::UserId(user.to_string())),
        media: pb::CallMedia::Audio.into(),
        ..Default::default()
    }
}

async fn eventually(mut condition: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < end, "it does not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn reason<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let fault = Fault::of(&answer.unwrap_err());
    (fault.code(), fault.reason().trim_start_matches("ERROR_REASON_").to_owned())
}

fn is(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

fn failed(reason: &str) -> (Code, String) {
    is(Code::FailedPrecondition, reason)
}

#[tokio::test]
async fn a_call_is_answered_talked_and_ended_and_both_see_every_step() {
    let world = World::start().await;
    let (ann, bob) = (world.phone(), world.phone());
    let (mut to_ann, mut to_bob) = (world.listen(ann.user).await, world.listen(bob.user).await);
    let request = pb::StartCallRequest { media: pb::CallMedia::Video.into(), ..to_person(bob.user) };
    let started = world.ask(ann, request).await.unwrap();
    let call = started.call.unwrap();
    assert!(!started.met);
    assert_eq!((call.state(), call.version, call.media()), (State::Ringing, 1, pb::CallMedia::Video));
    assert_eq!(call.own_session_id, ann.session.to_string());
    let id = call.call_id.clone();
    let seen = to_bob.becomes(State::Ringing).await;
    assert_eq!((&seen.call_id, seen.own_session_id.as_str()), (&id, ""));
    assert_eq!((&seen.caller_user_id, &seen.callee_user_id), (&ann.user.to_string(), &bob.user.to_string()));

    let accepted = world.accept(bob, &id).await.unwrap();
    assert_eq!((accepted.state(), accepted.version), (State::Accepted, 2));
    assert_eq!(to_ann.becomes(State::Accepted).await.own_session_id, ann.session.to_string());
    assert_eq!(to_bob.becomes(State::Accepted).await.own_session_id, bob.session.to_string());
    world.connected(ann, &id).await.unwrap();
    world.connected(bob, &id).await.unwrap();
    world.clock.advance(90 * SECOND);
    let ended = world.end(bob, &id).await.unwrap();
    assert_eq!((ended.state(), ended.duration.unwrap().seconds), (State::Ended, 90));
    assert_eq!(ended.ended_by_user_id, bob.user.to_string());
    let told = [to_ann.becomes(State::Ended).await, to_bob.becomes(State::Ended).await];
    assert!(told.iter().all(|call| call.version == ended.version));

    let shown = world.shown(&id).await;
    assert_eq!((shown.author, shown.outcome, shown.seconds), (ann.user, CallOutcome::Ended, Some(90)));
    assert!(shown.video);
    assert_eq!(shown.conversation, world.peers.direct(ann.user, bob.user));
    eventually(|| world.peers.are_acquainted(ann.user, bob.user)).await;
    // The end again is the same end, and is told nobody again.
    assert_eq!(world.end(ann, &id).await.unwrap().version, ended.version);
    assert_eq!(world.end(bob, &id).await.unwrap().version, ended.version);
    assert_eq!(world.get(ann, &id).await.unwrap().state(), State::Ended);
    assert_eq!(world.peers.messages().0, 1);
}

#[tokio::test]
async fn one_device_answers_and_the_others_are_told() {
    let world = World::start().await;
    let (ann, bob) = (world.phone(), world.phone());
    let tablets: Vec<_> = (0..4).map(|_| Phone::of(bob.user)).collect();
    let id = world.call(ann, bob.user).await.unwrap().call_id;
    let mut answers = JoinSet::new();
    for phone in tablets.clone() {
        let (mut client, id) = (world.client(), id.clone());
        answers.spawn(async move {
            client.accept_call(phone.asks(pb::AcceptCallRequest { call_id: id })).await.map(|_| phone)
        });
    }
    let answers = answers.join_all().await;
    let taken: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(taken.len(), 1);
    for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(reason::<()>(Err(refused.clone())), failed("CALL_ANSWERED_ELSEWHERE"));
    }
    let seen = world.get(tablets[0], &id).await.unwrap();
    assert_eq!(seen.own_session_id, taken[0].session.to_string());
    // The same device may say it again; who is called by nobody here knows nothing of it.
    assert_eq!(world.accept(*taken[0], &id).await.unwrap().version, seen.version);
    assert_eq!(reason(world.accept(ann, &id).await), is(Code::PermissionDenied, "NOT_CALLEE"));
    let cem = world.phone();
    assert_eq!(reason(world.accept(cem, &id).await), is(Code::NotFound, "CALL_NOT_FOUND"));
    assert_eq!(reason(world.get(cem, &id).await), is(Code::NotFound, "CALL_NOT_FOUND"));
    assert_eq!(reason(world.end(cem, &id).await), is(Code::NotFound, "CALL_NOT_FOUND"));
}

#[tokio::test]
async fn a_call_that_nobody_answers_is_missed_to_the_millisecond() {
    let world = World::start().await;
    let (ann, bob) = (world.phone(), world.phone());
    let (mut to_ann, mut to_bob) = (world.listen(ann.user).await, world.listen(bob.user).await);
    let id = world.call(ann, bob.user).await.unwrap().call_id;
    world.clock.advance(45 * SECOND - Duration::from_millis(1));
    assert_eq!(world.get(ann, &id).await.unwrap().state(), State::Ringing);
    world.clock.advance(Duration::from_millis(1));
    // Told by the timer, with nobody asking.
    let missed = to_bob.becomes(State::Missed).await;
    assert_eq!(to_ann.becomes(State::Missed).await.version, missed.version);
    assert_eq!(missed.end_time, missed.ring_expire_time);
    let shown = world.shown(&id).await;
    assert_eq!((shown.outcome, shown.seconds), (CallOutcome::Missed, None));
    assert!(!world.peers.are_acquainted(ann.user, bob.user));
    assert_eq!(world.peers.records(), 0);
}

#[tokio::test]
async fn nothing_shows_a_call_that_rings_past_its_time_however_late_the_timer_is() {
    let world = World::with(asleep()).await;
    let (ann, bob, cem) = (world.phone(), world.phone(), world.phone());
    let active = pb::ListCallsRequest { active: true, ..Default::default() };
    let id = world.call(ann, bob.user).await.unwrap().call_id;
    assert_eq!(world.list(bob, active.clone()).await.unwrap(), std::slice::from_ref(&id));
    world.clock.advance(45 * SECOND);
    let seen = world.get(bob, &id).await.unwrap();
    assert_eq!((seen.state(), seen.version), (State::Missed, 2));
    let refused = world.accept(bob, &id).await;
    let fault = Fault::of(refused.as_ref().unwrap_err());
    assert_eq!(fault.metadata()["state"], "CALL_STATE_MISSED");
    assert_eq!(reason(refused), failed("CALL_OVER"));
    assert_eq!(world.get(ann, &id).await.unwrap(), world.get(ann, &id).await.unwrap());

    let id = world.call(cem, bob.user).await.unwrap().call_id;
    world.clock.advance(45 * SECOND);
    assert!(world.list(bob, active).await.unwrap().is_empty());
    let missed = pb::ListCallsRequest { missed: true, ..Default::default() };
    assert_eq!(world.list(bob, missed).await.unwrap()[0], id);
    // And nobody is busy with it.
    assert_eq!(world.call(ann, bob.user).await.unwrap().state(), State::Ringing);
}

#[tokio::test]
async fn who_gives_up_and_who_does_not_want_it() {
    let world = World::start().await;
    let (ann, bob) = (world.phone(), world.phone());
    let cancelled = world.call(ann, bob.user).await.unwrap().call_id;
    assert_eq!(world.end(Phone::of(ann.user), &cancelled).await.unwrap().state(), State::Cancelled);
    assert_eq!(reason(world.accept(bob, &cancelled).await), failed("CALL_OVER"));
    assert_eq!(world.shown(&cancelled).await.outcome, CallOutcome::Cancelled);
    let rejected = world.call(ann, bob.user).await.unwrap().call_id;
    assert_eq!(reason(world.reject(ann, &rejected).await), is(Code::PermissionDenied, "NOT_CALLEE"));
    assert_eq!(world.reject(bob, &rejected).await.unwrap().state(), State::Rejected);
    assert_eq!(world.reject(Phone::of(bob.user), &rejected).await.unwrap().state(), State::Rejected);
    assert_eq!(world.shown(&rejected).await.outcome, CallOutcome::Rejected);
    // After either one may call again.
    assert_eq!(world.call(ann, bob.user).await.unwrap().state(), State::Ringing);
}

#[tokio::test]
async fn who_is_in_a_call_is_busy_and_calls_nobody_else() {
    let world = World::start().await;
    let (ann, bob, cem) = (world.phone(), world.phone(), world.phone());
    let id = world.call(ann, bob.user).await.unwrap().call_id;
    for to in [ann.user, bob.user] {
        let busy = world.call(cem, to).await.unwrap();
        assert_eq!(busy.state(), State::Busy);
        assert_eq!(world.shown(&busy.call_id).await.outcome, CallOutcome::Busy);
    }
    let refused = world.call(ann, cem.user).await;
    assert_eq!(Fault::of(refused.as_ref().unwrap_err()).metadata()["call_id"], id);
    assert_eq!(reason(refused), failed("ALREADY_IN_CALL"));
    // The same device to the same person: that call; another one: no.
    assert_eq!(world.call(ann, bob.user).await.unwrap().call_id, id);
    assert_eq!(reason(world.call(Phone::of(ann.user), bob.user).await), failed("ALREADY_IN_CALL"));
    assert_eq!(world.get(ann, &id).await.unwrap().version, 1);
}

#[tokio::test]
async fn a_call_to_one_who_is_offline_is_missed_and_rings_nowhere() {
    let world = World::start().await;
    let (ann, bob) = (world.phone(), world.phone());
    let (mut to_ann, mut to_bob) = (world.listen(ann.user).await, world.listen(bob.user).await);
    let request = pb::StartCallRequest {
        callee_offline: true,
        request_id: CallId::generate().to_string(),
        ..to_person(bob.user)
    };
    let started = world.ask(ann, request.clone()).await.unwrap();
    let call = started.call.unwrap();
    assert_eq!((started.met, call.state(), call.version), (false, State::Missed, 1));
    assert_eq!((&call.end_time, call.ended_by_user_id.as_str()), (&call.create_time, ""));
    // The first that either hears of it is that it is over.
    for ear in [&mut to_ann, &mut to_bob] {
        let told = ear.call().await;
        assert_eq!((&told.call_id, told.state()), (&call.call_id, State::Missed));
    }
    let shown = world.shown(&call.call_id).await;
    assert_eq!((shown.author, shown.outcome, shown.seconds), (ann.user, CallOutcome::Missed, None));
    assert_eq!(world.ask(ann, request.clone()).await.unwrap().call.unwrap().call_id, call.call_id);
    let other = pb::StartCallRequest { callee_offline: false, ..request };
    assert_eq!(reason(world.ask(ann, other).await), is(Code::AlreadyExists, "REQUEST_ID_REUSED"));
    assert_eq!(world.peers.messages().0, 1);

    // The permission to call is needed all the same.
    world.peers.refuse(ann.user, bob.user, Code::FailedPrecondition, "CONTACT_NOT_ACCEPTED");
    let offline = pb::StartCallRequest { callee_offline: true, ..to_person(bob.user) };
    assert_eq!(reason(world.ask(ann, offline).await), failed("CONTACT_NOT_ACCEPTED"));
    // A call of the other is met: the other is there.
    let id = world.call(bob, ann.user).await.unwrap().call_id;
    let offline = pb::StartCallRequest { callee_offline: true, ..to_person(bob.user) };
    let met = world.ask(ann, offline).await.unwrap();
    assert!(met.met && met.call.unwrap().call_id == id);
}

#[tokio::test]
async fn calls_are_found_by_the_name_of_the_other() {
    let world = World::start().await;
    let (ann, bob, cem) = (world.phone(), world.phone(), world.phone());
    world.peers.name(bob.user, "Bob Berg");
    world.peers.name(cem.user, "Cem Berger");
    let mut made = Vec::new();
    for (from, to) in [(ann, bob), (cem, ann), (ann, bob)] {
        let id = world.call(from, to.user).await.unwrap().call_id;
        world.end(from, &id).await.unwrap();
        world.clock.advance(10 * SECOND);
        made.insert(0, id);
    }
    let named = |keyword: &str| pb::ListCallsRequest { keyword: keyword.to_owned(), ..Default::default() };
    assert_eq!(world.list(ann, named(" BERG ")).await.unwrap(), made);
    assert_eq!(world.list(ann, named("bob")).await.unwrap(), [made[0].clone(), made[2].clone()]);
    assert!(world.list(ann, named("dee")).await.unwrap().is_empty());
    let both =
        |keyword: &str, user: UserId| pb::ListCallsRequest { user_id: user.to_string(), ..named(keyword) };
    assert_eq!(world.list(ann, both("berg", cem.user)).await.unwrap(), [made[1].clone()]);
    assert!(world.list(ann, both("bob", cem.user)).await.unwrap().is_empty());

    // Page by page it is the same, and a page of one keyword is none of another.
    let first = pb::ListCallsRequest { page_size: 2, ..named("berg") };
    let page = world.client().list_calls(ann.asks(first.clone())).await.unwrap().into_inner();
    let next = pb::ListCallsRequest { page_token: page.next_page_token.clone(), ..first };
    assert_eq!(world.list(ann, next).await.unwrap(), [made[2].clone()]);
    let wrong = pb::ListCallsRequest { page_token: page.next_page_token, ..named("bob") };
    assert_eq!(reason(world.list(ann, wrong).await).0, Code::InvalidArgument);
    // Without auth nothing is found, and nothing is left out in silence.
    world.peers.set_away(true);
    assert_eq!(reason(world.list(ann, named("berg")).await).0, Code::Unavailable);
    assert_eq!(world.list(ann, pb::ListCallsRequest::default()).await.unwrap(), made);
    world.peers.set_away(false);
    world.peers.delete(cem.user);
    assert_eq!(world.list(ann, named("berg")).await.unwrap().len(), 2);
}

#[tokio::test]
async fn two_who_call_each_other_meet_even_where_one_may_not_call() {
    let world = World::start().await;
    let (ann, bob) = (world.phone(), world.phone());
    world.peers.refuse(bob.user, ann.user, Code::FailedPrecondition, "CONTACT_NOT_ACCEPTED");
    let id = world.call(ann, bob.user).await.unwrap().call_id;
    let request = pb::StartCallRequest { request_id: CallId::generate().to_string(), ..to_person(ann.user) };
    let met = world.ask(bob, request.clone()).await.unwrap();
    let call = met.call.unwrap();
    assert!(met.met);
    assert_eq!((&call.call_id, call.state(), call.version), (&id, State::Accepted, 2));
    assert_eq!(call.own_session_id, bob.session.to_string());
    let again = world.ask(bob, request).await.unwrap();
    assert!(again.met && again.call.unwrap().call_id == id);
    world.end(ann, &id).await.unwrap();
    // Without a call to meet, there is no way.
    assert_eq!(reason(world.call(bob, ann.user).await), failed("CONTACT_NOT_ACCEPTED"));
}

#[tokio::test]
async fn who_may_not_write_may_not_call() {
    let world = World::start().await;
    let (ann, bob) = (world.phone(), world.phone());
    let direct = world.peers.direct(ann.user, bob.user);
    let here = pb::StartCallRequest {
        target: Some(Target::ConversationId(direct.to_string())),
        ..to_person(bob.user)
    };
    for (code, said, expected) in [
        (Code::PermissionDenied, "WRITE_DENIED", is(Code::PermissionDenied, "WRITE_DENIED")),
        (Code::FailedPrecondition, "CONTACT_NOT_ACCEPTED", failed("CONTACT_NOT_ACCEPTED")),
        (Code::FailedPrecondition, "REQUEST_PENDING", failed("CONTACT_NOT_ACCEPTED")),
        (Code::PermissionDenied, "MESSAGE_REFUSED", is(Code::PermissionDenied, "CALL_REFUSED")),
        (Code::NotFound, "CONVERSATION_NOT_FOUND", is(Code::NotFound, "CONVERSATION_NOT_FOUND")),
    ] {
        world.peers.refuse(ann.user, bob.user, code, said);
        assert_eq!(reason(world.call(ann, bob.user).await), expected);
        assert_eq!(reason(world.ask(ann, here.clone()).await), expected);
    }
    // The other direction is another question; and so is whom one asks about.
    assert_eq!(world.call(bob, ann.user).await.unwrap().state(), State::Ringing);
    let cem = world.phone();
    assert_eq!(reason(world.call(cem, UserId::generate()).await), is(Code::NotFound, "USER_NOT_FOUND"));
    assert_eq!(reason(world.ask(cem, here).await), is(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    let group = pb::StartCallRequest {
        target: Some(Target::ConversationId(world.peers.group(cem.user).to_string())),
        ..to_person(bob.user)
    };
    assert_eq!(reason(world.ask(cem, group).await), failed("NOT_DIRECT"));
    let oneself = world.call(cem, cem.user).await.unwrap_err();
    assert_eq!(Fault::of(&oneself).fields()[0], ("user_id".to_owned(), "must be somebody else".to_owned()));
    let guest = Phone::of(world.peers.register_guest());
    assert_eq!(reason(world.call(guest, cem.user).await), failed("GUEST_ACCOUNT"));
    // A guest answers all the same.
    let id = world.call(cem, guest.user).await.unwrap().call_id;
    assert_eq!(world.accept(guest, &id).await.unwrap().state(), State::Accepted);
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_by_name() {
    let world = World::start().await;
    let (ann, bob) = (world.phone(), world.phone());
    let field = |status: Status| {
        assert_eq!(reason::<()>(Err(status.clone())), is(Code::InvalidArgument, "INVALID_FIELD"));
        Fault::of(&status).fields()[0].0.clone()
    };
    let ask = async |request| field(world.ask(ann, request).await.unwrap_err());
    assert_eq!(ask(pb::StartCallRequest { media: 0, ..to_person(bob.user) }).await, "media");
    assert_eq!(ask(pb::StartCallRequest { media: 7, ..to_person(bob.user) }).await, "media");
    assert_eq!(ask(pb::StartCallRequest { target: None, ..to_person(bob.user) }).await, "target");
    let odd = pb::StartCallRequest { request_id: "x".to_owned(), ..to_person(bob.user) };
    assert_eq!(ask(odd).await, "request_id");
    assert_eq!(field(world.get(ann, "x").await.unwrap_err()), "call_id");
    let id = world.call(ann, bob.user).await.unwrap().call_id;
    assert_eq!(field(world.signal(ann, &id, "").await.unwrap_err()), "payload");
    assert_eq!(field(world.signal(ann, &id, &"x".repeat(32 * 1024 + 1)).await.unwrap_err()), "payload");
    world.accept(bob, &id).await.unwrap();
    let time = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    let request = pb::MarkCallConnectedRequest { call_id: id.clone(), time };
    assert_eq!(field(world.client().mark_call_connected(bob.asks(request)).await.unwrap_err()), "time");
    let pages = pb::ListCallsRequest { page_token: "x".to_owned(), ..Default::default() };
    assert_eq!(field(world.list(ann, pages).await.unwrap_err()), "page_token");
    assert_eq!(world.get(ann, &id).await.unwrap().version, 2, "nothing of it has changed anything");
}

#[tokio::test]
async fn signals_reach_the_device_they_are_for_and_are_not_changed() {
    const OFFER: &str = "{\"type\": \"offer\",\n  \"n\": 1.50, \"sdp\": \"v=0\\r\\n\u{e4}\"}";
    let world = World::start().await;
    let (ann, bob) = (world.phone(), world.phone());
    let tablet = Phone::of(bob.user);
    let id = world.call(ann, bob.user).await.unwrap().call_id;
    let (mut to_ann, mut to_bob) = (world.listen(ann.user).await, world.listen(bob.user).await);
    let signal = |event| match event {
        Event::Signal(signal) => signal,
        event => panic!("{event:?}"),
    };
    // While it rings: to all devices of the one who is called, and back to the one that calls.
    world.signal(ann, &id, OFFER).await.unwrap();
    let heard = signal(to_bob.next().await);
    assert_eq!((heard.payload.as_str(), heard.to_session_id.as_str()), (OFFER, ""));
    assert_eq!((heard.call_id, heard.from_user_id), (id.clone(), ann.user.to_string()));
    world.signal(tablet, &id, "candidate").await.unwrap();
    assert_eq!(signal(to_ann.next().await).to_session_id, ann.session.to_string());

    world.accept(bob, &id).await.unwrap();
    to_ann.becomes(State::Accepted).await;
    to_bob.becomes(State::Accepted).await;
    let longest = "x".repeat(32 * 1024);
    world.signal(ann, &id, &longest).await.unwrap();
    let heard = signal(to_bob.next().await);
    assert_eq!((heard.payload, heard.to_session_id), (longest, bob.session.to_string()));
    world.signal(bob, &id, "answer").await.unwrap();
    assert_eq!(signal(to_ann.next().await).payload, "answer");
    for other in [tablet, Phone::of(ann.user)] {
        assert_eq!(reason(world.signal(other, &id, "x").await), failed("CALL_ANSWERED_ELSEWHERE"));
    }
    let cem = world.phone();
    assert_eq!(reason(world.signal(cem, &id, "x").await), is(Code::NotFound, "CALL_NOT_FOUND"));
    world.end(ann, &id).await.unwrap();
    assert_eq!(reason(world.signal(bob, &id, "x").await), failed("CALL_OVER"));
}

#[tokio::test]
async fn a_flood_is_slowed_down() {
    let calls =
        CallsConfig { per_minute: 2, signals_burst: 3, signals_per_second: 1, ..CallsConfig::default() };
    let world = World::with(Config { calls, ..config() }).await;
    let (ann, bob) = (world.phone(), world.phone());
    let id = world.call(ann, bob.user).await.unwrap().call_id;
    for _ in 0..3 {
        world.signal(ann, &id, "x").await.unwrap();
    }
    let refused = world.signal(ann, &id, "x").await.unwrap_err();
    assert!(Fault::of(&refused).wait().is_some());
    assert_eq!(reason::<()>(Err(refused)), is(Code::ResourceExhausted, "RATE_LIMITED"));
    world.signal(bob, &id, "x").await.unwrap();
    world.end(ann, &id).await.unwrap();
    let id = world.call(ann, bob.user).await.unwrap().call_id;
    world.end(ann, &id).await.unwrap();
    let refused = world.call(ann, bob.user).await.unwrap_err();
    assert_eq!(Fault::of(&refused).wait(), Some(60 * SECOND));
    assert_eq!(reason::<()>(Err(refused)), is(Code::ResourceExhausted, "RATE_LIMITED"));
    world.clock.advance(60 * SECOND);
    assert_eq!(world.call(ann, bob.user).await.unwrap().state(), State::Ringing);
}

#[tokio::test]
async fn a_call_that_is_made_twice_is_one_call() {
    let world = World::start().await;
    let (ann, bob, cem) = (world.phone(), world.phone(), world.phone());
    let request = pb::StartCallRequest { request_id: CallId::generate().to_string(), ..to_person(bob.user) };
    let first = world.ask(ann, request.clone()).await.unwrap().call.unwrap();
    world.end(ann, &first.call_id).await.unwrap();
    // However things have changed since, from whichever device.
    world.peers.refuse(ann.user, bob.user, Code::PermissionDenied, "WRITE_DENIED");
    let again = world.ask(Phone::of(ann.user), request.clone()).await.unwrap().call.unwrap();
    assert_eq!((&again.call_id, again.state()), (&first.call_id, State::Cancelled));
    let other = pb::StartCallRequest { request_id: request.request_id, ..to_person(cem.user) };
    assert_eq!(reason(world.ask(ann, other).await), is(Code::AlreadyExists, "REQUEST_ID_REUSED"));
}

#[tokio::test]
async fn devices_that_do_not_find_each_other_and_devices_that_are_lost() {
    let world = World::start().await;
    let (ann, bob) = (world.phone(), world.phone());
    let mut to_ann = world.listen(ann.user).await;
    let broken = world.call(ann, bob.user).await.unwrap().call_id;
    assert_eq!(reason(world.connected(bob, &broken).await), failed("CALL_NOT_ACCEPTED"));
    world.accept(bob, &broken).await.unwrap();
    world.clock.advance(60 * SECOND);
    to_ann.becomes(State::Failed).await;
    assert_eq!(reason(world.connected(bob, &broken).await), failed("CALL_OVER"));
    assert_eq!(world.shown(&broken).await.outcome, CallOutcome::Failed);
    assert!(!world.peers.are_acquainted(ann.user, bob.user));

    // The other device may be gone: its time is not longer because one is there.
    let silent = world.call(ann, bob.user).await.unwrap().call_id;
    world.accept(bob, &silent).await.unwrap();
    world.connected(ann, &silent).await.unwrap();
    world.clock.advance(60 * SECOND);
    assert_eq!(to_ann.becomes(State::Failed).await.call_id, silent);

    let lost = world.call(ann, bob.user).await.unwrap().call_id;
    world.accept(bob, &lost).await.unwrap();
    for phone in [ann, bob] {
        world.connected(phone, &lost).await.unwrap();
    }
    world.clock.advance(30 * SECOND);
    assert_eq!(world.disconnected(ann, &lost).await.unwrap().state(), State::Accepted);
    assert_eq!(
        reason(world.disconnected(Phone::of(ann.user), &lost).await),
        failed("CALL_ANSWERED_ELSEWHERE")
    );
    world.clock.advance(59 * SECOND);
    assert_eq!(world.get(ann, &lost).await.unwrap().state(), State::Accepted);
    world.clock.advance(SECOND);
    assert_eq!(to_ann.becomes(State::Ended).await.duration.unwrap().seconds, 30);
    // It took place.
    eventually(|| world.peers.are_acquainted(ann.user, bob.user)).await;
    assert_eq!(world.disconnected(bob, &lost).await.unwrap().state(), State::Ended);
}

#[tokio::test]
async fn a_block_ends_the_call_of_the_two_and_no_other() {
    let world = World::start().await;
    let [ann, bob, cem, dan] = [(); 4].map(|()| world.phone());
    let (mut to_ann, mut to_bob) = (world.listen(ann.user).await, world.listen(bob.user).await);
    let rings = world.call(ann, bob.user).await.unwrap().call_id;
    let others = world.call(cem, dan.user).await.unwrap().call_id;
    world.peers.block(bob.user, ann.user);
    for ear in [&mut to_ann, &mut to_bob] {
        let over = ear.becomes(State::Rejected).await;
        assert_eq!((over.call_id, over.ended_by_user_id), (rings.clone(), bob.user.to_string()));
    }
    // What one says who blocks somebody else ends nothing.
    world.accept(dan, &others).await.unwrap();
    world.peers.block(dan.user, ann.user);
    let talks = world.call(bob, world.phone().user).await.unwrap().call_id;
    world.peers.block(bob.user, Phone::of(UserId::generate()).user);
    world.peers.block(cem.user, dan.user);
    let mut last = world.get(cem, &others).await.unwrap();
    let end = tokio::time::Instant::now() + PATIENCE;
    while last.state() != State::Ended {
        assert!(tokio::time::Instant::now() < end, "{last:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
        last = world.get(cem, &others).await.unwrap();
    }
    assert_eq!(last.ended_by_user_id, cem.user.to_string());
    assert_eq!(world.get(bob, &talks).await.unwrap().state(), State::Ringing);
    // Nobody is told by a message either.
    assert_eq!(world.peers.messages(), (0, 0));
}

#[tokio::test]
async fn a_list_has_pages_and_says_only_what_is_ones_own() {
    let world = World::start().await;
    let (ann, bob, cem) = (world.phone(), world.phone(), world.phone());
    let mut made = Vec::new();
    for number in 0..5 {
        let id = world.call(ann, bob.user).await.unwrap().call_id;
        if number == 2 {
            world.reject(bob, &id).await.unwrap();
        } else {
            world.end(ann, &id).await.unwrap();
        }
        world.clock.advance(10 * SECOND);
        made.insert(0, id);
    }
    let mut found = Vec::new();
    let mut request = pb::ListCallsRequest { page_size: 2, ..Default::default() };
    loop {
        let page = world.client().list_calls(bob.asks(request.clone())).await.unwrap().into_inner();
        assert!(page.calls.len() <= 2);
        found.extend(page.calls.into_iter().map(|call| call.call_id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(found, made);
    let rejected = pb::ListCallsRequest { state: State::Rejected.into(), ..Default::default() };
    assert_eq!(world.list(ann, rejected).await.unwrap(), [made[2].clone()]);
    let with = |user: UserId| pb::ListCallsRequest { user_id: user.to_string(), ..Default::default() };
    assert_eq!(world.list(ann, with(bob.user)).await.unwrap().len(), 5);
    assert!(world.list(ann, with(cem.user)).await.unwrap().is_empty());
    assert!(world.list(cem, pb::ListCallsRequest::default()).await.unwrap().is_empty());
    assert!(
        world.list(bob, pb::ListCallsRequest { missed: true, ..Default::default() }).await.unwrap().len()
            == 4
    );
}

#[tokio::test]
async fn everything_about_a_user_can_be_taken_along() {
    let world = World::start().await;
    let (ann, bob) = (world.phone(), world.phone());
    let mut made = Vec::new();
    for _ in 0..5 {
        let id = world.call(ann, bob.user).await.unwrap().call_id;
        world.end(ann, &id).await.unwrap();
        made.insert(0, id);
    }
    let tasks = Tasks::default();
    let deps = CallDeps {
        store: Store::new(world.database.clone(), world.clock.clone()),
        events: world.events.clone(),
        messaging: Messaging::new(world.peers.messaging(), Others::credential()),
        conversations: Conversations::new(world.peers.conversation(), Others::credential()),
        auth: world.peers.auth(),
        credential: Others::credential(),
        timing: config().timing(),
        tasks: tasks.clone(),
    };
    let calls = Calls::start(&CallsConfig::default(), deps);
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = calls.export(bob.user, before, 2).await.unwrap();
        found.extend(page.calls.iter().map(|call| render(call, bob.user).call_id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(found, made);
    assert!(tasks.stop(PATIENCE).await);
}

#[tokio::test]
async fn a_stream_begins_with_the_active_call_and_ends_with_the_session() {
    let world = World::start().await;
    let (ann, bob) = (world.phone(), world.phone());
    let tablet = Phone::of(bob.user);
    let id = world.call(ann, bob.user).await.unwrap().call_id;
    let mut streams = Vec::new();
    for phone in [bob, tablet] {
        let stream = world.client().stream_calls(phone.asks(pb::StreamCallsRequest {})).await.unwrap();
        streams.push(stream.into_inner());
    }
    let mut other = streams.pop().unwrap();
    let mut stream = streams.pop().unwrap();
    let next = async |stream: &mut tonic::Streaming<pb::StreamCallsResponse>| {
        let update = tokio::time::timeout(PATIENCE, stream.message()).await.expect("something");
        update.map(|update| update.unwrap().update.unwrap())
    };
    for stream in [&mut stream, &mut other] {
        let Update::CallChanged(notice) = next(stream).await.unwrap() else { panic!("no call") };
        assert_eq!(notice.call.unwrap().call_id, id);
    }
    world.accept(bob, &id).await.unwrap();
    world.signal(ann, &id, "offer").await.unwrap();
    world.end(ann, &id).await.unwrap();
    let state = |update| match update {
        Update::CallChanged(notice) => notice.call.unwrap().state(),
        Update::CallSignal(signal) => panic!("{signal:?}"),
    };
    assert_eq!(state(next(&mut stream).await.unwrap()), State::Accepted);
    assert!(
        matches!(next(&mut stream).await.unwrap(), Update::CallSignal(signal) if signal.payload == "offer")
    );
    assert_eq!(state(next(&mut stream).await.unwrap()), State::Ended);
    let cem = world.phone();
    let idle = world.client().stream_calls(cem.asks(pb::StreamCallsRequest {})).await.unwrap();
    let first = next(&mut idle.into_inner()).await.unwrap();
    assert!(matches!(first, Update::CallChanged(notice) if notice.call.is_none()));
    // The other device hears of the call, not of the signal.
    assert_eq!(state(next(&mut other).await.unwrap()), State::Accepted);
    assert_eq!(state(next(&mut other).await.unwrap()), State::Ended);
    let stopped = world.unit.stop(PATIENCE);
    let (ended, ()) = tokio::join!(next(&mut stream), stopped);
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn what_follows_is_told_when_the_others_are_back() {
    let world = World::start().await;
    let (ann, bob) = (world.phone(), world.phone());
    let id = world.call(ann, bob.user).await.unwrap().call_id;
    world.accept(bob, &id).await.unwrap();
    world.connected(bob, &id).await.unwrap();
    world.peers.set_away(true);
    world.end(bob, &id).await.unwrap();
    eventually(|| {
        world.clock.advance(Duration::from_millis(100));
        world.peers.messages().1 >= 2 && world.peers.records() >= 2
    })
    .await;
    world.peers.set_away(false);
    eventually(|| {
        world.clock.advance(Duration::from_millis(100));
        world.peers.shown(&id).is_some() && world.peers.are_acquainted(ann.user, bob.user)
    })
    .await;
    assert_eq!(world.peers.messages().0, 1);
}

#[tokio::test]
async fn a_call_outlives_the_service_and_not_its_time() {
    let mut world = World::start().await;
    let (ann, bob, cem, dan) = (world.phone(), world.phone(), world.phone(), world.phone());
    let missed = world.call(ann, bob.user).await.unwrap().call_id;
    world.clock.advance(30 * SECOND);
    let still = world.call(cem, dan.user).await.unwrap().call_id;
    world.unit.stop(PATIENCE).await;
    world.clock.advance(20 * SECOND);
    let mut to_bob = world.listen(bob.user).await;
    let (unit, client) =
        start(config(), world.database.clone(), &world.peers, world.clock.clone(), world.events.clone())
            .await;
    (world.unit, world.client) = (unit, client);
    // The one has been missed meanwhile, as of its time; the other one rings on and is answered.
    assert_eq!(to_bob.becomes(State::Missed).await.call_id, missed);
    assert_eq!(world.shown(&missed).await.outcome, CallOutcome::Missed);
    assert_eq!(world.accept(dan, &still).await.unwrap().state(), State::Accepted);
    world.unit.stop(PATIENCE).await;
    world.clock.advance(60 * SECOND);
    let (unit, client) =
        start(config(), world.database.clone(), &world.peers, world.clock.clone(), world.events.clone())
            .await;
    (world.unit, world.client) = (unit, client);
    assert_eq!(world.shown(&still).await.outcome, CallOutcome::Failed);
}

#[tokio::test]
async fn the_call_of_a_deleted_user_is_over_and_the_other_keeps_it_without_a_name() {
    let world = World::start().await;
    let (ann, bob, cem) = (world.phone(), world.phone(), world.phone());
    let before = world.call(ann, bob.user).await.unwrap().call_id;
    world.reject(bob, &before).await.unwrap();
    world.shown(&before).await;
    let id = world.call(ann, bob.user).await.unwrap().call_id;
    world.accept(bob, &id).await.unwrap();
    let mut to_bob = world.listen(bob.user).await;
    world.peers.delete(ann.user);
    world.events.publish(proto::subject::AUTH_FACTS, Vec::new().into());
    let ended = to_bob.becomes(State::Ended).await;
    assert_eq!((ended.caller_user_id.as_str(), ended.callee_user_id), ("", bob.user.to_string()));
    for id in [&before, &id] {
        let kept = world.get(bob, id).await.unwrap();
        assert_eq!(kept.caller_user_id, "");
    }
    assert_eq!(world.get(bob, &before).await.unwrap().ended_by_user_id, bob.user.to_string());
    // Bob is free.
    assert_eq!(world.call(cem, bob.user).await.unwrap().state(), State::Ringing);
    assert_eq!(reason(world.call(cem, ann.user).await), is(Code::NotFound, "USER_NOT_FOUND"));
}

/// Two replicas on PostgreSQL, with everything at once: who answers, who gives up, who calls each other, and time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_replicas_agree_about_every_call() {
    const ROUNDS: usize = 24;
    let Some((database, _scratch)) = testing::postgres(&MIGRATOR, NAME).await else { return };
    let (peers, clock) = (Peers::default(), Clock::system());
    let calls = CallsConfig { ring_timeout: SECOND, per_minute: 1000, ..CallsConfig::default() };
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let config = Config { poll_interval: Duration::from_millis(50), calls: calls.clone(), ..config() };
        replicas.push(start(config, database.clone(), &peers, clock.clone(), Events::local()).await);
    }
    let mut rounds = JoinSet::new();
    for round in 0..ROUNDS {
        let (ann, bob) = (Phone::of(peers.register()), Phone::of(peers.register()));
        let clients = [replicas[round % 2].1.clone(), replicas[(round + 1) % 2].1.clone()];
        rounds.spawn(async move {
            let [mut one, other] = clients;
            let (first, second) = tokio::join!(
                one.start_call(ann.asks(to_person(bob.user))),
                // In every third round both call at once.
                async {
                    if round % 3 == 0 {
                        Some(other.clone().start_call(bob.asks(to_person(ann.user))).await.unwrap())
                    } else {
                        None
                    }
                },
            );
            let first = first.unwrap().into_inner();
            let id = first.call.unwrap().call_id;
            if let Some(second) = second {
                let second = second.into_inner();
                assert_eq!(second.call.unwrap().call_id, id, "one call remains");
                assert!(first.met != second.met);
                one.end_call(ann.asks(pb::EndCallRequest { call_id: id.clone() })).await.unwrap();
            } else if round % 3 == 1 {
                // One gives up while two devices of the other answer.
                let tablet = Phone::of(bob.user);
                let accept = |phone: Phone| {
                    let (mut client, call_id) = (other.clone(), id.clone());
                    async move { client.accept_call(phone.asks(pb::AcceptCallRequest { call_id })).await }
                };
                let mut ending = one.clone();
                let (one_device, another, _) = tokio::join!(accept(bob), accept(tablet), async {
                    tokio::time::sleep(Duration::from_millis(u64::try_from(round).unwrap())).await;
                    ending.end_call(ann.asks(pb::EndCallRequest { call_id: id.clone() })).await.unwrap()
                });
                assert!(one_device.is_err() || another.is_err(), "two devices have answered");
                for refused in [one_device, another].into_iter().filter_map(Result::err) {
                    let (_, reason) = reason::<()>(Err(refused));
                    assert!(["CALL_OVER", "CALL_ANSWERED_ELSEWHERE"].contains(&reason.as_str()), "{reason}");
                }
            }
            // In the others nobody does anything: time does.
            let end = tokio::time::Instant::now() + PATIENCE;
            loop {
                let ask = |client: &CallServiceClient<Transport>, phone: Phone| {
                    let (mut client, call_id) = (client.clone(), id.clone());
                    async move {
                        let answer = client.get_call(phone.asks(pb::GetCallRequest { call_id })).await;
                        answer.unwrap().into_inner().call.unwrap()
                    }
                };
                let (mine, theirs) = tokio::join!(ask(&one, ann), ask(&other, bob));
                if mine.version == theirs.version && mine.end_time.is_some() {
                    assert_eq!(mine.state(), theirs.state());
                    break (id, mine.state());
                }
                assert!(tokio::time::Instant::now() < end, "it is never over");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    let ends = rounds.join_all().await;
    let states: HashSet<State> = ends.iter().map(|(_, state)| *state).collect();
    assert!(states.contains(&State::Missed) && states.contains(&State::Ended), "{states:?}");
    eventually(|| peers.messages().0 == ROUNDS).await;
    for (id, state) in ends {
        let expected = match state {
            State::Missed => CallOutcome::Missed,
            State::Cancelled => CallOutcome::Cancelled,
            _ => CallOutcome::Ended,
        };
        assert_eq!(peers.shown(&id).unwrap().outcome, expected);
    }
    for (unit, _) in &replicas {
        unit.stop(PATIENCE).await;
    }
}
