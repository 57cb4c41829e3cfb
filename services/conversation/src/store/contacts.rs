//! What is between two people. Both people's rows are locked before anything is read, the smaller id first: whatever the
//! two do to each other at the same moment is done one after the other.

use std::collections::BTreeSet;

use chassis::clock::Timestamp;
use proto::id::{RequestId, UserId};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::rows::RequestRow;
use super::{Connection, Db, FOR_UPDATE, ITEMS, Store, Tx, acquaintances, outbox, padded};
use crate::acquaintance::{self, Acquaintance};
use crate::conversation::Pair;
use crate::error::Error;
use crate::fact::Fact;
use crate::publish;
use crate::request::{Kind, Request};
use crate::standing::{Act, Change, Circumstances, DAY, Direct, Load, Outcome, REQUESTS_A_DAY, Standing};
use crate::store::{Acted, DirectConversation, code};

/// The columns of a request.
macro_rules! requests {
    ($rest:literal) => {
        concat!(
            "SELECT request_id, kind, from_user_id, to_user_id, state, version, conversation_id, request_version,
                    retry_id, met_retry_id, create_time, answer_time
             FROM requests WHERE ",
            $rest
        )
    };
}

/// The columns of a pair.
const PAIR: &str =
    "SELECT version, connect_time, is_open, low_block_time, high_block_time, connection_request_id,
            message_request_id
     FROM pairs WHERE low_user_id = $1 AND high_user_id = $2";

impl Store {
    pub async fn act(&self, pair: Pair, by: UserId, act: Act, at: Timestamp) -> Result<Acted, Error> {
        let other = pair.other_than(by);
        let begins = matches!(act, Act::Connect(_) | Act::Block | Act::Write);
        if !begins && self.standing(pair).await?.version == 0 {
            // There is nothing to end, to answer or to lock.
            let standing = Standing::none(pair);
            let answer = standing.act(by, act, &Circumstances::none(at))?.answer;
            return Ok(Acted { standing, answer, is_new: false, has_effects: false });
        }
        let mut tx = self.pool.begin().await?;
        let (low, high) = lock(&mut tx, pair).await?;
        let (own, others) = if by == pair.low() { (low, high) } else { (high, low) };
        if begins && (own.is_deleted || others.is_deleted) {
            return Err(Error::UserNotFound(if own.is_deleted { by } else { other }));
        }
        let standing = read(&mut tx, pair).await?;
        if let Act::Connect(Some(retry)) = act
            && let Some(first) = made_by(&mut tx, by, retry).await?
        {
            tx.rollback().await?;
            if (first.other_than(by), first.kind) != (other, Kind::Connection) {
                return Err(Error::RequestIdReused(retry));
            }
            let answer = first.seen_by(by);
            return Ok(Acted { standing, answer, is_new: false, has_effects: false });
        }
        let circumstances = Circumstances {
            own: own.load,
            other: others.load,
            asked: asked(&mut tx, by, other, act, at).await?,
            conversation: conversation(&mut tx, pair).await?,
            new_id: RequestId::generate(),
            now: at,
        };
        let outcome = standing.act(by, act, &circumstances)?;
        if outcome.standing == standing {
            tx.rollback().await?;
            return Ok(Acted { standing, answer: outcome.answer, is_new: false, has_effects: false });
        }
        let has_effects = write(&mut tx, &standing, &outcome, &circumstances, (own, others), by).await?;
        append(&mut tx, &outcome, &circumstances, Some(by)).await?;
        tx.commit().await?;
        let is_new = outcome.changes.iter().any(|change| change.request.id == circumstances.new_id);
        Ok(Acted { standing: outcome.standing, answer: outcome.answer, is_new, has_effects })
    }

    pub async fn standing(&self, pair: Pair) -> Result<Standing, Error> {
        read(&mut *self.pool.read().acquire().await?, pair).await
    }

    pub async fn direct(&self, pair: Pair) -> Result<Option<DirectConversation>, Error> {
        let row: Option<(Uuid, bool)> = sqlx::query_as(
            "SELECT conversation_id, gated FROM conversations WHERE low_user_id = $1 AND high_user_id = $2",
        )
        .bind(pair.low().uuid())
        .bind(pair.high().uuid())
        .fetch_optional(self.pool.read())
        .await?;
        Ok(row.map(|(id, depends_on_settings)| DirectConversation { id: id.into(), depends_on_settings }))
    }

