//! A world for the tests: a real gateway at a free port, and the services behind it in a few lines each.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chassis::clock::{Clock, Timestamp};
use chassis::config::Secret;
use chassis::events::Events;
use chassis::fault::Fault;
use chassis::identity::{ServiceCredential, Verifier};
use chassis::profile::Profile;
use chassis::transport::Transport;
use chassis::unit::Unit;
use futures_util::{SinkExt, Stream, StreamExt};
use http::HeaderValue;
use prost::Message as _;
use proto::auth::v1 as auth;
use proto::conversation::v1 as conversation;
use proto::gateway::v1::{ClientFrame, ServerFrame};
use proto::id::{ConversationId, MessageId, SessionId, UserId};
use proto::messaging::v1 as messaging;
use proto::messaging::v1::{Event, Notice, UserEvent, event, notice, send_outcome, user_event};
use proto::scheduling::v1 as scheduling;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::{Config, Deps, RatesConfig, SocketsConfig};

/// How long a test waits for what must come.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// How long it waits for what must not come.
pub(crate) const A_WHILE: Duration = Duration::from_millis(400);

type Reply<T> = Result<Response<T>, Status>;

/// What the services know.
#[derive(Default)]
pub(crate) struct Facts {
    epoch: String,
    sessions: HashMap<String, (UserId, SessionId)>,
    conversations: HashMap<ConversationId, Conversation>,
    users: HashMap<UserId, Vec<UserEvent>>,
    /// So many hints are lost.
    pub(crate) lose: usize,
    /// Every hint comes twice.
    pub(crate) double: bool,
    /// So many sends end without an outcome: the stream breaks.
    pub(crate) break_streams: usize,
    /// How long a send takes.
    pub(crate) send_takes: Duration,
    /// How long the next signals of calls take, each.
    pub(crate) signals_take: VecDeque<Duration>,
    /// How long sessions last from the next look at them on; for ever when absent.
    pub(crate) sessions_last: Option<Duration>,
    /// What was reported of who is here.
    pub(crate) reports: Vec<conversation::ReportPresenceRequest>,
    /// Takes in none of the next report.
    pub(crate) forget_who_is_here: bool,
    /// What was asked, by rpc.
    pub(crate) asked: BTreeMap<&'static str, usize>,
}

#[derive(Default)]
struct Conversation {
    members: BTreeSet<UserId>,
    version: i64,
    events: Vec<Event>,
}

/// The services behind the gateway, and the bus.
#[derive(Clone)]
pub(crate) struct Backend {
    facts: Arc<Mutex<Facts>>,
    pub(crate) events: Events,
}

