//! `GET /alerts`, and alerts with the objects that they are about.

use std::collections::HashMap;

use proto::auth::v1::BatchGetReviewsRequest;
use proto::conversation::v1::Conversation;
use proto::id::ConversationId;
use proto::messaging::v1::{Alert, AlertKind, GetMessageRequest, ListAlertsRequest, Message};
use proto::scheduling::v1::{GetScheduleRequest, Schedule};
use serde_json::{Value, json};
use tonic::Code;

use super::{chats, connections, messages, schedules};
use crate::dialects::fields::Fields;
use crate::dialects::talkamie::envelope::{Page, Reply};
use crate::dialects::talkamie::session::{Session, all};
use crate::dialects::talkamie::show::alert::{self, Subject};
use crate::dialects::talkamie::show::review;
use crate::http::error::Problem;

/// The kinds that this API shows.
const KINDS: [AlertKind; 4] =
    [AlertKind::ConnectionRequest, AlertKind::MessageRequest, AlertKind::Schedule, AlertKind::Review];

/// Lists the alerts of the user, the last changed first.
pub(in crate::dialects::talkamie) async fn list(
    session: &Session,
    fields: &Fields,
) -> Result<Reply, Problem> {
    let page = Page::read(fields)?;
    let list = ListAlertsRequest {
        page_size: page.size,
        page_token: page.token,
        kinds: KINDS.map(Into::into).to_vec(),
        ..ListAlertsRequest::default()
    };
    let answer = session.call(list).await?;
    Ok(Reply::page(json!(shown(session, &answer.alerts).await?), &answer.next_page_token))
}

/// Returns the number of unread alerts of the kinds that this API shows.
pub(in crate::dialects::talkamie) async fn unread(session: &Session) -> Result<i32, Problem> {
    let list = ListAlertsRequest {
        only_unread: true,
        page_size: 1,
        kinds: KINDS.map(Into::into).to_vec(),
        ..ListAlertsRequest::default()
    };
    Ok(session.call(list).await?.unread_count)
}

/// Returns alerts with the objects that they are about. Kinds that this API does not know are left out.
pub(in crate::dialects::talkamie) async fn shown(
    session: &Session,
    alerts: &[Alert],
) -> Result<Vec<Value>, Problem> {
    let alerts: Vec<_> = alerts.iter().filter(|alert| alert::word(alert.kind()).is_some()).collect();
    let of_kind = |kind: AlertKind| alerts.iter().copied().filter(move |alert| alert.kind() == kind);
    let me = session.user_id().to_string();

    let requests: Vec<_> =
        of_kind(AlertKind::ConnectionRequest).map(|alert| alert::connection_request(alert, &me)).collect();
    let requests =
        by_id(&requests, |request| &request.request_id, connections::shown(session, &requests).await?);
    let schedules = booked(session, of_kind(AlertKind::Schedule)).await?;
    let reviews = reviews(session, of_kind(AlertKind::Review)).await?;
    let (chats, told) = talks(session, &alerts).await?;

    let show = |alert: &&Alert| {
        let subject = &alert.subject_id;
        alert::show(
            alert,
            Subject {
                schedule: schedules.get(subject).cloned(),
                chat: chats.get(&alert.conversation_id).cloned(),
                message: told.get(&alert.message_id).cloned(),
                connect_request: requests.get(subject).cloned(),
                review: reviews.get(subject).cloned(),
            },
        )
    };
    Ok(alerts.iter().filter_map(show).collect())
}

fn by_id<T>(things: &[T], id: impl Fn(&T) -> &String, shown: Vec<Value>) -> HashMap<String, Value> {
    things.iter().map(|thing| id(thing).clone()).zip(shown).collect()
}

/// Returns the bookings that alerts are about.
async fn booked<'a>(
    session: &Session,
    alerts: impl Iterator<Item = &'a Alert>,
) -> Result<HashMap<String, Value>, Problem> {
    let asked = all(alerts.map(|alert| booking(session, alert)).collect()).await?;
    let found: Vec<Schedule> = asked.into_iter().flatten().collect();
    let shown = schedules::shown(session, &found).await?;
    Ok(by_id(&found, |schedule| &schedule.schedule_id, shown))
}

async fn booking(session: &Session, alert: &Alert) -> Result<Option<Schedule>, Problem> {
    match session.call(GetScheduleRequest { schedule_id: alert.subject_id.clone() }).await {
        Ok(answer) => Ok(answer.schedule),
        Err(problem) if problem.fault().code() == Code::NotFound => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// Returns the reviews that alerts are about. Deleted ones are left out.
async fn reviews<'a>(
    session: &Session,
    alerts: impl Iterator<Item = &'a Alert>,
) -> Result<HashMap<String, Value>, Problem> {
    let review_ids: Vec<_> = alerts.map(|alert| alert.subject_id.clone()).collect();
    if review_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let found = session.call(BatchGetReviewsRequest { review_ids }).await?.reviews;
    let raters = session.users(found.iter().map(|review| review.reviewer_user_id.as_str())).await?;
    let shown = found.iter().map(|found| review::show(found, raters.get(&found.reviewer_user_id)));
    Ok(by_id(&found, |review| &review.review_id, shown.collect()))
}

/// Returns the chats and the messages that alerts are about.
async fn talks(
    session: &Session,
    alerts: &[&Alert],
) -> Result<(HashMap<String, Value>, HashMap<String, Value>), Problem> {
    let ids = alerts.iter().filter_map(|alert| ConversationId::parse(&alert.conversation_id).ok());
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    let entries = chats::entries(session, &ids).await?;
    let conversations: HashMap<_, _> = entries
        .iter()
        .filter_map(|entry| entry.conversation.clone())
        .map(|conversation| (conversation.conversation_id.clone(), conversation))
        .collect();
    let shown = chats::shown(session, &entries).await?;
    let chats = entries.iter().filter_map(|entry| Some(entry.conversation.as_ref()?.conversation_id.clone()));
    let chats: HashMap<_, _> = chats.zip(shown).collect();

    let about = alerts.iter().filter(|alert| !alert.message_id.is_empty());
    let about = about.filter_map(|alert| Some((*alert, conversations.get(&alert.conversation_id)?)));
    let messages = about.map(|(alert, conversation)| told(session, alert, conversation)).collect();
    Ok((chats, all(messages).await?.into_iter().flatten().collect()))
}

/// Returns the message of an alert as it is shown, under its id.
async fn told(
    session: &Session,
    alert: &Alert,
    conversation: &Conversation,
) -> Result<Option<(String, Value)>, Problem> {
    let Some(message) = message(session, alert).await? else { return Ok(None) };
    let shown = messages::shown(session, conversation, std::slice::from_ref(&message)).await?;
    Ok(shown.into_iter().next().map(|shown| (alert.message_id.clone(), shown)))
}

/// Returns the message of an alert: lists have it, pushes do not.
async fn message(session: &Session, alert: &Alert) -> Result<Option<Message>, Problem> {
    if alert.message.is_some() {
        return Ok(alert.message.clone());
    }
    let get = GetMessageRequest {
        conversation_id: alert.conversation_id.clone(),
        message_id: alert.message_id.clone(),
    };
    match session.call(get).await {
        Ok(answer) => Ok(answer.message),
        Err(problem) if problem.fault().code() == Code::NotFound => Ok(None),
        Err(problem) => Err(problem),
    }
}
