//! The layer between a client's WebSocket and the library: the limits that the library does not enforce.
//!
//! - A message beyond the limit is never read. The library reads a close with code 1009 in its place, as if the client
//!   had sent it; it answers with the same code, so the client learns the reason.
//! - A client that reads nothing of the written bytes for [`STALLED`] is dropped. The library would wait for ever.
//! - A connection can be aborted from outside.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use chassis::tasks::Tasks;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::frames::FrameFilter;
use super::server::Cut;

/// The longest time for which a client may read nothing of the written bytes.
const STALLED: Duration = Duration::from_secs(10);

/// The time for which further bytes of a client are read and discarded after its message was refused: closing before
/// that would cut off the refusal.
const LINGER: Duration = Duration::from_secs(1);

/// The number of bytes that are read at a time.
const READ: usize = 2 * 1024;

/// The bytes of a WebSocket on the server's side.
pub(super) struct Transport<T>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// `None` only while it is dropped.
    stream: Option<T>,
    filter: FrameFilter,
    stall: Option<Pin<Box<Sleep>>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Removes the connection from the list of those that can be aborted when it is dropped.
    _cut: Cut,
    tasks: Tasks,
}

impl<T> Transport<T>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Wraps an upgraded stream.
    pub(super) fn new(stream: T, max_message: usize, cut: Cut, tasks: Tasks) -> Self {
        Self {
            stream: Some(stream),
            filter: FrameFilter::new(max_message),
            stall: None,
            cut: Box::pin(cut.token.clone().cancelled_owned()),
            _cut: cut,
            tasks,
        }
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.cut.as_mut().poll(cx).map(|()| io::ErrorKind::ConnectionAborted.into())
    }

    /// Inspects the outcome of a write: a client that reads nothing for too long is dropped.
    fn watched<R>(&mut self, outcome: Poll<io::Result<R>>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        if outcome.is_ready() {
            self.stall = None;
            return outcome;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALLED)));
        stall.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl<T> AsyncRead for Transport<T>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Poll::Ready(error) = this.poll_cut(cx) {
            return Poll::Ready(Err(error));
        }
        loop {
            if this.filter.take(into) || this.filter.has_refused() {
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; READ];
            let mut buffer = ReadBuf::new(&mut bytes);
            let stream = this.stream.as_mut().ok_or_else(gone)?;
            ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.filter.put(buffer.filled());
        }
    }
}

impl<T> AsyncWrite for Transport<T>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let Poll::Ready(error) = this.poll_cut(cx) {
            return Poll::Ready(Err(error));
        }
        let stream = this.stream.as_mut().ok_or_else(gone)?;
        let outcome = Pin::new(stream).poll_write(cx, bytes);
        this.watched(outcome, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Poll::Ready(error) = this.poll_cut(cx) {
            return Poll::Ready(Err(error));
        }
        let stream = this.stream.as_mut().ok_or_else(gone)?;
        let outcome = Pin::new(stream).poll_flush(cx);
        this.watched(outcome, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.stream.as_mut().ok_or_else(gone)?;
        Pin::new(stream).poll_shutdown(cx)
    }
}

impl<T> Drop for Transport<T>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take()
            && self.filter.has_refused()
        {
            self.tasks.spawn("socketio-linger", |_| linger(stream));
        }
    }
}

/// Discards further bytes, for a moment.
async fn linger<T: AsyncRead + AsyncWrite + Unpin>(mut stream: T) {
    let rest = async {
        stream.shutdown().await?;
        let mut bytes = [0; READ];
        while stream.read(&mut bytes).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // It is over in any case: the client is gone, or its time is up.
    let _ = tokio::time::timeout(LINGER, rest).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn transport(stream: DuplexStream, cut: &CancellationToken) -> Transport<DuplexStream> {
        Transport::new(stream, 100, Cut::new(cut.clone()), Tasks::default())
    }

    #[tokio::test]
    async fn a_cut_connection_reads_and_writes_nothing_more() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let cut = CancellationToken::new();
        let mut transport = transport(ours, &cut);
        transport.write_all(b"x").await.expect("written");
        cut.cancel();
        assert!(transport.write_all(b"x").await.is_err());
        assert!(transport.read_u8().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_dropped() {
        let (ours, _theirs) = tokio::io::duplex(4);
        let mut transport = transport(ours, &CancellationToken::new());
        let error = transport.write_all(b"more than four").await.expect_err("dropped");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn what_is_within_the_bound_is_read_as_it_came() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut transport = transport(ours, &CancellationToken::new());
        let frame = [0x81, 0x82, 1, 2, 3, 4, 5, 6];
        theirs.write_all(&frame).await.expect("written");
        drop(theirs);
        let mut read = Vec::new();
        transport.read_to_end(&mut read).await.expect("read");
        assert_eq!(read, frame);
    }

    #[tokio::test]
    async fn a_message_beyond_the_bound_reads_as_a_close() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let mut transport = transport(ours, &CancellationToken::new());
        theirs.write_all(&[0x81, 0x80 | 126, 0, 101, 0, 0, 0, 0, 7, 7]).await.expect("written");
        let mut read = Vec::new();
        transport.read_to_end(&mut read).await.expect("read");
        assert_eq!(read, [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf1]);
    }
}
