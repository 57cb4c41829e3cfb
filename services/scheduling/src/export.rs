//! Everything that scheduling keeps about a person, page by page.

use chassis::caller::Caller;
use chassis::export::{self, Archive, Piece};
use futures_util::stream::BoxStream;
use proto::id::UserId;
use proto::scheduling::v1 as pb;
use proto::scheduling::v1::export_service_server::ExportService;
use tonic::{Request, Response, Status};

use crate::calendar::schedule::{Filter, Listing};
use crate::calendar::{Calendar, convert};
use crate::calls;
use crate::scheduled_message;
use crate::scheduling::Scheduling;

/// As many rows are read at once.
const PAGE: i64 = 100;

/// The service on the wire.
#[derive(Clone)]
pub struct Grpc {
    scheduling: Scheduling,
    calendar: Calendar,
}

impl Grpc {
    /// Exports what these keep.
    pub fn new(scheduling: Scheduling, calendar: Calendar) -> Self {
        Self { scheduling, calendar }
    }

    async fn write(self, user: UserId, mut archive: Archive) -> Result<(), Status> {
        self.write_messages(user, &mut archive).await?;
        self.write_availability(user, &mut archive).await?;
        self.write_schedules(user, &mut archive).await?;
        self.write_calls(user, &mut archive).await?;
        archive.finish().await
    }

    async fn write_messages(&self, author: UserId, archive: &mut Archive) -> Result<(), Status> {
        archive.lines("scheduling/scheduled_messages.ndjson").await?;
        let mut after = None;
        loop {
            let listing =
                scheduled_message::Listing { author, conversation: None, state: None, after, limit: PAGE };
            let page = self.scheduling.list(listing).await?;
            for message in page.messages {
                let message = pb::ScheduledMessage::try_from(message)?;
                archive.line("parlor.scheduling.v1.ScheduledMessage", &message).await?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn write_availability(&self, user: UserId, archive: &mut Archive) -> Result<(), Status> {
        let hours = self.calendar.hours(user).await?;
        let (path, name) = ("scheduling/availability.json", "parlor.scheduling.v1.WeeklyAvailability");
        archive.json(path, name, &convert::weekly(&hours)).await?;
        archive.lines("scheduling/custom_days.ndjson").await?;
        for day in convert::custom(&hours) {
            archive.line("parlor.scheduling.v1.CustomDay", &day).await?;
        }
        Ok(())
    }

    async fn write_schedules(&self, user: UserId, archive: &mut Archive) -> Result<(), Status> {
        archive.lines("scheduling/schedules.ndjson").await?;
        for filter in [Filter::All, Filter::Cancelled] {
            let mut after = None;
            loop {
                let now = self.calendar.store.now().await?;
                let listing = Listing { user, filter, keyword: String::new(), after, limit: PAGE, now };
                let page = self.calendar.schedules(listing).await?;
                for schedule in &page.schedules {
                    let schedule = convert::schedule(schedule, now);
                    archive.line("parlor.scheduling.v1.Schedule", &schedule).await?;
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn write_calls(&self, user: UserId, archive: &mut Archive) -> Result<(), Status> {
        archive.lines("scheduling/calls.ndjson").await?;
        let mut before = None;
        loop {
            let page = self.scheduling.calls.export(user, before, PAGE).await?;
            for call in &page.calls {
                archive.line("parlor.scheduling.v1.Call", &calls::render(call, user)).await?;
            }
            before = page.next;
            if before.is_none() {
                return Ok(());
            }
        }
    }
}

#[tonic::async_trait]
impl ExportService for Grpc {
    type ExportUserDataStream = BoxStream<'static, Result<pb::ExportUserDataResponse, Status>>;

    async fn export_user_data(
        &self,
        request: Request<pb::ExportUserDataRequest>,
    ) -> Result<Response<Self::ExportUserDataStream>, Status> {
        let caller = Caller::of(&request)?;
        let grpc = self.clone();
        let render = |Piece { path, data }| pb::ExportUserDataResponse { path, data };
        let pieces = export::stream(render, move |archive| grpc.write(caller.user_id, archive));
        Ok(Response::new(pieces))
    }
}
