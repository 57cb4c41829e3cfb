//! Everything that can go wrong, in the words of the domain, and the one place where it meets the wire.

use std::sync::Arc;
use std::time::Duration;

use chassis::fault::Fault;
use proto::id::{AlertId, ConversationId, MessageId, ReportId, UploadId};
use proto::messaging::v1::ErrorReason as Reason;
use tonic::{Code, Status};

use crate::message::Sequence;
use crate::store::Failure;

/// What can go wrong.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A field breaks a rule that the contract cannot declare.
    #[error("{field} {rule}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// The rule.
        rule: &'static str,
    },
    /// A field of a content breaks a rule.
    #[error("{path} {rule}")]
    InvalidContent {
        /// The path of the field.
        path: String,
        /// The rule.
        rule: &'static str,
    },
    /// The signature of a secure message is none of a device of its sender.
    #[error("the message is not signed by a registered device of yours")]
    SignatureInvalid,
    /// The conversation takes secure messages only.
    #[error("conversation {0} takes secure messages only")]
    SecureOnly(ConversationId),
    /// A message of this kind cannot be forwarded.
    #[error("message {0} cannot be forwarded")]
    NotForwardable(MessageId),
    /// A copy, or a message of this kind, cannot be edited, or not into the kind asked for.
    #[error("message {0} cannot be edited into this")]
    NotEditable(MessageId),
    /// A page token is not one of this list.
    #[error("the page token is not one of this list")]
    PageToken(Box<Fault>),
    /// There is no such conversation, or the caller may not know of it.
    #[error("there is no conversation {0}")]
    ConversationNotFound(ConversationId),
    /// The caller wants to go on after a sequence that the conversation's log does not have.
    #[error("the log of conversation {conversation} ends at {head}: read it anew")]
    HeadBeyondLog {
        /// The conversation.
        conversation: ConversationId,
        /// Where its log ends.
        head: Sequence,
    },
    /// There is no such message in that conversation.
    #[error("there is no message {0} in that conversation")]
    MessageNotFound(MessageId),
    /// There is no such alert of the caller.
    #[error("there is no alert {0}")]
    AlertNotFound(AlertId),
    /// The caller may read here and not write.
    #[error("you may not write into conversation {0}")]
    WriteDenied(ConversationId),
    /// Only the author may do this.
    #[error("message {0} is not yours")]
    NotAuthor(MessageId),
    /// Only the owner may do this.
    #[error("conversation {0} is not yours")]
    NotOwner(ConversationId),
    /// The client message id was used with another body.
    #[error("the client message id {0} was used for another message")]
    ClientMessageIdReused(String),
    /// The message has another version by now.
    #[error("message {message_id} has version {version} by now")]
    VersionMismatch {
        /// The message.
        message_id: MessageId,
        /// The version that it has.
        version: i32,
    },
    /// The message is deleted.
    #[error("message {0} is deleted")]
    MessageDeleted(MessageId),
    /// Only owner and moderators may do this.
    #[error("you do not moderate conversation {0}")]
    NotModerator(ConversationId),
    /// There is no such report in that conversation, or it is not for the caller to see.
    #[error("there is no report {0} in that conversation")]
    ReportNotFound(ReportId),
    /// The report was resolved otherwise before.
    #[error("report {0} was resolved otherwise before")]
    ReportResolved(ReportId),
    /// The caller has done so much lately that it has to wait.
    #[error("too many requests: wait {} s", wait.as_secs())]
    RateLimited {
        /// How long.
        wait: Duration,
    },
    /// The message is no poll.
    #[error("message {0} is no poll")]
    NotAPoll(MessageId),
    /// Nobody can vote any more.
    #[error("poll {0} is closed")]
    PollClosed(MessageId),
    /// Nobody learns who voted for what.
    #[error("poll {0} is anonymous")]
    PollAnonymous(MessageId),
    /// The message has as many different reactions as it can have.
    #[error("message {0} has as many different reactions as it can have")]
    TooManyReactions(MessageId),
    /// The conversation has as many pinned messages as it can have.
    #[error("conversation {0} has as many pinned messages as it can have")]
    TooManyPins(ConversationId),
    /// The caller's message request waits for its answer.
    #[error("your message request in conversation {0} waits for its answer")]
    RequestPending(ConversationId),
    /// The other person takes this only from people whom it has accepted.
    #[error("the other person in conversation {0} has not accepted you")]
    ContactNotAccepted(ConversationId),
    /// The sender has to wait.
    #[error("slow mode: wait {} ms", wait.as_millis())]
    SlowMode {
        /// How long.
        wait: Duration,
    },
    /// The person written to does not exist.
    #[error("there is no such user")]
    UserNotFound(Option<String>),
    /// The account of the other person of a direct conversation is deleted.
    #[error("the account of the other person in conversation {0} is deleted")]
    PeerGone(ConversationId),
    /// Another service does not do what it is asked, for this reason.
    #[error("{}", .0.text())]
    Neighbour(Box<Fault>),
    /// There is no such file, or the caller may not see it.
    #[error("there is no upload {0}")]
    UploadNotFound(UploadId),
    /// The bytes of the file have not come yet, or not as many as were said.
    #[error("the bytes of upload {0} have not come, or not as many as were said")]
    UploadIncomplete(UploadId),
    /// The bytes of the file are there.
    #[error("the bytes of upload {0} are there already")]
    UploadComplete(UploadId),
    /// Another writer brings the bytes of the file at this moment.
    #[error("the bytes of upload {0} are being brought by another request")]
    UploadInProgress(UploadId),
    /// As many files of the user are in progress as may be.
    #[error("you have {most} uploads in progress, as many as {rule} allows")]
    TooManyUploads {
        /// The setting that says so.
        rule: &'static str,
        /// The number that it allows.
        most: i64,
    },
    /// The bytes come more slowly than they may.
    #[error("the bytes of the file come too slowly: at least {least} a second are asked for")]
    UploadTooSlow {
        /// The number that has to come in a second.
        least: u64,
    },
    /// The user would bring more bytes on one day than allowed.
    #[error("you may upload {most} bytes a day")]
    UploadQuota {
        /// How many.
        most: i64,
        /// Until the next day.
        wait: Duration,
    },
    /// The user would have more bytes stored than allowed.
    #[error("you may have {most} bytes of files stored: delete some of your messages with files first")]
    StorageFull {
        /// How many.
        most: i64,
    },
    /// The ticket is none, for another file, or over, or its session has ended.
    #[error("the ticket does not hold for this")]
    TicketInvalid,
    /// The operator's policy refuses it, for this reason when it is told.
    #[error("the message is refused{}{}", if .0.is_empty() { "" } else { ": " }, .0)]
    MessageRefused(String),
    /// The operator's policy does not answer, and nothing is let through without it.
    #[error("nobody can be asked whether the message may be sent")]
    PolicyUnavailable,
    /// Too much is waiting already.
    #[error("too much is waiting already")]
    Overloaded,
    /// The reader of a stream is too slow.
    #[error("you read too slowly: call again with the last sequences")]
    TooSlow,
    /// The session has ended.
    #[error("the session has ended")]
    SessionEnded,
    /// Something that is needed is not there at the moment.
    #[error("{0} is not available at the moment")]
    Unavailable(&'static str),
    /// Something is wrong with us. It has been logged where it was found.
    #[error("something went wrong on our side")]
    Internal,
    /// The database failed.
    #[error("the database failed")]
    Store(#[source] Arc<Failure>),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Store(Arc::new(failure))
    }
}

