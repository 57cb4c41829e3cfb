//! Profiles on the wire: as they are set, asked for and shown.

use std::time::Duration;

use chassis::caller::{Caller, CallerKind};
use chassis::clock::Timestamp;
use chassis::fault::Fault;
use chassis::page::{self, Token as PageToken};
use prost::Message;
use proto::auth::v1 as pb;
use proto::id::UserId;
use uuid::Uuid;

use super::{as_slices, kind, optional_email, rating};
use crate::email::Email;
use crate::error::Error;
use crate::interests::{Interest, InterestListing, InterestPage};
use crate::profile::{
    Ages, CallPreferences, Category, DateOfBirth, Day, Gender, InterestId, Language, Location, LocationPart,
    ProfileChanges, ProfileFilter, TimeZoneName, VideoUrl, Visibility, listed,
};
use crate::user::{Account, Keyword, Listing, User, UserKind};
use crate::users::ViewPage;
use crate::view::{Detail, View};

/// Reads what a path of the mask names; `false` when it names nothing of a profile.
pub fn change(changes: &mut ProfileChanges, path: &str, user: &pb::UserChanges) -> Result<bool, Error> {
    match path {
        "gender" => changes.gender = Some(gender(user.gender())),
        "date_of_birth" => {
            let birth = DateOfBirth::parse_optional("user.date_of_birth", &user.date_of_birth)?;
            changes.birth = Some(birth);
        }
        "language" => {
            changes.language = Some(Language::parse_optional("user.language", &user.language)?);
        }
        "location" => {
            let pb::Location { city, region, country } = user.location.clone().unwrap_or_default();
            changes.location = Some(Location::parse(&city, &region, &country)?);
        }
        "interest_ids" => {
            let ids = user.interest_ids.iter().map(|id| InterestId::parse("user.interest_ids", id));
            changes.interests = Some(listed("user.interest_ids", ids)?);
        }
        "video_url" => changes.video = Some(VideoUrl::parse_optional("user.video_url", &user.video_url)?),
        "category" => {
            changes.category = Some(Category::parse_optional("user.category", &user.category)?);
        }
        "visibility" => changes.visibility = Some(visibility(user.visibility())),
        "visible_to_categories" => {
            let field = "user.visible_to_categories";
            let named = user.visible_to_categories.iter().map(|text| Category::parse(field, text));
            changes.visible_to = Some(listed(field, named)?);
        }
        "found_by_email" => changes.found_by_email = Some(user.found_by_email),
        "call_preferences" => changes.calls = Some(calls(user.call_preferences.as_ref())?),
        "time_zone" => {
            changes.time_zone = Some(TimeZoneName::parse_optional("user.time_zone", &user.time_zone)?);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn gender(gender: pb::Gender) -> Option<Gender> {
    match gender {
        pb::Gender::Unspecified => None,
        pb::Gender::Female => Some(Gender::Female),
        pb::Gender::Male => Some(Gender::Male),
        pb::Gender::NonBinary => Some(Gender::NonBinary),
        pb::Gender::Other => Some(Gender::Other),
    }
}

fn visibility(visibility: pb::Visibility) -> Visibility {
    match visibility {
        pb::Visibility::Unspecified | pb::Visibility::Everyone => Visibility::Everyone,
        pb::Visibility::Connections => Visibility::Connections,
        pb::Visibility::Categories => Visibility::Categories,
        pb::Visibility::Nobody => Visibility::Nobody,
    }
}

fn calls(wanted: Option<&pb::CallPreferences>) -> Result<CallPreferences, Error> {
    let Some(wanted) = wanted else { return Ok(CallPreferences::default()) };
    let span = |span: prost_types::Duration| {
        Duration::try_from(span)
            .map_err(|_| Error::invalid("user.call_preferences.max_duration", "must be at least 60s"))
    };
    CallPreferences::parse(wanted.max_calls_per_day, wanted.max_duration.map(span).transpose()?)
}

/// A user as it sees itself.
pub fn own_user(user: User) -> pb::User {
    let profile = user.profile.clone();
    pb::User {
        email: user.email.as_ref().map(|email| email.as_str().to_owned()).unwrap_or_default(),
        email_verified: user.standing.email_verify_time.is_some(),
        date_of_birth: profile.birth.map(|birth| birth.to_string()).unwrap_or_default(),
        visibility: shown_visibility(profile.visibility).into(),
        visible_to_categories: texts(profile.visible_to.iter().map(Category::as_str)),
        call_preferences: shown_calls(profile.calls),
        found_by_email: profile.found_by_email,
        ..full(user)
    }
}

impl From<View> for pb::User {
    fn from(View { account, detail, is_service, today }: View) -> Self {
        let user = match account {
            Account::Living(user) => user,
            Account::Deleted { id, delete_time } => {
                let delete_time = Some(delete_time.to_proto());
                return Self { user_id: id.to_string(), delete_time, ..Self::default() };
            }
        };
        let (age, calls) = (age(&user, today), user.profile.calls);
        let time_zone = time_zone(&user);
        let mut shown = match detail {
            Detail::Profile => Self { age, ..full(user) },
            Detail::Card => card(user),
            Detail::Public => public(user),
        };
        if is_service {
            shown.call_preferences = shown_calls(calls);
            shown.time_zone = time_zone;
        }
        shown
    }
}

/// What an anonymous viewer sees of a user.
fn public(user: User) -> pb::User {
    // The name of a guest, by which it is found again, is not meant to be seen: it may be a network address.
    let external = user.external.filter(|_| user.kind == UserKind::External);
    pb::User {
        user_id: user.id.to_string(),
        kind: kind(user.kind).into(),
        display_name: user.display_name.as_str().to_owned(),
        picture_url: user.picture.map(|url| url.as_str().to_owned()).unwrap_or_default(),
        external_account: external.map(pb::ExternalAccount::from),
        ..pb::User::default()
    }
}

/// What everybody who is signed in sees of a user.
fn card(user: User) -> pb::User {
    pb::User {
        username: user.username.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default(),
        background_check_time: user.standing.background_check_time.map(Timestamp::to_proto),
        rating: Some(rating(user.rating)),
        ..public(user)
    }
}

/// With what is seen by those who see the profile.
fn full(user: User) -> pb::User {
    let profile = user.profile.clone();
    let location = Some(&profile.location).filter(|location| !location.is_empty());
    pb::User {
        bio: user.bio.as_str().to_owned(),
        create_time: Some(user.create_time.to_proto()),
        update_time: Some(user.update_time.to_proto()),
        time_zone: time_zone(&user),
        gender: shown_gender(profile.gender).into(),
        language: profile.language.as_ref().map(|tag| tag.as_str().to_owned()).unwrap_or_default(),
        location: location.map(|location| pb::Location {
            city: location.city().to_owned(),
            region: location.region().to_owned(),
            country: location.country().to_owned(),
        }),
        interest_ids: texts(profile.interests.iter().map(InterestId::as_str)),
        video_url: profile.video.as_ref().map(|url| url.as_str().to_owned()).unwrap_or_default(),
        category: profile.category.as_ref().map(|label| label.as_str().to_owned()).unwrap_or_default(),
        ..card(user)
    }
}

fn age(user: &User, today: Day) -> i32 {
    let years = user.profile.birth.map(|birth| birth.age(today));
    years.and_then(|years| i32::try_from(years).ok()).unwrap_or_default()
}

fn time_zone(user: &User) -> String {
    user.profile.time_zone.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default()
}

fn texts<'a>(items: impl Iterator<Item = &'a str>) -> Vec<String> {
    items.map(str::to_owned).collect()
}

fn shown_gender(gender: Option<Gender>) -> pb::Gender {
    match gender {
        None => pb::Gender::Unspecified,
        Some(Gender::Female) => pb::Gender::Female,
        Some(Gender::Male) => pb::Gender::Male,
        Some(Gender::NonBinary) => pb::Gender::NonBinary,
        Some(Gender::Other) => pb::Gender::Other,
    }
}

fn shown_visibility(visibility: Visibility) -> pb::Visibility {
    match visibility {
        Visibility::Everyone => pb::Visibility::Everyone,
        Visibility::Connections => pb::Visibility::Connections,
        Visibility::Categories => pb::Visibility::Categories,
        Visibility::Nobody => pb::Visibility::Nobody,
    }
}

/// Absent when there is no limit.
fn shown_calls(calls: CallPreferences) -> Option<pb::CallPreferences> {
    let span = |span: Duration| prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: 0,
    };
    (calls != CallPreferences::default()).then(|| pb::CallPreferences {
        max_calls_per_day: calls.max_per_day.and_then(|most| i32::try_from(most).ok()).unwrap_or_default(),
        max_duration: calls.max_duration.map(span),
    })
}

/// A request for a page of users.
pub struct ListQuery {
    /// What is asked for.
    pub listing: Listing,
    /// What the page token is bound to.
    parts: [Vec<u8>; 4],
}

impl ListQuery {
    /// Reads a request. Ages are those on this day.
    pub fn parse(caller: &Caller, request: pb::ListUsersRequest, today: Day) -> Result<Self, Fault> {
        let kind = match request.kind() {
            pb::UserKind::Unspecified => None,
            pb::UserKind::Registered => Some(UserKind::Registered),
            pb::UserKind::Guest => Some(UserKind::Guest),
            pb::UserKind::External => {
                let rule = "must not be EXTERNAL: external accounts are not listed";
                return Err(Error::invalid("kind", rule).into());
            }
        };
        let keyword = Keyword::parse(&request.keyword);
        let email = optional_email("email", &request.email)?;
        if email.is_some() && matches!(caller.kind, CallerKind::Guest | CallerKind::External) {
            return Err(Error::SearchByEmail.into());
        }
        let profile = filter(&request, today)?;
        let (limit, token) = (page::size(request.page_size), request.page_token.clone());
        let rest = pb::ListUsersRequest {
            keyword: String::new(),
            email: String::new(),
            page_size: 0,
            page_token: String::new(),
            ..request
        };
        let parts = [
            // What is found hangs on what the caller sees.
            caller.user_id.uuid().as_bytes().to_vec(),
            keyword.as_ref().map_or("", Keyword::as_str).into(),
            email.as_ref().map_or("", Email::key).into(),
            rest.encode_to_vec(),
        ];
        let after = PageToken::after::<Uuid>(&token, &as_slices(&parts))?.map(UserId::from);
        let listing = Listing { keyword, email, kind, profile, viewer: caller.user_id, after, limit };
        Ok(Self { listing, parts })
    }

    /// The answer to it.
    pub fn answer(&self, page: ViewPage) -> pb::ListUsersResponse {
        let last = page.views.last().filter(|_| page.has_more);
        let next_page_token = last
            .map(|view| PageToken::at(&as_slices(&self.parts), &view.account.id().uuid()))
            .unwrap_or_default();
        pb::ListUsersResponse { users: page.views.into_iter().map(pb::User::from).collect(), next_page_token }
    }
}

fn filter(request: &pb::ListUsersRequest, today: Day) -> Result<ProfileFilter, Error> {
    let ids = request.interest_ids.iter().map(|id| InterestId::parse("interest_ids", id));
    Ok(ProfileFilter {
        category: Category::parse_optional("category", &request.category)?,
        ages: Ages::parse(request.min_age, request.max_age, request.age, today)?,
        gender: gender(request.gender()),
        location: LocationPart::parse(&request.location),
        language: Language::parse_optional("language", &request.language)?,
        interests: listed("interest_ids", ids)?,
    })
}

/// A request for a page of interests.
pub struct InterestQuery {
    /// What is asked for.
    pub listing: InterestListing,
    /// What the page token is bound to.
    parts: [Vec<u8>; 1],
}

impl TryFrom<pb::ListInterestsRequest> for InterestQuery {
    type Error = Fault;

    fn try_from(request: pb::ListInterestsRequest) -> Result<Self, Fault> {
        let keyword = Keyword::parse(&request.keyword);
        let parts = [keyword.as_ref().map_or("", Keyword::as_str).into()];
        let after = PageToken::after::<i64>(&request.page_token, &as_slices(&parts))?.unwrap_or(0);
        let limit = page::size(request.page_size);
        Ok(Self { listing: InterestListing { keyword, after, limit }, parts })
    }
}

impl InterestQuery {
    /// The answer to it.
    pub fn answer(&self, page: InterestPage) -> pb::ListInterestsResponse {
        let last = page.interests.last().filter(|_| page.has_more);
        let next_page_token =
            last.map(|last| PageToken::at(&as_slices(&self.parts), &last.position)).unwrap_or_default();
        let interests = page.interests.into_iter().map(pb::Interest::from).collect();
        pb::ListInterestsResponse { interests, next_page_token }
    }
}

impl From<Interest> for pb::Interest {
    fn from(Interest { id, name, emoji, .. }: Interest) -> Self {
        Self { interest_id: id.as_str().to_owned(), name, emoji }
    }
}
