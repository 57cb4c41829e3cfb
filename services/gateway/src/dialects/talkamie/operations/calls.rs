//! `/call/{id}` and `/calls/histories`.

use chassis::fault::Fault;
use proto::scheduling::v1::{Call, GetCallRequest, ListCallsRequest};
use serde_json::{Value, json};

use crate::dialects::fields::Fields;
use crate::dialects::ids;
use crate::dialects::talkamie::envelope::{Page, Reply};
use crate::dialects::talkamie::session::Session;
use crate::dialects::talkamie::show::call;
use crate::http::error::Problem;

/// Returns one call.
pub(in crate::dialects::talkamie) async fn get(session: &Session, id: &str) -> Result<Reply, Problem> {
    let found = session.call(GetCallRequest { call_id: call_id("id", id)? }).await?;
    Ok(Reply::new(shown(session, &[found.call.unwrap_or_default()]).await?.remove(0)))
}

/// Reads the id of a call in a field.
pub(in crate::dialects::talkamie) fn call_id(field: &str, text: &str) -> Result<String, Fault> {
    let id = ids::parse(text).ok_or_else(|| Fault::invalid(field, "must be the id of a call"))?;
    Ok(id.to_string())
}

/// Lists the calls of the user, newest first.
pub(in crate::dialects::talkamie) async fn histories(
    session: &Session,
    fields: &Fields,
) -> Result<Reply, Problem> {
    let page = Page::read(fields)?;
    let list = ListCallsRequest {
        page_size: page.size,
        page_token: page.token,
        keyword: fields.filled("keyword")?.unwrap_or_default(),
        ..ListCallsRequest::default()
    };
    let answer = session.call(list).await?;
    Ok(Reply::page(json!(shown(session, &answer.calls).await?), &answer.next_page_token))
}

/// Returns calls with the other user of each.
pub(in crate::dialects::talkamie) async fn shown(
    session: &Session,
    calls: &[Call],
) -> Result<Vec<Value>, Problem> {
    let me = session.user_id().to_string();
    let people = session.users(calls.iter().map(|found| call::other(found, &me))).await?;
    let show = |found: &Call| call::show(found, &me, people.get(call::other(found, &me)));
    Ok(calls.iter().map(show).collect())
}
