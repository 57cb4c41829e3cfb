//! Who is there.

use std::collections::{HashMap, HashSet};

use chassis::clock::Timestamp;
use proto::id::{ConversationId, GatewayId, UserId};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::rows::MemberRow;
use super::{Db, FOR_UPDATE, ITEMS, ROWS, SKIP_LOCKED, Store, Tx, batches, padded};
use crate::error::Error;
use crate::member::Member;
use crate::paging::Page;
use crate::presence::{LEASE, Presence, Report, Reported};
use crate::privacy::Visibility;
use crate::store::code;

impl Store {
    pub async fn report_presence(&self, report: &Report, now: Timestamp) -> Result<Reported, Error> {
        let mut tx = self.pool.begin().await?;
        if !renew(&mut tx, report, now).await? {
            tx.rollback().await?;
            return Ok(Reported::Restate);
        }
        let gateway = report.gateway_id;
        let came = living(&mut tx, &report.came).await?;
        for users in batches(&came, ROWS) {
            let mut query = QueryBuilder::<Db>::new("INSERT INTO presences (user_id, gateway_id) ");
            query.push_values(users, |mut row, user_id| {
                row.push_bind(user_id.uuid()).push_bind(gateway.uuid());
            });
            query.push(" ON CONFLICT DO NOTHING");
            query.build().execute(&mut *tx).await?;
        }
        for users in report.left.chunks(ITEMS) {
            let left = remove(&mut tx, gateway, users).await?;
            see(&mut tx, &left, now).await?;
        }
        tx.commit().await?;
        Ok(Reported::Taken)
    }

