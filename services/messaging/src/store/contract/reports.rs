//! What the store promises about reports, on both databases.

use std::time::Duration;

use chassis::database::facts::Claim;
use prost::Message as _;
use proto::id::ReportId;
use proto::messaging::v1::{self as pb, ReportReason};

use super::*;
use crate::report::{MOST, PERIOD, Remark, Verdict};

promises! {
    a_report_is_kept_and_told_to_those_who_may_know
    a_report_is_found_by_its_id
    the_same_member_reports_a_message_once
    one_message_reported_at_once_is_one_report
    only_what_is_there_can_be_reported
    a_report_outlives_its_message_but_not_its_conversation
    secrets_and_what_has_an_end_are_not_copied
    so_many_reports_within_the_hour_and_no_more
    reports_at_once_leave_none_too_many
    reports_come_newest_first_and_in_pages
    a_report_is_resolved_once
    of_two_verdicts_at_once_one_stands
}

fn complaint(message: &Message, reporter: UserId) -> Complaint {
    Complaint {
        conversation: message.conversation,
        message_id: message.message_id,
        reporter,
        reason: ReportReason::Harassment,
        comment: Remark::parse("comment", "again!").unwrap(),
    }
}

async fn a_report_is_found_by_its_id(store: Store) {
    let [ann, bob, cid] = people();
    let message = send(&store, ConversationId::generate(), ann, "rude").await;
    let other = send(&store, ConversationId::generate(), ann, "rude").await;
    let [report, second] = [file(&store, &message, bob).await, file(&store, &other, cid).await]
        .map(|reported| reported.unwrap().report);
    assert_eq!(store.report(report.id).await.unwrap(), Some(report));
    assert_eq!(store.report(second.id).await.unwrap(), Some(second));
    assert_eq!(store.report(ReportId::generate()).await.unwrap(), None);
}

fn people<const N: usize>() -> [UserId; N] {
    std::array::from_fn(|_| UserId::generate())
}

async fn file(store: &Store, message: &Message, reporter: UserId) -> Result<Reported, Error> {
    store.file_report(&complaint(message, reporter), &[], NOW).await
}

fn all(conversation: ConversationId, viewer: UserId) -> Reports {
    Reports { conversation, viewer, only_open: false, after: None, limit: 1000 }
}

fn resolution(by: UserId, verdict: Verdict, at: Timestamp) -> Resolution {
    Resolution { verdict, by, time: at, note: Remark::parse("note", "seen").unwrap() }
}

async fn own_log(store: &Store, user: UserId) -> Vec<UserHappening> {
    let events = store.user_events(user, Sequence::NONE, 1000).await.unwrap();
    events.into_iter().map(|event| event.what).collect()
}

async fn a_report_is_kept_and_told_to_those_who_may_know(store: Store) {
    let [ann, bob, cid, dee] = people();
    let conversation = ConversationId::generate();
    let message = send(&store, conversation, ann, "rude").await;
    // Ann moderates, too.
    let moderators = [ann, cid];
    let Reported { report, user_events } =
        store.file_report(&complaint(&message, bob), &moderators, later(5)).await.unwrap();
    assert_eq!((report.snapshot.clone(), report.create_time), (Some(text("rude")), later(5)));
    let mut heard: Vec<_> = user_events.iter().map(|event| (event.user, event.sequence.get())).collect();
    heard.sort_unstable();
    let mut expected = vec![(bob, 1), (cid, 1)];
    expected.sort_unstable();
    assert_eq!(heard, expected);
    for user in [bob, cid] {
        let log = own_log(&store, user).await;
        let [UserHappening::ReportChanged(told)] = log.as_slice() else { panic!("{log:?}") };
        assert_eq!((told.report_id.clone(), told.state()), (report.id.to_string(), pb::ReportState::Open));
        assert_eq!((&told.snapshot, told.comment.as_str()), (&None, ""));
    }
    assert!(own_log(&store, ann).await.is_empty() && own_log(&store, dee).await.is_empty());
    assert_eq!(store.report_by(conversation, message.message_id, bob).await.unwrap(), Some(report.clone()));
    assert_eq!(store.report_by(conversation, message.message_id, cid).await.unwrap(), None);
    assert_eq!(store.reports(&all(conversation, cid)).await.unwrap(), [report]);
    assert_eq!(store.reports(&all(conversation, ann)).await.unwrap(), []);
    assert_eq!(store.reports(&all(ConversationId::generate(), cid)).await.unwrap(), []);
    // The conversation's own log says nothing of it.
    assert_eq!(log_of(&store, conversation).await.len(), 1);
}

