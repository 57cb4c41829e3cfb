//! Sending, editing, deleting, reading on.

use proto::conversation::v1::MemberRole;
use proto::id::MessageId;

use super::*;

#[tokio::test]
async fn what_is_sent_is_read_by_everybody_alike() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    let sent = world.send(ann, keyed(group, "e\u{301}", "k")).await.unwrap();
    assert!(!sent.repeated);
    let message = sent.message.unwrap();
    assert_eq!((text_of(&message), message.client_message_id.as_str(), message.version), ("é", "k", 1));
    assert_eq!(message.sender_id, ann.to_string());
    for reader in [ann, bob] {
        let ids = (group.to_string(), message.message_id.clone());
        let request = pb::GetMessageRequest { conversation_id: ids.0, message_id: ids.1 };
        let got =
            world.messaging().get_message(reader.says(request)).await.unwrap().into_inner().message.unwrap();
        assert_eq!(got, message);
        let created =
            world.events(reader, group, 0).await.events.into_iter().find_map(|event| match event.payload {
                Some(pb::event::Payload::MessageCreated(message)) => Some(message),
                _ => None,
            });
        assert_eq!(created.as_ref(), Some(&message));
    }
}

#[tokio::test]
async fn a_text_that_breaks_a_rule_is_refused_by_the_field_s_name() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    for text in ["", "  \n", "a\u{7}b", &"x".repeat(16_385)] {
        let fault = Fault::of(&world.send(ann, to(group, text)).await.unwrap_err());
        assert_eq!(
            (fault.code(), fault.reason()),
            (Code::InvalidArgument, "ERROR_REASON_INVALID_FIELD"),
            "{text:?}"
        );
        assert_eq!(fault.fields()[0].0, "content.text");
    }
    let nowhere = pb::SendMessageRequest { content: content("x"), ..Default::default() };
    assert_eq!(world.send(ann, nowhere).await.unwrap_err().code(), Code::InvalidArgument);
    let empty = pb::SendMessageRequest { content: None, ..to(group, "x") };
    assert_eq!(world.send(ann, empty).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_is_only_checked_is_not_sent() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(ann, 1).await;
    let head = world.events(ann, group, 0).await.head_sequence;
    let for_ann = Service("scheduling", Some(ann)).says(checked(to(group, "x")));
    let answer = world.messaging().send_message(for_ann).await.unwrap().into_inner();
    assert_eq!(answer, pb::SendMessageResponse::default());
    assert_eq!(world.send(ann, checked(keyed(group, "x", "k"))).await.unwrap(), answer);
    assert_eq!(world.events(ann, group, 0).await.head_sequence, head);
    // The key is still free.
    assert!(!world.send(ann, keyed(group, "y", "k")).await.unwrap().repeated);
}

