//! The size of the largest request that the contract allows. The limits of bodies, frames and decoders are made from it, so
//! that no transport refuses what the contract takes.

use std::fmt;
use std::sync::LazyLock;

use prost_reflect::{DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value};

use crate::pool;

/// A mask of fields has no rule: its text is taken to have at most so many bytes.
const MASK: usize = 4096;

/// A tag or a length on the wire has at most so many bytes.
const VARINT: usize = 5;

/// A number has at most so many bytes on the wire.
const NUMBER: usize = 10;

/// A number in JSON has at most so many bytes, with quotation marks.
const JSON_NUMBER: usize = 26;

/// A time or a span in JSON has at most so many bytes, with quotation marks.
const JSON_TIME: usize = 40;

/// A character as an encoder of JSON writes it that knows ASCII only: a pair of escapes.
const JSON_CHARACTER: usize = 12;

/// A byte of UTF-8 as the same encoder writes it: six bytes for a character of two, and twelve for one of four.
const JSON_BYTE: usize = 3;

/// A character of UTF-8 has at most so many bytes.
const CHARACTER: usize = 4;

/// The size of the largest message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Largest {
    /// In proto JSON, without white space.
    pub json: usize,
    /// In protobuf.
    pub wire: usize,
}

/// A field whose size the contract does not bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbounded(pub String);

impl fmt::Display for Unbounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has no bound", self.0)
    }
}

impl std::error::Error for Unbounded {}

/// The largest message of this type.
///
/// # Errors
/// When a field has no bound.
pub fn of(message: &MessageDescriptor) -> Result<Largest, Unbounded> {
    match message.full_name() {
        "google.protobuf.Timestamp" | "google.protobuf.Duration" => {
            return Ok(Largest { json: JSON_TIME, wire: 2 * (1 + NUMBER) });
        }
        "google.protobuf.FieldMask" => return Ok(Largest { json: MASK, wire: MASK }),
        // Any JSON. It is bounded where it is read as what it stands for.
        "google.protobuf.Struct" => return Ok(Largest::default()),
        _ => {}
    }
    let mut largest = Largest { json: 2, wire: 0 };
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        let (mut json, mut wire) = (0, 0);
        for field in oneof.fields() {
            let arm = of_field(&field)?;
            (json, wire) = (arm.json.max(json), arm.wire.max(wire));
        }
        largest = Largest { json: largest.json + json, wire: largest.wire + wire };
    }
    for field in message.fields().filter(|field| !is_arm(field)) {
        let Largest { json, wire } = of_field(&field)?;
        largest = Largest { json: largest.json + json, wire: largest.wire + wire };
    }
    Ok(largest)
}

/// The largest request that a service of a package takes in one message, in bytes of protobuf. A stream from a client that
/// carries many requests has a limit of its own, which its sender keeps.
pub fn request_bytes(package: &str) -> usize {
    let services = pool().services().filter(|service| service.package_name() == package);
    let rpcs = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    rpcs.filter_map(|rpc| of(&rpc.input()).ok()).map(|largest| largest.wire).max().unwrap_or_default()
}

/// The largest message with this full name, in bytes of JSON; 0 for one that the contract does not have or bound.
pub fn json_bytes(name: &str) -> usize {
    let largest = pool().get_message_by_name(name).and_then(|message| of(&message).ok());
    largest.unwrap_or_default().json
}

fn is_arm(field: &FieldDescriptor) -> bool {
    field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic())
}

/// A field with its name.
fn of_field(field: &FieldDescriptor) -> Result<Largest, Unbounded> {
    let unbounded = || Unbounded(field.full_name().to_owned());
    let rules = Rules::of(field);
    // The name in quotation marks, the colon, and the comma before it.
    let name = field.name().len().max(field.json_name().len()) + 4;
    if field.is_map() {
        return Err(unbounded());
    }
    if !field.is_list() {
        let value = of_value(field, &rules)?;
        return Ok(Largest { json: name + value.json, wire: VARINT + value.wire });
    }
    let list = rules.part("repeated");
    let items = list.number("max_items").ok_or_else(unbounded)?;
    let item = of_value(field, &list.part("items"))?;
    Ok(Largest { json: name + 2 + items * (item.json + 1), wire: items * (VARINT + item.wire) })
}

