//! What a client sees of the socket, through a real gateway.

mod calls;
mod presence;
mod world;

use std::time::{Duration, Instant};

use futures_util::SinkExt;
use proto::gateway::v1::server_frame::Frame as Body;
use proto::gateway::v1::{ClientFrame, Hello, Subscribe, client_frame};
use proto::messaging::v1::Head;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use self::world::{Client, SOON, World, sequence, sequences};

fn send(id: &str, conversation: impl ToString, text: &str) -> Value {
    json!({"id": id, "sendMessage": {
        "conversationId": conversation.to_string(),
        "content": {"text": text},
        "clientMessageId": format!("client-{id}"),
    }})
}

#[tokio::test]
async fn one_who_signs_in_is_told_who_it_is() {
    let world = World::start().await;
    let ann = world.person();
    let mut client = world.socket().await;
    client.say(json!({"hello": {"sessionToken": ann.token}})).await;
    let ready = client.next().await;
    assert_eq!(ready["ready"]["userId"], ann.id.to_string());
    assert_eq!(ready["ready"]["sessionId"], ann.session.to_string());
    assert_eq!(ready["ready"]["epoch"], "epoch-1");
    assert_eq!(ready["ready"]["pingInterval"], "25s");
    client.say(json!({"id": "1", "ping": {}})).await;
    assert_eq!(client.next().await, json!({"id": "1", "pong": {}}));
}

#[tokio::test]
async fn a_token_may_come_with_the_upgrade_and_not_in_the_address() {
    let world = World::start().await;
    let ann = world.person();
    let url = format!("ws://{}/v1/socket", world.address);
    let mut client = Client::open(&url, Some(&format!("Bearer {}", ann.token))).await.expect("a socket");
    client.say(json!({"id": "1", "hello": {}})).await;
    assert_eq!(client.next().await["ready"]["userId"], ann.id.to_string());

    let error = Client::open(&url, Some("Bearer wrong")).await.err().expect("refused");
    assert!(error.to_string().contains("401"), "{error}");
    let error = Client::open(&format!("{url}?token={}", ann.token), None).await.err().expect("refused");
    assert!(error.to_string().contains("400"), "{error}");
}

#[tokio::test]
async fn one_who_is_nobody_is_closed_out() {
    let world = World::with(|sockets| sockets.hello_timeout = Duration::from_millis(100)).await;
    let mut silent = world.socket().await;
    assert_eq!(silent.close_code().await, 4001);

    let mut stranger = world.socket().await;
    stranger.say(json!({"id": "1", "hello": {"sessionToken": "wrong"}})).await;
    assert_eq!(stranger.next().await["error"]["reason"], "ERROR_REASON_UNAUTHENTICATED");
    assert_eq!(stranger.close_code().await, 4401);

    let mut hasty = world.socket().await;
    hasty.say(json!({"id": "1", "ping": {}})).await;
    assert_eq!(hasty.next().await["error"]["fields"][0]["field"], "command");
    assert_eq!(hasty.close_code().await, 4400);

    let mut large = world.socket().await;
    large.say(json!({"hello": {"sessionToken": "x".repeat(5_000)}})).await;
    assert_eq!(large.close_code().await, 1009);
}

