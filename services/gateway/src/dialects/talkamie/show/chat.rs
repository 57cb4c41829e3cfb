//! The object `chat`: a direct conversation.

use jiff::Timestamp;
use proto::conversation::v1::{Access, Request, RequestState};
use proto::messaging::v1::{InboxEntry, Message};
use serde_json::{Value, json};

use super::message::{self, Context};
use super::{compact, connect_request, moment};
use crate::dialects::text;

/// The shown parts of a chat.
#[derive(Clone, Debug)]
pub(in crate::dialects::talkamie) struct Chat<'a> {
    pub(in crate::dialects::talkamie) entry: &'a InboxEntry,
    pub(in crate::dialects::talkamie) access: &'a Access,
    /// True when the two users are connected.
    pub(in crate::dialects::talkamie) connected: bool,
    /// The other user.
    pub(in crate::dialects::talkamie) user: Value,
    pub(in crate::dialects::talkamie) context: &'a Context,
}

impl Chat<'_> {
    /// Returns the object.
    pub(in crate::dialects::talkamie) fn show(&self, now: Timestamp) -> Value {
        let conversation = self.entry.conversation.clone().unwrap_or_default();
        let last = self.entry.last_message.as_ref();
        let latest = last.and_then(|message| message.create_time).or(conversation.create_time);
        compact(json!({
            "id": conversation.conversation_id,
            "user": self.user,
            "timestamp": moment(latest),
            "lastMessage": last.map(|message| message::show(message, self.context, now)),
            "totalUnreadMessages": self.entry.unread_count,
            "type": if self.connected { "connect" } else { "message" },
            "request": request(self.context.request.as_ref(), self.access, last, self.context),
        }))
    }
}

/// Returns the permission to write, and the last message request with its message if that is the last one of the chat.
pub(in crate::dialects::talkamie) fn request(
    request: Option<&Request>,
    access: &Access,
    last: Option<&Message>,
    context: &Context,
) -> Value {
    let status = status(request, access);
    let Some(request) = request else { return json!({"status": status}) };
    let message = last.filter(|message| message::is_request(message, request));
    compact(json!({
        // Clients find the request by this id among the messages.
        "id": message.map_or(&request.request_id, |message| &message.message_id),
        "text": message.map(|message| text::line(message.content.as_ref(), |_| None)),
        "timestamp": moment(request.create_time),
        "delivery": message.map(|message| message::delivery(message, context)),
        "status": status,
        "sender": {"id": request.from_user_id},
    }))
}

/// Returns `accepted` exactly when the viewer may write and no request waits; clients send in this state only.
pub(in crate::dialects::talkamie) fn status(request: Option<&Request>, access: &Access) -> &'static str {
    let state = request.map_or(RequestState::Unspecified, Request::state);
    if state == RequestState::Pending {
        return "pending";
    }
    if access.may_write && !access.request_needed && access.request_version == 0 {
        return "accepted";
    }
    match state {
        RequestState::Accepted | RequestState::Unspecified => "canceled",
        other => connect_request::status(other).unwrap_or("canceled"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request_in(state: RequestState) -> Request {
        Request { state: state.into(), from_user_id: "a".to_owned(), ..Request::default() }
    }

    #[test]
    fn one_may_write_in_one_state_only() {
        let open = Access { may_write: true, ..Access::default() };
        let needed = Access { request_needed: true, ..open };
        let closed = Access::default();
        for (state, access, expected) in [
            (None, open, "accepted"),
            (None, needed, "canceled"),
            (Some(RequestState::Pending), open, "pending"),
            (Some(RequestState::Accepted), open, "accepted"),
            (Some(RequestState::Accepted), closed, "canceled"),
            (Some(RequestState::Rejected), needed, "rejected"),
            (Some(RequestState::Rejected), open, "accepted"),
            (Some(RequestState::Cancelled), needed, "canceled"),
        ] {
            let request = state.map(request_in);
            assert_eq!(status(request.as_ref(), &access), expected, "{state:?} {access:?}");
        }
    }

    #[test]
    fn a_request_that_waits_has_the_id_of_its_message() {
        let waiting = request_in(RequestState::Pending);
        let last = Message { message_id: "m".to_owned(), sender_id: "a".to_owned(), ..Message::default() };
        let shown = request(Some(&waiting), &Access::default(), Some(&last), &Context::default());
        assert_eq!((&shown["id"], &shown["sender"]["id"]), (&json!("m"), &json!("a")));
        let shown = request(Some(&waiting), &Access::default(), None, &Context::default());
        assert_eq!(shown["id"], json!(""));
    }
}
