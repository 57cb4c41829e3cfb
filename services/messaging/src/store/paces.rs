//! When users last wrote in conversations with slow mode. Sends and edits count.

use std::collections::{BTreeSet, HashMap};

use chassis::clock::Timestamp;
use proto::id::{ConversationId, UserId};
use sqlx::QueryBuilder;

use super::{Db, PLACEHOLDERS, Tx, conversation_at, padded, time_at, user_at};
use crate::store::rows::Rows;
use crate::store::{Failure, MAX_ROWS};

/// One writer in one conversation.
pub(super) type Place = (ConversationId, UserId);

static UPSERT_PACES: Rows = Rows::new(
    PLACEHOLDERS,
    "INSERT INTO paces (conversation_id, user_id, send_time) VALUES",
    3,
    "ON CONFLICT (conversation_id, user_id) DO UPDATE SET send_time = excluded.send_time",
);

/// When these users last wrote there. Users who have not written are left out.
pub(super) async fn last_writes(tx: &mut Tx, places: &[Place]) -> Result<HashMap<Place, Timestamp>, Failure> {
    let mut found = HashMap::new();
    for part in places.chunks(MAX_ROWS) {
        let mut query = QueryBuilder::<Db>::new("WITH wanted(conversation_id, user_id) AS (");
        query.push_values(padded(part), |mut row, (conversation, user)| {
            row.push_bind(conversation.uuid()).push_bind(user.uuid());
        });
        query.push(
            ") SELECT p.conversation_id, p.user_id, p.send_time FROM wanted w CROSS JOIN paces p
             WHERE p.conversation_id = w.conversation_id AND p.user_id = w.user_id",
        );
        for row in query.build().fetch_all(&mut **tx).await? {
            found.insert((conversation_at(&row, 0)?, user_at(&row, 1)?), time_at(&row, 2)?);
        }
    }
    Ok(found)
}

/// Remembers that these users wrote there now.
pub(super) async fn remember(tx: &mut Tx, places: BTreeSet<Place>, now: Timestamp) -> Result<(), Failure> {
    for (text, part) in UPSERT_PACES.parts(&Vec::from_iter(places)) {
        let mut query = sqlx::query::<Db>(text);
        for (conversation, user) in part {
            query = query.bind(conversation.uuid()).bind(user.uuid()).bind(now.as_millis());
        }
        query.execute(&mut **tx).await?;
    }
    Ok(())
}
