//! One trace from the socket to the commit: what ties the log lines of one request together, in whatever process.
//!
//! A request carries its trace in the W3C `traceparent` header; one that comes without gets a new one. While it is worked
//! on, the trace stands on every log line (`trace.id`), in the request's extensions, and behind [`current`]; calls to
//! other services take it along ([`inject`]). None of that needs a collector of traces: with one configured
//! ([`crate::telemetry`]), the same spans are sent there too.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tower::{Layer, Service};
use tracing::{Instrument, Span};

use crate::telemetry;

/// The header that carries a trace.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The header of an answer that names its request: the id of its trace, which is on every line of the log about it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// A place in a trace: which trace it is, and which of its spans what comes next belongs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace; never zero.
    pub trace_id: TraceId,
    /// The span that is the parent of what comes next; never zero.
    pub parent_id: u64,
    /// Bit 0: whoever came before keeps the trace.
    pub flags: u8,
}

/// What a trace is found by. Shown as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(pub u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What does not follow the W3C format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C traceparent")]
pub struct InvalidTraceparent;

impl FromStr for TraceContext {
    type Err = InvalidTraceparent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceparent> {
        parse(text).ok_or(InvalidTraceparent)
    }
}

/// `version "-" trace-id "-" parent-id "-" flags`; later versions may add fields after a dash.
fn parse(text: &str) -> Option<TraceContext> {
    let (head, rest) = text.split_at_checked(55)?;
    let mut fields = head.split('-');
    let mut next = |length: usize| {
        let digits = fields.next().filter(|field| field.len() == length)?;
        let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_hex.then(|| u128::from_str_radix(digits, 16).ok()).flatten()
    };
    let (version, trace_id, parent_id, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
    let fits = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest.starts_with('-'),
    };
    let context = TraceContext {
        trace_id: TraceId(trace_id),
        parent_id: u64::try_from(parent_id).ok()?,
        flags: u8::try_from(flags).ok()?,
    };
    (fits && trace_id != 0 && parent_id != 0).then_some(context)
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

impl TraceContext {
    /// The beginning of a new trace.
    pub fn generate() -> Self {
        Self {
            trace_id: TraceId(u128::from(random()) << 64 | u128::from(random())),
            parent_id: random(),
            flags: 1,
        }
    }

    /// The same trace, under a new span.
    #[must_use]
    pub fn child(self) -> Self {
        Self { parent_id: random(), ..self }
    }

    /// The trace that a request carries, if it carries one.
    pub fn of_headers(headers: &HeaderMap) -> Option<Self> {
        headers.get(TRACEPARENT)?.to_str().ok()?.parse().ok()
    }
}

/// A number that nobody has had before and nobody can foresee, never zero. A trace is no secret and grants nothing: the
/// keys that the standard library draws for its hash maps are good enough, and cost no call of the system.
fn random() -> u64 {
    RandomState::new().hash_one(()).max(1)
}

/// The trace of the request that this task works on.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|context| *context).ok()
}

/// Puts the current trace on an outgoing request. Without one, the request goes as it is.
pub fn inject(headers: &mut HeaderMap) {
    // What we format is always a valid header.
    if let Some(value) = current().and_then(|context| HeaderValue::try_from(context.to_string()).ok()) {
        headers.insert(TRACEPARENT, value);
    }
}

/// Puts the id of a request on its answer.
pub(crate) fn name_request(answer: &mut HeaderMap, context: TraceContext) {
    // Hexadecimal digits are always a valid value.
    if let Ok(id) = HeaderValue::try_from(context.trace_id.to_string()) {
        answer.insert(REQUEST_ID, id);
    }
}

/// Works on something as part of a trace, in a span of that trace.
pub async fn scope<F: Future>(context: TraceContext, span: Span, future: F) -> F::Output {
    CURRENT.scope(context, future.instrument(span)).await
}

/// Works on a command of a client that came over an open connection, as the beginning of a trace of its own. `what` names
/// the kind of connection.
pub async fn begin<F: Future>(what: &'static str, future: F) -> F::Output {
    let span = tracing::error_span!("request", trace.id = tracing::field::Empty, connection = what);
    let context = enter(&span, None);
    scope(context, span, future).await
}

/// A span under a place in a trace, for a collector of traces. Without a collector it is none, and costs nothing.
pub fn span_under(context: Option<TraceContext>, name: &'static str) -> Span {
    if !telemetry::has_collector() {
        return Span::none();
    }
    let span = tracing::info_span!(parent: None, "work", otel.name = name);
    telemetry::adopt(&span, context);
    span
}

