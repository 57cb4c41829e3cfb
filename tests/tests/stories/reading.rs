//! Reading: pages of history, the inbox, what is unread, how far everybody has come.

use std::sync::Arc;

use serde_json::json;
use tests::World;
use tests::person::{array, number, text};

tests::stories![
    history_is_read_in_both_directions,
    history_leaves_out_tombstones_and_keeps_to_a_period_on_request,
    a_page_token_belongs_to_its_list,
    reading_on_counts_down_what_is_unread,
    a_watermark_never_falls_and_never_passes_the_head,
    the_others_see_how_far_one_has_read,
    the_inbox_shows_the_newest_activity_first,
    what_was_said_before_joining_is_not_unread,
];

async fn history_is_read_in_both_directions(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut screen = ann.connects().await;
    for n in 1..=10 {
        screen.says(&conversation, &n.to_string()).await;
    }
    let page = async |query: &str| {
        let answer = bob.get(&format!("/v1/conversations/{conversation}/messages?{query}")).await.ok();
        let words: Vec<String> =
            array(&answer["messages"]).iter().map(|message| text(&message["content"]["text"])).collect();
        let token = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        (words.join(" "), token("nextPageToken"), token("previousPageToken"))
    };
    let (words, older, newer) = page("pageSize=4").await;
    assert_eq!(words, "10 9 8 7");
    let (words, oldest, back) = page(&format!("pageSize=4&pageToken={older}")).await;
    assert_eq!(words, "6 5 4 3");
    assert_eq!(page(&format!("pageSize=4&pageToken={back}")).await.0, "7 8 9 10");
    let (words, end, _) = page(&format!("pageSize=4&pageToken={oldest}")).await;
    assert_eq!((words.as_str(), end.as_str()), ("2 1", ""));
    // What comes later is found from where the first page began.
    assert_eq!(page(&format!("pageSize=4&pageToken={newer}")).await.0, "");
    screen.says(&conversation, "11").await;
    assert_eq!(page(&format!("pageSize=4&pageToken={newer}")).await.0, "11");

    let (words, further, _) = page("pageSize=3&order=ORDER_OLDEST_FIRST").await;
    assert_eq!(words, "1 2 3");
    assert_eq!(page(&format!("pageSize=3&pageToken={further}")).await.0, "4 5 6");
}

async fn history_leaves_out_tombstones_and_keeps_to_a_period_on_request(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut sent = Vec::new();
    for n in 1..=6 {
        sent.push(ann.says(&conversation, &n.to_string()).await);
        // Messages are created at different milliseconds.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for message in [&sent[1], &sent[2], &sent[3]] {
        ann.delete(&format!("/v1/conversations/{conversation}/messages/{}", text(&message["messageId"])))
            .await
            .ok();
    }
    let page = async |query: &str| {
        let answer = bob.get(&format!("/v1/conversations/{conversation}/messages?{query}")).await.ok();
        let sequences: Vec<i64> =
            array(&answer["messages"]).iter().map(|message| number(&message["sequence"])).collect();
        (sequences, answer["nextPageToken"].as_str().unwrap_or_default().to_owned())
    };
    let of = |places: &[usize]| places.iter().map(|n| number(&sent[*n]["sequence"])).collect::<Vec<_>>();
    let (first, token) = page("excludeTombstones=true&pageSize=2").await;
    assert_eq!(first, of(&[5, 4]));
    assert_eq!(page(&format!("excludeTombstones=true&pageToken={token}")).await.0, of(&[0]));
    let (start, end) = (text(&sent[2]["createTime"]), text(&sent[4]["createTime"]));
    assert_eq!(page(&format!("startTime={start}&endTime={end}")).await.0, of(&[3, 2]));
    assert_eq!(page(&format!("startTime={start}&excludeTombstones=true")).await.0, of(&[5, 4]));
    let path = format!("/v1/conversations/{conversation}/messages?startTime=yesterday");
    assert_eq!(bob.get(&path).await.status, 400);
}

async fn a_page_token_belongs_to_its_list(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let one = ann.starts_direct_with(&bob).await;
    let other = ann.starts_direct_with(&cid).await;
    for n in 0..3 {
        ann.says(&one, &n.to_string()).await;
    }
    let page = ann.get(&format!("/v1/conversations/{one}/messages?pageSize=1")).await.ok();
    let token = text(&page["nextPageToken"]);
    let answer = ann.get(&format!("/v1/conversations/{other}/messages?pageToken={token}")).await;
    assert_eq!(answer.body["fields"][0]["field"], json!("page_token"));
    assert_eq!(answer.refused(400), "ERROR_REASON_INVALID_FIELD");
}

