//! Tests of the delivery of events to the followers of a conversation.

use serde_json::json;

use super::sse::Stream;
use super::world::{World, sequence, sequences};

#[tokio::test]
async fn events_come_in_order_whatever_becomes_of_the_hints() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let conversation = world.backend.conversation(&[ann.id, bob.id]);
    let mut client = world.follow(&bob, conversation, 1).await;
    world.backend.facts().double = true;
    // The last one arrives: what it shows to be missing is read, without waiting for the next comparison.
    for number in 0..20 {
        world.backend.facts().lose = usize::from(number % 3 == 0);
        world.backend.says(conversation, ann.id, "x");
    }
    assert_eq!(client.sequences(20).await, (2..=21).collect::<Vec<_>>());
    client.hears_nothing().await;
    world.backend.says(conversation, ann.id, "x");
    let push = client.next().await;
    assert!(push.get("event").is_some() && push.get("id").is_none(), "only answers have an id: {push}");
}

#[tokio::test]
async fn a_lost_last_hint_is_found_when_the_bus_says_so() {
    let world = World::start().await;
    let ann = world.person();
    let conversation = world.backend.conversation(&[ann.id]);
    let mut client = world.follow(&ann, conversation, 1).await;
    world.backend.facts().lose = 1;
    world.backend.says(conversation, ann.id, "x");
    client.hears_nothing().await;
    // A receiver that is full makes the bus say that hints may have been lost.
    let (full, _receiver) = tokio::sync::mpsc::channel(1);
    let _subscription = world.backend.events.subscribe("full", full).await;
    for _ in 0..2 {
        world.backend.events.publish("full", bytes::Bytes::new());
    }
    assert_eq!(client.sequences(1).await, [2]);
}

#[tokio::test]
async fn what_does_not_travel_on_the_bus_is_read_from_the_log_at_once() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let conversation = world.backend.conversation(&[ann.id, bob.id]);
    let mut client = world.follow(&bob, conversation, 1).await;
    let asked = |rpc: &str| world.backend.facts().asked.get(rpc).copied().unwrap_or_default();
    let (heads, reads) = (asked("ListHeads"), asked("ListEvents"));

    world.backend.whispers(conversation, ann.id, "for few");
    let event = client.next().await;
    assert_eq!(sequence(&event), Some(2));
    assert_eq!(event["event"]["messageCreated"]["content"]["text"], "for few");
    // A public message continues after it, and a known head is no reason to read.
    world.backend.says(conversation, ann.id, "for all");
    assert_eq!(client.sequences(1).await, [3]);
    world.backend.hint_head(conversation, 3);
    client.hears_nothing().await;
    assert_eq!(asked("ListEvents"), reads + 1);
    assert_eq!(asked("ListHeads"), heads, "nobody had to find out that something was missing");
}

#[tokio::test]
async fn one_who_was_away_gets_what_it_missed() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let conversation = world.backend.conversation(&[ann.id, bob.id]);
    let quiet = world.backend.conversation(&[ann.id, bob.id]);
    let foreign = world.backend.conversation(&[ann.id]);
    // More than one comparison, or one page of the log, brings.
    for _ in 0..449 {
        world.backend.says(conversation, ann.id, "x");
    }
    let mut client = world.connect(&bob).await;
    let (subscribed, missed) = client
        .subscribe(json!({
            "epoch": "epoch-1",
            "userSequence": 1,
            "heads": [
                {"conversationId": conversation.to_string(), "sequence": 3},
                {"conversationId": quiet.to_string(), "sequence": 1},
                {"conversationId": foreign.to_string(), "sequence": 0},
            ],
        }))
        .await;
    let subscribed = &subscribed["subscribed"];
    assert_eq!(subscribed["goneConversationIds"], json!([foreign.to_string()]));
    assert_eq!(subscribed["userHeadSequence"], "2");
    let heads = subscribed["heads"].as_array().expect("heads");
    assert_eq!(heads.len(), 2);
    assert!(heads.contains(&json!({"conversationId": conversation.to_string(), "sequence": "450"})));
    assert_eq!(sequences(&missed), (4..=450).collect::<Vec<_>>());
    let user_events: Vec<_> =
        missed.iter().filter_map(|frame| frame["userEvent"]["sequence"].as_str()).collect();
    assert_eq!(user_events, ["2"]);

    world.backend.says(conversation, ann.id, "y");
    world.backend.says(quiet, ann.id, "y");
    world.backend.says(foreign, ann.id, "y");
    assert_eq!(client.sequences(2).await, [451, 2]);
    client.hears_nothing().await;
}