/// Finds the trace of a request or begins one, puts it into the request's extensions, and opens the span for it.
/// `$name = $value` are further fields of the span; a macro, because the fields of a span are fixed where it is written.
macro_rules! request_span {
    ($request:expr, $($name:ident).+ = $value:expr $(, $($more:tt)+)?) => {{
        let request: &mut ::http::Request<_> = $request;
        let came_with = $crate::trace::TraceContext::of_headers(request.headers());
        // At the level of errors, so that whatever is logged at all is logged with its trace.
        let span = ::tracing::error_span!(
            "request",
            trace.id = ::tracing::field::Empty,
            $($name).+ = $value
            $(, $($more)+)?
        );
        let context = $crate::trace::enter(&span, came_with);
        request.extensions_mut().insert(context);
        (context, span)
    }};
}
pub(crate) use request_span;

/// Decides the trace of a new span, under the one that the request came with, and writes it on the span.
pub(crate) fn enter(span: &Span, came_with: Option<TraceContext>) -> TraceContext {
    let context = telemetry::adopt(span, came_with)
        .unwrap_or_else(|| came_with.map_or_else(TraceContext::generate, TraceContext::child));
    span.record("trace.id", tracing::field::display(context.trace_id));
    context
}

/// The layer for HTTP that is not gRPC: opens the span `request` with `trace.id`, `http.method` and `url.path`.
/// For gRPC it is part of [`crate::middleware::stack`].
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceLayer;

/// Makes a [`TraceLayer`].
pub fn layer() -> TraceLayer {
    TraceLayer
}

impl<S> Layer<S> for TraceLayer {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner }
    }
}

/// A service whose requests have a trace.
#[derive(Clone, Copy, Debug)]
pub struct Traced<S> {
    inner: S,
}

impl<S, B, A> Service<Request<B>> for Traced<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        // The path without the query: tokens and search words stand there.
        let (context, span) =
            request_span!(&mut request, http.method = method.as_str(), url.path = path.as_str());
        let answer = span.in_scope(|| self.inner.call(request));
        Box::pin(async move {
            let mut answer = scope(context, span, answer).await?;
            name_request(answer.headers_mut(), context);
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::convert::Infallible;

    use tower::{ServiceExt, service_fn};

    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_written_is_what_is_read() {
        let context: TraceContext = EXAMPLE.parse().expect("the example of the W3C");
        assert_eq!(context.to_string(), EXAMPLE);
        assert_eq!(context.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        let generated = TraceContext::generate();
        assert_eq!(generated.to_string().parse(), Ok(generated));
    }

    #[test]
    fn what_breaks_the_format_is_no_trace() {
        for text in [
            "",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-001",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0é",
        ] {
            assert_eq!(text.parse::<TraceContext>(), Err(InvalidTraceparent), "{text}");
        }
        assert!("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x".parse::<TraceContext>().is_ok());
    }

    #[test]
    fn no_two_traces_are_alike() {
        let ids: HashSet<TraceId> = (0..10_000).map(|_| TraceContext::generate().trace_id).collect();
        assert_eq!(ids.len(), 10_000);
    }

    async fn traced(headers: &[&str]) -> (TraceContext, TraceContext, HeaderMap) {
        let service = layer().layer(service_fn(|request: Request<()>| async move {
            let mut outgoing = HeaderMap::new();
            inject(&mut outgoing);
            let extension = *request.extensions().get::<TraceContext>().expect("an extension");
            Ok::<_, Infallible>(Response::new((extension, current().expect("a trace"), outgoing)))
        }));
        let mut request = Request::new(());
        for value in headers {
            request.headers_mut().insert(TRACEPARENT, value.parse().expect("a header"));
        }
        let Ok(answer) = service.oneshot(request).await;
        let id = answer.headers()[REQUEST_ID].to_str().expect("text").to_owned();
        let seen = answer.into_body();
        assert_eq!(id, seen.1.trace_id.to_string());
        seen
    }

    #[tokio::test]
    async fn a_request_keeps_its_trace_and_passes_it_on() {
        let (extension, current, outgoing) = traced(&[EXAMPLE]).await;
        assert_eq!(extension, current);
        assert_eq!(current.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_ne!(current.parent_id, 0xb7ad_6b71_6920_3331);
        assert_eq!(TraceContext::of_headers(&outgoing), Some(current));
    }

    #[tokio::test]
    async fn a_request_without_a_trace_gets_one() {
        for headers in [&[][..], &["rubbish"][..]] {
            let (_, current, outgoing) = traced(headers).await;
            assert_eq!(TraceContext::of_headers(&outgoing), Some(current));
        }
        assert_eq!(current(), None);
        let mut headers = HeaderMap::new();
        inject(&mut headers);
        assert!(headers.is_empty());
    }
}
