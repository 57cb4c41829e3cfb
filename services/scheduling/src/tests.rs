//! The service through its door: its own routes with all their middleware, over other services that are made for the
//! purpose.

mod calendar;
pub mod others;

use std::collections::HashSet;
use std::time::Duration;

use chassis::clock::{Clock, Timestamp};
use chassis::database::Database;
use chassis::database::testing::{self, Scratch};
use chassis::events::Events;
use chassis::fault::Fault;
use chassis::identity::AcceptedServices;
use chassis::middleware::LimitsConfig;
use chassis::rates::RatesConfig;
use chassis::transport::Transport;
use chassis::unit::Unit;
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::{Content, content};
use proto::scheduling::v1 as pb;
use proto::scheduling::v1::ScheduledMessageState as State;
use proto::scheduling::v1::scheduled_message_service_client::ScheduledMessageServiceClient;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

use crate::scheduled_message::{Listing, StateName};
use crate::store::Store;
use crate::tests::others::{Mishap, Others};
use crate::timer::Kind;
use crate::{Config, Deps, MIGRATOR, NAME};

/// Gives it up when a condition has not come true after this.
const PATIENCE: Duration = Duration::from_secs(20);

/// Long enough for the timer to look several times.
const A_WHILE: Duration = Duration::from_millis(100);

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The service, started.
struct World {
    others: Others,
    clock: Clock,
    client: ScheduledMessageServiceClient<Transport>,
    unit: Unit,
    events: Events,
    database: Database,
    _scratch: Scratch,
}

fn config() -> Config {
    Config { poll_interval: Duration::from_millis(10), rate: 10_000, ..Config::default() }
}

async fn start(config: Config, database: Database, others: &Others, clock: Clock, events: Events) -> Unit {
    let deps = Deps {
        database,
        events,
        clock,
        messaging: others.messaging(),
        conversation: Transport::local(axum::Router::new()),
        auth: others.auth(),
        credential: Others::credential(),
        accepted: AcceptedServices::default(),
        limits: LimitsConfig { rates: RatesConfig::unlimited(), ..LimitsConfig::default() },
    };
    crate::start(config, deps).await.unwrap()
}

impl World {
    /// On SQLite, with a clock that stands still.
    async fn start() -> Self {
        Self::with(config()).await
    }

    async fn with(config: Config) -> Self {
        Self::at(Clock::manual(Timestamp::from_millis(1_800_000_000_000)), config).await
    }

    async fn at(clock: Clock, config: Config) -> Self {
        let (database, scratch) = testing::sqlite(&MIGRATOR, NAME).await;
        let others = Others::new(clock.clone());
        let events = Events::local();
        let mut unit = start(config, database.clone(), &others, clock.clone(), events.clone()).await;
        let client = ScheduledMessageServiceClient::new(Transport::local(unit.grpc.take().unwrap()));
        Self { others, clock, client, unit, events, database, _scratch: scratch }
    }

    /// Stops the service and starts it again on the same database, after so long.
    async fn restart_after(&mut self, pause: Duration, config: Config) {
        self.unit.stop(PATIENCE).await;
        self.clock.advance(pause);
        let mut unit =
            start(config, self.database.clone(), &self.others, self.clock.clone(), self.events.clone()).await;
        self.client = ScheduledMessageServiceClient::new(Transport::local(unit.grpc.take().unwrap()));
        self.unit = unit;
    }

    /// A conversation and somebody who may write there.
    fn writer(&self) -> (ConversationId, UserId) {
        let (conversation, user) = (ConversationId::generate(), self.others.register());
        self.others.admit(conversation, user, true);
        (conversation, user)
    }

    fn client(&self) -> ScheduledMessageServiceClient<Transport> {
        self.client.clone()
    }

    fn draft(&self, conversation: ConversationId, text: &str, after: Duration) -> pb::ScheduleMessageRequest {
        pb::ScheduleMessageRequest {
            conversation_id: conversation.to_string(),
            content: Some(says(text)),
            send_time: Some(self.clock.now().plus(after).to_proto()),
            request_id: String::new(),
        }
    }

    async fn ask(
        &self,
        by: UserId,
        request: pb::ScheduleMessageRequest,
    ) -> Result<pb::ScheduledMessage, Status> {
        let answer = self.client().schedule_message(by.asks(request)).await?;
        Ok(answer.into_inner().scheduled_message.unwrap())
    }

    async fn schedule(
        &self,
        (conversation, by): (ConversationId, UserId),
        text: &str,
        after: Duration,
    ) -> String {
        let scheduled = self.ask(by, self.draft(conversation, text, after)).await.unwrap();
        assert_eq!(scheduled.state(), State::Pending);
        scheduled.scheduled_message_id
    }

    async fn get(&self, by: UserId, id: &str) -> Result<pb::ScheduledMessage, Status> {
        let request = pb::GetScheduledMessageRequest { scheduled_message_id: id.to_owned() };
        Ok(self
            .client()
            .get_scheduled_message(by.asks(request))
            .await?
            .into_inner()
            .scheduled_message
            .unwrap())
    }