/// A value of a field, with its length.
fn of_value(field: &FieldDescriptor, rules: &Rules) -> Result<Largest, Unbounded> {
    let unbounded = || Unbounded(field.full_name().to_owned());
    Ok(match field.kind() {
        Kind::String => rules.part("string").text().ok_or_else(unbounded)?,
        Kind::Bytes => {
            let rules = rules.part("bytes");
            let most = rules.number("max_len").or(rules.number("len")).ok_or_else(unbounded)?;
            // Base64, in which an encoder may escape each slash.
            Largest { json: 8 * most.div_ceil(3) + 2, wire: VARINT + most }
        }
        Kind::Message(inner) => {
            let Largest { json, wire } = of(&inner)?;
            Largest { json, wire: VARINT + wire }
        }
        Kind::Enum(values) => {
            let longest = values.values().map(|value| value.name().len()).max().unwrap_or_default();
            Largest { json: (longest + 2).max(JSON_NUMBER), wire: NUMBER }
        }
        _ => Largest { json: JSON_NUMBER, wire: NUMBER },
    })
}

/// The rules of a value, or of a part of it.
struct Rules(Option<DynamicMessage>);

impl Rules {
    fn of(field: &FieldDescriptor) -> Self {
        static OPTION: LazyLock<Option<ExtensionDescriptor>> =
            LazyLock::new(|| pool().get_extension_by_name("buf.validate.field"));
        let (Some(option), options) = (OPTION.as_ref(), field.options()) else { return Self(None) };
        let rules = options.has_extension(option).then(|| options.get_extension(option).into_owned());
        Self(rules.and_then(|rules| rules.as_message().cloned()))
    }

    fn value(&self, name: &str) -> Option<Value> {
        let rules = self.0.as_ref()?;
        rules
            .has_field_by_name(name)
            .then(|| rules.get_field_by_name(name).map(|value| value.into_owned()))?
    }

    fn part(&self, name: &str) -> Self {
        Self(self.value(name).and_then(|value| value.as_message().cloned()))
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.value(name)?.as_u64().and_then(|number| usize::try_from(number).ok())
    }

