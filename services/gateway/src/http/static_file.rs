//! Static files of the program: one copy for all answers, plain and compressed, with a tag.

use std::io::Write as _;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::http::etag;

/// The smallest file that is compressed, in bytes.
const COMPRESSED_FROM: usize = 1024;

/// A file that does not change while the process runs.
#[derive(Clone, Debug)]
pub(crate) struct StaticFile {
    content_type: HeaderValue,
    etag: HeaderValue,
    plain: Bytes,
    gzip: Option<Bytes>,
}

impl StaticFile {
    /// Creates a file of text.
    pub(crate) fn new(content_type: HeaderValue, plain: Bytes) -> Self {
        let sum = Sha256::digest(&plain);
        let digits: String = sum.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        // Weak: the compressed form has the same.
        let etag = HeaderValue::try_from(format!("W/\"{digits}\""));
        let gzip = (plain.len() >= COMPRESSED_FROM).then(|| compressed(&plain)).flatten();
        Self { content_type, etag: etag.unwrap_or(HeaderValue::from_static("W/\"0\"")), plain, gzip }
    }

    /// Returns the answer to a request with these headers. Browsers revalidate each time, and get 304 while their copy
    /// is current.
    pub(crate) fn respond(&self, request: &HeaderMap) -> Response {
        let gzip = self.gzip.as_ref().filter(|_| takes_gzip(request));
        let mut response = if etag::is_known(request, &self.etag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            Body::from(gzip.unwrap_or(&self.plain).clone()).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::ETAG, self.etag.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        if gzip.is_some() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// Compresses the file; `None` when that fails or makes it no smaller.
fn compressed(plain: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(plain).and_then(|()| encoder.finish());
    written.ok().filter(|gzip| gzip.len() < plain.len()).map(Bytes::from)
}

/// True when the client accepts gzip by name.
fn takes_gzip(request: &HeaderMap) -> bool {
    let lists = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let is_refused = weight.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0);
        name.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use http_body_util::BodyExt as _;

    use super::*;

    fn file() -> StaticFile {
        StaticFile::new(HeaderValue::from_static("text/css"), Bytes::from("a { color: red }\n".repeat(100)))
    }

    async fn body(file: &StaticFile, headers: &HeaderMap) -> Bytes {
        file.respond(headers).into_body().collect().await.expect("a body").to_bytes()
    }

    fn asking(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::try_from(value).expect("a value"))])
    }

    #[tokio::test]
    async fn all_answers_share_the_bytes() {
        let (file, gzip) = (file(), asking(header::ACCEPT_ENCODING, "br, gzip"));
        for headers in [HeaderMap::new(), gzip.clone()] {
            assert_eq!(body(&file, &headers).await.as_ptr(), body(&file, &headers).await.as_ptr());
        }
        let (plain, small) = (body(&file, &HeaderMap::new()).await, body(&file, &gzip).await);
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(&small[..]).read_to_end(&mut text).expect("gzip");
        assert!(small.len() < plain.len() && text == plain);
    }

    #[tokio::test]
    async fn a_client_that_has_it_gets_nothing() {
        let file = file();
        let first = file.respond(&HeaderMap::new());
        let tag = first.headers()[header::ETAG].to_str().expect("a tag").to_owned();
        let again = file.respond(&asking(header::IF_NONE_MATCH, &format!("\"x\", {tag}")));
        assert_eq!(
            (again.status(), &again.headers()[header::ETAG]),
            (StatusCode::NOT_MODIFIED, &tag.parse().expect("a tag"))
        );
        assert!(again.into_body().collect().await.expect("a body").to_bytes().is_empty());
        let other = file.respond(&asking(header::IF_NONE_MATCH, "W/\"x\""));
        assert_eq!(other.status(), StatusCode::OK);
    }

    #[test]
    fn gzip_is_taken_by_name_only() {
        let takes = |list: &str| takes_gzip(&asking(header::ACCEPT_ENCODING, list));
        assert!(takes("gzip") && takes("br;q=1, GZIP;q=0.5") && takes("deflate,gzip"));
        assert!(!takes("br") && !takes("gzip;q=0") && !takes("identity") && !takes_gzip(&HeaderMap::new()));
    }
}
