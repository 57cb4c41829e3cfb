//! Bad input: a clear error that names the field and the rule, nothing half done, never a 500.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::World;

tests::stories![
    every_broken_rule_names_its_field,
    what_shows_nothing_is_refused_by_the_name_of_its_field,
    what_is_not_json_or_not_there_is_said_plainly,
    oversized_things_are_refused,
    frames_that_make_no_sense_get_an_answer,
    without_a_token_nothing_is_shown,
    no_text_takes_nul,
];

async fn every_broken_rule_names_its_field(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let messages = format!("/v1/conversations/{conversation}/messages");
    let long = "x".repeat(20_000);
    let cases: Vec<(&str, String, Value, &str)> = vec![
        (
            "POST",
            "/v1/auth/register".into(),
            json!({ "username": "a", "password": "long enough" }),
            "username",
        ),
        (
            "POST",
            "/v1/auth/register".into(),
            json!({ "username": "a b c", "password": "long enough" }),
            "username",
        ),
        ("POST", "/v1/auth/register".into(), json!({ "username": "abc", "password": "short" }), "password"),
        (
            "POST",
            "/v1/auth/register".into(),
            json!({ "username": "abc", "password": "long enough", "email": "no" }),
            "email",
        ),
        ("POST", messages.clone(), json!({}), "content"),
        ("POST", messages.clone(), json!({ "content": {} }), "content"),
        ("POST", messages.clone(), json!({ "content": { "text": "" } }), "content.text"),
        ("POST", messages.clone(), json!({ "content": { "text": " \n " } }), "content.text"),
        ("POST", messages.clone(), json!({ "content": { "text": "a\u{0}b" } }), "content.text"),
        ("POST", messages.clone(), json!({ "content": { "text": long } }), "content.text"),
        (
            "POST",
            messages.clone(),
            json!({ "content": { "text": "x" }, "clientMessageId": "k".repeat(129) }),
            "client_message_id",
        ),
        (
            "POST",
            messages.clone(),
            json!({ "content": { "text": "x" }, "replyToMessageId": "no" }),
            "reply_to_message_id",
        ),
        ("POST", "/v1/messages".into(), json!({ "content": { "text": "x" } }), "target"),
        (
            "POST",
            "/v1/messages".into(),
            json!({ "userIds": {}, "content": { "text": "x" } }),
            "user_ids.user_ids",
        ),
        ("POST", "/v1/conversations".into(), json!({}), "kind"),
        ("POST", "/v1/conversations".into(), json!({ "kind": "CONVERSATION_KIND_DIRECT" }), "user_ids"),
        (
            "POST",
            "/v1/conversations".into(),
            json!({ "kind": "CONVERSATION_KIND_GROUP", "title": "t".repeat(129) }),
            "title",
        ),
        ("GET", format!("{messages}?pageSize=-1"), Value::Null, "page_size"),
        ("GET", format!("{messages}?pageToken=!!"), Value::Null, "page_token"),
        ("GET", "/v1/conversations/not-a-uuid/messages".into(), Value::Null, "conversation_id"),
        (
            "POST",
            "/v1/sync".into(),
            json!({ "heads": [{ "conversationId": "x" }] }),
            "heads[0].conversation_id",
        ),
        (
            "POST",
            format!("/v1/conversations/{conversation}/scheduled-messages"),
            json!({ "content": { "text": "x" } }),
            "send_time",
        ),
        (
            "POST",
            format!("/v1/conversations/{conversation}/scheduled-messages"),
            json!({ "content": { "text": "x" }, "sendTime": "2999-01-01T00:00:00Z" }),
            "send_time",
        ),
    ];
    for (method, path, body, field) in cases {
        let answer = if method == "GET" { ann.get(&path).await } else { ann.post(&path, body).await };
        let what = format!("{method} {path}");
        assert_eq!(answer.status, 400, "{what}: {}", answer.body);
        assert_eq!(answer.body["fields"][0]["field"], json!(field), "{what}: {}", answer.body);
        assert!(answer.body["fields"][0]["rule"].as_str().is_some_and(|rule| !rule.is_empty()), "{what}");
    }
    assert!(ann.reads(&conversation).await.is_empty());
}

