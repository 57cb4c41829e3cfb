//! `/availability/weekly` and `/availability/custom`: the availability of a user.

use chassis::fault::Fault;
use futures_util::try_join;
use proto::auth::v1::GetMeRequest;
use proto::scheduling::v1::{
    CustomDay, GetCustomAvailabilityRequest, GetWeeklyAvailabilityRequest, SetCustomAvailabilityRequest,
    SetWeeklyAvailabilityRequest, TimeRange, WeekdayRanges, WeeklyAvailability,
};
use serde_json::{Map, Value, json};

use crate::dialects::fields::Fields;
use crate::dialects::talkamie::envelope::Reply;
use crate::dialects::talkamie::session::Session;
use crate::dialects::talkamie::words::DAYS;
use crate::http::error::Problem;

/// The end of a day.
const MIDNIGHT: &str = "24:00";

/// Returns the week and the dates of the user, for the user's own object.
pub(in crate::dialects::talkamie) async fn both(session: &Session) -> Result<Value, Problem> {
    let (weekly, custom) = try_join!(
        session.call(GetWeeklyAvailabilityRequest {}),
        session.call(GetCustomAvailabilityRequest {})
    )?;
    Ok(json!({"weekly": show_week(weekly.availability.as_ref()), "custom": show_dates(&custom.days)}))
}

/// Returns the week of the user.
pub(in crate::dialects::talkamie) async fn weekly(session: &Session) -> Result<Reply, Problem> {
    let week = session.call(GetWeeklyAvailabilityRequest {}).await?.availability;
    Ok(Reply::new(show_week(week.as_ref())))
}

/// Sets the whole week. Slot lengths and buffers, which this API does not have, stay as they are.
pub(in crate::dialects::talkamie) async fn set_weekly(
    session: &Session,
    fields: &Fields,
) -> Result<Reply, Problem> {
    let days = read_week(fields)?;
    let before = session.call(GetWeeklyAvailabilityRequest {}).await?.availability.unwrap_or_default();
    let time_zone = match (&session.zone, before.time_zone.is_empty()) {
        (Some(zone), true) => {
            let me = session.call(GetMeRequest {}).await?.user.unwrap_or_default();
            if me.time_zone.is_empty() { zone.clone() } else { String::new() }
        }
        _ => before.time_zone.clone(),
    };
    let week = WeeklyAvailability {
        days,
        time_zone,
        effective_time_zone: String::new(),
        update_time: None,
        ..before
    };
    let set = SetWeeklyAvailabilityRequest { availability: Some(week) };
    let week = session.call(set).await?.availability;
    Ok(Reply::new(show_week(week.as_ref())))
}

/// Returns the dates of the user that differ from the week.
pub(in crate::dialects::talkamie) async fn custom(session: &Session) -> Result<Reply, Problem> {
    let days = session.call(GetCustomAvailabilityRequest {}).await?.days;
    Ok(Reply::new(show_dates(&days)))
}

/// Sets some dates; a date that is null follows the week again.
pub(in crate::dialects::talkamie) async fn set_custom(
    session: &Session,
    fields: &Fields,
) -> Result<Reply, Problem> {
    let set = read_dates(fields)?;
    let days = session.call(set).await?.days;
    Ok(Reply::new(show_dates(&days)))
}

fn show_week(week: Option<&WeeklyAvailability>) -> Value {
    let Some(week) = week.filter(|week| week.update_time.is_some()) else { return json!({}) };
    let ranges = |day| week.days.iter().find(|ranges| ranges.weekday() == day);
    let shown = DAYS.iter().map(|(name, day)| {
        let ranges = ranges(*day).map(|day| day.ranges.as_slice()).unwrap_or_default();
        ((*name).to_owned(), show_ranges(ranges))
    });
    Value::Object(shown.collect())
}

fn show_dates(days: &[CustomDay]) -> Value {
    let shown = days.iter().map(|day| (day.date.clone(), show_ranges(&day.ranges)));
    Value::Object(shown.collect())
}

fn show_ranges(ranges: &[TimeRange]) -> Value {
    let shown: Vec<_> = ranges.iter().map(|range| json!({"start": range.start, "end": range.end})).collect();
    json!(shown)
}

fn read_week(fields: &Fields) -> Result<Vec<WeekdayRanges>, Fault> {
    let mut days = Vec::new();
    for (name, value) in fields.iter() {
        let day = DAYS.iter().find(|(day, _)| *day == name);
        let (_, day) =
            day.ok_or_else(|| Fault::invalid(name, "must be one of sun, mon, tue, wed, thur, fri, sat"))?;
        days.push(WeekdayRanges { weekday: (*day).into(), ranges: read_ranges(name, value)? });
    }
    Ok(days)
}

