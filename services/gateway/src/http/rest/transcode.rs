//! The conversion of JSON requests into rpcs, and of their answers into JSON.

use std::time::Duration;

use axum::body::Body as HttpBody;
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::Bytes;
use chassis::caller::unauthenticated;
use chassis::fault::Fault;
use chassis::middleware::deadline;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value};
use proto::gateway::v1::ErrorReason;
use tonic::Code;

use super::rule::{Body, Endpoint, FieldPath};
use crate::config::Config;
use crate::http::authorization::bearer;
use crate::http::error::Problem;
use crate::http::middleware::client_ip::ClientAddress;
use crate::http::middleware::strangers::Asker;
use crate::json;
use crate::upstream::Upstream;
use crate::upstream::clients::OnBehalf;

/// Passes a client's request to its rpc, and the answer back.
pub(super) async fn answer(
    upstream: &Upstream,
    config: &Config,
    endpoint: &Endpoint,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let on_behalf = on_behalf(&parts, config.request_timeout);
    // Checked before the body: the gateway does not wait for a stranger's body.
    if endpoint.needs_user && parts.extensions.get() == Some(&Asker::Stranger) {
        return Err(unauthenticated().into());
    }

    let path = RawPathParams::from_request_parts(&mut parts, &()).await;
    let path = path.map_err(|_| Fault::invalid("path", "must be UTF-8"))?;
    let held: Vec<&str> = path.iter().map(|(_, value)| value).collect();
    let body = match endpoint.body {
        Body::Nothing => Bytes::new(),
        Body::Everything | Body::Field(_) => {
            read(&parts.headers, body, config.body_bytes(endpoint.largest_body)).await?
        }
    };
    let message = compose(endpoint, &held, parts.uri.query().unwrap_or_default(), &body)?;

    let call = upstream.clients().call(&endpoint.rpc, &message, &on_behalf);
    let outcome = tokio::time::timeout(on_behalf.patience, call).await;
    let outcome = outcome.map_err(|_| Problem::deadline_exceeded())?;
    Ok(json_response(json::to_json(&outcome?)?))
}

fn json_response(json: String) -> Response {
    let mut response = (StatusCode::OK, json).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Returns the authorization and the time limit with which the rpc is called.
fn on_behalf(parts: &Parts, longest: Duration) -> OnBehalf {
    let headers = &parts.headers;
    let address = parts.extensions.get().map(|ClientAddress(address)| *address);
    let patience = deadline::asked(headers).map_or(longest, |asked| asked.min(longest));
    match bearer(headers) {
        Some(token) => OnBehalf { address, ..OnBehalf::of_token(token, patience) },
        None => OnBehalf { authorization: None, patience, address },
    }
}

/// Reads the body of a request, if it is within its limit and its content type is JSON.
async fn read(headers: &HeaderMap, body: HttpBody, max: usize) -> Result<Bytes, Problem> {
    let body = read_body(headers, body, max).await?;
    if body.is_empty() || is_json(headers) { Ok(body) } else { Err(Problem::unsupported_media_type()) }
}

/// Reads the body of a request, if it has at most `max` bytes.
pub(crate) async fn read_body(headers: &HeaderMap, body: HttpBody, max: usize) -> Result<Bytes, Problem> {
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|announced| announced > max) {
        return Err(Problem::body_too_large(max));
    }
    match Limited::new(body, max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::body_too_large(max)),
        Err(_) => Err(json::not_json("it breaks off").into()),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Composes the request of the rpc from the parts of the HTTP request.
pub(super) fn compose(
    endpoint: &Endpoint,
    path: &[&str],
    query: &str,
    body: &[u8],
) -> Result<DynamicMessage, Fault> {
    let input = endpoint.rpc.input();
    // An empty body is the empty message.
    let body = if body.is_empty() { b"{}" } else { body };
    let mut message = match &endpoint.body {
        Body::Everything => json::from_json(&input, body)?,
        Body::Field(field) => {
            let mut message = DynamicMessage::new(input.clone());
            if let Kind::Message(inner) = field.kind() {
                let inner = json::from_json(&inner, body).map_err(|fault| within(field, fault))?;
                message.set_field(field, Value::Message(inner));
            }
            message
        }
        Body::Nothing => DynamicMessage::new(input.clone()),
    };
    read_query(&mut message, endpoint, &input, query)?;
    for (field, text) in endpoint.path_fields.iter().zip(path) {
        hold(&mut message, field, text)?;
    }
    Ok(message)
}

/// Rewrites the faults of a body that is one field so that they refer to the whole request.
fn within(field: &FieldDescriptor, fault: Fault) -> Fault {
    let fields = fault.fields().iter().map(|(path, rule)| (format!("{}.{path}", field.name()), rule.clone()));
    match fields.collect::<Vec<_>>().as_slice() {
        [] => fault,
        fields => fields
            .iter()
            .fold(Fault::new(fault.code(), fault.reason()), |fault, (path, rule)| fault.field(path, rule)),
    }
}

fn read_query(
    message: &mut DynamicMessage,
    endpoint: &Endpoint,
    input: &MessageDescriptor,
    query: &str,
) -> Result<(), Fault> {
    let mut given: Vec<FieldPath> = Vec::new();
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        let field = FieldPath::resolve(input, &name).ok_or_else(|| unknown(&name))?;
        match &endpoint.body {
            Body::Everything => {
                return Err(Fault::invalid(field.name(), "stands in the body, not in the query"));
            }
            Body::Field(body) if field.0.first() == Some(body) => {
                return Err(Fault::invalid(field.name(), "stands in the body, not in the query"));
            }
            Body::Field(_) | Body::Nothing => {}
        }
        let is_list = field.last().is_some_and(FieldDescriptor::is_list);
        if !is_list && given.contains(&field) {
            return Err(Fault::invalid(field.name(), "is given more than once"));
        }
        put(message, &field.0, &text).map_err(|rule| Fault::invalid(field.name(), rule))?;
        given.push(field);
    }
    Ok(())
}

