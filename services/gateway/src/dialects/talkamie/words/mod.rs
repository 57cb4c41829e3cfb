//! Words of this API and their values: languages, countries, days of the week, time zones.

pub(super) mod place;
pub(super) mod profile;
pub(super) mod zone;

use proto::scheduling::v1::Weekday;

/// The days of the week as this API names them, the first day of a week first.
pub(super) const DAYS: [(&str, Weekday); 7] = [
    ("sun", Weekday::Sunday),
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thur", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
];
