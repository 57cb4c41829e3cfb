//! The OpenAPI 3.1 document, generated from the contract: its HTTP rules become the paths, its messages the schemas,
//! its comments the descriptions, and its field rules the constraints.

use std::collections::BTreeMap;

use anyhow::Context as _;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _};
use serde_json::{Map, Value, json};

use super::Described;
use super::example::Example;
use super::rule::{Body, Endpoint, FieldPath};
use super::schema::{Comments, Schemas, is_json_value};

const ABOUT: &str = "\
A chat backend. What stands here is the whole public API over HTTP; the same calls are there as gRPC, under the names in \
`x-rpc`.

**Signing in.** `POST /v1/auth/guest` or `/v1/auth/register` answers with a session token. Send it with every other \
request as `authorization: Bearer <token>`.

**JSON.** Names are in camelCase. 64-bit numbers are strings (numbers are read too); compare them as numbers. A number, \
text, bool, enum or list is always there in an answer, also when it is 0, empty or false; an object that is not set is \
left out. A request with a field that does not exist is refused.

**Errors.** Whatever is not 200 is an `application/problem+json` with `status`, `code`, `reason`, `message`, `fields`, \
`retryAfter` and `metadata`. `reason` is for programs, `message` for their authors. 429 and 503 say in `retry-after` how \
many seconds to wait.

**Deadlines.** A request ends after 10 seconds; `grpc-timeout: 2S` asks for less.

**Live.** `/v1/socket` is the WebSocket (frames: `gateway.v1.ClientFrame` and `gateway.v1.ServerFrame` below), \
`/v1/events` the same news as server-sent events.";

/// Returns the document for these endpoints, and for `others`: paths that belong to no rpc, such as those of files.
pub(super) fn document(
    pool: &DescriptorPool,
    endpoints: &[Endpoint],
    others: &[Described],
) -> anyhow::Result<Value> {
    let comments = Comments::of(pool);
    let mut schemas = Schemas::new(pool, &comments)?;
    // The messages of the socket are not reachable from any path.
    for (frame, from_client) in
        [("parlor.gateway.v1.ClientFrame", true), ("parlor.gateway.v1.ServerFrame", false)]
    {
        let frame =
            pool.get_message_by_name(frame).with_context(|| format!("{frame} is not in the contract"))?;
        schemas.reach(&frame, from_client);
    }
    let error =
        pool.get_message_by_name("parlor.gateway.v1.Error").context("there is no Error in the contract")?;
    schemas.reach(&error, false);
    for endpoint in endpoints {
        match endpoint.body {
            Body::Everything if endpoint.path_fields.is_empty() => schemas.reach(&endpoint.rpc.input(), true),
            // It is not shown as a whole: parts of it are in the path or in the query.
            _ => schemas.reach_parts(&endpoint.rpc.input(), true),
        }
        schemas.reach(&endpoint.rpc.output(), false);
    }

    let written = pool.get_message_by_name("parlor.messaging.v1.WriteUploadResponse");
    schemas.reach(&written.context("there is no WriteUploadResponse in the contract")?, false);

    let policy = pool
        .get_extension_by_name("parlor.options.v1.policy")
        .context("there is no policy in the contract")?;
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut tags: BTreeMap<String, Value> = BTreeMap::new();
    for endpoint in endpoints {
        let service = endpoint.rpc.parent_service();
        tags.entry(service.name().to_owned()).or_insert_with(|| {
            json!({"name": service.name(), "description": comments.of_path(&service.parent_file(), service.path())})
        });
        let operation = operation(endpoint, &schemas, &comments, &policy)?;
        paths.entry(&endpoint.path).or_default().insert(endpoint.verb.as_str().to_lowercase(), operation);
    }
    paths.extend(others.iter().cloned());

    Ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Parlor",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": tags.into_values().collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas.all(),
            "responses": {
                "Problem": {
                    "description": "It was refused, or it failed; `reason` says why.",
                    "content": {"application/problem+json": {"schema": schemas.reference(&error)}},
                },
                "Later": {
                    "description": "Not now: the header says when it makes sense to try again.",
                    "headers": {
                        "retry-after": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
                    },
                    "content": {"application/problem+json": {"schema": schemas.reference(&error)}},
                },
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The session token: `grant.sessionToken` of the answer to signing in.",
                },
            },
        },
    }))
}

