//! `POST /otp` and `POST /otp/verify`: codes for signing up, by e-mail.

use proto::auth::v1::{GenerateOtpRequest, OtpPurpose, VerifyOtpRequest};
use serde_json::{Value, json};

use crate::dialects::Dialects;
use crate::dialects::backend::Authority;
use crate::dialects::request::HttpRequest;
use crate::dialects::talkamie::envelope::{Reply, in_our_words};
use crate::http::error::Problem;

/// The form of the clients has four boxes. Production has longer codes.
const CODE_LENGTH_IN_DEVELOPMENT: i32 = 4;

/// Sends a code. The answer has it in development only.
pub(in crate::dialects::talkamie) async fn generate(
    dialects: &Dialects,
    request: &HttpRequest,
) -> Result<Reply, Problem> {
    let fields = request.fields();
    let generate = GenerateOtpRequest {
        email: fields.required("email")?,
        purpose: OtpPurpose::SignUp.into(),
        code_length: if dialects.backend.is_development() { CODE_LENGTH_IN_DEVELOPMENT } else { 0 },
        ..GenerateOtpRequest::default()
    };
    let answer = dialects.backend.call(Authority::Anonymous(request.address), generate).await;
    let code = answer.map_err(in_our_words)?.code;
    Ok(Reply::new(if code.is_empty() { Value::Null } else { json!({"otp": code}) }))
}

/// Checks a code.
pub(in crate::dialects::talkamie) async fn verify(
    dialects: &Dialects,
    request: &HttpRequest,
) -> Result<Reply, Problem> {
    let fields = request.fields();
    let verify = VerifyOtpRequest {
        email: fields.required("email")?,
        code: fields.required("code")?,
        purpose: OtpPurpose::SignUp.into(),
        ..VerifyOtpRequest::default()
    };
    let answer = dialects.backend.call(Authority::Anonymous(request.address), verify).await;
    answer.map_err(in_our_words)?;
    Ok(Reply::done())
}
