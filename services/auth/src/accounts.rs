//! Accounts and who proves to own one: registering, signing in, changing the password, going.

use std::time::Duration;

use chassis::caller::{Caller, ClientNetwork};
use chassis::clock::Clock;
use chassis::profile::Profile as RunProfile;
use proto::id::UserId;

use crate::attempts::Attempts;
use crate::email::Email;
use crate::errand::Errand;
use crate::error::Error;
use crate::hasher::Hasher;
use crate::otp::AddressProof;
use crate::password::{NewPassword, Password, PasswordHash};
use crate::profile::Profile;
use crate::publish::Publisher;
use crate::random;
use crate::refusal::Refusal;
use crate::reserved::ReservedNames;
use crate::review::Rating;
use crate::session::{DeviceName, Grant, Lifetime, Session};
use crate::standing::Standing;
use crate::store::{Credentials, Login, NewAccount, PasswordChange, SignIn, Store};
use crate::token::Token;
use crate::user::{Bio, DisplayName, User, UserKind};
use crate::username::Username;

/// For how long a session proves that its owner is there, where there is no password to prove it.
const JUST: Duration = Duration::from_secs(10 * 60);

/// The use cases around accounts.
#[derive(Debug)]
pub struct Accounts {
    /// What is kept.
    pub store: Store,
    /// Hashes passwords.
    pub hasher: Hasher,
    /// Counts tries.
    pub attempts: Attempts,
    /// Tells the time.
    pub clock: Clock,
    /// Tells others.
    pub publisher: Publisher,
    /// For whom the process runs.
    pub profile: RunProfile,
    /// The names that nobody registers.
    pub reserved: ReservedNames,
    /// Whether strangers may make accounts.
    pub registration_open: bool,
    /// Whether the gateway signs in external accounts.
    pub external_accounts: bool,
    /// How long sessions live.
    pub lifetime: Lifetime,
    /// How many sessions a user has at most.
    pub sessions_per_user: u32,
}

/// An account to make.
#[derive(Debug)]
pub struct Registration {
    /// The name to sign in with.
    pub username: Username,
    /// The password, which may be used.
    pub password: NewPassword,
    /// The name that people see; the username when none was given.
    pub display_name: Option<DisplayName>,
    /// The address, when one was given.
    pub email: Option<Email>,
    /// What the client calls its device.
    pub device_name: DeviceName,
    /// True when the address must have been verified before; then there is one.
    pub requires_verified_email: bool,
    /// True when no account may have or claim the address; in development only.
    pub requires_unclaimed_email: bool,
}

/// Somebody who wants to sign in.
#[derive(Debug)]
pub struct SigningIn {
    /// With what name; `None` for one that nobody can have.
    pub login: Option<Login>,
    /// The name, folded, for counting tries.
    pub login_key: String,
    /// The password.
    pub password: Password,
    /// What the client calls its device.
    pub device_name: DeviceName,
}

/// A guest to make.
#[derive(Debug)]
pub struct GuestEntry {
    /// The name that people see; made up when none was given.
    pub display_name: Option<DisplayName>,
    /// What the client calls its device.
    pub device_name: DeviceName,
}

/// An account that is signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// The account.
    pub user: User,
    /// Its session.
    pub grant: Grant,
}

impl Accounts {
    /// Makes an account and signs it in. The proof is of its address, which is verified from the start if it counts; the
    /// notice tells the account that has the address. Where a verified address is required, an address without a proof that
    /// counts is refused.
    pub async fn register(
        &self,
        registration: Registration,
        proof: Option<AddressProof>,
        notice: Option<Errand>,
    ) -> Result<SignedIn, Error> {
        if !self.registration_open {
            return Err(Error::RegistrationClosed);
        }
        let Registration { username, password, display_name, email, device_name, .. } = registration;
        if registration.requires_unclaimed_email && !self.profile.is_development() {
            return Err(Error::invalid("require_unclaimed_email", "must not be set in production"));
        }
        if self.reserved.contains(&username) {
            return Err(Error::UsernameTaken(username));
        }
        let hash = self.hasher.hash(password.into_inner()).await?;
        let display_name = display_name.unwrap_or_else(|| DisplayName::from(&username));
        let user = self.new_user(UserKind::Registered, Some(username), display_name, email);
        let grant = self.new_grant(user.id, device_name)?;
        let new = NewAccount {
            user,
            hash: &hash,
            first: &grant,
            proof: proof.as_ref(),
            requires_proof: registration.requires_verified_email,
            requires_unclaimed: registration.requires_unclaimed_email,
            notice: notice.as_ref(),
        };
        let user = self.store.register(new).await?;
        tracing::info!(user.id = %user.id, "registered user {}", user.id);
        Ok(SignedIn { user, grant })
    }

