//! The calls by which the hub compares and reads logs, and checks members.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chassis::follow::Missing;
use chassis::transport::as_service;
use proto::conversation::v1::{AccessQuestion, CheckAccessRequest};
use proto::id::{ConversationId, UserId};
use proto::messaging::v1::{ListEventsRequest, ListHeadsRequest, ListUserEventsRequest};
use tonic::{Request, Status};

use crate::realtime::identity::Viewer;
use crate::realtime::topic::{Item, Key};
use crate::upstream::clients::Clients;

/// The maximum number of logs that one call compares.
const PER_CALL: usize = 1000;

/// The maximum number of entries that one call reads.
const PAGE: i32 = 200;

/// The longest time that one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The highest sequences of some logs.
pub(super) struct Heads {
    pub(super) epoch: Arc<str>,
    pub(super) heads: HashMap<Key, i64>,
}

/// Reads the heads of logs, a thousand with each call.
pub(super) async fn list_heads(clients: &Clients, keys: &[Key]) -> Result<Heads, Status> {
    let (mut conversations, mut users) = (Vec::new(), Vec::new());
    for key in keys {
        match key {
            Key::Conversation(id) => conversations.push(id.to_string()),
            Key::User(id) => users.push(id.to_string()),
        }
    }
    let calls = conversations.len().max(users.len()).div_ceil(PER_CALL).max(1);
    let mut found = Heads { epoch: Arc::from(""), heads: HashMap::with_capacity(keys.len()) };
    for call in 0..calls {
        let request =
            ListHeadsRequest { conversation_ids: page(&conversations, call), user_ids: page(&users, call) };
        let mut request = as_service(request, clients.credential(), None);
        request.set_timeout(CALL_TIMEOUT);
        let answer = clients.sync().list_heads(request).await?.into_inner();
        for head in answer.conversations {
            if let Ok(id) = ConversationId::parse(&head.conversation_id) {
                found.heads.insert(Key::Conversation(id), head.sequence);
            }
        }
        for head in answer.users {
            if let Ok(id) = UserId::parse(&head.user_id) {
                found.heads.insert(Key::User(id), head.sequence);
            }
        }
        found.epoch = Arc::from(answer.epoch);
    }
    Ok(found)
}

fn page(ids: &[String], number: usize) -> Vec<String> {
    ids.iter().skip(number * PER_CALL).take(PER_CALL).cloned().collect()
}

/// Reads a page of missing entries on behalf of a viewer who follows the log.
pub(super) async fn read_log(
    clients: &Clients,
    key: Key,
    missing: Missing,
    reader: Viewer,
) -> Result<Vec<Item>, Status> {
    let wanted = i32::try_from(missing.up_to - missing.after).unwrap_or(PAGE);
    let (after_sequence, limit) = (missing.after, wanted.clamp(1, PAGE));
    match key {
        Key::Conversation(conversation) => {
            let request =
                ListEventsRequest { conversation_id: conversation.to_string(), after_sequence, limit };
            let answer = clients.sync().list_events(on_behalf(clients, request, reader)).await?;
            Ok(answer.into_inner().events.into_iter().map(Item::from).collect())
        }
        Key::User(user) => {
            let request = ListUserEventsRequest { after_sequence, limit };
            let answer =
                clients.sync().list_user_events(on_behalf(clients, request, Viewer::User(user))).await?;
            Ok(answer.into_inner().events.into_iter().map(Item::from).collect())
        }
    }
}

fn on_behalf<T>(clients: &Clients, message: T, viewer: Viewer) -> Request<T> {
    let mut request = as_service(message, clients.credential(), viewer.user_id());
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// Returns the viewers who may not read the conversation, and the version of the list of members by which that is so.
pub(super) async fn who_is_out(
    clients: &Clients,
    conversation: ConversationId,
    viewers: &[Viewer],
) -> Result<(HashSet<Viewer>, i64), Status> {
    let (mut out, mut version) = (HashSet::new(), i64::MAX);
    for viewers in viewers.chunks(PER_CALL) {
        let question = |viewer: &Viewer| AccessQuestion {
            conversation_id: conversation.to_string(),
            user_id: viewer.access_id().to_string(),
        };
        let request = CheckAccessRequest { questions: viewers.iter().map(question).collect() };
        let mut request = as_service(request, clients.credential(), None);
        request.set_timeout(CALL_TIMEOUT);
        let answers = clients.conversations().check_access(request).await?.into_inner().answers;
        if answers.len() != viewers.len() {
            return Err(Status::internal("not one answer per question"));
        }
        for (viewer, access) in viewers.iter().zip(answers) {
            if !access.may_read {
                out.insert(*viewer);
            }
            // The version that holds for all is the oldest one.
            version = version.min(access.membership_version);
        }
    }
    Ok((out, if version == i64::MAX { 0 } else { version }))
}
