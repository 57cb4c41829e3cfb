//! Who writes: sends, and tries again under the same client message id until the outcome is definite.

use std::sync::Arc;
use std::time::Duration;

use proto::messaging::v1::messaging_service_client::MessagingServiceClient;
use proto::messaging::v1::{Content, SendMessageRequest, content, send_message_request};
use serde_json::{Value, json};
use tests::history::{Client, What};
use tests::http::Answer;
use tests::person::number;
use tests::{Connection, Person};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tonic::Request;
use tonic::transport::Channel;

use crate::load::Shared;

/// The door that a writer uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// REST at a gateway.
    Rest,
    /// A socket; one message at a time.
    Socket,
    /// A socket; several messages at once.
    Pipeline,
    /// gRPC at a messaging service.
    Grpc,
}

/// How long an answer may take. What takes longer has an unknown outcome.
const PATIENCE: Duration = Duration::from_secs(6);

/// How many messages are under way at once in a pipeline.
const AT_ONCE: usize = 4;

/// How long to wait before the same is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// One of this many messages is deleted again by those who write over REST.
const DELETED: u64 = 15;

/// What became of one try.
enum Tried {
    Acknowledged {
        sequence: i64,
        message_id: String,
    },
    Refused(String),
    /// Refused because too much is going on: to be tried again after a while.
    Overloaded,
    Unknown,
}

/// Who writes.
pub struct Writer {
    shared: Arc<Shared>,
    client: Client,
    person: Person,
    door: Door,
    /// Which gateway or messaging service it turns to; another one when that fails.
    turn: usize,
    /// Counts its connections.
    connections: u64,
    socket: Option<Connection>,
    channels: Vec<Channel>,
}

impl Writer {
    /// Somebody who writes through this door.
    pub fn new(shared: Arc<Shared>, client: Client, person: Person, door: Door) -> Self {
        let channel = |address| {
            let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
            endpoint.connect_timeout(Duration::from_secs(2)).timeout(PATIENCE).connect_lazy()
        };
        let channels = shared.messaging.iter().map(channel).collect();
        Self { shared, client, person, door, turn: client, connections: 0, socket: None, channels }
    }

    /// Writes until the load ends, at this pace.
    pub async fn write(mut self, every: Duration) {
        let at_once = if self.door == Door::Pipeline { AT_ONCE } else { 1 };
        let mut pace = interval(every * at_once as u32);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut written = 0_u64;
        while !self.shared.is_stopped() {
            pace.tick().await;
            let place = (written as usize * 7 + self.client) % self.shared.conversations.len();
            let conversation = self.shared.conversations[place].clone();
            let keys: Vec<String> =
                (0..at_once).map(|one| format!("w{}-{written}-{one}", self.client)).collect();
            let messages = self.send(&conversation, keys).await;
            written += 1;
            if self.door == Door::Rest && written.is_multiple_of(DELETED) {
                for (message_id, sequence) in messages {
                    self.delete(&conversation, &message_id, sequence).await;
                }
            }
        }
    }

    /// Sends all of these; comes back when each has a definite outcome. Gives the messages.
    async fn send(&mut self, conversation: &str, mut pending: Vec<String>) -> Vec<(String, i64)> {
        let mut sent = Vec::new();
        let mut is_first = true;
        while !pending.is_empty() {
            // What has to be tried again goes one by one, in its order.
            let now = if is_first { pending.len() } else { 1 };
            is_first = false;
            let tried = self.attempt(conversation, &pending[..now]).await;
            let mut again = Vec::new();
            for (key, tried) in pending.drain(..now).zip(tried) {
                let step = match tried {
                    Tried::Acknowledged { sequence, message_id } => {
                        sent.push((message_id.clone(), sequence));
                        What::Acknowledged { key, sequence, message_id }
                    }
                    Tried::Refused(reason) => {
                        self.shared.complain(format!("{key} was refused: {reason}"));
                        What::Refused { key, reason }
                    }
                    Tried::Overloaded => {
                        again.push(key.clone());
                        self.shared.told_to_slow_down();
                        What::Refused { key, reason: "overloaded".to_owned() }
                    }
                    Tried::Unknown => {
                        again.push(key.clone());
                        What::Unknown { key }
                    }
                };
                self.shared.recorder.note(self.client, step);
            }
            if !again.is_empty() {
                self.turn += 1;
                sleep(PAUSE).await;
            }
            again.append(&mut pending);
            pending = again;
        }
        sent
    }

    async fn attempt(&mut self, conversation: &str, keys: &[String]) -> Vec<Tried> {
        if self.door == Door::Socket || self.door == Door::Pipeline {
            self.connect().await;
        }
        for key in keys {
            let (key, conversation) = (key.clone(), conversation.to_owned());
            let connection = self.connections;
            self.shared.recorder.note(self.client, What::Invoked { key, conversation, connection });
        }
        match self.door {
            Door::Rest => vec![self.by_rest(conversation, &keys[0]).await],
            Door::Grpc => vec![self.by_grpc(conversation, &keys[0]).await],
            Door::Socket | Door::Pipeline => self.by_socket(conversation, keys).await,
        }
    }

