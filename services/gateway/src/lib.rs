//! The gateway: REST, WebSocket and SSE for web clients. It owns no data and vouches for no user: it passes on the
//! client's own token, and the services decide.
//!
//! It converts JSON into rpcs and back (the routes come from the HTTP rules of the contract, none is written by hand),
//! holds the connections of clients and sends them events, and refuses early what would only cost resources: bodies
//! that are too large, too many requests, pages of foreign origins.

mod config;
mod dialects;
mod http;
pub(crate) mod json;
mod json_keys;
pub(crate) mod json_value;
mod largest;
mod realtime;
mod state;
mod upstream;

pub use config::{Config, RatesConfig, SocketsConfig};
pub use upstream::clients::Clients;

use std::sync::Arc;

use axum::handler::Handler as _;
use axum::middleware::from_fn_with_state;
use chassis::clock::Clock;
use chassis::config::Settings;
use chassis::events::Events;
use chassis::host::Port;
use chassis::identity::{ServiceCredential, Verifier};
use chassis::profile::Profile;
use chassis::tasks::Tasks;
use chassis::transport::Transport;
use chassis::unit::Unit;

use crate::dialects::{Dialects, socketio};
use crate::http::{middleware, server};
use crate::realtime::{sse, websocket};
use crate::state::Gateway;

/// The dependencies of the gateway.
#[derive(Clone)]
pub struct Deps {
    /// The transport to auth.
    pub auth: Transport,
    /// The transport to conversation.
    pub conversation: Transport,
    /// The transport to messaging.
    pub messaging: Transport,
    /// The transport to scheduling.
    pub scheduling: Transport,
    /// The credential for the gateway's own requests.
    pub credential: ServiceCredential,
    /// Finds the session of a token.
    pub verifier: Verifier,
    /// The bus.
    pub events: Events,
    /// The clock.
    pub clock: Clock,
}

/// A valid configuration, and its reserved ports.
#[derive(Debug)]
pub struct Reserved {
    config: Config,
    ports: Vec<Port>,
}

/// Checks the configuration and reserves its ports. Done before databases are opened: a process that cannot listen
/// changes nothing.
pub fn reserve(config: Config, profile: Profile) -> anyhow::Result<Reserved> {
    let config = config.under(profile)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let ports = server::reserve(&config)?;
    Ok(Reserved { config, ports })
}

/// Starts the gateway: listens, and serves in a task of the unit.
pub async fn start(reserved: Reserved, deps: Deps) -> anyhow::Result<Unit> {
    let Reserved { config, ports } = reserved;
    let listeners = ports.into_iter().map(Port::listen).collect::<Result<Vec<_>, _>>()?;
    let addresses = listeners.iter().map(|listener| listener.local_addr()).collect::<Result<Vec<_>, _>>()?;
    let listening = ["http", "http_also"].into_iter().zip(addresses).collect();

    let tasks = Tasks::default();
    deps.verifier.forget_ended_sessions(&deps.events, &tasks).await;
    let clients =
        Clients::new(deps.auth, deps.conversation, deps.messaging, deps.scheduling, deps.credential);
    let gateway = Gateway::new(config, clients, deps.verifier, deps.events, deps.clock);

    gateway.start(&tasks);
    let mut ready = gateway.upstream().clients().readiness();
    ready.push(gateway.realtime().events().readiness());
    server::start(gateway.config(), router(&gateway, &tasks)?, listeners, &tasks);
    Ok(Unit { name: "gateway", services: Vec::new(), grpc: None, listening, database: None, tasks, ready })
}