async fn the_same_member_reports_a_message_once(store: Store) {
    let [ann, bob, cid] = people();
    let message = send(&store, ConversationId::generate(), ann, "rude").await;
    let first = store.file_report(&complaint(&message, bob), &[cid], NOW).await.unwrap().report;
    let again = Complaint { reason: ReportReason::Spam, ..complaint(&message, bob) };
    let again = store.file_report(&again, &[cid], later(9)).await.unwrap();
    assert_eq!((again.report, again.user_events), (first.clone(), vec![]));
    let other = file(&store, &message, cid).await.unwrap().report;
    assert_ne!(other.id, first.id);
    assert_eq!(own_log(&store, bob).await.len(), 1);
}

async fn one_message_reported_at_once_is_one_report(store: Store) {
    let [ann, bob, cid] = people();
    let message = send(&store, ConversationId::generate(), ann, "rude").await;
    let mut tries = JoinSet::new();
    for _ in 0..8 {
        let (store, complaint) = (store.clone(), complaint(&message, bob));
        tries.spawn(async move { store.file_report(&complaint, &[cid], NOW).await.unwrap() });
    }
    let outcomes = tries.join_all().await;
    let ids: BTreeSet<_> = outcomes.iter().map(|reported| reported.report.id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(outcomes.iter().filter(|reported| !reported.user_events.is_empty()).count(), 1);
    assert_eq!((own_log(&store, bob).await.len(), own_log(&store, cid).await.len()), (1, 1));
}

async fn only_what_is_there_can_be_reported(store: Store) {
    let [ann, bob] = people();
    let conversation = ConversationId::generate();
    let message = send(&store, conversation, ann, "rude").await;
    let elsewhere = send(&store, ConversationId::generate(), ann, "x").await;
    for wrong in [
        Complaint { message_id: MessageId::generate(), ..complaint(&message, bob) },
        Complaint { message_id: elsewhere.message_id, ..complaint(&message, bob) },
        Complaint { conversation: ConversationId::generate(), ..complaint(&message, bob) },
    ] {
        let refused = store.file_report(&wrong, &[], NOW).await;
        assert!(matches!(refused, Err(Error::MessageNotFound(id)) if id == wrong.message_id));
    }
    let own = file(&store, &message, ann).await;
    assert!(matches!(own, Err(Error::Invalid { field: "message_id", .. })));
    let delete = revision(&message, ann, Change::Delete(DeletionReason::Deleted));
    store.revise(&delete, &Access::member(), later(1)).await.unwrap();
    assert!(matches!(file(&store, &message, bob).await, Err(Error::MessageDeleted(_))));
    assert_eq!(store.reports(&all(conversation, bob)).await.unwrap(), []);
    assert!(own_log(&store, bob).await.is_empty());
}

async fn a_report_outlives_its_message_but_not_its_conversation(store: Store) {
    let [ann, bob, cid] = people();
    let conversation = ConversationId::generate();
    let (message, kept) = (
        send(&store, conversation, ann, "rude").await,
        send(&store, ConversationId::generate(), ann, "rude there").await,
    );
    let report = file(&store, &message, bob).await.unwrap().report;
    let there = file(&store, &kept, bob).await.unwrap().report;
    let delete = revision(&message, ann, Change::Delete(DeletionReason::Deleted));
    store.revise(&delete, &Access::member(), later(1)).await.unwrap();
    assert_eq!(store.reports(&all(conversation, cid)).await.unwrap(), std::slice::from_ref(&report));
    assert_eq!(file(&store, &message, bob).await.unwrap().report, report);

    store
        .apply(&Claim::forward("conversation", 0, 1), &[fact(conversation, FactKind::Deleted, &[], &[])], &[])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(store.reports(&all(conversation, cid)).await.unwrap(), []);
    assert_eq!(store.report_by(conversation, message.message_id, bob).await.unwrap(), None);
    assert!(matches!(file(&store, &message, bob).await, Err(Error::MessageNotFound(_))));
    assert_eq!(store.reports(&all(kept.conversation, cid)).await.unwrap(), [there]);
}

async fn secrets_and_what_has_an_end_are_not_copied(store: Store) {
    let [ann, bob] = people();
    let conversation = ConversationId::generate();
    let kind = Some(pb::content::Kind::Secure(pb::SecureContent::default()));
    let secret = Content::decode(&pb::Content { kind, ..Default::default() }.encode_to_vec()).unwrap();
    let letters = [
        Letter { content: secret, ..letter(conversation, ann, "x", None) },
        Letter { lifetime: Some(Duration::from_secs(60)), ..letter(conversation, ann, "short", None) },
    ];
    for outcome in append(&store, &letters).await {
        let report = file(&store, &outcome.unwrap().message, bob).await.unwrap().report;
        assert_eq!(report.snapshot, None);
    }
    let reports = store.reports(&all(conversation, bob)).await.unwrap();
    assert!(reports.len() == 2 && reports.iter().all(|report| report.snapshot.is_none()));
}

async fn many(store: &Store, count: i64) -> Vec<Message> {
    let (conversation, sender) = (ConversationId::generate(), UserId::generate());
    let letters: Vec<_> = (0..count).map(|n| letter(conversation, sender, &format!("{n}"), None)).collect();
    append(store, &letters).await.into_iter().map(|outcome| outcome.unwrap().message).collect()
}

async fn so_many_reports_within_the_hour_and_no_more(store: Store) {
    let [bob, cid] = people();
    let messages = many(&store, MOST + 2).await;
    let file_at = async |n: usize, at| store.file_report(&complaint(&messages[n], bob), &[], at).await;
    let most = usize::try_from(MOST).unwrap();
    // The first one long before the others.
    for n in 0..most {
        file_at(n, if n == 0 { NOW } else { later(1_800_000) }).await.unwrap();
    }
    let Err(Error::RateLimited { wait }) = file_at(most, later(1_801_000)).await else { panic!("let in") };
    assert_eq!(wait, Duration::from_secs(1799));
    // What was reported before is still found, and others have an hour of their own.
    file_at(3, later(1_801_000)).await.unwrap();
    file(&store, &messages[most], cid).await.unwrap();
    let end = NOW.plus(PERIOD);
    assert!(file_at(most, end.minus(Duration::from_millis(1))).await.is_err());
    file_at(most, end).await.unwrap();
    let Err(Error::RateLimited { wait }) = file_at(most + 1, end).await else { panic!("let in") };
    assert_eq!(wait, Duration::from_secs(1800));
}

async fn reports_at_once_leave_none_too_many(store: Store) {
    let [bob, cid] = people();
    let messages = many(&store, MOST + 10).await;
    let mut tries = JoinSet::new();
    for message in &messages {
        let (store, complaint) = (store.clone(), complaint(message, bob));
        tries.spawn(async move { store.file_report(&complaint, &[cid], NOW).await });
    }
    let outcomes = tries.join_all().await;
    let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(i64::try_from(made).unwrap(), MOST);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(_) | Err(Error::RateLimited { .. }))));
    assert_eq!(own_log(&store, cid).await.len(), made);
}