#[tokio::test]
async fn a_check_refuses_what_a_send_would() {
    let world = World::start().await;
    let [ann, bob, eve] = world.people();
    let group = world.group(&[ann, bob]);
    let first = world.send(ann, keyed(group, "x", "k")).await.unwrap().message.unwrap();
    for text in ["", "  \n", "a\u{7}b", &"x".repeat(16_385)] {
        let fault = Fault::of(&world.send(ann, checked(to(group, text))).await.unwrap_err());
        assert_eq!((fault.code(), fault.fields()[0].0.as_str()), (Code::InvalidArgument, "content.text"));
    }
    let reply = |id: String| {
        world.send(ann, checked(pb::SendMessageRequest { reply_to_message_id: id, ..to(group, "x") }))
    };
    assert!(reply(first.message_id).await.is_ok());
    let nothing = reply(MessageId::generate().to_string()).await;
    assert_eq!(refusal(nothing), refused(Code::NotFound, "MESSAGE_NOT_FOUND"));
    assert!(world.send(ann, checked(keyed(group, "x", "k"))).await.is_ok());
    let other = world.send(ann, checked(keyed(group, "y", "k"))).await;
    assert_eq!(refusal(other), refused(Code::AlreadyExists, "CLIENT_MESSAGE_ID_REUSED"));
    let stranger = world.send(eve, checked(to(group, "x"))).await;
    assert_eq!(refusal(stranger), refused(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    world.others.set_role(group, bob, MemberRole::Muted);
    let muted = world.send(bob, checked(to(group, "x"))).await;
    assert_eq!(refusal(muted), refused(Code::PermissionDenied, "WRITE_DENIED"));
    world.others.set_down(true);
    let unknown = world.send(ann, checked(to(group, "x"))).await;
    assert_eq!(unknown.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_check_does_not_ask_how_fast_somebody_writes() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.others.set_slow_mode(group, Duration::from_secs(5));
    assert!(world.send(bob, checked(to(group, "one"))).await.is_ok());
    world.says(bob, group, "one").await;
    assert!(world.send(bob, checked(to(group, "two"))).await.is_ok());
}

#[tokio::test]
async fn a_check_makes_no_conversation() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let people = pb::UserIds { user_ids: vec![bob.to_string()] };
    for target in [Target::UserId(bob.to_string()), Target::UserIds(people)] {
        let request =
            pb::SendMessageRequest { target: Some(target), content: content("x"), ..Default::default() };
        let fault = Fault::of(&world.send(ann, checked(request)).await.unwrap_err());
        assert_eq!((fault.code(), fault.reason()), (Code::InvalidArgument, "ERROR_REASON_INVALID_FIELD"));
        let rule = "must be a conversation when validate_only is set".to_owned();
        assert_eq!(fault.fields(), [("target".to_owned(), rule)]);
    }
    assert!(world.user_events(ann).await.is_empty());
}

#[tokio::test]
async fn who_may_not_write_is_told_so_only_where_it_may_look() {
    let world = World::start().await;
    let [ann, bob, eve] = world.people();
    let group = world.group(&[ann, bob]);
    world.others.set_role(group, bob, MemberRole::Muted);
    let denied = refused(Code::PermissionDenied, "WRITE_DENIED");
    let not_found = refused(Code::NotFound, "CONVERSATION_NOT_FOUND");
    assert_eq!(refusal(world.send(bob, to(group, "x")).await), denied);
    assert_eq!(refusal(world.send(eve, to(group, "x")).await), not_found);
    assert_eq!(refusal(world.send(eve, to(ConversationId::generate(), "x")).await), not_found);
    let room = world.others.create(ConversationKind::Room, &[ann]);
    assert_eq!(refusal(world.send(eve, to(room, "x")).await), denied);
    assert_eq!(world.others.checks(), 4);
}

#[tokio::test]
async fn a_person_can_be_written_to_and_several() {
    let world = World::start().await;
    let [ann, bob, cy] = world.people();
    let person = |user: UserId| pb::SendMessageRequest {
        target: Some(Target::UserId(user.to_string())),
        content: content("hello"),
        ..Default::default()
    };
    let first = world.send(ann, person(bob)).await.unwrap().message.unwrap();
    let answer = world.send(bob, person(ann)).await.unwrap().message.unwrap();
    assert_eq!(first.conversation_id, answer.conversation_id);
    assert!(answer.sequence > first.sequence);
    let people = |users: &[UserId]| pb::SendMessageRequest {
        target: Some(Target::UserIds(pb::UserIds {
            user_ids: users.iter().map(ToString::to_string).collect(),
        })),
        content: content("hello"),
        ..Default::default()
    };
    let one = world.send(ann, people(&[bob, cy])).await.unwrap().message.unwrap();
    let two = world.send(cy, people(&[bob, ann])).await.unwrap().message.unwrap();
    assert_eq!(one.conversation_id, two.conversation_id);
    assert_ne!(one.conversation_id, first.conversation_id);
    let nobody = world.send(ann, person(UserId::generate())).await;
    assert_eq!(refusal(nobody), refused(Code::NotFound, "USER_NOT_FOUND"));
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_and_another_text_is_refused() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let first = world.send(ann, keyed(group, "hello", "k")).await.unwrap();
    let again = world.send(ann, keyed(group, "hello", "k")).await.unwrap();
    assert!(again.repeated);
    assert_eq!(again.message, first.message);
    let other = world.send(ann, keyed(group, "other", "k")).await;
    assert_eq!(refusal(other), refused(Code::AlreadyExists, "CLIENT_MESSAGE_ID_REUSED"));
}

#[tokio::test]
async fn slow_mode_says_when_to_come_again() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.others.set_slow_mode(group, Duration::from_secs(5));
    world.says(bob, group, "one").await;
    let fault = Fault::of(&world.send(bob, to(group, "two")).await.unwrap_err());
    assert_eq!((fault.code(), fault.reason()), (Code::ResourceExhausted, "ERROR_REASON_SLOW_MODE"));
    assert_eq!(fault.wait(), Some(Duration::from_secs(5)));
    world.says(ann, group, "an owner never waits").await;
    world.says(ann, group, "never").await;
    world.clock.advance(Duration::from_secs(5));
    world.says(bob, group, "two").await;
}

#[tokio::test]
async fn an_edit_wins_in_the_order_of_the_log_unless_a_version_is_expected() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    let message = world.says(ann, group, "first").await;
    let edit = async |by: UserId, id: &str, text: &str, expected_version| {
        let request = pb::EditMessageRequest {
            conversation_id: group.to_string(),
            message_id: id.to_owned(),
            content: content(text),
            expected_version,
        };
        world
            .messaging()
            .edit_message(by.says(request))
            .await
            .map(|answer| answer.into_inner().message.unwrap())
    };
    let edited = edit(ann, &message.message_id, "second", 1).await.unwrap();
    assert_eq!((edited.version, text_of(&edited)), (2, "second"));
    let late = Fault::of(&edit(ann, &message.message_id, "third", 1).await.unwrap_err());
    assert_eq!((late.code(), late.reason()), (Code::Aborted, "ERROR_REASON_VERSION_MISMATCH"));
    assert_eq!(late.metadata()["version"], "2");
    assert_eq!(edit(ann, &message.message_id, "third", 0).await.unwrap().version, 3);
    let foreign = edit(bob, &message.message_id, "his", 0).await;
    assert_eq!(refusal(foreign), refused(Code::PermissionDenied, "NOT_AUTHOR"));
    let unknown = edit(ann, &MessageId::generate().to_string(), "x", 0).await;
    assert_eq!(refusal(unknown), refused(Code::NotFound, "MESSAGE_NOT_FOUND"));

    let delete = async |by: UserId| {
        let ids = (group.to_string(), message.message_id.clone());
        let request = pb::DeleteMessageRequest { conversation_id: ids.0, message_id: ids.1 };
        world
            .messaging()
            .delete_message(by.says(request))
            .await
            .map(|answer| answer.into_inner().message.unwrap())
    };
    assert_eq!(refusal(delete(bob).await), refused(Code::PermissionDenied, "NOT_AUTHOR"));
    world.others.set_role(group, bob, MemberRole::Moderator);
    let tombstone = delete(bob).await.unwrap();
    assert_eq!((tombstone.content.clone(), tombstone.deleted_by_user_id.clone()), (None, bob.to_string()));
    assert_eq!(delete(ann).await.unwrap(), tombstone);
    let edit = edit(ann, &message.message_id, "back", 0).await;
    assert_eq!(refusal(edit), refused(Code::FailedPrecondition, "MESSAGE_DELETED"));
    let replay = world.events(ann, group, 0).await.events;
    assert!(!format!("{replay:?}").contains("third"));
}

