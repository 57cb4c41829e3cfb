//! A background check: how far it is, and what the provider is told.

use std::time::Duration;

use chassis::clock::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use proto::id::{BackgroundCheckId, UserId};
use serde::Serialize;
use uuid::Uuid;

use crate::error::Error;
use crate::user::line;
use crate::vault::{Sum, Use, Vault};

/// When a check of which nothing came expires.
pub const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How many checks a user may ask for within [`LIFETIME`].
pub const MOST: i64 = 3;

/// A check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackgroundCheck {
    /// Its id.
    pub id: BackgroundCheckId,
    /// Who is checked, by the own wish.
    pub user_id: UserId,
    /// How far it is.
    pub state: State,
    /// What the provider calls it; empty until it has reported.
    pub reference: String,
    /// When it was asked for.
    pub create_time: Timestamp,
    /// When its state last changed.
    pub update_time: Timestamp,
}

/// How far a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The provider does not have it yet.
    Pending,
    /// The provider has it.
    Submitted,
    /// Nothing was found.
    Clear,
    /// Something was found that a person should look at.
    Consider,
    /// It could not be done.
    Failed,
    /// Nothing came of it.
    Expired,
}

impl State {
    /// Its number in the database.
    pub const fn number(self) -> i64 {
        match self {
            Self::Pending => 1,
            Self::Submitted => 2,
            Self::Clear => 3,
            Self::Consider => 4,
            Self::Failed => 5,
            Self::Expired => 6,
        }
    }

    /// The state with this number.
    pub fn of(number: i64) -> Option<Self> {
        [Self::Pending, Self::Submitted, Self::Clear, Self::Consider, Self::Failed, Self::Expired]
            .into_iter()
            .find(|state| state.number() == number)
    }

    /// Whether something may still come of it.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Submitted)
    }
}

/// What came of handing a check in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The provider has it.
    Accepted,
    /// The provider cannot do it.
    Failed,
    /// It was too late.
    Expired,
}

/// What a provider reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing was found.
    Clear,
    /// Something was found that a person should look at.
    Consider,
    /// It could not be done.
    Failed,
}

impl Finding {
    /// The state that it leads to.
    pub const fn state(self) -> State {
        match self {
            Self::Clear => State::Clear,
            Self::Consider => State::Consider,
            Self::Failed => State::Failed,
        }
    }

    /// Its name on the wire, as it is signed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clear => "BACKGROUND_CHECK_OUTCOME_CLEAR",
            Self::Consider => "BACKGROUND_CHECK_OUTCOME_CONSIDER",
            Self::Failed => "BACKGROUND_CHECK_OUTCOME_FAILED",
        }
    }
}

/// A report of the provider, whose signature nobody has looked at yet.
#[derive(Clone, Debug)]
pub struct Report {
    /// The check.
    pub id: BackgroundCheckId,
    /// What came of it.
    pub finding: Finding,
    /// What the provider calls it.
    pub reference: Reference,
    /// When it was sent, in seconds since 1970.
    pub timestamp: i64,
    /// The signature, in hexadecimal.
    pub signature: String,
}

/// What a provider calls a check: at most 128 characters of printable ASCII, so that lines stay lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(String);

impl Reference {
    /// Reads it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() <= 128 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid("reference", "must have at most 128 characters of printable ASCII"))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the user says about itself for a check.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Particulars {
    first_name: String,
    last_name: String,
    date_of_birth: String,
    region: String,
    links: Vec<String>,
}

impl std::fmt::Debug for Particulars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Particulars(***)")
    }
}

impl Particulars {
    /// Reads what was said. `today` is the latest day on which one can be born.
    pub fn parse(
        [first_name, last_name, region]: [&str; 3],
        date_of_birth: &str,
        links: &[String],
        now: Timestamp,
    ) -> Result<Self, Error> {
        let links = links.iter().map(|link| page(link)).collect::<Result<_, _>>()?;
        Ok(Self {
            first_name: filled("first_name", first_name)?,
            last_name: filled("last_name", last_name)?,
            date_of_birth: birth(date_of_birth, now)?.to_string(),
            region: filled("region", region)?,
            links,
        })
    }

    /// What the provider is told about the check with this id, in JSON.
    pub fn body(&self, id: BackgroundCheckId) -> Result<String, Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            check_id: String,
            #[serde(flatten)]
            particulars: &'a Particulars,
        }
        let body = Body { check_id: id.to_string(), particulars: self };
        serde_json::to_string(&body).map_err(|error| Error::Internal(error.into()))
    }

    /// A keyed sum of it, to know it again when nothing of it is left.
    pub fn sum(&self, vault: &Vault) -> Result<Sum, Error> {
        let text = serde_json::to_vec(self).map_err(|error| Error::Internal(error.into()))?;
        Ok(vault.sum(Use::Request, &[b"background check", &text]))
    }
}

