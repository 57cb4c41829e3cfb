//! `/chats` and `/chat/{id}`: direct conversations as chats.

use proto::conversation::v1::{Contact, Conversation, ConversationKind};
use proto::id::ConversationId;
use proto::messaging::v1::{
    BatchGetInboxEntriesRequest, GetUnreadCountsRequest, InboxEntry, InboxFilter, ListInboxRequest, Watermark,
};
use serde_json::{Value, json};

use super::{interests, users};
use crate::dialects::fields::Fields;
use crate::dialects::ids;
use crate::dialects::talkamie::envelope::{Page, Reply, not_found};
use crate::dialects::talkamie::session::{Session, all};
use crate::dialects::talkamie::show;
use crate::dialects::talkamie::show::chat::Chat;
use crate::dialects::talkamie::show::message::Context;
use crate::http::error::Problem;

/// The number of chats in one request.
const BATCH: usize = 100;

/// Lists chats: all, the unread ones, or the most frequent ones.
pub(in crate::dialects::talkamie) async fn list(
    session: &Session,
    fields: &Fields,
    filter: InboxFilter,
) -> Result<Reply, Problem> {
    let page = Page::read(fields)?;
    let list = ListInboxRequest {
        page_size: page.size,
        page_token: page.token,
        filter: filter.into(),
        keyword: fields.filled("keyword")?.unwrap_or_default(),
        kinds: vec![ConversationKind::Direct.into()],
    };
    let answer = session.call(list).await?;
    Ok(Reply::page(json!(shown(session, &answer.entries).await?), &answer.next_page_token))
}

/// Returns one chat.
pub(in crate::dialects::talkamie) async fn get(session: &Session, id: &str) -> Result<Reply, Problem> {
    let id = ids::conversation("id", id)?;
    let entries = entries(session, &[id]).await?;
    let chat = shown(session, &entries).await?.into_iter().next();
    Ok(Reply::new(chat.ok_or_else(|| not_found("there is no chat with this id"))?))
}

/// Returns the direct conversations among these, as the inbox has them. Others are left out.
pub(in crate::dialects::talkamie) async fn entries(
    session: &Session,
    ids: &[ConversationId],
) -> Result<Vec<InboxEntry>, Problem> {
    let mut entries = inbox(session, ids).await?;
    entries.retain(|entry| entry.conversation.as_ref().is_some_and(is_direct_kind));
    Ok(entries)
}

fn is_direct_kind(conversation: &Conversation) -> bool {
    conversation.kind() == ConversationKind::Direct
}

/// Returns the conversations of the user among these, as the inbox has them.
async fn inbox(session: &Session, ids: &[ConversationId]) -> Result<Vec<InboxEntry>, Problem> {
    let mut entries = Vec::new();
    for batch in ids.chunks(BATCH) {
        let get = BatchGetInboxEntriesRequest {
            conversation_ids: batch.iter().map(ConversationId::to_string).collect(),
        };
        entries.extend(session.call(get).await?.entries);
    }
    Ok(entries)
}

/// Returns chats as they are shown.
pub(in crate::dialects::talkamie) async fn shown(
    session: &Session,
    entries: &[InboxEntry],
) -> Result<Vec<Value>, Problem> {
    let me = session.user_id().to_string();
    let conversations: Vec<_> = entries.iter().filter_map(|entry| entry.conversation.as_ref()).collect();
    let peers: Vec<_> = conversations.iter().map(|conversation| conversation.peer_user_id.as_str()).collect();
    let ids: Vec<_> =
        conversations.iter().map(|conversation| conversation.conversation_id.as_str()).collect();
    let found = session.users(peers.iter().copied().chain([me.as_str()])).await?;
    let access = session.access(&ids).await?;
    let contacts = session.contacts(&peers).await?;
    let catalog = interests::catalog(session).await?;
    let watermarks = all(entries.iter().map(|entry| watermarks(session, &me, entry)).collect()).await?;
    let mut chats = Vec::new();
    for ((entry, conversation), watermarks) in entries.iter().zip(conversations).zip(watermarks) {
        let peer = conversation.peer_user_id.as_str();
        let contact = contacts.get(peer);
        let context = Context {
            viewer: me.clone(),
            watermarks,
            request: conversation.request.clone(),
            users: found.clone(),
        };
        let chat = Chat {
            entry,
            access: &access.get(&conversation.conversation_id).cloned().unwrap_or_default(),
            connected: contact.is_some_and(|contact| contact.connected),
            user: users::mentioned(session, peer, found.get(peer), &catalog),
            context: &context,
        };
        chats.push(chat.show(session.timestamp()));
    }
    Ok(chats)
}