async fn what_shows_nothing_is_refused_by_the_name_of_its_field(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let messages = format!("/v1/conversations/{conversation}/messages");
    // A zero-width space, a braille pattern without dots, a filler of Hangul.
    for nothing in ["\u{200b}", "\u{2800}", "\u{3164} \u{ffa0}"] {
        let text = json!({ "text": nothing });
        let poll = |question: &str, option: &str| json!({ "content": { "poll": { "question": question, "options": ["yes", option] } } });
        let media = json!({ "url": "https://media.example.org/a.ogg" });
        let voice = json!({ "content": { "voice": { "media": media, "caption": nothing } } });
        let profile = json!({ "user": { "displayName": nothing }, "updateMask": "displayName" });
        let registration = json!({ "username": format!("new-{}", ann.username), "password": "long enough", "displayName": nothing });
        let group = json!({ "kind": "CONVERSATION_KIND_GROUP", "title": nothing });
        let scheduled = json!({ "content": text, "sendTime": "2999-01-01T00:00:00Z" });
        let booking = json!({
            "title": nothing, "media": "SCHEDULE_MEDIA_VIDEO",
            "startTime": "2999-01-01T00:00:00Z", "endTime": "2999-01-01T00:30:00Z",
        });
        for (path, body, field) in [
            (messages.clone(), json!({ "content": text }), "content.text"),
            (messages.clone(), poll(nothing, "no"), "content.poll.question"),
            (messages.clone(), poll("Tea?", nothing), "content.poll.options[1]"),
            (messages.clone(), voice, "content.voice.caption"),
            ("/v1/conversations".to_owned(), group, "title"),
            ("/v1/auth/register".to_owned(), registration, "display_name"),
            (format!("/v1/users/{}/schedules", bob.id), booking, "title"),
        ] {
            let answer = ann.post(&path, body).await;
            assert_eq!(answer.status, 400, "{path}: {}", answer.body);
            let broken = &answer.body["fields"][0];
            assert_eq!(broken["field"], json!(field), "{path}: {}", answer.body);
            assert!(broken["rule"].as_str().is_some_and(|rule| rule.contains("can be seen")), "{broken}");
        }
        let review =
            ann.put(&format!("/v1/users/{}/review", bob.id), json!({ "rating": 5, "text": nothing })).await;
        assert_eq!(review.body["fields"][0]["field"], json!("text"), "{}", review.body);
        assert_eq!(ann.patch("/v1/me", profile).await.body["fields"][0]["field"], json!("user.display_name"));
        let path = format!("/v1/conversations/{conversation}/scheduled-messages");
        assert_eq!(ann.post(&path, scheduled).await.status, 400);
    }
    assert!(ann.reads(&conversation).await.is_empty());
}

async fn what_is_not_json_or_not_there_is_said_plainly(world: Arc<World>) {
    let ann = world.person("ann").await;
    let client = reqwest::Client::new();
    let url = |path: &str| format!("http://{}{path}", world.gateway());
    let post = |body: &'static str| {
        client
            .post(url("/v1/messages"))
            .bearer_auth(&ann.token)
            .header("content-type", "application/json")
            .body(body)
    };
    for body in ["", "{", "[]", "null", "{\"content\": 5}", "{\"unknownField\": 1}", "{\"userId\": {}}"] {
        let answer = post(body).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 400, "{body}");
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!(body["code"], json!("INVALID_ARGUMENT"), "{body}");
    }
    assert_eq!(ann.get("/v1/nothing-here").await.status, 404);
    assert_eq!(ann.put("/v1/messages", json!({})).await.status, 405);
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let answer = client
        .post(url("/v1/messages"))
        .bearer_auth(&ann.token)
        .header("content-type", "application/json")
        .body(deep)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status().as_u16(), 400);
}

