//! Reviews on the wire.

use chassis::caller::Caller;
use chassis::fault::Fault;
use chassis::page::{self, Token as PageToken};
use proto::auth::v1 as pb;
use proto::id::{ReviewId, UserId};

use super::{as_slices, user_id};
use crate::error::Error;
use crate::review::{
    Acquaintance, Change, Pair, Place, Put, Rating, Review, ReviewPage, Tie, Verdict, Whose,
};
use crate::reviews::Reputation;

/// Whose review it is, and what it says.
pub fn verdict(request: &pb::PutReviewRequest) -> Result<(UserId, Verdict), Error> {
    Ok((user_id("user_id", &request.user_id)?, Verdict::parse(request.rating, &request.text)?))
}

/// The reviews to get.
pub fn review_ids(request: &pb::BatchGetReviewsRequest) -> Result<Vec<ReviewId>, Error> {
    let parse = |id: &String| ReviewId::parse(id).map_err(|_| Error::invalid("review_ids", "must be UUIDs"));
    request.review_ids.iter().map(parse).collect()
}

/// What a rating comes to.
pub fn rating(Rating { count, sum }: Rating) -> pb::Rating {
    // Both are exact as floating point numbers long after nobody could have written so many reviews.
    let mean = if count > 0 { sum as f64 / count as f64 } else { 0.0 };
    pb::Rating { count: i32::try_from(count).unwrap_or(i32::MAX), sum, mean }
}

impl From<Review> for pb::Review {
    fn from(review: Review) -> Self {
        Self {
            review_id: review.id.to_string(),
            reviewer_user_id: review.reviewer_id.to_string(),
            user_id: review.user_id.to_string(),
            rating: i32::try_from(review.verdict.stars()).unwrap_or_default(),
            text: review.verdict.text().to_owned(),
            create_time: Some(review.create_time.to_proto()),
            update_time: Some(review.update_time.to_proto()),
        }
    }
}

impl From<Put> for pb::PutReviewResponse {
    fn from(put: Put) -> Self {
        let created = put.change == Some(Change::Written);
        Self { review: Some(put.review.into()), created, rating: Some(rating(put.rating)) }
    }
}

/// A request for a page of reviews.
pub struct ReviewQuery {
    /// Whose they are.
    pub whose: Whose,
    /// Behind which one the page begins.
    pub before: Option<Place>,
    /// At most so many.
    pub limit: i64,
}

impl ReviewQuery {
    /// The reviews of a user.
    pub fn about(request: &pb::ListUserReviewsRequest) -> Result<(UserId, Self), Fault> {
        let id = user_id("user_id", &request.user_id)?;
        Ok((id, Self::parse(Whose::About(id), request.page_size, &request.page_token)?))
    }

    /// The caller's own reviews.
    pub fn by(caller: &Caller, request: &pb::ListMyReviewsRequest) -> Result<Self, Fault> {
        Self::parse(Whose::By(caller.user_id), request.page_size, &request.page_token)
    }

    fn parse(whose: Whose, page_size: i32, token: &str) -> Result<Self, Fault> {
        let before = PageToken::after::<Place>(token, &as_slices(&parts(whose)))?;
        Ok(Self { whose, before, limit: page::size(page_size) })
    }

    /// The page, and where the next one begins.
    fn render(&self, page: ReviewPage) -> (Vec<pb::Review>, String) {
        let last = page.reviews.last().filter(|_| page.has_more);
        let next = last
            .map(|review| PageToken::at(&as_slices(&parts(self.whose)), &review.place()))
            .unwrap_or_default();
        (page.reviews.into_iter().map(pb::Review::from).collect(), next)
    }

    /// The answer about a user.
    pub fn answer_about(&self, found: Reputation) -> pb::ListUserReviewsResponse {
        let (reviews, next_page_token) = self.render(found.page);
        pb::ListUserReviewsResponse {
            reviews,
            next_page_token,
            rating: Some(rating(found.rating)),
            own_review: found.own.map(pb::Review::from),
        }
    }

    /// The answer about oneself.
    pub fn answer_by(&self, page: ReviewPage) -> pb::ListMyReviewsResponse {
        let (reviews, next_page_token) = self.render(page);
        pb::ListMyReviewsResponse { reviews, next_page_token }
    }
}

/// What a page token is bound to.
fn parts(whose: Whose) -> [Vec<u8>; 2] {
    let (list, id) = match whose {
        Whose::About(id) => ("about", id),
        Whose::By(id) => ("by", id),
    };
    [list.into(), id.uuid().as_bytes().to_vec()]
}

/// What a service says about two people; `None` when it says that a call was not had, which changes nothing.
pub fn acquaintance(request: &pb::RecordAcquaintanceRequest) -> Result<Option<Acquaintance>, Error> {
    let two = || Error::invalid("user_ids", "must be two users");
    let [one, other] = request.user_ids.as_slice() else { return Err(two()) };
    // The same id in upper case is the same user.
    let pair = Pair::new(user_id("user_ids", one)?, user_id("user_ids", other)?).ok_or_else(two)?;
    let tie = match request.kind() {
        pb::AcquaintanceKind::Unspecified => return Err(Error::invalid("kind", "must be set")),
        pb::AcquaintanceKind::Connection => Tie::Connection { is_there: !request.ended },
        pb::AcquaintanceKind::Call if request.ended => return Ok(None),
        pb::AcquaintanceKind::Call => Tie::Call,
        pb::AcquaintanceKind::Block => Tie::Block { is_there: !request.ended },
    };
    Ok(Some(Acquaintance { pair, tie, version: request.version }))
}
