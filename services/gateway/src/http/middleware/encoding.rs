//! Compression: the answers that are compressed, and the refusal of compressed requests.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{And, Predicate, SizeAbove};

use crate::http::error::Problem;

/// The smallest answer that is compressed, in bytes.
const COMPRESSED_FROM: u64 = 1024;

/// Compresses answers of JSON, HTML and calendars.
pub(super) fn compression() -> CompressionLayer<And<SizeAbove, IsText>> {
    let predicate = SizeAbove::new(COMPRESSED_FROM).and(IsText);
    // Pages are requested constantly: speed matters more than size.
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(predicate)
}

/// Holds for answers of types that compress well and are no stream of events. Files are sent as their owner uploaded
/// them.
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

/// Removes the client's offer to compress where the answer may hold a secret beside text that another user chose: its
/// length would leak the secret. Sessions, codes and tickets are issued in answers to POST only.
pub(super) async fn keep_secrets_plain(mut request: Request, next: Next) -> Response {
    if !request.method().is_safe() {
        request.headers_mut().remove(header::ACCEPT_ENCODING);
    }
    next.run(request).await
}

/// Refuses a compressed body: its decompressed size would be known only after the work.
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