/// A check to make.
#[derive(Clone, Debug)]
pub struct NewCheck {
    /// The check.
    pub check: BackgroundCheck,
    /// The request that wants it.
    pub request_id: Uuid,
    /// The keyed sum of what that said.
    pub request_sum: Sum,
}

fn filled(field: &'static str, text: &str) -> Result<String, Error> {
    match line(field, text, 64)? {
        text if text.is_empty() => Err(Error::invalid(field, "must have 1 to 64 characters")),
        text => Ok(text),
    }
}

fn page(link: &str) -> Result<String, Error> {
    let wrong = || Error::invalid("links", "must be https addresses of at most 2048 characters each");
    let url = url::Url::parse(link).map_err(|_| wrong())?;
    let fits = url.scheme() == "https" && url.has_host() && link.chars().count() <= 2048;
    let is_bare = url.username().is_empty() && url.password().is_none();
    if fits && is_bare { Ok(url.into()) } else { Err(wrong()) }
}

fn birth(text: &str, now: Timestamp) -> Result<Date, Error> {
    let wrong = || Error::invalid("date_of_birth", "must be a day in the past and after 1900, as YYYY-MM-DD");
    let has_form = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let date: Date = text.parse().map_err(|_| wrong())?;
    let today = jiff::Timestamp::from_millisecond(now.as_millis()).map_err(|_| wrong())?;
    let today = today.to_zoned(TimeZone::UTC).date();
    if has_form && date < today && date.year() >= 1900 { Ok(date) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2026-11-18 in UTC.
    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);

    fn with(birth: &str, links: &[&str]) -> Result<Particulars, Error> {
        let links: Vec<String> = links.iter().map(|link| (*link).to_owned()).collect();
        Particulars::parse([" Ann ", "Archer", "California"], birth, &links, NOW)
    }

    #[test]
    fn the_provider_is_told_what_was_said_and_nothing_else() {
        let id = BackgroundCheckId::generate();
        let body = with("1990-05-17", &["https://example.org/ann"]).unwrap().body(id).unwrap();
        let expected = serde_json::json!({
            "checkId": id.to_string(), "firstName": "Ann", "lastName": "Archer", "dateOfBirth": "1990-05-17",
            "region": "California", "links": ["https://example.org/ann"],
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap(), expected);
    }

    #[test]
    fn one_was_born_on_a_day_that_there_was() {
        for text in ["1900-01-01", "2024-02-29", "2026-11-17"] {
            assert!(with(text, &[]).is_ok(), "{text}");
        }
        for text in [
            "",
            "1899-12-31",
            "2023-02-29",
            "2026-13-01",
            "2026-11-19",
            "2300-01-01",
            "17.05.1990",
            "1990-5-17",
            "19900517",
            "1990-05-17T00:00",
            "+001990-05",
            "1990-05-1x",
        ] {
            let refused = with(text, &[]);
            assert!(matches!(refused, Err(Error::Invalid { field: "date_of_birth", .. })), "{text:?}");
        }
    }

    #[test]
    fn links_are_pages_and_names_are_names() {
        for link in ["http://example.org", "https://", "https://a:b@example.org", "javascript:x", "x"] {
            assert!(
                matches!(with("1990-05-17", &[link]), Err(Error::Invalid { field: "links", .. })),
                "{link}"
            );
        }
        for [first, last, region] in
            [["", "b", "c"], ["a", " ", "c"], ["a", "b", "c\nd"], ["a\u{202E}", "b", "c"]]
        {
            assert!(Particulars::parse([first, last, region], "1990-05-17", &[], NOW).is_err());
        }
        assert!(Particulars::parse([&"ä".repeat(65), "b", "c"], "1990-05-17", &[], NOW).is_err());
    }

    #[test]
    fn a_reference_is_one_line() {
        assert!(Reference::parse("").is_ok() && Reference::parse(&"~".repeat(128)).is_ok());
        for text in ["a\nb", "ä", &"x".repeat(129)] {
            assert!(Reference::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_state_is_read_as_it_was_written() {
        for number in 1..=6 {
            assert_eq!(State::of(number).unwrap().number(), number);
        }
        assert_eq!((State::of(0), State::of(7)), (None, None));
    }
}
