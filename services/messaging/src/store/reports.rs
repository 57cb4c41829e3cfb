//! Reports.

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId, ReportId, UserId};
use proto::messaging::v1::{ReportReason, ReportState};
use sqlx::{QueryBuilder, Row as _};
use uuid::Uuid;

use super::user_log::append_user_events;
use super::{
    Db, FOR_UPDATE, Row, Store, Tx, conversation_at, message, message_columns, messages, time_at, user_at,
};
use crate::content::Content;
use crate::error::Error;
use crate::message::Message;
use crate::report::{self, Complaint, Remark, Report, Resolution, Verdict};
use crate::store::{Failure, Reported, Reports};

/// The columns of a report, as [`report`] reads them, and where they come from.
macro_rules! reports {
    ($rest:literal) => {
        concat!(
            "SELECT conversation_id, report_id, message_id, sender_id, reporter_id, reason, comment, snapshot,
                 create_time, state, resolved_by, resolve_time, note
             FROM reports WHERE ",
            $rest
        )
    };
}

pub(super) use reports;

/// Of what somebody reported before.
const BY: &str = reports!("conversation_id = $1 AND message_id = $2 AND reporter_id = $3");

impl Store {
    pub async fn report_by(
        &self,
        conversation: ConversationId,
        message_id: MessageId,
        reporter: UserId,
    ) -> Result<Option<Report>, Failure> {
        let row = sqlx::query::<Db>(BY)
            .bind(conversation.uuid())
            .bind(message_id.uuid())
            .bind(reporter.uuid())
            .fetch_optional(self.pool.read())
            .await?;
        row.as_ref().map(report).transpose()
    }

    pub async fn report(&self, id: ReportId) -> Result<Option<Report>, Failure> {
        let row = sqlx::query::<Db>(reports!("report_id = $1"))
            .bind(id.uuid())
            .fetch_optional(self.pool.read())
            .await?;
        row.as_ref().map(report).transpose()
    }

    pub async fn file_report(
        &self,
        complaint: &Complaint,
        moderators: &[UserId],
        now: Timestamp,
    ) -> Result<Reported, Error> {
        let Complaint { conversation, message_id, reporter, .. } = *complaint;
        // In this order everywhere: the reporter, the head of the conversation, the logs of users.
        let mut tx = self.pool.begin().await?;
        lock_reporter(&mut tx, reporter, now).await?;
        let first = sqlx::query::<Db>(BY)
            .bind(conversation.uuid())
            .bind(message_id.uuid())
            .bind(reporter.uuid())
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(first) = first {
            tx.rollback().await?;
            return Ok(Reported { report: report(&first)?, user_events: Vec::new() });
        }
        let message = locked_message(&mut tx, conversation, message_id, now).await?;
        let report = complaint.about(&message.ok_or(Error::MessageNotFound(message_id))?, now)?;
        check_pace(&mut tx, reporter, now).await?;
        insert(&mut tx, &report).await?;
        let user_events = tell(&mut tx, &report, moderators, now).await?;
        tx.commit().await?;
        Ok(Reported { report, user_events })
    }

    pub async fn reports(&self, wanted: &Reports) -> Result<Vec<Report>, Failure> {
        let text = if wanted.only_open {
            reports!(
                "conversation_id = $1 AND sender_id <> $2 AND (create_time, report_id) < ($3, $4) AND state = 1
                 ORDER BY create_time DESC, report_id DESC LIMIT $5"
            )
        } else {
            reports!(
                "conversation_id = $1 AND sender_id <> $2 AND (create_time, report_id) < ($3, $4)
                 ORDER BY create_time DESC, report_id DESC LIMIT $5"
            )
        };
        let (time, id) = wanted.after.unwrap_or((i64::MAX, Uuid::max()));
        let rows = sqlx::query::<Db>(text)
            .bind(wanted.conversation.uuid())
            .bind(wanted.viewer.uuid())
            .bind(time)
            .bind(id)
            .bind(wanted.limit)
            .fetch_all(self.pool.read())
            .await?;
        rows.iter().map(report).collect()
    }

    pub async fn resolve_report(
        &self,
        conversation: ConversationId,
        id: ReportId,
        resolution: &Resolution,
        moderators: &[UserId],
    ) -> Result<Reported, Error> {
        let mut tx = self.pool.begin().await?;
        let mut query = QueryBuilder::<Db>::new(reports!("conversation_id = "));
        query.push_bind(conversation.uuid()).push(" AND report_id = ").push_bind(id.uuid()).push(FOR_UPDATE);
        let row = query.build().fetch_optional(&mut *tx).await?;
        let before = row.as_ref().map(report).transpose()?.ok_or(Error::ReportNotFound(id))?;
        let Some(after) = before.resolve(resolution.clone())? else {
            tx.rollback().await?;
            return Ok(Reported { report: before, user_events: Vec::new() });
        };
        sqlx::query::<Db>(
            "UPDATE reports SET state = $3, resolved_by = $4, resolve_time = $5, note = $6
             WHERE conversation_id = $1 AND report_id = $2",
        )
        .bind(conversation.uuid())
        .bind(id.uuid())
        .bind(i64::from(i32::from(after.state())))
        .bind(resolution.by.uuid())
        .bind(resolution.time.as_millis())
        .bind(resolution.note.as_str())
        .execute(&mut *tx)
        .await?;
        let user_events = tell(&mut tx, &after, moderators, resolution.time).await?;
        tx.commit().await?;
        Ok(Reported { report: after, user_events })
    }
}