    async fn by_rest(&self, conversation: &str, key: &str) -> Tried {
        let gateways = &self.shared.gateways;
        let person = self.person.at(gateways[self.turn % gateways.len()]);
        let body = json!({ "content": { "text": words(key) }, "clientMessageId": key });
        let path = format!("/v1/conversations/{conversation}/messages");
        match timeout(PATIENCE, person.try_post(&path, body)).await {
            Ok(Ok(Answer { status: 200, body, .. })) => acknowledged(&body["message"]),
            Ok(Ok(answer)) => refused(&answer.body),
            Ok(Err(_)) | Err(_) => Tried::Unknown,
        }
    }

    async fn by_grpc(&self, conversation: &str, key: &str) -> Tried {
        let channel = self.channels[self.turn % self.channels.len()].clone();
        let mut request = Request::new(SendMessageRequest {
            target: Some(send_message_request::Target::ConversationId(conversation.to_owned())),
            content: Some(Content { kind: Some(content::Kind::Text(words(key))), ..Default::default() }),
            client_message_id: key.to_owned(),
            ..SendMessageRequest::default()
        });
        let token = format!("Bearer {}", self.person.token).parse().expect("a header");
        request.metadata_mut().insert("authorization", token);
        match MessagingServiceClient::new(channel).send_message(request).await {
            Ok(answer) => match answer.into_inner().message {
                Some(message) => {
                    Tried::Acknowledged { sequence: message.sequence, message_id: message.message_id }
                }
                None => Tried::Unknown,
            },
            Err(status) => failed(&format!("{:?}", status.code()), status.message()),
        }
    }

    /// Sends all at once and waits for the answers.
    async fn by_socket(&mut self, conversation: &str, keys: &[String]) -> Vec<Tried> {
        let Some(mut socket) = self.socket.take() else {
            return keys.iter().map(|_| Tried::Unknown).collect();
        };
        let mut answers: Vec<Option<Tried>> = keys.iter().map(|_| None).collect();
        let exchange = async {
            let mut ids = Vec::new();
            for key in keys {
                let command = json!({ "sendMessage": {
                    "conversationId": conversation, "content": { "text": words(key) }, "clientMessageId": key,
                } });
                let Ok(id) = socket.begins(command).await else { return Err(0) };
                ids.push(id);
            }
            while answers.iter().any(Option::is_none) {
                let frame = socket.next_frame().await.map_err(|closed| closed.code)?;
                let Some(place) = ids.iter().position(|id| frame["id"] == json!(id)) else { continue };
                answers[place] = Some(match frame.get("sent") {
                    Some(sent) => acknowledged(&sent["message"]),
                    None => refused(&frame["error"]),
                });
            }
            Ok(())
        };
        match timeout(PATIENCE, exchange).await {
            Ok(Ok(())) => self.socket = Some(socket),
            Ok(Err(code)) => self.shared.closed(code),
            Err(_) => {}
        }
        answers.into_iter().map(|answer| answer.unwrap_or(Tried::Unknown)).collect()
    }

    async fn connect(&mut self) {
        while self.socket.is_none() {
            let gateway = self.shared.gateways[self.turn % self.shared.gateways.len()];
            match timeout(PATIENCE, Connection::try_open(gateway, &self.person.token)).await {
                Ok(Ok(socket)) => {
                    self.connections += 1;
                    self.socket = Some(socket);
                }
                Ok(Err(_)) | Err(_) => {
                    self.turn += 1;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn delete(&self, conversation: &str, message_id: &str, sequence: i64) {
        let gateways = &self.shared.gateways;
        let person = self.person.at(gateways[self.turn % gateways.len()]);
        let path = format!("/v1/conversations/{conversation}/messages/{message_id}");
        if let Ok(Ok(Answer { status: 200, .. })) = timeout(PATIENCE, person.try_delete(&path)).await {
            let conversation = conversation.to_owned();
            self.shared.recorder.note(self.client, What::Deleted { conversation, sequence });
        }
    }
}

/// A hundred bytes or so.
fn words(key: &str) -> String {
    format!("{key}: so much depends upon a red wheel barrow glazed with rain water beside the white chickens")
}

fn acknowledged(message: &Value) -> Tried {
    match message["messageId"].as_str() {
        Some(id) => Tried::Acknowledged { sequence: number(&message["sequence"]), message_id: id.to_owned() },
        None => Tried::Unknown,
    }
}

fn refused(error: &Value) -> Tried {
    failed(error["code"].as_str().unwrap_or_default(), &error.to_string())
}

/// What a send has come to that failed with this code.
fn failed(code: &str, reason: &str) -> Tried {
    match code.replace('_', "").to_lowercase().as_str() {
        "invalidargument" | "notfound" | "permissiondenied" | "unauthenticated" | "failedprecondition"
        | "alreadyexists" => Tried::Refused(format!("{code} {reason}")),
        "resourceexhausted" => Tried::Overloaded,
        // Everything else says nothing about it.
        _ => Tried::Unknown,
    }
}
