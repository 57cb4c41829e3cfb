//! How often what may be called: the option `parlor.options.v1.rate` of every rpc that clients reach, as a table, and the
//! rate of a single request. The services count; what is counted against which limit stands here.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::id::ConversationId;

include!(concat!(env!("OUT_DIR"), "/rate.rs"));

/// How often an rpc may be called.
#[derive(Debug, Clone)]
pub struct Rate {
    /// The rpc as it is called on the wire, such as `/parlor.auth.v1.AuthService/Login`.
    pub path: &'static str,
    /// The limit that a call counts against.
    pub class: RateClass,
    /// The field of the request that names the conversation that is sent to; there is one exactly for
    /// [`RateClass::Send`].
    pub conversation_field: Option<&'static str>,
    /// The fields that make a list a search: a request without any of them counts as [`RateClass::Read`]. Empty when
    /// every request counts the same.
    pub search_fields: &'static [&'static str],
    /// What an encoded request counts as; `None` when it cannot be decoded.
    decode: fn(&[u8]) -> Option<RequestRate>,
}

/// The limit that a call counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RateClass {
    /// Changes nothing: per user.
    Read,
    /// Changes something: per user. Calls and requests to connect are counted by the service that makes them, too.
    Write,
    /// Sends or edits a message: per user, and per user and conversation.
    Send,
    /// Searches, or makes far more work for others than for the caller: per user.
    Heavy,
    /// Tells others something that is not stored: per user.
    Signal,
    /// Passes a signal of a call on. Counted by the service, per call, and not among the commands of a connection.
    CallSignal,
    /// Signs in: per address.
    Login,
    /// Makes an account: per address.
    Registration,
    /// Comes in as a guest: per address.
    Guest,
    /// Has a code sent, or brings a code or a signature that could be guessed: per address.
    Code,
}

impl RateClass {
    /// Whether calls are counted per user, so that it must be known who calls.
    pub const fn is_per_user(self) -> bool {
        matches!(self, Self::Read | Self::Write | Self::Send | Self::Heavy | Self::Signal)
    }
}

/// The limit that one request counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestRate {
    /// The class of the rpc, or [`RateClass::Read`] for a list that is not narrowed to a search.
    pub class: RateClass,
    /// The conversation that a send goes to, when the request names one by its id.
    pub conversation_id: Option<ConversationId>,
}

/// A request of an rpc that has a rate.
pub trait RatedRequest {
    /// The rate of the rpc.
    const RATE: &'static Rate;

    /// The limit that this request counts against.
    fn request_rate(&self) -> RequestRate {
        RequestRate::of_class(Self::RATE.class)
    }
}

impl Rate {
    /// Whether it takes the request to know what a call counts as.
    pub const fn needs_request(&self) -> bool {
        self.conversation_field.is_some() || !self.search_fields.is_empty()
    }

    /// The limit that an encoded request counts against; `None` when it cannot be decoded.
    pub fn of_message(&self, message: &[u8]) -> Option<RequestRate> {
        (self.decode)(message)
    }
}

impl RequestRate {
    /// What every request of an rpc of this class counts as.
    pub const fn of_class(class: RateClass) -> Self {
        Self { class, conversation_id: None }
    }

    fn send(conversation: Option<&str>) -> Self {
        // A text that is no id is refused by the service; until then it counts for the user.
        let conversation_id = conversation.and_then(|id| ConversationId::parse(id).ok());
        Self { class: RateClass::Send, conversation_id }
    }

    const fn heavy_if(is_search: bool) -> Self {
        Self::of_class(if is_search { RateClass::Heavy } else { RateClass::Read })
    }
}

/// The rate of an rpc, by its path on the wire; nothing for an rpc that clients do not reach.
pub fn of(path: &str) -> Option<&'static Rate> {
    static BY_PATH: LazyLock<HashMap<&'static str, &'static Rate>> =
        LazyLock::new(|| RATES.iter().map(|rate| (rate.path, *rate)).collect());
    BY_PATH.get(path).copied()
}

