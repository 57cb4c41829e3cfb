//! What a user says about itself beyond its name, and who may see it: values that cannot be wrong once built.

mod birth;
mod label;
mod language;
mod location;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::tz::TimeZoneDatabase;

pub use birth::{Ages, DateOfBirth, Day};
pub use label::{Category, InterestId};
pub use language::Language;
pub use location::{Location, LocationPart};

use crate::error::Error;
use crate::user::PictureUrl;

/// How many interests a user has at most, and how many categories it shows its profile to.
const MOST_LISTED: usize = 20;

/// What a user says about itself. By default nothing, to everyone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// What it says of its gender.
    pub gender: Option<Gender>,
    /// The day of birth.
    pub birth: Option<DateOfBirth>,
    /// The language it speaks best.
    pub language: Option<Language>,
    /// Where it lives.
    pub location: Location,
    /// What it is interested in.
    pub interests: BTreeSet<InterestId>,
    /// The address of a video.
    pub video: Option<VideoUrl>,
    /// What type of user it is.
    pub category: Option<Category>,
    /// Who sees all this.
    pub visibility: Visibility,
    /// The categories that see it when the visibility says so.
    pub visible_to: BTreeSet<Category>,
    /// How much it wants to be called.
    pub calls: CallPreferences,
    /// Its time zone.
    pub time_zone: Option<TimeZoneName>,
    /// True when others find it by its verified e-mail address.
    pub found_by_email: bool,
}

/// What a user says of its gender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gender {
    /// Female.
    Female,
    /// Male.
    Male,
    /// Neither, or both.
    NonBinary,
    /// Something else.
    Other,
}

/// Who sees a profile besides its owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// Everybody who is signed in.
    #[default]
    Everyone,
    /// The people whom the user is connected with.
    Connections,
    /// Users of the categories that the user has listed.
    Categories,
    /// Nobody.
    Nobody,
}

/// How much a user wants to be called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallPreferences {
    /// At most so many calls a day; `None` for any number.
    pub max_per_day: Option<u32>,
    /// At most so long, in whole seconds; `None` for any length.
    pub max_duration: Option<Duration>,
}

/// What a user changes of its profile. What is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileChanges {
    /// What it says of its gender, or nothing.
    pub gender: Option<Option<Gender>>,
    /// The day of birth, or none.
    pub birth: Option<Option<DateOfBirth>>,
    /// The language, or none.
    pub language: Option<Option<Language>>,
    /// Where it lives.
    pub location: Option<Location>,
    /// What it is interested in.
    pub interests: Option<BTreeSet<InterestId>>,
    /// The video, or none.
    pub video: Option<Option<VideoUrl>>,
    /// What type of user it is, or none.
    pub category: Option<Option<Category>>,
    /// Who sees the profile.
    pub visibility: Option<Visibility>,
    /// The categories that see it when the visibility says so.
    pub visible_to: Option<BTreeSet<Category>>,
    /// How much it wants to be called.
    pub calls: Option<CallPreferences>,
    /// Its time zone, or none.
    pub time_zone: Option<Option<TimeZoneName>>,
    /// True when others find it by its verified e-mail address.
    pub found_by_email: Option<bool>,
}

impl ProfileChanges {
    /// Makes them. Refuses what does not fit together; then nothing has changed that is kept.
    pub fn apply_to(&self, profile: &mut Profile) -> Result<(), Error> {
        let changes = self.clone();
        profile.gender = changes.gender.unwrap_or(profile.gender);
        profile.birth = changes.birth.unwrap_or(profile.birth);
        set(&mut profile.language, changes.language);
        set(&mut profile.location, changes.location);
        set(&mut profile.interests, changes.interests);
        set(&mut profile.video, changes.video);
        set(&mut profile.category, changes.category);
        set(&mut profile.visible_to, changes.visible_to);
        set(&mut profile.time_zone, changes.time_zone);
        profile.found_by_email = changes.found_by_email.unwrap_or(profile.found_by_email);
        profile.visibility = changes.visibility.unwrap_or(profile.visibility);
        profile.calls = changes.calls.unwrap_or(profile.calls);
        if profile.visibility == Visibility::Categories && profile.visible_to.is_empty() {
            let rule = "must name a category when visibility is VISIBILITY_CATEGORIES";
            return Err(Error::invalid("user.visible_to_categories", rule));
        }
        Ok(())
    }

