//! What can go wrong at the further doors (codes by e-mail, providers to sign in with, background checks), and what the
//! wire says about it.

use std::time::Duration;

use chassis::fault::Fault;
use proto::auth::v1::ErrorReason;
use proto::id::BackgroundCheckId;
use tonic::Code;

/// Why somebody was turned away.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The code is not right, or not any more; nobody is told which, or whether there ever was one.
    #[error("the code is wrong or has ended: ask for a new one")]
    OtpInvalid,
    /// The address that an account is to be made with was not verified; says the same whether or not it is taken.
    #[error("the e-mail address is not verified: verify it with a code for signing up, then register")]
    EmailNotVerified,
    /// No code can be sent.
    #[error("no mail server is configured here")]
    MailNotConfigured,
    /// The account has no password to change.
    #[error("the account has no password: set one with a code by e-mail")]
    PasswordNotSet,
    /// The account has no password to prove that it is meant, and the session is not new.
    #[error(
        "sign in again, and repeat this within 10 minutes: the account has no password to show that it is you"
    )]
    SignInAgain,
    /// No such provider.
    #[error("there is no provider of this name")]
    ProviderNotFound,
    /// The provider's keys cannot be read.
    #[error("the provider cannot be asked for its keys at the moment")]
    ProviderUnavailable {
        /// When the next try makes sense.
        wait: Duration,
    },
    /// The token is not what it should be; says what is wrong with it.
    #[error("the ID token {0}")]
    IdTokenInvalid(&'static str),
    /// Another account has the verified address of somebody who signs in with a provider for the first time.
    #[error("another account has this e-mail address: sign in to it, and link the provider there")]
    AddressOfAnother,
    /// The identity opens another account.
    #[error("this identity is linked to another account")]
    IdentityTaken,
    /// The account has another identity there.
    #[error("the account is linked to another identity of this provider: unlink that first")]
    ProviderLinked,
    /// No such link of the caller.
    #[error("the account is not linked to this provider")]
    LinkNotFound,
    /// Nobody could sign in any more.
    #[error("this is the only way to sign in to the account: set a password first")]
    LastSignIn,
    /// No provider of checks is configured.
    #[error("no provider of background checks is configured here")]
    ChecksUnavailable,
    /// One is under way already.
    #[error("background check {0} is under way")]
    CheckUnderWay(BackgroundCheckId),
    /// The id of a request came with other words.
    #[error("the request id was used for another request")]
    RequestIdReused,
    /// No such check, or a report that nobody signed.
    #[error("there is no such background check, or the report is not signed as it should be")]
    CheckNotFound,
    /// It has ended, and otherwise.
    #[error("the background check has ended otherwise")]
    CheckEnded,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        use ErrorReason as Reason;
        let (code, reason) = match refusal {
            Refusal::OtpInvalid => (Code::InvalidArgument, Reason::OtpInvalid),
            Refusal::EmailNotVerified => (Code::FailedPrecondition, Reason::EmailNotVerified),
            Refusal::MailNotConfigured => (Code::FailedPrecondition, Reason::MailNotConfigured),
            Refusal::PasswordNotSet => (Code::FailedPrecondition, Reason::PasswordNotSet),
            Refusal::SignInAgain => (Code::FailedPrecondition, Reason::SignInAgain),
            Refusal::ProviderNotFound => (Code::NotFound, Reason::ProviderNotFound),
            Refusal::ProviderUnavailable { .. } => (Code::Unavailable, Reason::ProviderUnavailable),
            Refusal::IdTokenInvalid(_) => (Code::Unauthenticated, Reason::IdTokenInvalid),
            Refusal::AddressOfAnother => (Code::AlreadyExists, Reason::EmailTaken),
            Refusal::IdentityTaken => (Code::AlreadyExists, Reason::IdentityTaken),
            Refusal::ProviderLinked => (Code::AlreadyExists, Reason::ProviderLinked),
            Refusal::LinkNotFound => (Code::NotFound, Reason::LinkNotFound),
            Refusal::LastSignIn => (Code::FailedPrecondition, Reason::LastSignIn),
            Refusal::ChecksUnavailable => (Code::FailedPrecondition, Reason::BackgroundChecksUnavailable),
            Refusal::CheckUnderWay(_) => (Code::FailedPrecondition, Reason::BackgroundCheckUnderWay),
            Refusal::RequestIdReused => (Code::AlreadyExists, Reason::RequestIdReused),
            Refusal::CheckNotFound => (Code::NotFound, Reason::BackgroundCheckNotFound),
            Refusal::CheckEnded => (Code::FailedPrecondition, Reason::BackgroundCheckEnded),
        };
        let fault = Self::new(code, reason.as_str_name()).message(refusal.to_string());
        match refusal {
            Refusal::ProviderUnavailable { wait } => fault.retry_after(wait),
            Refusal::IdTokenInvalid(rule) => fault.with("rule", rule),
            Refusal::CheckUnderWay(id) => fault.with("check_id", id),
            _ => fault,
        }
    }
}
