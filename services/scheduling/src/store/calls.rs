//! The atomic operations on calls. Compiled once per database.
//!
//! Locks are taken in one order everywhere: the rows of the two users in the order of their ids, then calls in the order
//! of theirs, each with its members and timers. Whoever holds the row of one of the two may write down that the time of
//! their call is over; everything else needs both.

#[path = "call_rows.rs"]
#[macro_use]
mod rows;

use std::time::Duration;

use chassis::clock::{Clock, Timestamp};
use proto::id::{CallId, UserId};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::super::super::calling::{Changed, Listing, Settled, Start, Started};
use super::super::super::code;
use super::super::{Db, Tx, now_within};
use super::{Store, remove_claimed};
use crate::calls::machine::{Act, Call, Spans, Wish, nobody, wish};
use crate::conversations::Block;
use crate::error::Error;
use crate::scheduled_message::Retry;
use crate::timer::{Claim, Kind};

use rows::{Record, code_of_media, code_of_state, name_of};

/// In this time the calls of a user are counted.
const MINUTE: Duration = Duration::from_secs(60);

impl Store {
    pub async fn find_call(
        &self,
        user: UserId,
        retry: Option<&Retry>,
    ) -> Result<Option<(Call, bool)>, Error> {
        let Some(retry) = retry else { return Ok(None) };
        let first: Option<(Uuid, Vec<u8>)> = sqlx::query_as(FIND)
            .bind(user.uuid())
            .bind(retry.request_id)
            .fetch_optional(self.pool.read())
            .await?;
        match first {
            None => Ok(None),
            Some((id, print)) if print == retry.fingerprint => {
                let call = self.call(id.into()).await?;
                Ok(call.map(|call| {
                    let met = call.caller.user != user;
                    (call, met)
                }))
            }
            Some(_) => Err(Error::RequestIdReused(retry.request_id)),
        }
    }

    pub async fn call(&self, id: CallId) -> Result<Option<Call>, Error> {
        let record: Option<Record> =
            sqlx::query_as(READ).bind(id.uuid()).fetch_optional(self.pool.read()).await?;
        record.map(Record::read).transpose()
    }

    pub async fn live_call(&self, user: UserId) -> Result<Option<Call>, Error> {
        let record: Option<Record> =
            sqlx::query_as(READ_LIVE).bind(user.uuid()).fetch_optional(self.pool.read()).await?;
        record.map(Record::read).transpose()
    }

    pub async fn live_calls(&self, users: &[UserId]) -> Result<Vec<Call>, Error> {
        let mut live = Vec::new();
        for users in users.chunks(USERS) {
            let mut sql = QueryBuilder::<Db>::new(LIST_LIVE);
            let mut list = sql.separated(", ");
            for user in users {
                list.push_bind(user.uuid());
            }
            sql.push(")");
            let records: Vec<Record> = sql.build_query_as().fetch_all(self.pool.read()).await?;
            for record in records {
                live.push(record.read()?);
            }
        }
        // A call of two of them is found twice.
        live.sort_by_key(|call| call.id);
        live.dedup_by_key(|call| call.id);
        Ok(live)
    }

    pub async fn calls(&self, listing: &Listing) -> Result<Vec<Call>, Error> {
        // After the last place: no time is as late, and no id as large.
        let (time, id) =
            listing.before.map_or((i64::MAX, Uuid::max()), |(time, id)| (time.as_millis(), id.uuid()));
        // Only what is asked for is in the text: for each way to ask there is an index.
        let mut sql = QueryBuilder::<Db>::new(LIST);
        sql.push_bind(listing.user.uuid());
        sql.push(" AND (m.create_time, m.call_id) < (").push_bind(time).push(", ").push_bind(id).push(")");
        match listing.peers.as_deref() {
            None => {}
            Some([]) => return Ok(Vec::new()),
            Some([peer]) => {
                sql.push(" AND m.peer_id = ").push_bind(peer.uuid());
            }
            Some(peers) => {
                let mut list = sql.push(" AND m.peer_id IN (").separated(", ");
                for peer in peers {
                    list.push_bind(peer.uuid());
                }
                sql.push(")");
            }
        }
        if let Some(state) = listing.state {
            sql.push(" AND m.state = ").push_bind(code_of_state(state));
        }
        if listing.active {
            sql.push(" AND m.live");
        }
        if listing.missed {
            sql.push(" AND NOT m.outgoing AND m.state IN (5, 6, 7)");
        }
        sql.push(" ORDER BY m.create_time DESC, m.call_id DESC LIMIT ");
        sql.push_bind(listing.limit.saturating_add(1));
        let records: Vec<Record> = sql.build_query_as().fetch_all(self.pool.read()).await?;
        records.into_iter().map(Record::read).collect()
    }

