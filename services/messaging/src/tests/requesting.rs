//! The gate of first contact, and the alerts of requests, schedules and reviews.

use proto::conversation::v1::RequestState;
use proto::id::EventId;
use proto::messaging::v1::{AlertKind, AlertState};

use super::annotating::{Marked, poll};
use super::streaming::Reader;
use super::*;

/// As a service writes it.
fn call() -> Option<pb::Content> {
    let call = pb::CallContent {
        call_id: EventId::generate().to_string(),
        outcome: pb::CallOutcome::Missed.into(),
        ..Default::default()
    };
    Some(pb::Content { kind: Some(pb::content::Kind::Call(call)), ..Default::default() })
}

impl World {
    /// Two strangers and their conversation, in which the first has to ask.
    fn strangers(&self) -> ([UserId; 2], ConversationId) {
        let [ann, bob] = self.people();
        ([ann, bob], self.others.create_guarded(ann, bob))
    }

    /// Waits until somebody's only alert is this; answers it.
    async fn alert_is(&self, user: UserId, state: AlertState) -> pb::Alert {
        eventually(async || {
            let alerts = self.alerts_of(user).await;
            alerts.len() == 1 && alerts[0].state() == state
        })
        .await;
        self.alerts_of(user).await.remove(0)
    }

    async fn unread_alerts(&self, user: UserId) -> i32 {
        self.list_alerts(user, pb::ListAlertsRequest::default()).await.unread_count
    }

    async fn raise(&self, request: pb::RaiseAlertRequest) -> Result<Option<pb::Alert>, Status> {
        let raised = self.alerts.clone().raise_alert(Service("scheduling", None).says(request)).await?;
        Ok(raised.into_inner().alert)
    }

    /// How far those of whom somebody learns it have read.
    async fn receipts(&self, by: UserId, conversation: ConversationId) -> Vec<(UserId, i64)> {
        let conversation_id = conversation.to_string();
        let request = pb::ListReceiptsRequest { conversation_id, ..Default::default() };
        let listed = self.messaging().list_receipts(by.says(request)).await.unwrap().into_inner();
        let read = |one: pb::Watermark| (UserId::parse(&one.user_id).unwrap(), one.read_sequence);
        listed.watermarks.into_iter().map(read).collect()
    }

    async fn messages_of(&self, by: UserId, conversation: ConversationId) -> Vec<pb::Message> {
        let request =
            pb::ListMessagesRequest { conversation_id: conversation.to_string(), ..Default::default() };
        self.list(by, request).await.unwrap().messages
    }
}

#[tokio::test]
async fn the_first_message_asks_and_no_second_one_follows() {
    let world = World::start().await;
    let ([ann, bob], direct) = world.strangers();
    let pending = refused(Code::FailedPrecondition, "REQUEST_PENDING");
    // To check it asks for nothing.
    assert!(world.send(ann, checked(keyed(direct, "hello", "k"))).await.is_ok());
    assert_eq!(world.others.opened(), 0);
    let sent = world.send(ann, keyed(direct, "hello", "k")).await.unwrap();
    assert!(!sent.repeated);
    assert_eq!(refusal(world.send(ann, keyed(direct, "and more", "l")).await), pending);
    assert_eq!(refusal(world.send(ann, to(direct, "and more")).await), pending);
    assert_eq!(refusal(world.send(ann, checked(to(direct, "and more"))).await), pending);
    // A retry finds the first one, and is fine when it is only checked.
    let again = world.send(ann, keyed(direct, "hello", "k")).await.unwrap();
    assert!(again.repeated && again.message == sent.message);
    assert!(world.send(ann, checked(keyed(direct, "hello", "k"))).await.is_ok());
    assert_eq!(world.others.opened(), 1);

    let alert = world.alert_is(bob, AlertState::RequestPending).await;
    assert_eq!((alert.kind(), &alert.actor_user_id), (AlertKind::MessageRequest, &ann.to_string()));
    eventually(async || world.alerts_of(bob).await[0].message == sent.message).await;
    assert_eq!(world.alerts_of(bob).await[0].conversation_id, direct.to_string());
    assert!(world.alerts_of(ann).await.is_empty());
    // Who is asked is free to write.
    world.says(bob, direct, "who are you?").await;

    let request = world.others.settle(direct, ann, RequestState::Accepted);
    let told = world.alert_is(ann, AlertState::RequestAccepted).await;
    assert_eq!((told.subject_id, told.actor_user_id, told.read_time), (request, bob.to_string(), None));
    let own = world.alert_is(bob, AlertState::RequestAccepted).await;
    assert_eq!((own.alert_id, own.actor_user_id), (alert.alert_id, ann.to_string()));
    assert_eq!(world.unread_alerts(bob).await, 0);
    world.says(ann, direct, "at last").await;
    world.says(ann, direct, "and on").await;
    assert_eq!(world.others.opened(), 1);
}

