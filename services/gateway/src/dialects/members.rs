//! The members of a conversation, page by page.

use proto::conversation::v1::{ListMembersRequest, Member};

use super::backend::{Actor, Backend};
use crate::http::error::Problem;

/// The number of members in one request.
const PAGE: i32 = 100;

/// Returns the first members of a conversation, in the order of joining, at most `limit` of them.
pub(crate) async fn first(
    backend: &Backend,
    actor: &Actor,
    conversation: &str,
    limit: usize,
) -> Result<Vec<Member>, Problem> {
    let mut members = Vec::new();
    let mut list = ListMembersRequest {
        conversation_id: conversation.to_owned(),
        page_size: PAGE,
        ..ListMembersRequest::default()
    };
    loop {
        let page = backend.call(actor, list.clone()).await?;
        members.extend(page.members);
        if members.len() >= limit || page.next_page_token.is_empty() {
            members.truncate(limit);
            return Ok(members);
        }
        list.page_token = page.next_page_token;
    }
}
