//! Providers to sign in with, on the wire.

use proto::auth::v1 as pb;

use super::own_user;
use crate::accounts::SignedIn;
use crate::error::Error;
use crate::provider::ProviderConfig;
use crate::providers::{Entered, Entry, Link};
use crate::session::DeviceName;
use crate::suggest::Suggestion;
use crate::username::Username;

impl TryFrom<pb::LoginWithProviderRequest> for Entry {
    type Error = Error;

    fn try_from(request: pb::LoginWithProviderRequest) -> Result<Self, Error> {
        let username = Some(request.username).filter(|name| !name.is_empty());
        Ok(Self {
            provider: request.provider,
            token: request.id_token,
            nonce: nonce(request.nonce),
            device_name: DeviceName::parse(&request.device_name)?,
            username: username.map(|name| Username::parse(&name)).transpose()?,
        })
    }
}

/// A nonce, when one was given.
pub fn nonce(text: String) -> Option<String> {
    Some(text).filter(|nonce| !nonce.is_empty())
}

impl From<&ProviderConfig> for pb::Provider {
    fn from(config: &ProviderConfig) -> Self {
        let ProviderConfig { name, issuer, client_ids } = config.clone();
        Self { name, issuer, client_ids }
    }
}

impl From<Entered> for pb::LoginWithProviderResponse {
    fn from(Entered { signed_in: SignedIn { user, grant }, created }: Entered) -> Self {
        Self { user: Some(own_user(user)), grant: Some(grant.into()), created }
    }
}

impl From<Link> for pb::LinkedProvider {
    fn from(link: Link) -> Self {
        Self {
            provider: link.provider,
            subject: link.subject,
            create_time: Some(link.create_time.to_proto()),
        }
    }
}

impl From<Suggestion> for pb::SuggestCredentialsResponse {
    fn from(Suggestion { username, password }: Suggestion) -> Self {
        Self { username: username.as_str().to_owned(), password: password.as_str().to_owned() }
    }
}
