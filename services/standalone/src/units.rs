//! Starts the services in call order, each over what has been started before it.

use chassis::clock::Clock;
use chassis::config::Secret;
use chassis::database::Database;
use chassis::events::Events;
use chassis::identity::{AcceptedServices, ServiceCredential, Verifier};
use chassis::transport::Transport;
use chassis::unit::Unit;

use crate::config::Config;

/// Starts all units.
pub async fn start(config: Config) -> anyhow::Result<Vec<Unit>> {
    let clock = Clock::system();
    let events = match &config.nats {
        Some(nats) => Events::nats(nats).await?,
        None => Events::local(),
    };
    let secrets = Secrets::random()?;
    let accepted = secrets.accepted();
    let limits = config.limits.clone();

    let auth = auth::start(
        config.auth.clone(),
        auth::Deps {
            database: Database::open(&config.database_of("auth"), "auth", &auth::MIGRATOR).await?,
            events: events.clone(),
            clock: clock.clone(),
            accepted: accepted.clone(),
            limits: limits.clone(),
            profile: config.profile,
        },
    )
    .await?;
    let to_auth = transport(&auth);

    let conversation = conversation::start(
        config.conversation.clone(),
        conversation::Deps {
            database: Database::open(
                &config.database_of("conversation"),
                "conversation",
                &conversation::MIGRATOR,
            )
            .await?,
            events: events.clone(),
            clock: clock.clone(),
            auth: to_auth.clone(),
            credential: secrets.credential("conversation")?,
            accepted: accepted.clone(),
            limits: limits.clone(),
        },
    )
    .await?;
    let to_conversation = transport(&conversation);

    let messaging = messaging::start(
        config.messaging(),
        messaging::Deps {
            database: Database::open(&config.database_of("messaging"), "messaging", &messaging::MIGRATOR)
                .await?,
            events: events.clone(),
            clock: clock.clone(),
            conversation: to_conversation.clone(),
            auth: to_auth.clone(),
            credential: secrets.credential("messaging")?,
            accepted: accepted.clone(),
            limits: limits.clone(),
        },
    )
    .await?;
    let to_messaging = transport(&messaging);

    let scheduling = scheduling::start(
        config.scheduling.clone(),
        scheduling::Deps {
            database: Database::open(&config.database_of("scheduling"), "scheduling", &scheduling::MIGRATOR)
                .await?,
            events: events.clone(),
            clock: clock.clone(),
            messaging: to_messaging.clone(),
            conversation: to_conversation.clone(),
            auth: to_auth.clone(),
            credential: secrets.credential("scheduling")?,
            accepted,
            limits,
        },
    )
    .await?;
    let to_scheduling = transport(&scheduling);

    let credential = secrets.credential("gateway")?;
    let gateway = gateway::start(
        config.gateway.clone(),
        gateway::Deps {
            auth: to_auth.clone(),
            conversation: to_conversation,
            messaging: to_messaging,
            scheduling: to_scheduling,
            verifier: Verifier::new(to_auth, Some(credential.clone())),
            credential,
            events,
            clock,
            profile: config.profile,
        },
    )
    .await?;

    Ok(vec![auth, conversation, messaging, scheduling, gateway])
}

fn transport(unit: &Unit) -> Transport {
    Transport::local(unit.grpc.clone().unwrap_or_default())
}

/// One secret per service, made up anew at each start: nothing outside the process needs them.
struct Secrets(Vec<(&'static str, Secret)>);

impl Secrets {
    fn random() -> anyhow::Result<Self> {
        let names = ["conversation", "messaging", "scheduling", "gateway"];
        let secrets = names.into_iter().map(|name| Ok((name, Secret::random()?)));
        Ok(Self(secrets.collect::<anyhow::Result<_>>()?))
    }

    fn accepted(&self) -> AcceptedServices {
        AcceptedServices::with_secrets(self.0.iter().map(|(name, secret)| (*name, secret)))
    }

    fn credential(&self, service: &str) -> anyhow::Result<ServiceCredential> {
        let found = self.0.iter().find(|(name, _)| *name == service);
        let (name, secret) = found.ok_or_else(|| anyhow::anyhow!("no secret was made for {service}"))?;
        ServiceCredential::new(name, secret)
    }
}
