//! Coming back: whoever was away gets exactly what it missed.

use std::sync::Arc;

use serde_json::json;
use tests::World;
use tests::person::{array, number, text};

tests::stories![
    a_message_reaches_a_member_who_was_away,
    a_resume_works_on_another_gateway,
    a_long_absence_is_made_up_for_in_order,
    sync_gives_the_differences,
    sync_says_what_does_not_fit,
    a_foreign_epoch_asks_for_a_fresh_start,
    a_new_conversation_appears_on_a_connection_that_follows_all,
    what_was_missed_about_oneself_comes_too,
];

async fn a_message_reaches_a_member_who_was_away(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    ann.says(&conversation, "are you there?").await;
    let mut screen = bob.connects().await;
    screen.follows(&[&conversation]).await;
    screen.expects_message("are you there?").await;
    let place = screen.disconnects().await;

    ann.says(&conversation, "one").await;
    ann.says(&conversation, "two").await;

    let mut screen = bob.connects().await;
    screen.resumes(place).await;
    screen.expects_message("one").await;
    screen.expects_message("two").await;
    screen.next_of("caughtUp").await;
    ann.says(&conversation, "three").await;
    screen.expects_message("three").await;
}

async fn a_resume_works_on_another_gateway(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let gateways = world.gateways();
    let mut place = tests::socket::Place::default();
    place.heads.insert(conversation.clone(), 0);
    for (turn, gateway) in gateways.iter().cycle().take(4).enumerate() {
        ann.says(&conversation, &format!("turn {turn}")).await;
        let mut screen = bob.at(*gateway).connects().await;
        if place.epoch.is_empty() {
            place.epoch = screen.place.epoch.clone();
        }
        screen.resumes(place).await;
        screen.expects_message(&format!("turn {turn}")).await;
        place = screen.disconnects().await;
    }
}

async fn a_long_absence_is_made_up_for_in_order(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut writer = ann.connects().await;
    let live = ann.says(&conversation, "0").await;
    let place = {
        let mut screen = bob.connects().await;
        screen.follows(&[&conversation]).await;
        screen.expects_message("0").await;
        screen.disconnects().await
    };
    for n in 1..=50 {
        writer.says(&conversation, &n.to_string()).await;
    }
    let mut screen = bob.connects().await;
    screen.resumes(place).await;
    // What happens meanwhile comes after what was missed; the connection checks that no sequence is left out.
    writer.says(&conversation, "51").await;
    let last = screen.expects_message("51").await;
    assert!(number(&last["sequence"]) >= number(&live["sequence"]) + 51);
}

async fn sync_gives_the_differences(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let busy = ann.starts_direct_with(&bob).await;
    let quiet = bob.starts_direct_with(&cid).await;
    ann.says(&busy, "one").await;
    cid.says(&quiet, "nothing new here").await;
    let fresh = bob.post("/v1/sync", json!({})).await.ok();
    let epoch = text(&fresh["epoch"]);
    let head = |id: &str| {
        let all = array(&fresh["differences"]);
        let found =
            all.iter().find(|difference| difference["conversationId"] == json!(id)).expect("a difference");
        json!({ "conversationId": id, "sequence": found["headSequence"] })
    };
    let heads = json!([head(&busy), head(&quiet), { "conversationId": proto::id::ConversationId::generate().to_string() }]);
    ann.says(&busy, "two").await;

    let answer = bob.post("/v1/sync", json!({ "epoch": epoch, "heads": heads })).await.ok();
    let busy_now: Vec<_> = array(&answer["differences"])
        .iter()
        .filter(|difference| difference["conversationId"] == json!(busy))
        .collect();
    let events = array(&busy_now[0]["events"]);
    assert_eq!(events.last().expect("an event")["messageCreated"]["content"]["text"], json!("two"));
    assert_eq!(array(&answer["goneConversationIds"]).len(), 1);
}

async fn sync_says_what_does_not_fit(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut writers = Vec::new();
    for _ in 0..5 {
        writers.push(world.person("helper").await);
    }
    let group = ann.starts_group_with(&writers.iter().collect::<Vec<_>>()).await;
    let talks = writers.iter().map(|writer| async {
        let mut screen = writer.connects().await;
        for n in 0..45 {
            screen.says(&group, &n.to_string()).await;
        }
    });
    futures_util::future::join_all(talks).await;
    let _ = conversation;

    let answer = ann
        .post("/v1/sync", json!({ "heads": [{ "conversationId": group }], "onlyListed": true }))
        .await
        .ok();
    let difference = &array(&answer["differences"])[0];
    assert_eq!(difference["limited"], json!(true));
    let events = array(&difference["events"]);
    assert_eq!(events.len(), 200);
    assert_eq!(number(&difference["hole"]["fromSequence"]), 1);
    assert_eq!(number(&difference["hole"]["toSequence"]) + 1, number(&events[0]["sequence"]));
    assert_eq!(number(&events[199]["sequence"]), number(&difference["headSequence"]));
}

async fn a_foreign_epoch_asks_for_a_fresh_start(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let heads = json!([{ "conversationId": conversation, "sequence": "1" }]);
    let answer = ann.post("/v1/sync", json!({ "epoch": "another", "heads": heads })).await.ok();
    assert_eq!(answer["fullSyncRequired"], json!(true));
    let mut screen = ann.connects().await;
    let place = tests::socket::Place {
        epoch: "another".to_owned(),
        heads: [(conversation, 1)].into(),
        user_sequence: 0,
    };
    assert_eq!(screen.resumes(place).await["fullSyncRequired"], json!(true));
}

async fn a_new_conversation_appears_on_a_connection_that_follows_all(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let mut screen = bob.comes_online().await;
    let conversation = ann.starts_direct_with(&bob).await;
    let gained = screen.next_of("userEvent").await;
    assert_eq!(gained["conversationGained"]["conversationId"], json!(conversation));
    ann.says(&conversation, "surprise").await;
    screen.expects_message("surprise").await;
}

async fn what_was_missed_about_oneself_comes_too(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let first = ann.starts_direct_with(&bob).await;
    let mut screen = bob.comes_online().await;
    tests::waiting::until("the user event of the first conversation", || async {
        let page = bob.get("/v1/me/events").await.ok();
        (!array(&page["events"]).is_empty()).then_some(())
    })
    .await;
    let mut place = screen.place.clone();
    place.user_sequence = number(&bob.get("/v1/me/events").await.ok()["headSequence"]);
    screen = {
        screen.disconnects().await;
        let second = ann.starts_group_with(&[&bob]).await;
        assert_ne!(first, second);
        let mut screen = bob.connects().await;
        screen.resumes(place).await;
        let gained = screen.next_of("userEvent").await;
        assert_eq!(gained["conversationGained"]["conversationId"], json!(second));
        screen
    };
    screen.disconnects().await;
}
