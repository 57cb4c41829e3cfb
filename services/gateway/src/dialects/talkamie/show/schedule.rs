//! The object `schedule`.

use jiff::Timestamp;
use proto::auth::v1::User;
use proto::messaging::v1::ScheduleContent;
use proto::scheduling::v1::{Recurrence, Schedule, ScheduleMedia, ScheduleState};
use serde_json::{Value, json};

use super::{compact, moment, user};
use crate::dialects::time;

/// Returns a booked call as one of the two users sees it; `other` is the other user.
pub(in crate::dialects::talkamie) fn show(schedule: &Schedule, viewer: &str, other: Option<&User>) -> Value {
    let (from, to) = match schedule.next_start_time {
        Some(next) => (Some(next), schedule.next_end_time),
        None => (schedule.start_time, schedule.end_time),
    };
    let status = match schedule.state() {
        ScheduleState::Ongoing => "on-going",
        ScheduleState::Upcoming => "upcoming",
        ScheduleState::Past | ScheduleState::Cancelled | ScheduleState::Unspecified => "past",
    };
    compact(json!({
        "id": schedule.schedule_id,
        "type": media(schedule.media() == ScheduleMedia::Video),
        "title": schedule.title,
        "attendee": user::brief(self::other(schedule, viewer), other),
        "timeslot": {"from": moment(from), "to": moment(to)},
        "status": status,
        "recurrence": recurrence(schedule),
    }))
}

/// Returns the booked call of a message. The attendees are in fields of the message.
pub(in crate::dialects::talkamie) fn of_message(content: &ScheduleContent, now: Timestamp) -> Value {
    let now = now.as_millisecond();
    let status = if time::millis(content.end_time) <= now {
        "past"
    } else if time::millis(content.start_time) <= now {
        "on-going"
    } else {
        "upcoming"
    };
    compact(json!({
        "id": content.schedule_id,
        "type": media(content.video),
        "title": content.title,
        "timeslot": {"from": moment(content.start_time), "to": moment(content.end_time)},
        "status": status,
    }))
}

/// Returns the other user of a booked call.
pub(in crate::dialects::talkamie) fn other<'a>(schedule: &'a Schedule, viewer: &str) -> &'a str {
    if schedule.booker_user_id == viewer { &schedule.attendee_user_id } else { &schedule.booker_user_id }
}

fn media(video: bool) -> &'static str {
    if video { "video" } else { "audio" }
}

/// Returns the recurrence of a call; rules of other clients map to the nearest word.
fn recurrence(schedule: &Schedule) -> Option<&'static str> {
    match schedule.recurrence() {
        Recurrence::Daily => Some("daily"),
        Recurrence::Weekly => Some("weekly"),
        Recurrence::Rule if schedule.rrule.contains("FREQ=DAILY") => Some("daily"),
        Recurrence::Rule => Some("weekly"),
        Recurrence::None | Recurrence::Unspecified => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_shown_and_the_other_attends() {
        let schedule = Schedule {
            schedule_id: "s".to_owned(),
            title: "Tea".to_owned(),
            booker_user_id: "a".to_owned(),
            attendee_user_id: "b".to_owned(),
            start_time: Some(time::proto(0)),
            end_time: Some(time::proto(1)),
            next_start_time: Some(time::proto(86_400_000)),
            next_end_time: Some(time::proto(90_000_000)),
            state: ScheduleState::Ongoing.into(),
            recurrence: Recurrence::Daily.into(),
            ..Schedule::default()
        };
        assert_eq!(
            show(&schedule, "b", None),
            json!({
                "id": "s", "type": "audio", "title": "Tea", "attendee": {"id": "a"},
                "timeslot": {"from": "1970-01-02T00:00:00.000Z", "to": "1970-01-02T01:00:00.000Z"},
                "status": "on-going", "recurrence": "daily",
            })
        );
    }

    #[test]
    fn the_status_in_a_message_follows_from_the_time() {
        let content = ScheduleContent {
            start_time: Some(time::proto(10)),
            end_time: Some(time::proto(20)),
            ..ScheduleContent::default()
        };
        for (now, status) in [(9, "upcoming"), (10, "on-going"), (20, "past")] {
            let now = Timestamp::from_millisecond(now).expect("a time");
            assert_eq!(of_message(&content, now)["status"], json!(status));
        }
    }
}
