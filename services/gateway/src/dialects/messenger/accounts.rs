//! Accounts: the predefined ones of this API, and registered users for clients with a token.

use std::net::IpAddr;

use axum::response::Response;
use chassis::caller::unauthenticated;
use proto::auth::v1::{ListExternalAccountsRequest, ListUsersRequest, User, UserKind};
use proto::id::UserId;
use serde_json::{Value, json};

use super::{NAMESPACE, show as view, token};
use crate::dialects::Dialects;
use crate::dialects::backend::{Actor, Authority};
use crate::dialects::external_accounts::AccountName;
use crate::dialects::ids;
use crate::dialects::request::{HttpRequest, ok};
use crate::http::error::Problem;

/// The predefined accounts of this API: id and name.
const BROUGHT: [(&str, &str); 4] = [("1", "Will Smith"), ("2", "Jada"), ("3", "Jaden"), ("4", "Chris Rock")];

/// The maximum number of registered users in the list of accounts.
const REGISTERED: i32 = 100;

/// The acting account.
pub(super) struct Account {
    pub(super) actor: Actor,
    /// The id that this API shows.
    id: String,
    name: String,
}

impl Account {
    pub(super) async fn of(dialects: &Dialects, actor: Actor) -> Result<Self, Problem> {
        let id = actor.user_id.to_string();
        let people = dialects.people.named([id.as_str()], actor.address).await?;
        let (shown, name) = match people.get(&id) {
            Some(user) => (view::account_id(user).to_owned(), user.display_name.clone()),
            None => (id, String::new()),
        };
        Ok(Self { actor, id: shown, name })
    }

    /// True for the shown id, the UUID and the uid of the account.
    pub(super) fn answers_to(&self, name: &str) -> bool {
        self.id == name || ids::parse(name) == Some(self.actor.user_id.uuid())
    }
}

/// Shows the acting account.
pub(super) fn show(account: &Account) -> Result<Response, Problem> {
    ok(&json!({"id": account.id, "name": account.name}))
}

/// Returns a predefined account of this API, which acts without a token.
pub(super) async fn brought(dialects: &Dialects, id: &str, address: IpAddr) -> Result<Account, Problem> {
    if let Some(actor) = sign_in(dialects, id, address).await? {
        return Account::of(dialects, actor).await;
    }
    let Some(user) = ids::parse(id).map(UserId::from) else { return Err(unknown(id)) };
    let text = user.to_string();
    let people = dialects.people.named([text.as_str()], address).await?;
    match people.get(&text).map(view::account_id) {
        Some(name) if name != text => {
            let actor = sign_in(dialects, name, address).await?.ok_or_else(|| unknown(id))?;
            Account::of(dialects, actor).await
        }
        // An account with a password never acts without its token.
        Some(_) => Err(unauthenticated().into()),
        None => Err(unknown(id)),
    }
}

fn unknown(id: &str) -> Problem {
    Problem::not_found(&format!("there is no account {:?}", id.chars().take(64).collect::<String>()))
}

async fn sign_in(dialects: &Dialects, id: &str, address: IpAddr) -> Result<Option<Actor>, Problem> {
    let Some((id, name)) = BROUGHT.iter().find(|(brought, _)| *brought == id) else { return Ok(None) };
    let account = AccountName { namespace: NAMESPACE, name: (*id).to_owned() };
    dialects.external_accounts.sign_in(account, name, UserKind::External, address).await.map(Some)
}

/// Returns the other user that a request names: a predefined account of this API, or a registered user.
pub(super) async fn named(dialects: &Dialects, id: &str, actor: &Actor) -> Result<UserId, Problem> {
    if dialects.backend.is_development()
        && let Some(other) = sign_in(dialects, id, actor.address).await?
    {
        return Ok(other.user_id);
    }
    match ids::parse(id) {
        Some(id) => Ok(UserId::from(id)),
        None => Err(unknown(id)),
    }
}

/// Lists the predefined accounts of this API and, for clients with a token, the first registered users.
pub(super) async fn list(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let actor = match token(dialects, request)? {
        Some(token) => Some(dialects.backend.sign_in(&token, request.address).await?),
        None if dialects.backend.is_development() => None,
        None => return Err(unauthenticated().into()),
    };
    let mut users = Vec::new();
    if dialects.backend.is_development() {
        for (id, _) in BROUGHT {
            sign_in(dialects, id, request.address).await?;
        }
        let list = ListExternalAccountsRequest {
            namespace: NAMESPACE.to_owned(),
            page_size: 100,
            ..ListExternalAccountsRequest::default()
        };
        users.extend(dialects.backend.call(Authority::Anonymous(request.address), list).await?.users);
    }
    if let Some(actor) = actor {
        let list = ListUsersRequest {
            kind: UserKind::Registered.into(),
            page_size: REGISTERED,
            ..ListUsersRequest::default()
        };
        users.extend(dialects.backend.call(&actor, list).await?.users);
    }
    let shown: Vec<Value> = users.iter().map(show_user).collect();
    ok(&json!({"accounts": shown}))
}

fn show_user(user: &User) -> Value {
    json!({"id": view::account_id(user), "name": user.display_name})
}
