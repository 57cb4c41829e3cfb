//! A booked call as a calendar file (RFC 5545): the answer of `ExportSchedule` unchanged, not as JSON, so that a
//! browser opens it in the user's calendar.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chassis::caller::unauthenticated;
use chassis::fault::Fault;
use http::header::{self, HeaderValue};
use proto::scheduling::v1::{ExportScheduleRequest, ExportScheduleResponse};
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::http::authorization::bearer;
use crate::http::error::Problem;
use crate::upstream::Upstream;
use crate::upstream::clients::OnBehalf;

/// The path of the file.
pub(crate) const PATH: &str = "/v1/schedules/{schedule_id}/calendar.ics";

/// Returns the route of the file.
pub(crate) fn router<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Upstream: FromRef<S>,
    Arc<Config>: FromRef<S>,
{
    Router::new().route(PATH, get(file))
}

async fn file(
    State(upstream): State<Upstream>,
    State(config): State<Arc<Config>>,
    Path(schedule_id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let token = bearer(request.headers()).ok_or_else(unauthenticated)?;
    let on_behalf = OnBehalf::of_token(token, config.request_timeout);
    let asked = on_behalf.request(ExportScheduleRequest { schedule_id });
    let answer = upstream.clients().calendars().export_schedule(asked).await?;
    let ExportScheduleResponse { file_name, media_type, content } = answer.into_inner();
    let headers = [
        (header::CONTENT_TYPE, header_of(media_type)?),
        (header::CONTENT_DISPOSITION, header_of(format!("attachment; filename=\"{file_name}\""))?),
    ];
    Ok((headers, content).into_response())
}

/// Converts a text to a header. Scheduling names its files in ASCII.
fn header_of(text: String) -> Result<HeaderValue, Fault> {
    HeaderValue::try_from(text).map_err(|_| Fault::internal())
}

/// Returns the operations of the path in the OpenAPI document.
pub(crate) fn described() -> Map<String, Value> {
    let problem = |name: &str| json!({"$ref": format!("#/components/responses/{name}")});
    let operation = json!({
        "operationId": "CalendarService_GetCalendarFile",
        "summary": "A booked call as a file for calendars",
        "description": "The same as `ExportSchedule`, not in JSON: an iCalendar file (RFC 5545). Fails with SCHEDULE_NOT_FOUND.",
        "tags": ["CalendarService"],
        "x-authz": {"access": "user", "relation": "self", "refusal": "not_found"},
        "parameters": [{
            "name": "schedule_id",
            "in": "path",
            "required": true,
            "description": "The booking.",
            "schema": {"type": "string", "format": "uuid"},
            "example": "01937b73-a2c4-7e61-b37f-5c7d9eb0c2db",
        }],
        "responses": {
            "200": {
                "description": "The file.",
                "content": {"text/calendar": {"schema": {"type": "string"}}},
            },
            "400": problem("Problem"),
            "401": problem("Problem"),
            "404": problem("Problem"),
            "429": problem("Later"),
            "503": problem("Later"),
            "default": problem("Problem"),
        },
    });
    Map::from_iter([("get".to_owned(), operation)])
}
