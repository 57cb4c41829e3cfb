//! The handlers: identify, parse, call, render.

use chassis::caller::Caller;
use proto::scheduling::v1 as pb;
use proto::scheduling::v1::scheduled_message_service_server::ScheduledMessageService;
use tonic::{Request, Response, Status};

use crate::convert::{Query, scheduled_message_id};
use crate::scheduled_message::{Changes, Draft};
use crate::scheduling::Scheduling;

/// The service on the wire.
pub struct Grpc {
    scheduling: Scheduling,
}

impl Grpc {
    /// Serves these use cases.
    pub fn new(scheduling: Scheduling) -> Self {
        Self { scheduling }
    }
}

#[tonic::async_trait]
impl ScheduledMessageService for Grpc {
    async fn schedule_message(
        &self,
        request: Request<pb::ScheduleMessageRequest>,
    ) -> Result<Response<pb::ScheduleMessageResponse>, Status> {
        let caller = Caller::of(&request)?;
        let draft = Draft::try_from(request.into_inner())?;
        let message = self.scheduling.schedule(caller.user_id, draft).await?;
        Ok(Response::new(pb::ScheduleMessageResponse { scheduled_message: Some(message.try_into()?) }))
    }

    async fn get_scheduled_message(
        &self,
        request: Request<pb::GetScheduledMessageRequest>,
    ) -> Result<Response<pb::GetScheduledMessageResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = scheduled_message_id(&request.get_ref().scheduled_message_id)?;
        let message = self.scheduling.get(caller.user_id, id).await?;
        Ok(Response::new(pb::GetScheduledMessageResponse { scheduled_message: Some(message.try_into()?) }))
    }

    async fn list_scheduled_messages(
        &self,
        request: Request<pb::ListScheduledMessagesRequest>,
    ) -> Result<Response<pb::ListScheduledMessagesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let query = Query::parse(caller.user_id, request.get_ref())?;
        let listed = self.scheduling.list(query.listing).await?;
        Ok(Response::new(query.answer(listed)?))
    }

    async fn update_scheduled_message(
        &self,
        request: Request<pb::UpdateScheduledMessageRequest>,
    ) -> Result<Response<pb::UpdateScheduledMessageResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = scheduled_message_id(&request.get_ref().scheduled_message_id)?;
        let changes = Changes::try_from(request.into_inner())?;
        let message = self.scheduling.update(caller.user_id, id, changes).await?;
        Ok(Response::new(pb::UpdateScheduledMessageResponse { scheduled_message: Some(message.try_into()?) }))
    }

    async fn cancel_scheduled_message(
        &self,
        request: Request<pb::CancelScheduledMessageRequest>,
    ) -> Result<Response<pb::CancelScheduledMessageResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = scheduled_message_id(&request.get_ref().scheduled_message_id)?;
        let message = self.scheduling.cancel(caller.user_id, id).await?;
        Ok(Response::new(pb::CancelScheduledMessageResponse { scheduled_message: Some(message.try_into()?) }))
    }

    async fn send_scheduled_message_now(
        &self,
        request: Request<pb::SendScheduledMessageNowRequest>,
    ) -> Result<Response<pb::SendScheduledMessageNowResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = scheduled_message_id(&request.get_ref().scheduled_message_id)?;
        let message = self.scheduling.send_now(caller.user_id, id).await?;
        Ok(Response::new(pb::SendScheduledMessageNowResponse {
            scheduled_message: Some(message.try_into()?),
        }))
    }
}
