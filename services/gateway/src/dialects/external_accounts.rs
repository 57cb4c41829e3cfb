//! The sessions of external accounts: names under which clients of a dialect act without signing in, where the operator
//! allows it (the profile for one developer's machine).

use std::net::IpAddr;

use moka::future::Cache;
use proto::auth::v1::{LoginAsExternalAccountRequest, UserKind};
use proto::id::UserId;

use super::backend::{Actor, Authority, Backend};
use crate::http::error::Problem;

/// The maximum number of sessions that are kept.
const CAPACITY: u64 = 10_000;

/// The name of an external account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AccountName {
    /// The dialect whose clients use the name.
    pub(crate) namespace: &'static str,
    pub(crate) name: String,
}

/// The sessions of external accounts.
#[derive(Clone)]
pub(crate) struct ExternalAccounts {
    backend: Backend,
    sessions: Cache<AccountName, Actor>,
}

impl ExternalAccounts {
    pub(crate) fn new(backend: Backend) -> Self {
        Self { backend, sessions: Cache::new(CAPACITY) }
    }

    /// Signs in the account with a name; it is created when there is none.
    pub(crate) async fn sign_in(
        &self,
        account: AccountName,
        display_name: &str,
        kind: UserKind,
        address: IpAddr,
    ) -> Result<Actor, Problem> {
        if let Some(actor) = self.sessions.get(&account).await {
            if self.backend.is_signed_in(&actor).await? {
                return Ok(Actor { address, ..actor });
            }
            self.sessions.invalidate(&account).await;
        }
        let login = self.log_in(&account, display_name, kind, address);
        // Concurrent requests share one session.
        let actor = self.sessions.try_get_with(account.clone(), login).await;
        actor.map(|actor| Actor { address, ..actor }).map_err(|problem| Problem::clone(&problem))
    }

    async fn log_in(
        &self,
        account: &AccountName,
        display_name: &str,
        kind: UserKind,
        address: IpAddr,
    ) -> Result<Actor, Problem> {
        let request = LoginAsExternalAccountRequest {
            namespace: account.namespace.to_owned(),
            name: account.name.clone(),
            display_name: display_name.to_owned(),
            kind: kind.into(),
            device_name: account.namespace.to_owned(),
        };
        let response = self.backend.call(Authority::Anonymous(address), request).await?;
        let (user, grant) = (response.user.unwrap_or_default(), response.grant.unwrap_or_default());
        let user_id = UserId::parse(&user.user_id).map_err(|_| Problem::internal())?;
        Ok(Actor { user_id, session_id: None, token: grant.session_token.into(), address })
    }
}
