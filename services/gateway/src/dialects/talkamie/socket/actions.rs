//! The actions of clients on the socket.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use axum::extract::ws::Message;
use chassis::fault::Fault;
use futures_util::future::{BoxFuture, ready};
use futures_util::{FutureExt, TryFutureExt};
use proto::conversation::v1::Conversation;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::id::ConversationId;
use proto::messaging::v1::send_message_request::Target;
use proto::messaging::v1::{
    AdvanceWatermarkRequest, Content, GetMessageRequest, MarkAlertsRequest, Message as ChatMessage,
    SendMessageRequest, content,
};
use serde_json::{Map, Value, json};
use tonic::{Code, Status};

use super::calls::{self, Calls};
use super::frame::{self, Request};
use crate::dialects::backend::Actor;
use crate::dialects::fields::Fields;
use crate::dialects::request::token;
use crate::dialects::talkamie::envelope::{Reply, in_our_words, not_found};
use crate::dialects::talkamie::operations::{alerts, chats, messages, users};
use crate::dialects::talkamie::session::{Session, all};
use crate::dialects::talkamie::show;
use crate::dialects::{Dialects, ids, text};
use crate::http::error::Problem;
use crate::realtime::frame::{Format, Frame};
use crate::realtime::registry::ConnectionSlot;
use crate::realtime::session_watch::sign_in;
use crate::realtime::subscriber::Subscriber;

/// The maximum number of messages or alerts in one request.
const MAX_NAMED: usize = 100;

/// The outcome of a request.
pub(super) enum Outcome {
    /// It was executed or refused. Some actions are not answered when they succeed.
    Answered(Option<Message>),
    /// The client has signed in.
    SignedIn(Box<SignedInView>, Message),
}

/// The view of a user who has signed in.
pub(super) struct SignedInView {
    pub(super) view: Subscriber,
    /// The frames since it follows the user's conversations.
    pub(super) frames: VecDeque<Arc<Frame>>,
}

/// Signs a client in. A refused client may try again.
pub(super) async fn authenticate(dialects: Dialects, slot: ConnectionSlot, request: Request) -> Outcome {
    match signed_in(&dialects, &slot, &request.fields).await {
        Ok((view, user)) => {
            Outcome::SignedIn(Box::new(view), frame::reply(&request.action, Reply::new(user)))
        }
        Err(problem) => Outcome::Answered(Some(frame::error(Some(&request.action), &problem))),
    }
}

async fn signed_in(
    dialects: &Dialects,
    slot: &ConnectionSlot,
    fields: &Fields,
) -> Result<(SignedInView, Value), Problem> {
    let realtime = &dialects.realtime;
    let given = fields.text("token")?.unwrap_or_default();
    let given = token(&given).ok_or_else(chassis::caller::unauthenticated)?;
    let who = match sign_in(realtime.upstream().clients(), given).await {
        Ok(who) => who,
        Err(status) => return Err(refused(dialects, slot, &status)?),
    };
    let (user_id, session_id) = (who.user_id, who.session_id);
    let mut view = Subscriber::of_user(realtime, slot, who, Format::Text).await?;
    view.handle().follow_all()?;
    // The answer waits for it, so that no later event is missed.
    let patience = realtime.config().request_timeout;
    let frames = tokio::time::timeout(patience, catch_up(&mut view)).await;
    let frames = frames.map_err(|_| Problem::deadline_exceeded())??;
    let actor =
        Actor { user_id, session_id: Some(session_id), token: Arc::from(given), address: slot.address() };
    let session = Session { dialects: dialects.clone(), actor, zone: None };
    let user = users::own(&session).await?;
    Ok((SignedInView { view, frames }, user))
}

/// Waits until a view follows its logs; returns the frames that came meanwhile.
async fn catch_up(view: &mut Subscriber) -> Result<VecDeque<Arc<Frame>>, Problem> {
    let mut frames = VecDeque::new();
    loop {
        let frame = view.next().await.map_err(|_| Fault::unavailable("the gateway"))?;
        match frame.body() {
            Some(Body::CaughtUp(_)) => return Ok(frames),
            Some(Body::Error(error)) => {
                return Err(Fault::unavailable("the view").message(error.message.clone()).into());
            }
            _ => frames.push_back(frame),
        }
    }
}

/// Counts an invalid token like a request without one.
fn refused(dialects: &Dialects, slot: &ConnectionSlot, status: &Status) -> Result<Problem, Problem> {
    if status.code() == Code::Unauthenticated {
        dialects.realtime.upstream().limits().anonymous(slot.address())?;
    }
    Ok(status.into())
}

