//! Server-sent events as a plain HTTP client reads them.

use std::net::SocketAddr;
use std::pin::Pin;

use anyhow::Context;
use futures_util::{Stream, StreamExt};
use serde_json::Value;

/// One server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// Where the stream has come with it: what to send as `last-event-id` to go on after it.
    pub id: String,
    /// What kind of frame it is.
    pub kind: String,
    /// The frame.
    pub data: Value,
}

/// An open stream of events.
pub struct EventStream {
    body: Pin<Box<dyn Stream<Item = reqwest::Result<Vec<u8>>> + Send>>,
    buffer: String,
}

impl EventStream {
    /// Opens it, after this event when one is named.
    pub async fn try_open(
        gateway: SocketAddr,
        token: &str,
        last_event_id: Option<&str>,
    ) -> anyhow::Result<Self> {
        let request = reqwest::Client::new().get(format!("http://{gateway}/v1/events")).bearer_auth(token);
        Self::send(request, last_event_id).await
    }

    /// Opens it with a ticket in the address, as the `EventSource` of a browser does.
    pub async fn try_open_with_ticket(
        gateway: SocketAddr,
        ticket: &str,
        last_event_id: Option<&str>,
    ) -> anyhow::Result<Self> {
        let request = reqwest::Client::new().get(format!("http://{gateway}/v1/events?ticket={ticket}"));
        Self::send(request, last_event_id).await
    }

    async fn send(mut request: reqwest::RequestBuilder, last_event_id: Option<&str>) -> anyhow::Result<Self> {
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let answer = request.send().await?;
        anyhow::ensure!(answer.status().as_u16() == 200, "{}: {}", answer.status(), answer.text().await?);
        let body = Box::pin(answer.bytes_stream().map(|chunk| chunk.map(|bytes| bytes.to_vec())));
        Ok(Self { body, buffer: String::new() })
    }

    /// The next event. Fails when the stream has ended.
    pub async fn next(&mut self) -> anyhow::Result<Sent> {
        loop {
            let sent = self.next_block().await?;
            if !sent.kind.is_empty() {
                return Ok(sent);
            }
        }
    }

    /// The next block, which is an event only when it has a kind. Fails when the stream has ended.
    pub async fn next_block(&mut self) -> anyhow::Result<Sent> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let field = |name: &str| {
                    let lines = block.lines().filter_map(|line| line.strip_prefix(name));
                    lines.map(|value| value.trim_start_matches([':', ' '])).collect::<String>()
                };
                let data = serde_json::from_str(&field("data")).unwrap_or(Value::Null);
                let sent = Sent { id: field("id"), kind: field("event"), data };
                self.buffer = rest.to_owned();
                return Ok(sent);
            }
            let chunk = self.body.next().await.context("the stream has ended")??;
            self.buffer.push_str(&String::from_utf8_lossy(&chunk));
        }
    }
}
