//! The handlers: identify, parse, call, render.

mod connections;
mod export;
mod presence;

use chassis::caller::{ActingService, Caller, Viewer};
use chassis::database::facts::History;
use chassis::facts::event_id;
use chassis::page;
use proto::conversation::v1 as pb;
use proto::conversation::v1::conversation_service_server::ConversationService;
use tonic::{Request, Response, Status};

use crate::change::Settings;
use crate::conversations::Conversations;
use crate::convert::{self, Query};
use crate::create::{Draft, Purpose};
use crate::publish;

/// How many facts are read when the asker does not say, and at most.
const FACTS: (i64, i64) = (100, 1000);

/// The services on the wire. Cloning gives the same.
#[derive(Clone)]
pub struct Grpc {
    conversations: Conversations,
}

impl Grpc {
    /// Serves these use cases.
    pub fn new(conversations: Conversations) -> Self {
        Self { conversations }
    }
}

/// What a conversation is made for. Messaging makes one only to write there, and asks first where that is needed.
fn purpose<T>(request: &Request<T>) -> Purpose {
    let for_message = ActingService::of(request).is_some_and(|service| service.name() == "messaging");
    if for_message { Purpose::Message } else { Purpose::Any }
}

#[tonic::async_trait]
impl ConversationService for Grpc {
    async fn create_conversation(
        &self,
        request: Request<pb::CreateConversationRequest>,
    ) -> Result<Response<pb::CreateConversationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let purpose = purpose(&request);
        let draft = Draft::try_from(request.into_inner())?;
        let created = self.conversations.create(&caller, draft, purpose).await?;
        Ok(Response::new(created.into()))
    }

    async fn get_conversation(
        &self,
        request: Request<pb::GetConversationRequest>,
    ) -> Result<Response<pb::GetConversationResponse>, Status> {
        let viewer = Viewer::of(&request)?.user_id();
        let id = convert::conversation_id(&request.get_ref().conversation_id)?;
        let view = self.conversations.get(viewer, id).await?;
        Ok(Response::new(pb::GetConversationResponse { conversation: Some(view.into()) }))
    }

    async fn list_conversations(
        &self,
        request: Request<pb::ListConversationsRequest>,
    ) -> Result<Response<pb::ListConversationsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let query =
            Query::parse(caller.user_id, ("conversations", ""), request.page_size, &request.page_token)?;
        let paged = self.conversations.list(caller.user_id, query.page).await?;
        Ok(Response::new(pb::ListConversationsResponse {
            next_page_token: query.next_page_token(&paged),
            conversations: paged.items.into_iter().map(pb::Conversation::from).collect(),
        }))
    }

    async fn update_conversation(
        &self,
        request: Request<pb::UpdateConversationRequest>,
    ) -> Result<Response<pb::UpdateConversationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = convert::conversation_id(&request.get_ref().conversation_id)?;
        let settings = Settings::try_from(request.into_inner())?;
        let view = self.conversations.update(caller.user_id, id, settings).await?;
        Ok(Response::new(pb::UpdateConversationResponse { conversation: Some(view.into()) }))
    }

    async fn delete_conversation(
        &self,
        request: Request<pb::DeleteConversationRequest>,
    ) -> Result<Response<pb::DeleteConversationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = convert::conversation_id(&request.get_ref().conversation_id)?;
        self.conversations.delete(caller.user_id, id).await?;
        Ok(Response::new(pb::DeleteConversationResponse {}))
    }

    async fn join_conversation(
        &self,
        request: Request<pb::JoinConversationRequest>,
    ) -> Result<Response<pb::JoinConversationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = convert::conversation_id(&request.get_ref().conversation_id)?;
        let view = self.conversations.join(&caller, id).await?;
        Ok(Response::new(pb::JoinConversationResponse { conversation: Some(view.into()) }))
    }

    async fn leave_conversation(
        &self,
        request: Request<pb::LeaveConversationRequest>,
    ) -> Result<Response<pb::LeaveConversationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = convert::conversation_id(&request.get_ref().conversation_id)?;
        self.conversations.leave(caller.user_id, id).await?;
        Ok(Response::new(pb::LeaveConversationResponse {}))
    }

    async fn add_members(
        &self,
        request: Request<pb::AddMembersRequest>,
    ) -> Result<Response<pb::AddMembersResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = convert::conversation_id(&request.get_ref().conversation_id)?;
        let user_ids = convert::user_ids(&request.get_ref().user_ids)?;
        let view = self.conversations.add(caller.user_id, id, user_ids).await?;
        Ok(Response::new(pb::AddMembersResponse { conversation: Some(view.into()) }))
    }

    async fn remove_member(
        &self,
        request: Request<pb::RemoveMemberRequest>,
    ) -> Result<Response<pb::RemoveMemberResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = convert::conversation_id(&request.get_ref().conversation_id)?;
        let user_id = convert::user_id(&request.get_ref().user_id)?;
        self.conversations.remove(caller.user_id, id, user_id).await?;
        Ok(Response::new(pb::RemoveMemberResponse {}))
    }

    async fn list_members(
        &self,
        request: Request<pb::ListMembersRequest>,
    ) -> Result<Response<pb::ListMembersResponse>, Status> {
        let viewer = Viewer::of(&request)?.user_id();
        let request = request.into_inner();
        let id = convert::conversation_id(&request.conversation_id)?;
        let at_least = convert::at_least(request.at_least());
        let list = (convert::list_of(at_least), request.conversation_id.as_str());
        let query = Query::parse(viewer, list, request.page_size, &request.page_token)?;
        let paged = self.conversations.members(viewer, id, at_least, query.page).await?;
        Ok(Response::new(pb::ListMembersResponse {
            next_page_token: query.next_page_token(&paged),
            members: paged.items.iter().map(pb::Member::from).collect(),
        }))
    }

    async fn set_member_role(
        &self,
        request: Request<pb::SetMemberRoleRequest>,
    ) -> Result<Response<pb::SetMemberRoleResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = convert::conversation_id(&request.get_ref().conversation_id)?;
        let user_id = convert::user_id(&request.get_ref().user_id)?;
        let role = convert::role(request.get_ref().role())?;
        let member = self.conversations.set_role(caller.user_id, id, user_id, role).await?;
        Ok(Response::new(pb::SetMemberRoleResponse { member: Some((&member).into()) }))
    }

    async fn transfer_ownership(
        &self,
        request: Request<pb::TransferOwnershipRequest>,
    ) -> Result<Response<pb::TransferOwnershipResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = convert::conversation_id(&request.get_ref().conversation_id)?;
        let user_id = convert::user_id(&request.get_ref().user_id)?;
        let view = self.conversations.transfer(caller.user_id, id, user_id).await?;
        Ok(Response::new(pb::TransferOwnershipResponse { conversation: Some(view.into()) }))
    }

    async fn ban_member(
        &self,
        request: Request<pb::BanMemberRequest>,
    ) -> Result<Response<pb::BanMemberResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = convert::conversation_id(&request.conversation_id)?;
        let user_id = convert::user_id(&request.user_id)?;
        let duration = convert::ban_duration(request.duration.as_ref());
        let ban = self.conversations.ban(caller.user_id, id, user_id, request.reason, duration).await?;
        Ok(Response::new(pb::BanMemberResponse { ban: Some((&ban).into()) }))
    }

    async fn unban_member(
        &self,
        request: Request<pb::UnbanMemberRequest>,
    ) -> Result<Response<pb::UnbanMemberResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = convert::conversation_id(&request.get_ref().conversation_id)?;
        let user_id = convert::user_id(&request.get_ref().user_id)?;
        self.conversations.unban(caller.user_id, id, user_id).await?;
        Ok(Response::new(pb::UnbanMemberResponse {}))
    }

    async fn list_bans(
        &self,
        request: Request<pb::ListBansRequest>,
    ) -> Result<Response<pb::ListBansResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = convert::conversation_id(&request.conversation_id)?;
        let list = ("bans", request.conversation_id.as_str());
        let query = Query::parse(caller.user_id, list, request.page_size, &request.page_token)?;
        let paged = self.conversations.bans(caller.user_id, id, query.page).await?;
        Ok(Response::new(pb::ListBansResponse {
            next_page_token: query.next_page_token(&paged),
            bans: paged.items.iter().map(pb::Ban::from).collect(),
        }))
    }

    async fn check_access(
        &self,
        request: Request<pb::CheckAccessRequest>,
    ) -> Result<Response<pb::CheckAccessResponse>, Status> {
        let questions = convert::questions(&request.get_ref().questions)?;
        let answers = self.conversations.check_access(&questions).await?;
        Ok(Response::new(pb::CheckAccessResponse {
            answers: answers.into_iter().map(convert::access).collect(),
        }))
    }

    async fn open_message_request(
        &self,
        request: Request<pb::OpenMessageRequestRequest>,
    ) -> Result<Response<pb::OpenMessageRequestResponse>, Status> {
        let id = convert::conversation_id(&request.get_ref().conversation_id)?;
        let user = convert::user_id(&request.get_ref().user_id)?;
        let access = self.conversations.open_message_request(user, id).await?;
        Ok(Response::new(pb::OpenMessageRequestResponse { access: Some(convert::access(Some(access))) }))
    }

    async fn list_memberships(
        &self,
        request: Request<pb::ListMembershipsRequest>,
    ) -> Result<Response<pb::ListMembershipsResponse>, Status> {
        let user = convert::user_id(&request.get_ref().user_id)?;
        let memberships = self.conversations.memberships(user, request.get_ref().known_version).await?;
        Ok(Response::new(memberships.into()))
    }

    async fn batch_get_conversations(
        &self,
        request: Request<pb::BatchGetConversationsRequest>,
    ) -> Result<Response<pb::BatchGetConversationsResponse>, Status> {
        let user = convert::user_id(&request.get_ref().user_id)?;
        let ids = convert::conversation_ids(&request.get_ref().conversation_ids)?;
        let views = self.conversations.batch(user, &ids).await?;
        let conversations = views.into_iter().map(pb::Conversation::from).collect();
        Ok(Response::new(pb::BatchGetConversationsResponse { conversations }))
    }

    async fn list_conversation_facts(
        &self,
        request: Request<pb::ListConversationFactsRequest>,
    ) -> Result<Response<pb::ListConversationFactsResponse>, Status> {
        let limit = page::limit(request.get_ref().limit, FACTS.0, FACTS.1);
        let after = request.get_ref().after_position;
        let facts = self.conversations.facts(after, limit).await?;
        let facts = facts.iter().map(|(position, payload)| publish::decode(*position, payload));
        let History { epoch, head, fact } = self.conversations.history(after).await?;
        Ok(Response::new(pb::ListConversationFactsResponse {
            facts: facts.collect::<Result<_, _>>()?,
            epoch,
            head_position: head,
            after_event_id: fact.map(|fact| event_id(&fact)).unwrap_or_default(),
        }))
    }
}
