//! The dialect that a connection speaks: that of its first event.

use chassis::fault::Fault;
use serde_json::{Value, json};

use super::client::Client;
use super::inbox::Event;
use super::worker::Refusal;
use crate::config::DialectsConfig;
use crate::dialects::{Dialect, Dialects, playground};
use crate::realtime::Realtime;

/// What the handshake of a client has settled.
#[derive(Clone, Debug, Default)]
pub(super) struct Greeting {}

/// One connection in the dialect that it speaks.
pub(super) enum Session {
    /// No event has come that belongs to a dialect.
    Undecided(Undecided),
    Playground(Box<playground::Session>),
}

/// What a session of a dialect is made from.
pub(super) struct Undecided {
    dialects: Dialects,
    realtime: Realtime,
    client: Client,
}

/// What has happened for a connection, as its dialect has it.
pub(super) enum Push {
    Playground(playground::Push),
}

impl Session {
    /// Looks at what the handshake carries. A refused client gets the text as `connect_error`.
    pub(super) async fn greet(_: &Dialects, _: &Value, _: std::net::IpAddr) -> Result<Greeting, Refusal> {
        Ok(Greeting::default())
    }

    pub(super) fn new(dialects: &Dialects, realtime: &Realtime, client: Client, _: Greeting) -> Self {
        Self::Undecided(Undecided { dialects: dialects.clone(), realtime: realtime.clone(), client })
    }

    /// Carries out an event.
    pub(super) async fn hear(&mut self, event: Event) {
        self.decide(&event);
        match self {
            Self::Undecided(undecided) => undecided.refuse(&event, &unknown(&event)),
            Self::Playground(session) => session.hear(event).await,
        }
    }

    /// Waits for what happens next. Nothing is lost when it is dropped before it is ready.
    pub(super) async fn next(&mut self) -> Push {
        match self {
            Self::Undecided(_) => std::future::pending().await,
            Self::Playground(session) => Push::Playground(session.next().await),
        }
    }

    /// Tells the client what has happened.
    pub(super) async fn show(&mut self, push: Push) {
        match (self, push) {
            (Self::Playground(session), Push::Playground(push)) => session.show(push).await,
            (Self::Undecided(_), Push::Playground(_)) => {}
        }
    }

    /// Answers an event that is not carried out.
    pub(super) fn refuse(&self, event: &Event, fault: &Fault) {
        match self {
            Self::Undecided(undecided) => undecided.refuse(event, fault),
            Self::Playground(session) => session.refuse(event, fault),
        }
    }

    /// True for an event that sends a message: messages have limits of their own.
    pub(super) fn is_send(&self, event: &Event) -> bool {
        event.name == "sendMessage"
    }

    /// True when the connection is nobody's and follows nothing.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Undecided(_) => true,
            Self::Playground(session) => session.is_idle(),
        }
    }

    fn decide(&mut self, event: &Event) {
        let Self::Undecided(Undecided { dialects, realtime, client }) = self else { return };
        if spoken(event, dialects.backend.config()) == Some(Dialect::Playground) {
            let session = playground::Session::new(dialects.clone(), realtime.clone(), client.clone());
            *self = Self::Playground(Box::new(session));
        }
    }
}

/// The dialect that an event belongs to.
fn spoken(event: &Event, config: &DialectsConfig) -> Option<Dialect> {
    let dialect = match event.name.as_str() {
        name if playground::EVENTS.contains(&name) => Dialect::Playground,
        _ => return None,
    };
    dialect.is_on(config).then_some(dialect)
}

fn unknown(event: &Event) -> Fault {
    let name: String = event.name.chars().take(64).collect();
    Fault::invalid("event", format!("there is no event `{name}`"))
}

impl Undecided {
    fn refuse(&self, event: &Event, fault: &Fault) {
        let message = fault.text();
        self.client.emit("error", &json!({"message": message}));
        self.client.answer(event, &json!({"error": message, "message": message}));
    }
}
