//! History, the inbox, the logs, and getting up to date.

use proto::id::MessageId;

use super::*;

fn page(conversation: ConversationId, page_size: i32, token: &str) -> pb::ListMessagesRequest {
    pb::ListMessagesRequest {
        conversation_id: conversation.to_string(),
        page_size,
        page_token: token.to_owned(),
        ..Default::default()
    }
}

fn texts(messages: &[pb::Message]) -> Vec<&str> {
    messages.iter().map(text_of).collect()
}

#[tokio::test]
async fn pages_go_on_and_back() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    for n in 1..=7 {
        world.says(ann, group, &n.to_string()).await;
    }
    let first = world.list(ann, page(group, 3, "")).await.unwrap();
    assert_eq!(texts(&first.messages), ["7", "6", "5"]);
    let second = world.list(ann, page(group, 3, &first.next_page_token)).await.unwrap();
    assert_eq!(texts(&second.messages), ["4", "3", "2"]);
    let third = world.list(ann, page(group, 3, &second.next_page_token)).await.unwrap();
    assert_eq!((texts(&third.messages), third.next_page_token.as_str()), (vec!["1"], ""));

    let back = world.list(ann, page(group, 3, &third.previous_page_token)).await.unwrap();
    assert_eq!(texts(&back.messages), ["2", "3", "4"]);
    let newest = world.list(ann, page(group, 3, &first.previous_page_token)).await.unwrap();
    assert!(newest.messages.is_empty());
    world.says(ann, group, "8").await;
    let newest = world.list(ann, page(group, 3, &first.previous_page_token)).await.unwrap();
    assert_eq!(texts(&newest.messages), ["8"]);
    assert_eq!(newest.head_sequence, newest.messages[0].sequence);

    let oldest = pb::ListMessagesRequest { order: pb::Order::OldestFirst.into(), ..page(group, 2, "") };
    assert_eq!(texts(&world.list(ann, oldest).await.unwrap().messages), ["1", "2"]);
    let after = first.messages[2].sequence;
    let bounded =
        pb::ListMessagesRequest { after_sequence: after, before_sequence: after + 2, ..page(group, 9, "") };
    assert_eq!(texts(&world.list(ann, bounded).await.unwrap().messages), ["6"]);
}

#[tokio::test]
async fn a_token_belongs_to_its_list_and_its_reader() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let [one, two] = [world.group(&[ann, bob]), world.group(&[ann, bob])];
    for conversation in [one, two] {
        world.says(ann, conversation, "1").await;
        world.says(ann, conversation, "2").await;
    }
    let token = world.list(ann, page(one, 1, "")).await.unwrap().next_page_token;
    assert!(world.list(ann, page(one, 1, &token)).await.is_ok());
    for refused_page in
        [world.list(ann, page(two, 1, &token)).await, world.list(bob, page(one, 1, &token)).await]
    {
        let fault = Fault::of(&refused_page.unwrap_err());
        assert_eq!((fault.code(), fault.fields()[0].0.as_str()), (Code::InvalidArgument, "page_token"));
    }
}

#[tokio::test]
async fn a_page_of_long_texts_is_cut_and_goes_on() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    for _ in 0..90 {
        world.says(ann, group, &"x".repeat(16_000)).await;
    }
    let (mut token, mut seen, mut pages) = (String::new(), 0, 0);
    loop {
        let answer = world.list(ann, page(group, 100, &token)).await.unwrap();
        assert!(answer.messages.len() <= 66);
        (seen, pages) = (seen + answer.messages.len(), pages + 1);
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((seen, pages), (90, 2));
}

