//! The client library, for pages that load it from the server: the build of `socket.io-client` in `web/socket.io`.

use std::sync::LazyLock;

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use crate::http::static_file::StaticFile;

static SCRIPTS: LazyLock<[(&str, StaticFile); 3]> = LazyLock::new(|| {
    let file = |text: &'static str| {
        StaticFile::new(
            HeaderValue::from_static("text/javascript; charset=utf-8"),
            Bytes::from_static(text.as_bytes()),
        )
    };
    [
        ("socket.io.js", file(include_str!("../../../web/socket.io/socket.io.js"))),
        ("socket.io.min.js", file(include_str!("../../../web/socket.io/socket.io.min.js"))),
        ("socket.io.esm.min.js", file(include_str!("../../../web/socket.io/socket.io.esm.min.js"))),
    ]
});

/// Returns the file at a path below `/socket.io/`, for a request with these headers.
pub(super) fn script(path: &str, headers: &HeaderMap) -> Option<Response> {
    let name = path.strip_prefix("/socket.io/")?;
    SCRIPTS.iter().find(|(known, _)| *known == name).map(|(_, file)| file.respond(headers))
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    #[test]
    fn every_build_is_served_with_its_notice() {
        for name in ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js"] {
            let response = script(&format!("/socket.io/{name}"), &HeaderMap::new()).expect(name);
            assert_eq!(response.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
        }
        assert!(
            include_str!("../../../web/socket.io/socket.io.min.js")
                .contains("Released under the MIT License")
        );
        assert!(
            ["/socket.io/", "/socket.io/socket.io.js.map"]
                .iter()
                .all(|path| script(path, &HeaderMap::new()).is_none())
        );
    }
}
