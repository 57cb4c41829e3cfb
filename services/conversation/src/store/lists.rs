//! Pages of requests, connections and blocks. A person is the one or the other of a pair, so that each list has two
//! halves; each is cut to the page before they are put together.

use chassis::clock::Timestamp;
use proto::id::UserId;
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::rows::RequestRow;
use super::{Db, Store};
use crate::contacts::RequestPlace;
use crate::conversations::Place;
use crate::error::Error;
use crate::paging::Page;
use crate::request::{Direction, Filter, Request, State};
use crate::store::code;

/// Connections of a person, or its blocks: the column of the time is what differs.
macro_rules! halves {
    ($low:literal, $high:literal) => {
        concat!(
            "SELECT since, user_id FROM (
                 SELECT * FROM (
                     SELECT ",
            $low,
            " AS since, high_user_id AS user_id FROM pairs
                     WHERE low_user_id = $1 AND ",
            $low,
            " IS NOT NULL AND (",
            $low,
            ", high_user_id) < ($2, $3)
                     ORDER BY ",
            $low,
            " DESC, high_user_id DESC LIMIT $4) AS lower
                 UNION ALL
                 SELECT * FROM (
                     SELECT ",
            $high,
            " AS since, low_user_id AS user_id FROM pairs
                     WHERE high_user_id = $1 AND ",
            $high,
            " IS NOT NULL AND (",
            $high,
            ", low_user_id) < ($2, $3)
                     ORDER BY ",
            $high,
            " DESC, low_user_id DESC LIMIT $4) AS higher
             ) AS found
             ORDER BY since DESC, user_id DESC LIMIT $4"
        )
    };
}

impl Store {
    pub async fn connections(&self, user: UserId, page: Page<Place>) -> Result<Vec<Place>, Error> {
        self.places(halves!("connect_time", "connect_time"), user, page).await
    }

    pub async fn blocks(&self, user: UserId, page: Page<Place>) -> Result<Vec<Place>, Error> {
        self.places(halves!("low_block_time", "high_block_time"), user, page).await
    }

    async fn places(
        &self,
        statement: &'static str,
        user: UserId,
        page: Page<Place>,
    ) -> Result<Vec<Place>, Error> {
        let (time, after) =
            page.after.map_or((i64::MAX, Uuid::max()), |(time, user_id)| (time.as_millis(), user_id.uuid()));
        let rows: Vec<(i64, Uuid)> = sqlx::query_as(statement)
            .bind(user.uuid())
            .bind(time)
            .bind(after)
            .bind(page.rows())
            .fetch_all(self.pool.read())
            .await?;
        let place = |(since, user_id): (i64, Uuid)| (Timestamp::from_millis(since), user_id.into());
        Ok(rows.into_iter().map(place).collect())
    }

    pub async fn count_connections(&self, user: UserId) -> Result<i64, Error> {
        // Kept with the person, under the lock of every change of it.
        let count: Option<i64> = sqlx::query_scalar("SELECT connections FROM people WHERE user_id = $1")
            .bind(user.uuid())
            .fetch_optional(self.pool.read())
            .await?;
        Ok(count.unwrap_or(0))
    }

    pub async fn count_requests(&self, user: UserId, filter: Filter) -> Result<i64, Error> {
        let mut query = QueryBuilder::<Db>::new("SELECT ");
        let halves = [
            ("from_user_id", made(filter.state), filter.direction != Direction::Incoming),
            ("to_user_id", received(filter.state), filter.direction != Direction::Outgoing),
        ];
        let mut sum = query.separated(" + ");
        for (column, state, is_wanted) in halves {
            if is_wanted {
                sum.push("(SELECT COUNT(*) FROM requests WHERE ").push_unseparated(column);
                sum.push_unseparated(" = ").push_bind_unseparated(user.uuid());
                sum.push_unseparated(" AND kind = ");
                sum.push_bind_unseparated(code::of_request_kind(filter.kind));
                sum.push_unseparated(state).push_unseparated(")");
            }
        }
        Ok(query.build_query_scalar().fetch_one(self.pool.read()).await?)
    }

    pub async fn requests(
        &self,
        user: UserId,
        filter: Filter,
        page: Page<RequestPlace>,
    ) -> Result<Vec<Request>, Error> {
        let mut query = QueryBuilder::<Db>::new("SELECT * FROM (");
        if filter.direction != Direction::Incoming {
            half(&mut query, "from_user_id", made(filter.state), user, filter, page);
        }
        if filter.direction == Direction::Both {
            query.push(" UNION ALL ");
        }
        if filter.direction != Direction::Outgoing {
            half(&mut query, "to_user_id", received(filter.state), user, filter, page);
        }
        query.push(") AS found ORDER BY create_time DESC, request_id DESC LIMIT ").push_bind(page.rows());
        let rows: Vec<RequestRow> = query.build_query_as().fetch_all(self.pool.read()).await?;
        rows.into_iter().map(RequestRow::request).collect()
    }
}

fn half(
    query: &mut QueryBuilder<Db>,
    column: &'static str,
    state: &'static str,
    user: UserId,
    filter: Filter,
    page: Page<RequestPlace>,
) {
    let (time, after) =
        page.after.map_or((i64::MAX, Uuid::max()), |(time, id)| (time.as_millis(), id.uuid()));
    query.push("SELECT * FROM (SELECT * FROM requests WHERE ").push(column).push(" = ");
    query.push_bind(user.uuid()).push(" AND kind = ").push_bind(code::of_request_kind(filter.kind));
    query.push(state).push(" AND (create_time, request_id) < (").push_bind(time).push(", ").push_bind(after);
    query.push(") ORDER BY create_time DESC, request_id DESC LIMIT ").push_bind(page.rows());
    query.push(") AS ").push(column).push("_half");
}

/// Which requests of its author are in a state: the one that is withheld waits.
fn made(state: Option<State>) -> &'static str {
    match state {
        None => "",
        Some(State::Pending | State::Withheld) => " AND state IN (1, 5)",
        Some(State::Accepted) => " AND state = 2",
        Some(State::Rejected) => " AND state = 3",
        Some(State::Cancelled) => " AND state = 4",
    }
}

/// The same for the one who is asked, to whom the one that is withheld is not shown.
fn received(state: Option<State>) -> &'static str {
    match state {
        None => " AND state <> 5",
        Some(State::Pending | State::Withheld) => " AND state = 1",
        Some(State::Accepted) => " AND state = 2",
        Some(State::Rejected) => " AND state = 3",
        Some(State::Cancelled) => " AND state = 4",
    }
}
