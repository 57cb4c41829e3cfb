//! The use cases around one-time codes. Whoever asks learns nothing about who has an account: the same statements are
//! run and the same answer is given for an address that nobody has, and the mail itself is sent later by somebody else.

use std::sync::Arc;

use chassis::caller::ClientNetwork;
use chassis::clock::Timestamp;
use chassis::profile::Profile;
use proto::id::{EventId, UserId};

use crate::accounts::Accounts;
use crate::email::Email;
use crate::errand::{Errand, Kind, Task};
use crate::errands::Bell;
use crate::error::Error;
use crate::mail::Letter;
use crate::networks::{Knock, Networks};
use crate::otp::{
    self, AddressProof, AddressVerification, Code, CodeLength, Issue, LIFETIME, Purpose, Slot, Tried,
};
use crate::password::{NewPassword, Password, Weakness};
use crate::refusal::Refusal;
use crate::store::{Credentials, Login, Redemption};
use crate::user::{User, UserKind};
use crate::vault::Vault;

/// The use cases around one-time codes.
#[derive(Debug)]
pub struct Otps {
    /// Whose they are.
    pub accounts: Arc<Accounts>,
    /// Hashes codes, and encrypts mails.
    pub vault: Vault,
    /// Counts knocks.
    pub networks: Arc<Networks>,
    /// Whether there is somebody to send mails.
    pub can_mail: bool,
    /// Wakes the one who does.
    pub bell: Bell,
    /// Whether codes may be shown to whoever asks for them.
    pub profile: Profile,
}

/// A code that was asked for.
#[derive(Clone, Debug)]
pub struct Issued {
    /// When it ends.
    pub expire_time: Timestamp,
    /// The code, in development only.
    pub code: Option<Code>,
}

/// The subject of a code that verifies an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verifiable {
    /// The account that has the address.
    Account,
    /// An account that is to be registered with it.
    SignUp,
}

impl Otps {
    /// Makes a code for an address and sends it to the account that has the address. A code for signing up is sent to any
    /// address and is about no account: registering says whether the address has one.
    pub async fn issue(
        &self,
        email: Email,
        purpose: Purpose,
        code_length: i32,
        from: Option<ClientNetwork>,
    ) -> Result<Issued, Error> {
        let length = CodeLength::parse(code_length, self.profile)?;
        if purpose == Purpose::SignUp && !self.accounts.registration_open {
            return Err(Error::RegistrationClosed);
        }
        let is_shown = self.profile.is_development();
        if !self.can_mail && !is_shown {
            return Err(Refusal::MailNotConfigured.into());
        }
        self.networks.count(Knock::Code, from)?;
        let found = self.accounts.store.find_login(&Login::Email(email.key().to_owned())).await?;
        let counts = |user: &User| match purpose {
            Purpose::VerifyEmail => true,
            Purpose::ResetPassword => user.standing.may_reset_password(),
            Purpose::SignUp => false,
        };
        let user = found.map(|found| found.user);
        let user = user.filter(|user| user.kind == UserKind::Registered && counts(user));
        let (code, now) = (Code::generate(length)?, self.accounts.clock.now());
        let slot = Slot::new(&self.vault, &email, purpose);
        let issue = Issue {
            id: EventId::generate(),
            slot,
            network: otp::network(&self.vault, from),
            sum: slot.sum(&self.vault, &code),
            user_id: user.as_ref().map(|user| user.id),
            issue_time: now,
            expire_time: now.plus(LIFETIME),
        };
        // A mail to nobody is written down like any other, so that writing it tells nothing.
        let to = match purpose {
            Purpose::SignUp => Ok(email),
            Purpose::VerifyEmail | Purpose::ResetPassword => user.and_then(|user| user.email).ok_or(email),
        };
        let letter = Letter::with_code(to, purpose, &code);
        let task = Task::Mail(letter);
        let errand = Errand::new(&self.vault, &task, issue.user_id, now, issue.expire_time)?;
        self.accounts.store.issue_code(&issue, self.can_mail.then_some(&errand)).await?;
        self.bell.ring(Kind::Mail);
        metrics::counter!("auth_codes_total", "outcome" => "issued").increment(1);
        if is_shown {
            tracing::info!(code = code.as_str(), "the code is {} ({purpose:?})", code.as_str());
        }
        Ok(Issued { expire_time: issue.expire_time, code: is_shown.then_some(code) })
    }

