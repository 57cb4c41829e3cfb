//! Clients of Socket.IO, as the library `socket.io-client` speaks it. They run in one script of Node.js per story.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::node::Script;

/// The connections of one story, by name.
#[derive(Debug)]
pub struct SocketIo {
    script: Script,
    /// What has been said for a connection while the story waited for another one.
    kept: Vec<Value>,
}

impl SocketIo {
    /// Starts the script.
    pub fn start(gateway: SocketAddr) -> Self {
        Self { script: Script::start("socketio", gateway, &[]), kept: Vec::new() }
    }

    /// Begins to connect; the options are those of the library.
    pub async fn connects(&mut self, name: &str, options: Value) {
        self.script.hears(&json!({ "do": "connect", "as": name, "options": options })).await;
    }

    /// Connects by WebSocket and waits until the connection is there.
    pub async fn is_connected(&mut self, name: &str) {
        self.connects(name, json!({ "transports": ["websocket"] })).await;
        self.hears(name, "connect").await;
    }

    /// Sends an event.
    pub async fn emits(&mut self, name: &str, event: &str, body: Value) {
        self.script.hears(&json!({ "do": "emit", "as": name, "event": event, "args": [body] })).await;
    }

    /// Sends an event with any arguments.
    pub async fn emits_all(&mut self, name: &str, event: &str, args: &[Value]) {
        self.script.hears(&json!({ "do": "emit", "as": name, "event": event, "args": args })).await;
    }

    /// Sends an event and waits for its answer.
    pub async fn asks(&mut self, name: &str, event: &str, body: Value) -> Value {
        self.script.hears(&json!({ "do": "ask", "as": name, "event": event, "args": [body] })).await;
        let answer = |line: &Value| line["as"] == name && line["answer"].is_array();
        self.line(&format!("an answer to {event} for {name}"), answer).await["answer"][0].take()
    }

    /// Closes a connection.
    pub async fn closes(&mut self, name: &str) {
        self.script.hears(&json!({ "do": "close", "as": name })).await;
    }

    /// The first argument of the next event with this name; what comes before it is kept.
    pub async fn hears(&mut self, name: &str, event: &str) -> Value {
        self.hears_when(name, event, |_| true).await
    }

    /// The first argument of the next event with this name for which a condition holds; what comes before it is kept.
    pub async fn hears_when(&mut self, name: &str, event: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let wanted = |line: &Value| line["as"] == name && line["event"] == event && holds(&line["args"][0]);
        self.line(&format!("{event} for {name}"), wanted).await["args"][0].take()
    }

    /// Everything that a connection has heard so far and the story has not waited for, by name of the event.
    pub async fn has_heard(&mut self, name: &str) -> Vec<String> {
        // What was said before this answer has been heard.
        self.asks(name, "nothing of the kind", json!({})).await;
        let heard = self.kept.iter().filter(|line| line["as"] == name);
        heard.filter_map(|line| line["event"].as_str().map(str::to_owned)).collect()
    }

    /// Forgets what a connection has heard so far.
    pub fn forgets(&mut self, name: &str) {
        self.kept.retain(|line| line["as"] != name);
    }

    async fn line(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.kept.iter().position(&holds) {
            return self.kept.remove(at);
        }
        loop {
            let Some(line) = self.script.says_in_time().await else {
                panic!("{what} does not come; what came besides: {:?}", self.kept)
            };
            if holds(&line) {
                return line;
            }
            self.kept.push(line);
        }
    }
}
