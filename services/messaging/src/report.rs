//! Reports: what a member shows to the moderators, who hears of it, and what may become of it.

use std::time::Duration;

use chassis::clock::Timestamp;
use proto::id::{ConversationId, MessageId, ReportId, UserId};
use proto::messaging::v1::{self as pb, ReportReason, ReportState};

use crate::content::Content;
use crate::conversations::Access;
use crate::error::Error;
use crate::event::UserHappening;
use crate::message::Message;

/// How many reports a user makes at most within [`PERIOD`].
pub const MOST: i64 = 20;

/// The time in which they are counted.
pub const PERIOD: Duration = Duration::from_secs(3600);

/// What a member wants to show to the moderators.
#[derive(Clone, Debug)]
pub struct Complaint {
    /// Where the message is.
    pub conversation: ConversationId,
    /// The message.
    pub message_id: MessageId,
    /// Who reports it.
    pub reporter: UserId,
    /// Why.
    pub reason: ReportReason,
    /// In the reporter's own words.
    pub comment: Remark,
}

/// A message that was reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Its id.
    pub id: ReportId,
    /// Where the message is, or was.
    pub conversation: ConversationId,
    /// The message.
    pub message_id: MessageId,
    /// Who wrote the message.
    pub sender: UserId,
    /// Who reported it; `None` when that account is gone.
    pub reporter: Option<UserId>,
    /// Why.
    pub reason: ReportReason,
    /// In the reporter's own words.
    pub comment: Remark,
    /// What the message said then, if that may be kept.
    pub snapshot: Option<Content>,
    /// When it was reported.
    pub create_time: Timestamp,
    /// What became of it; `None` while it is open.
    pub resolution: Option<Resolution>,
}

/// What became of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The outcome.
    pub verdict: Verdict,
    /// Whose it is.
    pub by: UserId,
    /// When.
    pub time: Timestamp,
    /// For the other moderators.
    pub note: Remark,
}

/// The outcome of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was wrong.
    Dismissed,
    /// Something was done.
    Acted,
}

impl Verdict {
    /// The verdict in the field `state`.
    pub fn parse(state: ReportState) -> Result<Self, Error> {
        match state {
            ReportState::Dismissed => Ok(Self::Dismissed),
            ReportState::Acted => Ok(Self::Acted),
            ReportState::Unspecified | ReportState::Open => {
                Err(Error::Invalid { field: "state", rule: "must say what became of the report" })
            }
        }
    }

    /// The state of a report with this outcome.
    pub const fn state(self) -> ReportState {
        match self {
            Self::Dismissed => ReportState::Dismissed,
            Self::Acted => ReportState::Acted,
        }
    }
}

/// A few words about a report, at most 1,024 characters; may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remark(String);

impl Remark {
    const MAX: usize = 1024;

    /// Reads it; the error names the field. White space around it does not count.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.chars().count() > Self::MAX {
            return Err(Error::Invalid { field, rule: "must have at most 1024 characters" });
        }
        if text.chars().any(|c| c.is_control() && c != '\t' && c != '\n') {
            let rule = "must have no control characters but tab and line feed";
            return Err(Error::Invalid { field, rule });
        }
        if chassis::text::is_filled_with_blanks(text) {
            return Err(Error::Invalid { field, rule: chassis::text::VISIBLE_OR_EMPTY });
        }
        Ok(Self(text.to_owned()))
    }

    /// Words that were checked when they were stored.
    pub(crate) const fn stored(text: String) -> Self {
        Self(text)
    }

    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Complaint {
    /// Checks what the contract cannot declare.
    pub fn check(&self) -> Result<(), Error> {
        match self.reason {
            ReportReason::Unspecified => Err(Error::Invalid { field: "reason", rule: "must be a reason" }),
            ReportReason::Other if self.comment.as_str().is_empty() => {
                Err(Error::Invalid { field: "comment", rule: "must say why when the reason is another one" })
            }
            _ => Ok(()),
        }
    }

    /// The report of a message as it is at this moment.
    pub fn about(&self, message: &Message, now: Timestamp) -> Result<Report, Error> {
        if message.deletion.is_some() {
            return Err(Error::MessageDeleted(self.message_id));
        }
        if message.sender == self.reporter {
            return Err(Error::Invalid { field: "message_id", rule: "must be a message of somebody else" });
        }
        // What nobody here can read shows nothing, and what has an end must not be read after it.
        let may_be_kept = |content: &&Content| !content.is_secure() && message.expire_time.is_none();
        Ok(Report {
            id: ReportId::generate(),
            conversation: self.conversation,
            message_id: self.message_id,
            sender: message.sender,
            reporter: Some(self.reporter),
            reason: self.reason,
            comment: self.comment.clone(),
            snapshot: message.content.as_ref().filter(may_be_kept).cloned(),
            create_time: now,
            resolution: None,
        })
    }
}

