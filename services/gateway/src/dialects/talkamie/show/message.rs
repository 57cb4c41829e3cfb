//! The object `message`, and its delivery state.

use jiff::Timestamp;
use proto::conversation::v1::Request;
use proto::messaging::v1::content::Kind;
use proto::messaging::v1::{Message, Watermark};
use serde_json::{Value, json};

use super::{compact, moment, schedule, user};
use crate::dialects::talkamie::session::Users;
use crate::dialects::{text, time};

/// The maximum difference of the clocks of two services, in milliseconds.
const CLOCK_DIFFERENCE: i64 = 1000;

/// The facts about a direct conversation that its messages are shown with.
#[derive(Clone, Debug, Default)]
pub(in crate::dialects::talkamie) struct Context {
    /// The user for whom messages are shown.
    pub(in crate::dialects::talkamie) viewer: String,
    /// The watermarks of the two users.
    pub(in crate::dialects::talkamie) watermarks: Vec<Watermark>,
    /// The last message request between the two users.
    pub(in crate::dialects::talkamie) request: Option<Request>,
    /// The two users.
    pub(in crate::dialects::talkamie) users: Users,
}

/// Returns a message. A deleted one has an empty text.
pub(in crate::dialects::talkamie) fn show(message: &Message, context: &Context, now: Timestamp) -> Value {
    let content = message.content.as_ref();
    let booked = match content.and_then(|content| content.kind.as_ref()) {
        Some(Kind::Schedule(booked)) if !booked.cancelled => Some(booked),
        _ => None,
    };
    let name = |id: &str| context.users.get(id).map(|user| user.display_name.clone());
    compact(json!({
        "id": message.message_id,
        "type": if booked.is_some() { "schedule" } else { "text" },
        "text": text::line(content, name),
        "schedule": booked.map(|booked| schedule::of_message(booked, now)),
        "timestamp": moment(message.create_time),
        "sender": user::brief(&message.sender_id, context.users.get(&message.sender_id)),
        "delivery": delivery(message, context),
        "isRequest": context.request.as_ref().is_some_and(|request| is_request(message, request)),
    }))
}

/// Returns the delivery state of a message: with the other user for own messages, with the viewer for theirs.
pub(in crate::dialects::talkamie) fn delivery(message: &Message, context: &Context) -> Value {
    let is_own = message.sender_id == context.viewer;
    let receiver = context.watermarks.iter().find(|mark| (mark.user_id == context.viewer) != is_own);
    let reached =
        |sequence: fn(&Watermark) -> i64| receiver.is_some_and(|mark| sequence(mark) >= message.sequence);
    let status = if reached(|mark| mark.read_sequence) {
        "read"
    } else if reached(|mark| mark.delivered_sequence.max(mark.read_sequence)) {
        "delivered"
    } else {
        "sent"
    };
    let since = match status {
        "sent" => message.create_time,
        _ => receiver.and_then(|mark| mark.update_time).or(message.create_time),
    };
    compact(json!({"status": status, "at": moment(since)}))
}

/// True for the one message of a message request: its author wrote it after the request and before the answer.
pub(in crate::dialects::talkamie) fn is_request(message: &Message, request: &Request) -> bool {
    let written = time::millis(message.create_time);
    let asked = time::millis(request.create_time) - CLOCK_DIFFERENCE;
    let answered = request.answer_time.map(|answer| time::millis(Some(answer)));
    message.sender_id == request.from_user_id
        && written >= asked
        && answered.is_none_or(|answered| written <= answered)
}

#[cfg(test)]
mod tests {
    use proto::messaging::v1::{Content, ScheduleContent};

    use super::*;

    fn message(sender: &str, sequence: i64, kind: Option<Kind>) -> Message {
        Message {
            message_id: format!("m{sequence}"),
            sender_id: sender.to_owned(),
            sequence,
            content: kind.map(|kind| Content { kind: Some(kind), attachments: Vec::new() }),
            create_time: Some(time::proto(sequence * 10_000)),
            ..Message::default()
        }
    }

    fn context() -> Context {
        let mark = |user: &str, delivered, read| Watermark {
            user_id: user.to_owned(),
            delivered_sequence: delivered,
            read_sequence: read,
            update_time: Some(time::proto(90_000)),
            ..Watermark::default()
        };
        Context {
            viewer: "a".to_owned(),
            watermarks: vec![mark("a", 5, 1), mark("b", 3, 2)],
            ..Context::default()
        }
    }

    #[test]
    fn delivery_is_that_of_the_receiver() {
        for (sender, sequence, status) in [
            ("a", 2, "read"),
            ("a", 3, "delivered"),
            ("a", 4, "sent"),
            ("b", 1, "read"),
            ("b", 4, "delivered"),
            ("b", 6, "sent"),
        ] {
            let delivery = delivery(&message(sender, sequence, None), &context());
            assert_eq!(delivery["status"], json!(status), "{sender} {sequence}");
        }
    }

    #[test]
    fn a_text_and_a_booked_call_have_types_and_the_rest_is_text() {
        let now = Timestamp::UNIX_EPOCH;
        let shown = show(&message("a", 1, Some(Kind::Text("hi".to_owned()))), &context(), now);
        assert_eq!((&shown["type"], &shown["text"]), (&json!("text"), &json!("hi")));
        assert_eq!(shown["isRequest"], json!(false));
        let booked = ScheduleContent { title: "Tea".to_owned(), ..ScheduleContent::default() };
        let shown = show(&message("a", 1, Some(Kind::Schedule(booked.clone()))), &context(), now);
        assert_eq!((&shown["type"], &shown["schedule"]["title"]), (&json!("schedule"), &json!("Tea")));
        let cancelled = ScheduleContent { cancelled: true, ..booked };
        let shown = show(&message("a", 1, Some(Kind::Schedule(cancelled))), &context(), now);
        assert_eq!((&shown["type"], &shown["text"]), (&json!("text"), &json!("Tea was cancelled")));
        assert_eq!(show(&message("a", 1, None), &context(), now)["text"], json!(""));
    }

    #[test]
    fn the_message_of_a_request_lies_between_asking_and_answer() {
        let mut request = Request {
            from_user_id: "a".to_owned(),
            create_time: Some(time::proto(20_000)),
            ..Request::default()
        };
        let is = |sender: &str, sequence: i64, request: &Request| {
            is_request(&message(sender, sequence, None), request)
        };
        assert!(is("a", 2, &request) && is("a", 9, &request));
        assert!(!is("b", 2, &request) && !is("a", 1, &request));
        request.answer_time = Some(time::proto(30_000));
        assert!(is("a", 3, &request) && !is("a", 4, &request));
    }
}
