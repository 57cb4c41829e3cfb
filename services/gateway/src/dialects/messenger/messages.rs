//! The messages of a direct conversation, by exact cursors in both directions.

use axum::response::Response;
use http::StatusCode;
use proto::conversation::v1::{ConversationKind, GetConversationRequest};
use proto::id::ConversationId;
use proto::messaging::v1::content::Kind;
use proto::messaging::v1::send_message_request::Target;
use proto::messaging::v1::{Content, ListMessagesRequest, Order, SendMessageRequest};

use super::accounts::Account;
use super::conversations::{parse, unknown};
use super::cursor::{Cursor, Page, Sort, malformed};
use super::show as view;
use crate::dialects::Dialects;
use crate::dialects::request::{HttpRequest, json, ok};
use crate::dialects::text;
use crate::http::error::Problem;

/// Lists messages.
pub(super) async fn list(
    dialects: &Dialects,
    request: &HttpRequest,
    account: &Account,
    conversation: &str,
) -> Result<Response, Problem> {
    let page = Page::read(dialects, request)?;
    let conversation = direct(dialects, account, conversation).await?;
    let messages = match read(&page, conversation)? {
        Some(list) => dialects.backend.call(&account.actor, list).await?.messages,
        None => Vec::new(),
    };
    let messages: Vec<_> = match page.cursor {
        None => messages,
        // Requested in the direction of the cursor, shown in reverse.
        Some(_) => messages.into_iter().rev().collect(),
    };
    let senders = messages.iter().map(|message| message.sender_id.as_str());
    let people = dialects.people.named(senders, account.actor.address).await?;
    let rows = messages.iter().map(|message| view::message(message, &people)).collect();
    let ids: Vec<_> = messages.iter().map(|message| message.sequence.to_string()).collect();
    ok(&page.show(rows, &ids))
}

/// Returns the request for the messages of a page; `None` when the page is empty by its cursor alone.
fn read(page: &Page, conversation: ConversationId) -> Result<Option<ListMessagesRequest>, Problem> {
    let list = ListMessagesRequest {
        conversation_id: conversation.to_string(),
        page_size: i32::try_from(page.size).unwrap_or(i32::MAX),
        exclude_tombstones: true,
        ..ListMessagesRequest::default()
    };
    let Some(Cursor { sort, last_seen }) = &page.cursor else {
        return Ok(Some(ListMessagesRequest { order: Order::NewestFirst.into(), ..list }));
    };
    let seen = last_seen.parse::<i64>().ok().filter(|seen| *seen >= 0).ok_or_else(malformed)?;
    Ok(match sort {
        Sort::NewestFirst => {
            Some(ListMessagesRequest { order: Order::OldestFirst.into(), after_sequence: seen, ..list })
        }
        // The first sequence is 1, and 0 would mean no bound.
        Sort::OldestFirst if seen <= 1 => None,
        Sort::OldestFirst => {
            Some(ListMessagesRequest { order: Order::NewestFirst.into(), before_sequence: seen, ..list })
        }
    })
}

/// Sends a message.
pub(super) async fn send(
    dialects: &Dialects,
    request: &HttpRequest,
    account: &Account,
    conversation: &str,
) -> Result<Response, Problem> {
    let text = text::message("text", &request.body.required("text")?)?;
    let conversation = direct(dialects, account, conversation).await?;
    let send = SendMessageRequest {
        target: Some(Target::ConversationId(conversation.to_string())),
        content: Some(Content { kind: Some(Kind::Text(text)), attachments: Vec::new() }),
        ..SendMessageRequest::default()
    };
    let message = dialects.backend.send(&account.actor, send).await?;
    let people = dialects.people.named([message.sender_id.as_str()], account.actor.address).await?;
    Ok(json(StatusCode::CREATED, &view::message(&message, &people)))
}

/// Returns the conversation in a path, if it is a direct one of the account.
async fn direct(dialects: &Dialects, account: &Account, id: &str) -> Result<ConversationId, Problem> {
    let id = parse(id)?;
    let get = GetConversationRequest { conversation_id: id.to_string() };
    let conversation = dialects.backend.call(&account.actor, get).await?.conversation.unwrap_or_default();
    match conversation.kind() {
        ConversationKind::Direct => Ok(id),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CursorLabels;

    fn asked(cursor: Option<(Sort, &str)>) -> Result<Option<(Order, i64, i64)>, Problem> {
        let cursor = cursor.map(|(sort, seen)| Cursor { sort, last_seen: seen.to_owned() });
        let page = Page::new(2, cursor, CursorLabels::Swr);
        let list = read(&page, ConversationId::generate())?;
        Ok(list.map(|list| (list.order(), list.after_sequence, list.before_sequence)))
    }

    #[test]
    fn a_cursor_asks_for_what_is_next_to_it() {
        use Order::{NewestFirst, OldestFirst};
        assert_eq!(asked(None).expect("a page"), Some((NewestFirst, 0, 0)));
        assert_eq!(asked(Some((Sort::NewestFirst, "5"))).expect("a page"), Some((OldestFirst, 5, 0)));
        assert_eq!(asked(Some((Sort::OldestFirst, "5"))).expect("a page"), Some((NewestFirst, 0, 5)));
        for nothing in ["0", "1"] {
            assert_eq!(asked(Some((Sort::OldestFirst, nothing))).expect("a page"), None);
        }
        for junk in ["", "-1", "x", "9223372036854775808", "1.5"] {
            assert!(asked(Some((Sort::NewestFirst, junk))).is_err(), "{junk}");
        }
    }
}
