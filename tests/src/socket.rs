//! A WebSocket as a web client speaks it: JSON frames, heads kept for the next resume.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::person::{number, text};
use crate::waiting::within;

/// What a client keeps to resume from: the epoch, and the last sequence it has applied per conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The epoch of the sequences.
    pub epoch: String,
    /// The last sequence per conversation.
    pub heads: BTreeMap<String, i64>,
    /// The last sequence of the user's own log.
    pub user_sequence: i64,
}

/// A signed-in WebSocket.
pub struct Connection {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    unread: VecDeque<Value>,
    next_id: u64,
    /// Where the client stands.
    pub place: Place,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The close code; 0 when the connection broke.
    pub code: u16,
    /// The reason.
    pub reason: String,
}

impl Connection {
    /// Connects and signs in.
    ///
    /// # Panics
    /// When that fails.
    pub async fn open(gateway: SocketAddr, token: &str) -> Self {
        Self::try_open(gateway, token).await.expect("a signed-in socket")
    }

    /// Connects and signs in, when the gateway is there.
    pub async fn try_open(gateway: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let mut connection = Self::try_connect(gateway).await?;
        let ready = connection.try_command(json!({ "hello": { "sessionToken": token } })).await?;
        anyhow::ensure!(ready.get("ready").is_some(), "not signed in: {ready}");
        connection.place.epoch = text(&ready["ready"]["epoch"]);
        Ok(connection)
    }

    /// Connects without signing in.
    pub async fn try_connect(gateway: SocketAddr) -> anyhow::Result<Self> {
        let request = format!("ws://{gateway}/v1/socket").into_client_request()?;
        let (stream, _) = connect_async(request).await?;
        Ok(Self { stream, unread: VecDeque::new(), next_id: 1, place: Place::default() })
    }

    /// Follows all conversations of the user from now on, and those of the kept place from where it stands.
    pub async fn follows_all(&mut self) -> Value {
        self.subscribes(true).await
    }

    /// Waits until all that was asked for has come and what follows is live; what comes before is kept for later.
    pub async fn catches_up(&mut self) {
        loop {
            let frame = within("to have caught up", self.receive()).await.expect("an open connection");
            let is_caught_up = frame.get("caughtUp").is_some();
            self.unread.push_back(frame);
            if is_caught_up {
                return;
            }
        }
    }

    /// Takes up the place of an earlier connection: everything since then comes, then what is new.
    pub async fn resumes(&mut self, place: Place) -> Value {
        self.place = place;
        self.subscribes(true).await
    }

    /// Takes up a place on a connection that may break; follows only what is in it.
    pub async fn try_resume(&mut self, place: Place) -> anyhow::Result<Value> {
        self.place = place;
        self.try_subscribe(false).await
    }

    /// Follows these conversations from their beginning.
    pub async fn follows(&mut self, conversations: &[&str]) -> Value {
        for conversation in conversations {
            self.place.heads.entry((*conversation).to_owned()).or_insert(0);
        }
        self.subscribes(false).await
    }

    async fn subscribes(&mut self, all: bool) -> Value {
        self.try_subscribe(all).await.expect("an answer to subscribe")
    }

    async fn try_subscribe(&mut self, all: bool) -> anyhow::Result<Value> {
        let head = |(id, sequence): (&String, &i64)| json!({ "conversationId": id, "sequence": sequence.to_string() });
        let heads: Vec<Value> = self.place.heads.iter().map(head).collect();
        let answer = self
            .try_command(json!({ "subscribe": {
                "heads": heads,
                "all": all,
                "epoch": self.place.epoch,
                "userSequence": self.place.user_sequence.to_string(),
            } }))
            .await?;
        anyhow::ensure!(answer.get("subscribed").is_some(), "not subscribed: {answer}");
        let subscribed = answer["subscribed"].clone();
        if self.place.user_sequence == 0 {
            // What was there before one came for the first time is in lists.
            self.place.user_sequence = number(&subscribed["userHeadSequence"]);
        }
        Ok(subscribed)
    }

    /// Sends a text; gives the message once it is stored.
    pub async fn says(&mut self, conversation: &str, words: &str) -> Value {
        let answer = self
            .command(json!({ "sendMessage": {
                "conversationId": conversation,
                "content": { "text": words },
                "clientMessageId": proto::id::EventId::generate().to_string(),
            } }))
            .await;
        assert!(answer.get("sent").is_some(), "not sent: {answer}");
        answer["sent"]["message"].clone()
    }

    /// Does something and waits for its answer; pushes that come before it are kept for later.
    ///
    /// # Panics
    /// When the connection breaks.
    pub async fn command(&mut self, command: Value) -> Value {
        self.try_command(command).await.expect("an answer on the socket")
    }

