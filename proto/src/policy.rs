//! Who may call what: the option `parlor.options.v1.policy` of every rpc, as a table.

use std::collections::HashMap;
use std::sync::LazyLock;

include!(concat!(env!("OUT_DIR"), "/policy.rs"));

/// Who may call an rpc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The rpc as it is called on the wire, such as `/parlor.auth.v1.AuthService/Login`.
    pub path: &'static str,
    /// The kind of caller that is let in.
    pub access: Access,
    /// The services that may call it with their own credential, for themselves or on behalf of a user.
    pub services: &'static [&'static str],
    /// The services that may call it for the anonymous viewer: with their own credential and without a user.
    pub anonymous_services: &'static [&'static str],
    /// What the calling user must be to the thing that the request names; nothing when any user will do.
    pub relation: Option<Relation>,
    /// How it reads when the relation does not hold; there is one exactly when there is a relation.
    pub refusal: Option<Refusal>,
    /// True when calls are written into the audit log of the service.
    pub audited: bool,
    /// Whether the rpc is reachable over HTTP.
    pub http: bool,
    /// Requests that somebody could send; at least one exactly when it is reachable over HTTP.
    pub examples: &'static [Example],
}

/// A request to an rpc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// What it shows, in a few words; empty when it is the only one.
    pub title: &'static str,
    /// The request in proto JSON. What it leaves open is filled in by [`placeholders::fill`](crate::placeholders::fill).
    pub request: &'static str,
}

/// A kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Everyone, signed in or not.
    Anyone,
    /// Every signed-in user, guests and external accounts included.
    User,
    /// Signed-in users who are neither guests nor external accounts.
    Account,
    /// Only the services that the policy lists.
    Service,
}

/// What a caller is to the thing that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// The thing is the caller's own.
    Own,
    /// A member of the conversation, in any role but banned.
    Member,
    /// A member who may write.
    Writer,
    /// The author of the message.
    Author,
    /// The author of the message, or a moderator or owner of its conversation.
    AuthorOrModerator,
    /// A moderator or owner of the conversation.
    Moderator,
    /// The owner of the conversation.
    Owner,
    /// A member who is not muted.
    Participant,
}

/// How it reads when the relation does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// As if the thing did not exist: `NOT_FOUND`.
    NotFound,
    /// The caller may know that it exists: `PERMISSION_DENIED`.
    PermissionDenied,
}

/// The policy of an rpc, by its path on the wire; nothing for a path that is no rpc of ours.
pub fn of(path: &str) -> Option<&'static Policy> {
    static BY_PATH: LazyLock<HashMap<&'static str, &'static Policy>> =
        LazyLock::new(|| POLICIES.iter().map(|policy| (policy.path, policy)).collect());
    BY_PATH.get(path).copied()
}

/// The policies of all rpcs, ordered by path.
pub fn all() -> &'static [Policy] {
    POLICIES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_has_a_policy() {
        let mut paths = crate::pool()
            .services()
            .flat_map(|service| {
                let name = service.full_name().to_owned();
                service.methods().map(|method| format!("/{name}/{}", method.name())).collect::<Vec<_>>()
            })
            .collect::<Vec<_>>();
        paths.sort();
        assert!(!paths.is_empty());
        assert_eq!(paths, all().iter().map(|policy| policy.path).collect::<Vec<_>>());
        assert!(all().iter().all(|policy| of(policy.path) == Some(policy)));
    }

    #[test]
    fn policies_say_what_the_contract_says() {
        let said = |path: &str| {
            let policy = of(path).expect("a policy");
            (policy.access, policy.services, policy.relation, policy.refusal, policy.http)
        };
        assert_eq!(said("/parlor.auth.v1.AuthService/Login"), (Access::Anyone, &[][..], None, None, true));
        assert_eq!(
            said("/parlor.messaging.v1.MessagingService/SendMessage"),
            (
                Access::User,
                &["scheduling"][..],
                Some(Relation::Writer),
                Some(Refusal::PermissionDenied),
                true
            )
        );
        assert_eq!(of("/parlor.auth.v1.AuthService/Nothing"), None);
    }

    #[test]
    fn every_rpc_of_the_web_has_examples_and_every_kind_of_message_is_sent_in_one() {
        assert!(all().iter().all(|policy| policy.http != policy.examples.is_empty()));
        let send = of("/parlor.messaging.v1.MessagingService/SendMessage").expect("a policy");
        let content = crate::pool().get_message_by_name("parlor.messaging.v1.Content").expect("a message");
        let kinds = content.oneofs().flat_map(|oneof| oneof.fields().collect::<Vec<_>>());
        for field in kinds.chain(content.get_field_by_name("attachments")) {
            // What only services write is in no example.
            let is_for_services = ["schedule", "call", "system"].contains(&field.name());
            let shown = send
                .examples
                .iter()
                .any(|example| example.request.contains(&format!("\"{}\":", field.name())));
            assert_eq!(shown, !is_for_services, "{}", field.name());
        }
    }

    #[test]
    fn examples_leave_open_what_is_known() {
        let mut used = std::collections::HashSet::new();
        for example in all().iter().flat_map(|policy| policy.examples) {
            let filled = crate::placeholders::fill(example.request, crate::placeholders::sample);
            assert!(filled.is_ok_and(|filled| !filled.contains('$')), "{}", example.request);
            used.extend(example.request.split("\"$").skip(1).filter_map(|rest| rest.split('"').next()));
        }
        for (name, _) in crate::placeholders::SAMPLES {
            assert!(used.contains(name), "{name} is used by nobody");
        }
    }

    #[test]
    fn what_is_for_services_is_not_on_the_web() {
        for policy in all().iter().filter(|policy| policy.access == Access::Service) {
            assert!(!policy.http && !policy.services.is_empty(), "{}", policy.path);
        }
    }

    #[test]
    fn only_the_gateway_reads_for_the_anonymous_viewer() {
        let paths = all().iter().filter(|policy| !policy.anonymous_services.is_empty());
        for policy in paths {
            assert_eq!(policy.anonymous_services, ["gateway"], "{}", policy.path);
            assert_eq!(policy.access, Access::User, "{}", policy.path);
        }
        let list = of("/parlor.conversation.v1.ConversationService/ListMembers").expect("a policy");
        assert_eq!((list.services, list.anonymous_services), (&["messaging"][..], &["gateway"][..]));
    }

    #[test]
    fn services_are_services_of_ours() {
        let known = ["auth", "conversation", "messaging", "scheduling", "gateway"];
        for policy in all() {
            let services = policy.services.iter().chain(policy.anonymous_services);
            assert!(services.into_iter().all(|service| known.contains(service)), "{}", policy.path);
        }
    }
}
