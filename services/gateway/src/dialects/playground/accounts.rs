//! Accounts: signing up and in, guests, showing a user, and the display name.

use axum::response::{IntoResponse, Response};
use chassis::fault::Fault;
use http::StatusCode;
use proto::auth::v1::{
    ErrorReason, GetMeRequest, GetUserRequest, LoginAsGuestRequest, LoginRequest, RegisterRequest,
    SessionGrant, SuggestCredentialsRequest, UpdateUserRequest, User, UserChanges, UserKind,
};
use proto::id::UserId;
use serde_json::json;

use super::{actor, show as view, soft, user_id};
use crate::dialects::Dialects;
use crate::dialects::backend::{Actor, Authority};
use crate::dialects::external_accounts::AccountName;
use crate::dialects::fields::Fields;
use crate::dialects::request::{HttpRequest, ok};
use crate::http::error::Problem;

/// Names that clients of this API may not take, because they would suggest a role.
const RESERVED: [&str; 7] = ["root", "superuser", "admin", "administrator", "owner", "moderator", "system"];

/// The allowed lengths of a username and a password, in characters.
const USERNAME: std::ops::RangeInclusive<usize> = 4..=32;
const PASSWORD: std::ops::RangeInclusive<usize> = 8..=128;

/// The name of this API as a namespace of names, and as the client's name in the list of sessions.
const NAMESPACE: &str = "playground";

/// Creates an account.
pub(super) async fn register(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let fields = request.fields();
    let username = fields.text("username")?.unwrap_or_default();
    let password = fields.text("password")?.unwrap_or_default();
    if let Some(rule) = broken_rule(&username, &password) {
        return soft(rule);
    }
    let register = RegisterRequest {
        username,
        password,
        device_name: NAMESPACE.to_owned(),
        ..RegisterRequest::default()
    };
    match dialects.backend.call(Authority::Anonymous(request.address), register).await {
        Ok(made) => signed_in(made.user, made.grant),
        Err(problem) if problem.fault().reason() == ErrorReason::WeakPassword.as_str_name() => {
            soft(problem.fault().text())
        }
        Err(problem) => Err(problem),
    }
}

/// Returns the rule that a name or a password breaks.
fn broken_rule(username: &str, password: &str) -> Option<&'static str> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-');
    if !USERNAME.contains(&username.chars().count()) || !username.chars().all(is_letter) {
        return Some("username must have 4 to 32 characters: letters, digits, `_`, `.` and `-`");
    }
    if RESERVED.contains(&username.to_ascii_lowercase().as_str()) {
        return Some("username is reserved");
    }
    (!PASSWORD.contains(&password.chars().count())).then_some("password must have 8 to 128 characters")
}

/// Signs in with a name and a password, or as a guest.
pub(super) async fn login(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let fields = request.fields();
    if wants_guest(&fields) {
        let (user, actor) = guest(dialects, request.address).await?;
        return ok(&json!({"user": view::user(&user), "token": &*actor.token}));
    }
    let (Some(username), Some(password)) = (fields.filled("username")?, fields.filled("password")?) else {
        return soft("username and password are required");
    };
    let login = LoginRequest { login: username, password, device_name: NAMESPACE.to_owned() };
    match dialects.backend.call(Authority::Anonymous(request.address), login).await {
        Ok(found) => signed_in(found.user, found.grant),
        // A text that is too long for any account is a wrong name or password, too.
        Err(problem) if is_refused(problem.fault()) => soft("wrong username or password"),
        Err(problem) => Err(problem),
    }
}

fn is_refused(fault: &Fault) -> bool {
    [ErrorReason::BadCredentials, ErrorReason::InvalidField]
        .iter()
        .any(|reason| fault.reason() == reason.as_str_name())
}

fn wants_guest(fields: &Fields) -> bool {
    use serde_json::Value;
    match fields.get("guest") {
        Some(Value::Bool(wanted)) => *wanted,
        Some(Value::Number(number)) => number.as_i64() != Some(0),
        Some(Value::String(text)) => !matches!(text.as_str(), "" | "0" | "false"),
        _ => false,
    }
}

fn signed_in(user: Option<User>, grant: Option<SessionGrant>) -> Result<Response, Problem> {
    let token = grant.unwrap_or_default().session_token;
    ok(&json!({"user": view::user(&user.unwrap_or_default()), "token": token}))
}

