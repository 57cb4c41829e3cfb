//! Generates the table of how often what may be called from the option `parlor.options.v1.rate`, and for each request what
//! it counts as. Refuses contradictions.

use std::collections::HashSet;
use std::fmt::Write as _;

use anyhow::{Context as _, bail, ensure};
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    MethodDescriptor,
};

use super::{names, policy};

/// The classes that count per address, which is all that is known of a caller without a session.
const PER_ADDRESS: [&str; 4] = ["Login", "Registration", "Guest", "Code"];

/// The table as Rust code: the slice `RATES`, ordered by path, and `RatedRequest` for the request of each rpc in it.
pub fn generate(pool: &DescriptorPool) -> anyhow::Result<String> {
    let options = Options::of(pool)?;
    let mut rates = Vec::new();
    for service in pool.services().filter(|service| service.package_name().starts_with("parlor.")) {
        for method in service.methods() {
            let rate = options.rate(&method);
            rates.extend(rate.with_context(|| format!("the rate of {}", method.full_name()))?);
        }
    }
    rates.sort_by(|one, other| one.path.cmp(&other.path));
    let mut requests = HashSet::new();
    for rate in &rates {
        let request = rate.request.full_name();
        ensure!(requests.insert(request), "the rate of {}: {request} has one by another rpc", rate.path);
    }

    let mut code = String::new();
    for rate in &rates {
        code.push_str(&rate.implementation()?);
    }
    code.push_str("static RATES: &[&Rate] = &[\n");
    for rate in &rates {
        writeln!(code, "    <{} as RatedRequest>::RATE,", names::message(&rate.request))?;
    }
    code.push_str("];\n");
    Ok(code)
}

/// The rate of one rpc.
struct Rate {
    path: String,
    request: MessageDescriptor,
    class: String,
    conversation: Option<FieldDescriptor>,
    search: Vec<FieldDescriptor>,
}

/// The options of a method that the table is made from.
struct Options {
    rate: ExtensionDescriptor,
    policy: ExtensionDescriptor,
    http: ExtensionDescriptor,
}

impl Options {
    fn of(pool: &DescriptorPool) -> anyhow::Result<Self> {
        let extension = |name: &str| {
            pool.get_extension_by_name(name)
                .with_context(|| format!("the option {name} is not in the contract"))
        };
        Ok(Self {
            rate: extension("parlor.options.v1.rate")?,
            policy: extension("parlor.options.v1.policy")?,
            http: extension("google.api.http")?,
        })
    }

    /// The rate of an rpc; nothing for one that only services reach.
    fn rate(&self, method: &MethodDescriptor) -> anyhow::Result<Option<Rate>> {
        let options = method.options();
        let http = options.has_extension(&self.http);
        let (option, policy) = (options.get_extension(&self.rate), options.get_extension(&self.policy));
        let policy = policy.as_message().context("needs a policy")?;
        let access = policy::value(policy, "access", "ACCESS_")?.unwrap_or_default();
        let is_for_services = access == "Service";
        if !options.has_extension(&self.rate) {
            ensure!(
                is_for_services && !http,
                "is missing: every rpc that clients reach says how often it may be called"
            );
            return Ok(None);
        }
        let option = option.as_message().context("is not a message")?;
        let services = policy::services(policy, "services")?;
        ensure!(
            !is_for_services || services.iter().any(|service| service == "gateway"),
            "counts callers, and has services only"
        );

        let Some(class) = policy::value(option, "class", "RATE_CLASS_")? else { bail!("has no class") };
        let is_for_users = matches!(access.as_str(), "User" | "Account");
        if PER_ADDRESS.contains(&class.as_str()) {
            ensure!(!is_for_users, "counts per address and is for users");
        }
        if matches!(class.as_str(), "Send" | "Heavy") {
            ensure!(is_for_users, "counts per user and is not for users only");
        }
        if let Some(verb) = self.verb(&options) {
            let changes = !matches!(class.as_str(), "Read" | "Heavy");
            ensure!(!(changes && verb == "get"), "is GET, which changes nothing");
            ensure!(class != "Read" || matches!(verb.as_str(), "get" | "post"), "reads and is {verb}");
        }

        let request = method.input();
        let conversation = match text(option, "conversation_field")? {
            name if name.is_empty() => None,
            name => Some(field(&request, &name)?),
        };
        ensure!(conversation.is_some() == (class == "Send"), "names a conversation exactly when it sends");
        if let Some(field) = &conversation {
            let is_text = !field.is_list() && matches!(field.kind(), Kind::String);
            ensure!(is_text, "counts by {}, which is not the id of a conversation", field.name());
        }

        let search = option.get_field_by_name("search_fields").context("knows no search_fields")?;
        let search = search.as_list().unwrap_or_default().iter();
        let search = search.map(|name| field(&request, name.as_str().unwrap_or_default()));
        let search = search.collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(search.is_empty() || class == "Heavy", "has fields that make it a search and is not heavy");
        let mut found = HashSet::new();
        for field in &search {
            ensure!(found.insert(field.number()), "has {} twice", field.name());
        }

        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        Ok(Some(Rate { path, request, class, conversation, search }))
    }

