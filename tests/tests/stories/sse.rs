//! Server-sent events: the socket's twin for those who only listen.

use std::sync::Arc;

use tests::sse::{EventStream, Sent};
use tests::waiting::within;
use tests::{Person, World};

tests::stories![events_stream_to_a_plain_http_client, a_stream_goes_on_after_the_last_event_id];

struct Stream(EventStream);

impl Stream {
    async fn open(world: &World, person: &Person, last_event_id: Option<&str>) -> Self {
        let opening = EventStream::try_open(world.gateway(), &person.token, last_event_id);
        Self(opening.await.expect("an open stream"))
    }

    async fn next(&mut self) -> Sent {
        within("a server-sent event", self.0.next()).await.expect("an open stream")
    }

    async fn expects_message(&mut self, words: &str) -> String {
        loop {
            let Sent { id, data, .. } = self.next().await;
            if data.to_string().contains(&format!("\"{words}\"")) {
                return id;
            }
        }
    }

    async fn catches_up(&mut self) -> String {
        loop {
            let Sent { id, kind, .. } = self.next().await;
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
        let Sent { kind, data, .. } = stream.next().await;
        assert!(!data.to_string().contains("first"), "{data}");
        if kind == "event" {
            assert!(data.to_string().contains("second"), "{data}");
            break;
        }
    }
    stream.expects_message("third").await;
}