    pub async fn call_peers(&self, user: UserId, limit: i64) -> Result<Vec<UserId>, Error> {
        let peers: Vec<Uuid> = sqlx::query_scalar(
            "SELECT peer_id FROM call_members WHERE user_id = $1 AND peer_id <> $2
             GROUP BY peer_id ORDER BY MAX(create_time) DESC, peer_id LIMIT $3",
        )
        .bind(user.uuid())
        .bind(nobody().uuid())
        .bind(limit)
        .fetch_all(self.pool.read())
        .await?;
        Ok(peers.into_iter().map(UserId::from).collect())
    }

    pub async fn start_call(&self, start: &Start, spans: &Spans) -> Result<Settled<Started>, Error> {
        let (from, to) = (start.pair.from, start.pair.to);
        let mut tx = self.pool.begin().await?;
        let gone = lock(&mut tx, [from.user, to]).await?;
        let now = now_within(&mut tx, &self.clock).await?;
        if let Some(gone) = gone {
            return Ok(Settled { outcome: Started::Gone(gone), overdue: Vec::new(), now });
        }
        if let Some(retry) = &start.retry {
            let first: Option<(Uuid, Vec<u8>)> = sqlx::query_as(FIND)
                .bind(from.user.uuid())
                .bind(retry.request_id)
                .fetch_optional(&mut *tx)
                .await?;
            if first.is_some() {
                drop(tx);
                let (call, met) = self.find_call(from.user, Some(retry)).await?.ok_or(Error::Lost)?;
                let outcome = Started::Call { call: Box::new(call), met, changed: false };
                return Ok(Settled { outcome, overdue: Vec::new(), now });
            }
        }
        let (mut live, overdue) = live_calls(&mut tx, [from.user, to], now, spans).await?;
        let (own, others) = (position(&live, from.user), position(&live, to));
        let wish =
            wish(from, to, start.pair.media, own.map(|place| &live[place]), others.map(|place| &live[place]));
        let outcome = match (wish, own) {
            (Wish::Ring | Wish::Busy, _) if start.only_meet => Started::NotMet,
            (Wish::Ring | Wish::Busy, _) => match too_many(&mut tx, start, now).await? {
                Some(wait) => Started::TooMany(wait),
                None => {
                    let call = match wish {
                        Wish::Busy => Call::busy(start.id, start.pair, now),
                        _ if start.callee_offline => Call::missed(start.id, start.pair, now),
                        _ => Call::ringing(start.id, start.pair, now, spans),
                    };
                    insert(&mut tx, &call, now).await?;
                    Started::Call { call: Box::new(call), met: false, changed: true }
                }
            },
            (Wish::Meet, Some(own)) => {
                let mut call = live.swap_remove(own);
                let before = call.version;
                let acted = call.act(Act::Accept(from), now, spans);
                write(&mut tx, before, &call, now).await?;
                Started::Call { call: Box::new(call), met: true, changed: acted.changed }
            }
            (Wish::Again { met }, Some(own)) => {
                Started::Call { call: Box::new(live.swap_remove(own)), met, changed: false }
            }
            (Wish::Refused, Some(own)) => Started::InCall(live[own].id),
            (_, None) => return Err(Error::Lost),
        };
        if let (Some(retry), Started::Call { call, .. }) = (&start.retry, &outcome) {
            remember(&mut tx, from.user, retry, call.id).await?;
        }
        // Also when the wish is refused: what was overdue is over.
        tx.commit().await?;
        Ok(Settled { outcome, overdue, now })
    }

