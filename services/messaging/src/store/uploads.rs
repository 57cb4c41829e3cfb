//! Files: their rows, what refers to them, and what the sweeper may take away.
//!
//! A file that a message refers to must be there, and one that nothing refers to must go. Both sides take the lock of the
//! file's row before they look at the other: whoever refers to a file ([`hold`]) and the sweeper ([`Store::sweep_upload`]).

use std::collections::BTreeSet;

use chassis::clock::Timestamp;
use proto::id::{ConversationId, ObjectId, UploadId, UserId};
use sqlx::{QueryBuilder, Row as _};
use uuid::Uuid;

use super::erase::push_places;
use super::{Db, FOR_UPDATE, PLACEHOLDERS, Row, Store, Tx, conversation_at, padded, time_at, user_at};
use crate::content::Content;
use crate::error::Error;
use crate::message::{Message, Sequence};
use crate::store::rows::Rows;
use crate::store::{Failure, MAX_ROWS};
use crate::uploads::{Bounds, Bytes, Completion, Excess, Upload, day};

static INSERT_REFERENCES: Rows = Rows::new(
    PLACEHOLDERS,
    "INSERT INTO upload_references (upload_id, conversation_id, message_sequence) VALUES",
    3,
    "ON CONFLICT DO NOTHING",
);

/// What is released with the messages of a conversation: its files are looked at by the sweeper, and it refers to none.
pub const RELEASE_ALL: [&str; 2] = [
    "UPDATE uploads SET sweep_time = 0 WHERE upload_id IN
         (SELECT upload_id FROM upload_references WHERE conversation_id = $1)",
    "DELETE FROM upload_references WHERE conversation_id = $1",
];

/// Messages that refer to a file and are not gone.
macro_rules! live_references {
    () => {
        " FROM upload_references r
         JOIN messages m ON m.conversation_id = r.conversation_id AND m.sequence = r.message_sequence
         JOIN conversation_heads h ON h.conversation_id = r.conversation_id
         WHERE r.upload_id = $1 AND m.delete_time IS NULL AND (m.expire_time IS NULL OR m.expire_time > $2)
             AND m.sequence > h.purged_sequence AND h.delete_time IS NULL"
    };
}

impl Store {
    pub async fn secret(&self, name: &'static str, fresh: &str) -> Result<String, Failure> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(fresh.to_owned())
            .execute(&mut *tx)
            .await?;
        let value = sqlx::query_scalar("SELECT value FROM meta WHERE name = $1")
            .bind(name)
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(value)
    }

