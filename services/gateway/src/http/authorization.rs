//! The token that a request carries.

use http::HeaderMap;
use http::header;

/// The bearer token of a request. Any other scheme is for services, and services do not come this way.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
