//! Operations that need no service.

use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Instant;

use axum::response::{IntoResponse, Response};
use chassis::fault::Fault;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::dialects::request::{HttpRequest, ok};
use crate::http::error::Problem;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Answers a request for a path without an operation of a service.
pub(super) fn answer(request: &HttpRequest, route: &[&str]) -> Result<Response, Problem> {
    let allowed: &[Method] = match route {
        ["users", "register" | "login"]
        | ["unban"]
        | ["users", _, "mod" | "unmod"]
        | ["rooms" | "messages"] => &[Method::POST],
        ["bans"] => &[Method::GET, Method::POST],
        ["me"] | ["users", _] => &[Method::GET, Method::PATCH],
        ["rooms", _] => &[Method::GET, Method::PATCH, Method::DELETE],
        ["rooms", _, "messages"] => &[Method::GET, Method::DELETE],
        ["messages" | "connections", _] => &[Method::DELETE],
        ["random" | "moderators" | "health" | "websocket" | "geoip2" | "favicon.ico"]
        | ["rooms", _, "users"] => &[Method::GET],
        _ => return Err(Problem::route_not_found()),
    };
    match route {
        _ if request.method != Method::GET => {}
        ["bans" | "moderators"] => return ok(&json!({"message": "there is no list of this"})),
        ["health"] => return ok(&json!({"ping": "pong"})),
        ["favicon.ico"] => return Ok(StatusCode::NO_CONTENT.into_response()),
        ["websocket"] => {
            return ok(&json!({"websocketUrl": "/socket.io/", "token": request.bearer(), "error": null}));
        }
        ["geoip2"] => return geoip(request),
        _ => {}
    }
    Err(Problem::method_not_allowed(allowed))
}

/// Answers without a location: the gateway has no data about addresses, and returns no header of the request.
fn geoip(request: &HttpRequest) -> Result<Response, Problem> {
    let ip = match request.query.filled("ip")? {
        Some(text) => text.parse::<IpAddr>().map_err(|_| Fault::invalid("ip", "must be an address"))?,
        None => request.address,
    };
    ok(&json!({"ip": ip, "headers": {}, "data": null}))
}

/// Returns the part of `GET /` that clients of this API read. The name and the load of the machine are not disclosed.
pub(crate) fn status() -> Value {
    json!({
        "status": 200,
        "hostname": "parlor",
        "load": [0, 0, 0],
        "uptime": STARTED.elapsed().as_secs(),
        "openapi_url": "/openapi.json",
    })
}
