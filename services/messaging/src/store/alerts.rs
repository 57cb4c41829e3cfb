//! The alerts of users.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chassis::clock::Timestamp;
use proto::id::{AlertId, ConversationId, MessageId, UserId};
use proto::messaging::v1::{self as pb, AlertKind, AlertState};
use sqlx::{QueryBuilder, Row as _};
use uuid::Uuid;

use super::departures::lock_present;
use super::hidden::not_hidden;
use super::log::{Advance, advance_heads};
use super::user_log::{append_user_events, lock_users};
use super::{
    Db, PLACEHOLDERS, Row, Store, Tx, conversation_at, message, message_columns, messages, padded, time_at,
    user_at,
};
use crate::alert::{Alert, News};
use crate::error::Error;
use crate::event::{UserEvent, UserHappening};
use crate::message::Message;
use crate::store::rows::Rows;
use crate::store::{Alerts, Failure, MAX_ROWS, Marked, Marking};

/// So many alerts that it has read are kept of a user, those that changed last.
const MAX_READ: i64 = 1000;

/// So many are kept in all, read or not.
const MAX_ALERTS: i64 = 5000;

/// How many are removed at a time.
const PRUNED: i64 = 256;

/// After so many events of its log a user's alerts are counted.
const PRUNE_EVERY: i64 = 64;

/// The columns of an alert, as [`alert`] reads them.
macro_rules! alert_columns {
    () => {
        "user_id, alert_id, kind, subject, actor_id, conversation_id, message_id, create_time, update_time, \
         read_time, state, version, requester_id"
    };
}

static INSERT_ALERTS: Rows = Rows::new(
    PLACEHOLDERS,
    concat!("INSERT INTO alerts (", alert_columns!(), ") VALUES"),
    13,
    "ON CONFLICT (user_id, kind, subject) DO NOTHING RETURNING alert_id",
);

/// Raises alerts and tells their users. One that was raised for the same subject before stays as it is.
pub(super) async fn raise(tx: &mut Tx, alerts: &[Alert]) -> Result<Vec<UserEvent>, Failure> {
    if alerts.is_empty() {
        return Ok(Vec::new());
    }
    let users = alerts.iter().map(|alert| alert.user).collect();
    let gone = lock_present(tx, &users).await?;
    let alerts: Vec<_> = alerts.iter().filter(|alert| !gone.contains(&alert.user)).collect();
    let new = insert(tx, &alerts).await?;
    let new = alerts.iter().filter(|alert| new.contains(&alert.alert_id));
    let happened = new.map(|alert| (alert.user, alert.update_time, changed(alert))).collect();
    let events = append_user_events(tx, happened).await?;
    keep_bounds(tx, &events).await?;
    Ok(events)
}

/// Adds those for whose subject there is none yet; answers which.
async fn insert(tx: &mut Tx, alerts: &[&Alert]) -> Result<HashSet<AlertId>, Failure> {
    let mut new = HashSet::with_capacity(alerts.len());
    for (text, part) in INSERT_ALERTS.parts(alerts) {
        let mut query = sqlx::query::<Db>(text);
        for alert in part {
            query = query
                .bind(alert.user.uuid())
                .bind(alert.alert_id.uuid())
                .bind(i64::from(i32::from(alert.kind)))
                .bind(alert.subject)
                .bind(alert.actor.map(UserId::uuid))
                .bind(alert.conversation.map(ConversationId::uuid))
                .bind(alert.message.map(MessageId::uuid))
                .bind(alert.create_time.as_millis())
                .bind(alert.update_time.as_millis())
                .bind(alert.read_time.map(Timestamp::as_millis))
                .bind(i64::from(i32::from(alert.state)))
                .bind(alert.version)
                .bind(alert.requester.map(UserId::uuid));
        }
        for row in query.fetch_all(&mut **tx).await? {
            new.insert(AlertId::from(row.try_get::<Uuid, _>(0)?));
        }
    }
    Ok(new)
}

/// Makes the alerts of users say what became of their subjects, and tells the users. Those who are gone hear nothing.
pub(super) async fn tell(tx: &mut Tx, news: &[News]) -> Result<Vec<UserEvent>, Failure> {
    if news.is_empty() {
        return Ok(Vec::new());
    }
    let users = news.iter().map(|one| one.user).collect();
    // From here on nobody else makes or changes alerts of these users.
    let gone = lock_present(tx, &users).await?;
    let mut happened = Vec::with_capacity(news.len());
    for one in news.iter().filter(|one| !gone.contains(&one.user)) {
        let before = by_subject(tx, one.user, one.kind, one.subject).await?;
        let Some(after) = one.apply(before.as_ref()) else { continue };
        match before {
            Some(_) => update(tx, &after).await?,
            None => {
                insert(tx, &[&after]).await?;
            }
        }
        happened.push((after.user, one.time, changed(&after)));
    }
    let events = append_user_events(tx, happened).await?;
    keep_bounds(tx, &events).await?;
    Ok(events)
}

