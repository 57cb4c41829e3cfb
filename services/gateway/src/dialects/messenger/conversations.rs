//! The direct conversations of an account, in the order of their ids.

use axum::response::Response;
use proto::conversation::v1::{ConversationKind, CreateConversationRequest, ListMembershipsRequest};
use proto::id::ConversationId;
use proto::messaging::v1::{BatchGetInboxEntriesRequest, InboxEntry, ListMessagesRequest, Message, Order};
use serde_json::{Map, Value, json};

use super::accounts::{self, Account};
use super::cursor::{Cursor, Page, Sort, malformed};
use super::show as view;
use crate::dialects::backend::Authority;
use crate::dialects::request::{HttpRequest, ok};
use crate::dialects::{Dialects, ids};
use crate::http::error::Problem;

/// Lists conversations.
pub(super) async fn list(
    dialects: &Dialects,
    request: &HttpRequest,
    account: &Account,
) -> Result<Response, Problem> {
    let page = Page::read(dialects, request)?;
    let all = direct(dialects, account).await?;
    if all.is_empty() && page.cursor.is_none() {
        return ok(&json!({"rows": [], "sort": page.sort()}));
    }
    let ids = cut(all, page.cursor.as_ref(), page.size)?;
    let rows = show_all(dialects, account, &ids).await?;
    let ids: Vec<_> = rows.iter().filter_map(|row| row["id"].as_str().map(str::to_owned)).collect();
    ok(&page.show(rows, &ids))
}

/// Returns the ids of the page, in the order of its rows. `all` is in ascending order.
fn cut(
    all: Vec<ConversationId>,
    cursor: Option<&Cursor>,
    size: usize,
) -> Result<Vec<ConversationId>, Problem> {
    let Some(Cursor { sort, last_seen }) = cursor else {
        return Ok(all.into_iter().rev().take(size).collect());
    };
    let seen = match last_seen.as_str() {
        "0" => None,
        text => Some(ids::parse(text).map(ConversationId::from).ok_or_else(malformed)?),
    };
    Ok(match sort {
        // The rows next to the last seen one, so that the next page leaves no gap.
        Sort::NewestFirst => {
            let newer = all.into_iter().filter(|id| seen.is_none_or(|seen| *id > seen));
            let mut page: Vec<_> = newer.take(size).collect();
            page.reverse();
            page
        }
        Sort::OldestFirst => {
            let older = all.into_iter().rev().filter(|id| seen.is_some_and(|seen| *id < seen));
            let mut page: Vec<_> = older.take(size).collect();
            page.reverse();
            page
        }
    })
}