/// The rates of all rpcs that have one, ordered by path.
pub fn all() -> &'static [&'static Rate] {
    RATES
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use prost::Message;
    use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};

    use super::*;
    use crate::auth::v1::{ListUsersRequest, LoginRequest, UserKind};
    use crate::messaging::v1::send_message_request::Target;
    use crate::messaging::v1::{ForwardMessageRequest, GetMessageRequest, SendMessageRequest};
    use crate::policy::{self, Access};

    fn method(pool: &DescriptorPool, path: &str) -> MethodDescriptor {
        let (service, name) = path.trim_start_matches('/').split_once('/').expect("a path");
        let service = pool.get_service_by_name(service).expect("a service");
        service.methods().find(|method| method.name() == name).expect("a method")
    }

    /// The rate of a request, which is the same by its type and encoded.
    fn rate<M: RatedRequest + Message + Debug>(request: &M) -> RequestRate {
        assert_eq!(M::RATE.of_message(&request.encode_to_vec()), Some(request.request_rate()), "{request:?}");
        request.request_rate()
    }

    fn send(conversation_id: Option<ConversationId>) -> RequestRate {
        RequestRate { class: RateClass::Send, conversation_id }
    }

    #[test]
    fn every_rpc_of_clients_has_a_rate() {
        for policy in policy::all() {
            let is_for_clients = policy.http || policy.access != Access::Service;
            assert!(!is_for_clients || of(policy.path).is_some(), "{}", policy.path);
        }
        for rate in all() {
            let named = |found: Option<&Rate>| found.map(|rate| rate.path);
            assert_eq!(named(of(rate.path)), Some(rate.path));
            let request = DynamicMessage::new(method(crate::pool(), rate.path).input());
            let fields = rate.conversation_field.iter().chain(rate.search_fields);
            for field in fields {
                assert!(!request.has_field_by_name(field), "{}: {field}", rate.path);
                assert!(request.get_field_by_name(field).is_some(), "{}: {field}", rate.path);
            }
        }
        assert!(all().is_sorted_by_key(|rate| rate.path));
        assert!(of("/parlor.auth.v1.AuthService/Introspect").is_none());
        assert!(of("/parlor.auth.v1.AuthService/Nothing").is_none());
    }

    /// A call that needs no session and opens or sends something counts for the address that it comes from.
    #[test]
    fn what_needs_no_session_is_counted_per_address() {
        let of_strangers = policy::all().iter().filter(|policy| policy.access == Access::Anyone);
        let rates = of_strangers.filter_map(|policy| of(policy.path));
        let mut rates: Vec<_> = rates.map(|rate| (rate.path, rate.class)).collect();
        rates.retain(|(_, class)| *class != RateClass::Read);
        let expected = [
            ("/parlor.auth.v1.AuthService/Login", RateClass::Login),
            ("/parlor.auth.v1.AuthService/LoginAsGuest", RateClass::Guest),
            ("/parlor.auth.v1.AuthService/LoginWithProvider", RateClass::Login),
            // Takes a token, which cannot be guessed. The limit on what comes without a session holds for it.
            ("/parlor.auth.v1.AuthService/RefreshSession", RateClass::Write),
            ("/parlor.auth.v1.AuthService/Register", RateClass::Registration),
            ("/parlor.auth.v1.BackgroundCheckService/ReportBackgroundCheck", RateClass::Code),
            ("/parlor.auth.v1.OtpService/GenerateOtp", RateClass::Code),
            ("/parlor.auth.v1.OtpService/ResetPassword", RateClass::Code),
            ("/parlor.auth.v1.OtpService/VerifyOtp", RateClass::Code),
            // Takes a ticket, which cannot be guessed.
            ("/parlor.messaging.v1.UploadService/WriteUpload", RateClass::Write),
        ];
        assert_eq!(rates, expected);
    }

    #[test]
    fn a_send_counts_for_the_conversation_that_it_goes_to() {
        let (from, to) = (ConversationId::generate(), ConversationId::generate());
        let target = |target| SendMessageRequest { target, ..SendMessageRequest::default() };
        assert_eq!(rate(&target(Some(Target::ConversationId(to.to_string())))), send(Some(to)));
        assert_eq!(rate(&target(Some(Target::ConversationId("general".to_owned())))), send(None));
        assert_eq!(rate(&target(Some(Target::UserId(to.to_string())))), send(None));
        assert_eq!(rate(&target(None)), send(None));
        let forward = ForwardMessageRequest {
            conversation_id: from.to_string(),
            target_conversation_id: to.to_string(),
            ..ForwardMessageRequest::default()
        };
        assert_eq!(rate(&forward), send(Some(to)));
    }

    #[test]
    fn a_list_that_is_narrowed_is_a_search() {
        let any = ListUsersRequest::default;
        for heavy in [
            ListUsersRequest { keyword: "ann".to_owned(), ..any() },
            ListUsersRequest { email: "ann@example.org".to_owned(), ..any() },
            ListUsersRequest { kind: UserKind::Guest.into(), ..any() },
            ListUsersRequest { age: 70, ..any() },
            ListUsersRequest { interest_ids: vec!["tea".to_owned()], ..any() },
        ] {
            assert_eq!(rate(&heavy).class, RateClass::Heavy, "{heavy:?}");
        }
        for light in [any(), ListUsersRequest { page_size: 20, page_token: "next".to_owned(), ..any() }] {
            assert_eq!(rate(&light).class, RateClass::Read, "{light:?}");
        }
    }

    /// A field that narrows the list of users makes it a search, unless it is listed here with a reason.
    #[test]
    fn what_narrows_the_list_of_users_is_a_search() {
        let input = method(crate::pool(), ListUsersRequest::RATE.path).input();
        let light = ["page_size", "page_token"];
        for field in input.fields() {
            let mut request = DynamicMessage::new(input.clone());
            let value = match field.kind() {
                _ if field.is_list() => Value::List(vec![Value::String("tea".to_owned())]),
                prost_reflect::Kind::String => Value::String("ann".to_owned()),
                prost_reflect::Kind::Enum(_) => Value::EnumNumber(1),
                _ => Value::I32(70),
            };
            request.set_field(&field, value);
            let expected = if light.contains(&field.name()) { RateClass::Read } else { RateClass::Heavy };
            let rate = ListUsersRequest::RATE.of_message(&request.encode_to_vec());
            assert_eq!(rate.map(|rate| rate.class), Some(expected), "{}", field.name());
        }
    }

    #[test]
    fn other_requests_count_as_their_rpc() {
        assert_eq!(rate(&LoginRequest::default()), RequestRate::of_class(RateClass::Login));
        assert_eq!(rate(&GetMessageRequest::default()), RequestRate::of_class(RateClass::Read));
    }
}
