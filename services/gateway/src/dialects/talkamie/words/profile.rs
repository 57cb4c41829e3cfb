//! The profile of a user in the form of this API: the changes of a `PUT`, and the words for gender and visibility.

use chassis::fault::Fault;
use proto::auth::v1::{CallPreferences, Gender, Location, User, UserChanges, Visibility};
use serde_json::Value;

use super::place;
use crate::dialects::fields::Fields;
use crate::dialects::talkamie::operations::interests::Catalog;

/// Returns the changes in a request, and the names of the fields that they set.
pub(in crate::dialects::talkamie) fn changes(
    fields: &Fields,
    before: &User,
    catalog: &Catalog,
) -> Result<(UserChanges, Vec<String>), Fault> {
    let (mut changes, mut mask) = (UserChanges::default(), Vec::new());
    let mut set = |name: &str| mask.push(name.to_owned());
    if let Some(name) = fields.filled("name")? {
        changes.display_name = name;
        set("display_name");
    }
    if let Some(bio) = fields.text("bio")? {
        changes.bio = bio;
        set("bio");
    }
    if let Some(kind) = fields.filled("type")? {
        changes.category = kind;
        set("category");
    }
    if let Some(word) = fields.filled("gender")? {
        changes.gender = gender("gender", &word)?.into();
        set("gender");
    }
    if let Some(dob) = fields.text("dob")? {
        // Clients send a date, or the time at which it begins.
        changes.date_of_birth = dob.split('T').next().unwrap_or_default().to_owned();
        set("date_of_birth");
    }
    if let Some(name) = fields.text("language")? {
        changes.language =
            if name.is_empty() { String::new() } else { place::language_tag("language", &name)? };
        set("language");
    }
    if let Some(location) = location(fields, before)? {
        changes.location = Some(location);
        set("location");
    }
    if let Some(url) = file(fields, "picture")? {
        changes.picture_url = url;
        set("picture_url");
    }
    if let Some(url) = file(fields, "video")? {
        changes.video_url = url;
        set("video_url");
    }
    if let Some(ids) = interests(fields, catalog)? {
        changes.interest_ids = ids;
        set("interest_ids");
    }
    if let Some(word) = fields.filled("visibility")? {
        let (visibility, categories) = visibility(&word)?;
        changes.visibility = visibility.into();
        set("visibility");
        if let Some(category) = categories {
            changes.visible_to_categories = vec![category.to_owned()];
            set("visible_to_categories");
        }
    }
    if let Some(preferences) = call_preferences(fields, before)? {
        changes.call_preferences = Some(preferences);
        set("call_preferences");
    }
    Ok((changes, mask))
}

/// Returns the word for a gender.
pub(in crate::dialects::talkamie) fn gender_word(gender: Gender) -> &'static str {
    match gender {
        Gender::Female => "female",
        Gender::Male => "male",
        Gender::NonBinary => "non-binary",
        Gender::Other => "other",
        Gender::Unspecified => "unspecified",
    }
}

/// Returns the gender of a word.
pub(in crate::dialects::talkamie) fn gender(field: &str, word: &str) -> Result<Gender, Fault> {
    let all = [Gender::Female, Gender::Male, Gender::NonBinary, Gender::Other, Gender::Unspecified];
    let found = all.into_iter().find(|gender| gender_word(*gender).eq_ignore_ascii_case(word));
    found.ok_or_else(|| Fault::invalid(field, "must be one of male, female, non-binary, other, unspecified"))
}

/// Returns the word for the visibility of a profile; `None` if this API has no word.
pub(in crate::dialects::talkamie) fn visibility_word(user: &User) -> Option<&'static str> {
    match (user.visibility(), user.visible_to_categories.as_slice()) {
        (Visibility::Everyone | Visibility::Unspecified, _) => Some("public"),
        (Visibility::Connections, _) => Some("matches"),
        (Visibility::Categories, [category]) if category == "volunteer" => Some("volunteers"),
        (Visibility::Categories, [category]) if category == "senior" => Some("seniors"),
        (Visibility::Categories | Visibility::Nobody, _) => None,
    }
}

