//! Counting the calls of other services, by method and code, and the time that they take.

use std::future::Future;
use std::sync::LazyLock;

use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use super::Error;
use crate::middleware::measure::{Methods, code_in};

/// The figures of all calls of this process.
static METHODS: LazyLock<Methods> = LazyLock::new(Methods::of_callers);

/// Counts a call. One whose answer has begun well counts as `OK`, however a stream ends.
pub(super) async fn counted(
    path: &str,
    call: impl Future<Output = Result<http::Response<Body>, Error>>,
) -> Result<http::Response<Body>, Error> {
    let (method, begun) = (METHODS.of(path), Instant::now());
    let outcome = call.await;
    method.took(begun);
    method.ended(match &outcome {
        Ok(answer) => code_in(answer.headers()).unwrap_or(Code::Ok),
        Err(error) => error.downcast_ref::<Status>().map_or(Code::Unavailable, Status::code),
    });
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry;

    #[tokio::test]
    async fn a_call_counts_by_method_and_code() {
        telemetry::metrics_handle();
        let path = "/parlor.auth.v1.AuthService/Logout";
        let refused = async { Ok(Status::aborted("").into_http::<Body>()) };
        let well = async { Ok(http::Response::new(Body::empty())) };
        let broken = async { Err(Error::from(Status::unavailable(""))) };
        assert!(counted(path, refused).await.is_ok());
        assert!(counted(path, well).await.is_ok());
        assert!(counted(path, broken).await.is_err());
        let text = telemetry::metrics_handle().render();
        for code in ["ABORTED", "OK", "UNAVAILABLE"] {
            let line = format!(
                "rpc_client_requests_total{{method=\"parlor.auth.v1.AuthService/Logout\",code=\"{code}\"}} 1"
            );
            assert!(text.contains(&line), "{line} in {text}");
        }
    }
}
