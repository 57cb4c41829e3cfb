//! What the store promises about alerts that change with their subject, and about message requests.

use chassis::database::facts::Claim;
use proto::messaging::v1::{self as pb, AlertKind, AlertState};

use super::*;
use crate::alert::Effect;
use crate::people::PersonFact;
use crate::request::{RequestChange, Waits};

promises! {
    one_subject_is_one_alert_however_many_tell_of_it
    an_alert_goes_with_its_conversation_and_is_not_made_after_it
    so_many_alerts_are_kept
    one_message_is_written_under_a_request
    a_message_finds_its_alert_whichever_is_first
    what_is_cancelled_goes_with_the_fact_and_takes_nothing_more
    what_is_over_for_one_leaves_the_message_and_the_other_alone
    requests_of_both_sides_never_block_each_other
    a_fact_about_people_takes_effect_once
    alerts_are_listed_and_counted_by_kind
    an_alert_keeps_who_asked
}

fn news(user: UserId, subject: Uuid, version: i64) -> News {
    News {
        user,
        kind: AlertKind::Schedule,
        subject,
        state: AlertState::ScheduleMoved,
        version,
        actor: None,
        requester: None,
        conversation: None,
        message: None,
        time: later(version),
        effect: Effect::Unread,
    }
}

fn all_of(user: UserId) -> Alerts {
    Alerts { user, only_unread: false, kinds: BTreeSet::new(), before: None, limit: 10_000 }
}

async fn one_subject_is_one_alert_however_many_tell_of_it(store: Store) {
    let (user, subject) = (UserId::generate(), Uuid::from_u128(7));
    let mut work = JoinSet::new();
    for turn in 0..8 {
        let store = store.clone();
        work.spawn(async move {
            let mut told = Vec::new();
            for step in 1..=10 {
                // Each version comes from several at once, and in different orders.
                let version = (step * 3 + turn) % 10 + 1;
                told.extend(store.raise_alert(&news(user, subject, version)).await.unwrap().1);
            }
            told
        });
    }
    let mut events = work.join_all().await.concat();
    let [alert] = store.alerts(&all_of(user)).await.unwrap().try_into().unwrap();
    assert_eq!((alert.version, alert.update_time, alert.subject), (10, later(10), subject));
    // What its user was told is what happened, in its order and without gaps.
    events.sort_by_key(|event| event.sequence);
    assert_eq!(events, store.user_events(user, Sequence::NONE, 1000).await.unwrap());
    assert!((1..=10).contains(&events.len()));
    assert_eq!(store.unread_alerts(user, &BTreeSet::new(), 1000).await.unwrap(), 1);
    // Read and told again: it is unread once more, and the count follows.
    let these = Marking { user, which: Marked::These(BTreeSet::from([alert.alert_id])), read: true };
    store.mark_alerts(&these, later(20)).await.unwrap();
    assert_eq!(store.unread_alerts(user, &BTreeSet::new(), 1000).await.unwrap(), 0);
    let (same, events) = store.raise_alert(&news(user, subject, 10)).await.unwrap();
    assert!(events.is_empty() && same.unwrap().read_time.is_some());
    let (changed, events) = store.raise_alert(&news(user, subject, 11)).await.unwrap();
    assert_eq!((changed.unwrap().alert_id, events.len()), (alert.alert_id, 1));
    assert_eq!(store.unread_alerts(user, &BTreeSet::new(), 1000).await.unwrap(), 1);
}

