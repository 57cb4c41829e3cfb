//! The chat playground: rooms with moderators, bans and slow mode, over REST and Socket.IO.

mod constants;
mod session;

use axum::response::Response;

pub(super) use self::session::{EVENTS, Push, Session};
use super::Dialects;
use super::request::HttpRequest;
use crate::http::error::Problem;

/// Carries out the operation that a request names.
pub(super) async fn answer(_: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    constants::answer(request)
}
