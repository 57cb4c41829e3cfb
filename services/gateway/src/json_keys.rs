//! The check for duplicate keys in JSON objects. Readers take the first, the last or none: accepted JSON must mean the
//! same to every reader.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use chassis::fault::Fault;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

/// Refuses an object with a duplicate key, at any depth; the two names of a field (`client_message_id`,
/// `clientMessageId`) are one key. Invalid JSON is left to the reader.
pub(crate) fn refuse_doubled(descriptor: &MessageDescriptor, json: &[u8]) -> Result<(), Fault> {
    let doubled = RefCell::new(None);
    let shape = Shape::Message(descriptor.clone());
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let _ = Keys { shape, path: String::new(), doubled: &doubled }.deserialize(&mut deserializer);
    match doubled.into_inner() {
        Some(path) => Err(Fault::invalid(path, "is given more than once")),
        None => Ok(()),
    }
}

/// The meaning of the keys of a value.
#[derive(Clone)]
enum Shape {
    /// The names of the fields of a message.
    Message(MessageDescriptor),
    /// Keys chosen by the client; the values have this kind.
    Map(Kind),
    /// Keys and values chosen by the client.
    Free,
}

impl Shape {
    fn of(kind: Kind) -> Self {
        match kind {
            // The messages that have their own form in JSON.
            Kind::Message(message) if message.full_name().starts_with("google.protobuf.") => Self::Free,
            Kind::Message(message) => Self::Message(message),
            _ => Self::Free,
        }
    }

    fn of_field(field: &FieldDescriptor) -> Self {
        match field.kind() {
            Kind::Message(entry) if field.is_map() => Self::Map(entry.map_entry_value_field().kind()),
            kind => Self::of(kind),
        }
    }

    /// Returns the name of a key, and the meaning of its value.
    fn key(&self, key: &str) -> (String, Self) {
        match self {
            Self::Message(message) => {
                let field = message.get_field_by_json_name(key).or_else(|| message.get_field_by_name(key));
                field.map_or_else(
                    || (key.to_owned(), Self::Free),
                    |field| (field.name().to_owned(), Self::of_field(&field)),
                )
            }
            Self::Map(kind) => (key.to_owned(), Self::of(kind.clone())),
            Self::Free => (key.to_owned(), Self::Free),
        }
    }
}

/// Reads only the keys of a value, and stops at the first duplicate.
struct Keys<'a> {
    shape: Shape,
    path: String,
    doubled: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let (name, shape) = self.shape.key(&key);
            let path = if self.path.is_empty() { name.clone() } else { format!("{}.{name}", self.path) };
            if !seen.insert(name) {
                *self.doubled.borrow_mut() = Some(path.chars().take(128).collect());
                return Err(A::Error::custom("a key that is given twice"));
            }
            map.next_value_seed(Keys { shape, path, doubled: self.doubled })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let item = || Keys { shape: self.shape.clone(), path: self.path.clone(), doubled: self.doubled };
        while items.next_element_seed(item())?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> Option<String> {
        let name = "parlor.messaging.v1.SendMessageRequest";
        let descriptor = proto::pool().get_message_by_name(name).expect("the message");
        refuse_doubled(&descriptor, json.as_bytes()).err().map(|fault| fault.text())
    }

    #[test]
    fn a_key_that_comes_twice_is_refused_at_any_depth() {
        for (json, field) in [
            (r#"{"clientMessageId":"a","clientMessageId":"a"}"#, "client_message_id"),
            (r#"{"client_message_id":"a","clientMessageId":"b"}"#, "client_message_id"),
            (r#"{"client\u004dessageId":"a","clientMessageId":"b"}"#, "client_message_id"),
            (r#"{"content":{"text":"a","text":"b"}}"#, "content.text"),
            (
                r#"{"content":{"attachments":[{"name":"a"},{"name":"b","name":"c"}]}}"#,
                "content.attachments.name",
            ),
            (r#"{"nothing":{"a":1,"a":2}}"#, "nothing.a"),
        ] {
            assert_eq!(refused(json), Some(format!("{field} is given more than once")), "{json}");
        }
    }

    #[test]
    fn keys_of_different_objects_are_different() {
        for json in [
            r#"{"clientMessageId":"a","content":{"text":"a"}}"#,
            r#"{"content":{"attachments":[{"name":"a"},{"name":"b"}]}}"#,
            r#"{"a":{"x":1},"b":{"x":2.5},"c":[null,true,-1,"x"]}"#,
            "not JSON",
            r#"{"open"#,
        ] {
            assert_eq!(refused(json), None, "{json}");
        }
    }
}