async fn an_alert_goes_with_its_conversation_and_is_not_made_after_it(store: Store) {
    let (user, sender, conversation) = (UserId::generate(), UserId::generate(), ConversationId::generate());
    let message = send(&store, conversation, sender, "hello").await;
    let about = |subject: u128| News {
        conversation: Some(conversation),
        message: Some(message.message_id),
        ..news(user, Uuid::from_u128(subject), 1)
    };
    let raised = store.raise_alert(&about(1)).await.unwrap().0.unwrap();
    assert_eq!(raised.message, Some(message.message_id));
    store
        .apply(&Claim::forward("conversation", 0, 1), &[fact(conversation, FactKind::Deleted, &[], &[])], &[])
        .await
        .unwrap()
        .unwrap();
    assert!(store.alerts(&all_of(user)).await.unwrap().is_empty());
    let late = store.raise_alert(&about(2)).await.unwrap().0.unwrap();
    assert_eq!((late.conversation, late.message), (None, None));
}

async fn so_many_alerts_are_kept(store: Store) {
    let user = UserId::generate();
    for n in 0..1100 {
        let one = News { time: later(n), effect: Effect::Own, ..news(user, Uuid::from_u128(n as u128), 1) };
        store.raise_alert(&one).await.unwrap();
    }
    let kept = store.alerts(&all_of(user)).await.unwrap();
    // They are looked after now and then.
    assert!((1000..1064).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept[0].subject, Uuid::from_u128(1099));
    assert!(kept.is_sorted_by_key(|alert| std::cmp::Reverse(alert.update_time)));
    // What is unread stays, however old it is.
    let unread = news(user, Uuid::from_u128(5000), 1);
    let unread = store.raise_alert(&News { time: later(-1), ..unread }).await.unwrap().0.unwrap();
    let these = Marking { user, which: Marked::These(BTreeSet::from([kept[0].alert_id])), read: true };
    store.mark_alerts(&these, NOW).await.unwrap();
    let unread_again = Marking { read: false, ..these.clone() };
    store.mark_alerts(&unread_again, NOW).await.unwrap();
    store.mark_alerts(&these, NOW).await.unwrap();
    let kept = store.alerts(&all_of(user)).await.unwrap();
    assert_eq!(kept.len(), 1001);
    assert_eq!(kept.last().unwrap().alert_id, unread.alert_id);
}

/// Two people and their conversation, and a request of the first that waits since version 3.
struct Two {
    ann: UserId,
    bob: UserId,
    conversation: ConversationId,
    request: Uuid,
}

impl Two {
    fn new() -> Self {
        let (ann, bob) = (UserId::generate(), UserId::generate());
        let (conversation, request) = (ConversationId::generate(), ConversationId::generate().uuid());
        Self { ann, bob, conversation, request }
    }

    fn change(&self, state: AlertState, version: i64) -> RequestChange {
        RequestChange {
            request: self.request,
            kind: AlertKind::MessageRequest,
            from: self.ann,
            to: self.bob,
            state,
            version,
            time: later(version),
            waits: Some(Waits { conversation: self.conversation, request_version: 3, membership_version: 4 }),
            only: None,
        }
    }

    async fn asks(&self, store: &Store, says: &str) -> Result<Appended, Error> {
        let letters = [letter(self.conversation, self.ann, says, Some(says))];
        append_with(store, &letters, &Access::asking(3), NOW).await.remove(0)
    }

    async fn tell(&self, store: &Store, changes: &[RequestChange]) -> Applied {
        store.apply(&once(), &[], changes).await.unwrap().unwrap()
    }
}

