//! Reviews, and what they come to.
//!
//! Locks are taken in one order: the rows of the two users, reviews by reviewer and user, ratings by user, the head of
//! the outbox.

use chassis::clock::Timestamp;
use proto::id::{ReviewId, UserId};
use sqlx::{AssertSqlSafe, FromRow, QueryBuilder};
use uuid::Uuid;

use super::acquaintances::{lock_both, ties};
use super::{Db, FOR_UPDATE, Store, Tx, lock_user, outbox};
use crate::error::Error;
use crate::fact::Fact;
use crate::publish;
use crate::review::{Change, Place, Put, Rating, Review, ReviewPage, Verdict, Whose};

/// What is read of a review.
macro_rules! review_columns {
    () => {
        "reviewer_id, user_id, review_id, stars, text, version, create_time, update_time"
    };
}

impl Store {
    pub async fn put_review(&self, review: &Review) -> Result<Put, Error> {
        let Review { reviewer_id, user_id, verdict, update_time: now, .. } = review;
        let mut tx = self.pool.begin().await?;
        let living = lock_both(&mut tx, [*reviewer_id, *user_id]).await?;
        if !living.contains(reviewer_id) {
            return Err(Error::Unauthenticated);
        }
        if !living.contains(user_id) {
            return Err(Error::UserNotFound(*user_id));
        }
        let ties = ties(&mut tx, [*reviewer_id, *user_id]).await?;
        if ties.is_blocked {
            return Err(Error::NotAcquainted(*user_id));
        }
        let before = find(&mut tx, *reviewer_id, *user_id).await?;
        let (review, change, added) = match before {
            None if !ties.is_acquainted => return Err(Error::NotAcquainted(*user_id)),
            None => (insert(&mut tx, review).await?, Change::Written, (1, verdict.stars())),
            Some(before) if before.verdict == *verdict => {
                let rating = rating(&mut tx, *user_id).await?;
                return Ok(Put { review: before, change: None, rating });
            }
            Some(before) => {
                let more = verdict.stars() - before.verdict.stars();
                (update(&mut tx, before, verdict, *now).await?, Change::Updated, (0, more))
            }
        };
        let rating = add(&mut tx, *user_id, added).await?;
        let fact = publish::payload(&Fact::review_changed(&review, change, *now));
        outbox::append(&mut tx, &fact, now.as_millis()).await?;
        tx.commit().await?;
        Ok(Put { review, change: Some(change), rating })
    }

    pub async fn delete_review(
        &self,
        reviewer_id: UserId,
        user_id: UserId,
        now: Timestamp,
    ) -> Result<Option<Rating>, Error> {
        let mut tx = self.pool.begin().await?;
        // The reviewer's row, so that a put and a deletion of one review come one after the other.
        lock_user(&mut tx, reviewer_id).await?;
        let sql = concat!(
            "DELETE FROM reviews WHERE reviewer_id = $1 AND user_id = $2 RETURNING ",
            review_columns!()
        );
        let row: Option<ReviewRow> = sqlx::query_as(sql)
            .bind(reviewer_id.uuid())
            .bind(user_id.uuid())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(review) = row.map(Review::from) else { return Ok(None) };
        let rating = add(&mut tx, user_id, (-1, -review.verdict.stars())).await?;
        let fact = publish::payload(&Fact::review_changed(&review, Change::Deleted, now));
        outbox::append(&mut tx, &fact, now.as_millis()).await?;
        tx.commit().await?;
        Ok(Some(rating))
    }