    pub async fn create_upload(
        &self,
        upload: &Upload,
        sweep_time: Timestamp,
        writable_from: Timestamp,
        bounds: &Bounds,
    ) -> Result<Option<Excess>, Failure> {
        let mut tx = self.pool.begin().await?;
        if let Some(excess) = excess(&mut tx, upload, writable_from, bounds).await? {
            tx.rollback().await?;
            return Ok(Some(excess));
        }
        sqlx::query::<Db>(
            "INSERT INTO uploads (upload_id, user_id, name, media_type, size, create_time, sweep_time)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(upload.upload_id.uuid())
        .bind(upload.user.uuid())
        .bind(upload.name.clone())
        .bind(upload.media_type.clone())
        .bind(upload.size)
        .bind(upload.create_time.as_millis())
        .bind(sweep_time.as_millis())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(None)
    }

    pub async fn uploads(&self, ids: &[UploadId]) -> Result<Vec<Upload>, Failure> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::<Db>::new(
            "SELECT upload_id, user_id, name, media_type, size, create_time, object_id, sha256
             FROM uploads WHERE upload_id IN (",
        );
        let mut list = query.separated(", ");
        for id in padded(ids) {
            list.push_bind(id.uuid());
        }
        let rows = query.push(")").build().fetch_all(self.pool.read()).await?;
        rows.iter().map(upload).collect()
    }

    pub async fn begin_object(
        &self,
        upload: &Upload,
        object: ObjectId,
        now: Timestamp,
        sweep_time: Timestamp,
        bounds: &Bounds,
    ) -> Result<Option<Excess>, Failure> {
        let mut tx = self.pool.begin().await?;
        if use_day(&mut tx, upload.user, now, upload.size).await? > bounds.per_day {
            tx.rollback().await?;
            return Ok(Some(Excess::PerDay));
        }
        sqlx::query::<Db>(
            "INSERT INTO upload_objects (object_id, upload_id, sweep_time) VALUES ($1, $2, $3)",
        )
        .bind(object.uuid())
        .bind(upload.upload_id.uuid())
        .bind(sweep_time.as_millis())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(None)
    }

    pub async fn complete_upload(&self, upload: UploadId, bytes: &Bytes) -> Result<Completion, Failure> {
        let mut tx = self.pool.begin().await?;
        let taken = sqlx::query::<Db>(
            "UPDATE uploads SET object_id = $2, sha256 = $3 WHERE upload_id = $1 AND object_id IS NULL",
        )
        .bind(upload.uuid())
        .bind(bytes.object.uuid())
        .bind(bytes.sha256.to_vec())
        .execute(&mut *tx)
        .await?;
        let outcome = if taken.rows_affected() == 0 {
            let found: Option<i64> = sqlx::query_scalar("SELECT size FROM uploads WHERE upload_id = $1")
                .bind(upload.uuid())
                .fetch_optional(&mut *tx)
                .await?;
            if found.is_some() { Completion::AlreadyComplete } else { Completion::Gone }
        } else {
            // The sweeper may have taken it for the rubbish of a process that ended.
            let kept = sqlx::query::<Db>(
                "UPDATE upload_objects SET sweep_time = NULL WHERE object_id = $1 AND sweep_time > 0",
            );
            let kept = kept.bind(bytes.object.uuid()).execute(&mut *tx).await?;
            if kept.rows_affected() == 0 { Completion::Gone } else { Completion::Complete }
        };
        match outcome {
            Completion::Complete => tx.commit().await?,
            Completion::AlreadyComplete | Completion::Gone => tx.rollback().await?,
        }
        Ok(outcome)
    }

    pub async fn conversations_with_upload(&self, upload: UploadId) -> Result<Vec<ConversationId>, Failure> {
        let rows = sqlx::query::<Db>(concat!("SELECT DISTINCT r.conversation_id", live_references!()))
            .bind(upload.uuid())
            .bind(self.clock.now().as_millis())
            .fetch_all(self.pool.read())
            .await?;
        rows.iter().map(|row| conversation_at(row, 0)).collect()
    }

    pub async fn has_upload(&self, conversation: ConversationId, upload: UploadId) -> Result<bool, Failure> {
        let row = sqlx::query::<Db>(concat!(
            "SELECT r.conversation_id",
            live_references!(),
            " AND r.conversation_id = $3 LIMIT 1"
        ));
        let row = row.bind(upload.uuid()).bind(self.clock.now().as_millis()).bind(conversation.uuid());
        Ok(row.fetch_optional(self.pool.read()).await?.is_some())
    }

    pub async fn uploads_to_sweep(&self, now: Timestamp, limit: i64) -> Result<Vec<UploadId>, Failure> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "SELECT upload_id FROM uploads WHERE sweep_time <= $1 ORDER BY sweep_time LIMIT $2",
        )
        .bind(now.as_millis())
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        Ok(ids.into_iter().map(UploadId::from).collect())
    }

    pub async fn sweep_upload(&self, upload: UploadId, now: Timestamp) -> Result<bool, Failure> {
        let mut tx = self.pool.begin().await?;
        // Takes the lock: from here on nobody can begin to refer to it, and whoever did is seen by the next statement.
        let taken = sqlx::query::<Db>(
            "UPDATE uploads SET sweep_time = NULL WHERE upload_id = $1 AND sweep_time <= $2",
        );
        let taken = taken.bind(upload.uuid()).bind(now.as_millis()).execute(&mut *tx).await?;
        if taken.rows_affected() == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        let referred = sqlx::query::<Db>("SELECT 1 FROM upload_references WHERE upload_id = $1 LIMIT 1");
        let is_referred = referred.bind(upload.uuid()).fetch_optional(&mut *tx).await?.is_some();
        if !is_referred {
            for text in [
                "UPDATE upload_objects SET sweep_time = 0 WHERE upload_id = $1",
                "DELETE FROM uploads WHERE upload_id = $1",
            ] {
                sqlx::query::<Db>(text).bind(upload.uuid()).execute(&mut *tx).await?;
            }
        }
        tx.commit().await?;
        Ok(!is_referred)
    }

    pub async fn objects_to_sweep(&self, now: Timestamp, limit: i64) -> Result<Vec<ObjectId>, Failure> {
        let mut tx = self.pool.begin().await?;
        // What is marked with 0 cannot become a file any more, so that nobody needs it when it is removed.
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "UPDATE upload_objects SET sweep_time = 0 WHERE object_id IN
                 (SELECT object_id FROM upload_objects WHERE sweep_time <= $1 ORDER BY sweep_time LIMIT $2)
                 AND sweep_time <= $1
             RETURNING object_id",
        )
        .bind(now.as_millis())
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(ids.into_iter().map(ObjectId::from).collect())
    }

    pub async fn forget_object(&self, object: ObjectId) -> Result<(), Failure> {
        let mut tx = self.pool.begin().await?;
        sqlx::query::<Db>("DELETE FROM upload_objects WHERE object_id = $1 AND sweep_time IS NOT NULL")
            .bind(object.uuid())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }
}