fn visibility(word: &str) -> Result<(Visibility, Option<&'static str>), Fault> {
    Ok(match word {
        "public" => (Visibility::Everyone, None),
        "matches" => (Visibility::Connections, None),
        "volunteers" => (Visibility::Categories, Some("volunteer")),
        "seniors" => (Visibility::Categories, Some("senior")),
        _ => {
            return Err(Fault::invalid("visibility", "must be one of public, matches, volunteers, seniors"));
        }
    })
}

/// Returns the user's location: `city`, `state` and `country`, beside the other fields or in `location`. Missing fields
/// stay as they are.
fn location(fields: &Fields, before: &User) -> Result<Option<Location>, Fault> {
    let within = fields.object("location")?;
    let part = |name: &str| Ok::<_, Fault>(fields.text(name)?.or(within.text(name)?));
    let (city, state, country) = (part("city")?, part("state")?, part("country")?);
    if city.is_none() && state.is_none() && country.is_none() {
        return Ok(None);
    }
    let mut location = before.location.clone().unwrap_or_default();
    location.city = city.unwrap_or(location.city);
    location.region = state.unwrap_or(location.region);
    if let Some(name) = country {
        location.country =
            if name.is_empty() { String::new() } else { place::country_code("country", &name)? };
    }
    Ok(Some(location))
}

/// Returns the address of a file: a text, or an object with the original in `org` and a small one in `sm`.
fn file(fields: &Fields, name: &str) -> Result<Option<String>, Fault> {
    let url = match fields.get(name) {
        None => return Ok(None),
        Some(Value::String(url)) => Some(url.clone()),
        Some(Value::Object(_)) => {
            let file = fields.object(name)?;
            match file.object("org")?.filled("url")? {
                Some(url) => Some(url),
                None => file.object("sm")?.filled("url")?,
            }
        }
        Some(_) => None,
    };
    let url = url.ok_or_else(|| Fault::invalid(name, "must be an object with org.url"))?;
    match url.is_empty() {
        true => Ok(Some(url)),
        false => Ok(Some(crate::dialects::text::address(name, &url)?)),
    }
}

/// Returns interests by id or by name, as texts or as objects.
fn interests(fields: &Fields, catalog: &Catalog) -> Result<Option<Vec<String>>, Fault> {
    let refuse = || Fault::invalid("interests", "must be an array of interests by name or id");
    let values = match fields.get("interests") {
        None => return Ok(None),
        Some(Value::Array(values)) => values,
        Some(_) => return Err(refuse()),
    };
    let mut ids = Vec::new();
    for value in values {
        let text = match value {
            Value::String(text) => Some(text.as_str()),
            Value::Object(interest) => ["id", "name"].iter().find_map(|key| interest.get(*key)?.as_str()),
            _ => None,
        };
        let id = catalog.find(text.ok_or_else(refuse)?);
        let id = id.ok_or_else(|| Fault::invalid("interests", "must name interests of the list"))?;
        if !ids.iter().any(|known| known == id) {
            ids.push(id.to_owned());
        }
    }
    Ok(Some(ids))
}

/// Returns the user's limits on calls: `maxCallCount` and `maxCallDuration` in seconds, or the same in
/// `preferences.call`. 0 is no limit.
fn call_preferences(fields: &Fields, before: &User) -> Result<Option<CallPreferences>, Fault> {
    let within = fields.object("preferences")?.object("call")?;
    let part = |name: &str, inner: &str| Ok::<_, Fault>(fields.integer(name)?.or(within.integer(inner)?));
    let (count, seconds) = (part("maxCallCount", "maxCount")?, part("maxCallDuration", "maxDuration")?);
    if count.is_none() && seconds.is_none() {
        return Ok(None);
    }
    let mut preferences = before.call_preferences.unwrap_or_default();
    if let Some(count) = count {
        let count = i32::try_from(count).ok().filter(|count| *count >= 0);
        preferences.max_calls_per_day =
            count.ok_or_else(|| Fault::invalid("maxCallCount", "must be between 0 and 100"))?;
    }
    if let Some(seconds) = seconds {
        preferences.max_duration = (seconds != 0).then_some(prost_types::Duration { seconds, nanos: 0 });
    }
    Ok(Some(preferences))
}

