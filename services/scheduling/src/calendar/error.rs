//! What can be refused about calendars, and how it reads on the wire.

use chassis::clock::Timestamp;
use chassis::fault::Fault;
use proto::id::{ScheduleId, UserId};
use proto::scheduling::v1::ErrorReason as Reason;
use tonic::Code;

use crate::calendar::limits::Limit;

/// Why something about a calendar is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The caller has no such booking.
    #[error("you have no schedule {0}")]
    NotFound(ScheduleId),
    /// One of the two has another booking at that time.
    #[error("{user} has another booking at {start}")]
    SlotTaken {
        /// Who.
        user: UserId,
        /// The time that it is about.
        start: Timestamp,
    },
    /// The other person is not free then.
    #[error("{user} is not free at {start}")]
    SlotNotFree {
        /// Who.
        user: UserId,
        /// The time that it is about.
        start: Timestamp,
    },
    /// It is more than the other person wants to be called.
    #[error("what is booked at {start} goes beyond the {limit} of {user}")]
    CallLimit {
        /// Who.
        user: UserId,
        /// Which of its limits.
        limit: Limit,
        /// The time that it is about.
        start: Timestamp,
    },
    /// As many are to come as are allowed.
    #[error("at most {most} schedules can be upcoming")]
    TooMany {
        /// The most that are allowed.
        most: u32,
    },
    /// There is no such person, or it has no account.
    #[error("there is no user {0} with an account")]
    UserNotFound(UserId),
    /// The other person takes bookings only from people whom it has accepted.
    #[error("user {0} has to accept you first")]
    ContactNotAccepted(UserId),
    /// The caller may not write to the other person.
    #[error("you may not write to user {0}")]
    WriteDenied(UserId),
    /// Messaging does not take the message about it.
    #[error("the message about it is refused: {0}")]
    Refused(String),
    /// Only who booked it can do that.
    #[error("only who booked schedule {0} can change it")]
    NotBooker(ScheduleId),
    /// It is over, or cancelled.
    #[error("schedule {id} is {state}")]
    Over {
        /// Which one.
        id: ScheduleId,
        /// What has become of it: `past` or `cancelled`.
        state: &'static str,
    },
    /// Somebody else has changed it again and again while we tried.
    #[error("schedule {0} has changed meanwhile: ask again")]
    Changed(ScheduleId),
}

impl From<&Refusal> for Fault {
    fn from(refusal: &Refusal) -> Self {
        let fault = |code, reason: Reason| Self::new(code, reason.as_str_name()).message(refusal.to_string());
        match refusal {
            Refusal::NotFound(id) => fault(Code::NotFound, Reason::ScheduleNotFound).with("schedule_id", id),
            Refusal::SlotTaken { user, start } => {
                fault(Code::AlreadyExists, Reason::SlotTaken).with("user_id", user).with("start_time", start)
            }
            Refusal::SlotNotFree { user, start } => fault(Code::FailedPrecondition, Reason::SlotNotFree)
                .with("user_id", user)
                .with("start_time", start),
            Refusal::CallLimit { user, limit, start } => fault(Code::FailedPrecondition, Reason::CallLimit)
                .with("user_id", user)
                .with("limit", limit)
                .with("start_time", start),
            Refusal::TooMany { most } => {
                fault(Code::FailedPrecondition, Reason::TooManySchedules).with("most", most)
            }
            Refusal::UserNotFound(user) => fault(Code::NotFound, Reason::UserNotFound).with("user_id", user),
            Refusal::ContactNotAccepted(user) => {
                fault(Code::FailedPrecondition, Reason::ContactNotAccepted).with("user_id", user)
            }
            Refusal::WriteDenied(user) => {
                fault(Code::PermissionDenied, Reason::WriteDenied).with("user_id", user)
            }
            Refusal::Refused(reason) => {
                fault(Code::PermissionDenied, Reason::BookingRefused).with("messaging_reason", reason)
            }
            Refusal::NotBooker(id) => {
                fault(Code::PermissionDenied, Reason::NotBooker).with("schedule_id", id)
            }
            Refusal::Over { id, state } => fault(Code::FailedPrecondition, Reason::ScheduleOver)
                .with("schedule_id", id)
                .with("state", state),
            Refusal::Changed(id) => fault(Code::Aborted, Reason::ScheduleChanged).with("schedule_id", id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_something_else_is_said() {
        let (user, start) = (UserId::generate(), Timestamp::from_millis(0));
        let fault = Fault::from(&Refusal::SlotTaken { user, start });
        assert_eq!((fault.code(), fault.reason()), (Code::AlreadyExists, "ERROR_REASON_SLOT_TAKEN"));
        assert_eq!(fault.metadata()["user_id"], user.to_string());
        assert_eq!(fault.metadata()["start_time"], "1970-01-01T00:00:00Z");
    }
}
