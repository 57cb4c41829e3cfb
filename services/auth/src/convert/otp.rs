//! One-time codes on the wire.

use chassis::clock::Timestamp;
use proto::auth::v1 as pb;

use crate::error::Error;
use crate::otp::Purpose;
use crate::otps::{Issued, Verifiable};

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

impl From<Issued> for pb::GenerateOtpResponse {
    fn from(Issued { expire_time, code }: Issued) -> Self {
        Self {
            expire_time: Some(Timestamp::to_proto(expire_time)),
            code: code.map(|code| code.as_str().to_owned()).unwrap_or_default(),
        }
    }
}