impl Report {
    /// The report after it was resolved; `None` when it has been resolved in this way before. The first resolution stays
    /// as it is.
    pub fn resolve(&self, resolution: Resolution) -> Result<Option<Self>, Error> {
        // To the reported there is no report, moderator or not.
        if self.sender == resolution.by {
            return Err(Error::ReportNotFound(self.id));
        }
        match &self.resolution {
            None => Ok(Some(Self { resolution: Some(resolution), ..self.clone() })),
            Some(first) if first.verdict == resolution.verdict => Ok(None),
            Some(_) => Err(Error::ReportResolved(self.id)),
        }
    }

    /// Who hears of the report as it is now, and what: the moderators and the reporter, but never the author of the
    /// message.
    pub fn audience(&self, moderators: &[UserId]) -> Vec<(UserId, UserHappening)> {
        let mut hearers = moderators.to_vec();
        hearers.extend(self.reporter);
        hearers.sort_unstable();
        hearers.dedup();
        hearers.retain(|user| *user != self.sender);
        let tell = |user: UserId| {
            let told = self.told(moderators.contains(&user));
            (user, UserHappening::ReportChanged(Box::new(told)))
        };
        hearers.into_iter().map(tell).collect()
    }

    /// As it stands in a user's log. A log is kept for long and on many devices: what was said is left out, and what the
    /// moderators say to each other is for them.
    fn told(&self, to_moderator: bool) -> pb::Report {
        let report = pb::Report { comment: String::new(), snapshot: None, ..self.clone().into() };
        if to_moderator { report } else { pb::Report { note: String::new(), ..report } }
    }

    /// As its reporter sees it: without what the message said, which may be deleted by now, and without what the
    /// moderators say to each other.
    pub fn into_reporters(self) -> pb::Report {
        pb::Report { snapshot: None, note: String::new(), ..self.into() }
    }

    /// As a user may see it; `None` for one who may not know that it is there. The author of the message never may, and the
    /// reporter may wherever they are by now.
    pub fn shown_to(self, user: UserId, access: &Access) -> Option<pb::Report> {
        match access.check_moderating(self.conversation) {
            _ if self.sender == user => None,
            Ok(()) => Some(self.into()),
            Err(_) if self.reporter == Some(user) => Some(self.into_reporters()),
            Err(_) => None,
        }
    }

    /// About how many bytes it takes on the wire.
    pub fn weight(&self) -> usize {
        const REST: usize = 512;
        let note = self.resolution.as_ref().map_or(0, |resolution| resolution.note.as_str().len());
        REST + self.comment.as_str().len() + note + self.snapshot.as_ref().map_or(0, Content::weight)
    }

    /// What became of it.
    pub fn state(&self) -> ReportState {
        self.resolution.as_ref().map_or(ReportState::Open, |resolution| resolution.verdict.state())
    }
}

/// As the moderators see it.
impl From<Report> for pb::Report {
    fn from(report: Report) -> Self {
        let state = report.state().into();
        let resolution = report.resolution;
        Self {
            report_id: report.id.to_string(),
            conversation_id: report.conversation.to_string(),
            message_id: report.message_id.to_string(),
            sender_id: report.sender.to_string(),
            reporter_user_id: report.reporter.map(|reporter| reporter.to_string()).unwrap_or_default(),
            reason: report.reason.into(),
            comment: report.comment.0,
            snapshot: report.snapshot.map(Content::into_wire),
            create_time: Some(report.create_time.to_proto()),
            state,
            resolved_by_user_id: resolution.as_ref().map(|one| one.by.to_string()).unwrap_or_default(),
            resolve_time: resolution.as_ref().map(|one| one.time.to_proto()),
            note: resolution.map(|one| one.note.0).unwrap_or_default(),
        }
    }
}

impl Access {
    /// Refuses one who does not moderate a conversation. Nobody moderates a direct one.
    pub const fn check_moderating(&self, conversation: ConversationId) -> Result<(), Error> {
        match self {
            Self { may_read: true, moderates: true, .. } => Ok(()),
            Self { visible: true, .. } => Err(Error::NotModerator(conversation)),
            _ => Err(Error::ConversationNotFound(conversation)),
        }
    }
}

#[cfg(test)]
#[path = "report/tests.rs"]
mod tests;
