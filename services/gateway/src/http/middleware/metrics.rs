//! Metrics of requests: their number and their duration.

use std::convert::Infallible;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::Method;

/// Requests answered, by route, method and status.
const REQUESTS: &str = "http_requests_total";
/// Time until an answer begins, by route and method.
const DURATION: &str = "http_request_duration_seconds";

pub(crate) fn describe() {
    ::metrics::describe_counter!(REQUESTS, "HTTP requests answered, by route, method and status.");
    ::metrics::describe_histogram!(
        DURATION,
        ::metrics::Unit::Seconds,
        "Time until an answer begins, by route and method."
    );
}

pub(super) async fn measure(request: Request, next: Next) -> Result<Response, Infallible> {
    let start = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = known(request.method());
    let response = next.run(request).await;
    let status = response.status().as_str().to_owned();
    // The access log: the setting `log.level = "info,access=debug"` shows it.
    let code = response.status().as_u16();
    let millis = start.elapsed().as_secs_f64() * 1000.0;
    tracing::debug!(target: "access", { http.status = code, duration_ms = millis }, "{method} {route}: {status}");
    ::metrics::counter!(REQUESTS, "route" => route.clone(), "method" => method, "status" => status)
        .increment(1);
    ::metrics::histogram!(DURATION, "route" => route, "method" => method)
        .record(start.elapsed().as_secs_f64());
    Ok(response)
}

/// Clients can invent methods; the metrics keep only the known ones apart.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
