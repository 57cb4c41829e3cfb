//! The positions of event streams, which make the ids of their events short.

use std::collections::BTreeSet;

use chassis::clock::Timestamp;
use proto::id::{StreamCheckpointId, UserId};

use super::departures::lock_present;
use super::{Db, Store};
use crate::store::Failure;

impl Store {
    pub async fn create_stream_checkpoint(
        &self,
        user: UserId,
        id: StreamCheckpointId,
        positions: &[u8],
        most: i64,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let mut tx = self.pool.begin().await?;
        // The lock keeps two streams of one user from each leaving a checkpoint too many.
        if !lock_present(&mut tx, &BTreeSet::from([user])).await?.is_empty() {
            return Ok(tx.commit().await?);
        }
        sqlx::query::<Db>(
            "INSERT INTO stream_checkpoints (user_id, checkpoint_id, positions, use_time) VALUES ($1, $2, $3, $4)
             ON CONFLICT (user_id, checkpoint_id) DO NOTHING",
        )
        .bind(user.uuid())
        .bind(id.uuid())
        .bind(positions)
        .bind(now.as_millis())
        .execute(&mut *tx)
        .await?;
        sqlx::query::<Db>(
            "DELETE FROM stream_checkpoints WHERE user_id = $1 AND checkpoint_id IN
                 (SELECT checkpoint_id FROM stream_checkpoints WHERE user_id = $1
                  ORDER BY use_time DESC, checkpoint_id DESC LIMIT 1000 OFFSET $2)",
        )
        .bind(user.uuid())
        .bind(most)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    pub async fn use_stream_checkpoint(
        &self,
        user: UserId,
        id: StreamCheckpointId,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let mut tx = self.pool.begin().await?;
        let positions = sqlx::query_scalar::<Db, Vec<u8>>(
            "UPDATE stream_checkpoints SET use_time = CASE WHEN use_time < $3 THEN $3 ELSE use_time END
             WHERE user_id = $1 AND checkpoint_id = $2 RETURNING positions",
        )
        .bind(user.uuid())
        .bind(id.uuid())
        .bind(now.as_millis())
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(positions)
    }

    pub async fn sweep_stream_checkpoints(
        &self,
        unused_since: Timestamp,
        limit: i64,
    ) -> Result<u64, Failure> {
        let mut tx = self.pool.begin().await?;
        // The condition stands twice: a checkpoint that is used between the two must not be taken.
        let swept = sqlx::query::<Db>(
            "DELETE FROM stream_checkpoints WHERE use_time <= $1 AND (user_id, checkpoint_id) IN
                 (SELECT user_id, checkpoint_id FROM stream_checkpoints WHERE use_time <= $1
                  ORDER BY use_time LIMIT $2)",
        )
        .bind(unused_since.as_millis())
        .bind(limit)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(swept.rows_affected())
    }
}
