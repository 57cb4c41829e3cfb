//! Users, rooms and messages as clients of this API read them.

use proto::auth::v1::{User, UserKind};
use proto::conversation::v1::{Conversation, ConversationUpdated, MemberRole};
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::Message;
use serde_json::{Value, json};

use super::roles::RoomRoles;
use crate::dialects::people::Named;
use crate::dialects::{ids, text, time};

/// The name of an account that is deleted or unknown: clients need a name.
const NO_NAME: &str = "Deleted user";

/// The name of a sender that is not a user.
const SYSTEM_NAME: &str = "System";

/// Returns a user without the roles in a room.
pub(super) fn user(user: &User) -> Value {
    shown(&user.user_id, Some(user), Vec::new())
}

/// Returns a user of a room. An unknown one is shown with a placeholder name.
pub(super) fn member(id: &str, people: &Named, roles: &RoomRoles) -> Value {
    let user = people.get(id);
    shown(id, user, role_names(user, roles.of(id)))
}

fn shown(id: &str, user: Option<&User>, roles: Vec<&'static str>) -> Value {
    let name = user.map(|user| user.display_name.as_str()).filter(|name| !name.is_empty());
    let picture = user.map(|user| user.picture_url.as_str()).filter(|picture| !picture.is_empty());
    json!({
        "uid": UserId::parse(id).map(|id| ids::uid(id.uuid())).unwrap_or_default(),
        "displayName": name.unwrap_or(if id.is_empty() { SYSTEM_NAME } else { NO_NAME }),
        "picture": picture,
        "countryCode": null,
        "balance": 0,
        "roles": roles,
    })
}

fn role_names(user: Option<&User>, role: Option<MemberRole>) -> Vec<&'static str> {
    let of_room = match role {
        Some(MemberRole::Owner) => Some("owner"),
        Some(MemberRole::Moderator) => Some("mod"),
        _ => None,
    };
    let of_account = user.map(|user| match user.kind() {
        UserKind::Guest => "guest",
        _ => "registered",
    });
    of_room.into_iter().chain(of_account).collect()
}

/// Returns a room.
pub(super) fn room(conversation: &Conversation) -> Value {
    let slow_mode = conversation.slow_mode.as_ref().map_or(0, |wait| wait.seconds);
    json!({
        "uid": room_uid(&conversation.conversation_id),
        "name": conversation.title,
        "description": conversation.topic,
        "slowMode": slow_mode,
    })
}

/// Returns a room after a change.
pub(super) fn changed_room(room_id: ConversationId, changed: &ConversationUpdated) -> Value {
    room(&Conversation {
        conversation_id: room_id.to_string(),
        title: changed.title.clone(),
        topic: changed.topic.clone(),
        slow_mode: changed.slow_mode,
        ..Conversation::default()
    })
}

/// Returns the uid of a room.
pub(super) fn room_uid(id: &str) -> String {
    ConversationId::parse(id).map(|id| ids::uid(id.uuid())).unwrap_or_default()
}

/// Returns the id of a message: it names the room, because the delete request does not.
pub(super) fn message_id(room: &str, sequence: i64) -> String {
    format!("{}-{sequence}", room_uid(room))
}

/// Returns a message of any kind, as a line of text.
pub(super) fn message(message: &Message, people: &Named, roles: &RoomRoles) -> Value {
    let name = |id: &str| Some(people.name(id).to_owned()).filter(|name| !name.is_empty());
    json!({
        "id": message_id(&message.conversation_id, message.sequence),
        "timestamp": time::millis(message.create_time),
        "message": text::line(message.content.as_ref(), name),
        "user": member(&message.sender_id, people, roles),
        "room": room_uid(&message.conversation_id),
    })
}

/// Returns the room and the sequence in an id of a message.
pub(super) fn parse_message_id(id: &str) -> Option<(ConversationId, i64)> {
    let (room, sequence) = id.rsplit_once('-')?;
    let is_number = !sequence.is_empty() && sequence.bytes().all(|byte| byte.is_ascii_digit());
    let sequence = sequence.parse().ok().filter(|sequence: &i64| is_number && *sequence > 0)?;
    Some((ids::parse(room).map(ConversationId::from)?, sequence))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proto::messaging::v1::Content;
    use proto::messaging::v1::content::Kind;

    use super::*;

    #[test]
    fn a_message_is_named_by_its_room_and_sequence() {
        let room = ConversationId::generate();
        let id = message_id(&room.to_string(), 42);
        assert_eq!(id, format!("{}-42", ids::uid(room.uuid())));
        assert_eq!(parse_message_id(&id), Some((room, 42)));
        assert_eq!(parse_message_id(&format!("{room}-42")), Some((room, 42)));
        for id in [
            "",
            "42",
            "-42",
            "x-42",
            &room.to_string(),
            &format!("{room}-0"),
            &format!("{room}-+1"),
            &format!("{room}-"),
        ] {
            assert_eq!(parse_message_id(id), None, "{id}");
        }
    }

    #[test]
    fn every_message_has_a_user() {
        let sender = UserId::generate().to_string();
        let sent = Message {
            conversation_id: ConversationId::generate().to_string(),
            sequence: 7,
            sender_id: sender.clone(),
            content: Some(Content { kind: Some(Kind::Text("hi".to_owned())), attachments: Vec::new() }),
            create_time: Some(time::proto(1_000)),
            ..Message::default()
        };
        let roles = RoomRoles::from(HashMap::from([(sender, MemberRole::Moderator)]));
        let shown = message(&sent, &Named::default(), &roles);
        assert_eq!((&shown["message"], &shown["timestamp"]), (&json!("hi"), &json!(1000)));
        assert_eq!(shown["user"]["displayName"], "Deleted user");
        assert_eq!(shown["user"]["roles"], json!(["mod"]));
        assert_eq!(shown["user"]["uid"].as_str().map(str::len), Some(22));
        let system = message(&Message::default(), &Named::default(), &roles);
        assert_eq!(system["user"]["displayName"], "System");
    }
}
