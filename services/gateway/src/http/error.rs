//! Errors in HTTP form: one status code and one JSON body, `parlor.gateway.v1.Error`.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use chassis::fault::{Fault, code_name};
use chassis::trace;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use proto::gateway::v1::{Error, ErrorReason, FieldViolation};
use proto::messaging::v1 as messaging;
use tonic::{Code, Status};

use crate::json;

/// The media type of an error's body.
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// An error as an HTTP answer.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    fault: Fault,
    headers: HeaderMap,
}

impl Problem {
    /// Nothing is served at this path.
    pub(crate) fn route_not_found() -> Self {
        Fault::new(Code::NotFound, ErrorReason::RouteNotFound.as_str_name())
            .message("nothing is served at this path: see /docs for what there is")
            .into()
    }

    /// This path takes methods other than that of the request.
    pub(crate) fn method_not_allowed(allow: &[Method]) -> Self {
        let allow = allow.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let fault = Fault::new(Code::Unimplemented, ErrorReason::MethodNotAllowed.as_str_name())
            .message(format!("this path takes {allow}"))
            .with("allow", &allow);
        let mut problem = Self::with_status(StatusCode::METHOD_NOT_ALLOWED, fault);
        if let Ok(allow) = HeaderValue::try_from(allow) {
            problem.headers.insert(header::ALLOW, allow);
        }
        problem
    }

    /// The body is compressed or otherwise encoded.
    pub(crate) fn unsupported_encoding() -> Self {
        let fault = Fault::new(Code::InvalidArgument, ErrorReason::UnsupportedMediaType.as_str_name())
            .message("send the body as it is, without content-encoding")
            .field("content-encoding", "must be absent or identity");
        let mut problem = Self::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, fault);
        problem.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        problem
    }

    /// The body is larger than allowed.
    pub(crate) fn body_too_large(max: usize) -> Self {
        let fault = Fault::new(Code::InvalidArgument, ErrorReason::BodyTooLarge.as_str_name())
            .message(format!("the body has more than {max} bytes"))
            .with("max_bytes", max);
        Self::with_status(StatusCode::PAYLOAD_TOO_LARGE, fault)
    }

    /// The body's content type is not JSON.
    pub(crate) fn unsupported_media_type() -> Self {
        let fault = Fault::new(Code::InvalidArgument, ErrorReason::UnsupportedMediaType.as_str_name())
            .message("send the body as `content-type: application/json`");
        Self::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, fault)
    }

    /// Pages of this origin may not use the gateway.
    pub(crate) fn origin_not_allowed() -> Self {
        Fault::new(Code::PermissionDenied, ErrorReason::OriginNotAllowed.as_str_name())
            .message("pages of this origin may not use the gateway")
            .into()
    }

    /// The file does not have the requested part.
    pub(crate) fn range_not_satisfiable(size: u64) -> Self {
        let fault = Fault::invalid("range", "must begin within the file").with("size", size);
        let mut problem = Self::with_status(StatusCode::RANGE_NOT_SATISFIABLE, fault);
        if let Ok(range) = HeaderValue::try_from(format!("bytes */{size}")) {
            problem.headers.insert(header::CONTENT_RANGE, range);
        }
        problem
    }

    /// Returns an error of the gateway. The cause is logged where it is known.
    pub(crate) fn internal() -> Self {
        Fault::internal().into()
    }

    /// The resource does not exist, or the caller may not know of it.
    pub(crate) fn not_found(message: &str) -> Self {
        Fault::new(Code::NotFound, ErrorReason::NotFound.as_str_name()).message(message).into()
    }

    /// The caller may not do this.
    pub(crate) fn forbidden(message: &str) -> Self {
        Fault::new(Code::PermissionDenied, ErrorReason::PermissionDenied.as_str_name())
            .message(message)
            .into()
    }

    /// Too many requests are in progress.
    pub(crate) fn overloaded() -> Self {
        Fault::new(Code::Unavailable, ErrorReason::Overloaded.as_str_name())
            .message("too much is under way at the moment")
            .retry_after(Duration::from_secs(1))
            .into()
    }

    /// The address of the client has reached a limit on concurrent use.
    pub(crate) fn too_many(limit: &str, wait: Duration) -> Self {
        Fault::new(Code::ResourceExhausted, ErrorReason::RateLimited.as_str_name())
            .message("this address has too much under way at once")
            .with("limit", limit)
            .retry_after(wait)
            .into()
    }

    /// The request took too long.
    pub(crate) fn deadline_exceeded() -> Self {
        deadline_exceeded().into()
    }

    /// Marks an answer to a request that was not read to its end: the rest is not waited for.
    pub(crate) fn without_the_rest(mut self) -> Self {
        self.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        self
    }

    /// Returns the status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the error that the answer describes.
    pub(crate) fn fault(&self) -> &Fault {
        &self.fault
    }

    fn with_status(status: StatusCode, fault: Fault) -> Self {
        Self { status, fault, headers: HeaderMap::new() }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let status = status_of_reason(fault.reason()).unwrap_or_else(|| http_status(fault.code()));
        Self::with_status(status, fault)
    }
}

