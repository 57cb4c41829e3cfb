//! The body of a stream that ends with its session.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use tonic::{Code, Status};

use super::streams::{Place, State};
use crate::fault::Fault;

type Next = Option<Result<Frame<Bytes>, axum::Error>>;

/// A body whose frames leave while the session goes on. One that was made when the session was said to have ended waits
/// until auth has been asked.
pub(super) struct Guarded {
    place: Place,
    /// Absent once the session has ended.
    body: Option<Body>,
    held: Option<Next>,
}

impl Guarded {
    pub(super) fn new(place: Place, body: Body) -> Self {
        Self { place, body: Some(body), held: None }
    }

    /// The last frame: the session has ended.
    fn end(&mut self) -> Poll<Next> {
        self.held = None;
        match self.body.take() {
            Some(_) => Poll::Ready(Some(Ok(Frame::trailers(ended())))),
            None => Poll::Ready(None),
        }
    }
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Next> {
        let this = &mut *self;
        this.place.stream.wakes(cx.waker());
        let frame = match (this.place.stream.state(), this.held.take(), &mut this.body) {
            (State::Ended, _, _) | (_, _, None) => return this.end(),
            (State::Doubted, held, _) => {
                this.held = held;
                return Poll::Pending;
            }
            (State::Live, Some(frame), _) => frame,
            (State::Live, None, Some(body)) => ready!(Pin::new(body).poll_frame(cx)),
        };
        // Looked at again after the frame was made: the session may have ended before what it says.
        match this.place.stream.state() {
            State::Live => Poll::Ready(frame),
            State::Doubted => {
                this.held = Some(frame);
                Poll::Pending
            }
            State::Ended => this.end(),
        }
    }
}

fn ended() -> HeaderMap {
    let fault = Fault::new(Code::Unauthenticated, "ERROR_REASON_UNAUTHENTICATED")
        .message("the session has ended: sign in again");
    let mut trailers = HeaderMap::new();
    // It fails for metadata that is no header, of which there is none.
    let _ = Status::from(fault).add_header(&mut trailers);
    trailers
}