    pub async fn change_call(&self, id: CallId, act: Act, spans: &Spans) -> Result<Option<Changed>, Error> {
        let Some(seen) = self.call(id).await? else { return Ok(None) };
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, [seen.caller.user, seen.callee]).await?;
        let now = now_within(&mut tx, &self.clock).await?;
        let record: Option<Record> = sqlx::query_as(READ).bind(id.uuid()).fetch_optional(&mut *tx).await?;
        let Some(mut call) = record.map(Record::read).transpose()? else { return Ok(None) };
        let before = call.version;
        let acted = call.act(act, now, spans);
        if acted.changed {
            write(&mut tx, before, &call, now).await?;
            tx.commit().await?;
        } else if act == Act::Pass {
            // Whoever asks has a timer that is not in keeping with the call.
            set_timers(&mut tx, &call, now).await?;
            tx.commit().await?;
        }
        Ok(Some(Changed { call, acted, now }))
    }

    pub async fn forget_caller(&self, user: UserId, spans: &Spans) -> Result<Vec<Call>, Error> {
        loop {
            // The other one of the live call has to be locked too, and who that is can change until it is.
            let seen = self.live_call(user).await?;
            let peer = seen.as_ref().map_or(user, |call| call.peer_of(user));
            let mut tx = self.pool.begin().await?;
            lock(&mut tx, [user, peer]).await?;
            let now = now_within(&mut tx, &self.clock).await?;
            let record: Option<Record> =
                sqlx::query_as(READ_LIVE).bind(user.uuid()).fetch_optional(&mut *tx).await?;
            let live = record.map(Record::read).transpose()?;
            if live.as_ref().is_some_and(|call| call.peer_of(user) != peer) {
                continue;
            }
            let mut ended = Vec::new();
            if let Some(mut call) = live {
                let before = call.version;
                call.act(Act::Gone(user), now, spans);
                write(&mut tx, before, &call, now).await?;
                ended.push(call);
            }
            forget(&mut tx, user, now).await?;
            tx.commit().await?;
            return Ok(ended);
        }
    }

    pub async fn call_is_told(&self, claim: &Claim) -> Result<bool, Error> {
        let mut tx = self.pool.begin().await?;
        let told = remove_claimed(&mut tx, claim).await?;
        tx.commit().await?;
        Ok(told)
    }
}

const FIND: &str = "SELECT call_id, fingerprint FROM call_requests WHERE user_id = $1 AND request_id = $2";

const READ: &str = call_columns!("SELECT", "FROM calls c WHERE c.call_id = $1");

/// Those of a user, who is to be bound next. What tells one from another is asked of the members: the calls of all are many.
const LIST: &str =
    call_columns!("SELECT", "FROM call_members m JOIN calls c ON c.call_id = m.call_id WHERE m.user_id = ");

const READ_LIVE: &str = call_columns!(
    "SELECT",
    "FROM call_members m JOIN calls c ON c.call_id = m.call_id WHERE m.user_id = $1 AND m.live"
);

/// Those of several users, who are to be bound next.
const LIST_LIVE: &str = call_columns!(
    "SELECT",
    "FROM call_members m JOIN calls c ON c.call_id = m.call_id WHERE m.live AND m.user_id IN ("
);

/// As many users are asked for at once.
const USERS: usize = 256;

fn position(live: &[Call], user: UserId) -> Option<usize> {
    live.iter().position(|call| call.has(user))
}

/// Locks the rows of two users until the end. Returns one of them whose account is gone.
async fn lock(tx: &mut Tx, users: [UserId; 2]) -> sqlx::Result<Option<UserId>> {
    let mut users = users.map(UserId::uuid);
    users.sort_unstable();
    let mut gone = None;
    for user in users {
        if user == nobody().uuid() {
            continue;
        }
        let delete_time: Option<i64> = sqlx::query_scalar(
            "INSERT INTO call_users (user_id) VALUES ($1)
             ON CONFLICT (user_id) DO UPDATE SET user_id = excluded.user_id RETURNING delete_time",
        )
        .bind(user)
        .fetch_one(&mut **tx)
        .await?;
        if delete_time.is_some() {
            gone = Some(user.into());
        }
    }
    Ok(gone)
}

/// Ends the live call of two, of whom one blocks the other.
pub(super) async fn part(
    tx: &mut Tx,
    Block { blocker, blocked }: Block,
    clock: &Clock,
    spans: &Spans,
) -> Result<Option<Changed>, Error> {
    lock(tx, [blocker, blocked]).await?;
    let now = now_within(tx, clock).await?;
    let record: Option<Record> =
        sqlx::query_as(READ_LIVE).bind(blocker.uuid()).fetch_optional(&mut **tx).await?;
    let live = record.map(Record::read).transpose()?;
    let Some(mut call) = live.filter(|call| call.has(blocked)) else { return Ok(None) };
    let before = call.version;
    let acted = call.act(Act::Blocked(blocker), now, spans);
    write(tx, before, &call, now).await?;
    Ok(Some(Changed { call, acted, now }))
}

