//! What may be reported, who hears of it, and what may become of it.

use prost::Message as _;
use proto::messaging::v1::DeletionReason;

use super::*;
use crate::message::{Deletion, Draft, Letter, Sequence, Target};

const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

fn later(millis: u64) -> Timestamp {
    NOW.plus(Duration::from_millis(millis))
}

fn secret() -> Content {
    let kind = Some(pb::content::Kind::Secure(pb::SecureContent::default()));
    Content::decode(&pb::Content { kind, ..Default::default() }.encode_to_vec()).unwrap()
}

fn message(content: Content, lifetime: Option<Duration>) -> Message {
    let (conversation, sender) = (ConversationId::generate(), UserId::generate());
    let draft = Draft {
        target: Target::Conversation(conversation),
        content,
        client_message_id: None,
        reply_to: None,
        lifetime,
        scheduled_time: None,
    };
    Letter::new(draft, conversation, sender).posted(Sequence::new(1), NOW)
}

fn complaint(message: &Message) -> Complaint {
    Complaint {
        conversation: message.conversation,
        message_id: message.message_id,
        reporter: UserId::generate(),
        reason: ReportReason::Spam,
        comment: Remark::parse("comment", "look").unwrap(),
    }
}

fn report() -> Report {
    let message = message(Content::text("rude"), None);
    complaint(&message).about(&message, NOW).unwrap()
}

fn resolution(verdict: Verdict) -> Resolution {
    let note = Remark::parse("note", "talked to him").unwrap();
    Resolution { verdict, by: UserId::generate(), time: NOW, note }
}

#[test]
fn a_report_shows_what_the_message_says() {
    let message = message(Content::text("rude"), None);
    let complaint = complaint(&message);
    let report = complaint.about(&message, later(5)).unwrap();
    assert_eq!((report.snapshot, report.create_time), (Some(Content::text("rude")), later(5)));
    assert_eq!((report.sender, report.reporter), (message.sender, Some(complaint.reporter)));
    assert_eq!(report.resolution, None);
}

#[test]
fn nothing_is_kept_of_what_nobody_reads_or_what_has_an_end() {
    let lifetime = Some(Duration::from_secs(60));
    for message in [message(secret(), None), message(Content::text("rude"), lifetime)] {
        assert_eq!(complaint(&message).about(&message, NOW).unwrap().snapshot, None);
    }
}

#[test]
fn what_is_gone_cannot_be_reported() {
    let deletion = Deletion { time: NOW, by: None, reason: DeletionReason::Deleted };
    let gone = message(Content::text("rude"), None).tombstone(deletion);
    let expired = message(Content::text("rude"), Some(Duration::from_secs(1))).at(later(1000));
    for message in [gone, expired] {
        let refused = complaint(&message).about(&message, later(1000));
        assert!(matches!(refused, Err(Error::MessageDeleted(id)) if id == message.message_id));
    }
}

#[test]
fn nobody_reports_themselves() {
    let message = message(Content::text("rude"), None);
    let own = Complaint { reporter: message.sender, ..complaint(&message) };
    assert!(matches!(own.about(&message, NOW), Err(Error::Invalid { field: "message_id", .. })));
}

#[test]
fn another_reason_is_said_in_words() {
    let complain = |reason, comment: &str| {
        let comment = Remark::parse("comment", comment).unwrap();
        Complaint { reason, comment, ..complaint(&message(Content::text("rude"), None)) }.check()
    };
    for reason in [ReportReason::Spam, ReportReason::Illegal] {
        assert!(complain(reason, "").is_ok());
    }
    assert!(complain(ReportReason::Other, "because").is_ok());
    for nothing in ["", " \n"] {
        let refused = complain(ReportReason::Other, nothing);
        assert!(matches!(refused, Err(Error::Invalid { field: "comment", .. })), "{nothing:?}");
    }
    let unsaid = complain(ReportReason::Unspecified, "because");
    assert!(matches!(unsaid, Err(Error::Invalid { field: "reason", .. })));
}

#[test]
fn a_remark_has_bounds() {
    assert_eq!(Remark::parse("note", " a\n\tb ").unwrap().as_str(), "a\n\tb");
    assert!(Remark::parse("note", &"ä".repeat(1024)).is_ok());
    for bad in ["a\0b", "a\u{1b}[0m", &"ä".repeat(1025)] {
        assert!(matches!(Remark::parse("note", bad), Err(Error::Invalid { field: "note", .. })), "{bad:?}");
    }
}

