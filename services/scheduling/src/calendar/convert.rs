//! Between the words of the contract and those of calendars. What the contract's rules check has been checked when a
//! message comes here; what they cannot say is checked here.

use std::collections::HashSet;
use std::time::Duration;

use chassis::clock::Timestamp;
use chassis::page::{self, Token};
use chassis::text::fold;
use prost::Message;
use proto::id::{ScheduleId, UserId};
use proto::scheduling::v1 as pb;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::calendar::Hours;
use crate::calendar::availability::{Availability, CustomChanges, Ranges, Terms, TimeRange, Weekly, clock};
use crate::calendar::recurrence::{Recurrence, Rule};
use crate::calendar::schedule::{
    Changes, Draft, Filter, Listed, Listing, Media, Place, Reminders, Schedule, Standing, State, Title,
};
use crate::calendar::slots::{Span, WIDEST};
use crate::calendar::zone::{Day, Zone};
use crate::error::Error;
use crate::scheduled_message::Retry;

/// The title of a new booking, as a path from the request.
pub const TITLE: &str = "title";

/// The last day of the year 9000, and then there is room: nothing that is counted from a time leaves the calendar.
const LAST: i64 = 221_845_392_000_000;

/// The id in the field `schedule_id`.
pub fn schedule_id(text: &str) -> Result<ScheduleId, Error> {
    ScheduleId::parse(text).map_err(|_| Error::Field { field: "schedule_id", rule: "must be a UUID" })
}

/// The id in the field `user_id`.
pub fn user_id(text: &str) -> Result<UserId, Error> {
    UserId::parse(text).map_err(|_| Error::Field { field: "user_id", rule: "must be a UUID" })
}

/// A time within the calendar, cut down to seconds.
fn time(field: &'static str, time: Option<&prost_types::Timestamp>) -> Result<Timestamp, Error> {
    let time = time.ok_or(Error::Field { field, rule: "must be set" })?;
    let time = Timestamp::from_proto(time).map(|time| time.as_millis().div_euclid(1000) * 1000);
    let within = time.filter(|time| (0..LAST).contains(time));
    let rule = "must be a time between the years 1970 and 9000";
    within.map(Timestamp::from_millis).ok_or(Error::Field { field, rule })
}

/// A span in whole minutes; its bounds are checked.
fn minutes(field: &'static str, span: Option<&prost_types::Duration>) -> Result<Option<Duration>, Error> {
    let Some(span) = span else { return Ok(None) };
    let seconds = u64::try_from(span.seconds).ok().filter(|seconds| seconds % 60 == 0 && span.nanos == 0);
    let seconds = seconds.ok_or(Error::Field { field, rule: "must be whole minutes" })?;
    Ok(Some(Duration::from_secs(seconds)))
}

fn span_to_proto(span: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX), nanos: 0 }
}

/// The zone with this name; `None` for no name.
fn zone(field: &'static str, name: &str) -> Result<Option<Zone>, Error> {
    if name.is_empty() {
        return Ok(None);
    }
    let rule = "must be the IANA name of a time zone, such as Europe/Lisbon";
    Zone::parse(name).map(Some).ok_or(Error::Field { field, rule })
}

/// The ranges of the day at this path.
fn ranges(day: &str, ranges: &[pb::TimeRange]) -> Result<Ranges, Error> {
    let ranges = ranges.iter().map(|range| (range.start.as_str(), range.end.as_str()));
    Ranges::parse(ranges)
        .map_err(|broken| Error::Item { field: format!("{day}.ranges{}", broken.path), rule: broken.rule })
}

/// The date at this path.
fn date(field: impl Fn() -> String, text: &str) -> Result<Day, Error> {
    let rule = "must be a date of the calendar as YYYY-MM-DD";
    Day::parse(text).ok_or_else(|| Error::Item { field: field(), rule })
}

/// That the date at this place of `days` breaks a rule.
pub fn date_broken(place: usize, rule: &'static str) -> Error {
    Error::Item { field: format!("days[{place}].date"), rule }
}

fn ranges_to_proto(ranges: &Ranges) -> Vec<pb::TimeRange> {
    let range = |range: &TimeRange| pb::TimeRange { start: clock(range.start()), end: clock(range.end()) };
    ranges.as_slice().iter().map(range).collect()
}

impl TryFrom<pb::SetWeeklyAvailabilityRequest> for Weekly {
    type Error = Error;

