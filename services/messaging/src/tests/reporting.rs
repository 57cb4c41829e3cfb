//! Reporting messages to moderators.

use proto::conversation::v1::MemberRole;
use proto::id::MessageId;

use super::*;

impl World {
    pub(super) async fn report(
        &self,
        by: UserId,
        request: pb::ReportMessageRequest,
    ) -> Result<pb::Report, Status> {
        let answer = self.reports.clone().report_message(by.says(request)).await?.into_inner();
        Ok(answer.report.unwrap())
    }

    async fn list_reports(
        &self,
        by: UserId,
        request: pb::ListReportsRequest,
    ) -> Result<pb::ListReportsResponse, Status> {
        self.reports.clone().list_reports(by.says(request)).await.map(tonic::Response::into_inner)
    }

    pub(super) async fn reports_of(&self, by: UserId, conversation: ConversationId) -> Vec<pb::Report> {
        self.list_reports(by, page(conversation)).await.unwrap().reports
    }

    async fn resolve(&self, by: UserId, request: pb::ResolveReportRequest) -> Result<pb::Report, Status> {
        let answer = self.reports.clone().resolve_report(by.says(request)).await?.into_inner();
        Ok(answer.report.unwrap())
    }

    /// What a user has been told about reports.
    async fn heard(&self, user: UserId) -> Vec<pb::Report> {
        let told = |event: pb::UserEvent| match event.payload {
            Some(pb::user_event::Payload::ReportChanged(report)) => Some(report),
            _ => None,
        };
        self.user_events(user).await.into_iter().filter_map(told).collect()
    }

    async fn delete(&self, by: UserId, message: &pb::Message) {
        let request = pb::DeleteMessageRequest {
            conversation_id: message.conversation_id.clone(),
            message_id: message.message_id.clone(),
        };
        self.messaging().delete_message(by.says(request)).await.unwrap();
    }
}

pub(super) fn spam(message: &pb::Message) -> pb::ReportMessageRequest {
    pb::ReportMessageRequest {
        conversation_id: message.conversation_id.clone(),
        message_id: message.message_id.clone(),
        reason: pb::ReportReason::Spam.into(),
        comment: String::new(),
    }
}

fn page(conversation: ConversationId) -> pb::ListReportsRequest {
    pb::ListReportsRequest { conversation_id: conversation.to_string(), ..Default::default() }
}

fn acted(report: &pb::Report) -> pb::ResolveReportRequest {
    pb::ResolveReportRequest {
        conversation_id: report.conversation_id.clone(),
        report_id: report.report_id.clone(),
        state: pb::ReportState::Acted.into(),
        note: "talked to him".to_owned(),
    }
}

fn says(report: &pb::Report) -> Option<&pb::content::Kind> {
    report.snapshot.as_ref().and_then(|content| content.kind.as_ref())
}

#[track_caller]
fn invalid<T: std::fmt::Debug>(outcome: Result<T, Status>, field: &str) {
    let fault = Fault::of(&outcome.unwrap_err());
    assert_eq!((fault.code(), fault.reason()), (Code::InvalidArgument, "ERROR_REASON_INVALID_FIELD"));
    assert_eq!(fault.fields()[0].0, field);
}