impl Backend {
    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self, rpc: &'static str) {
        *self.facts().asked.entry(rpc).or_default() += 1;
    }

    fn hint(&self, subject: &str, notice: notice::Notice) {
        let times = {
            let mut facts = self.facts();
            if facts.lose > 0 {
                facts.lose -= 1;
                0
            } else if facts.double {
                2
            } else {
                1
            }
        };
        let payload = Bytes::from(Notice { notice: Some(notice) }.encode_to_vec());
        for _ in 0..times {
            self.events.publish(subject, payload.clone());
        }
    }

    /// Something happens in a conversation.
    pub(crate) fn append(&self, id: ConversationId, actor: UserId, payload: event::Payload) -> Event {
        let event = {
            let mut facts = self.facts();
            let epoch = facts.epoch.clone();
            let conversation = facts.conversations.get_mut(&id).expect("a conversation");
            let mut event = Event {
                conversation_id: id.to_string(),
                sequence: conversation.events.len() as i64 + 1,
                epoch,
                membership_version: conversation.version,
                occur_time: Some(Timestamp::from_millis(1_763_640_000_000).to_proto()),
                actor_user_id: actor.to_string(),
                payload: Some(payload),
            };
            if let Some(event::Payload::MessageCreated(message)) = &mut event.payload {
                message.sequence = event.sequence;
            }
            conversation.events.push(event.clone());
            event
        };
        self.hint(&proto::subject::conversation(id), notice::Notice::Event(event.clone()));
        event
    }

    fn tell(&self, user: UserId, payload: user_event::Payload) {
        let event = {
            let mut facts = self.facts();
            let epoch = facts.epoch.clone();
            let log = facts.users.entry(user).or_default();
            let event =
                UserEvent { sequence: log.len() as i64 + 1, epoch, occur_time: None, payload: Some(payload) };
            log.push(event.clone());
            event
        };
        self.hint(&proto::subject::user(user), notice::Notice::UserEvent(event));
    }

    /// Somebody says something that is too confidential for the bus: only how far the log has come is told.
    pub(crate) fn whispers(&self, id: ConversationId, sender: UserId, text: &str) {
        self.facts().lose += 1;
        let message = self.says(id, sender, text);
        self.hint_head(id, message.sequence);
    }

    /// Tells how far the log of a conversation has come.
    pub(crate) fn hint_head(&self, id: ConversationId, sequence: i64) {
        let head = messaging::LogHead { conversation_id: id.to_string(), sequence };
        self.hint(&proto::subject::conversation(id), notice::Notice::Head(head));
    }

    /// Somebody says something.
    pub(crate) fn says(&self, id: ConversationId, sender: UserId, text: &str) -> messaging::Message {
        let message = messaging::Message {
            message_id: MessageId::generate().to_string(),
            conversation_id: id.to_string(),
            sender_id: sender.to_string(),
            content: Some(messaging::Content {
                kind: Some(messaging::content::Kind::Text(text.to_owned())),
                ..Default::default()
            }),
            version: 1,
            ..messaging::Message::default()
        };
        match self.append(id, sender, event::Payload::MessageCreated(message)).payload {
            Some(event::Payload::MessageCreated(message)) => message,
            _ => unreachable!("it was put in"),
        }
    }

    /// Makes a conversation; its first event says who is in it.
    pub(crate) fn conversation(&self, members: &[UserId]) -> ConversationId {
        let id = ConversationId::generate();
        let members_now = members.iter().copied().collect();
        let made = Conversation { members: members_now, version: 1, events: Vec::new() };
        self.facts().conversations.insert(id, made);
        let members = members.iter().map(member).collect();
        let created =
            conversation::ConversationCreated { members, ..conversation::ConversationCreated::default() };
        let (users, first) = {
            let members = self.facts().conversations[&id].members.clone();
            let first = *members.first().expect("a member");
            (members, first)
        };
        self.append(id, first, event::Payload::ConversationCreated(created));
        for user in users {
            self.gains(user, id, 0);
        }
        id
    }

    fn gains(&self, user: UserId, id: ConversationId, after_sequence: i64) {
        let gained = messaging::ConversationGained { conversation_id: id.to_string(), after_sequence };
        self.tell(user, user_event::Payload::ConversationGained(gained));
    }

    /// Somebody comes in.
    pub(crate) fn comes_in(&self, id: ConversationId, user: UserId) {
        {
            let mut facts = self.facts();
            let conversation = facts.conversations.get_mut(&id).expect("a conversation");
            conversation.members.insert(user);
            conversation.version += 1;
        }
        let added = conversation::MembersAdded { members: vec![member(&user)] };
        let event = self.append(id, user, event::Payload::MembersAdded(added));
        self.gains(user, id, event.sequence - 1);
    }

    /// Somebody is out: it holds at once, but nothing says so on the bus.
    pub(crate) fn is_out(&self, id: ConversationId, user: UserId) {
        let mut facts = self.facts();
        let conversation = facts.conversations.get_mut(&id).expect("a conversation");
        conversation.members.remove(&user);
        conversation.version += 1;
    }

    /// The events that say that somebody is out.
    pub(crate) fn says_who_is_out(&self, id: ConversationId, user: UserId) {
        let reason = conversation::RemovalReason::Removed.into();
        let removed = conversation::MemberRemoved { user_id: user.to_string(), reason };
        self.append(id, user, event::Payload::MemberRemoved(removed));
        let lost = messaging::ConversationLost { conversation_id: id.to_string(), reason };
        self.tell(user, user_event::Payload::ConversationLost(lost));
    }

    /// Ends a session without a word.
    pub(crate) fn forgets(&self, person: &Person) {
        self.facts().sessions.remove(&person.token);
    }

    /// Ends a session, and says so on the bus.
    pub(crate) fn signs_out(&self, person: &Person) {
        self.forgets(person);
        let ended = auth::SessionsEnded {
            user_id: person.id.to_string(),
            session_ids: vec![person.session.to_string()],
        };
        self.events.publish(proto::subject::SESSIONS_ENDED, ended.encode_to_vec().into());
    }

    /// The database is restored from a backup.
    pub(crate) fn begins_a_new_epoch(&self) {
        self.facts().epoch = "epoch-2".to_owned();
    }

    fn who<T>(&self, request: &Request<T>) -> Result<UserId, Status> {
        let text = |name: &str| request.metadata().get(name).and_then(|value| value.to_str().ok());
        if let Some(user) = text("x-parlor-on-behalf-of") {
            return UserId::parse(user).map_err(|_| Status::invalid_argument("no user"));
        }
        let token = text("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        self.user_of(token)
    }

    fn user_of(&self, token: &str) -> Result<UserId, Status> {
        let known = self.facts().sessions.get(token).map(|(user, _)| *user);
        known.ok_or_else(|| Fault::new(Code::Unauthenticated, "ERROR_REASON_UNAUTHENTICATED").into())
    }

    fn send(
        &self,
        token: &str,
        request: messaging::SendMessageRequest,
    ) -> Result<messaging::SendMessageResponse, Status> {
        let user = self.user_of(token)?;
        let Some(messaging::send_message_request::Target::ConversationId(id)) = request.target else {
            return Err(Fault::invalid("target", "must be a conversation").into());
        };
        let id =
            ConversationId::parse(&id).map_err(|_| Fault::invalid("conversation_id", "must be a UUID"))?;
        let (known, is_in) = {
            let facts = self.facts();
            let conversation = facts.conversations.get(&id);
            let is_in = conversation.is_some_and(|conversation| conversation.members.contains(&user));
            let known = conversation.and_then(|conversation| {
                conversation.events.iter().find_map(|event| match &event.payload {
                    Some(event::Payload::MessageCreated(message))
                        if message.client_message_id == request.client_message_id
                            && !request.client_message_id.is_empty() =>
                    {
                        Some(message.clone())
                    }
                    _ => None,
                })
            });
            (known, is_in)
        };
        if !is_in {
            return Err(not_found());
        }
        if let Some(message) = known {
            return Ok(messaging::SendMessageResponse { message: Some(message), repeated: true });
        }
        let message = messaging::Message {
            message_id: MessageId::generate().to_string(),
            conversation_id: id.to_string(),
            sender_id: user.to_string(),
            client_message_id: request.client_message_id,
            content: request.content,
            version: 1,
            ..messaging::Message::default()
        };
        let event = self.append(id, user, event::Payload::MessageCreated(message));
        let message = match event.payload {
            Some(event::Payload::MessageCreated(message)) => Some(message),
            _ => None,
        };
        Ok(messaging::SendMessageResponse { message, repeated: false })
    }
}

