//! The objects of this API, built from messages of the services.

pub(super) mod alert;
pub(super) mod call;
pub(super) mod chat;
pub(super) mod connect_request;
pub(super) mod message;
pub(super) mod review;
pub(super) mod schedule;
pub(super) mod user;

use serde_json::Value;

use crate::dialects::time;

/// Returns an object without the fields that are null, inner objects included: clients of this API expect missing
/// fields, not null.
pub(super) fn compact(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, compact(value))).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(compact).collect()),
        other => other,
    }
}

/// Returns a text; null when it is empty.
fn filled(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Returns a time as text; null when it is missing.
fn moment(time: Option<prost_types::Timestamp>) -> Option<String> {
    time.is_some().then(|| time::iso(time))
}
