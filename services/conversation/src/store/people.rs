//! What a person lets others do, and what ends with its account.

use chassis::clock::Timestamp;
use proto::id::{RequestId, UserId};
use uuid::Uuid;

use super::contacts::{append, conversation, count, lock, read};
use super::{Store, acquaintances};
use crate::conversation::Pair;
use crate::error::Error;
use crate::privacy::{FirstContact, Privacy, PrivacyChanges};
use crate::standing::{Act, Circumstances};
use crate::store::{Failure, code};

/// What is between some people and others ends this many at a time.
const ENDINGS: i64 = 64;

impl Store {
    pub async fn privacy(&self, user: UserId) -> Result<Privacy, Error> {
        let row: Option<(i64, i64)> =
            sqlx::query_as("SELECT first_contact, presence FROM people WHERE user_id = $1")
                .bind(user.uuid())
                .fetch_optional(self.pool.read())
                .await?;
        row.map_or(Ok(Privacy::default()), privacy)
    }

    pub async fn set_privacy(&self, user: UserId, changes: PrivacyChanges) -> Result<Privacy, Error> {
        let mut tx = self.pool.begin().await?;
        let row: Option<(i64, i64)> = sqlx::query_as(
            "INSERT INTO people (user_id, first_contact, presence)
             VALUES ($1, COALESCE($2, 1), COALESCE($3, 1))
             ON CONFLICT (user_id) DO UPDATE
             SET first_contact = COALESCE($2, people.first_contact), presence = COALESCE($3, people.presence)
             WHERE people.delete_time IS NULL
             RETURNING first_contact, presence",
        )
        .bind(user.uuid())
        .bind(changes.first_contact.map(code::of_first_contact))
        .bind(changes.presence.map(code::of_visibility))
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        privacy(row.ok_or(Error::UserNotFound(user))?)
    }

    pub async fn close_person(&self, user: UserId, at: Timestamp) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO people (user_id, delete_time) VALUES ($1, $2)
             ON CONFLICT (user_id) DO UPDATE
             SET first_contact = 1, presence = 1, delete_time = COALESCE(people.delete_time, excluded.delete_time)",
        )
        .bind(user.uuid())
        .bind(at.as_millis())
        .execute(&mut *tx)
        .await?;
        for statement in
            ["DELETE FROM presences WHERE user_id = $1", "DELETE FROM last_seen WHERE user_id = $1"]
        {
            sqlx::query(statement).bind(user.uuid()).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    pub async fn end_contacts(&self, user: UserId, at: Timestamp) -> Result<bool, Error> {
        let pairs: Vec<(Uuid, Uuid)> = sqlx::query_as(
            "SELECT low_user_id, high_user_id FROM pairs WHERE low_user_id = $1
             UNION ALL
             SELECT low_user_id, high_user_id FROM pairs WHERE high_user_id = $1
             LIMIT $2",
        )
        .bind(user.uuid())
        .bind(ENDINGS)
        .fetch_all(self.pool.read())
        .await?;
        for (low, high) in &pairs {
            let pair = Pair::of((*low).into(), (*high).into());
            let pair = pair.ok_or(Failure::Corrupt("a pair of one"))?;
            // One transaction each: the locks of several pairs have no common order.
            self.end_contact(pair, user, at).await?;
        }
        Ok(!pairs.is_empty())
    }

    async fn end_contact(&self, pair: Pair, user: UserId, at: Timestamp) -> Result<(), Error> {
        let other = pair.other_than(user);
        let mut tx = self.pool.begin().await?;
        let (low, high) = lock(&mut tx, pair).await?;
        let people = if user == pair.low() { (low, high) } else { (high, low) };
        let standing = read(&mut tx, pair).await?;
        let circumstances = Circumstances {
            own: people.0.load,
            other: people.1.load,
            asked: vec![],
            conversation: conversation(&mut tx, pair).await?,
            new_id: RequestId::generate(),
            now: at,
        };
        let outcome = standing.act(user, Act::EndAccount, &circumstances)?;
        count(&mut tx, &standing, &outcome.standing, user, people).await?;
        sqlx::query(
            "DELETE FROM requests
             WHERE (from_user_id = $1 AND to_user_id = $2) OR (from_user_id = $2 AND to_user_id = $1)",
        )
        .bind(user.uuid())
        .bind(other.uuid())
        .execute(&mut *tx)
        .await?;
        sqlx::query("DELETE FROM pairs WHERE low_user_id = $1 AND high_user_id = $2")
            .bind(pair.low().uuid())
            .bind(pair.high().uuid())
            .execute(&mut *tx)
            .await?;
        acquaintances::forget(&mut tx, user, other).await?;
        append(&mut tx, &outcome, &circumstances, None).await?;
        tx.commit().await?;
        Ok(())
    }
}

fn privacy((first_contact, presence): (i64, i64)) -> Result<Privacy, Error> {
    let first_contact: FirstContact = code::first_contact(first_contact)?;
    Ok(Privacy { first_contact, presence: code::visibility(presence)? })
}
