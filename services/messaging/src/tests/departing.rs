//! What goes with an account, and what stays.

use super::annotating::{Marked, poll};
use super::ending::{ALWAYS, NEVER};
use super::reporting::spam;
use super::streaming::Reader;
use super::*;

impl World {
    async fn left_of(&self, by: UserId, conversation: ConversationId) -> Vec<String> {
        let request = pb::ListMessagesRequest {
            conversation_id: conversation.to_string(),
            order: pb::Order::OldestFirst.into(),
            page_size: 100,
            ..Default::default()
        };
        let messages = self.list(by, request).await.unwrap().messages;
        let text = |message: &pb::Message| {
            if message.delete_time.is_some() { "gone".to_owned() } else { text_of(message).to_owned() }
        };
        messages.iter().map(text).collect()
    }
}

#[tokio::test]
async fn what_one_wrote_becomes_tombstones_that_all_are_told_of() {
    let world = World::sweeping(ALWAYS).await;
    let [ann, bob] = world.people();
    let [here, there] = [world.group(&[bob, ann]), world.group(&[ann, bob])];
    world.has_heard(bob, 2).await;
    world.says(ann, here, "one").await;
    world.says(bob, here, "mine").await;
    let last = world.says(ann, here, "two").await;
    world.says(ann, there, "three").await;
    let mut reader = Reader::open(&world, bob, &[(here, last.sequence)]).await;
    assert!(reader.missed().await.is_empty());
    world.others.delete_account(ann);
    for n in 1..=2 {
        reader.expects_event(&format!("{} deleted", last.sequence + n)).await;
    }
    assert_eq!(world.left_of(bob, here).await, ["gone", "mine", "gone"]);
    eventually(async || world.left_of(bob, there).await == ["gone"]).await;
    let request = pb::ListMessagesRequest { conversation_id: there.to_string(), ..Default::default() };
    let gone = world.list(bob, request).await.unwrap().messages.remove(0);
    assert_eq!((gone.delete_reason(), gone.deleted_by_user_id.as_str()), (pb::DeletionReason::Deleted, ""));
}

#[tokio::test]
async fn what_one_did_to_others_messages_is_taken_back() {
    let world = World::sweeping(ALWAYS).await;
    let [ann, bob, cy] = world.people();
    let group = world.group(&[bob, ann, cy]);
    let message = Marked::text(&world, bob, group).await;
    for user in [ann, cy] {
        message.react(user, "👍").await.unwrap();
    }
    message.react(ann, "🎉").await.unwrap();
    message.pin(ann).await.unwrap();
    let [open, closed] = [
        Marked::sent(&world, bob, group, poll(true, false)).await,
        Marked::sent(&world, bob, group, poll(false, true)).await,
    ];
    for poll in [&open, &closed] {
        poll.vote(ann, &[1]).await.unwrap();
        poll.vote(cy, &[1]).await.unwrap();
    }
    closed.close(bob).await.unwrap();
    let pinned_by = async || message.shown_to(bob).await.pin.unwrap().user_id;
    assert_eq!(pinned_by().await, ann.to_string());

    world.others.delete_account(ann);
    eventually(async || pinned_by().await.is_empty()).await;
    let shown = message.shown_to(bob).await;
    assert_eq!(shown.reactions, [pb::ReactionCount { emoji: "👍".to_owned(), count: 1 }]);
    for poll in [&open, &closed] {
        let result = poll.shown_to(bob).await.poll_result.unwrap();
        assert_eq!((result.counts, result.voter_count), (vec![0, 1, 0], 1));
    }
    assert!(closed.shown_to(bob).await.poll_result.unwrap().close_time.is_some());
    // The log says each of it: whoever follows arrives at the same.
    let events = world.events(bob, group, 0).await.events;
    let kinds = |is: fn(&pb::event::Payload) -> bool| {
        events.iter().filter(|event| event.payload.as_ref().is_some_and(is)).count()
    };
    assert_eq!(kinds(|what| matches!(what, pb::event::Payload::ReactionChanged(one) if !one.added)), 2);
    assert_eq!(
        kinds(|what| matches!(what, pb::event::Payload::PollVoted(one) if one.option_indexes.is_empty())),
        // Of the anonymous one nobody sees for what.
        2 + 2
    );
    assert_eq!(
        kinds(
            |what| matches!(what, pb::event::Payload::MessagePinned(one) if one.pin.as_ref().unwrap().user_id.is_empty())
        ),
        1
    );
}

