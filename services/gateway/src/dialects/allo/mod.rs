//! The allo API: 18 operations, each an event of Socket.IO and `POST /api/chat/<operation>`, and the resulting events.
//!
//! ```text
//! operations    each operation: its fields, its rpc, its answer
//! actor         the user who acts: by a token, or by the names that clients of this API act under in development
//! session       one connection: its operations in order, and the logs that it follows
//! events        conversation events in the form of this API    show   messages and conversations
//! ```
//!
//! There is no operation for history: a user who joins a conversation sees only later messages.

mod actor;
mod events;
mod operations;
mod session;
mod show;

use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use self::operations::Operation;
use super::Dialects;
use super::request::{HttpRequest, json as json_response, ok};
use crate::http::error::Problem;

pub(super) use self::actor::greet;
pub(super) use self::session::{Push, Session};

/// The namespace of the accounts under which clients of this API act without a token.
const NAMESPACE: &str = "allo";

/// True for an event that belongs to this API.
pub(super) fn has_event(name: &str) -> bool {
    Operation::named(name).is_some() || matches!(name, "typing" | "stopTyping")
}

/// Returns the body of an error.
pub(super) fn error_body(problem: &Problem) -> Value {
    json!({"error": problem.fault().reason().trim_start_matches("ERROR_REASON_"), "message": problem.fault().text()})
}

/// Executes the operation that a request over HTTP names.
pub(super) async fn answer(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    match request.route().as_slice() {
        ["api"] => match request.method {
            Method::GET => ok(&json!({"message": "Welcome to the chat API"})),
            _ => Err(Problem::method_not_allowed(&[Method::GET])),
        },
        ["api", "chat", name] => {
            let operation = Operation::of_path(name).ok_or_else(Problem::route_not_found)?;
            if request.method != Method::POST {
                return Err(Problem::method_not_allowed(&[Method::POST]));
            }
            let fields = request.fields();
            let actor = actor::of_request(dialects, request, operation, &fields).await?;
            let done = operations::perform(dialects, operation, &actor, &fields).await?;
            let status = if operation.creates() { StatusCode::CREATED } else { StatusCode::OK };
            Ok(json_response(status, &done.answer))
        }
        _ => Err(Problem::route_not_found()),
    }
}
