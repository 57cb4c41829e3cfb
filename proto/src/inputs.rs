//! Tests of what holds for every text of every input of an rpc.

use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

use crate::pool;
use crate::violation::{Incoming as _, Violation};

include!(concat!(env!("OUT_DIR"), "/inputs.rs"));

/// A text that PostgreSQL does not store.
const NUL: &str = "a\0b";

/// Fields whose messages are checked one by one by the service that takes them: a broken one ends no stream.
const CHECKED_LATER: [&str; 1] = ["parlor.messaging.v1.CarriedSend.request"];

/// Each way to the texts of a message: the path as the contract names it, and the message with a NUL in that text alone.
fn with_nul(message: &MessageDescriptor, seen: &mut Vec<String>) -> Vec<(String, DynamicMessage)> {
    // A message inside itself is looked at once.
    if !message.package_name().starts_with("parlor.") || seen.iter().any(|name| name == message.full_name()) {
        return Vec::new();
    }
    seen.push(message.full_name().to_owned());
    let mut found = Vec::new();
    for field in message.fields().filter(|field| !CHECKED_LATER.contains(&field.full_name())) {
        for (path, value) in of_field(&field, seen) {
            let mut whole = DynamicMessage::new(message.clone());
            whole.set_field(&field, value);
            found.push((format!("{}{path}", field.name()), whole));
        }
    }
    seen.pop();
    found
}

fn of_field(field: &FieldDescriptor, seen: &mut Vec<String>) -> Vec<(String, Value)> {
    let Kind::Message(entry) = field.kind() else {
        let list = |(path, value)| (format!("[0]{path}"), Value::List(vec![value]));
        let values = of_kind(&field.kind(), seen);
        return if field.is_list() { values.into_iter().map(list).collect() } else { values };
    };
    if field.is_map() {
        let map = |(path, value)| {
            (format!("[\"key\"]{path}"), Value::Map([(MapKey::String("key".to_owned()), value)].into()))
        };
        return of_kind(&entry.map_entry_value_field().kind(), seen).into_iter().map(map).collect();
    }
    let step = if field.is_list() { "[0]." } else { "." };
    let inner = with_nul(&entry, seen).into_iter();
    inner
        .map(|(path, message)| {
            let value = Value::Message(message);
            (format!("{step}{path}"), if field.is_list() { Value::List(vec![value]) } else { value })
        })
        .collect()
}

fn of_kind(kind: &Kind, seen: &mut Vec<String>) -> Vec<(String, Value)> {
    match kind {
        Kind::String => vec![(String::new(), Value::String(NUL.to_owned()))],
        Kind::Message(message) => {
            let inner = with_nul(message, seen).into_iter();
            inner.map(|(path, message)| (format!(".{path}"), Value::Message(message))).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn no_text_of_any_request_takes_nul() {
    let mut texts = 0;
    for method in pool().services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let input = method.input();
        for (path, message) in with_nul(&input, &mut Vec::new()) {
            let violations = check_input(input.full_name(), &message.encode_to_vec());
            let Some(violations) = violations else { panic!("{} cannot be read", input.full_name()) };
            let is_named = violations.iter().any(|violation| violation.field == path);
            assert!(is_named, "{} takes NUL in {path}: {violations:?}", input.full_name());
            texts += 1;
        }
    }
    assert!(texts > 200, "the texts are not where they were: found {texts}");
}
