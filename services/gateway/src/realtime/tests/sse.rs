//! Tests of the stream of events as a client sees it.

use serde_json::{Value, json};

use super::world::{A_WHILE, SOON, World, sequence, sequences};

/// The events of an SSE stream.
pub(super) struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    pub(super) async fn open(world: &World, token: &str, query: &str, last: Option<&str>) -> Self {
        let response = ask(world, Some(token), query, last).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next block of lines.
    async fn block(&mut self) -> Vec<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.lines().map(str::to_owned).collect(), rest.to_owned());
                self.text = rest;
                return block;
            }
            let chunk = tokio::time::timeout(SOON, self.response.chunk()).await.expect("a chunk soon");
            let chunk = chunk.expect("a chunk").expect("an open stream");
            self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    /// The next event: its kind, its data, and its id.
    pub(super) async fn next(&mut self) -> (String, Value, Option<String>) {
        loop {
            let block = self.block().await;
            if let (Some(kind), Some(data)) = (field(&block, "event"), field(&block, "data")) {
                return (kind, serde_json::from_str(&data).expect("json"), field(&block, "id"));
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

    /// Ends soon; what comes before is not looked at.
    async fn ends(mut self) {
        let ended = async { while let Ok(Some(_)) = self.response.chunk().await {} };
        tokio::time::timeout(SOON, ended).await.expect("an end soon");
    }
}

async fn ask(world: &World, token: Option<&str>, query: &str, last: Option<&str>) -> reqwest::Response {
    let mut request = reqwest::Client::new().get(format!("http://{}/v1/events{query}", world.address));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    request.send().await.expect("an answer")
}

fn field(block: &[String], name: &str) -> Option<String> {
    block.iter().find_map(|line| line.strip_prefix(&format!("{name}: "))).map(str::to_owned)
}

/// The text of an event.
fn says(frame: &Value) -> Option<String> {
    frame["event"]["messageCreated"]["content"]["text"].as_str().map(str::to_owned)
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
            // Conversations that the user joined meanwhile are followed from there, at the latest after the stream has
            // caught up.
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

#[tokio::test]
async fn the_id_of_an_event_is_short_however_many_conversations_there_are() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let conversations: Vec<_> = (0..300).map(|_| world.backend.conversation(&[ann.id, bob.id])).collect();
    let mut stream = Stream::open(&world, &bob.token, "", None).await;
    let mut ids = Vec::from_iter(stream.until("caught_up").await.1);
    for (n, conversation) in conversations[..200].iter().enumerate() {
        world.backend.says(*conversation, ann.id, &n.to_string());
        let (_, data, id) = stream.next().await;
        assert_eq!(says(&data), Some(n.to_string()));
        ids.extend(id);
    }
    assert_eq!(ids.len(), 201);
    let longest = ids.iter().map(String::len).max().expect("ids");
    assert!(longest <= 1_500, "{longest}");
    assert!(world.backend.facts().asked["CreateStreamCheckpoint"] > 1, "more than the first");
    drop(stream);

    // Any of the ids is good, also one that stands on an older checkpoint.
    for (id, known) in [(&ids[200], 200), (&ids[130], 130), (&ids[0], 0)] {
        for (n, place) in [0, 150, 299].into_iter().enumerate() {
            world.backend.says(conversations[place], ann.id, &format!("missed {known} {n}"));
        }
        let (missed, _) = Stream::open(&world, &bob.token, "", Some(id)).await.until("caught_up").await;
        let mut missed: Vec<_> = missed.iter().filter_map(says).collect();
        missed.retain(|text| text.parse::<usize>().is_ok() || text.starts_with(&format!("missed {known} ")));
        missed.sort();
        let since = (known..200).map(|n| n.to_string());
        let mut expected: Vec<_> = since.chain((0..3).map(|n| format!("missed {known} {n}"))).collect();
        expected.sort();
        assert_eq!(missed, expected);
    }
}

#[tokio::test]
async fn a_stream_of_few_conversations_needs_no_checkpoint() {
    let world = World::start().await;
    let ann = world.person();
    for _ in 0..64 {
        world.backend.conversation(&[ann.id]);
    }
    let mut stream = Stream::open(&world, &ann.token, "", None).await;
    let (_, id) = stream.until("caught_up").await;
    drop(stream);
    Stream::open(&world, &ann.token, "", id.as_deref()).await.until("caught_up").await;
    assert!(!world.backend.facts().asked.contains_key("CreateStreamCheckpoint"));
}

#[tokio::test]
async fn a_stream_goes_on_when_its_positions_are_kept_and_ends_with_its_session() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    for _ in 0..200 {
        world.backend.conversation(&[ann.id, bob.id]);
    }
    world.backend.facts().keep_no_checkpoints = true;
    let [mut anns, mut bobs] =
        [Stream::open(&world, &ann.token, "", None).await, Stream::open(&world, &bob.token, "", None).await];
    anns.until("subscribed").await;
    bobs.until("subscribed").await;
    assert!(tokio::time::timeout(A_WHILE, anns.next()).await.is_err(), "no id can be short yet");
    world.backend.signs_out(&ann);
    anns.ends().await;
    world.backend.facts().keep_no_checkpoints = false;
    let (_, id) = bobs.until("caught_up").await;
    assert!(id.expect("an id").len() <= 1_500);
}

#[tokio::test]
async fn a_stream_whose_checkpoint_is_gone_begins_anew() {
    let world = World::start().await;
    let ann = world.person();
    let conversations: Vec<_> = (0..100).map(|_| world.backend.conversation(&[ann.id])).collect();
    let (_, id) = Stream::open(&world, &ann.token, "", None).await.until("caught_up").await;
    // Another user cannot use it either.
    let eve = world.person();
    for person in [&eve, &ann] {
        if person.id == ann.id {
            world.backend.facts().checkpoints.clear();
        }
        let mut stream = Stream::open(&world, &person.token, "", id.as_deref()).await;
        let (first, data, _) = stream.next().await;
        assert_eq!((first.as_str(), &data["subscribed"]["fullSyncRequired"]), ("subscribed", &json!(true)));
        stream.until("caught_up").await;
        if person.id == ann.id {
            world.backend.says(conversations[50], ann.id, "x");
            assert_eq!(says(&stream.next().await.1), Some("x".to_owned()));
        }
    }
}

#[tokio::test]
async fn a_ticket_opens_one_stream_and_its_reconnects() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let conversation = world.backend.conversation(&[ann.id, bob.id]);
    let (_, bearers) = Stream::open(&world, &bob.token, "", None).await.until("caught_up").await;
    world.backend.facts().tickets.insert("bobs".to_owned(), (bob.token.clone(), None));
    let status = async |token: Option<&str>, query: &str, last: Option<&str>| {
        ask(&world, token, query, last).await.status().as_u16()
    };
    assert_eq!(status(None, "?ticket=other", None).await, 401);
    assert_eq!(status(Some(&bob.token), "?ticket=bobs", None).await, 400);

    let opened = ask(&world, None, "?ticket=bobs", None).await;
    assert_eq!(opened.status(), 200);
    let mut stream = Stream { response: opened, text: String::new() };
    let greeting = field(&stream.block().await, "id").expect("an id at once");
    stream.until("caught_up").await;
    world.backend.says(conversation, ann.id, "seen");
    let (_, data, id) = stream.next().await;
    assert_eq!(says(&data), Some("seen".to_owned()));
    drop(stream);

    for last in [None, Some("x!"), bearers.as_deref()] {
        assert_eq!(status(None, "?ticket=bobs", last).await, 401, "{last:?}");
    }
    world.backend.says(conversation, ann.id, "missed");
    for (last, expected) in [(id, vec!["missed".to_owned()]), (Some(greeting), Vec::new())] {
        let response = ask(&world, None, "?ticket=bobs", last.as_deref()).await;
        let mut stream = Stream { response, text: String::new() };
        let (missed, _) = stream.until("caught_up").await;
        assert_eq!(missed.iter().filter_map(says).collect::<Vec<_>>(), expected);
        if expected.is_empty() {
            world.backend.signs_out(&bob);
            stream.ends().await;
        }
    }
}