    /// Uses a code to verify an address: of an account, or to sign up with.
    pub async fn verify(
        &self,
        email: Email,
        code: Code,
        verifiable: Verifiable,
        from: Option<ClientNetwork>,
    ) -> Result<(), Error> {
        self.networks.count(Knock::Try, from)?;
        match verifiable {
            Verifiable::Account => self.verify_email(&email, &code, from).await,
            Verifiable::SignUp => self.verify_address(&email, &code, from).await,
        }
    }

    /// The proof of an address that counts for this network, if it was given.
    pub fn proof_of(&self, email: &Email, from: Option<ClientNetwork>) -> AddressProof {
        let address = Slot::new(&self.vault, email, Purpose::SignUp).address;
        AddressProof { address, network: otp::network(&self.vault, from) }
    }

    async fn verify_address(
        &self,
        email: &Email,
        code: &Code,
        from: Option<ClientNetwork>,
    ) -> Result<(), Error> {
        let slot = Slot::new(&self.vault, email, Purpose::SignUp);
        let sum = self.right(slot, code, from).await?.sum;
        let (proof, now) = (self.proof_of(email, from), self.accounts.clock.now());
        if !self.accounts.store.verify_address(&AddressVerification { slot, sum, proof, now }).await? {
            return Err(Refusal::OtpInvalid.into());
        }
        tracing::info!("an e-mail address was verified for signing up");
        Ok(())
    }

    async fn verify_email(
        &self,
        email: &Email,
        code: &Code,
        from: Option<ClientNetwork>,
    ) -> Result<(), Error> {
        let slot = Slot::new(&self.vault, email, Purpose::VerifyEmail);
        let (tried, user_id) = self.right_of_user(slot, code, from).await?;
        let redemption = self.redemption(email, slot, tried, user_id);
        if !self.accounts.store.verify_email(&redemption).await? {
            return Err(Refusal::OtpInvalid.into());
        }
        tracing::info!(user.id = %user_id, "user {user_id} has verified an e-mail address");
        Ok(())
    }

    /// Uses a code to set a new password, and ends all sessions.
    pub async fn reset_password(
        &self,
        email: Email,
        code: Code,
        password: Password,
        from: Option<ClientNetwork>,
    ) -> Result<(), Error> {
        self.networks.count(Knock::Try, from)?;
        let chosen = NewPassword::for_anybody("new_password", password)?;
        // Before it is known whether the code is right: whoever guesses waits as long as whoever knows.
        let hash = self.accounts.hasher.hash(chosen.clone().into_inner()).await?;
        let slot = Slot::new(&self.vault, &email, Purpose::ResetPassword);
        let (tried, user_id) = self.right_of_user(slot, &code, from).await?;
        let found = self.accounts.store.find_credentials(user_id).await?;
        let Credentials { user, .. } = found.ok_or(Refusal::OtpInvalid)?;
        if user.username.is_some_and(|name| chosen.contains(&name)) {
            return Err(Error::WeakPassword(Weakness::ContainsName));
        }
        let redemption = self.redemption(&email, slot, tried, user_id);
        if !self.accounts.store.reset_password(&redemption, &hash).await? {
            return Err(Refusal::OtpInvalid.into());
        }
        self.accounts.publisher.all_sessions_ended(user_id);
        tracing::info!(user.id = %user_id, "user {user_id} has set a new password with a code");
        Ok(())
    }

    /// Tries a code, and says whose it is when it is right.
    async fn right_of_user(
        &self,
        slot: Slot,
        code: &Code,
        from: Option<ClientNetwork>,
    ) -> Result<(Tried, UserId), Error> {
        let tried = self.right(slot, code, from).await?;
        // No account has the address: the answer is the same as for a wrong code.
        let user_id = tried.user_id.ok_or_else(refuse)?;
        Ok((tried, user_id))
    }

    /// Tries a code.
    async fn right(&self, slot: Slot, code: &Code, from: Option<ClientNetwork>) -> Result<Tried, Error> {
        let network = otp::network(&self.vault, from);
        let tried = self.accounts.store.try_code(slot, network, self.accounts.clock.now()).await?;
        let presented = slot.sum(&self.vault, code);
        tried.filter(|tried| tried.sum == presented).ok_or_else(refuse)
    }

    fn redemption<'a>(&self, email: &'a Email, slot: Slot, tried: Tried, user_id: UserId) -> Redemption<'a> {
        Redemption { user_id, email_key: email.key(), slot, sum: tried.sum, now: self.accounts.clock.now() }
    }
}

/// The refusal of a code that is not right.
fn refuse() -> Error {
    metrics::counter!("auth_codes_total", "outcome" => "refused").increment(1);
    tracing::info!("refused a code that is not right");
    Refusal::OtpInvalid.into()
}