    /// Makes a guest and signs it in.
    pub async fn enter_as_guest(&self, entry: GuestEntry) -> Result<SignedIn, Error> {
        let display_name = match entry.display_name {
            Some(name) => name,
            None => guest_name().map_err(Error::Internal)?,
        };
        let user = self.new_user(UserKind::Guest, None, display_name, None);
        let grant = self.new_grant(user.id, entry.device_name)?;
        self.store.create(&user, None, &grant).await?;
        tracing::info!(user.id = %user.id, "let in guest {}", user.id);
        Ok(SignedIn { user, grant })
    }

    /// Signs in with a name and a password. Says and does the same for a name that nobody has.
    pub async fn sign_in(
        &self,
        signing_in: SigningIn,
        from: Option<ClientNetwork>,
    ) -> Result<SignedIn, Error> {
        let SigningIn { login, login_key, password, device_name } = signing_in;
        self.attempts.by_login(&login_key, from).await?;
        let found = match &login {
            Some(login) => self.store.find_login(login).await?,
            None => None,
        };
        let stored = found.as_ref().and_then(|found| found.hash.as_ref());
        let is_right = self.hasher.verify(password.clone(), stored).await?;
        let proven = found.filter(|_| is_right).and_then(|Credentials { user, hash }| Some((user, hash?)));
        let Some((user, verified)) = proven else {
            metrics::counter!("auth_sign_ins_total", "outcome" => "refused").increment(1);
            tracing::info!("refused to sign in: name or password is wrong");
            return Err(Error::BadCredentials);
        };
        let rehashed = self.rehash_if_outdated(&verified, password).await;
        let grant = self.new_grant(user.id, device_name)?;
        let sign_in = SignIn {
            grant: &grant,
            verified: &verified,
            rehashed: rehashed.as_ref(),
            most: self.sessions_per_user,
        };
        let ended = self.store.sign_in(sign_in).await?;
        self.publisher.sessions_ended(user.id, &ended);
        metrics::counter!("auth_sign_ins_total", "outcome" => "done").increment(1);
        tracing::info!(user.id = %user.id, session.id = %grant.session.id, "signed in user {}", user.id);
        Ok(SignedIn { user, grant })
    }

    /// Sets a new password and ends all other sessions.
    pub async fn change_password(&self, caller: &Caller, old: Password, new: Password) -> Result<(), Error> {
        let found = self.store.find_credentials(caller.user_id).await?;
        let Credentials { user, hash } = found.ok_or(Error::Unauthenticated)?;
        let Some(username) = user.username else { return Err(Error::GuestAccount) };
        let verified = hash.ok_or(Refusal::PasswordNotSet)?;
        let new = NewPassword::choose("new_password", new, &username)?;
        self.prove(user.id, old, &verified).await?;
        let new = self.hasher.hash(new.into_inner()).await?;
        let change = PasswordChange {
            user_id: user.id,
            verified: &verified,
            new: &new,
            keep: caller.session_id,
            now: self.clock.now(),
        };
        let ended = self.store.change_password(change).await?;
        self.publisher.sessions_ended(user.id, &ended);
        tracing::info!(user.id = %user.id, sessions.ended = ended.len(), "changed the password of user {}", user.id);
        Ok(())
    }

    /// Deletes the caller's own account. A guest, who has no password, need not send one; an account without one, which
    /// is linked to a provider, is only deleted by a session that was signed in a moment ago.
    pub async fn delete(&self, caller: &Caller, password: Password) -> Result<(), Error> {
        let found = self.store.find_credentials(caller.user_id).await?;
        let found = found.ok_or(Error::Unauthenticated)?;
        self.prove_owner(caller, &found, password).await?;
        let Credentials { user, hash } = found;
        self.store.delete_user(user.id, hash.as_ref(), self.clock.now()).await?;
        self.publisher.all_sessions_ended(user.id);
        self.publisher.facts();
        tracing::info!(user.id = %user.id, "deleted user {}", user.id);
        Ok(())
    }

