//! Every operation, and what becomes of it: it appears on every member's live connection once and in order, and in `Sync`
//! for one who was away; nothing reaches who must not see it; and what a client makes of the events is what the lists show.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::World;
use tests::person::{Person, array, number, path_of};
use tests::screen::Screen;

tests::stories![
    every_operation_reaches_everybody_once_and_nobody_else,
    what_was_there_and_what_happened_make_what_is_there,
];

async fn every_operation_reaches_everybody_once_and_nobody_else(world: Arc<World>) {
    let [ann, bob, cid, eve] = world.people(["ann", "bob", "cid", "eve"]).await;
    let conversation = ann.starts_group_with(&[&bob, &cid]).await;
    let start = bob.post("/v1/sync", json!({})).await.ok();
    let mut stranger = eve.comes_online().await;
    let mut live = bob.connects().await;
    live.follows(&[&conversation]).await;
    live.catches_up().await;

    let message = ann.says(&conversation, "to be edited, marked and deleted").await;
    ann.patch(&path_of(&message), json!({ "content": { "text": "edited" } })).await.ok();
    bob.put(&format!("{}/reactions/%F0%9F%91%8D", path_of(&message)), json!({})).await.ok();
    bob.delete(&format!("{}/reactions/%F0%9F%91%8D", path_of(&message))).await.ok();
    ann.put(&format!("{}/pin", path_of(&message)), json!({})).await.ok();
    ann.delete(&format!("{}/pin", path_of(&message))).await.ok();
    let poll = ann
        .sends(&conversation, json!({ "poll": { "question": "when?", "options": ["now", "later"] } }))
        .await;
    bob.put(&format!("{}/vote", path_of(&poll)), json!({ "optionIndexes": [1] })).await.ok();
    ann.post(&format!("{}/close", path_of(&poll)), json!({})).await.ok();
    ann.post(&format!("{}/forward", path_of(&poll)), json!({ "targetConversationId": conversation }))
        .await
        .ok();
    ann.delete(&path_of(&message)).await.ok();
    let regretted = cid.says(&conversation, "regretted").await;
    cid.post(&format!("{}/unsend", path_of(&regretted)), json!({})).await.ok();
    ann.post(&format!("/v1/conversations/{conversation}/purge"), json!({})).await.ok();
    ann.says(&conversation, "the end").await;

    // Live: each once, in order.
    let mut seen = Vec::new();
    let mut screen = Screen::default();
    while seen.last().is_none_or(|kind| kind != "messageCreated: the end") {
        let event = live.next_of("event").await;
        screen.apply(&event);
        seen.push(kind(&event));
    }
    let expected = [
        "conversationCreated",
        "messageCreated: to be edited, marked and deleted",
        "messageEdited: edited",
        "reactionChanged",
        "reactionChanged",
        "messagePinned",
        "messageUnpinned",
        "messageCreated: ",
        "pollVoted",
        "pollClosed",
        "messageCreated: ",
        "messageDeleted",
        "messageCreated: regretted",
        "messageDeleted",
        "messagesPurged",
        "messageCreated: the end",
    ];
    assert_eq!(seen, expected);

    // Away: the same places, and what is gone by now is shown as gone.
    let known =
        json!({ "epoch": start["epoch"], "heads": [{ "conversationId": conversation }], "onlyListed": true });
    let missed = cid.post("/v1/sync", known).await.ok();
    let events = array(&missed["differences"][0]["events"]);
    let mut away = Screen::default();
    events.iter().for_each(|event| away.apply(event));
    assert_eq!(away.applied(), screen.applied());
    let words = events.iter().map(ToString::to_string).collect::<String>();
    for gone in ["to be edited", "edited\"", "regretted", "now", "later"] {
        assert!(!words.contains(gone), "{gone} is still there");
    }
    assert_eq!(shown(&cid, &conversation).await, *screen.messages());
    assert_eq!(shown(&cid, &conversation).await, *away.messages());

    // A stranger hears nothing of it: the next thing that reaches her is her own.
    let own = eve.starts_group_with(&[]).await;
    let event = stranger.next_of("event").await;
    assert_eq!(event["conversationId"], json!(own));
}

