//! `/user/{id}/connection` and `/connections`: connections of users.

use futures_util::future::try_join;
use proto::conversation::v1::{
    AcceptConnectionRequestRequest, CancelConnectionRequestRequest, ConversationKind,
    CreateConversationRequest, ListConnectionsRequest, ListPendingConnectionsRequest,
    RejectConnectionRequestRequest, RemoveConnectionRequest, Request, RequestDirection, RequestState,
    SendConnectionRequestRequest,
};
use proto::id::UserId;
use serde_json::{Value, json};

use super::{chats, interests, users};
use crate::dialects::fields::Fields;
use crate::dialects::ids;
use crate::dialects::talkamie::envelope::{Page, Reply, is_refused_for};
use crate::dialects::talkamie::session::Session;
use crate::dialects::talkamie::show::connect_request;
use crate::http::error::Problem;

/// The reason of the refusal to withdraw or reject an answered request.
const ANSWERED: &str = "ERROR_REASON_REQUEST_ANSWERED";

/// Sends a connection request to a user.
pub(in crate::dialects::talkamie) async fn send(session: &Session, id: &str) -> Result<Reply, Problem> {
    let user = ids::user("id", id)?;
    let request = SendConnectionRequestRequest { user_id: user.to_string(), request_id: String::new() };
    let request = session.call(request).await?.request.unwrap_or_default();
    Ok(Reply::new(shown(session, &[request]).await?.remove(0)))
}

/// Withdraws a request. A connection that resulted from it ends.
pub(in crate::dialects::talkamie) async fn cancel(session: &Session, id: &str) -> Result<Reply, Problem> {
    let user = ids::user("id", id)?;
    if let Some(ended) = end(session, user, RequestState::Cancelled).await? {
        return Ok(ended);
    }
    match session.call(CancelConnectionRequestRequest { user_id: user.to_string() }).await {
        Ok(answer) => answered(session, answer.request).await,
        // It was accepted in the meantime.
        Err(problem) if is_refused_for(&problem, ANSWERED) => {
            end(session, user, RequestState::Cancelled).await?.ok_or(problem)
        }
        Err(problem) => Err(problem),
    }
}

/// Rejects a request. A connection that resulted from it ends.
pub(in crate::dialects::talkamie) async fn reject(session: &Session, id: &str) -> Result<Reply, Problem> {
    let user = ids::user("id", id)?;
    if let Some(ended) = end(session, user, RequestState::Rejected).await? {
        return Ok(ended);
    }
    match session.call(RejectConnectionRequestRequest { user_id: user.to_string() }).await {
        Ok(answer) => answered(session, answer.request).await,
        Err(problem) if is_refused_for(&problem, ANSWERED) => {
            end(session, user, RequestState::Rejected).await?.ok_or(problem)
        }
        Err(problem) => Err(problem),
    }
}

/// Ends the connection with a user; `None` when there is none.
async fn end(session: &Session, user: UserId, state: RequestState) -> Result<Option<Reply>, Problem> {
    let user_id = user.to_string();
    let contact = session.contacts(&[&user_id]).await?.remove(&user_id).unwrap_or_default();
    if !contact.connected {
        return Ok(None);
    }
    session.call(RemoveConnectionRequest { user_id: user_id.clone() }).await?;
    let mut request = contact.connection_request.unwrap_or_else(|| Request {
        from_user_id: session.user_id().to_string(),
        to_user_id: user_id,
        ..Request::default()
    });
    request.set_state(state);
    Ok(Some(Reply::new(shown(session, &[request]).await?.remove(0))))
}

/// Accepts a request. The two users have a chat from then on.
pub(in crate::dialects::talkamie) async fn accept(session: &Session, id: &str) -> Result<Reply, Problem> {
    let user_id = ids::user("id", id)?.to_string();
    let accept = AcceptConnectionRequestRequest { user_id: user_id.clone() };
    let request = session.call(accept).await?.request.unwrap_or_default();
    let direct = CreateConversationRequest {
        kind: ConversationKind::Direct.into(),
        user_ids: vec![user_id],
        ..CreateConversationRequest::default()
    };
    let conversation = session.call(direct).await?.conversation.unwrap_or_default();
    let mut shown = shown(session, &[request]).await?.remove(0);
    shown["chat"] = chats::with_request(session, &conversation).await?;
    Ok(Reply::new(shown))
}

async fn answered(session: &Session, request: Option<Request>) -> Result<Reply, Problem> {
    Ok(Reply::new(shown(session, &[request.unwrap_or_default()]).await?.remove(0)))
}

/// Returns requests with the other user of each.
pub(in crate::dialects::talkamie) async fn shown(
    session: &Session,
    requests: &[Request],
) -> Result<Vec<Value>, Problem> {
    let me = session.user_id().to_string();
    let found = session.users(requests.iter().map(|request| connect_request::other(request, &me))).await?;
    let catalog = interests::catalog(session).await?;
    let show = |request: &Request| {
        let other = connect_request::other(request, &me);
        let user = users::mentioned(session, other, found.get(other), &catalog);
        connect_request::show(request, Some(user))
    };
    Ok(requests.iter().map(show).collect())
}

/// Lists the requests to the user that wait for an answer, newest first.
pub(in crate::dialects::talkamie) async fn pending(
    session: &Session,
    fields: &Fields,
) -> Result<Reply, Problem> {
    let page = Page::read(fields)?;
    let list = ListPendingConnectionsRequest {
        direction: RequestDirection::Incoming.into(),
        page_size: page.size,
        page_token: page.token,
    };
    let answer = session.call(list).await?;
    let shown = shown(session, &answer.requests).await?;
    Ok(Reply::page(json!(shown), &answer.next_page_token).of_total(answer.total_count))
}

/// Lists the users with whom the user is connected, newest first.
pub(in crate::dialects::talkamie) async fn connected(
    session: &Session,
    fields: &Fields,
) -> Result<Reply, Problem> {
    let page = Page::read(fields)?;
    let list = ListConnectionsRequest {
        page_size: page.size,
        page_token: page.token,
        keyword: fields.filled("keyword")?.unwrap_or_default(),
    };
    let answer = session.call(list).await?;
    let ids: Vec<_> = answer.connections.iter().map(|connection| connection.user_id.as_str()).collect();
    let found = session.users(ids.iter().copied()).await?;
    let people: Vec<_> = ids.iter().filter_map(|id| found.get(id).cloned()).collect();
    let shown = users::shown(session, &people).await?;
    Ok(Reply::page(json!(shown), &answer.next_page_token).of_total(answer.total_count))
}

/// Returns the number of connections, and of waiting requests to the user.
pub(in crate::dialects::talkamie) async fn totals(session: &Session) -> Result<(i32, i32), Problem> {
    let connections = ListConnectionsRequest { page_size: 1, ..ListConnectionsRequest::default() };
    let pending = ListPendingConnectionsRequest {
        direction: RequestDirection::Incoming.into(),
        page_size: 1,
        page_token: String::new(),
    };
    let (connections, pending) = try_join(session.call(connections), session.call(pending)).await?;
    Ok((connections.total_count, pending.total_count))
}
