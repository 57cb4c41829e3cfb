//! One connection as its dialect sees it.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;
use socketioxide::extract::AckSender;
use socketioxide::handler::{FromMessageParts, Value as Packet};
use socketioxide::socket::Socket;
use socketioxide::{SendError, SocketError, TransportType};
use tokio_util::sync::CancellationToken;

use super::inbox::{End, Event, Inbox};
use crate::realtime::registry::ConnectionSlot;

/// The state that lasts as long as a connection of the transport, whatever it carries. It is an extension of the
/// request that opened the connection, which the library keeps as long.
#[derive(Clone)]
pub(super) struct Link(Arc<LinkInner>);

struct LinkInner {
    /// Released when the connection is dropped.
    slot: ConnectionSlot,
    cut: CancellationToken,
}

impl Link {
    pub(super) fn new(slot: ConnectionSlot) -> Self {
        Self(Arc::new(LinkInner { slot, cut: CancellationToken::new() }))
    }

    /// Returns the slot of the connection among all connections.
    pub(super) fn slot(&self) -> &ConnectionSlot {
        &self.0.slot
    }

    /// Set when the WebSocket of this connection is to be dropped.
    pub(super) fn cut(&self) -> &CancellationToken {
        &self.0.cut
    }
}

/// One connection as its dialect sees it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    socket: Arc<Socket>,
    inbox: Arc<Inbox>,
    link: Link,
    address: IpAddr,
}

impl Client {
    pub(super) fn new(socket: Arc<Socket>, inbox: Arc<Inbox>, link: Link) -> Self {
        let address = link.slot().address();
        Self { socket, inbox, link, address }
    }

    /// Returns the id by which the client knows its connection.
    pub(crate) fn id(&self) -> String {
        self.socket.id.to_string()
    }

    /// Returns the address of the client.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns the slot of the connection among all connections.
    pub(crate) fn slot(&self) -> &ConnectionSlot {
        self.link.slot()
    }

    /// Sends an event. The connection ends if too many bytes wait for the client.
    pub(crate) fn emit(&self, event: &str, value: &Value) {
        self.sent(self.socket.emit(event, value));
    }

    /// Answers an event, if the client waits for an answer.
    pub(crate) fn answer(&self, event: &Event, value: &Value) {
        let (Some(ack), mut packet) = (event.ack, Packet::Str("".into(), None)) else { return };
        let Ok(ack) = AckSender::from_message_parts(&self.socket, &mut packet, &Some(ack));
        self.sent(ack.send(value));
    }

    /// Ends the connection.
    pub(crate) fn end(&self, end: End) {
        self.inbox.end(end);
    }

    fn sent(&self, outcome: Result<(), SendError>) {
        match outcome {
            Ok(()) => metrics::counter!("socket_frames_total", "direction" => "out").increment(1),
            Err(SendError::Socket(SocketError::InternalChannelFull)) => self.inbox.end(End::TooSlow),
            Err(SendError::Socket(SocketError::Closed)) => self.inbox.end(End::Gone),
            Err(SendError::Serialize(error)) => tracing::error!(%error, "an event cannot be written"),
        }
    }

    pub(super) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Tells the client that its connection is over. Does nothing if the client is gone or its queue is full.
    pub(super) fn disconnect(&self) {
        if let Err(error) = Arc::clone(&self.socket).disconnect() {
            tracing::debug!(%error, "a client cannot be told that its connection is over");
        }
    }

    /// True for a WebSocket, false for a polling connection.
    pub(super) fn has_websocket(&self) -> bool {
        self.socket.transport_type() == TransportType::Websocket
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }
}