    async fn cancel(&self, by: UserId, id: &str) -> Result<pb::ScheduledMessage, Status> {
        let request = pb::CancelScheduledMessageRequest { scheduled_message_id: id.to_owned() };
        Ok(self
            .client()
            .cancel_scheduled_message(by.asks(request))
            .await?
            .into_inner()
            .scheduled_message
            .unwrap())
    }

    async fn send_now(&self, by: UserId, id: &str) -> Result<pb::ScheduledMessage, Status> {
        let request = pb::SendScheduledMessageNowRequest { scheduled_message_id: id.to_owned() };
        Ok(self
            .client()
            .send_scheduled_message_now(by.asks(request))
            .await?
            .into_inner()
            .scheduled_message
            .unwrap())
    }

    async fn update(
        &self,
        by: UserId,
        id: &str,
        text: &str,
        time: Timestamp,
        paths: &[&str],
    ) -> Result<pb::ScheduledMessage, Status> {
        let changes =
            pb::ScheduledMessageChanges { content: Some(says(text)), send_time: Some(time.to_proto()) };
        let request = pb::UpdateScheduledMessageRequest {
            scheduled_message_id: id.to_owned(),
            scheduled_message: Some(changes),
            update_mask: Some(prost_types::FieldMask {
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            }),
        };
        Ok(self
            .client()
            .update_scheduled_message(by.asks(request))
            .await?
            .into_inner()
            .scheduled_message
            .unwrap())
    }

    /// Lets the time go on until this is so.
    async fn time_passes_until(&self, condition: impl Fn() -> bool) {
        eventually(|| {
            self.clock.advance(Duration::from_millis(20));
            condition()
        })
        .await;
    }

    /// Waits until it has this state.
    async fn becomes(&self, by: UserId, id: &str, state: State) -> pb::ScheduledMessage {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let found = self.get(by, id).await.unwrap();
            if found.state() == state {
                return found;
            }
            assert!(tokio::time::Instant::now() < end, "{id} is still {:?} and not {state:?}", found.state());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

trait Asks {
    fn asks<T>(self, message: T) -> Request<T>;
}

impl Asks for UserId {
    fn asks<T>(self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {self}").parse().unwrap());
        request
    }
}

fn says(text: &str) -> Content {
    Content { kind: Some(content::Kind::Text(text.to_owned())), ..Default::default() }
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

fn field<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    let fault = Fault::of(&answer.unwrap_err());
    assert_eq!((fault.code(), fault.reason()), (Code::InvalidArgument, "ERROR_REASON_INVALID_FIELD"));
    fault.fields()[0].0.clone()
}

fn is(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

fn unavailable() -> Status {
    Fault::unavailable("the database").into()
}

#[tokio::test]
async fn a_message_is_sent_at_its_time_and_not_before() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    let id = world.schedule((conversation, ann), "good morning", 60 * SECOND).await;
    let due = world.clock.now().plus(60 * SECOND);
    world.clock.advance(Duration::from_millis(59_999));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.get(ann, &id).await.unwrap().state(), State::Pending);
    assert_eq!(world.others.sends(), 0);

    world.clock.advance(Duration::from_millis(1));
    let sent = world.becomes(ann, &id, State::Sent).await;
    let stored = world.others.sent();
    assert_eq!(stored.len(), 1);
    assert_eq!((stored[0].author, stored[0].conversation, stored[0].at), (ann, conversation, due));
    assert_eq!(stored[0].scheduled_time, Some(due.to_proto()));
    assert_eq!(
        (stored[0].key.as_str(), stored[0].text.as_str()),
        (format!("sched:{id}:1").as_str(), "good morning")
    );
    assert_eq!(sent.message_id, stored[0].message_id.to_string());
    // The message has it now.
    assert_eq!(sent.content, None);
}

#[tokio::test]
async fn what_is_past_is_sent_at_once_and_a_fraction_of_a_millisecond_is_not_early() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    let mut past = world.draft(conversation, "late", Duration::ZERO);
    past.send_time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    let id = world.ask(ann, past).await.unwrap().scheduled_message_id;
    world.becomes(ann, &id, State::Sent).await;

    let mut soon = world.draft(conversation, "soon", Duration::ZERO);
    soon.send_time.as_mut().unwrap().nanos += 1;
    let id = world.ask(ann, soon).await.unwrap().scheduled_message_id;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.get(ann, &id).await.unwrap().state(), State::Pending);
    world.clock.advance(Duration::from_millis(1));
    world.becomes(ann, &id, State::Sent).await;
}

