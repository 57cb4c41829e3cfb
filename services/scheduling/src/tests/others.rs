//! The other services as far as scheduling can see them: auth knows its people, and messaging knows who may write where
//! and shows a message once per key, unless it is told to fail.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::routing::post;
use chassis::clock::{Clock, Timestamp};
use chassis::config::Secret;
use chassis::fault::Fault;
use chassis::identity::ServiceCredential;
use chassis::transport::Transport;
use prost::Message;
use proto::Incoming;
use proto::auth::v1 as auth;
use proto::codec::Codec;
use proto::id::{ConversationId, EventId, MessageId, SessionId, UserId};
use proto::messaging::v1 as messaging;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};
use tower::service_fn;

/// What scheduling shows of itself.
const SECRET: &str = "the secret of scheduling";

/// Cloning gives the same.
#[derive(Clone)]
pub struct Others {
    state: Arc<Mutex<State>>,
    /// While this is true, sends wait before they are stored.
    holding: watch::Sender<bool>,
    clock: Clock,
}

#[derive(Default)]
struct State {
    users: BTreeSet<UserId>,
    facts: Vec<auth::UserFact>,
    /// Who is where, and whether it may write there.
    members: HashMap<(ConversationId, UserId), bool>,
    messaging_is_down: bool,
    checks: usize,
    mishaps: VecDeque<Mishap>,
    /// By key.
    stored: BTreeMap<(ConversationId, UserId, String), Sent>,
    in_order: Vec<Sent>,
    sends: usize,
    under_way: usize,
}

/// What goes wrong with a send.
#[derive(Clone)]
pub enum Mishap {
    /// It is refused.
    Refused(Status),
    /// It is stored, and nobody is told.
    Stored(Status),
}

/// A message that messaging has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub message_id: MessageId,
    pub conversation: ConversationId,
    pub author: UserId,
    pub key: String,
    pub text: String,
    pub scheduled_time: Option<prost_types::Timestamp>,
    pub at: Timestamp,
}

