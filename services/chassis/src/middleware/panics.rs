//! A panic in one request is the failure of that request, and of no other.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use axum::response::Response;
use futures_util::FutureExt;
use tonic::Status;

use super::measure::Method;
use crate::fault::Fault;
use crate::telemetry::metrics as names;

/// Answers with INTERNAL when the work panics. What it panicked about stands in the log already.
pub(super) async fn caught(method: &Method, work: impl Future<Output = Response>) -> Response {
    // What the request had in hands is dropped with it; what is shared with others lives behind locks and transactions.
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(answer) => answer,
        Err(_) => {
            metrics::counter!(names::PANICS, "method" => method.label()).increment(1);
            tracing::error!(rpc.method = method.name(), "a request to {} panicked", method.name());
            Status::from(Fault::internal()).into_http()
        }
    }
}
