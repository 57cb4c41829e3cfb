//! Incoming and outgoing frames.

use axum::extract::ws::Message;
use chassis::fault::Fault;
use serde_json::{Map, Value, json};

use crate::dialects::fields::Fields;
use crate::dialects::talkamie::envelope::Reply;
use crate::http::error::Problem;
use crate::realtime::websocket::transport::Received;

/// A request of a client.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) action: String,
    pub(super) fields: Fields,
    /// The original signal, which is passed on unchanged.
    pub(super) signal: Option<Value>,
}

/// A frame that cannot be executed, with its action if it has one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Malformed {
    pub(super) action: Option<String>,
    pub(super) fault: Fault,
}

impl Request {
    pub(super) fn read(received: &Received) -> Result<Self, Malformed> {
        let refuse =
            |action: Option<&str>, fault: Fault| Malformed { action: action.map(str::to_owned), fault };
        let Received::Text(text) = received else {
            return Err(refuse(None, Fault::invalid("frame", "must be text")));
        };
        let mut fields: Map<String, Value> = match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Err(refuse(None, Fault::invalid("frame", "must be a JSON object"))),
            Err(error) => {
                return Err(refuse(None, Fault::invalid("frame", format!("must be JSON: {error}"))));
            }
        };
        let action = match fields.remove("action") {
            Some(Value::String(action)) => action,
            _ => return Err(refuse(None, Fault::invalid("action", "must be a string"))),
        };
        let signal = fields.remove("signal").filter(|signal| !signal.is_null());
        Ok(Self { action, fields: fields.into(), signal })
    }
}

/// Returns the answer to a request.
pub(super) fn reply(action: &str, reply: Reply) -> Message {
    let mut frame = frame(action, reply.data);
    if let Some(pagination) = reply.pagination {
        frame["pagination"] = pagination;
    }
    Message::text(frame.to_string())
}

/// Returns the push of an event.
pub(super) fn push(action: &str, data: Value) -> Message {
    Message::text(frame(action, data).to_string())
}

fn frame(action: &str, data: Value) -> Value {
    json!({"action": action, "success": true, "statusCode": 200, "message": "success", "data": data})
}

/// Returns the answer to a request that failed; without an action the frame had none.
pub(super) fn error(action: Option<&str>, problem: &Problem) -> Message {
    let frame = json!({
        "action": action,
        "success": false,
        "statusCode": problem.status().as_u16(),
        "message": problem.fault().text(),
    });
    Message::text(frame.to_string())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn read(text: &str) -> Result<Request, Malformed> {
        Request::read(&Received::Text(text.into()))
    }

    #[test]
    fn a_frame_is_an_action_with_fields() {
        let request = read(r#"{"action": "signal", "chatId": "1", "signal": {"type": "offer"}}"#);
        let request = request.expect("a request");
        assert_eq!((request.action.as_str(), request.signal), ("signal", Some(json!({"type": "offer"}))));
        assert_eq!(request.fields.text("chatId"), Ok(Some("1".to_owned())));
    }

    #[test]
    fn other_frames_are_malformed() {
        for text in ["", "{", "[]", "null", "{}", r#"{"action": 5}"#, r#"{"action": null}"#] {
            let malformed = read(text).expect_err(text);
            assert_eq!(malformed.action, None);
            let answer = error(None, &malformed.fault.into()).into_text().expect("text");
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            assert_eq!((&answer["success"], &answer["statusCode"]), (&json!(false), &json!(400)));
        }
        assert!(Request::read(&Received::Binary(Bytes::from_static(b"{}"))).is_err());
    }
}
