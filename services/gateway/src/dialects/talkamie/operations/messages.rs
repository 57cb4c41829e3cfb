//! The messages of a chat.

use proto::conversation::v1::Conversation;
use proto::id::ConversationId;
use proto::messaging::v1::{ListMessagesRequest, Message, Order};
use serde_json::{Value, json};

use crate::dialects::fields::Fields;
use crate::dialects::ids;
use crate::dialects::talkamie::envelope::{Page, Reply};
use crate::dialects::talkamie::session::Session;
use crate::dialects::talkamie::show::message::{self, Context};
use crate::http::error::Problem;

/// Lists the messages of a chat, newest first.
pub(in crate::dialects::talkamie) async fn list(
    session: &Session,
    id: &str,
    fields: &Fields,
) -> Result<Reply, Problem> {
    page(session, ids::conversation("id", id)?, fields).await
}

/// Returns a page of a chat's messages, newest first.
pub(in crate::dialects::talkamie) async fn page(
    session: &Session,
    id: ConversationId,
    fields: &Fields,
) -> Result<Reply, Problem> {
    let page = Page::read(fields)?;
    let conversation = session.direct(id).await?;
    let list = ListMessagesRequest {
        conversation_id: id.to_string(),
        page_size: page.size,
        page_token: page.token,
        order: Order::NewestFirst.into(),
        exclude_tombstones: true,
        ..ListMessagesRequest::default()
    };
    let answer = session.call(list).await?;
    let shown = shown(session, &conversation, &answer.messages).await?;
    Ok(Reply::page(json!(shown), &answer.next_page_token))
}

/// Returns messages of one chat as they are shown.
pub(in crate::dialects::talkamie) async fn shown(
    session: &Session,
    conversation: &Conversation,
    messages: &[Message],
) -> Result<Vec<Value>, Problem> {
    let context = context(session, conversation).await?;
    let now = session.timestamp();
    Ok(messages.iter().map(|message| message::show(message, &context, now)).collect())
}

/// Returns the context in which the messages of a chat are shown.
pub(in crate::dialects::talkamie) async fn context(
    session: &Session,
    conversation: &Conversation,
) -> Result<Context, Problem> {
    let viewer = session.user_id().to_string();
    let (watermarks, users) = futures_util::try_join!(
        session.receipts(&conversation.conversation_id),
        session.users([viewer.as_str(), conversation.peer_user_id.as_str()])
    )?;
    Ok(Context { viewer: viewer.clone(), watermarks, request: conversation.request.clone(), users })
}
