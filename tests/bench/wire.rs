//! A WebSocket client and an HTTP client that cost next to nothing: the load generator shares the machine with what it
//! measures. Frames are counted and scanned for what is needed, not parsed.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use prost::Message;
use proto::gateway::v1::client_frame::Command;
use proto::gateway::v1::{ClientFrame, Hello, Subscribe};
use proto::messaging::v1::{Content, SendMessageRequest, content, send_message_request};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::socketio;

/// The protocol of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The canonical frames.
    Canonical(Format),
    /// Socket.IO, with the events of allo.
    SocketIo,
}

impl Protocol {
    /// What this frame is, from its first bytes.
    fn kind(self, payload: &[u8]) -> Kind {
        match self {
            Self::Canonical(format) => format.kind(payload),
            Self::SocketIo => socketio::kind(payload),
        }
    }

    /// A command that sends a text.
    pub(crate) fn send(self, number: u64, conversation: &str, text: &str) -> Vec<u8> {
        match self {
            Self::Canonical(format) => format.send(number, conversation, text),
            Self::SocketIo => socketio::send(number, conversation, text),
        }
    }

    fn opcode(self) -> u8 {
        if self == Self::Canonical(Format::Binary) { BINARY } else { TEXT }
    }

    /// Whether a text frame is a ping, as far as the protocol has pings of its own.
    fn is_ping(self, payload: &[u8]) -> bool {
        self == Self::SocketIo && payload == socketio::PING
    }
}

/// How frames are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Proto JSON in text frames.
    Json,
    /// Protobuf in binary frames.
    Binary,
}

/// What a frame from the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The answer to a command, which went well.
    Answer,
    /// The answer to a command that failed, or a word before the connection is closed.
    Failure,
    /// An event of a conversation.
    Event,
    /// Another push.
    Other,
}

/// How far into a JSON frame its kind is to be found: after the id.
const FRONT: usize = 96;

impl Format {
    /// What this frame is, from its first bytes.
    pub(crate) fn kind(self, payload: &[u8]) -> Kind {
        match self {
            Self::Json => {
                let front = &payload[..payload.len().min(FRONT)];
                let is_answer = front.starts_with(b"{\"id\":\"") && front.get(7) != Some(&b'"');
                if find(front, b"\"error\":").is_some() {
                    Kind::Failure
                } else if is_answer {
                    Kind::Answer
                } else if find(front, b"\"event\":").is_some() {
                    Kind::Event
                } else {
                    Kind::Other
                }
            }
            Self::Binary => match payload {
                // Field 1 is the id; its length comes next, and then the tag of what is said.
                [0x0a, length, rest @ ..] => match rest.get(usize::from(*length)) {
                    Some(0x52) => Kind::Failure,
                    _ => Kind::Answer,
                },
                [0x52, ..] => Kind::Failure,
                // Field 20.
                [0xa2, 0x01, ..] => Kind::Event,
                _ => Kind::Other,
            },
        }
    }

    fn write(self, frame: ClientFrame, as_json: impl FnOnce() -> serde_json::Value) -> Vec<u8> {
        match self {
            Self::Json => as_json().to_string().into_bytes(),
            Self::Binary => frame.encode_to_vec(),
        }
    }

    fn hello(self, token: &str) -> Vec<u8> {
        let hello = Command::Hello(Hello { session_token: token.to_owned() });
        let frame = ClientFrame { id: "hello".to_owned(), command: Some(hello) };
        self.write(frame, || json!({ "id": "hello", "hello": { "sessionToken": token } }))
    }

    fn subscribe_to_all(self) -> Vec<u8> {
        let subscribe = Command::Subscribe(Subscribe { all: true, ..Subscribe::default() });
        let frame = ClientFrame { id: "all".to_owned(), command: Some(subscribe) };
        self.write(frame, || json!({ "id": "all", "subscribe": { "all": true } }))
    }

    /// A command that sends a text.
    pub(crate) fn send(self, number: u64, conversation: &str, text: &str) -> Vec<u8> {
        let id = number.to_string();
        match self {
            Self::Json => format!(
                "{{\"id\":\"{id}\",\"sendMessage\":{{\"conversationId\":\"{conversation}\",\
                 \"content\":{{\"text\":\"{text}\"}},\"clientMessageId\":\"{id}\"}}}}"
            )
            .into_bytes(),
            Self::Binary => {
                let request = SendMessageRequest {
                    target: Some(send_message_request::Target::ConversationId(conversation.to_owned())),
                    content: Some(Content {
                        kind: Some(content::Kind::Text(text.to_owned())),
                        ..Default::default()
                    }),
                    client_message_id: id.clone(),
                    ..SendMessageRequest::default()
                };
                ClientFrame { id, command: Some(Command::SendMessage(request)) }.encode_to_vec()
            }
        }
    }
}

