//! The settings that exist, with their documentation, read from the JSON Schema that the types derive.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value};

/// A setting, or a table of settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Its name within its table.
    pub name: String,
    /// Its documentation, in lines.
    pub description: String,
    /// Its content.
    pub kind: Kind,
}

/// The content of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One value.
    Value,
    /// A list of values.
    List,
    /// A table with names of the operator's choice.
    Map,
    /// A table of settings.
    Table(Vec<Key>),
    /// A list of tables of settings.
    Tables(Vec<Key>),
}

/// The settings of `S`, by name.
pub(super) fn keys<S: JsonSchema>() -> Vec<Key> {
    let settings = SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    let schema: Schema = settings.into_generator().into_root_schema_for::<S>();
    schema.as_object().and_then(properties).map(fields).unwrap_or_default()
}

/// Calls `visit` with the path of every setting that is no table.
pub(super) fn visit(keys: &[Key], visit_setting: &mut impl FnMut(&[&str], &Kind)) {
    fn walk<'a>(path: &mut Vec<&'a str>, keys: &'a [Key], visit_setting: &mut impl FnMut(&[&str], &Kind)) {
        for key in keys {
            path.push(&key.name);
            match &key.kind {
                Kind::Table(keys) => walk(path, keys, visit_setting),
                kind => visit_setting(path, kind),
            }
            path.pop();
        }
    }
    walk(&mut Vec::new(), keys, visit_setting);
}

fn fields(properties: &Map<String, Value>) -> Vec<Key> {
    let key = |(name, schema): (&String, &Value)| Key {
        name: name.clone(),
        description: schema["description"].as_str().unwrap_or_default().to_owned(),
        kind: kind(schema),
    };
    properties.iter().map(key).collect()
}

fn kind(schema: &Value) -> Kind {
    let Some(schema) = shown(schema) else { return Kind::Value };
    if let Some(properties) = properties(schema) {
        return Kind::Table(fields(properties));
    }
    if let Some(items) = schema.get("items") {
        let tables = shown(items).and_then(properties).map(fields);
        return tables.map_or(Kind::List, Kind::Tables);
    }
    match schema.get("additionalProperties") {
        Some(Value::Object(_)) => Kind::Map,
        _ => Kind::Value,
    }
}

/// The schema of what is there, where it may be absent.
fn shown(schema: &Value) -> Option<&Map<String, Value>> {
    let schema = schema.as_object()?;
    let one_of = schema.get("anyOf").and_then(Value::as_array);
    match one_of {
        Some(schemas) => schemas.iter().filter_map(Value::as_object).find(|schema| schema["type"] != "null"),
        None => Some(schema),
    }
}

fn properties(schema: &Map<String, Value>) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}
