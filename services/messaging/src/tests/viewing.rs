//! Conversations that everybody may read: for users who are not members, and for viewers who are not signed in.

use super::*;

/// The gateway, for a viewer who is not signed in.
const ANONYMOUS: Service = Service("gateway", None);

fn history(conversation: ConversationId) -> pb::ListMessagesRequest {
    pb::ListMessagesRequest { conversation_id: conversation.to_string(), ..Default::default() }
}

#[tokio::test]
async fn an_anonymous_viewer_reads_what_everybody_may_read() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let (room, group) = (world.others.create(ConversationKind::Room, &[ann, bob]), world.group(&[ann]));
    world.others.set_public_read(room);
    let message = world.says(ann, room, "welcome").await;
    world.says(ann, group, "secret").await;
    let react = pb::AddReactionRequest {
        conversation_id: room.to_string(),
        message_id: message.message_id.clone(),
        emoji: "👍".to_owned(),
    };
    world.annotations().add_reaction(bob.says(react)).await.unwrap();

    let list = async |request| world.messaging().list_messages(ANONYMOUS.says(request)).await;
    let page = list(history(room)).await.unwrap().into_inner();
    assert_eq!(page.messages.iter().map(text_of).collect::<Vec<_>>(), ["welcome"]);
    assert_eq!((page.messages[0].reactions.len(), page.messages[0].viewer.clone()), (1, None));
    // The next page is for the same viewer only.
    world.says(ann, room, "again").await;
    let first = pb::ListMessagesRequest { page_size: 1, ..history(room) };
    let token = list(first).await.unwrap().into_inner().next_page_token;
    let next = pb::ListMessagesRequest { page_token: token.clone(), ..history(room) };
    assert_eq!(text_of(&list(next.clone()).await.unwrap().into_inner().messages[0]), "welcome");
    assert_eq!(refusal(world.list(ann, next).await), refused(Code::InvalidArgument, "INVALID_FIELD"));

    for conversation in [group, ConversationId::generate()] {
        let refusal = refusal(list(history(conversation)).await);
        assert_eq!(refusal, refused(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    }
    world.others.delete(room);
    assert_eq!(refusal(list(history(room)).await), refused(Code::NotFound, "CONVERSATION_NOT_FOUND"));
}

#[tokio::test]
async fn an_anonymous_viewer_reads_the_log_of_what_everybody_may_read() {
    let world = World::start().await;
    let [ann] = world.people();
    let (room, group) = (world.others.create(ConversationKind::Room, &[ann]), world.group(&[ann]));
    world.others.set_public_read(room);
    for conversation in [room, group] {
        world.says(ann, conversation, "welcome").await;
    }
    let list = async |conversation: ConversationId| {
        let request =
            pb::ListEventsRequest { conversation_id: conversation.to_string(), after_sequence: 0, limit: 10 };
        world.sync().list_events(ANONYMOUS.says(request)).await
    };
    assert_eq!(list(room).await.unwrap().into_inner(), world.events(ann, room, 0).await);
    assert_eq!(refusal(list(group).await), refused(Code::NotFound, "CONVERSATION_NOT_FOUND"));
}

#[tokio::test]
async fn only_the_gateway_asks_for_an_anonymous_viewer_and_only_for_history() {
    let world = World::start().await;
    let [ann] = world.people();
    let room = world.others.create(ConversationKind::Room, &[ann]);
    world.others.set_public_read(room);
    let message = world.says(ann, room, "welcome").await;
    let not_admitted = refused(Code::PermissionDenied, "NOT_ADMITTED");
    for service in [Service("gateway", Some(ann)), Service("scheduling", None)] {
        assert_eq!(refusal(world.messaging().list_messages(service.says(history(room))).await), not_admitted);
    }
    let unsigned = world.messaging().list_messages(Request::new(history(room))).await;
    assert_eq!(refusal(unsigned), refused(Code::Unauthenticated, "UNAUTHENTICATED"));
    let get = pb::GetMessageRequest { conversation_id: room.to_string(), message_id: message.message_id };
    assert_eq!(refusal(world.messaging().get_message(ANONYMOUS.says(get)).await), not_admitted);
}

#[tokio::test]
async fn who_is_not_a_member_only_reads() {
    let world = World::start().await;
    let ann = world.others.register();
    let eve = world.others.register_as("eve");
    let room = world.others.create(ConversationKind::Room, &[ann, eve]);
    world.others.set_public_read(room);
    let own = world.says(eve, room, "mine").await;
    let message = world.says(ann, room, "welcome").await;
    world.others.remove(room, eve);

    assert_eq!(world.list(eve, history(room)).await.unwrap().messages.len(), 2);
    // The creation and the removal enter the log beside the two messages, when the facts of conversation are read.
    eventually(async || world.events(ann, room, 0).await.head_sequence == 4).await;
    assert_eq!(world.events(eve, room, 0).await, world.events(ann, room, 0).await);
    let (mut messaging, mut reports) = (world.messaging(), world.reports.clone());
    let (id, message_id) = (room.to_string(), message.message_id.clone());
    let advance =
        pb::AdvanceWatermarkRequest { conversation_id: id.clone(), read_sequence: 1, ..Default::default() };
    let receipts = pb::ListReceiptsRequest { conversation_id: id.clone(), ..Default::default() };
    let hide = pb::HideMessageRequest { conversation_id: id.clone(), message_id: message_id.clone() };
    let delete = pb::DeleteMessageRequest { conversation_id: id.clone(), message_id: own.message_id.clone() };
    let report = pb::ReportMessageRequest {
        conversation_id: id.clone(),
        message_id: message_id.clone(),
        reason: pb::ReportReason::Spam.into(),
        ..Default::default()
    };
    for refusal in [
        refusal(messaging.advance_watermark(eve.says(advance)).await),
        refusal(messaging.list_receipts(eve.says(receipts)).await),
        refusal(messaging.hide_message(eve.says(hide)).await),
        refusal(messaging.delete_message(eve.says(delete)).await),
        refusal(reports.report_message(eve.says(report)).await),
    ] {
        assert_eq!(refusal, refused(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    }
    let signal = pb::SendSignalRequest { conversation_id: id.clone(), kind: pb::SignalKind::Typing.into() };
    let react = pb::AddReactionRequest { conversation_id: id, message_id, emoji: "👍".to_owned() };
    let sent = world.send(eve, to(room, "me too")).await;
    assert_eq!(refusal(sent), refused(Code::PermissionDenied, "WRITE_DENIED"));
    let signalled = world.sync().send_signal(eve.says(signal)).await;
    assert_eq!(refusal(signalled), refused(Code::PermissionDenied, "WRITE_DENIED"));
    assert!(world.annotations().add_reaction(eve.says(react)).await.is_err());
    // A mention of one who only reads raises no alert.
    let mention = world.says(ann, room, "@eve is gone").await;
    assert_eq!(mention.mentioned_user_ids, [""; 0]);
}

#[tokio::test]
async fn history_leaves_out_tombstones_and_keeps_to_a_period_on_request() {
    let world = World::start().await;
    let [ann] = world.people();
    let group = world.group(&[ann]);
    let mut times = Vec::new();
    for n in 1..=6 {
        let message = world.says(ann, group, &n.to_string()).await;
        times.push(message.create_time.unwrap());
        if n % 2 == 0 {
            let delete = pb::DeleteMessageRequest {
                conversation_id: group.to_string(),
                message_id: message.message_id,
            };
            world.messaging().delete_message(ann.says(delete)).await.unwrap();
        }
        world.clock.advance(Duration::from_secs(100));
    }
    let texts = async |request: pb::ListMessagesRequest| {
        let page = world.list(ann, request).await.unwrap();
        let texts: Vec<_> = page.messages.iter().map(|message| text_of(message).to_owned()).collect();
        (texts.join(" "), page.next_page_token)
    };
    let present = pb::ListMessagesRequest { exclude_tombstones: true, page_size: 2, ..history(group) };
    let (first, token) = texts(present.clone()).await;
    assert_eq!(first, "5 3");
    let next = pb::ListMessagesRequest { page_token: token.clone(), ..present.clone() };
    assert_eq!(texts(next).await, ("1".to_owned(), String::new()));
    // A token of one list leads nowhere in another.
    let other = pb::ListMessagesRequest { page_token: token, ..history(group) };
    assert_eq!(refusal(world.list(ann, other).await), refused(Code::InvalidArgument, "INVALID_FIELD"));

    let period = |start: usize, end: usize| pb::ListMessagesRequest {
        start_time: Some(times[start]),
        end_time: Some(times[end]),
        ..history(group)
    };
    assert_eq!(texts(period(1, 4)).await.0, " 3 ", "the start is in, the end is not");
    let both = pb::ListMessagesRequest { exclude_tombstones: true, ..period(0, 4) };
    assert_eq!(texts(both).await.0, "3 1");
    assert_eq!(texts(period(3, 3)).await.0, "");
    let just_after = prost_types::Timestamp { nanos: times[0].nanos + 1, ..times[0] };
    let after = pb::ListMessagesRequest { start_time: Some(just_after), ..both_from(&history(group)) };
    assert_eq!(texts(after).await.0, "5 3");
    let until = pb::ListMessagesRequest { end_time: Some(just_after), ..both_from(&history(group)) };
    assert_eq!(texts(until).await.0, "1");
    let malformed = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
    for request in [
        pb::ListMessagesRequest { start_time: Some(malformed), ..history(group) },
        pb::ListMessagesRequest { end_time: Some(malformed), ..history(group) },
    ] {
        assert_eq!(refusal(world.list(ann, request).await), refused(Code::InvalidArgument, "INVALID_FIELD"));
    }
}

fn both_from(request: &pb::ListMessagesRequest) -> pb::ListMessagesRequest {
    pb::ListMessagesRequest { exclude_tombstones: true, ..request.clone() }
}