#[test]
fn the_same_verdict_again_changes_nothing_and_another_one_is_refused() {
    for verdict in [Verdict::Dismissed, Verdict::Acted] {
        let open = report();
        let first = resolution(verdict);
        let resolved = open.resolve(first.clone()).unwrap().unwrap();
        assert_eq!((resolved.resolution.clone(), resolved.state()), (Some(first), verdict.state()));
        assert!(matches!(resolved.resolve(resolution(verdict)), Ok(None)));
        let other = if verdict == Verdict::Acted { Verdict::Dismissed } else { Verdict::Acted };
        let refused = resolved.resolve(resolution(other));
        assert!(matches!(refused, Err(Error::ReportResolved(id)) if id == open.id));
        // To the reported it does not exist, resolved or not.
        for report in [&open, &resolved] {
            let own = Resolution { by: open.sender, ..resolution(verdict) };
            assert!(matches!(report.resolve(own), Err(Error::ReportNotFound(id)) if id == open.id));
        }
    }
    for state in [ReportState::Unspecified, ReportState::Open] {
        assert!(matches!(Verdict::parse(state), Err(Error::Invalid { field: "state", .. })));
    }
}

fn told(report: &Report, moderators: &[UserId]) -> Vec<(UserId, pb::Report)> {
    let read = |(user, what)| match what {
        UserHappening::ReportChanged(report) => (user, *report),
        other => panic!("{other:?}"),
    };
    report.audience(moderators).into_iter().map(read).collect()
}

#[test]
fn moderators_and_reporter_hear_of_it_and_the_reported_never_does() {
    let open = report();
    let mut moderators = [UserId::generate(), open.sender, UserId::generate()];
    let resolved = open.resolve(resolution(Verdict::Acted)).unwrap().unwrap();
    for (report, note) in [(&open, ""), (&resolved, "talked to him")] {
        let told = told(report, &moderators);
        let mut hearers = vec![report.reporter.unwrap(), moderators[0], moderators[2]];
        hearers.sort_unstable();
        assert_eq!(told.iter().map(|(user, _)| *user).collect::<Vec<_>>(), hearers);
        for (user, copy) in told {
            assert_eq!(copy.reporter_user_id, report.reporter.unwrap().to_string());
            assert_eq!((copy.snapshot, copy.comment.as_str()), (None, ""));
            assert_eq!(copy.note, if Some(user) == report.reporter { "" } else { note });
            assert_eq!(copy.state, i32::from(report.state()));
        }
    }
    // A moderator who reports hears of it once, as a moderator.
    moderators[0] = open.reporter.unwrap();
    let told = told(&resolved, &moderators);
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|(_, copy)| copy.note == "talked to him"));
}

#[test]
fn the_reporter_gets_no_copy_of_what_was_said() {
    let shown = report().resolve(resolution(Verdict::Acted)).unwrap().unwrap().into_reporters();
    assert_eq!((shown.snapshot, shown.note.as_str(), shown.comment.as_str()), (None, "", "look"));
}

#[test]
fn only_those_who_moderate_are_let_in() {
    let id = ConversationId::generate();
    assert!(Access::moderator().check_moderating(id).is_ok());
    for access in [Access::member(), Access::muted(), Access { may_read: false, ..Access::member() }] {
        assert!(matches!(access.check_moderating(id), Err(Error::NotModerator(_))));
    }
    let outside = Access { visible: false, may_read: false, ..Access::member() };
    assert!(matches!(outside.check_moderating(id), Err(Error::ConversationNotFound(_))));
}

#[test]
fn a_report_is_shown_to_its_reporter_and_to_moderators_but_not_to_the_author() {
    let report = report().resolve(resolution(Verdict::Acted)).unwrap().unwrap();
    let shown = |user, access: &Access| report.clone().shown_to(user, access);
    let (author, reporter, other) = (report.sender, report.reporter.unwrap(), UserId::generate());
    let outside = Access { visible: false, may_read: false, ..Access::member() };
    for access in [Access::moderator(), Access::member(), outside] {
        assert_eq!(shown(author, &access), None);
    }
    assert_eq!(shown(other, &Access::moderator()), Some(report.clone().into()));
    assert_eq!(shown(reporter, &Access::moderator()), Some(report.clone().into()));
    for access in [Access::member(), outside] {
        assert_eq!(shown(reporter, &access), Some(report.clone().into_reporters()));
        assert_eq!(shown(other, &access), None);
    }
}
