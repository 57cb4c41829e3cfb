//! Tests of the content of the document.

use std::collections::BTreeSet;

use super::*;
use prost_reflect::DynamicMessage;

use crate::http::described;
use crate::http::rest::rule::endpoints;
use crate::http::rest::transcode::compose;
use crate::json::from_json;

fn document() -> Value {
    super::document(proto::pool(), &endpoints(proto::pool()).expect("endpoints"), &described())
        .expect("a document")
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
            map.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix("#/components/schemas/")),
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
    // The bytes of files and archives come and go without an rpc that has a path.
    let others = described();
    let expected = endpoints.len() + others.iter().map(|(_, operations)| operations.len()).sum::<usize>();
    assert_eq!(operations(&document).len(), expected);
    for policy in proto::policy::all().iter().filter(|policy| policy.http) {
        let name = &policy.path[1..];
        assert!(operations(&document).iter().any(|(_, _, operation)| operation["x-rpc"] == name), "{name}");
    }
    let ids: BTreeSet<&str> = operations(&document)
        .iter()
        .map(|(_, _, operation)| operation["operationId"].as_str().expect("an id"))
        .collect();
    assert_eq!(ids.len(), expected);
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
        let names: BTreeSet<String> =
            parameters.iter().map(|parameter| format!("{}{}", parameter["in"], parameter["name"])).collect();
        assert_eq!(names.len(), parameters.len(), "{verb} {path}");
    }
}

#[test]
fn everything_is_described() {
    let document = document();
    for (path, verb, operation) in operations(&document) {
        for what in ["summary", "description", "operationId"] {
            assert!(operation[what].as_str().is_some_and(|text| !text.is_empty()), "{what} of {verb} {path}");
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

/// The requests that the document shows for an operation, as the gateway reads them.
fn shown(endpoint: &Endpoint, operation: &Value) -> Vec<DynamicMessage> {
    let parameters = operation["parameters"].as_array().expect("parameters");
    let given = |place: &'static str| {
        let given = parameters.iter().filter(move |parameter| parameter["in"] == place);
        given.filter_map(|parameter| Some((parameter["name"].as_str()?, parameter.get("example")?)))
    };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let path: Vec<String> = given("path").map(|(_, value)| text(value)).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in given("query") {
        for value in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
            query.append_pair(name, &text(value));
        }
    }
    let query = query.finish();
    let content = &operation["requestBody"]["content"]["application/json"];
    let several = content["examples"].as_object().into_iter().flat_map(Map::values);
    let bodies: Vec<String> = match content.get("example") {
        Some(body) => vec![body.to_string()],
        None => several.map(|example| example["value"].to_string()).collect(),
    };
    let compose = |body: &str| compose(endpoint, &path, &query, body.as_bytes()).expect("a request");
    if bodies.is_empty() { vec![compose("")] } else { bodies.iter().map(|body| compose(body)).collect() }
}

#[test]
fn what_is_shown_is_what_the_contract_gives_as_examples() {
    let (document, mut seen) = (document(), BTreeSet::new());
    let endpoints = endpoints(proto::pool()).expect("endpoints");
    for endpoint in &endpoints {
        let operation = &document["paths"][&endpoint.path][endpoint.verb.as_str().to_lowercase()];
        let path = format!("/{}/{}", endpoint.rpc.parent_service().full_name(), endpoint.rpc.name());
        let policy = proto::policy::of(&path).expect("a policy");
        let given = policy.examples.iter().map(|example| {
            let filled = proto::placeholders::fill(example.request, proto::placeholders::sample);
            let filled = filled.expect("nothing left open");
            (example.request, from_json(&endpoint.rpc.input(), filled.as_bytes()).expect("a request"))
        });
        let given: Vec<_> = given.collect();
        let shown = shown(endpoint, operation);
        assert!(!shown.is_empty(), "{path}");
        for message in shown {
            let example = given.iter().find(|(_, example)| *example == message);
            let (request, _) = example.unwrap_or_else(|| panic!("{path} {}: {message}", endpoint.path));
            seen.insert((path.clone(), *request));
        }
    }
    let all = proto::policy::all().iter().map(|policy| policy.examples.len()).sum::<usize>();
    assert_eq!(seen.len(), all, "each is shown somewhere");
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
      "description": "Makes an account and signs it in. An e-mail address that the same network has verified with a code for signing up within the last 30 minutes is shown as verified from the start; EMAIL_TAKEN means that another account has verified it. Any other address is a claim of the account until it is verified: the answer is the same whether or not another account has the address, and a mail tells that account. Usernames that look like the operator's, such as `root`, `admin`, `adm1n`, `moderator`, `support` and `system`, count as taken, and so does that of a deleted account for a while (90 days unless configured). Fails with USERNAME_TAKEN, EMAIL_TAKEN, EMAIL_NOT_VERIFIED, WEAK_PASSWORD, REGISTRATION_CLOSED, RATE_LIMITED.",
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
        "requireUnclaimedEmail": {
          "description": "In the profile `development` only, and refused elsewhere: refuses an address that another account has or claims with EMAIL_TAKEN, also when it was not verified with a code before.",
          "type": "boolean"
        },
        "requireVerifiedEmail": {
          "description": "Refuses an e-mail address that was not verified with a code for signing up, from the same network, within the last 30 minutes, before anything is said about the address. `email` must be set then.",
          "type": "boolean"
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
    let content = &operation["requestBody"]["content"]["application/json"];
    insta::assert_json_snapshot!(content["examples"]["ephemeral"], @r##"
    {
      "summary": "ephemeral",
      "value": {
        "clientMessageId": "3f1c9a52-7d0e-4b86-a1f4-95c27e8b60d3",
        "content": {
          "text": "gone in an hour"
        },
        "expireAfter": "3600s"
      }
    }
    "##);
    insta::assert_json_snapshot!(content["schema"], @r##"
    {
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
        "expireAfter": {
          "description": "How long it can be read, 1 second to 28 days; absent for ever. From the instant of expiry on nobody reads it.",
          "examples": [
            "1.5s"
          ],
          "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$",
          "type": "string"
        },
        "replyToMessageId": {
          "description": "The message it answers, of the same conversation; empty for none.",
          "format": "uuid",
          "type": "string"
        },
        "scheduledTime": {
          "description": "The time that the message was scheduled for. Only scheduling sets it, when it sends for a user; from others it is refused. It is no part of what a client message id stands for: a retry may say another time.",
          "format": "date-time",
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
    "##);
    insta::assert_json_snapshot!(operation["parameters"], @r#"
    [
      {
        "description": "To a conversation.",
        "example": "01937b6e-7c4a-7d3b-9f00-0242ac120002",
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
