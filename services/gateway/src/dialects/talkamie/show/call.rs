//! The object `call`.

use proto::auth::v1::User;
use proto::scheduling::v1::{Call, CallMedia, CallState};
use serde_json::{Value, json};

use super::{compact, moment, user};

/// Returns a call as one of the two users sees it; `other` is the other user.
pub(in crate::dialects::talkamie) fn show(call: &Call, viewer: &str, other: Option<&User>) -> Value {
    let is_outgoing = call.caller_user_id == viewer;
    let other_id = self::other(call, viewer);
    compact(json!({
        "id": call.call_id,
        "type": media(call.media()),
        "duration": call.duration.map_or(0, |duration| duration.seconds),
        "status": status(call.state()),
        "direction": if is_outgoing { "outgoing" } else { "incoming" },
        "user": user::brief(other_id, other),
        "timestamp": moment(call.create_time),
        "chat": {"id": call.conversation_id},
    }))
}

/// Returns the other user of a call.
pub(in crate::dialects::talkamie) fn other<'a>(call: &'a Call, viewer: &str) -> &'a str {
    if call.caller_user_id == viewer { &call.callee_user_id } else { &call.caller_user_id }
}

fn media(media: CallMedia) -> &'static str {
    match media {
        CallMedia::Video => "video",
        CallMedia::Audio | CallMedia::Unspecified => "audio",
    }
}

/// Returns the word for the state of a call. Unanswered calls are missed, whichever side gave up.
fn status(state: CallState) -> &'static str {
    match state {
        CallState::Ringing => "ringing",
        CallState::Accepted => "accepted",
        CallState::Rejected => "rejected",
        CallState::Missed | CallState::Cancelled | CallState::Busy => "missed",
        CallState::Ended | CallState::Failed | CallState::Unspecified => "ended",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_two_sees_the_other() {
        let call = Call {
            call_id: "c".to_owned(),
            conversation_id: "d".to_owned(),
            caller_user_id: "a".to_owned(),
            callee_user_id: "b".to_owned(),
            media: CallMedia::Video.into(),
            state: CallState::Cancelled.into(),
            ..Call::default()
        };
        assert_eq!(
            show(&call, "b", None),
            json!({
                "id": "c", "type": "video", "duration": 0, "status": "missed", "direction": "incoming",
                "user": {"id": "a"}, "chat": {"id": "d"},
            })
        );
        assert_eq!(show(&call, "a", None)["direction"], json!("outgoing"));
        assert_eq!(show(&call, "a", None)["user"], json!({"id": "b"}));
    }
}
