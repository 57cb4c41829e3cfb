//! The start page: HTML for browsers, JSON for programs.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRef, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http::header::{self, HeaderValue};
use serde_json::Value;

use crate::config::{Config, DialectsConfig};
use crate::dialects;

const PAGE: &str = include_str!("../../web/index.html");

/// The page, split where the name of the host is inserted. All answers share these bytes.
static PARTS: LazyLock<Vec<Bytes>> = LazyLock::new(|| {
    let page = PAGE.replace("{{version}}", env!("CARGO_PKG_VERSION"));
    page.split("{{host}}").map(|part| Bytes::from(part.to_owned())).collect()
});

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
);

/// Returns the route of the start page.
pub(crate) fn router<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Arc<Config>: FromRef<S>,
{
    Router::new().route("/", get(home))
}

async fn home(State(config): State<Arc<Config>>, headers: HeaderMap) -> Response {
    let mut response = if wants_page(&headers) { page(&headers) } else { description(&config.dialects) };
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
    response
}

fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|kind| kind.trim().starts_with("text/html"))
}

fn page(headers: &HeaderMap) -> Response {
    let parts = parts(host(headers));
    let length: usize = parts.iter().map(Bytes::len).sum();
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    let parts = stream::iter(parts.into_iter().map(Ok::<_, Infallible>));
    (headers, Body::from_stream(parts)).into_response()
}

/// Returns the page with the name of a host inserted.
fn parts(host: &str) -> Vec<Bytes> {
    let (host, mut page) = (Bytes::copy_from_slice(host.as_bytes()), Vec::new());
    for part in PARTS.iter() {
        if !page.is_empty() {
            page.push(host.clone());
        }
        page.push(part.clone());
    }
    page
}

/// Returns the host name by which the browser knows the gateway. A text that is not plainly a host name does not get
/// onto the page.
fn host(headers: &HeaderMap) -> &str {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let is_name =
        |host: &&str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
    host.filter(is_name).unwrap_or("localhost:3000")
}

fn description(dialects: &DialectsConfig) -> Response {
    let mut description = serde_json::json!({
        "name": "parlor",
        "version": env!("CARGO_PKG_VERSION"),
        "links": {
            "docs": "/docs/",
            "openapi": "/openapi.json",
            "api": "/v1",
            "socket": "/v1/socket",
            "events": "/v1/events",
        },
    });
    // Clients of the playground read the state of the server here.
    if dialects.playground
        && let (Some(fields), Value::Object(status)) =
            (description.as_object_mut(), dialects::playground_status())
    {
        fields.extend(status);
    }
    axum::Json(description).into_response()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use insta::assert_snapshot;

    use super::*;

    async fn shown(accept: &'static str) -> String {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
        let dialects = DialectsConfig { playground: false, ..DialectsConfig::default() };
        let config = Arc::new(Config { dialects, ..Config::default() });
        let body = home(State(config), headers).await.into_body();
        String::from_utf8_lossy(&body.collect().await.expect("a body").to_bytes()).into_owned()
    }

    #[tokio::test]
    async fn a_browser_gets_a_page_and_a_program_gets_json() {
        assert!(shown("text/html,application/xhtml+xml,*/*;q=0.8").await.starts_with("<!doctype html>"));
        assert_snapshot!(shown("*/*").await, @r#"{"links":{"api":"/v1","docs":"/docs/","events":"/v1/events","openapi":"/openapi.json","socket":"/v1/socket"},"name":"parlor","version":"0.1.0"}"#);
        assert!(!shown("text/html").await.contains("{{"));
    }

    #[tokio::test]
    async fn clients_of_the_playground_get_the_state_of_the_server() {
        let body = home(State(Arc::new(Config::default())), HeaderMap::new()).await.into_body();
        let body = body.collect().await.expect("a body").to_bytes();
        let shown: Value = serde_json::from_slice(&body).expect("json");
        assert_eq!((&shown["status"], &shown["links"]["api"]), (&Value::from(200), &Value::from("/v1")));
        for field in ["hostname", "load", "uptime", "openapi_url"] {
            assert!(!shown[field].is_null(), "{field}");
        }
    }

    #[test]
    fn a_host_is_a_name_and_nothing_else() {
        let host = |name: &'static str| {
            host(&HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(name))])).to_owned()
        };
        assert_eq!(host("chat.example:8080"), "chat.example:8080");
        assert_eq!(host("<script>"), "localhost:3000");
    }

    #[test]
    fn all_answers_share_the_bytes_of_the_page() {
        let (one, other) = (parts("one.example"), parts("other.example"));
        assert!(one.iter().step_by(2).zip(other.iter().step_by(2)).all(|(a, b)| a.as_ptr() == b.as_ptr()));
        let page = String::from_utf8(one.concat()).expect("UTF-8");
        assert_eq!(
            page,
            PAGE.replace("{{version}}", env!("CARGO_PKG_VERSION")).replace("{{host}}", "one.example")
        );
    }
}
