//! What we ask of auth about people: who is called what.

use chassis::identity::ServiceCredential;
use chassis::transport::{Transport, as_service};
use proto::auth::v1::BatchGetUsersRequest;
use proto::auth::v1::user_service_client::UserServiceClient;
use proto::id::UserId;
use tonic::{Code, Status};

use crate::error::Error;

/// The way to auth's users.
#[derive(Clone)]
pub struct Directory {
    client: UserServiceClient<Transport>,
    credential: ServiceCredential,
}

impl Directory {
    /// Asks over this transport, with our own credential.
    pub fn new(transport: Transport, credential: ServiceCredential) -> Self {
        Self { client: UserServiceClient::new(transport), credential }
    }

    /// The users with these names, at most 100. Names that nobody has are left out.
    pub async fn named(&self, usernames: Vec<String>) -> Result<Vec<UserId>, Error> {
        let request = BatchGetUsersRequest { usernames, ..BatchGetUsersRequest::default() };
        let request = as_service(request, &self.credential, None);
        let response = self.client.clone().batch_get_users(request).await.map_err(not_answered)?;
        let users = response.into_inner().users;
        users.iter().map(|user| UserId::parse(&user.user_id)).collect::<Result<_, _>>().map_err(|error| {
            tracing::error!(%error, "auth answered with an id that is none");
            Error::Internal
        })
    }
}

/// Nothing in these calls can be wrong but the way to auth.
fn not_answered(status: Status) -> Error {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted => {
            tracing::warn!(code = ?status.code(), "auth cannot be asked: {}", status.message());
        }
        _ => tracing::error!(code = ?status.code(), "auth refused: {}", status.message()),
    }
    Error::Unavailable("auth")
}