/// The unread mentions in a conversation: of whom, by which message.
pub(super) async fn unread_mentions(
    tx: &mut Tx,
    conversation: ConversationId,
) -> Result<Vec<(UserId, MessageId)>, Failure> {
    let rows = sqlx::query::<Db>(
        "SELECT user_id, subject FROM alerts WHERE conversation_id = $1 AND kind = $2 AND read_time IS NULL",
    )
    .bind(conversation.uuid())
    .bind(i64::from(i32::from(AlertKind::Mention)))
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(|row| Ok((user_at(row, 0)?, MessageId::from(row.try_get::<Uuid, _>(1)?)))).collect()
}

/// Makes mentions read that are there no more, or whose messages are not, and tells the users.
pub(super) async fn settle_mentions(
    tx: &mut Tx,
    mentions: &[(UserId, MessageId)],
    time: Timestamp,
) -> Result<Vec<UserEvent>, Failure> {
    if mentions.is_empty() {
        return Ok(Vec::new());
    }
    let gone = lock_present(tx, &mentions.iter().map(|(user, _)| *user).collect()).await?;
    let mut happened = Vec::with_capacity(mentions.len());
    for (user, message) in mentions.iter().filter(|(user, _)| !gone.contains(user)) {
        let before = by_subject(tx, *user, AlertKind::Mention, message.uuid()).await?;
        let Some(before) = before.filter(|alert| alert.read_time.is_none()) else { continue };
        let after = Alert { read_time: Some(time), update_time: time, ..before };
        update(tx, &after).await?;
        happened.push((*user, time, changed(&after)));
    }
    append_user_events(tx, happened).await
}

/// Adds its message to the alert of a message request, and tells the user, the head of whose log is locked.
pub(super) async fn attach(
    tx: &mut Tx,
    user: UserId,
    request: Uuid,
    message: &Message,
) -> Result<Vec<UserEvent>, Failure> {
    let before = by_subject(tx, user, AlertKind::MessageRequest, request).await?;
    let Some(before) = before.filter(|alert| alert.message.is_none()) else { return Ok(Vec::new()) };
    let after = Alert { message: Some(message.message_id), ..before };
    update(tx, &after).await?;
    append_user_events(tx, vec![(user, message.create_time, changed(&after))]).await
}

async fn by_subject(
    tx: &mut Tx,
    user: UserId,
    kind: AlertKind,
    subject: Uuid,
) -> Result<Option<Alert>, Failure> {
    let row = sqlx::query::<Db>(concat!(
        "SELECT ",
        alert_columns!(),
        " FROM alerts WHERE user_id = $1 AND kind = $2 AND subject = $3"
    ))
    .bind(user.uuid())
    .bind(i64::from(i32::from(kind)))
    .bind(subject)
    .fetch_optional(&mut **tx)
    .await?;
    row.as_ref().map(alert).transpose()
}

