//! The resumption of a connection: from the client's known positions to live, on any gateway, after any absence.
//!
//! The order of the steps makes it exact: first the logs are followed, so that new events are kept
//! ([`super::log_reader`]); then the heads are read, a thousand logs in one call; then the client receives the heads,
//! the missed entries from the log, and at last the kept events. Every event in between is in the log, or kept, or
//! both, and is sent once.
//!
//! There is no buffer of recent events per session: most returning clients have missed little, so the one call that
//! compares all heads is the fast path, and it needs no memory for clients that never return.

mod compare;
mod log_replay;
mod replay;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chassis::fault::Fault;
use chassis::transport::as_service;
use proto::conversation::v1::ListMembershipsRequest;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::gateway::v1::{Subscribe, Subscribed};
use proto::id::ConversationId;
use proto::messaging::v1::{Event, Head, UserEvent, user_event};
use tonic::{Code, Status};

use self::compare::Compared;
pub(crate) use self::log_replay::LogReplay;
use crate::realtime::Realtime;
use crate::realtime::connection::{Connection, End};
use crate::realtime::frame::Frame;
use crate::realtime::hub::Hub;
use crate::realtime::identity::Identity;
use crate::realtime::topic::Key;

/// The pause before the second attempt to read; later pauses are multiples of it.
const PAUSE: Duration = Duration::from_millis(300);

/// Brings one connection of a user up to date.
#[derive(Clone)]
pub(crate) struct Resume {
    log: LogReplay,
    identity: Arc<Identity>,
}

/// The position of a conversation in a resumption.
struct ResumePoint {
    conversation: ConversationId,
    /// The client has everything up to here.
    known: i64,
    /// The log reaches to here at least.
    head: i64,
    /// The events that the comparison has returned, beginning after `known`.
    events: Vec<Event>,
}

impl Resume {
    pub(crate) fn new(realtime: Realtime, connection: Arc<Connection>, identity: Arc<Identity>) -> Self {
        Self { log: LogReplay::new(realtime, connection), identity }
    }

    /// Answers `subscribe`, sends the missed events, and makes the connection live.
    pub(crate) async fn subscribe(self, id: String, request: Subscribe) {
        let answer = |body| Frame::reply(id.clone(), body);
        match self.open(request).await {
            Ok(Opening::FullSync(subscribed)) => {
                self.log.connection.push(answer(Body::Subscribed(subscribed)))
            }
            Ok(Opening::Replay(subscribed, replay)) => {
                self.log.connection.push(answer(Body::Subscribed(subscribed)));
                if let Err(status) = self.replay(replay).await {
                    tracing::warn!(code = ?status.code(), "a replay has failed: {}", status.message());
                    // It has been answered already. The client comes back and resumes from its last position.
                    self.log.connection.end(End::Restart { retry_after: PAUSE });
                }
            }
            Err(status) => self.log.connection.push(Frame::error(id, &status)),
        }
    }

    /// Follows a conversation that the user has joined, on a connection that follows all, from `after` on: the position
    /// at which they joined.
    pub(crate) async fn gained(self, conversation: ConversationId, after: i64) {
        let key = Key::Conversation(conversation);
        if !self.log.connection.follows_all() || self.log.connection.followed().contains(&key) {
            return;
        }
        self.hub().follow(&self.log.connection, &[key], false).await;
        let start = async {
            let known = self.log.read_on(key, after).await?;
            self.log.follow_on(key, known).await
        };
        match start.await {
            Ok(()) => {}
            // The user has left again already.
            Err(status) if is_refusal(&status) => self.hub().unfollow(&self.log.connection, &[key]),
            Err(status) => {
                tracing::warn!(code = ?status.code(), "a new conversation cannot be followed: {}", status.message());
                self.log.connection.end(End::Restart { retry_after: PAUSE });
            }
        }
    }

