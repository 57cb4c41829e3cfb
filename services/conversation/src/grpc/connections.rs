//! The handlers of connections, requests, blocks and privacy.

use chassis::caller::Caller;
use proto::conversation::v1 as pb;
use proto::conversation::v1::connection_service_server::ConnectionService;
use tonic::{Request, Response, Status};

use super::Grpc;
use crate::convert::{self, Query, contacts};
use crate::privacy::PrivacyChanges;
use crate::request::Kind;
use crate::users::Keyword;

#[tonic::async_trait]
impl ConnectionService for Grpc {
    async fn send_connection_request(
        &self,
        request: Request<pb::SendConnectionRequestRequest>,
    ) -> Result<Response<pb::SendConnectionRequestResponse>, Status> {
        let caller = Caller::of(&request)?;
        let other = convert::user_id(&request.get_ref().user_id)?;
        let retry = contacts::retry(&request.get_ref().request_id)?;
        let request = self.conversations.connect(caller.user_id, other, retry).await?;
        Ok(Response::new(pb::SendConnectionRequestResponse { request: Some(request.into()) }))
    }

    async fn cancel_connection_request(
        &self,
        request: Request<pb::CancelConnectionRequestRequest>,
    ) -> Result<Response<pb::CancelConnectionRequestResponse>, Status> {
        let caller = Caller::of(&request)?;
        let other = convert::user_id(&request.get_ref().user_id)?;
        let request = self.conversations.cancel(caller.user_id, other, Kind::Connection).await?;
        Ok(Response::new(pb::CancelConnectionRequestResponse { request: Some(request.into()) }))
    }

    async fn accept_connection_request(
        &self,
        request: Request<pb::AcceptConnectionRequestRequest>,
    ) -> Result<Response<pb::AcceptConnectionRequestResponse>, Status> {
        let caller = Caller::of(&request)?;
        let other = convert::user_id(&request.get_ref().user_id)?;
        let request = self.conversations.accept(caller.user_id, other, Kind::Connection).await?;
        Ok(Response::new(pb::AcceptConnectionRequestResponse { request: Some(request.into()) }))
    }

    async fn reject_connection_request(
        &self,
        request: Request<pb::RejectConnectionRequestRequest>,
    ) -> Result<Response<pb::RejectConnectionRequestResponse>, Status> {
        let caller = Caller::of(&request)?;
        let other = convert::user_id(&request.get_ref().user_id)?;
        let request = self.conversations.reject(caller.user_id, other, Kind::Connection).await?;
        Ok(Response::new(pb::RejectConnectionRequestResponse { request: Some(request.into()) }))
    }

    async fn accept_message_request(
        &self,
        request: Request<pb::AcceptMessageRequestRequest>,
    ) -> Result<Response<pb::AcceptMessageRequestResponse>, Status> {
        let caller = Caller::of(&request)?;
        let other = convert::user_id(&request.get_ref().user_id)?;
        let request = self.conversations.accept(caller.user_id, other, Kind::Message).await?;
        Ok(Response::new(pb::AcceptMessageRequestResponse { request: Some(request.into()) }))
    }

    async fn reject_message_request(
        &self,
        request: Request<pb::RejectMessageRequestRequest>,
    ) -> Result<Response<pb::RejectMessageRequestResponse>, Status> {
        let caller = Caller::of(&request)?;
        let other = convert::user_id(&request.get_ref().user_id)?;
        let request = self.conversations.reject(caller.user_id, other, Kind::Message).await?;
        Ok(Response::new(pb::RejectMessageRequestResponse { request: Some(request.into()) }))
    }

    async fn cancel_message_request(
        &self,
        request: Request<pb::CancelMessageRequestRequest>,
    ) -> Result<Response<pb::CancelMessageRequestResponse>, Status> {
        let caller = Caller::of(&request)?;
        let other = convert::user_id(&request.get_ref().user_id)?;
        let request = self.conversations.cancel(caller.user_id, other, Kind::Message).await?;
        Ok(Response::new(pb::CancelMessageRequestResponse { request: Some(request.into()) }))
    }

    async fn remove_connection(
        &self,
        request: Request<pb::RemoveConnectionRequest>,
    ) -> Result<Response<pb::RemoveConnectionResponse>, Status> {
        let caller = Caller::of(&request)?;
        let other = convert::user_id(&request.get_ref().user_id)?;
        self.conversations.disconnect(caller.user_id, other).await?;
        Ok(Response::new(pb::RemoveConnectionResponse {}))
    }

