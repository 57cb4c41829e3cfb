//! Messaging: messages, their order, who has read them, and getting up to date.
//!
//! **Owns** the log of every conversation (one gapless sequence of everything durable that happens in it), the messages
//! as they stand now, the watermarks of its members, and each user's own log.
//!
//! **Refuses** to acknowledge what is not committed, to store a client message id twice, to show anything to somebody who
//! is not let in at that moment, to show anybody what has expired or was purged, and work that has waited for too long.
//!
//! **Emits** hints on the bus, one subject per conversation and per user: that a log has grown, that a watermark has
//! moved, that somebody types. The logs themselves are what others rely on, through `ListEvents` and `Sync`.
//!
//! It calls conversation (who may do what, which conversations somebody is in) and auth (whose a token is, who exists, by
//! which keys somebody signs), and follows the facts of both.
//!
//! Read in this order: `content`, `message` and `receipt` (the values and their rules), `kinds` and `secure` (what else a
//! content is asked about), `lane` and `send` (how a message is written), `store/append.rs` (in which transaction), `sync`,
//! `inbox` and `stream` (how it is read), `words` and `search` (how it is found), `alert` and `request` (what people
//! are told of each other), `store/erase.rs`, `expiry`, `sweep` and `departure` (how it goes).

mod alert;
mod alerts;
mod annotations;
mod carry;
mod config;
mod consume;
mod content;
mod conversations;
mod convert;
mod departure;
mod details;
mod emoji;
mod error;
mod event;
mod expiry;
mod export;
mod forward;
mod grpc;
mod hide;
mod inbox;
mod kinds;
mod lane;
mod marks;
mod mention;
mod mentions;
mod message;
mod messaging;
mod people;
mod policy;
mod preview;
mod publish;
mod receipt;
mod receipts;
mod report;
mod reports;
mod request;
mod revision;
mod revisions;
mod search;
mod secure;
mod send;
mod shown;
mod signal;
mod store;
mod stream;
mod stream_checkpoints;
mod sweep;
mod sync;
mod uploads;
mod vet;
mod viewer;
mod words;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use chassis::audit::AuditLog;
use chassis::clock::Clock;
use chassis::config::Settings;
use chassis::database::Database;
use chassis::events::Events;
use chassis::facts;
use chassis::identity::{AcceptedServices, Identity, ServiceCredential, Streams, Verifier};
use chassis::middleware::LimitsConfig;
use chassis::rates::Rates;
use chassis::tasks::Tasks;
use chassis::transport::Transport;
use chassis::unit::{self, Unit};
use proto::messaging::v1::alert_service_server::{self, AlertServiceServer};
use proto::messaging::v1::annotation_service_server::{self, AnnotationServiceServer};
use proto::messaging::v1::export_service_server::{self, ExportServiceServer};
use proto::messaging::v1::messaging_service_server::{self, MessagingServiceServer};
use proto::messaging::v1::report_service_server::{self, ReportServiceServer};
use proto::messaging::v1::search_service_server::{self, SearchServiceServer};
use proto::messaging::v1::sync_service_server::{self, SyncServiceServer};
use proto::messaging::v1::upload_service_server::{self, UploadServiceServer};
use sqlx::migrate::Migrator;
use tokio::sync::Notify;
use tonic::service::Routes;

pub use config::Config;
pub use policy::{OnFailure, PolicyConfig};
pub use preview::PreviewConfig;
pub use uploads::{S3Config, UploadsConfig};

use carry::Carrier;
use consume::{CONVERSATIONS, ConversationFacts, PEOPLE, UserFacts};
use conversations::Conversations;
use departure::Undertaker;
use expiry::{ExpiryAlarm, ExpirySweeper};
use export::Exporter;
use grpc::{Api, ExportApi, UploadApi};
use lane::Lanes;
use messaging::Messaging;
use people::People;
use policy::Policy;
use preview::Previewer;
use publish::Publisher;
use receipts::Recorder;
use send::Writer;
use shown::Shown;
use store::Store;
use stream::Feed;
use sweep::Sweeper;
use uploads::Uploads;

/// The tables of messaging.
pub static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// Makes the logs begin a new epoch, which the next start draws: their positions are not those that clients know.
pub const NEW_EPOCH: &[&str] = &["DELETE FROM meta WHERE name = 'epoch'"];

