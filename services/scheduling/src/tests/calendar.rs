//! Calendars through their door, over neighbours that are made for the purpose.

mod bookings;
mod changes;
mod free_time;
mod limits;
mod neighbours;
mod reminders;

use std::time::Duration;

use chassis::clock::{Clock, Timestamp};
use chassis::database::Database;
use chassis::database::testing::{self, Scratch};
use chassis::events::Events;
use chassis::identity::AcceptedServices;
use chassis::middleware::LimitsConfig;
use chassis::rates::RatesConfig;
use chassis::transport::Transport;
use chassis::unit::Unit;
use proto::id::UserId;
use proto::scheduling::v1 as pb;
use proto::scheduling::v1::calendar_service_client::CalendarServiceClient;
use tonic::Status;

use super::others::Others;
use super::{Asks, PATIENCE, SECOND, config};
use crate::calendar::zone::Zone;
use crate::tests::calendar::neighbours::Neighbours;
use crate::{Config, Deps, MIGRATOR, NAME};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A Monday, at midnight in UTC.
const MONDAY: &str = "2027-02-01T00:00:00Z";

/// The service, started.
struct World {
    neighbours: Neighbours,
    clock: Clock,
    client: CalendarServiceClient<Transport>,
    transport: Transport,
    unit: Unit,
    events: Events,
    database: Database,
    _scratch: Scratch,
}

