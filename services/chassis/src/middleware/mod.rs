//! What surrounds every rpc of every service, whether it is called from another process or from this one.
//!
//! Whatever happens in here is answered with a gRPC status; nothing ever comes out as an error.

pub mod deadline;
pub(crate) mod measure;
mod panics;
mod shed;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::Request;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tower::{Layer, Service};

use crate::profile::Profile;
use crate::rates::RatesConfig;
use crate::trace::{self, request_span};
use measure::Methods;
use shed::Gate;

/// How much a service takes on at once, and for how long.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Requests that are worked on at a time. A stream counts until it begins.
    pub max_concurrent_requests: usize,
    /// Requests that may wait for their turn; further ones are refused at once.
    pub max_waiting_requests: usize,
    /// How long a request may wait for its turn before it is refused.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub max_wait: Duration,
    /// How long a request may take. A caller may ask for less (`grpc-timeout`), not for more. A stream must begin in
    /// that time, and may then go on.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub deadline: Duration,
    /// The most streams that a user may have open at a time, in each process of a service.
    pub max_streams_per_user: usize,
    /// How often users and addresses may call.
    pub rates: RatesConfig,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_concurrent_requests: 512,
            max_waiting_requests: 2048,
            max_wait: Duration::from_millis(500),
            deadline: Duration::from_secs(10),
            max_streams_per_user: 10,
            rates: RatesConfig::default(),
        }
    }
}

impl LimitsConfig {
    /// The limits under a profile.
    #[must_use]
    pub fn in_profile(self, profile: Profile) -> Self {
        Self { rates: self.rates.in_profile(profile), ..self }
    }
}

/// The middleware of one service. All routes that it is put around share its limits.
pub fn stack(limits: &LimitsConfig) -> Stack {
    Stack(Arc::new(Shared {
        methods: Methods::of_services(),
        gate: Gate::new(limits.max_concurrent_requests, limits.max_waiting_requests, limits.max_wait),
        deadline: limits.deadline,
    }))
}

/// The layer that [`stack`] makes.
#[derive(Clone)]
pub struct Stack(Arc<Shared>);

struct Shared {
    methods: Methods,
    gate: Gate,
    deadline: Duration,
}

impl<S> Layer<S> for Stack {
    type Service = Surrounded<S>;

    fn layer(&self, inner: S) -> Surrounded<S> {
        Surrounded { shared: Arc::clone(&self.0), inner }
    }
}

/// A service with the middleware around it.
#[derive(Clone)]
pub struct Surrounded<S> {
    shared: Arc<Shared>,
    inner: S,
}

impl<S> Service<Request<Body>> for Surrounded<S>
where
    S: Service<Request<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone has not been asked whether it is ready; this one has.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(surround(Arc::clone(&self.shared), inner, request))
    }
}

/// One request, from the outside in.
async fn surround<S>(
    shared: Arc<Shared>,
    mut inner: S,
    mut request: Request<Body>,
) -> Result<Response, Infallible>
where
    S: Service<Request<Body>, Error = Infallible>,
    S::Response: IntoResponse,
{
    let method = shared.methods.of(request.uri().path());
    let may_take = deadline::of(request.headers(), shared.deadline);
    // Everything below is logged with the trace of the request.
    let (context, span) = request_span!(&mut request, rpc.method = method.name());
    let work = async move {
        let Ok(answer) = inner.call(request).await;
        answer.into_response()
    };
    // Answer UNAVAILABLE at once rather than everything late. Operators and probes get through.
    let work = async { if method.is_ours() { shared.gate.pass(work).await } else { work.await } };
    // The caller has stopped waiting: stop working. The time in the queue counts.
    let work = deadline::within(may_take, work);
    // A bug in one request is a failure of that request.
    let work = panics::caught(method, work);
    // Counts what the caller sees, so nothing that answers may be outside of it.
    let work = measure::counted(method, work);
    let mut answer = trace::scope(context, span, work).await;
    trace::name_request(answer.headers_mut(), context);
    Ok(answer)
}

#[cfg(test)]
mod tests;
