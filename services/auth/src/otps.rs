//! The use cases around one-time codes. Whoever asks learns nothing about who has an account: the same statements are
//! run and the same answer is given for an address that nobody has, and the mail itself is sent later by somebody else.

use std::sync::Arc;

use chassis::caller::ClientNetwork;
use chassis::clock::Timestamp;
use chassis::profile::Profile;
use proto::id::EventId;

use crate::accounts::Accounts;
use crate::claim::Holder;
use crate::email::Email;
use crate::errand::{Errand, Kind, Task};
use crate::errands::Bell;
use crate::error::Error;
use crate::mail::Letter;
use crate::networks::{Knock, Networks};
use crate::otp::{
    self, AddressProof, AddressVerification, Code, CodeLength, FlowId, Form, Issue, LIFETIME, Presented,
    Purpose, Slot, Tried,
};
use crate::password::{NewPassword, Password, Weakness};
use crate::refusal::Refusal;
use crate::store::{Credentials, Letters, Redemption};
use crate::username::Username;
use crate::vault::{Sum, Vault};

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

/// A request for a code.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The address to send it to.
    pub email: Email,
    /// What it is to be good for.
    pub purpose: Purpose,
    /// The number of digits; 0 for the usual one.
    pub code_length: i32,
    /// True when the flow is to have an id; otherwise the network stands for the flow.
    pub has_flow_id: bool,
    /// The account that it is about, when several claim the address.
    pub username: Option<Username>,
}

/// A code that was asked for.
#[derive(Clone, Debug)]
pub struct Issued {
    /// When it ends.
    pub expire_time: Timestamp,
    /// The number of its characters.
    pub code_length: usize,
    /// The id of the flow, when one was asked for.
    pub flow: Option<FlowId>,
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
    pub async fn issue(&self, ask: Ask, from: Option<ClientNetwork>) -> Result<Issued, Error> {
        let Ask { email, purpose, code_length, has_flow_id, username } = ask;
        let length = CodeLength::parse(code_length, self.profile)?;
        if purpose == Purpose::SignUp && !self.accounts.registration_open {
            return Err(Error::RegistrationClosed);
        }
        let is_shown = self.profile.is_development();
        if !self.can_mail && !is_shown {
            return Err(Refusal::MailNotConfigured.into());
        }
        self.networks.count(Knock::Code, from)?;
        let claims = self.accounts.store.find_claims(email.key(), username.as_ref()).await?;
        let holder = Holder::of(claims, purpose, username.as_ref());
        let flow = if has_flow_id { Some(FlowId::generate()?) } else { None };
        let (digits, token, now) = (Code::generate(length)?, Code::token()?, self.accounts.clock.now());
        let slot = Slot::new(&self.vault, &email, purpose);
        let issue = Issue {
            id: EventId::generate(),
            slot,
            flow: otp::flow(&self.vault, flow.as_ref(), from),
            network: otp::network(&self.vault, from),
            digits: slot.sum(&self.vault, &digits),
            token: slot.sum(&self.vault, &token),
            user_id: match &holder {
                Holder::Account(user) => Some(user.id),
                Holder::Several | Holder::Nobody => None,
            },
            issue_time: now,
            expire_time: now.plus(LIFETIME),
        };
        // A mail to nobody is written down like any other, so that writing it tells nothing.
        let errand = |code: &Code| {
            let task = Task::Mail(letter(&holder, &email, purpose, code));
            Errand::new(&self.vault, &task, issue.user_id, now, issue.expire_time)
        };
        let (of_digits, of_token) = (errand(&digits)?, errand(&token)?);
        let letters = Letters { digits: &of_digits, token: &of_token };
        let form = self.accounts.store.issue_code(&issue, self.can_mail.then_some(letters)).await?;
        self.bell.ring(Kind::Mail);
        metrics::counter!("auth_codes_total", "outcome" => "issued").increment(1);
        let code = match form {
            Form::Digits => digits,
            Form::Token => token,
        };
        if is_shown {
            tracing::info!(code = code.as_str(), "the code is {} ({purpose:?})", code.as_str());
        }
        let code_length = code.as_str().len();
        Ok(Issued { expire_time: issue.expire_time, code_length, flow, code: is_shown.then_some(code) })
    }

    /// Uses a code to verify an address: of an account, or to sign up with.
    pub async fn verify(
        &self,
        presented: Presented,
        verifiable: Verifiable,
        from: Option<ClientNetwork>,
    ) -> Result<(), Error> {
        self.networks.count(Knock::Try, from)?;
        match verifiable {
            Verifiable::Account => self.verify_email(&presented, from).await,
            Verifiable::SignUp => self.verify_address(&presented, from).await,
        }
    }