fn member(user: &UserId) -> conversation::Member {
    conversation::Member {
        user_id: user.to_string(),
        role: conversation::MemberRole::Member.into(),
        join_time: None,
    }
}

fn not_found() -> Status {
    Fault::new(Code::NotFound, "ERROR_REASON_CONVERSATION_NOT_FOUND").into()
}

fn parse(id: &str) -> ConversationId {
    ConversationId::parse(id).expect("an id that was checked")
}

/// Implements a service: what is given, and a refusal for the rest.
macro_rules! service {
    ($trait:path { $($real:tt)* } absent { $($name:ident($request:ty) -> $response:ty;)* }) => {
        #[tonic::async_trait]
        impl $trait for Backend {
            $($real)*
            $(async fn $name(&self, _: Request<$request>) -> Reply<$response> {
                Err(Status::unimplemented("not in this world"))
            })*
        }
    };
}

service!(auth::auth_service_server::AuthService {
    async fn introspect(&self, request: Request<auth::IntrospectRequest>) -> Reply<auth::IntrospectResponse> {
        self.asked("Introspect");
        let facts = self.facts();
        let now = Clock::system().now();
        let expires = facts.sessions_last.map_or(i64::MAX, |span| now.plus(span).as_millis());
        let caller = facts.sessions.get(&request.get_ref().session_token).map(|(user, session)| auth::CallerInfo {
            user_id: user.to_string(),
            session_id: session.to_string(),
            kind: auth::UserKind::Registered.into(),
            expire_millis: expires,
        });
        Ok(Response::new(auth::IntrospectResponse { caller }))
    }
} absent {
    register(auth::RegisterRequest) -> auth::RegisterResponse;
    login(auth::LoginRequest) -> auth::LoginResponse;
    login_as_guest(auth::LoginAsGuestRequest) -> auth::LoginAsGuestResponse;
    refresh_session(auth::RefreshSessionRequest) -> auth::RefreshSessionResponse;
    logout(auth::LogoutRequest) -> auth::LogoutResponse;
    list_sessions(auth::ListSessionsRequest) -> auth::ListSessionsResponse;
    revoke_session(auth::RevokeSessionRequest) -> auth::RevokeSessionResponse;
    change_password(auth::ChangePasswordRequest) -> auth::ChangePasswordResponse;
    suggest_credentials(auth::SuggestCredentialsRequest) -> auth::SuggestCredentialsResponse;
    list_providers(auth::ListProvidersRequest) -> auth::ListProvidersResponse;
    login_with_provider(auth::LoginWithProviderRequest) -> auth::LoginWithProviderResponse;
    link_provider(auth::LinkProviderRequest) -> auth::LinkProviderResponse;
    list_linked_providers(auth::ListLinkedProvidersRequest) -> auth::ListLinkedProvidersResponse;
    unlink_provider(auth::UnlinkProviderRequest) -> auth::UnlinkProviderResponse;
    list_user_facts(auth::ListUserFactsRequest) -> auth::ListUserFactsResponse;
});