#[tokio::test]
async fn a_report_reaches_every_moderator_and_never_the_reported() {
    let world = World::start().await;
    // More moderators than fit on a page of conversation's.
    let people: [UserId; 7] = world.people();
    let [ann, bob, cid, dee, eve, fay, gus] = people;
    let group = world.group(&people);
    for moderator in [cid, dee, eve] {
        world.others.set_role(group, moderator, MemberRole::Moderator);
    }
    world.others.set_role(group, fay, MemberRole::Muted);
    // Cid moderates, and is the one reported, by one who may only read.
    let message = world.says(cid, group, "rude").await;
    let request = pb::ReportMessageRequest { comment: " he always does ".to_owned(), ..spam(&message) };
    let report = world.report(fay, request.clone()).await.unwrap();
    assert_eq!(
        (report.sender_id.clone(), report.reporter_user_id.clone()),
        (cid.to_string(), fay.to_string())
    );
    assert_eq!((report.comment.as_str(), report.state()), ("he always does", pb::ReportState::Open));
    assert_eq!(report.create_time, Some(world.clock.now().to_proto()));
    assert_eq!(report.snapshot, None, "the reporter can read the message for as long as it is there");
    let again = pb::ReportMessageRequest { reason: pb::ReportReason::Violence.into(), ..request };
    assert_eq!(world.report(fay, again).await.unwrap(), report);

    let told = pb::Report { comment: String::new(), ..report.clone() };
    for hearer in [ann, dee, eve, fay] {
        assert_eq!(world.heard(hearer).await, std::slice::from_ref(&told));
    }
    for other in [cid, bob, gus] {
        assert_eq!(world.heard(other).await, []);
    }
    let listed = world.reports_of(ann, group).await;
    assert_eq!(says(&listed[0]), Some(&pb::content::Kind::Text("rude".to_owned())));
    assert_eq!(pb::Report { snapshot: None, ..listed[0].clone() }, report);
    assert_eq!(world.reports_of(dee, group).await, listed);
    assert_eq!(world.reports_of(cid, group).await, []);
    assert_eq!(
        world.events(bob, group, 0).await.events.len(),
        world.events(cid, group, 0).await.events.len()
    );
}

#[tokio::test]
async fn what_cannot_be_reported_is_refused() {
    let world = World::start().await;
    let [ann, bob, eve] = world.people();
    let (group, other) = (world.group(&[ann, bob]), world.group(&[ann, bob]));
    let (message, there) = (world.says(ann, group, "x").await, world.says(ann, other, "x").await);
    let unknown = MessageId::generate().to_string();
    for id in [&there.message_id, &unknown] {
        let answer = world.report(bob, pb::ReportMessageRequest { message_id: id.clone(), ..spam(&message) });
        assert_eq!(refusal(answer.await), refused(Code::NotFound, "MESSAGE_NOT_FOUND"));
    }
    invalid(world.report(ann, spam(&message)).await, "message_id");
    let stranger = world.report(eve, spam(&message)).await;
    assert_eq!(refusal(stranger), refused(Code::NotFound, "CONVERSATION_NOT_FOUND"));
    let nobody = world.reports.clone().report_message(Request::new(spam(&message))).await;
    assert_eq!(nobody.unwrap_err().code(), Code::Unauthenticated);

    for reason in [0, -1, 7] {
        invalid(world.report(bob, pb::ReportMessageRequest { reason, ..spam(&message) }).await, "reason");
    }
    for comment in ["", " \n"] {
        let other = pb::ReportMessageRequest {
            reason: pb::ReportReason::Other.into(),
            comment: comment.to_owned(),
            ..spam(&message)
        };
        invalid(world.report(bob, other).await, "comment");
    }
    for comment in ["a\0b", &"x".repeat(1025)] {
        let comment = comment.to_owned();
        invalid(world.report(bob, pb::ReportMessageRequest { comment, ..spam(&message) }).await, "comment");
    }
    let short = pb::SendMessageRequest {
        expire_after: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        ..to(group, "short")
    };
    let short = world.send(ann, short).await.unwrap().message.unwrap();
    world.clock.advance(Duration::from_secs(5));
    world.delete(ann, &message).await;
    for gone in [&message, &short] {
        let answer = world.report(bob, spam(gone)).await;
        assert_eq!(refusal(answer), refused(Code::FailedPrecondition, "MESSAGE_DELETED"));
    }
    assert_eq!(world.reports_of(ann, group).await, []);
    assert_eq!(world.heard(bob).await, []);
}