async fn oversized_things_are_refused(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let huge = json!({ "content": { "text": "x".repeat(500_000) } });
    assert_eq!(ann.post(&format!("/v1/conversations/{conversation}/messages"), huge).await.status, 413);
    // More than fits a page is capped, not refused.
    ann.get(&format!("/v1/conversations/{conversation}/messages?pageSize=100000")).await.ok();
    let mut screen = ann.connects().await;
    screen.sends_raw(&format!("{{\"id\":\"1\",\"ping\":{{}},\"x\":\"{}\"}}", "x".repeat(600_000))).await;
    assert_eq!(screen.expects_close().await.code, 1009);
}

async fn frames_that_make_no_sense_get_an_answer(world: Arc<World>) {
    let ann = world.person("ann").await;
    let mut screen = ann.connects().await;
    let unknown = proto::id::ConversationId::generate().to_string();
    let cases = [
        (json!({ "sendMessage": {} }), 400, "ERROR_REASON_INVALID_FIELD"),
        (
            json!({ "sendMessage": { "conversationId": unknown, "content": { "text": "x" } } }),
            404,
            "ERROR_REASON_CONVERSATION_NOT_FOUND",
        ),
        (json!({ "advanceWatermark": { "conversationId": "x" } }), 400, "ERROR_REASON_INVALID_FIELD"),
        (
            json!({ "call": { "method": "parlor.auth.v1.AuthService/Introspect", "request": {} } }),
            400,
            "ERROR_REASON_INVALID_FIELD",
        ),
    ];
    for (command, status, reason) in cases {
        let answer = screen.command(command.clone()).await;
        assert_eq!(answer["error"]["status"], json!(status), "{command}: {answer}");
        assert_eq!(answer["error"]["reason"], json!(reason), "{command}: {answer}");
    }
    let pong = screen.command(json!({ "ping": {} })).await;
    assert!(pong.get("pong").is_some(), "{pong}");
    let me = screen.command(json!({ "call": { "method": "parlor.auth.v1.UserService/GetMe" } })).await;
    assert_eq!(me["callReply"]["response"]["user"]["userId"], json!(ann.id));
    screen.sends_raw("this is not JSON").await;
    assert_eq!(screen.expects_close().await.code, 4400);
}

async fn without_a_token_nothing_is_shown(world: Arc<World>) {
    let ann = world.person("ann").await;
    let stranger = ann.with_token("");
    for path in
        ["/v1/me", "/v1/inbox", "/v1/conversations", "/v1/unread", "/v1/sessions", "/v1/scheduled-messages"]
    {
        assert_eq!(stranger.get(path).await.refused(401), "ERROR_REASON_UNAUTHENTICATED", "{path}");
    }
    // What is for services is not there for anybody over HTTP.
    assert_eq!(
        ann.post("/parlor.auth.v1.AuthService/Introspect", json!({ "sessionToken": "x" })).await.status,
        404
    );
}

async fn no_text_takes_nul(world: Arc<World>) {
    let ann = world.person("ann").await;
    let searches = [
        ("/v1/schedules?keyword", "keyword"),
        ("/v1/users?keyword", "keyword"),
        ("/v1/connections?keyword", "keyword"),
        ("/v1/calls?keyword", "keyword"),
        ("/v1/interests?keyword", "keyword"),
        ("/v1/inbox?keyword", "keyword"),
        ("/v1/schedules?pageToken", "page_token"),
    ];
    for (path, field) in searches {
        let answer = ann.get(&format!("{path}=a%00b")).await;
        assert_eq!(answer.body["fields"][0]["field"], json!(field), "{path}: {}", answer.body);
        assert_eq!(answer.refused(400), "ERROR_REASON_INVALID_FIELD");
    }
    let me = json!({ "user": { "displayName": "a\u{0}b" }, "updateMask": "displayName" });
    assert_eq!(ann.patch("/v1/me", me).await.refused(400), "ERROR_REASON_INVALID_FIELD");
}