/// Where `part` begins in `whole`.
pub(crate) fn find(whole: &[u8], part: &[u8]) -> Option<usize> {
    let first = *part.first()?;
    let mut from = 0;
    while let Some(at) = whole[from..].iter().position(|byte| *byte == first) {
        if whole[from + at..].starts_with(part) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// Bytes from a peer, and how many of them have been taken.
pub(crate) struct Incoming {
    half: OwnedReadHalf,
    buffer: Vec<u8>,
    taken: usize,
}

impl Incoming {
    /// Over the reading half of a connection.
    pub(crate) fn new(half: OwnedReadHalf) -> Self {
        Self { half, buffer: Vec::new(), taken: 0 }
    }

    /// Waits for more bytes.
    pub(crate) async fn fill(&mut self) -> anyhow::Result<()> {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        if self.buffer.is_empty() && self.buffer.capacity() < 16 * 1024 {
            // An idle connection holds no buffer, on this side either.
            self.half.readable().await?;
        }
        self.buffer.reserve(16 * 1024);
        ensure!(self.half.read_buf(&mut self.buffer).await? > 0, "the connection was closed");
        Ok(())
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    /// The next whole frame: its opcode and its payload. `None` when more bytes are needed.
    pub(crate) fn frame(&mut self) -> anyhow::Result<Option<(u8, &[u8])>> {
        let rest = self.rest();
        let (Some(first), Some(second)) = (rest.first().copied(), rest.get(1).copied()) else {
            return Ok(None);
        };
        let (header, length) = match second & 0x7f {
            126 => match rest.get(2..4) {
                Some(bytes) => (4, usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))),
                None => return Ok(None),
            },
            127 => match rest.get(2..10).and_then(|bytes| bytes.try_into().ok()) {
                Some(bytes) => (10, usize::try_from(u64::from_be_bytes(bytes))?),
                None => return Ok(None),
            },
            length => (2, usize::from(length)),
        };
        // A client masks, here with zeros: the payload is what it is.
        let header = if second & 0x80 == 0 { header } else { header + 4 };
        let from = self.taken + header;
        if self.buffer.len() < from + length {
            return Ok(None);
        }
        self.taken = from + length;
        Ok(Some((first & 0x0f, &self.buffer[from..from + length])))
    }

    /// Everything up to an empty line: the head of an HTTP message.
    pub(crate) async fn head(&mut self) -> anyhow::Result<String> {
        loop {
            if let Some(end) = find(self.rest(), b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.rest()[..end]).into_owned();
                self.taken += end + 4;
                return Ok(head);
            }
            self.fill().await?;
        }
    }

    /// The next so many bytes.
    async fn bytes(&mut self, count: usize) -> anyhow::Result<Vec<u8>> {
        while self.rest().len() < count {
            self.fill().await?;
        }
        let bytes = self.rest()[..count].to_vec();
        self.taken += count;
        Ok(bytes)
    }

    /// Passes over so many bytes.
    async fn skip(&mut self, count: usize) -> anyhow::Result<()> {
        while self.rest().len() < count {
            self.fill().await?;
        }
        self.taken += count;
        Ok(())
    }
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A frame on the wire. The mask of a client is zeros: the server takes it off like any other.
pub(crate) fn framed(opcode: u8, payload: &[u8], masked: bool, into: &mut Vec<u8>) {
    into.push(0x80 | opcode);
    let mask = if masked { 0x80 } else { 0 };
    match payload.len() {
        length if length < 126 => into.push(mask | length as u8),
        length if length < 65_536 => {
            into.push(mask | 126);
            into.extend((length as u16).to_be_bytes());
        }
        length => {
            into.push(mask | 127);
            into.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        into.extend([0; 4]);
    }
    into.extend_from_slice(payload);
}

/// The writing half of a socket.
pub(crate) struct Outgoing {
    half: OwnedWriteHalf,
    protocol: Protocol,
    buffer: Vec<u8>,
}

impl Outgoing {
    /// Puts a command into the next write.
    pub(crate) fn put(&mut self, payload: &[u8]) {
        framed(self.protocol.opcode(), payload, true, &mut self.buffer);
    }

    /// Writes what was put.
    pub(crate) async fn flush(&mut self) -> anyhow::Result<()> {
        if !self.buffer.is_empty() {
            self.half.write_all(&self.buffer).await?;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// A signed-in socket.
pub(crate) struct Socket {
    /// What comes.
    pub(crate) incoming: Incoming,
    /// What goes.
    pub(crate) outgoing: Outgoing,
    /// The protocol.
    pub(crate) protocol: Protocol,
}

impl Socket {
    /// Connects to the canonical socket; nothing is said yet.
    pub(crate) async fn connect(address: SocketAddr, format: Format) -> anyhow::Result<Self> {
        Self::open(address, "/v1/socket", Protocol::Canonical(format)).await
    }

    /// Opens a WebSocket at a path.
    pub(crate) async fn open(address: SocketAddr, path: &str, protocol: Protocol) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let (reading, writing) = stream.into_split();
        let mut incoming = Incoming::new(reading);
        let head = incoming.head().await?;
        ensure!(head.starts_with("HTTP/1.1 101"), "no WebSocket: {head}");
        let outgoing = Outgoing { half: writing, protocol, buffer: Vec::new() };
        Ok(Self { incoming, outgoing, protocol })
    }

    /// Connects and signs in.
    pub(crate) async fn sign_in(address: SocketAddr, token: &str, format: Format) -> anyhow::Result<Self> {
        let mut socket = Self::connect(address, format).await?;
        socket.command(&format.hello(token)).await.context("hello")?;
        Ok(socket)
    }

    /// Follows all conversations of the user.
    pub(crate) async fn follow_all(&mut self) -> anyhow::Result<()> {
        let Protocol::Canonical(format) = self.protocol else {
            bail!("only the canonical socket follows everything with one command");
        };
        self.command(&format.subscribe_to_all()).await.context("subscribe")
    }

    /// Gives a command and waits for its answer; what else comes is passed over.
    pub(crate) async fn command(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        self.outgoing.put(payload);
        self.outgoing.flush().await?;
        loop {
            let mut pinged = false;
            while let Some((opcode, payload)) = self.incoming.frame()? {
                match opcode {
                    TEXT if self.protocol.is_ping(payload) => pinged = true,
                    TEXT | BINARY => match self.protocol.kind(payload) {
                        Kind::Answer => return Ok(()),
                        Kind::Failure => bail!("refused: {}", String::from_utf8_lossy(payload)),
                        Kind::Event | Kind::Other => {}
                    },
                    CLOSE => {
                        bail!("closed: {}", String::from_utf8_lossy(payload.get(2..).unwrap_or_default()))
                    }
                    _ => {}
                }
            }
            if pinged {
                self.outgoing.pong();
                self.outgoing.flush().await?;
            }
            self.incoming.fill().await?;
        }
    }
}

/// Hands every frame that is there to `take`; says whether a ping wants an answer.
pub(crate) fn frames(
    incoming: &mut Incoming,
    protocol: Protocol,
    mut take: impl FnMut(Kind, &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<bool> {
    let mut pinged = false;
    while let Some((opcode, payload)) = incoming.frame()? {
        match opcode {
            TEXT if protocol.is_ping(payload) => pinged = true,
            TEXT | BINARY => take(protocol.kind(payload), payload)?,
            PING => pinged = true,
            CLOSE => bail!("closed: {}", String::from_utf8_lossy(payload.get(2..).unwrap_or_default())),
            _ => {}
        }
    }
    Ok(pinged)
}

impl Outgoing {
    /// Answers a ping.
    pub(crate) fn pong(&mut self) {
        match self.protocol {
            Protocol::Canonical(_) => framed(PONG, &[], true, &mut self.buffer),
            Protocol::SocketIo => framed(TEXT, socketio::PONG, true, &mut self.buffer),
        }
    }
}

/// An HTTP connection that is kept.
pub(crate) struct Http {
    incoming: Incoming,
    half: OwnedWriteHalf,
    address: SocketAddr,
    token: String,
}

impl Http {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (reading, half) = stream.into_split();
        Ok(Self { incoming: Incoming::new(reading), half, address, token: token.to_owned() })
    }

    /// Asks for something; gives the length of the body.
    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<usize> {
        let (address, token) = (self.address, &self.token);
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\r\n");
        self.begin(&request).await?;
        let length = self.answer().await?;
        self.incoming.skip(length).await?;
        Ok(length)
    }

    /// Sends a request as it is and gives the body of its answer.
    pub(crate) async fn exchange(&mut self, request: &str) -> anyhow::Result<Vec<u8>> {
        self.begin(request).await?;
        let length = self.answer().await?;
        self.incoming.bytes(length).await
    }

    /// Sends a request as it is and does not wait for its answer.
    pub(crate) async fn begin(&mut self, request: &str) -> anyhow::Result<()> {
        Ok(self.half.write_all(request.as_bytes()).await?)
    }

    /// Reads the head of an answer; gives the length of its body.
    async fn answer(&mut self) -> anyhow::Result<usize> {
        let head = self.incoming.head().await?.to_lowercase();
        ensure!(head.starts_with("http/1.1 200"), "unexpected answer: {head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        Ok(length.context("an answer without content-length")?.trim().parse()?)
    }
}
