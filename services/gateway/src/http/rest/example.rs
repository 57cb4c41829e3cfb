//! The examples of the contract as HTTP requests: the values in the path, in the query and in the body.

use anyhow::{Context as _, anyhow};
use proto::{placeholders, policy};
use serde_json::{Value, json};

use super::rule::{Body, Endpoint, FieldPath};

/// A request to an rpc with sample values where the contract leaves something open.
pub(super) struct Example {
    title: &'static str,
    request: Value,
}

impl Example {
    /// Returns the examples that can be sent by this endpoint: they have the fields of its path.
    pub(super) fn all_of(endpoint: &Endpoint) -> anyhow::Result<Vec<Self>> {
        let rpc = &endpoint.rpc;
        let path = format!("/{}/{}", rpc.parent_service().full_name(), rpc.name());
        let policy = policy::of(&path).with_context(|| format!("{path} has no policy"))?;
        let mut found = Vec::new();
        for example in policy.examples {
            let filled = placeholders::fill(example.request, placeholders::sample)
                .map_err(|name| anyhow!("an example of {path} leaves ${name} open"))?;
            let example = Self { title: example.title, request: serde_json::from_str(&filled)? };
            if endpoint.path_fields.iter().all(|field| example.at(field).is_some()) {
                found.push(example);
            }
        }
        anyhow::ensure!(!found.is_empty(), "no example of {path} can be sent to {}", endpoint.path);
        Ok(found)
    }

    /// Returns the value of a field, if it is given.
    pub(super) fn at(&self, field: &FieldPath) -> Option<&Value> {
        field.0.iter().try_fold(&self.request, |value, field| value.get(field.json_name()))
    }

    /// Returns the body of the example.
    pub(super) fn body(&self, endpoint: &Endpoint) -> Value {
        match &endpoint.body {
            Body::Nothing => Value::Null,
            Body::Field(field) => self.request.get(field.json_name()).cloned().unwrap_or_else(|| json!({})),
            Body::Everything => {
                let mut body = self.request.clone();
                for field in &endpoint.path_fields {
                    if let ([field], Some(body)) = (field.0.as_slice(), body.as_object_mut()) {
                        body.remove(field.json_name());
                    }
                }
                body
            }
        }
    }

    /// Returns one of several examples: its name, its title and its body.
    pub(super) fn named(&self, endpoint: &Endpoint) -> (String, Value) {
        (self.title.replace(' ', "-"), json!({"summary": self.title, "value": self.body(endpoint)}))
    }
}
