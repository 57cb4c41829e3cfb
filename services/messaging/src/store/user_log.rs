//! The logs of users.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chassis::clock::Timestamp;
use proto::id::UserId;
use sqlx::{QueryBuilder, Row as _};

use super::{Db, PLACEHOLDERS, Store, Tx, padded, sequence_at, time_at, user_at};
use crate::event::{UserEvent, UserHappening};
use crate::message::Sequence;
use crate::store::rows::Rows;
use crate::store::{Failure, MAX_ROWS};

static ADVANCE_USER_HEADS: Rows = Rows::new(
    PLACEHOLDERS,
    "INSERT INTO user_heads (user_id, last_sequence) VALUES",
    2,
    "ON CONFLICT (user_id) DO UPDATE SET last_sequence = user_heads.last_sequence + excluded.last_sequence
     RETURNING user_id, last_sequence",
);

static INSERT_USER_EVENTS: Rows =
    Rows::new(PLACEHOLDERS, "INSERT INTO user_events (user_id, sequence, occur_time, payload) VALUES", 4, "");

impl Store {
    pub async fn user_events(
        &self,
        user: UserId,
        after: Sequence,
        limit: i64,
    ) -> Result<Vec<UserEvent>, Failure> {
        let rows = sqlx::query::<Db>(
            "SELECT sequence, occur_time, payload FROM user_events WHERE user_id = $1 AND sequence > $2
             ORDER BY sequence LIMIT $3",
        )
        .bind(user.uuid())
        .bind(after.get())
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        rows.iter()
            .map(|row| {
                let what = UserHappening::decode(&row.try_get::<Vec<u8>, _>(2)?)?;
                Ok(UserEvent { user, sequence: sequence_at(row, 0)?, occur_time: time_at(row, 1)?, what })
            })
            .collect()
    }

    pub async fn user_heads(&self, users: &[UserId]) -> Result<HashMap<UserId, Sequence>, Failure> {
        let mut found = HashMap::with_capacity(users.len());
        for part in users.chunks(MAX_ROWS) {
            let mut query =
                QueryBuilder::<Db>::new("SELECT user_id, last_sequence FROM user_heads WHERE user_id IN (");
            let mut list = query.separated(", ");
            for user in padded(part) {
                list.push_bind(user.uuid());
            }
            for row in query.push(")").build().fetch_all(self.pool.read()).await? {
                found.insert(user_at(&row, 0)?, sequence_at(&row, 1)?);
            }
        }
        Ok(found)
    }
}

/// Locks the heads of users' logs until the transaction ends: whoever changes what is theirs in an order that it does not
/// know beforehand takes this first, and nobody waits for anybody in a circle.
pub(super) async fn lock_users(tx: &mut Tx, users: &BTreeSet<UserId>) -> Result<(), Failure> {
    for (text, part) in ADVANCE_USER_HEADS.parts(&Vec::from_iter(users)) {
        let mut query = sqlx::query::<Db>(text);
        for user in part {
            query = query.bind(user.uuid()).bind(0_i64);
        }
        query.execute(&mut **tx).await?;
    }
    Ok(())
}

/// Adds to the logs of users. The heads are moved in the order of the users' ids.
pub(super) async fn append_user_events(
    tx: &mut Tx,
    happened: Vec<(UserId, Timestamp, UserHappening)>,
) -> Result<Vec<UserEvent>, Failure> {
    let mut counts: BTreeMap<UserId, i64> = BTreeMap::new();
    for (user, ..) in &happened {
        *counts.entry(*user).or_default() += 1;
    }
    let mut next: HashMap<UserId, i64> = HashMap::with_capacity(counts.len());
    for (text, part) in ADVANCE_USER_HEADS.parts(&Vec::from_iter(&counts)) {
        let mut query = sqlx::query::<Db>(text);
        for &(user, count) in part {
            query = query.bind(user.uuid()).bind(*count);
        }
        for row in query.fetch_all(&mut **tx).await? {
            let user = user_at(&row, 0)?;
            next.insert(user, row.try_get::<i64, _>(1)? - counts.get(&user).copied().unwrap_or(0));
        }
    }
    let mut events = Vec::with_capacity(happened.len());
    for (user, occur_time, what) in happened {
        let last = next.entry(user).or_default();
        *last += 1;
        events.push(UserEvent { user, sequence: Sequence::new(*last), occur_time, what });
    }
    for (text, part) in INSERT_USER_EVENTS.parts(&events) {
        let mut query = sqlx::query::<Db>(text);
        for event in part {
            query = query
                .bind(event.user.uuid())
                .bind(event.sequence.get())
                .bind(event.occur_time.as_millis())
                .bind(event.what.encode());
        }
        query.execute(&mut **tx).await?;
    }
    Ok(events)
}
