//! The envelope of every answer, the keys of pagination, and the names of fields in errors.

use axum::response::Response;
use chassis::fault::Fault;
use http::StatusCode;
use proto::gateway::v1::ErrorReason;
use serde_json::{Map, Value, json};
use tonic::Code;

use crate::dialects::fields::Fields;
use crate::dialects::request::json;
use crate::http::error::Problem;

/// The number of items on a page: the default, and the maximum.
const DEFAULT_PAGE: i64 = 25;
const MAX_PAGE: i64 = 100;

/// A successful answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reply {
    pub(super) data: Value,
    pub(super) pagination: Option<Value>,
}

impl Reply {
    pub(super) fn new(data: Value) -> Self {
        Self { data, pagination: None }
    }

    /// Returns the answer of an operation that has no data.
    pub(super) fn done() -> Self {
        Self::new(Value::Null)
    }

    /// Returns a page of a list. Clients continue with the key until there is none.
    pub(super) fn page(data: Value, next_page_token: &str) -> Self {
        let mut reply = Self::new(data);
        if !next_page_token.is_empty() {
            reply.pagination = Some(json!({"lastEvaluatedKey": {"pageToken": next_page_token}}));
        }
        reply
    }

    /// Adds the number of all items.
    pub(super) fn of_total(mut self, total: i32) -> Self {
        self.pagination.get_or_insert_with(|| json!({}))["totalItems"] = json!(total);
        self
    }

    /// Returns the body over HTTP.
    pub(super) fn response(self) -> Response {
        let mut body = json!({"success": true, "statusCode": 200, "message": "success", "data": self.data});
        if let Some(pagination) = self.pagination {
            body["pagination"] = pagination;
        }
        json(StatusCode::OK, &body)
    }
}

/// Returns the body of an error.
pub(in crate::dialects) fn error_body(problem: &Problem) -> Value {
    let text = problem.fault().text();
    json!({
        "success": false, "statusCode": problem.status().as_u16(), "error": text, "message": text,
    })
}

/// The requested page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) size: i32,
    pub(super) token: String,
}

impl Page {
    /// Reads `pageSize` and `lastEvaluatedKey`: the object of the previous page, or its JSON as text.
    pub(super) fn read(fields: &Fields) -> Result<Self, Fault> {
        let size = fields.integer("pageSize")?.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE);
        let refuse = || Fault::invalid("lastEvaluatedKey", "must be the key of the page before");
        let key = match fields.get("lastEvaluatedKey") {
            None => return Ok(Self { size: i32::try_from(size).unwrap_or(0), token: String::new() }),
            Some(Value::String(text)) if text.is_empty() => Map::new(),
            Some(Value::String(text)) => match serde_json::from_str(text) {
                Ok(Value::Object(key)) => key,
                _ => return Err(refuse()),
            },
            Some(Value::Object(key)) => key.clone(),
            Some(_) => return Err(refuse()),
        };
        let token = match key.get("pageToken") {
            Some(Value::String(token)) => token.clone(),
            None if key.is_empty() => String::new(),
            _ => return Err(refuse()),
        };
        Ok(Self { size: i32::try_from(size).unwrap_or(0), token })
    }
}

/// Returns the answer 404.
pub(super) fn not_found(message: &str) -> Problem {
    Fault::new(Code::NotFound, ErrorReason::Unspecified.as_str_name()).message(message).into()
}

/// Returns the answer 409.
pub(super) fn conflict(message: &str) -> Problem {
    Fault::new(Code::FailedPrecondition, ErrorReason::Unspecified.as_str_name()).message(message).into()
}

/// True when an rpc was refused for this reason, such as `ERROR_REASON_REQUEST_ANSWERED`.
pub(super) fn is_refused_for(problem: &Problem, reason: &str) -> bool {
    problem.fault().reason() == reason
}

