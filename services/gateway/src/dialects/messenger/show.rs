//! Users and messages as this API shows them.

use proto::auth::v1::User;
use proto::messaging::v1::Message;
use serde_json::{Value, json};

use super::NAMESPACE;
use crate::dialects::people::Named;
use crate::dialects::{text, time};

/// Returns the id of a user: the name of a predefined account of this API, otherwise the UUID.
pub(super) fn account_id(user: &User) -> &str {
    match &user.external_account {
        Some(account) if account.namespace == NAMESPACE => &account.name,
        _ => &user.user_id,
    }
}

/// Returns a user. A deleted one has no name.
pub(super) fn account(people: &Named, id: &str) -> Value {
    match people.get(id) {
        Some(user) => json!({"id": account_id(user), "name": user.display_name}),
        None => json!({"id": id, "name": ""}),
    }
}

/// Returns a message. Its id is its sequence in the conversation.
pub(super) fn message(message: &Message, people: &Named) -> Value {
    let name = |id: &str| people.get(id).map(|user| user.display_name.clone());
    json!({
        "id": message.sequence.to_string(),
        "sender": account(people, &message.sender_id),
        "text": text::line(message.content.as_ref(), name),
        "ts": time::millis(message.create_time),
        "createdAt": time::iso(message.create_time),
    })
}