/// Returns the ids of the account's direct conversations, in ascending order.
async fn direct(dialects: &Dialects, account: &Account) -> Result<Vec<ConversationId>, Problem> {
    let list = ListMembershipsRequest { user_id: account.actor.user_id.to_string(), known_version: 0 };
    let memberships = dialects.backend.call(Authority::Anonymous(account.actor.address), list).await?;
    let direct = memberships.memberships.iter().filter(|one| one.kind() == ConversationKind::Direct);
    let mut ids: Vec<_> = direct.filter_map(|one| ConversationId::parse(&one.conversation_id).ok()).collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Shows one conversation.
pub(super) async fn show(dialects: &Dialects, account: &Account, id: &str) -> Result<Response, Problem> {
    let id = parse(id)?;
    let shown = show_all(dialects, account, &[id]).await?.pop();
    ok(&shown.ok_or_else(unknown)?)
}

/// Reads the id of a conversation in a path.
pub(super) fn parse(id: &str) -> Result<ConversationId, Problem> {
    ids::parse(id).map(ConversationId::from).ok_or_else(unknown)
}

/// Returns the error of a conversation that is not a direct one of the account.
pub(super) fn unknown() -> Problem {
    Problem::not_found("the account has no direct conversation with this id")
}

/// Finds the conversation with another account, or creates it.
pub(super) async fn find_or_create(
    dialects: &Dialects,
    request: &HttpRequest,
    account: &Account,
) -> Result<Response, Problem> {
    let with = request.query.filled("with")?;
    let with = match with {
        Some(with) => with,
        None => request.body.required("with")?,
    };
    let other = accounts::named(dialects, &with, &account.actor).await?;
    let create = CreateConversationRequest {
        kind: ConversationKind::Direct.into(),
        user_ids: vec![other.to_string()],
        ..CreateConversationRequest::default()
    };
    let conversation = dialects.backend.call(&account.actor, create).await?.conversation.unwrap_or_default();
    show(dialects, account, &conversation.conversation_id).await
}

/// Shows the direct conversations among these, in their order.
async fn show_all(
    dialects: &Dialects,
    account: &Account,
    ids: &[ConversationId],
) -> Result<Vec<Value>, Problem> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let conversation_ids = ids.iter().map(ConversationId::to_string).collect();
    let get = BatchGetInboxEntriesRequest { conversation_ids };
    let mut entries = dialects.backend.call(&account.actor, get).await?.entries;
    entries.retain(|entry| {
        entry.conversation.as_ref().is_some_and(|one| one.kind() == ConversationKind::Direct)
    });
    let mut last = Vec::new();
    for entry in &entries {
        last.push(last_message(dialects, account, entry).await?);
    }
    let own = account.actor.user_id.to_string();
    let peers = entries.iter().filter_map(|entry| Some(entry.conversation.as_ref()?.peer_user_id.as_str()));
    let senders = last.iter().flatten().map(|message| message.sender_id.as_str());
    let people = dialects.people.named(peers.chain(senders).chain([own.as_str()]), account.actor.address);
    let people = people.await?;

    let mut rows: Vec<_> = entries
        .iter()
        .zip(&last)
        .filter_map(|(entry, last)| {
            let conversation = entry.conversation.as_ref()?;
            let mut row = Map::new();
            row.insert("id".to_owned(), json!(conversation.conversation_id));
            let participants =
                [view::account(&people, &own), view::account(&people, &conversation.peer_user_id)];
            row.insert("participants".to_owned(), json!(participants));
            if let Some(last) = last {
                row.insert("lastMessage".to_owned(), view::message(last, &people));
            }
            let place = ids.iter().position(|id| id.to_string() == conversation.conversation_id);
            Some((place, Value::Object(row)))
        })
        .collect();
    rows.sort_by_key(|(place, _)| *place);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// Returns the newest message that is not deleted.
async fn last_message(
    dialects: &Dialects,
    account: &Account,
    entry: &InboxEntry,
) -> Result<Option<Message>, Problem> {
    match (&entry.last_message, &entry.conversation) {
        (Some(message), _) if message.delete_time.is_none() => Ok(Some(message.clone())),
        (Some(_), Some(conversation)) => {
            let list = ListMessagesRequest {
                conversation_id: conversation.conversation_id.clone(),
                order: Order::NewestFirst.into(),
                page_size: 1,
                exclude_tombstones: true,
                ..ListMessagesRequest::default()
            };
            Ok(dialects.backend.call(&account.actor, list).await?.messages.pop())
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_next_to_what_was_seen() {
        let all: Vec<_> = (0..5).map(|_| ConversationId::generate()).collect();
        let at = |index: usize| all[index];
        let page = |cursor: Option<(Sort, String)>| {
            let cursor = cursor.map(|(sort, last_seen)| Cursor { sort, last_seen });
            cut(all.clone(), cursor.as_ref(), 2).expect("a page")
        };
        assert_eq!(page(None), [at(4), at(3)]);
        assert_eq!(page(Some((Sort::NewestFirst, at(1).to_string()))), [at(3), at(2)]);
        assert_eq!(page(Some((Sort::OldestFirst, at(3).to_string()))), [at(1), at(2)]);
        assert_eq!(page(Some((Sort::OldestFirst, at(0).to_string()))), []);
        assert_eq!(page(Some((Sort::OldestFirst, "0".to_owned()))), []);
        assert_eq!(page(Some((Sort::NewestFirst, "0".to_owned()))), [at(1), at(0)]);
        let junk = Cursor { sort: Sort::NewestFirst, last_seen: "5".to_owned() };
        assert!(cut(all.clone(), Some(&junk), 2).is_err());
    }
}