#[tokio::test]
async fn of_many_at_once_one_is_the_request() {
    let world = World::start().await;
    let ([ann, _], direct) = world.strangers();
    let sends = (0..20).map(|n| world.send(ann, keyed(direct, &n.to_string(), &n.to_string())));
    let sent = futures_util::future::join_all(sends).await;
    assert_eq!(sent.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let pending = refused(Code::FailedPrecondition, "REQUEST_PENDING");
    assert!(sent.into_iter().filter(Result::is_err).all(|outcome| refusal(outcome) == pending));
    assert_eq!(world.messages_of(ann, direct).await.len(), 1);
}

#[tokio::test]
async fn the_message_is_found_whichever_is_told_first() {
    let world = World::start().await;
    for is_late in [true, false] {
        let ([ann, bob], direct) = world.strangers();
        world.others.hold_facts(is_late);
        let sent = world.says(ann, direct, "hello").await;
        world.others.hold_facts(false);
        let with_message = async || {
            let alerts = world.alerts_of(bob).await;
            alerts.first().is_some_and(|alert| alert.message_id == sent.message_id)
        };
        eventually(with_message).await;
        let told = world.told(bob).await;
        assert_eq!(told.last().unwrap().message_id, sent.message_id);
        assert!(told.iter().all(|alert| alert.alert_id == told[0].alert_id));
    }
}

#[tokio::test]
async fn what_is_cancelled_is_unsent_and_not_counted() {
    let world = World::start().await;
    let ([ann, bob], direct) = world.strangers();
    world.has_heard(bob, 1).await;
    let sent = world.says(ann, direct, "hello").await;
    world.alert_is(bob, AlertState::RequestPending).await;
    let mut reader = Reader::open(&world, bob, &[(direct, sent.sequence)]).await;
    assert!(reader.missed().await.is_empty());
    world.others.settle(direct, ann, RequestState::Cancelled);
    reader.expects_event(&format!("{} deleted", sent.sequence + 1)).await;
    let gone = world.messages_of(bob, direct).await.remove(0);
    assert!(gone.content.is_none() && gone.delete_reason() == pb::DeletionReason::Unsent);
    assert_eq!(gone.deleted_by_user_id, ann.to_string());
    let alert = world.alert_is(bob, AlertState::RequestCancelled).await;
    assert!(alert.read_time.is_some() && world.alerts_of(ann).await.is_empty());
    assert_eq!(world.unread_alerts(bob).await, 0);
    // It may ask anew; that is another request.
    world.says(ann, direct, "sorry").await;
    eventually(async || world.alerts_of(bob).await.len() == 2).await;
    assert_eq!((world.others.opened(), world.unread_alerts(bob).await), (2, 1));
}

#[tokio::test]
async fn a_rejection_is_told_and_ends_it() {
    let world = World::start().await;
    let ([ann, bob], direct) = world.strangers();
    world.send(ann, keyed(direct, "hello", "k")).await.unwrap();
    world.alert_is(bob, AlertState::RequestPending).await;
    world.others.settle(direct, ann, RequestState::Rejected);
    assert_eq!(world.alert_is(ann, AlertState::RequestRejected).await.actor_user_id, bob.to_string());
    assert_eq!((world.unread_alerts(ann).await, world.unread_alerts(bob).await), (1, 0));
    let denied = refused(Code::PermissionDenied, "WRITE_DENIED");
    assert_eq!(refusal(world.send(ann, to(direct, "but")).await), denied);
    assert!(world.send(ann, keyed(direct, "hello", "k")).await.unwrap().repeated);
}

#[tokio::test]
async fn who_asks_too_much_hears_how_long_to_wait() {
    let world = World::start().await;
    let ([ann, _], direct) = world.strangers();
    world.others.allow_no_more_requests();
    let status = world.send(ann, to(direct, "hello")).await.unwrap_err();
    let fault = Fault::of(&status);
    assert_eq!((fault.code(), fault.reason()), (Code::ResourceExhausted, "ERROR_REASON_RATE_LIMITED"));
    assert_eq!(fault.wait(), Some(Duration::from_secs(60)));
    assert!(world.messages_of(ann, direct).await.is_empty());
}

#[tokio::test]
async fn what_services_write_never_asks() {
    let world = World::start().await;
    let ([ann, _], direct) = world.strangers();
    let refused = refused(Code::FailedPrecondition, "CONTACT_NOT_ACCEPTED");
    let calls = || pb::SendMessageRequest { content: call(), ..to(direct, "") };
    let by = || Service("scheduling", Some(ann));
    for _ in 0..2 {
        for request in [calls(), checked(calls())] {
            let answer = world.messaging().send_message(by().says(request)).await;
            assert_eq!(refusal(answer), refused);
        }
        assert_eq!(world.others.opened(), world.messages_of(ann, direct).await.len());
        // The same while a request waits.
        let _ = world.send(ann, to(direct, "hello")).await;
    }
}

#[tokio::test]
async fn one_who_waits_reaches_nobody_in_other_ways() {
    let world = World::start().await;
    let ([ann, bob], direct) = world.strangers();
    let old = world.says(bob, direct, "from before").await;
    let signal = || {
        let kind = pb::SignalKind::Typing.into();
        let request = pb::SendSignalRequest { conversation_id: direct.to_string(), kind };
        let (mut sync, request) = (world.sync(), ann.says(request));
        async move { sync.send_signal(request).await }
    };
    let react = || {
        let (conversation_id, message_id) = (direct.to_string(), old.message_id.clone());
        let request = pb::AddReactionRequest { conversation_id, message_id, emoji: "👍".to_owned() };
        let (mut annotations, request) = (world.annotations(), ann.says(request));
        async move { annotations.add_reaction(request).await }
    };
    let not_accepted = refused(Code::FailedPrecondition, "CONTACT_NOT_ACCEPTED");
    assert_eq!((refusal(signal().await), refusal(react().await)), (not_accepted.clone(), not_accepted));
    let sent = world.says(ann, direct, "helo").await;
    let pending = refused(Code::FailedPrecondition, "REQUEST_PENDING");
    assert_eq!((refusal(signal().await), refusal(react().await)), (pending.clone(), pending));
    // What it said it may say better, and take back; that is no leave to write once more.
    assert_eq!(text_of(&world.edit(ann, &sent, "hello").await.unwrap()), "hello");
    world.unsend(ann, &sent).await.unwrap();
    assert_eq!(
        refusal(world.send(ann, to(direct, "more")).await),
        refused(Code::FailedPrecondition, "REQUEST_PENDING")
    );
    world.others.settle(direct, ann, RequestState::Accepted);
    assert!(signal().await.is_ok() && react().await.is_ok());
}

#[tokio::test]
async fn an_older_message_is_no_way_around() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let direct = world.others.create(ConversationKind::Direct, &[ann, bob]);
    let old = world.says(ann, direct, "from before").await;
    world.others.make_stranger(direct, ann);
    assert_eq!(
        refusal(world.edit(ann, &old, "one").await),
        refused(Code::FailedPrecondition, "CONTACT_NOT_ACCEPTED")
    );
    world.says(ann, direct, "hello").await;
    assert_eq!(
        refusal(world.edit(ann, &old, "two").await),
        refused(Code::FailedPrecondition, "REQUEST_PENDING")
    );
}