/// The live calls of two users, each once; and those whose time was over, which are written down.
async fn live_calls(
    tx: &mut Tx,
    users: [UserId; 2],
    now: Timestamp,
    spans: &Spans,
) -> Result<(Vec<Call>, Vec<Call>), Error> {
    let mut found: Vec<Call> = Vec::new();
    for user in users {
        let record: Option<Record> =
            sqlx::query_as(READ_LIVE).bind(user.uuid()).fetch_optional(&mut **tx).await?;
        found.extend(record.map(Record::read).transpose()?);
    }
    found.sort_by_key(|call| call.id);
    found.dedup_by_key(|call| call.id);
    let (mut live, mut overdue) = (Vec::new(), Vec::new());
    for mut call in found {
        let before = call.version;
        if call.act(Act::Pass, now, spans).changed {
            write(tx, before, &call, now).await?;
            overdue.push(call);
        } else {
            live.push(call);
        }
    }
    Ok((live, overdue))
}

/// How long the caller has to wait, having begun as many calls as are allowed.
async fn too_many(tx: &mut Tx, start: &Start, now: Timestamp) -> sqlx::Result<Option<Duration>> {
    let (count, oldest): (i64, Option<i64>) = sqlx::query_as(
        "SELECT COUNT(*), MIN(create_time) FROM call_members
         WHERE user_id = $1 AND outgoing AND create_time > $2",
    )
    .bind(start.pair.from.user.uuid())
    .bind(now.minus(MINUTE).as_millis())
    .fetch_one(&mut **tx)
    .await?;
    let wait = oldest.map(|oldest| Timestamp::from_millis(oldest).plus(MINUTE).since(now));
    Ok(wait.filter(|_| count >= i64::from(start.per_minute)))
}

