//! What people can be interested in.

use sqlx::{FromRow, QueryBuilder};

use super::{Db, Store, contains};
use crate::error::Error;
use crate::interests::{Interest, InterestListing, InterestPage};
use crate::profile::InterestId;

impl Store {
    pub async fn list_interests(&self, listing: &InterestListing) -> Result<InterestPage, Error> {
        let mut query = QueryBuilder::<Db>::new(
            "SELECT position, interest_id, name, emoji FROM interests WHERE position > ",
        );
        query.push_bind(listing.after);
        if let Some(keyword) = &listing.keyword {
            query.push(" AND search LIKE ").push_bind(contains(keyword.as_str())).push(r" ESCAPE '\'");
        }
        // One more than asked for tells whether there are more.
        query.push(" ORDER BY position LIMIT ").push_bind(listing.limit + 1);
        let rows: Vec<InterestRow> = query.build_query_as().fetch_all(self.pool.read()).await?;
        let limit = usize::try_from(listing.limit).unwrap_or(0);
        let has_more = rows.len() > limit;
        Ok(InterestPage { interests: rows.into_iter().take(limit).map(Interest::from).collect(), has_more })
    }
}

#[derive(FromRow)]
struct InterestRow {
    position: i64,
    interest_id: String,
    name: String,
    emoji: String,
}

impl From<InterestRow> for Interest {
    fn from(InterestRow { position, interest_id, name, emoji }: InterestRow) -> Self {
        Self { position, id: InterestId::stored(&interest_id), name, emoji }
    }
}
