//! The token that a request carries.

use http::HeaderMap;
use http::header;

/// Returns the bearer token of a request. Other schemes are for services, which do not call the gateway.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
