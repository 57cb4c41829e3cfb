//! What we ask of auth about people, in our words: whether somebody exists, who is called what, which sessions have not
//! ended, and by which keys somebody's devices sign; and what auth tells of people.
//! Nothing of it is remembered: a key that was revoked a moment ago signs nothing any more.

use std::collections::HashMap;

use chassis::clock::Timestamp;
use chassis::fault::Fault;
use chassis::identity::ServiceCredential;
use chassis::transport::{Transport, as_service};
use proto::auth::v1 as pb;
use proto::auth::v1::auth_service_client::AuthServiceClient;
use proto::auth::v1::user_service_client::UserServiceClient;
use proto::id::{InvalidId, SessionId, UserId};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::alert::News;
use crate::error::Error;

/// The public key of somebody's device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    /// Its id.
    pub id: Uuid,
    /// An Ed25519 public key.
    pub public_key: Vec<u8>,
    /// Whether nothing new can be signed with it.
    pub is_revoked: bool,
}

/// What auth tells of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PersonFact {
    /// Somebody wrote, changed or deleted a review of it.
    Reviewed(News),
    /// Its display name or its picture changed.
    ProfileChanged {
        /// Whose.
        user: UserId,
        /// When.
        time: Timestamp,
    },
    /// Its account is gone.
    Gone(UserId),
}

/// The way to auth's users.
#[derive(Clone)]
pub struct People {
    client: UserServiceClient<Transport>,
    auth: AuthServiceClient<Transport>,
    credential: ServiceCredential,
}

impl People {
    /// Asks over this transport, with our own credential.
    pub fn new(transport: Transport, credential: ServiceCredential) -> Self {
        Self {
            client: UserServiceClient::new(transport.clone()),
            auth: AuthServiceClient::new(transport),
            credential,
        }
    }

    /// Refuses a user who does not exist, or not any more. `by` is who wants to know.
    pub async fn require(&self, by: UserId, user: UserId) -> Result<(), Error> {
        let request = pb::GetUserRequest { user_id: user.to_string() };
        let request = as_service(request, &self.credential, Some(by));
        let answer = self.client.clone().get_user(request).await;
        let found = answer.map_err(|status| refused(&status, user))?.into_inner().user.unwrap_or_default();
        match found.delete_time {
            None => Ok(()),
            Some(_) => Err(Error::UserNotFound(Some(user.to_string()))),
        }
    }

    /// The users with these names, at most 100. Names that nobody has are left out. `by` is who wants to know.
    pub async fn named(&self, by: UserId, usernames: Vec<String>) -> Result<Vec<UserId>, Error> {
        let request = pb::BatchGetUsersRequest { usernames, user_ids: Vec::new() };
        let request = as_service(request, &self.credential, Some(by));
        let answer = self.client.clone().batch_get_users(request).await;
        let users = answer.map_err(|status| refused(&status, by))?.into_inner().users;
        users.iter().map(|user| id(&user.user_id)).collect()
    }

    /// The names of these users, at most 100: those to sign in with and those that people see. Users who are gone have
    /// none. `by` is who wants to know.
    pub async fn names_of(
        &self,
        by: UserId,
        users: &[UserId],
    ) -> Result<HashMap<UserId, [String; 2]>, Error> {
        if users.is_empty() {
            return Ok(HashMap::new());
        }
        let user_ids = users.iter().map(ToString::to_string).collect();
        let request = pb::BatchGetUsersRequest { usernames: Vec::new(), user_ids };
        let request = as_service(request, &self.credential, Some(by));
        let answer = self.client.clone().batch_get_users(request).await;
        let users = answer.map_err(|status| refused(&status, by))?.into_inner().users;
        let named = users.into_iter().filter(|user| user.delete_time.is_none());
        named.map(|user| Ok((id(&user.user_id)?, [user.username, user.display_name]))).collect()
    }

    /// Whether a session of a user has not ended. Says what holds now: nothing of it is remembered.
    pub async fn has_session(&self, user: UserId, session: SessionId) -> Result<bool, Error> {
        let request = as_service(pb::ListSessionsRequest {}, &self.credential, Some(user));
        let answer = self.auth.clone().list_sessions(request).await;
        let sessions = answer.map_err(|status| not_answered(&status))?.into_inner().sessions;
        let session = session.to_string();
        Ok(sessions.iter().any(|alive| alive.session_id == session))
    }

    /// All keys that a user's devices have ever had.
    pub async fn device_keys(&self, user: UserId) -> Result<Vec<DeviceKey>, Error> {
        let request = pb::ListDeviceKeysRequest { user_id: user.to_string() };
        let request = as_service(request, &self.credential, Some(user));
        let answer = self.client.clone().list_device_keys(request).await;
        let keys = answer.map_err(|status| refused(&status, user))?.into_inner().device_keys;
        keys.into_iter().map(DeviceKey::try_from).collect()
    }
}

impl TryFrom<pb::DeviceKey> for DeviceKey {
    type Error = Error;

    fn try_from(key: pb::DeviceKey) -> Result<Self, Error> {
        let id = Uuid::try_parse(&key.device_key_id).map_err(|error| {
            tracing::error!(%error, "auth answered with the id of a device key that is none");
            Error::Internal
        })?;
        Ok(Self { id, public_key: key.public_key, is_revoked: key.revoke_time.is_some() })
    }
}

fn id(text: &str) -> Result<UserId, Error> {
    UserId::parse(text).map_err(|InvalidId| {
        tracing::error!("auth answered with the id of a user that is none");
        Error::Internal
    })
}

/// Nothing in these calls can be wrong but the user, and the way to auth.
fn refused(status: &Status, user: UserId) -> Error {
    match (status.code(), Fault::of(status).reason()) {
        (Code::NotFound, "ERROR_REASON_USER_NOT_FOUND") => Error::UserNotFound(Some(user.to_string())),
        _ => not_answered(status),
    }
}

fn not_answered(status: &Status) -> Error {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted => {
            tracing::warn!(code = ?status.code(), "auth cannot be asked: {}", status.message());
        }
        _ => tracing::error!(code = ?status.code(), "auth refused: {}", status.message()),
    }
    Error::Neighbour(Box::new(Fault::of_neighbour("auth", status)))
}