/// Returns a guest: on one developer's machine the same one for an address, elsewhere a new one.
pub(super) async fn guest(dialects: &Dialects, address: std::net::IpAddr) -> Result<(User, Actor), Problem> {
    if dialects.backend.is_development() {
        let account = AccountName { namespace: NAMESPACE, name: address.to_string() };
        let random = UserId::generate().to_string();
        let name = format!("guest-{}", &random[random.len() - 4..]);
        let guest = dialects.external_accounts.sign_in(account, &name, UserKind::Guest, address).await;
        match guest {
            Ok(actor) => {
                let user = dialects.backend.call(&actor, GetMeRequest {}).await?.user.unwrap_or_default();
                return Ok((user, actor));
            }
            Err(problem)
                if problem.fault().reason() == ErrorReason::ExternalAccountsDisabled.as_str_name() => {}
            Err(problem) => return Err(problem),
        }
    }
    let login = LoginAsGuestRequest { device_name: NAMESPACE.to_owned(), ..LoginAsGuestRequest::default() };
    let made = dialects.backend.call(Authority::Anonymous(address), login).await?;
    let (user, grant) = (made.user.unwrap_or_default(), made.grant.unwrap_or_default());
    let user_id = UserId::parse(&user.user_id).map_err(|_| Fault::internal())?;
    let actor = Actor { user_id, session_id: None, token: grant.session_token.into(), address };
    Ok((user, actor))
}

/// Suggests a name and a password for signing up.
pub(super) async fn random(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let suggest = SuggestCredentialsRequest {};
    let made = dialects.backend.call(Authority::Anonymous(request.address), suggest).await?;
    ok(&json!({"username": made.username, "password": made.password}))
}

/// Shows the user of the token.
pub(super) async fn me(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let actor = actor(dialects, request).await?;
    let me = dialects.backend.call(&actor, GetMeRequest {}).await?;
    ok(&json!({"user": view::user(&me.user.unwrap_or_default())}))
}

/// Shows a user.
pub(super) async fn show(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let get = GetUserRequest { user_id: user_id(&request.path[1])?.to_string() };
    let found = dialects.backend.call(Authority::Anonymous(request.address), get).await?;
    ok(&json!({"user": view::user(&found.user.unwrap_or_default())}))
}

/// Changes the display name of the user of the token.
pub(super) async fn rename(
    dialects: &Dialects,
    request: &HttpRequest,
    uid: Option<&String>,
) -> Result<Response, Problem> {
    let actor = actor(dialects, request).await?;
    if let Some(uid) = uid
        && user_id(uid)? != actor.user_id
    {
        return Err(Problem::forbidden("only the user may do this"));
    }
    let fields = request.fields();
    let name = match fields.filled("display_name")? {
        Some(name) => name,
        None => fields.required("displayName").map_err(|_| Fault::invalid("display_name", "is required"))?,
    };
    set_name(dialects, &actor, name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Gives a user another display name.
pub(super) async fn set_name(dialects: &Dialects, actor: &Actor, name: String) -> Result<(), Problem> {
    let update = UpdateUserRequest {
        user: Some(UserChanges { display_name: name, ..UserChanges::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["display_name".to_owned()] }),
        ..UpdateUserRequest::default()
    };
    dialects.backend.call(actor, update).await?;
    dialects.people.forget(actor.user_id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_have_rules() {
        for (username, password) in [
            ("ann", "long enough"),
            ("Ann Lee", "long enough"),
            ("änne", "long enough"),
            ("Root", "long enough"),
            ("superuser", "long enough"),
            ("anne", "short"),
            ("", ""),
        ] {
            assert!(broken_rule(username, password).is_some(), "{username}");
        }
        assert_eq!(broken_rule("Anne_1.x-y", "long enough"), None);
    }

    #[test]
    fn a_guest_is_asked_for_in_several_ways() {
        let wants = |json: &str| wants_guest(&Fields::from_json(json.as_bytes()).expect("fields"));
        for json in [r#"{"guest": 1}"#, r#"{"guest": "1"}"#, r#"{"guest": true}"#] {
            assert!(wants(json), "{json}");
        }
        for json in
            [r#"{}"#, r#"{"guest": 0}"#, r#"{"guest": ""}"#, r#"{"guest": false}"#, r#"{"guest": null}"#]
        {
            assert!(!wants(json), "{json}");
        }
    }
}
