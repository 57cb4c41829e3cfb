//! Server-sent events: the socket's twin for those who only listen.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tests::person::{PASSWORD, text};
use tests::sse::{EventStream, Sent};
use tests::waiting::within;
use tests::{Person, World};

tests::stories![
    events_stream_to_a_plain_http_client,
    a_stream_goes_on_after_the_last_event_id,
    ids_of_events_are_short_with_many_conversations,
    a_ticket_in_an_address_is_worth_nothing_after_its_first_use,
];

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

/// The text of a message.
fn says(frame: &Value) -> Option<String> {
    frame["event"]["messageCreated"]["content"]["text"].as_str().map(ToOwned::to_owned)
}

async fn ids_of_events_are_short_with_many_conversations(world: Arc<World>) {
    const MANY: usize = 300;
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let others = [&bob];
    let starting = stream::iter(0..MANY).map(|_| ann.starts_group_with(&others));
    let conversations: Vec<String> = starting.buffered(8).collect().await;

    let mut stream = Stream::open(&world, &bob, None).await;
    let mut last = stream.catches_up().await;
    for (n, conversation) in conversations[..200].iter().enumerate() {
        ann.says(conversation, &format!("seen {n}")).await;
        last = stream.expects_message(&format!("seen {n}")).await;
        assert!(!last.is_empty() && last.len() < 2_000, "{}", last.len());
    }
    drop(stream);

    let mut missed = Vec::new();
    let new = ann.starts_group_with(&[&bob]).await;
    // Some that were busy long ago, lately, and never; and one that was not there.
    for conversation in [&conversations[0], &conversations[199], &conversations[250], &conversations[0], &new]
    {
        missed.push(format!("missed {}", missed.len()));
        ann.says(conversation, &missed[missed.len() - 1]).await;
    }
    let mut stream = Stream::open(&world, &bob, Some(&last)).await;
    let mut got = Vec::new();
    while got.len() < missed.len() {
        let Sent { id, data, .. } = stream.next().await;
        assert!(id.len() < 2_000, "{}", id.len());
        got.extend(says(&data));
    }
    got.sort();
    assert_eq!(got, missed);
    ann.says(&conversations[299], "live").await;
    loop {
        let Sent { data, .. } = stream.next().await;
        if let Some(said) = says(&data) {
            assert_eq!(said, "live", "nothing comes twice");
            break;
        }
    }
}

async fn a_ticket_in_an_address_is_worth_nothing_after_its_first_use(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let login = json!({ "login": bob.username, "password": PASSWORD });
    let grant = bob.post("/v1/auth/login", login).await.ok()["grant"].clone();
    let page = bob.with_token(&text(&grant["sessionToken"]));
    let ticket = text(&page.post("/v1/events/tickets", json!({})).await.ok()["ticket"]);
    let gateways = world.gateways();
    let (here, elsewhere) = (gateways[0], gateways[gateways.len() - 1]);
    let open =
        async |gateway, last: Option<&str>| EventStream::try_open_with_ticket(gateway, &ticket, last).await;
    let refused = async |gateway, last: Option<&str>| match open(gateway, last).await {
        Ok(_) => false,
        Err(error) => error.to_string().starts_with("401"),
    };

    // No other path takes it.
    for path in ["/v1/me", "/v1/inbox", "/v1/me/events"] {
        let address = format!("{path}?ticket={ticket}");
        let answer = tests::http::ask_foreign(here, reqwest::Method::GET, &address, &[], None).await;
        assert!(matches!(answer.status, 400 | 401), "{path}");
        assert_eq!(bob.with_token(&ticket).get(path).await.status, 401);
    }

    let mut first = Stream(open(here, None).await.expect("the first use"));
    let greeting = within("an id", first.0.next_block()).await.expect("an open stream").id;
    assert!(!greeting.is_empty());
    first.catches_up().await;
    ann.says(&conversation, "seen").await;
    let last = first.expects_message("seen").await;
    // The address alone, or with the id of another stream, is worth nothing on any gateway, also while the stream lives.
    let others = Stream::open(&world, &bob, None).await.catches_up().await;
    for gateway in &gateways {
        for shown in [None, Some("x!"), Some(others.as_str())] {
            assert!(refused(*gateway, shown).await, "{shown:?}");
        }
    }
    drop(first);

    ann.says(&conversation, "missed").await;
    let mut again = Stream(open(elsewhere, Some(&last)).await.expect("a reconnect"));
    loop {
        let Sent { kind, data, .. } = again.next().await;
        if kind == "event" {
            assert_eq!(says(&data).as_deref(), Some("missed"));
            break;
        }
    }
    open(here, Some(&greeting)).await.expect("a reconnect before the first event");

    page.post("/v1/auth/logout", json!({})).await.ok();
    within("the end of the stream", async { while again.0.next().await.is_ok() {} }).await;
    for gateway in &gateways {
        assert!(refused(*gateway, Some(&last)).await);
    }
}