async fn reports_come_newest_first_and_in_pages(store: Store) {
    let [ann, bob, cid] = people();
    let conversation = ConversationId::generate();
    let mut filed = Vec::new();
    for n in 0..9 {
        let message = send(&store, conversation, [ann, bob][n % 2], &format!("{n}")).await;
        // Several in the same millisecond, and by different people.
        let complaint = complaint(&message, UserId::generate());
        filed.push(store.file_report(&complaint, &[], later(n as i64 / 4)).await.unwrap().report);
    }
    filed.sort_by_key(|report| std::cmp::Reverse((report.create_time, report.id)));
    let pages = async |viewer: UserId, only_open: bool| {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let wanted = Reports { only_open, after, limit: 2, ..all(conversation, viewer) };
            let page = store.reports(&wanted).await.unwrap();
            let Some(last) = page.last() else { return listed };
            after = Some((last.create_time.as_millis(), last.id.uuid()));
            assert!(page.len() <= 2);
            listed.extend(page);
        }
    };
    assert_eq!(pages(cid, false).await, filed);
    let others: Vec<_> = filed.iter().filter(|report| report.sender != ann).cloned().collect();
    assert_eq!(pages(ann, false).await, others);

    for report in filed.iter().step_by(2) {
        let resolution = resolution(cid, Verdict::Dismissed, later(9));
        store.resolve_report(conversation, report.id, &resolution, &[]).await.unwrap();
    }
    let open: Vec<_> = filed.iter().skip(1).step_by(2).cloned().collect();
    assert_eq!(pages(cid, true).await, open);
    assert_eq!(pages(cid, false).await.len(), 9);
}