service!(conversation::conversation_service_server::ConversationService {
    async fn get_conversation(
        &self,
        request: Request<conversation::GetConversationRequest>,
    ) -> Reply<conversation::GetConversationResponse> {
        let user = self.who(&request)?;
        let id = parse(&request.get_ref().conversation_id);
        let facts = self.facts();
        let found = facts.conversations.get(&id).filter(|found| found.members.contains(&user));
        let found = found.ok_or_else(not_found)?;
        let conversation = conversation::Conversation {
            conversation_id: id.to_string(),
            member_count: found.members.len() as i32,
            membership_version: found.version,
            ..conversation::Conversation::default()
        };
        Ok(Response::new(conversation::GetConversationResponse { conversation: Some(conversation) }))
    }

    async fn check_access(
        &self,
        request: Request<conversation::CheckAccessRequest>,
    ) -> Reply<conversation::CheckAccessResponse> {
        self.asked("CheckAccess");
        let facts = self.facts();
        let answer = |question: &conversation::AccessQuestion| {
            let user = UserId::parse(&question.user_id).expect("a user");
            let conversation = facts.conversations.get(&parse(&question.conversation_id));
            let is_in = conversation.is_some_and(|conversation| conversation.members.contains(&user));
            conversation::Access {
                exists: conversation.is_some(),
                visible: is_in,
                may_read: is_in,
                may_write: is_in,
                membership_version: conversation.map_or(0, |conversation| conversation.version),
                ..conversation::Access::default()
            }
        };
        let answers = request.get_ref().questions.iter().map(answer).collect();
        Ok(Response::new(conversation::CheckAccessResponse { answers }))
    }

    async fn list_memberships(
        &self,
        request: Request<conversation::ListMembershipsRequest>,
    ) -> Reply<conversation::ListMembershipsResponse> {
        self.asked("ListMemberships");
        let user = UserId::parse(&request.get_ref().user_id).expect("a user");
        let facts = self.facts();
        let of_user = facts.conversations.iter().filter(|(_, conversation)| conversation.members.contains(&user));
        let memberships: Vec<_> = of_user
            .map(|(id, _)| conversation::Membership { conversation_id: id.to_string(), ..Default::default() })
            .collect();
        let version = facts.users.get(&user).map_or(1, |log| log.len() as i64 + 1);
        let unchanged = request.get_ref().known_version == version;
        let memberships = if unchanged { Vec::new() } else { memberships };
        Ok(Response::new(conversation::ListMembershipsResponse { version, unchanged, memberships }))
    }
} absent {
    create_conversation(conversation::CreateConversationRequest) -> conversation::CreateConversationResponse;
    list_conversations(conversation::ListConversationsRequest) -> conversation::ListConversationsResponse;
    update_conversation(conversation::UpdateConversationRequest) -> conversation::UpdateConversationResponse;
    delete_conversation(conversation::DeleteConversationRequest) -> conversation::DeleteConversationResponse;
    join_conversation(conversation::JoinConversationRequest) -> conversation::JoinConversationResponse;
    leave_conversation(conversation::LeaveConversationRequest) -> conversation::LeaveConversationResponse;
    add_members(conversation::AddMembersRequest) -> conversation::AddMembersResponse;
    remove_member(conversation::RemoveMemberRequest) -> conversation::RemoveMemberResponse;
    list_members(conversation::ListMembersRequest) -> conversation::ListMembersResponse;
    set_member_role(conversation::SetMemberRoleRequest) -> conversation::SetMemberRoleResponse;
    transfer_ownership(conversation::TransferOwnershipRequest) -> conversation::TransferOwnershipResponse;
    ban_member(conversation::BanMemberRequest) -> conversation::BanMemberResponse;
    unban_member(conversation::UnbanMemberRequest) -> conversation::UnbanMemberResponse;
    list_bans(conversation::ListBansRequest) -> conversation::ListBansResponse;
    batch_get_conversations(conversation::BatchGetConversationsRequest) -> conversation::BatchGetConversationsResponse;
    list_conversation_facts(conversation::ListConversationFactsRequest) -> conversation::ListConversationFactsResponse;
    open_message_request(conversation::OpenMessageRequestRequest) -> conversation::OpenMessageRequestResponse;
});

