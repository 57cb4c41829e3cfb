//! The use cases around reviews: writing them, reading them, and who may.

use std::collections::HashMap;

use chassis::caller::Caller;
use chassis::clock::Clock;
use proto::id::{ReviewId, UserId};

use crate::error::Error;
use crate::publish::Publisher;
use crate::review::{Acquaintance, Change, Place, Put, Rating, Review, ReviewPage, Verdict, Whose};
use crate::store::Store;
use crate::user::Account;

/// The use cases around reviews.
#[derive(Debug)]
pub struct Reviews {
    /// What is kept.
    pub store: Store,
    /// Tells the time.
    pub clock: Clock,
    /// Tells others.
    pub publisher: Publisher,
}

/// What somebody finds who reads the reviews of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reputation {
    /// A page of them.
    pub page: ReviewPage,
    /// What all of them come to.
    pub rating: Rating,
    /// The reader's own.
    pub own: Option<Review>,
}

impl Reviews {
    /// Writes the caller's review of a user, or changes it. The same again changes nothing.
    pub async fn put(&self, caller: &Caller, user_id: UserId, verdict: Verdict) -> Result<Put, Error> {
        if caller.user_id == user_id {
            return Err(Error::invalid("user_id", "must be somebody else: nobody reviews oneself"));
        }
        let now = self.clock.now();
        let review = Review {
            id: ReviewId::generate(),
            reviewer_id: caller.user_id,
            user_id,
            verdict,
            version: 1,
            create_time: now,
            update_time: now,
        };
        let put = self.store.put_review(&review).await?;
        if let Some(change) = put.change {
            self.publisher.facts();
            let verb = if change == Change::Written { "wrote" } else { "changed" };
            tracing::info!(user.id = %user_id, review.id = %put.review.id, "{verb} review {}", put.review.id);
        }
        Ok(put)
    }

    /// Deletes the caller's review of a user, and returns the user's rating without it.
    pub async fn delete(&self, caller: &Caller, user_id: UserId) -> Result<Rating, Error> {
        let deleted = self.store.delete_review(caller.user_id, user_id, self.clock.now()).await?;
        let rating = deleted.ok_or(Error::ReviewNotFound(user_id))?;
        self.publisher.facts();
        tracing::info!(user.id = %user_id, "deleted a review of user {user_id}");
        Ok(rating)
    }

    /// The reviews of a user.
    pub async fn about(
        &self,
        caller: &Caller,
        user_id: UserId,
        before: Option<Place>,
        limit: i64,
    ) -> Result<Reputation, Error> {
        let found = self.store.find_accounts(&[user_id]).await?;
        if !matches!(found.as_slice(), [Account::Living(_)]) {
            return Err(Error::UserNotFound(user_id));
        }
        Ok(Reputation {
            page: self.store.list_reviews(Whose::About(user_id), before, limit).await?,
            rating: self.store.rating_of(user_id).await?,
            own: self.store.find_review(caller.user_id, user_id).await?,
        })
    }

    /// The reviews with these ids that the caller wrote or is the subject of, in this order, each once.
    pub async fn get_all(&self, caller: &Caller, ids: &[ReviewId]) -> Result<Vec<Review>, Error> {
        let found = self.store.find_reviews(caller.user_id, ids).await?;
        let mut found: HashMap<ReviewId, Review> =
            found.into_iter().map(|review| (review.id, review)).collect();
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }

    /// A page of the reviews by or about a user.
    pub async fn page(&self, whose: Whose, before: Option<Place>, limit: i64) -> Result<ReviewPage, Error> {
        self.store.list_reviews(whose, before, limit).await
    }

    /// Writes down how two people know each other. Nothing, when there is nothing to write down.
    pub async fn record(&self, acquaintance: Option<Acquaintance>) -> Result<(), Error> {
        match acquaintance {
            Some(acquaintance) => self.store.record_acquaintance(&acquaintance).await,
            None => Ok(()),
        }
    }
}