    /// Stops following the conversations.
    pub(crate) fn unsubscribe(&self, conversations: &[ConversationId]) {
        let keys: Vec<_> = conversations.iter().copied().map(Key::Conversation).collect();
        self.hub().unfollow(&self.log.connection, &keys);
    }

    /// Follows first, then reads the positions.
    async fn open(&self, request: Subscribe) -> Result<Opening, Status> {
        let user = Key::User(self.identity.user_id());
        let wanted = wanted(&request.heads)?;
        let mut memberships = match request.all {
            true => Some(self.memberships(0).await?),
            false => None,
        };

        let already = self.log.connection.followed().clone();
        let listed: Vec<_> = wanted.keys().copied().map(Key::Conversation).collect();
        let user_anew = request.user_sequence > 0 || !already.contains(&user);
        self.hub().follow(&self.log.connection, &listed, true).await;
        self.hub().follow(&self.log.connection, &[user], user_anew).await;
        if request.all {
            self.log.connection.follow_all();
        }

        let looked = async {
            let compared = self.compare(&request, &wanted).await?;
            let mut others = HashMap::new();
            if let Some(found) = memberships.as_mut().filter(|_| !compared.full_sync_required) {
                // Conversations that the user's log is about to announce are followed from there, see `gained`.
                let announced = compared.user_events.iter().filter_map(gained_conversation).map(|(id, _)| id);
                let left_out: HashSet<_> = wanted.keys().copied().chain(announced).collect();
                others = self.follow_others(found, &left_out, &already).await?;
            }
            Ok((compared, others))
        };
        match looked.await {
            Ok((compared, others)) if !compared.full_sync_required => {
                let gone: Vec<_> = compared.gone.iter().copied().map(Key::Conversation).collect();
                self.hub().unfollow(&self.log.connection, &gone);
                Ok(self.opening(&request, compared, wanted, others, user_anew))
            }
            outcome => {
                // The requested logs are not followed: a reader that never catches up would miss events silently.
                let fresh = listed.into_iter().chain(user_anew.then_some(user)).collect::<Vec<_>>();
                self.hub().unfollow(&self.log.connection, &fresh);
                let full = Subscribed { full_sync_required: true, ..Subscribed::default() };
                outcome.map(|_| Opening::FullSync(full))
            }
        }
    }

    /// Follows all other conversations of the user from now on. Returns their positions.
    async fn follow_others(
        &self,
        found: &mut Memberships,
        left_out: &HashSet<ConversationId>,
        already: &HashSet<Key>,
    ) -> Result<HashMap<ConversationId, i64>, Status> {
        let others = |found: &Memberships| {
            let new =
                |id: &ConversationId| !left_out.contains(id) && !already.contains(&Key::Conversation(*id));
            found.conversations.iter().copied().filter(new).collect::<HashSet<_>>()
        };
        let mut following = HashSet::new();
        loop {
            let present = others(found);
            let keys = |ids: &mut dyn Iterator<Item = &ConversationId>| {
                ids.copied().map(Key::Conversation).collect::<Vec<_>>()
            };
            self.hub().unfollow(&self.log.connection, &keys(&mut following.difference(&present)));
            self.hub().follow(&self.log.connection, &keys(&mut present.difference(&following)), false).await;
            following = present;
            // Only a list that is read after they are followed holds for their later events.
            let again = self.memberships(found.version).await?;
            if again.unchanged {
                break;
            }
            *found = again;
        }
        let keys: Vec<_> = following.iter().copied().map(Key::Conversation).collect();
        let heads = if keys.is_empty() { HashMap::new() } else { self.hub().heads(&keys).await? };
        let head = |id| heads.get(&Key::Conversation(id)).copied().unwrap_or(0);
        Ok(following.into_iter().map(|id| (id, head(id))).collect())
    }

