//! The events of one connection in their order of arrival.
//!
//! The library runs each handler in a task of its own, which keeps no order. Extractors run before that task is
//! started, one after the other: the extractor here puts the event into the inbox, from which the connection's one
//! worker takes it.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use chassis::fault::Fault;
use serde_json::Value;
use socketioxide::adapter::LocalAdapter;
use socketioxide::handler::{FromMessage, Value as Packet};
use socketioxide::socket::Socket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::SocketsConfig;
use crate::dialects::fields::Fields;

/// An event that a client has sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// Its name.
    pub(crate) name: String,
    /// The arguments of the event. An attachment is represented by the protocol's placeholder.
    pub(crate) args: Vec<Value>,
    /// The number under which the client waits for an answer.
    pub(super) ack: Option<i64>,
    /// The length of the packet.
    bytes: usize,
}

impl Event {
    /// Reads `["name", ...]`.
    fn read(packet: &Packet, ack: Option<i64>) -> Option<Self> {
        let Packet::Str(text, _) = packet else { return None };
        let mut parts = serde_json::from_str::<Vec<Value>>(text).ok()?.into_iter();
        let Value::String(name) = parts.next()? else { return None };
        Some(Self { name, args: parts.collect(), ack, bytes: text.as_bytes().len() })
    }

    /// Returns the fields of the first argument. A missing argument is an object without fields.
    pub(crate) fn fields(&self) -> Result<Fields, Fault> {
        match self.args.first() {
            None | Some(Value::Null) => Ok(Fields::default()),
            Some(Value::Object(fields)) => Ok(Fields::from(fields.clone())),
            Some(_) => Err(Fault::invalid("body", "must be an object")),
        }
    }
}

/// The reason for which the server ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// More bytes wait for the client than allowed.
    TooSlow,
    /// The client has sent more events than can be executed in time.
    TooManyEvents,
    /// The client has sent an invalid event.
    NotAnEvent,
    /// The connection has to follow its logs anew. The client reconnects by itself.
    Restart,
    /// A client that is not signed in has been inactive for too long.
    Idle,
    /// The client is gone.
    Gone,
}

impl End {
    /// Returns the name of the reason in the metrics.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::TooSlow => "slow_consumer",
            Self::TooManyEvents => "too_many_commands",
            Self::NotAnEvent => "not_a_frame",
            Self::Restart => "restart",
            Self::Idle => "idle",
            Self::Gone => "gone",
        }
    }
}

/// The inbox of one connection, and its end.
pub(super) struct Inbox {
    sender: mpsc::Sender<Event>,
    receiver: Mutex<Option<mpsc::Receiver<Event>>>,
    waiting_bytes: AtomicUsize,
    max_bytes: usize,
    ended: CancellationToken,
    why: OnceLock<End>,
}

impl Inbox {
    pub(super) fn new(config: &SocketsConfig) -> Arc<Self> {
        let (sender, receiver) = mpsc::channel(config.queue_frames.max(1));
        Arc::new(Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
            waiting_bytes: AtomicUsize::new(0),
            max_bytes: config.queue_bytes,
            ended: CancellationToken::new(),
            why: OnceLock::new(),
        })
    }

    /// Returns the receiver from which the worker reads. It is available once.
    pub(super) fn receiver(&self) -> Option<mpsc::Receiver<Event>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, packet: &Packet, ack: Option<i64>) {
        let Some(event) = Event::read(packet, ack) else { return self.end(End::NotAnEvent) };
        let bytes = event.bytes;
        // A single event always fits, however large.
        let waiting = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        if (waiting > 0 && waiting + bytes > self.max_bytes) || self.sender.try_send(event).is_err() {
            self.end(End::TooManyEvents);
        }
    }

    /// Subtracts an event that the worker has received from the waiting bytes.
    pub(super) fn taken(&self, event: &Event) {
        self.waiting_bytes.fetch_sub(event.bytes, Ordering::Relaxed);
    }

    /// Ends the connection. The first reason counts.
    pub(super) fn end(&self, end: End) {
        // A second reason is ignored.
        let _ = self.why.set(end);
        self.ended.cancel();
    }

    /// Waits for the end.
    pub(super) async fn ended(&self) -> End {
        self.ended.cancelled().await;
        self.why.get().copied().unwrap_or(End::Gone)
    }
}

