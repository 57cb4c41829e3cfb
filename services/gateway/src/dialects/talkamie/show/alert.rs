//! The object `alert`.

use proto::conversation::v1::{Request, RequestKind, RequestState};
use proto::messaging::v1::{Alert, AlertKind, AlertState};
use serde_json::{Value, json};

use super::{compact, moment};

/// The objects that an alert is about.
#[derive(Clone, Debug, Default)]
pub(in crate::dialects::talkamie) struct Subject {
    pub(in crate::dialects::talkamie) schedule: Option<Value>,
    pub(in crate::dialects::talkamie) chat: Option<Value>,
    pub(in crate::dialects::talkamie) message: Option<Value>,
    pub(in crate::dialects::talkamie) connect_request: Option<Value>,
    pub(in crate::dialects::talkamie) review: Option<Value>,
}

/// Returns an alert with its subject. `None` for kinds that this API does not know.
pub(in crate::dialects::talkamie) fn show(alert: &Alert, subject: Subject) -> Option<Value> {
    Some(compact(json!({
        "id": alert.alert_id,
        "type": word(alert.kind())?,
        "timestamp": moment(alert.update_time.or(alert.create_time)),
        "status": alert.read_time.is_some().then_some("read"),
        "schedule": subject.schedule,
        "chat": subject.chat,
        "message": subject.message,
        "connectRequest": subject.connect_request,
        "review": subject.review,
    })))
}

/// Returns the word for a kind; `None` for a kind that this API does not show.
pub(in crate::dialects::talkamie) fn word(kind: AlertKind) -> Option<&'static str> {
    match kind {
        AlertKind::ConnectionRequest => Some("connect-request"),
        AlertKind::MessageRequest => Some("message-request"),
        AlertKind::Schedule => Some("schedule"),
        AlertKind::Review => Some("review"),
        AlertKind::Mention | AlertKind::Unspecified => None,
    }
}

/// Returns the connection request that an alert of a user is about.
pub(in crate::dialects::talkamie) fn connection_request(alert: &Alert, viewer: &str) -> Request {
    let state = match alert.state() {
        AlertState::RequestAccepted => RequestState::Accepted,
        AlertState::RequestRejected => RequestState::Rejected,
        AlertState::RequestCancelled => RequestState::Cancelled,
        _ => RequestState::Pending,
    };
    let from = alert.requester_user_id.clone();
    let to = match from == viewer {
        // The other user of the viewer's own request is known from the answer.
        true if alert.actor_user_id == viewer => String::new(),
        true => alert.actor_user_id.clone(),
        false => viewer.to_owned(),
    };
    Request {
        request_id: alert.subject_id.clone(),
        kind: RequestKind::Connection.into(),
        from_user_id: from,
        to_user_id: to,
        state: state.into(),
        ..Request::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(state: AlertState, requester: &str, actor: &str) -> Alert {
        Alert {
            alert_id: "a".to_owned(),
            kind: AlertKind::ConnectionRequest.into(),
            state: state.into(),
            requester_user_id: requester.to_owned(),
            actor_user_id: actor.to_owned(),
            subject_id: "r".to_owned(),
            ..Alert::default()
        }
    }

    #[test]
    fn a_request_is_the_same_for_both() {
        for (state, actor, viewer) in [
            (AlertState::RequestPending, "ann", "bob"),
            (AlertState::RequestAccepted, "bob", "ann"),
            (AlertState::RequestAccepted, "bob", "bob"),
            (AlertState::RequestCancelled, "ann", "bob"),
        ] {
            let request = connection_request(&alert(state, "ann", actor), viewer);
            assert_eq!((request.from_user_id.as_str(), request.to_user_id.as_str()), ("ann", "bob"));
            assert_eq!(request.request_id, "r");
        }
    }

    #[test]
    fn kinds_without_a_word_are_not_shown() {
        let mention = Alert { kind: AlertKind::Mention.into(), ..Alert::default() };
        assert_eq!(show(&mention, Subject::default()), None);
        let read = Alert {
            read_time: Some(prost_types::Timestamp::default()),
            ..alert(AlertState::RequestPending, "ann", "ann")
        };
        let shown = show(&read, Subject::default());
        assert_eq!(shown, Some(json!({"id": "a", "type": "connect-request", "status": "read"})));
    }
}
