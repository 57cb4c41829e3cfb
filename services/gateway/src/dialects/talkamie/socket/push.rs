//! Events of the logs, receipts, calls and signals, translated into pushes.

use std::sync::Arc;

use proto::gateway::v1::server_frame::Frame as Body;
use proto::id::ConversationId;
use proto::messaging::v1::{
    Alert, AlertKind, AlertState, Event, GetMessageRequest, ListMessagesRequest, Message, Order, UserEvent,
    Watermark, event, user_event,
};
use serde_json::{Value, json};

use super::actions::{by_id, conversation_id, viewer};
use super::arrival;
use super::calls::{self, Calls};
use crate::dialects::talkamie::operations::{alerts, calls as operations, chats, messages, users};
use crate::dialects::talkamie::session::Session;
use crate::dialects::talkamie::show::message::{self, Context};
use crate::dialects::time;
use crate::http::error::Problem;
use crate::realtime::frame::Frame;

/// The number of messages that are shown as deleted after a purge.
const PURGED: i32 = 25;

/// The maximum number of messages whose delivery is reported at once.
const MOVED: i32 = 100;

/// The frames for a client.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    /// Actions with their data.
    pub(super) frames: Vec<(&'static str, Value)>,
    pub(super) delivered: Option<Delivered>,
}

/// A message that counts as delivered once it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivered {
    chat: ConversationId,
    sequence: i64,
}

