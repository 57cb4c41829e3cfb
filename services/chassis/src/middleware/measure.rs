//! Counting requests by method and code, and how long they take.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use metrics::{Counter, Histogram};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::telemetry::metrics as names;

/// The names of the codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The rpcs of the contract. Whatever else is asked for is `other`: names that anybody can make up are no labels.
pub(crate) struct Methods {
    ours: HashMap<String, Method>,
    other: Method,
}

impl Methods {
    /// As a service answers them.
    pub(super) fn of_services() -> Self {
        Self::of_the_contract(Side::Service)
    }

    /// As their callers see them.
    pub(crate) fn of_callers() -> Self {
        Self::of_the_contract(Side::Caller)
    }

    fn of_the_contract(side: Side) -> Self {
        let methods = proto::pool().services().flat_map(|service| {
            let name = service.full_name().to_owned();
            let methods: Vec<_> = service.methods().collect();
            methods
                .into_iter()
                .map(move |method| (format!("{name}/{}", method.name()), method.is_server_streaming()))
        });
        let ours =
            methods.map(|(name, is_stream)| (format!("/{name}"), Method::new(&name, side, true, is_stream)));
        // Of the others some are streams, and all may be counted as such.
        Self { ours: ours.collect(), other: Method::new("other", side, false, true) }
    }

    pub(crate) fn of(&self, path: &str) -> &Method {
        self.ours.get(path).unwrap_or(&self.other)
    }
}

/// An rpc and its figures, which are looked up once.
#[derive(Clone)]
pub(crate) struct Method(Arc<Figures>);

/// The side of a call that counts it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Service,
    Caller,
}

impl Side {
    /// The metrics for the number and the duration of calls.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Service => (names::RPC_REQUESTS, names::RPC_DURATION),
            Self::Caller => (names::CLIENT_REQUESTS, names::CLIENT_DURATION),
        }
    }
}

struct Figures {
    side: Side,
    name: Arc<str>,
    is_ours: bool,
    is_stream: bool,
    duration: OnceLock<Histogram>,
    requests: [OnceLock<Counter>; CODES.len()],
}

impl Method {
    fn new(name: &str, side: Side, is_ours: bool, is_stream: bool) -> Self {
        Self(Arc::new(Figures {
            side,
            name: Arc::from(name),
            is_ours,
            is_stream,
            duration: OnceLock::new(),
            requests: [const { OnceLock::new() }; CODES.len()],
        }))
    }

    /// The package, service and method: `parlor.auth.v1.AuthService/Login`.
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// The name as a label of a metric.
    pub(super) fn label(&self) -> Arc<str> {
        Arc::clone(&self.0.name)
    }

    /// Whether it is one of the contract.
    pub(super) fn is_ours(&self) -> bool {
        self.0.is_ours
    }

    pub(crate) fn took(&self, begun: Instant) {
        let (_, duration) = self.0.side.names();
        let new = || metrics::histogram!(duration, "method" => self.label());
        self.0.duration.get_or_init(new).record(begun.elapsed());
    }

    pub(crate) fn ended(&self, code: Code) {
        // The codes are numbered without gaps, from 0.
        let Some(counter) = self.0.requests.get(code as usize) else { return };
        let label = CODES.get(code as usize).copied().unwrap_or_default();
        let (requests, _) = self.0.side.names();
        let new = || metrics::counter!(requests, "method" => self.label(), "code" => label);
        counter.get_or_init(new).increment(1);
        if self.0.side == Side::Caller {
            return;
        }
        // The access log: the setting `log.level = "info,access=debug"` shows it.
        tracing::debug!(target: "access", { rpc.code = label }, "{}: {label}", self.0.name);
    }
}

/// Counts an answer. That of a stream is known when the stream ends.
pub(super) async fn counted(method: &Method, work: impl Future<Output = Response>) -> Response {
    let begun = Instant::now();
    let uncounted = Uncounted(Some(method));
    let answer = work.await;
    method.took(begun);
    uncounted.over();
    match code_of(&answer) {
        None if method.0.is_stream => {
            answer.map(|body| Body::new(Counted { method: Some(method.clone()), body }))
        }
        None => {
            method.ended(Code::Ok);
            answer
        }
        Some(code) => {
            method.ended(code);
            answer
        }
    }
}

/// A request whose caller goes away counts as cancelled.
struct Uncounted<'a>(Option<&'a Method>);

impl Uncounted<'_> {
    fn over(mut self) {
        self.0 = None;
    }
}

impl Drop for Uncounted<'_> {
    fn drop(&mut self) {
        if let Some(method) = self.0 {
            method.ended(Code::Cancelled);
        }
    }
}

/// The code of an answer that has one before its body.
fn code_of(answer: &Response) -> Option<Code> {
    match answer.status() {
        StatusCode::OK => code_in(answer.headers()),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Some(Code::Unimplemented),
        _ => Some(Code::Unknown),
    }
}

/// The code among headers or trailers.
pub(crate) fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}

/// The body of a stream, which counts when it ends.
struct Counted {
    method: Option<Method>,
    body: Body,
}

impl Counted {
    fn ended(&mut self, code: Code) {
        if let Some(method) = self.method.take() {
            method.ended(code);
        }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.ended(code_in(trailers).unwrap_or(Code::Unknown));
                }
            }
            Some(Err(_)) => self.ended(Code::Unknown),
            None => self.ended(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.ended(Code::Cancelled);
    }
}