#[tokio::test]
async fn what_happens_during_a_replay_is_neither_missed_nor_doubled() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let conversation = world.backend.conversation(&[ann.id, bob.id]);
    for _ in 0..300 {
        world.backend.says(conversation, ann.id, "x");
    }
    let mut client = world.connect(&bob).await;
    let backend = world.backend.clone();
    let mut talking = tokio::task::JoinSet::new();
    talking.spawn(async move {
        for number in 0..300 {
            backend.facts().lose = usize::from(number % 50 == 7);
            backend.says(conversation, ann.id, "y");
            tokio::task::yield_now().await;
        }
    });
    let heads = json!([{"conversationId": conversation.to_string(), "sequence": 0}]);
    client.say(json!({"id": "1", "subscribe": {"heads": heads}})).await;
    assert_eq!(client.sequences(601).await, (1..=601).collect::<Vec<_>>());
    talking.join_all().await;
    client.hears_nothing().await;
}

#[tokio::test]
async fn another_epoch_makes_a_client_begin_anew() {
    let world = World::start().await;
    let ann = world.person();
    let conversation = world.backend.conversation(&[ann.id]);
    let mut client = world.connect(&ann).await;
    let heads = json!([{"conversationId": conversation.to_string(), "sequence": 1}]);
    client.say(json!({"id": "1", "subscribe": {"heads": heads, "epoch": "epoch-0"}})).await;
    assert_eq!(client.answer("1").await["subscribed"]["fullSyncRequired"], true);
    world.backend.says(conversation, ann.id, "x");
    client.hears_nothing().await;

    // While a client is connected: it is sent away, and told when it is back.
    client.subscribe(json!({"heads": heads, "epoch": "epoch-1"})).await;
    world.backend.begins_a_new_epoch();
    world.backend.says(conversation, ann.id, "x");
    assert_eq!(client.close_code().await, 1012);
}

#[tokio::test]
async fn one_who_is_out_gets_nothing_more() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let conversation = world.backend.conversation(&[ann.id, bob.id]);
    let mut stays = world.follow(&ann, conversation, 1).await;
    let mut goes = world.follow(&bob, conversation, 1).await;
    world.backend.says(conversation, ann.id, "both");
    assert_eq!((stays.sequences(1).await, goes.sequences(1).await), (vec![2], vec![2]));

    // The gateway has received no hint, but the next message was written under a newer list of members.
    world.backend.is_out(conversation, bob.id);
    world.backend.says(conversation, ann.id, "ann only");
    assert_eq!(stays.sequences(1).await, [3]);
    world.backend.says_who_is_out(conversation, bob.id);
    world.backend.says(conversation, ann.id, "ann only");
    assert_eq!(stays.sequences(2).await, [4, 5]);
    let lost = goes.next().await;
    assert_eq!(lost["userEvent"]["conversationLost"]["conversationId"], conversation.to_string());
    goes.hears_nothing().await;
}

#[tokio::test]
async fn a_change_of_members_that_explains_itself_needs_no_check() {
    let world = World::start().await;
    let (ann, bob, cid) = (world.person(), world.person(), world.person());
    let conversation = world.backend.conversation(&[ann.id, bob.id]);
    let mut stays = world.follow(&ann, conversation, 1).await;
    let mut goes = world.follow(&bob, conversation, 1).await;
    world.backend.says(conversation, ann.id, "x");
    assert_eq!((stays.sequences(1).await, goes.sequences(1).await), (vec![2], vec![2]));
    let before = world.backend.facts().asked["CheckAccess"];

    world.backend.comes_in(conversation, cid.id);
    assert_eq!((stays.sequences(1).await, goes.sequences(1).await), (vec![3], vec![3]));
    world.backend.is_out(conversation, cid.id);
    world.backend.append(conversation, ann.id, {
        let removed = proto::conversation::v1::MemberRemoved { user_id: cid.id.to_string(), reason: 2 };
        proto::messaging::v1::event::Payload::MemberRemoved(removed)
    });
    assert_eq!((stays.sequences(1).await, goes.sequences(1).await), (vec![4], vec![4]));
    assert_eq!(world.backend.facts().asked["CheckAccess"], before);
}

#[tokio::test]
async fn one_who_follows_all_follows_what_it_comes_into() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let before = world.backend.conversation(&[ann.id, bob.id]);
    let mut client = world.connect(&bob).await;
    let (subscribed, missed) = client.subscribe(json!({"all": true})).await;
    assert_eq!(
        subscribed["subscribed"]["heads"],
        json!([{"conversationId": before.to_string(), "sequence": "1"}])
    );
    assert!(missed.is_empty(), "from now on: {missed:?}");

    world.backend.says(before, ann.id, "x");
    assert_eq!(client.sequences(1).await, [2]);

    let new = world.backend.conversation(&[ann.id, bob.id]);
    world.backend.says(new, ann.id, "first");
    let gained = client.next().await;
    assert_eq!(gained["userEvent"]["conversationGained"]["conversationId"], new.to_string());
    assert_eq!(client.sequences(2).await, [1, 2]);

    // One that is older begins where the user has come in.
    let old = world.backend.conversation(&[ann.id]);
    for _ in 0..10 {
        world.backend.says(old, ann.id, "x");
    }
    world.backend.comes_in(old, bob.id);
    world.backend.says(old, ann.id, "welcome");
    assert_eq!(client.sequences(2).await, [12, 13]);
}

