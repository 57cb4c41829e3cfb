//! `/auth`: signing up, in and out, and the user of a token.

use chassis::fault::Fault;
use prost_types::FieldMask;
use proto::auth::v1::{
    LoginRequest, LoginWithProviderRequest, LogoutRequest, RefreshSessionRequest, RegisterRequest,
    SuggestCredentialsRequest, UpdateUserRequest, UserChanges,
};
use proto::conversation::v1::{FirstContact, Privacy, UpdatePrivacyRequest};
use serde_json::{Value, json};

use super::users;
use crate::dialects::Dialects;
use crate::dialects::backend::Authority;
use crate::dialects::request::{HttpRequest, token};
use crate::dialects::talkamie::envelope::{Reply, in_our_words, is_refused_for};
use crate::dialects::talkamie::session::Session;
use crate::dialects::talkamie::words::zone;
use crate::http::error::Problem;

/// The header that names the client.
const DEVICE: &str = "x-user-device";

/// The header with the name of a provider, a space and its token.
const PROVIDER: &str = "x-auth-provider";

/// The longest name of a device, in characters.
const MAX_DEVICE: usize = 64;

/// The number of names to try if a suggested one was taken in the meantime.
const TRIES: usize = 3;

/// The reason of the refusal of an address that was not verified with a code.
const NOT_VERIFIED: &str = "ERROR_REASON_EMAIL_NOT_VERIFIED";

/// The reason of the refusal of a taken name.
const NAME_TAKEN: &str = "ERROR_REASON_USERNAME_TAKEN";

/// Creates an account with an e-mail address and a password, or with a provider. In production the address must have
/// been verified with a code: only a client with access to the address is told if it has an account.
pub(in crate::dialects::talkamie) async fn sign_up(
    dialects: &Dialects,
    request: &HttpRequest,
) -> Result<Reply, Problem> {
    if provider(request)?.is_some() {
        return with_provider(dialects, request).await;
    }
    let fields = request.fields();
    let registration = RegisterRequest {
        email: fields.required("email")?,
        password: fields.required("password")?,
        display_name: fields.filled("name")?.unwrap_or_default(),
        device_name: device(request),
        username: String::new(),
        require_verified_email: !dialects.backend.is_development(),
        // Clients are told that an address is taken. In production that requires the code.
        require_unclaimed_email: dialects.backend.is_development(),
    };
    let category = fields.filled("type")?;
    let token = register(dialects, request, registration).await?;
    let session = session(dialects, request, &token).await?;
    prepare(&session, category).await?;
    signed_in(&session, &token).await
}

/// Registers under a name that the service suggests: users of this API sign in with their address.
async fn register(
    dialects: &Dialects,
    request: &HttpRequest,
    mut registration: RegisterRequest,
) -> Result<String, Problem> {
    let anyone = Authority::Anonymous(request.address);
    for tried in 1.. {
        let suggestion = dialects.backend.call(anyone.clone(), SuggestCredentialsRequest {}).await?;
        registration.username = suggestion.username;
        match dialects.backend.call(anyone.clone(), registration.clone()).await {
            Ok(answer) => return Ok(answer.grant.unwrap_or_default().session_token),
            Err(problem) if tried < TRIES && is_refused_for(&problem, NAME_TAKEN) => {}
            Err(problem) if is_refused_for(&problem, NOT_VERIFIED) => {
                return Err(Problem::forbidden(
                    "verify the email with a code first: POST /otp, then /otp/verify",
                ));
            }
            Err(problem) => return Err(in_our_words(problem)),
        }
    }
    Err(Fault::internal().into())
}

/// Sets up a new account of this API: its type, that other users find it by its address, which clients of this API
/// search for, and that strangers need a request to write to it.
async fn prepare(session: &Session, category: Option<String>) -> Result<(), Problem> {
    let privacy = Privacy { first_contact: FirstContact::AfterRequest.into(), ..Privacy::default() };
    let update = UpdatePrivacyRequest {
        privacy: Some(privacy),
        update_mask: Some(FieldMask { paths: vec!["first_contact".to_owned()] }),
    };
    session.call(update).await?;
    let mut paths = vec!["found_by_email".to_owned()];
    paths.extend(category.as_ref().map(|_| "category".to_owned()));
    let changes = UserChanges {
        found_by_email: true,
        category: category.unwrap_or_default(),
        ..UserChanges::default()
    };
    let update = UpdateUserRequest {
        user: Some(changes),
        update_mask: Some(FieldMask { paths }),
        password: String::new(),
    };
    session.call(update).await?;
    Ok(())
}

