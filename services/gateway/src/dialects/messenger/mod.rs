//! The messenger API below `/api`: accounts, their direct conversations, and messages by exact cursors in both
//! directions.
//!
//! | path (also with `/api/:account/...`) | GET | POST |
//! | --- | --- | --- |
//! | `/api/accounts` | the accounts | |
//! | `/api/account/:account` | the account | |
//! | `.../conversations` | a page of conversations | finds or makes the one `with` another account |
//! | `.../conversation/:conversation` | the conversation | |
//! | `.../conversation/:conversation/messages` | a page of messages | sends a message |
//!
//! The account in the path is the acting user: by their token, or, on one developer's machine, without one for the
//! predefined accounts of this API.

mod accounts;
mod conversations;
mod cursor;
mod messages;
mod show;

use axum::response::Response;
use chassis::caller::unauthenticated;
use http::Method;

use self::accounts::Account;
use super::Dialects;
use super::request::HttpRequest;
use crate::http::error::Problem;

/// The namespace of the predefined accounts of this API.
const NAMESPACE: &str = "messenger";

/// The first segment after `/api` that belongs to another API, and is not an account.
pub(super) const NOT_AN_ACCOUNT: &str = "chat";

/// Executes the operation that a request names.
pub(super) async fn answer(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let route = request.route();
    // `/api/account/:account/...` and `/api/:account/...` are equivalent.
    let (at, rest) = match route.as_slice() {
        ["api", "accounts"] => {
            only(request, &[Method::GET])?;
            return accounts::list(dialects, request).await;
        }
        ["api", "account", _, rest @ ..] => (2, rest),
        ["api", "account"] => return Err(Problem::route_not_found()),
        ["api", _, rest @ ..] => (1, rest),
        _ => return Err(Problem::route_not_found()),
    };
    let conversation = request.path.get(at + 2).map(String::as_str).unwrap_or_default();
    let (get, get_or_post) = ([Method::GET], [Method::GET, Method::POST]);
    match rest {
        [] => {
            only(request, &get)?;
            accounts::show(&account(dialects, request, at).await?)
        }
        ["conversation" | "conversations"] => {
            only(request, &get_or_post)?;
            let account = account(dialects, request, at).await?;
            match request.method {
                Method::POST => conversations::find_or_create(dialects, request, &account).await,
                _ => conversations::list(dialects, request, &account).await,
            }
        }
        ["conversation" | "conversations", _] => {
            only(request, &get)?;
            let account = account(dialects, request, at).await?;
            conversations::show(dialects, &account, conversation).await
        }
        ["conversation" | "conversations", _, "messages"] => {
            only(request, &get_or_post)?;
            let account = account(dialects, request, at).await?;
            match request.method {
                Method::POST => messages::send(dialects, request, &account, conversation).await,
                _ => messages::list(dialects, request, &account, conversation).await,
            }
        }
        _ => Err(Problem::route_not_found()),
    }
}

fn only(request: &HttpRequest, methods: &[Method]) -> Result<(), Problem> {
    match methods.contains(&request.method) {
        true => Ok(()),
        false => Err(Problem::method_not_allowed(methods)),
    }
}

/// Returns the account in the path, which is the acting user.
async fn account(dialects: &Dialects, request: &HttpRequest, at: usize) -> Result<Account, Problem> {
    let name = request.path.get(at).map(String::as_str).unwrap_or_default();
    match token(dialects, request)? {
        Some(token) => {
            let actor = dialects.backend.sign_in(&token, request.address).await?;
            let account = Account::of(dialects, actor).await?;
            match account.answers_to(name) {
                true => Ok(account),
                false => Err(Problem::forbidden("the account in the path is not that of the token")),
            }
        }
        None if dialects.backend.is_development() => accounts::brought(dialects, name, request.address).await,
        None => Err(unauthenticated().into()),
    }
}

/// Returns the token of a request, if it has one.
fn token(dialects: &Dialects, request: &HttpRequest) -> Result<Option<String>, Problem> {
    if let Some(token) = request.bearer() {
        return Ok(Some(token.to_owned()));
    }
    dialects.token_in_query(request)
}
