//! What a client sees of the stream of events.

use serde_json::{Value, json};

use super::world::{SOON, World, sequence, sequences};

/// The events of an SSE stream.
pub(super) struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    pub(super) async fn open(world: &World, token: &str, query: &str, last: Option<&str>) -> Self {
        let url = format!("http://{}/v1/events{query}", world.address);
        let mut request = reqwest::Client::new().get(url).bearer_auth(token);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event: its kind, its data, and its id.
    pub(super) async fn next(&mut self) -> (String, Value, Option<String>) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).map(str::to_owned)
                };
                if let (Some(kind), Some(data)) = (field("event"), field("data")) {
                    return (kind, serde_json::from_str(&data).expect("json"), field("id"));
                }
            } else {
                let chunk = tokio::time::timeout(SOON, self.response.chunk()).await.expect("a chunk soon");
                let chunk = chunk.expect("a chunk").expect("an open stream");
                self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
            }
        }
    }

    pub(super) async fn until(&mut self, kind: &str) -> (Vec<Value>, Option<String>) {
        let mut seen = Vec::new();
        loop {
            let (next, data, id) = self.next().await;
            seen.push(data);
            if next == kind {
                return (seen, id);
            }
        }
    }
}

#[tokio::test]
async fn a_stream_of_events_goes_on_where_it_broke_off() {
    for named in [true, false] {
        let world = World::start().await;
        let (ann, bob) = (world.person(), world.person());
        let one = world.backend.conversation(&[ann.id, bob.id]);
        let other = world.backend.conversation(&[ann.id, bob.id]);
        let query =
            if named { format!("?conversation_id={one}&conversation_id={other}") } else { String::new() };
        let mut stream = Stream::open(&world, &bob.token, &query, None).await;
        stream.until("caught_up").await;
        world.backend.says(one, ann.id, "seen");
        let (kind, data, id) = stream.next().await;
        assert_eq!((kind.as_str(), sequence(&data)), ("event", Some(2)));
        drop(stream);

        world.backend.says(one, ann.id, "missed");
        world.backend.says(other, ann.id, "missed");
        let new = world.backend.conversation(&[ann.id, bob.id]);
        world.backend.says(new, ann.id, "missed");
        let mut stream = Stream::open(&world, &bob.token, &query, id.as_deref()).await;
        let (missed, id) = stream.until("caught_up").await;
        let mut missed = sequences(&missed);
        missed.sort_unstable();
        if named {
            assert_eq!(missed, [2, 3]);
        } else {
            // What the user came into meanwhile is followed from there, at the latest after it has caught up.
            while missed.len() < 4 {
                missed.extend(sequence(&stream.next().await.1));
            }
            missed.sort_unstable();
            assert_eq!(missed, [1, 2, 2, 3]);
        }
        world.backend.says(other, ann.id, "live");
        let (_, data, _) = stream.next().await;
        assert_eq!(sequence(&data), Some(3));

        // Nothing missed, nothing told again.
        drop(stream);
        if named {
            let mut stream = Stream::open(&world, &bob.token, &query, id.as_deref()).await;
            let (missed, _) = stream.until("caught_up").await;
            assert_eq!(sequences(&missed), [3]);
        }
    }
}

#[tokio::test]
async fn a_stream_of_another_epoch_begins_anew() {
    let world = World::start().await;
    let ann = world.person();
    let conversation = world.backend.conversation(&[ann.id]);
    let query = format!("?conversation_id={conversation}");
    let mut stream = Stream::open(&world, &ann.token, &query, None).await;
    let (_, id) = stream.until("caught_up").await;
    drop(stream);
    world.backend.begins_a_new_epoch();
    let mut stream = Stream::open(&world, &ann.token, &query, id.as_deref()).await;
    let (first, data, _) = stream.next().await;
    assert_eq!((first.as_str(), &data["subscribed"]["fullSyncRequired"]), ("subscribed", &json!(true)));
    stream.until("caught_up").await;
    world.backend.says(conversation, ann.id, "x");
    assert_eq!(sequence(&stream.next().await.1), Some(2));
}

#[tokio::test]
async fn a_stream_needs_a_token_and_ends_with_the_session() {
    let world = World::start().await;
    let ann = world.person();
    let url = format!("http://{}/v1/events", world.address);
    assert_eq!(reqwest::get(&url).await.expect("an answer").status(), 401);
    let wrong = reqwest::Client::new().get(&url).bearer_auth(&ann.token).header("last-event-id", "x!").send();
    assert_eq!(wrong.await.expect("an answer").status(), 400);

    let mut stream = Stream::open(&world, &ann.token, "", None).await;
    stream.until("caught_up").await;
    world.backend.signs_out(&ann);
    let ended = tokio::time::timeout(SOON, stream.response.chunk()).await.expect("soon");
    assert!(matches!(ended, Ok(None)));
}
