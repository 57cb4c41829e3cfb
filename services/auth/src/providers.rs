//! The use cases around providers: signing in with one, linking an account to one, taking that back.

use std::sync::Arc;

use chassis::caller::{Caller, ClientNetwork};
use chassis::clock::Timestamp;
use proto::id::UserId;

use crate::accounts::{Accounts, SignedIn};
use crate::error::Error;
use crate::identity::Identity;
use crate::networks::{Knock, Networks};
use crate::password::Password;
use crate::provider::Provider;
use crate::refusal::Refusal;
use crate::session::DeviceName;
use crate::standing::Standing;
use crate::suggest;
use crate::user::{DisplayName, User, UserKind};
use crate::username::Username;

/// How often it is tried to make an account when somebody else is faster.
const TRIES: usize = 4;

/// The use cases around providers.
#[derive(Debug)]
pub struct Providers {
    /// Whose accounts they open.
    pub accounts: Arc<Accounts>,
    /// Counts knocks.
    pub networks: Arc<Networks>,
    /// In the order of the configuration.
    pub all: Vec<Provider>,
}

/// That one signs in to an account with an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The account.
    pub user_id: UserId,
    /// The provider, as its tokens have it.
    pub issuer: String,
    /// Who it is there.
    pub subject: String,
    /// What the provider is called here.
    pub provider: String,
    /// When it was made.
    pub create_time: Timestamp,
}

/// Somebody who comes with a token of a provider.
#[derive(Debug)]
pub struct Entry {
    /// The name of the provider.
    pub provider: String,
    /// The token.
    pub token: String,
    /// What the client has sent along to the provider, when it has.
    pub nonce: Option<String>,
    /// What the client calls its device.
    pub device_name: DeviceName,
    /// The name to have, for somebody who is new.
    pub username: Option<Username>,
}

/// Somebody who has signed in with a provider.
#[derive(Debug)]
pub struct Entered {
    /// The account.
    pub signed_in: SignedIn,
    /// Whether it was made just now.
    pub created: bool,
}

impl Providers {
    /// The providers, in the order of the configuration.
    pub fn list(&self) -> &[Provider] {
        &self.all
    }

    /// Signs in. Who is new gets an account.
    pub async fn sign_in(&self, entry: Entry, from: Option<ClientNetwork>) -> Result<Entered, Error> {
        self.networks.count(Knock::Provider, from)?;
        let provider = self.named(&entry.provider)?;
        let identity = provider.verify(&entry.token, entry.nonce.as_deref()).await?;
        for _ in 0..TRIES {
            let found = self.accounts.store.find_linked(&identity.issuer, &identity.subject).await?;
            if let Some(user_id) = found {
                let signed_in = self.open(user_id, &identity, entry.device_name.clone()).await?;
                return Ok(Entered { signed_in, created: false });
            }
            match self.create(provider, &identity, &entry).await {
                Ok(signed_in) => return Ok(Entered { signed_in, created: true }),
                // They came twice at once, and the other is in.
                Err(Error::Refused(Refusal::IdentityTaken)) => {}
                // A name that we have made up can be made up again.
                Err(Error::UsernameTaken(_)) if entry.username.is_none() => {}
                Err(Error::EmailTaken) => return Err(Refusal::AddressOfAnother.into()),
                Err(error) => return Err(error),
            }
        }
        Err(Error::Internal(anyhow::anyhow!("somebody is always faster")))
    }

    /// Links the caller's account to the identity of a token.
    pub async fn link(
        &self,
        caller: &Caller,
        name: &str,
        token: &str,
        nonce: Option<&str>,
        password: Password,
    ) -> Result<Link, Error> {
        let provider = self.named(name)?;
        let found = self.accounts.store.find_credentials(caller.user_id).await?;
        let found = found.ok_or(Error::Unauthenticated)?;
        if found.user.kind != UserKind::Registered {
            return Err(Error::GuestAccount);
        }
        // A session that fell into wrong hands must not become a way in that outlives it.
        self.accounts.prove_owner(caller, &found, password).await?;
        let user = found.user;
        let identity = provider.verify(token, nonce).await?;
        let link = self.new_link(provider, &identity, user.id);
        let kept = self.accounts.store.link(&link, &identity.once).await?;
        tracing::info!(user.id = %user.id, provider = name, "linked user {} to provider {name}", user.id);
        Ok(kept)
    }

