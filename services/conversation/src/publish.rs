//! Our facts, as others read them.

use bytes::Bytes;
use chassis::events::Events;
use prost::Message;
use proto::conversation::v1 as pb;

use crate::convert::contacts::{request_kind, request_state};
use crate::convert::slow_mode;
use crate::error::Error;
use crate::fact::{Event, Fact};
use crate::member::Removal;

/// A fact as it stands in the outbox: all but the position, which it gets there.
pub fn encode(fact: &Fact) -> Vec<u8> {
    let fact = pb::ConversationFact {
        position: 0,
        event_id: fact.id.to_string(),
        occur_time: Some(fact.occur_time.to_proto()),
        conversation_id: fact.conversation_id.map(|id| id.to_string()).unwrap_or_default(),
        membership_version: fact.membership_version,
        actor_user_id: fact.actor.map(|actor| actor.to_string()).unwrap_or_default(),
        payload: Some(payload(&fact.event)),
    };
    fact.encode_to_vec()
}

/// A fact that stands in the outbox at this position.
pub fn decode(position: i64, payload: &[u8]) -> Result<pb::ConversationFact, Error> {
    let fact = pb::ConversationFact::decode(payload).map_err(|_| Error::Unreadable(position))?;
    Ok(pb::ConversationFact { position, ..fact })
}

/// Wakes those who follow our facts. Only a hint: they look by themselves now and then.
pub fn announce(events: &Events) {
    events.publish(proto::subject::CONVERSATION_FACTS, Bytes::new());
}

fn payload(event: &Event) -> pb::conversation_fact::Payload {
    use pb::conversation_fact::Payload;
    match event {
        Event::Created { kind, title, secure, public_read, members } => {
            Payload::ConversationCreated(pb::ConversationCreated {
                kind: pb::ConversationKind::from(*kind).into(),
                title: title.as_str().to_owned(),
                members: members.iter().map(pb::Member::from).collect(),
                secure: *secure,
                public_read: *public_read,
            })
        }
        Event::Updated { title, topic, slow_mode: wait, secure, public_read } => {
            Payload::ConversationUpdated(pb::ConversationUpdated {
                title: title.as_str().to_owned(),
                topic: topic.as_str().to_owned(),
                slow_mode: slow_mode(*wait),
                secure: *secure,
                public_read: *public_read,
            })
        }
        Event::Deleted { user_ids } => Payload::ConversationDeleted(pb::ConversationDeleted {
            user_ids: user_ids.iter().map(ToString::to_string).collect(),
        }),
        Event::MembersAdded { members } => Payload::MembersAdded(pb::MembersAdded {
            members: members.iter().map(pb::Member::from).collect(),
        }),
        Event::MemberRemoved { user_id, removal } => Payload::MemberRemoved(pb::MemberRemoved {
            user_id: user_id.to_string(),
            reason: reason(*removal).into(),
        }),
        Event::MemberRoleChanged { user_id, role } => Payload::MemberRoleChanged(pb::MemberRoleChanged {
            user_id: user_id.to_string(),
            role: pb::MemberRole::from(*role).into(),
        }),
        Event::RequestChanged { request, only } => Payload::RequestChanged(pb::RequestChanged {
            request_id: request.id.to_string(),
            kind: request_kind(request.kind).into(),
            from_user_id: request.from.to_string(),
            to_user_id: request.to.to_string(),
            state: request_state(request.state).into(),
            version: request.version,
            request_version: request.message.map_or(0, |place| place.request_version),
            only_user_id: only.map(|user| user.to_string()).unwrap_or_default(),
        }),
        Event::ContactBlocked { blocker, blocked } => Payload::ContactBlocked(pb::ContactBlocked {
            blocker_user_id: blocker.to_string(),
            blocked_user_id: blocked.to_string(),
        }),
    }
}

fn reason(removal: Removal) -> pb::RemovalReason {
    match removal {
        Removal::Left => pb::RemovalReason::Left,
        Removal::Removed => pb::RemovalReason::Removed,
        Removal::Banned => pb::RemovalReason::Banned,
        Removal::UserDeleted => pb::RemovalReason::UserDeleted,
    }
}

#[cfg(test)]
mod tests {
    use chassis::clock::Timestamp;
    use proto::id::{ConversationId, EventId, UserId};

    use super::*;

    #[test]
    fn a_fact_is_read_as_it_was_written_and_knows_its_position() {
        let fact = Fact {
            id: EventId::generate(),
            occur_time: Timestamp::from_millis(1234),
            conversation_id: Some(ConversationId::generate()),
            membership_version: 7,
            actor: None,
            event: Event::MemberRemoved { user_id: UserId::generate(), removal: Removal::UserDeleted },
        };
        let read = decode(42, &encode(&fact)).unwrap();
        assert_eq!((read.position, read.membership_version), (42, 7));
        assert_eq!(read.event_id, fact.id.to_string());
        assert_eq!(read.occur_time, Some(Timestamp::from_millis(1234).to_proto()));
        assert_eq!(read.actor_user_id, "");
        let Some(pb::conversation_fact::Payload::MemberRemoved(removed)) = read.payload else {
            panic!("{read:?}")
        };
        assert_eq!(removed.reason(), pb::RemovalReason::UserDeleted);
    }

    #[test]
    fn bytes_that_are_no_fact_are_not_passed_on() {
        assert!(matches!(decode(3, &[0xff]), Err(Error::Unreadable(3))));
    }
}