async fn one_message_is_written_under_a_request(store: Store) {
    let two = Two::new();
    // Many at once, in batches and one by one; and each key from two replicas.
    let mut work = JoinSet::new();
    for turn in 0..6 {
        let (store, conversation, ann) = (store.clone(), two.conversation, two.ann);
        work.spawn(async move {
            let letters: Vec<_> = (0..3)
                .map(|n| letter(conversation, ann, "hello", Some(&format!("{}", turn / 2 * 3 + n))))
                .collect();
            append_with(&store, &letters, &Access::asking(3), NOW).await
        });
    }
    let outcomes: Vec<_> = work.join_all().await.into_iter().flatten().collect();
    let sent = outcomes.iter().filter(|outcome| matches!(outcome, Ok(sent) if !sent.repeated)).count();
    assert_eq!(sent, 1);
    for refusal in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(matches!(refusal, Error::RequestPending(_)), "{refusal:?}");
    }
    assert_eq!(log_of(&store, two.conversation).await.len(), 1);
    let check = store.check_request(two.conversation, two.ann, 3).await;
    assert!(matches!(check, Err(Error::RequestPending(_))));
    assert!(store.check_request(two.conversation, two.ann, 4).await.is_ok());
    assert!(store.is_asked(two.conversation, two.bob).await.unwrap());
    assert!(!store.is_asked(two.conversation, two.ann).await.unwrap());
    // Its answer frees both.
    two.tell(&store, &[two.change(AlertState::RequestAccepted, 2)]).await;
    assert!(store.check_request(two.conversation, two.ann, 3).await.is_ok());
    assert!(!store.is_asked(two.conversation, two.bob).await.unwrap());
    assert!(two.asks(&store, "under what was remembered").await.is_ok());
}

async fn a_message_finds_its_alert_whichever_is_first(store: Store) {
    for message_first in [true, false] {
        let two = Two::new();
        let pending = [two.change(AlertState::RequestPending, 1)];
        let (mut told, message) = if message_first {
            let sent = two.asks(&store, "hello").await.unwrap();
            assert!(sent.alerts.is_empty());
            (two.tell(&store, &pending).await.user_events, sent.message)
        } else {
            let mut told = two.tell(&store, &pending).await.user_events;
            let sent = two.asks(&store, "hello").await.unwrap();
            told.extend(sent.alerts);
            (told, sent.message)
        };
        let [alert] = store.alerts(&all_of(two.bob)).await.unwrap().try_into().unwrap();
        assert_eq!((alert.state, alert.actor), (AlertState::RequestPending, Some(two.ann)));
        assert_eq!((alert.conversation, alert.message), (Some(two.conversation), Some(message.message_id)));
        assert_eq!(alert.read_time, None);
        let last = told.pop().unwrap().what;
        assert_eq!(last, UserHappening::AlertChanged(Box::new(pb::Alert::from(&alert))));
        assert_eq!(told.len(), usize::from(!message_first));
    }
}

async fn what_is_cancelled_goes_with_the_fact_and_takes_nothing_more(store: Store) {
    let two = Two::new();
    let before = send(&store, two.conversation, two.ann, "from before").await;
    let sent = two.asks(&store, "hello").await.unwrap().message;
    two.tell(&store, &[two.change(AlertState::RequestPending, 1)]).await;
    let applied = two.tell(&store, &[two.change(AlertState::RequestCancelled, 2)]).await;
    let [event] = applied.events.try_into().unwrap();
    let Happening::MessageDeleted { message_id, reason, .. } = event.what else { panic!("{event:?}") };
    assert_eq!((message_id, reason, event.actor), (sent.message_id, DeletionReason::Unsent, Some(two.ann)));
    assert_eq!((event.sequence.get(), event.membership_version), (3, 4));
    let gone = store.message(two.conversation, sent.message_id).await.unwrap().unwrap();
    assert!(gone.content.is_none() && gone.deletion.is_some_and(|end| end.by == Some(two.ann)));
    let there = store.message(two.conversation, before.message_id).await.unwrap().unwrap();
    assert!(there.content.is_some(), "what was written before stays");
    let [alert] = store.alerts(&all_of(two.bob)).await.unwrap().try_into().unwrap();
    assert_eq!((alert.state, alert.read_time), (AlertState::RequestCancelled, Some(later(2))));
    assert_eq!(store.unread_alerts(two.bob, &BTreeSet::new(), 9).await.unwrap(), 0);
    // A message that was on its way comes too late, with and without one before it.
    assert!(matches!(two.asks(&store, "late").await, Err(Error::ContactNotAccepted(_))));
    assert!(two.asks(&store, "hello").await.unwrap().repeated);
    let other = Two::new();
    let both = [other.change(AlertState::RequestPending, 1), other.change(AlertState::RequestCancelled, 2)];
    assert!(other.tell(&store, &both).await.events.is_empty());
    assert!(matches!(other.asks(&store, "late").await, Err(Error::ContactNotAccepted(_))));
    assert_eq!(log_of(&store, two.conversation).await.len(), 3);
}

