//! How and why a WebSocket is closed.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::SinkExt;
use tonic::Status;

use crate::realtime::connection::End;
use crate::realtime::frame::{Format, Frame};

/// How long the client may take to take in a close, and to answer it.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The same for a client that is slow: what was written before has to leave first.
const SLOW_CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The close codes of the contract.
pub(super) mod code {
    pub(in super::super) const GONE: u16 = 1001;
    pub(in super::super) const TOO_LARGE: u16 = 1009;
    pub(in super::super) const RESTART: u16 = 1012;
    pub(in super::super) const NO_HELLO: u16 = 4001;
    pub(in super::super) const TOO_SLOW: u16 = 4008;
    pub(in super::super) const TOO_MANY_COMMANDS: u16 = 4029;
    pub(in super::super) const NO_FRAME: u16 = 4400;
    pub(in super::super) const NOT_SIGNED_IN: u16 = 4401;
}

/// Why and how a connection is closed.
#[derive(Debug)]
pub(super) struct Close {
    code: u16,
    why: &'static str,
    /// Said before it is closed.
    error: Option<Status>,
}

impl Close {
    pub(super) const fn new(code: u16, why: &'static str) -> Self {
        Self { code, why, error: None }
    }

    pub(super) fn saying(code: u16, why: &'static str, error: impl Into<Status>) -> Self {
        Self { code, why, error: Some(error.into()) }
    }
}

impl From<End> for Close {
    fn from(end: End) -> Self {
        match end {
            End::TooSlow => Self::new(code::TOO_SLOW, "slow_consumer"),
            End::SignedOut => Self::new(code::NOT_SIGNED_IN, "signed_out"),
            End::Restart { .. } => Self::new(code::RESTART, "restart"),
            End::Gone => Self::new(code::GONE, "gone"),
        }
    }
}

/// How to answer an error of the socket; nothing when there is nobody to answer.
pub(super) fn close_of(error: &axum::Error) -> Option<Close> {
    use tokio_tungstenite::tungstenite::Error;
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>());
    match source {
        Some(Error::Capacity(_)) => Some(Close::new(code::TOO_LARGE, "frame_too_large")),
        Some(Error::Protocol(_) | Error::Utf8(_)) => Some(Close::new(code::NO_FRAME, "not_a_frame")),
        _ => None,
    }
}

/// Says why, closes, and gives the client a moment to take it in.
pub(super) async fn close_handshake(socket: &mut WebSocket, format: Format, close: Close) {
    metrics::counter!("sockets_closed_total", "reason" => close.why).increment(1);
    let patience = if close.code == code::TOO_SLOW { SLOW_CLOSE_TIMEOUT } else { CLOSE_TIMEOUT };
    let closing = async {
        if let Some(status) = close.error {
            let _ = socket.feed(Frame::error(String::new(), &status).message(format)).await;
        }
        let frame = CloseFrame { code: close.code, reason: close.why.into() };
        socket.send(Message::Close(Some(frame))).await
    };
    // One that does not listen is not waited for.
    if matches!(tokio::time::timeout(patience, closing).await, Ok(Ok(()))) {
        // Dropping a socket that has unread data would cut off what we have just said.
        let answer = async { while let Some(Ok(_)) = socket.recv().await {} };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, answer).await;
    }
}