fn operation(
    endpoint: &Endpoint,
    schemas: &Schemas<'_>,
    comments: &Comments,
    policy: &prost_reflect::ExtensionDescriptor,
) -> anyhow::Result<Value> {
    let rpc = &endpoint.rpc;
    let service = rpc.parent_service();
    let description = comments.of_path(&service.parent_file(), rpc.path());
    let options = rpc.options();
    let policy = options.get_extension(policy);
    let said = |field: &str, prefix: &str| {
        let message = policy.as_message()?;
        let field = message.descriptor().get_field_by_name(field)?;
        let Kind::Enum(values) = field.kind() else { return None };
        let number = message.get_field(&field).as_enum_number().filter(|number| *number != 0)?;
        let value = values.get_value(number)?;
        Some(value.name().trim_start_matches(prefix).to_lowercase())
    };
    let access = said("access", "ACCESS_");
    let is_open = access.as_deref() == Some("anyone");

    let mut authz = Map::new();
    let parts = [
        ("access", access),
        ("relation", said("relation", "RELATION_")),
        ("refusal", said("refusal", "REFUSAL_")),
    ];
    authz.extend(parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));

    let mut responses = json!({
        "200": {
            "description": comments.of_path(&rpc.output().parent_file(), rpc.output().path()),
            "content": {"application/json": {"schema": schemas.reference(&rpc.output())}},
        },
        "400": problem("Problem"),
        "429": problem("Later"),
        "503": problem("Later"),
        "default": problem("Problem"),
    });
    if !is_open {
        responses["401"] = problem("Problem");
    }

    let examples = Example::all_of(endpoint)?;
    let suffix = if endpoint.is_additional { format!("_at_{}", slug(&endpoint.path)) } else { String::new() };
    let mut operation = json!({
        "operationId": format!("{}_{}{suffix}", service.name(), rpc.name()),
        "summary": first_sentence(&description),
        "description": description,
        "tags": [service.name()],
        "parameters": parameters(endpoint, schemas, examples.first()),
        "responses": responses,
        "x-authz": authz,
        "x-rpc": format!("{}/{}", service.full_name(), rpc.name()),
    });
    if is_open {
        operation["security"] = json!([]);
    }
    if let Some(schema) = body(endpoint, schemas) {
        // An absent body is the empty message.
        let is_required = examples.iter().all(|example| example.body(endpoint) != json!({}));
        let mut content = json!({"schema": schema});
        match examples.as_slice() {
            [only] => content["example"] = only.body(endpoint),
            several => content["examples"] = several.iter().map(|example| example.named(endpoint)).collect(),
        }
        operation["requestBody"] = json!({"required": is_required, "content": {"application/json": content}});
    }
    Ok(operation)
}

fn problem(name: &str) -> Value {
    json!({"$ref": format!("#/components/responses/{name}")})
}

fn slug(path: &str) -> String {
    let words = path.split('/').filter(|word| !word.is_empty());
    words.map(|word| word.trim_matches(['{', '}'])).collect::<Vec<_>>().join("_")
}

fn first_sentence(text: &str) -> String {
    let end = text.find(". ").or_else(|| text.find(".\n")).map_or(text.len(), |end| end + 1);
    text[..end].trim_end_matches('.').to_owned()
}

/// Returns the schema of the body, without the fields in the path.
fn body(endpoint: &Endpoint, schemas: &Schemas<'_>) -> Option<Value> {
    let input = endpoint.rpc.input();
    let held: Vec<FieldDescriptor> = endpoint
        .path_fields
        .iter()
        .filter(|path| path.0.len() == 1)
        .filter_map(|path| path.last().cloned())
        .collect();
    match &endpoint.body {
        Body::Nothing => None,
        Body::Everything if held.is_empty() => Some(schemas.reference(&input)),
        Body::Everything => Some(schemas.object(&input, &held)),
        Body::Field(field) => match field.kind() {
            Kind::Message(inner) => Some(schemas.reference(&inner)),
            _ => None,
        },
    }
}

fn parameters(endpoint: &Endpoint, schemas: &Schemas<'_>, example: Option<&Example>) -> Vec<Value> {
    let parameter = |name: &str, path: &FieldPath, place: &str| {
        let mut parameter = parameter(name, path, place, schemas)?;
        if let Some(value) = example.and_then(|example| example.at(path)) {
            parameter["example"] = value.clone();
        }
        Some(parameter)
    };
    let mut parameters: Vec<Value> = endpoint
        .path_fields
        .iter()
        .filter_map(|path| parameter(&held_name(endpoint, path), path, "path"))
        .collect();
    if endpoint.body != Body::Everything {
        let mut found = Vec::new();
        leaves(&endpoint.rpc.input(), &mut Vec::new(), &mut found);
        let in_query = found.iter().filter(|path| {
            let in_body = matches!(&endpoint.body, Body::Field(field) if path.0.first() == Some(field));
            !in_body && !endpoint.path_fields.contains(path)
        });
        parameters.extend(in_query.filter_map(|path| parameter(&path.json_name(), path, "query")));
    }
    parameters
}

/// Returns the name in the braces of the path.
fn held_name(endpoint: &Endpoint, path: &FieldPath) -> String {
    let names = endpoint.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let index = endpoint.path_fields.iter().position(|other| other == path);
    index.and_then(|index| names.clone().nth(index)).map_or_else(|| path.name(), str::to_owned)
}

fn parameter(name: &str, path: &FieldPath, place: &str, schemas: &Schemas<'_>) -> Option<Value> {
    let field = path.last()?;
    let mut schema = schemas.field(field);
    let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
    let mut parameter = json!({
        "name": name,
        "in": place,
        "required": place == "path" || schemas.is_required(field),
        "schema": schema,
    });
    if let Some(description) = description {
        parameter["description"] = description;
    }
    if field.is_list() {
        parameter["style"] = "form".into();
        parameter["explode"] = true.into();
    }
    Some(parameter)
}

/// Collects the fields that can be in a query: those of the message, and those of the messages in it.
fn leaves(message: &MessageDescriptor, way: &mut Vec<FieldDescriptor>, found: &mut Vec<FieldPath>) {
    const DEEPEST: usize = 4;
    for field in message.fields() {
        if field.is_map() || way.len() == DEEPEST {
            continue;
        }
        way.push(field.clone());
        match field.kind() {
            Kind::Message(inner) if !is_json_value(&inner) => {
                if !field.is_list() {
                    leaves(&inner, way, found);
                }
            }
            _ => found.push(FieldPath(way.clone())),
        }
        way.pop();
    }
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
