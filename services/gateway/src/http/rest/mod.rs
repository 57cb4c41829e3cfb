//! REST: the routes come from the HTTP rules of the contract. No route is written by hand.

mod example;
mod openapi;
mod rule;
mod schema;
pub(crate) mod transcode;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Map, Value};

use crate::config::Config;
use crate::http::error::Problem;
use crate::http::static_file::StaticFile;
use crate::upstream::Upstream;
use rule::Endpoint;

pub(crate) use rule::public_rpc;

/// A path that belongs to no rpc, and its operations as the document describes them.
pub(crate) type Described = (&'static str, Map<String, Value>);

/// Returns the routes of all public rpcs, and the document that describes them and the `others`. Fails when the
/// contract has a rule that cannot be implemented.
pub(crate) fn router<S>(others: &[Described]) -> anyhow::Result<Router<S>>
where
    S: Clone + Send + Sync + 'static,
    Upstream: FromRef<S>,
    Arc<Config>: FromRef<S>,
{
    let endpoints = rule::endpoints(proto::pool())?;
    let document = Bytes::from(serde_json::to_vec(&openapi::document(proto::pool(), &endpoints, others)?)?);
    let document = Arc::new(StaticFile::new(HeaderValue::from_static("application/json"), document));

    let mut by_path: BTreeMap<String, Vec<Endpoint>> = BTreeMap::new();
    for endpoint in endpoints {
        by_path.entry(endpoint.path.clone()).or_default().push(endpoint);
    }
    let mut router =
        Router::new().route("/openapi.json", get(async move |headers: HeaderMap| document.respond(&headers)));
    for (path, endpoints) in by_path {
        let endpoints = Arc::<[Endpoint]>::from(endpoints);
        let answer = move |State(upstream): State<Upstream>, State(config): State<Arc<Config>>, request| {
            serve(upstream, config, Arc::clone(&endpoints), request)
        };
        router = router.route(&path, any(answer));
    }
    Ok(router)
}

/// Answers a request with the endpoint for its method among those of its path.
async fn serve(
    upstream: Upstream,
    config: Arc<Config>,
    endpoints: Arc<[Endpoint]>,
    request: Request,
) -> Response {
    // The HTTP library omits the body of an answer to HEAD.
    let verb = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let endpoint = endpoints.iter().find(|endpoint| endpoint.verb == *verb);
    match endpoint {
        Some(endpoint) => transcode::answer(&upstream, &config, endpoint, request)
            .await
            .unwrap_or_else(IntoResponse::into_response),
        None => refuse_method(&endpoints).into_response(),
    }
}

fn refuse_method(endpoints: &[Endpoint]) -> Problem {
    let mut allow: Vec<Method> = endpoints.iter().map(|endpoint| endpoint.verb.clone()).collect();
    if allow.contains(&Method::GET) {
        allow.push(Method::HEAD);
    }
    allow.push(Method::OPTIONS);
    Problem::method_not_allowed(&allow)
}

#[cfg(test)]
mod tests;
