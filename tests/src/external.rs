//! External accounts, which the gateway signs in: by gRPC, with the secret of the gateway.

use proto::auth::v1::auth_service_client::AuthServiceClient;
use proto::auth::v1::{LoginAsExternalAccountRequest, LoginAsExternalAccountResponse, UserKind};
use proto::id::EventId;
use tonic::Request;
use tonic::transport::Channel;

use crate::person::Person;
use crate::world::World;

impl World {
    /// A message with the credential of the gateway, and without a user.
    ///
    /// # Panics
    /// When the secret cannot stand in a header.
    pub fn as_gateway<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let credential = self.gateway_authorization();
        request.metadata_mut().insert("authorization", credential.parse().expect("a header"));
        request
    }

    /// Signs in the account of a name in another system.
    ///
    /// # Panics
    /// When that fails.
    pub async fn logs_in_external(
        &self,
        namespace: &str,
        name: &str,
        kind: UserKind,
    ) -> LoginAsExternalAccountResponse {
        let address = format!("http://{}", self.grpc("auth"));
        let channel = Channel::from_shared(address).expect("an address").connect().await.expect("a channel");
        let message = LoginAsExternalAccountRequest {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            kind: kind.into(),
            ..Default::default()
        };
        let mut auth = AuthServiceClient::new(channel);
        auth.login_as_external_account(self.as_gateway(message)).await.expect("signed in").into_inner()
    }

    /// A new external account of this namespace, with a name that is made unique.
    pub async fn external(&self, namespace: &str, name: &str) -> Person {
        let name = format!("{name}-{}", &EventId::generate().uuid().simple().to_string()[20..]);
        let answer = self.logs_in_external(namespace, &name, UserKind::External).await;
        Person::signed_in(self.gateway(), answer.user, answer.grant)
    }
}
