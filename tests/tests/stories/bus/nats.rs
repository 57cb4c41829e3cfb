//! One who reaches NATS, hears what is said there, and publishes at will.

use async_nats::{Client, ConnectOptions, Subscriber};
use futures_util::StreamExt;
use tests::waiting::within;

/// As many bytes stand before what a sealed notice says.
const SEAL: usize = 53;

/// One who reaches NATS.
pub(super) struct Eve(Client);

/// The notices on a subject.
pub(super) struct Overheard {
    subject: String,
    messages: Subscriber,
}

/// A sealed notice as it is on NATS.
#[derive(Clone)]
pub(super) struct Sealed {
    pub(super) subject: String,
    pub(super) bytes: Vec<u8>,
}

impl Sealed {
    /// The payload.
    pub(super) fn payload(&self) -> &[u8] {
        &self.bytes[SEAL..]
    }

    /// The same seal, and something else that is said.
    pub(super) fn changed(&self, payload: &[u8]) -> Self {
        Self { subject: self.subject.clone(), bytes: [&self.bytes[..SEAL], payload].concat() }
    }

    /// The same on another subject.
    pub(super) fn moved(&self, subject: &str) -> Self {
        Self { subject: subject.to_owned(), ..self.clone() }
    }
}

impl Eve {
    pub(super) async fn connects(server: &str) -> Self {
        Self(ConnectOptions::new().connect(server).await.expect("NATS"))
    }

    pub(super) async fn overhears(&self, subject: &str) -> Overheard {
        let messages = self.0.subscribe(subject.to_owned()).await.expect("a subscription");
        self.0.flush().await.expect("NATS");
        Overheard { subject: subject.to_owned(), messages }
    }

    pub(super) async fn says(&self, subject: &str, bytes: Vec<u8>) {
        self.0.publish(subject.to_owned(), bytes.into()).await.expect("NATS");
    }

    pub(super) async fn repeats(&self, sealed: &Sealed) {
        self.says(&sealed.subject, sealed.bytes.clone()).await;
    }

    /// Waits until the server has taken in all that was said.
    pub(super) async fn has_spoken(&self) {
        self.0.flush().await.expect("NATS");
    }
}

impl Overheard {
    /// The next notice for which `read` finds something; gives both.
    pub(super) async fn next<T>(&mut self, read: impl Fn(&[u8]) -> Option<T>) -> (Sealed, T) {
        loop {
            let message = within("a notice on NATS", self.messages.next()).await.expect("NATS");
            let sealed = Sealed { subject: self.subject.clone(), bytes: message.payload.to_vec() };
            if let Some(found) = read(sealed.payload()) {
                return (sealed, found);
            }
        }
    }
}