async fn what_is_over_for_one_leaves_the_message_and_the_other_alone(store: Store) {
    let two = Two::new();
    let sent = two.asks(&store, "hello").await.unwrap().message;
    two.tell(&store, &[two.change(AlertState::RequestPending, 1)]).await;
    let over = RequestChange { only: Some(two.bob), ..two.change(AlertState::RequestCancelled, 2) };
    let applied = two.tell(&store, &[over]).await;
    assert!(applied.events.is_empty(), "the message stays for its author");
    assert!(applied.user_events.iter().all(|event| event.user == two.bob));
    let [alert] = store.alerts(&all_of(two.bob)).await.unwrap().try_into().unwrap();
    assert_eq!((alert.state, alert.read_time), (AlertState::RequestCancelled, Some(later(2))));
    assert!(store.alerts(&all_of(two.ann)).await.unwrap().is_empty());
    let there = store.message(two.conversation, sent.message_id).await.unwrap().unwrap();
    assert!(there.content.is_some());
    // Its author reads the same as before.
    assert!(matches!(two.asks(&store, "more").await, Err(Error::RequestPending(_))));
}

async fn requests_of_both_sides_never_block_each_other(store: Store) {
    let pairs: Vec<_> = (0..12).map(|_| Two::new()).collect();
    let mut work = JoinSet::new();
    for part in pairs.chunks(3) {
        let letters: Vec<_> =
            part.iter().map(|two| letter(two.conversation, two.ann, "hello", None)).collect();
        let store = store.clone();
        work.spawn(async move {
            let sent = append_with(&store, &letters, &Access::asking(3), NOW).await;
            assert!(sent.iter().all(Result::is_ok));
        });
    }
    let changes: Vec<_> = pairs.iter().rev().map(|two| two.change(AlertState::RequestPending, 1)).collect();
    store.apply(&Claim::forward("conversation", 0, 12), &[], &changes).await.unwrap().unwrap();
    work.join_all().await;
    for two in &pairs {
        let [alert] = store.alerts(&all_of(two.bob)).await.unwrap().try_into().unwrap();
        assert!(alert.message.is_some());
    }
}

async fn a_fact_about_people_takes_effect_once(store: Store) {
    let [ann, bob] = [UserId::generate(), UserId::generate()];
    let review = |version| News {
        kind: AlertKind::Review,
        state: AlertState::ReviewWritten,
        ..news(ann, Uuid::from_u128(1), version)
    };
    let facts = [PersonFact::Reviewed(review(1)), PersonFact::Gone(bob), PersonFact::Reviewed(review(2))];
    let mut work = JoinSet::new();
    for _ in 0..4 {
        let (store, facts) = (store.clone(), facts.clone());
        work.spawn(async move {
            store.apply_to_people(&Claim::forward("auth", 0, 3), &facts, NOW).await.unwrap()
        });
    }
    let applied: Vec<_> = work.join_all().await.into_iter().flatten().collect();
    assert_eq!(applied.iter().map(Vec::len).collect::<Vec<_>>(), [2]);
    assert_eq!(store.alerts(&all_of(ann)).await.unwrap().len(), 1);
    let due: Vec<_> = store.departures(NOW, 9).await.unwrap().iter().map(|one| one.user).collect();
    assert_eq!(due, [bob]);
    // A profile that changed is an event of the user's own log, once however many changes are taken at once.
    let changed = |user, millis| PersonFact::ProfileChanged { user, time: later(millis) };
    let facts = [changed(ann, 1), changed(bob, 2), changed(ann, 3)];
    let events = store.apply_to_people(&Claim::forward("auth", 3, 6), &facts, NOW).await.unwrap().unwrap();
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((event.user, event.occur_time, &event.what), (ann, later(3), &UserHappening::ProfileChanged));
    let own = store.user_events(ann, Sequence::NONE, 100).await.unwrap();
    assert_eq!(own.last(), Some(event));
    assert!(store.user_heads(&[bob]).await.unwrap().is_empty());
    // One who is gone is told nothing.
    let (alert, events) = store.raise_alert(&news(bob, Uuid::from_u128(2), 1)).await.unwrap();
    assert!(alert.is_none() && events.is_empty());
}

