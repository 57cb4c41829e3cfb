//! The subjects of the event bus: what is said where. Everything on the bus is a hint that may be lost, doubled or late.

use crate::id::{ConversationId, UserId};

/// Auth's outbox has grown. The payload is empty.
pub const AUTH_FACTS: &str = "parlor.auth.v1.facts";

/// Conversation's outbox has grown. The payload is empty.
pub const CONVERSATION_FACTS: &str = "parlor.conversation.v1.facts";

/// Sessions have ended: an encoded [`SessionsEnded`](crate::auth::v1::SessionsEnded).
pub const SESSIONS_ENDED: &str = "parlor.auth.v1.sessions_ended";

/// What happens in a conversation: an encoded [`Notice`](crate::messaging::v1::Notice).
pub fn conversation(id: ConversationId) -> String {
    format!("parlor.messaging.v1.conversation.{id}")
}

/// What happens to a user: an encoded [`Notice`](crate::messaging::v1::Notice).
pub fn user(id: UserId) -> String {
    format!("parlor.messaging.v1.user.{id}")
}

/// What happens to the calls of a user: an encoded [`CallEvent`](crate::scheduling::v1::CallEvent).
pub fn calls(id: UserId) -> String {
    format!("parlor.scheduling.v1.user.{id}")
}

/// The services whose subjects a service hears or publishes on, the service's own included; none for a name that is no
/// service's. Each has a key of its own, by which what it publishes over NATS is authenticated.
pub fn publishers(service: &str) -> &'static [&'static str] {
    match service {
        "auth" => &["auth"],
        "conversation" => &["auth", "conversation"],
        "messaging" => &["auth", "conversation", "messaging"],
        "scheduling" => &["auth", "conversation", "scheduling"],
        "gateway" => &["auth", "messaging", "scheduling"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_run_from_broad_to_narrow() {
        let (conversation_id, user_id) = (ConversationId::generate(), UserId::generate());
        assert_eq!(
            conversation(conversation_id),
            format!("parlor.messaging.v1.conversation.{conversation_id}")
        );
        assert_eq!(user(user_id), format!("parlor.messaging.v1.user.{user_id}"));
        assert_eq!(calls(user_id), format!("parlor.scheduling.v1.user.{user_id}"));
    }

    #[test]
    fn subjects_begin_with_the_package_that_speaks() {
        for subject in [AUTH_FACTS, CONVERSATION_FACTS, SESSIONS_ENDED] {
            let package = subject.rsplit_once('.').map(|(package, _)| package);
            let known = crate::pool().services().any(|service| Some(service.package_name()) == package);
            assert!(known, "{subject}");
        }
    }
}