    pub async fn unwilling(&self, by: UserId, users: &[UserId]) -> Result<Vec<UserId>, Error> {
        let found = unwilling(&mut *self.pool.read().acquire().await?, by, users).await?;
        Ok(found.into_iter().collect())
    }
}

/// Whether it depends on what two people have set who may write in a conversation that is made now.
pub async fn is_gated(tx: &mut Tx, pair: Pair) -> Result<bool, Error> {
    let gates: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM people WHERE user_id IN ($1, $2) AND first_contact <> 1")
            .bind(pair.low().uuid())
            .bind(pair.high().uuid())
            .fetch_one(&mut **tx)
            .await?;
    Ok(gates > 0 || read(tx, pair).await?.is_blocked())
}

/// Those among these users who do not let somebody bring them in: whoever takes only those it knows, and does not know
/// this one; and whoever blocks it or is blocked, which reads the same.
pub async fn unwilling(
    from: &mut Connection,
    by: UserId,
    users: &[UserId],
) -> Result<BTreeSet<UserId>, Error> {
    let mut found = BTreeSet::new();
    for users in users.chunks(ITEMS) {
        let mut query =
            QueryBuilder::<Db>::new("SELECT user_id FROM people WHERE first_contact <> 1 AND user_id IN (");
        list(&mut query, users);
        query.push(")");
        let gated: Vec<Uuid> = query.build_query_scalar().fetch_all(&mut *from).await?;
        found.extend(gated.into_iter().map(UserId::from).filter(|user_id| *user_id != by));

        let mut query = QueryBuilder::<Db>::new(
            "SELECT low_user_id, high_user_id, low_block_time IS NOT NULL OR high_block_time IS NOT NULL,
                    is_open OR connect_time IS NOT NULL
             FROM pairs WHERE (low_user_id = ",
        );
        query.push_bind(by.uuid()).push(" AND high_user_id IN (");
        list(&mut query, users);
        query.push(")) OR (high_user_id = ").push_bind(by.uuid()).push(" AND low_user_id IN (");
        list(&mut query, users);
        query.push("))");
        let pairs: Vec<(Uuid, Uuid, bool, bool)> = query.build_query_as().fetch_all(&mut *from).await?;
        for (low, high, is_blocked, is_known) in pairs {
            let other = if by.uuid() == low { high } else { low }.into();
            if is_blocked {
                found.insert(other);
            } else if is_known {
                found.remove(&other);
            }
        }
    }
    Ok(found)
}

fn list(query: &mut QueryBuilder<Db>, users: &[UserId]) {
    let mut list = query.separated(", ");
    for user_id in padded(users) {
        list.push_bind(user_id.uuid());
    }
}

/// A person whose row is locked.
#[derive(Clone, Copy)]
pub struct Locked {
    pub load: Load,
    is_deleted: bool,
}

/// Locks two people, the one with the smaller id first. A row comes to be where there is none, and stays if the
/// transaction does.
pub async fn lock(tx: &mut Tx, pair: Pair) -> Result<(Locked, Locked), Error> {
    let low = lock_one(tx, pair.low()).await?;
    let high = lock_one(tx, pair.high()).await?;
    Ok((low, high))
}

async fn lock_one(tx: &mut Tx, user: UserId) -> Result<Locked, Error> {
    let (first_contact, waiting, connections, blocks, is_deleted): (i64, i64, i64, i64, bool) =
        sqlx::query_as(
            "INSERT INTO people (user_id) VALUES ($1)
         ON CONFLICT (user_id) DO UPDATE SET user_id = excluded.user_id
         RETURNING first_contact, waiting_requests, connections, blocks, delete_time IS NOT NULL",
        )
        .bind(user.uuid())
        .fetch_one(&mut **tx)
        .await?;
    let gated = code::first_contact(first_contact)?.is_gated();
    Ok(Locked { load: Load { gated, waiting, connections, blocks }, is_deleted })
}

pub async fn read(from: &mut Connection, pair: Pair) -> Result<Standing, Error> {
    let row: Option<PairRow> = sqlx::query_as(PAIR)
        .bind(pair.low().uuid())
        .bind(pair.high().uuid())
        .fetch_optional(&mut *from)
        .await?;
    let Some(row) = row else { return Ok(Standing::none(pair)) };
    Ok(Standing {
        pair,
        version: row.version,
        connected: row.connect_time.map(Timestamp::from_millis),
        open: row.is_open,
        low_blocks: row.low_block_time.map(Timestamp::from_millis),
        high_blocks: row.high_block_time.map(Timestamp::from_millis),
        connection: request(from, row.connection_request_id).await?,
        message: request(from, row.message_request_id).await?,
    })
}

async fn request(from: &mut Connection, id: Option<Uuid>) -> Result<Option<Request>, Error> {
    let Some(id) = id else { return Ok(None) };
    let row: Option<RequestRow> =
        sqlx::query_as(requests!("request_id = $1")).bind(id).fetch_optional(&mut *from).await?;
    row.map(RequestRow::request).transpose()
}

/// What an earlier try of the same call has made, or met.
async fn made_by(tx: &mut Tx, by: UserId, retry: Uuid) -> Result<Option<Request>, Error> {
    // One after the other: each has its index.
    for statement in
        [requests!("from_user_id = $1 AND retry_id = $2"), requests!("to_user_id = $1 AND met_retry_id = $2")]
    {
        let row: Option<RequestRow> =
            sqlx::query_as(statement).bind(by.uuid()).bind(retry).fetch_optional(&mut **tx).await?;
        if let Some(row) = row {
            return Ok(Some(row.request()?));
        }
    }
    Ok(None)
}

/// When somebody last asked another for what it is about to ask for.
async fn asked(
    tx: &mut Tx,
    by: UserId,
    other: UserId,
    act: Act,
    now: Timestamp,
) -> Result<Vec<Timestamp>, Error> {
    let kind = match act {
        Act::Connect(_) => Kind::Connection,
        Act::Write => Kind::Message,
        _ => return Ok(vec![]),
    };
    let times: Vec<i64> = sqlx::query_scalar(
        "SELECT create_time FROM requests
         WHERE from_user_id = $1 AND to_user_id = $2 AND kind = $3 AND create_time > $4
         ORDER BY create_time DESC
         LIMIT $5",
    )
    .bind(by.uuid())
    .bind(other.uuid())
    .bind(code::of_request_kind(kind))
    .bind(now.minus(DAY).as_millis())
    .bind(i64::try_from(REQUESTS_A_DAY).unwrap_or(i64::MAX))
    .fetch_all(&mut **tx)
    .await?;
    Ok(times.into_iter().map(Timestamp::from_millis).collect())
}

/// The direct conversation of two people, locked.
pub async fn conversation(tx: &mut Tx, pair: Pair) -> Result<Option<Direct>, Error> {
    let mut query = QueryBuilder::<Db>::new(
        "SELECT conversation_id, membership_version, gated FROM conversations WHERE low_user_id = ",
    );
    query.push_bind(pair.low().uuid()).push(" AND high_user_id = ").push_bind(pair.high().uuid());
    query.push(" ").push(FOR_UPDATE);
    let row: Option<(Uuid, i64, bool)> = query.build_query_as().fetch_optional(&mut **tx).await?;
    Ok(row.map(|(id, membership_version, gated)| Direct { id: id.into(), membership_version, gated }))
}

/// Writes what has become of a pair, all but the facts. Says whether others have something to learn of it.
async fn write(
    tx: &mut Tx,
    before: &Standing,
    outcome: &Outcome,
    at: &Circumstances,
    people: (Locked, Locked),
    by: UserId,
) -> Result<bool, Error> {
    let after = &outcome.standing;
    for change in &outcome.changes {
        if change.request.version == 1 {
            insert_request(tx, &change.request).await?;
        } else {
            update_request(tx, &change.request).await?;
        }
    }
    write_pair(tx, after).await?;
    count(tx, before, after, by, people).await?;
    if let Some(direct) = at.conversation
        && (outcome.begins_round || outcome.closes)
    {
        sqlx::query(
            "UPDATE conversations SET membership_version = membership_version + $2, gated = TRUE
             WHERE conversation_id = $1",
        )
        .bind(direct.id.uuid())
        .bind(i64::from(outcome.begins_round))
        .execute(&mut **tx)
        .await?;
    }
    let is_news = note(tx, before, after, at.now).await?;
    Ok(is_news || outcome.blocks || outcome.changes.iter().any(|change| change.told))
}

/// Notes down what auth has to be told. Says whether that is anything.
async fn note(tx: &mut Tx, before: &Standing, after: &Standing, now: Timestamp) -> Result<bool, Error> {
    let was_and_is = [
        (acquaintance::Kind::Connection, before.connected.is_some(), after.connected.is_some()),
        (acquaintance::Kind::Block, before.is_blocked(), after.is_blocked()),
    ];
    let mut is_news = false;
    for (kind, was, is) in was_and_is {
        if was != is {
            let news = Acquaintance { pair: after.pair, kind, version: after.version, has_ended: !is };
            acquaintances::note(tx, &news, now).await?;
            is_news = true;
        }
    }
    Ok(is_news)
}

/// Writes the facts: the last thing before the commit.
pub async fn append(
    tx: &mut Tx,
    outcome: &Outcome,
    at: &Circumstances,
    actor: Option<UserId>,
) -> Result<(), Error> {
    let version = at.conversation.map_or(0, |direct| direct.membership_version);
    let version = version + i64::from(outcome.begins_round);
    let news = outcome.changes.iter().filter_map(Change::news);
    let facts = news.map(|(request, only)| Fact::of_request(request, only, version, actor, at.now));
    let block = actor.filter(|_| outcome.blocks);
    let block = block.map(|by| Fact::of_block(by, outcome.standing.pair.other_than(by), at.now));
    let payloads: Vec<Vec<u8>> = facts.chain(block).map(|fact| publish::encode(&fact)).collect();
    outbox::append_all(tx, &payloads, at.now.as_millis()).await?;
    Ok(())
}

/// Keeps the numbers of what has bounds: they move with what they count, under the same locks.
pub async fn count(
    tx: &mut Tx,
    before: &Standing,
    after: &Standing,
    by: UserId,
    (own, other): (Locked, Locked),
) -> Result<(), Error> {
    let connections = i64::from(after.connected.is_some()) - i64::from(before.connected.is_some());
    for (user, Locked { load, .. }) in [(by, own), (after.pair.other_than(by), other)] {
        let blocks =
            i64::from(after.blocked_by(user).is_some()) - i64::from(before.blocked_by(user).is_some());
        let waiting = after.waiting_of(user) - before.waiting_of(user);
        if (connections, blocks, waiting) == (0, 0, 0) {
            continue;
        }
        sqlx::query(
            "UPDATE people SET connections = $2, blocks = $3, waiting_requests = $4 WHERE user_id = $1",
        )
        .bind(user.uuid())
        .bind(load.connections + connections)
        .bind(load.blocks + blocks)
        .bind(load.waiting + waiting)
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

async fn write_pair(tx: &mut Tx, standing: &Standing) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO pairs (low_user_id, high_user_id, version, connect_time, is_open, low_block_time, high_block_time,
             connection_request_id, message_request_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (low_user_id, high_user_id) DO UPDATE
         SET version = excluded.version, connect_time = excluded.connect_time, is_open = excluded.is_open,
             low_block_time = excluded.low_block_time, high_block_time = excluded.high_block_time,
             connection_request_id = excluded.connection_request_id,
             message_request_id = excluded.message_request_id",
    )
    .bind(standing.pair.low().uuid())
    .bind(standing.pair.high().uuid())
    .bind(standing.version)
    .bind(standing.connected.map(Timestamp::as_millis))
    .bind(standing.open)
    .bind(standing.low_blocks.map(Timestamp::as_millis))
    .bind(standing.high_blocks.map(Timestamp::as_millis))
    .bind(standing.connection.as_ref().map(|request| request.id.uuid()))
    .bind(standing.message.as_ref().map(|request| request.id.uuid()))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn insert_request(tx: &mut Tx, request: &Request) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO requests (request_id, kind, from_user_id, to_user_id, state, version, conversation_id,
             request_version, retry_id, met_retry_id, create_time, answer_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(request.id.uuid())
    .bind(code::of_request_kind(request.kind))
    .bind(request.from.uuid())
    .bind(request.to.uuid())
    .bind(code::of_request_state(request.state))
    .bind(request.version)
    .bind(request.message.map(|place| place.conversation_id.uuid()))
    .bind(request.message.map_or(0, |place| place.request_version))
    .bind(request.retry_id)
    .bind(request.met_retry_id)
    .bind(request.create_time.as_millis())
    .bind(request.answer_time.map(Timestamp::as_millis))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn update_request(tx: &mut Tx, request: &Request) -> Result<(), Error> {
    sqlx::query(
        "UPDATE requests SET state = $2, version = $3, answer_time = $4, met_retry_id = $5 WHERE request_id = $1",
    )
    .bind(request.id.uuid())
    .bind(code::of_request_state(request.state))
    .bind(request.version)
    .bind(request.answer_time.map(Timestamp::as_millis))
    .bind(request.met_retry_id)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct PairRow {
    version: i64,
    connect_time: Option<i64>,
    is_open: bool,
    low_block_time: Option<i64>,
    high_block_time: Option<i64>,
    connection_request_id: Option<Uuid>,
    message_request_id: Option<Uuid>,
}
