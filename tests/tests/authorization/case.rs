//! What is asked: the rpcs of the policy table, each with its examples, and those that are about a message with every
//! kind of message.

use prost_reflect::MethodDescriptor;
use proto::policy::{self, Example, Policy, Relation};
use serde_json::{Value, json};

use crate::door::{DOORS, Door};
use crate::rows;

/// A request to an rpc, with places for the ids of a scene.
#[derive(Clone, Debug)]
pub struct Case {
    /// Who may send it.
    pub policy: &'static Policy,
    /// Where it goes.
    pub rpc: MethodDescriptor,
    /// What it shows; empty for the only one.
    pub title: String,
    /// What is sent.
    pub request: String,
    /// The title of the send that makes its message, when it is not about a text.
    pub kind: Option<&'static str>,
    /// Whether what it names of the caller's own is somebody else's.
    pub is_foreign: bool,
}

/// What is a caller's own, by the names of its places.
const OWN: [&str; 11] = [
    "session",
    "device_key",
    "alert",
    "asking",
    "asked",
    "writing",
    "written",
    "reviewed",
    "schedule",
    "call",
    "accepted_call",
];

/// What belongs to the conversation of a scene.
const IN_SCENE: [&str; 6] = ["conversation", "message", "poll", "report", "scheduled_message", "upload"];

/// The rpc of a path on the wire.
///
/// # Panics
/// When there is none.
pub fn rpc(path: &str) -> MethodDescriptor {
    let (service, name) = path.trim_start_matches('/').split_once('/').expect("a path");
    let service = proto::pool().get_service_by_name(service).expect("a service");
    service.methods().find(|rpc| rpc.name() == name).expect("an rpc")
}

/// The examples of `SendMessage` that are about a conversation: one for each kind of message, and more.
pub fn kinds() -> impl Iterator<Item = &'static Example> {
    let send = policy::of("/parlor.messaging.v1.MessagingService/SendMessage").expect("a policy");
    send.examples.iter().filter(|example| example.request.contains("$conversation"))
}

impl Case {
    /// All that is asked of an rpc.
    pub fn all_of(policy: &'static Policy) -> Vec<Self> {
        let rpc = rpc(policy.path);
        let case = |title: &str, request: &str| Self {
            policy,
            rpc: rpc.clone(),
            title: title.to_owned(),
            request: request.to_owned(),
            kind: None,
            is_foreign: false,
        };
        let mut cases: Vec<Self> = match policy.examples {
            [] => vec![case("", rows::request_without_example(rpc.name()))],
            examples => examples.iter().map(|example| case(example.title, example.request)).collect(),
        };
        if matches!(rpc.name(), "EditMessage" | "ForwardMessage") {
            let template = cases.remove(0);
            cases = kinds().map(|kind| template.of_kind(kind)).collect();
        }
        cases.extend(Self::foreign(&cases));
        cases
    }

    /// A request of another API that stands for an rpc; and the same about what is another user's.
    pub fn like(policy: &'static Policy, title: &str, request: &str) -> Vec<Self> {
        let mut cases = vec![Self {
            policy,
            rpc: rpc(policy.path),
            title: title.to_owned(),
            request: request.to_owned(),
            kind: None,
            is_foreign: false,
        }];
        cases.extend(Self::foreign(&cases));
        cases
    }

    /// The cases about the caller's own, about what is another user's.
    fn foreign(cases: &[Self]) -> Vec<Self> {
        let own = cases.iter().filter(|case| {
            case.policy.relation == Some(Relation::Own) && OWN.iter().any(|name| case.has(name))
        });
        let foreign = own.map(|case| Self {
            title: format!("{} of somebody else", case.title).trim_start().to_owned(),
            is_foreign: true,
            ..case.clone()
        });
        foreign.collect()
    }

    /// The same about a message of this kind; an edit keeps the kind.
    fn of_kind(&self, kind: &'static Example) -> Self {
        let mut request: Value = serde_json::from_str(&self.request).expect("JSON");
        if request.get("content").is_some() {
            let send: Value = serde_json::from_str(kind.request).expect("JSON");
            request["content"] = send["content"].clone();
        }
        Self {
            title: kind.title.to_owned(),
            request: request.to_string(),
            kind: Some(kind.title),
            ..self.clone()
        }
    }

    /// The name of its service.
    pub fn service(&self) -> String {
        self.rpc.parent_service().name().to_owned()
    }

    /// Whether the request leaves a place for this.
    pub fn has(&self, name: &str) -> bool {
        self.request.contains(&format!("\"${name}\""))
    }

    /// Whether it names something of the scene's conversation.
    pub fn is_in_scene(&self) -> bool {
        IN_SCENE.iter().any(|name| self.has(name))
    }

    /// Whether it may change something.
    pub fn changes(&self) -> bool {
        let http = proto::pool().get_extension_by_name("google.api.http").expect("an option");
        let rule = self.rpc.options().get_extension(&http).as_message().cloned();
        rule.is_some_and(|rule| {
            rule.get_field_by_name("get").is_none_or(|path| path.as_str().is_none_or(str::is_empty))
        })
    }

    /// Whether it changes who is in the conversation, or what everybody sees of it.
    pub fn changes_conversation(&self) -> bool {
        self.service() == "ConversationService" || self.rpc.name() == "PurgeMessages"
    }

    /// Whether it changes the caller's own account, or what it has with another person: of that there is only one at a
    /// time.
    pub fn changes_account(&self) -> bool {
        match self.service().as_str() {
            "AuthService" | "UserService" => self.changes(),
            // An export takes a session that is not old.
            "ExportService"
            | "ConnectionService"
            | "ReviewService"
            | "CalendarService"
            | "CallService"
            | "BackgroundCheckService" => true,
            _ => false,
        }
    }

    /// The name of its place for something that is the caller's own.
    pub fn own(&self) -> Option<&'static str> {
        OWN.into_iter().find(|name| self.has(name))
    }

    /// The doors that lead to it.
    pub fn doors(&self) -> &'static [Door] {
        if self.policy.http { &DOORS } else { &[Door::Grpc] }
    }

    /// How a failure names it.
    pub fn name(&self) -> String {
        format!("{} {}", self.rpc.name(), self.title).trim_end().to_owned()
    }

    /// The request with every id in a field of this name replaced.
    pub fn with(&self, field: &str, place: &str) -> Option<Self> {
        let mut request: Value = serde_json::from_str(&self.request).expect("JSON");
        let value = request.get_mut(field)?;
        *value = json!(place);
        Some(Self { request: request.to_string(), ..self.clone() })
    }
}
