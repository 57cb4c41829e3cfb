//! The socket of the Talkamie API, as a client holds it.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tests::waiting::within;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::client::Client;

/// A connection of a client.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    unread: VecDeque<Value>,
}

impl Socket {
    /// Connects without signing in.
    pub async fn connect(client: &Client) -> Self {
        let url = format!("ws://{}/talkamie/ws", client.gateway);
        let (stream, _) = connect_async(url).await.expect("a socket");
        Self { stream, unread: VecDeque::new() }
    }

    /// Connects and signs in.
    pub async fn open(client: &Client) -> Self {
        let mut socket = Self::connect(client).await;
        let user = socket.data(json!({"action": "authenticate", "token": client.token})).await;
        assert_eq!(user["id"], json!(client.id));
        socket
    }

    /// Sends a frame.
    pub async fn sends(&mut self, frame: Value) {
        self.sends_raw(Message::text(frame.to_string())).await;
    }

    /// Sends a frame as it is.
    pub async fn sends_raw(&mut self, frame: Message) {
        self.stream.send(frame).await.expect("a frame sent");
    }

    /// Asks for something; gives the frame that answers. Pushes that come before it are kept for later.
    pub async fn asks(&mut self, frame: Value) -> Value {
        let action = frame["action"].clone();
        self.sends(frame).await;
        loop {
            let received =
                within(&format!("an answer to {action}"), self.receive()).await.expect("an open socket");
            if received["action"] == action {
                return received;
            }
            self.unread.push_back(received);
        }
    }

    /// The data of an answer that is well.
    pub async fn data(&mut self, frame: Value) -> Value {
        let answer = self.asks(frame).await;
        assert_eq!((&answer["success"], &answer["statusCode"]), (&json!(true), &json!(200)), "{answer}");
        answer["data"].clone()
    }

    /// The sentence of an answer that refuses with this status.
    pub async fn refused(&mut self, frame: Value, status: u16) -> String {
        let answer = self.asks(frame).await;
        assert_eq!((&answer["success"], &answer["statusCode"]), (&json!(false), &json!(status)), "{answer}");
        answer["message"].as_str().unwrap_or_default().to_owned()
    }

    /// The data of the next push with this action; others before it are passed over.
    pub async fn hears(&mut self, action: &str) -> Value {
        self.hears_when(action, |_| true).await
    }

    /// The data of the next push with this action for which a condition holds; others before it are passed over.
    pub async fn hears_when(&mut self, action: &str, holds: impl Fn(&Value) -> bool) -> Value {
        loop {
            let frame = match self.unread.pop_front() {
                Some(frame) => frame,
                None => within(&format!("a push {action}"), self.receive()).await.expect("an open socket"),
            };
            if frame["action"] == json!(action) && holds(&frame["data"]) {
                return frame["data"].clone();
            }
        }
    }

    /// Everything that was pushed until a ping is answered.
    pub async fn heard(&mut self) -> Vec<Value> {
        self.asks(json!({"action": "ping"})).await;
        self.unread.drain(..).collect()
    }

    /// The next frame, or the code with which the server has closed; 0 when it has broken off.
    pub async fn receive(&mut self) -> Result<Value, u16> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    return Ok(serde_json::from_str(&text).expect("a JSON frame"));
                }
                Some(Ok(Message::Close(Some(close)))) => return Err(close.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(0),
            }
        }
    }

    /// Waits until the server closes; gives the code.
    pub async fn is_closed(&mut self) -> u16 {
        let closed = async {
            loop {
                if let Err(code) = self.receive().await {
                    return code;
                }
            }
        };
        within("the socket to be closed", closed).await
    }
}