    fn opening(
        &self,
        request: &Subscribe,
        mut compared: Compared,
        wanted: HashMap<ConversationId, i64>,
        others: HashMap<ConversationId, i64>,
        user_anew: bool,
    ) -> Opening {
        let mut heads = Vec::with_capacity(wanted.len() + others.len());
        let mut points = Vec::with_capacity(heads.capacity());
        for (conversation, known) in wanted.into_iter().filter(|(id, _)| !compared.gone.contains(id)) {
            let (head, events) = compared.differences.remove(&conversation).unwrap_or((known, Vec::new()));
            heads.push(Head { conversation_id: conversation.to_string(), sequence: head });
            points.push(ResumePoint { conversation, known, head, events });
        }
        for (conversation, head) in others {
            heads.push(Head { conversation_id: conversation.to_string(), sequence: head });
            points.push(ResumePoint { conversation, known: head, head, events: Vec::new() });
        }
        let subscribed = Subscribed {
            heads,
            gone_conversation_ids: compared.gone.iter().map(ToString::to_string).collect(),
            full_sync_required: false,
            user_head_sequence: compared.user_head,
        };
        let replay = Replay {
            points,
            user_events: compared.user_events,
            user_head: compared.user_head,
            user_known: match request.user_sequence {
                _ if !user_anew => None,
                0 => Some(compared.user_head),
                known => Some(known),
            },
            epoch: compared.epoch,
        };
        Opening::Replay(subscribed, replay)
    }

    async fn memberships(&self, known_version: i64) -> Result<Memberships, Status> {
        let clients = self.log.realtime.upstream().clients();
        let user_id = self.identity.user_id().to_string();
        let mut request =
            as_service(ListMembershipsRequest { user_id, known_version }, clients.credential(), None);
        request.set_timeout(self.log.realtime.config().request_timeout);
        let answer = clients.conversations().list_memberships(request).await?.into_inner();
        let ids =
            answer.memberships.iter().filter_map(|one| ConversationId::parse(&one.conversation_id).ok());
        Ok(Memberships { version: answer.version, unchanged: answer.unchanged, conversations: ids.collect() })
    }

    fn hub(&self) -> &Hub {
        self.log.hub()
    }
}

/// The beginning of a subscription.
enum Opening {
    /// The client begins anew.
    FullSync(Subscribed),
    /// The client receives the heads, and the events that it missed.
    Replay(Subscribed, Replay),
}

/// The events to be sent before the connection is live.
struct Replay {
    points: Vec<ResumePoint>,
    user_events: Vec<UserEvent>,
    user_head: i64,
    /// The client has the user's own log up to here; `None` when that is live already.
    user_known: Option<i64>,
    epoch: String,
}

/// The conversations of which the user is a member.
struct Memberships {
    version: i64,
    unchanged: bool,
    conversations: Vec<ConversationId>,
}

/// Returns the requested conversations, each with the lowest sequence given for it.
fn wanted(heads: &[Head]) -> Result<HashMap<ConversationId, i64>, Status> {
    let mut wanted = HashMap::with_capacity(heads.len());
    for head in heads {
        let id = ConversationId::parse(&head.conversation_id)
            .map_err(|_| Fault::invalid("heads.conversation_id", "must be a UUID"))?;
        wanted
            .entry(id)
            .and_modify(|known: &mut i64| *known = (*known).min(head.sequence))
            .or_insert(head.sequence);
    }
    Ok(wanted)
}

pub(crate) fn is_refusal(status: &Status) -> bool {
    matches!(status.code(), Code::NotFound | Code::PermissionDenied)
}

/// Returns the conversation that the user has joined according to an entry of their own log, and the sequence after
/// which they did.
pub(crate) fn gained_conversation(event: &UserEvent) -> Option<(ConversationId, i64)> {
    match &event.payload {
        Some(user_event::Payload::ConversationGained(gained)) => {
            ConversationId::parse(&gained.conversation_id).ok().map(|id| (id, gained.after_sequence))
        }
        _ => None,
    }
}