/// Writes a new call down.
async fn insert(tx: &mut Tx, call: &Call, now: Timestamp) -> sqlx::Result<()> {
    let ending = call.ending();
    sqlx::query(
        "INSERT INTO calls (call_id, conversation_id, caller_id, caller_session, callee_id, media, state, version,
                            create_time, ring_until, deadline, end_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(call.id.uuid())
    .bind(call.conversation.uuid())
    .bind(call.caller.user.uuid())
    .bind(call.caller.session.uuid())
    .bind(call.callee.uuid())
    .bind(code_of_media(call.media))
    .bind(code_of_state(name_of(call)))
    .bind(call.version)
    .bind(call.create_time.as_millis())
    .bind(call.ring_until.as_millis())
    .bind(call.deadline().map(Timestamp::as_millis))
    .bind(ending.map(|ending| ending.time.as_millis()))
    .execute(&mut **tx)
    .await?;
    for (user, peer) in [(call.caller.user, call.callee), (call.callee, call.caller.user)] {
        sqlx::query(
            "INSERT INTO call_members (user_id, call_id, peer_id, outgoing, live, state, create_time)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(user.uuid())
        .bind(call.id.uuid())
        .bind(peer.uuid())
        .bind(user == call.caller.user)
        .bind(call.is_live())
        .bind(code_of_state(name_of(call)))
        .bind(call.create_time.as_millis())
        .execute(&mut **tx)
        .await?;
    }
    set_timers(tx, call, now).await
}

/// Writes down what has become of a call, unless somebody has written down the same: that its time is over.
async fn write(tx: &mut Tx, before: i64, call: &Call, now: Timestamp) -> sqlx::Result<()> {
    let (talk, ending) = (call.talk(), call.ending());
    let millis = |time: Option<Timestamp>| time.map(Timestamp::as_millis);
    let written = sqlx::query(
        "UPDATE calls
         SET state = $3, version = $4, deadline = $5, callee_session = $6, accept_time = $7, longest_until = $8,
             connect_time = $9, caller_lost_time = $10, callee_lost_time = $11, end_time = $12, ended_by = $13,
             duration = $14, caller_connected = $15, callee_connected = $16, caller_away_until = $17,
             callee_away_until = $18, talk_deadline = $19
         WHERE call_id = $1 AND version = $2",
    )
    .bind(call.id.uuid())
    .bind(before)
    .bind(code_of_state(name_of(call)))
    .bind(call.version)
    .bind(millis(call.deadline()))
    .bind(talk.map(|talk| talk.session.uuid()))
    .bind(millis(talk.map(|talk| talk.accept_time)))
    .bind(millis(talk.map(|talk| talk.longest_until)))
    .bind(millis(talk.and_then(|talk| talk.connect_time)))
    .bind(millis(talk.and_then(|talk| talk.caller_lost)))
    .bind(millis(talk.and_then(|talk| talk.callee_lost)))
    .bind(millis(ending.map(|ending| ending.time)))
    .bind(ending.and_then(|ending| ending.by).map(UserId::uuid))
    .bind(
        ending
            .and_then(|ending| ending.duration)
            .map(|duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
    )
    .bind(talk.is_some_and(|talk| talk.caller_connected))
    .bind(talk.is_some_and(|talk| talk.callee_connected))
    .bind(millis(call.away.caller))
    .bind(millis(call.away.callee))
    .bind(millis(talk.filter(|_| call.away.until().is_some()).map(|talk| talk.deadline)))
    .execute(&mut **tx)
    .await?;
    if written.rows_affected() == 0 {
        return Ok(());
    }
    sqlx::query(
        "UPDATE call_members SET live = $2, state = $3 WHERE call_id = $1 AND (live <> $2 OR state <> $3)",
    )
    .bind(call.id.uuid())
    .bind(call.is_live())
    .bind(code_of_state(name_of(call)))
    .execute(&mut **tx)
    .await?;
    set_timers(tx, call, now).await
}

/// Sets what waits for a call: its deadline while it is live, and after that that others are told. Whoever has claimed
/// the deadline has lost it: by what it knew, the call is another one.
async fn set_timers(tx: &mut Tx, call: &Call, now: Timestamp) -> sqlx::Result<()> {
    let Some(deadline) = call.deadline() else {
        sqlx::query("DELETE FROM timers WHERE owner_id = $1 AND kind = $2 AND id = $3")
            .bind(call.caller.user.uuid())
            .bind(code::of_kind(Kind::CallDeadline))
            .bind(call.id.uuid())
            .execute(&mut **tx)
            .await?;
        sqlx::query(
            "INSERT INTO timers (owner_id, kind, id, lane, due_time, wake_time) VALUES ($1, $2, $3, $4, $5, $5)
             ON CONFLICT (owner_id, kind, id) DO NOTHING",
        )
        .bind(call.caller.user.uuid())
        .bind(code::of_kind(Kind::CallOutcome))
        .bind(call.id.uuid())
        .bind(call.conversation.uuid())
        .bind(now.as_millis())
        .execute(&mut **tx)
        .await?;
        return Ok(());
    };
    sqlx::query(
        "INSERT INTO timers (owner_id, kind, id, lane, due_time, wake_time) VALUES ($1, $2, $3, $3, $4, $4)
         ON CONFLICT (owner_id, kind, id) DO UPDATE
         SET due_time = excluded.due_time, wake_time = excluded.wake_time, claimed = FALSE, in_doubt = FALSE,
             attempt = timers.attempt + 1",
    )
    .bind(call.caller.user.uuid())
    .bind(code::of_kind(Kind::CallDeadline))
    .bind(call.id.uuid())
    .bind(deadline.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn remember(tx: &mut Tx, user: UserId, retry: &Retry, id: CallId) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO call_requests (user_id, request_id, fingerprint, call_id) VALUES ($1, $2, $3, $4)",
    )
    .bind(user.uuid())
    .bind(retry.request_id)
    .bind(retry.fingerprint.to_vec())
    .bind(id.uuid())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes a user out of everything that is kept about calls. A call that nobody is in any more goes.
async fn forget(tx: &mut Tx, user: UserId, now: Timestamp) -> sqlx::Result<()> {
    let (user, nobody) = (user.uuid(), nobody().uuid());
    sqlx::query("UPDATE call_users SET delete_time = COALESCE(delete_time, $2) WHERE user_id = $1")
        .bind(user)
        .bind(now.as_millis())
        .execute(&mut **tx)
        .await?;
    for forgetting in [
        "UPDATE calls SET caller_id = $2, caller_session = $2 WHERE caller_id = $1
             AND call_id IN (SELECT call_id FROM call_members WHERE user_id = $1)",
        "UPDATE calls SET callee_id = $2, callee_session = CASE WHEN callee_session IS NOT NULL THEN $2 END
         WHERE callee_id = $1 AND call_id IN (SELECT call_id FROM call_members WHERE user_id = $1)",
        "UPDATE calls SET ended_by = $2 WHERE ended_by = $1
             AND call_id IN (SELECT call_id FROM call_members WHERE user_id = $1)",
        "UPDATE call_members SET peer_id = $2 WHERE user_id <> $1
             AND call_id IN (SELECT call_id FROM call_members WHERE user_id = $1)",
    ] {
        sqlx::query(forgetting).bind(user).bind(nobody).execute(&mut **tx).await?;
    }
    for deletion in [
        "DELETE FROM calls WHERE call_id IN (SELECT call_id FROM call_members WHERE user_id = $1)
             AND caller_id = callee_id",
        "DELETE FROM call_members WHERE user_id = $1",
        "DELETE FROM call_requests WHERE user_id = $1",
    ] {
        sqlx::query(deletion).bind(user).execute(&mut **tx).await?;
    }
    Ok(())
}