    fn try_from(request: pb::SetWeeklyAvailabilityRequest) -> Result<Self, Error> {
        let said = request.availability.unwrap_or_default();
        let mut days: [Option<Ranges>; 7] = Default::default();
        for (place, day) in said.days.iter().enumerate() {
            let path = format!("availability.days[{place}]");
            let broken = |rule| Error::Item { field: format!("{path}.weekday"), rule };
            let kept = usize::try_from(day.weekday - 1).ok().and_then(|weekday| days.get_mut(weekday));
            let kept = kept.ok_or_else(|| broken("must be a day of the week"))?;
            if kept.replace(ranges(&path, &day.ranges)?).is_some() {
                return Err(broken("must be each day at most once"));
            }
        }
        let unsaid = Terms::default();
        let terms = Terms {
            slot_length: minutes("availability.slot_length", said.slot_length.as_ref())?
                .unwrap_or(unsaid.slot_length),
            buffer_before: minutes("availability.buffer_before", said.buffer_before.as_ref())?
                .unwrap_or(unsaid.buffer_before),
            buffer_after: minutes("availability.buffer_after", said.buffer_after.as_ref())?
                .unwrap_or(unsaid.buffer_after),
            notice: minutes("availability.minimum_notice", said.minimum_notice.as_ref())?
                .unwrap_or(unsaid.notice),
        };
        let zone = zone("availability.time_zone", &said.time_zone)?;
        Ok(Self { days: days.map(Option::unwrap_or_default), zone, terms })
    }
}

impl TryFrom<pb::SetCustomAvailabilityRequest> for CustomChanges {
    type Error = Error;

    fn try_from(request: pb::SetCustomAvailabilityRequest) -> Result<Self, Error> {
        let mut dates = HashSet::new();
        let mut set = Vec::new();
        for (place, day) in request.days.iter().enumerate() {
            let path = format!("days[{place}]");
            let date = date(|| format!("{path}.date"), &day.date)?;
            if !dates.insert(date) {
                return Err(date_broken(place, "must be each date at most once"));
            }
            set.push((date, ranges(&path, &day.ranges)?));
        }
        let removed = request.remove_dates.iter().enumerate();
        let removed = removed.map(|(place, text)| date(|| format!("remove_dates[{place}]"), text));
        Ok(Self { set, removed: removed.collect::<Result<_, _>>()? })
    }
}

/// A week in the words of the contract.
pub fn weekly(hours: &Hours) -> pb::WeeklyAvailability {
    let Availability { weekly, update_time, .. } = &hours.availability;
    // Of somebody who has said nothing there is nothing to show.
    let said = if update_time.is_some() { weekly.days.as_slice() } else { &[] };
    let days = (1..).zip(said).filter(|(_, ranges)| !ranges.as_slice().is_empty());
    let days = days.map(|(weekday, ranges)| pb::WeekdayRanges { weekday, ranges: ranges_to_proto(ranges) });
    pb::WeeklyAvailability {
        days: days.collect(),
        time_zone: weekly.zone.as_ref().map(|zone| zone.name().to_owned()).unwrap_or_default(),
        slot_length: Some(span_to_proto(weekly.terms.slot_length)),
        buffer_before: Some(span_to_proto(weekly.terms.buffer_before)),
        buffer_after: Some(span_to_proto(weekly.terms.buffer_after)),
        minimum_notice: Some(span_to_proto(weekly.terms.notice)),
        effective_time_zone: hours.zone.name().to_owned(),
        update_time: update_time.map(Timestamp::to_proto),
    }
}

/// Single dates in the words of the contract.
pub fn custom(hours: &Hours) -> Vec<pb::CustomDay> {
    let day = |(day, ranges): (&Day, &Ranges)| pb::CustomDay {
        date: day.to_string(),
        ranges: ranges_to_proto(ranges),
    };
    hours.availability.custom.iter().map(day).collect()
}

/// Whose slots, when, and how long.
pub fn slots_wanted(request: &pb::ListFreeSlotsRequest) -> Result<(UserId, Span, Option<Duration>), Error> {
    let window = Span::new(
        time("start_time", request.start_time.as_ref())?,
        time("end_time", request.end_time.as_ref())?,
    );
    if window.end <= window.start {
        return Err(Error::Field { field: "end_time", rule: "must be after start_time" });
    }
    if window.length() > WIDEST {
        return Err(Error::Field { field: "end_time", rule: "must be at most 31 days after start_time" });
    }
    let length = minutes("duration", request.duration.as_ref())?;
    Ok((user_id(&request.user_id)?, window, length))
}

/// A slot in the words of the contract.
pub fn slot(slot: Span) -> pb::FreeSlot {
    pb::FreeSlot { start_time: Some(slot.start.to_proto()), end_time: Some(slot.end.to_proto()) }
}

