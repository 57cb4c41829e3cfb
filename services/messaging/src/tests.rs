//! The service through its door: its own routes with all their middleware, over an auth and a conversation that are made
//! for the purpose.

mod alerting;
mod annotating;
mod carrying;
mod departing;
mod ending;
mod expiring;
mod exporting;
mod facts;
mod finding;
mod fold;
mod folding;
mod forwarding;
mod inboxes;
mod kinds;
mod others;
mod policing;
mod previewing;
mod reading;
mod reporting;
mod requesting;
mod secure;
mod streaming;
mod uploading;
mod viewing;
mod writing;

use std::time::Duration;

use chassis::clock::{Clock, Timestamp};
use chassis::config::Secret;
use chassis::database::Database;
use chassis::database::testing::{self, Scratch};
use chassis::events::Events;
use chassis::fault::Fault;
use chassis::identity::{AcceptedServices, ServiceCredential};
use chassis::middleware::LimitsConfig;
use chassis::rates::RatesConfig;
use chassis::transport::{Transport, as_service};
use chassis::unit::Unit;
use proto::conversation::v1::ConversationKind;
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::alert_service_client::AlertServiceClient;
use proto::messaging::v1::annotation_service_client::AnnotationServiceClient;
use proto::messaging::v1::export_service_client::ExportServiceClient;
use proto::messaging::v1::messaging_service_client::MessagingServiceClient;
use proto::messaging::v1::report_service_client::ReportServiceClient;
use proto::messaging::v1::search_service_client::SearchServiceClient;
use proto::messaging::v1::send_message_request::Target;
use proto::messaging::v1::sync_service_client::SyncServiceClient;
use proto::messaging::v1::upload_service_client::UploadServiceClient;
use proto::messaging::v1::{self as pb};
use tonic::{Code, Request, Status};

use self::others::{Others, SECRET};
use crate::{Config, Deps, MIGRATOR};

/// What the other services show.
const OTHERS: [(&str, &str); 2] =
    [("gateway", "the secret of gateway"), ("scheduling", "the secret of scheduling")];

/// Gives it up when the condition has not come true after this.
const PATIENCE: Duration = Duration::from_secs(30);

