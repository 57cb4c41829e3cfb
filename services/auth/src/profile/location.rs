//! Where a user lives: city, region and country, as far as it says so.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::error::Error;
use crate::user::{Keyword, fold, line};

/// The codes of ISO 3166-1, each with the country's name in English.
static COUNTRIES: LazyLock<BTreeMap<&str, &str>> =
    LazyLock::new(|| include_str!("countries.txt").lines().filter_map(|line| line.split_once(' ')).collect());

/// Where somebody lives. What is not said is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    city: String,
    region: String,
    country: String,
}

impl Location {
    /// Reads a location.
    pub fn parse(city: &str, region: &str, country: &str) -> Result<Self, Error> {
        let country = country.to_ascii_uppercase();
        if !country.is_empty() && !COUNTRIES.contains_key(country.as_str()) {
            let rule = "must be the two letters of a country in ISO 3166-1, or empty";
            return Err(Error::invalid("user.location.country", rule));
        }
        Ok(Self {
            city: line("user.location.city", city, 100)?,
            region: line("user.location.region", region, 100)?,
            country,
        })
    }

    /// What is in the database because it was parsed before.
    pub(crate) fn stored(city: String, region: String, country: String) -> Self {
        Self { city, region, country }
    }

    /// The city.
    pub fn city(&self) -> &str {
        &self.city
    }

    /// The region.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The country's two letters.
    pub fn country(&self) -> &str {
        &self.country
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a search for a place looks at: city, region and the country's name, folded as what is looked for is.
    pub fn search_text(&self) -> String {
        let name = COUNTRIES.get(self.country.as_str()).copied().unwrap_or_default();
        // What is looked for has no line break, so it never matches across two of them.
        [self.city.as_str(), &self.region, name].map(fold).join("\n")
    }
}

/// Part of the name of a place, or the two letters of a country.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocationPart {
    text: Keyword,
    country: Option<String>,
}

impl LocationPart {
    /// Reads it; `None` when there is nothing in it to look for.
    pub fn parse(text: &str) -> Option<Self> {
        let code = text.trim().to_ascii_uppercase();
        let country = COUNTRIES.contains_key(code.as_str()).then_some(code);
        Keyword::parse(text).map(|text| Self { text, country })
    }

    /// The part, folded.
    pub fn as_str(&self) -> &str {
        self.text.as_str()
    }

    /// The country, when it is the two letters of one.
    pub fn country(&self) -> Option<&str> {
        self.country.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_countries_as_the_standard_has() {
        assert_eq!(COUNTRIES.len(), 249);
        assert_eq!(include_str!("countries.txt").lines().count(), 249);
        let is_code = |code: &&str| code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase());
        assert!(COUNTRIES.keys().all(is_code));
        assert!(COUNTRIES.values().all(|name| name.len() >= 4));
    }

    #[test]
    fn a_country_is_one_that_there_is() {
        let location = Location::parse(" Setúbal ", "", "pt").unwrap();
        assert_eq!((location.city(), location.country()), ("Setúbal", "PT"));
        for country in ["XX", "P", "PRT", "P1", "Portugal", "ＰＴ"] {
            let refused = Location::parse("", "", country);
            assert!(
                matches!(refused, Err(Error::Invalid { field: "user.location.country", .. })),
                "{country}"
            );
        }
        assert!(Location::parse("", "", "").unwrap().is_empty());
    }

    #[test]
    fn names_of_places_are_one_line() {
        assert!(matches!(
            Location::parse("a\nb", "", ""),
            Err(Error::Invalid { field: "user.location.city", .. })
        ));
        assert!(matches!(
            Location::parse("", &"ä".repeat(101), ""),
            Err(Error::Invalid { field: "user.location.region", .. })
        ));
        assert!(Location::parse(&"ä".repeat(100), "", "").is_ok());
    }

    #[test]
    fn a_place_is_looked_for_as_names_are() {
        let location = Location::parse("São Paulo", "SP", "BR").unwrap();
        assert_eq!(location.search_text(), "são paulo\nsp\nbrazil");
        let part = LocationPart::parse(" BR ").unwrap();
        assert_eq!((part.as_str(), part.country()), ("br", Some("BR")));
        assert_eq!(LocationPart::parse("SÃO").unwrap().country(), None);
        assert_eq!(LocationPart::parse(" "), None);
    }
}
