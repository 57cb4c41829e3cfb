//! Auth, conversation and messaging as far as calendars can see them: auth knows profiles, conversation has one direct
//! conversation for each two, and messaging shows a message once per key and keeps one alert per subject, unless it is
//! told to fail.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use chassis::clock::{Clock, Timestamp};
use chassis::fault::Fault;
use chassis::transport::Transport;
use proto::auth::v1 as auth;
use proto::conversation::v1 as conversation;
use proto::id::{AlertId, ConversationId, MessageId, SessionId, UserId};
use proto::messaging::v1 as messaging;
use proto::messaging::v1::{AlertState, ErrorReason};
use tonic::{Code, Request, Status};

use crate::tests::others::{id, is_scheduling, rpc};

/// Cloning gives the same.
#[derive(Clone)]
pub struct Neighbours {
    state: Arc<Mutex<State>>,
    clock: Clock,
}

#[derive(Default)]
struct State {
    users: HashMap<UserId, auth::User>,
    facts: Vec<auth::UserFact>,
    conversations: HashMap<[UserId; 2], ConversationId>,
    /// Who does not get through to whom, and why.
    refused: HashMap<(UserId, UserId), ErrorReason>,
    /// Who does not get through although the check says so.
    blocked_since: HashMap<(UserId, UserId), ErrorReason>,
    blocks: Vec<conversation::ConversationFact>,
    is_down: bool,
    takes_no_alerts: bool,
    /// Whether it only says what it would take.
    is_stuck: bool,
    checks: usize,
    mishaps: VecDeque<Status>,
    stored: BTreeMap<String, Told>,
    told: Vec<Told>,
    alerts: HashMap<(UserId, String), messaging::RaiseAlertRequest>,
    raised: Vec<Raised>,
}

/// A message that messaging has stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub by: UserId,
    pub to: UserId,
    pub key: String,
    pub conversation: ConversationId,
    pub message: MessageId,
    pub content: messaging::ScheduleContent,
}

/// An alert that was new to messaging.
#[derive(Clone, Debug, PartialEq)]
pub struct Raised {
    pub user: UserId,
    pub schedule: String,
    pub state: AlertState,
    pub actor: String,
    pub message: String,
    pub at: Timestamp,
}

