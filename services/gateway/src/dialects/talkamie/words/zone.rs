//! Time zones: clients send their offset in minutes, with the sign of JavaScript's `getTimezoneOffset`.

use chassis::fault::Fault;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The header with the offset of a client.
pub(in crate::dialects::talkamie) const HEADER: &str = "x-user-timezone-offset";

/// Returns the time zone of an offset, an IANA name; `None` when it is not a whole number of hours.
pub(in crate::dialects::talkamie) fn of_offset(header: Option<&str>) -> Result<Option<String>, Fault> {
    let Some(text) = header.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    let minutes = text.parse::<i32>().ok().filter(|minutes| minutes.abs() <= 18 * 60);
    let minutes = minutes.ok_or_else(|| Fault::invalid(HEADER, "must be a number of minutes"))?;
    Ok(match (minutes % 60, minutes / 60) {
        (0, 0) => Some("Etc/GMT".to_owned()),
        (0, hours @ -14..=12) => Some(format!("Etc/GMT{hours:+}")),
        _ => None,
    })
}

/// Returns the offset of a time zone at a time, in minutes with the sign of JavaScript; `None` for an unknown one.
pub(in crate::dialects::talkamie) fn offset(time_zone: &str, now_millis: i64) -> Option<i32> {
    let zone = TimeZone::get(time_zone).ok()?;
    let now = Timestamp::from_millisecond(now_millis).ok()?;
    Some(-zone.to_offset(now).seconds() / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_hours_are_a_zone_and_come_back() {
        for (text, zone, minutes) in [
            ("-180", "Etc/GMT-3", -180),
            ("60", "Etc/GMT+1", 60),
            ("0", "Etc/GMT", 0),
            ("-840", "Etc/GMT-14", -840),
        ] {
            assert_eq!(of_offset(Some(text)), Ok(Some(zone.to_owned())), "{text}");
            assert_eq!(offset(zone, 0), Some(minutes), "{zone}");
        }
    }

    #[test]
    fn other_offsets_are_none_and_other_texts_refused() {
        for text in [None, Some(""), Some("-330"), Some("900")] {
            assert_eq!(of_offset(text), Ok(None), "{text:?}");
        }
        for text in ["soon", "1e9", "99999999999"] {
            assert_eq!(of_offset(Some(text)).expect_err("refused").fields()[0].0, HEADER);
        }
        assert_eq!(offset("Nowhere/Else", 0), None);
    }
}