#[tokio::test]
async fn the_timer_wakes_by_itself_when_something_is_due() {
    // It never looks just so: what is due wakes it, what comes earlier wakes it, and what is done wakes it.
    let world = World::at(Clock::system(), Config { poll_interval: 60 * SECOND, ..config() }).await;
    let (conversation, ann) = world.writer();
    world.schedule((conversation, ann), "later", 30 * SECOND).await;
    tokio::time::sleep(A_WHILE).await;
    for text in ["1", "2", "3"] {
        world.schedule((conversation, ann), text, Duration::from_millis(300)).await;
    }
    eventually(|| world.others.sent().len() == 3).await;
    let texts: Vec<_> = world.others.sent().into_iter().map(|sent| sent.text).collect();
    assert_eq!(texts, ["1", "2", "3"]);
}

#[tokio::test]
async fn who_may_not_write_may_not_schedule() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    let [bob, cem] = [world.others.register(), world.others.register()];
    world.others.admit(conversation, bob, false);
    let ask = |by| world.ask(by, world.draft(conversation, "hello", DAY));
    assert!(ask(ann).await.is_ok());
    assert_eq!(reason(ask(bob).await), is(Code::PermissionDenied, "WRITE_DENIED"));
    assert_eq!(reason(ask(cem).await), is(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    world.others.set_messaging_down(true);
    assert_eq!(reason(ask(ann).await), is(Code::Unavailable, "UNAVAILABLE"));
    let stranger =
        world.client().schedule_message(UserId::generate().asks(world.draft(conversation, "x", DAY))).await;
    assert_eq!(stranger.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn who_may_not_write_any_more_may_not_change_what_it_says() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    let id = world.schedule((conversation, ann), "hello", DAY).await;
    let later = world.clock.now().plus(2 * DAY);
    let update = |path| world.update(ann, &id, "other", later, path);
    world.others.admit(conversation, ann, false);
    assert_eq!(reason(update(&["content"]).await), is(Code::PermissionDenied, "WRITE_DENIED"));
    world.others.dismiss(conversation, ann);
    assert_eq!(reason(update(&["content"]).await), is(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    world.others.set_messaging_down(true);
    assert_eq!(reason(update(&["content"]).await), is(Code::Unavailable, "UNAVAILABLE"));
    // When it is sent has nothing to do with messaging, and neither has that it is over.
    let put_off = update(&["send_time"]).await.unwrap();
    assert_eq!((put_off.content, put_off.send_time), (Some(says("hello")), Some(later.to_proto())));
    world.cancel(ann, &id).await.unwrap();
    assert_eq!(reason(update(&["content"]).await), is(Code::FailedPrecondition, "ALREADY_FINAL"));
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_by_name() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    let draft = |after| world.draft(conversation, "hello", after);
    assert!(world.ask(ann, draft(365 * DAY)).await.is_ok());
    assert_eq!(field(world.ask(ann, draft(365 * DAY + SECOND)).await), "send_time");
    let odd = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
    assert_eq!(
        field(world.ask(ann, pb::ScheduleMessageRequest { send_time: Some(odd), ..draft(DAY) }).await),
        "send_time"
    );
    let none = pb::ScheduleMessageRequest { content: None, ..draft(DAY) };
    assert_eq!(field(world.ask(ann, none).await), "content");
    let empty = pb::ScheduleMessageRequest { content: Some(says("")), ..draft(DAY) };
    assert_eq!(field(world.ask(ann, empty).await), "content.text");
    // What only messaging knows to be wrong is named alike.
    assert_eq!(field(world.ask(ann, world.draft(conversation, " \n", DAY)).await), "content.text");

    let id = world.schedule((conversation, ann), "hello", DAY).await;
    let now = world.clock.now();
    let update = |time, paths| world.update(ann, &id, "other", time, paths);
    assert_eq!(field(update(now.plus(400 * DAY), &["send_time"]).await), "scheduled_message.send_time");
    assert_eq!(field(update(now, &["state"]).await), "update_mask");
    assert_eq!(field(update(now, &[]).await), "update_mask");
    let blank = world.update(ann, &id, " ", now, &["content"]).await;
    assert_eq!(field(blank), "scheduled_message.content.text");
    // What is not to be changed is not looked at.
    assert!(world.update(ann, &id, " ", now.plus(DAY), &["send_time"]).await.is_ok());
    assert_eq!(world.get(ann, &id).await.unwrap().content, Some(says("hello")));
}

#[tokio::test]
async fn a_retry_schedules_once() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    let request_id = ConversationId::generate().to_string();
    let request = pb::ScheduleMessageRequest { request_id, ..world.draft(conversation, "hello", DAY) };
    let first = world.ask(ann, request.clone()).await.unwrap();
    assert_eq!(world.ask(ann, request.clone()).await.unwrap(), first);
    // What was scheduled stays so, whatever has changed since.
    world.others.dismiss(conversation, ann);
    world.cancel(ann, &first.scheduled_message_id).await.unwrap();
    let again = world.ask(ann, request.clone()).await.unwrap();
    assert_eq!(
        (again.scheduled_message_id.as_str(), again.state()),
        (first.scheduled_message_id.as_str(), State::Cancelled)
    );
    assert_eq!(world.others.checks(), 1);
    let other = pb::ScheduleMessageRequest { content: Some(says("other")), ..request.clone() };
    assert_eq!(reason(world.ask(ann, other).await), is(Code::AlreadyExists, "REQUEST_ID_REUSED"));
    // Somebody else's request id is another one.
    let bob = world.others.register();
    world.others.admit(conversation, bob, true);
    assert_ne!(world.ask(bob, request).await.unwrap().scheduled_message_id, first.scheduled_message_id);
}

#[tokio::test]
async fn as_many_as_are_allowed_can_be_pending() {
    let world = World::with(Config { max_pending: 2, ..config() }).await;
    let (conversation, ann) = world.writer();
    let first = world.schedule((conversation, ann), "1", DAY).await;
    world.schedule((conversation, ann), "2", DAY).await;
    let third = || world.ask(ann, world.draft(conversation, "3", DAY));
    assert_eq!(reason(third().await), is(Code::FailedPrecondition, "TOO_MANY_PENDING"));
    world.cancel(ann, &first).await.unwrap();
    assert!(third().await.is_ok());
}

#[tokio::test]
async fn only_the_author_can_see_or_do_anything() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    let bob = world.others.register();
    world.others.admit(conversation, bob, true);
    let id = world.schedule((conversation, ann), "hello", DAY).await;
    let unknown = ConversationId::generate().to_string();
    let not_found = || is(Code::NotFound, "SCHEDULED_MESSAGE_NOT_FOUND");
    for (by, id) in [(bob, &id), (ann, &unknown)] {
        assert_eq!(reason(world.get(by, id).await), not_found());
        assert_eq!(reason(world.cancel(by, id).await), not_found());
        assert_eq!(reason(world.send_now(by, id).await), not_found());
        assert_eq!(reason(world.update(by, id, "x", world.clock.now(), &["content"]).await), not_found());
    }
    assert_eq!(world.get(ann, &id).await.unwrap().state(), State::Pending);
}

#[tokio::test]
async fn the_list_is_in_order_of_time_and_in_pages() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    let (elsewhere, bob) = world.writer();
    world.others.admit(elsewhere, ann, true);
    world.schedule((elsewhere, bob), "foreign", DAY).await;
    for (place, days) in [(conversation, 3), (elsewhere, 1), (conversation, 2), (conversation, 2)] {
        world.schedule((place, ann), &days.to_string(), days * DAY).await;
    }
    let list = |request: pb::ListScheduledMessagesRequest| {
        let mut client = world.client();
        async move { client.list_scheduled_messages(ann.asks(request)).await.map(tonic::Response::into_inner) }
    };
    let texts = |page: &pb::ListScheduledMessagesResponse| -> Vec<Content> {
        page.scheduled_messages.iter().filter_map(|message| message.content.clone()).collect()
    };
    let first = pb::ListScheduledMessagesRequest { page_size: 3, ..Default::default() };
    let page = list(first.clone()).await.unwrap();
    assert_eq!(texts(&page), ["1", "2", "2"].map(says));
    let next = pb::ListScheduledMessagesRequest { page_token: page.next_page_token.clone(), ..first.clone() };
    let last = list(next.clone()).await.unwrap();
    assert_eq!((texts(&last), last.next_page_token.as_str()), (vec![says("3")], ""));

    let here =
        pb::ListScheduledMessagesRequest { conversation_id: conversation.to_string(), ..Default::default() };
    assert_eq!(texts(&list(here.clone()).await.unwrap()), ["2", "2", "3"].map(says));
    let cancelled = pb::ListScheduledMessagesRequest { state: State::Cancelled.into(), ..here.clone() };
    world.cancel(ann, &page.scheduled_messages[1].scheduled_message_id).await.unwrap();
    assert_eq!(list(cancelled).await.unwrap().scheduled_messages.len(), 1);
    let pending = pb::ListScheduledMessagesRequest { state: State::Pending.into(), ..here };
    assert_eq!(texts(&list(pending).await.unwrap()), ["2", "3"].map(says));
    let mixed = pb::ListScheduledMessagesRequest { state: State::Sent.into(), ..next };
    assert_eq!(field(list(mixed).await), "page_token");
}

#[tokio::test]
async fn a_changed_time_and_text_are_what_is_sent() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    let id = world.schedule((conversation, ann), "hello", DAY).await;
    let sooner = world.clock.now().plus(60 * SECOND);
    let changed = world.update(ann, &id, "ignored", sooner, &["send_time"]).await.unwrap();
    assert_eq!((changed.content, changed.send_time), (Some(says("hello")), Some(sooner.to_proto())));
    let changed = world.update(ann, &id, "good evening", world.clock.now(), &["content"]).await.unwrap();
    assert_eq!((changed.content, changed.send_time), (Some(says("good evening")), Some(sooner.to_proto())));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.others.sends(), 0);
    world.clock.advance(60 * SECOND);
    world.becomes(ann, &id, State::Sent).await;
    assert_eq!(world.others.sent()[0].text, "good evening");
    let too_late = world.update(ann, &id, "oh", world.clock.now(), &["content"]).await;
    assert_eq!(reason(too_late), is(Code::FailedPrecondition, "ALREADY_FINAL"));
}

