//! Files: bytes go up, a message refers to them, its readers fetch them, and they go when the message goes.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::World;
use tests::person::{Person, path_of, text};
use tests::waiting::until;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

tests::stories![
    a_picture_goes_from_one_to_the_other,
    a_part_of_a_file_is_fetched,
    only_readers_fetch_a_file,
    a_file_goes_with_its_message,
    an_old_link_to_a_file_gives_nothing,
    slow_writers_stop_their_user_and_nobody_else,
    what_is_wrong_with_a_file_is_said,
];

/// Makes a place for bytes and puts them there; gives the upload.
async fn uploads(person: &Person, media_type: &str, bytes: &[u8]) -> Value {
    let body = json!({ "name": "a file.png", "mediaType": media_type, "size": bytes.len().to_string() });
    let made = person.post("/v1/uploads", body).await.ok();
    let (status, _) = person.puts_bytes(&text(&made["uploadUrl"]), bytes).await;
    assert_eq!(status, 200);
    made["upload"].clone()
}

fn picture(upload: &Value) -> Value {
    let media = json!({ "uploadId": upload["uploadId"] });
    json!({ "text": "look", "attachments": [{ "kind": "ATTACHMENT_KIND_IMAGE", "media": media }] })
}

async fn a_picture_goes_from_one_to_the_other(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let upload = uploads(&ann, "image/png", &bytes).await;
    ann.sends(&conversation, picture(&upload)).await;
    let link = bob.get(&format!("/v1/uploads/{}", text(&upload["uploadId"]))).await.ok();
    assert_eq!(
        (&link["upload"]["complete"], &link["upload"]["mediaType"]),
        (&json!(true), &json!("image/png"))
    );
    let fetched = bob.fetches(&text(&link["downloadUrl"]), None).await;
    assert_eq!((fetched.status, fetched.bytes == bytes), (200, true));
    assert_eq!(fetched.header("content-type"), "image/png");
    assert_eq!(fetched.header("x-content-type-options"), "nosniff");
}

async fn a_part_of_a_file_is_fetched(world: Arc<World>) {
    let ann = world.person("ann").await;
    let upload = uploads(&ann, "text/plain", b"0123456789").await;
    let link = ann.get(&format!("/v1/uploads/{}", text(&upload["uploadId"]))).await.ok();
    let url = text(&link["downloadUrl"]);
    for (range, status, expected) in
        [("bytes=2-4", 206, "234"), ("bytes=7-", 206, "789"), ("bytes=-2", 206, "89"), ("bytes=10-", 416, "")]
    {
        let part = ann.fetches(&url, Some(range)).await;
        assert_eq!(part.status, status, "{range}");
        if status == 206 {
            assert_eq!(String::from_utf8_lossy(&part.bytes), expected, "{range}");
        }
    }
}

async fn only_readers_fetch_a_file(world: Arc<World>) {
    let [ann, bob, eve] = world.people(["ann", "bob", "eve"]).await;
    let conversation = ann.starts_group_with(&[&bob]).await;
    let upload = uploads(&ann, "image/png", b"not really a picture").await;
    let get = format!("/v1/uploads/{}", text(&upload["uploadId"]));
    // Nobody but who uploaded it, before a message refers to it.
    assert_eq!(bob.get(&get).await.refused(404), "ERROR_REASON_UPLOAD_NOT_FOUND");
    // Nor may others refer to it.
    let own = eve.starts_group_with(&[]).await;
    let stolen = eve.tries_to_send(&own, json!({ "content": picture(&upload) })).await;
    assert_eq!(stolen.refused(404), "ERROR_REASON_UPLOAD_NOT_FOUND");
    let message = ann.sends(&conversation, picture(&upload)).await;
    let url = text(&bob.get(&get).await.ok()["downloadUrl"]);
    assert_eq!(eve.get(&get).await.refused(404), "ERROR_REASON_UPLOAD_NOT_FOUND");
    let (path, ticket) = url.rsplit_once("ticket=").expect("a ticket");
    let mut forged = ticket.to_owned();
    let last = if forged.pop() == Some('A') { 'B' } else { 'A' };
    forged.push(last);
    assert_eq!(eve.fetches(&format!("{path}ticket={forged}"), None).await.status, 403);
    assert_eq!(eve.fetches(path.trim_end_matches('?'), None).await.status, 400);
    // Sent on, it is there for those it was sent to.
    let target = bob.starts_direct_with(&eve).await;
    bob.post(&format!("{}/forward", path_of(&message)), json!({ "targetConversationId": target })).await.ok();
    eve.get(&get).await.ok();
}

async fn a_file_goes_with_its_message(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let upload = uploads(&ann, "image/png", b"bytes").await;
    let message = ann.sends(&conversation, picture(&upload)).await;
    let get = format!("/v1/uploads/{}", text(&upload["uploadId"]));
    bob.get(&get).await.ok();
    ann.delete(&path_of(&message)).await.ok();
    until("the file to be gone", || async { (bob.get(&get).await.status == 404).then_some(()) }).await;
}