    async fn unblock_user(
        &self,
        request: Request<pb::UnblockUserRequest>,
    ) -> Result<Response<pb::UnblockUserResponse>, Status> {
        let caller = Caller::of(&request)?;
        let other = convert::user_id(&request.get_ref().user_id)?;
        self.conversations.unblock(caller.user_id, other).await?;
        Ok(Response::new(pb::UnblockUserResponse {}))
    }

    async fn list_pending_connections(
        &self,
        request: Request<pb::ListPendingConnectionsRequest>,
    ) -> Result<Response<pb::ListPendingConnectionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let filter = contacts::pending(request.direction());
        let list = contacts::list_of(filter);
        let query = Query::parse(caller.user_id, (&list, ""), request.page_size, &request.page_token)?;
        let paged = self.conversations.requests(caller.user_id, filter, query.page).await?;
        let count = self.conversations.count_requests(caller.user_id, filter).await?;
        Ok(Response::new(pb::ListPendingConnectionsResponse {
            total_count: contacts::count(count),
            next_page_token: query.next_page_token(&paged),
            requests: paged.items.into_iter().map(pb::Request::from).collect(),
        }))
    }

    async fn list_message_requests(
        &self,
        request: Request<pb::ListMessageRequestsRequest>,
    ) -> Result<Response<pb::ListMessageRequestsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let filter = contacts::message_requests(request.direction(), request.state());
        let list = contacts::list_of(filter);
        let query = Query::parse(caller.user_id, (&list, ""), request.page_size, &request.page_token)?;
        let paged = self.conversations.requests(caller.user_id, filter, query.page).await?;
        Ok(Response::new(pb::ListMessageRequestsResponse {
            next_page_token: query.next_page_token(&paged),
            requests: paged.items.into_iter().map(pb::Request::from).collect(),
        }))
    }

    async fn list_connections(
        &self,
        request: Request<pb::ListConnectionsRequest>,
    ) -> Result<Response<pb::ListConnectionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let keyword = Keyword::parse(&request.keyword);
        let list = ("connections", keyword.as_str());
        let query = Query::parse(caller.user_id, list, request.page_size, &request.page_token)?;
        let (paged, count) =
            self.conversations.connections_named(caller.user_id, &keyword, query.page).await?;
        Ok(Response::new(pb::ListConnectionsResponse {
            total_count: contacts::count(count),
            next_page_token: query.next_page_token(&paged),
            connections: paged.items.into_iter().map(contacts::connection).collect(),
        }))
    }

    async fn list_blocked_users(
        &self,
        request: Request<pb::ListBlockedUsersRequest>,
    ) -> Result<Response<pb::ListBlockedUsersResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let query = Query::parse(caller.user_id, ("blocks", ""), request.page_size, &request.page_token)?;
        let paged = self.conversations.blocks(caller.user_id, query.page).await?;
        Ok(Response::new(pb::ListBlockedUsersResponse {
            next_page_token: query.next_page_token(&paged),
            blocks: paged.items.into_iter().map(contacts::block).collect(),
        }))
    }

    async fn block_user(
        &self,
        request: Request<pb::BlockUserRequest>,
    ) -> Result<Response<pb::BlockUserResponse>, Status> {
        let caller = Caller::of(&request)?;
        let other = convert::user_id(&request.get_ref().user_id)?;
        let since = self.conversations.block(caller.user_id, other).await?;
        Ok(Response::new(pb::BlockUserResponse { block: Some(contacts::block((since, other))) }))
    }

    async fn check_contact(
        &self,
        request: Request<pb::CheckContactRequest>,
    ) -> Result<Response<pb::CheckContactResponse>, Status> {
        let caller = Caller::of(&request)?;
        let other = convert::user_id(&request.get_ref().user_id)?;
        let contact = self.conversations.contact(caller.user_id, other).await?;
        Ok(Response::new(pb::CheckContactResponse { contact: Some(contact.into()) }))
    }

    async fn get_privacy(
        &self,
        request: Request<pb::GetPrivacyRequest>,
    ) -> Result<Response<pb::GetPrivacyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let privacy = self.conversations.privacy(caller.user_id).await?;
        Ok(Response::new(pb::GetPrivacyResponse { privacy: Some(privacy.into()) }))
    }

    async fn update_privacy(
        &self,
        request: Request<pb::UpdatePrivacyRequest>,
    ) -> Result<Response<pb::UpdatePrivacyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let changes = PrivacyChanges::try_from(request.into_inner())?;
        let privacy = self.conversations.set_privacy(caller.user_id, changes).await?;
        Ok(Response::new(pb::UpdatePrivacyResponse { privacy: Some(privacy.into()) }))
    }
}
