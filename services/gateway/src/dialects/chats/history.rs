//! `GET /chats/messages`.

use axum::response::Response;
use chassis::fault::Fault;
use proto::messaging::v1::{
    AdvanceWatermarkRequest, ListMessagesRequest, ListMessagesResponse, Message, Order,
};
use serde_json::json;

use super::{actor, content};
use crate::dialects::Dialects;
use crate::dialects::backend::Actor;
use crate::dialects::fields::Fields;
use crate::dialects::request::{HttpRequest, ok};
use crate::dialects::{ids, time};
use crate::http::error::Problem;

const DEFAULT_LIMIT: usize = 20;

/// The bounds of `limit`, which is clamped, and of `skip`, which is refused beyond its bound.
const MAX_LIMIT: usize = 100;
const MAX_SKIP: usize = 1000;

/// The number of messages in one request to messaging.
const PAGE: usize = 100;

/// The requested part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) limit: usize,
    pub(super) skip: usize,
}

impl Window {
    pub(super) fn read(fields: &Fields, default_limit: usize) -> Result<Self, Fault> {
        let limit = fields.integer("limit")?.map(|limit| limit.clamp(1, MAX_LIMIT as i64));
        let skip = fields.integer("skip")?.unwrap_or(0);
        let skip = usize::try_from(skip).ok().filter(|skip| *skip <= MAX_SKIP);
        Ok(Self {
            limit: limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(default_limit),
            skip: skip.ok_or_else(|| Fault::invalid("skip", format!("must be between 0 and {MAX_SKIP}")))?,
        })
    }

    /// Returns the number of entries to read: one more than is shown, which tells if there are more.
    pub(super) fn wanted(self) -> usize {
        self.skip + self.limit + 1
    }

    /// Cuts the part from the read entries. The flag is true when there are more behind it.
    pub(super) fn cut<T>(self, read: Vec<T>) -> (Vec<T>, bool) {
        let has_more = read.len() > self.skip + self.limit;
        (read.into_iter().skip(self.skip).take(self.limit).collect(), has_more)
    }
}

/// Lists the messages of a chat, newest first. Listing the newest marks them as read.
pub(super) async fn messages(dialects: &Dialects, request: &HttpRequest) -> Result<Response, Problem> {
    let actor = actor(dialects, request).await?;
    let fields = request.fields();
    let conversation = ids::conversation("chatId", &fields.required("chatId")?)?.to_string();
    let window = Window::read(&fields, DEFAULT_LIMIT)?;
    let end = time::field(&fields, "endAt")?;
    let list = ListMessagesRequest {
        conversation_id: conversation.clone(),
        order: Order::NewestFirst.into(),
        exclude_tombstones: true,
        start_time: time::field(&fields, "startAt")?.map(time::proto),
        end_time: end.map(time::proto),
        ..ListMessagesRequest::default()
    };
    let (messages, head) = read(dialects, &actor, list, window.wanted()).await?;
    if window.skip == 0 && end.is_none() {
        let read = AdvanceWatermarkRequest {
            conversation_id: conversation,
            read_sequence: head,
            ..AdvanceWatermarkRequest::default()
        };
        dialects.backend.call(&actor, read).await?;
    }

    let (messages, has_more) = window.cut(messages);
    let people = dialects.people.named(mentioned(&messages), actor.address).await?;
    let shown: Vec<_> = messages.iter().map(|message| content::show(message, &people)).collect();
    let meta = json!({"limit": window.limit, "skip": window.skip, "hasMore": has_more});
    ok(&json!({"code": 200, "messages": shown, "meta": meta}))
}

/// Returns the ids of the users whose names the messages show.
pub(super) fn mentioned(messages: &[Message]) -> impl Iterator<Item = &str> {
    use proto::messaging::v1::content::Kind;
    let cards = messages.iter().filter_map(|message| match message.content.as_ref()?.kind.as_ref()? {
        Kind::Profile(profile) => Some(profile.user_id.as_str()),
        _ => None,
    });
    messages.iter().map(|message| message.sender_id.as_str()).chain(cards)
}

/// Reads this number of messages, and the head of the conversation with the first page.
async fn read(
    dialects: &Dialects,
    actor: &Actor,
    mut list: ListMessagesRequest,
    wanted: usize,
) -> Result<(Vec<Message>, i64), Problem> {
    let mut messages: Vec<Message> = Vec::new();
    let mut head = None;
    loop {
        let missing = wanted - messages.len();
        list.page_size = i32::try_from(missing.min(PAGE)).unwrap_or(i32::MAX);
        let page: ListMessagesResponse = dialects.backend.call(actor, list.clone()).await?;
        let head = *head.get_or_insert(page.head_sequence);
        messages.extend(page.messages);
        if messages.len() >= wanted || page.next_page_token.is_empty() {
            messages.truncate(wanted);
            return Ok((messages, head));
        }
        list.page_token = page.next_page_token;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn window(limit: serde_json::Value, skip: serde_json::Value) -> Result<Window, Fault> {
        let body = json!({"limit": limit, "skip": skip}).to_string();
        Window::read(&Fields::from_json(body.as_bytes()).expect("fields"), DEFAULT_LIMIT)
    }

    #[test]
    fn the_limit_is_clamped_and_the_skip_bounded() {
        assert_eq!(window(json!(null), json!("")), Ok(Window { limit: 20, skip: 0 }));
        assert_eq!(window(json!("500"), json!("3")), Ok(Window { limit: 100, skip: 3 }));
        assert_eq!(window(json!(-5), json!(0)), Ok(Window { limit: 1, skip: 0 }));
        for skip in [json!(-1), json!(1001), json!("x"), json!({})] {
            assert_eq!(window(json!(1), skip).expect_err("refused").fields()[0].0, "skip");
        }
    }

    #[test]
    fn a_window_knows_whether_there_is_more() {
        let window = Window { limit: 2, skip: 1 };
        assert_eq!(window.cut(vec![1, 2, 3, 4]), (vec![2, 3], true));
        assert_eq!(window.cut(vec![1, 2]), (vec![2], false));
    }
}
