//! What we ask of auth, in our words.

use std::collections::HashSet;

use chassis::identity::ServiceCredential;
use chassis::transport::{Transport, as_service};
use proto::auth::v1 as pb;
use proto::auth::v1::auth_service_client::AuthServiceClient;
use proto::auth::v1::user_service_client::UserServiceClient;
use proto::id::UserId;
use tonic::Status;

use crate::error::Error;

/// As many users can be asked for at once.
const CHUNK: usize = 100;

/// As many facts are read at once.
const FACTS: i32 = 100;

/// Auth, as far as we need it.
#[derive(Clone)]
pub struct Users {
    users: UserServiceClient<Transport>,
    auth: AuthServiceClient<Transport>,
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
        Self { users: UserServiceClient::new(auth.clone()), auth: AuthServiceClient::new(auth), credential }
    }

    /// Refuses when one of these does not stand for a living account.
    pub async fn require(&self, caller: UserId, user_ids: &[UserId]) -> Result<(), Error> {
        for user_ids in user_ids.chunks(CHUNK) {
            let message = pb::BatchGetUsersRequest {
                user_ids: user_ids.iter().map(ToString::to_string).collect(),
                usernames: Vec::new(),
            };
            let request = as_service(message, &self.credential, Some(caller));
            let answer = self.users.clone().batch_get_users(request).await.map_err(unavailable)?;
            let living: HashSet<UserId> = answer
                .into_inner()
                .users
                .iter()
                .filter(|user| user.delete_time.is_none())
                .filter_map(|user| UserId::parse(&user.user_id).ok())
                .collect();
            if let Some(unknown) = user_ids.iter().find(|user_id| !living.contains(user_id)) {
                return Err(Error::UserNotFound(*unknown));
            }
        }
        Ok(())
    }

    /// What has happened to users after a position, oldest first; not everything at once.
    pub async fn happenings(&self, after: i64) -> Result<Vec<Happening>, Error> {
        let message = pb::ListUserFactsRequest { after_position: after, limit: FACTS };
        let request = as_service(message, &self.credential, None);
        let answer = self.auth.clone().list_user_facts(request).await.map_err(unavailable)?;
        answer.into_inner().facts.iter().map(happening).collect()
    }
}

fn happening(fact: &pb::UserFact) -> Result<Happening, Error> {
    let deleted = match fact.payload {
        Some(pb::user_fact::Payload::UserDeleted(pb::UserDeleted {})) => {
            Some(UserId::parse(&fact.user_id).map_err(|_| Error::Misunderstood("a fact about nobody"))?)
        }
        // Reviews do not concern us, nor does what a newer auth may say.
        Some(pb::user_fact::Payload::ReviewChanged(_)) | None => None,
    };
    Ok(Happening { position: fact.position, deleted })
}

fn unavailable(status: Status) -> Error {
    Error::Auth(Box::new(status))
}