#[tokio::test]
async fn to_a_stranger_foreign_and_unknown_are_one() {
    let world = World::start().await;
    let [ann, eve] = world.people();
    let group = world.group(&[ann]);
    let message = world.says(ann, group, "secret").await;
    for conversation in [group, ConversationId::generate()] {
        let id = conversation.to_string();
        let (mut messaging, mut sync) = (world.messaging(), world.sync());
        let message_id = message.message_id.clone();
        let get = pb::GetMessageRequest { conversation_id: id.clone(), message_id: message_id.clone() };
        let edit = pb::EditMessageRequest {
            conversation_id: id.clone(),
            message_id: message_id.clone(),
            content: content("x"),
            expected_version: 0,
        };
        let delete = pb::DeleteMessageRequest { conversation_id: id.clone(), message_id };
        let advance = pb::AdvanceWatermarkRequest {
            conversation_id: id.clone(),
            read_sequence: 1,
            ..Default::default()
        };
        let receipts = pb::ListReceiptsRequest { conversation_id: id.clone(), ..Default::default() };
        let events = pb::ListEventsRequest { conversation_id: id.clone(), ..Default::default() };
        let stream =
            pb::StreamEventsRequest { heads: vec![pb::Head { conversation_id: id.clone(), sequence: 0 }] };
        let signal = pb::SendSignalRequest { conversation_id: id, kind: pb::SignalKind::Typing.into() };
        let refusals = [
            refusal(messaging.get_message(eve.says(get)).await),
            refusal(messaging.list_messages(eve.says(page(conversation, 0, ""))).await),
            refusal(messaging.edit_message(eve.says(edit)).await),
            refusal(messaging.delete_message(eve.says(delete)).await),
            refusal(messaging.advance_watermark(eve.says(advance)).await),
            refusal(messaging.list_receipts(eve.says(receipts)).await),
            refusal(sync.list_events(eve.says(events)).await),
            refusal(sync.stream_events(eve.says(stream)).await.map(|_| ())),
            refusal(sync.send_signal(eve.says(signal)).await),
        ];
        for one in refusals {
            assert_eq!(one, refused(Code::NotFound, "CONVERSATION_NOT_FOUND"));
        }
    }
    let elsewhere = world.group(&[eve]);
    let ids = (elsewhere.to_string(), message.message_id);
    let foreign = pb::GetMessageRequest { conversation_id: ids.0.clone(), message_id: ids.1 };
    let unknown =
        pb::GetMessageRequest { conversation_id: ids.0, message_id: MessageId::generate().to_string() };
    for request in [foreign, unknown] {
        let outcome = world.messaging().get_message(eve.says(request)).await;
        assert_eq!(refusal(outcome), refused(Code::NotFound, "MESSAGE_NOT_FOUND"));
    }
}

#[tokio::test]
async fn the_inbox_shows_what_is_new_first() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let [one, two, three] = [(); 3].map(|()| {
        world.clock.advance(Duration::from_millis(1));
        world.group(&[ann, bob])
    });
    world.has_heard(bob, 3).await;
    for (conversation, text) in [(three, "a"), (one, "b"), (one, "c")] {
        world.clock.advance(Duration::from_millis(1));
        world.says(ann, conversation, text).await;
    }
    let inbox = async |page_size, token: &str| {
        let request = pb::ListInboxRequest { page_size, page_token: token.to_owned(), ..Default::default() };
        world.sync().list_inbox(bob.says(request)).await.unwrap().into_inner()
    };
    let summary = |entry: &pb::InboxEntry| {
        let id = entry.conversation.as_ref().unwrap().conversation_id.clone();
        (id, entry.last_message.as_ref().map(|message| text_of(message).to_owned()), entry.unread_count)
    };
    let all = inbox(0, "").await;
    let expected = [
        (one.to_string(), Some("c".to_owned()), 2),
        (three.to_string(), Some("a".to_owned()), 1),
        (two.to_string(), None, 0),
    ];
    assert_eq!(all.entries.iter().map(summary).collect::<Vec<_>>(), expected);
    assert_eq!(all.next_page_token, "");
    assert!(all.entries.iter().all(|entry| entry.head_sequence > 0 && entry.watermark.is_some()));
    let first = inbox(2, "").await;
    let second = inbox(2, &first.next_page_token).await;
    let pages: Vec<_> = first.entries.iter().chain(&second.entries).map(summary).collect();
    assert_eq!((pages, second.next_page_token.as_str()), (expected.to_vec(), ""));

    let counts = world.messaging().get_unread_counts(bob.says(pb::GetUnreadCountsRequest {})).await.unwrap();
    assert_eq!((counts.get_ref().counts.len(), counts.get_ref().total), (2, 3));
    // Who comes in later has missed nothing.
    let [cy] = world.people();
    world.clock.advance(Duration::from_millis(1));
    world.others.add(one, cy);
    let counts = world.messaging().get_unread_counts(cy.says(pb::GetUnreadCountsRequest {})).await.unwrap();
    assert_eq!(counts.get_ref().total, 0);
    world.others.remove(one, bob);
    assert_eq!(inbox(0, "").await.entries.len(), 2);
}