service!(conversation::presence_service_server::PresenceService {
    async fn report_presence(
        &self,
        request: Request<conversation::ReportPresenceRequest>,
    ) -> Reply<conversation::ReportPresenceResponse> {
        let mut facts = self.facts();
        facts.reports.push(request.into_inner());
        let restate = std::mem::take(&mut facts.forget_who_is_here);
        Ok(Response::new(conversation::ReportPresenceResponse { restate }))
    }
} absent {
    get_presence(conversation::GetPresenceRequest) -> conversation::GetPresenceResponse;
    list_online_members(conversation::ListOnlineMembersRequest) -> conversation::ListOnlineMembersResponse;
});

service!(messaging::messaging_service_server::MessagingService {
    type SendMessagesStream = Pin<Box<dyn Stream<Item = Result<messaging::SendMessagesResponse, Status>> + Send>>;

    async fn send_messages(
        &self,
        request: Request<Streaming<messaging::SendMessagesRequest>>,
    ) -> Reply<Self::SendMessagesStream> {
        self.asked("SendMessages");
        let (backend, mut incoming) = (self.clone(), request.into_inner());
        let (outgoing, outcomes) = tokio::sync::mpsc::channel(16);
        let serve = async move {
            while let Ok(Some(batch)) = incoming.message().await {
                for send in batch.sends {
                    let takes = backend.facts().send_takes;
                    tokio::time::sleep(takes).await;
                    let breaks = {
                        let mut facts = backend.facts();
                        let breaks = facts.break_streams > 0;
                        facts.break_streams = facts.break_streams.saturating_sub(1);
                        breaks
                    };
                    let outcome = backend.send(&send.session_token, send.request.unwrap_or_default());
                    if breaks {
                        return;
                    }
                    let outcome = match outcome {
                        Ok(response) => send_outcome::Outcome::Response(response),
                        Err(status) => send_outcome::Outcome::Status(status.details().to_vec()),
                    };
                    let outcome = messaging::SendOutcome { ticket: send.ticket, outcome: Some(outcome) };
                    let _ = outgoing.send(Ok(messaging::SendMessagesResponse { outcomes: vec![outcome] })).await;
                }
            }
        };
        let running = tokio::task::JoinSet::from_iter([serve]);
        let stream = ReceiverStream::new(outcomes);
        let stream = futures_util::stream::unfold((stream, running), |(mut stream, running)| async move {
            stream.next().await.map(|item| (item, (stream, running)))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn advance_watermark(
        &self,
        request: Request<messaging::AdvanceWatermarkRequest>,
    ) -> Reply<messaging::AdvanceWatermarkResponse> {
        let user_id = self.who(&request)?.to_string();
        let request = request.into_inner();
        let watermark = messaging::Watermark {
            user_id,
            conversation_id: request.conversation_id.clone(),
            delivered_sequence: request.read_sequence.max(request.delivered_sequence),
            read_sequence: request.read_sequence,
            update_time: None,
        };
        let subject = proto::subject::conversation(parse(&request.conversation_id));
        self.hint(&subject, notice::Notice::Receipt(watermark.clone()));
        Ok(Response::new(messaging::AdvanceWatermarkResponse { watermark: Some(watermark) }))
    }
} absent {
    send_message(messaging::SendMessageRequest) -> messaging::SendMessageResponse;
    get_message(messaging::GetMessageRequest) -> messaging::GetMessageResponse;
    list_messages(messaging::ListMessagesRequest) -> messaging::ListMessagesResponse;
    edit_message(messaging::EditMessageRequest) -> messaging::EditMessageResponse;
    delete_message(messaging::DeleteMessageRequest) -> messaging::DeleteMessageResponse;
    list_receipts(messaging::ListReceiptsRequest) -> messaging::ListReceiptsResponse;
    get_unread_counts(messaging::GetUnreadCountsRequest) -> messaging::GetUnreadCountsResponse;
    list_revisions(messaging::ListRevisionsRequest) -> messaging::ListRevisionsResponse;
    hide_message(messaging::HideMessageRequest) -> messaging::HideMessageResponse;
    unsend_message(messaging::UnsendMessageRequest) -> messaging::UnsendMessageResponse;
    purge_messages(messaging::PurgeMessagesRequest) -> messaging::PurgeMessagesResponse;
    forward_message(messaging::ForwardMessageRequest) -> messaging::ForwardMessageResponse;
});

/// As few as this, so that tests see pages and holes.
const SYNC_EVENTS: usize = 20;

service!(messaging::sync_service_server::SyncService {
    type StreamEventsStream = Pin<Box<dyn Stream<Item = Result<messaging::StreamEventsResponse, Status>> + Send>>;

    async fn list_events(&self, request: Request<messaging::ListEventsRequest>) -> Reply<messaging::ListEventsResponse> {
        self.asked("ListEvents");
        let user = self.who(&request)?;
        let request = request.into_inner();
        let facts = self.facts();
        let conversation = facts.conversations.get(&parse(&request.conversation_id));
        let conversation = conversation.filter(|conversation| conversation.members.contains(&user));
        let conversation = conversation.ok_or_else(not_found)?;
        let after = conversation.events.iter().filter(|event| event.sequence > request.after_sequence);
        Ok(Response::new(messaging::ListEventsResponse {
            events: after.take(request.limit.clamp(1, 200) as usize).cloned().collect(),
            head_sequence: conversation.events.len() as i64,
            epoch: facts.epoch.clone(),
        }))
    }

    async fn list_user_events(
        &self,
        request: Request<messaging::ListUserEventsRequest>,
    ) -> Reply<messaging::ListUserEventsResponse> {
        let user = self.who(&request)?;
        let request = request.into_inner();
        let facts = self.facts();
        let log = facts.users.get(&user).cloned().unwrap_or_default();
        let head_sequence = log.len() as i64;
        let after = log.into_iter().filter(|event| event.sequence > request.after_sequence);
        let events = after.take(request.limit.clamp(1, 200) as usize).collect();
        Ok(Response::new(messaging::ListUserEventsResponse { events, head_sequence, epoch: facts.epoch.clone() }))
    }

    async fn sync(&self, request: Request<messaging::SyncRequest>) -> Reply<messaging::SyncResponse> {
        self.asked("Sync");
        let user = self.who(&request)?;
        let request = request.into_inner();
        let facts = self.facts();
        let mut response = messaging::SyncResponse { epoch: facts.epoch.clone(), ..Default::default() };
        let knows_something = request.user_sequence > 0 || request.heads.iter().any(|head| head.sequence > 0);
        if request.epoch != facts.epoch && (knows_something || !request.epoch.is_empty()) {
            response.full_sync_required = true;
            return Ok(Response::new(response));
        }
        for head in &request.heads {
            let conversation = facts.conversations.get(&parse(&head.conversation_id));
            let Some(conversation) = conversation.filter(|one| one.members.contains(&user)) else {
                response.gone_conversation_ids.push(head.conversation_id.clone());
                continue;
            };
            let missed: Vec<_> =
                conversation.events.iter().filter(|event| event.sequence > head.sequence).cloned().collect();
            if missed.is_empty() {
                continue;
            }
            let limited = missed.len() > SYNC_EVENTS;
            response.differences.push(messaging::ConversationDifference {
                conversation_id: head.conversation_id.clone(),
                head_sequence: conversation.events.len() as i64,
                events: missed[missed.len().saturating_sub(SYNC_EVENTS)..].to_vec(),
                limited,
                ..Default::default()
            });
        }
        let log = facts.users.get(&user).cloned().unwrap_or_default();
        response.user_head_sequence = log.len() as i64;
        response.user_events = log.into_iter().filter(|event| event.sequence > request.user_sequence).collect();
        response.user_events.truncate(SYNC_EVENTS);
        Ok(Response::new(response))
    }

    async fn stream_events(&self, _: Request<messaging::StreamEventsRequest>) -> Reply<Self::StreamEventsStream> {
        Err(Status::unimplemented("not in this world"))
    }

    async fn send_signal(&self, request: Request<messaging::SendSignalRequest>) -> Reply<messaging::SendSignalResponse> {
        let user_id = self.who(&request)?.to_string();
        let request = request.into_inner();
        let subject = proto::subject::conversation(parse(&request.conversation_id));
        let signal = messaging::Signal { conversation_id: request.conversation_id, user_id, kind: request.kind };
        self.hint(&subject, notice::Notice::Signal(signal));
        Ok(Response::new(messaging::SendSignalResponse {}))
    }

    async fn list_heads(&self, request: Request<messaging::ListHeadsRequest>) -> Reply<messaging::ListHeadsResponse> {
        self.asked("ListHeads");
        let request = request.into_inner();
        let facts = self.facts();
        let conversations = request.conversation_ids.iter().filter_map(|id| {
            let sequence = facts.conversations.get(&parse(id))?.events.len() as i64;
            (sequence > 0).then(|| messaging::Head { conversation_id: id.clone(), sequence })
        });
        let users = request.user_ids.iter().filter_map(|id| {
            let sequence = facts.users.get(&UserId::parse(id).ok()?)?.len() as i64;
            Some(messaging::UserHead { user_id: id.clone(), sequence })
        });
        Ok(Response::new(messaging::ListHeadsResponse {
            epoch: facts.epoch.clone(),
            conversations: conversations.collect(),
            users: users.collect(),
        }))
    }
} absent {
    list_inbox(messaging::ListInboxRequest) -> messaging::ListInboxResponse;
    batch_get_inbox_entries(messaging::BatchGetInboxEntriesRequest) -> messaging::BatchGetInboxEntriesResponse;
});

service!(scheduling::call_service_server::CallService {
    type StreamCallsStream = Pin<Box<dyn Stream<Item = Result<scheduling::StreamCallsResponse, Status>> + Send>>;

    async fn relay_signal(
        &self,
        request: Request<scheduling::RelaySignalRequest>,
    ) -> Reply<scheduling::RelaySignalResponse> {
        let from_user_id = self.who(&request)?.to_string();
        let request = request.into_inner();
        let takes = self.facts().signals_take.pop_front().unwrap_or_default();
        tokio::time::sleep(takes).await;
        // In this world everybody calls oneself.
        let user = UserId::parse(&from_user_id).expect("a user");
        let signal = scheduling::CallSignal {
            call_id: request.call_id,
            from_user_id,
            to_session_id: String::new(),
            payload: request.payload,
        };
        let event = Some(scheduling::call_event::Event::Signal(signal));
        let payload = scheduling::CallEvent { event }.encode_to_vec();
        self.events.publish(&proto::subject::calls(user), payload.into());
        Ok(Response::new(scheduling::RelaySignalResponse {}))
    }

    async fn stream_calls(&self, _: Request<scheduling::StreamCallsRequest>) -> Reply<Self::StreamCallsStream> {
        Err(Status::unimplemented("not in this world"))
    }
} absent {
    start_call(scheduling::StartCallRequest) -> scheduling::StartCallResponse;
    accept_call(scheduling::AcceptCallRequest) -> scheduling::AcceptCallResponse;
    reject_call(scheduling::RejectCallRequest) -> scheduling::RejectCallResponse;
    end_call(scheduling::EndCallRequest) -> scheduling::EndCallResponse;
    mark_call_connected(scheduling::MarkCallConnectedRequest) -> scheduling::MarkCallConnectedResponse;
    mark_call_disconnected(scheduling::MarkCallDisconnectedRequest) -> scheduling::MarkCallDisconnectedResponse;
    get_call(scheduling::GetCallRequest) -> scheduling::GetCallResponse;
    list_calls(scheduling::ListCallsRequest) -> scheduling::ListCallsResponse;
});

/// Somebody with an account.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) id: UserId,
    pub(crate) session: SessionId,
    pub(crate) token: String,
}

/// A gateway, and what is behind it.
pub(crate) struct World {
    pub(crate) backend: Backend,
    pub(crate) unit: Unit,
    pub(crate) address: SocketAddr,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut SocketsConfig)) -> Self {
        Self::configured(|config| change(&mut config.sockets)).await
    }

    pub(crate) async fn rated(change: impl FnOnce(&mut RatesConfig)) -> Self {
        Self::configured(|config| change(&mut config.rates)).await
    }

    async fn configured(change: impl FnOnce(&mut Config)) -> Self {
        let facts = Facts { epoch: "epoch-1".to_owned(), ..Facts::default() };
        let backend = Backend { facts: Arc::new(Mutex::new(facts)), events: Events::local() };
        let routes = Routes::new(auth::auth_service_server::AuthServiceServer::new(backend.clone()))
            .add_service(conversation::conversation_service_server::ConversationServiceServer::new(
                backend.clone(),
            ))
            .add_service(conversation::presence_service_server::PresenceServiceServer::new(backend.clone()))
            .add_service(messaging::messaging_service_server::MessagingServiceServer::new(backend.clone()))
            .add_service(messaging::sync_service_server::SyncServiceServer::new(backend.clone()))
            .add_service(scheduling::call_service_server::CallServiceServer::new(backend.clone()));
        let transport = Transport::local(routes.into_axum_router());
        let credential = ServiceCredential::new("gateway", &Secret::new("secret")).expect("a credential");
        let mut config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() };
        config.rates = RatesConfig { sends_burst: 100_000, sends_per_second: 100_000, ..config.rates };
        config.rates.sends_per_conversation_per_second = 100_000;
        config.sockets.drain_spread = Duration::from_secs(1);
        change(&mut config);
        let deps = Deps {
            auth: transport.clone(),
            conversation: transport.clone(),
            messaging: transport.clone(),
            scheduling: transport.clone(),
            verifier: Verifier::new(transport, Some(credential.clone())),
            credential,
            events: backend.events.clone(),
            clock: Clock::system(),
            profile: Profile::Development,
        };
        let unit = crate::start(config, deps).await.expect("a gateway");
        let address = unit.listening.first().expect("an address").1;
        Self { backend, unit, address }
    }

    pub(crate) fn person(&self) -> Person {
        let (id, session) = (UserId::generate(), SessionId::generate());
        let person = Person { id, session, token: format!("token-{session}") };
        self.backend.facts().sessions.insert(person.token.clone(), (id, session));
        person
    }

    /// The same person on another device.
    pub(crate) fn another_device(&self, of: &Person) -> Person {
        let session = SessionId::generate();
        let person = Person { id: of.id, session, token: format!("token-{session}") };
        self.backend.facts().sessions.insert(person.token.clone(), (person.id, session));
        person
    }

    /// Opens a socket without a word.
    pub(crate) async fn socket(&self) -> Client {
        let url = format!("ws://{}/v1/socket", self.address);
        Client::open(&url, None).await.expect("a socket")
    }

    /// Opens a socket and signs in.
    pub(crate) async fn connect(&self, person: &Person) -> Client {
        let mut client = self.socket().await;
        client.say(json!({"id": "hello", "hello": {"sessionToken": person.token}})).await;
        let ready = client.answer("hello").await;
        assert_eq!(ready["ready"]["userId"], person.id.to_string());
        client
    }

    /// Opens a socket, signs in, and follows a conversation from a sequence on.
    pub(crate) async fn follow(
        &self,
        person: &Person,
        conversation: ConversationId,
        sequence: i64,
    ) -> Client {
        let mut client = self.connect(person).await;
        let heads = json!([{"conversationId": conversation.to_string(), "sequence": sequence}]);
        client.subscribe(json!({"heads": heads, "epoch": "epoch-1"})).await;
        client
    }
}