#[tokio::test]
async fn who_asks_does_not_learn_that_it_was_read() {
    let world = World::start().await;
    let ([ann, bob], direct) = world.strangers();
    world.has_heard(bob, 1).await;
    let sent = world.says(ann, direct, "hello").await;
    let mut reader = Reader::open(&world, ann, &[(direct, sent.sequence)]).await;
    assert!(reader.missed().await.is_empty());
    world.reads(bob, &sent).await;
    assert_eq!(world.receipts(ann, direct).await, []);
    world.others.settle(direct, ann, RequestState::Accepted);
    world.alert_is(ann, AlertState::RequestAccepted).await;
    assert_eq!(world.receipts(ann, direct).await, [(bob, sent.sequence)]);
    let next = world.says(bob, direct, "hi").await;
    world.reads(bob, &next).await;
    // The first that it hears of is the second.
    loop {
        if let pb::stream_events_response::Update::Receipt(receipt) = reader.next().await.unwrap() {
            break assert_eq!(receipt.read_sequence, next.sequence);
        }
    }
}

#[tokio::test]
async fn of_two_who_are_blocked_neither_reaches_the_other() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let direct = world.others.create(ConversationKind::Direct, &[ann, bob]);
    let text = Marked::text(&world, ann, direct).await;
    let poll = Marked::sent(&world, ann, direct, poll(false, false)).await;
    let sent = world.says(ann, direct, "hello").await;
    text.react(bob, "👍").await.unwrap();
    world.others.set_blocked(direct, true);
    let denied = refused(Code::PermissionDenied, "WRITE_DENIED");
    for user in [ann, bob] {
        assert_eq!(refusal(text.react(user, "🎉").await), denied);
        assert_eq!(refusal(text.unreact(user, "👍").await), denied);
        assert_eq!(refusal(text.pin(user).await), denied);
        assert_eq!(refusal(text.unpin(user).await), denied);
        assert_eq!(refusal(poll.vote(user, &[0]).await), denied);
    }
    assert_eq!(refusal(poll.close(ann).await), denied);
    assert_eq!(refusal(world.edit(ann, &sent, "hello again").await), denied);
    // What one wrote one may still take back.
    world.unsend(ann, &sent).await.unwrap();
    world.others.set_blocked(direct, false);
    for user in [ann, bob] {
        assert!(text.react(user, "🎉").await.is_ok() && poll.vote(user, &[0]).await.is_ok());
    }
    assert!(poll.close(ann).await.is_ok());
}

