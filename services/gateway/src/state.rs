//! What every request of the gateway can reach.

use std::sync::Arc;

use chassis::clock::Clock;
use chassis::events::Events;
use chassis::identity::Verifier;

use crate::config::Config;
use crate::realtime::Sockets;
use crate::upstream::clients::Clients;
use crate::upstream::rate_limit::Limits;

/// What every request of the gateway can reach. Cloning is cheap.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    config: Config,
    clients: Clients,
    verifier: Verifier,
    events: Events,
    limits: Limits,
    sockets: Sockets,
    clock: Clock,
}

impl Gateway {
    /// Puts it together. The configuration is the one that holds under the profile.
    pub(crate) fn new(
        config: Config,
        clients: Clients,
        verifier: Verifier,
        events: Events,
        clock: Clock,
    ) -> Self {
        let limits = Limits::new(&config);
        let sockets = Sockets::new(&clients, &events);
        Self(Arc::new(Inner { config, clients, verifier, events, limits, sockets, clock }))
    }

    /// The services behind the gateway.
    pub(crate) fn clients(&self) -> &Clients {
        &self.0.clients
    }

    /// The configuration, as it holds under the profile.
    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// What finds out whose session a token stands for.
    pub(crate) fn verifier(&self) -> &Verifier {
        &self.0.verifier
    }

    /// The bus.
    pub(crate) fn events(&self) -> &Events {
        &self.0.events
    }

    /// How often what may be done.
    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The connections of clients.
    pub(crate) fn sockets(&self) -> &Sockets {
        &self.0.sockets
    }

    /// The time.
    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }
}
