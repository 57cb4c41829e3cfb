//! The conversion of errors into the errors of a dialect: also of those that arise before the dialect is reached, such
//! as 413, 503 or 504.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{self, HeaderValue};

use super::Dialect;
use crate::config::Config;
use crate::http::error::Problem;

/// The middleware: gives errors on the paths of a dialect the body that its clients expect. Status and headers stay.
pub(crate) async fn shape(State(config): State<Arc<Config>>, request: Request, next: Next) -> Response {
    let dialect = Dialect::of_path(request.uri().path());
    let dialect = dialect.filter(|dialect| dialect.is_on(&config.dialects));
    let mut response = next.run(request).await;
    if let Some(dialect) = dialect
        && let Some(problem) = response.extensions_mut().remove::<Problem>()
    {
        *response.body_mut() = dialect.error_body(&problem).to_string().into();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        headers.remove(header::CONTENT_LENGTH);
    }
    response
}