#[tokio::test]
async fn what_is_cancelled_is_never_sent() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    let id = world.schedule((conversation, ann), "hello", 60 * SECOND).await;
    let cancelled = world.cancel(ann, &id).await.unwrap();
    assert_eq!((cancelled.state(), cancelled.content), (State::Cancelled, None));
    assert_eq!(world.cancel(ann, &id).await.unwrap().state(), State::Cancelled);
    assert_eq!(reason(world.send_now(ann, &id).await), is(Code::FailedPrecondition, "ALREADY_FINAL"));
    world.clock.advance(DAY);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.others.sends(), 0);
}

#[tokio::test]
async fn cancelling_what_is_being_sent_says_what_became_of_it() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    world.others.hold(true);
    let id = world.schedule((conversation, ann), "hello", Duration::ZERO).await;
    eventually(|| world.others.under_way() == 1).await;
    let (cancelled, ()) = tokio::join!(world.cancel(ann, &id), async {
        tokio::time::sleep(A_WHILE).await;
        world.others.hold(false);
    });
    let fault = Fault::of(&cancelled.unwrap_err());
    assert_eq!((fault.code(), fault.reason()), (Code::FailedPrecondition, "ERROR_REASON_ALREADY_FINAL"));
    assert_eq!(fault.metadata()["state"], "SCHEDULED_MESSAGE_STATE_SENT");
    assert_eq!(fault.metadata()["message_id"], world.others.sent()[0].message_id.to_string());
}

