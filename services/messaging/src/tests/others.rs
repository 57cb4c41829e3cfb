//! Auth and conversation as far as messaging can see them: people and their tokens, conversations and who is in them.

mod telling;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::routing::{MethodRouter, post};
use chassis::clock::{Clock, Timestamp};
use chassis::fault::Fault;
use chassis::transport::Transport;
use prost::Message;
use proto::Incoming;
use proto::auth::v1 as auth;
use proto::codec::Codec;
use proto::conversation::v1 as pb;
use proto::conversation::v1::conversation_fact::Payload;
use proto::conversation::v1::{ConversationKind, MemberRole, RemovalReason};
use proto::id::{ConversationId, EventId, SessionId, UserId};
use tonic::{Code, Request, Response, Status};
use tower::service_fn;

/// What messaging shows of itself.
pub const SECRET: &str = "the secret of messaging";

/// Both services. Cloning gives the same.
#[derive(Clone)]
pub struct Others {
    clock: Clock,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    users: Vec<UserId>,
    names: BTreeMap<String, UserId>,
    auth_is_down: bool,
    lookups: usize,
    slow_tokens: bool,
    device_keys: BTreeMap<UserId, Vec<auth::DeviceKey>>,
    guests: BTreeSet<UserId>,
    sessions: BTreeMap<UserId, SessionId>,
    conversations: BTreeMap<ConversationId, Conversation>,
    versions: BTreeMap<UserId, i64>,
    facts: Vec<pb::ConversationFact>,
    facts_held: bool,
    user_facts: Vec<auth::UserFact>,
    display_names: BTreeMap<UserId, String>,
    no_more_requests: bool,
    memberships_are_down: bool,
    opened: usize,
    is_down: bool,
    checks: usize,
}

#[derive(Clone)]
struct Conversation {
    kind: ConversationKind,
    version: i64,
    members: BTreeMap<UserId, (MemberRole, Timestamp)>,
    slow_mode: Duration,
    secure: bool,
    public_read: bool,
    title: String,
    /// How those stand here whom the other person has not accepted.
    strangers: BTreeMap<UserId, Stranger>,
}

#[derive(Clone)]
enum Stranger {
    /// Has to ask first.
    Unknown,
    /// Has asked, and waits.
    Waits(Asking),
    /// Was told no.
    Rejected,
    /// Blocks the other, or is blocked.
    Blocked,
}

/// A message request that waits.
#[derive(Clone)]
struct Asking {
    request_id: String,
    request_version: i64,
}

