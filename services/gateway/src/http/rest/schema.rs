//! The messages of the contract as JSON schemas: their form in proto JSON, with their comments and their rules.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Context as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, FileDescriptor,
    Kind, MessageDescriptor, ReflectMessage as _,
};
use serde_json::{Map, Value, json};

/// The comments in the contract.
pub(super) struct Comments(HashMap<(String, Vec<i32>), String>);

impl Comments {
    /// Reads all comments.
    pub(super) fn of(pool: &DescriptorPool) -> Self {
        let mut comments = HashMap::new();
        for file in pool.files() {
            let locations =
                file.file_descriptor_proto().source_code_info.iter().flat_map(|info| &info.location);
            for location in locations {
                if let Some(text) = &location.leading_comments {
                    comments.insert((file.name().to_owned(), location.path.clone()), flowing(text));
                }
            }
        }
        Self(comments)
    }

    /// Returns the comment on the element at a path of a file; empty when there is none.
    pub(super) fn of_path(&self, file: &FileDescriptor, path: &[i32]) -> String {
        self.0.get(&(file.name().to_owned(), path.to_vec())).cloned().unwrap_or_default()
    }

    fn of_message(&self, message: &MessageDescriptor) -> String {
        self.of_path(&message.parent_file(), message.path())
    }

    fn of_field(&self, field: &FieldDescriptor) -> String {
        self.of_path(&field.parent_message().parent_file(), field.path())
    }
}

/// Joins the lines of each paragraph; an empty line separates paragraphs.
fn flowing(comment: &str) -> String {
    let paragraphs = comment.split("\n\n").map(|paragraph| {
        paragraph.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    });
    paragraphs.filter(|paragraph| !paragraph.is_empty()).collect::<Vec<_>>().join("\n\n")
}

