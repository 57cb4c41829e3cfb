//! Auth: accounts, passwords and sessions.
//!
//! **Owns** users (who they are and what they say about themselves), what is kept of their passwords, their sessions,
//! the public keys of their devices, what they thought of each other, one-time codes, their links to providers that one can
//! sign in with, how far their background checks are, and the answer to the question whose a token is ([`Introspect`]),
//! which every other
//! service asks.
//!
//! **Refuses** names that somebody has, addresses that somebody has verified (to those only who prove to read them), passwords that protect nothing, tries that come too fast, tokens
//! that have ended. A name or password that is wrong is refused in the same words and after the same work whether or
//! not the account exists. A token that was replaced and comes back ends its session. A profile is shown to whom its owner
//! lets see it, and nobody finds anybody by what it may not see. Only who has met reviews.
//!
//! **Emits** the facts that a user was deleted, that its name or picture changed and that a review changed (from its
//! outbox, read with `ListUserFacts`), a hint that there are facts, and a hint that sessions have ended, so that services
//! forget them at once.
//!
//! It calls no other service: it is at the right end of the line gateway, scheduling, messaging, conversation, auth.
//! Outside it asks whom the operator has configured: a mail server, providers of identities, a provider of checks.
//!
//! [`Introspect`]: proto::auth::v1::auth_service_server::AuthService::introspect

mod accounts;
mod attempts;
mod background_check;
mod background_checks;
mod check_provider;
mod claim;
mod config;
mod convert;
mod device_key;
mod device_keys;
mod doors;
mod email;
mod errand;
mod errands;
mod error;
mod external_account;
mod fact;
mod grpc;
mod hasher;
mod identity;
mod interests;
mod jwt;
mod mail;
mod networks;
mod once;
mod otp;
mod otps;
mod password;
mod pepper;
mod profile;
mod provider;
mod providers;
mod publish;
mod random;
mod refusal;
mod reserved;
mod review;
mod reviews;
mod session;
mod sessions;
mod standing;
mod store;
mod stream_ticket;
mod stream_tickets;
mod suggest;
mod sweep;
mod token;
mod user;
mod username;
mod users;
mod uses;
mod vault;
mod view;
mod web;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use chassis::audit::AuditLog;
use chassis::clock::Clock;
use chassis::config::Settings;
use chassis::database::Database;
use chassis::events::Events;
use chassis::identity::{AcceptedServices, Identity, Streams, Verifier};
use chassis::middleware::LimitsConfig;
use chassis::profile::Profile;
use chassis::rates::Rates;
use chassis::tasks::Tasks;
use chassis::transport::Transport;
use chassis::unit::{self, Unit};
use proto::auth::v1::auth_service_server::{self, AuthServiceServer};
use proto::auth::v1::background_check_service_server::{self, BackgroundCheckServiceServer};
use proto::auth::v1::export_service_server::{self, ExportServiceServer};
use proto::auth::v1::interest_service_server::{self, InterestServiceServer};
use proto::auth::v1::otp_service_server::{self, OtpServiceServer};
use proto::auth::v1::review_service_server::{self, ReviewServiceServer};
use proto::auth::v1::user_service_server::{self, UserServiceServer};
use tonic::service::Routes;

pub use check_provider::ChecksConfig;
pub use config::{AttemptsConfig, Config, PasswordsConfig, SessionsConfig, UsernamesConfig};
pub use mail::MailConfig;
pub use networks::NetworksConfig;
pub use provider::ProviderConfig;
pub use store::MIGRATOR;
pub use vault::VaultConfig;

use accounts::Accounts;
use attempts::Attempts;
use doors::Doors;
use grpc::Api;
use hasher::Hasher;
use publish::Publisher;
use reserved::ReservedNames;
use reviews::Reviews;
use sessions::Sessions;
use store::Store;
use users::Users;
use uses::Uses;

/// The largest request, in bytes.
const REQUEST_BYTES: usize = 256 * 1024;

/// What auth runs on.
#[derive(Debug)]
pub struct Deps {
    /// Its own database, brought up to date with [`MIGRATOR`].
    pub database: Database,
    /// The bus for its hints.
    pub events: Events,
    /// Tells the time.
    pub clock: Clock,
    /// The services that may call it.
    pub accepted: AcceptedServices,
    /// How much it takes on at once.
    pub limits: LimitsConfig,
    /// For whom the process runs.
    pub profile: Profile,
}

