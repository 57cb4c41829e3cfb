//! What we ask of conversation, in our words: which direct conversation two people have, and who the other one is.

use std::time::Duration;

use chassis::fault::Fault;
use chassis::identity::ServiceCredential;
use chassis::transport::{Transport, as_service};
use proto::conversation::v1::connection_service_client::ConnectionServiceClient;
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
    contacts: ConnectionServiceClient<Transport>,
    credential: ServiceCredential,
}

/// Somebody blocks another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Who does not want to have to do with the other.
    pub blocker: UserId,
    /// Who is not to learn of it.
    pub blocked: UserId,
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
        let contacts = ConnectionServiceClient::new(conversation.clone());
        Self { client: ConversationServiceClient::new(conversation), contacts, credential }
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

    /// Whether a user has to ask another first, or has asked and waits for the answer. One who is blocked reads the same.
    pub async fn is_unaccepted(&self, user: UserId, other: UserId) -> Result<bool, Denial> {
        let request = self.on_behalf(pb::CheckContactRequest { user_id: other.to_string() }, user);
        let answer = self.contacts.clone().check_contact(request).await.map_err(denial)?;
        let contact = answer.into_inner().contact.unwrap_or_default();
        let asks = |request: &pb::Request| {
            request.state() == pb::RequestState::Pending && request.from_user_id == user.to_string()
        };
        Ok(contact.request_needed || contact.message_request.as_ref().is_some_and(asks))
    }

    fn on_behalf<T>(&self, message: T, user: UserId) -> Request<T> {
        let mut request = as_service(message, &self.credential, Some(user));
        request.set_timeout(PATIENCE);
        request
    }
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
        _ => Denial::Failed(Error::Neighbour { service: "conversation", source: Box::new(status) }),
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
            assert!(matches!(denial, Denial::Failed(Error::Neighbour { .. })), "{denial:?}");
        }
    }
}
