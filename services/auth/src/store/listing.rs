//! Lists of users: by name, by kind, and by what they show of themselves to whoever asks.

use std::collections::HashSet;

use proto::id::UserId;
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::profiles::gender_number;
use super::{Db, Store, UserRow, contains, kind_number, user_columns};
use crate::error::Error;
use crate::profile::ProfileFilter;
use crate::user::{Listing, UserKind, UserPage};

impl Store {
    pub async fn list_users(&self, listing: &Listing) -> Result<UserPage, Error> {
        let Listing { keyword, email, kind, profile, viewer, after, limit } = listing;
        let mut query = QueryBuilder::<Db>::new(concat!(
            "SELECT ",
            user_columns!(),
            " FROM users WHERE delete_time IS NULL"
        ));
        if let Some(after) = after {
            query.push(" AND user_id > ").push_bind(after.uuid());
        }
        if let Some(email) = email {
            query.push(" AND email_key = ").push_bind(email.key().to_owned()).push(" AND ");
            push_found_by_email(&mut query, *viewer);
        }
        match kind {
            Some(kind) => query.push(" AND kind = ").push_bind(kind_number(*kind)),
            None => query.push(" AND kind <> ").push_bind(kind_number(UserKind::External)),
        };
        if let Some(keyword) = keyword {
            // Both sides are folded by us: the databases disagree on whether LIKE looks at case.
            query.push(" AND search LIKE ").push_bind(contains(keyword.as_str())).push(r" ESCAPE '\'");
        }
        if profile.asks() {
            push_profile(&mut query, profile);
            query.push(" AND ");
            push_visible(&mut query, *viewer);
        }
        // One more than asked for tells whether there are more.
        query.push(" ORDER BY user_id LIMIT ").push_bind(*limit + 1);
        let rows: Vec<UserRow> = query.build_query_as().fetch_all(self.pool.read()).await?;
        let limit = usize::try_from(*limit).unwrap_or(0);
        let has_more = rows.len() > limit;
        let users = rows.into_iter().take(limit).map(UserRow::into_user).collect::<Result<_, _>>()?;
        Ok(UserPage { users, has_more })
    }

    pub async fn seen_by(&self, viewer: UserId, ids: &[UserId]) -> Result<HashSet<UserId>, Error> {
        let Some(last) = ids.last() else { return Ok(HashSet::new()) };
        let mut query = QueryBuilder::<Db>::new("SELECT user_id FROM users WHERE user_id IN (");
        let mut list = query.separated(", ");
        // Filled up to a power of two, so that few texts of statements exist.
        let padding = std::iter::repeat_n(last, ids.len().next_power_of_two() - ids.len());
        for id in ids.iter().chain(padding) {
            list.push_bind(id.uuid());
        }
        query.push(") AND ");
        push_visible(&mut query, viewer);
        let seen: Vec<Uuid> = query.build_query_scalar().fetch_all(self.pool.read()).await?;
        Ok(seen.into_iter().map(UserId::from).collect())
    }
}

/// What is asked of a profile.
fn push_profile(query: &mut QueryBuilder<Db>, filter: &ProfileFilter) {
    let ProfileFilter { category, ages, gender, location, language, interests } = filter;
    if let Some(category) = category {
        // Said twice for the planner: the index holds only those who have one.
        query.push(" AND category <> '' AND category = ").push_bind(category.as_str().to_owned());
    }
    if let Some(latest) = ages.latest() {
        query.push(" AND date_of_birth <= ").push_bind(latest);
    }
    if let Some(after) = ages.after() {
        query.push(" AND date_of_birth > ").push_bind(after);
    }
    if gender.is_some() {
        query.push(" AND gender = ").push_bind(gender_number(*gender));
    }
    if let Some(part) = location {
        query.push(" AND (place_search LIKE ").push_bind(contains(part.as_str())).push(r" ESCAPE '\'");
        if let Some(country) = part.country() {
            query.push(" OR country = ").push_bind(country.to_owned());
        }
        query.push(")");
    }
    if let Some(language) = language {
        // A tag has nothing in it that means something in a pattern.
        let narrower = format!("{}-%", language.as_str());
        query.push(" AND language <> '' AND (language = ").push_bind(language.as_str().to_owned());
        query.push(" OR language LIKE ").push_bind(narrower).push(")");
    }
    if !interests.is_empty() {
        query.push(" AND user_id IN (SELECT i.user_id FROM user_interests i WHERE i.interest_id IN (");
        let mut list = query.separated(", ");
        for interest in interests {
            list.push_bind(interest.as_str().to_owned());
        }
        query.push("))");
    }
}

/// Whether the viewer finds a row of `users` by its address: its owner always, others when the address is verified, the
/// owner lets it be found, and neither blocks the other.
fn push_found_by_email(query: &mut QueryBuilder<Db>, viewer: UserId) {
    let viewer = viewer.uuid();
    query.push("(users.user_id = ").push_bind(viewer);
    query
        .push(
            " OR (users.email_verify_time IS NOT NULL AND users.found_by_email AND NOT EXISTS (
                 SELECT 1 FROM acquaintances a WHERE a.kind = 3 AND NOT a.ended
                 AND ((a.low_user_id = users.user_id AND a.high_user_id = ",
        )
        .push_bind(viewer)
        .push(") OR (a.high_user_id = users.user_id AND a.low_user_id = ")
        .push_bind(viewer)
        .push(")))))");
}

/// Whether the viewer sees the profile of a row of `users`. The one place that says so.
fn push_visible(query: &mut QueryBuilder<Db>, viewer: UserId) {
    let viewer = viewer.uuid();
    query.push("(users.visibility = 1 OR users.user_id = ").push_bind(viewer);
    query
        .push(
            " OR (users.visibility = 2 AND EXISTS (
                 SELECT 1 FROM acquaintances a WHERE a.kind = 1 AND NOT a.ended
                 AND ((a.low_user_id = users.user_id AND a.high_user_id = ",
        )
        .push_bind(viewer)
        .push(") OR (a.high_user_id = users.user_id AND a.low_user_id = ")
        .push_bind(viewer)
        .push("))))");
    query
        .push(
            " OR (users.visibility = 3 AND EXISTS (
                 SELECT 1 FROM visible_categories c JOIN users me ON me.category = c.category
                 WHERE c.user_id = users.user_id AND me.user_id = ",
        )
        .push_bind(viewer)
        .push(")))");
}