/// Executes a request of a signed-in client.
pub(super) async fn perform(session: Session, calls: Arc<Calls>, request: Request) -> Outcome {
    Outcome::Answered(match answer(&session, &calls, &request).await {
        Ok(reply) => reply.map(|reply| frame::reply(&request.action, reply)),
        Err(problem) => Some(frame::error(Some(&request.action), &problem)),
    })
}

/// Returns the answer to a request, boxed at its own size; `None` for actions that are not answered when they succeed.
fn answer<'a>(
    session: &'a Session,
    calls: &'a Calls,
    request: &'a Request,
) -> BoxFuture<'a, Result<Option<Reply>, Problem>> {
    let fields = &request.fields;
    match request.action.as_str() {
        "authenticate" => again(session, fields).map_ok(Some).boxed(),
        "send-message" => send_message(session, fields).map_ok(Some).boxed(),
        "get-messages" => get_messages(session, fields).map_ok(Some).boxed(),
        "update-messages" => update_messages(session, fields).map_ok(Some).boxed(),
        "update-alerts" => update_alerts(session, fields).map_ok(Some).boxed(),
        "call-user" | "accept-call" | "reject-call" | "end-call" | "call-connected" | "call-disconnected"
        | "signal" => calls::perform(session, calls, request).boxed(),
        _ => ready(Err(Fault::invalid("action", "is unknown").into())).boxed(),
    }
}

/// Answers a client that has signed in and does so again.
async fn again(session: &Session, fields: &Fields) -> Result<Reply, Problem> {
    let given = fields.text("token")?.unwrap_or_default();
    let given = token(&given).ok_or_else(chassis::caller::unauthenticated)?;
    let actor = session.dialects.backend.sign_in(given, session.actor.address).await?;
    match actor.user_id == session.user_id() {
        true => Ok(Reply::new(users::own(session).await?)),
        false => Err(Problem::forbidden("this connection belongs to another user: open a new one")),
    }
}

/// Returns the chat that a request names.
pub(super) async fn chat_of(session: &Session, fields: &Fields) -> Result<Conversation, Problem> {
    session.direct(ids::conversation("chatId", &fields.required("chatId")?)?).await
}

/// Sends a message. If a request is needed first or waits, nothing is sent.
async fn send_message(session: &Session, fields: &Fields) -> Result<Reply, Problem> {
    let inner = fields.object("message")?;
    let words =
        inner.text("text").and_then(|words| words.ok_or_else(|| Fault::invalid("text", "is required")));
    let words = words.map_err(|_| Fault::invalid("message.text", "is required and must be a string"))?;
    let words = text::message("message.text", &words)?;
    let conversation = chat_of(session, fields).await?;
    let id = conversation.conversation_id.as_str();
    let access = session.access(&[id]).await?.remove(id).unwrap_or_default();
    if show::chat::status(conversation.request.as_ref(), &access) != "accepted" {
        return Err(Problem::forbidden("a message request has to be accepted first"));
    }
    let send = SendMessageRequest {
        target: Some(Target::ConversationId(id.to_owned())),
        content: Some(Content { kind: Some(content::Kind::Text(words)), attachments: Vec::new() }),
        ..SendMessageRequest::default()
    };
    let sent = session.dialects.backend.send(&session.actor, send).await.map_err(in_our_words)?;
    let shown = messages::shown(session, &conversation, &[sent]).await?;
    Ok(Reply::new(json!({"chat": {"id": id}, "message": shown[0]})))
}

async fn get_messages(session: &Session, fields: &Fields) -> Result<Reply, Problem> {
    let id = ids::conversation("chatId", &fields.required("chatId")?)?;
    let page = messages::page(session, id, fields).await?;
    let data = json!({"chat": {"id": id.to_string()}, "messages": page.data});
    Ok(Reply { data, pagination: page.pagination })
}

/// Returns the values of a map of `{status}` by id.
fn statuses(fields: &Fields, name: &str) -> Result<HashMap<String, String>, Fault> {
    let map = fields.object(name)?;
    let mut statuses = HashMap::new();
    for (id, value) in map.iter() {
        let status = value.get("status").and_then(Value::as_str);
        let status =
            status.ok_or_else(|| Fault::invalid(format!("{name}.{id}.status"), "must be a string"))?;
        let id = ids::parse(id).ok_or_else(|| Fault::invalid(name, "must be a map by id"))?;
        statuses.insert(id.to_string(), status.to_owned());
    }
    match statuses.len() {
        1..=MAX_NAMED => Ok(statuses),
        _ => Err(Fault::invalid(name, format!("must name 1 to {MAX_NAMED} ids"))),
    }
}