/// Signs in with an e-mail address and a password, or with a provider.
pub(in crate::dialects::talkamie) async fn sign_in(
    dialects: &Dialects,
    request: &HttpRequest,
) -> Result<Reply, Problem> {
    if provider(request)?.is_some() {
        return with_provider(dialects, request).await;
    }
    let fields = request.fields();
    let login = LoginRequest {
        login: fields.required("email")?,
        password: fields.required("password")?,
        device_name: device(request),
    };
    let answer = dialects.backend.call(Authority::Anonymous(request.address), login).await;
    let token = answer.map_err(in_our_words)?.grant.unwrap_or_default().session_token;
    signed_in(&session(dialects, request, &token).await?, &token).await
}

/// Signs in with a provider. The first sign-in creates the account.
async fn with_provider(dialects: &Dialects, request: &HttpRequest) -> Result<Reply, Problem> {
    let Some((provider, id_token)) = provider(request)? else {
        return Err(Fault::invalid(PROVIDER, "is required").into());
    };
    let category = request.fields().filled("type")?;
    let login = LoginWithProviderRequest {
        provider,
        id_token,
        device_name: device(request),
        ..LoginWithProviderRequest::default()
    };
    let answer = dialects.backend.call(Authority::Anonymous(request.address), login).await;
    let answer = answer.map_err(in_our_words)?;
    let token = answer.grant.unwrap_or_default().session_token;
    let session = session(dialects, request, &token).await?;
    if answer.created {
        prepare(&session, category).await?;
    }
    signed_in(&session, &token).await
}

/// Reads the provider header.
fn provider(request: &HttpRequest) -> Result<Option<(String, String)>, Fault> {
    let Some(text) = request.header(PROVIDER).and_then(token) else { return Ok(None) };
    let parts =
        text.split_once(' ').map(|(name, token)| (name.to_ascii_lowercase(), token.trim().to_owned()));
    let parts = parts.filter(|(name, token)| !name.is_empty() && !token.is_empty());
    parts
        .map(Some)
        .ok_or_else(|| Fault::invalid(PROVIDER, "must be the name of a provider, a space and a token"))
}

fn device(request: &HttpRequest) -> String {
    let name = request.header(DEVICE).and_then(token).unwrap_or_default();
    name.chars().filter(|letter| !letter.is_control()).take(MAX_DEVICE).collect()
}

async fn session(dialects: &Dialects, request: &HttpRequest, token: &str) -> Result<Session, Problem> {
    let actor = dialects.backend.sign_in(token, request.address).await?;
    let zone = zone::of_offset(request.header(zone::HEADER))?;
    Ok(Session { dialects: dialects.clone(), actor, zone })
}

async fn signed_in(session: &Session, token: &str) -> Result<Reply, Problem> {
    let user = users::own(session).await?;
    Ok(Reply::new(json!({"user": user, "tokens": tokens(token)})))
}

/// Returns the tokens: one token serves as both.
fn tokens(token: &str) -> Value {
    json!({"access": token, "refresh": token})
}

/// Returns the user of the token.
pub(in crate::dialects::talkamie) async fn by_token(session: &Session) -> Result<Reply, Problem> {
    Ok(Reply::new(json!({"user": users::own(session).await?})))
}

/// Ends the session.
pub(in crate::dialects::talkamie) async fn sign_out(session: &Session) -> Result<Reply, Problem> {
    session.call(LogoutRequest {}).await?;
    Ok(Reply::done())
}

/// Returns a new token for a valid one: the bearer token, or the one in the body.
pub(in crate::dialects::talkamie) async fn refresh(
    dialects: &Dialects,
    request: &HttpRequest,
) -> Result<Reply, Problem> {
    let fields = request.fields();
    let in_body = match fields.filled("refresh")? {
        Some(token) => Some(token),
        None => fields.filled("token")?,
    };
    let given = in_body.as_deref().and_then(token).or_else(|| request.bearer());
    let given = given.ok_or_else(chassis::caller::unauthenticated)?;
    let refresh = RefreshSessionRequest { session_token: given.to_owned() };
    let answer = dialects.backend.call(Authority::Anonymous(request.address), refresh).await;
    let grant = answer.map_err(in_our_words)?.grant.unwrap_or_default();
    Ok(Reply::new(json!({"tokens": tokens(&grant.session_token)})))
}
