//! Everything that can go wrong in auth, and what the wire says about it.

use std::borrow::Cow;
use std::time::Duration;

use chassis::caller;
use chassis::fault::Fault;
use proto::auth::v1::ErrorReason;
use proto::id::{DeviceKeyId, SessionId, UserId};
use tonic::{Code, Status};

use crate::device_key;
use crate::password::Weakness;
use crate::refusal::Refusal;
use crate::store::Failure;
use crate::username::Username;

/// What went wrong, in our words.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field breaks a rule that the contract cannot say.
    #[error("{field} {rule}")]
    Invalid {
        /// The field, as a path from the request.
        field: &'static str,
        /// The rule.
        rule: Cow<'static, str>,
    },
    /// The session has ended since it was verified, or the token stands for nothing.
    #[error("sign in: the session has ended")]
    Unauthenticated,
    /// Name or password is wrong; nobody is told which.
    #[error("name or password is wrong")]
    BadCredentials,
    /// No such user.
    #[error("there is no user {0}")]
    UserNotFound(UserId),
    /// No such session of the caller.
    #[error("you have no session {0}")]
    SessionNotFound(SessionId),
    /// The public key is none to sign with; says the rule.
    #[error("public_key {0}")]
    DeviceKeyInvalid(&'static str),
    /// The user has as many keys as it can have.
    #[error(
        "a user has at most {} device keys in use, and {} with the revoked ones",
        device_key::MOST_IN_USE,
        device_key::MOST_EVER
    )]
    TooManyDeviceKeys {
        /// Which of the two numbers is reached.
        most: i64,
    },
    /// No such key of the caller.
    #[error("you have no device key {0}")]
    DeviceKeyNotFound(DeviceKeyId),
    /// The caller and this user have had no call and are not connected, or one of them blocks the other; nobody is told
    /// which.
    #[error("you have had no call with user {0} and are not connected, or one of you blocks the other")]
    NotAcquainted(UserId),
    /// The caller has written no review of this user.
    #[error("you have written no review of user {0}")]
    ReviewNotFound(UserId),
    /// Somebody has this name.
    #[error("the username {0} is taken")]
    UsernameTaken(Username),
    /// An account has verified this address. Said only to those who have proven to read it.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// A guest has no password to change.
    #[error("a guest has no password: register first")]
    GuestAccount,
    /// An external account wants an e-mail address.
    #[error("an external account takes no e-mail address")]
    ExternalWithoutEmail,
    /// A guest or an external account searches for an e-mail address.
    #[error("a guest or an external account finds nobody by e-mail address: register first")]
    SearchByEmail,
    /// The gateway may not sign in external accounts here.
    #[error("external accounts are disabled here")]
    ExternalAccountsDisabled,
    /// Strangers may not make accounts here.
    #[error("registration is closed here")]
    RegistrationClosed,
    /// Too many tries, or too many passwords at once.
    #[error("too many tries: wait {} s", wait.as_secs())]
    RateLimited {
        /// When the next makes sense.
        wait: Duration,
    },
    /// The password would not protect the account.
    #[error("{0}")]
    WeakPassword(Weakness),
    /// Somebody was turned away at one of the further doors.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database did not do it.
    #[error("the database failed")]
    Store(#[source] Failure),
    /// Something that should never go wrong.
    #[error("something went wrong on our side")]
    Internal(#[source] anyhow::Error),
}

impl Error {
    /// A field breaks a rule.
    pub fn invalid(field: &'static str, rule: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid { field, rule: rule.into() }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        use ErrorReason as Reason;
        let text = error.to_string();
        let fault = |code, reason: Reason| Fault::new(code, reason.as_str_name()).message(text);
        match error {
            Error::Invalid { field, rule } => Fault::invalid(field, rule),
            Error::Unauthenticated => caller::unauthenticated(),
            Error::BadCredentials => fault(Code::Unauthenticated, Reason::BadCredentials),
            Error::UserNotFound(id) => fault(Code::NotFound, Reason::UserNotFound).with("user_id", id),
            Error::SessionNotFound(id) => {
                fault(Code::NotFound, Reason::SessionNotFound).with("session_id", id)
            }
            Error::DeviceKeyInvalid(rule) => {
                fault(Code::InvalidArgument, Reason::DeviceKeyInvalid).field("public_key", rule)
            }
            Error::TooManyDeviceKeys { most } => {
                fault(Code::ResourceExhausted, Reason::TooManyDeviceKeys).with("most", most)
            }
            Error::DeviceKeyNotFound(id) => {
                fault(Code::NotFound, Reason::DeviceKeyNotFound).with("device_key_id", id)
            }
            Error::NotAcquainted(id) => {
                fault(Code::FailedPrecondition, Reason::NotAcquainted).with("user_id", id)
            }
            Error::ReviewNotFound(id) => fault(Code::NotFound, Reason::ReviewNotFound).with("user_id", id),
            Error::UsernameTaken(name) => {
                fault(Code::AlreadyExists, Reason::UsernameTaken).with("username", name)
            }
            Error::EmailTaken => fault(Code::AlreadyExists, Reason::EmailTaken),
            Error::GuestAccount | Error::ExternalWithoutEmail | Error::SearchByEmail => {
                fault(Code::FailedPrecondition, Reason::GuestAccount)
            }
            Error::ExternalAccountsDisabled => {
                fault(Code::FailedPrecondition, Reason::ExternalAccountsDisabled)
            }
            Error::RegistrationClosed => fault(Code::FailedPrecondition, Reason::RegistrationClosed),
            Error::RateLimited { wait } => {
                let seconds = wait.as_secs();
                fault(Code::ResourceExhausted, Reason::RateLimited).with("seconds", seconds).retry_after(wait)
            }
            Error::WeakPassword(_) => fault(Code::InvalidArgument, Reason::WeakPassword),
            Error::Refused(refusal) => refusal.into(),
            Error::Store(failure) if failure.is_transient() => {
                tracing::warn!(%failure, "the database is not available");
                Fault::unavailable("auth")
            }
            Error::Store(failure) => {
                tracing::error!(%failure, "the database failed");
                Fault::internal()
            }
            Error::Internal(cause) => {
                tracing::error!("a request failed: {cause:#}");
                Fault::internal()
            }
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Fault::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_said_in_words_and_for_machines() {
        let status = Status::from(Error::RateLimited { wait: Duration::from_secs(90) });
        let fault = Fault::of(&status);
        assert_eq!((fault.code(), fault.reason()), (Code::ResourceExhausted, "ERROR_REASON_RATE_LIMITED"));
        assert_eq!(
            (fault.text(), fault.wait()),
            ("too many tries: wait 90 s".to_owned(), Some(Duration::from_secs(90)))
        );
        assert_eq!(fault.metadata()["seconds"], "90");
    }

    #[test]
    fn what_is_wrong_with_us_is_not_told() {
        let status = Status::from(Error::Internal(anyhow::anyhow!("secret path")));
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("secret"));
    }
}