/// An address that was given out is worth nothing once its reader may not read any more.
async fn an_old_link_to_a_file_gives_nothing(world: Arc<World>) {
    let [ann, bob, cem, dee, eve] = world.people(["ann", "bob", "cem", "dee", "eve"]).await;
    let group = ann.starts_group_with(&[&bob, &cem, &dee, &eve]).await;
    let upload = uploads(&ann, "image/png", b"not really a picture").await;
    let message = ann.sends(&group, picture(&upload)).await;
    let get = format!("/v1/uploads/{}", text(&upload["uploadId"]));
    let link = async |person: &Person| text(&person.get(&get).await.ok()["downloadUrl"]);
    let links = [link(&bob).await, link(&cem).await, link(&dee).await, link(&eve).await];
    let own = link(&ann).await;
    for url in links.iter().chain([&own]) {
        assert_eq!(ann.fetches(url, None).await.status, 200);
    }
    let etag = ann.fetches(&links[0], None).await.header("etag").to_owned();
    assert!(!etag.is_empty());
    let [of_bob, of_cem, of_dee, of_eve] = &links;
    bob.post(&format!("/v1/conversations/{group}/leave"), json!({})).await.ok();
    assert_eq!(bob.fetches(of_bob, None).await.status, 404);
    assert_eq!(bob.fetches(of_bob, Some("bytes=0-3")).await.status, 404);
    ann.delete(&format!("/v1/conversations/{group}/members/{}", cem.id)).await.ok();
    assert_eq!(cem.fetches(of_cem, None).await.status, 404);
    dee.post("/v1/auth/logout", json!({})).await.ok();
    assert_eq!(dee.fetches(of_dee, None).await.status, 403);
    assert_eq!(eve.fetches(of_eve, None).await.status, 200, "whose right nobody took");
    ann.delete(&path_of(&message)).await.ok();
    assert_eq!(eve.fetches(of_eve, None).await.status, 404);

    let place = ann.post("/v1/uploads", json!({ "mediaType": "image/png", "size": "3" })).await.ok();
    let upload_url = text(&place["uploadUrl"]);
    ann.post("/v1/auth/logout", json!({})).await.ok();
    assert_eq!(ann.fetches(&own, None).await.status, 403);
    assert_eq!(ann.puts_bytes(&upload_url, b"abc").await.0, 403);
}

/// A request that brings a byte of a file and then waits.
async fn begins(world: &World, url: &str) -> TcpStream {
    let mut stream = TcpStream::connect(world.gateway()).await.expect("a connection");
    let request = format!("PUT {url} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\na");
    stream.write_all(request.as_bytes()).await.expect("a request that begins");
    stream
}

/// One who brings bytes slowly, by one ticket or by many, has three of them in progress, and costs others nothing.
async fn slow_writers_stop_their_user_and_nobody_else(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let place = async || {
        let place = ann.post("/v1/uploads", json!({ "mediaType": "image/png", "size": "3" })).await.ok();
        text(&place["uploadUrl"])
    };
    // Too few bytes: a try that gets in changes nothing.
    let tries = async |url: &str| {
        let (status, answer) = ann.puts_bytes(url, b"ab").await;
        (status, text(&answer["reason"]))
    };
    // Every messaging process counts the writers that it has.
    let processes = world.grpc_of_all("messaging").len();
    let (mut writers, next) = (Vec::new(), place().await);
    while tries(&next).await != (429, "ERROR_REASON_TOO_MANY_UPLOADS".to_owned()) {
        assert!(writers.len() < 10, "{} writers", writers.len());
        let url = place().await;
        // A try that gets in before it may turn it away, or that another process takes: then it begins anew.
        let begun = async || {
            let writer = begins(&world, &url).await;
            let is_taken = tries(&url).await.1 != "ERROR_REASON_UPLOAD_INCOMPLETE" || processes > 1;
            is_taken.then_some(writer)
        };
        writers.push(until("the ticket to have its writer", begun).await);
    }
    assert!(writers.len() >= 3, "{} writers", writers.len());
    uploads(&bob, "image/png", b"bytes").await;
    drop(writers);
    let is_free = async || (ann.puts_bytes(&next, b"abc").await.0 == 200).then_some(());
    until("a place to be free", is_free).await;
}

async fn what_is_wrong_with_a_file_is_said(world: Arc<World>) {
    let ann = world.person("ann").await;
    let place = async |body: Value| ann.post("/v1/uploads", body).await;
    for (field, body) in [
        ("size", json!({ "mediaType": "image/png", "size": "0" })),
        ("size", json!({ "mediaType": "image/png", "size": "1000000000000000000" })),
        ("media_type", json!({ "mediaType": "application/x-msdownload", "size": "1" })),
        ("media_type", json!({ "mediaType": "png", "size": "1" })),
        ("name", json!({ "name": "../../etc/passwd", "mediaType": "image/png", "size": "1" })),
    ] {
        let refused = place(body.clone()).await;
        assert_eq!(refused.status, 400, "{body}: {}", refused.body);
        assert_eq!(refused.body["fields"][0]["field"], json!(field), "{body}");
    }
    let made = place(json!({ "mediaType": "text/plain", "size": "5" })).await.ok();
    let url = text(&made["uploadUrl"]);
    let conversation = ann.starts_group_with(&[]).await;
    let early = ann.tries_to_send(&conversation, json!({ "content": picture(&made["upload"]) })).await;
    assert_eq!(early.refused(409), "ERROR_REASON_UPLOAD_INCOMPLETE");
    for wrong in [&b"1234"[..], b"123456"] {
        let (status, answer) = ann.puts_bytes(&url, wrong).await;
        assert!((400..500).contains(&status), "{status}: {answer}");
    }
    assert_eq!(ann.puts_bytes(&url, b"12345").await.0, 200);
    let (status, answer) = ann.puts_bytes(&url, b"54321").await;
    assert_eq!((status, &answer["reason"]), (409, &json!("ERROR_REASON_UPLOAD_COMPLETE")));
}
