//! External accounts on the wire.

use chassis::fault::Fault;
use chassis::page::{self, Token as PageToken};
use proto::auth::v1 as pb;
use proto::id::UserId;
use uuid::Uuid;

use super::{as_slices, own_user};
use crate::accounts::SignedIn;
use crate::error::Error;
use crate::external_account::{ExternalAccount, ExternalLogin, Namespace};
use crate::providers::Entered;
use crate::session::DeviceName;
use crate::user::{DisplayName, UserKind};
use crate::users::ViewPage;

impl TryFrom<pb::LoginAsExternalAccountRequest> for ExternalLogin {
    type Error = Error;

    fn try_from(request: pb::LoginAsExternalAccountRequest) -> Result<Self, Error> {
        let kind = match request.kind() {
            pb::UserKind::External => UserKind::External,
            pb::UserKind::Guest => UserKind::Guest,
            pb::UserKind::Unspecified | pb::UserKind::Registered => {
                return Err(Error::invalid("kind", "must be EXTERNAL or GUEST"));
            }
        };
        Ok(Self {
            external: ExternalAccount::parse(&request.namespace, &request.name)?,
            kind,
            display_name: DisplayName::parse_optional("display_name", &request.display_name)?,
            device_name: DeviceName::parse(&request.device_name)?,
        })
    }
}

impl From<Entered> for pb::LoginAsExternalAccountResponse {
    fn from(Entered { signed_in: SignedIn { user, grant }, created }: Entered) -> Self {
        Self { user: Some(own_user(user)), grant: Some(grant.into()), created }
    }
}

impl From<ExternalAccount> for pb::ExternalAccount {
    fn from(external: ExternalAccount) -> Self {
        Self { namespace: external.namespace().as_str().to_owned(), name: external.name().to_owned() }
    }
}

/// A request for a page of external accounts.
pub struct ExternalQuery {
    /// The namespace.
    pub namespace: Namespace,
    /// The last account of the page before.
    pub after: Option<UserId>,
    /// The size of the page.
    pub limit: i64,
}

impl TryFrom<pb::ListExternalAccountsRequest> for ExternalQuery {
    type Error = Fault;

    fn try_from(request: pb::ListExternalAccountsRequest) -> Result<Self, Fault> {
        let namespace = Namespace::parse(&request.namespace)?;
        let after = PageToken::after::<Uuid>(&request.page_token, &as_slices(&parts(&namespace)))?;
        Ok(Self { namespace, after: after.map(UserId::from), limit: page::size(request.page_size) })
    }
}

impl ExternalQuery {
    /// The answer to it.
    pub fn answer(&self, page: ViewPage) -> pb::ListExternalAccountsResponse {
        let last = page.views.last().filter(|_| page.has_more);
        let next_page_token = last
            .map(|view| PageToken::at(&as_slices(&parts(&self.namespace)), &view.account.id().uuid()))
            .unwrap_or_default();
        let users = page.views.into_iter().map(pb::User::from).collect();
        pb::ListExternalAccountsResponse { users, next_page_token }
    }
}

/// The parts of the request that a page token is bound to.
fn parts(namespace: &Namespace) -> [Vec<u8>; 1] {
    [namespace.as_str().into()]
}
