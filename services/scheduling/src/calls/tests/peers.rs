//! The other services as far as calls can see them: auth knows devices and acquaintances, conversation knows who the
//! other one is, and messaging knows who may write to whom and shows a message once per key.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use chassis::fault::Fault;
use chassis::transport::Transport;
use proto::auth::v1 as auth;
use proto::conversation::v1 as conversation;
use proto::id::{ConversationId, MessageId, SessionId, UserId};
use proto::messaging::v1 as messaging;
use proto::messaging::v1::CallOutcome;
use tonic::{Code, Request, Status};

use crate::tests::others::{is_scheduling, rpc};

/// Cloning gives the same.
#[derive(Clone, Default)]
pub struct Peers(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    users: BTreeSet<UserId>,
    names: HashMap<UserId, &'static str>,
    guests: BTreeSet<UserId>,
    facts: Vec<auth::UserFact>,
    blocks: Vec<conversation::ConversationFact>,
    /// By the two who are in it.
    direct: BTreeMap<[UserId; 2], ConversationId>,
    groups: BTreeMap<ConversationId, UserId>,
    /// Why somebody may not write to somebody.
    refused: HashMap<(UserId, UserId), (Code, &'static str)>,
    away: bool,
    /// By key.
    shown: BTreeMap<String, Shown>,
    acquainted: BTreeSet<[UserId; 2]>,
    records: usize,
    sends: usize,
}

/// What became of a call, as a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub author: UserId,
    pub conversation: ConversationId,
    pub video: bool,
    pub outcome: CallOutcome,
    pub seconds: Option<i64>,
}

fn pair(one: UserId, other: UserId) -> [UserId; 2] {
    let mut pair = [one, other];
    pair.sort_unstable();
    pair
}

fn fault(code: Code, reason: &str) -> Status {
    Fault::new(code, format!("ERROR_REASON_{reason}")).into()
}

fn id<T: From<uuid::Uuid>>(text: &str) -> T {
    uuid::Uuid::try_parse(text).unwrap().into()
}

fn on_behalf<T>(request: &Request<T>) -> UserId {
    let user = request.metadata().get("x-parlor-on-behalf-of").and_then(|value| value.to_str().ok());
    id(user.unwrap_or_default())
}

