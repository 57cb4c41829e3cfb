//! What we ask of messaging about bookings: to tell the other person by a message and an alert, and whether it would.

use chassis::fault::Fault;
use chassis::identity::ServiceCredential;
use chassis::transport::{Transport, as_service};
use proto::id::{ConversationId, MessageId, UserId};
use proto::messaging::v1 as pb;
use proto::messaging::v1::alert_service_client::AlertServiceClient;
use proto::messaging::v1::messaging_service_client::MessagingServiceClient;
use proto::messaging::v1::send_message_request::Target;
use tonic::Status;

use crate::calendar::convert;
use crate::calendar::error::Refusal;
use crate::calendar::schedule::{Media, Schedule, Standing};
use crate::calls::error::CallError;
use crate::conversations::Denial;
use crate::error::Error;
use crate::messaging::{Outcome, SEND_TIMEOUT, judge};
use crate::timer::Setback;

/// Messaging, as far as calendars need it.
#[derive(Clone)]
pub struct Announcer {
    messages: MessagingServiceClient<Transport>,
    alerts: AlertServiceClient<Transport>,
    credential: ServiceCredential,
}

/// What became of something that messaging was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// It has taken it, now or since an earlier try.
    Taken(T),
    /// It does not take it, for good and for this reason.
    Refused(String),
    /// It is to be told again.
    Again {
        /// What is known about this try.
        setback: Setback,
        /// What messaging said, for the log.
        why: String,
        /// Whether somebody has to look: people can do nothing about it.
        is_ours: bool,
    },
}

/// What an alert says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Somebody has booked a call.
    Made,
    /// The booking has changed.
    Moved,
    /// It is cancelled.
    Cancelled,
    /// It is about to begin.
    Due,
}

impl Announcer {
    /// Asks messaging over this transport, as the service with this credential.
    pub fn new(messaging: Transport, credential: ServiceCredential) -> Self {
        Self {
            messages: MessagingServiceClient::new(messaging.clone()),
            alerts: AlertServiceClient::new(messaging),
            credential,
        }
    }

    /// Refuses a booking whose message the other person would not get from `author` in the conversation of the two.
    pub async fn check(
        &self,
        schedule: &Schedule,
        author: UserId,
        conversation: ConversationId,
    ) -> Result<(), Error> {
        let request = pb::SendMessageRequest {
            target: Some(Target::ConversationId(conversation.to_string())),
            content: Some(content(schedule)),
            validate_only: true,
            ..pb::SendMessageRequest::default()
        };
        match self.send(author, request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(judged(status, schedule.other(author))),
        }
    }

    /// Sends the message about a version of a booking in the name of `author`. However often this is called for a
    /// version, it is shown once.
    pub async fn tell(&self, schedule: &Schedule, author: UserId) -> Answer<(ConversationId, MessageId)> {
        let request = pb::SendMessageRequest {
            target: Some(Target::UserId(schedule.other(author).to_string())),
            content: Some(content(schedule)),
            client_message_id: schedule.message_key(),
            ..pb::SendMessageRequest::default()
        };
        match self.send(author, request).await {
            Ok(answer) => {
                let message = answer.message.unwrap_or_default();
                let ids =
                    (ConversationId::parse(&message.conversation_id), MessageId::parse(&message.message_id));
                match ids {
                    (Ok(conversation), Ok(message)) => Answer::Taken((conversation, message)),
                    _ => Answer::Again {
                        setback: Setback::Unknown,
                        why: "an answer without a message".to_owned(),
                        is_ours: true,
                    },
                }
            }
            Err(status) => status.into(),
        }
    }

    /// Raises an alert about a booking, or changes the one that is there. An older version than the last one changes
    /// nothing.
    pub async fn alert(&self, schedule: &Schedule, user: UserId, news: News, version: i64) -> Answer<()> {
        let (conversation_id, message_id) = match schedule.message {
            Some((conversation, message)) => (conversation.to_string(), message.to_string()),
            None => (String::new(), String::new()),
        };
        let state = match news {
            News::Made => pb::AlertState::ScheduleMade,
            News::Moved => pb::AlertState::ScheduleMoved,
            News::Cancelled => pb::AlertState::ScheduleCancelled,
            News::Due => pb::AlertState::ScheduleDue,
        };
        // Nobody causes a reminder.
        let actor = schedule.actor.filter(|_| news != News::Due);
        let mut request = as_service(
            pb::RaiseAlertRequest {
                user_id: user.to_string(),
                kind: pb::AlertKind::Schedule.into(),
                subject_id: schedule.id.to_string(),
                state: state.into(),
                version,
                actor_user_id: actor.map(|actor| actor.to_string()).unwrap_or_default(),
                conversation_id,
                message_id,
            },
            &self.credential,
            None,
        );
        request.set_timeout(SEND_TIMEOUT);
        match within(self.alerts.clone().raise_alert(request)).await {
            Ok(_) => Answer::Taken(()),
            Err(status) => status.into(),
        }
    }

    async fn send(
        &self,
        author: UserId,
        request: pb::SendMessageRequest,
    ) -> Result<pb::SendMessageResponse, Status> {
        let mut request = as_service(request, &self.credential, Some(author));
        // Messaging stops working on it when we stop waiting.
        request.set_timeout(SEND_TIMEOUT);
        within(self.messages.clone().send_message(request)).await
    }
}

async fn within<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
    let late = |_| Err(Status::deadline_exceeded(format!("no answer within {SEND_TIMEOUT:?}")));
    tokio::time::timeout(SEND_TIMEOUT, call).await.unwrap_or_else(late).map(tonic::Response::into_inner)
}