/// A batch of carried sends is bounded in bytes like this; every other request is far smaller.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// What messaging runs on.
#[derive(Debug)]
pub struct Deps {
    /// Its own database, brought up to date with [`MIGRATOR`].
    pub database: Database,
    /// The bus for hints.
    pub events: Events,
    /// Tells the time.
    pub clock: Clock,
    /// The way to conversation.
    pub conversation: Transport,
    /// The way to auth.
    pub auth: Transport,
    /// What it shows to them.
    pub credential: ServiceCredential,
    /// The services that may call it.
    pub accepted: AcceptedServices,
    /// How much it takes on at once.
    pub limits: LimitsConfig,
}

/// Starts messaging.
pub async fn start(config: Config, deps: Deps) -> anyhow::Result<Unit> {
    config.check()?;
    describe_metrics();
    let Deps { database, events, clock, conversation, auth, credential, accepted, limits } = deps;
    let tasks = Tasks::default();
    let store = Store::new(database.clone(), clock.clone());
    let epoch: Arc<str> = store.epoch().await?.into();
    let publisher = Publisher::new(events.clone(), Arc::clone(&epoch));
    let conversations = Conversations::new(conversation.clone(), credential.clone());
    let people = People::new(auth.clone(), credential.clone());
    let verifier = Verifier::new(auth.clone(), Some(credential.clone()));
    verifier.forget_ended_sessions(&events, &tasks).await;
    let streams = Streams::start(&verifier, &events, &clock, &limits, &tasks).await;
    let rates = Rates::start(&limits.rates, &tasks);
    let audit = AuditLog::start("messaging", &database, &clock, &tasks);

    let previewer = Previewer {
        store: store.clone(),
        conversations: conversations.clone(),
        clock: clock.clone(),
        publisher: publisher.clone(),
    };
    let lanes = config.lanes(&database);
    let alarm = ExpiryAlarm::default();
    let writer = Arc::new(Writer {
        store: store.clone(),
        conversations: conversations.clone(),
        clock: clock.clone(),
        publisher: publisher.clone(),
        previews: previewer.start(&config.previews, &tasks)?,
        alarm: alarm.clone(),
    });
    let recorder = Arc::new(Recorder { store: store.clone(), publisher: publisher.clone() });
    let messaging = Messaging {
        log: lanes.start("log-lane", &tasks, move |batch| Arc::clone(&writer).write(batch)),
        receipts: Lanes { count: 1, ..lanes }
            .start("receipt-lane", &tasks, move |batch| Arc::clone(&recorder).record(batch)),
        store: store.clone(),
        conversations: conversations.clone(),
        people,
        media_hosts: config.media_hosts()?.into(),
        clock: clock.clone(),
        publisher: publisher.clone(),
        policy: config.policy.as_ref().map(Policy::new).transpose()?,
        epoch,
    };
    let uploads = Uploads::open(
        &config.uploads,
        store.clone(),
        conversations.clone(),
        messaging.people.clone(),
        messaging.clock.clone(),
    )
    .await?;
    uploads.sweeper().start(&tasks);
    let exporter = Exporter { store: store.clone(), uploads: uploads.clone() };
    let uploads = UploadApi { uploads, tasks: tasks.clone() };
    let sweeper = Sweeper { store: store.clone(), clock: messaging.clock.clone(), every: config.sweep_every };
    sweeper.start(&tasks);
    let expiry = ExpirySweeper {
        store: store.clone(),
        conversations: conversations.clone(),
        clock: messaging.clock.clone(),
        publisher: publisher.clone(),
        alarm,
        every: config.expiry_every,
    };
    expiry.start(&tasks);
    let wake = Arc::new(Notify::new());
    let undertaker = Undertaker {
        store: store.clone(),
        conversations: conversations.clone(),
        clock: messaging.clock.clone(),
        publisher: publisher.clone(),
        every: config.sweep_every,
        wake: Arc::clone(&wake),
    };
    undertaker.start(&tasks);
    let people = UserFacts {
        store: store.clone(),
        conversations,
        clock: messaging.clock.clone(),
        publisher: publisher.clone(),
        wake,
    };
    let source = facts::Source::auth(auth, credential.clone());
    facts::Reader::new(PEOPLE, source, database.clone(), clock.clone(), people).start(&events, &tasks);
    let source = facts::Source::conversation(conversation, credential);
    let told = ConversationFacts { store, publisher };
    facts::Reader::new(CONVERSATIONS, source, database.clone(), clock, told).start(&events, &tasks);

    let api = Api {
        carrier: Carrier { messaging: messaging.clone(), verifier: verifier.clone(), rates: rates.clone() },
        feed: Feed { messaging: messaging.clone(), events, shown: Shown::default() },
        messaging,
        tasks: tasks.clone(),
    };
    let routes =
        Routes::new(MessagingServiceServer::new(api.clone()).max_decoding_message_size(MAX_REQUEST_BYTES))
            .add_service(
                AnnotationServiceServer::new(api.clone()).max_decoding_message_size(MAX_REQUEST_BYTES),
            )
            .add_service(ReportServiceServer::new(api.clone()).max_decoding_message_size(MAX_REQUEST_BYTES))
            .add_service(SyncServiceServer::new(api.clone()).max_decoding_message_size(MAX_REQUEST_BYTES))
            .add_service(SearchServiceServer::new(api.clone()).max_decoding_message_size(MAX_REQUEST_BYTES))
            .add_service(AlertServiceServer::new(api).max_decoding_message_size(MAX_REQUEST_BYTES))
            .add_service(
                ExportServiceServer::new(ExportApi { exporter }).max_decoding_message_size(MAX_REQUEST_BYTES),
            )
            .add_service(UploadServiceServer::new(uploads).max_decoding_message_size(MAX_REQUEST_BYTES));
    Ok(Unit {
        name: "messaging",
        services: vec![
            messaging_service_server::SERVICE_NAME,
            annotation_service_server::SERVICE_NAME,
            report_service_server::SERVICE_NAME,
            sync_service_server::SERVICE_NAME,
            search_service_server::SERVICE_NAME,
            alert_service_server::SERVICE_NAME,
            export_service_server::SERVICE_NAME,
            upload_service_server::SERVICE_NAME,
        ],
        grpc: Some(unit::routes(routes, Identity::new(verifier, accepted, streams, rates), audit, &limits)),
        listening: Vec::new(),
        database: Some(database),
        tasks,
        ready: Vec::new(),
    })
}

