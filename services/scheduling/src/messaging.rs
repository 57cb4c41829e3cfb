//! What we ask of messaging, in our words: to send a message in its author's name, and whether it would.

use std::error::Error as _;
use std::time::Duration;

use chassis::fault::Fault;
use chassis::identity::ServiceCredential;
use chassis::transport::{Repeatable, Transport, as_service};
use proto::id::{ConversationId, MessageId, UserId};
use proto::messaging::v1 as pb;
use proto::messaging::v1::messaging_service_client::MessagingServiceClient;
use proto::scheduling::v1 as scheduling;
use tonic::{Code, ConnectError, Response, Status};

use crate::convert;
use crate::error::Error;
use crate::scheduled_message::{Content, ScheduledMessage, key};
use crate::timer::Setback;

/// As long a send may take. After that it is not known what became of it.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Messaging, as far as we need it.
#[derive(Clone)]
pub struct Messaging {
    client: MessagingServiceClient<Transport>,
    credential: ServiceCredential,
}

/// What became of a send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is this message, now or since an earlier try.
    Sent(MessageId),
    /// Messaging refuses it, for good and for this reason.
    Refused(String),
    /// It is to be tried again.
    Again {
        /// What is known about this try.
        setback: Setback,
        /// What messaging said, for the log.
        why: String,
        /// Whether somebody has to look: the author can do nothing about it.
        is_ours: bool,
    },
}

impl Messaging {
    /// Asks messaging over this transport, as the service with this credential.
    pub fn new(messaging: Transport, credential: ServiceCredential) -> Self {
        Self { client: MessagingServiceClient::new(messaging), credential }
    }

    /// Sends a scheduled message in its author's name. The author's right to is judged by messaging, now. However often
    /// this is called for a message, it is shown once.
    pub async fn send(&self, message: &ScheduledMessage, content: &Content) -> Result<Outcome, Error> {
        let request = pb::SendMessageRequest {
            target: Some(pb::send_message_request::Target::ConversationId(message.conversation.to_string())),
            content: Some(convert::decode(content)?),
            client_message_id: key(message.id),
            scheduled_time: Some(message.send_time.to_proto()),
            ..pb::SendMessageRequest::default()
        };
        Ok(match self.ask(message.author, request).await {
            Ok(answer) => sent(answer),
            Err(status) => judge(&status),
        })
    }

    /// Refuses what messaging would not take from the author now, but for what passes by waiting. `field` is where the
    /// content stands in the request that we were given: the author knows no other.
    pub async fn check(
        &self,
        author: UserId,
        conversation: ConversationId,
        content: &Content,
        field: &str,
    ) -> Result<(), Error> {
        let request = pb::SendMessageRequest {
            target: Some(pb::send_message_request::Target::ConversationId(conversation.to_string())),
            content: Some(convert::decode(content)?),
            validate_only: true,
            ..pb::SendMessageRequest::default()
        };
        self.ask(author, request).await.map(drop).map_err(|status| refusal(status, conversation, field))
    }

    pub(crate) async fn ask(
        &self,
        author: UserId,
        request: pb::SendMessageRequest,
    ) -> Result<pb::SendMessageResponse, Status> {
        // Nothing is sent twice: messaging knows the id, or sends nothing.
        let is_repeatable = request.validate_only || !request.client_message_id.is_empty();
        let mut request = as_service(request, &self.credential, Some(author));
        if is_repeatable {
            request.extensions_mut().insert(Repeatable);
        }
        // Messaging stops working on it when we stop waiting.
        request.set_timeout(SEND_TIMEOUT);
        let mut client = self.client.clone();
        let answer = tokio::time::timeout(SEND_TIMEOUT, client.send_message(request)).await;
        let late = |_| Err(Status::deadline_exceeded(format!("no answer within {SEND_TIMEOUT:?}")));
        answer.unwrap_or_else(late).map(Response::into_inner)
    }
}

/// What a status says about a message that was only to be checked.
fn refusal(status: Status, conversation: ConversationId, field: &str) -> Error {
    let fault = Fault::of(&status);
    match pb::ErrorReason::from_str_name(fault.reason()) {
        Some(pb::ErrorReason::ConversationNotFound) => Error::ConversationNotFound(conversation),
        Some(pb::ErrorReason::WriteDenied) => Error::WriteDenied(conversation),
        // The other person, and not one whom the content names.
        Some(pb::ErrorReason::UserNotFound) if fault.metadata().contains_key("conversation_id") => {
            Error::Neighbour { service: "messaging", source: Box::new(status) }
        }
        Some(
            pb::ErrorReason::InvalidField
            | pb::ErrorReason::SignatureInvalid
            | pb::ErrorReason::SecureOnly
            | pb::ErrorReason::UserNotFound
            | pb::ErrorReason::UploadNotFound
            | pb::ErrorReason::UploadIncomplete
            | pb::ErrorReason::MessageRefused,
        ) => Error::Content(named(&fault, field)),
        // Neither yes nor no, whoever is to blame.
        _ => Error::Neighbour { service: "messaging", source: Box::new(status) },
    }
}