#[tokio::test]
async fn a_report_keeps_what_was_said_unless_that_has_an_end() {
    let world = World::start().await;
    let [ann, bob, cid] = world.people();
    let group = world.group(&[ann, bob, cid]);
    let message = world.says(cid, group, "rude").await;
    let report = world.report(bob, spam(&message)).await.unwrap();
    world.delete(cid, &message).await;
    let listed = world.reports_of(ann, group).await;
    assert_eq!(says(&listed[0]), Some(&pb::content::Kind::Text("rude".to_owned())));
    // The first report again, and still no way to what is deleted.
    assert_eq!(world.report(bob, spam(&message)).await.unwrap(), report);
    let late = world.report(ann, spam(&message)).await;
    assert_eq!(refusal(late), refused(Code::FailedPrecondition, "MESSAGE_DELETED"));

    let short = pb::SendMessageRequest {
        expire_after: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..to(group, "short")
    };
    let short = world.send(cid, short).await.unwrap().message.unwrap();
    world.clock.advance(Duration::from_millis(1));
    world.report(bob, spam(&short)).await.unwrap();
    let listed = world.reports_of(ann, group).await;
    assert_eq!((listed.len(), &listed[0].message_id, says(&listed[0])), (2, &short.message_id, None));

    // With the conversation go its reports.
    world.others.delete(group);
    let answer = world.list_reports(ann, page(group)).await;
    assert_eq!(refusal(answer), refused(Code::NotFound, "CONVERSATION_NOT_FOUND"));
}

#[tokio::test]
async fn only_moderators_see_reports_and_a_direct_conversation_has_none() {
    let world = World::start().await;
    let [ann, bob, cid, eve] = world.people();
    let group = world.group(&[ann, bob, cid]);
    let room = world.others.create(ConversationKind::Room, &[ann, bob]);
    let direct = world.others.create(ConversationKind::Direct, &[ann, bob]);
    let denied = refused(Code::PermissionDenied, "NOT_MODERATOR");
    let unknown = refused(Code::NotFound, "CONVERSATION_NOT_FOUND");
    let resolve = |id: ConversationId| {
        let report = pb::Report { conversation_id: id.to_string(), ..Default::default() };
        pb::ResolveReportRequest { report_id: MessageId::generate().to_string(), ..acted(&report) }
    };
    for (user, conversation, expected) in [
        (bob, group, &denied),
        (eve, group, &unknown),
        (bob, room, &denied),
        (eve, room, &denied),
        (ann, direct, &denied),
        (eve, direct, &unknown),
        (ann, ConversationId::generate(), &unknown),
    ] {
        assert_eq!(refusal(world.list_reports(user, page(conversation)).await), *expected);
        assert_eq!(refusal(world.resolve(user, resolve(conversation)).await), *expected);
    }
    // It is kept all the same, for the reporter to know.
    let message = world.says(ann, direct, "rude").await;
    let report = world.report(bob, spam(&message)).await.unwrap();
    assert_eq!(world.heard(bob).await, [report]);
    assert_eq!(world.heard(ann).await, []);
    // Who is a moderator no more sees nothing more.
    world.others.set_role(group, cid, MemberRole::Moderator);
    assert_eq!(world.reports_of(cid, group).await, []);
    world.others.remove(group, cid);
    assert_eq!(refusal(world.list_reports(cid, page(group)).await), unknown);
}