#[tokio::test]
async fn of_two_who_are_blocked_neither_learns_what_the_other_reads() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let direct = world.others.create(ConversationKind::Direct, &[ann, bob]);
    world.has_heard(bob, 1).await;
    let first = world.says(ann, direct, "one").await;
    let second = world.says(ann, direct, "two").await;
    let third = world.says(ann, direct, "three").await;
    let mut reader = Reader::open(&world, ann, &[(direct, third.sequence)]).await;
    assert!(reader.missed().await.is_empty());
    world.reads(bob, &first).await;
    world.others.set_blocked(direct, true);
    world.reads(bob, &second).await;
    for (user, own) in [(ann, vec![]), (bob, vec![(bob, second.sequence)])] {
        assert_eq!(world.receipts(user, direct).await, own);
    }
    world.others.set_blocked(direct, false);
    world.reads(bob, &third).await;
    assert_eq!(world.receipts(ann, direct).await, [(bob, third.sequence)]);
    // Live it has heard of the first and of the third.
    for expected in [first.sequence, third.sequence] {
        loop {
            if let pb::stream_events_response::Update::Receipt(receipt) = reader.next().await.unwrap() {
                break assert_eq!(receipt.read_sequence, expected);
            }
        }
    }
}

#[tokio::test]
async fn connection_requests_are_alerts_of_both() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let request = EventId::generate().to_string();
    world.others.connection(&request, [ann, bob], RequestState::Pending, 1);
    let alert = world.alert_is(bob, AlertState::RequestPending).await;
    assert_eq!((alert.kind(), alert.subject_id.as_str()), (AlertKind::ConnectionRequest, request.as_str()));
    assert!(alert.conversation_id.is_empty() && alert.actor_user_id == ann.to_string());
    // The same again, as after a restart of the one who tells.
    world.others.connection(&request, [ann, bob], RequestState::Pending, 1);
    world.others.connection(&request, [ann, bob], RequestState::Accepted, 2);
    world.alert_is(ann, AlertState::RequestAccepted).await;
    let own = world.alert_is(bob, AlertState::RequestAccepted).await;
    assert!(own.read_time.is_some());
    let states = |told: Vec<pb::Alert>| told.iter().map(pb::Alert::state).collect::<Vec<_>>();
    assert_eq!(states(world.told(bob).await), [AlertState::RequestPending, AlertState::RequestAccepted]);
    assert_eq!(states(world.told(ann).await), [AlertState::RequestAccepted]);
}