#[tokio::test]
async fn a_user_has_so_many_connections() {
    let world = World::with(|sockets| sockets.per_user = 1).await;
    let ann = world.person();
    let first = world.connect(&ann).await;
    let mut second = world.socket().await;
    second.say(json!({"id": "1", "hello": {"sessionToken": ann.token}})).await;
    let refusal = second.next().await;
    assert_eq!(refusal["error"]["reason"], "ERROR_REASON_TOO_MANY_CONNECTIONS");
    assert_eq!(refusal["error"]["retryAfter"], "5s");
    assert_eq!(second.close_code().await, 4029);
    drop(first);
    for _ in 0..100 {
        let mut third = world.socket().await;
        third.say(json!({"id": "1", "hello": {"sessionToken": ann.token}})).await;
        if third.next().await.get("ready").is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the place is not given back");
}

#[tokio::test]
async fn a_message_is_acknowledged_and_reaches_those_who_follow() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let conversation = world.backend.conversation(&[ann.id, bob.id]);
    let mut from = world.connect(&ann).await;
    let mut to = world.follow(&bob, conversation, 1).await;

    from.say(send("s1", conversation, "hello")).await;
    let sent = from.answer("s1").await;
    assert_eq!(sent["sent"]["message"]["sequence"], "2");
    assert_eq!(sent["sent"]["message"]["clientMessageId"], "client-s1");
    assert_eq!(sent["sent"]["repeated"], false);

    let event = to.next().await;
    assert_eq!(event["event"]["sequence"], "2");
    assert_eq!(event["event"]["messageCreated"]["content"]["text"], "hello");
    assert_eq!(event["id"], "");

    from.say(send("s1", conversation, "hello")).await;
    assert_eq!(from.answer("s1").await["sent"]["repeated"], true);
    to.hears_nothing().await;
}

#[tokio::test]
async fn sends_that_are_not_waited_for_keep_their_order() {
    let world = World::start().await;
    let ann = world.person();
    let conversation = world.backend.conversation(&[ann.id]);
    let mut client = world.connect(&ann).await;
    for number in 0..50 {
        client.say(send(&format!("{number}"), conversation, "x")).await;
    }
    for number in 0..50 {
        let sent = client.next().await;
        assert_eq!(
            (&sent["id"], &sent["sent"]["message"]["sequence"]),
            (&json!(format!("{number}")), &json!(format!("{}", number + 2)))
        );
    }
}

#[tokio::test]
async fn a_send_whose_outcome_is_unknown_stops_those_behind_it() {
    let world = World::start().await;
    let ann = world.person();
    let conversation = world.backend.conversation(&[ann.id]);
    let other = world.backend.conversation(&[ann.id]);
    let mut client = world.connect(&ann).await;
    {
        let mut facts = world.backend.facts();
        facts.break_streams = 1;
        facts.send_takes = Duration::from_millis(100);
    }
    for id in ["1", "2", "3"] {
        client.say(send(id, conversation, id)).await;
    }
    for id in ["1", "2", "3"] {
        let refused = client.answer(id).await;
        assert_eq!(refused["error"]["status"], 503, "{refused}");
        assert!(refused["error"].get("retryAfter").is_some());
    }
    client.say(send("o", other, "elsewhere")).await;
    assert!(client.answer("o").await.get("sent").is_some());
    // The same again, in order: the first was stored after all.
    for (id, repeated) in [("1", true), ("2", false), ("3", false)] {
        client.say(send(id, conversation, id)).await;
        assert_eq!(client.answer(id).await["sent"]["repeated"], repeated);
    }
}

#[tokio::test]
async fn a_command_that_is_wrong_is_answered() {
    let world = World::start().await;
    let ann = world.person();
    let mut client = world.connect(&ann).await;
    client.say(json!({"id": "1", "sendMessage": {"conversationId": 5}})).await;
    assert_eq!(client.answer("1").await["error"]["status"], 400);
    client.say(json!({"id": "2", "subscribe": {"heads": [{"conversationId": "x"}]}})).await;
    assert_eq!(client.answer("2").await["error"]["fields"][0]["field"], "heads[0].conversation_id");
    client.say(json!({"id": "3"})).await;
    assert_eq!(client.answer("3").await["error"]["fields"][0]["field"], "command");
    client.say(send("4", proto::id::ConversationId::generate(), "x")).await;
    assert_eq!(client.answer("4").await["error"]["reason"], "ERROR_REASON_CONVERSATION_NOT_FOUND");
    client.say(json!({"ping": {}})).await;
    assert_eq!(client.close_code().await, 4400);

    let mut client = world.connect(&ann).await;
    client.0.send(Message::text("no json")).await.expect("sent");
    assert_eq!(client.close_code().await, 4400);

    let mut client = world.connect(&ann).await;
    let _ = client.0.send(Message::text("x".repeat(70_000))).await;
    assert_eq!(client.close_code().await, 1009);
}

