//! The facts of others in our words. The reader of facts puts aside one that cannot be read.

use chassis::clock::Timestamp;
use prost::Message as _;
use proto::auth::v1::{ReviewChange, UserFact, user_fact};
use proto::conversation::v1::{
    ConversationFact, RemovalReason, RequestKind, RequestState, conversation_fact,
};
use proto::id::{ConversationId, InvalidId, UserId};
use proto::messaging::v1 as pb;
use uuid::Uuid;

use crate::alert::{Effect, News};
use crate::event::{Fact, FactKind};
use crate::people::PersonFact;
use crate::request::{RequestChange, Waits};

/// A fact that says what this version does not know, or what makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fact that this version does not know, or one about nobody")]
pub struct Unreadable;

impl TryFrom<ConversationFact> for Fact {
    type Error = Unreadable;

    fn try_from(fact: ConversationFact) -> Result<Self, Unreadable> {
        use conversation_fact::Payload as From;
        use pb::event::Payload as To;
        let occur_time = fact_time(fact.occur_time.as_ref());
        let (mut gained, mut lost) = (Vec::new(), Vec::new());
        let mut gain = |members: &[proto::conversation::v1::Member]| {
            for member in members {
                let since = member.join_time.as_ref().and_then(Timestamp::from_proto).unwrap_or(occur_time);
                gained.push((fact_user(&member.user_id)?, since));
            }
            Ok::<_, Unreadable>(())
        };
        let (kind, payload) = match fact.payload {
            Some(From::ConversationCreated(created)) => {
                gain(&created.members)?;
                (FactKind::Created, To::ConversationCreated(created))
            }
            Some(From::ConversationUpdated(updated)) => (FactKind::Updated, To::ConversationUpdated(updated)),
            Some(From::ConversationDeleted(deleted)) => {
                for user in &deleted.user_ids {
                    lost.push((fact_user(user)?, RemovalReason::Unspecified.into()));
                }
                (FactKind::Deleted, To::ConversationDeleted(deleted))
            }
            Some(From::MembersAdded(added)) => {
                gain(&added.members)?;
                (FactKind::MembersAdded, To::MembersAdded(added))
            }
            Some(From::MemberRemoved(removed)) => {
                lost.push((fact_user(&removed.user_id)?, removed.reason));
                (FactKind::MemberRemoved, To::MemberRemoved(removed))
            }
            Some(From::MemberRoleChanged(changed)) => (FactKind::RoleChanged, To::MemberRoleChanged(changed)),
            // What is between people is none of the conversation's log.
            Some(From::RequestChanged(_) | From::ContactBlocked(_)) | None => {
                return Err(Unreadable);
            }
        };
        Ok(Self {
            conversation: ConversationId::parse(&fact.conversation_id).map_err(|InvalidId| Unreadable)?,
            membership_version: fact.membership_version,
            occur_time,
            actor: UserId::parse(&fact.actor_user_id).ok(),
            kind,
            payload: pb::Event { payload: Some(payload), ..pb::Event::default() }.encode_to_vec(),
            gained,
            lost,
        })
    }
}

impl TryFrom<ConversationFact> for RequestChange {
    type Error = Unreadable;

    fn try_from(fact: ConversationFact) -> Result<Self, Unreadable> {
        let Some(conversation_fact::Payload::RequestChanged(changed)) = &fact.payload else {
            return Err(Unreadable);
        };
        let only = match changed.only_user_id.as_str() {
            "" => None,
            user => Some(fact_user(user)?),
        };
        let state = match changed.state() {
            RequestState::Pending => pb::AlertState::RequestPending,
            RequestState::Accepted => pb::AlertState::RequestAccepted,
            RequestState::Rejected => pb::AlertState::RequestRejected,
            RequestState::Cancelled => pb::AlertState::RequestCancelled,
            RequestState::Unspecified => return Err(Unreadable),
        };
        let (kind, waits) = match changed.kind() {
            RequestKind::Connection => (pb::AlertKind::ConnectionRequest, None),
            RequestKind::Message => {
                let conversation =
                    ConversationId::parse(&fact.conversation_id).map_err(|InvalidId| Unreadable)?;
                let (request_version, membership_version) =
                    (changed.request_version, fact.membership_version);
                let waits = Waits { conversation, request_version, membership_version };
                (pb::AlertKind::MessageRequest, Some(waits))
            }
            RequestKind::Unspecified => return Err(Unreadable),
        };
        Ok(Self {
            request: Uuid::try_parse(&changed.request_id).map_err(|_| Unreadable)?,
            kind,
            from: fact_user(&changed.from_user_id)?,
            to: fact_user(&changed.to_user_id)?,
            state,
            version: changed.version,
            time: fact_time(fact.occur_time.as_ref()),
            waits,
            only,
        })
    }
}

impl TryFrom<UserFact> for PersonFact {
    type Error = Unreadable;

    fn try_from(fact: UserFact) -> Result<Self, Unreadable> {
        let user = UserId::parse(&fact.user_id).map_err(|InvalidId| Unreadable)?;
        let changed = match fact.payload {
            Some(user_fact::Payload::UserDeleted(_)) => return Ok(Self::Gone(user)),
            Some(user_fact::Payload::ReviewChanged(changed)) => changed,
            Some(user_fact::Payload::UserUpdated(_)) => {
                return Ok(Self::ProfileChanged { user, time: fact_time(fact.occur_time.as_ref()) });
            }
            None => return Err(Unreadable),
        };
        let state = match changed.change() {
            ReviewChange::Written => pb::AlertState::ReviewWritten,
            ReviewChange::Updated => pb::AlertState::ReviewUpdated,
            ReviewChange::Deleted => pb::AlertState::ReviewDeleted,
            ReviewChange::Unspecified => return Err(Unreadable),
        };
        let reviewer = UserId::parse(&changed.reviewer_user_id).map_err(|InvalidId| Unreadable)?;
        Ok(Self::Reviewed(News {
            user,
            kind: pb::AlertKind::Review,
            subject: Uuid::try_parse(&changed.review_id).map_err(|_| Unreadable)?,
            state,
            version: changed.version,
            actor: Some(reviewer),
            requester: None,
            conversation: None,
            message: None,
            time: fact_time(fact.occur_time.as_ref()),
            effect: Effect::of(state),
        }))
    }
}

fn fact_time(time: Option<&prost_types::Timestamp>) -> Timestamp {
    time.and_then(Timestamp::from_proto).unwrap_or(Timestamp::from_millis(0))
}

fn fact_user(text: &str) -> Result<UserId, Unreadable> {
    UserId::parse(text).map_err(|InvalidId| Unreadable)
}
