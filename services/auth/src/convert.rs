//! Requests to what they mean, and what came of them to answers.

pub mod background_checks;
mod external_accounts;
pub mod otp;
mod profiles;
pub mod providers;
mod reviews;

use chassis::clock::Timestamp;
use chassis::page;
use prost::Message;
use proto::auth::v1 as pb;
use proto::id::{DeviceKeyId, SessionId, UserId};

use crate::accounts::{GuestEntry, Registration, SignedIn, SigningIn};
use crate::device_key::DeviceKey;
use crate::email::Email;
use crate::error::Error;
use crate::password::{NewPassword, Password};
use crate::session::{DeviceName, Grant, Identified, Session};
use crate::store::Login;
use crate::stream_ticket::StreamKey;
use crate::user::{Bio, Changes, DisplayName, PictureUrl, UserKind};
use crate::username::Username;

pub use external_accounts::ExternalQuery;
pub use profiles::{InterestQuery, ListQuery, own_user};
pub use reviews::{ReviewQuery, acquaintance, rating, review_ids, verdict};

impl TryFrom<pb::RegisterRequest> for Registration {
    type Error = Error;

    fn try_from(request: pb::RegisterRequest) -> Result<Self, Error> {
        let username = Username::parse(&request.username)?;
        let password = NewPassword::choose("password", Password::presented(&request.password), &username)?;
        let email = optional_email("email", &request.email)?;
        if request.require_verified_email && email.is_none() {
            return Err(Error::invalid("email", "must be set when require_verified_email is"));
        }
        Ok(Self {
            password,
            display_name: DisplayName::parse_optional("display_name", &request.display_name)?,
            email,
            device_name: DeviceName::parse(&request.device_name)?,
            requires_verified_email: request.require_verified_email,
            requires_unclaimed_email: request.require_unclaimed_email,
            username,
        })
    }
}

impl TryFrom<pb::LoginRequest> for SigningIn {
    type Error = Error;

    fn try_from(request: pb::LoginRequest) -> Result<Self, Error> {
        // What nobody can have is not said to be wrong, but tried like every other name.
        let login = if request.login.contains('@') {
            Email::parse("login", &request.login).ok().map(|email| Login::Email(email.key().to_owned()))
        } else {
            Username::parse(&request.login).ok().map(Login::Username)
        };
        Ok(Self {
            login_key: match &login {
                Some(Login::Username(name)) => name.as_str().to_owned(),
                Some(Login::Email(key)) => key.clone(),
                None => request.login.to_lowercase(),
            },
            login,
            password: Password::presented(&request.password),
            device_name: DeviceName::parse(&request.device_name)?,
        })
    }
}

impl TryFrom<pb::LoginAsGuestRequest> for GuestEntry {
    type Error = Error;

    fn try_from(request: pb::LoginAsGuestRequest) -> Result<Self, Error> {
        Ok(Self {
            display_name: DisplayName::parse_optional("display_name", &request.display_name)?,
            device_name: DeviceName::parse(&request.device_name)?,
        })
    }
}

impl TryFrom<pb::UpdateUserRequest> for Changes {
    type Error = Error;

    fn try_from(request: pb::UpdateUserRequest) -> Result<Self, Error> {
        let user = request.user.unwrap_or_default();
        let mask = request.update_mask.unwrap_or_default();
        if mask.paths.is_empty() {
            return Err(Error::invalid("update_mask", "must name what to set"));
        }
        let mut changes = Self::default();
        for path in &mask.paths {
            match path.as_str() {
                "display_name" => {
                    changes.display_name = Some(DisplayName::parse("user.display_name", &user.display_name)?);
                }
                "email" => changes.email = Some(optional_email("user.email", &user.email)?),
                "bio" => changes.bio = Some(Bio::parse("user.bio", &user.bio)?),
                "picture_url" => {
                    changes.picture =
                        Some(PictureUrl::parse_optional("user.picture_url", &user.picture_url)?);
                }
                path if profiles::change(&mut changes.profile, path, &user)? => {}
                _ => return Err(Error::invalid("update_mask", "may only name fields of a user's changes")),
            }
        }
        Ok(changes)
    }
}