/// From here on nobody else counts or makes reports of this user.
async fn lock_reporter(tx: &mut Tx, reporter: UserId, now: Timestamp) -> Result<(), Failure> {
    sqlx::query::<Db>(
        "INSERT INTO reporters (user_id, last_report_time) VALUES ($1, $2)
         ON CONFLICT (user_id) DO UPDATE SET last_report_time = excluded.last_report_time",
    )
    .bind(reporter.uuid())
    .bind(now.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A message under the lock of its conversation's head: it does not change, and its conversation does not go, before the
/// report is there.
async fn locked_message(
    tx: &mut Tx,
    conversation: ConversationId,
    id: MessageId,
    now: Timestamp,
) -> Result<Option<Message>, Failure> {
    let mut lock =
        QueryBuilder::<Db>::new("SELECT last_sequence FROM conversation_heads WHERE conversation_id = ");
    lock.push_bind(conversation.uuid()).push(FOR_UPDATE);
    lock.build().fetch_optional(&mut **tx).await?;
    let row = sqlx::query::<Db>(concat!(
        "SELECT ",
        message_columns!(),
        " FROM ",
        messages!(),
        " WHERE m.conversation_id = $1 AND m.message_id = $2"
    ))
    .bind(conversation.uuid())
    .bind(id.uuid())
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| message(conversation, &row, 0, now)).transpose()
}

/// Refuses a user who has made as many reports lately as anybody may.
async fn check_pace(tx: &mut Tx, reporter: UserId, now: Timestamp) -> Result<(), Error> {
    let oldest: Option<i64> = sqlx::query_scalar(
        "SELECT create_time FROM reports WHERE reporter_id = $1 AND create_time > $2
         ORDER BY create_time DESC LIMIT 1 OFFSET $3",
    )
    .bind(reporter.uuid())
    .bind(now.minus(report::PERIOD).as_millis())
    .bind(report::MOST - 1)
    .fetch_optional(&mut **tx)
    .await?;
    match oldest.map(|time| Timestamp::from_millis(time).plus(report::PERIOD)) {
        Some(free) => Err(Error::RateLimited { wait: free.since(now) }),
        None => Ok(()),
    }
}

async fn insert(tx: &mut Tx, report: &Report) -> Result<(), Failure> {
    sqlx::query::<Db>(
        "INSERT INTO reports (conversation_id, report_id, message_id, sender_id, reporter_id, reason, comment, snapshot,
             create_time, state, note)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, '')",
    )
    .bind(report.conversation.uuid())
    .bind(report.id.uuid())
    .bind(report.message_id.uuid())
    .bind(report.sender.uuid())
    .bind(report.reporter.map_or(report.id.uuid(), UserId::uuid))
    .bind(i64::from(i32::from(report.reason)))
    .bind(report.comment.as_str())
    .bind(report.snapshot.as_ref().map(Content::encode))
    .bind(report.create_time.as_millis())
    .bind(i64::from(i32::from(report.state())))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn tell(
    tx: &mut Tx,
    report: &Report,
    moderators: &[UserId],
    now: Timestamp,
) -> Result<Vec<crate::event::UserEvent>, Failure> {
    let told = report.audience(moderators).into_iter().map(|(user, what)| (user, now, what));
    append_user_events(tx, told.collect()).await
}

pub(super) fn report(row: &Row) -> Result<Report, Failure> {
    let number = |column| Ok::<_, Failure>(i32::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0));
    let corrupt = || Failure::corrupt("a report cannot be read");
    let verdict = match ReportState::try_from(number(9)?) {
        Ok(ReportState::Open) => None,
        Ok(state) => Some(Verdict::parse(state).map_err(|_| corrupt())?),
        Err(_) => return Err(corrupt()),
    };
    let resolution = match verdict {
        Some(verdict) => Some(Resolution {
            verdict,
            by: user_at(row, 10)?,
            time: time_at(row, 11)?,
            note: Remark::stored(row.try_get(12)?),
        }),
        None => None,
    };
    let snapshot = row.try_get::<Option<Vec<u8>>, _>(7)?;
    // Of one whose maker is gone it names itself as its maker.
    let id: Uuid = row.try_get(1)?;
    Ok(Report {
        id: id.into(),
        conversation: conversation_at(row, 0)?,
        message_id: row.try_get::<Uuid, _>(2)?.into(),
        sender: user_at(row, 3)?,
        reporter: Some(user_at(row, 4)?).filter(|reporter| reporter.uuid() != id),
        reason: ReportReason::try_from(number(5)?).map_err(|_| corrupt())?,
        comment: Remark::stored(row.try_get(6)?),
        snapshot: snapshot.map(|bytes| Content::decode(&bytes)).transpose()?,
        create_time: time_at(row, 8)?,
        resolution,
    })
}