#[tokio::test]
async fn what_conversation_tells_becomes_part_of_the_logs() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann]);
    world.has_heard(ann, 1).await;
    world.says(ann, group, "alone").await;
    world.clock.advance(Duration::from_secs(60));
    world.others.add(group, bob);
    world.has_heard(bob, 1).await;
    world.others.remove(group, bob);
    world.has_heard(bob, 2).await;
    let log = world.events(ann, group, 0).await;
    let kinds: Vec<_> = log
        .events
        .iter()
        .map(|event| match event.payload.as_ref().unwrap() {
            pb::event::Payload::ConversationCreated(_) => "created",
            pb::event::Payload::MessageCreated(_) => "message",
            pb::event::Payload::MembersAdded(added) => {
                assert_eq!(added.members[0].user_id, bob.to_string());
                "added"
            }
            pb::event::Payload::MemberRemoved(_) => "removed",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["created", "message", "added", "removed"]);
    assert_eq!(log.events.iter().map(|event| event.membership_version).collect::<Vec<_>>(), [1, 1, 2, 3]);
    assert!(log.events.iter().all(|event| event.epoch == log.epoch && !log.epoch.is_empty()));
    match world.user_events(bob).await.remove(0).payload.unwrap() {
        pb::user_event::Payload::ConversationGained(gained) => {
            assert_eq!((gained.conversation_id, gained.after_sequence), (group.to_string(), 2));
        }
        other => panic!("{other:?}"),
    }

    world.others.delete(group);
    world.has_heard(ann, 2).await;
    assert_eq!(
        refusal(world.send(ann, to(group, "x")).await),
        refused(Code::NotFound, "CONVERSATION_NOT_FOUND")
    );
}