impl From<(&'static str, Value)> for Pushed {
    fn from(frame: (&'static str, Value)) -> Self {
        Self { frames: vec![frame], delivered: None }
    }
}

/// Records that a message has reached a device of the user.
pub(super) async fn deliver(session: Session, delivered: Delivered) -> Result<Pushed, Problem> {
    arrival::deliver(&session, delivered.chat, delivered.sequence).await?;
    Ok(Pushed::default())
}

/// Translates a frame of the user's view.
pub(super) async fn translate(
    session: Session,
    calls: Arc<Calls>,
    frame: Arc<Frame>,
) -> Result<Pushed, Problem> {
    match frame.body() {
        Some(Body::Event(event)) => of_event(&session, event).await,
        Some(Body::UserEvent(event)) => of_user_event(&session, event).await,
        Some(Body::Receipt(receipt)) => of_receipt(&session, receipt).await,
        Some(Body::CallChanged(notice)) => {
            let Some(call) = notice.call.clone() else { return Ok(Pushed::default()) };
            let Some(action) = calls.take(&call, &(&session).into()) else { return Ok(Pushed::default()) };
            let chat = call.conversation_id.clone();
            let shown = operations::shown(&session, &[call]).await?;
            Ok((action, json!({"chat": {"id": chat}, "call": shown[0]})).into())
        }
        Some(Body::CallSignal(signal)) => {
            let data = calls::signalled(&session, &calls, &signal.call_id, &signal.payload).await?;
            Ok(("signal", data).into())
        }
        // The view itself has failed.
        Some(Body::Error(error)) => {
            Err(Problem::from(chassis::fault::Fault::unavailable("the view").message(error.message.clone())))
        }
        _ => Ok(Pushed::default()),
    }
}

async fn of_event(session: &Session, event: &Event) -> Result<Pushed, Problem> {
    use event::Payload;
    let Some(payload) = &event.payload else { return Ok(Pushed::default()) };
    let is_told = matches!(
        payload,
        Payload::MessageCreated(_)
            | Payload::MessageEdited(_)
            | Payload::MessageDeleted(_)
            | Payload::MessagesPurged(_)
    );
    let chat = conversation_id(&event.conversation_id)?;
    if !is_told || !chats::is_direct(session, chat).await? {
        return Ok(Pushed::default());
    }
    match payload {
        Payload::MessageCreated(message) if !session.is_own(&message.sender_id) => {
            new_message(session, chat, message).await
        }
        Payload::MessageEdited(message) => changed(session, chat, std::slice::from_ref(message)).await,
        Payload::MessageDeleted(deleted) => {
            let get = GetMessageRequest {
                conversation_id: chat.to_string(),
                message_id: deleted.message_id.clone(),
            };
            let tombstone = session.call(get).await?.message.unwrap_or_default();
            changed(session, chat, &[tombstone]).await
        }
        Payload::MessagesPurged(purged) => {
            let list = ListMessagesRequest {
                conversation_id: chat.to_string(),
                page_size: PURGED,
                order: Order::NewestFirst.into(),
                before_sequence: purged.up_to_sequence.saturating_add(1),
                ..ListMessagesRequest::default()
            };
            let gone = session.call(list).await?.messages;
            changed(session, chat, &gone).await
        }
        _ => Ok(Pushed::default()),
    }
}

/// Translates a message of the other user. It counts as delivered: it is written to the client at once.
async fn new_message(session: &Session, chat: ConversationId, message: &Message) -> Result<Pushed, Problem> {
    let conversation = session.direct(chat).await?;
    let me = session.user_id().to_string();
    let reached = Watermark {
        user_id: me.clone(),
        delivered_sequence: message.sequence,
        update_time: Some(time::proto(session.now())),
        ..Watermark::default()
    };
    let users = session.users([me.as_str(), message.sender_id.as_str()]).await?;
    let context =
        Context { viewer: me, watermarks: vec![reached], request: conversation.request.clone(), users };
    let data = json!({
        "chat": {"id": chat.to_string()},
        "message": message::show(message, &context, session.timestamp()),
        "viewer": viewer(session).await?,
    });
    let delivered = Some(Delivered { chat, sequence: message.sequence });
    Ok(Pushed { frames: vec![("new-message", data)], delivered })
}

/// Translates messages that have changed.
async fn changed(session: &Session, chat: ConversationId, changed: &[Message]) -> Result<Pushed, Problem> {
    if changed.is_empty() {
        return Ok(Pushed::default());
    }
    let conversation = session.direct(chat).await?;
    let shown = messages::shown(session, &conversation, changed).await?;
    Ok(("update-messages", updated(session, chat, changed, shown).await?).into())
}

async fn updated(
    session: &Session,
    chat: ConversationId,
    messages: &[Message],
    shown: Vec<Value>,
) -> Result<Value, Problem> {
    let map = by_id(messages, shown);
    let viewer = viewer(session).await?;
    Ok(json!({"chat": {"id": chat.to_string()}, "messagesMap": map, "viewer": viewer}))
}

/// Translates a receipt of the other user: the messages of the user that it is about.
async fn of_receipt(session: &Session, receipt: &Watermark) -> Result<Pushed, Problem> {
    let chat = conversation_id(&receipt.conversation_id)?;
    if session.is_own(&receipt.user_id) || !chats::is_direct(session, chat).await? {
        return Ok(Pushed::default());
    }
    let mut pushed = Pushed::default();
    let read = moved(session, receipt, receipt.previous_read_sequence, receipt.read_sequence).await?;
    if !read.is_empty() {
        let shown = reached(session, receipt, &read).await?;
        pushed.frames.push(("update-messages", updated(session, chat, &read, shown).await?));
    }
    let after = receipt.previous_delivered_sequence.max(receipt.read_sequence);
    let delivered = moved(session, receipt, after, receipt.delivered_sequence).await?;
    if !delivered.is_empty() {
        let shown = reached(session, receipt, &delivered).await?;
        let map = by_id(&delivered, shown);
        let id = chat.to_string();
        let chats = json!({ id.clone(): {"chat": {"id": id}, "messagesMap": map} });
        pushed.frames.push(("update-chats", json!({"chatsMap": chats})));
    }
    Ok(pushed)
}

/// Returns the user's own messages between two sequences, the newest ones when there are many.
async fn moved(
    session: &Session,
    receipt: &Watermark,
    after: i64,
    up_to: i64,
) -> Result<Vec<Message>, Problem> {
    if up_to <= after {
        return Ok(Vec::new());
    }
    let list = ListMessagesRequest {
        conversation_id: receipt.conversation_id.clone(),
        page_size: MOVED,
        order: Order::NewestFirst.into(),
        after_sequence: after,
        before_sequence: up_to.saturating_add(1),
        exclude_tombstones: true,
        ..ListMessagesRequest::default()
    };
    let mut found = session.call(list).await?.messages;
    found.retain(|message| session.is_own(&message.sender_id));
    Ok(found)
}

/// Returns messages in the state that the receipt gives them.
async fn reached(
    session: &Session,
    receipt: &Watermark,
    messages: &[Message],
) -> Result<Vec<Value>, Problem> {
    let conversation = session.direct(conversation_id(&receipt.conversation_id)?).await?;
    let me = session.user_id().to_string();
    let users = session.users([me.as_str(), receipt.user_id.as_str()]).await?;
    let context =
        Context { viewer: me, watermarks: vec![receipt.clone()], request: conversation.request, users };
    let now = session.timestamp();
    Ok(messages.iter().map(|message| message::show(message, &context, now)).collect())
}

async fn of_user_event(session: &Session, event: &UserEvent) -> Result<Pushed, Problem> {
    match &event.payload {
        Some(user_event::Payload::AlertChanged(alert)) if !was_read(alert) && !lacks_message(alert) => {
            let shown = alerts::shown(session, std::slice::from_ref(alert)).await?;
            let frames = shown.into_iter().map(|alert| ("alert", json!({"alert": alert}))).collect();
            Ok(Pushed { frames, delivered: None })
        }
        Some(user_event::Payload::ProfileChanged(_)) => {
            Ok(("update-user", json!({"user": users::own(session).await?})).into())
        }
        _ => Ok(Pushed::default()),
    }
}

/// True when the last change of an alert is that the user read it, which is no news.
fn was_read(alert: &Alert) -> bool {
    alert.read_time.is_some() && time::millis(alert.read_time) > time::millis(alert.update_time)
}

/// True for a message request whose message is not known yet. A later change of the alert contains it.
fn lacks_message(alert: &Alert) -> bool {
    alert.kind() == AlertKind::MessageRequest
        && alert.state() == AlertState::RequestPending
        && alert.message_id.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_request_is_told_with_its_message() {
        let alert = |kind: AlertKind, state: AlertState, message_id: &str| Alert {
            kind: kind.into(),
            state: state.into(),
            message_id: message_id.to_owned(),
            ..Alert::default()
        };
        let pending = AlertState::RequestPending;
        assert!(lacks_message(&alert(AlertKind::MessageRequest, pending, "")));
        assert!(!lacks_message(&alert(AlertKind::MessageRequest, pending, "1")));
        assert!(!lacks_message(&alert(AlertKind::MessageRequest, AlertState::RequestCancelled, "")));
        assert!(!lacks_message(&alert(AlertKind::ConnectionRequest, pending, "")));
    }

    #[test]
    fn that_an_alert_was_read_is_no_news() {
        let alert = |read: Option<i64>| Alert {
            update_time: Some(time::proto(10)),
            read_time: read.map(time::proto),
            ..Alert::default()
        };
        assert!(was_read(&alert(Some(11))));
        // Its subject has changed since, or at once.
        for read in [None, Some(9), Some(10)] {
            assert!(!was_read(&alert(read)), "{read:?}");
        }
    }
}