    /// Whether the caller's session is so new that nobody else can have got hold of it.
    async fn is_just_signed_in(&self, caller: &Caller) -> Result<bool, Error> {
        let (now, sessions) = (self.clock.now(), self.store.sessions_of(caller.user_id).await?);
        let current = sessions.iter().find(|session| Some(session.id) == caller.session_id);
        Ok(current.is_some_and(|session| now.since(session.create_time) < JUST))
    }

    /// Proves that the caller is the owner of the account and not somebody who got hold of a session: with the password
    /// when there is one, otherwise by having signed in a moment ago. A guest has nothing but the session. Counts the try.
    pub(crate) async fn prove_owner(
        &self,
        caller: &Caller,
        found: &Credentials,
        password: Password,
    ) -> Result<(), Error> {
        let Credentials { user, hash } = found;
        if let Some(verified) = hash {
            return self.prove(user.id, password, verified).await;
        }
        self.attempts.by_user(user.id).await?;
        if user.kind == UserKind::Registered && !self.is_just_signed_in(caller).await? {
            return Err(Refusal::SignInAgain.into());
        }
        Ok(())
    }

    /// Proves that the caller is the owner: by having signed in a moment ago, or with the password. Without a password, an
    /// older session has to be signed in again.
    pub(crate) async fn prove_owner_or_recent(
        &self,
        caller: &Caller,
        password: Option<Password>,
    ) -> Result<(), Error> {
        let found = self.store.find_credentials(caller.user_id).await?.ok_or(Error::Unauthenticated)?;
        // Others have nothing but the session.
        if found.user.kind != UserKind::Registered || self.is_just_signed_in(caller).await? {
            return Ok(());
        }
        match password {
            Some(password) if found.hash.is_some() => self.prove_owner(caller, &found, password).await,
            _ => Err(Refusal::SignInAgain.into()),
        }
    }

    /// Proves with a password that the caller is the user; counts the try.
    async fn prove(&self, user_id: UserId, password: Password, verified: &PasswordHash) -> Result<(), Error> {
        self.attempts.by_user(user_id).await?;
        if self.hasher.verify(password, Some(verified)).await? {
            return Ok(());
        }
        tracing::info!(user.id = %user_id, "refused a wrong password of user {user_id}");
        Err(Error::BadCredentials)
    }

    /// What to keep of a password that was right but is kept under older parameters. Nobody is kept out because there
    /// is no time for it now.
    async fn rehash_if_outdated(&self, verified: &PasswordHash, password: Password) -> Option<PasswordHash> {
        if self.hasher.is_outdated(verified) { self.hasher.hash(password).await.ok() } else { None }
    }

    /// An account that begins now.
    pub(crate) fn new_user(
        &self,
        kind: UserKind,
        username: Option<Username>,
        display_name: DisplayName,
        email: Option<Email>,
    ) -> User {
        let now = self.clock.now();
        User {
            id: UserId::generate(),
            kind,
            username,
            display_name,
            email,
            bio: Bio::default(),
            picture: None,
            create_time: now,
            update_time: now,
            profile: Profile::default(),
            rating: Rating::default(),
            standing: Standing::default(),
            external: None,
        }
    }

    /// A session that begins now.
    pub(crate) fn new_grant(&self, user_id: UserId, device_name: DeviceName) -> Result<Grant, Error> {
        let token = Token::generate().map_err(Error::Internal)?;
        let session = Session::begin(user_id, device_name, self.lifetime, self.clock.now());
        Ok(Grant { token, session })
    }
}

/// A name such as `guest-7f3k`. Two guests may have the same one: it is no name to sign in with.
pub(crate) fn guest_name() -> anyhow::Result<DisplayName> {
    Ok(DisplayName::stored(format!("guest-{}", random::text::<4>()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_gets_a_name_of_four_letters() {
        let name = guest_name().unwrap();
        assert!(name.as_str().starts_with("guest-") && name.as_str().len() == 10, "{name:?}");
        assert_eq!(DisplayName::parse("display_name", name.as_str()).unwrap(), name);
    }
}
