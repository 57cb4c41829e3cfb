//! What users say about themselves: how it is read and written.

use std::collections::BTreeSet;
use std::time::Duration;

use proto::id::UserId;
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use super::{Db, Tx, unreadable};
use crate::error::Error;
use crate::profile::{
    CallPreferences, Category, DateOfBirth, Gender, InterestId, Language, Location, Profile, ProfileChanges,
    TimeZoneName, VideoUrl, Visibility,
};
use crate::review::Rating;

/// What is read of a profile besides the other columns of `users`. The lists are texts with spaces between the items:
/// one row says all there is.
#[derive(FromRow)]
pub(super) struct ProfileRow {
    gender: i64,
    date_of_birth: Option<i64>,
    language: String,
    city: String,
    region: String,
    country: String,
    video_url: String,
    category: String,
    visibility: i64,
    max_calls_per_day: i64,
    max_call_millis: i64,
    time_zone: String,
    found_by_email: bool,
    interests: String,
    visible_to: String,
    review_count: i64,
    star_sum: i64,
}

impl ProfileRow {
    pub(super) fn rating(&self) -> Rating {
        Rating { count: self.review_count, sum: self.star_sum }
    }

    pub(super) fn into_profile(self) -> Result<Profile, Error> {
        let said = |text: String| Some(text).filter(|text| !text.is_empty());
        let max_millis = u64::try_from(self.max_call_millis).unwrap_or(0);
        Ok(Profile {
            gender: gender_of(self.gender)?,
            birth: self.date_of_birth.map(DateOfBirth::stored),
            language: said(self.language).map(Language::stored),
            location: Location::stored(self.city, self.region, self.country),
            interests: self.interests.split_whitespace().map(InterestId::stored).collect(),
            video: said(self.video_url).map(VideoUrl::stored),
            category: said(self.category).as_deref().map(Category::stored),
            visibility: visibility_of(self.visibility)?,
            visible_to: self.visible_to.split_whitespace().map(Category::stored).collect(),
            calls: CallPreferences {
                max_per_day: u32::try_from(self.max_calls_per_day).ok().filter(|calls| *calls > 0),
                max_duration: (max_millis > 0).then(|| Duration::from_millis(max_millis)),
            },
            time_zone: said(self.time_zone).map(TimeZoneName::stored),
            found_by_email: self.found_by_email,
        })
    }
}

