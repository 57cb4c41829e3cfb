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

/// An alert with what it is about. `None` for kinds that this API does not know.
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

/// The word for a kind; `None` for a kind that this API does not show.
pub(in crate::dialects::talkamie) fn word(kind: AlertKind) -> Option<&'static str> {
    match kind {
        AlertKind::ConnectionRequest => Some("connect-request"),
        AlertKind::MessageRequest => Some("message-request"),
        AlertKind::Schedule => Some("schedule"),
        AlertKind::Review => Some("review"),
        AlertKind::Mention | AlertKind::Unspecified => None,
    }
}

/// The connection request that an alert of a user is about.
pub(in crate::dialects::talkamie) fn connection_request(alert: &Alert, viewer: &str) -> Request {
    let state = match alert.state() {
        AlertState::RequestAccepted => RequestState::Accepted,
        AlertState::RequestRejected => RequestState::Rejected,
        AlertState::RequestCancelled => RequestState::Cancelled,
        _ => RequestState::Pending,
    };
    //REQUESTER
    let from = match (state, alert.actor_user_id == viewer) {
        (RequestState::Pending | RequestState::Cancelled, _) => alert.actor_user_id.clone(),
        (_, false) => viewer.to_owned(),
        (_, true) => String::new(),
    };
    let to = if from == viewer { alert.actor_user_id.clone() } else { viewer.to_owned() };
    Request {
        request_id: alert.subject_id.clone(),
        kind: RequestKind::Connection.into(),
        from_user_id: from,
        to_user_id: to,
        state: state.into(),
        ..Request::default()
    }
}
