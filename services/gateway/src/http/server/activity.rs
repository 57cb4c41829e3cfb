//! What a connection does, as its stream and its requests see it.

use std::sync::atomic::{AtomicBool, Ordering};

/// What one connection does.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// A request has begun.
    has_asked: AtomicBool,
    /// The connection has become a WebSocket, which has bounds of its own.
    is_upgraded: AtomicBool,
}

impl Activity {
    /// A request has begun: its headers are complete.
    pub(super) fn request_begins(&self) {
        self.has_asked.store(true, Ordering::Relaxed);
    }

    /// Whether a request has begun.
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    /// The connection becomes a WebSocket.
    pub(super) fn is_upgrading(&self) {
        self.is_upgraded.store(true, Ordering::Relaxed);
    }

    /// Whether the connection has become a WebSocket.
    pub(super) fn is_upgraded(&self) -> bool {
        self.is_upgraded.load(Ordering::Relaxed)
    }
}