    /// Does something on a connection that may break.
    pub async fn try_command(&mut self, command: Value) -> anyhow::Result<Value> {
        let id = self.begins(command).await?;
        loop {
            match self.receive().await {
                Ok(frame) if frame["id"] == json!(id) => return Ok(frame),
                Ok(frame) => self.unread.push_back(frame),
                Err(closed) => anyhow::bail!("closed with {} {}", closed.code, closed.reason),
            }
        }
    }

    /// Gives a command without waiting for its answer; says the id that the answer will have.
    pub async fn begins(&mut self, mut command: Value) -> anyhow::Result<String> {
        let id = self.next_id.to_string();
        self.next_id += 1;
        command["id"] = json!(id);
        self.stream.send(Message::text(command.to_string())).await?;
        Ok(id)
    }

    /// Sends raw text as a frame.
    pub async fn sends_raw(&mut self, frame: &str) {
        self.stream.send(Message::text(frame)).await.expect("a frame sent");
    }

    /// The next push, whatever it is.
    ///
    /// # Panics
    /// When none comes in time.
    pub async fn next(&mut self) -> Value {
        let frame = match self.unread.pop_front() {
            Some(frame) => frame,
            None => within("a push", self.receive()).await.expect("an open connection"),
        };
        self.apply(&frame);
        frame
    }

    /// The next push, or how the connection ended.
    pub async fn next_or_closed(&mut self) -> Result<Value, Closed> {
        let frame = self.next_frame().await?;
        self.apply(&frame);
        Ok(frame)
    }

    /// The next frame as it comes, or how the connection ended. For those who keep their place themselves.
    pub async fn next_frame(&mut self) -> Result<Value, Closed> {
        match self.unread.pop_front() {
            Some(frame) => Ok(frame),
            None => self.receive().await,
        }
    }

    /// The next push of this kind (`event`, `userEvent`, `receipt`, `signal`, `caughtUp`); others are passed over.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            if let Some(push) = frame.get(kind) {
                return push.clone();
            }
        }
    }

    /// The next event with this payload (`messageCreated`, `memberRemoved`); others are passed over.
    pub async fn next_event(&mut self, payload: &str) -> Value {
        loop {
            let event = self.next_of("event").await;
            if event.get(payload).is_some() {
                return event;
            }
        }
    }

    /// The next event of the user's own log with this payload (`alertChanged`, `messageHidden`); others are passed over.
    pub async fn next_user_event(&mut self, payload: &str) -> Value {
        loop {
            let event = self.next_of("userEvent").await;
            if let Some(found) = event.get(payload) {
                return found.clone();
            }
        }
    }

    /// The next alert of the user with this state (`REQUEST_PENDING`); other pushes are passed over.
    pub async fn expects_alert(&mut self, state: &str) -> Value {
        let state = json!(format!("ALERT_STATE_{state}"));
        loop {
            let alert = self.next_user_event("alertChanged").await;
            if alert["state"] == state {
                return alert;
            }
        }
    }

    /// The next push that says that a call is in this state (`RINGING`); other pushes are passed over.
    pub async fn expects_call(&mut self, state: &str) -> Value {
        let state = json!(format!("CALL_STATE_{state}"));
        loop {
            let notice = self.next_of("callChanged").await;
            if notice["call"]["state"] == state {
                return notice["call"].clone();
            }
        }
    }

    /// Waits for a message with these words; gives its event.
    pub async fn expects_message(&mut self, words: &str) -> Value {
        loop {
            let event = self.next_event("messageCreated").await;
            if event["messageCreated"]["content"]["text"] == json!(words) {
                return event;
            }
        }
    }

    /// Waits until the server closes the connection.
    pub async fn expects_close(&mut self) -> Closed {
        let ended = async {
            loop {
                if let Err(closed) = self.receive().await {
                    return closed;
                }
            }
        };
        within("the connection to be closed", ended).await
    }

    /// Goes away; gives the place to resume from.
    pub async fn disconnects(mut self) -> Place {
        let _ = self.stream.close(None).await;
        self.place
    }

    /// Takes in what an event says about where the client stands.
    ///
    /// # Panics
    /// When an event does not follow the one before: that is what the server promises.
    fn apply(&mut self, frame: &Value) {
        if let Some(event) = frame.get("event") {
            let (conversation, sequence) = (text(&event["conversationId"]), number(&event["sequence"]));
            let known = self.place.heads.entry(conversation).or_insert(sequence - 1);
            assert_eq!(sequence, *known + 1, "an event out of order: {event}");
            *known = sequence;
        }
        if let Some(event) = frame.get("userEvent") {
            self.place.user_sequence = number(&event["sequence"]);
        }
    }

    async fn receive(&mut self) -> Result<Value, Closed> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(frame))) => {
                    return Ok(serde_json::from_str(&frame).expect("a JSON frame"));
                }
                Some(Ok(Message::Close(Some(close)))) => {
                    return Err(Closed { code: close.code.into(), reason: close.reason.to_string() });
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Closed { code: 0, reason: String::new() }),
            }
        }
    }
}