    /// The links of the caller's account, oldest first.
    pub async fn linked(&self, caller: &Caller) -> Result<Vec<Link>, Error> {
        self.accounts.store.links_of(caller.user_id).await
    }

    /// Takes back a link of the caller's account. Works for a provider that is not configured any more.
    pub async fn unlink(&self, caller: &Caller, name: &str, password: Password) -> Result<(), Error> {
        let found = self.accounts.store.find_credentials(caller.user_id).await?;
        // Nor must it shut the owner out.
        self.accounts.prove_owner(caller, &found.ok_or(Error::Unauthenticated)?, password).await?;
        self.accounts.store.unlink(caller.user_id, name).await?;
        let id = caller.user_id;
        tracing::info!(user.id = %id, provider = name, "took back the link of user {id} to provider {name}");
        Ok(())
    }

    fn named(&self, name: &str) -> Result<&Provider, Error> {
        let found = self.all.iter().find(|provider| provider.config.name == name);
        found.ok_or_else(|| Refusal::ProviderNotFound.into())
    }

    async fn open(
        &self,
        user_id: UserId,
        identity: &Identity,
        device_name: DeviceName,
    ) -> Result<SignedIn, Error> {
        let accounts = &self.accounts;
        let grant = accounts.new_grant(user_id, device_name)?;
        let most = accounts.sessions_per_user;
        let Identity { issuer, subject, once, .. } = identity;
        let (user, ended) = accounts.store.sign_in_linked((issuer, subject), &grant, most, once).await?;
        accounts.publisher.sessions_ended(user_id, &ended);
        metrics::counter!("auth_sign_ins_total", "outcome" => "done").increment(1);
        tracing::info!(
            user.id = %user_id, session.id = %grant.session.id, "signed in user {user_id} with a provider"
        );
        Ok(SignedIn { user, grant })
    }

    async fn create(
        &self,
        provider: &Provider,
        identity: &Identity,
        entry: &Entry,
    ) -> Result<SignedIn, Error> {
        let accounts = &self.accounts;
        if !accounts.registration_open {
            return Err(Error::RegistrationClosed);
        }
        let username = match &entry.username {
            Some(username) if accounts.reserved.contains(username) => {
                return Err(Error::UsernameTaken(username.clone()));
            }
            Some(username) => username.clone(),
            None => suggest::username().map_err(Error::Internal)?,
        };
        let display_name = identity.name.clone().unwrap_or_else(|| DisplayName::from(&username));
        let user =
            accounts.new_user(UserKind::Registered, Some(username), display_name, identity.email.clone());
        let email_verify_time = user.email.is_some().then_some(user.create_time);
        let user = User { standing: Standing { email_verify_time, ..user.standing }, ..user };
        let grant = accounts.new_grant(user.id, entry.device_name.clone())?;
        let link = self.new_link(provider, identity, user.id);
        accounts.store.create_linked(&user, &link, &grant, &identity.once).await?;
        tracing::info!(
            user.id = %user.id, provider = link.provider, "registered user {} with provider {}", user.id, link.provider
        );
        Ok(SignedIn { user, grant })
    }

    fn new_link(&self, provider: &Provider, identity: &Identity, user_id: UserId) -> Link {
        Link {
            user_id,
            issuer: identity.issuer.clone(),
            subject: identity.subject.clone(),
            provider: provider.config.name.clone(),
            create_time: self.accounts.clock.now(),
        }
    }
}