#[cfg(test)]
mod tests {
    use proto::auth::v1::Interest;
    use serde_json::json;

    use super::*;

    fn catalog() -> Catalog {
        let interest = |id: &str, name: &str| Interest {
            interest_id: id.to_owned(),
            name: name.to_owned(),
            emoji: "x".to_owned(),
        };
        Catalog::new(vec![interest("tea", "Tea"), interest("board-games", "Board games")])
    }

    fn read(body: Value) -> Result<(UserChanges, Vec<String>), Fault> {
        let before = User {
            location: Some(Location { city: "Faro".to_owned(), ..Location::default() }),
            ..User::default()
        };
        changes(&Fields::from_json(body.to_string().as_bytes()).expect("fields"), &before, &catalog())
    }

    #[test]
    fn a_form_of_the_client_becomes_changes() {
        let (changes, mask) = read(json!({
            "name": "Ann", "type": "senior", "gender": "female", "dob": "1950-01-02T00:00:00.000Z",
            "language": "Portuguese", "country": "Portugal", "visibility": "volunteers",
            "interests": [{"name": "Board Games", "emoji": "🎲"}, "tea", {"id": "tea"}],
            "picture": {"org": {"mimeType": "image/png", "url": "https://a.example/p.png"}},
            "maxCallDuration": 600, "maxCallCount": "3",
        }))
        .expect("changes");
        assert_eq!((changes.language.as_str(), changes.date_of_birth.as_str()), ("pt", "1950-01-02"));
        assert_eq!(changes.interest_ids, ["board-games", "tea"]);
        assert_eq!(changes.picture_url, "https://a.example/p.png");
        let location = changes.location.expect("a location");
        assert_eq!((location.city.as_str(), location.country.as_str()), ("Faro", "PT"));
        assert_eq!(changes.visible_to_categories, ["volunteer"]);
        let preferences = changes.call_preferences.expect("preferences");
        assert_eq!(preferences.max_calls_per_day, 3);
        assert_eq!(preferences.max_duration.map(|duration| duration.seconds), Some(600));
        assert_eq!(mask.len(), 11);
    }

    #[test]
    fn nothing_changes_nothing() {
        let (_, mask) = read(json!({"name": "", "gender": null, "unknown": 1})).expect("changes");
        assert!(mask.is_empty());
    }

    #[test]
    fn what_is_malformed_is_refused_by_name() {
        for (body, field) in [
            (json!({"name": {}}), "name"),
            (json!({"gender": "x"}), "gender"),
            (json!({"language": "Klingon"}), "language"),
            (json!({"country": "Atlantis"}), "country"),
            (json!({"location": 5}), "location"),
            (json!({"location": {"country": "Atlantis"}}), "country"),
            (json!({"visibility": "all"}), "visibility"),
            (json!({"interests": "tea"}), "interests"),
            (json!({"interests": ["coffee"]}), "interests"),
            (json!({"interests": [5]}), "interests"),
            (json!({"picture": {"org": {"url": "http://a.example/p.png"}}}), "picture"),
            (json!({"picture": {}}), "picture"),
            (json!({"maxCallCount": -1}), "maxCallCount"),
            (json!({"maxCallCount": "many"}), "maxCallCount"),
        ] {
            assert_eq!(read(body.clone()).expect_err("refused").fields()[0].0, field, "{body}");
        }
    }

    #[test]
    fn every_word_comes_back() {
        for word in ["male", "female", "non-binary", "other", "unspecified"] {
            assert_eq!(gender_word(gender("gender", word).expect("a gender")), word);
        }
        for word in ["public", "matches", "volunteers", "seniors"] {
            let (visibility, category) = visibility(word).expect("a visibility");
            let visible_to_categories = category.map(str::to_owned).into_iter().collect();
            let user = User { visibility: visibility.into(), visible_to_categories, ..User::default() };
            assert_eq!(visibility_word(&user), Some(word));
        }
    }
}
