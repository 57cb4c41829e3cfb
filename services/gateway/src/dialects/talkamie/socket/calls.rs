//! Calls and signals: the actions of clients, and the pushes to them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chassis::fault::Fault;
use proto::conversation::v1::GetPresenceRequest;
use proto::scheduling::v1::start_call_request::Target;
use proto::scheduling::v1::{
    AcceptCallRequest, Call, CallMedia, CallState, EndCallRequest, GetCallRequest, ListCallsRequest,
    MarkCallConnectedRequest, MarkCallDisconnectedRequest, RejectCallRequest, RelaySignalRequest,
    StartCallRequest,
};
use serde_json::{Value, json};

use super::actions::chat_of;
use super::frame::Request;
use crate::dialects::fields::Fields;
use crate::dialects::talkamie::envelope::{Reply, conflict};
use crate::dialects::talkamie::operations::calls::{call_id, shown};
use crate::dialects::talkamie::session::Session;
use crate::dialects::time;
use crate::http::error::Problem;

/// The maximum number of calls that a connection remembers.
const REMEMBERED: usize = 64;

/// The calls that a connection knows of, by id.
#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<HashMap<String, Known>>);

/// The knowledge of a connection about a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    conversation_id: String,
    /// `None` while only the actions of this connection are known.
    state: Option<CallState>,
    /// True when it was answered on this very connection.
    answered: bool,
    /// True when it was rejected or ended on this very connection.
    ended: bool,
}

impl Calls {
    /// Records the state of a call; returns the action for the client, if there is one.
    pub(super) fn take(&self, call: &Call, viewer: &Viewer) -> Option<&'static str> {
        let mut calls = self.lock();
        let known = calls.get(&call.call_id);
        let action = told(call, viewer, known);
        let (answered, ended) = known.map_or((false, false), |known| (known.answered, known.ended));
        if calls.len() >= REMEMBERED && !calls.contains_key(&call.call_id) {
            calls.retain(|_, known| is_active(known.state));
        }
        let state = Some(call.state());
        let conversation_id = call.conversation_id.clone();
        calls.insert(call.call_id.clone(), Known { conversation_id, state, answered, ended });
        action
    }

    /// Records that a call is answered on this connection, before all devices are told.
    fn answer(&self, call_id: &str) {
        self.lock().entry(call_id.to_owned()).or_default().answered = true;
    }

    /// Records that a call is rejected or ended on this connection, before all devices are told.
    fn end(&self, call_id: &str) {
        self.lock().entry(call_id.to_owned()).or_default().ended = true;
    }

    /// Returns the conversation of a call.
    pub(super) fn conversation(&self, call_id: &str) -> Option<String> {
        let found = self.lock().get(call_id).map(|known| known.conversation_id.clone());
        found.filter(|id| !id.is_empty())
    }

    /// Returns the active call of a conversation.
    fn active(&self, conversation_id: &str) -> Option<String> {
        let calls = self.lock();
        let mut active = calls.iter().filter(|(_, known)| is_active(known.state));
        let found = active.find(|(_, known)| known.conversation_id == conversation_id);
        found.map(|(call_id, _)| call_id.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        // No code panics between two parts of a change, so a poisoned lock is still consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_active(state: Option<CallState>) -> bool {
    matches!(state, Some(CallState::Ringing | CallState::Accepted))
}

/// The user and the session of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Viewer {
    pub(super) user_id: String,
    pub(super) session_id: String,
}

impl From<&Session> for Viewer {
    fn from(session: &Session) -> Self {
        let session_id = session.actor.session_id.map(|id| id.to_string()).unwrap_or_default();
        Self { user_id: session.user_id().to_string(), session_id }
    }
}

/// Returns the action that tells a client the state of a call, if there is one.
fn told(call: &Call, viewer: &Viewer, known: Option<&Known>) -> Option<&'static str> {
    let is_caller = call.caller_user_id == viewer.user_id;
    let before = known.and_then(|known| known.state);
    if before == Some(call.state()) {
        return None;
    }
    let (answered, ended) = known.map_or((false, false), |known| (known.answered, known.ended));
    match call.state() {
        CallState::Ringing => (!is_caller && before.is_none()).then_some("user-calling"),
        CallState::Accepted if is_caller => Some("call-accepted"),
        // Answered on another device.
        CallState::Accepted => (before == Some(CallState::Ringing)
            && !(answered && call.own_session_id == viewer.session_id))
            .then_some("call-ended"),
        CallState::Rejected | CallState::Busy if is_caller => Some("call-rejected"),
        CallState::Rejected => (before == Some(CallState::Ringing) && !ended).then_some("call-ended"),
        CallState::Ended | CallState::Missed | CallState::Cancelled | CallState::Failed => {
            (is_active(before) && !ended && call.ended_by_user_id != viewer.user_id).then_some("call-ended")
        }
        CallState::Busy | CallState::Unspecified => None,
    }
}