/// Keeps a profile, as far as it has changed. The user's row is locked.
pub(super) async fn save(
    tx: &mut Tx,
    id: UserId,
    profile: &Profile,
    changes: &ProfileChanges,
) -> Result<(), Error> {
    if *changes == ProfileChanges::default() {
        return Ok(());
    }
    if let Some(interests) = &changes.interests {
        check_interests(tx, interests).await?;
        clear(tx, "DELETE FROM user_interests WHERE user_id = $1", id.uuid()).await?;
        insert(
            tx,
            "INSERT INTO user_interests (user_id, interest_id) ",
            id,
            interests.iter().map(InterestId::as_str),
        )
        .await?;
    }
    if let Some(categories) = &changes.visible_to {
        clear(tx, "DELETE FROM visible_categories WHERE user_id = $1", id.uuid()).await?;
        insert(
            tx,
            "INSERT INTO visible_categories (user_id, category) ",
            id,
            categories.iter().map(Category::as_str),
        )
        .await?;
    }
    let location = &profile.location;
    let max_duration = profile.calls.max_duration.unwrap_or_default();
    sqlx::query(
        "UPDATE users SET gender = $2, date_of_birth = $3, language = $4, city = $5, region = $6, country = $7,
                          place_search = $8, video_url = $9, category = $10, visibility = $11,
                          max_calls_per_day = $12, max_call_millis = $13, time_zone = $14,
                          found_by_email = $15
         WHERE user_id = $1",
    )
    .bind(id.uuid())
    .bind(gender_number(profile.gender))
    .bind(profile.birth.map(DateOfBirth::number))
    .bind(profile.language.as_ref().map_or("", Language::as_str))
    .bind(location.city())
    .bind(location.region())
    .bind(location.country())
    .bind(location.search_text())
    .bind(profile.video.as_ref().map_or("", VideoUrl::as_str))
    .bind(profile.category.as_ref().map_or("", Category::as_str))
    .bind(visibility_number(profile.visibility))
    .bind(i64::from(profile.calls.max_per_day.unwrap_or(0)))
    .bind(i64::try_from(max_duration.as_millis()).unwrap_or(0))
    .bind(profile.time_zone.as_ref().map_or("", TimeZoneName::as_str))
    .bind(profile.found_by_email)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Leaves nothing of a profile.
pub(super) async fn erase(tx: &mut Tx, id: Uuid) -> Result<(), Error> {
    clear(tx, "DELETE FROM user_interests WHERE user_id = $1", id).await?;
    clear(tx, "DELETE FROM visible_categories WHERE user_id = $1", id).await?;
    clear(
        tx,
        "UPDATE users SET gender = 0, date_of_birth = NULL, language = '', city = '', region = '', country = '',
                          place_search = '', video_url = '', category = '', visibility = 1, max_calls_per_day = 0,
                          max_call_millis = 0, time_zone = '', found_by_email = FALSE
         WHERE user_id = $1",
        id,
    )
    .await
}

/// Runs a statement about one user.
async fn clear(tx: &mut Tx, sql: &'static str, id: Uuid) -> Result<(), Error> {
    sqlx::query(sql).bind(id).execute(&mut **tx).await?;
    Ok(())
}

async fn insert(
    tx: &mut Tx,
    sql: &'static str,
    id: UserId,
    items: impl ExactSizeIterator<Item = &str>,
) -> Result<(), Error> {
    if items.len() == 0 {
        return Ok(());
    }
    let mut query = QueryBuilder::<Db>::new(sql);
    query.push_values(items, |mut row, item| {
        row.push_bind(id.uuid()).push_bind(item.to_owned());
    });
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// Refuses interests that there are not, and names the first of them.
async fn check_interests(tx: &mut Tx, interests: &BTreeSet<InterestId>) -> Result<(), Error> {
    let Some(last) = interests.last() else { return Ok(()) };
    let mut query = QueryBuilder::<Db>::new("SELECT interest_id FROM interests WHERE interest_id IN (");
    let mut list = query.separated(", ");
    // Filled up to a power of two, so that few texts of statements exist.
    let padding = std::iter::repeat_n(last, interests.len().next_power_of_two() - interests.len());
    for interest in interests.iter().chain(padding) {
        list.push_bind(interest.as_str().to_owned());
    }
    query.push(")");
    let known: Vec<String> = query.build_query_scalar().fetch_all(&mut **tx).await?;
    match interests.iter().find(|interest| known.iter().all(|known| known != interest.as_str())) {
        None => Ok(()),
        Some(unknown) => {
            let rule = format!("must be known: `{}` is no interest", unknown.as_str());
            Err(Error::invalid("user.interest_ids", rule))
        }
    }
}

pub(super) fn gender_number(gender: Option<Gender>) -> i64 {
    match gender {
        None => 0,
        Some(Gender::Female) => 1,
        Some(Gender::Male) => 2,
        Some(Gender::NonBinary) => 3,
        Some(Gender::Other) => 4,
    }
}

fn gender_of(number: i64) -> Result<Option<Gender>, Error> {
    match number {
        0 => Ok(None),
        1 => Ok(Some(Gender::Female)),
        2 => Ok(Some(Gender::Male)),
        3 => Ok(Some(Gender::NonBinary)),
        4 => Ok(Some(Gender::Other)),
        _ => Err(unreadable("a gender of no name")),
    }
}

fn visibility_number(visibility: Visibility) -> i64 {
    match visibility {
        Visibility::Everyone => 1,
        Visibility::Connections => 2,
        Visibility::Categories => 3,
        Visibility::Nobody => 4,
    }
}

fn visibility_of(number: i64) -> Result<Visibility, Error> {
    match number {
        1 => Ok(Visibility::Everyone),
        2 => Ok(Visibility::Connections),
        3 => Ok(Visibility::Categories),
        4 => Ok(Visibility::Nobody),
        _ => Err(unreadable("a visibility of no name")),
    }
}