#[tokio::test]
async fn reports_are_listed_newest_first_page_by_page() {
    let world = World::start().await;
    let [ann, bob, cid] = world.people();
    let group = world.group(&[ann, bob, cid]);
    world.others.set_role(group, cid, MemberRole::Moderator);
    let mut reports = Vec::new();
    for n in 0..5 {
        let message = world.says([ann, cid][n % 2], group, &format!("{n}")).await;
        world.clock.advance(Duration::from_secs(1));
        reports.insert(0, world.report(bob, spam(&message)).await.unwrap());
    }
    let list = async |by: UserId, request: pb::ListReportsRequest| {
        let answer = world.list_reports(by, request).await?;
        let ids = answer.reports.into_iter().map(|report| report.report_id).collect::<Vec<_>>();
        Ok::<_, Status>((ids, answer.next_page_token))
    };
    let ids = |reports: &[&pb::Report]| reports.iter().map(|one| one.report_id.clone()).collect::<Vec<_>>();
    // Each moderator sees those about the other.
    let of_cid = ids(&[&reports[1], &reports[3]]);
    assert_eq!(list(ann, page(group)).await.unwrap(), (of_cid, String::new()));
    let small =
        |token: &str| pb::ListReportsRequest { page_size: 2, page_token: token.to_owned(), ..page(group) };
    let (first, token) = list(cid, small("")).await.unwrap();
    assert_eq!(first, ids(&[&reports[0], &reports[2]]));
    assert_eq!(list(cid, small(&token)).await.unwrap(), (ids(&[&reports[4]]), String::new()));

    let resolved = world.resolve(cid, acted(&reports[2])).await.unwrap();
    let open = |token: &str| pb::ListReportsRequest { only_open: true, ..small(token) };
    assert_eq!(list(cid, open("")).await.unwrap().0, ids(&[&reports[0], &reports[4]]));
    assert_eq!(world.reports_of(cid, group).await[1], resolved);
    // A token continues the list that it came from and no other.
    invalid(list(cid, open(&token)).await, "page_token");
    invalid(list(ann, small(&token)).await, "page_token");
    invalid(list(cid, small("nonsense")).await, "page_token");
    invalid(list(cid, pb::ListReportsRequest { page_size: -1, ..page(group) }).await, "page_size");
}

#[tokio::test]
async fn a_report_is_resolved_once_and_the_reporter_hears_how() {
    let world = World::start().await;
    let [ann, bob, cid, dee] = world.people();
    let group = world.group(&[ann, bob, cid, dee]);
    for moderator in [cid, dee] {
        world.others.set_role(group, moderator, MemberRole::Moderator);
    }
    let message = world.says(cid, group, "rude").await;
    let report = world.report(bob, spam(&message)).await.unwrap();
    assert_eq!(
        refusal(world.resolve(cid, acted(&report)).await),
        refused(Code::NotFound, "REPORT_NOT_FOUND")
    );
    let unknown = pb::ResolveReportRequest { report_id: message.message_id.clone(), ..acted(&report) };
    assert_eq!(refusal(world.resolve(ann, unknown).await), refused(Code::NotFound, "REPORT_NOT_FOUND"));
    let other = world.group(&[ann]);
    let elsewhere = pb::ResolveReportRequest { conversation_id: other.to_string(), ..acted(&report) };
    assert_eq!(refusal(world.resolve(ann, elsewhere).await), refused(Code::NotFound, "REPORT_NOT_FOUND"));
    for state in [0, 1, 9] {
        invalid(world.resolve(ann, pb::ResolveReportRequest { state, ..acted(&report) }).await, "state");
    }
    let note = "a\0b".to_owned();
    invalid(world.resolve(ann, pb::ResolveReportRequest { note, ..acted(&report) }).await, "note");

    world.clock.advance(Duration::from_secs(1));
    let resolved = world.resolve(ann, acted(&report)).await.unwrap();
    assert_eq!((resolved.state(), resolved.note.as_str()), (pb::ReportState::Acted, "talked to him"));
    assert_eq!(resolved.resolved_by_user_id, ann.to_string());
    assert_eq!(resolved.resolve_time, Some(world.clock.now().to_proto()));
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.resolve(dee, acted(&report)).await.unwrap(), resolved);
    let dismissed = pb::ResolveReportRequest { state: pb::ReportState::Dismissed.into(), ..acted(&report) };
    let answer = world.resolve(dee, dismissed).await;
    assert_eq!(refusal(answer), refused(Code::FailedPrecondition, "REPORT_RESOLVED"));

    let told = pb::Report { snapshot: None, ..resolved };
    for moderator in [ann, dee] {
        assert_eq!(world.heard(moderator).await, [report.clone(), told.clone()]);
    }
    let reporters = pb::Report { note: String::new(), ..told };
    assert_eq!(world.heard(bob).await, [report.clone(), reporters.clone()]);
    assert_eq!(world.report(bob, spam(&message)).await.unwrap(), reporters);
    assert_eq!(world.heard(cid).await, []);
}