async fn update(tx: &mut Tx, alert: &Alert) -> Result<(), Failure> {
    sqlx::query::<Db>(
        "UPDATE alerts SET state = $3, version = $4, actor_id = $5, conversation_id = $6, message_id = $7,
             update_time = $8, read_time = $9, requester_id = $10
         WHERE user_id = $1 AND alert_id = $2",
    )
    .bind(alert.user.uuid())
    .bind(alert.alert_id.uuid())
    .bind(i64::from(i32::from(alert.state)))
    .bind(alert.version)
    .bind(alert.actor.map(UserId::uuid))
    .bind(alert.conversation.map(ConversationId::uuid))
    .bind(alert.message.map(MessageId::uuid))
    .bind(alert.update_time.as_millis())
    .bind(alert.read_time.map(Timestamp::as_millis))
    .bind(alert.requester.map(UserId::uuid))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Looks after the bounds of those whose log has come to a round number: nobody has many more than that, and a mention
/// hardly ever costs more than itself.
async fn keep_bounds(tx: &mut Tx, events: &[UserEvent]) -> Result<(), Failure> {
    let due = events.iter().filter(|event| event.sequence.get() % PRUNE_EVERY == 0);
    for user in due.map(|event| event.user).collect::<BTreeSet<_>>() {
        prune(tx, user).await?;
    }
    Ok(())
}

/// Removes the oldest alerts of a user beyond the bounds, some at a time. The head of the user's log is locked.
async fn prune(tx: &mut Tx, user: UserId) -> Result<(), Failure> {
    for (text, kept) in [
        (
            "DELETE FROM alerts WHERE user_id = $1 AND alert_id IN
                 (SELECT alert_id FROM alerts WHERE user_id = $1 AND read_time IS NOT NULL
                  ORDER BY update_time DESC, alert_id DESC LIMIT $2 OFFSET $3)",
            MAX_READ,
        ),
        (
            "DELETE FROM alerts WHERE user_id = $1 AND alert_id IN
                 (SELECT alert_id FROM alerts WHERE user_id = $1
                  ORDER BY update_time DESC, alert_id DESC LIMIT $2 OFFSET $3)",
            MAX_ALERTS,
        ),
    ] {
        sqlx::query::<Db>(text).bind(user.uuid()).bind(PRUNED).bind(kept).execute(&mut **tx).await?;
    }
    Ok(())
}

/// What the log of a user says of an alert.
fn changed(alert: &Alert) -> UserHappening {
    UserHappening::AlertChanged(Box::new(pb::Alert::from(alert)))
}

fn alert(row: &Row) -> Result<Alert, Failure> {
    let number = |column| Ok::<_, Failure>(i32::try_from(row.try_get::<i64, _>(column)?).ok());
    let kind = number(2)?.and_then(|kind| AlertKind::try_from(kind).ok());
    let state = number(10)?.and_then(|state| AlertState::try_from(state).ok());
    let id = |column| row.try_get::<Option<Uuid>, _>(column);
    Ok(Alert {
        user: user_at(row, 0)?,
        alert_id: row.try_get::<Uuid, _>(1)?.into(),
        // Of a kind that a newer release knows.
        kind: kind.unwrap_or(AlertKind::Unspecified),
        subject: row.try_get(3)?,
        actor: id(4)?.map(UserId::from),
        conversation: id(5)?.map(ConversationId::from),
        message: id(6)?.map(MessageId::from),
        create_time: time_at(row, 7)?,
        update_time: time_at(row, 8)?,
        read_time: row.try_get::<Option<i64>, _>(9)?.map(Timestamp::from_millis),
        state: state.unwrap_or(AlertState::Unspecified),
        version: row.try_get(11)?,
        requester: id(12)?.map(UserId::from),
    })
}

impl Store {
    pub async fn alerts(&self, alerts: &Alerts) -> Result<Vec<Alert>, Failure> {
        let mut query =
            QueryBuilder::<Db>::new(concat!("SELECT ", alert_columns!(), " FROM alerts WHERE user_id = "));
        query.push_bind(alerts.user.uuid());
        if alerts.only_unread {
            query.push(" AND read_time IS NULL");
        }
        of_kinds(&mut query, &alerts.kinds);
        if let Some((time, id)) = alerts.before {
            query.push(" AND (update_time, alert_id) < (").push_bind(time.as_millis());
            query.push(", ").push_bind(id.uuid()).push(")");
        }
        query.push(" ORDER BY update_time DESC, alert_id DESC LIMIT ").push_bind(alerts.limit);
        query.build().fetch_all(self.pool.read()).await?.iter().map(alert).collect()
    }

    pub async fn unread_alerts(
        &self,
        user: UserId,
        kinds: &BTreeSet<AlertKind>,
        most: i64,
    ) -> Result<i64, Failure> {
        let mut query = QueryBuilder::<Db>::new(
            "SELECT COUNT(*) FROM (SELECT 1 FROM alerts WHERE read_time IS NULL AND user_id = ",
        );
        query.push_bind(user.uuid());
        of_kinds(&mut query, kinds);
        query.push(" LIMIT ").push_bind(most).push(") unread");
        Ok(query.build_query_scalar().fetch_one(self.pool.read()).await?)
    }

    pub async fn mark_alerts(&self, marking: &Marking, now: Timestamp) -> Result<Vec<UserEvent>, Error> {
        let read_time = marking.read.then_some(now);
        let mut tx = self.pool.begin().await?;
        lock_users(&mut tx, &BTreeSet::from([marking.user])).await?;
        let mut alerts = match &marking.which {
            Marked::These(ids) => these(&mut tx, marking.user, ids).await?,
            Marked::Some { since, limit } => {
                not_marked(&mut tx, marking.user, marking.read, *since, *limit).await?
            }
        };
        alerts.retain(|alert| alert.read_time.is_some() != marking.read);
        let ids: Vec<_> = alerts.iter().map(|alert| alert.alert_id).collect();
        for part in ids.chunks(MAX_ROWS) {
            let mut query = QueryBuilder::<Db>::new("UPDATE alerts SET read_time = ");
            query.push_bind(read_time.map(Timestamp::as_millis));
            query.push(" WHERE user_id = ").push_bind(marking.user.uuid());
            listed(&mut query, part);
            query.build().execute(&mut *tx).await?;
        }
        let marked = alerts.into_iter().map(|alert| Alert { read_time, ..alert });
        let happened = marked.map(|alert| (alert.user, now, changed(&alert))).collect();
        let events = append_user_events(&mut tx, happened).await?;
        if marking.read && !events.is_empty() {
            prune(&mut tx, marking.user).await?;
        }
        tx.commit().await?;
        Ok(events)
    }

    pub async fn raise_alert(&self, news: &News) -> Result<(Option<Alert>, Vec<UserEvent>), Failure> {
        let mut tx = self.pool.begin().await?;
        let mut news = news.clone();
        if let Some(conversation) = news.conversation {
            // Locked so that the conversation does not go in between and leaves a row that nobody removes.
            let heads = advance_heads(&mut tx, &BTreeMap::from([(conversation, Advance::LOCK)])).await?;
            if heads.is_empty() {
                (news.conversation, news.message) = (None, None);
            }
        }
        let events = tell(&mut tx, std::slice::from_ref(&news)).await?;
        let alert = by_subject(&mut tx, news.user, news.kind, news.subject).await?;
        tx.commit().await?;
        Ok((alert, events))
    }

    pub async fn messages_for(
        &self,
        user: UserId,
        wanted: &[(ConversationId, MessageId)],
    ) -> Result<HashMap<MessageId, Message>, Failure> {
        let (mut found, now) = (HashMap::with_capacity(wanted.len()), self.clock.now());
        for part in wanted.chunks(MAX_ROWS) {
            let mut query = QueryBuilder::<Db>::new(concat!(
                "SELECT m.conversation_id, ",
                message_columns!(),
                " FROM ",
                messages!(),
                " WHERE ",
                not_hidden!()
            ));
            query.push_bind(user.uuid()).push(") AND (m.message_id, m.conversation_id) IN (");
            query.push_values(padded(part), |mut row, (conversation, id)| {
                row.push_bind(id.uuid()).push_bind(conversation.uuid());
            });
            for row in query.push(")").build().fetch_all(self.pool.read()).await? {
                let message = message(conversation_at(&row, 0)?, &row, 1, now)?;
                found.insert(message.message_id, message);
            }
        }
        Ok(found)
    }
}

/// These alerts of a user; all of them, or it is refused.
async fn these(tx: &mut Tx, user: UserId, ids: &BTreeSet<AlertId>) -> Result<Vec<Alert>, Error> {
    let mut alerts = Vec::with_capacity(ids.len());
    for part in Vec::from_iter(ids.iter().copied()).chunks(MAX_ROWS) {
        let mut query =
            QueryBuilder::<Db>::new(concat!("SELECT ", alert_columns!(), " FROM alerts WHERE user_id = "));
        query.push_bind(user.uuid());
        listed(&mut query, part);
        for row in query.build().fetch_all(&mut **tx).await? {
            alerts.push(alert(&row)?);
        }
    }
    let found: HashSet<_> = alerts.iter().map(|alert| alert.alert_id).collect();
    match ids.iter().find(|id| !found.contains(id)) {
        Some(unknown) => Err(Error::AlertNotFound(*unknown)),
        None => Ok(alerts),
    }
}

/// Some alerts of a user that are not marked so yet and have not changed since.
async fn not_marked(
    tx: &mut Tx,
    user: UserId,
    read: bool,
    since: Timestamp,
    limit: i64,
) -> Result<Vec<Alert>, Failure> {
    let text = if read {
        concat!(
            "SELECT ",
            alert_columns!(),
            " FROM alerts WHERE user_id = $1 AND read_time IS NULL AND update_time <= $2",
            " ORDER BY update_time DESC, alert_id DESC LIMIT $3"
        )
    } else {
        concat!(
            "SELECT ",
            alert_columns!(),
            " FROM alerts WHERE user_id = $1 AND read_time IS NOT NULL AND update_time <= $2",
            " ORDER BY update_time DESC, alert_id DESC LIMIT $3"
        )
    };
    let query = sqlx::query::<Db>(text).bind(user.uuid()).bind(since.as_millis()).bind(limit);
    query.fetch_all(&mut **tx).await?.iter().map(alert).collect()
}

/// Leaves out alerts of other kinds; none for all kinds.
fn of_kinds(query: &mut QueryBuilder<Db>, kinds: &BTreeSet<AlertKind>) {
    if kinds.is_empty() {
        return;
    }
    query.push(" AND kind IN (");
    let mut list = query.separated(", ");
    let kinds: Vec<_> = kinds.iter().map(|kind| i64::from(i32::from(*kind))).collect();
    for kind in padded(&kinds) {
        list.push_bind(kind);
    }
    query.push(")");
}

fn listed(query: &mut QueryBuilder<Db>, ids: &[AlertId]) {
    query.push(" AND alert_id IN (");
    let mut list = query.separated(", ");
    for id in padded(ids) {
        list.push_bind(id.uuid());
    }
    query.push(")");
}
