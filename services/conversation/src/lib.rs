//! Conversations: who is in them, in which role, and who is kept out; and people: who is connected with whom, who may
//! write to whom first, who is there.
//!
//! **Owns** conversations, members, roles and bans, what is between any two people (connections, requests, blocks), what
//! each lets others do, and presence. It is asked before every message whether its sender may write, and
//! answers from the database, so that a right that was withdrawn is withdrawn at once.
//!
//! **Refuses** whoever is not a member as if the conversation did not exist (a room can be seen by every user, and what
//! everyone reads by the anonymous viewer too), and whoever lacks the role. Who may do what to whom is in `role` and `change`, what two people may do about each other in
//! `standing`, as code without a database.
//!
//! **Emits** a fact for every change of members, roles and settings, written in the transaction of the change and
//! carrying the conversation's membership version after it: a history without gaps. Messaging turns the facts into
//! events of the conversation's log.
//!
//! Requests of one person to another are facts too. Auth is told who got to know whom (`acquaintance`).
//!
//! **Follows** auth's facts: a deleted account is a member nowhere, and nobody's contact.

mod acquaintance;
mod change;
mod config;
mod consume;
mod contacts;
mod conversation;
mod conversations;
mod convert;
mod create;
mod error;
mod fact;
mod grpc;
mod member;
mod paging;
mod presence;
mod privacy;
mod publish;
mod request;
mod role;
mod standing;
mod store;
mod users;

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
use proto::conversation::v1::connection_service_server::{self, ConnectionServiceServer};
use proto::conversation::v1::conversation_service_server::{self, ConversationServiceServer};
use proto::conversation::v1::export_service_server::{self, ExportServiceServer};
use proto::conversation::v1::presence_service_server::{self, PresenceServiceServer};
use sqlx::migrate::Migrator;
use tonic::service::Routes;

pub use config::Config;

use crate::consume::{USERS, UserFacts};
use crate::conversations::Conversations;
use crate::grpc::Grpc;
use crate::store::Store;
use crate::users::Users;

/// The name of this service.
pub const NAME: &str = "conversation";

/// The tables of this service.
pub static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// What this service needs from outside.
pub struct Deps {
    /// Its database, opened with [`MIGRATOR`].
    pub database: Database,
    /// The bus for hints.
    pub events: Events,
    /// What time it is.
    pub clock: Clock,
    /// The way to auth.
    pub auth: Transport,
    /// How this service proves to auth who it is.
    pub credential: ServiceCredential,
    /// The services that may call this one.
    pub accepted: AcceptedServices,
    /// How much this service takes on at once.
    pub limits: LimitsConfig,
}

/// Starts the service.
pub async fn start(config: Config, deps: Deps) -> anyhow::Result<Unit> {
    config.check()?;
    let Deps { database, events, clock, auth, credential, accepted, limits } = deps;
    let tasks = Tasks::default();
    let verifier = Verifier::new(auth.clone(), Some(credential.clone()));
    verifier.forget_ended_sessions(&events, &tasks).await;
    let streams = Streams::start(&verifier, &events, &clock, &limits, &tasks).await;
    let rates = Rates::start(&limits.rates, &tasks);
    let audit = AuditLog::start("conversation", &database, &clock, &tasks);

    let conversations = Conversations {
        store: Store::new(database.clone()),
        users: Users::new(auth.clone(), credential.clone()),
        events: events.clone(),
        clock: clock.clone(),
        max_members: config.max_members.into(),
    };
    let effect = UserFacts(conversations.clone());
    Reader::new(USERS, Source::auth(auth, credential), database.clone(), clock, effect)
        .start(&events, &tasks);
    acquaintance::tell(conversations.clone(), events.clone(), &tasks);
    presence::sweep(conversations.clone(), &tasks);

    let grpc = Grpc::new(conversations);
    let request_bytes = proto::largest::request_bytes("parlor.conversation.v1");
    let mut routes = Routes::builder();
    routes
        .add_service(ConversationServiceServer::new(grpc.clone()).max_decoding_message_size(request_bytes))
        .add_service(ConnectionServiceServer::new(grpc.clone()).max_decoding_message_size(request_bytes))
        .add_service(PresenceServiceServer::new(grpc.clone()).max_decoding_message_size(request_bytes))
        .add_service(ExportServiceServer::new(grpc).max_decoding_message_size(request_bytes));
    Ok(Unit {
        name: NAME,
        services: vec![
            conversation_service_server::SERVICE_NAME,
            connection_service_server::SERVICE_NAME,
            presence_service_server::SERVICE_NAME,
            export_service_server::SERVICE_NAME,
        ],
        grpc: Some(unit::routes(
            routes.routes(),
            Identity::new(verifier, accepted, streams, rates),
            audit,
            &limits,
        )),
        listening: vec![],
        database: Some(database),
        tasks,
        ready: vec![events.readiness()],
    })
}

/// Starts the service as a process of its own.
pub async fn launch(settings: Settings<Config>) -> anyhow::Result<Unit> {
    let deps = Deps {
        database: Database::open(&settings.database, NAME, &MIGRATOR).await?,
        events: settings.events(NAME).await?,
        clock: Clock::system(),
        auth: settings.peers.transport("auth", &settings.peers.auth)?,
        credential: settings.identity.credential(NAME)?,
        accepted: settings.identity.accepted()?,
        limits: settings.limits.in_profile(settings.profile),
    };
    start(settings.service, deps).await
}