#[tokio::test]
async fn who_reports_too_much_has_to_wait() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let group = world.group(&[ann, bob]);
    let mut messages = Vec::new();
    for n in 0..21 {
        messages.push(world.says(ann, group, &format!("{n}")).await);
    }
    for message in &messages[..20] {
        world.report(bob, spam(message)).await.unwrap();
    }
    world.clock.advance(Duration::from_secs(600));
    let fault = Fault::of(&world.report(bob, spam(&messages[20])).await.unwrap_err());
    assert_eq!((fault.code(), fault.reason()), (Code::ResourceExhausted, "ERROR_REASON_RATE_LIMITED"));
    assert_eq!(fault.wait(), Some(Duration::from_secs(3000)));
    world.report(bob, spam(&messages[7])).await.unwrap();
    world.clock.advance(Duration::from_secs(3000));
    world.report(bob, spam(&messages[20])).await.unwrap();
}

#[tokio::test]
async fn nothing_is_reported_while_nobody_knows_who_moderates() {
    let world = World::start().await;
    let [ann, bob] = world.people();
    let message = world.says(ann, world.group(&[ann, bob]), "rude").await;
    world.others.set_down(true);
    assert_eq!(world.report(bob, spam(&message)).await.unwrap_err().code(), Code::Unavailable);
    world.others.set_down(false);
    assert_eq!(world.heard(bob).await, []);
    world.report(bob, spam(&message)).await.unwrap();
}

#[tokio::test]
async fn one_report_is_got_by_its_reporter_and_the_moderators() {
    let world = World::start().await;
    let [ann, bob, cid, dee, eve] = world.people();
    let group = world.group(&[ann, bob, cid, dee]);
    world.others.set_role(group, dee, MemberRole::Moderator);
    let message = world.says(dee, group, "rude").await;
    let request = pb::ReportMessageRequest { comment: "look".to_owned(), ..spam(&message) };
    let report = world.report(bob, request).await.unwrap();
    let get = async |by: UserId, id: &str| {
        let request = pb::GetReportRequest { report_id: id.to_owned() };
        let answer = world.reports.clone().get_report(by.says(request)).await;
        answer.map(|answer| answer.into_inner().report.unwrap())
    };
    assert_eq!(get(bob, &report.report_id).await.unwrap(), report);
    assert_eq!(report.comment, "look");
    let seen = get(ann, &report.report_id).await.unwrap();
    assert_eq!((seen.comment.as_str(), says(&seen).is_some()), ("look", true));
    world.resolve(ann, acted(&report)).await.unwrap();
    assert_eq!(get(ann, &report.report_id).await.unwrap().note, "talked to him");
    let resolved = get(bob, &report.report_id).await.unwrap();
    assert_eq!((resolved.state(), resolved.note.as_str()), (pb::ReportState::Acted, ""));
    // Not by the author, who moderates, nor by another member, nor by one who is not there.
    let not_found = refused(Code::NotFound, "REPORT_NOT_FOUND");
    for by in [dee, cid, eve] {
        assert_eq!(refusal(get(by, &report.report_id).await), not_found);
    }
    assert_eq!(refusal(get(ann, &MessageId::generate().to_string()).await), not_found);
    invalid(get(ann, "a report").await, "report_id");
    // The reporter gets it wherever they are, and nobody when its conversation is gone.
    world.others.remove(group, bob);
    assert_eq!(get(bob, &report.report_id).await.unwrap(), resolved);
    world.others.set_down(true);
    assert_eq!(get(bob, &report.report_id).await.unwrap_err().code(), Code::Unavailable);
    world.others.set_down(false);
    world.others.delete(group);
    eventually(async || get(bob, &report.report_id).await.is_err()).await;
    assert_eq!(refusal(get(bob, &report.report_id).await), not_found);
}
