//! The activity of a connection, as its stream and its requests see it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

/// No header has begun.
const NONE: u64 = u64::MAX;

/// The activity of one connection. In the extensions of its requests.
#[derive(Debug)]
pub(in crate::http) struct Activity {
    start: Instant,
    /// The time at which the incomplete header began, in milliseconds since the start. The first begins at once.
    header_since: AtomicU64,
    /// The time at which a request last began or moved, in milliseconds since the start.
    last: AtomicU64,
    /// The number of requests that have begun and whose answer has not.
    under_way: AtomicUsize,
    /// The number of requests that have begun and whose answer has not ended.
    exchanges: AtomicUsize,
    /// True once a request came with the token of a user.
    is_users: AtomicBool,
    /// True when the connection uses HTTP/2, whose headers are interleaved, or has become a WebSocket.
    has_own_bounds: AtomicBool,
    is_upgraded: AtomicBool,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            header_since: AtomicU64::new(0),
            last: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            exchanges: AtomicUsize::new(0),
            is_users: AtomicBool::new(false),
            has_own_bounds: AtomicBool::new(false),
            is_upgraded: AtomicBool::new(false),
        }
    }
}

impl Activity {
    /// Records that bytes have come from the client.
    pub(super) fn bytes_come(&self) {
        if self.exchanges.load(Relaxed) == 0 && !self.has_own_bounds.load(Relaxed) {
            // A header that has begun does not begin again with each byte.
            let _ = self.header_since.compare_exchange(NONE, self.now(), Relaxed, Relaxed);
        }
    }

    /// Returns the time at which the incomplete header began.
    pub(super) fn header_since(&self) -> Option<Instant> {
        let since = self.header_since.load(Relaxed);
        (since != NONE).then(|| self.start + Duration::from_millis(since))
    }

    /// Records that the headers of a request are complete.
    pub(super) fn request_begins(self: &Arc<Self>, has_streams: bool) -> (UnderWay, Exchange) {
        self.header_since.store(NONE, Relaxed);
        if has_streams {
            self.has_own_bounds.store(true, Relaxed);
        }
        self.last.store(self.now(), Relaxed);
        self.under_way.fetch_add(1, Relaxed);
        self.exchanges.fetch_add(1, Relaxed);
        (UnderWay(Arc::clone(self)), Exchange(Arc::clone(self)))
    }

    /// Records that a request shows the token of a user.
    pub(in crate::http) fn serves_user(&self) {
        self.is_users.store(true, Relaxed);
    }

    /// Records that the connection becomes a WebSocket, which has its own limits.
    pub(super) fn is_upgrading(&self) {
        self.has_own_bounds.store(true, Relaxed);
        self.is_upgraded.store(true, Relaxed);
    }

    /// True once the connection has become a WebSocket.
    pub(super) fn is_upgraded(&self) -> bool {
        self.is_upgraded.load(Relaxed)
    }

    /// Returns the time of the last activity on a connection that may be closed for another: no user has shown a token
    /// on it, and no answer is being made. Answers are bounded in time and number by other limits.
    pub(super) fn gives_way_since(&self) -> Option<Instant> {
        let stays = self.is_users.load(Relaxed) || self.under_way.load(Relaxed) > 0;
        (!stays).then(|| self.start + Duration::from_millis(self.last.load(Relaxed)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(NONE - 1)
    }
}

/// A request whose answer is being made.
pub(super) struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

/// A request whose answer has not ended.
pub(super) struct Exchange(Arc<Activity>);

impl Exchange {
    /// Returns the body of the answer; the exchange ends with it.
    pub(super) fn over(self, body: Body) -> AnswerBody {
        AnswerBody { inner: body, exchange: self }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.last.store(self.0.now(), Relaxed);
        self.0.exchanges.fetch_sub(1, Relaxed);
    }
}

/// The body of an answer. Each piece read from it counts as activity of its connection.
pub(super) struct AnswerBody {
    inner: Body,
    exchange: Exchange,
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        if frame.is_ready() {
            let activity = &self.exchange.0;
            activity.last.store(activity.now(), Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