/// Starts messaging as a process of its own, with what its settings name.
pub async fn launch(settings: Settings<Config>) -> anyhow::Result<Unit> {
    let events = settings.events("messaging").await?;
    let peers = &settings.peers;
    let deps = Deps {
        database: Database::open(&settings.database, "messaging", &MIGRATOR).await?,
        events: events.clone(),
        clock: Clock::system(),
        conversation: peers.transport("conversation", &peers.conversation)?,
        auth: peers.transport("auth", &peers.auth)?,
        credential: settings.identity.credential("messaging")?,
        accepted: settings.identity.accepted()?,
        limits: settings.limits.clone().in_profile(settings.profile),
    };
    let mut unit = start(settings.service, deps).await?;
    unit.ready.push(events.readiness());
    Ok(unit)
}

fn describe_metrics() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_histogram!("messaging_batch_size", Unit::Count, "Pieces of work of one batch, by lane.");
    describe_gauge!(lane::WAITING, Unit::Count, "Pieces of work that wait behind the batch of a lane.");
    describe_histogram!("messaging_commit_seconds", Unit::Seconds, "Time to commit a batch of messages.");
    describe_counter!("messaging_previews_total", Unit::Count, "Previews of links, by what became of them.");
    describe_counter!("messaging_sends_total", Unit::Count, "Sends, by what became of them.");
    describe_counter!("messaging_policy_verdicts_total", Unit::Count, "What the operator's policy said.");
    describe_histogram!(
        "messaging_policy_seconds",
        Unit::Seconds,
        "Time to hear from the operator's policy."
    );
    describe_counter!(sweep::SWEPT, Unit::Count, "Messages that were erased after they had gone, by how.");
    describe_gauge!(
        departure::WAITING,
        Unit::Seconds,
        "How long the deleted account that waits longest has waited for its next step of erasing."
    );
    describe_counter!(departure::FAILED, Unit::Count, "Steps of erasing deleted accounts that failed.");
}
