//! Scheduling: everything that waits for a time: messages to be sent later, calls that are booked, and calls that ring
//! until it is over.
//!
//! **Owns** scheduled messages, the [`calendar`] of each person (when it is free, and what is booked), [`calls`], and the
//! durable [`timer`] that fires what is due: once, never early, whichever process is alive when the time comes.
//!
//! **Refuses** to schedule what messaging would not take from the author now, further ahead than a year, or more than a
//! hundred at a time; and to change or take back what is being sent. Messaging judges again when the time comes: what it
//! refuses then has failed, with its reason.
//!
//! Of bookings it refuses what meets another one of either person, what is more than the other person wants to be called,
//! and what the other person would not be told of.
//!
//! **Emits** hints about calls and their signals, to the two of each; may be lost. What must not be is a message of
//! messaging's: a scheduled message that is sent, what is booked, and what became of a call.
//!
//! **Follows** auth's facts: what a deleted account has scheduled is cancelled and erased, and its bookings are cancelled.

pub mod calendar;
pub mod calls;
mod config;
mod consume;
pub mod conversations;
mod convert;
pub mod error;
mod export;
pub mod fire;
mod grpc;
pub mod messaging;
pub mod scheduled_message;
pub mod scheduling;
pub mod store;
pub mod timer;
pub mod users;

#[cfg(test)]
mod tests;

use chassis::audit::AuditLog;
use chassis::clock::Clock;
use chassis::config::Settings;
use chassis::database::Database;
use chassis::events::Events;
use chassis::facts::{Reader, Source};
use chassis::identity::{AcceptedServices, Identity, ServiceCredential, Streams, Verifier};
use chassis::middleware::LimitsConfig;
use chassis::rates::Rates;
use chassis::tasks::Tasks;
use chassis::transport::Transport;
use chassis::unit::{self, Unit};
use proto::scheduling::v1::calendar_service_server::{self, CalendarServiceServer};
use proto::scheduling::v1::call_service_server;
use proto::scheduling::v1::export_service_server::{self, ExportServiceServer};
use proto::scheduling::v1::scheduled_message_service_server::{SERVICE_NAME, ScheduledMessageServiceServer};
use sqlx::migrate::Migrator;
use tonic::service::Routes;

pub use config::Config;

use crate::calendar::Calendar;
use crate::calendar::announce::Announcer;
use crate::calendar::people::People;
use crate::calls::{CallDeps, Calls};
use crate::consume::{BLOCKS, BlockFacts, USERS, UserFacts};
use crate::conversations::Conversations;
use crate::grpc::Grpc;
use crate::messaging::Messaging;
use crate::scheduling::{Bounds, Scheduling};
use crate::store::Store;
use crate::timer::{Kind, Timer};

/// The name of this service.
pub const NAME: &str = "scheduling";

/// The tables of this service.
pub static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// What became of what was claimed, by kind and outcome.
const TIMER_FIRED: &str = "timer_fired_total";
/// How late it was claimed the first time, by kind.
const TIMER_LATE: &str = "timer_late_seconds";

/// What this service needs from outside.
pub struct Deps {
    /// Its database, opened with [`MIGRATOR`].
    pub database: Database,
    /// The bus for hints.
    pub events: Events,
    /// What time it is. Only where the database has no clock of its own, see [`Store::now`].
    pub clock: Clock,
    /// The way to messaging.
    pub messaging: Transport,
    /// The way to conversation.
    pub conversation: Transport,
    /// The way to auth.
    pub auth: Transport,
    /// How this service proves to the others who it is.
    pub credential: ServiceCredential,
    /// The services that may call this one.
    pub accepted: AcceptedServices,
    /// How much this service takes on at once.
    pub limits: LimitsConfig,
}