impl Others {
    pub fn new(clock: Clock) -> Self {
        Self { clock, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Somebody new. The id is the token.
    pub fn register(&self) -> UserId {
        let user = UserId::generate();
        self.state().users.push(user);
        user
    }

    /// The session of a user; a new one when there is none.
    fn session_of(&self, user: UserId) -> SessionId {
        *self.state().sessions.entry(user).or_insert_with(SessionId::generate)
    }

    /// Ends the session of a user.
    pub fn sign_out(&self, user: UserId) {
        self.state().sessions.remove(&user);
    }

    /// Makes a user one who has not registered.
    pub fn make_guest(&self, user: UserId) {
        self.state().guests.insert(user);
    }

    /// Gives a user's device a key, or puts another in the place of the one with this id.
    pub fn set_device_key(&self, user: UserId, key: auth::DeviceKey) {
        let mut state = self.state();
        let keys = state.device_keys.entry(user).or_default();
        keys.retain(|known| known.device_key_id != key.device_key_id);
        keys.push(key);
    }

    /// Somebody new, who is called like this.
    pub fn register_as(&self, name: &str) -> UserId {
        let user = self.register();
        self.state().names.insert(name.to_owned(), user);
        user
    }

    /// Makes auth look up nobody from now on, or again.
    pub fn set_auth_down(&self, is_down: bool) {
        self.state().auth_is_down = is_down;
    }

    /// How often auth was asked who is called what.
    pub fn lookups(&self) -> usize {
        self.state().lookups
    }

    /// Makes auth take its time.
    pub fn slow_tokens(&self) {
        self.state().slow_tokens = true;
    }

    /// Makes conversation answer nothing from now on, or again.
    pub fn set_down(&self, is_down: bool) {
        self.state().is_down = is_down;
    }

    /// How often conversation was asked who may do what.
    pub fn checks(&self) -> usize {
        self.state().checks
    }

    pub fn create(&self, kind: ConversationKind, members: &[UserId]) -> ConversationId {
        let (id, now) = (ConversationId::generate(), self.clock.now());
        let role = |place| if place == 0 { MemberRole::Owner } else { MemberRole::Member };
        let members: BTreeMap<_, _> =
            members.iter().enumerate().map(|(place, user)| (*user, (role(place), now))).collect();
        let mut state = self.state();
        members.keys().for_each(|user| *state.versions.entry(*user).or_default() += 1);
        let list = members.iter().map(|(user, membership)| member(*user, membership)).collect();
        let slow_mode = Duration::ZERO;
        let (title, strangers) = (String::new(), BTreeMap::new());
        let conversation = Conversation {
            kind,
            version: 1,
            members,
            slow_mode,
            secure: false,
            public_read: false,
            title,
            strangers,
        };
        state.conversations.insert(id, conversation);
        let created = pb::ConversationCreated { kind: kind.into(), members: list, ..Default::default() };
        self.tell(&mut state, id, Payload::ConversationCreated(created));
        id
    }

    pub fn add(&self, id: ConversationId, user: UserId) {
        let membership = (MemberRole::Member, self.clock.now());
        let mut state = self.state();
        *state.versions.entry(user).or_default() += 1;
        let conversation = state.conversations.get_mut(&id).unwrap();
        conversation.version += 1;
        conversation.members.insert(user, membership);
        let added = pb::MembersAdded { members: vec![member(user, &membership)] };
        self.tell(&mut state, id, Payload::MembersAdded(added));
    }

    pub fn remove(&self, id: ConversationId, user: UserId) {
        let mut state = self.state();
        *state.versions.entry(user).or_default() += 1;
        let conversation = state.conversations.get_mut(&id).unwrap();
        conversation.version += 1;
        conversation.members.remove(&user);
        let removed = pb::MemberRemoved { user_id: user.to_string(), reason: RemovalReason::Removed.into() };
        self.tell(&mut state, id, Payload::MemberRemoved(removed));
    }

    pub fn delete(&self, id: ConversationId) {
        let mut state = self.state();
        let conversation = state.conversations.remove(&id).unwrap();
        conversation.members.keys().for_each(|user| *state.versions.entry(*user).or_default() += 1);
        let user_ids = conversation.members.keys().map(ToString::to_string).collect();
        self.tell(&mut state, id, Payload::ConversationDeleted(pb::ConversationDeleted { user_ids }));
    }

    pub fn set_role(&self, id: ConversationId, user: UserId, role: MemberRole) {
        self.state().conversations.get_mut(&id).unwrap().members.get_mut(&user).unwrap().0 = role;
    }

    pub fn set_slow_mode(&self, id: ConversationId, slow_mode: Duration) {
        self.state().conversations.get_mut(&id).unwrap().slow_mode = slow_mode;
    }

    /// Lets it take only what is encrypted by the sender's device.
    pub fn set_secure(&self, id: ConversationId) {
        self.state().conversations.get_mut(&id).unwrap().secure = true;
    }

    /// Lets everybody read it.
    pub fn set_public_read(&self, id: ConversationId) {
        self.state().conversations.get_mut(&id).unwrap().public_read = true;
    }

    fn tell(&self, state: &mut State, id: ConversationId, payload: Payload) {
        state.facts.push(pb::ConversationFact {
            position: state.facts.len() as i64 + 1,
            event_id: EventId::generate().to_string(),
            occur_time: Some(self.clock.now().to_proto()),
            conversation_id: id.to_string(),
            membership_version: state
                .conversations
                .get(&id)
                .map_or(1_000, |conversation| conversation.version),
            actor_user_id: String::new(),
            payload: Some(payload),
        });
    }

    /// The way to auth.
    pub fn auth(&self) -> Transport {
        let others = self.clone();
        let introspect = rpc(move |request: Request<auth::IntrospectRequest>| {
            let others = others.clone();
            async move {
                if others.state().slow_tokens {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
                let user = UserId::parse(&request.get_ref().session_token).ok();
                let known = user.filter(|user| others.state().users.contains(user));
                let caller = known.map(|user| auth::CallerInfo {
                    user_id: user.to_string(),
                    session_id: others.session_of(user).to_string(),
                    kind: match others.state().guests.contains(&user) {
                        true => auth::UserKind::Guest.into(),
                        false => auth::UserKind::Registered.into(),
                    },
                    ..Default::default()
                });
                Ok(auth::IntrospectResponse { caller })
            }
        });
        let users = |method: &str| format!("/parlor.auth.v1.UserService/{method}");
        let router = Router::new()
            .route("/parlor.auth.v1.AuthService/Introspect", introspect)
            .route("/parlor.auth.v1.AuthService/ListUserFacts", self.rpc(Self::list_user_facts))
            .route("/parlor.auth.v1.AuthService/ListSessions", self.rpc(Self::list_sessions))
            .route(&users("GetUser"), self.rpc(Self::get_user))
            .route(&users("ListDeviceKeys"), self.rpc(Self::list_device_keys))
            .route(&users("BatchGetUsers"), self.rpc(Self::batch_get_users));
        Transport::local(router)
    }

    fn get_user(&self, request: &Request<auth::GetUserRequest>) -> Result<auth::GetUserResponse, Status> {
        let id = self.known_user(request, &request.get_ref().user_id)?;
        let user = auth::User { user_id: id.to_string(), ..Default::default() };
        Ok(auth::GetUserResponse { user: Some(user) })
    }

    fn list_sessions(
        &self,
        request: &Request<auth::ListSessionsRequest>,
    ) -> Result<auth::ListSessionsResponse, Status> {
        let user = request.metadata().get("x-parlor-on-behalf-of").expect("on behalf of somebody");
        let state = self.state();
        if state.auth_is_down {
            return Err(Status::unavailable("down"));
        }
        let session = state.sessions.get(&user_id(user.to_str().unwrap())).copied();
        let session = session.map(|id| auth::Session { session_id: id.to_string(), ..Default::default() });
        Ok(auth::ListSessionsResponse { sessions: session.into_iter().collect() })
    }

    fn list_device_keys(
        &self,
        request: &Request<auth::ListDeviceKeysRequest>,
    ) -> Result<auth::ListDeviceKeysResponse, Status> {
        let id = self.known_user(request, &request.get_ref().user_id)?;
        let device_keys = self.state().device_keys.get(&id).cloned().unwrap_or_default();
        Ok(auth::ListDeviceKeysResponse { device_keys })
    }

    /// A user that somebody asks for, on whose behalf there has to be somebody.
    fn known_user<Q>(&self, request: &Request<Q>, id: &str) -> Result<UserId, Status> {
        request.metadata().get("x-parlor-on-behalf-of").expect("on behalf of somebody");
        let known = user_id(id);
        if self.state().users.contains(&known) {
            return Ok(known);
        }
        Err(Fault::new(Code::NotFound, "ERROR_REASON_USER_NOT_FOUND").with("user_id", id).into())
    }

    fn batch_get_users(
        &self,
        request: &Request<auth::BatchGetUsersRequest>,
    ) -> Result<auth::BatchGetUsersResponse, Status> {
        request.metadata().get("x-parlor-on-behalf-of").expect("on behalf of somebody");
        let mut state = self.state();
        state.lookups += 1;
        if state.auth_is_down {
            return Err(Status::unavailable("down"));
        }
        let user = |(name, id): (&String, &UserId)| auth::User {
            user_id: id.to_string(),
            username: name.clone(),
            ..Default::default()
        };
        let names = request.get_ref().usernames.iter().map(|name| name.to_lowercase());
        let mut users: Vec<_> = names.filter_map(|name| state.names.get_key_value(&name).map(user)).collect();
        for id in request.get_ref().user_ids.iter().map(|id| user_id(id)) {
            let username = state.names.iter().find(|(_, named)| **named == id);
            users.push(auth::User {
                user_id: id.to_string(),
                username: username.map(|(name, _)| name.clone()).unwrap_or_default(),
                display_name: state.display_names.get(&id).cloned().unwrap_or_default(),
                ..Default::default()
            });
        }
        Ok(auth::BatchGetUsersResponse { users })
    }

    fn list_user_facts(
        &self,
        request: &Request<auth::ListUserFactsRequest>,
    ) -> Result<auth::ListUserFactsResponse, Status> {
        let after = usize::try_from(request.get_ref().after_position).unwrap();
        let state = self.state();
        let at = after.checked_sub(1).and_then(|index| state.user_facts.get(index));
        Ok(auth::ListUserFactsResponse {
            facts: state.user_facts.iter().skip(after).take(3).cloned().collect(),
            epoch: "the only one".to_owned(),
            head_position: state.user_facts.len() as i64,
            after_event_id: at.map(|fact| fact.event_id.clone()).unwrap_or_default(),
        })
    }

    /// The way to conversation.
    pub fn conversation(&self) -> Transport {
        let router = Router::new()
            .route(&path("CheckAccess"), self.rpc(Self::check_access))
            .route(&path("OpenMessageRequest"), self.rpc(Self::open_message_request))
            .route(&path("ListMemberships"), self.rpc(Self::list_memberships))
            .route(&path("ListMembers"), self.rpc(Self::list_members))
            .route(&path("BatchGetConversations"), self.rpc(Self::batch_get))
            .route(&path("CreateConversation"), self.rpc(Self::create_conversation))
            .route(&path("ListConversationFacts"), self.rpc(Self::list_facts));
        Transport::local(router)
    }

    fn rpc<Q, A>(&self, answer: fn(&Self, &Request<Q>) -> Result<A, Status>) -> MethodRouter
    where
        Q: Message + Default + Incoming + Send + Sync + 'static,
        A: Message + Default + Incoming + Send + Sync + 'static,
    {
        let others = self.clone();
        rpc(move |request: Request<Q>| {
            let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
            let outcome = if shown != Some(&format!("Service messaging:{SECRET}")) {
                Err(Status::unauthenticated("who?"))
            } else if others.state().is_down {
                Err(Status::unavailable("down"))
            } else {
                answer(&others, &request)
            };
            std::future::ready(outcome)
        })
    }

    fn check_access(
        &self,
        request: &Request<pb::CheckAccessRequest>,
    ) -> Result<pb::CheckAccessResponse, Status> {
        let mut state = self.state();
        state.checks += 1;
        let answer = |question: &pb::AccessQuestion| {
            let (id, user) = (conversation_id(&question.conversation_id), user_id(&question.user_id));
            access(&state, id, user)
        };
        Ok(pb::CheckAccessResponse { answers: request.get_ref().questions.iter().map(answer).collect() })
    }

    fn open_message_request(
        &self,
        request: &Request<pb::OpenMessageRequestRequest>,
    ) -> Result<pb::OpenMessageRequestResponse, Status> {
        let (id, user) =
            (conversation_id(&request.get_ref().conversation_id), user_id(&request.get_ref().user_id));
        let mut state = self.state();
        state.opened += 1;
        if state.no_more_requests {
            let fault = Fault::new(Code::ResourceExhausted, "ERROR_REASON_RATE_LIMITED");
            return Err(fault.retry_after(Duration::from_secs(60)).into());
        }
        let conversation = state.conversations.get_mut(&id).unwrap();
        if let Some(stranger @ Stranger::Unknown) = conversation.strangers.get_mut(&user) {
            conversation.version += 1;
            let asking =
                Asking { request_id: EventId::generate().to_string(), request_version: conversation.version };
            *stranger = Stranger::Waits(asking.clone());
            let to = *conversation.members.keys().find(|member| **member != user).unwrap();
            let changed = pb::RequestChanged {
                request_id: asking.request_id,
                kind: pb::RequestKind::Message.into(),
                from_user_id: user.to_string(),
                to_user_id: to.to_string(),
                state: pb::RequestState::Pending.into(),
                version: 1,
                request_version: asking.request_version,
                only_user_id: String::new(),
            };
            self.tell(&mut state, id, Payload::RequestChanged(changed));
        }
        Ok(pb::OpenMessageRequestResponse { access: Some(access(&state, id, user)) })
    }

    fn list_memberships(
        &self,
        request: &Request<pb::ListMembershipsRequest>,
    ) -> Result<pb::ListMembershipsResponse, Status> {
        let state = self.state();
        if state.memberships_are_down {
            return Err(Status::unavailable("down"));
        }
        let user = user_id(&request.get_ref().user_id);
        let version = state.versions.get(&user).copied().unwrap_or(0) + 1;
        if version == request.get_ref().known_version {
            return Ok(pb::ListMembershipsResponse { version, unchanged: true, memberships: vec![] });
        }
        let membership = |(id, conversation): (&ConversationId, &Conversation)| {
            let (role, since) = conversation.members.get(&user)?;
            Some(pb::Membership {
                conversation_id: id.to_string(),
                role: (*role).into(),
                kind: conversation.kind.into(),
                join_time: Some(since.to_proto()),
            })
        };
        let memberships = state.conversations.iter().filter_map(membership).collect();
        Ok(pb::ListMembershipsResponse { version, unchanged: false, memberships })
    }

    /// Two to a page, in the order of their ids.
    fn list_members(
        &self,
        request: &Request<pb::ListMembersRequest>,
    ) -> Result<pb::ListMembersResponse, Status> {
        const PAGE: usize = 2;
        let viewer = request.metadata().get("x-parlor-on-behalf-of").and_then(|value| value.to_str().ok());
        let viewer = user_id(viewer.expect("on behalf of somebody"));
        let (state, request) = (self.state(), request.get_ref());
        let conversation = state.conversations.get(&conversation_id(&request.conversation_id));
        let members = match conversation {
            Some(conversation) if conversation.members.contains_key(&viewer) => &conversation.members,
            _ => return Err(Fault::new(Code::NotFound, "ERROR_REASON_CONVERSATION_NOT_FOUND").into()),
        };
        let wanted = members
            .iter()
            .filter(|(user, (role, _))| *role >= request.at_least() && user.to_string() > request.page_token);
        let wanted: Vec<_> = wanted.map(|(user, membership)| member(*user, membership)).collect();
        let page = &wanted[..wanted.len().min(PAGE)];
        let last = page.last().filter(|_| wanted.len() > PAGE);
        let next_page_token = last.map(|last| last.user_id.clone()).unwrap_or_default();
        Ok(pb::ListMembersResponse { members: page.to_vec(), next_page_token })
    }

    fn batch_get(
        &self,
        request: &Request<pb::BatchGetConversationsRequest>,
    ) -> Result<pb::BatchGetConversationsResponse, Status> {
        let state = self.state();
        let user = user_id(&request.get_ref().user_id);
        let wanted = request.get_ref().conversation_ids.iter().map(|id| conversation_id(id));
        let describe = |id: ConversationId| {
            let conversation =
                state.conversations.get(&id).filter(|found| found.members.contains_key(&user))?;
            Some(pb::Conversation {
                peer_user_id: peer_of(conversation, user),
                ..described(id, conversation)
            })
        };
        Ok(pb::BatchGetConversationsResponse { conversations: wanted.filter_map(describe).collect() })
    }

    fn create_conversation(
        &self,
        request: &Request<pb::CreateConversationRequest>,
    ) -> Result<pb::CreateConversationResponse, Status> {
        let owner = request.metadata().get("x-parlor-on-behalf-of").and_then(|value| value.to_str().ok());
        let mut users = vec![user_id(owner.expect("on behalf of somebody"))];
        for other in &request.get_ref().user_ids {
            if !self.state().users.contains(&user_id(other)) {
                let fault = Fault::new(Code::NotFound, "ERROR_REASON_USER_NOT_FOUND").with("user_id", other);
                return Err(fault.into());
            }
            users.push(user_id(other));
        }
        let kind = request.get_ref().kind();
        let mut sorted = users.clone();
        sorted.sort_unstable();
        let found = self
            .state()
            .conversations
            .iter()
            .find(|(_, one)| one.kind == kind && one.members.keys().copied().eq(sorted.iter().copied()))
            .map(|(id, _)| *id);
        let id = found.unwrap_or_else(|| self.create(kind, &users));
        let conversation = self.state().conversations.get(&id).map(|one| described(id, one));
        Ok(pb::CreateConversationResponse { conversation, created: found.is_none() })
    }

    fn list_facts(
        &self,
        request: &Request<pb::ListConversationFactsRequest>,
    ) -> Result<pb::ListConversationFactsResponse, Status> {
        let after = usize::try_from(request.get_ref().after_position).unwrap();
        let state = self.state();
        let facts =
            state.facts.iter().skip(after).take(if state.facts_held { 0 } else { 3 }).cloned().collect();
        Ok(pb::ListConversationFactsResponse { facts, ..Default::default() })
    }
}

fn path(method: &str) -> String {
    format!("/parlor.conversation.v1.ConversationService/{method}")
}

fn described(id: ConversationId, conversation: &Conversation) -> pb::Conversation {
    pb::Conversation {
        conversation_id: id.to_string(),
        kind: conversation.kind.into(),
        title: conversation.title.clone(),
        member_count: conversation.members.len() as i32,
        membership_version: conversation.version,
        ..Default::default()
    }
}

/// The other one in a direct conversation.
fn peer_of(conversation: &Conversation, user: UserId) -> String {
    let is_direct = conversation.kind == ConversationKind::Direct;
    let peer = conversation.members.keys().find(|member| is_direct && **member != user);
    peer.map(ToString::to_string).unwrap_or_default()
}

/// What somebody may do in a conversation now.
fn access(state: &State, id: ConversationId, user: UserId) -> pb::Access {
    let Some(conversation) = state.conversations.get(&id) else { return pb::Access::default() };
    let role = conversation.members.get(&user).map(|(role, _)| *role);
    let is_paced = role == Some(MemberRole::Member);
    let stranger = conversation.strangers.get(&user);
    let is_refused = matches!(stranger, Some(Stranger::Rejected | Stranger::Blocked));
    pb::Access {
        exists: true,
        visible: role.is_some() || conversation.public_read || conversation.kind == ConversationKind::Room,
        may_read: role.is_some() || conversation.public_read,
        may_write: role.is_some_and(|role| role > MemberRole::Muted)
            && !is_refused
            && (conversation.kind != ConversationKind::Direct || conversation.members.len() > 1),
        role: role.unwrap_or(MemberRole::Unspecified).into(),
        kind: conversation.kind.into(),
        membership_version: conversation.version,
        slow_mode_millis: if is_paced { conversation.slow_mode.as_millis() as i64 } else { 0 },
        secure: conversation.secure,
        request_version: match stranger {
            Some(Stranger::Waits(asking)) => asking.request_version,
            _ => 0,
        },
        request_needed: matches!(stranger, Some(Stranger::Unknown)),
        request_unheard: false,
        peer_gone: conversation.kind == ConversationKind::Direct && conversation.members.len() < 2,
    }
}

fn member(user: UserId, (role, since): &(MemberRole, Timestamp)) -> pb::Member {
    pb::Member { user_id: user.to_string(), role: (*role).into(), join_time: Some(since.to_proto()) }
}

fn conversation_id(text: &str) -> ConversationId {
    ConversationId::parse(text).unwrap()
}

fn user_id(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

/// One rpc, served as the generated servers do it, without the others of its service.
fn rpc<Q, A, W, F>(answer: W) -> MethodRouter
where
    Q: Message + Default + Incoming + Send + Sync + 'static,
    A: Message + Default + Incoming + Send + Sync + 'static,
    W: Fn(Request<Q>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<A, Status>> + Send + 'static,
{
    post(move |request: axum::extract::Request| {
        let answer = answer.clone();
        async move {
            let handler = service_fn(move |request: Request<Q>| {
                let answered = answer(request);
                async move { answered.await.map(Response::new) }
            });
            let response = tonic::server::Grpc::new(Codec::<A, Q>::default()).unary(handler, request).await;
            response.map(axum::body::Body::new)
        }
    })
}
