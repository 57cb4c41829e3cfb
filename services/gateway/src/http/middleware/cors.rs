//! The pages that may use the gateway: the browser names the origin of a page, and the gateway compares it with a list.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};

use crate::config::Config;

/// The methods that a page may use.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");

/// The headers that a page may send when it does not name the ones it wants to send.
const REQUEST_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, content-type, grpc-timeout, traceparent");

/// The headers of an answer that a page may read.
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "retry-after, allow, www-authenticate, etag, content-disposition, content-range, accept-ranges, x-request-id",
);

/// The number of seconds for which a browser may cache the answer to a preflight.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");

/// True when the page that sent these headers may use the gateway. A request without an origin does not come from a
/// page.
pub(crate) fn allowed(headers: &HeaderMap, config: &Config) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => true,
        (Some(origin), None) => is_listed(origin, config),
        // Two origins are invalid.
        (Some(_), Some(_)) => false,
    }
}

fn is_listed(origin: &HeaderValue, config: &Config) -> bool {
    config.any_origin()
        || config.allowed_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
}

/// The middleware: answers preflights, and adds to every other answer, errors included, the headers that tell a browser
/// if the page may read it.
pub(crate) async fn share(State(config): State<Arc<Config>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let origin = origin.filter(|_| allowed(request.headers(), &config));
    let mut response = match asked_headers(&request) {
        Some(asked) => preflight(origin.is_some(), asked),
        None => next.run(request).await,
    };

    let headers = response.headers_mut();
    // Also without an origin: a cache must not give one page the answer that another page got.
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
    }
    response
}

/// Returns the headers that a page asks to send, when the request is a preflight.
fn asked_headers(request: &Request) -> Option<HeaderValue> {
    let headers = request.headers();
    let is_preflight = request.method() == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    is_preflight
        .then(|| headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned().unwrap_or(REQUEST_HEADERS))
}

fn preflight(allowed: bool, asked: HeaderValue) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if allowed {
        let granted: [(HeaderName, HeaderValue); 3] = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, asked),
            (header::ACCESS_CONTROL_MAX_AGE, REMEMBERED),
        ];
        response.headers_mut().extend(granted);
    }
    response
}

#[cfg(test)]
mod tests {
    use chassis::profile::Profile;

    use super::*;

    fn from(origins: &[&str]) -> HeaderMap {
        let header = |origin: &&str| (header::ORIGIN, HeaderValue::from_str(origin).expect("a header"));
        let mut headers = HeaderMap::new();
        for (name, value) in origins.iter().map(header) {
            headers.append(name, value);
        }
        headers
    }

    fn production(origins: &[&str]) -> Config {
        let allowed_origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        Config { allowed_origins, ..Config::default() }.under(Profile::Production).expect("a config")
    }

    #[test]
    fn an_origin_must_be_on_the_list_exactly() {
        let config = production(&["https://chat.example"]);
        assert!(allowed(&from(&["https://chat.example"]), &config));
        for other in [
            "https://chat.example.evil.com",
            "https://evil.chat.example",
            "http://chat.example",
            "https://chat.example:444",
            "HTTPS://chat.example",
            "null",
            "*",
            "",
        ] {
            assert!(!allowed(&from(&[other]), &config), "{other}");
        }
        assert!(!allowed(&from(&["https://chat.example", "https://evil.com"]), &config));
    }

    #[test]
    fn who_has_no_origin_is_no_page() {
        assert!(allowed(&HeaderMap::new(), &production(&[])));
        assert!(!allowed(&from(&["https://chat.example"]), &production(&[])));
    }

    #[test]
    fn development_lets_every_page_in() {
        let config = Config::default().under(Profile::Development).expect("a config");
        assert!(allowed(&from(&["http://localhost:5173"]), &config));
        assert!(allowed(&from(&["null"]), &config));
    }
}
