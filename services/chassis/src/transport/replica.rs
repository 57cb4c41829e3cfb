//! One address of a service: its connection, and whether it is in use.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tonic::body::Body;
use tonic::transport::{Channel, Endpoint, Error};
use tower::ServiceExt;

use crate::tasks::Tasks;

/// The pause before an address that failed is tried again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One address of a service.
pub(super) struct Replica {
    /// `host:port`, for the log.
    name: String,
    endpoint: Endpoint,
    under_way: AtomicUsize,
    state: Mutex<State>,
    tasks: Tasks,
}

struct State {
    channel: Channel,
    /// True from a failure until a new connection stands.
    is_ejected: bool,
}

impl Replica {
    /// An address that is connected to when it is first used.
    pub(super) fn new(name: String, endpoint: Endpoint) -> Self {
        let state = State { channel: endpoint.connect_lazy(), is_ejected: false };
        Self {
            name,
            endpoint,
            under_way: AtomicUsize::new(0),
            state: Mutex::new(state),
            tasks: Tasks::default(),
        }
    }

    /// The address, as `host:port`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// True while it is left out because it has failed.
    pub(super) fn is_ejected(&self) -> bool {
        self.state().is_ejected
    }

    /// The number of requests that wait for the head of their answer.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Sends a request.
    pub(super) async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Error> {
        let channel = self.state().channel.clone();
        let _counted = Counted::new(&self.under_way);
        channel.oneshot(request).await
    }

    /// Leaves the address out until a new connection to it stands, which a task of its own tries with growing pauses.
    pub(super) fn eject(self: &Arc<Self>) {
        {
            let mut state = self.state();
            if state.is_ejected {
                return;
            }
            state.is_ejected = true;
        }
        tracing::warn!(address = self.name, "an address of a service is left out: it cannot be reached");
        let replica = Arc::downgrade(self);
        let endpoint = self.endpoint.clone();
        self.tasks.spawn("reconnect", |shutdown| async move {
            let connected = tokio::select! {
                channel = connected(&endpoint) => Some(channel),
                // The service is no longer called from here, or the address has gone.
                () = shutdown.wait() => None,
            };
            if let (Some(channel), Some(replica)) = (connected, replica.upgrade()) {
                replica.admit(channel);
            }
        });
    }

    fn admit(&self, channel: Channel) {
        *self.state() = State { channel, is_ejected: false };
        tracing::info!(address = self.name, "an address of a service is in use again");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment, so a poisoned lock is as good as any other.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.tasks.shutdown().set();
    }
}

/// A connection to an address, once it stands.
async fn connected(endpoint: &Endpoint) -> Channel {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        if let Ok(channel) = endpoint.connect().await {
            return channel;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Counts a request until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