impl<T> From<Status> for Answer<T> {
    fn from(status: Status) -> Self {
        match judge(&status) {
            Outcome::Refused(reason) => Self::Refused(reason),
            Outcome::Again { setback, why, is_ours } => Self::Again { setback, why, is_ours },
            // No status says that it was taken.
            Outcome::Sent(_) => {
                Self::Again { setback: Setback::Unknown, why: status.to_string(), is_ours: true }
            }
        }
    }
}

/// What the message says. A version of a booking is the same for ever, and so is its message.
fn content(schedule: &Schedule) -> pb::Content {
    let plan = &schedule.plan;
    let schedule = pb::ScheduleContent {
        schedule_id: schedule.id.to_string(),
        title: plan.title.as_str().to_owned(),
        start_time: Some(plan.first.start.to_proto()),
        end_time: Some(plan.first.end.to_proto()),
        video: plan.media == Media::Video,
        cancelled: schedule.standing != Standing::Booked,
    };
    pb::Content { kind: Some(pb::content::Kind::Schedule(schedule)), attachments: Vec::new() }
}

/// What a status says about a message that was only to be checked.
fn judged(status: Status, other: UserId) -> Error {
    let fault = Fault::of(&status);
    if let Some((field, rule)) = fault.fields().first() {
        return match field.as_str() {
            "content.schedule.title" => Error::Content(Fault::invalid(convert::TITLE, rule.clone())),
            _ => Error::Misunderstood("messaging does not understand what is said about a booking"),
        };
    }
    match Answer::<()>::from(status.clone()) {
        Answer::Refused(reason) => refusal(&reason, other).into(),
        Answer::Taken(()) | Answer::Again { .. } => {
            Error::Neighbour { service: "messaging", source: Box::new(status) }
        }
    }
}

/// What it means for the one who books that conversation does not say where the two write to each other.
pub fn denied(denial: Denial, other: UserId) -> Error {
    match denial {
        Denial::Absent => Refusal::UserNotFound(other).into(),
        // The names of the reasons are the same.
        Denial::Refused(fault) => refusal(fault.reason(), other).into(),
        Denial::TooMany(wait) => CallError::TooMany { what: "conversations", wait }.into(),
        Denial::NotDirect(_) => Error::Misunderstood("conversation finds a direct one that is none"),
        Denial::Failed(error) => error,
    }
}

/// What a reason of messaging for not taking the message means for the one who books.
pub fn refusal(reason: &str, other: UserId) -> Refusal {
    match pb::ErrorReason::from_str_name(reason) {
        Some(pb::ErrorReason::ContactNotAccepted | pb::ErrorReason::RequestPending) => {
            Refusal::ContactNotAccepted(other)
        }
        Some(pb::ErrorReason::WriteDenied | pb::ErrorReason::ConversationNotFound) => {
            Refusal::WriteDenied(other)
        }
        Some(pb::ErrorReason::UserNotFound) => Refusal::UserNotFound(other),
        _ => Refusal::Refused(reason.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;

    use super::*;

    fn status(code: Code, reason: pb::ErrorReason) -> Status {
        Fault::new(code, reason.as_str_name()).into()
    }

    #[test]
    fn a_refusal_says_what_can_be_done_about_it() {
        let other = UserId::generate();
        let refused = |code, reason| match judged(status(code, reason), other) {
            Error::Calendar(refusal) => refusal,
            error => panic!("{error:?}"),
        };
        let pending = refused(Code::FailedPrecondition, pb::ErrorReason::ContactNotAccepted);
        assert!(matches!(pending, Refusal::ContactNotAccepted(user) if user == other));
        let blocked = refused(Code::PermissionDenied, pb::ErrorReason::WriteDenied);
        assert!(matches!(blocked, Refusal::WriteDenied(user) if user == other));
        let gone = refused(Code::NotFound, pb::ErrorReason::UserNotFound);
        assert!(matches!(gone, Refusal::UserNotFound(user) if user == other));
        let policy = refused(Code::PermissionDenied, pb::ErrorReason::MessageRefused);
        assert!(matches!(policy, Refusal::Refused(reason) if reason.ends_with("MESSAGE_REFUSED")));
    }

    #[test]
    fn what_messaging_cannot_say_is_no_refusal() {
        let other = UserId::generate();
        let title = judged(Fault::invalid("content.schedule.title", "must not").into(), other);
        assert!(matches!(title, Error::Content(fault) if fault.fields()[0].0 == "title"));
        let other_field = judged(Fault::invalid("target", "must not").into(), other);
        assert!(matches!(other_field, Error::Misunderstood(_)), "{other_field:?}");
        for away in [Status::unavailable("down"), Status::deadline_exceeded("slow")] {
            assert!(matches!(judged(away, other), Error::Neighbour { .. }));
        }
        let slow = Fault::new(Code::ResourceExhausted, pb::ErrorReason::RateLimited.as_str_name())
            .retry_after(Duration::from_secs(1));
        assert!(matches!(judged(slow.into(), other), Error::Neighbour { .. }));
    }

    #[test]
    fn who_has_no_conversation_with_the_other_does_not_book() {
        let other = UserId::generate();
        let refused = |denial| match denied(denial, other) {
            Error::Calendar(refusal) => refusal,
            error => panic!("{error:?}"),
        };
        assert!(matches!(refused(Denial::Absent), Refusal::UserNotFound(user) if user == other));
        let fault = Fault::new(Code::FailedPrecondition, "ERROR_REASON_CONTACT_NOT_ACCEPTED");
        let pending = refused(Denial::Refused(fault));
        assert!(matches!(pending, Refusal::ContactNotAccepted(user) if user == other));
        let away = Error::Neighbour { service: "conversation", source: Box::new(Status::unavailable("")) };
        let away = denied(Denial::Failed(away), other);
        assert!(matches!(away, Error::Neighbour { service: "conversation", .. }));
    }
}