fn as_slices<const N: usize>(parts: &[Vec<u8>; N]) -> [&[u8]; N] {
    parts.each_ref().map(Vec::as_slice)
}

fn optional_email(field: &'static str, text: &str) -> Result<Option<Email>, Error> {
    if text.is_empty() { Ok(None) } else { Email::parse(field, text).map(Some) }
}

/// Reads the id of a user.
pub fn user_id(field: &'static str, text: &str) -> Result<UserId, Error> {
    UserId::parse(text).map_err(|_| Error::invalid(field, "must be a UUID"))
}

/// Reads the id of a session.
pub fn session_id(field: &'static str, text: &str) -> Result<SessionId, Error> {
    SessionId::parse(text).map_err(|_| Error::invalid(field, "must be a UUID"))
}

/// Reads the id of a device key.
pub fn device_key_id(text: &str) -> Result<DeviceKeyId, Error> {
    DeviceKeyId::parse(text).map_err(|_| Error::invalid("device_key_id", "must be a UUID"))
}

/// Users asked for by id and by name. A name that nobody can have is nobody's.
pub fn users(request: &pb::BatchGetUsersRequest) -> Result<(Vec<UserId>, Vec<Username>), Error> {
    if request.user_ids.is_empty() && request.usernames.is_empty() {
        return Err(Error::invalid("user_ids", "must name a user when usernames does not"));
    }
    let ids = request.user_ids.iter().map(|id| user_id("user_ids", id)).collect::<Result<_, _>>()?;
    let names = request.usernames.iter().filter_map(|name| Username::parse(name).ok()).collect();
    Ok((ids, names))
}

/// How many facts to list: 100 when nothing is said, 1,000 at most.
pub fn fact_limit(requested: i32) -> i64 {
    page::limit(requested, 100, 1000)
}

/// A fact as it was kept, with its position.
pub fn fact((position, payload): (i64, Vec<u8>)) -> Result<pb::UserFact, Error> {
    let fact = pb::UserFact::decode(payload.as_slice()).map_err(|error| Error::Internal(error.into()))?;
    Ok(pb::UserFact { position, ..fact })
}

impl From<DeviceKey> for pb::DeviceKey {
    fn from(key: DeviceKey) -> Self {
        Self {
            device_key_id: key.id.to_string(),
            user_id: key.user_id.to_string(),
            name: key.name.as_str().to_owned(),
            public_key: key.public_key.as_bytes().to_vec(),
            create_time: Some(key.create_time.to_proto()),
            revoke_time: key.revoke_time.map(Timestamp::to_proto),
        }
    }
}

fn kind(kind: UserKind) -> pb::UserKind {
    match kind {
        UserKind::Registered => pb::UserKind::Registered,
        UserKind::Guest => pb::UserKind::Guest,
        UserKind::External => pb::UserKind::External,
    }
}

/// A session in the list of the one that has the session `current`.
pub fn session(session: Session, current: Option<SessionId>) -> pb::Session {
    pb::Session {
        session_id: session.id.to_string(),
        user_id: session.user_id.to_string(),
        device_name: session.device_name.as_str().to_owned(),
        create_time: Some(session.create_time.to_proto()),
        last_use_time: Some(session.last_use_time.to_proto()),
        expire_time: Some(session.expire_time.to_proto()),
        current: current == Some(session.id),
    }
}

impl From<Grant> for pb::SessionGrant {
    fn from(Grant { token, session: granted }: Grant) -> Self {
        let current = granted.id;
        Self { session_token: token.text(), session: Some(session(granted, Some(current))) }
    }
}

