//! The messages of message requests. Everything here happens under the lock of the conversation's head: what is told of a
//! request and what is written under it never pass each other unseen.

use std::collections::HashMap;

use proto::id::{ConversationId, MessageId, UserId};
use proto::messaging::v1::AlertState;
use sqlx::{QueryBuilder, Row as _};
use uuid::Uuid;

use super::{Db, Row, Store, Tx, conversation_at, padded, user_at};
use crate::error::Error;
use crate::message::{Message, Sequence};
use crate::request::{Asked, RequestChange, Waits};
use crate::store::{Failure, MAX_ROWS, Post};

/// A message request as a send knows it: where it waits, who asks, and since which membership version.
pub(super) type Place = (ConversationId, UserId, i64);

/// The request under which a message is written; `None` for nearly every message.
pub(super) fn place(post: &Post<'_>) -> Option<Place> {
    let version = post.access.request_version;
    (version > 0).then_some((post.letter.conversation, post.letter.sender, version))
}

/// What is known of some requests. Of those that are left out, nothing.
pub(super) async fn asked(tx: &mut Tx, places: &[Place]) -> Result<HashMap<Place, Asked>, Failure> {
    let mut found = HashMap::with_capacity(places.len());
    for part in places.chunks(MAX_ROWS) {
        let mut query = asking(part);
        for row in query.build().fetch_all(&mut **tx).await? {
            let (place, asked) = read(&row)?;
            found.insert(place, asked);
        }
    }
    Ok(found)
}

fn asking(places: &[Place]) -> QueryBuilder<Db> {
    let mut query = QueryBuilder::<Db>::new("WITH wanted(conversation_id, user_id, request_version) AS (");
    query.push_values(padded(places), |mut row, (conversation, user, version)| {
        row.push_bind(conversation.uuid()).push_bind(user.uuid()).push_bind(version);
    });
    query.push(
        ") SELECT r.conversation_id, r.user_id, r.request_version, r.state, r.message_sequence
           FROM wanted w CROSS JOIN message_requests r WHERE r.conversation_id = w.conversation_id
           AND r.user_id = w.user_id AND r.request_version = w.request_version",
    );
    query
}

fn read(row: &Row) -> Result<(Place, Asked), Failure> {
    let place = (conversation_at(row, 0)?, user_at(row, 1)?, row.try_get(2)?);
    let state =
        i32::try_from(row.try_get::<i64, _>(3)?).ok().and_then(|state| AlertState::try_from(state).ok());
    let has_message = row.try_get::<Option<i64>, _>(4)?.is_some();
    Ok((place, Asked { state: state.unwrap_or(AlertState::Unspecified), has_message }))
}

/// Keeps which message a request has. Answers whom it asks and which request it is, once that has been told.
pub(super) async fn keep(
    tx: &mut Tx,
    (conversation, user, version): Place,
    message: &Message,
) -> Result<Option<(UserId, Uuid)>, Failure> {
    let row = sqlx::query::<Db>(
        "INSERT INTO message_requests (conversation_id, user_id, request_version, message_sequence, message_id)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (conversation_id, user_id, request_version) DO UPDATE SET
             message_sequence = COALESCE(message_requests.message_sequence, excluded.message_sequence),
             message_id = COALESCE(message_requests.message_id, excluded.message_id)
         RETURNING to_user_id, request_id",
    )
    .bind(conversation.uuid())
    .bind(user.uuid())
    .bind(version)
    .bind(message.sequence.get())
    .bind(message.message_id.uuid())
    .fetch_one(&mut **tx)
    .await?;
    let (to, request) = (row.try_get::<Option<Uuid>, _>(0)?, row.try_get::<Option<Uuid>, _>(1)?);
    Ok(to.map(UserId::from).zip(request))
}

