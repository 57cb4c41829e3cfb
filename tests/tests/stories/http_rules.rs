//! The rules of HTTP for every route: methods, encodings, tags, and bodies that mean one thing.

use std::sync::Arc;

use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tests::World;
use tests::person::text;

tests::stories![
    large_answers_are_compressed_and_those_to_posts_are_not,
    static_files_have_tags,
    a_compressed_body_is_refused_everywhere,
    a_key_that_is_given_twice_is_refused,
    every_route_says_which_methods_it_takes,
];

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
}

async fn large_answers_are_compressed_and_those_to_posts_are_not(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    for number in 0..4 {
        ann.says(&conversation, &format!("{number} {}", "long ".repeat(200))).await;
    }
    let client = Client::new();
    let page = format!("http://{}/v1/conversations/{conversation}/messages", world.gateway());
    let ask = |coding: &'static str| {
        client.get(&page).bearer_auth(&ann.token).header("accept-encoding", coding).send()
    };
    let plain = ask("identity").await.expect("an answer");
    assert_eq!(header(&plain, "content-encoding"), "");
    let plain = plain.bytes().await.expect("a body");
    let small = ask("gzip").await.expect("an answer");
    assert_eq!(
        (header(&small, "content-encoding"), header(&small, "content-type")),
        ("gzip", "application/json")
    );
    assert!(small.headers().get_all("vary").iter().any(|value| value == "accept-encoding"));
    let small = small.bytes().await.expect("a body");
    assert!(small.len() * 2 < plain.len(), "{} of {}", small.len(), plain.len());

    // An answer to POST may hold a secret beside words that another person chose.
    let long = json!({"content": {"text": "long ".repeat(400)}});
    let sent = client.post(&page).bearer_auth(&ann.token).header("accept-encoding", "gzip").json(&long);
    let sent = sent.send().await.expect("an answer");
    assert_eq!((sent.status().as_u16(), header(&sent, "content-encoding")), (200, ""));
}

async fn static_files_have_tags(world: Arc<World>) {
    let client = Client::new();
    for path in ["/openapi.json", "/docs/", "/docs/swagger-ui.css", "/socket.io/socket.io.js"] {
        let url = format!("http://{}{path}", world.gateway());
        let first = client.get(&url).header("accept-encoding", "gzip").send().await.expect("an answer");
        let tag = header(&first, "etag").to_owned();
        assert!(!tag.is_empty(), "{path}");
        // The page is too small to be compressed.
        assert_eq!(header(&first, "content-encoding"), if path == "/docs/" { "" } else { "gzip" }, "{path}");
        for known in [tag.clone(), format!("\"x\", {tag}"), "*".to_owned()] {
            let again = client.get(&url).header("if-none-match", &known).send().await.expect("an answer");
            assert_eq!(
                (again.status().as_u16(), header(&again, "etag")),
                (304, tag.as_str()),
                "{path} {known}"
            );
        }
        let other = client.get(&url).header("if-none-match", "\"x\"").send().await.expect("an answer");
        assert_eq!(other.status().as_u16(), 200, "{path}");
    }
}

async fn a_compressed_body_is_refused_everywhere(world: Arc<World>) {
    let client = Client::new();
    for path in ["/v1/auth/guest", "/chats", "/api/chat/react", "/users", "/talkamie/v1/auth/login"] {
        let url = format!("http://{}{path}", world.gateway());
        for coding in ["gzip", "br", "identity, gzip"] {
            let request = client.post(&url).header("content-encoding", coding).body("{}");
            let answer = request.header("content-type", "application/json").send().await.expect("an answer");
            assert_eq!(answer.status().as_u16(), 415, "{path} {coding}");
        }
    }
    let guest = client.post(format!("http://{}/v1/auth/guest", world.gateway()));
    let plain = guest.header("content-encoding", "identity").json(&json!({"displayName": "Gus"}));
    assert_eq!(plain.send().await.expect("an answer").status().as_u16(), 200);
}

async fn a_key_that_is_given_twice_is_refused(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let url = format!("http://{}/v1/conversations/{conversation}/messages", world.gateway());
    for (body, field) in [
        (r#"{"content":{"text":"a"},"clientMessageId":"1","client_message_id":"2"}"#, "client_message_id"),
        (r#"{"content":{"text":"a","text":"b"}}"#, "content.text"),
        (r#"{"content":{"text":"a"},"content":{"text":"b"}}"#, "content"),
    ] {
        let request =
            Client::new().post(&url).bearer_auth(&ann.token).header("content-type", "application/json");
        let answer = request.body(body).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 400, "{body}");
        let error: Value = answer.json().await.expect("JSON");
        assert_eq!(text(&error["fields"][0]["field"]), field, "{error}");
        assert_eq!(text(&error["fields"][0]["rule"]), "is given more than once");
    }
    assert!(ann.reads(&conversation).await.is_empty());

    let mut socket = ann.connects().await;
    let content = json!({"text": "a"});
    let send = json!({"conversationId": conversation, "clientMessageId": "1", "client_message_id": "2", "content": content});
    let error = socket.command(json!({"sendMessage": send})).await["error"].clone();
    assert_eq!(text(&error["fields"][0]["field"]), "send_message.client_message_id", "{error}");
    assert_eq!(text(&error["fields"][0]["rule"]), "is given more than once");
    assert!(ann.reads(&conversation).await.is_empty());
}

async fn every_route_says_which_methods_it_takes(world: Arc<World>) {
    let client = Client::new();
    let file = "/v1/uploads/01890a5d-ac96-774b-bcce-b302099a8057/content";
    for (path, method) in [
        ("/", "GET"),
        ("/openapi.json", "GET"),
        ("/docs/", "GET"),
        ("/v1/me", "PATCH"),
        ("/v1/events", "GET"),
        (file, "PUT"),
    ] {
        let url = format!("http://{}{path}", world.gateway());
        let question = client.request(Method::OPTIONS, &url).send().await.expect("an answer");
        let methods = header(&question, "allow").to_owned();
        assert_eq!(question.status().as_u16(), 204, "{path}");
        let refused = client.request(Method::TRACE, &url).send().await.expect("an answer");
        assert_eq!((refused.status().as_u16(), header(&refused, "allow")), (405, methods.as_str()), "{path}");
        let methods: Vec<&str> = methods.split(", ").flat_map(|part| part.split(',')).collect();
        assert!(methods.contains(&method) && methods.contains(&"OPTIONS"), "{path}: {methods:?}");
    }
}
