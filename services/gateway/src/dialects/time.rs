//! Times in the form of dialects: milliseconds since 1970, or a text in the format of JavaScript.

use chassis::fault::Fault;
use jiff::civil::{Date, DateTime};
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde_json::Value;

use super::fields::Fields;

/// Returns the milliseconds since 1970 of a time in a message; 0 when it is missing.
pub(crate) fn millis(time: Option<prost_types::Timestamp>) -> i64 {
    let Some(time) = time else { return 0 };
    time.seconds.saturating_mul(1000).saturating_add(i64::from(time.nanos) / 1_000_000)
}

/// Returns the time in the format of `Date.prototype.toISOString`: UTC, with milliseconds.
pub(crate) fn iso(time: Option<prost_types::Timestamp>) -> String {
    Timestamp::from_millisecond(millis(time)).map(|time| format!("{time:.3}")).unwrap_or_default()
}

/// Returns a time in a message.
pub(crate) fn proto(millis: i64) -> prost_types::Timestamp {
    let nanos = millis.rem_euclid(1000) * 1_000_000;
    prost_types::Timestamp { seconds: millis.div_euclid(1000), nanos: i32::try_from(nanos).unwrap_or(0) }
}

/// Returns the time in a field, in milliseconds since 1970: a number, or a text that `new Date(text)` parses the same
/// everywhere.
pub(crate) fn field(fields: &Fields, name: &str) -> Result<Option<i64>, Fault> {
    let refuse = || Fault::invalid(name, "must be milliseconds since 1970 or an ISO 8601 time");
    let millis = match fields.get(name) {
        None => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => parse(text),
        Some(Value::Number(number)) => number
            .as_f64()
            .map(f64::trunc)
            .and_then(|number| (number.abs() <= 9_007_199_254_740_991.0).then_some(number as i64)),
        Some(_) => None,
    };
    let in_range = millis.filter(|millis| Timestamp::from_millisecond(*millis).is_ok());
    in_range.map(Some).ok_or_else(refuse)
}

/// Reads a time as a text: digits are milliseconds; a date alone is midnight UTC; a time without a zone is UTC; and the
/// formats of `Date.prototype.toString` and `toUTCString`.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(millis) = text.parse::<i64>() {
        return Some(millis);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_millisecond());
    }
    let civil = text.parse::<Date>().map(|date| date.to_datetime(jiff::civil::Time::midnight()));
    let civil = match civil {
        Ok(date) if text.len() == "2025-01-01".len() => Ok(date),
        _ => text.parse::<DateTime>(),
    };
    if let Ok(civil) = civil {
        return civil.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp().as_millisecond());
    }
    if let Ok(time) = rfc2822::parse(text) {
        return Some(time.timestamp().as_millisecond());
    }
    // `Wed Jan 01 2025 12:00:00 GMT+0100 (Central European Standard Time)`
    let without_name = text.split(" (").next().unwrap_or(text);
    let time = Zoned::strptime("%a %b %d %Y %H:%M:%S GMT%z", without_name).ok()?;
    Some(time.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_is_written_as_javascript_does() {
        assert_eq!(iso(Some(proto(1_612_312_312_007))), "2021-02-03T00:31:52.007Z");
        assert_eq!(iso(Some(proto(1_612_312_312_000))), "2021-02-03T00:31:52.000Z");
        assert_eq!(millis(Some(proto(-1))), -1);
    }

    #[test]
    fn every_form_of_a_javascript_date_is_read() {
        for text in [
            "1735732800000",
            "2025-01-01T12:00:00.000Z",
            "2025-01-01T12:00:00",
            "2025-01-01T13:00:00+01:00",
            "Wed, 01 Jan 2025 12:00:00 GMT",
            "Wed Jan 01 2025 13:00:00 GMT+0100 (Central European Standard Time)",
        ] {
            assert_eq!(parse(text), Some(1_735_732_800_000), "{text}");
        }
        assert_eq!(parse("2025-01-01"), Some(1_735_689_600_000));
        for text in ["", "soon", "2025-13-01", "12:00"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_field_is_a_number_or_a_text() {
        let fields = json!({"a": 5, "b": "2025-01-01T12:00:00Z", "c": {}, "d": 1e300, "e": ""});
        let fields = Fields::from_json(fields.to_string().as_bytes()).expect("fields");
        assert_eq!(field(&fields, "a"), Ok(Some(5)));
        assert_eq!(field(&fields, "b"), Ok(Some(1_735_732_800_000)));
        assert_eq!((field(&fields, "e"), field(&fields, "f")), (Ok(None), Ok(None)));
        assert!(field(&fields, "c").is_err() && field(&fields, "d").is_err());
    }
}
