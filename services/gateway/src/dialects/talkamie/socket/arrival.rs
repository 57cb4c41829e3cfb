//! The work after a client has signed in: waiting messages are delivered, and a ringing call is shown.

use std::sync::Arc;

use proto::id::ConversationId;
use proto::messaging::v1::{AdvanceWatermarkRequest, GetUnreadCountsRequest};
use proto::scheduling::v1::ListCallsRequest;
use serde_json::json;
use tonic::Code;

use super::calls::Calls;
use super::push::Pushed;
use crate::dialects::talkamie::operations::{calls as operations, chats};
use crate::dialects::talkamie::session::{Session, all};
use crate::http::error::Problem;

/// Delivers waiting messages, and shows a ringing call.
pub(super) async fn arrive(session: Session, calls: Arc<Calls>) -> Result<Pushed, Problem> {
    let counts = session.call(GetUnreadCountsRequest {}).await?.counts;
    let ids = counts.iter().filter_map(|count| ConversationId::parse(&count.conversation_id).ok());
    let chats = chats::direct_ones(&session, ids.collect()).await?;
    all(chats.into_iter().map(|chat| deliver(&session, chat, i64::MAX)).collect()).await?;

    let list = ListCallsRequest { active: true, page_size: 1, ..ListCallsRequest::default() };
    let mut pushed = Pushed::default();
    for call in session.call(list).await?.calls {
        if let Some(action) = calls.take(&call, &(&session).into()) {
            let chat = call.conversation_id.clone();
            let shown = operations::shown(&session, &[call]).await?;
            pushed.frames.push((action, json!({"chat": {"id": chat}, "call": shown[0]})));
        }
    }
    Ok(pushed)
}

/// Records that messages of a chat have reached a device of the user, up to a sequence.
pub(super) async fn deliver(session: &Session, chat: ConversationId, up_to: i64) -> Result<(), Problem> {
    let advance = AdvanceWatermarkRequest {
        conversation_id: chat.to_string(),
        delivered_sequence: up_to,
        ..AdvanceWatermarkRequest::default()
    };
    match session.call(advance).await {
        Ok(_) => Ok(()),
        // The user has left the chat in the meantime.
        Err(problem) if problem.fault().code() == Code::NotFound => Ok(()),
        Err(problem) => Err(problem),
    }
}
