//! The bytes of one connection, and the time that its client may leave them waiting.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::activity::Activity;

/// The stream of a connection. One whose client takes nothing of what is written for too long fails.
pub(super) struct ClientStream<T> {
    inner: T,
    activity: Arc<Activity>,
    send_timeout: Duration,
    stall: Option<Pin<Box<Sleep>>>,
}

impl<T> ClientStream<T> {
    /// Watches over a stream.
    pub(super) fn new(inner: T, activity: Arc<Activity>, send_timeout: Duration) -> Self {
        Self { inner, activity, send_timeout, stall: None }
    }

    /// Looks at the outcome of a write.
    fn watched<R>(&mut self, outcome: Poll<io::Result<R>>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        if outcome.is_ready() || self.activity.is_upgraded() {
            self.stall = None;
            return outcome;
        }
        let timeout = self.send_timeout;
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
        Pin::new(&mut self.inner).poll_read(cx, into)
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

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_dropped() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut stream = ClientStream::new(ours, Arc::default(), TIMEOUT);
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
        let mut stream = ClientStream::new(ours, activity.clone(), TIMEOUT);
        activity.is_upgrading();
        let write = stream.write_all(b"more than four");
        assert!(tokio::time::timeout(2 * TIMEOUT, write).await.is_err());
    }
}