fn at(text: &str) -> Timestamp {
    Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

async fn start(
    config: Config,
    database: Database,
    neighbours: &Neighbours,
    clock: Clock,
    events: Events,
) -> Unit {
    let deps = Deps {
        database,
        events,
        clock,
        messaging: neighbours.messaging(),
        conversation: neighbours.conversation(),
        auth: neighbours.auth(),
        credential: Others::credential(),
        accepted: AcceptedServices::default(),
        limits: LimitsConfig { rates: RatesConfig::unlimited(), ..LimitsConfig::default() },
    };
    crate::start(config, deps).await.unwrap()
}

impl World {
    /// On SQLite, on a Monday at midnight, with a clock that stands still.
    async fn start() -> Self {
        Self::with(config()).await
    }

    async fn with(config: Config) -> Self {
        let (database, scratch) = testing::sqlite(&MIGRATOR, NAME).await;
        let clock = Clock::manual(at(MONDAY));
        let (neighbours, events) = (Neighbours::new(clock.clone()), Events::local());
        let mut unit = start(config, database.clone(), &neighbours, clock.clone(), events.clone()).await;
        let transport = Transport::local(unit.grpc.take().unwrap());
        let client = CalendarServiceClient::new(transport.clone());
        Self { neighbours, clock, client, transport, unit, events, database, _scratch: scratch }
    }

    /// Stops the service and starts it again on the same database, after so long.
    async fn restart_after(&mut self, pause: Duration) {
        self.unit.stop(PATIENCE).await;
        self.clock.advance(pause);
        let (database, events) = (self.database.clone(), self.events.clone());
        self.unit = start(config(), database, &self.neighbours, self.clock.clone(), events).await;
        self.transport = Transport::local(self.unit.grpc.take().unwrap());
        self.client = CalendarServiceClient::new(self.transport.clone());
    }

    fn client(&self) -> CalendarServiceClient<Transport> {
        self.client.clone()
    }

    /// Two people in UTC who have said nothing about when they are free.
    fn two(&self) -> [UserId; 2] {
        ["ann", "bob"].map(|name| self.neighbours.register(name, ""))
    }

    /// A call with somebody in so long, for half an hour.
    fn draft(&self, with: UserId, after: Duration) -> pb::ScheduleCallRequest {
        let start = self.clock.now().plus(after);
        pb::ScheduleCallRequest {
            user_id: with.to_string(),
            title: "Tea".to_owned(),
            media: pb::ScheduleMedia::Video.into(),
            start_time: Some(start.to_proto()),
            end_time: Some(start.plus(30 * MINUTE).to_proto()),
            ..Default::default()
        }
    }

    async fn ask(&self, by: UserId, request: pb::ScheduleCallRequest) -> Result<pb::Schedule, Status> {
        Ok(self.client().schedule_call(by.asks(request)).await?.into_inner().schedule.unwrap())
    }

    async fn book(&self, by: UserId, with: UserId, after: Duration) -> pb::Schedule {
        self.ask(by, self.draft(with, after)).await.unwrap()
    }

    async fn get(&self, by: UserId, id: &str) -> Result<pb::Schedule, Status> {
        let request = pb::GetScheduleRequest { schedule_id: id.to_owned() };
        Ok(self.client().get_schedule(by.asks(request)).await?.into_inner().schedule.unwrap())
    }

    async fn update(
        &self,
        by: UserId,
        id: &str,
        changes: pb::ScheduleChanges,
        paths: &[&str],
    ) -> Result<pb::Schedule, Status> {
        let request = pb::UpdateScheduleRequest {
            schedule_id: id.to_owned(),
            schedule: Some(changes),
            update_mask: Some(prost_types::FieldMask {
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            }),
        };
        Ok(self.client().update_schedule(by.asks(request)).await?.into_inner().schedule.unwrap())
    }

    async fn delete(&self, by: UserId, id: &str) -> Result<pb::Schedule, Status> {
        let request = pb::DeleteScheduleRequest { schedule_id: id.to_owned() };
        Ok(self.client().delete_schedule(by.asks(request)).await?.into_inner().schedule.unwrap())
    }

    async fn list(&self, by: UserId, request: pb::ListSchedulesRequest) -> pb::ListSchedulesResponse {
        self.client().list_schedules(by.asks(request)).await.unwrap().into_inner()
    }

    async fn titles(&self, by: UserId, filter: pb::ScheduleFilter) -> Vec<String> {
        let request = pb::ListSchedulesRequest { filter: filter.into(), ..Default::default() };
        self.list(by, request).await.schedules.into_iter().map(|schedule| schedule.title).collect()
    }

    async fn set_weekly(
        &self,
        by: UserId,
        availability: pb::WeeklyAvailability,
    ) -> Result<pb::WeeklyAvailability, Status> {
        let request = pb::SetWeeklyAvailabilityRequest { availability: Some(availability) };
        let answer = self.client().set_weekly_availability(by.asks(request)).await?;
        Ok(answer.into_inner().availability.unwrap())
    }

    async fn set_custom(
        &self,
        by: UserId,
        days: Vec<pb::CustomDay>,
        remove_dates: &[&str],
    ) -> Result<Vec<pb::CustomDay>, Status> {
        let remove_dates = remove_dates.iter().map(|date| (*date).to_owned()).collect();
        let request = pb::SetCustomAvailabilityRequest { days, remove_dates };
        Ok(self.client().set_custom_availability(by.asks(request)).await?.into_inner().days)
    }

    async fn slots(
        &self,
        by: UserId,
        request: pb::ListFreeSlotsRequest,
    ) -> Result<Vec<pb::FreeSlot>, Status> {
        Ok(self.client().list_free_slots(by.asks(request)).await?.into_inner().slots)
    }

    /// Waits until this is the message about a booking: it is written down after everybody was told.
    async fn knows_message(&self, by: UserId, id: &str, message: &str) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while self.get(by, id).await.unwrap().message_id != message {
            assert!(tokio::time::Instant::now() < end, "{message} is not the message about {id}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until an alert of a user about a booking says this.
    async fn hears(&self, user: UserId, id: &str, states: &[proto::messaging::v1::AlertState]) {
        super::eventually(|| self.neighbours.alerts(user, id) == states).await;
    }
}

/// Free every day of the week at these times, in UTC.
fn every_day(ranges: &[(&str, &str)]) -> pb::WeeklyAvailability {
    let ranges = ranges_of(ranges);
    let days = (1..=7).map(|weekday| pb::WeekdayRanges { weekday, ranges: ranges.clone() });
    pb::WeeklyAvailability { days: days.collect(), time_zone: "UTC".to_owned(), ..Default::default() }
}

fn ranges_of(ranges: &[(&str, &str)]) -> Vec<pb::TimeRange> {
    let range =
        |(start, end): &(&str, &str)| pb::TimeRange { start: (*start).to_owned(), end: (*end).to_owned() };
    ranges.iter().map(range).collect()
}

/// From one time to another, of somebody.
fn window(of: UserId, start: &str, end: &str) -> pb::ListFreeSlotsRequest {
    pb::ListFreeSlotsRequest {
        user_id: of.to_string(),
        start_time: Some(at(start).to_proto()),
        end_time: Some(at(end).to_proto()),
        duration: None,
    }
}

/// When slots begin, as the clock of a place shows it.
fn starts(slots: &[pb::FreeSlot], zone: &str) -> Vec<String> {
    let zone = Zone::parse(zone).unwrap();
    let start = |slot: &pb::FreeSlot| {
        let local = zone.local(Timestamp::from_proto(slot.start_time.as_ref().unwrap()).unwrap());
        let minutes = local.millis / 60_000;
        format!("{} {:02}:{:02}", local.day, minutes / 60, minutes % 60)
    };
    slots.iter().map(start).collect()
}

fn span(length: Duration) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: i64::try_from(length.as_secs()).unwrap(), nanos: 0 })
}