/// Counts bytes for a user's day, and locks the user's row. Answers how many bytes that makes.
async fn use_day(tx: &mut Tx, user: UserId, now: Timestamp, bytes: i64) -> Result<i64, Failure> {
    let used = sqlx::query_scalar(
        "INSERT INTO upload_usage (user_id, day, bytes) VALUES ($1, $2, $3)
         ON CONFLICT (user_id) DO UPDATE SET day = excluded.day, bytes = excluded.bytes +
             CASE WHEN upload_usage.day = excluded.day THEN upload_usage.bytes ELSE 0 END
         RETURNING bytes",
    );
    Ok(used.bind(user.uuid()).bind(day(now)).bind(bytes).fetch_one(&mut **tx).await?)
}

/// The bound that a new file would break.
async fn excess(
    tx: &mut Tx,
    upload: &Upload,
    writable_from: Timestamp,
    bounds: &Bounds,
) -> Result<Option<Excess>, Failure> {
    let used = use_day(tx, upload.user, upload.create_time, 0).await?;
    let row = sqlx::query::<Db>(
        "SELECT COUNT(*) FILTER (WHERE object_id IS NULL), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM uploads
         WHERE user_id = $1 AND (object_id IS NOT NULL OR create_time > $2)",
    );
    let row = row.bind(upload.user.uuid()).bind(writable_from.as_millis()).fetch_one(&mut **tx).await?;
    let (pending, stored): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(if pending >= bounds.pending {
        Some(Excess::Pending)
    } else if used.saturating_add(upload.size) > bounds.per_day {
        Some(Excess::PerDay)
    } else if stored.saturating_add(upload.size) > bounds.stored {
        Some(Excess::Stored)
    } else {
        None
    })
}