#[tokio::test]
async fn a_gateway_repairs_for_a_user_and_sees_no_more_than_the_user() {
    let world = World::start().await;
    let [ann, eve] = world.people();
    let group = world.group(&[ann]);
    world.has_heard(ann, 1).await;
    world.says(ann, group, "x").await;
    let request =
        || pb::ListEventsRequest { conversation_id: group.to_string(), limit: 1, ..Default::default() };
    let gateway = |user| Service("gateway", user);
    let answer = world.sync().list_events(gateway(Some(ann)).says(request())).await.unwrap().into_inner();
    assert_eq!((answer.events.len(), answer.head_sequence), (1, 2));
    let foreign = world.sync().list_events(gateway(Some(eve)).says(request())).await;
    assert_eq!(refusal(foreign), refused(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    let other = world.sync().list_events(Service("scheduling", Some(ann)).says(request())).await;
    assert_eq!(other.unwrap_err().code(), Code::PermissionDenied);
    let heads = pb::ListHeadsRequest {
        conversation_ids: vec![group.to_string(), ConversationId::generate().to_string()],
        user_ids: vec![ann.to_string(), eve.to_string()],
    };
    let heads_of = world.sync().list_heads(gateway(None).says(heads.clone())).await.unwrap().into_inner();
    assert_eq!((heads_of.conversations.len(), heads_of.conversations[0].sequence), (1, 2));
    assert_eq!((heads_of.users.len(), heads_of.users[0].sequence), (1, 1));
    assert_eq!(world.sync().list_heads(ann.says(heads)).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn the_gateway_keeps_the_positions_of_streams_for_their_user_while_they_are_used() {
    let world = World::sweeping(ending::ALWAYS).await;
    let [ann, bob] = world.people();
    let checkpoint_id = proto::id::StreamCheckpointId::generate().to_string();
    let create =
        pb::CreateStreamCheckpointRequest { checkpoint_id: checkpoint_id.clone(), positions: vec![1, 2, 3] };
    let get = |by: Service| {
        let request = pb::GetStreamCheckpointRequest { checkpoint_id: checkpoint_id.clone() };
        let mut sync = world.sync();
        async move {
            sync.get_stream_checkpoint(by.says(request)).await.map(|answer| answer.into_inner().positions)
        }
    };
    let gateway = |user| Service("gateway", user);
    world.sync().create_stream_checkpoint(gateway(Some(ann)).says(create.clone())).await.unwrap();
    assert_eq!(get(gateway(Some(ann))).await.unwrap(), [1, 2, 3]);
    assert!(get(gateway(Some(bob))).await.unwrap().is_empty());
    assert_eq!(get(gateway(None)).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(get(Service("scheduling", Some(ann))).await.unwrap_err().code(), Code::PermissionDenied);
    let of_user = world.sync().create_stream_checkpoint(ann.says(create)).await;
    assert_eq!(of_user.unwrap_err().code(), Code::PermissionDenied);

    // Each use counts from then on.
    for _ in 0..2 {
        world.clock.advance(crate::stream_checkpoints::UNUSED - Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(get(gateway(Some(ann))).await.unwrap(), [1, 2, 3]);
    }
    world.clock.advance(crate::stream_checkpoints::UNUSED);
    // The sweeper looks every 10 ms.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(get(gateway(Some(ann))).await.unwrap().is_empty());
}

async fn sync(world: &World, user: UserId, request: pb::SyncRequest) -> pb::SyncResponse {
    world.sync().sync(user.says(request)).await.unwrap().into_inner()
}

fn head(conversation: ConversationId, sequence: i64) -> pb::Head {
    pb::Head { conversation_id: conversation.to_string(), sequence }
}

#[tokio::test]
async fn sync_brings_the_differences_and_says_what_is_missing() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let [quiet, busy, left] = [(); 3].map(|()| world.group(&[ann, bob]));
    world.has_heard(bob, 3).await;
    for n in 0..230 {
        world.says(ann, busy, &n.to_string()).await;
    }
    world.others.remove(left, bob);
    world.has_heard(bob, 4).await;
    let epoch = world.events(bob, quiet, 0).await.epoch;
    let request = pb::SyncRequest {
        epoch: epoch.clone(),
        heads: vec![head(quiet, 1), head(busy, 11), head(left, 1)],
        user_sequence: 3,
        ..Default::default()
    };
    let answer = sync(&world, bob, request.clone()).await;
    assert_eq!((answer.epoch.clone(), answer.full_sync_required), (epoch.clone(), false));
    assert_eq!(answer.gone_conversation_ids, [left.to_string()]);
    assert_eq!((answer.user_events.len(), answer.user_head_sequence), (1, 4));
    assert_eq!(answer.next_page_token, "");
    let [difference] = answer.differences.as_slice() else { panic!("{:?}", answer.differences) };
    assert_eq!((difference.conversation_id.clone(), difference.head_sequence), (busy.to_string(), 231));
    assert!(difference.limited);
    assert_eq!(difference.hole, Some(pb::Hole { from_sequence: 12, to_sequence: 31 }));
    let sequences: Vec<_> = difference.events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (32..=231).collect::<Vec<_>>());

    let near = pb::SyncRequest { heads: vec![head(busy, 229)], only_listed: true, ..request.clone() };
    let answer = sync(&world, bob, near).await;
    let [difference] = answer.differences.as_slice() else { panic!("{:?}", answer.differences) };
    assert!(!difference.limited && difference.hole.is_none() && difference.events.len() == 2);

    for other in ["another", ""] {
        let answer = sync(&world, bob, pb::SyncRequest { epoch: other.to_owned(), ..request.clone() }).await;
        assert!(answer.full_sync_required && answer.differences.is_empty());
    }
    // Beyond the log of a conversation, and beyond the user's own.
    for beyond in [
        pb::SyncRequest { heads: vec![head(quiet, 1), head(busy, 232)], ..request.clone() },
        pb::SyncRequest { heads: vec![head(quiet, 2)], only_listed: true, ..request.clone() },
        pb::SyncRequest { user_sequence: 5, ..request.clone() },
    ] {
        let answer = sync(&world, bob, beyond).await;
        assert!(answer.full_sync_required && answer.differences.is_empty());
    }
    let everything = sync(&world, bob, pb::SyncRequest::default()).await;
    assert_eq!((everything.full_sync_required, everything.differences.len()), (false, 2));
}

#[tokio::test]
async fn sync_comes_in_pages_of_conversations_and_of_bytes() {
    let world = World::start().await;
    let [ann] = world.people();
    for _ in 0..130 {
        world.group(&[ann]);
    }
    let large = [(); 3].map(|()| world.group(&[ann]));
    world.has_heard(ann, 133).await;
    for conversation in large {
        for _ in 0..60 {
            world.says(ann, conversation, &"x".repeat(16_000)).await;
        }
    }
    let epoch = world.events(ann, large[0], 0).await.epoch;
    let (mut token, mut seen, mut pages) = (String::new(), std::collections::BTreeSet::new(), 0);
    loop {
        let request = pb::SyncRequest {
            epoch: epoch.clone(),
            page_token: token,
            user_sequence: 133,
            ..Default::default()
        };
        let answer = sync(&world, ann, request).await;
        assert!(answer.differences.len() <= 100);
        let bytes = prost::Message::encoded_len(&answer);
        assert!(bytes < 1_500_000, "{bytes}");
        for difference in answer.differences {
            let first = difference.events.first().map(|event| event.sequence);
            let covered = difference.hole.as_ref().map_or(1, |hole| hole.to_sequence + 1);
            assert_eq!(first, Some(covered), "what is missing is said");
            assert!(seen.insert(difference.conversation_id));
        }
        pages += 1;
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), 133);
    assert!((3..=6).contains(&pages), "{pages}");
}
