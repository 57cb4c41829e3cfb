//! Bodies of requests that may be sent to a second address.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// A body that comes back when it is dropped before a byte of it was read.
pub(super) struct Lent {
    body: Option<Body>,
    is_read: bool,
    lender: Lender,
}

/// The place to which a [`Lent`] body comes back.
#[derive(Clone, Default)]
pub(super) struct Lender(Arc<Mutex<Option<Body>>>);

impl Lender {
    /// Lends a body.
    pub(super) fn lend(&self, body: Body) -> Lent {
        Lent { body: Some(body), is_read: false, lender: self.clone() }
    }

    /// The body, when it came back.
    pub(super) fn take(&self) -> Option<Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.is_read = true;
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.is_read {
            *self.lender.0.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn body() -> Body {
        Body::new(http_body_util::Full::new(Bytes::from_static(b"hello")).map_err(|error| match error {}))
    }

    #[tokio::test]
    async fn a_body_comes_back_until_it_is_read() {
        let lender = Lender::default();
        drop(lender.lend(body()));
        let again = lender.take().expect("the body");
        let read = lender.lend(again).collect().await.expect("its bytes").to_bytes();
        assert_eq!(read, "hello");
        assert!(lender.take().is_none());
    }
}
