//! `GET /chats`.

use axum::response::Response;
use proto::conversation::v1::{Conversation, ConversationKind};
use proto::messaging::v1::{InboxEntry, ListInboxRequest};
use serde_json::{Value, json};

use super::history::Window;
use super::{actor, content, history, kind_number};
use crate::dialects::Dialects;
use crate::dialects::backend::Actor;
use crate::dialects::people::Named;
use crate::dialects::request::{HttpRequest, ok};
use crate::http::error::Problem;

const DEFAULT_LIMIT: usize = 100;

/// Lists the chats of the caller, the one with the latest message first.
pub(super) async fn chats(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let actor = actor(dialects, request).await?;
    let window = Window::read(&request.fields(), DEFAULT_LIMIT)?;
    let entries = read(dialects, &actor, window.wanted()).await?;
    let (entries, has_more) = window.cut(entries);
    let last: Vec<_> = entries.iter().filter_map(|entry| entry.last_message.clone()).collect();
    let peers = entries.iter().filter_map(|entry| Some(entry.conversation.as_ref()?.peer_user_id.as_str()));
    let people = dialects.people.named(peers.chain(history::mentioned(&last)), actor.address).await?;
    let shown: Vec<_> = entries.iter().map(|entry| show(entry, &people)).collect();
    let meta = json!({"limit": window.limit, "skip": window.skip, "hasMore": has_more});
    ok(&json!({"code": 200, "chats": shown, "meta": meta}))
}

fn show(entry: &InboxEntry, people: &Named) -> Value {
    let unknown = Conversation::default();
    let conversation = entry.conversation.as_ref().unwrap_or(&unknown);
    let (name, icon) = match conversation.kind() {
        ConversationKind::Direct => {
            (people.name(&conversation.peer_user_id), people.picture(&conversation.peer_user_id))
        }
        _ => (conversation.title.as_str(), ""),
    };
    let last = entry.last_message.as_ref().filter(|message| message.delete_time.is_none());
    json!({
        "id": conversation.conversation_id,
        "chatId": conversation.conversation_id,
        "type": kind_number(conversation),
        "name": name,
        "icon": icon,
        "unRead": entry.unread_count,
        "lastMessage": last.map_or_else(|| json!({}), |message| content::show(message, people)),
    })
}

async fn read(dialects: &Dialects, actor: &Actor, wanted: usize) -> Result<Vec<InboxEntry>, Problem> {
    let mut entries = Vec::new();
    let mut list = ListInboxRequest::default();
    loop {
        let missing = wanted.saturating_sub(entries.len()).min(DEFAULT_LIMIT);
        list.page_size = i32::try_from(missing).unwrap_or(i32::MAX);
        let page = dialects.backend.call(actor, list.clone()).await?;
        entries.extend(page.entries);
        if entries.len() >= wanted || page.next_page_token.is_empty() {
            entries.truncate(wanted);
            return Ok(entries);
        }
        list.page_token = page.next_page_token;
    }
}
