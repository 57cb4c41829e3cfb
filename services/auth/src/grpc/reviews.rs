//! The rpcs of reviews.

use chassis::caller::Caller;
use proto::auth::v1 as pb;
use proto::auth::v1::review_service_server::ReviewService;
use tonic::{Request, Response, Status};

use super::Api;
use crate::convert::{self, ReviewQuery};

#[tonic::async_trait]
impl ReviewService for Api {
    async fn put_review(
        &self,
        request: Request<pb::PutReviewRequest>,
    ) -> Result<Response<pb::PutReviewResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (user_id, verdict) = convert::verdict(request.get_ref())?;
        let put = self.reviews.put(&caller, user_id, verdict).await?;
        Ok(Response::new(put.into()))
    }

    async fn delete_review(
        &self,
        request: Request<pb::DeleteReviewRequest>,
    ) -> Result<Response<pb::DeleteReviewResponse>, Status> {
        let caller = Caller::of(&request)?;
        let user_id = convert::user_id("user_id", &request.into_inner().user_id)?;
        let rating = self.reviews.delete(&caller, user_id).await?;
        Ok(Response::new(pb::DeleteReviewResponse { rating: Some(convert::rating(rating)) }))
    }

    async fn list_user_reviews(
        &self,
        request: Request<pb::ListUserReviewsRequest>,
    ) -> Result<Response<pb::ListUserReviewsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (user_id, query) = ReviewQuery::about(request.get_ref())?;
        let found = self.reviews.about(&caller, user_id, query.before, query.limit).await?;
        Ok(Response::new(query.answer_about(found)))
    }

    async fn list_my_reviews(
        &self,
        request: Request<pb::ListMyReviewsRequest>,
    ) -> Result<Response<pb::ListMyReviewsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let query = ReviewQuery::by(&caller, request.get_ref())?;
        let page = self.reviews.page(query.whose, query.before, query.limit).await?;
        Ok(Response::new(query.answer_by(page)))
    }

    async fn batch_get_reviews(
        &self,
        request: Request<pb::BatchGetReviewsRequest>,
    ) -> Result<Response<pb::BatchGetReviewsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let ids = convert::review_ids(request.get_ref())?;
        let reviews = self.reviews.get_all(&caller, &ids).await?;
        let reviews = reviews.into_iter().map(pb::Review::from).collect();
        Ok(Response::new(pb::BatchGetReviewsResponse { reviews }))
    }

    async fn record_acquaintance(
        &self,
        request: Request<pb::RecordAcquaintanceRequest>,
    ) -> Result<Response<pb::RecordAcquaintanceResponse>, Status> {
        let acquaintance = convert::acquaintance(request.get_ref())?;
        self.reviews.record(acquaintance).await?;
        Ok(Response::new(pb::RecordAcquaintanceResponse {}))
    }
}
