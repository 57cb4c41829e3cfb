//! The document of the API, to read and to try out, at `/docs`. Everything comes from the program itself: the page makes
//! no request to anybody else, and is not allowed to.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use chassis::fault::Fault;
use http::header::{self, HeaderValue};
use utoipa_swagger_ui::Config;

use crate::http::error::Problem;

/// Scripts, pictures and requests: from here and nowhere else.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
     connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
);

static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    let config = Config::from("/openapi.json")
        .try_it_out_enabled(true)
        .persist_authorization(true)
        .deep_linking(true)
        .display_request_duration(true)
        .filter(true)
        .show_extensions(true)
        .default_models_expand_depth(0)
        .doc_expansion("none")
        // Would send the document to somebody else to have it checked.
        .validator_url("none");
    Arc::new(config)
});

/// The routes below `/docs`.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/docs", get(|| async { Redirect::permanent("/docs/") }))
        .route("/docs/", get(|| async { file("index.html") }))
        .route("/docs/{*file}", get(|Path(name): Path<String>| async move { file(&name) }))
}

/// The files that have been asked for. All answers share the bytes of a file.
static FILES: LazyLock<RwLock<HashMap<String, File>>> = LazyLock::new(RwLock::default);

/// A file of the page.
#[derive(Clone)]
struct File {
    content_type: HeaderValue,
    bytes: Bytes,
}

impl File {
    /// The file with this name, when there is one.
    fn named(name: &str) -> Result<Option<Self>, Box<dyn Error>> {
        // All files lie in one folder. Another way to write a name would be remembered as another file.
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Ok(None);
        }
        if let Some(known) = FILES.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(Some(known.clone()));
        }
        let Some(served) = utoipa_swagger_ui::serve(name, CONFIG.clone())? else { return Ok(None) };
        let bytes = match served.bytes {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => Bytes::from(bytes),
        };
        let file = Self { content_type: HeaderValue::try_from(served.content_type)?, bytes };
        // When two ask for it first, both get the one that is kept.
        let mut files = FILES.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(files.entry(name.to_owned()).or_insert(file).clone()))
    }
}

fn file(name: &str) -> Response {
    let file = match File::named(name) {
        Ok(Some(file)) => file,
        Ok(None) => return Problem::route_not_found().into_response(),
        Err(error) => {
            tracing::error!(error, name, "a page of the documentation cannot be served");
            return Problem::from(Fault::internal()).into_response();
        }
    };
    let mut response = file.bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, file.content_type);
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http_body_util::BodyExt;

    use super::*;

    async fn served(name: &str) -> (StatusCode, String) {
        let response = file(name);
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn the_page_asks_nobody_else() {
        let (status, page) = served("index.html").await;
        assert_eq!(status, StatusCode::OK);
        assert!(
            !page.contains("http://") && !page.contains("https://") && !page.contains("src=\"//"),
            "{page}"
        );
        let (_, start) = served("swagger-initializer.js").await;
        assert!(start.contains("\"/openapi.json\""), "{start}");
        assert!(start.contains("\"validatorUrl\": \"none\""), "{start}");
        assert!(start.contains("\"tryItOutEnabled\": true"), "{start}");
        assert!(!start.contains("petstore"), "{start}");
    }

    #[tokio::test]
    async fn what_the_page_needs_is_here() {
        for name in ["swagger-ui.css", "index.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js"]
        {
            let (status, content) = served(name).await;
            assert_eq!(status, StatusCode::OK, "{name}");
            assert!(!content.is_empty(), "{name}");
        }
        assert_eq!(served("../Cargo.toml").await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn all_answers_share_the_bytes_of_a_file() {
        for name in ["swagger-ui-bundle.js", "swagger-initializer.js"] {
            let bytes = async || file(name).into_body().collect().await.expect("a body").to_bytes();
            assert_eq!(bytes().await.as_ptr(), bytes().await.as_ptr(), "{name}");
        }
    }

    #[tokio::test]
    async fn a_file_has_one_name() {
        for name in ["/index.html", "./index.html", "\\index.html", "", "x/../index.html"] {
            assert_eq!(served(name).await.0, StatusCode::NOT_FOUND, "{name}");
        }
    }
}
