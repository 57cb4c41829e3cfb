//! The rpcs that may be carried out twice.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost_reflect::MethodDescriptor;
use prost_reflect::prost_types::method_options::IdempotencyLevel;

/// An extension of a request that may be carried out twice, because the service finds out by an id that the caller chose,
/// such as `client_message_id`.
#[derive(Clone, Copy, Debug)]
pub struct Repeatable;

#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    is_read: bool,
    streams_up: bool,
}

static KINDS: LazyLock<HashMap<String, Kind>> = LazyLock::new(|| {
    let http = proto::pool().get_extension_by_name("google.api.http");
    let services = proto::pool().services();
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    let kinds = methods.map(|method| {
        let rule = http.as_ref().filter(|http| method.options().has_extension(http));
        let rule = rule.and_then(|http| method.options().get_extension(http).as_message().cloned());
        let is_get = rule.is_some_and(|rule| rule.has_field_by_name("get"));
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let kind = Kind {
            is_read: is_get || has_no_side_effects(&method),
            streams_up: method.is_client_streaming(),
        };
        (path, kind)
    });
    kinds.collect()
});

fn has_no_side_effects(method: &MethodDescriptor) -> bool {
    let options = method.method_descriptor_proto().options.as_ref();
    options.is_some_and(|options| options.idempotency_level() == IdempotencyLevel::NoSideEffects)
}

/// True for an rpc that changes nothing: one with an HTTP rule for GET, or with the option `idempotency_level` set to
/// `NO_SIDE_EFFECTS`.
pub(super) fn is_read(path: &str) -> bool {
    KINDS.get(path).is_some_and(|kind| kind.is_read)
}

/// True for an rpc whose request is a stream.
pub(super) fn streams_up(path: &str) -> bool {
    KINDS.get(path).is_none_or(|kind| kind.streams_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_streams_are_known_by_the_contract() {
        for read in [
            "/parlor.messaging.v1.SyncService/ListInbox",
            "/parlor.auth.v1.AuthService/Introspect",
            "/parlor.conversation.v1.ConversationService/CheckAccess",
        ] {
            assert!(is_read(read), "{read}");
        }
        for change in [
            "/parlor.auth.v1.AuthService/LoginAsGuest",
            "/parlor.messaging.v1.MessagingService/SendMessage",
            "/parlor.messaging.v1.MessagingService/DeleteMessage",
            "/nothing",
        ] {
            assert!(!is_read(change), "{change}");
        }
        assert!(streams_up("/parlor.messaging.v1.MessagingService/SendMessages"));
        assert!(!streams_up("/parlor.messaging.v1.MessagingService/SendMessage"));
    }
}
