//! The acting user. If there is a token, it decides. On one developer's machine clients of this API may act under names
//! without a token: each name is an external account, created at its first use.

use std::net::IpAddr;

use chassis::caller::unauthenticated;
use proto::auth::v1::UserKind;
use proto::id::UserId;
use proto::messaging::v1::GetMessageRequest;

use super::NAMESPACE;
use super::operations::Operation;
use crate::dialects::Dialects;
use crate::dialects::backend::Actor;
use crate::dialects::external_accounts::AccountName;
use crate::dialects::fields::Fields;
use crate::dialects::ids;
use crate::dialects::request::{HttpRequest, token};
use crate::http::error::Problem;

/// The longest name, in characters.
const MAX_NAME: usize = 128;

/// A token that clients of this API send as a placeholder; in development it is treated as no token.
const PLACEHOLDER: &str = "valid-token";

/// A user that a field names.
pub(super) enum Named {
    /// A name of an external account of this API.
    Name(String),
    /// A user's own id.
    User(UserId),
}

/// Reads a name. UUIDv7s and uids are ids of users; other texts, other UUIDs included, are names.
pub(super) fn read(field: &str, text: &str) -> Result<Named, Problem> {
    let id = ids::parse(text).filter(|id| id.get_version_num() == 7);
    if let Some(id) = id {
        return Ok(Named::User(UserId::from(id)));
    }
    if chassis::text::is_blank(text) {
        return Err(chassis::fault::Fault::invalid(field, chassis::text::VISIBLE).into());
    }
    if text.chars().count() > MAX_NAME || text.chars().any(char::is_control) {
        let rule = format!("must have 1 to {MAX_NAME} characters, none of them a control character");
        return Err(chassis::fault::Fault::invalid(field, rule).into());
    }
    Ok(Named::Name(text.to_owned()))
}

/// Returns the token in a text; `None` for the texts that mean no token.
pub(super) fn real_token<'a>(dialects: &Dialects, text: Option<&'a str>) -> Option<&'a str> {
    let token = text.and_then(token)?;
    (token != PLACEHOLDER || !dialects.backend.is_development()).then_some(token)
}

/// Returns the user of the token in a handshake; `None` for a placeholder, in development. The error is shown to the
/// client.
pub(in crate::dialects) async fn greet(
    dialects: &Dialects,
    text: Option<&str>,
    address: IpAddr,
) -> Result<Option<Actor>, &'static str> {
    match real_token(dialects, text) {
        Some(token) => match dialects.backend.sign_in(token, address).await {
            Ok(actor) => Ok(Some(actor)),
            Err(problem) if problem.status().is_server_error() => Err("The server is not available"),
            Err(_) => Err("Authentication error"),
        },
        None if dialects.backend.is_development() => Ok(None),
        None => Err("Authentication error"),
    }
}

/// Signs in the external account with a name.
pub(super) async fn under_name(dialects: &Dialects, name: &str, address: IpAddr) -> Result<Actor, Problem> {
    if !dialects.backend.is_development() {
        return Err(unauthenticated().into());
    }
    let account = AccountName { namespace: NAMESPACE, name: name.to_owned() };
    dialects.external_accounts.sign_in(account, "", UserKind::External, address).await
}

/// Returns the account that acts without a token: by its name, or by its id when it is an external account of this API.
/// An account with a password never acts without its token.
pub(super) async fn without_token(
    dialects: &Dialects,
    field: &str,
    text: &str,
    address: IpAddr,
) -> Result<Actor, Problem> {
    match read(field, text)? {
        Named::Name(name) => under_name(dialects, &name, address).await,
        Named::User(user) => match name_of(dialects, user, address).await? {
            Some(name) => under_name(dialects, &name, address).await,
            None => Err(unauthenticated().into()),
        },
    }
}

/// Returns the name of an external account of this API; `None` for any other user.
async fn name_of(dialects: &Dialects, user: UserId, address: IpAddr) -> Result<Option<String>, Problem> {
    let id = user.to_string();
    let people = dialects.people.named([id.as_str()], address).await?;
    let account = people.get(&id).and_then(|user| user.external_account.as_ref());
    Ok(account.filter(|account| account.namespace == NAMESPACE).map(|account| account.name.clone()))
}

/// Refuses a field that names another user than the one of the token.
pub(super) fn require_same(actor: &Actor, fields: &Fields) -> Result<(), Problem> {
    match fields.filled("userID")? {
        Some(text) if ids::parse(&text) != Some(actor.user_id.uuid()) => {
            Err(Problem::forbidden("userID is not the user of the token"))
        }
        _ => Ok(()),
    }
}

/// Returns the user of a request over HTTP.
pub(super) async fn of_request(
    dialects: &Dialects,
    request: &HttpRequest,
    operation: Operation,
    fields: &Fields,
) -> Result<Actor, Problem> {
    let in_query = dialects.token_in_query(request)?;
    if let Some(token) = real_token(dialects, request.bearer().or(in_query.as_deref())) {
        let actor = dialects.backend.sign_in(token, request.address).await?;
        require_same(&actor, fields)?;
        return Ok(actor);
    }
    if !dialects.backend.is_development() {
        return Err(unauthenticated().into());
    }
    if let Some((field, text)) = operation.names_actor(fields)? {
        return without_token(dialects, field, &text, request.address).await;
    }
    let visitor = under_name(dialects, &request.address.to_string(), request.address).await?;
    match operation {
        Operation::EditMessage | Operation::DeleteMessage | Operation::UnsendMessage => {
            author(dialects, fields, &visitor).await
        }
        _ => Ok(visitor),
    }
}

/// Returns the author of the message that a request names, if it is an external account of this API.
async fn author(dialects: &Dialects, fields: &Fields, visitor: &Actor) -> Result<Actor, Problem> {
    let get = GetMessageRequest {
        conversation_id: ids::conversation("conversationID", &fields.required("conversationID")?)?
            .to_string(),
        message_id: ids::message("messageId", &fields.required("messageId")?)?.to_string(),
    };
    let message = dialects.backend.call(visitor, get).await?.message.unwrap_or_default();
    without_token(dialects, "userID", &message.sender_id, visitor.address).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_users_are_no_names_and_other_uuids_are() {
        let id = UserId::generate();
        assert!(matches!(read("userID", &id.to_string()), Ok(Named::User(user)) if user == id));
        assert!(matches!(read("userID", &ids::uid(id.uuid())), Ok(Named::User(user)) if user == id));
        let random = "936da01f-9abd-4d9d-80c7-02af85c822a8";
        for name in ["ann", random, "ann@example.com", "\u{1f331}"] {
            assert!(matches!(read("userID", name), Ok(Named::Name(read)) if read == name), "{name}");
        }
        for name in ["", "a\nb", &"x".repeat(129)] {
            assert!(read("userID", name).is_err(), "{name}");
        }
    }
}