/// The schemas of messages, and the directions in which they are used.
pub(super) struct Schemas<'a> {
    comments: &'a Comments,
    rules: ExtensionDescriptor,
    oneof_rules: ExtensionDescriptor,
    messages: BTreeMap<String, MessageDescriptor>,
    enums: BTreeMap<String, EnumDescriptor>,
    from_clients: HashSet<String>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(pool: &DescriptorPool, comments: &'a Comments) -> anyhow::Result<Self> {
        let extension = |name: &str| {
            pool.get_extension_by_name(name).with_context(|| format!("{name} is not in the contract"))
        };
        Ok(Self {
            comments,
            rules: extension("buf.validate.field")?,
            oneof_rules: extension("buf.validate.oneof")?,
            messages: BTreeMap::new(),
            enums: BTreeMap::new(),
            from_clients: HashSet::new(),
        })
    }

    /// Adds a message and all messages in it. Clients may omit fields without a rule; answers omit only fields that can
    /// be absent.
    pub(super) fn reach(&mut self, message: &MessageDescriptor, from_client: bool) {
        if is_json_value(message) {
            return;
        }
        let is_new = self.messages.insert(message.full_name().to_owned(), message.clone()).is_none();
        let is_new_from_clients = from_client && !self.from_clients.contains(message.full_name());
        if is_new || is_new_from_clients {
            self.reach_parts(message, from_client);
        }
    }

    /// Adds the messages in a message.
    pub(super) fn reach_parts(&mut self, message: &MessageDescriptor, from_client: bool) {
        if from_client {
            self.from_clients.insert(message.full_name().to_owned());
        }
        for field in message.fields() {
            let kind = match field.kind() {
                Kind::Message(entry) if entry.is_map_entry() => entry.map_entry_value_field().kind(),
                kind => kind,
            };
            match kind {
                Kind::Message(inner) => self.reach(&inner, from_client),
                Kind::Enum(values) => drop(self.enums.insert(values.full_name().to_owned(), values)),
                _ => {}
            }
        }
    }

    /// Returns all schemas by name.
    pub(super) fn all(&self) -> Map<String, Value> {
        let messages =
            self.messages.values().map(|message| (short(message.full_name()), self.object(message, &[])));
        let enums = self.enums.values().map(|values| (short(values.full_name()), self.enumeration(values)));
        messages.chain(enums).collect()
    }

    /// Returns a reference to a message's schema.
    pub(super) fn reference(&self, message: &MessageDescriptor) -> Value {
        json!({"$ref": format!("#/components/schemas/{}", short(message.full_name()))})
    }

    /// Returns a message as an object, without some of its fields.
    pub(super) fn object(&self, message: &MessageDescriptor, without: &[FieldDescriptor]) -> Value {
        let is_elsewhere = |field: &FieldDescriptor| {
            // If one arm of a oneof is elsewhere, the others are not allowed.
            let arms = field.containing_oneof();
            without.contains(field)
                || arms.is_some_and(|oneof| oneof.fields().any(|arm| without.contains(&arm)))
        };
        let fields: Vec<FieldDescriptor> = message.fields().filter(|field| !is_elsewhere(field)).collect();
        let is_from_clients = self.from_clients.contains(message.full_name());
        let is_there = |field: &&FieldDescriptor| {
            if is_from_clients { self.is_required(field) } else { !field.supports_presence() }
        };
        let required: Vec<&str> = fields.iter().filter(is_there).map(FieldDescriptor::json_name).collect();
        let properties: Map<String, Value> =
            fields.iter().map(|field| (field.json_name().to_owned(), self.property(field))).collect();

        let mut schema = json!({"type": "object", "description": self.comments.of_message(message)});
        if !properties.is_empty() {
            schema["properties"] = properties.into();
        }
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        if is_from_clients {
            schema["additionalProperties"] = false.into();
            let choices = self.choices(message, without);
            if !choices.is_empty() {
                schema["allOf"] = choices.into();
            }
        }
        schema
    }

    /// Returns the constraints that one arm must be set of every required oneof. A oneof whose arm is elsewhere is
    /// settled.
    fn choices(&self, message: &MessageDescriptor, without: &[FieldDescriptor]) -> Vec<Value> {
        let open = message.oneofs().filter(|oneof| {
            let rules = oneof.options();
            let rules = rules.get_extension(&self.oneof_rules);
            let is_required = rules
                .as_message()
                .and_then(|rules| rules.get_field_by_name("required")?.as_bool())
                .unwrap_or_default();
            is_required && !oneof.fields().any(|arm| without.contains(&arm))
        });
        open.map(|oneof| {
            let arms = oneof.fields().map(|arm| json!({"required": [arm.json_name()]}));
            json!({"oneOf": arms.collect::<Vec<_>>()})
        })
        .collect()
    }

    /// True when a request without the field would be refused.
    pub(super) fn is_required(&self, field: &FieldDescriptor) -> bool {
        if field.containing_oneof().is_some() {
            return false;
        }
        let rules = Rules::of(field, &self.rules);
        if rules.flag(&["required"]) {
            return true;
        }
        if rules.is_ignored() {
            return false;
        }
        rules.flag(&["string", "uuid"])
            || rules.flag(&["string", "email"])
            || rules.number(&["string", "min_len"]).is_some_and(|min| min > 0.0)
            || rules.number(&["repeated", "min_items"]).is_some_and(|min| min > 0.0)
            || rules.list(&["enum", "not_in"]).contains(&json!(0))
    }

    /// Returns a field of an object, with the other arms of its oneof.
    fn property(&self, field: &FieldDescriptor) -> Value {
        let mut schema = self.field(field);
        let arms = field.containing_oneof().into_iter().flat_map(|oneof| oneof.fields().collect::<Vec<_>>());
        let arms: Vec<String> = arms.map(|arm| format!("`{}`", arm.json_name())).collect();
        if arms.len() > 1 {
            let description = schema["description"].as_str().unwrap_or_default();
            schema["description"] = format!("{description}\n\nAt most one of {}.", arms.join(", ")).into();
        }
        schema
    }

    /// Returns a field with its comment and its rules.
    pub(super) fn field(&self, field: &FieldDescriptor) -> Value {
        let rules = Rules::of(field, &self.rules);
        let mut schema = if field.is_map() {
            self.map(field, &rules)
        } else if field.is_list() {
            self.list(field, &rules)
        } else {
            self.one(&field.kind(), &rules)
        };
        let description = self.comments.of_field(field);
        if !description.is_empty() {
            schema["description"] = description.into();
        }
        schema
    }

    fn list(&self, field: &FieldDescriptor, rules: &Rules) -> Value {
        let items = rules.inside(&["repeated", "items"]);
        let mut schema = json!({"type": "array", "items": self.one(&field.kind(), &items)});
        set(&mut schema, "minItems", rules.number(&["repeated", "min_items"]));
        set(&mut schema, "maxItems", rules.number(&["repeated", "max_items"]));
        if rules.flag(&["repeated", "unique"]) {
            schema["uniqueItems"] = true.into();
        }
        schema
    }

    fn map(&self, field: &FieldDescriptor, rules: &Rules) -> Value {
        let Kind::Message(entry) = field.kind() else { return json!({"type": "object"}) };
        let value = self.one(&entry.map_entry_value_field().kind(), &rules.inside(&["map", "values"]));
        let mut schema = json!({"type": "object", "additionalProperties": value});
        set(&mut schema, "maxProperties", rules.number(&["map", "max_pairs"]));
        schema
    }

    /// Returns the schema of one value.
    fn one(&self, kind: &Kind, rules: &Rules) -> Value {
        match kind {
            Kind::String => text(rules),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Float | Kind::Double => bounded(json!({"type": "number"}), rules, "double"),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                bounded(json!({"type": "integer", "format": "int32"}), rules, "int32")
            }
            Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "minimum": 0}),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                let is_natural = rules.number(&["int64", "gte"]).is_some_and(|least| least >= 0.0);
                let pattern = if is_natural { "^[0-9]{1,19}$" } else { "^-?[0-9]{1,19}$" };
                json!({"type": "string", "format": "int64", "pattern": pattern})
            }
            Kind::Uint64 | Kind::Fixed64 => {
                json!({"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"})
            }
            Kind::Enum(values) => {
                let mut schema =
                    json!({"$ref": format!("#/components/schemas/{}", short(values.full_name()))});
                let refused = rules.list(&["enum", "not_in"]);
                let refused: Vec<Value> = refused
                    .iter()
                    .filter_map(|number| values.get_value(i32::try_from(number.as_i64()?).ok()?))
                    .map(|value| value.name().into())
                    .collect();
                if !refused.is_empty() {
                    schema["not"] = json!({"enum": refused});
                }
                schema
            }
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
                "google.protobuf.Duration" => {
                    json!({"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$", "examples": ["1.5s"]})
                }
                "google.protobuf.FieldMask" => json!({"type": "string", "examples": ["title,topic"]}),
                "google.protobuf.Struct" | "google.protobuf.Empty" => json!({"type": "object"}),
                "google.protobuf.ListValue" => json!({"type": "array"}),
                "google.protobuf.Value" => json!({}),
                _ => self.reference(message),
            },
        }
    }

    fn enumeration(&self, values: &EnumDescriptor) -> Value {
        let file = values.parent_file();
        let mut description = self.comments.of_path(&file, values.path());
        for value in values.values() {
            let comment = self.comments.of_path(&file, value.path());
            description.push_str(&format!("\n* `{}`: {comment}", value.name()));
        }
        let names: Vec<String> = values.values().map(|value| value.name().to_owned()).collect();
        json!({"type": "string", "enum": names, "description": description})
    }
}