    /// The largest text by these rules.
    fn text(&self) -> Option<Largest> {
        let text = |json: usize, wire: usize| Largest { json: json + 2, wire: VARINT + wire };
        let is_uuid = self.value("uuid").and_then(|value| value.as_bool()).unwrap_or_default();
        let choices = self.value("in").and_then(|value| {
            value.as_list()?.iter().filter_map(|choice| choice.as_str().map(str::len)).max()
        });
        let by_rule = [
            is_uuid.then(|| text(36, 36)),
            choices.map(|most| text(most, most)),
            self.number("max_bytes").map(|most| text(JSON_BYTE * most, most)),
            self.number("max_len").map(|most| text(JSON_CHARACTER * most, CHARACTER * most)),
        ];
        by_rule.into_iter().flatten().min_by_key(|largest| largest.json)
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::{DynamicMessage, MethodDescriptor, SerializeOptions};

    use super::*;

    /// Has a limit of its own: it carries the requests of many.
    const CARRIERS: [&str; 1] = ["parlor.messaging.v1.MessagingService.SendMessages"];

    /// Served by operators, for messaging.
    const BY_OPERATORS: &str = "MessagePolicyService";

    fn rpcs() -> impl Iterator<Item = MethodDescriptor> {
        let ours = pool().services().filter(|service| {
            service.package_name().starts_with("parlor.") && service.name() != BY_OPERATORS
        });
        ours.flat_map(|service| service.methods().collect::<Vec<_>>())
            .filter(|rpc| !CARRIERS.contains(&rpc.full_name()))
    }

    /// A text as large as its rules allow, of characters that are written with as many bytes as any.
    fn long_text(rules: &Rules) -> String {
        let prefix =
            rules.value("prefix").and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
        if rules.value("uuid").is_some() {
            return "01890a5d-ac96-774b-bcce-b302099a8057".to_owned();
        }
        if let Some(bytes) = rules.number("max_bytes") {
            return format!("{prefix}{}", "é".repeat((bytes - prefix.len()) / 2));
        }
        let characters = rules.number("max_len").unwrap_or_default();
        format!("{prefix}{}", "😀".repeat(characters - prefix.len()))
    }

    fn full_value(field: &FieldDescriptor, rules: &Rules, arm: usize) -> Value {
        match field.kind() {
            Kind::String => Value::String(long_text(&rules.part("string"))),
            Kind::Bytes => {
                let rules = rules.part("bytes");
                let most = rules.number("max_len").or(rules.number("len")).unwrap_or_default();
                Value::Bytes(vec![0xff; most].into())
            }
            Kind::Message(inner) => Value::Message(full(&inner, arm)),
            Kind::Enum(values) => Value::EnumNumber(values.values().last().map_or(0, |value| value.number())),
            kind => match Value::default_value(&kind) {
                Value::I64(_) => Value::I64(i64::MIN),
                Value::I32(_) => Value::I32(i32::MIN),
                Value::F64(_) => Value::F64(-1.234_567_890_123_456_7e-300),
                other => other,
            },
        }
    }

    /// A message with every field at its bound, and this arm of each oneof.
    fn full(message: &MessageDescriptor, arm: usize) -> DynamicMessage {
        let mut full = DynamicMessage::new(message.clone());
        if message.full_name().starts_with("google.protobuf.") {
            return full;
        }
        for field in message.fields() {
            if let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
                let chosen = arm.min(oneof.fields().len() - 1);
                if oneof.fields().nth(chosen).as_ref() != Some(&field) {
                    continue;
                }
            }
            let rules = Rules::of(&field);
            let value = if field.is_list() {
                let list = rules.part("repeated");
                let most = list.number("max_items").expect("a bound");
                Value::List(vec![full_value(&field, &list.part("items"), arm); most])
            } else {
                full_value(&field, &rules, arm)
            };
            full.set_field(&field, value);
        }
        full
    }

    /// The JSON of an encoder that writes ASCII only, and escapes what need not be.
    fn ascii_json(message: &DynamicMessage) -> usize {
        let mut text = Vec::new();
        let options = SerializeOptions::new().skip_default_fields(false);
        message.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options).expect("JSON");
        let text = String::from_utf8(text).expect("UTF-8");
        text.chars()
            .map(|c| {
                if c == '/' {
                    2
                } else if c.is_ascii() {
                    1
                } else {
                    6 * c.len_utf16()
                }
            })
            .sum()
    }

    #[test]
    fn every_request_has_a_bound_and_the_largest_one_is_within() {
        let mut checked = 0;
        for rpc in rpcs() {
            let input = rpc.input();
            let largest = of(&input).unwrap_or_else(|unbounded| panic!("{}: {unbounded}", rpc.full_name()));
            for arm in 0..16 {
                let full = full(&input, arm);
                let (json, wire) = (ascii_json(&full), prost::Message::encoded_len(&full));
                assert!(json <= largest.json, "{}: {json} bytes of JSON, {largest:?}", rpc.full_name());
                assert!(wire <= largest.wire, "{}: {wire} bytes, {largest:?}", rpc.full_name());
                checked += 1;
            }
            assert!(largest.wire <= request_bytes(rpc.parent_service().package_name()));
        }
        assert!(checked > 1000, "the rpcs are not where they were: {checked}");
    }

    #[test]
    fn the_largest_ciphertext_is_in_the_largest_message() {
        let largest = json_bytes("parlor.messaging.v1.SendMessageRequest");
        assert!(largest > 65_536 * 4 / 3 && largest < 512 * 1024, "{largest}");
        assert_eq!(json_bytes("parlor.messaging.v1.Nothing"), 0);
    }
}
