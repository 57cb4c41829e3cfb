//! Server-sent events: the socket's twin for those who only listen.

use std::sync::Arc;

use futures_util::StreamExt;
use serde_json::Value;
use tests::{Person, World};

tests::stories![events_stream_to_a_plain_http_client, a_stream_goes_on_after_the_last_event_id];

/// The id, the kind and the data of one server-sent event.
type Sent = (String, String, Value);

struct Stream {
    body: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<Vec<u8>>> + Send>>,
    buffer: String,
}

impl Stream {
    async fn open(world: &World, person: &Person, last_event_id: Option<&str>) -> Self {
        let client = reqwest::Client::new();
        let mut request =
            client.get(format!("http://{}/v1/events", world.gateway())).bearer_auth(&person.token);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 200);
        let body = Box::pin(answer.bytes_stream().map(|chunk| chunk.map(|bytes| bytes.to_vec())));
        Self { body, buffer: String::new() }
    }

    async fn next(&mut self) -> Sent {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let field = |name: &str| {
                    let lines = block.lines().filter_map(|line| line.strip_prefix(name));
                    lines.map(|value| value.trim_start_matches([':', ' '])).collect::<String>()
                };
                let sent = (
                    field("id"),
                    field("event"),
                    serde_json::from_str(&field("data")).unwrap_or(Value::Null),
                );
                self.buffer = rest.to_owned();
                if !sent.1.is_empty() {
                    return sent;
                }
                continue;
            }
            let chunk = tests::waiting::within("a server-sent event", self.body.next()).await;
            self.buffer.push_str(&String::from_utf8_lossy(&chunk.expect("an open stream").expect("a chunk")));
        }
    }

    async fn expects_message(&mut self, words: &str) -> String {
        loop {
            let (id, _, data) = self.next().await;
            if data.to_string().contains(&format!("\"{words}\"")) {
                return id;
            }
        }
    }

    async fn catches_up(&mut self) -> String {
        loop {
            let (id, kind, _) = self.next().await;
            if kind == "caught_up" {
                return id;
            }
        }
    }
}

async fn events_stream_to_a_plain_http_client(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut stream = Stream::open(&world, &bob, None).await;
    stream.catches_up().await;
    ann.says(&conversation, "over SSE").await;
    stream.expects_message("over SSE").await;
}

async fn a_stream_goes_on_after_the_last_event_id(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut stream = Stream::open(&world, &bob, None).await;
    stream.catches_up().await;
    ann.says(&conversation, "first").await;
    let id = stream.expects_message("first").await;
    drop(stream);
    ann.says(&conversation, "second").await;
    ann.says(&conversation, "third").await;
    let mut stream = Stream::open(&world, &bob, Some(&id)).await;
    loop {
        let (_, kind, data) = stream.next().await;
        assert!(!data.to_string().contains("first"), "{data}");
        if kind == "event" {
            assert!(data.to_string().contains("second"), "{data}");
            break;
        }
    }
    stream.expects_message("third").await;
}
