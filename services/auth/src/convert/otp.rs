//! One-time codes on the wire.

use chassis::clock::Timestamp;
use proto::auth::v1 as pb;

use crate::email::Email;
use crate::error::Error;
use crate::otp::{Code, FlowId, Presented, Purpose};
use crate::otps::{Ask, Issued, Verifiable};
use crate::username::Username;

/// What a code is to be good for.
pub fn purpose(purpose: pb::OtpPurpose) -> Result<Purpose, Error> {
    match purpose {
        pb::OtpPurpose::Unspecified => Err(Error::invalid("purpose", "must be set")),
        pb::OtpPurpose::VerifyEmail => Ok(Purpose::VerifyEmail),
        pb::OtpPurpose::ResetPassword => Ok(Purpose::ResetPassword),
        pb::OtpPurpose::SignUp => Ok(Purpose::SignUp),
    }
}

/// What a code verifies; refuses one that is not there to verify an address.
pub fn verifiable(of: pb::OtpPurpose) -> Result<Verifiable, Error> {
    match purpose(of)? {
        Purpose::VerifyEmail => Ok(Verifiable::Account),
        Purpose::SignUp => Ok(Verifiable::SignUp),
        Purpose::ResetPassword => {
            let rule = "must be VERIFY_EMAIL or SIGN_UP: a code for a new password goes to ResetPassword, with that password";
            Err(Error::invalid("purpose", rule))
        }
    }
}

impl TryFrom<pb::GenerateOtpRequest> for Ask {
    type Error = Error;

    fn try_from(request: pb::GenerateOtpRequest) -> Result<Self, Error> {
        Ok(Self {
            purpose: purpose(request.purpose())?,
            email: Email::parse("email", &request.email)?,
            code_length: request.code_length,
            has_flow_id: request.with_flow_id,
            username: optional_username(&request.username)?,
        })
    }
}

fn optional_username(text: &str) -> Result<Option<Username>, Error> {
    if text.is_empty() { Ok(None) } else { Username::parse(text).map(Some) }
}

/// Reads a code that was presented.
pub fn presented(email: &str, code: &str, flow_id: &str) -> Result<Presented, Error> {
    Ok(Presented {
        email: Email::parse("email", email)?,
        code: Code::parse(code)?,
        flow: FlowId::parse_optional(flow_id)?,
    })
}

impl From<Issued> for pb::GenerateOtpResponse {
    fn from(Issued { expire_time, code_length, flow, code }: Issued) -> Self {
        Self {
            expire_time: Some(Timestamp::to_proto(expire_time)),
            code: code.map(|code| code.as_str().to_owned()).unwrap_or_default(),
            flow_id: flow.map(|id| id.as_str().to_owned()).unwrap_or_default(),
            code_length: i32::try_from(code_length).unwrap_or_default(),
        }
    }
}