    /// The proof of an address that counts for this network, if it was given.
    pub fn proof_of(&self, email: &Email, from: Option<ClientNetwork>) -> AddressProof {
        let address = Slot::new(&self.vault, email, Purpose::SignUp).address;
        AddressProof { address, network: otp::network(&self.vault, from) }
    }

    async fn verify_address(&self, presented: &Presented, from: Option<ClientNetwork>) -> Result<(), Error> {
        let Right { slot, flow, tried } = self.right(presented, Purpose::SignUp, from).await?;
        let (proof, now) = (self.proof_of(&presented.email, from), self.accounts.clock.now());
        let verification = AddressVerification { slot, flow, sum: tried.sum, proof, now };
        if !self.accounts.store.verify_address(&verification).await? {
            return Err(Refusal::OtpInvalid.into());
        }
        tracing::info!("an e-mail address was verified for signing up");
        Ok(())
    }

    async fn verify_email(&self, presented: &Presented, from: Option<ClientNetwork>) -> Result<(), Error> {
        let redemption = self.redemption(presented, Purpose::VerifyEmail, from).await?;
        let user_id = redemption.user_id;
        if !self.accounts.store.verify_email(&redemption).await? {
            return Err(Refusal::OtpInvalid.into());
        }
        tracing::info!(user.id = %user_id, "user {user_id} has verified an e-mail address");
        Ok(())
    }

    /// Uses a code to set a new password, and ends all sessions.
    pub async fn reset_password(
        &self,
        presented: Presented,
        password: Password,
        from: Option<ClientNetwork>,
    ) -> Result<(), Error> {
        self.networks.count(Knock::Try, from)?;
        let chosen = NewPassword::for_anybody("new_password", password)?;
        // Before it is known whether the code is right: whoever guesses waits as long as whoever knows.
        let hash = self.accounts.hasher.hash(chosen.clone().into_inner()).await?;
        let redemption = self.redemption(&presented, Purpose::ResetPassword, from).await?;
        let user_id = redemption.user_id;
        let found = self.accounts.store.find_credentials(user_id).await?;
        let Credentials { user, .. } = found.ok_or(Refusal::OtpInvalid)?;
        if user.username.is_some_and(|name| chosen.contains(&name)) {
            return Err(Error::WeakPassword(Weakness::ContainsName));
        }
        if !self.accounts.store.reset_password(&redemption, &hash).await? {
            return Err(Refusal::OtpInvalid.into());
        }
        self.accounts.publisher.all_sessions_ended(user_id);
        tracing::info!(user.id = %user_id, "user {user_id} has set a new password with a code");
        Ok(())
    }

    /// Tries a code about an account, and says for whom it is when it is right.
    async fn redemption<'a>(
        &self,
        presented: &'a Presented,
        purpose: Purpose,
        from: Option<ClientNetwork>,
    ) -> Result<Redemption<'a>, Error> {
        let Right { slot, flow, tried } = self.right(presented, purpose, from).await?;
        // No account has the address: the answer is the same as for a wrong code.
        let user_id = tried.user_id.ok_or_else(refuse)?;
        let (email_key, now) = (presented.email.key(), self.accounts.clock.now());
        Ok(Redemption { user_id, email_key, slot, flow, sum: tried.sum, now })
    }

    /// Tries a code.
    async fn right(
        &self,
        presented: &Presented,
        purpose: Purpose,
        from: Option<ClientNetwork>,
    ) -> Result<Right, Error> {
        let slot = Slot::new(&self.vault, &presented.email, purpose);
        let flow = otp::flow(&self.vault, presented.flow.as_ref(), from);
        let tried = self.accounts.store.try_code(slot, flow, self.accounts.clock.now()).await?;
        let sum = slot.sum(&self.vault, &presented.code);
        let tried = tried.filter(|tried| tried.sum == sum).ok_or_else(refuse)?;
        Ok(Right { slot, flow, tried })
    }
}

/// The mail that sends a code.
fn letter(holder: &Holder, email: &Email, purpose: Purpose, code: &Code) -> Letter {
    match holder {
        Holder::Account(user) => {
            let to = user.email.clone().ok_or_else(|| email.clone());
            Letter::with_code(to, purpose, code, user.username.as_ref())
        }
        Holder::Several => Letter::of_several(email, purpose),
        Holder::Nobody if purpose == Purpose::SignUp => {
            Letter::with_code(Ok(email.clone()), purpose, code, None)
        }
        Holder::Nobody => Letter::with_code(Err(email.clone()), purpose, code, None),
    }
}

/// A code that was right, and where it is kept.
struct Right {
    slot: Slot,
    flow: Sum,
    tried: Tried,
}

/// The refusal of a code that is not right.
fn refuse() -> Error {
    metrics::counter!("auth_codes_total", "outcome" => "refused").increment(1);
    tracing::info!("refused a code that is not right");
    Refusal::OtpInvalid.into()
}
