//! The OpenAPI 3.1 document, made from the contract: its HTTP rules are the paths, its messages the schemas, its comments
//! the descriptions, its rules on fields the constraints.

use std::collections::BTreeMap;

use anyhow::Context as _;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _};
use serde_json::{Map, Value, json};

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

/// The document for these endpoints.
pub(super) fn document(pool: &DescriptorPool, endpoints: &[Endpoint]) -> anyhow::Result<Value> {
    let comments = Comments::of(pool);
    let mut schemas = Schemas::new(pool, &comments)?;
    // What is spoken on the socket is not reached by any path.
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
            // It is not shown as a whole: some of it stands in the path or in the query.
            _ => schemas.reach_parts(&endpoint.rpc.input(), true),
        }
        schemas.reach(&endpoint.rpc.output(), false);
    }

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
        let operation = operation(endpoint, &schemas, &comments, &policy);
        paths.entry(&endpoint.path).or_default().insert(endpoint.verb.as_str().to_lowercase(), operation);
    }

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
) -> Value {
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

    let suffix = if endpoint.is_additional { format!("_at_{}", slug(&endpoint.path)) } else { String::new() };
    let mut operation = json!({
        "operationId": format!("{}_{}{suffix}", service.name(), rpc.name()),
        "summary": first_sentence(&description),
        "description": description,
        "tags": [service.name()],
        "parameters": parameters(endpoint, schemas),
        "responses": responses,
        "x-authz": authz,
        "x-rpc": format!("{}/{}", service.full_name(), rpc.name()),
    });
    if is_open {
        operation["security"] = json!([]);
    }
    if let Some((schema, example)) = body(endpoint, schemas) {
        // No body is the message without anything.
        let is_required = example != json!({});
        operation["requestBody"] = json!({"required": is_required, "content": {"application/json": {"schema": schema, "example": example}}});
    }
    operation
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

/// What stands in the body: the schema without what is in the path, and an example.
fn body(endpoint: &Endpoint, schemas: &Schemas<'_>) -> Option<(Value, Value)> {
    let input = endpoint.rpc.input();
    let held: Vec<FieldDescriptor> = endpoint
        .path_fields
        .iter()
        .filter(|path| path.0.len() == 1)
        .filter_map(|path| path.last().cloned())
        .collect();
    match &endpoint.body {
        Body::Nothing => None,
        Body::Everything if held.is_empty() => {
            Some((schemas.reference(&input), schemas.example(&input, &held)))
        }
        Body::Everything => Some((schemas.object(&input, &held), schemas.example(&input, &held))),
        Body::Field(field) => match field.kind() {
            Kind::Message(inner) => Some((schemas.reference(&inner), schemas.example(&inner, &[]))),
            _ => None,
        },
    }
}

fn parameters(endpoint: &Endpoint, schemas: &Schemas<'_>) -> Vec<Value> {
    let mut parameters: Vec<Value> = endpoint
        .path_fields
        .iter()
        .filter_map(|path| parameter(&held_name(endpoint, path), path, "path", schemas))
        .collect();
    if endpoint.body != Body::Everything {
        let mut found = Vec::new();
        leaves(&endpoint.rpc.input(), &mut Vec::new(), &mut found);
        let in_query = found.iter().filter(|path| {
            let in_body = matches!(&endpoint.body, Body::Field(field) if path.0.first() == Some(field));
            !in_body && !endpoint.path_fields.contains(path)
        });
        parameters.extend(in_query.filter_map(|path| parameter(&path.json_name(), path, "query", schemas)));
    }
    parameters
}

/// The name in the braces of the path.
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

/// The fields that can stand in a query: those of the message, and those of the messages in it.
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
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::json::from_json;
    use crate::rest::rule::endpoints;

    fn document() -> Value {
        super::document(proto::pool(), &endpoints(proto::pool()).expect("endpoints")).expect("a document")
    }

    fn operations(document: &Value) -> Vec<(String, String, &Value)> {
        let paths = document["paths"].as_object().expect("paths");
        let operations = paths.iter().flat_map(|(path, item)| {
            let item = item.as_object().expect("operations");
            item.iter().map(|(verb, operation)| (path.clone(), verb.clone(), operation))
        });
        operations.collect()
    }

    fn each<'a>(value: &'a Value, visit: &mut dyn FnMut(&'a Map<String, Value>)) {
        match value {
            Value::Object(map) => {
                visit(map);
                map.values().for_each(|value| each(value, visit));
            }
            Value::Array(items) => items.iter().for_each(|value| each(value, visit)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut references = 0;
        each(&document, &mut |map| {
            if let Some(Value::String(reference)) = map.get("$ref") {
                references += 1;
                let pointer = reference.strip_prefix('#').expect("a reference within the document");
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
        });
        assert!(references > 100, "{references}");
    }

    #[test]
    fn every_schema_is_used() {
        let document = document();
        let mut used = BTreeSet::new();
        each(&document, &mut |map| {
            used.extend(
                map.get("$ref")
                    .and_then(Value::as_str)
                    .and_then(|to| to.strip_prefix("#/components/schemas/")),
            );
        });
        for name in document["components"]["schemas"].as_object().expect("schemas").keys() {
            let is_root = name == "gateway.v1.ClientFrame" || name == "gateway.v1.ServerFrame";
            assert!(is_root || used.contains(name.as_str()), "{name}");
        }
    }

    #[test]
    fn every_public_rpc_is_there_once_per_way() {
        let document = document();
        let endpoints = endpoints(proto::pool()).expect("endpoints");
        assert_eq!(operations(&document).len(), endpoints.len());
        for policy in proto::policy::all().iter().filter(|policy| policy.http) {
            let name = &policy.path[1..];
            assert!(
                operations(&document).iter().any(|(_, _, operation)| operation["x-rpc"] == name),
                "{name}"
            );
        }
        let ids: BTreeSet<&str> = operations(&document)
            .iter()
            .map(|(_, _, operation)| operation["operationId"].as_str().expect("an id"))
            .collect();
        assert_eq!(ids.len(), endpoints.len());
    }

    #[test]
    fn every_part_of_a_path_is_declared() {
        for (path, verb, operation) in operations(&document()) {
            let held: BTreeSet<&str> =
                path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')).collect();
            let parameters = operation["parameters"].as_array().expect("parameters");
            let declared: BTreeSet<&str> = parameters
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| {
                    assert_eq!(parameter["required"], true);
                    parameter["name"].as_str().expect("a name")
                })
                .collect();
            assert_eq!(held, declared, "{verb} {path}");
            let names: BTreeSet<String> = parameters
                .iter()
                .map(|parameter| format!("{}{}", parameter["in"], parameter["name"]))
                .collect();
            assert_eq!(names.len(), parameters.len(), "{verb} {path}");
        }
    }

    #[test]
    fn everything_is_described() {
        let document = document();
        for (path, verb, operation) in operations(&document) {
            for what in ["summary", "description", "operationId"] {
                assert!(
                    operation[what].as_str().is_some_and(|text| !text.is_empty()),
                    "{what} of {verb} {path}"
                );
            }
            for parameter in operation["parameters"].as_array().expect("parameters") {
                assert!(parameter["description"].is_string(), "{parameter} of {verb} {path}");
            }
            assert!(operation["x-authz"]["access"].is_string(), "{verb} {path}");
        }
        for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
            assert!(schema["description"].is_string(), "{name}");
        }
    }

    #[test]
    fn an_example_can_be_sent() {
        for endpoint in endpoints(proto::pool()).expect("endpoints") {
            let comments = Comments::of(proto::pool());
            let schemas = Schemas::new(proto::pool(), &comments).expect("schemas");
            if let Some((_, example)) = body(&endpoint, &schemas) {
                let read = from_json(&endpoint.rpc.input(), example.to_string().as_bytes());
                assert!(read.is_ok(), "{}: {example}: {read:?}", endpoint.rpc.full_name());
            }
        }
    }

    #[test]
    fn what_needs_no_sign_in_says_so() {
        let document = document();
        assert_eq!(document["paths"]["/v1/auth/login"]["post"]["security"], json!([]));
        assert!(document["paths"]["/v1/me"]["get"].get("security").is_none());
    }

    #[test]
    fn a_register_reads_well() {
        let document = document();
        insta::assert_json_snapshot!(document["paths"]["/v1/auth/register"]["post"], @r##"
        {
          "description": "Makes an account and signs it in. Fails with USERNAME_TAKEN, EMAIL_TAKEN, WEAK_PASSWORD, REGISTRATION_CLOSED, RATE_LIMITED.",
          "operationId": "AuthService_Register",
          "parameters": [],
          "requestBody": {
            "content": {
              "application/json": {
                "example": {
                  "deviceName": "Ann's laptop",
                  "displayName": "Ann",
                  "password": "correct horse battery",
                  "username": "ann"
                },
                "schema": {
                  "$ref": "#/components/schemas/auth.v1.RegisterRequest"
                }
              }
            },
            "required": true
          },
          "responses": {
            "200": {
              "content": {
                "application/json": {
                  "schema": {
                    "$ref": "#/components/schemas/auth.v1.RegisterResponse"
                  }
                }
              },
              "description": "The account that was made, signed in."
            },
            "400": {
              "$ref": "#/components/responses/Problem"
            },
            "429": {
              "$ref": "#/components/responses/Later"
            },
            "503": {
              "$ref": "#/components/responses/Later"
            },
            "default": {
              "$ref": "#/components/responses/Problem"
            }
          },
          "security": [],
          "summary": "Makes an account and signs it in",
          "tags": [
            "AuthService"
          ],
          "x-authz": {
            "access": "anyone"
          },
          "x-rpc": "parlor.auth.v1.AuthService/Register"
        }
        "##);
        insta::assert_json_snapshot!(document["components"]["schemas"]["auth.v1.RegisterRequest"], @r#"
        {
          "additionalProperties": false,
          "description": "The account to make.",
          "properties": {
            "deviceName": {
              "description": "What to call this client in the list of sessions.",
              "maxLength": 64,
              "type": "string"
            },
            "displayName": {
              "description": "The name that people see; empty means the username.",
              "maxLength": 64,
              "type": "string"
            },
            "email": {
              "description": "An e-mail address; may be empty.",
              "format": "email",
              "maxLength": 254,
              "type": "string"
            },
            "password": {
              "description": "8 to 128 characters; any are allowed.",
              "maxLength": 128,
              "minLength": 8,
              "type": "string"
            },
            "username": {
              "description": "3 to 32 of a-z, 0-9, `_`, `-`, `.`; upper case is folded.",
              "maxLength": 32,
              "minLength": 3,
              "type": "string"
            }
          },
          "required": [
            "username",
            "password"
          ],
          "type": "object"
        }
        "#);
    }

    #[test]
    fn a_send_reads_well() {
        let document = document();
        let operation = &document["paths"]["/v1/conversations/{conversation_id}/messages"]["post"];
        insta::assert_json_snapshot!(operation["requestBody"], @r##"
        {
          "content": {
            "application/json": {
              "example": {
                "content": {
                  "text": "hello"
                }
              },
              "schema": {
                "additionalProperties": false,
                "description": "The message to send.",
                "properties": {
                  "clientMessageId": {
                    "description": "The sender's own id for it, unique per sender and conversation for ever: the same id again sends nothing and returns the first message. At most 128 characters, a UUID by custom; empty means that a retry may send twice.",
                    "maxLength": 128,
                    "type": "string"
                  },
                  "content": {
                    "$ref": "#/components/schemas/messaging.v1.Content",
                    "description": "What it says."
                  },
                  "replyToMessageId": {
                    "description": "The message it answers, of the same conversation; empty for none.",
                    "format": "uuid",
                    "type": "string"
                  },
                  "validateOnly": {
                    "description": "Only to check it: everything is checked as it would be for a send and nothing is sent; the answer has no message. Slow mode is not asked. The target must be a conversation then: to find the one of people may be to make it.",
                    "type": "boolean"
                  }
                },
                "required": [
                  "content"
                ],
                "type": "object"
              }
            }
          },
          "required": true
        }
        "##);
        insta::assert_json_snapshot!(operation["parameters"], @r#"
        [
          {
            "description": "To a conversation.",
            "in": "path",
            "name": "conversation_id",
            "required": true,
            "schema": {
              "format": "uuid",
              "type": "string"
            }
          }
        ]
        "#);
        insta::assert_json_snapshot!(operation["x-authz"], @r#"
        {
          "access": "user",
          "refusal": "permission_denied",
          "relation": "writer"
        }
        "#);
    }
}