/// Marks messages of the other user as read or delivered. The other user is told, also of all messages before.
async fn update_messages(session: &Session, fields: &Fields) -> Result<Reply, Problem> {
    let statuses = statuses(fields, "messagesMap")?;
    if let Some((id, _)) =
        statuses.iter().find(|(_, status)| !matches!(status.as_str(), "read" | "delivered"))
    {
        return Err(Fault::invalid(format!("messagesMap.{id}.status"), "must be read or delivered").into());
    }
    let conversation = chat_of(session, fields).await?;
    let id = conversation.conversation_id.as_str();
    let named = all(statuses.keys().map(|message| find(session, id, message)).collect()).await?;
    let mut named: Vec<_> = named.into_iter().flatten().collect();
    if named.is_empty() {
        return Err(not_found("there are no messages with these ids in the chat"));
    }
    named.retain(|message| !session.is_own(&message.sender_id));
    let last = |status: &str| {
        let with_it = named.iter().filter(|message| statuses[&message.message_id] == status);
        with_it.map(|message| message.sequence).max().unwrap_or(0)
    };
    let advance = AdvanceWatermarkRequest {
        conversation_id: id.to_owned(),
        read_sequence: last("read"),
        delivered_sequence: last("delivered"),
        ..AdvanceWatermarkRequest::default()
    };
    if !named.is_empty() {
        session.call(advance).await?;
    }
    let shown = messages::shown(session, &conversation, &named).await?;
    let map = by_id(&named, shown);
    Ok(Reply::new(json!({"chat": {"id": id}, "messagesMap": map, "viewer": viewer(session).await?})))
}

async fn find(session: &Session, chat: &str, message: &str) -> Result<Option<ChatMessage>, Problem> {
    let get = GetMessageRequest { conversation_id: chat.to_owned(), message_id: message.to_owned() };
    match session.call(get).await {
        Ok(answer) => Ok(answer.message),
        Err(problem) if problem.fault().code() == Code::NotFound => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// Returns shown messages as a map by id.
pub(super) fn by_id(messages: &[ChatMessage], shown: Vec<Value>) -> Map<String, Value> {
    messages.iter().map(|message| message.message_id.clone()).zip(shown).collect()
}

/// Returns the viewer's number of unread chats.
pub(super) async fn viewer(session: &Session) -> Result<Value, Problem> {
    let total = chats::unread_total(session).await?;
    Ok(json!({"id": session.user_id().to_string(), "totalUnreadChats": total}))
}

/// Marks alerts as read.
async fn update_alerts(session: &Session, fields: &Fields) -> Result<Reply, Problem> {
    let statuses = statuses(fields, "alertsMap")?;
    if let Some((id, _)) = statuses.iter().find(|(_, status)| *status != "read") {
        return Err(Fault::invalid(format!("alertsMap.{id}.status"), "must be read").into());
    }
    let alert_ids = statuses.keys().cloned().collect();
    session.call(MarkAlertsRequest { alert_ids, ..MarkAlertsRequest::default() }).await?;
    let map: Map<_, _> = statuses.into_keys().map(|id| (id, json!({"status": "read"}))).collect();
    let viewer = json!({
        "id": session.user_id().to_string(), "totalUnreadAlerts": alerts::unread(session).await?,
    });
    Ok(Reply::new(json!({"alertsMap": map, "viewer": viewer})))
}

/// Reads the conversation id that a service returned.
pub(super) fn conversation_id(id: &str) -> Result<ConversationId, Fault> {
    ids::conversation("chatId", id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(map: Value) -> Result<HashMap<String, String>, Fault> {
        let body = json!({"alertsMap": map}).to_string();
        statuses(&Fields::from_json(body.as_bytes()).expect("fields"), "alertsMap")
    }

    #[test]
    fn a_map_has_a_status_for_each_id() {
        let id = ConversationId::generate().to_string();
        let found = read(json!({ id.clone(): {"status": "read"} })).expect("statuses");
        assert_eq!(found[&id], "read");
        for map in [
            json!(null),
            json!({}),
            json!([]),
            json!({"x": {"status": "read"}}),
            json!({ id.clone(): {} }),
            json!({ id.clone(): {"status": 5} }),
            json!({ id: "read" }),
        ] {
            assert!(read(map.clone()).expect_err("refused").fields()[0].0.starts_with("alertsMap"), "{map}");
        }
    }
}
