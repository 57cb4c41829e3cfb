//! Sending: what is acknowledged is stored, once, in one order, and reaches everybody.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::World;
use tests::person::{array, number, text};

tests::stories![
    a_message_reaches_a_member_who_is_here,
    a_message_reaches_every_device_of_everybody,
    a_retry_sends_once,
    a_key_with_another_body_is_refused,
    a_message_to_a_person_finds_the_direct_conversation,
    a_message_to_several_people_finds_their_discussion,
    many_senders_share_one_order,
    a_reply_names_a_message_of_the_same_conversation,
    an_outsider_can_neither_write_nor_see,
    typing_reaches_the_others_and_is_never_stored,
    sends_of_one_connection_keep_their_order,
];

async fn a_message_reaches_a_member_who_is_here(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut bobs_screen = bob.comes_online().await;

    let sent = ann.comes_online().await.says(&conversation, "hello").await;

    let event = bobs_screen.expects_message("hello").await;
    assert_eq!(event["messageCreated"], sent);
    assert_eq!(event["actorUserId"], json!(ann.id));
    assert_eq!(bob.reads(&conversation).await, [Some("hello".to_owned())]);
}

async fn a_message_reaches_every_device_of_everybody(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let conversation = ann.starts_group_with(&[&bob, &cid]).await;
    let mut screens = Vec::new();
    for (person, gateway) in [&ann, &bob, &cid]
        .into_iter()
        .flat_map(|person| world.gateways().into_iter().map(move |at| (person, at)))
    {
        screens.push(person.at(gateway).comes_online().await);
    }
    bob.says(&conversation, "all of you").await;
    let mut sequences = Vec::new();
    for screen in &mut screens {
        sequences.push(number(&screen.expects_message("all of you").await["sequence"]));
    }
    assert!(sequences.iter().all(|sequence| *sequence == sequences[0]), "{sequences:?}");
}

async fn a_retry_sends_once(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    let body = json!({ "content": { "text": "once" }, "clientMessageId": "the-key" });

    let first = ann.post(&path, body.clone()).await.ok();
    let tries = (0..8).map(|_| ann.post(&path, body.clone()));
    for again in futures_util::future::join_all(tries).await {
        let again = again.ok();
        assert_eq!(again["message"], first["message"]);
        assert_eq!(again["repeated"], json!(true));
    }
    let mut screen = ann.connects().await;
    let on_the_socket = screen
        .command(json!({ "sendMessage": {
            "conversationId": conversation, "content": { "text": "once" }, "clientMessageId": "the-key",
        } }))
        .await;
    assert_eq!(on_the_socket["sent"]["message"], first["message"]);
    assert_eq!(bob.reads(&conversation).await, [Some("once".to_owned())]);
}

async fn a_key_with_another_body_is_refused(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let path = format!("/v1/conversations/{conversation}/messages");
    let body = |words: &str| json!({ "content": { "text": words }, "clientMessageId": "the-key" });
    ann.post(&path, body("one")).await.ok();
    let reason = ann.post(&path, body("another")).await.refused(409);
    assert_eq!(reason, "ERROR_REASON_CLIENT_MESSAGE_ID_REUSED");
    // The key belongs to its sender: another may use the same.
    bob.post(&path, body("mine")).await.ok();
    assert_eq!(ann.reads(&conversation).await, [Some("one".to_owned()), Some("mine".to_owned())]);
}

async fn a_message_to_a_person_finds_the_direct_conversation(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let send = |to: &str, words: &str| json!({ "userId": to, "content": { "text": words } });
    let (there, back) = tokio::join!(
        ann.post("/v1/messages", send(&bob.id, "hello bob")),
        bob.post("/v1/messages", send(&ann.id, "hello ann")),
    );
    let (there, back) = (there.ok(), back.ok());
    assert_eq!(there["message"]["conversationId"], back["message"]["conversationId"]);
    let conversation = ann.starts_direct_with(&bob).await;
    assert_eq!(there["message"]["conversationId"], json!(conversation));
    assert_eq!(ann.reads(&conversation).await.len(), 2);
}

async fn a_message_to_several_people_finds_their_discussion(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let send = |to: [&str; 2]| json!({ "userIds": { "userIds": to }, "content": { "text": "you two" } });
    let first = ann.post("/v1/messages", send([&bob.id, &cid.id])).await.ok();
    let again = ann.post("/v1/messages", send([&cid.id, &bob.id])).await.ok();
    let other = cid.post("/v1/messages", send([&ann.id, &bob.id])).await.ok();
    assert_eq!(first["message"]["conversationId"], again["message"]["conversationId"]);
    assert_eq!(first["message"]["conversationId"], other["message"]["conversationId"]);
    assert_eq!(bob.reads(&text(&first["message"]["conversationId"])).await.len(), 3);
}

