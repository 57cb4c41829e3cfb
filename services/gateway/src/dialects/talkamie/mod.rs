//! The Talkamie API: profiles, connections, message requests, direct chats, bookings, calls, reviews and alerts; over
//! HTTP below `/talkamie/v1` (the paths of a user also without it), and a WebSocket at `/talkamie/ws`.
//!
//! ```text
//! routes       the operations by method and path     envelope   answers, pages, names of fields in errors
//! session      the user, and what several operations read
//! operations   one file a noun                        show       the objects, from messages of the services
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

/// How long the list of interests may be an old one.
const CATALOG_KEPT: Duration = Duration::from_secs(60);

/// The number of conversations whose kind is remembered.
const KINDS_KEPT: u64 = 100_000;

/// What this API remembers for a short time, or because it never changes.
#[derive(Clone)]
pub(super) struct Caches {
    catalog: Cache<(), Arc<Catalog>>,
    /// Whether a conversation is a direct one.
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

/// Carries out the operation that a request names.
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
    let reply = match operation {
        Operation::SignUp => auth::sign_up(dialects, request).await,
        Operation::SignIn => auth::sign_in(dialects, request).await,
        Operation::Refresh => auth::refresh(dialects, request).await,
        Operation::GenerateOtp => otp::generate(dialects, request).await,
        Operation::VerifyOtp => otp::verify(dialects, request).await,
        // Whether an address has an account is not told to one who is signed out.
        Operation::ListUsers if request.bearer().is_none() && is_search_by_address(request)? => {
            Ok(Reply::new(json!([])))
        }
        _ => {
            let session = Session::of(dialects, request).await?;
            let id = request.path.get(base + 1).map_or("", String::as_str);
            perform(&session, operation, id, &request.fields()).await
        }
    };
    Ok(reply?.response())
}

fn is_search_by_address(request: &HttpRequest) -> Result<bool, Problem> {
    Ok(request.query.filled("email")?.is_some())
}

/// Carries out an operation of a signed-in user; `id` is the second segment of the path.
async fn perform(
    session: &Session,
    operation: Operation,
    id: &str,
    fields: &Fields,
) -> Result<Reply, Problem> {
    match operation {
        Operation::SignUp
        | Operation::SignIn
        | Operation::Refresh
        | Operation::GenerateOtp
        | Operation::VerifyOtp => Err(Problem::route_not_found()),
        Operation::ListUsers => users::list(session, fields).await,
        Operation::GetUserByToken => auth::by_token(session).await,
        Operation::SignOut => auth::sign_out(session).await,
        Operation::ListAlerts => alerts::list(session, fields).await,
        Operation::GetCustomAvailability => availability::custom(session).await,
        Operation::SetCustomAvailability => availability::set_custom(session, fields).await,
        Operation::GetWeeklyAvailability => availability::weekly(session).await,
        Operation::SetWeeklyAvailability => availability::set_weekly(session, fields).await,
        Operation::GetCall => calls::get(session, id).await,
        Operation::ListCalls => calls::histories(session, fields).await,
        Operation::GetChat => chats::get(session, id).await,
        Operation::ListMessages => messages::list(session, id, fields).await,
        Operation::ListChats(filter) => chats::list(session, fields, filter).await,
        Operation::ListPendingConnections => connections::pending(session, fields).await,
        Operation::ListConnections => connections::connected(session, fields).await,
        Operation::ListInterests => interests::list(session, fields).await,
        Operation::ListOwnReviews => reviews::about_me(session, fields).await,
        Operation::GetSchedule => schedules::get(session, id).await,
        Operation::UpdateSchedule => schedules::update(session, id, fields).await,
        Operation::DeleteSchedule => schedules::delete(session, id).await,
        Operation::ListSchedules(filter) => schedules::list(session, fields, filter).await,
        Operation::GetUser => users::get(session, id).await,
        Operation::UpdateUser => users::update(session, id, fields).await,
        Operation::DeleteUser => users::delete(session, id, fields).await,
        Operation::ChangePassword => users::change_password(session, id, fields).await,
        Operation::RequestBackgroundCheck => users::background_check(session, id, fields).await,
        Operation::ScheduleCall => schedules::book(session, id, fields).await,
        Operation::ClearSchedules => schedules::clear(session, id).await,
        Operation::SendConnectionRequest => connections::send(session, id).await,
        Operation::CancelConnectionRequest => connections::cancel(session, id).await,
        Operation::AcceptConnectionRequest => connections::accept(session, id).await,
        Operation::RejectConnectionRequest => connections::reject(session, id).await,
        Operation::SendMessageRequest => requests::send(session, id, fields).await,
        Operation::CancelMessageRequest => requests::cancel(session, id).await,
        Operation::AcceptMessageRequest => requests::accept(session, id).await,
        Operation::RejectMessageRequest => requests::reject(session, id).await,
        Operation::ListReviews => reviews::list(session, id, fields).await,
        Operation::WriteReview => reviews::write(session, id, fields).await,
        Operation::UpdateReview => reviews::update(session, id, fields).await,
        Operation::DeleteReview => reviews::delete(session, id).await,
    }
}
