//! The Talkamie API: profiles, connections, message requests, direct chats, bookings, calls, reviews and alerts; over
//! HTTP below `/talkamie/v1` (the paths of a user also without it), and a WebSocket at `/talkamie/ws`.
//!
//! ```text
//! routes       the operations by method and path     envelope   answers, pages, names of fields in errors
//! session      the user, and reads that several operations share
//! operations   one file per noun                      show       the objects, from messages of the services
//! words        languages, countries, time zones, profiles        socket     the WebSocket
//! ```

pub(super) mod envelope;
mod operations;
mod routes;
mod session;
mod show;
pub(super) mod socket;
mod words;

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use moka::sync::Cache;
use proto::id::ConversationId;
use serde_json::json;

use self::envelope::Reply;
use self::operations::interests::Catalog;
use self::operations::{
    alerts, auth, availability, calls, chats, connections, interests, messages, otp, requests, reviews,
    schedules, users,
};
use self::routes::Operation;
use self::session::Session;
use super::Dialects;
use super::fields::Fields;
use super::request::HttpRequest;
use crate::http::error::Problem;

/// The longest time for which the list of interests may be outdated.
const CATALOG_KEPT: Duration = Duration::from_secs(60);

/// The maximum number of conversations whose kind is cached.
const KINDS_KEPT: u64 = 100_000;

/// The caches of this API: short ones, and of data that never changes.
#[derive(Clone)]
pub(super) struct Caches {
    catalog: Cache<(), Arc<Catalog>>,
    /// True when a conversation is a direct one.
    direct: Cache<ConversationId, bool>,
}

impl Default for Caches {
    fn default() -> Self {
        Self {
            catalog: Cache::builder().time_to_live(CATALOG_KEPT).build(),
            direct: Cache::builder().max_capacity(KINDS_KEPT).build(),
        }
    }
}

/// Executes the operation that a request names.
pub(super) async fn answer(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let route = request.route();
    let base = if matches!(route.as_slice(), ["talkamie", "v1", ..]) { 2 } else { 0 };
    let path = &route[base..];
    let operation = match Operation::find(&request.method, path) {
        Some(operation) if base > 0 || path[0] == "user" => operation,
        _ => {
            let methods = Operation::methods(path);
            let is_here = !methods.is_empty() && (base > 0 || path[0] == "user");
            return Err(match is_here {
                true => Problem::method_not_allowed(&methods),
                false => Problem::route_not_found(),
            });
        }
    };
    if let Some(reply) = perform_signed_out(dialects, operation, request) {
        return Ok(reply.await?.response());
    }
    let session = Session::of(dialects, request).await?;
    let id = request.path.get(base + 1).map_or("", String::as_str);
    Ok(perform(&session, operation, id, &request.fields()).await?.response())
}

/// Executes an operation that needs no token; `None` for the others.
fn perform_signed_out<'a>(
    dialects: &'a Dialects,
    operation: Operation,
    request: &'a HttpRequest,
) -> Option<BoxFuture<'a, Result<Reply, Problem>>> {
    Some(match operation {
        Operation::SignUp => auth::sign_up(dialects, request).boxed(),
        Operation::SignIn => auth::sign_in(dialects, request).boxed(),
        Operation::Refresh => auth::refresh(dialects, request).boxed(),
        Operation::GenerateOtp => otp::generate(dialects, request).boxed(),
        Operation::VerifyOtp => otp::verify(dialects, request).boxed(),
        // A signed-out client is not told if an address has an account.
        Operation::ListUsers if request.bearer().is_none() && is_search_by_address(request) => {
            ready(Ok(Reply::new(json!([])))).boxed()
        }
        _ => return None,
    })
}

fn is_search_by_address(request: &HttpRequest) -> bool {
    matches!(request.query.filled("email"), Ok(Some(_)))
}

/// Executes an operation of a signed-in user; `id` is the second segment of the path. Each is boxed at its own size.
fn perform<'a>(
    session: &'a Session,
    operation: Operation,
    id: &'a str,
    fields: &'a Fields,
) -> BoxFuture<'a, Result<Reply, Problem>> {
    match operation {
        Operation::SignUp
        | Operation::SignIn
        | Operation::Refresh
        | Operation::GenerateOtp
        | Operation::VerifyOtp => ready(Err(Problem::route_not_found())).boxed(),
        Operation::ListUsers => users::list(session, fields).boxed(),
        Operation::GetUserByToken => auth::by_token(session).boxed(),
        Operation::SignOut => auth::sign_out(session).boxed(),
        Operation::ListAlerts => alerts::list(session, fields).boxed(),
        Operation::GetCustomAvailability => availability::custom(session).boxed(),
        Operation::SetCustomAvailability => availability::set_custom(session, fields).boxed(),
        Operation::GetWeeklyAvailability => availability::weekly(session).boxed(),
        Operation::SetWeeklyAvailability => availability::set_weekly(session, fields).boxed(),
        Operation::GetCall => calls::get(session, id).boxed(),
        Operation::ListCalls => calls::histories(session, fields).boxed(),
        Operation::GetChat => chats::get(session, id).boxed(),
        Operation::ListMessages => messages::list(session, id, fields).boxed(),
        Operation::ListChats(filter) => chats::list(session, fields, filter).boxed(),
        Operation::ListPendingConnections => connections::pending(session, fields).boxed(),
        Operation::ListConnections => connections::connected(session, fields).boxed(),
        Operation::ListInterests => interests::list(session, fields).boxed(),
        Operation::ListOwnReviews => reviews::about_me(session, fields).boxed(),
        Operation::GetSchedule => schedules::get(session, id).boxed(),
        Operation::UpdateSchedule => schedules::update(session, id, fields).boxed(),
        Operation::DeleteSchedule => schedules::delete(session, id).boxed(),
        Operation::ListSchedules(filter) => schedules::list(session, fields, filter).boxed(),
        Operation::GetUser => users::get(session, id).boxed(),
        Operation::UpdateUser => users::update(session, id, fields).boxed(),
        Operation::DeleteUser => users::delete(session, id, fields).boxed(),
        Operation::ChangePassword => users::change_password(session, id, fields).boxed(),
        Operation::RequestBackgroundCheck => users::background_check(session, id, fields).boxed(),
        Operation::ScheduleCall => schedules::book(session, id, fields).boxed(),
        Operation::ClearSchedules => schedules::clear(session, id).boxed(),
        Operation::SendConnectionRequest => connections::send(session, id).boxed(),
        Operation::CancelConnectionRequest => connections::cancel(session, id).boxed(),
        Operation::AcceptConnectionRequest => connections::accept(session, id).boxed(),
        Operation::RejectConnectionRequest => connections::reject(session, id).boxed(),
        Operation::SendMessageRequest => requests::send(session, id, fields).boxed(),
        Operation::CancelMessageRequest => requests::cancel(session, id).boxed(),
        Operation::AcceptMessageRequest => requests::accept(session, id).boxed(),
        Operation::RejectMessageRequest => requests::reject(session, id).boxed(),
        Operation::ListReviews => reviews::list(session, id, fields).boxed(),
        Operation::WriteReview => reviews::write(session, id, fields).boxed(),
        Operation::UpdateReview => reviews::update(session, id, fields).boxed(),
        Operation::DeleteReview => reviews::delete(session, id).boxed(),
    }
}
