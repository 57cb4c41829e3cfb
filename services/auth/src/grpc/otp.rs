//! The rpcs around one-time codes: parse, call, render.

use chassis::caller::ClientNetwork;
use proto::auth::v1 as pb;
use proto::auth::v1::otp_service_server::OtpService;
use tonic::{Request, Response, Status};

use super::Api;
use crate::convert::otp;
use crate::email::Email;
use crate::otp::Code;
use crate::password::Password;

#[tonic::async_trait]
impl OtpService for Api {
    async fn generate_otp(
        &self,
        request: Request<pb::GenerateOtpRequest>,
    ) -> Result<Response<pb::GenerateOtpResponse>, Status> {
        let from = ClientNetwork::of(&request);
        let purpose = otp::purpose(request.get_ref().purpose())?;
        let email = Email::parse("email", &request.get_ref().email)?;
        let issued = self.doors.otps.issue(email, purpose, request.get_ref().code_length, from).await?;
        Ok(Response::new(issued.into()))
    }

    async fn verify_otp(
        &self,
        request: Request<pb::VerifyOtpRequest>,
    ) -> Result<Response<pb::VerifyOtpResponse>, Status> {
        let from = ClientNetwork::of(&request);
        let verifiable = otp::verifiable(request.get_ref().purpose())?;
        let email = Email::parse("email", &request.get_ref().email)?;
        let code = Code::parse(&request.get_ref().code)?;
        self.doors.otps.verify(email, code, verifiable, from).await?;
        Ok(Response::new(pb::VerifyOtpResponse {}))
    }

    async fn reset_password(
        &self,
        request: Request<pb::ResetPasswordRequest>,
    ) -> Result<Response<pb::ResetPasswordResponse>, Status> {
        let from = ClientNetwork::of(&request);
        let pb::ResetPasswordRequest { email, code, new_password } = request.into_inner();
        let (email, code) = (Email::parse("email", &email)?, Code::parse(&code)?);
        let password = Password::presented(&new_password);
        self.doors.otps.reset_password(email, code, password, from).await?;
        Ok(Response::new(pb::ResetPasswordResponse {}))
    }
}