/// Starts the service.
pub async fn start(config: Config, deps: Deps) -> anyhow::Result<Unit> {
    config.check()?;
    describe_metrics();
    let Deps { database, events, clock, messaging, conversation, auth, credential, accepted, limits } = deps;
    let announcer = Announcer::new(messaging.clone(), credential.clone());
    let conversations = Conversations::new(conversation.clone(), credential.clone());
    let tasks = Tasks::default();
    let verifier = Verifier::new(auth.clone(), Some(credential.clone()));
    verifier.forget_ended_sessions(&events, &tasks).await;
    let streams = Streams::start(&verifier, &events, &clock, &limits, &tasks).await;
    let rates = Rates::start(&limits.rates, &tasks);
    let audit = AuditLog::start("scheduling", &database, &clock, &tasks);

    let store = Store::new(database.clone(), clock.clone());
    let messaging = Messaging::new(messaging, credential.clone());
    let call_deps = CallDeps {
        store: store.clone(),
        events: events.clone(),
        messaging: messaging.clone(),
        conversations: conversations.clone(),
        auth: auth.clone(),
        credential: credential.clone(),
        timing: config.timing(),
        tasks: tasks.clone(),
    };
    let calls = Calls::start(&config.calls, call_deps);
    calls.follow_sessions(&tasks).await;
    let timer_of = |kind| Timer::new(kind, config.timing(), store.clone(), tasks.clone());
    let timer = timer_of(Kind::ScheduledMessage);
    let calendar = Calendar {
        store: store.clone(),
        deliveries: timer_of(Kind::Booking),
        reminders: timer_of(Kind::Reminder),
        announcer,
        conversations: conversations.clone(),
        people: People::new(auth.clone(), credential.clone()),
        horizon_days: config.horizon_days,
        max_upcoming: config.max_upcoming,
    };
    let scheduling = Scheduling {
        store,
        timer: timer.clone(),
        messaging,
        bounds: Bounds { horizon_days: config.horizon_days, max_pending: config.max_pending },
        calls: calls.clone(),
    };
    let (users, blocks) = (UserFacts(scheduling.clone()), BlockFacts(scheduling.clone()));
    let source = Source::auth(auth, credential.clone());
    Reader::new(USERS, source, database.clone(), clock.clone(), users).start(&events, &tasks);
    let source = Source::conversation(conversation, credential);
    Reader::new(BLOCKS, source, database.clone(), clock, blocks).start(&events, &tasks);
    let firing = scheduling.clone();
    tasks.spawn("timer", |shutdown| async move {
        let fire = |claim| {
            let scheduling = firing.clone();
            async move { scheduling.fire_and_log(claim).await }
        };
        timer.run(shutdown, fire).await;
    });

    run_calendar(&calendar, &tasks);

    let exports = export::Grpc::new(scheduling.clone(), calendar.clone());
    let request_bytes = proto::largest::request_bytes("parlor.scheduling.v1");
    let messages =
        ScheduledMessageServiceServer::new(Grpc::new(scheduling)).max_decoding_message_size(request_bytes);
    let calendars =
        CalendarServiceServer::new(calendar::Grpc::new(calendar)).max_decoding_message_size(request_bytes);
    let calls = calls.server().max_decoding_message_size(request_bytes);
    let routes = Routes::new(messages)
        .add_service(calendars)
        .add_service(calls)
        .add_service(ExportServiceServer::new(exports).max_decoding_message_size(request_bytes));
    Ok(Unit {
        name: NAME,
        services: vec![
            SERVICE_NAME,
            calendar_service_server::SERVICE_NAME,
            call_service_server::SERVICE_NAME,
            export_service_server::SERVICE_NAME,
        ],
        grpc: Some(unit::routes(routes, Identity::new(verifier, accepted, streams, rates), audit, &limits)),
        listening: vec![],
        database: Some(database),
        tasks,
        ready: vec![events.readiness()],
    })
}

/// Lets the timers of calendars run for as long as the service does.
fn run_calendar(calendar: &Calendar, tasks: &Tasks) {
    let telling = calendar.clone();
    tasks.spawn("bookings", |shutdown| async move {
        let tell = |claim| {
            let calendar = telling.clone();
            async move { calendar.deliver_and_log(claim).await }
        };
        telling.deliveries.run(shutdown, tell).await;
    });
    let reminding = calendar.clone();
    tasks.spawn("reminders", |shutdown| async move {
        let remind = |claim| {
            let calendar = reminding.clone();
            async move { calendar.remind_and_log(claim).await }
        };
        reminding.reminders.run(shutdown, remind).await;
    });
}

/// Starts the service as a process of its own.
pub async fn launch(settings: Settings<Config>) -> anyhow::Result<Unit> {
    let peers = &settings.peers;
    let deps = Deps {
        database: Database::open(&settings.database, NAME, &MIGRATOR).await?,
        events: settings.events(NAME).await?,
        clock: Clock::system(),
        messaging: peers.transport("messaging", &peers.messaging)?,
        conversation: peers.transport("conversation", &peers.conversation)?,
        auth: peers.transport("auth", &peers.auth)?,
        credential: settings.identity.credential(NAME)?,
        accepted: settings.identity.accepted()?,
        limits: settings.limits.in_profile(settings.profile),
    };
    start(settings.service, deps).await
}

fn describe_metrics() {
    use metrics::{Unit, describe_counter, describe_histogram};
    describe_counter!(TIMER_FIRED, Unit::Count, "What became of what was due.");
    describe_histogram!(TIMER_LATE, Unit::Seconds, "How late what was due was claimed the first time.");
}
