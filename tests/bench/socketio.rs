//! A client of Socket.IO that speaks allo and costs next to nothing: by WebSocket, by long-polling, and from the one to
//! the other, as the library `socket.io-client` does by default.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::wire::{Http, Kind, Protocol, Socket, find};

/// A ping of the server, and the answer to it.
pub(crate) const PING: &[u8] = b"2";
pub(crate) const PONG: &[u8] = b"3";

/// What stands between the packets of one answer to a poll.
const BETWEEN: char = '\x1e';

/// What a packet from the server is.
pub(crate) fn kind(packet: &[u8]) -> Kind {
    if packet.starts_with(b"42[\"message\",") {
        Kind::Event
    } else if packet.starts_with(b"43") {
        let arguments = find(packet, b"[").map_or(packet, |at| &packet[at..]);
        if arguments.starts_with(b"[{\"error\":") { Kind::Failure } else { Kind::Answer }
    } else if packet.starts_with(b"40") {
        // The server has let the client in.
        Kind::Answer
    } else if packet.starts_with(b"41") || packet.starts_with(b"44") {
        Kind::Failure
    } else {
        Kind::Other
    }
}

/// An event that sends a text and waits for its answer.
pub(crate) fn send(number: u64, conversation: &str, text: &str) -> Vec<u8> {
    format!("42{number}[\"sendMessage\",{{\"conversationID\":\"{conversation}\",\"message\":\"{text}\"}}]")
        .into_bytes()
}

fn connect_packet(token: &str) -> String {
    format!("40{}", json!({ "token": token }))
}

/// Connects by WebSocket, with the token in the handshake.
pub(crate) async fn sign_in(address: SocketAddr, token: &str) -> anyhow::Result<Socket> {
    let path = "/socket.io/?EIO=4&transport=websocket";
    let mut socket = Socket::open(address, path, Protocol::SocketIo).await?;
    socket.command(connect_packet(token).as_bytes()).await.context("connect")?;
    Ok(socket)
}

/// Follows conversations, each from now on.
pub(crate) async fn follow(socket: &mut Socket, conversations: &[String]) -> anyhow::Result<()> {
    for (number, conversation) in conversations.iter().enumerate() {
        let join = format!("42{number}{}", json!(["joinConversation", conversation]));
        socket.command(join.as_bytes()).await.context("joinConversation")?;
    }
    Ok(())
}

/// A connection by long-polling.
pub(crate) struct Poll {
    http: Http,
    address: SocketAddr,
    sid: String,
}

impl Poll {
    /// Connects, with the token in the handshake.
    pub(crate) async fn sign_in(address: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let mut poll = Self { http: Http::connect(address, "").await?, address, sid: String::new() };
        let opened = poll.get().await?;
        let opened: Value = serde_json::from_str(opened.strip_prefix('0').context("no open packet")?)?;
        poll.sid = opened["sid"].as_str().context("an open packet without an id")?.to_owned();
        poll.post(&connect_packet(token)).await?;
        // The server pings at once. What has been answered, nothing of it comes again while the connection is idle.
        let (mut connected, mut pinged) = (false, false);
        while !(connected && pinged) {
            for packet in poll.get().await?.split(BETWEEN) {
                match kind(packet.as_bytes()) {
                    Kind::Answer => connected = true,
                    Kind::Failure => anyhow::bail!("refused: {packet}"),
                    Kind::Event | Kind::Other => pinged |= packet.as_bytes() == PING,
                }
            }
        }
        poll.post("3").await?;
        Ok(poll)
    }

    /// Asks for what comes, and does not wait until it comes.
    pub(crate) async fn wait(mut self) -> anyhow::Result<Self> {
        let request = self.request("GET", "");
        self.http.begin(&request).await?;
        Ok(self)
    }

    /// Goes on as a WebSocket. The connection that polled is closed.
    pub(crate) async fn upgrade(self) -> anyhow::Result<Socket> {
        let path = format!("/socket.io/?EIO=4&transport=websocket&sid={}", self.sid);
        let mut socket = Socket::open(self.address, &path, Protocol::SocketIo).await?;
        socket.outgoing.put(b"2probe");
        socket.outgoing.flush().await?;
        loop {
            if let Some((_, packet)) = socket.incoming.frame()? {
                ensure!(packet == b"3probe", "no answer to the probe: {}", String::from_utf8_lossy(packet));
                break;
            }
            socket.incoming.fill().await?;
        }
        socket.outgoing.put(b"5");
        socket.outgoing.flush().await?;
        Ok(socket)
    }

    async fn get(&mut self) -> anyhow::Result<String> {
        let request = self.request("GET", "");
        Ok(String::from_utf8(self.http.exchange(&request).await?)?)
    }

    async fn post(&mut self, packet: &str) -> anyhow::Result<()> {
        let request = self.request("POST", packet);
        self.http.exchange(&request).await?;
        Ok(())
    }

    fn request(&self, method: &str, body: &str) -> String {
        let (address, length) = (self.address, body.len());
        let sid = if self.sid.is_empty() { String::new() } else { format!("&sid={}", self.sid) };
        let path = format!("/socket.io/?EIO=4&transport=polling{sid}");
        let length = if method == "POST" { format!("content-length: {length}\r\n") } else { String::new() };
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n{length}\r\n{body}")
    }
}