async fn a_report_is_resolved_once(store: Store) {
    let [ann, bob, cid, dee] = people();
    let conversation = ConversationId::generate();
    let message = send(&store, conversation, ann, "rude").await;
    let open = file(&store, &message, bob).await.unwrap().report;
    let moderators = [ann, cid, dee];
    let resolve = async |id, resolution: &Resolution| {
        store.resolve_report(conversation, id, resolution, &moderators).await
    };
    let first = resolution(cid, Verdict::Acted, later(5));
    let unknown = resolve(ReportId::generate(), &first).await;
    assert!(matches!(unknown, Err(Error::ReportNotFound(_))));
    let elsewhere = store.resolve_report(ConversationId::generate(), open.id, &first, &moderators).await;
    assert!(matches!(elsewhere, Err(Error::ReportNotFound(_))));
    let own = resolve(open.id, &resolution(ann, Verdict::Dismissed, later(5))).await;
    assert!(matches!(own, Err(Error::ReportNotFound(_))));

    let resolved = resolve(open.id, &first).await.unwrap();
    assert_eq!(resolved.report.resolution, Some(first));
    assert_eq!(resolved.user_events.len(), 3);
    let again = resolve(open.id, &resolution(dee, Verdict::Acted, later(9))).await.unwrap();
    assert_eq!((again.report, again.user_events), (resolved.report.clone(), vec![]));
    let other = resolve(open.id, &resolution(cid, Verdict::Dismissed, later(9))).await;
    assert!(matches!(other, Err(Error::ReportResolved(_))));
    assert_eq!(store.reports(&all(conversation, cid)).await.unwrap(), [resolved.report]);

    let last = async |user| match own_log(&store, user).await.pop() {
        Some(UserHappening::ReportChanged(report)) => report,
        other => panic!("{other:?}"),
    };
    for (user, note) in [(bob, ""), (cid, "seen"), (dee, "seen")] {
        let told = last(user).await;
        assert_eq!((told.state(), told.note.as_str()), (pb::ReportState::Acted, note));
        assert_eq!((told.resolved_by_user_id.clone(), told.snapshot), (cid.to_string(), None));
    }
    assert!(own_log(&store, ann).await.is_empty());
}

async fn of_two_verdicts_at_once_one_stands(store: Store) {
    let [ann, bob, cid, dee] = people();
    let message = send(&store, ConversationId::generate(), ann, "rude").await;
    let open = file(&store, &message, bob).await.unwrap().report;
    let mut verdicts = JoinSet::new();
    for n in 0..8 {
        let store = store.clone();
        let verdict = [Verdict::Acted, Verdict::Dismissed][n % 2];
        let one = resolution([cid, dee][n % 2], verdict, later(1));
        verdicts.spawn(async move {
            store.resolve_report(open.conversation, open.id, &one, &[cid, dee]).await.map(|one| one.report)
        });
    }
    let outcomes = verdicts.join_all().await;
    let stands: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    assert!(stands.len() == 4 && stands.iter().all(|report| *report == stands[0]), "{outcomes:?}");
    assert_eq!(own_log(&store, bob).await.len(), 2);
}
