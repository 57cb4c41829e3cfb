//! Everything that can go wrong here, and how it reads on the wire.

use std::time::Duration;

use chassis::clock::Timestamp;
use chassis::fault::Fault;
use proto::conversation::v1::ErrorReason as Reason;
use proto::id::{ConversationId, RequestId, UserId};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::convert::contacts::request_state;
use crate::request::State;
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
    /// The page token is not one of this list.
    #[error("{}", .0.text())]
    Page(Fault),
    /// There is no such conversation, or the caller may not know of it: the two read alike.
    #[error("there is no conversation {0}")]
    ConversationNotFound(ConversationId),
    /// There is no such user.
    #[error("there is no user {0}")]
    UserNotFound(UserId),
    /// The user is not a member.
    #[error("user {0} is not a member")]
    MemberNotFound(UserId),
    /// The user is not banned.
    #[error("user {0} is not banned")]
    BanNotFound(UserId),
    /// A user who could not write into a secure conversation would be in one.
    #[error("user {0} has no device key to sign secure messages with")]
    DeviceKeyMissing(UserId),
    /// The caller's role does not allow it.
    #[error("your role does not allow this")]
    RoleTooLow,
    /// The caller is kept out.
    #[error("you are banned from conversation {conversation}")]
    Banned {
        /// From where.
        conversation: ConversationId,
        /// When the ban ends; `None` when it does not.
        until: Option<Timestamp>,
    },
    /// The conversation is for the external accounts of a namespace that is not the caller's, or the caller is an external
    /// account and the conversation is not for such.
    #[error("conversation {0} is for accounts of another namespace")]
    NamespaceMismatch(ConversationId),
    /// A conversation that everyone reads is a room, or was made by an external account.
    #[error("only a room, and a group or channel of external accounts, can be read by everyone")]
    NeverPublic,
    /// A user who is to come in is kept out.
    #[error("user {0} is banned: lift the ban first")]
    UserBanned(UserId),
    /// The last owner would be lost.
    #[error("the last owner hands over before leaving or stepping down")]
    LastOwner,
    /// A direct conversation is between two for ever.
    #[error("a direct conversation cannot be changed, left or deleted")]
    WrongKind,
    /// Too many would be in.
    #[error("a conversation has at most {most} members")]
    TooManyMembers {
        /// The most that are allowed.
        most: i64,
    },
    /// The request id was used with another body.
    #[error("request_id {0} was used with another body")]
    RequestIdReused(Uuid),
    /// A request of this kind waits already.
    #[error("request {0} waits for its answer already")]
    RequestPending(RequestId),
    /// There is no such request between the caller and the user, in this direction.
    #[error("there is no such request between you and user {0}")]
    RequestNotFound(UserId),
    /// The request has another answer, or was taken back.
    #[error("the request is {} already", request_state(*.0).as_str_name())]
    RequestAnswered(State),
    /// The user is brought in only by those whom it let write.
    #[error("user {0} takes only those it knows: ask first")]
    ContactNotAccepted(UserId),
    /// The caller has blocked the user.
    #[error("you have blocked user {0}: unblock first")]
    UserBlocked(UserId),
    /// One of the two has as many connections as a person may have.
    #[error("a person has at most {most} connections")]
    TooManyConnections {
        /// The most that are allowed.
        most: i64,
    },
    /// The caller blocks as many as a person may.
    #[error("a person blocks at most {most} users")]
    TooManyBlocked {
        /// The most that are allowed.
        most: i64,
    },
    /// The caller asks too often, or too many.
    #[error("you ask too often: wait before you ask again")]
    RateLimited {
        /// When the next makes sense.
        wait: Duration,
    },
    /// Too many want the same at once.
    #[error("others are changing the same: try again")]
    Contended,
    /// Auth does not say what it is asked.
    #[error("auth does not answer what it is asked")]
    Auth(#[source] Box<Status>),
    /// Auth says what makes no sense.
    #[error("auth has answered with {0}")]
    Misunderstood(&'static str),
    /// A fact in the outbox cannot be read.
    #[error("the fact at position {0} cannot be read")]
    Unreadable(i64),
    /// The database.
    #[error(transparent)]
    Store(#[from] Failure),
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        let fault = |code, reason: Reason| Self::new(code, reason.as_str_name()).message(error.to_string());
        match error {
            Error::Field { field, rule } => Self::invalid(*field, *rule),
            Error::Page(fault) => fault.clone(),
            Error::ConversationNotFound(id) => {
                fault(Code::NotFound, Reason::ConversationNotFound).with("conversation_id", id)
            }
            Error::UserNotFound(id) => fault(Code::NotFound, Reason::UserNotFound).with("user_id", id),
            Error::MemberNotFound(id) => fault(Code::NotFound, Reason::MemberNotFound).with("user_id", id),
            Error::BanNotFound(id) => fault(Code::NotFound, Reason::BanNotFound).with("user_id", id),
            Error::DeviceKeyMissing(id) => {
                fault(Code::FailedPrecondition, Reason::DeviceKeyMissing).with("user_id", id)
            }
            Error::RoleTooLow => fault(Code::PermissionDenied, Reason::RoleTooLow),
            Error::Banned { conversation, until } => {
                let fault =
                    fault(Code::PermissionDenied, Reason::Banned).with("conversation_id", conversation);
                match until {
                    Some(until) => fault.with("expire_time", until),
                    None => fault,
                }
            }
            Error::NamespaceMismatch(id) => {
                fault(Code::PermissionDenied, Reason::NamespaceMismatch).with("conversation_id", id)
            }
            Error::UserBanned(id) => fault(Code::FailedPrecondition, Reason::UserBanned).with("user_id", id),
            Error::LastOwner => fault(Code::FailedPrecondition, Reason::LastOwner),
            Error::WrongKind | Error::NeverPublic => fault(Code::FailedPrecondition, Reason::WrongKind),
            Error::TooManyMembers { most } => {
                fault(Code::FailedPrecondition, Reason::TooManyMembers).with("most", most)
            }
            Error::RequestIdReused(id) => {
                fault(Code::AlreadyExists, Reason::RequestIdReused).with("request_id", id)
            }
            Error::RequestPending(id) => {
                fault(Code::AlreadyExists, Reason::RequestPendingAlready).with("request_id", id)
            }
            Error::RequestNotFound(id) => fault(Code::NotFound, Reason::RequestNotFound).with("user_id", id),
            Error::RequestAnswered(state) => fault(Code::FailedPrecondition, Reason::RequestAnswered)
                .with("state", request_state(*state).as_str_name()),
            Error::ContactNotAccepted(id) => {
                fault(Code::FailedPrecondition, Reason::ContactNotAccepted).with("user_id", id)
            }
            Error::UserBlocked(id) => {
                fault(Code::FailedPrecondition, Reason::UserBlocked).with("user_id", id)
            }
            Error::TooManyConnections { most } => {
                fault(Code::FailedPrecondition, Reason::TooManyConnections).with("most", most)
            }
            Error::TooManyBlocked { most } => {
                fault(Code::FailedPrecondition, Reason::TooManyBlocked).with("most", most)
            }
            Error::RateLimited { wait } => {
                fault(Code::ResourceExhausted, Reason::RateLimited).retry_after(*wait)
            }
            Error::Contended => Self::unavailable("this conversation")
                .retry_after(Duration::from_millis(100))
                .message(error.to_string()),
            Error::Auth(status) => Self::of_neighbour("auth", status),
            Error::Store(Failure::Transient(_)) => Self::unavailable("conversation"),
            Error::Misunderstood(_)
            | Error::Unreadable(_)
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
    use super::*;

    #[test]
    fn a_busy_database_asks_to_be_tried_again_and_a_broken_one_does_not() {
        let status = Status::from(Error::from(sqlx::Error::PoolTimedOut));
        assert_eq!(status.code(), Code::Unavailable);
        assert!(Fault::of(&status).wait().is_some());
        let status = Status::from(Error::from(sqlx::Error::RowNotFound));
        assert_eq!((status.code(), Fault::of(&status).wait()), (Code::Internal, None));
        assert!(!status.message().contains("row"), "{}", status.message());
    }

    #[test]
    fn a_variable_of_the_sentence_is_in_the_metadata() {
        let id = UserId::generate();
        let fault = Fault::of(&Error::UserNotFound(id).into());
        assert_eq!(fault.reason(), "ERROR_REASON_USER_NOT_FOUND");
        assert_eq!(fault.metadata().get("user_id"), Some(&id.to_string()));
    }
}