impl Peers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn register(&self) -> UserId {
        let user = UserId::generate();
        self.state().users.insert(user);
        user
    }

    pub fn register_guest(&self) -> UserId {
        let user = self.register();
        self.state().guests.insert(user);
        user
    }

    /// Gives a user a display name.
    pub fn name(&self, user: UserId, name: &'static str) {
        self.state().names.insert(user, name);
    }

    pub fn delete(&self, user: UserId) {
        let mut state = self.state();
        state.users.remove(&user);
        let position = i64::try_from(state.facts.len()).unwrap() + 1;
        let payload = Some(auth::user_fact::Payload::UserDeleted(auth::UserDeleted {}));
        state.facts.push(auth::UserFact {
            position,
            user_id: user.to_string(),
            payload,
            ..Default::default()
        });
    }

    /// A group of somebody's.
    pub fn group(&self, of: UserId) -> ConversationId {
        let id = ConversationId::generate();
        self.state().groups.insert(id, of);
        id
    }

    pub fn direct(&self, one: UserId, other: UserId) -> ConversationId {
        let mut state = self.state();
        *state.direct.entry(pair(one, other)).or_insert_with(ConversationId::generate)
    }

    /// One may not write to another from now on.
    pub fn refuse(&self, from: UserId, to: UserId, code: Code, reason: &'static str) {
        self.state().refused.insert((from, to), (code, reason));
    }

    /// Messaging and auth take nothing from now on, or again.
    pub fn set_away(&self, away: bool) {
        self.state().away = away;
    }

    /// What is shown of a call.
    pub fn shown(&self, call_id: &str) -> Option<Shown> {
        self.state().shown.get(&format!("call:{call_id}")).cloned()
    }

    /// How many messages there are, and how often one was sent.
    pub fn messages(&self) -> (usize, usize) {
        let state = self.state();
        (state.shown.len(), state.sends)
    }

    pub fn are_acquainted(&self, one: UserId, other: UserId) -> bool {
        self.state().acquainted.contains(&pair(one, other))
    }

    pub fn records(&self) -> usize {
        self.state().records
    }

    pub fn auth(&self) -> Transport {
        let [introspect, facts, record, users] = [(); 4].map(|()| self.clone());
        let introspect = rpc(move |request: Request<auth::IntrospectRequest>| {
            let peers = introspect.clone();
            async move { peers.introspect(&request) }
        });
        let facts = rpc(move |request: Request<auth::ListUserFactsRequest>| {
            let peers = facts.clone();
            async move {
                is_scheduling(&request)?;
                let after = request.get_ref().after_position;
                let facts =
                    peers.state().facts.iter().filter(|fact| fact.position > after).cloned().collect();
                Ok(auth::ListUserFactsResponse { facts, ..Default::default() })
            }
        });
        let record = rpc(move |request: Request<auth::RecordAcquaintanceRequest>| {
            let peers = record.clone();
            async move { peers.record(&request) }
        });
        let users = rpc(move |request: Request<auth::BatchGetUsersRequest>| {
            let peers = users.clone();
            async move { peers.batch_get_users(&request) }
        });
        Transport::local(
            Router::new()
                .route("/parlor.auth.v1.UserService/BatchGetUsers", users)
                .route("/parlor.auth.v1.AuthService/Introspect", introspect)
                .route("/parlor.auth.v1.AuthService/ListUserFacts", facts)
                .route("/parlor.auth.v1.ReviewService/RecordAcquaintance", record),
        )
    }

    pub fn conversation(&self) -> Transport {
        let [create, get, facts] = [(); 3].map(|()| self.clone());
        let facts = rpc(move |request: Request<conversation::ListConversationFactsRequest>| {
            let peers = facts.clone();
            async move { peers.list_conversation_facts(&request) }
        });
        let create = rpc(move |request: Request<conversation::CreateConversationRequest>| {
            let peers = create.clone();
            async move { peers.create(&request) }
        });
        let get = rpc(move |request: Request<conversation::GetConversationRequest>| {
            let peers = get.clone();
            async move { peers.get(&request) }
        });
        Transport::local(
            Router::new()
                .route("/parlor.conversation.v1.ConversationService/CreateConversation", create)
                .route("/parlor.conversation.v1.ConversationService/GetConversation", get)
                .route("/parlor.conversation.v1.ConversationService/ListConversationFacts", facts),
        )
    }

    /// One blocks another: neither gets through to the other any more.
    pub fn block(&self, blocker: UserId, blocked: UserId) {
        for (from, to) in [(blocker, blocked), (blocked, blocker)] {
            self.refuse(from, to, Code::PermissionDenied, "WRITE_DENIED");
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
        let peers = self.clone();
        let send = rpc(move |request: Request<messaging::SendMessageRequest>| {
            let peers = peers.clone();
            async move { peers.send(&request) }
        });
        Transport::local(Router::new().route("/parlor.messaging.v1.MessagingService/SendMessage", send))
    }

    /// A token names a user and a session.
    fn introspect(
        &self,
        request: &Request<auth::IntrospectRequest>,
    ) -> Result<auth::IntrospectResponse, Status> {
        is_scheduling(request)?;
        let state = self.state();
        let named = request.get_ref().session_token.split_once('/');
        let named = named
            .and_then(|(user, session)| Some((UserId::parse(user).ok()?, SessionId::parse(session).ok()?)));
        let caller = named.filter(|(user, _)| state.users.contains(user)).map(|(user, session)| {
            let is_guest = state.guests.contains(&user);
            let kind = if is_guest { auth::UserKind::Guest } else { auth::UserKind::Registered };
            auth::CallerInfo {
                user_id: user.to_string(),
                session_id: session.to_string(),
                kind: kind.into(),
                ..Default::default()
            }
        });
        Ok(auth::IntrospectResponse { caller })
    }

    fn batch_get_users(
        &self,
        request: &Request<auth::BatchGetUsersRequest>,
    ) -> Result<auth::BatchGetUsersResponse, Status> {
        is_scheduling(request)?;
        let state = self.state();
        if state.away {
            return Err(Status::unavailable("away"));
        }
        assert!(state.users.contains(&on_behalf(request)), "as a user who is there");
        let user_ids = request.get_ref().user_ids.iter().map(|text| id(text));
        let users = user_ids.filter(|user| state.users.contains(user)).map(|user| auth::User {
            user_id: user.to_string(),
            display_name: state.names.get(&user).copied().unwrap_or_default().to_owned(),
            ..Default::default()
        });
        Ok(auth::BatchGetUsersResponse { users: users.collect() })
    }

    fn record(
        &self,
        request: &Request<auth::RecordAcquaintanceRequest>,
    ) -> Result<auth::RecordAcquaintanceResponse, Status> {
        is_scheduling(request)?;
        let mut state = self.state();
        state.records += 1;
        if state.away {
            return Err(Status::unavailable("away"));
        }
        let request = request.get_ref();
        assert_eq!((request.kind(), request.ended), (auth::AcquaintanceKind::Call, false));
        assert!(request.version >= 1);
        state.acquainted.insert(pair(id(&request.user_ids[0]), id(&request.user_ids[1])));
        Ok(auth::RecordAcquaintanceResponse {})
    }

    fn create(
        &self,
        request: &Request<conversation::CreateConversationRequest>,
    ) -> Result<conversation::CreateConversationResponse, Status> {
        is_scheduling(request)?;
        assert_eq!(request.get_ref().kind(), conversation::ConversationKind::Direct);
        let (user, peer) = (on_behalf(request), id(&request.get_ref().user_ids[0]));
        if !self.state().users.contains(&peer) {
            return Err(fault(Code::NotFound, "USER_NOT_FOUND"));
        }
        let conversation_id = self.direct(user, peer).to_string();
        let conversation = conversation::Conversation { conversation_id, ..Default::default() };
        Ok(conversation::CreateConversationResponse {
            conversation: Some(conversation),
            ..Default::default()
        })
    }

    fn get(
        &self,
        request: &Request<conversation::GetConversationRequest>,
    ) -> Result<conversation::GetConversationResponse, Status> {
        is_scheduling(request)?;
        let (user, wanted) = (on_behalf(request), id(&request.get_ref().conversation_id));
        let state = self.state();
        let mut found = conversation::Conversation {
            conversation_id: request.get_ref().conversation_id.clone(),
            kind: conversation::ConversationKind::Group.into(),
            ..Default::default()
        };
        if state.groups.get(&wanted) != Some(&user) {
            let mut direct = state.direct.iter().filter(|(pair, _)| pair.contains(&user));
            let pair = direct.find(|(_, id)| **id == wanted).map(|(pair, _)| *pair);
            let pair = pair.ok_or_else(|| fault(Code::NotFound, "CONVERSATION_NOT_FOUND"))?;
            found.kind = conversation::ConversationKind::Direct.into();
            found.peer_user_id = pair.into_iter().find(|peer| *peer != user).unwrap().to_string();
        }
        Ok(conversation::GetConversationResponse { conversation: Some(found) })
    }

    fn send(
        &self,
        request: &Request<messaging::SendMessageRequest>,
    ) -> Result<messaging::SendMessageResponse, Status> {
        is_scheduling(request)?;
        let author = on_behalf(request);
        let request = request.get_ref();
        let Some(messaging::send_message_request::Target::ConversationId(target)) = &request.target else {
            panic!("where to?")
        };
        let Some(messaging::content::Kind::Call(call)) =
            request.content.as_ref().and_then(|content| content.kind.clone())
        else {
            panic!("no call")
        };
        let conversation = id(target);
        let mut state = self.state();
        if state.away && !request.validate_only {
            state.sends += 1;
            return Err(Status::unavailable("away"));
        }
        let members = state.direct.iter().find(|(_, id)| **id == conversation).map(|(pair, _)| *pair);
        let members = members.ok_or_else(|| fault(Code::NotFound, "CONVERSATION_NOT_FOUND"))?;
        let peer = members.into_iter().find(|peer| *peer != author).unwrap();
        if let Some((code, reason)) = state.refused.get(&(author, peer)) {
            return Err(fault(*code, reason));
        }
        if request.validate_only {
            return Ok(messaging::SendMessageResponse::default());
        }
        state.sends += 1;
        assert_eq!(request.client_message_id, format!("call:{}", call.call_id));
        let shown = Shown {
            author,
            conversation,
            video: call.video,
            outcome: call.outcome(),
            seconds: call.duration.as_ref().map(|duration| duration.seconds),
        };
        let first = state.shown.entry(request.client_message_id.clone()).or_insert_with(|| shown.clone());
        assert_eq!(*first, shown, "the same key says something else");
        let message =
            messaging::Message { message_id: MessageId::generate().to_string(), ..Default::default() };
        Ok(messaging::SendMessageResponse { message: Some(message), ..Default::default() })
    }
}