impl Others {
    pub fn new(clock: Clock) -> Self {
        Self { state: Arc::default(), holding: watch::Sender::new(false), clock }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn credential() -> ServiceCredential {
        ServiceCredential::new(crate::NAME, &Secret::new(SECRET)).unwrap()
    }

    /// Somebody new. The id is the token.
    pub fn register(&self) -> UserId {
        let user = UserId::generate();
        self.state().users.insert(user);
        user
    }

    /// Deletes an account, with its memberships.
    pub fn delete(&self, user: UserId) {
        {
            let mut state = self.state();
            state.users.remove(&user);
            state.members.retain(|(_, member), _| *member != user);
        }
        self.tell_of(user, Some(auth::user_fact::Payload::UserDeleted(auth::UserDeleted {})));
    }

    /// Tells what only the next release knows.
    pub fn tell_of_something_new(&self, user: UserId) {
        self.tell_of(user, None);
    }

    /// Puts a copy of auth back that was made when there were so many facts.
    pub fn is_restored_to(&self, facts: usize) {
        self.state().facts.truncate(facts);
    }

    /// Changes the name of a user.
    pub fn rename(&self, user: UserId) {
        self.tell_of(user, Some(auth::user_fact::Payload::UserUpdated(auth::UserUpdated {})));
    }

    fn tell_of(&self, user: UserId, payload: Option<auth::user_fact::Payload>) {
        let mut state = self.state();
        let position = i64::try_from(state.facts.len()).unwrap() + 1;
        state.facts.push(auth::UserFact {
            position,
            event_id: EventId::generate().to_string(),
            user_id: user.to_string(),
            payload,
            ..Default::default()
        });
    }

    /// Lets a user read and write somewhere, or only read.
    pub fn admit(&self, conversation: ConversationId, user: UserId, may_write: bool) {
        self.state().members.insert((conversation, user), may_write);
    }

    /// Puts a user out.
    pub fn dismiss(&self, conversation: ConversationId, user: UserId) {
        self.state().members.remove(&(conversation, user));
    }

    /// Makes messaging answer nothing from now on, or again.
    pub fn set_messaging_down(&self, is_down: bool) {
        self.state().messaging_is_down = is_down;
    }

    /// How often it was asked whether something could be sent.
    pub fn checks(&self) -> usize {
        self.state().checks
    }

    /// The next sends go wrong like this.
    pub fn mishaps(&self, mishaps: impl IntoIterator<Item = Mishap>) {
        self.state().mishaps.extend(mishaps);
    }

    /// Sends wait from now on, or go on.
    pub fn hold(&self, holding: bool) {
        self.holding.send_replace(holding);
    }

    /// Everything that was stored, in that order.
    pub fn sent(&self) -> Vec<Sent> {
        self.state().in_order.clone()
    }

    /// How often it was asked to send.
    pub fn sends(&self) -> usize {
        self.state().sends
    }

    /// How many sends wait.
    pub fn under_way(&self) -> usize {
        self.state().under_way
    }

    pub fn auth(&self) -> Transport {
        let [introspect, facts] = [self.clone(), self.clone()];
        let introspect = rpc(move |request: Request<auth::IntrospectRequest>| {
            let others = introspect.clone();
            async move { others.introspect(&request) }
        });
        let facts = rpc(move |request: Request<auth::ListUserFactsRequest>| {
            let others = facts.clone();
            async move { others.list_user_facts(&request) }
        });
        Transport::local(
            Router::new()
                .route("/parlor.auth.v1.AuthService/Introspect", introspect)
                .route("/parlor.auth.v1.AuthService/ListUserFacts", facts),
        )
    }

    pub fn messaging(&self) -> Transport {
        let others = self.clone();
        let send = rpc(move |request: Request<messaging::SendMessageRequest>| {
            let others = others.clone();
            async move { others.send_message(request).await }
        });
        Transport::local(Router::new().route("/parlor.messaging.v1.MessagingService/SendMessage", send))
    }

    fn introspect(
        &self,
        request: &Request<auth::IntrospectRequest>,
    ) -> Result<auth::IntrospectResponse, Status> {
        is_scheduling(request)?;
        let user = UserId::parse(&request.get_ref().session_token).ok();
        let known = user.filter(|user| self.state().users.contains(user));
        let caller = known.map(|user| auth::CallerInfo {
            user_id: user.to_string(),
            session_id: SessionId::generate().to_string(),
            kind: auth::UserKind::Registered.into(),
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
        let state = self.state();
        let at = state.facts.iter().find(|fact| fact.position == after);
        Ok(auth::ListUserFactsResponse {
            facts: state.facts.iter().filter(|fact| fact.position > after).cloned().collect(),
            epoch: "the only one".to_owned(),
            head_position: i64::try_from(state.facts.len()).unwrap(),
            after_event_id: at.map(|fact| fact.event_id.clone()).unwrap_or_default(),
        })
    }

    async fn send_message(
        &self,
        request: Request<messaging::SendMessageRequest>,
    ) -> Result<messaging::SendMessageResponse, Status> {
        is_scheduling(&request)?;
        let author = request.metadata().get("x-parlor-on-behalf-of").and_then(|value| value.to_str().ok());
        let author: UserId = id(author.unwrap_or_default());
        if self.state().messaging_is_down {
            return Err(Status::unavailable("down"));
        }
        if request.get_ref().validate_only {
            return self.check(author, request.into_inner());
        }
        self.state().sends += 1;
        self.state().under_way += 1;
        let _ = self.holding.subscribe().wait_for(|holding| !holding).await;
        self.state().under_way -= 1;
        let mishap = self.state().mishaps.pop_front();
        match mishap {
            Some(Mishap::Refused(status)) => Err(status),
            Some(Mishap::Stored(status)) => self.store(author, request.into_inner()).and(Err(status)),
            None => self.store(author, request.into_inner()),
        }
    }

    fn check(
        &self,
        author: UserId,
        request: messaging::SendMessageRequest,
    ) -> Result<messaging::SendMessageResponse, Status> {
        let mut state = self.state();
        state.checks += 1;
        let (conversation, text) = said(&request);
        if text.chars().all(char::is_whitespace) {
            return Err(Fault::invalid("content.text", "must have something besides white space").into());
        }
        state.admit(conversation, author)?;
        Ok(messaging::SendMessageResponse::default())
    }

    fn store(
        &self,
        author: UserId,
        request: messaging::SendMessageRequest,
    ) -> Result<messaging::SendMessageResponse, Status> {
        let (conversation, text) = said(&request);
        let scheduled_time = request.scheduled_time;
        let mut state = self.state();
        let key = request.client_message_id;
        let (sent, repeated) = match state.stored.get(&(conversation, author, key.clone())) {
            Some(first) if first.text == text => (first.clone(), true),
            Some(_) => {
                return Err(Fault::new(Code::AlreadyExists, "ERROR_REASON_CLIENT_MESSAGE_ID_REUSED").into());
            }
            None => {
                state.admit(conversation, author)?;
                let (message_id, at) = (MessageId::generate(), self.clock.now());
                let sent =
                    Sent { message_id, conversation, author, key: key.clone(), text, scheduled_time, at };
                state.stored.insert((conversation, author, key), sent.clone());
                state.in_order.push(sent.clone());
                (sent, false)
            }
        };
        let message = messaging::Message { message_id: sent.message_id.to_string(), ..Default::default() };
        Ok(messaging::SendMessageResponse { message: Some(message), repeated })
    }
}

impl State {
    fn admit(&self, conversation: ConversationId, author: UserId) -> Result<(), Status> {
        match self.members.get(&(conversation, author)) {
            Some(true) => Ok(()),
            Some(false) => Err(Fault::new(Code::PermissionDenied, "ERROR_REASON_WRITE_DENIED").into()),
            None => Err(Fault::new(Code::NotFound, "ERROR_REASON_CONVERSATION_NOT_FOUND").into()),
        }
    }
}

/// Where a message goes, and what it says.
fn said(request: &messaging::SendMessageRequest) -> (ConversationId, String) {
    let Some(messaging::send_message_request::Target::ConversationId(conversation)) = &request.target else {
        panic!("where to?")
    };
    match request.content.as_ref().and_then(|content| content.kind.as_ref()) {
        Some(messaging::content::Kind::Text(text)) => (id(conversation), text.clone()),
        _ => panic!("no text"),
    }
}

pub(super) fn id<T: From<uuid::Uuid>>(text: &str) -> T {
    uuid::Uuid::try_parse(text).unwrap().into()
}

pub fn is_scheduling<T>(request: &Request<T>) -> Result<(), Status> {
    let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    if shown == Some(&format!("Service scheduling:{SECRET}")) {
        Ok(())
    } else {
        Err(Status::unauthenticated("who?"))
    }
}

/// One rpc, served as the generated servers do it, without the others of its service.
pub fn rpc<Q, A, F, Fut>(answer: F) -> axum::routing::MethodRouter
where
    Q: Message + Default + Incoming + Send + Sync + 'static,
    A: Message + Default + Incoming + Send + Sync + 'static,
    F: Fn(Request<Q>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<A, Status>> + Send + 'static,
{
    post(move |request: axum::extract::Request| {
        let answer = answer.clone();
        async move {
            let handler = service_fn(move |request: Request<Q>| {
                let answer = answer(request);
                async move { answer.await.map(Response::new) }
            });
            tonic::server::Grpc::new(Codec::<A, Q>::default())
                .unary(handler, request)
                .await
                .map(axum::body::Body::new)
        }
    })
}
