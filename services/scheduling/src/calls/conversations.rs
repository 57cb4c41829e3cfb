//! What we ask of conversation, in our words: which direct conversation two people have, and who the other one is.

use std::time::Duration;

use chassis::fault::Fault;
use chassis::identity::ServiceCredential;
use chassis::transport::{Transport, as_service};
use proto::conversation::v1::conversation_service_client::ConversationServiceClient;
use proto::conversation::v1::{self as pb, ConversationKind, ErrorReason};
use proto::id::{ConversationId, UserId};
use tonic::{Code, Request, Status};

use super::error::CallError;
use crate::error::Error;

/// As long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Conversation, as far as we need it.
#[derive(Clone)]
pub struct Conversations {
    client: ConversationServiceClient<Transport>,
    credential: ServiceCredential,
}

impl Conversations {
    /// Asks conversation over this transport, as the service with this credential.
    pub fn new(conversation: Transport, credential: ServiceCredential) -> Self {
        Self { client: ConversationServiceClient::new(conversation), credential }
    }

    /// The direct conversation of two people, which is made when there is none yet.
    pub async fn direct(&self, user: UserId, peer: UserId) -> Result<ConversationId, Error> {
        let message = pb::CreateConversationRequest {
            kind: ConversationKind::Direct.into(),
            user_ids: vec![peer.to_string()],
            ..Default::default()
        };
        let request = self.on_behalf(message, user);
        let answer = self.client.clone().create_conversation(request).await;
        let answer = answer.map_err(|status| refusal(status, CallError::UserNotFound(peer).into()))?;
        let conversation = answer.into_inner().conversation.unwrap_or_default();
        ConversationId::parse(&conversation.conversation_id)
            .map_err(|_| Error::Misunderstood("conversation has made a conversation without an id"))
    }

    /// The other person of a direct conversation.
    pub async fn peer(&self, user: UserId, id: ConversationId) -> Result<UserId, Error> {
        let message = pb::GetConversationRequest { conversation_id: id.to_string() };
        let answer = self.client.clone().get_conversation(self.on_behalf(message, user)).await;
        let answer = answer.map_err(|status| refusal(status, Error::ConversationNotFound(id)))?;
        let conversation = answer.into_inner().conversation.unwrap_or_default();
        if conversation.kind() != ConversationKind::Direct {
            return Err(CallError::NotDirect(id).into());
        }
        UserId::parse(&conversation.peer_user_id)
            .map_err(|_| Error::Misunderstood("conversation knows a direct one with nobody else in it"))
    }

    fn on_behalf<T>(&self, message: T, user: UserId) -> Request<T> {
        let mut request = as_service(message, &self.credential, Some(user));
        request.set_timeout(PATIENCE);
        request
    }
}

/// What a status says about two people; `absent` when one of the things named is not there.
fn refusal(status: Status, absent: Error) -> Error {
    let fault = Fault::of(&status);
    match (fault.code(), ErrorReason::from_str_name(fault.reason())) {
        (Code::NotFound, Some(_)) => absent,
        // It is not the caller who is refused, but we.
        (Code::PermissionDenied, None) => unavailable(status),
        (Code::PermissionDenied | Code::FailedPrecondition | Code::InvalidArgument, Some(_)) => {
            CallError::Refused(fault.text()).into()
        }
        (Code::ResourceExhausted, Some(_)) => {
            CallError::TooMany { what: "conversations", wait: fault.wait().unwrap_or(PATIENCE) }.into()
        }
        _ => unavailable(status),
    }
}

fn unavailable(status: Status) -> Error {
    Error::Unavailable { service: "conversation", source: Box::new(status) }
}