#[tokio::test]
async fn a_watermark_moves_forward_to_the_head_and_no_further() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    world.has_heard(bob, 1).await;
    for text in ["1", "2", "3"] {
        world.says(ann, group, text).await;
    }
    let head = world.events(ann, group, 0).await.head_sequence;
    let advance = async |read, delivered| {
        let request = pb::AdvanceWatermarkRequest {
            conversation_id: group.to_string(),
            read_sequence: read,
            delivered_sequence: delivered,
            ..Default::default()
        };
        let answer = world.messaging().advance_watermark(bob.says(request)).await.unwrap();
        let watermark = answer.into_inner().watermark.unwrap();
        (watermark.read_sequence, watermark.delivered_sequence)
    };
    let unread = async || {
        let answer =
            world.messaging().get_unread_counts(bob.says(pb::GetUnreadCountsRequest {})).await.unwrap();
        answer.into_inner().total
    };
    assert_eq!(unread().await, 3);
    assert_eq!(advance(0, 0).await, (0, 0));
    assert_eq!(advance(0, 2).await, (0, 2));
    assert_eq!(advance(head - 1, 0).await, (head - 1, head - 1));
    assert_eq!(unread().await, 1);
    assert_eq!(advance(1, 1).await, (head - 1, head - 1));
    assert_eq!(advance(999, 0).await, (head, head));
    assert_eq!(unread().await, 0);
    let request = pb::ListReceiptsRequest { conversation_id: group.to_string(), ..Default::default() };
    let receipts = world.messaging().list_receipts(ann.says(request)).await.unwrap().into_inner().watermarks;
    assert_eq!(receipts.len(), 1);
    assert_eq!((receipts[0].user_id.clone(), receipts[0].read_sequence), (bob.to_string(), head));
    // The other devices of the reader hear of it, and only when something was read.
    let own = world.user_events(bob).await;
    let reads = own
        .iter()
        .filter(|event| matches!(event.payload, Some(pb::user_event::Payload::WatermarkAdvanced(_))));
    assert_eq!(reads.count(), 2);
}

