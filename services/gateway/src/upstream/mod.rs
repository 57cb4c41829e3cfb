//! The services behind the gateway: their clients, the stream of sends, and the rate limits of callers.

pub(crate) mod clients;
pub(crate) mod rate_limit;
pub(crate) mod send_stream;

use std::sync::Arc;

use chassis::identity::Verifier;
use chassis::tasks::Tasks;

use self::clients::Clients;
use self::rate_limit::Limits;
use self::send_stream::SendStream;
use crate::config::Config;

/// The services behind the gateway, and the limits on their use. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Upstream(Arc<Inner>);

struct Inner {
    clients: Clients,
    verifier: Verifier,
    limits: Arc<Limits>,
    send_stream: SendStream,
}

impl Upstream {
    pub(crate) fn new(config: &Config, clients: Clients, verifier: Verifier) -> Self {
        let (limits, send_stream) = (Arc::new(Limits::new(config)), SendStream::new());
        Self(Arc::new(Inner { clients, verifier, limits, send_stream }))
    }

    /// Starts the tasks that hold the streams of sends and that drop unused limits.
    pub(crate) fn start(&self, tasks: &Tasks) {
        Limits::start(&self.0.limits, tasks);
        self.0.send_stream.start(&self.0.clients, tasks);
    }

    /// Returns the clients of the services.
    pub(crate) fn clients(&self) -> &Clients {
        &self.0.clients
    }

    /// Finds the session of a token.
    pub(crate) fn verifier(&self) -> &Verifier {
        &self.0.verifier
    }

    /// Returns the rate limits of users and addresses.
    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Carries sends to messaging.
    pub(crate) fn send_stream(&self) -> &SendStream {
        &self.0.send_stream
    }
}
