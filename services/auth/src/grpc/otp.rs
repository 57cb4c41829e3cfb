//! The rpcs around one-time codes: parse, call, render.

use chassis::caller::ClientNetwork;
use proto::auth::v1 as pb;
use proto::auth::v1::otp_service_server::OtpService;
use tonic::{Request, Response, Status};

use super::Api;
use crate::convert::otp;
use crate::password::Password;

#[tonic::async_trait]
impl OtpService for Api {
    async fn generate_otp(
        &self,
        request: Request<pb::GenerateOtpRequest>,
    ) -> Result<Response<pb::GenerateOtpResponse>, Status> {
        let from = ClientNetwork::of(&request);
        let issued = self.doors.otps.issue(request.into_inner().try_into()?, from).await?;
        Ok(Response::new(issued.into()))
    }

    async fn verify_otp(
        &self,
        request: Request<pb::VerifyOtpRequest>,
    ) -> Result<Response<pb::VerifyOtpResponse>, Status> {
        let from = ClientNetwork::of(&request);
        let verifiable = otp::verifiable(request.get_ref().purpose())?;
        let pb::VerifyOtpRequest { email, code, flow_id, .. } = request.into_inner();
        self.doors.otps.verify(otp::presented(&email, &code, &flow_id)?, verifiable, from).await?;
        Ok(Response::new(pb::VerifyOtpResponse {}))
    }

    async fn reset_password(
        &self,
        request: Request<pb::ResetPasswordRequest>,
    ) -> Result<Response<pb::ResetPasswordResponse>, Status> {
        let from = ClientNetwork::of(&request);
        let pb::ResetPasswordRequest { email, code, new_password, flow_id } = request.into_inner();
        let presented = otp::presented(&email, &code, &flow_id)?;
        self.doors.otps.reset_password(presented, Password::presented(&new_password), from).await?;
        Ok(Response::new(pb::ResetPasswordResponse {}))
    }
}