    /// The categories that are named anew, with the field that names them.
    pub fn categories(&self) -> impl Iterator<Item = (&'static str, &Category)> {
        let own = self.category.iter().flatten().map(|category| ("user.category", category));
        let others = self.visible_to.iter().flatten();
        own.chain(others.map(|category| ("user.visible_to_categories", category)))
    }
}

fn set<T>(place: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *place = new;
    }
}

/// A list as a set, unless it is too long.
pub fn listed<T: Ord>(
    field: &'static str,
    items: impl ExactSizeIterator<Item = Result<T, Error>>,
) -> Result<BTreeSet<T>, Error> {
    if items.len() > MOST_LISTED {
        return Err(Error::invalid(field, format!("must have at most {MOST_LISTED} items")));
    }
    items.collect()
}

impl CallPreferences {
    /// Reads preferences: up to 100 calls a day, 0 for any number, and from 1 minute to 24 hours.
    pub fn parse(max_per_day: i32, max_duration: Option<Duration>) -> Result<Self, Error> {
        let calls = u32::try_from(max_per_day).ok().filter(|calls| *calls <= 100).ok_or_else(|| {
            Error::invalid("user.call_preferences.max_calls_per_day", "must be between 0 and 100")
        })?;
        let fits = |span: Duration| (60..=86_400).contains(&span.as_secs()) && span.subsec_nanos() == 0;
        if !max_duration.is_none_or(fits) {
            let rule = "must be whole seconds, from 60s to 86400s";
            return Err(Error::invalid("user.call_preferences.max_duration", rule));
        }
        Ok(Self { max_per_day: Some(calls).filter(|calls| *calls > 0), max_duration })
    }
}

/// The https address of a video. What holds for the address of a picture holds for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoUrl(PictureUrl);

impl VideoUrl {
    /// Reads an address that may be left out; `field` is named when it is none.
    pub fn parse_optional(field: &'static str, text: &str) -> Result<Option<Self>, Error> {
        Ok(PictureUrl::parse_optional(field, text)?.map(Self))
    }