fn unknown(name: &str) -> Fault {
    let name: String = name.chars().take(64).collect();
    match name.is_empty() {
        true => Fault::new(Code::InvalidArgument, ErrorReason::InvalidField.as_str_name())
            .message("the query has a value without a name"),
        false => Fault::invalid(name, "is not a field of this request"),
    }
}

/// Sets a field from the path in the message, which must not contradict it.
fn hold(message: &mut DynamicMessage, field: &FieldPath, text: &str) -> Result<(), Fault> {
    let refuse = |rule: String| Fault::invalid(field.name(), rule);
    let mut alone = DynamicMessage::new(message.descriptor());
    put(&mut alone, &field.0, text).map_err(refuse)?;
    match (look(message, &field.0), look(&alone, &field.0)) {
        (Some(said), Some(held)) if said == held => Ok(()),
        (Some(_), Some(_)) => Err(refuse("says something else than the path".to_owned())),
        _ => put(message, &field.0, text).map_err(refuse),
    }
}

/// Returns the value of a field, if it is set.
fn look(message: &DynamicMessage, path: &[FieldDescriptor]) -> Option<Value> {
    let (field, rest) = path.split_first()?;
    if !message.has_field(field) {
        return None;
    }
    let value = message.get_field(field);
    if rest.is_empty() { Some(value.into_owned()) } else { look(value.as_message()?, rest) }
}

/// Sets a field to the value of a text, or adds it to a list. The error names the rule that the text breaks.
fn put(message: &mut DynamicMessage, path: &[FieldDescriptor], text: &str) -> Result<(), String> {
    let Some((field, rest)) = path.split_first() else { return Ok(()) };
    if let Some(oneof) = field.containing_oneof() {
        let other = oneof.fields().find(|other| other != field && message.has_field(other));
        if let Some(other) = other {
            return Err(format!("cannot be given together with {}", other.name()));
        }
    }
    if !rest.is_empty() {
        return match message.get_field_mut(field) {
            Value::Message(inner) => put(inner, rest, text),
            _ => Err("cannot be given here".to_owned()),
        };
    }
    if field.is_map() {
        return Err("cannot be given here".to_owned());
    }
    let value = parse(&field.kind(), text)?;
    if field.is_list() {
        if let Value::List(items) = message.get_field_mut(field) {
            items.push(value);
        }
    } else {
        message.set_field(field, value);
    }
    Ok(())
}

/// Parses a text from a path or a query.
fn parse(kind: &Kind, text: &str) -> Result<Value, String> {
    let value = match kind {
        Kind::String => Some(Value::String(text.to_owned())),
        Kind::Bool => text.parse().ok().map(Value::Bool),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => text.parse().ok().map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => text.parse().ok().map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => text.parse().ok().map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => text.parse().ok().map(Value::U64),
        Kind::Float => text.parse().ok().map(Value::F32),
        Kind::Double => text.parse().ok().map(Value::F64),
        Kind::Bytes => {
            let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
            bytes.ok().map(|bytes| Value::Bytes(bytes.into()))
        }
        Kind::Enum(values) => {
            let by_name = values.get_value_by_name(text).map(|value| value.number());
            by_name.or_else(|| text.parse().ok()).map(Value::EnumNumber)
        }
        // Messages that JSON writes as one text; the others cannot be in a query.
        Kind::Message(message) => {
            let is_mask = message.full_name() == "google.protobuf.FieldMask";
            let json =
                serde_json::Value::String(if is_mask { json::camel_mask(text) } else { text.to_owned() });
            DynamicMessage::deserialize(message.clone(), json).ok().map(Value::Message)
        }
    };
    value.ok_or_else(|| json::must_be(kind))
}
