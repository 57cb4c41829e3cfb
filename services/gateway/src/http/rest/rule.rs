//! The HTTP rules of the contract: the method and path of each rpc, and the places of the parts of its request.

use anyhow::{Context as _, bail, ensure};
use http::Method;
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    MethodDescriptor,
};
use proto::largest;
use proto::policy::Access;

/// One HTTP binding of an rpc.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The rpc.
    pub rpc: MethodDescriptor,
    /// The HTTP method.
    pub verb: Method,
    /// The path, with the fields that it holds in braces.
    pub path: String,
    /// The fields in the path, in order.
    pub path_fields: Vec<FieldPath>,
    /// The content of the body.
    pub body: Body,
    /// The largest body that the contract allows, in bytes of JSON.
    pub largest_body: usize,
    /// True when it is an additional binding of an rpc that has a main one.
    pub is_additional: bool,
    /// True when the rpc answers users only.
    pub needs_user: bool,
}

/// The content of the body of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    /// No body: the fields that are not in the path are in the query.
    Nothing,
    /// The whole message without the fields in the path.
    Everything,
    /// One field; the others are in the query.
    Field(FieldDescriptor),
}

/// The path to a field, through the messages around it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FieldPath(pub Vec<FieldDescriptor>);

impl FieldPath {
    /// Resolves a dotted name, spelled as in the contract or as in JSON.
    pub(crate) fn resolve(message: &MessageDescriptor, dotted: &str) -> Option<Self> {
        let mut fields: Vec<FieldDescriptor> = Vec::new();
        for name in dotted.split('.') {
            let inside = match fields.last() {
                None => message.clone(),
                Some(outer) if outer.is_list() || outer.is_map() => return None,
                Some(outer) => match outer.kind() {
                    Kind::Message(inner) => inner,
                    _ => return None,
                },
            };
            fields.push(inside.get_field_by_name(name).or_else(|| inside.get_field_by_json_name(name))?);
        }
        Some(Self(fields))
    }

    /// Returns the field at its end.
    pub(crate) fn last(&self) -> Option<&FieldDescriptor> {
        self.0.last()
    }

    /// Returns the name as the contract spells it: `update_mask`, `target.user_id`.
    pub(crate) fn name(&self) -> String {
        self.0.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".")
    }

    /// Returns the name as JSON spells it: `updateMask`.
    pub(crate) fn json_name(&self) -> String {
        self.0.iter().map(FieldDescriptor::json_name).collect::<Vec<_>>().join(".")
    }
}

/// Returns all HTTP bindings of rpcs. Fails on a rule that cannot be implemented, so that the error shows at the start.
pub(crate) fn endpoints(pool: &DescriptorPool) -> anyhow::Result<Vec<Endpoint>> {
    let http = pool
        .get_extension_by_name("google.api.http")
        .context("the contract does not know google.api.http")?;
    let mut endpoints = Vec::new();
    for rpc in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let Some(rule) = rule_of(&rpc, &http) else { continue };
        let context = || format!("the HTTP rule of {}", rpc.full_name());
        ensure!(!rpc.is_client_streaming() && !rpc.is_server_streaming(), "{}: a stream has none", context());
        endpoints.push(endpoint(&rpc, &rule, false).with_context(context)?);
        for further in messages(&rule, "additional_bindings") {
            endpoints.push(endpoint(&rpc, &further, true).with_context(context)?);
        }
    }
    Ok(endpoints)
}

/// Returns the public rpc with this name, `package.Service/Method`: one that can be reached over HTTP.
pub(crate) fn public_rpc(name: &str) -> Option<MethodDescriptor> {
    let pool = proto::pool();
    let (service, method) = name.split_once('/')?;
    let service = pool.get_service_by_name(service)?;
    let rpc = service.methods().find(|rpc| rpc.name() == method)?;
    let http = pool.get_extension_by_name("google.api.http")?;
    rule_of(&rpc, &http).is_some().then_some(rpc)
}

fn rule_of(rpc: &MethodDescriptor, http: &ExtensionDescriptor) -> Option<DynamicMessage> {
    let options = rpc.options();
    options.has_extension(http).then(|| options.get_extension(http).as_message().cloned()).flatten()
}