/// Returns the watermarks of the two users, as far as they are shown.
async fn watermarks(session: &Session, me: &str, entry: &InboxEntry) -> Result<Vec<Watermark>, Problem> {
    match (&entry.conversation, &entry.last_message) {
        // Only the delivery of own messages depends on the other user.
        (Some(conversation), Some(last)) if last.sender_id == me => {
            session.receipts(&conversation.conversation_id).await
        }
        _ => Ok(entry.watermark.iter().cloned().collect()),
    }
}

/// Returns a chat by its id, with the permission to write there.
pub(in crate::dialects::talkamie) async fn with_request(
    session: &Session,
    conversation: &Conversation,
) -> Result<Value, Problem> {
    let id = conversation.conversation_id.as_str();
    let access = session.access(&[id]).await?.remove(id).unwrap_or_default();
    let request = show::chat::request(conversation.request.as_ref(), &access, None, &Context::default());
    Ok(json!({"id": id, "request": request}))
}

/// Returns for each contact the chat by its id, with the permission to write there; `None` without a chat.
pub(in crate::dialects::talkamie) async fn requests(
    session: &Session,
    contacts: &[&Contact],
) -> Result<Vec<Option<Value>>, Problem> {
    let ids = contacts.iter().map(|contact| contact.conversation_id.as_str());
    let ids: Vec<_> = ids.filter(|id| !id.is_empty()).collect();
    let access = session.access(&ids).await?;
    let show = |contact: &&Contact| {
        let id = &contact.conversation_id;
        let access = access.get(id)?;
        let request = contact.message_request.as_ref();
        Some(json!({"id": id, "request": show::chat::request(request, access, None, &Context::default())}))
    };
    Ok(contacts.iter().map(show).collect())
}

/// Returns the number of chats with messages that the user has not read.
pub(in crate::dialects::talkamie) async fn unread_total(session: &Session) -> Result<i32, Problem> {
    let counts = session.call(GetUnreadCountsRequest {}).await?.counts;
    let ids = counts.iter().filter_map(|count| ConversationId::parse(&count.conversation_id).ok());
    let chats = direct_ones(session, ids.collect()).await?;
    Ok(i32::try_from(chats.len()).unwrap_or(i32::MAX))
}

/// True for a direct conversation of the user.
pub(in crate::dialects::talkamie) async fn is_direct(
    session: &Session,
    id: ConversationId,
) -> Result<bool, Problem> {
    Ok(!direct_ones(session, vec![id]).await?.is_empty())
}

/// Returns the direct conversations among these. The kind of a conversation never changes and is cached.
pub(in crate::dialects::talkamie) async fn direct_ones(
    session: &Session,
    ids: Vec<ConversationId>,
) -> Result<Vec<ConversationId>, Problem> {
    let known = &session.dialects.talkamie.direct;
    let unknown: Vec<_> = ids.iter().copied().filter(|id| known.get(id).is_none()).collect();
    for conversation in inbox(session, &unknown).await?.iter().filter_map(|entry| entry.conversation.as_ref())
    {
        if let Ok(id) = ConversationId::parse(&conversation.conversation_id) {
            known.insert(id, is_direct_kind(conversation));
        }
    }
    Ok(ids.into_iter().filter(|id| known.get(id).unwrap_or_default()).collect())
}
