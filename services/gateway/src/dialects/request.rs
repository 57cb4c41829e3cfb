//! HTTP requests in the form that the dialects use: path segments, query and body, whatever the method.

use std::net::IpAddr;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use chassis::fault::Fault;
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::Value;

use super::fields::Fields;
use crate::http::authorization::bearer;
use crate::http::error::Problem;
use crate::http::middleware::client_ip::ClientAddress;
use crate::http::rest::transcode::read_body;

/// A request over HTTP.
pub(crate) struct HttpRequest {
    /// The method; HEAD reads as GET.
    pub(crate) method: Method,
    /// The segments of the path in lower case, for finding the operation. Empty segments are left out.
    pub(crate) route: Vec<String>,
    /// The same segments as they were sent, for ids.
    pub(crate) path: Vec<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Fields,
    pub(crate) body: Fields,
    pub(crate) address: IpAddr,
}

impl HttpRequest {
    /// Reads the whole request. Takes bodies of at most `max_body` bytes, JSON or a form.
    pub(crate) async fn read(request: Request, max_body: usize) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let path = segments(parts.uri.path())?;
        let body = read_body(&parts.headers, body, max_body).await?;
        let address = parts.extensions.get().map(|ClientAddress(address)| *address);
        Ok(Self {
            method: if parts.method == Method::HEAD { Method::GET } else { parts.method },
            route: path.iter().map(|segment| segment.to_ascii_lowercase()).collect(),
            path,
            query: Fields::from_form(parts.uri.query().unwrap_or_default().as_bytes()),
            body: read_fields(&parts.headers, &body)?,
            headers: parts.headers,
            address: address.unwrap_or(IpAddr::from([0, 0, 0, 0])),
        })
    }

    /// Returns the segments of the path for matching.
    pub(crate) fn route(&self) -> Vec<&str> {
        self.route.iter().map(String::as_str).collect()
    }

    /// Returns the fields of the body, and those of the query that the body does not have.
    pub(crate) fn fields(&self) -> Fields {
        self.body.clone().or(self.query.clone())
    }

    /// Returns the bearer token of the request. Signed-out clients send `undefined`, `null` or nothing.
    pub(crate) fn bearer(&self) -> Option<&str> {
        bearer(&self.headers).and_then(token)
    }

    /// Returns the text of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Returns a token unless it is a placeholder: signed-out clients send an empty text, `undefined` or `null`.
pub(crate) fn token(text: &str) -> Option<&str> {
    let text = text.trim();
    (!matches!(text, "" | "undefined" | "null")).then_some(text)
}

/// Returns the decoded segments of a path.
fn segments(path: &str) -> Result<Vec<String>, Fault> {
    path.split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| {
            let decoded = percent_decode(segment).and_then(|bytes| String::from_utf8(bytes).ok());
            decoded.ok_or_else(|| Fault::invalid("path", "must be percent-encoded UTF-8"))
        })
        .collect()
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        rest = after;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
    }
    Some(bytes)
}

/// Returns the fields of a body. Without a content type it is JSON.
fn read_fields(headers: &HeaderMap, body: &[u8]) -> Result<Fields, Problem> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        _ if body.is_empty() => Ok(Fields::default()),
        "application/x-www-form-urlencoded" => Ok(Fields::from_form(body)),
        "" | "text/plain" | "application/json" => Ok(Fields::from_json(body)?),
        other if other.ends_with("+json") => Ok(Fields::from_json(body)?),
        _ => Err(Problem::unsupported_media_type()),
    }
}

/// Returns an answer in JSON.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], body.to_string()).into_response()
}

/// Returns the answer 200 in JSON.
pub(crate) fn ok(body: &Value) -> Result<Response, Problem> {
    Ok(json(StatusCode::OK, body))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    async fn read(request: http::request::Builder, body: &str) -> Result<HttpRequest, Problem> {
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        HttpRequest::read(request, 100).await
    }

    #[tokio::test]
    async fn path_query_and_body_are_read_on_every_method() {
        let request = Request::builder().method("GET").uri("//Chats/Messages/%41b/?a=1&b=2");
        let request = read(request, r#"{"a": "body"}"#).await.expect("a request");
        assert_eq!(request.route(), ["chats", "messages", "ab"]);
        assert_eq!(request.path[2], "Ab");
        let fields = request.fields();
        assert_eq!(fields.text("a"), Ok(Some("body".to_owned())));
        assert_eq!(fields.text("b"), Ok(Some("2".to_owned())));
    }

    #[tokio::test]
    async fn a_form_and_json_are_read_and_other_types_refused() {
        let of = |kind: &'static str| Request::builder().uri("/").header("content-type", kind);
        let form = read(of("application/x-www-form-urlencoded"), "a=1").await.expect("a form");
        assert_eq!(form.body.text("a"), Ok(Some("1".to_owned())));
        assert!(read(of("application/json; charset=utf-8"), "{\"a\":1}").await.is_ok());
        let refused = read(of("multipart/form-data"), "a").await.err().expect("refused");
        assert_eq!(refused.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let refused = read(of("application/json"), &"1".repeat(101)).await.err().expect("refused");
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_path_that_is_no_text_is_refused() {
        for path in ["/%ff", "/%", "/%4", "/%zz"] {
            let refused = read(Request::builder().uri(path), "").await.err().expect("refused");
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{path}");
        }
    }

    #[test]
    fn some_texts_are_no_token() {
        assert_eq!(token("abc"), Some("abc"));
        for text in ["", " ", "undefined", "null"] {
            assert_eq!(token(text), None);
        }
    }
}