async fn reading_on_counts_down_what_is_unread(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut sequences = Vec::new();
    for n in 0..5 {
        sequences.push(number(&ann.says(&conversation, &n.to_string()).await["sequence"]));
    }
    bob.says(&conversation, "my own does not count").await;
    let unread = async || number(&bob.get("/v1/unread").await.ok()["total"]);
    assert_eq!(unread().await, 5);
    let path = format!("/v1/conversations/{conversation}/watermark");
    bob.post(&path, json!({ "readSequence": sequences[2].to_string() })).await.ok();
    assert_eq!(unread().await, 2);
    let deleted = ann.reads(&conversation).await.len();
    assert_eq!(deleted, 6);
    let page = ann.get(&format!("/v1/conversations/{conversation}/messages?pageSize=2")).await.ok();
    let last_of_ann = text(&array(&page["messages"])[1]["messageId"]);
    ann.delete(&format!("/v1/conversations/{conversation}/messages/{last_of_ann}")).await.ok();
    assert_eq!(unread().await, 1);
}

async fn a_watermark_never_falls_and_never_passes_the_head(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let head = number(&ann.says(&conversation, "one").await["sequence"]);
    let path = format!("/v1/conversations/{conversation}/watermark");
    let advance = async |read: i64| {
        let answer = bob.post(&path, json!({ "readSequence": read.to_string() })).await.ok();
        (number(&answer["watermark"]["readSequence"]), number(&answer["watermark"]["deliveredSequence"]))
    };
    let (read, delivered) = advance(1_000_000).await;
    assert!(read >= head && read < 1_000_000, "{read}");
    assert_eq!(read, delivered);
    assert_eq!(advance(1).await, (read, delivered));
    let negative = bob.post(&path, json!({ "readSequence": "-1" })).await;
    assert_eq!(negative.refused(400), "ERROR_REASON_INVALID_FIELD");
}

async fn the_others_see_how_far_one_has_read(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let sequence = ann.says(&conversation, "seen?").await["sequence"].clone();
    let mut anns_screen = ann.comes_online().await;
    let mut bobs_screen = bob.comes_online().await;
    let answer = bobs_screen
        .command(json!({ "advanceWatermark": { "conversationId": conversation, "readSequence": sequence } }))
        .await;
    assert!(answer.get("watermarkAdvanced").is_some(), "{answer}");
    let receipt = anns_screen.next_of("receipt").await;
    assert_eq!(receipt["userId"], json!(bob.id));
    assert!(number(&receipt["readSequence"]) >= number(&sequence));
    let receipts = ann.get(&format!("/v1/conversations/{conversation}/receipts")).await.ok();
    assert!(array(&receipts["watermarks"]).iter().any(|mark| mark["userId"] == json!(bob.id)), "{receipts}");
}

async fn the_inbox_shows_the_newest_activity_first(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let with_bob = ann.starts_direct_with(&bob).await;
    let with_cid = ann.starts_direct_with(&cid).await;
    let empty = ann.starts_group_with(&[]).await;
    bob.says(&with_bob, "from bob").await;
    cid.says(&with_cid, "from cid").await;
    bob.says(&with_bob, "from bob again").await;

    let mut entries = Vec::new();
    let mut token = String::new();
    loop {
        let page = ann.get(&format!("/v1/inbox?pageSize=1&pageToken={token}")).await.ok();
        entries.extend_from_slice(array(&page["entries"]));
        match page["nextPageToken"].as_str() {
            Some(next) if !next.is_empty() => token = next.to_owned(),
            _ => break,
        }
    }
    let ids: Vec<String> =
        entries.iter().map(|entry| text(&entry["conversation"]["conversationId"])).collect();
    assert_eq!(ids.len(), 3, "{entries:?}");
    let place = |id: &String| ids.iter().position(|found| found == id).expect("in the inbox");
    assert!(place(&with_bob) < place(&with_cid));
    assert!(ids.contains(&empty));
    let first = &entries[place(&with_bob)];
    assert_eq!(first["lastMessage"]["content"]["text"], json!("from bob again"));
    assert_eq!(number(&first["unreadCount"]), 2);
    assert_eq!(first["conversation"]["peerUserId"], json!(bob.id));
}

async fn what_was_said_before_joining_is_not_unread(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let room = ann.opens_room("the lobby").await;
    for n in 0..3 {
        ann.says(&room, &format!("before {n}")).await;
    }
    // Times have milliseconds: what was said in the very millisecond of joining may count either way.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    bob.post(&format!("/v1/conversations/{room}/join"), json!({})).await.ok();
    assert_eq!(number(&bob.get("/v1/unread").await.ok()["total"]), 0);
    ann.says(&room, "after").await;
    assert_eq!(number(&bob.get("/v1/unread").await.ok()["total"]), 1);
    assert_eq!(bob.reads(&room).await.len(), 4);
}