/// Fields of rpcs that have other names in this API.
const FIELDS: [(&str, &str); 20] = [
    ("user_id", "id"),
    ("page_token", "lastEvaluatedKey"),
    ("conversation_id", "chatId"),
    ("category", "type"),
    ("media", "type"),
    ("display_name", "name"),
    ("first_name", "name"),
    ("last_name", "name"),
    ("date_of_birth", "dob"),
    ("region", "state"),
    ("picture_url", "picture"),
    ("video_url", "video"),
    ("interest_ids", "interests"),
    ("max_calls_per_day", "maxCallCount"),
    ("max_duration", "maxCallDuration"),
    ("start_time", "startDateTime"),
    ("end_time", "endDateTime"),
    ("rating", "rate"),
    ("login", "email"),
    ("payload", "signal"),
];

/// Renames the fields of an rpc's error to those of this API.
pub(super) fn in_our_words(problem: Problem) -> Problem {
    let fault = problem.fault();
    if fault.fields().is_empty() {
        return problem;
    }
    let named = Fault::new(fault.code(), fault.reason());
    let named = fault.fields().iter().fold(named, |named, (field, rule)| named.field(own_name(field), rule));
    named.into()
}

/// Returns the name of a field of an rpc in this API: the last part of its path.
fn own_name(path: &str) -> String {
    let last = path.rsplit('.').find(|part| !part.is_empty()).unwrap_or(path);
    let last = last.split('[').next().unwrap_or(last);
    if let Some((_, name)) = FIELDS.iter().find(|(field, _)| *field == last) {
        return (*name).to_owned();
    }
    let mut name = String::new();
    for (index, part) in last.split('_').enumerate() {
        let mut letters = part.chars();
        match letters.next() {
            Some(first) if index > 0 => name.extend(first.to_uppercase()),
            Some(first) => name.push(first),
            None => {}
        }
        name.extend(letters);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(fields: Value) -> Result<Page, Fault> {
        Page::read(&Fields::from_json(fields.to_string().as_bytes()).expect("fields"))
    }

    #[test]
    fn a_key_is_an_object_or_its_text() {
        let expected = Page { size: 3, token: "abc".to_owned() };
        for key in [json!({"pageToken": "abc"}), json!("{\"pageToken\":\"abc\"}")] {
            assert_eq!(page(json!({"pageSize": "3", "lastEvaluatedKey": key})), Ok(expected.clone()));
        }
        for key in [json!(""), json!({}), json!("{}"), Value::Null] {
            assert_eq!(page(json!({"lastEvaluatedKey": key})), Ok(Page { size: 25, token: String::new() }));
        }
        assert_eq!(page(json!({"pageSize": 5000})).map(|page| page.size), Ok(100));
    }

    #[test]
    fn other_keys_are_refused() {
        for key in
            [json!("abc"), json!([]), json!({"id": "1"}), json!({"pageToken": 1}), json!(5), json!("[]")]
        {
            let fault = page(json!({"lastEvaluatedKey": key})).expect_err("refused");
            assert_eq!(fault.fields()[0].0, "lastEvaluatedKey", "{key}");
        }
        assert_eq!(page(json!({"pageSize": "x"})).expect_err("refused").fields()[0].0, "pageSize");
    }

    #[test]
    fn fields_have_the_names_of_this_api() {
        for (field, name) in [
            ("user.date_of_birth", "dob"),
            ("page_token", "lastEvaluatedKey"),
            ("old_password", "oldPassword"),
            ("availability.days[0].ranges[1]", "ranges"),
            ("email", "email"),
        ] {
            assert_eq!(own_name(field), name);
        }
        let problem = in_our_words(Fault::invalid("new_password", "is too short").into());
        assert_eq!(error_body(&problem)["message"], json!("newPassword is too short"));
        assert_eq!(error_body(&problem)["statusCode"], json!(400));
    }

    #[test]
    fn the_last_page_has_no_key() {
        assert_eq!(Reply::page(json!([]), "").pagination, None);
        let pagination = Reply::page(json!([]), "t").of_total(3).pagination;
        assert_eq!(pagination, Some(json!({"lastEvaluatedKey": {"pageToken": "t"}, "totalItems": 3})));
    }
}