    /// An address that is in the database because it was parsed before.
    pub(crate) fn stored(text: String) -> Self {
        Self(PictureUrl::stored(text))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// The name of a time zone in the IANA database that this program carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeZoneName(String);

impl TimeZoneName {
    /// Reads a name that may be left out, in whatever case; it is kept as the database spells it.
    pub fn parse_optional(field: &'static str, text: &str) -> Result<Option<Self>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let known = TimeZoneDatabase::bundled().get(text).ok();
        let name = known.as_ref().and_then(|zone| zone.iana_name());
        match name.filter(|name| chassis::time_zone::is_of_people(name)) {
            Some(name) => Ok(Some(Self(name.to_owned()))),
            None => Err(Error::invalid(field, "must be an IANA time zone such as Europe/Lisbon, or empty")),
        }
    }

    /// A name that is in the database because it was parsed before.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is asked of a profile. Only people whose profile the asking user sees are found by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileFilter {
    /// Exactly this category.
    pub category: Option<Category>,
    /// Of these ages.
    pub ages: Ages,
    /// Of this gender.
    pub gender: Option<Gender>,
    /// At a place that is called so.
    pub location: Option<LocationPart>,
    /// With this language, or one that it stands for.
    pub language: Option<Language>,
    /// With at least one of these interests; none means any.
    pub interests: BTreeSet<InterestId>,
}

impl ProfileFilter {
    /// Whether it asks for anything.
    pub fn asks(&self) -> bool {
        *self != Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn category(text: &str) -> Category {
        Category::parse("category", text).unwrap()
    }

    #[test]
    fn only_what_is_named_changes() {
        let before = Profile {
            gender: Some(Gender::Other),
            category: Some(category("senior")),
            visible_to: BTreeSet::from([category("volunteer")]),
            ..Profile::default()
        };
        let mut after = before.clone();
        let changes = ProfileChanges {
            gender: Some(None),
            visibility: Some(Visibility::Categories),
            ..ProfileChanges::default()
        };
        changes.apply_to(&mut after).unwrap();
        assert_eq!(after, Profile { gender: None, visibility: Visibility::Categories, ..before });
        ProfileChanges::default().apply_to(&mut after).unwrap();
        assert_eq!(after.category, Some(category("senior")));
    }

    #[test]
    fn whoever_shows_a_profile_to_categories_names_them() {
        let mut profile = Profile::default();
        let by_category =
            ProfileChanges { visibility: Some(Visibility::Categories), ..ProfileChanges::default() };
        let refused = by_category.apply_to(&mut profile.clone());
        assert!(matches!(refused, Err(Error::Invalid { field: "user.visible_to_categories", .. })));
        let named = BTreeSet::from([category("senior")]);
        let both = ProfileChanges { visible_to: Some(named), ..by_category };
        both.apply_to(&mut profile).unwrap();
        let none = ProfileChanges { visible_to: Some(BTreeSet::new()), ..ProfileChanges::default() };
        assert!(none.apply_to(&mut profile).is_err());
    }

    #[test]
    fn a_limit_on_calls_is_within_a_day() {
        let parse = |calls, seconds: Option<u64>| {
            CallPreferences::parse(calls, seconds.map(Duration::from_secs))
                .map(|calls| (calls.max_per_day, calls.max_duration.map(|span| span.as_secs())))
                .ok()
        };
        assert_eq!(parse(0, None), Some((None, None)));
        assert_eq!(parse(100, Some(86_400)), Some((Some(100), Some(86_400))));
        assert_eq!(parse(1, Some(60)), Some((Some(1), Some(60))));
        for wrong in [(-1, None), (101, None), (1, Some(59)), (1, Some(86_401))] {
            assert_eq!(parse(wrong.0, wrong.1), None, "{wrong:?}");
        }
        assert!(CallPreferences::parse(1, Some(Duration::from_millis(60_001))).is_err());
    }

    #[test]
    fn a_time_zone_is_one_that_there_is() {
        let parse =
            |text| TimeZoneName::parse_optional("time_zone", text).map(|zone| zone.map(|zone| zone.0));
        assert_eq!(parse("Europe/Lisbon").unwrap().as_deref(), Some("Europe/Lisbon"));
        assert_eq!(parse("america/NEW_york").unwrap().as_deref(), Some("America/New_York"));
        assert_eq!(parse("UTC").unwrap().as_deref(), Some("UTC"));
        assert_eq!(parse("").unwrap(), None);
        for wrong in [
            "Factory",
            "localtime",
            "posixrules",
            "Lisbon",
            "Europe/Atlantis",
            "+01:00",
            "CET-1CEST",
            " UTC",
            "../etc/passwd",
            "Europe/",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_list_is_a_set_of_bounded_size() {
        let ids = |count: usize| (0..count).map(|n| InterestId::parse("ids", &format!("i{}", n % 19)));
        assert_eq!(listed("ids", ids(20)).unwrap().len(), 19);
        assert!(matches!(listed("ids", ids(21)), Err(Error::Invalid { field: "ids", .. })));
        let wrong = ["ok", "not ok"].into_iter().map(|text| InterestId::parse("ids", text));
        assert!(listed("ids", wrong).is_err());
    }

    #[test]
    fn a_filter_asks_for_something_or_not() {
        assert!(!ProfileFilter::default().asks());
        assert!(ProfileFilter { gender: Some(Gender::Male), ..ProfileFilter::default() }.asks());
    }
}
