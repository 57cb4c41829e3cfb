//! What we ask of messaging about calls: whether somebody may write to the other, and to show what became of a call.

use chassis::fault::Fault;
use proto::id::CallId;
use proto::messaging::v1 as pb;
use tonic::{Code, Status};

use super::error::CallError;
use super::machine::{Call, Ending, Media, Outcome as How, Pair, nobody};
use crate::error::Error;
use crate::messaging::{Messaging, Outcome, judge, sent};

impl Messaging {
    /// Refuses a call to somebody to whom the caller may not write.
    pub async fn check_call(&self, id: CallId, pair: &Pair) -> Result<(), Error> {
        // Any outcome will do: nothing is sent.
        let content = content(id, pair.media, pb::CallOutcome::Cancelled, None);
        let request = pb::SendMessageRequest {
            target: Some(pb::send_message_request::Target::ConversationId(pair.conversation.to_string())),
            content: Some(content),
            validate_only: true,
            ..Default::default()
        };
        self.ask(pair.from.user, request).await.map(drop).map_err(|status| refusal(status, pair))
    }

    /// Shows in the conversation of the two what became of a call. However often this is called, it is shown once.
    /// `None` when there is nobody to say it.
    pub async fn show_call(&self, call: &Call, ending: &Ending) -> Option<Outcome> {
        if call.caller.user == nobody() {
            return None;
        }
        let duration =
            ending.duration.map(|duration| prost_types::Duration::try_from(duration).unwrap_or_default());
        let request = pb::SendMessageRequest {
            target: Some(pb::send_message_request::Target::ConversationId(call.conversation.to_string())),
            content: Some(content(call.id, call.media, outcome(ending.outcome), duration)),
            client_message_id: format!("call:{}", call.id),
            ..Default::default()
        };
        Some(match self.ask(call.caller.user, request).await {
            Ok(answer) => sent(answer),
            Err(status) => judge(&status),
        })
    }
}

fn content(
    id: CallId,
    media: Media,
    outcome: pb::CallOutcome,
    duration: Option<prost_types::Duration>,
) -> pb::Content {
    let call = pb::CallContent {
        call_id: id.to_string(),
        video: media == Media::Video,
        outcome: outcome.into(),
        duration,
    };
    pb::Content { kind: Some(pb::content::Kind::Call(call)), attachments: Vec::new() }
}

fn outcome(outcome: How) -> pb::CallOutcome {
    match outcome {
        How::Ended => pb::CallOutcome::Ended,
        How::Rejected => pb::CallOutcome::Rejected,
        How::Busy => pb::CallOutcome::Busy,
        How::Missed => pb::CallOutcome::Missed,
        How::Cancelled => pb::CallOutcome::Cancelled,
        How::Failed => pb::CallOutcome::Failed,
    }
}

/// What a status says about one who wants to call.
fn refusal(status: Status, pair: &Pair) -> Error {
    let fault = Fault::of(&status);
    match pb::ErrorReason::from_str_name(fault.reason()) {
        Some(pb::ErrorReason::ConversationNotFound) => Error::ConversationNotFound(pair.conversation),
        Some(pb::ErrorReason::WriteDenied) => Error::WriteDenied(pair.conversation),
        Some(pb::ErrorReason::UserNotFound) => CallError::UserNotFound(pair.to).into(),
        Some(pb::ErrorReason::ContactNotAccepted | pb::ErrorReason::RequestPending) => {
            CallError::ContactNotAccepted.into()
        }
        // The operator's policy, or a rule that we do not know yet. Not by the code alone: who is refused by
        // NOT_ADMITTED is this service.
        Some(_) if matches!(fault.code(), Code::PermissionDenied | Code::FailedPrecondition) => {
            CallError::Refused(fault.text()).into()
        }
        _ => Error::Neighbour { service: "messaging", source: Box::new(status) },
    }
}

#[cfg(test)]
mod tests {
    use proto::id::{ConversationId, SessionId, UserId};

    use super::super::machine::Device;
    use super::*;

    fn refused(code: Code, reason: &str) -> Error {
        let from = Device { user: UserId::generate(), session: SessionId::generate() };
        let conversation = ConversationId::generate();
        let pair = Pair { from, to: UserId::generate(), conversation, media: Media::Audio };
        refusal(Fault::new(code, format!("ERROR_REASON_{reason}")).into(), &pair)
    }

    #[test]
    fn a_refusal_of_the_caller_is_passed_on() {
        let call = |code, reason| match refused(code, reason) {
            Error::Call(error) => error,
            error => panic!("{error:?}"),
        };
        for reason in ["CONTACT_NOT_ACCEPTED", "REQUEST_PENDING"] {
            assert_eq!(call(Code::FailedPrecondition, reason), CallError::ContactNotAccepted);
        }
        assert!(matches!(call(Code::NotFound, "USER_NOT_FOUND"), CallError::UserNotFound(_)));
        assert!(matches!(call(Code::PermissionDenied, "MESSAGE_REFUSED"), CallError::Refused(_)));
        assert!(matches!(refused(Code::PermissionDenied, "WRITE_DENIED"), Error::WriteDenied(_)));
        let hidden = refused(Code::NotFound, "CONVERSATION_NOT_FOUND");
        assert!(matches!(hidden, Error::ConversationNotFound(_)));
    }

    #[test]
    fn a_refusal_of_ourselves_is_not() {
        for (code, reason) in [
            (Code::PermissionDenied, "NOT_ADMITTED"),
            (Code::Unauthenticated, "UNAUTHENTICATED"),
            (Code::InvalidArgument, "INVALID_FIELD"),
            (Code::Unavailable, "POLICY_UNAVAILABLE"),
        ] {
            let error = refused(code, reason);
            assert!(matches!(error, Error::Neighbour { service: "messaging", .. }), "{error:?}");
        }
    }
}
