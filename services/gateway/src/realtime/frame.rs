//! One frame for any number of connections: encoded at most once per wire format.

use std::sync::{Arc, OnceLock};

use axum::extract::ws::{self, Utf8Bytes};
use bytes::Bytes;
use chassis::fault::Fault;
use prost::Message;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::gateway::v1::{CallReply, ServerFrame};
use tonic::Status;

use super::frame_json as json;
use crate::http::error;

/// The encoding of the frames of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Proto JSON in text frames.
    Text,
    /// Protobuf in binary frames.
    Binary,
    /// No encoding: a dialect translates the frames.
    Typed,
}

/// One frame for clients.
#[derive(Debug)]
pub(crate) struct Frame {
    message: ServerFrame,
    text: OnceLock<Utf8Bytes>,
    binary: OnceLock<Bytes>,
}

impl Frame {
    /// Creates a frame that answers no command.
    pub(crate) fn push(body: Body) -> Arc<Self> {
        Self::new(String::new(), body)
    }

    /// Returns the answer to the command with this id.
    pub(crate) fn reply(id: String, body: Body) -> Arc<Self> {
        Self::new(id, body)
    }

    /// Returns the answer to a command that has failed; without an id, the reason for which the connection is about to
    /// be closed.
    pub(crate) fn error(id: String, status: &Status) -> Arc<Self> {
        Self::new(id, Body::Error(error::body(status)))
    }

    /// Returns the answer to a command that the gateway refuses.
    pub(crate) fn fault(id: String, fault: Fault) -> Arc<Self> {
        Self::error(id, &fault.into())
    }

    fn new(id: String, body: Body) -> Arc<Self> {
        let id = (!id.is_empty()).then_some(id);
        let message = ServerFrame { id, frame: Some(body) };
        Arc::new(Self { message, text: OnceLock::new(), binary: OnceLock::new() })
    }

    /// Returns the content of the frame.
    pub(crate) fn body(&self) -> Option<&Body> {
        self.message.frame.as_ref()
    }

    /// As proto JSON.
    pub(crate) fn text(&self) -> &Utf8Bytes {
        self.text.get_or_init(|| Utf8Bytes::from(json::write(&self.message)))
    }

    /// As protobuf.
    pub(crate) fn binary(&self) -> &Bytes {
        self.binary.get_or_init(|| Bytes::from(self.message.encode_to_vec()))
    }

    /// Returns the number of bytes that it takes in this format.
    pub(crate) fn len(&self, format: Format) -> usize {
        match format {
            Format::Text => self.text().len(),
            Format::Binary => self.binary().len(),
            Format::Typed => self.message.encoded_len(),
        }
    }

    /// Returns the frame for a WebSocket; `None` when a dialect translates it. The bytes are shared, not copied.
    pub(crate) fn message(&self, format: Format) -> Option<ws::Message> {
        match format {
            Format::Text => Some(ws::Message::Text(self.text().clone())),
            Format::Binary => Some(ws::Message::Binary(self.binary().clone())),
            Format::Typed => None,
        }
    }

    /// Returns the type of the event on an SSE stream: the name of the arm.
    pub(crate) fn kind(&self) -> &'static str {
        match self.body() {
            Some(Body::Ready(_)) => "ready",
            Some(Body::Subscribed(_)) => "subscribed",
            Some(Body::Unsubscribed(_)) => "unsubscribed",
            Some(Body::Sent(_)) => "sent",
            Some(Body::WatermarkAdvanced(_)) => "watermark_advanced",
            Some(Body::SignalSent(_)) => "signal_sent",
            Some(Body::CallReply(CallReply { .. })) => "call_reply",
            Some(Body::Pong(_)) => "pong",
            Some(Body::Error(_)) => "error",
            Some(Body::Event(_)) => "event",
            Some(Body::UserEvent(_)) => "user_event",
            Some(Body::Receipt(_)) => "receipt",
            Some(Body::Signal(_)) => "signal",
            Some(Body::CaughtUp(_)) => "caught_up",
            Some(Body::Closing(_)) => "closing",
            Some(Body::CallChanged(_)) => "call_changed",
            Some(Body::CallSignal(_)) => "call_signal",
            None => "message",
        }
    }
}