#[tokio::test]
async fn nobody_waits_long_for_what_is_being_sent() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    world.others.hold(true);
    let id = world.schedule((conversation, ann), "hello", Duration::ZERO).await;
    eventually(|| world.others.under_way() == 1).await;
    let being_sent = || is(Code::Aborted, "BEING_SENT");
    let begun = tokio::time::Instant::now();
    let now = world.clock.now();
    let (cancelled, updated, sent) = tokio::join!(
        world.cancel(ann, &id),
        world.update(ann, &id, "other", now, &["content"]),
        world.send_now(ann, &id)
    );
    assert!(begun.elapsed() < 10 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(
        (reason(cancelled), reason(updated), reason(sent)),
        (being_sent(), being_sent(), being_sent())
    );
    world.others.hold(false);
    world.becomes(ann, &id, State::Sent).await;
    assert_eq!(world.others.sends(), 1);
}

#[tokio::test]
async fn what_messaging_refuses_has_failed_and_says_why() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    let id = world.schedule((conversation, ann), "hello", 60 * SECOND).await;
    world.others.admit(conversation, ann, false);
    world.clock.advance(60 * SECOND);
    let failed = world.becomes(ann, &id, State::Failed).await;
    assert_eq!(
        (failed.failure_reason.as_str(), failed.message_id.as_str()),
        ("ERROR_REASON_WRITE_DENIED", "")
    );
    // Its author may want to see what was not sent.
    assert_eq!(failed.content, Some(says("hello")));
    assert_eq!(world.others.sends(), 1);
    let cancelled = Fault::of(&world.cancel(ann, &id).await.unwrap_err());
    assert_eq!(cancelled.reason(), "ERROR_REASON_ALREADY_FINAL");
    assert_eq!(cancelled.metadata()["failure_reason"], "ERROR_REASON_WRITE_DENIED");
}

#[tokio::test]
async fn an_outage_delays_and_a_lost_answer_repeats_nothing() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    world.others.mishaps([
        Mishap::Refused(unavailable()),
        Mishap::Stored(unavailable()),
        Mishap::Refused(Status::unknown("?")),
    ]);
    let id = world.schedule((conversation, ann), "hello", Duration::ZERO).await;
    for tries in 1..=4 {
        world.time_passes_until(|| world.others.sends() == tries).await;
    }
    let sent = world.becomes(ann, &id, State::Sent).await;
    assert_eq!(world.others.sends(), 4);
    assert_eq!(world.others.sent().len(), 1);
    assert_eq!(sent.message_id, world.others.sent()[0].message_id.to_string());
}

#[tokio::test]
async fn what_may_have_been_sent_cannot_be_taken_back() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    world.others.mishaps([Mishap::Stored(unavailable())]);
    let id = world.schedule((conversation, ann), "hello", Duration::ZERO).await;
    eventually(|| world.others.sends() == 1).await;
    // Nobody has it any more, and the next try is not due: what became of it is open.
    assert_eq!(reason(world.cancel(ann, &id).await), is(Code::Aborted, "BEING_SENT"));
    world.time_passes_until(|| world.others.sends() == 2).await;
    world.becomes(ann, &id, State::Sent).await;
    assert_eq!(reason(world.cancel(ann, &id).await), is(Code::FailedPrecondition, "ALREADY_FINAL"));
    assert_eq!(world.others.sent().len(), 1);
}

