//! The dialect that a connection speaks: that of its first event.

use chassis::fault::Fault;
use serde_json::{Value, json};

use super::client::Client;
use super::inbox::Event;
use super::worker::Refusal;
use crate::config::DialectsConfig;
use crate::dialects::backend::Actor;
use crate::dialects::{Dialect, Dialects, allo, playground};
use crate::realtime::Realtime;

/// The result of a client's handshake.
#[derive(Clone, Debug, Default)]
pub(super) struct Greeting {
    /// The user of the token in the handshake; with one, or with a placeholder for one, the client speaks allo.
    allo: Option<Option<Actor>>,
}

/// One connection in the dialect that it speaks.
pub(super) enum Session {
    /// No event of a dialect has arrived yet.
    Undecided(Box<Undecided>),
    Allo(Box<allo::Session>),
    Playground(Box<playground::Session>),
}

/// The parts from which a session of a dialect is created.
pub(super) struct Undecided {
    dialects: Dialects,
    realtime: Realtime,
    client: Client,
}

/// An event for a connection, in the form of its dialect.
pub(super) enum Push {
    Allo(allo::Push),
    Playground(playground::Push),
}

impl Session {
    /// Checks the data of the handshake. A refused client receives the text as `connect_error`.
    pub(super) async fn greet(
        dialects: &Dialects,
        auth: &Value,
        address: std::net::IpAddr,
    ) -> Result<Greeting, Refusal> {
        let token = auth.get("token").and_then(Value::as_str);
        if token.is_none() || !Dialect::Allo.is_on(dialects.backend.config()) {
            return Ok(Greeting::default());
        }
        let user = allo::greet(dialects, token, address).await.map_err(|text| Refusal(text.to_owned()))?;
        Ok(Greeting { allo: Some(user) })
    }

    pub(super) fn new(dialects: &Dialects, realtime: &Realtime, client: Client, greeting: Greeting) -> Self {
        let (dialects, realtime) = (dialects.clone(), realtime.clone());
        match greeting.allo {
            Some(user) => Self::Allo(Box::new(allo::Session::new(dialects, realtime, client, user))),
            None => Self::Undecided(Box::new(Undecided { dialects, realtime, client })),
        }
    }

    /// Does the work before the first event.
    pub(super) async fn begin(&mut self) {
        if let Self::Allo(session) = self {
            session.begin().await;
        }
    }

    /// Executes an event.
    pub(super) async fn hear(&mut self, event: Event) {
        self.decide(&event);
        match self {
            Self::Undecided(undecided) => undecided.refuse(&event, &unknown(&event)),
            Self::Allo(session) => session.hear(event).await,
            Self::Playground(session) => session.hear(event).await,
        }
    }

    /// Waits for the next push. No push is lost when it is dropped before it is ready.
    pub(super) async fn next(&mut self) -> Push {
        match self {
            Self::Undecided(_) => std::future::pending().await,
            Self::Allo(session) => Push::Allo(session.next().await),
            Self::Playground(session) => Push::Playground(session.next().await),
        }
    }

    /// Sends the event to the client.
    pub(super) async fn show(&mut self, push: Push) {
        match (self, push) {
            (Self::Allo(session), Push::Allo(push)) => session.show(push).await,
            (Self::Playground(session), Push::Playground(push)) => session.show(push).await,
            // A connection speaks one dialect.
            (_, Push::Allo(_) | Push::Playground(_)) => {}
        }
    }

    /// Answers an event that is not executed.
    pub(super) fn refuse(&self, event: &Event, fault: &Fault) {
        match self {
            Self::Undecided(undecided) => undecided.refuse(event, fault),
            Self::Allo(session) => session.refuse(event, fault),
            Self::Playground(session) => session.refuse(event, fault),
        }
    }

    /// True for an event that sends a message: messages have limits of their own.
    pub(super) fn is_send(&self, event: &Event) -> bool {
        event.name == "sendMessage"
    }

    /// True when the connection has no user and follows nothing.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Undecided(_) => true,
            Self::Allo(session) => session.is_idle(),
            Self::Playground(session) => session.is_idle(),
        }
    }

    fn decide(&mut self, event: &Event) {
        let Self::Undecided(undecided) = self else { return };
        let Undecided { dialects, realtime, client } = undecided.as_ref();
        let (dialects, realtime, client) = (dialects.clone(), realtime.clone(), client.clone());
        match spoken(event, dialects.backend.config()) {
            Some(Dialect::Allo) => {
                *self = Self::Allo(Box::new(allo::Session::new(dialects, realtime, client, None)));
            }
            Some(Dialect::Playground) => {
                *self = Self::Playground(Box::new(playground::Session::new(dialects, realtime, client)));
            }
            _ => {}
        }
    }
}

/// Returns the dialect to which an event belongs.
fn spoken(event: &Event, config: &DialectsConfig) -> Option<Dialect> {
    let is_allo = allo::has_event(&event.name) && Dialect::Allo.is_on(config);
    let is_playground =
        playground::EVENTS.contains(&event.name.as_str()) && Dialect::Playground.is_on(config);
    match (is_allo, is_playground) {
        // Both send messages: allo's name their conversation.
        (true, true) => match event.fields().is_ok_and(|fields| fields.get("conversationID").is_some()) {
            true => Some(Dialect::Allo),
            false => Some(Dialect::Playground),
        },
        (true, false) => Some(Dialect::Allo),
        (false, true) => Some(Dialect::Playground),
        (false, false) => None,
    }
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