/// Returns the status of a reason for which HTTP has a closer status than the one of the code.
fn status_of_reason(reason: &str) -> Option<StatusCode> {
    match messaging::ErrorReason::from_str_name(reason)? {
        messaging::ErrorReason::UploadTooSlow => Some(StatusCode::REQUEST_TIMEOUT),
        messaging::ErrorReason::StorageFull => Some(StatusCode::PAYLOAD_TOO_LARGE),
        _ => None,
    }
}

impl From<&Status> for Problem {
    fn from(status: &Status) -> Self {
        fault_of(status).into()
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        Self::from(&status)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut error = error_of(&self.fault);
        error.status = i32::from(self.status.as_u16());
        let body = json::typed_to_json("parlor.gateway.v1.Error", &error).unwrap_or_else(|_| "{}".to_owned());

        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        if let Some(wait) = self.fault.wait() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if self.status == StatusCode::PAYLOAD_TOO_LARGE {
            // The rest of the body is not read: announce it, or the client sends its next request into a closing
            // connection.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // The dialects give it a body of their own.
        response.extensions_mut().insert(self);
        response
    }
}

/// Returns a service's error in a form fit for clients: without internals, and with a time to wait wherever waiting
/// helps.
fn fault_of(status: &Status) -> Fault {
    let said = Fault::of(status);
    // An error without a reason does not come from one of the services but from a layer in between: its text describes
    // internals.
    let fault = if said.reason().is_empty() { unreasoned(&said) } else { said };
    match fault.code() {
        Code::Internal | Code::Unknown | Code::DataLoss => Fault::internal(),
        Code::Unavailable | Code::ResourceExhausted if fault.wait().is_none() => {
            fault.retry_after(Duration::from_secs(1))
        }
        _ => fault,
    }
}

fn unreasoned(said: &Fault) -> Fault {
    match said.code() {
        Code::Unavailable => Fault::unavailable("the service"),
        Code::DeadlineExceeded | Code::Cancelled => deadline_exceeded(),
        Code::ResourceExhausted => {
            Fault::new(Code::ResourceExhausted, ErrorReason::RateLimited.as_str_name())
                .message("too many requests: slow down")
        }
        Code::Unauthenticated => {
            Fault::new(Code::Unauthenticated, ErrorReason::Unauthenticated.as_str_name())
                .message("sign in: send `authorization: Bearer <session token>`")
        }
        Code::Unknown | Code::Internal | Code::DataLoss | Code::Ok => Fault::internal(),
        code @ (Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented) => {
            Fault::new(code, ErrorReason::Unspecified.as_str_name()).message(code.description())
        }
    }
}

fn deadline_exceeded() -> Fault {
    Fault::new(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded.as_str_name())
        .message("it took too long; whether it was done is not known")
}

/// Returns the body that describes a service's error to a client of the socket.
pub(crate) fn body(status: &Status) -> Error {
    let request_id = trace::current().map(|context| context.trace_id.to_string());
    Error { request_id, ..error_of(&fault_of(status)) }
}

/// Returns the body that describes a fault to a client.
fn error_of(fault: &Fault) -> Error {
    Error {
        status: i32::from(http_status(fault.code()).as_u16()),
        code: code_name(fault.code()).to_owned(),
        reason: fault.reason().to_owned(),
        message: fault.text(),
        fields: fault
            .fields()
            .iter()
            .map(|(field, rule)| FieldViolation { field: field.clone(), rule: rule.clone() })
            .collect(),
        retry_after: fault.wait().and_then(|wait| prost_types::Duration::try_from(wait).ok()),
        metadata: fault.metadata().clone(),
        request_id: None,
    }
}

/// Returns the HTTP status of a gRPC code.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded | Code::Cancelled => StatusCode::GATEWAY_TIMEOUT,
        Code::Internal | Code::Unknown | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Rounds up to seconds: a client that comes back a moment early is refused again.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use insta::assert_snapshot;

    use super::*;

    async fn told(problem: impl Into<Problem>) -> String {
        let response = problem.into().into_response();
        let (status, retry) = (response.status(), response.headers().get(header::RETRY_AFTER).cloned());
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let retry =
            retry.map(|value| format!(" retry-after {}", value.to_str().expect("text"))).unwrap_or_default();
        format!("{}{retry} {}", status.as_u16(), String::from_utf8_lossy(&body))
    }