#[tokio::test]
async fn who_has_to_wait_waits_and_may_still_think_better_of_it() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    let slow = || Fault::new(Code::ResourceExhausted, "ERROR_REASON_SLOW_MODE").retry_after(60 * SECOND);
    world.others.mishaps([Mishap::Refused(slow().into()), Mishap::Refused(slow().into())]);
    let start = world.clock.now();
    let first = world.schedule((conversation, ann), "first", Duration::ZERO).await;
    let second = world.schedule((conversation, ann), "second", Duration::ZERO).await;
    // The one does not hold up the other, and both are given back before their leases are over.
    let store = Store::new(world.database.clone(), world.clock.clone());
    let next = async || store.next_wake_time(Kind::ScheduledMessage, start).await.unwrap();
    while next().await != Some(start.plus(60 * SECOND)) || world.others.sends() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.clock.advance(59 * SECOND);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.others.sends(), 2);
    // Certainly not sent, so it can be taken back.
    assert_eq!(world.cancel(ann, &first).await.unwrap().state(), State::Cancelled);
    world.clock.advance(SECOND);
    world.becomes(ann, &second, State::Sent).await;
    assert_eq!(world.others.sent().len(), 1);
}

#[tokio::test]
async fn after_an_outage_everything_comes_once_and_in_order() {
    let mut world = World::start().await;
    let (conversation, ann) = world.writer();
    let (elsewhere, bob) = world.writer();
    world.others.admit(conversation, bob, true);
    let writers = [(conversation, ann), (conversation, bob), (elsewhere, bob)];
    for n in 0..60_u64 {
        // Every time once, in a jumble.
        let after = n * 37 % 60;
        world
            .schedule(
                writers[usize::try_from(n % 3).unwrap()],
                &format!("{after:02}"),
                SECOND * u32::try_from(after + 1).unwrap(),
            )
            .await;
    }
    let begun = tokio::time::Instant::now();
    world.restart_after(DAY, Config { rate: 40, ..config() }).await;
    eventually(|| world.others.sent().len() == 60).await;
    // Four at once, and then forty a second.
    assert!(begun.elapsed() >= Duration::from_millis(1350), "{:?}", begun.elapsed());
    tokio::time::sleep(A_WHILE).await;
    let sent = world.others.sent();
    assert_eq!((sent.len(), world.others.sends()), (60, 60));
    for place in [conversation, elsewhere] {
        let texts: Vec<_> =
            sent.iter().filter(|sent| sent.conversation == place).map(|sent| &sent.text).collect();
        assert!(texts.is_sorted(), "{texts:?}");
    }
}

#[tokio::test]
async fn an_outage_of_messaging_does_not_change_the_order() {
    let world = World::start().await;
    let writer = world.writer();
    world.others.mishaps((0..5).map(|_| Mishap::Refused(unavailable())));
    for n in 0..5 {
        world.schedule(writer, &n.to_string(), SECOND * n).await;
    }
    world.time_passes_until(|| world.others.sent().len() == 5).await;
    let texts: Vec<_> = world.others.sent().into_iter().map(|sent| sent.text).collect();
    assert_eq!(texts, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn one_that_cannot_wait_is_sent_now() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    let id = world.schedule((conversation, ann), "hello", DAY).await;
    let sent = world.send_now(ann, &id).await.unwrap();
    assert_eq!((sent.state(), sent.send_time), (State::Sent, Some(world.clock.now().to_proto())));
    assert_eq!(sent.message_id, world.others.sent()[0].message_id.to_string());
    assert_eq!(world.send_now(ann, &id).await.unwrap(), sent);
    world.clock.advance(2 * DAY);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.others.sends(), 1);
}

#[tokio::test]
async fn one_that_cannot_wait_may_fail_like_any_other() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    let (refused, delayed) = (
        world.schedule((conversation, ann), "refused", DAY).await,
        world.schedule((conversation, ann), "delayed", DAY).await,
    );
    world.others.mishaps([Mishap::Stored(unavailable())]);
    assert_eq!(reason(world.send_now(ann, &delayed).await), is(Code::Aborted, "BEING_SENT"));
    // Asking again is enough.
    assert_eq!(world.send_now(ann, &delayed).await.unwrap().state(), State::Sent);
    world.others.dismiss(conversation, ann);
    let fault = Fault::of(&world.send_now(ann, &refused).await.unwrap_err());
    assert_eq!(fault.reason(), "ERROR_REASON_ALREADY_FINAL");
    assert_eq!(fault.metadata()["state"], "SCHEDULED_MESSAGE_STATE_FAILED");
    assert_eq!(fault.metadata()["failure_reason"], "ERROR_REASON_CONVERSATION_NOT_FOUND");
    assert_eq!(world.others.sent().len(), 1);
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_nothing_half_done() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    let id = world.schedule((conversation, ann), "hello", DAY).await;
    world.others.hold(true);
    let impatient = tokio::time::timeout(A_WHILE, world.send_now(ann, &id)).await;
    assert!(impatient.is_err());
    world.others.hold(false);
    world.becomes(ann, &id, State::Sent).await;
    assert_eq!(world.others.sends(), 1);
}

