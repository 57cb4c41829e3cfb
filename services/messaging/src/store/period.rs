//! From times to sequences: where in a conversation the messages of a period begin and end.
//!
//! Messages are created in the order of their sequences, but for the difference between the clocks of the replicas that
//! wrote them. So the place of a time is found by halving, with one look at the primary key per step, and no index by
//! time has to be kept for every message that is sent. The places are safe, not exact: nothing of the period is outside
//! of them, and a few messages inside may not belong to it.

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::ConversationId;
use sqlx::Row as _;

use super::{Db, Store};
use crate::message::Sequence;
use crate::store::Failure;

/// The clocks of two replicas that write into one conversation differ by less than this.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// Whether the first message from `$middle` on was created before the time.
macro_rules! is_early {
    ($middle:expr) => {
        concat!(
            "(SELECT m.create_time FROM messages m WHERE m.conversation_id = $1 AND m.sequence >= ",
            $middle,
            " ORDER BY m.sequence LIMIT 1) < $2"
        )
    };
}

impl Store {
    /// All messages at or before the answer were created before this time.
    pub(super) async fn place_before(
        &self,
        conversation: ConversationId,
        time: Timestamp,
    ) -> Result<Sequence, Failure> {
        // Everything before `low` is too early, and nothing after `high` has to be looked at.
        let text = concat!(
            "WITH RECURSIVE steps(low, high) AS (
                 SELECT CAST(1 AS BIGINT), last_message_sequence FROM conversation_heads WHERE conversation_id = $1
                 UNION ALL
                 SELECT CASE WHEN ",
            is_early!("(low + high + 1) / 2"),
            " THEN (low + high + 1) / 2 ELSE low END, CASE WHEN ",
            is_early!("(low + high + 1) / 2"),
            " THEN high ELSE (low + high + 1) / 2 - 1 END
                 FROM steps WHERE low < high
             ) SELECT MAX(low) - 1 FROM steps"
        );
        let place = self.place(text, conversation, time.minus(CLOCK_SKEW)).await?;
        Ok(place.unwrap_or(Sequence::NONE))
    }

    /// All messages at or after the answer were created at this time or later.
    pub(super) async fn place_after(
        &self,
        conversation: ConversationId,
        time: Timestamp,
    ) -> Result<Sequence, Failure> {
        // Everything from `high` on is too late, and nothing before `low` has to be looked at.
        let text = concat!(
            "WITH RECURSIVE steps(low, high) AS (
                 SELECT CAST(1 AS BIGINT), last_message_sequence + 1 FROM conversation_heads
                 WHERE conversation_id = $1
                 UNION ALL
                 SELECT CASE WHEN ",
            is_early!("(low + high) / 2"),
            " THEN (low + high) / 2 + 1 ELSE low END, CASE WHEN ",
            is_early!("(low + high) / 2"),
            " THEN high ELSE (low + high) / 2 END
                 FROM steps WHERE low < high
             ) SELECT MIN(high) FROM steps"
        );
        let place = self.place(text, conversation, time.plus(CLOCK_SKEW)).await?;
        Ok(place.unwrap_or(Sequence::END))
    }

    async fn place(
        &self,
        text: &'static str,
        conversation: ConversationId,
        time: Timestamp,
    ) -> Result<Option<Sequence>, Failure> {
        let row = sqlx::query::<Db>(text)
            .bind(conversation.uuid())
            .bind(time.as_millis())
            .fetch_one(self.pool.read())
            .await?;
        Ok(row.try_get::<Option<i64>, _>(0)?.map(Sequence::new))
    }
}