    pub async fn presences(
        &self,
        viewer: UserId,
        users: &[UserId],
        now: Timestamp,
    ) -> Result<HashMap<UserId, Presence>, Error> {
        let mut hidden = HashSet::new();
        let mut seen = HashMap::<UserId, Presence>::new();
        for users in users.chunks(ITEMS) {
            hidden.extend(self.hidden(viewer, users).await?);
            let mut query = QueryBuilder::<Db>::new(
                "SELECT p.user_id, MAX(g.lease_end_time) FROM presences p
                 JOIN gateways g ON g.gateway_id = p.gateway_id
                 WHERE p.user_id IN (",
            );
            among(&mut query, users);
            query.push(") GROUP BY p.user_id UNION ALL SELECT user_id, last_seen_time FROM last_seen WHERE user_id IN (");
            among(&mut query, users);
            query.push(")");
            // Who is with a gateway whose lease goes on has a time to come. Who left, or whose gateway did, has one that is
            // past.
            let rows: Vec<(Uuid, i64)> = query.build_query_as().fetch_all(self.pool.read()).await?;
            for (user_id, time) in rows {
                let user_id = UserId::from(user_id);
                let presence = seen.entry(user_id).or_insert(Presence::hidden(user_id));
                if time > now.as_millis() {
                    presence.is_online = true;
                } else {
                    presence.last_seen = presence.last_seen.max(Some(Timestamp::from_millis(time)));
                }
            }
        }
        seen.retain(|user_id, presence| {
            if presence.is_online {
                presence.last_seen = None;
            }
            !hidden.contains(user_id)
        });
        Ok(seen)
    }

    pub async fn online_members(
        &self,
        id: ConversationId,
        viewer: UserId,
        now: Timestamp,
        page: Page<UserId>,
    ) -> Result<Vec<Member>, Error> {
        // A pair is looked up by its key from both sides: the viewer is the lower one of some and the higher one of others.
        let rows: Vec<MemberRow> = sqlx::query_as(
            "SELECT m.user_id, m.role, m.join_time
             FROM members m
             LEFT JOIN people o ON o.user_id = m.user_id
             LEFT JOIN pairs l ON l.low_user_id = $2 AND l.high_user_id = m.user_id
             LEFT JOIN pairs h ON h.high_user_id = $2 AND h.low_user_id = m.user_id
             WHERE m.conversation_id = $1 AND m.user_id > $4
               AND EXISTS (SELECT 1 FROM presences p JOIN gateways g ON g.gateway_id = p.gateway_id
                           WHERE p.user_id = m.user_id AND g.lease_end_time > $3)
               AND l.low_block_time IS NULL AND l.high_block_time IS NULL
               AND h.low_block_time IS NULL AND h.high_block_time IS NULL
               AND (m.user_id = $2 OR o.presence IS NULL OR o.presence = 1
                    OR (o.presence = 2 AND (l.connect_time IS NOT NULL OR h.connect_time IS NOT NULL)))
             ORDER BY m.user_id
             LIMIT $5",
        )
        .bind(id.uuid())
        .bind(viewer.uuid())
        .bind(now.as_millis())
        .bind(page.after.map_or(Uuid::nil(), UserId::uuid))
        .bind(page.rows())
        .fetch_all(self.pool.read())
        .await?;
        rows.into_iter().map(MemberRow::member).collect()
    }

    /// Those among these users whom a viewer may not see.
    async fn hidden(&self, viewer: UserId, users: &[UserId]) -> Result<HashSet<UserId>, Error> {
        let mut query = QueryBuilder::<Db>::new(
            "SELECT user_id, presence FROM people WHERE presence <> 1 AND user_id IN (",
        );
        among(&mut query, users);
        query.push(")");
        let settings: Vec<(Uuid, i64)> = query.build_query_as().fetch_all(self.pool.read()).await?;

        let mut query = QueryBuilder::<Db>::new(
            "SELECT low_user_id, high_user_id, low_block_time IS NOT NULL OR high_block_time IS NOT NULL
             FROM pairs
             WHERE (connect_time IS NOT NULL OR low_block_time IS NOT NULL OR high_block_time IS NOT NULL)
               AND ((low_user_id = ",
        );
        query.push_bind(viewer.uuid()).push(" AND high_user_id IN (");
        among(&mut query, users);
        query.push(")) OR (high_user_id = ").push_bind(viewer.uuid()).push(" AND low_user_id IN (");
        among(&mut query, users);
        query.push(")))");
        let pairs: Vec<(Uuid, Uuid, bool)> = query.build_query_as().fetch_all(self.pool.read()).await?;

        let (mut hidden, mut connected) = (HashSet::new(), HashSet::new());
        for (low, high, is_blocked) in pairs {
            let other = UserId::from(if viewer.uuid() == low { high } else { low });
            if is_blocked {
                hidden.insert(other)
            } else {
                connected.insert(other)
            };
        }
        for (user_id, presence) in settings {
            let user_id = UserId::from(user_id);
            let shown = match code::visibility(presence)? {
                Visibility::Everyone => true,
                Visibility::Connections => connected.contains(&user_id),
                Visibility::Nobody => false,
            };
            if !shown && user_id != viewer {
                hidden.insert(user_id);
            }
        }
        Ok(hidden)
    }

    pub async fn sweep_presence(&self, now: Timestamp, limit: i64) -> Result<bool, Error> {
        let mut tx = self.pool.begin().await?;
        // One replica at a time takes care of a gateway.
        let mut query = QueryBuilder::<Db>::new(
            "SELECT gateway_id, lease_end_time FROM gateways WHERE lease_end_time <= ",
        );
        query.push_bind(now.as_millis()).push(" ORDER BY lease_end_time LIMIT 1").push(SKIP_LOCKED);
        let ended: Option<(Uuid, i64)> = query.build_query_as().fetch_optional(&mut *tx).await?;
        let Some((gateway, lease_end)) = ended else {
            tx.rollback().await?;
            return Ok(false);
        };
        let users: Vec<Uuid> = sqlx::query_scalar(
            "SELECT user_id FROM presences WHERE gateway_id = $1 ORDER BY user_id LIMIT $2",
        )
        .bind(gateway)
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
        let users: Vec<UserId> = users.into_iter().map(UserId::from).collect();
        for users in users.chunks(ITEMS) {
            let left = remove(&mut tx, gateway.into(), users).await?;
            see(&mut tx, &left, Timestamp::from_millis(lease_end)).await?;
        }
        if i64::try_from(users.len()).is_ok_and(|count| count < limit) {
            sqlx::query("DELETE FROM gateways WHERE gateway_id = $1").bind(gateway).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(true)
    }
}

/// Keeps what a gateway said before. `false` when it is said no more.
async fn renew(tx: &mut Tx, report: &Report, now: Timestamp) -> Result<bool, Error> {
    let mut query = QueryBuilder::<Db>::new("SELECT lease_end_time FROM gateways WHERE gateway_id = ");
    query.push_bind(report.gateway_id.uuid()).push(" ").push(FOR_UPDATE);
    let lease_end: Option<i64> = query.build_query_scalar().fetch_optional(&mut **tx).await?;
    let goes_on = lease_end.map_or(report.is_first, |end| end > now.as_millis());
    if goes_on {
        sqlx::query(
            "INSERT INTO gateways (gateway_id, lease_end_time) VALUES ($1, $2)
             ON CONFLICT (gateway_id) DO UPDATE SET lease_end_time = excluded.lease_end_time",
        )
        .bind(report.gateway_id.uuid())
        .bind(now.plus(LEASE).as_millis())
        .execute(&mut **tx)
        .await?;
    }
    Ok(goes_on)
}

/// Those among these users whose account is not deleted: of the others nothing is kept.
async fn living(tx: &mut Tx, users: &[UserId]) -> Result<Vec<UserId>, Error> {
    let mut deleted = HashSet::new();
    for users in users.chunks(ITEMS) {
        let mut query = QueryBuilder::<Db>::new(
            "SELECT user_id FROM people WHERE delete_time IS NOT NULL AND user_id IN (",
        );
        among(&mut query, users);
        query.push(")");
        let rows: Vec<Uuid> = query.build_query_scalar().fetch_all(&mut **tx).await?;
        deleted.extend(rows.into_iter().map(UserId::from));
    }
    Ok(users.iter().copied().filter(|user_id| !deleted.contains(user_id)).collect())
}

/// Users are with a gateway no longer. Those who were.
async fn remove(tx: &mut Tx, gateway: GatewayId, users: &[UserId]) -> Result<Vec<UserId>, Error> {
    if users.is_empty() {
        return Ok(vec![]);
    }
    let mut query = QueryBuilder::<Db>::new("DELETE FROM presences WHERE gateway_id = ");
    query.push_bind(gateway.uuid()).push(" AND user_id IN (");
    among(&mut query, users);
    query.push(") RETURNING user_id");
    let rows: Vec<Uuid> = query.build_query_scalar().fetch_all(&mut **tx).await?;
    let mut left: Vec<UserId> = rows.into_iter().map(UserId::from).collect();
    left.sort_unstable();
    Ok(left)
}

/// Users, in the order of their ids, were last seen then, if not later.
async fn see(tx: &mut Tx, users: &[UserId], at: Timestamp) -> Result<(), Error> {
    let users = living(tx, users).await?;
    for users in batches(&users, ROWS) {
        let mut query = QueryBuilder::<Db>::new("INSERT INTO last_seen (user_id, last_seen_time) ");
        query.push_values(users, |mut row, user_id| {
            row.push_bind(user_id.uuid()).push_bind(at.as_millis());
        });
        query.push(
            " ON CONFLICT (user_id) DO UPDATE SET last_seen_time = excluded.last_seen_time
             WHERE last_seen.last_seen_time < excluded.last_seen_time",
        );
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}

fn among(query: &mut QueryBuilder<Db>, users: &[UserId]) {
    let mut list = query.separated(", ");
    for user_id in padded(users) {
        list.push_bind(user_id.uuid());
    }
}