/// One replica of the service, and all it needs.
struct World {
    others: Others,
    clock: Clock,
    database: Database,
    events: Events,
    messaging: MessagingServiceClient<Transport>,
    sync: SyncServiceClient<Transport>,
    reports: ReportServiceClient<Transport>,
    annotations: AnnotationServiceClient<Transport>,
    search: SearchServiceClient<Transport>,
    alerts: AlertServiceClient<Transport>,
    uploads: UploadServiceClient<Transport>,
    exports: ExportServiceClient<Transport>,
    config: Config,
    unit: Unit,
    _scratch: Option<Scratch>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let (database, scratch) = testing::sqlite(&MIGRATOR, "messaging").await;
        let clock = Clock::manual(Timestamp::from_millis(1_795_000_000_000));
        Self::on(database, Some(scratch), Others::new(clock.clone()), clock).await
    }

    /// One that is set like this.
    async fn with(config: Config) -> Self {
        let (database, scratch) = testing::sqlite(&MIGRATOR, "messaging").await;
        let clock = Clock::manual(Timestamp::from_millis(1_795_000_000_000));
        Self::set_up(config, database, Some(scratch), Others::new(clock.clone()), clock).await
    }

    async fn on(database: Database, scratch: Option<Scratch>, others: Others, clock: Clock) -> Self {
        Self::set_up(Config::default(), database, scratch, others, clock).await
    }

    async fn set_up(
        mut config: Config,
        database: Database,
        scratch: Option<Scratch>,
        others: Others,
        clock: Clock,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        config.uploads.url.get_or_insert_with(|| format!("file://{}", folder.path().display()));
        let secrets = OTHERS.map(|(name, secret)| (name, Secret::new(secret)));
        let events = Events::local();
        let deps = Deps {
            database: database.clone(),
            events: events.clone(),
            clock: clock.clone(),
            conversation: others.conversation(),
            auth: others.auth(),
            credential: ServiceCredential::new("messaging", &Secret::new(SECRET)).unwrap(),
            accepted: AcceptedServices::with_secrets(secrets.iter().map(|(name, secret)| (*name, secret))),
            limits: LimitsConfig { rates: RatesConfig::unlimited(), ..LimitsConfig::default() },
        };
        let mut unit = crate::start(config.clone(), deps).await.unwrap();
        let transport = Transport::local(unit.grpc.take().unwrap());
        Self {
            others,
            clock,
            database,
            events,
            messaging: MessagingServiceClient::new(transport.clone()),
            reports: ReportServiceClient::new(transport.clone()),
            sync: SyncServiceClient::new(transport.clone()),
            annotations: AnnotationServiceClient::new(transport.clone()),
            search: SearchServiceClient::new(transport.clone()),
            alerts: AlertServiceClient::new(transport.clone()),
            uploads: UploadServiceClient::new(transport.clone()),
            exports: ExportServiceClient::new(transport),
            config,
            unit,
            _scratch: scratch,
            _folder: folder,
        }
    }

    /// Another replica on the same database, which hears nothing of the first one's hints.
    async fn replica(&self) -> Self {
        Self::on(self.database.clone(), None, self.others.clone(), self.clock.clone()).await
    }

    fn people<const N: usize>(&self) -> [UserId; N] {
        std::array::from_fn(|_| self.others.register())
    }

    fn group(&self, members: &[UserId]) -> ConversationId {
        self.others.create(ConversationKind::Group, members)
    }

    fn messaging(&self) -> MessagingServiceClient<Transport> {
        self.messaging.clone()
    }

    fn sync(&self) -> SyncServiceClient<Transport> {
        self.sync.clone()
    }

    fn annotations(&self) -> AnnotationServiceClient<Transport> {
        self.annotations.clone()
    }

    async fn send(
        &self,
        by: UserId,
        request: pb::SendMessageRequest,
    ) -> Result<pb::SendMessageResponse, Status> {
        self.messaging().send_message(by.says(request)).await.map(tonic::Response::into_inner)
    }

    async fn says(&self, by: UserId, conversation: ConversationId, text: &str) -> pb::Message {
        self.send(by, to(conversation, text)).await.unwrap().message.unwrap()
    }

    async fn list(
        &self,
        by: UserId,
        request: pb::ListMessagesRequest,
    ) -> Result<pb::ListMessagesResponse, Status> {
        self.messaging().list_messages(by.says(request)).await.map(tonic::Response::into_inner)
    }

    async fn events(&self, by: UserId, conversation: ConversationId, after: i64) -> pb::ListEventsResponse {
        let request = pb::ListEventsRequest {
            conversation_id: conversation.to_string(),
            after_sequence: after,
            ..Default::default()
        };
        self.sync().list_events(by.says(request)).await.unwrap().into_inner()
    }

    async fn user_events(&self, by: UserId) -> Vec<pb::UserEvent> {
        let request = pb::ListUserEventsRequest { limit: 200, ..Default::default() };
        self.sync().list_user_events(by.says(request)).await.unwrap().into_inner().events
    }

    /// Waits until everything that conversation has told is in the logs of this user.
    async fn has_heard(&self, user: UserId, events: usize) {
        eventually(async || self.user_events(user).await.len() >= events).await;
    }
}

/// What somebody says to the service, with a token or a secret.
trait Says {
    fn says<T>(&self, message: T) -> Request<T>;
}

impl Says for UserId {
    fn says<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {self}").parse().unwrap());
        request
    }
}

/// A service, for a user or for itself.
struct Service(&'static str, Option<UserId>);

impl Says for Service {
    fn says<T>(&self, message: T) -> Request<T> {
        let secret = OTHERS.iter().find(|(name, _)| *name == self.0).unwrap().1;
        as_service(message, &ServiceCredential::new(self.0, &Secret::new(secret)).unwrap(), self.1)
    }
}

fn to(conversation: ConversationId, says: &str) -> pb::SendMessageRequest {
    pb::SendMessageRequest {
        target: Some(Target::ConversationId(conversation.to_string())),
        content: content(says),
        ..Default::default()
    }
}

fn keyed(conversation: ConversationId, says: &str, key: &str) -> pb::SendMessageRequest {
    pb::SendMessageRequest { client_message_id: key.to_owned(), ..to(conversation, says) }
}

/// The same, only to be checked.
fn checked(request: pb::SendMessageRequest) -> pb::SendMessageRequest {
    pb::SendMessageRequest { validate_only: true, ..request }
}

fn content(says: &str) -> Option<pb::Content> {
    Some(pb::Content { kind: Some(pb::content::Kind::Text(says.to_owned())), ..Default::default() })
}

fn text_of(message: &pb::Message) -> &str {
    match message.content.as_ref().and_then(|content| content.kind.as_ref()) {
        Some(pb::content::Kind::Text(text)) => text,
        _ => "",
    }
}

/// The code and the reason of a refusal.
#[track_caller]
fn refusal<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let fault = Fault::of(&outcome.unwrap_err());
    (fault.code(), fault.reason().trim_start_matches("ERROR_REASON_").to_owned())
}

fn refused(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

/// Waits until a condition holds.
async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("the condition came true");
}
