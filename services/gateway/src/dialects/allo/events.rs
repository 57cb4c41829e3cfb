//! The translation of conversation events into the events of this API.

use proto::messaging::v1::{DeletionReason, Event, Message, event};
use serde_json::{Value, json};

use super::show;
use crate::dialects::people::Named;
use crate::dialects::time;

/// An event of this API: its name and its data.
pub(super) type Emitted = (&'static str, Value);

/// Returns the ids of the users whom the event names.
pub(super) fn mentioned(event: &Event) -> Vec<&str> {
    use event::Payload;
    match &event.payload {
        Some(Payload::MessageCreated(message) | Payload::MessageEdited(message)) => vec![&message.sender_id],
        Some(Payload::MessagePinned(pinned)) => pinned.pin.iter().map(|pin| pin.user_id.as_str()).collect(),
        Some(Payload::MessageUnpinned(_)) => vec![&event.actor_user_id],
        Some(Payload::ReactionChanged(changed)) => vec![&changed.user_id],
        _ => Vec::new(),
    }
}

/// Returns the events of this API for a conversation event; none for events that this API does not have.
pub(super) fn of(event: &Event, people: &Named) -> Vec<Emitted> {
    use event::Payload;
    match &event.payload {
        Some(Payload::MessageCreated(message)) => created(message, people),
        Some(Payload::MessageEdited(message)) if message.delete_time.is_none() => {
            let edited = json!({
                "messageId": message.message_id,
                "conversationID": event.conversation_id,
                "newMessage": show::words(message, people),
                "editedAt": time::iso(message.edit_time),
            });
            vec![("messageEdited", edited)]
        }
        Some(Payload::MessageDeleted(deleted)) => {
            let name = match deleted.reason() {
                DeletionReason::Unsent => "messageUnsent",
                _ => "messageDeleted",
            };
            vec![(name, gone(&event.conversation_id, &deleted.message_id))]
        }
        Some(Payload::MessagePinned(pinned)) => {
            let pin = pinned.pin.clone().unwrap_or_default();
            let pinned = json!({
                "messageId": pinned.message_id,
                "conversationID": event.conversation_id,
                "pinned": true,
                "pinnedAt": time::iso(pin.pin_time),
                "pinnedBy": show::name(people, &pin.user_id),
            });
            vec![("messagePinned", pinned)]
        }
        Some(Payload::MessageUnpinned(unpinned)) => {
            let unpinned = json!({
                "messageId": unpinned.message_id,
                "conversationID": event.conversation_id,
                "pinned": false,
                "pinnedAt": null,
                "pinnedBy": show::name(people, &event.actor_user_id),
            });
            vec![("messagePinned", unpinned)]
        }
        Some(Payload::ReactionChanged(changed)) if changed.added => {
            let reaction = json!({
                "messageId": changed.message_id,
                "conversationID": event.conversation_id,
                "emoji": changed.emoji,
                "userID": show::name(people, &changed.user_id),
            });
            vec![("messageReaction", reaction)]
        }
        Some(Payload::PollVoted(voted)) => {
            let voted = json!({
                "messageId": voted.message_id,
                "conversationID": event.conversation_id,
                "optionIndex": voted.option_indexes.first(),
                "votes": voted.result.clone().unwrap_or_default().counts,
            });
            vec![("pollVoted", voted)]
        }
        _ => Vec::new(),
    }
}

/// Returns the data of the event of a deleted message.
pub(super) fn gone(conversation: &str, message: &str) -> Value {
    json!({"messageId": message, "conversationID": conversation})
}

fn created(message: &Message, people: &Named) -> Vec<Emitted> {
    // A replay shows a message that was deleted since as its tombstone.
    if message.delete_time.is_some() {
        return Vec::new();
    }
    let mut emitted = vec![("message", show::of_message(message, people))];
    if message.forwarded_from.is_some() {
        let forwarded = json!({
            "messageId": message.message_id,
            "conversationID": message.conversation_id,
            "forwardedAt": time::iso(message.create_time),
        });
        emitted.push(("messageForwarded", forwarded));
    }
    emitted
}

#[cfg(test)]
mod tests {
    use proto::messaging::v1::event::Payload;
    use proto::messaging::v1::{MessageDeleted, Origin, PollResult, PollVoted, ReactionChanged};

    use super::*;

    fn names(payload: Payload) -> Vec<&'static str> {
        let event = Event { payload: Some(payload), ..Event::default() };
        of(&event, &Named::default()).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_forwarded_copy_is_a_message_and_a_forward() {
        let message = Message { forwarded_from: Some(Origin::default()), ..Message::default() };
        assert_eq!(names(Payload::MessageCreated(message)), ["message", "messageForwarded"]);
        assert_eq!(names(Payload::MessageCreated(Message::default())), ["message"]);
        let gone = Message { delete_time: Some(time::proto(1)), ..Message::default() };
        assert!(names(Payload::MessageCreated(gone)).is_empty());
    }

    #[test]
    fn an_unsent_message_has_its_own_event() {
        for (reason, name) in [
            (DeletionReason::Unsent, "messageUnsent"),
            (DeletionReason::Deleted, "messageDeleted"),
            (DeletionReason::Expired, "messageDeleted"),
        ] {
            let deleted = MessageDeleted { reason: reason.into(), ..MessageDeleted::default() };
            assert_eq!(names(Payload::MessageDeleted(deleted)), [name]);
        }
    }

    #[test]
    fn only_new_reactions_are_told() {
        let changed = |added| ReactionChanged { added, ..ReactionChanged::default() };
        assert_eq!(names(Payload::ReactionChanged(changed(true))), ["messageReaction"]);
        assert!(names(Payload::ReactionChanged(changed(false))).is_empty());
    }

    #[test]
    fn a_vote_tells_all_counts() {
        let result = PollResult { counts: vec![1, 2], ..PollResult::default() };
        let voted = PollVoted { option_indexes: vec![1], result: Some(result), ..PollVoted::default() };
        let event = Event { payload: Some(Payload::PollVoted(voted)), ..Event::default() };
        let (_, told) = of(&event, &Named::default()).remove(0);
        assert_eq!((&told["optionIndex"], &told["votes"]), (&json!(1), &json!([1, 2])));
    }
}
