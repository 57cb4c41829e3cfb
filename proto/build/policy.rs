//! Generates the table of who may call what from the options `parlor.options.v1.policy` and `parlor.options.v1.example`,
//! and refuses contradictions.

use std::fmt::Write as _;

use anyhow::{Context as _, bail, ensure};
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, Kind, MethodDescriptor, ReflectMessage as _,
};

use super::{examples, names};

/// The table as Rust code: the slice `POLICIES`, ordered by path.
pub fn generate(pool: &DescriptorPool) -> anyhow::Result<String> {
    let options = Options::of(pool)?;
    let mut rows = Vec::new();
    for service in pool.services().filter(|service| service.package_name().starts_with("parlor.")) {
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            let examples =
                options.examples(&method).with_context(|| format!("an example of {}", method.full_name()))?;
            let row = options
                .row(&path, &method, &examples)
                .with_context(|| format!("the policy of {}", method.full_name()))?;
            rows.push((path, row));
        }
    }
    rows.sort();

    let mut code = String::from("static POLICIES: &[Policy] = &[\n");
    for (_, row) in rows {
        writeln!(code, "    {row},")?;
    }
    code.push_str("];\n");
    Ok(code)
}

/// The options of a method that the table is made from.
struct Options {
    policy: ExtensionDescriptor,
    http: ExtensionDescriptor,
    example: ExtensionDescriptor,
}

impl Options {
    fn of(pool: &DescriptorPool) -> anyhow::Result<Self> {
        let extension = |name: &str| {
            pool.get_extension_by_name(name)
                .with_context(|| format!("the option {name} is not in the contract"))
        };
        Ok(Self {
            policy: extension("parlor.options.v1.policy")?,
            http: extension("google.api.http")?,
            example: extension("parlor.options.v1.example")?,
        })
    }

    /// The examples as Rust code.
    fn examples(&self, method: &MethodDescriptor) -> anyhow::Result<String> {
        let examples = examples::of(method, &self.example)?;
        let http = method.options().has_extension(&self.http);
        ensure!(!http || !examples.is_empty(), "has an HTTP rule and no example");
        ensure!(http || examples.is_empty(), "has an example and no HTTP rule");
        let mut code = String::new();
        for example in examples {
            write!(code, "Example {{ title: {:?}, request: {:?} }}, ", example.title, example.request)?;
        }
        Ok(format!("&[{code}]"))
    }

    fn row(&self, path: &str, method: &MethodDescriptor, examples: &str) -> anyhow::Result<String> {
        let options = method.options();
        ensure!(options.has_extension(&self.policy), "is missing: every rpc says who may call it");
        let option = options.get_extension(&self.policy);
        let policy = option.as_message().context("is not a message")?;
        let http = options.has_extension(&self.http);
        let streams = method.is_client_streaming() || method.is_server_streaming();

        let Some(access) = value(policy, "access", "ACCESS_")? else { bail!("has no access") };
        let services = services(policy, "services")?;
        let anonymous_services = self::services(policy, "anonymous_services")?;
        let relation = value(policy, "relation", "RELATION_")?;
        let refusal = value(policy, "refusal", "REFUSAL_")?;

        let audited =
            policy.get_field_by_name("audited").and_then(|value| value.as_bool()).unwrap_or_default();
        ensure!(!audited || !streams, "is audited and streams");
        if access == "Anyone" {
            ensure!(
                anonymous_services.is_empty(),
                "is for everyone: it needs no service for the anonymous viewer"
            );
        }
        if access == "Service" {
            ensure!(!services.is_empty(), "is for services and lists none");
            ensure!(anonymous_services.is_empty(), "is for services: it has no anonymous viewer");
            ensure!(!http, "is for services and has an HTTP rule");
        } else {
            ensure!(http || streams, "is for people and has no HTTP rule");
        }
        ensure!(relation.is_none() || refusal.is_some(), "has a relation and no refusal");
        ensure!(refusal.is_none() || relation.is_some(), "has a refusal and no relation");

        Ok(format!(
            "Policy {{ path: {path:?}, access: Access::{access}, services: &{services:?}, anonymous_services: &{anonymous_services:?}, relation: {}, refusal: {}, audited: {audited}, http: {http}, examples: {examples} }}",
            option_of("Relation", relation),
            option_of("Refusal", refusal),
        ))
    }
}

/// The value of an enum field in Rust's spelling, without the prefix; nothing when it is unspecified.
pub fn value(option: &DynamicMessage, field: &str, prefix: &str) -> anyhow::Result<Option<String>> {
    let field = option.descriptor().get_field_by_name(field).with_context(|| format!("knows no {field}"))?;
    let Kind::Enum(kind) = field.kind() else { bail!("{} is not an enum", field.name()) };
    let number = option.get_field(&field).as_enum_number().unwrap_or_default();
    if number == 0 {
        return Ok(None);
    }
    let value = kind.get_value(number).with_context(|| format!("{} has no value {number}", kind.name()))?;
    let name =
        value.name().strip_prefix(prefix).with_context(|| format!("{} lacks its prefix", value.name()))?;
    Ok(Some(match name {
        // `Self` is a word of Rust.
        "SELF" => "Own".to_owned(),
        name => names::camel(&name.to_ascii_lowercase()),
    }))
}

/// The services that a field of the policy lists.
pub fn services(policy: &DynamicMessage, field: &str) -> anyhow::Result<Vec<String>> {
    let value = policy.get_field_by_name(field).with_context(|| format!("knows no {field}"))?;
    let names = value.as_list().unwrap_or_default().iter();
    Ok(names.filter_map(|name| name.as_str().map(str::to_owned)).collect())
}

fn option_of(kind: &str, value: Option<String>) -> String {
    value.map_or_else(|| "None".to_owned(), |value| format!("Some({kind}::{value})"))
}