fn endpoint(rpc: &MethodDescriptor, rule: &DynamicMessage, is_additional: bool) -> anyhow::Result<Endpoint> {
    let (verb, path) = pattern(rule)?;
    let input = rpc.input();
    let path_fields = path_fields(&input, &path)?;
    let body = match text(rule, "body").as_str() {
        "" => Body::Nothing,
        "*" => Body::Everything,
        name => {
            let field =
                input.get_field_by_name(name).with_context(|| format!("the body `{name}` is no field"))?;
            let is_one_message =
                !field.is_list() && !field.is_map() && matches!(field.kind(), Kind::Message(_));
            ensure!(is_one_message, "the body `{name}` is not one message");
            Body::Field(field)
        }
    };
    ensure!(body == Body::Nothing || !matches!(verb, Method::GET | Method::DELETE), "{verb} has no body");
    let largest_body = match &body {
        Body::Nothing => 0,
        Body::Everything => largest::of(&input)?.json,
        Body::Field(field) => match field.kind() {
            Kind::Message(inner) => largest::of(&inner)?.json,
            _ => bail!("the body `{}` is not one message", field.name()),
        },
    };
    let wire = format!("/{}/{}", rpc.parent_service().full_name(), rpc.name());
    let policy = proto::policy::of(&wire).context("has no policy")?;
    let needs_user = policy.access != Access::Anyone;
    Ok(Endpoint { rpc: rpc.clone(), verb, path, path_fields, body, largest_body, is_additional, needs_user })
}

fn pattern(rule: &DynamicMessage) -> anyhow::Result<(Method, String)> {
    let verbs = [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ];
    let mut patterns =
        verbs.into_iter().map(|(name, verb)| (verb, text(rule, name))).filter(|(_, path)| !path.is_empty());
    let pattern = patterns.next().context("has no path")?;
    ensure!(patterns.next().is_none(), "has several paths");
    Ok(pattern)
}

/// Returns the fields in a path. A brace takes one whole segment; other patterns are unsupported.
fn path_fields(input: &MessageDescriptor, path: &str) -> anyhow::Result<Vec<FieldPath>> {
    let segments =
        path.strip_prefix('/').with_context(|| format!("{path} does not begin with a slash"))?.split('/');
    let mut fields = Vec::new();
    for segment in segments {
        let held = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        if let Some(name) = held {
            let field = FieldPath::resolve(input, name).with_context(|| format!("{name} is no field"))?;
            ensure!(
                field.last().is_some_and(|last| !last.is_list() && !matches!(last.kind(), Kind::Message(_))),
                "{name} is not one value"
            );
            fields.push(field);
        } else if segment.is_empty() || segment.contains(['{', '}', '*', ':']) {
            bail!("{path} is a pattern that is not known");
        }
    }
    Ok(fields)
}

fn text(rule: &DynamicMessage, field: &str) -> String {
    rule.get_field_by_name(field).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn messages(rule: &DynamicMessage, field: &str) -> Vec<DynamicMessage> {
    let value = rule.get_field_by_name(field);
    let items = value.as_ref().and_then(|value| value.as_list()).unwrap_or_default();
    items.iter().filter_map(|item| item.as_message().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Endpoint> {
        endpoints(proto::pool()).expect("rules that can be followed")
    }

    #[test]
    fn every_public_rpc_is_reached() {
        let all = all();
        for policy in proto::policy::all().iter().filter(|policy| policy.http) {
            let reached = all.iter().any(|endpoint| {
                format!("/{}/{}", endpoint.rpc.parent_service().full_name(), endpoint.rpc.name())
                    == policy.path
            });
            assert!(reached, "{}", policy.path);
        }
    }

    #[test]
    fn further_ways_are_found() {
        let paths: Vec<String> = all()
            .iter()
            .filter(|endpoint| endpoint.rpc.name() == "SendMessage")
            .map(|endpoint| format!("{} {}", endpoint.verb, endpoint.path))
            .collect();
        assert_eq!(paths, ["POST /v1/conversations/{conversation_id}/messages", "POST /v1/messages"]);
    }

    #[test]
    fn a_field_is_found_by_either_name() {
        let update =
            proto::pool().get_message_by_name("parlor.auth.v1.UpdateUserRequest").expect("a message");
        for dotted in ["user.display_name", "user.displayName"] {
            assert_eq!(FieldPath::resolve(&update, dotted).expect("a field").name(), "user.display_name");
        }
        for dotted in ["", "user.", "user.name", "update_mask.paths.x", "."] {
            assert!(FieldPath::resolve(&update, dotted).is_none(), "{dotted}");
        }
    }

    #[test]
    fn only_what_is_reached_over_http_is_public() {
        assert!(public_rpc("parlor.messaging.v1.MessagingService/EditMessage").is_some());
        for name in [
            "parlor.auth.v1.AuthService/Introspect",
            "parlor.messaging.v1.SyncService/StreamEvents",
            "x/y",
            "x",
            "",
        ] {
            assert!(public_rpc(name).is_none(), "{name}");
        }
    }
}