#[tokio::test]
async fn too_many_commands_end_it() {
    let world = World::with(|sockets| sockets.commands_per_minute = 3).await;
    let ann = world.person();
    let mut client = world.connect(&ann).await;
    for _ in 0..4 {
        client.say(json!({"id": "1", "ping": {}})).await;
    }
    assert_eq!(client.close_code().await, 4029);
}

#[tokio::test]
async fn any_public_rpc_can_be_called() {
    let world = World::start().await;
    let ann = world.person();
    let conversation = world.backend.conversation(&[ann.id]);
    let mut client = world.connect(&ann).await;
    let call = |id: &str, method: &str, request: Value| json!({"id": id, "call": {"method": method, "request": request}});
    let get = "parlor.conversation.v1.ConversationService/GetConversation";
    client.say(call("1", get, json!({"conversationId": conversation.to_string()}))).await;
    let reply = client.answer("1").await;
    assert_eq!(reply["callReply"]["response"]["conversation"]["memberCount"], 1, "{reply}");
    client.say(call("2", get, json!({"colour": "red"}))).await;
    assert_eq!(client.answer("2").await["error"]["status"], 400);
    client.say(call("3", "parlor.auth.v1.AuthService/Introspect", json!({"sessionToken": "x"}))).await;
    assert_eq!(
        client.answer("3").await["error"]["fields"][0]["field"],
        "call.method",
        "it is for services only"
    );
    client.say(call("4", "parlor.messaging.v1.SyncService/StreamEvents", json!({}))).await;
    assert_eq!(client.answer("4").await["error"]["fields"][0]["field"], "call.method", "it is a stream");
}

#[tokio::test]
async fn what_is_called_counts_like_what_is_commanded() {
    let world = World::rated(|rates| {
        (rates.heavy_burst, rates.heavy_per_second) = (1, 1);
        (rates.sends_burst, rates.sends_per_second) = (1, 1);
    })
    .await;
    let mut client = world.connect(&world.person()).await;
    let nowhere = proto::id::ConversationId::generate().to_string();
    let purge = ("MessagingService/PurgeMessages", json!({"conversationId": nowhere}));
    let copy = json!({"conversationId": nowhere, "messageId": nowhere, "targetConversationId": nowhere});
    let forward = ("MessagingService/ForwardMessage", copy);
    let content = json!({"conversationId": nowhere, "content": {"text": "x"}});
    let send = ("MessagingService/SendMessage", content);
    for (number, (rpc, request), status) in
        [(1, &purge, 501), (2, &purge, 429), (3, &forward, 501), (4, &send, 429)]
    {
        let method = format!("parlor.messaging.v1.{rpc}");
        client.say(json!({"id": number.to_string(), "call": {"method": method, "request": request}})).await;
        let answer = client.answer(&number.to_string()).await;
        assert_eq!(answer["error"]["status"], status, "{answer}");
    }
}

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
    // What is said aloud goes on behind it, and a head that is known is no reason to read.
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

    // Nobody has told the gateway, but what is written now was written under a newer list of members.
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

#[tokio::test]
async fn one_who_is_signed_out_is_closed_at_once() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let mut client = world.connect(&ann).await;
    let mut other = world.connect(&bob).await;
    let begun = Instant::now();
    world.backend.signs_out(&ann);
    assert_eq!(client.close_code().await, 4401);
    assert!(begun.elapsed() < Duration::from_secs(1));
    other.say(json!({"id": "1", "ping": {}})).await;
    other.answer("1").await;
}

#[tokio::test]
async fn a_session_whose_time_has_come_is_closed_without_a_hint() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    world.backend.facts().sessions_last = Some(Duration::from_millis(500));
    let mut ends = world.connect(&ann).await;
    let mut is_prolonged = world.connect(&bob).await;
    world.backend.forgets(&ann);
    world.backend.facts().sessions_last = None;
    let begun = Instant::now();
    assert_eq!(ends.close_code().await, 4401);
    assert!(begun.elapsed() < Duration::from_secs(5));
    is_prolonged.say(json!({"id": "1", "ping": {}})).await;
    is_prolonged.answer("1").await;
}

