//! Users as others see them, and oneself.

use std::collections::HashMap;

use chassis::caller::Caller;
use chassis::clock::Clock;
use proto::id::UserId;

use crate::error::Error;
use crate::store::Store;
use crate::user::{Account, Changes, Listing, User, UserPage};

/// The use cases around users.
#[derive(Debug)]
pub struct Users {
    /// What is kept.
    pub store: Store,
    /// Tells the time.
    pub clock: Clock,
}

impl Users {
    /// The caller's own user.
    pub async fn own(&self, caller: &Caller) -> Result<User, Error> {
        let found = self.store.find_credentials(caller.user_id).await?;
        // Deleted since the session was verified.
        found.map(|found| found.user).ok_or(Error::Unauthenticated)
    }

    /// What an id stands for.
    pub async fn get(&self, id: UserId) -> Result<Account, Error> {
        self.store.find_accounts(&[id]).await?.pop().ok_or(Error::UserNotFound(id))
    }

    /// What these ids stand for, in their order. Ids that stand for nobody are left out.
    pub async fn get_all(&self, ids: &[UserId]) -> Result<Vec<Account>, Error> {
        let found = self.store.find_accounts(ids).await?;
        let by_id: HashMap<UserId, Account> =
            found.into_iter().map(|account| (account.id(), account)).collect();
        Ok(ids.iter().filter_map(|id| by_id.get(id).cloned()).collect())
    }

    /// Users by name.
    pub async fn list(&self, listing: &Listing) -> Result<UserPage, Error> {
        self.store.list_users(listing).await
    }

    /// What happened to users after a position of the outbox, oldest first, as it was written.
    pub async fn facts_after(&self, position: i64, limit: i64) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        self.store.facts_after(position, limit).await
    }

    /// Changes the caller's own user.
    pub async fn update(&self, caller: &Caller, changes: &Changes) -> Result<User, Error> {
        let changed = self.store.update_user(caller.user_id, changes, self.clock.now()).await?;
        changed.ok_or(Error::Unauthenticated)
    }
}