/// Executes an action on calls. Actions that are not answered when they succeed return `None`.
pub(super) async fn perform(
    session: &Session,
    calls: &Calls,
    request: &Request,
) -> Result<Option<Reply>, Problem> {
    let fields = &request.fields;
    let call = match request.action.as_str() {
        "call-user" => start(session, fields).await?,
        "accept-call" => {
            let call_id = named(fields)?;
            calls.answer(&call_id);
            session.call(AcceptCallRequest { call_id }).await?.call
        }
        "reject-call" => {
            let call_id = named(fields)?;
            calls.end(&call_id);
            session.call(RejectCallRequest { call_id }).await?.call
        }
        "end-call" => {
            let call_id = named(fields)?;
            calls.end(&call_id);
            session.call(EndCallRequest { call_id }).await?.call
        }
        "call-connected" => {
            let time = time::field(fields, "timestamp")?.map(time::proto);
            session.call(MarkCallConnectedRequest { call_id: named(fields)?, time }).await?;
            return Ok(None);
        }
        "call-disconnected" => {
            let time = time::field(fields, "timestamp")?.map(time::proto);
            session.call(MarkCallDisconnectedRequest { call_id: named(fields)?, time }).await?;
            return Ok(None);
        }
        _ => {
            signal(session, calls, request).await?;
            return Ok(None);
        }
    };
    let call = call.unwrap_or_default();
    // The content of the reply is not pushed as well.
    let _ = calls.take(&call, &session.into());
    let chat = call.conversation_id.clone();
    let shown = shown(session, &[call]).await?;
    Ok(Some(Reply::new(json!({"chatId": chat, "call": shown[0]}))))
}

fn named(fields: &Fields) -> Result<String, Fault> {
    call_id("callId", &fields.required("callId")?)
}

/// Calls the other user of a chat. A user who is known to be away is not called.
async fn start(session: &Session, fields: &Fields) -> Result<Option<Call>, Problem> {
    let media = match fields.filled("type")?.as_deref() {
        Some("audio") | None => CallMedia::Audio,
        Some("video") => CallMedia::Video,
        Some(_) => return Err(Fault::invalid("type", "must be audio or video").into()),
    };
    let conversation = chat_of(session, fields).await?;
    let start = StartCallRequest {
        callee_offline: is_away(session, &conversation.peer_user_id).await?,
        target: Some(Target::ConversationId(conversation.conversation_id)),
        media: media.into(),
        ..StartCallRequest::default()
    };
    Ok(session.call(start).await?.call)
}

/// True for a user who was online and has left. For a user who hides it, or was never online, it is unknown.
async fn is_away(session: &Session, user_id: &str) -> Result<bool, Problem> {
    let presence = session.call(GetPresenceRequest { user_ids: vec![user_id.to_owned()] }).await?;
    let presence = presence.presences.into_iter().next().unwrap_or_default();
    Ok(!presence.online && presence.last_seen_time.is_some())
}

/// Passes on a signal in the active call of a chat.
async fn signal(session: &Session, calls: &Calls, request: &Request) -> Result<(), Problem> {
    let signal = request.signal.as_ref().filter(|signal| signal.is_object());
    let signal = signal.ok_or_else(|| Fault::invalid("signal", "must be an object"))?;
    let chat = super::actions::conversation_id(&request.fields.required("chatId")?)?.to_string();
    let call_id = match calls.active(&chat) {
        Some(call_id) => call_id,
        None => active(session, calls, &chat).await?,
    };
    session.call(RelaySignalRequest { call_id, payload: signal.to_string() }).await?;
    Ok(())
}