    /// The method of the HTTP rule.
    fn verb(&self, options: &DynamicMessage) -> Option<String> {
        let rule = options.has_extension(&self.http).then(|| options.get_extension(&self.http))?;
        let oneof = rule.as_message()?.fields().find(|(field, _)| field.containing_oneof().is_some());
        oneof.map(|(field, _)| field.name().to_owned())
    }
}

impl Rate {
    /// `RatedRequest` for the request.
    fn implementation(&self) -> anyhow::Result<String> {
        let request = names::message(&self.request);
        let conversation = self.conversation.as_ref().map(FieldDescriptor::name);
        let search = self.search.iter().map(FieldDescriptor::name).collect::<Vec<_>>();
        let mut code = format!(
            "impl RatedRequest for {request} {{\n\
             const RATE: &'static Rate = &Rate {{ path: {:?}, class: RateClass::{}, conversation_field: {conversation:?}, search_fields: &{search:?}, decode: |message| <Self as prost::Message>::decode(message).ok().map(|request| request.request_rate()) }};\n",
            self.path, self.class,
        );
        if let Some(field) = &self.conversation {
            writeln!(
                code,
                "fn request_rate(&self) -> RequestRate {{ RequestRate::send({}) }}",
                text_of(field)
            )?;
        }
        if !self.search.is_empty() {
            let is_search = self.search.iter().map(is_set).collect::<Vec<_>>().join(" || ");
            writeln!(code, "fn request_rate(&self) -> RequestRate {{ RequestRate::heavy_if({is_search}) }}")?;
        }
        code.push_str("}\n");
        Ok(code)
    }
}

/// The text of a field of `self` as an `Option<&str>`, empty when it is not set.
fn text_of(field: &FieldDescriptor) -> String {
    match field.containing_oneof() {
        Some(oneof) if !oneof.is_synthetic() => {
            let (name, arm) = (names::field(oneof.name()), names::camel(field.name()));
            let path = names::oneof(&oneof);
            format!("match &self.{name} {{ Some({path}::{arm}(value)) => Some(value.as_str()), _ => None }}")
        }
        Some(_) => format!("self.{}.as_deref()", names::field(field.name())),
        None => format!("Some(self.{}.as_str())", names::field(field.name())),
    }
}

/// Whether a field of `self` is set, as a condition.
fn is_set(field: &FieldDescriptor) -> String {
    let name = names::field(field.name());
    match field.containing_oneof() {
        Some(oneof) if !oneof.is_synthetic() => {
            let arm = names::camel(field.name());
            format!(
                "matches!(&self.{}, Some({}::{arm}(_)))",
                names::field(oneof.name()),
                names::oneof(&oneof)
            )
        }
        _ if field.is_list() || field.is_map() => format!("!self.{name}.is_empty()"),
        _ if field.supports_presence() => format!("self.{name}.is_some()"),
        _ => match field.kind() {
            Kind::String | Kind::Bytes => format!("!self.{name}.is_empty()"),
            Kind::Bool => format!("self.{name}"),
            Kind::Double | Kind::Float => format!("self.{name} != 0.0"),
            _ => format!("self.{name} != 0"),
        },
    }
}

fn field(request: &MessageDescriptor, name: &str) -> anyhow::Result<FieldDescriptor> {
    request.get_field_by_name(name).with_context(|| format!("names {name}, which is no field of the request"))
}

fn text(option: &DynamicMessage, field: &str) -> anyhow::Result<String> {
    let value = option.get_field_by_name(field).with_context(|| format!("knows no {field}"))?;
    Ok(value.as_str().unwrap_or_default().to_owned())
}
