//! What we ask of conversation, in our words: whether somebody may write somewhere.

use chassis::identity::ServiceCredential;
use chassis::transport::{Transport, as_service};
use proto::conversation::v1 as pb;
use proto::conversation::v1::conversation_service_client::ConversationServiceClient;
use proto::id::{ConversationId, UserId};

use crate::error::Error;

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

    /// Refuses when the user may not write there now. Where the user may not know of it, it is as if it did not exist.
    pub async fn require_writer(&self, conversation: ConversationId, user: UserId) -> Result<(), Error> {
        let question =
            pb::AccessQuestion { conversation_id: conversation.to_string(), user_id: user.to_string() };
        let request = pb::CheckAccessRequest { questions: vec![question] };
        let answer = self.client.clone().check_access(as_service(request, &self.credential, None)).await;
        let answers = answer
            .map_err(|status| Error::Unavailable { service: "conversation", source: Box::new(status) })?;
        match answers.into_inner().answers.as_slice() {
            [access] => judge(access, conversation),
            _ => Err(Error::Misunderstood("conversation has not answered one question with one answer")),
        }
    }
}

fn judge(access: &pb::Access, conversation: ConversationId) -> Result<(), Error> {
    if !access.exists || !access.visible {
        return Err(Error::ConversationNotFound(conversation));
    }
    if access.may_write { Ok(()) } else { Err(Error::WriteDenied(conversation)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_know_is_told_nothing() {
        let id = ConversationId::generate();
        let hidden = pb::Access { exists: true, may_write: true, ..Default::default() };
        assert!(matches!(judge(&hidden, id), Err(Error::ConversationNotFound(_))));
        assert!(matches!(judge(&pb::Access::default(), id), Err(Error::ConversationNotFound(_))));
    }

    #[test]
    fn who_may_only_read_is_told_so() {
        let id = ConversationId::generate();
        let reader = pb::Access { exists: true, visible: true, may_read: true, ..Default::default() };
        assert!(matches!(judge(&reader, id), Err(Error::WriteDenied(_))));
        assert!(judge(&pb::Access { may_write: true, ..reader }, id).is_ok());
    }
}