#[tokio::test]
async fn without_conversation_nothing_is_decided_and_nothing_hangs() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    world.says(ann, group, "before").await;
    world.others.set_down(true);
    let fault = Fault::of(&world.send(ann, to(group, "meanwhile")).await.unwrap_err());
    assert_eq!(fault.code(), Code::Unavailable);
    assert!(fault.wait().is_some());
    let request = pb::ListMessagesRequest { conversation_id: group.to_string(), ..Default::default() };
    assert_eq!(world.list(ann, request).await.unwrap_err().code(), Code::Unavailable);
    world.others.set_down(false);
    world.says(ann, group, "after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_key_over_two_replicas_is_one_message() {
    let Some((database, scratch)) = testing::postgres(&MIGRATOR, "messaging").await else { return };
    let clock = Clock::system();
    let world = World::on(database, Some(scratch), Others::new(clock.clone()), clock).await;
    let replica = world.replica().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let mut work = tokio::task::JoinSet::new();
    for n in 0..64 {
        let mut client = if n % 2 == 0 { world.messaging() } else { replica.messaging() };
        work.spawn(async move { client.send_message(ann.says(keyed(group, "hello", "k"))).await });
    }
    let (mut firsts, mut ids) = (0, std::collections::BTreeSet::new());
    while let Some(done) = work.join_next().await {
        let sent = done.unwrap().unwrap().into_inner();
        firsts += usize::from(!sent.repeated);
        ids.insert(sent.message.unwrap().message_id);
    }
    assert_eq!((firsts, ids.len()), (1, 1));
}

#[tokio::test]
async fn only_scheduling_sends_for_others() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let for_ann = |service| Service(service, Some(ann)).says(to(group, "x"));
    let sent = world.messaging().send_message(for_ann("scheduling")).await.unwrap().into_inner();
    assert_eq!(sent.message.unwrap().sender_id, ann.to_string());
    assert_eq!(
        world.messaging().send_message(for_ann("gateway")).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let stranger = world.messaging().send_message(Request::new(to(group, "x"))).await;
    assert_eq!(stranger.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn what_is_under_way_when_the_service_stops_is_done() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let mut sends = tokio::task::JoinSet::new();
    for n in 0..20 {
        let mut client = world.messaging();
        sends.spawn(async move { client.send_message(ann.says(to(group, &n.to_string()))).await });
    }
    tokio::task::yield_now().await;
    world.unit.stop(PATIENCE).await;
    while let Some(send) = sends.join_next().await {
        send.unwrap().unwrap();
    }
    assert_eq!(world.send(ann, to(group, "late")).await.unwrap_err().code(), Code::Unavailable);
}
