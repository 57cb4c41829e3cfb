//! Operations whose answer is always the same.

use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use serde_json::json;

use crate::dialects::request::{HttpRequest, ok};
use crate::http::error::Problem;

/// Answers a request that needs no service.
pub(super) fn answer(request: &HttpRequest) -> Result<Response, Problem> {
    let body = match request.route().as_slice() {
        ["health"] => json!({"ping": "pong"}),
        ["bans" | "moderators"] => json!({"message": "not listed here"}),
        ["websocket"] => json!({"websocketUrl": "/socket.io/", "token": null, "error": null}),
        ["favicon.ico"] => return Ok(StatusCode::NO_CONTENT.into_response()),
        _ => return Err(Problem::route_not_found()),
    };
    match request.method {
        Method::GET => ok(&body),
        _ => Err(Problem::method_not_allowed(&[Method::GET])),
    }
}
