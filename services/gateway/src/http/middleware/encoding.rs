//! Compression: which answers are compressed, and that requests are not.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{And, Predicate, SizeAbove};

use crate::http::error::Problem;

/// A smaller answer is not compressed, in bytes.
const COMPRESSED_FROM: u64 = 1024;

/// Compresses answers of JSON, HTML and calendars.
pub(super) fn compression() -> CompressionLayer<And<SizeAbove, IsText>> {
    let predicate = SizeAbove::new(COMPRESSED_FROM).and(IsText);
    // Pages are asked for all day: the time counts.
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(predicate)
}

/// Holds for answers of kinds that compress well and are no stream of events. Files are what their owner has made of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct IsText;

impl Predicate for IsText {
    fn should_compress<B>(&self, response: &http::Response<B>) -> bool
    where
        B: http_body::Body,
    {
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let essence = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        matches!(essence, "application/json" | "application/problem+json" | "text/html" | "text/calendar")
    }
}

/// Takes away the offer to compress where the answer may hold a secret beside text that another person chose: its length
/// would tell of the secret. Sessions, codes and tickets are given out in answers to POST only.
pub(super) async fn keep_secrets_plain(mut request: Request, next: Next) -> Response {
    if !request.method().is_safe() {
        request.headers_mut().remove(header::ACCEPT_ENCODING);
    }
    next.run(request).await
}

/// Refuses a body that is compressed: what it grows to would be known only after the work.
pub(super) async fn refuse_encoded(request: Request, next: Next) -> Response {
    if is_encoded(request.headers()) {
        return Problem::unsupported_encoding().without_the_rest().into_response();
    }
    next.run(request).await
}

fn is_encoded(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::CONTENT_ENCODING).iter();
    codings
        .map(|coding| coding.to_str().unwrap_or("?").trim())
        .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
}
