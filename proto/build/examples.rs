//! Reads the examples of an rpc from the option `parlor.options.v1.example`, and refuses what could not be sent.

use std::collections::HashSet;

use anyhow::{Context as _, anyhow, ensure};
use prost_reflect::{DeserializeOptions, DynamicMessage, ExtensionDescriptor, MethodDescriptor};

use super::placeholders;

/// One example as it is kept in the table: its title and its request as JSON without white space.
pub struct Example {
    /// What it shows; empty when it is the only one.
    pub title: String,
    /// The request.
    pub request: String,
}

/// The examples of an rpc.
pub fn of(method: &MethodDescriptor, extension: &ExtensionDescriptor) -> anyhow::Result<Vec<Example>> {
    let options = method.options();
    let option = options.get_extension(extension);
    let given = option.as_list().unwrap_or_default();
    let mut titles = HashSet::new();
    let mut examples = Vec::with_capacity(given.len());
    for example in given {
        let example = example.as_message().context("is not a message")?;
        let (title, request) = (text(example, "title")?, text(example, "request")?);
        ensure!(!title.is_empty() || given.len() == 1, "is one of several and has no title");
        ensure!(titles.insert(title.clone()), "has the title of another: {title}");
        let request = check(method, &request).with_context(|| format!("cannot be sent: {request}"))?;
        examples.push(Example { title, request });
    }
    Ok(examples)
}

/// The request without white space, when it is one with sample values in the places that it leaves open.
fn check(method: &MethodDescriptor, request: &str) -> anyhow::Result<String> {
    let parsed: serde_json::Value = serde_json::from_str(request).context("it is not JSON")?;
    let compact = parsed.to_string();
    let filled = placeholders::fill(&compact, placeholders::sample)
        .map_err(|name| anyhow!("nothing is known of ${name}"))?;
    let mut json = serde_json::Deserializer::from_str(&filled);
    // Refuses fields that are not there.
    let options = DeserializeOptions::new();
    DynamicMessage::deserialize_with_options(method.input(), &mut json, &options)?;
    Ok(compact)
}

fn text(example: &DynamicMessage, field: &str) -> anyhow::Result<String> {
    let value = example.get_field_by_name(field).with_context(|| format!("knows no {field}"))?;
    Ok(value.as_str().unwrap_or_default().to_owned())
}
