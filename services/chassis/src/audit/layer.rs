//! The middleware that writes the entry of a call before its answer leaves. It stands behind the one that knows the caller.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use proto::id::EventId;
use tonic::{Code, Status};

use super::{AuditLog, Entry, call};
use crate::caller::{ActingService, Caller, ClientNetwork};
use crate::fault::{Fault, code_name};
use crate::frame::{self, FRAME_HEAD};
use crate::trace;

/// The largest answer to an audited call.
const MAX_ANSWER: usize = 4 << 20;

/// Carries out a call, and writes it into the audit log when its policy says so.
pub async fn record(State(log): State<AuditLog>, request: Request, next: Next) -> Response {
    let audited = proto::policy::of(request.uri().path()).filter(|policy| policy.audited);
    let Some((policy, method)) = audited.and_then(|policy| Some((policy, call::method(policy.path)?))) else {
        return next.run(request).await;
    };
    let (request, message) = match frame::read(request).await {
        Ok(read) => read,
        Err(status) => return status.into_http::<Body>(),
    };
    let mut entry = Entry {
        audit_id: EventId::generate().uuid(),
        occur_millis: log.clock.now().as_millis(),
        action: policy.path.to_owned(),
        actor: actor(&request),
        origin: origin(&request),
        target: call::target(method.input(), &message),
        outcome: String::new(),
        request_id: trace::current().map(|context| context.trace_id.to_string()).unwrap_or_default(),
    };
    let answer = match Answer::read(next.run(request).await).await {
        Ok(answer) => answer,
        Err(status) => return status.into_http::<Body>(),
    };
    entry.outcome = code_name(answer.code).to_owned();
    if entry.actor.is_empty()
        && let Some(user) = answer.message().and_then(|message| call::user(method.output(), message))
    {
        entry.actor = format!("user:{user}");
    }
    match log.append(&entry).await {
        Ok(()) => answer.into_response(),
        Err(error) => {
            tracing::error!(%error, "a call is not answered because it cannot be written into the audit log");
            Status::from(Fault::unavailable("the audit log")).into_http::<Body>()
        }
    }
}

/// The user, and the service that acts for them.
fn actor(request: &Request) -> String {
    let extensions = request.extensions();
    match (extensions.get::<Caller>(), extensions.get::<ActingService>()) {
        (Some(caller), Some(service)) => format!("service:{} for user:{}", service.name(), caller.user_id),
        (Some(caller), None) => format!("user:{}", caller.user_id),
        (None, _) => String::new(),
    }
}

/// The network of a caller who is not signed in.
fn origin(request: &Request) -> String {
    request.extensions().get::<ClientNetwork>().map(ToString::to_string).unwrap_or_default()
}

/// The answer to a call that is no stream.
struct Answer {
    parts: http::response::Parts,
    body: Bytes,
    trailers: Option<http::HeaderMap>,
    code: Code,
}

impl Answer {
    async fn read(answer: Response) -> Result<Self, Status> {
        let (parts, body) = answer.into_parts();
        let collected = Limited::new(body, MAX_ANSWER).collect().await;
        let collected =
            collected.map_err(|error| Status::internal(format!("the answer breaks off: {error}")))?;
        let trailers = collected.trailers().cloned();
        let said = [Some(&parts.headers), trailers.as_ref()];
        let status = said.into_iter().flatten().find_map(|headers| headers.get("grpc-status"));
        let code = status.map_or(Code::Unknown, |status| Code::from_bytes(status.as_bytes()));
        Ok(Self { parts, body: collected.to_bytes(), trailers, code })
    }

    fn message(&self) -> Option<&[u8]> {
        self.body.get(FRAME_HEAD..)
    }

    fn into_response(self) -> Response {
        let Self { parts, body, trailers, .. } = self;
        let body = match trailers {
            None => Body::new(Full::new(body)),
            Some(trailers) => {
                let frames = [http_body::Frame::data(body), http_body::Frame::trailers(trailers)];
                let frames = frames.into_iter().map(Ok::<_, std::convert::Infallible>);
                Body::new(StreamBody::new(futures_util::stream::iter(frames)))
            }
        };
        Response::from_parts(parts, body)
    }
}
