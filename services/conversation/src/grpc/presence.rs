//! The handlers of presence.

use chassis::caller::{Caller, Viewer};
use proto::conversation::v1 as pb;
use proto::conversation::v1::presence_service_server::PresenceService;
use tonic::{Request, Response, Status};

use super::Grpc;
use crate::convert::{self, Query, contacts};
use crate::presence::Report;

#[tonic::async_trait]
impl PresenceService for Grpc {
    async fn get_presence(
        &self,
        request: Request<pb::GetPresenceRequest>,
    ) -> Result<Response<pb::GetPresenceResponse>, Status> {
        let caller = Caller::of(&request)?;
        let user_ids = contacts::looked_at(request.get_ref())?;
        let presences = self.conversations.presences(caller.user_id, &user_ids).await?;
        let presences = presences.into_iter().map(pb::Presence::from).collect();
        Ok(Response::new(pb::GetPresenceResponse { presences }))
    }

    async fn list_online_members(
        &self,
        request: Request<pb::ListOnlineMembersRequest>,
    ) -> Result<Response<pb::ListOnlineMembersResponse>, Status> {
        let viewer = Viewer::of(&request)?.user_id();
        let request = request.into_inner();
        let id = convert::conversation_id(&request.conversation_id)?;
        let list = ("online members", request.conversation_id.as_str());
        let query = Query::parse(viewer, list, request.page_size, &request.page_token)?;
        let paged = self.conversations.online_members(viewer, id, query.page).await?;
        Ok(Response::new(pb::ListOnlineMembersResponse {
            next_page_token: query.next_page_token(&paged),
            members: paged.items.iter().map(pb::Member::from).collect(),
        }))
    }

    async fn report_presence(
        &self,
        request: Request<pb::ReportPresenceRequest>,
    ) -> Result<Response<pb::ReportPresenceResponse>, Status> {
        let report = Report::try_from(request.into_inner())?;
        Ok(Response::new(self.conversations.report_presence(report).await?.into()))
    }
}