impl Error {
    /// A word for metrics: few, and none that somebody outside can choose.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Invalid { .. } | Self::PageToken(_) | Self::HeadBeyondLog { .. } => "invalid",
            Self::UploadIncomplete(_) | Self::UploadComplete(_) | Self::UploadInProgress(_) => "conflict",
            Self::TooManyUploads { .. } | Self::UploadQuota { .. } | Self::StorageFull { .. } => "too_many",
            Self::UploadTooSlow { .. } => "too_slow",
            Self::InvalidContent { .. } | Self::SignatureInvalid => "invalid",
            Self::SecureOnly(_) | Self::NotForwardable(_) | Self::NotEditable(_) => "conflict",
            Self::ConversationNotFound(_)
            | Self::MessageNotFound(_)
            | Self::AlertNotFound(_)
            | Self::UploadNotFound(_)
            | Self::UserNotFound(_)
            | Self::PeerGone(_) => "not_found",
            Self::WriteDenied(_) | Self::NotAuthor(_) | Self::NotOwner(_) | Self::TicketInvalid => "denied",
            Self::MessageRefused(_) => "refused",
            Self::ClientMessageIdReused(_) => "reused",
            Self::VersionMismatch { .. } | Self::MessageDeleted(_) => "conflict",
            Self::Neighbour(fault) => match fault.code() {
                Code::Unavailable => "unavailable",
                Code::Internal => "failed",
                _ => "refused",
            },
            Self::NotModerator(_) => "denied",
            Self::ReportNotFound(_) => "not_found",
            Self::ReportResolved(_) => "conflict",
            Self::RateLimited { .. } => "rate_limited",
            Self::NotAPoll(_) | Self::PollClosed(_) | Self::PollAnonymous(_) => "conflict",
            Self::TooManyReactions(_) | Self::TooManyPins(_) => "too_many",
            Self::SlowMode { .. } => "slow_mode",
            Self::RequestPending(_) | Self::ContactNotAccepted(_) => "not_accepted",
            Self::Overloaded | Self::TooSlow => "overloaded",
            Self::SessionEnded => "unauthenticated",
            Self::Unavailable(_) | Self::PolicyUnavailable => "unavailable",
            Self::Internal | Self::Store(_) => "failed",
        }
    }

    fn fault(&self) -> Fault {
        let fault = |code, reason: Reason| Fault::new(code, reason.as_str_name()).message(self.to_string());
        match self {
            Self::Invalid { field, rule } => Fault::invalid(*field, *rule),
            Self::InvalidContent { path, rule } => Fault::invalid(path.as_str(), *rule),
            Self::SignatureInvalid => fault(Code::InvalidArgument, Reason::SignatureInvalid)
                .field("content.secure.signature", "must be by a registered device of the sender"),
            Self::SecureOnly(id) => {
                fault(Code::FailedPrecondition, Reason::SecureOnly).with("conversation_id", id)
            }
            Self::NotForwardable(id) => {
                fault(Code::FailedPrecondition, Reason::NotForwardable).with("message_id", id)
            }
            Self::NotEditable(id) => {
                fault(Code::FailedPrecondition, Reason::NotEditable).with("message_id", id)
            }
            Self::PageToken(fault) | Self::Neighbour(fault) => (**fault).clone(),
            Self::ConversationNotFound(id) => {
                fault(Code::NotFound, Reason::ConversationNotFound).with("conversation_id", id)
            }
            Self::HeadBeyondLog { conversation, head } => fault(Code::OutOfRange, Reason::HeadBeyondLog)
                .with("conversation_id", conversation)
                .with("head_sequence", head.get()),
            Self::MessageNotFound(id) => {
                fault(Code::NotFound, Reason::MessageNotFound).with("message_id", id)
            }
            Self::AlertNotFound(id) => fault(Code::NotFound, Reason::AlertNotFound).with("alert_id", id),
            Self::WriteDenied(id) => {
                fault(Code::PermissionDenied, Reason::WriteDenied).with("conversation_id", id)
            }
            Self::NotAuthor(id) => fault(Code::PermissionDenied, Reason::NotAuthor).with("message_id", id),
            Self::NotOwner(id) => fault(Code::PermissionDenied, Reason::NotOwner).with("conversation_id", id),
            Self::ClientMessageIdReused(id) => {
                fault(Code::AlreadyExists, Reason::ClientMessageIdReused).with("client_message_id", id)
            }
            Self::VersionMismatch { message_id, version } => fault(Code::Aborted, Reason::VersionMismatch)
                .with("message_id", message_id)
                .with("version", version),
            Self::MessageDeleted(id) => {
                fault(Code::FailedPrecondition, Reason::MessageDeleted).with("message_id", id)
            }
            Self::NotModerator(id) => {
                fault(Code::PermissionDenied, Reason::NotModerator).with("conversation_id", id)
            }
            Self::ReportNotFound(id) => fault(Code::NotFound, Reason::ReportNotFound).with("report_id", id),
            Self::ReportResolved(id) => {
                fault(Code::FailedPrecondition, Reason::ReportResolved).with("report_id", id)
            }
            Self::RateLimited { wait } => {
                fault(Code::ResourceExhausted, Reason::RateLimited).retry_after(*wait)
            }
            Self::NotAPoll(id) => fault(Code::FailedPrecondition, Reason::NotAPoll).with("message_id", id),
            Self::PollClosed(id) => {
                fault(Code::FailedPrecondition, Reason::PollClosed).with("message_id", id)
            }
            Self::PollAnonymous(id) => {
                fault(Code::FailedPrecondition, Reason::PollAnonymous).with("message_id", id)
            }
            Self::TooManyReactions(id) => {
                fault(Code::ResourceExhausted, Reason::TooManyReactions).with("message_id", id)
            }
            Self::TooManyPins(id) => {
                fault(Code::ResourceExhausted, Reason::TooManyPins).with("conversation_id", id)
            }
            Self::RequestPending(id) => {
                fault(Code::FailedPrecondition, Reason::RequestPending).with("conversation_id", id)
            }
            Self::ContactNotAccepted(id) => {
                fault(Code::FailedPrecondition, Reason::ContactNotAccepted).with("conversation_id", id)
            }
            Self::SlowMode { wait } => fault(Code::ResourceExhausted, Reason::SlowMode).retry_after(*wait),
            Self::UserNotFound(None) => fault(Code::NotFound, Reason::UserNotFound),
            Self::UserNotFound(Some(id)) => fault(Code::NotFound, Reason::UserNotFound).with("user_id", id),
            Self::PeerGone(id) => fault(Code::NotFound, Reason::UserNotFound).with("conversation_id", id),
            Self::UploadNotFound(id) => fault(Code::NotFound, Reason::UploadNotFound).with("upload_id", id),
            Self::UploadIncomplete(id) => {
                fault(Code::FailedPrecondition, Reason::UploadIncomplete).with("upload_id", id)
            }
            Self::UploadComplete(id) => {
                fault(Code::AlreadyExists, Reason::UploadComplete).with("upload_id", id)
            }
            Self::UploadInProgress(id) => {
                fault(Code::Aborted, Reason::UploadInProgress).with("upload_id", id)
            }
            Self::TooManyUploads { rule, most } => fault(Code::ResourceExhausted, Reason::TooManyUploads)
                .with("rule", rule)
                .with("most", most)
                .retry_after(Duration::from_secs(60)),
            Self::UploadTooSlow { least } => fault(Code::DeadlineExceeded, Reason::UploadTooSlow)
                .with("rule", "uploads.min_bytes_per_second")
                .with("least", least),
            Self::UploadQuota { most, wait } => fault(Code::ResourceExhausted, Reason::UploadQuota)
                .with("rule", "uploads.max_bytes_per_day")
                .with("most", most)
                .retry_after(*wait),
            Self::StorageFull { most } => fault(Code::FailedPrecondition, Reason::StorageFull)
                .with("rule", "uploads.max_stored_bytes")
                .with("most", most),
            Self::TicketInvalid => fault(Code::PermissionDenied, Reason::TicketInvalid),
            Self::MessageRefused(reason) if reason.is_empty() => {
                fault(Code::PermissionDenied, Reason::MessageRefused)
            }
            Self::MessageRefused(reason) => {
                fault(Code::PermissionDenied, Reason::MessageRefused).with("policy_reason", reason)
            }
            Self::PolicyUnavailable => {
                fault(Code::Unavailable, Reason::PolicyUnavailable).retry_after(Duration::from_secs(1))
            }
            Self::Overloaded | Self::TooSlow => {
                fault(Code::Unavailable, Reason::Overloaded).retry_after(Duration::from_secs(1))
            }
            Self::SessionEnded => fault(Code::Unauthenticated, Reason::Unauthenticated),
            Self::Unavailable(what) => Fault::unavailable(what),
            Self::Internal => Fault::internal(),
            Self::Store(failure) if failure.is_transient() => Fault::unavailable("the database"),
            Self::Store(_) => Fault::internal(),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        if let Error::Store(failure) = &error {
            // Passed on to here by everybody else, so that it is logged once.
            failure.log();
        }
        error.fault().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_to_wait_is_told_how_long() {
        let status = Status::from(Error::SlowMode { wait: Duration::from_secs(3) });
        let fault = Fault::of(&status);
        assert_eq!((fault.code(), fault.reason()), (Code::ResourceExhausted, "ERROR_REASON_SLOW_MODE"));
        assert_eq!(fault.wait(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_damaged_database_is_our_fault() {
        let code = |failure: Failure| Status::from(Error::from(failure)).code();
        assert_eq!(code(Failure::corrupt("a row cannot be read")), Code::Internal);
    }
}