/// Returns the active call of the user, if it is that of a chat.
async fn active(session: &Session, calls: &Calls, chat: &str) -> Result<String, Problem> {
    let list = ListCallsRequest { active: true, page_size: 1, ..ListCallsRequest::default() };
    let found = session.call(list).await?.calls.into_iter().find(|call| call.conversation_id == chat);
    let found = found.ok_or_else(|| conflict("there is no active call in this chat"))?;
    let _ = calls.take(&found, &session.into());
    Ok(found.call_id)
}

/// Returns a signal of the other device as the client receives it.
pub(super) async fn signalled(
    session: &Session,
    calls: &Calls,
    call_id: &str,
    payload: &str,
) -> Result<Value, Problem> {
    let chat = match calls.conversation(call_id) {
        Some(chat) => chat,
        None => {
            let get = GetCallRequest { call_id: call_id.to_owned() };
            session.call(get).await?.call.unwrap_or_default().conversation_id
        }
    };
    // A client of another API may send a payload that is not JSON.
    let signal = serde_json::from_str(payload).unwrap_or_else(|_| json!(payload));
    Ok(json!({"chat": {"id": chat}, "signal": signal}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(state: CallState) -> Call {
        Call {
            call_id: "c".to_owned(),
            conversation_id: "d".to_owned(),
            caller_user_id: "ann".to_owned(),
            callee_user_id: "bob".to_owned(),
            state: state.into(),
            ..Call::default()
        }
    }

    fn viewer(user: &str) -> Viewer {
        Viewer { user_id: user.to_owned(), session_id: format!("{user}-1") }
    }

    /// Returns the actions that a viewer receives for a call that goes through these states.
    fn story(user: &str, states: &[CallState], edit: impl Fn(&mut Call)) -> Vec<Option<&'static str>> {
        let calls = Calls::default();
        let take = |state: &CallState| {
            let mut call = call(*state);
            edit(&mut call);
            calls.take(&call, &viewer(user))
        };
        states.iter().map(take).collect()
    }

    #[test]
    fn a_call_that_is_accepted_is_told_to_the_caller_once() {
        let states = [CallState::Ringing, CallState::Accepted, CallState::Accepted, CallState::Ended];
        let by_bob = |call: &mut Call| call.ended_by_user_id = "bob".to_owned();
        assert_eq!(story("ann", &states, by_bob), [None, Some("call-accepted"), None, Some("call-ended")]);
        assert_eq!(story("bob", &states, by_bob)[0], Some("user-calling"));
        let by_ann = |call: &mut Call| call.ended_by_user_id = "ann".to_owned();
        assert_eq!(story("ann", &states, by_ann)[3], None);
    }

    #[test]
    fn other_devices_stop_ringing() {
        let states = [CallState::Ringing, CallState::Accepted];
        let elsewhere = |call: &mut Call| call.own_session_id = "bob-2".to_owned();
        assert_eq!(story("bob", &states, elsewhere)[1], Some("call-ended"));
        let calls = Calls::default();
        assert_eq!(calls.take(&call(CallState::Ringing), &viewer("bob")), Some("user-calling"));
        calls.answer("c");
        let mut accepted = call(CallState::Accepted);
        accepted.own_session_id = "bob-1".to_owned();
        assert_eq!(calls.take(&accepted, &viewer("bob")), None);
        assert_eq!(story("bob", &[CallState::Ringing, CallState::Rejected], |_| {})[1], Some("call-ended"));
    }

    #[test]
    fn every_other_end_is_told_to_who_did_not_do_it() {
        for state in [CallState::Missed, CallState::Cancelled, CallState::Failed] {
            assert_eq!(story("bob", &[CallState::Ringing, state], |_| {})[1], Some("call-ended"));
        }
        for state in [CallState::Rejected, CallState::Busy] {
            assert_eq!(story("ann", &[state, state], |_| {}), [Some("call-rejected"), None]);
        }
        // Of a call that the client never heard of it hears no end.
        assert_eq!(story("bob", &[CallState::Missed], |_| {}), [None]);
        assert_eq!(story("bob", &[CallState::Busy], |_| {}), [None]);
    }

    #[test]
    fn the_active_call_of_a_chat_is_known() {
        let calls = Calls::default();
        calls.take(&call(CallState::Ringing), &viewer("bob"));
        assert_eq!(calls.active("d"), Some("c".to_owned()));
        calls.take(&call(CallState::Missed), &viewer("bob"));
        assert_eq!((calls.active("d"), calls.conversation("c")), (None, Some("d".to_owned())));
    }
}
