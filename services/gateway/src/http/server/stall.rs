//! Answers over HTTP/2 that their client does not read.
//!
//! The library asks the body of an answer for the next piece, waits until the client's windows have room for its first
//! byte, hands it over and asks for the next. A client that gives no room would keep the answer for as long as its
//! connection lasts. So a piece is small ([`Pieces`]), the time since the last one is kept beside the task of its
//! stream, and [`StreamExecutor`], which runs these tasks, drops one whose piece has not moved in time. That resets the
//! stream and no other of its connection. A stream whose body has nothing to send, such as one of events, waits for
//! ever.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, Sleep};

/// The largest piece: the size of a frame of HTTP/2.
const PIECE: usize = 16 * 1024;

/// Streams reset because their client did not read the answer.
const STALLED: &str = "http_streams_stalled_total";

tokio::task_local! {
    /// The time since which the last piece has waited for room; `None` while the body has nothing to send.
    static WAITING_SINCE: Cell<Option<Instant>>;
}

/// Runs the streams of connections, each in a task, and drops those whose client reads nothing for too long.
#[derive(Clone, Debug)]
pub(super) struct StreamExecutor {
    patience: Duration,
}

impl StreamExecutor {
    /// Drops a stream when a piece of its answer has waited for `patience`.
    pub(super) fn new(patience: Duration) -> Self {
        ::metrics::describe_counter!(
            STALLED,
            "Streams of HTTP/2 reset because their client did not take the answer."
        );
        Self { patience }
    }
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
{
    fn execute(&self, stream: F) {
        TokioExecutor::new()
            .execute(WAITING_SINCE.scope(Cell::new(None), until_stalled(stream, self.patience)));
    }
}

/// Runs a stream until it ends or has waited for too long.
async fn until_stalled<F: Future>(stream: F, patience: Duration) {
    let mut stream = pin!(stream);
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(move |cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(since) = WAITING_SINCE.with(Cell::get) else {
            timer = None;
            return Poll::Pending;
        };
        let deadline = since + patience;
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(cx));
        ::metrics::counter!(STALLED).increment(1);
        tracing::debug!("a client does not take its answer: the stream is reset");
        Poll::Ready(())
    })
    .await;
}

/// The body of an answer in pieces. The last byte of each chunk of the inner body is sent alone: the library counts a
/// piece as sent when there is room for its first byte, and room for the last byte is room for all before it.
pub(super) struct Pieces {
    inner: Body,
    rest: Bytes,
}

impl Pieces {
    /// Splits a body into pieces.
    pub(super) fn new(inner: Body) -> Self {
        Self { inner, rest: Bytes::new() }
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        wait_since(None);
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
            if self.rest.is_empty() && self.inner.is_end_stream() {
                return Poll::Ready(None);
            }
        }
        let length = match self.rest.len() {
            1 => 1,
            length => PIECE.min(length - 1),
        };
        wait_since(Some(Instant::now()));
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, here) = (self.inner.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + here);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + here);
        }
        hint
    }
}

fn wait_since(since: Option<Instant>) {
    // A body that is not run by the executor has no timer.
    let _ = WAITING_SINCE.try_with(|waiting| waiting.set(since));
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use hyper::body::Body as _;

    use super::*;

    async fn pieces_of(body: Body) -> Vec<usize> {
        let mut pieces = Pieces::new(body);
        let mut lengths = Vec::new();
        while let Some(frame) = pieces.frame().await {
            lengths.push(frame.expect("a frame").into_data().expect("data").len());
        }
        lengths
    }

    #[tokio::test]
    async fn the_last_byte_goes_alone() {
        assert_eq!(pieces_of(Body::empty()).await, [0_usize; 0]);
        assert_eq!(pieces_of(Body::from("a")).await, [1]);
        assert_eq!(pieces_of(Body::from("abc")).await, [2, 1]);
        assert_eq!(pieces_of(Body::from(vec![7; 2 * PIECE + 1])).await, [PIECE, PIECE, 1]);
        assert_eq!(pieces_of(Body::from(vec![7; 2 * PIECE])).await, [PIECE, PIECE - 1, 1]);
    }

    #[tokio::test]
    async fn a_piece_is_a_part_of_the_whole_and_no_copy() {
        let whole = Bytes::from(vec![7; 3 * PIECE]);
        let mut pieces = Pieces::new(Body::from(whole.clone()));
        assert_eq!(pieces.size_hint().exact(), Some(whole.len() as u64));
        let piece = pieces.frame().await.expect("a frame").expect("a frame").into_data().expect("data");
        assert_eq!(piece.as_ptr(), whole.as_ptr());
        assert_eq!(pieces.size_hint().exact(), Some(2 * PIECE as u64));
    }
}