impl Neighbours {
    pub fn new(clock: Clock) -> Self {
        Self { state: Arc::default(), clock }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Somebody new, with the clock of this place. The id is the token.
    pub fn register(&self, name: &str, time_zone: &str) -> UserId {
        self.add(name, time_zone, auth::UserKind::Registered)
    }

    /// Somebody without an account.
    pub fn guest(&self) -> UserId {
        self.add("guest", "", auth::UserKind::Guest)
    }

    fn add(&self, name: &str, time_zone: &str, kind: auth::UserKind) -> UserId {
        let user = UserId::generate();
        let profile = auth::User {
            user_id: user.to_string(),
            kind: kind.into(),
            display_name: name.to_owned(),
            email: format!("{name}@secret.example"),
            time_zone: time_zone.to_owned(),
            ..Default::default()
        };
        self.state().users.insert(user, profile);
        user
    }

    /// Deletes an account.
    pub fn delete(&self, user: UserId) {
        let mut state = self.state();
        state.users.remove(&user);
        let position = i64::try_from(state.facts.len()).unwrap() + 1;
        let payload = Some(auth::user_fact::Payload::UserDeleted(auth::UserDeleted {}));
        let fact = auth::UserFact { position, user_id: user.to_string(), payload, ..Default::default() };
        state.facts.push(fact);
    }

    /// What one writes to another is refused from now on.
    pub fn refuse(&self, from: UserId, to: UserId, reason: ErrorReason) {
        self.state().refused.insert((from, to), reason);
    }

    /// The same, but only once a message is sent: as if that had changed after the check.
    pub fn refuse_after_check(&self, from: UserId, to: UserId, reason: ErrorReason) {
        self.state().blocked_since.insert((from, to), reason);
    }

    /// How much somebody wants to be called from now on: how many a day, and how long.
    pub fn limit(&self, user: UserId, per_day: i32, longest: Option<Duration>) {
        let preferences =
            auth::CallPreferences { max_calls_per_day: per_day, max_duration: longest.and_then(super::span) };
        self.state().users.get_mut(&user).unwrap().call_preferences = Some(preferences);
    }

    /// Makes messaging take no message from now on, or again; it still says what it would take.
    pub fn set_stuck(&self, is_stuck: bool) {
        self.state().is_stuck = is_stuck;
    }

    /// How often it was asked what it would take.
    pub fn checks(&self) -> usize {
        self.state().checks
    }

    /// How many conversations there are.
    pub fn conversations(&self) -> usize {
        self.state().conversations.len()
    }

    /// What alerts say is not understood any more.
    pub fn take_no_alerts(&self) {
        self.state().takes_no_alerts = true;
    }

    /// Makes messaging answer nothing from now on, or again.
    pub fn set_down(&self, is_down: bool) {
        self.state().is_down = is_down;
    }

    /// The next messages are stored and answered like this.
    pub fn mishaps(&self, mishaps: impl IntoIterator<Item = Status>) {
        self.state().mishaps.extend(mishaps);
    }

    /// Every message that was stored, in that order.
    pub fn told(&self) -> Vec<Told> {
        self.state().told.clone()
    }

    /// Every alert that was new, in that order.
    pub fn raised(&self) -> Vec<Raised> {
        self.state().raised.clone()
    }

    /// What the alerts of a user said about a booking, one after the other.
    pub fn alerts(&self, user: UserId, schedule: &str) -> Vec<AlertState> {
        let raised = self.state().raised.clone();
        let about = raised.into_iter().filter(|raised| raised.user == user && raised.schedule == schedule);
        about.map(|raised| raised.state).collect()
    }

    pub fn auth(&self) -> Transport {
        let [introspect, facts, user] = [self.clone(), self.clone(), self.clone()];
        let introspect = rpc(move |request: Request<auth::IntrospectRequest>| {
            let neighbours = introspect.clone();
            async move { neighbours.introspect(&request) }
        });
        let facts = rpc(move |request: Request<auth::ListUserFactsRequest>| {
            let neighbours = facts.clone();
            async move { neighbours.list_user_facts(&request) }
        });
        let user = rpc(move |request: Request<auth::GetUserRequest>| {
            let neighbours = user.clone();
            async move { neighbours.get_user(&request) }
        });
        Transport::local(
            Router::new()
                .route("/parlor.auth.v1.AuthService/Introspect", introspect)
                .route("/parlor.auth.v1.AuthService/ListUserFacts", facts)
                .route("/parlor.auth.v1.UserService/GetUser", user),
        )
    }

    pub fn conversation(&self) -> Transport {
        let neighbours = self.clone();
        let create = rpc(move |request: Request<conversation::CreateConversationRequest>| {
            let neighbours = neighbours.clone();
            async move { neighbours.create_conversation(&request) }
        });
        let neighbours = self.clone();
        let facts = rpc(move |request: Request<conversation::ListConversationFactsRequest>| {
            let neighbours = neighbours.clone();
            async move { neighbours.list_conversation_facts(&request) }
        });
        let neighbours = self.clone();
        let contact = rpc(move |request: Request<conversation::CheckContactRequest>| {
            let neighbours = neighbours.clone();
            async move { neighbours.check_contact(&request) }
        });
        Transport::local(
            Router::new()
                .route("/parlor.conversation.v1.ConnectionService/CheckContact", contact)
                .route("/parlor.conversation.v1.ConversationService/CreateConversation", create)
                .route("/parlor.conversation.v1.ConversationService/ListConversationFacts", facts),
        )
    }

    /// One blocks another: neither gets through to the other any more.
    pub fn block(&self, blocker: UserId, blocked: UserId) {
        for (from, to) in [(blocker, blocked), (blocked, blocker)] {
            self.refuse(from, to, ErrorReason::WriteDenied);
        }
        let mut state = self.state();
        let block = conversation::ContactBlocked {
            blocker_user_id: blocker.to_string(),
            blocked_user_id: blocked.to_string(),
        };
        // Among others that do not concern us.
        for payload in [None, Some(conversation::conversation_fact::Payload::ContactBlocked(block)), None] {
            let position = i64::try_from(state.blocks.len()).unwrap() + 1;
            state.blocks.push(conversation::ConversationFact { position, payload, ..Default::default() });
        }
    }

    /// One waits whom messaging would tell so; one has to ask whom it would refuse as not accepted.
    fn check_contact(
        &self,
        request: &Request<conversation::CheckContactRequest>,
    ) -> Result<conversation::CheckContactResponse, Status> {
        is_scheduling(request)?;
        let (by, other): (UserId, UserId) = (on_behalf(request), id(&request.get_ref().user_id));
        let reason = self.state().refused.get(&(by, other)).copied();
        let pending = conversation::Request {
            from_user_id: by.to_string(),
            to_user_id: other.to_string(),
            state: conversation::RequestState::Pending.into(),
            ..Default::default()
        };
        let contact = conversation::Contact {
            user_id: other.to_string(),
            request_needed: reason == Some(ErrorReason::ContactNotAccepted),
            message_request: (reason == Some(ErrorReason::RequestPending)).then_some(pending),
            ..Default::default()
        };
        Ok(conversation::CheckContactResponse { contact: Some(contact) })
    }

    fn list_conversation_facts(
        &self,
        request: &Request<conversation::ListConversationFactsRequest>,
    ) -> Result<conversation::ListConversationFactsResponse, Status> {
        is_scheduling(request)?;
        let after = request.get_ref().after_position;
        let facts = self.state().blocks.iter().filter(|fact| fact.position > after).cloned().collect();
        Ok(conversation::ListConversationFactsResponse { facts, ..Default::default() })
    }

    pub fn messaging(&self) -> Transport {
        let [send, alert] = [self.clone(), self.clone()];
        let send = rpc(move |request: Request<messaging::SendMessageRequest>| {
            let neighbours = send.clone();
            async move { neighbours.send_message(&request) }
        });
        let alert = rpc(move |request: Request<messaging::RaiseAlertRequest>| {
            let neighbours = alert.clone();
            async move { neighbours.raise_alert(&request) }
        });
        Transport::local(
            Router::new()
                .route("/parlor.messaging.v1.MessagingService/SendMessage", send)
                .route("/parlor.messaging.v1.AlertService/RaiseAlert", alert),
        )
    }

    fn introspect(
        &self,
        request: &Request<auth::IntrospectRequest>,
    ) -> Result<auth::IntrospectResponse, Status> {
        is_scheduling(request)?;
        let state = self.state();
        let known = UserId::parse(&request.get_ref().session_token).ok().and_then(|id| state.users.get(&id));
        let caller = known.map(|user| auth::CallerInfo {
            user_id: user.user_id.clone(),
            session_id: SessionId::generate().to_string(),
            kind: user.kind,
            ..Default::default()
        });
        Ok(auth::IntrospectResponse { caller })
    }

    fn list_user_facts(
        &self,
        request: &Request<auth::ListUserFactsRequest>,
    ) -> Result<auth::ListUserFactsResponse, Status> {
        is_scheduling(request)?;
        let after = request.get_ref().after_position;
        let facts = self.state().facts.iter().filter(|fact| fact.position > after).cloned().collect();
        Ok(auth::ListUserFactsResponse { facts, ..Default::default() })
    }

    fn get_user(&self, request: &Request<auth::GetUserRequest>) -> Result<auth::GetUserResponse, Status> {
        is_scheduling(request)?;
        let id: UserId = id(&request.get_ref().user_id);
        let user = self.state().users.get(&id).cloned();
        let nobody = || Status::from(Fault::new(Code::NotFound, "ERROR_REASON_USER_NOT_FOUND"));
        Ok(auth::GetUserResponse { user: Some(user.ok_or_else(nobody)?) })
    }

    fn create_conversation(
        &self,
        request: &Request<conversation::CreateConversationRequest>,
    ) -> Result<conversation::CreateConversationResponse, Status> {
        is_scheduling(request)?;
        assert_eq!(request.get_ref().kind(), conversation::ConversationKind::Direct);
        let (by, to) = (on_behalf(request), id(&request.get_ref().user_ids[0]));
        let mut state = self.state();
        if !state.users.contains_key(&to) {
            return Err(Fault::new(Code::NotFound, "ERROR_REASON_USER_NOT_FOUND").into());
        }
        let conversation_id = state.direct(by, to).to_string();
        let conversation = Some(conversation::Conversation { conversation_id, ..Default::default() });
        Ok(conversation::CreateConversationResponse { conversation, ..Default::default() })
    }

    fn send_message(
        &self,
        request: &Request<messaging::SendMessageRequest>,
    ) -> Result<messaging::SendMessageResponse, Status> {
        use messaging::send_message_request::Target;
        is_scheduling(request)?;
        let by = on_behalf(request);
        let request = request.get_ref();
        let mut state = self.state();
        assert!(state.users.contains_key(&by), "a message in the name of somebody who is gone");
        let to: UserId = match request.target.as_ref() {
            Some(Target::UserId(_)) if request.validate_only => {
                let rule = "must be a conversation when validate_only is set";
                return Err(Fault::invalid("target", rule).into());
            }
            Some(Target::UserId(user)) => id(user),
            Some(Target::ConversationId(conversation)) => {
                let found = state.conversations.iter().find(|(_, id)| id.to_string() == *conversation);
                let [one, other] = *found.expect("a conversation").0;
                if one == by { other } else { one }
            }
            _ => panic!("to whom?"),
        };
        state.checks += usize::from(request.validate_only);
        if state.is_down || (state.is_stuck && !request.validate_only) {
            return Err(Status::unavailable("down"));
        }
        let content = match request.content.as_ref().and_then(|content| content.kind.as_ref()) {
            Some(messaging::content::Kind::Schedule(content)) => content.clone(),
            _ => panic!("no booking"),
        };
        if !request.validate_only
            && let Some(first) = state.stored.get(&request.client_message_id)
        {
            assert_eq!((first.by, &first.content), (by, &content), "another message with the same key");
            return Ok(answer(first));
        }
        let since = state.blocked_since.get(&(by, to)).filter(|_| !request.validate_only);
        if let Some(reason) = state.refused.get(&(by, to)).or(since) {
            let code = match reason {
                ErrorReason::WriteDenied => Code::PermissionDenied,
                _ => Code::FailedPrecondition,
            };
            return Err(Fault::new(code, reason.as_str_name()).into());
        }
        if request.validate_only {
            return Ok(messaging::SendMessageResponse::default());
        }
        let conversation = state.direct(by, to);
        let (key, message) = (request.client_message_id.clone(), MessageId::generate());
        let told = Told { by, to, key: key.clone(), conversation, message, content };
        state.stored.insert(key, told.clone());
        state.told.push(told.clone());
        match state.mishaps.pop_front() {
            Some(status) => Err(status),
            None => Ok(answer(&told)),
        }
    }

    fn raise_alert(
        &self,
        request: &Request<messaging::RaiseAlertRequest>,
    ) -> Result<messaging::RaiseAlertResponse, Status> {
        is_scheduling(request)?;
        let alert = request.get_ref();
        let mut state = self.state();
        if state.is_down {
            return Err(Status::unavailable("down"));
        }
        assert_eq!(alert.kind(), messaging::AlertKind::Schedule);
        if state.takes_no_alerts {
            return Err(Fault::invalid("subject_id", "must be something else").into());
        }
        let user: UserId = id(&alert.user_id);
        if !state.users.contains_key(&user) {
            return Ok(messaging::RaiseAlertResponse { alert: None });
        }
        let key = (user, alert.subject_id.clone());
        let is_new = state.alerts.get(&key).is_none_or(|before| before.version < alert.version);
        if is_new {
            state.alerts.insert(key, alert.clone());
            state.raised.push(Raised {
                user,
                schedule: alert.subject_id.clone(),
                state: alert.state(),
                actor: alert.actor_user_id.clone(),
                message: alert.message_id.clone(),
                at: self.clock.now(),
            });
        }
        let alert = messaging::Alert { alert_id: AlertId::generate().to_string(), ..Default::default() };
        Ok(messaging::RaiseAlertResponse { alert: Some(alert) })
    }
}

impl State {
    fn direct(&mut self, one: UserId, other: UserId) -> ConversationId {
        let mut pair = [one, other];
        pair.sort_unstable();
        *self.conversations.entry(pair).or_insert_with(ConversationId::generate)
    }
}

fn on_behalf<T>(request: &Request<T>) -> UserId {
    let user = request.metadata().get("x-parlor-on-behalf-of").and_then(|value| value.to_str().ok());
    id(user.unwrap_or_default())
}

fn answer(told: &Told) -> messaging::SendMessageResponse {
    let message = messaging::Message {
        message_id: told.message.to_string(),
        conversation_id: told.conversation.to_string(),
        ..Default::default()
    };
    messaging::SendMessageResponse { message: Some(message), repeated: false }
}
