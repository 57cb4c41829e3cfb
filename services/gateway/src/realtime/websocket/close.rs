//! The closing of a WebSocket: codes and reasons.

use tonic::Status;

use crate::realtime::connection::End;

/// The close codes of the contract.
pub(crate) mod code {
    pub(crate) const GONE: u16 = 1001;
    pub(crate) const TOO_LARGE: u16 = 1009;
    pub(crate) const RESTART: u16 = 1012;
    pub(crate) const NO_HELLO: u16 = 4001;
    pub(crate) const TOO_SLOW: u16 = 4008;
    pub(crate) const TOO_MANY_COMMANDS: u16 = 4029;
    pub(crate) const NO_FRAME: u16 = 4400;
    pub(crate) const NOT_SIGNED_IN: u16 = 4401;
}

/// The code, the reason and the last error with which a connection is closed.
#[derive(Debug)]
pub(crate) struct Close {
    pub(super) code: u16,
    pub(super) why: &'static str,
    /// Sent before it is closed.
    pub(super) error: Option<Status>,
}

impl Close {
    pub(crate) const fn new(code: u16, why: &'static str) -> Self {
        Self { code, why, error: None }
    }

    pub(crate) fn saying(code: u16, why: &'static str, error: impl Into<Status>) -> Self {
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

/// Returns the close for an error of the socket; `None` when the client is gone.
pub(super) fn close_of(error: &axum::Error) -> Option<Close> {
    use tokio_tungstenite::tungstenite::Error;
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>());
    match source {
        Some(Error::Capacity(_)) => Some(Close::new(code::TOO_LARGE, "frame_too_large")),
        Some(Error::Protocol(_) | Error::Utf8(_)) => Some(Close::new(code::NO_FRAME, "not_a_frame")),
        _ => None,
    }
}