/// The same fault with the paths of the request that we were given. Only the content can be wrong: the rest is ours. What
/// names no field is about the content as a whole.
fn named(fault: &Fault, field: &str) -> Fault {
    let ours = Fault::new(Code::InvalidArgument, scheduling::ErrorReason::InvalidField.as_str_name());
    if fault.fields().is_empty() {
        return ours.field(field, fault.text());
    }
    fault.fields().iter().fold(ours, |ours, (path, rule)| {
        ours.field(format!("{field}{}", path.strip_prefix("content").unwrap_or_default()), rule)
    })
}

pub(crate) fn sent(answer: pb::SendMessageResponse) -> Outcome {
    match answer.message.map(|message| MessageId::parse(&message.message_id)) {
        Some(Ok(message_id)) => Outcome::Sent(message_id),
        Some(Err(_)) | None => Outcome::Again {
            setback: Setback::Unknown,
            why: "an answer without a message".to_owned(),
            is_ours: true,
        },
    }
}

/// What a status says about the message. What is not certainly a refusal is tried again, and what is not certainly
/// nothing may have been sent.
pub(crate) fn judge(status: &Status) -> Outcome {
    let fault = Fault::of(status);
    let why = || format!("{:?} {} {}", fault.code(), fault.reason(), fault.text());
    match fault.code() {
        // It is not the author who is refused, but we: nothing that the author has done or could do.
        Code::PermissionDenied if fault.reason() == "ERROR_REASON_NOT_ADMITTED" => not_admitted(why()),
        Code::Unauthenticated | Code::Unimplemented => not_admitted(why()),
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange => Outcome::Refused(reason(&fault)),
        Code::ResourceExhausted => again(Setback::NotYet(fault.wait().unwrap_or_default()), why()),
        // Refused before anything was done, or never arrived.
        Code::Unavailable if fault.reason() == pb::ErrorReason::Overloaded.as_str_name() => {
            again(Setback::Away, why())
        }
        Code::Unavailable if was_not_reached(status) => again(Setback::Away, why()),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => again(Setback::Unknown, why()),
    }
}

fn again(setback: Setback, why: String) -> Outcome {
    Outcome::Again { setback, why, is_ours: false }
}

fn not_admitted(why: String) -> Outcome {
    Outcome::Again { setback: Setback::Away, why, is_ours: true }
}

fn reason(fault: &Fault) -> String {
    let said = Some(fault.reason()).filter(|reason| !reason.is_empty());
    said.unwrap_or(pb::ErrorReason::Unspecified.as_str_name()).to_owned()
}

