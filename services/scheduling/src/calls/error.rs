//! What can go wrong with a call, and how it reads on the wire.

use std::time::Duration;

use chassis::fault::Fault;
use proto::id::{CallId, ConversationId, UserId};
use proto::scheduling::v1::ErrorReason as Reason;
use tonic::Code;

use super::convert;
use super::machine::{Outcome, Refusal};
use crate::conversations::Denial;
use crate::error::Error;

/// What can go wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The caller has no such call.
    #[error("you have no call {0}")]
    NotFound(CallId),
    /// It is over.
    #[error("call {id} is {} already", outcome.name())]
    Over {
        /// Which one.
        id: CallId,
        /// How.
        outcome: Outcome,
    },
    /// Another device of the caller is in it.
    #[error("another of your devices is in call {0}")]
    Elsewhere(CallId),
    /// Nobody has accepted it yet.
    #[error("nobody has accepted call {0} yet")]
    NotAccepted(CallId),
    /// Only the one who is called answers.
    #[error("only the one who is called can answer call {0}")]
    NotCallee(CallId),
    /// The caller is in a call.
    #[error("you are in call {0} already")]
    AlreadyInCall(CallId),
    /// The caller is not let through.
    #[error("you may not call this person: {0}")]
    Refused(String),
    /// The other one takes calls of accepted people only.
    #[error("this person is called only by people whom it has accepted")]
    ContactNotAccepted,
    /// There is not just one person at the other end.
    #[error("conversation {0} is not a direct one")]
    NotDirect(ConversationId),
    /// There is no such user.
    #[error("there is no user {0}")]
    UserNotFound(UserId),
    /// Too many calls or signals.
    #[error("too many {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// When the next makes sense.
        wait: Duration,
    },
    /// The session has ended, or there is none.
    #[error("sign in: a device is a session")]
    NoSession,
    /// The reader of a stream is too slow, or something may have been lost.
    #[error("something may be missing: call again")]
    Interrupted,
}

impl CallError {
    /// Why somebody may not do something to a call.
    pub fn of(id: CallId, refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotTheirs => Self::NotFound(id),
            Refusal::NotCallee => Self::NotCallee(id),
            Refusal::Elsewhere => Self::Elsewhere(id),
            Refusal::NotAccepted => Self::NotAccepted(id),
            Refusal::Over(outcome) => Self::Over { id, outcome },
        }
    }

    /// Why nobody can be called where conversation was asked about; `absent` when what was named is not there.
    pub fn denied(denial: Denial, absent: impl Into<Error>) -> Error {
        match denial {
            Denial::Absent => absent.into(),
            Denial::NotDirect(id) => Self::NotDirect(id).into(),
            // The name of the reason is the same.
            Denial::Refused(fault) if fault.reason() == Reason::ContactNotAccepted.as_str_name() => {
                Self::ContactNotAccepted.into()
            }
            Denial::Refused(fault) => Self::Refused(fault.text()).into(),
            Denial::TooMany(wait) => Self::TooMany { what: "conversations", wait }.into(),
            Denial::Failed(error) => error,
        }
    }
}

impl From<&CallError> for Fault {
    fn from(error: &CallError) -> Self {
        let fault = |code, reason: Reason| Self::new(code, reason.as_str_name()).message(error.to_string());
        let failed = |reason| fault(Code::FailedPrecondition, reason);
        match error {
            CallError::NotFound(id) => fault(Code::NotFound, Reason::CallNotFound).with("call_id", id),
            CallError::Over { id, outcome } => failed(Reason::CallOver)
                .with("call_id", id)
                .with("state", convert::state_of(*outcome).as_str_name()),
            CallError::Elsewhere(id) => failed(Reason::CallAnsweredElsewhere).with("call_id", id),
            CallError::NotAccepted(id) => failed(Reason::CallNotAccepted).with("call_id", id),
            CallError::NotCallee(id) => fault(Code::PermissionDenied, Reason::NotCallee).with("call_id", id),
            CallError::AlreadyInCall(id) => failed(Reason::AlreadyInCall).with("call_id", id),
            CallError::Refused(_) => fault(Code::PermissionDenied, Reason::CallRefused),
            CallError::ContactNotAccepted => failed(Reason::ContactNotAccepted),
            CallError::NotDirect(id) => failed(Reason::NotDirect).with("conversation_id", id),
            CallError::UserNotFound(id) => fault(Code::NotFound, Reason::UserNotFound).with("user_id", id),
            CallError::TooMany { what, wait } => {
                fault(Code::ResourceExhausted, Reason::RateLimited).with("limit", what).retry_after(*wait)
            }
            CallError::NoSession => fault(Code::Unauthenticated, Reason::Unauthenticated),
            CallError::Interrupted => Self::unavailable("the feed").message(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_over_says_how() {
        let id = CallId::generate();
        let fault = Fault::from(&CallError::of(id, Refusal::Over(Outcome::Missed)));
        assert_eq!((fault.code(), fault.reason()), (Code::FailedPrecondition, "ERROR_REASON_CALL_OVER"));
        assert_eq!(fault.metadata()["state"], "CALL_STATE_MISSED");
        assert_eq!(fault.text(), format!("call {id} is missed already"));
    }

    #[test]
    fn who_is_not_accepted_is_told_from_who_is_refused() {
        let denied = |reason: &str| {
            let fault = Fault::new(Code::FailedPrecondition, reason.to_owned());
            match CallError::denied(Denial::Refused(fault), CallError::NoSession) {
                Error::Call(error) => Fault::from(&error).reason().to_owned(),
                error => panic!("{error:?}"),
            }
        };
        let not_accepted = "ERROR_REASON_CONTACT_NOT_ACCEPTED";
        assert_eq!(denied(not_accepted), not_accepted);
        assert_eq!(denied("ERROR_REASON_WRONG_KIND"), "ERROR_REASON_CALL_REFUSED");
    }

    #[test]
    fn what_is_not_theirs_is_not_there() {
        let fault = Fault::from(&CallError::of(CallId::generate(), Refusal::NotTheirs));
        assert_eq!((fault.code(), fault.reason()), (Code::NotFound, "ERROR_REASON_CALL_NOT_FOUND"));
    }

    #[test]
    fn too_many_wait() {
        let wait = Duration::from_secs(3);
        assert_eq!(Fault::from(&CallError::TooMany { what: "calls", wait }).wait(), Some(wait));
    }
}
