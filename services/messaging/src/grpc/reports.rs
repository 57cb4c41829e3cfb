//! The rpcs around reports: identify, parse, call, render.

use chassis::caller::Caller;
use chassis::page;
use proto::id::{InvalidId, ReportId, UserId};
use proto::messaging::v1 as pb;
use proto::messaging::v1::report_service_server::ReportService;
use tonic::{Request, Response, Status};

use super::Api;
use crate::convert;
use crate::error::Error;
use crate::report::{Complaint, Remark, Verdict};
use crate::reports::ReportPage;

#[tonic::async_trait]
impl ReportService for Api {
    async fn report_message(
        &self,
        request: Request<pb::ReportMessageRequest>,
    ) -> Result<Response<pb::ReportMessageResponse>, Status> {
        let caller = Caller::of(&request)?;
        let complaint = complaint(caller.user_id, request.get_ref())?;
        let report = self.messaging.report(complaint).await?;
        Ok(Response::new(pb::ReportMessageResponse { report: Some(report.into_reporters()) }))
    }

    async fn list_reports(
        &self,
        request: Request<pb::ListReportsRequest>,
    ) -> Result<Response<pb::ListReportsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let page = ReportPage::try_from(request.into_inner())?;
        let (reports, next_page_token) = self.messaging.reports(caller.user_id, page).await?;
        let reports = reports.into_iter().map(pb::Report::from).collect();
        Ok(Response::new(pb::ListReportsResponse { reports, next_page_token }))
    }

    async fn get_report(
        &self,
        request: Request<pb::GetReportRequest>,
    ) -> Result<Response<pb::GetReportResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = report_id(&request.get_ref().report_id)?;
        let report = self.messaging.report_for(caller.user_id, id).await?;
        Ok(Response::new(pb::GetReportResponse { report: Some(report) }))
    }

    async fn resolve_report(
        &self,
        request: Request<pb::ResolveReportRequest>,
    ) -> Result<Response<pb::ResolveReportResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.get_ref();
        let conversation = convert::conversation_id(&request.conversation_id)?;
        let id = report_id(&request.report_id)?;
        let (verdict, note) = (Verdict::parse(request.state())?, Remark::parse("note", &request.note)?);
        let report = self.messaging.resolve_report(caller.user_id, conversation, id, verdict, note).await?;
        Ok(Response::new(pb::ResolveReportResponse { report: Some(report.into()) }))
    }
}

fn complaint(reporter: UserId, request: &pb::ReportMessageRequest) -> Result<Complaint, Error> {
    let complaint = Complaint {
        conversation: convert::conversation_id(&request.conversation_id)?,
        message_id: convert::message_id(&request.message_id)?,
        reporter,
        reason: request.reason(),
        comment: Remark::parse("comment", &request.comment)?,
    };
    complaint.check()?;
    Ok(complaint)
}

fn report_id(text: &str) -> Result<ReportId, Error> {
    ReportId::parse(text).map_err(|InvalidId| Error::Invalid { field: "report_id", rule: "must be a UUID" })
}

impl TryFrom<pb::ListReportsRequest> for ReportPage {
    type Error = Error;

    fn try_from(request: pb::ListReportsRequest) -> Result<Self, Error> {
        Ok(Self {
            conversation: convert::conversation_id(&request.conversation_id)?,
            only_open: request.only_open,
            limit: page::size(request.page_size),
            token: request.page_token,
        })
    }
}
