//! An account that is deleted while those who erase are killed: in the end nothing is left.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::figure::{Figures, Target};
use tests::person::{PASSWORD, array, number, path_of};
use tests::waiting::until;
use tests::{Person, Shape};

use crate::fragile::{Fragile, messages, sees};
use crate::{assert_no_panics, is_long, pass};

/// How many conversations she has written in, each with somebody else.
const CONVERSATIONS: usize = 3;

/// How many messages are under way at once.
const AT_ONCE: usize = 12;

/// Of what others than this one wrote here: how much is left, and how much is gone.
async fn left_and_gone(reader: &Person, conversation: &str) -> (usize, usize) {
    let mut messages = messages(reader, conversation).await;
    messages.retain(|message| message["senderId"] != json!(reader.id));
    let is_gone = |message: &&Value| message["content"].is_null() && message["deleteTime"].is_string();
    let gone = messages.iter().filter(is_gone).count();
    (messages.len() - gone, gone)
}

pub async fn an_account_is_erased_to_the_end(shape: Shape) {
    let mut figures = Figures::of(&format!("an_account_is_erased_to_the_end_{}", shape.name()));
    let mut fragile = Fragile::start(shape, &[]).await;
    let ann = fragile.world.person("ann").await;
    let count = if is_long() { 4800 } else { 900 };
    let mut others = Vec::new();
    for number in 0..CONVERSATIONS {
        let other = fragile.world.person(&format!("other-{number}")).await;
        let conversation = ann.starts_direct_with(&other).await;
        ann.says(&conversation, "the first word").await;
        let theirs = other.says(&conversation, "a word of theirs").await;
        ann.put(&format!("{}/reactions/%F0%9F%91%8D", path_of(&theirs)), json!({})).await.ok();
        others.push((other, conversation));
    }
    let numbers: Vec<usize> = (0..count).collect();
    for some in numbers.chunks(AT_ONCE) {
        join_all(some.iter().map(|n| {
            let conversation = &others[n % CONVERSATIONS].1;
            let ann = &ann;
            async move { ann.says(conversation, &format!("word {n}")).await }
        }))
        .await;
    }

    ann.post("/v1/me/delete", json!({ "password": PASSWORD })).await.ok();
    let (reader, conversation) = &others[0];
    let under_way = until("her first word to go", || async {
        // What she said first goes first.
        let last_is_left = !is_gone_at_the_end(reader, conversation, "NEWEST").await;
        is_gone_at_the_end(reader, conversation, "OLDEST").await.then_some(last_is_left)
    })
    .await;
    fragile.kill("messaging");
    figures.print("killed_under_way", f64::from(u8::from(under_way)), "times", Target::Informs);
    pass(Duration::from_millis(200)).await;
    // And once more when it goes on.
    fragile.start_again("messaging").await;
    fragile.restart("messaging").await;

    let mut erased = 0;
    for (other, conversation) in &others {
        erased += until("all of her words to go", || async {
            let (left, gone) = left_and_gone(other, conversation).await;
            (left == 0).then_some(gone)
        })
        .await;
        let theirs = until("her reaction to go", || async {
            let mut messages = messages(other, conversation).await;
            messages.retain(|message| message["senderId"] == json!(other.id));
            messages.iter().all(|message| array(&message["reactions"]).is_empty()).then_some(messages)
        })
        .await;
        assert_eq!(theirs.len(), 1, "what others said stays");
        assert_eq!(theirs[0]["content"]["text"], json!("a word of theirs"));
        assert_eq!(deletions(other, conversation).await, 1 + count / CONVERSATIONS, "each is told once");
    }
    figures.print("erased", erased as f64, "messages", Target::Is((CONVERSATIONS + count) as f64));
    assert_no_panics(&fragile.world);
    figures.conclude();
}

/// Whether the first or last thing that was said here is gone.
async fn is_gone_at_the_end(reader: &Person, conversation: &str, order: &str) -> bool {
    let path = format!("/v1/conversations/{conversation}/messages?pageSize=1&order=ORDER_{order}_FIRST");
    sees(reader, &path).await["messages"][0]["deleteTime"].is_string()
}

/// How many deletions the log of a conversation tells of.
async fn deletions(person: &Person, conversation: &str) -> usize {
    let (mut deletions, mut after) = (0, 0);
    loop {
        let path = format!("/v1/conversations/{conversation}/events?afterSequence={after}&limit=100");
        let page = person.get(&path).await.ok();
        let events = array(&page["events"]);
        let Some(last) = events.last() else { return deletions };
        after = number(&last["sequence"]);
        deletions += events.iter().filter(|event| event.get("messageDeleted").is_some()).count();
    }
}
