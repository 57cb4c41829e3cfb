//! What we ask of auth, in our words: whose account is gone.

use chassis::identity::ServiceCredential;
use chassis::transport::{Transport, as_service};
use proto::auth::v1 as pb;
use proto::auth::v1::auth_service_client::AuthServiceClient;
use proto::id::UserId;

use crate::error::Error;

/// As many facts are read at once.
const FACTS: i32 = 100;

/// Auth, as far as we need it.
#[derive(Clone)]
pub struct Users {
    client: AuthServiceClient<Transport>,
    credential: ServiceCredential,
}

/// Something that auth says has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Happening {
    /// Where it stands in auth's outbox.
    pub position: i64,
    /// Whose account was deleted; `None` for what does not concern us.
    pub deleted: Option<UserId>,
}

impl Users {
    /// Asks auth over this transport, as the service with this credential.
    pub fn new(auth: Transport, credential: ServiceCredential) -> Self {
        Self { client: AuthServiceClient::new(auth), credential }
    }

    /// What has happened to users after a position, oldest first; not everything at once.
    pub async fn happenings(&self, after: i64) -> Result<Vec<Happening>, Error> {
        let message = pb::ListUserFactsRequest { after_position: after, limit: FACTS };
        let request = as_service(message, &self.credential, None);
        let answer = self.client.clone().list_user_facts(request).await;
        let facts =
            answer.map_err(|status| Error::Unavailable { service: "auth", source: Box::new(status) })?;
        facts.into_inner().facts.iter().map(happening).collect()
    }
}

fn happening(fact: &pb::UserFact) -> Result<Happening, Error> {
    let deleted = match fact.payload {
        Some(pb::user_fact::Payload::UserDeleted(pb::UserDeleted {})) => Some(
            UserId::parse(&fact.user_id)
                .map_err(|_| Error::Misunderstood("auth has told a fact about nobody"))?,
        ),
        // Names and reviews do not concern us, nor does what a newer auth may say.
        Some(pb::user_fact::Payload::UserUpdated(_) | pb::user_fact::Payload::ReviewChanged(_)) | None => {
            None
        }
    };
    Ok(Happening { position: fact.position, deleted })
}
