//! The handlers: identify, parse, call, render.

use chassis::caller::Caller;
use proto::scheduling::v1 as pb;
use proto::scheduling::v1::calendar_service_server::CalendarService;
use tonic::{Request, Response, Status};

use crate::calendar::convert::{self, Query, schedule_id};
use crate::calendar::schedule::{Changes, Draft};
use crate::calendar::{Calendar, availability};

/// The service on the wire.
pub struct Grpc {
    calendar: Calendar,
}

impl Grpc {
    /// Serves these use cases.
    pub fn new(calendar: Calendar) -> Self {
        Self { calendar }
    }
}

#[tonic::async_trait]
impl CalendarService for Grpc {
    async fn get_weekly_availability(
        &self,
        request: Request<pb::GetWeeklyAvailabilityRequest>,
    ) -> Result<Response<pb::GetWeeklyAvailabilityResponse>, Status> {
        let caller = Caller::of(&request)?;
        let hours = self.calendar.hours(caller.user_id).await?;
        let availability = Some(convert::weekly(&hours));
        Ok(Response::new(pb::GetWeeklyAvailabilityResponse { availability }))
    }

    async fn set_weekly_availability(
        &self,
        request: Request<pb::SetWeeklyAvailabilityRequest>,
    ) -> Result<Response<pb::SetWeeklyAvailabilityResponse>, Status> {
        let caller = Caller::of(&request)?;
        let weekly = availability::Weekly::try_from(request.into_inner())?;
        let hours = self.calendar.set_weekly(caller.user_id, weekly).await?;
        let availability = Some(convert::weekly(&hours));
        Ok(Response::new(pb::SetWeeklyAvailabilityResponse { availability }))
    }

    async fn get_custom_availability(
        &self,
        request: Request<pb::GetCustomAvailabilityRequest>,
    ) -> Result<Response<pb::GetCustomAvailabilityResponse>, Status> {
        let caller = Caller::of(&request)?;
        let hours = self.calendar.hours(caller.user_id).await?;
        Ok(Response::new(pb::GetCustomAvailabilityResponse { days: convert::custom(&hours) }))
    }

    async fn set_custom_availability(
        &self,
        request: Request<pb::SetCustomAvailabilityRequest>,
    ) -> Result<Response<pb::SetCustomAvailabilityResponse>, Status> {
        let caller = Caller::of(&request)?;
        let changes = availability::CustomChanges::try_from(request.into_inner())?;
        let hours = self.calendar.set_custom(caller.user_id, changes).await?;
        Ok(Response::new(pb::SetCustomAvailabilityResponse { days: convert::custom(&hours) }))
    }

    async fn list_free_slots(
        &self,
        request: Request<pb::ListFreeSlotsRequest>,
    ) -> Result<Response<pb::ListFreeSlotsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (user, window, length) = convert::slots_wanted(request.get_ref())?;
        let slots = self.calendar.free_slots(caller.user_id, user, window, length).await?;
        let slots = slots.into_iter().map(convert::slot).collect();
        Ok(Response::new(pb::ListFreeSlotsResponse { slots }))
    }

    async fn schedule_call(
        &self,
        request: Request<pb::ScheduleCallRequest>,
    ) -> Result<Response<pb::ScheduleCallResponse>, Status> {
        let caller = Caller::of(&request)?;
        let draft = Draft::try_from(request.into_inner())?;
        let schedule = self.calendar.book(caller.user_id, draft).await?;
        let schedule = Some(self.shown(&schedule).await?);
        Ok(Response::new(pb::ScheduleCallResponse { schedule }))
    }

    async fn get_schedule(
        &self,
        request: Request<pb::GetScheduleRequest>,
    ) -> Result<Response<pb::GetScheduleResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = schedule_id(&request.get_ref().schedule_id)?;
        let (schedule, now) = self.calendar.schedule(caller.user_id, id).await?;
        let schedule = Some(convert::schedule(&schedule, now));
        Ok(Response::new(pb::GetScheduleResponse { schedule }))
    }

    async fn update_schedule(
        &self,
        request: Request<pb::UpdateScheduleRequest>,
    ) -> Result<Response<pb::UpdateScheduleResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = schedule_id(&request.get_ref().schedule_id)?;
        let changes = Changes::try_from(request.into_inner())?;
        let schedule = self.calendar.rebook(caller.user_id, id, changes).await?;
        let schedule = Some(self.shown(&schedule).await?);
        Ok(Response::new(pb::UpdateScheduleResponse { schedule }))
    }

    async fn delete_schedule(
        &self,
        request: Request<pb::DeleteScheduleRequest>,
    ) -> Result<Response<pb::DeleteScheduleResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = schedule_id(&request.get_ref().schedule_id)?;
        let schedule = self.calendar.cancel(caller.user_id, id).await?;
        let schedule = Some(self.shown(&schedule).await?);
        Ok(Response::new(pb::DeleteScheduleResponse { schedule }))
    }

    async fn clear_schedules(
        &self,
        request: Request<pb::ClearSchedulesRequest>,
    ) -> Result<Response<pb::ClearSchedulesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let cancelled = self.calendar.clear(caller.user_id).await?;
        let cancelled_count = i32::try_from(cancelled).unwrap_or(i32::MAX);
        Ok(Response::new(pb::ClearSchedulesResponse { cancelled_count }))
    }

    async fn list_schedules(
        &self,
        request: Request<pb::ListSchedulesRequest>,
    ) -> Result<Response<pb::ListSchedulesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let now = self.calendar.store.now().await?;
        let query = Query::parse(caller.user_id, request.get_ref(), now)?;
        let listed = self.calendar.schedules(query.listing.clone()).await?;
        Ok(Response::new(query.answer(&listed)))
    }

    async fn export_schedule(
        &self,
        request: Request<pb::ExportScheduleRequest>,
    ) -> Result<Response<pb::ExportScheduleResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = schedule_id(&request.get_ref().schedule_id)?;
        let (id, content) = self.calendar.calendar_file(caller.user_id, id).await?;
        let media_type = "text/calendar; charset=utf-8".to_owned();
        Ok(Response::new(pb::ExportScheduleResponse { file_name: format!("{id}.ics"), media_type, content }))
    }
}

impl Grpc {
    async fn shown(&self, schedule: &crate::calendar::schedule::Schedule) -> Result<pb::Schedule, Status> {
        Ok(convert::schedule(schedule, self.calendar.store.now().await?))
    }
}
