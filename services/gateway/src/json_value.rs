//! Free JSON in the contract: conversion of `google.protobuf.Struct` from and to JSON values.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

/// The bound beyond which a double does not represent every whole number.
const LARGEST_WHOLE: f64 = 9_007_199_254_740_992.0;

/// Converts to JSON, whole numbers without a fraction: a client may read them into a field that takes no other.
pub(crate) fn from_struct(object: Struct) -> serde_json::Value {
    serde_json::Value::Object(object.fields.into_iter().map(|(name, value)| (name, plain(value))).collect())
}

/// Converts a JSON value to an object; `None` when it is another kind of value.
pub(crate) fn to_struct(json: serde_json::Value) -> Option<Struct> {
    match value(json).kind {
        Some(Kind::StructValue(object)) => Some(object),
        _ => None,
    }
}

fn plain(value: Value) -> serde_json::Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::StringValue(value)) => value.into(),
        Some(Kind::NumberValue(value)) if value.fract() == 0.0 && value.abs() < LARGEST_WHOLE => {
            (value as i64).into()
        }
        Some(Kind::NumberValue(value)) => value.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(plain).collect(),
        Some(Kind::StructValue(value)) => from_struct(value),
    }
}

fn value(value: serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(value),
        serde_json::Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or_default()),
        serde_json::Value::String(value) => Kind::StringValue(value),
        serde_json::Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.into_iter().map(self::value).collect() })
        }
        serde_json::Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, self::value(value))).collect();
            Kind::StructValue(Struct { fields })
        }
    };
    Value { kind: Some(kind) }
}