impl World {
    /// Waits until the only message of a user is cancelled.
    async fn is_over(&self, user: UserId) {
        self.events.publish(proto::subject::AUTH_FACTS, Vec::new().into());
        let store = Store::new(self.database.clone(), self.clock.clone());
        let listing = Listing { author: user, conversation: None, state: None, after: None, limit: 10 };
        let over = async {
            while store.list(listing).await.unwrap()[0].state.name() != StateName::Cancelled {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, over).await.expect("it is cancelled");
    }
}

#[tokio::test]
async fn a_fact_that_cannot_be_read_waits_for_the_start_that_can() {
    let mut world = World::start().await;
    let (ann, bob) = (world.writer(), world.writer());
    let kept = world.schedule(ann, "kept", DAY).await;
    world.schedule(bob, "never", DAY).await;
    world.others.tell_of_something_new(ann.1);
    world.others.delete(bob.1);
    world.is_over(bob.1).await;
    assert_eq!(world.database.count_aside("auth").await.unwrap(), 1);
    assert_eq!(world.get(ann.1, &kept).await.unwrap().state(), State::Pending);

    // As the next release reads it.
    let payload = Some(proto::auth::v1::user_fact::Payload::UserDeleted(proto::auth::v1::UserDeleted {}));
    let fact = proto::auth::v1::UserFact { user_id: ann.1.to_string(), payload, ..Default::default() };
    let Database::Sqlite(pool) = &world.database else { panic!("on SQLite") };
    let mut tx = pool.begin().await.unwrap();
    let fact = prost::Message::encode_to_vec(&fact);
    sqlx::query("UPDATE facts_aside SET payload = $1").bind(fact).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    world.restart_after(Duration::ZERO, config()).await;
    world.is_over(ann.1).await;
    assert_eq!(world.database.count_aside("auth").await.unwrap(), 0);
}

#[tokio::test]
async fn an_older_copy_of_auth_loses_no_later_deletion() {
    let world = World::start().await;
    let (ann, bob, cem) = (world.writer(), world.writer(), world.writer());
    for writer in [ann, bob, cem] {
        world.schedule(writer, "never", DAY).await;
    }
    world.others.rename(ann.1);
    world.others.rename(ann.1);
    world.others.delete(ann.1);
    world.is_over(ann.1).await;
    // The facts end before the cursor.
    world.others.is_restored_to(1);
    world.others.delete(bob.1);
    world.is_over(bob.1).await;
    // Another fact stands at the cursor, and the facts go on beyond it.
    world.others.is_restored_to(1);
    world.others.rename(ann.1);
    world.others.delete(cem.1);
    world.is_over(cem.1).await;
}

#[tokio::test]
async fn what_a_deleted_user_has_scheduled_is_cancelled_and_erased() {
    let world = World::start().await;
    let (conversation, ann) = world.writer();
    let (_, bob) = world.writer();
    world.others.admit(conversation, bob, true);
    world.schedule((conversation, ann), "never", DAY).await;
    let kept = world.schedule((conversation, bob), "still", DAY).await;
    // A fact about a name changes nothing and stops nothing.
    world.others.rename(ann);
    world.others.delete(ann);
    world.events.publish(proto::subject::AUTH_FACTS, Vec::new().into());
    let store = Store::new(world.database.clone(), world.clock.clone());
    let listing = Listing { author: ann, conversation: None, state: None, after: None, limit: 10 };
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let left = store.list(listing).await.unwrap();
        if left[0].state.name() == StateName::Cancelled {
            assert_eq!(left[0].content, None);
            break;
        }
        assert!(tokio::time::Instant::now() < end, "it is not cancelled");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.clock.advance(2 * DAY);
    world.becomes(bob, &kept, State::Sent).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.others.sent().len(), 1);
}

#[tokio::test]
async fn what_is_under_way_is_finished_when_the_service_stops() {
    let mut world = World::start().await;
    let (conversation, ann) = world.writer();
    world.others.hold(true);
    let under_way = world.schedule((conversation, ann), "under way", Duration::ZERO).await;
    eventually(|| world.others.under_way() == 1).await;
    let later = world.schedule((conversation, ann), "later", SECOND).await;
    world.clock.advance(DAY);
    let others = world.others.clone();
    let ((), ()) = tokio::join!(world.unit.stop(PATIENCE), async {
        tokio::time::sleep(A_WHILE).await;
        others.hold(false);
    });
    assert_eq!(world.get(ann, &under_way).await.unwrap().state(), State::Sent);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!((world.get(ann, &later).await.unwrap().state(), world.others.sends()), (State::Pending, 1));
    world.restart_after(Duration::ZERO, config()).await;
    world.becomes(ann, &later, State::Sent).await;
}

