//! The rpcs around background checks: identify, parse, call, render.

use chassis::caller::Caller;
use proto::auth::v1 as pb;
use proto::auth::v1::background_check_service_server::BackgroundCheckService;
use tonic::{Request, Response, Status};

use super::Api;
use crate::convert::background_checks;

#[tonic::async_trait]
impl BackgroundCheckService for Api {
    async fn request_background_check(
        &self,
        request: Request<pb::RequestBackgroundCheckRequest>,
    ) -> Result<Response<pb::RequestBackgroundCheckResponse>, Status> {
        let caller = Caller::of(&request)?;
        let now = self.doors.checks.clock.now();
        let (request_id, particulars) = background_checks::request(&request.into_inner(), now)?;
        let check = self.doors.checks.request(&caller, request_id, &particulars).await?;
        Ok(Response::new(pb::RequestBackgroundCheckResponse { check: Some(check.into()) }))
    }

    async fn get_background_check(
        &self,
        request: Request<pb::GetBackgroundCheckRequest>,
    ) -> Result<Response<pb::GetBackgroundCheckResponse>, Status> {
        let caller = Caller::of(&request)?;
        let check = self.doors.checks.latest(&caller).await?;
        Ok(Response::new(pb::GetBackgroundCheckResponse { check: check.map(pb::BackgroundCheck::from) }))
    }

    async fn report_background_check(
        &self,
        request: Request<pb::ReportBackgroundCheckRequest>,
    ) -> Result<Response<pb::ReportBackgroundCheckResponse>, Status> {
        let report = request.into_inner().try_into()?;
        self.doors.checks.report(&report).await?;
        Ok(Response::new(pb::ReportBackgroundCheckResponse {}))
    }
}
