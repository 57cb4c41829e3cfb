//! The API document, to read and to try out, at `/docs`. All files come from the program itself: the page makes no
//! request to another host, and is not allowed to.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use chassis::fault::Fault;
use chassis::profile::Profile;
use http::HeaderMap;
use http::header::{self, HeaderValue};
use utoipa_swagger_ui::Config;

use crate::http::error::Problem;
use crate::http::static_file::StaticFile;

/// Scripts, pictures and requests: from the gateway's own origin only.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
     connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
);

/// Returns the settings of the page. In development the browser keeps the token that was entered, for the next visit.
fn settings(profile: Profile) -> Config<'static> {
    Config::from("/openapi.json")
        .try_it_out_enabled(true)
        .persist_authorization(profile.is_development())
        .deep_linking(true)
        .display_request_duration(true)
        .filter(true)
        .show_extensions(true)
        .default_models_expand_depth(0)
        .doc_expansion("none")
        // A validator would receive the document.
        .validator_url("none")
}

/// Returns the routes below `/docs`.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(profile: Profile) -> Router<S> {
    let pages = Arc::new(Pages::new(profile));
    let index = {
        let pages = Arc::clone(&pages);
        async move |headers: HeaderMap| pages.answer("index.html", &headers)
    };
    let file = async move |Path(name): Path<String>, headers: HeaderMap| pages.answer(&name, &headers);
    Router::new()
        .route("/docs", get(|| async { Redirect::permanent("/docs/") }))
        .route("/docs/", get(index))
        .route("/docs/{*file}", get(file))
}

/// The files of the page. All answers share the bytes of a file.
struct Pages {
    settings: Arc<Config<'static>>,
    /// The files that have been requested.
    files: RwLock<HashMap<String, Arc<StaticFile>>>,
}

impl Pages {
    fn new(profile: Profile) -> Self {
        Self { settings: Arc::new(settings(profile)), files: RwLock::default() }
    }

    /// Returns the file with this name, if it exists.
    fn named(&self, name: &str) -> Result<Option<Arc<StaticFile>>, Box<dyn Error>> {
        // All files lie in one folder. Another spelling of a name would be cached as another file.
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Ok(None);
        }
        if let Some(known) = self.files.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(Some(Arc::clone(known)));
        }
        let Some(served) = utoipa_swagger_ui::serve(name, Arc::clone(&self.settings))? else {
            return Ok(None);
        };
        let bytes = match served.bytes {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => Bytes::from(bytes),
        };
        let file = Arc::new(StaticFile::new(HeaderValue::try_from(served.content_type)?, bytes));
        // Two concurrent first requests both get the file that is kept.
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(Arc::clone(files.entry(name.to_owned()).or_insert(file))))
    }

    fn answer(&self, name: &str, headers: &HeaderMap) -> Response {
        let file = match self.named(name) {
            Ok(Some(file)) => file,
            Ok(None) => return Problem::route_not_found().into_response(),
            Err(error) => {
                tracing::error!(error, name, "a page of the documentation cannot be served");
                return Problem::from(Fault::internal()).into_response();
            }
        };
        let mut response = file.respond(headers);
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY);
        response
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http_body_util::BodyExt;

    use super::*;

    async fn served(name: &str) -> (StatusCode, String) {
        served_in(Profile::Development, name).await
    }

    async fn served_in(profile: Profile, name: &str) -> (StatusCode, String) {
        let response = Pages::new(profile).answer(name, &HeaderMap::new());
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
    async fn production_keeps_no_token_in_the_browser() {
        for (profile, is_kept) in [(Profile::Development, true), (Profile::Production, false)] {
            let (_, start) = served_in(profile, "swagger-initializer.js").await;
            assert_eq!(start.contains("\"persistAuthorization\": true"), is_kept, "{start}");
        }
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
        let pages = Pages::new(Profile::Development);
        for name in ["swagger-ui-bundle.js", "swagger-initializer.js"] {
            let bytes = async || {
                pages.answer(name, &HeaderMap::new()).into_body().collect().await.expect("a body").to_bytes()
            };
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
