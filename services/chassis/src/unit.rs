//! A started service: what it serves, the tasks it runs, and how one sees that it is well.

use std::net::SocketAddr;
use std::time::Duration;

use tonic::service::Routes;

use crate::admin::ReadinessCheck;
use crate::audit::{self, AuditLog};
use crate::database::Database;
use crate::identity::{self, Identity};
use crate::middleware::{self, LimitsConfig};
use crate::tasks::Tasks;

/// A started service.
pub struct Unit {
    /// Its name, such as `messaging`.
    pub name: &'static str,
    /// The full names of the gRPC services that it serves, such as `parlor.messaging.v1.SyncService`.
    pub services: Vec<&'static str>,
    /// Its gRPC routes with all middleware; `None` when it serves none.
    pub grpc: Option<axum::Router>,
    /// Other addresses that it listens at, by what is spoken there, such as `("http", 127.0.0.1:3000)`.
    pub listening: Vec<(&'static str, SocketAddr)>,
    /// Its database; `None` when it has none. The host says in `/readyz` how it is, and closes it at the end.
    pub database: Option<Database>,
    /// Its background tasks.
    pub tasks: Tasks,
    /// What else must hold for it to be ready.
    pub ready: Vec<ReadinessCheck>,
}

impl Unit {
    /// Stops its tasks, at most for so long.
    pub async fn stop(&self, patience: Duration) {
        if !self.tasks.stop(patience).await {
            tracing::warn!(unit = self.name, "tasks have not stopped in time");
        }
    }
}

/// Puts the middleware around a service's routes. Both ways of reaching a service, from within the process and from
/// without, pass through it.
pub fn routes(routes: Routes, identity: Identity, audit: AuditLog, limits: &LimitsConfig) -> axum::Router {
    // The last layer is the first that a request meets.
    routes
        .into_axum_router()
        .reset_fallback()
        .layer(axum::middleware::from_fn_with_state(audit, audit::record))
        // Nothing behind it sees a request whose caller is not known and let in.
        .layer(axum::middleware::from_fn_with_state(identity, identity::enforce))
        .layer(middleware::stack(limits))
}
