//! What we ask of conversation, in our words: which direct conversation two people have, who the other one is, and who
//! blocks whom.

use std::time::Duration;

use chassis::fault::Fault;
use chassis::identity::ServiceCredential;
use chassis::transport::{Transport, as_service};
use proto::conversation::v1::conversation_service_client::ConversationServiceClient;
use proto::conversation::v1::{self as pb, ConversationKind, ErrorReason};
use proto::id::{ConversationId, UserId};
use tonic::{Code, Request, Status};

use crate::error::Error;

/// As long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Conversation, as far as we need it.
#[derive(Clone)]
pub struct Conversations {
    client: ConversationServiceClient<Transport>,
    credential: ServiceCredential,
}

/// As many facts are read at once.
const FACTS: i32 = 200;

/// Somebody blocks another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Who does not want to have to do with the other.
    pub blocker: UserId,
    /// Who is not to learn of it.
    pub blocked: UserId,
}

/// Something that conversation says has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Happening {
    /// Where it stands in conversation's outbox.
    pub position: i64,
    /// Who blocks whom; `None` for what does not concern us.
    pub block: Option<Block>,
}

/// Why conversation does not say what it is asked. Calls and bookings each have their own words for it.
#[derive(Debug)]
pub enum Denial {
    /// What was named is not there, or not for the user to know.
    Absent,
    /// This conversation is not one of two people.
    NotDirect(ConversationId),
    /// The user is refused, for this reason.
    Refused(Fault),
    /// The user has to wait so long.
    TooMany(Duration),
    /// It is nothing about the user.
    Failed(Error),
}

impl Conversations {
    /// Asks conversation over this transport, as the service with this credential.
    pub fn new(conversation: Transport, credential: ServiceCredential) -> Self {
        Self { client: ConversationServiceClient::new(conversation), credential }
    }

    /// The direct conversation of two people, which is made when there is none yet.
    pub async fn direct(&self, user: UserId, peer: UserId) -> Result<ConversationId, Denial> {
        let message = pb::CreateConversationRequest {
            kind: ConversationKind::Direct.into(),
            user_ids: vec![peer.to_string()],
            ..Default::default()
        };
        let request = self.on_behalf(message, user);
        let answer = self.client.clone().create_conversation(request).await.map_err(denial)?;
        let conversation = answer.into_inner().conversation.unwrap_or_default();
        ConversationId::parse(&conversation.conversation_id)
            .map_err(|_| misunderstood("conversation has made a conversation without an id"))
    }

    /// The other person of a direct conversation.
    pub async fn peer(&self, user: UserId, id: ConversationId) -> Result<UserId, Denial> {
        let message = pb::GetConversationRequest { conversation_id: id.to_string() };
        let request = self.on_behalf(message, user);
        let answer = self.client.clone().get_conversation(request).await.map_err(denial)?;
        let conversation = answer.into_inner().conversation.unwrap_or_default();
        if conversation.kind() != ConversationKind::Direct {
            return Err(Denial::NotDirect(id));
        }
        UserId::parse(&conversation.peer_user_id)
            .map_err(|_| misunderstood("conversation knows a direct one with nobody else in it"))
    }

    /// The blocks after a position, oldest first, and at the end how far that reaches; not everything at once, and nothing
    /// when there is nothing more.
    pub async fn happenings(&self, after: i64) -> Result<Vec<Happening>, Error> {
        let message = pb::ListConversationFactsRequest { after_position: after, limit: FACTS };
        let mut request = as_service(message, &self.credential, None);
        request.set_timeout(PATIENCE);
        let answer = self.client.clone().list_conversation_facts(request).await;
        let facts = answer
            .map_err(|status| Error::Unavailable { service: "conversation", source: Box::new(status) })?
            .into_inner()
            .facts;
        let last = facts.last().map(|fact| fact.position);
        let mut happenings: Vec<_> =
            facts.iter().map(happening).filter(|happening| happening.block.is_some()).collect();
        let rest = last.filter(|last| happenings.last().is_none_or(|happening| happening.position < *last));
        happenings.extend(rest.map(|position| Happening { position, block: None }));
        Ok(happenings)
    }

    fn on_behalf<T>(&self, message: T, user: UserId) -> Request<T> {
        let mut request = as_service(message, &self.credential, Some(user));
        request.set_timeout(PATIENCE);
        request
    }
}

fn happening(fact: &pb::ConversationFact) -> Happening {
    let position = fact.position;
    let Some(pb::conversation_fact::Payload::ContactBlocked(block)) = &fact.payload else {
        return Happening { position, block: None };
    };
    let block = match (UserId::parse(&block.blocker_user_id), UserId::parse(&block.blocked_user_id)) {
        (Ok(blocker), Ok(blocked)) => Some(Block { blocker, blocked }),
        _ => {
            // It must not stop all that come after it.
            tracing::error!(position, "conversation has told at {position} of a block between nobody");
            None
        }
    };
    Happening { position, block }
}

fn misunderstood(what: &'static str) -> Denial {
    Denial::Failed(Error::Misunderstood(what))
}

/// What a status says about the user.
fn denial(status: Status) -> Denial {
    let fault = Fault::of(&status);
    match (fault.code(), ErrorReason::from_str_name(fault.reason())) {
        (Code::NotFound, Some(_)) => Denial::Absent,
        (Code::PermissionDenied | Code::FailedPrecondition | Code::InvalidArgument, Some(_)) => {
            Denial::Refused(fault)
        }
        (Code::ResourceExhausted, Some(_)) => Denial::TooMany(fault.wait().unwrap_or(PATIENCE)),
        // Without a reason of its own it is not the user who is refused, but we.
        _ => Denial::Failed(Error::Unavailable { service: "conversation", source: Box::new(status) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: Code, reason: &str) -> Denial {
        denial(Fault::new(code, format!("ERROR_REASON_{reason}")).into())
    }

    #[test]
    fn a_refusal_of_the_user_is_told_from_one_of_ourselves() {
        assert!(matches!(said(Code::NotFound, "USER_NOT_FOUND"), Denial::Absent));
        let refused = said(Code::FailedPrecondition, "CONTACT_NOT_ACCEPTED");
        assert!(
            matches!(refused, Denial::Refused(fault) if fault.reason().ends_with("CONTACT_NOT_ACCEPTED"))
        );
        assert!(matches!(said(Code::ResourceExhausted, "RATE_LIMITED"), Denial::TooMany(PATIENCE)));
        for (code, reason) in [
            (Code::PermissionDenied, "NOT_ADMITTED"),
            (Code::Unauthenticated, "UNAUTHENTICATED"),
            (Code::Unavailable, "OVERLOADED"),
            (Code::NotFound, "NO_SUCH_REASON"),
        ] {
            let denial = said(code, reason);
            assert!(matches!(denial, Denial::Failed(Error::Unavailable { .. })), "{denial:?}");
        }
    }
}