    pub async fn list_reviews(
        &self,
        whose: Whose,
        before: Option<Place>,
        limit: i64,
    ) -> Result<ReviewPage, Error> {
        let (column, id) = match whose {
            Whose::About(id) => ("user_id = ", id),
            Whose::By(id) => ("reviewer_id = ", id),
        };
        let mut query =
            QueryBuilder::<Db>::new(concat!("SELECT ", review_columns!(), " FROM reviews WHERE "));
        query.push(column).push_bind(id.uuid());
        if let Some((time, id)) = before {
            query
                .push(" AND (update_time, review_id) < (")
                .push_bind(time)
                .push(", ")
                .push_bind(id)
                .push(")");
        }
        query.push(" ORDER BY update_time DESC, review_id DESC LIMIT ").push_bind(limit + 1);
        let rows: Vec<ReviewRow> = query.build_query_as().fetch_all(self.pool.read()).await?;
        let limit = usize::try_from(limit).unwrap_or(0);
        let has_more = rows.len() > limit;
        Ok(ReviewPage { reviews: rows.into_iter().take(limit).map(Review::from).collect(), has_more })
    }

    pub async fn find_review(&self, reviewer_id: UserId, user_id: UserId) -> Result<Option<Review>, Error> {
        let row: Option<ReviewRow> = sqlx::query_as(FIND)
            .bind(reviewer_id.uuid())
            .bind(user_id.uuid())
            .fetch_optional(self.pool.read())
            .await?;
        Ok(row.map(Review::from))
    }

    pub async fn find_reviews(&self, viewer: UserId, ids: &[ReviewId]) -> Result<Vec<Review>, Error> {
        let Some(last) = ids.last() else { return Ok(Vec::new()) };
        let mut query =
            QueryBuilder::<Db>::new(concat!("SELECT ", review_columns!(), " FROM reviews WHERE ("));
        query.push("reviewer_id = ").push_bind(viewer.uuid());
        query.push(" OR user_id = ").push_bind(viewer.uuid()).push(") AND review_id IN (");
        let mut list = query.separated(", ");
        // Filled up to a power of two, so that few texts of statements exist.
        let padding = std::iter::repeat_n(last, ids.len().next_power_of_two() - ids.len());
        for id in ids.iter().chain(padding) {
            list.push_bind(id.uuid());
        }
        query.push(")");
        let rows: Vec<ReviewRow> = query.build_query_as().fetch_all(self.pool.read()).await?;
        Ok(rows.into_iter().map(Review::from).collect())
    }

    pub async fn rating_of(&self, user_id: UserId) -> Result<Rating, Error> {
        let row: Option<(i64, i64)> =
            sqlx::query_as(RATING).bind(user_id.uuid()).fetch_optional(self.pool.read()).await?;
        Ok(row.map(read_rating).unwrap_or_default())
    }
}

const FIND: &str =
    concat!("SELECT ", review_columns!(), " FROM reviews WHERE reviewer_id = $1 AND user_id = $2");

const RATING: &str = "SELECT review_count, star_sum FROM ratings WHERE user_id = $1";

async fn find(tx: &mut Tx, reviewer_id: UserId, user_id: UserId) -> Result<Option<Review>, Error> {
    let row: Option<ReviewRow> = sqlx::query_as(AssertSqlSafe(format!("{FIND}{FOR_UPDATE}")))
        .bind(reviewer_id.uuid())
        .bind(user_id.uuid())
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.map(Review::from))
}