/// The extractor that puts every event into the inbox of its connection.
pub(super) struct Queued;

impl FromMessage<LocalAdapter> for Queued {
    type Error = Infallible;

    fn from_message(socket: Arc<Socket>, packet: Packet, ack: Option<i64>) -> Result<Self, Infallible> {
        if let Some(inbox) = socket.extensions.get::<Arc<Inbox>>() {
            inbox.put(&packet, ack);
        }
        Ok(Self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn packet(value: &Value) -> Packet {
        Packet::Str(value.to_string().into(), None)
    }

    fn inbox(frames: usize, bytes: usize) -> (Arc<Inbox>, mpsc::Receiver<Event>) {
        let inbox = Inbox::new(&SocketsConfig {
            queue_frames: frames,
            queue_bytes: bytes,
            ..SocketsConfig::default()
        });
        let receiver = inbox.receiver().expect("a receiver");
        assert!(inbox.receiver().is_none());
        (inbox, receiver)
    }

    #[test]
    fn an_event_is_a_name_and_any_number_of_arguments() {
        let none = Event::read(&packet(&json!(["join"])), Some(3)).expect("an event");
        assert_eq!((none.name.as_str(), none.args.len(), none.ack), ("join", 0, Some(3)));
        assert_eq!(none.fields(), Ok(Fields::default()));
        let ten = Event::read(&packet(&json!(["x", {"a": 1}, 1, 2, 3, 4, 5, 6, 7, 8, 9])), None);
        let ten = ten.expect("an event");
        assert_eq!(ten.args.len(), 10);
        assert_eq!(ten.fields().expect("fields").integer("a"), Ok(Some(1)));
        let text = Event::read(&packet(&json!(["x", "text"])), None).expect("an event");
        assert!(text.fields().is_err());
        for value in [json!([]), json!([1]), json!({}), json!("x")] {
            assert!(Event::read(&packet(&value), None).is_none(), "{value}");
        }
    }

    #[tokio::test]
    async fn events_are_taken_in_their_order() {
        let (inbox, mut events) = inbox(10, 1000);
        for number in 0..5 {
            inbox.put(&packet(&json!(["x", number])), None);
        }
        for number in 0..5 {
            assert_eq!(events.recv().await.expect("an event").args, [json!(number)]);
        }
    }

    #[tokio::test]
    async fn more_events_than_may_wait_end_the_connection() {
        let (inbox, _events) = inbox(2, 1000);
        for _ in 0..3 {
            inbox.put(&packet(&json!(["x"])), None);
        }
        assert_eq!(inbox.ended().await, End::TooManyEvents);
    }

    #[tokio::test]
    async fn bytes_count_until_the_event_is_taken() {
        let (inbox, mut events) = inbox(10, 10);
        for _ in 0..3 {
            inbox.put(&packet(&json!(["x", "a text of more than ten bytes"])), None);
            let event = events.recv().await.expect("an event");
            inbox.taken(&event);
        }
        assert!(inbox.why.get().is_none());
        inbox.put(&packet(&json!(["x", 1])), None);
        inbox.put(&packet(&json!(["x", 2])), None);
        assert_eq!(inbox.ended().await, End::TooManyEvents);
    }

    #[tokio::test]
    async fn the_first_reason_counts() {
        let (inbox, _events) = inbox(1, 1);
        inbox.put(&packet(&json!([1])), None);
        inbox.end(End::Gone);
        assert_eq!(inbox.ended().await, End::NotAnEvent);
    }
}
