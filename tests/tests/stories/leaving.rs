//! Taking everything along, and going for good.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tests::person::{PASSWORD, array, path_of, text};
use tests::waiting::{from_now, until};
use tests::{Person, World};

tests::stories![
    everything_about_oneself_is_one_archive,
    who_goes_is_gone_everywhere,
    nobody_writes_to_one_who_is_gone,
];

/// The files of somebody's archive, by their path.
async fn exports(person: &Person) -> BTreeMap<String, Vec<u8>> {
    let fetched = person.fetches_signed_in("/v1/me/export").await;
    assert_eq!((fetched.status, fetched.header("content-type")), (200, "application/zip"));
    let mut archive = zip::ZipArchive::new(Cursor::new(fetched.bytes)).expect("an archive");
    let mut files = BTreeMap::new();
    for place in 0..archive.len() {
        let mut file = archive.by_index(place).expect("a file");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("bytes");
        files.insert(file.name().expect("a name").into_owned(), bytes);
    }
    files
}

/// The lines of a file of the archive.
fn lines(files: &BTreeMap<String, Vec<u8>>, path: &str) -> Vec<Value> {
    let bytes = files.get(path).unwrap_or_else(|| panic!("no {path} in {:?}", files.keys()));
    let text = std::str::from_utf8(bytes).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

/// Ann's life so far: she knows Bob, has written, reacted, booked and reviewed.
async fn a_life(ann: &Person, bob: &Person) -> (String, Value) {
    ann.befriends(bob).await;
    let conversation = ann.starts_direct_with(bob).await;
    let message = ann.says(&conversation, "a word of mine").await;
    let theirs = bob.says(&conversation, "a word of his").await;
    ann.put(&format!("{}/reactions/%F0%9F%91%8D", path_of(&theirs)), json!({})).await.ok();
    until("the two to know each other", || async {
        let answer =
            ann.put(&format!("/v1/users/{}/review", bob.id), json!({ "rating": 2, "text": "hm" })).await;
        (answer.status == 200).then_some(())
    })
    .await;
    let booking = json!({
        "title": "a talk", "media": "SCHEDULE_MEDIA_AUDIO",
        "startTime": from_now(Duration::from_secs(80_000)), "endTime": from_now(Duration::from_secs(83_000)),
    });
    ann.post(&format!("/v1/users/{}/schedules", bob.id), booking).await.ok();
    let later =
        json!({ "content": { "text": "for later" }, "sendTime": from_now(Duration::from_secs(80_000)) });
    ann.post(&format!("/v1/conversations/{conversation}/scheduled-messages"), later).await.ok();
    let call = ann.calls(bob).await;
    ann.does_with_call(&call, "end").await;
    bob.is_alerted("SCHEDULE", "SCHEDULE_MADE").await;
    (conversation, message)
}

async fn everything_about_oneself_is_one_archive(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let (conversation, _) = a_life(&ann, &bob).await;
    let upload = json!({ "name": "notes.txt", "mediaType": "text/plain", "size": "5" });
    let upload = ann.post("/v1/uploads", upload).await.ok();
    let (status, _) = ann.puts_bytes(&text(&upload["uploadUrl"]), b"notes").await;
    assert_eq!(status, 200);

    let files = exports(&ann).await;
    let user: Value = serde_json::from_slice(&files["auth/user.json"]).expect("a JSON value");
    assert_eq!((&user["userId"], &user["username"]), (&json!(ann.id), &json!(ann.username)));
    assert_eq!(lines(&files, "auth/reviews_written.ndjson")[0]["text"], json!("hm"));
    let of_conversation = lines(&files, "conversation/conversations.ndjson");
    assert!(
        of_conversation.iter().any(|one| one["conversationId"] == json!(conversation)),
        "{of_conversation:?}"
    );
    assert_eq!(lines(&files, "conversation/connections.ndjson")[0]["userId"], json!(bob.id));
    let messages = lines(&files, "messaging/messages.ndjson");
    assert!(messages.iter().any(|one| one["content"]["text"] == json!("a word of mine")), "{messages:?}");
    assert!(
        !messages.iter().any(|one| one["content"]["text"] == json!("a word of his")),
        "what others said is theirs"
    );
    assert_eq!(lines(&files, "messaging/reactions.ndjson").len(), 1);
    assert_eq!(lines(&files, "scheduling/schedules.ndjson")[0]["title"], json!("a talk"));
    assert_eq!(
        lines(&files, "scheduling/scheduled_messages.ndjson")[0]["content"]["text"],
        json!("for later")
    );
    assert_eq!(lines(&files, "scheduling/calls.ndjson").len(), 1);
    assert!(files.values().any(|bytes| bytes == b"notes"), "the bytes of the file: {:?}", files.keys());
    // Of Bob there is only what concerns Ann; nothing of the secrets of either.
    let everything =
        files.values().flat_map(|bytes| String::from_utf8_lossy(bytes).into_owned().into_bytes());
    let everything = String::from_utf8(everything.collect()).expect("text");
    assert!(
        !everything.contains(&ann.token)
            && !everything.contains("argon2")
            && !everything.contains(&bob.token)
    );
}

/// Waits until what somebody sees at a path is as it should be, or nothing any more.
async fn is_gone(person: &Person, what: &str, gone: fn(&Value) -> bool, path: &str) {
    until(what, || async {
        let answer = person.get(path).await;
        (answer.status == 404 || gone(&answer.body)).then_some(())
    })
    .await;
}

async fn who_goes_is_gone_everywhere(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let (conversation, message) = a_life(&ann, &bob).await;
    let mut at_bob = bob.comes_online().await;
    ann.post("/v1/me/delete", json!({ "password": PASSWORD })).await.ok();
    assert_eq!(ann.get("/v1/me").await.status, 401);
    at_bob.expects_alert("SCHEDULE_CANCELLED").await;

    is_gone(&bob, "her words to go", |it| it["message"]["content"].is_null(), &path_of(&message)).await;
    is_gone(&bob, "the connection to go", |it| array(&it["connections"]).is_empty(), "/v1/connections").await;
    is_gone(
        &bob,
        "the booking to go",
        |it| array(&it["schedules"]).is_empty(),
        "/v1/schedules?filter=SCHEDULE_FILTER_UPCOMING",
    )
    .await;
    is_gone(
        &bob,
        "the review to go",
        |it| it["user"]["rating"]["count"].as_i64().unwrap_or(0) == 0,
        "/v1/me",
    )
    .await;
    let theirs = format!("/v1/conversations/{conversation}/messages?pageSize=100");
    let has_no_reaction =
        |it: &Value| array(&it["messages"]).iter().all(|one| array(&one["reactions"]).is_empty());
    is_gone(&bob, "her reaction to go", has_no_reaction, &theirs).await;
    // What Bob said stays, and so does that there was somebody.
    assert!(bob.reads(&conversation).await.contains(&Some("a word of his".to_owned())));
    let shown = bob.get(&format!("/v1/users/{}", ann.id)).await.ok()["user"].clone();
    assert!(
        shown["deleteTime"].is_string() && shown["displayName"].as_str().unwrap_or_default().is_empty(),
        "{shown}"
    );
}

async fn nobody_writes_to_one_who_is_gone(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    ann.befriends(&bob).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let theirs = bob.says(&conversation, "hello").await;
    let elsewhere = ann.starts_direct_with(&cid).await;
    let other = ann.says(&elsewhere, "something to pass on").await;
    let path = format!("/v1/conversations/{conversation}");
    let soon = from_now(Duration::from_secs(2));
    let due =
        json!({ "content": { "text": "for later" }, "sendTime": from_now(Duration::from_secs(86_400)) });
    let due = ann.post(&format!("{path}/scheduled-messages"), due).await.ok();
    let due = format!("/v1/scheduled-messages/{}", text(&due["scheduledMessage"]["scheduledMessageId"]));
    bob.post("/v1/me/delete", json!({ "password": PASSWORD })).await.ok();
    until("the account to be gone", || async {
        let answer = ann
            .post(&format!("{path}/messages"), json!({ "content": { "text": "?" }, "validateOnly": true }))
            .await;
        (answer.status == 404).then_some(())
    })
    .await;

    let gone = "ERROR_REASON_USER_NOT_FOUND";
    let content = json!({ "text": "are you there?" });
    let sends = [
        (format!("{path}/messages"), json!({ "content": content })),
        ("/v1/messages".to_owned(), json!({ "content": content, "userId": bob.id })),
        (format!("{path}/scheduled-messages"), json!({ "content": content, "sendTime": soon })),
        ("/v1/calls".to_owned(), json!({ "userId": bob.id, "media": "CALL_MEDIA_AUDIO" })),
        ("/v1/calls".to_owned(), json!({ "conversationId": conversation, "media": "CALL_MEDIA_AUDIO" })),
        (
            format!("/v1/users/{}/schedules", bob.id),
            json!({
                "title": "a talk", "media": "SCHEDULE_MEDIA_AUDIO",
                "startTime": from_now(Duration::from_secs(80_000)), "endTime": from_now(Duration::from_secs(83_000)),
            }),
        ),
    ];
    for (path, body) in sends {
        assert_eq!(ann.post(&path, body).await.refused(404), gone, "{path}");
    }
    let forward = json!({ "targetConversationId": conversation });
    let forwarded = ann.post(&format!("{}/forward", path_of(&other)), forward).await;
    assert_eq!(forwarded.refused(404), gone);
    let reacted = ann.put(&format!("{}/reactions/%F0%9F%91%8D", path_of(&theirs)), json!({})).await;
    assert!([404, 409].contains(&reacted.status), "{}", reacted.body);
    // What is due is not sent either, and says why.
    ann.post(&format!("{due}/send"), json!({})).await;
    let shown = ann.get(&due).await.ok()["scheduledMessage"].clone();
    assert_eq!(
        (&shown["state"], &shown["failureReason"]),
        (&json!("SCHEDULED_MESSAGE_STATE_FAILED"), &json!(gone)),
        "{shown}"
    );
    assert!(!ann.reads(&conversation).await.contains(&Some("are you there?".to_owned())));
}
