//! Names and pictures of users, as every user may see them, cached for a few seconds.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use proto::auth::v1::{BatchGetUsersRequest, User};
use proto::id::UserId;

use super::backend::{Authority, Backend};
use crate::http::error::Problem;

/// The longest time for which a name may be outdated.
const KEPT: Duration = Duration::from_secs(10);

/// The maximum number of users that are cached.
const CAPACITY: u64 = 50_000;

/// The number of users in one request.
const BATCH: usize = 100;

/// Names and pictures of users.
#[derive(Clone)]
pub(crate) struct People {
    backend: Backend,
    known: Cache<UserId, Arc<User>>,
}

/// The users of one answer, by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named(HashMap<UserId, Arc<User>>);

impl People {
    pub(crate) fn new(backend: Backend) -> Self {
        let known = Cache::builder().max_capacity(CAPACITY).time_to_live(KEPT).build();
        Self { backend, known }
    }

    /// Returns the users with these ids. Invalid ids and unknown users are left out.
    pub(crate) async fn named(
        &self,
        ids: impl IntoIterator<Item = &str>,
        address: IpAddr,
    ) -> Result<Named, Problem> {
        let mut named = HashMap::new();
        let mut missing = Vec::new();
        for id in ids.into_iter().filter_map(|id| UserId::parse(id).ok()) {
            match self.known.get(&id) {
                Some(user) => drop(named.insert(id, user)),
                None => missing.push(id),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        for batch in missing.chunks(BATCH) {
            let request = BatchGetUsersRequest {
                user_ids: batch.iter().map(UserId::to_string).collect(),
                ..BatchGetUsersRequest::default()
            };
            let users = self.backend.call(Authority::Anonymous(address), request).await?.users;
            for user in users {
                let Ok(id) = UserId::parse(&user.user_id) else { continue };
                let user = Arc::new(user);
                self.known.insert(id, user.clone());
                named.insert(id, user);
            }
        }
        Ok(Named(named))
    }

    /// Forgets a user whose name or picture has changed.
    pub(crate) fn forget(&self, id: UserId) {
        self.known.invalidate(&id);
    }
}

impl Named {
    /// Returns the user with this id.
    pub(crate) fn get(&self, id: &str) -> Option<&User> {
        self.0.get(&UserId::parse(id).ok()?).map(Arc::as_ref)
    }

    /// Returns the display name of a user; empty for an unknown or deleted one.
    pub(crate) fn name(&self, id: &str) -> &str {
        self.get(id).map_or("", |user| &user.display_name)
    }

    /// Returns the address of a user's picture; empty when there is none.
    pub(crate) fn picture(&self, id: &str) -> &str {
        self.get(id).map_or("", |user| &user.picture_url)
    }
}
