//! Entity tags, and the check of a client's `If-None-Match` (RFC 9110, 13.1.2).

use headers::{ETag, HeaderMapExt as _, IfNoneMatch};
use http::{HeaderMap, HeaderValue};

/// True when the client that sent these headers already has the version with this tag. Lists, weak tags and `*` count.
pub(crate) fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let Some(known) = headers.typed_get::<IfNoneMatch>() else { return false };
    let tag = tag.to_str().ok().and_then(|tag| tag.parse::<ETag>().ok());
    tag.is_some_and(|tag| !known.precondition_passes(&tag))
}

#[cfg(test)]
mod tests {
    use http::header::IF_NONE_MATCH;

    use super::*;

    #[test]
    fn lists_weak_tags_and_stars_are_known() {
        let known = |said: &'static str, tag: &'static str| {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static(said))]);
            is_known(&headers, &HeaderValue::from_static(tag))
        };
        for said in ["\"a\"", "W/\"a\"", "*", "\"b\", \"a\"", "\"b\",W/\"a\" , \"c\""] {
            assert!(known(said, "\"a\"") && known(said, "W/\"a\""), "{said}");
        }
        for said in ["\"b\"", "a", "\"b\", \"c\"", ""] {
            assert!(!known(said, "\"a\""), "{said}");
        }
        assert!(!is_known(&HeaderMap::new(), &HeaderValue::from_static("\"a\"")));
    }
}