fn read_dates(fields: &Fields) -> Result<SetCustomAvailabilityRequest, Fault> {
    let mut set = SetCustomAvailabilityRequest::default();
    for (date, value) in fields.iter() {
        if date.parse::<jiff::civil::Date>().is_err() {
            return Err(Fault::invalid(date, "must be a date such as 2026-05-01"));
        }
        match value {
            Value::Null => set.remove_dates.push(date.to_owned()),
            value => {
                set.days.push(CustomDay { date: date.to_owned(), ranges: read_ranges(date, value)? });
            }
        }
    }
    Ok(set)
}

/// Reads ranges in order of time.
fn read_ranges(name: &str, value: &Value) -> Result<Vec<TimeRange>, Fault> {
    let refuse = || Fault::invalid(name, "must be an array of objects with start and end");
    let values = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(values) => values,
        _ => return Err(refuse()),
    };
    let mut ranges = Vec::new();
    for value in values {
        let Value::Object(range) = value else { return Err(refuse()) };
        let (start, end) = (clock(name, range, "start")?, clock(name, range, "end")?);
        // A range until midnight ends at the beginning of the next day.
        let end = if end == "00:00" { MIDNIGHT.to_owned() } else { end };
        ranges.push(TimeRange { start, end });
    }
    ranges.sort_by(|one, other| one.start.cmp(&other.start));
    Ok(ranges)
}

/// Reads a time of day, `HH:MM` or `HH:MM:SS`. The last second of a day is its end.
fn clock(name: &str, range: &Map<String, Value>, part: &str) -> Result<String, Fault> {
    let refuse = || Fault::invalid(format!("{name}.{part}"), "must be a time such as 09:30, whole minutes");
    let text = range.get(part).and_then(Value::as_str).ok_or_else(refuse)?;
    if matches!(text, "23:59:59" | "24:00" | "24:00:00") {
        return Ok(MIDNIGHT.to_owned());
    }
    let time: jiff::civil::Time = text.parse().map_err(|_| refuse())?;
    let is_plain = matches!(text.len(), 5 | 8) && text.as_bytes()[2] == b':';
    match is_plain && time.second() == 0 {
        true => Ok(format!("{:02}:{:02}", time.hour(), time.minute())),
        false => Err(refuse()),
    }
}

#[cfg(test)]
mod tests {
    use proto::scheduling::v1::Weekday;

    use super::*;

    fn fields(body: &Value) -> Fields {
        Fields::from_json(body.to_string().as_bytes()).expect("fields")
    }

    #[test]
    fn a_week_comes_back_as_it_was_set() {
        let body = json!({
            "thur": [{"start": "13:00:00", "end": "00:00"}, {"start": "09:00", "end": "12:00"}], "sun": [],
        });
        let days = read_week(&fields(&body)).expect("days");
        assert!(days.iter().any(|day| day.weekday() == Weekday::Thursday));
        let week = WeeklyAvailability {
            days,
            update_time: Some(prost_types::Timestamp::default()),
            ..WeeklyAvailability::default()
        };
        let shown = show_week(Some(&week));
        assert_eq!(
            shown["thur"],
            json!([{"start": "09:00", "end": "12:00"}, {"start": "13:00", "end": "24:00"}])
        );
        assert_eq!(shown.as_object().map(Map::len), Some(7));
        assert_eq!(show_week(Some(&WeeklyAvailability::default())), json!({}));
    }

    #[test]
    fn dates_are_set_and_given_back_to_the_week() {
        let body = json!({"2026-05-01": [{"start": "10:00", "end": "23:59:59"}], "2026-05-02": []});
        let set = read_dates(&fields(&body)).expect("dates");
        assert_eq!(show_dates(&set.days)["2026-05-01"], json!([{"start": "10:00", "end": "24:00"}]));
        let set = read_dates(&fields(&json!({"2026-05-01": null}))).expect("dates");
        assert_eq!((set.days.len(), set.remove_dates), (0, vec!["2026-05-01".to_owned()]));
    }

    #[test]
    fn what_is_malformed_is_refused_by_name() {
        for (body, field) in [
            (json!({"monday": []}), "monday"),
            (json!({"mon": "09:00"}), "mon"),
            (json!({"mon": ["09:00"]}), "mon"),
            (json!({"mon": [{"start": "09:00"}]}), "mon.end"),
            (json!({"mon": [{"start": "9", "end": "10:00"}]}), "mon.start"),
            (json!({"mon": [{"start": "09:00:30", "end": "10:00"}]}), "mon.start"),
            (json!({"mon": [{"start": "25:00", "end": "26:00"}]}), "mon.start"),
        ] {
            assert_eq!(read_week(&fields(&body)).expect_err("refused").fields()[0].0, field, "{body}");
        }
        let refused = read_dates(&fields(&json!({"tomorrow": []}))).expect_err("refused");
        assert_eq!(refused.fields()[0].0, "tomorrow");
    }
}