#[tokio::test]
async fn reports_and_copies_stay_and_the_rest_goes() {
    let world = World::sweeping(ALWAYS).await;
    let [ann, bob] = world.people();
    let group = world.group(&[bob, ann]);
    let [kept, lost] = [world.uploaded(ann, b"kept").await, world.uploaded(ann, b"lost").await];
    let shown = world.sends_file(ann, group, &kept).await;
    world.sends_file(ann, group, &lost).await;
    let copy = pb::ForwardMessageRequest {
        conversation_id: group.to_string(),
        message_id: shown.message_id.clone(),
        target_conversation_id: group.to_string(),
        ..Default::default()
    };
    world.messaging().forward_message(bob.says(copy)).await.unwrap();
    let bad = world.says(bob, group, "rude").await;
    world.report(ann, spam(&bad)).await.unwrap();
    assert!(!world.user_events(ann).await.is_empty());

    world.others.delete_account(ann);
    eventually(async || world.user_events(ann).await.is_empty()).await;
    let other = world.group(&[bob]);
    world.says(bob, other, "mine").await;
    // Its maker is nobody; that it was made stays. What is said of one's own messages one does not see.
    let store = crate::store::Store::new(world.database.clone(), world.clock.clone());
    let wanted =
        crate::store::Reports { conversation: group, viewer: ann, only_open: false, after: None, limit: 9 };
    let reports = store.reports(&wanted).await.unwrap();
    assert_eq!(reports.iter().map(|report| report.reporter).collect::<Vec<_>>(), [None]);

    assert_eq!(world.objects(), 2);
    world.sweep().await;
    assert_eq!(world.objects(), 1);
    assert!(world.file(bob, &kept).await.is_ok());
    assert_eq!(refusal(world.file(bob, &lost).await), refused(Code::NotFound, "UPLOAD_NOT_FOUND"));
}

#[tokio::test]
async fn nothing_is_kept_for_one_who_is_gone_however_late_it_comes() {
    let world = World::sweeping(ALWAYS).await;
    let [ann, bob] = world.people();
    let group = world.group(&[bob, ann]);
    world.has_heard(ann, 1).await;
    world.others.delete_account(ann);
    eventually(async || world.user_events(ann).await.is_empty()).await;
    // Conversation tells later that it is out, and of a request to it.
    world.others.connection(
        &proto::id::EventId::generate().to_string(),
        [bob, ann],
        proto::conversation::v1::RequestState::Pending,
        1,
    );
    world.others.remove(group, ann);
    world.has_heard(bob, 1).await;
    eventually(async || world.events(bob, group, 0).await.head_sequence >= 2).await;
    let request = pb::RaiseAlertRequest {
        user_id: ann.to_string(),
        kind: pb::AlertKind::Schedule.into(),
        subject_id: proto::id::EventId::generate().to_string(),
        state: pb::AlertState::ScheduleDue.into(),
        version: 1,
        ..Default::default()
    };
    let raised = world.alerts.clone().raise_alert(Service("scheduling", None).says(request)).await.unwrap();
    assert!(raised.into_inner().alert.is_none());
    assert!(world.user_events(ann).await.is_empty() && world.alerts_of(ann).await.is_empty());
}

#[tokio::test]
async fn accounts_that_cannot_be_erased_stop_no_other() {
    let world = World::sweeping(ALWAYS).await;
    let [ann, bob] = world.people();
    let stuck: [UserId; 20] = world.people();
    let group = world.group(&[[bob, ann].as_slice(), stuck.as_slice()].concat());
    let message = Marked::text(&world, bob, group).await;
    for user in &stuck {
        message.react(*user, "👍").await.unwrap();
    }
    world.says(ann, group, "own").await;
    // What somebody has reacted to cannot be changed any more.
    world
        .alter(
            "CREATE TRIGGER broken BEFORE UPDATE ON messages WHEN old.details IS NOT NULL
             BEGIN SELECT RAISE(ABORT, 'broken'); END",
        )
        .await;
    for user in &stuck {
        world.others.delete_account(*user);
    }
    let store = crate::store::Store::new(world.database.clone(), world.clock.clone());
    let failed = async || {
        let later = world.clock.now().plus(Duration::from_secs(60));
        store.departures(later, 99).await.unwrap().iter().filter(|one| one.failures > 0).count()
    };
    eventually(async || failed().await == stuck.len()).await;
    world.others.delete_account(ann);
    eventually(async || world.left_of(bob, group).await.last().unwrap() == "gone").await;
    // Repaired, they are erased when their time comes.
    world.alter("DROP TRIGGER broken").await;
    world.clock.advance(Duration::from_secs(60));
    eventually(async || failed().await == 0).await;
    eventually(async || message.shown_to(bob).await.reactions.is_empty()).await;
}

#[tokio::test]
async fn another_process_goes_on_where_one_has_stopped() {
    // The first looks only when it is told, and is gone before it is done.
    let world = World::sweeping(NEVER).await;
    let [ann, bob] = world.people();
    let group = world.group(&[bob, ann]);
    for n in 0..20 {
        world.says(ann, group, &n.to_string()).await;
    }
    world.unit.tasks.stop(PATIENCE).await;
    let config = Config { sweep_every: ALWAYS, ..Config::default() };
    let next =
        World::set_up(config, world.database.clone(), None, world.others.clone(), world.clock.clone()).await;
    next.others.delete_account(ann);
    eventually(async || next.left_of(bob, group).await.iter().all(|text| text == "gone")).await;
    // What came while the first round went is found by the second.
    eventually(async || next.user_events(ann).await.is_empty()).await;
    next.says(ann, group, "too late").await;
    next.clock.advance(crate::departure::AGAIN);
    eventually(async || next.left_of(bob, group).await.iter().all(|text| text == "gone")).await;
}