fn media(field: &'static str, media: pb::ScheduleMedia) -> Result<Media, Error> {
    match media {
        pb::ScheduleMedia::Audio => Ok(Media::Audio),
        pb::ScheduleMedia::Video => Ok(Media::Video),
        pb::ScheduleMedia::Unspecified => Err(Error::Field { field, rule: "must be set" }),
    }
}

fn recurrence(field: &'static str, said: pb::Recurrence, rule: &str) -> Result<Recurrence, Error> {
    let known = match said {
        pb::Recurrence::Unspecified if rule.is_empty() => Recurrence::Once,
        pb::Recurrence::Unspecified | pb::Recurrence::Rule => {
            return Rule::parse(rule).map(Recurrence::Rule).map_err(|rule| Error::Field { field, rule });
        }
        pb::Recurrence::None => Recurrence::Once,
        pb::Recurrence::Daily => Recurrence::Rule(Rule::DAILY),
        pb::Recurrence::Weekly => Recurrence::Rule(Rule::WEEKLY),
    };
    if rule.is_empty() {
        Ok(known)
    } else {
        Err(Error::Field { field, rule: "must be empty unless recurrence is RECURRENCE_RULE" })
    }
}

fn reminders(field: &'static str, said: &[prost_types::Duration]) -> Result<Reminders, Error> {
    let seconds = said.iter().enumerate().map(|(place, span)| {
        let seconds = u64::try_from(span.seconds).ok().filter(|_| span.nanos == 0);
        let broken = || Error::Item { field: format!("{field}[{place}]"), rule: "must be whole seconds" };
        seconds.map(Duration::from_secs).ok_or_else(broken)
    });
    let spans = seconds.collect::<Result<_, _>>()?;
    Reminders::new(spans).map_err(|rule| Error::Field { field, rule })
}

impl TryFrom<pb::ScheduleCallRequest> for Draft {
    type Error = Error;

    fn try_from(request: pb::ScheduleCallRequest) -> Result<Self, Error> {
        let retry = match request.request_id.as_str() {
            "" => None,
            text => Some(Retry {
                request_id: Uuid::try_parse(text)
                    .map_err(|_| Error::Field { field: "request_id", rule: "must be a UUID" })?,
                fingerprint: Sha256::digest(request.encode_to_vec()).into(),
            }),
        };
        let when = match (request.no_reminders, request.reminders.as_slice()) {
            (false, []) => Reminders::default(),
            (false, said) => reminders("reminders", said)?,
            (true, []) => reminders("reminders", &[])?,
            (true, _) => {
                return Err(Error::Field { field: "reminders", rule: "must be empty with no_reminders" });
            }
        };
        Ok(Self {
            attendee: user_id(&request.user_id)?,
            title: Title::parse(&request.title).map_err(|rule| Error::Field { field: TITLE, rule })?,
            media: media("media", request.media())?,
            first: Span::new(
                time("start_time", request.start_time.as_ref())?,
                time("end_time", request.end_time.as_ref())?,
            ),
            zone: zone("time_zone", &request.time_zone)?,
            recurrence: recurrence("rrule", request.recurrence(), &request.rrule)?,
            reminders: when,
            retry,
        })
    }
}

impl TryFrom<pb::UpdateScheduleRequest> for Changes {
    type Error = Error;

    fn try_from(request: pb::UpdateScheduleRequest) -> Result<Self, Error> {
        const MASK: &str = "must name title, media, start_time, end_time, recurrence, time_zone or reminders, and nothing else";
        let said = request.schedule.unwrap_or_default();
        let paths = request.update_mask.unwrap_or_default().paths;
        let unknown = Error::Field { field: "update_mask", rule: MASK };
        if paths.is_empty() {
            return Err(unknown);
        }
        let mut changes = Self::default();
        for path in &paths {
            match path.as_str() {
                "title" => {
                    let field = "schedule.title";
                    let title = Title::parse(&said.title).map_err(|rule| Error::Field { field, rule })?;
                    changes.title = Some(title);
                }
                "media" => changes.media = Some(media("schedule.media", said.media())?),
                "start_time" => {
                    changes.start = Some(time("schedule.start_time", said.start_time.as_ref())?);
                }
                "end_time" => changes.end = Some(time("schedule.end_time", said.end_time.as_ref())?),
                "recurrence" | "rrule" => {
                    let recurrence = recurrence("schedule.rrule", said.recurrence(), &said.rrule)?;
                    changes.recurrence = Some(recurrence);
                }
                "time_zone" => changes.zone = Some(zone("schedule.time_zone", &said.time_zone)?),
                "reminders" => {
                    changes.reminders = Some(reminders("schedule.reminders", &said.reminders)?);
                }
                _ => return Err(unknown),
            }
        }
        Ok(changes)
    }
}