async fn many_senders_share_one_order(world: Arc<World>) {
    let people = world.people(["ann", "bob", "cid", "dan"]).await;
    let [ann, others @ ..] = &people;
    let conversation = ann.starts_group_with(&others.each_ref()).await;
    let talks = people.iter().zip(world.gateways().into_iter().cycle()).map(|(person, gateway)| {
        let (person, conversation) = (person.at(gateway), conversation.clone());
        async move {
            let mut screen = person.connects().await;
            for n in 0..15 {
                screen.says(&conversation, &format!("{} {n}", person.name)).await;
            }
        }
    });
    futures_util::future::join_all(talks).await;

    let events = events_of(ann, &conversation).await;
    let sequences: Vec<i64> = events.iter().map(|event| number(&event["sequence"])).collect();
    assert_eq!(sequences, (1..=sequences.len() as i64).collect::<Vec<_>>());
    for person in &people {
        let own: Vec<String> = events
            .iter()
            .filter(|event| event["messageCreated"]["senderId"] == json!(person.id))
            .map(|event| text(&event["messageCreated"]["content"]["text"]))
            .collect();
        assert_eq!(own, (0..15).map(|n| format!("{} {n}", person.name)).collect::<Vec<_>>());
    }
}

async fn events_of(person: &tests::Person, conversation: &str) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| number(&event["sequence"]));
        let page = person
            .get(&format!("/v1/conversations/{conversation}/events?afterSequence={after}&limit=20"))
            .await
            .ok();
        if array(&page["events"]).is_empty() {
            return events;
        }
        events.extend_from_slice(array(&page["events"]));
    }
}

async fn a_reply_names_a_message_of_the_same_conversation(world: Arc<World>) {
    let [ann, bob, cid] = world.people(["ann", "bob", "cid"]).await;
    let here = ann.starts_direct_with(&bob).await;
    let elsewhere = ann.starts_direct_with(&cid).await;
    let original = ann.says(&here, "who comes?").await;
    let foreign = ann.says(&elsewhere, "a secret").await;

    let reply = |to: &Value| json!({ "content": { "text": "me" }, "replyToMessageId": to["messageId"] });
    let path = format!("/v1/conversations/{here}/messages");
    let answer = bob.post(&path, reply(&original)).await.ok();
    assert_eq!(answer["message"]["replyToMessageId"], original["messageId"]);
    assert_eq!(bob.post(&path, reply(&foreign)).await.refused(404), "ERROR_REASON_MESSAGE_NOT_FOUND");
}

async fn an_outsider_can_neither_write_nor_see(world: Arc<World>) {
    let [ann, bob, eve] = world.people(["ann", "bob", "eve"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let message = text(&ann.says(&conversation, "between us").await["messageId"]);
    let unknown = proto::id::ConversationId::generate().to_string();

    for id in [&conversation, &unknown] {
        // A foreign conversation and one that is not there answer alike.
        assert_eq!(
            eve.tries_to_say(id, "let me in").await.refused(404),
            "ERROR_REASON_CONVERSATION_NOT_FOUND"
        );
        for path in ["messages", &format!("messages/{message}"), "events", "receipts", "members", ""] {
            let path = format!("/v1/conversations/{id}/{path}");
            assert_eq!(
                eve.get(path.trim_end_matches('/')).await.refused(404),
                "ERROR_REASON_CONVERSATION_NOT_FOUND",
                "{path}"
            );
        }
    }
    let mut screen = eve.connects().await;
    let answer = screen.follows(&[&conversation]).await;
    assert_eq!(answer["goneConversationIds"], json!([conversation]));
    // The conversation id and the message id are looked at together.
    let own = eve.starts_direct_with(&ann).await;
    let mixed = eve.get(&format!("/v1/conversations/{own}/messages/{message}")).await;
    assert_eq!(mixed.refused(404), "ERROR_REASON_MESSAGE_NOT_FOUND");
}

async fn typing_reaches_the_others_and_is_never_stored(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut bobs_screen = bob.comes_online().await;
    let mut anns_screen = ann.comes_online().await;
    let head =
        number(&bob.get(&format!("/v1/conversations/{conversation}/events")).await.ok()["headSequence"]);

    anns_screen
        .command(json!({ "sendSignal": { "conversationId": conversation, "kind": "SIGNAL_KIND_TYPING" } }))
        .await;
    let signal = bobs_screen.next_of("signal").await;
    assert_eq!(signal["userId"], json!(ann.id));
    assert_eq!(signal["kind"], json!("SIGNAL_KIND_TYPING"));
    let after = bob.get(&format!("/v1/conversations/{conversation}/events")).await.ok();
    assert!(number(&after["headSequence"]) <= head.max(1), "a signal was stored: {after}");
}

async fn sends_of_one_connection_keep_their_order(world: Arc<World>) {
    let [ann, bob] = world.people(["ann", "bob"]).await;
    let conversation = ann.starts_direct_with(&bob).await;
    let mut screen = ann.connects().await;
    // All at once, without waiting for the acknowledgements.
    for n in 0..30 {
        let frame = json!({ "id": format!("n{n}"), "sendMessage": {
            "conversationId": conversation, "content": { "text": n.to_string() }, "clientMessageId": format!("k{n}"),
        } });
        screen.sends_raw(&frame.to_string()).await;
    }
    for n in 0..30 {
        let answer = screen.next().await;
        assert_eq!(answer["id"], json!(format!("n{n}")), "{answer}");
        assert!(answer.get("sent").is_some(), "{answer}");
    }
    let words: Vec<String> = bob.reads(&conversation).await.into_iter().flatten().collect();
    assert_eq!(words, (0..30).map(|n| n.to_string()).collect::<Vec<_>>());
}