impl From<SignedIn> for pb::RegisterResponse {
    fn from(SignedIn { user, grant }: SignedIn) -> Self {
        Self { user: Some(own_user(user)), grant: Some(grant.into()) }
    }
}

impl From<SignedIn> for pb::LoginResponse {
    fn from(SignedIn { user, grant }: SignedIn) -> Self {
        Self { user: Some(own_user(user)), grant: Some(grant.into()) }
    }
}

impl From<SignedIn> for pb::LoginAsGuestResponse {
    fn from(SignedIn { user, grant }: SignedIn) -> Self {
        Self { user: Some(own_user(user)), grant: Some(grant.into()) }
    }
}

/// The session that a stream ticket stands for, and the key of the stream.
pub fn redeemed(redeemed: Option<(Identified, StreamKey)>) -> pb::RedeemStreamTicketResponse {
    let Some((identified, key)) = redeemed else { return pb::RedeemStreamTicketResponse::default() };
    pb::RedeemStreamTicketResponse { caller: Some(identified.into()), stream_key: key.as_bytes().to_vec() }
}

impl From<Identified> for pb::CallerInfo {
    fn from(Identified { session, kind: of }: Identified) -> Self {
        Self {
            user_id: session.user_id.to_string(),
            session_id: session.id.to_string(),
            kind: kind(of).into(),
            expire_millis: session.expire_time.as_millis(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Day;
    use crate::user::Account;
    use crate::view::{Detail, View};

    fn update(paths: &[&str], user: pb::UserChanges) -> Result<Changes, Error> {
        let mask = prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() };
        let request =
            pb::UpdateUserRequest { user: Some(user), update_mask: Some(mask), ..Default::default() };
        Changes::try_from(request)
    }

    #[test]
    fn only_what_the_mask_names_is_looked_at() {
        let user = pb::UserChanges {
            bio: "hello".to_owned(),
            picture_url: "nonsense".to_owned(),
            ..Default::default()
        };
        let changes = update(&["bio"], user).unwrap();
        assert_eq!(changes, Changes { bio: Some(Bio::stored("hello".to_owned())), ..Changes::default() });
    }

    #[test]
    fn a_mask_names_something_and_only_what_there_is() {
        for paths in [&[] as &[&str], &["username"], &["bio", "nonsense"], &["user.bio"], &["*"]] {
            let refused = update(paths, pb::UserChanges::default());
            assert!(matches!(refused, Err(Error::Invalid { field: "update_mask", .. })), "{paths:?}");
        }
        let refused = update(&["display_name"], pb::UserChanges::default());
        assert!(matches!(refused, Err(Error::Invalid { field: "user.display_name", .. })));
    }

    #[test]
    fn a_login_is_a_name_or_an_address_however_it_is_written() {
        let login = |text: &str| {
            let request = pb::LoginRequest { login: text.to_owned(), ..Default::default() };
            let signing_in = SigningIn::try_from(request).unwrap();
            (signing_in.login, signing_in.login_key)
        };
        assert_eq!(login("ANN"), (Some(Login::Username(Username::parse("ann").unwrap())), "ann".to_owned()));
        assert_eq!(login("A@B.c"), (Some(Login::Email("a@b.c".to_owned())), "a@b.c".to_owned()));
        assert_eq!(login("Nobody Here"), (None, "nobody here".to_owned()));
    }

    #[test]
    fn a_tombstone_shows_its_id_and_nothing_else() {
        let (id, delete_time) = (UserId::generate(), Timestamp::from_millis(5));
        let account = Account::Deleted { id, delete_time };
        let view = View { account, detail: Detail::Public, is_service: true, today: Day::at(delete_time) };
        let shown = pb::User::from(view);
        let expected = pb::User {
            user_id: id.to_string(),
            delete_time: Some(delete_time.to_proto()),
            ..Default::default()
        };
        assert_eq!(shown, expected);
    }
}