#[tokio::test]
async fn a_schedule_is_one_alert_that_changes() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let request = |state: AlertState, version, actor: Option<UserId>| pb::RaiseAlertRequest {
        user_id: ann.to_string(),
        kind: AlertKind::Schedule.into(),
        subject_id: "01937b73-60e8-7d4a-a05e-4b6c8dafb1ba".to_owned(),
        state: state.into(),
        version,
        actor_user_id: actor.map(|actor| actor.to_string()).unwrap_or_default(),
        ..Default::default()
    };
    let made = world.raise(request(AlertState::ScheduleMade, 1, Some(bob))).await.unwrap().unwrap();
    assert_eq!(world.unread_alerts(ann).await, 1);
    let these = pb::MarkAlertsRequest { alert_ids: vec![made.alert_id.clone()], ..Default::default() };
    assert_eq!(world.mark(ann, these).await.unwrap(), 0);
    // Its own change leaves it read; an old one changes nothing; that it is due is news.
    let moved = world.raise(request(AlertState::ScheduleMoved, 3, Some(ann))).await.unwrap().unwrap();
    assert_eq!((&moved.alert_id, moved.read_time.is_some()), (&made.alert_id, true));
    let late = world.raise(request(AlertState::ScheduleMade, 2, Some(bob))).await.unwrap().unwrap();
    assert_eq!(late, moved);
    assert_eq!(world.unread_alerts(ann).await, 0);
    world.clock.advance(Duration::from_secs(5));
    let due = world.raise(request(AlertState::ScheduleDue, 4, None)).await.unwrap().unwrap();
    assert!(due.read_time.is_none() && due.actor_user_id.is_empty() && due.update_time != moved.update_time);
    assert_eq!((world.unread_alerts(ann).await, world.told(ann).await.len()), (1, 4));

    let kinds = |kind: AlertKind| pb::ListAlertsRequest { kind: kind.into(), ..Default::default() };
    assert_eq!(world.list_alerts(ann, kinds(AlertKind::Schedule)).await.alerts.len(), 1);
    assert!(world.list_alerts(ann, kinds(AlertKind::Review)).await.alerts.is_empty());
    let several = |list: &[AlertKind]| pb::ListAlertsRequest {
        kinds: list.iter().map(|kind| i32::from(*kind)).collect(),
        ..Default::default()
    };
    let both = world.list_alerts(ann, several(&[AlertKind::Schedule, AlertKind::Review])).await;
    assert_eq!((both.alerts.len(), both.unread_count), (1, 1));
    assert_eq!(both.alerts[0].requester_user_id, "");
    let others = world.list_alerts(ann, several(&[AlertKind::Review, AlertKind::Mention])).await;
    assert_eq!((others.alerts.len(), others.unread_count), (0, 0), "only the kinds asked for count");
    let one_more =
        pb::ListAlertsRequest { kind: AlertKind::Schedule.into(), ..several(&[AlertKind::Review]) };
    assert_eq!(world.list_alerts(ann, one_more).await.alerts.len(), 1);
    let none = several(&[AlertKind::Unspecified]);
    assert!(world.alerts.clone().list_alerts(ann.says(none)).await.is_err());

    for bad in [
        request(AlertState::ReviewWritten, 9, None),
        request(AlertState::ScheduleDue, 0, None),
        pb::RaiseAlertRequest {
            message_id: EventId::generate().to_string(),
            ..request(AlertState::ScheduleDue, 9, None)
        },
    ] {
        assert_eq!(world.raise(bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let by_user = world.alerts.clone().raise_alert(ann.says(request(AlertState::ScheduleDue, 9, None))).await;
    assert_eq!(by_user.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_review_is_one_alert_of_the_reviewed() {
    use proto::auth::v1::ReviewChange;
    let world = World::start().await;
    let [ann, bob] = world.people();
    let review = EventId::generate().to_string();
    world.others.review([ann, bob], &review, ReviewChange::Written, 1);
    let written = world.alert_is(bob, AlertState::ReviewWritten).await;
    assert_eq!((written.kind(), &written.actor_user_id), (AlertKind::Review, &ann.to_string()));
    assert_eq!(written.subject_id, review);
    world.others.review([ann, bob], &review, ReviewChange::Updated, 2);
    let updated = world.alert_is(bob, AlertState::ReviewUpdated).await;
    assert_eq!(updated.alert_id, written.alert_id);
    assert_eq!(world.unread_alerts(bob).await, 1);
    // Once it has looked, only a review that is written makes it look again. It hears of each change all the same.
    let all = pb::MarkAlertsRequest { all: true, ..Default::default() };
    assert_eq!(world.mark(bob, all).await.unwrap(), 0);
    let told = world.told(bob).await.len();
    world.others.review([ann, bob], &review, ReviewChange::Deleted, 3);
    world.alert_is(bob, AlertState::ReviewDeleted).await;
    assert_eq!(world.unread_alerts(bob).await, 0);
    world.others.review([ann, bob], &review, ReviewChange::Written, 4);
    world.alert_is(bob, AlertState::ReviewWritten).await;
    assert_eq!(world.unread_alerts(bob).await, 1);
    let all = pb::MarkAlertsRequest { all: true, ..Default::default() };
    assert_eq!(world.mark(bob, all).await.unwrap(), 0);
    world.others.review([ann, bob], &review, ReviewChange::Updated, 5);
    let again = world.alert_is(bob, AlertState::ReviewUpdated).await;
    assert!(again.read_time.is_some());
    assert_eq!((world.unread_alerts(bob).await, world.told(bob).await.len()), (0, told + 4));
    assert!(world.alerts_of(ann).await.is_empty());
}
