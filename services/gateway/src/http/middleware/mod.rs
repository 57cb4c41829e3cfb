//! The middleware around every request.

pub(crate) mod client_ip;
pub(crate) mod cors;
mod encoding;
mod guard;
mod methods;
pub(crate) mod metrics;
mod request_slots;
pub(crate) mod strangers;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use chassis::fault::Fault;
use chassis::trace;
use futures_util::FutureExt;
use http::Method;

use self::request_slots::RequestSlots;
use crate::config::Config;
use crate::http::error::Problem;
use crate::http::files;
use crate::upstream::Upstream;

/// Bounds the work of requests. The last layer is the first that a request passes.
pub(crate) fn bound(config: &Arc<Config>, upstream: &Upstream, routes: Router) -> Router {
    let slots = RequestSlots::new(config);
    routes
        .method_not_allowed_fallback(refuse_method)
        .layer(from_fn(methods::name_methods))
        .layer(from_fn(encoding::refuse_encoded))
        // Users and strangers have separate slots.
        .layer(from_fn_with_state(slots.clone(), request_slots::bound_asker))
        // Below this layer the caller is known, and no body has been read.
        .layer(from_fn_with_state(upstream.clone(), strangers::recognize))
        // A client that waits longer is gone. The time ends when the answer begins: streams and sockets go on.
        .layer(from_fn_with_state(Arc::clone(config), hurry))
        .layer(from_fn_with_state(slots, request_slots::bound_address))
        // A panic fails only its own request.
        .layer(from_fn(catch_panic))
}

/// Wraps the bounded routes in the layers that apply to every answer. The last layer is the first that a request
/// passes.
pub(crate) fn surround(config: &Arc<Config>, routes: Router) -> Router {
    routes
        // All answers, also those of the layers below, are shared with the pages that may read them, and guarded.
        .layer(from_fn_with_state(Arc::clone(config), cors::share))
        .layer(encoding::compression())
        .layer(from_fn(encoding::keep_secrets_plain))
        .layer(from_fn(guard::guard))
        .layer(from_fn(metrics::measure))
        // Everything below is logged with the trace of the request.
        .layer(trace::layer())
        .layer(from_fn_with_state(Arc::clone(config), client_ip::locate))
}

/// All layers around the routes of a test.
#[cfg(test)]
pub(crate) fn stack(config: &Arc<Config>, upstream: &Upstream, routes: Router) -> Router {
    surround(config, bound(config, upstream, routes.fallback(|| async { Problem::route_not_found() })))
}

/// Refuses the method for routes that are no rpcs and have no answer of their own: all of them are read-only.
async fn refuse_method() -> Problem {
    Problem::method_not_allowed(&[Method::GET, Method::HEAD])
}

async fn hurry(State(config): State<Arc<Config>>, request: Request, next: Next) -> Response {
    // An upload has its own time limit, which renews as long as bytes come; a long poll waits for events.
    if files::is_upload(&request) || is_socket_io(&request) {
        return next.run(request).await;
    }
    let answer = tokio::time::timeout(config.request_timeout, next.run(request)).await;
    answer.unwrap_or_else(|_| Problem::deadline_exceeded().into_response())
}

/// True for requests of Socket.IO connections, whose polls last as long as there are no events. The registry of
/// connections counts them.
fn is_socket_io(request: &Request) -> bool {
    matches!(request.uri().path(), "/socket.io" | "/socket.io/")
}

async fn catch_panic(request: Request, next: Next) -> Response {
    let method = request.extensions().get::<MatchedPath>().cloned();
    // The state that the request owns is dropped with it; shared state is behind locks.
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            let route = method.as_ref().map_or("none", MatchedPath::as_str).to_owned();
            tracing::error!(http.route = route, "a request to {route} panicked");
            ::metrics::counter!(chassis::telemetry::metrics::PANICS, "method" => route).increment(1);
            Problem::from(Fault::internal()).into_response()
        }
    }
}