/// True for a message that has its own form in JSON, so that it needs no schema.
pub(super) fn is_json_value(message: &MessageDescriptor) -> bool {
    message.full_name().starts_with("google.protobuf.")
}

/// Shortens `parlor.auth.v1.User` to `auth.v1.User`.
fn short(name: &str) -> String {
    name.strip_prefix("parlor.").unwrap_or(name).to_owned()
}

fn set(schema: &mut Value, key: &str, number: Option<f64>) {
    if let Some(number) = number {
        // Whole numbers are written as integers.
        #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small enough")]
        let whole = (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64);
        schema[key] = whole.map_or_else(|| number.into(), Value::from);
    }
}

fn text(rules: &Rules) -> Value {
    let mut schema = json!({"type": "string"});
    if rules.flag(&["string", "uuid"]) {
        schema["format"] = "uuid".into();
    }
    if rules.flag(&["string", "email"]) {
        schema["format"] = "email".into();
    }
    if !rules.is_ignored() {
        set(&mut schema, "minLength", rules.number(&["string", "min_len"]));
    }
    let longest = rules.number(&["string", "max_len"]).or_else(|| rules.number(&["string", "max_bytes"]));
    set(&mut schema, "maxLength", longest);
    if let Some(prefix) = rules.text(&["string", "prefix"]) {
        schema["pattern"] = format!("^{prefix}").into();
    }
    let one_of = rules.list(&["string", "in"]);
    if !one_of.is_empty() {
        schema["enum"] = one_of.into();
    }
    schema
}