#[tokio::test]
async fn receipts_and_signals_are_passed_on() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let conversation = world.backend.conversation(&[ann.id, bob.id]);
    let mut from = world.follow(&ann, conversation, 1).await;
    let mut to = world.follow(&bob, conversation, 1).await;
    let id = conversation.to_string();
    from.say(json!({"id": "1", "sendSignal": {"conversationId": id, "kind": "SIGNAL_KIND_TYPING"}})).await;
    assert_eq!(from.next().await, json!({"id": "1", "signalSent": {}}), "one's own is not heard");
    assert_eq!(to.next().await["signal"]["userId"], ann.id.to_string());
    from.say(json!({"id": "2", "advanceWatermark": {"conversationId": id, "readSequence": 1}})).await;
    assert_eq!(from.answer("2").await["watermarkAdvanced"]["watermark"]["readSequence"], "1");
    assert_eq!(to.next().await["receipt"]["userId"], ann.id.to_string());
}

#[tokio::test]
async fn no_receipt_is_shown_that_is_older_than_an_answer_or_another_receipt() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let conversation = world.backend.conversation(&[ann.id, bob.id]);
    let mut from = world.follow(&ann, conversation, 1).await;
    let mut stream = Stream::open(&world, &bob.token, "", None).await;
    stream.until("caught_up").await;
    let id = conversation.to_string();
    let receipt = |place: i64| world.backend.receipt(conversation, ann.id, place);
    // The others do not hear of it, because the bus is away; she sees the answer.
    world.backend.facts().lose = 1;
    from.say(json!({"id": "1", "advanceWatermark": {"conversationId": id, "readSequence": 96}})).await;
    assert_eq!(from.answer("1").await["watermarkAdvanced"]["watermark"]["readSequence"], "96");
    receipt(22);
    receipt(97);
    receipt(96);
    receipt(98);
    for place in ["97", "98"] {
        assert_eq!(from.next().await["receipt"]["readSequence"], place);
        let (_, frame, _) = stream.next().await;
        assert_eq!(frame["receipt"]["readSequence"], place, "{frame}");
    }
    // On another connection, and as an answer to what was asked before.
    drop(from);
    let mut back = world.follow(&ann, conversation, 1).await;
    receipt(97);
    back.say(json!({"id": "1", "advanceWatermark": {"conversationId": id, "readSequence": 50}})).await;
    assert_eq!(back.answer("1").await["watermarkAdvanced"]["watermark"]["readSequence"], "98");
    receipt(99);
    assert_eq!(back.next().await["receipt"]["readSequence"], "99");
}

#[tokio::test]
async fn one_who_follows_no_more_hears_no_more() {
    let world = World::start().await;
    let ann = world.person();
    let conversation = world.backend.conversation(&[ann.id]);
    let mut client = world.follow(&ann, conversation, 1).await;
    client.say(json!({"id": "1", "unsubscribe": {"conversationIds": [conversation.to_string()]}})).await;
    assert!(client.answer("1").await.get("unsubscribed").is_some());
    world.backend.says(conversation, ann.id, "x");
    client.hears_nothing().await;
}

#[tokio::test]
async fn one_who_is_too_slow_is_closed_and_can_resume() {
    let world = World::with(|sockets| sockets.queue_bytes = 256 * 1024).await;
    let (ann, bob) = (world.person(), world.person());
    let conversation = world.backend.conversation(&[ann.id, bob.id]);
    let mut slow = world.follow(&bob, conversation, 1).await;
    let mut quick = world.follow(&ann, conversation, 1).await;
    let text = "x".repeat(20_000);
    // More than the queue and the buffers of the system hold.
    for _ in 0..1_000 {
        world.backend.says(conversation, ann.id, &text);
        quick.sequences(1).await;
    }
    assert_eq!(slow.close_code().await, 4008);
    let heads = json!([{"conversationId": conversation.to_string(), "sequence": 995}]);
    let mut back = world.connect(&bob).await;
    let (_, missed) = back.subscribe(json!({"heads": heads, "epoch": "epoch-1"})).await;
    assert_eq!(sequences(&missed), (996..=1001).collect::<Vec<_>>());
}