/// One end of a socket.
pub(crate) struct Client(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub(crate) async fn open(
        url: &str,
        authorization: Option<&str>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let mut request = url.into_client_request()?;
        if let Some(value) = authorization {
            request.headers_mut().insert("authorization", HeaderValue::from_str(value)?);
        }
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Self(socket))
    }

    pub(crate) async fn say(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.expect("sent");
    }

    pub(crate) async fn say_in_binary(&mut self, frame: &ClientFrame) {
        self.0.send(Message::binary(frame.encode_to_vec())).await.expect("sent");
    }

    async fn message(&mut self) -> Message {
        loop {
            let message = tokio::time::timeout(SOON, self.0.next()).await.expect("a frame soon");
            match message.expect("an open socket").expect("a frame") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Value {
        match self.message().await {
            Message::Text(text) => serde_json::from_str(&text).expect("json"),
            other => panic!("not a text frame: {other:?}"),
        }
    }

    pub(crate) async fn next_in_binary(&mut self) -> ServerFrame {
        match self.message().await {
            Message::Binary(bytes) => ServerFrame::decode(bytes).expect("a frame"),
            other => panic!("not a binary frame: {other:?}"),
        }
    }

    /// The answer to a command; what comes before it is not looked at.
    pub(crate) async fn answer(&mut self, id: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["id"] == id {
                return frame;
            }
        }
    }

    /// Subscribes, and returns the answer and everything up to `caught_up`.
    pub(crate) async fn subscribe(&mut self, request: Value) -> (Value, Vec<Value>) {
        self.say(json!({"id": "subscribe", "subscribe": request})).await;
        let subscribed = self.answer("subscribe").await;
        let mut missed = Vec::new();
        loop {
            let frame = self.next().await;
            if frame.get("caughtUp").is_some() {
                return (subscribed, missed);
            }
            missed.push(frame);
        }
    }

    /// The sequences of the next events.
    pub(crate) async fn sequences(&mut self, count: usize) -> Vec<i64> {
        let mut sequences = Vec::new();
        while sequences.len() < count {
            let frame = self.next().await;
            sequences.extend(sequence(&frame));
        }
        sequences
    }

    /// Nothing comes for a while.
    pub(crate) async fn hears_nothing(&mut self) {
        if let Ok(Some(Ok(message))) = tokio::time::timeout(A_WHILE, self.0.next()).await
            && !message.is_ping()
        {
            panic!("something came: {message}");
        }
    }

    /// The code with which the server closes; what comes before it is not looked at.
    pub(crate) async fn close_code(&mut self) -> u16 {
        let closed = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Close(frame))) => return frame.map_or(1005, |frame| frame.code.into()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return 1006,
                }
            }
        };
        tokio::time::timeout(SOON, closed).await.expect("a close soon")
    }
}

/// The sequence of a frame that is an event.
pub(crate) fn sequence(frame: &Value) -> Option<i64> {
    frame["event"]["sequence"].as_str().and_then(|sequence| sequence.parse().ok())
}

pub(crate) fn sequences(frames: &[Value]) -> Vec<i64> {
    frames.iter().filter_map(sequence).collect()
}
