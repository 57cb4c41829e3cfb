//! The object `user`: by name and picture only, with the profile, and the user's own.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};
use proto::auth::v1::{BackgroundCheck, BackgroundCheckState, User};
use serde_json::{Value, json};

use super::{compact, filled};
use crate::dialects::talkamie::operations::interests::Catalog;
use crate::dialects::talkamie::words::{place, profile, zone};

/// Returns a user by name and picture, for objects that only mention the user.
pub(in crate::dialects::talkamie) fn brief(user_id: &str, user: Option<&User>) -> Value {
    compact(json!({
        "id": filled(user_id),
        "name": user.and_then(|user| filled(&user.display_name)),
        "type": user.and_then(|user| filled(&user.category)),
        "picture": user.and_then(|user| file(&user.picture_url)),
    }))
}

/// Returns a user with the profile, as far as the viewer sees it.
pub(in crate::dialects::talkamie) fn full(user: &User, catalog: &Catalog, now: Timestamp) -> Value {
    let rating = user.rating.unwrap_or_default();
    let location = user.location.clone().unwrap_or_default();
    let interests: Vec<_> = user.interest_ids.iter().map(|id| catalog.show(id)).collect();
    compact(json!({
        "id": user.user_id,
        "name": user.display_name,
        "type": filled(&user.category),
        "gender": profile::gender_word(user.gender()),
        "bio": filled(&user.bio),
        "age": age(user, now),
        "language": filled(&user.language).map(place::language_name),
        "location": {
            "city": filled(&location.city),
            "state": filled(&location.region),
            "country": filled(&location.country).map(place::country_name),
        },
        "picture": file(&user.picture_url),
        "video": file(&user.video_url),
        "interests": interests,
        "rating": rating.mean,
        "totalReviews": rating.count,
        "verification": verification(user),
        "timezoneOffset": filled(&user.time_zone)
            .and_then(|time_zone| zone::offset(time_zone, now.as_millisecond())),
    }))
}

/// The totals that only the user sees.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::dialects::talkamie) struct Totals {
    pub(in crate::dialects::talkamie) connections: i32,
    pub(in crate::dialects::talkamie) pending_requests: i32,
    pub(in crate::dialects::talkamie) unread_alerts: i32,
    pub(in crate::dialects::talkamie) unread_chats: i32,
}

/// Returns the user's own object.
pub(in crate::dialects::talkamie) fn own(
    user: &User,
    totals: Totals,
    check: Option<&BackgroundCheck>,
    availability: Value,
    catalog: &Catalog,
    now: Timestamp,
) -> Value {
    let preferences = user.call_preferences.unwrap_or_default();
    let mut shown = full(user, catalog, now);
    let own = compact(json!({
        "email": filled(&user.email),
        "dob": filled(&user.date_of_birth),
        "visibility": profile::visibility_word(user),
        "preferences": {"call": {
            "maxCount": (preferences.max_calls_per_day > 0).then_some(preferences.max_calls_per_day),
            "maxDuration": preferences.max_duration.map(|duration| duration.seconds),
        }},
        "totalConnections": totals.connections,
        "totalPendingRequests": totals.pending_requests,
        "totalUnreadAlerts": totals.unread_alerts,
        "totalUnreadChats": totals.unread_chats,
        "availability": availability,
    }));
    if let (Value::Object(shown), Value::Object(own)) = (&mut shown, own) {
        shown.extend(own);
    }
    shown["verification"]["basic"] =
        json!({"status": if user.email_verified { "complete" } else { "pending" }});
    if let Some(status) = check.and_then(|check| check_status(check.state())) {
        shown["verification"]["background"] = json!({"status": status});
    }
    shown
}

/// Returns the whole years since the day of birth. Of other users the services return only the age.
fn age(user: &User, now: Timestamp) -> Option<i64> {
    if user.age > 0 {
        return Some(i64::from(user.age));
    }
    let born: Date = user.date_of_birth.parse().ok()?;
    let today = now.to_zoned(TimeZone::UTC).date();
    let since = born.until((Unit::Year, today)).ok()?;
    Some(i64::from(since.get_years()))
}

