//! The proto JSON mapping, once for REST and for the socket.
//!
//! Output: names in camelCase, 64-bit numbers as strings, enums by name, times as RFC 3339. A field that cannot be
//! absent (a number, a text, a bool, an enum, a list, a map) is always present, also when it is 0, empty or false; an
//! unset message or arm of a oneof is left out. So a client reads `page.messages.length` and `nextPageToken` without
//! checking that they exist.
//!
//! Input: names in camelCase or as in the `.proto`, numbers as numbers or as strings, enums by name or number; unknown
//! fields are refused by name.

use std::fmt::Write as _;

use chassis::fault::Fault;
use prost::Message;
use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _,
    SerializeOptions,
};
use proto::gateway::v1::ErrorReason;
use serde_path_to_error::{Path, Segment, Track};
use tonic::Code;

use crate::json_keys;

/// The maximum nesting of objects and lists.
const MAX_DEPTH: usize = 32;

/// The maximum number of items in a list.
const MAX_ITEMS: usize = 1_000;

/// The options for writing messages.
pub(crate) const OUT: SerializeOptions = SerializeOptions::new().skip_default_fields(false);

/// The options for reading messages.
const IN: DeserializeOptions = DeserializeOptions::new().deny_unknown_fields(true);

/// Writes a message as JSON.
pub(crate) fn to_json(message: &DynamicMessage) -> Result<String, Fault> {
    let mut text = Vec::with_capacity(256);
    message.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &OUT).map_err(|error| {
        tracing::error!(%error, message = message.descriptor().full_name(), "a message cannot be written as JSON");
        Fault::internal()
    })?;
    String::from_utf8(text).map_err(|_| Fault::internal())
}

/// Writes a message of a generated type as JSON. `name` is its full name, such as `parlor.gateway.v1.Error`.
pub(crate) fn typed_to_json<T: Message>(name: &str, message: &T) -> Result<String, Fault> {
    let descriptor = proto::pool().get_message_by_name(name).ok_or_else(Fault::internal)?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).map_err(|_| Fault::internal())?;
    to_json(&dynamic)
}

/// Reads a message from JSON. The error names the invalid field, and the reason.
pub(crate) fn from_json(descriptor: &MessageDescriptor, json: &[u8]) -> Result<DynamicMessage, Fault> {
    check_bounds(json)?;
    json_keys::refuse_doubled(descriptor, json)?;
    let masks: Vec<FieldDescriptor> = descriptor.fields().filter(|field| is_mask(&field.kind())).collect();
    if masks.is_empty() {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let message = read(descriptor, &mut deserializer)?;
        deserializer.end().map_err(|_| not_json("there is something behind the JSON object"))?;
        return Ok(message);
    }
    let mut value: serde_json::Value = serde_json::from_slice(json).map_err(not_json)?;
    for name in masks.iter().flat_map(|mask| [mask.json_name(), mask.name()]) {
        if let Some(serde_json::Value::String(mask)) = value.get_mut(name) {
            *mask = camel_mask(mask);
        }
    }
    read(descriptor, value)
}

fn read<'de, D>(descriptor: &MessageDescriptor, json: D) -> Result<DynamicMessage, Fault>
where
    D: serde::Deserializer<'de, Error = serde_json::Error>,
{
    let mut track = Track::new();
    let tracked = serde_path_to_error::Deserializer::new(json, &mut track);
    let parsed = DynamicMessage::deserialize_with_options(descriptor.clone(), tracked, &IN);
    parsed.map_err(|error| misfit(descriptor, &track.path(), &error))
}

fn is_mask(kind: &Kind) -> bool {
    matches!(kind, Kind::Message(message) if message.full_name() == "google.protobuf.FieldMask")
}

/// Returns a mask in the spelling of JSON. The contract spells `display_name`, and a client may do so too.
pub(crate) fn camel_mask(mask: &str) -> String {
    let mut camel = String::with_capacity(mask.len());
    let mut letters = mask.chars().peekable();
    while let Some(letter) = letters.next() {
        match letters.peek().copied() {
            Some(next) if letter == '_' && next.is_ascii_lowercase() => {
                camel.push(next.to_ascii_uppercase());
                letters.next();
            }
            _ => camel.push(letter),
        }
    }
    camel
}

