//! Generates the checks of messages from the options `buf.validate.field` and `buf.validate.oneof`.
//!
//! The meaning of each rule is protovalidate's. A rule that has no code here, or that does not fit its field, fails the
//! build: a rule that is written down and not enforced would be worse than none.
//!
//! One rule holds for every text without being written down: it has no NUL, which PostgreSQL does not store.

use std::collections::HashSet;
use std::fmt::Write as _;

use anyhow::{Context as _, bail, ensure};
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind,
    MessageDescriptor, OneofDescriptor, Value,
};

use super::names;

/// The checks as Rust code: `Rules` for every message that has rules somewhere below it, `Incoming` for those and for
/// everything that rpcs take and return. It is included in `src/validation.rs`, beside what it uses.
pub fn generate(pool: &DescriptorPool) -> anyhow::Result<String> {
    let generator = Generator::of(pool)?;
    let mut code = String::new();
    for message in ours(pool) {
        if generator.ruled.contains(message.full_name()) {
            code.push_str(&generator.rules(&message)?);
        }
        code.push_str(&generator.incoming(&message)?);
    }
    Ok(code)
}

fn ours(pool: &DescriptorPool) -> impl Iterator<Item = MessageDescriptor> + '_ {
    // Options are read by this program, and sent by nobody.
    pool.all_messages().filter(|message| {
        let package = message.package_name();
        package.starts_with("parlor.") && !package.starts_with("parlor.options.") && !message.is_map_entry()
    })
}

struct Generator {
    field_option: ExtensionDescriptor,
    oneof_option: ExtensionDescriptor,
    /// The messages that have rules, themselves or somewhere below.
    ruled: HashSet<String>,
    /// The messages that rpcs take.
    inputs: HashSet<String>,
    /// The messages that rpcs return.
    outputs: HashSet<String>,
}

/// The rules of one value.
#[derive(Default)]
struct Rules {
    required: bool,
    ignore: Ignore,
    checks: Vec<Check>,
    items: Option<Box<Rules>>,
    keys: Option<Box<Rules>>,
    values: Option<Box<Rules>>,
}

#[derive(Default, PartialEq, Eq)]
enum Ignore {
    #[default]
    Never,
    IfZero,
    Always,
}

/// One condition on a value.
struct Check {
    /// An expression over `value` that must hold.
    holds: String,
    /// What to say when it does not.
    rule: String,
}

impl Check {
    fn new(holds: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { holds: holds.into(), rule: rule.into() }
    }
}

impl Generator {
    fn of(pool: &DescriptorPool) -> anyhow::Result<Self> {
        let extension = |name: &str| {
            pool.get_extension_by_name(name)
                .with_context(|| format!("the option {name} is not in the contract"))
        };
        let methods = || pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let mut generator = Self {
            field_option: extension("buf.validate.field")?,
            oneof_option: extension("buf.validate.oneof")?,
            ruled: HashSet::new(),
            inputs: methods().map(|method| method.input().full_name().to_owned()).collect(),
            outputs: methods().map(|method| method.output().full_name().to_owned()).collect(),
        };
        // A message is checked when something below it is, so this goes on until nothing new is found.
        loop {
            let before = generator.ruled.len();
            for message in ours(pool) {
                if generator.has_rules(&message)? {
                    generator.ruled.insert(message.full_name().to_owned());
                }
            }
            if generator.ruled.len() == before {
                return Ok(generator);
            }
        }
    }