/// Starts auth.
pub async fn start(config: Config, deps: Deps) -> anyhow::Result<Unit> {
    config.check(deps.profile)?;
    let Deps { database, events, clock, accepted, limits, profile } = deps;
    let tasks = Tasks::default();
    let store = Store::with_names(&database, config.usernames.rest());
    let publisher = Publisher::new(events.clone());
    let lifetime = config.sessions.lifetime();
    let peppers = config.passwords.peppers()?;
    peppers.check(&store).await?;
    let accounts = Arc::new(Accounts {
        store: store.clone(),
        hasher: Hasher::new(&config.passwords, peppers)?,
        attempts: Attempts::new(&config.attempts, store.clone(), clock.clone())?,
        clock: clock.clone(),
        publisher: publisher.clone(),
        profile,
        reserved: ReservedNames::new(&config.usernames.reserved)?,
        registration_open: config.is_registration_open(profile),
        external_accounts: config.has_external_accounts(profile),
        lifetime,
        sessions_per_user: config.sessions.per_user,
    });
    sweep::start(accounts.clone(), &tasks);
    let doors = Arc::new(Doors::start(&config, accounts.clone(), profile, &tasks).await?);
    let uses = Uses::start(store.clone(), &tasks);
    let sessions = Arc::new(Sessions {
        store: store.clone(),
        clock: clock.clone(),
        publisher: publisher.clone(),
        uses,
        lifetime,
    });
    let reviews = Arc::new(Reviews { store: store.clone(), clock: clock.clone(), publisher });
    let users = Arc::new(Users {
        store,
        clock: clock.clone(),
        categories: config.categories()?,
        accounts: accounts.clone(),
        mails: doors.mails.clone(),
    });
    let api = Api { accounts, sessions, users, reviews, doors };

    // Auth verifies tokens like everybody else, by asking auth: itself, without the layer that would ask again.
    let itself = Routes::new(AuthServiceServer::new(api.clone())).into_axum_router();
    let verifier = Verifier::new(Transport::local(itself), None);
    let streams = Streams::start(&verifier, &events, &clock, &limits, &tasks).await;
    let rates = Rates::start(&limits.rates, &tasks);
    let audit = AuditLog::start("auth", &database, &clock, &tasks);
    let routes = Routes::new(AuthServiceServer::new(api.clone()).max_decoding_message_size(REQUEST_BYTES))
        .add_service(UserServiceServer::new(api.clone()).max_decoding_message_size(REQUEST_BYTES))
        .add_service(InterestServiceServer::new(api.clone()).max_decoding_message_size(REQUEST_BYTES))
        .add_service(ReviewServiceServer::new(api.clone()).max_decoding_message_size(REQUEST_BYTES))
        .add_service(OtpServiceServer::new(api.clone()).max_decoding_message_size(REQUEST_BYTES))
        .add_service(BackgroundCheckServiceServer::new(api.clone()).max_decoding_message_size(REQUEST_BYTES))
        .add_service(ExportServiceServer::new(api).max_decoding_message_size(REQUEST_BYTES));

    Ok(Unit {
        name: "auth",
        services: vec![
            auth_service_server::SERVICE_NAME,
            user_service_server::SERVICE_NAME,
            interest_service_server::SERVICE_NAME,
            review_service_server::SERVICE_NAME,
            export_service_server::SERVICE_NAME,
            otp_service_server::SERVICE_NAME,
            background_check_service_server::SERVICE_NAME,
        ],
        grpc: Some(unit::routes(routes, Identity::new(verifier, accepted, streams, rates), audit, &limits)),
        listening: Vec::new(),
        database: Some(database),
        tasks,
        ready: vec![events.readiness()],
    })
}

/// Starts auth as a process of its own, with what its settings name.
pub async fn launch(settings: Settings<Config>) -> anyhow::Result<Unit> {
    let deps = Deps {
        database: Database::open(&settings.database, "auth", &MIGRATOR).await?,
        events: settings.events("auth").await?,
        clock: Clock::system(),
        accepted: settings.identity.accepted()?,
        limits: settings.limits.in_profile(settings.profile),
        profile: settings.profile,
    };
    start(settings.service, deps).await
}