/// Three replicas on PostgreSQL, a messaging that keeps failing, and authors who take back and change what is due.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_is_sent_once_or_cancelled_by_three_replicas() {
    const MESSAGES: usize = 240;
    let Some((database, _scratch)) = testing::postgres(&MIGRATOR, NAME).await else { return };
    let clock = Clock::system();
    let others = Others::new(clock.clone());
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let poll_interval = Duration::from_millis(50);
        let config = Config {
            poll_interval,
            longest_retry: Duration::from_millis(300),
            max_pending: 1000,
            ..config()
        };
        let mut unit = start(config, database.clone(), &others, clock.clone(), Events::local()).await;
        let client = ScheduledMessageServiceClient::new(Transport::local(unit.grpc.take().unwrap()));
        replicas.push((unit, client));
    }
    let places: Vec<ConversationId> = (0..12).map(|_| ConversationId::generate()).collect();
    let ann = others.register();
    places.iter().for_each(|place| others.admit(*place, ann, true));
    others.mishaps((0..120).map(|n| match n % 3 {
        0 => Mishap::Stored(unavailable()),
        1 => Mishap::Refused(unavailable()),
        _ => Mishap::Refused(Fault::new(Code::Unavailable, "ERROR_REASON_OVERLOADED").into()),
    }));
    let start = clock.now().plus(Duration::from_millis(500));
    let mut ids = Vec::new();
    for n in 0..MESSAGES {
        let request = pb::ScheduleMessageRequest {
            conversation_id: places[n % places.len()].to_string(),
            content: Some(says(&n.to_string())),
            send_time: Some(start.plus(Duration::from_millis(5) * u32::try_from(n).unwrap()).to_proto()),
            request_id: String::new(),
        };
        let answer = replicas[n % 3].1.schedule_message(ann.asks(request)).await.unwrap();
        ids.push(answer.into_inner().scheduled_message.unwrap());
    }
    // Every fourth is taken back, and every fourth is wanted at once, about when it is due.
    let mut races = JoinSet::new();
    for (n, scheduled) in ids.iter().enumerate().filter(|(n, _)| n % 2 == 0) {
        let (mut client, id) = (replicas[(n + 1) % 3].1.clone(), scheduled.scheduled_message_id.clone());
        let due = Timestamp::from_proto(scheduled.send_time.as_ref().unwrap()).unwrap();
        let wait = due.since(clock.now());
        races.spawn(async move {
            tokio::time::sleep(wait).await;
            if n % 4 == 0 {
                let request = pb::CancelScheduledMessageRequest { scheduled_message_id: id.clone() };
                client.cancel_scheduled_message(ann.asks(request)).await.is_ok().then_some(id)
            } else {
                let request = pb::SendScheduledMessageNowRequest { scheduled_message_id: id };
                client.send_scheduled_message_now(ann.asks(request)).await.ok();
                None
            }
        });
    }
    let cancelled: HashSet<String> = races.join_all().await.into_iter().flatten().collect();
    let expected = MESSAGES - cancelled.len();
    eventually(|| others.sent().len() >= expected).await;
    let sent = others.sent();
    let keys: HashSet<_> = sent.iter().map(|sent| sent.key.clone()).collect();
    assert_eq!((sent.len(), keys.len()), (expected, expected));
    for scheduled in &ids {
        let request =
            pb::GetScheduledMessageRequest { scheduled_message_id: scheduled.scheduled_message_id.clone() };
        let end = tokio::time::Instant::now() + PATIENCE;
        let found = loop {
            let answer = replicas[0].1.get_scheduled_message(ann.asks(request.clone())).await.unwrap();
            let found = answer.into_inner().scheduled_message.unwrap();
            if found.state() != State::Pending {
                break found;
            }
            assert!(tokio::time::Instant::now() < end, "still pending");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let key = format!("sched:{}:1", found.scheduled_message_id);
        let was_cancelled = cancelled.contains(&found.scheduled_message_id);
        assert_eq!(found.state(), if was_cancelled { State::Cancelled } else { State::Sent });
        assert_eq!(keys.contains(&key), !was_cancelled);
        if let Some(sent) = sent.iter().find(|sent| sent.key == key) {
            assert_eq!(found.message_id, sent.message_id.to_string());
            assert!(sent.at.to_proto().seconds >= found.send_time.unwrap().seconds);
            assert!(sent.at >= Timestamp::from_proto(found.send_time.as_ref().unwrap()).unwrap(), "early");
        }
    }
    for (unit, _) in &replicas {
        unit.stop(PATIENCE).await;
    }
}