/// Keeps what has been told of a request. Answers its message, once that is there.
pub(super) async fn told(
    tx: &mut Tx,
    change: &RequestChange,
    waits: Waits,
) -> Result<Option<(MessageId, Sequence)>, Failure> {
    let row = sqlx::query::<Db>(
        "INSERT INTO message_requests (conversation_id, user_id, request_version, request_id, to_user_id, state)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (conversation_id, user_id, request_version) DO UPDATE SET
             request_id = excluded.request_id, to_user_id = excluded.to_user_id, state = excluded.state
         RETURNING message_id, message_sequence",
    )
    .bind(waits.conversation.uuid())
    .bind(change.from.uuid())
    .bind(waits.request_version)
    .bind(change.request)
    .bind(change.to.uuid())
    .bind(i64::from(i32::from(change.state)))
    .fetch_one(&mut **tx)
    .await?;
    let message = row.try_get::<Option<Uuid>, _>(0)?.map(MessageId::from);
    Ok(message.zip(row.try_get::<Option<i64>, _>(1)?.map(Sequence::new)))
}

/// Whether this is the message of that request.
pub(super) async fn is_request(
    tx: &mut Tx,
    (conversation, user, version): Place,
    message: Sequence,
) -> Result<bool, Failure> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT message_sequence FROM message_requests
         WHERE conversation_id = $1 AND user_id = $2 AND request_version = $3 AND message_sequence = $4",
    )
    .bind(conversation.uuid())
    .bind(user.uuid())
    .bind(version)
    .bind(message.get())
    .fetch_optional(&mut **tx)
    .await?;
    Ok(found.is_some())
}

/// Conversations in which somebody asks or is asked.
pub(super) async fn requested(tx: &mut Tx, user: UserId, most: i64) -> Result<Vec<ConversationId>, Failure> {
    let rows = sqlx::query::<Db>(
        "SELECT conversation_id FROM message_requests WHERE user_id = $1 OR to_user_id = $1 LIMIT $2",
    )
    .bind(user.uuid())
    .bind(most)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(|row| conversation_at(row, 0)).collect()
}

/// Takes somebody who is gone out of the requests of some conversations. What it asked goes. What it was asked names it no
/// more, and stays: whoever asked has still written its one message.
pub(super) async fn forget(
    tx: &mut Tx,
    user: UserId,
    conversations: &[ConversationId],
) -> Result<(), Failure> {
    for part in conversations.chunks(MAX_ROWS) {
        for text in [
            "DELETE FROM message_requests WHERE user_id = ",
            "UPDATE message_requests SET to_user_id = NULL WHERE to_user_id = ",
        ] {
            let mut query = QueryBuilder::<Db>::new(text);
            query.push_bind(user.uuid()).push(" AND conversation_id IN (");
            let mut list = query.separated(", ");
            for conversation in padded(part) {
                list.push_bind(conversation.uuid());
            }
            query.push(")").build().execute(&mut **tx).await?;
        }
    }
    Ok(())
}

impl Store {
    pub async fn check_request(
        &self,
        conversation: ConversationId,
        user: UserId,
        request_version: i64,
    ) -> Result<(), Error> {
        let mut query = asking(&[(conversation, user, request_version)]);
        match query.build().fetch_optional(self.pool.read()).await? {
            Some(row) => read(&row)?.1.check(conversation),
            None => Ok(()),
        }
    }

    pub async fn is_asked(&self, conversation: ConversationId, user: UserId) -> Result<bool, Failure> {
        // Also by a request of which only the message is known yet.
        let found: Option<i64> = sqlx::query_scalar(
            "SELECT state FROM message_requests WHERE conversation_id = $1 AND user_id <> $2 AND state IN (0, $3)
             LIMIT 1",
        )
        .bind(conversation.uuid())
        .bind(user.uuid())
        .bind(i64::from(i32::from(AlertState::RequestPending)))
        .fetch_optional(self.pool.read())
        .await?;
        Ok(found.is_some())
    }
}