fn bounded(mut schema: Value, rules: &Rules, kind: &str) -> Value {
    for (rule, key) in
        [("gte", "minimum"), ("gt", "exclusiveMinimum"), ("lte", "maximum"), ("lt", "exclusiveMaximum")]
    {
        set(&mut schema, key, rules.number(&[kind, rule]));
    }
    schema
}

/// The rules on a field.
struct Rules(Option<DynamicMessage>);

impl Rules {
    fn of(field: &FieldDescriptor, extension: &ExtensionDescriptor) -> Self {
        let options = field.options();
        let has_rules = options.has_extension(extension);
        Self(has_rules.then(|| options.get_extension(extension).as_message().cloned()).flatten())
    }

    /// Returns the rules inside others: those on the items of a list.
    fn inside(&self, path: &[&str]) -> Self {
        Self(self.look(path).and_then(|value| value.as_message().cloned()))
    }

    fn is_ignored(&self) -> bool {
        self.look(&["ignore"]).and_then(|value| value.as_enum_number()).is_some_and(|number| number != 0)
    }

    fn flag(&self, path: &[&str]) -> bool {
        self.look(path).and_then(|value| value.as_bool()).unwrap_or_default()
    }

    fn text(&self, path: &[&str]) -> Option<String> {
        self.look(path).and_then(|value| value.as_str().map(str::to_owned))
    }

    fn number(&self, path: &[&str]) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "bounds are small numbers")]
        match self.look(path)? {
            prost_reflect::Value::U64(number) => Some(number as f64),
            prost_reflect::Value::I64(number) => Some(number as f64),
            prost_reflect::Value::I32(number) => Some(number.into()),
            prost_reflect::Value::F64(number) => Some(number),
            _ => None,
        }
    }

    fn list(&self, path: &[&str]) -> Vec<Value> {
        let items = self.look(path).and_then(|value| value.as_list().map(<[_]>::to_vec)).unwrap_or_default();
        let json = |item: prost_reflect::Value| match item {
            prost_reflect::Value::String(text) => Some(Value::from(text)),
            prost_reflect::Value::I32(number) => Some(Value::from(number)),
            _ => None,
        };
        items.into_iter().filter_map(json).collect()
    }

    /// Returns the value of a rule, if it is set.
    fn look(&self, path: &[&str]) -> Option<prost_reflect::Value> {
        let (first, rest) = path.split_first()?;
        let rules = self.0.as_ref()?;
        let field = rules.descriptor().get_field_by_name(first)?;
        if !rules.has_field(&field) {
            return None;
        }
        let value = rules.get_field(&field).into_owned();
        match rest {
            [] => Some(value),
            _ => Self(value.as_message().cloned()).look(rest),
        }
    }
}
