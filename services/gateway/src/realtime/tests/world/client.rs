//! One end of a socket.

use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use prost::Message as _;
use proto::gateway::v1::{ClientFrame, ServerFrame};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::{A_WHILE, SOON, sequence};

/// One end of a socket.
pub(crate) struct Client(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub(crate) async fn open(
        url: &str,
        authorization: Option<&str>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let mut request = url.into_client_request()?;
        if let Some(value) = authorization {
            request.headers_mut().insert("authorization", HeaderValue::from_str(value)?);
        }
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Self(socket))
    }

    pub(crate) async fn say(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.expect("sent");
    }

    pub(crate) async fn say_in_binary(&mut self, frame: &ClientFrame) {
        self.0.send(Message::binary(frame.encode_to_vec())).await.expect("sent");
    }

    async fn message(&mut self) -> Message {
        loop {
            let message = tokio::time::timeout(SOON, self.0.next()).await.expect("a frame soon");
            match message.expect("an open socket").expect("a frame") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Value {
        match self.message().await {
            Message::Text(text) => serde_json::from_str(&text).expect("json"),
            other => panic!("not a text frame: {other:?}"),
        }
    }

    pub(crate) async fn next_in_binary(&mut self) -> ServerFrame {
        match self.message().await {
            Message::Binary(bytes) => ServerFrame::decode(bytes).expect("a frame"),
            other => panic!("not a binary frame: {other:?}"),
        }
    }

    /// The answer to a command; what comes before it is not looked at.
    pub(crate) async fn answer(&mut self, id: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["id"] == id {
                return frame;
            }
        }
    }

    /// Subscribes, and returns the answer and everything up to `caught_up`.
    pub(crate) async fn subscribe(&mut self, request: Value) -> (Value, Vec<Value>) {
        self.say(json!({"id": "subscribe", "subscribe": request})).await;
        let subscribed = self.answer("subscribe").await;
        let mut missed = Vec::new();
        loop {
            let frame = self.next().await;
            if frame.get("caughtUp").is_some() {
                return (subscribed, missed);
            }
            missed.push(frame);
        }
    }

    /// The sequences of the next events.
    pub(crate) async fn sequences(&mut self, count: usize) -> Vec<i64> {
        let mut sequences = Vec::new();
        while sequences.len() < count {
            let frame = self.next().await;
            sequences.extend(sequence(&frame));
        }
        sequences
    }

    /// Nothing comes for a while.
    pub(crate) async fn hears_nothing(&mut self) {
        if let Ok(Some(Ok(message))) = tokio::time::timeout(A_WHILE, self.0.next()).await
            && !message.is_ping()
        {
            panic!("something came: {message}");
        }
    }

    /// The code with which the server closes; what comes before it is not looked at.
    pub(crate) async fn close_code(&mut self) -> u16 {
        let closed = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Close(frame))) => return frame.map_or(1005, |frame| frame.code.into()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return 1006,
                }
            }
        };
        tokio::time::timeout(SOON, closed).await.expect("a close soon")
    }
}