/// What kind of event it is, with the words of a message.
fn kind(event: &Value) -> String {
    let payload = |(name, value): (&String, &Value)| value.is_object().then(|| name.clone());
    let name = event.as_object().and_then(|fields| fields.iter().find_map(payload)).unwrap_or_default();
    match name.as_str() {
        "messageCreated" | "messageEdited" => {
            format!("{name}: {}", event[&name]["content"]["text"].as_str().unwrap_or_default())
        }
        _ => name,
    }
}

/// All messages of a conversation as its lists show them, by sequence.
async fn shown(person: &Person, conversation: &str) -> std::collections::BTreeMap<i64, Value> {
    let mut messages = Vec::new();
    let mut token = String::new();
    loop {
        let path = format!("/v1/conversations/{conversation}/messages?pageSize=100&pageToken={token}");
        let page = person.get(&path).await.ok();
        messages.extend(array(&page["messages"]).iter().cloned());
        token = page["nextPageToken"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            return Screen::of_messages(&messages);
        }
    }
}

/// The events after a sequence.
async fn events_after(person: &Person, conversation: &str, after: i64) -> Vec<Value> {
    let path = format!("/v1/conversations/{conversation}/events?afterSequence={after}&limit=200");
    array(&person.get(&path).await.ok()["events"]).to_vec()
}

/// For random operations by several people: what a client had before, with the events since, is what the lists show.
async fn what_was_there_and_what_happened_make_what_is_there(world: Arc<World>) {
    const STEPS: usize = 120;
    let mut random = fastrand::Rng::with_seed(20);
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let people = [&ann, &bob, &cid];
    let conversation = ann.starts_group_with(&[&bob, &cid]).await;
    let mut screen = Screen::default();
    let mut messages: Vec<Value> = Vec::new();
    for step in 0..STEPS {
        let person = people[random.usize(0..3)];
        let one = random.choice(&messages).map(path_of);
        let emoji = ["%F0%9F%91%8D", "%E2%9D%A4%EF%B8%8F"][random.usize(0..2)];
        let votes = [json!([]), json!([0]), json!([1])][random.usize(0..3)].clone();
        let answer = match (random.u32(0..16), one) {
            (0..=2, _) | (_, None) => {
                let content = json!({ "content": { "text": format!("words {step}") } });
                person.post(&format!("/v1/conversations/{conversation}/messages"), content).await
            }
            (3, _) => {
                let poll =
                    json!({ "question": "which?", "options": ["one", "other"], "anonymous": step % 2 == 0 });
                let content = json!({ "content": { "poll": poll } });
                person.post(&format!("/v1/conversations/{conversation}/messages"), content).await
            }
            (4, Some(one)) => {
                person.patch(&one, json!({ "content": { "text": format!("edited {step}") } })).await
            }
            (5..=7, Some(one)) => person.put(&format!("{one}/reactions/{emoji}"), json!({})).await,
            (8, Some(one)) => person.delete(&format!("{one}/reactions/{emoji}")).await,
            (9, Some(one)) => person.put(&format!("{one}/pin"), json!({})).await,
            (10, Some(one)) => person.delete(&format!("{one}/pin")).await,
            (11..=12, Some(one)) => {
                person.put(&format!("{one}/vote"), json!({ "optionIndexes": votes })).await
            }
            (13, Some(one)) => person.post(&format!("{one}/close"), json!({})).await,
            (14, Some(one)) if step % 4 == 0 => person.delete(&one).await,
            (14, Some(one)) => {
                person.post(&format!("{one}/forward"), json!({ "targetConversationId": conversation })).await
            }
            (_, Some(one)) if step % 5 == 0 => person.post(&format!("{one}/unsend"), json!({})).await,
            (_, Some(_)) if step == STEPS / 2 => {
                ann.post(&format!("/v1/conversations/{conversation}/purge"), json!({})).await
            }
            (_, Some(one)) => person.get(&one).await,
        };
        assert!(answer.status < 500, "{}", answer.body);
        if answer.status < 300 && answer.body["message"]["sequence"].is_string() {
            let message = answer.body["message"].clone();
            if messages.iter().all(|known| known["messageId"] != message["messageId"]) {
                messages.push(message);
            }
        }
        for event in events_after(&bob, &conversation, screen.applied()).await {
            screen.apply(&event);
        }
        assert_eq!(*screen.messages(), shown(&bob, &conversation).await, "after step {step}");
    }
    assert!(number(&json!(screen.applied())) > 60, "enough has happened");
}
