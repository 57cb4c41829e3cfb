//! Socket.IO for the dialects that have it: one server for the default path `/socket.io/` and the namespace `/`, with
//! long-polling, WebSocket, and the upgrade from one to the other.
//!
//! The crate `socketioxide` implements the protocol. The modules here add the rest:
//!
//! ```text
//! server      opening requests: origin, limits, slot; the WebSocket upgrade; the end when the gateway stops
//! transport   a message beyond the limit, a client that reads nothing, an aborted connection          frames
//! inbox       the events of a connection in their order
//! client      one connection as its dialect sees it
//! worker      executes the events of one connection, one after the other, and sends it the pushes
//! session     the dialect that a connection speaks
//! scripts     the client library, for pages that load it from the server
//! ```
//!
//! A dialect has a session per connection (`session::Session` names them all). It gets each [`Event`] in order, and
//! answers with [`Client::emit`] and [`Client::answer`].

mod client;
mod frames;
mod inbox;
mod scripts;
mod server;
mod session;
#[cfg(test)]
mod tests;
mod transport;
mod worker;

pub(crate) use client::Client;
pub(crate) use inbox::{End, Event};
pub(crate) use server::{Server, serve};