async fn insert(tx: &mut Tx, review: &Review) -> Result<Review, Error> {
    sqlx::query(
        "INSERT INTO reviews (reviewer_id, user_id, review_id, stars, text, version, create_time, update_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(review.reviewer_id.uuid())
    .bind(review.user_id.uuid())
    .bind(review.id.uuid())
    .bind(review.verdict.stars())
    .bind(review.verdict.text())
    .bind(review.version)
    .bind(review.create_time.as_millis())
    .bind(review.update_time.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(review.clone())
}

async fn update(
    tx: &mut Tx,
    before: Review,
    verdict: &Verdict,
    update_time: Timestamp,
) -> Result<Review, Error> {
    let after = Review { verdict: verdict.clone(), version: before.version + 1, update_time, ..before };
    sqlx::query(
        "UPDATE reviews SET stars = $3, text = $4, version = $5, update_time = $6
         WHERE reviewer_id = $1 AND user_id = $2",
    )
    .bind(after.reviewer_id.uuid())
    .bind(after.user_id.uuid())
    .bind(after.verdict.stars())
    .bind(after.verdict.text())
    .bind(after.version)
    .bind(update_time.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(after)
}

async fn rating(tx: &mut Tx, user_id: UserId) -> Result<Rating, Error> {
    let row: Option<(i64, i64)> =
        sqlx::query_as(RATING).bind(user_id.uuid()).fetch_optional(&mut **tx).await?;
    Ok(row.map(read_rating).unwrap_or_default())
}

/// Adds to what the reviews of a user come to. The row stays locked until the review is committed.
async fn add(tx: &mut Tx, user_id: UserId, (count, sum): (i64, i64)) -> Result<Rating, Error> {
    let row: (i64, i64) = sqlx::query_as(
        "INSERT INTO ratings (user_id, review_count, star_sum) VALUES ($1, $2, $3)
         ON CONFLICT (user_id) DO UPDATE SET review_count = ratings.review_count + excluded.review_count,
                                             star_sum = ratings.star_sum + excluded.star_sum
         RETURNING review_count, star_sum",
    )
    .bind(user_id.uuid())
    .bind(count)
    .bind(sum)
    .fetch_one(&mut **tx)
    .await?;
    Ok(read_rating(row))
}

/// Removes what a user wrote about others, who get their rating without it, and what others wrote about the user. Returns
/// the facts about the former; the latter concern nobody any more. The user's row is locked, and all others are locked in
/// one order first: people who reviewed each other may be deleted at once.
pub(super) async fn erase(tx: &mut Tx, id: Uuid, now: Timestamp) -> Result<Vec<Vec<u8>>, Error> {
    let lock = concat!(
        "SELECT ",
        review_columns!(),
        " FROM reviews WHERE reviewer_id = $1 OR user_id = $1 ORDER BY reviewer_id, user_id"
    );
    let rows: Vec<ReviewRow> =
        sqlx::query_as(AssertSqlSafe(format!("{lock}{FOR_UPDATE}"))).bind(id).fetch_all(&mut **tx).await?;
    let lock = "SELECT user_id FROM ratings WHERE user_id = $1
                OR user_id IN (SELECT user_id FROM reviews WHERE reviewer_id = $1) ORDER BY user_id";
    sqlx::query(AssertSqlSafe(format!("{lock}{FOR_UPDATE}"))).bind(id).execute(&mut **tx).await?;
    for sql in [
        "UPDATE ratings SET review_count = review_count - 1, star_sum = star_sum - (
             SELECT w.stars FROM reviews w WHERE w.reviewer_id = $1 AND w.user_id = ratings.user_id)
         WHERE user_id IN (SELECT w.user_id FROM reviews w WHERE w.reviewer_id = $1)",
        "DELETE FROM reviews WHERE reviewer_id = $1 OR user_id = $1",
        "DELETE FROM ratings WHERE user_id = $1",
    ] {
        sqlx::query(sql).bind(id).execute(&mut **tx).await?;
    }
    let written = rows.into_iter().filter(|row| row.reviewer_id == id).map(Review::from);
    Ok(written.map(|review| publish::payload(&Fact::review_changed(&review, Change::Deleted, now))).collect())
}

fn read_rating((count, sum): (i64, i64)) -> Rating {
    Rating { count, sum }
}

#[derive(FromRow)]
struct ReviewRow {
    reviewer_id: Uuid,
    user_id: Uuid,
    review_id: Uuid,
    stars: i64,
    text: String,
    version: i64,
    create_time: i64,
    update_time: i64,
}

impl From<ReviewRow> for Review {
    fn from(row: ReviewRow) -> Self {
        Self {
            id: ReviewId::from(row.review_id),
            reviewer_id: row.reviewer_id.into(),
            user_id: row.user_id.into(),
            verdict: Verdict::stored(row.stars, row.text),
            version: row.version,
            create_time: Timestamp::from_millis(row.create_time),
            update_time: Timestamp::from_millis(row.update_time),
        }
    }
}
