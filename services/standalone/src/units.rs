//! Starts the services in call order, each over what has been started before it.

use std::collections::BTreeMap;

use chassis::clock::Clock;
use chassis::config::Secret;
use chassis::database::Database;
use chassis::events::Events;
use chassis::identity::{AcceptedServices, ServiceCredential, Verifier};
use chassis::transport::Transport;
use chassis::unit::Unit;

use crate::config::Config;

/// The services of this process.
const SERVICES: [&str; 5] = ["auth", "conversation", "messaging", "scheduling", "gateway"];

/// Starts all units.
pub async fn start(config: Config) -> anyhow::Result<Vec<Unit>> {
    config.check()?;
    // Before the databases are opened and brought up to date.
    let gateway_ports = gateway::reserve(config.gateway.clone(), config.profile)?;
    config.check_data_folder()?;
    let clock = Clock::system();
    let events = match &config.nats {
        Some(nats) => nats.open(&SERVICES, config.profile, clock.clone()).await?,
        None => Events::local(),
    };
    let secrets = Secrets::new(&config.secrets)?;
    let accepted = secrets.accepted();
    let limits = config.limits.clone().in_profile(config.profile);

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
        gateway_ports,
        gateway::Deps {
            auth: to_auth.clone(),
            conversation: to_conversation,
            messaging: to_messaging,
            scheduling: to_scheduling,
            verifier: Verifier::new(to_auth, Some(credential.clone())),
            credential,
            events,
            clock,
        },
    )
    .await?;

    config.has_started()?;
    Ok(vec![auth, conversation, messaging, scheduling, gateway])
}

fn transport(unit: &Unit) -> Transport {
    Transport::local(unit.grpc.clone().unwrap_or_default())
}

/// One secret per service. One that is not configured is made up anew at each start: nothing outside the process needs it.
#[derive(Debug)]
struct Secrets(Vec<(&'static str, Secret)>);

impl Secrets {
    fn new(configured: &BTreeMap<String, Secret>) -> anyhow::Result<Self> {
        const NAMES: [&str; 4] = ["conversation", "messaging", "scheduling", "gateway"];
        if let Some(other) = configured.keys().find(|name| !NAMES.contains(&name.as_str())) {
            anyhow::bail!("secrets.{other} is the secret of no service: there are {}", NAMES.join(", "));
        }
        let secret = |name: &'static str| match configured.get(name) {
            Some(secret) if secret.expose().len() < 16 => {
                anyhow::bail!("secrets.{name} must have at least 16 characters")
            }
            Some(secret) => Ok((name, secret.clone())),
            None => Ok((name, Secret::random()?)),
        };
        Ok(Self(NAMES.into_iter().map(secret).collect::<anyhow::Result<_>>()?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_secret_is_used_and_the_others_are_made_up() {
        let set = |name: &str, text: &str| BTreeMap::from([(name.to_owned(), Secret::new(text))]);
        let secrets = Secrets::new(&set("gateway", "the secret of the gateway")).expect("secrets");
        let of = |name: &str| secrets.0.iter().find(|(other, _)| *other == name).map(|(_, it)| it.expose());
        assert_eq!(of("gateway"), Some("the secret of the gateway"));
        assert!(of("messaging").is_some_and(|secret| secret.len() >= 32));
        for (name, text) in [("gateway", "short"), ("auth", "the secret of somebody")] {
            let refused = Secrets::new(&set(name, text)).expect_err("refused").to_string();
            assert!(refused.starts_with(&format!("secrets.{name} ")), "{refused}");
        }
    }
}
