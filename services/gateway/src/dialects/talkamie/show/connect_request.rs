//! The object `connectRequest`.

use proto::conversation::v1::{Request, RequestState};
use serde_json::{Value, json};

use super::compact;

/// Returns a connection request; `user` is the other user.
pub(in crate::dialects::talkamie) fn show(request: &Request, user: Option<Value>) -> Value {
    compact(json!({
        "id": request.request_id,
        "status": status(request.state()),
        "from": {"id": request.from_user_id},
        "to": {"id": request.to_user_id},
        "user": user,
    }))
}

/// Returns the word for the state of a request.
pub(in crate::dialects::talkamie) fn status(state: RequestState) -> Option<&'static str> {
    match state {
        RequestState::Pending => Some("pending"),
        RequestState::Accepted => Some("accepted"),
        RequestState::Rejected => Some("rejected"),
        RequestState::Cancelled => Some("canceled"),
        RequestState::Unspecified => None,
    }
}

/// Returns the other user of a request.
pub(in crate::dialects::talkamie) fn other<'a>(request: &'a Request, user_id: &str) -> &'a str {
    if request.from_user_id == user_id { &request.to_user_id } else { &request.from_user_id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_both_and_its_status() {
        let request = Request {
            request_id: "r".to_owned(),
            from_user_id: "a".to_owned(),
            to_user_id: "b".to_owned(),
            state: RequestState::Cancelled.into(),
            ..Request::default()
        };
        assert_eq!(
            show(&request, None),
            json!({"id": "r", "status": "canceled", "from": {"id": "a"}, "to": {"id": "b"}})
        );
        assert_eq!((other(&request, "a"), other(&request, "b")), ("b", "a"));
    }
}