/// A booking in the words of the contract, as it stands at a moment.
pub fn schedule(schedule: &Schedule, now: Timestamp) -> pb::Schedule {
    let plan = &schedule.plan;
    let recurrence = match &plan.recurrence {
        Recurrence::Once => pb::Recurrence::None,
        Recurrence::Rule(rule) if *rule == Rule::DAILY => pb::Recurrence::Daily,
        Recurrence::Rule(rule) if *rule == Rule::WEEKLY => pb::Recurrence::Weekly,
        Recurrence::Rule(_) => pb::Recurrence::Rule,
    };
    let state = match schedule.state(now) {
        State::Upcoming => pb::ScheduleState::Upcoming,
        State::Ongoing => pb::ScheduleState::Ongoing,
        State::Past => pb::ScheduleState::Past,
        State::Cancelled => pb::ScheduleState::Cancelled,
    };
    let next = schedule.next.filter(|_| schedule.standing == Standing::Booked);
    let by = schedule.actor.filter(|_| schedule.standing != Standing::Booked);
    let failure_reason = match &schedule.standing {
        Standing::Refused(reason) => reason.clone(),
        Standing::Booked | Standing::Cancelled => String::new(),
    };
    pb::Schedule {
        schedule_id: schedule.id.to_string(),
        booker_user_id: schedule.booker.to_string(),
        attendee_user_id: schedule.attendee.to_string(),
        title: plan.title.as_str().to_owned(),
        media: match plan.media {
            Media::Audio => pb::ScheduleMedia::Audio,
            Media::Video => pb::ScheduleMedia::Video,
        }
        .into(),
        start_time: Some(plan.first.start.to_proto()),
        end_time: Some(plan.first.end.to_proto()),
        time_zone: plan.zone.name().to_owned(),
        recurrence: recurrence.into(),
        rrule: plan.recurrence.to_text(),
        occurrence_count: i32::try_from(schedule.count).unwrap_or(i32::MAX),
        reminders: plan.reminders.as_slice().iter().copied().map(span_to_proto).collect(),
        state: state.into(),
        next_start_time: next.map(|next| next.start.to_proto()),
        next_end_time: next.map(|next| next.end.to_proto()),
        version: schedule.version,
        conversation_id: schedule.message.map(|(id, _)| id.to_string()).unwrap_or_default(),
        message_id: schedule.message.map(|(_, id)| id.to_string()).unwrap_or_default(),
        cancelled_by_user_id: by.map(|user| user.to_string()).unwrap_or_default(),
        failure_reason,
        create_time: Some(schedule.create_time.to_proto()),
        update_time: Some(schedule.update_time.to_proto()),
    }
}

/// A list that was asked for, and what its tokens are bound to.
pub struct Query {
    /// What is asked for.
    pub listing: Listing,
    bound_to: [Vec<u8>; 3],
}

impl Query {
    /// Reads what is asked for.
    pub fn parse(user: UserId, request: &pb::ListSchedulesRequest, now: Timestamp) -> Result<Self, Error> {
        let filter = match request.filter() {
            pb::ScheduleFilter::Unspecified => Filter::All,
            pb::ScheduleFilter::Past => Filter::Past,
            pb::ScheduleFilter::Upcoming => Filter::Upcoming,
            pb::ScheduleFilter::Cancelled => Filter::Cancelled,
        };
        let keyword = fold(request.keyword.trim());
        let bound_to = [
            user.uuid().as_bytes().to_vec(),
            vec![u8::try_from(request.filter).unwrap_or(0)],
            keyword.clone().into_bytes(),
        ];
        let after: Option<(i64, Uuid)> =
            Token::after(&request.page_token, &bound_to.each_ref().map(Vec::as_slice))
                .map_err(Error::Page)?;
        let after: Option<Place> = after.map(|(time, id)| (Timestamp::from_millis(time), id.into()));
        let limit = page::size(request.page_size);
        Ok(Self { listing: Listing { user, filter, keyword, after, limit, now }, bound_to })
    }

    /// The answer.
    pub fn answer(&self, listed: &Listed) -> pb::ListSchedulesResponse {
        let parts = self.bound_to.each_ref().map(Vec::as_slice);
        let next = listed.next.map(|(time, id)| Token::at(&parts, &(time.as_millis(), id.uuid())));
        let now = self.listing.now;
        pb::ListSchedulesResponse {
            schedules: listed.schedules.iter().map(|one| schedule(one, now)).collect(),
            next_page_token: next.unwrap_or_default(),
        }
    }
}