#[tokio::test]
async fn a_token_can_be_renewed() {
    let world = World::start().await;
    let (ann, bob) = (world.person(), world.person());
    let mut client = world.connect(&ann).await;
    client.say(json!({"id": "1", "hello": {"sessionToken": bob.token}})).await;
    assert_eq!(client.answer("1").await["error"]["status"], 409);
    client.say(json!({"id": "2", "hello": {"sessionToken": ann.token}})).await;
    assert_eq!(client.answer("2").await["ready"]["userId"], ann.id.to_string());
}

#[tokio::test]
async fn when_the_gateway_goes_everyone_is_told_when_to_come_back() {
    let world = World::start().await;
    let ann = world.person();
    let conversation = world.backend.conversation(&[ann.id]);
    let mut client = world.follow(&ann, conversation, 1).await;
    let mut idle = world.connect(&ann).await;
    let mut stream = Stream::open(&world, &ann.token, "", None).await;
    stream.until("caught_up").await;
    world.backend.facts().send_takes = Duration::from_millis(300);
    client.say(send("1", conversation, "last")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stopped = world.unit.tasks.stop(Duration::from_secs(10));
    let seen = async {
        assert_eq!(idle.close_code().await, 1012);
        assert!(client.answer("1").await.get("sent").is_some(), "what is under way is finished");
        loop {
            let frame = client.next().await;
            if frame.get("closing").is_some() {
                assert!(frame["closing"]["retryAfter"].as_str().is_some());
                break;
            }
        }
        assert_eq!(client.close_code().await, 1012);
        stream.until("closing").await;
    };
    let (stopped, ()) = tokio::join!(stopped, seen);
    assert!(stopped, "in time");
}

#[tokio::test]
async fn a_hello_in_binary_is_answered_in_binary() {
    let world = World::start().await;
    let ann = world.person();
    let conversation = world.backend.conversation(&[ann.id]);
    let mut client = world.socket().await;
    let frame = |id: &str, command| ClientFrame { id: id.to_owned(), command: Some(command) };
    let hello = Hello { session_token: ann.token.clone() };
    client.say_in_binary(&frame("1", client_frame::Command::Hello(hello))).await;
    assert!(matches!(client.next_in_binary().await.frame, Some(Body::Ready(_))));
    let heads = vec![Head { conversation_id: conversation.to_string(), sequence: 0 }];
    let subscribe = Subscribe { heads, ..Subscribe::default() };
    client.say_in_binary(&frame("2", client_frame::Command::Subscribe(subscribe))).await;
    assert!(matches!(client.next_in_binary().await.frame, Some(Body::Subscribed(_))));
    assert!(matches!(client.next_in_binary().await.frame, Some(Body::Event(event)) if event.sequence == 1));
    assert!(matches!(client.next_in_binary().await.frame, Some(Body::CaughtUp(_))));
    world.backend.says(conversation, ann.id, "x");
    assert!(matches!(client.next_in_binary().await.frame, Some(Body::Event(event)) if event.sequence == 2));
}

/// The events of an SSE stream.
struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    async fn open(world: &World, token: &str, query: &str, last: Option<&str>) -> Self {
        let url = format!("http://{}/v1/events{query}", world.address);
        let mut request = reqwest::Client::new().get(url).bearer_auth(token);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event: its kind, its data, and its id.
    async fn next(&mut self) -> (String, Value, Option<String>) {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).map(str::to_owned)
                };
                if let (Some(kind), Some(data)) = (field("event"), field("data")) {
                    return (kind, serde_json::from_str(&data).expect("json"), field("id"));
                }
            } else {
                let chunk = tokio::time::timeout(SOON, self.response.chunk()).await.expect("a chunk soon");
                let chunk = chunk.expect("a chunk").expect("an open stream");
                self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
            }
        }
    }

    async fn until(&mut self, kind: &str) -> (Vec<Value>, Option<String>) {
        let mut seen = Vec::new();
        loop {
            let (next, data, id) = self.next().await;
            seen.push(data);
            if next == kind {
                return (seen, id);
            }
        }
    }
}