/// Starts the gateway as a process of its own, with the services and the bus at the configured addresses.
pub async fn launch(settings: Settings<Config>) -> anyhow::Result<Unit> {
    let reserved = reserve(settings.service.clone(), settings.profile)?;
    let credential = settings.identity.credential("gateway")?;
    let peers = &settings.peers;
    let auth = peers.transport("auth", &peers.auth)?;
    let deps = Deps {
        verifier: Verifier::new(auth.clone(), Some(credential.clone())),
        auth,
        conversation: peers.transport("conversation", &peers.conversation)?,
        messaging: peers.transport("messaging", &peers.messaging)?,
        scheduling: peers.transport("scheduling", &peers.scheduling)?,
        credential,
        events: settings.events("gateway").await?,
        clock: Clock::system(),
    };
    start(reserved, deps).await
}

/// Returns all routes, with all middleware.
fn router(gateway: &Gateway, tasks: &Tasks) -> anyhow::Result<axum::Router> {
    let config = gateway.config();
    let realtime = gateway.realtime().clone();
    let dialects = Dialects::new(gateway.upstream().clone(), Arc::clone(config), realtime);
    let socket_io = socketio::Server::start(gateway.realtime().clone(), dialects.clone(), tasks);
    let routes = http::router(config.profile)?
        .merge(websocket::router())
        .merge(sse::router())
        .with_state(gateway.clone())
        // The dialects find their operations themselves: their clients write paths in any letter case.
        .fallback_service(dialects::serve.with_state(dialects))
        .layer(from_fn_with_state(socket_io, socketio::serve));
    let routes = middleware::bound(config, gateway.upstream(), routes)
        // The answers of the layers below have the form of the dialect, too.
        .layer(from_fn_with_state(Arc::clone(config), dialects::error::shape));
    Ok(middleware::surround(config, routes))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use chassis::config::Secret;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn started() -> Unit {
        let nowhere = Transport::local(axum::Router::new());
        let deps = Deps {
            auth: nowhere.clone(),
            conversation: nowhere.clone(),
            messaging: nowhere.clone(),
            scheduling: nowhere.clone(),
            credential: ServiceCredential::new("gateway", &Secret::new("secret")).expect("a credential"),
            verifier: Verifier::new(nowhere, None),
            events: Events::local(),
            clock: Clock::system(),
        };
        let config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() };
        let reserved = reserve(config, Profile::Development).expect("ports");
        start(reserved, deps).await.expect("a unit")
    }

    async fn get(unit: &Unit, path: &str) -> String {
        let (_, address) = unit.listening[0];
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: parlor\r\naccept: text/html\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    #[tokio::test]
    async fn it_serves_until_it_is_stopped() {
        let unit = started().await;
        for (path, part) in [
            ("/", "<title>Parlor</title>"),
            ("/docs/", "swagger-ui"),
            ("/openapi.json", "\"openapi\":\"3.1.0\""),
            ("/v1/users/batch", "ERROR_REASON_METHOD_NOT_ALLOWED"),
            ("/nowhere", "ERROR_REASON_ROUTE_NOT_FOUND"),
        ] {
            let answer = get(&unit, path).await;
            assert!(answer.contains(part), "{path}: {answer}");
        }
        assert!(get(&unit, "/docs").await.contains("location: /docs/"));
        assert!(unit.tasks.stop(Duration::from_secs(10)).await);
        assert!(TcpStream::connect(unit.listening[0].1).await.is_err());
    }

    #[tokio::test]
    async fn it_is_ready_when_the_services_are() {
        use chassis::admin::Health;
        for check in &started().await.ready {
            let health = check.run().await;
            match check.name.as_str() {
                "to auth" | "to conversation" | "to messaging" => {
                    assert!(matches!(health, Health::Failed(_)), "{check:?}")
                }
                "to scheduling" => assert!(matches!(health, Health::Degraded(_)), "{check:?}"),
                _ => assert!(matches!(health, Health::Ok(_)), "{check:?}"),
            }
        }
    }

    #[tokio::test]
    async fn it_does_not_start_where_it_may_not_listen() {
        let config = Config { listen: SocketAddr::from(([0, 0, 0, 0], 0)), ..Config::default() };
        assert!(config.under(Profile::Development).is_err());
    }
}