/// Whether there was no connection to send it over.
fn was_not_reached(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: Code, reason: &str) -> Status {
        Fault::new(code, reason).into()
    }

    fn fields(status: Status, field: &str) -> Vec<(String, String)> {
        match refusal(status, ConversationId::generate(), field) {
            Error::Content(fault) => {
                assert_eq!(fault.reason(), "ERROR_REASON_INVALID_FIELD");
                fault.fields().to_vec()
            }
            error => panic!("{error:?}"),
        }
    }

    #[test]
    fn a_field_is_named_as_the_author_knows_it() {
        let blank =
            || Status::from(Fault::invalid("content.text", "must have something besides white space"));
        let rule = "must have something besides white space".to_owned();
        assert_eq!(fields(blank(), convert::CONTENT), [("content.text".to_owned(), rule.clone())]);
        let updated = ("scheduled_message.content.text".to_owned(), rule);
        assert_eq!(fields(blank(), convert::UPDATED_CONTENT), [updated]);
        let sealed =
            Fault::new(Code::FailedPrecondition, "ERROR_REASON_SECURE_ONLY").message("secure ones only");
        let sealed = fields(sealed.into(), convert::CONTENT);
        assert_eq!(sealed, [("content".to_owned(), "secure ones only".to_owned())]);
        let whole = Status::from(Fault::invalid("content", "must say something"));
        assert_eq!(fields(whole, convert::UPDATED_CONTENT)[0].0, "scheduled_message.content");
    }

    #[test]
    fn only_a_refusal_of_the_author_is_passed_on() {
        let id = ConversationId::generate();
        let refused = |code, reason: &str| refusal(status(code, reason), id, convert::CONTENT);
        let hidden = refused(Code::NotFound, "ERROR_REASON_CONVERSATION_NOT_FOUND");
        assert!(matches!(hidden, Error::ConversationNotFound(of) if of == id));
        let muted = refused(Code::PermissionDenied, "ERROR_REASON_WRITE_DENIED");
        assert!(matches!(muted, Error::WriteDenied(of) if of == id));
        for (code, reason) in [
            (Code::PermissionDenied, "ERROR_REASON_NOT_ADMITTED"),
            (Code::Unauthenticated, "ERROR_REASON_UNAUTHENTICATED"),
            (Code::Unavailable, "ERROR_REASON_OVERLOADED"),
            (Code::DeadlineExceeded, ""),
        ] {
            let error = refused(code, reason);
            assert!(matches!(error, Error::Neighbour { service: "messaging", .. }), "{error:?}");
        }
    }

    #[test]
    fn what_messaging_says_of_the_author_reaches_the_author() {
        let id = ConversationId::generate();
        let told = |status: Status| {
            let told = Status::from(refusal(status, id, convert::CONTENT));
            (told.code(), Fault::of(&told).reason().to_owned(), Fault::of(&told).wait())
        };
        let wait = Duration::from_secs(7);
        let slow = Fault::new(Code::ResourceExhausted, "ERROR_REASON_RATE_LIMITED").retry_after(wait);
        assert_eq!(
            told(slow.into()),
            (Code::ResourceExhausted, "ERROR_REASON_RATE_LIMITED".to_owned(), Some(wait))
        );
        let gone = Fault::new(Code::NotFound, "ERROR_REASON_USER_NOT_FOUND").with("conversation_id", id);
        assert_eq!(told(gone.into()), (Code::NotFound, "ERROR_REASON_USER_NOT_FOUND".to_owned(), None));
        for reason in ["ERROR_REASON_REQUEST_PENDING", "ERROR_REASON_CONTACT_NOT_ACCEPTED"] {
            let refused = told(status(Code::FailedPrecondition, reason));
            assert_eq!(refused, (Code::FailedPrecondition, reason.to_owned(), None));
        }
        for (code, reason, expected) in [
            (Code::Unavailable, "ERROR_REASON_OVERLOADED", Code::Unavailable),
            (Code::DeadlineExceeded, "", Code::Unavailable),
            (Code::Internal, "ERROR_REASON_INTERNAL", Code::Internal),
            (Code::PermissionDenied, "ERROR_REASON_NOT_ADMITTED", Code::Internal),
        ] {
            assert_eq!(told(status(code, reason)).0, expected, "{code:?} {reason}");
        }
    }

    fn setback(status: &Status) -> Option<Setback> {
        match judge(status) {
            Outcome::Again { setback, .. } => Some(setback),
            Outcome::Sent(_) | Outcome::Refused(_) => None,
        }
    }

    #[test]
    fn a_refusal_of_the_author_is_final_and_says_why() {
        let refused =
            |code, reason: &str| judge(&status(code, reason)) == Outcome::Refused(reason.to_owned());
        assert!(refused(Code::PermissionDenied, "ERROR_REASON_WRITE_DENIED"));
        assert!(refused(Code::NotFound, "ERROR_REASON_CONVERSATION_NOT_FOUND"));
        assert!(refused(Code::FailedPrecondition, "ERROR_REASON_MESSAGE_DELETED"));
        assert!(refused(Code::InvalidArgument, "ERROR_REASON_INVALID_FIELD"));
        assert!(refused(Code::AlreadyExists, "ERROR_REASON_CLIENT_MESSAGE_ID_REUSED"));
        let bare = judge(&Status::permission_denied("no"));
        assert_eq!(bare, Outcome::Refused("ERROR_REASON_UNSPECIFIED".to_owned()));
    }

    #[test]
    fn a_refusal_of_ourselves_is_no_reason_to_fail_the_message() {
        for status in [
            status(Code::PermissionDenied, "ERROR_REASON_NOT_ADMITTED"),
            status(Code::Unauthenticated, "ERROR_REASON_UNAUTHENTICATED"),
            Status::unimplemented("no such rpc"),
        ] {
            let outcome = judge(&status);
            assert!(
                matches!(outcome, Outcome::Again { setback: Setback::Away, is_ours: true, .. }),
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn what_may_have_been_done_is_in_doubt() {
        let unclear = [
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::Unknown,
            Code::Internal,
            Code::Cancelled,
            Code::Aborted,
        ];
        for code in unclear {
            assert_eq!(
                setback(&status(code, "ERROR_REASON_UNAVAILABLE")),
                Some(Setback::Unknown),
                "{code:?}"
            );
        }
    }

    #[test]
    fn what_was_certainly_not_done_is_not() {
        let wait = Duration::from_secs(7);
        let slow = Fault::new(Code::ResourceExhausted, "ERROR_REASON_SLOW_MODE").retry_after(wait);
        assert_eq!(setback(&slow.into()), Some(Setback::NotYet(wait)));
        assert_eq!(setback(&status(Code::Unavailable, "ERROR_REASON_OVERLOADED")), Some(Setback::Away));
        let refused = ConnectError("connection refused".into());
        assert_eq!(setback(&Status::from_error(Box::new(refused))), Some(Setback::Away));
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_was_not_reached() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let mut client = MessagingServiceClient::new(Transport::remote(&[url], None).unwrap());
        let status = client.send_message(pb::SendMessageRequest::default()).await.unwrap_err();
        assert_eq!(setback(&status), Some(Setback::Away), "{status:?}");
    }
}
