//! What we ask of auth, in our words.

use std::collections::HashMap;
use std::time::Duration;

use chassis::identity::ServiceCredential;
use chassis::transport::{Transport, as_service};
use proto::auth::v1 as pb;
use proto::auth::v1::auth_service_client::AuthServiceClient;
use proto::auth::v1::review_service_client::ReviewServiceClient;
use proto::auth::v1::user_service_client::UserServiceClient;
use proto::id::UserId;
use tonic::Status;

use crate::acquaintance::{Acquaintance, Kind};
use crate::error::Error;

/// As many users can be asked for at once.
const CHUNK: usize = 100;

/// How long auth may take to note down what is between two people.
const PATIENCE: Duration = Duration::from_secs(5);

/// As many facts are read at once.
const FACTS: i32 = 100;

/// Auth, as far as we need it.
#[derive(Clone)]
pub struct Users {
    users: UserServiceClient<Transport>,
    auth: AuthServiceClient<Transport>,
    reviews: ReviewServiceClient<Transport>,
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
        Self {
            users: UserServiceClient::new(auth.clone()),
            reviews: ReviewServiceClient::new(auth.clone()),
            auth: AuthServiceClient::new(auth),
            credential,
        }
    }

    /// Refuses when one of these does not stand for a living account.
    pub async fn require(&self, caller: UserId, user_ids: &[UserId]) -> Result<(), Error> {
        for user_ids in user_ids.chunks(CHUNK) {
            let living = self.living(caller, user_ids).await?;
            if let Some(unknown) = user_ids.iter().find(|user_id| !living.contains_key(user_id)) {
                return Err(Error::UserNotFound(*unknown));
            }
        }
        Ok(())
    }

    /// Those among these users, at most [`CHUNK`], whose account lives.
    async fn living(
        &self,
        caller: UserId,
        user_ids: &[UserId],
    ) -> Result<HashMap<UserId, pb::UserKind>, Error> {
        let message = pb::BatchGetUsersRequest {
            user_ids: user_ids.iter().map(ToString::to_string).collect(),
            usernames: Vec::new(),
        };
        let request = as_service(message, &self.credential, Some(caller));
        let answer = self.users.clone().batch_get_users(request).await.map_err(unavailable)?.into_inner();
        let living = answer.users.iter().filter(|user| user.delete_time.is_none());
        Ok(living.filter_map(|user| Some((UserId::parse(&user.user_id).ok()?, user.kind()))).collect())
    }

    /// Refuses when this does not stand for a living account that was registered: guests and external accounts are asked
    /// for nothing.
    pub async fn require_account(&self, caller: UserId, user_id: UserId) -> Result<(), Error> {
        let user = self.living(caller, &[user_id]).await?.remove(&user_id);
        match user {
            Some(pb::UserKind::Registered) => Ok(()),
            Some(_) | None => Err(Error::UserNotFound(user_id)),
        }
    }

    /// Tells auth what there is between two people, or is no longer.
    pub async fn record_acquaintance(&self, acquaintance: &Acquaintance) -> Result<(), Error> {
        let Acquaintance { pair, kind, version, has_ended } = *acquaintance;
        let kind = match kind {
            Kind::Connection => pb::AcquaintanceKind::Connection,
            Kind::Block => pb::AcquaintanceKind::Block,
        };
        let message = pb::RecordAcquaintanceRequest {
            user_ids: vec![pair.low().to_string(), pair.high().to_string()],
            kind: kind.into(),
            ended: has_ended,
            version,
        };
        let mut request = as_service(message, &self.credential, None);
        request.set_timeout(PATIENCE);
        self.reviews.clone().record_acquaintance(request).await.map(drop).map_err(unavailable)
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
        // Names and reviews do not concern us, nor does what a newer auth may say.
        Some(pb::user_fact::Payload::UserUpdated(_) | pb::user_fact::Payload::ReviewChanged(_)) | None => {
            None
        }
    };
    Ok(Happening { position: fact.position, deleted })
}

fn unavailable(status: Status) -> Error {
    Error::Auth(Box::new(status))
}
