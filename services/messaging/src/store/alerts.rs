//! The alerts of users.

use std::collections::{BTreeSet, HashMap, HashSet};

use chassis::clock::Timestamp;
use proto::id::{AlertId, ConversationId, MessageId, UserId};
use proto::messaging::v1::{self as pb, AlertKind};
use sqlx::{QueryBuilder, Row as _};
use uuid::Uuid;

use super::user_log::{append_user_events, lock_users};
use super::{
    Db, PLACEHOLDERS, Row, Store, Tx, conversation_at, message, message_columns, messages, padded, time_at,
    user_at,
};
use crate::alert::Alert;
use crate::error::Error;
use crate::event::{UserEvent, UserHappening};
use crate::message::Message;
use crate::store::rows::Rows;
use crate::store::{Alerts, Failure, MAX_ROWS, Marked, Marking};

/// The columns of an alert, as [`alert`] reads them.
macro_rules! alert_columns {
    () => {
        "user_id, alert_id, kind, subject, actor_id, conversation_id, message_id, create_time, update_time, read_time"
    };
}

static INSERT_ALERTS: Rows = Rows::new(
    PLACEHOLDERS,
    concat!("INSERT INTO alerts (", alert_columns!(), ") VALUES"),
    10,
    "ON CONFLICT (user_id, kind, subject) DO NOTHING RETURNING alert_id",
);

/// Raises alerts and tells their users. One that was raised for the same subject before stays as it is.
pub(super) async fn raise(tx: &mut Tx, alerts: &[Alert]) -> Result<Vec<UserEvent>, Failure> {
    if alerts.is_empty() {
        return Ok(Vec::new());
    }
    lock_users(tx, &alerts.iter().map(|alert| alert.user).collect()).await?;
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
                .bind(alert.read_time.map(Timestamp::as_millis));
        }
        for row in query.fetch_all(&mut **tx).await? {
            new.insert(AlertId::from(row.try_get::<Uuid, _>(0)?));
        }
    }
    let new = alerts.iter().filter(|alert| new.contains(&alert.alert_id));
    append_user_events(tx, new.map(|alert| (alert.user, alert.update_time, changed(alert))).collect()).await
}

/// What the log of a user says of an alert.
fn changed(alert: &Alert) -> UserHappening {
    UserHappening::AlertChanged(Box::new(pb::Alert::from(alert)))
}

fn alert(row: &Row) -> Result<Alert, Failure> {
    let kind = i32::try_from(row.try_get::<i64, _>(2)?).ok().and_then(|kind| AlertKind::try_from(kind).ok());
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
        if let Some((time, id)) = alerts.before {
            query.push(" AND (update_time, alert_id) < (").push_bind(time.as_millis());
            query.push(", ").push_bind(id.uuid()).push(")");
        }
        query.push(" ORDER BY update_time DESC, alert_id DESC LIMIT ").push_bind(alerts.limit);
        query.build().fetch_all(self.pool.read()).await?.iter().map(alert).collect()
    }

    pub async fn unread_alerts(&self, user: UserId, most: i64) -> Result<i64, Failure> {
        let count = sqlx::query_scalar::<Db, i64>(
            "SELECT COUNT(*) FROM
                 (SELECT 1 FROM alerts WHERE user_id = $1 AND read_time IS NULL LIMIT $2) unread",
        );
        Ok(count.bind(user.uuid()).bind(most).fetch_one(self.pool.read()).await?)
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
        tx.commit().await?;
        Ok(events)
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
                " WHERE NOT EXISTS (SELECT 1 FROM hidden_messages h WHERE h.conversation_id = m.conversation_id",
                " AND h.message_sequence = m.sequence AND h.user_id = "
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

fn listed(query: &mut QueryBuilder<Db>, ids: &[AlertId]) {
    query.push(" AND alert_id IN (");
    let mut list = query.separated(", ");
    for id in padded(ids) {
        list.push_bind(id.uuid());
    }
    query.push(")");
}
