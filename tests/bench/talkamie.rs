//! A client of the WebSocket of Talkamie.

use std::net::SocketAddr;

use anyhow::ensure;
use serde_json::{Value, json};

use crate::wire::{Format, Protocol, Socket};

/// Connects and signs in: all conversations of the user are followed from then on.
pub(crate) async fn sign_in(address: SocketAddr, token: &str) -> anyhow::Result<Socket> {
    // The frames are JSON text as those of the canonical socket are, with other fields.
    let mut socket = Socket::open(address, "/talkamie/ws", Protocol::Canonical(Format::Json)).await?;
    socket.outgoing.put(json!({ "action": "authenticate", "token": token }).to_string().as_bytes());
    socket.outgoing.flush().await?;
    loop {
        if let Some((_, frame)) = socket.incoming.frame()? {
            let reply: Value = serde_json::from_slice(frame)?;
            ensure!(reply["action"] == "authenticate" && reply["success"] == true, "not signed in: {reply}");
            return Ok(socket);
        }
        socket.incoming.fill().await?;
    }
}
