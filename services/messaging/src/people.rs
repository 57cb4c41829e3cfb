//! What we ask of auth about people, in our words: whether somebody exists, who is called what, and by which keys somebody's devices sign.
//! Nothing of it is remembered: a key that was revoked a moment ago signs nothing any more.

use chassis::fault::Fault;
use chassis::identity::ServiceCredential;
use chassis::transport::{Transport, as_service};
use proto::auth::v1 as pb;
use proto::auth::v1::user_service_client::UserServiceClient;
use proto::id::UserId;
use tonic::{Code, Status};
use uuid::Uuid;

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

/// The way to auth's users.
#[derive(Clone)]
pub struct People {
    client: UserServiceClient<Transport>,
    credential: ServiceCredential,
}

impl People {
    /// Asks over this transport, with our own credential.
    pub fn new(transport: Transport, credential: ServiceCredential) -> Self {
        Self { client: UserServiceClient::new(transport), credential }
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

    /// The users with these names, at most 100. Names that nobody has are left out.
    pub async fn named(&self, usernames: Vec<String>) -> Result<Vec<UserId>, Error> {
        let request = pb::BatchGetUsersRequest { usernames, ..pb::BatchGetUsersRequest::default() };
        let request = as_service(request, &self.credential, None);
        let answer = self.client.clone().batch_get_users(request).await;
        let users = answer.map_err(|status| not_answered(&status))?.into_inner().users;
        users.iter().map(|user| UserId::parse(&user.user_id)).collect::<Result<_, _>>().map_err(|error| {
            tracing::error!(%error, "auth answered with an id that is none");
            Error::Internal
        })
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
    Error::Unavailable("auth")
}
