//! The client library, for pages that load it from the server: the build of `socket.io-client` in `web/socket.io`.

use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use http::header;

/// Browsers and proxies may keep it: a new version comes with a new release only.
const KEPT: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// The file that stands at a path below `/socket.io/`.
pub(super) fn script(path: &str) -> Option<Response> {
    let text = match path.strip_prefix("/socket.io/")? {
        "socket.io.js" => include_str!("../../../web/socket.io/socket.io.js"),
        "socket.io.min.js" => include_str!("../../../web/socket.io/socket.io.min.js"),
        "socket.io.esm.min.js" => include_str!("../../../web/socket.io/socket.io.esm.min.js"),
        _ => return None,
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8")),
        (header::CACHE_CONTROL, KEPT),
    ];
    Some((headers, text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_build_is_served_with_its_notice() {
        for name in ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js"] {
            let response = script(&format!("/socket.io/{name}")).expect(name);
            assert_eq!(response.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
        }
        assert!(
            include_str!("../../../web/socket.io/socket.io.min.js")
                .contains("Released under the MIT License")
        );
        assert!(script("/socket.io/").is_none() && script("/socket.io/socket.io.js.map").is_none());
    }
}
