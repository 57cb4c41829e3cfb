//! The rpc of interests.

use proto::auth::v1 as pb;
use proto::auth::v1::interest_service_server::InterestService;
use tonic::{Request, Response, Status};

use super::Api;
use crate::convert::InterestQuery;

#[tonic::async_trait]
impl InterestService for Api {
    async fn list_interests(
        &self,
        request: Request<pb::ListInterestsRequest>,
    ) -> Result<Response<pb::ListInterestsResponse>, Status> {
        let query = InterestQuery::try_from(request.into_inner())?;
        let page = self.users.interests(&query.listing).await?;
        Ok(Response::new(query.answer(page)))
    }
}
