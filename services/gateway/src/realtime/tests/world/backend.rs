//! What the services behind the gateway know and do.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chassis::clock::Timestamp;
use chassis::events::Events;
use chassis::fault::Fault;
use chassis::transport::Transport;
use prost::Message as _;
use proto::auth::v1 as auth;
use proto::conversation::v1 as conversation;
use proto::id::{ConversationId, MessageId, SessionId, UserId};
use proto::messaging::v1 as messaging;
use proto::messaging::v1::{Event, Notice, UserEvent, event, notice, user_event};
use proto::scheduling::v1 as scheduling;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

use super::Person;

pub(super) type Reply<T> = Result<Response<T>, Status>;

/// What the services know.
#[derive(Default)]
pub(crate) struct Facts {
    pub(super) epoch: String,
    pub(crate) sessions: HashMap<String, (UserId, SessionId)>,
    pub(super) conversations: HashMap<ConversationId, Conversation>,
    pub(super) users: HashMap<UserId, Vec<UserEvent>>,
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
    /// The reports about devices.
    pub(crate) devices: Vec<scheduling::ReportDevicesRequest>,
    /// Takes in none of the next report.
    pub(crate) forget_who_is_here: bool,
    /// The positions of event streams, by user and id.
    pub(crate) checkpoints: HashMap<(UserId, String), Vec<u8>>,
    /// No positions can be kept.
    pub(crate) keep_no_checkpoints: bool,
    /// By ticket: the token of its session, and the key of the stream that it was used for.
    pub(crate) tickets: HashMap<String, (String, Option<Vec<u8>>)>,
    /// What was asked, by rpc.
    pub(crate) asked: BTreeMap<&'static str, usize>,
}

#[derive(Default)]
pub(super) struct Conversation {
    pub(super) members: BTreeSet<UserId>,
    pub(super) version: i64,
    pub(super) public_read: bool,
    pub(super) events: Vec<Event>,
}

/// The services behind the gateway, and the bus.
#[derive(Clone)]
pub(crate) struct Backend {
    pub(super) facts: Arc<Mutex<Facts>>,
    pub(crate) events: Events,
}

impl Backend {
    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to the services.
    pub(super) fn transport(&self) -> Transport {
        let routes = Routes::new(auth::auth_service_server::AuthServiceServer::new(self.clone()))
            .add_service(conversation::conversation_service_server::ConversationServiceServer::new(
                self.clone(),
            ))
            .add_service(conversation::presence_service_server::PresenceServiceServer::new(self.clone()))
            .add_service(messaging::messaging_service_server::MessagingServiceServer::new(self.clone()))
            .add_service(messaging::sync_service_server::SyncServiceServer::new(self.clone()))
            .add_service(scheduling::call_service_server::CallServiceServer::new(self.clone()));
        Transport::local(routes.into_axum_router())
    }

    pub(super) fn asked(&self, rpc: &'static str) {
        *self.facts().asked.entry(rpc).or_default() += 1;
    }

    pub(super) fn hint(&self, subject: &str, notice: notice::Notice) {
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

    /// A receipt arrives, whatever was before it.
    pub(crate) fn receipt(&self, conversation: ConversationId, user: UserId, place: i64) {
        let watermark = messaging::Watermark {
            conversation_id: conversation.to_string(),
            user_id: user.to_string(),
            delivered_sequence: place,
            read_sequence: place,
            ..messaging::Watermark::default()
        };
        self.hint(&proto::subject::conversation(conversation), notice::Notice::Receipt(watermark));
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
        let made = Conversation { members: members_now, version: 1, public_read: false, events: Vec::new() };
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

    /// Lets everybody read a conversation, or only its members again.
    pub(crate) fn set_public_read(&self, id: ConversationId, public_read: bool) {
        let actor = {
            let mut facts = self.facts();
            let conversation = facts.conversations.get_mut(&id).expect("a conversation");
            conversation.public_read = public_read;
            conversation.version += 1;
            *conversation.members.first().expect("a member")
        };
        let updated = conversation::ConversationUpdated::default();
        self.append(id, actor, event::Payload::ConversationUpdated(updated));
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

    /// The user of a request; `None` for the anonymous viewer, for whom the gateway asks with its own credential.
    pub(super) fn viewer<T>(&self, request: &Request<T>) -> Result<Option<UserId>, Status> {
        let text = |name: &str| request.metadata().get(name).and_then(|value| value.to_str().ok());
        let is_service = text("authorization").is_some_and(|value| value.starts_with("Service "));
        match is_service && text("x-parlor-on-behalf-of").is_none() {
            true => Ok(None),
            false => self.who(request).map(Some),
        }
    }

    pub(super) fn who<T>(&self, request: &Request<T>) -> Result<UserId, Status> {
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

    pub(super) fn send(
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

pub(super) fn not_found() -> Status {
    Fault::new(Code::NotFound, "ERROR_REASON_CONVERSATION_NOT_FOUND").into()
}

pub(super) fn parse(id: &str) -> ConversationId {
    ConversationId::parse(id).expect("an id that was checked")
}
