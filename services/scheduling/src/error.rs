//! Everything that can go wrong here, and how it reads on the wire.

use std::time::Duration;

use chassis::fault::Fault;
use proto::id::{ConversationId, ScheduledMessageId};
use proto::scheduling::v1::ErrorReason as Reason;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::calendar::error::Refusal;
use crate::calls::error::CallError;
use crate::convert;
use crate::scheduled_message::State;
use crate::store::Failure;

/// Everything that can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field breaks a rule that the contract cannot say.
    #[error("{field} {rule}")]
    Field {
        /// The field.
        field: &'static str,
        /// What must hold.
        rule: &'static str,
    },
    /// An item of a list breaks such a rule.
    #[error("{field} {rule}")]
    Item {
        /// The item, with its place from 0 on: `days[0].ranges[1].end`.
        field: String,
        /// What must hold.
        rule: &'static str,
    },
    /// The page token is not one of this list.
    #[error("{}", .0.text())]
    Page(Fault),
    /// Messaging would not take what it says.
    #[error("{}", .0.text())]
    Content(Fault),
    /// It is to be sent too late.
    #[error("{field} must be at most {days} days ahead")]
    TooFarAhead {
        /// The field with the time.
        field: &'static str,
        /// How many days ahead are allowed.
        days: u32,
    },
    /// The caller has no such scheduled message.
    #[error("you have no scheduled message {0}")]
    NotFound(ScheduledMessageId),
    /// It is sent, cancelled or failed already.
    #[error("scheduled message {id} is {} already", convert::word(state.name()))]
    AlreadyFinal {
        /// Which one.
        id: ScheduledMessageId,
        /// What has become of it.
        state: State,
    },
    /// It is being sent, or may have been.
    #[error("scheduled message {id} is being sent: ask again")]
    BeingSent {
        /// Which one.
        id: ScheduledMessageId,
        /// When to ask again.
        wait: Duration,
    },
    /// There is no such conversation, or the caller may not know of it.
    #[error("there is no conversation {0}")]
    ConversationNotFound(ConversationId),
    /// The caller may know of the conversation and not write into it.
    #[error("you may not write into conversation {0}")]
    WriteDenied(ConversationId),
    /// As many are pending as are allowed.
    #[error("at most {most} scheduled messages can be pending")]
    TooManyPending {
        /// The most that are allowed.
        most: u32,
    },
    /// The request id was used with another body.
    #[error("request_id {0} was used with another body")]
    RequestIdReused(Uuid),
    /// Something about a calendar.
    #[error(transparent)]
    Calendar(#[from] Refusal),
    /// Another service does not say what it is asked.
    #[error("{service} does not answer what it is asked")]
    Neighbour {
        /// Which one.
        service: &'static str,
        /// What it says instead.
        source: Box<Status>,
    },
    /// Another service says what makes no sense.
    #[error("{0}")]
    Misunderstood(&'static str),
    /// Something that should never go wrong.
    #[error("the work has ended without an outcome")]
    Lost,
    /// A call.
    #[error("{0}")]
    Call(#[from] CallError),
    /// The database.
    #[error("{0}")]
    Store(#[source] Failure),
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        let fault = |code, reason: Reason| Self::new(code, reason.as_str_name()).message(error.to_string());
        match error {
            Error::Field { field, rule } => Self::invalid(*field, *rule),
            Error::Item { field, rule } => Self::invalid(field.clone(), *rule),
            Error::Page(fault) | Error::Content(fault) => fault.clone(),
            Error::TooFarAhead { field, days } => {
                Self::invalid(*field, format!("must be at most {days} days ahead"))
            }
            Error::NotFound(id) => {
                fault(Code::NotFound, Reason::ScheduledMessageNotFound).with("scheduled_message_id", id)
            }
            Error::AlreadyFinal { id, state } => {
                let fault = fault(Code::FailedPrecondition, Reason::AlreadyFinal)
                    .with("scheduled_message_id", id)
                    .with("state", convert::state(state.name()).as_str_name());
                match state {
                    State::Sent(message_id) => fault.with("message_id", message_id),
                    State::Failed(reason) => fault.with("failure_reason", reason),
                    State::Cancelled | State::Pending => fault,
                }
            }
            Error::BeingSent { id, wait } => {
                fault(Code::Aborted, Reason::BeingSent).with("scheduled_message_id", id).retry_after(*wait)
            }
            Error::ConversationNotFound(id) => {
                fault(Code::NotFound, Reason::ConversationNotFound).with("conversation_id", id)
            }
            Error::WriteDenied(id) => {
                fault(Code::PermissionDenied, Reason::WriteDenied).with("conversation_id", id)
            }
            Error::TooManyPending { most } => {
                fault(Code::FailedPrecondition, Reason::TooManyPending).with("most", most)
            }
            Error::RequestIdReused(id) => {
                fault(Code::AlreadyExists, Reason::RequestIdReused).with("request_id", id)
            }
            Error::Call(error) => error.into(),
            Error::Calendar(refusal) => refusal.into(),
            Error::Neighbour { service, source } => Self::of_neighbour(service, source),
            Error::Store(Failure::Transient(_)) => Self::unavailable("scheduling"),
            Error::Misunderstood(_)
            | Error::Lost
            | Error::Store(Failure::Permanent(_) | Failure::Corrupt(_)) => Self::internal(),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let fault = Fault::from(&error);
        // The caller is told nothing of what went wrong with us, so it is told here.
        let cause = || std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        match fault.code() {
            Code::Internal => tracing::error!(cause = cause(), "{error}"),
            Code::Unavailable => tracing::warn!(cause = cause(), "{error}"),
            _ => {}
        }
        fault.into()
    }
}

#[cfg(test)]
mod tests {
    use proto::id::MessageId;

    use super::*;

    fn fault(error: Error) -> Fault {
        Fault::of(&Status::from(error))
    }

    #[test]
    fn one_that_is_sent_says_which_message_it_is() {
        let (id, message_id) = (ScheduledMessageId::generate(), MessageId::generate());
        let fault = fault(Error::AlreadyFinal { id, state: State::Sent(message_id) });
        assert_eq!((fault.code(), fault.reason()), (Code::FailedPrecondition, "ERROR_REASON_ALREADY_FINAL"));
        assert_eq!(fault.metadata()["state"], "SCHEDULED_MESSAGE_STATE_SENT");
        assert_eq!(fault.metadata()["message_id"], message_id.to_string());
        assert_eq!(fault.text(), format!("scheduled message {id} is sent already"));
    }

    #[test]
    fn one_that_is_being_sent_says_when_to_ask_again() {
        let id = ScheduledMessageId::generate();
        let fault = fault(Error::BeingSent { id, wait: Duration::from_secs(1) });
        assert_eq!((fault.code(), fault.reason()), (Code::Aborted, "ERROR_REASON_BEING_SENT"));
        assert_eq!(fault.wait(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_broken_database_is_ours_and_a_busy_one_passes() {
        let code = |failure| fault(Error::Store(failure)).code();
        assert_eq!(code(Failure::Corrupt("nonsense")), Code::Internal);
        assert_eq!(code(Failure::Transient(sqlx::Error::PoolTimedOut)), Code::Unavailable);
    }

    #[test]
    fn the_field_is_named() {
        let fault = fault(Error::TooFarAhead { field: "send_time", days: 365 });
        assert_eq!((fault.code(), fault.reason()), (Code::InvalidArgument, "ERROR_REASON_INVALID_FIELD"));
        assert_eq!(fault.fields(), [("send_time".to_owned(), "must be at most 365 days ahead".to_owned())]);
    }
}
