//! The state of the gateway, assembled last and passed on in parts: a handler takes the part that it uses.

use std::sync::Arc;

use axum::extract::FromRef;
use chassis::clock::Clock;
use chassis::events::Events;
use chassis::identity::Verifier;
use chassis::tasks::Tasks;

use crate::config::Config;
use crate::realtime::Realtime;
use crate::upstream::Upstream;
use crate::upstream::clients::Clients;

/// All parts of the gateway. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gateway {
    config: Arc<Config>,
    upstream: Upstream,
    realtime: Realtime,
}

impl Gateway {
    /// Builds the parts, each from those before it. The configuration is the one under the profile.
    pub(crate) fn new(
        config: Config,
        clients: Clients,
        verifier: Verifier,
        events: Events,
        clock: Clock,
    ) -> Self {
        let config = Arc::new(config);
        let upstream = Upstream::new(&config, clients, verifier);
        let realtime = Realtime::new(Arc::clone(&config), upstream.clone(), events, clock);
        Self { config, upstream, realtime }
    }

    /// Starts the tasks of all parts.
    pub(crate) fn start(&self, tasks: &Tasks) {
        self.upstream.start(tasks);
        self.realtime.start(tasks);
    }

    /// Returns the configuration under the profile.
    pub(crate) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Returns the services behind the gateway.
    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Returns the live connections.
    pub(crate) fn realtime(&self) -> &Realtime {
        &self.realtime
    }
}

impl FromRef<Gateway> for Arc<Config> {
    fn from_ref(gateway: &Gateway) -> Self {
        Self::clone(&gateway.config)
    }
}

impl FromRef<Gateway> for Upstream {
    fn from_ref(gateway: &Gateway) -> Self {
        gateway.upstream.clone()
    }
}

impl FromRef<Gateway> for Realtime {
    fn from_ref(gateway: &Gateway) -> Self {
        gateway.realtime.clone()
    }
}