fn verification(user: &User) -> Value {
    let is_clear = user.background_check_time.is_some();
    json!({
        "verified": is_clear,
        "background": is_clear.then(|| json!({"status": "complete"})),
    })
}

fn check_status(state: BackgroundCheckState) -> Option<&'static str> {
    match state {
        BackgroundCheckState::Pending => Some("pending"),
        BackgroundCheckState::Submitted => Some("in-progress"),
        BackgroundCheckState::Clear => Some("complete"),
        BackgroundCheckState::Consider | BackgroundCheckState::Failed | BackgroundCheckState::Expired => {
            Some("failed")
        }
        BackgroundCheckState::Unspecified => None,
    }
}

/// Returns a file by its address. The media type follows from the end of the path.
fn file(url: &str) -> Option<Value> {
    let url = filled(url)?;
    let path = url.split(['?', '#']).next().unwrap_or(url).to_ascii_lowercase();
    let mime_type = [
        (".png", "image/png"),
        (".jpg", "image/jpeg"),
        (".jpeg", "image/jpeg"),
        (".webp", "image/webp"),
        (".gif", "image/gif"),
        (".mp4", "video/mp4"),
        (".webm", "video/webm"),
    ]
    .into_iter()
    .find_map(|(end, mime_type)| path.ends_with(end).then_some(mime_type));
    let file = compact(json!({"mimeType": mime_type, "url": url}));
    Some(json!({"sm": file, "org": file}))
}

#[cfg(test)]
mod tests {
    use proto::auth::v1::{CallPreferences, Location, Rating};

    use super::*;

    fn now() -> Timestamp {
        "2026-05-01T12:00:00Z".parse().expect("a time")
    }

    #[test]
    fn a_profile_is_shown_in_words() {
        let user = User {
            user_id: "1".to_owned(),
            display_name: "Ann".to_owned(),
            category: "senior".to_owned(),
            age: 71,
            language: "pt-BR".to_owned(),
            location: Some(Location { country: "PT".to_owned(), ..Location::default() }),
            picture_url: "https://a.example/p.PNG?x".to_owned(),
            time_zone: "Etc/GMT-3".to_owned(),
            rating: Some(Rating { count: 2, sum: 9, mean: 4.5 }),
            ..User::default()
        };
        let shown = full(&user, &Catalog::default(), now());
        assert_eq!(shown["location"], json!({"country": "Portugal"}));
        assert_eq!((&shown["language"], &shown["timezoneOffset"]), (&json!("Portuguese"), &json!(-180)));
        assert_eq!(shown["picture"]["org"]["mimeType"], json!("image/png"));
        assert_eq!((&shown["rating"], &shown["totalReviews"]), (&json!(4.5), &json!(2)));
        assert_eq!(shown["verification"], json!({"verified": false}));
        assert!(shown.get("video").is_none() && shown.get("email").is_none());
    }

    #[test]
    fn the_own_age_follows_from_the_day_of_birth() {
        for (born, age) in [("1950-05-01", Some(76)), ("1950-05-02", Some(75)), ("", None)] {
            let user = User { date_of_birth: born.to_owned(), ..User::default() };
            assert_eq!(super::age(&user, now()), age, "{born}");
        }
    }

    #[test]
    fn ones_own_user_has_what_others_do_not_see() {
        let user = User {
            email: "ann@a.example".to_owned(),
            email_verified: true,
            call_preferences: Some(CallPreferences { max_calls_per_day: 2, max_duration: None }),
            ..User::default()
        };
        let check =
            BackgroundCheck { state: BackgroundCheckState::Submitted.into(), ..BackgroundCheck::default() };
        let totals = Totals { unread_chats: 3, ..Totals::default() };
        let shown = own(&user, totals, Some(&check), json!({}), &Catalog::default(), now());
        assert_eq!(shown["preferences"], json!({"call": {"maxCount": 2}}));
        assert_eq!(shown["totalUnreadChats"], json!(3));
        assert_eq!(
            shown["verification"],
            json!({"verified": false, "basic": {"status": "complete"}, "background": {"status": "in-progress"}})
        );
    }

    #[test]
    fn who_is_gone_has_an_id_only() {
        assert_eq!(brief("1", None), json!({"id": "1"}));
    }
}
