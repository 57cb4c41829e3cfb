//! The use cases around reports.

use chassis::page::Token;
use proto::id::{ConversationId, ReportId, UserId};
use proto::messaging::v1 as pb;
use uuid::Uuid;

use crate::error::Error;
use crate::messaging::{Messaging, cut};
use crate::report::{Complaint, Remark, Report, Resolution, Verdict};
use crate::store::{Reported, Reports};

/// Which page of reports.
#[derive(Clone, Debug)]
pub struct ReportPage {
    /// The conversation.
    pub conversation: ConversationId,
    /// Only those that nobody has resolved.
    pub only_open: bool,
    /// At most so many.
    pub limit: i64,
    /// Where to continue.
    pub token: String,
}

impl Messaging {
    /// Shows a message to the moderators of its conversation. The same member again gets the first report.
    pub async fn report(&self, complaint: Complaint) -> Result<Report, Error> {
        let Complaint { conversation, message_id, reporter, .. } = complaint;
        self.conversations.admit_member(conversation, reporter).await?;
        if let Some(first) = self.store.report_by(conversation, message_id, reporter).await? {
            return Ok(first);
        }
        let moderators = self.conversations.moderators(conversation, reporter).await?;
        let reported = self.store.file_report(&complaint, &moderators, self.clock.now()).await?;
        Ok(self.announce(reported))
    }

    /// A page of the reports of a conversation, and where the next one begins. Those about the caller's own messages are
    /// left out.
    pub async fn reports(&self, user: UserId, page: ReportPage) -> Result<(Vec<Report>, String), Error> {
        let ReportPage { conversation, only_open, limit, token } = page;
        let (user_id, id) = (user.uuid(), conversation.uuid());
        let query: [&[u8]; 4] = [b"reports", user_id.as_bytes(), id.as_bytes(), &[u8::from(only_open)]];
        let after =
            Token::after::<(i64, Uuid)>(&token, &query).map_err(|fault| Error::PageToken(Box::new(fault)))?;
        self.require_moderator(conversation, user).await?;
        let wanted = Reports { conversation, viewer: user, only_open, after, limit: limit + 1 };
        let mut reports = self.store.reports(&wanted).await?;
        let is_last = !cut(&mut reports, limit, Report::weight);
        let last = reports.last().filter(|_| !is_last);
        let next = last.map(|last| Token::at(&query, &(last.create_time.as_millis(), last.id.uuid())));
        Ok((reports, next.unwrap_or_default()))
    }

    /// One report, as a user may see it.
    pub async fn report_for(&self, user: UserId, id: ReportId) -> Result<pb::Report, Error> {
        let report = self.store.report(id).await?.ok_or(Error::ReportNotFound(id))?;
        let access = self.conversations.access(report.conversation, user).await?;
        report.shown_to(user, &access).ok_or(Error::ReportNotFound(id))
    }

    /// Says what became of a report.
    pub async fn resolve_report(
        &self,
        user: UserId,
        conversation: ConversationId,
        id: ReportId,
        verdict: Verdict,
        note: Remark,
    ) -> Result<Report, Error> {
        self.require_moderator(conversation, user).await?;
        let moderators = self.conversations.moderators(conversation, user).await?;
        let resolution = Resolution { verdict, by: user, time: self.clock.now(), note };
        let resolved = self.store.resolve_report(conversation, id, &resolution, &moderators).await?;
        Ok(self.announce(resolved))
    }

    async fn require_moderator(&self, conversation: ConversationId, user: UserId) -> Result<(), Error> {
        match self.conversations.check(&[(conversation, user)]).await?.as_slice() {
            [access] => access.check_moderating(conversation),
            _ => Err(Error::ConversationNotFound(conversation)),
        }
    }

    /// Tells those who hear of a report that their logs have grown.
    fn announce(&self, reported: Reported) -> Report {
        reported.user_events.into_iter().for_each(|event| self.publisher.user_event(event));
        reported.report
    }
}
