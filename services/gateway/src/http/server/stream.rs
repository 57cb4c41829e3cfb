//! The byte stream of one connection, and the times for which its client may stall it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::activity::Activity;

/// The stream of a connection. It fails when the client reads nothing of the written bytes for too long, or does not
/// complete a header in time.
pub(super) struct ClientStream<T> {
    inner: T,
    activity: Arc<Activity>,
    timeouts: Timeouts,
    stall: Option<Pin<Box<Sleep>>>,
    header: Option<Pin<Box<Sleep>>>,
}

/// The longest times for which a client may stall.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// Until a header that began is complete.
    pub(super) header: Duration,
    /// Until some of the bytes written for it are read.
    pub(super) send: Duration,
}

impl<T> ClientStream<T> {
    /// Wraps a stream.
    pub(super) fn new(inner: T, activity: Arc<Activity>, timeouts: Timeouts) -> Self {
        Self { inner, activity, timeouts, stall: None, header: None }
    }

    /// Ends when a header has taken too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(since) = self.activity.header_since() else {
            self.header = None;
            return Poll::Pending;
        };
        let deadline = since + self.timeouts.header;
        let timer = self.header.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }

    /// Inspects the outcome of a write.
    fn watched<R>(&mut self, outcome: Poll<io::Result<R>>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        if outcome.is_ready() || self.activity.is_upgraded() {
            self.stall = None;
            return outcome;
        }
        let timeout = self.timeouts.send;
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        stall.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ClientStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, into) {
            Poll::Pending => self.poll_late(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
            outcome => {
                if into.filled().len() > before {
                    self.activity.bytes_come();
                }
                outcome
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ClientStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.watched(outcome, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.watched(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.watched(outcome, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);
    const TIMEOUTS: Timeouts = Timeouts { header: Duration::from_secs(5), send: TIMEOUT };

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_dropped() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut stream = ClientStream::new(ours, Arc::default(), TIMEOUTS);
        let begin = tokio::time::Instant::now();
        let (written, ()) = tokio::join!(stream.write_all(b"more than eight"), async {
            tokio::time::sleep(TIMEOUT / 2).await;
            theirs.read_exact(&mut [0; 4]).await.expect("read");
        });
        assert_eq!(written.expect_err("dropped").kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed().as_secs(), (TIMEOUT + TIMEOUT / 2).as_secs(), "since bytes moved");
    }

    #[tokio::test(start_paused = true)]
    async fn a_web_socket_has_bounds_of_its_own() {
        let (ours, _theirs) = tokio::io::duplex(4);
        let activity = Arc::new(Activity::default());
        let mut stream = ClientStream::new(ours, activity.clone(), TIMEOUTS);
        activity.is_upgrading();
        let write = stream.write_all(b"more than four");
        assert!(tokio::time::timeout(2 * TIMEOUT, write).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_began_has_so_long_to_be_complete() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let activity = Arc::new(Activity::default());
        let mut stream = ClientStream::new(ours, activity.clone(), TIMEOUTS);
        let begin = tokio::time::Instant::now();
        assert_eq!(stream.read_u8().await.expect_err("late").kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed().as_secs(), 5, "the first begins with the connection");

        drop(activity.request_begins(false));
        let rest = tokio::time::timeout(TIMEOUT, stream.read_u8()).await;
        assert!(rest.is_err(), "between two requests there is no hurry");
        let begin = tokio::time::Instant::now();
        let trickle = async {
            while theirs.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let read = async { while stream.read_u8().await.is_ok() {} };
        tokio::select! {
            () = trickle => panic!("the client goes on"),
            () = read => {}
        }
        assert_eq!(begin.elapsed().as_secs(), 5, "each byte does not begin it again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_and_the_frames_of_streams_are_no_header() {
        for has_streams in [false, true] {
            let (ours, mut theirs) = tokio::io::duplex(64);
            let activity = Arc::new(Activity::default());
            let mut stream = ClientStream::new(ours, activity.clone(), TIMEOUTS);
            let exchange = activity.request_begins(has_streams);
            if has_streams {
                drop(exchange);
                theirs.write_all(b"x").await.expect("written");
                stream.read_u8().await.expect("read");
                assert!(tokio::time::timeout(TIMEOUT, stream.read_u8()).await.is_err());
            } else {
                theirs.write_all(b"x").await.expect("written");
                stream.read_u8().await.expect("read");
                assert!(tokio::time::timeout(TIMEOUT, stream.read_u8()).await.is_err());
                drop(exchange);
            }
        }
    }
}