    #[tokio::test]
    async fn a_service_is_quoted() {
        let fault = Fault::new(Code::ResourceExhausted, "ERROR_REASON_SLOW_MODE")
            .message("wait 2500 ms")
            .with("wait_millis", 2500)
            .retry_after(Duration::from_millis(2500));
        assert_snapshot!(told(Status::from(fault)).await, @r#"429 retry-after 3 {"status":429,"code":"RESOURCE_EXHAUSTED","reason":"ERROR_REASON_SLOW_MODE","message":"wait 2500 ms","fields":[],"retryAfter":"2.500s","metadata":{"wait_millis":"2500"}}"#);
        let fault = Fault::invalid("content.text", "must be set");
        assert_snapshot!(told(Status::from(fault)).await, @r#"400 {"status":400,"code":"INVALID_ARGUMENT","reason":"ERROR_REASON_INVALID_FIELD","message":"content.text must be set","fields":[{"field":"content.text","rule":"must be set"}],"metadata":{}}"#);
    }

    #[tokio::test]
    async fn what_is_about_us_is_not_told() {
        let ours = told(Fault::internal()).await;
        assert_snapshot!(ours, @r#"500 {"status":500,"code":"INTERNAL","reason":"ERROR_REASON_INTERNAL","message":"something went wrong on our side","fields":[],"metadata":{}}"#);
        for secret in [
            Status::internal("SELECT * FROM users"),
            Status::unknown("h2 protocol error"),
            Status::data_loss("disk"),
            Fault::new(Code::Internal, "ERROR_REASON_STORE").message("SELECT").with("table", "users").into(),
        ] {
            assert_eq!(told(secret).await, ours);
        }
        assert_snapshot!(told(Status::unavailable("tcp connect error: 10.0.0.7:50051")).await, @r#"503 retry-after 1 {"status":503,"code":"UNAVAILABLE","reason":"ERROR_REASON_UNAVAILABLE","message":"the service is not available at the moment","fields":[],"retryAfter":"1s","metadata":{}}"#);
        assert_snapshot!(told(Status::not_found("/var/lib")).await, @r#"404 {"status":404,"code":"NOT_FOUND","reason":"ERROR_REASON_UNSPECIFIED","message":"Some requested entity was not found","fields":[],"metadata":{}}"#);
    }

    #[tokio::test]
    async fn waiting_always_has_a_length() {
        let fault = Fault::new(Code::Unavailable, "ERROR_REASON_OVERLOADED").message("too much");
        assert!(told(Status::from(fault)).await.starts_with("503 retry-after 1 "));
        assert!(told(Status::resource_exhausted("")).await.starts_with("429 retry-after 1 "));
    }

    #[tokio::test]
    async fn every_code_has_its_status() {
        let told = |code: Code| told(Status::from(Fault::new(code, "ERROR_REASON_X")));
        let expected = [
            (Code::InvalidArgument, "400"),
            (Code::OutOfRange, "400"),
            (Code::Unauthenticated, "401"),
            (Code::PermissionDenied, "403"),
            (Code::NotFound, "404"),
            (Code::AlreadyExists, "409"),
            (Code::Aborted, "409"),
            (Code::FailedPrecondition, "409"),
            (Code::ResourceExhausted, "429"),
            (Code::Unimplemented, "501"),
            (Code::Unavailable, "503"),
            (Code::DeadlineExceeded, "504"),
            (Code::Internal, "500"),
        ];
        for (code, status) in expected {
            assert!(told(code).await.starts_with(status), "{code:?}");
        }
    }

    #[tokio::test]
    async fn http_has_problems_of_its_own() {
        assert_snapshot!(told(Problem::route_not_found()).await, @r#"404 {"status":404,"code":"NOT_FOUND","reason":"ERROR_REASON_ROUTE_NOT_FOUND","message":"nothing is served at this path: see /docs for what there is","fields":[],"metadata":{}}"#);
        assert_snapshot!(told(Problem::method_not_allowed(&[Method::GET, Method::POST])).await, @r#"405 {"status":405,"code":"UNIMPLEMENTED","reason":"ERROR_REASON_METHOD_NOT_ALLOWED","message":"this path takes GET, POST","fields":[],"metadata":{"allow":"GET, POST"}}"#);
        assert_snapshot!(told(Problem::body_too_large(65536)).await, @r#"413 {"status":413,"code":"INVALID_ARGUMENT","reason":"ERROR_REASON_BODY_TOO_LARGE","message":"the body has more than 65536 bytes","fields":[],"metadata":{"max_bytes":"65536"}}"#);
        assert_snapshot!(told(Problem::unsupported_media_type()).await, @r#"415 {"status":415,"code":"INVALID_ARGUMENT","reason":"ERROR_REASON_UNSUPPORTED_MEDIA_TYPE","message":"send the body as `content-type: application/json`","fields":[],"metadata":{}}"#);
        assert_snapshot!(told(Problem::origin_not_allowed()).await, @r#"403 {"status":403,"code":"PERMISSION_DENIED","reason":"ERROR_REASON_ORIGIN_NOT_ALLOWED","message":"pages of this origin may not use the gateway","fields":[],"metadata":{}}"#);
        assert_snapshot!(told(Problem::overloaded()).await, @r#"503 retry-after 1 {"status":503,"code":"UNAVAILABLE","reason":"ERROR_REASON_OVERLOADED","message":"too much is under way at the moment","fields":[],"retryAfter":"1s","metadata":{}}"#);
        assert_snapshot!(told(Problem::deadline_exceeded()).await, @r#"504 {"status":504,"code":"DEADLINE_EXCEEDED","reason":"ERROR_REASON_DEADLINE_EXCEEDED","message":"it took too long; whether it was done is not known","fields":[],"metadata":{}}"#);
    }
}
