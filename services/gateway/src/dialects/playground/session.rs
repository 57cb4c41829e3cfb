//! One connection of Socket.IO.

use chassis::fault::Fault;
use serde_json::json;

use crate::dialects::Dialects;
use crate::dialects::socketio::{Client, Event};
use crate::realtime::Realtime;

/// The events that clients send.
pub(crate) const EVENTS: [&str; 4] = ["login", "logout", "join", "sendMessage"];

/// One connection.
pub(crate) struct Session {
    client: Client,
}

/// What has happened for a connection.
pub(crate) enum Push {}

impl Session {
    pub(crate) fn new(_: Dialects, _: Realtime, client: Client) -> Self {
        Self { client }
    }

    /// Carries out an event.
    pub(crate) async fn hear(&mut self, event: Event) {
        if let Err(fault) = self.carry_out(&event).await {
            self.refuse(&event, &fault);
        }
    }

    async fn carry_out(&mut self, event: &Event) -> Result<(), Fault> {
        let fields = event.fields()?;
        match event.name.as_str() {
            "sendMessage" => {
                let text = fields.required("text")?;
                match text.strip_prefix("!echo ") {
                    Some(rest) => {
                        self.client.emit("system", &json!({"type": "info", "text": rest}));
                        self.client.answer(event, &json!({"success": true}));
                        Ok(())
                    }
                    None => Err(Fault::invalid("text", "is sent in no room: join one first")),
                }
            }
            name => Err(Fault::invalid("event", format!("there is no event `{name}`"))),
        }
    }

    /// Waits for what happens next.
    pub(crate) async fn next(&mut self) -> Push {
        std::future::pending().await
    }

    /// Tells the client what has happened.
    pub(crate) async fn show(&mut self, push: Push) {
        match push {}
    }

    /// Answers an event that is not carried out.
    pub(crate) fn refuse(&self, event: &Event, fault: &Fault) {
        self.client.emit("system", &json!({"type": "error", "text": fault.text()}));
        self.client.answer(event, &json!({"error": fault.text()}));
    }

    /// True when the connection is nobody's and follows nothing.
    pub(crate) fn is_idle(&self) -> bool {
        true
    }
}