#[tokio::test]
async fn a_stream_of_events_goes_on_where_it_broke_off() {
    for named in [true, false] {
        let world = World::start().await;
        let (ann, bob) = (world.person(), world.person());
        let one = world.backend.conversation(&[ann.id, bob.id]);
        let other = world.backend.conversation(&[ann.id, bob.id]);
        let query =
            if named { format!("?conversation_id={one}&conversation_id={other}") } else { String::new() };
        let mut stream = Stream::open(&world, &bob.token, &query, None).await;
        stream.until("caught_up").await;
        world.backend.says(one, ann.id, "seen");
        let (kind, data, id) = stream.next().await;
        assert_eq!((kind.as_str(), sequence(&data)), ("event", Some(2)));
        drop(stream);

        world.backend.says(one, ann.id, "missed");
        world.backend.says(other, ann.id, "missed");
        let new = world.backend.conversation(&[ann.id, bob.id]);
        world.backend.says(new, ann.id, "missed");
        let mut stream = Stream::open(&world, &bob.token, &query, id.as_deref()).await;
        let (missed, id) = stream.until("caught_up").await;
        let mut missed = sequences(&missed);
        missed.sort_unstable();
        if named {
            assert_eq!(missed, [2, 3]);
        } else {
            // What the user came into meanwhile is followed from there, at the latest after it has caught up.
            while missed.len() < 4 {
                missed.extend(sequence(&stream.next().await.1));
            }
            missed.sort_unstable();
            assert_eq!(missed, [1, 2, 2, 3]);
        }
        world.backend.says(other, ann.id, "live");
        let (_, data, _) = stream.next().await;
        assert_eq!(sequence(&data), Some(3));

        // Nothing missed, nothing told again.
        drop(stream);
        if named {
            let mut stream = Stream::open(&world, &bob.token, &query, id.as_deref()).await;
            let (missed, _) = stream.until("caught_up").await;
            assert_eq!(sequences(&missed), [3]);
        }
    }
}

#[tokio::test]
async fn a_stream_of_another_epoch_begins_anew() {
    let world = World::start().await;
    let ann = world.person();
    let conversation = world.backend.conversation(&[ann.id]);
    let query = format!("?conversation_id={conversation}");
    let mut stream = Stream::open(&world, &ann.token, &query, None).await;
    let (_, id) = stream.until("caught_up").await;
    drop(stream);
    world.backend.begins_a_new_epoch();
    let mut stream = Stream::open(&world, &ann.token, &query, id.as_deref()).await;
    let (first, data, _) = stream.next().await;
    assert_eq!((first.as_str(), &data["subscribed"]["fullSyncRequired"]), ("subscribed", &json!(true)));
    stream.until("caught_up").await;
    world.backend.says(conversation, ann.id, "x");
    assert_eq!(sequence(&stream.next().await.1), Some(2));
}

#[tokio::test]
async fn a_stream_needs_a_token_and_ends_with_the_session() {
    let world = World::start().await;
    let ann = world.person();
    let url = format!("http://{}/v1/events", world.address);
    assert_eq!(reqwest::get(&url).await.expect("an answer").status(), 401);
    let wrong = reqwest::Client::new().get(&url).bearer_auth(&ann.token).header("last-event-id", "x!").send();
    assert_eq!(wrong.await.expect("an answer").status(), 400);

    let mut stream = Stream::open(&world, &ann.token, "", None).await;
    stream.until("caught_up").await;
    world.backend.signs_out(&ann);
    let ended = tokio::time::timeout(SOON, stream.response.chunk()).await.expect("soon");
    assert!(matches!(ended, Ok(None)));
}