/// Reads a message of a generated type from JSON.
pub(crate) fn typed_from_json<T: Message + Default>(name: &str, json: &[u8]) -> Result<T, Fault> {
    let descriptor = proto::pool().get_message_by_name(name).ok_or_else(Fault::internal)?;
    from_json(&descriptor, json)?.transcode_to().map_err(|_| Fault::internal())
}

/// Refuses nesting and lists beyond the limits before anything is built from them.
fn check_bounds(json: &[u8]) -> Result<(), Fault> {
    // The number of commas in each open list or object; an object's do not count.
    let mut open: Vec<Option<usize>> = Vec::new();
    let (mut in_text, mut escaped) = (false, false);
    for &byte in json {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => {
                if open.len() == MAX_DEPTH {
                    return Err(not_json(format!("it is nested deeper than {MAX_DEPTH} levels")));
                }
                open.push((byte == b'[').then_some(0));
            }
            b'}' | b']' => drop(open.pop()),
            b',' => {
                if let Some(Some(commas)) = open.last_mut() {
                    *commas += 1;
                    if *commas == MAX_ITEMS {
                        return Err(not_json(format!("it has a list of more than {MAX_ITEMS} items")));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

pub(crate) fn not_json(why: impl std::fmt::Display) -> Fault {
    Fault::new(Code::InvalidArgument, ErrorReason::InvalidJson.as_str_name())
        .message(format!("the body cannot be read as JSON: {why}"))
}

/// Returns the fault of JSON that does not fit the message.
fn misfit(descriptor: &MessageDescriptor, path: &Path, error: &serde_json::Error) -> Fault {
    if error.classify() != serde_json::error::Category::Data {
        return not_json(error);
    }
    let path = JsonPath::find(descriptor, path);
    let (text, inside) = (error.to_string(), |name: &str| match path.name.as_str() {
        "" => name.to_owned(),
        outer => format!("{outer}.{name}"),
    });
    // The library reports these two as text only.
    if let Some(name) = quoted(&text, "unrecognized field name '") {
        return Fault::invalid(inside(&shortened(name)), "is not a field of this request");
    }
    if let Some(name) = quoted(&text, "multiple fields provided for oneof '") {
        let arms = path.message.and_then(|message| message.oneofs().find(|oneof| oneof.name() == name));
        let arms: Vec<String> =
            arms.iter().flat_map(|oneof| oneof.fields()).map(|arm| arm.name().to_owned()).collect();
        return Fault::invalid(inside(name), format!("takes only one of {}", arms.join(", ")));
    }
    match path.field {
        Some(_) if !path.is_item && path.is_list => Fault::invalid(path.name, "must be a list"),
        Some(field) => Fault::invalid(path.name, must_be(&field.kind())),
        None => not_json("it must be an object"),
    }
}

/// Returns the text between the quotes after a prefix.
fn quoted<'a>(text: &'a str, beginning: &str) -> Option<&'a str> {
    text.strip_prefix(beginning)?.split_once('\'').map(|(name, _)| name)
}

/// Shortens a client's input for display in an error.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Returns the rule that a value of another kind breaks.
pub(crate) fn must_be(kind: &Kind) -> String {
    let rule = match kind {
        Kind::String => "must be a string",
        Kind::Bool => "must be `true` or `false`",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "must be a whole number of 32 bits",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "must be a whole number of 64 bits",
        Kind::Uint32 | Kind::Fixed32 => "must be a whole number of 32 bits, not negative",
        Kind::Uint64 | Kind::Fixed64 => "must be a whole number of 64 bits, not negative",
        Kind::Float | Kind::Double => "must be a number",
        Kind::Bytes => "must be base64",
        Kind::Enum(values) => {
            let names: Vec<String> = values.values().map(|value| value.name().to_owned()).collect();
            return format!("must be one of {}", names.join(", "));
        }
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => "must be a time such as 2026-11-20T10:00:00Z",
            "google.protobuf.Duration" => "must be a span such as 1.5s",
            "google.protobuf.FieldMask" => "must be names of fields in camelCase, separated by commas",
            _ => "must be an object",
        },
    };
    rule.to_owned()
}

/// A path in JSON, in the spelling of the contract.
struct JsonPath {
    /// The contract's spelling: `replyToMessageId` as `reply_to_message_id`.
    name: String,
    /// The field, unless the path is the whole.
    field: Option<FieldDescriptor>,
    /// The message at the path.
    message: Option<MessageDescriptor>,
    is_list: bool,
    is_item: bool,
}

impl JsonPath {
    fn find(descriptor: &MessageDescriptor, path: &Path) -> Self {
        let message = Some(descriptor.clone());
        let mut found = Self { name: String::new(), field: None, message, is_list: false, is_item: false };
        for segment in path {
            match segment {
                Segment::Seq { index } => {
                    let _ = write!(found.name, "[{index}]");
                    found.is_item = true;
                }
                Segment::Map { key } => found.step(key),
                Segment::Enum { .. } | Segment::Unknown => {}
            }
        }
        found
    }

    fn step(&mut self, key: &str) {
        let field = self.message.as_ref().and_then(|message| {
            message.get_field_by_json_name(key).or_else(|| message.get_field_by_name(key))
        });
        if !self.name.is_empty() {
            self.name.push('.');
        }
        self.name.push_str(&field.as_ref().map_or_else(|| shortened(key), |field| field.name().to_owned()));
        // A key without a field is inside a map or free JSON: the last field stays the one to report.
        let Some(field) = field else { return };
        self.message = match field.kind() {
            Kind::Message(inner) => Some(inner),
            _ => None,
        };
        (self.is_list, self.is_item) = (field.is_list(), false);
        self.field = Some(field);
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn read_as(name: &str, json: &str) -> Result<DynamicMessage, Fault> {
        from_json(&proto::pool().get_message_by_name(name).expect("a message"), json.as_bytes())
    }

    fn written(name: &str, json: &str) -> String {
        to_json(&read_as(name, json).expect("a message")).expect("json")
    }

    fn refused(name: &str, json: &str) -> String {
        let fault = read_as(name, json).expect_err("refused");
        assert_eq!(fault.code(), Code::InvalidArgument);
        fault.text()
    }

    const SEND: &str = "parlor.messaging.v1.SendMessageRequest";
    const LIST: &str = "parlor.messaging.v1.ListMessagesRequest";
    const MESSAGE: &str = "parlor.messaging.v1.Message";

    #[test]
    fn fields_that_cannot_be_absent_are_always_there() {
        assert_snapshot!(written(MESSAGE, "{}"), @r#"{"messageId":"","conversationId":"","sequence":"0","senderId":"","clientMessageId":"","replyToMessageId":"","deletedByUserId":"","version":0,"deleteReason":"DELETION_REASON_UNSPECIFIED","mentionedUserIds":[],"reactions":[]}"#);
        assert_snapshot!(written("parlor.messaging.v1.ListMessagesResponse", "{}"), @r#"{"messages":[],"nextPageToken":"","previousPageToken":"","headSequence":"0"}"#);
        assert_snapshot!(written(SEND, "{}"), @r#"{"clientMessageId":"","replyToMessageId":"","validateOnly":false}"#);
    }

    #[test]
    fn what_is_read_is_written() {
        assert_snapshot!(
            written(MESSAGE, r#"{"messageId": "a", "sequence": "9007199254740993", "content": {"text": "hi"}, "createTime": "2026-11-20T10:00:00.5Z", "version": 2}"#),
            @r#"{"messageId":"a","conversationId":"","sequence":"9007199254740993","senderId":"","clientMessageId":"","content":{"text":"hi","attachments":[]},"replyToMessageId":"","createTime":"2026-11-20T10:00:00.500Z","deletedByUserId":"","version":2,"deleteReason":"DELETION_REASON_UNSPECIFIED","mentionedUserIds":[],"reactions":[]}"#
        );
    }

    #[test]
    fn both_spellings_and_both_kinds_of_number_are_read() {
        let one = read_as(LIST, r#"{"afterSequence": 7, "pageSize": "3", "order": 2}"#);
        let other =
            read_as(LIST, r#"{"after_sequence": "7", "page_size": 3, "order": "ORDER_OLDEST_FIRST"}"#);
        assert_eq!(one.expect("one"), other.expect("other"));
    }

    #[test]
    fn a_mask_is_read_in_both_spellings() {
        let written = |mask: &str| {
            written("parlor.auth.v1.UpdateUserRequest", &format!(r#"{{"updateMask": "{mask}"}}"#))
        };
        assert_snapshot!(written("displayName,pictureUrl"), @r#"{"updateMask":"displayName,pictureUrl","password":""}"#);
        assert_eq!(written("display_name,picture_url"), written("displayName,pictureUrl"));
    }

    #[test]
    fn a_field_that_does_not_fit_is_named() {
        assert_snapshot!(refused(SEND, r#"{"content": {"text": 5}}"#), @"content.text must be a string");
        assert_snapshot!(refused(SEND, r#"{"userIds": {"userIds": ["a", 2]}}"#), @"user_ids.user_ids[1] must be a string");
        assert_snapshot!(refused(SEND, r#"{"replyToMessageId": []}"#), @"reply_to_message_id must be a string");
        assert_snapshot!(refused(LIST, r#"{"pageSize": "many"}"#), @"page_size must be a whole number of 32 bits");
        assert_snapshot!(refused(LIST, r#"{"pageSize": 3000000000}"#), @"page_size must be a whole number of 32 bits");
        assert_snapshot!(refused(LIST, r#"{"order": "SIDEWAYS"}"#), @"order must be one of ORDER_UNSPECIFIED, ORDER_NEWEST_FIRST, ORDER_OLDEST_FIRST");
        assert_snapshot!(refused("parlor.auth.v1.UpdateUserRequest", r#"{"updateMask": "display__name"}"#), @"update_mask must be names of fields in camelCase, separated by commas");
        assert_snapshot!(refused("parlor.scheduling.v1.ScheduleMessageRequest", r#"{"sendTime": "soon"}"#), @"send_time must be a time such as 2026-11-20T10:00:00Z");
    }

    #[test]
    fn a_field_that_does_not_exist_is_named() {
        assert_snapshot!(refused(SEND, r#"{"colour": "red"}"#), @"colour is not a field of this request");
        assert_snapshot!(refused(SEND, r#"{"content": {"text": "a", "colour": {"deep": 1}}}"#), @"content.colour is not a field of this request");
    }

    #[test]
    fn a_oneof_takes_one_arm() {
        assert_snapshot!(refused(SEND, r#"{"conversationId": "a", "userId": "b"}"#), @"target takes only one of conversation_id, user_id, user_ids");
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for (json, why) in [
            ("", "EOF"),
            ("{", "EOF"),
            ("{]", "key"),
            ("null", "object"),
            ("[]", "object"),
            ("{} x", "behind"),
        ] {
            let text = refused(SEND, json);
            assert!(text.contains(why), "{json}: {text}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(check_bounds(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(check_bounds(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(refused(SEND, &"[".repeat(60_000)).contains("32 levels"));
    }

    #[test]
    fn lists_have_an_end() {
        let list = |items: usize| format!("[{}]", vec!["1"; items].join(","));
        assert!(check_bounds(list(MAX_ITEMS).as_bytes()).is_ok());
        assert!(check_bounds(list(MAX_ITEMS + 1).as_bytes()).is_err());
    }

    #[test]
    fn brackets_and_commas_in_texts_do_not_count() {
        let json = format!(r#"{{"content": {{"text": "{}\"{}"}}}}"#, "[".repeat(100), ",".repeat(2_000));
        assert!(read_as(SEND, &json).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(json in r#"[\[\]{}",:a-z0-9\\.\-]{0,64}"#) {
            let _ = read_as(SEND, &json);
            let _ = read_as("parlor.auth.v1.UpdateUserRequest", &json);
        }

        #[test]
        fn whatever_stands_in_a_field_is_read_or_refused(
            field in proptest::sample::select(vec!["user", "updateMask", "update_mask", "x"]),
            value in r#"(null|true|-1|1e9|"[a-z_,.]{0,9}"|\[\]|\{"bio": (null|5|"a")\})"#,
        ) {
            let _ = read_as("parlor.auth.v1.UpdateUserRequest", &format!("{{\"{field}\": {value}}}"));
        }
    }
}