pub(super) fn upload(row: &Row) -> Result<Upload, Failure> {
    let corrupt = || Failure::corrupt("the sum of a file cannot be read");
    let bytes = match (row.try_get::<Option<Uuid>, _>(6)?, row.try_get::<Option<Vec<u8>>, _>(7)?) {
        (Some(object), Some(sha256)) => {
            Some(Bytes { object: object.into(), sha256: sha256.try_into().map_err(|_| corrupt())? })
        }
        (None, None) => None,
        _ => return Err(corrupt()),
    };
    Ok(Upload {
        upload_id: row.try_get::<Uuid, _>(0)?.into(),
        user: user_at(row, 1)?,
        name: row.try_get(2)?,
        media_type: row.try_get(3)?,
        size: row.try_get(4)?,
        create_time: time_at(row, 5)?,
        bytes,
    })
}

/// Keeps these files from being swept until the end of the transaction, and says which of them are not there.
pub async fn hold(tx: &mut Tx, ids: &BTreeSet<UploadId>) -> Result<BTreeSet<UploadId>, Failure> {
    let mut missing = ids.clone();
    // In the order of their ids: two transactions must not wait for each other.
    for part in Vec::from_iter(ids.iter().copied()).chunks(MAX_ROWS) {
        let mut query = QueryBuilder::<Db>::new(
            "SELECT upload_id FROM uploads WHERE object_id IS NOT NULL AND upload_id IN (",
        );
        let mut list = query.separated(", ");
        for id in padded(part) {
            list.push_bind(id.uuid());
        }
        query.push(") ORDER BY upload_id").push(FOR_UPDATE);
        for row in query.build().fetch_all(&mut **tx).await? {
            missing.remove(&UploadId::from(row.try_get::<Uuid, _>(0)?));
        }
    }
    Ok(missing)
}

/// Writes down that messages refer to files, which are held.
pub async fn refer(tx: &mut Tx, references: &[(UploadId, ConversationId, Sequence)]) -> Result<(), Failure> {
    for (text, part) in INSERT_REFERENCES.parts(references) {
        let mut query = sqlx::query::<Db>(text);
        for (upload, conversation, sequence) in part {
            query = query.bind(upload.uuid()).bind(conversation.uuid()).bind(sequence.get());
        }
        query.execute(&mut **tx).await?;
    }
    for id in references.iter().map(|(id, ..)| *id).collect::<BTreeSet<_>>() {
        let keep = sqlx::query::<Db>("UPDATE uploads SET sweep_time = NULL WHERE upload_id = $1");
        keep.bind(id.uuid()).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Lets go of the files of messages that are gone. The heads of their conversations are locked.
pub async fn release(tx: &mut Tx, messages: &[(ConversationId, Sequence)]) -> Result<(), Failure> {
    const OF_MESSAGES: &str = "upload_references WHERE (conversation_id, message_sequence) IN (";
    for part in messages.chunks(MAX_ROWS) {
        let mut sweep = QueryBuilder::<Db>::new(
            "UPDATE uploads SET sweep_time = 0 WHERE upload_id IN (SELECT upload_id FROM ",
        );
        push_places(sweep.push(OF_MESSAGES), part);
        sweep.push("))").build().execute(&mut **tx).await?;
        let mut forget = QueryBuilder::<Db>::new("DELETE FROM ");
        push_places(forget.push(OF_MESSAGES), part);
        forget.push(")").build().execute(&mut **tx).await?;
    }
    Ok(())
}

/// Makes what a message refers to what it says after it was edited.
pub async fn settle(tx: &mut Tx, before: &Message, after: &Message) -> Result<(), Error> {
    let of = |message: &Message| message.content.as_ref().map(Content::upload_ids).unwrap_or_default();
    let (had, has) = (of(before), of(after));
    if had == has {
        return Ok(());
    }
    let missing = hold(tx, &has.iter().copied().collect()).await?;
    if let Some(id) = missing.first() {
        return Err(Error::UploadNotFound(*id));
    }
    release(tx, &[(after.conversation, after.sequence)]).await?;
    let references: Vec<_> = has.iter().map(|id| (*id, after.conversation, after.sequence)).collect();
    Ok(refer(tx, &references).await?)
}