    fn has_rules(&self, message: &MessageDescriptor) -> anyhow::Result<bool> {
        for oneof in message.oneofs() {
            if self.oneof_required(&oneof)? {
                return Ok(true);
            }
        }
        for field in message.fields() {
            if self.field(&field)?.is_some() || self.field_rules(&field)?.required {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The way in: what a decoder calls.
    fn incoming(&self, message: &MessageDescriptor) -> anyhow::Result<String> {
        let name = message.full_name();
        let ruled = self.ruled.contains(name);
        let output = self.outputs.contains(name) && !self.inputs.contains(name);
        if !ruled && !output && !self.inputs.contains(name) {
            return Ok(String::new());
        }
        let mut code = format!("impl Incoming for {} {{\n", names::message(message));
        if output {
            code.push_str("    const REQUEST: bool = false;\n");
        }
        let body = if ruled && !output { "check(self)" } else { "Vec::new()" };
        writeln!(code, "    fn check(&self) -> Vec<Violation> {{ {body} }}\n}}")?;
        Ok(code)
    }

    /// The checks of one message.
    fn rules(&self, message: &MessageDescriptor) -> anyhow::Result<String> {
        let mut body = String::new();
        for field in message.fields().filter(|field| real_oneof(field).is_none()) {
            if let Some(code) = self.field(&field)? {
                body.push_str(&code);
            }
        }
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            body.push_str(&self.oneof(&oneof)?);
        }
        Ok(format!(
            "impl Rules for {} {{\n\
             fn inspect(&self, at: &Path<'_>, report: &mut Report) {{\n{body}}}\n}}\n",
            names::message(message)
        ))
    }

    /// The checks of one field, or nothing when it has none. An arm of a oneof finds its value bound to `value`.
    fn field(&self, field: &FieldDescriptor) -> anyhow::Result<Option<String>> {
        let mut rules =
            self.field_rules(field).with_context(|| format!("the rules of {}", field.full_name()))?;
        if rules.ignore == Ignore::Always {
            // What is in a message that is not looked at is looked at by whoever takes it out.
            if field.kind() != Kind::String {
                return Ok(None);
            }
            rules = Rules::default();
        }
        if !field.is_list() && !field.is_map() {
            rules.checks.extend(text(&field.kind(), &rules.checks, ""));
        }
        let name = names::field(field.name());
        let at = format!("let at = at.field({:?});\n", field.name());

        if field.is_list() || field.is_map() {
            let body = if field.is_list() { self.list(field, &rules) } else { self.map(field, &rules) };
            let guarded = guard(&rules, EMPTY, body);
            return Ok(
                (!guarded.is_empty()).then(|| format!("{{ {at}let value = &self.{name};\n{guarded}}}\n"))
            );
        }

        let mut body = statements(&rules.checks);
        body.push_str(&self.descend(&field.kind()));
        if !field.supports_presence() {
            let guarded = guard(&rules, zero(&field.kind()), body);
            let value = implicit(&field.kind(), &name);
            return Ok((!guarded.is_empty()).then(|| format!("{{ {at}let value = {value};\n{guarded}}}\n")));
        }

        // A field that can be absent: its rules hold for the value that is there, `required` asks for one.
        if rules.ignore == Ignore::IfZero && !matches!(field.kind(), Kind::Message(_)) && !body.is_empty() {
            body = format!("if {} {{\n{body}}}\n", zero(&field.kind()).1);
        }
        let body = if body.is_empty() { body } else { format!("{}{body}", rebind(&field.kind())) };
        if real_oneof(field).is_some() {
            return Ok((!body.is_empty()).then(|| format!("{at}{body}")));
        }
        let absent = if rules.required { "report.add(&at, \"must be set\");\n" } else { "" };
        Ok(match (body.is_empty(), rules.required) {
            (true, false) => None,
            (true, true) => Some(format!("if self.{name}.is_none() {{ {at}{absent}}}\n")),
            (false, false) => Some(format!("if let Some(value) = &self.{name} {{ {at}{body}}}\n")),
            (false, true) => {
                Some(format!("{{ {at}if let Some(value) = &self.{name} {{\n{body}}} else {{ {absent}}} }}\n"))
            }
        })
    }

    fn list(&self, field: &FieldDescriptor, rules: &Rules) -> String {
        let mut body = statements(&rules.checks);
        let items = self.element(field.kind(), rules.items.as_deref(), "");
        if !items.is_empty() {
            body.push_str("for (index, value) in value.iter().enumerate() {\nlet at = at.index(index);\n");
            body.push_str(&rebind(&field.kind()));
            body.push_str(&items);
            body.push_str("}\n");
        }
        body
    }

    fn map(&self, field: &FieldDescriptor, rules: &Rules) -> String {
        let mut body = statements(&rules.checks);
        let Kind::Message(entry) = field.kind() else {
            return body;
        };
        let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let keys = self.element(key.clone(), rules.keys.as_deref(), "key ");
        let values = self.element(value.clone(), rules.values.as_deref(), "");
        if keys.is_empty() && values.is_empty() {
            return body;
        }
        body.push_str("for (key, value) in value {\nlet at = at.key(key);\n");
        if values.is_empty() {
            body.push_str("let _ = value;\n");
        } else {
            write(&mut body, format_args!("{{\n{}{values}}}\n", rebind(&value)));
        }
        if !keys.is_empty() {
            write(&mut body, format_args!("let value = key;\n{}{keys}", rebind(&key)));
        }
        body.push_str("}\n");
        body
    }

    /// The checks of an item of a list, a key or a value of a map. What is wrong with a key is said of the key.
    fn element(&self, kind: Kind, rules: Option<&Rules>, of: &str) -> String {
        let is_ignored = rules.is_some_and(|rules| rules.ignore == Ignore::Always);
        if is_ignored && kind != Kind::String {
            return String::new();
        }
        let rules = rules.filter(|_| !is_ignored);
        let checks = rules.map_or(&[][..], |rules| &rules.checks);
        let mut body = statements(checks);
        body.push_str(&statements(text(&kind, checks, of).as_slice()));
        body.push_str(&self.descend(&kind));
        match rules.map_or(&Ignore::Never, |rules| &rules.ignore) {
            Ignore::IfZero if !body.is_empty() && !matches!(kind, Kind::Message(_)) => {
                format!("if {} {{\n{body}}}\n", zero(&kind).1)
            }
            _ => body,
        }
    }

    /// The call that checks a message inside the message.
    fn descend(&self, kind: &Kind) -> String {
        match kind {
            Kind::Message(message) if self.ruled.contains(message.full_name()) => {
                "value.inspect(&at, report);\n".to_owned()
            }
            _ => String::new(),
        }
    }

    /// The checks of the arms of a oneof, and of whether there is one.
    fn oneof(&self, oneof: &OneofDescriptor) -> anyhow::Result<String> {
        let (name, path) = (names::field(oneof.name()), names::oneof(oneof));
        let (mut cases, mut demands) = (Vec::new(), String::new());
        for field in oneof.fields() {
            let pattern = format!("Some({path}::{}", names::camel(field.name()));
            if let Some(code) = self.field(&field)? {
                cases.push((format!("{pattern}(value))"), code));
            }
            if self.field_rules(&field)?.required {
                write(
                    &mut demands,
                    format_args!(
                        "report.require(matches!(self.{name}, {pattern}(_))), &at.field({:?}), \"must be set\");\n",
                        field.name(),
                    ),
                );
            }
        }
        if self.oneof_required(oneof)? {
            let choices = oneof.fields().map(|field| field.name().to_owned()).collect::<Vec<_>>();
            let rule = format!("must be set: one of {}", choices.join(", "));
            cases
                .push(("None".to_owned(), format!("report.add(&at.field({:?}), {rule:?});\n", oneof.name())));
        }
        let code = match cases.as_slice() {
            [] => String::new(),
            [(pattern, code)] => format!("if let {pattern} = &self.{name} {{\n{code}}}\n"),
            cases => {
                let mut arms = String::new();
                for (pattern, code) in cases {
                    write(&mut arms, format_args!("{pattern} => {{\n{code}}}\n"));
                }
                let exhaustive = cases.len() == oneof.fields().len() + 1;
                let rest = if exhaustive { "" } else { "_ => {}\n" };
                format!("match &self.{name} {{\n{arms}{rest}}}\n")
            }
        };
        Ok(code + &demands)
    }

    fn oneof_required(&self, oneof: &OneofDescriptor) -> anyhow::Result<bool> {
        let options = oneof.options();
        if !options.has_extension(&self.oneof_option) {
            return Ok(false);
        }
        let option = options.get_extension(&self.oneof_option);
        let mut required = false;
        for (rule, value) in option.as_message().context("is not a message")?.fields() {
            match rule.name() {
                "required" => required = value.as_bool().unwrap_or_default(),
                other => bail!("the rules of {}: no code for the rule `{other}`", oneof.full_name()),
            }
        }
        Ok(required)
    }

    fn field_rules(&self, field: &FieldDescriptor) -> anyhow::Result<Rules> {
        let options = field.options();
        if !options.has_extension(&self.field_option) {
            return Ok(Rules::default());
        }
        let option = options.get_extension(&self.field_option);
        let shape = match (field.is_map(), field.is_list()) {
            (true, _) => Shape::Map,
            (_, true) => Shape::List,
            _ => Shape::One,
        };
        Rules::read(option.as_message().context("is not a message")?, &shape, &field.kind())
    }
}

/// What holds for every text, unless its own rules say so already. `of` is what in the field the text is.
fn text(kind: &Kind, checks: &[Check], of: &str) -> Option<Check> {
    const IMPLIED_BY: [&str; 3] = ["is_uuid(", "is_email(", ".contains(&value)"];
    let is_implied = checks.iter().any(|check| IMPLIED_BY.iter().any(|rule| check.holds.contains(rule)));
    let check = || Check::new(r"!value.contains('\0')", format!("{of}must not contain NUL"));
    (*kind == Kind::String && !is_implied).then(check)
}

/// How many values a field holds.
#[derive(PartialEq, Eq)]
enum Shape {
    One,
    List,
    Map,
    /// Not a field: an item of a list, a key or a value of a map.
    Element,
}

impl Rules {
    fn read(option: &DynamicMessage, shape: &Shape, kind: &Kind) -> anyhow::Result<Self> {
        ensure!(
            option.unknown_fields().next().is_none(),
            "there is a rule that validate.proto does not name"
        );
        let mut rules = Self::default();
        for (rule, value) in option.fields() {
            match (rule.name(), value) {
                ("required", value) => {
                    ensure!(*shape != Shape::Element, "`required` says nothing about an item");
                    rules.required = value.as_bool().unwrap_or_default();
                }
                ("ignore", value) => {
                    rules.ignore = match value.as_enum_number() {
                        Some(0) => Ignore::Never,
                        Some(1) => Ignore::IfZero,
                        Some(3) => Ignore::Always,
                        other => bail!("no code for the value {other:?} of `ignore`"),
                    };
                }
                (name, Value::Message(of_type)) => {
                    rules.read_type(name, of_type, shape, kind)?;
                }
                (other, _) => bail!("no code for the rule `{other}`"),
            }
        }
        // What is not looked at need not be there either.
        rules.required &= rules.ignore != Ignore::Always;
        Ok(rules)
    }

    fn read_type(
        &mut self,
        name: &str,
        rules: &DynamicMessage,
        shape: &Shape,
        kind: &Kind,
    ) -> anyhow::Result<()> {
        let fits = match (name, shape, kind) {
            ("repeated", Shape::List, _) | ("map", Shape::Map, _) => true,
            (_, Shape::List | Shape::Map, _) => false,
            ("double", _, Kind::Double)
            | ("int32", _, Kind::Int32)
            | ("int64", _, Kind::Int64)
            | ("string", _, Kind::String)
            | ("bytes", _, Kind::Bytes)
            | ("enum", _, Kind::Enum(_)) => true,
            ("duration", _, Kind::Message(message)) => message.full_name() == "google.protobuf.Duration",
            _ => false,
        };
        ensure!(fits, "`{name}` does not fit the type of the field");
        ensure!(
            rules.unknown_fields().next().is_none(),
            "`{name}` has a rule that validate.proto does not name"
        );
        if matches!(name, "double" | "int32" | "int64" | "duration") {
            self.checks = bounds(name, rules)?;
            return Ok(());
        }
        for (rule, value) in rules.fields() {
            let check = match name {
                "string" => string(rule.name(), value)?,
                "bytes" => bytes(rule.name(), value)?,
                "enum" => {
                    let Kind::Enum(kind) = kind else { bail!("`enum` does not fit the type of the field") };
                    enumeration(rule.name(), value, kind)?
                }
                "repeated" => self.list(rule.name(), value, kind)?,
                "map" => self.map(rule.name(), value, kind)?,
                other => bail!("no code for the rules of type `{other}`"),
            };
            self.checks.extend(check);
        }
        Ok(())
    }

    fn list(&mut self, rule: &str, value: &Value, kind: &Kind) -> anyhow::Result<Vec<Check>> {
        Ok(match (rule, value) {
            ("min_items", Value::U64(least)) => vec![at_least("value.len()", *least, "item")],
            ("max_items", Value::U64(most)) => vec![at_most("value.len()", *most, "item")],
            ("unique", Value::Bool(false)) => vec![],
            ("unique", Value::Bool(true)) => {
                let comparable = !matches!(kind, Kind::Message(_) | Kind::Double | Kind::Float);
                ensure!(comparable, "`repeated.unique` does not fit the type of the items");
                vec![Check::new("is_unique(value)", "must not contain an item twice")]
            }
            ("items", Value::Message(rules)) => {
                self.items =
                    Some(Box::new(Self::read(rules, &Shape::Element, kind).context("`repeated.items`")?));
                vec![]
            }
            (other, _) => bail!("no code for the rule `repeated.{other}`"),
        })
    }

    fn map(&mut self, rule: &str, value: &Value, kind: &Kind) -> anyhow::Result<Vec<Check>> {
        let Kind::Message(entry) = kind else { bail!("`map` does not fit the type of the field") };
        Ok(match (rule, value) {
            ("max_pairs", Value::U64(most)) => vec![at_most("value.len()", *most, "entry")],
            ("keys", Value::Message(rules)) => {
                let key = entry.map_entry_key_field().kind();
                let mut keys = Self::read(rules, &Shape::Element, &key).context("`map.keys`")?;
                for check in &mut keys.checks {
                    check.rule.insert_str(0, "key ");
                }
                self.keys = Some(Box::new(keys));
                vec![]
            }
            ("values", Value::Message(rules)) => {
                let value = entry.map_entry_value_field().kind();
                self.values =
                    Some(Box::new(Self::read(rules, &Shape::Element, &value).context("`map.values`")?));
                vec![]
            }
            (other, _) => bail!("no code for the rule `map.{other}`"),
        })
    }
}

fn string(rule: &str, value: &Value) -> anyhow::Result<Vec<Check>> {
    Ok(match (rule, value) {
        ("min_len", Value::U64(least)) => {
            vec![at_least("value.chars().count()", *least, "character")]
        }
        ("max_len", Value::U64(most)) => vec![at_most("value.chars().count()", *most, "character")],
        ("min_bytes", Value::U64(least)) => vec![at_least("value.len()", *least, "byte")],
        ("max_bytes", Value::U64(most)) => vec![at_most("value.len()", *most, "byte")],
        ("prefix", Value::String(prefix)) => {
            vec![Check::new(format!("value.starts_with({prefix:?})"), format!("must begin with {prefix}"))]
        }
        ("in", Value::List(choices)) => {
            let choices = choices.iter().map(|choice| choice.as_str().context("`string.in` is not text"));
            let choices = choices.collect::<anyhow::Result<Vec<_>>>()?;
            vec![Check::new(
                format!("{choices:?}.contains(&value)"),
                format!("must be one of {}", choices.join(", ")),
            )]
        }
        ("email" | "uuid", Value::Bool(false)) => vec![],
        ("email", Value::Bool(true)) => {
            vec![Check::new("is_email(value)", "must be an e-mail address")]
        }
        ("uuid", Value::Bool(true)) => vec![Check::new("is_uuid(value)", "must be a UUID")],
        (other, _) => bail!("no code for the rule `string.{other}`"),
    })
}

fn bytes(rule: &str, value: &Value) -> anyhow::Result<Vec<Check>> {
    Ok(match (rule, value) {
        ("min_len", Value::U64(least)) => vec![at_least("value.len()", *least, "byte")],
        ("max_len", Value::U64(most)) => vec![at_most("value.len()", *most, "byte")],
        ("len", Value::U64(length)) => vec![Check::new(
            format!("value.len() == {length}"),
            format!("must have exactly {}", count(*length, "byte")),
        )],
        (other, _) => bail!("no code for the rule `bytes.{other}`"),
    })
}

fn enumeration(rule: &str, value: &Value, kind: &EnumDescriptor) -> anyhow::Result<Vec<Check>> {
    Ok(match (rule, value) {
        ("defined_only", Value::Bool(false)) => vec![],
        ("defined_only", Value::Bool(true)) => {
            let mut numbers = kind.values().map(|value| value.number()).collect::<Vec<_>>();
            numbers.sort_unstable();
            numbers.dedup();
            vec![Check::new(format!("{numbers:?}.contains(&value)"), "must be a value that is known")]
        }
        ("not_in", Value::List(numbers)) => {
            let mut checks = Vec::new();
            for number in numbers {
                let number = number.as_i32().context("`enum.not_in` is not a number")?;
                checks.push(Check::new(
                    format!("value != {number}"),
                    format!("must not be {}", short(kind, number)),
                ));
            }
            checks
        }
        (other, _) => bail!("no code for the rule `enum.{other}`"),
    })
}

/// The name of a value without the name of its enum.
fn short(kind: &EnumDescriptor, number: i32) -> String {
    let Some(value) = kind.get_value(number) else {
        return number.to_string();
    };
    let prefix = format!("{}_", names::snake(kind.name()).to_ascii_uppercase());
    value.name().strip_prefix(&prefix).unwrap_or(value.name()).to_owned()
}

/// The bounds of a number or of a span of time.
fn bounds(name: &str, rules: &DynamicMessage) -> anyhow::Result<Vec<Check>> {
    let subject = if name == "duration" { "nanoseconds(value)" } else { "value" };
    let (mut checks, mut least, mut most) = (Vec::new(), None, None);
    for (rule, value) in rules.fields() {
        let (literal, text, order) = bound(value).with_context(|| format!("`{name}.{}`", rule.name()))?;
        let (operator, phrase) = match rule.name() {
            "lt" => ("<", "less than"),
            "lte" => ("<=", "at most"),
            "gt" => (">", "more than"),
            "gte" => (">=", "at least"),
            other => bail!("no code for the rule `{name}.{other}`"),
        };
        if operator.starts_with('<') {
            most = Some(order)
        } else {
            least = Some(order)
        }
        checks
            .push(Check::new(format!("{subject} {operator} {literal}"), format!("must be {phrase} {text}")));
    }
    // In protovalidate bounds the wrong way round mean "outside of": we have no use for that.
    if let (Some(least), Some(most)) = (least, most) {
        ensure!(least <= most, "the bounds of `{name}` leave no value");
    }
    // Each bound refuses NaN by itself: no comparison with it holds.
    Ok(checks)
}

/// A bound as a literal, as text, and as a number by which it is compared with the other bound.
fn bound(value: &Value) -> anyhow::Result<(String, String, f64)> {
    Ok(match value {
        Value::F64(bound) => {
            ensure!(bound.is_finite(), "is not a finite number");
            (format!("{bound:?}_f64"), bound.to_string(), *bound)
        }
        Value::I32(bound) => (format!("{bound}_i32"), bound.to_string(), f64::from(*bound)),
        #[expect(clippy::cast_precision_loss, reason = "only compared with the other bound")]
        Value::I64(bound) => (format!("{bound}_i64"), bound.to_string(), *bound as f64),
        Value::Message(span) => {
            let part = |name: &str| span.get_field_by_name(name).with_context(|| format!("has no {name}"));
            let seconds = part("seconds")?.as_i64().unwrap_or_default();
            let nanos = part("nanos")?.as_i32().unwrap_or_default();
            ensure!(nanos == 0, "is not a whole number of seconds");
            #[expect(clippy::cast_precision_loss, reason = "only compared with the other bound")]
            let order = seconds as f64;
            (format!("{}_i128", i128::from(seconds) * 1_000_000_000), format!("{seconds}s"), order)
        }
        _ => bail!("is not a number and not a span of time"),
    })
}

fn at_least(subject: &str, least: u64, unit: &str) -> Check {
    let holds = if least == 1 { "!value.is_empty()".to_owned() } else { format!("{subject} >= {least}") };
    Check::new(holds, format!("must have at least {}", count(least, unit)))
}

fn at_most(subject: &str, most: u64, unit: &str) -> Check {
    Check::new(format!("{subject} <= {most}"), format!("must have at most {}", count(most, unit)))
}

fn count(number: u64, unit: &str) -> String {
    match (number, unit) {
        (1, unit) => format!("1 {unit}"),
        (number, "entry") => format!("{number} entries"),
        (number, unit) => format!("{number} {unit}s"),
    }
}

/// The checks as statements about `value`.
fn statements(checks: &[Check]) -> String {
    let mut code = String::new();
    for Check { holds, rule } in checks {
        write(&mut code, format_args!("report.require({holds}, &at, {rule:?});\n"));
    }
    code
}

/// What is empty, and what is not.
const EMPTY: (&str, &str) = ("value.is_empty()", "!value.is_empty()");

/// Wraps the checks of a field that has no presence: `required` and `ignore` look at whether it is empty.
fn guard(rules: &Rules, (is_zero, is_set): (&str, &str), body: String) -> String {
    match (rules.required, &rules.ignore, body.is_empty()) {
        (true, _, true) => format!("report.require({is_set}, &at, \"must be set\");\n"),
        (true, _, false) => {
            format!("if {is_zero} {{ report.add(&at, \"must be set\"); }} else {{\n{body}}}\n")
        }
        (false, Ignore::IfZero, false) => format!("if {is_set} {{\n{body}}}\n"),
        _ => body,
    }
}

/// The expressions that say whether `value` is the zero value of its kind, and whether it is another.
fn zero(kind: &Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::String | Kind::Bytes => EMPTY,
        Kind::Bool => ("!value", "value"),
        Kind::Double | Kind::Float => ("value == 0.0", "value != 0.0"),
        _ => ("value == 0", "value != 0"),
    }
}

/// The value of a plain field: numbers by value, everything else by reference.
fn implicit(kind: &Kind, name: &str) -> String {
    match kind {
        Kind::String => format!("self.{name}.as_str()"),
        Kind::Bytes => format!("self.{name}.as_slice()"),
        Kind::Message(_) => format!("&self.{name}"),
        _ => format!("self.{name}"),
    }
}

/// Brings a reference `value` into the same form.
fn rebind(kind: &Kind) -> String {
    match kind {
        Kind::String => "let value = value.as_str();\n",
        Kind::Bytes => "let value = value.as_slice();\n",
        Kind::Message(_) => "",
        _ => "let value = *value;\n",
    }
    .to_owned()
}

/// The oneof that a field is an arm of; not the one that `optional` makes up.
fn real_oneof(field: &FieldDescriptor) -> Option<OneofDescriptor> {
    field.containing_oneof().filter(|oneof| !oneof.is_synthetic())
}

fn write(code: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = code.write_fmt(arguments);
}