async fn alerts_are_listed_and_counted_by_kind(store: Store) {
    let user = UserId::generate();
    let kinds = [Schedule, Review, ConnectionRequest, ConnectionRequest];
    for (n, kind) in kinds.into_iter().enumerate() {
        let about = News { kind, ..news(user, Uuid::from_u128(n as u128), 1) };
        store.raise_alert(&News { time: later(n as i64), ..about }).await.unwrap();
    }
    let listed = async |kinds: &[AlertKind], only_unread| {
        let kinds: BTreeSet<_> = kinds.iter().copied().collect();
        let unread = store.unread_alerts(user, &kinds, 1000).await.unwrap();
        let found = store.alerts(&Alerts { kinds, only_unread, ..all_of(user) }).await.unwrap();
        (found.iter().map(|alert| alert.subject.as_u128()).collect::<Vec<_>>(), unread)
    };
    use AlertKind::{ConnectionRequest, Mention, Review, Schedule};
    assert_eq!(listed(&[], false).await, (vec![3, 2, 1, 0], 4));
    assert_eq!(listed(&[ConnectionRequest], false).await, (vec![3, 2], 2));
    assert_eq!(listed(&[Schedule, ConnectionRequest, Mention], false).await, (vec![3, 2, 0], 3));
    assert_eq!(listed(&[Mention], false).await, (vec![], 0));
    let newest = store.alerts(&Alerts { limit: 1, ..all_of(user) }).await.unwrap().remove(0);
    let read = Marking { user, which: Marked::These(BTreeSet::from([newest.alert_id])), read: true };
    store.mark_alerts(&read, later(9)).await.unwrap();
    assert_eq!(listed(&[Review, ConnectionRequest], false).await, (vec![3, 2, 1], 2));
    assert_eq!(listed(&[Review, ConnectionRequest], true).await, (vec![2, 1], 2));
    let kinds = BTreeSet::from([Review, ConnectionRequest]);
    assert_eq!(store.unread_alerts(user, &kinds, 1).await.unwrap(), 1, "counting stops");
}

async fn an_alert_keeps_who_asked(store: Store) {
    let [user, asks] = [UserId::generate(), UserId::generate()];
    let about = |version, requester| News {
        kind: AlertKind::ConnectionRequest,
        state: AlertState::RequestPending,
        actor: Some(asks),
        requester,
        ..news(user, Uuid::from_u128(1), version)
    };
    for (version, requester) in [(1, Some(asks)), (2, None)] {
        let alert = store.raise_alert(&about(version, requester)).await.unwrap().0.unwrap();
        assert_eq!(alert.requester, Some(asks));
    }
    let [kept] = store.alerts(&all_of(user)).await.unwrap().try_into().unwrap();
    assert_eq!((kept.version, kept.requester), (2, Some(asks)));
    // One that was there before it was known learns it with the next change.
    let known = store.raise_alert(&News { subject: Uuid::from_u128(2), ..about(1, None) }).await.unwrap().0;
    assert_eq!(known.unwrap().requester, None);
    let later = News { subject: Uuid::from_u128(2), ..about(2, Some(asks)) };
    assert_eq!(store.raise_alert(&later).await.unwrap().0.unwrap().requester, Some(asks));
}
